"""How things are measured here: interleaved rounds, medians, fresh processes. Measures nothing itself."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure; the shape of what is measured stays the same."""

    rounds: int  # of A B A B …; the median is taken over them
    objects: int  # broker objects of a class per round
    seconds: int  # of events at live pace per round
    replays: int  # of a simulated day, for the memory of a long recording


FULL = Effort(rounds=9, objects=2_000, seconds=2, replays=10)
QUICK = Effort(rounds=3, objects=500, seconds=1, replays=2)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the results. `met` is None where nothing is held, or nothing could be measured."""

    what: str
    ours: str
    rival: str = "–"
    ratio: str = "–"
    hold: str = "–"
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """A file of this folder: what it measures, how, and what bounds the result."""

    name: str
    rows: Callable[[Effort], list[Row]]
    how: str
    bound: str


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Time of one call on a clock (wall, unless said), without the garbage collector stepping in."""
    gc.disable()
    started = clock()
    try:
        work()
        return clock() - started
    finally:
        gc.enable()


def interleaved(
    rounds: int,
    sides: Mapping[str, Callable[[], object]],
    prepare: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each side, one value a round, A B then B A, so that a busy moment of the machine meets all of them.

    `prepare` is called before each round and not timed.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for _ in range(rounds):
        prepare()
        gc.collect()
        for name in order:
            times[name].append(seconds(sides[name], clock))
        order.reverse()
    return times


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over the rounds of ours / theirs."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def in_fresh_process(work: Callable[..., Any], *arguments: object, cores: int = 1) -> Any:
    """The result of `work` in a new process that may use this many cores."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_use_cores, initargs=(cores,)) as pool:
        return pool.submit(work, *arguments).result()


def _use_cores(cores: int) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])


@contextmanager
def folder_on_disk() -> Iterator[Path]:
    """A folder that is gone afterwards, in the project's ignored `build`: the temporary folder may be memory."""
    place = ROOT / "build"
    place.mkdir(exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="bench-", dir=place))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
