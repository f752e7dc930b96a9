"""What the compiled extension offers. Units are in the names; see the Rust sources for the contracts."""

from collections.abc import Sequence
from decimal import Decimal
from os import PathLike
from typing import Any, TypeAlias, TypedDict, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

# The signals have the names and types of their reference; a test compares what the kernels really take.
from rust_indicators.reference import *

BACKEND: str
OPTIMIZED: bool  # a release build: a debug one is many times too slow for a market

_Path: TypeAlias = str | PathLike[str]
_Group: TypeAlias = tuple[str, int, int, int, int]  # name, next sequence, missed, abandoned, members that live
_Problem: TypeAlias = tuple[int, int, int, int, str]
_FieldSpec: TypeAlias = tuple[str, str, int, int]
_ClassSpec: TypeAlias = tuple[type, int, int, list[_FieldSpec], list[tuple[str, int]]]

@final
class Publisher:
    def __init__(
        self,
        *,
        ring_path: _Path,
        ring_slots: int,
        wal_dir: _Path,
        run_id: str,
        header: str,
        classes: list[_ClassSpec],
        durability: str = "sync",
        commit_interval_ms: int = 0,
        history: list[_Path] | None = None,
        space: tuple[_Path, int, int, int] | None = None,
        without_space: str = "lose",
    ) -> None: ...
    def publish(self, object: object, received_ns: int | None = None, connection: int = 0) -> int: ...
    def publish_records(self, records: bytes) -> int: ...
    def publish_status(
        self,
        kind: int,
        received_ns: int,
        *,
        begin_ns: int = ...,
        end_ns: int = ...,
        value: int = 0,
        text: str = "",
        connection: int = 0,
    ) -> int: ...
    @property
    def accepted(self) -> int: ...
    @property
    def durable(self) -> int: ...
    def counters(self) -> dict[str, int]:
        """Plain integers of the ring. depth: events that wait for the log; depth_max: the most that did; above_50 and
        above_80: how often they rose past that share of the ring; blocked_ns: time callbacks waited."""

    def groups(self) -> list[_Group]: ...
    def check(self) -> None: ...
    def close(self) -> int: ...

@final
class SegmentReader:
    def __init__(self, path: _Path) -> None: ...
    def read(self, max_records: int) -> bytes: ...
    def read_into(self, buffer: _Column) -> int: ...
    @property
    def header(self) -> bytes: ...
    @property
    def footer(self) -> bytes | None: ...
    @property
    def problems(self) -> list[_Problem]: ...
    @property
    def position(self) -> int: ...
    @property
    def end(self) -> str: ...
    @property
    def multiset(self) -> tuple[int, int]: ...
    @property
    def ranges(self) -> tuple[int, int, tuple[int, int] | None]: ...

@final
class LogWriter:
    def __init__(self, wal_dir: _Path, run_id: str, header: str) -> None: ...
    def append(self, records: bytes) -> int: ...
    def close(self) -> int: ...

@final
class SegmentStatistics:
    records: int
    first_sequence: int
    last_sequence: int
    received_ns: tuple[int, int] | None
    exchange_ns: tuple[int, int] | None
    kinds: dict[int, int]
    codes: dict[str, int]
    state: str
    sound_bytes: int
    problems: int
    block_records: list[int]
    block_bytes: list[int]
    seconds: dict[int, int]
    lots_missing: int
    gaps: int
    duplicates: int
    late_start_lots: int

@final
class LogStatistics:
    def __init__(self) -> None: ...
    def add(self, path: _Path) -> SegmentStatistics: ...

@final
class Missed:
    """Sequences overwritten before they were read. Of a group, one member is told."""

    __match_args__ = ("first", "last")
    def __init__(self, first: int, last: int) -> None: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...

@final
class Abandoned:
    """Sequences that a member of the group had claimed when it died. One other member is told; each was handed out at
    most once, and whether the dead one acted on it nobody knows."""

    __match_args__ = ("first", "last")
    def __init__(self, first: int, last: int) -> None: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...

@final
class Ended:
    """There will be no more of this run. `how`: closed, failed (the log could not be written), died."""

    __match_args__ = ("run_id", "how")
    def __init__(self, run_id: int, how: str) -> None: ...
    @property
    def run_id(self) -> int: ...
    @property
    def how(self) -> str: ...

@final
class Restarted:
    """A new run has begun; its records follow, from sequence 1. What was computed from the one before is tainted."""

    __match_args__ = ("previous_run_id", "run_id")
    def __init__(self, previous_run_id: int, run_id: int) -> None: ...
    @property
    def previous_run_id(self) -> int: ...
    @property
    def run_id(self) -> int: ...

@final
class RingReader:
    """Reads whichever run has the ring of a path. It never slows the writer.

    Without `group` it has a cursor of its own and sees everything from `cursor` on. The members of a `group` share one
    (it begins at `cursor` where the group is new): each event goes to one of them. A group lasts as long as its run.
    Not to be used on both sides of a fork. OSError when there is no ring, or no room for a group or member.
    """

    def __init__(self, path: _Path, cursor: int = 1, group: str | None = None) -> None: ...
    def poll(self, max_records: int) -> tuple[bytes, Missed | Abandoned | Ended | Restarted | None]:
        """Records, or what happened to others: told once, in its place in the sequence, and with no records.

        To a group it also says that the member has finished with what it got before.
        """

    def finish(self) -> None:
        """This member of the group has finished with what it got, and may leave."""

    @property
    def next_sequence(self) -> int: ...
    @property
    def durable(self) -> int:
        """The last sequence on disk, of the run the reader is in: the only acknowledgement."""

    @property
    def writer(self) -> str:
        """running, closed, failed, died: of the run the reader is in."""

    def counters(self) -> dict[str, int]: ...
    def groups(self) -> list[_Group]: ...

def recover_segment(path: _Path) -> tuple[bool, int, int, int, int | None, list[_Problem]]: ...
def read_footer(path: _Path) -> bytes | None: ...
def record_layout() -> list[tuple[str, str, int, int]]: ...
def record_constants() -> list[tuple[str, str, int]]: ...
def next_rotation_ns(received_ns: int) -> int: ...
def decimal_e6(value: Decimal) -> int | None: ...
def decimal_is_read_in_place() -> bool: ...
def log_slot(received_ns: int) -> str: ...

# L5 recordings and datasets

# Before Python 3.12 the stubs of numpy do not say that an array is a buffer.
_Column = Buffer | NDArray[Any]

class EventRows:
    """Rows of hftbacktest's event type, 64 bytes each, read-only."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def decode_l5(ev: _Column, exch_ts: _Column, px: _Column, qty: _Column) -> tuple[bytes, bytes]:
    """Rows of an L5 recording (u64, i64, f64, f64) → (books, trades) in words of int64.

    A book is 23 words: place in the file, exchange_ns, source_offset_ns, bid_price_e6[5], bid_volume[5],
    ask_price_e6[5], ask_volume[5]. A trade is 6: place, exchange_ns, source_offset_ns, price_e6, volume, side.
    ValueError names the row that cannot be read.
    """

def build_hft_rows(
    books: tuple[Sequence[_Column], Sequence[Sequence[_Column]]],
    trades: tuple[Sequence[_Column], _Column],
    session_starts: Sequence[_Column],
) -> tuple[EventRows, int]:
    """Books and trades sorted by sequence → (rows, nanoseconds added to the local axis).

    books: ([exchange_ns, local_ns], [bid prices, bid volumes, ask prices, ask volumes] of five columns each), int64;
    trades: ([exchange_ns, local_ns, price_e6, volume] int64, side uint8); session_starts: [exchange_ns, local_ns],
    ascending on both: where the books before are forgotten, also within a session.
    ValueError names the book or trade that is not sound.
    """

# Continuity

Finding = tuple[int, str, int, int, int, str]
"""(index, verdict, lots, total before, total after, basis); verdict: first gap late duplicate reset excess."""

CountedStream = tuple[int, int, int, bool, int, int, int, int, int | None, int]
"""(code, session, lane, futures, trades, lots, judged, duplicates, highest total, index of the last row)."""

class Continuity:
    """Judges trades in the order given, and returns those that are not plainly the next one."""

    def observe_records(self, records: _Column) -> list[Finding]: ...
    def observe_columns(
        self,
        codes: bytes,  # 16 each
        numbers: tuple[_Column, _Column],  # i32: code, as an index into codes; session
        bytes: tuple[_Column, _Column, _Column],  # u8: lane, exchange, broker_class
        words: tuple[_Column, _Column, _Column],  # u32: flags, volume, total_volume
        exchange_ns: _Column,  # i64
        payload: _Column | None,  # u64, of each row's record; without it what is alike counts as a repeat
        first_row: int,  # number of the first row
    ) -> tuple[list[tuple[Finding, int, list[tuple[int, int, int]]]], list[CountedStream]]:
        """Findings, each with the row that told the total before and what of which hole (by the row that revealed it)
        a late trade filled; and what is counted by stream. Trial matches and inferred totals are passed over.
        """

    def counters(self) -> dict[str, int]: ...

def payloads(records: _Column) -> bytes: ...
def session_window(exchange_ns: int, futures: bool) -> tuple[int, bool]: ...
def multiset_hash(records: _Column) -> tuple[int, int]: ...

class ChunkMarks:
    """Of one chunk of records; `minute_of` gives each its place in `minutes`, `orders` the rows of each table."""

    minutes: NDArray[np.int64]  # twice the minute since the epoch, or UNKNOWN_MINUTE; plus 1 for futures' hours
    minute_of: NDArray[np.int64]
    repeated: NDArray[np.bool_]
    strange: NDArray[np.bool_]  # stamped by the exchange with nothing that can be believed
    orders: tuple[NDArray[np.int64], ...]  # of trades, books, indices and the rest: by code, then sequence
    unknown_kind: int | None

class RecordMarks:
    """Goes through the records of one segment, chunk by chunk; remembers what a repeat is judged by."""

    UNKNOWN_MINUTE: int
    def __init__(self, believable_ns: tuple[int, int], first_sequence: int) -> None: ...
    def mark(self, records: _Column) -> ChunkMarks: ...
    def missing_until(self, last: int) -> list[tuple[int, int]]: ...

# Records ↔ columns. A column is (offset in the record, width in bytes, its values as uint8).

def gather_columns(records: _Column, order: _Column | None, columns: Sequence[tuple[int, int, _Column]]) -> None: ...
def scatter_columns(template: bytes, rows: int, columns: Sequence[tuple[int, int, _Column]]) -> bytes: ...
def multiset_hash_of_columns(
    template: bytes, rows: int, columns: Sequence[tuple[int, int, _Column]]
) -> tuple[int, int]: ...

# Simulated exchange

class SimulatedRepeats(TypedDict):
    instrument: bytes  # u16
    tick: bytes  # u8: 1 a tick, 0 a book
    first_received_ns: bytes  # i64
    received_ns: bytes  # i64

class SimulatedTrades(TypedDict):
    """Trades of continuous trading in receive order (of one code the exchange's), one column each.

    Prices × 1,000,000, volumes in lots; bid and ask are those of the last book pushed before the trade, 0 where a
    side was empty.
    """

    instrument: bytes  # u16, index into codes
    session: bytes  # u8, index into the sessions given
    exchange_ns: bytes  # i64
    received_ns: bytes  # i64, when it came or would have come
    fate: bytes  # i32: -1 delivered, -2 lost message, -3 stalled, -4 malformed, else the index of the outage
    price_e6: bytes  # i64
    volume: bytes  # u32
    total_volume: bytes  # u64
    side: bytes  # u8, the broker's tick_type: 1 buyer, 2 seller initiated
    bid_price_e6: bytes  # i64
    ask_price_e6: bytes  # i64
    bid_volume: bytes  # u32
    ask_volume: bytes  # u32

class SimulatedBooks(TypedDict):
    """The touch of every book of continuous trading; price and volume 0 where a side is empty."""

    instrument: bytes
    session: bytes
    exchange_ns: bytes
    received_ns: bytes
    fate: bytes
    bid_price_e6: bytes  # i64
    ask_price_e6: bytes  # i64
    bid_volume: bytes  # u32
    ask_volume: bytes  # u32

class SimulatedLate(TypedDict):
    """Messages delivered after their turn; in the tables above they stand where they were received."""

    instrument: bytes  # u16
    tick: bytes  # u8: 1 a tick, 0 a book
    exchange_ns: bytes  # i64
    received_ns: bytes  # i64

class SimulatedMalformed(SimulatedLate):
    """Messages whose bytes were spoiled."""

    spoil: bytes  # u8: 0 date (read as 2000-01-01), 1 time (midnight), 2 price (0), 3 the SDK panics

class SimulatedCalls(TypedDict):
    """Auctions of the board lane; their prints are trades too, stamped `end_ns`."""

    instrument: bytes  # u16
    kind: bytes  # u8: 0 opening, 1 closing, 2 volatility pause
    start_ns: bytes  # i64
    end_ns: bytes  # i64
    price_e6: bytes  # i64
    volume: bytes  # u32

class SimulatedOddLots(TypedDict):
    """Auctions of the intraday odd-lot lane; none of them is delivered."""

    instrument: bytes  # u16
    exchange_ns: bytes  # i64
    price_e6: bytes  # i64
    shares: bytes  # u32
    total_shares: bytes  # u64

class SimulatedTruth(TypedDict):
    codes: list[str]
    trades: SimulatedTrades
    books: SimulatedBooks
    repeats: SimulatedRepeats
    late: SimulatedLate
    malformed: SimulatedMalformed
    calls: SimulatedCalls
    odd_lots: SimulatedOddLots
    stalls: list[tuple[int, int]]  # receive stamps between which nothing came, without an event
    slows: list[tuple[int, int, int]]  # the feed fell behind from, to; had caught up at
    clock_steps: list[tuple[int, int]]  # (when by a sound clock, by how much) our own clock stepped
    outages: list[tuple[int, int]]  # receive stamps of each disconnect and reconnect
    trials: tuple[int, int]  # trial matches and trial books: delivered, not delivered
    deliveries: int  # quotes, repeats, disconnects and reconnects

@final
class SimulatedDay:
    """One seeded trading day, generated as it is read. ValueError says what in the config cannot be."""

    def __init__(
        self,
        *,
        seed: int,
        sessions: list[tuple[str, int, int, int, int, int]],
        instruments: list[tuple[str, str, int, list[tuple[int, int]], int, int, str, int, int | None]],
        target_events: int,
        delay_median_ns: int,
        outages: int,
        outage_ns: int,
        lost_ticks: int,
        lost_books: int,
        repeats: int,
        repeat_distance_max: int,
        rules: dict[str, int],
        faults: dict[str, int],
    ) -> None:
        """sessions: (market, trial_ns, open_ns, call_ns, close_ns, activity); instruments: (code, market, reference_e6,
        tick bands × 1,000,000, weight, level_lots, course, beta_percent, last_ns). KeyError for a rule or fault without
        a number."""

    def next_batch(self, limit: int) -> list[tuple[int, int, int, bytes]]:
        """(kind, exchange_ns, received_ns, payload): 0 TickSTKv1, 1 TickFOPv1, 2 BidAskSTKv1, 3 BidAskFOPv1,
        4 down, 5 up (no payload, exchange_ns absent). Empty at the end of the day."""

    def matching(self, latency_median_ns: int) -> SimulatedMatching:
        """Our own orders on this day, with a seeded delay of that median each way."""

    def skip_until(self, received_ns: int) -> None:
        """Leave out every delivery up to the first time the receive clock shows this."""

    def truth(self) -> SimulatedTruth:
        """The whole day, wherever the reading stands. Columns are native-endian, for numpy.frombuffer."""

@final
class SimulatedReport:
    """What the exchange says of one order; prices × 1,000,000."""

    id: int
    exchange_ns: int
    received_ns: int
    kind: str  # accepted, filled, cancelled, updated, rejected
    price_e6: int | None  # of a fill; of an update the price that holds now
    quantity: int  # filled, cancelled, accepted; of an update the quantity in all that holds now
    left: int  # still working
    # off_tick, out_of_limits, closed, wrong_lane, wrong_terms, wrong_quantity, not_working, suspended
    reason: str | None
    def __eq__(self, other: object) -> bool: ...

@final
class SimulatedMatching:
    """Our own orders on a simulated day, by price and time; the day does not depend on them.

    Our matches are not printed and our orders are not in the book. What we take of a level stays taken until the book
    shows less of it. Orders of ours do not match each other. ValueError says what a call cannot mean.
    """

    def place(
        self,
        code: str,
        side: str,
        price_e6: int | None,
        quantity: int,
        time_in_force: str,
        sent_ns: int,
        *,
        lane: str = "board",
    ) -> int:
        """Sends an order, whose number is returned; buy or sell, None for any price, ROD, IOC or FOK.

        Lane "board" counts lots or contracts, "odd" shares. Requests are sent in time order, none before `advance`.
        """

    def cancel(self, id: int, sent_ns: int) -> None:
        """Takes back what is left of an order when it arrives."""

    def update(self, id: int, sent_ns: int, *, price_e6: int | None = None, quantity: int | None = None) -> None:
        """Less quantity (in all, what is filled included) keeps the place in the queue; another price loses it."""

    def advance(self, to_ns: int) -> list[SimulatedReport]:
        """Lets the day run on; what has come back by then, in the order it came."""
