"""Orders of real money need leave of their own, nobody asks faster than the broker takes, accounts are read whole."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import fields
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pytest

from shijim_live.broker.account_reads import (
    account_of,
    balance_of,
    health_of,
    limits_of,
    margin_of,
    position_of,
    profit_of,
    settlement_of,
)
from shijim_live.broker.gateway import GatewayError
from shijim_live.broker.history import Row
from shijim_live.broker.login import LoginForbidden, OrdersForbidden, OrdersToken, allow_orders
from shijim_live.broker.order_budget import (
    OPERATION_WINDOW_NS,
    OPERATIONS_MAX,
    PLACES_MAX,
    QUERIES_MAX,
    QUERY_WINDOW_NS,
    OrderBudget,
)
from shijim_live.broker.order_events import OrderReport
from shijim_live.broker.orders import Accepted, Condition, Side, StockRequest
from shijim_live.broker.shioaji import ShioajiGateway, order_classes
from shijim_live.broker.shioaji_orders import ShioajiTrading
from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig
from shijim_live.broker.simulated_trading import SimulatedOrders
from shijim_live.broker.trading import AccountKind, Health, HealthState, Margin, TradingLimits
from shijim_live.calendar import SECOND_NS
from shijim_live.settings import Settings

ROOT = Path(__file__).parents[1]
KEY, SECRET = "DummyKeyDummyKeyDummyKeyDummyKeyDummyKey1234", "4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi"


def settings(tmp_path: Path, **variables: str) -> Settings:
    return Settings.load({"SHIOAJI_API_KEY": KEY, "SHIOAJI_SECRET_KEY": SECRET} | variables, tmp_path)


# Leave for real money


@pytest.mark.parametrize(
    ("variables", "forbidden", "said"),
    [
        ({}, OrdersForbidden, "SHIOAJI_SIMULATION is on"),
        ({"SHIOAJI_SIMULATION": "false"}, OrdersForbidden, "real orders are signed: set SHIOAJI_CA_PATH"),
        # With everything a person can give, there is still the test that asks.
        (
            {"SHIOAJI_SIMULATION": "false", "SHIOAJI_CA_PATH": "ca.pfx", "SHIOAJI_CA_PASSWORD": "x"},
            LoginForbidden,
            "SHIJIM_NO_LOGIN is set",
        ),
    ],
)
def test_leave_to_place_orders_needs_a_production_account_a_certificate_and_no_test(
    tmp_path: Path, variables: dict[str, str], forbidden: type[GatewayError], said: str
) -> None:
    (tmp_path / "ca.pfx").write_bytes(b"not one")
    with pytest.raises(forbidden, match=said):
        allow_orders(settings(tmp_path, **variables))


def test_a_token_for_orders_cannot_be_made_by_hand_and_one_for_logging_in_is_none(tmp_path: Path) -> None:
    with pytest.raises(OrdersForbidden, match="made by allow_orders"):
        OrdersToken("please")
    for permission in (None, object(), object.__new__(type("OrdersToken", (), {}))):
        with pytest.raises(OrdersForbidden, match="real orders need the OrdersToken"):
            ShioajiTrading(
                object(),  # type: ignore[arg-type]  # never reached
                order_classes(),
                OrderBudget(tmp_path / "orders.json"),
                live=True,
                permission=permission,  # type: ignore[arg-type]
            )


def test_a_gateway_that_is_not_logged_in_or_not_told_of_orders_trades_nothing(tmp_path: Path) -> None:
    made = object.__new__(ShioajiGateway)
    made._client, made._trades, made._certified, made._secrets = None, False, False, ("", "", "")
    made._settings = settings(tmp_path, SHIOAJI_SIMULATION="false")
    budget = OrderBudget(tmp_path / "orders.json")
    with pytest.raises(GatewayError, match="not logged in"):
        made.trading(budget)
    made._client = object()  # type: ignore[assignment]
    with pytest.raises(GatewayError, match="trades=True"):
        made.trading(budget)
    made._trades = True
    with pytest.raises(OrdersForbidden, match="no certificate is activated"):
        made.trading(budget)
    made._certified = True
    with pytest.raises(OrdersForbidden, match="OrdersToken"):
        made.trading(budget)


def test_a_gateway_on_the_test_service_trades_and_is_told_of_it(tmp_path: Path) -> None:
    client = SimulatedOrders(SimulatedExchange(date(2026, 11, 20), 7, SimulationConfig(target_events=5_000)))
    gateway = object.__new__(ShioajiGateway)
    gateway._client, gateway._trades, gateway._certified, gateway._secrets = client, True, False, ("", "", "")  # type: ignore[assignment]
    gateway._settings = settings(tmp_path)
    trading = gateway.trading(OrderBudget(tmp_path / "orders.json"))
    client.advance(client.exchange.sessions[-1].open_ns + 60 * SECOND_NS)
    request = StockRequest(code="2330", side=Side.BUY, quantity=1, price_e6=1_500_000_000)
    assert isinstance(trading.place(request), Accepted)
    assert isinstance(trading.events.drain()[0], OrderReport)
    after = gateway.trading(OrderBudget(tmp_path / "orders.json"), events=trading.events)
    assert after.events is trading.events, "what was missed between two logins is noticed"


# The budget


class Clock:
    def __init__(self) -> None:
        self.ns = 1_800_000_000 * SECOND_NS
        self.slept_ns = 0

    def now(self) -> int:
        return self.ns

    def sleep(self, seconds: float) -> None:
        self.ns += round(seconds * SECOND_NS)
        self.slept_ns += round(seconds * SECOND_NS)


def budget(tmp_path: Path) -> tuple[OrderBudget, Clock]:
    clock = Clock()
    return OrderBudget(tmp_path / "orders.json", now_ns=clock.now, sleep=clock.sleep), clock


def test_new_orders_are_refused_before_the_limit_and_cancels_still_pass(tmp_path: Path) -> None:
    orders, clock = budget(tmp_path)
    assert [orders.try_place() for _ in range(PLACES_MAX)] == [0] * PLACES_MAX
    assert orders.try_place() == OPERATION_WINDOW_NS
    for _ in range(OPERATIONS_MAX - PLACES_MAX):
        orders.reduce()
    assert clock.slept_ns == 0
    orders.reduce()
    assert clock.slept_ns >= OPERATION_WINDOW_NS
    assert orders.try_place() == 0


def test_no_window_of_ten_seconds_ever_has_more_operations_than_the_broker_takes(tmp_path: Path) -> None:
    orders, clock = budget(tmp_path)
    done_ns: list[int] = []
    for turn in range(1_200):
        if turn % 3:
            orders.reduce()
            done_ns.append(clock.ns)
        elif orders.try_place() == 0:
            done_ns.append(clock.ns)
        clock.ns += 7_000_000
    busiest = max(sum(at <= other < at + OPERATION_WINDOW_NS for other in done_ns) for at in done_ns)
    assert OPERATIONS_MAX - 5 <= busiest <= OPERATIONS_MAX


def test_questions_wait_for_their_window(tmp_path: Path) -> None:
    orders, clock = budget(tmp_path)
    for _ in range(QUERIES_MAX + 1):
        orders.query()
    assert QUERY_WINDOW_NS <= clock.slept_ns < 2 * QUERY_WINDOW_NS


def test_another_process_counts_too_and_a_crash_forgets_nothing(tmp_path: Path) -> None:
    spend = (
        "import sys, os; from pathlib import Path; from shijim_live.broker.order_budget import OrderBudget\n"
        f"budget = OrderBudget(Path({str(tmp_path / 'orders.json')!r}))\n"
        f"assert sum(budget.try_place() == 0 for _ in range({PLACES_MAX // 2})) == {PLACES_MAX // 2}\n"
        "os._exit(9)"
    )
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", spend], cwd=ROOT).returncode == 9
    assert OrderBudget(tmp_path / "orders.json").try_place() > 0


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"version":9}', b'{"version":1,"operations_ns":["x"]}'])
def test_a_damaged_count_holds_new_orders_back_for_a_window_and_no_cancel(tmp_path: Path, text: bytes) -> None:
    orders, clock = budget(tmp_path)
    (tmp_path / "orders.json").write_bytes(text)
    assert orders.try_place() > 0
    orders.reduce()
    assert clock.slept_ns == 0
    clock.ns += OPERATION_WINDOW_NS
    assert orders.try_place() == 0


def test_where_nothing_can_be_counted_nothing_new_is_placed_and_cancels_pass(tmp_path: Path) -> None:
    (tmp_path / "no-folder").write_text("")
    clock = Clock()
    orders = OrderBudget(tmp_path / "no-folder" / "orders.json", now_ns=clock.now, sleep=clock.sleep)
    assert orders.try_place() > 0 and "orders cannot be counted" in orders.problem
    orders.reduce()
    assert clock.slept_ns == 0
    orders.query()
    assert clock.slept_ns == QUERY_WINDOW_NS // QUERIES_MAX
    (tmp_path / "no-folder").unlink()
    assert orders.try_place() == 0 and orders.problem == ""


# Accounts

STUB = Path((find_spec("shioaji") or sys.modules["shioaji"].__spec__).submodule_search_locations[0]) / "_core.pyi"  # type: ignore[union-attr, index]


def stub_fields(name: str) -> dict[str, str]:
    """Fields of an answer by the SDK's stub; `status` is a property there."""
    (node,) = [one for one in ast.parse(STUB.read_text()).body if isinstance(one, ast.ClassDef) and one.name == name]
    found = {
        ast.unparse(line.target): ast.unparse(line.annotation) for line in node.body if isinstance(line, ast.AnnAssign)
    }
    properties = [line for line in node.body if isinstance(line, ast.FunctionDef) and line.decorator_list]
    return found | {line.name: ast.unparse(line.returns) for line in properties if line.returns}


def made(name: str, **given: Any) -> Row:
    """A look-alike with every field of the stub, floats as 1.5, 2.5, … so that none is mistaken for another."""
    kinds = stub_fields(name)
    values = {
        field: {"float": place + 0.5, "int": place, "str": f"{field}!"}.get(kind, "Cash" if "Cond" in kind else "?")
        for place, (field, kind) in enumerate(kinds.items())
    }
    return Row(**(values | given))


def test_every_figure_of_margin_and_limits_is_read_and_none_is_mistaken() -> None:
    for name, record, read in (("Margin", Margin, margin_of), ("TradingLimits", TradingLimits, limits_of)):
        answer = made(name)
        found = read(answer)
        names = [field.name for field in fields(record) if field.name != "raw"]  # type: ignore[arg-type]
        assert [one.removesuffix("_e6") for one in names] == [one for one in stub_fields(name) if one != "status"]
        for one in names:
            assert getattr(found, one) == round(answer[one.removesuffix("_e6")] * 1_000_000)
        assert orjson.loads(found.raw) == answer.dict()


@pytest.mark.parametrize("name", ["StockPosition", "FuturePosition"])
def test_a_position_is_read(name: str) -> None:
    found = position_of(made(name, code="2330", direction="Sell", quantity=1_500, price=100 / 3, pnl=-12.5))
    assert (found.code, found.direction, found.quantity, found.cond) == ("2330", Side.SELL, 1_500, Condition.CASH)
    assert (found.price_e6, found.pnl_e6) == (33_333_333, -12_500_000)


def test_balances_settlements_and_profits_are_read_and_a_bank_that_says_no_is_no_balance() -> None:
    assert balance_of(made("AccountBalance", acc_balance=12.25, errmsg="")).acc_balance_e6 == 12_250_000
    with pytest.raises(ValueError, match="查無銀行交割帳號"):
        balance_of(made("AccountBalance", errmsg="查無銀行交割帳號"))
    due = settlement_of(made("SettlementV1", date="2026-11-24", amount=-4_371_805.0, T=2))
    assert (due.date, due.amount_e6, due.T) == ("2026-11-24", -4_371_805_000_000, 2)
    for name in ("StockProfitLoss", "FutureProfitLoss"):
        closed = profit_of(made(name, code="2330", quantity=10, pnl=-100.0, date="2026-11-20"))
        assert (closed.code, closed.quantity, closed.pnl_e6, closed.date) == ("2330", 10, -100_000_000, "2026-11-20")


def test_an_account_is_read_without_its_person() -> None:
    found = account_of(order_classes().account("F", "A123456789", "F002000", "1234567"))
    assert (found.kind, found.broker_id, found.account_id, found.signed) == (
        AccountKind.FUTURES,
        "F002000",
        "1234567",
        True,
    )
    assert "A123456789" not in repr(found)


def test_the_health_of_the_sdks_cache_is_read_as_its_enums_say() -> None:
    order_classes()
    sdk = sys.modules["shioaji"]
    reason = Row(event_type=sdk.OrderState.FuturesDeal, reason=sdk.TradeCacheHealthReasonCode.SequenceGap)
    found = health_of(Row(state=sdk.TradeCacheHealthState.Degraded, reasons=[reason]))
    assert found == Health(HealthState.DEGRADED, (("FDEAL", "SequenceGap"),))
