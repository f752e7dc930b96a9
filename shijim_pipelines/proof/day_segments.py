"""What was recorded of one trading day: its archived segments, what waits in the log, the outages. Judges nothing.

A backfill is no recording: segments with the source `backfill` are left out everywhere. Each manifest is read at most
once, and of other days only those needed to find where in a run the day begins and ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import orjson

from rust_indicators import read_footer
from shijim_live.broker.connection import Subscription
from shijim_live.calendar import DAY_NS, Market, next_trading_day, previous_trading_day, session_bounds
from shijim_live.events import ABSENT_I64, TEXT_BYTES, Kind
from shijim_live.record import wal
from shijim_live.store import schema
from shijim_live.store.manifest import MANIFESTS, missing_files, read_manifest
from shijim_live.store.parquet import parquet_path, stored_rows
from shijim_live.store.views import BACKFILL

# A run is looked through this far on both sides of the day: our clock may be off, and books go on after the close.
MARGIN_NS: Final = DAY_NS

Manifest = dict[str, Any]


class ArchiveDamaged(ValueError):
    """A file of the archive is gone or altered: what is left must not be judged as if it were all."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A hole the recorder knew of, on our clock."""

    source: str
    run_id: str
    sequence: int
    begin_ns: int
    end_ns: int
    reason: str
    codes: frozenset[str] | None = None  # those of the connection that was lost; None: of all

    def concerns(self, code: str) -> bool:
        return self.codes is None or code in self.codes


class Manifests:
    """The manifests of an archive, by key, each read when it is first asked for."""

    def __init__(self, archive_dir: Path) -> None:
        self.archive_dir = archive_dir
        self.keys = frozenset(path.stem for path in (archive_dir / MANIFESTS).glob("*.json"))
        self._read: dict[str, Manifest | None] = {}

    def get(self, key: str) -> Manifest | None:
        """None where the segment is not archived. Raises ManifestDamaged."""
        if key not in self._read:
            self._read[key] = read_manifest(self.archive_dir, key) if key in self.keys else None
        return self._read[key]

    def near(self, day: date) -> list[Manifest]:
        """Those that may be of the day by the clock, whether they have files or not: a lost file is still named."""
        bounds = session_bounds(day, Market.FUTURES)
        begin_ns, end_ns = bounds[0].open_ns - MARGIN_NS, bounds[-1].close_ns + MARGIN_NS
        runs: dict[str, list[str]] = defaultdict(list)
        for key in sorted(self.keys):
            runs[key.rpartition("-")[0]].append(key)
        return [manifest for keys in runs.values() for manifest in self._within(keys, begin_ns, end_ns)]

    def _within(self, keys: Sequence[str], begin_ns: int, end_ns: int) -> list[Manifest]:
        """Of the segments of one run, in their order, those that touch a span of time."""
        last = _span(self.get(keys[-1]))
        if last is not None and last[1] < begin_ns:  # most runs of an archive are over long before
            return []
        first, beyond = 0, len(keys)
        while first < beyond:
            middle = (first + beyond) // 2
            span = _span(self.get(keys[middle]))
            if span is None:  # it does not say when: look at all before it
                beyond = middle
            elif span[1] < begin_ns:
                first = middle + 1
            else:
                beyond = middle
        found = []
        for key in keys[first:]:
            manifest = self.get(key)
            span = _span(manifest)
            if span is not None and span[0] > end_ns:
                break
            found += [manifest] if manifest else []
        return found


def _span(manifest: Manifest | None) -> tuple[int, int] | None:
    """When the events of a segment happened, as far as it says."""
    footer = manifest["footer"] if manifest else {}
    found = footer.get("received_ns") or footer.get("exchange_ns")
    return (found[0], found[1]) if found else None


def key_of(segment: Manifest) -> str:
    return f"{segment['run_id']}-{segment['segment']:04}"


def segments_of(known: Manifests, day: date) -> tuple[list[Manifest], list[str]]:
    """Manifests of the recorded segments with rows of the day, in the order of recording; notes on unfinished ones.

    Raises ArchiveDamaged, ManifestDamaged.
    """
    archive_dir = known.archive_dir
    keys: set[str] = set()
    for table in schema.TABLES:
        keys |= {path.stem for path in parquet_path(archive_dir, table, day, "_").parent.glob("*.parquet")}
    # A file that was lost is still named by its manifest; a segment of which nothing was sound has no file at all.
    keys |= {
        key_of(manifest)
        for manifest in known.near(day)
        if str(day) in [file["trading_day"] for file in manifest["files"]]
        or (not manifest["files"] and _sealed_within(manifest, day))
    }
    found, notes = [], []
    for key in sorted(keys):
        manifest = known.get(key)
        if manifest is None:
            notes.append(f"segment {key} is half archived and was not judged. Run: shijim archive")
        elif manifest["source"] == BACKFILL:
            continue
        elif missing := missing_files(manifest, archive_dir):
            raise ArchiveDamaged(f"{missing[0]}: not what segment {key} was archived as. Run: shijim archive")
        else:
            found.append(manifest)
    started: dict[str, int] = {}
    for manifest in found:
        first = (_span(manifest) or (0, 0))[0]
        started[manifest["run_id"]] = min(started.get(manifest["run_id"], first), first)
    found.sort(key=lambda manifest: (started[manifest["run_id"]], manifest["run_id"], manifest["segment"]))
    return found, notes


def _sealed_within(manifest: Manifest, day: date) -> bool:
    """Whether what a segment was sealed with falls into the sessions of the day."""
    first_ns, last_ns = _span(manifest) or (ABSENT_I64, ABSENT_I64)
    bounds = session_bounds(day, Market.FUTURES)
    return bool(first_ns < bounds[-1].close_ns and last_ns >= bounds[0].open_ns)


def files_of(segments: Sequence[Manifest], archive_dir: Path, table: str, day: date) -> list[tuple[str, Path]]:
    """(run_id, Parquet file) of the segments that have rows of the table and day."""
    return [
        (segment["run_id"], parquet_path(archive_dir, table, day, key_of(segment)))
        for segment in segments
        if [table, str(day)] in [[file["table"], file["trading_day"]] for file in segment["files"]]
    ]


def not_archived(known: Manifests, wal_dir: Path | None, day: date) -> list[Path]:
    """Sealed segments of recordings that may hold events of the day and are not in the archive."""
    if wal_dir is None or not wal_dir.exists():
        return []
    found = []
    for path in wal.segment_paths(wal_dir):
        if path.stem in known.keys:
            continue
        try:
            footer = read_footer(path)
        except ValueError:
            # It says nothing of its days; its slot is the only hint. The archive tells what is wrong with it.
            if path.parent.name[:10] in (str(previous_trading_day(day)), str(day)):
                found.append(path)
            continue
        if footer is None:
            continue
        ranges = orjson.loads(footer)
        span = ranges.get("exchange_ns") or ranges.get("received_ns")
        if (not span or within(span[0], span[1], day)) and _source(path) != BACKFILL:
            found.append(path)
    return found


def _source(path: Path) -> str:
    """A segment whose header cannot be read is nobody's backfill."""
    try:
        return wal.read_header(path).source
    except wal.WalError:
        return ""


def outages_of(known: Manifests, day: date) -> list[Outage]:
    """Recorded outages of the day and its neighbours: one that ends after the close is a status of the next day.

    One of several connections concerns the codes that were confirmed on it. Every connection confirms them anew each
    morning, so that those of the day and of its night are among what is read here.
    """
    found = []
    carried: dict[tuple[str, int], set[str]] = defaultdict(set)
    wanted = [str(int(kind)) for kind in (Kind.OUTAGE, Kind.SUBSCRIPTION)]
    for near in (previous_trading_day(day), day, next_trading_day(day)):
        for path in sorted(parquet_path(known.archive_dir, "statuses", near, "_").parent.glob("*.parquet")):
            manifest = known.get(path.stem)
            if manifest is None or not any(manifest["footer"]["kinds"].get(kind) for kind in wanted):
                continue
            for rows in stored_rows(path, "statuses"):
                first = rows[rows["part"] == 0]
                for row in first[(first["kind"] == Kind.SUBSCRIPTION) & (first["value"] == Subscription.CONFIRMED)]:
                    carried[manifest["run_id"], int(row["connection"])].add(_text(row).partition("/")[0])
                found += [(row, manifest) for row in first[first["kind"] == Kind.OUTAGE]]
    outages = [_outage(row, manifest, carried) for row, manifest in found]
    return sorted(outages, key=lambda outage: (outage.begin_ns, outage.run_id, outage.sequence))


def _outage(row: Any, segment: Manifest, carried: Mapping[tuple[str, int], set[str]]) -> Outage:
    begin_ns, end_ns, connection = int(row["begin_ns"]), int(row["end_ns"]), int(row["connection"])
    # A connection that confirmed nothing as long as it lived may have been to bring anything.
    codes = frozenset(carried.get((segment["run_id"], connection), ())) or None
    return Outage(segment["source"], segment["run_id"], int(row["sequence"]), begin_ns, end_ns, _text(row), codes)


def _text(row: Any) -> str:
    return bytes(row["text"])[: min(int(row["text_length"]), TEXT_BYTES)].decode("utf-8", "replace")


def within(begin_ns: int, end_ns: int, day: date) -> bool:
    """Whether a span of time touches a session of the day."""
    bounds = [bound for market in Market for bound in session_bounds(day, market)]
    return any(begin_ns <= bound.close_ns and end_ns >= bound.open_ns for bound in bounds)
