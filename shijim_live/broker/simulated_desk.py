"""Where the simulated broker counts a person's questions, and sends away who asks too many. Not the answers.

The count is in a file, as every process of a person meets the same broker. What the broker really does between a first
suspension and a ban is not published; this desk is as strict as its pages can be read.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import orjson

from shijim_live.broker.gateway import SUSPENDED_NS, LoginRefused
from shijim_live.broker.patience import NotAnswered
from shijim_live.broker.quota import INTRADAY_CALLS_MAX, Query, any_session_open, last_reset_day
from shijim_live.broker.shared_account import shared_account
from shijim_live.calendar import MINUTE_NS, SECOND_NS

# The broker's limits page, its Chinese edition: 50 questions in 5 s; a minute of suspension, and a ban when repeated.
DESK_QUERIES_MAX: Final = 50
DESK_WINDOW_NS: Final = 5 * SECOND_NS
SUSPENDED_FOR_NS: Final = MINUTE_NS
OFFENCES_MAX: Final = 3  # suspensions, and questions while suspended; one more is a ban


@dataclass(slots=True)
class _Count:
    """What the broker remembers of a person."""

    asked: int = 0  # ever
    asked_ns: list[int] = field(default_factory=list)  # within the window
    day: str = ""  # since whose 08:00 `intraday` counts
    intraday: dict[str, int] = field(default_factory=dict)
    suspended_until_ns: int = 0
    offences: int = 0


class SimulatedDesk:
    """One person's standing with the simulated broker."""

    def __init__(
        self,
        path: Path,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        session_open: Callable[[int], bool] = any_session_open,
        failures_percent: int = 0,
        seed: int = 1,
    ) -> None:
        """`failures_percent`: of questions that get no answer, as over a bad network."""
        self._path = path
        self._now_ns = now_ns
        self._session_open = session_open
        self._failures_percent = failures_percent
        self._seed = seed

    def admit(self, query: Query) -> None:
        """Takes a question. NotAnswered for one that got lost or while suspended; LoginRefused once banned."""
        with self._count() as count:
            refusal = self._judged(count, query)
        if refusal is not None:
            raise refusal

    @property
    def offences(self) -> int:
        """Suspensions, and questions while suspended."""
        with self._count() as count:
            return count.offences

    @property
    def asked(self) -> int:
        """Questions, answered or not."""
        with self._count() as count:
            return count.asked

    def _judged(self, count: _Count, query: Query) -> NotAnswered | LoginRefused | None:
        now_ns = self._now_ns()
        count.asked += 1
        count.asked_ns = [at_ns for at_ns in count.asked_ns if now_ns - at_ns < DESK_WINDOW_NS] + [now_ns]
        today = str(last_reset_day(now_ns))
        if count.day != today:
            count.day, count.intraday = today, {}
        if self._session_open(now_ns):
            count.intraday[query.value] = count.intraday.get(query.value, 0) + 1
        too_many = (
            len(count.asked_ns) > DESK_QUERIES_MAX
            or count.intraday.get(query.value, 0) > INTRADAY_CALLS_MAX.get(query, count.asked)
        )  # fmt: skip
        if too_many or now_ns < count.suspended_until_ns:
            count.offences += 1
            count.suspended_until_ns = now_ns + SUSPENDED_FOR_NS
        if count.offences > OFFENCES_MAX:
            return LoginRefused("the broker has banned this person for asking while suspended: call the broker")
        if now_ns < count.suspended_until_ns:
            return NotAnswered("503: suspended for too many requests", SUSPENDED_NS)
        if random.Random(f"{self._seed} {count.asked}").randrange(100) < self._failures_percent:
            return NotAnswered("timed out")
        return None

    def _count(self) -> AbstractContextManager[_Count]:
        return shared_account(self._path, _read, _written)


def _read(text: bytes | None) -> _Count:
    return _Count(**orjson.loads(text)) if text is not None else _Count()


def _written(count: _Count) -> bytes:
    return orjson.dumps(asdict(count))
