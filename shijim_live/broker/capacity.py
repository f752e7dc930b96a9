"""Who gets how much of the broker's topics: trades and books, trades alone, or nothing; and on which connection.

A pure plan of one recorder's connections. Not the asking (`subscriptions.py`), not the ranking (`shijim rank`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final

from shijim_live.broker.gateway import Feed, Topic
from shijim_live.calendar import Market
from shijim_live.instruments import concrete_code, instrument
from shijim_live.universe import TOPICS_MAX, Chosen, Universe

CONNECTIONS_A_PERSON: Final = 5  # the broker's limit; a sixth login is refused
CONNECTIONS_RESERVED: Final = 2  # one to trade, one to ask for history
CONNECTIONS_RECORDING: Final = CONNECTIONS_A_PERSON - CONNECTIONS_RESERVED
INDICES: Final = ("IX0001",)  # TAIEX, the broker's code for it


class Depth(StrEnum):
    """How much of a code is recorded."""

    BOOKS = "trades and books"
    TRADES = "trades"
    INDEX = "index"
    NOTHING = "nothing"


FEEDS: Final[Mapping[Depth, tuple[Feed, ...]]] = {
    Depth.BOOKS: (Feed.TICK, Feed.BOOK),
    Depth.TRADES: (Feed.TICK,),
    Depth.INDEX: (Feed.QUOTE,),
    Depth.NOTHING: (),
}


class PlanRefused(ValueError):
    """No plan can be made; says what to change."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A code somebody wants recorded. Whoever comes first gets more."""

    asked: str  # may be a continuous code
    load: int = 1  # events expected a day


@dataclass(frozen=True, slots=True)
class Place:
    """What one wish came to."""

    asked: str
    code: str  # as the broker delivers it
    depth: Depth
    odd_lot: bool  # the odd lots too, as deep
    connection: int | None  # from 0; None where nothing is recorded
    load: int
    reason: str  # why not more; "" where it has all it could have

    def topics(self) -> tuple[Topic, ...]:
        lanes = (False, True) if self.odd_lot else (False,)
        return tuple(Topic(self.code, feed, odd_lot) for odd_lot in lanes for feed in FEEDS[self.depth])


@dataclass(frozen=True, slots=True)
class Plan:
    """What is recorded by one recorder on a day. Same inputs, same plan."""

    day: date
    connections: int
    cap: int  # topics of a connection
    places: tuple[Place, ...]  # in the order of the wishes; indices first
    notes: tuple[str, ...]

    def topics(self, connection: int) -> list[Topic]:
        """What a connection's ledger is to want, most wanted first."""
        return [topic for place in self.places if place.connection == connection for topic in place.topics()]

    def codes(self) -> frozenset[str]:
        """What is recorded, as the broker delivers it; without indices, which are no instruments."""
        return frozenset(place.code for place in self.places if place.depth in (Depth.BOOKS, Depth.TRADES))

    def apart(self) -> bool:
        """Whether no connection has both futures and stocks."""
        markets = {(place.connection, _market(place)) for place in self.places if place.connection is not None}
        return len(markets) == len({connection for connection, _ in markets})

    def without(self) -> tuple[str, ...]:
        """The codes that no topic is left for."""
        return tuple(place.code for place in self.places if place.depth is Depth.NOTHING)

    def as_json(self) -> dict[str, object]:
        return {
            "day": self.day,
            "connections": self.connections,
            "cap": self.cap,
            "notes": self.notes,
            "used": [len(self.topics(number)) for number in range(self.connections)],
            "places": [
                {
                    "asked": place.asked,
                    "code": place.code,
                    "depth": place.depth,
                    "odd_lot": place.odd_lot,
                    "connection": place.connection,
                    "load": place.load,
                    "reason": place.reason,
                    "topics": [str(topic) for topic in place.topics()],
                }
                for place in self.places
            ],
        }


def plan_capacity(
    wishes: Sequence[Wish],
    day: date,
    connections: int = CONNECTIONS_RECORDING,
    *,
    cap: int = TOPICS_MAX,
    indices: Sequence[str] = INDICES,
    books_min: int | None = None,
    odd_lots: int = 0,
    before: Plan | None = None,
) -> Plan:
    """Shares the topics out by the order of the wishes; raises PlanRefused, UnknownInstrument.

    Nobody goes without trades so that another has books, but for the first `books_min` codes (by default as many as
    take half of the topics). The first `odd_lots` stocks have their odd lots recorded too. Trades, books and odd lots
    of a code are on one connection; futures and stocks apart where there is room to; beyond that the heaviest code goes
    where there is the least load. A code that is in the plan `before` stays where it is.
    """
    if connections < 1 or cap < 1:
        raise PlanRefused(f"{connections} connections of {cap} topics carry nothing: at least 1 of each")
    notes: list[str] = []
    dated = _dated(wishes, day, notes)
    budget = connections * cap - len(indices)
    if budget < 0:
        raise PlanRefused(f"{len(indices)} indices do not fit {connections * cap} topics")
    odd = set([code for code in dated if instrument(code).market is Market.STOCK][: max(0, odd_lots)])
    if books_min is None:
        books_min = budget // 4
    depths = _depths({code: 2 if code in odd else 1 for code in dated}, budget, books_min)
    wanted = [Place(code, code, Depth.INDEX, False, None, 1, "") for code in indices]
    for code, wish in dated.items():
        depth, lanes = depths[code]
        all_of_it = depth is Depth.BOOKS and lanes == 1 + (code in odd)
        reason = "" if all_of_it else f"those before take the other topics of {connections} connections"
        wanted.append(Place(wish.asked, code, depth, lanes > 1, None, max(1, wish.load), reason))
    places = _placed(wanted, connections, cap, before, notes)
    return Plan(day, connections, cap, places, tuple(notes))


def plan_universe(universe: Universe, shard: int, connections: int = CONNECTIONS_RECORDING, **more: Any) -> Plan:
    """The plan of one recorder of a universe; the connections are shared by its recorders. As `plan_capacity`."""
    return plan_recorder(universe, shard, connections_of(universe.shards, shard, connections), **more)


def connections_of(shards: int, shard: int, connections: int = CONNECTIONS_RECORDING) -> int:
    """How many of the connections one of several recorders has. PlanRefused where there are not enough for all."""
    if connections < shards:
        raise PlanRefused(
            f"{shards} recorders share {connections} connections: set TOTAL_SHARDS={connections} or less, and "
            "rank the day again"
        )
    return connections // shards + (shard < connections % shards)


def plan_recorder(universe: Universe, shard: int, own: int, **more: Any) -> Plan:
    """The plan of one recorder on `own` connections. As `plan_capacity`."""
    wishes = [wish_of(one) for one in universe.chosen if one.shard == shard]
    if shard:
        more = {"indices": (), **more}  # one recorder has them
    return plan_capacity(wishes, universe.day, own, **more)


def wish_of(one: Chosen) -> Wish:
    return Wish(one.code, one.load)


def _dated(wishes: Sequence[Wish], day: date, notes: list[str]) -> dict[str, Wish]:
    """Delivered code → what was asked for, each code once."""
    found: dict[str, Wish] = {}
    for wish in wishes:
        code = concrete_code(wish.asked, day)
        instrument(code)
        if code in found:
            notes.append(f"{wish.asked} is {code}, which is asked for already as {found[code].asked}")
            continue
        found[code] = wish
    return found


def _depths(lanes: Mapping[str, int], budget: int, books_min: int) -> dict[str, tuple[Depth, int]]:
    """Code → (depth, lanes), from the lanes each should have, in order of rank. The first have books, the last nothing.

    As many as can have trades have them when the first `books_min` have books, too; what is then left is for books.
    """
    given: dict[str, tuple[Depth, int]] = dict.fromkeys(lanes, (Depth.NOTHING, 1))
    left = budget
    for place, (code, count) in enumerate(lanes.items()):
        depths = (Depth.BOOKS, Depth.TRADES) if place < books_min else (Depth.TRADES,)
        choices = [(depth, lane) for depth in depths for lane in range(count, 0, -1)]
        choice = next((choice for choice in choices if _topics(*choice) <= left), None)
        if choice is None:
            break
        given[code] = choice
        left -= _topics(*choice)
    for code, (depth, count) in given.items():
        if depth is Depth.TRADES:
            if left < count:
                break  # ranks decide: a later one does not get what this one could not
            given[code] = (Depth.BOOKS, count)
            left -= count
    return given


def _topics(depth: Depth, lanes: int) -> int:
    return lanes * len(FEEDS[depth])


# Which connection


class _Room:
    """How full the connections are while places are given."""

    def __init__(self, connections: int, cap: int) -> None:
        self.free = [cap] * connections
        self.load = [0] * connections

    def take(self, place: Place, connection: int) -> Place:
        self.free[connection] -= len(place.topics())
        self.load[connection] += place.load
        return replace(place, connection=connection)

    def lightest(self, among: Sequence[int], topics: int) -> int | None:
        fitting = [number for number in among if self.free[number] >= topics]
        return min(fitting, key=lambda number: (self.load[number], number), default=None)


def _placed(
    wanted: Sequence[Place], connections: int, cap: int, before: Plan | None, notes: list[str]
) -> tuple[Place, ...]:
    room = _Room(connections, cap)
    done: dict[str, Place] = {place.code: place for place in wanted if place.depth is Depth.NOTHING}
    stood = {place.code: place for place in before.places} if before else {}
    staying = [place for place in wanted if place.topics() and place.code in stood]
    # Who needs no more topics than before has its place for certain; who needs more may have to move for them.
    for place in sorted(staying, key=lambda place: len(place.topics()) > len(stood[place.code].topics())):
        number = stood[place.code].connection
        if number is None or number >= connections:
            continue
        # Less than it should have, where it stands: to move it would lose what comes meanwhile.
        fitting = (one for one in _shallower(place) if room.free[number] >= len(one.topics()))
        if (kept := next(fitting, None)) is not None:
            done[place.code] = room.take(kept, number)
    rest = [place for place in wanted if place.code not in done]
    of_market = _routes(wanted, list(done.values()), connections, cap, notes)
    # Whoever needs most topics first: then what is left of a connection always fits those who need less.
    for place in sorted(rest, key=lambda place: (-len(place.topics()), -place.load, place.code)):
        done[place.code] = _give(place, of_market[_market(place)], room)
    return tuple(done[place.code] for place in wanted)


def _give(place: Place, among: Sequence[int], room: _Room) -> Place:
    """The lightest connection of its market, else any; with less where the topics left are scattered."""
    for candidate in _shallower(place):
        for numbers in (among, range(len(room.free))):
            number = room.lightest(numbers, len(candidate.topics()))
            if number is not None:
                return room.take(candidate, number)
    return replace(place, depth=Depth.NOTHING, odd_lot=False, reason="no connection has a topic left")


def _shallower(place: Place) -> list[Place]:
    """The place as wanted, and what is left of it when it must do with less."""
    reason = "no connection has that many topics left"
    found = [place]
    if place.odd_lot:
        found.append(replace(place, odd_lot=False, reason=reason))
    if place.depth is Depth.BOOKS:
        found.append(replace(place, odd_lot=False, depth=Depth.TRADES, reason=reason))
    return found


def _market(place: Place) -> Market:
    return Market.STOCK if place.depth is Depth.INDEX else instrument(place.code).market


def _routes(
    wanted: Sequence[Place], kept: Sequence[Place], connections: int, cap: int, notes: list[str]
) -> dict[Market, list[int]]:
    """Market → its connections: apart where both fit, the load even. Connections in use keep their market."""
    topics, load = dict.fromkeys(Market, 0), dict.fromkeys(Market, 0)
    for place in wanted:
        topics[_market(place)] += len(place.topics())
        load[_market(place)] += place.load if place.topics() else 0
    futures_first = list(range(connections))
    if not topics[Market.FUTURES] or not topics[Market.STOCK]:
        return dict.fromkeys(Market, futures_first)
    held: dict[int, set[Market]] = {number: set() for number in futures_first}
    for place in kept:
        if place.connection is not None:
            held[place.connection].add(_market(place))
    splits = {
        split: max(Fraction(load[Market.FUTURES], split), Fraction(load[Market.STOCK], connections - split))
        for split in range(1, connections)
        if topics[Market.FUTURES] <= split * cap and topics[Market.STOCK] <= (connections - split) * cap
    }
    if not splits or any(len(markets) > 1 for markets in held.values()):
        notes.append(f"futures and stocks share connections: {connections} are not enough to keep them apart")
        return dict.fromkeys(Market, futures_first)
    # Those that have futures already, then empty ones, then those that have stocks.
    order = sorted(futures_first, key=lambda number: (Market.STOCK in held[number], not held[number], number))
    split = min(splits, key=lambda split: (splits[split], split))
    split = max(split, sum(Market.FUTURES in markets for markets in held.values()))
    split = min(split, connections - max(1, sum(Market.STOCK in markets for markets in held.values())))
    return {Market.FUTURES: order[:split], Market.STOCK: order[split:]}
