"""Our own orders on the simulated day: whatever is sent, no lot is had twice, none too cheap, none out of turn."""

import random
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from rust_indicators import SimulatedReport
from shijim_live.broker.simulated import TAIWAN, SimulatedExchange
from shijim_live.broker.simulated_answers import price_limits
from shijim_live.calendar import MINUTE_NS, SECOND_NS, Market
from shijim_live.instruments import instrument, tick_size_e6

DAY = date(2026, 11, 20)
CONFIG = replace(TAIWAN, target_events=60_000)
CODES = ("TXFL6", "2330", "0050", "2002")
REFERENCES = {"TXFL6": 27_300_000_000, "2330": 1_450_000_000, "0050": 62_000_000, "2002": 25_000_000}
BUY, SELL = 1, 2


@dataclass(frozen=True, slots=True)
class Sent:
    """One order as it was sent."""

    code: str
    side: str
    price_e6: int | None
    quantity: int
    time_in_force: str
    sent_ns: int
    lane: str = "board"


@cache
def exchange(seed: int = 7) -> SimulatedExchange:
    return SimulatedExchange(DAY, seed, CONFIG)


@cache
def truth_of(code: str, seed: int = 7) -> dict[str, dict[str, Any]]:
    """Trades and books of one code, in exchange order."""
    found, number = exchange(seed).truth(), exchange(seed).codes.index(code)
    kinds = {"instrument": np.uint16, "volume": np.uint32, "side": np.uint8, "bid_volume": np.uint32}
    kinds |= {"ask_volume": np.uint32, "session": np.uint8, "fate": np.int32, "total_volume": np.uint64}
    tables: dict[str, dict[str, Any]] = {}
    for name in ("trades", "books"):
        columns = {key: np.frombuffer(data, kinds.get(key, np.int64)) for key, data in found[name].items()}  # type: ignore[literal-required]
        chosen = columns["instrument"] == number
        tables[name] = {key: column[chosen].astype(np.int64) for key, column in columns.items()}
    return tables


def random_orders(seed: int, count: int = 400) -> list[Sent]:
    """Orders of every kind, most near the touch, all over the day; some cannot be."""
    draw, sessions = random.Random(seed), exchange().sessions
    orders = []
    for _ in range(count):
        code = draw.choice(CODES)
        of = instrument(code)
        session = draw.choice([session for session in sessions if session.market is of.market])
        sent_ns = draw.randrange(session.trial_ns, session.close_ns + MINUTE_NS)
        books = truth_of(code)["books"]
        place = int(np.searchsorted(books["exchange_ns"], sent_ns)) - 1
        near_e6 = int(books["bid_price_e6"][place]) if place >= 0 else 0
        near_e6 = near_e6 or REFERENCES[code]
        price_e6: int | None = near_e6 + draw.choice((-3, -1, 0, 0, 0, 1, 1, 2, 6)) * tick_size_e6(of, near_e6)
        if draw.random() < 0.1:
            price_e6 = None
        quantity = draw.choice((1, 1, 2, 5, 20, 60, 300))
        lane = "odd" if draw.random() < 0.1 else "board"
        tif = draw.choice(("ROD", "ROD", "ROD", "IOC", "FOK"))
        orders.append(Sent(code, draw.choice(("buy", "sell")), price_e6, quantity, tif, sent_ns, lane))
    return sorted(orders, key=lambda order: order.sent_ns)


def play(orders: list[Sent], seed: int, step_ns: int | None = None) -> list[SimulatedReport]:
    """Everything said of them; a tenth is cancelled later, a tenth made smaller, a tenth moved."""
    draw, matching = random.Random(seed), exchange().matching()
    acts: list[tuple[int, int, str]] = []
    for number, order in enumerate(orders):
        acts.append((order.sent_ns, number, "place"))
        act = draw.choice(("cancel", "less", "move", *[""] * 7))
        if act:
            acts.append((order.sent_ns + draw.randrange(1, 600) * SECOND_NS, number, act))
    said: list[SimulatedReport] = []
    now_ns = 0
    for at_ns, number, act in sorted(acts):
        while step_ns is not None and now_ns + step_ns < at_ns:
            now_ns = max(now_ns + step_ns, at_ns - 3 * step_ns)
            said += matching.advance(now_ns)
        order = orders[number]
        if act == "place":
            terms = (order.code, order.side, order.price_e6, order.quantity, order.time_in_force, order.sent_ns)
            assert matching.place(*terms, lane=order.lane) == number
        elif act == "cancel":
            matching.cancel(number, at_ns)
        elif act == "less":
            matching.update(number, at_ns, quantity=max(1, order.quantity // 2))
        else:
            price_e6 = order.price_e6 or REFERENCES[order.code]
            moved_e6 = price_e6 + draw.choice((-1, 1)) * tick_size_e6(instrument(order.code), price_e6)
            matching.update(number, at_ns, price_e6=moved_e6)
    last_ns = max(session.close_ns for session in exchange().sessions) + 60 * MINUTE_NS
    return said + matching.advance(last_ns)


@cache
def played(seed: int) -> tuple[list[Sent], dict[int, list[SimulatedReport]]]:
    orders = random_orders(seed)
    by_order: defaultdict[int, list[SimulatedReport]] = defaultdict(list)
    for report in play(orders, seed):
        by_order[report.id].append(report)
    return orders, by_order


SEEDS = pytest.mark.parametrize("seed", range(6))


@SEEDS
def test_every_lot_of_an_order_is_filled_cancelled_or_taken_back_once(seed: int) -> None:
    orders, by_order = played(seed)
    kinds = set()
    for number, order in enumerate(orders):
        said = by_order[number]
        kinds |= {report.kind for report in said} | {report.reason for report in said}
        if said[0].kind == "rejected":
            assert all(report.kind == "rejected" and report.left == 0 for report in said)
            continue
        assert said[0].kind == "accepted"
        working = in_all = order.quantity
        for report in said[1:]:
            if report.kind in ("filled", "cancelled"):
                assert 0 < report.quantity <= working
                working -= report.quantity
            elif report.kind == "updated":
                assert report.quantity <= in_all
                working, in_all = working - (in_all - report.quantity), report.quantity
            assert report.left == working
        assert working == 0, "the session ends every order"
    assert kinds >= {"accepted", "filled", "cancelled", "updated", "rejected", "not_working", "wrong_terms"}


@SEEDS
def test_no_fill_is_beyond_the_limit_or_better_than_anybody_offered(seed: int) -> None:
    orders, by_order = played(seed)
    at_once = 0
    for number, order in enumerate(orders):
        price_e6, arrived_ns = order.price_e6, by_order[number][0].exchange_ns
        low_e6, high_e6 = price_limits(instrument(order.code), REFERENCES[order.code])
        books = truth_of(order.code)["books"]
        for report in by_order[number]:
            if report.kind == "updated":
                price_e6 = report.price_e6
            if report.kind != "filled":
                continue
            assert report.price_e6 is not None and low_e6 <= report.price_e6 <= high_e6
            if price_e6 is not None:
                assert report.price_e6 <= price_e6 if order.side == "buy" else report.price_e6 >= price_e6
            if report.exchange_ns == arrived_ns:
                place = int(np.searchsorted(books["exchange_ns"], arrived_ns, "right")) - 1
                column = "ask_price_e6" if order.side == "buy" else "bid_price_e6"
                best_e6 = int(books[column][place])
                assert report.price_e6 >= best_e6 if order.side == "buy" else report.price_e6 <= best_e6
                at_once += 1
    assert at_once > 20


@SEEDS
def test_what_rested_has_no_more_of_a_match_than_the_match_had(seed: int) -> None:
    """And only of a match against it, at its price or beyond; the rest are books that came to our price."""
    orders, by_order = played(seed)
    flows: defaultdict[tuple[str, int, str], int] = defaultdict(int)
    for number, order in enumerate(orders):
        for report in by_order[number]:
            own = {said.exchange_ns for said in by_order[number] if said.kind in ("accepted", "updated")}
            if report.kind == "filled" and report.exchange_ns not in own and order.lane == "board":
                flows[order.code, report.exchange_ns, order.side] += report.quantity
    of_matches, auctions = 0, set(np.frombuffer(exchange().truth()["calls"]["end_ns"], np.int64).tolist())
    for (code, ns, side), filled in flows.items():
        trades, books = truth_of(code)["trades"], truth_of(code)["books"]
        if (books["exchange_ns"] == ns).any():
            continue
        here = trades["exchange_ns"] == ns
        assert here.any(), "a fill out of nothing"
        assert filled <= trades["volume"][here].sum()
        if ns not in auctions:
            assert (SELL if side == "buy" else BUY) in trades["side"][here]
        of_matches += 1
    assert of_matches > 5


def test_at_one_price_the_earlier_order_is_served_before_the_later() -> None:
    matching, session = exchange().matching(), exchange().sessions[1]
    books = truth_of("TXFL6")["books"]
    pairs = []
    for minute in range(5, 280, 5):
        sent_ns = session.open_ns + minute * MINUTE_NS
        place = int(np.searchsorted(books["exchange_ns"], sent_ns)) - 1
        bid_e6 = int(books["bid_price_e6"][place])
        if bid_e6 == 0:
            continue
        pairs.append(tuple(matching.place("TXFL6", "buy", bid_e6, 3, "ROD", sent_ns + n * SECOND_NS) for n in (0, 1)))
    filled: defaultdict[int, list[SimulatedReport]] = defaultdict(list)
    for report in matching.advance(session.close_ns + MINUTE_NS):
        if report.kind == "filled":
            filled[report.id].append(report)
    served = 0
    for earlier, later in pairs:
        if filled[later]:
            assert sum(report.quantity for report in filled[earlier]) == 3
            assert filled[earlier][-1].exchange_ns <= filled[later][0].exchange_ns
            served += 1
    assert served > 20


@SEEDS
def test_immediate_means_at_once_and_all_or_none_means_it(seed: int) -> None:
    orders, by_order = played(seed)
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for number, order in enumerate(orders):
        said = by_order[number]
        if order.time_in_force == "ROD" or said[0].kind == "rejected":
            continue
        said = [report for report in said if report.kind != "rejected"]
        assert {report.exchange_ns for report in said} == {said[0].exchange_ns}
        filled = sum(report.quantity for report in said if report.kind == "filled")
        if order.time_in_force == "FOK":
            assert filled in (0, order.quantity)
        seen[order.time_in_force].add("all" if filled == order.quantity else "some" if filled else "none")
    assert seen["FOK"] == {"all", "none"} and seen["IOC"] >= {"all", "none"}


@SEEDS
def test_the_same_orders_meet_the_same_fate_however_the_day_is_cut(seed: int) -> None:
    orders = random_orders(seed, 120)
    whole = play(orders, seed)
    assert whole == play(orders, seed)
    in_steps = play(orders, seed, step_ns=7 * SECOND_NS)
    assert in_steps == whole
    assert all(earlier.received_ns <= later.received_ns for earlier, later in pairwise(in_steps))


def test_another_seed_is_another_fate_and_orders_travel_both_ways() -> None:
    orders = random_orders(1, 100)
    said = play(orders, 1)
    accepted = [report for report in said if report.kind == "accepted"]
    out = sorted(report.exchange_ns - orders[report.id].sent_ns for report in accepted)
    back = sorted(report.received_ns - report.exchange_ns for report in said)
    assert out[0] > 0 and back[0] > 0
    assert 3_000_000 < out[len(out) // 2] < 8_000_000 and 3_000_000 < back[len(back) // 2] < 8_000_000
    assert len(set(out)) > 50


def test_orders_in_the_calls_are_filled_by_their_prints() -> None:
    """At any price, for one lot: the opening, the closing, and whoever sells into a limit-up code's last call."""
    matching = exchange().matching()
    stocks = exchange().sessions[-1]
    opening = matching.place("2330", "buy", None, 1, "ROD", stocks.open_ns - 10 * MINUTE_NS)
    closing = [
        matching.place(code, side, None, 1, "ROD", stocks.call_ns + MINUTE_NS)
        for code, side in (("2330", "sell"), ("0050", "buy"), ("2002", "sell"), ("2002", "buy"))
    ]
    said = {report.id: report for report in matching.advance(stocks.close_ns + MINUTE_NS)}
    for number, ns, code in (
        (opening, stocks.open_ns, "2330"),
        *((n, stocks.close_ns, c) for n, c in zip(closing[:3], ("2330", "0050", "2002"), strict=True)),
    ):
        trades = truth_of(code)["trades"]
        (price_e6,) = set(trades["price_e6"][trades["exchange_ns"] == ns])
        assert (said[number].kind, said[number].exchange_ns, said[number].price_e6) == ("filled", ns, price_e6)
    assert said[closing[3]].kind == "cancelled", "at limit up buyers are left over"


def test_an_odd_lot_is_filled_by_an_auction_of_its_lane_and_by_nothing_before_it() -> None:
    matching, stocks = exchange().matching(), exchange().sessions[-1]
    number = matching.place("2330", "buy", 1_595_000_000, 10, "ROD", stocks.open_ns + MINUTE_NS, lane="odd")
    said = [report for report in matching.advance(stocks.close_ns) if report.id == number]
    assert [report.kind for report in said[:2]] == ["accepted", "filled"]
    assert said[1].exchange_ns >= stocks.open_ns + 10 * MINUTE_NS
    assert (said[1].exchange_ns - stocks.open_ns) % (5 * SECOND_NS) == 0
    assert sum(report.quantity for report in said if report.kind == "filled") == 10


@pytest.mark.parametrize(
    ("code", "price_e6", "quantity", "lane", "reason"),
    [
        ("2330", 1_451_000_000, 1, "board", "off_tick"),
        ("2330", 1_600_000_000, 1, "board", "out_of_limits"),
        ("2330", 1_450_000_000, 500, "board", "wrong_quantity"),
        ("2330", 1_450_000_000, 1_000, "odd", "wrong_lane"),
        ("TXFL6", 27_300_000_000, 1, "odd", "wrong_lane"),
        ("TXFL6", None, 1, "board", "wrong_terms"),
        ("6488", 380_000_000, 1, "board", "suspended"),
    ],
)
def test_an_order_that_cannot_be_is_rejected_with_its_reason(
    code: str, price_e6: int | None, quantity: int, lane: str, reason: str
) -> None:
    matching, stocks = exchange().matching(), exchange().sessions[-1]
    matching.place(code, "buy", price_e6, quantity, "ROD", stocks.open_ns + MINUTE_NS, lane=lane)
    (report,) = matching.advance(stocks.open_ns + 2 * MINUTE_NS)
    assert (report.kind, report.reason, report.left) == ("rejected", reason, 0)


def test_a_call_that_makes_no_sense_is_an_error_that_says_so() -> None:
    matching, open_ns = exchange().matching(), exchange().sessions[-1].open_ns
    for arguments, said in (
        (("9999", "buy", 1, 1, "ROD", open_ns), "does not trade"),
        (("2330", "hold", 1, 1, "ROD", open_ns), "buy, sell"),
        (("2330", "buy", 1, 1, "GTC", open_ns), "ROD, IOC, FOK"),
    ):
        with pytest.raises(ValueError, match=said):
            matching.place(*arguments)
    with pytest.raises(ValueError, match="never placed"):
        matching.cancel(0, open_ns)
    matching.place("2330", "buy", 1_450_000_000, 1, "ROD", open_ns)
    with pytest.raises(ValueError, match="a price or a quantity"):
        matching.update(0, open_ns)
    matching.advance(open_ns + SECOND_NS)
    with pytest.raises(ValueError, match="before what has happened"):
        matching.cancel(0, open_ns)
    with pytest.raises(ValueError, match="stands at"):
        matching.advance(open_ns)


def test_the_day_does_not_depend_on_our_orders() -> None:
    fresh = SimulatedExchange(DAY, 7, CONFIG)
    before = fresh.truth()
    matching = fresh.matching()
    matching.place("2330", "buy", None, 400, "IOC", fresh.sessions[-1].open_ns + MINUTE_NS)
    assert any(report.kind == "filled" for report in matching.advance(fresh.sessions[-1].close_ns))
    assert fresh.truth() == before
    assert fresh.sessions[-1].market is Market.STOCK
