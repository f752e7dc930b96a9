"""Several connections in one recorder: who is recorded where, what one of them loses, and what a person sees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from made_records import ns, outage, trades, write_log
from prometheus_client.core import GaugeMetricFamily
from test_live_feed import Threaded
from test_publisher import Log
from test_record_universe import put, universe_of
from test_session_day import CONFIG, DAY, DAY_NS, happened
from test_session_day import plan as record_plan

from shijim_live.broker.capacity import Depth, Plan, PlanRefused, Wish, plan_capacity
from shijim_live.broker.followed_plan import FollowedPlan, Shares, newest_universe, of_day
from shijim_live.broker.gateway import Feed, LoginRefused, Topic
from shijim_live.broker.history import VALUE_BYTES, Row
from shijim_live.broker.leases import Leases
from shijim_live.broker.live import Line, LiveFeed
from shijim_live.broker.quota import QUERIES_MAX, QUERY_WINDOW_NS, Query, Quota, QuotaExhausted
from shijim_live.broker.session import Session
from shijim_live.broker.simulated import SimulatedExchange
from shijim_live.broker.simulated_gateway import Fault, SimulatedGateway, SimulatedPerson, Trouble
from shijim_live.broker.simulated_history import SimulatedHistory
from shijim_live.broker.simulated_market import SimulatedMarket
from shijim_live.broker.snapshots import SnapshotRounds, to_snapshot_dict
from shijim_live.broker.subscriptions import Ledger
from shijim_live.calendar import MINUTE_NS, SECOND_NS, next_trading_day
from shijim_live.events import Book, Kind, Status, Trade, decode_chunks
from shijim_live.record import wal
from shijim_live.record.recorder import record
from shijim_live.record.sink import Sink
from shijim_live.store.lake import Lake
from shijim_live.universe import Universe, UniverseMissing
from shijim_live.watch.connections import read_connections, remove_connections, write_connections
from shijim_live.watch.metrics import RecorderMetrics
from shijim_pipelines.archive import archive_all
from shijim_pipelines.proof.audit import audit_day
from shijim_pipelines.proof.day_segments import Manifests, outages_of

CAP = 12  # topics of a connection: fifteen codes then need three


def planned(**more: int) -> Plan:
    exchange = SimulatedExchange(DAY, 3, CONFIG)
    wishes = [Wish(code, 1 + at % 3) for at, code in enumerate(exchange.codes)]
    return plan_capacity(wishes, DAY, 3, cap=CAP, **more)


class Recorded:
    """A day recorded over three connections."""

    def __init__(
        self,
        folder: Path,
        faults: Mapping[int, Sequence[Fault]] = {},
        replan: Callable[[int], Mapping[int, Sequence[Topic]] | None] = lambda _: None,
    ) -> None:
        self.plan = planned()
        self.person = SimulatedPerson()
        market = SimulatedMarket(SimulatedExchange(DAY, 3, CONFIG))
        lines = [self.line(number + 1, market, faults.get(number + 1, ())) for number in range(3)]
        self.feed = LiveFeed(lines, self.plan.codes(), clock=market, replan=replan)
        what = replace(record_plan(folder, 3), subscribes=True, delivered=self.plan.codes())
        self.recording = record(what, self.feed, threading.Event())
        chunks = (chunk for path in wal.segment_paths(folder / "wal") for chunk in wal.records(path))
        self.events = list(decode_chunks(chunks))

    def line(self, number: int, market: SimulatedMarket, faults: Sequence[Fault]) -> Line:
        ledger = Ledger(CAP)
        ledger.want(self.plan.topics(number - 1), market.now_ns())
        gateway = SimulatedGateway(market, person=self.person, faults=faults, topics_max=CAP)
        return Line(number, lambda now_ns: Session(ledger, now_ns=now_ns, seed=number), gateway)

    def place(self, code: str) -> int:
        return next(place.connection for place in self.plan.places if place.code == code) + 1  # type: ignore[operator]

    def quotes(self) -> list[Trade | Book]:
        return [one for one in self.events if isinstance(one, Trade | Book) and one.kind != Kind.INDEX]

    def statuses(self, kind: Kind) -> list[Status]:
        return [one for one in self.events if isinstance(one, Status) and one.kind == kind]


def test_each_connection_brings_the_codes_of_its_plan_and_all_of_them_are_recorded_whole(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    assert {place.depth for place in recorded.plan.places} == {Depth.BOOKS, Depth.INDEX}
    assert {(event.code, event.received_ns) for event in recorded.quotes()} == happened()
    assert all(event.connection == recorded.place(event.code) for event in recorded.quotes())
    assert {event.connection for event in recorded.quotes()} == {1, 2, 3}
    # Each once at first and once in the morning; and where a thin night has no quote for minutes, to be sure.
    silences = [one for one in recorded.statuses(Kind.OUTAGE) if one.text.startswith("no quote for")]
    assert len(recorded.person.logins_ns) == 3 * 2 + len(silences)
    assert len(silences) <= 3
    assert recorded.person.connections == 0, "every connection was given back"


def test_the_index_comes_every_five_seconds_while_stocks_trade_and_says_its_code(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    pushes = [one for one in recorded.events if isinstance(one, Trade) and one.kind == Kind.INDEX]
    assert {(one.code, one.connection) for one in pushes} == {("IX0001", recorded.place("IX0001"))}
    assert len({one.received_ns // (5 * SECOND_NS) for one in pushes}) == len(pushes) > 1_000
    spots = {one.underlying_price_e6 for one in recorded.quotes() if isinstance(one, Trade) and one.code == "TXFD6"}
    assert {one.price_e6 for one in pushes} <= spots
    assert all(one.low_e6 <= one.price_e6 <= one.high_e6 for one in pushes)


def test_a_connection_that_is_lost_costs_the_others_nothing(tmp_path: Path) -> None:
    begin_ns, end_ns = DAY_NS + 60 * MINUTE_NS, DAY_NS + 62 * MINUTE_NS
    recorded = Recorded(tmp_path, {2: [Fault(Trouble.FORGETS, begin_ns, end_ns)]})
    missing = happened() - {(event.code, event.received_ns) for event in recorded.quotes()}
    assert missing
    assert {recorded.place(code) for code, _ in missing} == {2}
    assert all(begin_ns <= received_ns <= end_ns + SECOND_NS for _, received_ns in missing)
    [hole] = [one for one in recorded.statuses(Kind.OUTAGE) if one.begin_ns >= begin_ns]
    assert hole.connection == 2


def test_the_audit_excuses_with_an_outage_only_what_was_on_that_connection(tmp_path: Path) -> None:
    begin_ns = DAY_NS + 60 * MINUTE_NS
    # The second connection is lost and tells; the third falls silent meanwhile, too short for the watchdog.
    lost = [Fault(Trouble.RECONNECTS, begin_ns, begin_ns + 2 * MINUTE_NS)]
    stalled = [Fault(Trouble.STALLS, begin_ns, begin_ns + 2 * MINUTE_NS)]
    recorded = Recorded(tmp_path, {2: lost, 3: stalled})
    archive_all(tmp_path / "wal", tmp_path / "archive")
    report = audit_day(tmp_path / "archive", tmp_path / "wal", DAY)
    causes = {(recorded.place(gap.symbol), gap.cause) for gap in report.gaps if gap.gap_type == "volume"}
    assert causes == {(2, "outage"), (3, "feed_loss")}
    [told] = [gap for gap in report.gaps if gap.gap_type == "outage" and gap.start_ns >= begin_ns]
    assert set(str(told.metadata["codes"]).split()) == {
        place.code for place in recorded.plan.places if place.connection == 1
    }


def test_another_plan_takes_effect_while_the_day_goes_on(tmp_path: Path) -> None:
    at_ns = DAY_NS + 90 * MINUTE_NS
    gone = [place.code for place in planned().places if place.connection == 1][-1]

    def replan(now_ns: int) -> dict[int, list[Topic]] | None:
        if now_ns < at_ns:
            return None
        return {2: [topic for topic in planned().topics(1) if topic.code != gone]}

    recorded = Recorded(tmp_path, replan=replan)
    assert recorded.recording.complete
    missing = happened() - {(event.code, event.received_ns) for event in recorded.quotes()}
    assert {code for code, _ in missing} == {gone}
    # Looked at every ten seconds, and what is on its way when it is given back still comes.
    assert all(received_ns >= at_ns for _, received_ns in missing)
    later = {one for one in happened() if one[0] == gone and one[1] > at_ns + 11 * SECOND_NS}
    assert later <= missing
    [said] = [one.text for one in recorded.statuses(Kind.CONNECTION) if "another plan" in one.text]
    assert said == "another plan: 0 topics more, 2 no longer wanted"


def threaded(*gateways: Threaded) -> LiveFeed:
    def line(number: int, gateway: Threaded) -> Line:
        ledger = Ledger()
        ledger.want([Topic("2330", Feed.TICK)], time.time_ns())
        return Line(number, lambda now_ns: Session(ledger, now_ns=now_ns, seed=number), gateway)

    return LiveFeed([line(number, one) for number, one in enumerate(gateways, start=1)], frozenset({"2330"}))


def test_in_real_time_each_connection_has_a_thread_and_a_stop_ends_all(tmp_path: Path) -> None:
    log, gateways, stop = Log(tmp_path), (Threaded(), Threaded()), threading.Event()
    feed = threaded(*gateways)
    shown: list[object] = []

    def stop_once_up() -> None:
        deadline = time.monotonic() + 8  # the next heartbeat is after 10 s
        while shown != ["up", "up"] and time.monotonic() < deadline:
            time.sleep(0.05)
            shown[:] = [one["phase"] for one in feed.connections()]
        while min(gateway.sent for gateway in gateways) <= 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()

    threading.Thread(target=stop_once_up).start()
    feed.run(Sink(log.publisher), stop, None)
    assert shown == ["up", "up"], "it is shown half a second later, not at the next heartbeat"
    events = [event for event in log.finish() if isinstance(event, Trade)]
    for number, gateway in enumerate(gateways, start=1):
        assert gateway.sent == sum(event.connection == number for event in events) > 20
        assert gateway.logouts >= 1
    assert [one["phase"] for one in feed.connections()] == ["stopped", "stopped"]


def test_a_login_that_is_refused_on_one_connection_ends_all_of_them(tmp_path: Path) -> None:
    log, good, bad = Log(tmp_path), Threaded(), Threaded(LoginRefused("the API key has expired"))
    with pytest.raises(LoginRefused, match="the API key has expired"):
        threaded(good, bad).run(Sink(log.publisher), threading.Event(), None)
    log.finish()
    assert not good.going.is_set()
    assert good.logouts >= 1


# The plan that is followed


NOON_NS = DAY_NS + 180 * MINUTE_NS


def write(folder: Path, universe: Universe) -> None:
    path = put(folder, universe)
    stamp_ns = time.time_ns()
    os.utime(path, ns=(stamp_ns, stamp_ns))


def test_a_universe_that_changes_is_planned_anew_and_who_stays_keeps_the_connection(tmp_path: Path) -> None:
    put(tmp_path, universe_of(("TXFD6", "2330", "2317")))
    said: list[str] = []
    followed = FollowedPlan(tmp_path / "universe", Shares(), NOON_NS, say=said.append)
    assert followed.look(NOON_NS) is None, "nothing has changed"
    write(tmp_path, universe_of(("TXFD6", "2330", "2454")))
    now = followed.look(NOON_NS)
    assert now is not None
    assert [{topic.code for topic in now[number]} for number in (1, 2)] == [{"TXFD6"}, {"2330", "2454", "IX0001"}]
    assert said[-1].startswith("another plan, by 2026-04-09.json")
    write(tmp_path, universe_of(("TXFD6",)))
    (tmp_path / "universe" / "2026-04-09.json").write_bytes(b"{")
    assert followed.look(NOON_NS) is None
    assert said[-1].startswith("the plan stands as it was: ")
    assert followed.plan.codes() == {"TXFD6", "2330", "2454"}


def test_as_many_connections_as_give_every_code_its_books_are_used_and_no_more(tmp_path: Path) -> None:
    def connections(codes: int, shards: int = 1) -> list[int]:
        names = [str(2_000 + at) for at in range(codes)]
        put(tmp_path, universe_of(*(tuple(names[shard::shards]) for shard in range(shards))))
        shares = [Shares(shard, shards) for shard in range(shards)]
        return [FollowedPlan(tmp_path / "universe", one, NOON_NS).plan.connections for one in shares]

    # 99 codes and the index are 199 topics.
    assert [connections(codes) for codes in (1, 99, 100, 250, 900)] == [[1], [1], [2], [3], [3]]
    assert connections(300, shards=2) == [2, 1]
    put(tmp_path, universe_of(("TXFD6", "2330")))
    assert FollowedPlan(tmp_path / "universe", Shares(), NOON_NS).plan.connections == 2, "futures and stocks apart"
    assert FollowedPlan(tmp_path / "universe", Shares(connections=1), NOON_NS).plan.connections == 1
    with pytest.raises(PlanRefused, match="4 recorders share 3 connections"):
        connections(8, shards=4)


def test_in_the_evening_the_next_trading_day_begins_with_the_universe_there_is(tmp_path: Path) -> None:
    put(tmp_path, universe_of(("TXFD6", "2330")))
    said: list[str] = []
    evening_ns = DAY_NS + 7 * 60 * MINUTE_NS  # 15:45: the night of the next trading day
    followed = FollowedPlan(tmp_path / "universe", Shares(), evening_ns, say=said.append)
    assert followed.plan.day == next_trading_day(DAY)
    assert said == [f"no universe of {next_trading_day(DAY)} yet: recording that of {DAY}"]
    with pytest.raises(UniverseMissing, match="shijim rank --day"):
        newest_universe(tmp_path / "universe", DAY + timedelta(days=40))


def test_the_night_behind_a_last_trading_day_is_of_the_next_month(tmp_path: Path) -> None:
    expiry_day = DAY.replace(day=15)  # the third Wednesday of April 2026
    codes = universe_of(("TXFD6", "TXFE6", "MXFR1", "2330"), day=expiry_day)
    assert [one.code for one in of_day(codes, expiry_day).chosen] == ["TXFD6", "TXFE6", "MXFR1", "2330"]
    after = of_day(codes, next_trading_day(expiry_day))
    assert [one.code for one in after.chosen] == ["TXFE6", "MXFR1", "2330"]


# What a person sees


def test_status_shows_each_connection_and_each_topic_that_was_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shijim_live", "record", "--broker", "simulated", "--session", "--day", str(DAY)]
    put(tmp_path, universe_of(("TXFD6", "2330", "2317", "9999")))
    options = ["--data-dir", str(tmp_path), "--events", "20000", "--speed", "1", "--metrics-port", "0"]
    recorder = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    look = [sys.executable, "-m", "shijim_live", "status", "--data-dir", str(tmp_path)]
    try:
        deadline = time.monotonic() + 30
        shown = ""
        while "9999/tick refused" not in shown:
            assert time.monotonic() < deadline, shown
            shown = subprocess.run(look, capture_output=True, text=True).stdout
        as_json = orjson.loads(subprocess.run([*look, "--json"], capture_output=True, text=True).stdout)
    finally:
        recorder.send_signal(signal.SIGTERM)
        recorder.communicate(timeout=60)
    assert "  connection 1: up: " in shown and "  connection 2: up: " in shown
    assert "; 2 of 2 topics confirmed, 1 logins" in shown and " of 7 topics confirmed, 1 logins" in shown
    assert "9999: not listed on 2026-04-09; again at " in shown
    futures, stocks = as_json["connections"]["connections"]
    assert futures["topics"]["topics"] == []
    assert {topic["topic"] for topic in stocks["topics"]["topics"]} == {"9999/tick", "9999/bid_ask"}
    assert read_connections(tmp_path, 0, recorder.pid) is None, "taken away at a clean end"
    assert recorder.returncode == 0


def test_what_a_recorder_that_died_left_behind_is_not_taken_for_the_one_that_runs(tmp_path: Path) -> None:
    write_connections(tmp_path, 0, 1, [{"number": 1, "phase": "up"}])
    assert read_connections(tmp_path, 0, os.getpid()) is not None
    assert read_connections(tmp_path, 0, os.getpid() + 1) is None
    remove_connections(tmp_path, 0)


def test_metrics_count_topics_by_where_they_stand(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "day")
    log = Log(tmp_path)
    found = list(RecorderMetrics(log.publisher, tmp_path, 0, recorded.feed.connections).collect())
    log.publisher.close()
    [topics] = [one for one in found if one.name == "shijim_topics"]
    assert isinstance(topics, GaugeMetricFamily)
    confirmed = [sample.value for sample in topics.samples if sample.labels["phase"] == "confirmed"]
    assert confirmed == [len(recorded.plan.topics(number)) for number in range(3)]
    logins = [sample.value for one in found if one.name == "shijim_connection_logins" for sample in one.samples]
    assert sum(logins) == len(recorded.person.logins_ns)


def test_more_codes_than_there_are_topics_are_recorded_by_trades_alone_and_the_rest_is_named() -> None:
    exchange = SimulatedExchange(DAY, 3, CONFIG)
    plan = plan_capacity([Wish(code) for code in exchange.codes], DAY, 1, cap=CAP)
    depths = [place.depth for place in plan.places if place.depth is not Depth.INDEX]
    assert depths == [Depth.BOOKS] * 2 + [Depth.TRADES] * 7 + [Depth.NOTHING] * 6
    assert plan.topics(0)[1:3] == [Topic(exchange.codes[0], Feed.TICK), Topic(exchange.codes[0], Feed.BOOK)]


# What no topic is left for


def test_codes_that_no_topic_is_left_for_are_asked_about_while_their_market_is_open(tmp_path: Path) -> None:
    exchange = SimulatedExchange(DAY, 3, CONFIG)
    plan = plan_capacity([Wish(code) for code in exchange.codes], DAY, 1, cap=CAP)
    market, ledger = SimulatedMarket(exchange), Ledger(CAP)
    ledger.want(plan.topics(0), market.now_ns())
    gateway = SimulatedGateway(market, topics_max=CAP)
    rounds = SnapshotRounds(plan.without, 10 * MINUTE_NS)
    line = Line(1, lambda now_ns: Session(ledger, now_ns=now_ns, seed=1), gateway, rounds=rounds)
    record(replace(record_plan(tmp_path, 3), subscribes=True), LiveFeed([line], plan.codes(), clock=market),
           threading.Event())  # fmt: skip
    chunks = (chunk for path in wal.segment_paths(tmp_path / "wal") for chunk in wal.records(path))
    events = [event for event in decode_chunks(chunks) if isinstance(event, Trade)]
    found = [event for event in events if event.kind == Kind.SNAPSHOT]
    assert {event.code for event in found} == set(plan.without()) == set(exchange.codes[9:])
    # Stocks, from 09:00 to 13:30 every ten minutes; a code has to have traded first.
    asked = {code: sorted({one.received_ns for one in found if one.code == code}) for code in plan.without()}
    assert all(24 <= len(stamps) <= 28 for stamps in asked.values())
    assert all(9.9 * MINUTE_NS < b - a < 10.5 * MINUTE_NS for s in asked.values() for a, b in pairwise(s))
    archive_all(tmp_path / "wal", tmp_path / "archive")
    lake = Lake(tmp_path / "archive")
    rows = lake.query("SELECT count() AS n, uniqExact(code) AS codes FROM snapshots").to_pylist()
    lake.close()
    assert rows == [{"n": len(found), "codes": len(plan.without())}]


def test_a_snapshot_is_recorded_whole_and_one_that_cannot_be_read_is_quarantined(tmp_path: Path) -> None:
    exchange = SimulatedExchange(DAY, 3, CONFIG)
    history = SimulatedHistory(3, CONFIG, now_ns=lambda: DAY_NS + 120 * MINUTE_NS)
    rows = history.snapshots(exchange.codes)
    assert len(rows) == len(exchange.codes)
    log = Log(tmp_path)
    sink = Sink(log.publisher).of(2)
    for number, row in enumerate(rows):
        sink.snapshot(row, 1_000 + number)
    sink.snapshot(Row(**(rows[0].dict() | {"exchange": "MARS"})), 5)
    sink.snapshot("nothing", 6)
    *events, unknown, none = log.finish()
    assert [to_snapshot_dict(event) for event in events] == [row.dict() for row in rows]  # type: ignore[arg-type]
    assert {event.connection for event in events} == {2}
    assert [(event.kind, event.received_ns) for event in (unknown, none)] == [
        (Kind.QUARANTINE, 5),
        (Kind.QUARANTINE, 6),
    ]


def test_a_budget_that_is_used_up_is_left_alone_for_a_while() -> None:
    class Empty:
        asked = 0

        def charge_now(self, _: Query) -> int:
            self.asked += 1
            raise QuotaExhausted("nothing left")

    quota = Empty()
    rounds = SnapshotRounds(lambda: ["2330"], MINUTE_NS, quota)  # type: ignore[arg-type]
    stocks_ns = DAY_NS + 60 * MINUTE_NS
    for minute in range(31):
        try:
            assert rounds.due(stocks_ns + minute * MINUTE_NS) == []
        except QuotaExhausted:
            continue
    assert quota.asked == 2


def test_more_codes_than_one_answer_holds_are_asked_about_in_turn() -> None:
    codes = [str(1_000 + at) for at in range(1_100)]
    rounds = SnapshotRounds(lambda: codes, MINUTE_NS)
    stocks_ns = DAY_NS + 60 * MINUTE_NS
    asked = [rounds.due(stocks_ns + second) for second in range(4)]
    assert [len(one) for one in asked] == [500, 500, 100, 0]
    assert [code for one in asked for code in one] == codes
    assert rounds.due(DAY_NS + 7 * 60 * MINUTE_NS) == [], "in the night no stock is open"


def test_a_question_costs_what_its_answer_brought_and_waits_for_nobody(tmp_path: Path) -> None:
    now = [DAY_NS + 180 * MINUTE_NS]
    quota = Quota(tmp_path / "quota.json", now_ns=lambda: now[0], sleep=lambda _: pytest.fail("it waited"))
    history = SimulatedHistory(3, CONFIG, now_ns=lambda: now[0])
    codes = SimulatedExchange(DAY, 3, CONFIG).codes
    rounds = SnapshotRounds(lambda: codes, MINUTE_NS, quota)
    for _ in range(3):
        rows = history.snapshots(rounds.due(now[0]))
        rounds.answered(rows)
        now[0] = rounds.next_ns(now[0])
    assert quota.spent().bytes == 3 * sum(len(row) for row in rows) * VALUE_BYTES < 10_000
    for _ in range(QUERIES_MAX):
        quota.charge_now(Query.SCANNERS)
    assert rounds.due(now[0]) == [], "others have asked so much"
    assert 0 < rounds.next_ns(now[0]) - now[0] <= QUERY_WINDOW_NS
    now[0] = rounds.next_ns(now[0])
    assert rounds.due(now[0]) == list(codes)
    assert rounds.due(now[0] - 3_600 * SECOND_NS) == list(codes), "a clock that was set back does not stop it"


# What must not end a recording


def test_a_login_that_cannot_be_counted_is_tried_later_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "no folder").write_text("")  # every write fails, as on a full disk
    log, gateway, stop = Log(tmp_path), Threaded(), threading.Event()
    ledger = Ledger()
    ledger.want([Topic("2330", Feed.TICK)], time.time_ns())
    line = Line(1, lambda now_ns: Session(ledger, now_ns=now_ns, seed=1), gateway)
    feed = LiveFeed([line], frozenset({"2330"}), leases=Leases(tmp_path / "no folder" / "market"))
    threading.Timer(0.5, stop.set).start()
    feed.run(Sink(log.publisher), stop, None)
    assert gateway.logins == 0
    said = [event.text for event in log.finish() if isinstance(event, Status) and event.kind == Kind.CONNECTION]
    assert any("Not a directory" in text and "again in " in text for text in said)


def test_snapshots_that_cannot_be_counted_cost_themselves_alone(tmp_path: Path) -> None:
    (tmp_path / "no folder").write_text("")
    log, gateway, stop = Log(tmp_path), Threaded(), threading.Event()
    ledger = Ledger()
    ledger.want([Topic("2330", Feed.TICK)], time.time_ns())
    quota = Quota(tmp_path / "no folder" / "market" / "quota.json")
    always = SnapshotRounds(lambda: ["2330"], SECOND_NS, quota)
    always._left = ["2330"]  # whatever the hour is while this runs
    line = Line(1, lambda now_ns: Session(ledger, now_ns=now_ns, seed=1), gateway, rounds=always)
    threading.Timer(0.7, stop.set).start()
    LiveFeed([line], frozenset({"2330"})).run(Sink(log.publisher), stop, None)
    events = log.finish()
    assert sum(isinstance(event, Trade) for event in events) == gateway.sent > 20
    assert any("Not a directory" in event.text for event in events if isinstance(event, Status))


def test_a_universe_of_a_closed_day_neither_ends_a_recorder_nor_keeps_one_from_starting(tmp_path: Path) -> None:
    put(tmp_path, universe_of(("TXFD6", "2330")))
    said: list[str] = []
    followed = FollowedPlan(tmp_path / "universe", Shares(), NOON_NS, say=said.append)
    path = tmp_path / "universe" / "2026-04-09.json"
    path.write_text(path.read_text().replace("2026-04-09", "2026-04-11"))  # a slip: a Saturday
    assert followed.look(NOON_NS) is None
    assert "2026-04-11" in said[-1] and said[-1].startswith("the plan stands as it was: ")
    path.unlink()
    path.mkdir()
    assert followed.look(NOON_NS) is None
    path.rmdir()
    put(tmp_path, universe_of(("TXFD6", "2330")))
    (tmp_path / "universe" / "2026-04-11.json").write_text("ranked before the exchanges were closed")
    assert newest_universe(tmp_path / "universe", DAY + timedelta(days=2)).name == "2026-04-09.json"


def test_a_continuous_code_of_the_universe_is_recorded_by_its_dated_one(tmp_path: Path) -> None:
    put(tmp_path, universe_of(("TXFR1", "2330")))
    command = [sys.executable, "-m", "shijim_live", "record", "--broker", "simulated", "--session", "--day", str(DAY),
               "--events", "20000", "--data-dir", str(tmp_path), "--metrics-port", "0", "--quiet"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    chunks = (chunk for path in wal.segment_paths(tmp_path / "wal") for chunk in wal.records(path))
    quotes = [event for event in decode_chunks(chunks) if isinstance(event, Trade | Book)]
    assert {event.code for event in quotes if event.kind != Kind.INDEX} == {"TXFD6", "2330"}


def test_an_outage_of_a_connection_that_confirmed_nothing_is_of_every_code(tmp_path: Path) -> None:
    at_ns = ns("2026-04-09 08:50:00")
    confirmed = Status(kind=Kind.SUBSCRIPTION, received_ns=at_ns, value=1, text="2330/tick confirmed", connection=1)
    hole = outage("2026-04-09 10:00:00", "2026-04-09 10:10:00", "session down")
    holes = [replace(hole, connection=number) for number in (0, 1, 2)]
    write_log(tmp_path / "wal", [confirmed, *trades("2330", "2026-04-09 09:00:00", [1] * 5), *holes])
    archive_all(tmp_path / "wal", tmp_path / "archive")
    found = outages_of(Manifests(tmp_path / "archive"), DAY)
    # Of the whole recorder, of one whose codes are known, and of one that never came so far.
    assert [one.codes for one in found] == [None, {"2330"}, None]
    assert [one.concerns("2317") for one in found] == [True, False, True]
