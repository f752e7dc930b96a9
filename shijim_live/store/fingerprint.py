"""What many rows amount to: one number, the same from Arrow columns and from a server's SQL. Keeps no row.

A row is a sum of its values, each times an odd number of its column's name, then mixed so that two rows that exchange
a value give another sum; rows add up. Everything is modulo 2^64 and of multiplications, shifts and CRC-32, which no
version of an engine computes otherwise. An absent value counts as what stands for it in the record.
"""

from __future__ import annotations

import hashlib
import zlib
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from shijim_live.store import schema

if TYPE_CHECKING:
    import pyarrow as pa

_MIX: Final = 0x9E3779B97F4A7C15  # odd, about half its bits set
_SHIFTS: Final = (32, 29)
_TEXTS: Final = ("run_id", "source", "session", "code", "text")

Fingerprint = tuple[int, int]  # (rows, their sum modulo 2^64)
NOTHING: Final[Fingerprint] = (0, 0)


def fingerprints_sql(table: str, source: str) -> str:
    """SQL of `rows` and `total` of each run_id and segment; `source` is what follows FROM."""
    absent = {column.name: column.absent for column in schema.columns(table)}
    terms = []
    for name in schema.schema(table).names:
        if name in _TEXTS:
            value = f"CRC32({name})"
        elif name == "trading_day":
            value = f"toInt32({name})"
        else:
            value = name if absent.get(name) is None else f"ifNull({name}, {absent[name]})"
        # Signed or not, the engine multiplies and adds modulo 2^64; a cast a column would cost more than the reading.
        terms.append(f"{value} * {_weight(name)}")
    # Nested: an alias used twice would be a long expression analysed twice.
    plain = f"SELECT run_id, segment, toUInt64({' + '.join(terms)}) AS plain FROM {source}"
    mixed = f"SELECT run_id, segment, bitXor(plain, bitShiftRight(plain, {_SHIFTS[0]})) * {_MIX} AS mixed"
    total = f"sum(bitXor(mixed, bitShiftRight(mixed, {_SHIFTS[1]}))) AS total"
    return f"SELECT run_id, segment, count() AS rows, {total} FROM ({mixed} FROM ({plain})) GROUP BY run_id, segment"


def fingerprint(data: pa.Table, table: str) -> Fingerprint:
    """The same of rows with every column of `schema.schema(table)`."""
    if not data.num_rows:
        return NOTHING
    absent = {column.name: column.absent for column in schema.columns(table)}
    total = np.zeros(data.num_rows, np.uint64)
    for name in schema.schema(table).names:
        values = _checksums(data.column(name)) if name in _TEXTS else _integers(data.column(name), absent.get(name))
        total += values * np.uint64(_weight(name))
    total = (total ^ (total >> np.uint64(_SHIFTS[0]))) * np.uint64(_MIX)
    total ^= total >> np.uint64(_SHIFTS[1])
    return data.num_rows, int(np.add.reduce(total))


def added(one: Fingerprint, other: Fingerprint) -> Fingerprint:
    """Of the rows of both."""
    return one[0] + other[0], (one[1] + other[1]) % (1 << 64)


@cache
def _weight(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") | 1


def _integers(values: pa.ChunkedArray, absent: int | None) -> npt.NDArray[np.uint64]:
    import pyarrow as pa

    if pa.types.is_date32(values.type):
        values = values.cast(pa.int32())
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    if values.null_count == len(values):
        assert absent is not None
        return np.full(len(values), absent % (1 << 64), np.uint64)
    if values.null_count:
        values = values.fill_null(absent)
    found: npt.NDArray[Any] = values.to_numpy()
    signed: npt.NDArray[np.int64] = found.astype(np.int64, copy=False)
    return signed.view(np.uint64)


def _checksums(values: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """CRC-32 of each text."""
    parts = []
    for chunk in values.chunks:
        encoded = chunk if hasattr(chunk, "dictionary") else chunk.dictionary_encode()
        texts = (text.encode() if isinstance(text, str) else text for text in encoded.dictionary.to_pylist())
        sums = np.array([zlib.crc32(text) for text in texts], np.uint64)
        parts.append(sums[encoded.indices.to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)
