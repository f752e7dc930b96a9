"""What comes after the last recorded trade, and what was not recorded at all: said by the exchange's closing totals."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import date, timedelta

import numpy as np
import pytest
from made_records import ns, outage, trade, trades, write_log

from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig
from shijim_live.calendar import NotYet
from shijim_live.events import ABSENT_I64, BrokerClass, Exchange, Kind, Lane, Status
from shijim_pipelines.archive import archive_all
from shijim_pipelines.proof.audit import NoData, audit_day, describe, read_report, write_report

DAY = date(2026, 4, 9)
OPEN = "2026-04-09 08:45:00"
CLOSED_NS = ns("2026-04-09 15:00:00")
STOP = Status(kind=Kind.STOP, received_ns=ns("2026-04-09 13:50:00"))
STOCK = {"exchange": Exchange.TSE, "broker_class": BrokerClass.TICK_STK_V1}


def audited(folder, events, run_id="00000000000000ab", source="simulated", **asked):
    write_log(folder / "wal", [*events, STOP], run_id=run_id, source=source)
    archive_all(folder / "wal", folder / "archive")
    return audit_day(folder / "archive", folder / "wal", DAY, **asked)


def test_lots_after_the_last_recorded_trade_are_an_early_stop(tmp_path):
    whole = trades("TXFD6", OPEN, [3, 4, 5])
    report = audited(tmp_path, whole, closing={("TXFD6", "day"): 20})
    (gap,) = report.gaps
    assert (gap.gap_type, gap.cause, gap.lots, gap.seq_start, gap.seq_end) == ("volume", "early_stop", 8, 3, ABSENT_I64)
    assert (gap.start_ns, gap.end_ns) == (whole[-1].received_ns, ns("2026-04-09 13:45:00"))
    assert (gap.metadata["total_from"], gap.metadata["total_to"], gap.metadata["session"]) == (12, 20, "day")
    assert (gap.metadata["run_id_before"], gap.metadata["run_id_after"]) == ("00000000000000ab", "")
    (stream,) = report.streams
    assert (stream.verdict, stream.lots, stream.lots_missing, stream.gaps, stream.closing) == ("gaps", 12, 8, 1, 20)


def test_a_day_that_ends_on_its_closing_total_is_continuous(tmp_path):
    report = audited(tmp_path, trades("TXFD6", OPEN, [3, 4]), closing={("TXFD6", "day"): 7, ("TXFD6", "night"): 0})
    assert (report.gaps, report.streams[0].verdict) == ((), "continuous")


def test_a_day_that_carries_its_night_on_is_judged_by_what_it_added(tmp_path):
    night = trades("TXFD6", "2026-04-08 15:00:00", [5, 5])
    closing = {("TXFD6", "night"): 10, ("TXFD6", "day"): 3}
    report = audited(tmp_path, [*night, *trades("TXFD6", OPEN, [1, 1], total=10)], closing=closing)
    assert [(gap.lots, gap.metadata["total_from"], gap.metadata["total_to"]) for gap in report.gaps] == [(1, 12, 13)]


def test_more_than_the_closing_total_is_a_contradiction_and_never_negative(tmp_path):
    whole = trades("TXFD6", OPEN, [3, 4, 5])
    report = audited(tmp_path, [whole[0], whole[2]], closing={("TXFD6", "day"): 10})
    (stream,) = report.streams
    assert (stream.verdict, stream.lots_missing) == ("unprovable", 4)
    assert stream.reason == "2 lots more than the exchange's total of 10"
    assert all(gap.lots > 0 for gap in report.gaps)


def test_a_reset_or_a_trade_without_total_leaves_the_end_unproven(tmp_path):
    fallen = trades("TXFD6", OPEN, [5, 5]) + trades("TXFD6", "2026-04-09 09:00:00", [1, 1])
    report = audited(tmp_path, fallen, closing={("TXFD6", "day"): 100})
    assert (report.gaps, report.streams[0].verdict) == ((), "unprovable")


def test_other_lanes_are_not_judged_by_lots_of_the_board(tmp_path):
    odd = [trade("2330", ns("2026-04-09 09:10:00"), 10, 10, lane=Lane.ODD, **STOCK)]
    board = [trade("2330", ns("2026-04-09 09:10:01"), 2, 2, **STOCK)]
    report = audited(tmp_path, odd + board, closing={("2330", "day"): 2})
    assert report.gaps == () and {stream.lane: stream.closing for stream in report.streams} == {
        "odd": ABSENT_I64,
        "board": 2,
    }


def test_a_session_of_a_wanted_code_without_a_trade_is_absent(tmp_path):
    closing = {("TXFD6", "day"): 7, ("MXFD6", "night"): 9, ("2330", "day"): 40, ("9999", "day"): 5}
    report = audited(tmp_path, trades("TXFD6", OPEN, [3, 4]), closing=closing, wanted=["TXFD6", "MXFD6", "2330"])
    found = [
        (gap.symbol, gap.cause, gap.lots, gap.metadata["session"], gap.start_ns, gap.end_ns) for gap in report.gaps
    ]
    assert found == [
        ("2330", "absent", 40, "day", ns("2026-04-09 09:00:00"), ns("2026-04-09 13:30:00")),
        ("MXFD6", "absent", 9, "night", ns("2026-04-08 15:00:00"), ns("2026-04-09 05:00:00")),
    ]
    absent = [stream for stream in report.streams if not stream.trades]
    assert [(stream.code, stream.lots_missing, stream.verdict) for stream in absent] == [
        ("2330", 40, "gaps"),
        ("MXFD6", 9, "gaps"),
    ]
    total = report.summary()
    assert total["lots_missing"] == sum(gap.lots for gap in report.gaps) == 49
    assert "absent" in describe(report)


def test_a_code_recorded_in_another_session_need_not_be_wanted(tmp_path):
    report = audited(tmp_path, trades("TXFD6", OPEN, [3]), closing={("TXFD6", "night"): 9, ("TXFD6", "day"): 3})
    assert [(gap.cause, gap.lots, gap.metadata["source"]) for gap in report.gaps] == [("absent", 9, "simulated")]


def test_a_session_that_is_not_over_is_judged_for_what_is_there(tmp_path):
    night, day = trades("TXFD6", "2026-04-08 15:00:00", [5, 5]), trades("TXFD6", OPEN, [1, 1, 1])
    closing = {("TXFD6", "night"): 11, ("TXFD6", "day"): 50, ("2330", "day"): 40}
    asked = {"closing": closing, "wanted": ["2330"], "as_of_ns": ns("2026-04-09 10:00:00")}
    report = audited(tmp_path, [*night, day[0], day[2]], **asked)
    assert [(gap.cause, gap.lots) for gap in report.gaps] == [("early_stop", 1), ("feed_loss", 1)]
    assert report.sessions == {"stock day": "open", "futures night": "closed", "futures day": "open"}
    assert "not over when asked, judged for what is there: stock day, futures day" in describe(report)
    assert report.summary()["open_sessions"] == 2


@pytest.mark.parametrize(("at", "state"), [("13:45:59.999", "open"), ("13:46:00", "closed")])
def test_closing_prints_are_waited_for(tmp_path, at, state):
    report = audited(tmp_path, trades("TXFD6", OPEN, [3]), as_of_ns=ns(f"2026-04-09 {at}"))
    assert (report.sessions["futures day"], report.sessions["stock day"]) == (state, "closed")


def test_a_day_that_has_not_begun_is_refused(tmp_path):
    with pytest.raises(NotYet, match=r"2026-04-09 opens at 2026-04-08 15:00 \(Taipei\), and it is 2026-04-08 14:59"):
        audit_day(tmp_path, None, DAY, as_of_ns=ns("2026-04-08 14:59:59"))
    with pytest.raises(NoData):
        audit_day(tmp_path, None, DAY, as_of_ns=ns("2026-04-08 15:00:00"))


def test_whenever_it_is_asked_after_the_closes_it_says_the_same(tmp_path):
    events = [*trades("TXFD6", OPEN, [3]), outage("2026-04-09 09:00:00", "2026-04-09 09:01:00", "killed")]
    first = audited(tmp_path, events, as_of_ns=CLOSED_NS)
    for later in (None, CLOSED_NS + timedelta(days=400) // timedelta(microseconds=1) * 1000):
        again = audit_day(tmp_path / "archive", tmp_path / "wal", DAY, as_of_ns=later)
        assert again == first
    write_report(first, tmp_path)
    assert read_report(tmp_path, DAY) == first


def test_a_backfill_is_not_looked_at(tmp_path):
    whole = trades("TXFD6", OPEN, [3, 4, 5])
    before = audited(tmp_path, [whole[0], whole[2]])
    write_log(tmp_path / "more", [whole[1]], run_id="00000000000000ff", source="backfill")
    waiting = tmp_path / "wal" / "backfill" / "00000000000000ff-0001.wal"
    waiting.parent.mkdir()
    waiting.write_bytes(next((tmp_path / "more").rglob("*.wal")).read_bytes())
    assert audit_day(tmp_path / "archive", tmp_path / "wal", DAY) == before
    archive_all(tmp_path / "wal", tmp_path / "archive")
    assert audit_day(tmp_path / "archive", tmp_path / "wal", DAY) == before
    assert [gap.lots for gap in before.gaps] == [4]


def test_a_backfill_alone_is_no_recording(tmp_path):
    write_log(tmp_path / "wal", trades("TXFD6", OPEN, [3]), source="backfill")
    archive_all(tmp_path / "wal", tmp_path / "archive")
    with pytest.raises(NoData, match="Record or import it"):
        audit_day(tmp_path / "archive", tmp_path / "wal", DAY)


def test_what_late_trades_left_of_a_gap_is_said_lot_by_lot(tmp_path):
    whole = trades("TXFD6", OPEN, [2] * 10)
    report = audited(tmp_path, [*whole[:2], *whole[8:], whole[4], whole[5]])
    (gap,) = report.gaps
    assert (gap.lots, gap.metadata["total_from"], gap.metadata["total_to"]) == (8, 4, 16)
    assert gap.metadata["missing"] == [[4, 8], [12, 16]]
    assert gap.metadata["exchange_ns_before"] == whole[1].exchange_ns
    assert gap.metadata["exchange_ns_after"] == whole[8].exchange_ns


@pytest.mark.parametrize(("seed", "events"), [(1, 20_000), (5, 4_000)])
def test_with_the_exchanges_totals_every_lot_of_a_simulated_day_is_recorded_or_missing(tmp_path, seed, events):
    command = ["record", "--broker", "simulated", "--day", str(DAY), "--seed", str(seed), "--events", str(events)]
    place = ["--metrics-port", "0", "--quiet", "--data-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "shijim_live", *command, *place], check=True, capture_output=True)
    archive_all(tmp_path / "wal", tmp_path / "archive")
    exchange = SimulatedExchange(DAY, seed, SimulationConfig(target_events=events))
    truth = exchange.truth()
    kinds = {"instrument": "<u2", "session": "u1", "volume": "<u4", "fate": "<i4"}
    columns = (np.frombuffer(truth["trades"][name], kind).tolist() for name, kind in kinds.items())
    traded, lost = Counter(), Counter()
    for code, session, lots, fate in zip(*columns, strict=True):
        stream = truth["codes"][code], str(exchange.sessions[session].session)
        traded[stream] += lots
        lost[stream] += lots if fate != -1 else 0
    report = audit_day(tmp_path / "archive", tmp_path / "wal", DAY, closing=traded, wanted=truth["codes"])
    missing = {(stream.code, stream.session): stream.lots_missing for stream in report.streams}
    assert {stream: lots for stream, lots in missing.items() if lots} == +lost
    assert sum(gap.lots for gap in report.gaps) == lost.total() > 0
