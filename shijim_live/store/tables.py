"""The tables and views of a ClickHouse server, as SQL text. Sends nothing.

    ticks_shipped   every row shipped; one that came twice is merged away    (books_shipped, statuses_shipped)
    ticks_raw       the same without rows that wait to be merged away        the lake's ticks_raw
    ticks           what is not a duplicate                                  the lake's ticks

A row is known by (run_id, sequence); `code` stands before them because most questions name one, and `trading_day`
because only a column of the key lets a query with FINAL leave out whole days. Within a code and run the sequence is the
order of receipt, so stamps rise along the key, and their range in each granule finds a time of day.
On a cluster `ticks_shipped` is distributed by code over `ticks_shard`, which is replicated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shijim_live.store import schema
from shijim_live.store.views import column_types, shown

ORDER: Final = "trading_day, code, run_id, sequence"
# Blocks whose token the server remembers, so that an insert repeated is an insert ignored: two months of quarter-hour
# segments, or half a billion rows in one go. A block older than that is merged away instead.
TOKENS_MAX: Final = 10_000
# A part smaller than this is one file instead of one or two a column: an insert of 50,000 rows has 11 MB.
ONE_FILE_BYTES_MAX: Final = 64 << 20

# Bytes a value on a day of TXF and on a simulated one that fills every field, after merging; LZ4 is the default.
_DELTA: Final = "Delta, ZSTD(1)"  # sequence 0.7 (LZ4 4.0); received_ns 3.8 (6.4); total_volume 0.9 (3.9)
_GCD: Final = "GCD, ZSTD(1)"  # prices are whole ticks, stamps whole milli- or microseconds: 0.8 (2.5); 1.7 (5.6)
_GCD_DELTA: Final = "GCD, Delta, ZSTD(1)"  # money that adds up over a session: 2.0 (7.5)
_T64: Final = "T64, ZSTD(1)"  # lots need few of their 32 bits: 0.3 (1.3); of a level 0.4 (1.6)
_ONE_VALUE: Final = "LZ4"  # nearly always the same: 0.03 either way, and an insert is a sixth faster
_TOTALS: Final = ("total_volume", *(f"{side}_side_total_{what}" for side in ("bid", "ask") for what in ("vol", "cnt")))
_RARE: Final = ("closing_oddlot_", "fixed_trade_")


def statements(database: str, cluster: str | None) -> list[str]:
    """SQL that makes what is missing in the database, the current one; doing it again changes nothing."""
    return [statement for table in schema.TABLES for statement in _statements(table, database, cluster)]


def stored(table: str, cluster: str | None) -> str:
    """The table that holds the rows themselves: what a DELETE is sent to."""
    return f"{table}_shard" if cluster else f"{table}_shipped"


def on_cluster(cluster: str | None) -> str:
    return f" ON CLUSTER '{cluster}'" if cluster else ""


def _statements(table: str, database: str, cluster: str | None) -> Iterator[str]:
    where = on_cluster(cluster)
    yield _table(table, cluster)
    if cluster:
        distributed = f"Distributed('{cluster}', {database}, {table}_shard, cityHash64(code))"
        yield f"CREATE TABLE IF NOT EXISTS {table}_shipped{where} AS {table}_shard ENGINE = {distributed}"
    yield f"CREATE OR REPLACE VIEW {table}_raw{where} AS SELECT * FROM {table}_shipped FINAL"
    yield f"CREATE OR REPLACE VIEW {table}{where} AS {shown(table)}"


def _table(table: str, cluster: str | None) -> str:
    columns = [f"{name} {kind} CODEC({codec(name, kind)})" for name, kind in column_types(table).items()]
    columns.append("INDEX exchange_ns_range exchange_ns TYPE minmax GRANULARITY 1")
    # Which replica and shard a server is, it knows from its own macros.
    engine, window = (
        ("ReplicatedReplacingMergeTree", "replicated") if cluster else ("ReplacingMergeTree", "non_replicated")
    )
    return (
        f"CREATE TABLE IF NOT EXISTS {stored(table, cluster)}{on_cluster(cluster)} ({', '.join(columns)}) "
        f"ENGINE = {engine} PARTITION BY toYYYYMMDD(trading_day) ORDER BY ({ORDER}) "
        f"SETTINGS {window}_deduplication_window = {TOKENS_MAX}, min_bytes_for_wide_part = {ONE_FILE_BYTES_MAX}"
    )


def codec(name: str, kind: str) -> str:
    """How a column is compressed."""
    if name.startswith(_RARE) or name == "segment" or not any(wide in kind for wide in ("Int32", "Int64")):
        return _ONE_VALUE if name != "text" else "ZSTD(1)"
    if name in ("sequence", "received_ns", *_TOTALS):
        return _DELTA
    if name == "total_amount_e6":
        return _GCD_DELTA
    return _GCD if "Int64" in kind else _T64
