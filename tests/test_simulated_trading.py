"""Trading on the simulated exchange: whatever goes wrong on the way, no fill counts twice or is missing unsaid."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shijim_live.broker.awaited_answers import ANSWER_NS_MAX
from shijim_live.broker.event_sequence import Gap, LateEvent, Restarted, event_id
from shijim_live.broker.order_events import Deal, OrderReport, Quarantined, Record
from shijim_live.broker.orders import (
    NO_PRICE_E6,
    Accepted,
    ComboRequest,
    FuturesRequest,
    Leg,
    Lot,
    OrderStatus,
    OutcomeUnknown,
    PriceKind,
    Refused,
    Side,
    StockRequest,
    TimeInForce,
    might_be,
)
from shijim_live.broker.plain import plain
from shijim_live.broker.shioaji_orders import ShioajiTrading
from shijim_live.broker.simulated import TAIWAN, SimulatedExchange
from shijim_live.broker.simulated_ledger import Fill, Ledger
from shijim_live.broker.simulated_order_faults import Fate, OrderFaults
from shijim_live.broker.simulated_trading import SimulatedOrders, simulated_trading
from shijim_live.broker.trading import AccountKind, HealthState
from shijim_live.calendar import MINUTE_NS, SECOND_NS
from shijim_live.instruments import instrument, tick_size_e6

DAY = date(2026, 11, 20)
REFERENCES = {"TXFL6": 27_300_000_000, "2330": 1_450_000_000, "0050": 62_000_000}
ALL = OrderFaults(repeated=150, lost=80, late=150, late_ns_max=8 * SECOND_NS, deal_first=300, malformed=60,
                  foreign=200, unknown=150, restarts=30, pending=300)  # fmt: skip


@cache
def exchange() -> SimulatedExchange:
    return SimulatedExchange(DAY, 7, replace(TAIWAN, target_events=30_000))


def begun(seed: int = 0, faults: OrderFaults | None = None) -> tuple[ShioajiTrading, SimulatedOrders]:
    """Both accounts, one minute into the day session of stocks."""
    client = SimulatedOrders(exchange(), seed=seed, faults=faults)
    client.advance(exchange().sessions[-1].open_ns + MINUTE_NS)
    return simulated_trading(client, Path(tempfile.mkdtemp()) / "orders.json"), client


def request(draw: random.Random) -> StockRequest | FuturesRequest:
    """Any order near the reference; some rest, some are filled at once, some are refused by the exchange."""
    code = draw.choice(tuple(REFERENCES))
    side, lasting = draw.choice(tuple(Side)), draw.choice(tuple(TimeInForce))
    near_e6 = REFERENCES[code]
    price_e6 = near_e6 + draw.randrange(-30, 31) * tick_size_e6(instrument(code), near_e6)
    price_e6 -= price_e6 % tick_size_e6(instrument(code), price_e6)
    if code == "TXFL6":
        return FuturesRequest(
            code=code, side=side, quantity=draw.randrange(1, 8), price_e6=price_e6, time_in_force=lasting
        )
    if draw.random() < 0.2:
        odd = Lot.INTRADAY_ODD
        return StockRequest(code=code, side=side, quantity=draw.randrange(1, 1_000), price_e6=price_e6, lot=odd)
    return StockRequest(code=code, side=side, quantity=draw.randrange(1, 60), price_e6=price_e6, time_in_force=lasting)


def traded(seed: int, faults: OrderFaults, orders: int = 12) -> tuple[ShioajiTrading, SimulatedOrders, list[Record]]:
    """A random day: orders placed either way, moved, made smaller and cancelled, drained now and then."""
    draw = random.Random(seed)
    trading, client = begun(seed, faults)
    records: list[Record] = []
    known: list[str] = []

    def answered(answer: Any) -> None:
        if isinstance(answer, Accepted):
            known.append(answer.ids.id)

    for _ in range(orders):
        asked = request(draw)
        if draw.random() < 0.3:
            trading.place_soon(asked, answered)
        else:
            answered(trading.place(asked))
        for _ in range(draw.randrange(1, 8)):
            client.advance(client.now_ns + draw.randrange(1, 3 * SECOND_NS))
            if draw.random() < 0.4:
                records += trading.events.drain()
        if known and draw.random() < 0.5:
            chosen = draw.choice(known)
            act = draw.choice(("cancel", "reduce", "move"))
            if act == "cancel":
                trading.cancel(chosen)
            elif act == "reduce":
                trading.reduce(chosen, 1)
            else:
                trading.move(chosen, request(draw).price_e6)
    client.advance(max(session.close_ns for session in exchange().sessions) + MINUTE_NS)
    records += trading.events.drain()
    client.advance(client.now_ns + MINUTE_NS)
    return trading, client, records + trading.events.drain()


Where = tuple[str, str, int]  # stream, reset, number


def missing_ids(records: list[Record]) -> set[Where]:
    """Every number of a gap told that nobody filled since."""
    gaps = [gap for gap in records if isinstance(gap, Gap)]
    numbers = {(gap.stream, gap.reset, number) for gap in gaps for number in range(gap.first, gap.last + 1)}
    return numbers - {(late.stream, late.reset, late.number) for late in records if isinstance(late, LateEvent)}


def place(id_: str) -> Where:
    found = event_id(id_)
    assert found is not None
    return found.stream, found.reset, found.number


SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=150)
@given(SEEDS)
def test_our_records_are_what_was_matched_less_exactly_what_was_told_to_be_missing(seed: int) -> None:
    _, client, records = traded(seed, ALL)
    told = [record for record in records if isinstance(record, Deal | OrderReport)]
    have = Counter(place(record.event_id) for record in told)
    assert not [id_ for id_, times in have.items() if times > 1], "twice"
    unread = {place(one.event_id) for one in records if isinstance(one, Quarantined) and one.event_id}
    gaps = missing_ids(records)
    newest: dict[tuple[str, str], int] = {}
    for *stream_and_reset, number in sorted([*have, *unread]):
        newest[tuple(stream_and_reset)] = number  # type: ignore[index]
    ended = {(one.stream, one.before) for one in records if isinstance(one, Restarted)}
    now = {place(emitted.event_id)[0]: place(emitted.event_id)[1] for emitted in client.emitted}
    for emitted in client.emitted:
        where = place(emitted.event_id)
        # The last of a stream are missing unsaid; where the stream began anew, it was said that they may be.
        last = where[2] > newest[where[:2]] and (where[:2] in ended or now[where[0]] == where[1])
        fits = [where in have, where in gaps, where in unread, last]
        assert sum(fits) == 1, (emitted, fits)
        if emitted.fate is Fate.DELIVERED:
            assert where in have
    sent = {place(emitted.event_id): emitted for emitted in client.emitted}
    assert all(sent[where].fate is not Fate.DELIVERED for where in gaps | unread), "a gap that is none"
    matched = fills_of(client)
    for deal in (record for record in told if isinstance(record, Deal)):
        assert matched[deal.trade_id, deal.exchange_seq] == (deal.code, deal.side, deal.price_e6, deal.quantity)


def fills_of(client: SimulatedOrders) -> dict[tuple[str, str], tuple[str, str, int, int]]:
    """What the matching itself reported, by order and sequence."""
    numbers = {order.number: order for order in client._orders.values()}
    filled = [report for report in client.reports if report.kind == "filled"]
    found = {}
    for sequence, report in enumerate(filled, 1):
        order = numbers[report.id]
        assert report.price_e6 is not None
        found[order.id, f"{sequence:08}"] = (order.code, order.side, report.price_e6, report.quantity)
    return found


@settings(max_examples=30)
@given(SEEDS)
def test_with_the_standing_orders_nothing_is_missing_at_all(seed: int) -> None:
    trading, client, records = traded(seed, ALL)
    known = {(deal.trade_id, deal.exchange_seq) for deal in records if isinstance(deal, Deal)}
    standing = {(order.ids.id, deal.seq) for order in trading.orders() for deal in order.deals}
    assert known <= standing
    assert known | standing == set(fills_of(client))


@settings(max_examples=30)
@given(SEEDS)
def test_what_the_broker_remembers_of_the_day_fills_every_gap_and_repeats_nothing(seed: int) -> None:
    trading, client, records = traded(seed, ALL)
    trading.recall_events()
    recalled = trading.events.drain()
    told = [place(record.event_id) for record in records + recalled if isinstance(record, Deal | OrderReport)]
    assert sorted(told) == sorted(place(emitted.event_id) for emitted in client.emitted)
    assert missing_ids(records + recalled) == set() and trading.events.sequence.missing() == []
    assert not [record for record in recalled if isinstance(record, Quarantined)]


@settings(max_examples=20)
@given(SEEDS)
def test_what_is_only_repeated_late_or_out_of_turn_is_whole(seed: int) -> None:
    faults = OrderFaults(repeated=300, late=300, late_ns_max=SECOND_NS, deal_first=500, foreign=200)
    trading, client, records = traded(seed, faults)
    assert {place(record.event_id) for record in records if isinstance(record, Deal | OrderReport)} == {
        place(emitted.event_id) for emitted in client.emitted
    }
    assert not [record for record in records if isinstance(record, Gap | LateEvent | Quarantined)], "all came in time"
    assert trading.events.counts.repeated > 0 or not client.emitted


def test_the_same_seed_is_the_same_day_and_another_is_another() -> None:
    first, again, other = (traded(seed, ALL)[2] for seed in (5, 5, 6))
    assert first == again != other


def test_every_fault_happens_and_a_deal_comes_before_its_order() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(20):
        trading, client, records = traded(seed, ALL)
        kinds.update(type(record).__name__ for record in records)
        kinds.update(emitted.fate for emitted in client.emitted)
        kinds["repeated"] += trading.events.counts.repeated
        kinds["foreign"] += sum(not emitted.ours for emitted in client.emitted)
        seen: set[str] = set()
        for record in records:
            if isinstance(record, OrderReport):
                seen.add(record.ids.id)
            kinds["deal first"] += isinstance(record, Deal) and record.trade_id not in seen
    wanted = {"Gap", "LateEvent", "Restarted", "Quarantined", "Deal", "OrderReport", "deal first"}
    wanted |= {"lost", "malformed", "repeated", "foreign"}
    assert all(kinds[name] > 0 for name in wanted), kinds


# One order


def test_an_order_lives_as_it_does_at_the_broker() -> None:
    trading, _ = begun()
    answer = trading.place(FuturesRequest(code="TXFL6", side=Side.SELL, quantity=5, price_e6=28_500_000_000))
    assert isinstance(answer, Accepted) and answer.status is OrderStatus.SUBMITTED
    id_ = answer.ids.id
    assert isinstance(trading.reduce(id_, 2), Accepted)
    assert isinstance(trading.move(id_, 28_400_000_000), Accepted)
    (standing,) = trading.orders()
    assert (standing.quantity, standing.cancelled, standing.modified_price_e6) == (5, 2, 28_400_000_000)
    cancelled = trading.cancel(id_)
    assert isinstance(cancelled, Accepted) and cancelled.status is OrderStatus.CANCELLED
    again = trading.cancel(id_)
    assert isinstance(again, Refused) and "not_working" in again.text
    reports = [record for record in trading.events.drain() if isinstance(record, OrderReport)]
    assert [(report.operation, report.done, report.cancelled) for report in reports] == [
        ("New", True, 0), ("UpdateQty", True, 2), ("UpdatePrice", True, 0), ("Cancel", True, 3), ("Cancel", False, 0),
    ]  # fmt: skip
    assert reports[2].modified_price_e6 == 28_400_000_000


def test_what_the_exchange_refuses_is_refused_with_its_word() -> None:
    trading, _ = begun()
    answer = trading.place(StockRequest(code="2330", side=Side.BUY, quantity=1, price_e6=1_700_000_000))
    assert answer == Refused("out_of_limits", "88")
    assert trading.place(StockRequest(code="2330", side=Side.BUY, quantity=1, price_e6=1, lot=Lot.COMMON)) != answer
    for lot in (Lot.ODD, Lot.FIXING, Lot.BLOCK):
        asked = StockRequest(code="2330", side=Side.BUY, quantity=1, price_e6=1_450_000_000, lot=lot)
        assert trading.place(asked) == Refused(f"no {lot} here", "88")
    legs = (Leg("TXFL6", Side.BUY), Leg("TXFA7", Side.SELL))
    assert isinstance(trading.place_combo(ComboRequest(legs=legs, quantity=1, price_e6=0)), Refused)


@pytest.mark.parametrize("seed", range(20))
def test_an_unknown_outcome_is_found_among_the_standing_orders_or_is_not_there(seed: int) -> None:
    trading, client = begun(seed, OrderFaults(unknown=1_000))
    asked = StockRequest(code="2330", side=Side.BUY, quantity=3, price_e6=1_400_000_000, custom_field=f"u{seed}")
    assert isinstance(trading.place(asked), OutcomeUnknown)
    client.advance(client.now_ns + SECOND_NS)
    found = [order for order in trading.orders() if might_be(asked, order)]
    told = [record.custom_field for record in trading.events.drain() if isinstance(record, OrderReport)]
    assert told == [order.custom_field for order in found]
    if found:
        client.faults = OrderFaults()
        assert isinstance(trading.cancel(found[0].ids.id), Accepted)


def test_an_answer_can_come_before_the_exchange_has_spoken_and_then_its_word_is_an_event() -> None:
    trading, client = begun(0, OrderFaults(pending=1_000))
    far = StockRequest(code="2330", side=Side.BUY, quantity=1, price_e6=1_700_000_000)
    answer = trading.place(far)
    assert isinstance(answer, Accepted) and answer.status is OrderStatus.PENDING_SUBMIT
    client.advance(client.now_ns + SECOND_NS)
    (report,) = trading.events.drain()
    assert isinstance(report, OrderReport) and report.ids == answer.ids
    assert not report.done and report.op_msg == "out_of_limits"
    assert trading.orders()[0].status is OrderStatus.FAILED


def test_an_order_not_waited_for_and_never_acknowledged_is_unknown_after_half_a_minute() -> None:
    trading, client = begun(1, OrderFaults(unknown=1_000))
    came: list[Any] = []
    for n in range(12):
        asked = StockRequest(code="2330", side=Side.BUY, quantity=1, price_e6=1_400_000_000, custom_field=f"n{n}")
        assert trading.place_soon(asked, came.append) is None
        client.advance(client.now_ns + SECOND_NS)
    client.advance(client.now_ns + ANSWER_NS_MAX - 12 * SECOND_NS - 1)
    trading.events.drain()
    assert came == []
    client.advance(client.now_ns + 1)
    trading.events.drain()
    assert [type(one) for one in came] == [OutcomeUnknown], "the first, and not the others yet"
    client.advance(client.now_ns + 11 * SECOND_NS)
    trading.events.drain()
    assert [type(one) for one in came] == 12 * [OutcomeUnknown] and 0 < len(trading.orders()) < 12
    client.advance(client.now_ns + MINUTE_NS)
    trading.events.drain()
    assert len(came) == 12, "each once"


def test_an_answer_in_time_is_the_only_one() -> None:
    trading, client = begun()
    came: list[Any] = []
    trading.place_soon(StockRequest(code="2330", side=Side.BUY, quantity=1, price_e6=1_400_000_000), came.append)
    client.advance(client.now_ns + 2 * ANSWER_NS_MAX)
    trading.events.drain()
    assert [type(one) for one in came] == [Accepted]


@pytest.mark.parametrize("seed", range(12))
def test_a_cancel_of_unknown_outcome_is_seen_in_the_standing_order(seed: int) -> None:
    trading, client = begun(seed)
    answer = trading.place(StockRequest(code="2330", side=Side.BUY, quantity=3, price_e6=1_400_000_000))
    assert isinstance(answer, Accepted)
    client.faults = OrderFaults(unknown=1_000)
    assert isinstance(trading.cancel(answer.ids.id), OutcomeUnknown)
    client.advance(client.now_ns + SECOND_NS)
    reports = [one for one in trading.events.drain() if isinstance(one, OrderReport) and one.operation == "Cancel"]
    (standing,) = trading.orders()
    assert standing.working == (not reports)


def test_unknown_outcomes_go_either_way() -> None:
    standing = set()
    for seed in range(20):
        trading, _ = begun(seed, OrderFaults(unknown=1_000))
        trading.place(StockRequest(code="2330", side=Side.BUY, quantity=3, price_e6=1_400_000_000))
        standing.add(len(trading.orders()))
    assert standing == {0, 1}


def test_a_market_order_of_a_future_has_no_price_anywhere() -> None:
    trading, client = begun()
    market = FuturesRequest(
        code="TXFL6", side=Side.BUY, quantity=1, price_kind=PriceKind.MARKET, time_in_force=TimeInForce.IOC
    )
    assert isinstance(trading.place(market), Accepted)
    client.advance(client.now_ns + SECOND_NS)
    report, deal = trading.events.drain()
    assert isinstance(report, OrderReport) and report.price_e6 == NO_PRICE_E6
    assert isinstance(deal, Deal) and deal.price_e6 > 0
    assert trading.orders()[0].price_e6 == NO_PRICE_E6


def test_health_says_what_the_sdks_cache_would_know() -> None:
    trading, client = begun(3, OrderFaults(lost=500))
    stock = trading.accounts()[0]
    assert trading.health(stock).state is HealthState.UNKNOWN
    for _ in range(12):
        trading.place(StockRequest(code="2330", side=Side.BUY, quantity=1, price_e6=1_590_000_000))
        client.advance(client.now_ns + SECOND_NS)
    assert trading.health(stock).state is HealthState.DEGRADED
    assert ("SORDER", "SequenceGap") in trading.health(stock).reasons


def test_the_budget_is_that_of_the_simulated_clock() -> None:
    trading, client = begun()
    answers = [trading.place_soon(request(random.Random(n)), lambda _: None) for n in range(260)]
    refused = [answer for answer in answers if isinstance(answer, Refused)]
    assert len(refused) == 60 and "too many orders" in refused[0].text
    client.advance(client.now_ns + 11 * SECOND_NS)
    assert isinstance(trading.place(request(random.Random(1))), Accepted | Refused)


# Accounts


def test_positions_and_money_follow_from_the_fills() -> None:
    trading, client = begun()
    bought = StockRequest(code="2330", side=Side.BUY, quantity=2, price_e6=1_590_000_000)
    trading.place(bought)
    trading.place(replace(bought, side=Side.SELL, quantity=1, price_e6=1_310_000_000))
    trading.place(FuturesRequest(code="TXFL6", side=Side.SELL, quantity=3, price_e6=24_600_000_000))
    client.advance(client.now_ns + SECOND_NS)  # a fill travels after its acceptance
    deals = [record for record in trading.events.drain() if isinstance(record, Deal)]
    stock, futures = trading.accounts()
    assert (stock.kind, futures.kind) == (AccountKind.STOCK, AccountKind.FUTURES)
    (held,) = trading.positions(stock)
    assert (held.code, held.direction, held.quantity) == ("2330", Side.BUY, 1_000)
    paid_e6 = sum(deal.price_e6 * deal.quantity * 1_000 for deal in deals if deal.code == "2330" and deal.side == "Buy")
    got_e6 = sum(deal.price_e6 * deal.quantity * 1_000 for deal in deals if deal.code == "2330" and deal.side == "Sell")
    costs_e6 = paid_e6 * 1_425 // 10**6 + got_e6 * (1_425 + 3_000) // 10**6
    assert trading.settlements(stock)[-1].amount_e6 == pytest.approx(got_e6 - paid_e6 - costs_e6, abs=2)
    (closed,) = trading.profit_and_loss(stock, DAY, DAY)
    assert closed.quantity == 1_000 and trading.profit_and_loss(stock, date(2026, 1, 1), date(2026, 1, 2)) == []
    (short,) = trading.positions(futures)
    assert (short.code, short.direction, short.quantity) == ("TXFL6", Side.SELL, 3)
    margin = trading.margin(futures)
    assert margin.equity_e6 == margin.today_balance_e6 + short.pnl_e6
    assert short.pnl_e6 == (short.price_e6 - short.last_price_e6) * 3 * 200
    assert margin.initial_margin_e6 == short.last_price_e6 * 3 * 200 * 8 // 100
    assert trading.limits(stock).trading_used_e6 == paid_e6 and trading.balance(stock).acc_balance_e6 == 10**13


fills = st.builds(
    Fill,
    code=st.sampled_from(("2330", "0050", "TXFL6")),
    units=st.integers(-5, 5).filter(bool),
    price_e6=st.integers(1, 40).map(lambda steps: steps * 5_000_000),
)


@given(st.lists(fills, max_size=40))
def test_what_was_gained_is_what_came_in_less_what_went_out_however_it_is_netted(day: list[Fill]) -> None:
    ledger = Ledger()
    for fill in day:
        ledger.take(fill)
    for code, value in (("2330", 1), ("0050", 1), ("TXFL6", 200)):
        of = [fill for fill in day if fill.code == code]
        units = sum(fill.units for fill in of)
        assert ledger.held[code].units == units
        last_e6 = 60_000_000
        realised_e6 = sum(one.pnl_e6 for one in ledger.closed if one.code == code)
        gained_e6 = units * last_e6 * value - sum(fill.units * fill.price_e6 for fill in of) * value
        assert realised_e6 + ledger.unrealised_e6(code, last_e6) == gained_e6
        parts = {part > 0 for part, _ in ledger.held[code].parts}
        assert len(parts) <= 1, "held both ways at once"


def test_the_answers_are_plain_through_and_through() -> None:
    trading, client = begun()
    trading.place(StockRequest(code="0050", side=Side.BUY, quantity=1, price_e6=68_000_000))
    for account in client.list_accounts():
        for answer in (client.margin(account), client.trading_limits(account), *client.list_positions(account)):
            assert type(plain(answer)) is dict and not isinstance(answer, dict)
