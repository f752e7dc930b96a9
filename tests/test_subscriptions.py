"""Topics of one connection: asked for at a bounded rate, asked again when refused or lost, given back when unwanted."""

from contextlib import suppress

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from shijim_live.broker.gateway import Feed, Topic
from shijim_live.broker.subscriptions import (
    CONFIRM_NS,
    DROPS_MAX,
    REQUESTS_A_SECOND,
    RETRY_NS_MAX,
    RETRY_NS_MIN,
    SECOND_NS,
    Ledger,
    Phase,
)

T0 = 1_775_700_000_000_000_000
TXF = Topic("TXFD6", Feed.TICK)
TXF_BOOK = Topic("TXFD6", Feed.BOOK)
TSMC = Topic("2330", Feed.TICK)


def many(count: int) -> list[Topic]:
    return [Topic(f"{1000 + number}", Feed.TICK) for number in range(count)]


def asked(ledger: Ledger, now_ns: int) -> list[Topic]:
    """What a session does: it says what it asks for, then asks."""
    topics = ledger.to_request(now_ns)
    for topic in topics:
        ledger.requested(topic, now_ns)
    return topics


def confirmed_ledger(*topics: Topic) -> Ledger:
    ledger = Ledger()
    ledger.want(topics, T0)
    for topic in asked(ledger, T0):
        ledger.confirmed(topic, T0)
    return ledger


def phase(ledger: Ledger, topic: Topic) -> Phase | None:
    return next((state.phase for state in ledger.states() if state.topic == topic), None)


def test_a_wanted_topic_is_requested_once_and_confirmed() -> None:
    ledger = Ledger()
    ledger.want([TXF, TXF_BOOK], T0)
    assert ledger.wanted() == {TXF, TXF_BOOK}
    assert ledger.next_ns() is not None and ledger.next_ns() <= T0  # type: ignore[operator]
    assert ledger.to_request(T0) == ledger.to_request(T0) == [TXF, TXF_BOOK]
    ledger.requested(TXF, T0)
    assert ledger.to_request(T0) == [TXF_BOOK]
    ledger.requested(TXF_BOOK, T0)
    ledger.confirmed(TXF, T0 + 1)
    ledger.confirmed(TXF_BOOK, T0 + 1)
    assert ledger.to_request(T0 + 2) == [] and ledger.to_drop(T0 + 2) == []
    assert ledger.next_ns() is None
    assert ledger.counts()[Phase.CONFIRMED] == 2


def test_a_refused_topic_is_tried_again_later_and_later_with_its_reason() -> None:
    ledger = Ledger()
    ledger.want([TSMC], T0)
    now_ns, waits = T0, []
    for _ in range(12):
        assert asked(ledger, now_ns) == [TSMC]
        ledger.refused(TSMC, "no such\n  topic", now_ns)
        ledger.refused(TSMC, "no such topic", now_ns)  # told by the call and by an event
        retry_ns = ledger.next_ns()
        assert retry_ns is not None
        assert ledger.to_request(retry_ns - 1) == []
        waits.append(retry_ns - now_ns)
        now_ns = retry_ns
    (state,) = ledger.states()
    assert (state.phase, state.reason, state.attempts) == (Phase.REFUSED, "no such topic", 12)
    assert state.retry_ns == now_ns
    assert waits[:3] == [RETRY_NS_MIN, 2 * RETRY_NS_MIN, 4 * RETRY_NS_MIN] and waits[-1] == RETRY_NS_MAX
    asked(ledger, now_ns)
    ledger.confirmed(TSMC, now_ns)
    assert ledger.states()[0].reason == ""


def test_a_request_nobody_answers_is_asked_again() -> None:
    ledger = Ledger()
    ledger.want([TXF], T0)
    asked(ledger, T0)
    assert ledger.next_ns() == T0 + CONFIRM_NS
    assert ledger.to_request(T0 + CONFIRM_NS - 1) == []
    assert asked(ledger, T0 + CONFIRM_NS) == [TXF]
    assert ledger.states()[0].reason == "not confirmed within 10 s"
    assert ledger.states()[0].attempts == 2
    assert ledger.to_request(T0 + 2 * CONFIRM_NS) == []  # from then on it waits in between, too
    assert ledger.next_ns() == T0 + 2 * CONFIRM_NS + RETRY_NS_MIN


def test_a_lost_connection_is_asked_for_everything_again_and_a_late_word_of_it_is_not_believed() -> None:
    ledger = confirmed_ledger(TXF, TSMC)
    ledger.lost(T0 + 1)
    ledger.confirmed(TXF, T0 + 2)
    assert phase(ledger, TXF) is Phase.WAITING
    assert asked(ledger, T0 + 2) == [TXF, TSMC]
    assert {state.reason for state in ledger.states()} == {"the connection was lost"}


def test_requests_keep_to_their_rate() -> None:
    ledger = Ledger()
    ledger.want(many(200), T0)
    assert len(asked(ledger, T0)) == REQUESTS_A_SECOND
    assert ledger.to_request(T0 + SECOND_NS - 1) == []
    next_ns = ledger.next_ns()
    assert next_ns is not None and next_ns <= T0 + SECOND_NS
    for second in range(1, 4):
        assert len(asked(ledger, T0 + second * SECOND_NS)) == REQUESTS_A_SECOND
    assert ledger.counts()[Phase.REQUESTED] == 200


def test_what_does_not_fit_waits_and_says_so() -> None:
    ledger = Ledger(cap=2)
    first, second, third = many(3)
    ledger.want([third, second, first], T0)
    for topic in asked(ledger, T0):
        ledger.confirmed(topic, T0)
    assert phase(ledger, third) is phase(ledger, second) is Phase.CONFIRMED
    (state,) = [state for state in ledger.states() if state.topic == first]
    assert (state.phase, state.reason) == (Phase.WAITING, "the connection has its 2 topics")
    assert ledger.next_ns() is None
    with pytest.raises(AssertionError, match="ask to_request first"):
        ledger.requested(first, T0)


def test_a_full_connection_is_not_asked_for_more_before_its_time() -> None:
    ledger = Ledger(cap=5)
    ledger.want(many(5), T0)
    topics = asked(ledger, T0)
    for topic in topics[:3]:
        ledger.confirmed(topic, T0)
    for topic in topics[3:]:
        ledger.refused(topic, "Max Num Subscriptions Exceeded", T0, full=True)
    assert ledger.to_request(T0 + RETRY_NS_MIN - 1) == []
    assert ledger.next_ns() == T0 + RETRY_NS_MIN
    assert [state.retry_ns for state in ledger.states()] == [None] * 3 + [T0 + RETRY_NS_MIN] * 2
    assert ledger.snapshot(T0)["full_until_ns"] == T0 + RETRY_NS_MIN
    later_ns = T0 + RETRY_NS_MIN
    assert asked(ledger, later_ns) == topics[3:]
    ledger.refused(topics[3], "Max Num Subscriptions Exceeded", later_ns, full=True)
    ledger.refused(topics[4], "Max Num Subscriptions Exceeded", later_ns, full=True)
    assert ledger.next_ns() == later_ns + 2 * RETRY_NS_MIN  # longer each time
    ledger.want(topics[1:], later_ns)  # one place is given back: the next in line takes it at once
    assert ledger.to_drop(later_ns) == topics[:1]
    ledger.dropped(topics[0], later_ns)
    assert ledger.to_request(later_ns + 1) == topics[3:4]


def test_a_new_plan_requests_and_drops_the_difference_alone() -> None:
    ledger = confirmed_ledger(TXF, TSMC)
    ledger.want([TSMC, TXF_BOOK], T0 + 1)
    assert ledger.to_drop(T0 + 1) == [TXF] and ledger.to_request(T0 + 1) == [TXF_BOOK]
    assert ledger.to_drop(T0 + 1) == [], "handed out once"
    ledger.dropped(TXF, T0 + 2)
    assert phase(ledger, TXF) is None and phase(ledger, TSMC) is Phase.CONFIRMED


def test_an_unsubscription_nobody_confirms_is_asked_a_few_times_and_takes_its_place_meanwhile() -> None:
    ledger = Ledger(cap=1)
    ledger.want([TXF], T0)
    asked(ledger, T0)
    ledger.confirmed(TXF, T0)
    ledger.want([TSMC], T0)
    now_ns = T0
    for _ in range(DROPS_MAX):
        assert ledger.to_drop(now_ns) == [TXF] and ledger.to_request(now_ns) == []
        assert phase(ledger, TXF) is Phase.UNWANTED
        now_ns += CONFIRM_NS
    assert ledger.to_drop(now_ns) == [] and ledger.to_request(now_ns) == [TSMC]


def test_a_topic_wanted_again_while_it_is_dropped_is_asked_for_afterwards() -> None:
    for answer in (Ledger.dropped, Ledger.confirmed):  # one event of the broker stands for both
        ledger = confirmed_ledger(TXF)
        ledger.want([], T0)
        assert ledger.to_drop(T0) == [TXF]
        ledger.want([TXF], T0)
        assert phase(ledger, TXF) is Phase.WAITING and ledger.to_request(T0) == []
        answer(ledger, TXF, T0)
        assert ledger.to_request(T0) == [TXF]
    ledger = confirmed_ledger(TXF)  # nobody says that it was dropped
    ledger.want([], T0)
    ledger.to_drop(T0)
    ledger.want([TXF], T0)
    assert ledger.to_request(T0 + CONFIRM_NS) == [TXF] and ledger.to_drop(T0 + CONFIRM_NS) == []


def test_a_topic_unwanted_before_it_was_asked_for_is_forgotten_and_after_it_is_given_back() -> None:
    ledger = Ledger()
    ledger.want([TXF, TSMC], T0)
    ledger.requested(TXF, T0)
    ledger.want([], T0)
    ledger.requested(TSMC, T0)  # the session was on its way
    assert ledger.to_drop(T0) == [TXF, TSMC]
    ledger.refused(TXF, "no", T0)
    assert phase(ledger, TXF) is None


def test_a_request_nobody_answered_is_given_back_too_when_it_is_no_longer_wanted() -> None:
    ledger = Ledger(cap=1)
    ledger.want([TXF], T0)
    asked(ledger, T0)
    assert ledger.to_request(T0 + CONFIRM_NS) == [TXF]  # the broker may have it: it keeps its place
    ledger.want([TSMC], T0 + CONFIRM_NS)
    assert ledger.to_request(T0 + CONFIRM_NS) == []
    assert ledger.to_drop(T0 + CONFIRM_NS) == [TXF]
    ledger.dropped(TXF, T0 + CONFIRM_NS)
    assert ledger.to_request(T0 + CONFIRM_NS) == [TSMC]


def test_a_clock_that_steps_back_costs_no_more_than_a_question() -> None:
    ledger = Ledger()
    ledger.want(many(REQUESTS_A_SECOND + 1), T0)
    topics = asked(ledger, T0)
    ledger.refused(topics[0], "no", T0)
    hour_ago_ns = T0 - 3600 * SECOND_NS
    assert len(asked(ledger, hour_ago_ns)) == REQUESTS_A_SECOND
    assert len(asked(ledger, hour_ago_ns + SECOND_NS)) == 1


def test_the_snapshot_is_json_and_names_every_topic_with_its_state() -> None:
    ledger = confirmed_ledger(TXF)
    ledger.want([TXF, Topic("2330", Feed.TICK, odd_lot=True)], T0 + 5)
    contents = orjson.loads(orjson.dumps(ledger.snapshot(T0 + 5)))
    assert contents["counts"] == {"waiting": 1, "requested": 0, "confirmed": 1, "refused": 0, "unwanted": 0}
    assert [(one["topic"], one["phase"], one["since_ns"]) for one in contents["topics"]] == [
        ("2330/tick/odd", "waiting", T0 + 5),
        ("TXFD6/tick", "confirmed", T0),
    ]
    assert (contents["at_ns"], contents["cap"], contents["full_until_ns"]) == (T0 + 5, 200, None)


CAP = 5
UNIVERSE = [Topic(code, feed) for code in ("2330", "2317", "TXFD6", "MXFD6") for feed in (Feed.TICK, Feed.BOOK)]
TOPICS = st.sampled_from(UNIVERSE)


class AnySession(RuleBasedStateMachine):
    """Any calls in any order, against a broker that keeps its own list and may answer late, twice, wrongly or never."""

    plans = Bundle("plans")

    @initialize()
    def start(self) -> None:
        self.ledger = Ledger(cap=CAP)
        self.now_ns = T0
        self.broker: set[Topic] = set()

    @rule(target=plans, topics=st.lists(TOPICS, unique=True))
    def plan(self, topics: list[Topic]) -> list[Topic]:
        self.ledger.want(topics, self.now_ns)
        assert self.ledger.wanted() == set(topics)
        return topics

    @rule(topics=plans)
    def plan_again(self, topics: list[Topic]) -> None:
        self.ledger.want(topics, self.now_ns)
        before = self.ledger.states()
        self.ledger.want(topics, self.now_ns)
        assert self.ledger.states() == before

    @rule(wait_ns=st.sampled_from([0, 1, SECOND_NS, RETRY_NS_MIN, CONFIRM_NS, RETRY_NS_MAX]))
    def wait(self, wait_ns: int) -> None:
        self.now_ns += wait_ns

    @rule(known=st.booleans())
    def ask(self, known: bool) -> None:
        for topic in self.ledger.to_request(self.now_ns):
            self.ledger.requested(topic, self.now_ns)
            if known:
                self.broker.add(topic)

    @rule(topic=TOPICS)
    def ask_out_of_turn(self, topic: Topic) -> None:
        """A re-plan may come between what the ledger handed out and the asking."""
        with suppress(AssertionError):  # no room: says so instead
            self.ledger.requested(topic, self.now_ns)
            self.broker.add(topic)

    @rule(answered=st.booleans())
    def drop(self, answered: bool) -> None:
        for topic in self.ledger.to_drop(self.now_ns):
            assert topic not in self.ledger.wanted()
            self.broker.discard(topic)
            if answered:
                self.ledger.dropped(topic, self.now_ns)

    @rule(topic=TOPICS)
    def confirm(self, topic: Topic) -> None:
        self.ledger.confirmed(topic, self.now_ns)
        before = self.ledger.states()
        self.ledger.confirmed(topic, self.now_ns)
        assert self.ledger.states() == before or topic not in self.ledger.wanted()

    @rule(topic=TOPICS, full=st.booleans())
    def refuse(self, topic: Topic, full: bool) -> None:
        self.broker.discard(topic)
        self.ledger.refused(topic, "no", self.now_ns, full)
        before = self.ledger.states()
        self.ledger.refused(topic, "no", self.now_ns, full)
        assert self.ledger.states() == before

    @rule()
    def lose(self) -> None:
        self.broker.clear()
        self.ledger.lost(self.now_ns)
        before = self.ledger.states()
        self.ledger.lost(self.now_ns)
        assert self.ledger.states() == before
        assert all(state.phase is Phase.WAITING for state in before)

    @invariant()
    def the_cap_holds(self) -> None:
        counts = self.ledger.counts()
        assert counts[Phase.REQUESTED] + counts[Phase.CONFIRMED] + counts[Phase.UNWANTED] <= CAP

    @invariant()
    def every_wanted_topic_is_accounted_for(self) -> None:
        states = {state.topic: state for state in self.ledger.states()}
        for topic in self.ledger.wanted():
            state = states[topic]
            assert state.phase is not Phase.UNWANTED
            assert state.phase is not Phase.REFUSED or (state.reason and state.attempts >= 0)
        for topic in set(states) - self.ledger.wanted():
            assert states[topic].phase is Phase.UNWANTED

    @invariant()
    def something_is_said_when_its_moment_came(self) -> None:
        """A session that sleeps until `next_ns` misses nothing."""
        next_ns = self.ledger.next_ns()
        if next_ns is None or next_ns > self.now_ns:
            assert self.ledger.to_request(self.now_ns) == [] and self.ledger.to_drop(self.now_ns) == []

    def teardown(self) -> None:
        """A broker that from now on answers everything ends with exactly what is wanted, as far as there is room."""
        if not hasattr(self, "ledger"):
            return
        for _ in range(40):
            for topic in self.ledger.to_drop(self.now_ns):
                self.broker.discard(topic)
                self.ledger.dropped(topic, self.now_ns)
            for topic in self.ledger.to_request(self.now_ns):
                self.ledger.requested(topic, self.now_ns)
                self.broker.add(topic)
                self.ledger.confirmed(topic, self.now_ns)
            next_ns = self.ledger.next_ns()
            if next_ns is None:
                break
            self.now_ns = max(self.now_ns, next_ns)
        counts = self.ledger.counts()
        assert self.ledger.next_ns() is None
        assert counts[Phase.CONFIRMED] == min(CAP, len(self.ledger.wanted()))
        assert counts[Phase.UNWANTED] == counts[Phase.REQUESTED] == 0
        assert self.broker <= self.ledger.wanted(), "what is no longer wanted was given back"


def test_any_sequence_of_calls_keeps_the_books_and_ends_subscribed() -> None:
    run_state_machine_as_test(AnySession, settings=settings(max_examples=300, stateful_step_count=40, deadline=None))
