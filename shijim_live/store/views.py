"""What the views of the store show, in ClickHouse's SQL, once for the lake and for a server. Not where the rows lie.

`<table>_raw` is every row ever received and belongs to the store. `<table>` hides what the archive flagged as a
duplicate within its segment; of trades with a `total_volume` also those that an earlier run or segment holds already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shijim_live.store import schema

if TYPE_CHECKING:
    import pyarrow as pa

BACKFILL: Final = "backfill"  # the source of what was filled in from the broker's history
# Trades with equal values here are one trade, whoever recorded it.
SAME_TRADE: Final = "trading_day, session, code, lane, total_volume, exchange_ns, price_e6, volume"
_TYPES: Final = {
    "int32": "Int32", "int64": "Int64", "uint8": "UInt8", "uint16": "UInt16", "uint32": "UInt32", "bool": "Bool",
    "date32[day]": "Date32", "binary": "String",
}  # fmt: skip


def shown(table: str) -> str:
    """The SELECT of the view `table`, over `<table>_raw`."""
    rows = f"SELECT * FROM {table}_raw WHERE NOT duplicate"
    if table != "ticks":
        return rows
    # Ordered, so that every query hides the same one; the engine filters before it sorts.
    order = f"source = '{BACKFILL}', run_id, sequence"
    first = f"{rows} AND total_volume IS NOT NULL ORDER BY {order} LIMIT 1 BY {SAME_TRADE}"
    return f"{rows} AND total_volume IS NULL UNION ALL ({first})"


def column_types(table: str) -> dict[str, str]:
    """Column → type as the engine declares it."""
    return {field.name: _type(field) for field in schema.schema(table)}


def _type(field: pa.Field) -> str:
    import pyarrow as pa

    if pa.types.is_dictionary(field.type):
        return "LowCardinality(String)"
    kind = _TYPES[str(field.type)]
    return f"Nullable({kind})" if field.nullable else kind
