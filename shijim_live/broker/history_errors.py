"""What the SDK's errors mean when the past is asked for: again later, used up, or not to be asked. Asks nothing."""

from __future__ import annotations

import re
from typing import Final

from shijim_live.broker.gateway import SUSPENDED_NS, GatewayError
from shijim_live.broker.login import SENT_AWAY, one_line
from shijim_live.broker.patience import NotAnswered, QuestionRefused
from shijim_live.broker.quota import QuotaExhausted
from shijim_live.calendar import MINUTE_NS


class LoginGone(NotAnswered):
    """The login is not taken any more: the next try needs another one."""


# What the text says comes first: a suspension is told by whatever class the SDK happens to use.
_SAYINGS: Final[tuple[tuple[str, int, str], ...]] = (
    *SENT_AWAY,
    (r"maintenance", 5 * MINUTE_NS, "the broker's service is under maintenance"),
    (r"\b503\b", SUSPENDED_NS, "sent away"),
)
# Asked again they would be refused again. Nothing is concluded from it: the question may be at fault, or the SDK.
_REFUSALS: Final = frozenset({
    "MarketDataQueryRejectedError", "MarketDataQueryProtocolError", "ShioajiPermissionError", "BadRequestError",
    "ValidationError", "ShioajiValueError", "ShioajiTypeError", "TypeError", "ValueError", "AttributeError",
})  # fmt: skip


def history_error(error: BaseException, secrets: tuple[str, ...], what: str) -> GatewayError | QuotaExhausted:
    """One line that shows no key. NotAnswered with how long to wait, LoginGone, QuotaExhausted, QuestionRefused."""
    said = one_line(error, secrets)
    names = [cls.__name__ for cls in type(error).__mro__]
    if "MarketDataQueryUsageLimitError" in names:
        return QuotaExhausted(f"{what}: the broker says that today's traffic is used up ({said})")
    for pattern, wait_ns, meaning in _SAYINGS:
        if re.search(pattern, said, re.IGNORECASE):
            return NotAnswered(f"{meaning} ({said})", wait_ns)
    if "AuthError" in names:
        return LoginGone(f"the login is not taken any more ({said})")
    if _REFUSALS.intersection(names) and getattr(error, "retryable", None) is not True:
        return QuestionRefused(f"{what}: the broker refuses the question ({said})")
    return NotAnswered(said)
