"""Which history belongs to a recorded day: that of the exchange that was recorded. Asks it nothing yet."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import orjson

from shijim_live.broker.history import WITHOUT_HISTORY, History, HistoryUnavailable, Metered, Quota
from shijim_live.broker.leases import Leases
from shijim_live.broker.login import allow_login, key_problems
from shijim_live.broker.masked_stderr import MaskedStderr
from shijim_live.broker.quota import QUOTA_FILE
from shijim_live.broker.shioaji import ShioajiGateway
from shijim_live.broker.shioaji_history import ShioajiHistory
from shijim_live.broker.simulated import MARKETS, PLAIN, SimulationConfig, sessions_of
from shijim_live.broker.simulated_history import DAILY_QUOTES_AFTER_NS, Defect, SimulatedHistory
from shijim_live.calendar import MINUTE_NS, Market, require_trading_day, session_bounds
from shijim_live.record import wal
from shijim_live.settings import Settings, SettingsError
from shijim_live.store.views import BACKFILL

SIMULATED: Final = "simulated"
SHIOAJI, SHIOAJI_SIMULATION = "shioaji", "shioaji-simulation"  # the broker itself, and its test service
HOUR_NS: Final = 60 * MINUTE_NS
SEED: Final = 1  # of the simulated exchange where nothing was recorded; that of `shijim-live record`


class BrokerConnection:
    """The broker's own history, as far as the settings allow it: one login for all days, at the first question."""

    def __init__(self, settings: Settings) -> None:
        """Dials nobody, and needs no keys until the broker is meant."""
        self._settings = settings
        self._history: ShioajiHistory | None = None

    @property
    def source(self) -> str:
        """Whom the settings reach: the broker's test service never answers for the market, nor the other way round."""
        return SHIOAJI_SIMULATION if self._settings.simulation else SHIOAJI

    @property
    def quota_path(self) -> Path:
        """The account of the person's questions, whatever the data folder."""
        return self._settings.person_dir / QUOTA_FILE

    def history(self, source: str) -> History:
        """HistoryUnavailable says which setting is missing; LoginForbidden in a test or a demo."""
        if source != self.source:
            wanted = str(source == SHIOAJI_SIMULATION).lower()
            raise HistoryUnavailable(
                f"the history of {source} is another one than that of {self.source}: set SHIOAJI_SIMULATION={wanted}"
            )
        if self._history is None:
            settings = self._settings
            try:
                settings.require_broker_keys()
            except SettingsError as error:
                raise HistoryUnavailable("; ".join(error.problems)) from None
            if problems := key_problems(settings):
                raise HistoryUnavailable("; ".join(problems))
            token = allow_login(settings)
            # Until the last line of this process, whichever thread of the SDK writes it.
            secrets = (settings.api_key.reveal(), settings.secret_key.reveal(), settings.ca_password.reveal())
            atexit.register(MaskedStderr(secrets).close)
            self._history = ShioajiHistory(ShioajiGateway(settings, token), Leases(settings.person_dir), source)
        return self._history

    def close(self) -> None:
        """Logs out where it logged in."""
        if self._history is not None:
            self._history.close()

    def __enter__(self) -> BrokerConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def history_for(
    day: date,
    wal_dir: Path,
    market_dir: Path,
    *,
    defects: frozenset[Defect] = frozenset(),
    now_ns: Callable[[], int] = time.time_ns,
    sleep: Callable[[float], None] = time.sleep,
    broker: BrokerConnection | None = None,
    unrecorded: str = SIMULATED,
    open_sources: Mapping[str, Path] = MappingProxyType({}),
) -> Metered:
    """The history of the exchange whose recording of `day` is in the log, metered: a simulated one's by
    <market_dir>/quota.json, the broker's by the person's account.

    A day recorded from the broker has the broker's, over `broker`. Where nothing is recorded: that of `unrecorded`, the
    simulated exchange of seed 1 or the broker as the settings have it (`shioaji`) – unless `open_sources` says, source
    by witness, whose gaps are to be filled: the log of such a day is somewhere else. A simulated day that is in the log
    is over for its history, whatever the clock says: its own clock has run. HistoryUnavailable when there is no one
    such exchange: only imports, more than one market, or no connection to the broker. NotATradingDay on a closed day.
    """
    require_trading_day(day)
    recorded = _recorded(day, wal_dir)
    if recorded.nothing and SIMULATED in open_sources:
        unrecorded = SIMULATED  # of which seed is not known: it is asked, and the proof decides
    elif recorded.nothing:
        recorded = _Recorded(others=dict(open_sources))
    sources = sorted({SHIOAJI, SHIOAJI_SIMULATION} & recorded.others.keys())
    if sources or (unrecorded != SIMULATED and recorded.nothing):
        return _of_the_broker(day, recorded, sources, broker, partial(Quota, now_ns=now_ns, sleep=sleep))
    market = _one_market(day, recorded)
    sessions = sessions_of(day)
    past_ns = _last_answer_ns(day) if recorded.markets else min(session.trial_ns for session in sessions)
    history = SimulatedHistory(
        market.seed,
        market.config(),
        defects,
        now_ns=lambda: max(now_ns(), past_ns),
    )
    quota = Quota(
        market_dir / QUOTA_FILE,
        now_ns=now_ns,
        sleep=sleep,
        # What counts as intraday is whether this exchange is open, not whether Taiwan's is while a test runs.
        session_open=lambda ns: any(session.open_ns <= ns < session.close_ns for session in sessions),
    )
    return Metered(history, quota)


def _of_the_broker(
    day: date,
    recorded: _Recorded,
    sources: Sequence[str],
    broker: BrokerConnection | None,
    quota: Callable[[Path], Quota],
) -> Metered:
    """`sources`: from which of the broker's services the day was recorded; none where nothing of it was."""
    if len(sources) > 1 or (sources and recorded.markets):
        seen = [f"{source} in {recorded.others[source]}" for source in sources]
        seen += [f"a simulated market in {path}" for path in recorded.markets.values()]
        raise HistoryUnavailable(
            f"{day} was recorded from different markets, and one trading day has one history ({'; '.join(seen)}). Keep "
            f"each in a --data-dir of its own"
        )
    where = f"{day} was recorded from {sources[0]} ({recorded.others[sources[0]]})" if sources else f"{day}"
    if broker is None:
        raise HistoryUnavailable(f"{where}, and nobody may ask the broker here")
    try:
        return Metered(broker.history(sources[0] if sources else broker.source), quota(broker.quota_path))
    except HistoryUnavailable as reason:
        raise HistoryUnavailable(f"{where}, and the broker cannot be asked about it: {reason}") from None


@dataclass(frozen=True, slots=True)
class _Market:
    """What makes a simulated market: all else in the header is a fault of the feed, or a choice of the recorder."""

    seed: int = SEED
    events: int = SimulationConfig().target_events
    rules: str = PLAIN

    def config(self) -> SimulationConfig:
        return replace(MARKETS[self.rules], target_events=self.events)

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.events} events" + (f", {self.rules}" if self.rules != PLAIN else "")


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Who was recorded on a day, with one segment each as the witness."""

    markets: dict[_Market, Path] = field(default_factory=dict)  # simulated exchanges
    others: dict[str, Path] = field(default_factory=dict)  # other sources with events of the day
    unreadable: list[wal.WalError] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        """Nothing of the day is in the log."""
        return not (self.markets or self.others or self.unreadable)


def _recorded(day: date, wal_dir: Path) -> _Recorded:
    found = _Recorded()
    for path in wal.segment_paths(wal_dir) if wal_dir.is_dir() else ():
        try:
            reader, header = wal.open_segment(path)
            config = orjson.loads(reader.header).get("config") or {}
            # A backfill is no recording; it says whose recording it fills, of the simulated ones not which.
            source = config.get("fills", SIMULATED) if header.source == BACKFILL else header.source
            if source == SIMULATED and "day" in config:
                if header.source != BACKFILL and config["day"] == str(day):
                    found.markets.setdefault(_market(path, config), path)
            elif _holds(path, header, day):
                found.others.setdefault(source, path)
        except wal.WalError as error:
            found.unreadable.append(error)
    return found


def _market(path: Path, config: dict[str, object]) -> _Market:
    seed, events, rules = config.get("seed"), config.get("events"), config.get("market", PLAIN)
    if not isinstance(seed, int) or not isinstance(events, int):
        raise HistoryUnavailable(
            f"{path}: its header names no seed and events, so which simulated market it recorded is not known: "
            f"record the day again with this release"
        )
    if not isinstance(rules, str) or rules not in MARKETS:
        raise HistoryUnavailable(
            f"{path}: its header names the market {rules!r}, and this release knows {', '.join(MARKETS)}: use the "
            f"release that recorded it"
        )
    return _Market(seed, events, rules)


def _holds(path: Path, header: wal.SegmentHeader, day: date) -> bool:
    """Whether a segment of another source may hold events of the day; an unsealed import says nothing and may."""
    stamps = (wal.footer(path) or {}).get("exchange_ns")
    if not isinstance(stamps, list) or len(stamps) != 2:
        if header.clock != "real":
            return True
        # A recorder begins a new one every quarter of an hour: what is not sealed is of about then.
        stamps = [header.created_ns - HOUR_NS, header.created_ns + HOUR_NS]
    sessions = sessions_of(day)
    opens_ns, closes_ns = min(session.trial_ns for session in sessions), max(session.close_ns for session in sessions)
    return bool(stamps[0] <= closes_ns and stamps[1] >= opens_ns)


def _one_market(day: date, recorded: _Recorded) -> _Market:
    """The one simulated market of the day; the default where nothing is recorded. HistoryUnavailable."""
    if len(recorded.markets) > 1:
        seen = "; ".join(f"{market} in {path}" for market, path in recorded.markets.items())
        raise HistoryUnavailable(
            f"{day} was recorded from {len(recorded.markets)} different simulated markets, and one trading day has one "
            f"history ({seen}). Keep each in a --data-dir of its own"
        )
    for market in recorded.markets:
        return market
    if recorded.others:
        source, path = next(iter(recorded.others.items()))
        raise HistoryUnavailable(
            f"{day} was recorded from {', '.join(recorded.others)} ({path}), and there is no history to ask about it: "
            f"{_why_none(source)}",
            for_good=all(other.startswith(WITHOUT_HISTORY) for other in recorded.others),
        )
    if recorded.unreadable:
        raise HistoryUnavailable(
            f"{day}: no segment says who was recorded, and {len(recorded.unreadable)} cannot be read: "
            f"{recorded.unreadable[0]}"
        )
    return _Market()


def _why_none(source: str) -> str:
    if source == SIMULATED:
        return "its header does not say which simulated market it was"
    if source == "replay":
        return "a replay is of another recording; ask where that recording is"
    return "an import is all that its file holds; import the file that holds the missing part"


def _last_answer_ns(day: date) -> int:
    """When the last question about the day has its whole answer."""
    last_close_ns = max(session.close_ns for session in sessions_of(day))
    return max(last_close_ns, session_bounds(day, Market.STOCK)[-1].close_ns + DAILY_QUOTES_AFTER_NS)
