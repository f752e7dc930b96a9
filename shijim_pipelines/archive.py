"""Sealed segments → verified Parquet, one file per (trading day, table, segment). Never deletes or alters the log.

    archive/<table>/trading_day=YYYY-MM-DD/<run_id>-<n>.parquet      zstd, deterministic bytes
    archive/segments/<run_id>-<n>.json                               written last: with it, a segment is archived

Rows are sorted by code and sequence within each row group (one chunk of the segment). A file is published by rename
only after it was read back, turned into records again and found equal to the segment by count and multiset hash.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rust_indicators import SegmentReader, read_footer
from shijim_live.calendar import CalendarUnknown
from shijim_live.events import ABSENT_I64, RECORD_BYTES, UnknownRecord
from shijim_live.record import wal
from shijim_live.store import schema
from shijim_live.store.manifest import MANIFESTS, ManifestDamaged, manifests, missing_files, read_manifest
from shijim_live.store.parquet import parquet_path, parquet_writer, replace_durably, stored_tables
from shijim_pipelines.placement import SESSIONS, Placed, Placement, Unplaceable

# Records per row group: 30 MB, and as much again as columns, for each worker. Groups of 300,000 save a twentieth of
# the time; shorter groups cost bytes.
CHUNK_RECORDS: Final = 120_000
# Segments at a time: most of the time goes to waiting for the disk, which takes several waits at once.
WORKERS: Final = 4
_U64: Final = (1 << 64) - 1


class ArchiveFailed(ValueError):
    """The archive could not be proven equal to the segment, or the segment cannot be archived; nothing is published."""


class NothingArchived(ValueError):
    """There is no row of the day: an empty answer would look like a quiet market."""


@dataclass(frozen=True, slots=True)
class ArchivedSegment:
    """What the manifest of one archived segment says."""

    key: str  # <run_id>-<n:04>
    manifest: Path
    records: int
    files: tuple[Path, ...]
    trading_days: tuple[date, ...]
    already: bool  # it had been archived before
    problems: tuple[str, ...]  # stretches of the segment that could not be read


@dataclass(frozen=True, slots=True)
class Skipped:
    """A segment that was not archived, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Archived:
    """What a pass over the log did."""

    segments: tuple[ArchivedSegment, ...]
    skipped: tuple[Skipped, ...]
    failed: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True)
class _Staged:
    """A finished Parquet file that is not published yet."""

    table: str
    trading_day: date
    path: Path
    rows: int


def archive_all(
    wal_dir: Path,
    archive_dir: Path,
    day: date | None = None,
    progress: Callable[[Path, int, int], None] | None = None,
) -> Archived:
    """Every sealed segment under `wal_dir`, or the one file it is. `day` keeps those with events of that trading day.

    `progress(path, done, total)` is called after each segment. One that fails does not keep the others from being
    archived. Raises WalError.
    """
    # Arrow's own allocators give a column's pages back and fault them in for the next one: 8 % of the time.
    pa.set_memory_pool(pa.system_memory_pool())
    paths = wal.segment_paths(wal_dir)
    # Before there are several who use what one of them is still making durable.
    for place in (*schema.TABLES, MANIFESTS):
        wal.make_folder(archive_dir / place)
    _remove_abandoned(archive_dir)
    done: list[ArchivedSegment] = []
    skipped: list[Skipped] = []
    failed: list[Skipped] = []

    def outcome_of(path: Path) -> ArchivedSegment | Skipped | ArchiveFailed | ManifestDamaged:
        try:
            return archive_segment(path, archive_dir)
        except (ArchiveFailed, ManifestDamaged) as failure:
            return failure  # told below: one bad segment keeps no other from being archived

    with ThreadPoolExecutor(WORKERS) as pool:
        for number, (path, outcome) in enumerate(zip(paths, pool.map(outcome_of, paths), strict=True), 1):
            if isinstance(outcome, Skipped):
                skipped.append(outcome)
            elif isinstance(outcome, Exception):
                failed.append(Skipped(path, str(outcome)))
            elif day is None or day in outcome.trading_days:
                done.append(outcome)
            if progress:
                progress(path, number, len(paths))
    return Archived(tuple(done), tuple(skipped), tuple(failed))


def archive_segment(path: Path, archive_dir: Path) -> ArchivedSegment | Skipped:
    """One segment; doing it again changes nothing. Raises ArchiveFailed."""
    known = read_manifest(archive_dir, path.stem)
    if known is not None and not missing_files(known, archive_dir):
        return _archived(known, archive_dir, already=True)
    try:
        footer = read_footer(path)
        if footer is None:
            return Skipped(path, "not sealed: still being written, or its recorder died (the next start repairs it)")
        reader, _ = wal.open_segment(path)
    except ValueError as error:
        return Skipped(path, str(error))
    header = orjson.loads(reader.header)
    with _staging(archive_dir, path.stem) as folder:
        try:
            placement = Placement(header.get("created_ns") or ABSENT_I64, header["first_sequence"])
            staged = write_tables(_chunks(reader), placement, header, folder)
        except (Unplaceable, UnknownRecord, CalendarUnknown) as error:
            raise ArchiveFailed(f"{path}: {error}") from error
        fingerprint = reader.multiset
        _verify(path, staged, fingerprint)
        sealed = orjson.loads(footer)
        manifest = header | {
            "footer": sealed,
            "records": fingerprint[0],
            "multiset_sum": f"{fingerprint[1]:016x}",
            "problems": [_problem(*problem) for problem in reader.problems],
            "missing_sequences": placement.missing(sealed["last_sequence"]),
            "files": [_file_facts(file) for file in staged],
        }
        if not reader.problems and fingerprint != wal.sealed_with(sealed):
            raise ArchiveFailed(
                f"{path}: its records are not those its footer was sealed with. Run: shijim-live verify"
            )
        _publish(staged, manifest, archive_dir, path.stem, folder)
    return _archived(manifest, archive_dir, already=False)


def _chunks(reader: SegmentReader) -> Iterator[NDArray[np.uint8]]:
    """The records of a segment, always in the same memory: a chunk is good until the next is asked for."""
    memory = np.empty(CHUNK_RECORDS * RECORD_BYTES, np.uint8)
    while count := reader.read_into(memory):
        yield memory[: count * RECORD_BYTES]


def write_tables(
    chunks: Iterable[NDArray[np.uint8]], placement: Placement, header: dict[str, Any], folder: Path
) -> list[_Staged]:
    """Chunks of whole records → Parquet files in `folder`."""
    writers: dict[tuple[str, date], pq.ParquetWriter] = {}
    staged: dict[tuple[str, date], _Staged] = {}
    try:
        for chunk in chunks:
            for placed in placement.place(chunk):
                key = (placed.table, placed.trading_day)
                if key not in writers:
                    staged[key] = _Staged(*key, folder / f"{placed.table}-{placed.trading_day}.parquet", 0)
                    writers[key] = parquet_writer(staged[key].path, placed.table)
                writers[key].write_table(placed_table(placed, header), row_group_size=CHUNK_RECORDS)
                known = staged[key]
                staged[key] = _Staged(*key, known.path, known.rows + len(placed.order))
    finally:
        for writer in writers.values():
            writer.close()
    return [staged[key] for key in sorted(staged)]


def placed_table(placed: Placed, header: dict[str, Any]) -> pa.Table:
    """Rows with their provenance, as `schema.schema(table)` says."""
    records = schema.rows_to_table(placed.records.view(schema.record_dtype(placed.table)), placed.table, placed.order)
    rows = len(placed.order)
    zeros = pa.array(np.zeros(rows, np.int32))

    def label(indices: pa.Array, *names: str) -> pa.Array:
        return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))

    provenance = [
        label(zeros, header["run_id"]),
        pa.array(np.full(rows, header["segment"], np.int32)),
        label(zeros, header["source"]),
        pa.array(np.full(rows, placed.trading_day, "datetime64[D]")),
        label(pa.array(placed.session), *SESSIONS),
        pa.array(placed.outside),
        pa.array(placed.duplicate),
    ]
    return pa.Table.from_arrays(provenance + records.columns, schema=schema.schema(placed.table))


def _verify(segment: Path, staged: list[_Staged], wanted: tuple[int, int]) -> None:
    """Every record is made anew from what the files say and hashed. Raises ArchiveFailed."""
    count = total = 0
    for file in staged:
        for data in stored_tables(file.path, file.table):
            file_count, file_sum = schema.table_multiset(data, file.table)
            count, total = count + file_count, (total + file_sum) & _U64
    if (count, total) != wanted:
        raise ArchiveFailed(
            f"{segment}: the Parquet files give back {count:,} records where the segment has {wanted[0]:,}, "
            "or other contents; nothing was published, the log is untouched"
        )


def _file_facts(file: _Staged) -> dict[str, Any]:
    return {
        "table": file.table,
        "trading_day": file.trading_day.isoformat(),
        "rows": file.rows,
        "bytes": file.path.stat().st_size,
        "sha256": hashlib.sha256(file.path.read_bytes()).hexdigest(),
    }


def _problem(offset: int, length: int, first_sequence: int, count: int, message: str) -> dict[str, Any]:
    return {"offset": offset, "length": length, "first_sequence": first_sequence, "count": count, "message": message}


@dataclass(frozen=True, slots=True)
class Published:
    """What of one table and trading day is in the archive."""

    rows: int
    paths: tuple[Path, ...]


def published(archive_dir: Path, day: date) -> dict[str, Published]:
    """Table → what is archived of `day`, by the manifests. Raises NothingArchived when there is no row of it."""
    rows: dict[str, int] = dict.fromkeys(schema.TABLES, 0)
    paths: dict[str, list[Path]] = {table: [] for table in schema.TABLES}
    for key, manifest in manifests(archive_dir).items():
        for file in manifest["files"]:
            if file["trading_day"] == str(day):
                rows[file["table"]] += file["rows"]
                paths[file["table"]].append(parquet_path(archive_dir, file["table"], day, key))
    if not rows["ticks"] + rows["books"]:
        raise NothingArchived(f"{archive_dir}: nothing was recorded of trading day {day}, or it is not sealed yet")
    return {table: Published(rows[table], tuple(paths[table])) for table in schema.TABLES}


def _archived(manifest: dict[str, Any], archive_dir: Path, already: bool) -> ArchivedSegment:
    key = f"{manifest['run_id']}-{manifest['segment']:04}"
    places = [(file["table"], date.fromisoformat(file["trading_day"])) for file in manifest["files"]]
    return ArchivedSegment(
        key=key,
        manifest=archive_dir / MANIFESTS / f"{key}.json",
        records=manifest["records"],
        files=tuple(parquet_path(archive_dir, table, day, key) for table, day in places),
        trading_days=tuple(sorted({day for _, day in places})),
        already=already,
        problems=tuple(problem["message"] for problem in manifest["problems"]),
    )


def _publish(staged: list[_Staged], manifest: dict[str, Any], archive_dir: Path, key: str, folder: Path) -> None:
    """Durable before visible, the manifest last; renaming twice gives the same bytes."""
    for file, facts in zip(staged, manifest["files"], strict=True):
        assert facts["rows"] == file.rows
        replace_durably(file.path, parquet_path(archive_dir, file.table, file.trading_day, key))
    draft = folder / "manifest"
    draft.write_bytes(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2))
    replace_durably(draft, archive_dir / MANIFESTS / f"{key}.json")


def _remove_abandoned(archive_dir: Path) -> None:
    """What archivers left that died, at whatever moment."""
    for stale in archive_dir.glob(".staging-*"):
        if not Path(f"/proc/{stale.name.rsplit('-', 1)[1]}").exists():
            shutil.rmtree(stale, ignore_errors=True)


@contextmanager
def _staging(archive_dir: Path, key: str) -> Iterator[Path]:
    """A private folder beside the tables."""
    folder = archive_dir / f".staging-{key}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
