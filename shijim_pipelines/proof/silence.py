"""Holes that no total can show: a code silent for far longer than its own pace explains, books silent while it trades.

    silence       no trade, no book, no trial match of a code whose trades carry no total (imports)
    book_silence  no book of a code while many of its trades print; of every source

Not a judge of trades that carry a total, whatever the silence between them: continuity is. A silence counts without the
time that a known outage or a trial match takes of it. Events outside the sessions are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shijim_live.calendar import MINUTE_NS, SECOND_NS, Market, Session, session_bounds, trial_lane_by_clock
from shijim_live.events import ABSENT_I64, Lane
from shijim_live.instruments import UnknownInstrument, expiry, instrument
from shijim_pipelines.placement import SESSIONS
from shijim_pipelines.proof.day_segments import Outage
from shijim_pipelines.proof.ends import market_of
from shijim_pipelines.proof.gap_report import Gap, Metadata, SessionKey, lane_name
from shijim_pipelines.proof.row_groups import NOWHERE, Columns, RowGroup, Sight, read, read_made, sights
from shijim_pipelines.proof.volume import Judged

# The longest quiet of a front month that was no hole: 47 s at the open of a night, in 60 hours of real recordings.
SILENCE_NS_MIN: Final = 60 * SECOND_NS
# Events that the code's own pace would have brought. Real holes of 333 to 808 s: 1,600 to 4,600; the 47 s: 180.
EVENTS_MIN: Final = 300
# Of a code of which only trades are known: they come in sweeps, and rest while nobody wants to trade.
EVENTS_WITHOUT_BOOKS_MIN: Final = 3_000
# Pace: the median of as many minutes on either side as the silence has, at least the first; a side that has fewer than
# the second (next to an open or a close) says nothing. The slower side counts.
PACE_MINUTES_MIN: Final = 10
SIDE_MINUTES_MIN: Final = 5
# Trades during a silence of books, and the books that the code's own books per trade would have brought with them. The
# most trades ever printed between two books of a real front month: 87, within 0.2 s.
TRADES_MIN: Final = 100
BOOKS_MIN: Final = 100
# An expiring contract stops 15 minutes before the others.
EXPIRING_EARLIER_NS: Final = 15 * MINUTE_NS

_COLUMNS: Final = ("code", "session", "lane", "outside", "exchange_ns")
_MINUTES: Final = 30 * 24 * 60  # from the first open of a trading day: a night before long holidays and its day
_KINDS: Final = 2  # other, main: trades of the board, books but those of odd lots

Int64s = NDArray[np.int64]
Span = tuple[int, int]  # ns


@dataclass(frozen=True, slots=True)
class _Minutes:
    """Events by cell (code, session, kind, minute): the first and last stamp and how many."""

    cell: Int64s
    first_ns: Int64s
    last_ns: Int64s
    count: Int64s

    def of(self, first: int, beyond: int) -> _Minutes:
        """Cells [first, beyond) of joined ones, counted from the first."""
        chosen = slice(*np.searchsorted(self.cell, (first, beyond)).tolist())
        return _Minutes(self.cell[chosen] - first, self.first_ns[chosen], self.last_ns[chosen], self.count[chosen])


@dataclass(frozen=True, slots=True)
class _Session:
    """What a code did in one session."""

    code: str
    session: str
    open_ns: int
    end_ns: int  # the close, or the last event where the session is not over
    first_minute: int
    edges: bool  # whether its hours are known, so that a late start and an early stop can be told
    over: bool
    excused: tuple[Span, ...]  # known outages and trial matching, apart and in order
    events: _Minutes  # of any kind
    books: _Minutes
    trades: _Minutes


@dataclass(frozen=True, slots=True)
class _Hole:
    seen: _Session
    gap_type: str
    start_ns: int
    end_ns: int
    number: int  # events or trades that should have had company


def holes(
    source: str,
    books: Sequence[RowGroup],
    judged: Judged,
    day: date,
    outages: Sequence[Outage],
    sessions: Mapping[SessionKey, bool],
) -> list[Gap]:
    """Silences of one source, from its books and its judged trades; `sessions` says which are over."""
    groups = {"books": books, "ticks": judged.groups}
    proven = {(code, session) for (code, _, session), tally in judged.tallies.items() if tally.judged}
    if not books and all((code, session) in proven for code, _, session in judged.tallies):
        return []
    origin_ns = session_bounds(day, Market.FUTURES)[0].open_ns
    number: dict[str, int] = {}
    minutes = {table: _minutes(groups[table], origin_ns, number) for table in groups}
    with_books = {SESSIONS[at] for at in np.unique(minutes["books"].cell // _MINUTES // _KINDS % len(SESSIONS))}
    futures = {code: tally.futures for (code, _, _), tally in judged.tallies.items()}
    found: list[_Hole] = []
    for code in sorted(number):
        for session in SESSIONS:
            market = _market(futures, code, session)
            place = number[code] * len(SESSIONS) + SESSIONS.index(session)
            if (market, session) not in sessions:
                continue
            seen = _session(code, session, market, day, minutes, place, outages, sessions[market, session])
            found += [] if (code, session) in proven else _silences(seen)
            found += _book_silences(seen) if session in with_books else []
    return [_gap(groups, source, hole) for hole in found]


def _market(futures: Mapping[str, bool], code: str, session: str) -> Market:
    if code in futures:
        return Market.FUTURES if futures[code] else Market.STOCK
    return market_of(code, session)


# Events by the minute


def _minutes(groups: Sequence[RowGroup], origin_ns: int, number: dict[str, int]) -> _Minutes:
    """Of all row groups; `number` is given to codes as they are met."""
    parts = []
    width = len(SESSIONS) * _KINDS * _MINUTES  # cells of a code
    for _, (codes, part) in read_made(groups, _COLUMNS, partial(_minutes_of, origin_ns)):
        numbers = np.array([number.setdefault(code, len(number)) for code in codes], np.int64)
        cell = part.cell % width + numbers[part.cell // width] * width if len(part.cell) else part.cell
        parts.append(_Minutes(cell, part.first_ns, part.last_ns, part.count))
    return _joined(parts)


def _minutes_of(origin_ns: int, group: RowGroup, columns: Columns) -> tuple[tuple[str, ...], _Minutes]:
    """Of one row group, codes by their index in it. Rows of a code lie together, so that runs of a cell are long."""
    lane, stamps = columns["lane"], columns["exchange_ns"]
    minute = (stamps - origin_ns) // MINUTE_NS
    chosen = ~columns["outside"] & (stamps != ABSENT_I64) & (minute >= 0) & (minute < _MINUTES)
    main = lane == Lane.BOARD if group.table == "ticks" else lane != Lane.ODD
    place = (columns["code"].astype(np.int64) * len(SESSIONS) + columns["session"]) * _KINDS + main
    cell = place * _MINUTES + minute
    if not chosen.all():
        cell, stamps = cell[chosen], stamps[chosen]
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    if not len(starts):
        return columns.codes, _NONE
    count = np.diff(starts, append=len(cell))
    first_ns, last_ns = np.minimum.reduceat(stamps, starts), np.maximum.reduceat(stamps, starts)
    return columns.codes, _Minutes(cell[starts], first_ns, last_ns, count)


def _joined(parts: Sequence[_Minutes]) -> _Minutes:
    """In order, each cell once."""
    names = ("cell", "first_ns", "last_ns", "count")
    cell, first_ns, last_ns, count = (
        np.concatenate([getattr(_NONE, name), *(getattr(part, name) for part in parts)]) for name in names
    )
    if not len(cell):
        return _NONE
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    bounds = (np.minimum.reduceat(first_ns[order], starts), np.maximum.reduceat(last_ns[order], starts))
    return _Minutes(cell[order][starts], *bounds, np.add.reduceat(count[order], starts))


_NONE: Final = _Minutes(*(np.zeros(0, np.int64) for _ in range(4)))


# One code's session


def _session(
    code: str,
    session: str,
    market: Market,
    day: date,
    minutes: Mapping[str, _Minutes],
    place: int,
    outages: Sequence[Outage],
    over: bool,
) -> _Session:
    other, main = place * _KINDS * _MINUTES, (place * _KINDS + 1) * _MINUTES
    kinds = {name: [known.of(at, at + _MINUTES) for at in (other, main)] for name, known in minutes.items()}
    events = _joined([*kinds["books"], *kinds["ticks"]])
    bound = next(bound for bound in session_bounds(day, market) if bound.session == session)
    last_ns = int(events.last_ns[-1]) if len(events.cell) else bound.open_ns
    close_ns = bound.close_ns - EXPIRING_EARLIER_NS * (session == Session.DAY and _expires(code, day))
    away = [(outage.begin_ns, outage.end_ns) for outage in outages if outage.concerns(code)]
    return _Session(
        code=code,
        session=session,
        open_ns=bound.open_ns,
        end_ns=max(close_ns, last_ns) if over else last_ns,
        first_minute=(bound.open_ns - session_bounds(day, Market.FUTURES)[0].open_ns) // MINUTE_NS,
        edges=_hours_known(code),
        over=over,
        excused=_apart([*away, *_trial_spans(day, market, session)]),
        events=events,
        books=kinds["books"][1],
        trades=kinds["ticks"][1],
    )


def _hours_known(code: str) -> bool:
    """Currency, gold and single-stock futures open their night later than the index futures."""
    try:
        return bool(instrument(code))
    except UnknownInstrument:
        return False


def _expires(code: str, day: date) -> bool:
    try:
        return expiry(code, day) == day
    except UnknownInstrument:
        return False  # a stock, or a continuous name


@cache
def _trial_spans(day: date, market: Market, session: str) -> tuple[Span, ...]:
    """Minutes of trial matching within a session: no trade, and of some sources no event at all."""
    bound = next(bound for bound in session_bounds(day, market) if bound.session == session)
    minutes = range(bound.open_ns, bound.close_ns, MINUTE_NS)
    return tuple((ns, ns + MINUTE_NS) for ns in minutes if trial_lane_by_clock(ns, market))


def _apart(spans: Sequence[Span]) -> tuple[Span, ...]:
    found: list[Span] = []
    for begin_ns, end_ns in sorted(spans):
        if found and begin_ns <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end_ns))
        else:
            found.append((begin_ns, end_ns))
    return tuple(found)


def _quiet(seen: _Session, events: _Minutes) -> list[Span]:
    """Spans without any of these events, the open and the close standing for an event; SILENCE_NS_MIN or longer."""
    before = [seen.open_ns] if seen.edges else []
    after = [seen.end_ns] if seen.edges or not seen.over else []
    starts = np.concatenate([np.array(before, np.int64), events.last_ns])
    ends = np.concatenate([events.first_ns, np.array(after, np.int64)])
    if not seen.edges:  # the first event begins nothing, and in a session that is over the last one ends nothing
        ends = ends[1:]
        starts = starts[: len(ends)]
    long = ends - starts >= SILENCE_NS_MIN
    return list(zip(starts[long].tolist(), ends[long].tolist(), strict=True))


def _lasting_ns(seen: _Session, start_ns: int, end_ns: int) -> int:
    """How long a silence is without what excuses it."""
    overlaps = (min(end_ns, end) - max(start_ns, begin) for begin, end in seen.excused)
    return end_ns - start_ns - sum(overlap for overlap in overlaps if overlap > 0)


def _silences(seen: _Session) -> list[_Hole]:
    if not len(seen.events.cell):
        return []
    floor = EVENTS_MIN if len(seen.books.cell) else EVENTS_WITHOUT_BOOKS_MIN
    most = int(seen.events.count.max())  # of a minute: what cannot be enough at this pace is passed over
    counts = np.zeros((seen.end_ns - seen.open_ns) // MINUTE_NS + 1, np.int64)
    minute = seen.events.cell - seen.first_minute
    counts[minute] = seen.events.count
    found = []
    for start_ns, end_ns in _quiet(seen, seen.events):
        lasting_ns = _lasting_ns(seen, start_ns, end_ns)
        if lasting_ns < SILENCE_NS_MIN or most * lasting_ns < floor * MINUTE_NS:
            continue
        first, last = ((ns - seen.open_ns) // MINUTE_NS for ns in (start_ns, end_ns))
        expected = _pace(counts, first, last) * lasting_ns // MINUTE_NS
        if expected >= floor:
            found.append(_Hole(seen, "silence", start_ns, end_ns, expected))
    return found


def _pace(counts: Int64s, first: int, last: int) -> int:
    """Events a minute around the minutes from `first` to `last`: the median of the slower side."""
    width = max(PACE_MINUTES_MIN, last - first)
    sides = (counts[max(first - width, 0) : first], counts[last + 1 : last + 1 + width])
    medians = [int(np.sort(side)[(len(side) - 1) // 2]) for side in sides if len(side) >= SIDE_MINUTES_MIN]
    return min(medians, default=0)


def _book_silences(seen: _Session) -> list[_Hole]:
    traded = int(seen.trades.count.sum())
    if traded < TRADES_MIN:
        return []
    books = int(seen.books.count.sum())
    found = []
    for start_ns, end_ns in _quiet(seen, seen.books):
        if _lasting_ns(seen, start_ns, end_ns) < SILENCE_NS_MIN:
            continue
        within = (seen.trades.first_ns > start_ns) & (seen.trades.last_ns < end_ns)
        trades = int(seen.trades.count[within].sum())
        # A code without a single book has no ratio of its own; others of its source have books.
        expected = books * trades // max(traded - trades, 1) if books else BOOKS_MIN
        if trades >= TRADES_MIN and expected >= BOOKS_MIN:
            found.append(_Hole(seen, "book_silence", start_ns, end_ns, trades))
    return found


# What stands on both sides


def _gap(groups: Mapping[str, Sequence[RowGroup]], source: str, hole: _Hole) -> Gap:
    seen, lasting_s = hole.seen, (hole.end_ns - hole.start_ns) // SECOND_NS
    of_books = hole.gap_type == "book_silence"
    tables = ["books"] if of_books else ["books", "ticks"]
    events = seen.books if of_books else seen.events
    reason = f"silent {lasting_s:,} s; its pace: {hole.number:,} events"
    if of_books:
        reason = f"no book for {lasting_s:,} s of {hole.number:,} trades"
    late = not len(events.cell) or hole.start_ns < int(events.first_ns[0])
    early = not len(events.cell) or hole.end_ns > int(events.last_ns[-1])
    beside = {at: NOWHERE if edge else _beside(groups, tables, seen, at, at == hole.start_ns)
              for at, edge in ((hole.start_ns, late), (hole.end_ns, early))}  # fmt: skip
    before, after = beside[hole.start_ns], beside[hole.end_ns]
    metadata: Metadata = {
        "source": source,
        "session": seen.session,
        "run_id_before": before.run_id,
        "run_id_after": after.run_id,
        "exchange_ns_before": before.exchange_ns,
        "exchange_ns_after": after.exchange_ns,
        "trades" if of_books else "events_expected": hole.number,
    }
    cause = "late_start" if late else "early_stop" if early else "feed_loss"
    start_ns = hole.start_ns if late else before.clock_ns
    end_ns = hole.end_ns if early else after.clock_ns
    bounds = (before.sequence, after.sequence, start_ns, end_ns)
    return Gap(hole.gap_type, seen.code, lane_name(Lane.BOARD), *bounds, 0, cause, reason, metadata)


def _beside(
    groups: Mapping[str, Sequence[RowGroup]], tables: Sequence[str], seen: _Session, exchange_ns: int, before: bool
) -> Sight:
    """The event with this stamp; of several the last before a silence, the first after it."""
    found: list[Sight] = []
    for table in tables:
        rows = []
        near = [group for group in groups[table] if group.may_hold(exchange_ns)]
        for group, columns in read(near, ("code", "outside", "exchange_ns")):
            if seen.code in columns.codes:
                mine = columns["code"] == columns.codes.index(seen.code)
                hits = np.flatnonzero(mine & ~columns["outside"] & (columns["exchange_ns"] == exchange_ns))
                rows += (hits + group.first_row).tolist()
        found += sights(groups[table], rows).values()
    return sorted(found, key=lambda sight: (sight.clock_ns, sight.sequence))[-1 if before else 0]
