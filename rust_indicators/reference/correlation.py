"""Covariance and lead–lag of two series that tick at different times, without putting them on a grid.

Hayashi & Yoshida (2005), Bernoulli 11(2) 359–379; Hoffmann, Rosenbaum & Yoshida (2013), Bernoulli 19(2) 426–461.
Not what causes what: a series may lead another only because its prices are published sooner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.columns import column, restarts, same_rows, sorted_stamps
from rust_indicators.validity import Restart, Validity

__all__ = ["HayashiYoshida", "LeadLag", "hayashi_yoshida", "lead_lag", "realised_variance"]

PRICE_MAX = 1e100  # squares of its changes cannot overflow
_Changes = tuple[NDArray[np.int64], NDArray[np.float64]]


def hayashi_yoshida(
    x_ns: NDArray[np.int64],
    x: NDArray[np.float64],
    y_ns: NDArray[np.int64],
    y: NDArray[np.float64],
    lags_ns: NDArray[np.int64],
) -> NDArray[np.float64]:
    """HY(θ) = Σ ΔX_i ΔY_j over the pairs whose intervals (t_{i−1}, t_i] and (s_{j−1}−θ, s_j−θ] overlap, for each θ.

    `x_ns`, `x`: stamps (int64, never going back) and prices (float64: mids, or their logarithms) of X; Y likewise, of
    another length. `lags_ns`: int64[k]; θ > 0 asks whether X leads. Returns float64[k], price of X × price of Y; 0
    where nothing overlaps. Intervals that only touch do not overlap.
    Only changes count: NaN (a book without a mid) is dropped, the last price of a stamp is the stamp's, and a price
    equal to the one before is none. Cost: both series once a lag.
    ValueError names the argument: wrong type, shape, length, stamps that go back, a price beyond ±10¹⁰⁰, a lag that
    moves a stamp out of 64 bits.
    """
    return _hayashi_yoshida(_changes("x_ns", x_ns, "x", x), _changes("y_ns", y_ns, "y", y), lags_ns)


def realised_variance(ns: NDArray[np.int64], price: NDArray[np.float64]) -> float:
    """Σ ΔX² of one series, whose rows are those of `hayashi_yoshida`; 0 where nothing changes."""
    return _realised_variance(_changes("ns", ns, "price", price))


@dataclass(frozen=True, slots=True)
class LeadLag:
    """Who leads whom, over a grid of lags."""

    correlation: NDArray[np.float64]  # ρ(θ) = HY(θ) / √(RV_X RV_Y) of each lag; its size may exceed 1
    best_lag_ns: int  # where |ρ| is largest, the first of equals; above 0: X leads
    best_correlation: float
    ratio: float  # Σ_{θ>0} HY² / Σ_{θ<0} HY², above 1: X leads; NaN where either sum is 0. Needs a symmetric grid


def lead_lag(
    x_ns: NDArray[np.int64],
    x: NDArray[np.float64],
    y_ns: NDArray[np.int64],
    y: NDArray[np.float64],
    lags_ns: NDArray[np.int64],
) -> LeadLag:
    """Correlation at each lag, the lag of the largest, and the lead–lag ratio. Arguments: `hayashi_yoshida`.

    Batch only: a lag reorders the merged stream, so that a stream at k lags is k streams with memory of the longest.
    Peak and ratio need not agree: the peak speaks of the fastest reaction, the ratio of all lags of the grid.
    ValueError also for a series that never changes, and for no lags at all.
    """
    changes = _changes("x_ns", x_ns, "x", x), _changes("y_ns", y_ns, "y", y)
    lags = column("lags_ns", lags_ns, np.int64)
    if len(lags) == 0:
        raise ValueError("lags_ns: has no rows")
    deviations = [math.sqrt(_realised_variance(series)) for series in changes]
    for name, deviation in zip("xy", deviations, strict=True):
        if deviation == 0:
            raise ValueError(f"{name}: never changes, so that nothing correlates with it")
    correlation = _hayashi_yoshida(*changes, lags) / deviations[0] / deviations[1]
    leading, lagging = ((correlation[lags * sign > 0] ** 2).sum() for sign in (1, -1))
    best = int(np.argmax(np.abs(correlation)))
    ratio = leading / lagging if leading > 0 and lagging > 0 else math.nan
    return LeadLag(correlation, int(lags[best]), correlation[best].item(), ratio)


class HayashiYoshida:
    """Streaming `hayashi_yoshida` at θ = 0 in constant memory, fed with both series in order of time.

    `covariance`, which is its `value`, is HY(0) and `correlation` ρ(0); NaN until both series have changed, from when
    on they are VALID.
    Rows of one stamp may arrive in any order, X or Y first: a stamp is settled by the first row after it.
    At one lag only: shifting a series reorders the merged stream (`lead_lag`).
    """

    def __init__(self) -> None:
        self._settled = self._now = _Overlaps()
        self._stamp: int | None = None
        self._x: float | None = None
        self._y: float | None = None
        self._tainted = False
        self.validity: int = Validity.WARMING_UP

    def update_x(self, ns: int, price: float, /) -> float:
        """A price of X at a stamp; HY(0). NaN: no price. ValueError: a stamp before the last, a price beyond ±10¹⁰⁰."""
        self._open(ns, price)
        if not math.isnan(price):
            self._x = price
        return self._settle()

    def update_y(self, ns: int, price: float, /) -> float:
        """A price of Y, as `update_x`."""
        self._open(ns, price)
        if not math.isnan(price):
            self._y = price
        return self._settle()

    def update_many(
        self,
        mark: NDArray[np.uint8],
        ns: NDArray[np.int64],
        price: NDArray[np.float64],
        *,
        restart: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """Rows of both series in order of time, `mark` 0 for X and 1 for Y: (HY(0), validity) after each row.

        float64[n] and uint8[n]; `restart`: marks of `Restart` before each row. A refusal leaves the state as it was.
        """
        which, stamps, prices = column("mark", mark, np.uint8), column("ns", ns, np.int64), _prices("price", price)
        rows = same_rows([("mark", which), ("ns", stamps), ("price", prices)])
        for row in np.flatnonzero(which > 1)[:1]:
            raise ValueError(f"mark: row {row} is {which[row]}, not 0 (x) or 1 (y)")
        sorted_stamps("ns", stamps)
        _check_size("price", prices)
        marks = restarts(restart, rows, "mark")
        if rows and marks[0] == Restart.NONE:
            self._check_stamp(int(stamps[0]))
        values, validity = np.empty(rows, np.float64), np.empty(rows, np.uint8)
        columns = (which.tolist(), stamps.tolist(), prices.tolist(), marks.tolist())
        for row, (is_y, stamp, value, begins) in enumerate(zip(*columns, strict=True)):
            if begins == Restart.RESET:
                self.reset()
            elif begins == Restart.TAINT:
                self.taint()
            values[row] = self.update_y(stamp, value) if is_y else self.update_x(stamp, value)
            validity[row] = self.validity
        return values, validity

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self.__init__()  # type: ignore[misc]

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until both series have changed."""
        self.reset()
        self._tainted, self.validity = True, Validity.TAINTED

    @property
    def value(self) -> float:
        return self.covariance

    @property
    def covariance(self) -> float:
        return self._now.covariance if self.validity == Validity.VALID else math.nan

    @property
    def correlation(self) -> float:
        if self.validity != Validity.VALID:
            return math.nan
        return self._now.covariance / math.sqrt(self._now.x_variance) / math.sqrt(self._now.y_variance)

    def _check_stamp(self, ns: int) -> None:
        if self._stamp is not None and ns < self._stamp:
            raise ValueError(f"ns: {ns} is before the row before")

    def _open(self, ns: int, price: float) -> None:
        self._check_stamp(ns)
        if abs(price) > PRICE_MAX:
            raise ValueError(f"price: {price} is not within ±1e100")
        if ns != self._stamp:
            self._settled, self._stamp, self._x, self._y = self._now, ns, None, None
            self._tainted &= self.validity != Validity.VALID

    def _settle(self) -> float:
        self._now = self._settled.stamp(self._x, self._y)
        warm = self._now.x_variance > 0 and self._now.y_variance > 0
        self.validity = Validity.VALID if warm else Validity.TAINTED if self._tainted else Validity.WARMING_UP
        return self.covariance


@dataclass(frozen=True, slots=True)
class _Overlaps:
    """Σ ΔX ΔY over the overlapping intervals that have ended, and what the open ones need."""

    x: float | None = None
    y: float | None = None
    y_at_x: float = 0.0  # Y's price when X ticked last: what Y has moved within X's open interval
    x_at_y: float = 0.0
    covariance: float = 0.0
    x_variance: float = 0.0
    y_variance: float = 0.0

    def stamp(self, x: float | None, y: float | None) -> _Overlaps:
        """Everything that happened at one stamp: X's last price there, and Y's."""
        x = self.x if x is None else x
        y = self.y if y is None else y
        x_ticked, y_ticked = x != self.x, y != self.y
        dx = x - self.x if x is not None and self.x is not None else 0.0
        dy = y - self.y if y is not None and self.y is not None else 0.0
        # Y's move while X's interval was open, up to but not in this stamp; then X's, this stamp included.
        with_y = dx * (self.y - self.y_at_x) if self.y is not None and x_ticked else 0.0
        x_at_y = x if self.x is None and x is not None else self.x_at_y
        with_x = dy * (x - x_at_y) if x is not None and y_ticked else 0.0
        return _Overlaps(
            x=x,
            y=y,
            y_at_x=y if y is not None and (x_ticked or self.y is None) else self.y_at_x,
            x_at_y=x if x is not None and (y_ticked or self.x is None) else x_at_y,
            covariance=self.covariance + with_y + with_x,
            x_variance=self.x_variance + dx * dx,
            y_variance=self.y_variance + dy * dy,
        )


def _changes(stamps_name: str, stamps: NDArray[np.int64], prices_name: str, prices: NDArray[np.float64]) -> _Changes:
    """The first price and every change: the last price of a stamp counts, and only if it is another one."""
    ns, price = column(stamps_name, stamps, np.int64), _prices(prices_name, prices)
    same_rows([(stamps_name, ns), (prices_name, price)])
    sorted_stamps(stamps_name, ns)
    _check_size(prices_name, price)
    there = ~np.isnan(price)
    ns, price = ns[there], price[there]
    last_of_stamp = np.append(ns[1:] != ns[:-1], np.ones(min(len(ns), 1), bool))
    ns, price = ns[last_of_stamp], price[last_of_stamp]
    changed = np.append(np.ones(min(len(ns), 1), bool), price[1:] != price[:-1])
    return ns[changed], price[changed]


def _prices(name: str, prices: NDArray[np.float64]) -> NDArray[np.float64]:
    return column(name, prices, np.float64)


def _check_size(name: str, prices: NDArray[np.float64]) -> None:
    for row in np.flatnonzero(np.abs(prices) > PRICE_MAX)[:1]:
        raise ValueError(f"{name}: row {row}: {prices[row]} is not within ±1e100")


def _realised_variance(series: _Changes) -> float:
    return (np.diff(series[1]) ** 2).sum().item()  # type: ignore[no-any-return]


def _hayashi_yoshida(x: _Changes, y: _Changes, lags_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    lags = column("lags_ns", lags_ns, np.int64)
    (x_ns, x_price), (y_ns, y_price) = x, y
    ends = [*y_ns[:1].tolist(), *y_ns[-1:].tolist()]
    for lag in lags.tolist():
        if any(not -(2**63) <= end - lag < 2**63 for end in ends):
            raise ValueError(f"lags_ns: {lag} moves y's stamps out of 64 bits")
    if len(x_ns) < 2 or len(y_ns) < 2:
        return np.zeros(len(lags), np.float64)
    moves = np.diff(x_price)
    return np.array([(moves * _overlapping(x_ns, y_ns - lag, y_price)).sum() for lag in lags.tolist()], np.float64)


def _overlapping(x_ns: NDArray[np.int64], y_ns: NDArray[np.int64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each interval of X the sum of Y's changes whose intervals overlap it: they follow each other."""
    first = np.maximum(np.searchsorted(y_ns, x_ns[:-1], "right"), 1)
    last = np.minimum(np.searchsorted(y_ns, x_ns[1:], "left"), len(y_ns) - 1)
    overlaps = last >= first
    return np.where(overlaps, y[last] - y[np.minimum(first, len(y)) - 1], 0.0)
