"""What may be sent is sent as the SDK takes it; what must not be is refused in a line; what is not known is said."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from shijim_live.broker.account_reads import standing_of
from shijim_live.broker.history import Row
from shijim_live.broker.order_budget import (
    OrderBudget,
)
from shijim_live.broker.order_client import Client, sdk_order
from shijim_live.broker.orders import (
    NO_PRICE_E6,
    Accepted,
    ComboKind,
    ComboRequest,
    Condition,
    FuturesRequest,
    Ids,
    Leg,
    Lot,
    OpenClose,
    OrderStatus,
    OutcomeUnknown,
    PriceKind,
    Refused,
    Side,
    StockRequest,
    TimeInForce,
    might_be,
    refusals,
)
from shijim_live.broker.plain import plain
from shijim_live.broker.shioaji import order_classes
from shijim_live.broker.shioaji_orders import ShioajiTrading
from shijim_live.broker.simulated_reports import SimulatedOrder, become, trade_of
from shijim_live.broker.surface import golden
from shijim_live.broker.trading import AccountKind, AccountUnavailable, HealthState
from shijim_live.calendar import SECOND_NS

ROOT = Path(__file__).parents[1]
STOCK = StockRequest(code="2330", side=Side.BUY, quantity=1, price_e6=1_460_000_000)
FUTURE = FuturesRequest(code="TXFL6", side=Side.SELL, quantity=2, price_e6=27_300_000_000)
SPREAD = ComboRequest(
    legs=(Leg("TXFL6", Side.BUY), Leg("TXFA7", Side.SELL)), quantity=1, price_e6=-35_000_000, kind=ComboKind.TIME_SPREAD
)


def sdk() -> Any:
    order_classes()
    return sys.modules["shioaji"]


def account(kind: str = "S") -> Any:
    return order_classes().account(kind, "A123456789", "9A95", "0000001")


# What must not be sent


@pytest.mark.parametrize("request_", [STOCK, FUTURE, SPREAD])
def test_an_ordinary_request_may_be_sent(request_: Any) -> None:
    assert refusals(request_) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantity": 0}, "quantity 0: 1 to 499 lots"),
        ({"quantity": -1}, "quantity -1"),
        ({"quantity": 500}, "quantity 500"),
        ({"quantity": True}, "quantity True"),
        ({"quantity": 1.0}, "quantity 1.0"),
        ({"price_e6": 0}, "price 0: a price is positive"),
        ({"price_e6": -5_000_000}, "price -5: a price is positive"),
        ({"price_e6": 1_461_000_000}, "price 1461: 2330 has steps of 5"),
        ({"price_e6": NO_PRICE_E6}, "a limit order needs a price"),
        ({"price_kind": PriceKind.MARKET}, "a market order has none"),
        ({"price_kind": PriceKind.RANGE_MARKET, "price_e6": NO_PRICE_E6}, "MKP: stocks have LMT and MKT only"),
        ({"custom_field": "toolong"}, "custom_field 'toolong': at most 6"),
        ({"custom_field": "追價"}, "custom_field '追價': at most 6 ASCII"),
        ({"lot": Lot.INTRADAY_ODD, "quantity": 1_000}, "quantity 1000: 1 to 999 shares"),
        ({"lot": Lot.ODD, "quantity": 0}, "1 to 999 shares"),
        ({"lot": Lot.INTRADAY_ODD, "time_in_force": TimeInForce.IOC}, "IntradayOdd takes LMT ROD only"),
        ({"lot": Lot.FIXING, "price_kind": PriceKind.MARKET, "price_e6": NO_PRICE_E6}, "Fixing takes LMT ROD only"),
        ({"lot": Lot.ODD, "condition": Condition.MARGIN}, "MarginTrading: odd lots are bought and sold for cash"),
        ({"condition": Condition.SBL_SHORT}, "SBLShort: borrowed shares are sold"),
        ({"day_trade": True, "lot": Lot.ODD}, "day_trade: of round lots for cash only"),
        ({"code": "TXFL6"}, "TXFL6: no stock instrument"),
        ({"code": "A"}, "no tick rule known"),
        ({"code": "0050", "price_e6": 62_010_000}, "price 62.01: 0050 has steps of 0.05"),
    ],
)
def test_a_stock_order_that_must_not_be_sent_says_why(changes: dict[str, Any], said: str) -> None:
    found = refusals(replace(STOCK, **changes))
    assert said in "; ".join(found)
    assert all("\n" not in line and len(line) < 400 for line in found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"price_kind": PriceKind.MARKET, "price_e6": NO_PRICE_E6}, "MKT ROD: the exchange takes a market order"),
        ({"quantity": 101}, "1 to 100 contracts"),
        (
            {
                "price_kind": PriceKind.MARKET,
                "price_e6": NO_PRICE_E6,
                "quantity": 11,
                "time_in_force": TimeInForce.IOC,
            },
            "1 to 10 contracts",
        ),
        ({"price_e6": 27_300_500_000}, "price 27300.5: TXFL6 has steps of 1"),
        ({"code": "TXFR1"}, "TXFR1: name the dated contract"),
        ({"code": "2330", "price_e6": 1_460_000_000}, "2330: no futures instrument"),
        ({"code": "TXO27000L6"}, "give the contract's"),
        ({"custom_field": "1234567"}, "at most 6"),
    ],
)
def test_a_futures_order_that_must_not_be_sent_says_why(changes: dict[str, Any], said: str) -> None:
    assert said in "; ".join(refusals(replace(FUTURE, **changes)))


def test_an_option_may_be_sent_with_the_contracts_own_ticks(tmp_path: Path) -> None:
    ticks = ((0, 100_000), (10_000_000, 500_000))
    option = replace(FUTURE, code="TXO27000L6", price_e6=100_500_000, tick_bands=ticks)
    assert refusals(option) == []
    assert "steps of 1" in refusals(replace(option, tick_bands=((0, 100_000), (50_000_000, 1_000_000))))[0]
    assert "have none there" in refusals(replace(option, tick_bands=((200_000_000, 1_000_000),)))[0]
    orders, client = trading(tmp_path)
    assert isinstance(orders.place(option), Accepted) and client.asked[0][1]["contract"].code == "TXO27000L6"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"legs": SPREAD.legs[:1]}, "a combo has 2"),
        ({"legs": (SPREAD.legs[0], SPREAD.legs[0])}, "of different contracts"),
        ({"legs": (Leg("TXO1", Side.BUY), Leg("TXO2", Side.SELL)), "time_in_force": TimeInForce.ROD}, "ROD with TXO1"),
        ({"quantity": 0}, "quantity 0"),
        ({"price_e6": NO_PRICE_E6}, "needs a price"),
    ],
)
def test_a_combo_that_must_not_be_sent_says_why(changes: dict[str, Any], said: str) -> None:
    assert said in "; ".join(refusals(replace(SPREAD, **changes)))


@pytest.mark.parametrize("price_e6", [12.5, 27_300_000_000.0, True, "27300", None, float(NO_PRICE_E6), float("nan")])
@pytest.mark.parametrize("request_", [STOCK, FUTURE, SPREAD])
def test_a_price_that_is_no_whole_number_of_millionths_is_refused_everywhere(request_: Any, price_e6: Any) -> None:
    for kind in (PriceKind.LIMIT, PriceKind.MARKET):
        asked = replace(request_, price_e6=price_e6, price_kind=kind, time_in_force=TimeInForce.IOC)
        assert f"price {price_e6!r}: a price is a whole number of millionths" in refusals(asked)


@pytest.mark.parametrize("quantity", [1.0, True, "1", None])
@pytest.mark.parametrize("request_", [STOCK, FUTURE, SPREAD])
def test_a_quantity_that_is_no_whole_number_is_refused_everywhere(request_: Any, quantity: Any) -> None:
    assert f"quantity {quantity!r}" in refusals(replace(request_, quantity=quantity))[0]


def test_a_futures_range_market_order_may_rest_and_stocks_take_every_pair() -> None:
    assert refusals(replace(FUTURE, price_kind=PriceKind.RANGE_MARKET, price_e6=NO_PRICE_E6)) == []
    for lasting in TimeInForce:
        market = replace(STOCK, price_kind=PriceKind.MARKET, price_e6=NO_PRICE_E6, time_in_force=lasting)
        assert refusals(market) == []


# What is sent: the SDK's own objects, built offline, every field read back


@pytest.mark.parametrize(
    ("kind", "lasting", "lot", "condition"),
    list(product((PriceKind.LIMIT, PriceKind.MARKET), TimeInForce, Lot, Condition)),
)
def test_a_stock_order_of_every_kind_is_what_was_asked(
    kind: PriceKind, lasting: TimeInForce, lot: Lot, condition: Condition
) -> None:
    price_e6 = 1_460_500_000 if kind is PriceKind.LIMIT else NO_PRICE_E6
    asked = replace(
        STOCK, price_kind=kind, price_e6=price_e6, time_in_force=lasting, lot=lot, condition=condition,
        custom_field="c1", day_trade=condition is Condition.CASH, quantity=7, side=Side.SELL,
    )  # fmt: skip
    built = sdk_order(asked, order_classes(), account())
    assert type(built) is sdk().StockOrder
    assert plain(built) == {
        "action": "Sell", "price": 1460.5 if kind is PriceKind.LIMIT else 0.0, "quantity": 7,
        "price_type": kind, "time_in_force": lasting, "order_type": lasting, "order_lot": lot, "order_cond": condition,
        "daytrade_short": condition is Condition.CASH, "custom_field": "c1", "account": plain(account()),
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "lasting", "open_close"), list(product(PriceKind, TimeInForce, OpenClose)))
def test_a_futures_order_of_every_kind_is_what_was_asked(
    kind: PriceKind, lasting: TimeInForce, open_close: OpenClose
) -> None:
    price_e6 = 27_301_000_000 if kind is PriceKind.LIMIT else NO_PRICE_E6
    asked = replace(FUTURE, price_kind=kind, price_e6=price_e6, time_in_force=lasting, open_close=open_close)
    built = sdk_order(asked, order_classes(), account("F"))
    assert type(built) is sdk().FuturesOrder
    assert plain(built) == {
        "action": "Sell", "price": 27301.0 if kind is PriceKind.LIMIT else 0.0, "quantity": 2, "price_type": kind,
        "time_in_force": lasting, "order_type": lasting, "octype": open_close, "custom_field": None,
        "account": plain(account("F")),
    }  # fmt: skip


@pytest.mark.parametrize(("combo", "lasting"), list(product(ComboKind, TimeInForce)))
def test_a_combo_of_every_kind_is_what_was_asked(combo: ComboKind, lasting: TimeInForce) -> None:
    classes = order_classes()
    built = sdk_order(replace(SPREAD, kind=combo, time_in_force=lasting), classes, account("F"))
    assert type(built) is sdk().ComboOrder
    assert (built.price, built.quantity, built.action, built.octype) == (-35.0, 1, "Sell", "Auto")
    assert (built.combo_type, built.time_in_force) == (combo.value or None, lasting)
    legs = [classes.combo_leg(classes.contract("FUT", "TAIFEX", leg.code), leg.side.value) for leg in SPREAD.legs]
    contract = classes.combo_contract(legs)
    assert [(leg.code, leg.action, leg.security_type) for leg in contract.legs] == [
        ("TXFL6", "Buy", "FUT"),
        ("TXFA7", "Sell", "FUT"),
    ]


def test_every_price_of_the_ladder_reaches_the_sdk_as_the_nearest_float() -> None:
    for price_e6 in (10_000, 9_990_000, 49_950_000, 99_900_000, 499_500_000, 999_000_000, 1_000_000_000, 9_995_000_000):
        built = sdk_order(replace(STOCK, price_e6=price_e6), order_classes(), account())
        assert round(built.price * 1_000_000) == price_e6 and repr(built.price) == repr(price_e6 / 1_000_000)


def test_our_words_are_all_words_of_the_sdk_and_none_is_left_out() -> None:
    ours = {
        "Action": Side, "StockOrderLot": Lot, "StockOrderCond": Condition, "FuturesOCType": OpenClose,
        "TimeInForce": TimeInForce, "FuturesPriceType": PriceKind, "OrderStatus": OrderStatus,
        "TradeCacheHealthState": HealthState,
    }  # fmt: skip
    for name, words in ours.items():
        theirs = {fact.partition("'")[2][:-1] for fact in golden()[1] if fact.startswith(f"{name}.") and " = " in fact}
        assert theirs == {word.value for word in words}, name
    combos = {fact.partition("'")[2][:-1] for fact in golden()[1] if fact.startswith("ComboType.") and " = " in fact}
    assert combos == {kind.value for kind in ComboKind} - {""}


CALLS = [name for name, call in vars(Client).items() if inspect.isfunction(call) and not name.startswith("_")]


@pytest.mark.parametrize("name", CALLS)
def test_what_is_called_of_the_client_has_the_sdks_signature(name: str) -> None:
    theirs = inspect.signature(getattr(sdk().Shioaji, name)).parameters
    ours = inspect.signature(getattr(Client, name)).parameters
    assert [(one.name, one.kind is one.KEYWORD_ONLY) for one in ours.values()] == [
        (one.name, one.kind is one.KEYWORD_ONLY) for one in theirs.values()
    ]


# A client that answers what it is told to


class Answering:
    """A look-alike of the SDK's client: keeps what it was asked, and answers with its shapes or its errors."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.errors: list[BaseException] = []
        self.accounts = [account("S"), account("F")]
        self.standing: list[Any] = []
        self.status: dict[str, Any] = {"status": "Submitted"}
        self.later: list[Callable[[], None]] = []

    @property
    def contracts(self) -> Any:
        return self

    def get(self, code: str) -> Any:
        return None if code == "9999" else order_classes().contract("FUT" if code[:2] == "TX" else "STK", "TSE", code)

    def list_accounts(self) -> list[Any]:
        return self.accounts

    def list_trades(self) -> list[Any]:
        return self.standing

    def list_combotrades(self) -> list[Any]:
        return self.standing

    def __getattr__(self, name: str) -> Any:
        signature = inspect.signature(getattr(sdk().Shioaji, name))

        def call(*positional: Any, **named: Any) -> Any:
            said = signature.bind(None, *positional, **named).arguments
            self.asked.append((name, said))
            if self.errors:
                raise self.errors.pop(0)
            return self.answer(name, said)

        return call

    def answer(self, name: str, said: dict[str, Any]) -> Any:
        if name in ("update_status", "update_combostatus"):
            return None
        if name in ("place_order", "place_comboorder"):
            order = said["order"]
            futures = hasattr(order, "octype")
            made = made_of(order, said.get("contract"), "F" if futures else "S")
            trade = trade_of(made, said.get("contract") or said["combo_contract"])
            become(trade.status, **self.status)
            if said.get("timeout") == 0:
                self.later.append(lambda: said["cb"](trade))
                return trade_of(made, said["contract"], ids=False)
            self.standing.append(trade)
            return trade
        return said.get("trade") or said.get("combo_trade")


def made_of(order: Any, contract: Any, kind: str) -> SimulatedOrder:
    return SimulatedOrder(
        number=0, id="a1", seqno="000001", ordno="Y0001", kind=kind, code=getattr(contract, "code", ""),
        side=order.action.value, price_e6=round(order.price * 1_000_000) or NO_PRICE_E6, quantity=order.quantity,
        price_type=order.price_type.value, time_in_force=order.time_in_force.value,
        lot=order.order_lot.value if kind == "S" else "", condition="Cash", open_close="Auto",
        custom_field=order.custom_field or "", placed_ns=1_800_000_000 * SECOND_NS,
    )  # fmt: skip


def trading(tmp_path: Path, *, live: bool = False) -> tuple[ShioajiTrading, Answering]:
    client = Answering()
    made = ShioajiTrading(client, order_classes(), OrderBudget(tmp_path / "orders.json"), live=False)
    made._live = live  # a token for real orders cannot be had in a test
    return made, client


def test_a_new_order_is_the_request_and_its_answer_has_the_ids(tmp_path: Path) -> None:
    orders, client = trading(tmp_path)
    assert orders.place(STOCK) == Accepted(Ids("a1", "000001", "Y0001"), OrderStatus.SUBMITTED)
    ((name, said),) = client.asked
    assert name == "place_order" and (said["contract"].code, said["timeout"]) == ("2330", 30_000)
    assert plain(said["order"]) == plain(sdk_order(STOCK, order_classes(), client.accounts[0]))


def test_what_is_refused_here_is_not_sent(tmp_path: Path) -> None:
    orders, client = trading(tmp_path)
    for request in (replace(STOCK, quantity=0), replace(STOCK, code="9999"), replace(STOCK, account_id="7")):
        answer = orders.place(request)
        assert isinstance(answer, Refused) and not answer.sent
        assert isinstance(orders.place_soon(request, lambda _: None), Refused)
    client.accounts.append(account("S"))
    twice = orders.place(STOCK)
    assert isinstance(twice, Refused) and "of kind STOCK there are: 0000001, 0000001" in twice.text
    assert client.asked == []


def test_what_goes_wrong_before_anything_is_sent_is_a_refusal_and_never_raised(tmp_path: Path) -> None:
    orders, client = trading(tmp_path)
    for broken in ("list_accounts", "get"):

        def panic(*_: Any) -> Any:
            raise Panic("before sending")

        setattr(client, broken, panic)
        for answer in (orders.place(STOCK), orders.place_soon(STOCK, lambda _: None), orders.cancel("a1")):
            assert isinstance(answer, Refused) and not answer.sent and "before sending" in answer.text
    assert client.asked == []


def test_an_account_abroad_is_shown_and_left_alone(tmp_path: Path) -> None:
    orders, client = trading(tmp_path)
    client.accounts.append(sdk().Account(sdk().AccountType.Intl, "A123456789", "9A95", "9", True, ""))
    assert [one.kind for one in orders.accounts()] == list(AccountKind)
    orders.orders()
    orders.subscribe_events()
    assert [name for name, _ in client.asked] == ["update_status"] * 2 + ["subscribe_trade"] * 2


REFUSALS = ("BadRequestError", "ValidationError", "TokenError", "CaExpiredError", "AccountNotSignError",
            "AccountNotProvideError", "ShioajiValueError", "ShioajiTypeError", "ShioajiPermissionError")  # fmt: skip
DOUBTS = ("OrderOutcomeUnknownError", "ShioajiTimeoutError", "ShioajiConnectionError", "ServerError", "DecodeError",
          "ResponseMsgError", "ResponseRecvError", "SystemMaintenance")  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), [(n, Refused) for n in REFUSALS] + [(n, OutcomeUnknown) for n in DOUBTS])
def test_an_error_of_the_sdk_is_a_refusal_only_where_it_says_so(tmp_path: Path, name: str, kind: type) -> None:
    orders, client = trading(tmp_path)
    for ask in (lambda: orders.place(STOCK), lambda: orders.place_soon(STOCK, lambda _: None)):
        client.errors = [getattr(sdk(), name)("no")]
        assert type(ask()) is kind
    assert len(client.asked) == 2, "what is not known is never sent again"


class Panic(BaseException):
    """As pyo3's: no Exception."""


def test_a_panic_while_placing_is_an_unknown_outcome_and_so_is_an_answer_that_cannot_be_read(tmp_path: Path) -> None:
    orders, client = trading(tmp_path)
    client.errors = [Panic("index out of bounds")]
    assert orders.place(STOCK) == OutcomeUnknown("Panic: index out of bounds")
    client.status = {"status": "Strange"}
    assert isinstance(orders.place(STOCK), OutcomeUnknown)
    client.errors = [sdk().BadRequestError("StatusCode: 408, Detail: STS Request Timeout")]
    assert isinstance(orders.place(STOCK), OutcomeUnknown)


class Undecodable:
    """A trade whose fields the SDK decodes when they are read."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def keys(self) -> list[str]:
        return ["contract", "order", "status"]

    def __getitem__(self, name: str) -> Any:
        raise self.error


@pytest.mark.parametrize("name", ["ShioajiTypeError", "ShioajiValueError", "BadRequestError"])
def test_an_error_while_an_answer_is_read_is_no_refusal_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    orders, client = trading(tmp_path)
    client.answer = lambda *_: Undecodable(getattr(sdk(), name)("null in order.price"))  # type: ignore[method-assign]
    answer = orders.place(STOCK)
    assert isinstance(answer, OutcomeUnknown) and "null in order.price" in answer.text
    came: list[Any] = []
    assert orders.place_soon(STOCK, came.append) is None
    client.asked[-1][1]["cb"](client.answer("place_order", {}))
    assert [type(one) for one in came] == [OutcomeUnknown]


@pytest.mark.parametrize("doubt", ["委託處理中", "STS Request\nTimeout"])
def test_a_doubt_at_the_end_of_a_long_error_is_one_though_it_is_not_shown(tmp_path: Path, doubt: str) -> None:
    orders, client = trading(tmp_path)
    client.errors = [sdk().BadRequestError(f"StatusCode: 400, Detail: {'x' * 300} {doubt}")]
    answer = orders.place(STOCK)
    assert isinstance(answer, OutcomeUnknown) and len(answer.text) == 300


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"status": "Failed", "status_code": "88", "msg": "非委託時間"}, Refused("非委託時間", "88")),
        ({"status": "Failed", "msg": "處理中, 請再確認委託狀態"}, OutcomeUnknown("處理中, 請再確認委託狀態")),
        ({"status": "Failed", "msg": "連線逾時,請再確認委託狀態"}, OutcomeUnknown("連線逾時,請再確認委託狀態")),
    ],
)
def test_a_trade_that_failed_is_refused_or_in_doubt_by_what_it_says(
    tmp_path: Path, status: dict[str, Any], expected: object
) -> None:
    orders, client = trading(tmp_path)
    client.status = status
    assert orders.place(STOCK) == expected


def test_an_order_that_is_not_waited_for_is_answered_later(tmp_path: Path) -> None:
    orders, client = trading(tmp_path)
    came: list[Any] = []
    assert orders.place_soon(FUTURE, came.append) is None and came == []
    assert client.asked[0][1]["timeout"] == 0
    client.later[0]()
    assert came == [Accepted(Ids("a1", "000001", "Y0001"), OrderStatus.SUBMITTED)]
    assert isinstance(orders.cancel("a1"), Accepted), "its handle is known then"


# Standing orders


def test_quantities_go_down_by_what_is_said_and_prices_only_where_they_may(tmp_path: Path) -> None:
    orders, client = trading(tmp_path)
    orders.place(replace(STOCK, quantity=10))
    assert isinstance(orders.reduce("a1", 2), Accepted)
    assert client.asked[-1][0] == "update_order" and client.asked[-1][1]["qty"] == 2
    assert isinstance(orders.move("a1", 1_455_000_000), Accepted)
    assert float(client.asked[-1][1]["price"]) == 1455.0
    sent = len(client.asked)
    for answer in (orders.reduce("a1", 10), orders.reduce("a1", 0), orders.reduce("a1", -1)):
        assert isinstance(answer, Refused) and not answer.sent
    off_tick = orders.move("a1", 1_456_000_000)
    assert isinstance(off_tick, Refused) and "steps of 5" in off_tick.text
    assert len(client.asked) == sent


def test_an_intraday_odd_lot_cannot_be_moved_and_a_market_order_has_no_price(tmp_path: Path) -> None:
    orders, _ = trading(tmp_path)
    orders.place(replace(STOCK, lot=Lot.INTRADAY_ODD))
    odd = orders.move("a1", 1_455_000_000)
    assert isinstance(odd, Refused) and not odd.sent and "odd lot" in odd.text
    orders.place(replace(STOCK, price_kind=PriceKind.MARKET, price_e6=NO_PRICE_E6))
    assert "no price to change" in orders.move("a1", 1_455_000_000).text  # type: ignore[union-attr]


def test_an_option_or_a_block_is_moved_by_its_own_ticks_or_not_at_all(tmp_path: Path) -> None:
    orders, client = trading(tmp_path)
    ticks = ((0, 100_000), (10_000_000, 500_000))
    orders.place(replace(FUTURE, code="TXO27000L6", price_e6=100_500_000, tick_bands=ticks))
    for price_e6, bands, said in (
        (100_333_333, (), "no tick rule known: give the contract's"),
        (101_000_000, (), "no tick rule known: give the contract's"),
        (100_600_000, ticks, "steps of 0.5"),
        (101_000_000.0, ticks, "a whole number of millionths"),
        (NO_PRICE_E6, ticks, "a new price is needed"),
    ):
        answer = orders.move("a1", price_e6, bands)  # type: ignore[arg-type]
        assert isinstance(answer, Refused) and not answer.sent and said in answer.text
    assert [name for name, _ in client.asked] == ["place_order"]
    assert isinstance(orders.move("a1", 101_000_000, ticks), Accepted)
    orders.place(replace(STOCK, lot=Lot.BLOCK))
    assert isinstance(orders.move("a1", 1_456_010_000), Accepted), "a block trade has a tick of its own"


def test_an_order_nobody_here_placed_is_asked_for_and_one_there_is_not_is_refused(tmp_path: Path) -> None:
    orders, client = trading(tmp_path)
    other, _ = trading(tmp_path)
    other.place(STOCK)
    client.standing = list(other._trades.values())
    assert isinstance(orders.cancel("a1"), Accepted)
    assert [name for name, _ in client.asked] == ["update_status", "update_status", "cancel_order"]
    answer = orders.cancel("b2")
    assert isinstance(answer, Refused) and "no such order" in answer.text


def test_a_cancel_that_needs_an_update_status_first_is_tried_once_more(tmp_path: Path) -> None:
    orders, client = trading(tmp_path)
    orders.place(FUTURE)
    stale = sdk().BadRequestError("StatusCode: 400, Detail: Please run update_status first to get trade details.")
    client.errors = [stale]
    assert isinstance(orders.cancel("a1"), Accepted)
    assert [name for name, _ in client.asked][1:] == ["cancel_order", "update_status", "cancel_order"]
    client.errors = [stale, Panic("no")]
    assert isinstance(orders.cancel("a1"), OutcomeUnknown)


def test_an_order_that_cannot_be_read_can_still_be_cancelled(tmp_path: Path) -> None:
    orders, client = trading(tmp_path)
    orders.place(STOCK)
    become(client.standing[0].status, status="Strange")
    assert isinstance(orders.reduce("a1", 1), Refused)
    orders.cancel("a1")
    assert client.asked[-1][0] == "cancel_order"


def test_a_list_that_lacks_an_order_is_no_list_and_the_others_can_be_cancelled(tmp_path: Path) -> None:
    orders, client = trading(tmp_path)
    order, contract = sdk_order(STOCK, order_classes(), account()), client.get("2330")
    made = [replace(made_of(order, contract, "S"), id=id_) for id_ in ("a1", "b2")]
    client.standing = [trade_of(one, contract) for one in made]
    become(client.standing[0].status, status="Strange")
    with pytest.raises(AccountUnavailable, match="gave no answer"):
        orders.orders()
    assert isinstance(orders.cancel("b2"), Accepted)


def test_combos_are_placed_listed_and_cancelled_and_the_test_service_has_none(tmp_path: Path) -> None:
    orders, client = trading(tmp_path)
    none = orders.place_combo(SPREAD)
    assert isinstance(none, Refused) and client.asked == []
    orders, client = trading(tmp_path, live=True)
    assert isinstance(orders.place_combo(SPREAD), Accepted)
    said = client.asked[0][1]
    assert [leg.action.value for leg in said["combo_contract"].legs] == ["Buy", "Sell"]
    deal = Row(seq="1", price=27300.0, quantity=1, ts=1_800_000_000.5)
    become(client.standing[0].status, deals={"TXFL6": [deal], "TXFA7": [deal]}, status="Filled", deal_quantity=1)
    (standing,) = orders.combos()
    assert (standing.code, standing.price_e6, len(standing.deals)) == ("TXFL6/TXFA7", -35_000_000, 2)
    assert might_be(SPREAD, standing) and not might_be(replace(SPREAD, quantity=2), standing)
    assert isinstance(orders.cancel_combo("a1"), Accepted) and client.asked[-1][0] == "cancel_comboorder"
    assert isinstance(orders.cancel_combo("zz"), Refused)


def test_an_unknown_order_is_found_by_its_terms(tmp_path: Path) -> None:
    orders, client = trading(tmp_path)
    asked = replace(STOCK, custom_field="k7")
    orders.place(asked)
    (standing,) = orders.orders()
    assert might_be(asked, standing) and standing.working
    for other in ({"side": Side.SELL}, {"quantity": 2}, {"price_e6": 1_455_000_000}, {"custom_field": "k8"}):
        assert not might_be(replace(asked, **other), standing)
    assert standing_of(client.standing[0]).raw.count("Submitted") == 1
