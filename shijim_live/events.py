"""The vocabulary: Trade, Book, Status, and the 256-byte record each travels in. No I/O, imports nothing of ours.

`rust_indicators/src/record.rs` is the twin; `tests/test_rust_layout.py` pins both: every field and every number.

Schema versions (a reader refuses one it does not know):
  1  first layout: header 56 B, body 200 B

A version changes when a field moves, appears or changes meaning. A new kind is none of these: it has a layout that is
there already, and a release that does not know its number refuses it by that number (`UnknownRecord`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum, IntFlag
from typing import Final

SCHEMA_VERSION: Final = 1
RECORD_BYTES: Final = 256
LEVELS: Final = 5
TEXT_BYTES: Final = 168
PRICE_SCALE: Final = 1_000_000
REST_FIELD: Final = 2**16 - 1  # `field` of a side record with all that has no field of its own, as JSON

ABSENT_I64: Final = -(2**63)  # a time or price the source could not know
ABSENT_I32: Final = -(2**31)
ABSENT_U32: Final = 2**32 - 1
ABSENT_U8: Final = 255
EMPTY_PRICE_E6: Final = -(2**63)  # a book level that holds nothing


class Kind(IntEnum):
    """What a record is."""

    TRADE = 1
    BOOK = 2
    INDEX = 3  # a push of an index, as a Trade; `rest` of its oversize is what has no field there
    SNAPSHOT = 4  # how a code stood when the broker was asked, the same way; no trade of the tape
    START = 16
    STOP = 17
    OUTAGE = 18
    CONNECTION = 19
    SUBSCRIPTION = 20
    CLOCK_OFFSET = 21
    GAP = 22  # lots that the trade right before this one says were not delivered; recorders judge, imports do not
    SIDE = 32  # a field of the next event that does not fit the fixed record, as text
    QUARANTINE = 33  # a broker object that could not be read, as text


AS_TRADES: Final = (Kind.TRADE, Kind.INDEX, Kind.SNAPSHOT)  # of one layout


class Lane(IntEnum):
    """Separate streams of one code that never mix in volume, bars, signals or datasets."""

    BOARD = 1  # round lots of stocks, contracts of futures
    ODD = 2  # intraday odd lots, in shares
    TRIAL = 3  # trial matches (`simtrade`): indications, not trades


class Exchange(IntEnum):
    """The broker's exchange names, by our number."""

    TSE = 1
    OTC = 2
    OES = 3
    TAIFEX = 4
    TIM = 5


class BrokerClass(IntEnum):
    """Which of the source's shapes an event was read from."""

    TICK_STK_V1 = 1
    TICK_FOP_V1 = 2
    BIDASK_STK_V1 = 3
    BIDASK_FOP_V1 = 4
    TXF_L5 = 5  # hftbacktest-style Parquet of L5 differences
    SHIOAJI_STREAM = 6  # JSONL of the first Shijim
    HISTORY_TICKS = 7  # a row of the broker's history: no receive time, no total, top of book only
    QUOTE_IDX_V1 = 8
    SNAPSHOT = 9


class Flag(IntFlag):
    """What else is known of an event; `record.rs` gives each its reason."""

    SUSPEND = 1
    SIMTRADE = 2
    INTRADAY_ODD = 4
    HAS_SIDE = 8
    LANE_INFERRED = 16
    SIDE_INFERRED = 32
    TIME_ROUNDED = 64
    SUSPECT = 128
    TOTAL_INFERRED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event says of itself."""

    kind: int
    broker_class: int = 0
    lane: int = 0
    exchange: int = 0
    flags: int = 0
    sequence: int = 0  # position in the run, from 1, no gaps
    exchange_ns: int = ABSENT_I64  # exchange clock, since the Unix epoch, UTC
    received_ns: int = ABSENT_I64  # our clock at the first line of the callback
    code: str = ""
    connection: int = 0
    side: int = 0  # 1 buyer initiated, 2 seller initiated, 0 undetermined
    chg_type: int = ABSENT_U8
    source_offset_ns: int = 0  # the source's own stamp minus exchange_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade(Event):
    """One match on the exchange. Prices and money × 1,000,000; absent where the source cannot know."""

    kind: int = Kind.TRADE
    price_e6: int = ABSENT_I64
    volume: int = ABSENT_U32  # lots; shares on the odd-lot lane
    total_volume: int = ABSENT_U32  # of the session so far, this trade included
    open_e6: int = ABSENT_I64
    high_e6: int = ABSENT_I64
    low_e6: int = ABSENT_I64
    avg_price_e6: int = ABSENT_I64
    amount_e6: int = ABSENT_I64
    total_amount_e6: int = ABSENT_I64
    price_chg_e6: int = ABSENT_I64
    pct_chg_e6: int = ABSENT_I64
    underlying_price_e6: int = ABSENT_I64
    closing_oddlot_close_e6: int = ABSENT_I64
    closing_oddlot_amount_e6: int = ABSENT_I64
    closing_oddlot_bid_price_e6: int = ABSENT_I64
    closing_oddlot_ask_price_e6: int = ABSENT_I64
    fixed_trade_amount_e6: int = ABSENT_I64
    bid_side_total_vol: int = ABSENT_U32
    ask_side_total_vol: int = ABSENT_U32
    bid_side_total_cnt: int = ABSENT_U32
    ask_side_total_cnt: int = ABSENT_U32
    closing_oddlot_shares: int = ABSENT_U32
    fixed_trade_vol: int = ABSENT_U32
    oversize: tuple[tuple[str, str], ...] = ()  # (field, text) of values that do not fit; the field is absent


@dataclass(frozen=True, slots=True, kw_only=True)
class Book(Event):
    """The five best levels a side, best first. An empty level has EMPTY_PRICE_E6 and volume 0."""

    kind: int = Kind.BOOK
    bid_price_e6: tuple[int, ...] = (EMPTY_PRICE_E6,) * LEVELS
    ask_price_e6: tuple[int, ...] = (EMPTY_PRICE_E6,) * LEVELS
    bid_volume: tuple[int, ...] = (0,) * LEVELS
    ask_volume: tuple[int, ...] = (0,) * LEVELS
    diff_bid_vol: tuple[int, ...] = (ABSENT_I32,) * LEVELS
    diff_ask_vol: tuple[int, ...] = (ABSENT_I32,) * LEVELS
    bid_total_vol: int = ABSENT_U32
    ask_total_vol: int = ABSENT_U32
    first_derived_bid_price_e6: int = ABSENT_I64
    first_derived_ask_price_e6: int = ABSENT_I64
    first_derived_bid_vol: int = ABSENT_U32
    first_derived_ask_vol: int = ABSENT_U32
    underlying_price_e6: int = ABSENT_I64
    oversize: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Event):
    """Something about the recording itself: start, stop, outage, connection, subscription, a quarantined object."""

    begin_ns: int = ABSENT_I64
    end_ns: int = ABSENT_I64
    value: int = 0
    field: int = 0  # side records: offset in the record of the field it stands for
    part: int = 0
    parts: int = 1
    text: str = ""


# (field, struct character, how many) in the order of the bytes.
HEADER_LAYOUT: Final = (
    ("kind", "B", 1), ("broker_class", "B", 1), ("lane", "B", 1), ("exchange", "B", 1), ("flags", "I", 1),
    ("sequence", "Q", 1), ("exchange_ns", "q", 1), ("received_ns", "q", 1), ("code", "16s", 1),
    ("connection", "H", 1), ("side", "B", 1), ("chg_type", "B", 1), ("source_offset_ns", "i", 1),
)  # fmt: skip
TRADE_LAYOUT: Final = (
    ("price_e6", "q", 1), ("volume", "I", 1), ("total_volume", "I", 1), ("open_e6", "q", 1), ("high_e6", "q", 1),
    ("low_e6", "q", 1), ("avg_price_e6", "q", 1), ("amount_e6", "q", 1), ("total_amount_e6", "q", 1),
    ("price_chg_e6", "q", 1), ("pct_chg_e6", "q", 1), ("underlying_price_e6", "q", 1),
    ("closing_oddlot_close_e6", "q", 1), ("closing_oddlot_amount_e6", "q", 1), ("closing_oddlot_bid_price_e6", "q", 1),
    ("closing_oddlot_ask_price_e6", "q", 1), ("fixed_trade_amount_e6", "q", 1), ("bid_side_total_vol", "I", 1),
    ("ask_side_total_vol", "I", 1), ("bid_side_total_cnt", "I", 1), ("ask_side_total_cnt", "I", 1),
    ("closing_oddlot_shares", "I", 1), ("fixed_trade_vol", "I", 1), ("reserved", "48x", 1),
)  # fmt: skip
BOOK_LAYOUT: Final = (
    ("bid_price_e6", "q", 5), ("ask_price_e6", "q", 5), ("bid_volume", "I", 5), ("ask_volume", "I", 5),
    ("diff_bid_vol", "i", 5), ("diff_ask_vol", "i", 5), ("bid_total_vol", "I", 1), ("ask_total_vol", "I", 1),
    ("first_derived_bid_price_e6", "q", 1), ("first_derived_ask_price_e6", "q", 1), ("first_derived_bid_vol", "I", 1),
    ("first_derived_ask_vol", "I", 1), ("underlying_price_e6", "q", 1),
)  # fmt: skip
TEXT_LAYOUT: Final = (
    ("begin_ns", "q", 1), ("end_ns", "q", 1), ("value", "q", 1), ("field", "H", 1), ("part", "H", 1),
    ("parts", "H", 1), ("text_length", "H", 1), ("text", "168s", 1),
)  # fmt: skip

Layout = tuple[tuple[str, str, int], ...]


def _format(layout: Layout) -> str:
    return "".join(f"{count}{char}" if count > 1 else char for _, char, count in layout)


def offsets(layout: Layout, start: int = 0) -> dict[str, tuple[int, int]]:
    """Field → (offset, bytes), in the order of the layout."""
    places = {}
    for name, char, count in layout:
        size = struct.calcsize("<" + char) * count
        places[name] = (start, size)
        start += size
    return places


HEADER_STRUCT: Final = struct.Struct("<" + _format(HEADER_LAYOUT))
HEADER_BYTES: Final = HEADER_STRUCT.size
TRADE_STRUCT: Final = struct.Struct(HEADER_STRUCT.format + _format(TRADE_LAYOUT))
BOOK_STRUCT: Final = struct.Struct(HEADER_STRUCT.format + _format(BOOK_LAYOUT))
TEXT_STRUCT: Final = struct.Struct(HEADER_STRUCT.format + _format(TEXT_LAYOUT))

_HEADER_NAMES: Final = tuple(name for name, _, _ in HEADER_LAYOUT)
_TRADE_NAMES: Final = _HEADER_NAMES + tuple(name for name, char, _ in TRADE_LAYOUT if not char.endswith("x"))


def _field_at() -> dict[tuple[int, int], str]:
    """(kind, offset in the record) → field; a level of a book is named `bid_price_e6[2]`."""
    found = {}
    for kind in (*AS_TRADES, Kind.BOOK):
        layout = HEADER_LAYOUT + (BOOK_LAYOUT if kind is Kind.BOOK else TRADE_LAYOUT)
        for (name, _, count), (offset, size) in zip(layout, offsets(layout).values(), strict=True):
            for level in range(count):
                label = f"{name}[{level}]" if count > 1 else name
                found[(int(kind), offset + level * size // count)] = label
    return found | {(int(kind), REST_FIELD): "rest" for kind in (Kind.INDEX, Kind.SNAPSHOT)}


FIELD_AT: Final = _field_at()


class UnknownRecord(ValueError):
    """A record kind this version does not know."""


def decode(record: bytes) -> Trade | Book | Status:
    """One 256-byte record as an event. Raises UnknownRecord for a kind of another version."""
    kind = record[0]
    if kind in AS_TRADES:
        fields = dict(zip(_TRADE_NAMES, TRADE_STRUCT.unpack(record), strict=True))
        fields["code"] = _text(fields["code"])
        return Trade(**fields)
    if kind == Kind.BOOK:
        return _decode_book(record)
    if kind in Kind._value2member_map_:
        *header, begin, end, value, field, part, parts, length, text = TEXT_STRUCT.unpack(record)
        fields = dict(zip(_HEADER_NAMES, header, strict=True))
        fields["code"] = _text(fields["code"])
        decoded = text[:length].decode("utf-8", "replace")
        return Status(
            **fields, begin_ns=begin, end_ns=end, value=value, field=field, part=part, parts=parts, text=decoded
        )
    raise UnknownRecord(f"record kind {kind} is not in schema version {SCHEMA_VERSION}: upgrade shijim to read it")


def _decode_book(record: bytes) -> Book:
    values = list(BOOK_STRUCT.unpack(record))
    fields: dict[str, object] = {}
    for name, _, count in HEADER_LAYOUT + BOOK_LAYOUT:
        fields[name] = tuple(values[:count]) if count > 1 else values[0]
        del values[:count]
    fields["code"] = _text(fields["code"])  # type: ignore[arg-type]
    return Book(**fields)  # type: ignore[arg-type]


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode("ascii")


def encode(event: Event) -> bytes:
    """The 256-byte record of an event. Oversize fields are not in it: they travel in side records."""
    if isinstance(event, Trade):
        return TRADE_STRUCT.pack(*(_packed(event, name) for name in _TRADE_NAMES))
    if isinstance(event, Book):
        values: list[object] = []
        for name, _, count in HEADER_LAYOUT + BOOK_LAYOUT:
            values.extend(getattr(event, name) if count > 1 else (_packed(event, name),))
        return BOOK_STRUCT.pack(*values)
    assert isinstance(event, Status)
    text = event.text.encode()
    if len(text) > TEXT_BYTES:
        raise ValueError(f"text of {len(text)} bytes does not fit one record ({TEXT_BYTES}): split it into parts")
    header = (_packed(event, name) for name in _HEADER_NAMES)
    return TEXT_STRUCT.pack(
        *header, event.begin_ns, event.end_ns, event.value, event.field, event.part, event.parts, len(text), text
    )


def encode_with_sides(event: Trade | Book) -> bytes:
    """The event's record behind the side records of what does not fit it. Sequences are the caller's."""
    places = {field: offset for (kind, offset), field in FIELD_AT.items() if kind == event.kind}
    sides = []
    for field, text in event.oversize:
        parts = [text[at : at + TEXT_BYTES] for at in range(0, len(text), TEXT_BYTES)]
        sides += [
            Status(kind=Kind.SIDE, code=event.code, exchange_ns=event.exchange_ns, received_ns=event.received_ns,
                   field=places[field], part=part, parts=len(parts), text=chunk)
            for part, chunk in enumerate(parts)
        ]  # fmt: skip
    flags = event.flags | (Flag.HAS_SIDE if event.oversize else 0)
    return b"".join(encode(side) for side in sides) + encode(replace(event, flags=flags))


def _packed(event: Event, name: str) -> object:
    value = getattr(event, name)
    return value.encode("ascii") if name == "code" else value


def decode_all(records: bytes | memoryview) -> Iterator[Trade | Book | Status]:
    """Events of consecutive records, with side records folded into the event they belong to."""
    return decode_chunks([records])


def decode_chunks(chunks: Iterable[bytes | memoryview]) -> Iterator[Trade | Book | Status]:
    """The same of records that come in pieces: an event and its side records may lie in two of them."""
    return fold_side_records(
        decode(bytes(records[at : at + RECORD_BYTES]))
        for records in chunks
        for at in range(0, len(records), RECORD_BYTES)
    )


def fold_side_records(events: Iterable[Trade | Book | Status]) -> Iterator[Trade | Book | Status]:
    """Gives each event its oversize fields and drops the side records that carried them.

    Side records stand right before their event. Where a corrupt block took some of them, or the event, the rest is
    dropped too: half a value is none.
    """
    pending: dict[int, str] = {}
    last_sequence = 0
    for event in events:
        if last_sequence and event.sequence != last_sequence + 1:
            pending.clear()
        last_sequence = event.sequence
        if isinstance(event, Status):
            if event.kind != Kind.SIDE:
                yield event
            elif event.part == 0:
                pending[event.field] = event.text
            elif event.field in pending:
                pending[event.field] += event.text
            continue
        if event.flags & Flag.HAS_SIDE:
            oversize = ((FIELD_AT.get((event.kind, field)), text) for field, text in pending.items())
            event = replace(event, oversize=tuple((field, text) for field, text in oversize if field))
        pending.clear()
        yield event


# Broker attribute → our field, per class; what is not named here has the same name in both.
_TICK: Final = {
    "close": "price_e6", "open": "open_e6", "high": "high_e6", "low": "low_e6", "avg_price": "avg_price_e6",
    "amount": "amount_e6", "total_amount": "total_amount_e6", "price_chg": "price_chg_e6", "pct_chg": "pct_chg_e6",
    "volume": "volume", "total_volume": "total_volume", "tick_type": "side", "chg_type": "chg_type",
    "bid_side_total_vol": "bid_side_total_vol", "ask_side_total_vol": "ask_side_total_vol",
}  # fmt: skip
_LEVELS: Final = {
    "bid_price": "bid_price_e6", "ask_price": "ask_price_e6", "bid_volume": "bid_volume", "ask_volume": "ask_volume",
    "diff_bid_vol": "diff_bid_vol", "diff_ask_vol": "diff_ask_vol",
}  # fmt: skip
BROKER_FIELDS: Final[dict[int, dict[str, str]]] = {
    BrokerClass.TICK_STK_V1: _TICK | {
        "bid_side_total_cnt": "bid_side_total_cnt", "ask_side_total_cnt": "ask_side_total_cnt",
        "closing_oddlot_shares": "closing_oddlot_shares", "fixed_trade_vol": "fixed_trade_vol",
        "closing_oddlot_close": "closing_oddlot_close_e6", "closing_oddlot_amount": "closing_oddlot_amount_e6",
        "closing_oddlot_bid_price": "closing_oddlot_bid_price_e6",
        "closing_oddlot_ask_price": "closing_oddlot_ask_price_e6", "fixed_trade_amount": "fixed_trade_amount_e6",
    },
    BrokerClass.TICK_FOP_V1: _TICK | {"underlying_price": "underlying_price_e6"},
    BrokerClass.BIDASK_STK_V1: _LEVELS,
    BrokerClass.BIDASK_FOP_V1: _LEVELS | {
        "bid_total_vol": "bid_total_vol", "ask_total_vol": "ask_total_vol",
        "first_derived_bid_price": "first_derived_bid_price_e6",
        "first_derived_ask_price": "first_derived_ask_price_e6", "first_derived_bid_vol": "first_derived_bid_vol",
        "first_derived_ask_vol": "first_derived_ask_vol", "underlying_price": "underlying_price_e6",
    },
}  # fmt: skip
BROKER_FLAGS: Final = {
    BrokerClass.TICK_STK_V1: ("suspend", "simtrade", "intraday_odd"),
    BrokerClass.TICK_FOP_V1: ("simtrade",),
    BrokerClass.BIDASK_STK_V1: ("suspend", "simtrade", "intraday_odd"),
    BrokerClass.BIDASK_FOP_V1: ("simtrade",),
}

# The epoch on Taipei's wall clock, which has no summer time.
_EPOCH_TAIPEI: Final = datetime(1970, 1, 1, 8)  # noqa: DTZ001 - the broker's stamps are naive


def to_broker_dict(event: Trade | Book) -> dict[str, object]:
    """Every attribute of the broker's object, numerically equal to its `to_dict()`, plus `exchange`.

    Raises KeyError for an event that no broker class stands behind (an imported file).
    """
    broker_class = BrokerClass(event.broker_class)
    oversize = dict(event.oversize)
    wall = _EPOCH_TAIPEI + timedelta(microseconds=event.exchange_ns // 1000)
    fields: dict[str, object] = {
        "code": event.code, "exchange": Exchange(event.exchange).name,
        "datetime": wall, "date": wall.date(), "time": wall.time(),
    }  # fmt: skip
    for name in BROKER_FLAGS[broker_class]:
        fields[name] = bool(event.flags & Flag[name.upper()])
    for theirs, ours in BROKER_FIELDS[broker_class].items():
        value = getattr(event, ours)
        if isinstance(value, tuple):
            levels = enumerate(value)
            fields[theirs] = [_broker_value(f"{ours}[{level}]", item, oversize) for level, item in levels]
        else:
            fields[theirs] = _broker_value(ours, value, oversize)
    return fields


def _broker_value(field: str, value: int, oversize: dict[str, str]) -> int | Decimal | None:
    if field in oversize:
        text = oversize[field]
        return Decimal(text) if "_e6" in field else int(text)
    if "_e6" not in field:
        return value
    if value == EMPTY_PRICE_E6 and "[" in field:
        return Decimal(0)
    if value == ABSENT_I64:
        return None  # an optional price whose text was none: the odd-lot close, the fixed-price amount
    return Decimal(value).scaleb(-6)
