"""The ring from the publishing process to a reader in another one, beside a pipe that carries the same records."""

from __future__ import annotations

import ctypes
import multiprocessing
import re
import subprocess
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benches import simulated
from benches.measure import ROOT, Bench, Effort, Row, folder_on_disk, percentile
from benches.simulated import EVENTS_PER_SECOND
from rust_indicators import RingReader
from shijim_live.events import RECORD_BYTES

BATCH_RECORDS = 4_096
RING_SLOTS = 1 << 18
P50_US_MAX, P99_US_MAX = 30, 300
# Millions of records a second from thread to thread, in batches: the ring itself, without Python or a log.
RING_MIN = 20
RECEIVED_WORD = 3  # of the 32 words of a record
PR_SET_TIMERSLACK = 29

Send = Callable[[bytes], object]


def sleep_precisely() -> None:
    """Lets this thread sleep to the microsecond: Linux adds up to 50 µs to a sleep unless told not to."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)


def wait_until(due_ns: int) -> None:
    while (early_ns := due_ns - time.time_ns()) > 0:
        time.sleep(early_ns / 1e9)


def rows(effort: Effort) -> list[Row]:
    paced = EVENTS_PER_SECOND * effort.seconds
    ways = {"ring": _through_ring, "pipe": _through_pipe}
    latency: dict[str, list[float]] = {name: [] for name in ways}
    speed: dict[str, list[float]] = {name: [] for name in ways}
    with folder_on_disk() as folder:
        blob = simulated.record_busily(folder / "source", simulated.payloads()[:100_000])
        for number in range(max(1, effort.rounds // 3)):
            for name, way in ways.items():
                stamps = way(folder / f"paced-{number}-{name}", paced, partial(_send_at_pace, blob, paced))
                latency[name] += [(arrived - sent) / 1_000 for arrived, sent in stamps]
        full = len(blob) // RECORD_BYTES
        for number in range(effort.rounds):
            for name, way in ways.items():
                stamps = way(folder / f"full-{number}-{name}", full, partial(_send_at_once, blob))
                speed[name].append(full / (stamps[-1][0] - stamps[0][1]) * 1_000)
    return [*_report(latency, {name: median(values) for name, values in speed.items()}), _ring_alone()]


def _ring_alone() -> Row:
    """The bench in Rust prints both sides of each of its rounds."""
    command = ["cargo", "bench", "--locked", "--quiet", "--manifest-path", str(ROOT / "rust_indicators/Cargo.toml")]
    shown = subprocess.run([*command, "--bench", "ring"], capture_output=True, text=True, check=True).stdout
    rounds = re.findall(r"^ring ([\d.]+) copies ([\d.]+)$", shown, re.MULTILINE)
    ours, copies = (median(float(each[side]) for each in rounds) for side in (0, 1))
    return Row("ring alone, thread to thread, batches of 256", f"{ours:.1f} M/s", f"bare copies {copies:.1f} M/s",
               f"{ours / copies:.2f}×", f"≥ {RING_MIN} M/s", ours >= RING_MIN)  # fmt: skip


def _report(latency: dict[str, list[float]], speed: dict[str, float]) -> list[Row]:
    found = []
    for name, share, limit in (("p50", 0.5, P50_US_MAX), ("p99", 0.99, P99_US_MAX)):
        ours, pipe = percentile(latency["ring"], share), percentile(latency["pipe"], share)
        found.append(Row(f"ring to another process, {name} at {EVENTS_PER_SECOND // 1000} k events/s", f"{ours:.0f} µs",
                         f"pipe {pipe:.0f} µs", f"{ours / pipe:.2f}×", f"≤ {limit} µs", ours <= limit))  # fmt: skip
    ours, pipe = speed["ring"], speed["pipe"]
    found.append(Row("ring to another process, at full speed", f"{ours:.2f} M/s", f"pipe {pipe:.2f} M/s",
                     f"{ours / pipe:.2f}×"))  # fmt: skip
    return found


def _send_at_pace(blob: bytes, count: int, send: Send) -> None:
    """One record at a time, each stamped when it is handed over."""
    sleep_precisely()
    words = np.frombuffer(blob, np.int64).reshape(-1, RECORD_BYTES // 8)
    start_ns = time.time_ns() + 20_000_000
    for index in range(count):
        record = words[index % len(words)].copy()
        wait_until(start_ns + index * 1_000_000_000 // EVENTS_PER_SECOND)
        record[RECEIVED_WORD] = time.time_ns()
        send(record.tobytes())


def _send_at_once(blob: bytes, send: Send) -> None:
    """Batches, stamped when the first of them is handed over."""
    words = np.frombuffer(blob, np.int64).reshape(-1, RECORD_BYTES // 8).copy()
    words[:, RECEIVED_WORD] = time.time_ns()
    for at in range(0, len(words), BATCH_RECORDS):
        send(words[at : at + BATCH_RECORDS].tobytes())


def _through_ring(folder: Path, count: int, run: Callable[[Send], None]) -> list[tuple[int, int]]:
    """(arrived, sent) in ns of every record."""
    folder.mkdir()
    publisher = simulated.open_publisher(folder, ring_slots=RING_SLOTS)
    stamps = _received(_read_ring, simulated.ring_path(folder), count, partial(run, publisher.publish_records))
    simulated.close(publisher, folder)
    return stamps


def _through_pipe(folder: Path, count: int, run: Callable[[Send], None]) -> list[tuple[int, int]]:
    reader, writer = multiprocessing.Pipe(duplex=False)
    return _received(_read_pipe, reader, count, partial(run, writer.send_bytes))


def _received(read: Callable[..., None], place: Any, count: int, run: Callable[[], None]) -> list[tuple[int, int]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=read, args=(place, count, theirs))
    process.start()
    ours.recv()  # it is ready
    run()
    stamps: list[tuple[int, int]] = ours.recv()
    process.join()
    return stamps


def _read_ring(path: Path, count: int, parent: Connection) -> None:
    sleep_precisely()
    reader = RingReader(path)
    parent.send("ready")
    arrivals: list[tuple[int, bytes]] = []
    while count > 0:
        records, told = reader.poll(BATCH_RECORDS)
        assert told is None, f"the reader was too slow: {told}"
        if records:
            arrivals.append((time.time_ns(), records))
            count -= len(records) // RECORD_BYTES
        else:
            time.sleep(0.00001)
    parent.send(_stamps(arrivals))


def _read_pipe(pipe: Connection, count: int, parent: Connection) -> None:
    parent.send("ready")
    arrivals: list[tuple[int, bytes]] = []
    while count > 0:
        records = pipe.recv_bytes()
        arrivals.append((time.time_ns(), records))
        count -= len(records) // RECORD_BYTES
    parent.send(_stamps(arrivals))


def _stamps(arrivals: list[tuple[int, bytes]]) -> list[tuple[int, int]]:
    words = ((arrived_ns, np.frombuffer(records, np.int64)) for arrived_ns, records in arrivals)
    return [
        (arrived_ns, sent) for arrived_ns, row in words for sent in row[RECEIVED_WORD :: RECORD_BYTES // 8].tolist()
    ]


BENCH = Bench(
    "handoff",
    rows,
    "A reader in a spawned process polls (10 µs of sleep when there is nothing) and takes now − `received_ns`, which "
    "the sender wrote right before the hand-over; the log thread syncs beside it. The pipe carries the same bytes, and "
    "nobody logs them. Alone: `cargo bench --bench ring`, 65,536 slots, a gating reader that copies every record out; "
    "its rival copies as many bytes into a buffer as large and out of another, on two threads that never meet.",
    "At live pace the scheduler: sender, log thread and reader share the cores. At full speed the copy into Python "
    "objects and the log thread's share of the cores. "
    "Alone: a cache line that another core has just written, four of them a record.",
)
