"""When Taiwan's exchanges trade, which trading day an event belongs to, and which slot of the log it lands in.

Not a scheduler and not a clock: every function is given its time, and none asks the system for one.

Trading days come from the `holidays` package (XTAI) corrected by `calendar_overrides.toml`; TWSE, TPEx and TAIFEX keep
one calendar. Session hours are those of stocks and of index futures (TAIFEX contract specifications); currency, gold
and single-stock futures open their night at 17:25 and fit inside the same windows.
"""

import tomllib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cache, lru_cache
from pathlib import Path

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
DAY_NS = 24 * 60 * MINUTE_NS
TAIPEI_OFFSET_NS = 8 * 60 * MINUTE_NS  # UTC+8 all year; Taiwan has had no summer time since 1979

# Closing prints arrive late: real files hold trades at 13:45:00.x and 05:00:00.04.
CLOSE_GRACE_NS = 60 * SECOND_NS

# Earlier years had Saturday sessions, which no calendar library lists; the broker's history starts in March 2020.
FIRST_YEAR = 2020

# What is remembered: a file changes a few times a year, and a program asks about a few years.
EDITIONS_MAX = 4
YEARS_MAX = 100

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall clocks are naive by definition here
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_ONE_DAY = timedelta(days=1)
_OVERRIDES = Path(__file__).with_name("calendar_overrides.toml")
# The operator's own files: path → (what `stat` said when it was read, None for no file; its entries).
_followed: dict[Path, tuple[tuple[int, int, int] | None, dict[date, str | None]]] = {}
_edition = 0  # grows with every change of _followed; caches are keyed by it, so that no thread keeps an older answer


class Market(StrEnum):
    """Whose hours apply."""

    STOCK = "stock"
    FUTURES = "futures"


class Session(StrEnum):
    """A session of the exchange. NIGHT opens on one evening and belongs to the next trading day."""

    NIGHT = "night"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class SessionBounds:
    """Continuous trading of one session."""

    session: Session
    open_ns: int  # first instant, ns since the epoch, UTC
    close_ns: int  # last instant, same; closing prints may come up to CLOSE_GRACE_NS later


class CalendarUnknown(ValueError):
    """The calendar has no knowledge of this year, and a guess would be worse than a refusal."""


class NotATradingDay(ValueError):
    """The exchanges were closed on the day asked for."""


class NotYet(ValueError):
    """What was asked about has not happened yet at the instant it was asked for."""


def _clock(hour: int, minute: int) -> int:
    """Time of day as ns since midnight."""
    return (hour * 60 + minute) * MINUTE_NS


# Attribution windows of futures: orders are accepted from 08:30 and 14:50.
_DAY_WINDOW = _clock(8, 30)
_NIGHT_WINDOW = _clock(14, 50)

# Continuous trading as (open, close) since midnight of the window's date; the night closes on the next calendar day.
_HOURS = {
    (Market.FUTURES, Session.NIGHT): (_clock(15, 0), _clock(29, 0)),
    (Market.FUTURES, Session.DAY): (_clock(8, 45), _clock(13, 45)),
    (Market.STOCK, Session.DAY): (_clock(9, 0), _clock(13, 30)),
}
_SESSIONS = {Market.FUTURES: (Session.NIGHT, Session.DAY), Market.STOCK: (Session.DAY,)}

# Trial matching: before each open, and for stocks during the closing call, whose one real print comes at 13:30.
_TRIAL = {
    Market.FUTURES: ((_clock(8, 30), _clock(8, 45)), (_clock(14, 50), _clock(15, 0))),
    Market.STOCK: ((_clock(8, 30), _clock(9, 0)), (_clock(13, 25), _clock(13, 30))),
}

# The broker's update windows for its contracts (fact sheet of the SDK: 14:45 and 17:15, 07:50 and 08:00).
_UPDATES_AFTER_CLOSE = (_clock(14, 45), _clock(17, 15))
_UPDATES_BEFORE_OPEN = (_clock(7, 50), _clock(8, 0))

# The log turns over while both markets are shut, and every quarter of an hour, on which both of these fall.
_SLOT_DAY = _clock(5, 30)
_SLOT_NIGHT = _clock(14, 45)
_ROTATION_NS = 15 * MINUTE_NS


def to_exchange_ns(wall: datetime) -> int:
    """Naive Taipei wall clock → ns since the epoch, UTC, by integers only. ValueError if `wall` carries a zone."""
    if wall.tzinfo is not None:
        raise ValueError(f"{wall.isoformat()} carries a time zone; a naive Taipei wall clock is expected")
    span = wall - _EPOCH
    return (span.days * 86_400 + span.seconds) * SECOND_NS + span.microseconds * 1_000 - TAIPEI_OFFSET_NS


def wall_clock(ns: int) -> datetime:
    """Ns since the epoch, UTC → naive Taipei wall clock, rounded down to a microsecond."""
    return _EPOCH + timedelta(microseconds=(ns + TAIPEI_OFFSET_NS) // 1_000)


def _split(ns: int) -> tuple[int, int]:
    """Ns since the epoch, UTC → (ordinal of the Taipei date, ns since its midnight)."""
    days, since_midnight = divmod(ns + TAIPEI_OFFSET_NS, DAY_NS)
    return _EPOCH_ORDINAL + days, since_midnight


def _midnight_ns(day: date) -> int:
    """Taipei midnight at the start of `day`, ns since the epoch, UTC."""
    return (day.toordinal() - _EPOCH_ORDINAL) * DAY_NS - TAIPEI_OFFSET_NS


def follow(path: Path) -> None:
    """Let an operator's file of the form of `calendar_overrides.toml` correct ours, so that a typhoon needs no release.

    It need not exist: `refresh` sees it appear, change and go. Files followed later win. ValueError as `refresh`.
    """
    if path not in _followed:
        _adopt({path: _read_version(path)})


def refresh() -> bool:
    """Read again every followed file that appeared, changed or went, at one `stat` a file; whether there was one.

    A file that cannot be understood raises ValueError, at every call until it is right or gone: who is about to decide
    by the calendar must not decide by an outdated one. What was known before stays in force for everybody else.
    """
    changed = {path: _read_version(path) for path, (seen, _) in _followed.items() if _stamp(path) != seen}
    if changed:
        _adopt(changed)
    return bool(changed)


def _adopt(versions: dict[Path, tuple[tuple[int, int, int] | None, dict[date, str | None]]]) -> None:
    global _edition
    _followed.update(versions)
    _edition += 1  # last: who sees the new number sees the new entries


def _read_version(path: Path) -> tuple[tuple[int, int, int] | None, dict[date, str | None]]:
    """The stamp comes first: a file written in between is read once more at the next refresh."""
    stamp = _stamp(path)
    return stamp, _read_overrides(path) if stamp else {}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def announced_through() -> int:
    """Last year whose schedule the exchange has published; later years follow from the law and may still change."""
    with _OVERRIDES.open("rb") as file:
        return int(tomllib.load(file)["announced_through"])


def _read_overrides(path: Path) -> dict[date, str | None]:
    """Day → why it is closed, or None where it is open. ValueError names the file and the entry."""
    try:
        with path.open("rb") as file:
            contents = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}. Correct it or take it away") from error
    days: dict[date, str | None] = {}
    entries = contents.pop("day", [])
    if contents.keys() - {"announced_through"} or not isinstance(entries, list):
        raise ValueError(f"{path}: only entries headed [[day]] are understood, not {sorted(contents) or ['day']}")
    for entry in entries:
        if not isinstance(entry, dict):
            raise ValueError(
                f"{path}: {entry}: an entry is headed [[day]] and has a date, a status, a reason, a source"
            )
        day, status, reason = entry.get("date"), entry.get("status"), entry.get("reason")
        if type(day) is not date or status not in ("open", "closed") or not reason or not entry.get("source"):
            raise ValueError(f"{path}: {entry}: needs a date (2024-10-31), a status (open|closed), a reason, a source")
        if day in days:
            raise ValueError(f"{path}: {day} is listed twice")
        days[day] = str(reason) if status == "closed" else None
    return days


@cache
def _own_overrides() -> dict[date, str | None]:
    return _read_overrides(_OVERRIDES)


@lru_cache(EDITIONS_MAX)
def _overrides(edition: int) -> dict[date, str | None]:
    merged = dict(_own_overrides())
    for _, days in tuple(_followed.values()):
        merged |= days
    return merged


@lru_cache(EDITIONS_MAX * YEARS_MAX)
def _closures(year: int, edition: int) -> dict[date, str]:
    """Every closed day of `year` that is not a plain weekend, with its reason."""
    import holidays  # 0.1 s to import: only who asks about days pays for it

    known = holidays.financial_holidays("XTAI", years=year, language="en_US") if year >= FIRST_YEAR else {}
    if not known:
        raise CalendarUnknown(f"the trading calendar starts in {FIRST_YEAR} and knows nothing of the year {year}")
    # TWSE has opened on no weekend since FIRST_YEAR, make-up working Saturdays included.
    closed = {day: name for day, name in known.items() if day.weekday() < 5}
    for day, reason in _overrides(edition).items():
        if day.year != year:
            continue
        if reason is None:
            closed.pop(day, None)
        else:
            closed[day] = reason
    return closed


def _why_closed(day: date) -> str | None:
    """Why the exchanges are closed on `day`; None on a trading day."""
    if isinstance(day, datetime):
        raise TypeError(f"{day!r} is a datetime; a calendar date is expected")
    edition = _edition
    reason = _closures(day.year, edition).get(day)
    if reason is None and day.weekday() >= 5 and day not in _overrides(edition):
        return f"a {day:%A}"
    return reason


def is_trading_day(day: date) -> bool:
    """Whether the exchanges open on `day`. CalendarUnknown outside the years covered."""
    return _why_closed(day) is None


def next_trading_day(day: date) -> date:
    """First trading day strictly after `day`."""
    return _step(day, _ONE_DAY)


def previous_trading_day(day: date) -> date:
    """Last trading day strictly before `day`."""
    return _step(day, -_ONE_DAY)


def _step(day: date, step: timedelta) -> date:
    day += step
    while not is_trading_day(day):
        day += step
    return day


def trading_days(first: date, last: date) -> list[date]:
    """Trading days from `first` to `last`, both included."""
    span = (last - first).days
    return [day for day in (first + timedelta(days=n) for n in range(span + 1)) if is_trading_day(day)]


def require_trading_day(day: date) -> date:
    """`day` itself, or NotATradingDay with the reason and the nearest trading days on both sides."""
    reason = _why_closed(day)
    if reason is None:
        return day
    raise NotATradingDay(
        f"{day} ({day:%A}) is not a trading day: {reason}; "
        f"the nearest trading days are {previous_trading_day(day)} and {next_trading_day(day)}"
    )


def session_window(exchange_ns: int, market: Market) -> tuple[date, Session]:
    """The window an exchange stamp falls in, by the clock alone: (its date, its session).

    Futures: [D 08:30, D 14:50) is (D, DAY) and [E 14:50, E+1 08:30) is (E, NIGHT). Stocks: the date and DAY.
    """
    ordinal, since_midnight = _split(exchange_ns)
    if market is Market.STOCK or _DAY_WINDOW <= since_midnight < _NIGHT_WINDOW:
        return date.fromordinal(ordinal), Session.DAY
    return date.fromordinal(ordinal - (since_midnight < _DAY_WINDOW)), Session.NIGHT


def window_trading_day(window: date, session: Session) -> date:
    """The trading day that owns a window of `session_window`."""
    if session is Session.DAY and is_trading_day(window):
        return window
    return next_trading_day(window)


def trading_day(exchange_ns: int, market: Market) -> date:
    """The trading day an event belongs to. A night, and anything stamped on a closed day, goes to the next one."""
    return window_trading_day(*session_window(exchange_ns, market))


def in_session(exchange_ns: int, market: Market) -> bool:
    """Whether continuous trading (with CLOSE_GRACE_NS for closing prints) was on; callers flag the rest `outside`.

    A night session runs on the evening of every trading day and on no other, also on the last evening before Lunar New
    Year and before a typhoon day (the closure announced that evening does not stop the night already open). Both follow
    from the contract specification ("15:00 on a trading day to 05:00"); neither has been seen in a recording of ours.
    """
    window, session = session_window(exchange_ns, market)
    open_clock, close_clock = _HOURS[market, session]
    since_window = exchange_ns - _midnight_ns(window)
    return open_clock <= since_window < close_clock + CLOSE_GRACE_NS and is_trading_day(window)


def trial_lane_by_clock(exchange_ns: int, market: Market) -> bool:
    """Whether the clock says trial matching, for sources that carry no `simtrade` flag. Knows nothing of holidays."""
    since_midnight = _split(exchange_ns)[1]
    return any(start <= since_midnight < end for start, end in _TRIAL[market])


def session_bounds(day: date, market: Market) -> list[SessionBounds]:
    """The sessions of trading day `day`, in order; a futures day starts the evening before. Raises NotATradingDay."""
    require_trading_day(day)
    bounds = []
    for session in _SESSIONS[market]:
        window = previous_trading_day(day) if session is Session.NIGHT else day
        open_clock, close_clock = _HOURS[market, session]
        midnight = _midnight_ns(window)
        bounds.append(SessionBounds(session, midnight + open_clock, midnight + close_clock))
    return bounds


def contract_updates(day: date) -> tuple[int, ...]:
    """When the broker renews its list of contracts for trading day `day`, ns UTC: twice after the close of the day
    before, for the night that begins then, and twice before the open. Raises NotATradingDay."""
    require_trading_day(day)
    evening, morning = _midnight_ns(previous_trading_day(day)), _midnight_ns(day)
    return (*(evening + clock for clock in _UPDATES_AFTER_CLOSE), *(morning + clock for clock in _UPDATES_BEFORE_OPEN))


def day_of_contract_update(ns: int) -> date:
    """The trading day whose list is renewed at an instant: in the morning its own, from 14:45 on the next. Raises
    NotATradingDay for a moment of a closed day, on which nothing is renewed."""
    ordinal, since_midnight = _split(ns)
    today = require_trading_day(date.fromordinal(ordinal))
    return next_trading_day(today) if since_midnight >= _UPDATES_AFTER_CLOSE[0] else today


def last_contract_update(day: date, as_of_ns: int) -> int:
    """The renewal that a list of `day` asked for at an instant is of: the last one passed, else the first to come."""
    moments = contract_updates(day)
    return max((moment for moment in moments if moment <= as_of_ns), default=moments[0])


def log_slot(received_ns: int) -> str:
    """Slot of the log, by the receive clock: `2026-04-09-day` is [05:30, 14:45), `…-night` runs on to 05:30."""
    ordinal, since_midnight = _split(received_ns)
    if _SLOT_DAY <= since_midnight < _SLOT_NIGHT:
        return f"{date.fromordinal(ordinal)}-{Session.DAY}"
    return f"{date.fromordinal(ordinal - (since_midnight < _SLOT_DAY))}-{Session.NIGHT}"


def instant_of(day: date, clock_ns: int) -> int:
    """When in a trading day Taipei's clock shows `clock_ns` since midnight; from 14:50 on that is in its night."""
    if _SLOT_DAY <= clock_ns < _NIGHT_WINDOW:
        return _midnight_ns(day) + clock_ns
    return _midnight_ns(previous_trading_day(day)) + clock_ns + (DAY_NS if clock_ns < _SLOT_DAY else 0)


def next_rotation_ns(received_ns: int) -> int:
    """The next instant, strictly later, at which a segment of the log ends: a slot's edge or a quarter of an hour."""
    return received_ns - received_ns % _ROTATION_NS + _ROTATION_NS
