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
BUDGET_FILE: Final = "orders.json"  # in Settings.market_dir


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
        with self._account() as asked:
            now_ns = self._now_ns()
            recent = _recent(asked.operations_ns, now_ns, OPERATION_WINDOW_NS)
            if len(recent) >= most:
                asked.operations_ns = recent
                return recent[-most] + OPERATION_WINDOW_NS - now_ns
            asked.operations_ns = [*recent, now_ns]
            return 0

    def _try_query(self) -> int:
        with self._account() as asked:
            now_ns = self._now_ns()
            recent = _recent(asked.queries_ns, now_ns, QUERY_WINDOW_NS)
            if len(recent) >= QUERIES_MAX:
                asked.queries_ns = recent
                return recent[-QUERIES_MAX] + QUERY_WINDOW_NS - now_ns
            asked.queries_ns = [*recent, now_ns]
            return 0

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
