"""Bytes per event of a real futures day in the log and in Parquet, and of a book with every live field."""

from __future__ import annotations

from pathlib import Path

from benches import simulated
from benches.measure import ROOT, Bench, Effort, Row, folder_on_disk
from rust_indicators import LogWriter
from shijim_live.events import RECORD_BYTES
from shijim_live.store.manifest import manifests
from shijim_pipelines.archive import archive_all
from shijim_pipelines.imports import import_file

RECORDING = ROOT / "../shared/data/txf_l5/TXFD6_2026-04-09.parquet"


def rows(effort: Effort) -> list[Row]:
    with folder_on_disk() as folder:
        simulated.record_busily(folder / "live", simulated.payloads())
        archive_all(folder / "live" / "wal", folder / "live" / "archive")
        live = _held("book with every live field, Parquet (simulated day)", _parquet(folder / "live", "books"), 30)
        if not RECORDING.exists():
            return [Row("TXFD6 2026-04-09, log and Parquet", f"skipped: {RECORDING} is absent"), live]
        import_file(RECORDING, folder / "burst" / "wal")
        archive_all(folder / "burst" / "wal", folder / "burst" / "archive")
        records = simulated.records_of(folder / "burst")
        _rewrite_at_live_pace(folder / "paced", records)
        count = len(records) // RECORD_BYTES
        return [
            _held("TXFD6 2026-04-09, log at live pace", _log_bytes(folder / "paced") / count, 160),
            _held("TXFD6 2026-04-09, log in bursts", _log_bytes(folder / "burst") / count, 30),
            _held("TXFD6 2026-04-09, trade in Parquet", _parquet(folder / "burst", "ticks"), 12),
            _held("TXFD6 2026-04-09, L5 book in Parquet", _parquet(folder / "burst", "books"), 18),
            live,
        ]


def _held(what: str, size: float, limit: int) -> Row:
    return Row(what, f"{size:.1f} B/event", f"record {RECORD_BYTES} B", f"1/{RECORD_BYTES / size:.1f}", f"≤ {limit} B",
               size <= limit)  # fmt: skip


def _rewrite_at_live_pace(folder: Path, records: bytes) -> None:
    """One event a block, as when each has been synced before the next one comes."""
    writer = LogWriter(folder / "wal", simulated.RUN_ID, '{"source":"bench"}')
    for at in range(0, len(records), RECORD_BYTES):
        writer.append(records[at : at + RECORD_BYTES])
    writer.close()


def _log_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.wal"))


def _parquet(folder: Path, table: str) -> float:
    """Bytes a row of the table's files."""
    files = [
        file for known in manifests(folder / "archive").values() for file in known["files"] if file["table"] == table
    ]
    return float(sum(file["bytes"] for file in files) / sum(file["rows"] for file in files))


BENCH = Bench(
    "size",
    rows,
    "File sizes divided by events: the recording imported as it is (blocks of 8,192), written again with one event a "
    "block, and archived; a simulated day stamped at 28 k events/s for the fields that the recording does not have.",
    "One event a block: 28 bytes of block header and no predecessor to subtract. Bursts and Parquet: the entropy of "
    "prices, sizes and stamps.",
)
