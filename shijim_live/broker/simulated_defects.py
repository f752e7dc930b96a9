"""What can be wrong with a history, on purpose and seeded. Not the market: what was traded is never touched."""

from __future__ import annotations

import random
from enum import StrEnum
from typing import Any, Final

FIXED_PRICE_LOTS_MAX: Final = 100
LIE_LOTS_MAX: Final = 5


class Defect(StrEnum):
    """A way in which the broker's history has been wrong; # are the issues of its GitHub repository."""

    DUPLICATED = "duplicated"  # ticks: a stretch of rows twice (#89)
    WRONG_DAY = "wrong_day"  # ticks: the rows of the trading day before, with its stamps (#164, #178)
    PARTIAL = "partial"  # ticks: a stretch of rows is missing (#194)
    SHUFFLED = "shuffled"  # ticks: a stretch of rows backwards (#89)
    NO_TOUCH = "no_touch"  # ticks: bid and ask are 0, as in old rows (#33, #38)
    FIXED_PRICE = "fixed_price"  # ticks of stocks: a fixed-price print at 14:30, outside of every session
    EMPTY = "empty"  # ticks, kbars, snapshots: nothing, as when the traffic is used up, and usage() does not say so
    LYING_TOTALS = "lying_totals"  # kbars, daily_quotes: a volume some lots off


_TOUCH: Final = {"bid_price": 0.0, "bid_volume": 0, "ask_price": 0.0, "ask_volume": 0}

Columns = dict[str, list[Any]]  # floats and integers, as in the broker's answer


def spoiled(columns: Columns, defects: frozenset[Defect], chance: random.Random, fixed_price_ts: int) -> Columns:
    """The columns of ticks with what is wrong with them; `fixed_price_ts` is 0 where there is no such print."""
    order = _order(len(columns["ts"]), defects, chance)
    columns = {name: [values[row] for row in order] for name, values in columns.items()}
    if Defect.NO_TOUCH in defects:
        columns |= {name: [nothing] * len(order) for name, nothing in _TOUCH.items()}
    if Defect.FIXED_PRICE in defects and fixed_price_ts and order:
        columns = {name: [*values, values[-1]] for name, values in columns.items()}
        columns["ts"][-1] = fixed_price_ts
        columns["volume"][-1] = chance.randint(1, FIXED_PRICE_LOTS_MAX)
    return columns


def lie(lots: int, chance: random.Random) -> int:
    """A volume that is wrong by one lot at least and never negative."""
    off = chance.randint(1, LIE_LOTS_MAX)
    return lots + off if lots < off or chance.random() < 0.5 else lots - off


def _order(rows: int, defects: frozenset[Defect], chance: random.Random) -> list[int]:
    """Which row stands where."""
    order = list(range(rows))
    if Defect.PARTIAL in defects:
        start, end = _stretch(len(order), 10, chance)
        del order[start:end]
    if Defect.DUPLICATED in defects:
        start, end = _stretch(len(order), 20, chance)
        order[end:end] = order[start:end]
    if Defect.SHUFFLED in defects:
        start, end = _stretch(len(order), 10, chance)
        order[start:end] = order[start:end][::-1]
    return order


def _stretch(rows: int, share: int, chance: random.Random) -> tuple[int, int]:
    """Start and end of a part of one in `share`, of two rows at least where there are two."""
    length = min(rows, max(2, rows // share))
    start = chance.randint(0, rows - length)
    return start, start + length
