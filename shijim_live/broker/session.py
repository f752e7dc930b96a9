"""The life of one broker session: what to do next, given what happened and what time it is. Does none of it: no I/O.

                     ┌──────────────── wait, longer each time ◄───────────────────┐
    start ─► WAITING ┴─ login ─► LOGGING_IN ─ logged in ─► UP ─ lost ─► RECONNECTING ─ the SDK does not come back
                ▲                     │                    ▲ │               │
                └── not now ──────────┘                    └─┼── reconnected ┘
                ▲                                            │
                └── no quote in an open session, day's end ──┘      LoginRefused, stop: STOPPED

`step` takes what happened and gives what is to be done, in order; `next_ns` says when to call it if nothing does.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, Protocol

from shijim_live.broker.connection import Subscription
from shijim_live.broker.gateway import SessionEvent, Topic, topic_named
from shijim_live.broker.leases import logins_wait_ns
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
from shijim_live.calendar import (
    DAY_NS,
    MINUTE_NS,
    SECOND_NS,
    TAIPEI_OFFSET_NS,
    Market,
    session_bounds,
    trading_day,
)
from shijim_live.instruments import UnknownInstrument, instrument

# What one session may log in; the person's limits, over all of them, are in leases.py.
LOGINS_MAX: Final = ((3, MINUTE_NS), (6, 15 * MINUTE_NS), (150, DAY_NS))
# Waits between attempts double from here to there, each with up to half of it on top, so that sessions do not march. A
# day without a route takes some 115 logins: the day's limit is never what keeps us out once there is one again.
BACKOFF_NS_MIN: Final = 5 * SECOND_NS
BACKOFF_NS_MAX: Final = 10 * MINUTE_NS
SENT_AWAY_NS_MAX: Final = 30 * MINUTE_NS  # what a broker asks for doubles up to here, or is as long as it asks
STABLE_NS: Final = 5 * MINUTE_NS  # up for this long, a session has got over its failures
RECONNECT_NS_MAX: Final = 2 * MINUTE_NS  # the SDK reconnects by itself, up to 50 times; then we log in anew
# No quote at all for so many periods of an open session is worth a login, and one period before that a line. After a
# login the patience is twice as long each time, until quotes have flowed for a while: the market may really be silent.
SILENT_NS: Final = MINUTE_NS
SILENT_PERIODS: Final = 3
FRUITLESS_MAX: Final = 6
FLOWING_NS: Final = 30 * MINUTE_NS
HEARTBEAT_NS: Final = 10 * SECOND_NS  # the watchdog looks this often
# The token of a login lives 24 hours. No market is open from 05:00 to 08:30 Taipei, and 08:00 is the contracts' hour.
RELOGIN_FROM_NS: Final = 5 * 60 * MINUTE_NS + 5 * MINUTE_NS
RELOGIN_UNTIL_NS: Final = 7 * 60 * MINUTE_NS + 45 * MINUTE_NS
RELOGIN_SPREAD_NS: Final = 120 * MINUTE_NS
# A refusal that names no topic may mean any that is asked for; all of them again, but not more often than this.
RESUBSCRIBE_NS_MIN: Final = MINUTE_NS
REMARKS_A_MINUTE: Final = 20  # of the broker's events that change nothing; the rest is counted


class Phase(StrEnum):
    """Where a session stands."""

    WAITING = "waiting"  # to log in
    LOGGING_IN = "logging in"
    UP = "up"
    RECONNECTING = "reconnecting"
    STOPPED = "stopped"


class Topics(Protocol):
    """What the session asks of the ledger of topics."""

    def wanted(self) -> frozenset[Topic]: ...
    def want(self, topics: Iterable[Topic], now_ns: int) -> None: ...
    def to_request(self, now_ns: int) -> list[Topic]: ...
    def to_drop(self, now_ns: int) -> list[Topic]: ...
    def requested(self, topic: Topic, now_ns: int) -> None: ...
    def confirmed(self, topic: Topic, now_ns: int) -> None: ...
    def refused(self, topic: Topic, text: str, now_ns: int, full: bool = False) -> None: ...
    def lost(self, now_ns: int) -> None: ...
    def next_ns(self) -> int | None: ...
    def snapshot(self, now_ns: int) -> dict[str, object]: ...


_LOST: Final = (SessionEvent.DOWN, SessionEvent.RECONNECTING)
_BACK: Final = (SessionEvent.UP, SessionEvent.RECONNECTED)
_SAYS_NOTHING: Final = (SessionEvent.ACKNOWLEDGED, SessionEvent.CAN_SEND, SessionEvent.ASSURED_PUBLISHING_UP)
_FULL: Final = "max num subscriptions"
_RESPONSES_OK: Final = (0, 200)


class Session:
    """One connection, as a state machine. One thread at a time."""

    def __init__(self, topics: Topics, *, now_ns: int, seed: int, jitter_ns: int = 0) -> None:
        """`jitter_ns`: the longest wait before the first login."""
        self.topics = topics
        self.phase = Phase.WAITING
        self.logins_ns: deque[int] = deque(maxlen=max(count for count, _ in LOGINS_MAX))
        self._chance = random.Random(seed)
        self._seen_ns = now_ns  # the last time that `step` was told
        self._fresh_ns = 0  # when a token was obtained that is ours alone; before it any in reuse may expire today
        self._doubtful = False  # a login with a token in reuse failed
        self._relogin_after_ns = self._chance.randrange(RELOGIN_SPREAD_NS)  # within the window
        self._until_ns = now_ns + (self._chance.randrange(jitter_ns) if jitter_ns else 0)
        self._failures = 0  # in a row
        self._fruitless = 0  # logins because of silence, until quotes flow again
        self._flowing_ns = 0  # since when they do
        self._up_ns = now_ns
        self._quote_ns = 0
        self._last_quote_ns = 0  # as it was told
        self._forced = False
        self._silence_told = False
        self._asked: dict[Topic, None] = {}  # and not answered, the oldest first
        self._all_again_ns = 0
        self._remarks_ns: deque[int] = deque(maxlen=REMARKS_A_MINUTE)
        self._not_told = 0

    def step(self, happened: Input, now_ns: int, quote_ns: int = 0) -> list[Action]:
        """What to do now. `quote_ns`: when the last quote of this connection was received."""
        if self.phase is Phase.STOPPED:
            return []
        if now_ns < self._seen_ns:
            self._go_back(self._seen_ns - now_ns)
        self._seen_ns = now_ns
        if quote_ns != self._last_quote_ns:  # another one than at the last step, whatever our clock was then
            self._last_quote_ns = quote_ns
            self._heard(min(quote_ns, now_ns))
        if self.phase is Phase.UP and now_ns - self._up_ns >= STABLE_NS:
            self._failures = 0
        return [*self._answer(happened, now_ns), *self._due(now_ns)]

    def next_ns(self, now_ns: int) -> int:
        """When to call `step` though nothing has happened."""
        if self.phase in (Phase.WAITING, Phase.RECONNECTING):
            return min(self._until_ns, now_ns + HEARTBEAT_NS)
        moments = [now_ns + HEARTBEAT_NS]
        if self.phase is Phase.UP and (topics_ns := self.topics.next_ns()) is not None:
            moments.append(topics_ns)
        return min(moments)

    def _go_back(self, by_ns: int) -> None:
        """The clock was set back: everything is as long ago as it was, and waits are no longer."""
        self._until_ns -= by_ns
        self._up_ns -= by_ns
        self._quote_ns -= by_ns
        self._flowing_ns -= by_ns
        self._fresh_ns -= by_ns
        self._all_again_ns -= by_ns
        for stamps in (self.logins_ns, self._remarks_ns):
            earlier = [stamp - by_ns for stamp in stamps]
            stamps.clear()
            stamps.extend(earlier)

    def _heard(self, quote_ns: int) -> None:
        if quote_ns - self._quote_ns >= SILENT_NS:
            self._flowing_ns = quote_ns
        elif quote_ns - self._flowing_ns >= FLOWING_NS:
            self._fruitless = 0
        self._quote_ns, self._silence_told = quote_ns, False

    # What happened

    def _answer(self, happened: Input, now_ns: int) -> list[Action]:
        match happened:
            case LoggedIn():
                return self._come_up(now_ns) if self.phase is Phase.LOGGING_IN else []
            case NotNow(text, wait_ns):
                return self._not_now(text, wait_ns, now_ns)
            case Refused(text):
                self.phase = Phase.STOPPED
                return [Logout(), End(text)]
            case Said():
                return self._said(happened, now_ns)
            case SessionDown():
                return self._lose("session down", now_ns)
            case NotSubscribed(topic, text, full):
                return self._refuse(topic, text, now_ns, full=full) if self.phase is Phase.UP else []
            case Want(topics):
                return self._want(topics, now_ns)
            case Stop():
                self.phase = Phase.STOPPED
                return [Logout(), End(None)]
            case TimePassed():
                return []

    def _come_up(self, now_ns: int) -> list[Action]:
        if self._forced:
            self._fresh_ns = now_ns
        self._doubtful = False
        self.phase, self._up_ns, self._silence_told = Phase.UP, now_ns, False
        self._lost(now_ns)  # a login begins without any
        return [Listen(), Connected("logged in with a fresh token" if self._forced else "logged in")]

    def _not_now(self, text: str, wait_ns: int, now_ns: int) -> list[Action]:
        if self.phase is Phase.WAITING:
            return []
        self._doubtful = True
        told: list[Action] = [] if self.phase is not Phase.UP else [Disconnected(text, now_ns)]
        # Sent away again: the broker answers persistence with a ban, so each time twice as long.
        waits_ns = self._wait(now_ns, max(wait_ns, min(wait_ns << min(self._failures, 30), SENT_AWAY_NS_MAX)))
        return [*told, Remark(f"{text}; again in {waits_ns // SECOND_NS} s"), Logout()]

    def _want(self, topics: tuple[Topic, ...], now_ns: int) -> list[Action]:
        before, after = self.topics.wanted(), frozenset(topics)
        self.topics.want(topics, now_ns)
        if before == after:
            return []  # the same, in another order
        return [Remark(f"another plan: {len(after - before)} topics more, {len(before - after)} no longer wanted")]

    def _said(self, said: Said, now_ns: int) -> list[Action]:
        if said.event_code in _LOST:
            return self._lose(said.event or said.info or "connection lost", now_ns)
        if said.event_code in _BACK:
            return self._reconnected(said, now_ns)
        if said.event_code == SessionEvent.CONNECT_FAILED and self.phase in (Phase.UP, Phase.RECONNECTING):
            # The SDK has given up.
            return self._leave(f"connection failed: {said.info or said.event}", now_ns, now_ns)
        if said.event_code in (SessionEvent.SUBSCRIBE_OK, SessionEvent.SUBSCRIPTION_REJECTED):
            return self._said_of_a_topic(said, now_ns)
        if said.event_code in _SAYS_NOTHING:
            return []
        known = said.event_code in SessionEvent._value2member_map_
        name = SessionEvent(said.event_code).name.lower() if known else "unknown to this release"
        return self._remark(f"event {said.event_code} ({name}), {said.response_code}: {said.info} {said.event}", now_ns)

    def _said_of_a_topic(self, said: Said, now_ns: int) -> list[Action]:
        """Confirmed, or refused: by the code for it, or by the other one with a response that is none of success."""
        if self.phase is not Phase.UP:
            return []
        text = f"{said.response_code} {said.event} {said.info}".strip()
        good = said.event_code == SessionEvent.SUBSCRIBE_OK and said.response_code in _RESPONSES_OK
        # Answers come in the order of the questions: one that names no topic is of the oldest without an answer.
        topic = topic_named(said.info) or topic_named(said.event) or next(iter(self._asked), None)
        if topic is None:
            return self._remark(text, now_ns) if good else self._all_again(text, now_ns)
        self._asked.pop(topic, None)
        if not good:
            return self._refuse(topic, text, now_ns, full=_FULL in text.lower())
        self.topics.confirmed(topic, now_ns)
        wanted = topic in self.topics.wanted()
        return [TopicChanged(topic, Subscription.CONFIRMED if wanted else Subscription.DROPPED, "")]

    def _refuse(self, topic: Topic, text: str, now_ns: int, *, full: bool) -> list[Action]:
        self._asked.pop(topic, None)
        self.topics.refused(topic, text, now_ns, full)
        return [TopicChanged(topic, Subscription.REFUSED, text)]

    def _all_again(self, text: str, now_ns: int) -> list[Action]:
        """Something was refused, and nobody knows what: subscribing again to what one has does no harm."""
        if now_ns < self._all_again_ns:
            return self._remark(text, now_ns)
        self._all_again_ns = now_ns + RESUBSCRIBE_NS_MIN
        self._lost(now_ns)
        return [Remark(f"{text}; subscribing to everything again")]

    def _lost(self, now_ns: int) -> None:
        self._asked.clear()
        self.topics.lost(now_ns)

    def _lose(self, text: str, now_ns: int) -> list[Action]:
        if self.phase is not Phase.UP:
            return []
        self.phase, self._until_ns = Phase.RECONNECTING, now_ns + RECONNECT_NS_MAX
        return [Disconnected(text, now_ns)]

    def _reconnected(self, said: Said, now_ns: int) -> list[Action]:
        if self.phase is Phase.UP and said.event_code == SessionEvent.UP:
            return []  # of the login itself
        if self.phase not in (Phase.UP, Phase.RECONNECTING):
            return []
        # Nobody told of the loss: it is somewhere behind the last quote.
        told: list[Action] = []
        if self.phase is Phase.UP:
            told = [Disconnected("lost unnoticed", min(now_ns, max(self._quote_ns, self._up_ns)))]
        self.phase, self._up_ns, self._silence_told = Phase.UP, now_ns, False
        self._lost(now_ns)  # nothing says that subscriptions are kept; asking twice does no harm
        return [*told, Connected(said.event or "reconnected")]

    # What is due

    def _due(self, now_ns: int) -> list[Action]:
        if self.phase is Phase.WAITING and now_ns >= self._until_ns:
            return self._log_in(now_ns)
        if self.phase is Phase.RECONNECTING and now_ns >= self._until_ns:
            return self._leave(f"not reconnected in {RECONNECT_NS_MAX // SECOND_NS} s", now_ns, now_ns)
        if self.phase is not Phase.UP:
            return []
        return self._relogin(now_ns) or self._watch(now_ns) or self._subscribe(now_ns)

    def _log_in(self, now_ns: int) -> list[Action]:
        if (wait_ns := logins_wait_ns(self.logins_ns, now_ns, LOGINS_MAX)) > 0:
            self._until_ns = now_ns + wait_ns
            return []
        self.phase = Phase.LOGGING_IN
        self.logins_ns.append(now_ns)
        # A token of ours of this morning lasts until the next.
        self._forced = self._doubtful or self._fresh_ns < _last_morning_ns(now_ns)
        return [Login(self._forced)]

    def _relogin(self, now_ns: int) -> list[Action]:
        """Once a day, while nothing is open, so that no token expires during a session."""
        morning_ns = _last_morning_ns(now_ns)
        due_ns = morning_ns + self._relogin_after_ns
        last_ns = morning_ns + RELOGIN_UNTIL_NS - RELOGIN_FROM_NS
        if self.logins_ns[-1] >= morning_ns or not due_ns <= now_ns < last_ns:
            return []
        if self._open_ns(now_ns) is not None:
            return []
        return self._leave("daily login", now_ns, now_ns, wait=False)

    def _watch(self, now_ns: int) -> list[Action]:
        """No quote though the market is open: half-open connections tell nobody that they are gone."""
        open_ns = self._open_ns(now_ns)
        if open_ns is None:
            return []
        since_ns = max(open_ns, self._up_ns, self._quote_ns)
        silent_ns = now_ns - since_ns
        if silent_ns >= SILENT_PERIODS * SILENT_NS << min(self._fruitless, FRUITLESS_MAX):
            self._fruitless += 1
            return self._leave(f"no quote for {silent_ns // SECOND_NS} s of an open session", since_ns, now_ns)
        if silent_ns >= (SILENT_PERIODS - 1) * SILENT_NS and not self._silence_told:
            self._silence_told = True
            return [Remark(f"no quote for {silent_ns // SECOND_NS} s of an open session")]
        return []

    def _subscribe(self, now_ns: int) -> list[Action]:
        dropped = self.topics.to_drop(now_ns)
        asked = self.topics.to_request(now_ns)
        for topic in asked:
            self.topics.requested(topic, now_ns)
        self._asked |= dict.fromkeys([*dropped, *asked])
        return [*map(Unsubscribe, dropped), *map(Subscribe, asked)]

    def _leave(self, text: str, since_ns: int, now_ns: int, *, wait: bool = True) -> list[Action]:
        """Ends the connection and logs in again, at once or after a while."""
        told: list[Action] = [Disconnected(text, since_ns)] if self.phase is Phase.UP else [Remark(text)]
        if wait:
            self._wait(now_ns, 0)
        else:
            self.phase, self._until_ns = Phase.WAITING, now_ns
        return [*told, Logout()]

    def _wait(self, now_ns: int, at_least_ns: int) -> int:
        backoff_ns = min(BACKOFF_NS_MIN << min(self._failures, 30), BACKOFF_NS_MAX)
        wait_ns = max(at_least_ns, backoff_ns) + self._chance.randrange(backoff_ns // 2)
        self._failures += 1
        self.phase, self._until_ns = Phase.WAITING, now_ns + wait_ns
        return wait_ns

    def _remark(self, text: str, now_ns: int) -> list[Action]:
        full = len(self._remarks_ns) == REMARKS_A_MINUTE
        if full and now_ns - self._remarks_ns[0] < MINUTE_NS:
            self._not_told += 1
            return []
        self._remarks_ns.append(now_ns)
        more, self._not_told = (f" ({self._not_told} more were not told)" if self._not_told else ""), 0
        return [Remark(text.strip() + more)]

    def _open_ns(self, now_ns: int) -> int | None:
        """Since when a session has been open of a market that is subscribed to; None where none is."""
        opens = [open_since_ns(now_ns, market) for market in markets_of(self.topics.wanted())]
        return min((open_ns for open_ns in opens if open_ns is not None), default=None)


def markets_of(topics: frozenset[Topic]) -> frozenset[Market]:
    """Whose sessions bring quotes of these; an index is computed while stocks trade."""
    found = set()
    for topic in topics:
        try:
            found.add(instrument(topic.code).market)
        except UnknownInstrument:
            found.add(Market.STOCK)
    return frozenset(found)


def open_since_ns(now_ns: int, market: Market) -> int | None:
    """When the session that is open now opened; None where none is. Before the open and after the close is neither."""
    for bounds in session_bounds(trading_day(now_ns, market), market):
        if bounds.open_ns <= now_ns < bounds.close_ns:
            return bounds.open_ns
    return None


def _last_morning_ns(now_ns: int) -> int:
    """The last 05:05 in Taipei: since then a token is of today."""
    wall_ns = now_ns + TAIPEI_OFFSET_NS - RELOGIN_FROM_NS
    return now_ns - wall_ns % DAY_NS
