"""What a live feed says of our clock: the quickest quote once a minute, and a clock that was set."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from made_records import ns, trade, write_log
from test_doctor import doctor, found
from test_publisher import Log

from shijim_live.calendar import SECOND_NS
from shijim_live.events import ABSENT_U32, Kind, Status, encode_with_sides
from shijim_live.watch.feed_clock import FeedClock


def quotes_late_by(log: Log, delays_ns: list[int], now_ns: int) -> None:
    for delay_ns in delays_ns:
        event = trade("TXFD6", now_ns - delay_ns, 1, ABSENT_U32)
        log.publisher.publish_records(encode_with_sides(replace(event, received_ns=now_ns)))


def test_the_quickest_quote_of_a_second_is_written_down_once_a_minute(
    tmp_path: Path,
) -> None:
    log, passed = Log(tmp_path), [0]
    began_ns = time.time_ns()
    clock = FeedClock(log.publisher, tmp_path / "ring", lambda: began_ns + passed[0], lambda: passed[0])
    for minute in range(3):
        passed[0] = minute * 61 * SECOND_NS
        clock.look()
        quotes_late_by(log, [70_000_000, 60_000_000 + minute, 90_000_000] * 2, began_ns)
        passed[0] += SECOND_NS
        clock.look()
    events = [event for event in log.finish() if event.kind == Kind.CLOCK_OFFSET]
    assert [event.value for event in events] == [60_000_000, 60_000_001, 60_000_002]  # type: ignore[union-attr]
    assert events[0].text == "the quickest of 6 quotes was received 60.000 ms after its stamp"  # type: ignore[union-attr]


@pytest.mark.parametrize(("late_ns", "level"), [(3_000_000, "well"), (60_000_000, "warning"), (-1, "warning")])
def test_the_doctor_tells_of_the_last_look_and_not_of_a_clock_that_was_set(
    tmp_path: Path, late_ns: int, level: str
) -> None:
    at_ns = ns("2026-04-09 10:00:00")
    looked = Status(kind=Kind.CLOCK_OFFSET, received_ns=at_ns, value=late_ns, text="the quickest of 6 quotes …")
    was_set = replace(looked, value=10**10, begin_ns=at_ns, end_ns=at_ns, text="our clock was set")
    write_log(tmp_path / "wal", [looked, was_set])
    assert found(doctor(tmp_path, "--json", "--data-dir", str(tmp_path)))["feed clock"][:2] == (level, looked.text)


def test_a_clock_that_is_set_is_an_episode_and_no_offset(tmp_path: Path) -> None:
    log, passed, set_by = Log(tmp_path), [0], [0]
    clock = FeedClock(log.publisher, tmp_path / "ring", lambda: 10**18 + passed[0] + set_by[0], lambda: passed[0])
    clock.look()
    passed[0], set_by[0] = SECOND_NS, -3 * SECOND_NS
    clock.look()
    passed[0] += SECOND_NS
    clock.look()
    [event] = [event for event in log.finish() if event.kind == Kind.CLOCK_OFFSET]
    assert isinstance(event, Status)
    assert (event.value, event.end_ns - event.begin_ns) == (-3 * SECOND_NS, -3 * SECOND_NS)
    assert event.text == "our clock was set by -3000.000 ms"


def test_too_few_quotes_say_nothing_of_a_clock(tmp_path: Path) -> None:
    log, passed = Log(tmp_path), [0]
    clock = FeedClock(log.publisher, tmp_path / "ring", lambda: 10**18 + passed[0], lambda: passed[0])
    clock.look()
    quotes_late_by(log, [1_000_000] * 4, 10**18)
    passed[0] = SECOND_NS
    clock.look()
    assert [event.kind for event in log.finish()] == [Kind.TRADE] * 4
