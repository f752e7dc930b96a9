"""Recorded runs: what one recorder wrote in one go, as records again, and which part of it is asked for. Not a feed.

Those of the log are here; those of the archive, which is Parquet, in `shijim_live.store.archived`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

from shijim_live.calendar import FIRST_YEAR, MINUTE_NS, Market, to_exchange_ns, trading_day
from shijim_live.events import ABSENT_I64, RECORD_BYTES, BrokerClass, Exchange
from shijim_live.record import wal

NEVER_NS: Final = 2**63 - 1  # behind every stamp
MINUTES_REMEMBERED: Final = 20_000  # whose trading day is known: a week of both markets

_WORDS: Final = RECORD_BYTES // 8
_EXCHANGE_WORD, _RECEIVED_WORD = 2, 3  # of a record
_CLASS_BYTE, _EXCHANGE_BYTE = 1, 3
# As in the archive: what is said of the recording itself is of no exchange, and goes with the futures' night.
_FUTURES_EXCHANGES: Final = (0, Exchange.TAIFEX, Exchange.TIM)
_FUTURES_CLASSES: Final = (BrokerClass.TICK_FOP_V1, BrokerClass.BIDASK_FOP_V1)
# Stamps outside place nothing: the broker's decoder answers garbage with the year 2000.
_BELIEVABLE_NS: Final = tuple(to_exchange_ns(datetime(year, 1, 2)) for year in (FIRST_YEAR, 2100))  # noqa: DTZ001


class NothingToReplay(ValueError):
    """What was asked for is not there; the text says what is."""


@dataclass(frozen=True, slots=True)
class Window:
    """From `start_ns` on and before `end_ns`, by our clock; by the exchange's where there is no receive time."""

    start_ns: int = ABSENT_I64
    end_ns: int = NEVER_NS

    def misses(self, first_ns: int, last_ns: int) -> bool:
        """Whether nothing between the two, both included, lies within."""
        return last_ns < self.start_ns or first_ns >= self.end_ns


class Run(Protocol):
    """What one recorder recorded in one go, or one import."""

    @property
    def source(self) -> str: ...
    @property
    def names(self) -> tuple[str, ...]:
        """Of its files."""

    @property
    def span_ns(self) -> tuple[int, int]:
        """No record of it is earlier or later; any time where nobody has counted."""

    @property
    def codes(self) -> frozenset[str] | None:
        """None where nobody has counted."""

    def chunks(self, window: Window) -> Iterator[bytes]:
        """Whole records in order of sequence; what lies outside of the window may be left out."""


@dataclass(frozen=True, slots=True)
class SegmentRun:
    """A run in the log."""

    headers: tuple[wal.SegmentHeader, ...]
    footers: tuple[dict[str, object] | None, ...]
    day: date | None = None  # only what is of this trading day

    @property
    def source(self) -> str:
        return self.headers[0].source

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(header.path.name for header in self.headers)

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(header.path for header in self.headers)

    @property
    def span_ns(self) -> tuple[int, int]:
        spans = [
            span(footer) if footer or header.clock == "absent" else (header.created_ns, NEVER_NS)
            for header, footer in zip(self.headers, self.footers, strict=True)
        ]
        return min(first for first, _ in spans), max(last for _, last in spans)

    @property
    def codes(self) -> frozenset[str] | None:
        return counted_codes(self.footers)

    def chunks(self, window: Window) -> Iterator[bytes]:
        """WalError behind a segment with corrupt stretches: the rest would be recorded as if nothing missed."""
        of_the_day = None if self.day is None else _OfTheDay(self.day)
        for header, footer in zip(self.headers, self.footers, strict=True):
            if window.misses(*span(footer)):
                continue
            problems: list[str] = []
            for chunk in wal.records(header.path, problems):
                yield chunk if of_the_day is None else of_the_day.rows(chunk)
            if problems:
                raise wal.WalError(f"the replay stops: {problems[0]}")


def span(footer: dict[str, object] | None) -> tuple[int, int]:
    """When what a segment holds was received, first and last; any time where that is not known."""
    for name in ("received_ns", "exchange_ns"):
        found = (footer or {}).get(name)
        if isinstance(found, list):
            return int(found[0]), int(found[1])
    return ABSENT_I64, NEVER_NS


def counted_codes(footers: Collection[dict[str, object] | None]) -> frozenset[str] | None:
    """What sealed segments hold; None where one is not sealed and nobody has counted."""
    found: set[str] = set()
    for footer in footers:
        codes = (footer or {}).get("codes")
        if not isinstance(codes, dict):
            return None
        found |= codes.keys()
    return frozenset(found)


def segment_runs(place: Path, day: date | None = None) -> list[SegmentRun]:
    """The runs in a wal folder, or the one segment; with a trading day what may hold something of it.

    WalError when there are none, or one cannot be read; NothingToReplay when none holds the day.
    """
    by_run: dict[str, list[tuple[wal.SegmentHeader, dict[str, object] | None]]] = {}
    for path in wal.existing_segments(place):
        header, footer = wal.read_header(path), wal.footer(path)
        if day is None or _may_hold(footer, day):
            by_run.setdefault(header.run_id, []).append((header, footer))
    if not by_run:
        raise NothingToReplay(f"{place}: no segment holds anything of trading day {day}")
    runs = []
    for found in by_run.values():
        headers, footers = zip(*sorted(found, key=lambda pair: pair[0].segment), strict=True)
        runs.append(SegmentRun(headers, footers, day))
    return runs


def _may_hold(footer: dict[str, object] | None, day: date) -> bool:
    """Whether a segment can hold anything of a trading day, by what its footer says."""
    low, high = _BELIEVABLE_NS
    ranges = [found for name in ("exchange_ns", "received_ns") if isinstance(found := (footer or {}).get(name), list)]
    if not ranges:
        return True
    first_ns, last_ns = (
        min(max(low, int(edge(found[at] for found in ranges))), high) for at, edge in ((0, min), (1, max))
    )
    return trading_day(first_ns, Market.STOCK) <= day <= trading_day(last_ns, Market.FUTURES)


class _OfTheDay:
    """Keeps what belongs to one trading day, by the rules of the archive."""

    def __init__(self, day: date) -> None:
        self._day = day
        self._last_ns = ABSENT_I64

    def rows(self, chunk: bytes) -> bytes:
        words = memoryview(chunk).cast("q")
        stamped = zip(words[_EXCHANGE_WORD::_WORDS], words[_RECEIVED_WORD::_WORDS], strict=True)
        kinds = zip(chunk[_EXCHANGE_BYTE::RECORD_BYTES], chunk[_CLASS_BYTE::RECORD_BYTES], strict=True)
        places = list(zip(self._minutes(stamped), kinds, strict=True))
        wanted = {place for place in set(places) if _day_of(*place) == self._day}
        if len(wanted) == len(set(places)):
            return chunk
        return picked(chunk, [place in wanted for place in places]) if wanted else b""

    def _minutes(self, stamped: Iterator[tuple[int, int]]) -> Iterator[int]:
        low, high = _BELIEVABLE_NS
        for exchange_ns, received_ns in stamped:
            if low <= exchange_ns < high:
                self._last_ns = exchange_ns
            elif low <= received_ns < high:
                self._last_ns = received_ns
            yield self._last_ns // MINUTE_NS


@lru_cache(MINUTES_REMEMBERED)
def _day_of(minute: int, kind: tuple[int, int]) -> date | None:
    """The trading day of a minute for an exchange and broker class; None for a time nobody knows."""
    futures = kind[0] in _FUTURES_EXCHANGES or kind[1] in _FUTURES_CLASSES
    known = minute >= _BELIEVABLE_NS[0] // MINUTE_NS
    return trading_day(minute * MINUTE_NS, Market.FUTURES if futures else Market.STOCK) if known else None


def picked(chunk: bytes, wanted: list[bool]) -> bytes:
    """The records that are wanted."""
    return b"".join(chunk[at * RECORD_BYTES : (at + 1) * RECORD_BYTES] for at, want in enumerate(wanted) if want)


def stamps(chunk: bytes) -> list[int]:
    """When each record was received; its exchange time where there is no receive time."""
    words = memoryview(chunk).cast("q")
    received = words[_RECEIVED_WORD::_WORDS].tolist()
    if ABSENT_I64 not in received:
        return received
    exchange = words[_EXCHANGE_WORD::_WORDS].tolist()
    return [theirs if ours == ABSENT_I64 else ours for ours, theirs in zip(received, exchange, strict=True)]
