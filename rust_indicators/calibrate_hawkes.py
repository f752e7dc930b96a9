"""Rates of events that excite each other, fitted by maximum likelihood. Not the intensity itself: that is a signal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from rust_indicators import (
    bivariate_hawkes_gradient,
    bivariate_hawkes_log_likelihood,
    hawkes_gradient,
    hawkes_log_likelihood,
)

__all__ = ["BivariateHawkesFit", "HawkesFit", "fit_bivariate_hawkes", "fit_bivariate_hawkes_decays", "fit_hawkes"]

SECOND_NS = 1_000_000_000
EVENTS_MIN = 3  # of a kind
# Decays to start from, in multiples of the mean rate of events: the likelihood may have several tops.
BETA_STARTS = (0.1, 1.0, 10.0, 100.0)
BRANCHING_START = 0.5
LOG_RATE_MAX = 50.0  # e±⁵⁰ 1/s, well within what the kernels take
ITERATIONS_MAX = 500
SLOPE_MAX = 1e-6  # of the mean log-likelihood, by the logarithms of the rates: flat enough to be a top

Likelihood = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]


@dataclass(frozen=True, slots=True)
class HawkesFit:
    """The rates that explain the events best, in 1/s."""

    mu: float
    alpha: float
    beta: float
    log_likelihood: float
    converged: bool  # the likelihood is flat there: a top, not where the search gave up


@dataclass(frozen=True, slots=True)
class BivariateHawkesFit:
    """The rates that explain the events of both kinds best, in 1/s; `alpha[i][j]`: effect of kind j on kind i."""

    mu: tuple[float, float]
    alpha: tuple[tuple[float, float], tuple[float, float]]
    beta: tuple[tuple[float, float], tuple[float, float]]
    log_likelihood: float
    converged: bool


def fit_hawkes(exchange_ns: NDArray[np.int64], start_ns: int, end_ns: int) -> HawkesFit:
    """Maximum likelihood of μ, α and β of `hawkes_intensity` for the events within start … end.

    `exchange_ns`: int64[n], strictly increasing, n ≥ 3. From several starts, over the logarithms of the rates. A path
    without excitation has α near 0, and any β. ValueError names the argument.
    Source: Ozaki (1979), Ann. Inst. Statist. Math. 31 145–155.
    """
    # Whatever cannot be fitted is refused here, before the number of events is looked at.
    hawkes_log_likelihood(exchange_ns, 1.0, 0.0, 1.0, start_ns, end_ns)
    events = len(exchange_ns)
    if events < EVENTS_MIN:
        raise ValueError(f"exchange_ns: {events} events are too few to fit: {EVENTS_MIN} at least")
    rate = events * SECOND_NS / (end_ns - start_ns)

    def likelihood(rates: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        given = (exchange_ns, *rates.tolist(), start_ns, end_ns)
        return hawkes_log_likelihood(*given), np.array(hawkes_gradient(*given))

    starts = ((rate * (1 - BRANCHING_START), BRANCHING_START * beta * rate, beta * rate) for beta in BETA_STARTS)
    best, log_likelihood, converged = _highest(likelihood, map(np.array, starts), events)
    mu, alpha, beta = best.tolist()
    return HawkesFit(mu, alpha, beta, log_likelihood, converged)


def fit_bivariate_hawkes(
    exchange_ns: NDArray[np.int64], mark: NDArray[np.uint8], start_ns: int, end_ns: int
) -> BivariateHawkesFit:
    """Maximum likelihood of μ, α and one β for all four effects of `bivariate_hawkes_intensity`, within start … end.

    `exchange_ns`, `mark`: as there, at least 3 events of each kind. From several starts, over the logarithms of the
    rates. Where an effect is not there its α is near 0. ValueError names the argument.
    Source: Ogata (1981), IEEE Trans. Inf. Theory 27(1) 23–31.
    """
    starts = ((beta,) for beta in BETA_STARTS)
    return _fit_bivariate(exchange_ns, mark, start_ns, end_ns, np.array([[0, 0], [0, 0]]), starts)


def fit_bivariate_hawkes_decays(
    exchange_ns: NDArray[np.int64], mark: NDArray[np.uint8], start_ns: int, end_ns: int
) -> BivariateHawkesFit:
    """`fit_bivariate_hawkes` with a β for each of the four effects.

    Few events do not tell them apart: where an effect is weak its β may be any, and the likelihood has several tops.
    """
    starts = ((own, other, other, own) for own, other in product(BETA_STARTS, repeat=2))
    return _fit_bivariate(exchange_ns, mark, start_ns, end_ns, np.array([[0, 1], [2, 3]]), starts)


def _fit_bivariate(
    exchange_ns: NDArray[np.int64],
    mark: NDArray[np.uint8],
    start_ns: int,
    end_ns: int,
    which: NDArray[np.int64],
    starts: Iterable[tuple[float, ...]],
) -> BivariateHawkesFit:
    """`which`: for each effect, the place of its decay among those of a start."""
    ones = ((1.0, 1.0), (1.0, 1.0))
    bivariate_hawkes_log_likelihood(exchange_ns, mark, ones[0], ((0.0, 0.0), (0.0, 0.0)), ones, start_ns, end_ns)
    counts = np.bincount(mark, minlength=2)
    for kind in np.flatnonzero(counts < EVENTS_MIN)[:1]:
        raise ValueError(f"mark: {counts[kind]} events of kind {kind} are too few to fit: {EVENTS_MIN} at least")
    rates = counts * SECOND_NS / (end_ns - start_ns)

    def split(free: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        return free[:2], free[2:6].reshape(2, 2), free[6:][which]

    def likelihood(free: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        given = (exchange_ns, mark, *split(free), start_ns, end_ns)
        by_mu, by_alpha, by_beta = bivariate_hawkes_gradient(*given)
        by_decay = np.bincount(which.ravel(), weights=by_beta.ravel())
        return bivariate_hawkes_log_likelihood(*given), np.concatenate([by_mu, by_alpha.ravel(), by_decay])

    def begin(decays: tuple[float, ...]) -> NDArray[np.float64]:
        beta = rates.mean() * np.array(decays)
        alpha = beta[which] * BRANCHING_START / 2
        return np.concatenate([rates * (1 - BRANCHING_START), alpha.ravel(), beta])

    best, log_likelihood, converged = _highest(likelihood, map(begin, starts), int(counts.sum()))
    (mu0, mu1), ((a, b), (c, d)), ((e, f), (g, h)) = (part.tolist() for part in split(best))
    return BivariateHawkesFit((mu0, mu1), ((a, b), (c, d)), ((e, f), (g, h)), log_likelihood, converged)


def _highest(
    likelihood: Likelihood, starts: Iterable[NDArray[np.float64]], events: int
) -> tuple[NDArray[np.float64], float, bool]:
    """The highest top found: rates, log-likelihood, and whether it is one."""

    def fall(logarithms: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        rates = np.exp(logarithms)
        value, slope = likelihood(rates)
        return -value / events, -slope * rates / events

    best: tuple[float, NDArray[np.float64]] | None = None
    for start in starts:
        found = minimize(
            fall,
            np.log(start),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-LOG_RATE_MAX, LOG_RATE_MAX)] * len(start),
            options={"maxiter": ITERATIONS_MAX, "ftol": 0.0, "gtol": SLOPE_MAX / 100},
        )
        if best is None or found.fun < best[0]:
            best = (found.fun, found.x)
    assert best is not None
    rates = np.exp(best[1])
    value, slope = likelihood(rates)
    return rates, value, bool(np.abs(slope * rates).max() <= SLOPE_MAX * events)
