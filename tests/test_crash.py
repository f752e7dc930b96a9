"""Killed from outside at any moment, on a real disk: nothing acknowledged is lost, restarts go on, reruns converge,
nothing half-done shows. Kills at named points, and of the archive, are test_crash_matrix.py's.

A few kills here; `make crash` does more, another seed others (SHIJIM_CRASH_KILLS, SHIJIM_CRASH_SEED).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_record import all_records, market, received, sequences
from test_way import DAY, EVENTS, RECORD, Truth, arguments, missing_by_stream, report_of, run

from rust_indicators import RingReader
from shijim_live.events import Kind
from shijim_live.record import wal
from shijim_live.record.recorder import ring_path
from shijim_live.store.lake import Lake
from shijim_live.store.manifest import read_manifest

# Against the kills of the matrix, which are quick.
KILLS = max(8, int(os.environ.get("SHIJIM_CRASH_KILLS", "0")) // 5)
SEED = int(os.environ.get("SHIJIM_CRASH_SEED", "1"))
START_UP_SECONDS = 0.5  # until the log is opened; kills begin there
RUN_SECONDS_MAX = 1.2
# So that the day is over about when the kills are.
SPEED = 83_000 / (0.6 * KILLS)


def kill_after(command: list[str], seconds: float) -> bool:
    """Starts a command and kills it; False when it had ended before. Its failure is the test's."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        assert process.returncode in (0, -signal.SIGKILL)
        return True
    assert process.returncode == 0 or "holds this day already" in errors, errors
    return False


def acknowledged(folder: Path) -> tuple[int, int]:
    """(run, durable sequence) that the ring of a dead or living recorder shows."""
    if not ring_path(folder, 0).exists():
        return 0, 0
    counters = RingReader(ring_path(folder, 0)).counters()
    return counters["run_id"], counters["durable"]


@pytest.fixture(scope="module")
def whole_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(*RECORD, "--data-dir", str(folder))
    return folder


@pytest.fixture(scope="module")
def crashed_day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, int]]:
    """A day whose recorder was killed again and again; what it had acknowledged, by run."""
    folder = tmp_path_factory.mktemp("crashed")
    moments = random.Random(SEED)
    command = arguments(*RECORD, "--data-dir", str(folder), "--speed", str(SPEED), "--restart-outage", "1")
    promised: dict[int, int] = {}
    for killed in range(KILLS):
        # Half of them within start-up, where segments are repaired and the ring is made.
        seconds = START_UP_SECONDS + moments.random() * (0.3 if moments.random() < 0.5 else RUN_SECONDS_MAX)
        if not kill_after(command, seconds):
            assert killed >= KILLS // 3, "the day was over too early to say much"
            break
        run_id, durable = acknowledged(folder)
        promised[run_id] = max(durable, promised.get(run_id, 0))
    kill_after(arguments(*RECORD, "--data-dir", str(folder), "--restart-outage", "1"), 120)
    return folder, promised


def test_nothing_acknowledged_is_lost_and_every_run_is_without_a_hole(crashed_day: tuple[Path, dict[int, int]]) -> None:
    folder, promised = crashed_day
    by_run: dict[int, list[int]] = {}
    for path in wal.segment_paths(folder / "wal"):
        segment = wal.examine(path)
        assert segment.state == "sealed" and not segment.problems
        found = [sequences(np.frombuffer(chunk, np.uint8).reshape(-1, 256)) for chunk in wal.records(path)]
        by_run.setdefault(int(segment.header.run_id, 16), []).extend(np.concatenate(found or [[]]).astype(int).tolist())
    for run_id, numbers in by_run.items():
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= promised.get(run_id, 0)
    for run_id, durable in promised.items():
        assert len(by_run.get(run_id, [])) >= durable


def away(folder: Path) -> list[tuple[int, int]]:
    rows = all_records(folder)
    outages = [row for row in rows if row[0] == Kind.OUTAGE and b"recorder was not running" in row.tobytes()]
    return [tuple(np.ascontiguousarray(row[56:72]).view("<i8").tolist()) for row in outages]


def test_the_crashed_day_is_the_uninterrupted_one_but_for_its_outages(
    crashed_day: tuple[Path, dict[int, int]], whole_day: Path
) -> None:
    expected = market(all_records(whole_day))
    stamps = received(expected)
    lost = np.zeros(len(expected), bool)
    for begin_ns, end_ns in away(crashed_day[0]):
        lost |= (stamps > begin_ns) & (stamps <= end_ns)
    assert np.array_equal(market(all_records(crashed_day[0])), expected[~lost])


def test_the_audit_of_the_crashed_day_counts_every_lot(crashed_day: tuple[Path, dict[int, int]]) -> None:
    folder, _ = crashed_day
    run("shijim", "archive", "--data-dir", str(folder))
    truth = Truth()
    for begin_ns, end_ns in away(folder):
        truth.delivered &= ~((truth.received_ns > begin_ns) & (truth.received_ns <= end_ns))
    assert missing_by_stream(report_of(folder)) == truth.missing()


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A foreign recording that takes a while to read."""
    path = tmp_path_factory.mktemp("foreign") / "stream.jsonl"
    line = (
        '{{"type":"MD_TICK","symbol":"2330","exchange":"TSE","ts_ns":{ns},"price":1000.5,"size":1,"total_volume":{n},'
        '"extras":{{"tick_type":1,"amount":1000.5}}}}\n'
    )
    first_ns = 1_775_725_200_000_000_000  # 09:00 of 2026-04-09 on Taipei's wall clock, as if it were UTC
    path.write_text("".join(line.format(ns=first_ns + n * 1_000_000, n=n) for n in range(1, 60_001)))
    return path


def test_an_import_killed_at_any_moment_is_all_there_or_not_at_all(stream: Path, tmp_path: Path) -> None:
    command = arguments("shijim", "import", str(stream), "--data-dir", str(tmp_path))
    moments = random.Random(SEED)
    for _ in range(max(3, KILLS // 4)):
        killed = kill_after(command, 0.6 + 2.0 * moments.random())
        segments = list((tmp_path / "wal").rglob("*.wal"))
        assert sum(wal.examine(path).records for path in segments) in (0, 60_000)
        if not killed:
            break
    assert "60,000 events" in run("shijim", "import", str(stream), "--data-dir", str(tmp_path))
    assert not list(tmp_path.glob(".import*"))


def test_a_dataset_killed_at_any_moment_is_never_one_that_a_backtest_takes_for_another(whole_day: Path) -> None:
    from shijim_pipelines.event_file import content_sha256, validate_npz
    from shijim_pipelines.hft_dataset import read_contract

    run("shijim", "archive", "--data-dir", str(whole_day))
    command = arguments("shijim", "dataset", "--day", str(DAY), "--symbol", "TXFD6", "--data-dir", str(whole_day))
    moments = random.Random(SEED)
    npz = whole_day / "datasets" / str(DAY) / "TXFD6.npz"
    for _ in range(max(3, KILLS // 4)):
        kill_after(command, 1.5 + 2.5 * moments.random())
        if npz.with_suffix(".meta.json").exists():
            assert content_sha256(validate_npz(npz)) == read_contract(npz.with_suffix(".meta.json"))[1]
    run("shijim", *command[3:])
    assert content_sha256(validate_npz(npz)) == read_contract(npz.with_suffix(".meta.json"))[1]


def test_a_run_that_died_before_its_first_event_was_durable_is_in_nobodys_way(tmp_path: Path) -> None:
    """Its segment is there, empty, under the name that the same run would choose again."""
    run(*RECORD, "--data-dir", str(tmp_path / "once"))
    [first, *_] = wal.segment_paths(tmp_path / "once" / "wal")
    header_bytes = 16 + int.from_bytes(first.read_bytes()[8:12], "little")
    place = tmp_path / "again" / "wal" / first.parent.name
    place.mkdir(parents=True)
    for tail in (b"", bytes(4096), b"SBLK\x01 torn"):
        (place / first.name).write_bytes(first.read_bytes()[:header_bytes] + tail)
    run(*RECORD, "--data-dir", str(tmp_path / "again"))
    assert len(market(all_records(tmp_path / "again"))) == len(market(all_records(tmp_path / "once")))


def test_a_segment_that_cannot_be_read_does_not_keep_a_recorder_from_starting(tmp_path: Path) -> None:
    place = tmp_path / "wal" / "2026-04-08-night"
    place.mkdir(parents=True)
    (place / "00000000000000cc-0001.wal").write_bytes(b"SHIJIMW1" + os.urandom(100))
    (place / "00000000000000cd-0001.wal").write_bytes(b"")
    run(*RECORD, "--data-dir", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "shijim_live", "verify", str(tmp_path / "wal")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3 and done.stdout.count("damaged") + done.stdout.count("not a Shijim log segment") == 2


def test_a_recorder_leaves_the_open_segments_of_another_shard_alone(tmp_path: Path) -> None:
    command = arguments(*RECORD, "--data-dir", str(tmp_path), "--speed", "2000", "--shard", "1/2")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not ring_path(tmp_path, 1).exists() or RingReader(ring_path(tmp_path, 1)).counters()["durable"] < 20:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        [living] = [path for path in wal.segment_paths(tmp_path / "wal") if wal.footer(path) is None]
        assert wal.recover(tmp_path / "wal", shard=0) == []
        assert wal.footer(living) is None
        for place in (tmp_path / "wal", living.parent, living):
            repaired = subprocess.run(
                [sys.executable, "-m", "shijim_live", "repair", str(place)], capture_output=True, text=True, check=False
            )
            assert repaired.returncode == 4 and "a recorder is writing here" in repaired.stderr
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_what_the_lake_shows_of_a_segment_is_what_its_manifest_says(whole_day: Path) -> None:
    run("shijim", "archive", "--data-dir", str(whole_day))
    archive = whole_day / "archive"
    keys = [path.stem for path in (archive / "segments").glob("*.json")]
    stated = sum(manifest["records"] for key in keys if (manifest := read_manifest(archive, key)))
    lake = Lake(archive)
    shown = sum(lake.query(f"SELECT count() AS n FROM {t}_raw")["n"][0].as_py() for t in ("ticks", "books", "statuses"))
    assert shown == stated and stated > EVENTS * 0.9
