"""Two kinds of events that excite each other: kernel, streaming form and reference are one thing, the published one."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hawkes_paths import Marks, Matrix, by_definition, kolmogorov, rising_stamps, simulate
from hypothesis import given
from hypothesis import strategies as st
from signal_columns import SECOND, Column, assert_same, marks

from rust_indicators import Validity, _rust
from rust_indicators.reference import hawkes
from rust_indicators.reference import hawkes_bivariate as reference

Rates = tuple[Matrix, Matrix, Matrix]
BACKENDS = pytest.mark.parametrize("backend", [_rust, reference], ids=["rust", "reference"])
RELATIVE = 1e-12
# alpha[i, j]: effect of j on i; not symmetric, so that a transposed one is seen.
PATH: Rates = (
    np.array([0.4, 0.6]),
    np.array([[5.0, 0.3], [6.0, 4.0]]),
    np.array([[20.0, 3.0], [10.0, 16.0]]),
)

rate = st.one_of(st.floats(-6, 6).map(lambda power: 10.0**power), st.sampled_from((1e-30, 1e30)))


def numbers(of: st.SearchStrategy[float], *shape: int) -> st.SearchStrategy[Matrix]:
    count = math.prod(shape)
    return st.lists(of, min_size=count, max_size=count).map(lambda found: np.array(found).reshape(shape))


rates = st.tuples(numbers(rate, 2), numbers(st.one_of(st.just(0.0), rate), 2, 2), numbers(rate, 2, 2))


@st.composite
def events(draw: st.DrawFn, rows_max: int = 40) -> tuple[Column, Marks]:
    """Of both kinds; some stamps have one of each, in either order."""
    stamps = draw(rising_stamps(rows_max))
    both = np.array(draw(st.lists(st.booleans(), min_size=len(stamps), max_size=len(stamps))))
    kinds = np.array(draw(st.lists(st.integers(0, 1), min_size=len(stamps), max_size=len(stamps))), np.uint8)
    repeated = np.repeat(stamps, 1 + both)
    first = np.cumsum(1 + both) - 1 - both
    mark = np.repeat(kinds, 1 + both)
    mark[first[both] + 1] ^= 1
    return repeated, mark


@cache
def path(seconds: float, seed: int) -> tuple[Column, Marks]:
    return simulate(*PATH, seconds, seed)


@given(events(), rates, st.data())
def test_intensities_batch_streaming_and_reference_agree(
    path: tuple[Column, Marks], rates: Rates, data: st.DataObject
) -> None:
    stamps, mark = path
    restart = data.draw(marks(len(stamps)))
    expected = reference.bivariate_hawkes_intensity(stamps, mark, *rates, restart=restart)
    assert_same(_rust.bivariate_hawkes_intensity(stamps, mark, *rates, restart=restart), expected, RELATIVE)
    ours, theirs = _rust.BivariateHawkes(*rates), reference.BivariateHawkes(*rates)
    cut = data.draw(st.integers(0, len(stamps)))
    for part in (slice(0, cut), slice(cut, None)):
        (values, valid), (their_values, their_valid) = (
            state.update_many(stamps[part], mark[part], restart=restart[part]) for state in (ours, theirs)
        )
        assert_same(values, their_values, RELATIVE)
        assert_same(valid, their_valid)
        assert_same(values, expected[:, part], RELATIVE)
        assert ours.validity == theirs.validity
        assert_same(np.array(ours.value), np.array(theirs.value), RELATIVE)


@given(events(rows_max=200), rates, st.data())
def test_however_events_are_handed_over_the_bits_are_the_same(
    path: tuple[Column, Marks], rates: Rates, data: st.DataObject
) -> None:
    stamps, mark = path
    restart = data.draw(marks(len(stamps)))
    batch = _rust.bivariate_hawkes_intensity(stamps, mark, *rates, restart=restart)
    parts, state = [], _rust.BivariateHawkes(*rates)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stamps)), max_size=5)))
    for begin, end in zip([0, *cuts], [*cuts, len(stamps)], strict=True):
        part = slice(begin, end)
        parts.append(state.update_many(stamps[part], mark[part], restart=restart[part])[0])
    assert_same(np.concatenate(parts, axis=1), batch)
    one_by_one = _rust.BivariateHawkes(*rates)
    rows = zip(stamps.tolist(), mark.tolist(), restart.tolist(), strict=True)
    for row, (stamp, kind, begun) in enumerate(rows):
        if begun:
            (one_by_one.reset if begun == 1 else one_by_one.taint)()
        ahead, value = one_by_one.intensity_at(stamp), one_by_one.update(stamp, kind)
        for seen in (ahead, value, one_by_one.intensity_at(stamp), one_by_one.value):
            assert_same(np.array(seen), batch[:, row])


@given(events(), rates, st.integers(1, 10**12))
def test_likelihood_gradient_and_residuals_agree_with_the_reference(
    path: tuple[Column, Marks], rates: Rates, rest: int
) -> None:
    stamps, mark = path
    window = (int(stamps[0]), min(int(stamps[-1]) + rest, 2**63 - 1))
    if window[0] == window[1]:
        return
    mu, alpha, beta = rates
    found = (backend.bivariate_hawkes_residuals(stamps, mark, *rates) for backend in (_rust, reference))
    for one, other in zip(*found, strict=True):
        assert_same(one, other, RELATIVE)
    intensity = reference.bivariate_hawkes_intensity(stamps, mark, *rates)[mark, np.arange(len(mark))]
    integral = mu.sum() * (window[1] - window[0]) / SECOND + (alpha / beta).sum() * len(stamps)
    terms = np.abs(np.log(intensity)).sum() + integral
    ours, theirs = (
        backend.bivariate_hawkes_log_likelihood(stamps, mark, *rates, *window) for backend in (_rust, reference)
    )
    assert ours == pytest.approx(theirs, rel=0, abs=RELATIVE * terms)
    slopes = (backend.bivariate_hawkes_gradient(stamps, mark, *rates, *window) for backend in (_rust, reference))
    for rate, one, other in zip(rates, *slopes, strict=True):
        # By the logarithms of the rates, which is what a fit sees, each sum is made of at most so much.
        np.testing.assert_array_less(np.abs(one - other) * rate, RELATIVE * (1 + 3 * len(stamps) + integral))


@BACKENDS
def test_every_pair_of_events_gives_the_same(backend: ModuleType) -> None:
    stamps, mark = path(300.0, 1)
    stamps, mark = backend.distinct_marked_stamps(stamps // 10**8 * 10**8, mark)  # many stamps with both kinds
    assert np.sum(np.diff(stamps) == 0) > 30
    end_ns = 300 * SECOND
    intensity, likelihood, terms = by_definition(stamps, mark, *PATH, 0, end_ns)
    ours = backend.bivariate_hawkes_intensity(stamps, mark, *PATH)
    np.testing.assert_allclose(ours, intensity, rtol=RELATIVE)
    assert backend.bivariate_hawkes_log_likelihood(stamps, mark, *PATH, 0, end_ns) == pytest.approx(
        likelihood, rel=0, abs=1e-14 * terms
    )
    # Both integrals from the first event to the last, of the whole and of its parts.
    for kind, residuals in enumerate(backend.bivariate_hawkes_residuals(stamps, mark, *PATH)):
        of_kind = np.flatnonzero(mark == kind)
        assert len(residuals) == len(of_kind) - 1
        begin, end = (integral(stamps, mark, kind, int(stamps[row])) for row in (of_kind[0], of_kind[-1]))
        assert residuals.sum() == pytest.approx(end - begin, rel=1e-11)
        middle = integral(stamps, mark, kind, int(stamps[of_kind[40]]))
        assert residuals[:40].sum() == pytest.approx(middle - begin, rel=1e-11)


def integral(stamps: Column, mark: Marks, kind: int, until_ns: int) -> float:
    """∫ λ of a kind from 0 on, by its definition."""
    mu, alpha, beta = PATH
    lived = np.maximum(until_ns - stamps, 0) / SECOND
    excited = (alpha / beta)[kind, mark] * -np.expm1(-beta[kind, mark] * lived)
    return float(mu[kind] * until_ns / SECOND + excited.sum())


@BACKENDS
def test_the_gradient_is_the_slope_of_the_likelihood(backend: ModuleType) -> None:
    stamps, mark = path(300.0, 1)
    window = (0, 300 * SECOND)
    flat = np.concatenate([part.ravel() for part in PATH])

    def likelihood(rates: Matrix) -> float:
        parts = (rates[:2], rates[2:6].reshape(2, 2), rates[6:].reshape(2, 2))
        return float(backend.bivariate_hawkes_log_likelihood(stamps, mark, *parts, *window))

    slopes = backend.bivariate_hawkes_gradient(stamps, mark, *PATH, *window)
    for at, slope in enumerate(np.concatenate([part.ravel() for part in slopes])):
        step = np.eye(10)[at] * 1e-5 * flat[at]
        measured = (likelihood(flat + step) - likelihood(flat - step)) / (2 * step[at])
        assert slope == pytest.approx(measured, rel=1e-5, abs=1e-5)


@BACKENDS
def test_kinds_that_leave_each_other_alone_are_two_univariate_processes(backend: ModuleType) -> None:
    stamps, mark = path(300.0, 1)
    mu, alpha, beta = PATH
    alone = np.diag(np.diag(alpha))
    both = backend.bivariate_hawkes_intensity(stamps, mark, mu, alone, beta)
    residuals = backend.bivariate_hawkes_residuals(stamps, mark, mu, alone, beta)
    likelihood = 0.0
    for kind in (0, 1):
        own = (stamps[mark == kind], mu[kind], alpha[kind, kind], beta[kind, kind])
        np.testing.assert_allclose(both[kind, mark == kind], hawkes.hawkes_intensity(*own), rtol=RELATIVE)
        np.testing.assert_allclose(residuals[kind], hawkes.hawkes_residuals(*own), rtol=1e-10)
        likelihood += hawkes.hawkes_log_likelihood(*own, 0, 300 * SECOND)
    together = backend.bivariate_hawkes_log_likelihood(stamps, mark, mu, alone, beta, 0, 300 * SECOND)
    assert together == pytest.approx(likelihood, rel=1e-12)


@given(events(), rates)
def test_naming_the_kinds_the_other_way_changes_only_names(path: tuple[Column, Marks], rates: Rates) -> None:
    stamps, mark = path
    other = [np.ascontiguousarray(np.flip(part)) for part in rates]
    ours = _rust.bivariate_hawkes_intensity(stamps, mark, *rates)
    assert_same(_rust.bivariate_hawkes_intensity(stamps, mark ^ 1, *other)[::-1], ours, 1e-14)


def test_time_told_by_the_process_itself_has_exponential_gaps() -> None:
    stamps, mark = path(3600.0, 2)
    mu, alpha, beta = PATH
    for residuals in _rust.bivariate_hawkes_residuals(stamps, mark, *PATH):
        assert len(residuals) > 1500
        assert kolmogorov(residuals) < 1.95
    transposed = _rust.bivariate_hawkes_residuals(stamps, mark, mu, alpha.T.copy(), beta.T.copy())
    assert max(map(kolmogorov, transposed)) > 1.95


@BACKENDS
def test_two_kinds_by_hand(backend: ModuleType) -> None:
    halves = math.log(2)
    state = backend.BivariateHawkes((1.0, 2.0), ((4.0, 8.0), (16.0, 32.0)), ((halves, halves), (halves, 2 * halves)))
    assert (state.validity, state.intensity_at(5)) == (Validity.WARMING_UP, (1.0, 2.0))
    assert state.update(0, 0) == (1.0, 2.0)
    assert state.update(0, 1) == (1.0, 2.0)  # at one stamp neither excites the other
    after = (1 + 4 / 2 + 8 / 2, 2 + 16 / 2 + 32 / 4)
    assert state.intensity_at(SECOND) == pytest.approx(after, rel=1e-14)
    assert state.update(SECOND, 1) == pytest.approx(after, rel=1e-14)
    assert (state.value, state.validity) == (pytest.approx(after, rel=1e-14), Validity.VALID)
    assert state.update(2 * SECOND, 0) == pytest.approx((1 + 1 + 8 * 0.75, 2 + 4 + 32 * (1 / 16 + 1 / 4)), rel=1e-14)
    state.taint()
    assert math.isnan(state.update(3 * SECOND, 0)[0]) and state.validity == Validity.TAINTED
    state.reset()
    assert (state.update(SECOND, 1), state.validity) == ((1.0, 2.0), Validity.VALID)


@BACKENDS
def test_after_a_gap_it_says_so_for_ten_of_the_slowest_decays(backend: ModuleType) -> None:
    state = backend.BivariateHawkes(PATH[0], PATH[1], ((20.0, 2.0), (4.0, 5.0)))
    state.taint()
    stamps = np.array([7, 8, 11, 12, 12], np.int64) * SECOND
    values, validity = state.update_many(stamps, np.array([0, 1, 1, 1, 0], np.uint8))
    assert validity.tolist() == [2, 2, 2, 1, 1]
    assert np.isnan(values).tolist() == [[True, True, True, False, False]] * 2


@BACKENDS
def test_the_spectral_radius_is_the_largest_eigenvalue(backend: ModuleType) -> None:
    random = np.random.default_rng(5)
    for _ in range(50):
        alpha, beta = random.exponential(1, (2, 2)), random.exponential(1, (2, 2))
        expected = np.abs(np.linalg.eigvals(alpha / beta)).max()
        assert backend.spectral_radius(alpha, beta) == pytest.approx(expected, rel=1e-12)
    assert backend.spectral_radius(((0, 0), (3, 0)), ((1, 1), (1, 1))) == 0.0  # no way back: nothing goes on


@BACKENDS
def test_prints_of_one_kind_at_one_time_are_merged(backend: ModuleType) -> None:
    stamps = np.array([1, 1, 1, 1, 2, 3, 3], np.int64)
    mark = np.array([1, 0, 1, 0, 0, 1, 1], np.uint8)
    merged = backend.distinct_marked_stamps(stamps, mark)
    assert [column.tolist() for column in merged] == [[1, 1, 2, 3], [1, 0, 0, 1]]
    assert [column.dtype for column in merged] == [np.int64, np.uint8]


@BACKENDS
def test_the_result_may_be_written_where_one_likes_and_nothing_is_refused(backend: ModuleType) -> None:
    stamps, mark = path(30.0, 1)
    out = np.zeros((2, len(stamps)))
    assert backend.bivariate_hawkes_intensity(stamps, mark, *PATH, out=out) is out
    assert_same(out, backend.bivariate_hawkes_intensity(stamps, mark, *PATH))
    none = (stamps[:0], mark[:0], *PATH)
    assert backend.bivariate_hawkes_intensity(*none).shape == (2, 0)
    assert [len(part) for part in backend.bivariate_hawkes_residuals(*none)] == [0, 0]
    assert backend.bivariate_hawkes_log_likelihood(*none, 0, SECOND) == pytest.approx(-1.0)
    by_mu, by_alpha, by_beta = backend.bivariate_hawkes_gradient(*none, 0, SECOND)
    assert by_mu.tolist() == [-1.0, -1.0] and not by_alpha.any() and not by_beta.any()


T, M = np.array([1, 2, 3], np.int64) * SECOND, np.array([0, 1, 1], np.uint8)
ONES = np.ones((2, 2))
REFUSED: list[tuple[Callable[[Any], Any], str]] = [
    (lambda b: b.bivariate_hawkes_intensity(T, M.astype(int), *PATH), "mark: must be a 1-dimensional array of uint8"),
    (lambda b: b.bivariate_hawkes_intensity(T, M[:2], *PATH), "mark: has 2 rows, exchange_ns has 3"),
    (lambda b: b.bivariate_hawkes_intensity(T, M + np.uint8(1), *PATH), "mark: row 1 is 2, not 0 or 1"),
    (lambda b: b.bivariate_hawkes_residuals(T[::-1].copy(), M, *PATH), "exchange_ns: goes back at row 1"),
    (lambda b: b.bivariate_hawkes_intensity(T[[0, 1, 1]], M, *PATH), "exchange_ns: row 2 has .*distinct_marked_stamps"),
    (lambda b: b.bivariate_hawkes_gradient(T[[1, 1, 1]], M[[0, 1, 0]], *PATH, 0, SECOND), "exchange_ns: row 2 has"),
    (lambda b: b.bivariate_hawkes_intensity(T, M, (1.0,), ONES, ONES), "mu: must be 2 numbers"),
    (lambda b: b.bivariate_hawkes_intensity(T, M, (1.0, 0.0), ONES, ONES), "mu: 0(.0)? is not within"),
    (lambda b: b.BivariateHawkes((1.0, 1.0), (1.0, 1.0), ONES), "alpha: must be 2 × 2 numbers"),
    (lambda b: b.BivariateHawkes((1.0, 1.0), -ONES, ONES), "alpha: -1(.0)? is not within"),
    (lambda b: b.BivariateHawkes((1.0, 1.0), ONES, ONES * math.nan), "beta: (nan|NaN) is not within"),
    (lambda b: b.BivariateHawkes((1.0, 1.0), ONES, "fast"), "beta: must be 2 × 2 numbers"),
    (lambda b: b.spectral_radius(ONES, ONES * 0), "beta: 0(.0)? is not within"),
    (lambda b: b.bivariate_hawkes_intensity(T, M, *PATH, out=np.zeros((3, 2))), "out: must be a contiguous array"),
    (lambda b: b.bivariate_hawkes_intensity(T, M, *PATH, out=np.zeros(6)), "out: must be a contiguous array"),
    (lambda b: b.bivariate_hawkes_intensity(T, M, *PATH, restart=M[:1]), "restart: has 1 rows, exchange_ns has 3"),
    (lambda b: b.bivariate_hawkes_log_likelihood(T, M, *PATH, 2 * SECOND, 9 * SECOND), "start_ns: 2000000000 is after"),
    (lambda b: b.bivariate_hawkes_log_likelihood(T, M, *PATH, 0, SECOND), "end_ns: 1000000000 is before the last"),
    (lambda b: b.distinct_marked_stamps(T[::-1].copy(), M), "exchange_ns: goes back at row 1"),
]


@BACKENDS
@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_two_kinds_are_refused_where_they_cannot_be_and_named(
    backend: ModuleType, call: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(backend)


@BACKENDS
def test_a_refusal_leaves_the_state_as_it_was(backend: ModuleType) -> None:
    state, other = backend.BivariateHawkes(*PATH), backend.BivariateHawkes(*PATH)
    for one in (state, other):
        one.update_many(T, M)
    for stamp, kind in ((3 * SECOND, 1), (2 * SECOND, 0), (4 * SECOND, 2)):
        with pytest.raises(ValueError, match=r"exchange_ns: |mark: "):
            state.update(stamp, kind)
    with pytest.raises(ValueError, match="exchange_ns: row 2 has"):
        state.update_many(T[[2, 2, 2]] + SECOND, M)
    with pytest.raises(ValueError, match="is before the last event"):
        state.intensity_at(2 * SECOND)
    assert state.update(3 * SECOND, 0) == other.update(3 * SECOND, 0)
