"""`shijim export --layout raw`: a recorded day as the first Shijim wrote it, <code>/<day>.jsonl. For people who grep.

Not a second record of the day: the layout has no place for receive times, sequences, connections, marks of what was
inferred, odd-lot closing values and statuses; those stay in the log. What it holds is exact, prices digit by digit, and
`shijim import` reads it back.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson

from shijim_live.calendar import TAIPEI_OFFSET_NS
from shijim_live.events import (
    ABSENT_I32,
    ABSENT_I64,
    ABSENT_U8,
    ABSENT_U32,
    EMPTY_PRICE_E6,
    PRICE_SCALE,
    Book,
    Exchange,
    Flag,
    Lane,
    Status,
    Trade,
    decode_all,
)
from shijim_live.store import schema
from shijim_live.store.parquet import parquet_path, replace_durably, stored_tables
from shijim_pipelines.archive import NothingArchived
from shijim_pipelines.proof.day_segments import Manifest, Manifests, key_of, not_archived, segments_of

_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_SIDES: Final = {0: "none", 1: "buy", 2: "sell"}


class ExportRefused(ValueError):
    """Nothing was written; the text says what to ask for instead."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    source: str
    files: tuple[Path, ...]
    lines: int
    statuses: int  # events that have no line: of the recording itself, and what could not be read
    notes: tuple[str, ...]  # segments of the day that are not in it


def export_raw(
    archive_dir: Path, wal_dir: Path, day: date, folder: Path, source: str | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Exported:  # fmt: skip
    """Writes what one source recorded of a trading day, in the order of recording, repeats included.

    Files appear when all are whole; those of an earlier export are replaced. Raises NothingArchived, ExportRefused.
    """
    known = Manifests(archive_dir)
    segments, notes = segments_of(known, day)
    notes += [
        f"{path} is not archived and not in it. Run: shijim archive" for path in not_archived(known, wal_dir, day)
    ]
    chosen = _of_source(segments, day, source, archive_dir)
    staging = _staging(folder, day)
    drafts: dict[str, Path] = {}
    lines = statuses = 0
    try:
        for number, segment in enumerate(chosen, 1):
            by_code: dict[str, list[bytes]] = defaultdict(list)
            for event in _events(archive_dir, day, segment):
                if isinstance(event, Status):
                    statuses += 1
                else:
                    by_code[event.code].append(orjson.dumps(line_of(event)))
            for code, found in by_code.items():
                lines += len(found)
                path = drafts.setdefault(code, staging / _file_name(code))
                with path.open("ab") as file:
                    file.writelines(line + b"\n" for line in found)
            progress(key_of(segment), number, len(chosen))
        files = tuple(folder / _file_name(code) / f"{day}.jsonl" for code in sorted(drafts))
        for code, target in zip(sorted(drafts), files, strict=True):
            replace_durably(drafts[code], target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Exported(chosen[0]["source"], files, lines, statuses, tuple(notes))


def describe(done: Exported, folder: Path) -> str:
    """For a person."""
    lines = [f"{done.lines:,} events of {len(done.files):,} codes, as {done.source} recorded them: {folder}"]
    if done.statuses:
        lines.append(f"  {done.statuses:,} events have no line in this layout: see shijim-live cat")
    return "\n".join(lines + [f"  {note}" for note in done.notes])


def _of_source(segments: list[Manifest], day: date, source: str | None, archive_dir: Path) -> list[Manifest]:
    """The segments of the one source there is, or of the one asked for: two recordings of one day never mix."""
    of_day = [one for one in segments if any(file["trading_day"] == str(day) for file in one["files"])]
    sources = sorted({one["source"] for one in of_day})
    if not sources:
        raise NothingArchived(f"{archive_dir}: nothing was recorded of trading day {day}, or it is not archived yet")
    if source is None and len(sources) > 1:
        raise ExportRefused(f"{day} was recorded by {' and by '.join(sources)}: say which with --source")
    if source is not None and source not in sources:
        raise ExportRefused(f"{day} was recorded by {' and by '.join(sources)}, not by {source}")
    return [one for one in of_day if one["source"] == (source or sources[0])]


def _staging(folder: Path, day: date) -> Path:
    """A folder of our own beside the files; what a killed export left goes."""
    for stale in folder.glob(f".{day}-*"):
        if not Path(f"/proc/{stale.name.rpartition('-')[2]}").exists():
            shutil.rmtree(stale, ignore_errors=True)
    staging = folder / f".{day}-{os.getpid()}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    return staging


def _events(archive_dir: Path, day: date, segment: Manifest) -> Iterator[Trade | Book | Status]:
    """Events of the day from one segment's files, in their order, with what stood in side records."""
    import pyarrow as pa

    tables = {}
    for file in segment["files"]:
        if file["trading_day"] == str(day):
            path = parquet_path(archive_dir, file["table"], day, key_of(segment))
            tables[file["table"]] = pa.concat_tables(stored_tables(path, file["table"]), promote_options="none")
    return decode_all(schema.to_records(tables))


def _file_name(code: str) -> str:
    """A code as the name of a folder; codes hold letters and digits, but a hostile file's may be a path."""
    return quote(code, safe="").replace(".", "%2E")


def line_of(event: Trade | Book) -> dict[str, Any]:
    """The line of an event, in the first Shijim's order."""
    value = _Values(dict(event.oversize))
    common = {
        # Taipei's wall clock as if it were UTC: what the first Shijim wrote, and `import` undoes.
        "ts_ns": event.exchange_ns + event.source_offset_ns + TAIPEI_OFFSET_NS,
        "symbol": event.code,
        "asset_type": "futures" if event.exchange == Exchange.TAIFEX else "stock",
        "exchange": Exchange(event.exchange).name if event.exchange in Exchange._value2member_map_ else None,
    }
    simtrade = int(bool(event.flags & Flag.SIMTRADE) or event.lane == Lane.TRIAL)
    odd = int(bool(event.flags & Flag.INTRADAY_ODD) or event.lane == Lane.ODD)
    suspend = int(bool(event.flags & Flag.SUSPEND))
    if isinstance(event, Trade):
        # The broker's futures have neither attribute.
        none = None if event.exchange == Exchange.TAIFEX else 0
        marks = {"suspend": suspend or none, "simtrade": simtrade, "intraday_odd": odd or none}
        return common | _trade(event, value, marks)
    # The first Shijim's books said neither; without them an odd-lot book would come back as another lane's.
    said = {"simtrade": simtrade} | ({"suspend": 1} if suspend else {}) | ({"intraday_odd": 1} if odd else {})
    return common | _book(event, value, said)


def _trade(event: Trade, value: _Values, marks: dict[str, int | None]) -> dict[str, Any]:
    volume = value.count("volume", event.volume)
    again = {
        "total_amount": value.price("total_amount_e6", event.total_amount_e6),
        "price_chg": value.price("price_chg_e6", event.price_chg_e6),
        "pct_chg": value.price("pct_chg_e6", event.pct_chg_e6),
    }
    extras: dict[str, Any] = {
        "open": value.price("open_e6", event.open_e6),
        "avg_price": value.price("avg_price_e6", event.avg_price_e6),
        "high": value.price("high_e6", event.high_e6),
        "low": value.price("low_e6", event.low_e6),
        "amount": value.price("amount_e6", event.amount_e6),
        "total_amount": again["total_amount"],
        "volume": volume,
        "tick_type": value.count("side", event.side),
        "price_chg": again["price_chg"],
        "pct_chg": again["pct_chg"],
        "bid_side_total_vol": value.count("bid_side_total_vol", event.bid_side_total_vol),
        "ask_side_total_vol": value.count("ask_side_total_vol", event.ask_side_total_vol),
        "bid_side_total_cnt": value.count("bid_side_total_cnt", event.bid_side_total_cnt),
        "ask_side_total_cnt": value.count("ask_side_total_cnt", event.ask_side_total_cnt),
        "underlying_price": value.price("underlying_price_e6", event.underlying_price_e6),
        "chg_type": value.count("chg_type", event.chg_type, ABSENT_U8),
    }
    return {
        "extras": extras | marks,
        "type": "MD_TICK",
        "price": value.price("price_e6", event.price_e6),
        "size": volume,
        "side": _SIDES.get(event.side, "none"),
        "total_volume": value.count("total_volume", event.total_volume),
    } | again


def _book(event: Book, value: _Values, marks: dict[str, int]) -> dict[str, Any]:
    extras: dict[str, Any] = {
        "diff_bid_vol": value.changes("diff_bid_vol", event.diff_bid_vol),
        "diff_ask_vol": value.changes("diff_ask_vol", event.diff_ask_vol),
        "first_derived_bid_price": value.price("first_derived_bid_price_e6", event.first_derived_bid_price_e6),
        "first_derived_ask_price": value.price("first_derived_ask_price_e6", event.first_derived_ask_price_e6),
        "first_derived_bid_vol": value.count("first_derived_bid_vol", event.first_derived_bid_vol),
        "first_derived_ask_vol": value.count("first_derived_ask_vol", event.first_derived_ask_vol),
    }
    return {
        "extras": extras | marks,
        "type": "MD_BOOK",
        "bid_prices": value.levels("bid_price_e6", event.bid_price_e6),
        "bid_volumes": [value.count(f"bid_volume[{at}]", volume) for at, volume in enumerate(event.bid_volume)],
        "ask_prices": value.levels("ask_price_e6", event.ask_price_e6),
        "ask_volumes": [value.count(f"ask_volume[{at}]", volume) for at, volume in enumerate(event.ask_volume)],
        "bid_total_vol": value.count("bid_total_vol", event.bid_total_vol),
        "ask_total_vol": value.count("ask_total_vol", event.ask_total_vol),
        "underlying_price": value.price("underlying_price_e6", event.underlying_price_e6),
    }


@dataclass(frozen=True, slots=True)
class _Values:
    """Fields as JSON: what is absent is null, what did not fit the record is its text."""

    oversize: dict[str, str]

    def _text(self, field: str) -> orjson.Fragment | str | None:
        text = self.oversize.get(field)
        return text if text is None or not _NUMBER.fullmatch(text) else orjson.Fragment(text)

    def price(self, field: str, value_e6: int) -> orjson.Fragment | str | None:
        if value_e6 == ABSENT_I64:
            return self._text(field)
        return orjson.Fragment(decimal_text(value_e6))

    def count(self, field: str, value: int, absent: int = ABSENT_U32) -> orjson.Fragment | int | str | None:
        # `side` is never absent: where its value did not fit, it is 0 and the text has it.
        return self._text(field) if value == absent or field in self.oversize else value

    def levels(self, field: str, prices_e6: tuple[int, ...]) -> list[orjson.Fragment | str | None]:
        """An empty level is price 0, as the broker pads."""
        filled = [
            0 if price == EMPTY_PRICE_E6 and f"{field}[{at}]" not in self.oversize else price
            for at, price in enumerate(prices_e6)
        ]
        return [self.price(f"{field}[{at}]", price) for at, price in enumerate(filled)]

    def changes(self, field: str, values: tuple[int, ...]) -> list[Any] | None:
        """None where the source says nothing of any level."""
        shown = [self._text(f"{field}[{at}]") if v == ABSENT_I32 else v for at, v in enumerate(values)]
        return None if all(one is None for one in shown) else shown


def decimal_text(value_e6: int) -> str:
    """Fixed point as the digits of a JSON number: 1450500000 is 1450.5, 0 is 0.0."""
    whole, rest = divmod(abs(value_e6), PRICE_SCALE)
    fraction = f"{rest:06}".rstrip("0") or "0"
    return f"{'-' if value_e6 < 0 else ''}{whole}.{fraction}"
