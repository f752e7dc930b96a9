"""Runs a real command that dies at a named point: SIGKILL, or SIGKILL and what a power cut takes. Judges nothing.

The points are calls that change files below one folder, counted by `kill_points.c` inside of the process; the same
point of the same run is the same place, whatever the machine does meanwhile.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path

COMMAND_SECONDS_MAX = 120
SOURCE = Path(__file__).with_suffix(".c")


class Power(IntEnum):
    """What becomes of writes and names that were not synced."""

    STAYS = 0
    TAKES_ALL_UNSYNCED = 1
    TAKES_SOME_UNSYNCED = 2  # any sector, and the last changes of any folder


@dataclass(frozen=True, slots=True)
class Point:
    """The `count`-th operation whose label matches `pattern`, or the `further`-th of any kind behind it."""

    pattern: str = "."
    count: int = 1
    further: int = 0
    phase: str = "after"  # before, half (of a write) or after it; never
    power: Power = Power.STAYS
    seed: int = 0  # what part of a half write is written, and what a power cut takes
    ignores_syncs: bool = False  # for a test of the power cut itself

    @property
    def with_power_lost(self) -> Point:
        """The same one, and what the disk was not told to keep is gone: all of it or some."""
        return replace(self, power=Power.TAKES_SOME_UNSYNCED if self.seed % 2 else Power.TAKES_ALL_UNSYNCED)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and every operation it began, the one it died at last."""

    status: int
    errors: str
    trace: tuple[str, ...]


def compiled(folder: Path) -> Path:
    """The shared object, for `ended`."""
    made = folder / "kill_points.so"
    command = ["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(made)]
    subprocess.run([*command, str(SOURCE), "-ldl", "-lpthread", "-lrt"], check=True)
    return made


def ended(shim: Path, command: list[str], data: Path, point: Point, **settings: str) -> Ended:
    """Runs a command with `point` counted below `data`, which must have no link in its path."""
    graves = data.parent / "graves"
    graves.mkdir(exist_ok=True)
    trace = graves / "trace"
    trace.unlink(missing_ok=True)
    environment = {
        **os.environ,
        **settings,
        "LD_PRELOAD": str(shim),
        "KILL_ROOT": str(data),
        "KILL_GRAVES": str(graves),
        "KILL_TRACE": str(trace),
        "KILL_PATTERN": point.pattern,
        "KILL_COUNT": str(point.count),
        "KILL_FURTHER": str(point.further),
        "KILL_PHASE": point.phase,
        "KILL_POWER": str(int(point.power)),
        "KILL_SEED": str(point.seed),
        "KILL_IGNORES_SYNCS": str(int(point.ignores_syncs)),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=COMMAND_SECONDS_MAX)
    for grave in graves.glob("*-*"):
        grave.unlink()
    return Ended(done.returncode, done.stderr, tuple(trace.read_text().splitlines()) if trace.exists() else ())


def since(trace: tuple[str, ...], pattern: str) -> tuple[str, ...]:
    """What came behind the last operation that matches; all of it if none does."""
    last = max((at for at, label in enumerate(trace) if re.search(pattern, label)), default=-1)
    return trace[last + 1 :]
