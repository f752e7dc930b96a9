"""From the moment an event was due to the moment it is on the disk, at live pace, beside a bare `fdatasync`."""

from __future__ import annotations

import bisect
import multiprocessing
import os
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benches import machine, simulated
from benches.handoff import sleep_precisely, wait_until
from benches.measure import ROOT, Bench, Effort, Row, folder_on_disk, percentile
from benches.simulated import EVENTS_PER_SECOND
from rust_indicators import RingReader

SYNCS = 300  # bare appends a round
PREWRITTEN_BYTES = 4 << 20  # a sync then changes contents only: the least a commit can cost
ALLOWED_MS, ALLOWED_SYNCS = 1.0, 3.0
SAMPLE_SECONDS = 0.00002


def rows(effort: Effort) -> list[Row]:
    count = EVENTS_PER_SECOND * effort.seconds
    latency: list[float] = []
    late: list[float] = []
    bare: list[float] = []
    with folder_on_disk() as folder:
        for number in range(max(2, effort.rounds // 2)):
            paced = _one_round(folder / f"round{number}", count)
            latency += paced.latency_ms
            late += paced.late_ms
            bare += _bare_syncs(folder / f"bare{number}", paced.block_bytes)
    return [
        *_report(latency, bare),
        Row(
            "… of which the sender's own lateness, p50 / p99",
            f"{percentile(late, 0.5):.2f} / {percentile(late, 0.99):.2f} ms",
        ),
        Row("… size of a commit in the last round", f"{count / paced.blocks:.1f} events, {paced.block_bytes:,} B"),
    ]


@dataclass(frozen=True, slots=True)
class _Paced:
    """One round: from due to durable, and from due to handed over, of every event."""

    latency_ms: list[float]
    late_ms: list[float]
    block_bytes: int
    blocks: int


def _report(latency: list[float], bare: list[float]) -> list[Row]:
    found = []
    what = f"due → durable at {EVENTS_PER_SECOND // 1000} k events/s"
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        ours, sync = percentile(latency, share), percentile(bare, share)
        limit = ALLOWED_MS + ALLOWED_SYNCS * sync
        hold = (f"≤ 1 ms + 3 × = {limit:.2f} ms", ours <= limit) if name == "p99" else ("–", None)
        found.append(Row(f"{what}, {name}", f"{ours:.2f} ms", f"fdatasync {sync:.2f} ms", f"{ours / sync:.1f}×", *hold))
    return found


def _one_round(folder: Path, count: int) -> _Paced:
    folder.mkdir()
    payloads = simulated.payloads()
    quotes = simulated.objects([payloads[index % len(payloads)] for index in range(count)])
    publisher = simulated.open_publisher(folder, ring_slots=1 << 17)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    sampler = context.Process(target=sample_durable, args=(simulated.ring_path(folder), theirs))
    sampler.start()
    ours.recv()
    sleep_precisely()
    start_ns = time.time_ns() + 20_000_000
    due = [start_ns + index * 1_000_000_000 // EVENTS_PER_SECOND for index in range(count)]
    handed = []
    for due_ns, quote in zip(due, quotes, strict=True):
        wait_until(due_ns)
        handed.append(time.time_ns())
        # Stamped with the time it was due: an event that a stall held up counts the stall.
        publisher.publish(quote, due_ns)
    ours.send(count)
    samples: list[tuple[int, int]] = ours.recv()
    sampler.join()
    counters = publisher.counters()
    simulated.close(publisher, folder)
    durable = [sequence for sequence, _ in samples]
    seen = (samples[bisect.bisect_left(durable, sequence)][1] for sequence in range(1, count + 1))
    return _Paced(
        latency_ms=[(seen_ns - due_ns) / 1e6 for seen_ns, due_ns in zip(seen, due, strict=True)],
        late_ms=[(handed_ns - due_ns) / 1e6 for handed_ns, due_ns in zip(handed, due, strict=True)],
        block_bytes=counters["log_bytes"] // counters["blocks"],
        blocks=counters["blocks"],
    )


def sample_durable(ring: Path, parent: Connection) -> None:
    """(durable sequence, when it was first seen), from outside: an event is durable when a reader can know it.

    Ends at the sequence that the parent names when it has sent all.
    """
    sleep_precisely()
    reader = RingReader(ring)
    parent.send("ready")
    samples = [(0, 0)]
    last: int | None = None
    while last is None or samples[-1][0] < last:
        if (durable := reader.durable) > samples[-1][0]:
            samples.append((durable, time.time_ns()))
        elif last is None and parent.poll():
            last = parent.recv()
        time.sleep(SAMPLE_SECONDS)
    parent.send(samples)


def _bare_syncs(path: Path, size: int) -> list[float]:
    """ms of `pwrite` and `fdatasync` of one commit's bytes, one after the other, nothing else."""
    block = os.urandom(size)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(descriptor, bytes(PREWRITTEN_BYTES), 0)
        os.fsync(descriptor)
        times = []
        for number in range(SYNCS):
            started = time.perf_counter_ns()
            os.pwrite(descriptor, block, number * size % (PREWRITTEN_BYTES - size))
            os.fdatasync(descriptor)
            times.append((time.perf_counter_ns() - started) / 1e6)
        return times
    finally:
        os.close(descriptor)


BENCH = Bench(
    "durable",
    rows,
    "SDK objects are published when they are due, and a late one keeps its due time (no coordinated omission); another "
    "process samples the ring's durable sequence every 20 µs. Bare: `pwrite` + `fdatasync` of a commit's bytes into "
    f"pre-written space of the same disk, between the rounds. The disk: {machine.disk(ROOT)}.",
    "The disk's sync: an event waits for the one in progress and for its own; the sampler and a sender that oversleeps "
    "count against us.",
)
