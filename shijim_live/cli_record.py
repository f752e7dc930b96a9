"""`shijim-live record`: options, which feed, which codes, and what a person sees of it. No rule of the data is here."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

from rust_indicators import Publisher
from shijim_live import calendar
from shijim_live.broker.live import LiveFeed
from shijim_live.broker.replay import ReplayFeed
from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig
from shijim_live.calendar import SECOND_NS, require_trading_day, wall_clock
from shijim_live.cli_live import recorded_classes, session_feed, shioaji_feed
from shijim_live.command_line import Parser, Verbs, add_place, add_verb, day
from shijim_live.events import RingState
from shijim_live.record import wal
from shijim_live.record.recorder import Recording, RecordPlan, Sink, record
from shijim_live.record.space import FREE_BYTES_MIN, FREE_BYTES_WARN, MIB, RecordError
from shijim_live.settings import Settings, SettingsError
from shijim_live.universe import Universe, read_universe, read_universe_file, universe_path
from shijim_live.watch.metrics import RecorderMetrics, serve
from shijim_live.watch.pressure import RingPressure

PROGRESS_SECONDS = 0.5
DEFAULT_OUTAGE_SECONDS = 30
OUTAGE_SECONDS_MAX = 86_400  # a simulated recorder is away within its day


def add_record(verbs: Verbs) -> None:
    """The verb and its options."""
    verb = add_verb(verbs, "record", run_record, "record a feed until it ends, or Ctrl-C")
    verb.add_argument("--broker", choices=tuple(_FEEDS), required=True, help="where events come from")
    add_shard(verb)
    verb.add_argument("--day", type=day, help="simulated: the trading day, YYYY-MM-DD")
    verb.add_argument("--seed", type=int, default=1, help="simulated: same seed, same day (default 1)")
    verb.add_argument("--events", type=positive, help="simulated: about how many events (default 300000)")
    through = "simulated: through a session like the broker's, in which everything goes wrong once"
    verb.add_argument("--session", action="store_true", help=through)
    jitter = "random wait before the first login, at most (SHIJIM_STARTUP_JITTER_SEC)"
    verb.add_argument("--startup-jitter-seconds", metavar="SECONDS", help=jitter)
    away = f"simulated: how long a restarted recorder was away (default {DEFAULT_OUTAGE_SECONDS})"
    verb.add_argument(
        "--restart-outage", type=_seconds, default=str(DEFAULT_OUTAGE_SECONDS), metavar="SECONDS", help=away
    )
    verb.add_argument("--from", dest="source", type=Path, metavar="PATH", help="replay: a wal folder or segment")
    verb.add_argument("--speed", type=_speed, default="max", help="multiple of real time, or max (default)")
    which = "the codes to record: a universe file, or none for all (default: universe/<day>.json where there is one)"
    verb.add_argument("--universe", metavar="PATH|none", help=which)
    durable = "sync: fdatasync before an event is acknowledged (default); write: trust the kernel"
    verb.add_argument("--durability", choices=("sync", "write"), default="sync", help=durable)
    verb.add_argument("--metrics-port", type=int, help="base port of /metrics, 0 = off (SHIJIM_METRICS_PORT)")
    verb.add_argument("--quiet", action="store_true", help="no progress, only the summary")


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
        raise argparse.ArgumentTypeError(f"{text!r} is not a time away: write seconds, 0 to {OUTAGE_SECONDS_MAX}")
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
    settings = Settings.from_environment(arguments.profile, **flags)
    calendar.follow(settings.calendar_overrides)
    for note in settings.notes:
        print(f"shijim-live: {note}", file=sys.stderr)
    return settings


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
        """None where a segment is not sealed and nobody has counted."""
        found: set[str] = set()
        for path in self.replay.paths:
            codes = (wal.footer(path) or {}).get("codes")
            if not isinstance(codes, dict):
                return None
            found |= codes.keys()
        return frozenset(found)


def run_record(arguments: argparse.Namespace) -> int:
    """Records until the feed ends or somebody stops it."""
    settings = shard_settings(arguments)
    universe = _universe(arguments, settings)
    plan, feed = _FEEDS[arguments.broker](arguments, settings, universe)
    plan = replace(plan, delivered=feed.codes() or frozenset())
    chosen = _chosen_codes(plan, settings, universe)
    unknown = _unknown_codes(plan, feed)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    watch = _Watch(settings, stop, quiet=arguments.quiet, paced=_paced(arguments))

    def started(publisher: Publisher) -> None:
        if not arguments.quiet:
            print(f"recording {chosen}", file=sys.stderr)
        if unknown:
            print(f"shijim-live: the feed does not have {', '.join(unknown)} of the universe", file=sys.stderr)
        watch.start(publisher)

    started_ns = time.monotonic_ns()
    try:
        recording = record(plan, feed, stop, started)
    finally:
        watch.finish()
    print(_summary(recording, plan, chosen, (time.monotonic_ns() - started_ns) / 1_000_000_000))
    return 0


def _universe(arguments: argparse.Namespace, settings: Settings) -> Universe | None:
    """The universe asked for, else the one of the day, where there is one. None: every code is recorded."""
    if arguments.universe == "none":
        return None
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
    if arguments.broker == "shioaji":
        return calendar.trading_day(time.time_ns(), calendar.Market.FUTURES)
    day: date | None = arguments.day
    return day


def _chosen_codes(plan: RecordPlan, settings: Settings, universe: Universe | None) -> str:
    """What is recorded, for a person."""
    shard = f"shard {plan.shard} of {settings.total_shards}"
    if universe is None or plan.codes is None:
        return f"every code of the feed, {shard}: no universe"
    return f"{len(plan.codes)} of the {len(universe.chosen)} codes of the universe of {universe.day}, {shard}"


def _unknown_codes(plan: RecordPlan, feed: _AnyFeed) -> list[str]:
    """Codes of the universe that will not come. RecordError where none of this shard's will."""
    if plan.codes is None or (delivered := feed.codes()) is None:
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
    if arguments.day is None:
        raise SettingsError(["--day is missing: the simulated exchange needs a trading day, like --day 2026-04-09"])
    require_trading_day(arguments.day)
    default = SimulationConfig()
    simulation = SimulationConfig(target_events=arguments.events or default.target_events)
    exchange = SimulatedExchange(arguments.day, arguments.seed, simulation, arguments.speed)
    first_ns = min(session.trial_ns for session in exchange.sessions)
    plan = RecordPlan(
        raw_dir=settings.raw_dir,
        shard=settings.shard_id,
        source="simulated",
        clock="simulated",
        config={"day": arguments.day, "seed": arguments.seed, "events": simulation.target_events},
        classes=recorded_classes(),
        ring_slots=settings.ring_slots,
        durability=arguments.durability,
        outage_ns=arguments.restart_outage * SECOND_NS,
        without_space=_without_space(arguments),
        now_ns=lambda: first_ns,
        run_id=_run_id_of,
        universe=universe.codes_by_shard() if universe else (),
    )
    if arguments.session:
        return session_feed(plan, exchange, settings, plan.codes or exchange.codes)
    return plan, _SimulatedFeed(exchange)


def _replayed(
    arguments: argparse.Namespace, settings: Settings, universe: Universe | None
) -> tuple[RecordPlan, _ReplayedFeed]:
    if arguments.source is None:
        raise SettingsError(["--from is missing: a replay needs a recorded log, like --from data/wal"])
    replay = ReplayFeed(arguments.source, arguments.speed)
    inside = settings.wal_dir.resolve()
    if any(path.resolve().is_relative_to(inside) for path in replay.paths):
        raise SettingsError([f"--from {arguments.source} is in the log to be written: give another --data-dir"])
    plan = RecordPlan(
        raw_dir=settings.raw_dir,
        shard=settings.shard_id,
        source="replay",
        clock="real",
        config={"replay": [path.name for path in replay.paths]},
        classes=recorded_classes(),
        ring_slots=settings.ring_slots,
        durability=arguments.durability,
        outage_ns=0,
        without_space=_without_space(arguments),
        now_ns=time.time_ns,
        run_id=lambda _: os.urandom(8).hex(),
        universe=universe.codes_by_shard() if universe else (),
    )
    return plan, _ReplayedFeed(replay)


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


def _not_recorded(counters: dict[str, int]) -> list[str]:
    """A line about what came while the disk was full, if anything did."""
    lost = counters["not_recorded"]
    return [f"  {lost:,} events came while there was no space; the outage is in the log"] if lost else []


class _Disk:
    """Tells of a disk that fills once when it begins, and once when it is over."""

    def __init__(self, raw_dir: Path) -> None:
        self.raw_dir = raw_dir
        self.low = False
        self.waiting = False

    def look(self, state: int) -> None:
        """Says what has changed since the last look."""
        try:
            free_bytes = shutil.disk_usage(self.raw_dir).free
        except OSError:
            return  # the log thread ends the recording over it, with the reason
        if (state == RingState.WAITING) != self.waiting:
            self.waiting = not self.waiting
            self.say(
                f"waiting for space: {free_bytes / MIB:,.0f} MiB free; goes on by itself when there are "
                f"{FREE_BYTES_MIN / MIB:,.0f} MiB and room for the ballast"
                if self.waiting
                else "there is space again; recording goes on, the outage is in the log"
            )
        if (free_bytes < FREE_BYTES_WARN) != self.low:
            self.low = not self.low
            if self.low and not self.waiting:
                self.say(f"only {free_bytes / MIB:,.0f} MiB free; without space recording waits")

    def say(self, text: str) -> None:
        """One line on stderr."""
        print(f"shijim-live: {self.raw_dir}: {text}", file=sys.stderr, flush=True)


class _Watch:
    """Progress and warnings on the terminal, /metrics over HTTP, and a stop when the log thread has died."""

    def __init__(self, settings: Settings, stop: threading.Event, *, quiet: bool, paced: bool) -> None:
        """`paced`: a full ring is news. A feed without a pace of its own is always as far ahead as the ring lets it."""
        self.settings = settings
        self.stop = stop
        self.quiet = quiet
        self.pressure = RingPressure() if paced else None
        self.done = threading.Event()
        self.threads: list[threading.Thread] = []
        self.server: object | None = None

    def start(self, publisher: Publisher) -> None:
        if port := self.settings.metrics_port:
            metrics = RecorderMetrics(publisher, self.settings.raw_dir, self.settings.shard_id)
            try:
                self.server = serve(metrics, port)
            except OSError as error:
                # Recording goes on: a day is worth more than its graph.
                print(f"shijim-live: no /metrics, port {port}: {error.strerror} (SHIJIM_METRICS_PORT)", file=sys.stderr)
        thread = threading.Thread(target=self._watch, args=(publisher,), name="shijim-watch", daemon=True)
        thread.start()
        self.threads.append(thread)

    def _watch(self, publisher: Publisher) -> None:
        terminal = sys.stderr.isatty()
        shown = -1
        disk = _Disk(self.settings.raw_dir)
        while not self.done.wait(PROGRESS_SECONDS):
            try:
                publisher.check()
            except RuntimeError:
                self.stop.set()
                return
            counters = publisher.counters()
            self._warn(counters, "\n" if terminal and shown >= 0 else "")
            disk.look(counters["state"])
            if self.quiet or counters["durable"] == shown:
                continue
            shown = counters["durable"]
            wall = wall_clock(counters["durable_received_ns"]).strftime("%m-%d %H:%M:%S")
            line = f"{shown:>10,} events durable · {wall} Taipei · {counters['lots_missing']:,} lots missing"
            print(f"\r{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
        if terminal and shown >= 0:
            print(file=sys.stderr)
        self._warn(publisher.counters(), "")

    def _warn(self, counters: Mapping[str, int], before: str) -> None:
        for line in self.pressure.lines(counters, time.monotonic()) if self.pressure else []:
            print(f"{before}shijim-live: {line}", file=sys.stderr, flush=True)

    def finish(self) -> None:
        self.done.set()
        for thread in self.threads:
            thread.join()
        if self.server is not None:
            self.server.shutdown()  # type: ignore[attr-defined]


def _summary(recording: Recording, plan: RecordPlan, chosen: str, seconds: float) -> str:
    counters = recording.counters
    lines = [f"recovered {found.path.name}: {found.records:,} events, {found.torn_bytes:,} torn bytes kept beside it"
             for found in recording.recovered]  # fmt: skip
    if recording.resumed_after_ns is not None:
        lines.append(f"resumed after {wall_clock(recording.resumed_after_ns)} Taipei; the outage is in the log")
    ended = "the feed ended" if recording.complete else "stopped"
    ended += " while waiting for space" if recording.without_space else ""
    lines += [
        f"recorded {recording.accepted:,} events, {recording.durable:,} durable, in {seconds:.1f} s: {ended}",
        f"  of {chosen}",
        f"  {counters['lots_missing']:,} lots missing in {counters['gaps']:,} gaps, "
        f"{counters['duplicates']:,} duplicates, {counters['quarantined']:,} quarantined",
        *_not_recorded(counters),
        f"  run {recording.run_id} in {plan.wal_dir}: {counters['segments']:,} segments, "
        f"{counters['log_bytes'] / 2**20:.1f} MiB, {counters['log_bytes'] / max(1, recording.durable):.0f} B/event",
    ]
    return "\n".join(lines)
