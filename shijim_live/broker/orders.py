"""What is asked of a broker, and what it answers: requests, their rules, answers. Sends nothing.

The SDK checks nothing before it sends: negative quantities, prices off the tick and memos that are too long all leave.
`refusals` is what stands between. What is dangerous though valid (a price far off, a size, a rate) is for risk to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from shijim_live.calendar import Market
from shijim_live.events import ABSENT_I64
from shijim_live.instruments import TickBands, UnknownInstrument, instrument, root_of

NO_PRICE_E6: Final = ABSENT_I64  # of a market order, and of a price that was never changed
LOT_SHARES: Final = 1_000
STOCK_LOTS_MAX: Final = 499  # of one order (TWSE)
ODD_LOT_SHARES_MAX: Final = LOT_SHARES - 1
# Of one order of index futures (TAIFEX); its market orders of a night session may have 5.
CONTRACTS_MAX: Final = 100
MARKET_CONTRACTS_MAX: Final = 10
COMBO_LEGS: Final = 2
CUSTOM_FIELD_CHARACTERS_MAX: Final = 6
BLOCK_TICKS: Final[TickBands] = ((0, 10_000),)  # a block trade has a tick of its own (TWSE)


class Side(StrEnum):
    """Which way; the words are the broker's, here as below."""

    BUY = "Buy"
    SELL = "Sell"


class PriceKind(StrEnum):
    LIMIT = "LMT"
    MARKET = "MKT"
    RANGE_MARKET = "MKP"  # futures: the market, within a band of the exchange's


class TimeInForce(StrEnum):
    ROD = "ROD"  # until the session ends
    IOC = "IOC"  # what cannot be had at once is cancelled
    FOK = "FOK"  # all at once or nothing


class Lot(StrEnum):
    """What a stock order counts, and in which market it goes."""

    COMMON = "Common"
    ODD = "Odd"  # shares, after the close
    INTRADAY_ODD = "IntradayOdd"  # shares, 09:00–13:30
    FIXING = "Fixing"  # lots at the closing price, 14:00–14:30
    BLOCK = "BlockTrade"


ODD_LOTS: Final = frozenset({Lot.ODD, Lot.INTRADAY_ODD})


class Condition(StrEnum):
    """How a stock order is paid for, or delivered."""

    CASH = "Cash"
    NETTING = "Netting"
    MARGIN = "MarginTrading"
    SHORT = "ShortSelling"
    SBL_SHORT = "SBLShort"
    SBL_SHORT_PRICE_EXEMPT = "SBLShortPriceExempt"
    EMERGING = "Emerging"


SHORTS: Final = frozenset({Condition.SHORT, Condition.SBL_SHORT, Condition.SBL_SHORT_PRICE_EXEMPT})
CREDIT: Final = SHORTS | {Condition.MARGIN}


class OpenClose(StrEnum):
    AUTO = "Auto"
    NEW = "New"
    COVER = "Cover"
    DAY_TRADE = "DayTrade"


class ComboKind(StrEnum):
    DERIVED = ""  # by the SDK, of legs that the broker lists
    PRICE_SPREAD = "PriceSpread"
    TIME_SPREAD = "TimeSpread"
    STRADDLE = "Straddle"
    STRANGLE = "Strangle"
    CONVERSION_REVERSAL = "ConversionReversal"
    WEEKLY_TIME_SPREAD = "WeeklyTimeSpread"


class OrderStatus(StrEnum):
    PENDING_SUBMIT = "PendingSubmit"
    PRE_SUBMITTED = "PreSubmitted"  # reserved before the market; released at 08:30
    SUBMITTED = "Submitted"
    PART_FILLED = "PartFilled"
    FILLED = "Filled"
    CANCELLED = "Cancelled"
    FAILED = "Failed"
    INACTIVE = "Inactive"


WORKING: Final = frozenset(
    {OrderStatus.PENDING_SUBMIT, OrderStatus.PRE_SUBMITTED, OrderStatus.SUBMITTED, OrderStatus.PART_FILLED}
)


# What is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class StockRequest:
    """One new stock order."""

    code: str
    side: Side
    quantity: int  # lots of 1,000 shares; shares where `lot` is odd
    price_e6: int = NO_PRICE_E6  # TWD a share × 1,000,000; NO_PRICE_E6 of a market order
    price_kind: PriceKind = PriceKind.LIMIT
    time_in_force: TimeInForce = TimeInForce.ROD
    lot: Lot = Lot.COMMON
    condition: Condition = Condition.CASH
    day_trade: bool = False  # may be sold before it is bought, and is closed the same day
    custom_field: str = ""  # comes back in every event of the order
    account_id: str = ""  # needed where the person has several stock accounts
    tick_bands: TickBands = ()  # the contract's own, needed of a code whose ticks we do not know (a warrant)


@dataclass(frozen=True, slots=True, kw_only=True)
class FuturesRequest:
    """One new order of a future or an option."""

    code: str
    side: Side
    quantity: int  # contracts
    price_e6: int = NO_PRICE_E6  # points × 1,000,000
    price_kind: PriceKind = PriceKind.LIMIT
    time_in_force: TimeInForce = TimeInForce.ROD
    open_close: OpenClose = OpenClose.AUTO
    custom_field: str = ""  # the order has it; no event of a future says it again
    account_id: str = ""
    tick_bands: TickBands = ()  # the contract's own, needed of a code whose ticks we do not know (an option)


@dataclass(frozen=True, slots=True)
class Leg:
    """One half of a combo; its side is what the exchange sees."""

    code: str
    side: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class ComboRequest:
    """One new order of two contracts at a net price: what the bought leg costs less what the sold one brings."""

    legs: tuple[Leg, ...]
    quantity: int  # contracts of each leg
    price_e6: int = NO_PRICE_E6  # may be 0 or negative
    price_kind: PriceKind = PriceKind.LIMIT
    time_in_force: TimeInForce = TimeInForce.IOC
    side: Side = Side.SELL  # the SDK's default; the legs say what happens
    kind: ComboKind = ComboKind.DERIVED
    open_close: OpenClose = OpenClose.AUTO
    custom_field: str = ""
    account_id: str = ""


Request: TypeAlias = StockRequest | FuturesRequest | ComboRequest


def refusals(request: Request) -> list[str]:
    """Why the request must not be sent, a line each; empty when it may."""
    if isinstance(request, ComboRequest):
        found = _combo_refusals(request)
    elif isinstance(request, StockRequest):
        found = _stock_refusals(request)
    else:
        found = _futures_refusals(request)
    memo = request.custom_field
    if len(memo) > CUSTOM_FIELD_CHARACTERS_MAX or not memo.isascii():
        found.append(f"custom_field {memo!r}: at most {CUSTOM_FIELD_CHARACTERS_MAX} ASCII characters")
    if (request.price_kind is PriceKind.LIMIT) == (request.price_e6 == NO_PRICE_E6):
        needs = "a limit order needs a price" if request.price_kind is PriceKind.LIMIT else "a market order has none"
        found.append(f"{request.price_kind} with {_shown(request.price_e6)}: {needs}")
    return found


def _stock_refusals(order: StockRequest) -> list[str]:
    odd = order.lot in ODD_LOTS
    most, unit = (ODD_LOT_SHARES_MAX, "shares") if odd else (STOCK_LOTS_MAX, "lots")
    found = quantity_refusals(order.quantity, most, unit)
    if order.price_kind is PriceKind.RANGE_MARKET:
        found.append("MKP: stocks have LMT and MKT only")
    if order.lot is not Lot.COMMON and (order.price_kind, order.time_in_force) != (PriceKind.LIMIT, TimeInForce.ROD):
        found.append(f"{order.price_kind} {order.time_in_force}: {order.lot} takes LMT ROD only")
    if odd and order.condition in CREDIT:
        found.append(f"{order.condition}: odd lots are bought and sold for cash")
    if order.condition in SHORTS and order.side is Side.BUY and order.condition is not Condition.SHORT:
        found.append(f"{order.condition}: borrowed shares are sold, not bought")
    if order.day_trade and (order.lot is not Lot.COMMON or order.condition is not Condition.CASH):
        found.append("day_trade: of round lots for cash only")
    bands = _bands_of(order.lot, order.tick_bands)
    return found + code_refusals(order.code, Market.STOCK, bands) + tick_refusals(order.code, order.price_e6, bands)


def _futures_refusals(order: FuturesRequest) -> list[str]:
    market = order.price_kind is not PriceKind.LIMIT
    found = quantity_refusals(order.quantity, MARKET_CONTRACTS_MAX if market else CONTRACTS_MAX, "contracts")
    found += _market_rod(order.price_kind, order.time_in_force)
    found += code_refusals(order.code, Market.FUTURES, order.tick_bands)
    return found + tick_refusals(order.code, order.price_e6, order.tick_bands)


def _combo_refusals(order: ComboRequest) -> list[str]:
    found = quantity_refusals(order.quantity, CONTRACTS_MAX, "contracts")
    found += price_refusals(order.price_e6) + _market_rod(order.price_kind, order.time_in_force)
    codes = [leg.code for leg in order.legs]
    if len(codes) != COMBO_LEGS or len(set(codes)) != len(codes):
        found.append(f"legs {', '.join(codes) or 'none'}: a combo has {COMBO_LEGS}, of different contracts")
    options = [code for code in codes if root_of(code) is None]
    if options and order.time_in_force is TimeInForce.ROD:
        found.append(f"ROD with {options[0]}: the exchange takes combos of options as IOC or FOK only (9927)")
    return found


def _market_rod(kind: PriceKind, lasting: TimeInForce) -> list[str]:
    if kind is PriceKind.MARKET and lasting is TimeInForce.ROD:
        return ["MKT ROD: the exchange takes a market order of futures as IOC or FOK only (9938)"]
    return []


def move_refusals(standing: StandingOrder, price_e6: int, tick_bands: TickBands) -> list[str]:
    """Why an order must not be given the price. `tick_bands`: the contract's own, needed as in its request."""
    if standing.lot == Lot.INTRADAY_ODD:
        return ["an intraday odd lot cannot change its price: cancel it, and place another"]
    if standing.price_e6 == NO_PRICE_E6:
        return ["a market order has no price to change"]
    if problems := price_refusals(price_e6):
        return problems
    if price_e6 == NO_PRICE_E6:
        return ["no price: a new price is needed"]
    try:
        bands = _bands_of(standing.lot, tick_bands) or instrument(standing.code).tick_bands
    except UnknownInstrument as error:
        return [_no_tick_rule(error)]
    return tick_refusals(standing.code, price_e6, bands)


def _bands_of(lot: str, tick_bands: TickBands) -> TickBands:
    return BLOCK_TICKS if lot == Lot.BLOCK else tick_bands


def quantity_refusals(quantity: int, most: int, unit: str) -> list[str]:
    if type(quantity) is not int or not 1 <= quantity <= most:
        return [f"quantity {quantity!r}: 1 to {most} {unit} an order"]
    return []


def code_refusals(code: str, market: Market, tick_bands: TickBands) -> list[str]:
    """A continuous code is none: what is held and reported is the dated contract."""
    try:
        known = instrument(code)
    except UnknownInstrument as error:
        return [] if tick_bands else [_no_tick_rule(error)]
    if known.market is not market:
        return [f"{code}: no {market} instrument"]
    if market is Market.FUTURES and root_of(code) is None:
        return [f"{code}: name the dated contract that it stands for"]
    return []


def _no_tick_rule(error: UnknownInstrument) -> str:
    return f"no tick rule known: give the contract's ({error})"


def price_refusals(price_e6: int) -> list[str]:
    """What is no price at all: a float would be sent, and nearly be the price that was meant."""
    return [] if type(price_e6) is int else [f"price {price_e6!r}: a price is a whole number of millionths"]


def tick_refusals(code: str, price_e6: int, tick_bands: TickBands = ()) -> list[str]:
    """A price that the exchange has no place for."""
    if problems := price_refusals(price_e6):
        return problems
    if price_e6 == NO_PRICE_E6:
        return []
    if price_e6 <= 0:
        return [f"price {_shown(price_e6)}: a price is positive"]
    if not tick_bands:
        try:
            tick_bands = instrument(code).tick_bands
        except UnknownInstrument:
            return []  # said of the code already
    tick_e6 = next((tick for start, tick in reversed(tick_bands) if start <= price_e6), 0)
    if tick_e6 <= 0:
        return [f"price {_shown(price_e6)}: the ticks given for {code} have none there"]
    if price_e6 % tick_e6:
        return [f"price {_shown(price_e6)}: {code} has steps of {_shown(tick_e6)} there"]
    return []


def _shown(price_e6: int) -> str:
    if price_e6 == NO_PRICE_E6:
        return "no price"
    if type(price_e6) is not int:
        return repr(price_e6)
    whole, rest = divmod(abs(price_e6), 1_000_000)
    return f"{'-' * (price_e6 < 0)}{whole}.{rest:06}".rstrip("0").rstrip(".")


# What is answered


@dataclass(frozen=True, slots=True)
class Ids:
    """What the broker calls an order. Deals name `id` as their trade; futures are matched by these alone."""

    id: str
    seqno: str
    ordno: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The broker has the request; what became of it is told by events."""

    ids: Ids
    status: OrderStatus
    text: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no such order, or it is as it was. `sent`: it was the broker, or the exchange, that said no."""

    text: str
    op_code: str = ""
    sent: bool = True


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """It may have been done, or not. Never send it again: ask for the standing orders, and look for it there."""

    text: str


Answer: TypeAlias = Accepted | Refused | OutcomeUnknown


@dataclass(frozen=True, slots=True)
class StandingDeal:
    """One match as a standing order lists it."""

    seq: str
    price_e6: int
    quantity: int
    exchange_ns: int  # as the broker says it; of futures at night not confirmed (see `order_events.event_time`)


@dataclass(frozen=True, slots=True)
class StandingOrder:
    """How one order stands by the broker's own account; of a combo, `code` is both legs and deals are of either."""

    ids: Ids
    code: str
    side: Side
    price_e6: int
    quantity: int  # as it was placed, in the unit of its request
    status: OrderStatus
    filled: int
    cancelled: int  # taken back or reduced
    modified_price_e6: int
    custom_field: str
    lot: str  # "" of futures
    op_code: str
    text: str
    deals: tuple[StandingDeal, ...]
    raw: str = field(repr=False)  # everything the broker said, as JSON; names the person

    @property
    def working(self) -> bool:
        return self.status in WORKING


def might_be(request: Request, standing: StandingOrder) -> bool:
    """Whether a standing order can be the one whose outcome is unknown: the same terms, and memo where both have it."""
    code = "/".join(leg.code for leg in request.legs) if isinstance(request, ComboRequest) else request.code
    lot = request.lot.value if isinstance(request, StockRequest) else ""
    memo_fits = not (request.custom_field and standing.custom_field) or request.custom_field == standing.custom_field
    stands = (standing.code, standing.side, standing.quantity, standing.price_e6, standing.lot)
    return memo_fits and stands == (code, request.side, request.quantity, request.price_e6, lot)
