"""The broker's own past: questions put to its SDK, and its answers as plain columns and rows. Neither paid nor judged.

`Metered` (`history.py`) pays and judges. The SDK itself is behind a connection (`shioaji.py`), logged in at the first
question and given back by `close`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import TracebackType
from typing import Any, Final, Protocol, TypeVar

from shijim_live.broker.contracts import PLAIN_TYPES, listed
from shijim_live.broker.gateway import LoginLater, LoginRefused
from shijim_live.broker.history import (
    SCANNER_COUNT_MAX,
    SCANNER_TYPES,
    SNAPSHOT_CODES_MAX,
    Columns,
    HistoryUnavailable,
    NotAnswered,
    Row,
    kbars_days,
)
from shijim_live.broker.history_errors import LoginGone
from shijim_live.broker.leases import HeldLease, Leases, Role, logins_wait_ns
from shijim_live.broker.session import LOGINS_MAX, STABLE_NS
from shijim_live.calendar import (
    MINUTE_NS,
    SECOND_NS,
    TAIPEI_OFFSET_NS,
    Market,
    trading_day,
    wall_clock,
)
from shijim_live.instruments import FUTURES_ROOTS, concrete_code, expiry, instrument, root_of

QUESTION_TIMEOUT_MS: Final = 30_000  # the SDK's own; a futures day of 100,000 rows takes seconds
# Its page on historical data.
HISTORY_FROM: Final = {Market.STOCK: date(2020, 3, 2), Market.FUTURES: date(2020, 3, 22)}
STOCKS: Final = "STK"
LISTED_AHEAD_NS: Final = 10 * MINUTE_NS  # the list of the next day is out at 14:45, before its night begins

T = TypeVar("T")


class HistoryClient(Protocol):
    """The part of the SDK's client that is asked, as `sdk_surface.txt` has it; a test binds every call to that."""

    @property
    def contracts(self) -> Any: ...
    def ticks(self, contract: Any, date: str, query_type: Any, *, timeout: int) -> Any: ...
    def kbars(self, contract: Any, start: str, end: str, *, timeout: int) -> Any: ...
    def snapshots(self, contracts: Any, *, timeout: int) -> Any: ...
    def scanners(self, scanner_type: Any, date: str, ascending: bool, count: int, *, timeout: int) -> Any: ...
    def daily_quotes(self, date: date, exclude: bool, *, timeout: int) -> Any: ...
    def punish(self, *, timeout: int) -> Any: ...
    def notice(self, *, timeout: int) -> Any: ...
    def credit_enquires(self, contracts: Any, *, timeout: int) -> Any: ...
    def usage(self, *, timeout: int) -> Any: ...


@dataclass(frozen=True, slots=True)
class HistoryWords:
    """Values of the SDK's enums that a question needs."""

    all_day: Any  # TicksQueryType
    scanner_types: Mapping[str, Any]  # ScannerType, by its value


class HistoryConnection(Protocol):
    """One login. `ShioajiGateway` is the real one."""

    def login(self, *, force_refresh: bool) -> None:
        """LoginRefused, LoginLater."""

    def ask(self, what: str, question: Callable[[HistoryClient, HistoryWords], T]) -> T:
        """One question, the SDK's errors as ours (`history_errors.py`)."""

    def logout(self) -> None: ...


class ShioajiHistory:
    """A `History` of the broker, over a connection of its own that no recorder can take from it.

    Every question may raise NotAnswered (what may pass), QuotaExhausted, QuestionRefused, LoginRefused,
    NoConnectionLeft, and HistoryUnavailable for what the broker does not keep.
    """

    def __init__(
        self,
        connection: HistoryConnection,
        leases: Leases,
        source: str,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Nobody is dialled yet."""
        self.source: Final = source
        self._connection = connection
        self._leases = leases
        self._now_ns = now_ns
        self._lease: HeldLease | None = None
        self._logged_in = False
        self._logins_ns: deque[int] = deque(maxlen=max(count for count, _ in LOGINS_MAX))
        self._doubtful = False  # the token in reuse may be why the last login failed, or is gone
        self._fresh_ns = -STABLE_NS  # when a login with a fresh token came about
        # What `ascending=True` does: its page and its sample say so, its agent reference the opposite.
        self._ascending_is_largest_first = True

    def __enter__(self) -> ShioajiHistory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Gives the login and the connection back; a later question logs in anew."""
        if self._logged_in:
            self._logged_in = False
            self._connection.logout()
        if self._lease is not None:
            self._lease.close()
            self._lease = None

    # Questions

    def require_kept(self, code: str, days: Sequence[date]) -> None:
        self._keeps(code, days)

    def ticks(self, code: str, day: date) -> Columns:
        [(asked, _)] = self._keeps(code, [day]).items()

        def question(client: HistoryClient, words: HistoryWords) -> Columns:
            contract = _contract(client, asked)
            return _columns(client.ticks(contract, str(day), words.all_day, timeout=QUESTION_TIMEOUT_MS))

        return self._ask(f"ticks of {code} on {day}", question)

    def kbars(self, code: str, first: date, last: date) -> Columns:
        """Of an expired contract only the trading days on which it was the near or the next month."""
        [(asked, days)] = self._keeps(code, kbars_days(code, first, last)).items()

        def question(client: HistoryClient, _: HistoryWords) -> Columns:
            contract = _contract(client, asked)
            return _columns(client.kbars(contract, str(first), str(last), timeout=QUESTION_TIMEOUT_MS))

        answer = self._ask(f"kbars of {code} from {first} to {last}", question)
        return answer if asked == code else _of_days(answer, days)

    def daily_quotes(self, day: date) -> Columns:
        """Without warrants."""
        return self._ask(
            f"daily_quotes of {day}",
            lambda client, _: _columns(client.daily_quotes(day, True, timeout=QUESTION_TIMEOUT_MS)),
        )

    def snapshots(self, codes: Sequence[str]) -> list[Row]:
        return self._rows(
            f"snapshots of {len(codes)} codes",
            codes,
            lambda client, contracts: client.snapshots(contracts, timeout=QUESTION_TIMEOUT_MS),
        )

    def credit_enquires(self, codes: Sequence[str]) -> list[Row]:
        return self._rows(
            f"credit_enquires of {len(codes)} codes",
            codes,
            lambda client, contracts: client.credit_enquires(contracts, timeout=QUESTION_TIMEOUT_MS),
        )

    def scanners(self, scanner_type: str, day: date, *, ascending: bool = True, count: int = 100) -> list[Row]:
        """In the order that `ascending` means here, whatever it means to the broker; NotAnswered to be asked again."""
        what = f"scanner {scanner_type} of {day}"
        if scanner_type not in SCANNER_TYPES or not 0 <= count <= SCANNER_COUNT_MAX:
            known = ", ".join(SCANNER_TYPES)
            raise ValueError(f"scanner {scanner_type!r} of {count}: one of {known}, 0 to {SCANNER_COUNT_MAX}")
        flag = ascending == self._ascending_is_largest_first

        def question(client: HistoryClient, words: HistoryWords) -> list[Row]:
            kind = words.scanner_types[scanner_type]
            answer = client.scanners(kind, str(day), flag, count, timeout=QUESTION_TIMEOUT_MS)
            return [_row(one) for one in answer]

        rows = self._ask(what, question)
        ranks = [row.rank_value for row in rows]
        if ranks == sorted(ranks, reverse=ascending) or ranks != sorted(ranks, reverse=not ascending):
            return rows
        if len(rows) < count:
            return rows[::-1]  # all there are
        # Cut off at the other end: what was wanted is not in it.
        self._ascending_is_largest_first = not self._ascending_is_largest_first
        raise NotAnswered(f"{what}: ascending={flag} gave the other end of the ranking; asked the other way round")

    def punish(self) -> Columns:
        return self._ask("punish", lambda client, _: _columns(client.punish(timeout=QUESTION_TIMEOUT_MS)))

    def notice(self) -> Columns:
        return self._ask("notice", lambda client, _: _columns(client.notice(timeout=QUESTION_TIMEOUT_MS)))

    def usage(self) -> Row:
        names = ("connections", "bytes", "limit_bytes", "remaining_bytes")

        def question(client: HistoryClient, _: HistoryWords) -> Row:
            answer = client.usage(timeout=QUESTION_TIMEOUT_MS)  # the one answer that has attributes and no keys
            return Row(**{name: getattr(answer, name) for name in names})

        return self._ask("usage", question)

    def instruments(self, day: date) -> Columns:
        """Stocks, and the futures that this program records. The broker lists what trades now, and no other day."""
        now_ns = self._now_ns()
        moments = ((now_ns, Market.STOCK), (now_ns, Market.FUTURES), (now_ns + LISTED_AHEAD_NS, Market.FUTURES))
        days = sorted({trading_day(*moment) for moment in moments})
        if day not in days:
            raise HistoryUnavailable(
                f"instruments of {day}: the broker lists what trades now ({' or '.join(map(str, days))}) and keeps no "
                f"earlier list. What was asked for on its day stands below market/instruments"
            )

        def question(client: HistoryClient, _: HistoryWords) -> Columns:
            contracts = client.contracts
            found = list(contracts.list(STOCKS))
            for root in FUTURES_ROOTS:
                found += contracts.futures(root)
            return listed(_infos(contracts, found))

        return self._ask(f"instruments of {day}", question)

    # How they are put

    def _keeps(self, code: str, days: Sequence[date]) -> dict[str, list[date]]:
        """{what to ask for: the days on which that is this code}, one entry. HistoryUnavailable, UnknownInstrument.

        The broker lists no expired month, and has its past only under the month's place: near (R1) or next (R2).
        """
        market = instrument(code).market
        kept_from = HISTORY_FROM[market]
        days = [day for day in days if day >= kept_from]
        if not days:
            raise HistoryUnavailable(f"{code}: the broker keeps history from {kept_from} on", for_good=True)
        root = root_of(code)
        if root is None or expiry(code, days[-1]) >= wall_clock(self._now_ns()).date():
            return {code: days}
        for continuous in (f"{root}R1", f"{root}R2"):
            if mine := [day for day in days if concrete_code(continuous, day) == code]:
                return {continuous: mine}
        raise HistoryUnavailable(
            f"{code} expired on {expiry(code, days[-1])}, and was neither the near nor the next month on {days[-1]}: "
            f"the broker has the past of an expired month only as {root}R1 and {root}R2",
            for_good=True,
        )

    def _rows(
        self, what: str, codes: Sequence[str], ask: Callable[[HistoryClient, list[Any]], Iterable[Any]]
    ) -> list[Row]:
        if len(codes) > SNAPSHOT_CODES_MAX:
            raise ValueError(f"{what}: ask for {SNAPSHOT_CODES_MAX} at most")

        def question(client: HistoryClient, _: HistoryWords) -> list[Row]:
            return [_row(one) for one in ask(client, [_contract(client, code) for code in codes])]

        return self._ask(what, question)

    def _ask(self, what: str, question: Callable[[HistoryClient, HistoryWords], T]) -> T:
        """The answer, taken apart while the connection explains what goes wrong: the SDK decodes when it is read."""
        if (wait_ns := self._leases.sent_away_ns()) > 0:
            raise NotAnswered("the broker has sent this person away for a while", wait_ns)
        self._log_in()
        try:
            return self._connection.ask(what, question)
        except LoginGone as error:
            self._doubtful, self._logged_in = True, False
            self._connection.logout()
            since_ns = self._now_ns() - self._fresh_ns
            if since_ns >= STABLE_NS:
                raise
            raise LoginRefused(
                f"{what}: {error}, though a fresh token was made {since_ns // SECOND_NS} s before. Find out what else "
                f"logs in with these keys, and what they may, before asking again"
            ) from None
        except NotAnswered as error:
            if error.wait_ns > 0:
                self._leases.sent_away(error.wait_ns)
            raise

    def _log_in(self) -> None:
        if self._logged_in:
            return
        if (wait_ns := logins_wait_ns(self._logins_ns, self._now_ns(), LOGINS_MAX)) > 0:
            raise NotAnswered("this session has logged in too often", wait_ns)
        if self._lease is None:
            self._lease = self._leases.take(Role.HISTORY)
        if (wait_ns := self._leases.charge_login()) > 0:
            raise NotAnswered("this person has logged in too often, over all processes", wait_ns)
        self._logins_ns.append(self._now_ns())
        forced, self._doubtful = self._doubtful, True
        try:
            self._connection.login(force_refresh=forced)
        except LoginLater as error:
            self._leases.sent_away(error.wait_ns)
            raise
        self._logged_in, self._doubtful = True, False
        if forced:
            self._fresh_ns = self._now_ns()


def _contract(client: HistoryClient, code: str) -> Any:
    found = client.contracts.get(code)
    if found is None:
        # Not for good: before its hour the list of a day is not there, or broke off.
        raise HistoryUnavailable(f"{code}: the broker lists no such contract, now or any more")
    return found


def _infos(contracts: Any, found: Iterable[Any]) -> list[Any]:
    """What is known of each; where the list holds the bare contract, its details are looked up."""
    return [one if hasattr(one, "reference") else (contracts.info(one) or one) for one in found]


def _columns(answer: Any) -> Columns:
    return Columns(**{name: [_plain(value) for value in answer[name]] for name in answer.keys()})  # noqa: SIM118


def _row(answer: Any) -> Row:
    return Row(**{name: _plain(answer[name]) for name in answer.keys()})  # noqa: SIM118 - it is no Mapping


def _plain(value: Any) -> Any:
    """An enum of the SDK equals its value, and becomes it; it also says that it is a str, which it is not."""
    return value if type(value) in PLAIN_TYPES else getattr(value, "value", value)


def _of_days(bars: Columns, days: Sequence[date]) -> Columns:
    """Minutes of these trading days: under a continuous code the others are another month's."""
    wanted = set(days)
    rows = [
        row
        for row, ts in enumerate(bars["ts"])
        if trading_day(ts - TAIPEI_OFFSET_NS - 1, Market.FUTURES) in wanted  # a bar is stamped with its end
    ]
    return Columns(**{name: [bars[name][row] for row in rows] for name in bars.keys()})  # noqa: SIM118
