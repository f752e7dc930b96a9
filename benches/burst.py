"""Ten times the busiest pace for a second: nothing may be lost, and how soon all that was due is on the disk."""

from __future__ import annotations

import multiprocessing
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benches import simulated
from benches.durable import sample_durable
from benches.handoff import sleep_precisely, wait_until
from benches.measure import Bench, Effort, Row, folder_on_disk
from benches.simulated import EVENTS_PER_SECOND
from rust_indicators import Publisher
from shijim_live.events import RECORD_BYTES

TIMES = 10
MILLISECOND_NS = 1_000_000
BEFORE_MS, BURST_MS, AFTER_MS = 500, 1_000, 2_500
GONE_SECONDS_MAX = 1.0
# A backlog is gone when no more is open than comes in this time at the usual pace: some commits of any disk.
SETTLED_SECONDS = 0.01
RECORDS_A_CALL_MAX = 8_192

Send = Callable[[Publisher, list[int]], None]


@dataclass(frozen=True, slots=True)
class _Burst:
    """One round."""

    backlog_max: int  # events due and not durable
    gone_seconds: float  # from the end of the burst
    blocked_seconds: float  # the feed's callback waited for room in the ring


def rows(effort: Effort) -> list[Row]:
    due = _offsets_ns()
    payloads = simulated.payloads()
    chosen = [payloads[index % len(payloads)] for index in range(len(due))]
    found: dict[str, list[_Burst]] = {"decoded records": [], "SDK objects": []}
    with folder_on_disk() as folder:
        blob = simulated.record_busily(folder / "source", payloads)
        blob = (blob * (1 + len(due) * RECORD_BYTES // len(blob)))[: len(due) * RECORD_BYTES]
        for number in range(max(1, effort.rounds // 3)):
            found["decoded records"].append(_one(folder / f"records{number}", due, _records(blob)))
            found["SDK objects"].append(_one(folder / f"objects{number}", due, _objects(simulated.objects(chosen))))
    return [row for name, bursts in found.items() for row in _report(name, bursts)]


def _report(name: str, bursts: list[_Burst]) -> list[Row]:
    gone = median(burst.gone_seconds for burst in bursts)
    backlog, blocked = (
        median(getattr(burst, field) for burst in bursts) for field in ("backlog_max", "blocked_seconds")
    )
    pace = f"{TIMES * EVENTS_PER_SECOND // 1000} k/s"
    return [
        Row(f"burst of {BURST_MS // 1_000} s at {pace}, {name}: backlog gone after", f"{gone:.2f} s", "–", "–",
            f"≤ {GONE_SECONDS_MAX:.0f} s", gone <= GONE_SECONDS_MAX),
        Row("… most events due and not yet durable, and the callback's wait for the ring",
            f"{backlog:,.0f}, {blocked:.2f} s"),
    ]  # fmt: skip


def _offsets_ns() -> list[int]:
    """When each event is due, from the start."""
    due: list[int] = []
    start_ns = 0
    for lasts_ms, pace in ((BEFORE_MS, 1), (BURST_MS, TIMES), (AFTER_MS, 1)):
        count = lasts_ms * pace * EVENTS_PER_SECOND // 1_000
        due += [start_ns + index * lasts_ms * MILLISECOND_NS // count for index in range(count)]
        start_ns += lasts_ms * MILLISECOND_NS
    return due


def _records(blob: bytes) -> Send:
    """Whatever is due by now, in one call."""

    def send(publisher: Publisher, due: list[int]) -> None:
        sent = 0
        while sent < len(due):
            wait_until(due[sent])
            until = min(bisect_right(due, time.time_ns(), sent), sent + RECORDS_A_CALL_MAX)
            publisher.publish_records(blob[sent * RECORD_BYTES : until * RECORD_BYTES])
            sent = until

    return send


def _objects(quotes: list[object]) -> Send:
    """One callback an object; a late one keeps the time it was due."""

    def send(publisher: Publisher, due: list[int]) -> None:
        for due_ns, quote in zip(due, quotes, strict=True):
            wait_until(due_ns)
            publisher.publish(quote, due_ns)

    return send


def _one(folder: Path, offsets_ns: list[int], send: Send) -> _Burst:
    folder.mkdir()
    publisher = simulated.open_publisher(folder, ring_slots=1 << 16)
    ring = simulated.ring_path(folder)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    sampler = context.Process(target=sample_durable, args=(ring, theirs))
    sampler.start()
    ours.recv()
    sleep_precisely()
    start_ns = time.time_ns() + 20_000_000
    due = [start_ns + offset for offset in offsets_ns]
    send(publisher, due)
    blocked_seconds = publisher.counters()["blocked_ns"] / 1e9
    accepted = publisher.counters()["accepted"]
    ours.send(accepted)
    samples: list[tuple[int, int]] = ours.recv()
    sampler.join()
    simulated.close(publisher, folder)
    assert samples[-1][0] == accepted >= len(due), "an event was lost"
    end_ns = start_ns + (BEFORE_MS + BURST_MS) * MILLISECOND_NS
    # GAP events stand between the records: their share of the sequences is the same before and after.
    share = len(due) / accepted
    open_then = [(when, bisect_right(due, when) - int(durable * share)) for durable, when in samples]
    settled = SETTLED_SECONDS * EVENTS_PER_SECOND
    gone_ns = next(when for when, backlog in open_then if when > end_ns and backlog <= settled)
    return _Burst(max(backlog for _, backlog in open_then), (gone_ns - end_ns) / 1e9, blocked_seconds)


BENCH = Bench(
    "burst",
    rows,
    f"Half a second at {EVENTS_PER_SECOND // 1000} k events/s, one at {TIMES} times that, then as before, into a ring "
    "of 65,536 slots with `fdatasync`; another process samples the durable sequence. Records are handed over in one "
    "call for all that are due, objects one by one. Gone: no more is open than comes in "
    f"{SETTLED_SECONDS * 1e3:.0f} ms. Everything accepted is durable in the end, or the bench fails.",
    "Records: the log thread. Objects: one thread reads the SDK's attributes; the bare reads alone, 3 to 3.5 µs each, "
    "would keep up with the burst and nothing more. What is not read yet waits with the SDK.",
)
