"""Row groups of archived files as numpy columns, read ahead by threads, in the order given. Judges nothing."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from shijim_live.events import ABSENT_I64
from shijim_live.store import schema
from shijim_pipelines.placement import SESSIONS

# Arrow decodes without the interpreter's lock: two keep two cores busy, and the reader ahead of who judges.
THREADS: Final = 2
# Row groups decoded and not asked for yet; 7 MB each with ten columns.
READ_AHEAD_MAX: Final = 6

_LABELS: Final = ("code", "session")

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class RowGroup:
    """One row group of one file; its rows are numbered on from those of the groups before it."""

    run_id: str
    path: Path
    table: str
    number: int  # in the file
    first_row: int
    rows: int
    footer: pq.FileMetaData

    def may_hold(self, exchange_ns: int) -> bool:
        """Whether a row may have this stamp, by the statistics of the file."""
        known = self.footer.row_group(self.number).column(self.footer.schema.names.index("exchange_ns")).statistics
        return known is None or not known.has_min_max or bool(known.min <= exchange_ns <= known.max)


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns by name, absent values as the record has them; `code` indexes `codes`, `session` indexes SESSIONS."""

    codes: tuple[str, ...]
    values: dict[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.values[name]


@dataclass(frozen=True, slots=True)
class Sight:
    """A row of the archive, as far as it says when and where something was seen."""

    run_id: str
    sequence: int
    clock_ns: int  # receive time, or the exchange's where that was not recorded
    exchange_ns: int


NOWHERE: Final = Sight("", ABSENT_I64, ABSENT_I64, ABSENT_I64)


def row_groups(table: str, files: Iterable[tuple[str, Path]]) -> list[RowGroup]:
    """(run_id, Parquet file of `table`) → row groups. Raises what Arrow raises for a file that is no Parquet."""
    found: list[RowGroup] = []
    known = list(files)
    row = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for (run_id, path), footer in zip(known, pool.map(pq.read_metadata, [path for _, path in known]), strict=True):
            for number in range(footer.num_row_groups):
                rows = footer.row_group(number).num_rows
                found.append(RowGroup(run_id, path, table, number, row, rows, footer))
                row += rows
    return found


def read(groups: Sequence[RowGroup], names: Collection[str]) -> Iterator[tuple[RowGroup, Columns]]:
    """Each group with these columns, in the order given."""
    return read_made(groups, names, lambda _, columns: columns)


def read_made(
    groups: Sequence[RowGroup], names: Collection[str], make: Callable[[RowGroup, Columns], Made]
) -> Iterator[tuple[RowGroup, Made]]:
    """The same with what the threads that read the columns `make` of them."""
    ahead: deque[tuple[RowGroup, Future[Made]]] = deque()
    left = iter(groups)
    with ThreadPoolExecutor(THREADS) as pool:
        while True:
            for group in left:
                ahead.append((group, pool.submit(_made, group, names, make)))
                if len(ahead) >= READ_AHEAD_MAX:
                    break
            if not ahead:
                return
            group, made = ahead.popleft()
            yield group, made.result()


def _made(group: RowGroup, names: Collection[str], make: Callable[[RowGroup, Columns], Made]) -> Made:
    return make(group, to_columns(read_table(group, names), group.table))


def read_table(group: RowGroup, names: Collection[str]) -> pa.Table:
    """The columns as Arrow has them."""
    with pq.ParquetFile(group.path, metadata=group.footer, read_dictionary=list(_LABELS)) as file:
        return file.read_row_group(group.number, columns=list(names), use_threads=False)


def to_columns(data: pa.Table, table: str) -> Columns:
    """Any columns of a table of the archive."""
    absent = {column.name: column.absent for column in schema.columns(table)}
    codes: tuple[str, ...] = ()
    values: dict[str, NDArray[Any]] = {}
    for name in data.column_names:
        column = data.column(name)
        if name == "code":
            codes, values[name] = _labels(column)
        elif name == "session":
            sessions, indices = _labels(column)
            values[name] = np.array([SESSIONS.index(session) for session in sessions], np.int32)[indices]
        else:
            values[name] = (column.fill_null(absent[name]) if column.null_count else column).to_numpy()
    return Columns(codes, values)


def _labels(column: pa.ChunkedArray) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    encoded = (column if pa.types.is_dictionary(column.type) else column.dictionary_encode()).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = pa.concat_arrays(encoded.chunks) if encoded.num_chunks else pa.array([], column.type)
    return tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy(zero_copy_only=False)


def rows_of_codes(data: pa.Table, codes: Collection[str]) -> tuple[pa.Table, NDArray[np.int64]]:
    """The rows of these codes, and which rows they were."""
    known = data.column("code").cast(pa.string())
    mask = pc.is_in(known, value_set=pa.array(sorted(codes), pa.string()))
    return data.filter(mask), np.flatnonzero(mask.to_numpy())


def group_of(groups: Sequence[RowGroup], row: int) -> int:
    """Which of the groups a numbered row lies in."""
    return bisect_right(groups, row, key=lambda group: group.first_row) - 1


def sights(groups: Sequence[RowGroup], rows: Iterable[int]) -> dict[int | None, Sight]:
    """Where the numbered rows stand; only the groups they lie in are read."""
    wanted: dict[int, list[int]] = {}
    for row in sorted(set(rows)):
        wanted.setdefault(group_of(groups, row), []).append(row)
    found: dict[int | None, Sight] = {}
    numbers = sorted(wanted)
    for number, (group, columns) in zip(
        numbers, read([groups[number] for number in numbers], ("sequence", "exchange_ns", "received_ns")), strict=True
    ):
        for row in wanted[number]:
            at = row - group.first_row
            sequence, exchange_ns, received_ns = (
                int(columns[name][at]) for name in ("sequence", "exchange_ns", "received_ns")
            )
            clock_ns = exchange_ns if received_ns == ABSENT_I64 else received_ns
            found[row] = Sight(group.run_id, sequence, clock_ns, exchange_ns)
    return found
