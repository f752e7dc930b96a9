"""Which history belongs to a recorded day: that of the exchange that was recorded. Asks it nothing yet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Final

import orjson

from shijim_live.broker.history import HistoryUnavailable, Metered, Quota
from shijim_live.broker.quota import QUOTA_FILE
from shijim_live.broker.simulated import MARKETS, PLAIN, SimulationConfig, sessions_of
from shijim_live.broker.simulated_history import DAILY_QUOTES_AFTER_NS, Defect, SimulatedHistory
from shijim_live.calendar import Market, require_trading_day, session_bounds
from shijim_live.record import wal

SIMULATED: Final = "simulated"
SEED: Final = 1  # of the simulated exchange where nothing was recorded; that of `shijim-live record`


def history_for(
    day: date,
    wal_dir: Path,
    market_dir: Path,
    *,
    defects: frozenset[Defect] = frozenset(),
    now_ns: Callable[[], int] = time.time_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Metered:
    """The history of the exchange whose recording of `day` is in the log, metered by <market_dir>/quota.json.

    Where nothing is recorded: the simulated exchange's of seed 1. A simulated day that is in the log is over for its
    history, whatever the clock says: its own clock has run. HistoryUnavailable when there is no one such exchange: only
    imports or other sources, or more than one simulated market. NotATradingDay on a closed day.
    """
    require_trading_day(day)
    recorded = _recorded(day, wal_dir)
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


def _recorded(day: date, wal_dir: Path) -> _Recorded:
    found = _Recorded()
    for path in wal.segment_paths(wal_dir) if wal_dir.is_dir() else ():
        try:
            reader, header = wal.open_segment(path)
            config = orjson.loads(reader.header).get("config") or {}
            if header.source == SIMULATED and "day" in config:
                if config["day"] == str(day):
                    found.markets.setdefault(_market(path, config), path)
            elif _holds(path, day):
                found.others.setdefault(header.source, path)
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


def _holds(path: Path, day: date) -> bool:
    """Whether a segment of another source may hold events of the day; an unsealed one says nothing and may."""
    stamps = (wal.footer(path) or {}).get("exchange_ns")
    if not isinstance(stamps, list) or len(stamps) != 2:
        return True
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
            for_good=all(other.startswith(("import:", "replay")) for other in recorded.others),
        )
    if recorded.unreadable:
        raise HistoryUnavailable(
            f"{day}: no segment says who was recorded, and {len(recorded.unreadable)} cannot be read: "
            f"{recorded.unreadable[0]}"
        )
    return _Market()


def _why_none(source: str) -> str:
    if source == "shioaji":
        return "the broker's own history is not connected in this release"
    if source == SIMULATED:
        return "its header does not say which simulated market it was"
    if source == "replay":
        return "a replay is of another recording; ask where that recording is"
    return "an import is all that its file holds; import the file that holds the missing part"


def _last_answer_ns(day: date) -> int:
    """When the last question about the day has its whole answer."""
    last_close_ns = max(session.close_ns for session in sessions_of(day))
    return max(last_close_ns, session_bounds(day, Market.STOCK)[-1].close_ns + DAILY_QUOTES_AFTER_NS)
