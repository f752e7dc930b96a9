"""A recorder that lives through far more than a day: its memory and its descriptors stay what they were.

A few seconds here; `make soak` takes 10⁸ decoded records and 10⁷ objects of the SDK (SHIJIM_SOAK_RECORDS,
SHIJIM_SOAK_OBJECTS). The command itself records, with a feed that does not end (soaking_recorder.py); a reader stays
attached to its ring, others come and go, its /metrics is read. Each sealed segment is read back, counted and deleted.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression

import pytest
from soaking_recorder import descriptors
from test_record import free_port

from rust_indicators import Ended, Missed, RingReader
from shijim_live.events import RECORD_BYTES, Kind
from shijim_live.record import wal
from shijim_live.record.recorder import ring_path

EVENTS = {
    "replay": int(os.environ.get("SHIJIM_SOAK_RECORDS", "2000000")),
    "simulated": int(os.environ.get("SHIJIM_SOAK_OBJECTS", "200000")),
}
NAMES = {"replay": "decoded records", "simulated": "SDK objects"}
DAY = "2026-04-09"
DAY_EVENTS_MAX = 300_000
DAYS_MIN = 16  # enough of them behind the warm-up to draw a line through
VISITS = 80  # one in each hundredth of the way, and none at its end, when nobody may be there any more
WARM_UP = 0.4  # of the days: buffers get their size, the ring is touched whole, lazy imports are done
# What counts as a slope of zero: the log thread holds a buffer of 2 MiB more or less when a day ends, by chance and
# without a trend. A line through the days may rise by this much from the first to the last, however many events lie
# between: in 10⁸ that is 0.05 bytes an event.
NOISE_BYTES = 4 << 20
DESCRIPTORS_NOISE = 3  # a segment that begins has its draft and its folder open, a page that is read a socket
BLOCKS_NOISE = 500  # of Python's memory, out of 150,000: a page of /metrics that is being made
POLL_RECORDS = 65_536
SAY_SECONDS = 5.0
SECONDS_MAX = 3_600.0


@dataclass(frozen=True, slots=True)
class Lap:
    """The recorder at the end of one of its days."""

    events: int  # trades and books handed over so far
    rss_bytes: int
    descriptors: int
    blocks: int  # of memory that Python has


def read_laps(path: Path) -> list[Lap]:
    whole = path.read_text().split("\n")[:-1]
    return [Lap(*map(int, line.split())) for line in whole]


@dataclass
class Verifier:
    """Reads each sealed segment back, in order, and deletes it."""

    wal_dir: Path
    segments: int = 0
    events: int = 0  # numbered without a gap so far
    market: int = 0  # trades and books of them
    folder: Path | None = None

    def next_one(self) -> bool:
        """False when the next segment is not sealed yet."""
        path = next(self.wal_dir.glob(f"*/*-{self.segments + 1:04}.wal"), None)
        if path is None or (footer := wal.footer(path)) is None:
            return False
        found = wal.examine(path)
        assert (found.soundness, found.state, found.recovered) == (wal.Soundness.SOUND, "sealed", False)
        assert (found.header.first_sequence, found.header.segment) == (self.events + 1, self.segments + 1)
        assert found.records == found.last_sequence - self.events
        self.segments, self.events = found.header.segment, found.last_sequence
        kinds = footer["kinds"]
        assert isinstance(kinds, dict)
        self.market += sum(kinds.get(str(int(kind)), 0) for kind in (Kind.TRADE, Kind.BOOK))
        path.unlink()
        if self.folder not in (None, path.parent):
            self.folder.rmdir()  # type: ignore[union-attr]
        self.folder = path.parent
        return True


@dataclass
class Readers:
    """One reader of the ring that stays, and others that come and go."""

    ring: Path
    stays: RingReader = field(init=False)
    records: int = 0
    missed: int = 0
    told: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stays = RingReader(self.ring)

    def read_on(self) -> None:
        records, told = self.stays.poll(POLL_RECORDS)
        self.records += len(records) // RECORD_BYTES
        if isinstance(told, Missed):
            self.missed += told.last - told.first + 1
        elif told is not None:
            self.told.append(told)

    def come_and_go(self) -> None:
        for group in (None, "soak"):
            reader = RingReader(self.ring, group=group)
            while not reader.poll(100)[0] and reader.writer == "running":
                pass


@dataclass
class Soak:
    """One soak from its start to its end."""

    source: str
    folder: Path
    seconds: float = 0
    visits: int = 0
    output: str = ""
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def wanted(self) -> int:
        return EVENTS[self.source]

    @property
    def day_events(self) -> int:
        return min(DAY_EVENTS_MAX, self.wanted // DAYS_MIN)

    @property
    def laps(self) -> list[Lap]:
        return read_laps(self.folder / "laps")

    @property
    def steady(self) -> list[Lap]:
        return self.laps[int(len(self.laps) * WARM_UP) :]

    def run(self, options: list[str]) -> tuple[Verifier, Readers]:
        data, port = self.folder / "data", free_port()
        (self.folder / "laps").touch()
        program = [sys.executable, Path(__file__).with_name("soaking_recorder.py"), self.folder / "laps",
                   str(-(-self.wanted // self.day_events)), data / "wal"]  # fmt: skip
        command = ["record", "--broker", self.source, "--data-dir", data, "--metrics-port", str(port), *options]
        verifier, started = Verifier(data / "wal"), time.monotonic()
        with (self.folder / "said").open("w") as said:
            process = subprocess.Popen([*program, *command], stdout=subprocess.PIPE, stderr=said, text=True)
        try:
            while not (ring_path(data, 0).exists() and list(data.rglob("*.wal"))):
                assert process.poll() is None, (self.folder / "said").read_text()
                time.sleep(0.01)
            readers = Readers(ring_path(data, 0))
            self.follow(process, readers, verifier, port)
            self.output = process.communicate(timeout=60)[0]
        finally:
            process.kill()
        while verifier.next_one():
            pass
        self.seconds = time.monotonic() - started
        assert process.returncode == 0, (self.folder / "said").read_text()
        return verifier, readers

    def follow(self, process: subprocess.Popen[str], readers: Readers, verifier: Verifier, port: int) -> None:
        """Until the recorder has closed its ring."""
        said = started = time.monotonic()
        while not readers.told:
            readers.read_on()
            verified = verifier.next_one()
            self.counters = counters = readers.stays.counters()
            if self.visits < VISITS and counters["accepted"] * 100 > self.visits * self.wanted:
                self.visits += 1
                readers.come_and_go()
                urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read()
            now = time.monotonic()
            if now > said + SAY_SECONDS and self.laps:
                said = now
                self.say(verifier, now - started)
            assert now < started + SECONDS_MAX and process.poll() in (None, 0), (self.folder / "said").read_text()
            if not verified and not counters["depth"]:
                time.sleep(0.001)

    def say(self, verifier: Verifier, seconds: float) -> None:
        lap, rate = self.laps[-1], self.counters["accepted"] / seconds
        print(
            f"  {self.counters['accepted'] / 1e6:7.2f} M {NAMES[self.source]} at {rate / 1e3:,.0f} k/s, "
            f"{verifier.events / 1e6:.2f} M read back · day {len(self.laps)}: RSS {lap.rss_bytes / 2**20:.1f} MB, "
            f"{lap.descriptors} descriptors",
            flush=True,
        )

    def rise_bytes(self) -> float:
        """How much the line through the days rises from the first to the last."""
        events = [lap.events for lap in self.steady]
        return linear_regression(events, [lap.rss_bytes for lap in self.steady]).slope * (events[-1] - events[0])

    def report(self, verifier: Verifier) -> str:
        first, last = self.steady[0], self.steady[-1]
        millions = (last.events - first.events) / 1e6
        zero = f"{NOISE_BYTES / millions:,.0f}, {NOISE_BYTES >> 20} MiB in all"
        return (
            f"soak: {verifier.events:,} events of {NAMES[self.source]} in {len(self.laps)} days, {self.seconds:.0f} s "
            f"({verifier.events / self.seconds / 1e3:,.0f} k/s); {verifier.segments:,} segments read back and deleted; "
            f"memory {self.rise_bytes() / millions:+,.0f} bytes per million events (least squares over the "
            f"{len(self.steady)} days behind the first {WARM_UP:.0%}; zero is up to {zero}), "
            f"{first.rss_bytes / 2**20:.1f} → {last.rss_bytes / 2**20:.1f} MB; "
            f"descriptors {first.descriptors} → {last.descriptors}; "
            f"Python's blocks {first.blocks:,} → {last.blocks:,}"
        )


@pytest.mark.parametrize("source", list(EVENTS))
def test_a_recorder_that_lives_on_and_on_needs_no_more_memory_and_no_more_descriptors(
    tmp_path: Path, source: str
) -> None:
    soak = Soak(source, tmp_path)
    options = ["--day", DAY, "--events", str(soak.day_events)]
    if source == "replay":
        live = [sys.executable, "-m", "shijim_live", "record", "--broker", "simulated", "--metrics-port", "0"]
        subprocess.run([*live, *options, "--data-dir", tmp_path / "day"], check=True, capture_output=True)
        options = ["--from", str(tmp_path / "day" / "wal")]
    own_descriptors = descriptors()
    verifier, readers = soak.run(options)
    print(soak.report(verifier), flush=True)

    summary = re.search(r"recorded ([\d,]+) events, ([\d,]+) durable, .*: the feed ended", soak.output)
    assert summary and {int(count.replace(",", "")) for count in summary.groups()} == {verifier.events}
    assert verifier.market == soak.laps[-1].events >= soak.wanted * 0.9
    assert soak.counters["quarantined"] == 0
    assert verifier.segments > 30 * len(soak.laps)
    assert readers.records + readers.missed == verifier.events
    assert [isinstance(told, Ended) and told.how == "closed" for told in readers.told] == [True]
    assert soak.visits > VISITS // 2
    del readers
    assert descriptors() == own_descriptors

    assert soak.rise_bytes() <= NOISE_BYTES
    first, *later = soak.steady
    assert max(lap.descriptors for lap in later) <= first.descriptors + DESCRIPTORS_NOISE
    assert max(lap.blocks for lap in later) <= first.blocks + BLOCKS_NOISE
