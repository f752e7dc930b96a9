"""What a person sees of a recorder: progress, warnings, /metrics beside it, a summary. Decides nothing."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rust_indicators import Publisher
from shijim_live.calendar import wall_clock
from shijim_live.record.recorder import Recording, RecordPlan, ring_path
from shijim_live.record.space import FREE_BYTES_MIN, FREE_BYTES_WARN, MIB
from shijim_live.record.wal import RingState
from shijim_live.settings import Settings
from shijim_live.watch.connections import remove_connections, write_connections
from shijim_live.watch.feed_clock import FeedClock
from shijim_live.watch.metrics import RecorderMetrics, serve
from shijim_live.watch.pressure import RingPressure

PROGRESS_SECONDS = 0.5


def _not_recorded(counters: dict[str, int]) -> list[str]:
    """A line about what came while the disk was full, if anything did."""
    lost = counters["not_recorded"]
    return [f"  {lost:,} events came while there was no space; the outage is in the log"] if lost else []


class Disk:
    """Tells of a disk that fills once when it begins, and once when it is over."""

    def __init__(self, raw_dir: Path) -> None:
        self.raw_dir = raw_dir
        self.low = False
        self.waiting = False

    def look(self, state: int) -> None:
        """Says what has changed since the last look."""
        try:
            free_bytes = shutil.disk_usage(self.raw_dir).free
        except OSError:
            return  # the log thread ends the recording over it, with the reason
        if (state == RingState.WAITING) != self.waiting:
            self.waiting = not self.waiting
            self.say(
                f"waiting for space: {free_bytes / MIB:,.0f} MiB free; goes on by itself when there are "
                f"{FREE_BYTES_MIN / MIB:,.0f} MiB and room for the ballast"
                if self.waiting
                else "there is space again; recording goes on, the outage is in the log"
            )
        if (free_bytes < FREE_BYTES_WARN) != self.low:
            self.low = not self.low
            if self.low and not self.waiting:
                self.say(f"only {free_bytes / MIB:,.0f} MiB free; without space recording waits")

    def say(self, text: str) -> None:
        """One line on stderr."""
        print(f"shijim-live: {self.raw_dir}: {text}", file=sys.stderr, flush=True)


class Watch:
    """Progress and warnings on the terminal, /metrics over HTTP, and a stop when the log thread has died."""

    def __init__(
        self,
        settings: Settings,
        stop: threading.Event,
        *,
        quiet: bool,
        paced: bool,
        connections: Callable[[], Sequence[Mapping[str, Any]]] | None = None,
        live: bool = False,
    ) -> None:
        """`paced`: a full ring is news. A feed without a pace of its own is always as far ahead as the ring lets it.

        `connections`: how those of the feed stand, where it has any; `shijim-live status` shows them. `live`: quotes
        are of now, so that they say something of our clock.
        """
        self.connections = connections
        self.live = live
        self.settings = settings
        self.stop = stop
        self.quiet = quiet
        self.pressure = RingPressure() if paced else None
        self.done = threading.Event()
        self.threads: list[threading.Thread] = []
        self.server: object | None = None

    def start(self, publisher: Publisher) -> None:
        if port := self.settings.metrics_port:
            standing = self.connections or tuple
            metrics = RecorderMetrics(publisher, self.settings.raw_dir, self.settings.shard_id, standing)
            try:
                self.server = serve(metrics, port)
            except OSError as error:
                # Recording goes on: a day is worth more than its graph.
                print(f"shijim-live: no /metrics, port {port}: {error.strerror} (SHIJIM_METRICS_PORT)", file=sys.stderr)
        thread = threading.Thread(target=self._watch, args=(publisher,), name="shijim-watch", daemon=True)
        thread.start()
        self.threads.append(thread)

    def _watch(self, publisher: Publisher) -> None:
        terminal = sys.stderr.isatty()
        shown = -1
        disk = Disk(self.settings.raw_dir)
        clock = FeedClock(publisher, ring_path(self.settings.raw_dir, self.settings.shard_id)) if self.live else None
        while not self.done.wait(PROGRESS_SECONDS):
            try:
                publisher.check()
                if clock is not None:
                    clock.look()
            except RuntimeError:
                self.stop.set()
                return
            counters = publisher.counters()
            self._warn(counters, "\n" if terminal and shown >= 0 else "")
            disk.look(counters["state"])
            self._show_connections()
            if self.quiet or counters["durable"] == shown:
                continue
            shown = counters["durable"]
            wall = wall_clock(counters["durable_received_ns"]).strftime("%m-%d %H:%M:%S")
            line = f"{shown:>10,} events durable · {wall} Taipei · {counters['lots_missing']:,} lots missing"
            print(f"\r{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
        if terminal and shown >= 0:
            print(file=sys.stderr)
        self._warn(publisher.counters(), "")

    def _show_connections(self) -> None:
        if self.connections is None:
            return
        now_ns = time.time_ns()
        # One that cannot be written costs a look at it, not the recording.
        with suppress(OSError):
            write_connections(self.settings.raw_dir, self.settings.shard_id, now_ns, self.connections())

    def _warn(self, counters: Mapping[str, int], before: str) -> None:
        for line in self.pressure.lines(counters, time.monotonic()) if self.pressure else []:
            print(f"{before}shijim-live: {line}", file=sys.stderr, flush=True)

    def finish(self) -> None:
        self.done.set()
        for thread in self.threads:
            thread.join()
        if self.connections is not None:
            remove_connections(self.settings.raw_dir, self.settings.shard_id)
        if self.server is not None:
            self.server.shutdown()  # type: ignore[attr-defined]


def summary(recording: Recording, plan: RecordPlan, chosen: str, seconds: float) -> str:
    counters = recording.counters
    lines = [f"recovered {found.path.name}: {found.records:,} events, {found.torn_bytes:,} torn bytes kept beside it"
             for found in recording.recovered]  # fmt: skip
    if recording.resumed_after_ns is not None:
        lines.append(f"resumed after {wall_clock(recording.resumed_after_ns)} Taipei; the outage is in the log")
    ended = "the feed ended" if recording.complete else "stopped"
    ended += " while waiting for space" if recording.without_space else ""
    lines += [
        f"recorded {recording.accepted:,} events, {recording.durable:,} durable, in {seconds:.1f} s: {ended}",
        f"  of {chosen}",
        f"  {counters['lots_missing']:,} lots missing in {counters['gaps']:,} gaps, "
        f"{counters['duplicates']:,} duplicates, {counters['quarantined']:,} quarantined",
        *_not_recorded(counters),
        f"  run {recording.run_id} in {plan.wal_dir}: {counters['segments']:,} segments, "
        f"{counters['log_bytes'] / 2**20:.1f} MiB, {counters['log_bytes'] / max(1, recording.durable):.0f} B/event",
    ]
    return "\n".join(lines)
