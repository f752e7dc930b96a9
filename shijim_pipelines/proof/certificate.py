"""What is proven of every code and session of a day: PROVEN, SHORT or UNPROVABLE, with the hashes it rests on.

The trades in the lake, recorded and backfilled, must cover the lots (0, closing total] exactly once. PROVEN says that
they do, SHORT how many lots they do not and where, UNPROVABLE why neither can be said. Missing data is never PROVEN.
Books carry no proof: what is known to be missing of them is listed, and never comes back. Repairs nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

import orjson

from shijim_live.calendar import CLOSE_GRACE_NS, Market, NotYet, Session, session_bounds, wall_clock
from shijim_live.events import ABSENT_I64
from shijim_live.instruments import UnknownInstrument, instrument
from shijim_live.store.lake import Lake
from shijim_live.store.manifest import read_manifest
from shijim_live.store.parquet import parquet_path, write_durably
from shijim_live.store.views import BACKFILL
from shijim_pipelines.proof.coverage import Covered, books_of, covered_by_stream, lots_within
from shijim_pipelines.proof.gap_report import Gap
from shijim_pipelines.proof.ledger import Change, Entry, State, advance, missing_lots, read_ledger, standing, stream_of
from shijim_pipelines.quotes import closing_totals, quotes_path

PROVEN: Final = "PROVEN"
SHORT: Final = "SHORT"
UNPROVABLE: Final = "UNPROVABLE"
SHOWN_MAX: Final = 30
REASON_WIDTH_MAX: Final = 46

_OPEN: Final = "the session is not closed yet"
_NO_CLOSING: Final = "no closing total is known: run shijim quotes"
_NO_ODD_CLOSING: Final = "nobody states a closing total of odd lots"
_NO_TOTAL: Final = "its source has no total_volume"
_SOME_NO_TOTAL: Final = "some of its trades have no total_volume"
_OVERLAP: Final = "its totals disagree with each other: lots are claimed twice"
_ABOVE: Final = "its totals go beyond the closing total"
_NOTHING: Final = "nothing was recorded of it, and nothing was traded by its closing total"

Key = tuple[str, str, str]  # code, session, lane


class NothingToCertify(ValueError):
    """Nothing of the day is recorded, missing or wanted."""


@dataclass(frozen=True, slots=True)
class Window:
    """Lots that are missing, as the ledger has them."""

    gap_id: str
    total_from: int
    total_to: int
    lots: int
    start_ns: int
    end_ns: int
    cause: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class BookHole:
    """Books that are known to be missing; the times are absent where only the recorder's numbers tell of it."""

    cause: str
    start_ns: int
    end_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """One code, session and lane. Lots; shares on the odd-lot lane."""

    code: str
    session: str
    lane: str
    verdict: str
    reasons: tuple[str, ...]
    trades: int
    lots: int  # of them, each once
    lots_backfilled: int
    closing: int | None  # total_volume at the close, by the broker
    lots_missing: int | None  # None where it cannot be said
    windows: tuple[Window, ...]
    lots_elsewhere: int  # missing lots that no window has: the audit is older than what it judged
    books: str  # complete | known_holes | none
    book_holes: tuple[BookHole, ...]


@dataclass(frozen=True, slots=True)
class Certificates:
    """All of a day."""

    trading_day: date
    sessions_closed: tuple[str, ...]
    certificates: tuple[Certificate, ...]
    inputs: dict[str, Any]  # hashes of what this was made from

    def summary(self) -> dict[str, int]:
        """How many of each verdict, and lots known to be missing."""
        verdicts = Counter(one.verdict for one in self.certificates)
        counted = {name.lower(): verdicts[name] for name in (PROVEN, SHORT, UNPROVABLE)}
        missing = sum(one.lots_missing or 0 for one in self.certificates if one.lane == "board")
        holes = sum(one.books == "known_holes" for one in self.certificates)
        return counted | {"lots_missing": missing, "with_book_holes": holes}


@dataclass(frozen=True, slots=True)
class _Facts:
    """Everything the verdicts of a day are made from."""

    covered: Mapping[Key, Covered]
    books: Mapping[tuple[str, str], int]
    closing: Mapping[tuple[str, str], int]
    gaps: Sequence[Entry]  # as they stand in the ledger
    closed: frozenset[str]
    day: date
    wanted: frozenset[str] = field(default_factory=frozenset)


def certify_day(
    day: date,
    archive_dir: Path,
    reports_dir: Path,
    market_dir: Path,
    as_of_ns: int,
    actor: str,
    wanted: Iterable[str] = (),
) -> Certificates:
    """Judges what the lake has of `day`, writes `certificates/<day>.json`, then VERIFIED into the ledger.

    `wanted` are codes that should have been recorded. Sessions that are not over at `as_of_ns` are unprovable.
    Raises NotATradingDay, NotYet, NothingToCertify, LedgerDamaged, LakeError.
    """
    bounds = session_bounds(day, Market.FUTURES)
    if as_of_ns < bounds[0].open_ns:
        raise NotYet(f"{day} has not begun at {wall_clock(as_of_ns):%Y-%m-%d %H:%M} Taipei: nothing can be certified")
    lake = Lake(archive_dir)
    gaps = [entry for entry in standing(read_ledger(reports_dir, day)).values() if entry.state != State.SUPERSEDED]
    facts = _Facts(
        covered_by_stream(lake, day),
        books_of(lake, day),
        closing_totals(market_dir, day),
        gaps,
        frozenset(closed_sessions(day, as_of_ns)),
        day,
        frozenset(wanted),
    )
    found = tuple(_certificate(facts, key) for key in sorted(_keys(facts)))
    if not found:
        raise NothingToCertify(
            f"{archive_dir}: nothing of trading day {day} is archived or wanted. Run: shijim archive"
        )
    inputs = _inputs(archive_dir, reports_dir, market_dir, day)
    made = Certificates(day, tuple(sorted(facts.closed)), found, inputs)
    path = write_certificates(made, reports_dir)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    verified = [Change(entry.gap_id, State.VERIFIED, {"certificate": digest}) for entry in _verified(lake, facts)]
    expected = frozenset({State.BACKFILLED, State.UNRECOVERABLE})
    advance(reports_dir, day, verified, actor, as_of_ns, only_from=expected)
    return made


def closed_sessions(day: date, as_of_ns: int) -> list[str]:
    """Sessions of both markets that are over, like `futures-night`."""
    return [
        f"{market}-{bounds.session}"
        for market in Market
        for bounds in session_bounds(day, market)
        if bounds.close_ns + CLOSE_GRACE_NS <= as_of_ns
    ]


def _keys(facts: _Facts) -> set[Key]:
    """Every stream that was recorded, that the ledger misses, or that is wanted."""
    keys = set(facts.covered)
    for entry in facts.gaps:
        if entry.gap is not None and entry.gap.gap_type == "volume":
            keys.add(_key(entry.gap))
    for code in facts.wanted:
        sessions = (bounds.session.value for bounds in session_bounds(facts.day, _market(code)))
        keys |= {(code, session, "board") for session in sessions}
    # Books of a session without a trade are a recording of it, too.
    return keys | {(code, session, "board") for code, session in facts.books}


def _key(gap: Gap) -> Key:
    return gap.symbol, stream_of(gap)[1], gap.lane


def _market(code: str) -> Market:
    try:
        return instrument(code).market
    except UnknownInstrument:
        return Market.FUTURES  # whose sessions hold those of every other


# Verdicts


def _certificate(facts: _Facts, key: Key) -> Certificate:
    code, session, lane = key
    covered = facts.covered.get(key, Covered())
    base = _base(facts, key)
    closing = facts.closing.get((code, session)) if lane == "board" else None
    total = None if closing is None else closing + base
    reasons = _doubts(facts, key, covered, total)
    missing = None if reasons or total is None else covered.missing(base, total)
    windows = _windows(facts, key) if missing is None or missing else ()
    verdict = UNPROVABLE if missing is None else SHORT if missing else PROVEN
    holes = _book_holes(facts, code, session)
    recorded_books = facts.books.get((code, session), 0)
    told = sum(window.lots for window in windows)
    return Certificate(
        code=code,
        session=session,
        lane=lane,
        verdict=verdict,
        reasons=tuple(reasons),
        trades=covered.trades,
        lots=covered.lots,
        lots_backfilled=covered.lots_backfilled,
        closing=closing,
        lots_missing=missing,
        windows=windows,
        lots_elsewhere=max(0, missing - told) if missing else 0,
        books="none" if not recorded_books else "known_holes" if holes else "complete",
        book_holes=holes,
    )


def _doubts(facts: _Facts, key: Key, covered: Covered, total: int | None) -> list[str]:
    """Why nothing can be proven of a stream; empty where it can."""
    code, session, lane = key
    doubts = (
        (f"{_market(code)}-{session}" not in facts.closed, _OPEN),
        (total is None, _NO_CLOSING if lane == "board" else _NO_ODD_CLOSING),
        (covered.trades > 0 and covered.without_total == covered.trades, _NO_TOTAL),
        (0 < covered.without_total < covered.trades, _SOME_NO_TOTAL),
        (covered.overlaps > 0, _OVERLAP),
        (total is not None and covered.last > total, _ABOVE),
        (not covered.trades and total == 0 and not facts.books.get((code, session)), _NOTHING),
    )
    return [reason for doubt, reason in doubts if doubt]


def _base(facts: _Facts, key: Key) -> int:
    """The total a session starts from: 0, or where the night stopped when a futures day was recorded to go on there."""
    code, session, lane = key
    night = facts.covered.get((code, Session.NIGHT.value, lane))
    mine = facts.covered.get(key)
    if session != Session.DAY or night is None or mine is None or not night.last:
        return 0
    return night.last if mine.first == night.last else 0


def _windows(facts: _Facts, key: Key) -> tuple[Window, ...]:
    """Gaps of a stream that are still that, by total."""
    found = []
    for entry in facts.gaps:
        gap = entry.gap
        if gap is None or gap.gap_type != "volume" or entry.state in (State.BACKFILLED, State.VERIFIED):
            continue
        if _key(gap) == key:
            told = (entry.cause, str(entry.state), str(entry.evidence.get("reason", gap.reason)))
            found.append(Window(entry.gap_id, *missing_lots(gap), gap.lots, gap.start_ns, gap.end_ns, *told))
    return tuple(sorted(found, key=lambda window: (window.total_from, window.total_to, window.gap_id)))


def _book_holes(facts: _Facts, code: str, session: str) -> tuple[BookHole, ...]:
    """What is known to be missing of the books of a session; a hole that names no code may be of any."""
    bounds = next((each for each in session_bounds(facts.day, _market(code)) if each.session == session), None)
    found = []
    for entry in facts.gaps:
        gap = entry.gap
        if gap is not None and gap.gap_type != "volume" and gap.symbol in ("", code):
            timed = bounds is not None and gap.start_ns != ABSENT_I64 and gap.end_ns != ABSENT_I64
            if not timed or (bounds and gap.start_ns <= bounds.close_ns and gap.end_ns >= bounds.open_ns):
                found.append(_book_hole(gap))
    return tuple(sorted(found, key=lambda hole: (hole.start_ns, hole.end_ns, hole.cause, hole.reason)))


def _book_hole(gap: Gap) -> BookHole:
    cause = gap.gap_type if gap.cause == "recorded" else gap.cause
    events = f" (events {gap.seq_start:,} to {gap.seq_end:,})" if gap.gap_type == "sequence" else ""
    return BookHole(cause, gap.start_ns, gap.end_ns, gap.reason + events)


def _verified(lake: Lake, facts: _Facts) -> list[Entry]:
    """Gaps whose lots are all in the lake, each once."""
    filled = [entry for entry in facts.gaps if entry.state in (State.BACKFILLED, State.UNRECOVERABLE)]
    wanted = []
    for entry in filled:
        gap = entry.gap
        if gap is not None and gap.gap_type == "volume":
            covered = facts.covered.get(_key(gap))
            if covered is not None and not covered.overlaps:
                wanted.append((entry, _key(gap), missing_lots(gap)))
    lots = lots_within(lake, facts.day, [(key, span) for _, key, span in wanted])
    return [entry for (entry, _, span), there in zip(wanted, lots, strict=True) if there == span[1] - span[0]]


# The file


def _inputs(archive_dir: Path, reports_dir: Path, market_dir: Path, day: date) -> dict[str, Any]:
    """Hashes of all that a day's certificates were made from; "" for a file that is not there."""
    keys: set[str] = set()
    for table in ("ticks", "books"):
        keys |= {path.stem for path in parquet_path(archive_dir, table, day, "_").parent.glob("*.parquet")}
    found = {key: read_manifest(archive_dir, key) for key in sorted(keys)}
    mine = {key: manifest for key, manifest in found.items() if manifest is not None}
    filled = [manifest["config"] for manifest in mine.values() if manifest["source"] == BACKFILL]
    return {
        "segments": {key: manifest["multiset_sum"] for key, manifest in mine.items()},
        "answers": sorted({digest for config in filled for digest in config.get("answers", ())}),
        "gap_report": _sha256(reports_dir / "gaps" / f"{day}.json"),
        "quotes": _sha256(quotes_path(market_dir, day)),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def certificate_path(reports_dir: Path, day: date) -> Path:
    return reports_dir / "certificates" / f"{day}.json"


def write_certificates(made: Certificates, reports_dir: Path) -> Path:
    """`certificates/<day>.json`, whole or not at all; the same certificates give the same bytes."""
    contents = asdict(made) | {"summary": made.summary()}
    for one in contents["certificates"]:
        for place in (*one["windows"], *one["book_holes"]):
            for name in ("start_ns", "end_ns"):
                place[name] = None if place[name] == ABSENT_I64 else place[name]
    rendered = orjson.dumps(contents, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    return write_durably(certificate_path(reports_dir, made.trading_day), rendered)


# For people


def describe(made: Certificates) -> str:
    """A table, worst first, and what it comes to."""
    total = made.summary()
    lines = [
        f"Certificates of trading day {made.trading_day}: {total['proven']:,} proven, {total['short']:,} short of "
        f"{total['lots_missing']:,} lots, {total['unprovable']:,} unprovable",
        f"sessions closed: {', '.join(made.sessions_closed) or 'none'}; books with known holes, which never come back: "
        f"{total['with_book_holes']:,}",
        "",
    ]
    rank = {SHORT: 0, UNPROVABLE: 1, PROVEN: 2}
    worst = sorted(
        made.certificates,
        key=lambda one: (rank[one.verdict], -(one.lots_missing or 0), one.code, one.session, one.lane),
    )
    names = ("verdict", "code", "session", "lane", "lots", "backfilled", "missing", "books", "why")
    rows = [names, *map(_line, worst[:SHOWN_MAX])]
    widths = [max(len(row[at]) for row in rows) for at in range(len(names))]
    numeric = {"lots", "backfilled", "missing"}
    for row in rows:
        cells = [
            cell.rjust(w) if n in numeric else cell.ljust(w) for cell, w, n in zip(row, widths, names, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(len(lines) - len(rows) + 1, "  ".join("─" * width for width in widths))
    return "\n".join(lines + ([f"… and {len(worst) - SHOWN_MAX} more"] if len(worst) > SHOWN_MAX else []))


def _line(one: Certificate) -> tuple[str, ...]:
    why = "; ".join(one.reasons) or "; ".join(dict.fromkeys(window.reason for window in one.windows))
    why = why if len(why) <= REASON_WIDTH_MAX else f"{why[: REASON_WIDTH_MAX - 1]}…"
    missing = "?" if one.lots_missing is None else f"{one.lots_missing:,}"
    books = one.books.replace("_", " ")
    return (
        one.verdict, one.code, one.session, one.lane, f"{one.lots:,}", f"{one.lots_backfilled:,}", missing, books, why
    )  # fmt: skip
