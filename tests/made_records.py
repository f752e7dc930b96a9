"""Records made by hand, and segments of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import orjson

from rust_indicators import LogWriter
from shijim_live.calendar import to_exchange_ns
from shijim_live.events import SCHEMA_VERSION, BrokerClass, Event, Exchange, Kind, Lane, Status, Trade, encode

RUN = "00000000000000ab"
SECOND_NS = 1_000_000_000


def ns(text: str) -> int:
    """`2026-04-09 09:00:00` of Taipei, since the epoch."""
    return to_exchange_ns(datetime.fromisoformat(text))


def trade(code: str, exchange_ns: int, volume: int, total: int, **fields: int) -> Trade:
    """A board-lot futures trade received 5 ms after its stamp."""
    known = {"received_ns": exchange_ns + 5_000_000, "exchange": Exchange.TAIFEX, "lane": Lane.BOARD, "side": 1}
    known |= {"broker_class": BrokerClass.TICK_FOP_V1, "price_e6": 35_000_000_000, "total_volume": total}
    return Trade(code=code, exchange_ns=exchange_ns, volume=volume, **(known | fields))


def trades(code: str, start: str, volumes: Iterable[int], total: int = 0, step_ns: int = SECOND_NS) -> list[Trade]:
    """Consecutive trades from `start`, one a step, the first on top of `total`."""
    made = []
    for at, volume in enumerate(volumes):
        total += volume
        made.append(trade(code, ns(start) + at * step_ns, volume, total))
    return made


def outage(begin: str, end: str, reason: str) -> Status:
    """What the recorder writes when it is back."""
    return Status(kind=Kind.OUTAGE, received_ns=ns(end), begin_ns=ns(begin), end_ns=ns(end), text=reason)


def records(events: Iterable[Event]) -> bytes:
    """Numbered from 1, as bytes."""
    return b"".join(encode(replace(event, sequence=number)) for number, event in enumerate(events, 1))


def write_log(wal_dir: Path, events: Iterable[Event], run_id: str = RUN, **header: object) -> list[Path]:
    """Sealed segments of one run."""
    known: dict[str, object] = {"schema_version": SCHEMA_VERSION, "run_id": run_id, "source": "simulated"}
    known |= {
        "clock": "simulated",
        "created_ns": ns("2026-04-09 08:00:00"),
        "config_hash": "0",
        "shard": "0",
        "build": "test",
    }
    writer = LogWriter(wal_dir, run_id, orjson.dumps(known | header).decode())
    writer.append(records(events))
    writer.close()
    return sorted(wal_dir.rglob(f"{run_id}-*.wal"))
