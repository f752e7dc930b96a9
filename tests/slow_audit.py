"""The audit as it was before it learned to read columns: every row a record of 256 bytes, each judged by the kernel.

The oracle of `test_volume.py`: nothing here is shared with the program but the kernel's verdicts on records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from rust_indicators import Continuity
from shijim_live.events import ABSENT_I64, ABSENT_U32, Flag, Lane
from shijim_live.store.parquet import stored_rows

Key = tuple[str, int, str]  # code, lane, session
Beside = tuple[str, int, int, int] | None  # run, sequence, our clock, the exchange's


@dataclass
class SlowGap:
    total_from: int
    total_to: int
    basis: str
    before: Beside
    after: Beside
    missing: set[int] = field(default_factory=set)  # lots by number


@dataclass
class SlowTally:
    trades: int = 0
    lots: int = 0
    judged: int = 0
    basis: str = ""
    total: int | None = None
    told: dict[int, Beside] = field(default_factory=dict)  # total → the trade that brought the stream there
    last: Beside = None
    gaps: list[SlowGap] = field(default_factory=list)
    open_gaps: list[SlowGap] = field(default_factory=list)  # since the last reset
    verdicts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def judge_files(files: Iterable[tuple[str, Path]]) -> dict[Key, SlowTally]:
    continuity = Continuity()
    tallies: dict[Key, SlowTally] = defaultdict(SlowTally)
    for run_id, path in files:
        sessions = pq.read_table(path, columns=["session"])["session"].to_pylist()
        first = 0
        for rows in stored_rows(path, "ticks"):
            kept = np.flatnonzero((rows["lane"] != Lane.TRIAL) & (rows["flags"] & Flag.TOTAL_INFERRED == 0))
            findings = {at: finding for at, *finding in continuity.observe_records(rows[kept].view(np.uint8))}
            for at, row in enumerate(rows[kept]):
                key = (row["code"].decode("latin-1"), int(row["lane"]), sessions[first + int(kept[at])])
                judge(tallies[key], row, run_id, findings.get(at))
            first += len(rows)
    return dict(tallies)


def judge(tally: SlowTally, row: np.void, run_id: str, finding: list | None) -> None:  # type: ignore[type-arg]
    verdict, lots, before, _, basis = finding or ("next", 0, 0, 0, "previous")
    volume, total, exchange_ns = int(row["volume"]), int(row["total_volume"]), int(row["exchange_ns"])
    received_ns = int(row["received_ns"])
    clock_ns = exchange_ns if received_ns == ABSENT_I64 else received_ns
    beside = (run_id, int(row["sequence"]), clock_ns, exchange_ns)
    tally.last = beside
    tally.verdicts[verdict] += 1
    if verdict == "duplicate":
        return
    tally.trades += 1
    tally.lots += 0 if volume == ABSENT_U32 else volume
    if ABSENT_U32 in (volume, total) or exchange_ns == ABSENT_I64 or row["flags"] & Flag.SUSPECT:
        return
    tally.judged += 1
    if basis != "previous":
        tally.basis = basis
    if verdict == "late":
        fill(tally.open_gaps, range(total - volume + 1, total + 1), exchange_ns, lots)
        return
    if verdict == "gap":
        earlier = tally.told[before] if basis == "previous" else None
        gap = SlowGap(before, total - volume, basis, earlier, beside, set(range(before + 1, total - volume + 1)))
        tally.gaps.append(gap)
        tally.open_gaps.append(gap)
    if verdict == "reset":
        tally.open_gaps.clear()
        tally.told.clear()
        tally.total = None
    if tally.total is None or total > tally.total:
        tally.total = total
        tally.told[total] = beside


def fill(gaps: list[SlowGap], lots: range, exchange_ns: int, filled: int) -> None:
    """A late trade covers what is missing of these lots, but not of a hole that a still earlier trade revealed."""
    for gap in gaps:
        assert gap.after is not None
        if exchange_ns <= gap.after[3]:
            filled -= len(gap.missing & set(lots))
            gap.missing -= set(lots)
    assert filled == 0
