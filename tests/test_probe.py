"""`shijim-live probe`: what it measures is what happened, on the simulated exchange and on threads of its own."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import orjson
import pytest
from test_live_feed import stock_day
from test_login import WELL_FORMED
from test_record import live

from shijim_live.broker.gateway import Feed, Listener, LoginLater, Topic
from shijim_live.broker.leases import Leases
from shijim_live.broker.live import SystemClock
from shijim_live.broker.orders import Side, StockRequest
from shijim_live.broker.probe import (
    BOOK_DELAY,
    CALLBACK,
    CANCELLED,
    CONFIRMED,
    FIRST_QUOTE,
    GIVEN_BACK,
    LOGIN,
    PLACED,
    REPORTED,
    TRADE_DELAY,
    Measure,
    Probed,
    ProbeFailed,
    order_measures,
    probe,
)
from shijim_live.broker.shioaji import quote_classes
from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig
from shijim_live.broker.simulated_gateway import (
    ANSWER_NS_MAX,
    LOGIN_NS,
    Fault,
    SimulatedGateway,
    SimulatedPerson,
    Trouble,
)
from shijim_live.broker.simulated_market import SimulatedMarket
from shijim_live.broker.simulated_order_faults import OrderFaults
from shijim_live.broker.simulated_trading import SimulatedOrders, simulated_trading
from shijim_live.calendar import MINUTE_NS, SECOND_NS, Market, session_bounds, to_exchange_ns
from shijim_pipelines import cli

DAY = date(2026, 4, 9)
CONFIG = SimulationConfig(target_events=60_000).without_faults()
FROM_NS = session_bounds(DAY, Market.STOCK)[0].open_ns + 30 * MINUTE_NS
TICK, BOOK = Topic("2330", Feed.TICK), Topic("2330", Feed.BOOK)


def measured(*faults: Fault, seconds: int = 600, **more: object) -> Probed:
    market = SimulatedMarket(SimulatedExchange(DAY, 1, CONFIG))
    gateway = SimulatedGateway(market, faults=faults, **more)  # type: ignore[arg-type]
    wanted = {"seconds": seconds, "rounds": 3, "stop": threading.Event(), "from_ns": FROM_NS}
    return probe(gateway, lambda _: market, (TICK, BOOK), **wanted)  # type: ignore[arg-type]


def test_the_delays_are_those_of_the_simulated_feed() -> None:
    found = measured()
    truth = SimulatedExchange(DAY, 1, CONFIG).truth()
    number = truth["codes"].index("2330")
    for name, table in ((TRADE_DELAY, "trades"), (BOOK_DELAY, "books")):
        columns = truth[table]  # type: ignore[literal-required]
        types = {"instrument": "<u2", "exchange_ns": "<i8", "received_ns": "<i8"}
        code, exchange, received = (np.frombuffer(columns[field], kind) for field, kind in types.items())
        delays = (received - exchange)[code == number].tolist()
        heard = found.of(name).values_ns
        assert 50 < len(heard) < len(delays) and set(heard) <= set(delays)
    assert len(found.of(CALLBACK).values_ns) == sum(len(found.of(name).values_ns) for name in (TRADE_DELAY, BOOK_DELAY))
    assert found.of(LOGIN).values_ns == (LOGIN_NS,)
    for name, count in ((CONFIRMED, 8), (GIVEN_BACK, 8), (FIRST_QUOTE, 6)):  # 2 topics, 3 rounds, and to listen
        assert len(found.of(name).values_ns) == count and found.of(name).values_ns[0] > 0
    assert found.of(CONFIRMED).values_ns[-1] <= ANSWER_NS_MAX
    assert found.remarks == ()


def test_the_same_seed_gives_the_same_figures_but_for_the_machines_own() -> None:
    first, again = (
        {measure.name: measure.values_ns for measure in measured().measures if measure.name != CALLBACK} for _ in "12"
    )
    assert first == again


def test_quantiles_are_values_that_were_measured() -> None:
    assert Measure("x", tuple(range(1, 101))).figures_ns() == {
        "n": 100, "min": 1, "median": 50, "p90": 90, "p99": 99, "max": 100,
    }  # fmt: skip
    assert Measure("x", (7,)).figures_ns() == {"n": 1, "min": 7, "median": 7, "p90": 7, "p99": 7, "max": 7}
    assert set(Measure("x", ()).figures_ns().values()) == {0, None}


def test_a_code_without_quotes_is_a_remark_and_no_latency() -> None:
    quiet = SimulatedMarket(SimulatedExchange(DAY, 1, replace(CONFIG, target_events=60)))
    found = probe(SimulatedGateway(quiet), lambda _: quiet, (Topic("3008", Feed.TICK),), seconds=5, rounds=2,
                  stop=threading.Event(), from_ns=FROM_NS)  # fmt: skip
    assert found.of(FIRST_QUOTE).values_ns == () == found.of(TRADE_DELAY).values_ns
    assert found.remarks == ("3008/tick: no quote within 60 s, 2 times",)


def ordered(folder: Path, rounds: int = 10, **faults: int) -> tuple[dict[str, Measure], SimulatedOrders]:
    client = SimulatedOrders(SimulatedExchange(DAY, 1, CONFIG), faults=OrderFaults(**faults))
    client.advance(FROM_NS)
    trading = simulated_trading(client, folder / "orders.json")
    request = StockRequest(code="2330", side=Side.BUY, quantity=1, price_e6=1_400_000_000)
    found = order_measures(trading, request, rounds, client.clock, lambda ns: client.advance(client.now_ns + ns))
    return {measure.name: measure for measure in found}, client


def test_orders_are_placed_reported_and_taken_back_and_each_way_is_measured(tmp_path: Path) -> None:
    found, client = ordered(tmp_path)
    assert [len(found[name].values_ns) for name in (PLACED, REPORTED, CANCELLED)] == [10, 10, 10]
    assert all(0 < value < SECOND_NS for measure in found.values() for value in measure.values_ns)
    assert [report.kind for report in client.reports].count("cancelled") == 10
    assert client.fills == []


def test_an_order_that_is_not_taken_or_not_told_of_is_no_latency(tmp_path: Path) -> None:
    with pytest.raises(ProbeFailed, match=r"was not taken: .*acknowledgement"):
        ordered(tmp_path, unknown=1_000)
    with pytest.raises(ProbeFailed, match="nothing was told of order"):
        ordered(tmp_path, lost=1_000)


def test_orders_are_measured_on_the_test_service_alone(tmp_path: Path) -> None:
    environment = os.environ | WELL_FORMED | {"SHIOAJI_SIMULATION": "false"}
    done = live("probe", "--broker", "shioaji", "--orders", "5", cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert "test service alone" in done.stderr


@pytest.mark.parametrize(
    ("fault", "more", "message"),
    [
        ([Fault(Trouble.DROPS, FROM_NS + 5 * MINUTE_NS, FROM_NS + 60 * MINUTE_NS)], {}, "the connection was lost"),
        ([], {"topics_max": 1}, "2330/bid_ask was refused: 400 Max Num Subscriptions Exceeded"),
    ],
)
def test_what_cannot_be_measured_is_said_and_the_connection_given_back(
    fault: list[Fault], more: dict[str, int], message: str
) -> None:
    person = SimulatedPerson()
    with pytest.raises(ProbeFailed, match=message):
        measured(*fault, person=person, **more)
    assert person.connections == 0 and len(person.logins_ns) == 1


def test_a_login_is_charged_and_none_is_made_where_the_person_was_sent_away(tmp_path: Path) -> None:
    leases, gateway = Leases(tmp_path), OnThreads()
    answered = probe(gateway, SystemClock, (TICK,), seconds=1, rounds=1, stop=threading.Event(), leases=leases)
    assert len(leases.logins()) == 1 and answered.of(TRADE_DELAY).values_ns
    leases.sent_away(90 * SECOND_NS)
    with pytest.raises(LoginLater, match="too often; again in"):
        probe(gateway, SystemClock, (TICK,), seconds=1, rounds=1, stop=threading.Event(), leases=leases)
    assert gateway.logins == 1


ANSWER_SECONDS, DELAY_NS = 0.03, 25_000_000


class OnThreads:
    """A connection whose answers and quotes come on threads, late by what is known."""

    def __init__(self) -> None:
        self.logins = 0
        self.on = threading.Event()
        self.thread: threading.Thread | None = None

    def login(self, *, force_refresh: bool) -> None:
        self.logins += 1
        time.sleep(0.05)

    def listen(self, listener: Listener) -> None:
        self.listener = listener

    def _answer(self, on: bool) -> None:
        def answer() -> None:
            time.sleep(ANSWER_SECONDS)
            self.listener.event(200, 16, "TIC/v1/STK/*/TSE/2330", "Subscribe or Unsubscribe ok")

        threading.Thread(target=answer).start()
        if on:
            self.on.set()
            self.thread = threading.Thread(target=self._push)
            self.thread.start()
        else:
            self.on.clear()

    def _push(self) -> None:
        time.sleep(2 * ANSWER_SECONDS)
        payload = next(payload for kind, _, _, payload in stock_day().deliveries().next_batch(4_096) if kind == 0)
        while self.on.is_set():
            quote = quote_classes().tick_stk.from_msgpack(payload)
            self.listener.quote(quote, to_exchange_ns(quote.datetime) + DELAY_NS)
            time.sleep(0.01)

    def subscribe(self, topic: Topic) -> None:
        self._answer(on=True)

    def unsubscribe(self, topic: Topic) -> None:
        self._answer(on=False)
        assert self.thread is not None
        self.thread.join()

    def logout(self) -> None:
        self.on.clear()


def test_on_threads_and_the_machines_clock_each_time_is_at_least_what_it_took() -> None:
    found = probe(OnThreads(), SystemClock, (TICK,), seconds=1, rounds=2, stop=threading.Event())
    assert 50_000_000 <= found.of(LOGIN).values_ns[0] < 2 * SECOND_NS
    for name in (CONFIRMED, GIVEN_BACK):
        assert len(found.of(name).values_ns) == 3
        assert all(ANSWER_SECONDS * 1e9 <= ns < 2 * SECOND_NS for ns in found.of(name).values_ns)
    assert set(found.of(TRADE_DELAY).values_ns) == {DELAY_NS}
    assert 10 < len(found.of(CALLBACK).values_ns) <= 100


# The command


def test_the_table_names_every_figure_and_says_whose_times_they_are(tmp_path: Path) -> None:
    done = live("probe", "--day", str(DAY), "--seconds", "120", "--rounds", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("login", "subscribe → confirmed", "exchange → received, trades", "jitter", "callback"):
        assert name in done.stdout
    assert done.stdout.splitlines()[2].split() == ["ms", "n", "min", "median", "p90", "p99", "max"]
    assert "they say nothing of a broker" in done.stdout and "orders are not measured" in done.stdout


def test_the_file_is_a_feed_latency_that_a_dataset_takes(tmp_path: Path) -> None:
    out = tmp_path / "latency.json"
    done = live("probe", "--day", str(DAY), "--json", "--out", str(out), cwd=tmp_path)
    assert orjson.loads(done.stdout) == (written := orjson.loads(out.read_bytes()))
    assert written["clock"] == "simulated" and written["order_latency_ns"] is None
    assert written["feed_latency_ns"] == written["measures"]["trade_delay"]["median"]
    wanted = cli.parser().parse_args(["dataset", "--day", str(DAY), "--symbol", "2330", "--feed-latency-ms", str(out)])
    assert wanted.feed_latency_ms == written["feed_latency_ns"]


@pytest.mark.parametrize(("contents", "message"), [("{}", "is no file of shijim-live probe"),
                                                   ('{"feed_latency_ns":null}', "holds no feed latency")])  # fmt: skip
def test_a_file_that_is_no_probe_is_refused(
    contents: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "latency.json"
    path.write_text(contents)
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["dataset", "--day", str(DAY), "--symbol", "2330", "--feed-latency-ms", str(path)])
    assert message in capsys.readouterr().err


def test_the_broker_is_not_probed_from_a_test(tmp_path: Path) -> None:

    keys = {"SHIOAJI_API_KEY": "1" * 44, "SHIOAJI_SECRET_KEY": "4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi"}
    done = live("probe", "--broker", "shioaji", cwd=tmp_path, env=os.environ | keys)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("shijim-live: no login: ") and done.stderr.count("\n") == 1
    done = live("probe", "--symbol", "9999", "--day", str(DAY), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (4, "shijim-live: 9999: not listed on 2026-04-09\n")
