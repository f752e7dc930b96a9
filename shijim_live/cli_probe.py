"""`shijim-live probe`: what a connection's latencies are, as a table or a file. The measuring is `broker/probe.py`."""

from __future__ import annotations

import argparse
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import orjson

from shijim_live import calendar
from shijim_live.broker.gateway import Feed, Gateway, Topic
from shijim_live.broker.live import SystemClock
from shijim_live.broker.order_budget import BUDGET_FILE, OrderBudget
from shijim_live.broker.orders import FuturesRequest, Side, StockRequest
from shijim_live.broker.probe import (
    BOOK_DELAY,
    CALLBACK,
    CANCELLED,
    CONFIRMED,
    FIRST_QUOTE,
    GIVEN_BACK,
    JITTER,
    LISTEN,
    PLACED,
    REPORTED,
    TRADE_DELAY,
    Measure,
    Probed,
    order_measures,
    probe,
)
from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig, dated_code
from shijim_live.broker.simulated_gateway import SimulatedGateway
from shijim_live.broker.simulated_market import SimulatedMarket
from shijim_live.broker.simulated_trading import SimulatedOrders, simulated_trading
from shijim_live.broker.smoke import price_below_e6
from shijim_live.calendar import (
    MINUTE_NS,
    SECOND_NS,
    Market,
    require_trading_day,
    session_bounds,
    trading_day,
    wall_clock,
)
from shijim_live.cli_live import shioaji_gateway
from shijim_live.command_line import Verbs, add_place, add_verb, day
from shijim_live.instruments import instrument
from shijim_live.settings import Settings, SettingsError
from shijim_live.universe import TOPICS_MAX

SECONDS_MAX = 3_600
ROUNDS_MAX = 50  # of each topic; each request waits for its answer, so that the broker's rate is kept
CODES = ("2330", "TXFR1")
AFTER_OPEN_NS = 30 * MINUTE_NS  # of the simulated stocks: whoever is listened to trades by then
LATENCY_SCHEMA = 1
LABELS = {
    LISTEN: "callbacks set",
    CONFIRMED: "subscribe → confirmed",
    FIRST_QUOTE: "subscribe → first quote",
    GIVEN_BACK: "unsubscribe → confirmed",
    TRADE_DELAY: "exchange → received, trades",
    BOOK_DELAY: "exchange → received, books",
    JITTER: "jitter, quote to quote",
    CALLBACK: "callback, reading a stamp",
    PLACED: "order → answered",
    REPORTED: "order → its event",
    CANCELLED: "cancel → answered",
}
NOT_A_BROKER = (
    "times, but for callback, are those of the simulated exchange and its clock: they say nothing of a broker"
)
NO_ORDERS = "orders are not measured: --orders N does it, on the broker's test service alone"
ORDERS_MAX = 100


def add_probe(verbs: Verbs) -> None:
    """The verb and its options."""
    verb = add_verb(verbs, "probe", run_probe, "measure how long a broker's connection takes: login, topics, quotes")
    add_place(verb)
    verb.add_argument("--broker", choices=("simulated", "shioaji"), default="simulated", help="default simulated")
    which = f"a code to listen to, like 2330 or TXFR1; may be given again (default {' and '.join(CODES)})"
    verb.add_argument("--symbol", action="append", metavar="CODE", help=which)
    heard = f"how long to listen to quotes, 1 to {SECONDS_MAX} (default 30)"
    verb.add_argument("--seconds", type=_up_to(SECONDS_MAX), default="30", help=heard)
    asked = f"how often each topic is asked for and given back, 1 to {ROUNDS_MAX} (default 5)"
    verb.add_argument("--rounds", type=_up_to(ROUNDS_MAX), default="5", help=asked)
    verb.add_argument("--day", type=day, help="simulated: the trading day (default: this one)")
    verb.add_argument("--seed", type=int, default=1, help="simulated: same seed, same figures (default 1)")
    placed = (
        f"place and take back so many orders of the first code, up to {ORDERS_MAX} (default 0); on the test service"
    )
    verb.add_argument("--orders", type=_up_to(ORDERS_MAX, least=0), default="0", metavar="N", help=placed)
    written = "also write the figures here; shijim dataset --feed-latency-ms takes the file"
    verb.add_argument("--out", type=Path, metavar="JSON", help=written)
    verb.add_argument("--json", action="store_true", help="for a script")


def _up_to(most: int, least: int = 1) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return number


def run_probe(arguments: argparse.Namespace) -> int:
    """Measures, writes, prints."""
    settings = Settings.from_environment(arguments.profile, data_dir=arguments.data_dir)
    calendar.follow(settings.calendar_overrides)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    source, found = _PROBES[arguments.broker](arguments, settings, stop)
    rendered = orjson.dumps(as_json(found, source), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if arguments.out is not None:
        arguments.out.write_bytes(rendered)
    print(rendered.decode() if arguments.json else describe(found, source), end="" if arguments.json else "\n")
    return 0


def _topics(arguments: argparse.Namespace, on: date) -> tuple[Topic, ...]:
    """Trades and books of each code; continuous futures by their dated code."""
    codes = dict.fromkeys(dated_code(code, on) for code in arguments.symbol or CODES)
    if 2 * len(codes) > TOPICS_MAX:
        raise SettingsError([f"{len(codes)} codes are {2 * len(codes)} topics, and a connection has {TOPICS_MAX}"])
    return tuple(Topic(code, feed) for code in codes for feed in (Feed.TICK, Feed.BOOK))


def _simulated(arguments: argparse.Namespace, _: Settings, stop: threading.Event) -> tuple[str, Probed]:
    on = arguments.day or trading_day(time.time_ns(), Market.STOCK)
    require_trading_day(on)
    exchange = SimulatedExchange(on, arguments.seed, SimulationConfig().without_faults())
    market, client = SimulatedMarket(exchange), SimulatedOrders(exchange)
    gateway = SimulatedGateway(market)
    from_ns = session_bounds(on, Market.STOCK)[0].open_ns + AFTER_OPEN_NS
    topics = _topics(arguments, on)

    def orders() -> Sequence[Measure]:
        client.advance(market.now_ns())
        with tempfile.TemporaryDirectory() as folder:
            trading = simulated_trading(client, Path(folder) / BUDGET_FILE)
            wait = lambda ns: client.advance(client.now_ns + ns)  # noqa: E731
            return order_measures(trading, _order(gateway, topics), arguments.orders, client.clock, wait)

    found = probe(
        gateway,
        lambda _: market,
        topics,
        seconds=arguments.seconds,
        rounds=arguments.rounds,
        stop=stop,
        from_ns=from_ns,
        orders=orders if arguments.orders else tuple,
    )
    return "simulated", found


def _order(gateway: Gateway, topics: Sequence[Topic]) -> FuturesRequest | StockRequest:
    """One of the first code, a little below its last price."""
    code = topics[0].code
    kind = FuturesRequest if instrument(code).market is Market.FUTURES else StockRequest
    return kind(code=code, side=Side.BUY, quantity=1, price_e6=price_below_e6(gateway, code))


def _shioaji(arguments: argparse.Namespace, settings: Settings, stop: threading.Event) -> tuple[str, Probed]:
    if arguments.day is not None:
        raise SettingsError(["--day is for the simulated exchange: the broker's feed is of now"])
    if arguments.orders and not settings.simulation:
        raise SettingsError(
            ["--orders: the probe places orders on the broker's test service alone: SHIOAJI_SIMULATION=true"]
        )
    topics = _topics(arguments, trading_day(time.time_ns(), Market.FUTURES))
    gateway, leases, lease = shioaji_gateway(settings, topics, trades=bool(arguments.orders))
    budget = OrderBudget(settings.person_dir / BUDGET_FILE)

    def orders() -> Sequence[Measure]:
        trading = gateway.trading(budget)
        trading.subscribe_events()
        wait = lambda ns: time.sleep(ns / SECOND_NS)  # noqa: E731
        return order_measures(trading, _order(gateway, topics), arguments.orders, time.time_ns, wait)

    with lease:
        found = probe(
            gateway,
            SystemClock,
            topics,
            seconds=arguments.seconds,
            rounds=arguments.rounds,
            stop=stop,
            leases=leases,
            orders=orders if arguments.orders else tuple,
        )
    return "shioaji-simulation" if settings.simulation else "shioaji", found


_PROBES: dict[str, Callable[[argparse.Namespace, Settings, threading.Event], tuple[str, Probed]]] = {
    "simulated": _simulated,
    "shioaji": _shioaji,
}


def as_json(found: Probed, source: str) -> dict[str, object]:
    """Every figure in ns; the two latencies are medians, None where they were not measured."""
    feed = found.of(TRADE_DELAY) if found.of(TRADE_DELAY).values_ns else found.of(BOOK_DELAY)
    return {
        "schema": LATENCY_SCHEMA,
        "source": source,
        "clock": "simulated" if source == "simulated" else "real",
        "began_ns": found.began_ns,
        "measures": {measure.name: measure.figures_ns() for measure in found.measures},
        "feed_latency_ns": feed.quantile_ns(0.5),
        "order_latency_ns": _median_ns(found, REPORTED),
        "remarks": [*found.remarks, *_remarks(found, source)],
    }


def _median_ns(found: Probed, name: str) -> int | None:
    return next((measure.quantile_ns(0.5) for measure in found.measures if measure.name == name), None)


def _remarks(found: Probed, source: str) -> list[str]:
    none = [] if any(measure.name == PLACED for measure in found.measures) else [NO_ORDERS]
    return [NOT_A_BROKER, *none] if source == "simulated" else none


def describe(found: Probed, source: str) -> str:
    """A table in milliseconds."""
    began = wall_clock(found.began_ns).isoformat(" ", "seconds")
    names = ("ms", "n", "min", "median", "p90", "p99", "max")
    rows: list[tuple[str, ...]] = [names]
    for measure in found.measures:
        count, *figures = measure.figures_ns().values()
        cells = ["–" if value is None else f"{value / 1e6:,.3f}" for value in figures]
        rows.append((LABELS.get(measure.name, measure.name), f"{count:,}", *cells))
    widths = [max(len(row[at]) for row in rows) for at in range(len(names))]
    lines = [f"Latencies of {source}, from {began} Taipei", ""]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells))
    lines.insert(3, "  ".join("─" * width for width in widths))
    return "\n".join([*lines, "", *found.remarks, *_remarks(found, source)])
