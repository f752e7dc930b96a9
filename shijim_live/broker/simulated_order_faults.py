"""What goes wrong with order events on their way from the simulated broker. Decides nothing: the client draws."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shijim_live.broker.order_events import State
from shijim_live.broker.simulated_reports import Event
from shijim_live.calendar import SECOND_NS

BROKEN_WAYS: Final = 4


class SimulatedPanic(BaseException):
    """Like pyo3's PanicException: raised by reading a value, and no Exception."""


@dataclass(frozen=True, slots=True)
class OrderFaults:
    """What goes wrong, per mille of events (the last two: of requests); nothing by default.

    The first event of a stream always comes as it is: nobody could tell that it was missed.
    """

    repeated: int = 0
    lost: int = 0
    late: int = 0  # up to `late_ns_max` after its turn
    late_ns_max: int = SECOND_NS
    deal_first: int = 0  # order events that the deals overtake
    malformed: int = 0
    foreign: int = 0  # another program's order event on the same account, and in the same stream
    restarts: int = 0  # streams that count anew from here
    pending: int = 0  # new orders answered before the exchange has spoken, `PendingSubmit`: no fault, but common
    unknown: int = 0  # no acknowledgement; half of them are done all the same


class Fate(StrEnum):
    """What became of an event on its way."""

    DELIVERED = "delivered"
    LOST = "lost"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Emitted:
    """One event as it should have come."""

    event_id: str
    state: State
    event: Event
    fate: Fate
    ours: bool


def broken(event: Event, way: int) -> object:
    """An event that cannot be read: it panics, its price is not there, or it or the quantity is no number."""
    if way == 0:
        return _Panics()
    values = event.dict()
    inner = values["order"].dict() if "order" in values else values
    if way == 1:
        del inner["price"]
    else:
        inner["price" if way == 2 else "quantity"] = "many"
    return Event(**(values | {"order": Event(**inner)} if "order" in values else inner))


class _Panics:
    """Every read of it panics."""

    def keys(self) -> list[str]:
        raise SimulatedPanic("called `Result::unwrap()` on an `Err` value")

    def __repr__(self) -> str:
        raise SimulatedPanic("called `Result::unwrap()` on an `Err` value")
