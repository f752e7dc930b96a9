"""How much of the disk a recorder wants: watermarks, ballast, and the first look at the folder. Does not watch a disk:
the log thread does (`rust_indicators/src/space.rs`), with the numbers from here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from shijim_live.record import wal

MIB = 1024 * 1024
# A recorder started with less room than this would stop within the day: refuse while somebody is looking. One that
# waits for space goes on with as much.
FREE_BYTES_MIN = 256 * 1024 * 1024
# Hours of a quiet market, twenty minutes of a burst: time to make room before anything is lost.
FREE_BYTES_WARN = 1024 * 1024 * 1024
# The log stops here in good order, and leaves this much to whatever else has to be put right on the disk.
FREE_BYTES_STOP = 64 * 1024 * 1024
# Held back beside the log for a disk that fills in one go: a ring of the default size fits in, uncompressed.
BALLAST_BYTES = 32 * 1024 * 1024


class RecordError(RuntimeError):
    """Recording cannot start or go on; the text says what, where and what to do."""


def log_space(wal_dir: Path, shard: int) -> tuple[Path, int, int, int]:
    """What `rust_indicators.Publisher` wants to know: ballast and its size, when to stop, when to go on.

    Each shard has a ballast of its own: nobody throws off another's.
    """
    return wal_dir / f".ballast-{shard}", BALLAST_BYTES, FREE_BYTES_STOP, FREE_BYTES_MIN


def require_room(raw_dir: Path, durability: str) -> None:
    """Makes the data folder, durably where anything is. RecordError when it cannot be written or is nearly full."""
    try:
        if durability == "off":
            (raw_dir / "wal").mkdir(parents=True, exist_ok=True)
        else:
            wal.make_folder(raw_dir / "wal")
        free = shutil.disk_usage(raw_dir).free
    except OSError as error:
        raise RecordError(
            f"{raw_dir}: cannot be used for recording ({error.strerror}). Give another --data-dir"
        ) from None
    if free < FREE_BYTES_MIN:
        raise RecordError(
            f"{raw_dir}: only {free / MIB:.0f} MiB free, recording needs {FREE_BYTES_MIN / MIB:.0f} MiB to start. "
            "Free some space or give another --data-dir"
        )
