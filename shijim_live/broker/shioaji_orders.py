"""Orders and accounts through the SDK's client: our requests as its objects, its answers as ours. Imports no SDK.

The client is handed in, with the SDK's own classes, by `shioaji.py` – or it is the one of `simulated_trading.py`, which
answers in the same shapes. What goes wrong with a request that may have left is an unknown outcome, unless the error
says that the broker refused it: an order sent twice is worse than one that is looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from typing import Any, Final, TypeVar

from shijim_live.broker.account_reads import (
    account_of,
    balance_of,
    health_of,
    limits_of,
    margin_of,
    position_of,
    profit_of,
    settlement_of,
    standing_of,
)
from shijim_live.broker.awaited_answers import AWAITED_MAX
from shijim_live.broker.login import OrdersForbidden, OrdersToken, one_line
from shijim_live.broker.order_budget import OrderBudget
from shijim_live.broker.order_client import Client, OrderClasses, sdk_order, sdk_price
from shijim_live.broker.order_events import OrderEvents
from shijim_live.broker.orders import (
    Accepted,
    Answer,
    ComboRequest,
    FuturesRequest,
    OrderStatus,
    OutcomeUnknown,
    Refused,
    Request,
    StandingOrder,
    StockRequest,
    move_refusals,
    refusals,
)
from shijim_live.broker.trading import (
    AccountKind,
    AccountUnavailable,
    Balance,
    Health,
    Margin,
    Position,
    ProfitAndLoss,
    Settlement,
    TradingAccount,
    TradingLimits,
)
from shijim_live.instruments import TickBands

ANSWER_MS_MAX: Final = 30_000  # the SDK's own; the broker takes 40 to 140 ms
TRADES_MAX: Final = 100_000  # the SDK's handles of today's orders; more were not placed by this person

T = TypeVar("T")

# Errors that say that the broker, or the SDK before it sent anything, refused. All others leave it open.
REFUSING: Final = frozenset(
    {
        *("BadRequestError", "ValidationError", "AuthError", "CaError", "AccountNotSignError"),
        *("AccountNotProvideError", "ShioajiValueError", "ShioajiTypeError", "ShioajiPermissionError"),
    }
)
# Texts that leave it open, whatever they come with (the broker's list of errors): still in work, timed out, in doubt.
IN_DOUBT: Final = ("處理中", "連線逾時", "確認委託狀態", "忙線中", "STS Request Timeout", "OrderOutcomeUnknown")
STALE: Final = "update_status"  # "Please run update_status first to get trade details."


class ShioajiTrading:
    """Orders and accounts of one login. OrdersForbidden for real money without the token that says so.

    Calls block until the broker answered, `place_soon` apart. None raises over what the broker says of an order: that
    is its answer. Reads raise AccountUnavailable.
    """

    def __init__(
        self,
        client: Client,
        classes: OrderClasses,
        budget: OrderBudget,
        *,
        live: bool,
        permission: OrdersToken | None = None,
        secrets: tuple[str, ...] = (),
        events: OrderEvents | None = None,
    ) -> None:
        """`live`: a production account. `events` of the login before, so that what was missed between is noticed."""
        if live and type(permission) is not OrdersToken:
            raise OrdersForbidden("real orders need the OrdersToken that allow_orders gives")
        self.events = events or OrderEvents()
        self._client = client
        self._classes = classes
        self._budget = budget
        self._live = live
        self._secrets = secrets
        self._contracts: dict[str, Any] = {}
        self._trades: dict[str, Any] = {}  # order id → the SDK's handle, which it wants back
        self._combos: dict[str, Any] = {}

    # New orders

    def place(self, request: StockRequest | FuturesRequest) -> Answer:
        """A new order. After OutcomeUnknown it is looked for among the standing orders, and never sent again."""
        ready = self._ready(request)
        if isinstance(ready, Refused):
            return ready
        contract, order = ready
        return self._asked(lambda: self._client.place_order(contract, order, timeout=ANSWER_MS_MAX), self._trades)

    def place_soon(self, request: StockRequest | FuturesRequest, answered: Callable[[Answer], None]) -> Answer | None:
        """The same without waiting: None, and the answer later; or a refusal, or a failure, at once.

        `answered` is called once, and must not raise: on a thread of the SDK's, or, where no answer came within
        `ANSWER_NS_MAX`, with OutcomeUnknown by `events.drain`. An answer after that is told by its events alone.
        """
        ready = self._ready(request)
        if isinstance(ready, Refused):
            return ready
        contract, order = ready
        awaited = self.events.awaited
        number = awaited.expect(answered)
        if number is None:
            return Refused(f"{AWAITED_MAX} orders have no answer yet: drain the events, which ends it", sent=False)

        def came(trade: Any) -> None:
            awaited.answer(number, self._answered(trade, self._trades))

        try:
            self._client.place_order(contract, order, timeout=0, cb=came)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the SDK's panics are no Exception
            return self._failed(error) if awaited.forget(number) else None
        return None

    def place_combo(self, request: ComboRequest) -> Answer:
        """A new order of two contracts; the broker's test service has none."""
        if not self._live:
            return Refused("the broker's test service has no combo orders", sent=False)
        ready = self._ready(request)
        if isinstance(ready, Refused):
            return ready
        contract, order = ready
        return self._asked(lambda: self._client.place_comboorder(contract, order, timeout=ANSWER_MS_MAX), self._combos)

    def _ready(self, request: Request) -> Refused | tuple[Any, Any]:
        """The SDK's contract and order, paid for; nothing is sent for what is refused here."""
        if problems := refusals(request):
            return Refused("; ".join(problems), sent=False)
        try:
            built = self._explained(lambda: self._built(request))
        except AccountUnavailable as error:
            return Refused(str(error), sent=False)
        return self._too_many() or built

    def _built(self, request: Request) -> tuple[Any, Any]:
        """AccountUnavailable, and what the SDK raises; none of it sends anything."""
        kind = AccountKind.STOCK if isinstance(request, StockRequest) else AccountKind.FUTURES
        order = sdk_order(request, self._classes, self._account(kind, request.account_id))
        if not isinstance(request, ComboRequest):
            return self._contract(request.code), order
        legs = [self._classes.combo_leg(self._contract(leg.code), leg.side.value) for leg in request.legs]
        return self._classes.combo_contract(legs), order

    def _too_many(self) -> Refused | None:
        wait_ns = self._budget.try_place()
        text = self._budget.problem or f"too many orders: the next one in {wait_ns // 1_000_000} ms"
        return Refused(text, sent=False) if wait_ns else None

    def _contract(self, code: str) -> Any:
        """What the broker lists under a code."""
        if code not in self._contracts:
            found = self._client.contracts.get(code)
            if found is None:
                raise AccountUnavailable(f"{code}: the broker lists no such contract")
            self._contracts[code] = found
        return self._contracts[code]

    def _account(self, kind: AccountKind, account_id: str) -> Any:
        """The SDK's account, where it is clear which."""
        owned = [account for account in self._client.list_accounts() if account_of(account).kind is kind]
        named = [account for account in owned if account_id in ("", account_of(account).account_id)]
        if len(named) != 1:
            ids = ", ".join(account_of(account).account_id for account in owned)
            asked = account_id or "not named"
            raise AccountUnavailable(f"account {asked}: of kind {kind.name} there are: {ids or 'none'}")
        return named[0]

    # Orders that stand

    def move(self, order_id: str, price_e6: int, tick_bands: TickBands = ()) -> Answer:
        """Another price; costs the place in the queue, and counts as a new order. Not of intraday odd lots.

        `tick_bands`: the contract's own, needed of a code whose ticks we do not know (an option, a warrant).
        """
        standing = self._standing(order_id)
        if isinstance(standing, Refused):
            return standing
        if problems := move_refusals(standing, price_e6, tick_bands):
            return Refused("; ".join(problems), sent=False)
        if too_many := self._too_many():
            return too_many
        price = sdk_price(price_e6)
        return self._changed(order_id, lambda of: self._client.update_order(of, price=price, timeout=ANSWER_MS_MAX))

    def reduce(self, order_id: str, by: int) -> Answer:
        """Takes `by` away, in the order's unit. Never adds: the exchanges know no larger quantity.

        The SDK's `qty` is what goes, not what is left: of 10, qty=2 is answered as 2 cancelled.
        """
        standing = self._standing(order_id)
        if isinstance(standing, Refused):
            return standing
        left = standing.quantity - standing.filled - standing.cancelled
        if type(by) is not int or not 1 <= by < left:
            return Refused(f"by {by!r}: of {left} still working 1 to {left - 1} can go; cancel for all", sent=False)
        self._budget.reduce()
        return self._changed(order_id, lambda of: self._client.update_order(of, qty=by, timeout=ANSWER_MS_MAX))

    def cancel(self, order_id: str) -> Answer:
        """Takes back what is left; held back by nothing that can be done without."""
        if unknown := self._unknown(order_id):
            return unknown
        self._budget.reduce()
        return self._changed(order_id, lambda of: self._client.cancel_order(of, timeout=ANSWER_MS_MAX))

    def cancel_combo(self, order_id: str) -> Answer:
        """Takes back what is left of a combo."""
        try:
            if order_id not in self._combos:
                self.combos()
        except AccountUnavailable as error:
            return Refused(f"{order_id}: not known here, and {error}", sent=False)
        if order_id not in self._combos:
            return Refused(f"{order_id}: the broker knows no such combo order", sent=False)
        self._budget.reduce()
        combo = self._combos[order_id]
        return self._asked(lambda: self._client.cancel_comboorder(combo, timeout=ANSWER_MS_MAX), self._combos)

    def _unknown(self, order_id: str) -> Refused | None:
        """Asks for all orders once where there is no handle of this one; one that cannot be read is no reason."""
        text = "the broker knows no such order"
        if order_id not in self._trades:
            try:
                self.orders()
            except AccountUnavailable as error:
                text = f"not known here, and {error}"
        return None if order_id in self._trades else Refused(f"{order_id}: {text}", sent=False)

    def _standing(self, order_id: str) -> StandingOrder | Refused:
        """How an order stands as far as the SDK knows."""
        if unknown := self._unknown(order_id):
            return unknown
        try:
            return self._explained(lambda: standing_of(self._trades[order_id]))
        except AccountUnavailable as error:
            return Refused(f"{order_id}: {error}", sent=False)

    def _changed(self, order_id: str, ask: Callable[[Any], Any]) -> Answer:
        """Asks; once more behind an `update_status` where the broker wants one first, as 1.7.5 does of futures."""
        answer = self._asked(lambda: ask(self._trades[order_id]), self._trades)
        if not isinstance(answer, Refused) or STALE not in answer.text:
            return answer
        refreshed = self._asked(lambda: self._refreshed(order_id), self._trades)
        if not isinstance(refreshed, Accepted):
            return refreshed
        self._budget.reduce()
        return self._asked(lambda: ask(self._trades[order_id]), self._trades)

    def _refreshed(self, order_id: str) -> Any:
        self._budget.query()
        self._client.update_status(trade=self._trades[order_id], timeout=ANSWER_MS_MAX)
        return self._trades[order_id]

    # Answers

    def _asked(self, ask: Callable[[], Any], handles: dict[str, Any]) -> Answer:
        try:
            trade = ask()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the SDK's panics are no Exception
            return self._failed(error)
        return self._answered(trade, handles)

    def _answered(self, trade: Any, handles: dict[str, Any]) -> Answer:
        """What a trade says. It was sent: an error while it is read refuses nothing, whatever its class."""
        try:
            standing = standing_of(trade)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the SDK's panics are no Exception
            return OutcomeUnknown(one_line(error, self._secrets))
        if standing.status is OrderStatus.FAILED:
            if any(doubt in standing.text for doubt in IN_DOUBT):
                return OutcomeUnknown(standing.text)
            return Refused(standing.text or "refused without a word", standing.op_code)
        if not standing.ids.id:
            return OutcomeUnknown("the broker gave the order no id")
        handles[standing.ids.id] = trade
        if len(handles) > TRADES_MAX:
            del handles[next(iter(handles))]
        return Accepted(standing.ids, standing.status, standing.text)

    def _failed(self, error: BaseException) -> Refused | OutcomeUnknown:
        shown = one_line(error, self._secrets)
        said = " ".join(str(error).split())  # whole: what is shown is cut and masked, and the doubt may be behind
        names = {cls.__name__ for cls in type(error).__mro__}
        if names & REFUSING and not any(doubt in said for doubt in IN_DOUBT):
            return Refused(shown)
        return OutcomeUnknown(shown)

    # What the broker remembers

    def orders(self) -> list[StandingOrder]:
        """Every order of today by the broker's own account, asked anew: also those of other programs."""
        for account in self._owned():
            self._read(partial(self._client.update_status, account, timeout=ANSWER_MS_MAX))
        return self._listed(self._client.list_trades, self._trades)

    def combos(self) -> list[StandingOrder]:
        """Every combo order of today, asked anew."""
        for account in self._owned():
            if account_of(account).kind is AccountKind.FUTURES:
                self._read(partial(self._client.update_combostatus, account, timeout=ANSWER_MS_MAX))
        return self._listed(self._client.list_combotrades, self._combos)

    def _owned(self) -> list[Any]:
        """The SDK's accounts that are of use here."""
        return self._explained(
            lambda: [one for one in self._client.list_accounts() if account_of(one).kind is not AccountKind.FOREIGN]
        )

    def subscribe_events(self) -> None:
        """Asks for the events of every account; again after a reconnection, which may have forgotten it."""
        for account in self._owned():
            self._read(partial(self._client.subscribe_trade, account, timeout=ANSWER_MS_MAX))

    def recall_events(self) -> None:
        """Has today's events sent through `events` once more: what is known is dropped there, what was missed is new.

        The broker's test service remembers none.
        """
        for account in self._owned():
            for state, event in self._read(partial(self._client.order_deal_records, account, timeout=ANSWER_MS_MAX)):
                self.events.received(state, event)

    def _listed(self, ask: Callable[[], Sequence[Any]], handles: dict[str, Any]) -> list[StandingOrder]:
        """AccountUnavailable where one cannot be read: a list that lacks one is none. The others can be cancelled."""
        listed, unread = [], None
        for trade in self._explained(lambda: list(ask())):
            try:
                standing = self._explained(partial(standing_of, trade))
            except AccountUnavailable as error:
                unread = error
                continue
            listed.append(standing)
            if standing.ids.id:
                handles[standing.ids.id] = trade
        if unread is not None:
            raise unread
        return listed

    def health(self, account: TradingAccount) -> Health:
        """Whether the SDK has missed events; asks its memory, nobody else."""
        return self._explained(lambda: health_of(self._client.trade_cache_health(self._sdk_account(account))))

    # Accounts

    def accounts(self) -> tuple[TradingAccount, ...]:
        return self._explained(lambda: tuple(account_of(account) for account in self._client.list_accounts()))

    def balance(self, account: TradingAccount) -> Balance:
        return self._read(lambda: balance_of(self._client.account_balance(self._sdk_account(account))))

    def margin(self, account: TradingAccount) -> Margin:
        return self._read(lambda: margin_of(self._client.margin(self._sdk_account(account))))

    def limits(self, account: TradingAccount) -> TradingLimits:
        return self._read(lambda: limits_of(self._client.trading_limits(self._sdk_account(account))))

    def positions(self, account: TradingAccount) -> list[Position]:
        """In shares, whatever the lots."""
        held = self._read(lambda: self._client.list_positions(self._sdk_account(account), unit="Share"))
        return self._explained(lambda: [position_of(position) for position in held])

    def settlements(self, account: TradingAccount) -> list[Settlement]:
        due = self._read(lambda: self._client.settlements(self._sdk_account(account)))
        return self._explained(lambda: [settlement_of(one) for one in due])

    def profit_and_loss(self, account: TradingAccount, first: date, last: date) -> list[ProfitAndLoss]:
        def ask() -> Any:
            owner = self._sdk_account(account)
            return self._client.list_profit_loss(owner, begin_date=str(first), end_date=str(last), unit="Share")

        closed = self._read(ask)
        return self._explained(lambda: [profit_of(one) for one in closed])

    def _sdk_account(self, account: TradingAccount) -> Any:
        return self._account(account.kind, account.account_id)

    def _read(self, ask: Callable[[], T]) -> T:
        self._budget.query()
        return self._explained(ask)

    def _explained(self, ask: Callable[[], T]) -> T:
        """AccountUnavailable in place of whatever the SDK raises; without it behind, whose frames hold the keys."""
        try:
            return ask()
        except (AccountUnavailable, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the SDK's panics are no Exception
            said = one_line(error, self._secrets)
        raise AccountUnavailable(f"the broker gave no answer: {said}")
