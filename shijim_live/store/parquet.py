"""How the store's Parquet files are written and read: encodings, durability, where they lie. Not what goes in them.

<archive>/<table>/trading_day=YYYY-MM-DD/<key>.parquet
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from shijim_live.record.wal import make_folder
from shijim_live.store import schema

# Measured on a real futures day: level 1 saves a tenth of the time and costs a twentieth more bytes.
ZSTD_LEVEL: Final = 3

# Bytes per value there: prices 0.67 as differences, 0.75 as dictionary; volumes of a level 0.34 split by byte, 0.45
# otherwise; amounts 1.6 as dictionary, 3.3 as differences.
_SPLIT_BY_BYTE: Final = ("volume", "bid_volume", "ask_volume")
_DICTIONARY: Final = ("amount_e6", "flags")
# What queries skip row groups by.
_STATISTICS: Final = ("trading_day", "code", "sequence", "exchange_ns", "received_ns")


def parquet_path(archive_dir: Path, table: str, day: date, key: str) -> Path:
    """Where the rows of `table` and `day` under `key` are published."""
    return archive_dir / table / f"trading_day={day}" / f"{key}.parquet"


def parquet_writer(path: Path, table: str) -> pq.ParquetWriter:
    """Writes tables of `schema.schema(table)`; the same tables give the same bytes."""
    encodings = {column.name: _encoding(column) for column in schema.columns(table)}
    encodings = {name: encoding for name, encoding in encodings.items() if encoding}
    whole = schema.schema(table)
    return pq.ParquetWriter(
        path,
        whole,
        compression="zstd",
        compression_level=ZSTD_LEVEL,
        use_dictionary=[name for name in whole.names if name not in encodings],
        column_encoding=encodings,
        # Both weigh more than the data of a quiet quarter of an hour when every column has them.
        write_statistics=list(_STATISTICS),
        store_schema=False,
    )


def _encoding(column: schema.Column) -> str:
    """Parquet encoding, or "" for a dictionary."""
    if column.field in _DICTIONARY or column.char not in ("q", "Q", "i", "I"):
        return ""
    return "BYTE_STREAM_SPLIT" if column.field in _SPLIT_BY_BYTE else "DELTA_BINARY_PACKED"


def stored_rows(path: Path, table: str) -> Iterator[schema.Rows]:
    """The records of a file, row group by row group."""
    for data in stored_tables(path, table):
        yield schema.table_to_rows(data, table)


def stored_tables(path: Path, table: str) -> Iterator[pa.Table]:
    """The columns of the records of a file, row group by row group; without provenance."""
    names = list(schema.record_schema(table).names)
    with pq.ParquetFile(path, read_dictionary=["code"]) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=names)


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
