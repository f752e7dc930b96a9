"""One list of orders on one simulated day, matched by the simulated exchange and, on its dataset, by hftbacktest."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
from hftbacktest import GTC, LIMIT, BacktestAsset, HashMapMarketDepthBacktest
from hftbacktest.order import IOC
from numba import njit
from numpy.typing import NDArray

from shijim_live.broker.simulated import SimulatedExchange
from shijim_live.cli_live import recorded_classes
from shijim_live.record.recorder import RecordPlan, record
from shijim_live.record.sink import Sink
from shijim_live.store.lake import Lake
from shijim_pipelines.archive import archive_all
from shijim_pipelines.datasets import Request, make_dataset
from shijim_pipelines.event_file import Rows
from shijim_pipelines.hft_dataset import Contract, FeedLatency, read_contract
from shijim_pipelines.proof.audit import audit_day

DAY: Final = date(2026, 4, 9)
ENTRY_NS: Final = (
    5_000_333  # to the exchange, of every order; events stand on whole microseconds, so none is met at once
)
RESPONSE_NS: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """One order, and when it is taken back; `cancel_ns` 0: never."""

    sent_ns: int
    buys: bool
    price_e6: int
    quantity: int
    immediate: bool = False
    cancel_ns: int = 0


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of an order: lots filled, the last fill's price and time (0 without one)."""

    filled: int
    price_e6: int
    filled_ns: int


class _Feed:
    def __init__(self, exchange: SimulatedExchange) -> None:
        self.exchange = exchange

    def run(self, sink: Sink, stop: threading.Event, resume_after_ns: int | None) -> None:
        self.exchange.run(sink.quote, sink.connection, stop, resume_after_ns)


def dataset_of(exchange: SimulatedExchange, code: str, folder: Path) -> tuple[Rows, Contract]:
    """Recorded, archived, audited and built as the commands do it."""
    first_ns = min(session.trial_ns for session in exchange.sessions)
    plan = RecordPlan(
        raw_dir=folder,
        shard=0,
        source="simulated",
        clock="simulated",
        config={"day": exchange.day, "seed": exchange.seed, "events": exchange.config.target_events},
        classes=recorded_classes(),
        ring_slots=1 << 15,
        durability="write",
        outage_ns=0,
        now_ns=lambda: first_ns,
        run_id=lambda _: "00000000000000cd",
    )
    record(plan, _Feed(exchange), threading.Event())
    archive_all(folder / "wal", folder / "archive")
    report = audit_day(folder / "archive", folder / "wal", exchange.day)
    request = Request(exchange.day, code, "day", None, FeedLatency(0))
    made = make_dataset(request, Lake(folder / "archive"), report, folder / "datasets")
    return made.dataset.rows, read_contract(made.files.meta)[0]


def of_the_exchange(exchange: SimulatedExchange, code: str, orders: Iterable[Wanted]) -> list[Fate]:
    """By `SimulatedMatching`, each order alone, as if hftbacktest's: there, ours do not stand in each other's way."""
    return [_alone(exchange, code, order) for order in orders]


def _alone(exchange: SimulatedExchange, code: str, order: Wanted) -> Fate:
    """Without delays of its own: the order is sent when hftbacktest's arrives."""
    matching = exchange.matching(order_latency_median_ns=0)
    way, lasting = "buy" if order.buys else "sell", "IOC" if order.immediate else "ROD"
    known = matching.place(code, way, order.price_e6, order.quantity, lasting, order.sent_ns + ENTRY_NS)
    reports = []
    if order.cancel_ns:
        reports = matching.advance(order.cancel_ns + ENTRY_NS - 1)
        matching.cancel(known, order.cancel_ns + ENTRY_NS)
    # An order that takes at once is refused in a call, and a cancel of one that is filled.
    reports += matching.advance(order.sent_ns + 2 * ENTRY_NS + max(0, order.cancel_ns - order.sent_ns))
    assert {report.reason for report in reports} <= {None, "not_working", "wrong_terms"}
    fate = Fate(0, 0, 0)
    for report in reports:
        if report.kind == "filled" and report.price_e6 is not None:
            fate = Fate(fate.filled + report.quantity, report.price_e6, report.exchange_ns)
    return fate


@njit
def _play(market, at_ns, what, price, quantity, out):  # type: ignore[no-untyped-def]  # compiled, typed by numba
    """`what`: place × 8 + 1 buys, 2 immediate, 4 cancels, in the order of `at_ns`."""
    code = market.elapse(1)
    for row in range(len(at_ns)):
        code = max(code, market.elapse(at_ns[row] - market.current_timestamp))
        place, flags = what[row] // 8, what[row] % 8
        if flags & 4:
            order = market.orders(0).get(place)
            if order is not None and order.cancellable:
                code = max(code, market.cancel(0, place, False))
        elif flags & 1:
            tif = IOC if flags & 2 else GTC
            code = max(code, market.submit_buy_order(0, place, price[place], quantity[place], tif, LIMIT, False))
        else:
            tif = IOC if flags & 2 else GTC
            code = max(code, market.submit_sell_order(0, place, price[place], quantity[place], tif, LIMIT, False))
    if code != 0:
        return code
    while code == 0:
        code = market.elapse(1_000_000_000)
    orders = market.orders(0).values()
    while orders.has_next():
        order = orders.get()
        row = out[order.order_id]
        row[0] = round(order.qty - order.leaves_qty)
        row[1] = order.exec_price_tick
        row[2] = order.exch_timestamp
    return code


def of_hftbacktest(rows: Rows, contract: Contract, orders: list[Wanted]) -> list[Fate]:
    """With constant latency, behind all the volume (risk-averse).

    What takes at once is filled as far as the book's lots go. What rests is one lot, filled whole: the partial-fill
    exchange of 2.4.4 fills a resting order again that is filled already, and stops with code 14.
    """
    assert all(order.immediate or order.quantity == 1 for order in orders)
    fates = [Fate(0, 0, 0)] * len(orders)
    for immediate in (False, True):
        places = [place for place, order in enumerate(orders) if order.immediate is immediate]
        if places:
            found = _matched(rows, contract, [orders[place] for place in places], partly=immediate)
            for place, fate in zip(places, found, strict=True):
                fates[place] = fate
    return fates


def _matched(rows: Rows, contract: Contract, orders: list[Wanted], *, partly: bool) -> list[Fate]:
    asset = (
        BacktestAsset()
        .data(rows)
        .linear_asset(contract.contract_size)
        .constant_order_latency(ENTRY_NS, RESPONSE_NS)
        .risk_adverse_queue_model()
        .trading_qty_fee_model(0.0, 0.0)
        .tick_size(contract.tick_size_e6 / 1e6)
        .lot_size(1.0)
    )
    asset = asset.partial_fill_exchange() if partly else asset.no_partial_fill_exchange()
    actions = sorted(
        [(order.sent_ns, place * 8 + order.buys + 2 * order.immediate) for place, order in enumerate(orders)]
        + [(order.cancel_ns, place * 8 + 4) for place, order in enumerate(orders) if order.cancel_ns]
    )
    at_ns, what = (np.array(column, np.int64) for column in zip(*actions, strict=True))
    price = np.array([order.price_e6 / 1e6 for order in orders])
    quantity = np.array([float(order.quantity) for order in orders])
    out: NDArray[np.int64] = np.zeros((len(orders), 3), np.int64)
    market = HashMapMarketDepthBacktest([asset])
    code = _play(market, at_ns, what, price, quantity, out)
    closed = market.close()
    assert (code, closed) == (1, 0), f"hftbacktest stopped with code {code}"
    return [
        Fate(filled, tick_number * contract.tick_size_e6, filled_ns) if filled else Fate(0, 0, 0)
        for filled, tick_number, filled_ns in out.tolist()
    ]


@dataclass(frozen=True, slots=True)
class Seen:
    """The code's books (when, best bid and ask × 10⁶, lots on both) and trades (when, price × 10⁶, lots)."""

    books: NDArray[np.int64]
    trades: NDArray[np.int64]
    calls: NDArray[np.int64]  # from when, until when

    def touch(self, at_ns: int) -> tuple[int, ...]:
        """The last book pushed by then; zeros before the first."""
        place = int(np.searchsorted(self.books[0], at_ns, "right")) - 1
        return tuple(self.books[:, place].tolist()) if place >= 0 else (0, 0, 0, 0, 0)

    def traded_since_push(self, at_ns: int, price_e6: int) -> int:
        """Lots traded at a price since the last push: they left the queue, and the book does not say so yet."""
        chosen = (self.trades[0] >= self.touch(at_ns)[0]) & (self.trades[0] <= at_ns) & (self.trades[1] == price_e6)
        return int(self.trades[2][chosen].sum())

    def was_empty(self, buys: bool, start_ns: int, end_ns: int) -> bool:
        """Whether a book between showed nobody on a side."""
        within = (self.books[0] > start_ns) & (self.books[0] <= end_ns)
        return bool((self.books[1 if buys else 2][within] == 0).any())

    def has_a_book_at(self, stamp_ns: int) -> bool:
        """Whether a book bears the very stamp of something else: which of both was first is not in a dataset."""
        return stamp_ns in self.books[0]

    def unknown(self, at_ns: int) -> bool:
        """Whether a call took the book away, and none has come since."""
        return bool(((self.calls[0] <= at_ns) & (self.calls[0] >= self.touch(at_ns)[0])).any())


def seen_of(exchange: SimulatedExchange, code: str) -> Seen:
    """From the day's own truth."""
    truth = exchange.truth()
    kinds = {"exchange_ns": "<i8", "bid_price_e6": "<i8", "ask_price_e6": "<i8", "bid_volume": "<u4",
             "ask_volume": "<u4", "price_e6": "<i8", "volume": "<u4",
             "start_ns": "<i8", "end_ns": "<i8"}  # fmt: skip

    def columns(table: str, *names: str) -> NDArray[np.int64]:
        mine = np.frombuffer(truth[table]["instrument"], "<u2") == truth["codes"].index(code)  # type: ignore[literal-required]
        found = [np.frombuffer(truth[table][name], kinds[name])[mine].astype(np.int64) for name in names]  # type: ignore[literal-required]
        return np.stack(found)

    books = columns("books", "exchange_ns", "bid_price_e6", "ask_price_e6", "bid_volume", "ask_volume")
    trades, calls = columns("trades", "exchange_ns", "price_e6", "volume"), columns("calls", "start_ns", "end_ns")
    return Seen(books, trades, calls)
