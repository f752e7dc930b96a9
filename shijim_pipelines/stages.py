"""Every stage of a trading day, given the settings alone: what `shijim <verb>` and the asset both call.

Not the work, which is in the stages' own files; here stands which folder each of them is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from shijim_live.broker.history import History, HistoryUnavailable
from shijim_live.broker.simulated_history import Defect
from shijim_live.calendar import previous_trading_day, require_trading_day
from shijim_live.instruments import instrument
from shijim_live.settings import Settings
from shijim_live.store import ship
from shijim_live.store.lake import Lake
from shijim_live.store.server import Server
from shijim_live.universe import Universe, UniverseMissing, read_universe, universe_path
from shijim_pipelines import datasets, flow_study, quality
from shijim_pipelines.answers import AnswerRefused
from shijim_pipelines.archive import NothingArchived
from shijim_pipelines.contracts import Readiness, readiness
from shijim_pipelines.event_file import InvalidDataset
from shijim_pipelines.history import SIMULATED, BrokerConnection, history_for
from shijim_pipelines.proof import audit, backfill, certificate, ledger
from shijim_pipelines.proof.day_segments import Manifests, not_archived
from shijim_pipelines.proof.gap_report import GapReport, read_report, write_report
from shijim_pipelines.quotes import QuotesMissing, closing_totals, instruments_of, quotes_of, read_instruments
from shijim_pipelines.symbols import Rule
from shijim_pipelines.universe import UniverseRefused, choose_universe, write_universe

if TYPE_CHECKING:
    from shijim_pipelines.backtests import BacktestResult, Track


def history_of(
    settings: Settings,
    day: date,
    defects: frozenset[Defect] = frozenset(),
    *,
    broker: BrokerConnection | None = None,
    open_sources: Mapping[str, Path] | None = None,
) -> History:
    """Whom to ask about a day. Raises HistoryUnavailable for what no broker can be asked about."""
    places = (settings.wal_dir, settings.market_dir)
    return history_for(
        day, *places, defects=defects, broker=broker, unrecorded=settings.history, open_sources=open_sources or {}
    )


def wanted_codes(settings: Settings, day: date) -> tuple[str, ...]:
    """What should have been recorded: the universe of the day; () where none was chosen."""
    try:
        universe = read_universe(settings.universe_dir, day)
    except UniverseMissing:
        return ()
    return tuple(one.code for one in universe.chosen)


def list_instruments(settings: Settings, day: date, history: History, now_ns: int) -> tuple[pa.Table, Readiness]:
    """What can be subscribed on the day, and whether it is enough; asked again once the broker has renewed its list."""
    table = instruments_of(day, settings.market_dir, history, now_ns)
    try:
        before = read_instruments(settings.market_dir, previous_trading_day(day))
    except (QuotesMissing, AnswerRefused):
        before = None  # a comparison only: yesterday's file is not worth today's
    return table, readiness(table, before)


def take_quotes(settings: Settings, day: date, history: History, now_ns: int) -> pa.Table:
    """Totals of the day's closed sessions; asked again only for sessions that closed since."""
    recorded = datasets.recorded_symbols(Lake(settings.archive_dir), day)
    by_minute = sorted({*recorded, *wanted_codes(settings, day)})
    return quotes_of(day, settings.market_dir, history, now_ns, by_minute)


def _is_recorded(settings: Settings, day: date) -> bool:
    """Whether anything of the day is archived, or sealed and waiting for it."""
    archived = (settings.archive_dir / table / f"trading_day={day}" for table in ("ticks", "books"))
    return any(folder.is_dir() for folder in archived) or bool(
        not_archived(Manifests(settings.archive_dir), settings.wal_dir, day)
    )


def choose(settings: Settings, day: date, history: History, now_ns: int,
           progress: Callable[[date, int, int], None] = lambda *_: None,
           symbols: Sequence[Rule] = (), broker: BrokerConnection | None = None) -> tuple[Universe, Path]:  # fmt: skip
    """Ranks the universe of the day, or takes a person's list, and writes it where `shijim-live record` reads it.

    Once the day is recorded its universe stands: another would claim that other codes should have been recorded.
    Raises UniverseRefused when the day was recorded without one.
    """
    if _is_recorded(settings, day):
        path = universe_path(settings.universe_dir, day)
        if path.exists():
            return read_universe(settings.universe_dir, day), path
        raise UniverseRefused(
            f"{day} was recorded without a universe, and one ranked now would claim that more should have been recorded"
        )

    def asked(before: date) -> History | None:
        try:
            return history_of(settings, before, broker=broker)
        except HistoryUnavailable:
            return None

    universe = choose_universe(
        day,
        settings.market_dir,
        history,
        settings.universe_strategies,
        settings.universe_limit,
        settings.universe_lookback_days,
        settings.total_shards,
        as_of_ns=now_ns,
        history_of=asked,
        # The simulated exchange matches stocks under disposition as any other.
        punished=() if history.source == SIMULATED else history.punish()["code"],
        symbols=symbols,
        progress=progress,
    )
    return universe, write_universe(universe, settings.universe_dir)


def ship_backlog(settings: Settings, progress: ship.Progress | None = None) -> ship.Shipped | None:
    """Sends the server what it has not confirmed; None where no server is configured."""
    server, shipped_dir = Server.of(settings), settings.shipped_dir
    if server is None or shipped_dir is None:
        return None
    return ship.ship(settings.archive_dir, shipped_dir, server, settings.fallback_dir, progress)


def verify_shipped(settings: Settings, progress: ship.Progress | None = None) -> tuple[str, ...]:
    """Segments that the server confirmed and no longer has; the next `ship_backlog` sends them again."""
    server, shipped_dir = Server.of(settings), settings.shipped_dir
    return ship.verify(shipped_dir, server, progress).lost if server and shipped_dir else ()


def audit_day(settings: Settings, day: date, now_ns: int) -> tuple[GapReport, Path]:
    """What is missing in what was recorded, written as the day's report."""
    report = _audited(settings, day, now_ns)
    return report, write_report(report, settings.reports_dir)


def _audited(settings: Settings, day: date, now_ns: int) -> GapReport:
    return audit.audit_day(
        settings.archive_dir,
        settings.wal_dir,
        day,
        closing=closing_totals(settings.market_dir, day),
        wanted=wanted_codes(settings, day),
        as_of_ns=now_ns,
    )


def keep_ledger(settings: Settings, day: date, actor: str, now_ns: int) -> list[ledger.Entry]:
    """Enters the day's report into its ledger; how every gap stands now."""
    ledger.record_report(read_report(settings.reports_dir, day), settings.reports_dir, actor, now_ns)
    return list(ledger.standing(ledger.read_ledger(settings.reports_dir, day)).values())


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Gaps of a day about which nobody can be asked."""

    gaps: int
    reason: str


def fill_gaps(settings: Settings, day: date, actor: str, now_ns: int, defects: frozenset[Defect] = frozenset(),
              progress: backfill.Progress | None = None) -> backfill.Backfilled | GivenUp:  # fmt: skip
    """One attempt at the gaps of the day's report that are open. Raises ReportDamaged where the day was not audited."""
    keep_ledger(settings, day, actor, now_ns)
    with BrokerConnection(settings) as broker:
        try:
            sources = ledger.open_sources(settings.reports_dir, day)
            history = history_of(settings, day, defects, broker=broker, open_sources=sources)
        except HistoryUnavailable as reason:
            if not reason.for_good:
                raise
            return GivenUp(ledger.give_up(settings.reports_dir, day, str(reason), actor, now_ns), str(reason))
        places = (settings.archive_dir, settings.wal_dir, settings.reports_dir, settings.market_dir)
        return backfill.backfill_day(day, *places, history, actor, now_ns, progress)


def certify(settings: Settings, day: date, actor: str, now_ns: int) -> certificate.Certificates:
    """What is proven of the audited day, written as its certificates. Raises ReportDamaged where it was not audited."""
    keep_ledger(settings, day, actor, now_ns)
    places = (settings.archive_dir, settings.reports_dir, settings.market_dir)
    return certificate.certify_day(day, *places, now_ns, actor, wanted_codes(settings, day))


def judge_quality(settings: Settings, day: date) -> tuple[quality.Judgement, Path]:
    """The quality report of the day: profile, judgement, page."""
    found = quality.profile(Lake(settings.archive_dir), day)
    if not found.num_rows:
        raise NothingArchived(f"{settings.archive_dir}: nothing of trading day {day} is archived. Run: shijim archive")
    judgement = quality.judge(found, day)
    return judgement, quality.write_report(judgement, settings.reports_dir)


@dataclass(frozen=True, slots=True)
class NotBuilt:
    """A symbol of which no dataset could be made, and why."""

    symbol: str
    reason: str

    def summary(self) -> str:
        return f"{self.symbol}: not built: {self.reason}"


def build_datasets(settings: Settings, requests: Sequence[datasets.Request], now_ns: int
                   ) -> Iterator[datasets.Made | NotBuilt]:  # fmt: skip
    """Datasets of one trading day; its audit is made once. One that cannot be built keeps no other from being built."""
    for request in requests:
        instrument(request.symbol)  # refused now, not after the audit
    lake = Lake(settings.archive_dir)
    report = _audited(settings, requests[0].day, now_ns)
    for request in requests:
        try:
            yield datasets.make_dataset(request, lake, report, settings.datasets_dir)
        except InvalidDataset as reason:
            yield NotBuilt(request.symbol, str(reason))


def study_flow(settings: Settings, request: datasets.Request, window_ns: int) -> flow_study.FlowStudy:
    """Order flow imbalance of a symbol's day against its price. Raises InvalidDataset, NotATradingDay."""
    require_trading_day(request.day)
    return flow_study.study_flow(Lake(settings.archive_dir), request, window_ns)


def backtest_day(settings: Settings, day: date, symbols: Sequence[str]
                 ) -> Iterator[tuple[str, BacktestResult, Track]]:  # fmt: skip
    """The quoter on every whole-day dataset of the day, or on those of `symbols`. Raises InvalidDataset."""
    from shijim_pipelines import backtests  # it imports hftbacktest and numba: two seconds

    folder = settings.datasets_dir / str(day)
    files = [folder / f"{symbol}.npz" for symbol in symbols] or sorted(folder.glob("*.npz"))
    whole = [path for path in files if "." not in path.stem and "-" not in path.stem]
    if not whole:
        raise InvalidDataset(f"{folder}: no dataset here. Run: shijim dataset --day {day} --symbol S")
    for path in whole:
        result, track = backtests.run_tracked(path, path.with_suffix(".meta.json"), backtests.Quoting())
        yield path.stem, result, track
