"""Flow in windows: sums, samples, normalised and integrated OFI are the reference's, and know nothing of the future."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from signal_columns import SECOND, Column, assert_same, book_columns, marks

from rust_indicators import (
    EMPTY_PRICE_E6,
    IntegratedOfi,
    NormalisedOfi,
    Validity,
    _rust,
    integrated_ofi,
    integrated_ofi_past,
    mlofi,
    normalised_ofi,
    ofi_weights,
    sample_last,
    window_sums,
)
from rust_indicators.reference import integrated, windows

Book = tuple[list[Column], ...]
WINDOWS = pytest.mark.parametrize("backend", [_rust, windows])
INTEGRATED = pytest.mark.parametrize("backend", [_rust, integrated])


def ascending(count_min: int, count_max: int) -> st.SearchStrategy[Column]:
    """Stamps with ties, and holes of many windows between them."""
    step = st.one_of(st.integers(0, 7), st.just(10), st.just(95))
    return st.lists(step, min_size=count_min, max_size=count_max).map(lambda steps: np.cumsum(steps, dtype=np.int64))


@given(ascending(0, 30), ascending(1, 9), st.data())
def test_window_sums_and_samples_are_the_references(stamps: Column, edges: Column, data: st.DataObject) -> None:
    value = st.one_of(st.integers(-9, 9), st.sampled_from((2**62, -(2**62))))
    values = np.array(data.draw(st.lists(value, min_size=len(stamps), max_size=len(stamps))), np.int64)
    assert_same(sample_last(stamps, edges), windows.sample_last(stamps, edges))
    try:
        expected = windows.window_sums(stamps, values, edges)
    except ValueError as refused:
        with pytest.raises(ValueError, match=str(refused)):
            window_sums(stamps, values, edges)
    else:
        assert_same(window_sums(stamps, values, edges), expected)


@WINDOWS
def test_an_event_on_an_edge_belongs_to_the_window_that_ends_there(backend: Any) -> None:
    stamps, values = np.array([0, 10, 10, 11, 20, 21]), np.array([1, 2, 4, 8, 16, 32])
    assert backend.window_sums(stamps, values, np.array([0, 10, 20, 30])).tolist() == [6, 24, 32]
    assert backend.sample_last(stamps, np.array([-1, 0, 10, 15, 99])).tolist() == [-1, 0, 2, 3, 5]
    assert backend.window_sums(stamps, values, np.array([5])).tolist() == []


def streamed(state: Any, stamps: Column, book: Book) -> list[tuple[tuple[float, ...], int, int]]:
    rows = (([int(level[row]) for level in side] for side in book) for row in range(len(stamps)))
    return [
        (state.update(stamp, *sides), state.validity, state.closed)
        for stamp, sides in zip(stamps.tolist(), rows, strict=True)
    ]


@given(book_columns(rows_max=25), st.data())
def test_normalised_ofi_streams_what_the_batch_and_the_reference_say(book: Book, data: st.DataObject) -> None:
    rows, levels = len(book[0][0]), len(book[0])
    stamps = data.draw(ascending(rows, rows))
    anchor = data.draw(st.integers(-30, 30))
    first = int(stamps[0]) - (int(stamps[0]) - anchor) % 10
    edges = np.arange(first - 10, int(stamps[-1]) + 11, 10)
    given_ = (stamps, mlofi(*book), book[1], book[3], edges)
    batch = normalised_ofi(*given_)
    assert_same(batch, windows.normalised_ofi(*given_), 1e-12)
    ours, theirs = (
        streamed(kind(levels, 10, anchor_ns=anchor), stamps, book) for kind in (NormalisedOfi, windows.NormalisedOfi)
    )
    for row, stamp in enumerate(stamps):
        np.testing.assert_allclose(ours[row][0], theirs[row][0], rtol=1e-12)
        assert ours[row][1:] == theirs[row][1:]
        closed = int(np.searchsorted(edges, stamp, side="left")) - 2  # the last window that ended before this stamp
        began = int(np.searchsorted(edges, stamps[0], side="left")) - 1
        if closed > began:  # the window in which it began was not seen whole
            np.testing.assert_allclose(ours[row][0], batch[:, closed], rtol=1e-12)
            assert ours[row][1] == (Validity.UNDEFINED if np.isnan(batch[0, closed]) else Validity.VALID)
            assert ours[row][2] == closed - began
        else:
            assert np.isnan(ours[row][0]).all() and ours[row][1:] == (Validity.WARMING_UP, 0)


@given(book_columns(rows_max=25), st.data())
def test_normalised_ofi_of_columns_is_that_of_events(book: Book, data: st.DataObject) -> None:
    rows, levels = len(book[0][0]), len(book[0])
    stamps, restart = data.draw(ascending(rows, rows)), data.draw(marks(rows))
    ours, theirs = NormalisedOfi(levels, 10), windows.NormalisedOfi(levels, 10)
    cut = data.draw(st.integers(0, rows))
    for part in (slice(0, cut), slice(cut, None)):
        given_ = (stamps[part], *([column[part] for column in side] for side in book))
        one, other = (state.update_many(*given_, restart=restart[part]) for state in (ours, theirs))
        assert_same(one[0], other[0], 1e-12)
        assert_same(one[1], other[1])
        assert (ours.validity, ours.closed) == (theirs.validity, theirs.closed)


@WINDOWS
def test_normalised_ofi_by_hand(backend: Any) -> None:
    state = backend.NormalisedOfi(1, 10 * SECOND, anchor_ns=5 * SECOND)
    book = ([100], [4], [101], [6])
    assert np.isnan(state.update(6 * SECOND, *book)[0])  # (5, 15] is not known to be whole
    assert state.validity == Validity.WARMING_UP
    assert np.isnan(state.update(16 * SECOND, *book)[0])
    state.update(25 * SECOND, [100], [10], [101], [6])  # on the edge: within (15, 25]
    [value] = state.update(26 * SECOND, *book)
    assert value == pytest.approx(6 / ((5 + 8) / 2))  # +6 lots; depth 5 at one event, 8 at the other
    assert (state.validity, state.closed) == (Validity.VALID, 1)
    [value] = state.update(60 * SECOND, *book)  # (35, 45] and (45, 55] passed without an event
    assert (value, state.closed) == (0.0, 4)
    state.taint()
    assert state.validity == Validity.TAINTED and np.isnan(state.value[0])
    state.update(61 * SECOND, *book)
    state.update(70 * SECOND, *book)
    assert state.validity == Validity.TAINTED
    state.update(90 * SECOND, *book)
    assert (state.validity, state.value, state.closed) == (Validity.VALID, (0.0,), 2)  # (65, 75] and (75, 85]


@WINDOWS
def test_a_window_that_quotes_nothing_is_undefined(backend: Any) -> None:
    state = backend.NormalisedOfi(1, 10)
    empty = ([EMPTY_PRICE_E6], [0], [EMPTY_PRICE_E6], [0])
    for stamp in (1, 11, 21):
        state.update(stamp, *empty)
    assert state.validity == Validity.UNDEFINED and np.isnan(state.value[0])


@WINDOWS
def test_stamps_at_both_ends_of_int64_are_taken(backend: Any) -> None:
    state = backend.NormalisedOfi(1, 2**62, anchor_ns=-(2**63))
    book = ([100], [4], [101], [6])
    for stamp in (-(2**63), -1, 2**63 - 1):
        state.update(stamp, *book)
    assert state.closed == 3  # to −2⁶² without an event, to 0 with one, to 2⁶² without one


def table(levels: int, count: int, noise: float, seed: int) -> NDArray[np.float64]:
    """Windows of levels that move together: the leading eigenvalue stands apart."""
    random = np.random.default_rng(seed)
    factor = random.normal(size=count)
    return np.ascontiguousarray(
        random.uniform(0.5, 1.5, levels)[:, None] * factor + noise * random.normal(size=(levels, count))
    )


tables = st.builds(table, st.integers(1, 10), st.integers(3, 40), st.floats(0.01, 0.3), st.integers(0, 2**32 - 1))


def assert_close(ours: Any, theirs: Any, scale: float = 1.0) -> None:
    """Within 1e-12 of the magnitude of what was summed: the sum itself may be near 0."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12 * scale, equal_nan=True)


@given(tables)
def test_weights_are_the_first_principal_component(normalised: NDArray[np.float64]) -> None:
    weights = ofi_weights(normalised)
    assert_close(weights, integrated.ofi_weights(normalised))
    assert np.abs(weights).sum() == pytest.approx(1) and weights.sum() > 0
    covariance = np.cov(normalised).reshape(len(weights), -1)
    leading = np.linalg.eigvalsh(covariance)[-1]
    np.testing.assert_allclose(covariance @ weights, leading * weights, atol=1e-10 * leading)


@given(tables, st.integers(2, 6), st.data())
def test_integrated_ofi_batch_streaming_and_reference_agree(
    normalised: NDArray[np.float64], warm_up: int, data: st.DataObject
) -> None:
    levels, count = normalised.shape
    magnitude = float(np.abs(normalised).max())
    weights = ofi_weights(normalised)
    assert_close(integrated_ofi(normalised, weights), integrated.integrated_ofi(normalised, weights), magnitude)
    past = integrated_ofi_past(normalised, warm_up)
    assert np.isnan(past[:warm_up]).all() and not np.isnan(past[warm_up:]).any()
    ours, theirs = IntegratedOfi(levels, warm_up), integrated.IntegratedOfi(levels, warm_up)
    assert_same(np.array([ours.update(window.tolist()) for window in normalised.T]), past)
    # With fewer windows than levels the leading eigenvalue still stands apart: the factor is most of them.
    assert_close(past, integrated.integrated_ofi_past(normalised, warm_up), magnitude)
    ours.reset()
    restart = data.draw(marks(count))
    one, other = (state.update_many(normalised, restart=restart) for state in (ours, theirs))
    assert_close(one[0], other[0], magnitude)
    assert_same(one[1], other[1])
    assert_close(ours.weights, theirs.weights)


@given(tables, st.data())
@pytest.mark.parametrize("past", [integrated_ofi_past, integrated.integrated_ofi_past])
def test_another_future_changes_no_value_of_the_past(
    past: Any, normalised: NDArray[np.float64], data: st.DataObject
) -> None:
    now = data.draw(st.integers(0, normalised.shape[1] - 1))
    other = normalised.copy()
    other[:, now + 1 :] = np.random.default_rng(1).normal(size=other[:, now + 1 :].shape) * 1e6
    assert_same(past(other, 2)[: now + 1], past(normalised, 2)[: now + 1])


@given(tables)
def test_the_integrated_value_scales_with_the_flow_and_keeps_the_order_of_levels(
    normalised: NDArray[np.float64],
) -> None:
    past, magnitude = integrated_ofi_past(normalised, 2), float(np.abs(normalised).max())
    assert_same(integrated_ofi_past(4 * normalised, 2), 4 * past)
    assert_close(integrated_ofi_past(normalised[::-1].copy(), 2), past, magnitude)


@INTEGRATED
def test_a_window_without_quotes_is_undefined_and_not_learnt(backend: Any) -> None:
    state = backend.IntegratedOfi(2, 2)
    for window in ((1.0, 1.0), (2.0, 2.0)):
        state.update(window)
    assert (state.validity, state.weights) == (Validity.WARMING_UP, pytest.approx((np.nan, np.nan), nan_ok=True))
    assert np.isnan(state.update((np.nan, 1.0))) and state.validity == Validity.UNDEFINED
    assert state.update((3.0, 5.0)) == pytest.approx(4.0)
    assert (state.validity, state.weights) == (Validity.VALID, pytest.approx((0.5, 0.5)))
    still = backend.IntegratedOfi(2, 2)
    for _ in range(3):
        still.update((7.1, 7.3))
    assert np.isnan(still.value) and still.validity == Validity.UNDEFINED
    still.taint()
    still.update((1.0, 1.0))
    assert still.validity == Validity.TAINTED


STAMPS, VALUES, EDGES = np.array([1, 2]), np.array([3, 4]), np.array([0, 10, 20])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("window_sums", (STAMPS[::-1].copy(), VALUES, EDGES), "exchange_ns: goes back at row 1"),
        ("window_sums", (STAMPS, VALUES, EDGES[::-1].copy()), "edges_ns: goes back at row 1"),
        ("window_sums", (STAMPS, VALUES, EDGES[:0]), "edges_ns: has no edge"),
        ("window_sums", (STAMPS, VALUES[:1], EDGES), "values: has 1 rows, exchange_ns has 2"),
        ("window_sums", (STAMPS, VALUES.astype(float), EDGES), "values: must be a 1-dimensional array of int64"),
        ("sample_last", (STAMPS, EDGES.astype(float)), "edges_ns: must be a 1-dimensional array of int64"),
        ("normalised_ofi", (STAMPS, [VALUES], [VALUES], [-VALUES], EDGES), r"ask_volume\[0\]: row 0: -3 is not within"),
        ("normalised_ofi", (STAMPS, [VALUES], [VALUES] * 2, [VALUES], EDGES), "bid_volume: has 2 levels, contrib"),
        ("normalised_ofi", (STAMPS, [VALUES[:1]], [VALUES], [VALUES], EDGES), r"contributions\[0\]: has 1 rows"),
        ("normalised_ofi", (STAMPS, [VALUES], [VALUES], [VALUES], EDGES[:0]), "edges_ns: has no edge"),
        ("NormalisedOfi", (0, 10), "levels: has 0 levels"),
        ("NormalisedOfi", (-1, 10), "levels: has -1 levels"),
        ("NormalisedOfi", (1, 0), "window_ns: 0 is not above 0"),
    ],
)
@WINDOWS
def test_what_makes_no_windows_is_refused_by_name(
    backend: Any, name: str, arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(backend, name)(*arguments)


@WINDOWS
def test_a_refused_event_leaves_no_trace(backend: Any) -> None:
    state, other = backend.NormalisedOfi(1, 10), backend.NormalisedOfi(1, 10)
    book = ([100], [4], [101], [6])
    for stamp in (1, 11, 12):
        state.update(stamp, *book), other.update(stamp, *book)
    with pytest.raises(ValueError, match="exchange_ns: 11 is before the last event"):
        state.update(11, *book)
    with pytest.raises(ValueError, match=r"bid_volume(\[0\])?: "):
        state.update(99, [100], [-4], [101], [6])
    columns = [[np.array(side)] for side in book]
    with pytest.raises(ValueError, match="exchange_ns: row 0: 11 is before the last event"):
        state.update_many(np.array([11]), *columns)
    with pytest.raises(ValueError, match="restart: row 0 is 9"):
        state.update_many(np.array([99]), *columns, restart=np.array([9], np.uint8))
    assert state.update(21, [100], [9], [101], [6]) == other.update(21, [100], [9], [101], [6])
    assert (state.closed, state.validity) == (other.closed, other.validity) == (1, Validity.VALID)


ONE = np.array([1.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ofi_weights", ([ONE[:1]],), "normalised: has 1 windows, not 2 or more"),
        ("ofi_weights", ([ONE, ONE * np.nan],), "normalised: level 1 has a NaN"),
        ("ofi_weights", ([ONE, ONE * np.inf],), "normalised: inf is not within"),
        ("ofi_weights", ([ONE, ONE[:2]],), "normalised: level 1 has 2 rows, level 0 has 3"),
        ("ofi_weights", ([ONE * 0 + 7.1],), "normalised: does not vary"),
        ("ofi_weights", ([ONE] * 11,), "normalised: has 11 levels"),
        ("integrated_ofi", ([ONE], ONE), "weights: has 3 rows, normalised has 1 levels"),
        ("integrated_ofi", ([ONE], ONE[:1] * 0), "weights: their magnitudes sum to 0"),
        ("integrated_ofi", ([ONE], ONE[:1] * np.nan), "weights: their magnitudes sum to"),
        ("integrated_ofi_past", ([ONE], 1), "warm_up: 1 is not 2 or more"),
        ("integrated_ofi_past", ([VALUES], 2), r"normalised\[0\]: must be a 1-dimensional array of float64"),
        ("IntegratedOfi", (11, 2), "levels: has 11 levels"),
        ("IntegratedOfi", (1, -3), "warm_up: -3 is not 2 or more"),
    ],
)
@INTEGRATED
def test_what_cannot_be_integrated_is_refused_by_name(
    backend: Any, name: str, arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(backend, name)(*arguments)


@INTEGRATED
def test_a_refused_window_leaves_no_trace(backend: Any) -> None:
    state = backend.IntegratedOfi(1, 2)
    for window, message in (((1.0, 2.0), "normalised: has 2 levels, not 1"), ((1e101,), "is not within"),
                            (("x",), r"normalised\[0\]: x is no number")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            state.update(window)
    with pytest.raises(ValueError, match="normalised: has 2 levels, not 1"):
        state.update_many([ONE, ONE])
    for value in (1.0, 2.0):
        assert np.isnan(state.update((value,)))
    assert state.update((5.0,)) == 5.0
