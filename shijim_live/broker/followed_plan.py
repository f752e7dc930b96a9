"""The plan of a recorder that lives on: made anew when its universe changes, and when the next trading day begins.

Reads universe files and asks nobody; the plan itself is `capacity.py`, the asking `subscriptions.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from shijim_live.broker.capacity import (
    CONNECTIONS_RECORDING,
    Depth,
    Plan,
    PlanRefused,
    connections_of,
    plan_recorder,
)
from shijim_live.broker.gateway import Topic
from shijim_live.calendar import Market, is_trading_day, trading_day
from shijim_live.instruments import concrete_code, expiry, root_of
from shijim_live.universe import (
    Universe,
    UniverseMissing,
    read_universe_file,
    universe_path,
)

# A recorder that is started in the evening records the next trading day, whose universe is ranked the next morning; and
# a ranking that fails must not cost a day. Older than this the ranking has been forgotten.
UNIVERSE_DAYS_MAX: Final = 14


@dataclass(frozen=True, slots=True)
class Shares:
    """How the topics are to be shared out."""

    shard: int = 0
    shards: int = 1
    connections: int = CONNECTIONS_RECORDING  # of all recorders together, at most
    books_min: int | None = None
    odd_lots: int = 0


def newest_universe(universe_dir: Path, day: date, file: Path | None = None) -> Path:
    """The universe file of a day, else the newest before it; `file` where somebody says which. UniverseMissing."""
    if file is not None:
        return file
    for before in range(UNIVERSE_DAYS_MAX + 1):
        then = day - timedelta(days=before)
        path = universe_path(universe_dir, then)
        # One ranked before the exchanges were closed for the day is none.
        if path.exists() and is_trading_day(then):
            return path
    raise UniverseMissing(
        f"nothing says what to record: {universe_dir} has no universe of {day} nor of the {UNIVERSE_DAYS_MAX} days "
        f"before. Run: shijim rank --day {day}, or give --universe PATH; a broker's feed has no end of codes, so that "
        f"none for all is not possible"
    )


def of_day(universe: Universe, day: date) -> Universe:
    """The universe for another day than its own: a contract that has expired since is the near month of its root."""

    def current(code: str) -> str:
        root = root_of(code)
        return concrete_code(f"{root}R1", day) if root and expiry(code, day) < day else code

    codes = [current(one.code) for one in universe.chosen]
    chosen = [replace(one, code=code) for one, code in zip(universe.chosen, codes, strict=True)]
    return replace(universe, day=day, chosen=tuple(one for at, one in enumerate(chosen) if one.code not in codes[:at]))


def plan_with_few(universe: Universe, shares: Shares, before: Plan | None = None, most: int | None = None) -> Plan:
    """The plan of one recorder on as few connections as `fewest` finds, `most` at most; on as many as `before`.

    PlanRefused.
    """

    def on(connections: int) -> Plan:
        return plan_recorder(universe, shares.shard, connections, books_min=shares.books_min,
                             odd_lots=shares.odd_lots, before=before)  # fmt: skip

    own = connections_of(shares.shards, shares.shard, shares.connections)
    return on(before.connections) if before else fewest(on, own if most is None else min(own, most))


def fewest(on: Callable[[int], Plan], most: int) -> Plan:
    """The plan with the fewest connections that give every code its books, with futures and stocks apart."""
    for connections in range(1, most + 1):
        plan = on(connections)
        if plan.apart() and all(place.depth in (Depth.BOOKS, Depth.INDEX) for place in plan.places):
            break
    return plan


class FollowedPlan:
    """One recorder's plan, and the files it comes from."""

    def __init__(
        self,
        universe_dir: Path,
        shares: Shares,
        now_ns: int,
        *,
        file: Path | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """UniverseMissing, UniverseDamaged, PlanRefused, UnknownInstrument."""
        self._universe_dir, self._file, self._say = universe_dir, file, say
        self.shares = shares
        self._seen = self._found(now_ns)
        self.universe = self._read(self._seen)
        self.plan = plan_with_few(self.universe, shares)

    def use_connections(self, count: int) -> None:
        """So many could be had, and no more: they are what is planned with from now on."""
        self.plan = plan_with_few(self.universe, self.shares, most=count)

    def topics(self) -> dict[int, list[Topic]]:
        """Connection, from 1 → what it is to want, the most wanted first."""
        return {number + 1: self.plan.topics(number) for number in range(self.plan.connections)}

    def look(self, now_ns: int) -> Mapping[int, list[Topic]] | None:
        """What every connection is to want from now on, where that has changed; says why it has not, if it cannot.

        Codes that stay keep their connection, so that nothing is lost by it.
        """
        try:
            found = self._found(now_ns)
        except (ValueError, OSError):
            return None  # somebody takes the files away: what is planned stands
        if found == self._seen:
            return None
        self._seen = found
        try:
            universe = self._read(found)
            plan = plan_with_few(universe, self.shares, self.plan)
        except (ValueError, OSError) as error:  # whatever is wrong with a file must not end a day
            self._say(f"the plan stands as it was: {error}")
            return None
        self.universe, self.plan = universe, plan
        self._say(f"another plan, by {found[0].name}, for {universe.day}: {described(plan)}")
        return self.topics()

    def _found(self, now_ns: int) -> tuple[Path, int, int, date]:
        """Which file speaks for now, and its state."""
        day = trading_day(now_ns, Market.FUTURES)
        path = newest_universe(self._universe_dir, day, self._file)
        try:
            state = path.stat()
        except FileNotFoundError:
            raise UniverseMissing(f"{path}: no such universe file") from None
        return path, state.st_mtime_ns, state.st_size, day

    def _read(self, found: tuple[Path, int, int, date]) -> Universe:
        path, _, _, day = found
        universe = read_universe_file(path)
        if universe.shards != self.shares.shards:
            raise PlanRefused(
                f"{path} is made for {universe.shards} shards and this recorder is one of {self.shares.shards}: set "
                f"TOTAL_SHARDS={universe.shards}, or rank the day again for {self.shares.shards}"
            )
        if universe.day != day:
            self._say(f"no universe of {day} yet: recording that of {universe.day}")
        return of_day(universe, day)


def described(plan: Plan) -> str:
    """One line about a plan."""
    depths = Counter(place.depth for place in plan.places)
    words = [f"{count} {depth}" for depth in Depth if (count := depths[depth])]
    if plan.connections > 1:
        words.append(f"on {plan.connections} connections")
    return ", ".join(words)
