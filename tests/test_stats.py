"""`shijim-live stats`: counts that agree with what the recorder counted itself, and with counting by hand."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import orjson
import pytest
from made_records import ns, trade, trades, write_log

from shijim_live.cli import main
from shijim_live.events import ABSENT_I64, Kind, Status
from shijim_live.record import wal

DAY = "2026-04-09"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A simulated day with losses and repeats, and what the recorder said of it."""
    folder = tmp_path_factory.mktemp("recorded")
    command = [sys.executable, "-m", "shijim_live", "record", "--broker", "simulated", "--day", DAY, "--quiet",
               "--events", "20000", "--metrics-port", "0", "--data-dir", str(folder)]  # fmt: skip
    return folder / "wal", subprocess.run(command, check=True, capture_output=True, text=True).stdout


def counted(place: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main(["stats", str(place), "--json"]) == 0
    found: dict[str, object] = orjson.loads(capsys.readouterr().out)
    return found


def test_the_total_is_what_the_recorder_counted(recorded: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    wal_dir, said = recorded
    total = counted(wal_dir, capsys)["total"]
    assert isinstance(total, dict)
    numbers = [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", said.split("lots missing")[0])]
    [lots] = numbers[-1:]
    gaps, duplicates = (int(n) for n in re.findall(r"missing in (\d+) gaps, (\d+) duplicates", said)[0])
    assert (total["lots_missing"], total["gaps"], total["duplicates"]) == (lots, gaps, duplicates)
    assert lots > 0 and total["problems"] == total["unsealed"] == 0


def test_each_segment_and_all_of_them_are_counted_as_by_hand(
    recorded: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    wal_dir, _ = recorded
    found = counted(wal_dir, capsys)
    segments, total = found["segments"], found["total"]
    assert isinstance(segments, list) and isinstance(total, dict)
    assert [Path(segment["path"]) for segment in segments] == wal.segment_paths(wal_dir)
    rows = np.concatenate([_rows(path) for path in wal.segment_paths(wal_dir)])
    kinds = Counter(Kind(int(kind)).name.lower() for kind in rows[:, 0])
    codes = Counter(bytes(code).rstrip(b"\0").decode() for code in rows[:, 32:48])
    codes.pop("")
    received = np.ascontiguousarray(rows[:, 24:32]).view("<i8")[:, 0]
    assert total["kinds"] == kinds and total["codes"] == codes
    assert list(total["codes"].values()) == sorted(codes.values(), reverse=True)
    assert total["peak"][1] == np.unique(received // 10**9, return_counts=True)[1].max()
    assert total["records"] == len(rows) == sum(segment["records"] for segment in segments)
    assert total["lots_missing"] == sum(segment["lots_missing"] for segment in segments)
    blocks = sum(path.read_bytes().count(b"SBLK") for path in wal.segment_paths(wal_dir))
    assert total["blocks"]["count"] == blocks
    sizes = [path.stat().st_size for path in wal.segment_paths(wal_dir)]
    assert sum(sizes) * 0.8 < total["bytes"] < sum(sizes)  # footers are not counted


def _rows(path: Path) -> np.ndarray:
    return np.frombuffer(b"".join(wal.records(path)), np.uint8).reshape(-1, 256)


def test_lots_before_the_first_trade_here_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = trades("TXFD6", f"{DAY} 09:00:00", [1] * 3, total=100)
    events += trades("TXFD6", f"{DAY} 09:00:10", [1], total=110)
    write_log(tmp_path, events)
    total = counted(tmp_path, capsys)["total"]
    assert isinstance(total, dict)
    assert (total["lots_missing"], total["gaps"], total["late_start_lots"]) == (107, 2, 100)


def test_continuity_goes_on_from_segment_to_segment_and_run_to_run_but_not_between_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path, trades("TXFD6", f"{DAY} 09:14:58", [1] * 4), "00000000000000ab")
    later = {"created_ns": ns(f"{DAY} 10:00:00")}
    write_log(tmp_path, trades("TXFD6", f"{DAY} 10:00:00", [1] * 2, total=5), "0000000000000001", **later)
    write_log(tmp_path, trades("TXFD6", f"{DAY} 10:00:00", [1] * 2, total=7), "00000000000000cd", source="import:x")
    found = counted(tmp_path, capsys)
    segments = found["segments"]
    assert isinstance(segments, list)
    by_run = {(segment["run_id"][-2:], segment["source"]): segment["lots_missing"] for segment in segments}
    assert by_run == {("ab", "simulated"): 0, ("01", "simulated"): 1, ("cd", "import:x"): 7}


def test_what_is_open_damaged_or_no_segment_is_counted_as_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [path] = write_log(tmp_path, trades("TXFD6", f"{DAY} 09:00:00", [1] * 5))
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"SEND")] + bytes(1000))
    total = counted(tmp_path, capsys)["total"]
    assert isinstance(total, dict)
    assert (total["unsealed"], total["records"], total["bytes"]) == (1, 5, whole.index(b"SEND"))
    (tmp_path / "notes.wal").write_text("hello, this is not a segment at all")
    assert main(["stats", str(tmp_path)]) == 3
    shown = capsys.readouterr()
    assert "5 events in 1 segments" in shown.out and "1 not sealed" in shown.out
    assert "notes.wal: not a Shijim log segment" in shown.err


def test_a_log_without_any_time_or_trade_is_counted_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path, [Status(kind=Kind.QUARANTINE, text="?")])
    assert main(["stats", str(tmp_path)]) == 0
    assert "no event has a time" in capsys.readouterr().out


def test_no_more_than_twenty_codes_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nine = ns(f"{DAY} 09:00:00")
    write_log(tmp_path, [trade(f"2{at:03}", nine, 1, 1, received_ns=ABSENT_I64) for at in range(23)])
    assert main(["stats", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "and 3 more codes" in shown and "2019" in shown and "2020 " not in shown
