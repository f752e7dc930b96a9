"""The SDK's client and classes as orders use them: names, signatures, how a request becomes its object. Calls nothing.

Two have them: the SDK itself, handed in by `shioaji.py`, and the simulated client. A test compares the signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from shijim_live.broker.orders import NO_PRICE_E6, FuturesRequest, Request, StockRequest


class Client(Protocol):
    """What is called of the SDK's `Shioaji`, with its names."""

    @property
    def contracts(self) -> Any: ...
    def list_accounts(self) -> Sequence[Any]: ...
    def place_order(self, contract: Any, order: Any, timeout: int | None = ..., cb: Any = ...) -> Any: ...
    def update_order(
        self, trade: Any, price: Any = ..., qty: int | None = ..., timeout: int | None = ..., cb: Any = ...
    ) -> Any: ...
    def cancel_order(self, trade: Any, timeout: int | None = ..., cb: Any = ...) -> Any: ...
    def update_status(
        self, account: Any = ..., *, trade: Any = ..., timeout: int | None = ..., cb: Any = ...
    ) -> None: ...
    def list_trades(self) -> Sequence[Any]: ...
    def trade_cache_health(self, account: Any) -> Any: ...
    def subscribe_trade(self, account: Any, timeout: int | None = ...) -> bool: ...
    def order_deal_records(self, account: Any = ..., timeout: int | None = ..., cb: Any = ...) -> Sequence[Any]: ...
    def place_comboorder(self, combo_contract: Any, order: Any, timeout: int | None = ..., cb: Any = ...) -> Any: ...
    def cancel_comboorder(self, combo_trade: Any, timeout: int | None = ..., cb: Any = ...) -> Any: ...
    def update_combostatus(self, account: Any = ..., timeout: int | None = ..., cb: Any = ...) -> Any: ...
    def list_combotrades(self) -> Sequence[Any]: ...
    def account_balance(self, account: Any = ..., timeout: int | None = ..., cb: Any = ...) -> Any: ...
    def margin(self, account: Any = ..., timeout: int | None = ..., cb: Any = ...) -> Any: ...
    def trading_limits(self, account: Any = ..., timeout: int | None = ..., cb: Any = ...) -> Any: ...
    def list_positions(self, account: Any = ..., unit: Any = ..., timeout: int | None = ..., cb: Any = ...) -> Any: ...
    def settlements(self, account: Any = ..., timeout: int | None = ..., cb: Any = ...) -> Any: ...
    def list_profit_loss(
        self,
        account: Any = ...,
        begin_date: str = ...,
        end_date: str = ...,
        unit: Any = ...,
        timeout: int | None = ...,
        cb: Any = ...,
    ) -> Any: ...


@dataclass(frozen=True, slots=True)
class OrderClasses:
    """The SDK's classes that a request becomes, and of its errors; enums are given as the words they stand for."""

    stock_order: Callable[..., Any]
    futures_order: Callable[..., Any]
    combo_order: Callable[..., Any]
    combo_contract: Callable[..., Any]
    combo_leg: Callable[[Any, str], Any]  # of a contract and a side
    # What the simulated client answers with.
    account: Callable[[str, str, str, str], Any]  # kind, person, broker id, account id
    contract: Callable[[str, str, str], Any]  # security type, exchange, code
    outcome_unknown: type[Exception]
    timed_out: type[Exception]
    bad_request: type[Exception]
    bad_value: type[Exception]


def sdk_price(price_e6: int) -> Decimal:
    """A price as the SDK takes it, which makes the nearest float of it; 0 of a market order, which it ignores."""
    return Decimal(0) if price_e6 == NO_PRICE_E6 else Decimal(price_e6).scaleb(-6)


def sdk_order(request: Request, classes: OrderClasses, account: Any) -> Any:
    """The SDK's order of a request."""
    terms: dict[str, Any] = {
        "action": request.side.value,
        "price": sdk_price(request.price_e6),
        "quantity": request.quantity,
        "price_type": request.price_kind.value,
        "time_in_force": request.time_in_force.value,
        "custom_field": request.custom_field or None,
        "account": account,
    }
    if isinstance(request, StockRequest):
        lot, condition = request.lot.value, request.condition.value
        return classes.stock_order(order_lot=lot, order_cond=condition, daytrade_short=request.day_trade, **terms)
    if isinstance(request, FuturesRequest):
        return classes.futures_order(octype=request.open_close.value, **terms)
    kind = request.kind.value or None
    return classes.combo_order(octype=request.open_close.value, combo_type=kind, **terms)
