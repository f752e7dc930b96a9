"""What the broker says a day's sessions came to, and what could be subscribed that day. Ranks and judges nothing.

`<data>/market/quotes/<day>.parquet`, one row per (code, session), and `market/instruments/<day>.parquet`. Every answer is
checked before it is believed: a day with a lie or a hole in it is refused, and no file is written.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from shijim_live.broker.history import Columns, History
from shijim_live.calendar import (
    CLOSE_GRACE_NS,
    MINUTE_NS,
    TAIPEI_OFFSET_NS,
    Market,
    NotYet,
    Session,
    SessionBounds,
    previous_trading_day,
    session_bounds,
    wall_clock,
)
from shijim_live.instruments import expiry, instrument, root_of
from shijim_live.store.parquet import replace_durably

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
INSTRUMENTS_SCHEMA: Final = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("code", "name", "exchange", "security_type")),
        *(pa.field(f"{name}_e6", pa.int64()) for name in ("reference", "limit_up", "limit_down")),
    ]
)
_QUOTE_COLUMNS: Final = ("Date", "Code", "Open", "High", "Low", "Close", "Volume", "Transaction", "Amount")
_BAR_COLUMNS: Final = ("ts", "Open", "High", "Low", "Close", "Volume", "Amount")
_INSTRUMENT_COLUMNS: Final = ("Code", "Name", "Exchange", "SecurityType", "Reference", "LimitUp", "LimitDown")


class QuotesRefused(ValueError):
    """An answer of the broker that cannot be true, or says nothing; the text says which, where and what to do."""


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

    `by_minute` are futures, and stocks whose closing total must be of the board lot alone. Sessions that are not over
    at `as_of_ns` are left out. `quiet` are codes for which there may be no history at all. Raises NotYet, QuotesRefused,
    QuotaExhausted, HistoryUnavailable.
    """
    closed = closed_sessions(day, as_of_ns)
    if not closed:
        raise NotYet(f"{day}: no session is over yet, so there are no quotes. Ask again after its first close")
    rows = {(row.code, row.session): row for row in _stock_rows(history, day)} if "stock-day" in closed else {}
    for code in by_minute:
        bounds = [one for one in session_bounds(day, instrument(code).market) if _key(code, one) in closed]
        for row in _minute_rows(history, code, day, bounds, quiet) if bounds else ():
            rows[row.code, row.session] = _with_count(row, rows.get((row.code, row.session)))
    columns = {name: [getattr(rows[key], name) for key in sorted(rows)] for name in SCHEMA.names}
    metadata = {"trading_day": str(day), "closed": ",".join(closed)}
    return pa.table(columns, SCHEMA.with_metadata(metadata))


def closed_sessions(day: date, as_of_ns: int) -> tuple[str, ...]:
    """Which sessions of a day the broker can tell of at an instant, like `futures-night`. Raises NotATradingDay."""
    wait = {Market.FUTURES: CLOSE_GRACE_NS, Market.STOCK: DAILY_QUOTES_AFTER_NS}
    return tuple(
        f"{market}-{bounds.session}"
        for market in (Market.FUTURES, Market.STOCK)
        for bounds in session_bounds(day, market)
        if bounds.close_ns + wait[market] <= as_of_ns
    )


def _key(code: str, bounds: SessionBounds) -> str:
    return f"{instrument(code).market}-{bounds.session}"


# Stocks: one table of the whole market


def _stock_rows(history: History, day: date) -> Iterator[_Row]:
    answer = _columns(history.daily_quotes(day), _QUOTE_COLUMNS, f"daily_quotes of {day}")
    if not answer["Code"]:
        raise QuotesRefused(
            f"daily_quotes of {day} is empty on a trading day: the traffic is used up, or the table is not out. "
            "Ask again later (resets at 08:00 of a trading day)"
        )
    seen: set[str] = set()
    for place, code in enumerate(answer["Code"]):
        where = f"daily_quotes of {day}, {code}"
        row = {name: values[place] for name, values in answer.items()}
        if str(row["Date"]).replace("/", "-") != str(day):
            raise QuotesRefused(f"{where}: is of {row['Date']}: the broker answers another day. Nothing was written")
        if code in seen:
            raise QuotesRefused(f"{where}: stands there twice, and which is right is unknown. Nothing was written")
        seen.add(code)
        volume, odd_shares = divmod(_count(row["Volume"], f"{where}: Volume"), SHARES_A_LOT)
        yield _checked(
            where,
            code=str(code),
            session=str(Session.DAY),
            prices=[e6(row[name], f"{where}: {name}") for name in ("Open", "High", "Low", "Close")],
            volume=volume,
            odd_shares=odd_shares,
            amount_e6=e6(row["Amount"], f"{where}: Amount"),
            trades=_count(row["Transaction"], f"{where}: Transaction"),
            asked="daily_quotes",
        )


# Minutes of one code


def _minute_rows(
    history: History, code: str, day: date, bounds: Sequence[SessionBounds], quiet: Collection[str]
) -> Iterator[_Row]:
    """A row a closed session. A bar is stamped with its end: the last one of a session holds the closing auction."""
    first = previous_trading_day(day)  # its evening is the night of `day`, which goes on behind midnight
    where = f"kbars of {code}, {first} to {day}"
    bars = _columns(history.kbars(code, first, day), _BAR_COLUMNS, where)
    stamps = [_count(ts, f"{where}: ts") - TAIPEI_OFFSET_NS for ts in bars["ts"]]
    _check_stamps(stamps, first, day, where)
    places = {one.session: [place for place, ns in enumerate(stamps) if _is_in(ns, one)] for one in bounds}
    if not any(places.values()) and code not in quiet:
        raise QuotesRefused(
            f"{where}: no minute of {day}: the traffic is used up, or there is no history of the code. "
            "Ask again later, or leave the code out"
        )
    for session, chosen in places.items():
        yield _session_row(code, session, [{name: bars[name][place] for name in bars} for place in chosen], where)


def _is_in(ns: int, bounds: SessionBounds) -> bool:
    return bounds.open_ns < ns <= bounds.close_ns + CLOSE_GRACE_NS


def _check_stamps(stamps: Sequence[int], first: date, last: date, where: str) -> None:
    """Ascending, each once, of the dates asked for."""
    for before, after in pairwise(stamps):
        if after <= before:
            raise QuotesRefused(
                f"{where}: the minute {wall_clock(after)} stands behind {wall_clock(before)}: repeated or out of order. "
                "Nothing was written"
            )
    for ns in (*stamps[:1], *stamps[-1:]):
        if not first <= wall_clock(ns).date() <= last:
            raise QuotesRefused(f"{where}: holds the minute {wall_clock(ns)}: another day. Nothing was written")


def _session_row(code: str, session: Session, bars: Sequence[Mapping[str, object]], where: str) -> _Row:
    prices = [[e6(bar[name], f"{where}: {name}") for name in ("Open", "High", "Low", "Close")] for bar in bars]
    for bar, (open_e6, high_e6, low_e6, close_e6) in zip(bars, prices, strict=True):
        if not 0 < low_e6 <= min(open_e6, close_e6) <= max(open_e6, close_e6) <= high_e6:
            stamp = wall_clock(_count(bar["ts"], where) - TAIPEI_OFFSET_NS)
            raise QuotesRefused(f"{where}: the prices of {stamp} contradict each other. Nothing was written")
    return _checked(
        f"{where}, {session}",
        code=code,
        session=str(session),
        prices=[prices[0][0], max(p[1] for p in prices), min(p[2] for p in prices), prices[-1][3]] if prices else [0] * 4,
        volume=sum(_count(bar["Volume"], f"{where}: Volume") for bar in bars),
        odd_shares=0,
        amount_e6=sum(e6(bar["Amount"], f"{where}: Amount") for bar in bars),
        trades=None,
        asked="kbars",
    )


def _with_count(row: _Row, table: _Row | None) -> _Row:
    """The minutes of a stock do not count its matches; the table of the day does, and its shares hold more than lots."""
    if table is None or table.asked != "daily_quotes":
        return row
    if row.volume > table.volume:
        raise QuotesRefused(
            f"{row.code}: {row.volume} lots by minutes and {table.volume} by the day's table, which counts more than "
            "lots: one of them lies. Nothing was written"
        )
    fields = {name: getattr(row, name) for name in _Row.__slots__}
    return _Row(**(fields | {"trades": table.trades}))


# Checks


def _columns(answer: Columns, names: Iterable[str], where: str) -> dict[str, list[object]]:
    """The columns of an answer, as long as each other."""
    missing = [name for name in names if name not in answer.keys()]  # noqa: SIM118 - it is no Mapping
    if missing:
        raise QuotesRefused(f"{where}: has no {', '.join(missing)}: the broker's answers have changed. Update Shijim")
    columns: dict[str, list[object]] = {name: answer[name] for name in names}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise QuotesRefused(f"{where}: its columns differ in length ({lengths}). Ask again")
    return columns


def _checked(where: str, *, prices: list[int], volume: int, odd_shares: int, **fields: object) -> _Row:
    open_e6, high_e6, low_e6, close_e6 = prices
    traded = volume > 0 or odd_shares > 0
    if traded and not 0 < low_e6 <= min(open_e6, close_e6) <= max(open_e6, close_e6) <= high_e6:
        raise QuotesRefused(f"{where}: its prices contradict each other ({_shown(prices)}). Nothing was written")
    known = dict(zip(("open_e6", "high_e6", "low_e6", "close_e6"), prices if traded else [None] * 4, strict=True))
    return _Row(**known, volume=volume, odd_shares=odd_shares, **fields)  # type: ignore[arg-type]


def _shown(prices: Iterable[int]) -> str:
    return " ".join(str(Decimal(price_e6).scaleb(-6).normalize()) for price_e6 in prices)


def _count(value: object, where: str) -> int:
    """A whole number from 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or value < 0:
        raise QuotesRefused(f"{where} is {value!r}, not a whole number from 0. Nothing was written")
    return int(value)


def e6(value: object, where: str) -> int:
    """× 1,000,000, from the shortest decimal text of the broker's float, which is the number it was made of.

    More than six decimals are rounded, half to even: an amount is a product of floats.
    """
    try:
        scaled = Decimal(str(value)).scaleb(6)
        if not scaled.is_finite() or scaled < 0:
            raise InvalidOperation
    except InvalidOperation:
        raise QuotesRefused(f"{where} is {value!r}, not a price or an amount. Nothing was written") from None
    return int(scaled.to_integral_value(ROUND_HALF_EVEN))


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
    """The table of a day. Raises QuotesMissing, QuotesRefused for a file that is not it."""
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


def fetch_instruments(history: History, day: date) -> pa.Table:
    """A table of INSTRUMENTS_SCHEMA, by code: what can be subscribed on `day`. Raises QuotesRefused."""
    where = f"instruments of {day}"
    answer = _columns(history.instruments(day), _INSTRUMENT_COLUMNS, where)
    codes = [str(code) for code in answer["Code"]]
    if not codes:
        raise QuotesRefused(f"{where}: none at all on a trading day. Ask again later")
    if len(set(codes)) < len(codes):
        twice = min(code for code in set(codes) if codes.count(code) > 1)
        raise QuotesRefused(f"{where}: {twice} stands there twice. Nothing was written")
    order = sorted(range(len(codes)), key=codes.__getitem__)
    columns: dict[str, list[object]] = {}
    for field, name in zip(INSTRUMENTS_SCHEMA, _INSTRUMENT_COLUMNS, strict=True):
        values = [answer[name][place] for place in order]
        is_price = field.name.endswith("_e6")
        columns[field.name] = [e6(value, f"{where}: {name}") if is_price else str(value) for value in values]
    return pa.table(columns, INSTRUMENTS_SCHEMA.with_metadata({"trading_day": str(day)}))


def write_instruments(table: pa.Table, market_dir: Path, day: date) -> Path:
    assert _said(table, "trading_day") == str(day), "the instruments of a day are written under that day"
    return _write(table, instruments_path(market_dir, day))


def read_instruments(market_dir: Path, day: date) -> pa.Table:
    """The table of a day. Raises QuotesMissing, QuotesRefused."""
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
        raise QuotesRefused(f"{path}: cannot be read ({error}). Delete it and fetch the day again") from None
    if not table.schema.equals(schema) or _said(table, "trading_day") != str(day):
        raise QuotesRefused(f"{path}: is not what this release writes for {day}. Delete it and fetch the day again")
    return table


def _said(table: pa.Table, name: str) -> str:
    """What a table says of itself beside its columns."""
    return (table.schema.metadata or {}).get(name.encode(), b"").decode()


# What a day needs


def instruments_of(day: date, market_dir: Path, history: History | None) -> pa.Table:
    """The instruments of a day, from disk or else fetched and written. QuotesMissing without a history to ask."""
    if history is None or instruments_path(market_dir, day).exists():
        return read_instruments(market_dir, day)
    write_instruments(fetch_instruments(history, day), market_dir, day)
    return read_instruments(market_dir, day)


def quotes_of(day: date, market_dir: Path, history: History | None, as_of_ns: int) -> pa.Table:
    """The quotes of a day as complete as they can be at `as_of_ns`, from disk or else fetched and written.

    Raises what `fetch_quotes` raises, and QuotesMissing without a history to ask.
    """
    closed = closed_sessions(day, as_of_ns)
    if quotes_path(market_dir, day).exists():
        table = read_quotes(market_dir, day)
        if history is None or set(closed) <= set(_said(table, "closed").split(",")):
            return table
    if history is None:
        return read_quotes(market_dir, day)
    futures = [code for _, code in near_months(instruments_of(day, market_dir, history), day)]
    write_quotes(fetch_quotes(history, day, futures, as_of_ns), market_dir, day)
    return read_quotes(market_dir, day)


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
