"""A connection to the simulated exchange like the broker's: logins, topics, limits, and what goes wrong. No broker.

What is not subscribed to is not delivered. The market that is played, and the time, are in `simulated_market.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from shijim_live.broker.gateway import (
    NO_ROUTE_NS,
    SUSPENDED_NS,
    TOO_MANY_CONNECTIONS_NS,
    Feed,
    GatewayError,
    Listener,
    LoginLater,
    LoginRefused,
    SessionEvent,
    Topic,
    TopicRefused,
)
from shijim_live.broker.simulated import SimulatedExchange
from shijim_live.broker.simulated_history import SimulatedHistory
from shijim_live.broker.simulated_index import INDEX_CODE
from shijim_live.broker.simulated_market import SimulatedMarket
from shijim_live.calendar import DAY_NS, MINUTE_NS, SECOND_NS, Market, Session
from shijim_live.instruments import instrument
from shijim_live.universe import TOPICS_MAX

# The broker's limits, and what it does to who breaks them; how many a minute it takes is not published.
CONNECTIONS_MAX: Final = 5
LOGINS_A_MINUTE_MAX: Final = 10
LOGINS_A_DAY_MAX: Final = 1_000
SUSPENDED_FOR_NS: Final = MINUTE_NS
OFFENCES_MAX: Final = 3  # logins while suspended; the next one is banned
LOGIN_NS: Final = 300_000_000  # a login takes this long
ANSWER_NS_MAX: Final = 20_000_000  # the answer to a subscription comes within
FULL: Final = "Max Num Subscriptions Exceeded"


class Trouble(StrEnum):
    """What goes wrong with a connection."""

    RECONNECTS = "reconnects"  # lost, and the SDK gets it back with its subscriptions
    FORGETS = "forgets"  # the same, without them
    DROPS = "drops"  # lost, no route until the end; only a new login helps
    STALLS = "stalls"  # half-open: nothing comes, and nobody says so
    SUSPENDS = "suspends"  # thrown out, and logins are answered 503 until the end


@dataclass(frozen=True, slots=True)
class Fault:
    """One trouble at its time."""

    trouble: Trouble
    begin_ns: int
    end_ns: int


class SimulatedPerson:
    """What the broker remembers of a person: connections, logins, offences. Shared by the person's gateways."""

    def __init__(self) -> None:
        self.connections = 0
        self.logins_ns: list[int] = []
        self.suspended_until_ns = 0
        self.offences = 0

    @property
    def banned(self) -> bool:
        return self.offences > OFFENCES_MAX

    def admit(self, now_ns: int) -> None:
        """Takes one more connection. LoginLater, LoginRefused as the broker would."""
        self.logins_ns.append(now_ns)
        if now_ns < self.suspended_until_ns:
            self.offences += 1
            self.suspended_until_ns += SUSPENDED_FOR_NS
        if self.banned:
            raise LoginRefused("the broker has banned this person for logging in while suspended: call the broker")
        if now_ns < self.suspended_until_ns or self._too_many(now_ns):
            self.suspended_until_ns = max(self.suspended_until_ns, now_ns + SUSPENDED_FOR_NS)
            raise LoginLater("503: suspended for too many logins", SUSPENDED_NS)
        if self.connections >= CONNECTIONS_MAX:
            raise LoginLater(f"451: {CONNECTIONS_MAX} connections are open", TOO_MANY_CONNECTIONS_NS)
        self.connections += 1

    def _too_many(self, now_ns: int) -> bool:
        minute = sum(now_ns - at_ns < MINUTE_NS for at_ns in self.logins_ns)
        day = sum(now_ns - at_ns < DAY_NS for at_ns in self.logins_ns)
        return minute > LOGINS_A_MINUTE_MAX or day > LOGINS_A_DAY_MAX


class SimulatedGateway:
    """One connection to the simulated exchange."""

    def __init__(
        self,
        market: SimulatedMarket,
        *,
        person: SimulatedPerson | None = None,
        faults: Sequence[Fault] = (),
        topics_max: int = TOPICS_MAX,
    ) -> None:
        self.market = market
        self.exchange = market.exchange
        self.person = person or SimulatedPerson()
        self.topics_max = topics_max
        self.topics: set[Topic] = set()
        self._chance = random.Random(self.exchange.seed)
        self._connection = 0  # counts logins
        self._login_ns = 0  # until when we were busy logging in
        self._listener: Listener | None = None
        self._open = False  # we have a connection; it may be lost, or half-open
        self._passes = False  # what the market says comes through
        self._no_route_until_ns = 0
        self._answered_ns = 0
        self._wants: dict[Feed, set[str]] = {feed: set() for feed in Feed}
        for fault in faults:
            market.at(fault.begin_ns, lambda fault=fault: self._strike(fault))  # type: ignore[misc]
        market.connect(self)

    # The gateway

    def login(self, *, force_refresh: bool) -> None:
        """LoginLater, LoginRefused."""
        assert not self._open, "logged in already"
        self.market.pass_time(LOGIN_NS)
        self._login_ns = self.market.now_ns()
        if self._login_ns < self._no_route_until_ns:
            raise LoginLater("no route to the broker", NO_ROUTE_NS)
        self.person.admit(self._login_ns)
        self._connection += 1
        self._open = self._passes = True
        self._forget()
        self._say(0, SessionEvent.UP, "host 'simulated'", "Session up")

    def listen(self, listener: Listener) -> None:
        """GatewayError before login, as the SDK refuses it."""
        if not self._open:
            raise GatewayError("Not authenticated")
        self._listener = listener

    def subscribe(self, topic: Topic) -> None:
        """TopicRefused for a code that is not listed; else the answer comes as an event."""
        if not self._open:
            raise GatewayError("Not authenticated")
        if topic.code not in (self.exchange.codes if topic.feed is not Feed.QUOTE else (INDEX_CODE,)):
            raise TopicRefused(f"{topic.code}: not listed on {self.exchange.day}")
        if len(self.topics | {topic}) > self.topics_max:
            self._answer(400, SessionEvent.SUBSCRIPTION_REJECTED, topic, FULL)
            return
        self.topics.add(topic)
        self._answer(200, SessionEvent.SUBSCRIBE_OK, topic, "Subscribe or Unsubscribe ok")

    def unsubscribe(self, topic: Topic) -> None:
        """The answer comes as an event."""
        if not self._open:
            raise GatewayError("Not authenticated")
        self.topics.discard(topic)
        self._answer(200, SessionEvent.SUBSCRIBE_OK, topic, "Subscribe or Unsubscribe ok")

    def snapshots(self, codes: Sequence[str]) -> Sequence[Any]:
        """As the exchange's history has them at this moment."""
        if not self._open:
            raise GatewayError("Not authenticated")
        history = SimulatedHistory(self.exchange.seed, self.exchange.config, now_ns=self.market.now_ns)
        return history.snapshots([code for code in codes if code in self.exchange.codes])

    def logout(self) -> None:
        """Gives the connection back; nothing where there is none."""
        if self._open:
            self.person.connections -= 1
        self._open = self._passes = False
        self._connection += 1  # what is still to be said is of a connection that is gone
        self._listener = None
        self._forget()

    # What the market says

    def wants(self, feed: Feed, code: str | None, received_ns: int) -> bool:
        """Not what came while we were busy logging in."""
        if not self._passes or received_ns <= self._login_ns:
            return False
        return code in self._wants[feed] if code is not None else bool(self._wants[feed])

    def hear(self, delivered: object, received_ns: int) -> None:
        if self._listener is not None:
            self._listener.quote(delivered, received_ns)

    def hear_index(self, delivered: object, received_ns: int) -> None:
        if self._listener is not None:
            self._listener.index(delivered, received_ns)

    # What happens beside the market

    def _at(self, at_ns: int, happen: Callable[[], None]) -> None:
        """Unless this connection is gone by then."""
        connection = self._connection

        def still() -> None:
            if self._connection == connection:
                happen()

        self.market.at(at_ns, still)

    def _say(self, response: int, code: int, info: str, event: str, after_ns: int = 0) -> None:
        """An event of this connection, in the order in which they are said."""
        self._answered_ns = max(self._answered_ns + 1, self.market.now_ns() + after_ns)

        def told() -> None:
            if self._listener is not None:
                self._listener.event(response, code, info, event)

        self._at(self._answered_ns, told)

    def _answer(self, response: int, code: SessionEvent, topic: Topic, event: str) -> None:
        self._wants = {feed: {one.code for one in self.topics if one.feed is feed and not one.odd_lot}
                       for feed in self._wants}  # fmt: skip
        self._say(response, code, broker_name(topic), event, self._chance.randrange(1, ANSWER_NS_MAX))

    def _forget(self) -> None:
        self.topics.clear()
        self._wants = {feed: set() for feed in self._wants}

    def _strike(self, fault: Fault) -> None:
        if fault.end_ns <= self.market.now_ns():
            return  # it was over before we began
        if fault.trouble is Trouble.SUSPENDS:
            self.person.suspended_until_ns = max(self.person.suspended_until_ns, fault.end_ns)
        if fault.trouble is Trouble.DROPS:
            self._no_route_until_ns = max(self._no_route_until_ns, fault.end_ns)
        if not self._open:
            return
        self._passes = False
        if fault.trouble is Trouble.STALLS:
            self._at(fault.end_ns, self._pass_again)
            return
        self._say(0, SessionEvent.DOWN, "", f"Session down: {fault.trouble}")
        self._at(self._answered_ns, self._say_down)
        if fault.trouble in (Trouble.RECONNECTS, Trouble.FORGETS):
            self._say(0, SessionEvent.RECONNECTING, "", "Session reconnecting", SECOND_NS)
            self._at(fault.end_ns, lambda: self._reconnect(fault.trouble))

    def _say_down(self) -> None:
        if self._listener is not None:
            self._listener.session_down()

    def _pass_again(self) -> None:
        self._passes = True

    def _reconnect(self, trouble: Trouble) -> None:
        if trouble is Trouble.FORGETS:
            self._forget()
        self._passes = True
        self._say(0, SessionEvent.RECONNECTED, "", "Session reconnected")


def broker_name(topic: Topic) -> str:
    """The topic as the broker writes it in its events."""
    if topic.feed is Feed.QUOTE:
        return f"QUO/v1/IND/*/TSE/{topic.code}"
    traded = instrument(topic.code)
    market = "ODD" if topic.odd_lot else "FOP" if traded.market is Market.FUTURES else "STK"
    exchange = "TFE" if traded.market is Market.FUTURES else traded.exchange
    return f"{'TIC' if topic.feed is Feed.TICK else 'QUO'}/v1/{market}/*/{exchange}/{topic.code}"


def everyday_faults(exchange: SimulatedExchange) -> tuple[Fault, ...]:
    """One trouble of each kind on a seeded minute of the day, the day session's futures the most."""
    chance = random.Random(exchange.seed)
    hours = {bounds.session: bounds for bounds in exchange.sessions if bounds.market is Market.FUTURES}
    faults = []
    for place, trouble in enumerate(Trouble):
        bounds = hours[Session.NIGHT if trouble is Trouble.SUSPENDS else Session.DAY]
        # Each in a sixth of its session of its own, so that one is over before the next begins.
        part_ns = (bounds.close_ns - bounds.open_ns) // (len(Trouble) + 1)
        begin_ns = bounds.open_ns + place * part_ns + chance.randrange(part_ns // 2)
        faults.append(Fault(trouble, begin_ns, begin_ns + chance.randrange(20, 110) * SECOND_NS))
    return tuple(faults)
