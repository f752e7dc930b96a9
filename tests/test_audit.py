"""The gap audit: what was lost is found, sized in lots and given its cause; what cannot be proven is never green."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import ns, outage, trade, trades, write_log

from shijim_live.calendar import NotATradingDay
from shijim_live.events import ABSENT_I64, ABSENT_U32, Book, Exchange, Kind, Lane, Status
from shijim_live.store.lake import Lake
from shijim_pipelines.archive import archive_all
from shijim_pipelines.proof.audit import NoData, audit_day, describe, write_report

DAY = date(2026, 4, 9)
OPEN = "2026-04-09 08:45:00"
STOP = Status(kind=Kind.STOP, received_ns=ns("2026-04-09 13:50:00"))


def audited(folder, events, day=DAY, **header):
    """The report of a log that holds `events`, stopped properly."""
    write_log(folder / "wal", [*events, STOP], **header)
    archive_all(folder / "wal", folder / "archive")
    return audit_day(folder / "archive", folder / "wal", day)


def test_a_day_without_loss_is_continuous(tmp_path):
    report = audited(tmp_path, trades("TXFD6", OPEN, [3, 4, 5]))
    (stream,) = report.streams
    assert (stream.trades, stream.lots, stream.lots_missing, stream.verdict, stream.basis) == (
        3,
        12,
        0,
        "continuous",
        "zero",
    )
    assert (report.gaps, report.notes, report.summary()["verdict"]) == ((), (), "continuous")
    assert "none: every judged trade continues" in describe(report)


def test_lost_trades_are_sized_and_placed(tmp_path):
    whole = trades("TXFD6", OPEN, range(1, 11))
    report = audited(tmp_path, whole[:4] + whole[6:])
    (gap,) = report.gaps
    assert (gap.gap_type, gap.symbol, gap.lane, gap.lots, gap.cause) == ("volume", "TXFD6", "board", 5 + 6, "feed_loss")
    assert (gap.start_ns, gap.end_ns) == (whole[3].received_ns, whole[6].received_ns)
    assert (gap.seq_start, gap.seq_end) == (4, 5)
    assert report.summary()["lots_missing"] == 11
    assert "11 lots missing in 1 gaps" in describe(report)


def test_a_late_trade_makes_its_gap_smaller_or_closes_it(tmp_path):
    whole = trades("TXFD6", OPEN, range(1, 11))
    report = audited(tmp_path, [*whole[:4], *whole[6:], whole[5]])
    assert [(gap.lots, gap.metadata["total_to"]) for gap in report.gaps] == [(5, 21)]
    assert (report.streams[0].late, report.streams[0].lots_missing) == (1, 5)


def test_a_gap_over_a_recorded_outage_has_its_cause_and_reason(tmp_path):
    whole = trades("TXFD6", OPEN, [1] * 60)
    known = outage("2026-04-09 08:45:10.500", "2026-04-09 08:45:20.200", "recorder killed")
    report = audited(tmp_path, [*whole[:11], known, *whole[21:40], *whole[45:]])
    causes = [(gap.gap_type, gap.lots, gap.cause, gap.reason) for gap in report.gaps if gap.gap_type == "volume"]
    lost = ("volume", 5, "feed_loss", "the recorder was up and no outage is known")
    assert causes == [("volume", 10, "outage", "recorder killed"), lost]
    (recorded,) = [gap for gap in report.gaps if gap.gap_type == "outage"]
    assert (recorded.start_ns, recorded.end_ns, recorded.lots) == (known.begin_ns, known.end_ns, 0)


def test_a_late_start_is_judged_against_zero(tmp_path):
    report = audited(tmp_path, trades("TXFD6", "2026-04-09 09:30:00", [2, 2], total=500))
    (gap,) = report.gaps
    assert (gap.lots, gap.cause, gap.seq_start) == (500, "late_start", ABSENT_I64)
    assert gap.start_ns == ns(OPEN)
    assert gap.metadata["basis"] == "zero"


def test_a_day_that_carries_on_from_its_night_is_told_so(tmp_path):
    night = trades("TXFD6", "2026-04-08 15:00:00", [5, 5])
    report = audited(tmp_path, [*night, *trades("TXFD6", OPEN, [1, 1], total=10)])
    assert [(stream.session, stream.basis, stream.verdict) for stream in report.streams] == [
        ("day", "carried", "continuous"),
        ("night", "zero", "continuous"),
    ]


def test_codes_lanes_and_sources_are_judged_apart(tmp_path):
    stock = {"exchange": Exchange.TSE, "broker_class": 1}
    board = [trade("2330", ns("2026-04-09 09:00:00") + at, 2, 2 * at, **stock) for at in (1, 2, 4)]
    odd = [trade("2330", ns("2026-04-09 09:00:00") + at, 10, 10 * at, lane=Lane.ODD, **stock) for at in (1, 2, 3)]
    trial = [trade("2330", ns("2026-04-09 08:55:00"), 99, 99, lane=Lane.TRIAL, **stock)]
    mixed = [event for group in zip(board, odd, strict=True) for event in group]
    report = audited(tmp_path, trial + mixed)
    assert [(s.code, s.lane, s.lots_missing, s.verdict) for s in report.streams] == [
        ("2330", "board", 2, "gaps"),
        ("2330", "odd", 0, "continuous"),
    ]
    more = audited(tmp_path, trades("TXFD6", OPEN, [1]), run_id="00000000000000cd", source="import:shioaji_stream")
    assert {(stream.source, stream.code) for stream in more.streams} == {
        ("simulated", "2330"),
        ("import:shioaji_stream", "TXFD6"),
    }


def test_duplicates_are_counted_and_their_lots_are_not(tmp_path):
    whole = trades("TXFD6", OPEN, [3, 4, 5])
    report = audited(tmp_path, [*whole, whole[1], whole[2]])
    (stream,) = report.streams
    assert (stream.trades, stream.lots, stream.duplicates, stream.verdict) == (3, 12, 2, "continuous")


def test_trades_without_a_total_are_unprovable_and_never_zero_gaps(tmp_path):
    report = audited(tmp_path, [replace(event, total_volume=ABSENT_U32) for event in trades("TXFD6", OPEN, [1, 2])])
    (stream,) = report.streams
    assert (stream.verdict, stream.reason, stream.lots) == ("unprovable", "its source has no total_volume", 3)
    assert report.summary()["verdict"] == "unprovable"
    assert "cannot be proven" in describe(report)


def test_a_fall_of_the_total_is_a_reset_and_leaves_no_proof(tmp_path):
    report = audited(tmp_path, trades("TXFD6", OPEN, [5, 5]) + trades("TXFD6", "2026-04-09 09:00:00", [1, 1]))
    assert (report.streams[0].resets, report.streams[0].verdict) == (1, "unprovable")


def test_a_restarted_recorder_is_judged_as_one_stream(tmp_path):
    whole = trades("TXFD6", OPEN, [1] * 10)
    write_log(tmp_path / "wal", whole[:4], run_id="00000000000000ff")
    report = audited(tmp_path, [outage("2026-04-09 08:45:03.5", "2026-04-09 08:45:06", "killed"), *whole[6:]])
    (gap,) = [gap for gap in report.gaps if gap.gap_type == "volume"]
    assert (gap.lots, gap.cause) == (2, "outage")
    assert (gap.metadata["run_id_before"], gap.metadata["run_id_after"]) == ("00000000000000ff", "00000000000000ab")
    assert report.streams[0].trades == 8
    assert any("00000000000000ff has no end" in note for note in report.notes)
    assert report.summary()["partial"] is True


def test_holes_of_the_recorders_own_sequence_are_found(tmp_path):
    events = trades("TXFD6", "2026-04-08 15:00:00", [1, 1]) + trades("TXFD6", OPEN, [1, 1])
    paths = write_log(tmp_path / "wal", [*events, STOP])
    assert len(paths) > 1
    middle = paths[1].read_bytes()
    paths[1].unlink()
    archive_all(tmp_path / "wal", tmp_path / "archive")
    report = audit_day(tmp_path / "archive", tmp_path / "wal", DAY)
    holes = [(gap.seq_end, gap.cause) for gap in report.gaps if gap.gap_type == "sequence"]
    assert holes == [(4, "segment_missing")]
    assert report.summary()["verdict"] == "gaps"
    paths[1].write_bytes(middle)
    waiting = audit_day(tmp_path / "archive", tmp_path / "wal", DAY)
    assert [gap.cause for gap in waiting.gaps if gap.gap_type == "sequence"] == ["not_archived"]
    assert any("sealed but not archived" in note for note in waiting.notes)


def test_a_corrupt_block_is_a_sequence_hole(tmp_path):
    (path,) = write_log(tmp_path / "wal", trades("TXFD6", OPEN, [1] * 9000, step_ns=1_000_000))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 3] ^= 0xFF
    path.write_bytes(damaged)
    archive_all(tmp_path / "wal", tmp_path / "archive")
    book = Book(code="TXFD6", exchange=Exchange.TAIFEX, received_ns=ns(OPEN), exchange_ns=ns(OPEN))
    report = audited(tmp_path, [book], run_id="00000000000000cd")
    (hole,) = [gap for gap in report.gaps if gap.gap_type == "sequence"]
    assert hole.cause == "corrupt_block"
    assert hole.seq_end - hole.seq_start + 1 > 0


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_segment_of_which_nothing_can_be_read_is_a_sequence_hole(tmp_path, which):
    """It leaves no row on any day: only its neighbours' numbers tell that it is gone."""
    events = [
        event for minute in ("08:50", "09:10", "09:20") for event in trades("TXFD6", f"2026-04-09 {minute}:00", [1])
    ]
    paths = write_log(tmp_path / "wal", events)
    assert len(paths) == 3
    damaged = bytearray(paths[which].read_bytes())
    block = damaged.index(b"SBLK")
    damaged[block + 40] ^= 0xFF
    paths[which].write_bytes(damaged)
    archive_all(tmp_path / "wal", tmp_path / "archive")
    report = audit_day(tmp_path / "archive", tmp_path / "wal", DAY)
    holes = [(gap.seq_start, gap.seq_end, gap.cause) for gap in report.gaps if gap.gap_type == "sequence"]
    assert holes == [(which + 1, which + 1, "corrupt_block")]
    assert report.summary()["verdict"] == "gaps"


def test_no_data_a_closed_day_and_a_damaged_file_are_errors(tmp_path):
    with pytest.raises(NoData, match="nothing of trading day 2026-04-09 is archived"):
        audit_day(tmp_path / "archive", tmp_path / "wal", DAY)
    with pytest.raises(NotATradingDay, match="Saturday"):
        audit_day(tmp_path / "archive", None, date(2026, 4, 11))
    audited(tmp_path, trades("TXFD6", OPEN, [1]))
    (file,) = (tmp_path / "archive" / "ticks").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(Exception, match=r"(?i)parquet"):
        audit_day(tmp_path / "archive", None, DAY)


def test_the_report_is_the_same_bytes_each_time_and_replaces_the_last_one(tmp_path):
    report = audited(tmp_path, trades("TXFD6", "2026-04-09 09:30:00", [2, 2], total=500))
    path = write_report(report, tmp_path / "reports")
    first = path.read_bytes()
    assert path == tmp_path / "reports" / "gaps" / "2026-04-09.json"
    assert write_report(audit_day(tmp_path / "archive", None, DAY), tmp_path / "reports").read_bytes() == first
    written = orjson.loads(first)
    assert written["summary"]["lots_missing"] == written["gaps"][0]["lots"] == 500
    assert written["gaps"][0]["seq_start"] is None
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@settings(max_examples=15)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=40), st.data())
def test_every_lot_is_recorded_or_reported_missing(tmp_path_factory, volumes, data):
    whole = trades("TXFD6", OPEN, volumes)
    lost = data.draw(st.sets(st.integers(0, len(whole) - 2)))
    folder = tmp_path_factory.mktemp("audit")
    report = audited(folder, [event for at, event in enumerate(whole) if at not in lost])
    total = report.summary()
    assert total["lots"] + total["lots_missing"] == sum(volumes)
    assert total["lots_missing"] == sum(gap.lots for gap in report.gaps)
    shown = Lake(folder / "archive").query("SELECT sum(volume) AS lots FROM ticks").to_pylist()
    assert shown == [{"lots": total["lots"]}]


def test_an_outage_of_the_recorder_does_not_explain_a_hole_in_an_import(tmp_path):
    write_log(tmp_path / "wal", [outage("2026-04-09 08:45:00", "2026-04-09 09:00:00", "killed"), STOP])
    whole = trades("TXFD6", OPEN, [1] * 10)
    report = audited(tmp_path, whole[:4] + whole[6:], run_id="00000000000000cd", source="import:shioaji_stream")
    assert [(gap.gap_type, gap.cause) for gap in report.gaps if gap.gap_type == "volume"] == [("volume", "feed_loss")]
    assert [gap.reason for gap in report.gaps if gap.gap_type == "outage"] == ["killed"]


def test_only_segments_that_may_hold_the_day_are_waited_for(tmp_path):
    audited(tmp_path, trades("TXFD6", OPEN, [1]))
    (other,) = write_log(tmp_path / "wal", trades("TXFD6", "2026-04-13 09:00:00", [1]), run_id="00000000000000cd")
    assert audit_day(tmp_path / "archive", tmp_path / "wal", DAY).notes == ()
    (note,) = [note for note in _notes_of_nothing(tmp_path) if other.name in note]
    assert "not archived" in note


def _notes_of_nothing(tmp_path):
    day = date(2026, 4, 13)
    write_log(tmp_path / "more", [replace(STOP, received_ns=ns("2026-04-13 09:00:00"))], run_id="00000000000000ef")
    archive_all(tmp_path / "more", tmp_path / "archive")
    return audit_day(tmp_path / "archive", tmp_path / "wal", day).notes
