"""The vocabulary: records and events are two views of the same facts."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shijim_live import events
from shijim_live.events import Book, Flag, Kind, Status, Trade, UnknownRecord, decode, decode_all, encode

RANGES = {"B": (0, 2**8 - 1), "H": (0, 2**16 - 1), "I": (0, 2**32 - 1), "Q": (0, 2**64 - 1), "i": (-(2**31), 2**31 - 1),
          "q": (-(2**63), 2**63 - 1)}  # fmt: skip
CODE = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", max_size=16)


def fields_of(layout: events.Layout) -> dict[str, st.SearchStrategy[object]]:
    strategies: dict[str, st.SearchStrategy[object]] = {}
    for name, char, count in layout:
        if char in RANGES:
            number = st.integers(*RANGES[char])
            strategies[name] = st.tuples(*[number] * count) if count > 1 else number
    return strategies | {"code": CODE}


def of(kind: Kind, layout: events.Layout) -> dict[str, st.SearchStrategy[object]]:
    return fields_of(events.HEADER_LAYOUT + layout) | {"kind": st.just(int(kind))}


trades = st.builds(Trade, **of(Kind.TRADE, events.TRADE_LAYOUT))
books = st.builds(Book, **of(Kind.BOOK, events.BOOK_LAYOUT))
texts = of(Kind.OUTAGE, events.TEXT_LAYOUT) | {"text": st.text(max_size=42)}
del texts["text_length"]
statuses = st.builds(Status, **texts)


@given(trades | books | statuses)
def test_every_event_comes_back_from_its_record(event: Trade | Book | Status) -> None:
    record = encode(event)
    assert len(record) == events.RECORD_BYTES
    assert decode(record) == event


@pytest.mark.parametrize(("cls", "layout"), [(Trade, events.TRADE_LAYOUT), (Book, events.BOOK_LAYOUT)])
def test_every_field_of_the_record_is_a_field_of_the_event(cls: type, layout: events.Layout) -> None:
    named = {field.name for field in dataclasses.fields(cls)}
    recorded = {name for name, char, _ in events.HEADER_LAYOUT + layout if not char.endswith("x")}
    assert named == recorded | {"oversize"}


@given(trades, st.text("0123456789.-", min_size=1, max_size=500))
def test_what_does_not_fit_travels_in_side_records(trade: Trade, text: str) -> None:
    flagged = dataclasses.replace(trade, flags=trade.flags | Flag.HAS_SIDE, oversize=(("total_amount_e6", text),))
    assert list(decode_all(events.encode_with_sides(flagged))) == [flagged]


def test_a_record_of_another_version_is_refused_with_its_kind() -> None:
    with pytest.raises(UnknownRecord, match="kind 77 is not in schema version 1: upgrade shijim"):
        decode(bytes([77]) + bytes(255))


def test_text_that_does_not_fit_one_record_is_refused() -> None:
    with pytest.raises(ValueError, match="split it into parts"):
        encode(Status(kind=Kind.START, text="x" * 169))
