"""Asking again when no answer came: how often, how long apart, and when to give up. Knows no question and no answer.

A broker that sent us away is left alone for at least as long as it said.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from shijim_live.broker.gateway import GatewayError, LoginLater
from shijim_live.calendar import MINUTE_NS, SECOND_NS, wall_clock

TRIES_MAX: Final = 4
PAUSE_NS_FIRST: Final = 2 * SECOND_NS  # before the second try; doubled for each further one
PAUSE_NS_MAX: Final = 30 * SECOND_NS
# A suspension is a minute, too many connections two; who must wait longer than this is told so instead of waiting.
WAIT_NS_MAX: Final = 5 * MINUTE_NS

T = TypeVar("T")


class NotAnswered(GatewayError):
    """No answer came, for a reason that may pass. `wait_ns`: how long the broker wants to be left alone; 0 = no matter.

    What `Patience` raises in the end has been tried again already; its text says when to ask the next time.
    """

    def __init__(self, text: str, wait_ns: int = 0) -> None:
        super().__init__(text)
        self.wait_ns = wait_ns


class QuestionRefused(GatewayError):
    """The broker takes the question for wrong; asking it again changes nothing."""


class Patience:
    """Tries a question a few times. One object a process: its chance spreads the tries of several processes."""

    def __init__(
        self,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], None] = time.sleep,
        chance: random.Random | None = None,
    ) -> None:
        self._now_ns = now_ns
        self._sleep = sleep
        self._chance = chance or random.Random()

    def ask(self, what: str, question: Callable[[], T]) -> T:
        """The answer. NotAnswered when none came; anything else that the question raises is no matter of patience."""
        begun_ns = self._now_ns()
        for tried in range(TRIES_MAX):
            try:
                return question()
            except (NotAnswered, LoginLater) as error:
                wait_ns = max(error.wait_ns, self._pause_ns(tried))
                if tried + 1 == TRIES_MAX or wait_ns > WAIT_NS_MAX:
                    raise self._given_up(what, str(error), tried + 1, begun_ns, wait_ns) from None
            self._sleep((wait_ns + SECOND_NS // 1_000) / SECOND_NS)
        raise AssertionError("the last try returns or raises")

    def _pause_ns(self, tried: int) -> int:
        """Doubled each time, up to half of it on top, so that several processes do not come back at once."""
        pause_ns = min(PAUSE_NS_FIRST << tried, PAUSE_NS_MAX)
        return pause_ns + self._chance.randrange(pause_ns // 2)

    def _given_up(self, what: str, said: str, tries: int, begun_ns: int, wait_ns: int) -> NotAnswered:
        now_ns = self._now_ns()
        often = f"no answer in {tries} tries" if tries > 1 else "no answer in 1 try"
        took = f" and {(now_ns - begun_ns) // SECOND_NS} s" if tries > 1 else ""
        return NotAnswered(
            f"{what}: {often}{took}: {said}. Ask again from {wall_clock(now_ns + wait_ns):%H:%M:%S} Taipei", wait_ns
        )
