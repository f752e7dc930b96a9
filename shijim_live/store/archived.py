"""An archived trading day as records again, run by run in order of sequence, for a replay. Does not read the log.

Needs the extra `shijim[lake]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from shijim_live.broker.recorded import NothingToReplay, Window, counted_codes, span
from shijim_live.store import schema
from shijim_live.store.manifest import manifests, missing_files
from shijim_live.store.parquet import parquet_path

DAYS_LISTED_MAX: Final = 10  # in a message


@dataclass(frozen=True, slots=True)
class ArchivedSegment:
    """What of one segment is of the day."""

    key: str
    files: tuple[tuple[str, Path], ...]  # table, Parquet
    footer: dict[str, object]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ArchivedRun:
    """A run in the archive: a `Run` of `broker.recorded`."""

    source: str
    segments: tuple[ArchivedSegment, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(segment.key for segment in self.segments)

    @property
    def span_ns(self) -> tuple[int, int]:
        spans = [span(segment.footer) for segment in self.segments]
        return min(first for first, _ in spans), max(last for _, last in spans)

    @property
    def codes(self) -> frozenset[str] | None:
        return counted_codes([segment.footer for segment in self.segments])

    def chunks(self, window: Window) -> Iterator[bytes]:
        """NothingToReplay behind a segment of which stretches were corrupt, and where a file is damaged."""
        for segment in self.segments:
            if window.misses(*span(segment.footer)):
                continue
            try:
                yield from _records(segment.files, window)
            except (pa.ArrowException, OSError) as error:
                raise NothingToReplay(
                    f"the replay stops: {segment.key}: a Parquet file cannot be read ({error}). Delete it and the "
                    "segment's manifest, then run: shijim archive"
                ) from error
            if segment.problems:
                raise NothingToReplay(f"the replay stops: {segment.key}: {segment.problems[0]}")


def archived_day(archive_dir: Path, day: date | None) -> date:
    """The day if it is archived; without one the only day there is. NothingToReplay, ManifestDamaged."""
    days = sorted({file["trading_day"] for found in manifests(archive_dir).values() for file in found["files"]})
    listed = ", ".join(days[:DAYS_LISTED_MAX]) + (" …" if len(days) > DAYS_LISTED_MAX else "")
    if not days:
        raise NothingToReplay(f"{archive_dir}: nothing is archived here. Run: shijim archive")
    if day is None and len(days) > 1:
        raise NothingToReplay(f"{archive_dir} holds {len(days)} trading days ({listed}): say which with --day")
    if day is not None and str(day) not in days:
        raise NothingToReplay(
            f"{archive_dir}: nothing of trading day {day} is archived, only of {listed}. "
            "Was it recorded and sealed? Then run: shijim archive"
        )
    return day or date.fromisoformat(days[0])


def archived_runs(archive_dir: Path, day: date) -> list[ArchivedRun]:
    """The runs of a trading day. NothingToReplay where a file is gone, ManifestDamaged."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for manifest in manifests(archive_dir).values():
        if any(file["trading_day"] == str(day) for file in manifest["files"]):
            runs.setdefault(manifest["run_id"], []).append(manifest)
    return [_run(archive_dir, day, run) for run in runs.values()]


def _run(archive_dir: Path, day: date, run: list[dict[str, Any]]) -> ArchivedRun:
    segments = []
    for manifest in sorted(run, key=lambda manifest: int(manifest["segment"])):
        if missing := missing_files(manifest, archive_dir):
            raise NothingToReplay(
                f"{missing[0]}: not the file that was archived, or gone. Run: shijim archive, which makes it again"
            )
        key = f"{manifest['run_id']}-{manifest['segment']:04}"
        tables = [file["table"] for file in manifest["files"] if file["trading_day"] == str(day)]
        files = tuple((table, parquet_path(archive_dir, table, day, key)) for table in tables)
        problems = tuple(problem["message"] for problem in manifest["problems"])
        segments.append(ArchivedSegment(key, files, manifest["footer"], problems))
    return ArchivedRun(run[0]["source"], tuple(segments))


@dataclass(frozen=True, slots=True)
class _Group:
    """One row group: the rows of one chunk of the segment."""

    first_sequence: int
    last_sequence: int
    table: str
    file: pq.ParquetFile
    number: int
    received_ns: tuple[int, int] | None

    def read(self) -> pa.Table:
        return self.file.read_row_group(self.number, columns=list(schema.record_schema(self.table).names))


def _records(files: tuple[tuple[str, Path], ...], window: Window) -> Iterator[bytes]:
    """Row groups whose sequences overlap are of one chunk: put together, a few tens of MB, and sorted."""
    opened = [(table, pq.ParquetFile(path, read_dictionary=["code"])) for table, path in files]
    try:
        groups = sorted(
            (group for table, file in opened for group in _groups(table, file)),
            key=lambda group: group.first_sequence,
        )
        while groups:
            chunk, last = [groups.pop(0)], -1
            last = chunk[0].last_sequence
            while groups and groups[0].first_sequence <= last:
                chunk.append(groups.pop(0))
                last = max(last, chunk[-1].last_sequence)
            if all(group.received_ns and window.misses(*group.received_ns) for group in chunk):
                continue
            yield schema.to_records(_tables(chunk))
    finally:
        for _, file in opened:
            file.close()


def _tables(chunk: list[_Group]) -> dict[str, pa.Table]:
    tables: dict[str, list[pa.Table]] = {}
    for group in chunk:
        tables.setdefault(group.table, []).append(group.read())
    return {table: pa.concat_tables(parts) for table, parts in tables.items()}


def _groups(table: str, file: pq.ParquetFile) -> Iterator[_Group]:
    names = file.schema_arrow.names
    for number in range(file.num_row_groups):
        row_group = file.metadata.row_group(number)
        sequence = row_group.column(names.index("sequence")).statistics
        received = row_group.column(names.index("received_ns")).statistics
        # Without a receive time in every row, what the statistics leave out may lie in the window.
        counted = received is not None and received.has_min_max and not received.null_count
        span_ns = (received.min, received.max) if counted else None
        yield _Group(sequence.min, sequence.max, table, file, number, span_ns)
