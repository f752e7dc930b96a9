"""What the broker says a day's sessions came to, and what could be subscribed that day. Ranks and judges nothing.

`<data>/market/quotes/<day>.parquet`, one row per (code, session), and `market/instruments/<day>.parquet`. Every
answer is checked before it is believed: a day with a lie or a hole in it is refused, and no file is written.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from shijim_live.broker.history import History, HistoryUnavailable
from shijim_live.calendar import (
    CLOSE_GRACE_NS,
    MINUTE_NS,
    TAIPEI_OFFSET_NS,
    Market,
    NotYet,
    Session,
    SessionBounds,
    contract_updates,
    last_contract_update,
    next_trading_day,
    previous_trading_day,
    session_bounds,
    wall_clock,
)
from shijim_live.instruments import FUTURES_ROOTS, concrete_code, expiry, instrument, root_of
from shijim_live.store.parquet import replace_durably
from shijim_pipelines.answers import AnswerRefused, columns_of, count, e6
from shijim_pipelines.contracts import INSTRUMENTS_SCHEMA, contract_table

SHARES_A_LOT: Final = 1_000
# The broker's table of a day's stocks was seen to be out 79 minutes after the close; asked earlier, it is empty.
DAILY_QUOTES_AFTER_NS: Final = 80 * MINUTE_NS

SCHEMA: Final = pa.schema(
    [
        pa.field("code", pa.string(), nullable=False),
        pa.field("session", pa.string(), nullable=False),  # night | day
        *(pa.field(f"{name}_e6", pa.int64()) for name in ("open", "high", "low", "close")),  # null: nothing traded
        pa.field("volume", pa.int64(), nullable=False),  # whole lots, contracts
        pa.field("odd_shares", pa.int64(), nullable=False),  # what is left of the broker's shares
        pa.field("amount_e6", pa.int64(), nullable=False),  # TWD; futures: points × contracts
        pa.field("trades", pa.int64()),  # null where the source does not count them
        pa.field("asked", pa.string(), nullable=False),  # daily_quotes | kbars
    ]
)
_PRICES: Final = ("Open", "High", "Low", "Close")
_PRICES_E6: Final = ("open_e6", "high_e6", "low_e6", "close_e6")
_QUOTE_COLUMNS: Final = ("Date", "Code", *_PRICES, "Volume", "Transaction", "Amount")
_BAR_COLUMNS: Final = ("ts", *_PRICES, "Volume", "Amount")


class QuotesMissing(FileNotFoundError):
    """The day's quotes were never fetched."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of SCHEMA, checked."""

    code: str
    session: str
    open_e6: int | None
    high_e6: int | None
    low_e6: int | None
    close_e6: int | None
    volume: int
    odd_shares: int
    amount_e6: int
    trades: int | None
    asked: str


def fetch_quotes(
    history: History, day: date, by_minute: Sequence[str], as_of_ns: int, quiet: Collection[str] = ()
) -> pa.Table:
    """A table of SCHEMA, by code and session: all stocks from the broker's table, `by_minute` from its minutes.

    `by_minute` are futures, and stocks that were recorded: their total must be of the board lot alone, and the
    broker's table is out only DAILY_QUOTES_AFTER_NS after their close. Sessions that are not over at `as_of_ns` are
    left out. `quiet` are codes for which there may be no history at all: they get rows without a trade. Another code
    without one minute is left out and named in the metadata (`unanswered`): its total is not known. Raises NotYet,
    AnswerRefused, QuotaExhausted, HistoryUnavailable.
    """
    closed = closed_sessions(day, as_of_ns)
    over = {code: _over(code, day, as_of_ns) for code in sorted(set(by_minute))}
    if not closed and not any(over.values()):
        raise NotYet(f"{day}: no session is over yet, so there are no quotes. Ask again after its first close")
    rows = {(row.code, row.session): row for row in _stock_rows(history, day)} if "stock-day" in closed else {}
    unanswered = []
    for code, bounds in over.items():
        minutes = list(_minute_rows(history, code, day, bounds, quiet)) if bounds else []
        rows |= {(row.code, row.session): _with_count(row, rows.get((row.code, row.session))) for row in minutes}
        quiet_in_table = any(row.code == code and not row.volume for row in rows.values())
        if bounds and not minutes and not quiet_in_table:
            unanswered.append(code)
    if unanswered and len(unanswered) == len(over):
        raise AnswerRefused(
            f"kbars of {day}: not a minute of any of {len(over)} codes: the traffic is used up. Ask again later"
        )
    columns = {name: [getattr(rows[key], name) for key in sorted(rows)] for name in SCHEMA.names}
    metadata = {"trading_day": str(day), "source": history.source, "closed": ",".join(closed),
                "by_minute": ",".join(over), "unanswered": ",".join(unanswered)}  # fmt: skip
    return pa.table(columns, SCHEMA.with_metadata(metadata))


def _over(code: str, day: date, as_of_ns: int) -> list[SessionBounds]:
    """The sessions of a code whose minutes are complete."""
    bounds = session_bounds(day, instrument(code).market)
    return [one for one in bounds if one.close_ns + CLOSE_GRACE_NS <= as_of_ns]


def unanswered(table: pa.Table) -> list[str]:
    """Codes of whose minutes the broker said nothing."""
    return [code for code in _said(table, "unanswered").split(",") if code]


def closed_sessions(day: date, as_of_ns: int) -> tuple[str, ...]:
    """Which sessions of a day the broker can tell of at an instant, like `futures-night`. Raises NotATradingDay."""
    return tuple(name for name, known_ns in every_session(day) if known_ns <= as_of_ns)


def every_session(day: date) -> tuple[tuple[str, int], ...]:
    """(session, ns UTC from which on the broker can tell of it) of a day. Raises NotATradingDay."""
    wait = {Market.FUTURES: CLOSE_GRACE_NS, Market.STOCK: DAILY_QUOTES_AFTER_NS}
    return tuple(
        (f"{market}-{bounds.session}", bounds.close_ns + wait[market])
        for market in (Market.FUTURES, Market.STOCK)
        for bounds in session_bounds(day, market)
    )


# Stocks: one table of the whole market


def _stock_rows(history: History, day: date) -> Iterator[_Row]:
    answer = columns_of(history.daily_quotes(day), _QUOTE_COLUMNS, f"daily_quotes of {day}")
    if not answer["Code"]:
        raise AnswerRefused(
            f"daily_quotes of {day} is empty on a trading day: the traffic is used up, or the table is not out. "
            "Ask again later (resets at 08:00 of a trading day)"
        )
    seen: set[object] = set()
    for place, code in enumerate(answer["Code"]):
        where = f"daily_quotes of {day}, {code}"
        row = {name: values[place] for name, values in answer.items()}
        if str(row["Date"]).replace("/", "-") != str(day):
            raise AnswerRefused(f"{where}: is of {row['Date']}: the broker answers another day. Nothing was written")
        if code in seen:
            raise AnswerRefused(f"{where}: stands there twice, and which is right is unknown. Nothing was written")
        seen.add(code)
        volume, odd_shares = divmod(count(row["Volume"], f"{where}: Volume"), SHARES_A_LOT)
        yield _checked(
            where,
            code=str(code),
            session=str(Session.DAY),
            prices=[e6(row[name], f"{where}: {name}") for name in _PRICES],
            volume=volume,
            odd_shares=odd_shares,
            amount_e6=e6(row["Amount"], f"{where}: Amount"),
            trades=count(row["Transaction"], f"{where}: Transaction"),
            asked="daily_quotes",
        )


# Minutes of one code


def _minute_rows(
    history: History, code: str, day: date, bounds: Sequence[SessionBounds], quiet: Collection[str]
) -> Iterator[_Row]:
    """A row a closed session; none at all where the broker has not one minute of the code.

    A bar is stamped with its end: the last one of a session holds the closing auction.
    """
    first = previous_trading_day(day)  # its evening is the night of `day`, which goes on behind midnight
    where = f"kbars of {code}, {first} to {day}"
    bars = columns_of(history.kbars(code, first, day), _BAR_COLUMNS, where)
    stamps = [count(ts, f"{where}: ts") - TAIPEI_OFFSET_NS for ts in bars["ts"]]
    _check_stamps(stamps, first, day, where)
    places = {one.session: [place for place, ns in enumerate(stamps) if _is_in(ns, one)] for one in bounds}
    if not any(places.values()) and code not in quiet:
        return
    for session, chosen in places.items():
        yield _session_row(code, session, [{name: bars[name][place] for name in bars} for place in chosen], where)


def _is_in(ns: int, bounds: SessionBounds) -> bool:
    return bounds.open_ns < ns <= bounds.close_ns + CLOSE_GRACE_NS


def _check_stamps(stamps: Sequence[int], first: date, last: date, where: str) -> None:
    """Ascending, each once, of the dates asked for."""
    for before, after in pairwise(stamps):
        if after <= before:
            raise AnswerRefused(
                f"{where}: {wall_clock(after)} stands behind {wall_clock(before)}: repeated, or out of order. "
                "Nothing was written"
            )
    for ns in (*stamps[:1], *stamps[-1:]):
        if not first <= wall_clock(ns).date() <= last:
            raise AnswerRefused(f"{where}: holds the minute {wall_clock(ns)}: another day. Nothing was written")


def _session_row(code: str, session: Session, bars: Sequence[Mapping[str, object]], where: str) -> _Row:
    prices = [[e6(bar[name], f"{where}: {name}") for name in _PRICES] for bar in bars]
    for bar, of_bar in zip(bars, prices, strict=True):
        if not _agree(*of_bar):
            stamp = wall_clock(count(bar["ts"], where) - TAIPEI_OFFSET_NS)
            raise AnswerRefused(f"{where}: the prices of {stamp} contradict each other. Nothing was written")
    opens, highs, lows, closes = zip(*prices, strict=True) if prices else ((0,),) * 4
    return _checked(
        f"{where}, {session}",
        code=code,
        session=str(session),
        prices=(opens[0], max(highs), min(lows), closes[-1]),
        volume=sum(count(bar["Volume"], f"{where}: Volume") for bar in bars),
        odd_shares=0,
        amount_e6=sum(e6(bar["Amount"], f"{where}: Amount") for bar in bars),
        trades=None,
        asked="kbars",
    )


def _with_count(row: _Row, table: _Row | None) -> _Row:
    """The minutes of a stock do not count its matches; the table of the day does, and its shares hold more."""
    if table is None or table.asked != "daily_quotes":
        return row
    if row.volume > table.volume:
        raise AnswerRefused(
            f"{row.code}: {row.volume} lots by minutes and {table.volume} by the day's table, which counts more than "
            "lots: one of them lies. Nothing was written"
        )
    fields = {name: getattr(row, name) for name in _Row.__slots__}
    return _Row(**(fields | {"trades": table.trades}))


def _checked(where: str, *, prices: Sequence[int], volume: int, odd_shares: int, **fields: object) -> _Row:
    """A row whose prices agree with each other, or are absent where nothing was traded."""
    traded = volume > 0 or odd_shares > 0
    if traded and not _agree(*prices):
        shown = " ".join(str(Decimal(price_e6).scaleb(-6).normalize()) for price_e6 in prices)
        raise AnswerRefused(f"{where}: its prices contradict each other ({shown}). Nothing was written")
    known = dict(zip(_PRICES_E6, prices if traded else [None] * 4, strict=True))
    return _Row(**known, volume=volume, odd_shares=odd_shares, **fields)  # type: ignore[arg-type]


def _agree(open_e6: int, high_e6: int, low_e6: int, close_e6: int) -> bool:
    return 0 < low_e6 <= min(open_e6, close_e6) <= max(open_e6, close_e6) <= high_e6


# Files


def quotes_path(market_dir: Path, day: date) -> Path:
    return market_dir / "quotes" / f"{day}.parquet"


def instruments_path(market_dir: Path, day: date) -> Path:
    return market_dir / "instruments" / f"{day}.parquet"


def write_quotes(table: pa.Table, market_dir: Path, day: date) -> Path:
    """Whole or not at all; the same table gives the same bytes. Replaces a file of fewer closed sessions."""
    assert _said(table, "trading_day") == str(day), "the table of a day is written under that day"
    return _write(table, quotes_path(market_dir, day))


def read_quotes(market_dir: Path, day: date) -> pa.Table:
    """The table of a day. Raises QuotesMissing, AnswerRefused for a file that is not it."""
    path = quotes_path(market_dir, day)
    if not path.exists():
        raise QuotesMissing(f"{path}: the quotes of {day} were not fetched. Run: shijim quotes --day {day}")
    return _read(path, SCHEMA, day)


def closing_totals(market_dir: Path, day: date) -> dict[tuple[str, str], int]:
    """(code, session) → lots at the close; {} when the day has no file.

    A stock's total with odd lots in it is left out: how many whole lots are in it is not known.
    """
    if not quotes_path(market_dir, day).exists():
        return {}
    rows = read_quotes(market_dir, day).select(["code", "session", "volume", "odd_shares"]).to_pylist()
    return {(row["code"], row["session"]): row["volume"] for row in rows if not row["odd_shares"]}


def fetch_instruments(history: History, day: date, as_of_ns: int | None = None) -> pa.Table:
    """A table of INSTRUMENTS_SCHEMA, by code: what can be subscribed on `day`. Raises AnswerRefused.

    `as_of_ns` is when it is asked; None says nothing of it, and such a table is never too old.
    """
    table = contract_table(history.instruments(day), f"instruments of {day}")
    metadata = {"trading_day": str(day), "source": history.source}
    if as_of_ns is not None:
        metadata["refreshed"] = str(last_contract_update(day, as_of_ns))
    return table.replace_schema_metadata(metadata)


def write_instruments(table: pa.Table, market_dir: Path, day: date) -> Path:
    assert _said(table, "trading_day") == str(day), "the instruments of a day are written under that day"
    return _write(table, instruments_path(market_dir, day))


def read_instruments(market_dir: Path, day: date) -> pa.Table:
    """The table of a day. Raises QuotesMissing, AnswerRefused."""
    path = instruments_path(market_dir, day)
    if not path.exists():
        raise QuotesMissing(f"{path}: the instruments of {day} were not fetched. Run: shijim instruments --day {day}")
    return _read(path, INSTRUMENTS_SCHEMA, day)


def _write(table: pa.Table, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.draft")
    try:
        pq.write_table(table, draft, compression="zstd")
        replace_durably(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def _read(path: Path, schema: pa.Schema, day: date) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise AnswerRefused(f"{path}: cannot be read ({error}). Delete it and fetch the day again") from None
    if not table.schema.equals(schema) or _said(table, "trading_day") != str(day):
        raise AnswerRefused(f"{path}: is not what this release writes for {day}. Delete it and fetch the day again")
    return table


def _said(table: pa.Table, name: str) -> str:
    """What a table says of itself beside its columns."""
    return bytes((table.schema.metadata or {}).get(name.encode(), b"")).decode()


# What a day needs


def instruments_of(day: date, market_dir: Path, history: History | None, as_of_ns: int | None = None) -> pa.Table:
    """The instruments of a day, from disk or else fetched and written. QuotesMissing without a history to ask.

    With `as_of_ns`, what was fetched before the broker last renewed its list is fetched again – until it lists the next
    day: what it says then is no longer of this one.
    """
    if history is None or instruments_path(market_dir, day).exists():
        table = read_instruments(market_dir, day)
        _refuse_another(table, history, instruments_path(market_dir, day))
        if history is None or as_of_ns is None or _is_fresh(table, day, as_of_ns):
            return table
    write_instruments(fetch_instruments(history, day, as_of_ns), market_dir, day)
    return read_instruments(market_dir, day)


def _is_fresh(table: pa.Table, day: date, as_of_ns: int) -> bool:
    said = _said(table, "refreshed")
    over_ns = contract_updates(next_trading_day(day))[0]
    return not said or as_of_ns >= over_ns or int(said) >= last_contract_update(day, as_of_ns)


def quotes_of(
    day: date, market_dir: Path, history: History | None, as_of_ns: int, by_minute: Sequence[str] = ()
) -> pa.Table:
    """The quotes of a day as complete as they can be at `as_of_ns`, from disk or else fetched and written.

    Near months are asked by the minute without being named. Raises what `fetch_quotes` raises, and QuotesMissing
    without a history to ask.
    """
    known: set[str] = set()  # what was asked by the minute before is asked again: a total is not forgotten
    if history is None or quotes_path(market_dir, day).exists():
        table = read_quotes(market_dir, day)
        _refuse_another(table, history, quotes_path(market_dir, day))
        known = {code for code in _said(table, "by_minute").split(",") if code}
        missing = sorted(set(closed_sessions(day, as_of_ns)) - set(_said(table, "closed").split(",")))
        asked = set(_said(table, "by_minute").split(",")) - set(unanswered(table))
        if not missing and not set(by_minute) - asked:
            return table
        if history is None:
            raise QuotesMissing(
                f"{quotes_path(market_dir, day)}: is from before {', '.join(missing) or 'all was asked'} was over. "
                f"Run: shijim quotes --day {day}"
            )
    futures = _futures_to_ask(day, market_dir, history)
    write_quotes(fetch_quotes(history, day, sorted({*futures, *by_minute, *known}), as_of_ns), market_dir, day)
    return read_quotes(market_dir, day)


def _refuse_another(table: pa.Table, history: History | None, path: Path) -> None:
    """What one market said is no part of another's day."""
    said = _said(table, "source")
    if history is not None and said and said != history.source:
        raise AnswerRefused(
            f"{path}: was answered by {said}, and {history.source} is asked now. Keep each in a --data-dir of its own, "
            f"or delete the file"
        )


def _futures_to_ask(day: date, market_dir: Path, history: History) -> list[str]:
    """Near months by the day's list; where the broker keeps no list of a past day, by what the codes say."""
    try:
        return [code for _, code in near_months(instruments_of(day, market_dir, history), day)]
    except HistoryUnavailable:
        near = [concrete_code(f"{root}R1", day) for root in FUTURES_ROOTS]
        return near + [concrete_code(f"{code[:3]}R2", day) for code in near if expiry(code, day) == day]


def near_months(instruments: pa.Table, day: date) -> list[tuple[str, str]]:
    """(root, code) of the near month of each root that is listed, by root; on its last day the next month too.

    On that day the near month stops at 13:30 and most of the trade is in the next one.
    """
    listed: dict[str, list[tuple[date, str]]] = {}
    for code in instruments["code"].to_pylist():
        root = root_of(code)
        if root is not None and expiry(code, day) >= day:
            listed.setdefault(root, []).append((expiry(code, day), code))
    found = []
    for root, months in sorted(listed.items()):
        months.sort()
        found += [(root, code) for last_day, code in months[:2] if (last_day, code) == months[0] or months[0][0] == day]
    return found
