"""What the SDK hands out, as plain values and exact integers. Knows no event and no order.

Its objects are mapping-like, but neither dict nor Mapping, and most of them raise when they are iterated; numbers are
floats. A float becomes the decimal that it is printed as, so that 0.1 is 100,000 millionths and not a little more.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any, Final

DEPTH_MAX: Final = 8  # an event is three deep; an object that holds itself must not cost the thread
VALUES_MAX: Final = 5_000  # of one mapping or list: a trade's deals are the most
SECONDS_MAX: Final = 4_102_444_800  # the year 2100
TEXT_CHARACTERS_MAX: Final = 4_000  # of what could not be read


class NotPlain(ValueError):
    """A value of a kind that no answer of the broker has; says where."""


def plain(value: Any, depth: int = 0) -> Any:
    """The value with everything in it as dict, list, str, int, float, bool or None; enums as what they stand for.

    NotPlain, and whatever the SDK raises when it is read: a panic is a BaseException.
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    if depth > DEPTH_MAX:
        raise NotPlain(f"deeper than {DEPTH_MAX}")
    if isinstance(value, Decimal | date):  # a datetime is a date
        return str(value)
    if hasattr(value, "keys"):
        names = list(value.keys())
        _refuse_many(len(names))
        return {str(name): plain(value[name], depth + 1) for name in names}
    if hasattr(value, "value"):
        return plain(value.value, depth + 1)
    if hasattr(value, "__len__") and hasattr(value, "__getitem__"):
        _refuse_many(len(value))
        return [plain(value[place], depth + 1) for place in range(len(value))]
    # A contract is no mapping at all: what it says are its attributes.
    names = [name for name in dir(value) if not name.startswith("_")]
    _refuse_many(len(names))
    said = {name: found for name in names if not callable(found := getattr(value, name))}
    if not said:
        raise NotPlain(f"a {type(value).__name__} is in it")
    return {name: plain(found, depth + 1) for name, found in said.items()}


def _refuse_many(count: int) -> None:
    if count > VALUES_MAX:
        raise NotPlain(f"{count} values in one place, more than {VALUES_MAX}")


def word(value: Any) -> str:
    """A text, or what an enum of the SDK stands for."""
    found = plain(value)
    if type(found) is not str:
        raise NotPlain(f"{found!r} where a text belongs")
    return found


def exact_e6(value: Any) -> int:
    """A price × 1,000,000. ValueError where it has more than six decimals or is no number."""
    scaled = _decimal(value).scaleb(6)
    whole = int(scaled)
    if whole != scaled:
        raise ValueError(f"{value!r} has more than six decimals")
    return whole


def rounded_e6(value: Any) -> int:
    """Money or an average price × 1,000,000, to the nearest; averages have as many decimals as a float holds."""
    return int(_decimal(value).scaleb(6).to_integral_value())


def seconds_ns(value: Any) -> int:
    """Seconds since the epoch as ns. A float of today keeps microseconds, and what it is printed as has no more."""
    seconds = _decimal(value)
    if not 0 <= seconds < SECONDS_MAX:
        raise ValueError(f"{value!r} is no time")
    return int(seconds.scaleb(9))


def _decimal(value: Any) -> Decimal:
    if type(value) not in (int, float, Decimal):
        raise ValueError(f"{value!r} is no number")
    number = Decimal(repr(value)) if type(value) is float else Decimal(value)
    if not number.is_finite() or abs(number) >= Decimal(10) ** 12:
        raise ValueError(f"{value!r} is no number that a market has")
    return number


def unread_text(value: object) -> str:
    """What can be shown of an object that could not be read; reading it again may panic again."""
    try:
        return repr(value)[:TEXT_CHARACTERS_MAX]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - the SDK's panics are no Exception
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
