"""Bytes that reach the disk per event, journal and all: with segments written ahead and without, by commit interval."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benches import simulated
from benches.handoff import sleep_precisely, wait_until
from benches.measure import Bench, Effort, Row, folder_on_disk
from rust_indicators import LogStatistics
from shijim_live.events import RECORD_BYTES
from shijim_live.record import wal

# Events a second, and how many times the seconds of a round: a slow market needs longer to say something.
PACES = {28_000: 1, 500: 3}
INTERVALS_MS = (0, 5, 50)
DISK_BYTES = 1 << 30
SECTOR_BYTES = 512
SECTORS_WRITTEN = 6  # column of a block device's stat


def rows(effort: Effort) -> list[Row]:
    with folder_on_disk() as folder:
        blob = simulated.record_busily(folder / "day", simulated.payloads())
        try:
            with _disk_of_its_own(folder) as disk:
                return [
                    _row(disk, blob, pace, longer * effort.seconds, interval)
                    for pace, longer in PACES.items()
                    for interval in INTERVALS_MS
                ]
        except (OSError, subprocess.CalledProcessError) as error:
            return [Row("bytes on the disk per event", f"skipped, a disk of its own needs root and mkfs.ext4: {error}")]


@contextmanager
def _disk_of_its_own(folder: Path) -> Iterator[Path]:
    """An ext4 on a loop device: what others write to the disk below is not counted."""
    image, place = folder / "disk.img", folder / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    # Nothing is left to be set up in the background while it is measured.
    lazy = "lazy_itable_init=0,lazy_journal_init=0"
    subprocess.run(["mkfs.ext4", "-q", "-E", lazy, image], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop,noatime", image, place], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def _row(disk: Path, blob: bytes, pace: int, seconds: int, interval_ms: int) -> Row:
    folder = disk / f"{pace}-{interval_ms}"
    count = min(pace * seconds, len(blob) // RECORD_BYTES)
    folder.mkdir()
    before = _written(disk)
    _record(folder, blob, count, pace, interval_ms)
    ours = (_written(disk) - before) / count
    log = LogStatistics()
    [path] = wal.segment_paths(folder / "wal")
    commits = log.add(path).block_bytes
    before = _written(disk)
    _append(folder / "plain", commits)
    plain = (_written(disk) - before) / count
    path.unlink()
    return Row(
        f"bytes on the disk at {pace:,} events/s, commit interval {interval_ms} ms: {count / len(commits):.1f} events "
        f"and {sum(commits) / len(commits):,.0f} B a commit",
        f"{ours:,.0f} B/event", f"plain appends {plain:,.0f} B/event", f"{ours / plain:.2f}×",
    )  # fmt: skip


def _record(folder: Path, blob: bytes, count: int, pace: int, interval_ms: int) -> None:
    sleep_precisely()
    publisher = simulated.open_publisher(folder, ring_slots=1 << 17, commit_interval_ms=interval_ms)
    start_ns = time.time_ns() + 20_000_000
    for index in range(count):
        wait_until(start_ns + index * 1_000_000_000 // pace)
        publisher.publish_records(blob[index * RECORD_BYTES : (index + 1) * RECORD_BYTES])
    simulated.close(publisher, folder)


def _append(path: Path, commits: list[int]) -> None:
    """The same commits at the end of a file: each sync writes the file's new size too."""
    block = os.urandom(max(commits))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for size in commits:
        os.write(descriptor, block[:size])
        os.fdatasync(descriptor)
    os.close(descriptor)
    path.unlink()


def _written(disk: Path) -> int:
    """Bytes that the block device of a file system has written so far, with everything pending."""
    subprocess.run(["sync", "--file-system", disk], check=True)
    device = disk.stat().st_dev
    stat = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text()
    return int(stat.split()[SECTORS_WRITTEN]) * SECTOR_BYTES


BENCH = Bench(
    "wear",
    rows,
    "Sectors that the block device of an ext4 of its own (a loop device) counts as written, from before the first "
    "event to the sealed segment and a `sync`: contents, inodes, journal. Records are published one by one when due. "
    "Plain: the same commits, size by size, appended to a file, an `fdatasync` each, nothing written ahead.",
    "Pages of 4 KiB: a commit writes the page it ends in, again and again until it is full, and a sync that makes the "
    "file longer writes the journal too, which writing ahead saves. A commit of 16 KiB and more pays more for the "
    "zeros than the journal would cost. What a commit holds depends on how long the disk's sync takes.",
)
