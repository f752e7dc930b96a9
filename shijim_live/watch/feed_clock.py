"""How far our clock is from the exchange's, as a live feed shows it, and when it was set. Corrects nothing.

Nothing measures the offset itself. But no quote is received before it is sent: the quickest of a second, once a minute,
is the offset and the shortest way together; a negative one is a clock that is behind.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rust_indicators import Publisher, RingReader
from shijim_live.calendar import SECOND_NS
from shijim_live.events import ABSENT_I64, HEADER_LAYOUT, RECORD_BYTES, Kind, offsets

EVERY_NS: Final = 60 * SECOND_NS
SAMPLED_NS: Final = SECOND_NS
QUOTES_MIN: Final = 5  # fewer say more of a slow minute than of a clock
BATCH_RECORDS: Final = 8_192
# A clock that is kept by NTP is slewed by half a millisecond a second at most: what jumps further was set.
STEP_NS_MIN: Final = SECOND_NS // 50
_AT: Final = offsets(HEADER_LAYOUT)
_STAMPS: Final = struct.Struct(  # kind, exchange_ns, received_ns of a record
    f"<B{_AT['exchange_ns'][0] - 1}xqq{RECORD_BYTES - sum(_AT['received_ns'])}x"
)


class FeedClock:
    """Looked at now and then by one thread."""

    def __init__(
        self,
        publisher: Publisher,
        ring: Path,
        now_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._publisher, self._ring = publisher, ring
        self._now_ns, self._monotonic_ns = now_ns, monotonic_ns
        self._apart_ns = now_ns() - monotonic_ns()
        self._next_ns = monotonic_ns()  # on the clock that nobody sets
        self._reader: RingReader | None = None

    def look(self) -> None:
        """Writes down what there is to say. RuntimeError where the log has ended."""
        self._notice_step()
        moment_ns = self._monotonic_ns()
        if moment_ns < self._next_ns:
            return
        if self._reader is None:
            self._reader = RingReader(self._ring, cursor=self._publisher.accepted + 1)
            self._next_ns = moment_ns + SAMPLED_NS
            return
        delays_ns = _delays_ns(self._reader)
        self._reader, self._next_ns = None, moment_ns + EVERY_NS
        if len(delays_ns) < QUOTES_MIN:
            return
        quickest_ns = min(delays_ns)
        text = f"the quickest of {len(delays_ns)} quotes was received {quickest_ns / 1e6:.3f} ms after its stamp"
        self._publisher.publish_status(Kind.CLOCK_OFFSET, self._now_ns(), value=quickest_ns, text=text)

    def _notice_step(self) -> None:
        now_ns = self._now_ns()
        apart_ns = now_ns - self._monotonic_ns()
        step_ns, self._apart_ns = apart_ns - self._apart_ns, apart_ns
        if abs(step_ns) < STEP_NS_MIN:
            return
        self._publisher.publish_status(
            Kind.CLOCK_OFFSET,
            now_ns,
            begin_ns=now_ns - step_ns,
            end_ns=now_ns,
            value=step_ns,
            text=f"our clock was set by {step_ns / 1e6:+.3f} ms",
        )


def _delays_ns(reader: RingReader) -> list[int]:
    """Received less stamped, of every trade and book that waits in the ring."""
    found = []
    while records := reader.poll(BATCH_RECORDS)[0]:
        for kind, exchange_ns, received_ns in _STAMPS.iter_unpack(records):
            if kind in (Kind.TRADE, Kind.BOOK) and exchange_ns != ABSENT_I64:
                found.append(received_ns - exchange_ns)
    return found
