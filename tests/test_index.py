"""An index push of the broker: from the SDK's own object through the real log, back to its dict, and into the lake."""

# ruff: noqa: DTZ001 - naive Taipei wall clocks are what is tested

from __future__ import annotations

import tempfile
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import write_log
from test_publisher import Log
from wire import pack, stamp
from wire_quotes import prices, walls

from shijim_live.broker.index_quotes import REST_BYTES_MAX, index_records, to_index_dict
from shijim_live.broker.shioaji import quote_classes
from shijim_live.calendar import to_exchange_ns
from shijim_live.cli import main
from shijim_live.events import RECORD_BYTES, Flag, Kind, Lane, Status, Trade, decode, decode_all
from shijim_live.record.sink import Sink
from shijim_live.store.lake import Lake
from shijim_pipelines.archive import archive_all

quote_classes()  # tells the SDK where its files are, before it is imported
from shioaji import QuoteIdxV1  # noqa: E402

WALL = datetime(2026, 4, 9, 10, 11, 12, 345678)
PRICES = {"Reference": "27123.45", "Open": "27200.1", "High": "27300", "Low": "27100.05", "Close": "27250.55"}


def message(wall: datetime = WALL, **fields: object) -> bytes:
    """A MessagePack map of strings, numbers, bools and arrays."""
    day, time = stamp(wall)
    entries = {"Date": day, "Time": time} | PRICES | fields
    count = len(entries)
    head = bytes([0x80 | count]) if count < 16 else b"\xde" + count.to_bytes(2, "big")
    return head + b"".join(pack(name) + pack(value) for name, value in entries.items())  # type: ignore[arg-type]


def push(wall: datetime = WALL, **fields: object) -> Any:
    return QuoteIdxV1.from_msgpack(message(wall, **fields))


def said(quote: Any) -> dict[str, object]:
    """What the SDK says it is; None is left out on both sides."""
    shown = {name: value for name, value in quote.to_dict().items() if value is not None}
    return shown | {"exchange": quote.exchange.value}


extras = st.dictionaries(
    st.text("ABCDEFGHabcdefgh_", min_size=1, max_size=8).map("X".__add__),
    st.integers(-(2**63), 2**63 - 1) | st.text(max_size=60) | st.booleans(),
    max_size=8,
)
counts = st.integers(0, 2**32 + 1) | st.integers(0, 2**63 - 1) | st.integers(0, 10**7)


@st.composite
def pushes(draw: st.DrawFn) -> Any:
    fields: dict[str, object] = {name: format(draw(prices), "f") for name in PRICES}
    for name in ("Volume", "VolSum", "Count"):
        if draw(st.booleans()):
            fields[name] = draw(counts)
    for name in ("Amount", "AmountSum"):
        if draw(st.booleans()):
            fields[name] = draw(st.integers(0, 2**63 - 1))
    return push(draw(walls), **fields, **draw(extras))


@given(pushes())
def test_every_attribute_comes_back_from_the_records_extra_ones_too(quote: Any) -> None:
    (event,) = decode_all(index_records(quote, 7, connection=2))
    assert isinstance(event, Trade) and (event.kind, event.received_ns, event.connection) == (Kind.INDEX, 7, 2)
    assert to_index_dict(event) == said(quote)


@given(st.lists(pushes(), min_size=1, max_size=10))
def test_and_through_the_real_log(quotes: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder))
        sink = Sink(log.publisher, codes=["2330"])  # an index is recorded whatever the universe
        for number, quote in enumerate(quotes):
            sink.index(quote, 1_000 + number)
        events = [event for event in log.finish() if event.kind == Kind.INDEX]
    assert [to_index_dict(event) for event in events if isinstance(event, Trade)] == [said(quote) for quote in quotes]


def test_what_has_a_field_is_a_number_and_the_rest_is_one_side_record() -> None:
    quote = push(AmountSum=312_345_678_901, Amount=123, Volume=77, VolSum=6_123_456, Count=5, Bulls="many")
    (event,) = decode_all(index_records(quote, 1))
    assert isinstance(event, Trade)
    assert (event.price_e6, event.open_e6) == (27_250_550_000, 27_200_100_000)
    assert (event.volume, event.total_volume, event.total_amount_e6) == (77, 6_123_456, 312_345_678_901_000_000)
    assert (event.lane, event.exchange_ns, event.flags) == (Lane.BOARD, to_exchange_ns(WALL), Flag.HAS_SIDE)
    assert orjson.loads(dict(event.oversize)["rest"]) == {
        "reference": {"$decimal": "27123.45"}, "count": 5, "extra": {"Bulls": "many"},
    }  # fmt: skip


def test_a_price_the_decoder_made_up_is_marked_suspect() -> None:
    flags = [event.flags for quote in (push(), push(Close="0"), push(datetime(2000, 1, 1)))
             for event in decode_all(index_records(quote, 1))]  # fmt: skip
    assert [bool(found & Flag.SUSPECT) for found in flags] == [False, True, True]


def test_one_that_cannot_be_read_is_quarantined_and_the_stream_goes_on(tmp_path: Path) -> None:
    log = Log(tmp_path)
    sink = Sink(log.publisher)
    long_code = SimpleNamespace(to_dict=lambda: push().to_dict() | {"code": "X" * 17})
    sink.index(push(**{f"Novel{n}": "x" * 200 for n in range(REST_BYTES_MAX // 200)}), 1)
    sink.index(long_code, 2)
    sink.index("no index at all", 3)
    sink.index(push(), 4)
    *bad, good = [event for event in log.finish() if event.kind in (Kind.QUARANTINE, Kind.INDEX)]
    assert good.kind == Kind.INDEX and good.received_ns == 4
    texts = [event.text for event in bad if isinstance(event, Status) and not event.part]
    assert "more than an index has" in texts[0] and "not up to 16 ASCII" in texts[1] and "to_dict" in texts[2]


def test_cat_shows_it_and_the_archive_keeps_a_table_of_it(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    made = index_records(push(Volume=77), to_exchange_ns(WALL) + 5)
    rows = [decode(made[at : at + RECORD_BYTES]) for at in range(0, len(made), RECORD_BYTES)]
    segments = write_log(tmp_path / "wal", rows)
    assert main(["cat", *map(str, segments), "--kind", "index"]) == 0
    (line,) = capsysbinary.readouterr().out.splitlines()
    shown = orjson.loads(line)
    assert (shown["kind"], shown["price_e6"], shown["volume"]) == ("index", 27_250_550_000, 77)
    assert shown["broker_class"] == "quote_idx_v1" and b"27123.45" in line
    done = archive_all(tmp_path / "wal", tmp_path / "archive")
    assert done.failed == ()
    lake = Lake(tmp_path / "archive")
    (row,) = lake.query(
        "SELECT toString(trading_day) AS day, price_e6, high_e6, volume, outside FROM indices"
    ).to_pylist()
    assert row == {"day": "2026-04-09", "price_e6": 27_250_550_000, "high_e6": 27_300_000_000, "volume": 77,
                   "outside": False}  # fmt: skip
    (side,) = lake.query("SELECT text FROM statuses WHERE kind = 32").to_pylist()
    assert orjson.loads(side["text"])["reference"] == {"$decimal": "27123.45"}
    assert lake.query("SELECT count() AS n FROM ticks").to_pylist() == [{"n": 0}]
    assert Decimal(row["price_e6"]).scaleb(-6) == push().close
