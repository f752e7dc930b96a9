"""What the broker says of orders and accounts, as our records. Asks nobody.

Each record also keeps everything that was said, as JSON: a field that we do not use today is not lost.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

import orjson

from shijim_live.broker.orders import (
    NO_PRICE_E6,
    Condition,
    Ids,
    OrderStatus,
    PriceKind,
    Side,
    StandingDeal,
    StandingOrder,
)
from shijim_live.broker.plain import exact_e6, plain, rounded_e6, seconds_ns, word
from shijim_live.broker.trading import (
    AccountKind,
    Balance,
    Health,
    HealthState,
    Margin,
    Position,
    ProfitAndLoss,
    Settlement,
    TradingAccount,
    TradingLimits,
)

R = TypeVar("R", Balance, Margin, TradingLimits, Settlement, ProfitAndLoss)


def standing_of(trade: Any) -> StandingOrder:
    """The SDK's Trade or ComboTrade. ValueError, KeyError: it is none."""
    said = plain(trade)
    contract, order, status = said["contract"], said["order"], said["status"]
    legs = contract.get("legs")
    code = "/".join(leg["code"] for leg in legs) if legs else contract["code"]
    deals = status["deals"]
    matched = [deal for leg in deals.values() for deal in leg] if isinstance(deals, dict) else deals
    price_e6 = exact_e6(order["price"])
    if price_e6 == 0 and order.get("price_type") not in (PriceKind.LIMIT, None):
        price_e6 = NO_PRICE_E6
    return StandingOrder(
        ids=Ids(order["id"], order["seqno"], order["ordno"]),
        code=code,
        side=Side(order["action"]),
        price_e6=price_e6,
        quantity=order["quantity"],
        status=OrderStatus(status["status"]),
        filled=status.get("deal_quantity") or 0,
        cancelled=status.get("cancel_quantity") or 0,
        modified_price_e6=exact_e6(status.get("modified_price") or 0) or NO_PRICE_E6,
        custom_field=order.get("custom_field") or "",
        lot=order.get("order_lot") or "",
        op_code=status.get("status_code") or "",
        text=status.get("msg") or "",
        deals=tuple(
            StandingDeal(deal["seq"], exact_e6(deal["price"]), deal["quantity"], seconds_ns(deal["ts"]))
            for deal in matched
        ),
        raw=_raw(said),
    )


def account_of(account: Any) -> TradingAccount:
    """The SDK's Account, without the person."""
    said = plain(account)
    return TradingAccount(
        AccountKind(said["account_type"]), said["broker_id"], said["account_id"], said["signed"] is True
    )


def health_of(health: Any) -> Health:
    """The SDK's TradeCacheHealth, which is no mapping."""
    return Health(
        HealthState(word(health.state)),
        tuple((word(reason.event_type), word(reason.reason)) for reason in health.reasons),
    )


def balance_of(balance: Any) -> Balance:
    """ValueError with what the bank says, where it gave no balance."""
    if problem := plain(balance).get("errmsg"):
        raise ValueError(problem)
    return _money(Balance, balance)


def margin_of(margin: Any) -> Margin:
    return _money(Margin, margin)


def limits_of(limits: Any) -> TradingLimits:
    return _money(TradingLimits, limits)


def settlement_of(settlement: Any) -> Settlement:
    return _money(Settlement, settlement)


def profit_of(closed: Any) -> ProfitAndLoss:
    return _money(ProfitAndLoss, closed)


def position_of(position: Any) -> Position:
    """A StockPosition or FuturePosition."""
    said = plain(position)
    return Position(
        code=said["code"],
        direction=Side(said["direction"]),
        quantity=said["quantity"],
        price_e6=rounded_e6(said["price"]),
        last_price_e6=rounded_e6(said["last_price"]),
        pnl_e6=rounded_e6(said["pnl"]),
        yd_quantity=said.get("yd_quantity", 0),
        cond=Condition(said.get("cond", Condition.CASH)),
        raw=_raw(said),
    )


def _money(record: type[R], answer: Any) -> R:
    """A record whose fields are the broker's by name, `…_e6` in millionths."""
    said = plain(answer)
    found: dict[str, Any] = {"raw": _raw(said)}
    for field in fields(record):
        if field.name.endswith("_e6"):
            found[field.name] = rounded_e6(said[field.name.removesuffix("_e6")])
        elif field.name != "raw":
            found[field.name] = said[field.name]
    return record(**found)


def _raw(said: Any) -> str:
    return orjson.dumps(said).decode()
