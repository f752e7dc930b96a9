"""The way of an event on one core: ring → log → archive, from decoded records and from the SDK's objects."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pyarrow as pa

from benches import simulated
from benches.measure import Bench, Effort, Row, folder_on_disk, in_fresh_process
from rust_indicators import Publisher
from shijim_live.events import RECORD_BYTES
from shijim_pipelines.archive import archive_all

BATCH_RECORDS = 8_192
RECORDS_MIN, OBJECTS_MIN = 1_000_000, 100_000
CORES, RUNS = 2, 4


def rows(effort: Effort) -> list[Row]:
    rounds = max(2, effort.rounds // 3)
    with folder_on_disk() as folder:
        blob = simulated.record_busily(folder / "source", simulated.payloads())
        records = in_fresh_process(_rounds_of_records, folder, blob, rounds)
        quotes = in_fresh_process(_rounds_of_objects, folder / "one", rounds)
        quotes_together = in_fresh_process(_rounds_of_objects, folder / "both", rounds, cores=CORES)
        together = in_fresh_process(_rounds_of_runs, folder, blob, rounds, cores=CORES)
    count = len(blob) // RECORD_BYTES
    log, archive, cpu = (count / seconds for seconds in records)
    both = 1 / (1 / log + 1 / archive)
    from_objects = count / sum(quotes[:2])
    side_by_side = RUNS * count / together
    return [
        Row(f"decoded records → log → archive, {CORES} cores, {RUNS} segments", _rate(side_by_side), "–", "–",
            f"≥ {_rate(RECORDS_MIN)}", side_by_side >= RECORDS_MIN),
        Row("decoded records → log → archive, one core", _rate(both), "–", "–", f"≥ {_rate(RECORDS_MIN)}",
            both >= RECORDS_MIN),
        Row("… of which ring → log", _rate(log)),
        Row("… of which log → archive", _rate(archive)),
        Row("… both, by CPU time (what the core would do alone)", _rate(cpu)),
        Row(f"SDK objects → log → archive, {CORES} cores", _rate(count / sum(quotes_together[:2])), "–", "–",
            f"≥ {_rate(OBJECTS_MIN)}", count / sum(quotes_together[:2]) >= OBJECTS_MIN),
        Row("SDK objects → log → archive, one core", _rate(from_objects), "–", "–", f"≥ {_rate(OBJECTS_MIN)}",
            from_objects >= OBJECTS_MIN),
        Row("… of which objects → log", _rate(count / quotes[0])),
    ]  # fmt: skip


def _rate(per_second: float) -> str:
    return f"{per_second / 1e6:.2f} M/s" if per_second >= 1e6 else f"{per_second / 1e3:.0f} k/s"


def _rounds_of_records(folder: Path, blob: bytes, rounds: int) -> tuple[float, float, float]:
    step = BATCH_RECORDS * RECORD_BYTES

    def publish(publisher: Publisher) -> None:
        for at in range(0, len(blob), step):
            publisher.publish_records(blob[at : at + step])

    return _medians([_once(folder / f"records{number}", publish) for number in range(rounds)])


def _rounds_of_runs(folder: Path, blob: bytes, rounds: int) -> float:
    """Seconds until several runs, recorded one after the other, are archived side by side, as `shijim archive` does."""
    found = []
    step = BATCH_RECORDS * RECORD_BYTES
    for number in range(rounds):
        place = folder / f"runs{number}"
        place.mkdir()
        started = time.perf_counter()
        for run in range(RUNS):
            publisher = simulated.open_publisher(place, ring_slots=1 << 16, run_id=f"{run:016x}")
            for at in range(0, len(blob), step):
                publisher.publish_records(blob[at : at + step])
            simulated.close(publisher, place)
        archived = archive_all(place / "wal", place / "archive")
        found.append(time.perf_counter() - started)
        assert len(archived.segments) == RUNS
    return median(found)


def _rounds_of_objects(folder: Path, rounds: int) -> tuple[float, float, float]:
    payloads = simulated.payloads()
    folder.mkdir()
    found = []
    for number in range(rounds):
        quotes = simulated.objects(payloads)

        def publish(publisher: Publisher, quotes: list[object] = quotes) -> None:
            for quote, received_ns in zip(quotes, simulated.busy_stamps(payloads), strict=True):
                publisher.publish(quote, received_ns)

        found.append(_once(folder / f"objects{number}", publish))
    return _medians(found)


def _once(folder: Path, publish: Callable[[Publisher], None]) -> tuple[float, float, float]:
    """Seconds to a sealed log, seconds of archiving it, CPU seconds of both."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    folder.mkdir()
    publisher = simulated.open_publisher(folder, ring_slots=1 << 16)
    started, cpu = time.perf_counter(), time.process_time()
    publish(publisher)
    simulated.close(publisher, folder)
    logged = time.perf_counter()
    archived = archive_all(folder / "wal", folder / "archive")
    ended, cpu = time.perf_counter(), time.process_time() - cpu
    assert not archived.skipped
    return logged - started, ended - logged, cpu


def _medians(found: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    log, archive, cpu = zip(*found, strict=True)
    return median(log), median(archive), median(cpu)


BENCH = Bench(
    "way",
    rows,
    "A process bound to one core publishes the 300 k events of a simulated day, stamped at 28 k events/s, into a ring "
    "of 65,536 slots with `fdatasync`, closes, and archives: Parquet written, read back, compared by hash, published. "
    "The first row does so with four such runs on two cores, wall time from the first record to the last rename.",
    "Of ten parts of a record's time the archive takes seven: Arrow writes Parquet in 2.2, reads it back in 1.1; the "
    "log is decoded in 1, half of it zstd's; columns are gathered in 1, records placed in 0.4, made anew and hashed in "
    "0.4. The log takes three: zstd 1.2, in and out of the ring 1, turning records into columns 0.3. "
    "Objects: the SDK's attribute reads. Wall time: whoever else runs.",
)
