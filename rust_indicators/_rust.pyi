from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from typing_extensions import Buffer

BACKEND: str

# L5 recordings and datasets

# Before Python 3.12 the stubs of numpy do not say that an array is a buffer.
_Column = Buffer | NDArray[Any]

EMPTY_PRICE_E6: int
"""Price of a book level that is not there."""

class EventRows:
    """Rows of hftbacktest's event type, 64 bytes each, read-only."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def decode_l5(ev: _Column, exch_ts: _Column, px: _Column, qty: _Column) -> tuple[bytes, bytes]:
    """Rows of an L5 recording (u64, i64, f64, f64) → (books, trades) in words of int64.

    A book is 23 words: place in the file, exchange_ns, source_offset_ns, bid_price_e6[5], bid_volume[5],
    ask_price_e6[5], ask_volume[5]. A trade is 6: place, exchange_ns, source_offset_ns, price_e6, volume, side.
    ValueError names the row that cannot be read.
    """

def build_hft_rows(
    books: tuple[Sequence[_Column], Sequence[Sequence[_Column]]],
    trades: tuple[Sequence[_Column], _Column],
    session_starts: Sequence[_Column],
) -> tuple[EventRows, int]:
    """Books and trades sorted by sequence → (rows, nanoseconds added to the local axis).

    books: ([exchange_ns, local_ns], [bid prices, bid volumes, ask prices, ask volumes] of five columns each), int64;
    trades: ([exchange_ns, local_ns, price_e6, volume] int64, side uint8); session_starts: [exchange_ns, local_ns].
    ValueError names the book or trade that is not sound.
    """
