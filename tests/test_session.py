"""The session's state machine: keeps the login limits, comes back to what is wanted, and says why where it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_ledger import PlainLedger

from shijim_live.broker.gateway import Feed, SessionEvent, Topic, topic_named
from shijim_live.broker.session import LOGINS_MAX, Phase, Session, Topics, open_since_ns
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
from shijim_live.broker.subscriptions import Ledger
from shijim_live.broker.subscriptions import Phase as LedgerPhase
from shijim_live.calendar import MINUTE_NS, SECOND_NS, Market, to_exchange_ns

WANTED = frozenset({Topic("TXFD6", Feed.TICK), Topic("TXFD6", Feed.BOOK), Topic("2330", Feed.TICK)})


def at(text: str) -> int:
    """A wall clock of Taipei as ns."""
    return to_exchange_ns(datetime.fromisoformat(text))


NOON = at("2026-04-09 11:00")
MIDNIGHT_OF_SUNDAY = at("2026-04-12 00:00")


class World:
    """A broker that does what it is told to, and the time: the shell around the machine, without a connection."""

    def __init__(
        self,
        now_ns: int,
        wanted: frozenset[Topic] = WANTED,
        *,
        topics: Topics | None = None,
        seed: int = 1,
        jitter_ns: int = 0,
    ) -> None:
        self.now_ns = now_ns
        self.ledger = PlainLedger(wanted)
        self.session = Session(topics or self.ledger, now_ns=now_ns, seed=seed, jitter_ns=jitter_ns)
        self.logins_ns: list[int] = []
        self.done: list[tuple[int, Action]] = []
        self.quote_ns = 0
        self.market = False  # whether quotes come
        self.answer: Callable[[Login], Input] = lambda _: LoggedIn()
        self.refuses: dict[Topic, str] = {}

    def tell(self, happened: Input) -> None:
        """Hands it over, does what is to be done, and hands over what comes of that."""
        told: list[Input] = [happened]
        while told:
            for action in self.session.step(told.pop(0), self.now_ns, self.quote_ns):
                self.done.append((self.now_ns, action))
                told += self._did(action)

    def _did(self, action: Action) -> list[Input]:
        if isinstance(action, Login):
            self.logins_ns.append(self.now_ns)
            return [self.answer(action)]
        if isinstance(action, Subscribe):
            market = "IND" if action.topic.feed is Feed.QUOTE else "STK"
            info = f"{'TIC' if action.topic.feed is Feed.TICK else 'QUO'}/v1/{market}/*/TSE/{action.topic.code}"
            if action.topic in self.refuses:
                return [Said(400, SessionEvent.SUBSCRIPTION_REJECTED, info, self.refuses[action.topic])]
            return [Said(200, SessionEvent.SUBSCRIBE_OK, info, "Subscribe or Unsubscribe ok")]
        return []

    def run_for(self, ns: int) -> None:
        """Lets time pass, as far as the machine asks to be woken, and a little further each time."""
        end_ns = self.now_ns + ns
        while self.now_ns < end_ns and self.session.phase is not Phase.STOPPED:
            self.now_ns = min(end_ns, max(self.session.next_ns(self.now_ns), self.now_ns + SECOND_NS))
            if self.market and self.session.phase is Phase.UP:
                self.quote_ns = self.now_ns
            self.tell(TimePassed())

    def kinds(self, *kinds: type) -> list[Action]:
        return [action for _, action in self.done if isinstance(action, kinds)]


def test_a_login_is_followed_by_the_callbacks_and_only_then_by_the_topics() -> None:
    world = World(NOON)
    world.tell(TimePassed())
    order = [type(action) for action in world.kinds(Login, Listen, Subscribe)]
    assert order == [Login, Listen, Subscribe, Subscribe, Subscribe]
    assert world.ledger.held == WANTED


def test_the_first_login_waits_a_while_that_the_seed_chooses() -> None:
    def first_login_ns(seed: int) -> int:
        world = World(NOON, seed=seed, jitter_ns=60 * SECOND_NS)
        world.tell(TimePassed())
        world.run_for(61 * SECOND_NS)
        return world.logins_ns[0] - NOON

    waits = [first_login_ns(seed) for seed in range(20)]
    assert all(0 <= wait <= 61 * SECOND_NS for wait in waits)
    assert len(set(waits)) > 5
    assert waits == [first_login_ns(seed) for seed in range(20)]


@pytest.mark.parametrize(
    ("info", "topic"),
    [
        ("TIC/v1/STK/*/TSE/2330", Topic("2330", Feed.TICK)),
        ("QUO/v1/STK/*/OTC/6488", Topic("6488", Feed.BOOK)),
        ("QUO/v1/FOP/*/TFE/TXFD6", Topic("TXFD6", Feed.BOOK)),
        ("TIC/v1/ODD/*/TSE/0050", Topic("0050", Feed.TICK, odd_lot=True)),
        ("QUO/v1/IND/*/TSE/IX0001", Topic("IX0001", Feed.QUOTE)),
        ("subject: TIC/v1/STK/*/TSE/2330 refused", Topic("2330", Feed.TICK)),
        ("MKT/*/TSE/2330", None),
        ("", None),
    ],
)
def test_a_topic_is_read_from_what_the_broker_says(info: str, topic: Topic | None) -> None:
    assert topic_named(info) == topic


def test_a_suspension_is_waited_out_and_each_further_one_twice_as_long() -> None:
    world = World(NOON)
    world.answer = lambda _: NotNow("503: suspended", 90 * SECOND_NS)
    world.tell(TimePassed())
    world.run_for(3_600 * SECOND_NS)
    gaps = [after - before for before, after in zip(world.logins_ns, world.logins_ns[1:], strict=False)]
    assert gaps[0] >= 90 * SECOND_NS
    assert gaps[1] >= 180 * SECOND_NS
    assert gaps[2] >= 360 * SECOND_NS
    assert len(world.logins_ns) <= 7


def test_what_no_login_can_change_ends_the_session_and_says_why() -> None:
    world = World(NOON)
    world.answer = lambda _: Refused("the key has expired")
    world.tell(TimePassed())
    assert world.session.phase is Phase.STOPPED
    assert world.kinds(End) == [End("the key has expired")]
    assert world.session.step(TimePassed(), NOON + SECOND_NS) == []


@pytest.mark.parametrize("code", [SessionEvent.DOWN, SessionEvent.RECONNECTING])
def test_after_a_reconnection_everything_is_subscribed_again_without_a_login(code: SessionEvent) -> None:
    world = World(NOON)
    world.tell(TimePassed())
    world.done.clear()
    world.tell(Said(0, code, "", "lost"))
    assert world.session.phase is Phase.RECONNECTING
    world.tell(SessionDown())  # comes beside event 1 and changes nothing
    world.run_for(20 * SECOND_NS)
    world.tell(Said(0, SessionEvent.RECONNECTED, "", "reconnected"))
    world.tell(TimePassed())
    assert len(world.logins_ns) == 1
    assert {action.topic for action in world.kinds(Subscribe)} == WANTED  # type: ignore[attr-defined]
    assert world.kinds(Connected, Disconnected) == [Disconnected("lost", NOON), Connected("reconnected")]


def test_a_reconnection_nobody_announced_is_a_hole_since_the_last_quote() -> None:
    world = World(NOON)
    world.tell(TimePassed())
    world.market = True
    world.run_for(30 * SECOND_NS)
    last_ns = world.quote_ns
    world.market = False
    world.now_ns += 7 * SECOND_NS
    world.tell(Said(0, SessionEvent.RECONNECTED, "", "reconnected"))
    assert world.kinds(Disconnected) == [Disconnected("lost unnoticed", last_ns)]
    assert world.ledger.held == WANTED


def test_a_connection_that_the_sdk_does_not_get_back_is_left_for_a_new_login() -> None:
    world = World(NOON)
    world.tell(TimePassed())
    world.tell(Said(0, SessionEvent.DOWN, "", "lost"))
    world.market = True
    world.run_for(200 * SECOND_NS)
    assert len(world.logins_ns) == 2
    assert 120 * SECOND_NS <= world.logins_ns[1] - NOON <= 140 * SECOND_NS
    assert world.session.phase is Phase.UP
    assert isinstance(world.kinds(Logout)[0], Logout)


def test_one_refused_topic_is_tried_again_later_and_the_others_are_not_touched() -> None:
    world = World(NOON)
    refused = Topic("2330", Feed.TICK)
    world.refuses = {refused: "Max Num Subscriptions Exceeded"}
    world.tell(TimePassed())
    assert world.ledger.held == WANTED - {refused}
    assert "Max Num" in world.ledger.said_no[refused][0]
    world.market, world.refuses = True, {}
    world.done.clear()
    world.run_for(60 * SECOND_NS)
    assert world.kinds(Subscribe) == [Subscribe(refused)]
    assert world.ledger.held == WANTED


def test_a_success_code_with_a_bad_response_is_a_refusal() -> None:
    world = World(NOON)
    world.tell(TimePassed())
    world.tell(Said(400, SessionEvent.SUBSCRIBE_OK, "TIC/v1/STK/*/TSE/2330", "Max Num Subscriptions Exceeded"))
    assert Topic("2330", Feed.TICK) in world.ledger.said_no


def test_a_refusal_without_a_topic_asks_for_everything_again_once_a_minute_at_most() -> None:
    world = World(NOON)
    world.tell(TimePassed())
    world.market = True
    world.done.clear()
    for _ in range(30):
        world.tell(Said(400, SessionEvent.SUBSCRIPTION_REJECTED, "", "Subscription ACL Denied"))
        world.run_for(SECOND_NS)
    assert len(world.kinds(Subscribe)) == len(WANTED)
    assert world.ledger.held == WANTED


def test_what_is_no_longer_wanted_is_given_back() -> None:
    world = World(NOON)
    world.tell(TimePassed())
    kept = frozenset({Topic("2330", Feed.TICK)})
    world.ledger.want(kept, world.now_ns)
    world.tell(TimePassed())
    assert {action.topic for action in world.kinds(Unsubscribe)} == WANTED - kept  # type: ignore[attr-defined]


def test_silence_in_an_open_session_is_told_and_then_ends_in_a_login() -> None:
    world = World(NOON)
    world.tell(TimePassed())
    world.run_for(150 * SECOND_NS)
    assert [action for action in world.kinds(Remark) if "no quote" in action.text]  # type: ignore[attr-defined]
    assert len(world.logins_ns) == 1
    world.run_for(60 * SECOND_NS)
    assert len(world.logins_ns) == 2
    [down] = world.kinds(Disconnected)
    assert isinstance(down, Disconnected)
    assert down.since_ns == NOON, "nothing came since the login"


def test_a_market_that_stays_silent_costs_a_handful_of_logins_not_one_every_three_minutes() -> None:
    world = World(at("2026-04-09 15:00"))
    world.run_for(14 * 3_600 * SECOND_NS)
    assert 3 <= len(world.logins_ns) <= 10


def test_a_market_with_a_quote_every_four_minutes_is_not_logged_in_for_again_and_again() -> None:
    world = World(at("2026-04-09 15:00"))
    for _ in range(12 * 15):
        world.run_for(4 * MINUTE_NS)
        world.quote_ns = world.now_ns
    assert len(world.logins_ns) == 2


def test_patience_is_short_again_once_quotes_have_flowed_for_a_while() -> None:
    world = World(at("2026-04-09 15:00"))
    world.run_for(5 * MINUTE_NS)
    assert len(world.logins_ns) == 2
    world.market = True
    world.run_for(40 * MINUTE_NS)
    world.market = False
    world.run_for(4 * MINUTE_NS)
    assert len(world.logins_ns) == 3


@pytest.mark.parametrize(
    ("start", "hours"),
    [("2026-04-09 05:01", 3.6), ("2026-04-09 13:46", 1.2), ("2026-04-11 05:01", 51), ("2026-04-03 05:01", 24)],
)
def test_silence_before_the_open_behind_the_close_and_on_closed_days_is_nothing(start: str, hours: float) -> None:
    # A watchdog that did not know the hours made 33 logins in a quarter of an hour before an open.
    futures = frozenset({Topic("TXFD6", Feed.TICK)})
    world = World(at(start), futures)
    world.run_for(int(hours * 3_600) * SECOND_NS)
    assert [action for action in world.kinds(Disconnected) if "no quote" in action.text] == []  # type: ignore[attr-defined]
    assert len(world.logins_ns) <= 1 + hours // 24 + 1


def test_the_watchdog_knows_which_market_is_subscribed_to() -> None:
    stocks = World(at("2026-04-09 15:05"), frozenset({Topic("2330", Feed.TICK)}))
    stocks.run_for(3_600 * SECOND_NS)
    assert len(stocks.logins_ns) == 1
    futures = World(at("2026-04-09 15:05"), frozenset({Topic("TXFD6", Feed.TICK)}))
    futures.run_for(3_600 * SECOND_NS)
    assert len(futures.logins_ns) > 1


@pytest.mark.parametrize("seed", range(8))
def test_once_a_day_the_token_is_renewed_between_five_and_eight_while_nothing_is_open(seed: int) -> None:
    world = World(at("2026-04-08 20:00"), seed=seed)
    world.market = True
    world.run_for(4 * 24 * 3_600 * SECOND_NS)
    renewed = world.logins_ns[1:]
    assert len(renewed) == 4
    assert world.kinds(Login) == [Login(force_refresh=True)] * 5
    for login_ns in renewed:
        assert open_since_ns(login_ns, Market.FUTURES) is None
        assert 5 <= (login_ns // (3_600 * SECOND_NS) + 8) % 24 < 8


def test_a_token_of_ours_is_reused_until_the_morning_unless_a_login_with_it_failed() -> None:
    world = World(NOON)
    world.tell(TimePassed())
    world.market = True
    world.tell(Said(0, SessionEvent.CONNECT_FAILED, "", "gone"))
    world.run_for(20 * SECOND_NS)
    assert world.kinds(Login) == [Login(force_refresh=True), Login(force_refresh=False)]
    world.answer = lambda login: LoggedIn() if login.force_refresh else NotNow("Token is expired", 0)
    world.tell(Said(0, SessionEvent.CONNECT_FAILED, "", "gone"))
    world.run_for(5 * MINUTE_NS)
    assert world.kinds(Login)[2:] == [Login(force_refresh=False), Login(force_refresh=True)]
    assert world.session.phase is Phase.UP


def test_an_unknown_event_is_told_once_in_a_while_and_survived() -> None:
    world = World(NOON)
    world.tell(TimePassed())
    for _ in range(1_000):
        world.tell(Said(0, 99, "x", "whatever"))
    told = [action.text for action in world.kinds(Remark)]  # type: ignore[attr-defined]
    assert 1 <= len(told) <= 20
    assert "event 99 (unknown to this release)" in told[0]
    assert world.session.phase is Phase.UP


def test_a_stop_gives_the_connection_back() -> None:
    world = World(NOON)
    world.tell(TimePassed())
    world.tell(Stop())
    assert [action for _, action in world.done[-2:]] == [Logout(), End(None)]


# Whatever happens

topics = st.sampled_from(sorted(WANTED))
happenings = st.one_of(
    st.just(TimePassed()),
    st.just(LoggedIn()),
    st.builds(NotNow, st.just("not now"), st.integers(0, 600).map(lambda seconds: seconds * SECOND_NS)),
    st.builds(
        Said,
        st.sampled_from([0, 200, 400, 503]),
        st.integers(-1, 24),
        st.sampled_from(["", "TIC/v1/STK/*/TSE/2330", "QUO/v1/FOP/*/TFE/TXFD6", "TIC/v1/STK/*/TSE/9999"]),
        st.sampled_from(["", "ok", "Max Num Subscriptions Exceeded"]),
    ),
    st.just(SessionDown()),
    st.builds(NotSubscribed, topics, st.just("refused"), st.booleans()),
)
logins = st.sampled_from([LoggedIn(), NotNow("503", 90 * SECOND_NS), NotNow("no route", 0)])


def over_the_limit(logins_ns: Iterable[int]) -> list[int]:
    stamps = list(logins_ns)
    return [
        end for count, window_ns in LOGINS_MAX for end in stamps
        if sum(end - window_ns < stamp <= end for stamp in stamps) > count
    ]  # fmt: skip


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 5, 30, 130, 200, 600]), happenings, logins, st.booleans()), max_size=40),
    st.sampled_from([NOON, MIDNIGHT_OF_SUNDAY, at("2026-04-09 04:50"), at("2026-04-09 08:40")]),
    st.integers(0, 1_000),
)
def test_whatever_happens_logins_keep_the_limits_and_what_is_wanted_ends_subscribed_or_refused_with_a_reason(
    script: list[tuple[int, Input, Input, bool]], start_ns: int, seed: int
) -> None:
    world = World(start_ns, seed=seed)
    refused = Topic("TXFD6", Feed.BOOK)
    for seconds, happened, login, market in script:
        world.answer = lambda _, login=login: login  # type: ignore[misc]
        world.market = market
        world.run_for(seconds * SECOND_NS)
        world.tell(happened)
    world.answer, world.market = lambda _: LoggedIn(), True
    world.refuses = {refused: "Subscription ACL Denied"}
    world.run_for(3_600 * SECOND_NS)

    assert over_the_limit(world.logins_ns) == []
    assert world.session.phase is Phase.UP
    assert world.ledger.held | set(world.ledger.said_no) == WANTED
    assert set(world.ledger.said_no) <= {refused}
    up = False
    for _, action in world.done:  # what is written down is a life: never up twice, nothing subscribed while down
        if isinstance(action, Connected):
            assert not up
            up = True
        elif isinstance(action, Disconnected):
            assert up
            up = False
        elif isinstance(action, Subscribe | TopicChanged):
            assert up
    assert up


def test_a_clock_that_is_set_back_makes_no_wait_longer_and_no_silence_invisible() -> None:
    world = World(NOON)
    world.answer = lambda _: NotNow("sign data is timeout", 60 * SECOND_NS)
    world.tell(TimePassed())
    waits_ns = world.session.next_ns(world.now_ns) - world.now_ns
    world.now_ns -= 8 * 3_600 * SECOND_NS  # a person corrects it, as the message says
    world.answer = lambda _: LoggedIn()
    world.run_for(2 * 60 * SECOND_NS)
    assert waits_ns < 100 * SECOND_NS
    assert world.session.phase is Phase.UP

    world = World(NOON)
    world.tell(TimePassed())
    world.market = True
    world.run_for(600 * SECOND_NS)
    world.market = False
    world.now_ns -= 3_600 * SECOND_NS
    world.run_for(300 * SECOND_NS)
    assert len(world.logins_ns) == 2, "no quote for three minutes of an open session"
    assert over_the_limit(world.logins_ns[1:]) == []


MORE = [*sorted(WANTED), Topic("2317", Feed.TICK), Topic("2317", Feed.BOOK), Topic("IX0001", Feed.QUOTE)]
plans = st.lists(st.sampled_from(MORE), max_size=6, unique=True).map(lambda topics: Want(tuple(topics)))


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1, 5, 30, 130, 200, 600]), plans | happenings, logins, st.booleans()), max_size=40
    ),
    st.lists(st.sampled_from(MORE), min_size=1, max_size=6, unique=True),
    st.integers(2, 6),
    st.integers(0, 1_000),
)
def test_whatever_happens_and_whatever_is_planned_the_ledger_ends_as_wanted_or_says_why_not(
    script: list[tuple[int, Input, Input, bool]], wanted: list[Topic], cap: int, seed: int
) -> None:
    ledger = Ledger(cap)
    ledger.want(WANTED, NOON)
    world = World(NOON, topics=ledger, seed=seed)
    refused = Topic("TXFD6", Feed.BOOK)
    for seconds, happened, login, market in script:
        world.answer = lambda _, login=login: login  # type: ignore[misc]
        world.market = market
        world.run_for(seconds * SECOND_NS)
        world.tell(happened)
    world.answer, world.market = lambda _: LoggedIn(), True
    world.refuses = {refused: "Subscription ACL Denied"}
    world.tell(Want(tuple(wanted)))
    world.run_for(3_600 * SECOND_NS)

    assert over_the_limit(world.logins_ns) == []
    assert world.session.phase is Phase.UP
    states = {state.topic: state for state in ledger.states()}
    assert states.keys() == set(wanted), "what is no longer wanted was given back"
    unsettled = {topic: state for topic, state in states.items() if state.phase is not LedgerPhase.CONFIRMED}
    assert all(state.reason for state in unsettled.values())
    if len(wanted) <= cap:
        assert unsettled.keys() <= {refused}
    # Who is refused has its place while it asks, and who has one keeps it: nobody gives way to another.
    assert len(states) - len(unsettled) >= min(len(set(wanted) - {refused}), cap - 1)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.lists(st.sampled_from([0, 30, 90, 600]), min_size=1, max_size=5))
def test_a_broker_that_never_lets_us_in_is_not_hammered(seed: int, waits: list[int]) -> None:
    world = World(NOON, seed=seed)
    turn = iter(waits * 1_000)
    world.answer = lambda _: NotNow("503", next(turn) * SECOND_NS)
    world.run_for(6 * 3_600 * SECOND_NS)
    assert over_the_limit(world.logins_ns) == []
    assert len(world.logins_ns) <= 7 + 6 * 6, "six an hour once the waits have grown"


def test_the_same_seed_gives_the_same_session() -> None:
    def life(seed: int) -> list[tuple[int, Action]]:
        world = World(NOON, seed=seed)
        world.answer = lambda _: NotNow("no route", 0)
        world.run_for(3_600 * SECOND_NS)
        return world.done

    assert life(3) == life(3)
    assert life(3) != life(4)
