"""Order flow imbalance: the kernel, its streaming form and the NumPy reference are one thing, and it is the paper's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from signal_columns import TICK_E6, Column, assert_same, book_columns, marks, touches

from rust_indicators import (
    EMPTY_PRICE_E6,
    Mlofi,
    Ofi,
    TradeImbalance,
    Validity,
    _rust,
    mlofi,
    ofi,
    trade_imbalance,
)
from rust_indicators.reference import flow as reference

Touches = tuple[Column, Column, Column, Column]


@given(touches(), st.data())
def test_ofi_batch_streaming_and_reference_agree_bit_for_bit(columns: Touches, data: st.DataObject) -> None:
    restart = data.draw(marks(len(columns[0])))
    expected = reference.ofi(*columns, restart=restart)
    assert_same(ofi(*columns, restart=restart), expected)
    ours, theirs = Ofi(), reference.Ofi()
    cut = data.draw(st.integers(0, len(restart)))
    for part in (slice(0, cut), slice(cut, None)):
        rows = [column[part] for column in columns]
        for one, other in zip(ours.update_many(*rows, restart=restart[part]),
                              theirs.update_many(*rows, restart=restart[part]), strict=True):  # fmt: skip
            assert_same(one, other)
        assert (ours.value, ours.validity) == (theirs.value, theirs.validity)


@given(touches())
def test_one_update_at_a_time_is_the_batch(columns: Touches) -> None:
    for state in (Ofi(), reference.Ofi()):
        one_by_one = [state.update(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
        assert one_by_one == ofi(*columns).tolist()


@given(touches())
def test_swapping_the_sides_turns_the_sign(columns: Touches) -> None:
    """Mirror the prices too: what was the better bid is then the better ask."""
    bid, bid_volume, ask, ask_volume = columns
    bid, ask = (np.where(side == EMPTY_PRICE_E6, side, 200 * TICK_E6 - side) for side in (bid, ask))
    assert_same(ofi(ask, ask_volume, bid, bid_volume), -ofi(*columns))


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ((100, 5, 101, 7), (100, 8, 101, 7), 3),  # the bid grew
        ((100, 5, 101, 7), (99, 4, 101, 7), -5),  # the bid fell: the whole queue is gone
        ((100, 5, 101, 7), (101, 2, 102, 9), 2 + 7),  # both rose
        ((100, 5, 101, 7), (100, 5, 101, 3), 4),  # a trade took from the ask
        ((100, 5, None, 0), (100, 5, 101, 7), -7),  # an ask appears where there was none
        ((100, 5, 101, 7), (None, 0, 101, 7), -5),
    ],
)
def test_ofi_by_hand(before: tuple[int | None, ...], now: tuple[int | None, ...], expected: int) -> None:
    def book(row: tuple[int | None, ...]) -> list[int]:
        prices = [EMPTY_PRICE_E6 if row[at] is None else row[at] * TICK_E6 for at in (0, 2)]  # type: ignore[operator]
        return [prices[0], row[1], prices[1], row[3]]  # type: ignore[list-item]

    for state in (Ofi(), reference.Ofi()):
        assert (state.update(*book(before)), state.validity) == (0, Validity.WARMING_UP)
        assert (state.update(*book(now)), state.validity) == (expected, Validity.VALID)
        state.taint()
        assert state.validity == Validity.TAINTED
        assert (state.update(*book(before)), state.validity) == (0, Validity.TAINTED)
        assert (state.update(*book(now)), state.validity) == (expected, Validity.VALID)


P, V = np.array([100, 101], np.int64) * TICK_E6, np.array([5, 6], np.int64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((P.astype(float), V, P, V), "bid_price_e6: must be a 1-dimensional array of int64"),
        ((P, V.reshape(1, 2), P, V), "bid_volume: must be a 1-dimensional array of int64"),
        (([1, 2], V, P, V), "bid_price_e6: must be a 1-dimensional array of int64"),
        ((P, V[:1], P, V), "bid_volume: has 1 rows, bid_price_e6 has 2"),
        ((P, V, np.repeat(P, 2)[::2], V), "ask_price_e6: is not contiguous"),
        ((P, V, P, -V), "ask_volume: row 0: -5 is not within"),
        ((P, V, P, V + 2**40), "ask_volume: row 0: 1099511627781 is not within"),
        ((np.array([EMPTY_PRICE_E6] * 2), V, P, V), "bid_volume: row 0: 5 at a level without a price"),
    ],
)
@pytest.mark.parametrize("backend", [_rust, reference])
def test_ofi_refuses_what_is_no_book_and_names_it(backend: object, arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backend.ofi(*arguments)  # type: ignore[attr-defined]
    state = backend.Ofi()  # type: ignore[attr-defined]
    state.update(100 * TICK_E6, 5, 101 * TICK_E6, 7)
    with pytest.raises(ValueError, match=message):
        state.update_many(*arguments)
    assert state.update(100 * TICK_E6, 8, 101 * TICK_E6, 7) == 3  # the refusal left no trace


Book = tuple[list[Column], ...]
BACKENDS = pytest.mark.parametrize("backend", [_rust, reference])


@given(book_columns(), st.data())
def test_mlofi_batch_streaming_and_reference_agree_bit_for_bit(book: Book, data: st.DataObject) -> None:
    restart = data.draw(marks(len(book[0][0])))
    expected = reference.mlofi(*book, restart=restart)
    assert_same(mlofi(*book, restart=restart), expected)
    assert_same(mlofi(*(np.array(side) for side in book), restart=restart), expected)  # rows of one array
    out = np.empty_like(expected)
    assert mlofi(*book, restart=restart, out=out) is out
    assert_same(out, expected)
    ours, theirs = Mlofi(len(book[0])), reference.Mlofi(len(book[0]))
    cut = data.draw(st.integers(0, len(restart)))
    for part in (slice(0, cut), slice(cut, None)):
        rows = [[column[part] for column in side] for side in book]
        for one, other in zip(ours.update_many(*rows, restart=restart[part]),
                              theirs.update_many(*rows, restart=restart[part]), strict=True):  # fmt: skip
            assert_same(one, other)
        assert (ours.value, ours.validity) == (theirs.value, theirs.validity)


@given(book_columns())
def test_every_level_of_mlofi_is_the_ofi_of_that_level_one_update_at_a_time(book: Book) -> None:
    states = (Mlofi(len(book[0])), reference.Mlofi(len(book[0])))
    for row in range(len(book[0][0])):
        one = [[int(column[row]) for column in side] for side in book]
        expected = tuple(int(ofi(*level)[row]) for level in zip(*book, strict=True))
        assert [state.update(*one) for state in states] == [expected, expected]
        assert {state.value for state in states} == {expected}


@pytest.mark.parametrize("state", [Mlofi(2), reference.Mlofi(2)])
def test_a_gap_makes_mlofi_begin_anew(state: Mlofi) -> None:
    book = ([100, 99], [5, 6], [101, 102], [7, 8])
    assert (state.update(*book), state.validity) == ((0, 0), Validity.WARMING_UP)
    assert (state.update([100, 99], [9, 6], [101, 102], [7, 1]), state.validity) == ((4, 7), Validity.VALID)
    state.taint()
    assert (state.value, state.validity) == ((0, 0), Validity.TAINTED)
    assert (state.update(*book), state.validity) == ((0, 0), Validity.TAINTED)
    assert (state.update(*book), state.validity) == ((0, 0), Validity.VALID)
    state.reset()
    assert (state.value, state.validity) == ((0, 0), Validity.WARMING_UP)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([P, P], [V, V], [P, P], [V]), "ask_volume: has 1 levels, bid_price_e6 has 2"),
        (([], [], [], []), "bid_price_e6: has 0 levels, not 1 … 10"),
        (([P] * 11, [V] * 11, [P] * 11, [V] * 11), "bid_price_e6: has 11 levels"),
        ((P, [V], [P], [V]), r"bid_price_e6\[0\]: must be a 1-dimensional array of int64"),
        ((7, [V], [P], [V]), "bid_price_e6: must be a sequence of columns"),
        (([P, P], [V, V[:1]], [P, P], [V, V]), r"bid_volume\[1\]: has 1 rows, bid_price_e6\[0\] has 2"),
        (([P, P], [V, V], [P, P], [V, -V]), r"ask_volume\[1\]: row 0: -5 is not within"),
        (
            ([P, np.array([EMPTY_PRICE_E6] * 2)], [V, V], [P, P], [V, V]),
            r"bid_volume\[1\]: row 0: 5 at a level without",
        ),
    ],
)
@BACKENDS
def test_mlofi_refuses_what_is_no_book_and_names_the_level(
    backend: object, arguments: tuple[object, ...], message: str
) -> None:
    state = backend.Mlofi(2)  # type: ignore[attr-defined]
    state.update([100, 99], [5, 6], [101, 102], [7, 8])
    with pytest.raises(ValueError, match=message):
        backend.mlofi(*arguments)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=message):
        state.update_many(*arguments)
    assert state.update([100, 99], [9, 6], [101, 102], [7, 1]) == (4, 7)  # the refusal left no trace


@BACKENDS
def test_one_book_is_refused_as_a_column_of_books_is(backend: object) -> None:
    state = backend.Mlofi(2)  # type: ignore[attr-defined]
    for book, message in (
        (([100], [5], [101], [7]), "bid_price_e6: has 1 levels, not 2"),
        (([100, 99], [5, -6], [101, 102], [7, 8]), r"bid_volume(\[1\])?: (row 0: )?-6 is not within"),
        (([100, 99], [5, 1.5], [101, 102], [7, 8]), r"bid_volume\[1\]: 1.5 is no number that fits"),
        (([100, 99], [5, 2**63], [101, 102], [7, 8]), r"bid_volume\[1\]: 9223372036854775808 is no number that fits"),
        (([100] * 11, [5] * 11, [101] * 11, [7] * 11), "bid_price_e6: has more than 10 levels"),
        ((100, [5, 6], [101, 102], [7, 8]), "bid_price_e6: must be a sequence of numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            state.update(*book)
    assert state.validity == Validity.WARMING_UP
    with pytest.raises(ValueError, match="levels: has 11 levels"):
        backend.Mlofi(11)  # type: ignore[attr-defined]


@BACKENDS
def test_an_out_that_does_not_fit_is_refused(backend: object) -> None:
    mlofi = backend.mlofi  # type: ignore[attr-defined]
    for out in (
        np.empty(2, np.int64),
        np.empty((2, 2), np.int64),
        np.empty((1, 2)),
        np.empty((1, 4), np.int64)[:, ::2],
    ):
        with pytest.raises(ValueError, match="out: must be"):
            mlofi([P], [V], [P], [V], out=out)


trades = st.integers(0, 30).flatmap(
    lambda rows: st.tuples(
        st.lists(st.integers(0, 2), min_size=rows, max_size=rows).map(lambda sides: np.array(sides, np.uint8)),
        st.lists(st.one_of(st.integers(0, 9), st.just(2**40)), min_size=rows, max_size=rows).map(
            lambda volumes: np.array(volumes, np.int64)
        ),
        marks(rows),
    )
)


@given(trades)
def test_trade_imbalance_batch_streaming_and_reference_agree(drawn: tuple[NDArray[np.uint8], Column, Column]) -> None:
    side, volume, restart = drawn
    expected = reference.trade_imbalance(side, volume)
    assert_same(trade_imbalance(side, volume), expected)
    ours, theirs = TradeImbalance(), reference.TradeImbalance()
    for one, other in zip(ours.update_many(side, volume, restart=restart),
                          theirs.update_many(side, volume, restart=restart), strict=True):  # fmt: skip
        assert_same(one, other)
    assert (ours.value, ours.validity) == (theirs.value, theirs.validity)
    assert [ours.update(*trade) for trade in zip(side.tolist(), volume.tolist(), strict=True)] == expected.tolist()
    for state in (ours, theirs):
        state.taint()
        assert (state.value, state.validity) == (0, Validity.TAINTED)
        assert (state.update(2, 3), state.validity) == (-3, Validity.VALID)
        state.reset()
        assert (state.value, state.validity) == (0, Validity.WARMING_UP)


@BACKENDS
def test_trade_imbalance_refuses_what_is_no_trade(backend: object) -> None:
    sides, volumes = np.array([1, 2], np.uint8), np.array([3, 4], np.int64)
    state = backend.TradeImbalance()  # type: ignore[attr-defined]
    for arguments, message in (
        ((sides + np.uint8(1), volumes), "side: row 1: 3 is not 0"),
        ((sides, -volumes), "volume: row 0: -3 is not within"),
        ((sides, volumes[:1]), "volume: has 1 rows, side has 2"),
        ((sides.astype(np.int64), volumes), "side: must be a 1-dimensional array of uint8"),
    ):
        for call in (backend.trade_imbalance, state.update_many):  # type: ignore[attr-defined]
            with pytest.raises(ValueError, match=message):
                call(*arguments)
    with pytest.raises(ValueError, match="restart: row 0 is 3"):
        state.update_many(sides, volumes, restart=np.array([3, 0], np.uint8))
    assert (state.value, state.validity) == (0, Validity.WARMING_UP)
