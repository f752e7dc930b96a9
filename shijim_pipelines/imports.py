"""`shijim import`: foreign recordings as segments of our log, labelled with their source. Not an archive, not a feed.

What a format cannot know is absent (receive time, `total_volume`), what is inferred is marked. The run's identity is
the hash of the file's content: importing the same file again changes nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from json import loads
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from rust_indicators import decode_l5
from shijim_live.calendar import TAIPEI_OFFSET_NS, Market, trial_lane_by_clock
from shijim_live.events import (
    ABSENT_I32,
    ABSENT_I64,
    ABSENT_U8,
    ABSENT_U32,
    LEVELS,
    RECORD_BYTES,
    Book,
    BrokerClass,
    Exchange,
    Flag,
    Kind,
    Lane,
    Status,
    Trade,
    encode,
    encode_with_sides,
)
from shijim_live.instruments import UnknownInstrument, instrument
from shijim_live.record import wal
from shijim_live.store.schema import Rows, blank_rows, record_dtype
from shijim_pipelines.sealed_run import run_header, write_run

MICROSECOND_NS = 1_000
MINUTE_NS = 60_000_000_000
APPEND_RECORDS = 65_536  # records turned over to the log at a time
_L5_COLUMNS = {"ev": "uint64", "exch_ts": "int64", "px": "double", "qty": "double"}
# decode_l5's rows, in words of int64.
_BOOK_WORDS, _TRADE_WORDS = 23, 6


class ImportRefused(ValueError):
    """A file that cannot be imported; the text says which, why, and what to do. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Imported:
    """One imported file."""

    path: Path
    source: str
    run_id: str
    records: int
    quarantined: int
    segments: tuple[Path, ...]
    already_there: bool


def import_file(path: Path, wal_dir: Path, symbol: str | None = None) -> Imported:
    """Imports one file. `symbol` names the code where the file's name does not. Raises ImportRefused."""
    if not path.is_file():
        raise ImportRefused(f"{path}: no such file")
    reader = _format_of(path)
    digest = hashlib.sha256(path.read_bytes())
    digest.update((symbol or "").encode())
    run_id = digest.hexdigest()[:16]
    final = wal_dir / f"import-{run_id}"
    if final.is_dir():
        return _described(path, reader.source, run_id, final, already_there=True)
    chunks = reader.read(path, symbol)
    first_ns, first = _first(path, chunks)
    config: dict[str, object] = {"file": path.name, "bytes": path.stat().st_size}
    codes = np.unique(np.frombuffer(first, record_dtype("statuses"))["code"]).tolist()
    header = run_header(reader.source, run_id, first_ns, config, [code.decode("ascii") for code in codes])
    try:
        written = write_run(final, run_id, header, itertools.chain([first], chunks))
    except OSError as error:
        raise ImportRefused(f"{path}: cannot be written to {wal_dir} ({error}). Nothing was imported") from error
    return _described(path, reader.source, run_id, final, already_there=not written)


def _first(path: Path, chunks: Iterator[bytes]) -> tuple[int, bytes]:
    """The first chunk, read before anything is written: a refusal leaves nothing behind."""
    first = next(chunks, b"")
    if not first:
        raise ImportRefused(f"{path}: holds no events")
    return int.from_bytes(first[16:24], "little", signed=True), first


def _described(path: Path, source: str, run_id: str, folder: Path, *, already_there: bool) -> Imported:
    segments = tuple(wal.segment_paths(folder))
    footers = [wal.footer(segment) or {} for segment in segments]
    return Imported(
        path=path,
        source=source,
        run_id=run_id,
        records=sum(int(str(footer["records"])) for footer in footers),
        quarantined=sum(_quarantined_lines(segment) for segment in segments),
        segments=segments,
        already_there=already_there,
    )


def _quarantined_lines(segment: Path) -> int:
    """Lines, not records: a long line has a record for each part of its text."""
    kinds = (wal.footer(segment) or {}).get("kinds")
    if not isinstance(kinds, dict) or str(int(Kind.QUARANTINE)) not in kinds:
        return 0
    lines = 0
    for chunk in wal.records(segment):
        rows = np.frombuffer(chunk, record_dtype("statuses"))
        lines += int(((rows["kind"] == Kind.QUARANTINE) & (rows["part"] == 0)).sum())
    return lines


@dataclass(frozen=True, slots=True)
class _Format:
    source: str
    read: Callable[[Path, str | None], Iterator[bytes]]


def _format_of(path: Path) -> _Format:
    """By what is in the file, not by its name."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:4] == b"PAR1":
        return _Format("import:txf_l5", _read_l5)
    if head.lstrip()[:1] == b"{":
        return _Format("import:shioaji_stream", _read_stream)
    raise ImportRefused(
        f"{path}: neither Parquet of L5 differences (columns ev, exch_ts, px, qty) nor JSON lines of Shioaji callbacks"
    )


def _read_l5(path: Path, symbol: str | None) -> Iterator[bytes]:
    try:
        file = pq.ParquetFile(path)
        found = {field.name: str(field.type) for field in file.schema_arrow}
        if found != _L5_COLUMNS:
            raise ImportRefused(f"{path}: Parquet with columns {found}, where L5 differences have {_L5_COLUMNS}")
        columns = file.read()
    except (OSError, ValueError) as error:
        if isinstance(error, ImportRefused):
            raise
        raise ImportRefused(f"{path}: a Parquet file that cannot be read ({error})") from None
    code = symbol or _code_in(path)
    try:
        books, trades = decode_l5(*(columns[name].to_numpy() for name in _L5_COLUMNS))
    except ValueError as error:
        raise ImportRefused(f"{path}: {error}") from None
    rows = _l5_records(code, _words(books, _BOOK_WORDS), _words(trades, _TRADE_WORDS))
    for at in range(0, len(rows), APPEND_RECORDS):
        yield rows[at : at + APPEND_RECORDS].tobytes()


def _code_in(path: Path) -> str:
    """`TXFD6_2026-04-09.parquet` → `TXFD6`."""
    match = re.match(r"([A-Z0-9]{4,10})_\d{4}-\d{2}-\d{2}", path.name)
    code = match[1] if match else path.stem.split("_")[0]
    try:
        return instrument(code).code
    except UnknownInstrument as error:
        raise ImportRefused(f"{path}: its name gives no code ({error}). Say which with --symbol") from None


def _words(data: bytes, words: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.frombuffer(data, dtype=np.int64).reshape(-1, words)


def _l5_records(code: str, books: np.ndarray[Any, Any], trades: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Records in the order of the file: column 0 of each is the place of its (last) row."""
    dated = instrument(code)
    book_rows = blank_rows("books", len(books), Kind.BOOK)
    trade_rows = blank_rows("ticks", len(trades), Kind.TRADE)
    for rows, words in ((book_rows, books), (trade_rows, trades)):
        rows["broker_class"] = BrokerClass.TXF_L5
        rows["exchange"] = Exchange[dated.exchange]
        rows["code"] = code.encode()
        rows["exchange_ns"] = words[:, 1]
        rows["source_offset_ns"] = words[:, 2]
        trial = _trial(words[:, 1], dated.market)
        rows["lane"] = np.where(trial, Lane.TRIAL, Lane.BOARD)
        rounded = np.where(words[:, 2] != 0, Flag.TIME_ROUNDED, 0)
        rows["flags"] = Flag.LANE_INFERRED | rounded
    for level_field, first in (("bid_price_e6", 3), ("bid_volume", 8), ("ask_price_e6", 13), ("ask_volume", 18)):
        book_rows[level_field] = books[:, first : first + LEVELS]
    trade_rows["price_e6"], trade_rows["volume"], trade_rows["side"] = trades[:, 3], trades[:, 4], trades[:, 5]
    place = np.concatenate([books[:, 0], trades[:, 0]])
    raw = f"V{RECORD_BYTES}"
    merged = np.concatenate([book_rows.view(raw), trade_rows.view(raw)])
    records: Rows = merged[np.argsort(place, kind="stable")]
    return records


def _trial(exchange_ns: np.ndarray[Any, Any], market: Market) -> np.ndarray[Any, Any]:
    """The lane by the session's clock, asked once a minute: every boundary is a whole minute."""
    minutes, place = np.unique(exchange_ns // MINUTE_NS, return_inverse=True)
    return np.array([trial_lane_by_clock(int(minute) * MINUTE_NS, market) for minute in minutes])[place]


def _read_stream(path: Path, symbol: str | None) -> Iterator[bytes]:
    """JSON lines, prices taken from their digits, not through a float. A later line that is broken is quarantined."""
    records: list[bytes] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                encoded = encode_with_sides(_stream_event(loads(line, parse_float=Decimal), symbol))
            except _BROKEN_LINE as error:
                if number == 1:
                    raise ImportRefused(
                        f"{path}: line 1 is no Shioaji callback of the first Shijim ({type(error).__name__}: {error})"
                    ) from None
                records += _quarantined(number, line, error)
            else:
                records.append(encoded)
            if len(records) >= APPEND_RECORDS:
                yield b"".join(records)
                records.clear()
    if records:
        yield b"".join(records)


# Whatever a line may hold instead of what it claims: no JSON, other types, numbers that fit no record.
_BROKEN_LINE = (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError, struct.error)


def _quarantined(number: int, line: bytes, error: Exception) -> list[bytes]:
    text = f"line {number}: {type(error).__name__}: {error}\n{line[:4096].decode('ascii', 'replace')}"
    data = text.encode("ascii", "replace").decode()
    parts = [data[at : at + 168] for at in range(0, len(data), 168)]
    return [
        encode(Status(kind=Kind.QUARANTINE, part=part, parts=len(parts), text=chunk))
        for part, chunk in enumerate(parts)
    ]


def _stream_event(line: dict[str, Any], symbol: str | None) -> Trade | Book:
    extras = line["extras"]
    # The stamp is Taipei's wall clock encoded as if UTC, and went through a float: the broker's grid is 1 µs.
    stamp_ns = int(line["ts_ns"] if "ts_ns" in line else line["ts"]) - TAIPEI_OFFSET_NS
    exchange_ns = (stamp_ns + MICROSECOND_NS // 2) // MICROSECOND_NS * MICROSECOND_NS
    flags = _flag(extras, "suspend", Flag.SUSPEND) | _flag(extras, "simtrade", Flag.SIMTRADE)
    flags |= _flag(extras, "intraday_odd", Flag.INTRADAY_ODD)
    if stamp_ns != exchange_ns:
        flags |= Flag.TIME_ROUNDED
    lane = Lane.TRIAL if flags & Flag.SIMTRADE else Lane.ODD if flags & Flag.INTRADAY_ODD else Lane.BOARD
    code = symbol or line["symbol"]
    if not re.fullmatch(r"[!#-\[\]-~]{1,16}", code):
        raise ValueError(f"code {code!r} is not 1 to 16 printable ASCII characters")
    common: dict[str, Any] = {
        "code": code, "exchange_ns": exchange_ns, "source_offset_ns": stamp_ns - exchange_ns,
        "flags": flags, "lane": lane, "exchange": Exchange[line["exchange"]],
        "broker_class": BrokerClass.SHIOAJI_STREAM,
    }  # fmt: skip
    return _stream_trade(line, extras, common) if line["type"] == "MD_TICK" else _stream_book(line, extras, common)


def _flag(extras: dict[str, Any], name: str, flag: Flag) -> int:
    return flag if extras.get(name) else Flag(0)


_TRADE_PRICES = {
    "open_e6": "open", "high_e6": "high", "low_e6": "low", "avg_price_e6": "avg_price", "amount_e6": "amount",
    "total_amount_e6": "total_amount", "price_chg_e6": "price_chg", "pct_chg_e6": "pct_chg",
    "underlying_price_e6": "underlying_price",
}  # fmt: skip
_TRADE_COUNTS = ("bid_side_total_vol", "ask_side_total_vol", "bid_side_total_cnt", "ask_side_total_cnt")


def _stream_trade(line: dict[str, Any], extras: dict[str, Any], common: dict[str, Any]) -> Trade:
    fields = _Fields()
    for ours, theirs in _TRADE_PRICES.items():
        fields.price(ours, extras.get(theirs))
    fields.price("price_e6", line["price"])
    for name in _TRADE_COUNTS:
        fields.count(name, extras.get(name))
    fields.count("volume", line["size"])
    fields.count("total_volume", line["total_volume"])
    fields.count("side", extras["tick_type"], ABSENT_U8)
    fields.count("chg_type", extras.get("chg_type"), ABSENT_U8)
    if line["price"] is None or line["size"] is None or extras["tick_type"] is None:
        raise ValueError("a trade without price, size or tick_type")
    if fields.fitting["side"] == ABSENT_U8:
        fields.fitting["side"] = 0  # there is no absent side
    return Trade(**common, **fields.fitting, oversize=tuple(fields.oversize))


def _stream_book(line: dict[str, Any], extras: dict[str, Any], common: dict[str, Any]) -> Book:
    if line["type"] != "MD_BOOK":
        raise ValueError(f"type {line['type']!r} is neither MD_TICK nor MD_BOOK")
    fields = _Fields()
    for side in ("bid", "ask"):
        prices, volumes = list(line[f"{side}_prices"]), list(line[f"{side}_volumes"])
        if len(volumes) != len(prices) or len(prices) > LEVELS or None in [*prices, *volumes]:
            raise ValueError(f"{side} side has {len(prices)} prices and {len(volumes)} volumes")
        levels = [*zip(prices, volumes, strict=True), *[(0, 0)] * (LEVELS - len(prices))]
        fields.levels(f"{side}_price_e6", [None if level == (0, 0) else level[0] for level in levels], _Fields.price)
        fields.levels(f"{side}_volume", [volume for _, volume in levels], _Fields.count)
        fields.levels(f"diff_{side}_vol", extras.get(f"diff_{side}_vol") or [None] * LEVELS, _Fields.change)
        fields.price(f"first_derived_{side}_price_e6", extras.get(f"first_derived_{side}_price"))
        fields.count(f"first_derived_{side}_vol", extras.get(f"first_derived_{side}_vol"))
        fields.count(f"{side}_total_vol", line.get(f"{side}_total_vol"))
    fields.price("underlying_price_e6", line.get("underlying_price"))
    return Book(**common, **fields.fitting, oversize=tuple(fields.oversize))


Number = Decimal | int


class _Fields:
    """Fields of a record as they are read, and the text of those that do not fit; None is absent."""

    def __init__(self) -> None:
        self.fitting: dict[str, Any] = {}
        self.oversize: list[tuple[str, str]] = []

    def price(self, name: str, value: Number | None) -> None:
        """Fixed point, where six decimals and 64 bits hold it."""
        self._put(name, value, ABSENT_I64, None if value is None else _e6(value))

    def count(self, name: str, value: Number | None, absent: int = ABSENT_U32) -> None:
        """A whole number; anything else is an error and not rounded."""
        whole = None if value is None else _whole(value)
        self._put(name, whole, absent, whole if whole is not None and 0 <= whole < absent else None)

    def change(self, name: str, value: Number | None) -> None:
        """The same, below zero too."""
        whole = None if value is None else _whole(value)
        self._put(name, whole, ABSENT_I32, whole if whole is not None and abs(whole) < 2**31 else None)

    def levels(self, name: str, values: list[Any], put: Callable[[_Fields, str, Number | None], None]) -> None:
        """Each level's value by itself, under the name of the field and the level's number."""
        if len(values) != LEVELS:
            raise ValueError(f"{name} has {len(values)} levels, not {LEVELS}")
        labels = [f"{name}[{level}]" for level in range(LEVELS)]
        for label, value in zip(labels, values, strict=True):
            put(self, label, value)
        self.fitting[name] = tuple(self.fitting.pop(label) for label in labels)

    def _put(self, name: str, value: Number | None, absent: int, fitting: int | None) -> None:
        self.fitting[name] = absent if fitting is None else fitting
        if value is not None and fitting is None:
            self.oversize.append((name, str(value)))


def _whole(value: Number) -> int:
    whole = int(value)
    if whole != value:
        raise ValueError(f"{value!r} is not a count")
    return whole


def _e6(value: Number) -> int | None:
    """Fixed point, or None where six decimals do not hold it."""
    scaled = Decimal(value).scaleb(6)
    whole = int(scaled)
    return whole if whole == scaled and abs(whole) < 2**63 else None
