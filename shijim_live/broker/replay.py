"""A recorded day as a feed: the same records with the same stamps, as fast or as slowly as asked. Not a broker.

Runs are merged by the time they were received, each in its own order: two shards of a day come as they came.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from itertools import accumulate
from typing import Final

from shijim_live.broker.recorded import Run, Window, picked, stamps
from shijim_live.events import ABSENT_I64, RECORD_BYTES, Kind

# Records handed over at once at full speed: one block of the log.
BATCH_RECORDS: Final = 8_192
PAUSE_SECONDS_MAX: Final = 0.2  # so that a stop is quick
_OF_THE_RUN: Final = (Kind.START, Kind.STOP, Kind.GAP)  # a replay is a run of its own: it writes and judges for itself


class _Head:
    """Where the reading of a run stands."""

    def __init__(self, run: Run, window: Window) -> None:
        self._window = window
        self._chunks = run.chunks(window)
        self._last_ns = ABSENT_I64
        self.chunk = b""
        self.keys: list[int] = []  # of each record; never falling, so that a clock that stepped back cannot reorder
        self.at = 0

    @property
    def key(self) -> int:
        return self.keys[self.at]

    def load(self) -> bool:
        """The next records within the window; False when there are none."""
        for chunk in self._chunks:
            found = stamps(chunk)
            if not found or self._window.misses(min(found), max(found)):
                continue
            start_ns, end_ns = self._window.start_ns, self._window.end_ns
            if min(found) < start_ns or max(found) >= end_ns:
                wanted = [start_ns <= stamp < end_ns for stamp in found]
                chunk, found = picked(chunk, wanted), [stamp for stamp in found if start_ns <= stamp < end_ns]
            if found:
                self.chunk, self.at = chunk, 0
                self.keys = list(accumulate(found, max, initial=self._last_ns))[1:]
                self._last_ns = self.keys[-1]
                return True
        return False

    def take(self, limit_ns: int | None) -> bytes:
        """The records up to a time, that included; all that are loaded without one."""
        end = len(self.keys) if limit_ns is None else bisect_right(self.keys, limit_ns, self.at)
        taken = self.chunk[self.at * RECORD_BYTES : end * RECORD_BYTES]
        self.at = end
        return taken


def merged(runs: Collection[Run], window: Window) -> Iterator[bytes]:
    """The records of all runs by the time they were received. A run is opened when its first record may be next."""
    if len(runs) == 1 and window == Window():
        yield from next(iter(runs)).chunks(window)
        return
    waiting = sorted(runs, key=lambda run: run.span_ns[0], reverse=True)
    heads: list[_Head] = []
    last: _Head | None = None
    while waiting or heads:
        while waiting and (not heads or waiting[-1].span_ns[0] <= min(head.key for head in heads)):
            head = _Head(waiting.pop(), window)
            if head.load():
                heads.append(head)
        if not heads:
            continue
        # Of equal times the run that was read last goes on: a record stays beside what belongs to it.
        head = min(heads, key=lambda head: (head.key, head is not last))
        others = [other.key for other in heads if other is not head] + [run.span_ns[0] for run in waiting[-1:]]
        yield head.take(min(others) if others else None)
        if head.at == len(head.keys) and not head.load():
            heads.remove(head)
        last = head


class ReplayFeed:
    """Recorded runs, merged."""

    def __init__(self, runs: Collection[Run], speed: float | None = None, window: Window | None = None) -> None:
        """`speed` is a multiple of real time on the receive clock; None is as fast as possible."""
        if speed is not None and not speed > 0:
            raise ValueError(f"speed {speed}: a positive multiple of real time, or max")
        self.runs = tuple(runs)
        self.speed = speed
        self.window = window or Window()

    def codes(self) -> frozenset[str] | None:
        """What it may deliver; None where nobody has counted."""
        counted = [run.codes for run in self.runs]
        return None if None in counted else frozenset().union(*(codes for codes in counted if codes))

    def run(self, on_records: Callable[[bytes], object], stop: threading.Event) -> None:
        """Hands over whole records until the last run ends or `stop` is set. WalError as `SegmentRun.chunks`."""
        pieces = merged(self.runs, self.window)
        if self.speed is not None:
            self._run_paced(pieces, on_records, stop)
            return
        for batch in _batches(pieces):
            if stop.is_set():
                return
            if wanted := _without_run_events(batch):
                on_records(wanted)

    def _run_paced(self, pieces: Iterator[bytes], on_records: Callable[[bytes], object], stop: threading.Event) -> None:
        assert self.speed is not None
        pace = _Pace(self.speed)
        for piece in pieces:
            for number, stamp_ns in enumerate(stamps(piece)):
                pace.wait(stamp_ns, stop)
                if stop.is_set():
                    return
                if wanted := _without_run_events(piece[number * RECORD_BYTES : (number + 1) * RECORD_BYTES]):
                    on_records(wanted)


def _batches(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same records, BATCH_RECORDS at a time, also those before an error."""
    size = BATCH_RECORDS * RECORD_BYTES
    held = bytearray()
    try:
        for piece in pieces:
            held += piece
            whole = len(held) - len(held) % size
            for at in range(0, whole, size):
                yield bytes(held[at : at + size])
            del held[:whole]
    except ValueError:
        yield bytes(held)
        raise
    yield bytes(held)


def _without_run_events(records: bytes) -> bytes:
    kinds = records[::RECORD_BYTES]
    if not any(kind in kinds for kind in _OF_THE_RUN):
        return records
    return picked(records, [kind not in _OF_THE_RUN for kind in kinds])


class _Pace:
    """Waits until a stamp is due; the first stamp is due at once."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.first_ns: int | None = None
        self.started_ns = 0

    def wait(self, stamp_ns: int, stop: threading.Event) -> None:
        if stamp_ns == ABSENT_I64:
            return
        if self.first_ns is None:
            self.first_ns, self.started_ns = stamp_ns, time.monotonic_ns()
        due_ns = self.started_ns + int((stamp_ns - self.first_ns) / self.speed)
        while (seconds := (due_ns - time.monotonic_ns()) / 1_000_000_000) > 0:
            if stop.wait(min(seconds, PAUSE_SECONDS_MAX)):
                return
