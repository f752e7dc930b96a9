"""Chooses what is recorded on a trading day from the days before it, and shares it out. Records nothing.

What a universe file is, and who reads it, is `shijim_live/universe.py`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import median_high

import pyarrow as pa

from shijim_live.broker.capacity import CONNECTIONS_RECORDING, Depth, plan_universe
from shijim_live.broker.history import History
from shijim_live.calendar import NotYet, previous_trading_day, require_trading_day, wall_clock
from shijim_live.store.parquet import write_durably
from shijim_live.universe import (
    CODES_A_SHARD_MAX,
    STRATEGIES,
    Chosen,
    Universe,
    encode_universe,
    read_universe,
    universe_path,
)
from shijim_pipelines.quotes import every_session, instruments_of, instruments_path, quotes_of, quotes_path
from shijim_pipelines.ranking import ranked
from shijim_pipelines.symbols import Rule, resolve, top_of

__all__ = ["UniverseRefused", "choose_universe", "describe", "listed", "rank", "read_universe", "shared_out",
           "write_universe"]  # fmt: skip

SHOWN_MAX = 20  # codes a terminal shows; the file has all


class UniverseRefused(ValueError):
    """No universe can be made of what is there; the text says why and what to do."""


def choose_universe(
    day: date,
    market_dir: Path,
    history: History | None,
    strategies: Sequence[str],
    limit: int,
    lookback_days: int,
    shards: int,
    *,
    as_of_ns: int,
    history_of: Callable[[date], History | None] | None = None,
    punished: Collection[str] = (),
    symbols: Sequence[Rule] = (),
    progress: Callable[[date, int, int], None] = lambda day, number, total: None,
) -> Universe:
    """The universe of `day` from the `lookback_days` trading days before it; what is not on disk is fetched first.

    `history` None asks nobody; `history_of` is whom to ask about each day before, None for a day that has no history.
    `punished` are codes under disposition, which trade by call auctions. `symbols` are a person's own list: it chooses,
    instead of `limit`, and the ranking says what @top is and how heavy a code is. `progress` is told each
    day that is there, its number from 1, and of how many. Raises SymbolsRefused, NotATradingDay, NotYet while the day
    before is not over, UniverseRefused, and what fetching raises.
    """
    days = _lookback(require_trading_day(day), lookback_days, as_of_ns)
    instruments = instruments_of(day, market_dir, history, as_of_ns)
    quotes, unknown = {}, []
    for number, before in enumerate(days, start=1):
        asked = history_of(before) if history_of else history
        if asked is None and history_of and not quotes_path(market_dir, before).exists():
            unknown.append(before)
            continue
        quotes[before] = quotes_of(before, market_dir, asked, as_of_ns)
        progress(before, number, len(days))
    lookback = tuple(quotes)
    if not lookback:
        raise UniverseRefused(f"{day}: of none of the {len(days)} trading days before it are quotes known")
    if symbols:
        chosen, notes = listed(symbols, quotes, instruments, day, strategies, shards, punished)
        limit = len(chosen)
    else:
        chosen, notes = rank(quotes, instruments, day, strategies, limit, shards, punished)
    notes = (*notes, *(f"{before} is left out: it was imported, and has no quotes" for before in unknown))
    inputs = sorted([instruments_path(market_dir, day), *(quotes_path(market_dir, before) for before in lookback)])
    return Universe(
        day=day,
        strategies=tuple(strategies),
        limit=limit,
        shards=shards,
        lookback=lookback,
        inputs={str(path.relative_to(market_dir)): hashlib.sha256(path.read_bytes()).hexdigest() for path in inputs},
        chosen=chosen,
        notes=notes,
    )


def _lookback(day: date, days: int, as_of_ns: int) -> tuple[date, ...]:
    """The days before, ascending. NotYet unless the last of them is over, to the last table."""
    found = [previous_trading_day(day)]
    known_ns = max(ns for _, ns in every_session(found[0]))
    if as_of_ns < known_ns:
        raise NotYet(
            f"the universe of {day} is chosen by what {found[0]} traded, which is known from {wall_clock(known_ns)} "
            f"Taipei on, and it is {wall_clock(as_of_ns):%Y-%m-%d %H:%M:%S}: rank {day} then"
        )
    while len(found) < days:
        found.append(previous_trading_day(found[-1]))
    return tuple(sorted(found))


def rank(
    quotes: Mapping[date, pa.Table],
    instruments: pa.Table,
    day: date,
    strategies: Sequence[str],
    limit: int,
    shards: int,
    punished: Collection[str] = (),
) -> tuple[tuple[Chosen, ...], tuple[str, ...]]:
    """(what is chosen, in order and shared out; what a person should know). Pure: nothing is read or asked.

    First the near month of every root among the instruments, by traded money. Then the strategies take turns, each with
    the best code that is not taken yet, until `limit` codes are chosen, futures included:

    volume      money traded a day, TWD, on average since the code has had quotes; a later day without a row counts 0
    volatility  average true range per last close, in millionths: the plain mean of the true ranges, which is how the
                average of Wilder (New Concepts in Technical Trading Systems, 1978) starts; not adjusted for dividends
    unusual     lots of the last day, in standard deviations (n − 1) from the mean of the days before, in thousandths

    The latter two ask for TRADED_TWD_MIN a day. Equal scores go by code. Who did not trade on the last day, or is
    punished, is left out. Raises UniverseRefused.
    """
    if not quotes or limit < 1 or shards < 1 or not strategies or set(strategies) - set(STRATEGIES):
        raise UniverseRefused(
            f"a ranking needs days of quotes ({len(quotes)}), a limit and shards above 0 ({limit}, {shards}) and some "
            f"of the strategies {', '.join(STRATEGIES)} ({', '.join(strategies)})"
        )
    chosen, notes = ranked(quotes, instruments, day, strategies, limit, punished)
    if not chosen:
        raise UniverseRefused(f"nothing can be chosen for {day}: {'; '.join(notes) or 'there are no instruments'}")
    if len(chosen) < limit:
        notes.append(f"{len(chosen)} of {limit} places are taken: no other code qualifies")
    return tuple(shared_out(chosen, shards)), tuple(notes)


def listed(
    symbols: Sequence[Rule],
    quotes: Mapping[date, pa.Table],
    instruments: pa.Table,
    day: date,
    strategies: Sequence[str],
    shards: int,
    punished: Collection[str] = (),
) -> tuple[tuple[Chosen, ...], tuple[str, ...]]:
    """What a person's list chooses, in its order and shared out. Pure. Raises SymbolsRefused, UniverseRefused."""
    every, notes = ranked(quotes, instruments, day, strategies, instruments.num_rows, punished)
    known = {one.code: one for one in every}
    names = dict(zip(instruments["code"].to_pylist(), instruments["name"].to_pylist(), strict=True))
    chosen = []
    picked, idle = resolve(symbols, names, list(known), day)
    for place, symbol in enumerate(picked, start=1):
        one = known.get(symbol.code, Chosen(symbol.code, place, 0, 0, {}, ()))
        chosen.append(replace(one, rank=place, reasons=(symbol.reason, *one.reasons)))
    if short := top_of(symbols) - len(every):
        notes += [f"@top asks for {short} codes more than can be ranked"] if short > 0 else []
    return tuple(shared_out(chosen, shards)), (*notes, *idle)


def shared_out(chosen: Sequence[Chosen], shards: int) -> list[Chosen]:
    """Every code on the shard with the least load so far, heaviest code first; trades and books stay together.

    A load of 0 is not known and counts as the median of the others. Raises UniverseRefused when a shard would have no
    code, or more than can be planned; how deep each is recorded is `shijim-live plan`.
    """
    if len(chosen) > shards * CODES_A_SHARD_MAX:
        needed = -(-len(chosen) // CODES_A_SHARD_MAX)
        raise UniverseRefused(
            f"{len(chosen):,} codes are more than {shards} shards take, {CODES_A_SHARD_MAX:,} each: set "
            f"TOTAL_SHARDS={needed} or more, or UNIVERSE_LIMIT={shards * CODES_A_SHARD_MAX} or less"
        )
    if len(chosen) < shards:
        raise UniverseRefused(
            f"{len(chosen)} codes cannot be shared by {shards} shards, one would record nothing: set "
            f"TOTAL_SHARDS={len(chosen)} or less, or a higher UNIVERSE_LIMIT"
        )
    known = [one.load for one in chosen if one.load > 0]
    loaded = [one if one.load > 0 else replace(one, load=median_high(known) if known else 1) for one in chosen]
    loads, counts = [0] * shards, [0] * shards
    shard_of: dict[str, int] = {}
    for one in sorted(loaded, key=lambda one: (-one.load, one.code)):
        shard = min((n for n in range(shards) if counts[n] < CODES_A_SHARD_MAX), key=lambda n: (loads[n], n))
        shard_of[one.code] = shard
        loads[shard] += one.load
        counts[shard] += 1
    return [replace(one, shard=shard_of[one.code]) for one in loaded]


def write_universe(universe: Universe, universe_dir: Path) -> Path:
    """`<day>.json`, whole or not at all; the same universe gives the same bytes."""
    return write_durably(universe_path(universe_dir, universe.day), encode_universe(universe))


def describe(universe: Universe) -> str:
    """For a person at a terminal: who was chosen and why, how it is shared out."""
    first, last = universe.lookback[0], universe.lookback[-1]
    lines = [
        f"Universe of {universe.day}: {len(universe.chosen)} codes by {', '.join(universe.strategies)}, "
        f"over {len(universe.lookback)} trading days from {first} to {last}",
        "",
        f"{'rank':>4}  {'code':<8} {'shard':>5} {'events a day':>13}  why",
    ]
    lines += [
        f"{one.rank:>4}  {one.code:<8} {one.shard:>5} {one.load:>13,}  {', '.join(one.reasons)}"
        for one in universe.chosen[:SHOWN_MAX]
    ]
    if len(universe.chosen) > SHOWN_MAX:
        lines.append(f"      … and {len(universe.chosen) - SHOWN_MAX} more in the file")
    lines.append("")
    for shard in range(universe.shards):
        of_shard = [one.load for one in universe.chosen if one.shard == shard]
        plan = plan_universe(universe, shard, max(CONNECTIONS_RECORDING, universe.shards))
        depths = Counter(place.depth for place in plan.places)
        lines.append(
            f"shard {shard}: {len(of_shard)} codes, {sum(of_shard):,} events a day; of {plan.connections} connections "
            f"{depths[Depth.BOOKS]} get trades and books, {depths[Depth.TRADES]} trades, "
            f"{depths[Depth.NOTHING]} nothing"
        )
    return "\n".join([*lines, *universe.notes])
