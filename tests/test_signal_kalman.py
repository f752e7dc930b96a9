"""Local level: kernel, stream and reference are what conditioning all observations at once gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from signal_columns import SECOND, Column, assert_same, marks

from rust_indicators import LocalLevel, Validity, _rust, local_level
from rust_indicators.reference import kalman as reference

Reals = NDArray[np.float64]
Observed = tuple[Column, Reals, Reals]
BACKENDS = pytest.mark.parametrize("backend", [_rust, reference])
RELATIVE = 1e-12


@st.composite
def observations(draw: st.DrawFn, rows_max: int = 12) -> Observed:
    """Seconds that repeat, prices that are not there, and variances over many orders."""
    rows = draw(st.integers(1, rows_max))

    def many(one: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(one, min_size=rows, max_size=rows))

    stamps = np.cumsum(many(st.sampled_from([0, 1, SECOND // 2, SECOND, 3600 * SECOND])))
    price = np.array(many(st.one_of(st.floats(90, 110, width=32), st.just(math.nan))), np.float64)
    variance = np.array(many(st.sampled_from([0.01, 0.25, 1.0, 4.0, 900.0])), np.float64)
    return stamps.astype(np.int64), price, np.where(np.isnan(price), math.nan, variance)


def conditioned(rows: Observed, q: float) -> tuple[Reals, Reals]:
    """Mean and variance of each level given all observations up to it, as one normal vector. No recursion.

    After a diffuse start x₁ ~ N(price₁, r₁), so that Cov(x_i, x_j) = r₁ + q·(min(t_i, t_j) − t₁).
    """
    ns, price, variance = rows
    fair, spread = np.full(len(ns), math.nan), np.full(len(ns), math.nan)
    seen = np.flatnonzero(~np.isnan(price))
    for row in range(seen[0] if len(seen) else len(ns), len(ns)):
        first = seen[0]
        later = seen[(seen > first) & (seen <= row)]
        since = (ns - ns[first]) / SECOND
        prior = lambda a, b: variance[first] + q * np.minimum.outer(since[a], since[b])  # noqa: B023, E731
        [at] = [np.array([row])]
        noisy, cross = prior(later, later) + np.diag(variance[later]), prior(at, later)
        weights = np.linalg.solve(noisy, cross.T).T if len(later) else np.zeros((1, 0))
        fair[row] = price[first] + (weights @ (price[later] - price[first])).item()
        spread[row] = (prior(at, at) - weights @ cross.T).item()
    return fair, spread


@given(observations(), st.sampled_from([1e-4, 0.1, 1.0, 25.0]))
def test_it_is_the_level_given_all_observations_at_once(rows: Observed, q: float) -> None:
    expected = conditioned(rows, q)
    for backend in (_rust, reference):
        for found, wanted in zip(backend.local_level(*rows, q), expected, strict=True):
            assert_same(found, wanted, relative=1e-6)  # the matrices lose what the recursion keeps


@given(observations(rows_max=40), st.data())
def test_batch_streaming_and_reference_agree(rows: Observed, data: st.DataObject) -> None:
    q = data.draw(st.sampled_from([1e-300, 0.3, 1e300]))
    restart = data.draw(marks(len(rows[0])))
    fair, variance = reference.local_level(*rows, q, restart=restart)
    for found, wanted in zip(local_level(*rows, q, restart=restart), (fair, variance), strict=True):
        assert_same(found, wanted, RELATIVE)
    cut = data.draw(st.integers(0, len(restart)))
    validity = reference.LocalLevel(q).update_many(*rows, restart=restart)[1]
    assert ((validity == Validity.VALID) == np.isfinite(fair)).all()
    for state in (LocalLevel(q), reference.LocalLevel(q)):
        for part in (slice(0, cut), slice(cut, None)):
            values, valid = state.update_many(*(column[part] for column in rows), restart=restart[part])
            assert_same(values, fair[part], RELATIVE)
            assert_same(valid, validity[part])
        assert_same(np.float64(state.variance), variance[-1], RELATIVE)
        state.reset()
        for row, (observed, begins) in enumerate(zip(zip(*rows, strict=True), restart.tolist(), strict=True)):
            if begins:
                state.reset() if begins == 1 else state.taint()
            value = state.update(*(word.item() for word in observed))
            assert_same(np.array([value, state.value]), np.full(2, fair[row]), RELATIVE)
            assert state.validity == validity[row]


@given(observations(), st.sampled_from([0.5, 2.0, 1024.0]), st.integers(-100, 100))
def test_another_unit_of_price_and_another_epoch_change_nothing(rows: Observed, unit: float, hours: int) -> None:
    ns, price, variance = rows
    fair, spread = local_level(ns, price, variance, 0.3)
    shifted = ns + hours * 3600 * SECOND
    scaled = local_level(shifted, price * unit, variance * unit**2, 0.3 * unit**2)
    assert_same(scaled[0], fair * unit)  # powers of two: exact
    assert_same(scaled[1], spread * unit**2)


@given(observations())
def test_between_no_memory_and_no_movement(rows: Observed) -> None:
    """q → ∞ follows the observation where time has passed; q → 0 is the mean weighted by 1 / r."""
    ns, price, variance = rows
    seen = ~np.isnan(price)
    passed = seen & (np.diff(ns, prepend=ns[0] - 1) > 0)
    np.testing.assert_allclose(local_level(*rows, 1e30)[0][passed], price[passed], rtol=1e-12)
    if seen.any():
        mean = np.average(price[seen], weights=1 / variance[seen])
        fair, spread = local_level(*rows, 1e-30)
        assert fair[-1] == pytest.approx(mean, rel=1e-12)
        assert spread[-1] == pytest.approx(1 / (1 / variance[seen]).sum(), rel=1e-12)


def test_the_variance_is_that_of_the_error() -> None:
    """A day of the model itself: the level lies where the filter says, as often as it says."""
    random = np.random.default_rng(7)
    rows, q = 50_000, 2.0
    ns = np.cumsum(random.integers(0, SECOND, rows))
    level = 100 + np.cumsum(random.normal(size=rows) * np.sqrt(q * np.diff(ns, prepend=ns[0]) / SECOND))
    variance = random.uniform(0.1, 9, rows)
    price = level + random.normal(size=rows) * np.sqrt(variance)
    fair, spread = local_level(ns, price, variance, q)
    errors = (fair - level) / np.sqrt(spread)
    assert abs(errors.mean()) < 0.05 and abs(errors.var() - 1) < 0.05
    assert ((fair - level) ** 2).mean() < 0.5 * ((price - level) ** 2).mean()


@BACKENDS
def test_local_level_by_hand(backend: Any) -> None:
    state = backend.LocalLevel(3.0)
    assert math.isnan(state.update(5, math.nan, math.nan)) and state.validity == Validity.WARMING_UP
    assert (state.update(5, 10.0, 4.0), state.variance, state.validity) == (10.0, 4.0, Validity.VALID)
    # A second later: 4 + 3 against 7, half way.
    assert (state.update(5 + SECOND, 12.0, 7.0), state.variance) == (11.0, 3.5)
    # At the same time once more: 3.5 against 3.5.
    assert (state.update(5 + SECOND, 13.0, 3.5), state.variance) == (12.0, 1.75)
    assert (state.update(5 + 2 * SECOND, math.nan, -1.0), state.variance) == (12.0, 4.75)
    state.taint()
    assert math.isnan(state.value) and math.isnan(state.variance) and state.validity == Validity.TAINTED
    assert math.isnan(state.update(0, math.nan, 1.0)) and state.validity == Validity.TAINTED
    assert (state.update(1, 7.0, 1.0), state.validity) == (7.0, Validity.VALID)


@BACKENDS
def test_extremes_of_time_and_variance_give_numbers(backend: Any) -> None:
    ns = np.array([-(2**63), 2**63 - 1, 2**63 - 1], np.int64)
    for q in (5e-324, 1e308):
        for r in (5e-324, 1e308):
            fair, variance = backend.local_level(ns, np.array([1e100, -1e100, 3.0]), np.full(3, r), q)
            assert np.isfinite(fair).all() and not np.isnan(variance).any() and (variance >= 0).all()


NS, PRICE, R = np.array([1, 1, 4], np.int64), np.array([1.0, math.nan, 1.5]), np.array([1.0, math.nan, 2.0])


@pytest.mark.parametrize(
    ("arguments", "q", "message"),
    [
        ((NS.astype(float), PRICE, R), 1.0, "exchange_ns: must be a 1-dimensional array of int64"),
        ((NS, NS, R), 1.0, "price: must be a 1-dimensional array of float64"),
        ((NS, PRICE, 0.25), 1.0, "variance: must be a 1-dimensional array of float64"),
        ((NS, PRICE, R[:2]), 1.0, "variance: has 2 rows, exchange_ns has 3"),
        ((NS[::-1].copy(), PRICE, R), 1.0, "exchange_ns: goes back at row 1"),
        ((NS, PRICE * 1e101, R), 1.0, r"price: row 0: 1e\+?101 is not within"),
        ((NS, np.array([1, math.nan, -math.inf]), R), 1.0, "price: row 2: -inf is not within"),
        ((NS, PRICE, np.array([1.0, math.nan, 0.0])), 1.0, "variance: row 2: 0.0 is not a finite number above 0"),
        ((NS, np.ones(3), R), 1.0, "variance: row 1: (nan|NaN) is not a finite number above 0"),
        ((NS - 5, PRICE, R), 1.0, "exchange_ns: -4 is before the row before"),
        *(((NS, PRICE, R), q, "q: .* is not a finite number above 0") for q in (0.0, -1.0, math.nan, math.inf)),
    ],
)
@BACKENDS
def test_what_is_no_observation_is_refused_by_name(
    backend: Any, arguments: tuple[Any, ...], q: float, message: str
) -> None:
    follows = "before the row before" in message
    if not follows:
        with pytest.raises(ValueError, match=f"^{message}"):
            backend.local_level(*arguments, q)
    if q != 1.0:
        with pytest.raises(ValueError, match=f"^{message}"):
            backend.LocalLevel(q)
        return
    state = backend.LocalLevel(q)
    state.update(0, 1.0, 1.0)
    with pytest.raises(ValueError, match=f"^{message}"):
        state.update_many(*arguments)
    for one, name in (((-1, 1.0, 1.0), "exchange_ns"), ((1, 1e101, 1.0), "price"), ((1, 1.0, 0.0), "variance")):
        with pytest.raises(ValueError, match=f"^{name}: "):
            state.update(*one)
    assert (state.value, state.variance) == (1.0, 1.0)
    assert state.update(0, 3.0, 1.0) == 2.0
