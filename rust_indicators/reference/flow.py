"""Order flow imbalance: what books say of supply and demand that came and went, and the signed volume of trades.
Not what is made of them over windows: `windows`.
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
    restarts,
    same_rows,
    sound_book,
    sound_level,
    written,
)
from rust_indicators.validity import Restart, Validity

__all__ = ["Mlofi", "Ofi", "TradeImbalance", "mlofi", "ofi", "trade_imbalance"]


def ofi(
    bid_price_e6: NDArray[np.int64],
    bid_volume: NDArray[np.int64],
    ask_price_e6: NDArray[np.int64],
    ask_volume: NDArray[np.int64],
    *,
    restart: NDArray[np.uint8] | None = None,
    out: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Order flow imbalance e_n of each book against the one before, in lots.

    Columns of n rows, best level, in order of receipt; prices × 10⁶, an empty side EMPTY_PRICE_E6 with volume 0.
    `restart`: marks of `Restart` before each row. Returns int64[n]: 0 in row 0 and where the state begins anew.
    `out`: where to write it. ValueError names the argument: wrong type, shape, length, a volume outside 0 … 2⁴⁰.
    Source: Cont, Kukanov & Stoikov (2014), Journal of Financial Econometrics 12(1) 47–88, equation 4.
    """
    values, _ = Ofi().update_many(bid_price_e6, bid_volume, ask_price_e6, ask_volume, restart=restart)
    return written(out, values)


class Ofi:
    """Streaming `ofi`: remembers the book before. `value` in lots, 0 until there is one before it."""

    def __init__(self) -> None:
        self._before: tuple[int, int, int, int] | None = None
        self._tainted = False
        self.value: int = 0
        self.validity: int = Validity.WARMING_UP

    def update(self, bid_price_e6: int, bid_volume: int, ask_price_e6: int, ask_volume: int, /) -> int:
        """e_n of this book, in lots. ValueError: a volume outside 0 … 2⁴⁰, or one at a level without a price."""
        given = (bid_price_e6, bid_volume, ask_price_e6, ask_volume)
        values, _ = self.update_many(*(np.array([value], np.int64) for value in given))
        return int(values[0])

    def update_many(
        self,
        bid_price_e6: NDArray[np.int64],
        bid_volume: NDArray[np.int64],
        ask_price_e6: NDArray[np.int64],
        ask_volume: NDArray[np.int64],
        *,
        restart: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """`update` for every row: (values, validity), int64[n] and uint8[n]. A refusal leaves the state as it was."""
        bid, bid_size = sound_level("bid", bid_price_e6, bid_volume)
        ask, ask_size = sound_level("ask", ask_price_e6, ask_volume)
        rows = same_rows([("bid_price_e6", bid), ("bid_volume", bid_size), ("ask_price_e6", ask),
                          ("ask_volume", ask_size)])  # fmt: skip
        marks = restarts(restart, rows, "bid_price_e6")
        values, validity = np.zeros(rows, np.int64), np.full(rows, Validity.VALID, np.uint8)
        if rows == 0:
            return values, validity
        began = marks != Restart.NONE
        began[0] |= self._before is None
        before = self._before or (0, 0, 0, 0)
        values[:] = np.where(began, 0, _contributions(before, bid, bid_size, ask, ask_size))
        tainted = marks == Restart.TAINT
        tainted[0] |= self._tainted and marks[0] == Restart.NONE
        validity[began] = np.where(tainted[began], Validity.TAINTED, Validity.WARMING_UP)
        self._before = (int(bid[-1]), int(bid_size[-1]), int(ask[-1]), int(ask_size[-1]))
        self._tainted = bool(validity[-1] == Validity.TAINTED)
        self.value, self.validity = int(values[-1]), int(validity[-1])
        return values, validity

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self.__init__()  # type: ignore[misc]

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until warm again."""
        self.reset()
        self._tainted, self.validity = True, Validity.TAINTED


def _contributions(
    before: tuple[int, int, int, int],
    bid: NDArray[np.int64],
    bid_size: NDArray[np.int64],
    ask: NDArray[np.int64],
    ask_size: NDArray[np.int64],
) -> Any:
    """e_n; an empty bid stands at −∞ (EMPTY_PRICE_E6 is the least integer), an empty ask at +∞."""
    bid, bid_size, ask, ask_size = (
        np.concatenate(([first], rest)) for first, rest in zip(before, (bid, bid_size, ask, ask_size), strict=True)
    )
    ask = np.where(ask == EMPTY_PRICE_E6, np.iinfo(np.int64).max, ask)
    return (
        np.where(bid[1:] >= bid[:-1], bid_size[1:], 0)
        - np.where(bid[1:] <= bid[:-1], bid_size[:-1], 0)
        - np.where(ask[1:] <= ask[:-1], ask_size[1:], 0)
        + np.where(ask[1:] >= ask[:-1], ask_size[:-1], 0)
    )


def mlofi(
    bid_price_e6: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    bid_volume: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    ask_price_e6: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    ask_volume: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    *,
    restart: NDArray[np.uint8] | None = None,
    out: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Order flow imbalance of every level, in lots: `ofi` of level m's columns, level 0 the best.

    Each argument: 1 … 10 columns of n rows, a populated level each, as a list or as an array [levels, n]; a level that
    is not there has EMPTY_PRICE_E6 and volume 0. `restart` as in `ofi`. Returns int64[levels, n].
    ValueError names the argument and its level: `bid_volume[2]: …`.
    Source: Xu, Gould & Howison (2018), Market Microstructure and Liquidity 4(3–4), arXiv:1907.06230.
    """
    book = sound_book(bid_price_e6, bid_volume, ask_price_e6, ask_volume)
    restarts(restart, len(book[0][0]), "bid_price_e6[0]")
    return written(out, np.stack([ofi(*level, restart=restart) for level in book]))


class Mlofi:
    """Streaming `mlofi` of a book of so many levels: remembers the book before, and is warm from the second one.
    `value`: int of every level, 0 until there is a book before.
    """

    def __init__(self, levels: int = 5) -> None:
        if not 1 <= levels <= LEVELS_MAX:
            raise ValueError(f"levels: has {levels} levels, not 1 … {LEVELS_MAX}")
        self._levels = [Ofi() for _ in range(levels)]

    @property
    def value(self) -> tuple[int, ...]:
        """e_n of every level, in lots."""
        return tuple(level.value for level in self._levels)

    @property
    def validity(self) -> int:
        """What they are worth."""
        return self._levels[0].validity

    def update(
        self,
        bid_price_e6: Sequence[int],
        bid_volume: Sequence[int],
        ask_price_e6: Sequence[int],
        ask_volume: Sequence[int],
        /,
    ) -> tuple[int, ...]:
        """e_n of every level of this book. Each argument: an integer a level, best first. ValueError as `mlofi`."""
        self.update_many(*book_of_one_row(len(self._levels), bid_price_e6, bid_volume, ask_price_e6, ask_volume))
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
        """`update` for every row: int64[levels, n] and validity uint8[n]. A refusal leaves the state as it was."""
        book = sound_book(bid_price_e6, bid_volume, ask_price_e6, ask_volume)
        if len(book) != len(self._levels):
            raise ValueError(f"bid_price_e6: has {len(book)} levels, not {len(self._levels)}")
        restarts(restart, len(book[0][0]), "bid_price_e6[0]")
        done = [state.update_many(*level, restart=restart) for state, level in zip(self._levels, book, strict=True)]
        return np.stack([values for values, _ in done]), done[0][1]

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        for level in self._levels:
            level.reset()

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until warm again."""
        for level in self._levels:
            level.taint()


def trade_imbalance(
    side: NDArray[np.uint8], volume: NDArray[np.int64], *, out: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Signed volume of every trade, in lots: + where the buyer began it, − the seller, 0 where nobody knows.

    `side` uint8[n]: 1 buy, 2 sell, 0 unknown (the broker's tick_type); `volume` int64[n]. Returns int64[n].
    ValueError names the argument: another side, a volume outside 0 … 2⁴⁰.
    Source: the trade imbalance of Cont, Kukanov & Stoikov (2014), equation 12.
    """
    sides, volumes = column("side", side, np.uint8), column("volume", volume, np.int64)
    same_rows([("side", sides), ("volume", volumes)])
    for row in np.flatnonzero(sides > 2)[:1]:
        raise ValueError(f"side: row {row}: {sides[row]} is not 0 (unknown), 1 (buy) or 2 (sell)")
    for row in np.flatnonzero((volumes < 0) | (volumes > VOLUME_MAX))[:1]:
        raise ValueError(f"volume: row {row}: {volumes[row]} is not within 0 … 2⁴⁰")
    return written(out, ((sides == 1).astype(np.int64) - (sides == 2)) * volumes)


class TradeImbalance:
    """Streaming `trade_imbalance`: remembers the last trade alone, so one trade makes it warm. `value` in lots."""

    def __init__(self) -> None:
        self.value: int = 0
        self.validity: int = Validity.WARMING_UP

    def update(self, side: int, volume: int, /) -> int:
        """Signed volume of this trade. ValueError as `trade_imbalance`."""
        if not 0 <= side <= 2:
            raise ValueError(f"side: {side} is not 0 (unknown), 1 (buy) or 2 (sell)")
        self.update_many(np.array([side], np.uint8), np.array([volume], np.int64))
        return self.value

    def update_many(
        self, side: NDArray[np.uint8], volume: NDArray[np.int64], *, restart: NDArray[np.uint8] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """`update` for every row: (values, validity), int64[n] and uint8[n]; nothing is left to forget at a restart."""
        values = trade_imbalance(side, volume)
        restarts(restart, len(values), "side")
        if len(values):
            self.value, self.validity = int(values[-1]), Validity.VALID
        return values, np.full(len(values), Validity.VALID, np.uint8)

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self.__init__()  # type: ignore[misc]

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until the next trade."""
        self.value, self.validity = 0, Validity.TAINTED
