"""Tables of the store (`ticks`, `books`, `indices`, …): records ↔ Arrow columns without loss. No file and no engine.

Every column is derived from the layouts of `events.py`; a level of a book is a column of its own (`bid_price_e6_1` is
the best). Absent is NULL, an empty level's price is NULL. `sequence` is u64 in a record and int64 here, same bits.
Needs the extra `shijim[lake]` (numpy, pyarrow).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from rust_indicators import gather_columns, multiset_hash_of_columns, scatter_columns
from shijim_live.events import (
    ABSENT_I32,
    ABSENT_I64,
    ABSENT_U8,
    ABSENT_U32,
    BOOK_LAYOUT,
    HEADER_LAYOUT,
    RECORD_BYTES,
    SCHEMA_VERSION,
    TEXT_BYTES,
    TEXT_LAYOUT,
    TRADE_LAYOUT,
    Kind,
    Layout,
    UnknownRecord,
)

if TYPE_CHECKING:
    import pyarrow as pa

# Where a row comes from and belongs; what the archive adds to a record.
PROVENANCE: Final = ("run_id", "segment", "source", "trading_day", "session", "outside", "duplicate")
MARKS: Final = PROVENANCE[-2:]  # a bit each

Rows = npt.NDArray[np.void]  # structured, one 256-byte record each

_BODY: Final[dict[str, Layout]] = {"ticks": TRADE_LAYOUT, "books": BOOK_LAYOUT, "indices": TRADE_LAYOUT,
                                  "snapshots": TRADE_LAYOUT, "statuses": TEXT_LAYOUT}  # fmt: skip
_KINDS: Final = {"ticks": Kind.TRADE, "books": Kind.BOOK, "indices": Kind.INDEX,
                                 "snapshots": Kind.SNAPSHOT}  # every other is a status  # fmt: skip
TABLES: Final = tuple(_BODY)
ADDED_LATER: Final = ("indices", "snapshots")  # a server that was filled before has none, and has lost nothing

_NUMPY: Final = {"B": "u1", "H": "<u2", "I": "<u4", "i": "<i4", "q": "<i8", "Q": "<u8"}
_ARROW: Final = {"B": "uint8", "H": "uint16", "I": "uint32", "i": "int32", "q": "int64", "Q": "int64"}
_ABSENT: Final = {"I": ABSENT_U32, "i": ABSENT_I32, "q": ABSENT_I64}


@dataclass(frozen=True, slots=True)
class Column:
    """One column and the field of the record it is."""

    name: str
    field: str
    level: int | None  # of a book, from 0
    char: str  # struct character
    absent: int | None  # the value that is NULL


@cache
def columns(table: str) -> tuple[Column, ...]:
    """The record's own columns of a table, in the order of the bytes."""
    found = []
    body = {name for name, _, _ in _BODY[table]}
    for name, char, count in HEADER_LAYOUT + _BODY[table]:
        if char.endswith("x"):
            continue
        absent = _ABSENT.get(char) if name in body or name in ("exchange_ns", "received_ns") else None
        if name == "chg_type":
            absent = ABSENT_U8
        levels = range(count) if count > 1 else (None,)
        for level in levels:
            label = name if level is None else f"{name}_{level + 1}"
            found.append(Column(label, name, level, char, absent))
    return tuple(found)


@cache
def record_dtype(table: str) -> np.dtype[np.void]:
    """One record of the table as a numpy structure of 256 bytes."""
    fields = [(name, *_field_type(char, count)) for name, char, count in HEADER_LAYOUT + _BODY[table]]
    dtype = np.dtype([tuple(part for part in field if part != ()) for field in fields])
    assert dtype.itemsize == RECORD_BYTES
    return dtype


def _field_type(char: str, count: int) -> tuple[str, tuple[int, ...]]:
    if char == "16s":
        return "S16", ()
    if char[-1] in "sx":
        return "u1", (int(char[:-1]),)
    return _NUMPY[char], (count,) if count > 1 else ()


def blank_rows(table: str, count: int, kind: Kind) -> Rows:
    """Records of a kind in which everything a source may not know is absent."""
    rows = np.zeros(count, dtype=record_dtype(table))
    absent = {"q": ABSENT_I64, "I": ABSENT_U32, "i": ABSENT_I32}
    for name, char, _ in _BODY[table]:
        if char in absent:
            rows[name] = absent[char]
    rows["kind"], rows["received_ns"], rows["chg_type"] = kind, ABSENT_I64, ABSENT_U8
    return rows


@cache
def schema(table: str) -> pa.Schema:
    """Arrow schema: provenance, then the record's fields."""
    import pyarrow as pa

    label = pa.dictionary(pa.int32(), pa.string())
    provenance = (label, pa.int32(), label, pa.date32(), label, pa.bool_(), pa.bool_())
    fields = [pa.field(name, kind, nullable=False) for name, kind in zip(PROVENANCE, provenance, strict=True)]
    fields += list(record_schema(table))
    return pa.schema(fields, metadata={"shijim_schema_version": str(SCHEMA_VERSION)})


@cache
def record_schema(table: str) -> pa.Schema:
    """Arrow schema of the record's own columns."""
    import pyarrow as pa

    fields = []
    for column in columns(table):
        kind: pa.DataType = pa.type_for_alias(_ARROW[column.char]) if column.char in _ARROW else pa.binary()
        if column.field == "code":
            kind = pa.dictionary(pa.int32(), pa.string())
        fields.append(pa.field(column.name, kind, nullable=column.absent is not None))
    return pa.schema(fields)


def split(records: bytes) -> dict[str, Rows]:
    """Records by table, in their order. Raises UnknownRecord for a kind of another version."""
    if len(records) % RECORD_BYTES:
        raise ValueError(f"{len(records)} bytes are not whole {RECORD_BYTES}-byte records")
    rows = np.frombuffer(records, dtype=np.dtype(f"V{RECORD_BYTES}"))
    kinds = np.frombuffer(records, dtype=np.uint8)[::RECORD_BYTES]
    check_kinds(kinds)
    chosen = masks(kinds)
    return {table: (rows if mask.all() else rows[mask]).view(record_dtype(table)) for table, mask in chosen.items()}


def masks(kinds: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.bool_]]:
    """Table → which records are its rows, by their kinds."""
    found = {table: kinds == kind for table, kind in _KINDS.items()}
    return found | {"statuses": ~np.logical_or.reduce(list(found.values()))}


def check_kinds(kinds: npt.NDArray[np.uint8]) -> None:
    """Raises UnknownRecord for a kind of another version."""
    unknown = sorted(set(np.flatnonzero(np.bincount(kinds)).tolist()) - set(Kind))
    if unknown:
        raise unknown_kind(unknown[0])


def unknown_kind(kind: int) -> UnknownRecord:
    """The error about a kind of another version."""
    return UnknownRecord(f"record kind {kind} is not in schema version {SCHEMA_VERSION}: upgrade shijim")


def to_table(records: bytes) -> dict[str, pa.Table]:
    """Records as Arrow tables by name, in their order; without provenance."""
    return {table: rows_to_table(rows, table) for table, rows in split(records).items()}


def rows_to_table(rows: Rows, table: str, order: npt.NDArray[np.int64] | None = None) -> pa.Table:
    """Rows of `record_dtype(table)` as Arrow columns; those that `order` names, in that order, where it is given."""
    import pyarrow as pa

    gathered = gather(rows, table, [column.name for column in columns(table) if column.field != "text"], order)
    arrays = []
    for column in columns(table):
        if column.field == "code":
            ranks, codes = code_ranks(gathered["code"])
            arrays.append(pa.DictionaryArray.from_arrays(pa.array(ranks), pa.array(codes, pa.string())))
        elif column.field == "text":
            arrays.append(_text_array(rows if order is None else rows[order]))
        else:
            arrays.append(_array(gathered[column.name], column))
    return pa.Table.from_arrays(arrays, schema=record_schema(table))


def gather(
    rows: Rows, table: str, names: Iterable[str], order: npt.NDArray[np.int64] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Columns of fixed width by name, contiguous, in one pass over the rows (those that `order` names)."""
    places = _places(table)
    count = len(rows) if order is None else len(order)
    found: dict[str, npt.NDArray[Any]] = {name: np.empty(count, places[name][1]) for name in names}
    buffers = [(*_extent(places[name]), values.view(np.uint8)) for name, values in found.items()]
    gather_columns(np.ascontiguousarray(rows).view(np.uint8), order, buffers)
    return found


@cache
def _places(table: str) -> dict[str, tuple[int, np.dtype[Any]]]:
    """Where in a record each column of fixed width stands, and what it is."""
    found = {}
    for column in columns(table):
        fields = record_dtype(table).fields
        assert fields is not None
        whole, offset = fields[column.field][:2]
        found[column.name] = (offset + (column.level or 0) * whole.base.itemsize, whole.base)
    return found


def _extent(place: tuple[int, np.dtype[Any]]) -> tuple[int, int]:
    offset, dtype = place
    return offset, dtype.itemsize


def _array(values: npt.NDArray[np.generic], column: Column) -> pa.Array:
    import pyarrow as pa

    if column.char == "Q":
        values = values.view(np.int64)
    if column.absent is None or not len(values):
        return pa.array(values)
    # Absent is the least or the greatest a field holds: mostly it is not there, and no mask is made to find out.
    if (values.min() if column.absent < 0 else values.max()) != column.absent:
        return pa.array(values)
    absent = values == column.absent
    count = int(np.count_nonzero(absent))
    if count == len(values):
        return pa.nulls(count, pa.type_for_alias(_ARROW[column.char]))
    return pa.array(values, mask=absent) if count else pa.array(values)


def _text_array(rows: Rows) -> pa.Array:
    import pyarrow as pa

    lengths = np.minimum(rows["text_length"], TEXT_BYTES).astype(np.int32)
    ends = np.cumsum(lengths, dtype=np.int32)
    data = rows["text"][np.arange(TEXT_BYTES) < lengths[:, None]]
    offsets = np.concatenate([np.zeros(1, np.int32), ends])
    return pa.Array.from_buffers(pa.binary(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def code_ranks(padded: npt.NDArray[np.bytes_]) -> tuple[npt.NDArray[np.int32], list[str]]:
    """(index of each row's code, codes in their sorted order)."""
    import pyarrow as pa

    padded = np.ascontiguousarray(padded)
    fixed = pa.Array.from_buffers(pa.binary(padded.dtype.itemsize), len(padded), [None, pa.py_buffer(padded)])
    encoded = fixed.dictionary_encode()
    # latin-1 gives every byte back, and is ASCII for every code the log accepts.
    codes = [code.rstrip(b"\0").decode("latin-1") for code in encoded.dictionary.to_pylist()]
    order = sorted(range(len(codes)), key=codes.__getitem__)
    rank = np.empty(len(codes), np.int32)
    rank[order] = np.arange(len(codes), dtype=np.int32)
    indices = encoded.indices.to_numpy(zero_copy_only=False)
    return rank[indices] if len(codes) else indices.astype(np.int32), [codes[index] for index in order]


def to_records(tables: Mapping[str, pa.Table]) -> bytes:
    """The records of the tables in order of sequence: the exact inverse of `to_table`, provenance ignored."""
    parts = [table_to_rows(data, table) for table, data in tables.items() if data.num_rows]
    if not parts:
        return b""
    rows = np.concatenate([part.view(f"V{RECORD_BYTES}") for part in parts])
    sequences = np.concatenate([part["sequence"] for part in parts])
    records: bytes = rows[np.argsort(sequences, kind="stable")].tobytes()
    return records


def table_to_rows(data: pa.Table, table: str) -> Rows:
    """Rows of `record_dtype(table)`, in the table's order."""
    if not data.num_rows:
        return np.zeros(0, record_dtype(table))
    return np.frombuffer(scatter_columns(*_scattered(data, table)), record_dtype(table))


def table_multiset(data: pa.Table, table: str) -> tuple[int, int]:
    """`multiset_hash` of the very records of `table_to_rows`, which are made a few at a time and not kept."""
    return multiset_hash_of_columns(*_scattered(data, table)) if data.num_rows else (0, 0)


def _scattered(data: pa.Table, table: str) -> tuple[bytes, int, list[tuple[int, int, npt.NDArray[np.uint8]]]]:
    """(record of the values that all rows share, number of rows, columns of all other values) for `scatter_columns`."""
    template = bytearray(RECORD_BYTES)
    varying = []
    places = _places(table)
    for column in columns(table):
        offset, width = _extent(places[column.name])
        if column.field == "code":
            values: npt.NDArray[Any] | int = _codes(data.column("code"))
        elif column.field == "text":
            texts = b"".join(text.ljust(TEXT_BYTES, b"\0") for text in data.column("text").to_pylist())
            values, width = np.frombuffer(texts, np.uint8), TEXT_BYTES
        else:
            values = _values(data.column(column.name), column)
        if isinstance(values, int):
            template[offset : offset + width] = values.to_bytes(width, "little", signed=values < 0)
        else:
            varying.append((offset, width, values.view(np.uint8)))
    return bytes(template), data.num_rows, varying


def _values(values: pa.ChunkedArray, column: Column) -> npt.NDArray[np.generic] | int:
    """The column's numbers, or one number where every row is NULL."""
    if values.null_count == len(values):
        assert column.absent is not None
        return column.absent
    if values.null_count:
        values = values.fill_null(column.absent)
    found: npt.NDArray[np.generic] = values.to_numpy()
    return found


def _codes(values: pa.ChunkedArray) -> npt.NDArray[np.bytes_]:
    parts = []
    for chunk in values.chunks:
        encoded = chunk if hasattr(chunk, "dictionary") else chunk.dictionary_encode()
        codes = np.array([code.encode("latin-1") for code in encoded.dictionary.to_pylist()], dtype="S16")
        parts.append(codes[encoded.indices.to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)


def stream_table(table: str, chunks: Iterable[bytes], limit: int | None, out: BinaryIO) -> None:
    """One table of the records as an Arrow IPC stream, up to `limit` rows."""
    import pyarrow as pa

    # Codes as plain strings: a stream allows a dictionary to be sent only once.
    plain = pa.schema([f.with_type(pa.string()) if f.name == "code" else f for f in record_schema(table)])
    left = limit
    with pa.ipc.new_stream(out, plain) as stream:
        for chunk in chunks:
            rows = to_table(chunk)[table].cast(plain)
            rows = rows if left is None else rows.slice(0, left)
            stream.write_table(rows)
            left = None if left is None else left - rows.num_rows
            if left == 0:
                return
