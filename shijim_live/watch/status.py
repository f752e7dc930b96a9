"""What a recorder is doing, seen from another process: its ring if it runs, its log in any case."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from rust_indicators import RingReader
from shijim_live.calendar import wall_clock
from shijim_live.events import RingState
from shijim_live.record import wal
from shijim_live.record.recorder import is_recording, ring_path
from shijim_live.watch.connections import Connections, describe_connections, read_connections


@dataclass(frozen=True, slots=True)
class Group:
    """Competing readers of the ring."""

    name: str
    lag: int  # events that no member has claimed
    missed: int
    abandoned: int  # claimed by members that died before they had finished
    members: int  # that live


@dataclass(frozen=True, slots=True)
class Status:
    """One shard of one data folder."""

    raw_dir: str
    shard: int
    recording: bool
    pid: int | None
    run_id: str | None
    accepted: int | None
    durable: int | None
    ring_slots: int | None
    depth: int | None  # events that wait for the disk
    depth_max: int | None
    waiting_for_space: bool  # nothing is recorded until the disk has space again
    not_recorded: int | None  # events that came while there was none; each lies in an outage
    missed: int | None
    groups: tuple[Group, ...]
    lots_missing: int | None
    last_gap: str | None  # lots, and when the trade that revealed it was received
    quarantined: int | None
    blocked_seconds: float | None
    last_durable_received: str | None  # Taipei wall clock
    connections: Connections | None  # None where the feed has none
    segments: int
    unreadable_segments: int
    sealed_segments: int
    sealed_records: int
    log_bytes: int
    disk_free_bytes: int


def status(raw_dir: Path, shard: int = 0) -> Status:
    """Raises WalError when there is no log in the folder."""
    wal_dir = raw_dir / "wal"
    paths = wal.segment_paths(wal_dir)
    headers, unreadable = wal.readable_headers(wal_dir)
    footers = [footer for header in headers if (footer := wal.footer(header.path)) is not None]
    recording = is_recording(wal_dir, shard)
    counters: dict[str, int] = {}
    groups: tuple[Group, ...] = ()
    if recording and ring_path(raw_dir, shard).exists():
        reader = RingReader(ring_path(raw_dir, shard))
        # A recorder that is still recovering has not replaced the ring of the one that died.
        if reader.writer == "running":
            groups, counters = _groups(reader), reader.counters()
    last_ns = counters.get("durable_received_ns", 0)
    return Status(
        raw_dir=str(raw_dir),
        shard=shard,
        recording=recording,
        pid=counters.get("writer_pid"),
        run_id=f"{counters['run_id']:016x}" if counters else None,
        accepted=counters.get("accepted"),
        durable=counters.get("durable"),
        ring_slots=counters.get("slots"),
        depth=counters.get("depth"),
        depth_max=counters.get("depth_max"),
        waiting_for_space=counters.get("state") == RingState.WAITING,
        not_recorded=counters.get("not_recorded"),
        missed=counters.get("missed"),
        groups=groups,
        lots_missing=counters.get("lots_missing"),
        last_gap=_last_gap(counters),
        quarantined=counters.get("quarantined"),
        blocked_seconds=counters["blocked_ns"] / 1_000_000_000 if counters else None,
        last_durable_received=wall_clock(last_ns).isoformat(" ", "milliseconds") if last_ns else None,
        connections=read_connections(raw_dir, shard, counters.get("writer_pid")) if counters else None,
        segments=len(paths),
        unreadable_segments=len(unreadable),
        sealed_segments=len(footers),
        sealed_records=sum(int(str(footer["records"])) for footer in footers),
        log_bytes=sum(path.stat().st_size for path in paths),
        disk_free_bytes=shutil.disk_usage(raw_dir).free,
    )


def _groups(reader: RingReader) -> tuple[Group, ...]:
    found = reader.groups()
    accepted = reader.counters()["accepted"]
    return tuple(Group(name, max(0, accepted + 1 - following), *counts) for name, following, *counts in found)


def _last_gap(counters: dict[str, int]) -> str | None:
    received_ns = counters.get("last_gap_ns")
    if not received_ns:
        return None
    return f"{counters['last_gap_lots']:,} lots at {wall_clock(received_ns).isoformat(' ', 'milliseconds')} Taipei"


def describe(found: Status) -> str:
    """A few lines a person can read."""
    doing = "recording" if found.recording else "not recording"
    lines = [f"{found.raw_dir}, shard {found.shard}: {'waiting for space' if found.waiting_for_space else doing}"]
    if found.accepted is not None:
        lines += [
            f"  run {found.run_id}, process {found.pid}",
            f"  {found.accepted:,} events accepted, {found.durable:,} durable, "
            f"last from {found.last_durable_received} Taipei",
            f"  {found.lots_missing:,} lots missing, {found.quarantined:,} objects quarantined, "
            f"callbacks blocked {found.blocked_seconds:.3f} s, readers missed {found.missed:,}",
            f"  ring: {found.depth:,} of {found.ring_slots:,} events wait for the disk, "
            f"{found.depth_max:,} at most so far",
        ]
    if found.connections is not None:
        lines += describe_connections(found.connections)
    lines += [
        f"  group {group.name}: {group.members} members, {group.lag:,} events behind, "
        f"{group.missed:,} missed, {group.abandoned:,} abandoned by members that died"
        for group in found.groups
    ]
    if found.last_gap:
        lines.append(f"  last gap: {found.last_gap}. All: shijim-live cat {found.raw_dir}/wal --kind gap")
    if found.not_recorded:
        lines.append(f"  {found.not_recorded:,} events came while there was no space: they are not in the log")
    lines.append(
        f"  log: {found.segments:,} segments ({found.sealed_segments:,} sealed with {found.sealed_records:,} records), "
        f"{found.log_bytes / 2**20:,.1f} MiB; {found.disk_free_bytes / 2**30:,.1f} GiB free"
    )
    if found.unreadable_segments:
        lines.append(
            f"  {found.unreadable_segments:,} segments cannot be read. Run: shijim-live verify {found.raw_dir}/wal"
        )
    return "\n".join(lines)
