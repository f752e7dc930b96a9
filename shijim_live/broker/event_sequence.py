"""Which numbered order events were missed. Not the events: only their ids.

An id is `v1:FO:<stream>:<reset>:<number>`; numbers rise by one within (stream, reset). Order and deal events are
streams of their own, and whatever else trades on the account numbers its events in the same ones. What was said before
we listened is not said again, so the first number seen is where a stream begins; and nothing tells of a last one that
is missing: only the standing orders do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

# Order events overtake each other: a number is missing only after this long, as in the broker's own application.
PATIENCE_NS: Final = 1_500_000_000
MISSING_RANGES_MAX: Final = 10_000  # of a stream; more were no reordering. The oldest told ones are forgotten

_ID: Final = re.compile(r"v1:(?P<stream>[^:\s]+:[^:\s]+):(?P<reset>[^:\s]+):(?P<number>[0-9]{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class EventId:
    """A place in a stream."""

    stream: str  # with the market in front
    reset: str
    number: int


def event_id(text: str) -> EventId | None:
    """The place that an id names; None for an empty one, as old records have, and for another version's."""
    found = _ID.fullmatch(text)
    return EventId(found["stream"], found["reset"], int(found["number"])) if found else None


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers first to last never came: orders or deals happened that we know nothing of. Ask for standing orders."""

    stream: str
    reset: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class LateEvent:
    """One number of a gap that was told came after all."""

    stream: str
    reset: str
    number: int


@dataclass(frozen=True, slots=True)
class Restarted:
    """A stream counts anew: what it said last and first is not known to be whole. Ask for standing orders."""

    stream: str
    before: str  # the reset until now
    reset: str


Notice = Gap | LateEvent | Restarted


class Place(Enum):
    """What an id says of its event."""

    NEW = "new"
    REPEATED = "repeated"
    UNTRACKED = "untracked"  # an id that is none: nothing can be said


@dataclass(frozen=True, slots=True)
class _Hole:
    first: int
    last: int
    since_ns: int
    told: bool = False


@dataclass(slots=True)
class _Numbers:
    """What has come of one (stream, reset): `first` to `last` without the holes."""

    first: int
    last: int
    holes: list[_Hole]


class EventSequence:
    """Every stream of one connection. One thread; asks no clock."""

    def __init__(self) -> None:
        self._streams: dict[tuple[str, str], _Numbers] = {}
        self._resets: dict[str, str] = {}  # stream → its newest reset
        self._notices: list[Notice] = []

    def take(self, text: str, now_ns: int) -> Place:
        """Notes that an id came."""
        found = event_id(text)
        if found is None:
            return Place.UNTRACKED
        numbers = self._streams.get((found.stream, found.reset))
        if numbers is None:
            before = self._resets.get(found.stream)
            if before is not None:
                self._notices.append(Restarted(found.stream, before, found.reset))
            self._resets[found.stream] = found.reset
            self._streams[found.stream, found.reset] = _Numbers(found.number, found.number, [])
            return Place.NEW
        number = found.number
        if number > numbers.last:
            if number > numbers.last + 1:
                self._open(numbers, _Hole(numbers.last + 1, number - 1, now_ns))
            numbers.last = number
            return Place.NEW
        if number < numbers.first:
            if number < numbers.first - 1:
                self._open(numbers, _Hole(number + 1, numbers.first - 1, now_ns))
            numbers.first = number
            return Place.NEW
        return self._fill(found, numbers)

    def overdue(self, now_ns: int) -> list[Notice]:
        """What is to be told by now: gaps that nobody filled in time, each once, and late events."""
        for (stream, reset), numbers in self._streams.items():
            for place, hole in enumerate(numbers.holes):
                if not hole.told and now_ns - hole.since_ns >= PATIENCE_NS:
                    numbers.holes[place] = replace(hole, told=True)
                    self._notices.append(Gap(stream, reset, hole.first, hole.last))
        told, self._notices = self._notices, []
        return told

    def missing(self) -> list[Gap]:
        """What is missing now, told or not."""
        return [
            Gap(stream, reset, hole.first, hole.last)
            for (stream, reset), numbers in self._streams.items()
            for hole in numbers.holes
        ]

    def _fill(self, found: EventId, numbers: _Numbers) -> Place:
        for place, hole in enumerate(numbers.holes):
            if hole.first <= found.number <= hole.last:
                rest = [replace(hole, last=found.number - 1), replace(hole, first=found.number + 1)]
                numbers.holes[place : place + 1] = [part for part in rest if part.first <= part.last]
                if hole.told:
                    self._notices.append(LateEvent(found.stream, found.reset, found.number))
                return Place.NEW
        return Place.REPEATED

    @staticmethod
    def _open(numbers: _Numbers, hole: _Hole) -> None:
        if len(numbers.holes) >= MISSING_RANGES_MAX:
            oldest = next((place for place, old in enumerate(numbers.holes) if old.told), 0)
            del numbers.holes[oldest]
        numbers.holes.append(hole)
