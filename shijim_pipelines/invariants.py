"""What can never be true of sound data, whatever the market did, as SQL over the archive. Not a matter of degree.

How good a day is, `quality.py` judges; what is missing of it, `proof/audit.py`. A row that breaks one of these was
written, moved or altered wrongly, and nothing built on it can be trusted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any, Final

from shijim_live.calendar import (
    CLOSE_GRACE_NS,
    DAY_NS,
    MINUTE_NS,
    TAIPEI_OFFSET_NS,
    Market,
    previous_trading_day,
    require_trading_day,
    session_bounds,
)
from shijim_live.events import BOOK_LAYOUT, LEVELS, BrokerClass, Flag, Lane
from shijim_live.store import schema
from shijim_live.store.lake import Lake
from shijim_live.store.manifest import MANIFESTS, read_manifest
from shijim_live.store.parquet import parquet_path
from shijim_live.store.views import SAME_TRADE
from shijim_pipelines.placement import BELIEVABLE_NS, FUTURES_SQL

# Codes a violation names; its count is of all.
CODES_MAX: Final = 5
# Futures: orders of the day session are accepted from the first, of the night from the second (TAIFEX).
_DAY_FROM_NS: Final = (8 * 60 + 30) * MINUTE_NS
_NIGHT_FROM_NS: Final = (14 * 60 + 50) * MINUTE_NS

_AGAIN: Final = "Delete the files of its segment and run: shijim archive"
WHAT: Final = {
    "wrong_day": f"stamped on another trading day than the one it is filed under. {_AGAIN}",
    "wrong_session": f"the exchange's clock says the other session. {_AGAIN}",
    "wrong_outside": f"called outside of continuous trading though stamped within, or the reverse. {_AGAIN}",
    "repeated_identity": "two rows have one (run_id, sequence), or a sequence below 1: a segment is archived twice",
    "wrong_lane": "the lane contradicts the broker's flags: a trial match or an odd lot among round lots",
    "no_receive_time": "an object of the broker has no receive time: its latency is lost",
    "price_not_positive": "a trade at no price, or at zero or below, that is not marked suspect",
    "volume_not_positive": "a trade of no volume that is not marked suspect",
    "total_below_volume": "the session's total is less than the trade that it includes",
    "hidden_without_original": "hidden as a duplicate though no equal trade is shown: queries lose a real trade",
    "bids_not_descending": "bid levels are not strictly descending, best first",
    "asks_not_ascending": "ask levels are not strictly ascending, best first",
    "hole_in_levels": "an empty level stands before a filled one",
    "volume_at_empty_level": "an empty level has a volume",
    "level_below_zero": "a level has a price below zero",
    "wrong_duplicate": "called a repeat of the book before it though they differ, or equal to it and shown",
    "rows_of_manifest": f"the segment's manifest states other rows than its Parquet file has. {_AGAIN}",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, how many rows break it, and whose they are."""

    name: str
    what: str  # for a person: what is wrong, and what to do
    count: int
    codes: tuple[tuple[str, int], ...]  # the CODES_MAX worst: code (of a manifest: its segment) and rows

    def __str__(self) -> str:
        worst = ", ".join(f"{code} {count:,}" for code, count in self.codes)
        return f"{self.name}: {self.count:,} rows ({worst}): {self.what}"


def invariants(lake: Lake, day: date, table: str) -> list[Violation]:
    """The invariants that rows of a trading day break, in `ticks` or `books`, most rows first; none: [].

    Judges every row received, hidden ones too. Raises NotATradingDay, LakeError, ManifestDamaged, and ValueError for
    another table.
    """
    require_trading_day(day)
    if table not in _OWN:
        raise ValueError(f"no invariants of {table!r}: only of {' and '.join(_OWN)}")
    broken: dict[str, Counter[str]] = {name: Counter() for name in WHAT}
    for row in _broken_rows(lake, day, table):
        code = str(row.pop("code"))
        for name, count in row.items():
            if count:
                broken[name][code] += int(count)
    for key, rows in _unaccounted(lake, day, table):
        broken["rows_of_manifest"][key] += rows
    found = [Violation(name, WHAT[name], codes.total(), _worst(codes)) for name, codes in broken.items()]
    return sorted((each for each in found if each.count), key=lambda each: -each.count)


def _worst(codes: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(codes.items(), key=lambda item: (-item[1], item[0]))[:CODES_MAX])


def _broken_rows(lake: Lake, day: date, table: str) -> Iterator[dict[str, Any]]:
    """Rows of {"code": …, invariant: rows that break it, …}."""
    places = _places(day)
    yield from lake.query(_of_single_rows(table), **places).to_pylist()
    for sql in (_IDENTITY.format(table=table), _filed_elsewhere(lake, day, table), _duplicates(table)):
        yield from lake.query(sql, day=day).to_pylist()


# Each row by itself


def _places(day: date) -> dict[str, str | int | date]:
    """Where rows of the day are stamped, ns since the epoch: what the conditions name.

    A trading day begins where the last one ends: what is stamped on closed days in between belongs to it.
    """
    opened, closed = _midnight_ns(previous_trading_day(day)), _midnight_ns(day)
    places: dict[str, str | int | date] = {
        "day": day,
        "futures_from": opened + _NIGHT_FROM_NS,
        "futures_to": closed + _NIGHT_FROM_NS,
        "stock_from": opened + DAY_NS,
        "stock_to": closed + DAY_NS,
    }
    for market in Market:
        for bounds in session_bounds(day, market):
            places[f"{market}_{bounds.session}_open"] = bounds.open_ns
            places[f"{market}_{bounds.session}_close"] = bounds.close_ns + CLOSE_GRACE_NS
    return places


def _midnight_ns(day: date) -> int:
    return (day - date(1970, 1, 1)).days * DAY_NS - TAIPEI_OFFSET_NS


def _any(parts: Iterable[str]) -> str:
    return " OR ".join(f"({part})" for part in parts)


_SUSPECT: Final = f"bitAnd(flags, {int(Flag.SUSPECT)}) <> 0"
_OVERSIZE: Final = f"bitAnd(flags, {int(Flag.HAS_SIDE)}) <> 0"  # the value is in a side record, the column is NULL
# A stamp that nobody can believe places nothing; a calendar spread (`TXFD6/E6`) may trade below zero.
_DERIVED: Final = f"""
    ({FUTURES_SQL}) AS futures,
    ifNull(exchange_ns >= {BELIEVABLE_NS[0]} AND exchange_ns < {BELIEVABLE_NS[1]}, false) AS stamped,
    positiveModulo(exchange_ns + {TAIPEI_OFFSET_NS}, {DAY_NS}) AS clock_ns,
    futures AND (clock_ns < {_DAY_FROM_NS} OR clock_ns >= {_NIGHT_FROM_NS}) AS at_night,
    if(futures, (exchange_ns >= {{futures_night_open:Int64}} AND exchange_ns < {{futures_night_close:Int64}})
             OR (exchange_ns >= {{futures_day_open:Int64}} AND exchange_ns < {{futures_day_close:Int64}}),
             exchange_ns >= {{stock_day_open:Int64}} AND exchange_ns < {{stock_day_close:Int64}}) AS trading,
    multiIf(bitAnd(flags, {int(Flag.SIMTRADE)}) <> 0, {int(Lane.TRIAL)},
            bitAnd(flags, {int(Flag.INTRADAY_ODD)}) <> 0, {int(Lane.ODD)}, {int(Lane.BOARD)}) AS flagged_lane,
    position(code, '/') > 0 AS spread"""

_SHARED: Final = {
    "wrong_day": "stamped AND (exchange_ns < if(futures, {futures_from:Int64}, {stock_from:Int64})"
    " OR exchange_ns >= if(futures, {futures_to:Int64}, {stock_to:Int64}))",
    "wrong_session": "stamped AND session <> if(at_night, 'night', 'day')",
    "wrong_outside": "stamped AND outside = trading",
    "wrong_lane": f"lane NOT IN ({', '.join(str(int(lane)) for lane in Lane)}) OR "
    f"(lane <> flagged_lane AND bitAnd(flags, {int(Flag.LANE_INFERRED)}) = 0)",
    "no_receive_time": f"broker_class BETWEEN {int(BrokerClass.TICK_STK_V1)} AND {int(BrokerClass.BIDASK_FOP_V1)}"
    " AND received_ns IS NULL",
}
# After the close a stock's record may tell of fixed-price and odd-lot trading, in fields of their own.
_REAL_TRADE: Final = f"lane = {int(Lane.BOARD)} AND NOT outside AND NOT {_SUSPECT} AND NOT {_OVERSIZE}"
_TICKS: Final = {
    "price_not_positive": f"{_REAL_TRADE} AND NOT spread AND ifNull(price_e6 <= 0, true)",
    "volume_not_positive": f"{_REAL_TRADE} AND ifNull(volume = 0, true)",
    "total_below_volume": f"{_REAL_TRADE} AND ifNull(total_volume < volume, false)",
}


def _books() -> dict[str, str]:
    """The levels of both sides. Price 0 with a volume is a market order, which stands in no order of prices."""
    sides = ("bid", "ask")
    pairs = [(level, level + 1) for level in range(1, LEVELS)]
    every = [(side, level) for side in sides for level in range(1, LEVELS + 1)]

    def out_of_order(side: str, wrong: str) -> str:
        price = f"{side}_price_e6"
        # Beside a market order, which only the best level can be, there is nothing to compare.
        steps = [f"{price}_{a} {wrong} {price}_{b} AND {price}_{a} <> 0" for a, b in pairs]
        return f"NOT spread AND NOT {_OVERSIZE} AND ifNull({_any(steps)}, false)"

    holes = [f"{s}_price_e6_{a} IS NULL AND {s}_price_e6_{b} IS NOT NULL" for s in sides for a, b in pairs]
    filled = [f"{s}_price_e6_{level} IS NULL AND ifNull({s}_volume_{level} <> 0, false)" for s, level in every]
    below = [f"ifNull({s}_price_e6_{level} < 0, false)" for s, level in every]
    return {
        "bids_not_descending": out_of_order("bid", "<="),
        "asks_not_ascending": out_of_order("ask", ">="),
        "hole_in_levels": f"NOT {_OVERSIZE} AND ({_any(holes)})",
        "volume_at_empty_level": f"NOT {_OVERSIZE} AND ({_any(filled)})",
        "level_below_zero": f"NOT spread AND ({_any(below)})",
    }


_OWN: Final = {"ticks": _TICKS, "books": _books()}


def _of_single_rows(table: str) -> str:
    counts = ", ".join(f"countIf({condition}) AS {name}" for name, condition in (_SHARED | _OWN[table]).items())
    return (
        f"SELECT code::String AS code, {counts} FROM (SELECT *, {_DERIVED} FROM {table}_raw "
        "WHERE trading_day = {day:Date32}) GROUP BY code"
    )


# Rows against each other

_IDENTITY: Final = (
    "SELECT code, sum(too_many) AS repeated_identity FROM ("
    "SELECT any(code)::String AS code, count() - (sequence >= 1) AS too_many FROM {table}_raw "
    "WHERE trading_day = {{day:Date32}} GROUP BY run_id, sequence HAVING too_many > 0) GROUP BY code"
)


def _filed_elsewhere(lake: Lake, day: date, table: str) -> str:
    """Rows in the day's folder that say another day of themselves: the engine believes the folder."""
    files = parquet_path(lake.archive_dir.absolute(), table, day, "*")
    return (
        f"SELECT code, count() AS wrong_day FROM file('{files}', 'Parquet', 'code String, trading_day Date32') "
        "WHERE trading_day <> {day:Date32} GROUP BY code SETTINGS use_hive_partitioning = 0"
    )


@cache
def _duplicates(table: str) -> str:
    """Flags of the archive against what the rows say."""
    of_day = f"FROM {table}_raw WHERE trading_day = {{day:Date32}}"
    if table == "ticks":
        return (
            f"SELECT code::String AS code, sum(hidden) AS hidden_without_original FROM ("
            f"SELECT {SAME_TRADE}, countIf(duplicate) AS hidden {of_day} GROUP BY {SAME_TRADE} "
            f"HAVING hidden = count()) GROUP BY code"
        )
    body = {name for name, _, _ in BOOK_LAYOUT}
    sent = ", ".join(column.name for column in schema.columns("books") if column.field in body)
    # A tuple is hashed with its NULLs; bare arguments with a NULL among them have no hash.
    return (
        f"SELECT code::String AS code, countIf(duplicate <> same) AS wrong_duplicate FROM ("
        f"SELECT code, duplicate, sent = lagInFrame(sent) OVER "
        f"(PARTITION BY run_id, segment, code, lane ORDER BY sequence) AS same FROM ("
        f"SELECT run_id, segment, code, lane, sequence, duplicate, cityHash64(tuple(exchange_ns, {sent})) AS sent "
        f"{of_day})) GROUP BY code"
    )


# Rows against the manifests


def _unaccounted(lake: Lake, day: date, table: str) -> Iterator[tuple[str, int]]:
    """(segment, rows that are too many or too few) of the day, by what each row says it is of."""
    counted = lake.query(
        f"SELECT run_id::String AS run_id, segment, count()::Int64 AS rows FROM {table}_raw "
        "WHERE trading_day = {day:Date32} GROUP BY run_id, segment",
        day=day,
    ).to_pylist()
    have = {f"{row['run_id']}-{row['segment']:04}": int(row["rows"]) for row in counted}
    stated = _stated(lake, day, table, have)
    for key in sorted(have.keys() | stated.keys()):
        if have.get(key, 0) != stated.get(key, 0):
            yield key, abs(have.get(key, 0) - stated.get(key, 0))


def _stated(lake: Lake, day: date, table: str, known: Iterable[str]) -> dict[str, int]:
    """Segment → rows of the day that its manifest states."""
    # Years of manifests are read here, but only those that name the day are parsed.
    named = [
        path.stem for path in (lake.archive_dir / MANIFESTS).glob("*.json") if f'"{day}"'.encode() in path.read_bytes()
    ]
    found = {}
    for key in {*named, *known}:
        manifest = read_manifest(lake.archive_dir, key)
        files = manifest["files"] if manifest else []
        found[key] = sum(int(f["rows"]) for f in files if (f["table"], f["trading_day"]) == (table, str(day)))
    return found
