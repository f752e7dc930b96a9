"""An answer of the broker's history: its columns judged and made exact, kept as Parquet by its hash. Proves nothing.

History is known to come back duplicated, incomplete, on the wrong day or out of order. Here an answer is refused for
what is wrong with it alone; whether it tells what was not recorded is shown by `alignment.py`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from shijim_live.broker.answer_checks import FIXED_PRICE_UNTIL_NS
from shijim_live.broker.history import AnswerRefused
from shijim_live.calendar import CLOSE_GRACE_NS, TAIPEI_OFFSET_NS, Market, session_bounds, wall_clock
from shijim_live.store.parquet import ZSTD_LEVEL, write_durably

# Column → Arrow type it is kept as; the broker answers prices as floats.
COLUMNS: Final = {
    "ts": "int64", "close": "double", "volume": "int64", "bid_price": "double", "bid_volume": "int64",
    "ask_price": "double", "ask_volume": "int64", "tick_type": "int64",
}  # fmt: skip
TICK_TYPE_MAX: Final = 2
# A price limit is a tenth of the reference, three tenths for a leveraged fund: no price is twice another.
PRICE_FACTOR_MAX: Final = 2
PRICE_E6_MAX: Final = 10**7 * 10**6
VOLUME_MAX: Final = 10**7
# History may be stamped more coarsely than the stream.
RESOLUTIONS_NS: Final = (1_000_000_000, 1_000_000, 1_000)

Int64s = NDArray[np.int64]


class Columns(Protocol):
    """The shape the SDK answers in: neither a dict nor a Mapping."""

    def keys(self) -> Sequence[str]: ...
    def __getitem__(self, name: str) -> Sequence[Any]: ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Trades of one session as history tells them, in its order."""

    exchange_ns: Int64s  # ns since the epoch, UTC, not decreasing
    price_e6: Int64s
    volume: Int64s  # lots, positive
    side: Int64s
    cumulative: Int64s  # lots from the first row to this one

    def __len__(self) -> int:
        return len(self.volume)


@dataclass(frozen=True, slots=True)
class Answer:
    """One code and trading day, by session; a session without a trade has no rows."""

    sessions: dict[str, Rows]
    resolution_ns: int  # every stamp is a multiple of it

    def rows(self, session: str) -> Rows:
        """The session's, or none."""
        return self.sessions.get(session, NO_ROWS)


_NONE: Final = np.zeros(0, np.int64)
NO_ROWS: Final = Rows(_NONE, _NONE, _NONE, _NONE, _NONE)


def raw_table(columns: Columns) -> pa.Table:
    """What was answered, as it is; columns of unequal length are filled up with NULL, other types become text."""
    found: dict[str, list[Any]] = {str(name): list(columns[name]) for name in columns.keys()}  # noqa: SIM118
    rows = max((len(values) for values in found.values()), default=0)
    arrays = {name: _array(values + [None] * (rows - len(values)), name) for name, values in sorted(found.items())}
    return pa.table(arrays).replace_schema_metadata(
        {"lengths": orjson.dumps({name: len(values) for name, values in sorted(found.items())})}
    )


def _array(values: list[Any], name: str) -> pa.Array:
    """As the type the values have; whole numbers may stand for prices, and nothing is cut off to fit."""
    try:
        found = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    wanted = COLUMNS.get(name, "")
    empty = pa.types.is_null(found.type)
    return found.cast(wanted) if (empty and wanted) or (pa.types.is_int64(found.type) and wanted == "double") else found


def judged(raw: pa.Table, day: date, market: Market, near_e6: tuple[int, int] | None) -> Answer:
    """The exact rows of an answer. `near_e6`: lowest and highest price recorded. Raises AnswerRefused."""
    columns = _columns(raw)
    exchange_ns = columns["ts"] - TAIPEI_OFFSET_NS
    _refuse_where(np.diff(exchange_ns) < 0, exchange_ns[1:], "is stamped before the row above it")
    volume, side = columns["volume"], columns["tick_type"]
    _refuse_where((volume <= 0) | (volume > VOLUME_MAX), volume, "is no volume")
    _refuse_where((side < 0) | (side > TICK_TYPE_MAX), side, "is no tick_type")
    price_e6 = _prices_e6(columns["close"], near_e6)
    sessions, taken = {}, _fixed_price(exchange_ns, day, market)
    for bounds in session_bounds(day, market):
        mine = (exchange_ns >= bounds.open_ns) & (exchange_ns < bounds.close_ns + CLOSE_GRACE_NS)
        taken |= mine
        stamps, lots = exchange_ns[mine], volume[mine]
        sessions[bounds.session.value] = Rows(stamps, price_e6[mine], lots, side[mine], np.cumsum(lots))
    _refuse_where(~taken, exchange_ns, f"is in no session of {day}", _wall)
    return Answer(sessions, _resolution_ns(exchange_ns))


def _fixed_price(exchange_ns: Int64s, day: date, market: Market) -> NDArray[np.bool_]:
    if market is not Market.STOCK:
        return np.zeros(len(exchange_ns), bool)
    close_ns = session_bounds(day, market)[-1].close_ns
    after: NDArray[np.bool_] = exchange_ns >= close_ns + CLOSE_GRACE_NS
    return after & (exchange_ns < close_ns + FIXED_PRICE_UNTIL_NS)


def _columns(raw: pa.Table) -> dict[str, NDArray[Any]]:
    lengths = orjson.loads((raw.schema.metadata or {}).get(b"lengths", b"{}"))
    missing = [name for name in COLUMNS if name not in raw.column_names]
    if missing:
        raise AnswerRefused(f"the answer has no column {', '.join(missing)}")
    if len({lengths.get(name, raw.num_rows) for name in COLUMNS}) > 1:
        raise AnswerRefused(f"its columns have {', '.join(f'{lengths[name]} {name}' for name in COLUMNS)}")
    if not raw.num_rows:
        raise AnswerRefused("the answer is empty: nothing is there, or the broker's quota is used up")
    for name, kind in COLUMNS.items():
        column = raw.column(name)
        if str(column.type) != kind or column.null_count:
            raise AnswerRefused(f"column {name} holds something else than numbers")
    return {name: raw.column(name).to_numpy() for name in COLUMNS}


def _prices_e6(close: NDArray[Any], near_e6: tuple[int, int] | None) -> Int64s:
    """Prices × 1,000,000; every one is exactly a number of six decimals."""
    low, high = near_e6 or (1, PRICE_E6_MAX)
    low, high = max(1, low // PRICE_FACTOR_MAX), min(PRICE_E6_MAX, high * PRICE_FACTOR_MAX)
    _refuse_where(~np.isfinite(close), close, "is no price")
    scaled = np.rint(close * 1_000_000)
    # The double nearest to a number of six decimals is found again from that number, any other is not.
    _refuse_where(scaled / 1_000_000 != close, close, "has more than six decimals")
    _refuse_where((scaled < low) | (scaled > high), close, "is no price of this code and day")
    exact: Int64s = scaled.astype(np.int64)
    return exact


def _refuse_where(
    wrong: NDArray[np.bool_], values: NDArray[Any], what: str, shown: Any = lambda value: str(value)
) -> None:
    found = np.flatnonzero(wrong)
    if len(found):
        first = int(found[0])
        raise AnswerRefused(f"{len(found):,} rows: {shown(values[first])} {what}, first at row {first:,}")


def _wall(exchange_ns: np.int64) -> str:
    return wall_clock(int(exchange_ns)).isoformat(sep=" ")


def _resolution_ns(exchange_ns: Int64s) -> int:
    return next((unit for unit in RESOLUTIONS_NS if not (exchange_ns % unit).any()), 1)


# Kept answers


def encoded(raw: pa.Table) -> tuple[str, bytes]:
    """(hash, Parquet file) of an answer; the same answer gives the same bytes."""
    out = io.BytesIO()
    pq.write_table(raw, out, compression="zstd", compression_level=ZSTD_LEVEL)
    return _digest(out.getvalue()), out.getvalue()


def keep(content: bytes, folder: Path, code: str) -> Path:
    """An encoded answer as `<code>-<hash>.parquet`, durably."""
    path = folder / f"{code}-{_digest(content)}.parquet"
    if not path.exists():
        write_durably(path, content)
    return path


def kept(folder: Path, code: str) -> Iterator[tuple[str, pa.Table]]:
    """Answers kept for a code with their hash; one that is not what it was is passed over."""
    for path in sorted(folder.glob(f"{code}-*.parquet")):
        content = path.read_bytes()
        if path.stem == f"{code}-{_digest(content)}":
            yield _digest(content), pq.read_table(io.BytesIO(content))


def write_reasons(path: Path, reasons: Mapping[str, object]) -> None:
    """Why an answer is in quarantine, beside it."""
    write_durably(path, orjson.dumps(dict(reasons), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
