"""Volume continuity from columns: whatever was recorded, it says exactly what judging every record says."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import slow_audit
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import ns, trade, trades, write_log

from shijim_live.events import ABSENT_I64, ABSENT_U32, BrokerClass, Exchange, Flag, Lane, Trade
from shijim_pipelines.archive import archive_all
from shijim_pipelines.proof.day_segments import Manifests, files_of, segments_of
from shijim_pipelines.proof.row_groups import Sight
from shijim_pipelines.proof.volume import Judged, judge_files

DAY = date(2026, 4, 9)
NIGHT, OPEN = ns("2026-04-08 15:00:00"), ns("2026-04-09 08:45:00")
SECOND_NS = 1_000_000_000
STOCK = {"exchange": Exchange.TSE, "broker_class": BrokerClass.TICK_STK_V1}


def archived(folder: Path) -> list[tuple[str, Path]]:
    archive_all(folder / "wal", folder / "archive")
    segments, notes = segments_of(Manifests(folder / "archive"), DAY)
    assert notes == []
    return files_of(segments, folder / "archive", "ticks", DAY)


def said(judged: Judged) -> dict[object, object]:
    """What the program found, in the oracle's terms."""
    rows = {tally.last_row for tally in judged.tallies.values()}
    for tally in judged.tallies.values():
        rows |= {row for gap in tally.gaps for row in (gap.row_before, gap.row_after) if row is not None}
    seen = judged.sights(rows)

    def beside(row: int | None) -> object:
        at: Sight = seen[row]
        return None if row is None else (at.run_id, at.sequence, at.clock_ns, at.exchange_ns)

    found: dict[object, object] = {}
    for key, tally in judged.tallies.items():
        gaps = [
            (gap.total_from, gap.total_to, gap.basis, beside(gap.row_before), beside(gap.row_after),
             {lot for low, high in gap.missing for lot in range(low + 1, high + 1)})
            for gap in tally.gaps
        ]  # fmt: skip
        counts = (tally.trades, tally.lots, tally.judged, tally.basis, tally.total, beside(tally.last_row))
        found[key] = (*counts, tally.duplicates, tally.late, tally.resets, tally.excesses, gaps)
    return found


def wanted(tallies: dict[slow_audit.Key, slow_audit.SlowTally]) -> dict[object, object]:
    found: dict[object, object] = {}
    for key, it in tallies.items():
        gaps = [(gap.total_from, gap.total_to, gap.basis, gap.before, gap.after, gap.missing) for gap in it.gaps]
        counts = (it.trades, it.lots, it.judged, it.basis, it.total, it.last)
        verdicts = (it.verdicts[name] for name in ("duplicate", "late", "reset", "excess"))
        found[key] = (*counts, *verdicts, gaps)
    return found


def agree(folder: Path) -> dict[object, object]:
    files = archived(folder)
    found = said(judge_files(files))
    assert found == wanted(slow_audit.judge_files(files))
    return found


# What can happen to a stream: told as (what, amount).
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["next"] * 12
            + ["lose", "late"] * 4
            + ["repeat", "repeat", "alike", "reset", "excess", "zero", "old"]
            + ["no total", "no stamp", "suspect", "inferred", "trial", "odd", "restart", "session"]
        ),
        st.integers(1, 6),
    ),
    min_size=30,
    max_size=120,
)


class Story:
    """Plays steps: events of several runs, in the order of recording."""

    def __init__(self, codes: int) -> None:
        self.runs: list[list[Trade]] = [[]]
        self.codes = [(f"TXF{'ABCDEF'[at]}6", {}) if at % 2 else (f"23{30 + at}", STOCK) for at in range(codes)]
        self.totals = dict.fromkeys(range(codes), 0)
        self.odd = dict.fromkeys(range(codes), 0)
        self.lost: list[Trade] = []
        self.clock_ns = NIGHT

    def play(self, what: str, amount: int, at: int) -> None:
        self.clock_ns += amount * SECOND_NS
        code, of_stock = self.codes[at]
        stamp = max(self.clock_ns, OPEN + 900 * SECOND_NS) if of_stock else self.clock_ns
        told = [event for event in self.runs[-1] if event.code == code]
        if what == "restart":
            self.runs.append([])
        elif what == "session":
            self.clock_ns = max(self.clock_ns, OPEN)
            self.totals = {key: 0 if amount % 2 else total for key, total in self.totals.items()}
        elif what == "late" and self.lost:
            self.tell(self.lost.pop(amount % len(self.lost)))
        elif what in ("repeat", "alike", "old") and told:
            same = told[-min(amount * (20 if what == "old" else 1), len(told))]
            self.tell(replace(same, amount_e6=amount) if what == "alike" else same)
        elif what == "reset":
            self.totals[at] = 0
        elif what == "odd":
            self.odd[at] += amount * 10
            self.tell(trade(code, stamp, amount * 10, self.odd[at], lane=Lane.ODD, **of_stock))
        else:
            self.trade(what, amount, at, stamp)

    def trade(self, what: str, amount: int, at: int, stamp: int) -> None:
        code, of_stock = self.codes[at]
        volume = 0 if what == "zero" else amount + (3 if what == "excess" else 0)
        self.totals[at] += 0 if what == "zero" else amount
        event = trade(code, stamp, volume, max(self.totals[at], volume), **of_stock)
        if what == "lose":
            self.lost.append(event)
            return
        changes: dict[str, dict[str, int]] = {
            "no total": {"total_volume": ABSENT_U32},
            "no stamp": {"exchange_ns": ABSENT_I64},
            "suspect": {"flags": Flag.SUSPECT},
            "inferred": {"flags": Flag.TOTAL_INFERRED},
            "trial": {"lane": Lane.TRIAL},
        }
        self.tell(replace(event, **changes.get(what, {})))

    def tell(self, event: Trade) -> None:
        self.runs[-1].append(replace(event, received_ns=self.clock_ns + len(self.runs[-1])))


@settings(max_examples=150)
@given(st.integers(1, 3), STEPS, st.data())
def test_any_archive_is_judged_as_its_records_are(tmp_path_factory, codes, steps, data):
    story = Story(codes)
    for what, amount in steps:
        story.play(what, amount, data.draw(st.integers(0, codes - 1)))
    runs = [events for events in story.runs if events]
    if runs:
        folder = tmp_path_factory.mktemp("volume")
        for number, events in enumerate(runs):
            write_log(folder / "wal", events, run_id=f"{number:016x}", created_ns=events[0].received_ns)
        agree(folder)


def test_what_is_alike_but_not_equal_is_no_repeat(tmp_path):
    whole = trades("TXFD6", "2026-04-09 08:45:00", [2, 3, 4])
    write_log(tmp_path / "wal", [*whole, replace(whole[1], price_e6=1), whole[2]])
    ((trades_, *_, duplicates, late, _, excesses, _),) = agree(tmp_path).values()  # type: ignore[misc]
    assert (trades_, duplicates, late, excesses) == (4, 1, 1, 0)


def test_a_repeat_of_the_segment_before_is_judged_by_its_record(tmp_path):
    whole = trades("TXFD6", "2026-04-09 08:59:58", [2, 3, 4, 5])
    paths = write_log(tmp_path / "wal", [*whole, replace(whole[1], received_ns=whole[3].received_ns + 1)])
    assert len(paths) == 2
    ((*_, duplicates, _, _, _, gaps),) = agree(tmp_path).values()  # type: ignore[misc]
    assert (duplicates, gaps) == (1, [])


@pytest.mark.parametrize("distance", [62, 63, 64, 65])
def test_a_repeat_is_remembered_as_long_as_the_kernel_does(tmp_path, distance):
    whole = trades("TXFD6", "2026-04-09 08:45:00", [1] * 100, step_ns=1000)
    write_log(tmp_path / "wal", [*whole, replace(whole[-distance], received_ns=whole[-1].received_ns + 1)])
    ((*_, duplicates, _, _, _, _),) = agree(tmp_path).values()  # type: ignore[misc]
    assert duplicates == (distance <= 64)
