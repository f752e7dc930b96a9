"""Which events of a log are asked for: code, kind, time, sequence, how many. Reads the command line's words, no log.

A time is our clock's, or the exchange's where a source has no receive time (an import). With a date it is an instant;
without one it is meant of every day, and from 22:00 until 02:00 is a night.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time

from shijim_live.calendar import DAY_NS, TAIPEI_OFFSET_NS, to_exchange_ns
from shijim_live.events import ABSENT_I64, HEADER_STRUCT, RECORD_BYTES, Book, Kind, Status, Trade

KINDS = {kind.name.lower(): int(kind) for kind in Kind}
SEQUENCE_MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant, or a time of every day: ns since the epoch, UTC, or since midnight in Taipei."""

    ns: int
    daily: bool


def moment(text: str) -> Moment:
    """The type of an option that is a time."""
    try:
        if re.match(r"\d{4}-\d{2}-\d{2}", text) is None:
            clock = time.fromisoformat(text)
            if clock.tzinfo is not None:
                raise ValueError
            seconds = (clock.hour * 60 + clock.minute) * 60 + clock.second
            return Moment((seconds * 1_000_000 + clock.microsecond) * 1_000, daily=True)
        stamp = datetime.fromisoformat(text)
        offset = stamp.utcoffset()
        wall_ns = to_exchange_ns(stamp.replace(tzinfo=None))
        if offset is None:
            return Moment(wall_ns, daily=False)
        offset_ns = (offset.days * 86_400 + offset.seconds) * 1_000_000_000
        return Moment(wall_ns + TAIPEI_OFFSET_NS - offset_ns, daily=False)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 09:00 or 09:00:05.5 for that time of every day in Taipei, 2026-04-09T09:00 "
            "for one day in Taipei, or an ISO stamp with its offset, like 2026-04-09T01:00Z"
        ) from None


def sequences(text: str) -> tuple[int, int]:
    """The type of an option that is a range of sequences, both ends included."""
    matched = re.fullmatch(r"(\d+)(-(\d*))?", text, re.ASCII)
    first = int(matched[1]) if matched else 0
    last = int(matched[3] or SEQUENCE_MAX) if matched and matched[2] else first
    if matched is None or not first <= last <= SEQUENCE_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no range of sequences: write 100-200, 100- or 100")
    return first, last


@dataclass(frozen=True, slots=True)
class Choice:
    """Which events to show; None does not choose. `start` is included, `end` is not."""

    symbol: str | None = None
    kind: str | None = None
    limit: int | None = None
    start: Moment | None = None
    end: Moment | None = None
    sequence: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.start and self.end:
            if self.start.daily != self.end.daily:
                raise ValueError("--from and --until: give both a date, or neither")
            if self.start.ns == self.end.ns or (not self.daily and self.start.ns > self.end.ns):
                raise ValueError("--until is not behind --from: nothing lies between them")

    @property
    def timed(self) -> bool:
        return self.start is not None or self.end is not None

    @property
    def daily(self) -> bool:
        return any(moment.daily for moment in (self.start, self.end) if moment)

    def within(self, stamp_ns: int) -> bool:
        """Whether a time was asked for; no time lies within a window."""
        if not self.timed:
            return True
        if stamp_ns == ABSENT_I64:
            return False
        at = (stamp_ns + TAIPEI_OFFSET_NS) % DAY_NS if self.daily else stamp_ns
        behind = self.start is None or at >= self.start.ns
        before = self.end is None or at < self.end.ns
        over_midnight = self.daily and self.start is not None and self.end is not None and self.start.ns > self.end.ns
        return behind or before if over_midnight else behind and before

    def events(self, events: Iterator[Trade | Book | Status]) -> Iterator[Trade | Book | Status]:
        """Those that were asked for, up to the limit."""
        kind = KINDS[self.kind] if self.kind else None
        first, last = self.sequence or (0, SEQUENCE_MAX)
        count = 0
        for event in events:
            if (self.symbol and event.code != self.symbol) or (kind is not None and event.kind != kind):
                continue
            if not first <= event.sequence <= last or not self.within(stamp_ns(event.received_ns, event.exchange_ns)):
                continue
            yield event
            count += 1
            if count == self.limit:
                return

    def records(self, chunk: bytes) -> bytes:
        """Those of whole records that were asked for, side records like any other; the limit is not looked at."""
        if not (self.symbol or self.kind or self.timed or self.sequence):
            return chunk
        places = range(0, len(chunk), RECORD_BYTES)
        return b"".join(chunk[at : at + RECORD_BYTES] for at in places if self._wants(chunk, at))

    def _wants(self, chunk: bytes, at: int) -> bool:
        kind, _, _, _, _, sequence, exchange_ns, received_ns, code, *_ = HEADER_STRUCT.unpack_from(chunk, at)
        first, last = self.sequence or (0, SEQUENCE_MAX)
        return (
            (not self.kind or kind == KINDS[self.kind])
            and (not self.symbol or code.rstrip(b"\0") == self.symbol.encode())
            and first <= sequence <= last
            and self.within(stamp_ns(received_ns, exchange_ns))
        )

    def may_be_in(self, footer: Mapping[str, object]) -> bool:
        """Whether a sealed segment can hold anything that was asked for, by what its footer says."""
        if self.sequence is not None:
            first, last = int(str(footer["first_sequence"])), int(str(footer["last_sequence"]))
            if last < self.sequence[0] or first > self.sequence[1]:
                return False
        ranges = [found for name in ("received_ns", "exchange_ns") if isinstance(found := footer[name], list)]
        if self.daily or not self.timed:
            return True
        after = self.end is not None and all(low >= self.end.ns for low, _ in ranges)
        return not after and not (self.start is not None and all(high < self.start.ns for _, high in ranges))


def stamp_ns(received_ns: int, exchange_ns: int) -> int:
    """What a time is compared with."""
    return exchange_ns if received_ns == ABSENT_I64 else received_ns
