"""What the broker knows of the past: the questions, the shapes of its answers, and the meter between the two.

Not an answer: those come from a history of one source (`simulated_history.py`). What asking costs is in `quota.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final, Protocol

from shijim_live.broker.quota import Query, Quota, QuotaDamaged, QuotaExhausted, last_reset_day, resets

__all__ = [
    "KBARS_DAYS_MAX",
    "SCANNER_COUNT_MAX",
    "SNAPSHOT_CODES_MAX",
    "Columns",
    "History",
    "HistoryUnavailable",
    "Metered",
    "Query",
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
VALUE_BYTES: Final = 9  # of an answer: a 64-bit number and its type, the most MessagePack takes


class HistoryUnavailable(RuntimeError):
    """No history can be asked about what was recorded; says why. `for_good`: nobody ever can, as of an import."""

    def __init__(self, reason: str, *, for_good: bool = False) -> None:
        super().__init__(reason)
        self.for_good = for_good


# The shapes of answers


class _Fields:
    """Named values as the SDK's own answers hold them (`MappingMixin` in its stub, pinned by a test).

    `keys()` is a list, `[name]` and `.name` read, `in`, `len`, `dict(x)` and `{**x}` work. It is neither a dict nor a
    Mapping: no `get`, `items` or `values`, iterating raises TypeError, and nothing can be written.
    """

    __slots__ = ("_fields",)
    _fields: dict[str, Any]

    def __init__(self, **fields: Any) -> None:
        object.__setattr__(self, "_fields", fields)

    def keys(self) -> list[str]:
        return list(self._fields)

    def __getitem__(self, key: str) -> Any:
        if not isinstance(key, str):
            raise TypeError(f"argument 'key': '{type(key).__name__}' object is not an instance of 'str'")
        return _read(self._fields[key])

    def __getattr__(self, name: str) -> Any:
        # Only for what is no attribute of the class; a dunder is never a field (copying and pickling ask for those).
        if name.startswith("_") or name not in self._fields:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return _read(self._fields[name])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"attribute {name!r} of {type(self).__name__!r} objects is not writable")

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def dict(self) -> dict[str, Any]:
        """A fresh dict with fresh lists."""
        return {name: _read(value) for name, value in self._fields.items()}


def _read(value: Any) -> Any:
    """The SDK hands out a new list at every read: changing one changes nothing."""
    return list(value) if isinstance(value, list) else value


class Columns(_Fields):
    """Lists of equal length by name, like the SDK's Ticks, KBars and DailyQuotes. `len()` counts columns, not rows."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = (f"{name}=[{_first(values)}]" for name, values in self._fields.items())
        return f"Columns[{row_count(self)}]({', '.join(shown)})"


class Row(_Fields):
    """Values by name, like the SDK's Snapshot and ScannerItem; its enums stand here as the strings they equal."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Row({', '.join(f'{name}={value!r}' for name, value in self._fields.items())})"


def row_count(columns: Columns) -> int:
    """How many rows columns have; `len()` counts columns."""
    return max((len(columns[name]) for name in columns.keys()), default=0)  # noqa: SIM118 - it cannot be iterated


def _first(values: list[Any]) -> str:
    return ", ".join([*map(repr, values[:3]), "..."][: len(values) if len(values) < 4 else 4])


class History(Protocol):
    """The broker's past of one market. Every answer is the broker's word: `Defect` lists how it has been wrong."""

    @property
    def source(self) -> str:
        """Whose recordings it may fill: "simulated", later "shioaji"."""

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

    def instruments(self, day: date) -> Columns:
        """What can be subscribed that day: Code Name Exchange SecurityType Reference LimitUp LimitDown.

        And what else of `contracts.CONTRACT_FIELDS` the source knows.
        """

    def usage(self) -> Row:
        """The broker's own account of today: connections bytes limit_bytes remaining_bytes."""


class Metered:
    """A history under a quota: every question is paid for first, and an empty answer is believed only after a look.

    When the traffic is used up the broker answers nothing instead of an error, exactly as on a day without a trade.
    QuotaExhausted is raised instead, before asking where our account or the broker's knows, and after an empty answer
    when the broker's account then says that nothing is left.
    """

    def __init__(self, history: History, quota: Quota) -> None:
        self._history = history
        self._quota = quota
        self._looked_day: date | None = None  # when the broker's own account was last asked for

    @property
    def source(self) -> str:
        return self._history.source

    @property
    def quota(self) -> Quota:
        return self._quota

    def ticks(self, code: str, day: date) -> Columns:
        return self._columns(Query.TICKS, lambda: self._history.ticks(code, day))

    def kbars(self, code: str, first: date, last: date) -> Columns:
        return self._columns(Query.KBARS, lambda: self._history.kbars(code, first, last))

    def daily_quotes(self, day: date) -> Columns:
        return self._columns(Query.DAILY_QUOTES, lambda: self._history.daily_quotes(day))

    def snapshots(self, codes: Sequence[str]) -> list[Row]:
        return self._rows(Query.SNAPSHOTS, lambda: self._history.snapshots(codes))

    def scanners(self, scanner_type: str, day: date, *, ascending: bool = True, count: int = 100) -> list[Row]:
        return self._rows(
            Query.SCANNERS, lambda: self._history.scanners(scanner_type, day, ascending=ascending, count=count)
        )

    def instruments(self, day: date) -> Columns:
        return self._history.instruments(day)

    def usage(self) -> Row:
        return self._history.usage()

    def _columns(self, query: Query, ask: Callable[[], Columns]) -> Columns:
        reserved = self._paid(query)
        answer = ask()
        self._settle(query, reserved, row_count(answer) * len(answer))
        return answer

    def _rows(self, query: Query, ask: Callable[[], list[Row]]) -> list[Row]:
        reserved = self._paid(query)
        answer = ask()
        self._settle(query, reserved, sum(len(row) for row in answer))
        return answer

    def _paid(self, query: Query) -> int:
        today = last_reset_day(self._quota.now_ns())
        if self._looked_day != today:
            self._look()
            self._looked_day = today
        return self._quota.charge(query)

    def _settle(self, query: Query, reserved: int, values: int) -> None:
        self._quota.settle(reserved, values * VALUE_BYTES)
        if values == 0 and not self._look():
            raise QuotaExhausted(
                f"the answer to {query} is empty and the broker says that today's traffic is used up: that is no proof "
                f"that nothing was traded. {resets(self._quota.now_ns())}"
            )

    def _look(self) -> bool:
        """Takes over the broker's own account; False when it says that nothing is left."""
        usage = self._history.usage()
        self._quota.learn(usage["bytes"])
        if usage["remaining_bytes"] > 0:
            return True
        self._quota.exhaust()
        return False
