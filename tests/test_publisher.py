"""The callback: every attribute of the broker's own objects comes back from the log with the same number."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import pack
from wire_quotes import CLASSES, SPECS, objects

from rust_indicators import Publisher
from shijim_live.events import (
    ABSENT_I64,
    EMPTY_PRICE_E6,
    Book,
    Flag,
    Kind,
    Lane,
    Status,
    Trade,
    decode_all,
    to_broker_dict,
)
from shijim_live.record import wal


class Log:
    """A publisher on a folder of its own; `finish` reads back what it wrote."""

    def __init__(self, folder: Path, ring_slots: int = 1024) -> None:
        self.folder = folder
        self.publisher = Publisher(
            ring_path=folder / "ring",
            ring_slots=ring_slots,
            wal_dir=folder / "wal",
            run_id="00000000000000aa",
            header='{"schema_version":1}',
            classes=SPECS,
            durability="write",
        )

    def finish(self) -> list[Trade | Book | Status]:
        self.publisher.close()
        from rust_indicators import SegmentReader

        events: list[Trade | Book | Status] = []
        for path in wal.segment_paths(self.folder / "wal"):
            events += decode_all(SegmentReader(path).read(10**6))
        return events


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    yield Log(tmp_path)


def attributes(quote: object) -> dict[str, object]:
    """What the SDK says the object is; futures leave their exchange out of `to_dict`."""
    shown = quote.to_dict()
    shown["exchange"] = quote.exchange.value
    return shown


@given(st.lists(objects(), min_size=1, max_size=20))
def test_every_attribute_of_every_class_comes_back_from_the_log(quotes: list[object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder))
        expected = []
        for quote in quotes:
            try:
                expected.append(attributes(quote))
            except BaseException as error:  # noqa: BLE001 - a panic is no Exception
                assert "Panic" in type(error).__name__, error
            log.publisher.publish(quote)
        events = [event for event in log.finish() if not isinstance(event, Status)]
    assert [to_broker_dict(event) for event in events] == expected


def fop_tick(price: str = "34000", simtrade: bool = False, underlying: str | int = "33999.5") -> object:
    wire = ["TXFD6", "2026/04/09", "00:30:00.123456", "34000", underlying, 10, 20, "34001.261348", price, "34010",
            "33990", "34002", "680000", 1, 1, 1, 2, "5", "0.5", simtrade]  # fmt: skip
    return CLASSES.tick_fop.from_msgpack(pack(wire))


def test_the_night_session_is_stamped_eight_hours_before_the_wall_clock(log: Log) -> None:
    log.publisher.publish(fop_tick(), 7)
    [event] = log.finish()
    assert (event.exchange_ns, event.received_ns) == (1_775_665_800_123_456_000, 7)  # 2026-04-08T16:30:00.123456Z


def test_the_receive_stamp_is_our_clock_unless_it_is_given(log: Log) -> None:
    before = time.time_ns()
    log.publisher.publish(fop_tick())
    after = time.time_ns()
    [event] = log.finish()
    assert before <= event.received_ns <= after


def test_a_trial_match_is_on_a_lane_of_its_own(log: Log) -> None:
    log.publisher.publish(fop_tick(simtrade=False))
    log.publisher.publish(fop_tick(simtrade=True))
    assert [event.lane for event in log.finish()] == [Lane.BOARD, Lane.TRIAL]


def test_an_empty_level_is_named_and_a_market_order_at_price_zero_is_kept(log: Log) -> None:
    prices, volumes = ["34000", "0", "0", "0", "0"], [3, 7, 0, 0, 0]
    wire = ["2330", "2026/04/09", "09:00:00", prices, volumes, [0] * 5, prices, volumes, [0] * 5, False, False]
    log.publisher.publish(CLASSES.bidask_stk.from_msgpack(pack(wire)))
    [event] = log.finish()
    assert isinstance(event, Book)
    assert event.bid_price_e6[:3] == (34_000_000_000, 0, EMPTY_PRICE_E6)
    assert event.bid_volume[:3] == (3, 7, 0)


def test_a_panic_of_the_sdk_is_quarantined_with_its_fields_and_the_stream_goes_on(log: Log) -> None:
    broken = fop_tick(underlying=7)  # an int where the wire has a price: the SDK panics when it is read
    with pytest.raises(BaseException, match="Invalid string marker"):
        _ = broken.underlying_price
    log.publisher.publish(fop_tick())
    log.publisher.publish(broken, 5)
    log.publisher.publish(fop_tick())
    counters = log.publisher.counters()
    events = log.finish()
    texts = [event.text for event in events if event.kind == Kind.QUARANTINE]
    assert counters["quarantined"] == 1
    assert "close=34000" in "".join(texts) and "underlying_price=!Invalid string marker" in "".join(texts)
    assert [event.kind for event in events if event.kind == Kind.TRADE] == [Kind.TRADE] * 2
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


def test_something_that_is_no_quote_is_quarantined(log: Log) -> None:
    log.publisher.publish({"close": 1})
    [event] = log.finish()
    assert event.kind == Kind.QUARANTINE
    assert "dict" in event.text


def test_a_price_the_decoder_made_up_is_marked_suspect(log: Log) -> None:
    log.publisher.publish(fop_tick(price="-"))  # the SDK answers garbage with 0
    log.publisher.publish(fop_tick())
    assert [bool(event.flags & Flag.SUSPECT) for event in log.finish()] == [True, False]


def test_a_full_ring_waits_for_the_disk_and_loses_nothing(tmp_path: Path) -> None:
    log = Log(tmp_path, ring_slots=4)
    for _ in range(500):
        log.publisher.publish(fop_tick(), 1)
    assert log.publisher.close() == 500
    assert log.publisher.counters()["durable"] == 500


def test_a_dead_log_thread_stops_the_callback_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "wal").write_text("a file where the folder should be")
    log = Log(tmp_path, ring_slots=4)
    with pytest.raises(RuntimeError, match="the log cannot be written"):
        for _ in range(5):
            log.publisher.publish(fop_tick())
    with pytest.raises(RuntimeError, match="the log cannot be written"):
        log.publisher.check()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"run_id": "x"}, "16 hex digits"),
        ({"durability": "maybe"}, "sync, write or off"),
        ({"ring_slots": 1000}, "power of two"),
        ({"ring_slots": 2}, "4 or more"),
        ({"without_space": "panic"}, "lose or hand_back"),
        ({"header": ""}, "JSON object"),
    ],
)
def test_a_bad_option_of_the_publisher_is_refused(tmp_path: Path, option: dict[str, object], message: str) -> None:
    good = {"ring_path": tmp_path / "ring", "ring_slots": 1024, "wal_dir": tmp_path / "wal", "header": '{"a":1}',
            "run_id": "00000000000000aa", "classes": SPECS}  # fmt: skip
    with pytest.raises((ValueError, OSError), match=message):
        Publisher(**(good | option))


def test_absent_times_stay_absent(log: Log) -> None:
    log.publisher.publish_status(Kind.START, 5, text="begin")
    [event] = log.finish()
    assert isinstance(event, Status)
    assert (event.begin_ns, event.end_ns, event.exchange_ns) == (ABSENT_I64, ABSENT_I64, ABSENT_I64)
