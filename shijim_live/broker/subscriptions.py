"""What one connection is subscribed to, against what it should be: a ledger of topics. Not the connection: no I/O.

The session asks it what to do next and tells it what the broker said; the time is always passed in. One thread at a
time. A wanted topic is, at any moment,

    waiting ──requested──► requested ──confirmed──► confirmed
       ▲                        │                     │
       │                        └── refused, or no ────┴─► refused ── when its time has come: as waiting
       └─ lost: all of them         answer in CONFIRM_NS

and one that is no longer wanted is handed out to be dropped, and forgotten once the broker let go of it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shijim_live.broker.gateway import Topic
from shijim_live.universe import TOPICS_MAX

SECOND_NS: Final = 1_000_000_000
# The broker answers within tens of milliseconds; one that has not answered after this long never will.
CONFIRM_NS: Final = 10 * SECOND_NS
# A refusal may be a service that is not up yet, so it is tried again soon; one that stays costs 6 questions an hour.
RETRY_NS_MIN: Final = 5 * SECOND_NS
RETRY_NS_MAX: Final = 600 * SECOND_NS
# The broker states no rate for subscriptions; a full connection is up in 4 s, and no burst looks like an attack.
REQUESTS_A_SECOND: Final = 50
# An unsubscription nobody confirms is asked this often; what then still comes is recorded, as anything that comes is.
DROPS_MAX: Final = 3
REASON_CHARACTERS_MAX: Final = 300  # the broker's text, as it is shown; a refusal is one line


class Phase(StrEnum):
    """Where a topic stands."""

    WAITING = "waiting"  # to be requested; `reason` says what for, if it is not its turn alone
    REQUESTED = "requested"
    CONFIRMED = "confirmed"
    REFUSED = "refused"  # tried again at `retry_ns`
    UNWANTED = "unwanted"  # to be dropped, or being dropped


@dataclass(frozen=True, slots=True)
class TopicState:
    """One topic for a person or a file."""

    topic: Topic
    phase: Phase
    since_ns: int
    attempts: int  # requests since it was wanted
    reason: str  # of the last refusal or loss until it is confirmed again; "" where there is none
    retry_ns: int | None  # not before; None unless refused

    def as_json(self) -> dict[str, object]:
        return {
            "topic": str(self.topic),
            "code": self.topic.code,
            "feed": str(self.topic.feed),
            "odd_lot": self.topic.odd_lot,
            "phase": str(self.phase),
            "since_ns": self.since_ns,
            "attempts": self.attempts,
            "reason": self.reason,
            "retry_ns": self.retry_ns,
        }


@dataclass(slots=True)
class _Entry:
    """A topic that is wanted, or that the broker may still hold."""

    phase: Phase
    since_ns: int
    attempts: int = 0
    refusals: int = 0  # in a row: the back-off
    reason: str = ""
    wait_ns: int = 0  # refused: not asked again before `since_ns` plus this
    drops: int = 0  # times handed out to be dropped
    unanswered: bool = False  # refused by silence: the broker may have it after all

    def turn(self, phase: Phase, now_ns: int, reason: str) -> None:
        self.phase, self.since_ns, self.reason, self.drops, self.unanswered = phase, now_ns, reason, 0, False

    @property
    def held(self) -> bool:
        """The broker may count it against the cap."""
        return self.phase in (Phase.REQUESTED, Phase.CONFIRMED) or self.drops > 0 or self.unanswered


class Ledger:
    """The topics of one connection."""

    def __init__(self, cap: int = TOPICS_MAX) -> None:
        assert cap >= 1, "a connection holds at least one topic"
        self.cap = cap
        self._wanted: dict[Topic, None] = {}  # in the order of the plan: who comes first when there is no room for all
        self._entries: dict[Topic, _Entry] = {}
        self._requests_ns: deque[int] = deque(maxlen=REQUESTS_A_SECOND)
        self._full_cap = cap  # what the broker itself let us have, for `_full_wait_ns`
        self._full_since_ns = 0
        self._full_wait_ns = 0  # 0: not known to be full
        self._full_times = 0

    # What the plan says

    def want(self, topics: Iterable[Topic], now_ns: int) -> None:
        """Replaces what is wanted; the first come first where the cap has no room for all."""
        self._wanted = dict.fromkeys(topics)
        for topic in self._wanted:
            self._entries.setdefault(topic, _Entry(Phase.WAITING, now_ns))
        for topic in [topic for topic, entry in self._entries.items() if not entry.held]:
            if topic not in self._wanted:
                del self._entries[topic]

    def wanted(self) -> frozenset[Topic]:
        return frozenset(self._wanted)

    # What to do

    def to_request(self, now_ns: int) -> list[Topic]:
        """Topics to subscribe to now; says the same until `requested` is called, which should be before the asking."""
        self._give_up_on_unanswered(now_ns)
        held = self._held()
        cap = self.cap if _passed(self._full_since_ns, self._full_wait_ns, now_ns) else self._full_cap
        rate = REQUESTS_A_SECOND - sum(not _passed(stamp, SECOND_NS, now_ns) for stamp in self._requests_ns)
        room, found = cap - held, list[Topic]()
        for topic in self._wanted:
            entry = self._entries[topic]
            if len(found) < rate and self._is_due(entry, now_ns) and (room > 0 or entry.held):
                found.append(topic)
                room -= not entry.held
        return found

    def to_drop(self, now_ns: int) -> list[Topic]:
        """Topics to unsubscribe from now. Handing one out counts as asking: tell with `dropped` that it was done."""
        found = []
        for topic, entry in list(self._entries.items()):
            if topic in self._wanted or not entry.held or not _drop_is_due(entry, now_ns):
                continue
            if entry.drops == DROPS_MAX:
                del self._entries[topic]
                continue
            entry.drops, entry.phase, entry.since_ns = entry.drops + 1, Phase.UNWANTED, now_ns
            found.append(topic)
        return found

    def next_ns(self) -> int | None:
        """From when on `to_request` or `to_drop` may have something new to say; in the past: now. None: never."""
        held = self._held()
        moments = [self._moment(topic, entry, held) for topic, entry in self._entries.items()]
        return min((moment for moment in moments if moment is not None), default=None)

    # What happened

    def requested(self, topic: Topic, now_ns: int) -> None:
        """The broker is being asked for a topic."""
        entry = self._entries.get(topic) or _Entry(Phase.WAITING, now_ns)
        if entry.phase in (Phase.REQUESTED, Phase.CONFIRMED):
            return
        assert entry.held or self._held() < self.cap, (
            f"{topic}: requested beyond the {self.cap} of a connection: ask to_request first"
        )
        self._entries[topic] = entry
        entry.turn(Phase.REQUESTED, now_ns, entry.reason)
        entry.attempts += 1
        self._requests_ns.append(now_ns)

    def confirmed(self, topic: Topic, now_ns: int) -> None:
        """The broker said yes to the last that was asked of it.

        Not believed of a topic that was not asked for: a late word of the connection before would leave a hole.
        """
        entry = self._entries.get(topic)
        if entry is None:
            return
        if entry.drops:
            self._let_go(topic, entry, now_ns)
        elif entry.phase is Phase.REQUESTED:
            entry.turn(Phase.CONFIRMED, now_ns, "")
            entry.refusals = 0

    def refused(self, topic: Topic, text: str, now_ns: int, full: bool = False) -> None:
        """The broker said no; `full`: to any other topic on this connection too. The same no told twice counts once."""
        entry = self._entries.get(topic)
        if entry is None:
            return
        if topic not in self._wanted:
            del self._entries[topic]
            return
        reason = " ".join(text.split())[:REASON_CHARACTERS_MAX] or "refused without a reason"
        if entry.phase is Phase.REFUSED:
            entry.reason, entry.unanswered = reason, False
            return
        entry.turn(Phase.REFUSED, now_ns, reason)
        if full:
            self._became_full(now_ns)
            entry.wait_ns = 0  # as soon as there is room
        else:
            entry.refusals += 1
            entry.wait_ns = _wait_ns(entry.refusals)

    def dropped(self, topic: Topic, now_ns: int) -> None:
        """The broker let go of a topic that `to_drop` handed out."""
        entry = self._entries.get(topic)
        if entry is not None and entry.drops:
            self._let_go(topic, entry, now_ns)

    def lost(self, now_ns: int) -> None:
        """The connection is gone, and every subscription with it."""
        for topic, entry in list(self._entries.items()):
            if topic not in self._wanted:
                del self._entries[topic]
            elif entry.held or entry.phase is Phase.REFUSED:
                entry.turn(Phase.WAITING, now_ns, entry.reason or "the connection was lost")
        self._full_wait_ns, self._full_times = 0, 0

    # What a person sees

    def states(self) -> list[TopicState]:
        """Every topic that is wanted or held, sorted."""
        held = self._held()
        return [self._state(topic, entry, held) for topic, entry in sorted(self._entries.items())]

    def counts(self) -> dict[Phase, int]:
        """How many topics stand where; every phase is named."""
        found = Counter(state.phase for state in self.states())
        return {phase: found[phase] for phase in Phase}

    def snapshot(self, now_ns: int) -> dict[str, object]:
        """All of it as JSON values, of the instant `now_ns`."""
        since_ns, wait_ns = self._full_since_ns, self._full_wait_ns
        return {
            "at_ns": now_ns,
            "cap": self.cap,
            "full_until_ns": None if _passed(since_ns, wait_ns, now_ns) else since_ns + wait_ns,
            "counts": {str(phase): count for phase, count in self.counts().items()},
            "topics": [state.as_json() for state in self.states()],
        }

    # How

    def _held(self) -> int:
        return sum(entry.held for entry in self._entries.values())

    def _is_due(self, entry: _Entry, now_ns: int) -> bool:
        return (entry.phase is Phase.WAITING and not entry.drops) or (
            entry.phase is Phase.REFUSED and _passed(entry.since_ns, entry.wait_ns, now_ns)
        )

    def _give_up_on_unanswered(self, now_ns: int) -> None:
        for topic in self._wanted:
            entry = self._entries[topic]
            if entry.phase is Phase.REQUESTED and _passed(entry.since_ns, CONFIRM_NS, now_ns):
                entry.turn(Phase.REFUSED, now_ns, f"not confirmed within {CONFIRM_NS // SECOND_NS} s")
                entry.unanswered = True
                entry.wait_ns = _wait_ns(entry.refusals) if entry.refusals else 0  # the first time the wait was enough
                entry.refusals += 1
            elif entry.drops and _passed(entry.since_ns, CONFIRM_NS, now_ns):
                self._let_go(topic, entry, now_ns)

    def _became_full(self, now_ns: int) -> None:
        """The broker's cap is what is held now: asked beyond it again only after a while, longer each time."""
        held = self._held()
        if _passed(self._full_since_ns, self._full_wait_ns, now_ns):
            self._full_times += 1
            self._full_cap = held
        self._full_cap = min(self._full_cap, held)
        self._full_since_ns, self._full_wait_ns = now_ns, _wait_ns(self._full_times)

    def _let_go(self, topic: Topic, entry: _Entry, now_ns: int) -> None:
        if topic in self._wanted:  # wanted again while it was being dropped
            entry.turn(Phase.WAITING, now_ns, "")
        else:
            del self._entries[topic]

    def _moment(self, topic: Topic, entry: _Entry, held: int) -> int | None:
        """When something is to be done about a topic."""
        if entry.drops or (entry.phase is Phase.REQUESTED and topic in self._wanted):
            return entry.since_ns + CONFIRM_NS
        if topic not in self._wanted:
            return entry.since_ns
        if entry.phase is Phase.CONFIRMED or (held >= self.cap and not entry.held):
            return None
        moment = entry.since_ns + (entry.wait_ns if entry.phase is Phase.REFUSED else 0)
        if self._full_wait_ns and held >= self._full_cap and not entry.held:
            moment = max(moment, self._full_since_ns + self._full_wait_ns)
        if len(self._requests_ns) == REQUESTS_A_SECOND:
            moment = max(moment, self._requests_ns[0] + SECOND_NS)
        return moment

    def _state(self, topic: Topic, entry: _Entry, held: int) -> TopicState:
        phase, reason = entry.phase, entry.reason
        if topic not in self._wanted:
            phase = Phase.UNWANTED
        elif entry.drops:
            phase, reason = Phase.WAITING, "was no longer wanted: is asked for again once the broker let go of it"
        elif phase is Phase.WAITING and held >= self.cap and not entry.held:
            reason = f"the connection has its {self.cap} topics"
        retry_ns = self._moment(topic, entry, held) if phase is Phase.REFUSED else None
        return TopicState(topic, phase, entry.since_ns, entry.attempts, reason, retry_ns)


def _drop_is_due(entry: _Entry, now_ns: int) -> bool:
    return not entry.drops or _passed(entry.since_ns, CONFIRM_NS, now_ns)


def _passed(since_ns: int, wait_ns: int, now_ns: int) -> bool:
    """Whether a wait is over. A clock that stepped back behind its start ends it too: it would last for ever."""
    return not 0 <= now_ns - since_ns < wait_ns


def _wait_ns(times: int) -> int:
    """How long after the n-th refusal in a row."""
    return min(RETRY_NS_MIN << min(times - 1, 30), RETRY_NS_MAX)
