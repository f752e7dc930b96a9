"""What the broker knows of the past: the questions, and everything between a question and an answer to rely on.

Not an answer: those come from a history of one source (`shioaji_history.py`, `simulated_history.py`), in the shapes of
`shapes.py`. What asking costs is in `quota.py`, when to ask again in `patience.py`, what is refused in
`answer_checks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Final, Protocol, TypeVar

from shijim_live.broker import answer_checks
from shijim_live.broker.patience import NotAnswered, Patience, QuestionRefused
from shijim_live.broker.quota import Query, Quota, QuotaDamaged, QuotaExhausted, last_reset_day, resets
from shijim_live.broker.shapes import AnswerRefused, Columns, Row, row_count
from shijim_live.calendar import next_trading_day, trading_days

__all__ = [
    "KBARS_DAYS_MAX",
    "SCANNER_COUNT_MAX",
    "SCANNER_TYPES",
    "SNAPSHOT_CODES_MAX",
    "WITHOUT_HISTORY",
    "AnswerRefused",
    "Columns",
    "History",
    "HistoryUnavailable",
    "Metered",
    "NotAnswered",
    "Query",
    "QuestionRefused",
    "Quota",
    "QuotaDamaged",
    "QuotaExhausted",
    "Row",
    "row_count",
]

# What the broker refuses to answer at once (its pages on historical data, snapshots and scanners).
KBARS_DAYS_MAX: Final = 30
SNAPSHOT_CODES_MAX: Final = 500
SCANNER_COUNT_MAX: Final = 200
SCANNER_TYPES: Final = (
    "ChangePercentRank", "ChangePriceRank", "DayRangeRank", "VolumeRank", "AmountRank", "TickCountRank",
)  # fmt: skip
# An answer that cannot be true may be another one the next time; after that it is what the broker has.
ASKED_AGAIN_MAX: Final = 1
# Nobody has a history of these: an import is all that its file holds, and a replay is of another recording.
WITHOUT_HISTORY: Final = ("import:", "replay")
VALUE_BYTES: Final = 9  # of an answer: a 64-bit number and its type, the most MessagePack takes


class HistoryUnavailable(RuntimeError):
    """No history can be asked about what was recorded; says why. `for_good`: nobody ever can, as of an import."""

    def __init__(self, reason: str, *, for_good: bool = False) -> None:
        super().__init__(reason)
        self.for_good = for_good


class History(Protocol):
    """The broker's past of one market. Every answer is the broker's word: `Defect` lists how it has been wrong."""

    @property
    def source(self) -> str:
        """Whose recordings it may fill: "simulated", "shioaji" or "shioaji-simulation"."""

    def require_kept(self, code: str, days: Sequence[date]) -> None:
        """UnknownInstrument, HistoryUnavailable: of this there never is an answer. Asks nobody, and costs nothing."""

    def ticks(self, code: str, day: date) -> Columns:
        """Matches in exchange order: ts close volume bid_price bid_volume ask_price ask_volume tick_type.

        ts: naive Taipei wall clock as ns since 1970. Prices are floats, volumes lots. Futures: the whole trading day,
        the night of the evening before included. No trial matches, no total_volume. Empty where nothing was traded,
        on a closed day, on a day to come – and when the traffic is used up, which `Metered` tells apart.
        """

    def kbars(self, code: str, first: date, last: date) -> Columns:
        """Minutes: ts Open High Low Close Volume Amount; [ts − 1 minute, ts), the last of a session with its close.

        By the **calendar date** of ts, unlike ticks: the night of trading day D is on the evening of the trading day
        before and on the date after that evening. Ask from the previous trading day to D and choose by ts.
        Minutes without a trade are absent. ValueError beyond KBARS_DAYS_MAX days.
        """

    def snapshots(self, codes: Sequence[str]) -> list[Row]:
        """How each code stands now: last price, session's totals, touch. ValueError beyond SNAPSHOT_CODES_MAX."""

    def scanners(self, scanner_type: str, day: date, *, ascending: bool = True, count: int = 100) -> list[Row]:
        """Stocks by rank; `ascending` puts the largest first. ValueError for an unknown type or count."""

    def daily_quotes(self, day: date) -> Columns:
        """Stocks after their close: Date Code Open High Low Close Volume Transaction Amount. Volume is in **shares**.

        A code without a trade stands there with zeros.
        """

    def punish(self) -> Columns:
        """Stocks under disposition now: code start_date end_date updated_at interval unit_limit total_limit …"""

    def notice(self) -> Columns:
        """Stocks under attention now: code updated_at close reason announced_date."""

    def credit_enquires(self, codes: Sequence[str]) -> list[Row]:
        """Margin and short balances now, a row a code and clearing system. ValueError beyond SNAPSHOT_CODES_MAX."""

    def instruments(self, day: date) -> Columns:
        """What can be subscribed that day: Code Name Exchange SecurityType Reference LimitUp LimitDown.

        And what else of `contracts.CONTRACT_FIELDS` the source knows.
        """

    def usage(self) -> Row:
        """The broker's own account of today: connections bytes limit_bytes remaining_bytes."""


def require_kbars_span(code: str, first: date, last: date) -> None:
    """ValueError for no days, or more than KBARS_DAYS_MAX."""
    span = (last - first).days + 1
    if not 1 <= span <= KBARS_DAYS_MAX:
        raise ValueError(f"kbars of {code} from {first} to {last}: {span} days; ask for 1 to {KBARS_DAYS_MAX}")


def kbars_days(code: str, first: date, last: date) -> list[date]:
    """The trading days that have minutes on these dates. ValueError for no dates, or more than KBARS_DAYS_MAX."""
    require_kbars_span(code, first, last)
    return trading_days(first, next_trading_day(last))  # the evening of the last date belongs to the day behind it


T = TypeVar("T", Columns, list[Row])


class Metered:
    """A history under a quota: every question is paid for first, tried again, and its answer judged before it is given.

    When the traffic is used up the broker answers nothing instead of an error, exactly as on a day without a trade.
    QuotaExhausted is raised instead, before asking where our account or the broker's knows, and after an empty answer
    when the broker's account then says that nothing is left. Every question may raise NotAnswered, after the tries of
    `Patience`, and AnswerRefused, after asking once more; each try is paid for.
    """

    def __init__(self, history: History, quota: Quota, patience: Patience | None = None) -> None:
        self._history = history
        self._quota = quota
        self._patience = patience or Patience(now_ns=quota.now_ns, sleep=quota.sleep)
        self._looked_day: date | None = None  # when the broker's own account was last asked for

    @property
    def source(self) -> str:
        return self._history.source

    @property
    def quota(self) -> Quota:
        return self._quota

    def require_kept(self, code: str, days: Sequence[date]) -> None:
        self._history.require_kept(code, days)

    def ticks(self, code: str, day: date) -> Columns:
        self.require_kept(code, [day])
        return self._asked(
            Query.TICKS,
            f"ticks of {code} on {day}",
            lambda: self._history.ticks(code, day),
            lambda answer: answer_checks.check_ticks(answer, code, day),
        )

    def kbars(self, code: str, first: date, last: date) -> Columns:
        self.require_kept(code, kbars_days(code, first, last))
        return self._asked(
            Query.KBARS,
            f"kbars of {code} from {first} to {last}",
            lambda: self._history.kbars(code, first, last),
            lambda answer: answer_checks.check_kbars(answer, code, first, last),
        )

    def daily_quotes(self, day: date) -> Columns:
        return self._asked(
            Query.DAILY_QUOTES,
            f"daily_quotes of {day}",
            lambda: self._history.daily_quotes(day),
            lambda answer: answer_checks.check_daily_quotes(answer, day),
        )

    def snapshots(self, codes: Sequence[str]) -> list[Row]:
        return self._asked(
            Query.SNAPSHOTS,
            f"snapshots of {len(codes):,} codes",
            lambda: self._history.snapshots(codes),
            lambda answer: answer_checks.check_snapshots(answer, codes),
        )

    def scanners(self, scanner_type: str, day: date, *, ascending: bool = True, count: int = 100) -> list[Row]:
        return self._asked(
            Query.SCANNERS,
            f"scanner {scanner_type} of {day}",
            lambda: self._history.scanners(scanner_type, day, ascending=ascending, count=count),
            lambda answer: answer_checks.check_scanners(answer, scanner_type, day, ascending=ascending, count=count),
        )

    def punish(self) -> Columns:
        def check(answer: Columns) -> None:
            answer_checks.check_listing(answer, answer_checks.PUNISH, "punish")

        return self._asked(Query.PUNISH, "punish", self._history.punish, check)

    def notice(self) -> Columns:
        def check(answer: Columns) -> None:
            answer_checks.check_listing(answer, answer_checks.NOTICE, "notice")

        return self._asked(Query.NOTICE, "notice", self._history.notice, check)

    def credit_enquires(self, codes: Sequence[str]) -> list[Row]:
        return self._asked(
            Query.CREDIT_ENQUIRES,
            f"credit_enquires of {len(codes):,} codes",
            lambda: self._history.credit_enquires(codes),
            lambda answer: answer_checks.check_credit(answer, codes),
        )

    def instruments(self, day: date) -> Columns:
        return self._patience.ask(f"instruments of {day}", lambda: self._history.instruments(day))

    def usage(self) -> Row:
        return self._patience.ask("usage", self._usage)

    def _asked(self, query: Query, what: str, ask: Callable[[], T], check: Callable[[T], None]) -> T:
        """The answer that passed its check. AnswerRefused, NotAnswered, QuotaExhausted, and what the source raises."""
        for _ in range(ASKED_AGAIN_MAX + 1):
            answer = self._patience.ask(what, lambda: self._paid_for(query, ask))
            try:
                check(answer)
            except AnswerRefused as refusal:
                refused = AnswerRefused(f"{refusal}. It was asked {ASKED_AGAIN_MAX + 1} times", answer)
            else:
                return answer
        raise refused

    def _paid_for(self, query: Query, ask: Callable[[], T]) -> T:
        """One try: charged, asked, settled."""
        today = last_reset_day(self._quota.now_ns())
        if self._looked_day != today:
            self._look()
            self._looked_day = today
        reserved = self._quota.charge(query)
        try:
            answer = ask()
        except QuotaExhausted as error:
            self._quota.exhaust()
            raise QuotaExhausted(f"{error}. {resets(self._quota.now_ns())}") from None
        except Exception as error:
            self._quota.settle(reserved, 0)  # the question counts, an answer there was none
            if not isinstance(error, QuestionRefused | HistoryUnavailable):
                # How much of one was on its way only the broker knows: its own account is looked at before the next.
                self._looked_day = None
            raise
        values = _values(answer)
        self._quota.settle(reserved, values * VALUE_BYTES)
        if values == 0 and not self._look():
            raise QuotaExhausted(
                f"the answer to {query} is empty and the broker says that today's traffic is used up: that is no proof "
                f"that nothing was traded. {resets(self._quota.now_ns())}"
            )
        return answer

    def _look(self) -> bool:
        """Takes over the broker's own account; False when it says that nothing is left."""
        usage = self._usage()
        self._quota.learn(usage["bytes"])
        if usage["remaining_bytes"] > 0:
            return True
        self._quota.exhaust()
        return False

    def _usage(self) -> Row:
        usage = self._history.usage()
        answer_checks.check_usage(usage)
        return usage


def _values(answer: Columns | list[Row]) -> int:
    """How many values an answer has."""
    return row_count(answer) * len(answer) if isinstance(answer, Columns) else sum(map(len, answer))
