"""The broker's client for orders, on the simulated exchange: same methods, same shapes, faults on a schedule.

Not a matching (`SimulatedExchange.matching`), and not our side of it: `simulated_trading` puts `ShioajiTrading` on top,
so that what runs here is what runs at the broker. Time stands until `advance` moves it, or a call that waits: that one
moves it until the answer is there. Like the broker's own test service it has no combo orders. After-hours and block
trades are refused, MKP is matched as MKT.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

from rust_indicators import SimulatedReport
from shijim_live.broker.event_sequence import event_id
from shijim_live.broker.order_budget import OrderBudget
from shijim_live.broker.order_client import OrderClasses
from shijim_live.broker.order_events import OrderEvents, State
from shijim_live.broker.orders import NO_PRICE_E6, Lot, OrderStatus, PriceKind
from shijim_live.broker.plain import exact_e6, word
from shijim_live.broker.shioaji import order_classes
from shijim_live.broker.shioaji_orders import ShioajiTrading
from shijim_live.broker.simulated import SimulatedExchange
from shijim_live.broker.simulated_accounts import STATES, SimulatedAccounts
from shijim_live.broker.simulated_answers import price as price_of
from shijim_live.broker.simulated_ledger import Fill
from shijim_live.broker.simulated_order_faults import BROKEN_WAYS, Emitted, Fate, OrderFaults, broken
from shijim_live.broker.simulated_reports import (
    ACCOUNT_IDS,
    BROKER_IDS,
    PERSON,
    Event,
    SimulatedOrder,
    become,
    deal_event,
    order_event,
    security_type,
    trade_of,
)
from shijim_live.calendar import SECOND_NS
from shijim_live.instruments import instrument

STEP_NS: Final = 2_000_000  # time moves in steps of it while a call waits
PER_MILLE: Final = 1_000
DEAL_FIRST_NS: Final = 400_000_000  # an order event that a deal overtakes comes so much later
HALF: Final = 0.5
NO_ACKNOWLEDGEMENT: Final = "OrderOutcomeUnknown: no acknowledgement from the order gateway"
LOTS: Final = {Lot.COMMON: "board", Lot.INTRADAY_ODD: "odd"}
NO_COMBOS: Final = "Combo orders are not available in paper/simulation mode"


class SimulatedOrders:
    """The client. One thread; the same seed, orders and steps give the same day."""

    def __init__(
        self,
        exchange: SimulatedExchange,
        *,
        seed: int = 0,
        faults: OrderFaults | None = None,
        order_latency_median_ns: int = 5_000_000,
    ) -> None:
        self.exchange = exchange
        self.now_ns = min(session.trial_ns for session in exchange.sessions)
        self.emitted: list[Emitted] = []  # the truth of what was said
        self.fills: list[tuple[str, str, Fill]] = []  # the truth of what was matched: order id, exchange_seq
        self.reports: list[SimulatedReport] = []  # all that the matching said
        self.classes: OrderClasses = order_classes()
        self.accounts = SimulatedAccounts(exchange)
        self.faults = faults or OrderFaults()
        self._random = random.Random(f"orders {exchange.seed} {seed}")
        self._matching = exchange.matching(order_latency_median_ns)
        self._callback: Callable[[Any, Any], None] | None = None
        self._orders: dict[str, SimulatedOrder] = {}
        self._by_number: dict[int, SimulatedOrder] = {}
        self._answers: dict[str, Callable[[Any], None]] = {}  # order id → who waits for its first answer
        self._numbers: defaultdict[str, int] = defaultdict(int)  # stream → the last number
        self._resets: defaultdict[str, int] = defaultdict(int)  # stream → how often it has begun anew
        self._due: list[tuple[int, int, State, object]] = []
        self._turn = count()
        made = self.classes.account
        self._accounts = [made(kind, PERSON, BROKER_IDS[kind], ACCOUNT_IDS[kind]) for kind in ("S", "F")]

    # What the SDK's client has

    @property
    def contracts(self) -> SimulatedOrders:
        """The contract store is the client itself: of it only `get` is used."""
        return self

    def get(self, code: str) -> Any:
        """A listed contract; None for what does not trade today."""
        if code not in self.exchange.codes:
            return None
        return self.classes.contract(security_type(code), instrument(code).exchange.value, code)

    def set_order_callback(self, callback: Callable[[Any, Any], None]) -> None:
        self._callback = callback

    def list_accounts(self) -> list[Any]:
        return list(self._accounts)

    def place_order(self, contract: Any, order: Any, timeout: int | None = 30_000, cb: Any = None) -> Any:
        """A Trade; with `timeout=0` one without ids, and `cb` later."""
        made = self._made(contract, order)
        if made.lot and made.lot not in LOTS:
            become(made.trade.status, status=OrderStatus.FAILED.value, status_code="88", msg=f"no {made.lot} here")
            return made.trade
        unknown = self._hit(self.faults.unknown)
        if not (unknown and self._random.random() < HALF):
            self._send(made)
        if timeout == 0:
            if cb is not None and not unknown:  # nobody ever hears of one that is not acknowledged
                self._answers[made.id] = cb
            return trade_of(made, contract, ids=False)
        if unknown:
            raise self.classes.outcome_unknown(NO_ACKNOWLEDGEMENT)
        if self._hit(self.faults.pending):
            self.advance(self.now_ns + STEP_NS)
            return made.trade
        return self._waited(made, timeout)

    def update_order(
        self, trade: Any, price: Any = None, qty: int | None = None, timeout: int | None = 30_000, cb: Any = None
    ) -> Any:
        """`qty` is what goes, as at the broker."""
        made = self._known(trade)
        if price is not None:
            price_e6 = exact_e6(price)
            change = partial(self._matching.update, made.number, self.now_ns, price_e6=price_e6)
            return self._changed(made, "UpdatePrice", change, timeout)
        if qty is None:
            raise self.classes.bad_value("Must specify either price or qty to update")
        quantity = max(0, made.quantity - made.cancelled - qty)
        change = partial(self._matching.update, made.number, self.now_ns, quantity=quantity)
        return self._changed(made, "UpdateQty", change, timeout)

    def cancel_order(self, trade: Any, timeout: int | None = 30_000, cb: Any = None) -> Any:
        made = self._known(trade)
        return self._changed(made, "Cancel", partial(self._matching.cancel, made.number, self.now_ns), timeout)

    def update_status(
        self, account: Any = None, *, trade: Any = None, timeout: int | None = 30_000, cb: Any = None
    ) -> None:
        """Nothing to do: every trade here is up to date."""

    def list_trades(self) -> list[Any]:
        return [made.trade for made in self._orders.values() if made.number >= 0]

    def trade_cache_health(self, account: Any) -> Any:
        return self.accounts.health(account, [(one.event_id, one.state, one.fate.value) for one in self.emitted])

    def subscribe_trade(self, account: Any, timeout: int | None = 30_000) -> bool:
        return True

    def order_deal_records(self, account: Any = None, timeout: int | None = 30_000, cb: Any = None) -> list[Any]:
        """Today's events, those that never arrived too, as a production account has them."""
        kinds = STATES[word(account.account_type)]
        return [(one.state, one.event) for one in self.emitted if one.state in kinds]

    def place_comboorder(self, combo_contract: Any, order: Any, timeout: int | None = 30_000, cb: Any = None) -> Any:
        raise self.classes.bad_value(NO_COMBOS)

    def cancel_comboorder(self, combo_trade: Any, timeout: int | None = 30_000, cb: Any = None) -> Any:
        raise self.classes.bad_value(NO_COMBOS)

    def update_combostatus(self, account: Any = None, timeout: int | None = 30_000, cb: Any = None) -> list[Any]:
        return []

    def list_combotrades(self) -> list[Any]:
        return []

    def account_balance(self, account: Any = None, timeout: int | None = 30_000, cb: Any = None) -> Any:
        return self.accounts.balance(self.now_ns)

    def margin(self, account: Any = None, timeout: int | None = 30_000, cb: Any = None) -> Any:
        return self.accounts.margin(self.now_ns)

    def trading_limits(self, account: Any = None, timeout: int | None = 30_000, cb: Any = None) -> Any:
        return self.accounts.limits()

    def list_positions(
        self, account: Any = None, unit: Any = None, timeout: int | None = 30_000, cb: Any = None
    ) -> list[Any]:
        return self.accounts.positions(word(account.account_type), self.now_ns, lots=unit != "Share")

    def settlements(self, account: Any = None, timeout: int | None = 30_000, cb: Any = None) -> list[Any]:
        return self.accounts.settlements()

    def list_profit_loss(
        self,
        account: Any = None,
        begin_date: str = "",
        end_date: str = "",
        unit: Any = None,
        timeout: int | None = 30_000,
        cb: Any = None,
    ) -> list[Any]:
        return self.accounts.profits(word(account.account_type), begin_date, end_date)

    # Time

    def advance(self, to_ns: int) -> None:
        """Lets the day run on: orders are matched, and what has come back by then is delivered, in its order."""
        assert to_ns >= self.now_ns, "time does not go back"
        for report in self._matching.advance(to_ns):
            self.reports.append(report)
            self._came(report)
        while self._due and self._due[0][0] <= to_ns:
            self.now_ns, _, state, event = heapq.heappop(self._due)
            if self._callback is not None:
                self._callback(state, event)
        self.now_ns = to_ns

    def clock(self) -> int:
        """Now, for who needs a function."""
        return self.now_ns

    # Our orders

    def _made(self, contract: Any, order: Any) -> SimulatedOrder:
        kind = "S" if security_type(contract.code) == "STK" else "F"
        number = len(self._orders) + 1
        price_type = word(order.price_type)
        price_e6 = exact_e6(order.price) if price_type == PriceKind.LIMIT else NO_PRICE_E6
        made = SimulatedOrder(
            number=-1,
            id=f"{self._random.getrandbits(32):08x}",
            seqno=f"{number:06}",
            ordno=f"S{number:04}",
            kind=kind,
            code=contract.code,
            side=word(order.action),
            price_e6=price_e6,
            quantity=order.quantity,
            price_type=price_type,
            time_in_force=word(order.time_in_force),
            lot=word(order.order_lot) if kind == "S" else "",
            condition=word(order.order_cond) if kind == "S" else "",
            open_close="" if kind == "S" else word(order.octype),
            custom_field=order.custom_field or "",
            placed_ns=self.now_ns,
            asked=["New"],
        )
        made.trade = trade_of(made, contract)
        self._orders[made.id] = made
        return made

    def _send(self, made: SimulatedOrder) -> None:
        price_e6 = None if made.price_e6 == NO_PRICE_E6 else made.price_e6
        lane = LOTS[Lot(made.lot)] if made.lot else "board"
        terms = (made.code, made.side.lower(), price_e6, made.quantity, made.time_in_force, self.now_ns)
        made.number = self._matching.place(*terms, lane=lane)
        self._by_number[made.number] = made

    def _known(self, trade: Any) -> SimulatedOrder:
        made = self._orders.get(trade.order.id)
        if made is None or made.number < 0:
            raise self.classes.bad_request(f"StatusCode: 400, Detail: Trade {trade.order.id} not found in cache")
        return made

    def _changed(self, made: SimulatedOrder, operation: str, change: Callable[[], None], timeout_ms: int | None) -> Any:
        unknown = self._hit(self.faults.unknown)
        if not (unknown and self._random.random() < HALF):
            made.asked.append(operation)
            change()
        if unknown:
            raise self.classes.outcome_unknown(NO_ACKNOWLEDGEMENT)
        return self._waited(made, timeout_ms)

    def _waited(self, made: SimulatedOrder, timeout_ms: int | None) -> Any:
        """Lets time run until the last request about an order is answered."""
        wanted = len(made.asked)
        until_ns = self.now_ns + (timeout_ms or 0) * 1_000_000
        while made.answered < wanted:
            if self.now_ns >= until_ns:
                raise self.classes.timed_out(f"Timeout Topic: order, Timeout: {timeout_ms}ms")
            self.advance(min(self.now_ns + STEP_NS, until_ns))
        if made.refused:
            raise self.classes.bad_request(f"StatusCode: 400, Detail: {made.refused}")
        return made.trade

    # What the exchange says

    def _came(self, report: SimulatedReport) -> None:
        made = self._by_number[report.id]
        if report.kind == "filled":
            self._filled(made, report)
            return
        operation, changed_e6, cancelled, code, text = self._outcome(made, report)
        self._show(made, report.exchange_ns)
        event = order_event(
            made, self._next_id(made.kind, "order"), (operation, code, text), report.exchange_ns, changed_e6, cancelled
        )
        self._emit(State.STOCK_ORDER if made.kind == "S" else State.FUTURES_ORDER, event, report.received_ns)
        if operation == "New" and (answered := self._answers.pop(made.id, None)) is not None:
            answered(made.trade)

    def _outcome(self, made: SimulatedOrder, report: SimulatedReport) -> tuple[str, int, int, str, str]:
        """Operation, new price, quantity cancelled, code and message; the order as it is now."""
        pending = made.asked[made.answered : made.answered + 1]
        if report.kind == "cancelled":
            made.cancelled, made.refused = made.cancelled + report.quantity, ""
            made.answered += pending == ["Cancel"]
            return "Cancel", NO_PRICE_E6, report.quantity, "00", ""
        operation, made.refused = pending[0] if pending else "Cancel", ""
        made.answered += bool(pending)
        if report.kind == "rejected":
            made.refused = "" if operation == "New" else report.reason or "refused"
            if operation == "New":
                become(made.trade.status, status=OrderStatus.FAILED.value, status_code="88", msg=report.reason)
            return operation, NO_PRICE_E6, 0, "88", report.reason or ""
        if report.kind == "accepted":
            made.accepted = True
            return "New", NO_PRICE_E6, 0, "00", ""
        assert report.kind == "updated"
        fewer = made.quantity - made.cancelled - report.quantity
        made.cancelled += fewer
        moved_e6 = report.price_e6 if operation == "UpdatePrice" and report.price_e6 is not None else NO_PRICE_E6
        if moved_e6 != NO_PRICE_E6:
            become(made.trade.status, modified_price=price_of(moved_e6))
        return operation, moved_e6, fewer, "00", ""

    def _filled(self, made: SimulatedOrder, report: SimulatedReport) -> None:
        assert report.price_e6 is not None
        made.filled += report.quantity
        sequence = f"{len(self.fills) + 1:08}"
        shares = 1 if made.kind == "F" or made.lot == Lot.INTRADAY_ODD else 1_000
        units = report.quantity * shares * (1 if made.side == "Buy" else -1)
        fill = Fill(made.code, units, report.price_e6, made.lot == Lot.INTRADAY_ODD)
        self.fills.append((made.id, sequence, fill))
        self.accounts.ledger.take(fill)
        deals = [*made.trade.status.deals, self.accounts.deal(sequence, report)]
        become(made.trade.status, deals=deals)
        self._show(made, report.exchange_ns)
        event = deal_event(
            made,
            self._next_id(made.kind, "deal"),
            sequence,
            report.price_e6,
            report.quantity,
            report.exchange_ns,
            len(deals),
        )
        self._emit(State.STOCK_DEAL if made.kind == "S" else State.FUTURES_DEAL, event, report.received_ns)

    def _show(self, made: SimulatedOrder, at_ns: int) -> None:
        """The trade as the SDK's cache has it now."""
        status = made.trade.status
        if status.status == OrderStatus.FAILED:
            return
        if made.filled and made.left == 0 and made.filled == made.quantity:
            shown = OrderStatus.FILLED
        elif made.left == 0:
            shown = OrderStatus.CANCELLED
        elif made.filled:
            shown = OrderStatus.PART_FILLED
        else:
            shown = OrderStatus.SUBMITTED
        become(status, status=shown.value, deal_quantity=made.filled, cancel_quantity=made.cancelled)

    # On its way

    def _next_id(self, kind: str, of: str) -> str:
        stream = f"{ACCOUNT_IDS[kind]}-{of}"
        if self._hit(self.faults.restarts):
            self._resets[stream] += 1
            self._numbers[stream] = 0
        self._numbers[stream] += 1
        return f"v1:FO:{stream}:{self._resets[stream] + 1}:{self._numbers[stream]}"

    def _emit(self, state: State, event: Event, received_ns: int, *, ours: bool = True) -> None:
        """Puts an event on its way, or what the schedule makes of it."""
        faults, due_ns = self.faults, received_ns
        named = event_id(event.event_id)
        first = named is None or named.number == 1
        fate = Fate.DELIVERED
        if not first and self._hit(faults.lost):
            fate = Fate.LOST
        elif not first and self._hit(faults.malformed):
            fate = Fate.MALFORMED
        if not first and self._hit(faults.late):
            due_ns += self._random.randrange(1, faults.late_ns_max)
        if not first and state in (State.STOCK_ORDER, State.FUTURES_ORDER) and self._hit(faults.deal_first):
            due_ns += DEAL_FIRST_NS
        self.emitted.append(Emitted(event.event_id, state, event, fate, ours))
        if fate is not Fate.LOST:
            sent = event if fate is Fate.DELIVERED else broken(event, self._random.randrange(BROKEN_WAYS))
            heapq.heappush(self._due, (due_ns, next(self._turn), state, sent))
            if self._hit(faults.repeated):
                later_ns = due_ns + self._random.randrange(1, SECOND_NS)
                heapq.heappush(self._due, (later_ns, next(self._turn), state, sent))
        if ours and self._hit(faults.foreign):
            self._foreign(state, event, received_ns)

    def _foreign(self, state: State, event: Event, received_ns: int) -> None:
        """Another program's order, beside each of whose events ours come."""
        if state not in (State.STOCK_ORDER, State.FUTURES_ORDER):
            return
        kind = "S" if state is State.STOCK_ORDER else "F"
        id_ = f"x{self._random.getrandbits(28):07x}"
        details = event.dict() | {"event_id": self._next_id(kind, "order")}
        details["order"] = type(event.order)(**(event.order.dict() | {"id": id_, "seqno": "900000", "ordno": "X0001"}))
        self._emit(state, Event(**details), received_ns, ours=False)

    def _hit(self, per_mille: int) -> bool:
        return per_mille > 0 and self._random.randrange(PER_MILLE) < per_mille


def simulated_trading(client: SimulatedOrders, budget_path: Path) -> ShioajiTrading:
    """The broker's side of trading over a simulated client, whose clock is everybody's."""

    def sleep(waited_seconds: float) -> None:
        client.advance(client.now_ns + int(waited_seconds * SECOND_NS))

    budget = OrderBudget(budget_path, now_ns=client.clock, sleep=sleep)
    events = OrderEvents(client.clock)
    client.set_order_callback(events.received)
    return ShioajiTrading(client, client.classes, budget, live=False, events=events)
