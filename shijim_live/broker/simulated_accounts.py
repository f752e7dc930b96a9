"""What the simulated broker says of its two accounts, in the SDK's shapes: of our fills and the day's prices.

Not the fills (`simulated_ledger.py`). Cash at the start and the costs are stated constants; positions start at nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from rust_indicators import SimulatedReport
from shijim_live.broker.event_sequence import event_id
from shijim_live.broker.history import Row
from shijim_live.broker.order_events import State
from shijim_live.broker.plain import word
from shijim_live.broker.simulated import SimulatedExchange
from shijim_live.broker.simulated_answers import price, seconds
from shijim_live.broker.simulated_ledger import INITIAL_MARGIN_PPM, MAINTENANCE_MARGIN_PPM, PPM, Ledger, unit_value
from shijim_live.calendar import Market, next_trading_day
from shijim_live.instruments import PRICE_SCALE

CASH_E6: Final = 10_000_000 * PRICE_SCALE  # of each account in the morning
BUYING_LIMIT_TWD: Final = 30_000_000
SETTLED_AFTER_DAYS: Final = 2
MARKETS: Final = {"S": Market.STOCK, "F": Market.FUTURES}
STATES: Final = {
    "S": (State.STOCK_ORDER, State.STOCK_DEAL),
    "F": (State.FUTURES_ORDER, State.FUTURES_DEAL),
}


class SimulatedAccounts:
    """A stock and a futures account of one day."""

    def __init__(self, exchange: SimulatedExchange) -> None:
        self.ledger = Ledger()
        self._exchange = exchange
        references = (traded.reference_price_e6 for traded in exchange.config.instruments)
        self._references_e6 = dict(zip(exchange.codes, references, strict=True))
        self.prices_of = cache(self._prices)

    def mark_e6(self, code: str, now_ns: int) -> int:
        """The last match by now, of the exchange's own truth; the reference before the first."""
        stamps_ns, prices_e6 = self.prices_of(code)
        place = bisect_right(stamps_ns, now_ns)
        return prices_e6[place - 1] if place else self._references_e6[code]

    def _prices(self, code: str) -> tuple[list[int], list[int]]:
        trades, number = self._exchange.truth()["trades"], self._exchange.codes.index(code)
        of = memoryview(trades["instrument"]).cast("H")
        stamps_ns, prices_e6 = (memoryview(trades[name]).cast("q") for name in ("exchange_ns", "price_e6"))
        rows = sorted((stamps_ns[row], prices_e6[row]) for row in range(len(of)) if of[row] == number)
        return [ns for ns, _ in rows], [price_e6 for _, price_e6 in rows]

    def deal(self, sequence: str, report: SimulatedReport) -> Row:
        """A Deal, as a trade lists it."""
        assert report.price_e6 is not None
        return Row(seq=sequence, price=price(report.price_e6), quantity=report.quantity, ts=seconds(report.exchange_ns))

    def positions(self, kind: str, now_ns: int, *, lots: bool) -> list[Row]:
        """StockPosition or FuturePosition, one a code."""
        found = []
        for number, code in enumerate(self.ledger.codes(MARKETS[kind])):
            held, last_e6 = self.ledger.held[code], self.mark_e6(code, now_ns)
            units = abs(held.units)
            shared: dict[str, Any] = {
                "id": number,
                "code": code,
                "direction": "Buy" if held.units > 0 else "Sell",
                "quantity": units // 1_000 if lots and kind == "S" else units,
                "price": price(held.cost_e6 // held.units),
                "last_price": price(last_e6),
                "pnl": price(self.ledger.unrealised_e6(code, last_e6)),
            }
            if kind == "S":
                credit = dict.fromkeys(("margin_purchase_amount", "collateral", "short_sale_margin", "interest"), 0)
                shared |= {"yd_quantity": 0, "cond": "Cash", **credit}
            found.append(Row(**shared))
        return found

    def balance(self, now_ns: int) -> Row:
        """An AccountBalance: shares are paid for in two days, so that the bank's money is what it was."""
        return Row(acc_balance=price(CASH_E6), date=str(self._exchange.day), errmsg="", status="Fetched")

    def margin(self, now_ns: int) -> Row:
        """A Margin."""
        ledger, market = self.ledger, Market.FUTURES
        held = [(code, ledger.held[code], self.mark_e6(code, now_ns)) for code in ledger.codes(market)]
        value_e6 = sum(abs(of.units) * last_e6 * unit_value(code) for code, of, last_e6 in held)
        unrealised_e6 = sum(ledger.unrealised_e6(code, last_e6) for code, _, last_e6 in held)
        realised_e6 = ledger.realised_e6(market)
        fee_e6, tax_e6 = ledger.fee_e6[market], ledger.tax_e6[market]
        balance_e6 = CASH_E6 + realised_e6 - fee_e6 - tax_e6
        equity_e6 = balance_e6 + unrealised_e6
        initial_e6, kept_e6 = value_e6 * INITIAL_MARGIN_PPM // PPM, value_e6 * MAINTENANCE_MARGIN_PPM // PPM
        known = {
            "yesterday_balance": CASH_E6,
            "today_balance": balance_e6,
            "fee": fee_e6,
            "tax": tax_e6,
            "initial_margin": initial_e6,
            "maintenance_margin": kept_e6,
            "margin_call": max(0, initial_e6 - equity_e6) if equity_e6 < kept_e6 else 0,
            "risk_indicator": equity_e6 * 100 * PRICE_SCALE // initial_e6 if initial_e6 else 999 * PRICE_SCALE,
            "equity": equity_e6,
            "equity_amount": equity_e6,
            "future_open_position": unrealised_e6,
            "today_future_open_position": unrealised_e6,
            "future_settle_profitloss": realised_e6,
            "available_margin": max(0, equity_e6 - initial_e6),
        }
        return Row(**{name: price(known.get(name, 0)) for name in MARGIN_FIELDS}, status="Fetched")

    def limits(self) -> Row:
        """TradingLimits: what was bought today counts, sold or not."""
        used = self.ledger.bought_e6 // PRICE_SCALE
        limits = dict.fromkeys((f"{of}_{what}" for of in ("margin", "short") for what in _LIMITS), 0)
        limits |= {
            "trading_limit": BUYING_LIMIT_TWD,
            "trading_used": used,
            "trading_available": BUYING_LIMIT_TWD - used,
        }
        return Row(**limits, status="Fetched")

    def settlements(self) -> list[Row]:
        """SettlementV1 of today and the two trading days after; today's trades are due on the last."""
        market, day = Market.STOCK, self._exchange.day
        due_e6 = -self.ledger.paid_e6[market] - self.ledger.fee_e6[market] - self.ledger.tax_e6[market]
        found = []
        for trading_days in range(SETTLED_AFTER_DAYS + 1):
            amount_e6 = due_e6 if trading_days == SETTLED_AFTER_DAYS else 0
            found.append(Row(date=str(day), amount=price(amount_e6), T=trading_days))
            day = next_trading_day(day)
        return found

    def profits(self, kind: str, begin_date: str, end_date: str) -> list[Row]:
        """StockProfitLoss or FutureProfitLoss: what was closed today, without costs."""
        today = str(self._exchange.day)
        if (begin_date and today < begin_date) or (end_date and today > end_date):
            return []
        codes = [one for one in self.ledger.closed if (unit_value(one.code) == 1) == (kind == "S")]
        found = []
        for number, one in enumerate(codes):
            shared = {"id": number, "code": one.code, "quantity": one.units, "pnl": price(one.pnl_e6), "date": today}
            if kind == "S":
                rest: dict[str, Any] = {"dseq": f"{number:05}", "price": price(one.exit_e6), "pr_ratio": price(0)}
                rest |= {"cond": "Cash", "seqno": f"{number:06}"}
            else:
                rest = {"entry_price": price(one.entry_e6), "cover_price": price(one.exit_e6)}
                rest |= {"tax": 0, "fee": 0, "direction": "Sell" if one.exit_e6 > one.entry_e6 else "Buy"}
            found.append(Row(**shared, **rest))
        return found

    def health(self, account: Any, said: Sequence[tuple[str, State, str]]) -> Row:
        """TradeCacheHealth; what the SDK's cache would know: a number is missing when a later one came."""
        reasons = []
        for state in STATES[word(account.account_type)]:
            fates = [(event_id(id_), fate) for id_, of, fate in said if of is state]
            numbers = [found.number for found, fate in fates if found and fate == "delivered"]
            if not numbers:
                reasons.append(Row(event_type=state.value, reason="NoBaseline"))
            elif any(found and fate != "delivered" and found.number < max(numbers) for found, fate in fates):
                reasons.append(Row(event_type=state.value, reason="SequenceGap"))
        degraded = any(reason.reason == "SequenceGap" for reason in reasons)
        return Row(state="Degraded" if degraded else "Unknown" if reasons else "Healthy", reasons=reasons)


_LIMITS: Final = ("limit", "used", "available")
MARGIN_FIELDS: Final = (
    "yesterday_balance", "today_balance", "deposit_withdrawal", "fee", "tax", "initial_margin", "maintenance_margin",
    "margin_call", "risk_indicator", "royalty_revenue_expenditure", "equity", "equity_amount",
    "option_openbuy_market_value", "option_opensell_market_value", "option_open_position", "option_settle_profitloss",
    "future_open_position", "today_future_open_position", "future_settle_profitloss", "available_margin", "plus_margin",
    "plus_margin_indicator", "security_collateral_amount", "order_margin_premium", "collateral_amount",
)  # fmt: skip
