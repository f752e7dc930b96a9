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
from shijim_pipelines.proof.labels import Labels, grouped, labels_of

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
    labels = {name: labels_of(found, name) for name in ("code", "session", "source", "run_id")}
    names, places = labels["run_id"]
    made = np.array([name == BACKFILL for name in labels["source"][0]], bool)[labels["source"][1]]
    fills = {names[at]: _filled_source(lake.archive_dir, names[at]) for at in np.unique(places[made]).tolist()}
    # What was recorded by one source and what fills it have the same name, and are told apart by `made`.
    sources = sorted({*labels["source"][0], *fills.values()})
    rank = {name: at for at, name in enumerate(sources)}
    of_row = np.array([rank[name] for name in labels["source"][0]], np.int64)[labels["source"][1]]
    of_fill = np.array([rank.get(fills.get(run, ""), 0) for run in names], np.int64)[places]
    labels["source"] = (sources, np.where(made, of_fill, of_row))
    return Streams(_streams(found, labels, ~made), _streams(found, labels, made))


def _streams(found: pa.Table, labels: dict[str, Labels], chosen: NDArray[np.bool_]) -> dict[StreamKey, Stream]:
    numbers = {name: found.column(name).to_numpy().astype(np.int64) for name in (*_NUMBERS, "exchange")}
    names, places = labels["run_id"]
    streams = {}
    for (code, session, source), mine in grouped([labels["code"], labels["session"], labels["source"]], chosen):
        runs = tuple(sorted(names[at] for at in np.unique(places[mine]).tolist()))
        exchange = int(numbers["exchange"][mine[0]])
        try:
            trades, why = recorded(*(numbers[name][mine] for name in _NUMBERS)), ""
        except Contradiction as error:
            trades, why = NO_STREAM.trades, str(error)
        streams[code, session, source] = Stream(trades, exchange, runs, why)
    return streams


def _filled_source(archive_dir: Path, run: str) -> str:
    manifest = read_manifest(archive_dir, f"{run}-0001")
    return str(((manifest or {}).get("config") or {}).get("fills", ""))
