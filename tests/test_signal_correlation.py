"""Hayashi–Yoshida: kernel, stream and reference are the sum over all pairs of intervals, and the published lead–lag."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from real_data import needs_data
from signal_columns import SECOND, Column, assert_same, futures, marks

from rust_indicators import EMPTY_PRICE_E6, HayashiYoshida, Validity, _rust, hayashi_yoshida, lead_lag
from rust_indicators.reference import correlation as reference

Prices = NDArray[np.float64]
Series = tuple[Column, Prices]
BACKENDS = pytest.mark.parametrize("backend", [_rust, reference])
LAGS = np.arange(-7, 8, dtype=np.int64)


@st.composite
def series(draw: st.DrawFn, rows_max: int = 14) -> Series:
    """Few stamps, so that many coincide; half points, so that sums are exact; books without a mid among them."""
    rows = draw(st.integers(0, rows_max))
    stamps = sorted(draw(st.lists(st.integers(0, 20), min_size=rows, max_size=rows)))
    price = st.one_of(st.integers(-6, 6).map(lambda halves: halves / 2), st.just(math.nan))
    return np.array(stamps, np.int64), np.array(draw(st.lists(price, min_size=rows, max_size=rows)), np.float64)


def intervals(ns: Column, price: Prices) -> list[tuple[int, int, float]]:
    """(from, to, change) by the definition, row by row."""
    last_of_stamp = {stamp: value for stamp, value in zip(ns.tolist(), price.tolist(), strict=True) if value == value}
    found: list[tuple[int, int, float]] = []
    before: tuple[int, float] | None = None
    for stamp, value in last_of_stamp.items():
        if before is not None and value != before[1]:
            found.append((before[0], stamp, value - before[1]))
        if before is None or value != before[1]:
            before = (stamp, value)
    return found


def over_all_pairs(x: Series, y: Series, lag: int) -> float:
    return sum(
        dx * dy
        for start, end, dx in intervals(*x)
        for y_start, y_end, dy in intervals(*y)
        if max(start, y_start - lag) < min(end, y_end - lag)
    )


@given(series(), series())
def test_it_is_the_sum_over_all_pairs_of_intervals_that_overlap(x: Series, y: Series) -> None:
    expected = np.array([over_all_pairs(x, y, lag) for lag in LAGS.tolist()], np.float64)
    assert_same(hayashi_yoshida(*x, *y, LAGS), expected)
    assert_same(reference.hayashi_yoshida(*x, *y, LAGS), expected)
    for found in (_rust.realised_variance(*x), reference.realised_variance(*x)):
        assert found == sum(change**2 for *_, change in intervals(*x))


def merged(x: Series, y: Series, y_first: bool) -> tuple[NDArray[np.uint8], Column, Prices]:
    mark = np.repeat(np.array([0, 1], np.uint8), [len(x[0]), len(y[0])])
    ns, price = np.concatenate([x[0], y[0]]), np.concatenate([x[1], y[1]])
    order = np.lexsort((1 - mark if y_first else mark, ns))
    return mark[order], ns[order], price[order]


@given(series(), series(), st.booleans(), st.integers(0, 28))
def test_the_stream_is_the_batch_at_no_lag_whoever_comes_first_at_a_stamp(
    x: Series, y: Series, y_first: bool, cut: int
) -> None:
    rows = merged(x, y, y_first)
    [expected] = hayashi_yoshida(*x, *y, np.zeros(1, np.int64))
    variances = [_rust.realised_variance(*side) for side in (x, y)]
    warm = min(variances) > 0
    for state in (HayashiYoshida(), reference.HayashiYoshida()):
        for part in (slice(0, cut), slice(cut, None)):
            state.update_many(*(column[part] for column in rows))
        assert state.validity == (Validity.VALID if warm else Validity.WARMING_UP)
        assert_same(np.float64(state.value), expected if warm else np.float64(math.nan))
        correlation = expected / math.sqrt(variances[0]) / math.sqrt(variances[1]) if warm else math.nan
        assert_same(np.float64(state.correlation), np.float64(correlation))


@given(st.data())
def test_stream_and_reference_agree_bit_for_bit_through_restarts(data: st.DataObject) -> None:
    """Prices that no float sums exactly; each row alone gives what all rows at once give."""
    count = data.draw(st.integers(1, 40))
    price = st.one_of(st.floats(-1e3, 1e3, width=32), st.sampled_from([0.1, 0.2, 1e100, -1e100, math.nan]))
    rows = (
        np.array(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)), np.uint8),
        np.array(sorted(data.draw(st.lists(st.integers(0, 25), min_size=count, max_size=count))), np.int64),
        np.array(data.draw(st.lists(price, min_size=count, max_size=count)), np.float64),
    )
    restart = data.draw(marks(count))
    expected = reference.HayashiYoshida().update_many(*rows, restart=restart)
    assert ((expected[1] == Validity.VALID) == np.isfinite(expected[0])).all()
    for ours, theirs in zip(HayashiYoshida().update_many(*rows, restart=restart), expected, strict=True):
        assert_same(ours, theirs)
    for state in (HayashiYoshida(), reference.HayashiYoshida()):
        for (mark, ns, value, begins), covariance, validity in zip(
            zip(*(column.tolist() for column in (*rows, restart)), strict=True), *expected, strict=True
        ):
            if begins:
                state.reset() if begins == 1 else state.taint()
            found = (state.update_y if mark else state.update_x)(ns, value)
            assert_same(np.float64(found), covariance)
            assert state.validity == validity


def test_real_numbers_sum_to_the_same_within_rounding() -> None:
    random = np.random.default_rng(9)
    sides = []
    for rows in (600, 400):
        stamps = np.sort(random.integers(0, 20_000, rows))
        sides += [stamps, np.cumsum(random.normal(size=rows))]
    lags = np.arange(-500, 501, 100)
    expected = [over_all_pairs((sides[0], sides[1]), (sides[2], sides[3]), lag) for lag in lags[:2].tolist()]
    ours, theirs = hayashi_yoshida(*sides, lags), reference.hayashi_yoshida(*sides, lags)
    scale = math.sqrt(reference.realised_variance(*sides[:2]) * reference.realised_variance(*sides[2:]))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(ours[:2], expected, rtol=0, atol=1e-12 * scale)
    found, other = _rust.lead_lag(*sides, lags), reference.lead_lag(*sides, lags)
    assert found.best_lag_ns == other.best_lag_ns
    assert found.ratio == pytest.approx(other.ratio, rel=1e-9)
    assert found.best_correlation == found.correlation[lags.tolist().index(found.best_lag_ns)]


@given(series(), series(), st.integers(-5, 5))
def test_swapping_the_series_turns_the_lag_and_scaling_scales(x: Series, y: Series, shift: int) -> None:
    expected = hayashi_yoshida(*x, *y, LAGS)
    assert_same(hayashi_yoshida(*y, *x, -LAGS), expected)
    assert_same(hayashi_yoshida(x[0], 4 * x[1], y[0], -y[1], LAGS), -4 * expected + 0.0)
    assert_same(hayashi_yoshida(*x, y[0] + shift, y[1], LAGS + shift), expected)


@BACKENDS
@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([(0, 1), (10, 3)], [(5, 1), (15, 2)], 2.0),  # (0, 10] and (5, 15]
        ([(0, 1), (10, 3)], [(10, 1), (15, 2)], 0.0),  # they touch
        ([(0, 1), (10, 3)], [(0, 1), (10, 2)], 2.0),  # one interval
        ([(0, 1), (10, 3)], [(9, 1), (9, 2), (20, 5)], 6.0),  # of one stamp the last price
        ([(0, 1), (5, math.nan), (10, 3)], [(2, 1), (3, 2)], 2.0),  # no mid is no change
        ([(0, 1), (8, 1), (10, 3)], [(2, 1), (3, 2)], 2.0),  # nor is the same one
        ([(0, 1), (10, 3)], [(2, 1), (3, 2), (4, 5), (12, 4)], 2 * (1 + 3 - 1)),
        ([(0, 1)], [(0, 1), (2, 5)], 0.0),
        ([], [(0, 1), (2, 5)], 0.0),
    ],
)
def test_hayashi_yoshida_by_hand(backend: Any, x: list[Any], y: list[Any], expected: float) -> None:
    sides = []
    for rows in (x, y):
        stamps, prices = zip(*rows, strict=True) if rows else ((), ())
        sides += [np.array(stamps, np.int64), np.array(prices, np.float64)]
    assert backend.hayashi_yoshida(*sides, np.zeros(1, np.int64)).tolist() == [expected]


@BACKENDS
def test_a_copy_that_comes_later_is_led_by_its_delay(backend: Any) -> None:
    random = np.random.default_rng(4)
    ns, price = np.arange(400, dtype=np.int64) * 100, np.cumsum(random.choice([-0.5, 0.5], 400))
    lags = np.arange(-1000, 1001, 50)
    found = backend.lead_lag(ns, price, ns + 300, 2 * price, lags)
    assert (found.best_lag_ns, found.best_correlation) == (300, pytest.approx(1.0, rel=1e-12))
    assert found.ratio > 2
    assert math.isnan(backend.lead_lag(ns, price, ns, price, np.zeros(1, np.int64)).ratio)


@BACKENDS
def test_a_gap_is_told_until_both_have_changed_and_a_price_that_returns_within_its_stamp_never_did(
    backend: Any,
) -> None:
    state = backend.HayashiYoshida()
    for update, ns, price in ((state.update_x, 0, 1), (state.update_y, 0, 1), (state.update_x, 1, 2)):
        assert math.isnan(update(ns, price)) and state.validity == Validity.WARMING_UP
    assert state.update_y(2, 4) == 3.0 and state.correlation == 1.0 and state.validity == Validity.VALID
    state.taint()
    assert math.isnan(state.value) and math.isnan(state.correlation) and state.validity == Validity.TAINTED
    state.update_x(0, 1)  # after a gap any stamp may follow
    state.update_x(3, 2)
    state.update_y(3, 1)
    state.update_y(4, 2)
    assert state.validity == Validity.VALID
    state.update_y(4, 1)
    assert state.validity == Validity.TAINTED and math.isnan(state.value)
    state.update_y(5, 2)
    state.reset()
    assert state.validity == Validity.WARMING_UP


NS, PX = np.array([1, 2, 4], np.int64), np.array([1.0, 2.0, 1.5])
BACK, HUGE = np.array([1, 3, 2], np.int64), np.array([1.0, -2e100, math.inf])
FLAT = np.ones(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NS.astype(float), PX, NS, PX, LAGS), "x_ns: must be a 1-dimensional array of int64"),
        ((NS, PX, NS, NS, LAGS), "y: must be a 1-dimensional array of float64"),
        ((NS, PX, NS, PX, 3), "lags_ns: must be a 1-dimensional array of int64"),
        ((NS, PX[:2], NS, PX, LAGS), "x: has 2 rows, x_ns has 3"),
        ((NS, PX, BACK, PX, LAGS), "y_ns: goes back at row 2"),
        ((NS, HUGE, NS, PX, LAGS), r"x: row 1: -2e\+?100 is not within"),
        ((NS, PX, NS, PX, np.array([-(2**63)])), "lags_ns: -9223372036854775808 moves y's stamps out of 64 bits"),
    ],
)
@BACKENDS
def test_what_is_no_series_is_refused_by_name(backend: Any, arguments: tuple[Any, ...], message: str) -> None:
    for function in (backend.hayashi_yoshida, backend.lead_lag):
        with pytest.raises(ValueError, match=f"^{message}"):
            function(*arguments)


@BACKENDS
def test_lead_and_lag_of_nothing_is_refused(backend: Any) -> None:
    with pytest.raises(ValueError, match=r"^y: never changes"):
        backend.lead_lag(NS, PX, NS, FLAT, LAGS)
    with pytest.raises(ValueError, match=r"^x: never changes"):
        backend.lead_lag(NS[:0], PX[:0], NS, PX, LAGS)
    with pytest.raises(ValueError, match=r"^lags_ns: has no rows"):
        backend.lead_lag(NS, PX, NS, PX, LAGS[:0])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((np.array([0, 1, 2], np.uint8), NS, PX), "mark: row 2 is 2, not 0"),
        ((np.zeros(3, np.uint8), BACK, PX), "ns: goes back at row 2"),
        ((np.zeros(3, np.uint8), NS, HUGE), "price: row 1: "),
        ((np.zeros(3, np.uint8), NS, PX[:2]), "price: has 2 rows, mark has 3"),
        ((np.zeros(3, np.uint8), NS - 5, PX), "ns: -4 is before the row before"),
    ],
)
@BACKENDS
def test_a_row_that_cannot_follow_leaves_no_trace(backend: Any, rows: tuple[Any, ...], message: str) -> None:
    state = backend.HayashiYoshida()
    assert math.isnan(state.update_x(0, 1.0))
    with pytest.raises(ValueError, match=f"^{message}"):
        state.update_many(*rows)
    for ns, price in ((-1, 1.0), (5, 1e101)):
        with pytest.raises(ValueError, match=r"^(ns|price): "):
            state.update_y(ns, price)
    with pytest.raises(ValueError, match=r"^restart: row 0 is 3"):
        state.update_many(np.zeros(1, np.uint8), NS[:1], PX[:1], restart=np.array([3], np.uint8))
    state.update_y(0, 1.0)
    state.update_x(3, 2.0)
    assert state.update_y(4, 3.0) == 2.0


def mids_of_the_day(name: str) -> Series:
    """Mids of the day session, 08:45 to 13:45 Taipei, NaN where a side is empty; stamps as the file has them."""
    books = futures(name)
    bid, _, ask, _ = books.best()
    open_ns = int(datetime(2026, 4, 10, 0, 45, tzinfo=UTC).timestamp()) * SECOND
    in_session = (books.exchange_ns >= open_ns) & (books.exchange_ns <= open_ns + 5 * 3600 * SECOND)
    whole = (bid != EMPTY_PRICE_E6) & (ask != EMPTY_PRICE_E6)
    mids = np.where(whole, (bid + ask) / 2e6, math.nan)
    return books.exchange_ns[in_session], mids[in_session]


@needs_data
def test_the_small_contract_moves_a_grid_step_before_the_large_one() -> None:
    """Published figures for TXFD6 (X) and TMFD6 (Y): lags −1 s … 1 s by 10 ms."""
    lags = np.arange(-1000, 1001, 10) * 1_000_000
    large, small = mids_of_the_day("TXFD6_2026-04-10"), mids_of_the_day("TMFD6_2026-04-10")
    for found in (lead_lag(*large, *small, lags), reference.lead_lag(*large, *small, lags)):
        assert round(found.correlation[100].item(), 3) == 0.866
        assert (found.best_lag_ns, round(found.best_correlation, 3)) == (-10_000_000, 0.907)
        assert round(found.ratio, 3) == 1.148
    rows = merged(large, small, y_first=False)
    state = HayashiYoshida()
    state.update_many(*rows)
    [expected] = hayashi_yoshida(*large, *small, np.zeros(1, np.int64))
    assert state.value == expected
    assert round(state.correlation, 3) == 0.866
