"""Queue positions: the kernel, its streaming form and the reference are one thing, and it is hftbacktest's engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import queue_engine
from hftbacktest import BacktestAsset
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from queue_engine import Order
from real_data import needs_data
from signal_columns import assert_same

from rust_indicators import QueuePosition, Validity, _rust, queue_positions
from rust_indicators.reference import queue_position as reference
from shijim_pipelines.event_file import Rows

TRADE, DEPTH, THROUGH = 0, 1, 2
MODELS = [("risk_averse", None), ("log", None), ("log2", None)] + [
    (model, power) for model in ("power", "power2", "power3") for power in (0.5, 1.0, 2.0, 3.0)
]
BACKENDS = pytest.mark.parametrize("backend", [_rust, reference])
Columns = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]


def columns(rows: list[tuple[int, int, int]]) -> Columns:
    kind, before, now = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(kind, np.uint8), np.array(before, np.int64), np.array(now, np.int64)


def happenings() -> st.SearchStrategy[Columns]:
    """What a level may go through, sound or not: volumes that do not add up, levels that vanish, huge ones."""
    volume = st.one_of(st.integers(0, 12), st.just(2**40))
    zero = st.just(0)
    row = st.one_of(
        st.tuples(st.just(TRADE), zero, volume),
        st.tuples(st.just(DEPTH), volume, volume),
        st.tuples(st.just(DEPTH), volume, zero),
        st.tuples(st.just(THROUGH), zero, zero),
    )
    return st.lists(row, max_size=30).map(columns)


@given(st.sampled_from(MODELS), happenings(), st.integers(1, 3), st.integers(0, 20), st.integers(0, 30))
def test_batch_streaming_and_reference_agree_bit_for_bit(
    model: tuple[str, float | None], rows: Columns, lot_size: int, front_volume: int, cut: int
) -> None:
    arguments: Any = (model[0], lot_size, front_volume)
    expected, first = reference.queue_positions(*rows, *arguments, power=model[1])
    ours, our_first = queue_positions(*rows, *arguments, power=model[1])
    assert_same(ours, expected)
    assert our_first == first
    assert np.isfinite(expected).all()
    for state in (QueuePosition(*arguments, power=model[1]), reference.QueuePosition(*arguments, power=model[1])):
        parts = [state.update_many(*(column[part] for column in rows)) for part in (slice(0, cut), slice(cut, None))]
        assert_same(np.concatenate([front for front, _ in parts]), expected)
        assert_same(np.concatenate([valid for _, valid in parts]), np.full(len(expected), 1, np.uint8))
        assert state.filled == (first is not None)
        state.reset(front_volume)
        fronts, filled_at = one_by_one(state, rows)
        assert fronts == expected.tolist() and filled_at == first


def one_by_one(state: Any, rows: Columns) -> tuple[list[float], int | None]:
    fronts, first = [], None
    for row, (kind, before, now) in enumerate(zip(*(column.tolist() for column in rows), strict=True)):
        if kind == TRADE:
            reached = state.trade(now)
            assert reached == 0 or (state.filled and state.front == 0)
        elif kind == DEPTH:
            state.depth(before, now)
        else:
            state.traded_through()
        if state.filled and first is None:
            first = row
        fronts.append(state.front)
    return fronts, first


@pytest.mark.parametrize(
    ("model", "power", "front_volume", "rows", "fronts", "first"),
    [
        # Ten in front of us, four behind: six leave without a trade.
        ("risk_averse", None, 10, [(DEPTH, 14, 8)], [8.0], None),  # no more can be in front than there is
        ("power", 1.0, 10, [(DEPTH, 14, 8)], [10 - 6 * 10 / 14], None),  # pro rata
        ("power2", 2.0, 10, [(DEPTH, 14, 8)], [10 - (1 - 16 / 196) * 6], None),
        ("power3", 2.0, 10, [(DEPTH, 14, 8)], [10 - (1 - (1 - 100 / 196)) * 6], None),
        ("log2", None, 10, [(DEPTH, 14, 8)], [10 - (1 - math.log(5) / math.log(15)) * 6], None),
        # A trade of six, then the level shows it: it is not counted twice.
        ("power", 1.0, 10, [(TRADE, 0, 6), (DEPTH, 14, 8)], [4.0, 4.0], None),
        # Others join behind.
        ("power", 1.0, 10, [(DEPTH, 14, 20)], [10.0], None),
        # Ten trade: nothing is in front, and nothing reached us; the eleventh is ours.
        ("power", 1.0, 10, [(TRADE, 0, 10), (TRADE, 0, 1)], [0.0, 0.0], 1),
        # A quarter of the lot reaches past us, or three quarters.
        ("power", 1.0, 3, [(DEPTH, 4, 1), (TRADE, 0, 1)], [0.75, -0.25], None),
        ("power", 1.0, 3, [(DEPTH, 4, 3), (TRADE, 0, 3)], [2.25, 0.0], 1),
        # The level vanished: nobody is in front, yet only a trade fills.
        ("power", 1.0, 10, [(DEPTH, 14, 0), (TRADE, 0, 0), (TRADE, 0, 1)], [0.0, 0.0, 0.0], 2),
        ("risk_averse", None, 10, [(TRADE, 0, 1), (THROUGH, 0, 0)], [9.0, 0.0], 1),
    ],
)
def test_queue_position_by_hand(
    model: str,
    power: float | None,
    front_volume: int,
    rows: list[tuple[int, int, int]],
    fronts: list[float],
    first: int | None,
) -> None:
    for backend in (_rust, reference):
        found, row = backend.queue_positions(*columns(rows), model, 1, front_volume, power=power)
        np.testing.assert_allclose(found, fronts, rtol=1e-12)
        assert row == first


@BACKENDS
def test_half_a_lot_past_us_is_a_fill_and_less_is_not(backend: Any) -> None:
    """Halves round away from zero: after a pro-rata cancellation 1.5 lots are in front, and two trade."""
    for front, behind, filled in ((3, 3, True), (8, 0, False)):
        state = backend.QueuePosition("power", 1, front, power=1.0)
        state.depth(front + behind, (front + behind) // 2)
        ahead = front / 2
        assert state.front == ahead
        assert state.trade(math.ceil(ahead)) == int(filled)
        assert (state.filled, state.front) == (filled, 0.0)


@BACKENDS
def test_a_trade_says_how_much_of_it_reaches_the_order_in_whole_lots(backend: Any) -> None:
    state = backend.QueuePosition("risk_averse", 1000, 2000)
    assert [state.trade(volume) for volume in (1500, 3000, 400, 600)] == [0, 3000, 0, 1000]


@BACKENDS
def test_after_a_gap_nobody_knows_where_an_order_stands_until_the_next_one(backend: Any) -> None:
    state = backend.QueuePosition("log", 1, 5)
    assert (state.front, state.filled, state.validity) == (5.0, False, Validity.VALID)
    state.taint()
    assert state.trade(100) == 0
    state.depth(5, 0)
    assert math.isnan(state.front) and not state.filled
    front, validity = state.update_many(*columns([(DEPTH, 3, 2)]))
    assert np.isnan(front).all() and validity.tolist() == [Validity.TAINTED]
    state.traded_through()
    assert state.filled and math.isnan(state.front)
    state.reset(7)
    assert (state.front, state.filled, state.validity) == (7.0, False, Validity.VALID)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 100))
def test_a_cancellation_moves_nobody_back_and_the_risk_averse_least(front: int, behind: int, gone: int) -> None:
    before = front + behind
    now = max(before - gone, 0)
    found = {}
    for model, power in MODELS:
        state = QueuePosition(model, 1, front, power=power)
        state.depth(before, now)
        assert state.front <= min(front, now)
        found[model] = state.front
    assert found["risk_averse"] == max(found.values())


ROWS = columns([(TRADE, 0, 3), (DEPTH, 9, 6)])


@pytest.mark.parametrize(
    ("rows", "arguments", "power", "message"),
    [
        (ROWS, ("fifo", 1, 5), None, r'model: "fifo" is not risk_averse, power'),
        (ROWS, ("power", 1, 5), None, "power: is missing"),
        (ROWS, ("power", 1, 5), 0.0, "power: 0.*is not a finite number above 0"),
        (ROWS, ("power3", 1, 5), math.inf, "power: inf is not a finite number above 0"),
        (ROWS, ("log", 1, 5), 2.0, "power: the model log has none"),
        (ROWS, ("log", 0, 5), None, "lot_size: 0 is not within 1"),
        (ROWS, ("log", 1, -1), None, "front_volume: -1 is not within 0"),
        ((ROWS[0].astype(np.int64), *ROWS[1:]), ("log", 1, 5), None, "kind: must be a 1-dimensional array of uint8"),
        ((ROWS[0], ROWS[1][:1], ROWS[2]), ("log", 1, 5), None, "before: has 1 rows, kind has 2"),
        (columns([(3, 0, 0)]), ("log", 1, 5), None, "kind: row 0 is 3, not 0"),
        (columns([(DEPTH, 1, 2), (TRADE, 1, 2)]), ("log", 1, 5), None, "before: row 1: 1 where kind 0 has none"),
        (columns([(THROUGH, 0, 2)]), ("log", 1, 5), None, "now: row 0: 2 where kind 2 has none"),
        (columns([(TRADE, 0, -2)]), ("log", 1, 5), None, "now: row 0: -2 is not within 0"),
        (columns([(DEPTH, 2**40 + 1, 2)]), ("log", 1, 5), None, "before: row 0: 1099511627777 is not within 0"),
    ],
)
@BACKENDS
def test_what_is_no_queue_is_refused_by_name(
    backend: Any, rows: Columns, arguments: tuple[str, int, int], power: float | None, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        backend.queue_positions(*rows, *arguments, power=power)
    if arguments == ("log", 1, 5) and power is None:
        state = backend.QueuePosition(*arguments)
        with pytest.raises(ValueError, match=f"^{message}"):
            state.update_many(*rows)
        assert state.front == 5.0


@BACKENDS
def test_a_volume_that_is_none_leaves_no_trace(backend: Any) -> None:
    state = backend.QueuePosition("log", 1, 5)
    for refused in (lambda: state.trade(-1), lambda: state.depth(2**40 + 1, 0), lambda: state.reset(-1)):
        with pytest.raises(ValueError, match="is not within 0"):
            refused()
    assert (state.front, state.filled) == (5.0, False)


# The engine


@pytest.fixture(scope="module")
def hour() -> Rows:
    return queue_engine.first_hour()


ENGINE: list[tuple[str, float | None, Callable[[BacktestAsset], BacktestAsset]]] = [
    ("risk_averse", None, lambda asset: asset.risk_adverse_queue_model()),
    ("power", 1.0, lambda asset: asset.power_prob_queue_model(1)),
    ("power", 2.0, lambda asset: asset.power_prob_queue_model(2)),
    ("power", 3.0, lambda asset: asset.power_prob_queue_model(3)),
    ("power2", 3.0, lambda asset: asset.power_prob_queue_model2(3)),
    ("power3", 3.0, lambda asset: asset.power_prob_queue_model3(3)),
    ("power3", 2.5, lambda asset: asset.power_prob_queue_model3(2.5)),
    ("log", None, lambda asset: asset.log_prob_queue_model()),
    ("log2", None, lambda asset: asset.log_prob_queue_model2()),
]


@needs_data
@pytest.mark.parametrize(("model", "power", "of_asset"), ENGINE, ids=[f"{m}({p})" if p else m for m, p, _ in ENGINE])
def test_an_hour_of_orders_fills_when_hftbacktest_fills_it(
    hour: Rows, model: str, power: float | None, of_asset: Callable[[BacktestAsset], BacktestAsset]
) -> None:
    engine = queue_engine.engine_orders(hour, of_asset)
    assert sum(order.filled_ns is not None for order in engine) > 600
    ours = queue_engine.estimated_orders(hour, engine, lambda front: QueuePosition(model, 1, front, power=power))
    assert ours == engine


@needs_data
def test_the_hour_tells_the_models_and_the_roundings_apart(hour: Rows) -> None:
    """Or the agreement above would prove little."""
    engine = {model: queue_engine.engine_orders(hour, of_asset) for model, _, of_asset in ENGINE}
    models = list(engine)
    for place, model in enumerate(models):
        for other in models[place + 1 :]:
            assert differing(engine[model], engine[other]) >= 10

    class Bankers(reference.QueuePosition):
        def trade(self, volume: int, /) -> int:
            self.front -= volume
            self._traded += volume
            self.filled = round(-self.front) > 0
            return int(self.filled)

    rounded = queue_engine.estimated_orders(hour, engine["power"], lambda front: Bankers("power", 1, front, power=3.0))
    assert differing(rounded, engine["power"]) > 0


def differing(ours: list[Order], theirs: list[Order]) -> int:
    return sum(one != other for one, other in zip(ours, theirs, strict=True))
