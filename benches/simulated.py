"""One simulated day as what the other benches need: the SDK's own objects, records, a log. And how fast it is made."""

from __future__ import annotations

import functools
import gc
import hashlib
import operator
import resource
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from benches.measure import Bench, Effort, Row, seconds
from rust_indicators import Publisher, SegmentReader
from shijim_live.broker.shioaji import quote_classes
from shijim_live.broker.simulated import (
    BATCH,
    KIND_DOWN,
    TAIWAN,
    SimulatedExchange,
    SimulatedInstrument,
    SimulationConfig,
)
from shijim_live.events import SCHEMA_VERSION, BrokerClass
from shijim_live.record.recorder import class_spec

DAY = date(2026, 4, 9)
RUN_ID = "00000000000000be"
# The busiest second of a real open, for all codes of a connection.
EVENTS_PER_SECOND = 28_000
# A whole connection's codes, on a day busier than any.
WIDE_CODES, WIDE_EVENTS = 200, 10_000_000
# What a strategy reads of each; an SDK object decodes nothing before it is read.
_TICK = operator.attrgetter("code", "datetime", "close", "volume", "total_volume", "tick_type", "simtrade")
_BOOK = operator.attrgetter("code", "datetime", "bid_price", "bid_volume", "ask_price", "ask_volume", "simtrade")


@dataclass(frozen=True, slots=True)
class Payload:
    """One message of the feed."""

    broker_class: BrokerClass
    received_ns: int
    data: bytes


def classes() -> dict[BrokerClass, Any]:
    """The SDK's quote classes, by our number; the numbers of the feed's kinds are in this order."""
    quote = quote_classes()
    return {
        BrokerClass.TICK_STK_V1: quote.tick_stk,
        BrokerClass.TICK_FOP_V1: quote.tick_fop,
        BrokerClass.BIDASK_STK_V1: quote.bidask_stk,
        BrokerClass.BIDASK_FOP_V1: quote.bidask_fop,
    }


@functools.cache
def payloads() -> tuple[Payload, ...]:
    """Every message of the day, in receive order."""
    day = SimulatedExchange(DAY, seed=1)._start()
    numbers = list(classes())
    made = tuple(
        Payload(numbers[kind], received_ns, data)
        for batch in iter(lambda: day.next_batch(BATCH), [])
        for kind, _, received_ns, data in batch
        if kind < KIND_DOWN
    )
    gc.freeze()  # hundreds of thousands of objects that no collection between two rounds should look at again
    return made


def objects(chosen: Sequence[Payload]) -> list[object]:
    """Fresh objects: the SDK decodes on the first read, which belongs to the cost of every event."""
    decode: dict[BrokerClass, Callable[[bytes], object]] = {
        number: cls.from_msgpack for number, cls in classes().items()
    }
    return [decode[payload.broker_class](payload.data) for payload in chosen]


def open_publisher(
    folder: Path, *, ring_slots: int, durability: str = "sync", run_id: str = RUN_ID, commit_interval_ms: int = 0
) -> Publisher:
    """A publisher as the recorder opens it, with its log in `folder`/wal and its ring in shared memory."""
    header = {
        "schema_version": SCHEMA_VERSION, "run_id": run_id, "source": "simulated", "clock": "simulated",
        "created_ns": payloads()[0].received_ns, "build": "bench", "config": {}, "config_hash": "bench", "shard": 0,
    }  # fmt: skip
    return Publisher(
        ring_path=ring_path(folder),
        ring_slots=ring_slots,
        wal_dir=folder / "wal",
        run_id=run_id,
        header=orjson.dumps(header).decode(),
        classes=[class_spec(cls, number) for number, cls in classes().items()],
        durability=durability,
        commit_interval_ms=commit_interval_ms,
    )


def ring_path(folder: Path) -> Path:
    return Path("/dev/shm") / f"shijim-{folder.name}"


def close(publisher: Publisher, folder: Path) -> None:
    publisher.close()
    ring_path(folder).unlink()


def busy_stamps(chosen: Sequence[Payload]) -> range:
    """Receive times as if the messages came at the pace of a busy market: segments then hold what they are made for."""
    first_ns, step_ns = chosen[0].received_ns, 1_000_000_000 // EVENTS_PER_SECOND
    return range(first_ns, first_ns + step_ns * len(chosen), step_ns)


def record_busily(folder: Path, chosen: Sequence[Payload]) -> bytes:
    """Records the messages into `folder`/wal with busy stamps and returns their records."""
    folder.mkdir()
    publisher = open_publisher(folder, ring_slots=1 << 16, durability="write")
    for received_ns, quote in zip(busy_stamps(chosen), objects(chosen), strict=True):
        publisher.publish(quote, received_ns)
    close(publisher, folder)
    return records_of(folder)


def records_of(folder: Path) -> bytes:
    readers = [SegmentReader(path) for path in sorted(folder.rglob("*.wal"))]
    return b"".join(chunk for reader in readers for chunk in iter(functools.partial(reader.read, 65_536), b""))


def wide_day(events: int) -> SimulatedExchange:
    """Taiwan's rules, and as many codes as one connection carries: three futures, the rest stocks."""
    futures, stocks = TAIWAN.instruments[:3], WIDE_CODES - 3
    made = tuple(SimulatedInstrument(str(1_101 + n), (20 + 7 * n) * 1_000_000, 5, 10) for n in range(stocks))
    return SimulatedExchange(DAY, 1, replace(TAIWAN, instruments=(*futures, *made), target_events=events))


def wide_rows(events: int) -> list[Row]:
    """The wide day three times: its bytes hashed, its objects read, and the same objects read by the SDK alone."""
    exchange, digest, sizes = wide_day(events), hashlib.blake2b(digest_size=8), list[int]()
    numbers = classes()
    readers = {cls: _TICK if "TICK" in number.name else _BOOK for number, cls in numbers.items()}
    decoders = [(cls.from_msgpack, readers[cls]) for cls in numbers.values()]  # by the feed's number of a kind
    alone = 0.0  # seconds

    def hashed() -> None:
        day = exchange._start()
        for batch in iter(lambda: day.next_batch(BATCH), []):
            digest.update(b"".join(payload for *_, payload in batch))
            sizes.append(len(batch))

    def read() -> None:
        exchange.run(lambda quote, _: readers[type(quote)](quote), lambda *_: None, threading.Event())

    def from_memory(batch: Sequence[tuple[int, int, int, bytes]]) -> None:
        for kind, _, _, payload in batch:
            if kind < KIND_DOWN:
                decode, reader = decoders[kind]
                reader(decode(payload))

    encoded, decoded = (seconds(work, time.process_time) for work in (hashed, read))
    day = exchange._start()
    # A piece at a time: the whole day's messages would take gigabytes.
    for batch in iter(lambda: day.next_batch(BATCH), []):
        alone += seconds(functools.partial(from_memory, batch), time.process_time)
    deliveries = sum(sizes)
    what = f"{WIDE_CODES} codes, {deliveries / 1e6:.1f} M events"
    return [
        Row(f"{what}: encoded and hashed, CPU time", f"{deliveries / encoded / 1e3:,.0f} k/s"),
        Row(f"{what}: the SDK's objects, seven attributes read, CPU time", f"{deliveries / decoded / 1e3:,.0f} k/s",
            f"the SDK alone, messages from memory {deliveries / alone / 1e3:,.0f} k/s", f"{alone / decoded:.2f}×",
            "≥ 100 k/s", deliveries / decoded >= 100_000),
        Row(f"{what}: hash of the messages of seed 1", digest.hexdigest()),
    ]  # fmt: skip


def rows(effort: Effort) -> list[Row]:
    small = SimulationConfig(target_events=300_000 if effort.rounds > 3 else 60_000)
    exchange = SimulatedExchange(DAY, 1, small)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    day = exchange._start()
    generated = seconds(lambda: [None for _ in iter(lambda: day.next_batch(BATCH), [])])
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    made = seconds(lambda: exchange.run(lambda *_: None, lambda *_: None, threading.Event()))
    deliveries = exchange.truth()["deliveries"]
    return [
        Row("simulated day, encoded messages", f"{deliveries / generated / 1e3:,.0f} k/s"),
        Row("simulated day, the SDK's objects", f"{deliveries / made / 1e3:,.0f} k/s"),
        Row("simulated day, growth of peak memory", f"{grown_mb:.0f} MB"),
        *wide_rows(WIDE_EVENTS if effort.rounds > 3 else WIDE_EVENTS // 50),
    ]


BENCH = Bench(
    "simulated",
    rows,
    "One seeded day is generated and thrown away, once as messages and once as objects made by `from_msgpack`. "
    "The wide day has Taiwan's rules; code, time, prices, volumes, lane and a tick's side are read of each object; "
    "beside it the same messages from memory, decoded and read by the SDK alone.",
    "Objects: the SDK's constructor and the call per event. Read: the `Decimal` the SDK makes of every price, "
    "ten a book: the SDK alone takes most of it, the making of the day the rest.",
)
