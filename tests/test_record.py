"""`shijim-live record` as a process: what it acknowledges is on disk, whatever happens to it."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import date
from pathlib import Path

import bad_sync
import numpy as np
import pytest
from dying_recorder import record_and_die
from made_records import records, trades
from test_publisher import Log

from rust_indicators import LogStatistics, Publisher, RingReader
from shijim_live.broker.connection import Connection
from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig
from shijim_live.calendar import SECOND_NS
from shijim_live.events import ABSENT_I64, Kind, Status
from shijim_live.record import wal
from shijim_live.record.recorder import (
    RecordPlan,
    Sink,
    is_recording,
    record,
    resume_point,
    ring_path,
)

DAY = "2026-04-09"
EVENTS = 40_000
COMMAND = [
    sys.executable,
    "-m",
    "shijim_live",
    "record",
    "--broker",
    "simulated",
    "--day",
    DAY,
    "--events",
    str(EVENTS),
]


def live(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shijim_live", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload,no-any-return]


def record_command(folder: Path, *more: str) -> list[str]:
    return [*COMMAND, "--data-dir", str(folder), "--metrics-port", "0", *more]


def all_records(folder: Path) -> np.ndarray:
    """Every record in the log as rows of 256 bytes, run by run in order of sequence."""
    headers = [wal.read_header(path) for path in wal.segment_paths(folder / "wal")]
    ordered = sorted(headers, key=lambda header: (header.created_ns, header.run_id, header.first_sequence))
    data = b"".join(chunk for header in ordered for chunk in wal.records(header.path))
    return np.frombuffer(data, np.uint8).reshape(-1, 256)


def market(rows: np.ndarray) -> np.ndarray:
    """Trades and books in order of receipt, without the sequence: what two runs of one day must agree on."""
    rows = rows[rows[:, 0] <= Kind.BOOK].copy()
    rows[:, 8:16] = 0
    return rows[np.argsort(received(rows), kind="stable")]


def received(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows[:, 24:32]).view("<i8")[:, 0]


def sequences(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows[:, 8:16]).view("<u8")[:, 0]


@pytest.fixture(scope="module")
def whole_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    subprocess.run(record_command(folder), check=True, capture_output=True)
    return folder


def test_a_day_is_recorded_without_a_gap_in_sequence_and_sealed(whole_day: Path) -> None:
    rows = all_records(whole_day)
    assert sequences(rows).tolist() == list(range(1, len(rows) + 1))
    assert (np.diff(received(rows)) >= 0).all()  # the stop stands behind the last event, in time too
    assert all(wal.footer(path) for path in wal.segment_paths(whole_day / "wal"))
    assert not ring_path(whole_day, 0).exists()
    assert abs(len(rows) - EVENTS) < EVENTS * 0.06


def test_what_was_delivered_is_what_was_recorded(whole_day: Path) -> None:
    exchange = SimulatedExchange(date.fromisoformat(DAY), 1, SimulationConfig(target_events=EVENTS))
    trades = exchange.truth()["trades"]
    delivered = np.frombuffer(trades["fate"], "<i4") == -1
    truth = set(zip(np.frombuffer(trades["received_ns"], "<i8")[delivered].tolist(),
                    np.frombuffer(trades["volume"], "<u4")[delivered].tolist(), strict=True))  # fmt: skip
    rows = all_records(whole_day)
    recorded = rows[(rows[:, 0] == Kind.TRADE) & (rows[:, 2] != 3)]
    volumes = np.ascontiguousarray(recorded[:, 64:68]).view("<u4")[:, 0]
    found = set(zip(received(recorded).tolist(), volumes.tolist(), strict=True))
    assert truth <= found  # what is recorded beyond the truth are the repeats
    assert len(found - truth) <= SimulationConfig().repeats


@pytest.mark.parametrize("at_least", [1, EVENTS // 3, EVENTS * 3 // 4])
def test_a_killed_recorder_loses_nothing_acknowledged_and_goes_on(
    tmp_path: Path, whole_day: Path, at_least: int
) -> None:
    acknowledged = record_and_die(tmp_path, at_least, record_command(tmp_path)[3:])
    assert acknowledged >= at_least
    before = all_records(tmp_path)
    assert len(before) >= acknowledged
    assert sequences(before)[:acknowledged].tolist() == list(range(1, acknowledged + 1))

    finished = subprocess.run(record_command(tmp_path), capture_output=True, text=True, check=True)
    assert "resumed after" in finished.stdout

    rows = all_records(tmp_path)
    outages = [row for row in rows if row[0] == Kind.OUTAGE and b"recorder was not running" in row.tobytes()]
    begin_ns, end_ns = np.ascontiguousarray(outages[0][56:72]).view("<i8").tolist()
    assert len(outages) == 1
    assert begin_ns == received(before).max()
    assert end_ns - begin_ns == 30 * SECOND_NS
    expected = market(all_records(whole_day))
    away = (received(expected) > begin_ns) & (received(expected) <= end_ns)
    assert np.array_equal(market(rows), expected[~away])
    assert all(wal.examine(path).soundness == wal.Soundness.SOUND for path in wal.segment_paths(tmp_path / "wal"))


def test_an_outage_is_told_before_the_connection_that_ended_it_also_from_before_the_run(
    tmp_path: Path,
) -> None:
    log = Log(tmp_path)
    sink = Sink(log.publisher, down_since_ns=5)
    for change, received_ns in ((Connection.UP, 9), (Connection.UP, 10), (Connection.DOWN, 20), (Connection.UP, 30)):
        sink.connection(change, received_ns)
    told = [(event.kind, event.begin_ns, event.end_ns) for event in log.finish() if isinstance(event, Status)]
    connection = (Kind.CONNECTION, ABSENT_I64, ABSENT_I64)
    outages = [(Kind.OUTAGE, 5, 9), (Kind.OUTAGE, 20, 30)]
    assert told == [outages[0], connection, connection, connection, outages[1], connection]


class BrokenFeed:
    """Trades of one code, then it breaks."""

    def __init__(self, volumes: list[int], total: int) -> None:
        self.records = records(trades("TXFD6", "2026-04-09 09:00:00", volumes, total, step_ns=1_000))

    def run(self, sink: Sink, stop: threading.Event, resume_after_ns: int | None) -> None:
        sink.records(self.records)
        raise ValueError("the feed broke")


def test_a_feed_that_breaks_has_not_ended_the_day_and_the_next_run_judges_by_what_it_had_seen(tmp_path: Path) -> None:
    plan = RecordPlan(
        raw_dir=tmp_path, shard=0, source="simulated", clock="simulated", config={}, classes=(), ring_slots=1024,
        durability="sync", outage_ns=1, now_ns=lambda: 1_775_665_800_000_000_000,
        run_id=lambda what: hashlib.sha256(what.encode()).hexdigest()[:16],
    )  # fmt: skip
    missing = []
    for volumes, total in (([1] * 5, 0), ([1] * 5, 7)):
        publishers: list[Publisher] = []
        with pytest.raises(ValueError, match="the feed broke"):
            record(plan, BrokenFeed(volumes, total), threading.Event(), publishers.append)
        assert resume_point(plan) is not None
        missing.append(publishers[0].counters()["lots_missing"])
    assert missing == [0, 2]


def test_another_simulation_of_a_day_does_not_mix_with_the_one_that_is_there(whole_day: Path) -> None:
    other = subprocess.run(record_command(whole_day, "--seed", "2"), capture_output=True, text=True, check=False)
    assert other.returncode == 4 and other.stderr.count("\n") == 1
    assert "holds another simulation of this day" in other.stderr


def test_a_day_that_is_in_the_log_is_not_recorded_again(whole_day: Path) -> None:
    again = subprocess.run(record_command(whole_day), capture_output=True, text=True, check=False)
    assert again.returncode == 4
    assert "holds this day already" in again.stderr and again.stderr.count("\n") == 1


def test_stopping_drains_and_seals_and_a_later_start_goes_on(tmp_path: Path, whole_day: Path) -> None:
    command = record_command(tmp_path, "--speed", "20000")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    while not ring_path(tmp_path, 0).exists() or RingReader(ring_path(tmp_path, 0)).counters()["durable"] < 50:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert ": stopped" in output
    assert all(wal.footer(path) for path in wal.segment_paths(tmp_path / "wal"))
    stopped_at = received(all_records(tmp_path)).max()
    subprocess.run(record_command(tmp_path), check=True, capture_output=True)
    expected = market(all_records(whole_day))
    away = (received(expected) > stopped_at) & (received(expected) <= stopped_at + 30 * SECOND_NS)
    assert np.array_equal(market(all_records(tmp_path)), expected[~away])


def test_a_second_recorder_is_refused_with_the_owner(tmp_path: Path) -> None:
    command = record_command(tmp_path, "--speed", "1")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not ring_path(tmp_path, 0).exists():
            assert process.poll() is None
            time.sleep(0.01)
        assert is_recording(tmp_path / "wal")
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode == 4
        owner = rf"is being recorded by process {process.pid} on {re.escape(socket.gethostname())} since \d{{4}}-"
        assert re.search(owner, second.stderr)
        found = json.loads(live("status", "--data-dir", str(tmp_path), "--json").stdout)
        assert found["recording"] is True and found["pid"] == process.pid
        assert live("verify", str(tmp_path / "wal")).returncode == 0  # open, but its recorder lives
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_a_recorder_leaves_the_open_segment_of_another_shard_alone(tmp_path: Path) -> None:
    first = subprocess.Popen(
        record_command(tmp_path, "--speed", "1", "--shard", "0/2"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not list(tmp_path.rglob("*.wal")):
            assert first.poll() is None
            time.sleep(0.01)
        [open_segment] = tmp_path.rglob("*.wal")
        next_day = record_command(tmp_path, "--shard", "1/2", "--day", "2026-04-10")
        second = subprocess.run(next_day, capture_output=True, text=True, check=False)
        assert second.returncode == 0, second.stderr
        assert wal.footer(open_segment) is None
    finally:
        first.terminate()
        assert first.wait(30) == 0
    assert wal.footer(open_segment) is not None


@pytest.mark.parametrize(("durability", "recorded"), [("sync", False), ("write", False), ("off", True)])
def test_durability_off_alone_records_on_a_disk_that_cannot_sync(
    tmp_path: Path, durability: str, recorded: bool
) -> None:
    command = record_command(tmp_path, "--durability", durability, "--events", "5000")
    failing = bad_sync.environment(fails_with=errno.EIO)
    done = subprocess.run(command, env=failing, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is recorded, done.stderr
    assert recorded or "cannot be used for recording (Input/output error)" in done.stderr
    sealed = [wal.footer(path) is not None for path in tmp_path.rglob("*.wal")]
    assert all(sealed) and len(sealed) > 50 if recorded else sealed == []


@pytest.mark.parametrize(
    ("durability", "said"),
    [
        ("sync", ""),
        ("write", "durable means that the kernel has it: a power cut loses"),
        ("off", "nothing is synced: a power cut can take any segment"),
    ],
)
def test_less_than_sync_says_its_risk(tmp_path: Path, durability: str, said: str) -> None:
    done = live("record", *record_command(tmp_path, "--durability", durability, "--events", "5000")[4:])
    assert done.returncode == 0, done.stderr
    assert said in done.stderr and done.stderr.count("--durability") == bool(said)


def test_a_commit_interval_gives_fewer_and_larger_commits_and_the_same_events(tmp_path: Path) -> None:
    """At a pace of some 5,000 events a second, whatever the disk: 15 ms hold dozens of them."""
    blocks, rows = [], []
    for interval in ("0", "15"):
        folder = tmp_path / interval
        done = live("record", *record_command(folder, "--speed", "30000", "--events", "15000")[4:],
                    "--commit-interval-ms", interval)  # fmt: skip
        assert done.returncode == 0, done.stderr
        rows.append(market(all_records(folder)))
        log = LogStatistics()
        blocks.append(sum(len(log.add(path).block_records) for path in wal.segment_paths(folder / "wal")))
    assert np.array_equal(*rows)
    assert blocks[1] < blocks[0] / 3


def test_a_replay_records_the_same_market_again(tmp_path: Path, whole_day: Path) -> None:
    done = live("record", "--broker", "replay", "--from", str(whole_day / "wal"), "--data-dir", str(tmp_path),
                "--metrics-port", "0")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.array_equal(market(all_records(tmp_path)), market(all_records(whole_day)))
    first, second = (wal.read_header(wal.segment_paths(folder / "wal")[0]) for folder in (whole_day, tmp_path))
    assert (first.source, second.source) == ("simulated", "replay")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_the_counters_are_served_while_recording(tmp_path: Path) -> None:
    port = free_port()
    command = [*COMMAND, "--data-dir", str(tmp_path), "--metrics-port", str(port), "--speed", "5000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        values: dict[str, float] = {}
        while values.get("shijim_durable_events_total", 0) < 20:
            assert process.poll() is None
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
            except OSError:
                time.sleep(0.05)
                continue
            lines = [line for line in page.splitlines() if line.startswith("shijim") and "_created" not in line]
            values = {line.split("{")[0]: float(line.split()[-1]) for line in lines}
    finally:
        process.terminate()
        process.wait(30)
    assert sorted(values) == [
        "shijim_accepted_events_total", "shijim_blocked_seconds_total", "shijim_disk_free_bytes",
        "shijim_durable_events_total", "shijim_lots_missing", "shijim_missed_events_total",
        "shijim_not_recorded_events_total", "shijim_ring_depth_events", "shijim_ring_depth_events_max",
        "shijim_ring_high_water_total", "shijim_ring_slots", "shijim_waiting_for_space",
    ]  # fmt: skip
    assert values["shijim_accepted_events_total"] >= values["shijim_durable_events_total"]
    assert values["shijim_disk_free_bytes"] > 0


def test_a_taken_metrics_port_does_not_stop_the_recording(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        done = live(*COMMAND[3:], "--data-dir", str(tmp_path), "--metrics-port", str(port))
    assert done.returncode == 0
    assert f"no /metrics, port {port}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--broker", "simulated"], 2, "--day is missing"),
        (["--broker", "simulated", "--day", "2026-04-11"], 4, "2026-04-11"),  # a Saturday
        (["--broker", "simulated", "--day", "yesterday"], 2, "write YYYY-MM-DD"),
        (["--broker", "simulated", "--day", DAY, "--speed", "0"], 2, "is not a speed"),
        (["--broker", "simulated", "--day", DAY, "--shard", "2/2"], 2, "shards count from 0"),
        (["--broker", "simulated", "--day", DAY, "--shard", "one"], 2, "write I/N"),
        (["--broker", "simulated", "--day", DAY, "--commit-interval-ms", "1001"], 2, "write milliseconds, 0 to 1000"),
        (["--broker", "simulated", "--day", DAY, "--durability", "maybe"], 2, "'sync', 'write', 'off'"),
        (["--broker", "replay"], 2, "--from is missing"),
        (["--broker", "replay", "--from", "/nowhere"], 4, "/nowhere: no such file or folder"),
        (["--broker", "carrier-pigeon"], 2, "invalid choice"),
    ],
)
def test_a_bad_option_is_one_clear_line_and_nothing_is_written(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    place = tmp_path / "data"
    done = live("record", *arguments, "--data-dir", str(place))
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.wal"))


def test_status_tells_of_a_segment_it_cannot_read_and_of_the_rest(tmp_path: Path, whole_day: Path) -> None:
    shutil.copytree(whole_day / "wal", tmp_path / "wal")
    first = wal.segment_paths(tmp_path / "wal")[0]
    first.write_bytes(b"X" + first.read_bytes()[1:])
    found = json.loads(live("status", "--data-dir", str(tmp_path), "--json").stdout)
    assert (found["unreadable_segments"], found["sealed_segments"]) == (1, found["segments"] - 1)
    assert "1 segments cannot be read. Run: shijim-live verify" in live("status", "--data-dir", str(tmp_path)).stdout
