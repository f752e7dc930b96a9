"""What a server confirmed of the archive: data/shipped/<server>/<key>.json, one a segment. Talks to no server.

A confirmation is written once the server answered with the count and the fingerprint of the segment's rows. It names
the Parquet files it is of by their hash: a segment that was archived anew, with other contents, is not confirmed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import orjson

from shijim_live.store.fingerprint import Fingerprint
from shijim_live.store.manifest import MANIFESTS, ManifestDamaged, read_manifest
from shijim_live.store.parquet import write_durably

_LOCK: Final = "lock"


@dataclass(frozen=True, slots=True)
class ShippedFile:
    """The rows of one Parquet file that a server has."""

    table: str
    trading_day: date
    sha256: str
    on_server: Fingerprint
    refused: int


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Everything of one segment."""

    run_id: str
    segment: int
    files: tuple[ShippedFile, ...]

    @property
    def key(self) -> str:
        return f"{self.run_id}-{self.segment:04}"

    @property
    def rows(self) -> int:
        return sum(file.on_server[0] for file in self.files)

    @property
    def refused(self) -> int:
        return sum(file.refused for file in self.files)


def unconfirmed(archive_dir: Path, shipped_dir: Path) -> tuple[str, ...]:
    """Keys of the archived segments that the server of `shipped_dir` has not confirmed, the longest archived first."""
    written = {path.stem: path.stat().st_mtime_ns for path in (archive_dir / MANIFESTS).glob("*.json")}
    confirmed = {path.stem: path.stat().st_mtime_ns for path in shipped_dir.glob("*.json")}
    waiting = []
    for key, written_ns in sorted(written.items(), key=lambda item: (item[1], item[0])):
        # Reading every manifest again would take seconds after a year; only a newer one can say something else.
        if key not in confirmed or (written_ns >= confirmed[key] and not is_confirmed(archive_dir, shipped_dir, key)):
            waiting.append(key)
    return tuple(waiting)


def is_confirmed(archive_dir: Path, shipped_dir: Path, key: str) -> bool:
    """Whether the server has what the archive holds of this segment now."""
    known = read_confirmation(shipped_dir, key)
    if known is None:
        return False
    try:
        manifest = read_manifest(archive_dir, key)
    except ManifestDamaged:
        return False  # shipping it tells
    return manifest is not None and {file.sha256 for file in known.files} == {f["sha256"] for f in manifest["files"]}


def read_confirmation(shipped_dir: Path, key: str) -> Confirmation | None:
    """What is known; `None` also for a file that cannot be read: the segment is shipped again, to no harm."""
    try:
        found = orjson.loads((shipped_dir / f"{key}.json").read_bytes())
        return Confirmation(found["run_id"], found["segment"], tuple(map(_file, found["files"])))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def confirmations(shipped_dir: Path) -> Iterator[Confirmation]:
    """All of them, in order of their keys."""
    for path in sorted(shipped_dir.glob("*.json")):
        known = read_confirmation(shipped_dir, path.stem)
        if known is not None:
            yield known


def confirm(shipped_dir: Path, confirmation: Confirmation) -> None:
    """Writes it, durably."""
    files = [
        {
            "table": file.table,
            "trading_day": file.trading_day.isoformat(),
            "sha256": file.sha256,
            "rows": file.on_server[0],
            "fingerprint": f"{file.on_server[1]:016x}",
            "refused": file.refused,
        }
        for file in confirmation.files
    ]
    told = {"run_id": confirmation.run_id, "segment": confirmation.segment, "files": files}
    rendered = orjson.dumps(told, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    write_durably(shipped_dir / f"{confirmation.key}.json", rendered)


def withdraw(shipped_dir: Path, keys: tuple[str, ...]) -> None:
    """Removes confirmations, durably: the server does not have these segments, or not for long."""
    for key in keys:
        (shipped_dir / f"{key}.json").unlink(missing_ok=True)
    folder = os.open(shipped_dir, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def one_at_a_time(shipped_dir: Path) -> Iterator[None]:
    """Two shippers of one machine take turns, a segment each; a dead one's turn is over."""
    shipped_dir.mkdir(parents=True, exist_ok=True)
    lock = os.open(shipped_dir / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _file(found: dict[str, Any]) -> ShippedFile:
    on_server = int(found["rows"]), int(found["fingerprint"], 16)
    return ShippedFile(
        found["table"], date.fromisoformat(found["trading_day"]), found["sha256"], on_server, int(found["refused"])
    )
