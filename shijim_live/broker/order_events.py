"""The broker's order and deal events as our own records: whole, once, and with what was missed. Not an order's state.

The SDK calls with (state, event) on a thread of its own: `OrderEvents.received` only copies, and never raises there.
`drain`, on the trader's thread, makes records. A record is handed over when it comes, not when its turn comes: a fill
that waited a second and a half for an earlier message would be a position nobody knows of. Its id says its turn.

A fill counts once: deals are the same where trade, exchange sequence, code and side are.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from typing import Any, Final, TypeAlias
from zlib import crc32

import orjson

from shijim_live.broker.awaited_answers import AwaitedAnswers
from shijim_live.broker.event_sequence import EventSequence, Gap, LateEvent, Notice, Place, Restarted
from shijim_live.broker.orders import NO_PRICE_E6, Ids, PriceKind, Side
from shijim_live.broker.plain import exact_e6, plain, seconds_ns, unread_text
from shijim_live.calendar import MINUTE_NS, TAIPEI_OFFSET_NS, wall_clock
from shijim_live.events import ABSENT_I64

__all__ = ["Deal", "Gap", "LateEvent", "OrderEvents", "OrderReport", "Quarantined", "Record", "Restarted"]

INBOX_EVENTS_MAX: Final = 100_000  # the broker takes 25 orders a second: more than an hour of events nobody drained
# Ids and deals that are remembered, to know them again: a day of the most orders the broker takes.
REMEMBERED_MAX: Final = 500_000
UNREAD: Final = -1  # in place of a digest: an event that could not be read, and may come again whole
NAMELESS: Final = -2  # in place of a digest: a report handed over without an id, which may still come with one
CLOCK_AHEAD_NS_MAX: Final = MINUTE_NS  # of the exchange before ours; an event cannot be later than its arrival


class State(StrEnum):
    """What the broker sends; the words are its own."""

    STOCK_ORDER = "SORDER"
    STOCK_DEAL = "SDEAL"
    FUTURES_ORDER = "FORDER"
    FUTURES_DEAL = "FDEAL"


ORDER_STATES: Final = frozenset({State.STOCK_ORDER, State.FUTURES_ORDER})


class Operation(StrEnum):
    """What was done, or refused, to an order."""

    NEW = "New"
    CANCEL = "Cancel"
    UPDATE_PRICE = "UpdatePrice"
    UPDATE_QUANTITY = "UpdateQty"
    REJECT = "Reject"


class Stamp(StrEnum):
    """How an event's time was read."""

    EPOCH = "epoch"  # seconds since the epoch, as it should be
    WALL = "wall"  # inferred: Taipei's wall clock as if it were UTC, 8 h taken off
    ABSENT = "absent"  # 0: not said


SUCCESS: Final = "00"


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What became of one request about one order; prices × 1,000,000, quantities in the order's own unit."""

    state: State
    event_id: str  # "" where the broker gave none
    received_ns: int
    exchange_ns: int
    stamp: Stamp
    operation: Operation
    op_code: str  # "00": it was done
    op_msg: str
    ids: Ids
    account_id: str
    code: str  # of a future the dated contract
    side: Side
    price_e6: int  # NO_PRICE_E6 of a market order
    quantity: int  # as placed
    price_kind: str
    time_in_force: str
    lot: str  # "" of futures, as `condition`
    condition: str
    open_close: str  # "" of stocks
    custom_field: str  # "" of futures, whatever the order had
    modified_price_e6: int  # NO_PRICE_E6 where the price was not changed
    cancelled: int  # taken back by this
    raw: str = field(repr=False)  # everything the event said, as JSON; names the person

    @property
    def done(self) -> bool:
        return self.op_code == SUCCESS and self.operation is not Operation.REJECT


@dataclass(frozen=True, slots=True)
class Deal:
    """One match of one order."""

    state: State
    event_id: str
    received_ns: int
    exchange_ns: int
    stamp: Stamp
    trade_id: str  # the order's `ids.id`
    seqno: str
    ordno: str
    exchange_seq: str
    account_id: str
    code: str
    side: Side
    price_e6: int
    quantity: int  # lots or contracts; shares where `lot` is odd
    lot: str
    condition: str
    custom_field: str
    combo: bool
    raw: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An event that could not be read, or events that were dropped: fills, maybe. Ask for standing orders."""

    event_id: str  # "" where not even that could be read; the number is then missing, too
    received_ns: int
    reason: str
    text: str = field(repr=False)


Record: TypeAlias = OrderReport | Deal | Quarantined | Notice


@dataclass(slots=True)
class Counts:
    """Since the connection was made."""

    received: int = 0
    reports: int = 0
    deals: int = 0
    repeated: int = 0  # an event again
    deals_repeated: int = 0  # a deal again, under another id or none
    untracked: int = 0  # without an id that can be followed
    quarantined: int = 0
    overrun: int = 0  # dropped because nobody drained


@dataclass(frozen=True, slots=True)
class _Unread:
    """An object that could not be copied."""

    reason: str
    text: str


class OrderEvents:
    """Everything between the SDK's order callback and the trader."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.counts = Counts()
        self.sequence = EventSequence()
        self.awaited = AwaitedAnswers(now_ns)  # here, as it outlives a login, and the trader's thread comes by
        self._now_ns = now_ns
        self._inbox: deque[tuple[object, int]] = deque()
        self._digests: OrderedDict[object, int] = OrderedDict()  # event id or deal → CRC of what it said
        self._overrun_lock = Lock()  # the SDK's thread and one that recalls may drop at once
        self._overrun_told = 0
        self._read_as: dict[State, Stamp] = {}  # how a stream's stamps were read last

    def received(self, state: object, event: object) -> None:
        """The SDK's callback: any thread, never raises, keeps nothing of the SDK's."""
        received_ns = self._now_ns()
        copied: object
        try:
            copied = {"state": plain(state), "event": plain(event)}
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - reading may panic, and a panic is no Exception
            copied = _Unread(f"{type(error).__name__}: {error}", unread_text(event))
        if len(self._inbox) >= INBOX_EVENTS_MAX:
            with self._overrun_lock:
                self.counts.overrun += 1
            return
        self._inbox.append((copied, received_ns))

    def drain(self) -> list[Record]:
        """What has come since the last time, in the order it came, and what is known to be missing by now.

        Before that it tells who placed an order without waiting, and has no answer in time, that nothing is known.
        """
        self.awaited.give_up()  # first: a callback that raises must not cost what was taken out of the inbox
        found: list[Record] = []
        for _ in range(len(self._inbox)):
            copied, received_ns = self._inbox.popleft()
            self.counts.received += 1
            record = self._record(copied, received_ns)
            if record is not None:
                found.append(record)
        now_ns = self._now_ns()
        if dropped := self.counts.overrun - self._overrun_told:
            self._overrun_told += dropped
            reason = f"{dropped} events dropped: {INBOX_EVENTS_MAX} waited already. Drain more often; ask for orders"
            found.append(Quarantined("", now_ns, reason, ""))
        return found + self.sequence.overdue(now_ns)

    def _record(self, copied: object, received_ns: int) -> OrderReport | Deal | Quarantined | None:
        """None for what is known already."""
        if isinstance(copied, _Unread):
            return self._quarantined("", received_ns, copied.reason, copied.text)
        assert isinstance(copied, dict)
        state, event = copied["state"], copied["event"]
        event_id = _said(event, "event_id")
        place = self.sequence.take(event_id, received_ns)
        self.counts.untracked += place is Place.UNTRACKED
        try:
            kind = State(str(state))
            doubtful = self._read_as.get(kind, Stamp.EPOCH)
            record = read_event(kind, event, orjson.dumps(event).decode(), received_ns, doubtful)
        except (ValueError, KeyError, TypeError) as error:
            if place is Place.REPEATED:
                self.counts.repeated += 1
                return None
            self._remember(event_id, UNREAD)
            return self._quarantined(event_id, received_ns, f"{type(error).__name__}: {error}", unread_text(event))
        if record.stamp is not Stamp.ABSENT:
            self._read_as[kind] = record.stamp
        return self._once(record, place)

    def _once(self, record: OrderReport | Deal, place: Place) -> OrderReport | Deal | Quarantined | None:
        """The record, unless it has been handed over; quarantined where it says otherwise than before."""
        same: object
        if isinstance(record, Deal):
            # By the deal itself, whatever its event is called: the same fill may come under another id, or none.
            same = (record.trade_id, record.exchange_seq, record.code, record.side)
            digest = crc32(repr((record.price_e6, record.quantity)).encode())
        else:
            # The same without its id, as the broker's own record of the day may have it.
            said = record.raw.replace(f'"event_id":"{record.event_id}"', '"event_id":""', 1)
            same, digest = said, NAMELESS
            if record.event_id:
                same, digest = record.event_id, crc32(record.raw.encode())
                nameless = self._digests.get(said) == NAMELESS
                self._remember(said, 0)
                if nameless and self._digests.get(same, UNREAD) == UNREAD:
                    # Handed over as it came, recalled without its id: this is it, and the next one alike is another.
                    self._remember(same, digest)
                    self.counts.repeated += 1
                    return None
        before = self._digests.get(same)
        if before is None and isinstance(record, OrderReport) and place is Place.REPEATED:
            before = digest  # forgotten since, but its number is not
        if before is None or before == UNREAD:
            self._remember(same, digest)
            self.counts.deals += isinstance(record, Deal)
            self.counts.reports += isinstance(record, OrderReport)
            return record
        if before != digest and digest != NAMELESS:
            reason = f"{same}: said before with other figures"
            return self._quarantined(record.event_id, record.received_ns, reason, record.raw)
        if isinstance(record, Deal) and place is not Place.REPEATED:
            self.counts.deals_repeated += 1
        else:
            self.counts.repeated += 1
        return None

    def _remember(self, same: object, digest: int) -> None:
        self._digests[same] = digest
        while len(self._digests) > REMEMBERED_MAX:
            self._digests.popitem(last=False)

    def _quarantined(self, event_id: str, received_ns: int, reason: str, text: str) -> Quarantined:
        self.counts.quarantined += 1
        return Quarantined(event_id, received_ns, reason, text)


# One event


def read_event(
    state: State, event: Mapping[str, Any], raw: str, received_ns: int, doubtful: Stamp
) -> OrderReport | Deal:
    """A record of an event that was copied. ValueError, KeyError, TypeError: what is wrong with it."""
    read = _report if state in ORDER_STATES else _deal
    return read(state, event, raw, received_ns, doubtful)


def _report(state: State, event: Mapping[str, Any], raw: str, received_ns: int, doubtful: Stamp) -> OrderReport:
    operation, order, status, contract = event["operation"], event["order"], event["status"], event["contract"]
    exchange_ns, stamp = event_time(status["exchange_ts"], state, _said(order, "market_type"), received_ns, doubtful)
    price_e6 = exact_e6(order["price"])
    if order["price_type"] != PriceKind.LIMIT and price_e6 == 0:
        price_e6 = NO_PRICE_E6
    return OrderReport(
        state=state,
        event_id=_said(event, "event_id"),
        received_ns=received_ns,
        exchange_ns=exchange_ns,
        stamp=stamp,
        operation=Operation(operation["op_type"]),
        op_code=_text(operation, "op_code"),
        op_msg=_said(operation, "op_msg"),
        ids=Ids(_text(order, "id"), _text(order, "seqno"), _text(order, "ordno")),
        account_id=_said(order["account"], "account_id"),
        code=_text(contract, "code" if state is State.STOCK_ORDER else "full_code"),
        side=Side(order["action"]),
        price_e6=price_e6,
        quantity=_count(order, "quantity"),
        price_kind=_text(order, "price_type"),
        time_in_force=_said(order, "time_in_force") or _text(order, "order_type"),
        lot=_said(order, "order_lot"),
        condition=_said(order, "order_cond"),
        open_close=_said(order, "oc_type"),
        custom_field=_said(order, "custom_field"),
        modified_price_e6=exact_e6(status["modified_price"]) or NO_PRICE_E6,
        cancelled=_count(status, "cancel_quantity"),
        raw=raw,
    )


def _deal(state: State, event: Mapping[str, Any], raw: str, received_ns: int, doubtful: Stamp) -> Deal:
    exchange_ns, stamp = event_time(event["ts"], state, _said(event, "market_type"), received_ns, doubtful)
    price_e6, quantity = exact_e6(event["price"]), _count(event, "quantity")
    if price_e6 <= 0 or quantity == 0:
        raise ValueError(f"a deal of {event['quantity']} at {event['price']}")
    trade_id, exchange_seq = _text(event, "trade_id"), _text(event, "exchange_seq")
    if not trade_id or not exchange_seq:
        raise ValueError("a deal that names no trade, or no sequence of the exchange")
    return Deal(
        state=state,
        event_id=_said(event, "event_id"),
        received_ns=received_ns,
        exchange_ns=exchange_ns,
        stamp=stamp,
        trade_id=trade_id,
        seqno=_text(event, "seqno"),
        ordno=_text(event, "ordno"),
        exchange_seq=exchange_seq,
        account_id=_said(event, "account_id"),
        code=_text(event, "code" if state is State.STOCK_DEAL else "full_code"),
        side=Side(event["action"]),
        price_e6=price_e6,
        quantity=quantity,
        lot=_said(event, "order_lot"),
        condition=_said(event, "order_cond"),
        custom_field=_said(event, "custom_field"),
        combo=event.get("combo") is True,
        raw=raw,
    )


def event_time(
    seconds: object, state: State, market: str, received_ns: int, doubtful: Stamp = Stamp.EPOCH
) -> tuple[int, Stamp]:
    """When an event happened. Stocks say seconds since the epoch; what futures say is not confirmed.

    A stamp of a future is read – as an epoch, or as the wall clock: known samples of the night fit nothing else – so
    that it lies in the session that the event names. Where both readings do, it is the wall clock if the epoch would be
    later than its own arrival; else `doubtful`, as its stream was read before: at night, what is recalled hours later
    does not tell.
    """
    stamp_ns = seconds_ns(seconds)
    if stamp_ns == 0:
        return ABSENT_I64, Stamp.ABSENT
    if state not in (State.FUTURES_ORDER, State.FUTURES_DEAL):
        return stamp_ns, Stamp.EPOCH
    wall_ns = stamp_ns - TAIPEI_OFFSET_NS
    as_epoch, as_wall = (market == "" or _of_market(ns, market) for ns in (stamp_ns, wall_ns))
    if as_epoch != as_wall:
        reading = Stamp.WALL if as_wall else Stamp.EPOCH
    else:
        reading = Stamp.WALL if stamp_ns > received_ns + CLOCK_AHEAD_NS_MAX else doubtful
    return (wall_ns if reading is Stamp.WALL else stamp_ns), reading


def _of_market(ns: int, market: str) -> bool:
    """Whether orders are taken at that time of day: `Day` from 08:30 to 13:45, `Night` from 14:50 to 05:00."""
    wall = wall_clock(ns)
    minute = wall.hour * 60 + wall.minute
    if market == "Day":
        return 8 * 60 + 30 <= minute <= 13 * 60 + 45
    return minute >= 14 * 60 + 50 or minute <= 5 * 60


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if type(value) is not str:
        raise ValueError(f"{name} is {value!r}, not a text")
    return value


def _said(fields: Any, name: str) -> str:
    """A text that may be left out."""
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if type(value) is str else ""


def _count(fields: Mapping[str, Any], name: str) -> int:
    value = fields[name]
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {value!r}, not a number of lots, contracts or shares")
    return value
