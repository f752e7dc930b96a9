"""TXFD6 of 2026-04-09 for tests: through the decoder as tables, and once more, independently, as a plain book."""

import functools
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from rust_indicators import EMPTY_PRICE_E6, decode_l5
from shijim_pipelines.hft_dataset import Contract

SOURCE = Path(__file__).resolve().parents[1] / "../shared/data/txf_l5/TXFD6_2026-04-09.parquet"
DAY = date(2026, 4, 9)
CONTRACT = Contract(tick_size_e6=1_000_000, lot_size=1, contract_size=200)
SECOND = 1_000_000_000
# The day session, 08:45 to 13:45 Taipei.
OPEN_NS = int(datetime(2026, 4, 9, 0, 45, tzinfo=UTC).timestamp()) * SECOND
CLOSE_NS = OPEN_NS + 5 * 3600 * SECOND
LEVEL_COLUMNS = ("bid_price_e6", "bid_volume", "ask_price_e6", "ask_volume")


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the decoder says, in words of int64 (23 a book, 6 a trade)."""

    books: NDArray[np.int64]
    trades: NDArray[np.int64]


def columns() -> list[NDArray[np.generic]]:
    if not SOURCE.exists():
        pytest.skip(f"real data absent: {SOURCE}")
    table = pq.read_table(SOURCE)
    return [table[name].to_numpy() for name in ("ev", "exch_ts", "px", "qty")]


@functools.cache
def decoded() -> Decoded:
    books, trades = decode_l5(*columns())
    return Decoded(np.frombuffer(books, np.int64).reshape(-1, 23), np.frombuffer(trades, np.int64).reshape(-1, 6))


def day_session() -> tuple[pa.Table, pa.Table]:
    """Books and trades of the day session as the lake hands them out."""
    books, trades = decoded().books, decoded().trades
    books = books[(books[:, 1] >= OPEN_NS) & (books[:, 1] <= CLOSE_NS)]
    trades = trades[(trades[:, 1] >= OPEN_NS) & (trades[:, 1] <= CLOSE_NS)]
    book_columns = _common(books)
    for place, name in enumerate(LEVEL_COLUMNS):
        for level in range(5):
            values = books[:, 3 + 5 * place + level]
            book_columns[f"{name}_{level + 1}"] = pa.array(values, mask=values == EMPTY_PRICE_E6)
    side = trades[:, 5].astype(np.uint8)
    trade_columns = _common(trades) | {"price_e6": trades[:, 3], "volume": trades[:, 4], "side": side}
    return pa.table(book_columns), pa.table(trade_columns)


def _common(words: NDArray[np.int64]) -> dict[str, object]:
    nothing = pa.nulls(len(words), pa.int64())
    session = pa.array(["day"] * len(words))
    return {"sequence": words[:, 0], "exchange_ns": words[:, 1], "received_ns": nothing, "session": session}


def best_of_source_at(stamps: list[int]) -> list[tuple[float, float, float, float]]:
    """(bid, its size, ask, its size) after every row of the file up to each stamp, by applying the rows one by one."""
    ev, exch_ts, px, qty = columns()
    milliseconds = np.rint(exch_ts / 1e6).astype(np.int64)
    bids: dict[float, float] = {}
    asks: dict[float, float] = {}
    side_of = {0xE0000001: bids, 0xD0000001: asks}
    best, row = [], 0
    rows = list(zip(ev.tolist(), px.tolist(), qty.tolist(), strict=True))
    for stamp in stamps:
        end = int(np.searchsorted(milliseconds, stamp // 1_000_000, side="right"))
        for flags, price, size in rows[row:end]:
            side = side_of.get(flags)
            if side is None:
                continue
            if size:
                side[price] = size
            else:
                side.pop(price, None)
        row = end
        bid, ask = max(bids), min(asks)
        best.append((bid, bids[bid], ask, asks[ask]))
    return best
