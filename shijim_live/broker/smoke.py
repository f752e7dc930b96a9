"""The broker's API test: a login, quotes, and an order of each account on the test service. No trading, no measuring.

The broker asks for it once a person before it lets an API log in to the market itself. Every step says what became of
it; one that fails does not keep the others from being tried, as far as they can.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from shijim_live.broker.gateway import Feed, Gateway, GatewayError, LoginLater, SessionEvent, Topic, topic_named
from shijim_live.broker.leases import Leases
from shijim_live.broker.live import Clock, Inbox
from shijim_live.broker.order_events import OrderReport
from shijim_live.broker.orders import (
    WORKING,
    Accepted,
    FuturesRequest,
    OutcomeUnknown,
    Side,
    StockRequest,
    might_be,
)
from shijim_live.broker.plain import exact_e6
from shijim_live.broker.session_steps import TimePassed
from shijim_live.broker.shioaji_orders import ShioajiTrading
from shijim_live.broker.trading import AccountKind, TradingAccount
from shijim_live.calendar import SECOND_NS
from shijim_live.instruments import instrument, tick_size_e6

CONFIRMED_NS_MAX: Final = 10 * SECOND_NS
QUOTE_NS_MAX: Final = 20 * SECOND_NS
EVENT_NS_MAX: Final = 5 * SECOND_NS
# The broker's reviewer takes orders less than a second apart for one.
BETWEEN_ORDERS_NS: Final = 2 * SECOND_NS
POLL_NS: Final = SECOND_NS // 5
MEMO: Final = "smoke"  # in every event of a stock order
BELOW_PERCENT: Final = 2  # a purchase so far below the last price is in nobody's way, and within every limit


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tried."""

    name: str
    passed: bool
    said: str


class StepFailed(RuntimeError):
    """A step that did not pass; says why."""


def price_below_e6(gateway: Gateway, code: str) -> int:
    """A valid price a little below the last one, at which nobody sells. StepFailed where no last one is known."""
    rows = gateway.snapshots([code])
    last_e6 = exact_e6(rows[0].close) if rows else 0
    if last_e6 <= 0:
        raise StepFailed(f"{code}: the broker has no snapshot of it, so that no price is known to be valid")
    below_e6 = last_e6 * (100 - BELOW_PERCENT) // 100
    tick_e6 = tick_size_e6(instrument(code), below_e6)
    return below_e6 // tick_e6 * tick_e6


@dataclass(slots=True)
class Hearing:
    """What the gateway calls, on its own threads."""

    inbox: Inbox
    confirmed: set[Topic] = field(default_factory=set)
    refused: dict[Topic, str] = field(default_factory=dict)
    quotes: int = 0

    def quote(self, delivered: object, received_ns: int) -> None:
        self.quotes += 1
        self.inbox.put(TimePassed())

    def index(self, delivered: object, received_ns: int) -> None:
        """Not asked for."""

    def event(self, response_code: int, event_code: int, info: str, event: str) -> None:
        topic = topic_named(info)
        if topic is not None and event_code == SessionEvent.SUBSCRIBE_OK:
            self.confirmed.add(topic)
        elif topic is not None and event_code == SessionEvent.SUBSCRIPTION_REJECTED:
            self.refused[topic] = f"{response_code} {event}"
        self.inbox.put(TimePassed())

    def session_down(self) -> None:
        self.inbox.put(TimePassed())


class Smoke:
    """One test of one person."""

    def __init__(
        self,
        gateway: Gateway,
        trading: Callable[[], ShioajiTrading],
        clock: Callable[[Inbox], Clock],
        let_pass: Callable[[int], None],
        *,
        codes: dict[AccountKind, str],
        stop: threading.Event,
        leases: Leases | None = None,
    ) -> None:
        """`trading` is asked for after the login. `codes`: what an account of each kind buys one of; the dated code of
        a future. `let_pass`: waits so many ns while events come."""
        self._gateway, self._trading_of, self._let_pass = gateway, trading, let_pass
        self._inbox = Inbox()
        self._clock = clock(self._inbox)
        self._codes = codes
        self._stop = stop
        self._leases = leases
        self._hearing = Hearing(self._inbox)
        self.steps: list[Step] = []

    def run(self, from_ns: int | None = None) -> list[Step]:
        """Every step in order; the connection is given back. `from_ns`: where a simulated clock begins."""
        self._clock.begin(from_ns)
        try:
            if self._try("login", self._log_in):
                self._try("quotes", self._quotes)
                self._orders()
        finally:
            self._gateway.logout()
        return self.steps

    def _try(self, name: str, attempt: Callable[[], str]) -> bool:
        if self._stop.is_set():
            self.steps.append(Step(name, False, "stopped before it"))
            return False
        try:
            self.steps.append(Step(name, True, attempt()))
        except (GatewayError, StepFailed) as error:
            self.steps.append(Step(name, False, str(error)))
        return self.steps[-1].passed

    def _log_in(self) -> str:
        if self._leases is not None and (wait_ns := self._leases.charge_login()) > 0:
            raise LoginLater(f"this person has logged in too often; again in {wait_ns // SECOND_NS:,} s", wait_ns)
        began_ns = self._clock.now_ns()
        try:
            self._gateway.login(force_refresh=False)
        except LoginLater as error:
            if self._leases is not None:
                self._leases.sent_away(error.wait_ns)
            raise
        self._gateway.listen(self._hearing)
        return f"in {(self._clock.now_ns() - began_ns) // 1_000_000:,} ms"

    def _quotes(self) -> str:
        topics = [Topic(code, feed) for code in self._codes.values() for feed in (Feed.TICK, Feed.BOOK)]
        for topic in topics:
            self._gateway.subscribe(topic)
        heard = self._hearing
        self._until(lambda: len(heard.confirmed | heard.refused.keys()) >= len(topics), CONFIRMED_NS_MAX)
        if heard.refused:
            topic, why = next(iter(heard.refused.items()))
            raise StepFailed(f"{topic} was refused: {why}")
        if missing := [str(topic) for topic in topics if topic not in heard.confirmed]:
            raise StepFailed(f"no answer about {', '.join(missing)} within {CONFIRMED_NS_MAX // SECOND_NS} s")
        self._until(lambda: heard.quotes > 0, QUOTE_NS_MAX)
        came = "quotes come" if heard.quotes else "no quote yet: outside of a session that is as it should be"
        return f"{len(topics)} topics confirmed, {came}"

    def _orders(self) -> None:
        found: list[TradingAccount] = []

        def accounts() -> str:
            found.extend(one for one in self._trading.accounts() if one.kind in self._codes)
            if missing := [kind.name.lower() for kind in self._codes if kind not in {one.kind for one in found}]:
                raise StepFailed(
                    f"the person has no {' and no '.join(missing)} account: ask the broker whether it needs one"
                )
            self._trading.subscribe_events()
            return ", ".join(f"{one.kind.name.lower()} {'signed' if one.signed else 'not signed yet'}" for one in found)

        def connect() -> str:
            self._trading = self._trading_of()
            return "order events on"

        if not self._try("trading", connect):
            return
        self._try("accounts", accounts)
        for one in found:
            self._try(f"order, {one.kind.name.lower()} account", lambda one=one: self._order(one))  # type: ignore[misc]
            self._let_pass(BETWEEN_ORDERS_NS)

    def _order(self, account: TradingAccount) -> str:
        """Places one, waits for its report, and takes it back whatever became of that."""
        code = self._codes[account.kind]
        price_e6 = price_below_e6(self._gateway, code)
        kind = StockRequest if account.kind is AccountKind.STOCK else FuturesRequest
        request = kind(code=code, side=Side.BUY, quantity=1, price_e6=price_e6, account_id=account.account_id,
                       custom_field=MEMO)  # fmt: skip
        what = f"1 {code} at {price_e6 / 1_000_000:g}"
        placed = self._trading.place(request)
        if isinstance(placed, OutcomeUnknown):
            raise StepFailed(f"{what}: {placed.text}; {self._take_back_what_might_be(request)}")
        if not isinstance(placed, Accepted):
            raise StepFailed(f"{what}: {placed.text}")
        report = self._report(placed.ids.id)
        cancelled = self._trading.cancel(placed.ids.id)
        if report is not None and not report.done:
            raise StepFailed(f"{what}: the exchange refused it: {report.op_code} {report.op_msg}")
        if not isinstance(cancelled, Accepted):
            raise StepFailed(f"{what}: placed, and NOT taken back ({cancelled.text}): look at it in the broker's app")
        if report is None:
            raise StepFailed(f"{what}: accepted and taken back, but no event within {EVENT_NS_MAX // SECOND_NS} s")
        return f"{what}: {placed.status}, {report.operation} reported, taken back"

    def _take_back_what_might_be(self, request: StockRequest | FuturesRequest) -> str:
        """After an order of unknown fate, which is never sent again."""
        standing = [one for one in self._trading.orders() if might_be(request, one) and one.status in WORKING]
        if not standing:
            return "no such order stands"
        taken = [isinstance(self._trading.cancel(one.ids.id), Accepted) for one in standing]
        return "it stood, and is taken back" if all(taken) else "it stands: look at it in the broker's app"

    def _report(self, order_id: str) -> OrderReport | None:
        """The first report of an order; None where none comes."""
        for _ in range(EVENT_NS_MAX // POLL_NS):
            self._let_pass(POLL_NS)
            for one in self._trading.events.drain():
                if isinstance(one, OrderReport) and one.ids.id == order_id:
                    return one
        return None

    def _until(self, happened: Callable[[], bool], within_ns: int) -> None:
        until_ns = self._clock.now_ns() + within_ns
        while not happened() and not self._stop.is_set() and self._clock.now_ns() < until_ns:
            if not self._clock.wait(lambda: happened() or self._inbox.pending(), until_ns, self._stop):
                return
            while self._inbox.take() is not None:
                pass
