"""The callback body beside bare reads of the same attributes, and beside JSON lines of `to_dict()`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from statistics import median
from typing import Any

import orjson

from benches import simulated
from benches.measure import Bench, Effort, Row, folder_on_disk, interleaved, ratio
from rust_indicators import Publisher
from shijim_live.events import BROKER_FIELDS, BROKER_FLAGS, BrokerClass

READS_MAX = 1.8
JSON_MIN = 1.2


def rows(effort: Effort) -> list[Row]:
    found: list[Row] = []
    rounds = 3 * effort.rounds
    for number in simulated.classes():
        of_class = [payload for payload in simulated.payloads() if payload.broker_class == number]
        # One behind the other, as they come: a trade that follows on is judged at once, every gap is one more record.
        found += _class_rows(number, of_class[: effort.objects], rounds)
    return found


def _class_rows(number: BrokerClass, chosen: list[simulated.Payload], rounds: int) -> list[Row]:
    read = attrgetter(*BROKER_FIELDS[number], *BROKER_FLAGS[number], "code", "datetime", "exchange.value")
    with folder_on_disk() as folder, (folder / "json").open("wb") as file:
        bodies: dict[str, Callable[[Any], object]] = {
            "read": read,
            "json": lambda quote: file.write(orjson.dumps(quote.to_dict(), default=str)),
        }
        fresh: dict[str, list[object]] = {}
        logs = [folder / f"{folder.name}-{number}" for number in range(rounds)]
        unused = iter(logs)
        publishers: list[Publisher] = []

        def prepare() -> None:
            # A log of its own a round: the same trades once more would be repeats.
            publishers.append(simulated.open_publisher(next(unused), ring_slots=1 << 13))
            bodies["publish"] = publishers[-1].publish
            fresh.update({name: simulated.objects(chosen) for name in bodies})

        sides = {name: partial(_call_each, bodies, fresh, name) for name in ("publish", *bodies)}
        times = interleaved(rounds, sides, prepare, time.thread_time)
        for publisher, log in zip(publishers, logs, strict=True):
            counters = publisher.counters()
            assert (counters["quarantined"], counters["accepted"]) == (0, len(chosen) + counters["gaps"])
            simulated.close(publisher, log)
    return _report(number, times, len(chosen))


def _call_each(bodies: dict[str, Callable[[Any], object]], fresh: dict[str, list[object]], name: str) -> None:
    body = bodies[name]
    for quote in fresh[name]:
        body(quote)


def _report(number: BrokerClass, times: dict[str, list[float]], count: int) -> list[Row]:
    ours, reads, json = (f"{median(times[name]) / count * 1e6:.2f} µs" for name in ("publish", "read", "json"))
    over_reads, under_json = ratio(times["publish"], times["read"]), ratio(times["json"], times["publish"])
    what = f"callback, {number.name.lower()}"
    return [
        Row(f"{what}, vs bare reads", ours, reads, f"{over_reads:.2f}×", f"≤ {READS_MAX}×", over_reads <= READS_MAX),
        Row(f"{what}, vs to_dict + orjson + write", ours, json, f"{under_json:.2f}× faster", f"≥ {JSON_MIN}× faster",
            under_json >= JSON_MIN),
    ]  # fmt: skip


BENCH = Bench(
    "callback",
    rows,
    "CPU time of the calling thread on fresh objects of the simulated day, others for every side and round: "
    "`publish(object)` with clock stamp, volume continuity and ring write while the log thread syncs to disk; one "
    "`operator.attrgetter` of the same attributes; `to_dict()` as a line of JSON. The ratio is the median of the "
    "rounds' own ratios.",
    "The SDK: it decodes on the first read and makes a Decimal per price read; what is ours is the rest.",
)
