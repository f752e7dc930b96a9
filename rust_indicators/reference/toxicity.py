"""VPIN: how one-sided the volume is. From signed trades, and by bulk volume classification. Not a forecast."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.columns import VOLUME_MAX, column, positive, restarts, same_rows
from rust_indicators.reference.impact import PRICE_E6_MAX
from rust_indicators.validity import Restart, Validity

__all__ = ["BulkVpin", "Vpin", "bulk_vpin", "vpin"]

BUCKETS_MAX = 2**20
BUCKETS_PER_ROW_MAX = 2**16
BUCKETS_PER_CALL_MAX = 2**24
CHANGES_MAX = 2**32
_SIGN = (0, 1, -1)  # of a side: unknown, buyer, seller initiated


def vpin(
    side: NDArray[np.uint8],
    volume: NDArray[np.int64],
    bucket_volume: int,
    buckets: int = 50,
    *,
    restart: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """VPIN of signed trades, at every completed bucket: (values float64[k], last_row int64[k]).

    Trades in order are put into buckets of exactly `bucket_volume` lots; one that overflows is split. VPIN is the sum
    of |buys − sells| over the last `buckets` full buckets, divided by their volume: 0 … 1, NaN until so many are full
    since the start or a restart. `last_row` is the trade that completed the bucket; one trade may complete several. A
    bucket that is not full at the end or at a restart gives no row. Usual: a fiftieth of a day's volume, 50 buckets.

    side uint8[n], the broker's tick_type: 1 buyer, 2 seller initiated, 0 unknown (half each); volume int64[n], lots;
    `restart`: marks of `Restart` before each row, uint8[n].
    ValueError names the argument: wrong type, shape, length; a side above 2; a volume outside 0 … 2⁴⁰, or one that
    fills more than 2¹⁶ buckets; bucket_volume outside 1 … 2⁴⁰ or so small that there are over 2²⁴ buckets; buckets
    outside 1 … 2²⁰.
    Source: Easley, López de Prado & O'Hara (2012), Review of Financial Studies 25(5) 1457–1493, equation 8.
    """
    state = Vpin(bucket_volume, buckets)
    sides, volumes, marks = _trades(side, volume, restart)
    _refuse_too_many(volumes, bucket_volume)
    values: list[float] = []
    last_row: list[int] = []
    for row, (sign, lots, mark) in enumerate(zip(sides, volumes.tolist(), marks.tolist(), strict=True)):
        if mark != Restart.NONE:
            state.reset()
        for imbalance in state._completed(_SIGN[sign], lots):
            state._push(imbalance)
            values.append(state.value)
            last_row.append(row)
    if len(values) > BUCKETS_PER_CALL_MAX:
        raise ValueError("bucket_volume: so small that it makes more than 2²⁴ buckets")
    return np.array(values, np.float64), np.array(last_row, np.int64)


def bulk_vpin(
    price_e6: NDArray[np.int64],
    volume: NDArray[np.int64],
    bucket_volume: int,
    buckets: int = 50,
    *,
    sigma: float | None = None,
    previous_close_e6: int | None = None,
    restart: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """VPIN by bulk volume classification, of bars: (values float64[k], last_row int64[k]) as in `vpin`.

    The share z = Φ(ΔP ÷ σ) of a bar's volume counts as bought, the rest as sold; the volume goes into buckets of
    exactly `bucket_volume` lots, z being the same in every part. ΔP is the change of the close; of the first bar, 0
    unless `previous_close_e6` is given, and after a restart 0. σ: `sigma`, in price, or without it the sample standard
    deviation of the changes strictly before the bar since the start (the first bar's 0 is one of them); z = ½ while
    there are fewer than two, or σ is 0. A `sigma` of the whole sample looks ahead: fit it on days before.
    Use it only where trades have no side. On TXFD6 2026-04-09 it has little to do with the signed VPIN.

    Bars in order: price_e6 int64[n], close × 10⁶, within ±2⁴⁶; volume int64[n], lots 0 … 2⁴⁰; `restart`: marks of
    `Restart` before each row, uint8[n]: buckets and σ begin anew. ValueError as in `vpin`; a sigma that is not a finite
    number above 0. Kernel and reference agree within 10⁻¹² of a value, whose largest is 1.

    Convention of the published 0.17349 (last) and 0.25314 (mean): the 300 minutes of the day session from
    08:45 Taipei as `time_bars` makes them, 1000 lots, 20 buckets, σ the sample deviation of all 300 changes, the first
    being 0.
    Source: Easley, López de Prado & O'Hara (2012), Review of Financial Studies 25(5) 1457–1493, equations 7 and 8.
    """
    state = BulkVpin(bucket_volume, buckets, sigma=sigma, previous_close_e6=previous_close_e6)
    prices, volumes, marks = _bars(price_e6, volume, restart)
    _refuse_too_many(volumes, bucket_volume)
    values: list[float] = []
    last_row: list[int] = []
    for row, (price, lots, mark) in enumerate(zip(prices.tolist(), volumes.tolist(), marks.tolist(), strict=True)):
        if mark != Restart.NONE:
            state.reset()
        for imbalance in state._completed(price, lots):
            state._push(imbalance)
            values.append(state.value)
            last_row.append(row)
    if len(values) > BUCKETS_PER_CALL_MAX:
        raise ValueError("bucket_volume: so small that it makes more than 2²⁴ buckets")
    return np.array(values, np.float64), np.array(last_row, np.int64)


class Vpin:
    """Streaming `vpin`: `value` after every trade, NaN until `buckets` are full since the start: then it is warm.

    Between completions of buckets the value stays. No limit on the buckets a trade fills.
    """

    def __init__(self, bucket_volume: int, buckets: int = 50) -> None:
        _check_buckets(bucket_volume, buckets)
        self._bucket_volume, self._buckets = bucket_volume, buckets
        self._begin(Validity.WARMING_UP)

    def _begin(self, validity: Validity) -> None:
        self._imbalances: deque[int] = deque(maxlen=self._buckets)
        self._sum = 0
        self._fill = self._net = 0  # of the bucket that is filling: its lots, its buys − sells
        self.value: float = math.nan
        self.validity: int = validity

    def _completed(self, sign: int, volume: int) -> list[int]:
        """|buys − sells| of the buckets this trade completes."""
        fill, net = self._fill + volume, self._net + sign * volume
        completed = []
        if fill >= self._bucket_volume:
            fill -= self._bucket_volume
            completed.append(abs(net - sign * fill))
            more, fill = divmod(fill, self._bucket_volume)
            completed += [abs(sign) * self._bucket_volume] * min(more, max(self._buckets, BUCKETS_PER_ROW_MAX))
            net = sign * fill
        self._fill, self._net = fill, net
        return completed

    def _push(self, imbalance: int) -> None:
        if len(self._imbalances) == self._buckets:
            self._sum -= self._imbalances[0]
        self._imbalances.append(imbalance)
        self._sum += imbalance
        if len(self._imbalances) == self._buckets:
            self.value = (np.float64(self._sum) / np.float64(self._buckets * self._bucket_volume)).item()
            self.validity = Validity.VALID

    def update(self, side: int, volume: int, /) -> float:
        """VPIN after this trade. ValueError: a side that is not 0, 1 or 2, a volume outside 0 … 2⁴⁰."""
        if not 0 <= side <= 2:
            raise ValueError(f"side: {side} is not 0 (unknown), 1 (buy) or 2 (sell)")
        if not 0 <= volume <= VOLUME_MAX:
            raise ValueError(f"volume: {volume} is not within 0 … 2⁴⁰")
        for imbalance in self._completed(_SIGN[side], volume):
            self._push(imbalance)
        return self.value

    def update_many(
        self, side: NDArray[np.uint8], volume: NDArray[np.int64], *, restart: NDArray[np.uint8] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """`update` for every row: (values, validity), float64[n] and uint8[n]. A refusal leaves the state as it was."""
        sides, volumes, marks = _trades(side, volume, restart)
        values, validity = np.empty(len(sides)), np.empty(len(sides), np.uint8)
        for row, mark in enumerate(marks.tolist()):
            if mark != Restart.NONE:
                self.reset() if mark == Restart.RESET else self.taint()
            values[row] = self.update(int(sides[row]), int(volumes[row]))
            validity[row] = self.validity
        return values, validity

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self._begin(Validity.WARMING_UP)

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until warm again."""
        self._begin(Validity.TAINTED)


class BulkVpin:
    """Streaming `bulk_vpin`: `value` after every bar, NaN until `buckets` are full since the start: then it is warm.

    σ is past-only unless given; `previous_close_e6` is forgotten by a reset. No limit on the buckets a bar fills.
    """

    def __init__(
        self,
        bucket_volume: int,
        buckets: int = 50,
        *,
        sigma: float | None = None,
        previous_close_e6: int | None = None,
    ) -> None:
        _check_buckets(bucket_volume, buckets)
        self._bucket_volume, self._buckets = bucket_volume, buckets
        self._deviation = None if sigma is None else positive("sigma", sigma) * 10**6
        if previous_close_e6 is not None and abs(previous_close_e6) > PRICE_E6_MAX:
            raise ValueError(f"previous_close_e6: {previous_close_e6} is not within −2⁴⁶ … 2⁴⁶")
        self._begin(Validity.WARMING_UP)
        self._before_e6: int | None = previous_close_e6

    def _begin(self, validity: Validity) -> None:
        self._imbalances: deque[float] = deque(maxlen=self._buckets)
        self._lots, self._net = 0, 0.0  # of the bucket that is filling: its lots, its buys − sells
        self._before_e6 = None
        self._changes = self._sum = self._squares = 0
        self.value: float = math.nan
        self.validity: int = validity

    def _past_deviation(self) -> Any:
        """σ × 10⁶ of the changes so far; 0 where there are fewer than two."""
        n = self._changes
        if n < 2:
            return 0
        return np.sqrt(np.float64(n * self._squares - self._sum**2) / np.float64(n * (n - 1)))

    def _tilt(self, price_e6: int) -> float:
        """Buy share less sell share of the bar: 2Φ(ΔP ÷ σ) − 1."""
        change = 0 if self._before_e6 is None else price_e6 - self._before_e6
        deviation = self._past_deviation() if self._deviation is None else self._deviation
        self._before_e6 = price_e6
        if self._changes < CHANGES_MAX:
            self._changes, self._sum, self._squares = self._changes + 1, self._sum + change, self._squares + change**2
        share = 1 - math.erfc(abs(change) / deviation * math.sqrt(0.5)) if deviation > 0 else 0.0
        return math.copysign(share, change)

    def _completed(self, price_e6: int, volume: int) -> list[float]:
        """|buys − sells| of the buckets this bar completes."""
        tilt = self._tilt(price_e6)
        before, self._lots = self._lots, self._lots + volume
        if self._lots < self._bucket_volume:
            self._net += tilt * volume
            return []
        completed = [abs(self._net + tilt * (self._bucket_volume - before))]
        more, self._lots = divmod(self._lots - self._bucket_volume, self._bucket_volume)
        self._net = tilt * self._lots
        return completed + [abs(tilt) * self._bucket_volume] * min(more, max(self._buckets, BUCKETS_PER_ROW_MAX))

    def _push(self, imbalance: float) -> None:
        self._imbalances.append(imbalance)
        if len(self._imbalances) == self._buckets:
            self.value = math.fsum(self._imbalances) / (self._buckets * self._bucket_volume)
            self.validity = Validity.VALID

    def update(self, price_e6: int, volume: int, /) -> float:
        """VPIN after this bar. ValueError: a close beyond ±2⁴⁶, a volume outside 0 … 2⁴⁰."""
        if abs(price_e6) > PRICE_E6_MAX:
            raise ValueError(f"price_e6: {price_e6} is not within −2⁴⁶ … 2⁴⁶")
        if not 0 <= volume <= VOLUME_MAX:
            raise ValueError(f"volume: {volume} is not within 0 … 2⁴⁰")
        for imbalance in self._completed(price_e6, volume)[-self._buckets :]:
            self._push(imbalance)
        return self.value

    def update_many(
        self, price_e6: NDArray[np.int64], volume: NDArray[np.int64], *, restart: NDArray[np.uint8] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """`update` for every row: (values, validity), float64[n] and uint8[n]. A refusal leaves the state as it was."""
        prices, volumes, marks = _bars(price_e6, volume, restart)
        values, validity = np.empty(len(prices)), np.empty(len(prices), np.uint8)
        for row, mark in enumerate(marks.tolist()):
            if mark != Restart.NONE:
                self.reset() if mark == Restart.RESET else self.taint()
            values[row] = self.update(int(prices[row]), int(volumes[row]))
            validity[row] = self.validity
        return values, validity

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self._begin(Validity.WARMING_UP)

    def taint(self) -> None:
        """Begin anew because bars are missing; TAINTED until warm again."""
        self._begin(Validity.TAINTED)


def _check_buckets(bucket_volume: int, buckets: int) -> None:
    if not 1 <= bucket_volume <= VOLUME_MAX:
        raise ValueError(f"bucket_volume: {bucket_volume} is not within 1 … 2⁴⁰")
    if not 1 <= buckets <= BUCKETS_MAX:
        raise ValueError(f"buckets: {buckets} is not within 1 … 2²⁰")


def _trades(side: Any, volume: Any, restart: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8]]:
    """Checked columns of sides, volumes and marks."""
    sides, volumes = column("side", side, np.uint8), column("volume", volume, np.int64)
    rows = same_rows([("side", sides), ("volume", volumes)])
    no_side, no_volume = sides > 2, (volumes < 0) | (volumes > VOLUME_MAX)
    for row in np.flatnonzero(no_side | no_volume)[:1]:
        if no_side[row]:
            raise ValueError(f"side: row {row}: {sides[row]} is not 0 (unknown), 1 (buy) or 2 (sell)")
        raise ValueError(f"volume: row {row}: {volumes[row]} is not within 0 … 2⁴⁰")
    return sides, volumes, restarts(restart, rows, "side")


def _refuse_too_many(volumes: NDArray[np.int64], bucket_volume: int) -> None:
    for row in np.flatnonzero(volumes // bucket_volume > BUCKETS_PER_ROW_MAX)[:1]:
        raise ValueError(f"volume: row {row}: {volumes[row]} fills more than 2¹⁶ buckets of {bucket_volume}")


def _bars(price_e6: Any, volume: Any, restart: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Checked columns of closes, volumes and marks."""
    prices, volumes = column("price_e6", price_e6, np.int64), column("volume", volume, np.int64)
    rows = same_rows([("price_e6", prices), ("volume", volumes)])
    no_price, no_volume = (prices < -PRICE_E6_MAX) | (prices > PRICE_E6_MAX), (volumes < 0) | (volumes > VOLUME_MAX)
    for row in np.flatnonzero(no_price | no_volume)[:1]:
        if no_price[row]:
            raise ValueError(f"price_e6: row {row}: {prices[row]} is not within −2⁴⁶ … 2⁴⁶")
        raise ValueError(f"volume: row {row}: {volumes[row]} is not within 0 … 2⁴⁰")
    return prices, volumes, restarts(restart, rows, "price_e6")
