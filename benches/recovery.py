"""What a recorder does first after a crash: recovery of a large unsealed segment, beside reading the file cold."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from statistics import median

from benches import simulated
from benches.measure import Bench, Effort, Row, folder_on_disk, ratio, seconds
from rust_indicators import LogWriter
from shijim_live.events import RECORD_BYTES
from shijim_live.record import wal

SEGMENT_BYTES = 200 << 20  # of the 256 MiB at which a segment is closed
READ_BYTES = 1 << 20
RATIO_MAX = 1.2
# Records a commit: as when a backlog is written, and as at 28 k events/s.
COMMITS = {"bursts": 8_192, "live pace": 6}


def rows(effort: Effort) -> list[Row]:
    found = []
    with folder_on_disk() as folder:
        blob = simulated.record_busily(folder / "day", simulated.payloads())
        for name, records in COMMITS.items():
            place = folder / name.replace(" ", "-")
            writer = _unsealed(place, blob, records)
            found += _rows(name, place, max(3, effort.rounds // 2))
            del writer
    return found


def _unsealed(place: Path, blob: bytes, records: int) -> LogWriter:
    """A writer in the middle of a segment of that size: its file is what a kill would leave."""
    first_stamp = blob[24:32]
    rows = bytearray(blob)
    for at in range(24, len(rows), RECORD_BYTES):
        rows[at : at + 8] = first_stamp  # within one quarter of an hour, so that no clock closes the segment
    writer, step = LogWriter(place, simulated.RUN_ID, _header()), records * RECORD_BYTES
    while _bytes(place) < SEGMENT_BYTES:
        for at in range(0, len(rows), step):
            writer.append(bytes(rows[at : at + step]))
    return writer


def _header() -> str:
    return (
        f'{{"run_id":"{simulated.RUN_ID}","source":"simulated","clock":"simulated","created_ns":1,"build":"bench",'
        '"config":{},"config_hash":"bench","shard":0,"schema_version":1}'
    )


def _bytes(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*.wal"))


def _rows(name: str, place: Path, rounds: int) -> list[Row]:
    [original] = place.rglob("*.wal")
    checkpoint = original.with_suffix(".checkpoint")
    times: dict[str, list[float]] = {"read": [], "recover": [], "without": []}
    recovered: list[wal.Recovered] = []
    for number in range(rounds):
        sides = list(times) if number % 2 == 0 else list(reversed(times))
        for side in sides:
            copy = place.parent / f"copy-{number}-{side}"
            copy.mkdir()
            shutil.copy(original, copy)
            if side == "recover":
                shutil.copy(checkpoint, copy)
            _forget_cached(copy)
            if side == "read":
                times[side].append(seconds(lambda copy=copy: _read(copy / original.name)))  # type: ignore[misc]
            else:
                times[side].append(seconds(lambda copy=copy: recovered.extend(wal.recover(copy))))  # type: ignore[misc]
            shutil.rmtree(copy)
    assert len({one.records for one in recovered}) == 1 and len(recovered) == 2 * rounds
    ours, mib = ratio(times["recover"], times["read"]), _bytes(place) / 2**20
    what = f"recovery of an unsealed segment of {mib:.0f} MiB, {recovered[0].records / 1e6:.1f} M events ({name})"
    cold = f"cold read {median(times['read']):.2f} s"
    return [
        Row(what, f"{median(times['recover']):.2f} s", cold, f"{ours:.2f}×", f"≤ {RATIO_MAX}×", ours <= RATIO_MAX),
        Row("… where its checkpoint is lost", f"{median(times['without']):.2f} s", cold,
            f"{ratio(times['without'], times['read']):.1f}×"),
    ]  # fmt: skip


def _forget_cached(folder: Path) -> None:
    """The files go to the disk and out of the page cache."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _read(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    while os.read(descriptor, READ_BYTES):
        pass
    os.close(descriptor)


BENCH = Bench(
    "recovery",
    rows,
    "A segment as a kill leaves it, copied for each of the three sides of a round, synced, and dropped from the page "
    "cache: `wal.recover` with the checkpoint that is kept beside an open segment, the same without, and `read` of the "
    "file in pieces of 1 MiB. The recovery includes the footer and its sync. Ratios are medians over the rounds' own.",
    "The disk: every block's checksum needs every byte. The last half MiB is decoded, the footer is synced. Without a "
    "checkpoint the footer's counts and hash need every record, which is decompressing and turning columns into rows.",
)
