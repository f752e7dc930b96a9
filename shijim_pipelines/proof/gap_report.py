"""What an audit found: gaps, streams and a summary, as JSON and as text. Finds nothing itself (`audit.py` does)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from datetime import date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from shijim_live.calendar import Market, wall_clock
from shijim_live.events import ABSENT_I64, Lane
from shijim_live.store.parquet import write_durably

# Lines a terminal shows of each table, and characters of a line; the JSON has all.
SHOWN_MAX: Final = 20
LINE_CHARACTERS_MAX: Final = 120

# What may be absent, and is null in the file.
_BOUNDS: Final = ("seq_start", "seq_end", "start_ns", "end_ns")

Metadata = dict[str, str | int | list[list[int]]]
SessionKey = tuple[Market, str]  # futures have a night and a day, stocks a day


class ReportDamaged(ValueError):
    """A file that is not a gap report as the audit writes it."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something missing. Bounds are what stands on both sides of it, themselves not missing; ABSENT where unknown."""

    gap_type: str  # volume | sequence | outage | silence | book_silence
    symbol: str
    lane: str
    seq_start: int
    seq_end: int
    start_ns: int  # our clock where it was recorded, otherwise the exchange's
    end_ns: int
    lots: int  # missing; 0 where it is not known how many
    # outage late_start early_stop absent feed_loss | corrupt_block segment_missing not_archived | recorded | silence
    cause: str
    reason: str
    # Of volume: (total_from, total_to] is missing but for what late trades filled; `missing` are the ranges left then.
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stream:
    """Trades of one source, code, lane and session. Duplicates are not counted in `trades` and `lots`."""

    source: str
    code: str
    lane: str
    session: str
    trades: int
    lots: int  # shares on the odd-lot lane
    judged: int
    basis: str  # what its first total was judged against: zero | carried | "" where nothing was judged
    lots_missing: int
    gaps: int
    late: int
    duplicates: int
    resets: int
    excesses: int
    verdict: str  # continuous | gaps | unprovable
    reason: str  # why it is unprovable
    closing: int = ABSENT_I64  # lots the exchange traded in the session, where they were given and it is over


@dataclass(frozen=True, slots=True)
class GapReport:
    """The audit of one trading day."""

    trading_day: date
    streams: tuple[Stream, ...]
    gaps: tuple[Gap, ...]
    notes: tuple[str, ...]  # what could not be judged: segments not archived yet, runs without an end
    inputs: dict[str, str]  # archived segment → multiset hash of its records
    sessions: dict[str, str] = field(default_factory=dict)  # "futures night" … → closed | open when it was asked

    def summary(self) -> dict[str, int | str | bool]:
        """Totals. `verdict` is the worst of all streams: gaps, then unprovable, then continuous."""
        verdicts = {stream.verdict for stream in self.streams}
        if any(gap.gap_type != "outage" for gap in self.gaps):
            verdicts.add("gaps")
        names = ("trades", "judged", "gaps", "late", "duplicates", "resets", "excesses")
        totals: dict[str, int | str | bool] = {
            name: sum(getattr(stream, name) for stream in self.streams) for name in names
        }
        # Lots and odd-lot shares are different units, never one sum.
        odd = [stream for stream in self.streams if stream.lane == "odd"]
        board = [stream for stream in self.streams if stream.lane != "odd"]
        for name, streams in (("lots", board), ("odd_shares", odd)):
            totals[name] = sum(stream.lots for stream in streams)
            totals[f"{name}_missing"] = sum(stream.lots_missing for stream in streams)
        totals["streams"] = len(self.streams)
        totals["unprovable"] = sum(stream.verdict == "unprovable" for stream in self.streams)
        totals["outages"] = sum(gap.gap_type == "outage" for gap in self.gaps)
        totals["sequence_holes"] = sum(gap.gap_type == "sequence" for gap in self.gaps)
        totals["silences"] = sum(gap.gap_type == "silence" for gap in self.gaps)
        totals["book_silences"] = sum(gap.gap_type == "book_silence" for gap in self.gaps)
        totals["open_sessions"] = sum(state == "open" for state in self.sessions.values())
        totals["partial"] = bool(self.notes)
        totals["verdict"] = next((name for name in ("gaps", "unprovable") if name in verdicts), "continuous")
        return totals


def report_path(reports_dir: Path, day: date) -> Path:
    """Where the report of a day lies."""
    return reports_dir / "gaps" / f"{day}.json"


def write_report(report: GapReport, reports_dir: Path) -> Path:
    """`gaps/<day>.json`, whole or not at all; the same report gives the same bytes."""
    return write_durably(report_path(reports_dir, report.trading_day), _rendered(report))


def read_report(reports_dir: Path, day: date) -> GapReport:
    """What `write_report` wrote, exactly. Raises FileNotFoundError, and ReportDamaged for anything else."""
    path = report_path(reports_dir, day)
    again = f"Run: shijim audit --day {day}"
    try:
        written = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: trading day {day} was not audited yet. {again}") from None
    try:
        report = _parsed(orjson.loads(written))
        same = report.trading_day == day and _rendered(report) == written
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReportDamaged(f"{path}: not a gap report ({type(error).__name__}: {error}). {again}") from None
    if not same:
        raise ReportDamaged(f"{path}: it was edited after the audit wrote it, or another release did. {again}")
    return report


def _rendered(report: GapReport) -> bytes:
    """The bytes of the file; `digest` is of all that stands in it besides."""
    contents = asdict(report) | {"summary": report.summary()}
    for gap in contents["gaps"]:
        gap |= {name: _null(gap[name]) for name in _BOUNDS}
        gap["metadata"] = {name: _null(value) for name, value in gap["metadata"].items()}
    for stream in contents["streams"]:
        stream["closing"] = _null(stream["closing"])
    digest = sha256(orjson.dumps(contents, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return orjson.dumps(contents | {"digest": digest}, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)


def _parsed(contents: Any) -> GapReport:
    """The inverse of `_rendered` for what it made; whatever this lets pass, the bytes will not be the same."""
    gaps = []
    for gap in contents["gaps"]:
        bounds = {name: _absent(gap[name]) for name in _BOUNDS}
        metadata = {name: _absent(value) for name, value in gap["metadata"].items()}
        gaps.append(Gap(**gap | bounds | {"metadata": metadata}))
    streams = tuple(Stream(**stream | {"closing": _absent(stream["closing"])}) for stream in contents["streams"])
    known = {item.name: contents[item.name] for item in fields(GapReport)}
    known |= {"trading_day": date.fromisoformat(contents["trading_day"]), "notes": tuple(contents["notes"])}
    return GapReport(**known | {"streams": streams, "gaps": tuple(gaps)})


def _null(value: Any) -> Any:
    return None if value == ABSENT_I64 else value


def _absent(value: Any) -> Any:
    return ABSENT_I64 if value is None else value


def describe(report: GapReport) -> str:
    """For a person at a terminal: totals, worst streams, largest gaps."""
    total = report.summary()
    lines = [
        f"Gaps of trading day {report.trading_day}: {_headline(total)}",
        f"{total['trades']:,} trades of {_amount(total, '')} in {total['streams']} streams",
        f"duplicates hidden: {total['duplicates']:,}, late: {total['late']:,}, resets: {total['resets']}, "
        f"recorded outages: {total['outages']}, holes in the recorder's own sequence: {total['sequence_holes']}",
        *_still_open(report),
        "",
    ]
    worst = sorted(report.streams, key=lambda stream: (-stream.lots_missing, -stream.gaps, stream.code, stream.lane))
    names = ("code", "lane", "session", "trades", "lots", "missing", "closing", "gaps", "repeats", "verdict")
    lines += _table(names, [_stream_line(stream) for stream in worst[:SHOWN_MAX]])
    lines += [f"… and {len(worst) - SHOWN_MAX} more streams"] if len(worst) > SHOWN_MAX else []
    if report.gaps:
        largest = sorted(report.gaps, key=lambda gap: (-gap.lots, gap.start_ns, gap.symbol))
        columns = ("what", "code", "lane", "from", "to", "lots", "cause", "reason")
        lines += ["", *_table(columns, [_gap_line(gap) for gap in largest[:SHOWN_MAX]])]
        lines += [f"… and {len(largest) - SHOWN_MAX} more"] if len(largest) > SHOWN_MAX else []
    if report.notes:
        lines += ["", *(f"note: {note}" for note in report.notes)]
    return "\n".join(lines)


def _still_open(report: GapReport) -> list[str]:
    names = [name for name, state in report.sessions.items() if state == "open"]
    return [f"not over when asked, judged for what is there: {', '.join(names)}"] if names else []


def _headline(total: dict[str, int | str | bool]) -> str:
    if total["verdict"] == "gaps":
        whats = ("holes in the recorder's sequence", "silences", "silences of books")
        counts = zip(("sequence_holes", "silences", "book_silences"), whats, strict=True)
        others = "".join(f", {total[name]} {what}" for name, what in counts if total[name])
        return f"{_amount(total, '_missing')} missing in {total['gaps']:,} gaps{others}"
    if total["verdict"] == "unprovable":
        return f"cannot be proven: {total['unprovable']} of {total['streams']} streams carry no proof"
    return "none: every judged trade continues the one before"


def _amount(total: dict[str, int | str | bool], suffix: str) -> str:
    odd = total[f"odd_shares{suffix}"]
    return f"{total[f'lots{suffix}']:,} lots" + (f" and {odd:,} odd-lot shares" if odd else "")


def _stream_line(stream: Stream) -> tuple[str, ...]:
    verdict = f"{stream.verdict}: {stream.reason}" if stream.reason else stream.verdict
    closing = "" if stream.closing == ABSENT_I64 else f"{stream.closing:,}"
    numbers = (f"{stream.trades:,}", f"{stream.lots:,}", f"{stream.lots_missing:,}", closing)
    rest = (f"{stream.gaps:,}", f"{stream.duplicates:,}", verdict)
    return (stream.code, stream.lane, stream.session, *numbers, *rest)


def _gap_line(gap: Gap) -> tuple[str, ...]:
    times = (_clock(gap.start_ns), _clock(gap.end_ns))
    if times[0][:6] == times[1][:6]:
        times = (times[0], times[1][6:])  # the same date
    return (gap.gap_type, gap.symbol, gap.lane, *times, f"{gap.lots:,}", gap.cause, gap.reason)


def _clock(ns: int) -> str:
    """Taipei wall clock to the millisecond."""
    if ns == ABSENT_I64:
        return "?"
    wall: datetime = wall_clock(ns)
    return (wall + timedelta(microseconds=500)).isoformat(sep=" ", timespec="milliseconds")[5:]


def _table(names: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    numeric = [
        bool(rows) and all(row[at].replace(",", "").isdigit() or not row[at] for row in rows)
        for at in range(len(names))
    ]

    def line(cells: tuple[str, ...]) -> str:
        padded = (
            cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(cells, widths, numeric, strict=True)
        )
        text = "  ".join(padded).rstrip()
        return text if len(text) <= LINE_CHARACTERS_MAX else f"{text[: LINE_CHARACTERS_MAX - 1]}…"

    rule = "  ".join("─" * width for width in widths)[:LINE_CHARACTERS_MAX].rstrip()
    return [line(names), rule, *map(line, rows)]


def lane_name(lane: int) -> str:
    """`board`, `odd`, `trial`, or the number of a lane this version does not know."""
    return Lane(lane).name.lower() if lane in Lane._value2member_map_ else f"lane {lane}"


def session_name(market: Market, session: str) -> str:
    """`futures night`, as the report names a session."""
    return f"{market.value} {session}"
