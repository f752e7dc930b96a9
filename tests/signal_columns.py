"""Columns for the tests of signals: random and adversarial ones, and the real days by the published protocol."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from hypothesis import strategies as st
from numpy.typing import NDArray
from real_data import DATA

from rust_indicators import EMPTY_PRICE_E6, decode_l5

SECOND = 1_000_000_000
TICK_E6 = 1_000_000
Column = NDArray[np.int64]


@st.composite
def touches(draw: st.DrawFn, rows_max: int = 40, rows_min: int = 1) -> tuple[Column, Column, Column, Column]:
    """Best levels of a few rows, with empty sides, locked and crossed books, zero and huge volumes among them."""
    rows = draw(st.integers(rows_min, rows_max))
    price = st.one_of(st.integers(95, 105).map(lambda ticks: ticks * TICK_E6), st.just(EMPTY_PRICE_E6))
    volume = st.one_of(st.integers(0, 9), st.just(2**40))

    def side() -> tuple[Column, Column]:
        prices = np.array(draw(st.lists(price, min_size=rows, max_size=rows)), np.int64)
        volumes = np.array(draw(st.lists(volume, min_size=rows, max_size=rows)), np.int64)
        return prices, np.where(prices == EMPTY_PRICE_E6, 0, volumes)

    return (*side(), *side())


def marks(rows: int) -> st.SearchStrategy[NDArray[np.uint8]]:
    """What stands before each row: mostly nothing."""
    mark = st.sampled_from((0, 0, 0, 0, 1, 2))
    return st.lists(mark, min_size=rows, max_size=rows).map(lambda found: np.array(found, np.uint8))


def assert_same(ours: Any, theirs: Any, relative: float = 0.0) -> None:
    """Equal bits, or within `relative` where arithmetic is not integer; NaN equals NaN."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    if relative:
        np.testing.assert_allclose(ours, theirs, rtol=relative, atol=0, equal_nan=True)
    else:
        np.testing.assert_array_equal(ours, theirs)


@dataclass(frozen=True)
class Books:
    """Snapshots of five populated levels a side, [level, row], best first, and the time of each."""

    exchange_ns: Column
    bid_price_e6: Column
    bid_volume: Column
    ask_price_e6: Column
    ask_volume: Column

    def best(self) -> tuple[Column, Column, Column, Column]:
        return self.bid_price_e6[0], self.bid_volume[0], self.ask_price_e6[0], self.ask_volume[0]


@cache
def lobster(name: str) -> Books:
    """A LOBSTER sample, `AAPL_1` or `AMZN_5`: every row of the orderbook file is an event. Tick 0.01, shares."""
    ticker, levels = name.split("_")
    with zipfile.ZipFile(DATA / "lobster" / f"LOBSTER_SampleFile_{ticker}_2012-06-21_{levels}.zip") as archive:
        [books] = [archive.read(part) for part in archive.namelist() if "orderbook" in part]
        [messages] = [archive.read(part) for part in archive.namelist() if "message" in part]
    book = np.loadtxt(books.decode().splitlines(), delimiter=",", dtype=np.int64, ndmin=2)
    seconds = [line.split(",", 1)[0].partition(".") for line in messages.decode().splitlines()]
    exchange_ns = np.array([int(s) * SECOND + int(f.ljust(9, "0")[:9]) for s, _, f in seconds], np.int64)
    empty = np.abs(book) == 9_999_999_999

    def side(first: int) -> tuple[Column, Column]:
        prices = np.where(empty[:, first::4], EMPTY_PRICE_E6, book[:, first::4] * 100).T
        volumes = np.where(empty[:, first::4], 0, book[:, first + 1 :: 4]).T
        return np.ascontiguousarray(prices), np.ascontiguousarray(volumes)

    (ask, ask_volume), (bid, bid_volume) = side(0), side(2)
    return Books(exchange_ns, bid, bid_volume, ask, ask_volume)


@cache
def futures(name: str) -> Books:
    """A day of TXFD6 or TMFD6, `TXFD6_2026-04-09`, by the protocol of the published regressions: rows in file order
    into one price → size map a side; after a stamp whose last row is a depth row, the five best populated levels.

    The decoder of imports plays the rows; its snapshots after which the stamp changes, and no trade came, are these:
    the same arrays as playing them in Python gives, bit for bit, in a twentieth of the time.
    """
    table = pq.read_table(DATA / "txf_l5" / f"{name}.parquet")
    given = decode_l5(*(np.ascontiguousarray(table[column].to_numpy()) for column in ("ev", "exch_ts", "px", "qty")))
    books, trades = (
        np.frombuffer(words, np.int64).reshape(-1, width) for words, width in zip(given, (23, 6), strict=True)
    )
    heads = np.concatenate([books[:, :3], trades[:, :3]])  # place in the file, exchange_ns, source_offset_ns
    in_file = np.argsort(heads[:, 0], kind="stable")
    stamp = (heads[:, 1] + heads[:, 2])[in_file]
    last = in_file[np.append(stamp[1:] != stamp[:-1], True)]
    words = books[last[last < len(books)]].T.copy()
    return Books(words[1] + words[2], words[3:8], words[8:13], words[13:18], words[18:23])


@dataclass(frozen=True)
class Trades:
    """Signed trades of a day session in file order; times since the Unix epoch, prices × 10⁶, lots."""

    exchange_ns: Column
    price_e6: Column
    volume: Column
    side: NDArray[np.uint8]


def session_open_ns(name: str) -> int:
    """08:45 in Taipei on the day of a file `TXFD6_2026-04-09`; the session closes 18,000 s later."""
    return int(np.datetime64(f"{name[-10:]}T00:45:00", "ns").astype(np.int64))


@cache
def session_trades(name: str) -> Trades:
    """The trades of a file whose stamp is within the day session, both ends included."""
    table = pq.read_table(DATA / "txf_l5" / f"{name}.parquet")
    ev, stamp, px, qty = (table[column].to_numpy() for column in ("ev", "exch_ts", "px", "qty"))
    since_open = stamp - session_open_ns(name)
    buy, sell = ev == 0xE0000002, ev == 0xD0000002
    rows = (buy | sell) & (since_open >= 0) & (since_open <= 18_000 * SECOND)
    return Trades(
        stamp[rows],
        np.rint(px[rows] * 1e6).astype(np.int64),
        qty[rows].astype(np.int64),
        np.where(buy[rows], 1, 2).astype(np.uint8),
    )


@st.composite
def book_columns(draw: st.DrawFn, rows_max: int = 20, levels_max: int = 4) -> tuple[list[Column], ...]:
    """Books of a few levels, each as `touches` draws it: whatever else a book is, its levels are independent here."""
    levels = draw(st.integers(1, levels_max))
    rows = draw(st.integers(1, rows_max))
    drawn = [draw(touches(rows_max=rows, rows_min=rows)) for _ in range(levels)]
    return tuple(list(side) for side in zip(*drawn, strict=True))


@cache
def lobster_trades(name: str) -> tuple[Column, NDArray[np.uint8], Column]:
    """(exchange_ns, side, volume) of the executions of a LOBSTER sample, visible and hidden. The file has the resting
    side's direction: what met a buy order was sold.
    """
    ticker, levels = name.split("_")
    with zipfile.ZipFile(DATA / "lobster" / f"LOBSTER_SampleFile_{ticker}_2012-06-21_{levels}.zip") as archive:
        [messages] = [archive.read(part) for part in archive.namelist() if "message" in part]
    kind, _, size, _, direction = np.loadtxt(
        messages.decode().splitlines(), delimiter=",", dtype=np.int64, usecols=range(1, 6), unpack=True
    )
    traded = np.isin(kind, (4, 5))
    return lobster(name).exchange_ns[traded], np.where(direction[traded] == 1, 2, 1).astype(np.uint8), size[traded]
