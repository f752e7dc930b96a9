"""Kyle's λ, Amihud, Roll: the rolling form is the batch over its window, and both are the numbers of a real day."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_data import needs_data
from signal_columns import SECOND, Column, assert_same, futures, marks, session_open_ns, session_trades

from rust_indicators import EMPTY_PRICE_E6, Amihud, KyleLambda, Roll, Validity, _rust, amihud, kyle_lambda, roll_spread
from rust_indicators.reference import impact as reference

BACKENDS = pytest.mark.parametrize("backend", [_rust, reference])
NAN = math.nan


def column_of(values: st.SearchStrategy[int], rows: int) -> st.SearchStrategy[Column]:
    return st.lists(values, min_size=rows, max_size=rows).map(lambda found: np.array(found, np.int64))


@st.composite
def columns_of(draw: st.DrawFn, *values: st.SearchStrategy[int], rows_max: int = 40) -> tuple[Column, ...]:
    rows = draw(st.integers(0, rows_max))
    return tuple(draw(column_of(each, rows)) for each in values)


changes = st.one_of(st.integers(-5, 5).map(lambda ticks: ticks * 500_000), st.sampled_from((-(2**47), 2**47)))
lots = st.one_of(st.integers(-9, 9), st.just(3), st.sampled_from((-(2**47), 2**47)))
prices = st.one_of(st.integers(-4, 4).map(lambda ticks: ticks * 10**6), st.sampled_from((-(2**46), 2**46)))
quoted = st.one_of(st.integers(95, 105).map(lambda ticks: ticks * 10**6), st.sampled_from((1, 2**46)))
values = st.one_of(st.just(0), st.integers(1, 10**12), st.just(2**63 - 1))

# Streaming class, batch, columns, its window, the batch's part that the class gives, and how near they are.
STREAMS = [
    ("KyleLambda", lambda *c: kyle_lambda(*c)[0], columns_of(changes, lots), st.integers(2, 8), 0.0),
    ("Roll", roll_spread, columns_of(prices), st.integers(4, 9), 0.0),
    ("Amihud", amihud, columns_of(quoted, values), st.integers(1, 8), 1e-12),
]


@pytest.mark.parametrize(("name", "_batch", "columns", "windows", "relative"), STREAMS)
@given(data=st.data())
def test_streaming_and_reference_agree(
    name: str, _batch: Any, columns: Any, windows: Any, relative: float, data: st.DataObject
) -> None:
    given_, window = data.draw(columns), data.draw(windows)
    restart = data.draw(marks(len(given_[0])))
    ours, theirs, one_by_one = (
        of(window) for of in (getattr(_rust, name), getattr(reference, name), getattr(_rust, name))
    )
    cut = data.draw(st.integers(0, len(restart)))
    for part in (slice(0, cut), slice(cut, None)):
        rows = [column[part] for column in given_]
        found, valid = ours.update_many(*rows, restart=restart[part])
        expected, expected_valid = theirs.update_many(*rows, restart=restart[part])
        assert_same(found, expected, relative)
        assert_same(valid, expected_valid)
        assert_same(np.isnan(found), valid != Validity.VALID)
        assert_same([ours.value, ours.validity], [theirs.value, theirs.validity], relative)
        for row, mark in enumerate(restart[part].tolist()):
            if mark:
                one_by_one.reset() if mark == 1 else one_by_one.taint()
            assert_same(one_by_one.update(*(int(column[row]) for column in rows)), found[row])
            assert one_by_one.validity == valid[row]


@pytest.mark.parametrize(("name", "batch", "columns", "windows", "relative"), STREAMS[:2])
@given(data=st.data())
def test_the_rolling_value_is_the_batch_over_its_window(
    name: str, batch: Any, columns: Any, windows: Any, relative: float, data: st.DataObject
) -> None:
    given_, window = data.draw(columns), data.draw(windows)
    found, _ = getattr(_rust, name)(window).update_many(*given_)
    for row in range(len(found)):
        part = [column[max(0, row + 1 - window) : row + 1] for column in given_]
        assert_same(found[row], batch(*part) if row + 1 >= window else NAN)


@given(columns_of(quoted, values), st.integers(1, 8))
def test_rolling_amihud_is_the_mean_of_the_last_windows_that_traded(columns: tuple[Column, ...], windows: int) -> None:
    price, value = columns
    found, _ = Amihud(windows).update_many(price, value)
    traded = np.flatnonzero(value[1:] > 0) + 1
    terms = np.abs(np.diff(price))[traded - 1] / price[traded - 1] / (value[traded] / 1e6)
    for row in range(len(found)):
        last = terms[: np.searchsorted(traded, row, "right")][-windows:]
        assert_same(found[row], math.fsum(last) / windows if len(last) == windows else NAN, 1e-12)


@given(columns_of(changes, lots), columns_of(prices), columns_of(quoted, values))
def test_the_batches_and_their_reference_agree(pairs: Any, trades: Any, quotes: Any) -> None:
    assert_same(np.array(kyle_lambda(*pairs)), np.array(reference.kyle_lambda(*pairs)))
    assert_same(roll_spread(*trades), reference.roll_spread(*trades))
    assert_same(amihud(*quotes), reference.amihud(*quotes), 1e-12)


@given(columns_of(changes, lots), columns_of(prices, rows_max=20))
def test_least_squares_and_covariance_are_those_of_exact_fractions(pairs: Any, trades: Any) -> None:
    change, volume = ([Fraction(value) for value in column.tolist()] for column in pairs)
    n = len(change)
    slope, intercept, _ = kyle_lambda(*pairs)
    if len(set(volume)) < 2:
        assert math.isnan(slope)
    else:
        mean_x, mean_y = sum(volume) / n, sum(change) / n
        beta = sum((x - mean_x) * (y - mean_y) for x, y in zip(volume, change, strict=True))
        beta /= sum((x - mean_x) ** 2 for x in volume)
        assert slope == pytest.approx(float(beta / 10**6), rel=1e-14)
        scale = max(abs(mean_y), abs(beta * mean_x), 1)
        assert abs(Fraction(intercept) * 10**6 - (mean_y - beta * mean_x)) <= scale * Fraction(1, 10**13)
    moves = [Fraction(int(b) - int(a)) for a, b in zip(trades[0], trades[0][1:], strict=False)]
    now, before = moves[1:], moves[:-1]
    covariance = Fraction(0)
    if now:
        covariance = sum(x * y for x, y in zip(now, before, strict=True)) / len(now)
        covariance -= sum(now) * sum(before) / len(now) ** 2
    expected = 2 * math.sqrt(-covariance) / 1e6 if covariance < 0 else NAN
    assert_same(roll_spread(*trades), expected, 1e-13)


@given(columns_of(st.integers(-50, 50).map(lambda t: t * 1000), st.integers(-9, 9)), st.integers(1, 1000))
def test_kyle_scales_as_price_per_lot_and_turns_with_the_side(pairs: Any, factor: int) -> None:
    change, volume = pairs
    slope, intercept, r_squared = kyle_lambda(change, volume)
    np.testing.assert_allclose(
        kyle_lambda(change * factor, volume)[:2], (slope * factor, intercept * factor), atol=1e-12
    )
    np.testing.assert_allclose(kyle_lambda(change, -volume), (-slope, intercept, r_squared), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(kyle_lambda(change, volume * factor)[0], slope / factor, rtol=1e-12)
    assert math.isnan(r_squared) or 0 <= r_squared <= 1


@BACKENDS
def test_kyle_by_hand_and_what_no_line_goes_through(backend: Any) -> None:
    change, volume = np.array([1, 2, 3, 5], np.int64) * 10**6, np.array([0, 1, 2, 3], np.int64)
    assert_same(np.array(backend.kyle_lambda(change, volume)), np.array([1.3, 0.8, 1.3**2 * 5 / 8.75]), 1e-15)
    assert_same(np.array(backend.kyle_lambda(change, volume * 0 + 7)), np.array([NAN] * 3))
    assert_same(np.array(backend.kyle_lambda(change * 0, volume)), np.array([0.0, 0.0, NAN]))
    assert_same(np.array(backend.kyle_lambda(change[:0], volume[:0])), np.array([NAN] * 3))
    state = backend.KyleLambda(2)
    steps = [(state.update(*row), state.validity) for row in ((0, 4), (3_000_000, 5), (9, 5))]
    assert_same(
        np.array(steps), np.array([(NAN, Validity.WARMING_UP), (3.0, Validity.VALID), (NAN, Validity.UNDEFINED)])
    )
    assert math.isnan(state.intercept) and math.isnan(state.r_squared)
    state.update(2_000_009, 4)
    assert (state.value, state.intercept, state.r_squared) == (-2.0, pytest.approx(10.000009), 1.0)
    state.taint()
    assert math.isnan(state.value) and math.isnan(state.intercept) and state.validity == Validity.TAINTED
    state.reset()
    assert state.validity == Validity.WARMING_UP


@BACKENDS
def test_roll_by_hand(backend: Any) -> None:
    bounce = np.array([100, 102, 100, 102, 100], np.int64) * 10**6
    # Changes +2 −2 +2 −2: pairs (−2, 2), (2, −2), (−2, 2), means −2/3 and 2/3: covariance −4 + 4/9.
    assert backend.roll_spread(bounce) == pytest.approx(2 * math.sqrt(4 - 4 / 9), rel=1e-15)
    for no_bounce in (bounce[:3], np.arange(9) * 10**6, bounce[:0]):
        assert math.isnan(backend.roll_spread(no_bounce))
    state = backend.Roll(4)
    found = [(state.update(price), state.validity) for price in (100, 100, 103, 100, 103, 106, 110)]
    assert [validity for _, validity in found] == [0, 0, 0, 1, 1, 3, 3]
    assert found[4][0] == backend.roll_spread(np.array([100, 103, 100, 103]))


@BACKENDS
def test_amihud_by_hand(backend: Any) -> None:
    price = np.array([100, 101, 101, 99, 90], np.int64) * 10**6
    value = np.array([5, 200, 300, 0, 50], np.int64) * 10**6
    # The window without value has no term, but the return after it is from its price.
    expected = (0.01 / 200 + 0 + (9 / 99) / 50) / 3
    assert backend.amihud(price, value) == pytest.approx(expected, rel=1e-14)
    assert math.isnan(backend.amihud(price, value * 0)) and math.isnan(backend.amihud(price[:1], value[:1]))
    state = backend.Amihud(2)
    found = [state.update(*row) for row in zip(price.tolist(), value.tolist(), strict=True)]
    assert_same(np.array(found), np.array([NAN, NAN, 0.01 / 400, 0.01 / 400, 9 / 99 / 100]), 1e-14)


def test_a_huge_term_that_has_left_the_window_leaves_no_error() -> None:
    price = np.array([1, 2**46, *([10**6, 10**6 + 1] * 8)], np.int64)
    value = np.array([1, 1, *([2**62] * 16)], np.int64)
    assert_same(Amihud(3).update_many(price, value)[0][6:], reference.Amihud(3).update_many(price, value)[0][6:], 1e-12)


C = np.array([5, 6], np.int64)
REFUSED = [
    ("kyle_lambda", "KyleLambda", (C.astype(float), C), "price_change_e6: must be a 1-dimensional array of int64"),
    ("kyle_lambda", "KyleLambda", (C, C[:1]), "signed_volume: has 1 rows, price_change_e6 has 2"),
    ("kyle_lambda", "KyleLambda", (C + 2**47, C), "price_change_e6: row 0: 140737488355333 is not within"),
    ("kyle_lambda", "KyleLambda", (C, C - 2**48), "signed_volume: row 0: -281474976710651 is not within"),
    ("amihud", "Amihud", (C - 5, C), "price_e6: row 0: 0 is not within"),
    ("amihud", "Amihud", (C + 2**46, C), "price_e6: row 0: 70368744177669 is not within"),
    ("amihud", "Amihud", (C, 5 - C), "value_e6: row 1: -1 is negative"),
    ("amihud", "Amihud", (C, C[:1]), "value_e6: has 1 rows, price_e6 has 2"),
    ("roll_spread", "Roll", (C.reshape(1, 2),), "price_e6: must be a 1-dimensional array of int64"),
    ("roll_spread", "Roll", (np.array([EMPTY_PRICE_E6]),), "price_e6: row 0: -9223372036854775808 is not within"),
]


@pytest.mark.parametrize(("batch", "name", "arguments", "message"), REFUSED)
@BACKENDS
def test_what_cannot_be_is_refused_by_name(
    backend: Any, batch: str, name: str, arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(backend, batch)(*arguments)
    state, untouched = getattr(backend, name)(4), getattr(backend, name)(4)
    rows = [(100, 7), (300, 9), (100, 8), (350, 2), (100, 1)]
    for refused in (True, False):
        for row in rows:
            state.update(*row[: len(arguments)])
            untouched.update(*row[: len(arguments)])
        if refused:
            with pytest.raises(ValueError, match=message):
                state.update_many(*arguments)
        assert_same([state.value, state.validity], [untouched.value, untouched.validity])


@BACKENDS
def test_windows_and_single_values_are_refused_by_name(backend: Any) -> None:
    for make, message in (
        (lambda: backend.KyleLambda(1), "windows: 1 is not within 2"),
        (lambda: backend.Amihud(0), "windows: 0 is not within 1"),
        (lambda: backend.Roll(3), "trades: 3 is not within 4"),
        (lambda: backend.Roll(2**20 + 1), "trades: 1048577 is not within"),
        (lambda: backend.KyleLambda(2).update(2**47 + 1, 0), "price_change_e6: 140737488355329"),
        (lambda: backend.Amihud(2).update(0, 1), "price_e6: 0 is not within"),
        (lambda: backend.Amihud(2).update(1, -1), "value_e6: -1 is negative"),
        (lambda: backend.Roll(4).update(EMPTY_PRICE_E6), "price_e6: -9223372036854775808"),
        (lambda: backend.Roll(4).update_many(C, restart=np.array([0, 3], np.uint8)), "restart: row 1 is 3"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@cache
def ten_seconds(name: str) -> tuple[Column, Column, Column]:
    """Mid × 10⁶ at the edges from 10 s on, signed lots and Σ price × lots × 10⁶ of the windows that end there."""
    opened, books, trades = session_open_ns(name), futures(name), session_trades(name)
    edges = opened + np.arange(0, 1801) * 10 * SECOND
    bid, _, ask, _ = books.best()
    inside = (books.exchange_ns >= opened) & (books.exchange_ns <= edges[-1])
    inside &= (bid != EMPTY_PRICE_E6) & (ask != EMPTY_PRICE_E6)
    mid = ((bid + ask) // 2)[inside]
    at_edge = np.searchsorted(books.exchange_ns[inside], edges, "right") - 1
    assert at_edge[0] == -1 and at_edge[1] >= 0, "the session's first window has no mid before it"
    until = np.searchsorted(trades.exchange_ns, edges, "right")

    def within(values: Column) -> Column:
        return np.diff(np.concatenate(([0], np.cumsum(values)))[until])

    signed = np.where(trades.side == 1, trades.volume, -trades.volume)
    return mid[at_edge[1:]], within(signed), within(trades.volume * trades.price_e6)


@needs_data
@BACKENDS
def test_impact_and_spread_of_a_real_day_are_the_published_ones(backend: Any) -> None:
    mid, signed, value = ten_seconds("TXFD6_2026-04-09")
    slope, _, r_squared = backend.kyle_lambda(np.diff(mid), signed[1:])
    assert (round(slope, 6), round(r_squared, 4), len(mid)) == (0.192367, 0.3528, 1800)
    assert backend.amihud(mid, value) == pytest.approx(2.65979e-10, rel=2e-6)
    assert round(backend.roll_spread(session_trades("TXFD6_2026-04-09").price_e6), 5) == 2.33150


@needs_data
def test_the_rolling_forms_over_a_whole_real_day_end_where_the_batches_do() -> None:
    mid, signed, value = ten_seconds("TXFD6_2026-04-09")
    price = session_trades("TXFD6_2026-04-09").price_e6
    assert KyleLambda(1799).update_many(np.diff(mid), signed[1:])[0][-1] == kyle_lambda(np.diff(mid), signed[1:])[0]
    assert Roll(len(price)).update_many(price)[0][-1] == roll_spread(price)
    traded = int((value[1:] > 0).sum())
    assert Amihud(traded).update_many(mid, value)[0][-1] == pytest.approx(amihud(mid, value), rel=1e-12)


@needs_data
def test_the_mean_quoted_spread_is_wider_than_rolls() -> None:
    books = futures("TXFD6_2026-04-09")
    since_open = books.exchange_ns - session_open_ns("TXFD6_2026-04-09")
    bid, _, ask, _ = books.best()
    both = (since_open >= 0) & (since_open <= 18_000 * SECOND) & (bid != EMPTY_PRICE_E6) & (ask != EMPTY_PRICE_E6)
    assert (ask - bid)[both].mean() / 1e6 == pytest.approx(3.8583, abs=5e-5)
