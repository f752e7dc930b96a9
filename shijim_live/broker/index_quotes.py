"""An index push of the broker as records, and back. Trades and books are read in Rust; a push in seconds need not be.

`QuoteIdxV1` is a map with some seventy names, of which a push fills a dozen, and unknown ones are kept under `extra`.
What has a field in the layout of a trade goes there; all the rest that was said goes into one side record, as JSON.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from shijim_live.broker.rest_fields import fixed, rest_of, side_records
from shijim_live.calendar import to_exchange_ns, wall_clock
from shijim_live.events import (
    ABSENT_I64,
    ABSENT_U32,
    BrokerClass,
    Exchange,
    Flag,
    Kind,
    Lane,
    Trade,
    encode,
)

CODE_CHARACTERS_MAX: Final = 16  # of a record

# The broker's name → the field of a trade.
FIELDS: Final = {
    "close": "price_e6", "open": "open_e6", "high": "high_e6", "low": "low_e6", "amount": "amount_e6",
    "amount_sum": "total_amount_e6", "volume": "volume", "vol_sum": "total_volume",
}  # fmt: skip
_IN_HEADER: Final = ("code", "exchange", "date", "time", "datetime")


def index_records(delivered: Any, received_ns: int, connection: int = 0) -> bytes:
    """The records of one `QuoteIdxV1`: side records, then the index. Raises what the object or its values raise."""
    said: dict[str, Any] = delivered.to_dict()
    code = said["code"]
    if len(code) > CODE_CHARACTERS_MAX or not code.isascii():
        raise ValueError(f"code {code!r} is not up to {CODE_CHARACTERS_MAX} ASCII characters")
    fields: dict[str, Any] = {}
    rest: dict[str, object] = {}
    for name, value in said.items():
        if name in _IN_HEADER or value is None:
            continue
        number = fixed(FIELDS[name], value) if name in FIELDS else None
        if number is None:
            rest[name] = value
        else:
            fields[FIELDS[name]] = number
    wall = said["datetime"]
    suspect = wall.year == 2000 or not said["close"]
    header: dict[str, Any] = {
        "broker_class": BrokerClass.QUOTE_IDX_V1,
        "lane": Lane.BOARD,
        "exchange": Exchange[said["exchange"].value],
        "flags": (Flag.HAS_SIDE if rest else 0) | (Flag.SUSPECT if suspect else 0),
        "exchange_ns": to_exchange_ns(wall),
        "received_ns": received_ns,
        "code": code,
        "connection": connection,
    }
    return b"".join((*side_records(rest, header), encode(Trade(kind=Kind.INDEX, **header, **fields))))


def to_index_dict(event: Trade) -> dict[str, object]:
    """What the broker's object says in `to_dict()`, numerically equal; names of which it says None are not there."""
    assert event.kind == Kind.INDEX
    wall = wall_clock(event.exchange_ns)
    said: dict[str, object] = {
        "code": event.code, "exchange": Exchange(event.exchange).name,
        "date": wall.date(), "time": wall.time(), "datetime": wall,
    }  # fmt: skip
    for theirs, ours in FIELDS.items():
        value = getattr(event, ours)
        if ours.endswith("_e6"):
            if value != ABSENT_I64:
                said[theirs] = Decimal(value).scaleb(-6)
        elif value != ABSENT_U32:
            said[theirs] = value
    return said | rest_of(event)
