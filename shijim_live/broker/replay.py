"""A recorded log as a feed: the same records with the same stamps, as fast or as slowly as asked. Not a broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from shijim_live.events import ABSENT_I64, RECORD_BYTES, Kind
from shijim_live.record import wal

# Records handed over at once at full speed: one block of the log.
BATCH_RECORDS = 8_192
PAUSE_SECONDS_MAX = 0.2  # so that a stop is quick
RECEIVED_NS = slice(24, 32)  # where a record says when it was received
_OF_THE_RUN = (Kind.START, Kind.STOP, Kind.GAP)  # a replay is a run of its own: it writes and judges for itself


class ReplayFeed:
    """Segments in the order in which they were recorded. WalError when there are none, or one cannot be read."""

    def __init__(self, place: Path, speed: float | None = None) -> None:
        """`speed` is a multiple of real time on the receive clock; None is as fast as possible."""
        if speed is not None and not speed > 0:
            raise ValueError(f"speed {speed}: a positive multiple of real time, or max")
        headers = [wal.read_header(path) for path in wal.existing_segments(place)]
        self.paths = [
            header.path
            for header in sorted(headers, key=lambda header: (header.created_ns, header.run_id, header.segment))
        ]
        self.speed = speed

    def run(self, on_records: Callable[[bytes], object], stop: threading.Event) -> None:
        """Hands over whole records until the last segment ends or `stop` is set.

        WalError behind a segment with corrupt stretches: the rest of the day would be recorded as if nothing missed.
        """
        pace = None if self.speed is None else _Pace(self.speed)
        for path in self.paths:
            problems: list[str] = []
            for chunk in wal.records(path, problems):
                step = RECORD_BYTES * (BATCH_RECORDS if pace is None else 1)
                for at in range(0, len(chunk), step):
                    if stop.is_set():
                        return
                    batch = _without_run_events(chunk[at : at + step])
                    if pace is not None:
                        pace.wait(
                            int.from_bytes(chunk[at : at + RECORD_BYTES][RECEIVED_NS], "little", signed=True), stop
                        )
                    if batch:
                        on_records(batch)
            if problems:
                raise wal.WalError(f"the replay stops: {problems[0]}")


def _without_run_events(records: bytes) -> bytes:
    kinds = records[::RECORD_BYTES]
    if not any(kind in kinds for kind in _OF_THE_RUN):
        return records
    rows = (records[at : at + RECORD_BYTES] for at in range(0, len(records), RECORD_BYTES))
    return b"".join(row for row in rows if row[0] not in _OF_THE_RUN)


class _Pace:
    """Waits until a receive stamp is due; the first stamp is due at once."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.first_ns: int | None = None
        self.started_ns = 0

    def wait(self, received_ns: int, stop: threading.Event) -> None:
        if received_ns == ABSENT_I64:
            return
        if self.first_ns is None:
            self.first_ns, self.started_ns = received_ns, time.monotonic_ns()
        due_ns = self.started_ns + int((received_ns - self.first_ns) / self.speed)
        while (seconds := (due_ns - time.monotonic_ns()) / 1_000_000_000) > 0:
            if stop.wait(min(seconds, PAUSE_SECONDS_MAX)):
                return
