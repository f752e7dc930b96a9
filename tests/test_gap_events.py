"""Gaps told while recording: the trade that reveals one has it right behind it, and the audit finds the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from dying_recorder import record_and_die
from test_record import DAY, EVENTS, all_records, live, record_command, whole_day

from shijim_live.events import Kind, Lane, Status, Trade, decode_all

__all__ = ["whole_day"]  # a fixture

GapKey = tuple[str, str, str, int, int, int]  # code, lane, session, total_from, total_to, lots


@pytest.fixture(scope="module")
def broken_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day with lost ticks, an outage of the broker, repeats, and a recorder that died in the middle."""
    folder = tmp_path_factory.mktemp("broken")
    record_and_die(folder, EVENTS // 2, record_command(folder)[3:])
    subprocess.run(record_command(folder), check=True, capture_output=True)
    return folder


def told(folder: Path) -> list[GapKey]:
    gaps = [event for event in decode_all(all_records(folder).tobytes()) if event.kind == Kind.GAP]
    return [gap_key(gap) for gap in gaps if isinstance(gap, Status)]


def gap_key(gap: Status) -> GapKey:
    said = dict(pair.split("=") for pair in gap.text.split())
    lane = Lane(gap.lane).name.lower()
    return gap.code, lane, said["session"], int(said["total_from"]), int(said["total_to"]), gap.value


def audited(folder: Path) -> list[GapKey]:
    for verb in (["archive"], ["audit", "--day", DAY]):
        command = [sys.executable, "-m", "shijim_pipelines", *verb, "--data-dir", str(folder)]
        subprocess.run(command, check=False, capture_output=True)
    report = json.loads((folder / "reports" / "gaps" / f"{DAY}.json").read_bytes())
    streams = Counter({"duplicates": sum(stream["duplicates"] for stream in report["streams"])})
    assert streams["duplicates"] > 0, "the day has repeats, or this proves less than it says"
    return [
        (gap["symbol"], gap["lane"], gap["metadata"]["session"], gap["metadata"]["total_from"],
         gap["metadata"]["total_to"], gap["lots"])
        for gap in report["gaps"]
        if gap["gap_type"] == "volume"
    ]  # fmt: skip


def test_the_gaps_in_the_log_are_those_of_the_audit_lot_for_lot(broken_day: Path) -> None:
    found = told(broken_day)
    assert len(found) > 12  # lost ticks, the outage, and the time the recorder was away
    assert sorted(found) == sorted(audited(broken_day))


def test_a_gap_stands_right_behind_the_trade_that_revealed_it(broken_day: Path) -> None:
    events = list(decode_all(all_records(broken_day).tobytes()))
    for trade, gap in pairwise(events):
        if isinstance(gap, Status) and gap.kind == Kind.GAP:
            assert isinstance(trade, Trade) and (trade.code, trade.sequence) == (gap.code, gap.sequence - 1)
            assert (gap.exchange_ns, gap.received_ns, gap.end_ns) == (trade.exchange_ns, *[trade.received_ns] * 2)
            assert gap_key(gap)[4] == trade.total_volume - trade.volume
            assert gap.begin_ns < gap.end_ns


def test_cat_shows_the_gaps_alone(broken_day: Path) -> None:
    shown = live("cat", str(broken_day / "wal"), "--kind", "gap")
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert len(lines) == len(told(broken_day))
    assert {line["kind"] for line in lines} == {"gap"} and all(line["value"] > 0 for line in lines)


def test_a_replay_judges_for_itself_and_tells_each_gap_once(whole_day: Path, tmp_path: Path) -> None:
    done = live("record", "--broker", "replay", "--from", str(whole_day / "wal"), "--data-dir", str(tmp_path),
                "--metrics-port", "0")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert told(tmp_path) == told(whole_day) != []
