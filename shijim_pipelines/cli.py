"""`shijim <verb>`: the batch half for a person or a cron line. All wiring is here; the work is in the stages."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from tqdm import tqdm

from shijim_live import calendar
from shijim_live.calendar import SECOND_NS, require_trading_day
from shijim_live.command_line import EXIT_FAILED, Parser, Verbs, add_place, add_verb, command, day, run_verb
from shijim_live.settings import Settings
from shijim_live.store import ship
from shijim_live.store.parquet import write_durably
from shijim_pipelines import (
    archive,
    contracts,
    datasets,
    demo,
    flow_study,
    history,
    imports,
    quality,
    quotes,
    raw_export,
    stages,
    symbols,
    universe,
)
from shijim_pipelines.event_file import InvalidDataset
from shijim_pipelines.hft_dataset import FeedLatency
from shijim_pipelines.proof import backfill, certificate, gap_report, ledger

ACTOR = "shijim"  # who is named in the ledger
EXIT_CODES = "0 done · 2 bad option or setting · 4 failed, with one line that says what, where and what to do"


def main(argv: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    return run_verb(parser(), argv)


def parser() -> Parser:
    """The command line, with help that teaches."""
    about = "From the recorded log to a dataset a backtest can trust, one stage a verb."
    top, verbs = command("shijim", about, EXIT_CODES)
    imported = _verb(verbs, "import", run_import, "turn foreign recordings into segments of the log")
    imported.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="L5 Parquet or Shioaji JSON lines")
    imported.add_argument("--symbol", help="the code, where the file's name does not give it")

    archived = _verb(verbs, "archive", run_archive, "copy sealed segments to verified Parquet")
    archived.add_argument("--day", type=day, help="archive all, but speak only of segments of this trading day")

    asked = _verb(verbs, "query", run_query, "ask the archive in SQL: views ticks, books, indices, snapshots, statuses")
    asked.add_argument("sql", help="like: SELECT code, sum(volume) FROM ticks GROUP BY code")
    asked.add_argument("--format", choices=("table", "jsonl", "csv"), default="table")

    exported = _daily(verbs, "export", run_export, "write a recorded day as JSON lines, a file a code, for grep")
    exported.add_argument("--layout", choices=("raw",), required=True, help="raw: <code>/<day>.jsonl of earlier Shijim")
    exported.add_argument("--to", type=Path, metavar="FOLDER", help="default <data dir>/export/raw")
    exported.add_argument("--source", help="where two sources hold the day: which one")

    audited = _verb(verbs, "audit", run_audit, "find what is missing in a trading day, and say how much")
    audited.add_argument("--day", type=day, required=True, help="the trading day, YYYY-MM-DD")
    audited.add_argument("--json", action="store_true", help="print the report instead of the summary")

    built = _verb(verbs, "dataset", run_dataset, "build an hftbacktest dataset of one symbol and day")
    built.add_argument("--day", type=day, required=True, help="the trading day, YYYY-MM-DD")
    built.add_argument("--symbol", required=True, help="the code, like TXFD6 or 2330")
    built.add_argument("--session", choices=("day", "night", "all"), default="all", help="default all")
    built.add_argument("--source", help="where two sources hold the day: which one")
    built.add_argument("--feed-latency-ms", type=_feed_latency, default="5", metavar="MS|JSON",
                       help="for events without a receive time: a number, or a file of shijim-live probe --out, whose "
                       "median it then is (default 5)")  # fmt: skip

    studied = _verb(verbs, "signals", run_signals, "order flow imbalance against the price of a day, and its picture")
    studied.add_argument("--day", type=day, required=True, help="the trading day, YYYY-MM-DD")
    studied.add_argument("--symbol", required=True, help="the code, like TXFD6 or 2330")
    studied.add_argument("--session", choices=("day", "night", "all"), default="all", help="default all")
    studied.add_argument("--source", help="where two sources hold the day: which one")
    studied.add_argument("--window", type=_window, default="10", metavar="SECONDS", help="1 to 600 (default 10)")
    studied.add_argument("--picture", type=Path, metavar="PNG", help="draw it into this file")
    studied.add_argument("--json", action="store_true", help="print figures for a script")

    tested = _verb(verbs, "backtest", run_backtest, "run a plain two-sided quoter on a dataset in hftbacktest")
    tested.add_argument("npz", type=Path, help="<symbol>.npz as shijim dataset wrote it")
    tested.add_argument("--json", action="store_true", help="for a script; money in TWD × 1,000,000")

    _governance_verbs(verbs)

    shown = _verb(verbs, "demo", run_demo, "record one simulated day and take it through the whole Dagster chain")
    shown.add_argument("--day", type=day, default="2026-04-09", help="default 2026-04-09")
    shown.add_argument("--seed", type=int, default=1, help="same seed, same day (default 1)")
    return top


def _governance_verbs(verbs: Verbs) -> None:
    """What the daily run does to a trading day, one verb an asset."""
    listing = _daily(verbs, "instruments", run_instruments, "ask the broker what is listed on a trading day")
    totals = _daily(verbs, "quotes", run_quotes, "ask the broker for the totals of a trading day's closed sessions")
    ranking = _daily(verbs, "rank", run_rank, "rank the universe of a trading day, which record then records")
    ranking.add_argument("--symbols", metavar="LIST", help="a file or words of your own instead of UNIVERSE_LIMIT: "
                         "2330 TXF* @top:200 -2317")  # fmt: skip
    for verb in (listing, totals, ranking):
        verb.add_argument("--broker", choices=("simulated", "shioaji"),
                          help="whom to ask where nothing of the day is recorded (default SHIJIM_HISTORY)")  # fmt: skip
    gaps = _daily(verbs, "gaps", run_gaps, "what became of every gap of a trading day: its ledger")
    gaps.add_argument("--json", action="store_true", help="the ledger's lines, for a script")
    _daily(verbs, "backfill", run_backfill, "fill gaps from the broker's history, where an answer can be proven")
    certified = _daily(verbs, "certify", run_certify, "what is proven of a trading day: PROVEN, SHORT, UNPROVABLE")
    certified.add_argument("--json", action="store_true", help="print the certificates instead of the summary")
    _daily(verbs, "quality", run_quality, "profile a trading day, judge it by Great Expectations, keep the page")
    shipped = _verb(verbs, "ship", run_ship, "send ClickHouse what it has not confirmed yet")
    shipped.add_argument("--verify", action="store_true", help="first ask the server for all it once confirmed")


def _daily(verbs: Verbs, name: str, run: Callable[[argparse.Namespace], int], text: str) -> Parser:
    verb = _verb(verbs, name, run, text)
    verb.add_argument("--day", type=day, required=True, help="the trading day, YYYY-MM-DD")
    return verb


def _verb(verbs: Verbs, name: str, run: Callable[[argparse.Namespace], int], text: str) -> Parser:
    verb = add_verb(verbs, name, run, text)
    add_place(verb)
    return verb


def _feed_latency(text: str) -> int:
    """Nanoseconds, given as milliseconds or measured by a probe."""
    if not Path(text).is_file():
        return _milliseconds(text)
    try:
        measured_ns = orjson.loads(Path(text).read_bytes())["feed_latency_ns"]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"{text} is no file of shijim-live probe --out ({error!r})") from error
    if not isinstance(measured_ns, int) or measured_ns < 0:
        raise argparse.ArgumentTypeError(f"{text} holds no feed latency: no quote came while it was measured")
    return measured_ns


def _milliseconds(text: str) -> int:
    """Nanoseconds."""
    if not text.isdecimal() or int(text) > 60_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a latency: write whole milliseconds, 0 to 60000")
    return int(text) * 1_000_000


def _window(text: str) -> int:
    """Nanoseconds."""
    if not text.isdecimal() or not 1 <= int(text) <= flow_study.WINDOW_SECONDS_MAX:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a window: write whole seconds, 1 to {flow_study.WINDOW_SECONDS_MAX}"
        )
    return int(text) * SECOND_NS


def _settings(arguments: argparse.Namespace) -> Settings:
    flags = {"data_dir": arguments.data_dir, "history": getattr(arguments, "broker", None)}
    settings = Settings.from_environment(arguments.profile, **flags)
    calendar.follow(settings.calendar_overrides)
    for note in settings.notes:
        print(f"shijim: {note}", file=sys.stderr)
    return settings


@contextmanager
def _bar(what: str, unit: str) -> Iterator[Callable[[object, int, int], None]]:
    """A progress bar on a terminal, as the stages call it: (what was done, how many, of how many)."""
    with tqdm(desc=what, unit=unit, disable=None) as bar:

        def progress(_: object, number: int, total: int) -> None:
            bar.total = total
            bar.update(number - bar.n)

        yield progress


def run_import(arguments: argparse.Namespace) -> int:
    """Imports each file; the first that is refused stops."""
    settings = _settings(arguments)
    for path in tqdm(arguments.paths, desc="import", unit="file", disable=None):
        done = imports.import_file(path, settings.wal_dir, arguments.symbol)
        what = "was imported before, nothing changed" if done.already_there else f"imported as {done.source}"
        broken = f", {done.quarantined:,} lines quarantined" if done.quarantined else ""
        tqdm.write(f"{path}: {done.records:,} events {what}{broken} (run {done.run_id})")
    print(f"next: shijim archive --data-dir {settings.data_dir}")
    return 0


def run_archive(arguments: argparse.Namespace) -> int:
    """Archives what is sealed and not archived yet."""
    settings = _settings(arguments)
    if not settings.wal_dir.is_dir():
        raise ValueError(f"{settings.wal_dir}: no log here. Record or import something first, or give --data-dir")
    with _bar("archive", "segment") as progress:
        done = archive.archive_all(settings.wal_dir, settings.archive_dir, arguments.day, progress)
    fresh = [segment for segment in done.segments if not segment.already]
    size = sum(file.stat().st_size for segment in fresh for file in segment.files)
    records = sum(segment.records for segment in fresh)
    print(
        f"archived {records:,} events of {len(fresh):,} segments into {settings.archive_dir} "
        f"({size / 2**20:.1f} MiB); {len(done.segments) - len(fresh):,} segments were archived before"
    )
    for skipped in done.skipped:
        print(f"  left alone: {skipped.path}: {skipped.reason}")
    for segment in fresh:
        for problem in segment.problems:
            print(f"shijim: {segment.key}: {problem}; what is sound was archived", file=sys.stderr)
    for failure in done.failed:
        print(f"shijim: {failure.reason}", file=sys.stderr)
    return EXIT_FAILED if done.failed else 0


def run_query(arguments: argparse.Namespace) -> int:
    """Prints an answer of the lake."""
    from shijim_live.store.lake import Lake

    archive_dir = _settings(arguments).archive_dir
    if not archive_dir.is_dir():
        raise ValueError(f"{archive_dir}: no archive here. Run: shijim archive, or give --data-dir")
    answer = Lake(archive_dir).query(arguments.sql)
    if arguments.format == "jsonl":
        for row in answer.to_pylist():
            print(orjson.dumps(row, default=str).decode())
    elif arguments.format == "csv":
        print(answer.to_pandas().to_csv(index=False), end="")
    else:
        print(answer.to_pandas().to_string(index=False))
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """Writes the day's lines."""
    settings = _settings(arguments)
    folder = arguments.to or settings.data_dir / "export" / arguments.layout
    archive_dir, wal_dir = settings.archive_dir, settings.wal_dir
    with _bar("export", "segment") as progress:
        done = raw_export.export_raw(archive_dir, wal_dir, arguments.day, folder, arguments.source, progress)
    print(raw_export.describe(done, folder))
    return 0


def run_audit(arguments: argparse.Namespace) -> int:
    """Audits a day, writes its report, prints it."""
    settings = _settings(arguments)
    report, path = stages.audit_day(settings, arguments.day, time.time_ns())
    print(path.read_text() if arguments.json else f"{gap_report.describe(report)}\nreport: {path}")
    return 0


def run_instruments(arguments: argparse.Namespace) -> int:
    """Prints what is listed, and whether it is enough to start with."""
    settings = _settings(arguments)
    with history.BrokerConnection(settings) as broker:
        asked = stages.history_of(settings, arguments.day, broker=broker)
        table, found = stages.list_instruments(settings, arguments.day, asked, time.time_ns())
    print(table.to_pandas(integer_object_nulls=True).fillna("").to_string(index=False))
    print(contracts.describe(found))
    print(f"{table.num_rows:,} instruments: {quotes.instruments_path(settings.market_dir, arguments.day)}")
    return 0 if found.ready else EXIT_FAILED


def run_quotes(arguments: argparse.Namespace) -> int:
    """Prints the day's totals."""
    settings = _settings(arguments)
    with history.BrokerConnection(settings) as broker:
        asked = stages.history_of(settings, arguments.day, broker=broker)
        table = stages.take_quotes(settings, arguments.day, asked, time.time_ns())
    print(table.to_pandas(integer_object_nulls=True).fillna("").to_string(index=False))
    print(f"{table.num_rows:,} sessions of codes: {quotes.quotes_path(settings.market_dir, arguments.day)}")
    for code in quotes.unanswered(table):
        print(f"shijim: no answer for {code}: what is recorded of it stays unprovable", file=sys.stderr)
    return 0


def run_rank(arguments: argparse.Namespace) -> int:
    """Ranks the universe and writes it."""
    settings = _settings(arguments)
    with _bar("quotes", "day") as progress, history.BrokerConnection(settings) as broker:
        asked = stages.history_of(settings, arguments.day, broker=broker)
        rules = symbols.read_symbols(arguments.symbols) if arguments.symbols is not None else ()
        ranked, path = stages.choose(settings, arguments.day, asked, time.time_ns(), progress, rules, broker)
    print(universe.describe(ranked))
    print(f"universe: {path}\nnext: shijim-live plan --day {arguments.day}; shijim-live record reads it")
    return 0


def run_gaps(arguments: argparse.Namespace) -> int:
    """Enters the day's report into its ledger, and prints how every gap stands."""
    settings = _settings(arguments)
    entries = stages.keep_ledger(settings, arguments.day, ACTOR, time.time_ns())
    path = ledger.ledger_path(settings.reports_dir, arguments.day)
    print(path.read_text() if arguments.json else f"{ledger.describe(entries)}\nledger: {path}")
    return 0


def run_backfill(arguments: argparse.Namespace) -> int:
    """One attempt at the gaps that are open."""
    settings = _settings(arguments)
    with _bar("backfill", "code") as progress:
        done = stages.fill_gaps(settings, arguments.day, ACTOR, time.time_ns(), progress=progress)
    if isinstance(done, stages.GivenUp):
        print(f"{done.gaps:,} gaps cannot be filled, now or later: {done.reason}")
    else:
        print(backfill.describe_backfill(done))
    print(f"next: shijim certify --day {arguments.day}")
    return 0


def run_certify(arguments: argparse.Namespace) -> int:
    """Certifies the day."""
    settings = _settings(arguments)
    made = stages.certify(settings, arguments.day, ACTOR, time.time_ns())
    path = certificate.certificate_path(settings.reports_dir, arguments.day)
    print(path.read_text() if arguments.json else f"{certificate.describe(made)}\ncertificates: {path}")
    return 0


def run_quality(arguments: argparse.Namespace) -> int:
    """Judges the day and keeps the page."""
    settings = _settings(arguments)
    if sys.stderr.isatty():
        print("profiling, and loading Great Expectations …", file=sys.stderr)
    judgement, page = stages.judge_quality(settings, require_trading_day(arguments.day))
    print(f"{quality.describe(judgement)}\nreport: {page}")
    return 0


def run_ship(arguments: argparse.Namespace) -> int:
    """Ships what waits."""
    settings = _settings(arguments)
    with _bar("ship", "segment") as progress:
        if arguments.verify:
            for key in stages.verify_shipped(settings, progress):
                tqdm.write(f"the server no longer has segment {key}: it is shipped again")
        done = stages.ship_backlog(settings, progress)
    print(ship.describe(done))
    return EXIT_FAILED if done and done.failed else 0


def run_dataset(arguments: argparse.Namespace) -> int:
    """Builds a dataset."""
    settings = _settings(arguments)
    require_trading_day(arguments.day)
    request = datasets.Request(
        day=arguments.day,
        symbol=arguments.symbol,
        session=None if arguments.session == "all" else arguments.session,
        source=arguments.source,
        feed_latency=FeedLatency(arguments.feed_latency_ms),
    )
    for built in stages.build_datasets(settings, [request], time.time_ns()):
        if isinstance(built, stages.NotBuilt):
            raise InvalidDataset(built.reason)
        print(datasets.describe(built))
        print(f"next: shijim backtest {built.files.npz}")
    return 0


def run_signals(arguments: argparse.Namespace) -> int:
    """Studies a day, and draws it."""
    settings = _settings(arguments)
    session = None if arguments.session == "all" else arguments.session
    request = datasets.Request(arguments.day, arguments.symbol, session, arguments.source, FeedLatency(0))
    study = stages.study_flow(settings, request, arguments.window)
    if arguments.json:
        print(orjson.dumps(flow_study.as_json(study), option=orjson.OPT_INDENT_2).decode())
    else:
        print(flow_study.summary(study))
    if arguments.picture is not None:
        write_durably(arguments.picture, flow_study.flow_picture(study))
        print(f"drawn: {arguments.picture}", file=sys.stderr if arguments.json else sys.stdout)
    return 0


def run_backtest(arguments: argparse.Namespace) -> int:
    """Backtests a dataset."""
    if not arguments.npz.is_file():
        raise InvalidDataset(f"{arguments.npz}: no such file. Build it with: shijim dataset --day D --symbol S")
    if sys.stderr.isatty():
        print("compiling and running hftbacktest …", file=sys.stderr)
    from shijim_pipelines import backtests

    result = backtests.run_backtest(arguments.npz, arguments.npz.with_suffix(".meta.json"), backtests.Quoting())
    print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode() if arguments.json else backtests.summary(result))
    return 0


def run_demo(arguments: argparse.Namespace) -> int:
    """The whole way through the real commands."""
    require_trading_day(arguments.day)
    folder = Path(arguments.data_dir or "demo")
    return demo.run(folder, arguments.day, arguments.seed)
