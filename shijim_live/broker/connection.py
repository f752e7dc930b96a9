"""What a market data connection can tell about itself. Not the connection."""

from enum import StrEnum


class Connection(StrEnum):
    """A change of the connection; nothing that happened between DOWN and UP is ever delivered."""

    DOWN = "down"
    UP = "up"
