"""hftbacktest's own engine for tests of queue positions: what became of one order after another at the touch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import real_txf
from hftbacktest import BUY, FILLED, GTX, LIMIT, NEW, BacktestAsset, HashMapMarketDepthBacktest
from numba import njit
from numpy.typing import NDArray

from shijim_pipelines.event_file import Rows
from shijim_pipelines.hft_dataset import FeedLatency, build_dataset

SECOND = real_txf.SECOND
FEED_NS = 5_000_000
# Events stand on whole milliseconds: no order arrives together with one.
ENTRY_NS = 10_300_000
EVERY_NS = 5 * SECOND
BID_ROW, ASK_ROW, BUY_TRADE, SELL_TRADE = 0xE0000001, 0xD0000001, 0xE0000002, 0xD0000002


@dataclass
class Order:
    """One lot at the touch: when the exchange saw it, and what became of it (`filled_ns` None: not filled)."""

    buys: bool
    tick: int
    arrives_ns: int
    rests: bool = False
    filled_ns: int | None = None
    position: Any = field(default=None, repr=False, compare=False)


def first_hour() -> Rows:
    """TXFD6 of 2026-04-09, 08:45 to 09:45, as the project's own dataset."""
    end_ns = real_txf.OPEN_NS + 3600 * SECOND
    tables = (table.filter(np.asarray(table["exchange_ns"]) < end_ns) for table in real_txf.day_session())
    return build_dataset(*tables, FeedLatency(FEED_NS)).rows


@njit
def _place(market, looks, out):  # type: ignore[no-untyped-def]  # compiled, typed by numba
    """An order at the touch at every look, buying and selling in turn; what they are at the end of the data."""
    code = market.elapse(1)
    for place in range(len(looks)):
        code = max(code, market.elapse(looks[place] - market.current_timestamp))
        depth = market.depth(0)
        if place % 2 == 0:
            price = depth.best_bid
            code = max(code, market.submit_buy_order(0, place, price, 1, GTX, LIMIT, False))
        else:
            price = depth.best_ask
            code = max(code, market.submit_sell_order(0, place, price, 1, GTX, LIMIT, False))
    if code != 0:
        return code
    while code == 0:
        code = market.elapse(1_000_000_000)
    orders = market.orders(0).values()
    while orders.has_next():
        order = orders.get()
        row = out[order.order_id]
        row[0], row[1], row[2], row[3] = order.side, order.price_tick, order.status, order.exch_timestamp
    return code


def engine_orders(rows: Rows, queue_model: Callable[[BacktestAsset], BacktestAsset]) -> list[Order]:
    """The orders as the engine leaves them."""
    asset = BacktestAsset().data(rows).linear_asset(200).constant_order_latency(ENTRY_NS, ENTRY_NS)
    asset = queue_model(asset).no_partial_fill_exchange().trading_qty_fee_model(0.0, 0.0).tick_size(1.0).lot_size(1.0)
    first_ns = int(rows["local_ts"][0]) + SECOND
    looks = np.arange(first_ns, int(rows["local_ts"][-1]) - SECOND, EVERY_NS)
    out: NDArray[np.int64] = np.zeros((len(looks), 4), np.int64)
    market = HashMapMarketDepthBacktest([asset])
    code = _place(market, looks, out)
    closed = market.close()
    assert (code, closed) == (1, 0)
    return [
        Order(side == BUY, tick, look + ENTRY_NS, status in (NEW, FILLED), stamp if status == FILLED else None)
        for look, (side, tick, status, stamp) in zip(looks.tolist(), out.tolist(), strict=True)
    ]


def estimated_orders(rows: Rows, placed: list[Order], estimate: Callable[[int], Any]) -> list[Order]:
    """The same orders by an estimator that sees the rows of the exchange: `estimate(front)` makes one of an order."""
    orders = [Order(order.buys, order.tick, order.arrives_ns) for order in placed]
    waiting, resting = list(reversed(orders)), _Resting()
    columns = [rows[name].tolist() for name in ("ev", "exch_ts", "px", "qty")]
    for flags, stamp, price, size in zip(*columns, strict=True):
        while waiting and waiting[-1].arrives_ns < stamp:
            resting.accept(waiting.pop(), estimate)
        if flags in (BID_ROW, ASK_ROW):
            resting.depth(flags == BID_ROW, int(price), int(size), stamp)
        elif flags in (BUY_TRADE, SELL_TRADE):
            resting.trade(flags == SELL_TRADE, int(price), int(size), stamp)
    return orders


class _Resting:
    """The book of the rows, and the orders in it by side and tick."""

    def __init__(self) -> None:
        self._levels: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._orders: tuple[dict[int, list[Order]], ...] = (defaultdict(list), defaultdict(list))

    def accept(self, order: Order, estimate: Callable[[int], Any]) -> None:
        """GTX: an order that would take is turned away."""
        bids, asks = self._levels
        if order.tick >= min(asks) if order.buys else order.tick <= max(bids):
            return
        order.rests = True
        order.position = estimate((bids if order.buys else asks).get(order.tick, 0))
        self._orders[not order.buys][order.tick].append(order)

    def depth(self, bid: bool, tick: int, now: int, stamp: int) -> None:
        levels = self._levels[not bid]
        for order in self._orders[not bid].get(tick, ()):
            order.position.depth(levels.get(tick, 0), now)
        if now:
            levels[tick] = now
            self._through(not bid, lambda resting: resting <= tick if bid else resting >= tick, stamp)
        else:
            levels.pop(tick, None)

    def trade(self, sells: bool, tick: int, volume: int, stamp: int) -> None:
        for order in self._orders[not sells].get(tick, ()):
            order.position.trade(volume)
            if order.position.filled:
                order.filled_ns = stamp
        self._drop_filled(not sells, tick)
        self._through(sells, lambda resting: resting > tick if sells else resting < tick, stamp)

    def _through(self, buys: bool, reached: Callable[[int], bool], stamp: int) -> None:
        """Orders beyond a trade's price, or at or beyond the other side's new best, are filled whole."""
        for tick in [tick for tick in self._orders[not buys] if reached(tick)]:
            for order in self._orders[not buys][tick]:
                order.position.traded_through()
                order.filled_ns = stamp
            self._drop_filled(not buys, tick)

    def _drop_filled(self, side: int, tick: int) -> None:
        left = [order for order in self._orders[side].get(tick, ()) if order.filled_ns is None]
        if left:
            self._orders[side][tick] = left
        else:
            self._orders[side].pop(tick, None)
