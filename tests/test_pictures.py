"""Pictures: drawn from what the stages really give, small enough for metadata, the same data the same bytes."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from made_records import ns, outage, trades, write_log
from PIL import Image

from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig
from shijim_live.events import ABSENT_I64, Exchange
from shijim_live.store.lake import Lake
from shijim_pipelines import pictures
from shijim_pipelines.archive import archive_all
from shijim_pipelines.backtests import NO_MID_E6, STEP_NS, Track
from shijim_pipelines.drawing import spans
from shijim_pipelines.pictures import (
    PICTURE_BYTES_MAX,
    PictureTooLarge,
    activity,
    activity_picture,
    backtest_picture,
    gaps_picture,
    markdown,
    universe_picture,
)
from shijim_pipelines.proof.audit import audit_day
from shijim_pipelines.proof.gap_report import Gap, GapReport

DAY = date(2026, 4, 9)
MONDAY = date(2026, 4, 13)


def size(picture: bytes) -> tuple[int, int]:
    """Pixels, of a PNG that can be opened and that metadata takes."""
    assert len(picture) <= PICTURE_BYTES_MAX
    image = Image.open(io.BytesIO(picture))
    assert image.format == "PNG"
    return image.size


def is_one_line(picture: bytes) -> bool:
    return size(picture)[1] < 200


def track(day: date = DAY) -> Track:
    """A walk of a step a second through both sessions, seeded."""
    panels = spans(day)
    at = np.arange(panels[0].from_ns, panels[-1].to_ns, STEP_NS)
    random = np.random.default_rng(1)
    mid_e6 = 27_000_000_000 + 1_000_000 * random.integers(-1, 2, len(at)).cumsum()
    mid_e6[:100] = NO_MID_E6
    bought, sold = (random.integers(0, 30, len(at)) // 29 for _ in range(2))
    return Track(at, mid_e6, 200 * (mid_e6 - 27_000_000_000), np.cumsum(bought - sold), bought, sold)


# A backtest


@pytest.mark.parametrize("day", [DAY, MONDAY])
def test_a_whole_day_of_a_backtest_fits_into_metadata(day: date) -> None:
    picture = backtest_picture(track(day), "TXFD6", day)
    assert size(picture) == (1600, 1160)
    assert picture == backtest_picture(track(day), "TXFD6", day)


def test_every_fill_is_in_the_bars() -> None:
    whole = track()
    bars = [pictures._by_time(whole, span) for span in spans(DAY)]
    inside = np.zeros(len(whole.ns), bool)
    for span in spans(DAY):
        inside |= (whole.ns >= span.from_ns) & (whole.ns < span.to_ns)
    assert sum(int(bought.sum()) for _, bought, _ in bars) == int(whole.bought[inside].sum()) > 0
    assert sum(int(sold.sum()) for _, _, sold in bars) == int(whole.sold[inside].sum()) > 0


def test_a_backtest_of_nothing_or_of_another_day_is_one_line_of_text() -> None:
    nothing = Track(*(np.zeros(0, np.int64) for _ in range(6)))
    assert is_one_line(backtest_picture(nothing, "TXFD6", DAY))
    assert is_one_line(backtest_picture(track(), "TXFD6", MONDAY))


def test_a_market_without_a_mid_is_drawn() -> None:
    empty = track()
    empty = replace(empty, mid_e6=np.full(len(empty.ns), NO_MID_E6), equity_e6=np.zeros(len(empty.ns), np.int64))
    size(backtest_picture(empty, "TXFD6", DAY))


# What is missing


def report(folder: Path) -> GapReport:
    """An outage, and losses of two symbols by day and night."""
    night = trades("TXFD6", "2026-04-08 15:00:00", [1] * 40)
    day = trades("MXFD6", "2026-04-09 09:00:00", [2] * 60)
    known = outage("2026-04-09 09:00:10.500", "2026-04-09 09:00:20.200", "recorder killed")
    write_log(folder / "wal", [*night[:10], *night[20:], *day[:11], known, *day[21:40], *day[45:]])
    archive_all(folder / "wal", folder / "archive")
    return audit_day(folder / "archive", folder / "wal", DAY)


def test_gaps_of_a_report_are_drawn_by_symbol(tmp_path: Path) -> None:
    made = report(tmp_path)
    whole = gaps_picture(made)
    assert size(whole)[0] == 1600
    assert whole == gaps_picture(made)
    lots = pictures._lots_by_symbol(gap for gap in made.gaps if gap.lots)
    assert lots == {"TXFD6": {"feed_loss": 10}, "MXFD6": {"outage": 20, "feed_loss": 10}}
    without_outage = replace(made, gaps=tuple(gap for gap in made.gaps if gap.gap_type != "outage"))
    assert gaps_picture(without_outage) != whole


def test_shares_of_odd_lots_are_not_counted_as_lots(tmp_path: Path) -> None:
    made = report(tmp_path)
    odd = replace(made, gaps=tuple(replace(gap, lane="odd") for gap in made.gaps))
    assert is_one_line(gaps_picture(odd))


def test_a_report_without_missing_lots_is_one_line_of_text(tmp_path: Path) -> None:
    assert is_one_line(gaps_picture(replace(report(tmp_path), gaps=())))


def test_two_thousand_symbols_with_gaps_still_fit() -> None:
    open_ns, close_ns = ns("2026-04-09 09:00:00"), ns("2026-04-09 13:30:00")
    gaps = [
        Gap("volume", f"{code}", "board", 1, 2, *when, code, cause, "")
        for code in range(1000, 3000)
        for when, cause in (((open_ns, close_ns), "absent"), ((ABSENT_I64, open_ns), "late_start"))
    ]
    gaps += [Gap("silence", "2999", "board", 1, 2, open_ns, ABSENT_I64, 0, "silence", "")]
    gaps += [Gap("sequence", "", "", 1, 2, ABSENT_I64, ABSENT_I64, 0, "corrupt_block", "")]
    picture = gaps_picture(GapReport(DAY, (), tuple(gaps), (), {}))
    assert size(picture)[1] < 1400


# The universe


@dataclass(frozen=True)
class Chosen:
    """As a universe has them."""

    code: str
    rank: int
    shard: int
    load: int
    reasons: tuple[str, ...]


def universe(codes: int) -> list[Chosen]:
    names = ("volume", "volatility", "unusual", "")
    return [
        Chosen(f"{1000 + rank}", rank, rank % 3, 1 + 200_000 // rank, tuple(filter(None, (names[rank % 4],))))
        for rank in range(1, codes + 1)
    ]


@pytest.mark.parametrize("codes", [1, 3, 100, 2_000])
def test_a_universe_of_any_size_is_drawn(codes: int) -> None:
    chosen = universe(codes)
    picture = universe_picture(chosen, DAY)
    assert size(picture)[0] == 1600
    assert picture == universe_picture(chosen[::-1], DAY)


def test_an_empty_universe_is_one_line_of_text() -> None:
    assert is_one_line(universe_picture([], DAY))


# The day


def test_events_are_counted_by_minute_and_market(tmp_path: Path) -> None:
    futures = trades("TXFD6", "2026-04-08 15:00:30", [1] * 60)
    stocks = [
        replace(event, exchange=Exchange.TSE, broker_class=1)
        for event in trades("2330", "2026-04-09 09:00:00", [1] * 61)
    ]
    write_log(tmp_path / "wal", [*futures, futures[-1], *stocks])
    archive_all(tmp_path / "wal", tmp_path / "archive")
    found = activity(Lake(tmp_path / "archive"), DAY)
    assert {market: dict(zip(*map(np.ndarray.tolist, counts), strict=True)) for market, counts in found.items()} == {
        "futures": {ns("2026-04-08 15:00:00"): 30, ns("2026-04-08 15:01:00"): 30},
        "stock": {ns("2026-04-09 09:00:00"): 60, ns("2026-04-09 09:01:00"): 1},
    }
    assert size(activity_picture(Lake(tmp_path / "archive"), DAY))[0] == 1600


def test_a_day_of_which_nothing_is_archived_is_one_line_of_text(tmp_path: Path) -> None:
    assert is_one_line(activity_picture(Lake(tmp_path), DAY))


# The style


@pytest.mark.parametrize("day", [DAY, MONDAY, date(2026, 2, 23)])
def test_panels_hold_every_session_and_no_weekend(day: date) -> None:
    """The sessions of the simulated exchange lie in them, those of stocks in that of futures."""
    panels = spans(day)
    for session in SimulatedExchange(day, 1, SimulationConfig(target_events=3_000)).sessions:
        assert any(span.from_ns <= session.open_ns and session.close_ns <= span.to_ns for span in panels)
    assert all(span.to_ns - span.from_ns < 15 * 3600 * 10**9 for span in panels)
    assert all(one.to_ns < other.from_ns for one, other in pairwise(panels))


def test_drawing_leaves_matplotlib_as_it_was_and_opens_no_window() -> None:
    before = dict(mpl.rcParams)
    universe_picture(universe(3), DAY)
    assert dict(mpl.rcParams) == before
    drawn = "pictures.activity_picture(Lake(Path('/nonexistent')), datetime.date(2026, 4, 9))"
    code = (
        "import datetime, sys\nfrom pathlib import Path\nfrom shijim_live.store.lake import Lake\n"
        f"from shijim_pipelines import pictures\n{drawn}\nprint('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_markdown_holds_the_picture_and_refuses_a_large_one() -> None:
    picture = universe_picture(universe(3), DAY)
    text = markdown(picture, "universe")
    head, data = text.removesuffix(")").split("base64,")
    assert head == "![universe](data:image/png;"
    assert base64.b64decode(data) == picture
    with pytest.raises(PictureTooLarge, match=r"big: 100,001 bytes, metadata takes 100,000"):
        markdown(bytes(PICTURE_BYTES_MAX + 1), "big")
