"""`shijim demo`: one simulated trading day through the real commands, ending with what a person would want to know.

Not a second way through the product: every step is the command that is printed above it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from shijim_live.calendar import wall_clock

# Written into the folder by the demo itself: only such a folder is ever emptied.
MARK = ".shijim-demo"
SYMBOL_ROOT = "TXF"


class DemoFailed(RuntimeError):
    """A step of the demo failed; its own message stands above."""


def run(folder: Path, day: date, seed: int) -> int:
    """Records, archives, audits, builds and backtests into `folder`, which is emptied first if a demo made it."""
    _prepare(folder)
    started = time.monotonic()
    place = ["--data-dir", str(folder)]
    _step("1/5 record", ["shijim-live", "record", "--broker", "simulated", "--day", str(day), "--seed", str(seed),
                         "--metrics-port", "0", *place])  # fmt: skip
    _step("2/5 archive", ["shijim", "archive", *place])
    _step("3/5 gaps", ["shijim", "audit", "--day", str(day), *place])
    symbol = _near_month(folder)
    _step("4/5 dataset", ["shijim", "dataset", "--day", str(day), "--symbol", symbol, *place])
    npz = next(folder.glob(f"datasets/**/{symbol}.npz"))
    _step("5/5 backtest", ["shijim", "backtest", str(npz)])
    print(_summary(folder, day, symbol, npz, time.monotonic() - started))
    return 0


def _prepare(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DemoFailed(f"{folder} is a file: give another --data-dir")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise DemoFailed(f"{folder} holds something that is not a demo's: give another --data-dir")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()


def _step(title: str, command: list[str]) -> None:
    print(f"\n── {title} ── $ {' '.join(command)}", flush=True)
    modules = {"shijim": "shijim_pipelines", "shijim-live": "shijim_live"}
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", modules[command[0]], *command[1:]], check=False)
    if done.returncode:
        raise DemoFailed(f"{' '.join(command)} ended with exit code {done.returncode}")
    print(f"   ({time.monotonic() - started:.1f} s)", flush=True)


def _near_month(folder: Path) -> str:
    """The simulated near month of the index future, as the log has it."""
    from shijim_live.record import wal

    codes: set[str] = set()
    for path in wal.segment_paths(folder / "wal"):
        footer = wal.footer(path) or {}
        codes.update(dict(footer["codes"]))  # type: ignore[call-overload]
    return min(code for code in codes if code.startswith(SYMBOL_ROOT))


def _summary(folder: Path, day: date, symbol: str, npz: Path, seconds: float) -> str:
    report_path = folder / "reports" / "gaps" / f"{day}.json"
    report = orjson.loads(report_path.read_bytes())
    manifests = [orjson.loads(path.read_bytes()) for path in folder.glob("archive/segments/*.json")]
    recorded = sum(manifest["records"] for manifest in manifests)
    counted = (
        "SELECT code, count() AS trades, sum(volume) AS lots FROM ticks WHERE lane = 1 GROUP BY code ORDER BY code"
    )
    lines = [
        "",
        f"── {day}: one simulated trading day in {seconds:.0f} s ──",
        f"events   {recorded:,} recorded, sealed, archived, and read back equal",
        f"lots     {report['summary']['lots_missing']:,} missing",
        *(f"         {line}" for line in _missing(report["gaps"])),
        f"files    {folder / 'wal'}  the log: what was received, never changed",
        f"         {folder / 'archive'}  Parquet, verified against the log",
        f"         {report_path}  what is missing, and why",
        f"         {npz}  for hftbacktest, with {symbol}.meta.json",
        "",
        "what to type next:",
        "  . .venv/bin/activate",
        f"  shijim-live cat {folder}/wal --symbol {symbol} --kind trade --limit 3",
        f'  shijim query --data-dir {folder} "{counted}"',
        f"  shijim audit --data-dir {folder} --day {day}",
        "  shijim --help",
    ]
    return "\n".join(lines)


def _missing(gaps: list[dict[str, Any]]) -> list[str]:
    """One line a cause: how many lots, of how many codes, and where the most."""
    lines = []
    sized = [gap for gap in gaps if gap["lots"]]
    for reason in sorted({gap["reason"] for gap in sized}):
        same = [gap for gap in sized if gap["reason"] == reason]
        worst = max(same, key=lambda gap: int(gap["lots"]))
        codes = len({gap["symbol"] for gap in same})
        begin, end = (f"{wall_clock(worst[name]):%m-%d %H:%M:%S}" for name in ("start_ns", "end_ns"))
        lines.append(
            f"{sum(gap['lots'] for gap in same):>6,} in {len(same)} gaps of {codes} codes: {reason} "
            f"(most: {worst['lots']:,} of {worst['symbol']}, {begin} to {end})"
        )
    return lines
