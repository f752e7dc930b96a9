"""Published regressions of the move of the mid on the flow of books, on real days, by the protocol of the definitions:
windows of 10 s, ordinary least squares with intercept. In the same window, so an explanation and no prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from real_data import needs_data
from signal_columns import SECOND, Books, futures, lobster, lobster_trades

from rust_indicators import (
    EMPTY_PRICE_E6,
    integrated_ofi,
    mid2_e6,
    mlofi,
    normalised_ofi,
    ofi,
    ofi_weights,
    sample_last,
    trade_imbalance,
    window_sums,
)

Table = NDArray[np.float64]
WINDOW_NS = 10 * SECOND
HALF_HOUR_NS = 1800 * SECOND
WINDOWS_MIN = 30  # of a half hour


@dataclass(frozen=True)
class Windows:
    """What happened in each window in which the mid is known at both edges."""

    edges_ns: NDArray[np.int64]
    known: NDArray[np.bool_]
    begin_ns: int
    move: Table  # ticks
    flow: Table  # [level, window], lots
    normalised: Table

    def half_hours(self, of: Callable[[Table, Table], float], x: Table) -> list[float]:
        """`of` the windows of every half hour that has enough of them."""
        block = ((self.edges_ns[1:] - self.begin_ns - 1) // HALF_HOUR_NS)[self.known]
        parts = [block == number for number in np.unique(block)]
        return [of(x[:, part], self.move[part]) for part in parts if part.sum() >= WINDOWS_MIN]


def session(name: str) -> tuple[Books, int, int, int]:
    """Books, first and last edge, tick × 10⁶. LOBSTER's stamps count from midnight, Taipei is 8 h before UTC."""
    if not name.startswith(("TXF", "TMF")):
        return lobster(name), 34_200 * SECOND, 57_600 * SECOND, 10_000
    day = datetime.fromisoformat(name.split("_")[1]).replace(tzinfo=UTC)
    begin = (day - datetime(1970, 1, 1, tzinfo=UTC)).days * 86_400 * SECOND + 45 * 60 * SECOND  # 08:45 there
    return futures(name), begin, begin + 18_000 * SECOND, 1_000_000


@cache
def windows(name: str) -> Windows:
    books, begin, end, tick_e6 = session(name)
    edges = np.arange(begin, end + 1, WINDOW_NS)
    contributions = mlofi(books.bid_price_e6, books.bid_volume, books.ask_price_e6, books.ask_volume)
    row = sample_last(books.exchange_ns, edges)
    mid2 = mid2_e6(books.bid_price_e6[0], books.ask_price_e6[0])[row]
    mid = np.where((row < 0) | (mid2 == EMPTY_PRICE_E6), np.nan, mid2 / 2 / tick_e6)
    move = np.diff(mid)
    known = ~np.isnan(move)
    flow = np.array([window_sums(books.exchange_ns, level, edges) for level in contributions], np.float64)
    normalised = normalised_ofi(books.exchange_ns, contributions, books.bid_volume, books.ask_volume, edges)
    return Windows(edges, known, begin, move[known], flow[:, known], np.ascontiguousarray(normalised[:, known]))


def fitted(x: Table, y: Table) -> Table:
    coefficients: Table = np.linalg.lstsq(np.vstack([np.ones(len(y)), x]).T, y, rcond=None)[0]
    return coefficients


def predicted(coefficients: Table, x: Table) -> Table:
    return coefficients[0] + coefficients[1:] @ x


def r2(x: Table, y: Table) -> float:
    return 1 - float(((y - predicted(fitted(x, y), x)) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def adjusted_r2(x: Table, y: Table) -> float:
    return 1 - (1 - r2(x, y)) * (len(y) - 1) / (len(y) - len(x) - 1)


def white_t(x: Table, y: Table) -> float:
    """t of the slope with White's errors (HC0)."""
    design = np.vstack([np.ones(len(y)), x]).T
    residual = y - predicted(fitted(x, y), x)
    inverse = np.linalg.inv(design.T @ design)
    covariance = inverse @ (design.T * residual**2) @ design @ inverse
    return float(fitted(x, y)[1] / np.sqrt(covariance[1, 1]))


def out_of_sample(found: Windows) -> tuple[list[float], float]:
    """R² of level 1, of all levels and of the integrated flow over ten contiguous folds, each from the other nine
    (against the mean of those), and what all levels take from the error of level 1.
    """
    squares, total = np.zeros(3), 0.0
    for fold in np.array_split(np.arange(len(found.move)), 10):
        rest = np.setdiff1d(np.arange(len(found.move)), fold)
        weights = ofi_weights(np.ascontiguousarray(found.normalised[:, rest]))
        regressors = (found.flow[:1], found.flow, integrated_ofi(found.normalised, weights)[None, :])
        for at, x in enumerate(regressors):
            squares[at] += ((found.move[fold] - predicted(fitted(x[:, rest], found.move[rest]), x[:, fold])) ** 2).sum()
        total += ((found.move[fold] - found.move[rest].mean()) ** 2).sum()
    return (1 - squares / total).tolist(), float(1 - np.sqrt(squares[1] / squares[0]))


LEVEL_1 = [
    # name, snapshots, windows, R² ½ h: mean, least, most; R² day, β day in ticks a lot
    ("AAPL_1", 118_497, 2339, 0.5093, 0.190, 0.711, 0.4115, 0.00410),
    ("AMZN_5", 155_935, 2339, 0.5267, 0.227, 0.651, 0.3162, 0.00253),
    ("TXFD6_2026-04-08", 168_111, 1800, 0.5860, 0.406, 0.714, 0.5446, 0.21919),
    ("TXFD6_2026-04-09", 224_872, 1800, 0.6565, 0.508, 0.717, 0.6059, 0.25601),
    ("TXFD6_2026-04-10", 208_854, 1800, 0.6186, 0.363, 0.754, 0.5717, 0.23451),
    ("TMFD6_2026-04-10", 266_160, 1800, 0.6453, 0.550, 0.705, 0.6359, 0.15068),
]
LEVELS_5 = [
    # name, adjusted R² ½ h, R² day; out of sample: level 1, all levels, integrated, gain; share of the first component
    ("AMZN_5", 0.7859, 0.6059, 0.256, 0.508, 0.764, 0.187, 0.838),
    ("TXFD6_2026-04-08", 0.6408, 0.5891, 0.536, 0.573, 0.619, 0.041, 0.906),
    ("TXFD6_2026-04-09", 0.7124, 0.6411, 0.597, 0.627, 0.679, 0.038, 0.916),
    ("TXFD6_2026-04-10", 0.7123, 0.6285, 0.549, 0.597, 0.694, 0.055, 0.938),
    ("TMFD6_2026-04-10", 0.7423, 0.6853, 0.625, 0.668, 0.723, 0.058, 0.933),
]


@needs_data
@pytest.mark.parametrize(("name", "rows", "count", "mean", "least", "most", "day", "beta"), LEVEL_1)
def test_the_flow_of_the_best_level_explains_the_mid_as_published(
    name: str, rows: int, count: int, mean: float, least: float, most: float, day: float, beta: float
) -> None:
    found = windows(name)
    x = found.flow[:1]
    half_hours = found.half_hours(r2, x)
    assert len(session(name)[0].exchange_ns) == rows
    assert len(found.move) == count
    assert (np.mean(half_hours), min(half_hours), max(half_hours)) == pytest.approx((mean, least, most), abs=0.001)
    assert r2(x, found.move) == pytest.approx(day, abs=0.001)
    assert fitted(x, found.move)[1] == pytest.approx(beta, abs=5e-6)
    assert min(np.abs(found.half_hours(white_t, x))) > 1.96


@needs_data
@pytest.mark.parametrize(("name", "half_hour", "day", "first", "every", "integrated", "gain", "share"), LEVELS_5)
def test_deeper_levels_and_their_first_component_explain_more_as_published(
    name: str, half_hour: float, day: float, first: float, every: float, integrated: float, gain: float, share: float
) -> None:
    found = windows(name)
    assert np.mean(found.half_hours(adjusted_r2, found.flow)) == pytest.approx(half_hour, abs=0.001)
    assert r2(found.flow, found.move) == pytest.approx(day, abs=0.001)
    scores, error_saved = out_of_sample(found)
    assert scores == pytest.approx([first, every, integrated], abs=0.001)
    assert error_saved == pytest.approx(gain, abs=0.001)
    values = np.linalg.eigvalsh(np.cov(found.normalised))
    assert values[-1] / values.sum() == pytest.approx(share, abs=0.001)


@needs_data
@pytest.mark.parametrize(("name", "published"), [("AAPL_1", 0.329), ("AMZN_5", 0.355)])
def test_signed_trades_explain_less_than_the_flow_of_books(name: str, published: float) -> None:
    found = windows(name)
    exchange_ns, side, volume = lobster_trades(name)
    sums = window_sums(exchange_ns, trade_imbalance(side, volume), found.edges_ns)[None, found.known].astype(float)
    explained = np.mean(found.half_hours(r2, sums))
    assert explained == pytest.approx(published, abs=0.001)
    assert explained < np.mean(found.half_hours(r2, found.flow[:1]))


class Collected:
    """What a recorder of meatpy writes to: keeps the contributions."""

    def __init__(self) -> None:
        self.contributions: list[int] = []

    def set_schema(self, schema: object) -> None:
        assert schema == {"fields": {"Timestamp": "string", "e_n": "int64"}}

    def buffer_record(self, record: dict[str, Any]) -> None:
        self.contributions.append(record["e_n"])


@dataclass(frozen=True)
class TheirLevel:
    """A level as meatpy's recorder reads it. Its own `Level` of 0.5.0 does not serve: there `volume` is a property,
    and the recorder calls it.
    """

    price: int
    lots: int

    def volume(self) -> int:
        return self.lots


@dataclass(frozen=True)
class TheirBook:
    timestamp: int
    bid_levels: list[TheirLevel]
    ask_levels: list[TheirLevel]

    def copy(self, max_level: int) -> TheirBook:
        assert max_level == 1
        return self


@needs_data
@pytest.mark.parametrize(("name", "rows"), [("AAPL_1", 118_497), ("AMZN_5", 155_935)])
def test_our_flow_is_that_of_meatpy(name: str, rows: int) -> None:
    """An implementation by others: every book of the day through its recorder."""
    pytest.importorskip("meatpy", reason="the independent implementation is not here: pip install meatpy")
    from meatpy.event_handlers.ofi_recorder import OFIRecorder

    collected = Collected()
    recorder = OFIRecorder(collected)
    best = lobster(name).best()
    assert not any((prices == EMPTY_PRICE_E6).any() for prices in best)  # they have another rule for an empty side
    for row, (bid, bid_volume, ask, ask_volume) in enumerate(zip(*(column.tolist() for column in best), strict=True)):
        recorder.record(TheirBook(row, [TheirLevel(bid, bid_volume)], [TheirLevel(ask, ask_volume)]))
    assert len(collected.contributions) == rows - 1
    assert ofi(*best)[1:].tolist() == collected.contributions
