"""Recorded events and findings as text: JSON lines, CSV, an Arrow stream. Reads, never writes a log."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import orjson

from shijim_live.command_line import Progress
from shijim_live.events import (
    ABSENT_I32,
    ABSENT_I64,
    ABSENT_U32,
    Book,
    BrokerClass,
    Exchange,
    Kind,
    Lane,
    Status,
    Trade,
    decode_all,
    decode_chunks,
)
from shijim_live.record import wal
from shijim_live.record.choice import Choice

FORMATS = ("jsonl", "csv", "arrow")
FOLLOW_SECONDS = 0.2
_ABSENT = (ABSENT_I64, ABSENT_I32, ABSENT_U32)
_NAMES = {"kind": Kind, "lane": Lane, "exchange": Exchange, "broker_class": BrokerClass}

TABLES: dict[str | None, str] = {
    None: "ticks", "trade": "ticks", "book": "books", "index": "indices", "snapshot": "snapshots",
}  # fmt: skip


def print_events(paths: list[Path], choice: Choice, output_format: str, out: BinaryIO, *, follow: bool) -> list[str]:
    """Writes the chosen events of the segments, in the order given. KeyboardInterrupt ends following.

    Returns what could not be read, a line each.
    """
    problems: list[str] = []
    events = choice.events(_events(paths, choice, problems, follow=follow))
    if output_format == "jsonl":
        for event in events:
            out.write(orjson.dumps(plain(event)) + b"\n")
            if follow:
                out.flush()
    elif output_format == "csv":
        _print_csv(events, out)
    else:
        _print_arrow(paths, choice, out, problems)
    out.flush()
    return problems


def _events(paths: list[Path], choice: Choice, problems: list[str], *, follow: bool) -> Iterator[Trade | Book | Status]:
    for path in _worth_reading(paths, choice):
        yield from decode_chunks(wal.records(path, problems))
    if follow and paths:
        yield from _growing(paths)


def _worth_reading(paths: list[Path], choice: Choice) -> Iterator[Path]:
    """Segments that may hold what was asked for; a footer says so without reading the rest."""
    progress = Progress("read", "segments", len(paths))
    for number, path in enumerate(paths):
        progress.at(number)
        if choice.timed or choice.sequence:
            wal.read_header(path)
            footer = wal.footer(path)
            if footer is not None and not choice.may_be_in(footer):
                continue
        yield path
    progress.at(len(paths))


def _growing(paths: list[Path]) -> Iterator[Trade | Book | Status]:
    """What is appended after the end: to the last segment, and to segments that appear beside it."""
    root = paths[-1].parent.parent
    seen = set(paths)
    reader, _ = wal.open_segment(paths[-1])
    while reader.read(wal.CHUNK_RECORDS):
        pass
    while True:
        chunk = reader.read(wal.CHUNK_RECORDS)
        if chunk:
            yield from decode_all(chunk)
            continue
        fresh = sorted(path for path in root.rglob("*.wal") if path not in seen)
        if reader.end == "sealed" and fresh:
            seen.add(fresh[0])
            reader, _ = wal.open_segment(fresh[0])
            continue
        time.sleep(FOLLOW_SECONDS)


def plain(event: Trade | Book | Status) -> dict[str, object]:
    """An event as JSON would have it: names for numbers, null for what is absent, fixed point kept as integers."""
    shown: dict[str, object] = {}
    # Not `asdict`, which copies every value: three fifths of the time of `cat`.
    for name in event.__dataclass_fields__:
        value = getattr(event, name)
        if name in _NAMES:
            shown[name] = _NAMES[name](value).name.lower() if value else None
        elif isinstance(value, tuple):
            shown[name] = [None if item in _ABSENT else item for item in value]
        else:
            shown[name] = None if value in _ABSENT else value
    return shown


def _print_csv(events: Iterator[Trade | Book | Status], out: BinaryIO) -> None:
    """One table: every field of every kind, empty where a kind does not have it; levels as name_1 to name_5."""
    columns = list(dict.fromkeys(name for kind in (Trade(), Book(), Status(kind=Kind.START)) for name in _flat(kind)))
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    for event in events:
        writer.writerow({name: value for name, value in _flat(event).items() if value is not None})
    text.detach()


def _flat(event: Trade | Book | Status) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in plain(event).items():
        if isinstance(value, list) and name != "oversize":
            flat |= {f"{name}_{level}": item for level, item in enumerate(value, start=1)}
        elif name != "oversize":
            flat[name] = value
    return flat


def _print_arrow(paths: list[Path], choice: Choice, out: BinaryIO, problems: list[str]) -> None:
    """An Arrow IPC stream of one table: ticks, unless --kind asks for books or a status kind."""
    from shijim_live.store.schema import stream_table

    table = TABLES.get(choice.kind, "statuses")
    chunks = (chunk for path in _worth_reading(paths, choice) for chunk in wal.records(path, problems))
    stream_table(table, map(choice.records, chunks), choice.limit, out)


def verdict(segment: wal.Segment, found: wal.Soundness) -> str:
    """One line a segment, and one for each problem in it."""
    path = segment.header.path
    lines = [
        f"{path}: {found.name.lower()}, {segment.state}, "
        f"{segment.records:,} events to sequence {segment.last_sequence:,}"
    ]
    if found is wal.Soundness.TORN:
        lines.append(f"  sound up to byte {segment.sound_bytes:,}. Run: shijim-live repair {path}")
    for offset, length, first, count, message in segment.problems:
        lost = f"; {count:,} events from sequence {first:,} are gone" if count else ""
        lines.append(f"  byte {offset:,}, {length:,} bytes: {message}{lost}")
    return "\n".join(lines)


def verdict_json(segment: wal.Segment, found: wal.Soundness) -> str:
    """The same for a script."""
    fields = {
        "path": str(segment.header.path), "soundness": found.name.lower(), "state": segment.state,
        "records": segment.records, "last_sequence": segment.last_sequence, "sound_bytes": segment.sound_bytes,
        "problems": [dict(zip(("offset", "length", "first_sequence", "count", "message"), row, strict=True))
                     for row in segment.problems],
    }  # fmt: skip
    return orjson.dumps(fields).decode()
