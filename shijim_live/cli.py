"""`shijim-live <verb>`: what runs on the live host. All wiring is here; no rule of the data is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import orjson

from shijim_live.cli_plan import add_plan
from shijim_live.cli_probe import add_probe
from shijim_live.cli_record import add_record, add_shard, positive, read_settings, shard_settings
from shijim_live.cli_smoke import add_smoke
from shijim_live.command_line import Parser, add_verb, command, run_verb
from shijim_live.record import show, statistics, wal
from shijim_live.record.choice import KINDS, Choice, moment, sequences
from shijim_live.record.recorder import is_recording, recording_in
from shijim_live.record.space import RecordError
from shijim_live.watch.doctor import BROKER, examine
from shijim_live.watch.finding import describe as describe_findings
from shijim_live.watch.finding import exit_code
from shijim_live.watch.status import describe, status

EXIT_CODES = (
    "0 done · 1 torn tail (verify) · 2 bad option, or corrupt (verify, cat) · 3 unreadable (verify, stats) · "
    "4 failed · 5 the recorder waits for space (status)\n"
    "  of doctor: 0 all well · 1 warnings · 2 something must be put right"
)
EXIT_WAITING = 5


def main(argv: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    return run_verb(parser(), argv)


def parser() -> Parser:
    """The command line, with help that teaches."""
    about = "Record the market into a log that loses nothing, and look into that log."
    top, verbs = command("shijim-live", about, EXIT_CODES)
    add_record(verbs)
    add_plan(verbs)
    add_probe(verbs)
    add_smoke(verbs)

    cat = add_verb(verbs, "cat", run_cat, "print recorded events")
    cat.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a .wal segment or a folder of them")
    cat.add_argument("--symbol", help="only this code")
    cat.add_argument("--kind", choices=sorted(KINDS), help="only events of this kind")
    cat.add_argument(
        "--from",
        dest="start",
        type=moment,
        metavar="TIME",
        help="received at this time or later: 09:00 of every day, 2026-04-09T09:00 Taipei, or …Z, …+08:00",
    )
    cat.add_argument("--until", dest="end", type=moment, metavar="TIME", help="received before this time")
    cat.add_argument("--sequence", type=sequences, metavar="A-B", help="only these sequences of each run, A- from A on")
    cat.add_argument("--format", choices=show.FORMATS, default="jsonl", help="default jsonl; arrow is an IPC stream")
    cat.add_argument("--limit", type=positive, help="stop after this many events")
    cat.add_argument("--follow", action="store_true", help="go on as the log grows, until Ctrl-C")

    counted = add_verb(verbs, "stats", run_stats, "count what segments hold: kinds, codes, sizes, peaks, missing lots")
    counted.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a .wal segment or a folder of them")
    counted.add_argument("--json", action="store_true", help="for a script, each segment and all of them")

    verify = add_verb(
        verbs, "verify", run_verify, "check segments block by block; exit code 0 sound, 1 torn, 2 corrupt, 3 unreadable"
    )
    verify.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a .wal segment or a folder of them")
    verify.add_argument("--json", action="store_true", help="one JSON object a segment")

    repair = add_verb(verbs, "repair", run_repair, "seal what a dead recorder left open; record does it by itself")
    repair.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a .wal segment or a folder of them")

    shown = add_verb(verbs, "status", run_status, "what the recorder is doing, and what is in the log")
    add_shard(shown)
    shown.add_argument("--json", action="store_true", help="for a script")

    examined = add_verb(
        verbs, "doctor", run_doctor, "look at this machine before a day is trusted to it, and say how to put it right"
    )
    add_shard(examined)
    examined.add_argument("--broker", choices=("simulated", BROKER), help="what is meant to be recorded (default: any)")
    examined.add_argument("--json", action="store_true", help="for a script")
    return top


def run_cat(arguments: argparse.Namespace) -> int:
    """Prints events."""
    paths = [path for place in arguments.paths for path in wal.existing_segments(place)]
    chosen = Choice(
        symbol=arguments.symbol, kind=arguments.kind, limit=arguments.limit,
        start=arguments.start, end=arguments.end, sequence=arguments.sequence,
    )  # fmt: skip
    try:
        problems = show.print_events(paths, chosen, arguments.format, sys.stdout.buffer, follow=arguments.follow)
    except KeyboardInterrupt:
        return 0
    for problem in problems:
        print(f"shijim-live: {problem}", file=sys.stderr)
    return int(wal.Soundness.CORRUPT) if problems else 0


def run_stats(arguments: argparse.Namespace) -> int:
    """Counts, and says what could not be read."""
    counts = statistics.count(path for place in arguments.paths for path in wal.existing_segments(place))
    if arguments.json:
        print(orjson.dumps(statistics.plain(counts), option=orjson.OPT_INDENT_2).decode())
    else:
        print(statistics.describe(counts))
    for problem in counts.unreadable:
        print(f"shijim-live: {problem}", file=sys.stderr)
    return int(wal.Soundness.UNREADABLE) if counts.unreadable else 0


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
    settings = shard_settings(arguments)
    found = status(settings.raw_dir, settings.shard_id)
    print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() if arguments.json else describe(found))
    return EXIT_WAITING if found.waiting_for_space else 0


def run_doctor(arguments: argparse.Namespace) -> int:
    """Says what it found; the worst is the exit code."""
    findings = examine(lambda: read_settings(arguments), Path.cwd(), arguments.broker)
    code = exit_code(findings)
    if arguments.json:
        print(orjson.dumps({"exit_code": code, "findings": findings}, option=orjson.OPT_INDENT_2).decode())
    else:
        print(describe_findings(findings))
    return code
