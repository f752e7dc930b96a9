"""Micro-price: kernel, stream and NumPy reference are one thing; the fit is antisymmetric and serves a later day."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from real_data import needs_data
from signal_columns import SECOND, TICK_E6, Column, assert_same, futures, marks, touches

from rust_indicators import EMPTY_PRICE_E6, MicroPrice, Validity, _rust, micro_price, sample_last, weighted_mid
from rust_indicators.calibrate import fit_micro_price
from rust_indicators.reference import microprice as reference

Touches = tuple[Column, Column, Column, Column]
BACKENDS = pytest.mark.parametrize("backend", [_rust, reference])
# Spreads of 1 and 3 ticks are fitted, 2 is not.
TABLE = np.array([[-0.3, -0.1, 0.1, 0.3], [np.nan] * 4, [-0.9, -0.2, 0.2, 0.9]])


@given(touches(), st.data())
def test_micro_price_batch_streaming_and_reference_agree(columns: Touches, data: st.DataObject) -> None:
    expected = micro_price(*columns, TABLE, TICK_E6)
    assert_same(expected, reference.micro_price(*columns, TABLE, TICK_E6), 1e-12)
    restart = data.draw(marks(len(columns[0])))
    ours, theirs = MicroPrice(TABLE, TICK_E6), reference.MicroPrice(TABLE, TICK_E6)
    one, other = (state.update_many(*columns, restart=restart) for state in (ours, theirs))
    assert_same(one[0], expected)
    assert_same(one[1], other[1])
    for row, value in zip(zip(*(column.tolist() for column in columns), strict=True), expected, strict=True):
        np.testing.assert_equal(ours.update(*row), value)
        assert ours.validity == (Validity.UNDEFINED if np.isnan(value) else Validity.VALID)


@BACKENDS
@pytest.mark.parametrize(
    ("book", "expected"),
    [
        ((100, 9, 101, 1), 100.5 + 0.3),
        ((100, 1, 101, 9), 100.5 - 0.3),
        ((100, 5, 101, 5), 100.5 + 0.1),  # I = ½ is the lower end of its bucket
        ((100, 7, 101, 0), 100.5 + 0.3),  # I = 1 belongs to the last bucket
        ((100, 9, 102, 1), 101.8),  # not fitted: the weighted mid
        ((100, 9, 103, 1), 101.5 + 0.9),
        ((100, 9, 104, 1), 103.6),  # beyond the table
        ((100, 9, 100, 1), 100.0),  # locked
        ((100, 0, 101, 0), np.nan),
        ((100, 9, None, 0), np.nan),
    ],
)
def test_micro_price_by_hand(backend: Any, book: tuple[int | None, ...], expected: float) -> None:
    prices = [EMPTY_PRICE_E6 if book[at] is None else book[at] * TICK_E6 for at in (0, 2)]
    state = backend.MicroPrice(TABLE, TICK_E6)
    assert state.update(prices[0], book[1], prices[1], book[3]) == pytest.approx(expected * TICK_E6, nan_ok=True)
    assert state.validity == (Validity.UNDEFINED if np.isnan(expected) else Validity.VALID)
    state.taint()
    assert np.isnan(state.value) and state.validity == Validity.TAINTED
    state.reset()
    assert state.validity == Validity.WARMING_UP


P, V = np.array([100, 101]) * TICK_E6, np.array([5, 6])


@BACKENDS
def test_what_is_no_table_and_no_book_is_refused_by_name(backend: Any) -> None:
    for table, tick_size_e6, message in (
        (TABLE[0], TICK_E6, "table: must be a contiguous 2-dim"),
        (TABLE.T, TICK_E6, "table: must be a contiguous 2-dim"),
        (TABLE.astype(np.float32), TICK_E6, "table: must be a contiguous 2-dim"),
        (TABLE[:0], TICK_E6, "table: must have 1"),
        (TABLE * np.inf, TICK_E6, "table: -inf ticks are no move"),
        (TABLE, 0, "tick_size_e6: 0 is not above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            backend.MicroPrice(table, tick_size_e6)
        with pytest.raises(ValueError, match=message):
            backend.micro_price(P, V, P + TICK_E6, V, table, tick_size_e6)
    state = backend.MicroPrice(TABLE, TICK_E6)
    before = state.update(100, 5, 101, 5)
    for refused, message in (((P, -V, P, V), "bid_volume: row 0"), ((P, V, P, V[:1]), "ask_volume: has 1 rows"),
                             ((P + 2**61, V, P, V), "bid_price_e6: row 0")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            state.update_many(*refused)
    with pytest.raises(ValueError, match="bid_volume: "):
        state.update(100, -5, 101, 5)
    assert (state.value, state.validity) == (before, Validity.VALID)


def test_a_fit_by_hand_is_the_expected_move() -> None:
    """Ten lots to one, and up it goes by a tick; then evenly matched, and there it stays for good."""
    price = np.array([100, 101, 101, 101]) * TICK_E6
    fitted = fit_micro_price(
        price, np.array([10, 5, 5, 5]), price + TICK_E6, np.array([1, 5, 5, 5]), TICK_E6,
        imbalance_buckets=3, spread_ticks_max=2,
    )  # fmt: skip
    assert fitted.table[0].tolist() == [-1.0, 0.0, 1.0]
    assert fitted.observations.tolist() == [[1, 4, 1], [0, 0, 0]]
    assert np.isnan(fitted.table[1]).all()  # never seen


def test_what_cannot_be_fitted_is_refused() -> None:
    for arguments, message in (
        ((P, V, P + 9 * TICK_E6, V, TICK_E6), "bid_price_e6: no step"),
        ((P, V, P + TICK_E6, V, 0), "tick_size_e6: 0"),
        ((P, -V, P + TICK_E6, V, TICK_E6), "bid_volume: row 0"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_micro_price(*arguments)
    with pytest.raises(ValueError, match="imbalance_buckets: "):
        fit_micro_price(P, V, P + TICK_E6, V, TICK_E6, imbalance_buckets=0)


def seconds(name: str, begin_ns: int) -> Touches:
    """Best levels of a day session, one row a second."""
    books = futures(name)
    rows = sample_last(books.exchange_ns, np.arange(begin_ns, begin_ns + 18_001 * SECOND, SECOND))
    return tuple(np.ascontiguousarray(column[rows[rows >= 0]]) for column in books.best())  # type: ignore[return-value]


OPENS = {"TXFD6_2026-04-09": 1_775_695_500 * SECOND, "TXFD6_2026-04-10": 1_775_781_900 * SECOND}  # 08:45 Taipei


@needs_data
def test_a_day_gives_the_published_adjustment_and_one_that_is_antisymmetric() -> None:
    """The definition leaves open the buckets, the widest spread and what move is a jump: the defaults are those that
    meet the published number, so it pins them and does not prove them.
    """
    fitted = fit_micro_price(*seconds("TXFD6_2026-04-09", OPENS["TXFD6_2026-04-09"]), TICK_E6)
    assert_close_to_antisymmetric(fitted.table)
    assert (fitted.table[3].min(), fitted.table[3].max()) == pytest.approx((-0.579, 0.579), abs=0.0005)
    assert (np.diff(fitted.table[3]) > 0).all()  # the more is bid, the higher


def assert_close_to_antisymmetric(table: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(table, -table[:, ::-1], atol=1e-12)


@needs_data
def test_a_table_of_the_day_before_says_something_of_the_next() -> None:
    table = fit_micro_price(*seconds("TXFD6_2026-04-09", OPENS["TXFD6_2026-04-09"]), TICK_E6).table
    best = seconds("TXFD6_2026-04-10", OPENS["TXFD6_2026-04-10"])
    bid, _, ask, _ = best
    mid, price = (bid + ask) / 2, micro_price(*best, table, TICK_E6)
    told, came = (price - mid)[:-1], np.diff(mid)  # the step of the fit: a second, so that no two overlap
    known = ~np.isnan(told) & ~np.isnan(came)
    assert np.corrcoef(told[known], came[known])[0, 1] > 5 / np.sqrt(known.sum())  # chance would be 1 / √n
    assert (price != weighted_mid(*best)).mean() > 0.5  # most of the day has a fitted spread
