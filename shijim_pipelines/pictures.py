"""Pictures for people: a backtest's day, what is missing, the universe, the day's activity; as PNG bytes. No data.

Under 60 KB each, so that they fit into the metadata of a run. How they look is `drawing.py`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from shijim_live.calendar import MINUTE_NS, Market, require_trading_day, session_bounds
from shijim_live.events import ABSENT_I64
from shijim_live.instruments import PRICE_SCALE
from shijim_live.store.lake import Lake
from shijim_pipelines.drawing import (
    BLUE,
    GREY,
    LINE,
    ORANGE,
    PALETTE,
    QUIET,
    RED,
    SHADE,
    TEXT,
    Int64s,
    Span,
    bare,
    blank,
    clock,
    dress,
    new_figure,
    png,
    session_panels,
    spans,
    styled,
    thousands,
    title,
    within,
)  # fmt: skip
from shijim_pipelines.placement import FUTURES_SQL
from shijim_pipelines.proof.gap_report import Gap, GapReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from shijim_pipelines.backtests import Track

# Metadata of a run is kept in the orchestrator's database, and read again with every page that shows it.
PICTURE_BYTES_MAX: Final = 100_000
SYMBOLS_MAX: Final = 15  # in one picture; the title says of how many
RANKED_MAX: Final = 30
POINTS_A_PANEL: Final = 1_000
FILLS_MINUTES: Final = 5

_CAUSES: Final = {
    "outage": ORANGE,
    "feed_loss": RED,
    "late_start": "#0072b2",
    "early_stop": "#56b4e9",
    "absent": "#000000",
    "corrupt_block": "#cc79a7",
}  # the rest is grey


class PictureTooLarge(ValueError):
    """More bytes than metadata should hold."""


class Ranked(Protocol):
    """What a picture shows of a chosen code."""

    @property
    def code(self) -> str: ...
    @property
    def rank(self) -> int: ...
    @property
    def shard(self) -> int: ...
    @property
    def load(self) -> int: ...
    @property
    def reasons(self) -> tuple[str, ...]: ...


def markdown(picture: bytes, title: str) -> str:
    """The picture inside a Markdown text, for metadata. Raises PictureTooLarge."""
    if len(picture) > PICTURE_BYTES_MAX:
        raise PictureTooLarge(
            f"{title}: {len(picture):,} bytes, metadata takes {PICTURE_BYTES_MAX:,}: write it to a file and link that"
        )
    return f"![{title}](data:image/png;base64,{base64.b64encode(picture).decode()})"


# A backtest


@styled
def backtest_picture(track: Track, symbol: str, day: date) -> bytes:
    """Equity, mid, what was bought and sold, and the position over the day."""
    from shijim_pipelines.backtests import NO_MID_E6  # it imports hftbacktest

    panels = [span for span in spans(day) if bool(within(track.ns, span).any())]
    if not panels:
        return blank(f"{symbol} {day}: no step of the backtest lies in a session of the day")
    figure = new_figure(5.8)
    equity, price, fills, position = session_panels(figure, panels, heights=(3, 2.4, 1.3, 1))
    for column, span in enumerate(panels):
        mine = np.flatnonzero(within(track.ns, span))
        # A step a second is more than a picture has dots.
        at = mine[:: max(len(mine) // POINTS_A_PANEL, 1)]
        quoted = at[track.mid_e6[at] != NO_MID_E6]
        equity[column].axhline(0, color=GREY, linewidth=0.8)
        equity[column].plot(clock(track.ns[at]), track.equity_e6[at] / PRICE_SCALE, color=BLUE, linewidth=1.1)
        price[column].plot(clock(track.ns[quoted]), track.mid_e6[quoted] / PRICE_SCALE, color=TEXT, linewidth=0.8)
        starts, bought, sold = _by_time(track, span)
        for lots, color in ((bought, BLUE), (-sold, ORANGE)):
            fills[column].fill_between(clock(starts), lots, step="post", color=color, linewidth=0)
        fills[column].axhline(0, color=GREY, linewidth=0.6)
        _lowest_and_highest(position[column], track.ns[mine], track.position[mine])
    labels = ("equity, TWD", "mid price", "bought (+)\nsold (−)", "position")
    for row, label in zip((equity, price, fills, position), labels, strict=True):
        row[0].set_ylabel(label)
        thousands(row[0])
    lots_filled = int((track.bought + track.sold).sum())
    money = int(track.equity_e6[-1]) // PRICE_SCALE
    title(
        figure,
        f"Backtest of {symbol}, {day}: {money:,} TWD, {lots_filled:,} lots filled",
        f"a plain two-sided quoter, fees paid, valued at mid; lots filled in {FILLS_MINUTES} minutes; "
        "position from lowest to highest; Taipei time",
    )
    return png(figure)


def _by_time(track: Track, span: Span) -> tuple[Int64s, Int64s, Int64s]:
    """(starts of intervals, lots bought, lots sold) of a panel."""
    width_ns = FILLS_MINUTES * MINUTE_NS
    starts = np.arange(span.from_ns // width_ns, span.to_ns // width_ns + 1) * width_ns
    at = np.flatnonzero(within(track.ns, span))
    place = np.searchsorted(starts, track.ns[at], side="right") - 1
    lots = [np.bincount(place, weights=side[at], minlength=len(starts)) for side in (track.bought, track.sold)]
    return starts, lots[0].astype(np.int64), lots[1].astype(np.int64)


def _lowest_and_highest(axes: Axes, ns: Int64s, values: Int64s) -> None:
    """A band from the lowest to the highest value of every interval: single steps are narrower than a dot."""
    starts = np.arange(0, len(values), max(len(values) // (POINTS_A_PANEL // 4), 1))
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    axes.fill_between(clock(ns[starts]), low, high, step="post", color=TEXT, alpha=0.45, linewidth=0.6)
    axes.axhline(0, color=GREY, linewidth=0.6)


# What is missing


@styled
def gaps_picture(report: GapReport) -> bytes:
    """Missing lots of the worst symbols, and when: gaps by cause, recorded outages shaded."""
    # Shares of odd lots are another unit.
    sized = [gap for gap in report.gaps if gap.lots and gap.symbol and gap.lane != "odd"]
    lots = _lots_by_symbol(sized)
    worst = sorted(lots, key=lambda symbol: (-sum(lots[symbol].values()), symbol))[:SYMBOLS_MAX]
    if not worst:
        return blank(f"{report.trading_day}: no lots are known to be missing; verdict: {report.summary()['verdict']}")
    panels = spans(report.trading_day)
    figure = new_figure(1.5 + 0.27 * len(worst))
    axes, bars = _timeline(figure, panels)
    place = {symbol: len(worst) - 1 - at for at, symbol in enumerate(worst)}
    for column, span in zip(axes, panels, strict=True):
        _draw_gaps(column, span, report.gaps, place)
    left = dict.fromkeys(worst, 0)
    for cause in sorted({gap.cause for gap in sized}):
        widths = [lots[symbol].get(cause, 0) for symbol in worst]
        if any(widths):
            color = _CAUSES.get(cause, GREY)
            starts = [left[symbol] for symbol in worst]
            bars.barh([place[s] for s in worst], widths, left=starts, height=0.62, color=color, label=cause)
            left = {symbol: left[symbol] + width for symbol, width in zip(worst, widths, strict=True)}
    for symbol, total in left.items():
        bars.annotate(f" {total:,}", (total, place[symbol]), va="center", fontsize=7.5, color=TEXT)
    bars.set_xlim(0, max(left.values()) * 1.35)
    bars.set_title("lots missing", loc="left")
    bars.set_xticks([])
    axes[0].set_yticks(list(place.values()), list(place))
    axes[0].set_ylim(-0.7, len(worst) - 0.3)
    bars.legend(loc="lower right")
    of = f", the worst {len(worst)} of {len(lots)} symbols" if len(lots) > len(worst) else ""
    title(
        figure,
        f"{report.trading_day}: {sum(gap.lots for gap in sized):,} lots missing in {len(sized)} gaps{of}",
        "shaded: outages the recorder knew of; thin: silence; a dot marks where a gap begins; Taipei time",
    )
    return png(figure)


def _lots_by_symbol(gaps: Iterable[Gap]) -> dict[str, dict[str, int]]:
    """Symbol → cause → lots."""
    found: dict[str, dict[str, int]] = {}
    for gap in gaps:
        causes = found.setdefault(gap.symbol, {})
        causes[gap.cause] = causes.get(gap.cause, 0) + gap.lots
    return found


def _timeline(figure: Figure, panels: Sequence[Span]) -> tuple[list[Axes], Axes]:
    """The panels of one row of symbols, and the bars beside them."""
    total = sum(span.to_ns - span.from_ns for span in panels)
    widths = [span.to_ns - span.from_ns for span in panels]
    grid = figure.add_gridspec(1, len(panels) + 1, width_ratios=[*widths, total * 2 // 5])
    first: Axes = figure.add_subplot(grid[0, 0])
    axes = [first, *(figure.add_subplot(grid[0, at], sharey=first) for at in range(1, len(panels)))]
    bars: Axes = figure.add_subplot(grid[0, len(panels)], sharey=first)
    for column, span in zip(axes, panels, strict=True):
        dress(column, span, bottom=True, left=column is first)
        column.grid(color=LINE, linewidth=0.5)
        column.set_title(span.name, loc="left")
    bare(bars)
    return axes, bars


def _draw_gaps(axes: Axes, span: Span, gaps: Iterable[Gap], place: dict[str, int]) -> None:
    for gap in gaps:
        begin_ns = span.from_ns if gap.start_ns == ABSENT_I64 else max(gap.start_ns, span.from_ns)
        end_ns = span.to_ns if gap.end_ns == ABSENT_I64 else min(gap.end_ns, span.to_ns)
        if begin_ns > end_ns or (gap.start_ns == ABSENT_I64 and gap.end_ns == ABSENT_I64):
            continue
        begin, end = clock(np.array([begin_ns, end_ns]))
        if gap.gap_type == "outage":
            # With an edge: seconds of a day are narrower than a dot.
            axes.axvspan(begin, end, color=ORANGE, alpha=0.25, linewidth=0.8)
        elif gap.symbol in place:
            y, color = place[gap.symbol], _CAUSES.get(gap.cause, GREY)
            axes.plot([begin, end], [y, y], color=color, linewidth=4 if gap.lots else 1.2, solid_capstyle="butt")
            if gap.lots:
                axes.plot([begin], [y], color=color, marker="o", markersize=3.6, markeredgewidth=0)


# The universe


@styled
def universe_picture(chosen: Sequence[Ranked], day: date) -> bytes:
    """Events expected of the first of the universe, by rank, coloured by what chose them."""
    if not chosen:
        return blank(f"universe of {day}: nothing was chosen")
    shown = sorted(chosen, key=lambda one: one.rank)[:RANKED_MAX]
    reasons = list(dict.fromkeys(one.reasons[0] if one.reasons else "" for one in shown))
    figure = new_figure(1.2 + 0.2 * len(shown))
    axes: Axes = figure.add_subplot()
    for number, reason in enumerate(reasons):
        mine = [one for one in shown if (one.reasons[0] if one.reasons else "") == reason]
        color = PALETTE[number % len(PALETTE)]
        axes.barh([one.rank for one in mine], [one.load for one in mine], height=0.66, color=color, label=reason)
    for one in shown:
        axes.annotate(f" {one.load:,}", (one.load, one.rank), va="center", fontsize=7.5, color=QUIET)
    axes.set_yticks([one.rank for one in shown], [f"{one.code}  {one.rank}" for one in shown])
    axes.set_ylim(shown[-1].rank + 0.7, shown[0].rank - 0.7)
    axes.set_xlim(0, max(max(one.load for one in shown), 1) * 1.1)
    bare(axes)
    axes.set_xticks([])
    axes.legend(loc="lower right", title="chosen first by", alignment="left")
    shards = len({one.shard for one in chosen})
    of = f"the first {len(shown)} of {len(chosen):,} codes" if len(chosen) > len(shown) else f"{len(chosen)} codes"
    title(
        figure,
        f"Universe of {day}: {of}",
        f"events expected a day; {sum(one.load for one in chosen):,} in all, on {shards} shards",
    )
    return png(figure)


# The day


def activity(lake: Lake, day: date) -> dict[str, tuple[Int64s, Int64s]]:
    """Market → (starts of minutes, events in each), repeats hidden, trial matches included."""
    require_trading_day(day)
    stamped = f"SELECT ({FUTURES_SQL}) AS futures, assumeNotNull(exchange_ns) AS ns FROM"
    where = "WHERE trading_day = {day:Date32} AND exchange_ns IS NOT NULL"
    found = lake.query(
        f"SELECT futures, intDiv(ns, {MINUTE_NS}) * {MINUTE_NS} AS minute_ns, count()::Int64 AS events "
        f"FROM ({stamped} ticks {where} UNION ALL {stamped} books {where}) "
        "GROUP BY futures, minute_ns ORDER BY minute_ns",
        day=day,
    )
    of_futures = found["futures"].to_numpy().astype(bool)
    minute_ns, events = found["minute_ns"].to_numpy(), found["events"].to_numpy()
    markets = ((Market.FUTURES, of_futures), (Market.STOCK, ~of_futures))
    return {market.value: (minute_ns[mine], events[mine]) for market, mine in markets if mine.any()}


@styled
def activity_picture(lake: Lake, day: date) -> bytes:
    """Events a minute by market; continuous trading of futures and of stocks shaded."""
    markets = activity(lake, day)
    panels = [span for span in spans(day) if any(bool(within(ns, span).any()) for ns, _ in markets.values())]
    if not panels:
        return blank(f"{day}: nothing is archived of its sessions")
    figure = new_figure(1.3 + 1.6 * len(markets))
    rows = session_panels(figure, panels, heights=(1,) * len(markets))
    for row, (market, (minute_ns, events)) in zip(rows, markets.items(), strict=True):
        bounds = session_bounds(day, Market(market))
        for axes, span in zip(row, panels, strict=True):
            for session in bounds:
                axes.axvspan(*clock(np.array([session.open_ns, session.close_ns])), color=SHADE, linewidth=0)
            # Every minute has a value: one without events is a zero, not a line drawn across it.
            minutes = np.arange(span.from_ns // MINUTE_NS, span.to_ns // MINUTE_NS) * MINUTE_NS
            counts = np.zeros(len(minutes), np.int64)
            mine = np.isin(minute_ns, minutes)
            counts[np.searchsorted(minutes, minute_ns[mine])] = events[mine]
            color = BLUE if market == Market.FUTURES else ORANGE
            axes.fill_between(clock(minutes), counts, step="post", color=color, alpha=0.85, linewidth=0)
        row[0].set_ylim(0, int(events.max()) * 1.05)
        row[0].set_ylabel(f"{market}, a minute")
        thousands(row[0])
    total = sum(int(events.sum()) for _, events in markets.values())
    title(
        figure,
        f"{day}: {total:,} events",
        "trades and books received in each minute, repeats hidden; continuous trading is shaded; Taipei time",
    )
    return png(figure)
