"""The index of a simulated day: the spot that every futures tick carries, pushed by itself while stocks trade.

Made of the SDK's own class, but for the code: the SDK takes it from the topic, which an object made from bytes has not.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from shijim_live.broker.shioaji import quote_classes
from shijim_live.broker.simulated import SimulatedExchange
from shijim_live.calendar import SECOND_NS, Market, wall_clock
from shijim_live.instruments import PRICE_SCALE, instrument

INDEX_CODE: Final = "IX0001"  # TAIEX
PUSH_NS: Final = 5 * SECOND_NS  # the exchange computes it this often


class IndexPush:
    """A `QuoteIdxV1` with the code of its topic."""

    def __init__(self, pushed: Any, code: str) -> None:
        self._pushed = pushed
        self.code = code

    def to_dict(self) -> dict[str, Any]:
        said: dict[str, Any] = self._pushed.to_dict()
        return said | {"code": self.code}


class SimulatedIndex:
    """Follows the ticks of a day in the order in which they are received."""

    def __init__(self, exchange: SimulatedExchange) -> None:
        futures = [
            (code, traded.reference_price_e6)
            for code, traded in zip(exchange.codes, exchange.config.instruments, strict=True)
            if instrument(code).market is Market.FUTURES
        ]
        self._of, reference_e6 = futures[0] if futures else ("", 0)
        self._reference = Decimal(reference_e6) / PRICE_SCALE
        self._hours = [(s.open_ns, s.close_ns) for s in exchange.sessions if s.market is Market.STOCK]
        self._decode = quote_classes().quote_idx.from_msgpack
        self._spots: list[Decimal] = []  # open, high, low, close
        self._next_ns = 0

    def after(self, tick: Any, code: str, received_ns: int) -> IndexPush | None:
        """The push that is due once this futures tick was received."""
        if code != self._of or received_ns < self._next_ns or not self._open(received_ns):
            return None
        spot: Decimal = tick.underlying_price
        self._next_ns = received_ns - received_ns % PUSH_NS + PUSH_NS
        opened, high, low, _ = self._spots or [spot] * 4
        self._spots = [opened, max(high, spot), min(low, spot), spot]
        wall = wall_clock(received_ns)
        named = ("Open", "High", "Low", "Close")
        fields = {
            "Date": f"{wall:%Y/%m/%d}",
            "Time": f"{wall:%H:%M:%S.%f}",
            "Reference": f"{self._reference:f}",
            **{name: f"{value:f}" for name, value in zip(named, self._spots, strict=True)},
        }
        return IndexPush(self._decode(_packed(fields)), INDEX_CODE)

    def _open(self, ns: int) -> bool:
        return any(open_ns <= ns < close_ns for open_ns, close_ns in self._hours)


def _packed(fields: dict[str, str]) -> bytes:
    """A MessagePack map of up to 15 texts of up to 31 bytes each."""
    words = [word.encode() for pair in fields.items() for word in pair]
    assert len(fields) < 16, "more than a short map holds"
    assert all(len(word) < 32 for word in words), "longer than a short text is"
    return bytes([0x80 | len(fields)]) + b"".join(bytes([0xA0 | len(word)]) + word for word in words)
