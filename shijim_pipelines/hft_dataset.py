"""Datasets for hftbacktest: built from the archive's books and trades, written whole or not at all, checked when read.

Not a judge of the data: gaps and coverage are what the audit found; they are passed in and stated, never repaired.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rust_indicators import EMPTY_PRICE_E6, build_hft_rows
from shijim_pipelines.event_file import (
    EVENT_DTYPE,
    EXCH_EVENT,
    LOCAL_EVENT,
    REBUILD,
    InvalidDataset,
    Rows,
    content_sha256,
    refuse_faults,
    validate_npz,
    write_npz,
)

__all__ = [
    "Contract",
    "Dataset",
    "DatasetFiles",
    "FeedLatency",
    "InvalidDataset",
    "Provenance",
    "build_dataset",
    "read_contract",
    "validate_npz",
    "write_dataset",
]

Int64s = NDArray[np.int64]

META_SCHEMA = 1
LEVELS = 5
_QUANTILES = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True, slots=True)
class FeedLatency:
    """Declared time from exchange to us (ns), for events whose receive time was not recorded."""

    fixed_ns: int


@dataclass(frozen=True, slots=True)
class Session:
    """What the dataset covers of one session of the exchange."""

    name: str
    first_exchange_ns: int
    last_exchange_ns: int
    first_local_ns: int
    last_local_ns: int
    books: int
    trades: int
    volume: int


@dataclass(frozen=True, slots=True)
class LatencyFacts:
    """Where the local times come from; latencies in ns as recorded, before any shift."""

    fixed_ns: int
    modelled_events: int
    recorded_events: int
    recorded_quantiles_ns: dict[str, int] | None
    negative_events: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows ready for hftbacktest, and what was done to make them."""

    rows: Rows
    sessions: tuple[Session, ...]
    latency: LatencyFacts
    local_shift_ns: int
    crossed_books: int


@dataclass(frozen=True, slots=True)
class Contract:
    """Units of the instrument: tick in price × 10⁶, lot in traded units, contract size in TWD per point and lot."""

    tick_size_e6: int
    lot_size: int
    contract_size: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the dataset comes from and what is known to be missing; stated in the meta file as given."""

    inputs: Mapping[str, str]
    source_commit: str
    gaps: Sequence[Mapping[str, object]] = ()
    coverage: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    npz: Path
    meta: Path
    content_sha256: str


@dataclass(frozen=True, slots=True)
class _Stamps:
    """Times of one table: exchange, local (recorded or modelled) and where it was recorded."""

    exchange_ns: Int64s
    local_ns: Int64s
    recorded: NDArray[np.bool_]


def build_dataset(
    books: pa.Table, trades: pa.Table, feed_latency: FeedLatency, halts: pa.Table | None = None
) -> Dataset:
    """Books and trades of one code and lane, sorted by sequence → dataset.

    The local time is `received_ns` where it was recorded, otherwise `exchange_ns` plus the declared latency. `halts`
    (exchange_ns, received_ns) are where continuous matching stops within a session: nobody can trade with the book
    that stood there before, and it is cleared. Orders keep their place in the queue.
    """
    if books.num_rows + trades.num_rows == 0:
        raise InvalidDataset("no books and no trades: nothing to build. Check the symbol and the day: shijim audit")
    stamps = {"books": _stamps(books, "books", feed_latency), "trades": _stamps(trades, "trades", feed_latency)}
    volume, side = int64_column(trades, "volume"), np.ascontiguousarray(trades["side"].to_numpy(), dtype=np.uint8)
    sessions = _sessions(books, trades, stamps, volume)
    levels = [level_columns(books, name) for name in ("bid_price_e6", "bid_volume", "ask_price_e6", "ask_volume")]
    try:
        buffer, local_shift_ns = build_hft_rows(
            ([stamps["books"].exchange_ns, stamps["books"].local_ns], levels),
            ([stamps["trades"].exchange_ns, stamps["trades"].local_ns, int64_column(trades, "price_e6"), volume], side),
            _clears(sessions, halts, stamps, feed_latency),
        )
    except ValueError as error:
        raise InvalidDataset(f"{error}. Look at it with: shijim-live verify") from error
    bid, ask = levels[0][0], levels[2][0]
    crossed = (bid >= ask) & (bid != EMPTY_PRICE_E6) & (ask != EMPTY_PRICE_E6)
    return Dataset(
        rows=np.frombuffer(memoryview(buffer), EVENT_DTYPE),
        sessions=sessions,
        latency=_latency_facts(list(stamps.values()), feed_latency),
        local_shift_ns=local_shift_ns,
        crossed_books=int(crossed.sum()),
    )


def _clears(
    sessions: Sequence[Session], halts: pa.Table | None, stamps: Mapping[str, _Stamps], feed_latency: FeedLatency
) -> list[Int64s]:
    """Where the books before are forgotten, on the exchange's axis and on ours; ascending on both."""
    exchange_ns = np.array([session.first_exchange_ns for session in sessions], dtype=np.int64)
    local_ns = np.array([session.first_local_ns for session in sessions], dtype=np.int64)
    if halts is not None and halts.num_rows:
        halted_ns, received_ns = int64_column(halts, "exchange_ns"), int64_column(halts, "received_ns")
        known = np.where(received_ns != EMPTY_PRICE_E6, received_ns, halted_ns + feed_latency.fixed_ns)
        # All rows are shifted by the lowest latency of books and trades: a clear must not be told before it happened.
        lowest_ns = min(int((stamp.local_ns - stamp.exchange_ns).min(initial=0)) for stamp in stamps.values())
        exchange_ns = np.concatenate([exchange_ns, halted_ns])
        local_ns = np.concatenate([local_ns, np.maximum(known, halted_ns + lowest_ns)])
    order = np.argsort(exchange_ns, kind="stable")
    return [exchange_ns[order], np.maximum.accumulate(local_ns[order])]


def int64_column(table: pa.Table, name: str) -> Int64s:
    """A column as a contiguous array; NULL becomes the kernels' constant for an absent value."""
    column = table[name].combine_chunks()
    if column.null_count:
        column = pc.fill_null(column, pa.scalar(EMPTY_PRICE_E6, column.type))
    return np.ascontiguousarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)


def level_columns(books: pa.Table, name: str) -> list[Int64s]:
    return [int64_column(books, f"{name}_{level}") for level in range(1, LEVELS + 1)]


def _stamps(table: pa.Table, what: str, feed_latency: FeedLatency) -> _Stamps:
    for name in ("sequence", "exchange_ns", "session"):
        if table[name].null_count:
            raise InvalidDataset(f"{what}: {name} is absent in {table[name].null_count} rows; it cannot be guessed")
    if bool((np.diff(int64_column(table, "sequence")) < 0).any()):
        raise InvalidDataset(f"{what}: not sorted by sequence; sort the query by sequence")
    exchange_ns, received_ns = int64_column(table, "exchange_ns"), int64_column(table, "received_ns")
    recorded = received_ns != EMPTY_PRICE_E6
    return _Stamps(exchange_ns, np.where(recorded, received_ns, exchange_ns + feed_latency.fixed_ns), recorded)


def _sessions(books: pa.Table, trades: pa.Table, stamps: Mapping[str, _Stamps], volume: Int64s) -> tuple[Session, ...]:
    """Sessions in order of time; refused if they overlap, for then no row could start the later one."""
    names = np.concatenate([_names(books), _names(trades)])
    exchange_ns = np.concatenate([stamps["books"].exchange_ns, stamps["trades"].exchange_ns])
    local_ns = np.concatenate([stamps["books"].local_ns, stamps["trades"].local_ns])
    volumes = np.concatenate([np.zeros(books.num_rows, dtype=np.int64), volume])
    is_trade = np.arange(len(names)) >= books.num_rows
    sessions = []
    for name in np.unique(names):
        of_session = names == name
        exchange, local = exchange_ns[of_session], local_ns[of_session]
        session = Session(
            name=str(name),
            first_exchange_ns=int(exchange.min()),
            last_exchange_ns=int(exchange.max()),
            first_local_ns=int(local.min()),
            last_local_ns=int(local.max()),
            books=int((of_session & ~is_trade).sum()),
            trades=int((of_session & is_trade).sum()),
            volume=int(volumes[of_session].sum()),
        )
        sessions.append(session)
    sessions.sort(key=lambda session: session.first_exchange_ns)
    for earlier, later in pairwise(sessions):
        overlap = earlier.last_exchange_ns >= later.first_exchange_ns or earlier.last_local_ns >= later.first_local_ns
        if overlap:
            raise InvalidDataset(
                f"session {later.name} starts before {earlier.name} ends; build two datasets, or fix the calendar"
            )
    return tuple(sessions)


def _names(table: pa.Table) -> NDArray[np.str_]:
    """Session names, as an array of short strings: comparing them must not cost an object each."""
    encoded = cast("pa.DictionaryArray[Any, Any]", pc.dictionary_encode(table["session"].combine_chunks()))
    dictionary = np.array(encoded.dictionary.to_pylist(), dtype=np.str_)
    return dictionary[encoded.indices.to_numpy()] if len(dictionary) else np.array([], dtype=np.str_)


def _latency_facts(stamps: Sequence[_Stamps], feed_latency: FeedLatency) -> LatencyFacts:
    recorded = [stamp.local_ns[stamp.recorded] - stamp.exchange_ns[stamp.recorded] for stamp in stamps]
    latencies = np.concatenate(recorded)
    quantiles = None
    if len(latencies):
        values = np.quantile(latencies, list(_QUANTILES.values()), method="lower")
        quantiles = {name: int(value) for name, value in zip(_QUANTILES, values, strict=True)}
    return LatencyFacts(
        fixed_ns=feed_latency.fixed_ns,
        modelled_events=sum(len(stamp.recorded) for stamp in stamps) - len(latencies),
        recorded_events=len(latencies),
        recorded_quantiles_ns=quantiles,
        negative_events=int((latencies < 0).sum()),
    )


def write_dataset(
    dataset: Dataset, directory: Path, symbol: str, day: date, contract: Contract, provenance: Provenance
) -> DatasetFiles:
    """Write `<symbol>.npz` and `<symbol>.meta.json`; the same dataset gives the same bytes.

    A meta file that can be seen always describes the npz beside it: the old one goes first, the new one comes last.
    """
    _refuse_prices_off_the_tick(dataset.rows, contract)
    files = DatasetFiles(directory / f"{symbol}.npz", directory / f"{symbol}.meta.json", content_sha256(dataset.rows))
    refuse_faults(dataset.rows, files.npz)
    directory.mkdir(parents=True, exist_ok=True)
    meta = orjson.dumps(
        _meta(dataset, files, symbol, day, contract, provenance),
        option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )
    with _temporary(files.npz) as npz_temporary, _temporary(files.meta) as meta_temporary:
        write_npz(npz_temporary, dataset.rows)
        meta_temporary.write_bytes(meta)
        _sync(npz_temporary)
        _sync(meta_temporary)
        files.meta.unlink(missing_ok=True)
        npz_temporary.replace(files.npz)
        meta_temporary.replace(files.meta)
    _sync(directory)
    return files


@contextmanager
def _temporary(final: Path) -> Iterator[Path]:
    """A name beside `final` that is gone afterwards, whatever happens."""
    path = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_prices_off_the_tick(rows: Rows, contract: Contract) -> None:
    """hftbacktest rounds to the tick, which would merge levels without a word."""
    # fmod of whole numbers is exact in a double, also where they are too large for an integer.
    off = np.flatnonzero(np.fmod(np.rint(rows["px"] * 1e6), contract.tick_size_e6))
    if len(off):
        price = rows["px"][off[0]]
        raise InvalidDataset(
            f"row {off[0]}: price {price} is not a multiple of the tick {contract.tick_size_e6 / 1e6}; "
            "check the instrument's tick size"
        )


def _meta(
    dataset: Dataset, files: DatasetFiles, symbol: str, day: date, contract: Contract, provenance: Provenance
) -> dict[str, Any]:
    quantiles = dataset.latency.recorded_quantiles_ns
    worst_ns = min(0, quantiles["min"]) if quantiles else 0
    on_exchange = dataset.rows["ev"] & EXCH_EVENT != 0
    on_local = dataset.rows["ev"] & LOCAL_EVENT != 0
    exchange_ns, local_ns = dataset.rows["exch_ts"][on_exchange], dataset.rows["local_ts"][on_local]
    return {
        "schema": META_SCHEMA,
        "symbol": symbol,
        "day": day,
        "content_sha256": files.content_sha256,
        "rows": len(dataset.rows),
        "first_exchange_ns": int(exchange_ns[0]),
        "last_exchange_ns": int(exchange_ns[-1]),
        "first_local_ns": int(local_ns[0]),
        "last_local_ns": int(local_ns[-1]),
        "sessions": [asdict(session) for session in dataset.sessions],
        "feed_latency": asdict(dataset.latency),
        "local_shift_ns": dataset.local_shift_ns,
        "skew": {"negative_latency_events": dataset.latency.negative_events, "worst_ns": worst_ns},
        "crossed_books": dataset.crossed_books,
        "contract": asdict(contract),
        "inputs": dict(provenance.inputs),
        "source_commit": provenance.source_commit,
        "gaps": list(provenance.gaps),
        "coverage": provenance.coverage,
    }


def read_contract(meta: Path) -> tuple[Contract, str]:
    """Units and content hash of the dataset that the meta file describes."""
    try:
        fields = orjson.loads(meta.read_bytes())
        units = [fields["contract"][name] for name in ("tick_size_e6", "lot_size", "contract_size")]
        sha256 = str(fields["content_sha256"])
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise InvalidDataset(f"{meta}: not a dataset's meta file ({error!r}). {REBUILD}") from error
    if not all(isinstance(unit, int) and unit > 0 for unit in units):
        raise InvalidDataset(f"{meta}: contract units {units} are not positive integers. {REBUILD}")
    return Contract(*units), sha256
