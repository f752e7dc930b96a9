"""What a broker's object said beyond the fields of a record: one side record before it, as JSON. Knows no object."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any, Final, cast

from shijim_live.events import (
    ABSENT_I64,
    ABSENT_U32,
    PRICE_SCALE,
    REST_FIELD,
    TEXT_BYTES,
    Kind,
    Status,
    Trade,
    encode,
)

REST_BYTES_MAX: Final = 8192  # a push has some hundreds; what is longer is no index and no snapshot


def side_records(rest: dict[str, object], header: dict[str, Any]) -> list[bytes]:
    """Of the attributes without a field; ValueError where they are too many, or of a type JSON cannot carry."""
    if not rest:
        return []
    text = json.dumps(rest, default=_to_json, separators=(",", ":"))  # ASCII: a part may end anywhere
    if len(text) > REST_BYTES_MAX:
        raise ValueError(f"{len(text):,} bytes of attributes without a field are more than such an object has")
    parts = [text[at : at + TEXT_BYTES] for at in range(0, len(text), TEXT_BYTES)]
    return [
        encode(Status(kind=Kind.SIDE, **header, field=REST_FIELD, part=part, parts=len(parts), text=chunk))
        for part, chunk in enumerate(parts)
    ]


def fixed(field: str, value: object) -> int | None:
    """The number of a field; None where it does not fit exactly and travels as text."""
    if field.endswith("_e6"):
        if not isinstance(value, Decimal) or not value.is_finite():
            return None
        numerator, denominator = value.as_integer_ratio()
        scaled, left = divmod(numerator * PRICE_SCALE, denominator)
        return scaled if left == 0 and ABSENT_I64 < scaled < -ABSENT_I64 else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < ABSENT_U32 else None


def rest_of(event: Trade) -> dict[str, object]:
    """The attributes that came with an event in its side record."""
    rest = dict(event.oversize).get("rest", "{}")
    return cast(dict[str, object], json.loads(rest, object_hook=_from_json))


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
