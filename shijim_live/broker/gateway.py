"""One connection to a broker as this program sees it: topics, what can be asked, what can go wrong. Not a connection.

`shioaji.py` is the real one, `simulated_gateway.py` the one to practise on; `session.py` decides when each is called.

GatewayError             what the broker refused; says what to do
├── LoginRefused         keys, certificate, address: wrong until a person changes something
├── LoginLater           too many logins or connections, suspended, no route: worth another try, not before `wait_ns`
└── TopicRefused         one subscription; `full` when the connection has as many as it may
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, Protocol

# What a gateway asks to wait for, at least, before another login. The broker suspends for a minute, and bans who asks
# again meanwhile; a connection of a process that died is still counted for a while.
SUSPENDED_NS: Final = 90 * 1_000_000_000
TOO_MANY_CONNECTIONS_NS: Final = 120 * 1_000_000_000
NO_ROUTE_NS: Final = 5 * 1_000_000_000


class Feed(StrEnum):
    """What is pushed of a code; each counts as a topic of its own against the broker's cap."""

    TICK = "tick"
    BOOK = "bid_ask"
    QUOTE = "quote"  # an index: the only stream it has


@dataclass(frozen=True, slots=True, order=True)
class Topic:
    """One subscription."""

    code: str  # as the broker delivers it: the dated contract, not the continuous one
    feed: Feed
    odd_lot: bool = False  # intraday odd lots; a stream beside the board lots

    def __str__(self) -> str:
        return f"{self.code}/{self.feed}" + ("/odd" if self.odd_lot else "")


_NAMED = re.compile(
    r"\b(?P<push>TIC|QUO)/v\d+/(?P<market>STK|FOP|ODD|IND)/[^/\s]*/[^/\s]*/(?P<code>[0-9A-Z]+)", re.ASCII
)


def topic_named(text: str) -> Topic | None:
    """The topic that a text of the broker names, like `TIC/v1/STK/*/TSE/2330`; None where it names none."""
    named = _NAMED.search(text)
    if named is None:
        return None
    push = Feed.TICK if named["push"] == "TIC" else Feed.QUOTE if named["market"] == "IND" else Feed.BOOK
    return Topic(named["code"], push, odd_lot=named["market"] == "ODD")


class SessionEvent(IntEnum):
    """The broker's event codes: those of Solace's C session, whose library the SDK embeds."""

    UP = 0
    DOWN = 1
    CONNECT_FAILED = 2
    PUBLISH_REJECTED = 3
    SUBSCRIPTION_REJECTED = 4
    MESSAGE_TOO_BIG = 5
    ACKNOWLEDGED = 6
    ASSURED_PUBLISHING_UP = 7
    ASSURED_CONNECT_FAILED = 8
    UNSUBSCRIBE_TE_FAILED = 9
    UNSUBSCRIBE_TE_OK = 10
    CAN_SEND = 11
    RECONNECTING = 12
    RECONNECTED = 13
    PROVISION_FAILED = 14
    PROVISION_OK = 15
    SUBSCRIBE_OK = 16  # or unsubscribe
    ROUTER_NAME_CHANGED = 17
    MODIFY_OK = 18
    MODIFY_FAILED = 19
    REPUBLISH_UNACKED = 20


class GatewayError(RuntimeError):
    """The broker refused; the text says what, and what to do."""


class LoginRefused(GatewayError):
    """No login will succeed until a person changes something."""


class LoginLater(GatewayError):
    """No login now."""

    def __init__(self, text: str, wait_ns: int) -> None:
        super().__init__(text)
        self.wait_ns = wait_ns


class TopicRefused(GatewayError):
    """The broker does not push this topic; `full`: it would push no other one either on this connection."""

    def __init__(self, text: str, *, full: bool = False) -> None:
        super().__init__(text)
        self.full = full


class Listener(Protocol):
    """What a gateway calls, on threads of its own. None of these may block or raise."""

    def quote(self, delivered: object, received_ns: int) -> None:
        """One of the broker's quote objects."""

    def index(self, delivered: object, received_ns: int) -> None:
        """The broker's index object, a map and no quote like the others."""

    def event(self, response_code: int, event_code: int, info: str, event: str) -> None:
        """What the SDK's event callback is given; `event_code` may be one that `SessionEvent` does not know."""

    def session_down(self) -> None:
        """The connection is lost; comes beside event DOWN."""


class Gateway(Protocol):
    """One connection. Every call blocks until the broker answered; a lost connection is told to the listener."""

    def login(self, *, force_refresh: bool) -> None:
        """Logs in; `force_refresh` for a token of its own that lives a whole day. LoginRefused, LoginLater."""

    def listen(self, listener: Listener) -> None:
        """Sets every callback. Only after login: the SDK refuses it before."""

    def subscribe(self, topic: Topic) -> None:
        """Asks for a topic; it is confirmed, or refused after all, by an event. TopicRefused, GatewayError."""

    def unsubscribe(self, topic: Topic) -> None:
        """Gives a topic back. GatewayError."""

    def logout(self) -> None:
        """Ends the connection and gives it back to the broker; never raises on one that is gone."""
