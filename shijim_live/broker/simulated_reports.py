"""The shapes in which the broker reports orders and deals: look-alikes, pinned to the SDK's stub. Decides nothing.

An event has every key of the SDK's and no other. It is mapping-like as `OrderEventDict` is: it has `get` and `items`,
iterates over its keys, and is neither dict nor Mapping; what is nested in it cannot even be iterated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from shijim_live.broker.history import Row
from shijim_live.broker.orders import NO_PRICE_E6, OrderStatus
from shijim_live.broker.simulated_answers import price, seconds
from shijim_live.calendar import Market, wall_clock
from shijim_live.instruments import delivery, expiry, instrument, root_of

PERSON: Final = "A123456789"
BROKER_IDS: Final = {"S": "9A95", "F": "F002000"}
ACCOUNT_IDS: Final = {"S": "0000001", "F": "0000002"}
WEB_ID: Final = "137"


class Event(Row):
    """Like the SDK's OrderEventDict."""

    __slots__ = ()

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401 - this is that get

    def values(self) -> list[Any]:
        return [self[name] for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        return [(name, self[name]) for name in self.keys()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())


class LiveRow(Row):
    """A Row of the SDK's own cache: who holds it sees what it becomes."""

    __slots__ = ()


def become(row: LiveRow, **values: Any) -> None:
    """What the SDK's cache does to a trade that somebody holds."""
    row._fields.update(values)


@dataclass(slots=True)
class SimulatedOrder:
    """One of our orders as the broker keeps it."""

    number: int  # of the matching; -1 of one that never got there
    id: str
    seqno: str
    ordno: str
    kind: str  # of the account: S or F
    code: str
    side: str
    price_e6: int
    quantity: int
    price_type: str
    time_in_force: str
    lot: str
    condition: str
    open_close: str
    custom_field: str
    placed_ns: int
    filled: int = 0
    cancelled: int = 0
    accepted: bool = False
    asked: list[str] = field(default_factory=list)  # operations on their way, in order
    answered: int = 0  # how many came back
    refused: str = ""  # why the last cancel or update was
    trade: Any = None

    @property
    def left(self) -> int:
        return self.quantity - self.filled - self.cancelled


def account_row(kind: str) -> Row:
    return Row(
        account_type=kind,
        person_id=PERSON,
        broker_id=BROKER_IDS[kind],
        account_id=ACCOUNT_IDS[kind],
        signed=True,
        username="",
    )


def _shown_e6(price_e6: int) -> float:
    return price(0 if price_e6 == NO_PRICE_E6 else price_e6)


def order_event(
    order: SimulatedOrder, event_id: str, operation: tuple[str, str, str], at_ns: int, changed_e6: int, cancelled: int
) -> Event:
    """A StockOrder or FuturesOrder event; `operation` is type, code and message."""
    shared = {
        "id": order.id,
        "seqno": order.seqno,
        "ordno": order.ordno,
        "account": account_row(order.kind),
        "action": order.side,
        "price": _shown_e6(order.price_e6),
        "quantity": order.quantity,
        "time_in_force": order.time_in_force,
        "order_type": order.time_in_force,
        "price_type": order.price_type,
    }
    if order.kind == "S":
        details = Row(**shared, order_cond=order.condition, order_lot=order.lot, custom_field=order.custom_field)
    else:
        market = market_type(at_ns)
        details = Row(**shared, market_type=market, oc_type=order.open_close, subaccount="", combo=False)
    status = Row(
        id=order.id,
        exchange_ts=seconds(at_ns),
        modified_price=_shown_e6(changed_e6),
        cancel_quantity=cancelled,
        order_quantity=order.quantity - order.cancelled,
        web_id=WEB_ID if order.kind == "S" else "Z",
    )
    return Event(
        event_id=event_id,
        operation=Row(op_type=operation[0], op_code=operation[1], op_msg=operation[2]),
        order=details,
        status=status,
        contract=_event_contract(order, at_ns),
    )


def _event_contract(order: SimulatedOrder, at_ns: int) -> Row:
    of = instrument(order.code)
    if order.kind == "S":
        return Row(
            security_type="STK",
            exchange=of.exchange.value,
            code=order.code,
            symbol=f"{of.exchange}{order.code}",
            name="",
            currency="TWD",
        )
    month, last_day = _delivery(order.code, at_ns)
    return Row(
        security_type="FUT",
        code=root_of(order.code) or "",
        exchange="TIM",
        delivery_month=month,
        full_code=order.code,
        delivery_date=last_day,
        strike_price=price(0),
        option_right="Future",
    )


def deal_event(
    order: SimulatedOrder, event_id: str, exchange_seq: str, price_e6: int, quantity: int, at_ns: int, deal: int
) -> Event:
    """A StockDeal or FuturesDeal event; `deal` counts those of the order."""
    shared = {
        "event_id": event_id,
        "trade_id": order.id,
        "seqno": order.seqno,
        "ordno": f"{order.ordno}{deal % 1_000:03}",
        "exchange_seq": exchange_seq,
        "broker_id": BROKER_IDS[order.kind],
        "account_id": ACCOUNT_IDS[order.kind],
        "action": order.side,
        "price": price(price_e6),
        "quantity": quantity,
        "ts": seconds(at_ns),
    }
    if order.kind == "S":
        return Event(
            **shared,
            code=order.code,
            order_cond=order.condition,
            order_lot=order.lot,
            web_id=WEB_ID,
            custom_field=order.custom_field,
        )
    return Event(
        **shared,
        code=root_of(order.code) or "",
        full_code=order.code,
        subaccount="",
        security_type="FUT",
        delivery_month=_delivery(order.code, at_ns)[0],
        strike_price=price(0),
        option_right="Future",
        market_type=market_type(at_ns),
        combo=False,
    )


def market_type(at_ns: int) -> str:
    """Which of the futures' sessions."""
    return "Day" if 8 <= wall_clock(at_ns).hour < 14 else "Night"


def _delivery(code: str, at_ns: int) -> tuple[str, str]:
    near = wall_clock(at_ns).date()
    year, month = delivery(code, near)
    return f"{year}{month:02}", f"{expiry(code, near):%Y/%m/%d}"


def trade_of(order: SimulatedOrder, contract: Any, *, ids: bool = True) -> LiveRow:
    """A Trade; without ids, as `place_order` returns it when it does not wait."""
    stock = order.kind == "S"
    details = Row(
        id=order.id if ids else "",
        seqno=order.seqno if ids else "",
        ordno=order.ordno if ids else "",
        action=order.side,
        price=_shown_e6(order.price_e6),
        quantity=order.quantity,
        time_in_force=order.time_in_force,
        order_type=order.time_in_force,
        price_type=order.price_type,
        custom_field=order.custom_field,
        account=account_row(order.kind),
        daytrade_short=False if stock else None,
        order_cond=order.condition if stock else None,
        order_lot=order.lot if stock else None,
        octype=None if stock else order.open_close,
    )
    status = LiveRow(
        id=order.id if ids else "",
        status=OrderStatus.PENDING_SUBMIT.value,
        status_code="00",
        web_id=WEB_ID,
        order_datetime=wall_clock(order.placed_ns),
        msg="",
        modified_time=None,
        modified_price=price(0),
        order_quantity=order.quantity,
        deal_quantity=0,
        cancel_quantity=0,
        deals=[],
    )
    return LiveRow(contract=contract, order=details, status=status)


def security_type(code: str) -> str:
    return "STK" if instrument(code).market is Market.STOCK else "FUT"
