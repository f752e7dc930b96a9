"""Datasets: the decoder on real data, the builder against a plain reference, the files, and what is refused."""

import resource
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest
import real_txf
from hftbacktest.data.validation import correct_event_order, validate_event_order
from hftbacktest.types import event_dtype
from hypothesis import given, settings
from hypothesis import strategies as st

from rust_indicators import EMPTY_PRICE_E6, decode_l5
from shijim_pipelines.event_file import EVENT_DTYPE, InvalidDataset, Rows, content_sha256, validate_npz
from shijim_pipelines.hft_dataset import Contract, Dataset, FeedLatency, Provenance, build_dataset, write_dataset

EXCH, LOCAL, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
FIXED_NS = 4
SESSION_GAP_NS = 1_000
PROVENANCE = Provenance(inputs={"segment": "hash"}, source_commit="abc")
CONTRACT = Contract(tick_size_e6=1_000_000, lot_size=1, contract_size=200)

Levels = list[tuple[int, int]]
Row = tuple[int, int, int, float, float]


@dataclass(frozen=True)
class Event:
    """A book (bids, asks) or a trade (price, volume, side) of a made-up feed; prices in whole units."""

    session: int
    exchange_ns: int
    received_ns: int | None
    book: tuple[Levels, Levels] | None
    trade: tuple[int, int, int]

    @property
    def local_ns(self) -> int:
        return self.exchange_ns + FIXED_NS if self.received_ns is None else self.received_ns


def side_levels(best_first: bool) -> st.SearchStrategy[Levels]:
    level = st.tuples(st.integers(1, 12), st.integers(1, 3))
    levels = st.lists(level, max_size=5, unique_by=lambda level: level[0])
    return levels.map(lambda levels: sorted(levels, reverse=best_first))


@st.composite
def feeds(draw: st.DrawFn) -> list[Event]:
    books = st.tuples(side_levels(True), side_levels(False))
    trades = st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(0, 2))
    latencies = st.one_of(st.none(), st.integers(-2, 6))
    rows = draw(st.lists(st.tuples(st.integers(0, 3), latencies, st.none() | books, trades), min_size=1, max_size=25))
    second_session_from = draw(st.integers(0, 25))
    events, clock = [], 100
    for place, (step, latency, book, trade) in enumerate(rows):
        session = int(place >= second_session_from)
        clock += step + (SESSION_GAP_NS if place == second_session_from else 0)
        # One step of three sends the clock back: exchange stamps are not promised to be sorted.
        exchange_ns = clock - (4 if step == 3 else 0)
        received_ns = None if latency is None else exchange_ns + latency
        events.append(Event(session, exchange_ns, received_ns, book, trade))
    return events


def tables(events: list[Event]) -> tuple[pa.Table, pa.Table]:
    """The events as the lake hands them out."""
    int64s = lambda values: pa.array(list(values), pa.int64())  # noqa: E731

    def common(chosen: list[int]) -> dict[str, pa.Array]:
        return {
            "sequence": int64s(chosen),
            "exchange_ns": int64s(events[place].exchange_ns for place in chosen),
            "received_ns": int64s(events[place].received_ns for place in chosen),
            "session": pa.array([f"s{events[place].session}" for place in chosen], pa.string()),
        }

    of_books = [place for place, event in enumerate(events) if event.book is not None]
    of_trades = [place for place, event in enumerate(events) if event.book is None]
    books = common(of_books)
    for side, name in enumerate(("bid", "ask")):
        for field, what in enumerate(("price_e6", "volume")):
            for level in range(5):
                cells = [events[place].book[side][level : level + 1] for place in of_books]
                scale = 1 if field else 1_000_000
                empty = 0 if field else None
                values = [cell[0][field] * scale if cell else empty for cell in cells]
                books[f"{name}_{what}_{level + 1}"] = int64s(values)
    trades = common(of_trades)
    trades["price_e6"] = int64s(events[place].trade[0] * 1_000_000 for place in of_trades)
    trades["volume"] = int64s(events[place].trade[1] for place in of_trades)
    trades["side"] = pa.array([events[place].trade[2] for place in of_trades], pa.uint8())
    return pa.table(books), pa.table(trades)


def ordered(events: list[Event], by_local: bool) -> list[Event]:
    """Events as one axis sees them; trades come before books of the same stamp."""
    on_exchange = sorted(events, key=lambda event: (event.exchange_ns, event.book is not None))
    return sorted(on_exchange, key=lambda event: event.local_ns) if by_local else on_exchange


def reference_rows(events: list[Event], by_local: bool, shift: int, halts: Sequence[tuple[int, int]] = ()) -> list[Row]:
    """The reconciling builder in the plainest way there is: a dictionary a side, searched whole at every book."""
    rows: list[Row] = []
    session, known = None, ({}, {})
    left = list(halts)
    for event in ordered(events, by_local):
        if event.session != session:
            session, known = event.session, ({}, {})
            members = [member for member in events if member.session == session]
            first = min(member.exchange_ns for member in members), min(member.local_ns for member in members)
            rows.append((3, first[0], first[1] + shift, 0.0, 0.0))
        while left and left[0][by_local] <= (event.local_ns if by_local else event.exchange_ns):
            exchange_ns, local_ns = left.pop(0)
            rows.append((3, exchange_ns, local_ns + shift, 0.0, 0.0))
            known = ({}, {})
        stamps = (event.exchange_ns, event.local_ns + shift)
        if event.book is None:
            price, volume, side = event.trade
            rows.append((2 | (0, BUY, SELL)[side], *stamps, float(price), float(volume)))
            continue
        for flag, better, side, shown in ((BUY, 1, known[0], event.book[0]), (SELL, -1, known[1], event.book[1])):
            visible = dict(shown)
            whole = len(shown) < 5
            gone = [p for p in side if p not in visible and (whole or p * better > shown[-1][0] * better)]
            for price in sorted(gone, key=lambda price: -price * better):
                del side[price]
                rows.append((1 | flag, *stamps, float(price), 0.0))
        for flag, side, shown in ((BUY, known[0], event.book[0]), (SELL, known[1], event.book[1])):
            for price, volume in shown:
                if side.get(price) != volume:
                    rows.append((1 | flag, *stamps, float(price), float(volume)))
                side[price] = volume
    return rows + [(3, exchange_ns, local_ns + shift, 0.0, 0.0) for exchange_ns, local_ns in left]


def as_rows(rows: list[Row]) -> Rows:
    array = np.zeros(len(rows), EVENT_DTYPE)
    for place, row in enumerate(rows):
        for name, value in zip(("ev", "exch_ts", "local_ts", "px", "qty"), row, strict=True):
            array[name][place] = value
    return array


def one_axis(rows: Rows, flag: int) -> list[Row]:
    """The rows of one axis without the axis flags."""
    chosen = rows[rows["ev"] & flag != 0]
    plain = ((int(row["ev"]) & ~(EXCH | LOCAL), row) for row in chosen)
    return [(ev, int(row["exch_ts"]), int(row["local_ts"]), float(row["px"]), float(row["qty"])) for ev, row in plain]


def split_as_hftbacktest_does(rows: Rows) -> Rows:
    # It reads one index past the end of both orders before it looks whether it may: one more makes that harmless.
    orders = [np.append(np.argsort(rows[name], kind="mergesort"), 0) for name in ("exch_ts", "local_ts")]
    return correct_event_order(rows, *orders)


@settings(deadline=None, max_examples=200)
@given(feeds())
def test_rows_equal_a_plain_reference_on_both_axes(events: list[Event]) -> None:
    dataset = build_dataset(*tables(events), FeedLatency(FIXED_NS))
    shift = max(0, max(event.exchange_ns - event.local_ns for event in events))
    assert dataset.local_shift_ns == shift
    on_exchange, on_local = (reference_rows(events, by_local, shift) for by_local in (False, True))
    assert one_axis(dataset.rows, EXCH) == on_exchange
    assert one_axis(dataset.rows, LOCAL) == on_local
    validate_event_order(dataset.rows)
    books = [[event for event in ordered(events, by_local) if event.book] for by_local in (False, True)]
    if all(left is right for left, right in zip(*books, strict=True)):
        assert dataset.rows.tobytes() == split_as_hftbacktest_does(as_rows(on_exchange)).tobytes()


@settings(deadline=None, max_examples=200)
@given(feeds(), st.lists(st.tuples(st.integers(0, 25), st.none() | st.integers(-2, 6)), max_size=3))
def test_a_halt_clears_the_book_on_each_axis_when_it_is_known_there(
    events: list[Event], drawn: list[tuple[int, int | None]]
) -> None:
    """Whatever overtakes whatever; halts lie behind the beginning of the only session."""
    events = [replace(event, session=0) for event in events]
    first = min(event.exchange_ns for event in events)
    shift = max(0, max(event.exchange_ns - event.local_ns for event in events))
    stamps = sorted(((first + 1 + at, latency) for at, latency in drawn), key=lambda stamp: stamp[0])
    received = [None if latency is None else ns + latency for ns, latency in stamps]
    table = pa.table({"exchange_ns": pa.array([ns for ns, _ in stamps], pa.int64()),
                      "received_ns": pa.array(received, pa.int64())})  # fmt: skip
    expected, latest = [], min(event.local_ns for event in events)
    for (ns, _), known in zip(stamps, received, strict=True):
        latest = max(latest, ns + FIXED_NS if known is None else known, ns - shift)
        expected.append((ns, latest))
    dataset = build_dataset(*tables(events), FeedLatency(FIXED_NS), table)
    assert one_axis(dataset.rows, EXCH) == reference_rows(events, False, shift, expected)
    assert one_axis(dataset.rows, LOCAL) == reference_rows(events, True, shift, expected)
    validate_event_order(dataset.rows)
    assert not (dataset.rows["local_ts"] < dataset.rows["exch_ts"]).any()


@settings(deadline=None, max_examples=100)
@given(feeds())
def test_the_ladder_shows_every_book_after_its_rows(events: list[Event]) -> None:
    dataset = build_dataset(*tables(events), FeedLatency(FIXED_NS))
    expected = {event.exchange_ns: event.book for event in ordered(events, by_local=False) if event.book}
    assert_ladder_shows(dataset.rows, expected)


def assert_ladder_shows(rows: Rows, expected: dict[int, tuple[Levels, Levels]]) -> int:
    """At the end of each stamp the best levels of the ladder are those of the stamp's last book; how many were seen."""
    ladder: tuple[dict[float, float], dict[float, float]] = ({}, {})
    rows = rows[rows["ev"] & EXCH != 0]
    fields = [rows[name].tolist() for name in ("ev", "exch_ts", "px", "qty")]
    last = len(rows) - 1
    seen = 0
    for place, (ev, stamp, price, size) in enumerate(zip(*fields, strict=True)):
        kind = ev & 0xFF
        if kind == 3:
            ladder = ({}, {})
        elif kind == 1 and size:
            ladder[0 if ev & BUY else 1][price] = size
        elif kind == 1:
            del ladder[0 if ev & BUY else 1][price]
        if stamp in expected and (place == last or fields[1][place + 1] != stamp):
            for side, levels in enumerate(expected[stamp]):
                best = sorted(ladder[side], reverse=side == 0)[: len(levels)]
                assert [(price, ladder[side][price]) for price in best] == levels
                assert len(levels) == 5 or len(ladder[side]) == len(levels)
            seen += 1
    return seen


def test_real_recording_decodes_to_whole_books_and_every_lot() -> None:
    books, trades = real_txf.decoded().books, real_txf.decoded().trades
    whole = (books[:, 3:8] != EMPTY_PRICE_E6).all(axis=1) & (books[:, 13:18] != EMPTY_PRICE_E6).all(axis=1)
    assert len(books) == 226_617
    assert int((~whole).sum()) < 10
    assert len(trades) == 62_369
    assert int(trades[:, 4].sum()) == 110_501
    assert np.abs(books[:, 2]).max() <= 192
    assert not (books[:, 1] % 1_000_000).any()


def test_real_recording_keeps_its_source_stamps() -> None:
    source = np.unique(real_txf.columns()[1])
    words = real_txf.decoded()
    stamps = np.concatenate([words.books[:, 1] + words.books[:, 2], words.trades[:, 1] + words.trades[:, 2]])
    assert np.array_equal(np.unique(stamps), source)


def test_the_decoder_names_the_row_it_cannot_read() -> None:
    ev = np.array([0xE0000001, 0xE0000009], dtype=np.uint64)
    stamps, ones = np.array([10**18, 10**18]), np.ones(2)
    with pytest.raises(ValueError, match="row 1: unknown event flags 0xE0000009"):
        decode_l5(ev, stamps, ones, ones)


def test_real_day_session_shows_every_book_in_the_ladder(real_day: Dataset) -> None:
    books = real_txf.decoded().books
    day = books[(books[:, 1] >= real_txf.OPEN_NS) & (books[:, 1] <= real_txf.CLOSE_NS)]

    def levels(book: list[int], price: int) -> Levels:
        cells = zip(book[price : price + 5], book[price + 5 : price + 10], strict=True)
        return [(cell[0] / 1e6, cell[1]) for cell in cells if cell[0] != EMPTY_PRICE_E6]

    expected = {book[1]: (levels(book, 3), levels(book, 13)) for book in day.tolist()}
    assert assert_ladder_shows(real_day.rows, expected) == len(expected)
    assert real_day.sessions[0].volume == 52_121
    assert real_day.latency.modelled_events == len(day) + real_day.sessions[0].trades


@pytest.fixture(scope="module")
def real_day() -> Dataset:
    return build_dataset(*real_txf.day_session(), FeedLatency(5_000_000))


def small() -> Dataset:
    """A book, a trade and another book, received late and out of step, and one receive time that was not recorded."""
    events = [
        Event(0, 100, 109, ([(10, 1), (9, 2)], [(11, 3)]), (0, 0, 0)),
        Event(0, 101, 105, None, (11, 2, 1)),
        Event(0, 102, None, ([(10, 1)], [(12, 1)]), (0, 0, 0)),
    ]
    return build_dataset(*tables(events), FeedLatency(FIXED_NS))


def test_event_type_is_that_of_hftbacktest() -> None:
    assert event_dtype == EVENT_DTYPE
    assert EVENT_DTYPE.itemsize == 64


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    files = [
        write_dataset(small(), tmp_path / name, "TXF", real_txf.DAY, CONTRACT, PROVENANCE) for name in ("one", "two")
    ]
    assert files[0].npz.read_bytes() == files[1].npz.read_bytes()
    assert files[0].meta.read_bytes() == files[1].meta.read_bytes()
    assert np.array_equal(validate_npz(files[0].npz), small().rows)
    with zipfile.ZipFile(files[0].npz) as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


def test_meta_states_where_the_rows_come_from(tmp_path: Path) -> None:
    provenance = Provenance({"s-1.wal": "ff"}, "abc", gaps=[{"lots": 7}], coverage={"lots": 0.5})
    dataset = small()
    files = write_dataset(dataset, tmp_path, "TXF", real_txf.DAY, CONTRACT, provenance)
    meta = orjson.loads(files.meta.read_bytes())
    assert list(meta) == sorted(meta)
    assert meta["rows"] == len(dataset.rows)
    assert meta["content_sha256"] == content_sha256(dataset.rows)
    assert meta["inputs"] == {"s-1.wal": "ff"}
    assert (meta["gaps"], meta["coverage"], meta["source_commit"]) == ([{"lots": 7}], {"lots": 0.5}, "abc")
    assert (meta["first_exchange_ns"], meta["last_exchange_ns"]) == (100, 102)
    assert (meta["first_local_ns"], meta["last_local_ns"]) == (105, 109)
    assert meta["contract"] == {"tick_size_e6": 1_000_000, "lot_size": 1, "contract_size": 200}
    latency = meta["feed_latency"]
    assert (latency["modelled_events"], latency["recorded_events"], latency["fixed_ns"]) == (1, 2, FIXED_NS)
    assert latency["recorded_quantiles_ns"]["min"] == 4
    assert latency["recorded_quantiles_ns"]["max"] == 9


def test_a_negative_latency_is_a_recorded_fact(tmp_path: Path) -> None:
    events = [Event(0, 100, 93, None, (10, 1, 1)), Event(0, 110, 120, None, (10, 1, 2))]
    dataset = build_dataset(*tables(events), FeedLatency(FIXED_NS))
    assert dataset.rows["local_ts"].tolist() == [100, 100, 127]
    files = write_dataset(dataset, tmp_path, "TXF", real_txf.DAY, CONTRACT, PROVENANCE)
    meta = orjson.loads(files.meta.read_bytes())
    assert meta["local_shift_ns"] == 7
    assert meta["skew"] == {"negative_latency_events": 1, "worst_ns": -7}


@contextmanager
def file_size_limited(limit_bytes: int) -> Iterator[None]:
    """A disk that is full after so many bytes, as the kernel does it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_earlier_dataset_and_nothing_else(tmp_path: Path) -> None:
    files = write_dataset(small(), tmp_path, "TXF", real_txf.DAY, CONTRACT, PROVENANCE)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with file_size_limited(100), pytest.raises(OSError, match="File too large"):
        write_dataset(small(), tmp_path, "TXF", real_txf.DAY, CONTRACT, PROVENANCE)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert {files.npz.name, files.meta.name} == set(before)


def test_a_price_off_the_tick_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"price 9.0 is not a multiple of the tick 2.0"):
        write_dataset(small(), tmp_path, "TXF", real_txf.DAY, Contract(2_000_000, 1, 200), PROVENANCE)
    assert list(tmp_path.iterdir()) == []


def test_building_refuses_what_it_cannot_know() -> None:
    books, trades = tables([Event(0, 100, 101, ([(10, 1)], []), (0, 0, 0)), Event(1, 200, 201, None, (10, 1, 1))])
    latency = FeedLatency(FIXED_NS)
    with pytest.raises(InvalidDataset, match="no books and no trades"):
        build_dataset(books.slice(1), trades.slice(1), latency)
    with pytest.raises(InvalidDataset, match="trades: not sorted by sequence"):
        later = trades.set_column(0, "sequence", pa.array([-5], pa.int64()))
        build_dataset(books, pa.concat_tables([trades, later]), latency)
    with pytest.raises(InvalidDataset, match="books: exchange_ns is absent in 1 rows"):
        build_dataset(books.set_column(1, "exchange_ns", pa.nulls(1, pa.int64())), trades, latency)
    with pytest.raises(InvalidDataset, match="session s1 starts before s0 ends"):
        build_dataset(books.set_column(1, "exchange_ns", pa.array([200], pa.int64())), trades, latency)
    twice = books.set_column(books.column_names.index("bid_price_e6_2"), "bid_price_e6_2", books["bid_price_e6_1"])
    with pytest.raises(InvalidDataset, match="book 0, bid side: prices must get strictly worse"):
        build_dataset(twice, trades, latency)


def edited(change: Callable[[Rows], None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        rows = small().rows.copy()
        change(rows)
        np.savez_compressed(path, data=rows)

    return write


def cell(row: int, name: str, value: float) -> Callable[[Path], None]:
    return edited(lambda rows: rows[name].__setitem__(row, value))


def damaged(path: Path) -> None:
    np.savez(path, data=small().rows)
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF
    path.write_bytes(content)


UNSOUND = {
    "text": (lambda path: path.write_text("not a zip"), "not a zip file"),
    "damaged": (damaged, "cannot be unpacked"),
    "member missing": (lambda path: np.savez(path, rows=small().rows), "none is called data"),
    "objects": (lambda path: np.savez(path, data=np.array([{}], dtype=object)), "not a plain array"),
    "floats": (lambda path: np.savez(path, data=np.zeros(3)), "fields float64"),
    "field renamed": (
        lambda path: np.savez(path, data=np.zeros(3, [(name, "<f8") for name in EVENT_DTYPE.names or ()])),
        "not hftbacktest's event type",
    ),
    "two dimensions": (lambda path: np.savez(path, data=small().rows.reshape(1, -1)), "shape"),
    "empty": (lambda path: np.savez(path, data=small().rows[:0]), "shape"),
    "exchange order": (cell(1, "exch_ts", 99), "row 1 .* has an earlier exch_ts"),
    "local order": (edited(lambda rows: rows["local_ts"].__setitem__(-1, 104)), "has an earlier local_ts"),
    "unknown kind": (cell(1, "ev", 0xE0000005), "row 1 .* of a kind that the backtester ignores"),
    "unknown bits": (cell(1, "ev", 0xE0000101), "row 1 .* has flag bits that mean nothing"),
    "no axis": (cell(1, "ev", 0x20000001), "row 1 .* for neither the exchange nor the local side"),
    "depth without side": (cell(1, "ev", 0xC0000001), "row 1 .* depth row without exactly one side"),
    "trade with both sides": (cell(1, "ev", 0xF0000002), "row 1 .* has both sides"),
    "price NaN": (cell(1, "px", np.nan), "row 1 .* has a px that is not a number"),
    "negative price": (cell(1, "px", -1.0), "row 1 .* has a negative px"),
    "negative size": (cell(1, "qty", -1.0), "row 1 .* has a negative qty"),
    "size infinite": (cell(1, "qty", np.inf), "row 1 .* has a qty that is not a number"),
    "no time": (cell(0, "exch_ts", 0), "row 0 .* has no time"),
    "from the future": (edited(lambda rows: rows["local_ts"].__setitem__(0, 1)), "row 0 .* is received before"),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_npz_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    write, message = UNSOUND[name]
    path = tmp_path / "bad.npz"
    write(path)
    with pytest.raises(InvalidDataset, match=message) as refused:
        validate_npz(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "shijim dataset" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_npz_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="no such file"):
        validate_npz(tmp_path / "absent.npz")
