"""Fair price of a local-level model behind noisy observations: the random walk that Kalman's filter sees in them.

Kalman (1960), Journal of Basic Engineering 82(1) 35–45; Durbin & Koopman (2012), Time Series Analysis by State Space
Methods, chapter 2. Not a forecast of moves: the best forecast of the level is the level.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.columns import column, positive, restarts, same_rows, sorted_stamps
from rust_indicators.reference.correlation import PRICE_MAX
from rust_indicators.validity import Restart, Validity

__all__ = ["LocalLevel", "local_level"]

_SECOND = 1_000_000_000


def local_level(
    exchange_ns: NDArray[np.int64],
    price: NDArray[np.float64],
    variance: NDArray[np.float64],
    q: float,
    *,
    restart: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fair price after each observation, and its variance: (float64[n], float64[n]).

    The fair price x walks randomly, x_k = x_{k−1} + N(0, q·Δt), and is seen through noise, price_k = x_k + N(0, r_k).
    `exchange_ns`: int64[n], never going back; equal stamps are several observations of one x. `price`: float64[n], NaN
    where nothing was observed: the fair price stays, its variance grows. `variance`: r_k > 0 in price², say
    (spread / 2)²; not looked at where the price is NaN. `q` > 0: price² per second.
    The start is diffuse: the first observation is the fair price, with its variance; NaN before it.
    `restart`: marks of `Restart` before each row, after which the next observation is the first.
    ValueError names the argument: wrong type, shape, length, stamps that go back, a price beyond ±10¹⁰⁰, a variance or
    q that is not a finite number above 0.
    """
    state = LocalLevel(q)
    variances = np.empty(len(exchange_ns) if hasattr(exchange_ns, "__len__") else 0, np.float64)
    fair, _ = state._play(exchange_ns, price, variance, restart, variances)
    return fair, variances


class LocalLevel:
    """Streaming `local_level`. `value` is the fair price and `variance` its own, both NaN until the first observation,
    from when on they are VALID: how far to trust them, the variance says.
    """

    def __init__(self, q: float) -> None:
        self._q = positive("q", q)
        self._stamp: int | None = None
        self.value: float = math.nan
        self.variance: float = math.nan
        self.validity: int = Validity.WARMING_UP

    def update(self, exchange_ns: int, price: float, variance: float, /) -> float:
        """Fair price after an observation, or at the stamp where the price is NaN. ValueError: see `local_level`."""
        self._check_stamp(exchange_ns)
        if abs(price) > PRICE_MAX:
            raise ValueError(f"price: {price} is not within ±1e100")
        if not math.isnan(price):
            positive("variance", variance)
        warm = self._stamp is not None and not math.isnan(self.value)
        if self._stamp is not None and warm:
            self.variance += self._q * ((exchange_ns - self._stamp) / _SECOND)
        self._stamp = exchange_ns
        if math.isnan(price):
            return self.value
        if warm:
            # Sound also where the variance has grown to infinity, or shrunk to 0.
            gain = 1.0 / (1.0 + (variance / self.variance if self.variance else math.inf))
            self.value += gain * (price - self.value)
            self.variance = gain * variance
        else:
            self.value, self.variance = price, variance
        self.validity = Validity.VALID
        return self.value

    def update_many(
        self,
        exchange_ns: NDArray[np.int64],
        price: NDArray[np.float64],
        variance: NDArray[np.float64],
        *,
        restart: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """`update` for every row: (fair price, validity), float64[n] and uint8[n]. A refusal leaves the state as it
        was.
        """
        return self._play(exchange_ns, price, variance, restart, None)

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self.__init__(self._q)  # type: ignore[misc]

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until the next observation."""
        self.reset()
        self.validity = Validity.TAINTED

    def _check_stamp(self, exchange_ns: int) -> None:
        if self._stamp is not None and exchange_ns < self._stamp:
            raise ValueError(f"exchange_ns: {exchange_ns} is before the row before")

    def _play(
        self,
        exchange_ns: NDArray[np.int64],
        price: NDArray[np.float64],
        variance: NDArray[np.float64],
        restart: NDArray[np.uint8] | None,
        variances: NDArray[np.float64] | None,
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        stamps, prices, noise = _checked(exchange_ns, price, variance)
        marks = restarts(restart, len(stamps), "exchange_ns")
        if len(stamps) and marks[0] == Restart.NONE:
            self._check_stamp(int(stamps[0]))
        fair, validity = np.empty(len(stamps), np.float64), np.empty(len(stamps), np.uint8)
        columns = (stamps.tolist(), prices.tolist(), noise.tolist(), marks.tolist())
        for row, (stamp, seen, r, begins) in enumerate(zip(*columns, strict=True)):
            if begins == Restart.RESET:
                self.reset()
            elif begins == Restart.TAINT:
                self.taint()
            fair[row] = self.update(stamp, seen, r)
            validity[row] = self.validity
            if variances is not None:
                variances[row] = self.variance
        return fair, validity


def _checked(
    exchange_ns: NDArray[np.int64], price: NDArray[np.float64], variance: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    stamps, prices = column("exchange_ns", exchange_ns, np.int64), column("price", price, np.float64)
    noise = column("variance", variance, np.float64)
    same_rows([("exchange_ns", stamps), ("price", prices), ("variance", noise)])
    sorted_stamps("exchange_ns", stamps)
    for row in np.flatnonzero(np.abs(prices) > PRICE_MAX)[:1]:
        raise ValueError(f"price: row {row}: {prices[row]} is not within ±1e100")
    for row in np.flatnonzero(~np.isnan(prices) & ~((noise > 0) & (noise < np.inf)))[:1]:
        raise ValueError(f"variance: row {row}: {noise[row]} is not a finite number above 0")
    return stamps, prices, noise
