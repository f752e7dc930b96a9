"""Volume continuity of archived trades: what the kernel says of every (code, lane, session). Knows no causes.

The kernel that the recorder used judges columns instead of records: a repeat is then told by volumes and stamp. Where
it finds one, the records of the row group are looked into; a stream of which one turns out not to repeat all that an
earlier trade said is judged again with the payload of every record. Trial matches are no trades, and trades with an
inferred total (a backfill's) prove nothing: both are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rust_indicators import Continuity, payloads
from shijim_live.events import Flag, Lane
from shijim_live.store import schema
from shijim_pipelines.placement import SESSIONS
from shijim_pipelines.proof.row_groups import (
    NOWHERE,
    THREADS,
    Columns,
    RowGroup,
    Sight,
    group_of,
    read,
    read_table,
    row_groups,
    rows_of_codes,
    sights,
    to_columns,
)

StreamKey = tuple[str, int, str]  # code, lane, session

# `RECENT_MAX` of the kernel: a repeat of one of this many rows before is certainly within its memory.
RECENT_MAX: Final = 64
_CODE_BYTES: Final = 16
_BYTES: Final = ("lane", "exchange", "broker_class")
_WORDS: Final = ("flags", "volume", "total_volume")
_COLUMNS: Final = ("code", "session", *_BYTES, *_WORDS, "exchange_ns")
_NOT_JUDGED: Final = int(Flag.SUSPECT | Flag.TOTAL_INFERRED)


@dataclass(slots=True)
class VolumeGap:
    """Lots (total_from, total_to] that were not seen when the trade `row_after` was."""

    total_from: int
    total_to: int
    row_before: int | None  # None at the start of a session
    row_after: int
    basis: str  # previous | zero
    missing: list[tuple[int, int]] = field(default_factory=list)  # what no late trade has filled since

    @property
    def lots(self) -> int:
        return sum(high - low for low, high in self.missing)


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
    base: int = 0  # total that the session started from: its night's where it carries on, else 0
    total: int | None = None  # highest known of the session, after the last reset
    last_row: int = 0
    gaps: list[VolumeGap] = field(default_factory=list)


@dataclass(slots=True)
class Judged:
    """Streams, and the row groups by which their rows are numbered."""

    groups: list[RowGroup]
    tallies: dict[StreamKey, Tally]

    def sights(self, rows: Iterable[int]) -> dict[int | None, Sight]:
        """Where these rows were seen; None is nowhere."""
        return sights(self.groups, rows) | {None: NOWHERE}


def judge_files(files: Iterable[tuple[str, Path]]) -> Judged:
    """(run_id, Parquet file of `ticks`) in the order they were recorded."""
    groups = row_groups("ticks", files)
    first = _Pass()
    for group, columns in read(groups, _COLUMNS):
        first.judge(group, columns)
    first.check()
    doubtful = _no_repeats(groups, first.duplicates)
    if not doubtful:
        return Judged(groups, dict(first.tallies))
    # Streams given up for memory depend on all the others.
    codes = None if first.continuity.counters()["forgotten"] else doubtful
    again = _Pass()
    for group, columns, payload in _with_payloads(groups, codes):
        again.judge(group, columns, payload)
    again.check()
    kept = {key: tally for key, tally in first.tallies.items() if codes is not None and key[0] not in codes}
    return Judged(groups, kept | again.tallies)


class _Pass:
    """One pass over the rows; what it has found so far."""

    def __init__(self) -> None:
        self.continuity = Continuity()
        self.tallies: dict[StreamKey, Tally] = defaultdict(Tally)
        self.duplicates: list[int] = []
        self._gaps: dict[int, VolumeGap] = {}  # by the row that revealed it

    def judge(self, group: RowGroup, columns: Columns, payload: NDArray[np.uint64] | None = None) -> None:
        """The next row group; with the payload of each row, a repeat is told by all it said."""
        lane, exchange, broker_class = (columns[name] for name in _BYTES)
        flags, volume, total_volume = (columns[name] for name in _WORDS)
        findings, counted = self.continuity.observe_columns(
            b"".join(code.encode("latin-1").ljust(_CODE_BYTES, b"\0") for code in columns.codes),
            (columns["code"], columns["session"]),
            (lane, exchange, broker_class),
            (flags, volume, total_volume),
            columns["exchange_ns"],
            payload,
            group.first_row,
        )
        for code, session, of_lane, futures, trades, lots, judged, duplicates, total, last in counted:
            tally = self.tallies[columns.codes[code], of_lane, SESSIONS[session]]
            tally.futures = futures
            tally.trades += trades
            tally.lots += lots
            tally.judged += judged
            tally.duplicates += duplicates
            tally.total = tally.total if total is None else total
            tally.last_row = group.first_row + last
        for (index, verdict, _, before, after, basis), row_before, filled in findings:
            key = columns.codes[columns["code"][index]], int(lane[index]), SESSIONS[columns["session"][index]]
            tally, row = self.tallies[key], group.first_row + index
            _count(tally, verdict, basis, before)
            if verdict == "gap":
                upto = after - int(volume[index])
                known = row_before if basis == "previous" else None
                self._gaps[row] = VolumeGap(before, upto, known, row, basis, [(before, upto)])
                tally.gaps.append(self._gaps[row])
            elif verdict == "duplicate":
                self.duplicates.append(row)
            for low, high, revealed in filled:
                _fill(self._gaps[revealed].missing, low, high)

    def check(self) -> None:
        """The gaps listed are those the kernel counted."""
        missing = sum(gap.lots for gap in self._gaps.values())
        assert missing == self.continuity.counters()["lots_missing"]


def _count(tally: Tally, verdict: str, basis: str, before: int) -> None:
    tally.late += verdict == "late"
    tally.resets += verdict == "reset"
    tally.excesses += verdict == "excess"
    if basis != "previous":
        tally.basis, tally.base = basis, before


def _fill(missing: list[tuple[int, int]], low: int, high: int) -> None:
    """Takes (low, high], which lies within one of the ranges, out of them."""
    at = next(number for number, (first, last) in enumerate(missing) if first <= low and high <= last)
    first, last = missing[at]
    missing[at : at + 1] = [(one, other) for one, other in ((first, low), (high, last)) if one < other]


def _no_repeats(groups: Sequence[RowGroup], duplicates: Sequence[int]) -> set[str]:
    """Codes of rows judged as repeats of which no equal trade is found close before: they may not be repeats."""
    by_group: dict[int, list[int]] = defaultdict(list)
    for row in duplicates:
        number = group_of(groups, row)
        by_group[number].append(row - groups[number].first_row)
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(_no_repeats_in, [groups[number] for number in by_group], by_group.values())
        return set().union(*found)


def _no_repeats_in(group: RowGroup, repeats: Sequence[int]) -> set[str]:
    """Rows of a code lie together, so that what may be repeated stands among the rows right before."""
    near = [np.arange(max(row - RECENT_MAX + 1, 0), row + 1) for row in repeats]
    rows = np.unique(np.concatenate(near))
    data = read_table(group, schema.record_schema("ticks").names).take(rows)
    records = schema.table_to_rows(data, "ticks")
    payload = _payload(records)
    original = (records["flags"] & _NOT_JUDGED == 0) & ~np.isin(rows, repeats)
    found = set()
    for row in repeats:
        first, at = np.searchsorted(rows, (max(row - RECENT_MAX + 1, 0), row)).tolist()
        before = slice(first, at)
        same = (records["code"][before] == records["code"][at]) & (records["lane"][before] == records["lane"][at])
        if not (same & original[before] & (payload[before] == payload[at])).any():
            found.add(records["code"][at].decode("latin-1"))
    return found


def _with_payloads(
    groups: Sequence[RowGroup], codes: Collection[str] | None
) -> Iterator[tuple[RowGroup, Columns, NDArray[np.uint64]]]:
    """Row groups with these codes, or all; other rows are made trial matches, which are passed over."""
    names = [*schema.record_schema("ticks").names, "session"]
    for group in groups:
        data = read_table(group, names)
        columns = to_columns(data.select(_COLUMNS), "ticks")
        payload = np.zeros(group.rows, np.uint64)
        chosen, rows = (data, np.arange(group.rows)) if codes is None else rows_of_codes(data, codes)
        if len(rows):
            payload[rows] = _payload(schema.table_to_rows(chosen, "ticks"))
            lane = np.full(group.rows, Lane.TRIAL, np.uint8)
            lane[rows] = columns["lane"][rows]
            yield group, Columns(columns.codes, columns.values | {"lane": lane}), payload


def _payload(records: schema.Rows) -> NDArray[np.uint64]:
    return np.frombuffer(payloads(records.view(np.uint8)), np.uint64)
