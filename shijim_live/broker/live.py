"""Sessions as a feed of the recorder: does what the state machines say, and writes down what became of it.

Not the decisions (`session.py`) and not the broker (`shioaji.py`, or `simulated_gateway.py` to practise on). The
broker's threads bring quotes straight to the log, and everything else into one inbox that one loop works off.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from shijim_live.broker.connection import Connection
from shijim_live.broker.gateway import (
    NO_ROUTE_NS,
    Gateway,
    GatewayError,
    LoginLater,
    LoginRefused,
    Topic,
    TopicRefused,
)
from shijim_live.broker.leases import HeldLease, Leases, LeasesDamaged
from shijim_live.broker.quota import QuotaDamaged, QuotaExhausted
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
    Want,
)
from shijim_live.broker.snapshots import SnapshotRounds
from shijim_live.record.sink import Sink

# What the broker says waits here while a login blocks the loop; 200 topics answer once each. Beyond it the newest is
# dropped: an answer that is lost is asked for again, a connection that is lost is seen by the watchdog.
INBOX_MAX: Final = 10_000
PAUSE_MS_MAX: Final = 200  # so that a stop is quick
REPLAN_NS: Final = 10_000_000_000  # so often the plan is looked at
UNCOUNTED_NS: Final = 60_000_000_000  # until a login is tried again that could not be charged
SHOWN_NS: Final = 500_000_000  # between two looks at how a connection stands
SHOWN_SECONDS: Final = SHOWN_NS / 1_000_000_000


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
        # How long is known now; the clock may be set meanwhile.
        end_ns = time.monotonic_ns() + until_ns - time.time_ns()
        while not (pending() or stop.is_set()) and (left_ns := end_ns - time.monotonic_ns()) > 0:
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
            if len(self._said) >= INBOX_MAX and not isinstance(said, Stop):
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

    def __init__(self, sink: Sink, inbox: Inbox) -> None:
        self._quote, self._index = sink.quote, sink.index
        self._inbox = inbox
        self.quote_ns = 0  # when the last one was received
        self.failure: RuntimeError | None = None  # the log cannot take more
        self.closed = False

    def quote(self, delivered: object, received_ns: int) -> None:
        self._record(self._quote, delivered, received_ns)

    def index(self, delivered: object, received_ns: int) -> None:
        self._record(self._index, delivered, received_ns)

    def _record(self, publish: Callable[[object, int], object], delivered: object, received_ns: int) -> None:
        if self.closed:
            return
        self.quote_ns = received_ns
        try:
            publish(delivered, received_ns)
        except RuntimeError as error:
            self.closed, self.failure = True, error
            self._inbox.put(TimePassed())

    def event(self, response_code: int, event_code: int, info: str, event: str) -> None:
        self._inbox.put(Said(response_code, event_code, info, event))

    def session_down(self) -> None:
        self._inbox.put(SessionDown())


@dataclass(frozen=True, slots=True)
class Line:
    """One connection of a feed: the session that decides, whom it asks, and by what leave."""

    number: int  # from 1: stands in every record that came through it
    session: Callable[[int], Session]  # made when the clock runs, from its time
    gateway: Gateway
    lease: HeldLease | None = None  # held until the feed is over
    rounds: SnapshotRounds | None = None  # what this connection asks about beside its topics


class LiveFeed:
    """A recorder's connections: what their sessions decide, until the market is over, a stop, or LoginRefused."""

    def __init__(
        self,
        lines: Sequence[Line],
        codes: frozenset[str],
        *,
        clock: Clock | None = None,
        leases: Leases | None = None,
        say: Callable[[str], None] = lambda _: None,
        replan: Callable[[int], Mapping[int, Sequence[Topic]] | None] = lambda _: None,
    ) -> None:
        """`clock`: one that all connections share on one thread; without it each has a thread and the machine's time.

        `replan` is asked now and then, with the time: for what each connection is to want from now on, if that is
        another than before.
        """
        assert [line.number for line in lines] == list(range(1, len(lines) + 1)), "connections count from 1"
        self._codes = codes
        self._clock = clock
        self._replan = replan
        one = len(lines) == 1
        self._loops = [_Loop(line, leases, say if one else _of_connection(line.number, say)) for line in lines]
        self._looked_ns = 0

    def codes(self) -> frozenset[str]:
        """What it will ask for at first."""
        return self._codes

    def connections(self) -> list[dict[str, object]]:
        """How each connection stands, as JSON values; of the last time its loop turned. From any thread."""
        return [loop.state for loop in self._loops]

    def run(self, sink: Sink, stop: threading.Event, resume_after_ns: int | None) -> None:
        """Returns at the end of the market or at `stop`. LoginRefused when no login will succeed any more."""
        for loop in self._loops:
            loop.begin(sink.of(loop.line.number), self._clock, resume_after_ns)
        if self._clock is not None:
            self._drive(self._loops, self._clock, stop)
            return
        failures: list[BaseException] = []
        threads = [
            threading.Thread(
                target=self._live, args=(loop, stop, failures), name=f"shijim-connection-{loop.line.number}"
            )
            for loop in self._loops[1:]
        ]
        for thread in threads:
            thread.start()
        self._live(self._loops[0], stop, failures)
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def _live(self, loop: _Loop, stop: threading.Event, failures: list[BaseException]) -> None:
        """One connection on a thread of its own; when it is over, whyever, so are the others."""
        try:
            self._drive([loop], loop.clock, stop)
        except BaseException as error:  # noqa: BLE001 - raised by `run`, once every connection is given back
            failures.append(error)
        finally:
            for other in self._loops:
                other.inbox.put(Stop())

    def _drive(self, loops: Sequence[_Loop], clock: Clock, stop: threading.Event) -> None:
        try:
            happened: list[Input] = [TimePassed() for _ in loops]
            while any(loop.session.phase is not Phase.STOPPED for loop in loops):
                for loop, what in zip(loops, happened, strict=True):
                    loop.turn(what)
                self._look_at_the_plan(loops, clock.now_ns())
                until_ns = min(loop.next_ns(clock.now_ns()) for loop in loops)
                more = clock.wait(lambda: any(loop.inbox.pending() for loop in loops), until_ns, stop)
                over = not more or stop.is_set()
                happened = [Stop() if over else loop.inbox.take() or TimePassed() for loop in loops]
        finally:
            for loop in loops:
                loop.close()

    def _look_at_the_plan(self, loops: Sequence[_Loop], now_ns: int) -> None:
        """By the thread of the first connection."""
        if loops[0] is not self._loops[0] or 0 <= now_ns - self._looked_ns < REPLAN_NS:
            return
        self._looked_ns = now_ns
        for number, topics in (self._replan(now_ns) or {}).items():
            self._loops[number - 1].inbox.put(Want(tuple(topics)))


def _of_connection(number: int, say: Callable[[str], None]) -> Callable[[str], None]:
    return lambda text: say(f"connection {number}: {text}")


class _Loop:
    """One connection while its feed runs."""

    def __init__(self, line: Line, leases: Leases | None, say: Callable[[str], None]) -> None:
        self.line = line
        self.leases = leases
        self.say = say
        self.inbox = Inbox()
        self.state: dict[str, object] = {"number": line.number, "phase": "not begun"}
        self._last = ""  # word of a person's interest
        self._logins = 0
        self._shown = 0.0
        self._stale = False  # what is shown is not the last

    def begin(self, sink: Sink, clock: Clock | None, resume_after_ns: int | None) -> None:
        self.sink = sink
        self.clock = clock or SystemClock(self.inbox)
        self.clock.begin(resume_after_ns)
        self.ear = _Ear(sink, self.inbox)
        self.session = self.line.session(self.clock.now_ns())
        # Until the first login nothing can come: a hole like any other, if the market is open.
        sink.connection(Connection.DOWN, self.clock.now_ns(), "not logged in yet")

    def turn(self, happened: Input) -> None:
        """Does what the session decides about one thing that happened. Raises what ended the log, or LoginRefused."""
        for action in self.session.step(happened, self.clock.now_ns(), self.ear.quote_ns):
            if not self._did(action):
                break
        if self.ear.failure is not None:
            raise self.ear.failure
        if dropped := self.inbox.count_dropped():
            self.sink.remark(self.clock.now_ns(), f"{dropped} words of the broker were not heard: {INBOX_MAX} waited")
        if self.line.rounds is not None and self.session.phase is Phase.UP:
            self._take_snapshots(self.line.rounds)
        moment = time.monotonic()
        self._stale = moment - self._shown < SHOWN_SECONDS
        if not self._stale:
            self._shown = moment
            self._show()

    def _take_snapshots(self, rounds: SnapshotRounds) -> None:
        """One question, if one is due. What goes wrong costs this one, not the connection."""
        try:
            if not (codes := rounds.due(self.clock.now_ns())):
                return
            rows = self.line.gateway.snapshots(codes)
            rounds.answered(rows)
            for row in rows:
                self.sink.snapshot(row, self.clock.now_ns())
        except (GatewayError, QuotaExhausted, QuotaDamaged, OSError) as error:
            self.sink.remark(self.clock.now_ns(), str(error))
            self.say(str(error))

    def next_ns(self, now_ns: int) -> int:
        moments = [self.session.next_ns(now_ns)]
        if self.line.rounds is not None and self.session.phase is Phase.UP:
            moments.append(self.line.rounds.next_ns(now_ns))
        if self._stale and isinstance(self.clock, SystemClock):  # who looks from outside has the machine's time
            moments.append(now_ns + SHOWN_NS)
        return min(moments)

    def close(self) -> None:
        """Whatever ended it: the broker counts a connection that nobody gave back, and no late quote may come."""
        self.ear.closed = True
        self.line.gateway.logout()
        self.sink.outage(self.clock.now_ns())
        if self.line.lease is not None:
            self.line.lease.close()
        self._show()

    def _show(self) -> None:
        now_ns = self.clock.now_ns()
        self.state = {
            "number": self.line.number,
            "phase": str(self.session.phase),
            "said": self._last,
            "logins": self._logins,
            "quote_ns": self.ear.quote_ns,
            "topics": self.session.topics.snapshot(now_ns),
        }

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
                self.line.gateway.logout()
            case Connected(text):
                self.sink.connection(Connection.UP, now_ns, text)
                self._tell(text)
            case Disconnected(text, since_ns):
                self.sink.connection(Connection.DOWN, now_ns, text, since_ns)
                self._tell(f"connection lost: {text}")
            case TopicChanged(topic, said, text):
                self.sink.subscription(said, now_ns, f"{topic} {said.name.lower()}" + (f": {text}" if text else ""))
                if text:
                    self.say(f"{topic} {said.name.lower()}: {text}")
            case Remark(text):
                self.sink.remark(now_ns, text)
                self._tell(text)
            case End(refused):
                if refused is not None:
                    raise LoginRefused(refused)
        return True

    def _tell(self, text: str) -> None:
        self._last = text
        self.say(text)

    def _log_in(self, *, force_refresh: bool) -> Input:
        self._logins += 1
        try:
            wait_ns = self.leases.charge_login() if self.leases is not None else 0
        except (OSError, LeasesDamaged) as error:  # a full disk: a login that nobody counts is none
            return NotNow(str(error), UNCOUNTED_NS)
        if wait_ns > 0:
            return NotNow("this person has logged in too often, over all processes", wait_ns)
        try:
            self.line.gateway.login(force_refresh=force_refresh)
        except LoginRefused as error:
            return Refused(str(error))
        except LoginLater as error:
            if self.leases is not None:
                with suppress(OSError, LeasesDamaged):  # the others find out by themselves
                    self.leases.sent_away(error.wait_ns)
            return NotNow(str(error), error.wait_ns)
        return LoggedIn()

    def _listen(self) -> bool:
        try:
            self.line.gateway.listen(self.ear)
        except GatewayError as error:
            self.inbox.put(NotNow(str(error), NO_ROUTE_NS))
            return False
        return True

    def _ask(self, action: Subscribe | Unsubscribe) -> bool:
        """A topic that the broker refuses concerns it alone; anything else the connection."""
        ask = self.line.gateway.subscribe if isinstance(action, Subscribe) else self.line.gateway.unsubscribe
        try:
            ask(action.topic)
        except TopicRefused as error:
            self.inbox.put(NotSubscribed(action.topic, str(error), error.full))
        except GatewayError as error:
            self.inbox.put(NotNow(str(error), NO_ROUTE_NS))
            return False
        return True
