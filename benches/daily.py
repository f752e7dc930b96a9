"""The daily run: loading its definitions, and the chain of a simulated day, beside the same stages without Dagster."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import median

from benches.measure import ROOT, Bench, Effort, Row, folder_on_disk, in_fresh_process

DAY = date(2026, 4, 9)
LOAD_SECONDS_MAX, CHAIN_SECONDS_MAX = 2.0, 60.0
IMPORT = "import sys, time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"


def rows(effort: Effort) -> list[Row]:
    return [_load(effort), _chain(effort)]


def _load(effort: Effort) -> Row:
    ours, dagster = ([_import_seconds(module) for _ in range(effort.rounds)]
                     for module in ("shijim_pipelines.definitions", "dagster"))  # fmt: skip
    return Row(
        "definitions of the daily run load", f"{median(ours):.2f} s", f"`import dagster` {median(dagster):.2f} s",
        f"{median(ours) / median(dagster):.1f}×", f"≤ {LOAD_SECONDS_MAX:.0f} s", median(ours) <= LOAD_SECONDS_MAX,
    )  # fmt: skip


def _import_seconds(module: str) -> float:
    done = subprocess.run([sys.executable, "-c", IMPORT.format(module=module)], cwd=ROOT, capture_output=True,
                          text=True, check=True)  # fmt: skip
    return float(done.stdout)


def _chain(effort: Effort) -> Row:
    """One run a side: a chain leaves a day that needs none. Each in a process of its own, as a launch is."""
    with _recorded() as folder:
        ours = in_fresh_process(_launched, folder / "dagster", cores=2)
    with _recorded() as folder:
        plain = in_fresh_process(_stages, folder / "plain", cores=2)
    return Row(
        "chain of a day of 300,000 events: archive to 15 backtests", f"{ours:.1f} s",
        f"the same stages without Dagster {plain:.1f} s", f"{ours / plain:.2f}×",
        f"≤ {CHAIN_SECONDS_MAX:.0f} s", ours <= CHAIN_SECONDS_MAX,
    )  # fmt: skip


@contextmanager
def _recorded() -> Iterator[Path]:
    with folder_on_disk() as folder:
        for side in ("dagster", "plain"):
            command = ["shijim-live", "record", "--broker", "simulated", "--day", str(DAY), "--quiet"]
            command += ["--metrics-port", "0", "--data-dir", str(folder / side)]
            here = Path(sys.executable).parent
            subprocess.run([here / command[0], *command[1:]], stdout=subprocess.DEVNULL, check=True)
        yield folder


def _launched(data_dir: Path) -> float:
    import dagster as dg

    logging.disable(logging.CRITICAL)
    from shijim_pipelines.definitions import defs

    config = {"resources": {"place": {"config": {"data_dir": str(data_dir)}}}}
    with dg.instance_for_test() as instance:
        started = time.perf_counter()
        job = defs.resolve_job_def("after_close")
        done = job.execute_in_process(partition_key=str(DAY), instance=instance, run_config=config)
        assert done.success
        return time.perf_counter() - started


def _stages(data_dir: Path) -> float:
    from shijim_live.settings import Settings
    from shijim_live.store.lake import Lake
    from shijim_pipelines import archive, pictures, stages
    from shijim_pipelines.datasets import Request, recorded_symbols
    from shijim_pipelines.hft_dataset import FeedLatency
    from shijim_pipelines.invariants import invariants

    started, now_ns = time.perf_counter(), time.time_ns()
    settings = Settings.from_environment(data_dir=str(data_dir))
    archive.archive_all(settings.wal_dir, settings.archive_dir)
    lake = Lake(settings.archive_dir)
    pictures.activity_picture(lake, DAY)
    assert not invariants(lake, DAY, "ticks") + invariants(lake, DAY, "books")
    history = stages.history_of(settings, DAY)
    stages.take_quotes(settings, DAY, history, now_ns)
    pictures.gaps_picture(stages.audit_day(settings, DAY, now_ns)[0])
    stages.keep_ledger(settings, DAY, "bench", now_ns)
    stages.fill_gaps(settings, DAY, "bench", now_ns)
    stages.certify(settings, DAY, "bench", now_ns)
    stages.judge_quality(settings, DAY)
    requests = [Request(DAY, code, None, None, FeedLatency(5_000_000)) for code in recorded_symbols(lake, DAY)]
    assert len(list(stages.build_datasets(settings, requests, now_ns))) == len(requests)
    tracks = [track for _, _, track in stages.backtest_day(settings, DAY, ())]
    pictures.backtest_picture(tracks[-1], requests[-1].symbol, DAY)
    return time.perf_counter() - started


BENCH = Bench(
    "daily",
    rows,
    "Definitions: a fresh process, import to loaded. Chain: `after_close` of a freshly recorded simulated day in one "
    "process with an instance of its own, after start-up; beside it the functions the assets call, called directly.",
    "Great Expectations' import (2 s) and hftbacktest's compilation (4 s) are in both sides.",
)
