"""A backtest of a dataset in hftbacktest: a plain two-sided quoter, to see that a dataset trades and what it says.

Not the strategy that trades live, and no advice: one order a side, quoted anew every second.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hftbacktest import BUY, GTX, LIMIT, BacktestAsset, HashMapMarketDepthBacktest
from numba import njit

from shijim_pipelines.event_file import InvalidDataset, Rows, content_sha256, validate_npz
from shijim_pipelines.hft_dataset import Contract, read_contract

STEP_NS = 1_000_000_000
# What `elapse` returns when time passed and when the data ended. Anything else is an error it does not raise.
_ELAPSED, _END_OF_DATA = 0, 1
# Mid price of a dataset that never showed both sides.
NO_MID_E6 = -(2**63)


class BacktestFailed(RuntimeError):
    """hftbacktest stopped before the end of the data."""


@dataclass(frozen=True, slots=True)
class Quoting:
    """The quoter and the market it meets. Distances in ticks from the best price of the own side."""

    lots: int = 1
    ticks_away: int = 0
    position_lots_max: int = 5
    order_latency_ns: int = 10_000_000
    response_latency_ns: int = 10_000_000
    fee_per_lot_e6: int = 20_000_000


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """What the quoter ended with. Money in TWD × 10⁶, prices × 10⁶; equity = cash + position at mid − fees."""

    steps: int
    trades: int
    position: int
    balance_e6: int
    fee_e6: int
    equity_e6: int
    first_mid_e6: int
    last_mid_e6: int
    simulated_ns: int
    elapsed_ns: int


def run_backtest(npz: Path, meta: Path, quoting: Quoting) -> BacktestResult:
    """Quote through the whole dataset. Refuses a dataset that is unsound or is not the one its meta describes."""
    started_ns = time.perf_counter_ns()
    rows = validate_npz(npz)
    contract, sha256 = read_contract(meta)
    if content_sha256(rows) != sha256:
        raise InvalidDataset(f"{npz}: its rows are not those that {meta.name} describes. Rebuild both: shijim dataset")
    market = HashMapMarketDepthBacktest([asset(rows, contract, quoting)])
    steps, trades, position, balance, fee, first_mid, last_mid, simulated_ns = quote_through(market, quoting, npz)
    # Without a mid nothing was ever quoted, so that the position is 0.
    inventory = position * last_mid * contract.contract_size if position else 0.0
    return BacktestResult(
        steps=steps,
        trades=trades,
        position=round(position),
        balance_e6=round(balance * 1e6),
        fee_e6=round(fee * 1e6),
        equity_e6=round((balance + inventory - fee) * 1e6),
        first_mid_e6=NO_MID_E6 if math.isnan(first_mid) else round(first_mid * 1e6),
        last_mid_e6=NO_MID_E6 if math.isnan(last_mid) else round(last_mid * 1e6),
        simulated_ns=simulated_ns,
        elapsed_ns=time.perf_counter_ns() - started_ns,
    )


def summary(result: BacktestResult) -> str:
    """The result for a person, money in TWD."""
    lines = (
        ("steps", f"{result.steps:,}, one every {STEP_NS // 1_000_000_000} s"),
        ("trades", f"{result.trades:,}"),
        ("position", f"{result.position:,} lots"),
        ("mid", f"{result.first_mid_e6 / 1e6:,.2f} → {result.last_mid_e6 / 1e6:,.2f}"),
        ("balance", f"{result.balance_e6 / 1e6:,.0f} TWD"),
        ("fees", f"{result.fee_e6 / 1e6:,.0f} TWD"),
        ("equity", f"{result.equity_e6 / 1e6:,.0f} TWD"),
        ("took", f"{result.elapsed_ns / 1e9:.2f} s"),
    )
    return "\n".join(f"{name:<9} {value}" for name, value in lines)


def asset(rows: Rows, contract: Contract, quoting: Quoting) -> BacktestAsset:
    """The market of the dataset. `rows` must outlive the run: hftbacktest keeps only their address."""
    fee = quoting.fee_per_lot_e6 / 1e6
    return (
        BacktestAsset()
        .data(rows)
        .linear_asset(contract.contract_size)
        .constant_order_latency(quoting.order_latency_ns, quoting.response_latency_ns)
        .power_prob_queue_model(3)
        .no_partial_fill_exchange()
        .trading_qty_fee_model(fee, fee)
        .tick_size(contract.tick_size_e6 / 1e6)
        .lot_size(contract.lot_size)
    )


def quote_through(market: Any, quoting: Quoting, npz: Path) -> tuple[int, int, float, float, float, float, float, int]:
    """Run the compiled loop to the end of the data; what it returns without its code."""
    code, *facts = _quote(market, quoting.lots, quoting.ticks_away, quoting.position_lots_max)
    closed = market.close()
    if code != _END_OF_DATA or closed != 0:
        raise BacktestFailed(
            f"{npz}: hftbacktest stopped with code {code} after {facts[0]} steps; it prints the reason on stderr. "
            "Rebuild the dataset and try again: shijim dataset"
        )
    return tuple(facts)


# Not cached on disk: numba cannot keep the foreign function pointers of hftbacktest, so a process compiles once.
@njit
def _quote(market, lots, ticks_away, position_lots_max):  # type: ignore[no-untyped-def]  # compiled, typed by numba
    """Step through the data: cancel what is not at its price any more, quote both sides within the limit.

    Returns (code, steps, trades, position, balance, fee, first mid, last mid, simulated ns).
    """
    steps, order_id, first_ns, last_ns = 0, 0, 0, 0
    first_mid, last_mid = np.nan, np.nan
    while True:
        code = market.elapse(STEP_NS)
        if code != _ELAPSED:
            break
        steps += 1
        last_ns = market.current_timestamp
        if steps == 1:
            first_ns = last_ns
        market.clear_inactive_orders(0)
        depth = market.depth(0)
        if not (depth.best_bid_qty > 0 and depth.best_ask_qty > 0):
            continue
        last_mid = (depth.best_bid + depth.best_ask) / 2
        if steps == 1 or np.isnan(first_mid):
            first_mid = last_mid
        bid_tick, ask_tick = depth.best_bid_tick - ticks_away, depth.best_ask_tick + ticks_away
        # Worst case of the position if every open order fills, cancels under way included.
        longest = shortest = market.position(0)
        bidding = asking = False
        orders = market.orders(0).values()
        while orders.has_next():
            order = orders.get()
            wanted_tick = bid_tick if order.side == BUY else ask_tick
            if order.side == BUY:
                longest += order.leaves_qty
                bidding |= order.price_tick == wanted_tick
            else:
                shortest -= order.leaves_qty
                asking |= order.price_tick == wanted_tick
            if order.price_tick != wanted_tick and order.cancellable:
                code = max(code, market.cancel(0, order.order_id, False))
        if not bidding and longest + lots <= position_lots_max:
            order_id += 1
            price = bid_tick * depth.tick_size
            code = max(code, market.submit_buy_order(0, order_id, price, lots, GTX, LIMIT, False))
        if not asking and shortest - lots >= -position_lots_max:
            order_id += 1
            price = ask_tick * depth.tick_size
            code = max(code, market.submit_sell_order(0, order_id, price, lots, GTX, LIMIT, False))
        if code != _ELAPSED:
            break
    state = market.state_values(0)
    span_ns = last_ns - first_ns
    money = (state.position, state.balance, state.fee)
    return (code, steps, state.num_trades, *money, first_mid, last_mid, span_ns)
