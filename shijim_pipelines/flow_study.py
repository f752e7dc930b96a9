"""What order flow imbalance says of the price on one day: the regression of the paper, as figures and as a picture.

Not a forecast: flow and price change are of the same window. Cont, Kukanov & Stoikov (2014), Journal of Financial
Econometrics 12(1) 47–88.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from rust_indicators import EMPTY_PRICE_E6, Restart, mid2_e6, ofi, sample_last, window_sums
from shijim_live.calendar import MINUTE_NS, SECOND_NS, session_bounds
from shijim_live.instruments import instrument, tick_size_e6
from shijim_live.store.lake import Lake
from shijim_pipelines import datasets
from shijim_pipelines.drawing import (
    BLUE,
    GREY,
    ORANGE,
    TEXT,
    Int64s,
    Span,
    bare,
    clock,
    new_figure,
    png,
    session_panels,
    spans,
    styled,
    thousands,
    title,
    within,
)
from shijim_pipelines.event_file import InvalidDataset
from shijim_pipelines.hft_dataset import int64_column, level_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WINDOW_NS: Final = 10 * SECOND_NS
WINDOW_SECONDS_MAX: Final = 600  # so that a half-hour has windows enough
BLOCK_NS: Final = 30 * MINUTE_NS  # the published figure is the mean over half-hours
BLOCK_WINDOWS_MIN: Final = 3  # a line through two points says nothing
BLOCK_SPAN_MIN_NS: Final = 5 * MINUTE_NS  # as the published protocol: 30 windows of 10 s
POINTS_A_PANEL: Final = 1_500


@dataclass(frozen=True, slots=True)
class Line:
    """Least squares with intercept: price change in ticks on flow in lots."""

    slope: float  # ticks per lot
    intercept: float
    r_squared: float


@dataclass(frozen=True, slots=True)
class SessionFlow:
    """One session in windows (edge before, edge]. Windows before the first two-sided book are left out."""

    session: str
    edge_ns: Int64s  # end of each window
    flow: Int64s  # order flow imbalance, lots
    mid2_e6: Int64s  # twice the mid at the end of each window
    change_ticks: NDArray[np.float64]  # of the mid, over the window
    line: Line
    blocks: tuple[tuple[int, Line], ...]  # (start of the half-hour, its line)

    @property
    def r_squared(self) -> float:
        """Mean over half-hours."""
        return np.mean([line.r_squared for _, line in self.blocks]).item() if self.blocks else math.nan


@dataclass(frozen=True, slots=True)
class FlowStudy:
    """A symbol's day."""

    request: datasets.Request
    window_ns: int
    tick_e6: int
    books: int
    sessions: tuple[SessionFlow, ...]


def study_flow(lake: Lake, request: datasets.Request, window_ns: int = WINDOW_NS) -> FlowStudy:
    """Order flow imbalance of the recorded books, session by session.

    Raises InvalidDataset when there is nothing to study, UnknownInstrument.
    """
    traded = instrument(request.symbol)
    table = datasets.recorded_books(lake, request)
    if table.num_rows == 0:
        raise InvalidDataset(f"{request.symbol} has no books on {request.day} in {lake.archive_dir}")
    touch = [level_columns(table, name)[0] for name in ("bid_price_e6", "bid_volume", "ask_price_e6", "ask_volume")]
    names = table["session"].to_numpy(zero_copy_only=False)
    begins = np.append(True, names[1:] != names[:-1])
    flow = ofi(*touch, restart=np.where(begins, Restart.RESET, Restart.NONE).astype(np.uint8))
    twice = mid2_e6(touch[0], touch[2])
    # A book that came late counts where it came: what was seen is in the order of recording.
    stamps = np.maximum.accumulate(int64_column(table, "exchange_ns"))
    seen = twice[twice != EMPTY_PRICE_E6]
    if not len(seen):
        raise InvalidDataset(f"{request.symbol} has no book with both sides on {request.day}")
    tick_e6 = tick_size_e6(traded, int(np.median(seen)) // 2)
    sessions = [
        _session(str(bounds.session), (bounds.open_ns, bounds.close_ns), window_ns, tick_e6, stamps, flow, twice)
        for bounds in session_bounds(request.day, traded.market)
        if bool((names == str(bounds.session)).any())
    ]
    studied = tuple(session for session in sessions if session is not None)
    if not studied:
        raise InvalidDataset(f"{request.symbol} on {request.day}: fewer than {BLOCK_WINDOWS_MIN} windows with a mid")
    return FlowStudy(request, window_ns, tick_e6, table.num_rows, studied)


def _session(
    name: str, bounds: tuple[int, int], window_ns: int, tick_e6: int, stamps: Int64s, flow: Int64s, twice: Int64s
) -> SessionFlow | None:
    open_ns, close_ns = bounds
    edges = np.arange(open_ns, close_ns + 1, window_ns, np.int64)
    last = sample_last(stamps, edges)
    mids = np.where(last >= 0, twice[np.maximum(last, 0)], EMPTY_PRICE_E6)
    sums = window_sums(stamps, flow, edges)
    known = (mids[1:] != EMPTY_PRICE_E6) & (mids[:-1] != EMPTY_PRICE_E6)
    if int(known.sum()) < BLOCK_WINDOWS_MIN:
        return None
    end_ns, flows = edges[1:][known], sums[known]
    change = (mids[1:] - mids[:-1])[known] / (2 * tick_e6)
    block = (end_ns - open_ns - 1) // BLOCK_NS
    blocks = []
    for number in np.unique(block):
        mine = block == number
        if int(mine.sum()) >= max(BLOCK_WINDOWS_MIN, BLOCK_SPAN_MIN_NS // window_ns):
            blocks.append((open_ns + int(number) * BLOCK_NS, regress(flows[mine], change[mine])))
    return SessionFlow(name, end_ns, flows, mids[1:][known], change, regress(flows, change), tuple(blocks))


def regress(flow: Int64s, change: NDArray[np.float64]) -> Line:
    """Least squares; NaN where flow or price stood still: there is nothing to explain."""
    x, y = flow - flow.mean(), change - change.mean()
    xx, yy, xy = (x @ x).item(), (y @ y).item(), (x @ y).item()
    if xx == 0 or yy == 0:
        return Line(math.nan, math.nan, math.nan)
    slope = xy / xx
    return Line(slope, (change.mean() - slope * flow.mean()).item(), xy * xy / (xx * yy))


def summary(study: FlowStudy) -> str:
    """A table for a person."""
    request, seconds = study.request, study.window_ns // SECOND_NS
    lines = [f"{request.symbol} {request.day}: {study.books:,} books, windows of {seconds} s",
             "session  windows  R² mean of half-hours (min – max)  R² whole  ticks per 100 lots"]  # fmt: skip
    for session in study.sessions:
        each = [line.r_squared for _, line in session.blocks]
        spread = f"{session.r_squared:.3f} ({min(each):.3f} – {max(each):.3f})" if each else "–"
        lines.append(
            f"{session.session:7}  {len(session.flow):7,}  {spread:32}  {session.line.r_squared:8.3f}  "
            f"{100 * session.line.slope:18.2f}"
        )
    return "\n".join(lines)


def as_json(study: FlowStudy) -> dict[str, object]:
    """For a script."""
    return {
        "symbol": study.request.symbol,
        "day": str(study.request.day),
        "window_ns": study.window_ns,
        "tick_size_e6": study.tick_e6,
        "books": study.books,
        "sessions": [
            {
                "session": session.session,
                "windows": len(session.flow),
                "r_squared_mean": session.r_squared,
                "r_squared": session.line.r_squared,
                "ticks_per_lot": session.line.slope,
                "half_hours": [{"start_ns": start, "r_squared": line.r_squared} for start, line in session.blocks],
            }
            for session in study.sessions
        ],
    }


@styled
def flow_picture(study: FlowStudy) -> bytes:
    """Mid and cumulative flow over the day; each window's flow against its price change; R² by half-hour."""
    panels = [span for span in spans(study.request.day)
              if any(bool(within(session.edge_ns, span).any()) for session in study.sessions)]  # fmt: skip
    figure: Any = new_figure(6.4)
    above, below = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    mids, flows = session_panels(above, panels, heights=(1, 1))
    for column, span in enumerate(panels):
        for session in study.sessions:
            _over_time(mids[column], flows[column], session, span)
    mids[0].set_ylabel("mid price")
    flows[0].set_ylabel("flow, lots, summed")
    thousands(mids[0])
    thousands(flows[0])
    scatter, bars = below.subplots(1, 2, width_ratios=(1.25, 1))
    _scatter(scatter, study.sessions)
    _half_hours(bars, study.sessions)
    seconds = study.window_ns // SECOND_NS
    shares = ", ".join(f"{session.r_squared:.2f} ({session.session})" for session in study.sessions)
    title(
        figure,
        f"{study.request.symbol} {study.request.day}: order flow imbalance against price, R² {shares}",
        f"windows of {seconds} s, {study.books:,} books; R² is the mean over half-hours; of the same window, "
        "so no forecast; Taipei time",
    )
    return png(figure)


def _over_time(mids: Axes, flows: Axes, session: SessionFlow, span: Span) -> None:
    mine = np.flatnonzero(within(session.edge_ns, span))
    at = mine[:: max(len(mine) // POINTS_A_PANEL, 1)]
    if not len(at):
        return
    mids.plot(clock(session.edge_ns[at]), session.mid2_e6[at] / 2_000_000, color=TEXT, linewidth=0.9)
    flows.axhline(0, color=GREY, linewidth=0.6)
    flows.plot(clock(session.edge_ns[at]), np.cumsum(session.flow)[at], color=BLUE, linewidth=0.9)


def _scatter(axes: Axes, sessions: Sequence[SessionFlow]) -> None:
    for session, color in zip(sessions, (BLUE, ORANGE), strict=False):
        axes.scatter(session.flow, session.change_ticks, s=4, color=color, alpha=0.5, linewidths=0)
        ends = np.array([session.flow.min(), session.flow.max()])
        fitted = session.line.intercept + session.line.slope * ends
        name = f"{session.session}: {100 * session.line.slope:.1f} ticks per 100 lots"
        axes.plot(ends, fitted, color=color, linewidth=1.4, label=name)
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.axvline(0, color=GREY, linewidth=0.6)
    axes.set_xlabel("order flow imbalance in a window, lots")
    axes.set_ylabel("change of the mid, ticks")
    axes.legend(loc="lower right")
    thousands(axes)


def _half_hours(axes: Axes, sessions: Sequence[SessionFlow]) -> None:
    blocks = [(start, line, color) for session, color in zip(sessions, (BLUE, ORANGE), strict=False)
              for start, line in session.blocks]  # fmt: skip
    for at, (_, line, color) in enumerate(blocks):
        axes.bar(at, line.r_squared, color=color, width=0.8)
        axes.annotate(f"{line.r_squared:.2f}"[1:], (at, line.r_squared), ha="center", va="bottom", fontsize=6.5)
    labels = [str(clock(np.array([start]))[0])[11:16] for start, _, _ in blocks]
    step = -(-len(labels) // 6)
    axes.set_xticks(range(0, len(labels), step), labels[::step])
    axes.set_ylim(0, 1)
    bare(axes)
    axes.set_yticks([])
    axes.set_xlabel("R² of each half-hour, by its start")
