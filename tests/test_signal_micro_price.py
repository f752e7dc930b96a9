"""Micro-price: kernel, stream and reference are one thing, and the table is Stoikov's out of days before."""

from __future__ import annotations

import math
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from real_data import needs_data
from signal_columns import SECOND, TICK_E6, Column, assert_same, futures, marks, touches

from rust_indicators import EMPTY_PRICE_E6, MicroPrice, Validity, _rust, micro_price, weighted_mid
from rust_indicators.calibrate import OBSERVATIONS_MIN, fit_micro_price
from rust_indicators.reference import microprice as reference

BACKENDS = pytest.mark.parametrize("backend", [_rust, reference])
Touches = tuple[Column, Column, Column, Column]
Reals = NDArray[np.float64]


@st.composite
def tables(draw: st.DrawFn) -> Reals:
    spreads, buckets = draw(st.integers(1, 8)), draw(st.sampled_from([1, 2, 3, 4, 7, 10]))
    move = st.one_of(st.floats(-3, 3, width=32), st.just(math.nan))
    cells = draw(st.lists(move, min_size=spreads * buckets, max_size=spreads * buckets))
    return np.array(cells, np.float64).reshape(spreads, buckets)


@given(touches(), tables(), st.sampled_from([1, TICK_E6 // 2, TICK_E6, 3 * TICK_E6]), st.data())
def test_batch_streaming_and_reference_agree(
    columns: Touches, table: Reals, tick_size_e6: int, data: st.DataObject
) -> None:
    expected = reference.micro_price(*columns, table, tick_size_e6)
    assert_same(micro_price(*columns, table, tick_size_e6), expected)
    restart = data.draw(marks(len(expected)))
    cut = data.draw(st.integers(0, len(expected)))
    validity = np.where(np.isnan(expected), Validity.UNDEFINED, Validity.VALID).astype(np.uint8)
    for state in (MicroPrice(table, tick_size_e6), reference.MicroPrice(table, tick_size_e6)):
        for part in (slice(0, cut), slice(cut, None)):
            values, valid = state.update_many(*(column[part] for column in columns), restart=restart[part])
            assert_same(values, expected[part])
            assert_same(valid, validity[part])
        for row, book in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            assert_same(np.array([state.update(*book), state.value]), expected[[row, row]])
            assert state.validity == validity[row]


@given(touches(), tables())
def test_swapping_the_sides_mirrors_the_price(columns: Touches, table: Reals) -> None:
    """Of a table that is antisymmetric in imbalance, as the fitted ones are."""
    bid, bid_volume, ask, ask_volume = columns
    table = table - table[:, ::-1]
    mirrored = [np.where(side == EMPTY_PRICE_E6, side, 200 * TICK_E6 - side) for side in (ask, bid)]
    swapped = micro_price(mirrored[0], ask_volume, mirrored[1], bid_volume, table, TICK_E6)
    np.testing.assert_allclose(swapped, 200 * TICK_E6 - micro_price(*columns, table, TICK_E6), rtol=1e-12)


@given(touches(), tables(), st.integers(2, 1000))
def test_more_lots_on_both_sides_change_nothing(columns: Touches, table: Reals, times: int) -> None:
    bid, bid_volume, ask, ask_volume = columns
    bid_volume, ask_volume = np.minimum(bid_volume, 2**30), np.minimum(ask_volume, 2**30)
    more = micro_price(bid, bid_volume * times, ask, ask_volume * times, table, TICK_E6)
    np.testing.assert_allclose(more, micro_price(bid, bid_volume, ask, ask_volume, table, TICK_E6), rtol=1e-15)


@given(touches())
def test_an_unfitted_table_gives_the_weighted_mid(columns: Touches) -> None:
    for backend in (_rust, reference):
        assert_same(backend.micro_price(*columns, np.full((3, 10), math.nan), TICK_E6), weighted_mid(*columns))


TABLE = np.array([[-0.4, -0.1, 0.1, 0.4], [-1.0, math.nan, 0.25, 1.0]])


@pytest.mark.parametrize(
    ("book", "expected"),
    [
        ((100, 1, 101, 9), 100.1),  # a tenth: the first bucket
        ((100, 1, 101, 3), 100.4),  # a quarter is the border: nearer to equal volumes
        ((100, 3, 101, 1), 100.6),
        ((100, 9, 101, 1), 100.9),
        ((100, 0, 101, 5), 100.1),
        ((100, 5, 101, 0), 100.9),
        ((100, 5, 101, 5), 100.5),  # equal volumes: between both middle buckets
        ((100, 4, 102, 3), 101.25),
        ((100, 1, 102, 2), 100 + 2 / 3),  # that bucket is not known: weighted mid
        ((100, 5, 102, 5), 101.0),
        ((100, 1, 103, 2), 101.0),  # no such spread in the table
        ((100, 1, 100, 3), 100.0),  # locked
        ((101, 1, 100, 3), 100.75),  # crossed
        ((100, 0, 101, 0), math.nan),
        ((None, 0, 101, 5), math.nan),
        ((100, 5, None, 0), math.nan),
    ],
)
@BACKENDS
def test_micro_price_by_hand(backend: Any, book: tuple[Any, ...], expected: float) -> None:
    prices = [EMPTY_PRICE_E6 if price is None else price * TICK_E6 for price in book[::2]]
    state = backend.MicroPrice(TABLE, TICK_E6)
    assert math.isnan(state.value) and state.validity == Validity.WARMING_UP
    state.taint()
    assert state.validity == Validity.TAINTED
    found = state.update(prices[0], book[1], prices[1], book[3]) / TICK_E6
    assert found == pytest.approx(expected, rel=1e-14, nan_ok=True)
    assert state.validity == (Validity.UNDEFINED if math.isnan(expected) else Validity.VALID)
    state.reset()
    assert math.isnan(state.value) and state.validity == Validity.WARMING_UP


@BACKENDS
def test_a_spread_of_no_whole_ticks_is_not_in_the_table(backend: Any) -> None:
    state = backend.MicroPrice(TABLE, TICK_E6)
    assert state.update(100 * TICK_E6, 1, 101 * TICK_E6 + 1, 1) == 100.5 * TICK_E6 + 0.5
    assert state.update(100 * TICK_E6, 1, 100 * TICK_E6 + TICK_E6 // 2, 3) == 100.125 * TICK_E6


@BACKENDS
def test_a_table_changed_afterwards_changes_nothing(backend: Any) -> None:
    table = TABLE.copy()
    state = backend.MicroPrice(table, TICK_E6)
    table[:] = 3
    assert state.update(100 * TICK_E6, 1, 101 * TICK_E6, 9) == pytest.approx(100.1 * TICK_E6, rel=1e-15)


P, V = np.array([100, 101], np.int64) * TICK_E6, np.array([5, 6], np.int64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((P, V, P, V, TABLE.tolist(), 1), "table: must be a 2-dimensional array of float64"),
        ((P, V, P, V, TABLE[0], 1), "table: must be a 2-dimensional array of float64"),
        ((P, V, P, V, TABLE.astype(np.float32), 1), "table: must be a 2-dimensional array of float64"),
        ((P, V, P, V, TABLE[:, ::2], 1), "table: is not contiguous"),
        ((P, V, P, V, np.zeros((0, 10)), 1), "table: is 0 × 10, not within 1 … 1024 each"),
        ((P, V, P, V, np.zeros((1, 1025)), 1), "table: is 1 × 1025, not within 1 … 1024 each"),
        ((P, V, P, V, np.array([[0.0], [-math.inf]]), 1), "table: row 1, bucket 0 is infinite"),
        ((P, V, P, V, TABLE, 0), "tick_size_e6: 0 is not within"),
        ((P, V, P, V, TABLE, 2**60 + 1), "tick_size_e6: 1152921504606846977 is not within"),
        ((P.astype(float), V, P, V, TABLE, 1), "bid_price_e6: must be a 1-dimensional array of int64"),
        ((P, V, P[:1], V, TABLE, 1), "ask_price_e6: has 1 rows, bid_price_e6 has 2"),
        ((P, V, P, -V, TABLE, 1), "ask_volume: row 0: -5 is not within"),
        ((P - 2**62, V, P, V, TABLE, 1), "bid_price_e6: row 0: .* is not within ±2⁶⁰"),
        ((P, V, np.full(2, EMPTY_PRICE_E6), V, TABLE, 1), "ask_volume: row 0: 5 at a level without a price"),
    ],
)
@BACKENDS
def test_what_cannot_be_priced_is_refused_by_name(backend: Any, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        backend.micro_price(*arguments)
    if message.startswith(("table", "tick")):
        with pytest.raises(ValueError, match=f"^{message}"):
            backend.MicroPrice(*arguments[4:])
        return
    state = backend.MicroPrice(TABLE, TICK_E6)
    state.update(100 * TICK_E6, 5, 101 * TICK_E6, 5)
    with pytest.raises(ValueError, match=f"^{message}"):
        state.update_many(*arguments[:4])
    for one, name in (((0, -1, 1, 1), "bid_volume"), ((0, 1, 2**60 + 1, 1), "ask_price_e6")):
        with pytest.raises(ValueError, match=f"^{name}: "):
            state.update(*one)
    with pytest.raises(ValueError, match=r"^restart: row 1 is 3"):
        state.update_many(P, V, P, V, restart=np.array([0, 3], np.uint8))
    assert (state.value, state.validity) == (100.5 * TICK_E6, Validity.VALID)


# The table


def rows(*books: tuple[int, int, int, int]) -> Touches:
    bid, bid_volume, ask, ask_volume = (np.array(column, np.int64) for column in zip(*books, strict=True))
    return bid * TICK_E6, bid_volume, ask * TICK_E6, ask_volume


def test_a_market_whose_moves_are_known_gives_their_table() -> None:
    """A full bid is followed by a tick up and equal volumes, those by a full bid or ask: (½, ½), so G* = 1 tick."""
    random, books, bid = np.random.default_rng(5), [], 1000
    for up in random.integers(0, 2, 400):
        books += [(bid, 5, bid + 1, 5), (bid, 9, bid + 1, 1) if up else (bid, 1, bid + 1, 9)]
        bid += 1 if up else -1
    table = fit_micro_price(*rows(*books), TICK_E6, imbalance_buckets=3, spread_ticks_max=2)
    np.testing.assert_allclose(table[0], [-1, 0, 1], rtol=0, atol=1e-12)
    assert np.isnan(table[1]).all()


def test_the_table_waits_for_moves_and_follows_six_of_them() -> None:
    """A full bid stays, or moves a tick to a full bid, or a tick to equal volumes, one in three each; then nothing.

    Q = ⅓ and R¹K = ⅔, so G¹ = 1; R² = ⅓, so B = ½: 1 + ½ + ¼ + ⅛ + 1/16 + 1/32 ticks.
    """
    run = [(100, 9, 101, 1), (100, 9, 101, 1), (101, 9, 102, 1), (102, 5, 103, 5)]
    columns = rows(*[*run, (0, 0, 0, 0)] * 50)
    for prices in columns[::2]:
        prices[len(run) :: len(run) + 1] = EMPTY_PRICE_E6
    table = fit_micro_price(*columns, TICK_E6, imbalance_buckets=3)
    np.testing.assert_allclose(table[0], [-1.96875, math.nan, 1.96875], rtol=1e-12)


def test_a_market_that_never_moves_expects_nothing_and_a_rare_spread_is_not_fitted() -> None:
    still = rows(*[(100, 9, 101, 1), (100, 1, 102, 1)] * OBSERVATIONS_MIN)
    table = fit_micro_price(*rows(*[(100, 9, 101, 1)] * 200), TICK_E6, imbalance_buckets=4)
    assert table[0, [0, 3]].tolist() == [0, 0] and np.isnan(table[0, 1:3]).all() and np.isnan(table[1:]).all()
    few = tuple(column[: 2 * OBSERVATIONS_MIN - 1] for column in still)
    assert np.isnan(fit_micro_price(*few, TICK_E6)).all(axis=1).tolist() == [False] + [True] * 7
    assert not np.isnan(fit_micro_price(*still, TICK_E6)[1]).all()
    assert np.isnan(fit_micro_price(*(column[:3] for column in still), TICK_E6)).all()


def test_an_empty_book_separates_two_sessions() -> None:
    one, other = [(100, 9, 101, 1), (100, 7, 101, 3)] * 60, [(900, 9, 901, 1), (900, 7, 901, 3)] * 60
    apart = list(rows(*one, (100, 1, 101, 1), *other))
    for column, empty in zip(apart, (EMPTY_PRICE_E6, 0, EMPTY_PRICE_E6, 0), strict=True):
        column[len(one)] = empty
    assert not np.nan_to_num(fit_micro_price(*apart, TICK_E6)).any()
    assert np.nan_to_num(fit_micro_price(*rows(*one, *other), TICK_E6)).any()


@pytest.mark.parametrize(
    ("arguments", "words", "message"),
    [
        ((P, V, P, V, 0), {}, "tick_size_e6: 0 is not within"),
        ((P, V, P, V, 1), {"imbalance_buckets": 0}, "imbalance_buckets: 0 is not within 1 … 1024"),
        ((P, V, P, V, 1), {"spread_ticks_max": 1025}, "spread_ticks_max: 1025 is not within 1 … 1024"),
        ((P, V[:1], P, V, 1), {}, "bid_volume: has 1 rows, bid_price_e6 has 2"),
        ((P, -V, P, V, 1), {}, "bid_volume: row 0: -5 is not within"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(arguments: tuple[Any, ...], words: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        fit_micro_price(*arguments, **words)


def test_more_states_than_fit_memory_are_refused() -> None:
    books = [(100, 1, 100 + spread, 2) for spread in range(1, 6)] * OBSERVATIONS_MIN
    with pytest.raises(ValueError, match=r"^imbalance_buckets: 1000 for 5 spreads are more than 4000 states"):
        fit_micro_price(*rows(*books), TICK_E6, imbalance_buckets=1000)


# Real days


@cache
def seconds(day: str) -> tuple[Column, Column, Column, Column]:
    """The last book at or before each second of the day session, 08:45 to 13:45 Taipei."""
    books = futures(f"TXFD6_{day}")
    start = int(datetime.fromisoformat(f"{day}T08:45+08:00").timestamp()) * SECOND
    last = np.searchsorted(books.exchange_ns, start + np.arange(18_001) * SECOND, side="right") - 1
    return tuple(column[last] for column in books.best())  # type: ignore[return-value]


@needs_data
def test_a_day_of_futures_gives_the_published_table() -> None:
    """G* −.579 … +.579 at a spread of 4 ticks; seven buckets give it, the published table does not say how many."""
    table = fit_micro_price(*seconds("2026-04-09"), TICK_E6, imbalance_buckets=7)
    assert table[3, -1] == pytest.approx(0.579, abs=0.001) and np.nanmax(np.abs(table[3])) == table[3, -1]
    known = ~np.isnan(table).all(axis=1)
    assert known.tolist() == [True] * 6 + [False] * 2
    np.testing.assert_array_equal(table, -table[:, ::-1])
    for buckets in (5, 10):
        other = fit_micro_price(*seconds("2026-04-09"), TICK_E6, imbalance_buckets=buckets)
        assert (np.diff(other[3, 1:-1]) > 0).all()  # the outermost of ten has 48 rows of 6,073


@needs_data
def test_the_table_of_a_day_before_tells_which_way_the_mid_moves_next() -> None:
    """In the next second, where the spread was fitted. The mid itself says 0, and is right about no move's side."""
    table = fit_micro_price(*seconds("2026-04-08"), TICK_E6)
    bid, bid_volume, ask, ask_volume = seconds("2026-04-09")
    mid = (bid + ask) / 2
    move = np.diff(mid)
    expected = (micro_price(bid, bid_volume, ask, ask_volume, table, TICK_E6) - mid)[:-1]
    spread = ((ask - bid) // TICK_E6)[:-1]
    fitted = np.isin(spread, np.flatnonzero(~np.isnan(table).all(axis=1)) + 1)
    assert fitted.sum() > 17_900
    assert np.corrcoef(expected[fitted], move[fitted])[0, 1] > 0.06
    sides = np.sign(expected * move)[fitted & (move != 0) & (expected != 0)]
    assert (sides > 0).mean() > 0.57 and len(sides) > 8_000
