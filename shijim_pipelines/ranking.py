"""Which codes are worth recording, by what was traded in the days before. Pure: reads no file and asks nobody.

Scores are integers, so that the same quotes give the same order on any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shijim_live.calendar import Market, Session
from shijim_live.instruments import PRICE_SCALE, UnknownInstrument, instrument, root_of
from shijim_live.universe import Chosen
from shijim_pipelines.quotes import near_months

# Below this a single order moves the price: its range is the spread, and three lots are an unusual volume.
TRADED_TWD_MIN: Final = 10_000_000
# Days before the last one that its volume is held against: fewer have no deviation to speak of.
UNUSUAL_DAYS_MIN: Final = 3
UNUSUAL_MAX: Final = 100_000  # thousandths: a hundred deviations, also where the days before were all equal
# A futures day of 62,369 trades and 110,501 contracts had 226,581 books.
EVENTS_A_TRADE: Final = 5
LOTS_A_TRADE: Final = 2

Integers = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Panel:
    """The stocks that may be chosen: arrays of days × codes, 0 where nothing was traded."""

    codes: list[str]  # sorted
    listed: Truths  # has a row on this day, or had one before
    high_e6: Integers
    low_e6: Integers
    close_e6: Integers
    volume: Integers  # lots
    traded_twd: Integers
    trades: Integers


@dataclass(frozen=True, slots=True)
class Score:
    """One strategy's word on each code of a panel."""

    values: Integers
    judged: Truths  # there is enough history

    def order(self) -> list[int]:
        """Places of the candidates, best first; a stable sort of sorted codes breaks ties by code."""
        best_first = np.argsort(-self.values, kind="stable")
        return [int(at) for at in best_first if self.judged[at] and self.values[at] > 0]

    def of(self, at: int) -> int | None:
        return int(self.values[at]) if self.judged[at] else None


def ranked(
    quotes: Mapping[date, pa.Table],
    instruments: pa.Table,
    day: date,
    strategies: Sequence[str],
    limit: int,
    punished: Collection[str] = (),
) -> tuple[list[Chosen], list[str]]:
    """(the chosen in order, not shared out yet: shard 0; what a person should know)."""
    panel, notes = _panel(quotes, instruments, punished)
    scores = {name: SCORES[name](panel) for name in strategies}
    first = _futures(quotes, instruments, day, strategies)[:limit]
    loads = _loads(panel)
    stocks = [
        Chosen(
            code=panel.codes[at],
            rank=place,
            shard=0,
            load=int(loads[at]),
            scores={name: score.of(at) for name, score in scores.items()},
            reasons=reasons,
        )
        for place, (at, reasons) in enumerate(_taken(scores, limit - len(first)), start=len(first) + 1)
    ]
    return [*first, *stocks], notes


# What was traded


def _panel(
    quotes: Mapping[date, pa.Table], instruments: pa.Table, punished: Collection[str]
) -> tuple[Panel, list[str]]:
    """The stocks that may be chosen, and who is left out."""
    days = [_day_sessions(quotes[day]) for day in sorted(quotes)]
    stocks = {code for code in instruments["code"].to_pylist() if _is_stock(code)}
    trading = set(days[-1].filter(pc.greater(days[-1]["volume"], 0))["code"].to_pylist())
    notes = [
        f"left out, {why}: {len(codes)} codes, {', '.join(sorted(codes)[:5])}{' …' * (len(codes) > 5)}"
        for codes, why in ((stocks - trading, f"no trade on {max(quotes)}"), (stocks & set(punished), "punished"))
        if codes
    ]
    return _filled(sorted((stocks & trading) - set(punished)), days), notes


def _day_sessions(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table["session"], str(Session.DAY)))


def _is_stock(code: str) -> bool:
    try:
        return instrument(code).market is Market.STOCK
    except UnknownInstrument:
        return False  # a warrant, a bond: the recorder knows none


def _filled(codes: list[str], days: Sequence[pa.Table]) -> Panel:
    names = ("high_e6", "low_e6", "close_e6", "volume", "amount_e6", "trades")
    arrays: dict[str, Integers] = {name: np.zeros((len(days), len(codes)), np.int64) for name in names}
    present = np.zeros((len(days), len(codes)), np.bool_)
    value_set = pa.array(codes, pa.string())
    for row, table in enumerate(days):
        places = pc.index_in(table["code"], value_set=value_set)
        known = table.filter(pc.is_valid(places))
        at = places.drop_null().to_numpy()
        present[row, at] = True
        for name, array in arrays.items():
            array[row, at] = pc.fill_null(known[name], 0).to_numpy()
    traded_twd = arrays.pop("amount_e6") // PRICE_SCALE
    return Panel(codes=codes, listed=np.logical_or.accumulate(present), traded_twd=traded_twd, **arrays)


# The strategies


def _volume(panel: Panel) -> Score:
    average = _average_twd(panel)
    return Score(average, np.ones_like(average, np.bool_))


def _average_twd(panel: Panel) -> Integers:
    """Since a code has had quotes; a later day without a row was a day without a trade."""
    average: Integers = panel.traded_twd.sum(axis=0) // np.maximum(panel.listed.sum(axis=0), 1)
    return average


def _volatility(panel: Panel) -> Score:
    """A day without a trade has no range, and the close before it stays the last one."""
    ranges: Integers = np.zeros(len(panel.codes), np.int64)
    days, before_e6 = ranges.copy(), ranges.copy()
    for high_e6, low_e6, close_e6 in zip(panel.high_e6, panel.low_e6, panel.close_e6, strict=True):
        traded = close_e6 > 0
        top_e6 = np.where(before_e6 > 0, np.maximum(high_e6, before_e6), high_e6)
        bottom_e6 = np.where(before_e6 > 0, np.minimum(low_e6, before_e6), low_e6)
        ranges += np.where(traded, top_e6 - bottom_e6, 0)
        days += traded
        before_e6 = np.where(traded, close_e6, before_e6)
    return Score(
        ranges * 1_000_000 // np.maximum(days * before_e6, 1), (days > 0) & (_average_twd(panel) >= TRADED_TWD_MIN)
    )


def _unusual(panel: Panel) -> Score:
    """Floats stand only between two integers, and a deviation is no price."""
    listed, volume = panel.listed[:-1], panel.volume[:-1]
    days = listed.sum(axis=0)
    mean = volume.sum(axis=0) / np.maximum(days, 1)
    deviation = np.sqrt((np.where(listed, volume - mean, 0) ** 2).sum(axis=0) / np.maximum(days - 1, 1))
    above = panel.volume[-1] - mean
    # Where all days before were equal, any other day is as unusual as can be.
    thousandths = np.where(deviation > 0, above * 1_000 / np.maximum(deviation, 1e-12), np.sign(above) * UNUSUAL_MAX)
    values = np.rint(np.clip(thousandths, -UNUSUAL_MAX, UNUSUAL_MAX)).astype(np.int64)
    return Score(values, (days >= UNUSUAL_DAYS_MIN) & (_average_twd(panel) >= TRADED_TWD_MIN))


SCORES: Final[Mapping[str, Callable[[Panel], Score]]] = {
    "volume": _volume,
    "volatility": _volatility,
    "unusual": _unusual,
}


def _taken(scores: Mapping[str, Score], places: int) -> list[tuple[int, tuple[str, ...]]]:
    """(place of a code, reasons): the strategies take turns, each with its best code that is not taken yet.

    The first reason is the strategy that took it; the others are those that would have, in as many places.
    """
    orders = {name: score.order() for name, score in scores.items()}
    positions = {name: {at: place for place, at in enumerate(order, 1)} for name, order in orders.items()}
    taken = []
    for name, at in _turns(orders, places):
        others = [other for other in orders if other != name and positions[other].get(at, places + 1) <= places]
        taken.append((at, tuple(f"{one} {positions[one][at]}" for one in (name, *others))))
    return taken


def _turns(orders: Mapping[str, list[int]], places: int) -> Iterator[tuple[str, int]]:
    taken: set[int] = set()
    waiting = {name: iter(order) for name, order in orders.items()}
    while waiting:
        for name in tuple(waiting):
            if len(taken) >= places:
                return
            at = next((at for at in waiting[name] if at not in taken), None)
            if at is None:
                del waiting[name]
            else:
                taken.add(at)
                yield name, at


# Futures, and what everything weighs


def _futures(
    quotes: Mapping[date, pa.Table], instruments: pa.Table, day: date, strategies: Sequence[str]
) -> list[Chosen]:
    """The near months, by what their root traded, whatever the month was; load 0 where the root has no quotes."""
    twd: dict[str, int] = {}
    lots: dict[str, int] = {}
    for table in quotes.values():
        columns = (table[name].to_pylist() for name in ("code", "volume", "amount_e6"))
        for code, volume, amount_e6 in zip(*columns, strict=True):
            if (root := root_of(code)) is not None:
                lots[root] = lots.get(root, 0) + volume
                twd[root] = twd.get(root, 0) + amount_e6 // PRICE_SCALE * instrument(code).contract_size
    listed = near_months(instruments, day)
    ordered = sorted(listed, key=lambda root_and_code: (-twd.get(root_and_code[0], 0), root_and_code))
    return [
        Chosen(
            code=code,
            rank=place,
            shard=0,
            load=lots.get(root, 0) // len(quotes) // LOTS_A_TRADE * EVENTS_A_TRADE,
            scores={"volume": twd.get(root, 0) // len(quotes)} if "volume" in strategies else {},
            reasons=(f"near month of {root}",),
        )
        for place, (root, code) in enumerate(ordered, start=1)
    ]


def _loads(panel: Panel) -> Integers:
    """Events a day; lots stand in where matches are not counted."""
    trades = np.where(panel.trades > 0, panel.trades, -(-panel.volume // LOTS_A_TRADE)).sum(axis=0)
    loads: Integers = np.maximum(trades * EVENTS_A_TRADE // np.maximum(panel.listed.sum(axis=0), 1), 1)
    return loads
