"""`python -m benches`: measures everything, both sides in one run, and writes RESULTS.md. A missed hold is told."""

from __future__ import annotations

import argparse
import time
from datetime import datetime
from pathlib import Path

from benches import (
    audit,
    burst,
    callback,
    clickhouse,
    continuity,
    daily,
    dataset,
    durable,
    handoff,
    machine,
    memory,
    recovery,
    signals,
    simulated,
    size,
    universe,
    way,
    wear,
)
from benches.measure import FULL, QUICK, ROOT, Bench, Row

LIVE = (
    callback, handoff, durable, burst, wear, way, size, dataset, memory, recovery, continuity, signals, simulated
)  # fmt: skip
DAILY = (audit, universe, clickhouse, daily)
BENCHES = tuple(part.BENCH for part in (*LIVE, *DAILY))
RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = ("what", "ours", "rival or limit", "ratio", "hold", "met?")


def main() -> None:
    names = [bench.name for bench in BENCHES]
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about half a minute, and RESULTS.md stays as it is")
    parser.add_argument("--only", choices=names, action="append", help="one bench; RESULTS.md stays as it is")
    chosen = parser.parse_args()
    facts = machine.facts(ROOT)
    done: list[tuple[Bench, list[Row]]] = []
    for bench in BENCHES:
        if chosen.only and bench.name not in chosen.only:
            continue
        started = time.perf_counter()
        done.append((bench, bench.rows(QUICK if chosen.quick else FULL)))
        print(f"-- {bench.name}: {time.perf_counter() - started:.0f} s", flush=True)
        for row in done[-1][1]:
            print("   " + " · ".join(_cells(row)), flush=True)
    if not chosen.quick and not chosen.only:
        RESULTS.write_text(report(facts, done), encoding="utf-8")
        print(f"written: {RESULTS.relative_to(ROOT)}")


def report(facts: dict[str, str], done: list[tuple[Bench, list[Row]]]) -> str:
    """The whole page."""
    today = datetime.now().astimezone().date()
    held = [row.met for _, rows in done for row in rows if row.met is not None]
    lines = [
        f"# Results of {today}",
        "",
        f"Written by `make bench`; {sum(held)} of {len(held)} holds met. Medians over interleaved rounds: "
        "trust the ratios, the absolute figures are this machine's.",
        "",
        *(f"* {name}: {value}" for name, value in facts.items()),
        "",
        _line(HEAD),
        _line(["---"] * len(HEAD)),
        *(_line(_cells(row)) for _, rows in done for row in rows),
        "",
        "## How it is measured, and what bounds it",
        "",
    ]
    for bench, _ in done:
        lines += [f"**{bench.name}** – {bench.how}", f"*Bounded by:* {bench.bound}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(row: Row) -> list[str]:
    met = {True: "yes", False: "**no**", None: "–"}[row.met]
    return [row.what, row.ours, row.rival, row.ratio, row.hold, met]


if __name__ == "__main__":
    main()
