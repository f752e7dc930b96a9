"""Volume continuity of archived trades: what the kernel says of every (code, lane, session). Knows no causes.

Trades are judged by the kernel the recorder used, in the order given; trial matches are left out, they are no trades.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rust_indicators import Continuity
from shijim_live.events import ABSENT_I64, ABSENT_U32, Lane
from shijim_live.store import schema
from shijim_live.store.parquet import stored_rows
from shijim_pipelines.placement import SESSIONS, is_futures

_LANES: Final = 256

StreamKey = tuple[str, int, str]  # code, lane, session


@dataclass(frozen=True, slots=True)
class Sight:
    """A trade beside a gap."""

    run_id: str
    sequence: int
    clock_ns: int  # receive time, or the exchange's where that was not recorded
    exchange_ns: int


NOWHERE: Final = Sight("", ABSENT_I64, ABSENT_I64, ABSENT_I64)


@dataclass(slots=True)
class VolumeGap:
    """Lots (total_from, total_to] that were not seen; `lots` of them still are not."""

    total_from: int
    total_to: int
    lots: int
    before: Sight  # NOWHERE at the start of a session
    after: Sight
    basis: str  # previous | zero


@dataclass(slots=True)
class Tally:
    """What is counted of one stream. Duplicates are not in `trades` and `lots`."""

    futures: bool = False
    trades: int = 0
    lots: int = 0
    judged: int = 0
    duplicates: int = 0
    late: int = 0
    resets: int = 0
    excesses: int = 0
    basis: str = ""
    gaps: list[VolumeGap] = field(default_factory=list)


def judge_files(files: Iterable[tuple[str, Path]]) -> dict[StreamKey, Tally]:
    """(run_id, Parquet file of `ticks`) in the order they were recorded → tallies by stream."""
    continuity = Continuity()
    tallies: dict[StreamKey, Tally] = defaultdict(Tally)
    last: dict[StreamKey, Sight] = {}
    for run_id, path in files:
        for rows, sessions in zip(stored_rows(path, "ticks"), _sessions(path), strict=True):
            real = rows["lane"] != Lane.TRIAL
            if not real.all():
                rows, sessions = rows[real], sessions[real]
            if len(rows):
                _judge_rows(continuity, rows, sessions, run_id, tallies, last)
    missing = sum(gap.lots for tally in tallies.values() for gap in tally.gaps)
    assert missing == continuity.counters()["lots_missing"], "the gaps listed are not those the kernel counted"
    return dict(tallies)


def _sessions(path: Path) -> Iterator[NDArray[np.int64]]:
    """Index into SESSIONS of every row, row group by row group."""
    with pq.ParquetFile(path, read_dictionary=["session"]) as file:
        for group in range(file.num_row_groups):
            column = file.read_row_group(group, columns=["session"]).column("session").combine_chunks()
            index = np.array([SESSIONS.index(name) for name in column.dictionary.to_pylist()], np.int64)
            yield index[column.indices.to_numpy()]


def _judge_rows(
    continuity: Continuity,
    rows: schema.Rows,
    sessions: NDArray[np.int64],
    run_id: str,
    tallies: dict[StreamKey, Tally],
    last: dict[StreamKey, Sight],
) -> None:
    """`rows` are sorted by code, then sequence; `last` remembers each stream's newest trade for the next rows."""
    ranks, codes = schema.code_ranks(rows["code"])
    numbers = (ranks.astype(np.int64) * _LANES + rows["lane"]) * len(SESSIONS) + sessions
    findings = continuity.observe_records(rows.view(np.uint8))
    keys = {number: _key(number, codes) for number in np.flatnonzero(np.bincount(numbers)).tolist()}
    duplicate = np.zeros(len(rows), bool)
    for index, verdict, lots, before, after, basis in findings:
        key = keys[int(numbers[index])]
        tally = tallies[key]
        tally.basis = basis if basis != "previous" else tally.basis
        if verdict == "gap":
            earlier = NOWHERE
            if basis == "previous":
                same = (numbers[:index] == numbers[index]) & (rows["total_volume"][:index] == before)
                found = np.flatnonzero(same)
                earlier = _sight(rows, int(found[-1]), run_id) if len(found) else last.get(key, NOWHERE)
            tally.gaps.append(VolumeGap(before, before + lots, lots, earlier, _sight(rows, index, run_id), basis))
        elif verdict == "late":
            tally.late += 1
            _fill(tally.gaps, after - int(rows["volume"][index]), after, lots)
        elif verdict == "duplicate":
            duplicate[index] = True
        tally.resets += verdict == "reset"
        tally.excesses += verdict == "excess"
    _count(rows, numbers, duplicate, {number: tallies[key] for number, key in keys.items()})
    for number, key in keys.items():
        mine = np.flatnonzero(numbers == number)
        last[key] = _sight(rows, int(mine[-1]), run_id)
        tallies[key].futures = bool(is_futures(rows[mine[-1:]])[0])


def _key(number: int, codes: list[str]) -> StreamKey:
    rest, session = divmod(number, len(SESSIONS))
    return codes[rest // _LANES], rest % _LANES, SESSIONS[session]


def _sight(rows: schema.Rows, index: int, run_id: str) -> Sight:
    exchange_ns, received_ns = int(rows["exchange_ns"][index]), int(rows["received_ns"][index])
    clock_ns = exchange_ns if received_ns == ABSENT_I64 else received_ns
    return Sight(run_id, int(rows["sequence"][index]), clock_ns, exchange_ns)


def _fill(gaps: list[VolumeGap], total_from: int, total_to: int, lots: int) -> None:
    """A late trade covers `lots` of the holes within (total_from, total_to]."""
    for gap in reversed(gaps):
        covered = min(lots, gap.lots, min(gap.total_to, total_to) - max(gap.total_from, total_from))
        if covered > 0:
            gap.lots -= covered
            lots -= covered


def _count(
    rows: schema.Rows, numbers: NDArray[np.int64], duplicate: NDArray[np.bool_], tallies: dict[int, Tally]
) -> None:
    absent = rows["volume"] == ABSENT_U32
    volume = np.where(duplicate | absent, 0, rows["volume"].astype(np.int64))
    judged = ~(absent | duplicate | (rows["total_volume"] == ABSENT_U32))
    # Sums in floating point are exact up to 2^53 lots.
    trades, lots, proofs = (np.bincount(numbers, weights=column) for column in (~duplicate, volume, judged))
    repeats = np.bincount(numbers, weights=duplicate)
    for number, tally in tallies.items():
        tally.trades += int(trades[number])
        tally.lots += int(lots[number])
        tally.judged += int(proofs[number])
        tally.duplicates += int(repeats[number])
