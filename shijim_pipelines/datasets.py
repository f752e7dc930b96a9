"""A dataset of one symbol and day, asked for by name: from lake and audit to the files. Builds nothing itself."""

from __future__ import annotations

import subprocess
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from shijim_live import __version__
from shijim_live.calendar import Market
from shijim_live.events import LEVELS, Lane
from shijim_live.instruments import Instrument, instrument, tick_size_e6
from shijim_live.store.lake import Lake
from shijim_live.store.views import BACKFILL
from shijim_pipelines.event_file import InvalidDataset
from shijim_pipelines.hft_dataset import (
    Contract,
    Dataset,
    DatasetFiles,
    FeedLatency,
    Provenance,
    build_dataset,
    write_dataset,
)
from shijim_pipelines.proof.gap_report import GapReport

_LEVELS = ", ".join(
    f"{name}_{level}"
    for name in ("bid_price_e6", "bid_volume", "ask_price_e6", "ask_volume")
    for level in range(1, LEVELS + 1)
)
_OF_THE_DAY = "WHERE trading_day = {day:Date32} AND code = {code:String}"
# A dataset is what was received: a backfilled trade has no receive time, and no book around it.
_RECORDED = f"source != '{BACKFILL}'"
# In the order of recording: run by run as they started, within a run by its sequence.
_ORDER = "started_ns, run_id, sequence"
_STARTED = "min(coalesce(received_ns, exchange_ns)) OVER (PARTITION BY run_id) AS started_ns"
_CHOSEN = f"{_OF_THE_DAY} AND lane = {{lane:UInt8}} AND source = {{source:String}}"


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted; None is all sessions of the day, or the only source there is."""

    day: date
    symbol: str
    session: str | None
    source: str | None
    feed_latency: FeedLatency  # for events whose receive time was not recorded


@dataclass(frozen=True, slots=True)
class Made:
    """What was built, and where it is."""

    request: Request
    source: str
    dataset: Dataset
    files: DatasetFiles
    gaps: int
    lots_missing: int

    def summary(self) -> str:
        """One line for a log."""
        return f"{self.request.symbol}: {len(self.dataset.rows):,} rows, {self.lots_missing:,} lots missing"


def recorded_symbols(lake: Lake, day: date) -> list[str]:
    """Every code with a row on the board lane, backfilled ones alone left out: they have no book."""
    either = " UNION DISTINCT ".join(
        f"SELECT DISTINCT code FROM {view} WHERE trading_day = {{day:Date32}} AND lane = {{lane:UInt8}} AND {_RECORDED}"
        for view in ("ticks_raw", "books_raw")
    )
    return sorted(str(code) for code in lake.query(either, day=day, lane=int(Lane.BOARD))["code"].to_pylist())


def make_dataset(request: Request, lake: Lake, report: GapReport, datasets_dir: Path) -> Made:
    """Builds and writes the dataset of a symbol's board lane; `report` is the audit of its day.

    Raises InvalidDataset when the archive has nothing of it, UnknownInstrument.
    """
    traded = instrument(request.symbol)
    source = _source(lake, request)
    trades = _rows(lake, request, source, "ticks", "price_e6, volume, side")
    books = _rows(lake, request, source, "books", _LEVELS)
    if trades.num_rows + books.num_rows == 0:
        raise InvalidDataset(
            f"{request.symbol} has no {request.session} session on {request.day} in {lake.archive_dir}"
        )
    dataset = build_dataset(books, trades, request.feed_latency, _halts(lake, request, source))
    name = request.symbol if request.session is None else f"{request.symbol}-{request.session}"
    streams, gaps = _judged(report, request, source)
    provenance = Provenance(
        inputs=report.inputs,
        source_commit=_commit(),
        gaps=gaps,
        coverage={"source": source, "lane": Lane.BOARD.name.lower(), "streams": streams, "notes": report.notes},
    )
    files = write_dataset(
        dataset, datasets_dir / str(request.day), name, request.day, _contract(traded, trades, books), provenance
    )
    return Made(request, source, dataset, files, len(gaps), sum(int(str(gap["lots"])) for gap in gaps))


def recorded_books(lake: Lake, request: Request) -> pa.Table:
    """Books of the board lane in the order of recording: sequence, stamps, session, five levels a side.

    Raises InvalidDataset when there is nothing of it, or more than one source to choose from.
    """
    return _rows(lake, request, _source(lake, request), "books", _LEVELS)


def _source(lake: Lake, request: Request) -> str:
    """The one source of the symbol and day, or the one asked for: two recordings of one day never mix.

    What was backfilled has no books and no receive times: it is no recording.
    """
    found = lake.query(
        f"SELECT DISTINCT source FROM books_raw {_OF_THE_DAY} AND {_RECORDED} "
        f"UNION DISTINCT SELECT DISTINCT source FROM ticks_raw {_OF_THE_DAY} AND {_RECORDED}",
        day=request.day,
        code=request.symbol,
    )
    sources = sorted({str(source) for source in found["source"].to_pylist()} - {BACKFILL})
    if request.source in sources:
        return str(request.source)
    if request.source is not None or not sources:
        have = f"recorded by {', '.join(sources)}, not by {request.source}" if sources else "nothing of it is archived"
        raise InvalidDataset(f"{request.symbol} on {request.day}: {have}. See: shijim audit --day {request.day}")
    if len(sources) > 1:
        raise InvalidDataset(
            f"{request.symbol} on {request.day} was recorded by {' and by '.join(sources)}: say which with --source"
        )
    return sources[0]


def _rows(lake: Lake, request: Request, source: str, view: str, columns: str) -> pa.Table:
    """Rows in the order of recording."""
    return lake.query(
        f"SELECT row_number() OVER (ORDER BY {_ORDER})::Int64 AS sequence, "
        f"exchange_ns, received_ns, session, {columns} FROM ("
        f"SELECT *, {_STARTED} FROM {view} {_CHOSEN}{_of_session(request)} AND NOT outside) ORDER BY sequence",
        lane=int(Lane.BOARD),
        **_wanted(request, source),
    )


def _halts(lake: Lake, request: Request, source: str) -> pa.Table:
    """Stamps of the first trial match or book after a continuous one of the session: a pause, or its last call."""
    stamps = "exchange_ns, received_ns, session, run_id, sequence, lane"
    chosen = f"{_OF_THE_DAY} AND source = {{source:String}} AND lane IN ({{board:UInt8}}, {{trial:UInt8}})"
    either = " UNION ALL ".join(
        f"SELECT {stamps} FROM {view} {chosen}{_of_session(request)} AND NOT outside" for view in ("ticks", "books")
    )
    return lake.query(
        f"SELECT exchange_ns, received_ns FROM (SELECT *, lagInFrame(lane, 1, {{trial:UInt8}}) OVER ("
        f"PARTITION BY session ORDER BY {_ORDER} ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before "
        f"FROM (SELECT *, {_STARTED} FROM ({either}))) "
        "WHERE lane = {trial:UInt8} AND before = {board:UInt8} ORDER BY exchange_ns, received_ns",
        board=int(Lane.BOARD),
        trial=int(Lane.TRIAL),
        **_wanted(request, source),
    )


def _of_session(request: Request) -> str:
    return "" if request.session is None else " AND session = {session:String}"


def _wanted(request: Request, source: str) -> dict[str, date | str]:
    of_session = {} if request.session is None else {"session": request.session}
    return {"day": request.day, "code": request.symbol, "source": source, **of_session}


def _judged(
    report: GapReport, request: Request, source: str
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """What the audit says of these rows: their streams and gaps, and the holes that are of no one code."""
    lane = Lane.BOARD.name.lower()

    def mine(of_source: object, code: str, of_lane: str, session: object) -> bool:
        chosen = request.session is None or request.session == session
        return of_source == source and code == request.symbol and of_lane == lane and chosen

    streams = [s for s in report.streams if mine(s.source, s.code, s.lane, s.session)]
    gaps = [
        gap
        for gap in report.gaps
        if not gap.symbol or mine(gap.metadata.get("source"), gap.symbol, gap.lane, gap.metadata.get("session"))
    ]
    return [asdict(stream) for stream in streams], [asdict(gap) for gap in gaps]


def _contract(traded: Instrument, trades: pa.Table, books: pa.Table) -> Contract:
    """Units of the instrument. A stock's tick depends on its price: the smallest of the day divides the others."""
    outer = (books[f"{side}_price_e6_{level}"] for side in ("bid", "ask") for level in (1, LEVELS))
    prices = [trades["price_e6"], *outer]
    known = [value for column in prices if (value := pc.min(column).as_py()) is not None]
    if not known:
        raise InvalidDataset(f"{traded.code}: no trade and no book of the day has a price: suspended, or unwanted")
    lowest = min(known)
    market_order = 0  # a level at price 0 is a market order, and every tick divides it
    tick_e6 = tick_size_e6(traded, max(lowest, 1)) if lowest != market_order else tick_size_e6(traded, 1)
    lot_size = 1 if traded.market is Market.FUTURES else traded.lot_size
    return Contract(tick_size_e6=tick_e6, lot_size=lot_size, contract_size=traded.contract_size)


def _commit() -> str:
    """The source this was built with: the commit of a checkout, otherwise the released version."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return f"shijim {__version__}"
    return f"shijim {__version__} {done.stdout.strip()}"


def describe(made: Made) -> str:
    """A few lines a person can read."""
    dataset = made.dataset
    request = made.request
    sessions = ", ".join(
        f"{session.name}: {session.books:,} books, {session.trades:,} trades, {session.volume:,} lots"
        for session in dataset.sessions
    )
    latency = dataset.latency
    quantiles = latency.recorded_quantiles_ns
    feed = f"declared, {latency.fixed_ns / 1e6:g} ms"
    if quantiles:
        feed = f"recorded, median {quantiles['p50'] / 1e6:.1f} ms, p99 {quantiles['p99'] / 1e6:.1f} ms"
    return "\n".join(
        [
            f"{request.symbol} on {request.day} from {made.source}: {len(dataset.rows):,} rows ({sessions})",
            f"  feed latency {feed}; {made.lots_missing:,} lots missing in {made.gaps:,} gaps, stated in the meta",
            f"  {made.files.npz} · {made.files.npz.stat().st_size / 2**20:.1f} MiB · "
            f"sha256 {made.files.content_sha256[:16]}",
            f"  {made.files.meta}",
        ]
    )
