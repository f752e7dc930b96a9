"""What the recorder does about its disk: real small disks, filled, freed, taken away. The same by injected faults is
tested beside the log thread (`rust_indicators/src/wal/faulty_disk.rs`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from made_records import records, trades
from test_record import DAY, EVENTS, all_records, free_port, live, market, received, record_command, whole_day

from rust_indicators import Publisher, RingReader
from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig
from shijim_live.events import RECORD_BYTES, Kind, Status, decode_all
from shijim_live.record import wal
from shijim_live.record.recorder import RecordPlan, record, ring_path
from shijim_live.record.sink import Sink
from shijim_live.record.space import RecordError, require_room

__all__ = ["whole_day"]  # a fixture

WAIT_SECONDS_MAX = 60
SPEED = "3000"  # the day takes 23 s: time to fill a disk in the middle of it


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of the size asked for, with these options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small disk needs root")
        return place

    yield mount
    subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


class Recorder:
    """The real command on a small disk, and what fills it."""

    def __init__(self, place: Path, *more: str) -> None:
        self.place = place
        self.filler = place / "somebody-else"
        command = record_command(place, "--speed", SPEED, *more)
        self.stderr = place.parent / "stderr"
        with self.stderr.open("w") as file:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True)
        self.wait_until(lambda: self.counters().get("durable", 0) >= 50)

    def counters(self) -> dict[str, int]:
        ring = ring_path(self.place, 0)
        return RingReader(ring).counters() if ring.exists() else {}

    def wait_until(self, true: Callable[[], object]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not true():
            assert self.process.poll() is None, self.stderr.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def fill(self) -> None:
        with contextlib.suppress(OSError), self.filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))

    def fill_until_waiting(self) -> None:
        self.fill()
        self.wait_until(lambda: self.counters()["state"] == wal.RingState.WAITING)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=WAIT_SECONDS_MAX)
        return self.process.returncode, output


def statuses(rows: np.ndarray, kind: Kind) -> list[Status]:
    return [event for event in decode_all(rows[rows[:, 0] == kind].tobytes()) if isinstance(event, Status)]


def assert_all_but(rows: np.ndarray, day: np.ndarray, last_ns: int) -> None:
    """Byte for byte what the day delivered up to `last_ns`, but for what lies inside the outages of a full disk."""
    expected = day[received(day) <= last_ns]
    for outage in statuses(rows, Kind.OUTAGE):
        if "no space" in outage.text or "not running" in outage.text:
            inside = (received(expected) > outage.begin_ns) & (received(expected) < outage.end_ns)
            expected = expected[~inside]
    assert np.array_equal(market(rows), expected)


def test_a_full_disk_is_waited_for_and_recording_goes_on_by_itself_with_the_outage_in_the_log(
    small_disk: Callable[[str], Path], whole_day: Path
) -> None:
    place, port = small_disk("size=320m"), free_port()
    recorder = Recorder(place, "--metrics-port", str(port))
    recorder.fill_until_waiting()
    recorder.wait_until(lambda: recorder.counters()["not_recorded"] > 20)

    waiting = recorder.counters()
    assert waiting["accepted"] == waiting["durable"]  # with the ballast's help: the disk is full
    assert all(wal.footer(path) for path in wal.segment_paths(place / "wal"))
    shown = live("status", "--data-dir", str(place), "--json")
    assert (shown.returncode, json.loads(shown.stdout)["waiting_for_space"]) == (5, True)
    assert "waiting for space" in live("status", "--data-dir", str(place)).stdout
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    assert 'shijim_waiting_for_space{shard="0"} 1.0' in page

    recorder.filler.unlink()
    recorder.wait_until(lambda: recorder.counters()["durable"] > waiting["durable"] + 200)
    recorder.wait_until(lambda: "there is space again" in recorder.stderr.read_text())
    assert (place / "wal" / ".ballast-0").stat().st_size == 32 << 20
    code, output = recorder.end()
    assert (code, ": stopped\n" in output, "waiting for space" in recorder.stderr.read_text()) == (0, True, True)
    assert not (place / "wal" / ".ballast-0").exists()

    rows = all_records(place)
    [outage] = [outage for outage in statuses(rows, Kind.OUTAGE) if "no space" in outage.text]
    first_of_segments = {
        next(decode_all(next(wal.records(path)))).sequence for path in wal.segment_paths(place / "wal")
    }
    assert outage.sequence == waiting["durable"] + 1 and outage.sequence in first_of_segments
    assert outage.begin_ns == received(rows[: waiting["durable"]]).max()
    lost = int(outage.text.split("; ")[1].split()[0])
    assert_all_but(rows, market(all_records(whole_day)), int(received(rows).max()))
    delivered = market(all_records(whole_day))
    assert lost == ((received(delivered) > outage.begin_ns) & (received(delivered) < outage.end_ns)).sum()
    assert_the_trades_are_the_exchanges(rows, outage)


def assert_the_trades_are_the_exchanges(rows: np.ndarray, outage: Status) -> None:
    exchange = SimulatedExchange(date.fromisoformat(DAY), 1, SimulationConfig(target_events=EVENTS))
    truth = exchange.truth()["trades"]
    stamps = np.frombuffer(truth["received_ns"], "<i8")[np.frombuffer(truth["fate"], "<i4") == -1]
    away = (stamps > outage.begin_ns) & (stamps < outage.end_ns)
    recorded = set(received(rows[rows[:, 0] == Kind.TRADE]).tolist())
    assert away.any()
    assert recorded.isdisjoint(stamps[away].tolist())
    assert recorded.issuperset(stamps[~away & (stamps <= received(rows).max())].tolist())


def test_a_stop_while_waiting_ends_in_good_order_and_the_next_start_goes_on(
    small_disk: Callable[[str], Path], whole_day: Path
) -> None:
    place = small_disk("size=320m")
    recorder = Recorder(place)
    recorder.fill_until_waiting()
    recorder.wait_until(lambda: recorder.counters()["not_recorded"] > 20)
    recorder.fill()  # what the ballast gave
    code, output = recorder.end()
    assert code == 0, output
    assert ": stopped while waiting for space" in output and "events came while there was no space" in output
    rows = all_records(place)
    assert rows[-2:, 0].tolist() == [Kind.OUTAGE, Kind.STOP]
    assert f"recorded {len(rows):,} events, {len(rows):,} durable" in output
    assert_all_but(rows, market(all_records(whole_day)), int(received(rows).max()) - 1)

    recorder.filler.unlink()
    finished = subprocess.run(record_command(place), capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert all(wal.examine(path).soundness == wal.Soundness.SOUND for path in wal.segment_paths(place / "wal"))


def test_a_kill_while_waiting_loses_nothing_acknowledged(small_disk: Callable[[str], Path]) -> None:
    place = small_disk("size=320m")
    recorder = Recorder(place)
    recorder.fill_until_waiting()
    durable = recorder.counters()["durable"]
    recorder.end(signal.SIGKILL)
    assert len(all_records(place)) >= durable
    recorder.filler.unlink()
    finished = subprocess.run(record_command(place), capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    outages = [outage.text for outage in statuses(all_records(place), Kind.OUTAGE)]
    assert "recorder was not running" in outages


class PatientFeed:
    """Trades as fast as possible; in the middle of them somebody fills the disk, and frees it once we wait."""

    def __init__(self, place: Path) -> None:
        self.filler = place / "somebody-else"
        self.records = records(trades("TXFD6", "2026-04-09 09:00:00", [1] * 3_000, step_ns=1_000))
        self.publisher: Publisher | None = None

    def run(self, sink: Sink, stop: threading.Event, resume_after_ns: int | None) -> None:
        half = len(self.records) // 2
        sink.records(self.records[:half])
        with contextlib.suppress(OSError), self.filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        self.wait_for(wal.RingState.WAITING)
        freeing = threading.Timer(1.0, self.filler.unlink)
        freeing.start()
        sink.records(self.records[half:])
        freeing.join()

    def wait_for(self, state: wal.RingState) -> None:
        assert self.publisher is not None
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while self.publisher.counters()["state"] != state:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_feed_without_a_clock_waits_with_the_recorder_and_loses_nothing(small_disk: Callable[[str], Path]) -> None:
    place = small_disk("size=320m")
    plan = RecordPlan(
        raw_dir=place, shard=0, source="replay", clock="real", config={}, classes=(), ring_slots=1024,
        durability="sync", outage_ns=1, now_ns=time.time_ns, without_space="hand_back",
        run_id=lambda what: hashlib.sha256(what.encode()).hexdigest()[:16],
    )  # fmt: skip
    feed = PatientFeed(place)

    def started(publisher: Publisher) -> None:
        feed.publisher = publisher

    recording = record(plan, feed, threading.Event(), started)
    assert (recording.accepted, recording.counters["not_recorded"]) == (recording.durable, 0)
    rows = all_records(place)
    given = np.frombuffer(feed.records, np.uint8).reshape(-1, RECORD_BYTES)
    assert np.array_equal(market(rows), market(given))
    assert [outage.text for outage in statuses(rows, Kind.OUTAGE)] == [
        "no space on the disk of the log; 0 events were not recorded"
    ]


def test_a_full_disk_at_start_is_refused_before_anything_is_written(small_disk: Callable[[str], Path]) -> None:
    place = small_disk("size=1m")
    done = subprocess.run(record_command(place), capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "only 1 MiB free, recording needs 256 MiB" in done.stderr
    assert not list(place.rglob("*.wal"))


def test_a_read_only_disk_at_start_is_refused_with_its_name(small_disk: Callable[[str], Path]) -> None:
    place = small_disk("size=320m,ro")
    done = subprocess.run(record_command(place), capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert f"{place}: cannot be used for recording (Read-only file system)" in done.stderr


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "unmounted" / "disk")
    for place in ("file/data", "link"):
        with pytest.raises(RecordError, match=f"{place}: cannot be used for recording"):
            require_room(tmp_path / place, "sync")


def test_a_disk_that_is_unmounted_while_recording_stops_loudly_and_nothing_is_written_under_its_name(
    small_disk: Callable[[str], Path],
) -> None:
    place = small_disk("size=320m")
    recorder = Recorder(place)
    subprocess.run(["umount", "-l", str(place)], check=True)
    assert recorder.ended()[0] == 4
    assert "the log cannot be written: the folder of the log is gone" in recorder.stderr.read_text()
    assert not list(place.iterdir())
    ring_path(place, 0).unlink()


def lowest_free_descriptor(pid: int) -> int:
    time.sleep(0.005)
    taken = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in range(len(taken) + 1) if number not in taken)


def test_without_a_descriptor_for_the_next_segment_it_stops_loudly_with_everything_acknowledged_on_disk(
    tmp_path: Path,
) -> None:
    place = tmp_path / "data"
    recorder = Recorder(place)
    # More than once: at a rotation it has a folder open for a moment.
    lowest_free = min(lowest_free_descriptor(recorder.process.pid) for _ in range(20))
    resource.prlimit(recorder.process.pid, resource.RLIMIT_NOFILE, (lowest_free, lowest_free))
    assert recorder.ended()[0] == 4
    assert "Too many open files" in recorder.stderr.read_text()
    assert "Raise the limit of open files (ulimit -n)" in recorder.stderr.read_text()
    durable = recorder.counters()["durable"]
    assert durable == len(all_records(place)) >= 50
    ring_path(place, 0).unlink()
    finished = subprocess.run(record_command(place), capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
