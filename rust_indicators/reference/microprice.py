"""Micro-price: the mid, moved to where it is expected once it has stopped moving, given imbalance and spread.

Stoikov (2018), Quantitative Finance 18(12) 1959–1966. Not its calibration: `rust_indicators.calibrate` has that.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.book import sound_sides, sound_tick, weighted_mid
from rust_indicators.reference.columns import EMPTY_PRICE_E6, restarts
from rust_indicators.validity import Validity

__all__ = ["MicroPrice", "micro_price"]

TABLE_SIDE_MAX = 1024  # spreads and buckets: volume × buckets fits 64 bits


def micro_price(
    bid_price_e6: NDArray[np.int64],
    bid_volume: NDArray[np.int64],
    ask_price_e6: NDArray[np.int64],
    ask_volume: NDArray[np.int64],
    table: NDArray[np.float64],
    tick_size_e6: int,
) -> NDArray[np.float64]:
    """Micro-price of each book, price × 10⁶: the mid plus the table's ticks for the book's spread and imbalance.

    Columns of n rows, best level; prices × 10⁶, an empty side EMPTY_PRICE_E6 with volume 0.
    `table`: float64[spread, bucket] in ticks, finite or NaN, 1 … 1024 each, as `calibrate.fit_micro_price` gives it
    from days before: row s is a spread of s + 1 ticks; column b the imbalance bid volume / volume of both from
    b/buckets to (b+1)/buckets. One on the border of two buckets belongs to the one nearer to ½; ½ between two buckets
    is the mean of both. `tick_size_e6` 1 … 2⁶⁰.
    Returns float64[n]: the weighted mid where the table has no such spread (wider, locked, crossed, no whole ticks) or
    a NaN; NaN where a side is empty or both volumes are 0. It may lie outside of bid and ask if the table says so.
    ValueError names the argument: wrong type, shape, length, a price beyond ±2⁶⁰, a volume outside 0 … 2⁴⁰.
    """
    moves = _checked_table(table)
    sound_tick(tick_size_e6)
    bid, bid_size, ask, ask_size = sound_sides(bid_price_e6, bid_volume, ask_price_e6, ask_volume)
    priced = (bid != EMPTY_PRICE_E6) & (ask != EMPTY_PRICE_E6) & (bid_size + ask_size > 0)
    bid, ask = np.where(priced, bid, 0), np.where(priced, ask, 0)
    ticks, rest = np.divmod(ask - bid, tick_size_e6)
    known = priced & (rest == 0) & (ticks >= 1) & (ticks <= len(moves))
    rows = np.where(known, ticks - 1, 0)
    lower, upper = buckets_of(bid_size, ask_size, moves.shape[1])
    expected = np.where(known, 0.5 * (moves[rows, lower] + moves[rows, upper]), np.nan)
    weighted = weighted_mid(bid_price_e6, bid_volume, ask_price_e6, ask_volume)
    return np.where(np.isnan(expected), weighted, 0.5 * (bid + ask) + expected * tick_size_e6)


class MicroPrice:
    """Streaming `micro_price`. `value` is the price × 10⁶ of the last book; it remembers nothing of those before.

    VALID from the first book on, UNDEFINED and NaN where a side is empty or both volumes are 0.
    """

    value: float
    validity: int

    def __init__(self, table: NDArray[np.float64], tick_size_e6: int) -> None:
        self._table = _checked_table(table).copy()
        sound_tick(tick_size_e6)
        self._tick_size_e6 = tick_size_e6
        self.reset()

    def update(self, bid_price_e6: int, bid_volume: int, ask_price_e6: int, ask_volume: int, /) -> float:
        """Micro-price × 10⁶ of this book. ValueError: see `micro_price`."""
        given = (bid_price_e6, bid_volume, ask_price_e6, ask_volume)
        values, _ = self.update_many(*(np.array([value], np.int64) for value in given))
        return values.item()

    def update_many(
        self,
        bid_price_e6: NDArray[np.int64],
        bid_volume: NDArray[np.int64],
        ask_price_e6: NDArray[np.int64],
        ask_volume: NDArray[np.int64],
        *,
        restart: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """`update` for every row: (values, validity), float64[n] and uint8[n]; a restart changes no value. A refusal
        leaves the state as it was.
        """
        columns = (bid_price_e6, bid_volume, ask_price_e6, ask_volume)
        values = micro_price(*columns, self._table, self._tick_size_e6)
        restarts(restart, len(values), "bid_price_e6")
        validity = np.where(np.isnan(values), Validity.UNDEFINED, Validity.VALID).astype(np.uint8)
        if len(values):
            self.value, self.validity = values[-1].item(), validity[-1].item()
        return values, validity

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self.value = math.nan
        self.validity = Validity.WARMING_UP

    def taint(self) -> None:
        """Begin anew because books are missing; TAINTED until the next."""
        self.reset()
        self.validity = Validity.TAINTED


def buckets_of(
    bid_volume: NDArray[np.int64], ask_volume: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both buckets of each imbalance, which differ only for equal volumes between two; 0 where there is no volume.

    Swapping the sides mirrors the buckets: a border belongs to the bucket nearer to equal volumes.
    """
    smaller, total = np.minimum(bid_volume, ask_volume), bid_volume + ask_volume
    outer = np.where(total > 0, smaller * count // np.maximum(total, 1), 0)
    mirrored = count - 1 - outer
    return (
        np.where(bid_volume <= ask_volume, outer, mirrored),
        np.where(bid_volume < ask_volume, outer, mirrored),
    )


def _checked_table(table: NDArray[np.float64]) -> NDArray[np.float64]:
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.dtype != np.float64:
        raise ValueError("table: must be a 2-dimensional array of float64")
    if not table.flags.c_contiguous:
        raise ValueError("table: is not contiguous: numpy.ascontiguousarray makes it so")
    spreads, buckets = table.shape
    if not (1 <= spreads <= TABLE_SIDE_MAX and 1 <= buckets <= TABLE_SIDE_MAX):
        raise ValueError(f"table: is {spreads} × {buckets}, not within 1 … 1024 each")
    for row, bucket in np.argwhere(np.isinf(table))[:1]:
        raise ValueError(f"table: row {row}, bucket {bucket} is infinite: NaN says not known")
    return table
