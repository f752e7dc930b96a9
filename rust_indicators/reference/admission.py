"""Which events of an instrument a signal may see, and where its memory ends. Sizes no gap: the audit does.

The rules stand in `rust_indicators/src/signals/admission.rs`; this is the same once more, for the fallback.
"""

from __future__ import annotations

from enum import IntEnum

from rust_indicators.reference.records import (
    ABSENT_I64,
    ABSENT_U32,
    BOARD,
    BOOK,
    ODD,
    SUSPECT,
    SUSPEND,
    TRADE,
    RecordView,
)

SECOND_NS = 1_000_000_000
STALE_NS_MAX = 60 * SECOND_NS  # a stamp this far back is no late delivery: the one before was wrong
_DAY_NS = 86_400 * SECOND_NS
_TAIPEI_NS = 8 * 3600 * SECOND_NS
_DAY_FROM_NS = (8 * 60 + 30) * 60 * SECOND_NS  # futures: trial matching before the day session
_NIGHT_FROM_NS = (14 * 60 + 50) * 60 * SECOND_NS  # and before the night session


class Admitted(IntEnum):
    """What to do with an event."""

    NO = 0  # no signal sees it
    FEED = 1
    RESET = 2  # the state begins anew, then feed
    TAINT = 3  # events are missing: the state begins anew and says so, then feed


class Admission:
    """What is remembered of one instrument."""

    def __init__(self, futures: bool) -> None:
        self._futures = futures
        self._session_ns = (0, 0)
        self._interrupted = False
        self.forget()

    def forget(self) -> None:
        """Events are missing that nobody saw: what follows is judged as the first."""
        self._newest_ns = {BOOK: -(2**63), TRADE: -(2**63)}
        self._last_book: tuple[bytes, ...] | None = None
        self._last_total: int | None = None

    def admit(self, event: RecordView) -> Admitted:
        """What to do with a trade or book; any other kind is not fed."""
        if event.kind not in (TRADE, BOOK) or event.lane == ODD:
            return Admitted.NO
        if event.exchange_ns == ABSENT_I64 or event.flags & SUSPECT:
            return Admitted.NO
        if event.lane != BOARD or event.flags & SUSPEND:
            self._interrupted = True
            return Admitted.NO
        began = self._enter_session(event.exchange_ns)
        resumed, self._interrupted = self._interrupted, False
        if began:
            self.forget()
        fed = self._admit_book(event) if event.kind == BOOK else self._admit_trade(event)
        if fed is Admitted.NO:
            self._interrupted |= resumed
        return Admitted.RESET if fed is Admitted.FEED and (began or resumed) else fed

    def _enter_session(self, exchange_ns: int) -> bool:
        """True when the stamp lies in another session than the one before."""
        if self._session_ns[0] <= exchange_ns < self._session_ns[1]:
            return False
        clock_ns = (exchange_ns + _TAIPEI_NS) % _DAY_NS
        midnight = exchange_ns - clock_ns
        if not self._futures:
            self._session_ns = (midnight, midnight + _DAY_NS)
        elif clock_ns < _DAY_FROM_NS:
            self._session_ns = (midnight - _DAY_NS + _NIGHT_FROM_NS, midnight + _DAY_FROM_NS)
        elif clock_ns < _NIGHT_FROM_NS:
            self._session_ns = (midnight + _DAY_FROM_NS, midnight + _NIGHT_FROM_NS)
        else:
            self._session_ns = (midnight + _NIGHT_FROM_NS, midnight + _DAY_NS + _DAY_FROM_NS)
        return True

    def _admit_book(self, event: RecordView) -> Admitted:
        newest = self._newest_ns[BOOK]
        late = event.exchange_ns < newest
        if late and newest - event.exchange_ns < STALE_NS_MAX:
            return Admitted.NO
        if event.exchange_ns == newest and event.levels == self._last_book:
            return Admitted.NO
        self._newest_ns[BOOK], self._last_book = event.exchange_ns, event.levels
        return Admitted.TAINT if late else Admitted.FEED

    def _admit_trade(self, event: RecordView) -> Admitted:
        newest, last = self._newest_ns[TRADE], self._last_total
        total = None if event.total_volume == ABSENT_U32 else event.total_volume
        if event.volume == ABSENT_U32 or event.price_e6 == ABSENT_I64:
            return Admitted.NO
        if event.exchange_ns < newest:
            if newest - event.exchange_ns < STALE_NS_MAX:
                return Admitted.NO
            self._newest_ns[TRADE], self._last_total = event.exchange_ns, total
            return Admitted.TAINT
        if last is None or total is None:
            self._newest_ns[TRADE] = event.exchange_ns
            self._last_total = last if total is None else total
            return Admitted.FEED
        if total <= last and event.exchange_ns == newest:
            return Admitted.NO
        self._newest_ns[TRADE], self._last_total = event.exchange_ns, total
        return Admitted.FEED if total - event.volume == last else Admitted.TAINT
