"""What trading costs and moves: Kyle's λ, Amihud's illiquidity, Roll's spread. Not who traded."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.columns import column, restarts, same_rows
from rust_indicators.validity import Restart, Validity

__all__ = ["Amihud", "KyleLambda", "Roll", "amihud", "kyle_lambda", "roll_spread"]

PRICE_E6_MAX = 2**46  # 70 million
CHANGE_MAX = 2 * PRICE_E6_MAX
WINDOW_MAX = 2**20
_E6 = 10**6


def kyle_lambda(price_change_e6: NDArray[np.int64], signed_volume: NDArray[np.int64]) -> tuple[float, float, float]:
    """Kyle's λ: (slope, intercept, R²) of price changes on signed volume, least squares with an intercept.

    A row a window: price_change_e6 int64[n], change of the mid × 10⁶ between the window's ends; signed_volume
    int64[n], lots bought minus lots sold within it. Slope in price per lot, intercept in price. Sums are exact
    integers; rounding begins with the divisions. All NaN where the volume does not vary, R² where the price does not.
    ValueError names the argument: wrong type, shape, length, a value beyond ±2⁴⁷.

    Convention of the published 0.192367 (R² .3528): windows (edge, edge + 10 s] from 08:45 to 13:45 Taipei, trades and
    books of the session only, so that the first window, with no book at its start, is dropped; mid at an edge of the
    last book at or before it.
    Source: Kyle (1985), Econometrica 53(6) 1315–1335, as a regression.
    """
    change, volume = _pairs(price_change_e6, signed_volume)
    return _fit(volume.tolist(), change.tolist())


def amihud(price_e6: NDArray[np.int64], value_e6: NDArray[np.int64]) -> float:
    """Amihud's illiquidity: mean of |r_k| ÷ value_k over the windows with a value above 0; NaN where there are none.

    A row a window: price_e6 int64[n], price at its end × 10⁶, above 0; value_e6 int64[n], Σ price × lots within it
    × 10⁶. r_k = price_k ÷ price_{k−1} − 1: row 0 has no return, a window without value no term, but its price
    counts. Unit: 1 ÷ (price × lots); divide by a contract's multiplier for 1 ÷ money.
    ValueError names the argument: wrong type, shape, length, a price outside 1 … 2⁴⁶, a negative value.

    Convention of the published 2.65979e-10: windows and mids as in `kyle_lambda`, value Σ price × lots of the trades.
    Source: Amihud (2002), Journal of Financial Markets 5(1) 31–56, with windows in the place of days.
    """
    prices, values = _values(price_e6, value_e6)
    rows = zip(prices.tolist(), prices.tolist()[1:], values.tolist()[1:], strict=False)
    terms = [_illiquidity(before, price, value) for before, price, value in rows if value]
    return math.fsum(terms) / len(terms) if terms else math.nan


def roll_spread(price_e6: NDArray[np.int64]) -> float:
    """Roll's effective spread, 2√(−cov(Δp_t, Δp_{t−1})), in price; NaN where the covariance is not negative.

    price_e6 int64[n], price × 10⁶ of each trade in order. The covariance is of the n − 2 pairs of successive changes,
    about their own means, divided by their number. Sums are exact integers.
    ValueError names the argument: wrong type or shape, a price beyond ±2⁴⁶.
    The published 2.33150 is of the day session's trades, 08:45–13:45 Taipei.
    Source: Roll (1984), Journal of Finance 39(4) 1127–1139, equation 1.
    """
    changes = np.diff(_prices(price_e6)).tolist()
    return _spread(changes)


def _sums(xs: list[int], ys: list[int]) -> tuple[int, int, int, int, int]:
    """n·Σxx − Σx·Σx, n·Σxy − Σx·Σy, n·Σyy − Σy·Σy, Σx, Σy; integers of any size."""

    def product(first: Iterable[int], second: Iterable[int]) -> int:
        return sum(one * other for one, other in zip(first, second, strict=True))

    n, x, y = len(xs), sum(xs), sum(ys)
    return n * product(xs, xs) - x * x, n * product(xs, ys) - x * y, n * product(ys, ys) - y * y, x, y


def _fit(volumes: list[int], changes: list[int]) -> tuple[float, float, float]:
    *products, x, y = _sums(volumes, changes)
    xx, xy, yy = (np.float64(value) for value in products)
    if xx == 0:
        return math.nan, math.nan, math.nan
    slope, n = xy / xx, len(volumes)
    intercept = np.float64(y) / n - slope * (np.float64(x) / n)
    r_squared = min(slope * (xy / yy), np.float64(1)).item() if yy else math.nan
    return (slope / _E6).item(), (intercept / _E6).item(), r_squared


def _spread(changes: list[int]) -> float:
    if len(changes) < 2:
        return math.nan
    covariance = np.float64(_sums(changes[1:], changes[:-1])[1])
    if covariance >= 0:
        return math.nan
    spread: float = (2 * np.sqrt(-covariance) / (len(changes) - 1) / _E6).item()
    return spread


def _illiquidity(before_e6: int, price_e6: int, value_e6: int) -> float:
    change, before, value = (np.float64(given) for given in (abs(price_e6 - before_e6), before_e6, value_e6))
    term: float = (change / before / (value / _E6)).item()
    return term


class KyleLambda:
    """Streaming `kyle_lambda` over the last `windows` (2 … 2²⁰): `value` is the slope, with `intercept`, `r_squared`.

    Warm when so many windows are there since the start; UNDEFINED (NaN) while the volume in them does not vary. Equals
    the batch over the same windows bit for bit.
    """

    def __init__(self, windows: int) -> None:
        self._windows = _window("windows", windows, 2)
        self._begin(Validity.WARMING_UP)

    def _begin(self, validity: Validity) -> None:
        self._pairs: deque[tuple[int, int]] = deque(maxlen=self._windows)
        self.value: float = math.nan
        self.intercept: float = math.nan
        self.r_squared: float = math.nan
        self.validity: int = validity

    def update(self, price_change_e6: int, signed_volume: int, /) -> float:
        """λ after this window, price per lot. ValueError: a value beyond ±2⁴⁷."""
        for name, value in (("price_change_e6", price_change_e6), ("signed_volume", signed_volume)):
            if not -CHANGE_MAX <= value <= CHANGE_MAX:
                raise ValueError(f"{name}: {value} is not within −2⁴⁷ … 2⁴⁷")
        self._pairs.append((signed_volume, price_change_e6))
        if len(self._pairs) == self._windows:
            volumes, changes = (list(values) for values in zip(*self._pairs, strict=True))
            self.value, self.intercept, self.r_squared = _fit(volumes, changes)
            self.validity = Validity.UNDEFINED if math.isnan(self.value) else Validity.VALID
        return self.value

    def update_many(
        self,
        price_change_e6: NDArray[np.int64],
        signed_volume: NDArray[np.int64],
        *,
        restart: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """`update` for every row: (values, validity), float64[n] and uint8[n]. A refusal leaves the state as it was."""
        columns = _pairs(price_change_e6, signed_volume)
        return _update_each(self, columns, restarts(restart, len(columns[0]), "price_change_e6"))

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self._begin(Validity.WARMING_UP)

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until warm again."""
        self._begin(Validity.TAINTED)


class Amihud:
    """Streaming `amihud` over the last `windows` (1 … 2²⁰) that traded; one that did not leaves the value as it is.

    Warm when so many have traded since the start. Sums slide without subtraction, so a huge term that has left leaves
    no error: within 10⁻¹² of the batch over the same windows.
    """

    def __init__(self, windows: int) -> None:
        self._windows = _window("windows", windows, 1)
        self._begin(Validity.WARMING_UP)

    def _begin(self, validity: Validity) -> None:
        self._terms: deque[float] = deque(maxlen=self._windows)
        self._before_e6: int | None = None
        self.value: float = math.nan
        self.validity: int = validity

    def update(self, price_e6: int, value_e6: int, /) -> float:
        """The mean after this window. ValueError: a price outside 1 … 2⁴⁶, a negative value."""
        if not 1 <= price_e6 <= PRICE_E6_MAX:
            raise ValueError(f"price_e6: {price_e6} is not within 1 … 2⁴⁶")
        if value_e6 < 0:
            raise ValueError(f"value_e6: {value_e6} is negative")
        if self._before_e6 is not None and value_e6:
            self._terms.append(_illiquidity(self._before_e6, price_e6, value_e6))
            if len(self._terms) == self._windows:
                self.value, self.validity = math.fsum(self._terms) / self._windows, Validity.VALID
        self._before_e6 = price_e6
        return self.value

    def update_many(
        self, price_e6: NDArray[np.int64], value_e6: NDArray[np.int64], *, restart: NDArray[np.uint8] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """`update` for every row: (values, validity), float64[n] and uint8[n]. A refusal leaves the state as it was."""
        columns = _values(price_e6, value_e6)
        return _update_each(self, columns, restarts(restart, len(columns[0]), "price_e6"))

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self._begin(Validity.WARMING_UP)

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until warm again."""
        self._begin(Validity.TAINTED)


class Roll:
    """Streaming `roll_spread` of the last `trades` (4 … 2²⁰).

    Warm when so many are there since the start; UNDEFINED (NaN) while the covariance is not negative. Equals the batch
    over the same trades bit for bit.
    """

    def __init__(self, trades: int) -> None:
        self._trades = _window("trades", trades, 4)
        self._begin(Validity.WARMING_UP)

    def _begin(self, validity: Validity) -> None:
        self._prices: deque[int] = deque(maxlen=self._trades)
        self.value: float = math.nan
        self.validity: int = validity

    def update(self, price_e6: int, /) -> float:
        """The spread after this trade, in price. ValueError: a price beyond ±2⁴⁶."""
        if not -PRICE_E6_MAX <= price_e6 <= PRICE_E6_MAX:
            raise ValueError(f"price_e6: {price_e6} is not within −2⁴⁶ … 2⁴⁶")
        self._prices.append(price_e6)
        if len(self._prices) == self._trades:
            self.value = _spread(np.diff(np.array(self._prices, np.int64)).tolist())
            self.validity = Validity.UNDEFINED if math.isnan(self.value) else Validity.VALID
        return self.value

    def update_many(
        self, price_e6: NDArray[np.int64], *, restart: NDArray[np.uint8] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """`update` for every row: (values, validity), float64[n] and uint8[n]. A refusal leaves the state as it was."""
        prices = _prices(price_e6)
        return _update_each(self, (prices,), restarts(restart, len(prices), "price_e6"))

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self._begin(Validity.WARMING_UP)

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until warm again."""
        self._begin(Validity.TAINTED)


def _update_each(
    state: Any, columns: tuple[NDArray[np.int64], ...], marks: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    values, validity = np.empty(len(marks)), np.empty(len(marks), np.uint8)
    for row, (mark, *given) in enumerate(zip(marks.tolist(), *(c.tolist() for c in columns), strict=True)):
        if mark != Restart.NONE:
            state.reset() if mark == Restart.RESET else state.taint()
        values[row] = state.update(*given)
        validity[row] = state.validity
    return values, validity


def _window(argument: str, length: int, least: int) -> int:
    if not least <= length <= WINDOW_MAX:
        raise ValueError(f"{argument}: {length} is not within {least} … 2²⁰")
    return length


def _within(argument: str, values: NDArray[np.int64], least: int, most: int, says: str) -> None:
    for row in np.flatnonzero((values < least) | (values > most))[:1]:
        raise ValueError(f"{argument}: row {row}: {values[row]} is {says}")


def _pairs(price_change_e6: Any, signed_volume: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    change = column("price_change_e6", price_change_e6, np.int64)
    volume = column("signed_volume", signed_volume, np.int64)
    same_rows([("price_change_e6", change), ("signed_volume", volume)])
    _within("price_change_e6", change, -CHANGE_MAX, CHANGE_MAX, "not within −2⁴⁷ … 2⁴⁷")
    _within("signed_volume", volume, -CHANGE_MAX, CHANGE_MAX, "not within −2⁴⁷ … 2⁴⁷")
    return change, volume


def _values(price_e6: Any, value_e6: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    prices, values = column("price_e6", price_e6, np.int64), column("value_e6", value_e6, np.int64)
    same_rows([("price_e6", prices), ("value_e6", values)])
    _within("price_e6", prices, 1, PRICE_E6_MAX, "not within 1 … 2⁴⁶")
    _within("value_e6", values, 0, 2**63 - 1, "negative")
    return prices, values


def _prices(price_e6: Any) -> NDArray[np.int64]:
    prices = column("price_e6", price_e6, np.int64)
    _within("price_e6", prices, -PRICE_E6_MAX, PRICE_E6_MAX, "not within −2⁴⁶ … 2⁴⁶")
    return prices
