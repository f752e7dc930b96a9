"""`shijim-live stats`: what the segments of a log hold, each and together. Counts; the audit judges.

Segments are taken run by run in the order they were written, continuity of one source going on from one to the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rust_indicators import LogStatistics, SegmentStatistics
from shijim_live.calendar import SECOND_NS, wall_clock
from shijim_live.command_line import Progress
from shijim_live.events import Kind
from shijim_live.record import wal

CODES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Blocks:
    """Commits: how many events and bytes one had, the half of them at most, and the largest."""

    count: int
    records_median: int
    records_max: int
    bytes_median: int
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What one segment holds, or several together."""

    segments: int
    records: int
    bytes: int  # header and blocks; neither footers nor zeros written ahead
    bytes_per_event: int
    kinds: dict[str, int]
    codes: dict[str, int]  # most events first; those of no code are not in it
    received: tuple[str, str] | None  # first and last, Taipei wall clock; None where the source has no receive time
    exchange: tuple[str, str] | None
    blocks: Blocks
    lots_missing: int
    gaps: int
    duplicates: int
    late_start_lots: int  # of lots_missing: before the first trade of a session that was seen here
    peak: tuple[str, int] | None  # (second, events in it), by receive time, else by the exchange's
    problems: int
    unsealed: int


@dataclass(frozen=True, slots=True)
class LogCounts:
    """A log."""

    segments: tuple[tuple[wal.SegmentHeader, Counts], ...]
    total: Counts
    unreadable: tuple[str, ...]


def count(paths: Iterable[Path]) -> LogCounts:
    """Reads every segment once. What is none is named and left out."""
    headers, unreadable = [], []
    for path in paths:
        try:
            headers.append(wal.read_header(path))
        except wal.WalError as error:
            unreadable.append(str(error))
    headers.sort(key=lambda header: (header.created_ns, header.run_id, header.first_sequence))
    by_source: dict[str, LogStatistics] = {}
    found = []
    progress = Progress("count", "segments", len(headers))
    for number, header in enumerate(headers):
        progress.at(number)
        found.append(by_source.setdefault(header.source, LogStatistics()).add(header.path))
    progress.at(len(headers))
    each = tuple((header, _together([counted])) for header, counted in zip(headers, found, strict=True))
    return LogCounts(each, _together(found), tuple(unreadable))


def _together(found: Sequence[SegmentStatistics]) -> Counts:
    kinds: Counter[int] = Counter()
    codes: Counter[str] = Counter()
    seconds: Counter[int] = Counter()
    for counted in found:
        kinds.update(counted.kinds)
        codes.update(counted.codes)
        seconds.update(counted.seconds)
    codes.pop("", None)
    records, size = kinds.total(), sum(counted.sound_bytes for counted in found)
    busiest = max(seconds, key=lambda second: (seconds[second], -second), default=None)
    return Counts(
        segments=len(found),
        records=records,
        bytes=size,
        bytes_per_event=round(size / records) if records else 0,
        kinds={_kind(kind): count for kind, count in sorted(kinds.items())},
        codes=dict(sorted(codes.items(), key=lambda item: (-item[1], item[0]))),
        received=_span([counted.received_ns for counted in found]),
        exchange=_span([counted.exchange_ns for counted in found]),
        blocks=_blocks(found),
        lots_missing=sum(counted.lots_missing for counted in found),
        gaps=sum(counted.gaps for counted in found),
        duplicates=sum(counted.duplicates for counted in found),
        late_start_lots=sum(counted.late_start_lots for counted in found),
        peak=None if busiest is None else (str(wall_clock(busiest * SECOND_NS)), seconds[busiest]),
        problems=sum(counted.problems for counted in found),
        unsealed=sum(counted.state != "sealed" for counted in found),
    )


def _kind(number: int) -> str:
    return Kind(number).name.lower() if number in Kind._value2member_map_ else str(number)


def _span(ranges: Iterable[tuple[int, int] | None]) -> tuple[str, str] | None:
    known = [found for found in ranges if found is not None]
    if not known:
        return None
    return str(wall_clock(min(low for low, _ in known))), str(wall_clock(max(high for _, high in known)))


def _blocks(found: Iterable[SegmentStatistics]) -> Blocks:
    records: list[int] = []
    sizes: list[int] = []
    for counted in found:
        records += counted.block_records
        sizes += counted.block_bytes
    records.sort()
    sizes.sort()
    middle = (len(sizes) - 1) // 2
    if not sizes:
        return Blocks(0, 0, 0, 0, 0)
    return Blocks(len(sizes), records[middle], records[-1], sizes[middle], sizes[-1])


def plain(counts: LogCounts) -> dict[str, object]:
    """For a script."""
    segments = [{"path": str(header.path), "source": header.source, "run_id": header.run_id} | asdict(of)
                for header, of in counts.segments]  # fmt: skip
    return {"segments": segments, "total": asdict(counts.total), "unreadable": counts.unreadable}


def describe(counts: LogCounts) -> str:
    """For a person: a line a segment, then all of them together."""
    lines = [_line(header, of) for header, of in counts.segments]
    of = counts.total
    lines += [
        "",
        f"{of.records:,} events in {of.segments:,} segments, {of.bytes / 2**20:,.1f} MiB, {of.bytes_per_event:,} "
        f"B/event; {of.unsealed:,} not sealed, {of.problems:,} damaged stretches",
        _row("received", " to ".join(of.received) if of.received else "not known"),
        _row("exchange", " to ".join(of.exchange) if of.exchange else "not known"),
        _row("peak", f"{of.peak[1]:,} events in the second {of.peak[0]}" if of.peak else "no event has a time"),
        _row("commits", f"{of.blocks.count:,}"),
        _row("", f"{of.blocks.records_median:,} events in one (median), {of.blocks.records_max:,} at most"),
        _row("", f"{of.blocks.bytes_median:,} bytes in one (median), {of.blocks.bytes_max:,} at most"),
        _row("missing", f"{of.lots_missing:,} lots in {of.gaps:,} gaps; {of.duplicates:,} duplicates"),
        _row("", f"{of.late_start_lots:,} of the lots before the first trade of a session that is here"),
        _row("kinds", ", ".join(f"{kind} {number:,}" for kind, number in of.kinds.items())),
        *(_row("" if at else "codes", f"{code:<10} {number:>12,}") for at, (code, number) in enumerate(_top(of))),
    ]
    if len(of.codes) > CODES_SHOWN:
        lines.append(_row("", f"and {len(of.codes) - CODES_SHOWN:,} more codes"))
    return "\n".join(lines)


def _line(header: wal.SegmentHeader, of: Counts) -> str:
    span = f"{of.received[0][5:19]} to {of.received[1][11:19]}" if of.received else "no receive time"
    peak = f"{of.peak[1]:,}/s" if of.peak else "–"
    missing = f", {of.lots_missing:,} lots missing" if of.lots_missing else ""
    return (
        f"{header.path.name}  {span}  {of.records:>9,} events  {of.bytes_per_event:>4,} B/event  peak {peak}{missing}"
    )


def _top(of: Counts) -> list[tuple[str, int]]:
    return list(of.codes.items())[:CODES_SHOWN]


def _row(name: str, text: str) -> str:
    return f"  {name:<9} {text}"
