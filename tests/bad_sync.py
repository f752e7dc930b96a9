"""The environment of a process on a disk whose syncs are slow or fail. The disk itself is `bad_sync.c`."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


@functools.cache
def _library() -> Path:
    library = Path(tempfile.mkdtemp(prefix="shijim-bad-sync-")) / "bad_sync.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, SOURCE], check=True)
    return library


def environment(*, slow_ms: int = 0, fails_with: int = 0) -> dict[str, str]:
    """`fails_with` is an errno."""
    found = os.environ | {"LD_PRELOAD": str(_library())}
    if slow_ms:
        found["BAD_SYNC_MS"] = str(slow_ms)
    if fails_with:
        found["BAD_SYNC_ERRNO"] = str(fails_with)
    return found
