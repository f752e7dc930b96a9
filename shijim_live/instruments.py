"""What a code says about itself: market, tick rule, contract size, delivery month and expiry.

Not the broker's contract list: nothing here is fetched, so that a code recorded years ago still means the same. What a
code cannot say (a stock's board, a name) comes from a short table and is otherwise a stated default.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache

from shijim_live.calendar import Market, is_trading_day, next_trading_day

PRICE_SCALE = 1_000_000  # price_e6 = price × this
INSTRUMENTS_CACHED_MAX = 65_536  # more codes than Taiwan lists; bounds the memory a hostile file can take


class Exchange(StrEnum):
    """Where an instrument trades, named as the broker names it."""

    TSE = "TSE"
    OTC = "OTC"
    TAIFEX = "TAIFEX"


class UnknownInstrument(ValueError):
    """The code is none that this program records."""


# (from this price upward, tick), both × 1,000,000, ascending.
TickBands = tuple[tuple[int, int], ...]

# TWSE and TPEx operating rules: stocks; and beneficiary certificates (ETF, ETN, REIT).
STOCK_TICKS: TickBands = (
    (0, 10_000),
    (10_000_000, 50_000),
    (50_000_000, 100_000),
    (100_000_000, 500_000),
    (500_000_000, 1_000_000),
    (1_000_000_000, 5_000_000),
)
FUND_TICKS: TickBands = ((0, 10_000), (50_000_000, 50_000))


@dataclass(frozen=True, slots=True)
class Instrument:
    """One tradable code."""

    code: str
    name: str  # the code itself where no better one is known
    market: Market
    exchange: Exchange  # TSE for a stock whose board is not in the table: the code does not say
    tick_bands: TickBands  # prices × 1,000,000
    contract_size: (
        int  # TWD that one unit of `volume` gains per point or TWD of price: 200 for TXF, 1000 for a board lot
    )
    lot_size: int  # smallest step of an order, in units of `volume` (lots, contracts)


# Root: (name, TWD per point, tick × 1,000,000). TAIFEX contract specifications.
_ROOTS = {
    "TXF": ("TAIEX futures", 200, 1_000_000),
    "MXF": ("Mini TAIEX futures", 50, 1_000_000),
    "TMF": ("Micro TAIEX futures", 10, 1_000_000),
    "EXF": ("Electronics sector futures", 4_000, 50_000),
    "ZEF": ("Mini electronics sector futures", 500, 50_000),
    "FXF": ("Finance sector futures", 1_000, 200_000),
    "ZFF": ("Mini finance sector futures", 250, 200_000),
}

FUTURES_ROOTS = tuple(_ROOTS)

_STOCKS = {
    "0050": ("Yuanta Taiwan 50", Exchange.TSE),
    "0056": ("Yuanta High Dividend", Exchange.TSE),
    "006208": ("Fubon Taiwan 50", Exchange.TSE),
    "00878": ("Cathay ESG High Dividend", Exchange.TSE),
    "1301": ("Formosa Plastics", Exchange.TSE),
    "2002": ("China Steel", Exchange.TSE),
    "2303": ("UMC", Exchange.TSE),
    "2308": ("Delta Electronics", Exchange.TSE),
    "2317": ("Hon Hai", Exchange.TSE),
    "2330": ("TSMC", Exchange.TSE),
    "2412": ("Chunghwa Telecom", Exchange.TSE),
    "2454": ("MediaTek", Exchange.TSE),
    "2603": ("Evergreen Marine", Exchange.TSE),
    "2881": ("Fubon Financial", Exchange.TSE),
    "2882": ("Cathay Financial", Exchange.TSE),
    "3008": ("Largan", Exchange.TSE),
    "3105": ("WIN Semiconductors", Exchange.OTC),
    "5274": ("ASPEED", Exchange.OTC),
    "6488": ("GlobalWafers", Exchange.OTC),
    "8069": ("E Ink", Exchange.OTC),
}

_MONTHS = "ABCDEFGHIJKL"
_FUTURE = re.compile(rf"(?P<root>[A-Z0-9]{{3}})(?P<month>[{_MONTHS}])(?P<year>[0-9])", re.ASCII)
_CONTINUOUS = re.compile(r"(?P<root>[A-Z0-9]{3})R(?P<nth>[12])", re.ASCII)
_STOCK = re.compile(r"[0-9][0-9A-Z]{3,5}", re.ASCII)
# Their ticks follow other bands, which are not here: 03…08 and 70…73 six digits are warrants, five digits bonds.
_WARRANT = re.compile(r"(0[3-8]|7[0-3])[0-9]{3}[0-9A-Z]|[1-9][0-9]{4}", re.ASCII)
_FUND = re.compile(r"00.*|02[0-9]{4}|01[0-9]{3}T", re.ASCII)


@lru_cache(maxsize=INSTRUMENTS_CACHED_MAX)
def instrument(code: str) -> Instrument:
    """The instrument a code stands for. UnknownInstrument says what codes look like."""
    future = _FUTURE.fullmatch(code) or _CONTINUOUS.fullmatch(code)
    if future and future["root"] in _ROOTS:
        root_name, contract_size, tick_e6 = _ROOTS[future["root"]]
        name = f"{root_name} {_future_month(code)}"
        return Instrument(code, name, Market.FUTURES, Exchange.TAIFEX, ((0, tick_e6),), contract_size, 1)
    if not _STOCK.fullmatch(code) or _WARRANT.fullmatch(code):
        raise UnknownInstrument(_unknown(code))
    name, exchange = _STOCKS.get(code, (code, Exchange.TSE))
    tick_bands = FUND_TICKS if _FUND.fullmatch(code) else STOCK_TICKS
    return Instrument(code, name, Market.STOCK, exchange, tick_bands, 1_000, 1)


def dictionary(codes: Iterable[str]) -> list[dict[str, object]]:
    """What is known of codes, for a file that must be read without this program: instruments that are alike together.

    `codes` is code → name, null where no better one than the code is known. A code that is no instrument is left out,
    and so is the exchange: every record says its own, and ours is a guess for most stocks.
    """
    groups: dict[tuple[str, int, int, TickBands], dict[str, str | None]] = {}
    for code in sorted(set(codes)):
        with suppress(UnknownInstrument):
            known = instrument(code)
            alike = (known.market.value, known.contract_size, known.lot_size, known.tick_bands)
            groups.setdefault(alike, {})[code] = known.name if known.name != code else None
    return [
        {"market": market, "contract_size": contract_size, "lot_size": lot_size, "tick_bands_e6": ticks, "codes": names}
        for (market, contract_size, lot_size, ticks), names in groups.items()
    ]


def concrete_code(code: str, day: date) -> str:
    """`TXFR1`, `TXFR2` → the dated contract the broker delivers for it on a trading day; any other code as it is.

    The near month is the one that has not expired: on its last day it still is, and the next month is R2.
    """
    matched = _CONTINUOUS.fullmatch(code)
    if not matched or matched["root"] not in _ROOTS:
        return code
    first = f"{matched['root']}{_month_code(day.year, day.month)}"
    months_ahead = int(matched["nth"]) - (expiry(first, day) >= day)
    year, month = divmod(day.year * 12 + day.month - 1 + months_ahead, 12)
    return f"{matched['root']}{_month_code(year, month + 1)}"


def _month_code(year: int, month: int) -> str:
    return f"{_MONTHS[month - 1]}{year % 10}"


def _future_month(code: str) -> str:
    if continuous := _CONTINUOUS.fullmatch(code):
        return "near month" if continuous["nth"] == "1" else "next month"
    return f"month {_MONTHS.index(code[3]) + 1:02}, year …{code[4]}"


def _unknown(code: str) -> str:
    return (
        f"unknown instrument {code!r}: a stock or fund is 4 to 6 characters led by a digit (2330, 0050, 00631L; no "
        f"warrants, no bonds), a future is {'|'.join(_ROOTS)} with a month A-L and a digit of the year (TXFD6 = April "
        f"2026) or R1, R2 for the near and next month (TXFR1)"
    )


def tick_size_e6(of: Instrument, price_e6: int) -> int:
    """The smallest price step upward from `price_e6`, × 1,000,000. ValueError unless the price is positive."""
    if price_e6 <= 0:
        raise ValueError(f"{of.code}: no tick size at price_e6 {price_e6}: a price is positive")
    return next(tick for start, tick in reversed(of.tick_bands) if start <= price_e6)


def root_of(code: str) -> str | None:
    """`TXFD6` → `TXF`; None for what is no dated future that this program knows."""
    matched = _FUTURE.fullmatch(code)
    return matched["root"] if matched and matched["root"] in _ROOTS else None


def delivery(code: str, near: date) -> tuple[int, int]:
    """(year, month) a dated future delivers, its one digit of the year read as the year closest to `near`."""
    matched = _FUTURE.fullmatch(code)
    if not matched or matched["root"] not in _ROOTS:
        raise UnknownInstrument(f"{code!r} names no delivery month: a dated future looks like TXFD6 (April 2026)")
    month = _MONTHS.index(matched["month"]) + 1
    # Of the two years with this last digit around `near`, the later one if it is less than five years away.
    years_ahead = (int(matched["year"]) - near.year) % 10
    ahead = years_ahead * 12 + month - near.month
    year = near.year + years_ahead - (10 if ahead > 60 else 0)
    return year, month


def expiry(code: str, near: date) -> date:
    """Last trading day of a dated future: the third Wednesday, or the next trading day if that one is closed."""
    year, month = delivery(code, near)
    first = date(year, month, 1)
    third_wednesday = first + timedelta(days=(2 - first.weekday()) % 7 + 14)
    return third_wednesday if is_trading_day(third_wednesday) else next_trading_day(third_wednesday)
