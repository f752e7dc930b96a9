"""How our pictures look: style, panels on Taipei's clock, titles, PNG bytes. What they show is `pictures.py`.

One panel a session, so that the hours without trading (a weekend before a Monday) take no room. Readable at 800 pixels,
drawn at twice that. matplotlib is imported when something is drawn, and its own state is left as it was.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec

import numpy as np
from numpy.typing import NDArray

from shijim_live.calendar import (
    CLOSE_GRACE_NS,
    MINUTE_NS,
    TAIPEI_OFFSET_NS,
    Market,
    Session,
    previous_trading_day,
    session_bounds,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES: Final = 8.0
DOTS_AN_INCH: Final = 200  # 1,600 pixels: sharp where 800 are shown
COLOURS: Final = 64  # few of our own, and their shades where letters and lines have soft edges
CLOCK_INCHES: Final = 0.42  # what 09:00 takes below an axis
_TRIAL_NS: Final = 15 * MINUTE_NS  # shown before each session: trial matching of futures

TEXT, QUIET, LINE, SHADE = "#1a1f27", "#667085", "#d5dae2", "#f1f3f6"
BLUE, ORANGE, GREY, RED = "#2563a8", "#d9730d", "#98a2b3", "#c81e1e"
# Told apart without colour vision (Okabe and Ito).
PALETTE: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")

Int64s = NDArray[np.int64]
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Span:
    """One session of the day as a panel, trial matching before it included. ns since the epoch, UTC."""

    name: str
    from_ns: int
    to_ns: int


def spans(day: date) -> list[Span]:
    """The panels of a trading day: the sessions of futures, in which those of stocks lie. Raises NotATradingDay."""
    found = []
    for bounds in session_bounds(day, Market.FUTURES):
        night = bounds.session is Session.NIGHT
        name = f"night of {previous_trading_day(day):%m-%d}" if night else f"day of {day:%m-%d}"
        found.append(Span(name, bounds.open_ns - _TRIAL_NS, bounds.close_ns + 5 * CLOSE_GRACE_NS))
    return found


_STYLE: Final[dict[Any, Any]] = {
    "font.size": 8,
    "text.color": TEXT,
    "axes.labelcolor": QUIET,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.titlecolor": QUIET,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": TEXT,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "white",
    "legend.fontsize": 7.5,
    "legend.title_fontsize": 7.5,
}


def styled(draw: Callable[P, bytes]) -> Callable[P, bytes]:
    """Draws with our style, and leaves matplotlib's own as it was."""

    @wraps(draw)
    def drawn(*arguments: P.args, **named: P.kwargs) -> bytes:
        import matplotlib as mpl

        with mpl.rc_context(_STYLE):
            return draw(*arguments, **named)

    return drawn


def new_figure(height_inches: float) -> Figure:
    from matplotlib.figure import Figure

    # Without pyplot there is no global state, no window, and nothing to close.
    return Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DOTS_AN_INCH, layout="constrained")


def session_panels(figure: Figure, panels: Sequence[Span], heights: Sequence[float]) -> list[list[Axes]]:
    """Rows of axes, a column a session, as wide as the session is long; each row has one scale."""
    widths = [span.to_ns - span.from_ns for span in panels]
    shape = {"width_ratios": widths, "height_ratios": heights}
    grid = figure.subplots(len(heights), len(panels), sharex="col", sharey="row", squeeze=False, gridspec_kw=shape)
    rows: list[list[Axes]] = [list(row) for row in grid]
    for at, row in enumerate(rows):
        for axes, span in zip(row, panels, strict=True):
            dress(axes, span, bottom=at == len(rows) - 1, left=axes is row[0])
            axes.grid(axis="y", color=LINE, linewidth=0.5)
    for axes, span in zip(rows[0], panels, strict=True):
        axes.set_title(span.name, loc="left")
    return rows


def dress(axes: Axes, span: Span, *, bottom: bool, left: bool) -> None:
    """Taipei's clock below, and no scale between two panels of a row."""
    from matplotlib import dates

    clocks: Any = dates  # without types
    axes.set_xlim(*clock(np.array([span.from_ns, span.to_ns])))
    place = axes.get_subplotspec()
    assert place is not None
    ratios: Any = place.get_gridspec().get_width_ratios()
    hours = (span.to_ns - span.from_ns) // (60 * MINUTE_NS)
    room = WIDTH_INCHES * 0.85 * ratios[place.colspan.start] / sum(ratios)
    axes.xaxis.set_major_locator(clocks.HourLocator(interval=1 + int(hours * CLOCK_INCHES / room)))
    axes.xaxis.set_major_formatter(clocks.DateFormatter("%H:%M"))
    axes.tick_params(labelbottom=bottom, bottom=bottom, labelleft=left, left=False)
    if not left:
        axes.spines["left"].set_visible(False)


def bare(axes: Axes) -> None:
    """Bars tell their own number: no scale, no frame."""
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(left=False, bottom=False)
    if axes.get_subplotspec() is not None and axes.get_subplotspec().colspan.start:  # type: ignore[union-attr]
        axes.tick_params(labelleft=False)


def thousands(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def title(figure: Figure, above: str, below: str) -> None:
    """What is seen, with its units, and below it how to read it."""
    figure.suptitle(above, x=0.008, ha="left", fontsize=10.5, fontweight="bold")
    figure.supxlabel(below, x=0.008, ha="left", fontsize=7.5, color=QUIET)


def blank(what: str) -> bytes:
    """One line where there is nothing to draw: an empty frame would look like a fault."""
    figure = new_figure(0.6)
    figure.text(0.008, 0.5, what, va="center", fontsize=9, color=QUIET)
    return png(figure)


def within(ns: Int64s, span: Span) -> NDArray[np.bool_]:
    return (ns >= span.from_ns) & (ns < span.to_ns)


def clock(ns: Int64s) -> Any:
    """Taipei's wall clock as matplotlib takes it."""
    return (ns + TAIPEI_OFFSET_NS).astype("datetime64[ns]")


def png(figure: Figure) -> bytes:
    """The same figure gives the same bytes. A palette takes a third of what true colour takes."""
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    picture = Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()
