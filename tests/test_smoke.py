"""`shijim-live smoke`: the broker's API test, on the simulated exchange; and that it goes nowhere else from here."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path

import orjson
import pytest
from test_login import WELL_FORMED

from shijim_live.broker.leases import Leases
from shijim_live.broker.orders import WORKING, OrderStatus, Side, StockRequest
from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig
from shijim_live.broker.simulated_gateway import SimulatedGateway, SimulatedPerson
from shijim_live.broker.simulated_market import SimulatedMarket
from shijim_live.broker.simulated_order_faults import OrderFaults
from shijim_live.broker.simulated_trading import SimulatedOrders, simulated_trading
from shijim_live.broker.smoke import Smoke, Step
from shijim_live.broker.trading import AccountKind
from shijim_live.calendar import MINUTE_NS, Market, session_bounds, to_exchange_ns
from shijim_live.cli_live import require_test_service
from shijim_live.cli_smoke import describe
from shijim_live.record.space import RecordError

DAY = date(2026, 4, 9)
FROM_NS = session_bounds(DAY, Market.STOCK)[0].open_ns + 30 * MINUTE_NS
CODES = {AccountKind.STOCK: "2330", AccountKind.FUTURES: "MXFD6"}
STEPS = ["login", "quotes", "trading", "accounts", "order, stock account", "order, futures account"]


class Smoked:
    """A test on the simulated exchange, and what is left of it there."""

    def __init__(
        self,
        folder: Path,
        faults: OrderFaults | None = None,
        codes: Mapping[AccountKind, str] = CODES,
        person: SimulatedPerson | None = None,
        leases: Leases | None = None,
        stopped: bool = False,
        before: StockRequest | None = None,
        client: type[SimulatedOrders] = SimulatedOrders,
        from_ns: int = FROM_NS,
    ) -> None:
        exchange = SimulatedExchange(DAY, 1, SimulationConfig().without_faults())
        market, self.client = SimulatedMarket(exchange), client(exchange, faults=faults)
        self.client.advance(from_ns)
        self.person = person or SimulatedPerson()
        self.trading = simulated_trading(self.client, folder / "orders.json")
        if before is not None:
            self.trading.place(before)
            self.client.advance(self.client.now_ns + MINUTE_NS)
            self.trading.events.drain()
        stop = threading.Event()
        if stopped:
            stop.set()
        smoke = Smoke(
            SimulatedGateway(market, person=self.person),
            lambda: self.trading,
            lambda _: market,
            lambda ns: self.client.advance(self.client.now_ns + ns),
            codes=dict(codes),
            stop=stop,
            leases=leases,
        )
        self.steps: list[Step] = smoke.run(from_ns)

    def failed(self) -> dict[str, str]:
        return {step.name: step.said for step in self.steps if not step.passed}


def test_every_step_passes_and_no_order_and_no_connection_is_left(tmp_path: Path) -> None:
    tested = Smoked(tmp_path)
    assert [step.name for step in tested.steps] == STEPS
    assert tested.failed() == {}
    assert len(tested.trading.orders()) == 2
    assert {order.status for order in tested.trading.orders()} == {OrderStatus.CANCELLED}
    assert tested.client.fills == []
    assert tested.person.connections == 0
    said = describe(tested.steps, "shioaji").splitlines()
    assert said[-1].startswith("passed: the broker looks at the test")
    assert len(said) == len(STEPS) + 1


def test_a_code_the_broker_does_not_know_fails_its_own_steps_and_the_others_are_tried(tmp_path: Path) -> None:
    tested = Smoked(tmp_path, codes=CODES | {AccountKind.STOCK: "9999"})
    assert tested.failed().keys() == {"quotes", "order, stock account"}
    assert "9999" in tested.failed()["quotes"] and "no snapshot" in tested.failed()["order, stock account"]
    assert tested.steps[-1] == Step("order, futures account", True, tested.steps[-1].said)
    assert describe(tested.steps, "shioaji").endswith("not passed: correct what failed, then run it again")


def test_an_order_whose_fate_is_unknown_fails_its_step_and_is_not_sent_again(tmp_path: Path) -> None:
    tested = Smoked(tmp_path, OrderFaults(unknown=1_000))
    assert tested.failed().keys() == {"order, stock account", "order, futures account"}
    assert "acknowledgement" in tested.failed()["order, stock account"]
    assert len(tested.client.reports) <= 4, "one order each, no more"


def test_an_order_of_which_nothing_is_told_fails_its_step(tmp_path: Path) -> None:
    # The first event of a stream always comes: it is that of an order before the test.
    before = StockRequest(code="2330", side=Side.BUY, quantity=1, price_e6=1_400_000_000)
    tested = Smoked(tmp_path, OrderFaults(lost=1_000), before=before)
    assert tested.failed().keys() == {"order, stock account"}
    assert "no event" in tested.failed()["order, stock account"]


def test_no_order_is_left_working_whatever_became_of_its_report_or_its_fate(tmp_path: Path) -> None:
    before = StockRequest(code="2330", side=Side.SELL, quantity=1, price_e6=1_500_000_000)
    for at, faults in enumerate((OrderFaults(lost=1_000), OrderFaults(unknown=1_000), OrderFaults(malformed=1_000))):
        (tmp_path / str(at)).mkdir()
        tested = Smoked(tmp_path / str(at), faults, before=before if faults.unknown == 0 else None)
        assert tested.failed()
        ours = [order for order in tested.trading.orders() if order.side is Side.BUY]
        assert [order for order in ours if order.status in WORKING] == []


def test_an_order_that_stays_fails_its_step(tmp_path: Path) -> None:
    class Deaf(SimulatedOrders):
        """A broker that never answers a cancel."""

        def cancel_order(self, trade: object, timeout: int = 30_000, cb: object = None) -> object:
            raise TimeoutError("no answer to the cancel")

    tested = Smoked(tmp_path, client=Deaf)
    assert tested.failed().keys() == {"order, stock account", "order, futures account"}
    assert all("NOT taken back" in said for said in tested.failed().values())


def test_an_order_that_the_exchange_refuses_fails_its_step(tmp_path: Path) -> None:
    night_ns = session_bounds(DAY, Market.FUTURES)[0].open_ns + 30 * MINUTE_NS
    tested = Smoked(tmp_path, from_ns=night_ns)
    assert tested.failed().keys() == {"order, stock account"}
    assert "closed" in tested.failed()["order, stock account"]


def test_a_refused_login_ends_it_and_gives_the_connection_back(tmp_path: Path) -> None:
    person = SimulatedPerson()
    person.offences = 4
    tested = Smoked(tmp_path, person=person)
    assert [step.name for step in tested.steps] == ["login"]
    assert "banned" in tested.failed()["login"]
    assert person.connections == 0


def test_its_login_is_charged_to_the_person_and_waits_as_every_other(tmp_path: Path) -> None:
    leases = Leases(tmp_path / "market")
    assert Smoked(tmp_path, leases=leases).failed() == {}
    assert len(leases.logins()) == 1
    leases.sent_away(90_000_000_000)
    tested = Smoked(tmp_path, leases=leases)
    assert "logged in too often" in tested.failed()["login"]
    assert len(leases.logins()) == 1


def test_a_stop_ends_it_before_anything_is_done(tmp_path: Path) -> None:
    tested = Smoked(tmp_path, stopped=True)
    assert tested.failed() == {"login": "stopped before it"}
    assert tested.person.logins_ns == []


def test_the_test_service_is_not_dialled_outside_of_its_hours() -> None:
    def at(text: str) -> int:
        return to_exchange_ns(datetime.fromisoformat(text))

    require_test_service(at("2026-04-09 08:00"))
    for shut in ("2026-04-09 07:59", "2026-04-09 20:00", "2026-04-11 10:00"):
        with pytest.raises(RecordError, match="Monday to Friday from 08:00 to 20:00"):
            require_test_service(at(shut))


# The command


def smoke(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("SHIOAJI_")} | environment
    command = [sys.executable, "-m", "shijim_live", "smoke", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=known)


def test_the_command_practises_on_the_simulated_exchange() -> None:
    done = smoke("--broker", "simulated", "--day", str(DAY), "--json")
    assert done.returncode == 0, done.stderr
    found = orjson.loads(done.stdout)
    assert found["passed"] is True
    assert [step["name"] for step in found["steps"]] == STEPS
    failing = smoke("--broker", "simulated", "--day", str(DAY), "--stock", "9999")
    assert failing.returncode == 4
    assert "FAILED  quotes" in failing.stdout


@pytest.mark.parametrize(
    ("environment", "options", "said"),
    [
        ({}, [], "SHIOAJI_API_KEY is not set"),
        (WELL_FORMED | {"SHIOAJI_SECRET_KEY": "0OIl"}, [], "SHIOAJI_SECRET_KEY is malformed"),
        (WELL_FORMED | {"SHIOAJI_SIMULATION": "false"}, [], "SHIOAJI_SIMULATION is off: smoke places orders"),
        (WELL_FORMED, ["--day", "2026-04-09"], "--day is for the simulated exchange"),
        (WELL_FORMED, [], "no login: "),
    ],
)
def test_it_dials_nobody_from_here_and_never_the_market(
    environment: dict[str, str], options: list[str], said: str
) -> None:
    done = smoke(*options, **environment)
    assert done.returncode in (2, 4)
    assert said in done.stderr
    assert done.stdout == ""
