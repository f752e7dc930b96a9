"""The fields of a 256-byte record that signals look at. Not the codec: `shijim_live/events.py` and `record.rs` are.

A test pins the numbers and places here to theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECORD_BYTES = 256
TRADE, BOOK, START, OUTAGE = 1, 2, 16, 18
BOARD, ODD = 1, 2
SUSPEND, SUSPECT = 1, 1 << 7
ABSENT_I64, ABSENT_U32 = -(2**63), 2**32 - 1
FUTURES_EXCHANGES, FUTURES_CLASSES = (4, 5), (2, 4)

# (field, type, offset) as `record_layout` gives them; trades and books share the bytes of the body.
FIELDS: tuple[tuple[str, str, int], ...] = (
    ("kind", "u1", 0),
    ("broker_class", "u1", 1),
    ("lane", "u1", 2),
    ("exchange", "u1", 3),
    ("flags", "<u4", 4),
    ("exchange_ns", "<i8", 16),
    ("code", "S16", 32),
    ("side", "u1", 50),
    ("price_e6", "<i8", 56),
    ("volume", "<u4", 64),
    ("total_volume", "<u4", 68),
    ("bid_price_e6", "(5,)<i8", 56),
    ("ask_price_e6", "(5,)<i8", 96),
    ("bid_volume", "(5,)<u4", 136),
    ("ask_volume", "(5,)<u4", 156),
)
DTYPE = np.dtype(
    {
        "names": [name for name, _, _ in FIELDS],
        "formats": [kind for _, kind, _ in FIELDS],
        "offsets": [offset for _, _, offset in FIELDS],
        "itemsize": RECORD_BYTES,
    }
)


class RecordView:
    """One record as plain Python values."""

    __slots__ = ("_row", "code", "exchange_ns", "flags", "kind", "lane", "price_e6", "side", "total_volume", "volume")

    def __init__(self, row: Any) -> None:
        self._row = row
        self.kind, self.lane, self.flags = int(row["kind"]), int(row["lane"]), int(row["flags"])
        self.exchange_ns, self.code = int(row["exchange_ns"]), bytes(row["code"])
        self.side, self.price_e6 = int(row["side"]), int(row["price_e6"])
        self.volume, self.total_volume = int(row["volume"]), int(row["total_volume"])

    @property
    def futures(self) -> bool:
        """Contracts of the futures exchange have a day and a night session."""
        return int(self._row["exchange"]) in FUTURES_EXCHANGES or int(self._row["broker_class"]) in FUTURES_CLASSES

    @property
    def levels(self) -> tuple[bytes, ...]:
        """The five levels of both sides, to tell whether two books are equal."""
        return tuple(self._row[name].tobytes() for name in ("bid_price_e6", "ask_price_e6", "bid_volume", "ask_volume"))

    def side_of_book(self, side: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(prices × 10⁶, volumes) of `bid` or `ask`, best first."""
        return self._row[f"{side}_price_e6"].astype(np.int64), self._row[f"{side}_volume"].astype(np.int64)


def views(records: Any) -> Iterator[RecordView]:
    """Each whole record of a buffer. ValueError: not a multiple of 256 bytes."""
    given = memoryview(records).cast("B")
    if len(given) % RECORD_BYTES:
        raise ValueError(f"records: {len(given)} bytes are no whole records of {RECORD_BYTES}")
    for row in np.frombuffer(given, DTYPE):
        yield RecordView(row)
