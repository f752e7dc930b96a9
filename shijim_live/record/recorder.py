"""The recorder: a feed on one side, the publisher on the other, and what must be written down around them.

Not the log itself (`rust_indicators.Publisher` owns the thread that writes it) and not a feed (`shijim_live.broker`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import orjson

from rust_indicators import Publisher
from shijim_live import __version__
from shijim_live.calendar import wall_clock
from shijim_live.events import (
    BOOK_LAYOUT,
    BROKER_FIELDS,
    BROKER_FLAGS,
    HEADER_LAYOUT,
    SCHEMA_VERSION,
    TRADE_LAYOUT,
    BrokerClass,
    Flag,
    Kind,
    RingState,
    offsets,
)
from shijim_live.instruments import dictionary
from shijim_live.record import wal
from shijim_live.record.sink import Sink
from shijim_live.record.space import RecordError, log_space, require_room

# Somebody who only asks whether the shard is recorded holds its lock for an instant: try again for this long.
LOCK_SECONDS_MAX = 1.0
LOCK_TRY_SECONDS = 0.02
# A session is at most this long: what the continuity of a restarted recorder must look back on.
SESSION_NS_MAX = 20 * 3_600 * 1_000_000_000
END_OF_FEED = 1  # value of a STOP event: the feed had nothing more to say


class Feed(Protocol):
    """Where events come from. `run` returns when there are no more, or soon after `stop` is set."""

    def run(self, sink: Sink, stop: threading.Event, resume_after_ns: int | None) -> None: ...


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """One run of one recorder."""

    raw_dir: Path
    shard: int
    source: str  # simulated, replay, shioaji
    clock: str  # real or simulated
    config: dict[str, object]  # which market is recorded: runs of equal ones continue each other
    classes: tuple[tuple[type, BrokerClass], ...]
    ring_slots: int
    durability: str  # sync, write, off
    outage_ns: int  # how long a restarted recorder of a simulated day was away
    now_ns: Callable[[], int]
    run_id: Callable[[str], str]  # from the config hash and where it resumes
    universe: tuple[tuple[str, ...], ...] = ()  # the codes of each shard; empty: everything the feed delivers
    delivered: frozenset[str] = frozenset()  # codes the feed is known to deliver
    # What becomes of an event while the disk is full: `lose` where the market goes on without us (it is counted, and an
    # outage stands around it), `hand_back` where the feed has no clock and can deliver it again.
    without_space: str = "lose"
    commit_interval_ms: int = 0
    subscribes: bool = False  # the feed asks for what it delivers, and may ask for other codes later: all is recorded
    note: str = ""  # what else the first event says: which part of a recording is replayed

    @property
    def wal_dir(self) -> Path:
        return self.raw_dir / "wal"

    @property
    def codes(self) -> tuple[str, ...] | None:
        """The codes this shard records; None for all."""
        return self.universe[self.shard] if self.universe else None

    @property
    def described(self) -> dict[str, object]:
        """The config as it stands in the header: what is recorded, of which market."""
        return self.config | ({"universe": self.universe} if self.universe else {})

    @property
    def config_hash(self) -> str:
        described = orjson.dumps(self.described, option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(described).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Recording:
    """What a finished run left behind."""

    run_id: str
    accepted: int
    durable: int
    recovered: tuple[wal.Recovered, ...]
    resumed_after_ns: int | None
    complete: bool  # the feed ended by itself
    without_space: bool  # it ended while waiting for space
    counters: dict[str, int]


def record(
    plan: RecordPlan, feed: Feed, stop: threading.Event, started: Callable[[Publisher], None] = lambda _: None
) -> Recording:
    """Records until the feed ends or `stop` is set. Returns only when everything accepted is durable and sealed."""
    require_room(plan.raw_dir, plan.durability)
    with shard_lock(plan.wal_dir, plan.shard):
        recovered = wal.recover(plan.wal_dir, plan.shard)
        resumed_after_ns = resume_point(plan)
        run_id = free_run_id(plan, resumed_after_ns)
        publisher = open_publisher(plan, run_id, resumed_after_ns)
        started(publisher)
        start_ns = plan.now_ns() if resumed_after_ns is None else resumed_after_ns + plan.outage_ns
        complete = without_space = False
        if resumed_after_ns is not None:
            # First of all: the next restart goes on from the last stamp in the log, which is then behind this hole.
            publisher.publish_status(
                Kind.OUTAGE, start_ns, begin_ns=resumed_after_ns, end_ns=start_ns, text="recorder was not running"
            )
        publisher.publish_status(Kind.START, start_ns, text=f"shijim {__version__} {plan.source}{plan.note}")
        resume_ns = start_ns if resumed_after_ns is not None else None
        try:
            give_up = stop if plan.without_space == "hand_back" else None
            codes = None if plan.subscribes else plan.codes
            feed.run(Sink(publisher, resume_ns, codes, give_up), stop, resume_ns)
            complete = not stop.is_set()
        finally:
            counters = publisher.counters()
            without_space = counters["state"] == RingState.WAITING
            last_ns = max(start_ns, counters["last_received_ns"])
            try:
                publisher.publish_status(Kind.STOP, last_ns, value=END_OF_FEED if complete else 0)
            finally:
                # Also when there was no room for the stop: what was accepted is still to be made durable.
                durable = publisher.close()
            ring_path(plan.raw_dir, plan.shard).unlink(missing_ok=True)
        counters = publisher.counters()
        return Recording(run_id=run_id, accepted=counters["accepted"], durable=durable, recovered=tuple(recovered),
                         resumed_after_ns=resumed_after_ns, complete=complete, without_space=without_space,
                         counters=counters)  # fmt: skip


def free_run_id(plan: RecordPlan, resumed_after_ns: int | None) -> str:
    """An identity no segment has yet: a run that died before its first record was durable left its name behind."""
    attempt = 0
    what = f"{plan.config_hash}-{resumed_after_ns}" + (f"-shard{plan.shard}" if plan.shard else "")
    while True:
        run_id = plan.run_id(f"{what}-{attempt}" if attempt else what)
        if not any(plan.wal_dir.rglob(f"{run_id}-*")):
            return run_id
        attempt += 1


def open_publisher(plan: RecordPlan, run_id: str, resumed_after_ns: int | None) -> Publisher:
    """The ring and its log thread, told what the run is and where the session's volumes stood."""
    header = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "source": plan.source,
        "clock": plan.clock,
        "created_ns": plan.now_ns(),
        "build": __version__,
        "config": plan.described,
        "config_hash": plan.config_hash,
        "shard": plan.shard,
        "instruments": dictionary(plan.delivered if plan.codes is None else plan.codes),
    }
    history = [] if resumed_after_ns is None else session_history(plan, resumed_after_ns)
    try:
        return Publisher(
            ring_path=ring_path(plan.raw_dir, plan.shard),
            ring_slots=plan.ring_slots,
            wal_dir=plan.wal_dir,
            run_id=run_id,
            header=orjson.dumps(header, option=orjson.OPT_SORT_KEYS).decode(),
            classes=[class_spec(cls, broker_class) for cls, broker_class in plan.classes],
            durability=plan.durability,
            commit_interval_ms=plan.commit_interval_ms,
            history=list(history),
            space=log_space(plan.wal_dir, plan.shard),
            without_space=plan.without_space,
        )
    except OSError as error:
        raise RecordError(f"cannot start recording in {plan.raw_dir}: {error}") from error


def class_spec(
    cls: type, broker_class: BrokerClass
) -> tuple[type, int, int, list[tuple[str, str, int, int]], list[tuple[str, int]]]:
    """Which attribute of a broker class goes to which bytes of the record."""
    kind = Kind.TRADE if broker_class in (BrokerClass.TICK_STK_V1, BrokerClass.TICK_FOP_V1) else Kind.BOOK
    layout = HEADER_LAYOUT + (TRADE_LAYOUT if kind is Kind.TRADE else BOOK_LAYOUT)
    places = offsets(layout)
    shapes = {name: (char, count) for name, char, count in layout}
    fields = [
        (theirs, shapes[ours][0], places[ours][0], shapes[ours][1])
        for theirs, ours in BROKER_FIELDS[broker_class].items()
    ]
    flags = [(name, int(Flag[name.upper()])) for name in BROKER_FLAGS[broker_class]]
    return cls, int(broker_class), int(kind), fields, flags


def resume_point(plan: RecordPlan) -> int | None:
    """Receive time of the last durable event of an earlier, unfinished run of the same simulated day.

    Raises RecordError when that day is in the log already, from start to end.
    """
    if plan.clock != "simulated":
        return None
    headers, _ = wal.readable_headers(plan.wal_dir)
    for header in headers:
        # Every run of a simulated day is made at the day's first instant.
        same_day = header.source == plan.source and header.created_ns == plan.now_ns()
        if same_day and not _same_market(plan, header):
            raise RecordError(
                f"{plan.wal_dir} holds another simulation of this day ({header.path.name}), and the two would mix. "
                "Give another --data-dir"
            )
    last_ns: int | None = None
    for path in _own_segments(plan):
        received = (wal.footer(path) or {}).get("received_ns")
        if isinstance(received, list):
            last_ns = max(last_ns or 0, received[1])
            if ends_the_day(path):
                raise RecordError(
                    f"{plan.wal_dir} holds this day already ({path.name} ends it). "
                    "Choose another --day or another --data-dir"
                )
    return last_ns


def _own_segments(plan: RecordPlan) -> list[Path]:
    """Segments of earlier runs that recorded the same market on the same shard, whatever their universe was."""
    headers, _ = wal.readable_headers(plan.wal_dir)
    return [header.path for header in headers if header.shard == plan.shard and _same_market(plan, header)]


def _same_market(plan: RecordPlan, header: wal.SegmentHeader) -> bool:
    """Whether a segment is of the market of the plan: a universe chosen anew in between changes only the codes."""
    if header.config_hash == plan.config_hash:
        return True
    if header.source != plan.source or header.created_ns != plan.now_ns():
        return False
    recorded = orjson.loads(wal.open_segment(header.path)[0].header).get("config")
    market = {name: value for name, value in dict(recorded or {}).items() if name != "universe"}
    return bool(market == orjson.loads(orjson.dumps(plan.config)))


def ends_the_day(path: Path) -> bool:
    """True when the segment holds the STOP event of a feed that came to its end."""
    kinds = (wal.footer(path) or {}).get("kinds")
    if not isinstance(kinds, dict) or str(int(Kind.STOP)) not in kinds:
        return False
    stops = [
        chunk[at : at + 256]
        for chunk in wal.records(path)
        for at in range(0, len(chunk), 256)
        if chunk[at] == Kind.STOP
    ]
    return any(int.from_bytes(stop[72:80], "little") == END_OF_FEED for stop in stops)


def session_history(plan: RecordPlan, resumed_after_ns: int) -> Iterator[Path]:
    """Segments of the session before a restart, in order: their volumes are what the next trade is judged by."""
    found = []
    for path in _own_segments(plan):
        header = wal.read_header(path)
        received = (wal.footer(path) or {}).get("received_ns")
        if isinstance(received, list) and received[1] >= resumed_after_ns - SESSION_NS_MAX:
            found.append((header.created_ns, received[0], header.segment, path))
    return (path for *_, path in sorted(found))


def ring_path(raw_dir: Path, shard: int) -> Path:
    """The ring of a shard: in shared memory, named after who records what, so that any process finds it."""
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
    place = hashlib.sha256(str(raw_dir.resolve()).encode()).hexdigest()[:12]
    return memory / f"shijim-{os.getuid()}-{place}-{shard}"


@contextmanager
def shard_lock(wal_dir: Path, shard: int) -> Iterator[None]:
    """Holds the shard of a data folder for one recorder. Raises RecordError naming who has it."""
    with (wal_dir / f".shard-{shard}.lock").open("a+") as file:
        if not _locked(file):
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise RecordError(
                f"{wal_dir.parent}: shard {shard} is being recorded by process {owner}. "
                "Stop that one first, or give another --data-dir or --shard"
            )
        file.truncate(0)
        since = wall_clock(time.time_ns()).isoformat(" ", "seconds")
        file.write(f"{os.getpid()} on {socket.gethostname()} since {since} Taipei")
        file.flush()
        yield


def _locked(file: IO[str]) -> bool:
    deadline = time.monotonic() + LOCK_SECONDS_MAX
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
        time.sleep(LOCK_TRY_SECONDS)


def is_recording(wal_dir: Path, shard: int = 0) -> bool:
    """True while a recorder holds the shard."""
    try:
        # Read only, and shared: whoever may look at the log may ask.
        with (wal_dir / f".shard-{shard}.lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def recording_in(place: Path) -> Path | None:
    """The log folder that a recorder of any shard is writing to, if `place` is it or lies in it."""
    for folder in (place.resolve(), *place.resolve().parents):
        if any(is_recording(folder, int(lock.stem.rpartition("-")[2])) for lock in folder.glob(".shard-*.lock")):
            return folder
    return None
