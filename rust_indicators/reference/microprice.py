"""Micro-price: the mid plus what it is expected to move, by imbalance and spread. Not the fit: `calibrate`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.book import mid2_e6, sound_tick, weighted_mid
from rust_indicators.reference.columns import restarts
from rust_indicators.validity import Validity

__all__ = ["MicroPrice", "micro_price"]

STATES_MAX = 1000


def _sound_table(table: Any, tick_size_e6: int) -> NDArray[np.float64]:
    if not (isinstance(table, np.ndarray) and table.ndim == 2 and table.dtype == np.float64):
        raise ValueError("table: must be a contiguous 2-dimensional array of float64")
    if not table.flags.c_contiguous:
        raise ValueError("table: must be a contiguous 2-dimensional array of float64")
    sound_tick(tick_size_e6)
    if not (1 <= table.shape[0] <= STATES_MAX and 1 <= table.shape[1] <= STATES_MAX):
        raise ValueError(f"table: must have 1 … {STATES_MAX} rows and columns")
    for ticks in table[np.abs(table) > 1e6][:1]:
        raise ValueError(f"table: {ticks} ticks are no move of a mid")
    return table


def micro_price(
    bid_price_e6: NDArray[np.int64],
    bid_volume: NDArray[np.int64],
    ask_price_e6: NDArray[np.int64],
    ask_volume: NDArray[np.int64],
    table: NDArray[np.float64],
    tick_size_e6: int,
) -> NDArray[np.float64]:
    """Mid + G*(I, S), price × 10⁶ as float64[n].

    Best level, int64[n] each. `table` float64[spreads, buckets]: G* in ticks, row s − 1 for a spread of s ticks, bucket
    ⌊I·buckets⌋ of I = bid volume / (bid volume + ask volume); NaN where not fitted (`fit_micro_price`). The weighted
    mid where the spread is not fitted, not whole ticks, or locked or crossed; NaN where a side is empty or neither has
    volume. Fit on an earlier day than the one it is applied to. ValueError names the argument.
    Source: Stoikov (2018), Quantitative Finance 18(12) 1959–1966.
    """
    ticks = _sound_table(table, tick_size_e6)
    weighted = weighted_mid(bid_price_e6, bid_volume, ask_price_e6, ask_volume)
    mid2 = mid2_e6(bid_price_e6, ask_price_e6)
    there = ~np.isnan(weighted)
    spread = np.where(there, np.where(there, ask_price_e6, 0) - np.where(there, bid_price_e6, 0), 0)
    row = spread // tick_size_e6 - 1
    there &= (spread % tick_size_e6 == 0) & (row >= 0) & (row < ticks.shape[0])
    buckets = ticks.shape[1]
    bucket = np.minimum(bid_volume * buckets // np.maximum(bid_volume + ask_volume, 1), buckets - 1)
    moves = np.where(there, ticks[np.where(there, row, 0), np.where(there, bucket, 0)], np.nan)
    price: NDArray[np.float64] = np.where(np.isnan(moves), weighted, np.true_divide(mid2, 2) + moves * tick_size_e6)
    return price


class MicroPrice:
    """Streaming `micro_price`: one book makes it warm. UNDEFINED (NaN) where a side is empty or neither has volume."""

    def __init__(self, table: NDArray[np.float64], tick_size_e6: int) -> None:
        self._table, self._tick_size_e6 = _sound_table(table, tick_size_e6).copy(), tick_size_e6
        self.value: float = np.nan
        self.validity: int = Validity.WARMING_UP

    def update(self, bid_price_e6: int, bid_volume: int, ask_price_e6: int, ask_volume: int, /) -> float:
        """Micro-price of this book, price × 10⁶. ValueError as `micro_price`."""
        given = (bid_price_e6, bid_volume, ask_price_e6, ask_volume)
        self.update_many(*(np.array([value], np.int64) for value in given))
        return self.value

    def update_many(
        self,
        bid_price_e6: NDArray[np.int64],
        bid_volume: NDArray[np.int64],
        ask_price_e6: NDArray[np.int64],
        ask_volume: NDArray[np.int64],
        *,
        restart: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """`update` for every row: float64[n] and validity uint8[n]. A refusal leaves the state as it was."""
        values = micro_price(bid_price_e6, bid_volume, ask_price_e6, ask_volume, self._table, self._tick_size_e6)
        restarts(restart, len(values), "bid_price_e6")
        validity = np.where(np.isnan(values), Validity.UNDEFINED, Validity.VALID).astype(np.uint8)
        if len(values):
            self.value, self.validity = values[-1].item(), int(validity[-1])
        return values, validity

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self.value, self.validity = np.nan, Validity.WARMING_UP

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until the next book."""
        self.value, self.validity = np.nan, Validity.TAINTED
