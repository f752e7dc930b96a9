"""A session as a feed of the recorder: does what the state machine says, and writes down what became of it.

Not the decisions (`session.py`) and not the broker (`shioaji.py`, or `simulated_gateway.py` to practise on). The
broker's threads bring quotes straight to the log, and everything else into one inbox that one loop works off.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from shijim_live.broker.connection import Connection
from shijim_live.broker.gateway import (
    NO_ROUTE_NS,
    Gateway,
    GatewayError,
    LoginLater,
    LoginRefused,
    TopicRefused,
)
from shijim_live.broker.leases import HeldLease, Leases
from shijim_live.broker.session import Phase, Session
from shijim_live.broker.session_steps import (
    Action,
    Connected,
    Disconnected,
    End,
    Input,
    Listen,
    LoggedIn,
    Login,
    Logout,
    NotNow,
    NotSubscribed,
    Refused,
    Remark,
    Said,
    SessionDown,
    Stop,
    Subscribe,
    TimePassed,
    TopicChanged,
    Unsubscribe,
)
from shijim_live.record.sink import Sink

# What the broker says waits here while a login blocks the loop; 200 topics answer once each. Beyond it the newest is
# dropped: an answer that is lost is asked for again, a connection that is lost is seen by the watchdog.
INBOX_MAX: Final = 10_000
PAUSE_MS_MAX: Final = 200  # so that a stop is quick


class Clock(Protocol):
    """The time, and how to let it pass."""

    def now_ns(self) -> int: ...

    def begin(self, resume_after_ns: int | None) -> None: ...

    def wait(self, pending: Callable[[], bool], until_ns: int, stop: threading.Event) -> bool:
        """Until then, until something is pending, or `stop`; False when nothing more will ever happen."""


class SystemClock:
    """The machine's."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def now_ns(self) -> int:
        return time.time_ns()

    def begin(self, resume_after_ns: int | None) -> None:
        assert resume_after_ns is None, "what the market did meanwhile does not come back"

    def wait(self, pending: Callable[[], bool], until_ns: int, stop: threading.Event) -> bool:
        while not (pending() or stop.is_set()) and (left_ns := until_ns - time.time_ns()) > 0:
            self._inbox.wait(min(left_ns // 1_000_000 + 1, PAUSE_MS_MAX))
        return True


class Inbox:
    """What the broker's threads say, in order, for one loop."""

    def __init__(self) -> None:
        self._said: deque[Input] = deque()
        self._more = threading.Condition()
        self._dropped = 0

    def put(self, said: Input) -> None:
        with self._more:
            if len(self._said) >= INBOX_MAX:
                self._dropped += 1
                return
            self._said.append(said)
            self._more.notify()

    def take(self) -> Input | None:
        with self._more:
            return self._said.popleft() if self._said else None

    def count_dropped(self) -> int:
        """How many found no room since the last look."""
        with self._more:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def pending(self) -> bool:
        return bool(self._said)

    def wait(self, milliseconds: int) -> None:
        """Until something is here, or that long."""
        with self._more:
            if not self._said:
                self._more.wait(milliseconds / 1_000)


class _Ear:
    """What the gateway calls, on its own threads."""

    def __init__(self, publish: Callable[[object, int], object], inbox: Inbox) -> None:
        self._publish = publish
        self._inbox = inbox
        self.quote_ns = 0  # when the last one was received
        self.failure: RuntimeError | None = None  # the log cannot take more
        self.closed = False

    def quote(self, delivered: object, received_ns: int) -> None:
        if self.closed:
            return
        self.quote_ns = received_ns
        try:
            self._publish(delivered, received_ns)
        except RuntimeError as error:
            self.closed, self.failure = True, error
            self._inbox.put(TimePassed())

    def event(self, response_code: int, event_code: int, info: str, event: str) -> None:
        self._inbox.put(Said(response_code, event_code, info, event))

    def session_down(self) -> None:
        self._inbox.put(SessionDown())


class LiveFeed:
    """One connection: the session's decisions carried out, until the market is over, a stop, or LoginRefused."""

    def __init__(
        self,
        session: Callable[[int], Session],
        gateway: Gateway,
        clock: Callable[[Inbox], Clock],
        codes: frozenset[str],
        *,
        leases: Leases | None = None,
        lease: HeldLease | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`session` is made when the clock runs, from its time. `lease` is held until the feed is over."""
        self._make_session = session
        self._gateway = gateway
        self._inbox = Inbox()
        self._clock = clock(self._inbox)
        self._codes = codes
        self._leases = leases
        self._lease = lease
        self._say = say

    def codes(self) -> frozenset[str]:
        """What it will ask for."""
        return self._codes

    def run(self, sink: Sink, stop: threading.Event, resume_after_ns: int | None) -> None:
        """Returns at the end of the market or at `stop`. LoginRefused when no login will succeed any more."""
        self._clock.begin(resume_after_ns)
        loop = _Loop(self._make_session(self._clock.now_ns()), self._gateway, self._clock, sink, self._inbox)
        loop.leases, loop.say = self._leases, self._say
        try:
            loop.run(stop)
        finally:
            # Whatever ended it: the broker counts a connection that nobody gave back, and no late quote may come.
            loop.ear.closed = True
            self._gateway.logout()
            sink.outage(self._clock.now_ns())
            if self._lease is not None:
                self._lease.close()


class _Loop:
    """One run of a feed."""

    def __init__(self, session: Session, gateway: Gateway, clock: Clock, sink: Sink, inbox: Inbox) -> None:
        self.session = session
        self.gateway = gateway
        self.clock = clock
        self.sink = sink
        self.inbox = inbox
        self.ear = _Ear(sink.quote, inbox)
        self.leases: Leases | None = None
        self.say: Callable[[str], None] = lambda _: None

    def run(self, stop: threading.Event) -> None:
        # Until the first login nothing can come: a hole like any other, if the market is open.
        self.sink.connection(Connection.DOWN, self.clock.now_ns(), "not logged in yet")
        happened: Input | None = TimePassed()
        while self.session.phase is not Phase.STOPPED:
            for action in self.session.step(happened or TimePassed(), self.clock.now_ns(), self.ear.quote_ns):
                if not self._did(action):
                    break
            if self.ear.failure is not None:
                raise self.ear.failure
            if dropped := self.inbox.count_dropped():
                self.sink.remark(
                    self.clock.now_ns(), f"{dropped} words of the broker were not heard: {INBOX_MAX} waited"
                )
            more = self.clock.wait(self.inbox.pending, self.session.next_ns(self.clock.now_ns()), stop)
            happened = self.inbox.take() if more and not stop.is_set() else Stop()

    def _did(self, action: Action) -> bool:
        """Carries it out; False when what was to follow it cannot be."""
        now_ns = self.clock.now_ns()
        match action:
            case Login(force_refresh):
                self.inbox.put(self._log_in(force_refresh=force_refresh))
            case Listen():
                return self._listen()
            case Subscribe() | Unsubscribe():
                return self._ask(action)
            case Logout():
                self.gateway.logout()
            case Connected(text):
                self.sink.connection(Connection.UP, now_ns, text)
                self.say(text)
            case Disconnected(text, since_ns):
                self.sink.connection(Connection.DOWN, now_ns, text, since_ns)
                self.say(f"connection lost: {text}")
            case TopicChanged(topic, said, text):
                self.sink.subscription(said, now_ns, f"{topic} {said.name.lower()}" + (f": {text}" if text else ""))
                if text:
                    self.say(f"{topic} {said.name.lower()}: {text}")
            case Remark(text):
                self.sink.remark(now_ns, text)
                self.say(text)
            case End(refused):
                if refused is not None:
                    raise LoginRefused(refused)
        return True

    def _log_in(self, *, force_refresh: bool) -> Input:
        if self.leases is not None and (wait_ns := self.leases.charge_login()) > 0:
            return NotNow("this person has logged in too often, over all processes", wait_ns)
        try:
            self.gateway.login(force_refresh=force_refresh)
        except LoginRefused as error:
            return Refused(str(error))
        except LoginLater as error:
            if self.leases is not None:
                self.leases.sent_away(error.wait_ns)
            return NotNow(str(error), error.wait_ns)
        return LoggedIn()

    def _listen(self) -> bool:
        try:
            self.gateway.listen(self.ear)
        except GatewayError as error:
            self.inbox.put(NotNow(str(error), NO_ROUTE_NS))
            return False
        return True

    def _ask(self, action: Subscribe | Unsubscribe) -> bool:
        """A topic that the broker refuses concerns it alone; anything else the connection."""
        ask = self.gateway.subscribe if isinstance(action, Subscribe) else self.gateway.unsubscribe
        try:
            ask(action.topic)
        except TopicRefused as error:
            self.inbox.put(NotSubscribed(action.topic, str(error), error.full))
        except GatewayError as error:
            self.inbox.put(NotNow(str(error), NO_ROUTE_NS))
            return False
        return True
