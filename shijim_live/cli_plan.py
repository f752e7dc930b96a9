"""`shijim-live plan`: who gets how many of the broker's topics. The plan itself is `broker/capacity.py`."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import orjson

from shijim_live import calendar
from shijim_live.broker.capacity import CONNECTIONS_RECORDING, Depth, Plan
from shijim_live.broker.followed_plan import Shares, plan_with_few
from shijim_live.command_line import Parser, Verbs, add_place, add_verb, day
from shijim_live.settings import Settings, SettingsError
from shijim_live.universe import TOPICS_MAX, Universe, read_universe, read_universe_file

SHOWN_MAX = 20  # codes a terminal shows of each depth; --json has all


def add_plan(verbs: Verbs) -> None:
    """The verb and its options."""
    verb = add_verb(verbs, "plan", run_plan, "who gets trades and books, trades, or nothing of the broker's topics")
    add_place(verb)
    verb.add_argument("--day", type=day, help="the trading day whose universe is shared out, YYYY-MM-DD")
    verb.add_argument("--universe", type=Path, metavar="PATH", help="a universe file instead of the day's")
    add_shares(verb)
    verb.add_argument("--json", action="store_true", help="the whole plan, every topic, for a script")


def add_shares(verb: Parser) -> None:
    """How the broker's topics are shared out; `record` and `plan` ask the same."""
    lines = f"logins that may record, of all recorders together, at most (default {CONNECTIONS_RECORDING})"
    verb.add_argument("--connections", type=_count, default=str(CONNECTIONS_RECORDING), metavar="N", help=lines)
    least = "the first N codes have books, whoever has nothing then (default: half of the topics)"
    verb.add_argument("--books", type=_count, metavar="N", help=least)
    verb.add_argument("--odd-lots", type=_count, default="0", metavar="N", help="odd lots of the first N stocks, too")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def run_plan(arguments: argparse.Namespace) -> int:
    """Prints the plan of every recorder of a universe."""
    settings = Settings.from_environment(arguments.profile, data_dir=arguments.data_dir)
    calendar.follow(settings.calendar_overrides)
    if (arguments.day is None) == (arguments.universe is None):
        raise SettingsError(["say whose plan: --day like 2026-04-09, or --universe PATH, one of the two"])
    universe = (
        read_universe_file(arguments.universe)
        if arguments.universe is not None
        else read_universe(settings.universe_dir, arguments.day)
    )
    plans = [
        plan_with_few(
            universe, Shares(shard, universe.shards, arguments.connections, arguments.books, arguments.odd_lots)
        )
        for shard in range(universe.shards)
    ]
    if arguments.json:
        print(orjson.dumps([plan.as_json() for plan in plans], option=orjson.OPT_INDENT_2).decode())
    else:
        print(describe(universe, plans, arguments.connections))
    return 0


def describe(universe: Universe, plans: list[Plan], most: int) -> str:
    """For a person at a terminal."""
    places = [place for plan in plans for place in plan.places]
    depths = Counter(place.depth for place in places)
    odd = sum(place.odd_lot for place in places)
    lines = [
        f"Plan of {universe.day}: {len(universe.chosen)} codes on {sum(plan.connections for plan in plans)} of "
        f"{most} connections, {TOPICS_MAX} topics each; odd lots of {odd}",
        "",
    ]
    for depth in Depth:
        codes = [place.code if place.code == place.asked else f"{place.code} ({place.asked})"
                 for place in places if place.depth is depth]  # fmt: skip
        if codes:
            more = f" … and {len(codes) - SHOWN_MAX} more" if len(codes) > SHOWN_MAX else ""
            lines.append(f"{depth:<17} {depths[depth]:>5}  {' '.join(codes[:SHOWN_MAX])}{more}")
    lines += ["", f"{'recorder':>8} {'connection':>10} {'topics':>6} {'codes':>5} {'events a day':>13}"]
    for shard, plan in enumerate(plans):
        for number in range(plan.connections):
            of_it = [place for place in plan.places if place.connection == number]
            load = sum(place.load for place in of_it if place.depth is not Depth.INDEX)
            lines.append(f"{shard:>8} {number:>10} {len(plan.topics(number)):>6} {len(of_it):>5} {load:>13,}")
    return "\n".join([*lines, *(note for plan in plans for note in plan.notes)])
