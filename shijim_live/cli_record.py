"""`shijim-live record`: options, which feed, which codes. No rule of the data is here."""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

from rust_indicators import Publisher
from shijim_live import calendar
from shijim_live.broker.live import LiveFeed
from shijim_live.broker.replay import ReplayFeed
from shijim_live.broker.simulated import MARKETS, PLAIN, SimulatedExchange
from shijim_live.calendar import SECOND_NS, require_trading_day
from shijim_live.cli_live import recorded_classes, session_feed, shioaji_feed
from shijim_live.cli_plan import add_shares
from shijim_live.cli_progress import Watch, summary
from shijim_live.cli_replay import add_replay, refuse_replay_options, replay_of
from shijim_live.command_line import Parser, Verbs, add_place, add_verb, day
from shijim_live.record.recorder import RecordPlan, record
from shijim_live.record.sink import Sink
from shijim_live.record.space import RecordError
from shijim_live.settings import Settings, SettingsError
from shijim_live.universe import Universe, read_universe, read_universe_file, universe_path

DEFAULT_OUTAGE_SECONDS = 30
OUTAGE_SECONDS_MAX = 86_400  # a simulated recorder is away within its day
COMMIT_INTERVAL_MS_MAX = 1_000  # one commit a second wears out no disk; longer would only lose more to a kill
SNAPSHOTS_SECONDS = 60  # 900 codes a minute are some 50 MB a day, a tenth of what the broker gives
# Name on the command line → field of a simulation.
FAULTS = {
    "outages": "outages", "lost-ticks": "lost_ticks", "lost-books": "lost_books", "repeats": "repeats",
    "slows": "slows", "stalls": "stalls", "reorders": "reorders", "clock-steps": "clock_steps",
    "malformed": "malformed",
}  # fmt: skip
# What a person should know who asked for less than the default.
RISKS = {
    "write": "durable means that the kernel has it: a power cut loses what was recorded since the segment began",
    "off": "nothing is synced: a power cut can take any segment of this run, sealed ones too",
}


def add_record(verbs: Verbs) -> None:
    """The verb and its options."""
    verb = add_verb(verbs, "record", run_record, "record a feed until it ends, or Ctrl-C")
    verb.add_argument("--broker", choices=tuple(_FEEDS), required=True, help="where events come from")
    add_shard(verb)
    verb.add_argument("--day", type=day, help="the trading day, YYYY-MM-DD; of a replay what is recorded, if one day")
    verb.add_argument("--seed", type=int, default=1, help="simulated: same seed, same day (default 1)")
    verb.add_argument("--events", type=positive, help="simulated: about how many events (default 300000)")
    rules = "simulated: plain, or taiwan with auctions, pauses, limits and codes that do not trade (default plain)"
    verb.add_argument("--market", choices=tuple(MARKETS), default=PLAIN, help=rules)
    names = ", ".join(FAULTS)
    wrong = f"simulated: how often something goes wrong with the feed, like stalls=2; may be given again. Of {names}"
    verb.add_argument("--fault", action="append", type=_fault, default=[], metavar="NAME=COUNT", help=wrong)
    through = "simulated: through a session like the broker's, in which everything goes wrong once"
    verb.add_argument("--session", action="store_true", help=through)
    add_shares(verb)
    asked = f"codes that no topic is left for are asked about this often (default {SNAPSHOTS_SECONDS}; 0: never)"
    verb.add_argument("--snapshots-seconds", type=_seconds, default=str(SNAPSHOTS_SECONDS), metavar="N", help=asked)
    jitter = "random wait before the first login, at most (SHIJIM_STARTUP_JITTER_SEC)"
    verb.add_argument("--startup-jitter-seconds", metavar="SECONDS", help=jitter)
    away = f"simulated: how long a restarted recorder was away (default {DEFAULT_OUTAGE_SECONDS})"
    verb.add_argument(
        "--restart-outage", type=_seconds, default=str(DEFAULT_OUTAGE_SECONDS), metavar="SECONDS", help=away
    )
    add_replay(verb)
    verb.add_argument("--speed", type=_speed, default="max", help="multiple of real time, or max (default)")
    which = "the codes to record: a universe file, or none for all (default: universe/<day>.json where there is one)"
    verb.add_argument("--universe", metavar="PATH|none", help=which)
    add_durability(verb)
    verb.add_argument("--metrics-port", type=int, help="base port of /metrics, 0 = off (SHIJIM_METRICS_PORT)")
    verb.add_argument("--quiet", action="store_true", help="no progress, only the summary")


def add_durability(verb: Parser) -> None:
    """What an acknowledged event survives, and how often there is a commit."""
    durable = (
        "what an acknowledged event survives. sync: a power cut, each commit is an fdatasync (default); write: the "
        "recorder's death but no power cut, which takes up to 15 minutes; off: as write, and no file is ever synced, "
        "so that a power cut can take all of the run: for what can be recorded again, like a replay"
    )
    verb.add_argument("--durability", choices=("sync", "write", "off"), default="sync", help=durable)
    interval = (
        f"0 to {COMMIT_INTERVAL_MS_MAX}: gather events for so long before the next commit, for a disk that wears out "
        "from small writes; they are acknowledged that much later, and a kill or power cut loses as much more of what "
        "was not (default 0: commit at once)"
    )
    verb.add_argument("--commit-interval-ms", type=_commit_interval, default="0", metavar="MS", help=interval)


def add_shard(verb: Parser) -> None:
    """Where everything is, and which recorder is meant."""
    add_place(verb)
    verb.add_argument("--shard", metavar="I/N", help="which recorder of how many, from 0 (SHARD_ID, TOTAL_SHARDS; 0/1)")


def positive(text: str) -> int:
    """The type of an option that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) > OUTAGE_SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds: write 0 to {OUTAGE_SECONDS_MAX}")
    return int(text)


def _fault(text: str) -> tuple[str, int]:
    name, _, count = text.partition("=")
    if name not in FAULTS or not count.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no fault: write NAME=COUNT, with one of {', '.join(FAULTS)}")
    return FAULTS[name], int(count)


def _commit_interval(text: str) -> int:
    if not text.isdecimal() or int(text) > COMMIT_INTERVAL_MS_MAX:
        message = f"{text!r} is no time between two commits: write milliseconds, 0 to {COMMIT_INTERVAL_MS_MAX}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0
    if not 0 < speed < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a speed: write max, or a multiple of real time like 60")
    return speed


def shard_settings(arguments: argparse.Namespace) -> Settings:
    """The settings of the shard the options mean; what they note goes to stderr."""
    settings = read_settings(arguments)
    calendar.follow(settings.calendar_overrides)
    for note in settings.notes:
        print(f"shijim-live: {note}", file=sys.stderr)
    return settings


def read_settings(arguments: argparse.Namespace) -> Settings:
    """The settings of the shard the options mean. SettingsError."""
    flags = {
        "data_dir": arguments.data_dir,
        "metrics_port": getattr(arguments, "metrics_port", None),
        "startup_jitter_ms": getattr(arguments, "startup_jitter_seconds", None),
    }
    if arguments.shard is not None:
        shard, slash, total = arguments.shard.partition("/")
        if not (slash and shard.isdecimal() and total.isdecimal()):
            raise SettingsError([f"--shard {arguments.shard}: write I/N with shards counted from 0, like 0/1"])
        flags |= {"shard_id": shard, "total_shards": total}
    return Settings.from_environment(arguments.profile, **flags)


class _SimulatedFeed:
    def __init__(self, exchange: SimulatedExchange) -> None:
        self.exchange = exchange

    def run(self, sink: Sink, stop: threading.Event, resume_after_ns: int | None) -> None:
        self.exchange.run(sink.quote, sink.connection, stop, resume_after_ns)

    def codes(self) -> frozenset[str]:
        return frozenset(self.exchange.codes)


class _ReplayedFeed:
    def __init__(self, replay: ReplayFeed) -> None:
        self.replay = replay

    def run(self, sink: Sink, stop: threading.Event, resume_after_ns: int | None) -> None:
        assert resume_after_ns is None, "a replay is always a run of its own"
        self.replay.run(sink.records, stop)

    def codes(self) -> frozenset[str] | None:
        return self.replay.codes()


def run_record(arguments: argparse.Namespace) -> int:
    """Records until the feed ends or somebody stops it."""
    settings = shard_settings(arguments)
    _refuse_simulated_options(arguments)
    universe = _universe(arguments, settings)
    plan, feed = _FEEDS[arguments.broker](arguments, settings, universe)
    plan = replace(plan, delivered=feed.codes() or frozenset())
    chosen = _chosen_codes(plan, settings, universe)
    unknown = _unknown_codes(plan, feed)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    connections = feed.connections if isinstance(feed, LiveFeed) else None
    watch = Watch(settings, stop, quiet=arguments.quiet, paced=_paced(arguments), connections=connections,
                  live=arguments.broker == "shioaji")  # fmt: skip

    def started(publisher: Publisher) -> None:
        if not arguments.quiet:
            print(f"recording {chosen}", file=sys.stderr)
        if risk := RISKS.get(plan.durability):
            print(f"shijim-live: --durability {plan.durability}: {risk}", file=sys.stderr)
        if unknown:
            print(f"shijim-live: the feed does not have {', '.join(unknown)} of the universe", file=sys.stderr)
        watch.start(publisher)

    started_ns = time.monotonic_ns()
    try:
        recording = record(plan, feed, stop, started)
    finally:
        watch.finish()
    print(summary(recording, plan, chosen, (time.monotonic_ns() - started_ns) / 1_000_000_000))
    return 0


def _refuse_simulated_options(arguments: argparse.Namespace) -> None:
    """SettingsError: of another feed they would change nothing, and somebody would wait for them."""
    if arguments.broker == "simulated":
        return
    given = {"--fault": arguments.fault, "--market": arguments.market != PLAIN, "--session": arguments.session,
             "--events": arguments.events}  # fmt: skip
    if names := [name for name, value in given.items() if value]:
        raise SettingsError([f"{', '.join(names)}: for --broker simulated, not for {arguments.broker}"])


def _universe(arguments: argparse.Namespace, settings: Settings) -> Universe | None:
    """The universe asked for, else the one of the day, where there is one. None: every code is recorded."""
    if arguments.symbol is not None and arguments.universe not in (None, "none"):
        raise SettingsError(["--symbol and --universe: give one of them"])
    if arguments.universe == "none" or arguments.symbol is not None or arguments.broker == "shioaji":
        return None  # the broker's feed follows the universe, which may change while it records
    if arguments.universe is not None:
        universe = read_universe_file(Path(arguments.universe))
    elif (wanted := _day(arguments)) is not None and universe_path(settings.universe_dir, wanted).exists():
        universe = read_universe(settings.universe_dir, wanted)
    else:
        return None
    if universe.shards != settings.total_shards:
        raise SettingsError(
            [
                f"the universe of {universe.day} is made for {universe.shards} shards and this recorder is one of "
                f"{settings.total_shards}: set TOTAL_SHARDS={universe.shards}, or rank the day again for "
                f"{settings.total_shards}, or give --universe none"
            ]
        )
    return universe


def _day(arguments: argparse.Namespace) -> date | None:
    """The trading day that is recorded; None for a replay, which may hold several."""
    day: date | None = arguments.day
    return day


def _chosen_codes(plan: RecordPlan, settings: Settings, universe: Universe | None) -> str:
    """What is recorded, for a person."""
    shard = f"shard {plan.shard} of {settings.total_shards}"
    if plan.subscribes and plan.codes is not None:
        return f"{len(plan.codes)} codes, {shard}{plan.note}"
    if universe is None and plan.codes is not None:
        return f"{', '.join(plan.codes)}, {shard}"
    if universe is None or plan.codes is None:
        return f"every code of the feed, {shard}: no universe"
    return f"{len(plan.codes)} of the {len(universe.chosen)} codes of the universe of {universe.day}, {shard}"


def _unknown_codes(plan: RecordPlan, feed: _AnyFeed) -> list[str]:
    """Codes of the universe that will not come. RecordError where none of this shard's will."""
    if plan.codes is None or plan.subscribes or (delivered := feed.codes()) is None:
        return []
    if not delivered & set(plan.codes):
        raise RecordError(
            f"the feed has none of the {len(plan.codes)} codes of this shard: {', '.join(plan.codes[:5])} … "
            "Rank the day again, or give --universe none"
        )
    return sorted({code for codes in plan.universe for code in codes} - delivered)


def _simulated(
    arguments: argparse.Namespace, settings: Settings, universe: Universe | None
) -> tuple[RecordPlan, _SimulatedFeed | LiveFeed]:
    refuse_replay_options(arguments)
    if arguments.day is None:
        raise SettingsError(["--day is missing: the simulated exchange needs a trading day, like --day 2026-04-09"])
    require_trading_day(arguments.day)
    market = MARKETS[arguments.market]
    faults: dict[str, int] = dict(arguments.fault)
    simulation = replace(market, target_events=arguments.events or market.target_events, **faults)  # type: ignore[arg-type]  # counts
    exchange = SimulatedExchange(arguments.day, arguments.seed, simulation, arguments.speed)
    first_ns = min(session.trial_ns for session in exchange.sessions)
    plan = RecordPlan(
        raw_dir=settings.raw_dir,
        shard=settings.shard_id,
        source="simulated",
        clock="simulated",
        config=_market_of(arguments, simulation.target_events),
        classes=recorded_classes(),
        ring_slots=settings.ring_slots,
        durability=arguments.durability,
        commit_interval_ms=arguments.commit_interval_ms,
        outage_ns=arguments.restart_outage * SECOND_NS,
        without_space=_without_space(arguments),
        now_ns=lambda: first_ns,
        run_id=_run_id_of,
        universe=universe.codes_by_shard() if universe else (),
    )
    if arguments.session:
        return session_feed(plan, exchange, settings, arguments, universe)
    return plan, _SimulatedFeed(exchange)


def _market_of(arguments: argparse.Namespace, events: int) -> dict[str, object]:
    """What `shijim_pipelines.history` asks the same market by. A plain day is not named: it keeps its old identity."""
    rules = {} if arguments.market == PLAIN else {"market": arguments.market}
    faults = {"faults": dict(arguments.fault)} if arguments.fault else {}
    return {"day": arguments.day, "seed": arguments.seed, "events": events} | rules | faults


def _replayed(
    arguments: argparse.Namespace, settings: Settings, universe: Universe | None
) -> tuple[RecordPlan, _ReplayedFeed]:
    replay = replay_of(arguments, settings)
    plan = RecordPlan(
        raw_dir=settings.raw_dir,
        shard=settings.shard_id,
        source="replay",
        clock="real",
        config=replay.described,
        classes=recorded_classes(),
        ring_slots=settings.ring_slots,
        durability=arguments.durability,
        commit_interval_ms=arguments.commit_interval_ms,
        outage_ns=0,
        without_space=_without_space(arguments),
        now_ns=time.time_ns,
        run_id=lambda _: os.urandom(8).hex(),
        universe=_asked_codes(arguments, settings, universe),
        note=replay.note,
    )
    return plan, _ReplayedFeed(replay.feed)


def _asked_codes(
    arguments: argparse.Namespace, settings: Settings, universe: Universe | None
) -> tuple[tuple[str, ...], ...]:
    """Codes by shard; those of --symbol are every shard's, for whoever gives them says what this recorder records."""
    if arguments.symbol is not None:
        return (tuple(sorted(set(arguments.symbol))),) * settings.total_shards
    return universe.codes_by_shard() if universe else ()


_AnyFeed = _SimulatedFeed | _ReplayedFeed | LiveFeed
_FEEDS: dict[str, Callable[[argparse.Namespace, Settings, Universe | None], tuple[RecordPlan, _AnyFeed]]] = {
    "simulated": _simulated,
    "replay": _replayed,
    "shioaji": shioaji_feed,
}


def _paced(arguments: argparse.Namespace) -> bool:
    """Whether events come at a pace of their own, whatever we do."""
    return arguments.broker == "shioaji" or arguments.speed is not None


def _without_space(arguments: argparse.Namespace) -> str:
    """A feed at a pace goes on as the market would; one as fast as possible has no clock, and can wait."""
    return "hand_back" if arguments.speed is None else "lose"


def _run_id_of(what: str) -> str:
    """The same simulated run has the same identity, so that the same seed gives the same events."""
    return hashlib.sha256(what.encode()).hexdigest()[:16]
