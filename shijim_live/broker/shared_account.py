"""A small account in a file that several processes change, one at a time. Knows nothing of what is in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from shijim_live.record.wal import sync_name

T = TypeVar("T")


@contextmanager
def shared_account(path: Path, read: Callable[[bytes | None], T], written: Callable[[T], bytes]) -> Iterator[T]:
    """The account under its lock; written, and on the disk, when the block ends without an error.

    `read` is given None where there is no file yet, and raises what the caller wants to see of one that is damaged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = path.read_bytes() if path.exists() else None
        account = read(before)
        yield account
        after = written(account)
        if after != before:
            _replace_durably(path, after)


def _replace_durably(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_name(path)
