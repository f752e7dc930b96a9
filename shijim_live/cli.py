"""`shijim-live <verb>`: what runs on the live host. All wiring is here; no rule of the data is."""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

import orjson

from rust_indicators import Publisher
from shijim_live.broker.replay import ReplayFeed
from shijim_live.broker.shioaji import quote_classes
from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig
from shijim_live.calendar import SECOND_NS, require_trading_day, wall_clock
from shijim_live.command_line import Parser, add_place, add_verb, command, day, run_verb
from shijim_live.events import BrokerClass
from shijim_live.record import show, wal
from shijim_live.record.recorder import RecordError, Recording, RecordPlan, Sink, is_recording, record, recording_in
from shijim_live.settings import Settings, SettingsError
from shijim_live.watch.metrics import RecorderMetrics, serve
from shijim_live.watch.status import describe, status

PROGRESS_SECONDS = 0.5
DEFAULT_OUTAGE_SECONDS = 30
OUTAGE_SECONDS_MAX = 86_400  # a simulated recorder is away within its day
EXIT_CODES = "0 done · 1 torn tail (verify) · 2 bad option, or corrupt (verify, cat) · 3 unreadable (verify) · 4 failed"


def main(argv: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    return run_verb(parser(), argv)


def parser() -> Parser:
    """The command line, with help that teaches."""
    about = "Record the market into a log that loses nothing, and look into that log."
    top, verbs = command("shijim-live", about, EXIT_CODES)
    _record_options(add_verb(verbs, "record", run_record, "record a feed until it ends, or Ctrl-C"))

    cat = add_verb(verbs, "cat", run_cat, "print recorded events")
    cat.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a .wal segment or a folder of them")
    cat.add_argument("--symbol", help="only this code")
    cat.add_argument("--kind", choices=sorted(show.KINDS), help="only events of this kind")
    cat.add_argument("--format", choices=show.FORMATS, default="jsonl", help="default jsonl; arrow is an IPC stream")
    cat.add_argument("--limit", type=_positive, help="stop after this many events")
    cat.add_argument("--follow", action="store_true", help="go on as the log grows, until Ctrl-C")

    verify = add_verb(
        verbs, "verify", run_verify, "check segments block by block; exit code 0 sound, 1 torn, 2 corrupt, 3 unreadable"
    )
    verify.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a .wal segment or a folder of them")
    verify.add_argument("--json", action="store_true", help="one JSON object a segment")

    repair = add_verb(verbs, "repair", run_repair, "seal what a dead recorder left open; record does it by itself")
    repair.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a .wal segment or a folder of them")

    shown = add_verb(verbs, "status", run_status, "what the recorder is doing, and what is in the log")
    _place(shown)
    shown.add_argument("--json", action="store_true", help="for a script")
    return top


def _place(verb: Parser) -> None:
    add_place(verb)
    verb.add_argument("--shard", default="0/1", metavar="I/N", help="which recorder of how many, from 0 (default 0/1)")


def _record_options(verb: Parser) -> None:
    verb.add_argument("--broker", choices=("simulated", "replay"), required=True, help="where events come from")
    _place(verb)
    verb.add_argument("--day", type=day, help="simulated: the trading day, YYYY-MM-DD")
    verb.add_argument("--seed", type=int, default=1, help="simulated: same seed, same day (default 1)")
    verb.add_argument("--events", type=_positive, help="simulated: about how many events (default 300000)")
    away = f"simulated: how long a restarted recorder was away (default {DEFAULT_OUTAGE_SECONDS})"
    verb.add_argument(
        "--restart-outage", type=_seconds, default=str(DEFAULT_OUTAGE_SECONDS), metavar="SECONDS", help=away
    )
    verb.add_argument("--from", dest="source", type=Path, metavar="PATH", help="replay: a wal folder or segment")
    verb.add_argument("--speed", type=_speed, default="max", help="multiple of real time, or max (default)")
    durable = "sync: fdatasync before an event is acknowledged (default); write: trust the kernel"
    verb.add_argument("--durability", choices=("sync", "write"), default="sync", help=durable)
    verb.add_argument("--metrics-port", type=int, help="base port of /metrics, 0 = off (SHIJIM_METRICS_PORT)")
    verb.add_argument("--quiet", action="store_true", help="no progress, only the summary")


def _positive(text: str) -> int:
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


def _settings(arguments: argparse.Namespace) -> Settings:
    shard, slash, total = arguments.shard.partition("/")
    if not (slash and shard.isdecimal() and total.isdecimal()):
        raise SettingsError([f"--shard {arguments.shard}: write I/N with shards counted from 0, like 0/1"])
    flags = {"data_dir": arguments.data_dir, "metrics_port": getattr(arguments, "metrics_port", None)}
    if (shard, total) != ("0", "1"):
        flags |= {"shard_id": shard, "total_shards": total}
    settings = Settings.from_environment(arguments.profile, **flags)
    for note in settings.notes:
        print(f"shijim-live: {note}", file=sys.stderr)
    return settings


class _SimulatedFeed:
    def __init__(self, exchange: SimulatedExchange) -> None:
        self.exchange = exchange

    def run(self, sink: Sink, stop: threading.Event, resume_after_ns: int | None) -> None:
        self.exchange.run(sink.quote, sink.connection, stop, resume_after_ns)


class _ReplayedFeed:
    def __init__(self, replay: ReplayFeed) -> None:
        self.replay = replay

    def run(self, sink: Sink, stop: threading.Event, resume_after_ns: int | None) -> None:
        assert resume_after_ns is None, "a replay is always a run of its own"
        self.replay.run(sink.records, stop)


def run_record(arguments: argparse.Namespace) -> int:
    """Records until the feed ends or somebody stops it."""
    settings = _settings(arguments)
    plan, feed = (_simulated if arguments.broker == "simulated" else _replayed)(arguments, settings)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    watch = _Watch(settings, stop, quiet=arguments.quiet)
    started_ns = time.monotonic_ns()
    try:
        recording = record(plan, feed, stop, watch.start)
    finally:
        watch.finish()
    print(_summary(recording, plan, (time.monotonic_ns() - started_ns) / 1_000_000_000))
    return 0


def _classes() -> tuple[tuple[type, BrokerClass], ...]:
    classes = quote_classes()
    return (
        (classes.tick_stk, BrokerClass.TICK_STK_V1),
        (classes.tick_fop, BrokerClass.TICK_FOP_V1),
        (classes.bidask_stk, BrokerClass.BIDASK_STK_V1),
        (classes.bidask_fop, BrokerClass.BIDASK_FOP_V1),
    )


def _simulated(arguments: argparse.Namespace, settings: Settings) -> tuple[RecordPlan, _SimulatedFeed]:
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
        classes=_classes(),
        ring_slots=settings.ring_slots,
        durability=arguments.durability,
        outage_ns=arguments.restart_outage * SECOND_NS,
        now_ns=lambda: first_ns,
        run_id=_run_id_of,
    )
    return plan, _SimulatedFeed(exchange)


def _replayed(arguments: argparse.Namespace, settings: Settings) -> tuple[RecordPlan, _ReplayedFeed]:
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
        classes=_classes(),
        ring_slots=settings.ring_slots,
        durability=arguments.durability,
        outage_ns=0,
        now_ns=time.time_ns,
        run_id=lambda _: os.urandom(8).hex(),
    )
    return plan, _ReplayedFeed(replay)


def _run_id_of(what: str) -> str:
    """The same simulated run has the same identity, so that the same seed gives the same events."""
    return hashlib.sha256(what.encode()).hexdigest()[:16]


class _Watch:
    """Progress on the terminal, /metrics over HTTP, and a stop when the log thread has died."""

    def __init__(self, settings: Settings, stop: threading.Event, *, quiet: bool) -> None:
        self.settings = settings
        self.stop = stop
        self.quiet = quiet
        self.done = threading.Event()
        self.threads: list[threading.Thread] = []
        self.server: object | None = None

    def start(self, publisher: Publisher) -> None:
        if port := self.settings.metrics_port:
            metrics = RecorderMetrics(publisher.counters, self.settings.raw_dir, self.settings.shard_id)
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
        while not self.done.wait(PROGRESS_SECONDS):
            try:
                publisher.check()
            except RuntimeError:
                self.stop.set()
                return
            counters = publisher.counters()
            if self.quiet or counters["durable"] == shown:
                continue
            shown = counters["durable"]
            wall = wall_clock(counters["durable_received_ns"]).strftime("%m-%d %H:%M:%S")
            line = f"{shown:>10,} events durable · {wall} Taipei · {counters['lots_missing']:,} lots missing"
            print(f"\r{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
        if terminal and shown >= 0:
            print(file=sys.stderr)

    def finish(self) -> None:
        self.done.set()
        for thread in self.threads:
            thread.join()
        if self.server is not None:
            self.server.shutdown()  # type: ignore[attr-defined]


def _summary(recording: Recording, plan: RecordPlan, seconds: float) -> str:
    counters = recording.counters
    lines = [f"recovered {found.path.name}: {found.records:,} events, {found.torn_bytes:,} torn bytes kept beside it"
             for found in recording.recovered]  # fmt: skip
    if recording.resumed_after_ns is not None:
        lines.append(f"resumed after {wall_clock(recording.resumed_after_ns)} Taipei; the outage is in the log")
    ended = "the feed ended" if recording.complete else "stopped"
    lines += [
        f"recorded {recording.accepted:,} events, {recording.durable:,} durable, in {seconds:.1f} s: {ended}",
        f"  {counters['lots_missing']:,} lots missing in {counters['gaps']:,} gaps, "
        f"{counters['duplicates']:,} duplicates, {counters['quarantined']:,} quarantined",
        f"  run {recording.run_id} in {plan.wal_dir}: {counters['segments']:,} segments, "
        f"{counters['log_bytes'] / 2**20:.1f} MiB, {counters['log_bytes'] / max(1, recording.durable):.0f} B/event",
    ]
    return "\n".join(lines)


def run_cat(arguments: argparse.Namespace) -> int:
    """Prints events."""
    paths = [path for place in arguments.paths for path in wal.existing_segments(place)]
    chosen = show.Choice(symbol=arguments.symbol, kind=arguments.kind, limit=arguments.limit)
    try:
        problems = show.print_events(paths, chosen, arguments.format, sys.stdout.buffer, follow=arguments.follow)
    except KeyboardInterrupt:
        return 0
    for problem in problems:
        print(f"shijim-live: {problem}", file=sys.stderr)
    return int(wal.Soundness.CORRUPT) if problems else 0


def run_verify(arguments: argparse.Namespace) -> int:
    """The worst finding of all segments is the exit code."""
    worst = wal.Soundness.SOUND
    for place in arguments.paths:
        for path in wal.existing_segments(place):
            try:
                segment = wal.examine(path)
            except wal.WalError as error:
                worst = wal.Soundness.UNREADABLE
                print(
                    orjson.dumps({"path": path, "error": str(error)}, default=str).decode() if arguments.json else error
                )
                continue
            found = wal.Soundness.SOUND if _being_written(segment) else segment.soundness
            worst = max(worst, found)
            print(show.verdict_json(segment, found) if arguments.json else show.verdict(segment, found))
    return int(worst)


def _being_written(segment: wal.Segment) -> bool:
    """An unsealed tail is no finding while its recorder lives."""
    folder = segment.header.path.resolve().parent.parent
    return not segment.problems and segment.state != "sealed" and is_recording(folder, segment.header.shard)


def run_repair(arguments: argparse.Namespace) -> int:
    """Seals open segments of dead runs."""
    for place in arguments.paths:
        if place.is_file():
            wal.read_header(place)
        wal.existing_segments(place)
        if (folder := recording_in(place)) is not None:
            raise RecordError(f"{folder}: a recorder is writing here. Stop it first")
        repaired = wal.recover(place if place.is_dir() else place.parent)
        for found in repaired:
            print(f"{found.path}: sealed with {found.records:,} events, {found.torn_bytes:,} torn bytes kept beside it")
        if not repaired:
            print(f"{place}: nothing to repair")
    return 0


def run_status(arguments: argparse.Namespace) -> int:
    """What runs and what is there."""
    settings = _settings(arguments)
    found = status(settings.raw_dir, settings.shard_id)
    print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() if arguments.json else describe(found))
    return 0
