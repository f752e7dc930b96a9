"""What asking the broker costs: one account a person, in a file that every process shares. Not the questions."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

import orjson

from shijim_live.broker.shared_account import shared_account
from shijim_live.calendar import (
    MINUTE_NS,
    SECOND_NS,
    Market,
    in_session,
    is_trading_day,
    next_trading_day,
    to_exchange_ns,
    wall_clock,
)

# The broker's limits page (tutor/limit). Its Chinese edition says 50 queries in 5 s, its newer English one in 10 s: who
# keeps to the second keeps to both. Breaking it costs a minute of suspension, and the account when repeated.
QUERIES_MAX: Final = 50
QUERY_WINDOW_NS: Final = 10 * SECOND_NS
# Of an account that has not traded through the API for 30 days; it resets at 08:00 Taipei on trading days.
TRAFFIC_BYTES_MAX: Final = 500_000_000
RESET_HOUR: Final = 8
# "Intraday ticks queries: up to 10 calls, kbars 270". The page says neither when the count starts again nor of which
# session it is: here it is one count of all calls while any session is open, and it starts again with the traffic.
INTRADAY_CALLS_MAX: Final = {"ticks": 10, "kbars": 270}
# What a question is taken to cost until its answer is here. Generous: too much is given back, too little is not noticed
# until the broker answers nothing at all.
RESERVED_BYTES: Final = {
    "ticks": 16_000_000,  # 220,000 rows; a busy futures day has a third of that
    "kbars": 3_000_000,  # 30 days of 1,140 minutes
    "snapshots": 200_000,
    "scanners": 100_000,
    "daily_quotes": 400_000,
    "punish": 100_000,
    "notice": 100_000,
    "credit_enquires": 200_000,  # four rows a code
}
QUOTA_VERSION: Final = 1
QUOTA_FILE: Final = "quota.json"  # in Settings.person_dir; of a simulated exchange in its data folder


class QuotaExhausted(RuntimeError):
    """A budget of the broker is used up. Says which, how much is used and when it resets; nothing was asked."""


class QuotaDamaged(RuntimeError):
    """The account of what was asked cannot be read, so that what is left is not known."""


class Query(StrEnum):
    """A question that counts. `instruments` is no query: contracts come with the login."""

    TICKS = "ticks"
    KBARS = "kbars"
    SNAPSHOTS = "snapshots"
    SCANNERS = "scanners"
    DAILY_QUOTES = "daily_quotes"
    PUNISH = "punish"
    NOTICE = "notice"
    CREDIT_ENQUIRES = "credit_enquires"


@dataclass(slots=True)
class _Account:
    """What was asked since the last reset; what the file holds."""

    day: str  # the trading day at whose 08:00 it began
    bytes: int = 0
    intraday: dict[str, int] = field(default_factory=dict)  # calls while a session was open
    asked_ns: list[int] = field(default_factory=list)  # the last QUERIES_MAX


@dataclass(frozen=True, slots=True)
class Spent:
    """How much of each budget is used."""

    since: date  # its 08:00 was the last reset
    resets_ns: int
    bytes: int
    bytes_max: int
    intraday: dict[str, int]


def any_session_open(now_ns: int) -> bool:
    """Whether futures or stocks are in continuous trading."""
    return in_session(now_ns, Market.FUTURES) or in_session(now_ns, Market.STOCK)


class Quota:
    """One person's budgets in one file, shared by every process that asks. Charged before asking, so a crash keeps it.

    QuotaDamaged when the file cannot be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], None] = time.sleep,
        session_open: Callable[[int], bool] = any_session_open,
        bytes_max: int = TRAFFIC_BYTES_MAX,
    ) -> None:
        self.path = path
        self.now_ns = now_ns
        self.sleep = sleep
        self._session_open = session_open
        self._bytes_max = bytes_max

    def charge(self, query: Query) -> int:
        """Takes what the question may cost and returns it; waits until it may be asked.

        QuotaExhausted when a budget of the day does not hold it.
        """
        while (wait_ns := self._try(query)) > 0:
            self.sleep((wait_ns + SECOND_NS // 1_000) / SECOND_NS)
        return RESERVED_BYTES[query]

    def charge_now(self, query: Query) -> int:
        """Charges and returns 0, or returns for how many ns nothing may be asked. QuotaExhausted as `charge`."""
        return self._try(query)

    def _try(self, query: Query) -> int:
        """Charges, or says how long to wait first."""
        with self._account() as account:
            now_ns = self.now_ns()
            open_now = self._session_open(now_ns)
            self._refuse(account, query, open_now=open_now)
            recent = [min(asked_ns, now_ns) for asked_ns in account.asked_ns if now_ns - asked_ns < QUERY_WINDOW_NS]
            if len(recent) >= QUERIES_MAX:
                account.asked_ns = recent
                return recent[-QUERIES_MAX] + QUERY_WINDOW_NS - now_ns
            account.asked_ns = [*recent, now_ns]
            account.bytes += RESERVED_BYTES[query]
            if open_now:
                account.intraday[query.value] = account.intraday.get(query.value, 0) + 1
            return 0

    def _refuse(self, account: _Account, query: Query, *, open_now: bool) -> None:
        then = resets(self.now_ns())
        if account.bytes + RESERVED_BYTES[query] > self._bytes_max:
            raise QuotaExhausted(
                f"no {query}: {account.bytes:,} of {self._bytes_max:,} bytes of today's traffic are used and an answer "
                f"may take {RESERVED_BYTES[query]:,}; the broker would answer nothing, as if nothing had been traded. "
                f"{then} ({self.path})"
            )
        calls_max, calls = INTRADAY_CALLS_MAX.get(query), account.intraday.get(query.value, 0)
        if open_now and calls_max is not None and calls >= calls_max:
            raise QuotaExhausted(
                f"no {query}: {calls} of {calls_max} calls that may be made while a session is open are used. "
                f"{then}; ask again then, or after the close ({self.path})"
            )

    def settle(self, reserved: int, answered: int) -> None:
        """Replaces a charge by what the answer really took, in bytes."""
        with self._account() as account:
            account.bytes = max(0, account.bytes + answered - reserved)

    def learn(self, used_bytes: int) -> None:
        """The broker's own figure of today: what others asked under the same account counts too."""
        with self._account() as account:
            account.bytes = max(account.bytes, used_bytes)

    def exhaust(self) -> None:
        """Nothing is left until the reset, whatever we counted: the broker says so."""
        with self._account() as account:
            account.bytes = max(account.bytes, self._bytes_max)

    def spent(self) -> Spent:
        """How much is used now."""
        with self._account() as account:
            return Spent(
                date.fromisoformat(account.day),
                next_reset_ns(self.now_ns()),
                account.bytes,
                self._bytes_max,
                dict(account.intraday),
            )

    def _account(self) -> AbstractContextManager[_Account]:
        """The account of today under the lock; written when the block ends without an error."""
        return shared_account(self.path, self._read_account, _written)

    def _read_account(self, text: bytes | None) -> _Account:
        """The account, begun anew behind a reset. A clock that went back behind one keeps what was charged."""
        today = str(last_reset_day(self.now_ns()))
        if text is None:
            return _Account(today)
        account = self._parsed(text)
        return account if account.day >= today else _Account(today, asked_ns=account.asked_ns)

    def _parsed(self, text: bytes) -> _Account:
        try:
            fields = orjson.loads(text)
            if fields.pop("version") != QUOTA_VERSION:
                raise ValueError("another version")
            account = _Account(**fields)
            numbers = [account.bytes, *account.intraday.values(), *account.asked_ns]
            date.fromisoformat(account.day)
            if any(type(number) is not int or number < 0 for number in numbers):
                raise ValueError("a number is none")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise QuotaDamaged(
                f"{self.path}: not an account of the broker's quota ({error}), so that what is left of today is not "
                f"known. Wait for {RESET_HOUR:02}:00 Taipei on the next trading day, then remove the file"
            ) from error
        return account


def _written(account: _Account) -> bytes:
    fields = {"version": QUOTA_VERSION, **asdict(account)}
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def resets(now_ns: int) -> str:
    """When a budget that is used up is whole again, for a person."""
    return f"It resets on {wall_clock(next_reset_ns(now_ns)):%Y-%m-%d at %H:%M} Taipei"


def last_reset_day(now_ns: int) -> date:
    """The trading day at whose 08:00 the running count began."""
    wall = wall_clock(now_ns)
    day = wall.date() - timedelta(days=wall.hour < RESET_HOUR)
    while not is_trading_day(day):
        day -= timedelta(days=1)
    return day


def next_reset_ns(now_ns: int) -> int:
    """The next 08:00 of a trading day."""
    day = next_trading_day(last_reset_day(now_ns))
    midnight = wall_clock(0).replace(year=day.year, month=day.month, day=day.day, hour=0)
    return to_exchange_ns(midnight) + RESET_HOUR * 60 * MINUTE_NS
