"""Where a record belongs: its trading day, session, whether outside of it, and whether it repeats. Writes nothing.

Placed by the exchange stamp; by the receive time where the source has none (statuses); by the events around it where
neither is known or believable (an import's start and stop, garbage the broker's decoder answered).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rust_indicators import ChunkMarks, RecordMarks
from shijim_live.calendar import FIRST_YEAR, MINUTE_NS, Market, Session, in_session, to_exchange_ns, window_trading_day
from shijim_live.calendar import session_window as calendar_window
from shijim_live.events import ABSENT_I64, BrokerClass, Exchange
from shijim_live.store.schema import TABLES, Rows, record_dtype, unknown_kind

# Stamps outside these years are not placed by: the broker's decoder answers garbage with the year 2000.
YEARS: Final = (FIRST_YEAR, 2100)
SESSIONS: Final = (Session.NIGHT.value, Session.DAY.value)
_FUTURES_EXCHANGES: Final = (Exchange.TAIFEX, Exchange.TIM)
_FUTURES_CLASSES: Final = (BrokerClass.TICK_FOP_V1, BrokerClass.BIDASK_FOP_V1)
BELIEVABLE_NS: Final = (to_exchange_ns(datetime(YEARS[0], 1, 2)), to_exchange_ns(datetime(YEARS[1], 1, 2)))  # noqa: DTZ001
_UNKNOWN: Final = RecordMarks.UNKNOWN_MINUTE >> 1

Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Unplaceable(ValueError):
    """No record of the segment says when it happened, so no trading day is known."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Rows of one table and trading day, sorted by code, then sequence."""

    table: str
    trading_day: date
    records: Rows  # the chunk they come from
    order: Int64s  # which of its records they are, in their order
    session: NDArray[np.int32]  # index into SESSIONS
    outside: Bools
    duplicate: Bools

    @property
    def rows(self) -> Rows:
        """Copied."""
        return self.records[self.order].view(record_dtype(self.table))


class Placement:
    """Places the records of one segment, chunk by chunk; remembers what a repeat in the next chunk is judged by."""

    def __init__(self, when_unknown_ns: int = ABSENT_I64, first_sequence: int = 1) -> None:
        """`when_unknown_ns` places what comes before the first record with a stamp, if nothing after it does."""
        self._marks = RecordMarks(BELIEVABLE_NS, first_sequence)
        believable = BELIEVABLE_NS[0] <= when_unknown_ns < BELIEVABLE_NS[1]
        self._last_minute = when_unknown_ns // MINUTE_NS if believable else _UNKNOWN

    def place(self, records: bytes | NDArray[np.uint8]) -> Iterator[Placed]:
        """Every record exactly once. Raises Unplaceable, UnknownRecord."""
        if not len(records):
            return
        rows = np.frombuffer(records, record_dtype("statuses"))
        marks = self._marks.mark(records)
        if marks.unknown_kind is not None:
            raise unknown_kind(marks.unknown_kind)
        minutes, minute_of = self._known_minutes(marks)
        days, sessions, outside = _place_minutes(minutes)
        one_day = days[0] if (days == days[0]).all() else None
        for table, order in zip(TABLES, marks.orders, strict=True):
            if not len(order):
                continue
            minute = minute_of[order]
            for day in [one_day] if one_day is not None else np.unique(days[minute]):
                chosen = slice(None) if one_day is not None else days[minute] == day
                mine, when = order[chosen], minute[chosen]
                placed = (rows, mine, sessions[when], outside[when] | marks.strange[mine], marks.repeated[mine])
                yield Placed(table, date.fromordinal(int(day)), *placed)

    def missing(self, last: int) -> list[list[int]]:
        """[first, last] of each run of sequences up to `last` that no record placed so far had."""
        return [list(run) for run in self._marks.missing_until(last)]

    def _known_minutes(self, marks: ChunkMarks) -> tuple[Int64s, Int64s]:
        """The chunk's minutes and which of them each record has; an unknown one is that of the record before, at the
        start that of the one after."""
        minutes, minute_of = marks.minutes, marks.minute_of
        unknown = minutes >> 1 == _UNKNOWN
        if unknown.any():
            keys = minutes[minute_of]
            filled = self._fill(keys >> 1, ~unknown[minute_of])
            minutes, minute_of = np.unique(filled * 2 + (keys & 1), return_inverse=True)
        self._last_minute = int(minutes[minute_of[-1]] >> 1)
        return minutes, minute_of

    def _fill(self, when: Int64s, known: Bools) -> Int64s:
        places = np.where(known, np.arange(len(when)), -1)
        places = np.maximum.accumulate(places)
        filled: Int64s = when[np.maximum(places, 0)]
        if places[0] < 0:
            if self._last_minute == _UNKNOWN and not known.any():
                raise Unplaceable("no record says when it happened: neither exchange nor receive time is believable")
            filled[places < 0] = when[np.argmax(known)] if known.any() else self._last_minute
        return filled


def _numbers(values: Iterable[int]) -> str:
    return f"({', '.join(str(int(value)) for value in values)})"


# What `continuity.rs` calls futures, as a condition on rows of the lake.
FUTURES_SQL: Final = f"exchange IN {_numbers(_FUTURES_EXCHANGES)} OR broker_class IN {_numbers(_FUTURES_CLASSES)}"


def _place_minutes(minutes: Int64s) -> tuple[NDArray[np.int32], NDArray[np.int32], Bools]:
    """Trading day (proleptic ordinal), session (index), outside. Every edge of the calendar falls on a minute."""
    days = np.empty(len(minutes), np.int32)
    sessions = np.empty(len(minutes), np.int32)
    outside = np.empty(len(minutes), bool)
    for at, key in enumerate(minutes.tolist()):
        market = Market.FUTURES if key % 2 else Market.STOCK
        minute_ns = key // 2 * MINUTE_NS
        window, session = calendar_window(minute_ns, market)
        days[at] = window_trading_day(window, session).toordinal()
        sessions[at] = SESSIONS.index(session.value)
        outside[at] = not in_session(minute_ns, market)
    return days, sessions, outside
