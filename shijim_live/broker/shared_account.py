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


def replace_durably(path: Path, content: bytes) -> None:
    """On the disk when it returns: outlives a power cut."""
    draft = path.with_name(f"{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_name(path)


def replace_at_once(path: Path, content: bytes) -> None:
    """Outlives every process, and no power cut; a hundred times faster than waiting for the disk."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(content)
    draft.replace(path)


@contextmanager
def shared_account(
    path: Path,
    read: Callable[[bytes | None], T],
    written: Callable[[T], bytes],
    replace: Callable[[Path, bytes], None] = replace_durably,
) -> Iterator[T]:
    """The account under its lock; written, by `replace`, when the block ends without an error.

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
            replace(path, after)
