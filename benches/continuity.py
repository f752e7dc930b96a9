"""The continuity check per event: in the cache, where the recorder has it, and over a day from memory."""

from __future__ import annotations

from statistics import median

from benches import simulated
from benches.measure import Bench, Effort, Row, folder_on_disk, interleaved, seconds
from rust_indicators import Continuity, multiset_hash
from shijim_live.events import RECORD_BYTES

NS_MAX = 1.0
# Half of the second-level cache, and enough that a call from Python weighs nothing.
CACHED_RECORDS = 4_096


def rows(effort: Effort) -> list[Row]:
    with folder_on_disk() as folder:
        blob = simulated.record_busily(folder / "day", simulated.payloads())
    rounds, count = 2 * effort.rounds, len(blob) // RECORD_BYTES
    sides = {"ours": lambda: Continuity().observe_records(blob), "hash": lambda: multiset_hash(blob)}
    times = interleaved(rounds, sides)
    ours, hashed = (median(times[name]) / count * 1e9 for name in sides)
    cached = median(_cached(blob) for _ in range(rounds)) / count * 1e9
    return [
        Row("continuity at ingest, the records in the cache", f"{cached:.1f} ns/event", "–", "–", f"≤ {NS_MAX:.0f} ns",
            cached <= NS_MAX),
        Row("… a simulated day from memory", f"{ours:.1f} ns/event", f"hash of its bytes {hashed:.1f} ns",
            f"{ours / hashed:.2f}×"),
    ]  # fmt: skip


def _cached(blob: bytes) -> float:
    """Seconds of judging the day piece by piece, each right after it was read for something else."""
    continuity, total = Continuity(), 0.0
    step = CACHED_RECORDS * RECORD_BYTES
    for piece in (blob[at : at + step] for at in range(0, len(blob), step)):
        multiset_hash(piece)
        total += seconds(lambda piece=piece: continuity.observe_records(piece))  # type: ignore[misc]
    return total


BENCH = Bench(
    "continuity",
    rows,
    "`Continuity.observe_records` over the records of a simulated day: in pieces of 4,096 that were read just before, "
    "as the publisher has an event that it has just made; and whole from memory, beside the hash that the log makes of "
    "each.",
    "In the cache: picking the trades out of a batch, then three cache lines of a stream's state for each; one event "
    "alone has its payload hashed at once, half as much again. From memory: the first lines of each record.",
)
