"""The rates fitted to events: a simulated truth is found again, the published numbers, and what other code finds."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from hawkes_paths import Matrix, simulate, simulated, trades
from real_data import needs_data
from signal_columns import SECOND, Column

from rust_indicators import (
    bivariate_hawkes_gradient,
    bivariate_hawkes_intensity,
    bivariate_hawkes_log_likelihood,
    branching_ratio,
    distinct_marked_stamps,
    distinct_stamps,
    hawkes_gradient,
    hawkes_intensity,
    hawkes_log_likelihood,
    hawkes_residuals,
    spectral_radius,
)
from rust_indicators.calibrate_hawkes import fit_bivariate_hawkes, fit_bivariate_hawkes_decays, fit_hawkes

HOUR = (0, 3600 * SECOND)
OPEN_NS = int(np.datetime64("2026-04-09T00:45", "ns").astype(np.int64))
STANDARD_ERRORS_MAX = 4.0  # once in 16,000 paths, for each rate


def standard_errors(gradient: Callable[[Matrix], Matrix], at: Matrix) -> Matrix:
    """√ of the diagonal of the inverse of minus the second derivatives, which are differences of the first."""
    steps = np.diag(1e-4 * at)
    curvature = np.array([(gradient(at + step) - gradient(at - step)) / (2 * step.sum()) for step in steps])
    return np.sqrt(np.diag(np.linalg.inv(-(curvature + curvature.T) / 2)))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("truth", [(0.8, 9.0, 22.7), (0.5, 0.3, 0.4), (0.2, 900.0, 1500.0)])
def test_a_simulated_process_is_found_again(truth: tuple[float, float, float], seed: int) -> None:
    stamps = simulated(*truth, 3600.0, seed)
    fit = fit_hawkes(stamps, *HOUR)
    assert fit.converged
    found = np.array([fit.mu, fit.alpha, fit.beta])
    errors = standard_errors(lambda rates: np.array(hawkes_gradient(stamps, *rates, *HOUR)), found)
    assert np.all(errors < 0.2 * found)
    np.testing.assert_array_less(np.abs(found - truth) / errors, STANDARD_ERRORS_MAX)
    assert fit.log_likelihood == hawkes_log_likelihood(stamps, *found, *HOUR)
    assert fit.log_likelihood >= hawkes_log_likelihood(stamps, *truth, *HOUR)


def test_two_simulated_kinds_are_found_again() -> None:
    mu, alpha, beta = np.array([0.4, 0.6]), np.array([[5.0, 0.8], [3.0, 4.0]]), np.full((2, 2), 16.0)
    stamps, mark = simulate(mu, alpha, beta, 3600.0, 4)
    fit = fit_bivariate_hawkes(stamps, mark, *HOUR)
    assert fit.converged
    found = np.concatenate([fit.mu, np.ravel(fit.alpha), [fit.beta[0][0]]])
    assert np.unique(fit.beta).size == 1

    def gradient(rates: Matrix) -> Matrix:
        by_mu, by_alpha, by_beta = bivariate_hawkes_gradient(
            stamps, mark, rates[:2], rates[2:6].reshape(2, 2), np.full((2, 2), rates[6]), *HOUR
        )
        return np.array([*by_mu, *by_alpha.ravel(), by_beta.sum()])

    truth = np.concatenate([mu, alpha.ravel(), [16.0]])
    errors = standard_errors(gradient, found)
    np.testing.assert_array_less(np.abs(found - truth) / errors, STANDARD_ERRORS_MAX)
    assert spectral_radius(fit.alpha, fit.beta) == pytest.approx(spectral_radius(alpha, beta), rel=0.15)


def test_four_decays_are_found_again_and_explain_no_worse_than_one() -> None:
    mu, alpha = np.array([0.4, 0.6]), np.array([[5.0, 1.0], [6.0, 4.0]])
    beta = np.array([[20.0, 3.0], [12.0, 16.0]])
    stamps, mark = simulate(mu, alpha, beta, 1200.0, 5)
    window = (0, 1200 * SECOND)
    fit = fit_bivariate_hawkes_decays(stamps, mark, *window)
    assert fit.converged
    found = np.concatenate([fit.mu, np.ravel(fit.alpha), np.ravel(fit.beta)])

    def gradient(rates: Matrix) -> Matrix:
        parts = (rates[:2], rates[2:6].reshape(2, 2), rates[6:].reshape(2, 2))
        return np.concatenate([np.ravel(part) for part in bivariate_hawkes_gradient(stamps, mark, *parts, *window)])

    truth = np.concatenate([mu, alpha.ravel(), beta.ravel()])
    np.testing.assert_array_less(np.abs(found - truth) / standard_errors(gradient, found), STANDARD_ERRORS_MAX)
    assert fit.log_likelihood > fit_bivariate_hawkes(stamps, mark, *window).log_likelihood


def test_events_that_leave_each_other_alone_show_no_excitation() -> None:
    stamps = simulated(1.5, 0.0, 1.0, 3600.0, 6)
    fit = fit_hawkes(stamps, *HOUR)
    assert branching_ratio(fit.alpha, fit.beta) < 0.05
    assert fit.mu == pytest.approx(len(stamps) / 3600, rel=0.05)


@pytest.mark.parametrize(
    ("stamps", "window", "message"),
    [
        ([1, 2], (0, 9), "exchange_ns: 2 events are too few to fit: 3 at least"),
        ([1, 2, 2], (0, 9), "exchange_ns: row 2 has the stamp of the event before it"),
        ([1, 2, 3], (2, 9), "start_ns: 2 is after the first event"),
        ([1, 2, 3], (0, 2), "end_ns: 2 is before the last event"),
    ],
)
def test_what_cannot_be_fitted_is_refused(stamps: list[int], window: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_hawkes(np.array(stamps, np.int64), *window)


def test_a_kind_with_too_few_events_is_refused() -> None:
    with pytest.raises(ValueError, match="mark: 1 events of kind 1 are too few to fit: 3 at least"):
        fit_bivariate_hawkes(np.arange(1, 6), np.array([0, 0, 1, 0, 0], np.uint8), 0, 9)


def within(begin: int, end: int) -> tuple[int, int]:
    return OPEN_NS + begin * SECOND, OPEN_NS + end * SECOND


@needs_data
def test_trades_of_half_an_hour_have_the_published_rates() -> None:
    """TXFD6 on 2026-04-09, 10:00 to 10:30 Taipei."""
    stamps = distinct_stamps(trades(4500, 6300)[0])
    assert len(stamps) == 2440
    fit = fit_hawkes(stamps, *within(4500, 6300))
    assert fit.converged
    assert (fit.mu, fit.alpha, fit.beta) == pytest.approx((0.8184, 9.0222, 22.767), rel=1e-3)
    assert branching_ratio(fit.alpha, fit.beta) == pytest.approx(0.3963, rel=1e-3)


@needs_data
def test_buys_and_sells_of_ten_minutes_have_the_published_spectral_radius() -> None:
    """TXFD6 on 2026-04-09, 10:00 to 10:10 Taipei; of the ways to share decays, one for all effects gives it."""
    stamps, mark = distinct_marked_stamps(*trades(4500, 5100))
    fit = fit_bivariate_hawkes(stamps, mark, *within(4500, 5100))
    assert fit.converged
    assert spectral_radius(fit.alpha, fit.beta) == pytest.approx(0.368, rel=1e-3)


@pytest.fixture(scope="module")
def hawkesbook() -> ModuleType:
    module: ModuleType = pytest.importorskip(
        "hawkesbook", reason="hawkesbook is not installed: pip install hawkesbook==0.1.0 to compare with it"
    )
    return module


PATH = (0.8, 9.0, 22.7)


@pytest.fixture(scope="module")
def seconds() -> tuple[Column, Matrix, float]:
    """A path of an hour: our stamps, theirs, and its end."""
    stamps = simulated(*PATH, 3600.0, 1)
    return stamps, stamps / SECOND, 3600.0


def test_hawkesbook_has_the_same_intensity_likelihood_slope_and_compensator(
    hawkesbook: ModuleType, seconds: tuple[Column, Matrix, float]
) -> None:
    stamps, times, end = seconds
    theirs = [hawkesbook.exp_hawkes_intensity(times[row], times[:row], PATH) for row in range(0, len(times), 50)]
    np.testing.assert_allclose(hawkes_intensity(stamps, *PATH)[::50], theirs, rtol=1e-9)
    expected = hawkesbook.exp_log_likelihood(times, end, np.array(PATH))
    assert hawkes_log_likelihood(stamps, *PATH, *HOUR) == pytest.approx(expected, abs=1e-8)
    slopes = hawkesbook.deriv_exp_log_likelihood(times, end, np.array(PATH))
    np.testing.assert_allclose(hawkes_gradient(stamps, *PATH, *HOUR), slopes, rtol=1e-6, atol=1e-6)
    compensators = hawkesbook.exp_hawkes_compensators(times, np.array(PATH))
    np.testing.assert_allclose(hawkes_residuals(stamps, *PATH), np.diff(compensators), rtol=0, atol=1e-8)


def test_hawkesbook_finds_the_same_rates(hawkesbook: ModuleType, seconds: tuple[Column, Matrix, float]) -> None:
    stamps, times, end = seconds
    fit = fit_hawkes(stamps, *HOUR)
    theirs = hawkesbook.exp_mle_with_grad(times, end, np.array([1.0, 5.0, 10.0]))
    np.testing.assert_allclose((fit.mu, fit.alpha, fit.beta), theirs, rtol=1e-4)
    assert fit.log_likelihood >= hawkesbook.exp_log_likelihood(times, end, theirs) - 1e-8


def test_hawkesbook_has_the_same_two_intensities_and_likelihood(hawkesbook: ModuleType) -> None:
    """Its alpha is the transpose of ours, and a kind has one decay for whatever excites it."""
    mu, alpha, decay = np.array([0.4, 0.6]), np.array([[5.0, 0.3], [6.0, 4.0]]), np.array([20.0, 12.0])
    beta = np.repeat(decay, 2).reshape(2, 2)
    stamps, mark = simulate(mu, alpha, beta, 600.0, 7)
    times, theirs = stamps / SECOND, (mu, alpha.T.copy(), decay)
    found = [hawkesbook.mutual_exp_hawkes_intensity(times[row], times[:row], mark[:row], theirs)
             for row in range(len(times))]  # fmt: skip
    ours = bivariate_hawkes_intensity(stamps, mark, mu, alpha, beta)
    np.testing.assert_allclose(ours.T, found, rtol=1e-9)
    likelihood = bivariate_hawkes_log_likelihood(stamps, mark, mu, alpha, beta, 0, 600 * SECOND)
    assert likelihood == pytest.approx(hawkesbook.mutual_exp_log_likelihood(times, mark, 600.0, theirs), abs=1e-8)
