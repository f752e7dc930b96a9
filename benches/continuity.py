"""The continuity check per event, as the recorder runs it; `audit.py` measures it over the archive."""

from __future__ import annotations

from statistics import median

from benches import simulated
from benches.measure import Bench, Effort, Row, folder_on_disk, interleaved
from rust_indicators import Continuity, multiset_hash
from shijim_live.events import RECORD_BYTES

NS_MAX = 1.0


def rows(effort: Effort) -> list[Row]:
    with folder_on_disk() as folder:
        blob = simulated.record_busily(folder / "day", simulated.payloads())
    sides = {"ours": lambda: Continuity().observe_records(blob), "hash": lambda: multiset_hash(blob)}
    times = interleaved(2 * effort.rounds, sides)
    ours, hashed = (median(times[name]) / (len(blob) // RECORD_BYTES) * 1e9 for name in sides)
    return [
        Row("continuity at ingest, a simulated day from memory", f"{ours:.1f} ns/event",
            f"hash of its bytes {hashed:.1f} ns", f"{ours / hashed:.2f}×", f"≤ {NS_MAX:.0f} ns", ours <= NS_MAX),
    ]  # fmt: skip


BENCH = Bench(
    "continuity",
    rows,
    "`Continuity.observe_records` over the records of a simulated day; beside it the hash that the log makes of each.",
    "Memory: 256 bytes a record. Every trade's payload is hashed, so that a repeat can be told from a contradiction.",
)
