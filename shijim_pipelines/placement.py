"""Where a record belongs: its trading day, session, whether outside of it, and whether it repeats. Writes nothing.

Placed by the exchange stamp; by the receive time where the source has none (statuses); by the events around it where
neither is known or believable (an import's start and stop, garbage the broker's decoder answered).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rust_indicators import BookRepeats, Continuity
from shijim_live.calendar import FIRST_YEAR, MINUTE_NS, Market, Session, in_session, to_exchange_ns, window_trading_day
from shijim_live.calendar import session_window as calendar_window
from shijim_live.events import ABSENT_I64, BrokerClass, Exchange
from shijim_live.store.schema import Rows, check_kinds, code_ranks, gather, masks, record_dtype

# Stamps outside these years are not placed by: the broker's decoder answers garbage with the year 2000.
YEARS: Final = (FIRST_YEAR, 2100)
# Distinct minutes are found through a table of this size at most (7 years of both markets), by sorting beyond it.
MINUTE_TABLE_MAX: Final = 1 << 23

SESSIONS: Final = (Session.NIGHT.value, Session.DAY.value)
_FUTURES_EXCHANGES: Final = (Exchange.TAIFEX, Exchange.TIM)
_FUTURES_CLASSES: Final = (BrokerClass.TICK_FOP_V1, BrokerClass.BIDASK_FOP_V1)
BELIEVABLE_NS: Final = tuple(to_exchange_ns(datetime(year, 1, 2)) for year in YEARS)  # noqa: DTZ001

# What of a record's header is looked at here.
_NEEDED: Final = ("kind", "exchange", "broker_class", "exchange_ns", "received_ns", "code")

Columns = dict[str, NDArray[Any]]
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

    def __init__(self, when_unknown_ns: int = ABSENT_I64) -> None:
        """`when_unknown_ns` places what comes before the first record with a stamp, if nothing after it does."""
        self._continuity = Continuity()
        self._books = BookRepeats()
        believable = bool(_believable(np.array([when_unknown_ns]))[0])
        self._last_ns = when_unknown_ns if believable else ABSENT_I64

    def place(self, records: bytes | NDArray[np.uint8]) -> Iterator[Placed]:
        """Every record exactly once. Raises Unplaceable, UnknownRecord."""
        if not len(records):
            return
        rows = np.frombuffer(records, record_dtype("statuses"))
        headers = gather(rows, "statuses", _NEEDED)
        kinds = headers["kind"]
        check_kinds(kinds)
        days, sessions, outside = self._windows(headers)
        repeated = np.zeros(len(rows), bool)
        found = [index for index, verdict, *_ in self._continuity.observe_records(records) if verdict == "duplicate"]
        repeated[found] = True
        repeated[self._books.observe_records(records)] = True
        ranks = code_ranks(headers["code"])[0].astype(np.uint16)
        for table, mask in masks(kinds).items():
            order = np.flatnonzero(mask)
            order = order[np.argsort(ranks[order], kind="stable")]
            table_days = days[order]
            for day in np.unique(table_days).tolist():
                mine = order[table_days == day]
                placed = (rows, mine, sessions[mine], outside[mine], repeated[mine])
                yield Placed(table, date.fromordinal(day), *placed)

    def _windows(self, headers: Columns) -> tuple[NDArray[np.int32], NDArray[np.int32], Bools]:
        """Per record: trading day (proleptic ordinal), session (index), outside."""
        stamps, received = headers["exchange_ns"], headers["received_ns"]
        stamped = _believable(stamps)
        when = np.where(stamped, stamps, received)
        when = self._fill(when, stamped | _believable(when))
        # What is said of the recording itself belongs to no market; the night is the next trading day's there too.
        futures = is_futures(headers) | (headers["exchange"] == 0)
        days, sessions, outside = _place_minutes(when // MINUTE_NS * 2 + futures)
        return days, sessions, outside | (~stamped & (stamps != ABSENT_I64))

    def _fill(self, when: Int64s, known: Bools) -> Int64s:
        """Unknown times taken from the record before, at the start from the one after."""
        places = np.where(known, np.arange(len(when)), -1)
        places = np.maximum.accumulate(places)
        filled: Int64s = when[np.maximum(places, 0)]
        if places[0] < 0:
            if self._last_ns == ABSENT_I64 and not known.any():
                raise Unplaceable("no record says when it happened: neither exchange nor receive time is believable")
            filled[places < 0] = when[np.argmax(known)] if known.any() else self._last_ns
        self._last_ns = int(filled[-1])
        return filled


def is_futures(rows: Rows | Columns) -> Bools:
    """Whether each row is of the futures exchange; the twin of `continuity.rs`."""
    return np.isin(rows["exchange"], _FUTURES_EXCHANGES) | np.isin(rows["broker_class"], _FUTURES_CLASSES)


def _numbers(values: Iterable[int]) -> str:
    return f"({', '.join(str(int(value)) for value in values)})"


# The same as a condition on rows of the lake.
FUTURES_SQL: Final = f"exchange IN {_numbers(_FUTURES_EXCHANGES)} OR broker_class IN {_numbers(_FUTURES_CLASSES)}"


def _believable(stamps: Int64s) -> Bools:
    return (stamps >= BELIEVABLE_NS[0]) & (stamps < BELIEVABLE_NS[1])


def _place_minutes(keys: Int64s) -> tuple[NDArray[np.int32], NDArray[np.int32], Bools]:
    """Keys are 2 × minutes since the epoch + (1 for futures); every edge of the calendar falls on a minute."""
    first, span = int(keys.min()), int(keys.max() - keys.min()) + 1
    if span <= MINUTE_TABLE_MAX:
        present = np.zeros(span, bool)
        present[keys - first] = True
        distinct = np.flatnonzero(present) + first
        place = np.cumsum(present, dtype=np.int32) - 1
        inverse = place[keys - first]
    else:
        distinct, order = np.unique(keys, return_inverse=True)
        inverse = order.astype(np.int32)
    days = np.empty(len(distinct), np.int32)
    sessions = np.empty(len(distinct), np.int32)
    outside = np.empty(len(distinct), bool)
    for at, key in enumerate(distinct.tolist()):
        market = Market.FUTURES if key % 2 else Market.STOCK
        minute_ns = key // 2 * MINUTE_NS
        window, session = calendar_window(minute_ns, market)
        days[at] = window_trading_day(window, session).toordinal()
        sessions[at] = SESSIONS.index(session.value)
        outside[at] = not in_session(minute_ns, market)
    return days[inverse], sessions[inverse], outside[inverse]
