"""What a market data connection can tell about itself, and its broker of a topic. Not the connection."""

from enum import IntEnum, StrEnum


class Connection(StrEnum):
    """A change of the connection; nothing that happened between DOWN and UP is ever delivered."""

    DOWN = "down"
    UP = "up"


class Subscription(IntEnum):
    """What the broker said of a topic: `value` of a SUBSCRIPTION event."""

    REFUSED = 0
    CONFIRMED = 1
    DROPPED = 2
