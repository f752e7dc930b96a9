"""A recorder that lives through day after day: `python soaking_recorder.py LAPS DAYS WAL_DIR record --broker …`.

The command as it is; only its feed does not end with the day. A replay hands over the same records again, each time a
day later; the simulated exchange makes the next trading day, every object fresh from the SDK's own decoder. After each
day a line of LAPS says how many trades and books were handed over so far, and what the process then has: bytes of
memory, descriptors, Python's own blocks of memory. At the same moment of every day, since memory comes and goes within
one, and after malloc has given back what nobody has: otherwise some buffers of MiBs are counted by chance or not.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from shijim_live import cli, cli_record, cli_replay
from shijim_live.broker.connection import Connection
from shijim_live.broker.replay import ReplayFeed
from shijim_live.broker.simulated import SimulatedExchange
from shijim_live.calendar import DAY_NS, next_trading_day
from shijim_live.events import ABSENT_I64, RECORD_BYTES, Kind

# The feed waits for whoever verifies and deletes the segments: a log of any length then fits on any disk.
SEGMENTS_WAITING_MAX = 200
WAIT_SECONDS = 0.02
MALLOC = ctypes.CDLL(None)
STAMPS = (2, 3)  # words of a record: exchange, received


class Laps:
    """The days of a soak, and what was handed over in them."""

    def __init__(self, laps: Path, days: int, wal_dir: Path) -> None:
        self.laps, self.days, self.wal_dir = laps, days, wal_dir
        self.events = 0

    def until(self, stop: threading.Event) -> Iterator[int]:
        """0, 1, 2 …, a line behind each."""
        with self.laps.open("w", buffering=1) as lines:
            for day in range(self.days):
                while self.waiting() > SEGMENTS_WAITING_MAX and not stop.wait(WAIT_SECONDS):
                    pass
                if stop.is_set():
                    return
                yield day
                gc.collect()
                MALLOC.malloc_trim(0)
                lines.write(f"{self.events} {rss_bytes()} {descriptors()} {sys.getallocatedblocks()}\n")

    def waiting(self) -> int:
        # Whoever deletes them takes empty folders away meanwhile; `rglob` would fail over one.
        return sum(name.endswith(".wal") for _, _, names in os.walk(self.wal_dir) for name in names)


def rss_bytes() -> int:
    """Exact, page by page: the kernel's quick counters are off by some hundred KB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class LongReplay(ReplayFeed):
    def run(self, on_records: Callable[[bytes], object], stop: threading.Event) -> None:
        # The log turns to a new segment when time goes on: the first day is one that is still to come.
        first_day = (time.time_ns() - min(run.span_ns[0] for run in self.runs)) // DAY_NS + 1
        for day in laps.until(stop):
            later_ns = (first_day + day) * DAY_NS

            def later(records: bytes, later_ns: int = later_ns) -> None:
                words = np.frombuffer(records, np.int64).reshape(-1, RECORD_BYTES // 8).copy()
                for word in STAMPS:
                    words[words[:, word] != ABSENT_I64, word] += later_ns
                on_records(words.tobytes())
                laps.events += int(((words[:, 0] & 0xFF) <= Kind.BOOK).sum())

            super().run(later, stop)


class LongExchange(SimulatedExchange):
    def run(
        self,
        on_quote: Callable[[object, int], object],
        on_connection: Callable[[Connection, int], None],
        stop: threading.Event,
        resume_after_ns: int | None = None,
    ) -> None:
        def quote(delivered: object, received_ns: int) -> None:
            references = sys.getrefcount(delivered)
            on_quote(delivered, received_ns)
            assert sys.getrefcount(delivered) == references, "the recorder keeps what it was handed"
            laps.events += 1

        trading_day = self.day
        for day in laps.until(stop):
            SimulatedExchange(trading_day, self.seed + day, self.config).run(quote, on_connection, stop)
            trading_day = next_trading_day(trading_day)


if __name__ == "__main__":
    laps = Laps(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    cli_replay.ReplayFeed = LongReplay  # type: ignore[misc]
    cli_record.SimulatedExchange = LongExchange  # type: ignore[misc]
    sys.exit(cli.main(sys.argv[4:]))
