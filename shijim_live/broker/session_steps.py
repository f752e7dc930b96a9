"""What can happen to a broker session, and what it can ask for. Decides nothing: `session.py` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from shijim_live.broker.connection import Subscription
from shijim_live.broker.gateway import Topic

# What happens


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing, for a while."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The login that was asked for succeeded."""


@dataclass(frozen=True, slots=True)
class NotNow:
    """The login, or what must follow it, did not succeed; not to be tried again before `wait_ns` have passed."""

    text: str
    wait_ns: int


@dataclass(frozen=True, slots=True)
class Refused:
    """No login will succeed until a person changes something."""

    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """The SDK's event callback."""

    response_code: int
    event_code: int
    info: str
    event: str


@dataclass(frozen=True, slots=True)
class SessionDown:
    """The SDK's session-down callback."""


@dataclass(frozen=True, slots=True)
class NotSubscribed:
    """A topic was refused at once."""

    topic: Topic
    text: str
    full: bool = False


@dataclass(frozen=True, slots=True)
class Want:
    """Another plan: these topics from now on, the most wanted first."""

    topics: tuple[Topic, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody ends the session."""


Input: TypeAlias = TimePassed | LoggedIn | NotNow | Refused | Said | SessionDown | NotSubscribed | Want | Stop

# What is to be done


@dataclass(frozen=True, slots=True)
class Login:
    """Log in; the answer is LoggedIn, NotNow or Refused."""

    force_refresh: bool


@dataclass(frozen=True, slots=True)
class Listen:
    """Set the callbacks."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    topic: Topic


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    topic: Topic


@dataclass(frozen=True, slots=True)
class Logout:
    """Give the connection back."""


@dataclass(frozen=True, slots=True)
class Connected:
    """Write down: the connection is up from now on."""

    text: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """Write down: nothing was delivered since then."""

    text: str
    since_ns: int


@dataclass(frozen=True, slots=True)
class TopicChanged:
    """Write down: what the broker said of a topic."""

    topic: Topic
    said: Subscription
    text: str


@dataclass(frozen=True, slots=True)
class Remark:
    """Write down: what the broker said, or what we wait for."""

    text: str


@dataclass(frozen=True, slots=True)
class End:
    """Over; with a text: because no login will succeed."""

    refused: str | None


Action: TypeAlias = (
    Login | Listen | Subscribe | Unsubscribe | Logout | Connected | Disconnected | TopicChanged | Remark | End
)
