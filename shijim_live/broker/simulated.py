"""The simulated exchange: a seeded trading day as the broker's own objects. Not a broker: no orders, no login.

The day is a pure function of (day, seed, config); `truth` is its answer key. Receive stamps are part of it: they come
from the simulated feed, rise strictly unless a clock step is asked for, and name one delivery each.

By default a day is plain: trial matches, then books that walk and trades at their touch, and the feed's usual faults.
`TAIWAN` adds what else Taiwan's market does. The intraday odd-lot lane is in the truth alone, not delivered: the SDK's
objects always say `intraday_odd=False` when made from bytes, and a message that denies its lane would be a lie.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING

from rust_indicators import SimulatedDay
from shijim_live.broker.connection import Connection
from shijim_live.broker.shioaji import quote_classes
from shijim_live.calendar import MINUTE_NS, SECOND_NS, Market, Session, session_bounds
from shijim_live.instruments import PRICE_SCALE, expiry, instrument, root_of

if TYPE_CHECKING:
    from rust_indicators import SimulatedMatching, SimulatedTruth

# Deliveries generated at a time: enough to make the call cheap, little enough that a stop is quick.
BATCH = 4_096
# A pause shorter than this is not worth a system call; a longer one is taken in pieces, so that a stop is quick.
PAUSE_SECONDS_MIN = 0.0002
PAUSE_SECONDS_MAX = 0.2
# Kinds of `SimulatedDay.next_batch`: 0 to 3 are quotes, in the order of `QuoteClasses`.
KIND_DOWN = 4
KIND_UP = 5

_TRIAL_MINUTES = {
    (Market.FUTURES, Session.NIGHT): 10,
    (Market.FUTURES, Session.DAY): 15,
    (Market.STOCK, Session.DAY): 30,
}
# Share of a market's events; a futures night is quieter than the day, though three times as long.
_ACTIVITY = {Session.NIGHT: 30, Session.DAY: 70}


# The closing call of stocks; and when a future stops on its last day, a quarter of an hour before the others.
_CALL_MINUTES = 5
_LAST_DAY_EARLIER_MINUTES = 15


class Course(StrEnum):
    """What a code does all day."""

    FREE = "free"
    LIMIT_UP = "limit_up"  # runs to its limit in the morning and stays: nobody sells any more
    LIMIT_DOWN = "limit_down"
    SUSPENDED = "suspended"  # stocks: a few empty books that say so, and nothing else
    UNTRADED = "untraded"  # quoted, never traded


@dataclass(frozen=True, slots=True)
class SimulatedInstrument:
    """One code to trade; `TXFR1` stands for the dated future that is the near month on the day."""

    code: str
    reference_price_e6: int  # yesterday's close or settlement, × 1,000,000
    weight: int  # share of the day's events, against the other instruments
    level_lots: int  # lots on a typical level of the book
    course: Course = Course.FREE
    beta_percent: int = 100  # of the moves all codes share


@dataclass(frozen=True, slots=True)
class SimulatedSession:
    """One session of the day; trial matches run from `trial_ns` to `open_ns`. ns since the epoch, UTC."""

    market: Market
    session: Session
    trial_ns: int
    open_ns: int
    close_ns: int
    call_ns: int  # from here on the closing is called; = close_ns where it is not, as always for futures


def _listed(code: str, price: int, weight: int, level_lots: int) -> SimulatedInstrument:
    return SimulatedInstrument(code, price * PRICE_SCALE, weight, level_lots)


INSTRUMENTS = (
    _listed("TXFR1", 27_300, 220, 12),
    _listed("MXFR1", 27_300, 180, 25),
    _listed("TMFR1", 27_300, 150, 30),
    _listed("2330", 1_450, 90, 400),
    _listed("2317", 230, 60, 300),
    _listed("2454", 1_250, 40, 25),
    _listed("2412", 132, 15, 60),
    _listed("2882", 64, 35, 250),
    _listed("0050", 62, 55, 900),
    _listed("2603", 186, 35, 90),
    _listed("2881", 93, 30, 150),
    _listed("2303", 46, 40, 800),
    _listed("3008", 2_260, 15, 6),
    _listed("1301", 41, 20, 120),
    _listed("2308", 960, 35, 30),
)


@dataclass(frozen=True, slots=True)
class SimulationConfig:
    """What is traded, by which rules, and what goes wrong. The market does not depend on the faults."""

    instruments: tuple[SimulatedInstrument, ...] = INSTRUMENTS
    target_events: int = 300_000  # that happen, delivered or not; within 5 %
    feed_delay_median_ns: int = 3_000_000
    outages: int = 1  # in continuous futures trading, the day session first
    outage_ns: int = 120 * SECOND_NS
    lost_ticks: int = 12  # never delivered, outside the outages and the trial phases
    lost_books: int = 8
    repeats: int = 40  # delivered twice, the same bytes
    repeat_distance_max: int = 6  # deliveries between the two; 0 = the next one
    # Taiwan's rules, each off at 0.
    auction_levels: int = 0  # lots of an auction's print, in typical levels; opening, closing of stocks, after pauses
    pause_per_mille: int = 0  # distance of a stock's match from its 5-minute average that pauses it for 2 minutes
    volatility_ppm: int = 0  # of the factor all codes share, standard deviation over the day; 0: each walks alone
    jumps: int = 0  # sudden moves of 4 to 8 %, each of one stock
    odd_lot_interval_ns: int = 0  # between two auctions of the odd-lot lane, from 10 minutes after the open
    # More faults, each off at 0.
    slows: int = 0  # times the feed falls behind by `slow_ns` over ten times as long, then catches up at once
    slow_ns: int = 20 * SECOND_NS
    stalls: int = 0  # times nothing comes, no event either; what was said meanwhile is lost
    stall_ns: int = 90 * SECOND_NS
    reorders: int = 0  # delivered up to `reorder_distance_max` deliveries after their turn
    reorder_distance_max: int = 20
    clock_steps: int = 0  # times our own clock jumps
    clock_step_ns: int = -3 * SECOND_NS  # stamps after a step back repeat a stretch of time
    malformed: int = 0  # bytes that the SDK misreads as a legal-looking value, or panics over

    def without_faults(self) -> "SimulationConfig":
        """The same market, all of it delivered: some faults do not fit every day."""
        none = dict.fromkeys(("outages", "lost_ticks", "lost_books", "repeats", *_FEED_COUNTS), 0)
        return replace(self, **none)  # type: ignore[arg-type]  # all of them are numbers


_RULES = ("auction_levels", "pause_per_mille", "volatility_ppm", "jumps", "odd_lot_interval_ns")
_FEED_COUNTS = ("slows", "stalls", "reorders", "clock_steps", "malformed")
_FEED_SIZES = ("slow_ns", "stall_ns", "reorder_distance_max", "clock_step_ns")

# The day as Taiwan has it: auctions, pauses, a factor, odd lots, and codes that do not trade freely.
TAIWAN = SimulationConfig(
    instruments=(
        *INSTRUMENTS,
        SimulatedInstrument("2002", 25 * PRICE_SCALE, 10, 500, Course.LIMIT_UP),
        SimulatedInstrument("8069", 240 * PRICE_SCALE, 10, 40, Course.LIMIT_DOWN),
        SimulatedInstrument("5274", 4_800 * PRICE_SCALE, 3, 2, Course.UNTRADED),
        SimulatedInstrument("6488", 380 * PRICE_SCALE, 1, 20, Course.SUSPENDED),
    ),
    auction_levels=6,
    pause_per_mille=35,
    volatility_ppm=12_000,
    jumps=3,
    odd_lot_interval_ns=5 * SECOND_NS,
)

# What `record --market` and the header of a segment call a market.
PLAIN = "plain"
MARKETS = {PLAIN: SimulationConfig(), "taiwan": TAIWAN}


class SimulatedExchange:
    """One day of one seed. ValueError if the config cannot be played; NotATradingDay if the exchanges are closed."""

    def __init__(
        self, day: date, seed: int, config: SimulationConfig | None = None, speed: float | None = None
    ) -> None:
        """`speed` is a multiple of real time on the receive clock; None is as fast as possible."""
        if speed is not None and not speed > 0:
            raise ValueError(f"speed {speed}: a positive multiple of real time, or None for as fast as possible")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed {seed}: 0 to 2^64 - 1")
        self.day = day
        self.seed = seed
        self.config = config or SimulationConfig()
        self.speed = speed
        self.sessions = sessions_of(day, self.config)
        self.codes = tuple(dated_code(traded.code, day) for traded in self.config.instruments)
        self._start()  # refuses now what could not be played later

    def run(
        self,
        on_quote: Callable[[object, int], object],
        on_connection: Callable[[Connection, int], None],
        stop: threading.Event,
        resume_after_ns: int | None = None,
    ) -> None:
        """Hand over the day in receive order: `on_quote(broker object, received_ns)`; returns at its end or at `stop`.

        `resume_after_ns` leaves out what was received then or before, as a recorder that was away would.
        """
        classes = quote_classes()
        decode: tuple[Callable[[bytes], object], ...] = (
            classes.tick_stk.from_msgpack,
            classes.tick_fop.from_msgpack,
            classes.bidask_stk.from_msgpack,
            classes.bidask_fop.from_msgpack,
        )
        day = self._start()
        if resume_after_ns is not None:
            day.skip_until(resume_after_ns)
        wait = None if self.speed is None else pacer(self.speed, stop)
        while batch := day.next_batch(BATCH):
            for kind, _, received_ns, payload in batch:
                if wait is not None:
                    wait(received_ns)
                if stop.is_set():
                    return
                if kind < KIND_DOWN:
                    on_quote(decode[kind](payload), received_ns)
                else:
                    on_connection(Connection.UP if kind == KIND_UP else Connection.DOWN, received_ns)

    def deliveries(self) -> SimulatedDay:
        """The day from its beginning, for who plays it himself."""
        return self._start()

    def truth(self) -> "SimulatedTruth":
        """What really happened over the whole day, delivered or not; `session` is an index into `sessions`."""
        return self._start().truth()

    def matching(self, order_latency_median_ns: int = 5_000_000) -> "SimulatedMatching":
        """Our own orders on this day, matched by price and time; each way takes a seeded delay of that median.

        The day does not depend on them: what is delivered, and the truth, are those of a day without us.
        """
        return self._start().matching(order_latency_median_ns)

    def _start(self) -> SimulatedDay:
        config = self.config
        listed = [
            (code, instrument(code).market, traded, instrument(code).tick_bands)
            for code, traded in zip(self.codes, config.instruments, strict=True)
        ]
        return SimulatedDay(
            seed=self.seed,
            sessions=[
                (s.market, s.trial_ns, s.open_ns, s.call_ns, s.close_ns, _ACTIVITY[s.session]) for s in self.sessions
            ],
            instruments=[
                (
                    *(code, market, traded.reference_price_e6, list(ticks), traded.weight, traded.level_lots),
                    *(traded.course, traded.beta_percent, self._last_ns(code)),
                )
                for code, market, traded, ticks in listed
            ],
            target_events=config.target_events,
            delay_median_ns=config.feed_delay_median_ns,
            outages=config.outages,
            outage_ns=config.outage_ns,
            lost_ticks=config.lost_ticks,
            lost_books=config.lost_books,
            repeats=config.repeats,
            repeat_distance_max=config.repeat_distance_max,
            rules={name: getattr(config, name) for name in _RULES},
            faults={name: getattr(config, name) for name in (*_FEED_COUNTS, *_FEED_SIZES)},
        )

    def _last_ns(self, code: str) -> int | None:
        """When a future that expires today stops; it has no part in later sessions."""
        if root_of(code) is None or expiry(code, self.day) != self.day:
            return None
        return (
            max(s.close_ns for s in self.sessions if s.market is Market.FUTURES) - _LAST_DAY_EARLIER_MINUTES * MINUTE_NS
        )


def sessions_of(day: date, config: SimulationConfig | None = None) -> tuple[SimulatedSession, ...]:
    """The sessions of a trading day: futures night, futures day, stocks; these close by a call where there are any."""
    called = config is not None and config.auction_levels > 0
    return tuple(
        SimulatedSession(
            market,
            bounds.session,
            bounds.open_ns - _TRIAL_MINUTES[market, bounds.session] * MINUTE_NS,
            bounds.open_ns,
            bounds.close_ns,
            bounds.close_ns - (_CALL_MINUTES * MINUTE_NS if called and market is Market.STOCK else 0),
        )
        for market in (Market.FUTURES, Market.STOCK)
        for bounds in session_bounds(day, market)
    )


def dated_code(code: str, day: date) -> str:
    """`TXFR1` → the dated near month on `day`; any other code as it is.

    On its last day a contract stops at 13:30, so that day trades the next month here; the dated code itself can still
    be given, and does stop then.
    """
    if not code.endswith("R1"):
        return code
    for month in range(day.month, day.month + 2):
        dated = f"{code[:-2]}{'ABCDEFGHIJKL'[(month - 1) % 12]}{(day.year + (month - 1) // 12) % 10}"
        if expiry(dated, day) > day:
            return dated
    raise AssertionError("a contract expires in every month")


def pacer(speed: float, stop: threading.Event) -> Callable[[int], None]:
    """A function that waits until a receive stamp is due; the first stamp it sees is due at once."""
    first_received_ns: int | None = None
    started_ns = 0

    def wait(received_ns: int) -> None:
        nonlocal first_received_ns, started_ns
        if first_received_ns is None:
            first_received_ns, started_ns = received_ns, time.monotonic_ns()
        due_ns = started_ns + int((received_ns - first_received_ns) / speed)
        while (seconds := (due_ns - time.monotonic_ns()) / SECOND_NS) > PAUSE_SECONDS_MIN:
            if stop.wait(min(seconds, PAUSE_SECONDS_MAX)):
                return

    return wait
