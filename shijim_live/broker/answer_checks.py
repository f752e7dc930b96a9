"""What an answer about the past must be like before anyone sees it: whole, of the asked day, in order, nothing twice.

Not a proof: whether it is what was traded only a recording can show (`proof/alignment.py` of the batch half). So what
may be true is let through, and what cannot be is refused in one line that names code, day and row.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from datetime import date
from itertools import groupby
from typing import Any, Final

from shijim_live.broker.shapes import AnswerRefused, Columns, Row
from shijim_live.calendar import (
    CLOSE_GRACE_NS,
    MINUTE_NS,
    SECOND_NS,
    TAIPEI_OFFSET_NS,
    Market,
    is_trading_day,
    session_bounds,
    wall_clock,
)
from shijim_live.instruments import instrument

TICKS: Final = ("ts", "close", "volume", "bid_price", "bid_volume", "ask_price", "ask_volume", "tick_type")
KBARS: Final = ("ts", "Open", "High", "Low", "Close", "Volume", "Amount")
DAILY_QUOTES: Final = ("Date", "Code", "Open", "High", "Low", "Close", "Volume", "Transaction", "Amount")
PUNISH: Final = (
    "code", "start_date", "end_date", "updated_at", "interval", "unit_limit", "total_limit", "description",
    "announced_date",
)  # fmt: skip
NOTICE: Final = ("code", "updated_at", "close", "reason", "announced_date")

PRICE_MAX: Final = 10**7
VOLUME_MAX: Final = 10**7
TICK_TYPE_MAX: Final = 2
TS_MAX: Final = 4_102_444_800 * SECOND_NS  # the year 2100
# A new listing has no limits for five days; beyond this the decimal point is in another place.
PRICE_FACTOR_MAX: Final = 10
# Stocks are matched once more at the day's last price, until 14:30: in history, not in the session or its total.
FIXED_PRICE_UNTIL_NS: Final = 61 * MINUTE_NS
# So many different rows, each standing there twice, are no market: it is an answer that was put together twice.
TWICE_RUNS_MIN: Final = 8


def check_ticks(answer: Columns, code: str, day: date) -> None:
    """Sound numbers, in the sessions of the day, never back in time. AnswerRefused.

    Equal rows behind each other are no fault: one order that meets several equal ones prints equal rows in the same
    microsecond. A stretch that was sent twice is known by its stamps, which go back; one in which every row
    was sent twice by there being no other rows. What repeats within one stamp is left to the proof, which counts lots.
    """
    where = f"ticks of {code} on {day}"
    columns = _columns(answer, TICKS, where)
    stamps = columns["ts"]
    if not stamps:
        return
    _numbers(columns["close"], where, "close", above=0, most=PRICE_MAX)
    _counts(columns["volume"], where, "volume", least=1, most=VOLUME_MAX)
    _counts(columns["tick_type"], where, "tick_type", most=TICK_TYPE_MAX)
    for side in ("bid", "ask"):
        _numbers(columns[f"{side}_price"], where, f"{side}_price", most=PRICE_MAX)
        _counts(columns[f"{side}_volume"], where, f"{side}_volume", most=VOLUME_MAX)
    if max(columns["close"]) > PRICE_FACTOR_MAX * min(columns["close"]):
        raise AnswerRefused(
            f"{where}: prices from {min(columns['close'])} to {max(columns['close'])} on one day", answer
        )
    _check_stamps(stamps, code, day, where)
    runs = [sum(1 for _ in equal) for _, equal in groupby(zip(*columns.values(), strict=True))]
    if len(runs) >= TWICE_RUNS_MIN and (times := math.gcd(*runs)) > 1:
        raise AnswerRefused(f"{where}: each of its {len(runs):,} rows stands there {times} times", answer)


def _check_stamps(stamps: Sequence[Any], code: str, day: date, where: str) -> None:
    """Within the sessions of the day, and none before the one above it."""
    _counts(stamps, where, "ts", most=TS_MAX)
    if not is_trading_day(day):
        raise AnswerRefused(f"{where}: {len(stamps):,} rows, and nothing is traded on that day")
    opens, ends = _sessions(instrument(code).market, day)
    before = 0
    for row, ts in enumerate(stamps):
        if ts < before:
            raise AnswerRefused(f"{where}, row {row:,}: {_wall(ts)} stands behind {_wall(before)}: back in time")
        before = ts
        place = bisect_right(opens, ts) - 1
        if place < 0 or ts >= ends[place]:
            raise AnswerRefused(f"{where}, row {row:,}: {_wall(ts)} is in no session of that day: another day's")


def _sessions(market: Market, day: date) -> tuple[list[int], list[int]]:
    """Where the sessions of a day begin and where they end, in the broker's own stamps."""
    bounds = session_bounds(day, market)
    opens = [one.open_ns + TAIPEI_OFFSET_NS for one in bounds]
    ends = [one.close_ns + CLOSE_GRACE_NS + TAIPEI_OFFSET_NS for one in bounds]
    if market is Market.STOCK:
        ends[-1] = bounds[-1].close_ns + FIXED_PRICE_UNTIL_NS + TAIPEI_OFFSET_NS
    return opens, ends


def check_kbars(answer: Columns, code: str, first: date, last: date) -> None:
    """Whole minutes of the asked dates, ascending, each once, with prices that agree. AnswerRefused."""
    where = f"kbars of {code} from {first} to {last}"
    columns = _columns(answer, KBARS, where)
    if not columns["ts"]:
        return
    _counts(columns["ts"], where, "ts", most=TS_MAX)
    _prices_agree(columns, where)
    _counts(columns["Volume"], where, "Volume", most=VOLUME_MAX)
    _numbers(columns["Amount"], where, "Amount")
    before = 0
    for row, ts in enumerate(columns["ts"]):
        if ts <= before:
            raise AnswerRefused(
                f"{where}, row {row:,}: {_wall(ts)} stands behind {_wall(before)}: repeated, or back in time"
            )
        before = ts
        if ts % MINUTE_NS or not first <= wall_clock(ts - TAIPEI_OFFSET_NS).date() <= last:
            raise AnswerRefused(f"{where}, row {row:,}: {_wall(ts)} is no minute of these dates")


def check_daily_quotes(answer: Columns, day: date) -> None:
    """Of the asked date, every code once, with prices that agree where something was traded. AnswerRefused."""
    where = f"daily_quotes of {day}"
    columns = _columns(answer, DAILY_QUOTES, where)
    for row, dated in enumerate(columns["Date"]):
        if str(dated).replace("/", "-") != str(day):
            raise AnswerRefused(f"{where}, row {row:,}: is of {dated}: another day's")
    _check_once(columns["Code"], where)
    for name in ("Volume", "Transaction", "Amount"):
        _counts(columns[name], where, name)
    for name in ("Open", "High", "Low", "Close"):
        _numbers(columns[name], where, name, most=PRICE_MAX)


def check_listing(answer: Columns, names: Sequence[str], where: str) -> None:
    """A table of codes, like `punish` and `notice`; one may stand there for several reasons. AnswerRefused."""
    for row, code in enumerate(_columns(answer, names, where)["code"]):
        if not isinstance(code, str) or not code:
            raise AnswerRefused(f"{where}, row {row:,}: {code!r} is no code")


def check_snapshots(answer: Sequence[Row], codes: Collection[str]) -> None:
    """Of asked codes only, each once, with sound numbers. AnswerRefused."""
    where = f"snapshots of {len(codes):,} codes"
    wanted = set(codes)
    # What is asked for by its place in the row of months is answered under the month's own code.
    roots = {code[:3] for code in codes if code[3:] in ("R1", "R2")}
    for row, one in enumerate(answer):
        if one.code not in wanted and one.code[:3] not in roots:
            raise AnswerRefused(f"{where}, row {row:,}: {one.code} was not asked for")
        named = f"{where}, {one.code}"
        _counts([one.ts], named, "ts", most=TS_MAX)
        for name in ("open", "high", "low", "close"):
            _numbers([one[name]], named, name, most=PRICE_MAX)
        for name in ("volume", "total_volume"):
            _counts([one[name]], named, name, most=VOLUME_MAX)
    _check_once([one.code for one in answer], where)


def check_scanners(answer: Sequence[Row], scanner_type: str, day: date, *, ascending: bool, count: int) -> None:
    """No more than asked for, of the day, each code once, the largest first – or last. AnswerRefused."""
    where = f"scanner {scanner_type} of {day}"
    if len(answer) > count:
        raise AnswerRefused(f"{where}: {len(answer):,} rows, and {count:,} were asked for")
    _check_once([one.code for one in answer], where)
    for row, one in enumerate(answer):
        if str(one.date).replace("/", "-") != str(day):
            raise AnswerRefused(f"{where}, row {row:,}: is of {one.date}: another day's")
        _finite(one.rank_value, f"{where}, row {row:,}", "rank_value")
    ranks = [one.rank_value for one in answer]
    if ranks != sorted(ranks, reverse=ascending):
        raise AnswerRefused(f"{where}: is not in the order of rank_value")


def check_credit(answer: Sequence[Row], codes: Collection[str]) -> None:
    """Of asked codes only, one row a code and clearing system. AnswerRefused."""
    where = f"credit_enquires of {len(codes):,} codes"
    wanted = set(codes)
    for row, one in enumerate(answer):
        if one.stock_id not in wanted:
            raise AnswerRefused(f"{where}, row {row:,}: {one.stock_id} was not asked for")
        for name in ("margin_unit", "short_unit"):
            _counts([one[name]], f"{where}, {one.stock_id}", name)
    _check_once([f"{one.stock_id} of {one.system}" for one in answer], where)


def check_usage(answer: Row) -> None:
    """Whole numbers. AnswerRefused."""
    for name in ("bytes", "limit_bytes", "remaining_bytes"):
        value = answer.dict().get(name)
        if type(value) is not int or (value < 0 and name != "remaining_bytes"):
            raise AnswerRefused(f"usage: {name} is {value!r}, so that what is left of today is not known", answer)


# What the checks are made of


def _columns(answer: Columns, names: Iterable[str], where: str) -> dict[str, list[Any]]:
    missing = [name for name in names if name not in answer]
    if missing:
        raise AnswerRefused(f"{where}: has no {', '.join(missing)}: the broker's answers have changed. Update Shijim")
    columns = {name: answer[name] for name in names}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise AnswerRefused(f"{where}: its columns differ in length ({lengths})")
    return columns


def _prices_agree(columns: dict[str, list[Any]], where: str) -> None:
    names = ("Open", "High", "Low", "Close")
    for name in names:
        _numbers(columns[name], where, name, above=0, most=PRICE_MAX)
    for row, (opened, high, low, close) in enumerate(zip(*(columns[name] for name in names), strict=True)):
        if not low <= min(opened, close) <= max(opened, close) <= high:
            raise AnswerRefused(
                f"{where}, row {row:,} ({_wall(columns['ts'][row])}): its prices contradict each other "
                f"(open {opened}, high {high}, low {low}, close {close})"
            )


def _check_once(keys: Sequence[str], where: str) -> None:
    seen: set[str] = set()
    for row, key in enumerate(keys):
        if key in seen:
            raise AnswerRefused(f"{where}, row {row:,}: {key} stands there twice")
        seen.add(key)


def _counts(values: Iterable[Any], where: str, name: str, *, least: int = 0, most: int | None = None) -> None:
    """Whole numbers; the SDK has some of them as floats."""
    for row, value in enumerate(values):
        whole = type(value) is int or (type(value) is float and math.isfinite(value) and not value % 1)
        if not whole or value < least or (most is not None and value > most):
            raise AnswerRefused(f"{where}, row {row:,}: {name} is {value!r}, not a whole number from {least}")


def _numbers(
    values: Iterable[Any], where: str, name: str, *, above: int | None = None, most: int | None = None
) -> None:
    """Numbers from 0, or above `above`."""
    for row, value in enumerate(values):
        _finite(value, f"{where}, row {row:,}", name)
        if value < 0 or (above is not None and value <= above) or (most is not None and value > most):
            raise AnswerRefused(f"{where}, row {row:,}: {name} is {value!r}, not a number that can be")


def _finite(value: Any, where: str, name: str) -> None:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise AnswerRefused(f"{where}: {name} is {value!r}, not a number")


def _wall(ts: int) -> str:
    return wall_clock(ts - TAIPEI_OFFSET_NS).isoformat(sep=" ")
