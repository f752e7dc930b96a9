"""The simulated exchange, read through the broker's own classes and compared with its answer key."""

import itertools
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rust_indicators import SimulatedDay
from shijim_live.broker.connection import Connection
from shijim_live.broker.simulated import (
    INSTRUMENTS,
    SimulatedExchange,
    SimulatedInstrument,
    SimulationConfig,
    dated_code,
    sessions_of,
)
from shijim_live.calendar import Market, NotATradingDay, in_session, to_exchange_ns, trading_day
from shijim_live.instruments import UnknownInstrument, instrument

DAY = date(2026, 11, 20)
SMALL = SimulationConfig(target_events=30_000, outages=3, lost_ticks=20, lost_books=20, repeats=60)
MORNING = datetime(2026, 11, 20, 8)  # noqa: DTZ001 - Taipei wall clock; the night session is before it
DELIVERED, LOST = -1, -2
TYPES = {
    "instrument": np.uint16,
    "session": np.uint8,
    "fate": np.int32,
    "volume": np.uint32,
    "bid_volume": np.uint32,
    "ask_volume": np.uint32,
    "total_volume": np.uint64,
    "tick": np.uint8,
    "side": np.uint8,
}


@dataclass(frozen=True, slots=True)
class Played:
    """Everything one run handed over."""

    quotes: list[tuple[Any, int]]
    connections: list[tuple[Connection, int]]


def played(exchange: SimulatedExchange, resume_after_ns: int | None = None) -> Played:
    seen = Played([], [])
    exchange.run(
        lambda quote, received_ns: seen.quotes.append((quote, received_ns)),
        lambda connection, received_ns: seen.connections.append((connection, received_ns)),
        threading.Event(),
        resume_after_ns,
    )
    return seen


def columns(table: Any) -> dict[str, list[int]]:
    return {name: np.frombuffer(data, TYPES.get(name, np.int64)).tolist() for name, data in table.items()}


def rows(table: Any) -> list[dict[str, int]]:
    found = columns(table)
    return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]


def e6(price: Decimal) -> int:
    scaled = price * 1_000_000
    assert scaled == int(scaled), "more than six decimals"
    return int(scaled)


def is_tick(quote: Any) -> bool:
    return type(quote).__name__.startswith("Tick")


def first_deliveries(exchange: SimulatedExchange, seen: Played) -> list[tuple[Any, int]]:
    again = set(columns(exchange.truth()["repeats"])["received_ns"])
    return [(quote, received_ns) for quote, received_ns in seen.quotes if received_ns not in again]


@pytest.fixture(scope="module")
def exchange() -> SimulatedExchange:
    return SimulatedExchange(DAY, 7, SMALL)


@pytest.fixture(scope="module")
def seen(exchange: SimulatedExchange) -> Played:
    return played(exchange)


def payloads(exchange: SimulatedExchange) -> list[tuple[int, int, int, bytes]]:
    day: SimulatedDay = exchange._start()
    return [delivery for batch in iter(lambda: day.next_batch(1_000), []) for delivery in batch]


def test_same_seed_same_bytes_another_seed_or_day_others() -> None:
    first = payloads(SimulatedExchange(DAY, 1, SMALL))
    assert first == payloads(SimulatedExchange(DAY, 1, SMALL))
    assert first != payloads(SimulatedExchange(DAY, 2, SMALL))
    assert first != payloads(SimulatedExchange(date(2026, 11, 19), 1, SMALL))


def test_another_day_of_the_same_seed_is_another_market() -> None:
    prices = [
        columns(SimulatedExchange(day, 1, SMALL).truth()["trades"])["price_e6"] for day in (DAY, date(2026, 11, 19))
    ]
    assert prices[0] != prices[1]


def test_batches_of_any_size_make_the_same_day(exchange: SimulatedExchange) -> None:
    day = exchange._start()
    pieces = [delivery for batch in iter(lambda: day.next_batch(7), []) for delivery in batch]
    assert pieces == payloads(exchange)


def test_the_default_day_has_about_300_000_events_three_fifths_of_them_books() -> None:
    truth = SimulatedExchange(DAY, 20260409).truth()
    books, trades = len(truth["books"]["fate"]) // 4, len(truth["trades"]["fate"]) // 4
    assert 285_000 <= books + trades + sum(truth["trials"]) <= 315_000
    assert 0.58 <= books / (books + trades) <= 0.66
    assert len(truth["outages"]) == 1 and truth["repeats"]["tick"]


def test_every_delivered_trade_decodes_to_the_truth(exchange: SimulatedExchange, seen: Played) -> None:
    truth = exchange.truth()
    expected = [
        (truth["codes"][row["instrument"]], row["exchange_ns"], row["received_ns"], row["price_e6"], row["volume"],
         row["total_volume"])
        for row in rows(truth["trades"])
        if row["fate"] == DELIVERED
    ]  # fmt: skip
    found = [
        (tick.code, to_exchange_ns(tick.datetime), received_ns, e6(tick.close), tick.volume, tick.total_volume)
        for tick, received_ns in first_deliveries(exchange, seen)
        if is_tick(tick) and not tick.simtrade
    ]
    assert found == expected and len(found) > 10_000


def test_every_delivered_book_decodes_to_the_truth(exchange: SimulatedExchange, seen: Played) -> None:
    truth = exchange.truth()
    expected = [
        (truth["codes"][row["instrument"]], row["exchange_ns"], row["bid_price_e6"], row["bid_volume"],
         row["ask_price_e6"], row["ask_volume"])
        for row in rows(truth["books"])
        if row["fate"] == DELIVERED
    ]  # fmt: skip
    found = [
        (book.code, to_exchange_ns(book.datetime), e6(book.bid_price[0]), book.bid_volume[0], e6(book.ask_price[0]),
         book.ask_volume[0])
        for book, _ in first_deliveries(exchange, seen)
        if not is_tick(book) and not book.simtrade
    ]  # fmt: skip
    assert found == expected and len(found) > 15_000


def test_every_other_field_of_a_tick_agrees_with_its_price_and_volume(
    exchange: SimulatedExchange, seen: Played
) -> None:
    reference = {
        code: Decimal(traded.reference_price_e6) / 1_000_000
        for code, traded in zip(exchange.codes, exchange.config.instruments, strict=True)
    }
    for tick, _ in seen.quotes:
        if not is_tick(tick) or tick.simtrade:
            continue
        stock = type(tick).__name__ == "TickSTKv1"
        change = tick.close - reference[tick.code]
        assert tick.price_chg == change
        places = 2 if stock else 6
        assert abs(tick.pct_chg - change * 100 / reference[tick.code]) <= Decimal(6) / 10 ** (places + 1)
        assert tick.amount == tick.close * tick.volume * (1_000 if stock else 1)
        shares = tick.total_volume * (1_000 if stock else 1)
        assert abs(tick.avg_price - tick.total_amount / shares) <= Decimal("0.0000005")
        assert tick.low <= min(tick.close, tick.open, tick.avg_price)
        assert tick.high >= max(tick.close, tick.open, tick.avg_price)
        assert tick.bid_side_total_vol + tick.ask_side_total_vol == tick.total_volume
        assert tick.tick_type in (1, 2)
        at_limit = tick.chg_type in (1, 5)
        assert at_limit or tick.chg_type == 3 + (change < 0) - (change > 0)


def test_every_attribute_of_every_object_can_be_read(seen: Played) -> None:
    for quote, _ in seen.quotes:
        fields = quote.to_dict()
        assert fields["datetime"].year == 2026  # 2000 is what the SDK makes of a date it cannot read
        if not is_tick(quote):
            assert len(fields["bid_price"]) == len(fields["ask_volume"]) == len(fields["diff_ask_vol"]) == 5


def test_total_volume_breaks_exactly_where_the_truth_says(exchange: SimulatedExchange, seen: Played) -> None:
    truth = exchange.truth()
    missing: defaultdict[tuple[int, int], int] = defaultdict(int)
    expected: list[int] = []
    for row in rows(truth["trades"]):
        stream = row["instrument"], row["session"]
        if row["fate"] == DELIVERED:
            expected.append(missing.pop(stream, 0))
        else:
            missing[stream] += row["volume"]
    totals: defaultdict[tuple[str, bool], int] = defaultdict(int)
    found: list[int] = []
    for tick, _ in first_deliveries(exchange, seen):
        if is_tick(tick) and not tick.simtrade:
            stream_name = tick.code, tick.datetime < MORNING
            found.append(tick.total_volume - totals[stream_name] - tick.volume)
            totals[stream_name] = tick.total_volume
    assert found == expected
    lost = sum(row["volume"] for row in rows(truth["trades"]) if row["fate"] != DELIVERED)
    assert sum(found) + sum(missing.values()) == lost > 0
    assert sum(row["fate"] == LOST for row in rows(truth["trades"])) == SMALL.lost_ticks
    assert sum(row["fate"] == LOST for row in rows(truth["books"])) == SMALL.lost_books


def test_trades_happen_inside_the_published_book_and_books_are_not_crossed(exchange: SimulatedExchange) -> None:
    truth = exchange.truth()
    books = [(row["instrument"], row["received_ns"], 0, row) for row in rows(truth["books"])]
    trades = [(row["instrument"], row["received_ns"], 1, row) for row in rows(truth["trades"])]
    book: dict[int, dict[str, int]] = {}
    for code, _, traded, row in sorted(books + trades, key=lambda item: item[:3]):
        if traded:
            touch = (book[code]["bid_price_e6"], book[code]["ask_price_e6"])
            assert row["price_e6"] in touch
        else:
            bid, ask = row["bid_price_e6"], row["ask_price_e6"]
            assert bid == 0 or ask == 0 or bid < ask
            book[code] = row


def test_repeats_carry_the_same_bytes_within_the_stated_distance(exchange: SimulatedExchange) -> None:
    delivered = payloads(exchange)
    place = {received_ns: index for index, (_, _, received_ns, _) in enumerate(delivered)}
    repeats = rows(exchange.truth()["repeats"])
    assert len(repeats) == SMALL.repeats and {row["tick"] for row in repeats} == {0, 1}
    for row in repeats:
        first, again = place[row["first_received_ns"]], place[row["received_ns"]]
        assert delivered[first][3] == delivered[again][3]
        # Other repeats that fall in between add to the distance.
        assert 1 <= again - first <= SMALL.repeat_distance_max + 3


def test_nothing_arrives_during_an_outage_and_it_lasts_as_long_as_asked(
    exchange: SimulatedExchange, seen: Played
) -> None:
    truth = exchange.truth()
    ends = [pair for outage in truth["outages"] for pair in zip((Connection.DOWN, Connection.UP), outage, strict=True)]
    assert seen.connections == ends and len(ends) == 6
    received = np.array([received_ns for _, received_ns in seen.quotes])
    for index, (down_ns, up_ns) in enumerate(truth["outages"]):
        assert abs(up_ns - down_ns - SMALL.outage_ns) < 1_000_000
        assert not ((received >= down_ns) & (received <= up_ns)).any()
        assert index in columns(truth["trades"])["fate"] + columns(truth["books"])["fate"]


def test_resuming_gives_the_tail_of_the_uninterrupted_day(exchange: SimulatedExchange, seen: Played) -> None:
    for place in (0, len(seen.quotes) // 2, len(seen.quotes) - 1):
        _, resume_after_ns = seen.quotes[place]
        tail = played(exchange, resume_after_ns)
        assert [(quote.to_dict(), at) for quote, at in tail.quotes] == [
            (quote.to_dict(), at) for quote, at in seen.quotes[place + 1 :]
        ]
        assert tail.connections == [change for change in seen.connections if change[1] > resume_after_ns]


def test_receive_stamps_rise_strictly_and_every_delay_is_positive(seen: Played) -> None:
    received = [received_ns for _, received_ns in seen.quotes]
    assert all(earlier < later for earlier, later in itertools.pairwise(received))
    assert all(at > to_exchange_ns(quote.datetime) for quote, at in seen.quotes)


def test_exchange_stamps_never_fall_within_a_code(exchange: SimulatedExchange, seen: Played) -> None:
    last: dict[str, int] = {}
    for quote, _ in first_deliveries(exchange, seen):
        at = to_exchange_ns(quote.datetime)
        assert at >= last.get(quote.code, 0)
        last[quote.code] = at


def test_trials_come_before_the_open_and_everything_belongs_to_the_day(seen: Played) -> None:
    trials = 0
    for quote, _ in seen.quotes:
        at, market = to_exchange_ns(quote.datetime), instrument(quote.code).market
        assert trading_day(at, market) == DAY
        assert in_session(at, market) is not quote.simtrade
        trials += quote.simtrade
    assert trials > 300


def test_futures_are_stamped_in_milliseconds_and_stocks_in_microseconds(seen: Played) -> None:
    futures = [quote for quote, _ in seen.quotes if type(quote).__name__.endswith("FOPv1")]
    assert all(quote.datetime.microsecond % 1_000 == 0 for quote in futures)
    assert any(quote.datetime.microsecond % 1_000 for quote, _ in seen.quotes)


@pytest.mark.parametrize(
    ("code", "day", "expected"),
    [
        ("TXFR1", date(2026, 11, 17), "TXFK6"),
        ("TXFR1", date(2026, 11, 18), "TXFL6"),  # its third Wednesday: the month has changed
        ("MXFR1", date(2026, 12, 17), "MXFA7"),
        ("TMFR1", date(2029, 12, 31), "TMFA0"),
        ("TXFD6", date(2026, 4, 9), "TXFD6"),
        ("2330", date(2026, 4, 9), "2330"),
    ],
)
def test_a_continuous_code_trades_as_its_near_month(code: str, day: date, expected: str) -> None:
    assert dated_code(code, day) == expected


def test_the_night_of_a_monday_is_friday_evening() -> None:
    night, day, stocks = sessions_of(date(2026, 11, 23))
    assert (night.market, day.market, stocks.market) == (Market.FUTURES, Market.FUTURES, Market.STOCK)
    assert day.open_ns - night.open_ns == (2 * 24 + 17) * 3_600_000_000_000 + 45 * 60_000_000_000


def test_a_stop_ends_a_run_that_waits_for_the_clock(exchange: SimulatedExchange) -> None:
    stop, seen = threading.Event(), []
    paced = SimulatedExchange(DAY, 7, SMALL, speed=1.0)
    runner = threading.Thread(target=paced.run, args=(lambda *quote: seen.append(quote), lambda *_: None, stop))
    runner.start()
    time.sleep(0.3)
    stop.set()
    runner.join(timeout=2)
    assert not runner.is_alive() and len(seen) < 100


def test_a_stop_inside_a_callback_is_the_last_thing_delivered(exchange: SimulatedExchange) -> None:
    stop, seen = threading.Event(), []

    def on_quote(quote: object, received_ns: int) -> None:
        seen.append(received_ns)
        if len(seen) == 10:
            stop.set()

    exchange.run(on_quote, lambda *_: None, stop)
    assert len(seen) == 10


def test_a_multiple_of_real_time_takes_its_time(seen: Played) -> None:
    day_seconds = (seen.quotes[-1][1] - seen.quotes[0][1]) / 1e9
    started = time.monotonic()
    assert len(played(SimulatedExchange(DAY, 7, SMALL, speed=day_seconds * 2)).quotes) == len(seen.quotes)
    assert time.monotonic() - started >= 0.49


BAD_CONFIGS = [
    (replace(SMALL, target_events=0), "target_events"),
    (replace(SMALL, outage_ns=10**15), "do not fit"),
    (replace(SMALL, lost_ticks=20_000), "5 %"),
    (replace(SMALL, instruments=()), "instruments"),
    (replace(SMALL, instruments=(INSTRUMENTS[0], INSTRUMENTS[0])), "given twice"),
    (replace(SMALL, instruments=(replace(INSTRUMENTS[0], reference_price_e6=0),)), "reference price"),
]


@pytest.mark.parametrize(("config", "reason"), BAD_CONFIGS)
def test_a_config_that_cannot_be_played_is_refused_with_its_reason(config: SimulationConfig, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SimulatedExchange(DAY, 1, config)


def test_a_closed_day_an_unknown_code_and_a_bad_speed_are_refused() -> None:
    with pytest.raises(NotATradingDay, match="Sunday"):
        SimulatedExchange(date(2026, 11, 22), 1)
    with pytest.raises(UnknownInstrument, match="XYZ"):
        SimulatedExchange(DAY, 1, replace(SMALL, instruments=(SimulatedInstrument("XYZ", 1, 1, 1),)))
    for speed in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="speed"):
            SimulatedExchange(DAY, 1, speed=speed)
    with pytest.raises(ValueError, match="seed"):
        SimulatedExchange(DAY, -1)


def test_the_sdk_leaves_nothing_in_the_working_directory(tmp_path: Path) -> None:
    """Its log is created at import, wherever it is told."""
    work, state = tmp_path / "work", tmp_path / "state"
    work.mkdir()
    program = (
        "import sys, pathlib; from shijim_live.broker.shioaji import quote_classes as q; q(pathlib.Path(sys.argv[1]))"
    )
    root = Path(__file__).parent.parent
    subprocess.run(
        [sys.executable, "-c", program, str(state)],
        cwd=work,
        check=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "HOME": str(tmp_path / "home")},
    )
    assert list(work.iterdir()) == []
    assert (state / "shioaji.log").exists()
    assert not (tmp_path / "home").exists()
