"""A backtest of a dataset in hftbacktest: a plain two-sided quoter, to see that a dataset trades and what it says.

Not the strategy that trades live, and no advice: one order a side, quoted anew every second. A process compiles once;
every further dataset takes a tenth of a second.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hftbacktest import BUY, GTX, LIMIT, BacktestAsset, HashMapMarketDepthBacktest, Recorder
from numba import njit
from numpy.typing import NDArray

from shijim_live.instruments import PRICE_SCALE
from shijim_pipelines.event_file import InvalidDataset, Rows, content_sha256, validate_npz
from shijim_pipelines.hft_dataset import Contract, read_contract

STEP_NS = 1_000_000_000
# What `elapse` returns when time passed and when the data ended. Anything else is an error it does not raise.
_ELAPSED, _END_OF_DATA = 0, 1
# Mid price where the dataset had not shown both sides yet.
NO_MID_E6 = -(2**63)

Int64s = NDArray[np.int64]


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


@dataclass(frozen=True, slots=True)
class Track:
    """The way to the result, a point every step and one at the end of the data; arrays of one length.

    Equity is valued at `mid_e6`: the last mid that both sides showed, NO_MID_E6 before the first.
    """

    ns: Int64s  # the quoter's clock, since the epoch, UTC
    mid_e6: Int64s
    equity_e6: Int64s  # TWD × 10⁶, fees paid
    position: Int64s  # lots
    bought: Int64s  # lots filled within the step that ends at the point
    sold: Int64s

    @property
    def fills(self) -> Int64s:
        """Points at whose step something was filled."""
        return np.flatnonzero(self.bought + self.sold)


def run_backtest(npz: Path, meta: Path, quoting: Quoting) -> BacktestResult:
    """Quote through the whole dataset. Refuses a dataset that is unsound or is not the one its meta describes."""
    return run_tracked(npz, meta, quoting)[0]


def run_tracked(npz: Path, meta: Path, quoting: Quoting) -> tuple[BacktestResult, Track]:
    """The same with the equity and the fills of every step."""
    started_ns = time.perf_counter_ns()
    rows = validate_npz(npz)
    contract, sha256 = read_contract(meta)
    if content_sha256(rows) != sha256:
        raise InvalidDataset(f"{npz}: its rows are not those that {meta.name} describes. Rebuild both: shijim dataset")
    market = HashMapMarketDepthBacktest([asset(rows, contract, quoting)])
    recorder = Recorder(1, points_max(rows))
    facts = quote_through(market, recorder.recorder, quoting, npz)
    steps, trades, position, balance, fee, first_mid, last_mid, simulated_ns = facts
    # Without a mid nothing was ever quoted, so that the position is 0.
    inventory = position * last_mid * contract.contract_size if position else 0.0
    result = BacktestResult(
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
    return result, _track(recorder.get(0), result, contract)


def _track(points: Any, result: BacktestResult, contract: Contract) -> Track:
    """What hftbacktest's recorder wrote, in integers."""
    mid_e6 = _last_known(points["price"], result.last_mid_e6)
    position = np.rint(points["position"]).astype(np.int64)
    cash_e6 = np.rint((points["balance"] - points["fee"]) * PRICE_SCALE).astype(np.int64)
    # Both sides may fill within a step: their sum is what was traded, their difference what the position moved.
    traded = np.diff(np.rint(points["trading_volume"]).astype(np.int64), prepend=0)
    moved = np.diff(position, prepend=0)
    return Track(
        ns=points["timestamp"].astype(np.int64),
        mid_e6=mid_e6,
        equity_e6=cash_e6 + np.where(position == 0, 0, position * mid_e6 * contract.contract_size),
        position=position,
        bought=(traded + moved) // 2,
        sold=(traded - moved) // 2,
    )


def _last_known(mids: NDArray[np.float64], last_mid_e6: int) -> Int64s:
    """Each mid, or the one before where a side was empty; the end of the data is valued as the result values it."""
    known = np.isfinite(mids)
    places = np.maximum.accumulate(np.where(known, np.arange(len(mids)), -1))
    mid_e6 = np.full(len(mids), NO_MID_E6)
    seen = places >= 0
    mid_e6[seen] = np.rint(mids[places[seen]] * PRICE_SCALE).astype(np.int64)
    mid_e6[-1:] = last_mid_e6
    return mid_e6


def summary(result: BacktestResult) -> str:
    """The result for a person, money in TWD."""
    mids = f"{result.first_mid_e6 / 1e6:,.2f} → {result.last_mid_e6 / 1e6:,.2f}"
    lines = (
        ("steps", f"{result.steps:,}, one every {STEP_NS // 1_000_000_000} s"),
        ("trades", f"{result.trades:,}"),
        ("position", f"{result.position:,} lots"),
        ("mid", "the book was never two-sided" if result.last_mid_e6 == NO_MID_E6 else mids),
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


def points_max(rows: Rows) -> int:
    """Points a track of these rows has at most: the recorder's memory, which fails when it is full."""
    clocks = (rows["exch_ts"], rows["local_ts"])
    span_ns = max(int(clock.max()) for clock in clocks) - min(int(clock.min()) for clock in clocks)
    return span_ns // STEP_NS + 4


def quote_through(
    market: Any, recorder: Any, quoting: Quoting, npz: Path
) -> tuple[int, int, float, float, float, float, float, int]:
    """Run the compiled loop to the end of the data; what it returns without its code."""
    code, *facts = _quote(market, recorder, quoting.lots, quoting.ticks_away, quoting.position_lots_max)
    closed = market.close()
    if code != _END_OF_DATA or closed != 0:
        raise BacktestFailed(
            f"{npz}: hftbacktest stopped with code {code} after {facts[0]} steps; it prints the reason on stderr. "
            "Rebuild the dataset and try again: shijim dataset"
        )
    return tuple(facts)


# Not cached on disk: numba cannot keep the foreign function pointers of hftbacktest, so a process compiles once.
@njit
def _quote(market, recorder, lots, ticks_away, position_lots_max):  # type: ignore[no-untyped-def]  # compiled, typed by numba
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
        recorder.record(market)
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
    if steps:
        recorder.record(market)
    state = market.state_values(0)
    span_ns = last_ns - first_ns
    money = (state.position, state.balance, state.fee)
    return (code, steps, state.num_trades, *money, first_mid, last_mid, span_ns)
