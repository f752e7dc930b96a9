"""A whole run of records as a folder of the log: there with all its segments, or not at all. Not a recorder.

What is not recorded live (imports, backfills) comes in this way; a run's identity is the hash of what it holds, so that
writing it again changes nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import orjson

from rust_indicators import LogWriter
from shijim_live import __version__
from shijim_live.events import SCHEMA_VERSION
from shijim_live.instruments import dictionary
from shijim_live.record import wal


def run_header(source: str, run_id: str, created_ns: int, config: dict[str, object], codes: Iterable[str]) -> str:
    """The header of a run without a receive clock, whose config is its content. `codes`: as far as they are known."""
    header = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "source": source,
        "clock": "absent",
        "created_ns": created_ns,
        "build": __version__,
        "config": config,
        "config_hash": run_id,
        "shard": 0,
        "instruments": dictionary(codes),
    }
    return orjson.dumps(header, option=orjson.OPT_SORT_KEYS).decode()


def write_run(final: Path, run_id: str, header: str, chunks: Iterable[bytes]) -> bool:
    """Chunks of whole records become the folder `final` of a log; False where it was there already. Raises OSError."""
    wal_dir = final.parent
    if final.is_dir():
        return False
    _remove_dead_stagings(wal_dir.parent, final.name)
    staging = wal_dir.parent / f".{final.name}-{os.getpid()}"
    try:
        writer = LogWriter(staging, run_id, header)
        for chunk in chunks:
            writer.append(chunk)
        writer.close()
        wal.make_folder(wal_dir)
        # One rename: a recorder or an archive never sees half a run.
        try:
            staging.rename(final)
        except OSError:
            if not final.is_dir():
                raise
            return False  # somebody else wrote the same run meanwhile
        wal.sync_name(final)
        return True
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _remove_dead_stagings(raw_dir: Path, name: str) -> None:
    """What a killed writer of the same run left; one that still runs keeps its own."""
    for stale in raw_dir.glob(f".{name}-*"):
        if not Path(f"/proc/{stale.name.rpartition('-')[2]}").exists():
            shutil.rmtree(stale, ignore_errors=True)
