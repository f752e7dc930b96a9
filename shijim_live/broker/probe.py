"""How long a connection to the broker takes: login, topics, quotes, orders. Not a recorder, and no trading.

One login; then each topic is asked for and given back `rounds` times, then all of them are listened to. Times are of
the given clock: that of the machine, or of the simulated exchange, whose delays are its own and say nothing of a
broker. What a callback takes is measured on the machine either way.

An order's way (sent → answered → reported, and taken back) is measured where a trading gateway is given: orders far
enough below the market to be in nobody's way, each taken back before the next.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from shijim_live.broker.gateway import (
    Feed,
    Gateway,
    GatewayError,
    LoginLater,
    SessionEvent,
    Topic,
    topic_named,
)
from shijim_live.broker.leases import Leases
from shijim_live.broker.live import Clock, Inbox
from shijim_live.broker.order_events import OrderReport
from shijim_live.broker.orders import Accepted, FuturesRequest, StockRequest
from shijim_live.broker.session_steps import TimePassed
from shijim_live.broker.shioaji import quote_classes
from shijim_live.broker.shioaji_orders import ShioajiTrading
from shijim_live.broker.subscriptions import CONFIRM_NS
from shijim_live.calendar import SECOND_NS, to_exchange_ns

FIRST_QUOTE_NS_MAX: Final = 60 * SECOND_NS  # a quiet code is given up: how long it takes is then the market's affair
QUOTES_MAX: Final = 2_000_000  # measured; a probe of an hour of the whole market has no more
# What is measured, in the order of a session; a jitter is the difference from one quote's delay to the next one's.
LOGIN, LISTEN, LOGOUT = "login", "listen", "logout"
CONFIRMED, FIRST_QUOTE, GIVEN_BACK = "subscribe_confirmed", "subscribe_first_quote", "unsubscribe_confirmed"
TRADE_DELAY, BOOK_DELAY, JITTER, CALLBACK = "trade_delay", "book_delay", "delay_jitter", "callback"
PLACED, REPORTED, CANCELLED = "order_answered", "order_reported", "cancel_answered"
REPORT_NS_MAX: Final = 5 * SECOND_NS
POLL_NS: Final = SECOND_NS // 1_000  # how exactly a report's arrival is known
BETWEEN_ORDERS_NS: Final = SECOND_NS


class ProbeFailed(RuntimeError):
    """The connection did not do what was to be measured."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing, as often as it was measured."""

    name: str
    values_ns: tuple[int, ...]  # ascending

    def quantile_ns(self, share: float) -> int | None:
        """The smallest value that at least `share` of all do not exceed; None where nothing was measured."""
        count = len(self.values_ns)
        return self.values_ns[max(0, math.ceil(share * count) - 1)] if count else None

    def figures_ns(self) -> dict[str, int | None]:
        """What a table and a file say of it: how many (n), then times."""
        shares = {"min": 0.0, "median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        return {"n": len(self.values_ns)} | {name: self.quantile_ns(share) for name, share in shares.items()}


@dataclass(frozen=True, slots=True)
class Probed:
    """What was measured, in the order of a session."""

    began_ns: int
    measures: tuple[Measure, ...]
    remarks: tuple[str, ...]  # what could not be measured

    def of(self, name: str) -> Measure:
        return next(measure for measure in self.measures if measure.name == name)


@dataclass(slots=True)
class _Ear:
    """What the gateway calls, on its own threads: it only notes when."""

    inbox: Inbox
    now_ns: Callable[[], int]
    trades: tuple[type, ...]
    confirmed: dict[Topic, int] = field(default_factory=dict)
    refused: dict[Topic, str] = field(default_factory=dict)
    first: dict[Topic, int] = field(default_factory=dict)
    quotes: list[tuple[Topic, int, int]] = field(default_factory=list)  # exchange and receive stamp
    callback_ns: list[int] = field(default_factory=list)
    unreadable: int = 0
    lost: bool = False

    def quote(self, delivered: object, received_ns: int) -> None:
        began_ns = time.perf_counter_ns()
        try:
            feed = Feed.TICK if isinstance(delivered, self.trades) else Feed.BOOK
            topic = Topic(delivered.code, feed)  # type: ignore[attr-defined]
            exchange_ns = to_exchange_ns(delivered.datetime)  # type: ignore[attr-defined]
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 - the SDK's panics are no Exception
            self.unreadable += 1
            return
        if topic not in self.first:
            self.first[topic] = received_ns
            self.inbox.put(TimePassed())
        if len(self.quotes) < QUOTES_MAX:
            self.quotes.append((topic, exchange_ns, received_ns))
            self.callback_ns.append(time.perf_counter_ns() - began_ns)

    def index(self, delivered: object, received_ns: int) -> None:
        """Not asked for."""

    def event(self, response_code: int, event_code: int, info: str, event: str) -> None:
        topic = topic_named(info)
        if topic is not None and event_code == SessionEvent.SUBSCRIBE_OK:
            self.confirmed[topic] = self.now_ns()
        elif topic is not None and event_code == SessionEvent.SUBSCRIPTION_REJECTED:
            self.refused[topic] = f"{response_code} {event}"
        elif event_code == SessionEvent.DOWN:
            self.lost = True
        self.inbox.put(TimePassed())

    def session_down(self) -> None:
        self.lost = True
        self.inbox.put(TimePassed())


def probe(
    gateway: Gateway,
    clock: Callable[[Inbox], Clock],
    topics: Sequence[Topic],
    *,
    seconds: int,
    rounds: int,
    stop: threading.Event,
    leases: Leases | None = None,
    from_ns: int | None = None,
    orders: Callable[[], Sequence[Measure]] = tuple,
) -> Probed:
    """Measures one connection, and gives it back. LoginLater, LoginRefused, ProbeFailed.

    `orders` is measured last, while it is logged in: `order_measures`. `from_ns` is where a simulated clock begins; the
    machine's has no say in it.
    """
    inbox = Inbox()
    ticking = clock(inbox)
    ticking.begin(from_ns)
    classes = quote_classes()
    ear = _Ear(inbox, ticking.now_ns, (classes.tick_stk, classes.tick_fop))
    run = _Run(gateway, ticking, inbox, ear, stop)
    if leases is not None and (wait_ns := leases.charge_login()) > 0:
        raise LoginLater(f"this person has logged in too often; again in {wait_ns // SECOND_NS:,} s", wait_ns)
    began_ns = ticking.now_ns()
    try:
        try:
            run.timed(LOGIN, lambda: gateway.login(force_refresh=False))
        except LoginLater as error:
            if leases is not None:
                leases.sent_away(error.wait_ns)
            raise
        run.timed(LISTEN, lambda: gateway.listen(ear))
        for _ in range(rounds):
            for topic in topics:
                run.round_trip(topic)
        run.listen(topics, seconds)
        placed = orders()
    finally:
        run.timed(LOGOUT, gateway.logout)
    return Probed(began_ns, (*run.measures(), *placed), tuple(run.remarks()))


def order_measures(
    trading: ShioajiTrading,
    request: StockRequest | FuturesRequest,
    rounds: int,
    now_ns: Callable[[], int],
    let_pass: Callable[[int], None],
) -> tuple[Measure, ...]:
    """The same order placed and taken back, `rounds` times. ProbeFailed where one is not taken, or its fate unknown.

    `let_pass` waits so many ns while events come.
    """
    found: dict[str, list[int]] = {PLACED: [], REPORTED: [], CANCELLED: []}
    for _ in range(rounds):
        began_ns = now_ns()
        placed = trading.place(request)
        found[PLACED].append(now_ns() - began_ns)
        if not isinstance(placed, Accepted):
            raise ProbeFailed(f"an order of 1 {request.code} was not taken: {placed.text}")
        reported = _is_reported(trading, placed.ids.id, began_ns, now_ns, let_pass)
        found[REPORTED].append(now_ns() - began_ns)
        began_ns = now_ns()
        cancelled = trading.cancel(placed.ids.id)  # whether it was told of or not
        found[CANCELLED].append(now_ns() - began_ns)
        if not isinstance(cancelled, Accepted):
            raise ProbeFailed(f"order {placed.ids.id} is NOT taken back: {cancelled.text}")
        if not reported:
            raise ProbeFailed(f"nothing was told of order {placed.ids.id} within {REPORT_NS_MAX // SECOND_NS} s")
        let_pass(BETWEEN_ORDERS_NS)
    return tuple(Measure(name, tuple(sorted(values))) for name, values in found.items())


def _is_reported(
    trading: ShioajiTrading, order_id: str, began_ns: int, now_ns: Callable[[], int], let_pass: Callable[[int], None]
) -> bool:
    """Waits for an event of the order."""
    while now_ns() - began_ns <= REPORT_NS_MAX:
        if any(isinstance(one, OrderReport) and one.ids.id == order_id for one in trading.events.drain()):
            return True
        let_pass(POLL_NS)
    return False


@dataclass(slots=True)
class _Run:
    """One probe under way."""

    gateway: Gateway
    clock: Clock
    inbox: Inbox
    ear: _Ear
    stop: threading.Event
    found_ns: dict[str, list[int]] = field(default_factory=dict)
    silent: dict[Topic, int] = field(default_factory=dict)

    def timed(self, name: str, call: Callable[[], object]) -> None:
        began_ns = self.clock.now_ns()
        call()
        self._note(name, self.clock.now_ns() - began_ns)

    def _note(self, name: str, took_ns: int) -> None:
        self.found_ns.setdefault(name, []).append(took_ns)

    def round_trip(self, topic: Topic) -> None:
        """Asks for a topic, waits for its first quote, and gives it back."""
        self.ear.first.pop(topic, None)
        began_ns = self._ask(self.gateway.subscribe, topic, CONFIRMED)
        if self._until(lambda: topic in self.ear.first, began_ns + FIRST_QUOTE_NS_MAX):
            self._note(FIRST_QUOTE, self.ear.first[topic] - began_ns)
        else:
            self.silent[topic] = self.silent.get(topic, 0) + 1
        self._ask(self.gateway.unsubscribe, topic, GIVEN_BACK)

    def listen(self, topics: Sequence[Topic], seconds: int) -> None:
        """Every topic at once; only what is received now counts as a delay."""
        for topic in topics:
            self._ask(self.gateway.subscribe, topic, CONFIRMED)
        self.ear.quotes.clear()
        self.ear.callback_ns.clear()
        self._until(lambda: False, self.clock.now_ns() + seconds * SECOND_NS)
        for topic in topics:
            self._ask(self.gateway.unsubscribe, topic, GIVEN_BACK)

    def _ask(self, ask: Callable[[Topic], None], topic: Topic, name: str) -> int:
        """When it was asked; ProbeFailed where the broker refuses it, or says nothing."""
        self.ear.confirmed.pop(topic, None)
        began_ns = self.clock.now_ns()
        try:
            ask(topic)
        except GatewayError as error:
            raise ProbeFailed(str(error)) from error
        told = self._until(lambda: topic in self.ear.confirmed or topic in self.ear.refused, began_ns + CONFIRM_NS)
        if topic in self.ear.refused:
            raise ProbeFailed(f"{topic} was refused: {self.ear.refused[topic]}")
        if not told:
            raise ProbeFailed(f"{topic}: no answer within {CONFIRM_NS // SECOND_NS} s; try again, or look at the route")
        self._note(name, self.ear.confirmed[topic] - began_ns)
        return began_ns

    def _until(self, happened: Callable[[], bool], until_ns: int) -> bool:
        """Whether it happened by then. ProbeFailed where the connection was lost meanwhile, or somebody stops it."""
        while not happened() and self.clock.now_ns() < until_ns:
            if self.ear.lost:
                raise ProbeFailed("the connection was lost while it was measured: try again")
            if self.stop.is_set():
                raise ProbeFailed("stopped before it was measured")
            if not self.clock.wait(lambda: happened() or self.inbox.pending(), until_ns, self.stop):
                break
            while self.inbox.take() is not None:
                pass
        return happened()

    def measures(self) -> tuple[Measure, ...]:
        """In the order of a session; what was never measured is there with no value."""
        delays = [(topic, received_ns - exchange_ns) for topic, exchange_ns, received_ns in self.ear.quotes]
        jitter = [abs(later - earlier) for (_, earlier), (_, later) in pairwise(delays)]
        found = {
            **{name: self.found_ns.get(name, []) for name in (LOGIN, LISTEN, CONFIRMED, FIRST_QUOTE, GIVEN_BACK)},
            TRADE_DELAY: [delay_ns for topic, delay_ns in delays if topic.feed is Feed.TICK],
            BOOK_DELAY: [delay_ns for topic, delay_ns in delays if topic.feed is Feed.BOOK],
            JITTER: jitter,
            CALLBACK: self.ear.callback_ns,
            LOGOUT: self.found_ns.get(LOGOUT, []),
        }
        return tuple(Measure(name, tuple(sorted(values))) for name, values in found.items())

    def remarks(self) -> list[str]:
        """What a person should know who reads the figures."""
        waited_s = FIRST_QUOTE_NS_MAX // SECOND_NS
        said = [f"{topic}: no quote within {waited_s} s, {count} times" for topic, count in sorted(self.silent.items())]
        if self.ear.unreadable:
            said.append(f"{self.ear.unreadable:,} quotes could not be read, and are not counted")
        if len(self.ear.quotes) >= QUOTES_MAX:
            said.append(f"only the first {QUOTES_MAX:,} quotes are counted")
        return said
