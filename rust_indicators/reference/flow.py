"""Order flow imbalance: what books say of supply and demand that came and went. Not the trades themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.columns import EMPTY_PRICE_E6, column, restarts, same_rows, sound_level
from rust_indicators.validity import Restart, Validity

__all__ = ["Ofi", "ofi"]


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
    if out is None:
        return values
    if not isinstance(out, np.ndarray) or out.dtype != np.int64 or out.ndim != 1:
        column("out", out, np.int64)
    if len(out) != len(values) or not out.flags.c_contiguous:
        raise ValueError(f"out: must be contiguous, with {len(values)} rows")
    out[:] = values
    return out


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
