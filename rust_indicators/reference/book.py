"""What one book says: best levels, mid, imbalance, depth, slope. Not what changed since the book before."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.columns import EMPTY_PRICE_E6, VOLUME_MAX, column, same_rows, sound_level
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

LEVELS_MAX = 10
PRICE_E6_MAX = 2**60  # four of them still fit 64 bits
_Levels: TypeAlias = Sequence[NDArray[np.int64]] | NDArray[np.int64]  # a column a level, best first


def mid2_e6(bid_price_e6: NDArray[np.int64], ask_price_e6: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bid + ask of the best level, price × 10⁶: exactly twice the mid.

    Two int64 columns of n rows; an empty side is EMPTY_PRICE_E6, and so is the result where a side is empty.
    Returns int64[n]. ValueError names the argument: wrong type, shape, length, a price beyond ±2⁶⁰.
    """
    bid, ask, both = _touch(bid_price_e6, ask_price_e6)
    return np.where(both, bid + ask, EMPTY_PRICE_E6)


def spread_ticks(
    bid_price_e6: NDArray[np.int64], ask_price_e6: NDArray[np.int64], tick_size_e6: int
) -> NDArray[np.float64]:
    """Ask − bid in ticks: 0 where the book is locked, negative where it is crossed, NaN where a side is empty.

    Columns as in `mid2_e6`; `tick_size_e6` 1 … 2⁶⁰. Returns float64[n]. ValueError names the argument.
    """
    bid, ask, both = _touch(bid_price_e6, ask_price_e6)
    _check_tick_size(tick_size_e6)
    return np.where(both, (ask - bid) / np.float64(tick_size_e6), np.nan)


def book_flags(bid_price_e6: NDArray[np.int64], ask_price_e6: NDArray[np.int64]) -> NDArray[np.uint8]:
    """What is unusual about each book: bits of `BookFlag`, 0 for a bid below an ask.

    Columns as in `mid2_e6`. Returns uint8[n]. ValueError names the argument.
    """
    bid, ask, both = _touch(bid_price_e6, ask_price_e6)
    found = {
        BookFlag.NO_BID: bid_price_e6 == EMPTY_PRICE_E6,
        BookFlag.NO_ASK: ask_price_e6 == EMPTY_PRICE_E6,
        BookFlag.LOCKED: both & (bid == ask),
        BookFlag.CROSSED: both & (bid > ask),
    }
    flags = np.zeros(len(bid), np.uint8)
    for flag, rows in found.items():
        flags[rows] |= np.uint8(flag)
    return flags


def weighted_mid(
    bid_price_e6: NDArray[np.int64],
    bid_volume: NDArray[np.int64],
    ask_price_e6: NDArray[np.int64],
    ask_volume: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Mid weighted by the opposite volumes, price × 10⁶: I·ask + (1 − I)·bid, I = bid volume / volume of both.

    Columns of n rows, best level; an empty side EMPTY_PRICE_E6 with volume 0. Never outside of bid and ask, also where
    they are locked or crossed. Returns float64[n], NaN where a side is empty or both volumes are 0. ValueError names
    the argument: wrong type, shape, length, a price beyond ±2⁶⁰, a volume outside 0 … 2⁴⁰.
    """
    bid, bid_size, ask, ask_size = checked_sides(bid_price_e6, bid_volume, ask_price_e6, ask_volume)
    both = (bid != EMPTY_PRICE_E6) & (ask != EMPTY_PRICE_E6)
    bid, ask = np.where(both, bid, 0), np.where(both, ask, 0)
    share = _quotient(bid_size, bid_size + ask_size)
    return np.where(both, bid + share * (ask - bid), np.nan)


def queue_imbalance(bid_volume: _Levels, ask_volume: _Levels) -> NDArray[np.float64]:
    """(Σ bid − Σ ask) / (Σ bid + Σ ask) over the levels given, within −1 … 1.

    Each argument: 1 … 10 columns of n rows, best level first, as a list of int64 arrays or as the rows of a
    C-contiguous int64 array; `[bid_volume]` for the best level alone. An empty level has volume 0, so a one-sided book
    gives 1 or −1. Returns float64[n], NaN where there is no volume at all. ValueError names the argument and its level
    (`bid_volume[2]`): wrong type, shape, length, number of levels, a volume outside 0 … 2⁴⁰.
    """
    bid, ask = _depths(bid_volume, ask_volume)
    return _quotient(bid - ask, bid + ask)


def depth_ratio(bid_volume: _Levels, ask_volume: _Levels) -> NDArray[np.float64]:
    """Σ bid / Σ ask over the levels given. Arguments and errors as in `queue_imbalance`.

    Returns float64[n], 0 where the bids have no volume, NaN where the asks have none.
    """
    return _quotient(*_depths(bid_volume, ask_volume))


def book_slope(
    bid_price_e6: _Levels, bid_volume: _Levels, ask_price_e6: _Levels, ask_volume: _Levels, tick_size_e6: int
) -> NDArray[np.float64]:
    """How fast a book thickens with distance from its mid: lots per tick, the mean of both sides.

    A side's is the regression through the origin of cumulative depth V on distance d to the mid in ticks over its
    populated levels: Σ d·V / Σ d². Not the elasticity of Næs & Skjeltorp (2006), Journal of Financial Markets 9(4)
    408–432, which divides by the logarithm of cumulative depth: undefined for a queue of one lot, as futures have.
    Arguments: 1 … 10 columns of n rows each, as in `queue_imbalance`; an empty level is EMPTY_PRICE_E6 with volume 0
    and does not count; `tick_size_e6` 1 … 2⁶⁰. Returns float64[n], NaN where a side is empty, where the book is locked
    or crossed, and where any level is not beyond the mid. ValueError names the argument and its level.
    """
    arguments = {"bid_price_e6": bid_price_e6, "bid_volume": bid_volume, "ask_price_e6": ask_price_e6}
    columns = _level_columns(arguments | {"ask_volume": ask_volume})
    for side in ("bid", "ask"):
        for level, levels in enumerate(zip(columns[f"{side}_price_e6"], columns[f"{side}_volume"], strict=True)):
            _check_prices(f"{side}_price_e6[{level}]", levels[0])
            sound_level(side, *levels, f"[{level}]")
    _check_tick_size(tick_size_e6)
    twice_mid = mid2_e6(columns["bid_price_e6"][0], columns["ask_price_e6"][0])
    both = twice_mid != EMPTY_PRICE_E6
    slopes = [
        _side_slope(columns[f"{side}_price_e6"], columns[f"{side}_volume"], sign, np.where(both, twice_mid, 0))
        for side, sign in (("bid", -1), ("ask", 1))
    ]
    return np.where(both, (slopes[0] + slopes[1]) * tick_size_e6, np.nan)


class BookState:
    """Streaming: all that the last book of so many levels says. It remembers nothing of the books before.

    `tick_size_e6` 1 … 2⁶⁰, `levels` 1 … 10. The properties are what the functions of the same names give for the book,
    `queue_imbalance` for its best level and `depth_imbalance` for all; NaN (EMPTY_PRICE_E6, NO_BID | NO_ASK) before the
    first book. It is warm from the first book on. `validity` is that of mid, spread and weighted mid: UNDEFINED where a
    side is empty or the best level has no volume. Imbalances and ratio of a one-sided book are as the functions say.
    A locked or crossed book is VALID, and `flags` says so: its spread is 0 or negative, its mid and weighted mid lie
    between the two prices, imbalances and ratio are as ever, and only `book_slope` is NaN.
    ValueError names the argument.
    """

    mid2_e6: int
    spread_ticks: float
    weighted_mid: float
    queue_imbalance: float
    depth_imbalance: float
    depth_ratio: float
    book_slope: float
    flags: int
    validity: int

    def __init__(self, tick_size_e6: int, levels: int = 5) -> None:
        _check_tick_size(tick_size_e6)
        if not 1 <= operator.index(levels) <= LEVELS_MAX:
            raise ValueError(f"levels: {levels} is not within 1 … 10")
        self._tick_size_e6, self._levels = tick_size_e6, levels
        self.reset()

    def update(
        self,
        bid_price_e6: Sequence[int],
        bid_volume: Sequence[int],
        ask_price_e6: Sequence[int],
        ask_volume: Sequence[int],
        /,
    ) -> None:
        """A book: one integer a level in each, best first, empty levels EMPTY_PRICE_E6 with volume 0. ValueError names
        the argument and its level: not so many integers, a price beyond ±2⁶⁰, a volume outside 0 … 2⁴⁰.
        """
        bids, bid_sizes = self._row("bid_price_e6", bid_price_e6), self._row("bid_volume", bid_volume)
        asks, ask_sizes = self._row("ask_price_e6", ask_price_e6), self._row("ask_volume", ask_volume)
        self.book_slope = book_slope(bids, bid_sizes, asks, ask_sizes, self._tick_size_e6).item()
        self.mid2_e6 = mid2_e6(bids[0], asks[0]).item()
        self.spread_ticks = spread_ticks(bids[0], asks[0], self._tick_size_e6).item()
        self.weighted_mid = weighted_mid(bids[0], bid_sizes[0], asks[0], ask_sizes[0]).item()
        self.queue_imbalance = queue_imbalance(bid_sizes[:1], ask_sizes[:1]).item()
        self.depth_imbalance = queue_imbalance(bid_sizes, ask_sizes).item()
        self.depth_ratio = depth_ratio(bid_sizes, ask_sizes).item()
        self.flags = book_flags(bids[0], asks[0]).item()
        self.validity = Validity.UNDEFINED if math.isnan(self.weighted_mid) else Validity.VALID

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self.mid2_e6, self.flags = EMPTY_PRICE_E6, BookFlag.NO_BID | BookFlag.NO_ASK
        self.spread_ticks = self.weighted_mid = self.queue_imbalance = math.nan
        self.depth_imbalance = self.depth_ratio = self.book_slope = math.nan
        self.validity = Validity.WARMING_UP

    def taint(self) -> None:
        """Begin anew because books are missing; TAINTED until the next."""
        self.reset()
        self.validity = Validity.TAINTED

    def _row(self, argument: str, given: Sequence[int]) -> NDArray[np.int64]:
        try:
            row = np.array([operator.index(value) for value in given], np.int64)
        except (TypeError, OverflowError) as error:
            raise ValueError(f"{argument}: must be a sequence of 64-bit integers") from error
        if len(row) != self._levels:
            raise ValueError(f"{argument}: has {len(row)} levels, not {self._levels}")
        return row.reshape(self._levels, 1)


def checked_sides(
    bid_price_e6: NDArray[np.int64],
    bid_volume: NDArray[np.int64],
    ask_price_e6: NDArray[np.int64],
    ask_volume: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The columns of a best level: equal lengths, prices within ±2⁶⁰, volumes within 0 … 2⁴⁰ and where a price is."""
    bid, bid_size = sound_level("bid", bid_price_e6, bid_volume)
    ask, ask_size = sound_level("ask", ask_price_e6, ask_volume)
    same_rows([("bid_price_e6", bid), ("bid_volume", bid_size), ("ask_price_e6", ask), ("ask_volume", ask_size)])
    _check_prices("bid_price_e6", bid)
    _check_prices("ask_price_e6", ask)
    return bid, bid_size, ask, ask_size


def _touch(bid_price_e6: Any, ask_price_e6: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Best prices, 0 where the book is one-sided, and where it is not."""
    bid, ask = column("bid_price_e6", bid_price_e6, np.int64), column("ask_price_e6", ask_price_e6, np.int64)
    same_rows([("bid_price_e6", bid), ("ask_price_e6", ask)])
    _check_prices("bid_price_e6", bid)
    _check_prices("ask_price_e6", ask)
    both = (bid != EMPTY_PRICE_E6) & (ask != EMPTY_PRICE_E6)
    return np.where(both, bid, 0), np.where(both, ask, 0), both


def _check_prices(argument: str, prices: NDArray[np.int64]) -> None:
    for row in np.flatnonzero((prices != EMPTY_PRICE_E6) & ((prices > PRICE_E6_MAX) | (prices < -PRICE_E6_MAX)))[:1]:
        raise ValueError(f"{argument}: row {row}: {prices[row]} is not within ±2⁶⁰")


def _check_tick_size(tick_size_e6: int) -> None:
    if not 1 <= operator.index(tick_size_e6) <= PRICE_E6_MAX:
        raise ValueError(f"tick_size_e6: {tick_size_e6} is not within 1 … 2⁶⁰")


def _quotient(above: NDArray[np.int64], below: NDArray[np.int64]) -> NDArray[np.float64]:
    """NaN where the divisor is 0."""
    result = np.full(len(above), np.nan)
    np.divide(above, below, out=result, where=below != 0)
    return result


def _level_columns(arguments: dict[str, Any]) -> dict[str, list[NDArray[np.int64]]]:
    """A column a level of each argument; as many levels and rows in each as in the first."""
    columns: dict[str, list[NDArray[np.int64]]] = {}
    for name, given in arguments.items():
        if not isinstance(given, Sequence | np.ndarray) or (isinstance(given, np.ndarray) and given.ndim == 0):
            raise ValueError(f"{name}: must be a sequence of 1 … 10 level columns")
        if not 1 <= len(given) <= LEVELS_MAX:
            raise ValueError(f"{name}: has {len(given)} levels, not 1 … 10")
        columns[name] = [column(f"{name}[{level}]", levels, np.int64) for level, levels in enumerate(given)]
    first = next(iter(columns))
    for name, levels in columns.items():
        if len(levels) != len(columns[first]):
            raise ValueError(f"{name}: has {len(levels)} levels, {first} has {len(columns[first])}")
    same_rows([(f"{name}[{at}]", level) for name, levels in columns.items() for at, level in enumerate(levels)])
    return columns


def _depths(bid_volume: _Levels, ask_volume: _Levels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Volume of all levels of each side."""
    columns = _level_columns({"bid_volume": bid_volume, "ask_volume": ask_volume})
    for name, levels in columns.items():
        for at, volumes in enumerate(levels):
            for row in np.flatnonzero((volumes < 0) | (volumes > VOLUME_MAX))[:1]:
                raise ValueError(f"{name}[{at}]: row {row}: {volumes[row]} is not within 0 … 2⁴⁰")
    return np.sum(columns["bid_volume"], axis=0), np.sum(columns["ask_volume"], axis=0)


def _side_slope(
    prices: list[NDArray[np.int64]], volumes: list[NDArray[np.int64]], sign: int, twice_mid: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Σ d·V / Σ d² with d twice the distance in units of price; NaN where a level is not beyond the mid."""
    depth, inner, square = np.zeros_like(twice_mid), np.zeros(len(twice_mid)), np.zeros(len(twice_mid))
    beyond = np.ones(len(twice_mid), np.bool_)
    for price, volume in zip(prices, volumes, strict=True):
        populated = price != EMPTY_PRICE_E6
        distance = np.where(populated, sign * (2 * np.where(populated, price, 0) - twice_mid), 0).astype(np.float64)
        depth += volume
        inner += distance * depth
        square += distance * distance
        beyond &= ~populated | (distance > 0)
    slope = np.full(len(twice_mid), np.nan)
    np.divide(inner, square, out=slope, where=beyond & (square > 0))
    return slope
