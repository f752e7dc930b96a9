"""The simulated day with Taiwan's rules and every fault: auctions, pauses, limits, odd lots, a feed that misbehaves."""

import hashlib
import threading
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shijim_live.broker.connection import Connection
from shijim_live.broker.simulated import (
    TAIWAN,
    Course,
    SimulatedExchange,
    SimulatedInstrument,
    SimulationConfig,
    sessions_of,
)
from shijim_live.broker.simulated_answers import price_limits
from shijim_live.calendar import MINUTE_NS, SECOND_NS, Market, session_bounds, to_exchange_ns
from shijim_live.instruments import expiry, instrument, tick_size_e6

DAY = date(2026, 11, 20)
CALM = replace(TAIWAN, target_events=150_000).without_faults()
OPENING, CLOSING, PAUSE = 0, 1, 2
DELIVERED, STALLED, MALFORMED = -1, -3, -4
UNSIGNED = {
    **dict.fromkeys(("session", "tick", "side", "kind", "spoil"), np.uint8),
    **dict.fromkeys(("volume", "shares", "bid_volume", "ask_volume"), np.uint32),
    "instrument": np.uint16,
    "fate": np.int32,
    "total_volume": np.uint64,
    "total_shares": np.uint64,
}
Columns = dict[str, NDArray[Any]]


def columns(table: Any) -> Columns:
    return {name: np.frombuffer(data, UNSIGNED.get(name, np.int64)).astype(np.int64) for name, data in table.items()}


def of_code(table: Columns, number: int) -> Columns:
    chosen = table["instrument"] == number
    return {name: column[chosen] for name, column in table.items()}


@dataclass(frozen=True, slots=True)
class Day:
    exchange: SimulatedExchange
    truth: Any

    def table(self, name: str, code: str | None = None) -> Columns:
        found = columns(self.truth[name])
        return found if code is None else of_code(found, self.exchange.codes.index(code))

    def delivered(self) -> list[tuple[Any, int]]:
        seen: list[tuple[Any, int]] = []
        self.exchange.run(lambda quote, ns: seen.append((quote, ns)), lambda *_: None, threading.Event())
        return seen


@cache
def day(seed: int = 7, config: SimulationConfig = CALM, on: date = DAY) -> Day:
    exchange = SimulatedExchange(on, seed, config)
    return Day(exchange, exchange.truth())


def feed_hash(exchange: SimulatedExchange) -> str:
    made, feed = hashlib.sha256(), exchange._start()
    for batch in iter(lambda: feed.next_batch(4_096), []):
        for kind, exchange_ns, received_ns, payload in batch:
            made.update(b"%d %d %d " % (kind, exchange_ns, received_ns))
            made.update(payload)
    return made.hexdigest()[:16]


@pytest.mark.parametrize(
    ("on", "seed", "config", "expected"),
    [
        (DAY, 1, SimulationConfig(), "2b4a534148207d41"),
        (date(2026, 4, 9), 20260409, SimulationConfig(), "e70fddff10a7c228"),
        (DAY, 7, TAIWAN, "301d3ed32edd283c"),
    ],
)
def test_a_seed_is_one_feed_for_ever(on: date, seed: int, config: SimulationConfig, expected: str) -> None:
    """Whoever changes the market on purpose changes these, and says so: recorded days and documents depend on them."""
    assert feed_hash(SimulatedExchange(on, seed, config)) == expected


def test_a_session_opens_with_the_print_its_trial_matches_came_to() -> None:
    seen, calls = day().delivered(), day().table("calls")
    trials: dict[str, list[Any]] = {}
    first: dict[str, Any] = {}
    for quote, _ in seen:
        if type(quote).__name__ == "TickSTKv1" and quote.datetime.hour == 8:
            trials.setdefault(quote.code, []).append(quote)
        elif type(quote).__name__ == "TickSTKv1" and not quote.simtrade:
            first.setdefault(quote.code, quote)
    opened = set(calls["instrument"][calls["kind"] == OPENING].tolist())
    assert {day().exchange.codes[number] for number in opened} >= set(first) and len(first) > 10
    for code, tick in first.items():
        shown = [trial.volume for trial in trials.get(code, [])]
        assert shown == sorted(shown), "what would match grows"
        assert (tick.datetime.hour, tick.datetime.minute, tick.datetime.second) == (9, 0, 0)
        assert tick.volume == tick.total_volume >= max(shown, default=1)
        assert tick.open == tick.close == tick.high == tick.low


def test_stocks_close_by_one_print_after_five_minutes_of_trial_matches() -> None:
    called_ns, close_ns = (day().exchange.sessions[-1].call_ns, day().exchange.sessions[-1].close_ns)
    assert close_ns - called_ns == 5 * MINUTE_NS
    during = [quote for quote, _ in day().delivered() if called_ns <= to_exchange_ns(quote.datetime) < close_ns]
    stocks = [quote for quote in during if type(quote).__name__.endswith("STKv1")]
    assert len(stocks) > 100 and all(quote.simtrade or quote.suspend for quote in stocks)
    assert not any(quote.simtrade for quote in during if type(quote).__name__.endswith("FOPv1"))
    calls = day().table("calls")
    closing = calls["kind"] == CLOSING
    assert closing.sum() > 10 and set(calls["end_ns"][closing]) == {close_ns}
    for number in set(calls["instrument"][closing]):
        last = of_code(day().table("trades"), int(number))
        assert last["exchange_ns"][-1] == close_ns and (last["exchange_ns"][:-1] < called_ns).all()


def test_total_volume_runs_through_every_auction_and_pause() -> None:
    trades = day().table("trades")
    for number in set(trades["instrument"].tolist()):
        for session in (0, 1, 2):
            one = of_code(trades, number)
            chosen = one["session"] == session
            assert (np.cumsum(one["volume"][chosen]) == one["total_volume"][chosen]).all()


def test_a_pause_takes_two_minutes_without_a_match_and_ends_in_one_print() -> None:
    calls = day().table("calls")
    pauses = [index for index, kind in enumerate(calls["kind"]) if kind == PAUSE]
    assert pauses
    for index in pauses:
        start_ns, end_ns = int(calls["start_ns"][index]), int(calls["end_ns"][index])
        trades = of_code(day().table("trades"), int(calls["instrument"][index]))
        at = trades["exchange_ns"]
        assert end_ns - start_ns == 2 * MINUTE_NS
        assert not ((at >= start_ns) & (at < end_ns)).any() and (at == end_ns).any()


def test_no_match_of_a_stock_is_too_far_from_its_five_minute_average() -> None:
    """But for auctions, and within two minutes of the closing call, where no pause fits any more."""
    checked = 0
    exchange, calls = day().exchange, day().table("calls")
    for number, code in enumerate(exchange.codes):
        if instrument(code).market is Market.FUTURES:
            continue
        trades = of_code(day().table("trades"), number)
        auctions = sorted(of_code(calls, number)["end_ns"].tolist())
        rows = list(zip(*(trades[name].tolist() for name in ("exchange_ns", "price_e6", "volume")), strict=True))
        for place, (ns, price_e6, _) in enumerate(rows):
            since = max([ns - 5 * MINUTE_NS, *(end for end in auctions if end <= ns)])
            window = [row for row in rows[max(0, place - 800) : place] if row[0] >= since]
            if ns in auctions or not window or ns + 2 * MINUTE_NS > exchange.sessions[-1].call_ns:
                continue
            lots = sum(row[2] for row in window)
            turnover_e6 = sum(row[1] * row[2] for row in window)
            assert abs(price_e6 * lots - turnover_e6) * 1_000 <= 35 * turnover_e6
            checked += 1
    assert checked > 5_000


@pytest.mark.parametrize(
    ("code", "change_type", "empty", "held"), [("2002", 1, "ask", "bid"), ("8069", 5, "bid", "ask")]
)
def test_at_a_limit_one_side_is_empty_and_the_change_type_says_so(
    code: str, change_type: int, empty: str, held: str
) -> None:
    reference_e6 = next(one.reference_price_e6 for one in CALM.instruments if one.code == code)
    limit_e6 = price_limits(instrument(code), reference_e6)[0 if change_type == 5 else 1]
    quotes = [quote for quote, _ in day().delivered() if quote.code == code]
    books = [quote for quote in quotes if hasattr(quote, "bid_price") and quote.datetime.hour >= 12]
    assert len(books) > 50
    for book in books:
        assert set(getattr(book, f"{empty}_price")) == {0} and set(getattr(book, f"{empty}_volume")) == {0}
        assert getattr(book, f"{held}_price")[0] in (0, limit_e6 / 1_000_000)
    ticks = [quote for quote in quotes if hasattr(quote, "close")]
    assert {tick.chg_type for tick in ticks if tick.close * 1_000_000 == limit_e6} == {change_type}
    assert {tick.chg_type for tick in ticks if tick.close * 1_000_000 != limit_e6}.isdisjoint({1, 5})
    assert ticks[-1].close * 1_000_000 == limit_e6


def test_the_futures_of_one_index_stand_within_a_tick_of_each_other() -> None:
    """Wherever all three pushed their book within a twentieth of a second: the index itself moves."""
    busy = day(7, replace(CALM, instruments=CALM.instruments[:3], jumps=0, target_events=300_000))
    tables = [busy.table("books", code) for code in busy.exchange.codes]
    tables = [{name: column[table["bid_price_e6"] > 0] for name, column in table.items()} for table in tables]
    compared = 0
    for ns, bid_e6 in zip(tables[0]["exchange_ns"], tables[0]["bid_price_e6"], strict=True):
        places = [np.searchsorted(table["exchange_ns"], ns, "right") - 1 for table in tables[1:]]
        near = [
            table
            for table, at in zip(tables[1:], places, strict=True)
            if 0 <= ns - table["exchange_ns"][at] < 5 * 10**7
        ]
        if len(near) < 2:
            continue
        others = [table["bid_price_e6"][at] for table, at in zip(tables[1:], places, strict=True)]
        assert max(*others, bid_e6) - min(*others, bid_e6) <= 1_000_000
        compared += 1
    assert compared > 100


def test_stocks_move_with_the_index_and_not_without_the_factor() -> None:
    def correlation(config: SimulationConfig) -> float:
        found = []
        for seed in range(6):
            trades = day(seed, config).table("trades")
            minutes = [day(seed, config).exchange.sessions[-1].open_ns + n * 5 * MINUTE_NS for n in range(52)]
            moves = []
            for code in ("TXFL6", "0050", "2303", "2317"):
                one = of_code(trades, day(seed, config).exchange.codes.index(code))
                places = np.searchsorted(one["exchange_ns"], minutes, "right") - 1
                moves.append(np.diff(np.log(one["price_e6"][places] / 1e6)))
            found += [np.corrcoef(moves[0], other)[0, 1] for other in moves[1:]]
        return float(np.mean(found))

    shared = replace(CALM, target_events=60_000, jumps=0, odd_lot_interval_ns=0)
    assert correlation(shared) > 0.2
    assert abs(correlation(replace(shared, volatility_ppm=0))) < 0.1


def test_most_is_traded_at_both_ends_of_a_session() -> None:
    trades = day().table("trades", "2330")
    session = day().exchange.sessions[-1]
    hours, _ = np.histogram(trades["exchange_ns"], np.linspace(session.open_ns, session.call_ns, 6))
    assert hours[0] > 1.3 * hours[2] < hours[4]


def test_a_suspended_code_says_so_and_an_untraded_one_has_books_only() -> None:
    quotes = day().delivered()
    suspended = [quote for quote, _ in quotes if quote.code == "6488"]
    assert suspended and all(quote.suspend and set(quote.bid_price) == {0} for quote in suspended)
    assert {type(quote).__name__ for quote, _ in quotes if quote.code == "5274"} == {"BidAskSTKv1"}
    assert not any(quote.suspend for quote, _ in quotes if quote.code != "6488" and hasattr(quote, "suspend"))


def test_odd_lots_are_auctioned_from_ten_past_nine_at_valid_prices_and_never_delivered() -> None:
    lane, session = day().table("odd_lots"), day().exchange.sessions[-1]
    at = lane["exchange_ns"]
    assert len(at) > 5_000 and at.min() >= session.open_ns + 10 * MINUTE_NS and at.max() <= session.close_ns
    assert not ((at - session.open_ns) % (5 * SECOND_NS)).any()
    assert ((lane["shares"] >= 1) & (lane["shares"] <= 999)).all()
    for number in set(lane["instrument"].tolist()):
        one, code = of_code(lane, number), day().exchange.codes[number]
        assert (np.cumsum(one["shares"]) == one["total_shares"]).all()
        assert all(price % tick_size_e6(instrument(code), price) == 0 for price in one["price_e6"].tolist())
    assert not any(quote.intraday_odd for quote, _ in day().delivered() if hasattr(quote, "intraday_odd"))


def test_a_future_stops_a_quarter_of_an_hour_early_on_its_last_day() -> None:
    last = expiry("TXFK6", DAY)
    config = replace(SimulationConfig(), instruments=(SimulatedInstrument("TXFK6", 27_300_000_000, 1, 12),), outages=0)
    close_ns = session_bounds(last, Market.FUTURES)[-1].close_ns
    for on, stops_ns in ((last, close_ns - 15 * MINUTE_NS), (last - timedelta(days=1), close_ns)):
        close_ns = session_bounds(on, Market.FUTURES)[-1].close_ns
        ends = day(1, replace(config, target_events=20_000), on).table("books")["exchange_ns"].max()
        assert 0 < (stops_ns if on == last else close_ns) - ends < MINUTE_NS


FAULTY = replace(
    TAIWAN, target_events=60_000, slows=2, stalls=2, reorders=80, malformed=60, repeats=60, lost_ticks=20, lost_books=20
)


def market_of(found: Day) -> list[tuple[int, ...]]:
    names = ("instrument", "exchange_ns", "price_e6", "total_volume")
    trades = found.table("trades")
    return sorted(zip(*(trades[name].tolist() for name in names), strict=True))


def test_the_market_is_the_same_whatever_the_faults() -> None:
    assert market_of(day(3, FAULTY)) == market_of(day(3, FAULTY.without_faults()))


def test_the_number_of_deliveries_is_the_one_of_the_truth() -> None:
    for config in (FAULTY, replace(FAULTY, clock_steps=1)):
        found = day(3, config)
        events: list[int] = []
        found.exchange.run(lambda *_: None, lambda _, ns, events=events: events.append(ns), threading.Event())
        assert len(found.delivered()) + len(events) == found.truth["deliveries"]


def test_a_stall_is_silence_without_an_event() -> None:
    found = day(3, FAULTY)
    received = np.array([ns for _, ns in found.delivered()])
    assert len(found.truth["stalls"]) == 2
    for start_ns, end_ns in found.truth["stalls"]:
        assert not ((received > start_ns) & (received < end_ns)).any()
    assert (found.table("trades")["fate"] == STALLED).any() and (found.table("books")["fate"] == STALLED).any()
    events: list[tuple[Connection, int]] = []
    found.exchange.run(lambda *_: None, lambda change, ns: events.append((change, ns)), threading.Event())
    assert len(events) == 2 * len(found.truth["outages"])


def test_a_slow_feed_falls_behind_and_catches_up_at_once() -> None:
    found = day(3, FAULTY)
    trades = found.table("trades")
    delays = trades["received_ns"] - trades["exchange_ns"]
    for start_ns, end_ns, caught_up_ns in found.truth["slows"]:
        behind = delays[(trades["received_ns"] > start_ns) & (trades["received_ns"] <= caught_up_ns + MINUTE_NS)]
        assert behind.max() > 0.9 * FAULTY.slow_ns * 0.9 and caught_up_ns - end_ns == FAULTY.slow_ns
    outside = np.ones(len(delays), bool)
    for start_ns, _, caught_up_ns in found.truth["slows"]:
        outside &= (trades["received_ns"] < start_ns) | (trades["received_ns"] > caught_up_ns + SECOND_NS)
    assert np.percentile(delays[outside], 99) < SECOND_NS


def test_late_messages_come_after_their_turn_and_are_named() -> None:
    found = day(3, FAULTY)
    late = found.table("late")
    assert len(late["tick"]) == FAULTY.reorders
    stamps = {ns: to_exchange_ns(quote.datetime) for quote, ns in readable(found)}
    overtaken = 0
    order = sorted(stamps)
    place = {ns: index for index, ns in enumerate(order)}
    for received_ns, exchange_ns in zip(late["received_ns"].tolist(), late["exchange_ns"].tolist(), strict=True):
        assert stamps[received_ns] == exchange_ns
        before = order[max(0, place[received_ns] - FAULTY.reorder_distance_max) : place[received_ns]]
        overtaken += any(stamps[ns] > exchange_ns for ns in before)
    assert overtaken > 0.7 * FAULTY.reorders


def readable(found: Day) -> list[tuple[Any, int]]:
    spoiled = set(found.table("malformed")["received_ns"].tolist())
    return [(quote, ns) for quote, ns in found.delivered() if ns not in spoiled]


def test_malformed_messages_reach_the_callback_and_mislead_or_panic_as_the_truth_says() -> None:
    found = day(3, FAULTY)
    how = dict(zip(*(found.table("malformed")[name].tolist() for name in ("received_ns", "spoil")), strict=True))
    assert len(how) == FAULTY.malformed and set(how.values()) == {0, 1, 2, 3}
    seen: Counter[int] = Counter()
    for quote, ns in found.delivered():
        if ns not in how:
            continue
        try:
            stamp = quote.datetime
        except BaseException as error:  # noqa: BLE001 - a PanicException is no Exception
            assert (how[ns], type(error).__name__) == (3, "PanicException")
            seen[3] += 1
            continue
        price = quote.close if hasattr(quote, "close") else quote.bid_price[0]
        symptoms = (stamp.year == 2000, (stamp.hour, stamp.minute, stamp.microsecond) == (0, 0, 0), price == 0)
        assert symptoms[how[ns]]
        seen[how[ns]] += 1
    assert seen == Counter(how.values())
    fates = Counter([*found.table("trades")["fate"].tolist(), *found.table("books")["fate"].tolist()])
    assert fates[MALFORMED] == FAULTY.malformed


def test_a_clock_step_shifts_every_later_stamp_and_nothing_else() -> None:
    steady, stepped = day(3, FAULTY), day(3, replace(FAULTY, clock_steps=2, clock_step_ns=-300 * SECOND_NS))
    before, after = steady.table("trades")["received_ns"], stepped.table("trades")["received_ns"]
    steps = [at_ns for at_ns, _ in stepped.truth["clock_steps"]]
    expected = before - 300 * SECOND_NS * sum((before >= at_ns).astype(np.int64) for at_ns in steps)
    assert len(steps) == 2 and (after == expected).all()
    stamps = [ns for _, ns in stepped.delivered()]
    assert sum(later < earlier for earlier, later in pairwise(stamps)) == 2


def test_resuming_after_a_clock_step_back_loses_nothing() -> None:
    found = day(3, replace(FAULTY, clock_steps=1, clock_step_ns=-30 * SECOND_NS))
    stamps = [ns for _, ns in found.delivered()]
    back = next(place for place, (earlier, later) in enumerate(pairwise(stamps)) if later < earlier)
    for place in (back - 500, back, back + 500):
        seen: list[int] = []
        found.exchange.run(lambda _, ns, seen=seen: seen.append(ns), lambda *_: None, threading.Event(), stamps[place])
        assert seen == stamps[len(stamps) - len(seen) :] and len(seen) >= len(stamps) - place - 1
        assert len(seen) == len(stamps) - place - 1 or place > back


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (replace(TAIWAN, auction_levels=0), "auction_levels"),
        (replace(TAIWAN, pause_per_mille=100), "pause_per_mille"),
        (replace(TAIWAN, volatility_ppm=60_000), "volatility_ppm"),
        (replace(TAIWAN, odd_lot_interval_ns=5), "odd_lot_interval_ns"),
        (replace(TAIWAN, stalls=1, stall_ns=10**14), "stalls of"),
        (replace(TAIWAN, slows=1, slow_ns=10**18), "slow stretches"),
        (replace(TAIWAN, clock_steps=1, clock_step_ns=10**13), "clock_step_ns"),
        (replace(TAIWAN, malformed=100_000), "5 %"),
        (
            replace(TAIWAN, instruments=(SimulatedInstrument("TXFR1", 27_300_000_000, 1, 1, Course.SUSPENDED),)),
            "no mark of suspension",
        ),
    ],
)
def test_rules_and_faults_that_cannot_be_are_refused_with_their_reason(config: SimulationConfig, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SimulatedExchange(DAY, 1, config)


def test_the_plain_day_has_no_call_and_ends_with_continuous_trading() -> None:
    assert all(session.call_ns == session.close_ns for session in sessions_of(DAY))
    assert not day(1, SimulationConfig(target_events=20_000)).truth["calls"]["kind"]
