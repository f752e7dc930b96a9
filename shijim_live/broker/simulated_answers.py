"""How the broker writes down what was traded: floats, naive wall clocks, one row a code. Knows no day and no defect."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Final

from shijim_live.broker.history import Columns, Row
from shijim_live.broker.simulated_past import SHARES_PER_LOT, Figures, Trades, figures_of
from shijim_live.calendar import TAIPEI_OFFSET_NS, Market, next_trading_day, previous_trading_day
from shijim_live.instruments import PRICE_SCALE, Instrument, instrument, tick_size_e6

CENT_E6: Final = 10_000
BUYER, SELLER = 1, 2
TICK_TYPES: Final = ("None", "Buy", "Sell")  # a snapshot's word for 0 to 2
CHANGE_TYPES: Final = ("LimitUp", "Up", "Unchanged", "Down", "LimitDown")  # a snapshot's word for a scanner's 1 to 5


def wall(stamps_ns: Iterable[int]) -> list[int]:
    """Naive Taipei wall clock as if it were UTC: what the broker's `ts` is."""
    return [ns + TAIPEI_OFFSET_NS for ns in stamps_ns]


def prices(prices_e6: Iterable[int]) -> list[float]:
    """The float nearest to each price, as the broker hands them out."""
    return [price_e6 / PRICE_SCALE for price_e6 in prices_e6]


def price(price_e6: int) -> float:
    return prices([price_e6])[0]


def seconds(stamp_ns: int) -> float:
    """Seconds since the epoch with microseconds, as order and deal events say when."""
    return stamp_ns // 1_000 / PRICE_SCALE


def price_limits(of: Instrument, reference_e6: int) -> tuple[int, int]:
    """Lowest and highest valid price within 10 % of the reference, as the simulated exchange has them."""
    low_e6, high_e6 = reference_e6 * 9 // 10, reference_e6 * 11 // 10
    up, down = tick_size_e6(of, low_e6), tick_size_e6(of, high_e6)
    return -(-low_e6 // up) * up, high_e6 // down * down


@dataclass(frozen=True, slots=True)
class Standing:
    """One code at one instant, after one match at least."""

    code: str
    trades: Trades  # of the session so far
    reference_e6: int
    yesterday_lots: int  # of the whole trading day before

    @property
    def figures(self) -> Figures:
        return figures_of(self.trades, instrument(self.code).market)

    @property
    def change_e6(self) -> int:
        return self.trades.price_e6[-1] - self.reference_e6

    @property
    def change_type(self) -> int:
        """1 limit up, 2 up, 3 unchanged, 4 down, 5 limit down."""
        low_e6, high_e6 = price_limits(instrument(self.code), self.reference_e6)
        close_e6 = self.trades.price_e6[-1]
        if close_e6 in (low_e6, high_e6):
            return 1 if close_e6 == high_e6 else 5
        return 3 - (self.change_e6 > 0) + (self.change_e6 < 0)

    @property
    def multiplier(self) -> int:
        return SHARES_PER_LOT if instrument(self.code).market is Market.STOCK else 1


def snapshot(at: Standing) -> Row:
    """A Snapshot. Change against the reference; totals are of the session."""
    shared = _shared(at)
    return Row(
        ts=shared["ts"],
        code=at.code,
        exchange=instrument(at.code).exchange.value,
        open=shared["open"],
        high=shared["high"],
        low=shared["low"],
        close=shared["close"],
        tick_type=TICK_TYPES[at.trades.side[-1]],
        change_price=price(at.change_e6),
        change_rate=_percent(at.change_e6, at.reference_e6),
        change_type=CHANGE_TYPES[at.change_type - 1],
        average_price=shared["average_price"],
        volume=shared["volume"],
        total_volume=shared["total_volume"],
        amount=shared["amount"],
        total_amount=shared["total_amount"],
        yesterday_volume=at.yesterday_lots / 1,  # a float in the SDK's stub, as buy_volume is
        buy_price=shared["buy_price"],
        buy_volume=at.trades.bid_volume[-1] / 1,
        sell_price=shared["sell_price"],
        sell_volume=shared["sell_volume"],
        volume_ratio=shared["volume_ratio"],
    )


def scanned(at: Standing, day: date, rank_value: int) -> Row:
    """A ScannerItem; `rank_value` is what it was ranked by, in hundredths."""
    shared = _shared(at)
    trades = at.trades
    sides = {
        side: [lots for lots, of in zip(trades.volume, trades.side, strict=True) if of == side]
        for side in (BUYER, SELLER)
    }
    return Row(
        date=str(day),
        code=at.code,
        name=instrument(at.code).name,
        ts=shared["ts"],
        open=shared["open"],
        high=shared["high"],
        low=shared["low"],
        close=shared["close"],
        price_range=price(at.figures.high_e6 - at.figures.low_e6),
        tick_type=trades.side[-1],
        change_price=price(at.change_e6),
        change_type=at.change_type,
        average_price=shared["average_price"],
        volume=shared["volume"],
        total_volume=shared["total_volume"],
        amount=shared["amount"],
        total_amount=shared["total_amount"],
        yesterday_volume=at.yesterday_lots,
        volume_ratio=shared["volume_ratio"],
        buy_price=shared["buy_price"],
        buy_volume=trades.bid_volume[-1],
        sell_price=shared["sell_price"],
        sell_volume=shared["sell_volume"],
        bid_orders=len(sides[SELLER]),
        bid_volumes=sum(sides[SELLER]),
        ask_orders=len(sides[BUYER]),
        ask_volumes=sum(sides[BUYER]),
        rank_value=rank_value / 100,
    )


def rank_value(at: Standing, scanner_type: str) -> int:
    """What a scanner ranks by, in hundredths of its unit. KeyError for a type there is not."""
    figures = at.figures
    return {
        "ChangePercentRank": _hundredths(at.change_e6 * 100, at.reference_e6),
        "ChangePriceRank": at.change_e6 // CENT_E6,
        "DayRangeRank": (figures.high_e6 - figures.low_e6) // CENT_E6,
        "VolumeRank": figures.volume * 100,
        "AmountRank": figures.amount_e6 // CENT_E6,
        "TickCountRank": figures.trades * 100,
    }[scanner_type]


PUNISHED_MAX, NOTICED_MAX = 2, 3  # of the stocks there are; a dozen of a thousand in Taiwan
PUNISHED_DAYS: Final = 10
CREDIT_SYSTEMS: Final = ("HE", "HC", "HN", "HF")  # as the broker's page shows them
CREDIT_LOTS_MAX: Final = 2_000


def punished(codes: Sequence[str], day: date, chance: random.Random) -> Columns:
    """A Punish: matched every few minutes, for ten trading days of which `day` is one."""
    chosen = sorted(chance.sample(codes, min(len(codes), chance.randint(1, PUNISHED_MAX))))
    starts = [_days_on(day, -chance.randrange(PUNISHED_DAYS)) for _ in chosen]
    announced = [previous_trading_day(start) for start in starts]
    return Columns(
        code=chosen,
        start_date=starts,
        end_date=[_days_on(start, PUNISHED_DAYS - 1) for start in starts],
        updated_at=[_afternoon(day) for day in announced],
        interval=[f"{chance.choice((5, 20))}分鐘" for _ in chosen],
        unit_limit=prices([10 * PRICE_SCALE] * len(chosen)),
        total_limit=prices([30 * PRICE_SCALE] * len(chosen)),
        description=["simulated disposition"] * len(chosen),
        announced_date=announced,
    )


def noticed(closes_e6: Mapping[str, int], day: date, chance: random.Random) -> Columns:
    """A Notice, announced on the trading day before."""
    chosen = sorted(chance.sample(sorted(closes_e6), min(len(closes_e6), chance.randint(1, NOTICED_MAX))))
    before = previous_trading_day(day)
    return Columns(
        code=chosen,
        updated_at=[_afternoon(before)] * len(chosen),
        close=prices(closes_e6[code] for code in chosen),
        reason=["simulated attention"] * len(chosen),
        announced_date=[before] * len(chosen),
    )


def credit(code: str, day: date, chance: random.Random) -> list[Row]:
    """CreditEnquires of one stock."""
    return [
        Row(
            update_time=_afternoon(previous_trading_day(day)).isoformat(" "),
            system=system,
            stock_id=code,
            margin_unit=chance.randint(0, CREDIT_LOTS_MAX),
            short_unit=chance.randint(0, CREDIT_LOTS_MAX // 10),
            margin_loan_ratio=60,
            short_margin_ratio=90,
        )
        for system in CREDIT_SYSTEMS
    ]


def _days_on(day: date, count: int) -> date:
    """So many trading days later, or earlier."""
    for _ in range(abs(count)):
        day = next_trading_day(day) if count > 0 else previous_trading_day(day)
    return day


def _afternoon(day: date) -> datetime:
    """When the exchange publishes what is to hold from the next day on."""
    return datetime.combine(day, time(17, 30))


def _shared(at: Standing) -> dict[str, float]:
    """What a snapshot and a scanner's row both say."""
    figures, trades = at.figures, at.trades
    last_amount_e6 = trades.price_e6[-1] * trades.volume[-1] * at.multiplier
    average_e6 = figures.amount_e6 // (figures.volume * at.multiplier)
    return {
        "ts": wall(trades.exchange_ns[-1:])[0],
        "open": price(figures.open_e6),
        "high": price(figures.high_e6),
        "low": price(figures.low_e6),
        "close": price(figures.close_e6),
        "average_price": price(round(average_e6, -4)),
        "volume": trades.volume[-1],
        "total_volume": figures.volume,
        "amount": last_amount_e6 // PRICE_SCALE,
        "total_amount": figures.amount_e6 // PRICE_SCALE,
        "volume_ratio": round(figures.volume / at.yesterday_lots, 2) if at.yesterday_lots else 0.0,
        "buy_price": price(trades.bid_price_e6[-1]),
        "sell_price": price(trades.ask_price_e6[-1]),
        "sell_volume": trades.ask_volume[-1],
    }


def _hundredths(numerator: int, denominator: int) -> int:
    """100 × numerator / denominator, rounded half up."""
    return (200 * numerator + denominator) // (2 * denominator)


def _percent(change_e6: int, reference_e6: int) -> float:
    return _hundredths(change_e6 * 100, reference_e6) / 100
