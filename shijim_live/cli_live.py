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
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import time as clock_time
from functools import partial
from pathlib import Path

from shijim_live.broker.capacity import Wish, plan_capacity
from shijim_live.broker.followed_plan import FollowedPlan, Shares, described, fewest, of_day, plan_with_few
from shijim_live.broker.gateway import Gateway, Topic
from shijim_live.broker.leases import HeldLease, Leases, NoConnectionLeft, Role
from shijim_live.broker.live import Line, LiveFeed
from shijim_live.broker.login import allow_login
from shijim_live.broker.masked_stderr import MaskedStderr
from shijim_live.broker.quota import QUOTA_FILE, Quota
from shijim_live.broker.session import Session, markets_of, open_since_ns
from shijim_live.broker.shioaji import ShioajiGateway, quote_classes
from shijim_live.broker.simulated import SimulatedExchange
from shijim_live.broker.simulated_gateway import SimulatedGateway, SimulatedPerson, everyday_faults
from shijim_live.broker.simulated_market import SimulatedMarket
from shijim_live.broker.snapshots import SnapshotRounds
from shijim_live.broker.subscriptions import Ledger
from shijim_live.calendar import SECOND_NS, next_trading_day, session_bounds, trading_day, wall_clock
from shijim_live.cli_replay import refuse_replay_options
from shijim_live.events import BrokerClass
from shijim_live.instruments import concrete_code
from shijim_live.record.recorder import RecordPlan
from shijim_live.record.space import RecordError
from shijim_live.settings import Settings, SettingsError
from shijim_live.universe import Universe

# A recorder started longer before the next session than this was started by mistake, or on a holiday.
EARLY_NS_MAX = 20 * 3_600 * SECOND_NS
# The broker's test service: Monday to Friday.
TEST_SERVICE_HOURS = (clock_time(8), clock_time(20))


def recorded_classes() -> tuple[tuple[type, BrokerClass], ...]:
    """The broker's classes that are recorded."""
    classes = quote_classes()
    return (
        (classes.tick_stk, BrokerClass.TICK_STK_V1),
        (classes.tick_fop, BrokerClass.TICK_FOP_V1),
        (classes.bidask_stk, BrokerClass.BIDASK_STK_V1),
        (classes.bidask_fop, BrokerClass.BIDASK_FOP_V1),
    )


def shioaji_gateway(
    settings: Settings, topics: Iterable[Topic], *, trades: bool = False
) -> tuple[ShioajiGateway, Leases, HeldLease]:
    """One leased connection to the broker, not dialled yet; `trades`: it is told of orders, too.

    LoginForbidden, SettingsError, RecordError, NoConnectionLeft for what a login could not change.
    """
    token = allow_login(settings)
    require_market(frozenset(topics), time.time_ns(), simulation=settings.simulation)
    leases = Leases(settings.person_dir)
    lease = leases.take(Role.TRADING if trades else Role.QUOTES)
    mask_stderr(settings)
    return ShioajiGateway(settings, token, trades=trades), leases, lease


def mask_stderr(settings: Settings) -> None:
    """Until the last line of this process, whichever thread of the SDK writes it."""
    secrets = (settings.api_key.reveal(), settings.secret_key.reveal(), settings.ca_password.reveal())
    atexit.register(MaskedStderr(secrets).close)


def shioaji_feed(arguments: argparse.Namespace, settings: Settings, _: Universe | None) -> tuple[RecordPlan, LiveFeed]:
    """The broker's live session. LoginForbidden, SettingsError, RecordError, NoConnectionLeft before it is dialled.

    And UniverseMissing, UniverseDamaged, PlanRefused, UnknownInstrument.
    """
    token = allow_login(settings)
    refuse_replay_options(arguments)
    if arguments.day is not None:
        raise SettingsError(["--day is for the simulated exchange: the broker's feed is of now"])
    if arguments.universe == "none":
        raise SettingsError(["--universe none: a broker's feed has no end of codes. Rank a day: shijim rank --day …"])
    now_ns = time.time_ns()
    file = Path(arguments.universe) if arguments.universe is not None else None
    followed = FollowedPlan(settings.universe_dir, shares(arguments, settings), now_ns, file=file, say=_say)
    wanted = frozenset(topic for topics in followed.topics().values() for topic in topics)
    require_market(wanted, now_ns, simulation=settings.simulation)
    leases = Leases(settings.person_dir)
    held = _take(leases, followed)
    mask_stderr(settings)
    seed = int.from_bytes(os.urandom(8))
    lines = [
        _line(number, topics, ShioajiGateway(settings, token), settings, seed, now_ns, held[number - 1])
        for number, topics in followed.topics().items()
    ]
    quota = Quota(settings.person_dir / QUOTA_FILE)
    lines[0] = replace(lines[0], rounds=_rounds(arguments, lambda: followed.plan.without(), quota))
    feed = LiveFeed(lines, followed.plan.codes(), leases=leases, say=_say, replan=followed.look)
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
        universe=delivered_codes(followed.universe),
        subscribes=True,
        note=f", {described(followed.plan)}",
    )
    return plan, feed


def delivered_codes(universe: Universe) -> tuple[tuple[str, ...], ...]:
    """The codes of every shard as the broker delivers them."""
    by_shard = universe.codes_by_shard()
    return tuple(tuple(sorted({concrete_code(code, universe.day) for code in codes})) for codes in by_shard)


def _take(leases: Leases, followed: FollowedPlan) -> list[HeldLease]:
    """A lease for each connection of the plan, or fewer and a plan for those; NoConnectionLeft where there is none."""
    held: list[HeldLease] = []
    while len(held) < followed.plan.connections:
        try:
            held.append(leases.take(Role.QUOTES))
        except NoConnectionLeft as error:
            if not held:
                raise
            _say(f"{error}. Recording on {len(held)} instead of {followed.plan.connections}")
            followed.use_connections(len(held))
    return held


def _line(
    number: int,
    topics: Sequence[Topic],
    gateway: Gateway,
    settings: Settings,
    seed: int,
    now_ns: int,
    lease: HeldLease | None = None,
) -> Line:
    """One connection that wants these topics."""
    ledger = Ledger()
    ledger.want(topics, now_ns)
    # Logins of several at once would all be early or all be late.
    jitter_ns = settings.startup_jitter_ms * 1_000_000
    make = partial(Session, ledger, seed=seed + number, jitter_ns=jitter_ns)
    return Line(number, lambda now_ns: make(now_ns=now_ns), gateway, lease)


def session_feed(
    plan: RecordPlan, exchange: SimulatedExchange, settings: Settings, arguments: argparse.Namespace,
    universe: Universe | None,
) -> tuple[RecordPlan, LiveFeed]:  # fmt: skip
    """The simulated exchange behind sessions in which everything goes wrong once. PlanRefused."""
    faults = everyday_faults(exchange)
    exchange = SimulatedExchange(exchange.day, exchange.seed, replace(exchange.config, outages=0), exchange.speed)
    market, person = SimulatedMarket(exchange), SimulatedPerson()
    asked = shares(arguments, settings)
    if universe is None:
        wishes = [Wish(code) for code in exchange.codes]
        planned = fewest(lambda n: plan_capacity(wishes, exchange.day, n, odd_lots=asked.odd_lots), asked.connections)
    else:
        universe = of_day(universe, exchange.day)
        planned = plan_with_few(universe, asked)
        plan = replace(plan, universe=delivered_codes(universe), subscribes=True)
    lines = [
        _line(
            number + 1,
            planned.topics(number),
            SimulatedGateway(market, person=person, faults=faults[number :: planned.connections]),
            settings,
            exchange.seed,
            market.now_ns(),
        )
        for number in range(planned.connections)
    ]
    lines[0] = replace(lines[0], rounds=_rounds(arguments, planned.without))
    return replace(plan, config=plan.config | {"session": True}), LiveFeed(lines, planned.codes(), clock=market)


def _rounds(
    arguments: argparse.Namespace, codes: Callable[[], Sequence[str]], quota: Quota | None = None
) -> SnapshotRounds | None:
    """The codes that no topic is left for, asked about in turn; None where that is not wanted."""
    seconds: int = arguments.snapshots_seconds
    return SnapshotRounds(codes, seconds * SECOND_NS, quota) if seconds else None


def shares(arguments: argparse.Namespace, settings: Settings) -> Shares:
    """How the options want the broker's topics shared out."""
    return Shares(settings.shard_id, settings.total_shards, arguments.connections, arguments.books, arguments.odd_lots)


def require_market(topics: frozenset[Topic], now_ns: int, *, simulation: bool) -> None:
    """RecordError where there is nothing to record for long, and the broker would only be dialled in vain."""
    opens = []
    for market in markets_of(topics):
        if open_since_ns(now_ns, market) is not None:
            opens.append(now_ns)
        day = trading_day(now_ns, market)
        for one in (day, next_trading_day(day)):
            opens += [bounds.open_ns for bounds in session_bounds(one, market) if bounds.open_ns > now_ns]
    first = min(opens)
    if first - now_ns > EARLY_NS_MAX:
        raise RecordError(
            f"the exchanges are closed: the next session of what is to be recorded opens on "
            f"{wall_clock(first):%Y-%m-%d at %H:%M} Taipei. Start the recorder then, or at most "
            f"{EARLY_NS_MAX // (3_600 * SECOND_NS)} hours before"
        )
    if simulation:
        require_test_service(now_ns)


def require_test_service(now_ns: int) -> None:
    """RecordError outside of its hours."""
    wall, (opens_at, closes_at) = wall_clock(now_ns), TEST_SERVICE_HOURS
    if not (wall.weekday() < 5 and opens_at <= wall.time() < closes_at):
        raise RecordError(
            f"the broker's test service is open Monday to Friday from {opens_at:%H:%M} to {closes_at:%H:%M} Taipei, "
            f"and it is {wall:%A %H:%M}. Start it then, or set SHIOAJI_SIMULATION=false for the market itself"
        )


def _say(text: str) -> None:
    with suppress(OSError):  # nobody reads it any more: the day goes on
        print(f"shijim-live: {text}", file=sys.stderr, flush=True)
