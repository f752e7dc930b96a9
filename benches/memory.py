"""Memory of `record` over a long replay, and how long the live host's program takes to start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import orjson

from benches import simulated
from benches.measure import Bench, Effort, Row, folder_on_disk, interleaved
from rust_indicators import LogWriter
from shijim_live.calendar import DAY_NS
from shijim_live.events import ABSENT_I64, RECORD_BYTES, SCHEMA_VERSION

BESIDE_RING_MB_MAX = 150
IMPORT_SECONDS_MAX = 0.5
STARTS = 5
POLL_SECONDS = 0.02
SLOT_BYTES = RECORD_BYTES + 8  # of the ring: the record and its sequence
RING_SLOTS = 65_536
STAMPS = (2, 3)  # words of a record: exchange, received


def rows(effort: Effort) -> list[Row]:
    with folder_on_disk() as folder:
        blob = simulated.record_busily(folder / "day", simulated.payloads())
        few = _peak_bytes(folder, blob, 1)
        many = _peak_bytes(folder, blob, effort.replays)
    ring = RING_SLOTS * SLOT_BYTES
    beside_mb, events = (many - ring) / 2**20, effort.replays * len(blob) // RECORD_BYTES
    return [
        Row(f"record --broker replay of {events / 1e6:.1f} M events, peak memory beside the ring",
            f"{beside_mb:.0f} MB", f"ring {ring / 2**20:.0f} MB", "–", f"≤ {BESIDE_RING_MB_MAX} MB",
            beside_mb <= BESIDE_RING_MB_MAX),
        Row(f"… growth from 1 to {effort.replays} days replayed", f"{(many - few) / 2**20:.1f} MB"),
        _import_row(),
    ]  # fmt: skip


def _peak_bytes(folder: Path, blob: bytes, replays: int) -> int:
    """Peak resident bytes of a recorder that replays the day so many times, one run after the other."""
    source = folder / f"source{replays}"
    for number in range(replays):
        run_id = f"{number:016x}"
        header = {
            "schema_version": SCHEMA_VERSION, "run_id": run_id, "source": "simulated", "clock": "simulated",
            "created_ns": number, "build": "bench", "config": {}, "config_hash": "bench", "shard": 0,
        }  # fmt: skip
        writer = LogWriter(source, run_id, orjson.dumps(header).decode())
        writer.append(_days_later(blob, number))
        writer.close()
    command = [sys.executable, "-m", "shijim_live", "record", "--broker", "replay", "--from", str(source), "--quiet",
               "--data-dir", str(folder / f"out{replays}")]  # fmt: skip
    environment = {**os.environ, "SHIJIM_BUS_MAX_QUEUE": str(RING_SLOTS), "SHIJIM_METRICS_PORT": "0"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        # Not `ru_maxrss`: a child inherits the peak of the process that started it.
        peak = 0
        while process.poll() is None:
            peak = max(peak, _high_water_bytes(process.pid))
            time.sleep(POLL_SECONDS)
    assert process.returncode == 0, f"record ended with {process.returncode}"
    return peak


def _days_later(blob: bytes, days: int) -> bytes:
    """The same records on a later day: recordings of one moment would be merged, and all be open at once."""
    words = np.frombuffer(blob, np.int64).reshape(-1, RECORD_BYTES // 8).copy()
    for word in STAMPS:
        words[words[:, word] != ABSENT_I64, word] += days * DAY_NS
    return words.tobytes()


def _high_water_bytes(pid: int) -> int:
    """Peak resident memory so far; 0 before the program is in its own memory, and once it is gone."""
    place = Path("/proc") / str(pid)
    try:
        if b"shijim_live" not in (place / "cmdline").read_bytes():
            return 0
        lines = (place / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def _import_row() -> Row:
    sides = {
        "ours": lambda: _python("import shijim_live.cli"),
        "bare": lambda: _python("pass"),
    }
    times = interleaved(STARTS, sides)
    ours, bare = median(times["ours"]), median(times["bare"])
    return Row("start of Python with `import shijim_live.cli`", f"{ours:.2f} s", f"bare {bare:.2f} s",
               f"{ours / bare:.1f}×", f"≤ {IMPORT_SECONDS_MAX} s more", ours - bare <= IMPORT_SECONDS_MAX)  # fmt: skip


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


BENCH = Bench(
    "memory",
    rows,
    "The real command replays a simulated day again and again (one segment each); the kernel's own peak (VmHWM), less "
    f"the ring of {RING_SLOTS:,} slots, which is touched whole. Imports: the median of {STARTS} fresh processes.",
    "Python and the SDK; buffers of 2 MiB. From day to day only the sessions grow that continuity remembers, some "
    "hundred bytes each: `make soak` fits the slope over 10⁸ records. Imports: the standard library.",
)
