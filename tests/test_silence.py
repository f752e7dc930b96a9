"""Silences: the holes of a recording that carries no totals are found, and quiet is not taken for a hole."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from made_records import ns, outage, trade, write_log
from real_data import DATA, needs_data

from shijim_live.calendar import Market, session_bounds, wall_clock
from shijim_live.events import ABSENT_I64, ABSENT_U32, Book, BrokerClass, Event, Exchange, Kind, Lane, Status, Trade
from shijim_pipelines.archive import archive_all
from shijim_pipelines.proof import silence
from shijim_pipelines.proof.audit import audit_day
from shijim_pipelines.proof.day_segments import Manifests, files_of, outages_of, segments_of
from shijim_pipelines.proof.gap_report import Gap, GapReport
from shijim_pipelines.proof.row_groups import row_groups
from shijim_pipelines.proof.volume import judge_files

DAY = date(2026, 4, 9)
OPEN, CLOSE = ns("2026-04-09 08:45:00"), ns("2026-04-09 13:45:00")
SECOND_NS = 1_000_000_000
STOP = Status(kind=Kind.STOP, received_ns=ns("2026-04-09 13:50:00"))
STOCK = {"exchange": Exchange.TSE, "broker_class": BrokerClass.TICK_STK_V1}


def at(clock: str) -> int:
    return ns(f"2026-04-09 {clock}")


def book(code: str, exchange_ns: int, **fields: int) -> Book:
    known = {"exchange": Exchange.TAIFEX, "lane": Lane.BOARD, "broker_class": BrokerClass.BIDASK_FOP_V1} | fields
    return Book(code=code, exchange_ns=exchange_ns, received_ns=exchange_ns + 5_000_000, **known)


def pace(code: str, begin: int, end: int, per_minute: int, seed: int = 1, **fields: int) -> list[Event]:
    """A trade without total and three books in four events, at random moments."""
    chance = random.Random(seed)
    count = (end - begin) * per_minute // (60 * SECOND_NS)
    stamps = sorted(chance.randrange(begin, end) for _ in range(count))
    return [
        book(code, stamp, **fields) if number % 4 else trade(code, stamp, 1, ABSENT_U32, **fields)
        for number, stamp in enumerate(stamps)
    ]


def without(events: Sequence[Event], begin: int, end: int) -> list[Event]:
    return [event for event in events if not begin <= event.exchange_ns < end]


def audited(folder: Path, events: Sequence[Event], **header: str) -> GapReport:
    ordered = sorted(events, key=lambda event: event.received_ns)
    write_log(folder / "wal", [*ordered, STOP], **header)
    archive_all(folder / "wal", folder / "archive")
    return audit_day(folder / "archive", folder / "wal", DAY)


def silences(report: GapReport) -> list[Gap]:
    return [gap for gap in report.gaps if gap.gap_type in ("silence", "book_silence")]


def test_a_hole_in_a_recording_without_totals_is_found_with_what_stands_on_both_sides(tmp_path):
    events = without(pace("TXFD6", OPEN, CLOSE, 120), at("10:00:00"), at("10:10:00"))
    report = audited(tmp_path, events, source="import:txf_l5")
    (gap,) = silences(report)
    before = max(event.received_ns for event in events if event.exchange_ns < at("10:00:00"))
    after = min(event.received_ns for event in events if event.exchange_ns > at("10:00:00"))
    assert (gap.gap_type, gap.symbol, gap.lane, gap.cause) == ("silence", "TXFD6", "board", "feed_loss")
    assert (gap.start_ns, gap.end_ns, gap.seq_end - gap.seq_start, gap.lots) == (before, after, 1, 0)
    assert gap.metadata["session"] == "day" and 900 < int(str(gap.metadata["events_expected"])) < 1300
    assert (report.streams[0].verdict, report.summary()["verdict"]) == ("unprovable", "gaps")


def test_a_recording_that_starts_late_and_stops_early_is_told_so(tmp_path):
    report = audited(tmp_path, pace("TXFD6", at("09:30:00"), at("12:00:00"), 120))
    found = [(gap.cause, gap.seq_start, gap.seq_end, gap.start_ns, gap.end_ns) for gap in silences(report)]
    first, last = report.gaps[0].seq_end, report.gaps[1].seq_start
    assert found == [
        ("late_start", ABSENT_I64, first, OPEN, report.gaps[0].end_ns),
        ("early_stop", last, ABSENT_I64, report.gaps[1].start_ns, CLOSE),
    ]


def test_a_session_that_is_not_over_stops_nowhere_early(tmp_path):
    audited(tmp_path, pace("TXFD6", OPEN, at("10:00:00"), 120))
    early = audit_day(tmp_path / "archive", None, DAY, as_of_ns=at("11:00:00"))
    assert silences(early) == []
    assert [gap.cause for gap in silences(audit_day(tmp_path / "archive", None, DAY))] == ["early_stop"]


def test_trades_that_carry_their_total_are_judged_by_it_however_silent(tmp_path):
    events = without(pace("TXFD6", OPEN, CLOSE, 120), at("10:00:00"), at("10:10:00"))
    total = 0
    for number, event in enumerate(events):
        if isinstance(event, Trade):
            total += 1
            events[number] = replace(event, total_volume=total)
    report = audited(tmp_path, events)
    assert (report.gaps, report.streams[0].verdict) == ((), "continuous")


def test_a_known_outage_is_no_silence_but_what_goes_beyond_it_is(tmp_path):
    events = pace("TXFD6", OPEN, CLOSE, 120)
    known = outage("2026-04-09 10:00:00", "2026-04-09 10:10:00", "killed")
    report = audited(tmp_path / "known", [*without(events, at("10:00:00"), at("10:10:01")), known])
    assert [gap.gap_type for gap in report.gaps] == ["outage"]
    beyond = audited(tmp_path / "beyond", [*without(events, at("10:00:00"), at("10:20:00")), known])
    assert [gap.gap_type for gap in silences(beyond)] == ["silence"]


def test_a_slow_code_is_not_silent_between_its_events(tmp_path):
    assert silences(audited(tmp_path, pace("TXFD6", OPEN, CLOSE, 1))) == []


def test_bursts_with_rests_between_are_the_pace_of_a_code(tmp_path):
    bursts = [event for start in range(OPEN, CLOSE, 600 * SECOND_NS)
              for event in pace("TXFD6", start, start + 120 * SECOND_NS, 300, seed=start)]  # fmt: skip
    assert silences(audited(tmp_path, bursts)) == []


def test_the_closing_call_of_stocks_is_not_silence(tmp_path):
    events = pace("2330", at("09:00:00"), at("13:25:00"), 200, **STOCK)
    assert silences(audited(tmp_path, [*events, trade("2330", at("13:30:00"), 1, ABSENT_U32, **STOCK)])) == []


def test_an_expiring_contract_may_stop_at_half_past_one(tmp_path):
    day = date(2026, 4, 15)
    begin, end = ns("2026-04-15 08:45:00"), ns("2026-04-15 13:30:00")
    write_log(tmp_path / "wal", [*pace("TXFD6", begin, end, 200), *pace("TXFE6", begin, end, 200)])
    archive_all(tmp_path / "wal", tmp_path / "archive")
    found = silences(audit_day(tmp_path / "archive", None, day))
    assert [(gap.symbol, gap.cause) for gap in found] == [("TXFE6", "early_stop")]


def test_events_outside_the_sessions_are_not_judged(tmp_path):
    events = pace("TXFD6", OPEN, CLOSE, 120)
    early = pace("TXFD6", at("08:30:00"), at("08:31:00"), 120)
    assert silences(audited(tmp_path, [*early, *events])) == []


def test_books_that_fall_silent_while_trades_print_are_told(tmp_path):
    events = pace("TXFD6", OPEN, CLOSE, 200)
    hole = (at("10:00:00"), at("10:05:00"))
    kept = [event for event in events if isinstance(event, Trade) or not hole[0] <= event.exchange_ns < hole[1]]
    for number, source in enumerate(("import:txf_l5", "simulated")):
        report = audited(tmp_path / source, kept, source=source, run_id=f"{number:016x}")
        (gap,) = silences(report)
        assert (gap.gap_type, gap.cause) == ("book_silence", "feed_loss")
        assert 200 < int(str(gap.metadata["trades"])) < 300
        assert hole[0] - SECOND_NS < gap.start_ns < hole[0] + SECOND_NS < hole[1] < gap.end_ns < hole[1] + 2 * SECOND_NS


def test_a_code_without_a_book_among_others_that_have_them_is_told(tmp_path):
    events = pace("TXFD6", OPEN, CLOSE, 40) + [
        event for event in pace("MXFD6", OPEN, CLOSE, 40) if isinstance(event, Trade)
    ]
    (gap,) = silences(audited(tmp_path, events))
    assert (gap.gap_type, gap.symbol, gap.cause) == ("book_silence", "MXFD6", "late_start")
    assert (gap.start_ns, gap.end_ns, gap.seq_start, gap.seq_end) == (OPEN, CLOSE, ABSENT_I64, ABSENT_I64)


def test_a_recording_of_trades_alone_has_no_silence_of_books(tmp_path):
    events = [event for event in pace("TXFD6", OPEN, CLOSE, 200) if isinstance(event, Trade)]
    assert silences(audited(tmp_path, events)) == []


@pytest.mark.parametrize(("seed", "events"), [(1, 20_000), (7, 20_000), (2, 60_000), (3, 120_000)])
def test_a_simulated_day_has_no_false_silence_with_totals_or_without(tmp_path, seed, events):
    subprocess.run(
        [sys.executable, "-m", "shijim_live", "record", "--broker", "simulated", "--day", str(DAY), "--quiet",
         "--events", str(events), "--seed", str(seed), "--metrics-port", "0", "--data-dir", str(tmp_path)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    archive_all(tmp_path / "wal", tmp_path / "archive")
    report = audit_day(tmp_path / "archive", tmp_path / "wal", DAY)
    assert silences(report) == [] and report.summary()["lots_missing"]
    known = Manifests(tmp_path / "archive")
    segments, outages = segments_of(known, DAY)[0], outages_of(known, DAY)
    files = {table: files_of(segments, tmp_path / "archive", table, DAY) for table in ("ticks", "books")}
    judged = judge_files(files["ticks"])
    for tally in judged.tallies.values():
        tally.judged = 0  # as if its source had no totals
    over = {(market, bound.session.value): True for market in Market for bound in session_bounds(DAY, market)}
    books = row_groups("books", files["books"])
    assert silence.holes("simulated", books, judged, DAY, outages, over) == []


REAL = {
    "2026-04-08": [("TXFD6", "feed_loss", "10:27:58", 333)],
    "2026-04-09": [("TXFD6", "early_stop", "21:56:32", 25_407)],
    "2026-04-10": [("TXFD6", "feed_loss", "00:10:40", 744), ("TMFD6", "early_stop", "13:41:58", 181),
                   ("TXFD6", "early_stop", "13:41:58", 181)],
    "2026-04-13": [("TMFD6", "feed_loss", "21:34:11", 807), ("TXFD6", "feed_loss", "21:34:11", 807)],
}  # fmt: skip


@needs_data
def test_the_holes_of_real_recordings_are_found_and_nothing_else(tmp_path: Path) -> None:
    names = [f"TXFD6_2026-04-{day:02}" for day in (8, 9, 10)] + ["TMFD6_2026-04-10"]
    files = [str(DATA / "txf_l5" / f"{name}.parquet") for name in names]
    command = [sys.executable, "-m", "shijim_pipelines", "import", *files, "--data-dir", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    archive_all(tmp_path / "wal", tmp_path / "archive")
    for day, wanted in REAL.items():
        report = audit_day(tmp_path / "archive", tmp_path / "wal", date.fromisoformat(day))
        found = [
            (gap.symbol, gap.cause, wall_clock(gap.start_ns).strftime("%H:%M:%S"),
             (gap.end_ns - gap.start_ns) // SECOND_NS)
            for gap in sorted(report.gaps, key=lambda gap: gap.start_ns)
        ]  # fmt: skip
        assert found == wanted
        assert {stream.verdict for stream in report.streams} == {"unprovable"}
