"""What `shijim-live record` records through a session: the broker, or the simulated exchange to practise on.

Options become a plan and a feed here, and what cannot succeed is refused before anything is recorded or dialled. No
rule of the session is here (`broker/session.py`).
"""

from __future__ import annotations

import argparse
import atexit
import os
import sys
import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import time as clock_time

from shijim_live.broker.gateway import Feed, Topic
from shijim_live.broker.leases import HeldLease, Leases, Role
from shijim_live.broker.live import LiveFeed, SystemClock
from shijim_live.broker.login import allow_login
from shijim_live.broker.masked_stderr import MaskedStderr
from shijim_live.broker.session import Session, markets_of, open_since_ns
from shijim_live.broker.shioaji import ShioajiGateway, quote_classes
from shijim_live.broker.simulated import SimulatedExchange
from shijim_live.broker.simulated_gateway import SimulatedGateway, everyday_faults
from shijim_live.broker.subscriptions import Ledger
from shijim_live.calendar import SECOND_NS, next_trading_day, session_bounds, trading_day, wall_clock
from shijim_live.cli_replay import refuse_replay_options
from shijim_live.events import BrokerClass
from shijim_live.record.recorder import RecordPlan
from shijim_live.record.space import RecordError
from shijim_live.settings import Settings, SettingsError
from shijim_live.universe import TOPICS_MAX, Universe

# A recorder started longer before the next session than this was started by mistake, or on a holiday.
EARLY_NS_MAX = 20 * 3_600 * SECOND_NS
# The broker's test service: Monday to Friday.
TEST_SERVICE_HOURS = (clock_time(8), clock_time(20))


def topics_of(codes: Iterable[str]) -> tuple[Topic, ...]:
    """Trades and books of each code, in their order. SettingsError where one connection cannot hold them."""
    topics = tuple(Topic(code, feed) for code in codes for feed in (Feed.TICK, Feed.BOOK))
    if len(topics) > TOPICS_MAX:
        raise SettingsError(
            [
                f"{len(topics) // 2} codes are {len(topics)} topics and the broker gives a connection {TOPICS_MAX}: "
                "rank the day for more shards, or with a lower UNIVERSE_LIMIT"
            ]
        )
    return topics


def recorded_classes() -> tuple[tuple[type, BrokerClass], ...]:
    """The broker's classes that are recorded."""
    classes = quote_classes()
    return (
        (classes.tick_stk, BrokerClass.TICK_STK_V1),
        (classes.tick_fop, BrokerClass.TICK_FOP_V1),
        (classes.bidask_stk, BrokerClass.BIDASK_STK_V1),
        (classes.bidask_fop, BrokerClass.BIDASK_FOP_V1),
    )


def shioaji_gateway(settings: Settings, topics: Iterable[Topic]) -> tuple[ShioajiGateway, Leases, HeldLease]:
    """A leased connection to the broker, not dialled yet.

    LoginForbidden, SettingsError, RecordError, NoConnectionLeft for what a login could not change.
    """
    token = allow_login(settings)
    require_market(frozenset(topics), time.time_ns(), simulation=settings.simulation)
    leases = Leases(settings.market_dir)
    lease = leases.take(Role.QUOTES)
    # Until the last line of this process, whichever thread of the SDK writes it.
    secrets = (settings.api_key.reveal(), settings.secret_key.reveal(), settings.ca_password.reveal())
    atexit.register(MaskedStderr(secrets).close)
    return ShioajiGateway(settings, token), leases, lease


def shioaji_feed(
    arguments: argparse.Namespace, settings: Settings, universe: Universe | None
) -> tuple[RecordPlan, LiveFeed]:
    """The broker's live session. LoginForbidden, SettingsError, RecordError, NoConnectionLeft before it is dialled."""
    allow_login(settings)
    refuse_replay_options(arguments)
    if arguments.day is not None:
        raise SettingsError(["--day is for the simulated exchange: the broker's feed is of now"])
    if universe is None:
        raise SettingsError(
            ["nothing says what to record: rank a day (shijim rank --day …), or give --universe PATH; a broker's feed "
             "has no end of codes, so that none for all is not possible"]
        )  # fmt: skip
    codes = universe.codes(settings.shard_id)
    ledger = Ledger()
    ledger.want(topics_of(codes), time.time_ns())
    gateway, leases, lease = shioaji_gateway(settings, ledger.wanted())
    seed = int.from_bytes(os.urandom(8))
    feed = LiveFeed(
        lambda now_ns: Session(ledger, now_ns=now_ns, seed=seed, jitter_ns=settings.startup_jitter_ms * 1_000_000),
        gateway,
        SystemClock,
        frozenset(codes),
        leases=leases,
        lease=lease,
        say=_say,
    )
    # What the test service sends is no market: every segment says where it came from.
    source = "shioaji-simulation" if settings.simulation else "shioaji"
    plan = RecordPlan(
        raw_dir=settings.raw_dir,
        shard=settings.shard_id,
        source=source,
        clock="real",
        config={"broker": source},
        classes=recorded_classes(),
        ring_slots=settings.ring_slots,
        durability=arguments.durability,
        commit_interval_ms=arguments.commit_interval_ms,
        outage_ns=0,
        now_ns=time.time_ns,
        run_id=lambda _: os.urandom(8).hex(),
        universe=universe.codes_by_shard(),
    )
    return plan, feed


def session_feed(
    plan: RecordPlan, exchange: SimulatedExchange, settings: Settings, codes: Collection[str]
) -> tuple[RecordPlan, LiveFeed]:
    """The simulated exchange behind a session in which everything goes wrong once."""
    faults = everyday_faults(exchange)
    exchange = SimulatedExchange(exchange.day, exchange.seed, replace(exchange.config, outages=0), exchange.speed)
    gateway = SimulatedGateway(exchange, faults=faults)
    ledger = Ledger()
    ledger.want(topics_of(sorted(codes)), gateway.now_ns())
    feed = LiveFeed(
        lambda now_ns: Session(
            ledger, now_ns=now_ns, seed=exchange.seed, jitter_ns=settings.startup_jitter_ms * 1_000_000
        ),
        gateway,
        lambda _: gateway,
        frozenset(codes),
    )
    return replace(plan, config=plan.config | {"session": True}), feed


def require_market(topics: frozenset[Topic], now_ns: int, *, simulation: bool) -> None:
    """RecordError where there is nothing to record for long, and the broker would only be dialled in vain."""
    opens = []
    for market in markets_of(topics):
        if open_since_ns(now_ns, market) is not None:
            opens.append(now_ns)
        day = trading_day(now_ns, market)
        for one in (day, next_trading_day(day)):
            opens += [bounds.open_ns for bounds in session_bounds(one, market) if bounds.open_ns > now_ns]
    wall, first = wall_clock(now_ns), min(opens)
    if first - now_ns > EARLY_NS_MAX:
        raise RecordError(
            f"the exchanges are closed: the next session of what is to be recorded opens on "
            f"{wall_clock(first):%Y-%m-%d at %H:%M} Taipei. Start the recorder then, or at most "
            f"{EARLY_NS_MAX // (3_600 * SECOND_NS)} hours before"
        )
    opens_at, closes_at = TEST_SERVICE_HOURS
    if simulation and not (wall.weekday() < 5 and opens_at <= wall.time() < closes_at):
        raise RecordError(
            f"the broker's test service is open Monday to Friday from {opens_at:%H:%M} to {closes_at:%H:%M} Taipei, "
            f"and it is {wall:%A %H:%M}. Start the recorder then, or set SHIOAJI_SIMULATION=false for the market itself"
        )


def _say(text: str) -> None:
    print(f"shijim-live: {text}", file=sys.stderr, flush=True)
