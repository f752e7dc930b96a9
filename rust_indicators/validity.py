"""What a signal's value is worth, and what stands before an event. Not the values; imports nothing of ours.

`rust_indicators/src/signals.rs` is the twin.
"""

from enum import IntEnum, IntFlag


class Validity(IntEnum):
    """State of a signal after an event. Only a VALID value may be traded on; the others are 0 or NaN."""

    WARMING_UP = 0  # not enough events since the start
    VALID = 1
    TAINTED = 2  # events are missing within its memory; it warms up again
    UNDEFINED = 3  # warm, but this event defines no value: the book is one-sided, say


class Restart(IntEnum):
    """What stands before a row, in the `restart` column of a batch."""

    NONE = 0
    RESET = 1  # session start, trial match → continuous, halt: begin anew
    TAINT = 2  # events are missing: begin anew, and say so until warm again


class BookFlag(IntFlag):
    """What a book lacks, or shows that it should not."""

    NO_BID = 1
    NO_ASK = 2
    LOCKED = 4  # bid and ask stand at one price
    CROSSED = 8  # the bid stands above the ask
