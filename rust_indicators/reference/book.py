"""What one book says: mid, spread, imbalance, depth, and what is wrong with it. Not what changed since the book before,
and not the micro-price, which is fitted: `micro_price`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.columns import (
    EMPTY_PRICE_E6,
    LEVELS_MAX,
    VOLUME_MAX,
    book_of_one_row,
    column,
    level_columns,
    restarts,
    same_levels,
    same_rows,
    sound_book,
    sound_level,
)
from rust_indicators.validity import BookFlag, Validity

__all__ = [
    "BookState",
    "book_flags",
    "book_slope",
    "depth_ratio",
    "mid2_e6",
    "queue_imbalance",
    "spread_ticks",
    "weighted_mid",
]

PRICE_MAX_E6 = 2**60

_Column = NDArray[np.int64]
_Levels = Sequence[_Column] | _Column


def sound_prices(argument: str, price_e6: Any) -> _Column:
    """Prices within ±2⁶⁰, or empty: their sums and distances are integers too."""
    prices = column(argument, price_e6, np.int64)
    wrong = (prices != EMPTY_PRICE_E6) & ((prices < -PRICE_MAX_E6) | (prices > PRICE_MAX_E6))
    for row in np.flatnonzero(wrong)[:1]:
        raise ValueError(f"{argument}: row {row}: {prices[row]} is not within ±2⁶⁰")
    return prices


def sound_tick(tick_size_e6: int) -> int:
    """A tick size within 1 … 2⁶⁰."""
    if not 1 <= tick_size_e6 <= PRICE_MAX_E6:
        raise ValueError(f"tick_size_e6: {tick_size_e6} is not within 1 … 2⁶⁰")
    return tick_size_e6


def _touch(bid_price_e6: Any, ask_price_e6: Any) -> tuple[_Column, _Column, NDArray[np.bool_]]:
    """Best prices, and where both sides have one."""
    bid, ask = column("bid_price_e6", bid_price_e6, np.int64), column("ask_price_e6", ask_price_e6, np.int64)
    same_rows([("bid_price_e6", bid), ("ask_price_e6", ask)])
    sound_prices("bid_price_e6", bid)
    sound_prices("ask_price_e6", ask)
    return bid, ask, (bid != EMPTY_PRICE_E6) & (ask != EMPTY_PRICE_E6)


def sound_sides(bid_price_e6: Any, bid_volume: Any, ask_price_e6: Any, ask_volume: Any) -> tuple[_Column, ...]:
    """Columns of a best level: equal lengths, prices within ±2⁶⁰, volumes 0 … 2⁴⁰ and only where a price is."""
    bid, bid_size = sound_level("bid", bid_price_e6, bid_volume)
    ask, ask_size = sound_level("ask", ask_price_e6, ask_volume)
    same_rows([("bid_price_e6", bid), ("bid_volume", bid_size), ("ask_price_e6", ask), ("ask_volume", ask_size)])
    sound_prices("bid_price_e6", bid)
    sound_prices("ask_price_e6", ask)
    return bid, bid_size, ask, ask_size


def mid2_e6(bid_price_e6: NDArray[np.int64], ask_price_e6: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bid + ask: exactly twice the mid, × 10⁶; EMPTY_PRICE_E6 where a side is empty.

    Best prices int64[n]; returns int64[n]. ValueError names the argument: wrong type, length, a price beyond ±2⁶⁰.
    """
    bid, ask, both = _touch(bid_price_e6, ask_price_e6)
    return np.where(both, np.where(both, bid, 0) + np.where(both, ask, 0), EMPTY_PRICE_E6)


def spread_ticks(
    bid_price_e6: NDArray[np.int64], ask_price_e6: NDArray[np.int64], tick_size_e6: int
) -> NDArray[np.float64]:
    """Ask − bid in ticks, float64[n]: 0 where locked, below 0 where crossed, NaN where a side is empty."""
    sound_tick(tick_size_e6)
    bid, ask, both = _touch(bid_price_e6, ask_price_e6)
    distance = np.where(both, ask, 0) - np.where(both, bid, 0)
    return np.where(both, np.true_divide(distance, tick_size_e6), np.nan)


def weighted_mid(
    bid_price_e6: NDArray[np.int64],
    bid_volume: NDArray[np.int64],
    ask_price_e6: NDArray[np.int64],
    ask_volume: NDArray[np.int64],
) -> NDArray[np.float64]:
    """I·ask + (1 − I)·bid with I = bid volume / (bid volume + ask volume), price × 10⁶ as float64[n].

    Best level, int64[n] each. NaN where a side is empty or neither has volume. ValueError names the argument.
    """
    bid, bid_size, ask, ask_size = sound_sides(bid_price_e6, bid_volume, ask_price_e6, ask_volume)
    both = (bid != EMPTY_PRICE_E6) & (ask != EMPTY_PRICE_E6) & (bid_size + ask_size > 0)
    share = np.divide(bid_size, bid_size + ask_size, out=np.full(len(bid), np.nan), where=both)
    result: NDArray[np.float64] = np.where(both, bid, 0) + (np.where(both, ask, 0) - np.where(both, bid, 0)) * share
    return result


def _depths(bid_volume: Any, ask_volume: Any) -> tuple[_Column, _Column]:
    """Volumes of both sides, summed over the levels."""
    bids = level_columns("bid_volume", bid_volume, np.int64)
    asks = level_columns("ask_volume", ask_volume, np.int64)
    same_levels("bid_volume", len(bids), "ask_volume", asks)
    named = [(f"{name}[{level}]", volume) for level, pair in enumerate(zip(bids, asks, strict=True))
             for name, volume in zip(("bid_volume", "ask_volume"), pair, strict=True)]  # fmt: skip
    same_rows(named)
    for name, volume in named:
        for row in np.flatnonzero((volume < 0) | (volume > VOLUME_MAX))[:1]:
            raise ValueError(f"{name}: row {row}: {volume[row]} is not within 0 … 2⁴⁰")
    return np.sum(bids, axis=0), np.sum(asks, axis=0)


def queue_imbalance(
    bid_volume: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    ask_volume: Sequence[NDArray[np.int64]] | NDArray[np.int64],
) -> NDArray[np.float64]:
    """(Σ bid − Σ ask) / (Σ bid + Σ ask) over 1 … 10 levels: float64[n] within ±1, NaN where both are 0.

    Each argument: columns int64[n], a level each, as a list or as an array [levels, n].
    """
    bids, asks = _depths(bid_volume, ask_volume)
    result: NDArray[np.float64] = np.divide(
        bids - asks, bids + asks, out=np.full(len(bids), np.nan), where=bids + asks > 0
    )
    return result


def depth_ratio(
    bid_volume: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    ask_volume: Sequence[NDArray[np.int64]] | NDArray[np.int64],
) -> NDArray[np.float64]:
    """Σ bid / Σ ask over the levels, float64[n]; NaN where the ask is 0. Arguments as `queue_imbalance`."""
    bids, asks = _depths(bid_volume, ask_volume)
    result: NDArray[np.float64] = np.divide(bids, asks, out=np.full(len(bids), np.nan), where=asks > 0)
    return result


def book_slope(
    bid_price_e6: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    bid_volume: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    ask_price_e6: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    ask_volume: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    tick_size_e6: int,
) -> NDArray[np.float64]:
    """Depth per tick of distance to the mid, in lots per tick, mean of both sides: float64[n].

    A side's slope is that of a line through the origin, Σ d·V / Σ d²: d the distance of a level to the mid in ticks, V
    the depth up to and with it, over the levels that hold something. NaN where the book is one-sided or crossed, and
    where a side has nothing away from the mid (one level, locked). Arguments as `mlofi`.
    Næs & Skjeltorp (2006), Journal of Financial Markets 9(4) 408–432, take relative slopes of log depth; those divide
    by the log of the best level's volume, which is 0 where one lot stands there. Hence this form.
    """
    sound_tick(tick_size_e6)
    book = _sound_books(bid_price_e6, bid_volume, ask_price_e6, ask_volume)
    bid, ask = book[0][0], book[0][2]
    defined = (bid != EMPTY_PRICE_E6) & (ask != EMPTY_PRICE_E6) & (bid <= ask)
    mid2 = np.where(defined, bid, 0) + np.where(defined, ask, 0)

    def slope(prices: list[_Column], volumes: list[_Column]) -> NDArray[np.float64]:
        depth, product, square = np.zeros(len(mid2), np.int64), np.zeros(len(mid2)), np.zeros(len(mid2))
        for price, volume in zip(prices, volumes, strict=True):
            there = price != EMPTY_PRICE_E6
            distance = np.abs(np.where(there, 2 * np.where(there, price, 0) - mid2, 0)) / (2 * np.float64(tick_size_e6))
            depth = depth + np.where(there, volume, 0)
            product += np.where(there, distance * depth, 0)
            square += distance * distance
        result: NDArray[np.float64] = np.divide(product, square, out=np.full(len(mid2), np.nan), where=square > 0)
        return result

    bids, asks = (slope([level[at] for level in book], [level[at + 1] for level in book]) for at in (0, 2))
    return np.where(defined, (bids + asks) / 2, np.nan)


def book_flags(bid_price_e6: NDArray[np.int64], ask_price_e6: NDArray[np.int64]) -> NDArray[np.uint8]:
    """What each book lacks, or shows that it should not: uint8[n], bits of `BookFlag`. Best prices int64[n]."""
    bid, ask, both = _touch(bid_price_e6, ask_price_e6)
    flags = np.where(bid == EMPTY_PRICE_E6, BookFlag.NO_BID, 0) | np.where(ask == EMPTY_PRICE_E6, BookFlag.NO_ASK, 0)
    flags |= np.where(both & (bid == ask), BookFlag.LOCKED, 0) | np.where(both & (bid > ask), BookFlag.CROSSED, 0)
    result: NDArray[np.uint8] = flags.astype(np.uint8)
    return result


def _sound_books(*sides: Any) -> list[tuple[_Column, _Column, _Column, _Column]]:
    book = sound_book(*sides)
    for level, (bid, _, ask, _) in enumerate(book):
        sound_prices(f"bid_price_e6[{level}]", bid)
        sound_prices(f"ask_price_e6[{level}]", ask)
    return book


class BookState:
    """Everything one book says, kept until the next: a book of so many levels makes it warm.

    `value` and `mid2_e6` as the function; so are `spread_ticks`, `weighted_mid`, `queue_imbalance` (of the best level),
    `depth_imbalance` (the same of all levels), `depth_ratio`, `book_slope` and `flags`. UNDEFINED while a side is
    empty; before a book 0 and NaN.
    """

    value: int
    validity: int
    mid2_e6: int
    spread_ticks: float
    weighted_mid: float
    queue_imbalance: float
    depth_imbalance: float
    depth_ratio: float
    book_slope: float
    flags: int

    def __init__(self, levels: int, tick_size_e6: int) -> None:
        if not 1 <= levels <= LEVELS_MAX:
            raise ValueError(f"levels: has {levels} levels, not 1 … {LEVELS_MAX}")
        self._levels, self._tick_size_e6 = levels, sound_tick(tick_size_e6)
        self.reset()

    def update(
        self,
        bid_price_e6: Sequence[int],
        bid_volume: Sequence[int],
        ask_price_e6: Sequence[int],
        ask_volume: Sequence[int],
        /,
    ) -> int:
        """Twice the mid of this book. Each argument: an integer a level, best first. ValueError as `book_slope`."""
        self.update_many(*book_of_one_row(self._levels, bid_price_e6, bid_volume, ask_price_e6, ask_volume))
        return self.value

    def update_many(
        self,
        bid_price_e6: Sequence[NDArray[np.int64]] | NDArray[np.int64],
        bid_volume: Sequence[NDArray[np.int64]] | NDArray[np.int64],
        ask_price_e6: Sequence[NDArray[np.int64]] | NDArray[np.int64],
        ask_volume: Sequence[NDArray[np.int64]] | NDArray[np.int64],
        *,
        restart: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """`update` for every row: `mid2_e6` int64[n] and validity uint8[n]. A refusal leaves the state as it was."""
        book = _sound_books(bid_price_e6, bid_volume, ask_price_e6, ask_volume)
        if len(book) != self._levels:
            raise ValueError(f"bid_price_e6: has {len(book)} levels, not {self._levels}")
        restarts(restart, len(book[0][0]), "bid_price_e6[0]")
        values = mid2_e6(book[0][0], book[0][2])
        validity = np.where(values == EMPTY_PRICE_E6, Validity.UNDEFINED, Validity.VALID).astype(np.uint8)
        if len(values):
            self._say([tuple(part[-1:] for part in level) for level in book])
            self.validity = int(validity[-1])
        return values, validity

    def _say(self, book: list[tuple[_Column, ...]]) -> None:
        bid, bid_volume, ask, ask_volume = (list(side) for side in zip(*book, strict=True))
        self.value = self.mid2_e6 = int(mid2_e6(bid[0], ask[0])[0])
        self.spread_ticks = spread_ticks(bid[0], ask[0], self._tick_size_e6).item()
        self.weighted_mid = weighted_mid(bid[0], bid_volume[0], ask[0], ask_volume[0]).item()
        self.queue_imbalance = queue_imbalance(bid_volume[:1], ask_volume[:1]).item()
        self.depth_imbalance = queue_imbalance(bid_volume, ask_volume).item()
        self.depth_ratio = depth_ratio(bid_volume, ask_volume).item()
        self.book_slope = book_slope(bid, bid_volume, ask, ask_volume, self._tick_size_e6).item()
        self.flags = int(book_flags(bid[0], ask[0])[0])

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self.value = self.mid2_e6 = self.flags = 0
        self.spread_ticks = self.weighted_mid = self.queue_imbalance = self.depth_imbalance = np.nan
        self.depth_ratio = self.book_slope = np.nan
        self.validity = int(Validity.WARMING_UP)

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until the next book."""
        self.reset()
        self.validity = int(Validity.TAINTED)
