"""Reading, verifying and repairing the log. Nothing here writes an event."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import orjson

from rust_indicators import SegmentReader, read_footer, recover_segment
from shijim_live import __version__
from shijim_live.events import SCHEMA_VERSION

# A recorder names its draft within milliseconds; a disk that stalls for longer than this stops it anyway.
DRAFT_NS_MAX = 600_000_000_000
# Records handed over at a time, one block of the log: 2 MiB stay in the cache until the next reader of them, and leave
# no hole in the heap for the rest of a long replay.
CHUNK_RECORDS = 8_192


class RingState(IntEnum):
    """What the writer of a ring is doing; not in any record."""

    RUNNING = 1
    CLOSED = 2
    FAILED = 3  # the log cannot be written
    WAITING = 4  # for space on the disk


class WalError(ValueError):
    """A segment that cannot be used; the text says which, why, and what to do."""


class Soundness(IntEnum):
    """What `shijim-live verify` found; also its exit code."""

    SOUND = 0
    TORN = 1
    CORRUPT = 2
    UNREADABLE = 3


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says of itself in its first bytes."""

    path: Path
    run_id: str  # 16 hex digits
    segment: int  # from 1 within the run
    slot: str  # receive-clock slot, a hint only
    first_sequence: int
    source: str  # simulated, replay, shioaji, import:txf_l5, …
    clock: str  # real, simulated, or absent where the source has no receive time
    created_ns: int
    config_hash: str  # equal for runs that record the same thing
    shard: int = 0  # which of the recorders of one data folder


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment after reading all of it."""

    header: SegmentHeader
    state: str  # sealed, open, torn
    records: int
    last_sequence: int
    sound_bytes: int
    problems: tuple[tuple[int, int, int, int, str], ...]  # offset, length, first sequence, count, what
    recovered: bool

    @property
    def soundness(self) -> Soundness:
        if self.problems:
            return Soundness.CORRUPT
        return Soundness.TORN if self.state == "torn" else Soundness.SOUND


def make_folder(folder: Path) -> None:
    """Makes a folder of the log and its parents, with names that survive a power cut."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    # Who made a folder that was there may not have come to this: another process, or one that died.
    for place in made or [folder]:
        sync_name(place)


def sync_name(path: Path) -> None:
    """Makes the name of a file or folder durable: it is an entry of the folder it stands in."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def segment_paths(wal_dir: Path) -> list[Path]:
    """Every segment under a folder, or the one file given. Raises WalError when there is no such place."""
    if wal_dir.is_file():
        return [wal_dir]
    if not wal_dir.is_dir():
        raise WalError(f"{wal_dir}: no such file or folder. Record something first, or give --data-dir")
    return sorted(wal_dir.rglob("*.wal"))


def existing_segments(place: Path) -> list[Path]:
    """`segment_paths`, where none at all is an error too."""
    paths = segment_paths(place)
    if not paths:
        raise WalError(f"{place}: no log segment here. Give a wal folder or a .wal file")
    return paths


def open_segment(path: Path) -> tuple[SegmentReader, SegmentHeader]:
    """A reader and the checked header. Raises WalError for what is no segment or needs another version."""
    try:
        reader = SegmentReader(path)
    except ValueError as error:
        raise WalError(str(error)) from None
    return reader, _header(path, reader.header)


def read_header(path: Path) -> SegmentHeader:
    """The header alone. Raises WalError."""
    return open_segment(path)[1]


def _header(path: Path, json: bytes) -> SegmentHeader:
    try:
        fields = dict(orjson.loads(json))
    except (ValueError, TypeError):
        raise WalError(f"{path}: its header is no JSON object: not a segment of this release") from None
    version = fields.get("schema_version")
    if version != SCHEMA_VERSION:
        wrote = f", like shijim {fields['build']}, which wrote it" if "build" in fields else ""
        raise WalError(
            f"{path}: written with schema version {version}, this release (shijim {__version__}) reads "
            f"{SCHEMA_VERSION}: use the release that reads {version}{wrote}"
        )
    missing = [name for name in _HEADER_FIELDS if name not in fields]
    if missing:
        raise WalError(f"{path}: its header has no {', '.join(missing)}: not written by a recorder or an import")
    known = {name: fields[name] for name in _HEADER_FIELDS}
    return SegmentHeader(path=path, shard=fields.get("shard", 0), **known)


_HEADER_FIELDS = SegmentHeader.__slots__[1:-1]


def readable_headers(wal_dir: Path) -> tuple[list[SegmentHeader], list[WalError]]:
    """Headers of every segment under a folder, and why some cannot be read: one bad file is not the log's end."""
    headers, errors = [], []
    for path in segment_paths(wal_dir):
        try:
            headers.append(read_header(path))
        except WalError as error:
            errors.append(error)
    return headers, errors


def footer(path: Path) -> dict[str, object] | None:
    """Counts, ranges and hash of a sealed segment, from its last bytes; None while it is not sealed."""
    try:
        json = read_footer(path)
    except ValueError as error:
        raise WalError(str(error)) from None
    return _object(path, json) if json is not None else None


def _object(path: Path, json: bytes) -> dict[str, object]:
    try:
        return dict(orjson.loads(json))
    except (ValueError, TypeError):
        raise WalError(f"{path}: its footer is no JSON object: not a segment of this release") from None


def records(path: Path, problems: list[str] | None = None) -> Iterator[bytes]:
    """All sound records of a segment in chunks of whole 256-byte records; of an open one, what is there so far.

    What had to be left out is added to `problems` at the end, a line each.
    """
    reader, _ = open_segment(path)
    while chunk := reader.read(CHUNK_RECORDS):
        yield chunk
    if problems is not None:
        problems += [f"{path}: {message}. Run: shijim-live verify {path}" for *_, message in reader.problems]


def examine(path: Path) -> Segment:
    """Reads all of a segment and says what it found. Raises WalError when it is no readable segment."""
    reader, header = open_segment(path)
    while reader.read(CHUNK_RECORDS):
        pass
    sealed = _object(path, reader.footer) if reader.footer else None
    problems = tuple(reader.problems)
    if sealed and not problems and sealed_with(sealed) != reader.multiset:
        problems = ((reader.position, 0, 0, 0, "its records are not those its footer was sealed with"),)
    return Segment(
        header=header,
        state=reader.end,
        records=reader.multiset[0],
        last_sequence=reader.ranges[1],
        sound_bytes=reader.position,
        problems=problems,
        recovered=bool(sealed and sealed.get("recovered", False)),
    )


def sealed_with(footer: dict[str, object]) -> tuple[int, int]:
    """(count, multiset sum) of the records a footer was written for."""
    return int(str(footer.get("multiset_count", 0))), int(str(footer.get("multiset_sum", "0")), 16)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What start-up did to a segment that a dead run left open."""

    path: Path
    records: int
    torn_bytes: int  # cut off, kept beside the segment as <name>.torn
    last_received_ns: int | None


def recover(wal_dir: Path, shard: int | None = None) -> list[Recovered]:
    """Seals the segments that have no footer: of one shard by its owner, or of all when nobody is recording.

    What cannot be read is left alone: it must not keep a recorder from starting.
    """
    done = []
    for draft in wal_dir.rglob("*.draft"):
        if _is_abandoned(draft, shard):
            draft.unlink(missing_ok=True)  # a segment that never got its name: no record was ever in it
    for header in readable_headers(wal_dir)[0]:
        if shard in (None, header.shard) and footer(header.path) is None:
            changed, count, torn_bytes, _, last_received_ns, _ = recover_segment(header.path)
            assert changed, f"{header.path} had no footer and still has none"
            done.append(Recovered(header.path, count, torn_bytes, last_received_ns))
    return done


def _is_abandoned(draft: Path, shard: int | None) -> bool:
    """A draft of our own shard, or one that is older than any recorder needs to name it."""
    try:
        return shard in (None, read_header(draft).shard)
    except WalError:
        with suppress(FileNotFoundError):
            return time.time_ns() - draft.stat().st_mtime_ns > DRAFT_NS_MAX
        return False
