"""Which lots of every stream of a day the lake covers, by SQL: exact, and in whatever order they came. Judges nothing.

A trade covers the lots (total − volume, total]. Sorted by total, each trade must begin where the one before ended: less
is an overlap, more is a hole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np

from shijim_live.events import Flag, Lane
from shijim_live.store.lake import Lake
from shijim_live.store.views import BACKFILL
from shijim_pipelines.proof.labels import grouped, labels_of

_LANES: Final = {int(Lane.BOARD): "board", int(Lane.ODD): "odd"}
# Volumes are summed without repeats: the view hides those.
_TRADES: Final = """
SELECT code, session, lane, source, toInt64(volume) AS lots, toInt64(total_volume) AS total, total - lots AS start
FROM ticks WHERE trading_day = {day:Date} AND lane IN (1, 2) AND bitAnd(flags, {suspect:UInt32}) = 0
"""
_COVERED: Final = f"""
WITH trades AS ({_TRADES}), chained AS (
    SELECT *, lagInFrame(total, 1, start) OVER (
        PARTITION BY code, session, lane ORDER BY total, start ROWS BETWEEN 1 PRECEDING AND CURRENT ROW
    ) AS before
    FROM trades WHERE total IS NOT NULL AND lots IS NOT NULL
)
SELECT code, session, lane, count() AS found, sum(lots) AS covered, sumIf(lots, source = {{backfill:String}}) AS filled,
       min(start) AS first, max(total) AS last, countIf(start < before) AS overlaps,
       sumIf(start - before, start > before) AS holes, 0 AS without
FROM chained GROUP BY code, session, lane
UNION ALL
SELECT code, session, lane, count(), sum(lots), sumIf(lots, source = {{backfill:String}}), 0, 0, 0, 0, count()
FROM trades WHERE total IS NULL OR lots IS NULL GROUP BY code, session, lane
"""
_RANGES: Final = f"""
SELECT code, session, toString(lane) AS lane, total, start FROM ({_TRADES})
WHERE total IS NOT NULL AND lots > 0 AND has(splitByChar(',', {{codes:String}}), code)
"""
_BOOKS: Final = (
    "SELECT code, session, count() AS books FROM books WHERE trading_day = {day:Date} GROUP BY code, session"
)

Key = tuple[str, str, str]  # code, session, lane


@dataclass(frozen=True, slots=True)
class Covered:
    """The trades of one stream."""

    trades: int = 0
    lots: int = 0
    lots_backfilled: int = 0
    first: int = 0  # lots before the first trade
    last: int = 0  # the highest total
    overlaps: int = 0  # trades that claim lots another one has
    holes: int = 0  # lots between the first trade and the last that none has
    without_total: int = 0  # trades that say nothing of where they belong

    def missing(self, base: int, total: int) -> int:
        """Lots of (base, total] that no trade covers; of a stream without overlaps."""
        return (self.first - base) + self.holes + (total - self.last) if self.trades else total - base


def covered_by_stream(lake: Lake, day: date) -> dict[Key, Covered]:
    """(code, session, lane) → what its trades cover; trial matches are no trades."""
    answer = lake.query(_COVERED, day=day, suspect=int(Flag.SUSPECT), backfill=BACKFILL)
    found: dict[Key, Covered] = {}
    for row in answer.to_pylist():
        key = (row["code"], row["session"], _LANES[row["lane"]])
        other = found.get(key, Covered())
        judged, blind = (row, None) if not row["without"] else (None, row)
        found[key] = Covered(
            trades=other.trades + row["found"],
            lots=other.lots + (row["covered"] or 0),
            lots_backfilled=other.lots_backfilled + (row["filled"] or 0),
            first=judged["first"] if judged else other.first,
            last=judged["last"] if judged else other.last,
            overlaps=other.overlaps + row["overlaps"],
            holes=other.holes + (row["holes"] or 0),
            without_total=other.without_total + (blind["without"] if blind else 0),
        )
    return found


def books_of(lake: Lake, day: date) -> dict[tuple[str, str], int]:
    """(code, session) → books recorded."""
    return {(row["code"], row["session"]): row["books"] for row in lake.query(_BOOKS, day=day).to_pylist()}


def lots_within(lake: Lake, day: date, wanted: Sequence[tuple[Key, tuple[int, int]]]) -> list[int]:
    """How many lots of each range (from, to] of a stream its trades cover."""
    if not wanted:
        return []
    codes = ",".join(sorted({code for (code, *_), _ in wanted}))
    answer = lake.query(_RANGES, day=day, suspect=int(Flag.SUSPECT), codes=codes)
    totals, starts = (answer.column(name).to_numpy() for name in ("total", "start"))
    labels = [labels_of(answer, name) for name in ("code", "session", "lane")]
    places = {(code, session, _LANES[int(lane)]): rows for (code, session, lane), rows in grouped(labels)}
    found = []
    for key, (low, high) in wanted:
        rows = places.get(key, np.zeros(0, np.int64))
        overlap = np.minimum(totals[rows], high) - np.maximum(starts[rows], low)
        found.append(int(overlap[overlap > 0].sum()))
    return found
