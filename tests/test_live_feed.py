"""The loop around a session in real time: the broker's threads on one side, the log on the other; and the command."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import orjson
import pytest
from plain_ledger import PlainLedger
from test_publisher import Log
from test_session_day import CONFIG, DAY

from shijim_live.broker.gateway import Feed, GatewayError, Listener, LoginLater, LoginRefused, Topic
from shijim_live.broker.leases import Leases
from shijim_live.broker.live import INBOX_MAX, Inbox, Line, LiveFeed
from shijim_live.broker.session import Session
from shijim_live.broker.session_steps import SessionDown
from shijim_live.broker.shioaji import quote_classes
from shijim_live.broker.simulated import SimulatedExchange
from shijim_live.calendar import SECOND_NS, to_exchange_ns
from shijim_live.cli_live import require_market
from shijim_live.events import Kind, Status, Trade
from shijim_live.record import wal
from shijim_live.record.sink import Sink
from shijim_live.record.space import RecordError

ROOT = Path(__file__).parents[1]
TICK = Topic("2330", Feed.TICK)


class Threaded:
    """A gateway whose quotes and events come on threads of its own, as the SDK's do."""

    def __init__(self, *answers: GatewayError | None) -> None:
        self.answers = list(answers)
        self.logins = self.logouts = self.sent = 0
        self.logged_out_by_broker = False
        self.listener: Listener | None = None
        self.going = threading.Event()
        self.thread: threading.Thread | None = None

    def login(self, *, force_refresh: bool) -> None:
        self.logins += 1
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer

    def listen(self, listener: Listener) -> None:
        self.listener = listener
        self.going.set()
        self.thread = threading.Thread(target=self._push, args=(listener,))
        self.thread.start()

    def _push(self, listener: Listener) -> None:
        decode = quote_classes().tick_stk.from_msgpack
        payloads = [payload for kind, _, _, payload in stock_day().deliveries().next_batch(4_096) if kind == 0]
        listener.event(200, 16, "TIC/v1/STK/*/TSE/2330", "Subscribe or Unsubscribe ok")
        while self.going.is_set():
            listener.quote(decode(payloads[self.sent % len(payloads)]), time.time_ns())
            self.sent += 1
            time.sleep(0.001)

    def subscribe(self, topic: Topic) -> None:
        if self.logged_out_by_broker:
            self.logged_out_by_broker = False
            raise GatewayError("the login is not taken any more")

    def unsubscribe(self, topic: Topic) -> None: ...

    def logout(self) -> None:
        self.logouts += 1
        self.going.clear()
        if self.thread is not None:
            self.thread.join()


def stock_day() -> SimulatedExchange:
    listed = tuple(traded for traded in CONFIG.instruments if traded.code == "2330")
    return SimulatedExchange(DAY, 1, replace(CONFIG, instruments=listed, target_events=5_000))


def live(gateway: Threaded, *, leases: Leases | None = None) -> tuple[LiveFeed, PlainLedger]:
    ledger = PlainLedger(frozenset({TICK}))
    line = Line(1, lambda now_ns: Session(ledger, now_ns=now_ns, seed=1), gateway)
    feed = LiveFeed([line], frozenset({"2330"}), leases=leases)
    return feed, ledger


def test_quotes_of_the_brokers_threads_are_recorded_until_a_stop_which_is_quick(tmp_path: Path) -> None:
    log, gateway, stop = Log(tmp_path), Threaded(), threading.Event()
    feed, ledger = live(gateway)
    threading.Timer(0.5, stop.set).start()
    started = time.monotonic()
    feed.run(Sink(log.publisher), stop, None)
    assert time.monotonic() - started < 3
    events = log.finish()
    assert gateway.sent == sum(isinstance(event, Trade) for event in events) > 20
    assert ledger.held == {TICK}
    assert gateway.logouts >= 1
    told = [(event.kind, event.text) for event in events if isinstance(event, Status)]
    assert told == [
        (Kind.CONNECTION, "not logged in yet"),
        (Kind.OUTAGE, "not logged in yet"),
        (Kind.CONNECTION, "logged in with a fresh token"),
        (Kind.SUBSCRIPTION, "2330/tick confirmed"),
    ]


def test_a_refused_login_ends_the_feed_with_the_reason_and_the_hole_is_in_the_log(tmp_path: Path) -> None:
    log, gateway = Log(tmp_path), Threaded(LoginRefused("the API key has expired"))
    feed, _ = live(gateway)
    with pytest.raises(LoginRefused, match="the API key has expired"):
        feed.run(Sink(log.publisher), threading.Event(), None)
    assert gateway.logins == 1
    assert [event.kind for event in log.finish() if isinstance(event, Status)][-1] == Kind.OUTAGE


def test_a_login_is_charged_to_the_person_and_being_sent_away_is_told_to_the_others(tmp_path: Path) -> None:
    leases = Leases(tmp_path / "market")
    log, gateway, stop = Log(tmp_path), Threaded(LoginLater("503: suspended", 90 * SECOND_NS)), threading.Event()
    feed, _ = live(gateway, leases=leases)
    threading.Timer(0.5, stop.set).start()
    feed.run(Sink(log.publisher), stop, None)
    log.finish()
    assert len(leases.logins()) == gateway.logins == 1
    assert 60 * SECOND_NS < leases.charge_login() <= 90 * SECOND_NS


def test_a_login_that_the_broker_has_forgotten_is_made_again(tmp_path: Path) -> None:
    log, gateway, stop = Log(tmp_path), Threaded(), threading.Event()
    gateway.logged_out_by_broker = True
    feed, ledger = live(gateway)
    threading.Timer(9, stop.set).start()
    feed.run(Sink(log.publisher), stop, None)
    assert gateway.logins == 2
    assert ledger.held == {TICK}
    outages = [event.text for event in log.finish() if isinstance(event, Status) and event.kind == Kind.OUTAGE]
    assert outages == ["not logged in yet", "the login is not taken any more"]


def test_a_log_that_cannot_go_on_ends_the_feed_loudly(tmp_path: Path) -> None:
    log, gateway = Log(tmp_path), Threaded()
    feed, _ = live(gateway)

    def broken(delivered: object, received_ns: int) -> None:
        raise RuntimeError("the log thread has died")

    class Broken(Sink):
        def of(self, number: int) -> Sink:
            sink = super().of(number)
            sink.quote = broken
            return sink

    with pytest.raises(RuntimeError, match="the log thread has died"):
        feed.run(Broken(log.publisher), threading.Event(), None)
    assert not gateway.going.is_set()
    log.finish()


def test_an_inbox_that_nobody_empties_is_bounded_and_counts() -> None:
    inbox = Inbox()
    for _ in range(INBOX_MAX + 5):
        inbox.put(SessionDown())
    assert (inbox.count_dropped(), inbox.count_dropped()) == (5, 0)


# What is refused at start


def at(text: str) -> int:
    return to_exchange_ns(datetime.fromisoformat(text))


FUTURES = frozenset({Topic("TXFD6", Feed.TICK)})
STOCKS = frozenset({Topic("2330", Feed.TICK)})


@pytest.mark.parametrize(
    ("now", "topics"),
    [
        ("2026-04-09 10:00", STOCKS),
        ("2026-04-09 07:00", STOCKS),
        ("2026-04-09 13:50", FUTURES),
        ("2026-04-09 14:00", STOCKS),
    ],
)
def test_a_recorder_starts_while_the_market_is_open_or_will_be_soon(now: str, topics: frozenset[Topic]) -> None:
    require_market(topics, at(now), simulation=False)


@pytest.mark.parametrize(
    ("now", "opens"), [("2026-04-11 06:00", "2026-04-13 at 08:45"), ("2026-04-03 09:00", "2026-04-07 at 08:45")]
)
def test_a_closed_exchange_is_refused_with_the_hour_at_which_it_opens(now: str, opens: str) -> None:
    with pytest.raises(RecordError, match=opens):
        require_market(FUTURES, at(now), simulation=False)


@pytest.mark.parametrize("now", ["2026-04-09 07:59", "2026-04-09 20:00"])
def test_the_test_service_has_hours_of_its_own(now: str) -> None:
    require_market(FUTURES, at(now), simulation=False)
    with pytest.raises(RecordError, match="SHIOAJI_SIMULATION=false"):
        require_market(FUTURES, at(now), simulation=True)


# The command


def recorded(folder: Path, *more: str) -> list[bytes]:
    command = [
        *(sys.executable, "-m", "shijim_live", "record", "--broker", "simulated", "--session", "--seed", "4"),
        *("--day", str(date(2026, 4, 9)), "--events", "20000", "--data-dir", str(folder), "--metrics-port", "0", *more),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [chunk for path in wal.segment_paths(folder / "wal") for chunk in wal.records(path)]


def test_a_simulated_day_through_a_session_is_the_same_day_each_time(tmp_path: Path) -> None:
    one, two = (b"".join(recorded(tmp_path / name)) for name in ("one", "two"))
    assert one == two
    assert one != b"".join(recorded(tmp_path / "three", "--startup-jitter-seconds", "60"))
    header = wal.read_header(wal.segment_paths(tmp_path / "one" / "wal")[0])
    assert header.source == "simulated"
    assert orjson.loads(wal.open_segment(header.path)[0].header)["config"]["session"] is True
