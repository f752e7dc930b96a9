"""One played day of the simulated exchange by code: matches and minutes in integers. Not what a broker says of it."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Final

from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig
from shijim_live.calendar import MINUTE_NS, Market
from shijim_live.instruments import instrument

SHARES_PER_LOT: Final = 1_000


@dataclass(frozen=True, slots=True)
class Trades:
    """Matches of one code on one trading day in exchange order; prices × 1,000,000, lots, ns UTC."""

    session: list[int]  # index into the day's sessions
    exchange_ns: list[int]
    price_e6: list[int]
    volume: list[int]
    total_volume: list[int]  # of the session
    side: list[int]  # 1 buyer, 2 seller initiated
    bid_price_e6: list[int]  # of the last book pushed before, as all of the touch; 0 where a side is empty
    ask_price_e6: list[int]
    bid_volume: list[int]
    ask_volume: list[int]

    def until(self, ns: int) -> Trades:
        """What had happened at that instant."""
        return self.part(0, bisect_right(self.exchange_ns, ns))

    def last_session(self) -> Trades:
        """The session that traded last."""
        return self.part(bisect_left(self.session, self.session[-1]), len(self.session)) if self.session else self

    def part(self, start: int, end: int) -> Trades:
        return Trades(*(getattr(self, name)[start:end] for name in _FORMATS))


NO_TRADES: Final = Trades(*([] for _ in Trades.__slots__))

# How the bytes of the truth's columns read, in the order of the fields above.
_FORMATS: Final = dict(zip(Trades.__slots__, "BqqIQBqqII", strict=True))


@dataclass(frozen=True, slots=True)
class Figures:
    """One code over one stretch of trading; prices × 1,000,000, lots, TWD (futures: points) × 1,000,000."""

    open_e6: int
    high_e6: int
    low_e6: int
    close_e6: int
    volume: int
    amount_e6: int
    trades: int


NO_FIGURES: Final = Figures(0, 0, 0, 0, 0, 0, 0)


def figures_of(trades: Trades, market: Market) -> Figures:
    """Amounts as the broker states them: a stock's price × shares, a future's price × contracts."""
    prices_e6 = trades.price_e6
    if not prices_e6:
        return NO_FIGURES
    turnover_e6 = sum(price_e6 * lots for price_e6, lots in zip(prices_e6, trades.volume, strict=True))
    return Figures(
        open_e6=prices_e6[0],
        high_e6=max(prices_e6),
        low_e6=min(prices_e6),
        close_e6=prices_e6[-1],
        volume=sum(trades.volume),
        amount_e6=turnover_e6 * (SHARES_PER_LOT if market is Market.STOCK else 1),
        trades=len(prices_e6),
    )


class PlayedDay:
    """What was traded on one trading day; 0.1 s and 6 MB at 300,000 events."""

    def __init__(self, day: date, seed: int, config: SimulationConfig) -> None:
        # The market does not depend on the faults of the feed.
        exchange = SimulatedExchange(day, seed, config.without_faults())
        truth = exchange.truth()
        columns = dict(truth["trades"].items())
        self.sessions = exchange.sessions
        self.codes = tuple(truth["codes"])
        self._columns = [memoryview(columns[name]).cast(char) for name, char in _FORMATS.items()]  # type: ignore[call-overload, arg-type]
        self._rows = {code: array("I") for code in self.codes}
        append = [self._rows[code].append for code in self.codes]
        for row, number in enumerate(memoryview(truth["trades"]["instrument"]).cast("H")):
            append[number](row)

    def trades(self, code: str) -> Trades:
        """All of the day; none for a code that did not trade."""
        rows = self._rows.get(code)
        return Trades(*([column[row] for row in rows] for column in self._columns)) if rows else NO_TRADES

    def minutes(self, trades: Trades, market: Market) -> list[tuple[int, Figures]]:
        """(label in ns UTC, figures) of every minute with a trade: [label − 1 minute, label), the close in its last."""
        labels = [
            min((ns // MINUTE_NS + 1) * MINUTE_NS, self.sessions[session].close_ns)
            for ns, session in zip(trades.exchange_ns, trades.session, strict=True)
        ]
        bars, start = [], 0
        for label_ns, minute in groupby(labels):
            end = start + sum(1 for _ in minute)
            bars.append((label_ns, figures_of(trades.part(start, end), market)))
            start = end
        return bars


def market_of(code: str) -> Market:
    """UnknownInstrument for a code that is none."""
    return instrument(code).market
