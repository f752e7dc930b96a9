"""What an account says: money, positions, limits, health, as our records. Asks nobody; `shioaji_orders.py` does."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from shijim_live.broker.gateway import GatewayError
from shijim_live.broker.orders import Condition, Side


class AccountUnavailable(GatewayError):
    """The broker did not say what was asked; the text says why. Nothing was changed."""


class AccountKind(StrEnum):
    STOCK = "S"
    FUTURES = "F"
    FOREIGN = "H"  # sub-brokerage; nothing is done with it here


@dataclass(frozen=True, slots=True)
class TradingAccount:
    """One account of the person; whose it is stays with the SDK."""

    kind: AccountKind
    broker_id: str
    account_id: str
    signed: bool  # the agreement on API orders: without it every order is refused


class HealthState(StrEnum):
    """Whether what the SDK remembers of an account's orders is whole."""

    UNKNOWN = "Unknown"
    HEALTHY = "Healthy"
    DEGRADED = "Degraded"


@dataclass(frozen=True, slots=True)
class Health:
    state: HealthState
    reasons: tuple[tuple[str, str], ...]  # (kind of event, reason), like (FDEAL, SequenceGap)


@dataclass(frozen=True, slots=True)
class Balance:
    """Money of the stock account's bank."""

    acc_balance_e6: int
    date: str
    raw: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Margin:
    """A futures account; TWD × 1,000,000, the two indicators percent × 1,000,000. Names are the broker's."""

    yesterday_balance_e6: int
    today_balance_e6: int
    deposit_withdrawal_e6: int
    fee_e6: int
    tax_e6: int
    initial_margin_e6: int
    maintenance_margin_e6: int
    margin_call_e6: int
    risk_indicator_e6: int
    royalty_revenue_expenditure_e6: int
    equity_e6: int
    equity_amount_e6: int
    option_openbuy_market_value_e6: int
    option_opensell_market_value_e6: int
    option_open_position_e6: int
    option_settle_profitloss_e6: int
    future_open_position_e6: int
    today_future_open_position_e6: int
    future_settle_profitloss_e6: int
    available_margin_e6: int
    plus_margin_e6: int
    plus_margin_indicator_e6: int
    security_collateral_amount_e6: int
    order_margin_premium_e6: int
    collateral_amount_e6: int
    raw: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TradingLimits:
    """What a stock account may still buy, on margin and short; TWD × 1,000,000. Told from 08:30 to 15:00 only."""

    trading_limit_e6: int
    trading_used_e6: int
    trading_available_e6: int
    margin_limit_e6: int
    margin_used_e6: int
    margin_available_e6: int
    short_limit_e6: int
    short_used_e6: int
    short_available_e6: int
    raw: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Position:
    """What is held of one code under one condition."""

    code: str
    direction: Side
    quantity: int  # shares of stocks, odd lots included; contracts
    price_e6: int  # average, to the nearest millionth
    last_price_e6: int
    pnl_e6: int  # unrealised
    yd_quantity: int  # of it held since yesterday; 0 of futures
    cond: Condition  # CASH of futures
    raw: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Settlement:
    """Money due on a day: what was bought is paid for, negative, two trading days later."""

    date: str
    amount_e6: int
    T: int  # trading days from today
    raw: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProfitAndLoss:
    """One closed position."""

    code: str
    quantity: int  # shares; contracts
    pnl_e6: int
    date: str
    raw: str = field(repr=False)
