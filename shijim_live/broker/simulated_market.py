"""The day of the simulated exchange, and the clock of who practises on it: plays quotes to gateways. No session.

One thread: `wait` plays the market until something happens, so that a day takes seconds and the same seed and the same
calls give the same day.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from shijim_live.broker.gateway import Feed
from shijim_live.broker.shioaji import quote_classes
from shijim_live.broker.simulated import BATCH, KIND_DOWN, SimulatedExchange, pacer
from shijim_live.broker.simulated_index import INDEX_CODE, IndexPush, SimulatedIndex
from shijim_live.calendar import MINUTE_NS

_FUTURES_TICK: Final = 1
_BOOKS: Final = 2  # kinds of a simulated day from here on are books


class Hearer(Protocol):
    """Who is connected."""

    def wants(self, feed: Feed, code: str | None, received_ns: int) -> bool:
        """Whether a quote that is received then reaches it; without a code: one that nobody can read."""

    def hear(self, delivered: object, received_ns: int) -> None: ...

    def hear_index(self, delivered: object, received_ns: int) -> None: ...


class SimulatedMarket:
    """One day, and the time where it is."""

    def __init__(self, exchange: SimulatedExchange) -> None:
        """`exchange` without outages of its own: those are of a connection here."""
        assert exchange.config.outages == 0, "two tell of outages, and only one of them to the session"
        self.exchange = exchange
        self._decode = _decoders()
        self._index = SimulatedIndex(exchange)
        self._now_ns = min(session.trial_ns for session in exchange.sessions) - MINUTE_NS
        self._resume_after_ns: int | None = None
        self._market: Iterator[tuple[int, int, bytes]] | None = None
        self._next: tuple[int, int, bytes] | None = None
        self._due: list[tuple[int, int, Callable[[], None]]] = []  # (when, tie-break, what): what is not of the market
        self._put = 0
        self._hearers: list[Hearer] = []

    def connect(self, hearer: Hearer) -> None:
        """From now on it is asked what it wants to hear."""
        self._hearers.append(hearer)

    def at(self, at_ns: int, happen: Callable[[], None]) -> None:
        """Something beside the market; at equal times in the order of the calls."""
        self._put += 1
        heapq.heappush(self._due, (at_ns, self._put, happen))

    def pass_time(self, ns: int) -> None:
        """Somebody was busy for so long."""
        self._now_ns += ns

    # The clock

    def begin(self, resume_after_ns: int | None) -> None:
        """From the start of the day, or leaves out what was received then or before."""
        self._resume_after_ns = resume_after_ns
        self._now_ns = max(self._now_ns, resume_after_ns or 0)

    def now_ns(self) -> int:
        """The time where the market is."""
        return self._now_ns

    def wait(self, pending: Callable[[], bool], until_ns: int, stop: threading.Event) -> bool:
        """Plays until then, or until something is pending, or `stop`; False when the day is over."""
        if self._market is None:
            self._market = self._deliveries(stop)
            self._next = next(self._market, None)
        while not (stop.is_set() or pending()):
            if self._due and self._due[0][0] <= min(until_ns, self._next[0] if self._next else until_ns):
                at_ns, _, happen = heapq.heappop(self._due)
                self._now_ns = max(self._now_ns, at_ns)
                happen()
            elif self._next is None:
                return False
            elif self._next[0] > until_ns:
                self._now_ns = max(self._now_ns, until_ns)
                return True
            else:
                self._deliver(*self._next)
                self._next = next(self._market, None)
        return True

    def _deliveries(self, stop: threading.Event) -> Iterator[tuple[int, int, bytes]]:
        """(received, kind, payload) in the order of the first."""
        day = self.exchange.deliveries()
        wait = None if self.exchange.speed is None else pacer(self.exchange.speed, stop)
        while batch := day.next_batch(BATCH):
            for kind, _, received_ns, payload in batch:
                if self._resume_after_ns is not None and received_ns <= self._resume_after_ns:
                    if kind == _FUTURES_TICK:
                        self._follow_index(self._decode[kind](payload), received_ns)
                    continue
                if wait is not None:
                    wait(received_ns)
                if kind < KIND_DOWN:
                    yield received_ns, kind, payload

    def _follow_index(self, tick: object, received_ns: int) -> IndexPush | None:
        code = _code_of(tick)
        return self._index.after(tick, code, received_ns) if code else None

    def _deliver(self, received_ns: int, kind: int, payload: bytes) -> None:
        self._now_ns = max(self._now_ns, received_ns)
        quote = self._decode[kind](payload)
        feed = Feed.TICK if kind < _BOOKS else Feed.BOOK
        code = _code_of(quote)
        for hearer in self._hearers:
            if hearer.wants(feed, code, received_ns):
                hearer.hear(quote, received_ns)
        if kind == _FUTURES_TICK and (push := self._follow_index(quote, received_ns)) is not None:
            for hearer in self._hearers:
                if hearer.wants(Feed.QUOTE, INDEX_CODE, received_ns):
                    hearer.hear_index(push, received_ns)


def _code_of(quote: object) -> str | None:
    try:
        code: str = quote.code  # type: ignore[attr-defined]
    except BaseException:  # noqa: BLE001 - what the SDK cannot read panics, and is delivered all the same
        return None
    return code


def _decoders() -> tuple[Callable[[bytes], object], ...]:
    classes = quote_classes()
    return (
        classes.tick_stk.from_msgpack,
        classes.tick_fop.from_msgpack,
        classes.bidask_stk.from_msgpack,
        classes.bidask_fop.from_msgpack,
    )
