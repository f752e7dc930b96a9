"""Ships what is archived and not confirmed to a ClickHouse server. Reads the archive and never the log.

Per segment: publish its files in blocks, ask the server for count and fingerprint of what it now holds, compare with
the files, write the confirmation. Killed anywhere, the next call begins the segment again and inserts nothing twice
in effect. Rows the server refuses for what they hold go to `<fallback_dir>/<server>/<key>.<table>.<day>.jsonl`, each
with the reason; the rest is shipped, and the confirmation counts them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shijim_live.store import schema
from shijim_live.store.confirmations import (
    Confirmation,
    ShippedFile,
    confirm,
    confirmations,
    is_confirmed,
    one_at_a_time,
    read_confirmation,
    unconfirmed,
    withdraw,
)
from shijim_live.store.fingerprint import NOTHING, Fingerprint, added, fingerprint
from shijim_live.store.manifest import MANIFESTS, ManifestDamaged, read_manifest
from shijim_live.store.parquet import parquet_path, write_durably
from shijim_live.store.server import Server

NOTHING_TO_SHIP: Final = "nothing to ship, lake mode: CLICKHOUSE_DSN names no server"
# An insert that is gathered, or a replica that lags, shows within seconds; afterwards it is missing.
LATE_SECONDS_MAX: Final = 15
_LABELS: Final = ["run_id", "source", "session", "code"]


class NotShipped(ValueError):
    """One segment that could not be shipped; the others are."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """What a call did."""

    segments: int  # confirmed now
    rows: int  # of them, on the server
    already: int  # segments that were confirmed before
    refused: int  # rows of them that the server does not take; they are in the fallback folder
    failed: tuple[str, ...] = ()  # a line a segment that could not be shipped
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verified:
    """What the server still has of what it confirmed."""

    segments: int
    lost: tuple[str, ...]  # keys whose confirmation was withdrawn: the next call ships them again


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment and where its parts lie."""

    run_id: str
    number: int
    archive_dir: Path
    fallback_dir: Path

    @property
    def key(self) -> str:
        return f"{self.run_id}-{self.number:04}"


Progress = Callable[[str, int, int], None]


def ship(
    archive_dir: Path, shipped_dir: Path, server: Server, fallback_dir: Path, progress: Progress | None = None
) -> Shipped:
    """Everything unconfirmed, the oldest first; `progress(key, done, total)` after each segment.

    `shipped_dir` is this server's own (`Settings.shipped_dir`). A segment that cannot be shipped keeps no other from
    being shipped. Raises ServerError when the server cannot go on: the next call does the rest.
    """
    notes = _prepare(shipped_dir, server)
    waiting = unconfirmed(archive_dir, shipped_dir)
    already = len(list((archive_dir / MANIFESTS).glob("*.json"))) - len(waiting)
    done: list[Confirmation] = []
    failed: list[str] = []
    for number, key in enumerate(waiting, 1):
        with one_at_a_time(shipped_dir):
            if is_confirmed(archive_dir, shipped_dir, key):
                already += 1  # another shipper did it meanwhile
            else:
                try:
                    done.append(_ship_segment(archive_dir, shipped_dir, key, server, fallback_dir))
                except (NotShipped, ManifestDamaged) as failure:
                    failed.append(str(failure))
        if progress:
            progress(key, number, len(waiting))
    rows, refused = (sum(getattr(one, what) for one in done) for what in ("rows", "refused"))
    return Shipped(len(done), rows, already, refused, tuple(failed), notes)


def verify(shipped_dir: Path, server: Server, progress: Progress | None = None) -> Verified:
    """Asks the server for everything it confirmed, a trading day at a time, and withdraws what it no longer has.

    Raises ServerError.
    """
    with one_at_a_time(shipped_dir):
        known = list(confirmations(shipped_dir))
        if not server.has_tables():
            lost = {one.key for one in known}
        else:
            lost = set()
            places = sorted({(file.trading_day, file.table) for one in known for file in one.files})
            for number, (day, table) in enumerate(places, 1):
                held = server.fingerprints(table, day)
                lost |= {
                    one.key
                    for one in known
                    for file in one.files
                    if (file.trading_day, file.table) == (day, table)
                    and held.get((one.run_id, one.segment), NOTHING) != file.on_server
                }
                if progress:
                    progress(f"{table} of {day}", number, len(places))
        withdraw(shipped_dir, tuple(sorted(lost)))
    return Verified(len(known), tuple(sorted(lost)))


def describe(shipped: Shipped | None) -> str:
    """For a person; `None` where no server is configured."""
    if shipped is None:
        return NOTHING_TO_SHIP
    lines = [
        f"shipped {shipped.rows:,} rows of {shipped.segments:,} segments; "
        f"{shipped.already:,} segments were confirmed before"
    ]
    if shipped.refused:
        lines.append(f"  {shipped.refused:,} rows the server refuses are in the fallback folder, with the reasons")
    return "\n".join(
        [*lines, *(f"  {note}" for note in shipped.notes), *(f"  failed: {one}" for one in shipped.failed)]
    )


def _prepare(shipped_dir: Path, server: Server) -> tuple[str, ...]:
    """Makes the tables. Where there are none, nothing that this place ever confirmed is there any more."""
    notes: tuple[str, ...] = ()
    with one_at_a_time(shipped_dir):
        known = tuple(path.stem for path in shipped_dir.glob("*.json"))
        if known and not server.has_tables():
            withdraw(shipped_dir, known)
            notes = (f"the server has no tables: all {len(known):,} segments it once confirmed are shipped again",)
        server.create()
        if known and not notes:
            sql = " + ".join(f"(SELECT count() FROM {table}_shipped)" for table in schema.TABLES)
            if not server.query(f"SELECT {sql} AS n")["n"][0].as_py():
                notes = (
                    f"the server's tables are empty though it confirmed {len(known):,} segments. "
                    "To ship them again: shijim ship --verify",
                )
    return notes


def _ship_segment(archive_dir: Path, shipped_dir: Path, key: str, server: Server, fallback_dir: Path) -> Confirmation:
    manifest = read_manifest(archive_dir, key)
    if manifest is None:
        raise NotShipped(f"{key}: its manifest has gone. Run: shijim archive")
    segment = _Segment(manifest["run_id"], manifest["segment"], archive_dir, fallback_dir / server.place.name)
    before = read_confirmation(shipped_dir, key)
    if before is not None:
        # Archived anew, with other contents: what was shipped of it must not stand beside what is shipped now.
        for file in before.files:
            server.delete(file.table, file.trading_day, segment.run_id, segment.number)
    files = tuple(_ship_file(segment, facts, server) for facts in manifest["files"])
    confirmation = Confirmation(segment.run_id, segment.number, files)
    confirm(shipped_dir, confirmation)
    return confirmation


def _ship_file(segment: _Segment, facts: dict[str, Any], server: Server) -> ShippedFile:
    """Publishes one file until the server holds what the file does."""
    table, day = facts["table"], date.fromisoformat(facts["trading_day"])
    path = parquet_path(segment.archive_dir, table, day, segment.key)
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != facts["sha256"]:
        raise NotShipped(
            f"{path}: missing, or not the file that was archived. Delete it and its manifest, and run: shijim archive"
        )
    key = f"{segment.key}:{day}:{facts['sha256']}"
    for repair in ("", "again", "anew"):
        if repair == "anew":
            server.delete(table, day, segment.run_id, segment.number)
        # A token that the server knows is ignored, though the rows have gone since: a repair needs tokens of its own.
        wanted, refused = _publish(server, table, key + (f":{repair}-{time.time_ns()}" if repair else ""), path)
        held = _held(server, table, day, segment, wanted)
        if held == wanted:
            _write_refused(segment, table, day, refused)
            return ShippedFile(table, day, facts["sha256"], wanted, len(refused))
    raise NotShipped(
        f"{path}: shipped {wanted[0]:,} rows, and {server.place} shows {held[0]:,} of this segment, or others: "
        "look for somebody who writes or deletes there (a TTL, a mutation), and ship again"
    )


def _publish(server: Server, table: str, key: str, path: Path) -> tuple[Fingerprint, list[bytes]]:
    """(what the server must hold now, the rows it refused as JSON)."""
    wanted, refused = NOTHING, []
    for first, block in _blocks(path, table, server.flush_rows):
        poison = server.publish(table, key, block, first)
        if poison:
            rows = [one.row - first for one in poison]
            bad = block.take(pa.array(rows, pa.int64())).to_pylist()
            refused += [
                orjson.dumps({"table": table, "reason": one.reason, "row": row}, default=_as_text)
                for one, row in zip(poison, bad, strict=True)
            ]
            kept = pc.invert(pc.is_in(pa.array(range(block.num_rows), pa.int64()), pa.array(rows, pa.int64())))
            block = block.filter(kept)
        wanted = added(wanted, fingerprint(block, table))
    return wanted, refused


def _blocks(path: Path, table: str, rows: int) -> Iterator[tuple[int, pa.Table]]:
    """(number of its first row, at most `rows` rows): always the same ones for the same file and `rows`."""
    first = 0
    with pq.ParquetFile(path, read_dictionary=_LABELS) as file:
        for batch in file.iter_batches(batch_size=rows, columns=schema.schema(table).names):
            yield first, pa.Table.from_batches([batch])
            first += batch.num_rows


def _held(server: Server, table: str, day: date, segment: _Segment, wanted: Fingerprint) -> Fingerprint:
    """What the server holds of the segment; waits where an insert may show later."""
    deadline = time.monotonic() + LATE_SECONDS_MAX * (server.answers_late or server.cluster is not None)
    while True:
        for rows in ("shipped", "raw"):  # mostly nothing came twice
            held = server.fingerprints(table, day, segment.run_id, segment.number, rows)
            found = held.get((segment.run_id, segment.number), NOTHING)
            if found == wanted:
                return found
        if time.monotonic() >= deadline:
            return found
        time.sleep(0.2)


def _write_refused(segment: _Segment, table: str, day: date, refused: list[bytes]) -> None:
    """Replaces what an earlier try left: nothing refused, no file."""
    path = segment.fallback_dir / f"{segment.key}.{table}.{day}.jsonl"
    if not refused:
        path.unlink(missing_ok=True)
        return
    write_durably(path, b"\n".join(refused) + b"\n")


def _as_text(value: object) -> object:
    """Text of a status is bytes: UTF-8 unless it was cut in the middle of a letter."""
    assert isinstance(value, bytes)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"hex": value.hex()}
