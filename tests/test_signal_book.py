"""What one book says: kernel, streaming form and NumPy reference are one thing, and by hand it is right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_data import needs_data
from signal_columns import TICK_E6, Column, assert_same, book_columns, futures, marks, touches

from rust_indicators import (
    EMPTY_PRICE_E6,
    BookFlag,
    BookState,
    Validity,
    _rust,
    book_flags,
    book_slope,
    depth_ratio,
    mid2_e6,
    queue_imbalance,
    spread_ticks,
    weighted_mid,
)
from rust_indicators.reference import book as reference

Touches = tuple[Column, Column, Column, Column]
Book = tuple[list[Column], ...]
BACKENDS = pytest.mark.parametrize("backend", [_rust, reference])
SAID = ("mid2_e6", "spread_ticks", "weighted_mid", "queue_imbalance", "depth_imbalance", "depth_ratio", "book_slope",
        "flags")  # fmt: skip


@given(touches())
def test_what_the_best_level_says_is_what_the_reference_says(columns: Touches) -> None:
    bid, _, ask, _ = columns
    assert_same(mid2_e6(bid, ask), reference.mid2_e6(bid, ask))
    assert_same(spread_ticks(bid, ask, TICK_E6), reference.spread_ticks(bid, ask, TICK_E6), 1e-12)
    assert_same(weighted_mid(*columns), reference.weighted_mid(*columns), 1e-12)
    assert_same(book_flags(bid, ask), reference.book_flags(bid, ask))


@given(book_columns(), st.data())
def test_what_the_levels_say_is_what_the_reference_says_and_the_stream(book: Book, data: st.DataObject) -> None:
    bid, bid_volume, ask, ask_volume = book
    restart = data.draw(marks(len(bid[0])))
    batch = {
        "queue_imbalance": queue_imbalance(bid_volume[:1], ask_volume[:1]),
        "depth_imbalance": queue_imbalance(bid_volume, ask_volume),
        "depth_ratio": depth_ratio(bid_volume, ask_volume),
        "book_slope": book_slope(*book, TICK_E6),
        "mid2_e6": mid2_e6(bid[0], ask[0]),
        "spread_ticks": spread_ticks(bid[0], ask[0], TICK_E6),
        "weighted_mid": weighted_mid(bid[0], bid_volume[0], ask[0], ask_volume[0]),
        "flags": book_flags(bid[0], ask[0]),
    }
    assert_same(batch["depth_imbalance"], reference.queue_imbalance(bid_volume, ask_volume), 1e-12)
    assert_same(batch["depth_ratio"], reference.depth_ratio(bid_volume, ask_volume), 1e-12)
    assert_same(batch["book_slope"], reference.book_slope(*book, TICK_E6), 1e-12)
    states = (BookState(len(bid), TICK_E6), reference.BookState(len(bid), TICK_E6))
    for state in states:
        for row in range(len(bid[0])):
            value = state.update(*([int(level[row]) for level in side] for side in book))
            assert value == state.value == batch["mid2_e6"][row]
            for name in SAID:
                np.testing.assert_allclose(getattr(state, name), batch[name][row], rtol=1e-12, err_msg=name)
    ours, theirs = (state.update_many(*book, restart=restart) for state in states)
    assert_same(ours[0], theirs[0])
    assert_same(ours[1], theirs[1])
    assert_same(ours[0], batch["mid2_e6"])


@given(book_columns())
def test_mirroring_the_book_turns_imbalance_and_keeps_the_slope(book: Book) -> None:
    bid, bid_volume, ask, ask_volume = book
    assert_same(queue_imbalance(ask_volume, bid_volume), -queue_imbalance(bid_volume, ask_volume))
    down, up = (
        [np.where(price == EMPTY_PRICE_E6, price, 200 * TICK_E6 - price) for price in side] for side in (bid, ask)
    )
    assert_same(book_slope(up, ask_volume, down, bid_volume, TICK_E6), book_slope(*book, TICK_E6), 1e-12)
    assert_same(book_slope(*book, 2 * TICK_E6), 2 * book_slope(*book, TICK_E6), 1e-12)


@BACKENDS
def test_a_book_by_hand(backend: object) -> None:
    state = backend.BookState(2, TICK_E6)  # type: ignore[attr-defined]
    assert (state.value, state.validity) == (0, Validity.WARMING_UP)
    assert np.isnan(state.spread_ticks)
    prices = [np.array(side) * TICK_E6 for side in ((100, 99), (102, 104))]
    state.update(prices[0], [6, 4], prices[1], (2, 8))
    assert (state.mid2_e6, state.spread_ticks, state.flags) == (202 * TICK_E6, 2.0, 0)
    assert state.weighted_mid == pytest.approx((6 * 102 + 2 * 100) / 8 * TICK_E6)
    assert (state.queue_imbalance, state.depth_imbalance, state.depth_ratio) == (0.5, 0.0, 1.0)
    bid, ask = (1 * 6 + 2 * 10) / (1 + 4), (1 * 2 + 3 * 10) / (1 + 9)
    assert state.book_slope == pytest.approx((bid + ask) / 2)
    state.taint()
    assert (state.mid2_e6, state.validity) == (0, Validity.TAINTED)
    assert np.isnan(state.book_slope)


@pytest.mark.parametrize(
    ("bid", "ask", "flags", "validity"),
    [
        ((100, 5), (101, 5), 0, Validity.VALID),
        ((100, 5), (100, 5), BookFlag.LOCKED, Validity.VALID),
        ((101, 5), (100, 5), BookFlag.CROSSED, Validity.VALID),
        ((None, 0), (100, 5), BookFlag.NO_BID, Validity.UNDEFINED),
        ((100, 5), (None, 0), BookFlag.NO_ASK, Validity.UNDEFINED),
        ((None, 0), (None, 0), BookFlag.NO_BID | BookFlag.NO_ASK, Validity.UNDEFINED),
    ],
)
@BACKENDS
def test_what_is_wrong_with_a_book(
    backend: object, bid: tuple[int | None, int], ask: tuple[int | None, int], flags: BookFlag, validity: Validity
) -> None:
    state = backend.BookState(1, TICK_E6)  # type: ignore[attr-defined]
    prices = [EMPTY_PRICE_E6 if side[0] is None else side[0] * TICK_E6 for side in (bid, ask)]
    state.update([prices[0]], [bid[1]], [prices[1]], [ask[1]])
    assert (state.flags, state.validity) == (flags, validity)
    undefined = validity == Validity.UNDEFINED
    assert np.isnan(state.weighted_mid) == undefined
    assert np.isnan(state.book_slope) == bool(flags)
    assert (state.mid2_e6 == EMPTY_PRICE_E6) == undefined


P, V = np.array([100, 101], np.int64) * TICK_E6, np.array([5, 6], np.int64)


@BACKENDS
def test_what_is_no_book_is_refused_by_name(backend: object) -> None:
    ours = backend
    beyond = np.array([0, 2**60 + 1], np.int64)
    for name, arguments, message in (
        ("mid2_e6", (P, P[:1]), "ask_price_e6: has 1 rows"),
        ("mid2_e6", (P, beyond), "ask_price_e6: row 1: 1152921504606846977 is not within"),
        ("spread_ticks", (P, P, 0), "tick_size_e6: 0 is not within"),
        ("weighted_mid", (P, -V, P, V), "bid_volume: row 0: -5 is not within"),
        ("queue_imbalance", ([V], [V, V]), "ask_volume: has 2 levels, bid_volume has 1"),
        ("queue_imbalance", ([V, V], [V, -V]), r"ask_volume\[1\]: row 0: -5 is not within"),
        ("depth_ratio", ([V], [V.astype(float)]), r"ask_volume\[0\]: must be a 1-dimensional array of int64"),
        ("book_slope", ([P], [V], [beyond], [V], TICK_E6), r"ask_price_e6\[0\]: row 1: 1152921504606846977"),
        ("book_flags", (P, 7), "ask_price_e6: must be"),
        ("BookState", (0, TICK_E6), "levels: has 0 levels"),
        ("BookState", (1, -1), "tick_size_e6: -1 is not within"),
    ):
        with pytest.raises(ValueError, match=message):
            getattr(ours, name)(*arguments)


@BACKENDS
def test_a_refused_book_leaves_no_trace(backend: object) -> None:
    state = backend.BookState(1, TICK_E6)  # type: ignore[attr-defined]
    state.update([100], [5], [101], [5])
    for refused in (([100], [-1], [101], [5]), ([2**61], [5], [101], [5]), ([100, 99], [5, 5], [101, 102], [5, 5])):
        with pytest.raises(ValueError):
            state.update(*refused)
    with pytest.raises(ValueError, match="restart: row 1 is 7"):
        state.update_many([P], [V], [P], [V], restart=np.array([0, 7], np.uint8))
    assert (state.mid2_e6, state.validity) == (201, Validity.VALID)


@needs_data
def test_a_day_of_the_future_is_never_crossed_and_its_parts_agree() -> None:
    books = futures("TXFD6_2026-04-09")
    bid, bid_volume, ask, ask_volume = books.best()
    flags = book_flags(bid, ask)
    both = flags & (BookFlag.NO_BID | BookFlag.NO_ASK) == 0
    weighted, mid2 = weighted_mid(bid, bid_volume, ask, ask_volume), mid2_e6(bid, ask)
    assert both.mean() > 0.999
    assert (np.isnan(weighted) == ~both).all()
    rho, spread = queue_imbalance([bid_volume], [ask_volume]), spread_ticks(bid, ask, TICK_E6)
    # W − mid = ρ · spread / 2: the imbalance and the weighted mid are one number.
    np.testing.assert_allclose((weighted - mid2 / 2)[both] / TICK_E6, (rho * spread)[both] / 2, atol=1e-6)
    slope = book_slope(books.bid_price_e6, books.bid_volume, books.ask_price_e6, books.ask_volume, TICK_E6)
    assert (slope[both & (spread >= 0)] > 0).all()
    assert 3 < np.median(spread[both]) < 5  # published: 4
