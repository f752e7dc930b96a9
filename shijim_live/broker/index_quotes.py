"""An index push of the broker as records, and back. Trades and books are read in Rust; a push in seconds need not be.

`QuoteIdxV1` is a map with some seventy names, of which a push fills a dozen, and unknown ones are kept under `extra`.
What has a field in the layout of a trade goes there; all the rest that was said goes into one side record, as JSON.
"""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any, Final, cast

from shijim_live.calendar import to_exchange_ns, wall_clock
from shijim_live.events import (
    ABSENT_I64,
    ABSENT_U32,
    PRICE_SCALE,
    REST_FIELD,
    TEXT_BYTES,
    BrokerClass,
    Exchange,
    Flag,
    Kind,
    Lane,
    Status,
    Trade,
    encode,
)

CODE_CHARACTERS_MAX: Final = 16  # of a record
REST_BYTES_MAX: Final = 8192  # a push has some hundreds; what is longer is no index

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
        fixed = _fixed(FIELDS[name], value) if name in FIELDS else None
        if fixed is None:
            rest[name] = value
        else:
            fields[FIELDS[name]] = fixed
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
    return b"".join((*_sides(rest, header), encode(Trade(kind=Kind.INDEX, **header, **fields))))


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
    rest = dict(event.oversize).get("rest", "{}")
    return said | cast(dict[str, object], json.loads(rest, object_hook=_from_json))


def _fixed(field: str, value: object) -> int | None:
    """The number of a field; None where it does not fit exactly and travels as text."""
    if field.endswith("_e6"):
        if not isinstance(value, Decimal) or not value.is_finite():
            return None
        numerator, denominator = value.as_integer_ratio()
        scaled, left = divmod(numerator * PRICE_SCALE, denominator)
        return scaled if left == 0 and ABSENT_I64 < scaled < -ABSENT_I64 else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < ABSENT_U32 else None


def _sides(rest: dict[str, object], header: dict[str, Any]) -> list[bytes]:
    if not rest:
        return []
    text = json.dumps(rest, default=_to_json, separators=(",", ":"))  # ASCII: a part may end anywhere
    if len(text) > REST_BYTES_MAX:
        raise ValueError(f"{len(text):,} bytes of attributes without a field are more than an index has")
    parts = [text[at : at + TEXT_BYTES] for at in range(0, len(text), TEXT_BYTES)]
    return [
        encode(Status(kind=Kind.SIDE, **header, field=REST_FIELD, part=part, parts=len(parts), text=chunk))
        for part, chunk in enumerate(parts)
    ]


def _to_json(value: object) -> dict[str, str]:
    """What JSON has no word for, under a name that says what it is."""
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, date):
        return {"$date": value.isoformat()}
    raise ValueError(f"{type(value).__name__} where a number, a text or a date was expected")


def _from_json(found: dict[str, Any]) -> object:
    match found:
        case {"$decimal": text}:
            return Decimal(text)
        case {"$date": text}:
            return date.fromisoformat(text)
    return found
