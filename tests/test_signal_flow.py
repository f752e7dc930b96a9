"""Order flow imbalance: the kernel, its streaming form and the NumPy reference are one thing, and it is the paper's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from signal_columns import TICK_E6, Column, assert_same, marks, touches

from rust_indicators import EMPTY_PRICE_E6, Ofi, Validity, _rust, ofi
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
