"""The universe of a trading day: which codes are recorded, by which shard, and why. Ranks nothing and asks no broker.

`<data>/universe/<day>.json` is written by the batch half and read by the recorder. A person may edit it: whatever is
no longer consistent then is refused, naming the place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import orjson

from shijim_live.calendar import require_trading_day
from shijim_live.instruments import UnknownInstrument, instrument

UNIVERSE_SCHEMA = 1
_IF_A_LIST = " (a list of symbols becomes a universe by: shijim rank --symbols FILE)"
STRATEGIES = ("volume", "volatility", "unusual")
# The broker accepts this many topics of a connection; the trades and the books of a code are one each. Who gets both is
# planned by `broker/capacity.py`.
TOPICS_MAX = 200
CODES_A_SHARD_MAX = 1_200  # twice what the connections of one person carry by trades alone; more is a slip of the pen


class UniverseMissing(ValueError):
    """There is no universe for the day."""


class UniverseDamaged(ValueError):
    """A universe file that contradicts itself; the text says which file, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One code of the universe."""

    code: str
    rank: int  # from 1
    shard: int  # from 0; trades and books of a code are recorded together
    load: int  # events expected a day, at least 1
    scores: Mapping[str, int | None]  # strategy → TWD a day, millionths, or thousandths; None: too little history
    reasons: tuple[str, ...]  # what chose it first


@dataclass(frozen=True, slots=True)
class Universe:
    """What is recorded on a trading day. Same inputs, same universe."""

    day: date
    strategies: tuple[str, ...]
    limit: int
    shards: int
    lookback: tuple[date, ...]  # the trading days that were looked at, ascending
    inputs: Mapping[str, str]  # file below market/ → its sha256
    chosen: tuple[Chosen, ...]  # by rank
    notes: tuple[str, ...]  # what a person should know: who was left out, and why

    def codes(self, shard: int) -> tuple[str, ...]:
        """The codes of one shard, in order of rank."""
        return tuple(one.code for one in self.chosen if one.shard == shard)

    def codes_by_shard(self) -> tuple[tuple[str, ...], ...]:
        """The codes of every shard, sorted: what is recorded, whatever the ranks and scores."""
        return tuple(tuple(sorted(self.codes(shard))) for shard in range(self.shards))


def universe_path(universe_dir: Path, day: date) -> Path:
    return universe_dir / f"{day}.json"


def read_universe(universe_dir: Path, day: date) -> Universe:
    """The universe of a day. Raises UniverseMissing, UniverseDamaged."""
    path = universe_path(universe_dir, day)
    if not path.exists():
        raise UniverseMissing(f"{path}: no universe for {day}. Run: shijim rank --day {day}")
    universe = read_universe_file(path)
    if universe.day != day:
        raise _damaged(path, "day", f"is {universe.day}, in the file of {day}")
    return universe


def read_universe_file(path: Path) -> Universe:
    """A universe from any file. Raises UniverseMissing, UniverseDamaged, NotATradingDay."""
    try:
        contents = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise UniverseMissing(f"{path}: no such universe file") from None
    except orjson.JSONDecodeError as error:
        raise _damaged(path, "it", f"is no JSON: {error}{_IF_A_LIST}") from None
    if not isinstance(contents, dict):
        raise _damaged(path, "it", f"is no JSON object{_IF_A_LIST}")
    version = contents.get("schema")
    if version != UNIVERSE_SCHEMA:
        raise _damaged(path, "schema", f"is {version!r}, this release reads {UNIVERSE_SCHEMA}")
    return _Reader(path).universe(contents)


def encode_universe(universe: Universe) -> bytes:
    """The file's bytes; the same universe gives the same bytes."""
    contents = {"schema": UNIVERSE_SCHEMA} | {name: getattr(universe, name) for name in Universe.__slots__}
    contents["codes"] = [{name: getattr(one, name) for name in Chosen.__slots__} for one in contents.pop("chosen")]
    return orjson.dumps(contents, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)


def _damaged(path: Path, where: str, what: str) -> UniverseDamaged:
    return UniverseDamaged(
        f"{path}: {where} {what}. Undo the edit, or delete the file and rank the day again: shijim rank"
    )


class _Reader:
    """Takes the JSON apart and refuses at the first contradiction."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def universe(self, contents: dict[str, object]) -> Universe:
        day = require_trading_day(self._day(contents.get("day"), "day"))
        lookback = [self._day(one, "lookback") for one in self._list(contents, "lookback")]
        inputs = self._mapping(contents, "inputs")
        universe = Universe(
            day=day,
            strategies=self._texts(contents, "strategies"),
            limit=self._integer(contents, "limit", 1),
            shards=self._integer(contents, "shards", 1),
            lookback=tuple(lookback),
            inputs={str(name): str(digest) for name, digest in inputs.items()},
            chosen=tuple(
                self._chosen(one, number) for number, one in enumerate(self._list(contents, "codes"), start=1)
            ),
            notes=self._texts(contents, "notes"),
        )
        if unknown := set(contents) - {"schema", "codes", *Universe.__slots__}:
            raise _damaged(self.path, f"{min(unknown)!r}", "is no field of a universe")
        self._check(universe)
        return universe

    def _chosen(self, entry: object, number: int) -> Chosen:
        where = f"codes[{number}]"
        if not isinstance(entry, dict) or set(entry) != set(Chosen.__slots__):
            raise _damaged(self.path, where, f"must have the fields {', '.join(Chosen.__slots__)} and no other")
        code = entry["code"]
        if not isinstance(code, str):
            raise _damaged(self.path, where, f"has the code {code!r}, which is no text")
        try:
            instrument(code)
        except UnknownInstrument as error:
            raise _damaged(self.path, where, f"has an {error}") from None
        scores: dict[str, int | None] = {}
        for name, score in self._mapping(entry, "scores", f"{where} {code}").items():
            if score is not None and type(score) is not int:
                raise _damaged(self.path, f"{where} {code}: score {name}", f"is {score!r}, not a whole number or null")
            scores[name] = score
        return Chosen(
            code=code,
            rank=self._integer(entry, "rank", 1, f"{where} {code}"),
            shard=self._integer(entry, "shard", 0, f"{where} {code}"),
            load=self._integer(entry, "load", 1, f"{where} {code}"),
            scores=scores,
            reasons=self._texts(entry, "reasons", f"{where} {code}"),
        )

    def _check(self, universe: Universe) -> None:
        """What only shows between the entries."""
        if not universe.chosen:
            raise _damaged(self.path, "codes", "is empty: nothing would be recorded")
        seen: set[str] = set()
        for number, one in enumerate(universe.chosen, start=1):
            if one.code in seen:
                raise _damaged(self.path, f"codes[{number}]", f"names {one.code} a second time")
            seen.add(one.code)
            if one.rank != number:
                raise _damaged(self.path, f"codes[{number}] {one.code}", f"has rank {one.rank}: ranks count from 1")
            if one.shard >= universe.shards:
                raise _damaged(
                    self.path,
                    f"codes[{number}] {one.code}",
                    f"is of shard {one.shard}, of {universe.shards} counted from 0",
                )
        for shard in range(universe.shards):
            count = len(universe.codes(shard))
            if not 1 <= count <= CODES_A_SHARD_MAX:
                raise _damaged(
                    self.path,
                    f"shard {shard}",
                    f"has {count:,} codes: 1 to {CODES_A_SHARD_MAX:,} can be planned",
                )

    def _day(self, value: object, where: str) -> date:
        try:
            return date.fromisoformat(value) if isinstance(value, str) else date.fromisoformat("")
        except ValueError:
            raise _damaged(self.path, where, f"is {value!r}, not a day like 2026-04-09") from None

    def _integer(self, contents: Mapping[str, object], name: str, least: int, where: str = "") -> int:
        value = contents.get(name)
        if type(value) is not int or value < least:
            raise _damaged(self.path, self._place(where, name), f"is {value!r}, not a whole number from {least}")
        return value

    def _texts(self, contents: Mapping[str, object], name: str, where: str = "") -> tuple[str, ...]:
        values = contents.get(name)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise _damaged(self.path, self._place(where, name), "is no list of texts")
        return tuple(values)

    def _list(self, contents: Mapping[str, object], name: str) -> list[object]:
        value = contents.get(name)
        if not isinstance(value, list):
            raise _damaged(self.path, name, "is no list")
        return value

    def _mapping(self, contents: Mapping[str, object], name: str, where: str = "") -> dict[str, object]:
        value = contents.get(name)
        if not isinstance(value, dict):
            raise _damaged(self.path, self._place(where, name), "is no JSON object")
        return value

    @staticmethod
    def _place(where: str, name: str) -> str:
        return f"{where}: {name}" if where else name
