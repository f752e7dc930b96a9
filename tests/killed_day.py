"""A simulated day whose recorder and archiver die again and again, each time at a point drawn from a seed. Keeps what
was acknowledged and what each death was; judges nothing (test_crash_matrix.py does).

Kills are drawn so that the day is not over before they are: never further ahead than `SPREAD` times the mean of what
is left of the day for those that are left.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import sys
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from kill_points import Ended, Point, ended

from rust_indicators import RingReader
from shijim_live.record import wal
from shijim_live.record.recorder import ring_path
from shijim_live.store.manifest import MANIFESTS, manifests
from shijim_live.store.parquet import parquet_path

DAY = date(2026, 4, 9)
EVENTS = 24_000

FOOTER = r"\.draft footer$"  # of a segment of the run itself: a draft that got its name is still called one here
BLOCK = r"\.draft block$"
COMMIT = r"\.draft (block|zeros)$|^fdatasync "
RECORDED_SYNC = r"^fdatasync "
ARCHIVED_SYNC = r"^fsync archive"
ARCHIVE_WRITE = r"^write archive/.*\.parquet"
ARCHIVE_NAME = r"^(mkdir|create|fsync|rename|unlink|rmdir) archive|^write archive/.*/manifest"

AWAY_SECONDS = 1
SPREAD = 2
NS_IN_A_CALLBACK_MAX = 200_000  # begins in the callback meant, may end some later
CALLBACK_EVENTS = 150  # of a quarter of an hour, about
OPERATIONS_OF_A_SEGMENT = 5  # zeros, two blocks and their syncs
FIRST_COMMIT_SHARE = 0.3  # of the kills at start; what a run writes first is what the next goes on from
OPERATIONS_OF_A_START = 12  # the lock, the ballast, a segment up to its first block and the sync of that
OPERATIONS_OF_A_REPAIR = 3  # footer, size and sync; a torn tail takes four more
# The least that archiving one segment takes, so that a point drawn is always reached.
ARCHIVE_WRITES_MIN = 50
ARCHIVE_NAMES_MIN = 10
# Most is at stake just before a sync: a third of a recorder's power cuts and half of an archiver's come there.
SYNCS_MIN = 4
SYNC_SHARE = 0.5
SYNCS_OF_A_SEGMENT = 2
# Pattern and how many of them there are at least; syncs and renames are few and matter more.
ARCHIVE_POINTS = ((ARCHIVE_WRITE, ARCHIVE_WRITES_MIN), *[(ARCHIVE_NAME, ARCHIVE_NAMES_MIN)] * 3)
PHASES = ("before", "half", "after")
RING_SLOTS = ("1024", "65536")  # in the smaller one callbacks wait for the disk

CALLBACK = "in the callback"
WRITE = "between write and sync"
ROTATION = "at rotation"
SEAL = "at seal"
START = "at start, mending the log"
ARCHIVE = "in the archive"
POWER = "power lost, recording"
POWER_ARCHIVE = "power lost, archiving"
SYNC = "just before a sync"  # a power cut only: to a killed process it is nothing special
KINDS = (CALLBACK, WRITE, ROTATION, SEAL, START, ARCHIVE, POWER, POWER_ARCHIVE)
KINDS_IN_TURN = (*KINDS, POWER, POWER_ARCHIVE)
CUTS_IN_TURN = (SYNC, WRITE, ROTATION, SYNC, START, SEAL)


@dataclass(frozen=True, slots=True)
class Death:
    """One kill: of which kind, at which operation."""

    kind: str
    point: Point | None  # None in the callback, where no operation is
    trace: tuple[str, ...] = field(repr=False)

    @property
    def last(self) -> str:
        """The operation it died at, or before the callback it died in."""
        return self.trace[-1] if self.trace else ""


@dataclass
class Play:
    """One day of one seed in `folder`, and everything that is known of it from outside of the log."""

    shim: Path
    folder: Path
    seed: int
    kills: int
    slots: list[int] = field(default_factory=list)  # when the segments of the undisturbed day begin, receive clock
    deaths: list[Death] = field(default_factory=list)
    # Run → last durable sequence and its receive stamp, as the ring had them when the run died.
    acknowledged: dict[int, tuple[int, int]] = field(default_factory=dict)
    torn: dict[Path, bytes] = field(default_factory=dict)  # what stood behind the last sound block
    # File of the archive → hash, as some archiver that died left it where a query would read it.
    shown: dict[str, str] = field(default_factory=dict)
    twin_of: str = ""  # the run that sealed most segments before it died; `twin` is the log it began on
    twin_segments: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.folder.mkdir(parents=True)
        self.folder = self.folder.resolve()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def twin(self) -> Path:
        return self.folder / "twin"

    def record_arguments(self, data: Path) -> list[str]:
        return ["record", "--broker", "simulated", "--day", str(DAY), "--seed", str(self.seed), "--events",
                str(EVENTS), "--restart-outage", str(AWAY_SECONDS), "--metrics-port", "0", "--quiet", "--data-dir",
                str(data)]  # fmt: skip

    def record_command(self, data: Path) -> list[str]:
        return [sys.executable, "-m", "shijim_live", *self.record_arguments(data)]

    def archive_command(self, data: Path) -> list[str]:
        return [sys.executable, "-m", "shijim_pipelines", "archive", "--data-dir", str(data)]

    def run(self) -> Play:
        """Every kill, then the rest of the day and the archive, undisturbed."""
        self.data.mkdir()
        for kind in self.order():
            if kind in (ARCHIVE, POWER_ARCHIVE):
                self.kill_archive(kind)
            else:
                self.kill_recorder(kind)
        self.undisturbed(self.data)
        return self

    def undisturbed(self, data: Path, record: bool = True) -> Path:
        """Records what is left of the day and archives it."""
        for command in [self.record_command(data)] * record + [self.archive_command(data)]:
            done = ended(self.shim, command, data, Point(phase="never"))
            assert done.status == 0, done.errors
        return data

    def order(self) -> list[str]:
        """Every kind as often as every other, power cuts twice as often, in any order; but a power cut comes over the
        first folders, the archive needs a segment, and who mends the log dies twice over a commit that was cut.
        """
        counted = Counter(KINDS_IN_TURN[at % len(KINDS_IN_TURN)] for at in range(self.kills))
        twice = [WRITE, START, START]
        steps = [twice] * min(counted[WRITE], counted[START] // 2)
        counted -= Counter(kind for step in steps for kind in step)
        steps += [[kind] for kind in counted.elements()]
        self.random.shuffle(steps)
        for kind in (ROTATION, POWER):
            steps.insert(0, steps.pop(steps.index([kind])))
        return [kind for step in steps for kind in step]

    # The recorder

    def kill_recorder(self, kind: str) -> None:
        before = self.folder / "before"
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(self.data / "wal", before / "wal") if self.deaths else (before / "wal").mkdir(parents=True)
        command = self.record_command(self.data)
        if kind == CALLBACK:
            point = None
            number = self.random.randint(1, CALLBACK_EVENTS * self.slots_ahead())
            delay_ns = self.random.choice((0, self.random.randint(1, NS_IN_A_CALLBACK_MAX)))
            dying = [str(Path(__file__).with_name("dying_recorder.py")), "callback", str(number), str(delay_ns)]
            command = [sys.executable, *dying, *self.record_arguments(self.data)]
        elif kind == POWER:
            cuts = sum(death.kind == POWER for death in self.deaths)
            point = self.record_point(CUTS_IN_TURN[cuts % len(CUTS_IN_TURN)]).with_power_lost
        else:
            point = self.record_point(kind)
        ring_slots = self.random.choice(RING_SLOTS)
        done = ended(self.shim, command, self.data, point or Point(phase="never"), SHIJIM_BUS_MAX_QUEUE=ring_slots)
        self.note(kind, point, done)
        self.note_log(power_lost=kind == POWER, mending=kind == START)
        self.keep_twin(before)

    def record_point(self, kind: str) -> Point:
        draw = self.random
        seed = draw.getrandbits(32)
        if kind == SYNC:
            return Point(
                RECORDED_SYNC, draw.randint(1, SYNCS_OF_A_SEGMENT * self.slots_ahead()), 0, "before", seed=seed
            )
        if kind == WRITE and not any(death.kind == WRITE for death in self.deaths):  # every day has a torn block
            return Point(BLOCK, draw.randint(1, self.slots_ahead()), 0, "half", seed=seed)
        if kind == WRITE:
            operations = OPERATIONS_OF_A_SEGMENT * self.slots_ahead()
            return Point(COMMIT, draw.randint(1, operations), 0, draw.choice(PHASES), seed=seed)
        if kind == START and draw.random() < FIRST_COMMIT_SHARE:
            return Point(COMMIT, draw.randint(1, 3), 0, draw.choice(PHASES), seed=seed)
        if kind == START:
            unsealed = sum(wal.footer(path) is None for path in wal.segment_paths(self.data / "wal"))
            operations = OPERATIONS_OF_A_START + OPERATIONS_OF_A_REPAIR * unsealed
            return Point(".", draw.randint(2, operations), 0, draw.choice(PHASES), seed=seed)
        count = draw.randint(1, self.slots_ahead())
        if kind == SEAL:  # footer, resize, sync
            further = draw.randint(0, 2)
            return Point(
                FOOTER, count, further, "half" if further == 0 else draw.choice(("before", "after")), seed=seed
            )
        # Between the last sync of one and the end of the first block of the next: 8 operations, 10 in a new slot.
        return Point(FOOTER, count, draw.randint(3, 10), draw.choice(("before", "half")), seed=seed)

    def slots_ahead(self) -> int:
        last_ns = max((stamp for _, stamp in self.acknowledged.values()), default=0)
        left = len(self.slots) - bisect_right(self.slots, last_ns)
        return max(1, min(SPREAD * left // max(1, self.kills - len(self.deaths)), left // 2))

    def note(self, kind: str, point: Point | None, done: Ended) -> None:
        assert done.status == -signal.SIGKILL, (kind, point, done.status, done.errors, done.trace[-5:])
        self.deaths.append(Death(kind, point, done.trace))

    def note_log(self, power_lost: bool, mending: bool) -> None:
        ring = ring_path(self.data, 0)
        if ring.exists():
            counters = RingReader(ring).counters()
            found = (counters["durable"], counters["durable_received_ns"])
            self.acknowledged[counters["run_id"]] = max(found, self.acknowledged.get(counters["run_id"], (0, 0)))
        if power_lost:
            ring.unlink(missing_ok=True)  # it is memory
        if mending:
            return  # what stands behind the last sound block now may be half a footer
        for path in wal.segment_paths(self.data / "wal"):
            reader, _ = wal.open_segment(path)
            while reader.read(wal.CHUNK_RECORDS):
                pass
            if reader.end == "torn" and reader.footer is None:
                self.torn.setdefault(path, path.read_bytes()[reader.position :].rstrip(b"\0"))

    def keep_twin(self, before: Path) -> None:
        """Keeps the log that this run began on if it sealed more segments before it died than any before it."""
        sealed = self.sealed_by_their_run()
        run = max(sealed, key=lambda run: sealed[run], default="")
        if run and run != self.twin_of and sealed[run] > self.twin_segments and not list(before.rglob(f"{run}-*")):
            shutil.rmtree(self.twin, ignore_errors=True)
            before.rename(self.twin)
            self.twin_of, self.twin_segments = run, sealed[run]

    def sealed_by_their_run(self) -> dict[str, int]:
        """Segments of each run that no recovery touched."""
        sealed: dict[str, int] = {}
        for path in wal.segment_paths(self.data / "wal"):
            footer = wal.footer(path)
            if footer is not None and not footer["recovered"]:
                run = path.stem.partition("-")[0]
                sealed[run] = sealed.get(run, 0) + 1
        return sealed

    # The archive

    def kill_archive(self, kind: str) -> None:
        draw = self.random
        archive = self.data / "archive"
        sealed = [path for path in wal.segment_paths(self.data / "wal") if wal.footer(path) is not None]
        fresh = [path for path in sealed if not (archive / MANIFESTS / f"{path.stem}.json").exists()]
        if not fresh:  # it dies at something it does: all of it once more
            shutil.rmtree(archive)
            fresh = sealed
        pattern, operations = draw.choice(ARCHIVE_POINTS)
        point = Point(
            pattern, draw.randint(1, operations * len(fresh)), 0, draw.choice(PHASES), seed=draw.getrandbits(32)
        )
        if kind == POWER_ARCHIVE:
            if draw.random() < SYNC_SHARE:
                point = replace(
                    point, pattern=ARCHIVED_SYNC, count=draw.randint(1, SYNCS_MIN * len(fresh)), phase="before"
                )
            point = point.with_power_lost
        self.note(kind, point, ended(self.shim, self.archive_command(self.data), self.data, point))
        self.note_archive(power_lost=kind == POWER_ARCHIVE)

    def note_archive(self, power_lost: bool) -> None:
        """What its manifest names is there, whole; so is, but for a power cut, whatever else a query might read."""
        archive = self.data / "archive"
        for key, manifest in manifests(archive).items():
            for file in manifest["files"]:
                path = parquet_path(archive, file["table"], file["trading_day"], key)
                assert path.is_file(), f"{path} is gone, its manifest is not; the archiver died at {self.deaths[-1]}"
                assert hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"], path
        if not power_lost:
            self.shown |= contents(archive)


def contents(archive: Path, pattern: str = "*") -> dict[str, str]:
    """Everything an archive shows, by its hash."""
    files = [path for path in archive.rglob(pattern) if path.is_file()]
    shown = [path for path in files if not any(part.startswith(".") for part in path.relative_to(archive).parts)]
    return {str(path.relative_to(archive)): hashlib.sha256(path.read_bytes()).hexdigest() for path in shown}
