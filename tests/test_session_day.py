"""A session on the simulated exchange: days with lost, stalled and refused connections, recorded with their holes."""

from __future__ import annotations

import hashlib
import threading
from datetime import date
from functools import cache
from pathlib import Path

import pytest
from plain_ledger import PlainLedger

from shijim_live.broker.connection import Subscription
from shijim_live.broker.gateway import Feed, GatewayError, LoginLater, LoginRefused, Topic, TopicRefused, topic_named
from shijim_live.broker.live import Line, LiveFeed
from shijim_live.broker.session import Session
from shijim_live.broker.shioaji import quote_classes
from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig
from shijim_live.broker.simulated_gateway import (
    CONNECTIONS_MAX,
    Fault,
    SimulatedGateway,
    SimulatedPerson,
    Trouble,
    broker_name,
    everyday_faults,
)
from shijim_live.broker.simulated_market import SimulatedMarket
from shijim_live.calendar import MINUTE_NS, SECOND_NS, Market
from shijim_live.calendar import Session as Hours
from shijim_live.events import Book, BrokerClass, Kind, Status, Trade, decode_chunks
from shijim_live.record import wal
from shijim_live.record.recorder import Recording, RecordPlan, record

DAY = date(2026, 4, 9)
LOGINS_A_DAY = 2  # before its night, and in the morning between its sessions
CONFIG = SimulationConfig(target_events=60_000, outages=0, lost_ticks=0, lost_books=0, repeats=0)


def exchange(seed: int = 3) -> SimulatedExchange:
    return SimulatedExchange(DAY, seed, CONFIG)


def opens_ns(hours: Hours) -> int:
    return next(s.open_ns for s in exchange().sessions if s.market is Market.FUTURES and s.session is hours)


NIGHT_NS, DAY_NS = opens_ns(Hours.NIGHT), opens_ns(Hours.DAY)


def topics_of(played: SimulatedExchange) -> frozenset[Topic]:
    return frozenset(Topic(code, feed) for code in played.codes for feed in (Feed.TICK, Feed.BOOK))


class Recorded:
    """A day recorded through a session, and what the gateway remembers of it."""

    def __init__(self, folder: Path, *faults: Fault, seed: int = 3, wanted: frozenset[Topic] | None = None) -> None:
        self.played = exchange(seed)
        self.person = SimulatedPerson()
        market = SimulatedMarket(self.played)
        self.gateway = SimulatedGateway(market, person=self.person, faults=faults)
        self.ledger = PlainLedger(wanted or topics_of(self.played))
        line = Line(1, lambda now_ns: Session(self.ledger, now_ns=now_ns, seed=seed), self.gateway)
        feed = LiveFeed([line], frozenset(self.played.codes), clock=market)
        self.recording: Recording = record(plan(folder, seed), feed, threading.Event())
        chunks = (chunk for path in wal.segment_paths(folder / "wal") for chunk in wal.records(path))
        self.events = list(decode_chunks(chunks))

    def statuses(self, kind: Kind) -> list[Status]:
        return [event for event in self.events if isinstance(event, Status) and event.kind == kind]

    def outages(self) -> list[tuple[int, int, str]]:
        """Those that nobody planned: not the two logins of a day, before its first session and between its two."""
        first, *rest = [(event.begin_ns, event.end_ns, event.text) for event in self.statuses(Kind.OUTAGE)]
        assert first[2] == "not logged in yet"
        [daily] = [one for one in rest if one[2] == "daily login"]
        assert daily[1] - daily[0] < SECOND_NS
        return [one for one in rest if one != daily]

    def quotes(self) -> list[Trade | Book]:
        return [event for event in self.events if isinstance(event, Trade | Book)]


def plan(folder: Path, seed: int) -> RecordPlan:
    folder.mkdir(exist_ok=True)
    classes = quote_classes()
    return RecordPlan(
        raw_dir=folder,
        shard=0,
        source="simulated",
        clock="simulated",
        config={"day": DAY, "seed": seed},
        classes=(
            (classes.tick_stk, BrokerClass.TICK_STK_V1),
            (classes.tick_fop, BrokerClass.TICK_FOP_V1),
            (classes.bidask_stk, BrokerClass.BIDASK_STK_V1),
            (classes.bidask_fop, BrokerClass.BIDASK_FOP_V1),
        ),
        ring_slots=4_096,
        durability="write",
        outage_ns=30 * SECOND_NS,
        now_ns=lambda: NIGHT_NS - 10 * MINUTE_NS,
        run_id=lambda what: hashlib.sha256(what.encode()).hexdigest()[:16],
        without_space="hand_back",
    )


@cache
def happened(seed: int = 3) -> frozenset[tuple[str, int]]:
    """(code, received) of everything that the exchange delivers on a day without trouble."""
    found: set[tuple[str, int]] = set()
    exchange(seed).run(
        lambda quote, ns: found.add((quote.code, ns)),  # type: ignore[attr-defined]
        lambda *_: None,
        threading.Event(),
    )
    return frozenset(found)


def test_a_day_without_trouble_is_recorded_whole(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    login_ns = recorded.statuses(Kind.OUTAGE)[0].end_ns
    assert recorded.statuses(Kind.OUTAGE)[0].text == "not logged in yet"
    # The topics are confirmed within 0.1 s of the login, a minute before the first quote.
    assert login_ns < NIGHT_NS - 10 * MINUTE_NS
    assert {(event.code, event.received_ns) for event in recorded.quotes()} == happened()
    assert recorded.outages() == []
    confirmed = [event for event in recorded.statuses(Kind.SUBSCRIPTION) if event.value == Subscription.CONFIRMED]
    assert {event.text for event in confirmed} == {f"{topic} confirmed" for topic in recorded.ledger.wanted()}
    assert len(recorded.person.logins_ns) == LOGINS_A_DAY
    assert recorded.recording.complete
    assert recorded.person.connections == 0, "the connection was given back"


def test_the_same_seed_gives_the_same_events(tmp_path: Path) -> None:
    faults = everyday_faults(exchange())
    one, two = (Recorded(tmp_path / name, *faults) for name in ("one", "two"))
    assert one.events == two.events
    assert len(one.outages()) >= 4


@pytest.mark.parametrize("trouble", [Trouble.RECONNECTS, Trouble.FORGETS])
def test_a_lost_connection_is_one_outage_and_costs_no_login(tmp_path: Path, trouble: Trouble) -> None:
    begin_ns, end_ns = DAY_NS + 30 * MINUTE_NS, DAY_NS + 31 * MINUTE_NS
    recorded = Recorded(tmp_path, Fault(trouble, begin_ns, end_ns))
    [(from_ns, to_ns, text)] = recorded.outages()
    assert begin_ns <= from_ns <= begin_ns + SECOND_NS
    assert end_ns <= to_ns <= end_ns + SECOND_NS
    assert trouble in text
    assert len(recorded.person.logins_ns) == LOGINS_A_DAY
    missing = happened() - {(event.code, event.received_ns) for event in recorded.quotes()}
    assert missing
    # What was forgotten comes again when it is confirmed, 20 ms a topic at the latest.
    assert all(begin_ns <= received_ns <= end_ns + SECOND_NS for _, received_ns in missing)
    assert len(recorded.statuses(Kind.SUBSCRIPTION)) == (LOGINS_A_DAY + 1) * len(recorded.ledger.wanted())


def test_a_connection_that_never_comes_back_is_logged_in_anew_once_there_is_a_route(tmp_path: Path) -> None:
    begin_ns, end_ns = DAY_NS + 30 * MINUTE_NS, DAY_NS + 40 * MINUTE_NS
    recorded = Recorded(tmp_path, Fault(Trouble.DROPS, begin_ns, end_ns))
    [(from_ns, to_ns, _)] = recorded.outages()
    assert begin_ns <= from_ns <= begin_ns + SECOND_NS
    assert end_ns <= to_ns <= end_ns + 10 * MINUTE_NS, "a wait is at most as long as the trouble was"
    assert LOGINS_A_DAY < len(recorded.person.logins_ns) <= LOGINS_A_DAY + 6
    assert recorded.quotes()[-1].received_ns > to_ns
    said = [event.text for event in recorded.statuses(Kind.CONNECTION) if event.value == 2]
    assert any("no route" in text for text in said)


def test_a_half_open_connection_is_noticed_and_the_hole_begins_with_the_last_quote(tmp_path: Path) -> None:
    begin_ns = DAY_NS + 30 * MINUTE_NS
    recorded = Recorded(tmp_path, Fault(Trouble.STALLS, begin_ns, begin_ns + 60 * MINUTE_NS))
    [(from_ns, to_ns, text)] = recorded.outages()
    assert begin_ns - MINUTE_NS <= from_ns <= begin_ns
    assert "no quote" in text
    assert 3 * MINUTE_NS <= to_ns - from_ns <= 4 * MINUTE_NS
    assert len(recorded.person.logins_ns) == LOGINS_A_DAY + 1
    missing = happened() - {(event.code, event.received_ns) for event in recorded.quotes()}
    assert all(from_ns <= received_ns <= to_ns + SECOND_NS for _, received_ns in missing)


def test_a_suspension_is_waited_out_and_nobody_is_banned(tmp_path: Path) -> None:
    begin_ns, end_ns = NIGHT_NS + 30 * MINUTE_NS, NIGHT_NS + 40 * MINUTE_NS
    recorded = Recorded(tmp_path, Fault(Trouble.SUSPENDS, begin_ns, end_ns))
    assert not recorded.person.banned
    assert recorded.person.offences <= 3
    [(from_ns, to_ns, _)] = recorded.outages()
    assert from_ns <= begin_ns + SECOND_NS
    assert end_ns <= to_ns
    assert recorded.quotes()[-1].received_ns > to_ns


def test_who_hammers_a_suspension_is_banned() -> None:
    # What the session does not do; else the test above would prove nothing.
    person = SimulatedPerson()
    person.suspended_until_ns = 10 * MINUTE_NS
    for second in range(3):
        with pytest.raises(LoginLater, match="503"):
            person.admit(second * SECOND_NS)
    with pytest.raises(LoginRefused, match="banned"):
        person.admit(4 * SECOND_NS)


def test_a_stop_while_the_connection_is_lost_writes_the_hole_down(tmp_path: Path) -> None:
    # The day ends while nothing comes: the outage reaches to its end.
    begin_ns = DAY_NS + 295 * MINUTE_NS
    recorded = Recorded(tmp_path, Fault(Trouble.DROPS, begin_ns, begin_ns + 300 * MINUTE_NS))
    [(from_ns, to_ns, _)] = recorded.outages()
    assert begin_ns <= from_ns <= begin_ns + SECOND_NS
    assert to_ns > DAY_NS + 299 * MINUTE_NS


@pytest.mark.parametrize("seed", [1, 2])
def test_a_day_with_a_trouble_of_each_kind_has_an_outage_for_each(tmp_path: Path, seed: int) -> None:
    faults = everyday_faults(exchange(seed))
    recorded = Recorded(tmp_path, *faults, seed=seed)
    outages = recorded.outages()
    for fault in faults:
        # A stall shorter than the watchdog's patience ends unnoticed, as it would live: what it cost is a gap.
        if fault.trouble is not Trouble.STALLS:
            assert [
                1 for from_ns, to_ns, _ in outages if from_ns <= fault.begin_ns + SECOND_NS and to_ns >= fault.end_ns
            ]
    missing = happened(seed) - {(event.code, event.received_ns) for event in recorded.quotes()}
    spans = [(from_ns, to_ns + SECOND_NS) for from_ns, to_ns, _ in outages]
    spans += [(fault.begin_ns, fault.end_ns) for fault in faults if fault.trouble is Trouble.STALLS]
    assert [one for one in missing if not any(begin <= one[1] <= end for begin, end in spans)] == []
    assert len(recorded.person.logins_ns) <= 8


def test_a_session_that_was_stopped_goes_on_where_it_was_and_logs_in_anew(tmp_path: Path) -> None:
    stopped_ns = DAY_NS + 20 * MINUTE_NS
    for stops_at_ns in (stopped_ns, None):
        played, stop = exchange(), threading.Event()
        market = SimulatedMarket(played)
        ledger = PlainLedger(topics_of(played))

        class Stopping(SimulatedMarket):
            """Time reaches the stop while the market plays."""

            def now_ns(self, until_ns: int | None = stops_at_ns, done: threading.Event = stop) -> int:
                if until_ns is not None and super().now_ns() >= until_ns:
                    done.set()
                return super().now_ns()

        market.__class__ = Stopping
        session = lambda now_ns, ledger=ledger: Session(ledger, now_ns=now_ns, seed=3)  # noqa: E731
        feed = LiveFeed([Line(1, session, SimulatedGateway(market))], frozenset(played.codes), clock=market)
        recording = record(plan(tmp_path, 3), feed, stop)
    assert recording.complete
    assert recording.resumed_after_ns is not None
    chunks = (chunk for path in wal.segment_paths(tmp_path / "wal") for chunk in wal.records(path))
    events = list(decode_chunks(chunks))
    recorded = {(event.code, event.received_ns) for event in events if isinstance(event, Trade | Book)}
    missing = happened() - recorded
    begin_ns = recording.resumed_after_ns
    assert stopped_ns <= begin_ns <= stopped_ns + 20 * SECOND_NS
    assert missing
    assert all(begin_ns <= received_ns <= begin_ns + 32 * SECOND_NS for _, received_ns in missing)
    assert recorded <= happened()


def test_a_session_that_is_resumed_suffers_no_trouble_that_was_over(tmp_path: Path) -> None:
    fault = Fault(Trouble.DROPS, DAY_NS + 5 * MINUTE_NS, DAY_NS + 8 * MINUTE_NS)
    pushes: list[dict[int, int]] = []
    for resume_ns in (None, DAY_NS + 60 * MINUTE_NS):
        market = SimulatedMarket(exchange())
        gateway, heard = SimulatedGateway(market, faults=[fault]), Heard()
        market.begin(resume_ns)
        gateway.login(force_refresh=False)
        gateway.listen(heard)
        gateway.subscribe(Topic("IX0001", Feed.QUOTE))
        market.wait(lambda: False, DAY_NS + 61 * MINUTE_NS, threading.Event())
        assert ("Session down: drops" in [event[3] for event in heard.events]) == (resume_ns is None)
        if resume_ns is None:  # it comes back by a login, which nobody makes here
            gateway.logout()
            gateway.login(force_refresh=False)
            gateway.listen(heard)
            gateway.subscribe(Topic("IX0001", Feed.QUOTE))
        heard.opens.clear()
        market.wait(lambda: False, DAY_NS + 70 * MINUTE_NS, threading.Event())
        pushes.append(heard.opens)
    assert pushes[0] == pushes[1] != {}, "the index remembers the morning"


def test_only_what_is_subscribed_to_is_delivered(tmp_path: Path) -> None:
    wanted = frozenset({Topic("2330", Feed.TICK), Topic("2317", Feed.BOOK)})
    recorded = Recorded(tmp_path, wanted=wanted)
    assert {(event.code, type(event)) for event in recorded.quotes()} == {("2330", Trade), ("2317", Book)}


def test_a_code_that_is_not_listed_is_refused_and_the_rest_recorded(tmp_path: Path) -> None:
    wanted = frozenset({Topic("2330", Feed.TICK), Topic("9999", Feed.TICK)})
    recorded = Recorded(tmp_path, wanted=wanted)
    refused = [event.text for event in recorded.statuses(Kind.SUBSCRIPTION) if event.value == Subscription.REFUSED]
    assert refused
    assert refused[0] == f"9999/tick refused: 9999: not listed on {DAY}"
    assert recorded.quotes()


# The gateway by itself


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int, str, str]] = []
        self.quotes = 0
        self.opens: dict[int, int] = {}  # of the index: received → open

    def quote(self, delivered: object, received_ns: int) -> None:
        self.quotes += 1

    def index(self, delivered: object, received_ns: int) -> None:
        self.opens[received_ns] = delivered.to_dict()["open"]  # type: ignore[attr-defined]

    def event(self, response_code: int, event_code: int, info: str, event: str) -> None:
        self.events.append((response_code, event_code, info, event))

    def session_down(self) -> None: ...


def test_callbacks_before_the_login_are_refused_as_the_sdk_refuses_them() -> None:
    gateway = SimulatedGateway(SimulatedMarket(exchange()))
    with pytest.raises(GatewayError, match="Not authenticated"):
        gateway.listen(Heard())
    with pytest.raises(GatewayError, match="Not authenticated"):
        gateway.subscribe(Topic("2330", Feed.TICK))
    gateway.logout()


def test_topics_beyond_the_cap_are_refused_by_an_event_that_names_them() -> None:
    gateway = SimulatedGateway(SimulatedMarket(exchange()), topics_max=2)
    heard = Heard()
    gateway.login(force_refresh=False)
    gateway.listen(heard)
    for code in ("2330", "2317", "2454"):
        gateway.subscribe(Topic(code, Feed.TICK))
    gateway.market.wait(lambda: False, gateway.market.now_ns() + SECOND_NS, threading.Event())
    assert [(event[0], event[1]) for event in heard.events] == [(0, 0), (200, 16), (200, 16), (400, 4)]
    assert heard.events[-1][2:] == ("TIC/v1/STK/*/TSE/2454", "Max Num Subscriptions Exceeded")
    with pytest.raises(TopicRefused, match="not listed"):
        gateway.subscribe(Topic("9999", Feed.TICK))


def test_a_sixth_connection_of_a_person_is_refused_until_one_is_given_back() -> None:
    person = SimulatedPerson()
    gateways = [SimulatedGateway(SimulatedMarket(exchange()), person=person) for _ in range(CONNECTIONS_MAX + 1)]
    for gateway in gateways[:-1]:
        gateway.login(force_refresh=False)
    with pytest.raises(LoginLater, match="451"):
        gateways[-1].login(force_refresh=False)
    gateways[0].logout()
    gateways[-1].login(force_refresh=False)


@pytest.mark.parametrize(
    "topic",
    [
        Topic("2330", Feed.TICK), Topic("6488", Feed.BOOK), Topic("TXFD6", Feed.BOOK), Topic("IX0001", Feed.QUOTE),
        Topic("0050", Feed.TICK, odd_lot=True),
    ],
)  # fmt: skip
def test_the_broker_names_a_topic_as_it_is_read_back(topic: Topic) -> None:
    assert topic_named(broker_name(topic)) == topic
