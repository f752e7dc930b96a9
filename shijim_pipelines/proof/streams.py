"""The trades of a day as the archive has them, by stream: what was recorded and what was backfilled, apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shijim_live.calendar import Session
from shijim_live.events import Flag, Lane
from shijim_live.store.lake import Lake
from shijim_live.store.manifest import read_manifest
from shijim_live.store.views import BACKFILL
from shijim_pipelines.proof.alignment import Contradiction, Recorded, recorded

# What continuity is judged by; sources are kept apart, and so are repeats until they are told from contradictions.
_TRADES: Final = """
SELECT code, session, source, run_id, exchange, exchange_ns, price_e6, volume, total_volume
FROM ticks_raw
WHERE trading_day = {day:Date} AND lane = {board:UInt8} AND NOT duplicate AND bitAnd(flags, {suspect:UInt32}) = 0
  AND total_volume IS NOT NULL AND volume IS NOT NULL AND price_e6 IS NOT NULL AND exchange_ns IS NOT NULL
  AND has(splitByChar(',', {codes:String}), code)
"""
_NUMBERS: Final = ("exchange_ns", "price_e6", "volume", "total_volume")
_NONE: Final = np.zeros(0, np.int64)

StreamKey = tuple[str, str, str]  # code, session, source


@dataclass(frozen=True, slots=True)
class Stream:
    """Trades of one code, session and source on the board lane."""

    trades: Recorded
    exchange: int  # the broker's exchange, by our number; 0 where nothing was recorded
    runs: tuple[str, ...]
    contradiction: str = ""  # why its totals prove nothing


NO_STREAM: Final = Stream(Recorded(_NONE, _NONE, _NONE, _NONE), 0, ())


@dataclass(frozen=True, slots=True)
class Streams:
    """All of a day."""

    recorded: dict[StreamKey, Stream]
    backfilled: dict[StreamKey, Stream]  # by the source they fill

    def base(self, key: StreamKey) -> int:
        """The total a session starts from: 0, or where the night stopped when the day was recorded to go on there."""
        code, session, source = key
        night = self.recorded.get((code, Session.NIGHT.value, source), NO_STREAM).trades
        mine = self.recorded.get(key, NO_STREAM).trades
        if session != Session.DAY or not len(night) or not len(mine):
            return 0
        stopped = int(night.total[-1])
        return stopped if int(mine.start[0]) == stopped else 0


def read_streams(lake: Lake, day: date, codes: Iterable[str]) -> Streams:
    """The trades of some codes. Raises LakeError."""
    wanted = ",".join(sorted(set(codes)))
    found = lake.query(_TRADES, day=day, board=int(Lane.BOARD), suspect=int(Flag.SUSPECT), codes=wanted)
    runs, sources = _labels(found, "run_id"), _labels(found, "source")
    made = np.array([name == BACKFILL for name in sources[0]], bool)[sources[1]]
    own = [sources[0][at] for at in sources[1].tolist()]
    fills: dict[str, str] = {}
    for at in np.flatnonzero(made).tolist():
        run = runs[0][runs[1][at]]
        if run not in fills:
            fills[run] = _filled_source(lake.archive_dir, run)
        own[at] = fills[run]
    keys = list(zip(_texts(found, "code"), _texts(found, "session"), own, strict=True))
    return Streams(_streams(found, keys, ~made, runs), _streams(found, keys, made, runs))


def _streams(
    found: pa.Table,
    keys: list[StreamKey],
    chosen: NDArray[np.bool_],
    runs: tuple[list[str], NDArray[np.int64]],
) -> dict[StreamKey, Stream]:
    numbers = {name: found.column(name).to_numpy().astype(np.int64) for name in (*_NUMBERS, "exchange")}
    places: dict[StreamKey, list[int]] = {}
    for at in np.flatnonzero(chosen).tolist():
        places.setdefault(keys[at], []).append(at)
    streams = {}
    for key, mine in places.items():
        rows = np.array(mine)
        own_runs = tuple(sorted(runs[0][at] for at in np.unique(runs[1][rows]).tolist()))
        exchange = int(numbers["exchange"][rows[0]])
        try:
            streams[key] = Stream(recorded(*(numbers[name][rows] for name in _NUMBERS)), exchange, own_runs)
        except Contradiction as error:
            streams[key] = Stream(NO_STREAM.trades, exchange, own_runs, str(error))
    return streams


def _filled_source(archive_dir: Path, run: str) -> str:
    manifest = read_manifest(archive_dir, f"{run}-0001")
    return str(((manifest or {}).get("config") or {}).get("fills", ""))


def _labels(found: pa.Table, name: str) -> tuple[list[str], NDArray[np.int64]]:
    encoded = found.column(name).cast(pa.string()).combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _texts(found: pa.Table, name: str) -> list[str]:
    names, places = _labels(found, name)
    return [names[at] for at in places.tolist()]
