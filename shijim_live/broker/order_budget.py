"""How fast orders and account queries may be asked: one count a person, in a file every process shares. Asks nothing.

The broker counts operations of orders and queries of accounts over sliding windows; beyond them it suspends a person
for a minute, and working orders cannot be cancelled meanwhile. So part of the orders is left to those that reduce risk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from shijim_live.broker.shared_account import replace_at_once, shared_account
from shijim_live.calendar import SECOND_NS

# The broker's limits page (tutor/limit).
OPERATIONS_MAX: Final = 250
OPERATION_WINDOW_NS: Final = 10 * SECOND_NS
QUERIES_MAX: Final = 25
QUERY_WINDOW_NS: Final = 5 * SECOND_NS
PLACES_MAX: Final = 200  # of the operations: what is left is for cancels and smaller quantities
BUDGET_VERSION: Final = 1
BUDGET_FILE: Final = "orders.json"  # in Settings.person_dir


@dataclass(slots=True)
class _Asked:
    """When, of the running windows; what the file holds."""

    operations_ns: list[int] = field(default_factory=list)
    queries_ns: list[int] = field(default_factory=list)


class OrderBudget:
    """One person's operations and queries. Charged before asking, so that a crash keeps it."""

    def __init__(
        self,
        path: Path,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path = path
        self._now_ns = now_ns
        self._sleep = sleep
        self.problem = ""  # why nothing can be counted; then no order is new, and every cancel passes

    def try_place(self) -> int:
        """Charges a new order or a new price, and returns 0; or says in how many ns there is room. Never waits.

        An order that waited would be an order of an older market.
        """
        return self._try_operation(PLACES_MAX)

    def reduce(self) -> None:
        """Charges a cancel or a smaller quantity; waits, at most a window, where even these have no room."""
        while wait_ns := self._try_operation(OPERATIONS_MAX):
            self._sleep((wait_ns + SECOND_NS // 1_000) / SECOND_NS)

    def query(self) -> None:
        """Charges a question about an account, and waits until it may be asked."""
        while wait_ns := self._try_query():
            self._sleep((wait_ns + SECOND_NS // 1_000) / SECOND_NS)

    def _try_operation(self, most: int) -> int:
        try:
            with self._account() as asked:
                asked.operations_ns, wait_ns = self._one_more(asked.operations_ns, most, OPERATION_WINDOW_NS)
        except OSError as error:
            self.problem = f"orders cannot be counted: {error}. Make room, or repair {self.path}"
            return 0 if most == OPERATIONS_MAX else OPERATION_WINDOW_NS
        self.problem = ""
        return wait_ns

    def _try_query(self) -> int:
        try:
            with self._account() as asked:
                asked.queries_ns, wait_ns = self._one_more(asked.queries_ns, QUERIES_MAX, QUERY_WINDOW_NS)
        except OSError:
            self._sleep(QUERY_WINDOW_NS // QUERIES_MAX / SECOND_NS)  # alone, no faster than the broker takes
            return 0
        return wait_ns

    def _one_more(self, asked_ns: list[int], most: int, window_ns: int) -> tuple[list[int], int]:
        """The times that count with now among them, and 0; or without it, and how long to wait."""
        now_ns = self._now_ns()
        recent = _recent(asked_ns, now_ns, window_ns)
        if len(recent) >= most:
            return recent, recent[-most] + window_ns - now_ns
        return [*recent, now_ns], 0

    def _account(self) -> AbstractContextManager[_Asked]:
        # The windows are shorter than any restart after a power cut, and an order does not wait for a disk.
        return shared_account(self.path, self._read, _written, replace_at_once)

    def _read(self, text: bytes | None) -> _Asked:
        """A file that cannot be read is taken for a window full of orders: it heals by itself, and cancels pass."""
        if text is None:
            return _Asked()
        try:
            fields = orjson.loads(text)
            if fields.pop("version") != BUDGET_VERSION:
                raise ValueError("another version")
            asked = _Asked(**fields)
            if any(type(ns) is not int or ns < 0 for ns in [*asked.operations_ns, *asked.queries_ns]):
                raise ValueError("a time is none")
        except (ValueError, TypeError, KeyError, AttributeError):
            now_ns = self._now_ns()
            return _Asked([now_ns] * PLACES_MAX, [now_ns] * QUERIES_MAX)
        return asked


def _recent(asked_ns: list[int], now_ns: int, window_ns: int) -> list[int]:
    """What still counts; a clock that went back must not forget what was done before it did."""
    return [min(ns, now_ns) for ns in asked_ns if now_ns - ns < window_ns]


def _written(asked: _Asked) -> bytes:
    fields = {"version": BUDGET_VERSION, "operations_ns": asked.operations_ns, "queries_ns": asked.queries_ns}
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
