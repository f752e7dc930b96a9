"""`shijim demo`: one simulated trading day, recorded by the real command and taken through the whole Dagster chain.

Not a second way through the product: every step is the command that is printed above it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import orjson

from shijim_live.settings import Settings
from shijim_pipelines.proof import certificate, gap_report

# Written into the folder by the demo itself: only such a folder is ever emptied.
MARK = ".shijim-demo"
PROJECT = Path(__file__).parents[1]
# A line a sentence of an asset on the terminal; the UI has every event.
SPOKEN = '{"loggers": {"console": {}}}'


class DemoFailed(RuntimeError):
    """A step of the demo failed; its own message stands above."""


def run(folder: Path, day: date, seed: int) -> int:
    """Ranks, records, and launches the whole day into `folder`, which is emptied first if a demo made it."""
    if not (PROJECT / "dagster_home").is_dir():
        raise DemoFailed("the demo runs from a checkout, where dagster_home/ is: git clone, then make demo")
    _refuse_settings()
    _prepare(folder)
    started = time.monotonic()
    place = ["--data-dir", str(folder)]
    _step("1/3 universe", ["shijim", "rank", "--day", str(day), *place])
    _step("2/3 record", ["shijim-live", "record", "--broker", "simulated", "--day", str(day), "--seed", str(seed),
                         "--metrics-port", "0", *place])  # fmt: skip
    home = folder.absolute() / "dagster_home"
    home.mkdir()
    shutil.copy(PROJECT / "dagster_home" / "dagster.yaml", home)
    _step("3/3 archive to backtest", ["env", f"SHIJIM_DATA_DIR={folder.absolute()}", f"DAGSTER_HOME={home}",
                                      "dg", "launch", "--job", "whole_day", "--partition", str(day),
                                      "--config-json", SPOKEN])  # fmt: skip
    print(_summary(folder, day, time.monotonic() - started))
    return 0


def _refuse_settings() -> None:
    """The demo's data must not reach a server, another disk or half a universe, whatever is set for real work."""
    settings = Settings.from_environment()
    taken = {
        "CLICKHOUSE_DSN": settings.clickhouse is not None,
        "SHIJIM_RAW_DIR": settings.raw_dir != settings.data_dir,
        "TOTAL_SHARDS": settings.total_shards > 1,
        "SHIJIM_HISTORY": settings.history != "simulated",
    }
    if names := [name for name, is_set in taken.items() if is_set]:
        raise DemoFailed(f"{', '.join(names)} is set for real work, and the demo would use it: unset it for the demo")


def _prepare(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DemoFailed(f"{folder} is a file: give another --data-dir")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise DemoFailed(f"{folder} holds something that is not a demo's: give another --data-dir")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()


def _step(title: str, command: list[str]) -> None:
    """Runs a command of this environment, whatever is in PATH."""
    print(f"\n── {title} ── $ {' '.join(command)}", flush=True)
    here = Path(sys.executable).parent
    own = [str(here / word) if (here / word).is_file() else word for word in command]
    started = time.monotonic()
    done = subprocess.run(own, cwd=PROJECT, check=False)
    if done.returncode:
        raise DemoFailed(f"{' '.join(command)} ended with exit code {done.returncode}")
    print(f"   ({time.monotonic() - started:.1f} s)", flush=True)


COUNTED = (
    "SELECT code, sum(volume) AS lots, countIf(source = 'backfill') AS backfilled "
    "FROM ticks WHERE lane = 1 GROUP BY code ORDER BY code"
)


def _summary(folder: Path, day: date, seconds: float) -> str:
    reports = folder / "reports"
    found = orjson.loads(certificate.certificate_path(reports, day).read_bytes())["summary"]
    missing = gap_report.read_report(reports, day).summary()
    manifests = [orjson.loads(path.read_bytes()) for path in (folder / "archive" / "segments").glob("*.json")]
    recorded = sum(manifest["records"] for manifest in manifests if manifest["source"] != "backfill")
    filled = sum(manifest["records"] for manifest in manifests if manifest["source"] == "backfill")
    lines = [
        "",
        f"── {day}: one simulated trading day in {seconds:.0f} s ──",
        f"recorded      {recorded:,} events, sealed, archived, and read back equal",
        f"missing       {missing['lots_missing']:,} lots in {missing['gaps']:,} gaps of what was recorded",
        f"backfilled    {filled:,} trades, each proven on its neighbours",
        f"certificates  {found['proven']:,} PROVEN, {found['short']:,} SHORT, {found['unprovable']:,} UNPROVABLE",
        f"files         {folder / 'wal'}  the log: what was received, never changed",
        f"              {folder / 'archive'}  Parquet, verified against the log",
        f"              {reports / 'certificates' / f'{day}.json'}  what is proven, and from what",
        f"              {reports / 'quality' / f'{day}.html'}  a page to open",
        f"              {folder / 'datasets' / str(day)}  for hftbacktest, with what each of them lacks",
        "",
        "what to type next:",
        "  make ui",
        "  . .venv/bin/activate",
        f"  shijim certify --data-dir {folder} --day {day}",
        f"  shijim gaps --data-dir {folder} --day {day}",
        f'  shijim query --data-dir {folder} "{COUNTED}"',
    ]
    return "\n".join(lines)
