"""`shijim-live record --broker replay`: which recording, which day, from when until when. Reads no record itself."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from shijim_live.broker.recorded import NEVER_NS, NothingToReplay, Run, Window, segment_runs
from shijim_live.broker.replay import ReplayFeed
from shijim_live.calendar import Market, instant_of, require_trading_day, trading_day, wall_clock
from shijim_live.command_line import Parser
from shijim_live.events import ABSENT_I64
from shijim_live.record.choice import Moment, moment
from shijim_live.settings import Settings, SettingsError


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay as it was asked for."""

    feed: ReplayFeed
    described: dict[str, object]  # for the header of what is recorded
    note: str  # for its first event


def add_replay(verb: Parser) -> None:
    """The options of a replay."""
    place = "replay: a wal folder or segment, or an archive folder (Parquet, needs shijim[lake])"
    verb.add_argument("--from", dest="place", type=Path, metavar="PATH", help=place)
    verb.add_argument("--symbol", action="append", metavar="CODE", help="replay: only this code; may be given again")
    verb.add_argument(
        "--seek", type=moment, metavar="TIME", help="replay: begin here: 09:00 of the day, or an ISO stamp"
    )
    verb.add_argument("--until", type=moment, metavar="TIME", help="replay: end before this time")
    sources = "replay: only what came from here (simulated, shioaji, import:…); may be given again"
    verb.add_argument("--source", dest="sources", action="append", metavar="NAME", help=sources)


def refuse_replay_options(arguments: argparse.Namespace) -> None:
    """SettingsError where another feed was asked to do what only a replay can."""
    options = {"--from": "place", "--symbol": "symbol", "--seek": "seek", "--until": "until",
               "--source": "sources"}  # fmt: skip
    given = [option for option, name in options.items() if getattr(arguments, name) is not None]
    if given:
        raise SettingsError([f"{', '.join(given)}: only with --broker replay"])


def replay_of(arguments: argparse.Namespace, settings: Settings) -> Replay:
    """What is to be replayed. SettingsError, NothingToReplay, WalError."""
    if arguments.place is None:
        raise SettingsError(["--from is missing: a replay needs a recorded log, like --from data/wal"])
    if arguments.day is not None:
        require_trading_day(arguments.day)
    day, runs = _recorded(arguments.place, arguments.day, settings)
    runs = _of_one_source(runs, arguments.sources)
    window = _window(runs, day, arguments.seek, arguments.until)
    feed = ReplayFeed(runs, arguments.speed, window)
    _require_symbols(feed, arguments.symbol)
    described: dict[str, object] = {"replay": sorted(name for run in runs for name in run.names)}
    if arguments.day is not None:
        described["day"] = arguments.day
    if window != Window():
        described["window_ns"] = [window.start_ns, window.end_ns]
    return Replay(feed, described, _note(arguments, window))


def _recorded(place: Path, day: date | None, settings: Settings) -> tuple[date | None, Sequence[Run]]:
    if (place / "segments").is_dir():
        if place.resolve() == settings.archive_dir.resolve():
            raise SettingsError([f"--from {place} is the archive of the data folder: give another --data-dir"])
        try:
            from shijim_live.store.archived import archived_day, archived_runs
        except ImportError as error:
            raise NothingToReplay(
                f"{place} is an archive of Parquet files, which need an extra: pip install 'shijim[lake]' ({error}). "
                "Without it give the log, like --from data/wal"
            ) from error
        day = archived_day(place, day)
        return day, archived_runs(place, day)
    runs = segment_runs(place, day)
    inside = settings.wal_dir.resolve()
    if any(path.resolve().is_relative_to(inside) for run in runs for path in run.paths):
        raise SettingsError([f"--from {place} is in the log to be written: give another --data-dir"])
    return day, runs


def _of_one_source(runs: Sequence[Run], wanted: list[str] | None) -> Sequence[Run]:
    """Two recordings of one market would be one market with everything twice."""
    sources = sorted({run.source for run in runs})
    if wanted is None:
        if len(sources) > 1:
            raise NothingToReplay(f"recorded by {', '.join(sources)}: say which with --source")
        return runs
    if unknown := sorted(set(wanted) - set(sources)):
        raise NothingToReplay(f"nothing was recorded by {', '.join(unknown)}, only by {', '.join(sources)}")
    return [run for run in runs if run.source in wanted]


def _window(runs: Sequence[Run], day: date | None, start: Moment | None, end: Moment | None) -> Window:
    first_ns = min(run.span_ns[0] for run in runs)
    last_ns = max(run.span_ns[1] for run in runs)
    if day is None and first_ns != ABSENT_I64:
        day = trading_day(first_ns, Market.FUTURES)
    window = Window(
        _instant("--seek", start, day) if start else Window().start_ns,
        _instant("--until", end, day) if end else Window().end_ns,
    )
    if window.start_ns >= window.end_ns:
        raise NothingToReplay("--until is not behind --seek: nothing lies between them")
    if window.misses(first_ns, last_ns):
        raise NothingToReplay(
            f"nothing was received{_words(window)}: the recording goes from {_shown(first_ns)} to {_shown(last_ns)}, "
            "Taipei"
        )
    return window


def _instant(option: str, asked: Moment, day: date | None) -> int:
    if not asked.daily:
        return asked.ns
    if day is None:
        raise NothingToReplay(f"{option}: of which day is not known: give --day, or a stamp like 2026-04-09T09:00")
    return instant_of(day, asked.ns)


def _require_symbols(feed: ReplayFeed, symbols: list[str] | None) -> None:
    known = feed.codes()
    if symbols is None or known is None:
        return
    if unknown := sorted(set(symbols) - known):
        raise NothingToReplay(
            f"--symbol {', '.join(unknown)}: not in the recording, which has {', '.join(sorted(known - {''}))}"
        )


def _note(arguments: argparse.Namespace, window: Window) -> str:
    of_the_day = f" of trading day {arguments.day}" if arguments.day is not None else ""
    return of_the_day + _words(window) + (" Taipei" if window != Window() else "")


def _words(window: Window) -> str:
    begin = f" from {_shown(window.start_ns)}" if window.start_ns != ABSENT_I64 else ""
    return begin + (f" until {_shown(window.end_ns)}" if window.end_ns != NEVER_NS else "")


def _shown(ns: int) -> str:
    return wall_clock(ns).isoformat(" ", "milliseconds")
