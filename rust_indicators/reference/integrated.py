"""The levels of normalised OFI as one number: their first principal component. Not the normalisation: `windows`.

Contemporaneous by nature: a shift of one tick moves every populated level, so the price change and the flow of a dense
book are nearly one thing. It explains the move of its own window; it does not predict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.columns import LEVELS_MAX, column, level_columns, numbers_of_levels, restarts
from rust_indicators.validity import Restart, Validity

__all__ = ["IntegratedOfi", "integrated_ofi", "integrated_ofi_past", "ofi_weights"]

NORMALISED_MAX = 1e100  # products of two stay finite


def _windows(normalised: Any) -> NDArray[np.float64]:
    """The values as float64[levels, windows], each within ±10¹⁰⁰, or NaN where nothing was quoted."""
    levels = level_columns("normalised", normalised, np.float64)
    for level, values in enumerate(levels):
        if len(values) != len(levels[0]):
            raise ValueError(f"normalised: level {level} has {len(values)} rows, level 0 has {len(levels[0])}")
        _refuse_beyond(values)
    return np.stack(levels)


def _refuse_beyond(values: NDArray[np.float64]) -> None:
    for row in np.flatnonzero(np.abs(values) > NORMALISED_MAX)[:1]:
        raise ValueError(f"normalised: {values[row]} is not within ±10¹⁰⁰")


def _first_component(covariance: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Eigenvector of the largest eigenvalue, Σw ≥ 0, Σ|w| = 1; None where nothing varies."""
    trace = np.trace(covariance)
    if not 0 < trace < np.inf:
        return None
    weights = np.linalg.eigh(covariance / trace).eigenvectors[:, -1]
    first: NDArray[np.float64] = weights / (np.abs(weights).sum() * (-1 if weights.sum() < 0 else 1))
    return first


def ofi_weights(normalised: Sequence[NDArray[np.float64]] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the levels: first principal component of their windows, demeaned; Σw ≥ 0, Σ|w| = 1.

    `normalised` float64[levels, k], k ≥ 2, as `normalised_ofi` gives it; returns float64[levels]. The whole history
    is in them: apply them to later windows only, or take `integrated_ofi_past`. ValueError names the argument: NaN,
    fewer than two windows, windows that are all alike.
    Source: Cont, Cucuringu & Zhang (2023), Quantitative Finance 23(10), arXiv:2112.13213.
    """
    windows = _windows(normalised)
    if windows.shape[1] < 2:
        raise ValueError(f"normalised: has {windows.shape[1]} windows, not 2 or more")
    for level in np.flatnonzero(np.isnan(windows).any(axis=1))[:1]:
        raise ValueError(f"normalised: level {level} has a NaN")
    distance = windows - windows.mean(axis=1, keepdims=True)
    weights = _first_component(distance @ distance.T) if np.ptp(windows, axis=1).any() else None
    if weights is None:
        raise ValueError("normalised: does not vary")
    return weights


def integrated_ofi(
    normalised: Sequence[NDArray[np.float64]] | NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """w·x / Σ|w| of every window x: float64[k]; NaN where a level is. `normalised` float64[levels, k], `weights`
    float64[levels], not all 0. ValueError names the argument.
    """
    windows, given = _windows(normalised), column("weights", weights, np.float64)
    if len(given) != len(windows):
        raise ValueError(f"weights: has {len(given)} rows, normalised has {len(windows)} levels")
    magnitude = np.abs(given).sum()
    if not 0 < magnitude <= NORMALISED_MAX:
        raise ValueError(f"weights: their magnitudes sum to {magnitude}, not a number within 0 … 10¹⁰⁰")
    integrated: NDArray[np.float64] = given @ windows / magnitude
    return integrated


def integrated_ofi_past(
    normalised: Sequence[NDArray[np.float64]] | NDArray[np.float64], warm_up: int
) -> NDArray[np.float64]:
    """`integrated_ofi` of every window with weights from the windows strictly before it: float64[k].

    NaN until `warm_up` windows (≥ 2) stand before, and where those do not vary. A window with a NaN is NaN and is not
    learnt from. ValueError names the argument.
    """
    values, _ = IntegratedOfi(len(_windows(normalised)), warm_up).update_many(normalised)
    return values


class IntegratedOfi:
    """Streaming `integrated_ofi_past`, fed with closed windows: warm when `warm_up` of them stand before.

    How it stays in the past: it keeps the count n, the means m and the products C of the windows it has seen. A window
    x is first valued by the first principal component of C; only then n grows by one, C by (x−m)(x−m)ᵀ·(n−1)/n, and m
    by (x−m)/n (Welford 1962). `weights`: those of the last window, NaN where it had none. UNDEFINED: the window has a
    NaN, or those before do not vary.
    """

    def __init__(self, levels: int, warm_up: int) -> None:
        if not 1 <= levels <= LEVELS_MAX:
            raise ValueError(f"levels: has {levels} levels, not 1 … {LEVELS_MAX}")
        if warm_up < 2:
            raise ValueError(f"warm_up: {warm_up} is not 2 or more")
        self._levels, self._warm_up = levels, warm_up
        self._begin(tainted=False)

    def _begin(self, *, tainted: bool) -> None:
        self._tainted, self._seen = tainted, 0
        self._mean: NDArray[np.float64] = np.zeros(self._levels)
        self._products: NDArray[np.float64] = np.zeros((self._levels, self._levels))
        self.weights: tuple[float, ...] = (np.nan,) * self._levels
        self.value: float = np.nan
        self.validity: int = Validity.TAINTED if tainted else Validity.WARMING_UP

    def update(self, normalised: Sequence[float], /) -> float:
        """The value of this window, a float a level; then it is learnt. ValueError: not so many, beyond ±10¹⁰⁰."""
        window = np.concatenate(numbers_of_levels("normalised", normalised, self._levels, np.float64))
        _refuse_beyond(window)
        return self._update(window)

    def _update(self, window: NDArray[np.float64]) -> float:
        sound, warm = not np.isnan(window).any(), self._seen >= self._warm_up
        weights = _first_component(self._products) if warm and sound else None
        self.weights = (np.nan,) * self._levels if weights is None else tuple(weights.tolist())
        self.value = np.nan if weights is None else (weights @ window).item()
        self._tainted &= not warm
        if warm:
            self.validity = Validity.UNDEFINED if weights is None else Validity.VALID
        else:
            self.validity = Validity.TAINTED if self._tainted else Validity.WARMING_UP
        if sound:
            self._seen += 1
            distance = window - self._mean
            self._mean = self._mean + distance / self._seen
            self._products = self._products + np.outer(distance, distance) * (self._seen - 1) / self._seen
        return self.value

    def update_many(
        self,
        normalised: Sequence[NDArray[np.float64]] | NDArray[np.float64],
        *,
        restart: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """`update` for every window of float64[levels, k]: (values, validity), float64[k] and uint8[k]."""
        windows = _windows(normalised)
        if len(windows) != self._levels:
            raise ValueError(f"normalised: has {len(windows)} levels, not {self._levels}")
        marks = restarts(restart, windows.shape[1], "normalised[0]")
        values, validity = np.empty(windows.shape[1]), np.empty(windows.shape[1], np.uint8)
        for row, window in enumerate(windows.T):
            if marks[row] != Restart.NONE:
                self._begin(tainted=bool(marks[row] == Restart.TAINT))
            values[row], validity[row] = self._update(window), self.validity
        return values, validity

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self._begin(tainted=False)

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until warm again."""
        self._begin(tainted=True)
