"""Events that excite each other: kernel, streaming form and reference are one thing, and it is the published one."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hawkes_paths import by_definition, kolmogorov, rising_stamps, simulated, trades
from hypothesis import given
from hypothesis import strategies as st
from real_data import needs_data
from signal_columns import SECOND, Column, assert_same, marks

from rust_indicators import Validity, _rust
from rust_indicators.reference import hawkes as reference

Rates = tuple[float, float, float]
BACKENDS = pytest.mark.parametrize("backend", [_rust, reference], ids=["rust", "reference"])
PATH = (0.8, 9.0, 22.7)  # near that of real trades
RELATIVE = 1e-12

rate = st.one_of(st.floats(-6, 6).map(lambda power: 10.0**power), st.sampled_from((1e-30, 1e30)))
rates = st.tuples(rate, st.one_of(st.just(0.0), rate), rate)


@given(rising_stamps(), rates, st.data())
def test_intensity_batch_streaming_and_reference_agree(stamps: Column, rates: Rates, data: st.DataObject) -> None:
    restart = data.draw(marks(len(stamps)))
    expected = reference.hawkes_intensity(stamps, *rates, restart=restart)
    assert_same(_rust.hawkes_intensity(stamps, *rates, restart=restart), expected, RELATIVE)
    ours, theirs = _rust.Hawkes(*rates), reference.Hawkes(*rates)
    cut = data.draw(st.integers(0, len(stamps)))
    for part in (slice(0, cut), slice(cut, None)):
        (values, valid), (their_values, their_valid) = (
            state.update_many(stamps[part], restart=restart[part]) for state in (ours, theirs)
        )
        assert_same(values, their_values, RELATIVE)
        assert_same(valid, their_valid)
        assert_same(values, expected[part], RELATIVE)
        assert ours.validity == theirs.validity
        assert_same(np.float64(ours.value), np.float64(theirs.value), RELATIVE)


@given(rising_stamps(rows_max=300), rates, st.data())
def test_however_events_are_handed_over_the_bits_are_the_same(
    stamps: Column, rates: Rates, data: st.DataObject
) -> None:
    restart = data.draw(marks(len(stamps)))
    batch = _rust.hawkes_intensity(stamps, *rates, restart=restart)
    parts, state = [], _rust.Hawkes(*rates)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stamps)), max_size=5)))
    for begin, end in zip([0, *cuts], [*cuts, len(stamps)], strict=True):
        parts.append(state.update_many(stamps[begin:end], restart=restart[begin:end])[0])
    assert_same(np.concatenate(parts), batch)
    one_by_one = _rust.Hawkes(*rates)
    for row, (stamp, mark) in enumerate(zip(stamps.tolist(), restart.tolist(), strict=True)):
        if mark:
            (one_by_one.reset if mark == 1 else one_by_one.taint)()
        ahead, value, after = one_by_one.intensity_at(stamp), one_by_one.update(stamp), one_by_one.intensity_at(stamp)
        assert_same(np.array([ahead, value, after]), np.repeat(batch[row], 3))  # left limits, all three


def test_a_long_path_has_the_same_bits_one_by_one() -> None:
    stamps = simulated(*PATH, 3600.0, 1)
    state = _rust.Hawkes(*PATH)
    assert_same(np.array([state.update(stamp) for stamp in stamps.tolist()]), _rust.hawkes_intensity(stamps, *PATH))
    assert_same(_rust.hawkes_intensity(stamps, *PATH), reference.hawkes_intensity(stamps, *PATH), RELATIVE)


@given(rising_stamps(), rates, st.integers(1, 10**12))
def test_likelihood_gradient_and_residuals_agree_with_the_reference(stamps: Column, rates: Rates, rest: int) -> None:
    mu, alpha, beta = rates
    window = (int(stamps[0]) - 1 if stamps[0] > -(2**63) else int(stamps[0]), min(int(stamps[-1]) + rest, 2**63 - 1))
    if window[0] == window[1]:
        return
    ours, theirs = (backend.hawkes_residuals(stamps, *rates) for backend in (_rust, reference))
    assert_same(ours, theirs, RELATIVE)
    intensity = reference.hawkes_intensity(stamps, *rates)
    integral = mu * (window[1] - window[0]) / SECOND + alpha / beta * len(stamps)
    terms = np.abs(np.log(intensity)).sum() + integral
    ours, theirs = (backend.hawkes_log_likelihood(stamps, *rates, *window) for backend in (_rust, reference))
    assert ours == pytest.approx(theirs, rel=0, abs=RELATIVE * terms)
    ours, theirs = (np.array(backend.hawkes_gradient(stamps, *rates, *window)) for backend in (_rust, reference))
    # By the logarithms of the rates, which is what a fit sees, each sum is made of at most so much.
    np.testing.assert_array_less(np.abs(ours - theirs) * [mu, alpha, beta], RELATIVE * (1 + len(stamps) * 3 + integral))


@BACKENDS
@pytest.mark.parametrize("rates", [PATH, (2.0, 0.0, 1.0), (0.5, 0.02, 0.05), (1.0, 3.0, 2.0)])
def test_every_pair_of_events_gives_the_same(backend: ModuleType, rates: Rates) -> None:
    stamps = simulated(*PATH, 300.0, 2)
    end_ns = 300 * SECOND
    matrices = (np.array([rates[0]]), np.array([[rates[1]]]), np.array([[rates[2]]]))
    nothing = np.zeros(len(stamps), np.uint8)
    intensity, likelihood, terms = by_definition(stamps, nothing, *matrices, 0, end_ns)
    np.testing.assert_allclose(backend.hawkes_intensity(stamps, *rates), intensity[0], rtol=RELATIVE)
    assert backend.hawkes_log_likelihood(stamps, *rates, 0, end_ns) == pytest.approx(
        likelihood, rel=0, abs=1e-14 * terms
    )
    [halfway] = by_definition(np.append(stamps, stamps[-1] + SECOND), np.append(nothing, 0).astype(np.uint8),
                              *matrices, 0, end_ns)[0][:, -1]  # fmt: skip
    state = backend.Hawkes(*rates)
    state.update_many(stamps)
    assert state.intensity_at(int(stamps[-1]) + SECOND) == pytest.approx(halfway, rel=RELATIVE)


@BACKENDS
def test_the_gradient_is_the_slope_of_the_likelihood(backend: ModuleType) -> None:
    stamps, window = simulated(*PATH, 300.0, 2), (0, 300 * SECOND)
    for at, slope in enumerate(backend.hawkes_gradient(stamps, *PATH, *window)):
        step = 1e-5 * PATH[at]
        above, below = (
            backend.hawkes_log_likelihood(stamps, *(p + sign * step * (k == at) for k, p in enumerate(PATH)), *window)
            for sign in (1, -1)
        )
        assert slope == pytest.approx((above - below) / (2 * step), rel=1e-6)


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=40), st.integers(-(2**63), 2**62), rates)
def test_only_the_time_between_events_counts(gaps: list[int], shift: int, rates: Rates) -> None:
    stamps = np.cumsum(np.array(gaps, np.int64))
    assert_same(_rust.hawkes_intensity(stamps + shift, *rates), _rust.hawkes_intensity(stamps, *rates))
    assert_same(_rust.hawkes_residuals(stamps + shift, *rates), _rust.hawkes_residuals(stamps, *rates))


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=40), st.integers(2, 1000))
def test_a_slower_clock_has_lower_rates(gaps: list[int], slower: int) -> None:
    stamps = np.cumsum(np.array(gaps, np.int64))
    rates = tuple(value / slower for value in PATH)
    assert_same(_rust.hawkes_intensity(stamps * slower, *rates) * slower, _rust.hawkes_intensity(stamps, *PATH), 1e-11)
    likelihoods = [
        _rust.hawkes_log_likelihood(stamps, *PATH, 0, int(stamps[-1]) + 5),
        _rust.hawkes_log_likelihood(stamps * slower, *rates, 0, (int(stamps[-1]) + 5) * slower),  # type: ignore[arg-type]
    ]
    assert likelihoods[1] == pytest.approx(likelihoods[0] - len(stamps) * math.log(slower), abs=1e-9 * len(stamps))


@BACKENDS
def test_without_excitation_it_is_a_poisson_process(backend: ModuleType) -> None:
    stamps, rates = simulated(*PATH, 300.0, 2), (3.5, 0.0, 1.0)
    assert set(backend.hawkes_intensity(stamps, *rates).tolist()) == {3.5}
    expected = len(stamps) * math.log(3.5) - 3.5 * 300
    assert backend.hawkes_log_likelihood(stamps, *rates, 0, 300 * SECOND) == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(backend.hawkes_residuals(stamps, *rates), 3.5e-9 * np.diff(stamps), rtol=1e-14)
    none = stamps[:0]
    assert backend.hawkes_log_likelihood(none, *PATH, 0, 10 * SECOND) == pytest.approx(-8.0, rel=1e-15)
    assert backend.hawkes_gradient(none, *PATH, 0, 10 * SECOND) == pytest.approx((-10.0, 0.0, 0.0))
    assert len(backend.hawkes_residuals(none, *PATH)) == 0 == len(backend.hawkes_residuals(stamps[:1], *PATH))


def test_time_told_by_the_process_itself_has_exponential_gaps() -> None:
    stamps = simulated(*PATH, 3600.0, 1)
    assert len(stamps) > 4000
    assert kolmogorov(_rust.hawkes_residuals(stamps, *PATH)) < 1.95
    assert kolmogorov(_rust.hawkes_residuals(stamps, len(stamps) / 3600, 0.0, 1.0)) > 5  # not Poisson
    assert kolmogorov(_rust.hawkes_residuals(stamps, PATH[0], PATH[1], PATH[2] * 1.2)) > 1.95


@BACKENDS
def test_hawkes_by_hand(backend: ModuleType) -> None:
    state = backend.Hawkes(1.0, 2.0, math.log(2))  # the excitation halves every second
    assert (state.validity, math.isnan(state.value), state.intensity_at(5)) == (Validity.WARMING_UP, True, 1.0)
    seen = [state.update(second * SECOND) for second in (0, 1, 2, 12)]
    assert seen == pytest.approx([1, 1 + 2 / 2, 1 + 2 * (1 / 2 + 1 / 4), 1 + 2 * 1.75 / 1024], rel=1e-14)
    assert (state.validity, state.value) == (Validity.VALID, seen[-1])
    assert state.intensity_at(12 * SECOND) == seen[-1]
    assert state.intensity_at(13 * SECOND) == pytest.approx(1 + 2 * (1 + 1.75 / 1024) / 2, rel=1e-14)
    state.reset()
    assert (state.update(3 * SECOND), state.validity) == (1.0, Validity.VALID)  # another session, an earlier stamp
    assert backend.branching_ratio(9.0, 22.5) == pytest.approx(0.4)
    assert backend.distinct_stamps(np.array([3, 3, 4, 9, 9, 9], np.int64)).tolist() == [3, 4, 9]


@BACKENDS
def test_after_a_gap_it_says_so_for_ten_decays(backend: ModuleType) -> None:
    state = backend.Hawkes(1.0, 2.0, 2.0)
    state.update(0)
    state.taint()
    assert (state.validity, math.isnan(state.value), math.isnan(state.intensity_at(9))) == (2, True, True)
    values, validity = state.update_many(np.array([7, 8, 11, 12, 13], np.int64) * SECOND)
    assert validity.tolist() == [2, 2, 2, 1, 1]
    assert np.isnan(values).tolist() == [True, True, True, False, False]
    assert values[3] == pytest.approx(1 + 2 * sum(math.exp(-2 * ago) for ago in (1, 4, 5)))
    state.taint()
    assert math.isnan(state.update(20 * SECOND)) and math.isnan(state.intensity_at(25 * SECOND - 1))
    assert state.intensity_at(25 * SECOND) == pytest.approx(1 + 2 * math.exp(-10))


T = np.array([1, 2, 3], np.int64) * SECOND
REFUSED: list[tuple[Callable[[Any], Any], str]] = [
    (lambda b: b.hawkes_intensity(T.astype(float), *PATH), "exchange_ns: must be a 1-dimensional array of int64"),
    (lambda b: b.hawkes_intensity(T[::2], *PATH), "exchange_ns: is not contiguous"),
    (lambda b: b.hawkes_intensity(T[::-1].copy(), *PATH), "exchange_ns: goes back at row 1"),
    (lambda b: b.hawkes_intensity(T[[0, 1, 1]], *PATH), "exchange_ns: row 2 has the stamp .*distinct_stamps"),
    (lambda b: b.hawkes_residuals(T[[0, 0]], *PATH), "exchange_ns: row 1 has the stamp"),
    (lambda b: b.distinct_stamps(T[::-1].copy()), "exchange_ns: goes back at row 1"),
    (lambda b: b.hawkes_intensity(T, *PATH, out=np.zeros(2)), "out: must be contiguous, with 3 rows"),
    (
        lambda b: b.hawkes_intensity(T, *PATH, out=np.zeros(3, np.int64)),
        "out: must be a 1-dimensional array of float64",
    ),
    (lambda b: b.hawkes_intensity(T, *PATH, restart=np.zeros(2, np.uint8)), "restart: has 2 rows, exchange_ns has 3"),
    (lambda b: b.hawkes_intensity(T, *PATH, restart=np.full(3, 3, np.uint8)), "restart: row 0 is 3"),
    (lambda b: b.Hawkes(0.0, 1.0, 1.0), "mu: 0(.0)? is not within"),
    (lambda b: b.Hawkes(math.nan, 1.0, 1.0), "mu: (nan|NaN) is not within"),
    (lambda b: b.Hawkes(1.0, -1.0, 1.0), "alpha: -1(.0)? is not within"),
    (lambda b: b.Hawkes(1.0, 1.0, math.inf), "beta: inf is not within"),
    (lambda b: b.hawkes_intensity(T, 1.0, 1.0, 1e31), "beta: .* is not within"),
    (lambda b: b.hawkes_residuals(T, 1.0, 1e-31, 1.0), "alpha: .* is not within"),
    (lambda b: b.branching_ratio(1.0, 0.0), "beta: 0(.0)? is not within"),
    (lambda b: b.hawkes_log_likelihood(T, *PATH, 2 * SECOND, 9 * SECOND), "start_ns: 2000000000 is after the first"),
    (lambda b: b.hawkes_gradient(T, *PATH, 0, SECOND), "end_ns: 1000000000 is before the last event, at 3000000000"),
    (lambda b: b.hawkes_log_likelihood(T[:0], *PATH, SECOND, SECOND), "end_ns: 1000000000 is not after start_ns"),
]


@BACKENDS
@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_hawkes_refuses_what_it_cannot_use_and_names_it(
    backend: ModuleType, call: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(backend)


@BACKENDS
def test_a_refusal_leaves_the_state_as_it_was(backend: ModuleType) -> None:
    state, other = backend.Hawkes(*PATH), backend.Hawkes(*PATH)
    for one in (state, other):
        one.update_many(T)
    before = (state.value, state.validity)
    for stamps in (T, T[::-1] + 9 * SECOND, T[[1, 1]] + 9 * SECOND):
        with pytest.raises(ValueError, match="exchange_ns: "):
            state.update_many(np.ascontiguousarray(stamps), restart=None)
    with pytest.raises(ValueError, match="restart: row 1"):
        state.update_many(T + 9 * SECOND, restart=np.array([1, 9, 0], np.uint8))
    for stamp in (3 * SECOND, 2 * SECOND):
        with pytest.raises(ValueError, match="exchange_ns: "):
            state.update(stamp)
    with pytest.raises(ValueError, match=r"exchange_ns: .* is before the last event"):
        state.intensity_at(2 * SECOND)
    assert (state.value, state.validity) == before
    assert state.update(4 * SECOND) == other.update(4 * SECOND)


def test_the_result_may_be_written_where_one_likes() -> None:
    for backend in (_rust, reference):
        out = np.zeros(3)
        assert backend.hawkes_intensity(T, *PATH, out=out) is out  # type: ignore[attr-defined]
        assert_same(out, backend.hawkes_intensity(T, *PATH))  # type: ignore[attr-defined]


@needs_data
def test_the_residuals_of_real_trades_are_nearer_to_exponential_than_poisson() -> None:
    stamps = _rust.distinct_stamps(trades(4500, 6300)[0])
    assert len(stamps) == 2440
    fitted, poisson = (0.8184, 9.0222, 22.767), (len(stamps) / 1800, 0.0, 1.0)
    assert (
        kolmogorov(_rust.hawkes_residuals(stamps, *fitted)) < kolmogorov(_rust.hawkes_residuals(stamps, *poisson)) / 2
    )
