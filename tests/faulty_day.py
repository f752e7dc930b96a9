"""A simulated day that goes wrong in every way at once, recorded by the real recorder, and what is then missing."""

from __future__ import annotations

import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shijim_live.broker.history import History
from shijim_live.broker.shioaji import quote_classes
from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig
from shijim_live.broker.simulated_history import Defect
from shijim_live.calendar import SECOND_NS, Market, session_bounds
from shijim_live.events import BrokerClass, Kind, Lane
from shijim_live.record import wal
from shijim_live.record.recorder import RecordPlan, record
from shijim_live.record.sink import Sink
from shijim_live.store.lake import Lake
from shijim_live.store.schema import record_dtype
from shijim_pipelines.archive import archive_all
from shijim_pipelines.history import history_for
from shijim_pipelines.proof.audit import audit_day, write_report
from shijim_pipelines.proof.gap_report import GapReport
from shijim_pipelines.proof.ledger import record_report
from shijim_pipelines.quotes import closing_totals, fetch_instruments, near_months, quotes_of, write_instruments

SESSIONS = ("night", "day", "day")  # of the exchange's three
HOUR_NS = 3_600 * SECOND_NS
EVENTS = 24_000

Print = tuple[str, str, int, int, int, int]  # code, session, exchange_ns, price_e6, volume, total
Stream = tuple[str, str]


@dataclass(frozen=True)
class Day:
    """One seeded day: what was traded, and where everything about it lies."""

    day: date
    seed: int
    folder: Path
    events: int = EVENTS

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    @property
    def wal(self) -> Path:
        return self.folder / "wal"

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    @property
    def market(self) -> Path:
        return self.folder / "market"

    @property
    def over_ns(self) -> int:
        """Late enough on the evening that everything about the day can be asked."""
        return session_bounds(self.day, Market.FUTURES)[-1].close_ns + 6 * HOUR_NS

    @cached_property
    def exchange(self) -> SimulatedExchange:
        config = SimulationConfig(target_events=self.events, outages=2, lost_ticks=8, lost_books=5, repeats=15)
        return SimulatedExchange(self.day, self.seed, config)

    @cached_property
    def truth(self) -> dict[int, Print]:
        """Receive stamp, which names a delivery, → the trade."""
        answer = self.exchange.truth()
        trades, codes = answer["trades"], answer["codes"]
        types = {"instrument": "<u2", "session": "u1", "received_ns": "<i8", "exchange_ns": "<i8", "price_e6": "<i8",
                 "volume": "<u4", "total_volume": "<u8"}  # fmt: skip
        c = {name: np.frombuffer(trades[name], kind).tolist() for name, kind in types.items()}  # type: ignore[literal-required]
        rows = zip(c["instrument"], c["session"], c["exchange_ns"], c["price_e6"], c["volume"], c["total_volume"],
                   strict=True)  # fmt: skip
        told = ((codes[code], SESSIONS[session], *rest) for code, session, *rest in rows)
        return dict(zip(c["received_ns"], told, strict=True))

    def history(self, defects: frozenset[Defect] = frozenset(), now_ns: Callable[[], int] | None = None) -> History:
        return history_for(
            self.day,
            self.wal,
            self.market,
            defects=defects,
            now_ns=now_ns or (lambda: self.over_ns),
            sleep=lambda _: None,
        )


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong between the exchange and the recorder, by receive stamp."""

    lost: frozenset[int]
    silent: tuple[tuple[str, int, int], ...]  # (code, from, to): nothing of the code comes
    repeated: dict[int, int]  # → deliveries until it comes again
    late: dict[int, int]  # → deliveries until it comes at all
    stop_ns: int  # the recorder is stopped here, and back after AWAY_NS


AWAY_NS = 90 * SECOND_NS
FOREVER_NS = 1 << 62


def faults_of(day: Day) -> Faults:
    """Seeded: lost ticks, lost ends, a late start, an early stop, an absent code, repeats, others out of order."""
    chance = random.Random(f"faults {day.seed}")
    by_stream: dict[Stream, list[int]] = {}
    for received_ns, (code, session, *_) in day.truth.items():
        by_stream.setdefault((code, session), []).append(received_ns)
    streams = sorted(stream for stream, stamps in by_stream.items() if len(stamps) >= 40)
    absent, late_start, early_stop, *tails = chance.sample(streams, 6)
    stamps = sorted(day.truth)
    lost = set(chance.sample(stamps, 25))
    for tail in tails:
        lost.update(by_stream[tail][-chance.randint(1, 5) :])
    # A burst of one stream, so that neighbours of lost trades are lost, too.
    burst = by_stream[chance.choice(streams)]
    at = chance.randrange(len(burst) - 6)
    lost.update(burst[at : at + 6 : chance.choice((1, 2))])
    start, end = by_stream[late_start], by_stream[early_stop]
    silent = (
        (absent[0], 0, FOREVER_NS),
        (late_start[0], 0, start[chance.randint(1, len(start) // 4)]),
        (early_stop[0], end[-chance.randint(5, len(end) // 4)], FOREVER_NS),
    )
    odd = chance.sample(stamps, 20)
    return Faults(
        frozenset(lost),
        silent,
        {stamp: chance.randint(0, 9) for stamp in odd[:10]},
        {stamp: chance.randint(1, 12) for stamp in odd[10:]},
        stamps[chance.randrange(len(stamps) // 4, 3 * len(stamps) // 4)],
    )


@dataclass
class FaultyFeed:
    """The simulated feed with more going wrong; remembers which trades it handed over."""

    day: Day
    faults: Faults
    delivered: set[int] = field(default_factory=set)
    stopped: bool = False

    def run(self, sink: Sink, stop: threading.Event, resume_after_ns: int | None) -> None:
        held: list[list[object]] = []  # deliveries left, object
        stopping = not self.stopped
        last_ns = 0

        def hand_over(quote: object, received_ns: int) -> None:
            nonlocal last_ns
            last_ns = max(last_ns + 1, received_ns)
            sink.quote(quote, last_ns)

        def on_quote(quote: object, received_ns: int) -> None:
            for entry in [entry for entry in held if entry[0] == 0]:
                held.remove(entry)
                hand_over(entry[1], received_ns)
            for entry in held:
                entry[0] = int(str(entry[0])) - 1
            if not self._comes(quote, received_ns):
                return
            if received_ns in self.faults.late:
                held.append([self.faults.late[received_ns], quote])
            else:
                hand_over(quote, received_ns)
            if received_ns in self.faults.repeated:
                held.append([self.faults.repeated[received_ns], quote])
            # A lost trade's stamp, when it would have come, may be that of something else that did.
            if getattr(quote, "total_volume", None) == self.day.truth.get(received_ns, (None,))[-1]:
                self.delivered.add(received_ns)
            if stopping and received_ns >= self.faults.stop_ns:
                self.stopped = True
                stop.set()

        self.day.exchange.run(on_quote, sink.connection, stop, resume_after_ns)
        for _, quote in held:
            hand_over(quote, last_ns + 1)

    def _comes(self, quote: object, received_ns: int) -> bool:
        if received_ns in self.faults.lost and received_ns in self.day.truth:
            return False
        code = quote.code  # type: ignore[attr-defined]
        return not any(code == silent and begin <= received_ns < end for silent, begin, end in self.faults.silent)


def plan_of(day: Day) -> RecordPlan:
    classes = quote_classes()
    first_ns = min(session.trial_ns for session in day.exchange.sessions)
    return RecordPlan(
        raw_dir=day.folder,
        shard=0,
        source="simulated",
        clock="simulated",
        config={"day": day.day, "seed": day.seed, "events": day.events},
        classes=(
            (classes.tick_stk, BrokerClass.TICK_STK_V1),
            (classes.tick_fop, BrokerClass.TICK_FOP_V1),
            (classes.bidask_stk, BrokerClass.BIDASK_STK_V1),
            (classes.bidask_fop, BrokerClass.BIDASK_FOP_V1),
        ),
        ring_slots=1 << 15,
        durability="write",
        outage_ns=AWAY_NS,
        now_ns=lambda: first_ns,
        run_id=lambda what: hashlib.sha256(what.encode()).hexdigest()[:16],
    )


def recorded_with_faults(day: Day) -> set[int]:
    """Records the day with all faults, stopped once and started again, one block damaged; what is in the log of it."""
    feed = FaultyFeed(day, faults_of(day))
    for _ in range(2):
        record(plan_of(day), feed, threading.Event())
    assert feed.stopped
    lost = damage_a_block(day)
    told = Counter(day.truth[stamp] for stamp in feed.delivered if stamp in day.truth)
    assert max(told.values()) == 1
    names = {what: stamp for stamp, what in day.truth.items()}
    return {stamp for stamp in feed.delivered if stamp in day.truth} - {names[what] for what in lost}


def damage_a_block(day: Day) -> set[Print]:
    """Alters one byte of a sealed segment; the trades that are thereby gone, and did not come again in another one."""
    chance = random.Random(f"damage {day.seed}")
    sizes = {path: path.stat().st_size for path in wal.segment_paths(day.wal)}
    path = chance.choice(sorted(sizes, key=lambda path: -sizes[path])[:10])
    before = board_trades(path)
    content = bytearray(path.read_bytes())
    first_block = content.index(b"SBLK")
    content[chance.randrange(first_block + 64, len(content) * 2 // 3)] ^= 0xFF
    path.write_bytes(content)
    return set(before).difference(*map(board_trades, sizes))


def board_trades(path: Path) -> Counter[Print]:
    """Trades of one segment, as the truth names them."""
    found: Counter[Print] = Counter()
    for chunk in wal.records(path):
        rows: NDArray[np.void] = np.frombuffer(chunk, record_dtype("ticks"))
        rows = rows[(rows["kind"] == Kind.TRADE) & (rows["lane"] == Lane.BOARD)]
        columns = (rows[name].tolist() for name in ("code", "exchange_ns", "price_e6", "volume", "total_volume"))
        for code, exchange_ns, *rest in zip(*columns, strict=True):
            found[code.decode(), session_of(exchange_ns), exchange_ns, *rest] += 1  # type: ignore[index]
    return found


def session_of(exchange_ns: int) -> str:
    clock = (exchange_ns // SECOND_NS + 8 * 3_600) % 86_400
    return "day" if 8 * 3_600 <= clock < 14 * 3_600 + 1_800 else "night"


def audited(day: Day, defects: frozenset[Defect] = frozenset()) -> GapReport:
    """Archive, closing totals, audit and ledger."""
    archive_all(day.wal, day.archive)
    history = day.history(defects)
    write_instruments(fetch_instruments(history, day.day), day.market, day.day)
    assert near_months(fetch_instruments(history, day.day), day.day)
    quotes_of(day.day, day.market, history, day.over_ns)
    closing = closing_totals(day.market, day.day)
    wanted = day.exchange.codes
    report = audit_day(day.archive, day.wal, day.day, closing=closing, wanted=wanted, as_of_ns=day.over_ns)
    write_report(report, day.reports)
    record_report(report, day.reports, "test", day.over_ns)
    return report


def lots_by_stream(prints: list[Print]) -> dict[Stream, int]:
    found: Counter[Stream] = Counter()
    for code, session, _, _, volume, _ in prints:
        found[code, session] += volume
    return dict(found)


def in_the_lake(day: Day) -> list[Print]:
    """Trades of view `ticks`, sorted."""
    answer = Lake(day.archive).query(
        "SELECT code, session, exchange_ns, price_e6, volume, total_volume FROM ticks "
        "WHERE trading_day = {day:Date} AND lane = 1 ORDER BY ALL",
        day=day.day,
    )
    return list(zip(*(answer.column(name).to_pylist() for name in answer.column_names), strict=True))
