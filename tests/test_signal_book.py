"""What one book says: kernels, streaming state and reference are one thing, and keep the symmetries of a book."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from real_data import needs_data
from signal_columns import TICK_E6, Column, assert_same, futures, touches

import rust_indicators
from rust_indicators import EMPTY_PRICE_E6, BookFlag, BookState, Validity, _rust
from rust_indicators.reference import book as reference

BACKENDS = pytest.mark.parametrize("backend", [_rust, reference])
Touches = tuple[Column, Column, Column, Column]
Sides = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
PROPERTIES = ("mid2_e6", "spread_ticks", "weighted_mid", "queue_imbalance", "depth_imbalance", "depth_ratio",
              "book_slope", "flags")  # fmt: skip
MIRROR_E6 = 200 * TICK_E6


@st.composite
def ladders(draw: st.DrawFn, rows_max: int = 12) -> Sides:
    """[level, row] of both sides: levels in order with holes and steps of several ticks, and now and then in none."""
    levels, rows = draw(st.integers(1, 10)), draw(st.integers(1, rows_max))
    cells = st.lists(st.lists(st.integers(0, 9), min_size=rows, max_size=rows), min_size=levels, max_size=levels)

    def side(start: int, sign: int) -> tuple[Column, Column]:
        steps, kinds, sizes = (np.array(draw(cells), np.int64) for _ in range(3))
        prices = (start + sign * np.cumsum(steps, axis=0)) * TICK_E6 // 4
        prices = np.where(kinds == 0, EMPTY_PRICE_E6, np.where(kinds == 1, 2**60 * np.sign(steps - 4), prices))
        return prices, np.where(prices == EMPTY_PRICE_E6, 0, np.where(sizes == 9, 2**40, sizes))

    return (*side(400, -1), *side(draw(st.integers(398, 404)), 1))


def batch(backend: Any, sides: Sides, tick_size_e6: int) -> dict[str, NDArray[Any]]:
    """Every property of `BookState` as the functions give it."""
    bid, bid_volume, ask, ask_volume = sides
    best = (bid[0], bid_volume[0], ask[0], ask_volume[0])
    return {
        "mid2_e6": backend.mid2_e6(bid[0], ask[0]),
        "spread_ticks": backend.spread_ticks(bid[0], ask[0], tick_size_e6),
        "weighted_mid": backend.weighted_mid(*best),
        "queue_imbalance": backend.queue_imbalance([bid_volume[0]], [ask_volume[0]]),
        "depth_imbalance": backend.queue_imbalance(bid_volume, ask_volume),
        "depth_ratio": backend.depth_ratio(list(bid_volume), tuple(ask_volume)),
        "book_slope": backend.book_slope(*sides, tick_size_e6),
        "flags": backend.book_flags(bid[0], ask[0]),
    }


@given(ladders(), st.sampled_from([1, TICK_E6 // 4, 2**60]))
def test_functions_states_and_reference_agree_bit_for_bit(sides: Sides, tick_size_e6: int) -> None:
    expected = batch(reference, sides, tick_size_e6)
    for name, values in batch(_rust, sides, tick_size_e6).items():
        assert_same(values, expected[name])
    for backend in (_rust, reference):
        state = backend.BookState(tick_size_e6, len(sides[0]))
        for row in range(sides[0].shape[1]):
            state.update(*(side[:, row].tolist() for side in sides))
            for name in PROPERTIES:
                assert_same(np.array([getattr(state, name)], expected[name].dtype), expected[name][row : row + 1])
            no_value = np.isnan(expected["weighted_mid"][row])
            assert state.validity == (Validity.UNDEFINED if no_value else Validity.VALID)


@given(touches())
def test_best_levels_agree_bit_for_bit(columns: Touches) -> None:
    sides: Any = tuple(column.reshape(1, -1) for column in columns)
    expected = batch(reference, sides, TICK_E6)
    for name, values in batch(_rust, sides, TICK_E6).items():
        assert_same(values, expected[name])


def test_rows_beyond_one_piece_agree_too() -> None:
    random = np.random.default_rng(3)
    volumes = random.integers(0, 9, (2, 5, 1_537))
    for name in ("queue_imbalance", "depth_ratio"):
        assert_same(getattr(_rust, name)(*volumes), getattr(reference, name)(*volumes))


# Laws


@given(ladders())
def test_swapping_the_sides_mirrors_the_book(sides: Sides) -> None:
    bid, bid_volume, ask, ask_volume = sides
    mirrored = [
        np.where(side == EMPTY_PRICE_E6, side, np.clip(MIRROR_E6 - side, -(2**60), 2**60)) for side in (ask, bid)
    ]
    usual = (np.abs(np.where(bid == EMPTY_PRICE_E6, 0, bid)) < 2**60).all(axis=0)
    usual &= (np.abs(np.where(ask == EMPTY_PRICE_E6, 0, ask)) < 2**60).all(axis=0)
    before = batch(_rust, sides, TICK_E6)
    after = batch(_rust, (mirrored[0], ask_volume, mirrored[1], bid_volume), TICK_E6)
    assert_same(after["queue_imbalance"], -before["queue_imbalance"])
    assert_same(after["depth_imbalance"], -before["depth_imbalance"])
    for name in ("spread_ticks", "book_slope"):
        assert_same(after[name][usual], before[name][usual])
    np.testing.assert_allclose(after["weighted_mid"][usual], MIRROR_E6 - before["weighted_mid"][usual], rtol=1e-12)
    both = ~np.isnan(before["spread_ticks"]) & usual
    assert_same(after["mid2_e6"][both], 2 * MIRROR_E6 - before["mid2_e6"][both])
    other_side = np.array([0, 2, 1, 3, 4, 0, 0, 0, 8], np.uint8)  # NO_BID ↔ NO_ASK
    assert_same(after["flags"], other_side[before["flags"]])


@given(ladders(), st.integers(2, 1_000))
def test_twice_the_lots_change_depth_and_nothing_else(sides: Sides, times: int) -> None:
    bid, bid_volume, ask, ask_volume = sides
    bid_volume, ask_volume = (np.minimum(volume, 2**30) for volume in (bid_volume, ask_volume))
    before = batch(_rust, (bid, bid_volume, ask, ask_volume), TICK_E6)
    after = batch(_rust, (bid, bid_volume * times, ask, ask_volume * times), TICK_E6)
    before["book_slope"] = before["book_slope"] * times
    for name, values in after.items():
        assert_same(values, before[name], 1e-12 if values.dtype == np.float64 else 0.0)


@given(ladders())
def test_values_stay_within_their_bounds(sides: Sides) -> None:
    found = batch(_rust, sides, TICK_E6)
    bid, ask = sides[0][0], sides[2][0]
    for name in ("queue_imbalance", "depth_imbalance"):
        assert (np.isnan(found[name]) | (np.abs(found[name]) <= 1)).all()
    known = ~np.isnan(found["weighted_mid"])
    lower, upper = np.minimum(bid, ask)[known], np.maximum(bid, ask)[known]
    assert ((lower <= found["weighted_mid"][known]) & (found["weighted_mid"][known] <= upper)).all()
    slope = found["book_slope"]
    assert (np.isnan(slope) | (slope >= 0)).all()
    assert np.isnan(slope[found["flags"] != 0]).all()


# Cases by hand


def levels(*rows: tuple[int | None, int]) -> tuple[list[int], list[int]]:
    prices = [EMPTY_PRICE_E6 if price is None else price * TICK_E6 for price, _ in rows]
    return prices, [volume for _, volume in rows]


@BACKENDS
def test_a_book_by_hand(backend: Any) -> None:
    state = backend.BookState(TICK_E6, 3)
    assert (state.mid2_e6, state.flags, state.validity) == (EMPTY_PRICE_E6, 3, Validity.WARMING_UP)
    assert all(math.isnan(getattr(state, name)) for name in PROPERTIES[1:-1])
    # Asks at 1, 2 and 4 ticks from the mid of 100, bids at 1 and 3.
    state.update(*levels((99, 6), (97, 2), (None, 0)), *levels((101, 2), (102, 4), (104, 1)))
    assert (state.mid2_e6, state.spread_ticks, state.flags, state.validity) == (200 * TICK_E6, 2.0, 0, Validity.VALID)
    assert state.weighted_mid == 100.5 * TICK_E6
    assert (state.queue_imbalance, state.depth_imbalance) == (0.5, 1 / 15)
    assert state.depth_ratio == 8 / 7
    bids, asks = (1 * 6 + 3 * 8) / (1 + 9), (1 * 2 + 2 * 6 + 4 * 7) / (1 + 4 + 16)
    assert state.book_slope == pytest.approx((bids + asks) / 2, rel=1e-15)
    state.taint()
    assert math.isnan(state.weighted_mid) and state.validity == Validity.TAINTED
    state.reset()
    assert state.validity == Validity.WARMING_UP


@pytest.mark.parametrize(
    ("bid", "ask", "expected"),
    [
        # spread, weighted mid, imbalance, ratio, flags, validity
        ((100, 1), (100, 3), (0.0, 100.0, -0.5, 1 / 3, BookFlag.LOCKED, Validity.VALID)),
        ((102, 1), (100, 3), (-2.0, 101.5, -0.5, 1 / 3, BookFlag.CROSSED, Validity.VALID)),
        ((None, 0), (100, 3), (None, None, -1.0, 0.0, BookFlag.NO_BID, Validity.UNDEFINED)),
        ((100, 3), (None, 0), (None, None, 1.0, None, BookFlag.NO_ASK, Validity.UNDEFINED)),
        ((None, 0), (None, 0), (None, None, None, None, BookFlag.NO_BID | BookFlag.NO_ASK, Validity.UNDEFINED)),
        ((100, 0), (101, 0), (1.0, None, None, None, BookFlag(0), Validity.UNDEFINED)),
    ],
)
@BACKENDS
def test_books_that_are_none_or_locked_or_crossed(backend: Any, bid: Any, ask: Any, expected: tuple[Any, ...]) -> None:
    state = backend.BookState(TICK_E6, levels=1)
    state.update(*levels(bid), *levels(ask))
    mid = None if state.weighted_mid != state.weighted_mid else state.weighted_mid / TICK_E6
    found = [None if math.isnan(value) else value for value in (state.queue_imbalance, state.depth_ratio)]
    spread = None if math.isnan(state.spread_ticks) else state.spread_ticks
    assert (spread, mid, *found, state.flags, state.validity) == expected
    # Sides without lots rise with slope 0; all others here have no mid to rise from.
    assert state.book_slope == 0 if expected[4] == 0 else math.isnan(state.book_slope)


@BACKENDS
def test_one_lot_a_side_has_a_slope(backend: Any) -> None:
    """Where Næs & Skjeltorp divide by ln 1."""
    bid, bid_volume = (np.array(column).reshape(2, 1) for column in levels((99, 1), (98, 1)))
    ask, ask_volume = (np.array(column).reshape(2, 1) for column in levels((100, 1), (101, 1)))
    assert backend.book_slope(bid, bid_volume, ask, ask_volume, TICK_E6) == [(0.5 * 1 + 1.5 * 2) / (0.25 + 2.25)]


@BACKENDS
def test_no_rows_give_no_rows(backend: Any) -> None:
    none = np.zeros(0, np.int64)
    assert [len(values) for values in batch(backend, (none.reshape(1, 0),) * 4, 1).values()] == [0] * 8


# Refusals

P, V = np.array([100, 101], np.int64) * TICK_E6, np.array([5, 6], np.int64)
E = np.full(2, EMPTY_PRICE_E6)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mid2_e6", (P.astype(float), P), "bid_price_e6: must be a 1-dimensional array of int64"),
        ("mid2_e6", (P, P[:1]), "ask_price_e6: has 1 rows, bid_price_e6 has 2"),
        ("mid2_e6", (P, np.array([0, 2**60 + 1])), r"ask_price_e6: row 1: 1152921504606846977 is not within ±2⁶⁰"),
        ("book_flags", (np.array([-(2**60) - 1, 0]), P), "bid_price_e6: row 0: -1152921504606846977 is not within"),
        ("spread_ticks", (P, P, 0), "tick_size_e6: 0 is not within"),
        ("spread_ticks", (P, P, 2**60 + 1), "tick_size_e6: 1152921504606846977 is not within"),
        ("weighted_mid", (P, -V, P, V), "bid_volume: row 0: -5 is not within"),
        ("weighted_mid", (P, V, E, V), "ask_volume: row 0: 5 at a level without a price"),
        ("weighted_mid", (P, V, P + 2**60, V), "ask_price_e6: row 0: .* is not within ±2⁶⁰"),
        ("queue_imbalance", (V, [V]), r"bid_volume\[0\]: must be a 1-dimensional array of int64"),
        ("queue_imbalance", (7, [V]), "bid_volume: must be a sequence of 1 … 10 level columns"),
        ("queue_imbalance", ({"best": V}, [V]), "bid_volume: must be a sequence of 1 … 10 level columns"),
        ("queue_imbalance", ([], []), "bid_volume: has 0 levels, not 1 … 10"),
        ("queue_imbalance", ([V] * 11, [V]), "bid_volume: has 11 levels, not 1 … 10"),
        ("queue_imbalance", ([V] * 3, [V] * 2), "ask_volume: has 2 levels, bid_volume has 3"),
        ("queue_imbalance", ([V, V, -V], [V] * 3), r"bid_volume\[2\]: row 0: -5 is not within"),
        ("queue_imbalance", (np.asfortranarray([V, V]), [V] * 2), r"bid_volume\[0\]: is not contiguous"),
        ("depth_ratio", ([V, V[:1]], [V] * 2), r"bid_volume\[1\]: has 1 rows, bid_volume\[0\] has 2"),
        ("depth_ratio", ([V], [V + 2**40]), r"ask_volume\[0\]: row 0: 1099511627781 is not within"),
        ("book_slope", ([P], [V], [P], [V], -1), "tick_size_e6: -1 is not within"),
        ("book_slope", ([P, P], [V], [P], [V], 1), "bid_volume: has 1 levels, bid_price_e6 has 2"),
        ("book_slope", ([P, E], [V, V], [P, P], [V, V], 1), r"bid_volume\[1\]: row 0: 5 at a level without a price"),
        ("book_slope", ([P], [V], [P - 2**62], [V], 1), r"ask_price_e6\[0\]: row 0: .* is not within ±2⁶⁰"),
        ("BookState", (0,), "tick_size_e6: 0 is not within"),
        ("BookState", (1, 0), "levels: 0 is not within 1 … 10"),
        ("BookState", (1, 11), "levels: 11 is not within 1 … 10"),
    ],
)
@BACKENDS
def test_what_is_no_book_is_refused_by_name(backend: Any, name: str, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        getattr(backend, name)(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([99], [1, 1], [101, 102], [1, 1]), "bid_price_e6: has 1 levels, not 2"),
        (([99, 98], [1] * 12, [101, 102], [1, 1]), "bid_volume: has 12 levels, not 2"),
        (([99, 98], [1, 1], [101, 102.5], [1, 1]), "ask_price_e6: must be a sequence of 64-bit integers"),
        (([99, 98], [1, 2**63], [101, 102], [1, 1]), "bid_volume: must be a sequence of 64-bit integers"),
        (([99, 98], 1, [101, 102], [1, 1]), "bid_volume: must be a sequence of 64-bit integers"),
        (([99, 98], [1, 1], [101, 2**60 + 1], [1, 1]), r"ask_price_e6\[1\]: .*1152921504606846977 is not within"),
        (([99, 98], [1, 1], [101, 102], [1, -1]), r"ask_volume\[1\]: .*-1 is not within"),
        (([99, EMPTY_PRICE_E6], [1, 1], [101, 102], [1, 1]), r"bid_volume\[1\]: .*1 at a level without a price"),
    ],
)
@BACKENDS
def test_a_refused_book_leaves_the_last_one(backend: Any, arguments: tuple[Any, ...], message: str) -> None:
    state = backend.BookState(1, 2)
    state.update((99, 98), np.array([3, 1]), [101, 102], [1, 1])
    before = [getattr(state, name) for name in (*PROPERTIES, "validity")]
    with pytest.raises(ValueError, match=f"^{message}"):
        state.update(*arguments)
    assert [getattr(state, name) for name in (*PROPERTIES, "validity")] == before


@pytest.mark.parametrize("name", reference.__all__)
def test_kernel_and_reference_take_the_same_arguments(name: str) -> None:
    assert getattr(rust_indicators, name) is getattr(_rust, name)
    ours, theirs = (inspect.signature(getattr(module, name)) for module in (_rust, reference))
    plain = [[(word.name, word.kind, word.default) for word in found.parameters.values()] for found in (ours, theirs)]
    assert plain[0] == plain[1]


# Real books


@needs_data
def test_a_day_of_futures_has_the_published_spread() -> None:
    """Median of 4 ticks in the published table; the first book of a day is empty, none after it unusual."""
    books = futures("TXFD6_2026-04-09")
    sides = (books.bid_price_e6, books.bid_volume, books.ask_price_e6, books.ask_volume)
    found, expected = batch(_rust, sides, TICK_E6), batch(reference, sides, TICK_E6)
    for name, values in found.items():
        assert_same(values, expected[name])
    day = (books.exchange_ns >= 1_775_695_500_000_000_000) & (books.exchange_ns <= 1_775_713_500_000_000_000)
    flags, spread, slope = (found[name][day] for name in ("flags", "spread_ticks", "book_slope"))
    assert flags[0] == BookFlag.NO_BID | BookFlag.NO_ASK and not flags[1:].any()
    assert np.median(spread[1:]) == 4 and np.isfinite(slope[1:]).all()
    state = BookState(TICK_E6)
    state.update(*(side[:, -1] for side in sides))
    assert_same(np.float64(state.book_slope), found["book_slope"][-1])
