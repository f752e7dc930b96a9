"""Bars of trades: by time, count, volume and value. Not their storage."""

from __future__ import annotations

from copy import copy
from typing import Literal, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.columns import VOLUME_MAX, column, restarts, same_rows
from rust_indicators.reference.impact import PRICE_E6_MAX
from rust_indicators.validity import Restart, Validity

__all__ = ["DollarBars", "TickBars", "TimeBars", "VolumeBars", "dollar_bars", "tick_bars", "time_bars", "volume_bars"]

STAMP_NS_MAX = 2**62
_SUM_MAX = 2**63


class Bar(TypedDict):
    """One bar; `Bars` says what each field is."""

    start_ns: int
    end_ns: int
    open_e6: int
    high_e6: int
    low_e6: int
    close_e6: int
    volume: int
    buy_volume: int
    sell_volume: int
    value_e6: int
    trades: int
    last_row: int
    validity: int


class Bars(TypedDict):
    """Bars in order, one column each, int64 but for `validity`; `pyarrow.table(bars)` is a table."""

    start_ns: NDArray[np.int64]  # of a time bar its window's edges: (start, end]; else of its first and last trade
    end_ns: NDArray[np.int64]
    open_e6: NDArray[np.int64]  # price × 10⁶ of the first trade, the highest, the lowest and the last
    high_e6: NDArray[np.int64]
    low_e6: NDArray[np.int64]
    close_e6: NDArray[np.int64]
    volume: NDArray[np.int64]  # lots, of all trades, of buyer and of seller initiated ones
    buy_volume: NDArray[np.int64]
    sell_volume: NDArray[np.int64]
    value_e6: NDArray[np.int64]  # Σ price × lots, × 10⁶; no contract multiplier
    trades: NDArray[np.int64]
    last_row: NDArray[np.int64]  # row of the last trade; of a streaming object counted since it was made
    validity: NDArray[np.uint8]  # VALID, or TAINTED: a gap cut it short, or it is the first after one


def time_bars(
    exchange_ns: NDArray[np.int64],
    price_e6: NDArray[np.int64],
    volume: NDArray[np.int64],
    side: NDArray[np.uint8],
    interval_ns: int,
    *,
    restart: NDArray[np.uint8] | None = None,
) -> Bars:
    """Bars of the windows (edge, edge + interval_ns] at multiples of interval_ns since the Unix epoch, UTC.

    A window without a trade makes no bar. A bar is finished by the first trade after its window, or by a restart: the
    one open at the end of the columns is not returned. (`TimeBars.flush` gives it.)

    Trades in order: exchange_ns int64[n], not going back but at a restart, 0 … 2⁶²; price_e6 int64[n], × 10⁶, within
    ±2⁴⁶; volume int64[n], lots 0 … 2⁴⁰; side uint8[n], the broker's tick_type: 1 buyer, 2 seller initiated, 0 unknown;
    `restart`: marks of `Restart` before each row, uint8[n]. ValueError names the argument: wrong type, shape, length,
    a value out of these bounds, or one that takes a bar's volume or value beyond 2⁶³.
    Source: López de Prado (2018), Advances in Financial Machine Learning, chapter 2.3.1, as are all four.
    """
    return TimeBars(interval_ns).update_many(exchange_ns, price_e6, volume, side, restart=restart)


def tick_bars(
    exchange_ns: NDArray[np.int64],
    price_e6: NDArray[np.int64],
    volume: NDArray[np.int64],
    side: NDArray[np.uint8],
    trades: int,
    *,
    restart: NDArray[np.uint8] | None = None,
) -> Bars:
    """Bars of so many trades each; fewer only before a restart. Columns and errors as in `time_bars`."""
    return TickBars(trades).update_many(exchange_ns, price_e6, volume, side, restart=restart)


def volume_bars(
    exchange_ns: NDArray[np.int64],
    price_e6: NDArray[np.int64],
    volume: NDArray[np.int64],
    side: NDArray[np.uint8],
    lots: int,
    *,
    restart: NDArray[np.uint8] | None = None,
) -> Bars:
    """Bars of at least so many lots: the trade that reaches them ends the bar and is in it whole.

    Columns and errors as in `time_bars`.
    """
    return VolumeBars(lots).update_many(exchange_ns, price_e6, volume, side, restart=restart)


def dollar_bars(
    exchange_ns: NDArray[np.int64],
    price_e6: NDArray[np.int64],
    volume: NDArray[np.int64],
    side: NDArray[np.uint8],
    value_e6: int,
    *,
    restart: NDArray[np.uint8] | None = None,
) -> Bars:
    """Bars of at least so much price × lots (× 10⁶): the trade that reaches it ends the bar and is in it whole.

    Columns and errors as in `time_bars`; a negative price is refused too.
    """
    return DollarBars(value_e6).update_many(exchange_ns, price_e6, volume, side, restart=restart)


_Counted = Literal["trades", "volume", "value_e6"]


class _OpenBar:
    """The bar that is open. It ends where what is counted reaches the threshold; without it, where its time is over."""

    def __init__(self, argument: str, threshold: int, counted: _Counted | None) -> None:
        if not 1 <= threshold <= STAMP_NS_MAX:
            raise ValueError(f"{argument}: {threshold} is not within 1 … 2⁶²")
        self._threshold, self._counted = threshold, counted
        self._rows = 0
        self._begin(Validity.WARMING_UP)

    def _begin(self, validity: Validity) -> None:
        self._open: Bar | None = None
        self._latest_ns = 0
        self._gap = validity == Validity.TAINTED
        self.value: Bar | None = None
        self.validity: int = validity

    def update(self, exchange_ns: int, price_e6: int, volume: int, side: int, /) -> Bar | None:
        """The bar this trade ends, if any: a time bar before it, another with it. ValueError as in `time_bars`."""
        self._check(exchange_ns, price_e6, volume, side)
        before = self.flush() if self._ends_before(exchange_ns) else None
        bar = self._open or self._first(exchange_ns, price_e6)
        bar["high_e6"] = max(bar["high_e6"], price_e6)
        bar["low_e6"] = min(bar["low_e6"], price_e6)
        bar["close_e6"] = price_e6
        bar["volume"] += volume
        bar["buy_volume"] += volume if side == 1 else 0
        bar["sell_volume"] += volume if side == 2 else 0
        bar["value_e6"] += price_e6 * volume
        bar["trades"] += 1
        bar["last_row"] = self._rows
        if self._counted is not None:
            bar["end_ns"] = exchange_ns
        self._open = bar
        self._rows += 1
        self._latest_ns = exchange_ns
        reached = self._counted is not None and bar[self._counted] >= self._threshold
        return self.flush() if reached else before

    def _ends_before(self, exchange_ns: int) -> bool:
        return self._counted is None and self._open is not None and exchange_ns > self._open["end_ns"]

    def _first(self, exchange_ns: int, price_e6: int) -> Bar:
        start_ns = end_ns = exchange_ns
        if self._counted is None:
            end_ns = -(-exchange_ns // self._threshold) * self._threshold
            start_ns = end_ns - self._threshold
        return Bar(
            start_ns=start_ns, end_ns=end_ns, open_e6=price_e6, high_e6=price_e6, low_e6=price_e6, close_e6=price_e6,
            volume=0, buy_volume=0, sell_volume=0, value_e6=0, trades=0, last_row=self._rows,
            validity=Validity.TAINTED if self._gap else Validity.VALID,
        )  # fmt: skip

    def _check(self, exchange_ns: int, price_e6: int, volume: int, side: int) -> None:
        if not 0 <= exchange_ns <= STAMP_NS_MAX:
            raise ValueError(f"exchange_ns: {exchange_ns} is not within 0 … 2⁶²")
        if exchange_ns < self._latest_ns:
            raise ValueError(f"exchange_ns: {exchange_ns} goes back, behind {self._latest_ns}")
        if not -PRICE_E6_MAX <= price_e6 <= PRICE_E6_MAX:
            raise ValueError(f"price_e6: {price_e6} is not within −2⁴⁶ … 2⁴⁶")
        if self._counted == "value_e6" and price_e6 < 0:
            raise ValueError(f"price_e6: {price_e6} is negative, so that value would shrink")
        if not 0 <= volume <= VOLUME_MAX:
            raise ValueError(f"volume: {volume} is not within 0 … 2⁴⁰")
        if not 0 <= side <= 2:
            raise ValueError(f"side: {side} is not 0 (unknown), 1 (buy) or 2 (sell)")
        bar = None if self._ends_before(exchange_ns) else self._open
        lots, value = (bar["volume"], bar["value_e6"]) if bar else (0, 0)
        more = price_e6 * volume
        if not all(-_SUM_MAX <= total < _SUM_MAX for total in (lots + volume, more, value + more)):
            raise ValueError(f"volume: {volume} at {price_e6} takes the bar's sums beyond 2⁶³")

    def flush(self) -> Bar | None:
        """End the open bar as it is: at the close of a session, say. None where no trade came since the last."""
        bar, self._open = self._open, None
        if bar is not None:
            self.value, self.validity, self._gap = bar, bar["validity"], False
        return bar

    def update_many(
        self,
        exchange_ns: NDArray[np.int64],
        price_e6: NDArray[np.int64],
        volume: NDArray[np.int64],
        side: NDArray[np.uint8],
        *,
        restart: NDArray[np.uint8] | None = None,
    ) -> Bars:
        """`update` for every row: the bars that ended; a restart ends the one before it. A refusal changes nothing."""
        columns = [
            (name, column(name, given, np.int64))
            for name, given in (("exchange_ns", exchange_ns), ("price_e6", price_e6), ("volume", volume))
        ]
        sides = column("side", side, np.uint8)
        rows = same_rows([*columns, ("side", sides)])
        marks = restarts(restart, rows, "exchange_ns").tolist()
        state, found = copy(self), []
        state._open = copy(self._open)
        lists = (values.tolist() for _, values in columns)
        for row, (mark, *trade) in enumerate(zip(marks, *lists, sides.tolist(), strict=True)):
            if mark != Restart.NONE:
                found.append(state._restart(mark))
            try:
                found.append(state.update(*trade))
            except ValueError as error:
                argument, _, reason = str(error).partition(": ")
                raise ValueError(f"{argument}: row {row}: {reason}") from None
        self.__dict__ = state.__dict__
        bars = [cast(dict[str, int], bar) for bar in found if bar is not None]
        dtypes = {name: np.uint8 if name == "validity" else np.int64 for name in Bar.__annotations__}
        return cast(Bars, {name: np.array([bar[name] for bar in bars], dtype) for name, dtype in dtypes.items()})

    def _restart(self, mark: int) -> Bar | None:
        """Begin anew; the bar that was open, which a gap taints, is not lost."""
        bar = self.flush()
        if mark == Restart.RESET:
            self.reset()
            return bar
        self.taint()
        return bar and {**bar, "validity": Validity.TAINTED}

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt. The open bar is gone: `flush` first."""
        self._begin(Validity.WARMING_UP)

    def taint(self) -> None:
        """Begin anew because trades are missing; the first bar after it is TAINTED too."""
        self._begin(Validity.TAINTED)


class TimeBars(_OpenBar):
    """Streaming `time_bars`. `value` is the last finished bar since the start, `validity` what it is worth."""

    def __init__(self, interval_ns: int) -> None:
        super().__init__("interval_ns", interval_ns, None)


class TickBars(_OpenBar):
    """Streaming `tick_bars`. `value` is the last finished bar since the start, `validity` what it is worth."""

    def __init__(self, trades: int) -> None:
        super().__init__("trades", trades, "trades")


class VolumeBars(_OpenBar):
    """Streaming `volume_bars`. `value` is the last finished bar since the start, `validity` what it is worth."""

    def __init__(self, lots: int) -> None:
        super().__init__("lots", lots, "volume")


class DollarBars(_OpenBar):
    """Streaming `dollar_bars`. `value` is the last finished bar since the start, `validity` what it is worth."""

    def __init__(self, value_e6: int) -> None:
        super().__init__("value_e6", value_e6, "value_e6")
