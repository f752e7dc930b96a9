"""Who waits for the answer of an order that was placed without waiting. Asks nobody, and has no thread of its own.

The broker's answer comes on a thread of the SDK's; `OrderEvents.drain`, on the trader's, gives up on what never comes.
Each is answered once, by whichever of the two is first.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from threading import Lock
from typing import Final

from shijim_live.broker.orders import Answer, OutcomeUnknown
from shijim_live.calendar import SECOND_NS

ANSWER_NS_MAX: Final = 30 * SECOND_NS  # as long as the SDK waits where it does; the broker takes 40 to 140 ms
AWAITED_MAX: Final = 1_000  # at once: the broker takes 600 new orders in half a minute; more are not being drained


class AwaitedAnswers:
    """Orders whose answer is to come, and who is to be told."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._numbers = count()
        self._lock = Lock()  # not held while somebody is told
        self._waiting: dict[int, tuple[int, Callable[[Answer], None]]] = {}  # number → until when, who

    def expect(self, answered: Callable[[Answer], None]) -> int | None:
        """The number under which an answer is expected from now on; None where too many are."""
        with self._lock:
            if len(self._waiting) >= AWAITED_MAX:
                return None
            number = next(self._numbers)
            self._waiting[number] = (self._now_ns() + ANSWER_NS_MAX, answered)
        return number

    def answer(self, number: int, answer: Answer) -> None:
        """Hands the answer over, unless there was one."""
        with self._lock:
            found = self._waiting.pop(number, None)
        if found is not None:
            found[1](answer)

    def forget(self, number: int) -> bool:
        """Whether nobody has answered; nobody will."""
        with self._lock:
            return self._waiting.pop(number, None) is not None

    def give_up(self) -> None:
        """Says of every answer that is overdue that nothing is known. What a callback raises, it raises."""
        now_ns = self._now_ns()
        with self._lock:
            overdue = [number for number, (until_ns, _) in self._waiting.items() if until_ns <= now_ns]
        for number in overdue:
            self.answer(number, OutcomeUnknown(f"no answer within {ANSWER_NS_MAX // SECOND_NS} s"))
