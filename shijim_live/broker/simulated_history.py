"""The simulated exchange's past, answered as the broker answers: what was traded, whoever did or did not receive it.

Not a recording: it is generated from the same (day, seed, config) as the feed, and no fault of the feed is in it. It
has faults of its own, off unless asked for (`Defect`); they change answers and never the market.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Final

from shijim_live.broker.history import (
    SCANNER_COUNT_MAX,
    SCANNER_TYPES,
    SNAPSHOT_CODES_MAX,
    Columns,
    Row,
    require_kbars_span,
    row_count,
)
from shijim_live.broker.quota import TRAFFIC_BYTES_MAX, Query, last_reset_day
from shijim_live.broker.simulated import SimulationConfig, dated_code, sessions_of
from shijim_live.broker.simulated_answers import (
    Standing,
    credit,
    noticed,
    price_limits,
    prices,
    punished,
    rank_value,
    scanned,
    snapshot,
    wall,
)
from shijim_live.broker.simulated_defects import Columns as TickColumns
from shijim_live.broker.simulated_defects import Defect, lie, spoiled
from shijim_live.broker.simulated_desk import SimulatedDesk
from shijim_live.broker.simulated_past import (
    NO_TRADES,
    SHARES_PER_LOT,
    Figures,
    PlayedDay,
    Trades,
    figures_of,
    market_of,
)
from shijim_live.calendar import (
    MINUTE_NS,
    TAIPEI_OFFSET_NS,
    Market,
    is_trading_day,
    next_trading_day,
    previous_trading_day,
    session_bounds,
    trading_day,
    trading_days,
    wall_clock,
)
from shijim_live.instruments import PRICE_SCALE, delivery, expiry, instrument, root_of

__all__ = ["Defect", "SimulatedHistory"]

HISTORY_FROM: Final = date(2020, 3, 2)  # the broker's page on historical data
# Seen by users of the broker between 14:43 and 14:49, an hour and a quarter after the close.
DAILY_QUOTES_AFTER_NS: Final = 79 * MINUTE_NS
FIXED_PRICE_AFTER_NS: Final = 60 * MINUTE_NS  # the fixed-price print of stocks stands at 14:30:00
DAYS_CACHED_MAX: Final = 8  # of 6 MB and 0.06 s at 300,000 events
ANSWER_VALUE_BYTES: Final = 8

_TICK_COLUMNS: Final = ("ts", "close", "volume", "bid_price", "bid_volume", "ask_price", "ask_volume", "tick_type")
_KBAR_COLUMNS: Final = ("ts", "Open", "High", "Low", "Close", "Volume", "Amount")


class SimulatedHistory:
    """What `SimulatedExchange(day, seed, config)` traded on any trading day, in the broker's shapes.

    A closed day, a day to come and a day before HISTORY_FROM answer nothing, as the broker does; a code that is none
    raises UnknownInstrument, as the broker's contract list knows none; a sound code that does not trade that day
    answers nothing. `TXFR1` is the near month of each day. Unlike the broker's, it still answers for an expired
    contract under its dated code.
    """

    source: Final = "simulated"

    def __init__(
        self,
        seed: int,
        config: SimulationConfig | None = None,
        defects: frozenset[Defect] = frozenset(),
        *,
        defective_codes: frozenset[str] | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        limit_bytes: int = TRAFFIC_BYTES_MAX,
        desk: SimulatedDesk | None = None,
    ) -> None:
        """`defective_codes`: whose answers have the defects; None = every code's. `now_ns`: what is past at all.

        `desk`: where questions are counted and refused, as the broker does; None = nobody counts them.
        """
        self.seed = seed
        self.config = config or SimulationConfig()
        self.defects = defects
        self._defective_codes = defective_codes
        self._now_ns = now_ns
        self._limit_bytes = limit_bytes
        self._desk = desk
        self._sent_bytes = 0
        self._sent_since: date | None = None
        self._days: dict[date, PlayedDay] = {}

    # The broker's questions

    def require_kept(self, code: str, days: Sequence[date]) -> None:
        instrument(code)

    def ticks(self, code: str, day: date) -> Columns:
        """Bid and ask are those of the last book pushed before the match.

        The broker's own stock rows show what the match left, in its documented samples; its futures rows the book as
        last pushed.
        """
        self._admit(Query.TICKS)
        defects = self._defects_of(code)
        asked = previous_trading_day(day) if Defect.WRONG_DAY in defects and _is_known(day) else day
        trades = self._trades(code, asked)
        columns: TickColumns = {
            "ts": wall(trades.exchange_ns),
            "close": prices(trades.price_e6),
            "volume": trades.volume,
            "bid_price": prices(trades.bid_price_e6),
            "bid_volume": trades.bid_volume,
            "ask_price": prices(trades.ask_price_e6),
            "ask_volume": trades.ask_volume,
            "tick_type": trades.side,
        }
        if Defect.EMPTY in defects or self._exhausted():
            return _nothing(_TICK_COLUMNS)
        if defects:
            columns = spoiled(columns, defects, self._random("ticks", day, code), _fixed_price_ts(code, asked))
        return self._sent(Columns(**columns))

    def kbars(self, code: str, first: date, last: date) -> Columns:
        """Only minutes with a trade; the minute that is running holds what was traded so far."""
        self._admit(Query.KBARS)
        require_kbars_span(code, first, last)
        defects = self._defects_of(code)
        bars: list[tuple[int, Figures]] = []
        # The evening of the last date belongs to the trading day behind it.
        for day in trading_days(max(first, HISTORY_FROM), next_trading_day(max(last, HISTORY_FROM))):
            bars += [bar for bar in self._bars(code, day) if first <= wall_clock(bar[0]).date() <= last]
        if Defect.EMPTY in defects or self._exhausted():
            return _nothing(_KBAR_COLUMNS)
        figures = [bar for _, bar in bars]
        volumes = [bar.volume for bar in figures]
        if Defect.LYING_TOTALS in defects and volumes:
            volumes[-1] = lie(volumes[-1], self._random("kbars", last, code))
        return self._sent(
            Columns(
                ts=wall([label_ns for label_ns, _ in bars]),
                Open=prices([bar.open_e6 for bar in figures]),
                High=prices([bar.high_e6 for bar in figures]),
                Low=prices([bar.low_e6 for bar in figures]),
                Close=prices([bar.close_e6 for bar in figures]),
                Volume=volumes,
                Amount=prices([bar.amount_e6 for bar in figures]),
            )
        )

    def daily_quotes(self, day: date) -> Columns:
        """Volume in shares, Amount in whole TWD.

        Shares, not lots: users who compared the broker's answers with FinMind's table of the exchange's own file, which
        is in shares, found them equal. The exchange's figure also holds odd lots, fixed-price and block trades, so the
        broker's Volume need not be a multiple of 1,000 nor the board lot's closing total; here it is both.
        """
        self._admit(Query.DAILY_QUOTES)
        codes: list[str] = []
        figures: list[Figures] = []
        if self._daily_quotes_are_out(day):
            codes = [code for code in self._played(day).codes if market_of(code) is Market.STOCK]
            figures = [figures_of(self._trades(code, day), Market.STOCK) for code in codes]
        shares = [bar.volume * SHARES_PER_LOT for bar in figures]
        for place, code in enumerate(codes):
            if Defect.LYING_TOTALS in self._defects_of(code):
                lots = lie(figures[place].volume, self._random("daily_quotes", day, code))
                shares[place] = lots * SHARES_PER_LOT
        return self._sent(
            Columns(
                Date=[day] * len(codes),
                Code=codes,
                Open=prices([bar.open_e6 for bar in figures]),
                High=prices([bar.high_e6 for bar in figures]),
                Low=prices([bar.low_e6 for bar in figures]),
                Close=prices([bar.close_e6 for bar in figures]),
                Volume=shares,
                Transaction=[bar.trades for bar in figures],
                Amount=[bar.amount_e6 // PRICE_SCALE for bar in figures],
            )
        )

    def snapshots(self, codes: Sequence[str]) -> list[Row]:
        """Of the session that traded last; a code that has not traded today or the day before is left out."""
        self._admit(Query.SNAPSHOTS)
        if len(codes) > SNAPSHOT_CODES_MAX:
            raise ValueError(f"snapshots of {len(codes)} codes: ask for {SNAPSHOT_CODES_MAX} at most")
        standings = [self._standing_now(code) for code in codes if Defect.EMPTY not in self._defects_of(code)]
        if self._exhausted():
            return []
        return self._sent_rows([snapshot(standing) for standing in standings if standing])

    def scanners(self, scanner_type: str, day: date, *, ascending: bool = True, count: int = 100) -> list[Row]:
        """`ascending` puts the largest first: so says the broker's page, and its sample shows a stock at its limit.

        Its agent reference says the opposite; what a live answer does has not been seen.
        """
        self._admit(Query.SCANNERS)
        if scanner_type not in SCANNER_TYPES or not 0 <= count <= SCANNER_COUNT_MAX:
            raise ValueError(
                f"scanner {scanner_type!r} of {count}: one of {', '.join(SCANNER_TYPES)}, 0 to {SCANNER_COUNT_MAX}"
            )
        if not self._has_begun(day):
            return []
        stocks = [code for code in self._played(day).codes if market_of(code) is Market.STOCK]
        standings = [standing for code in stocks if (standing := self._standing(code, day))]
        ranked = sorted((rank_value(standing, scanner_type), standing.code, standing) for standing in standings)
        chosen = (ranked[::-1] if ascending else ranked)[:count]
        return self._sent_rows([scanned(standing, day, value) for value, _, standing in chosen])

    def punish(self) -> Columns:
        """Of the trading day, the same all day; a few of the stocks it trades."""
        self._admit(Query.PUNISH)
        day, stocks = self._stocks_today()
        return self._sent(punished(stocks, day, self._random("punish", day, "")))

    def notice(self) -> Columns:
        """As `punish`, with the last close."""
        self._admit(Query.NOTICE)
        day, stocks = self._stocks_today()
        closes = {one: at.figures.close_e6 for one in stocks if (at := self._standing(one, previous_trading_day(day)))}
        return self._sent(noticed(closes, day, self._random("notice", day, "")))

    def credit_enquires(self, codes: Sequence[str]) -> list[Row]:
        """Four clearing systems a stock; the same all day."""
        self._admit(Query.CREDIT_ENQUIRES)
        if len(codes) > SNAPSHOT_CODES_MAX:
            raise ValueError(f"credit_enquires of {len(codes)} codes: ask for {SNAPSHOT_CODES_MAX} at most")
        day, stocks = self._stocks_today()
        known = [code for code in codes if code in stocks]
        if self._exhausted():
            return []
        return self._sent_rows([row for code in known for row in credit(code, day, self._random("credit", day, code))])

    def instruments(self, day: date) -> Columns:
        """Limits are the last valid prices within 10 % of the reference. Nothing on a closed day."""
        listed = []
        if _is_known(day):
            listed = [(dated_code(traded.code, day), traded.reference_price_e6) for traded in self.config.instruments]
        known = [instrument(code) for code, _ in listed]
        limits = [price_limits(one, reference_e6) for one, (_, reference_e6) in zip(known, listed, strict=True)]
        return Columns(
            Code=[code for code, _ in listed],
            Name=[one.name for one in known],
            Exchange=[one.exchange.value for one in known],
            SecurityType=["STK" if one.market is Market.STOCK else "FUT" for one in known],
            Reference=prices([reference_e6 for _, reference_e6 in listed]),
            LimitUp=prices([up_e6 for _, up_e6 in limits]),
            LimitDown=prices([down_e6 for down_e6, _ in limits]),
            Currency=["TWD"] * len(listed),
            Multiplier=[one.contract_size if one.market is Market.FUTURES else None for one in known],
            Unit=[one.contract_size if one.market is Market.STOCK else None for one in known],
            LastTradingDate=[expiry(code, day) if root_of(code) else None for code, _ in listed],
            DeliveryMonth=["{}{:02}".format(*delivery(code, day)) if root_of(code) else None for code, _ in listed],
            UpdateDate=[day] * len(listed),
        )

    def usage(self) -> Row:
        """What this object has answered since 08:00 of the trading day."""
        self._exhausted()
        return Row(
            connections=1,
            bytes=self._sent_bytes,
            limit_bytes=self._limit_bytes,
            remaining_bytes=max(0, self._limit_bytes - self._sent_bytes),
        )

    # What is behind the answers

    def _admit(self, query: Query) -> None:
        if self._desk is not None:
            self._desk.admit(query)

    def _stocks_today(self) -> tuple[date, list[str]]:
        """The stock market's trading day, and what it trades."""
        day = trading_day(self._now_ns(), Market.STOCK)
        return day, [code for code in self._played(day).codes if market_of(code) is Market.STOCK]

    def _played(self, day: date) -> PlayedDay:
        played = self._days.pop(day, None) or PlayedDay(day, self.seed, self.config)
        self._days[day] = played  # the last one used stands last
        if len(self._days) > DAYS_CACHED_MAX:
            del self._days[next(iter(self._days))]
        return played

    def _has_begun(self, day: date) -> bool:
        return _is_known(day) and min(session.open_ns for session in sessions_of(day)) <= self._now_ns()

    def _trades(self, code: str, day: date) -> Trades:
        """What had been traded of a code by now; none on days that are not known."""
        instrument(code)  # a code that is none is refused, whatever the day
        if not self._has_begun(day):
            return NO_TRADES
        return self._played(day).trades(dated_code(code, day)).until(self._now_ns())

    def _standing(self, code: str, day: date) -> Standing | None:
        """How a code stood at the end of its last session of the day, or stands; None where it has not traded."""
        trades = self._trades(code, day).last_session()
        if not trades.price_e6:
            return None
        references = {dated_code(one.code, day): one.reference_price_e6 for one in self.config.instruments}
        dated = dated_code(code, day)
        yesterday_lots = sum(self._trades(dated, previous_trading_day(day)).volume)
        return Standing(dated, trades, references[dated], yesterday_lots)

    def _standing_now(self, code: str) -> Standing | None:
        today = trading_day(self._now_ns(), market_of(code))
        return self._standing(code, today) or self._standing(code, previous_trading_day(today))

    def _bars(self, code: str, day: date) -> list[tuple[int, Figures]]:
        """(label in ns UTC, figures) of every minute with a trade."""
        trades = self._trades(code, day)
        return self._played(day).minutes(trades, market_of(code)) if trades.price_e6 else []

    def _daily_quotes_are_out(self, day: date) -> bool:
        if not _is_known(day):
            return False
        return self._now_ns() >= _stock_close_ns(day) + DAILY_QUOTES_AFTER_NS

    def _defects_of(self, code: str) -> frozenset[Defect]:
        concerned = self._defective_codes is None or code in self._defective_codes
        return self.defects if concerned else frozenset()

    def _random(self, question: str, day: date, code: str) -> random.Random:
        return random.Random(f"{self.seed} {question} {day} {code}")

    def _exhausted(self) -> bool:
        since = last_reset_day(self._now_ns())
        if self._sent_since != since:
            self._sent_bytes, self._sent_since = 0, since
        return self._sent_bytes >= self._limit_bytes

    def _sent(self, answer: Columns) -> Columns:
        self._sent_bytes += row_count(answer) * len(answer) * ANSWER_VALUE_BYTES
        return answer

    def _sent_rows(self, answer: list[Row]) -> list[Row]:
        self._sent_bytes += sum(map(len, answer)) * ANSWER_VALUE_BYTES
        return answer


def _is_known(day: date) -> bool:
    return day >= HISTORY_FROM and is_trading_day(day)


def _stock_close_ns(day: date) -> int:
    return session_bounds(day, Market.STOCK)[-1].close_ns


def _fixed_price_ts(code: str, day: date) -> int:
    """When the fixed-price print of a stock stands; 0 for what has none."""
    if market_of(code) is not Market.STOCK or not _is_known(day):
        return 0
    return _stock_close_ns(day) + FIXED_PRICE_AFTER_NS + TAIPEI_OFFSET_NS


def _nothing(names: Iterable[str]) -> Columns:
    return Columns(**{name: [] for name in names})
