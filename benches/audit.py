"""The gap audit of a busy trading day in Parquet: by columns, as it was before, and as plain SQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import orjson
from numpy.typing import NDArray

from benches.measure import Bench, Effort, Row, folder_on_disk, in_fresh_process, interleaved
from rust_indicators import Continuity, LogWriter
from shijim_live.calendar import Market, session_bounds
from shijim_live.events import (
    ABSENT_I64,
    ABSENT_U32,
    SCHEMA_VERSION,
    BrokerClass,
    Exchange,
    Kind,
    Lane,
    Status,
    Trade,
    encode,
)
from shijim_live.store.lake import Lake
from shijim_live.store.parquet import stored_rows
from shijim_live.store.schema import record_dtype
from shijim_pipelines.archive import archive_all
from shijim_pipelines.proof.audit import audit_day

DAY = date(2026, 4, 9)
RUN_ID = "00000000000000ad"
TICKS, TICKS_QUICK = 10_000_000, 1_000_000
CODES = tuple(f"{root}{month}6" for root in ("TXF", "MXF", "TMF") for month in "DEFIL")
SECONDS_MAX = 0.6
AWAY_NS = 60_000_000_000
FEED_NS = 5_000_000
# Of neighbours in the order they were recorded; the rest of the audit comes on top.
SQL = """
SELECT code, lane, session, countIf(total_volume - volume != before) AS breaks FROM (
    SELECT code, lane, session, volume, total_volume,
           lagInFrame(total_volume) OVER (PARTITION BY code, lane, session ORDER BY run_id, sequence) AS before
    FROM ticks_raw WHERE trading_day = {day:Date32})
GROUP BY ALL
"""


def rows(effort: Effort) -> list[Row]:
    ticks = TICKS if effort.rounds > 3 else TICKS_QUICK
    found = []
    with folder_on_disk() as folder:
        for name, away in (("no loss", False), ("an outage in every stream", True)):
            place = folder / name.split()[-1]
            segments = in_fresh_process(make_archive, place, ticks, away, cores=2)
            times = in_fresh_process(_times, place / "archive", max(3, effort.rounds // 2), cores=2)
            ours, old, sql = (median(times[side]) for side in ("ours", "old", "sql"))
            hold = SECONDS_MAX * ticks / TICKS
            what = f"audit of {ticks / 1e6:.0f} M ticks, {segments} segments, {name}"
            found += [
                Row(f"{what}, vs every row a record", f"{ours:.2f} s", f"{old:.2f} s", f"{old / ours:.1f}× faster",
                    f"≤ {hold:.2f} s", ours <= hold),
                Row("… vs a window in SQL, breaks only", f"{ours:.2f} s", f"{sql:.2f} s", f"{sql / ours:.1f}× faster"),
                Row("… the first of a process", f"{times['ours'][0]:.2f} s"),
            ]  # fmt: skip
    return found


def _times(archive: Path, rounds: int) -> dict[str, list[float]]:
    files = sorted(archive.glob("ticks/*/*.parquet"))
    lake = Lake(archive)
    first: dict[str, Callable[[], object]] = {"ours": lambda: audit_day(archive, None, DAY)}
    cold = interleaved(1, first)["ours"]
    sides = first | {"old": lambda: by_record(files), "sql": lambda: lake.query(SQL, day=DAY)}
    times = interleaved(rounds, sides)
    return times | {"ours": cold + times["ours"]}


def by_record(files: list[Path]) -> None:
    """As it was: every row made a record again, the kernel over the records."""
    continuity = Continuity()
    for path in files:
        for records in stored_rows(path, "ticks"):
            continuity.observe_records(records.view(np.uint8))


def make_archive(folder: Path, ticks: int, away: bool) -> int:
    """A day of busy futures, night and day: `ticks` trades of all codes in turn by chance; the number of segments."""
    chance = np.random.default_rng(1)
    like = np.frombuffer(b"".join(encode(_trade(code)) for code in CODES), record_dtype("ticks"))
    created_ns = session_bounds(DAY, Market.FUTURES)[0].open_ns
    header = {"schema_version": SCHEMA_VERSION, "run_id": RUN_ID, "source": "simulated", "clock": "simulated",
              "created_ns": created_ns, "config_hash": "bench", "shard": 0, "build": "bench"}  # fmt: skip
    writer = LogWriter(folder / "wal", RUN_ID, orjson.dumps(header).decode())
    sequence = 1
    for bounds in session_bounds(DAY, Market.FUTURES):
        totals = np.zeros(len(CODES), np.int64)
        stamps = np.linspace(bounds.open_ns, bounds.close_ns, ticks // 2, endpoint=False).astype(np.int64)
        for part in np.array_split(stamps, 10):
            made = _made(part, like, totals, chance)
            if away:
                gone = bounds.open_ns + (bounds.close_ns - bounds.open_ns) // 2
                made = made[(part < gone) | (part >= gone + AWAY_NS)]
            made["sequence"] = np.arange(sequence, sequence + len(made))
            writer.append(made.tobytes())
            sequence += len(made)
    stop = Status(kind=Kind.STOP, sequence=sequence, received_ns=bounds.close_ns + AWAY_NS)
    writer.append(encode(stop))
    writer.close()
    archived = archive_all(folder / "wal", folder / "archive")
    assert not archived.failed and not archived.skipped
    return len(archived.segments)


def _trade(code: str) -> Trade:
    return Trade(code=code, volume=1, total_volume=1, price_e6=35_000_000_000, exchange=Exchange.TAIFEX,
                 broker_class=BrokerClass.TICK_FOP_V1, lane=Lane.BOARD)  # fmt: skip


def _made(
    stamps: NDArray[np.int64],
    like: NDArray[np.void],
    totals: NDArray[np.int64],
    chance: np.random.Generator,
) -> NDArray[np.void]:
    code = chance.integers(0, len(CODES), len(stamps))
    made = like[code]
    volume = chance.integers(1, 6, len(stamps))
    for number in range(len(CODES)):
        mine = code == number
        running = totals[number] + np.cumsum(volume[mine])
        made["total_volume"][mine] = running
        totals[number] = running[-1]
    price = 35_000 + np.cumsum(chance.integers(-1, 2, len(stamps)))
    made["volume"], made["side"] = volume, chance.integers(0, 3, len(stamps))
    made["price_e6"], made["amount_e6"] = price * 1_000_000, price * volume * 1_000_000
    made["exchange_ns"] = stamps // 1_000_000 * 1_000_000
    made["received_ns"] = stamps + FEED_NS
    assert not (made["total_volume"] == ABSENT_U32).any() and not (made["exchange_ns"] == ABSENT_I64).any()
    return made


BENCH = Bench(
    "audit",
    rows,
    f"`audit_day` over the archive of a day that was really archived: {len(CODES)} futures, night and day, a segment a "
    "quarter of an hour, warm cache, two cores. Before: every row made a record of 256 bytes and judged by the same "
    "kernel. SQL: the engine's window over neighbours, which tells breaks from no breaks and nothing else.",
    "Parquet: nine columns are decoded, 35 ns a tick, a third of it stamps; the kernel takes 13 ns on one core.",
)
