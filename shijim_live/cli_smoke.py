"""`shijim-live smoke`: the broker's API test as one command. The steps are `broker/smoke.py`."""

from __future__ import annotations

import argparse
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import orjson

from shijim_live import calendar
from shijim_live.broker.leases import Leases, Role
from shijim_live.broker.live import SystemClock
from shijim_live.broker.login import allow_login
from shijim_live.broker.order_budget import BUDGET_FILE, OrderBudget
from shijim_live.broker.shioaji import ShioajiGateway
from shijim_live.broker.shioaji_orders import ShioajiTrading
from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig, dated_code
from shijim_live.broker.simulated_gateway import SimulatedGateway
from shijim_live.broker.simulated_market import SimulatedMarket
from shijim_live.broker.simulated_trading import SimulatedOrders, simulated_trading
from shijim_live.broker.smoke import Smoke, Step
from shijim_live.broker.trading import AccountKind
from shijim_live.calendar import MINUTE_NS, SECOND_NS, Market, require_trading_day, session_bounds, trading_day
from shijim_live.cli_live import mask_stderr, require_test_service
from shijim_live.command_line import EXIT_FAILED, Verbs, add_place, add_verb, day
from shijim_live.settings import Settings, SettingsError

STOCK, FUTURE = "2330", "MXFR1"
AFTER_OPEN_NS = 30 * MINUTE_NS
WHAT_NEXT = (
    "the broker looks at the test by itself while its service is open; `signed` of the accounts then says that the "
    "API may log in to the market itself"
)


def add_smoke(verbs: Verbs) -> None:
    """The verb and its options."""
    text = "the broker's API test: log in to its test service, take quotes, place and take back one order per account"
    verb = add_verb(verbs, "smoke", run_smoke, text)
    add_place(verb)
    practice = "shioaji: the broker's test service, never the market (default); simulated: to practise, no broker"
    verb.add_argument("--broker", choices=tuple(_SMOKES), default="shioaji", help=practice)
    verb.add_argument("--stock", default=STOCK, metavar="CODE", help=f"what the stock account buys a lot of ({STOCK})")
    contract = f"what the futures account buys a contract of ({FUTURE})"
    verb.add_argument("--future", default=FUTURE, metavar="CODE", help=contract)
    verb.add_argument("--day", type=day, help="simulated: the trading day (default: this one)")
    verb.add_argument("--json", action="store_true", help="for a script")


def run_smoke(arguments: argparse.Namespace) -> int:
    """Every step, and what to do next; 0 where all passed."""
    settings = Settings.from_environment(arguments.profile, data_dir=arguments.data_dir)
    calendar.follow(settings.calendar_overrides)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    steps = _SMOKES[arguments.broker](arguments, settings, stop)
    passed = all(step.passed for step in steps)
    if arguments.json:
        shown = {"broker": arguments.broker, "passed": passed, "steps": [asdict(step) for step in steps]}
        print(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    else:
        print(describe(steps, arguments.broker))
    return 0 if passed else EXIT_FAILED


def describe(steps: list[Step], broker: str) -> str:
    """A line a step, and what comes next."""
    wide = max(len(step.name) for step in steps)
    lines = [f"{'ok    ' if step.passed else 'FAILED'}  {step.name:<{wide}}  {step.said}" for step in steps]
    if not all(step.passed for step in steps):
        lines.append("not passed: correct what failed, then run it again")
    elif broker == "shioaji":
        lines.append(f"passed: {WHAT_NEXT}")
    else:
        lines.append("passed on the simulated exchange, which the broker does not look at")
    return "\n".join(lines)


def _codes(arguments: argparse.Namespace, now_ns: int) -> dict[AccountKind, str]:
    on = arguments.day or trading_day(now_ns, Market.FUTURES)
    return {AccountKind.STOCK: arguments.stock, AccountKind.FUTURES: dated_code(arguments.future, on)}


def _shioaji(arguments: argparse.Namespace, settings: Settings, stop: threading.Event) -> list[Step]:
    """LoginForbidden, SettingsError, RecordError, NoConnectionLeft before anybody is dialled."""
    if not settings.simulation:
        raise SettingsError(
            ["SHIOAJI_SIMULATION is off: smoke places orders, and does so on the broker's test service alone. Set it "
             "to true, or leave it out"]
        )  # fmt: skip
    if arguments.day is not None:
        raise SettingsError(["--day is for the simulated exchange: the broker's test service is of now"])
    token = allow_login(settings)
    require_test_service(time.time_ns())
    leases = Leases(settings.person_dir)
    budget = OrderBudget(settings.person_dir / BUDGET_FILE)
    with leases.take(Role.TRADING):
        mask_stderr(settings)
        gateway = ShioajiGateway(settings, token, trades=True)
        return Smoke(
            gateway,
            lambda: gateway.trading(budget),
            SystemClock,
            lambda ns: time.sleep(ns / SECOND_NS),
            codes=_codes(arguments, time.time_ns()),
            stop=stop,
            leases=leases,
        ).run()


def _simulated(arguments: argparse.Namespace, _: Settings, stop: threading.Event) -> list[Step]:
    on = arguments.day or trading_day(time.time_ns(), Market.STOCK)
    require_trading_day(on)
    exchange = SimulatedExchange(on, 1, SimulationConfig().without_faults())
    market, client = SimulatedMarket(exchange), SimulatedOrders(exchange)
    with tempfile.TemporaryDirectory() as folder:

        def trading() -> ShioajiTrading:
            client.advance(market.now_ns())
            return simulated_trading(client, Path(folder) / BUDGET_FILE)

        return Smoke(
            SimulatedGateway(market),
            trading,
            lambda _: market,
            lambda ns: client.advance(client.now_ns + ns),
            codes=_codes(arguments, session_bounds(on, Market.STOCK)[0].open_ns),
            stop=stop,
        ).run(session_bounds(on, Market.STOCK)[0].open_ns + AFTER_OPEN_NS)


_SMOKES: dict[str, Callable[[argparse.Namespace, Settings, threading.Event], list[Step]]] = {
    "shioaji": _shioaji,
    "simulated": _simulated,
}
