"""How a recorder's connections to the broker stand, for who looks from outside: a file beside its ring. Not the ledger.

The recorder writes it while it records and takes it away at a clean end; what a dead one left behind names its process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from shijim_live.calendar import wall_clock
from shijim_live.record.recorder import ring_path

TOPICS_SHOWN_MAX: Final = 10  # of those that are not confirmed, on a terminal; --json has all


@dataclass(frozen=True, slots=True)
class Connections:
    """What stands in the file."""

    pid: int
    written_ns: int
    connections: tuple[Mapping[str, Any], ...]  # number, phase, said, logins, quote_ns, topics


def connections_path(raw_dir: Path, shard: int) -> Path:
    ring = ring_path(raw_dir, shard)
    return ring.with_name(f"{ring.name}-connections.json")


def write_connections(raw_dir: Path, shard: int, now_ns: int, connections: Sequence[Mapping[str, object]]) -> None:
    """Replaces the file; topics that are confirmed are counted and not listed."""
    shown = [_without_confirmed(one) for one in connections]
    text = orjson.dumps({"pid": os.getpid(), "written_ns": now_ns, "connections": shown})
    path = connections_path(raw_dir, shard)
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(text)
    draft.replace(path)


def _without_confirmed(one: Mapping[str, Any]) -> dict[str, object]:
    topics = one.get("topics")
    if not topics or "topics" not in topics:
        return dict(one)
    unsettled = [topic for topic in topics["topics"] if topic["phase"] != "confirmed"]
    return {**one, "topics": {**topics, "topics": unsettled}}


def read_connections(raw_dir: Path, shard: int, pid: int | None) -> Connections | None:
    """What the recorder of that process wrote last; None where it has no connections, or is another."""
    try:
        fields = orjson.loads(connections_path(raw_dir, shard).read_bytes())
        found = Connections(fields["pid"], fields["written_ns"], tuple(fields["connections"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return found if found.pid == pid else None


def remove_connections(raw_dir: Path, shard: int) -> None:
    connections_path(raw_dir, shard).unlink(missing_ok=True)


def describe_connections(found: Connections) -> list[str]:
    """A line a connection, and one for each topic that is not as it should be."""
    lines = []
    unsettled = []
    for one in found.connections:
        topics = one.get("topics", {"counts": {}, "topics": []})
        counts: Mapping[str, int] = topics["counts"]
        wanted = sum(count for phase, count in counts.items() if phase != "unwanted")
        said = f": {one['said']}" if one.get("said") else ""
        lines.append(
            f"  connection {one['number']}: {one['phase']}{said}; {counts.get('confirmed', 0)} of {wanted} topics "
            f"confirmed, {one.get('logins', 0)} logins"
        )
        unsettled += [_unsettled(topic) for topic in topics.get("topics", ()) if topic["phase"] == "refused"]
    lines += unsettled[:TOPICS_SHOWN_MAX]
    if len(unsettled) > TOPICS_SHOWN_MAX:
        lines.append(f"    … and {len(unsettled) - TOPICS_SHOWN_MAX} topics more (--json)")
    return lines


def _unsettled(topic: Mapping[str, Any]) -> str:
    again = topic["retry_ns"]
    at = f"; again at {wall_clock(again):%H:%M:%S} Taipei" if again else ""
    return f"    {topic['topic']} {topic['phase']}, {topic['attempts']} times asked: {topic['reason']}{at}"
