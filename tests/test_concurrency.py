"""Several at once: threads that publish, readers of the ring, archivers, queries. Nothing is lost, nothing hangs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_publisher import Log, fop_tick
from test_record import record_command
from test_way import RECORD, arguments, run

from rust_indicators import Publisher, RingReader, SegmentReader
from shijim_live.events import Kind, Status, decode_all
from shijim_live.record.recorder import ring_path
from shijim_live.store.manifest import manifests

THREADS = 4
EACH = 4_000


@pytest.fixture
def eager_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("ring_slots", [4, 64, 1024])
@pytest.mark.usefixtures("eager_switching")
def test_threads_that_publish_at_once_lose_nothing_and_keep_their_own_order(tmp_path: Path, ring_slots: int) -> None:
    log = Log(tmp_path, ring_slots)
    each = EACH if ring_slots > 4 else 200
    given: list[list[int]] = [[] for _ in range(THREADS)]

    def publish(thread: int) -> None:
        quote = fop_tick()
        for number in range(each):
            given[thread].append(log.publisher.publish(quote, number, connection=thread))

    threads = [threading.Thread(target=publish, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a publisher hangs"
    events = log.finish()
    assert [event.sequence for event in events] == list(range(1, THREADS * each + 1))
    for thread in range(THREADS):
        mine = [event for event in events if event.connection == thread]
        assert [event.received_ns for event in mine] == list(range(each))
        assert [event.sequence for event in mine] == given[thread]


@pytest.mark.usefixtures("eager_switching")
def test_what_is_accepted_while_the_log_is_closed_is_on_disk_and_the_rest_is_refused(tmp_path: Path) -> None:
    log = Log(tmp_path, ring_slots=64)
    accepted: list[int] = []

    def publish() -> None:
        quote = fop_tick()
        while True:
            try:
                accepted.append(log.publisher.publish(quote, 1))
            except RuntimeError as error:
                assert "closed" in str(error)
                return

    threads = [threading.Thread(target=publish) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    while len(accepted) < 200:
        time.sleep(0.001)
    events = log.finish()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert sorted(accepted) == [event.sequence for event in events]
    with pytest.raises(RuntimeError, match="closed"):
        log.publisher.publish(fop_tick())
    assert log.publisher.counters()["accepted"] == len(events)


def test_nothing_is_accepted_once_the_log_thread_is_dead(tmp_path: Path) -> None:
    (tmp_path / "wal").write_text("a file where the folder should be")
    log = Log(tmp_path, ring_slots=1024)
    log.publisher.publish(fop_tick())
    while log.publisher.counters()["state"] != 3:
        time.sleep(0.001)
    accepted = log.publisher.accepted
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="the log cannot be written"):
        log.publisher.publish(fop_tick())
    assert time.monotonic() - started < 1 and log.publisher.accepted == accepted


READER = """
import sys, time
from pathlib import Path
from rust_indicators import Ended, Missed, RingReader, Restarted
path, deadline, runs, seen = Path(sys.argv[1]), time.monotonic() + 60, 1, 0
while not path.exists() and time.monotonic() < deadline:
    time.sleep(0.001)
reader, expected, ended = RingReader(path), 1, False
while time.monotonic() < deadline and not (ended and Path(sys.argv[2]).exists()):
    records, told = reader.poll(500)
    match told:
        case Missed(first, last):
            assert first == expected, (told, expected)
            expected = last + 1
        case Ended(run_id, how):
            assert run_id == reader.counters()["run_id"] and how == "died", told
            ended = True
        case Restarted():
            expected, ended, runs = 1, False, runs + 1
    for at in range(0, len(records), 256):
        sequence = int.from_bytes(records[at + 8 : at + 16], "little")
        assert sequence == expected, (sequence, expected)
        expected += 1
        seen += 1
print(runs, seen)
"""


def test_a_reader_in_another_process_survives_the_death_and_the_restart_of_the_writer(tmp_path: Path) -> None:
    done = tmp_path / "done"
    place = ring_path(tmp_path / "data", 0)
    command = [sys.executable, "-c", READER, str(place), str(done)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    record = record_command(tmp_path / "data", "--speed", "20000", "--restart-outage", "1")
    for _ in range(3):
        writer = subprocess.Popen(record, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        known = RingReader(place).counters()["run_id"] if place.exists() else 0
        deadline = time.monotonic() + 60
        while not place.exists() or RingReader(place).counters()["run_id"] == known:
            assert writer.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.3)
        writer.kill()
        writer.wait()
    done.touch()
    for reader in readers:
        output, errors = reader.communicate(timeout=60)
        assert reader.returncode == 0, errors
        runs, seen = map(int, output.split())
        assert runs == 3 and seen > 0


def test_two_archives_at_once_and_queries_beside_them_agree(tmp_path: Path) -> None:
    run(*RECORD, "--data-dir", str(tmp_path))
    archive = arguments("shijim", "archive", "--data-dir", str(tmp_path))
    both = [subprocess.Popen(archive, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    counts = []
    while any(process.poll() is None for process in both):
        if (tmp_path / "archive").is_dir():
            counts.append(int(run("shijim", "query", "SELECT count() AS n FROM ticks_raw", "--format", "csv",
                                  "--data-dir", str(tmp_path)).split()[-1]))  # fmt: skip
    for process in both:
        assert process.wait() == 0, process.stderr.read() if process.stderr else ""
    assert counts == sorted(counts)
    shown = run("shijim", "query", "SELECT count() AS n FROM ticks_raw", "--format", "csv", "--data-dir", str(tmp_path))
    stated = sum(
        file["rows"]
        for manifest in manifests(tmp_path / "archive").values()
        for file in manifest["files"]
        if file["table"] == "ticks"
    )
    assert int(shown.split()[-1]) == stated > 0
    assert not list((tmp_path / "archive").glob(".staging*"))


class Quote:
    """Anything with the attributes of one of the broker's objects."""

    close = open = Decimal(1)
    code, exchange = "2330", SimpleNamespace(value="TSE")
    datetime = datetime(2026, 4, 9)  # noqa: DTZ001 - the broker's stamps are naive


def test_an_object_that_no_record_holds_is_quarantined_with_the_reason_and_the_stream_goes_on(tmp_path: Path) -> None:
    spec = (Quote, 1, int(Kind.TRADE), [("close", "q", 56, 1), ("open", "q", 72, 1)], [])
    publisher = Publisher(ring_path=tmp_path / "ring", ring_slots=16, wal_dir=tmp_path / "wal", classes=[spec],
                          run_id="00000000000000ab", header='{"schema_version":1}', durability="write")  # fmt: skip
    wide, late, early = Quote(), Quote(), Quote()
    wide.close = Decimal("1" * 2000)  # more records of text than the ring takes at once
    late.datetime, early.datetime = datetime(9999, 4, 9), datetime(1, 4, 9)  # noqa: DTZ001
    for quote in (wide, late, early, Quote()):
        publisher.publish(quote, 1)
    assert publisher.close() == publisher.accepted
    assert publisher.counters()["quarantined"] == 3
    [path] = (tmp_path / "wal").rglob("*.wal")
    events = list(decode_all(SegmentReader(path).read(1000)))
    told = "".join(event.text for event in events if isinstance(event, Status))
    assert "oversize fields need 12 records" in told and "year 9999 does not fit" in told and "year 1 does" in told
    assert events[-1].kind == Kind.TRADE


def test_a_ring_gives_the_counters_of_the_writer_it_belongs_to(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.publisher.publish(fop_tick())
    assert RingReader(tmp_path / "ring").counters()["accepted"] == 1
    log.publisher.close()
    assert RingReader(tmp_path / "ring").counters()["state"] == 2
