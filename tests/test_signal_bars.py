"""Bars: no lot is lost between them, none is made up, and batch, streaming and reference give the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from real_data import needs_data
from signal_columns import SECOND, Column, assert_same, marks, session_open_ns, session_trades

import rust_indicators
from rust_indicators import Restart, Validity, _rust, time_bars
from rust_indicators.reference import bars as reference

BACKENDS = pytest.mark.parametrize("backend", [_rust, reference])
Columns = tuple[Column, Column, Column, NDArray[np.uint8]]
KINDS = (
    ("time_bars", "TimeBars"),
    ("tick_bars", "TickBars"),
    ("volume_bars", "VolumeBars"),
    ("dollar_bars", "DollarBars"),
)
SIZES = {"time_bars": 7, "tick_bars": 3, "volume_bars": 12, "dollar_bars": 900}
KIND = pytest.mark.parametrize(("batch", "name"), KINDS)


@st.composite
def trades(draw: st.DrawFn, rows_max: int = 40) -> Columns:
    """Trades at nearby and at equal stamps; prices and volumes of 0, and trades larger than any bar."""
    rows = draw(st.integers(0, rows_max))

    def column(values: st.SearchStrategy[int]) -> Any:
        return np.array(draw(st.lists(values, min_size=rows, max_size=rows)), np.int64)

    waits = column(st.one_of(st.integers(0, 3), st.integers(0, 3), st.sampled_from((20, 2**50))))
    volume = column(st.one_of(st.integers(0, 9), st.just(2**40)))
    return np.cumsum(waits), column(st.integers(0, 200)), volume, column(st.integers(0, 2)).astype(np.uint8)


def assert_same_bars(ours: Any, theirs: Any) -> None:
    assert list(ours) == list(theirs)
    for name in ours:
        assert_same(ours[name], theirs[name])


def rows_of(bars: Any) -> list[dict[str, int]]:
    return [
        dict(zip(bars, row, strict=True)) for row in zip(*(column.tolist() for column in bars.values()), strict=True)
    ]


@KIND
@given(trades(), st.data())
def test_batch_streaming_and_reference_give_the_same_bars(
    batch: str, name: str, columns: Columns, data: st.DataObject
) -> None:
    restart, size = data.draw(marks(len(columns[0]))), SIZES[batch]
    whole = getattr(_rust, batch)(*columns, size, restart=restart)
    assert_same_bars(whole, getattr(reference, batch)(*columns, size, restart=restart))
    ours, theirs = getattr(_rust, name)(size), getattr(reference, name)(size)
    cut, pieces = data.draw(st.integers(0, len(restart))), []
    for part in (slice(0, cut), slice(cut, None)):
        rows = [column[part] for column in columns]
        pieces.append(ours.update_many(*rows, restart=restart[part]))
        assert_same_bars(pieces[-1], theirs.update_many(*rows, restart=restart[part]))
        assert (ours.value, ours.validity) == (theirs.value, theirs.validity)
    assert_same_bars({field: np.concatenate([piece[field] for piece in pieces]) for field in whole}, whole)
    assert ours.flush() == theirs.flush()
    assert (ours.value, ours.validity) == (theirs.value, theirs.validity)


@KIND
@BACKENDS
@given(columns=trades(rows_max=20))
def test_one_update_at_a_time_gives_the_batch(batch: str, name: str, backend: Any, columns: Columns) -> None:
    state = getattr(backend, name)(SIZES[batch])
    found = [state.update(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    assert [bar for bar in found if bar] == rows_of(getattr(_rust, batch)(*columns, SIZES[batch]))


@KIND
@given(trades(), st.data())
def test_every_trade_is_in_one_bar_and_every_bar_is_its_trades(
    batch: str, name: str, columns: Columns, data: st.DataObject
) -> None:
    restart = data.draw(marks(len(columns[0])))
    state = getattr(_rust, name)(SIZES[batch])
    bars = rows_of(state.update_many(*columns, restart=restart))
    bars += [last] if (last := state.flush()) else []
    exchange_ns, price, volume, side = columns
    first = 0
    for bar in bars:
        rows = slice(first, bar["last_row"] + 1)
        first = rows.stop
        assert bar["trades"] == rows.stop - rows.start
        assert (bar["open_e6"], bar["close_e6"]) == (price[rows][0], price[rows][-1])
        assert (bar["high_e6"], bar["low_e6"]) == (price[rows].max(), price[rows].min())
        assert (bar["volume"], bar["value_e6"]) == (volume[rows].sum(), (price[rows] * volume[rows]).sum())
        assert bar["buy_volume"] == volume[rows][side[rows] == 1].sum()
        assert bar["sell_volume"] == volume[rows][side[rows] == 2].sum()
        assert not restart[rows][1:].any(), "no bar goes over a restart"
        if name == "TimeBars":
            assert bar["start_ns"] % 7 == 0 and bar["end_ns"] == bar["start_ns"] + 7
            assert bar["start_ns"] < exchange_ns[rows][0] and exchange_ns[rows][-1] <= bar["end_ns"]
        else:
            assert (bar["start_ns"], bar["end_ns"]) == (exchange_ns[rows][0], exchange_ns[rows][-1])
    assert first == len(price)


@pytest.mark.parametrize(
    ("batch", "field"), [("tick_bars", "trades"), ("volume_bars", "volume"), ("dollar_bars", "value_e6")]
)
@given(trades())
def test_a_bar_ends_with_the_trade_that_reaches_the_threshold(batch: str, field: str, columns: Columns) -> None:
    size = SIZES[batch]
    bars = getattr(_rust, batch)(*columns, size)
    last = {"trades": np.ones_like(columns[0]), "volume": columns[2], "value_e6": columns[1] * columns[2]}[field]
    assert (bars[field] >= size).all()
    assert (bars[field] - last[bars["last_row"]] < size).all()


@BACKENDS
def test_time_bars_by_hand(backend: Any) -> None:
    at = np.array([10, 11, 20, 21, 45, 50], np.int64)
    columns = (at, at * 100, np.full(6, 2), np.array([1, 2, 0, 1, 1, 1], np.uint8))
    bars = backend.time_bars(*columns, 10)
    # (0, 10], (10, 20], (20, 30]; nothing traded in (30, 40]; (40, 50] is not over at 50.
    assert bars["start_ns"].tolist() == [0, 10, 20] and bars["end_ns"].tolist() == [10, 20, 30]
    assert bars["last_row"].tolist() == [0, 2, 3]
    assert bars["close_e6"].tolist() == [1000, 2000, 2100]
    assert (bars["volume"][1], bars["buy_volume"][1], bars["sell_volume"][1]) == (4, 0, 2)
    assert bars["value_e6"].tolist() == [2000, 6200, 4200]
    state = backend.TimeBars(10)
    assert state.value is None and state.validity == Validity.WARMING_UP and state.flush() is None
    assert [state.update(*row) is None for row in ((10, 5, 1, 1), (11, 6, 1, 1))] == [True, False]
    assert state.value["close_e6"] == 5 and state.validity == Validity.VALID
    assert state.flush()["close_e6"] == 6 and state.flush() is None
    assert backend.TimeBars(10).update(0, 1, 1, 1) is None
    first = backend.TimeBars(10)
    first.update(0, 1, 1, 1)
    assert (first.flush()["start_ns"], first.value["end_ns"]) == (-10, 0)


@BACKENDS
def test_a_restart_ends_the_open_bar_and_a_gap_taints_both_sides_of_it(backend: Any) -> None:
    at = np.arange(100, 108)
    columns = (at, at, np.ones(8, np.int64), np.ones(8, np.uint8))
    restart = np.array([0, 0, 0, Restart.RESET, 0, Restart.TAINT, 0, 0], np.uint8)
    bars = backend.tick_bars(*columns, 2, restart=restart)
    assert bars["trades"].tolist() == [2, 1, 2, 2]
    assert bars["validity"].tolist() == [Validity.VALID, Validity.VALID, Validity.VALID, Validity.TAINTED]
    cut = backend.tick_bars(*columns, 3, restart=restart)
    assert cut["trades"].tolist() == [3, 2, 3]
    assert cut["validity"].tolist() == [Validity.VALID, Validity.TAINTED, Validity.TAINTED]
    state = backend.TickBars(2)
    state.taint()
    states = [(state.update(*row) is None, state.validity) for row in [(100, 1, 1, 1)] * 4]
    assert states == [
        (True, Validity.TAINTED),
        (False, Validity.TAINTED),
        (True, Validity.TAINTED),
        (False, Validity.VALID),
    ]
    state.reset()
    assert (state.value, state.validity) == (None, Validity.WARMING_UP)
    # A new session may begin earlier than the old one ended: replays of days in any order.
    again = (np.array([50, 60, 10, 20]), *(column[:4] for column in columns[1:]))
    assert backend.tick_bars(*again, 2, restart=np.array([0, 0, 1, 0], np.uint8))["start_ns"].tolist() == [50, 10]


C = (np.array([5, 6]), np.array([7, 8]), np.array([1, 2]), np.array([1, 2], np.uint8))
REFUSED = [
    ((C[0].astype(float), *C[1:]), "exchange_ns: must be a 1-dimensional array of int64"),
    ((C[0], C[1][:1], *C[2:]), "price_e6: has 1 rows, exchange_ns has 2"),
    ((*C[:3], C[3].astype(np.int64)), "side: must be a 1-dimensional array of uint8"),
    ((C[0][::-1].copy(), *C[1:]), "exchange_ns: row 1: 5 goes back, behind 6"),
    ((C[0] - 6, *C[1:]), "exchange_ns: row 0: -1 is not within"),
    ((C[0] + 2**62, *C[1:]), "exchange_ns: row 0: 4611686018427387909 is not within"),
    ((C[0], C[1] + 2**46, *C[2:]), "price_e6: row 0: 70368744177671 is not within"),
    ((*C[:2], -C[2], C[3]), "volume: row 0: -1 is not within"),
    ((*C[:2], C[2] + 2**40, C[3]), "volume: row 0: 1099511627777 is not within"),
    ((*C[:3], C[3] + np.uint8(1)), "side: row 1: 3 is not 0"),
    ((C[0], C[1] + 2**45, C[2] + 2**39, C[3]), "volume: row 0: 549755813889 at 35184372088839 takes the bar"),
    ((C[0], C[1] + 2**23, C[2] * 0 + 2**39, C[3]), "volume: row 1: 549755813888 at 8388616 takes the bar"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
@BACKENDS
def test_what_is_no_trade_is_refused_by_name_and_leaves_no_trace(
    backend: Any, arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        backend.tick_bars(*arguments, 2)
    state = backend.TickBars(3)
    state.update(1, 2, 3, 1)
    with pytest.raises(ValueError, match=message):
        state.update_many(*arguments)
    state.update(1, 5, 3, 2)
    assert state.update(1, 4, 1, 0) == {
        "start_ns": 1, "end_ns": 1, "open_e6": 2, "high_e6": 5, "low_e6": 2, "close_e6": 4, "volume": 7,
        "buy_volume": 3, "sell_volume": 3, "value_e6": 25, "trades": 3, "last_row": 2, "validity": 1,
    }  # fmt: skip


@BACKENDS
def test_sizes_and_single_trades_are_refused_by_name(backend: Any) -> None:
    for name, argument in (("time", "interval_ns"), ("tick", "trades"), ("volume", "lots"), ("dollar", "value_e6")):
        for size in (0, -1, 2**62 + 1):
            with pytest.raises(ValueError, match=f"{argument}: {size} is not within"):
                getattr(backend, f"{name}_bars")(*C, size)
            with pytest.raises(ValueError, match=f"{argument}: {size} is not within"):
                getattr(backend, f"{name.capitalize()}Bars")(size)
    state = backend.TickBars(5)
    state.update(9, 1, 1, 1)
    for trade, message in (
        ((8, 1, 1, 1), "exchange_ns: 8 goes back"),
        ((9, 1, -1, 1), "volume: -1"),
        ((9, 1, 1, -1), "side: "),
    ):
        with pytest.raises(ValueError, match=message):
            state.update(*trade)
    assert backend.TickBars(1).update(9, -5, 2, 1)["value_e6"] == -10
    with pytest.raises(ValueError, match="price_e6: -5 is negative"):
        backend.DollarBars(1).update(9, -5, 2, 1)
    with pytest.raises(ValueError, match="restart: has 1 rows"):
        backend.tick_bars(*C, 2, restart=np.zeros(1, np.uint8))


@needs_data
def test_minutes_of_a_real_day_hold_all_that_was_traded() -> None:
    day = session_trades("TXFD6_2026-04-09")
    columns = (day.exchange_ns, day.price_e6, day.volume, day.side)
    bars = time_bars(*columns, 60 * SECOND)
    opened = session_open_ns("TXFD6_2026-04-09")
    state = rust_indicators.TimeBars(60 * SECOND)
    state.update_many(*columns)
    last = state.flush()
    assert last is not None
    # 08:45 … 13:45, each minute traded; the prints at 08:45:00.000 itself belong to the minute before.
    minutes = np.append(bars["end_ns"], last["end_ns"])
    assert_same(minutes, opened + np.arange(len(minutes)) * 60 * SECOND + (minutes[0] - opened))
    assert bars["volume"].sum() + last["volume"] == 52_121
    assert bars["trades"].sum() + last["trades"] == 31_885
    for lots in (100, 1000):
        assert (rust_indicators.volume_bars(*columns, lots)["volume"] >= lots).all()
