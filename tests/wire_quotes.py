"""Every recorded quote class by its wire slots, legal and illegal values for each, and objects made of them.

A letter a slot: c code, d date, t time, p price, u count, k kind, i signed, b boolean; a capital is five of them.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from hypothesis import strategies as st
from wire import Raw, Wire, pack, stamp

from shijim_live.broker.shioaji import quote_classes
from shijim_live.events import BrokerClass
from shijim_live.record.recorder import class_spec

CLASSES = quote_classes(Path(tempfile.gettempdir()) / "shijim-test-sdk")
SPECS = [
    class_spec(CLASSES.tick_stk, BrokerClass.TICK_STK_V1),
    class_spec(CLASSES.tick_fop, BrokerClass.TICK_FOP_V1),
    class_spec(CLASSES.bidask_stk, BrokerClass.BIDASK_STK_V1),
    class_spec(CLASSES.bidask_fop, BrokerClass.BIDASK_FOP_V1),
]

SLOTS = {
    BrokerClass.TICK_STK_V1: "cdt" + "ppppppp" + "uukk" + "pi" + "uuuuu" + "pppp" + "up" + "bb",
    BrokerClass.TICK_FOP_V1: "cdt" + "pp" + "uu" + "pppppp" + "uukk" + "pp" + "b",
    BrokerClass.BIDASK_STK_V1: "cdt" + "PUIPUI" + "bb",
    BrokerClass.BIDASK_FOP_V1: "cdt" + "uu" + "PUIPUI" + "pp" + "uu" + "p" + "b",
}
READ: dict[BrokerClass, Callable[[bytes], object]] = {
    BrokerClass.TICK_STK_V1: CLASSES.tick_stk.from_msgpack,
    BrokerClass.TICK_FOP_V1: CLASSES.tick_fop.from_msgpack,
    BrokerClass.BIDASK_STK_V1: CLASSES.bidask_stk.from_msgpack,
    BrokerClass.BIDASK_FOP_V1: CLASSES.bidask_fop.from_msgpack,
}

# Any price the wire can carry: up to 18 digits before the point and 9 behind it, also more than fixed point holds.
prices = st.decimals(min_value=-(10**18), max_value=10**18, allow_nan=False, places=6) | st.decimals(
    min_value=-(10**12), max_value=10**12, allow_nan=False, places=9
)
counts = st.integers(0, 2**64 - 1) | st.integers(0, 2**32 + 1) | st.integers(0, 1000)
changes = st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**31) - 1, 2**31) | st.integers(-50, 50)
kinds = st.integers(0, 2**32 - 1) | st.integers(0, 5)
# 2000 is what the SDK answers when it cannot read a date.
walls = st.datetimes(datetime(2001, 1, 1), datetime(2099, 12, 31))  # noqa: DTZ001 - the broker's stamps are naive
codes = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/", min_size=1, max_size=16)


def text(price: Decimal) -> str:
    return format(price, "f")


LEGAL: dict[str, st.SearchStrategy[Wire]] = {
    "c": codes,
    "p": prices.map(text),
    "u": counts,
    "k": kinds,
    "i": st.integers(-9999, 9999),
    "b": st.booleans(),
    "P": st.lists(prices.map(text), min_size=5, max_size=5),
    "U": st.lists(counts, min_size=5, max_size=5),
    "I": st.lists(changes, min_size=5, max_size=5),
}

# What no slot should hold, or not this one: nil, floats, bytes, maps, text that is no text, numbers out of range,
# lengths that lie. Whether the SDK refuses, panics when it is read, or makes something up is its affair.
ILLEGAL: dict[str, Wire] = {
    "nil": Raw(b"\xc0"),
    "the marker that is never used": Raw(b"\xc1"),
    "a double": Raw(b"\xcb" + struct.pack(">d", 1.5)),
    "NaN": Raw(b"\xcb" + struct.pack(">d", float("nan"))),
    "bytes": Raw(b"\xc4\x02\xff\xfe"),
    "an extension": Raw(b"\xd4\x01\x00"),
    "an empty map": Raw(b"\x80"),
    "a map": Raw(b"\x81\xa1a\x01"),
    "text that is no UTF-8": Raw(b"\xa3\xff\xfe\x41"),
    "half a character": Raw(b"\xa1\xe5"),
    "empty text": "",
    "a minus alone": "-",
    "an exponent": "1e3",
    "spaces": " 12 ",
    "not a number": "NaN",
    "infinity": "Infinity",
    "full-width digits": "１２３",
    "a NUL": "a\0b",
    "long text": "9" * 200,
    "text longer than a quarantine": Raw(b"\xda" + struct.pack(">H", 60_000) + b"7" * 60_000),
    "a small number": 7,
    "minus one": -1,
    "the largest number": 2**64 - 1,
    "the smallest number": -(2**63),
    "one past 32 bits": 2**32,
    "true": True,
    "a list of nothing": [],
    "four levels": ["1", "2", "3", "4"],
    "six levels": [1, 2, 3, 4, 5, 6],
    "five levels with nil": Raw(b"\x95\x01\x02\xc0\x04\x05"),
    "five levels with text": ["1", "2", "x", "4", "5"],
    "lists in lists": [[[[[[]]]]]],
    "a list that says it has 4 billion": Raw(b"\xdd\xff\xff\xff\xff"),
    "text that says it has 4 billion": Raw(b"\xdb\xff\xff\xff\xff"),
    "an impossible date": "2026/13/45",
    "a date before the epoch": "1969/12/31",
    "a date far ahead": "9999/12/31",
    "an impossible time": "25:61:61",
    "a time with seven digits": "09:00:00.1234567",
}  # fmt: skip


@st.composite
def wires(draw: st.DrawFn, broker_class: BrokerClass | None = None) -> tuple[BrokerClass, list[Wire]]:
    """A class and legal values for each of its slots."""
    which = broker_class or draw(st.sampled_from(list(SLOTS)))
    date, time = stamp(draw(walls))
    fixed = {"d": date, "t": time}
    return which, [fixed[slot] if slot in fixed else draw(LEGAL[slot]) for slot in SLOTS[which]]


@st.composite
def objects(draw: st.DrawFn) -> object:
    """An object of one of the four quote classes, decoded by the SDK from bytes with any values in it."""
    which, wire = draw(wires())
    return READ[which](pack(wire))
