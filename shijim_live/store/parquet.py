"""How the store's Parquet files are written and read: encodings, durability, where they lie. Not what goes in them.

<archive>/<table>/trading_day=YYYY-MM-DD/<key>.parquet
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from shijim_live.record.wal import make_folder
from shijim_live.store import schema

# What a value costs, measured over both days of `benches/size.py`: one compressor, at whatever level, is 2 to 4 ns of
# writing and reading, more than a dictionary of few values or packed small differences take altogether. It stays where
# it takes off more than a twentieth of a byte for each of them; level 3 where that is no slower than level 1.
ZSTD_LEVEL_PRICES: Final = 3  # 0.31 B as differences; a dictionary is quicker, and three times as long over many codes
ZSTD_LEVEL: Final = 1
# Fields that hardly change within a code. They are differences otherwise, as stamps, prices and running totals are.
_DICTIONARY: Final = (
    "flags", "source_offset_ns", "open_e6", "high_e6", "low_e6", "closing_oddlot_close_e6", "closing_oddlot_amount_e6",
    "closing_oddlot_bid_price_e6", "closing_oddlot_ask_price_e6", "fixed_trade_amount_e6",
)  # fmt: skip
# Values that come again and again in no order: 2.6 B as dictionary, 4.9 as differences (amounts).
_DICTIONARY_ZSTD: Final = ("amount_e6", "first_derived_bid_price_e6", "first_derived_ask_price_e6")
# 0.34 B split by byte, 0.45 as differences.
_SPLIT_BY_BYTE: Final = ("volume", "bid_volume", "ask_volume")
# As good as random once the differences are packed, like every count of four bytes: zstd finds a tenth at best.
_PACKED: Final = ("sequence", "avg_price_e6")
_STAMPS: Final = ("exchange_ns", "received_ns", "total_amount_e6")
# A context of zstd and a header a page: one page a column and row group, as far as the page's bytes allow.
_PAGE_ROWS: Final = 1 << 20
# Values handed to an encoder at a time.
_BATCH_ROWS: Final = 1 << 16
# What queries skip row groups by.
_STATISTICS: Final = ("trading_day", "code", "sequence", "exchange_ns", "received_ns")


def parquet_path(archive_dir: Path, table: str, day: date, key: str) -> Path:
    """Where the rows of `table` and `day` under `key` are published."""
    return archive_dir / table / f"trading_day={day}" / f"{key}.parquet"


def parquet_writer(path: Path, table: str) -> pq.ParquetWriter:
    """Writes tables of `schema.schema(table)`; the same tables give the same bytes."""
    codings = _codings(table)
    return pq.ParquetWriter(
        path,
        schema.schema(table),
        compression={name: "none" if coding.zstd_level is None else "zstd" for name, coding in codings.items()},
        compression_level={name: it.zstd_level for name, it in codings.items() if it.zstd_level is not None},
        use_dictionary=[name for name, coding in codings.items() if not coding.encoding],
        column_encoding={name: coding.encoding for name, coding in codings.items() if coding.encoding},
        # Both weigh more than the data of a quiet quarter of an hour when every column has them.
        write_statistics=list(_STATISTICS),
        store_schema=False,
        max_rows_per_page=_PAGE_ROWS,
        write_batch_size=_BATCH_ROWS,
    )


class _Coding(NamedTuple):
    encoding: str  # of Parquet, or "" for a dictionary
    zstd_level: int | None = None


@cache
def _codings(table: str) -> dict[str, _Coding]:
    """Of every column, provenance included: one value for whole files, or a bit."""
    codings = {name: _Coding("RLE" if name in schema.MARKS else "") for name in schema.PROVENANCE}
    return codings | {column.name: _coding(column) for column in schema.columns(table)}


def _coding(column: schema.Column) -> _Coding:
    if column.field in _DICTIONARY or column.char in "BH" or column.field == "code":
        return _Coding("")
    if column.field in _DICTIONARY_ZSTD or column.field == "text":
        return _Coding("", ZSTD_LEVEL)
    if column.field in _SPLIT_BY_BYTE:
        return _Coding("BYTE_STREAM_SPLIT", ZSTD_LEVEL)
    if column.field in _PACKED or column.char in "Ii":
        return _Coding("DELTA_BINARY_PACKED")
    return _Coding("DELTA_BINARY_PACKED", ZSTD_LEVEL if column.field in _STAMPS else ZSTD_LEVEL_PRICES)


def stored_rows(path: Path, table: str) -> Iterator[schema.Rows]:
    """The records of a file, row group by row group."""
    for data in stored_tables(path, table):
        yield schema.table_to_rows(data, table)


def stored_tables(path: Path, table: str) -> Iterator[pa.Table]:
    """The columns of the records of a file, row group by row group; without provenance."""
    names = list(schema.record_schema(table).names)
    with pq.ParquetFile(path, read_dictionary=["code"]) as file:
        for group in range(file.num_row_groups):
            # Whoever has a second core has a second file: other threads' memory would be taken and given back for each.
            yield file.read_row_group(group, columns=names, use_threads=False)


def write_durably(path: Path, contents: bytes) -> Path:
    """A small file as a whole: after a crash it is what it was before, or this. Returns the path."""
    make_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        draft.write_bytes(contents)
        replace_durably(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def replace_durably(draft: Path, target: Path) -> None:
    """Rename within one file system, both ends synced: after a crash the target is whole or not there."""
    make_folder(target.parent)
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
