"""Rows into ClickHouse's tables, 50,000 at a time: into the embedded engine, and shipped to it over HTTP."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import chdb
import pyarrow as pa
import pyarrow.parquet as pq

from benches import simulated
from benches.measure import ROOT, Bench, Effort, Row, folder_on_disk, in_fresh_process
from shijim_live.settings import ClickHouse, Secret
from shijim_live.store import tables
from shijim_live.store.server import FLUSH_ROWS, Server
from shijim_live.store.ship import ship
from shijim_pipelines.archive import archive_all

HOLDS = {"ticks": 2_000_000, "books": 700_000}
AT_ONCE = 2
LABELS = ["run_id", "source", "session", "code"]
CODEC = re.compile(r"CODEC\((?:[^()]|\([^()]*\))*\)")


class Measured(NamedTuple):
    """Rows a second and bytes a row, of one table; `fast` has LZ4 for every column."""

    both: float
    one: float
    one_cpu: float
    fast: float
    fast_cpu: float
    bytes: float
    fast_bytes: float


def rows(effort: Effort) -> list[Row]:
    made = []
    with folder_on_disk() as folder:
        simulated.record_busily(folder / "live", simulated.payloads())
        archive_all(folder / "live" / "wal", folder / "live" / "archive")
        for table, hold in HOLDS.items():
            got: Measured = in_fresh_process(_engine, folder, table, effort.rounds, cores=AT_ONCE)
            what = f"{table} into the embedded engine, {FLUSH_ROWS:,} rows an insert at most"
            made += [
                Row(f"{what}, {AT_ONCE} at a time", _rate(got.both), "–", "–", f"≥ {_rate(hold)}", got.both >= hold),
                Row("… one at a time, vs LZ4 for every column", _rate(got.one), _rate(got.fast),
                    f"{got.one / got.fast:.2f}×"),
                Row("… the same by CPU time (what the core would do alone)", _rate(got.one_cpu), _rate(got.fast_cpu),
                    f"{got.one_cpu / got.fast_cpu:.2f}×"),
                Row("… after merging, vs LZ4", f"{got.bytes:.1f} B/row", f"{got.fast_bytes:.1f} B/row",
                    f"1/{got.fast_bytes / got.bytes:.1f}"),
            ]  # fmt: skip
        shipped, count = _shipped(folder)
    return [*made, Row("a day shipped over HTTP: read, inserted, counted and fingerprinted there", _rate(shipped), "–",
                       f"{count:,} rows")]  # fmt: skip


def _rate(per_second: float) -> str:
    return f"{per_second / 1e6:.2f} M/s" if per_second >= 1e6 else f"{per_second / 1e3:.0f} k/s"


def _blocks(folder: Path, table: str) -> tuple[list[bytes], int]:
    """The day as `ship` cuts it and clickhouse-connect sends it, and how many rows that is."""
    found, rows = [], 0
    for path in sorted(folder.glob(f"live/archive/{table}/*/*.parquet")):
        with pq.ParquetFile(path, read_dictionary=LABELS) as file:
            for batch in file.iter_batches(batch_size=FLUSH_ROWS):
                sink = pa.BufferOutputStream()
                options = pa.ipc.IpcWriteOptions(compression="lz4")
                with pa.RecordBatchFileWriter(sink, batch.schema, options=options) as writer:
                    writer.write(batch)
                found.append(sink.getvalue().to_pybytes())
                rows += batch.num_rows
    return found, rows


def _engine(folder: Path, table: str, rounds: int) -> Measured:
    blocks, count = _blocks(folder, table)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as engine, chdb.connect(engine) as first:
        _make(first, table, "chosen", str)
        _make(first, table, "fast", lambda ddl: CODEC.sub("CODEC(LZ4)", ddl))
        first.query("SYSTEM STOP MERGES")  # a merge is not the insert's work
        wall: dict[str, list[float]] = {"both": [], "one": [], "fast": []}
        cpu: dict[str, list[float]] = {"both": [], "one": [], "fast": []}
        for number in range(rounds):
            for side, database, at_once in (("both", "chosen", AT_ONCE), ("one", "chosen", 1), ("fast", "fast", 1)):
                seconds, burned = _seconds(engine, database, table, blocks, at_once, f"{side}-{number}")
                wall[side].append(at_once * count / seconds)
                cpu[side].append(at_once * count / burned)
        first.query("SYSTEM START MERGES")
        sizes = [_bytes_a_row(first, database, table) for database in ("chosen", "fast")]
    one, fast = (median(cpu[side]) for side in ("one", "fast"))
    return Measured(median(wall["both"]), median(wall["one"]), one, median(wall["fast"]), fast, *sizes)


def _make(session: Any, table: str, database: str, change: Callable[[str], str]) -> None:
    session.query(f"CREATE DATABASE {database}")
    session.query(f"USE {database}")
    (ddl,) = (one for one in tables.statements(database, None) if one.startswith(f"CREATE TABLE IF NOT EXISTS {table}"))
    session.query(change(ddl))


def _seconds(
    engine: str, database: str, table: str, blocks: list[bytes], at_once: int, token: str
) -> tuple[float, float]:
    """Wall and CPU time of the day, inserted by each of so many sessions."""
    sessions = [chdb.connect(engine) for _ in range(at_once)]

    def insert(number: int) -> None:
        session = sessions[number]
        session.query(f"USE {database}")
        session.query("SET optimize_on_insert = 0")
        for at, block in enumerate(blocks):
            settings = f"insert_deduplication_token = '{token}-{number}-{at}'"
            stream = session.send_insert(f"INSERT INTO {table}_shipped SETTINGS {settings}", "Arrow")
            stream.append(block)
            stream.finish()

    started, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(insert, range(at_once)))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    for session in sessions:
        session.close()
    return seconds, cpu


def _bytes_a_row(session: Any, database: str, table: str) -> float:
    session.query(f"OPTIMIZE TABLE {database}.{table}_shipped FINAL")
    sql = "SELECT sum(data_compressed_bytes) / sum(rows) FROM system.parts WHERE active AND database = "
    return float(session.query(f"{sql}'{database}'", "TSV").bytes().decode())


def _shipped(folder: Path) -> tuple[float, int]:
    """Rows a second through the HTTP front of the tests, and how many."""
    front = [sys.executable, str(ROOT / "tests" / "clickhouse_front.py"), "--path", str(folder / "front")]
    process = subprocess.Popen(front, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().split()[1])
        server = Server(ClickHouse("127.0.0.1", port, False, "market", "default", Secret()))
        server.create()
        started = time.perf_counter()
        done = ship(folder / "live" / "archive", folder / "shipped", server, folder / "fallback")
        seconds = time.perf_counter() - started
        assert not done.failed and not done.refused
        return done.rows / seconds, done.rows
    finally:
        process.terminate()
        process.wait()


BENCH = Bench(
    "clickhouse",
    rows,
    "Arrow blocks of a simulated day with every live field, as clickhouse-connect sends them, into the tables of "
    "`store/tables.py` in the embedded engine (26 B/row of Parquet become 20 to 23), each with a deduplication token. "
    "Shipping: `ship` and a server of Python's own around the same engine, on the same two cores.",
    "Compressing 35 or 55 columns; LZ4 alone would be twice as quick and take more than twice the bytes for ever.",
)
