"""VPIN: kernel, streaming form and reference are one thing; buckets are exact, and a real day has its numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from real_data import needs_data
from signal_columns import SECOND, Column, assert_same, marks, session_trades

from rust_indicators import BulkVpin, TimeBars, Validity, Vpin, _rust, bulk_vpin, vpin
from rust_indicators.reference import toxicity as reference

Sides = NDArray[np.uint8]
BACKENDS = pytest.mark.parametrize("backend", [_rust, reference])


@st.composite
def trades(draw: st.DrawFn, rows_max: int = 60) -> tuple[Sides, Column]:
    """Sides and lots, with unknown sides, nothing traded and trades of many buckets among them."""
    rows = draw(st.integers(0, rows_max))
    volume = st.one_of(st.integers(0, 9), st.integers(0, 9), st.integers(0, 200))
    return (
        np.array(draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)), np.uint8),
        np.array(draw(st.lists(volume, min_size=rows, max_size=rows)), np.int64),
    )


windows = st.tuples(st.integers(1, 40), st.integers(1, 5))


@given(trades(), windows, st.data())
def test_vpin_batch_streaming_and_reference_agree_bit_for_bit(
    columns: tuple[Sides, Column], window: tuple[int, int], data: st.DataObject
) -> None:
    restart = data.draw(marks(len(columns[0])))
    values, last_row = vpin(*columns, *window, restart=restart)
    for one, other in zip((values, last_row), reference.vpin(*columns, *window, restart=restart), strict=True):
        assert_same(one, other)
    ours, theirs = Vpin(*window), reference.Vpin(*window)
    cut = data.draw(st.integers(0, len(restart)))
    streamed = []
    for part in (slice(0, cut), slice(cut, None)):
        rows = [column[part] for column in columns]
        result = ours.update_many(*rows, restart=restart[part])
        for one, other in zip(result, theirs.update_many(*rows, restart=restart[part]), strict=True):
            assert_same(one, other)
        assert_same([ours.value, ours.validity], [theirs.value, theirs.validity])
        streamed.append(result)
    every, validity = (np.concatenate(parts) for parts in zip(*streamed, strict=True))
    assert_same(np.isnan(every), validity != Validity.VALID)
    # After the last bucket that a trade completed, the streaming value is the batch's, until a restart.
    for row in np.unique(last_row):
        assert_same(every[row], values[np.flatnonzero(last_row == row)[-1]])


@given(trades(), windows)
def test_one_update_at_a_time_is_update_many(columns: tuple[Sides, Column], window: tuple[int, int]) -> None:
    for state, other in ((Vpin(*window), Vpin(*window)), (reference.Vpin(*window), reference.Vpin(*window))):
        one_by_one = [state.update(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
        assert_same(np.array(one_by_one, np.float64), other.update_many(*columns)[0])


@given(trades(), windows)
def test_buckets_are_exact_however_the_lots_are_spread_over_them(
    columns: tuple[Sides, Column], window: tuple[int, int]
) -> None:
    """Every lot a trade of its own: the slow definition."""
    bucket_volume, buckets = window
    signed = np.repeat(np.array([0, 1, -1])[columns[0]], columns[1])
    full = len(signed) // bucket_volume
    imbalance = np.abs(signed[: full * bucket_volume].reshape(full, bucket_volume).sum(axis=1))
    expected = np.full(full, np.nan)
    for last in range(buckets - 1, full):
        expected[last] = imbalance[last - buckets + 1 : last + 1].sum() / (buckets * bucket_volume)
    values, last_row = vpin(*columns, *window)
    assert_same(values, expected)
    row_of_lot = np.repeat(np.arange(len(columns[1])), columns[1])
    assert_same(last_row, row_of_lot[bucket_volume - 1 :: bucket_volume][:full])


@given(trades(), windows, st.integers(1, 1000))
def test_swapping_buyers_and_sellers_or_counting_in_other_lots_changes_nothing(
    columns: tuple[Sides, Column], window: tuple[int, int], lot: int
) -> None:
    expected, _ = vpin(*columns, *window)
    swapped = np.array([0, 2, 1], np.uint8)[columns[0]]
    assert_same(vpin(swapped, columns[1], *window)[0], expected)
    assert_same(vpin(columns[0], columns[1] * lot, window[0] * lot, window[1])[0], expected, 1e-15)
    assert ((expected >= 0) & (expected <= 1) | np.isnan(expected)).all()


@BACKENDS
def test_vpin_by_hand(backend: Any) -> None:
    side = np.array([1, 2, 0, 1, 1, 2], np.uint8)
    volume = np.array([6, 2, 4, 7, 21, 9], np.int64)
    # Buckets of ten: 6−2+0 | 0+7−… : lots 0..9 = 6 buy, 2 sell, 2 of the unknown: 4; 10..19 = 2 unknown, 7 + 1 buy: 8;
    # 20..29 = 10 buy; 30..39 = 10 buy; 40..48 not full.
    values, last_row = backend.vpin(side, volume, 10, 2)
    assert_same(values, [math.nan, 12 / 20, 18 / 20, 20 / 20])
    assert last_row.tolist() == [2, 4, 4, 4]
    state = backend.Vpin(10, 2)
    states = [(state.update(*row), state.validity) for row in zip(side.tolist(), volume.tolist(), strict=True)]
    assert [validity for _, validity in states] == [Validity.WARMING_UP] * 4 + [Validity.VALID] * 2
    assert [value for value, _ in states[4:]] == [1.0, 1.0]
    state.taint()
    assert (math.isnan(state.value), state.validity) == (True, Validity.TAINTED)
    assert math.isnan(state.update(2, 19)) and state.validity == Validity.TAINTED
    assert (state.update(2, 1), state.validity) == (1.0, Validity.VALID)
    state.reset()
    assert (math.isnan(state.value), state.validity) == (True, Validity.WARMING_UP)


@BACKENDS
def test_one_trade_of_a_million_million_lots_ends_and_leaves_the_right_rest(backend: Any) -> None:
    state = backend.Vpin(3, 4)
    assert state.update(1, 2**40) == 1.0
    # 2⁴⁰ = 3 · 366503875925 + 1: one bought lot stands in the bucket; two sold ones make |1 − 2|.
    assert state.update(2, 2) == (3 * 3 + 1) / 12
    with pytest.raises(ValueError, match="volume: row 1: 1099511627776 fills more than 2¹⁶ buckets of 3"):
        backend.vpin(np.array([1, 1], np.uint8), np.array([5, 2**40]), 3, 4)
    most = np.array([3 * 2**16 + 2], np.int64)
    assert len(backend.vpin(np.array([1], np.uint8), most, 3, 4)[0]) == 2**16


def test_a_result_larger_than_its_limit_is_refused_and_not_tried() -> None:
    volume = np.full(300, 2**16, np.int64)
    with pytest.raises(ValueError, match="bucket_volume: so small"):
        vpin(np.ones(300, np.uint8), volume, 1)


@st.composite
def bars(draw: st.DrawFn, rows_max: int = 40) -> tuple[Column, Column]:
    """Closes and lots: quiet, wild and unmoved prices, bars of nothing and of many buckets."""
    rows = draw(st.integers(0, rows_max))
    price = st.one_of(st.integers(95, 105).map(lambda p: p * 10**6), st.just(10**8), st.sampled_from((-(2**46), 2**46)))
    volume = st.one_of(st.integers(0, 9), st.integers(0, 200))
    return (
        np.array(draw(st.lists(price, min_size=rows, max_size=rows)), np.int64),
        np.array(draw(st.lists(volume, min_size=rows, max_size=rows)), np.int64),
    )


sigmas = st.one_of(st.none(), st.sampled_from((0.25, 3.0, 1e-9, 1e9)))


def assert_near(ours: Any, theirs: Any) -> None:
    """Within 1e-12: VPIN is a share, and small ones are differences of large ones."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12, equal_nan=True)


@given(bars(), windows, sigmas, st.one_of(st.none(), st.just(99 * 10**6)), st.data())
def test_bulk_vpin_batch_streaming_and_reference_agree(
    columns: tuple[Column, Column], window: tuple[int, int], sigma: float | None, close: int | None, data: st.DataObject
) -> None:
    restart = data.draw(marks(len(columns[0])))
    options: dict[str, Any] = {"sigma": sigma, "previous_close_e6": close}
    values, last_row = bulk_vpin(*columns, *window, **options, restart=restart)
    expected, expected_row = reference.bulk_vpin(*columns, *window, **options, restart=restart)
    assert_near(values, expected)
    assert_same(last_row, expected_row)
    ours, theirs = BulkVpin(*window, **options), reference.BulkVpin(*window, **options)
    single, cut = BulkVpin(*window, **options), data.draw(st.integers(0, len(restart)))
    for part in (slice(0, cut), slice(cut, None)):
        rows = [column[part] for column in columns]
        found, valid = ours.update_many(*rows, restart=restart[part])
        expected, expected_valid = theirs.update_many(*rows, restart=restart[part])
        assert_near(found, expected)
        assert_same(valid, expected_valid)
        assert_same(np.isnan(found), valid != Validity.VALID)
        for row, mark in enumerate(restart[part].tolist()):
            if mark:
                single.reset() if mark == 1 else single.taint()
            assert_same(single.update(*(int(column[row]) for column in rows)), found[row])
            of_row = np.flatnonzero(last_row == part.indices(len(restart))[0] + row)
            if len(of_row):
                assert_near(found[row], values[of_row[-1]])


@given(bars(), windows, sigmas)
def test_bulk_volume_is_that_of_every_lot_with_the_share_of_its_bar(
    columns: tuple[Column, Column], window: tuple[int, int], sigma: float | None
) -> None:
    """Every lot apart, and the deviation of the past from its definition: the slow way."""
    price, volume = columns
    change = [0.0, *(np.diff(price).astype(float) / 1e6).tolist()]
    tilts = []
    for row, moved in enumerate(change[: len(price)]):
        past = change[:row]
        mean = math.fsum(past) / max(1, row)
        deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in past) / (row - 1)) if row >= 2 else 0.0
        scale = sigma if sigma is not None else deviation
        tilts.append(math.erf(moved / scale / math.sqrt(2)) if scale else 0.0)
    bucket_volume, buckets = window
    lots = np.repeat(tilts, volume)
    full = len(lots) // bucket_volume
    imbalance = [abs(math.fsum(lots[k * bucket_volume : (k + 1) * bucket_volume])) for k in range(full)]
    expected = [
        math.fsum(imbalance[k + 1 - buckets : k + 1]) / (buckets * bucket_volume) if k + 1 >= buckets else math.nan
        for k in range(full)
    ]
    assert_near(bulk_vpin(*columns, *window, sigma=sigma)[0], np.array(expected))


@given(bars(), bars(), windows, st.data())
def test_the_future_changes_no_past_value(
    columns: tuple[Column, Column], other: tuple[Column, Column], window: tuple[int, int], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(columns[0])))
    changed = [np.concatenate((column[:cut], more)) for column, more in zip(columns, other, strict=True)]
    for backend in (_rust, reference):
        past, _ = backend.BulkVpin(*window).update_many(*columns)  # type: ignore[attr-defined]
        assert_same(backend.BulkVpin(*window).update_many(*changed)[0][:cut], past[:cut])  # type: ignore[attr-defined]


@given(bars(), windows, sigmas)
def test_mirrored_prices_and_other_lots_give_the_same_bulk_vpin(
    columns: tuple[Column, Column], window: tuple[int, int], sigma: float | None
) -> None:
    expected, _ = bulk_vpin(*columns, *window, sigma=sigma)
    assert_same(bulk_vpin(-columns[0], columns[1], *window, sigma=sigma)[0], expected)
    assert_near(bulk_vpin(columns[0], columns[1] * 3, window[0] * 3, window[1], sigma=sigma)[0], expected)
    assert ((expected >= 0) & (expected <= 1 + 1e-12) | np.isnan(expected)).all()


@BACKENDS
def test_bulk_vpin_by_hand(backend: Any) -> None:
    price, volume = np.array([100, 101, 101, 99], np.int64) * 10**6, np.array([10, 10, 10, 15], np.int64)
    one = math.erf(1 / math.sqrt(2))  # of a change of one deviation: 68 % of the lots more on one side
    values, last_row = backend.bulk_vpin(price, volume, 10, 1, sigma=1.0)
    assert_near(values, [0, one, 0, math.erf(math.sqrt(2))])
    assert last_row.tolist() == [0, 1, 2, 3]
    known, _ = backend.bulk_vpin(price, volume, 10, 1, sigma=1.0, previous_close_e6=101 * 10**6)
    assert_near(known, [one, *values[1:]])
    # Past-only: before the third bar the changes 0, 1 (σ √½), before the fourth 0, 1, 0 (σ √⅓).
    past, _ = backend.bulk_vpin(price, volume, 10, 1)
    assert_near(past, [0, 0, 0, math.erf(2 * math.sqrt(3) / math.sqrt(2))])
    state = backend.BulkVpin(10, 2)
    states = [(state.update(*row), state.validity) for row in ((100, 9), (100, 1), (100, 25))]
    assert [validity for _, validity in states] == [Validity.WARMING_UP, Validity.WARMING_UP, Validity.VALID]
    state.taint()
    assert (math.isnan(state.value), state.validity) == (True, Validity.TAINTED)
    assert (state.update(100, 2**40), state.validity) == (0.0, Validity.VALID)
    state.reset()
    assert (math.isnan(state.value), state.validity) == (True, Validity.WARMING_UP)


S, V = np.array([1, 2], np.uint8), np.array([5, 6], np.int64)
REFUSED = [
    ((S.astype(np.int64), V), "side: must be a 1-dimensional array of uint8"),
    ((S, V.astype(float)), "volume: must be a 1-dimensional array of int64"),
    ((S, V[:1]), "volume: has 1 rows, side has 2"),
    ((S + np.uint8(1), V), "side: row 1: 3 is not 0"),
    ((S, V - 6), "volume: row 0: -1 is not within"),
    ((S, V + 2**40), "volume: row 0: 1099511627781 is not within"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
@BACKENDS
def test_vpin_refuses_what_is_no_trade_and_names_it(backend: Any, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backend.vpin(*arguments, 10)
    state = backend.Vpin(10, 1)
    state.update(1, 9)
    with pytest.raises(ValueError, match=message):
        state.update_many(*arguments)
    assert state.update(1, 1) == 1.0  # the refusal left no trace


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5), "bucket_volume: 0 is not within"),
        ((2**40 + 1, 5), "bucket_volume: 1099511627777 is not within"),
        ((5, 0), "buckets: 0 is not within"),
        ((5, 2**20 + 1), "buckets: 1048577 is not within"),
    ],
)
@BACKENDS
def test_vpin_refuses_buckets_that_are_none(backend: Any, arguments: tuple[int, int], message: str) -> None:
    for make in (lambda: backend.Vpin(*arguments), lambda: backend.vpin(S, V, *arguments)):
        with pytest.raises(ValueError, match=message):
            make()
    state = backend.Vpin(5)
    for trade, named in (((3, 1), "side: 3"), ((-1, 1), "side: -1"), ((1, -1), "volume: -1")):
        with pytest.raises(ValueError, match=named):
            state.update(*trade)
    with pytest.raises(ValueError, match="restart: row 0 is 3"):
        backend.vpin(S, V, 5, restart=np.array([3, 0], np.uint8))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((V, S, 10), {}, "volume: must be a 1-dimensional array of int64"),
        ((V, V[:1], 10), {}, "volume: has 1 rows, price_e6 has 2"),
        ((V + 2**46, V, 10), {}, "price_e6: row 0: 70368744177669 is not within"),
        ((V, -V, 10), {}, "volume: row 0: -5 is not within"),
        ((V, V + 2**39, 10), {}, "volume: row 0: 549755813893 fills more than 2¹⁶ buckets of 10"),
        ((V, V, 0), {}, "bucket_volume: 0 is not within"),
        ((V, V, 10, 0), {}, "buckets: 0 is not within"),
        ((V, V, 10), {"sigma": 0.0}, "sigma: 0.* is not a finite number above 0"),
        ((V, V, 10), {"sigma": math.nan}, "sigma: "),
        ((V, V, 10), {"previous_close_e6": 2**46 + 1}, "previous_close_e6: 70368744177665 is not within"),
        ((V, V, 10), {"restart": np.array([0, 9], np.uint8)}, "restart: row 1 is 9"),
    ],
)
@BACKENDS
def test_bulk_vpin_refuses_by_name(
    backend: Any, arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        backend.bulk_vpin(*arguments, **options)
    state = backend.BulkVpin(10, 1, sigma=1.0)
    state.update(10**6, 9)
    for refused in ((2**46 + 1, 5), (5, -1)):
        with pytest.raises(ValueError, match="is not within"):
            state.update(*refused)
    with pytest.raises(ValueError, match="volume: row 1"):
        state.update_many(V, V - 6 + np.array([1, -7]))
    assert state.update(2 * 10**6, 1) == pytest.approx(math.erf(math.sqrt(0.5)) / 10)


@needs_data
@BACKENDS
def test_vpin_of_a_real_day_is_the_published_one(backend: Any) -> None:
    day = session_trades("TXFD6_2026-04-09")
    values, last_row = backend.vpin(day.side, day.volume, 1000, 20)
    assert (len(day.volume), day.volume.sum(), len(values)) == (31_885, 52_121, 52)
    assert values[-1] == pytest.approx(0.1724, rel=1e-6)
    assert np.nanmean(values) == pytest.approx(0.14765, abs=5e-6)
    assert np.array_equal(last_row, np.searchsorted(np.cumsum(day.volume), np.arange(1, 53) * 1000))


@needs_data
@BACKENDS
def test_bulk_vpin_of_a_real_day_is_the_published_one(backend: Any) -> None:
    close, volume = minutes("TXFD6_2026-04-09")
    change = np.diff(close, prepend=close[0]) / 1e6
    values, _ = backend.bulk_vpin(close, volume, 1000, 20, sigma=change.std(ddof=1))
    assert (len(close), round(values[-1], 5), round(np.nanmean(values), 5)) == (300, 0.17349, 0.25314)
    assert round(backend.bulk_vpin(close, volume, 1000, 20)[0][-1], 5) == 0.16691  # without looking ahead


@needs_data
def test_bulk_vpin_is_no_stand_in_for_the_recorded_sides() -> None:
    day = session_trades("TXFD6_2026-04-09")
    signed, bulk = vpin(day.side, day.volume, 1042, 10)[0], bulk_vpin(*minutes("TXFD6_2026-04-09"), 1042, 10)[0]
    assert len(signed) == len(bulk) == 50
    assert np.corrcoef(signed[9:], bulk[9:])[0, 1] == pytest.approx(-0.4247, abs=5e-5)


def minutes(name: str) -> tuple[Column, Column]:
    """Close × 10⁶ and lots of the session's minutes, the last one too."""
    day, state = session_trades(name), TimeBars(60 * SECOND)
    bars = state.update_many(day.exchange_ns, day.price_e6, day.volume, day.side)
    last = state.flush()
    assert last is not None
    return np.append(bars["close_e6"], last["close_e6"]), np.append(bars["volume"], last["volume"])
