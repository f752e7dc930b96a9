"""Whole days that go wrong, from the recorder to the certificate: every lot is accounted for, every trade there once.

SHIJIM_DAYS says how many seeded days are played (default 4). A backfill is killed at nine of its steps, at every one
from 10 days on.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from faulty_day import Day, Stream, audited, in_the_lake, lots_by_stream, recorded_with_faults

from shijim_live.broker.history import History, Metered, Quota
from shijim_live.broker.simulated import SimulationConfig
from shijim_live.broker.simulated_history import Defect, SimulatedHistory
from shijim_live.calendar import next_trading_day
from shijim_pipelines.proof import ledger
from shijim_pipelines.proof.backfill import Backfilled, backfill_day
from shijim_pipelines.proof.certificate import Certificates, certify_day
from shijim_pipelines.proof.ledger import State, ledger_path, open_gaps, read_ledger, standing

DAYS = int(os.environ.get("SHIJIM_DAYS", "4"))


def backfilled(day: Day, history: History | None = None) -> Backfilled:
    arguments = (day.day, day.archive, day.wal, day.reports, day.market)
    return backfill_day(*arguments, history or day.history(), "test", day.over_ns)


def certified(day: Day) -> Certificates:
    wanted = day.exchange.codes
    return certify_day(day.day, day.archive, day.reports, day.market, day.over_ns, "test", wanted)


def missing_by_ledger(day: Day) -> dict[Stream, int]:
    """Lots of every gap that stands, filled or not."""
    found: Counter[Stream] = Counter()
    for entry in standing(read_ledger(day.reports, day.day)).values():
        if entry.state is not State.SUPERSEDED and entry.gap and entry.gap.gap_type == "volume":
            found[ledger.stream_of(entry.gap)[:2]] += entry.lots
    return dict(found)


def volume_states(day: Day) -> Counter[str]:
    newest = standing(read_ledger(day.reports, day.day)).values()
    return Counter(str(entry.state) for entry in newest if entry.gap and entry.gap.gap_type == "volume")


def assert_whole(day: Day) -> None:
    """Every trade the exchange made is in the lake once, and certified."""
    truth = sorted(day.truth.values())
    assert in_the_lake(day) == truth
    made = certified(day)
    lots = lots_by_stream(truth)
    assert {(c.code, c.session): (c.verdict, c.lots, c.closing) for c in made.certificates if c.lots} == {
        stream: ("PROVEN", volume, volume) for stream, volume in lots.items()
    }
    assert set(volume_states(day)) <= {"VERIFIED"}


def prepared(folder: Path, seed: int) -> tuple[Day, dict[Stream, int]]:
    """A recorded and audited day, and the lots by stream that are really missing."""
    day = Day(_nth_day(seed), seed, folder)
    there = recorded_with_faults(day)
    audited(day)
    return day, lots_by_stream([what for stamp, what in day.truth.items() if stamp not in there])


def _nth_day(seed: int) -> date:
    day = date(2026, 3, 2)
    for _ in range(seed % 60):
        day = next_trading_day(day)
    return day


@pytest.mark.parametrize("seed", range(1, DAYS + 1))
def test_a_day_that_goes_wrong_in_every_way_is_whole_again_and_proven(tmp_path: Path, seed: int) -> None:
    day, missing = prepared(tmp_path, seed)
    assert len(missing) >= 6
    assert missing_by_ledger(day) == missing
    # One that falls into an outage has that as its cause.
    assert {e.cause for e in open_gaps(day.reports, day.day)} >= {"absent", "outage", "feed_loss"}
    done = backfilled(day)
    assert (done.lots, done.left, done.exhausted) == (sum(missing.values()), (), "")
    assert_whole(day)
    assert missing_by_ledger(day) == missing
    filled = {(c.code, c.session): c.lots_backfilled for c in certified(day).certificates if c.lots_backfilled}
    assert filled == missing


@pytest.fixture(scope="module")
def recorded_day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Day, dict[Stream, int]]:
    return prepared(tmp_path_factory.mktemp("day"), 77)


@pytest.fixture
def day(recorded_day: tuple[Day, dict[Stream, int]], tmp_path: Path) -> Day:
    """A copy of the recorded day, to do something to."""
    made = recorded_day[0]
    shutil.copytree(made.folder, tmp_path / "copy")
    return Day(made.day, made.seed, tmp_path / "copy")


def files_of(day: Day) -> dict[str, bytes]:
    folders = (day.wal, day.archive, day.reports, day.market / "answers")
    paths = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(day.folder)): path.read_bytes() for path in paths}


def test_doing_it_again_asks_nothing_and_changes_nothing(day: Day) -> None:
    backfilled(day)
    certified(day)
    before = files_of(day)
    again = backfilled(day)
    assert (again.gaps, again.asked, again.run_id) == (0, (), "")
    certified(day)
    audited(day)
    assert files_of(day) == before


def test_a_ledger_that_was_lost_is_made_again_from_what_is_archived(day: Day) -> None:
    backfilled(day)
    ledger_path(day.reports, day.day).unlink()
    audited(day)
    again = backfilled(day)
    assert (again.asked, again.trades, again.left) == ((), 0, ())
    assert set(volume_states(day)) == {"BACKFILLED"}
    assert_whole(day)


def test_two_backfills_at_once_fill_every_gap_once(day: Day) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_child, args=(day.day, day.seed, day.folder, 0)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(list(day.wal.glob("backfill-*"))) == 1
    assert_whole(day)


# What a backfill does to the disk, one after the other; the child dies before the one with the given number.
STEPS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "fcntl.flock")


def _child(day: date, seed: int, folder: Path, die_at: int) -> None:
    made = Day(day, seed, folder)
    count = 0

    def step(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        writes = event == "open" and str(arguments[0]).startswith(str(folder)) and arguments[1] not in ("r", "rb", None)
        if event in STEPS or writes:
            count += 1
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    history = made.history()
    sys.addaudithook(step)
    backfilled(made, history)
    counted = count
    (folder / "steps").write_text(str(counted))


def run_child(day: Day, die_at: int) -> int:
    code = f"import datetime, pathlib, test_days; test_days._child(datetime.{day.day!r}, {day.seed}, pathlib.Path({str(day.folder)!r}), {die_at})"  # noqa: E501
    code = code.replace("datetime.datetime.", "datetime.")
    place = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": place}, check=False).returncode


def test_a_backfill_killed_at_any_step_is_finished_by_the_next_one(
    recorded_day: tuple[Day, dict[Stream, int]], tmp_path: Path
) -> None:
    made = recorded_day[0]

    def copy(name: str) -> Day:
        shutil.copytree(made.folder, tmp_path / name)
        return Day(made.day, made.seed, tmp_path / name)

    counting = copy("counting")
    assert run_child(counting, 0) == 0
    steps = int((counting.folder / "steps").read_text())
    assert steps > 60
    every = 1 if DAYS >= 10 else max(1, steps // 9)
    for die_at in range(1, steps + 1, every):
        killed = copy(f"killed-{die_at}")
        assert run_child(killed, die_at) == -signal.SIGKILL
        done = backfilled(killed)
        assert done.left == ()
        assert_whole(killed)
        assert [path.name for path in killed.folder.iterdir() if path.name.startswith(".backfill")] == []
        shutil.rmtree(killed.folder)


WRONG = [defect for defect in Defect if defect is not Defect.LYING_TOTALS]


@pytest.mark.parametrize("defect", WRONG)
def test_a_history_that_is_wrong_fills_what_it_proves_and_never_anything_else(
    recorded_day: tuple[Day, dict[Stream, int]], day: Day, defect: Defect
) -> None:
    missing = recorded_day[1]
    backfilled(day, day.history(frozenset({defect})))
    there = in_the_lake(day)
    truth = set(day.truth.values())
    assert len(set(there)) == len(there) and set(there) <= truth
    short = lots_by_stream(sorted(truth - set(there)))
    made = certified(day)
    assert {(c.code, c.session): c.lots_missing for c in made.certificates if c.lots_missing} == short
    assert all(c.verdict == ("SHORT" if (c.code, c.session) in short else "PROVEN") for c in made.certificates)
    told = {(c.code, c.session): sum(w.lots for w in c.windows) for c in made.certificates if c.windows}
    assert told == short
    if defect in (Defect.NO_TOUCH, Defect.FIXED_PRICE):
        assert short == {}
    else:
        assert short and (defect is not Defect.EMPTY or short == missing)
        assert list((day.market / "quarantine").rglob("*.parquet"))
    # With a history that is right again, the rest is filled.
    assert backfilled(day).left == ()
    assert_whole(day)


def test_closing_totals_that_lie_certify_nothing_that_is_not_so(tmp_path: Path) -> None:
    day = Day(_nth_day(5), 5, tmp_path)
    recorded_with_faults(day)
    audited(day, frozenset({Defect.LYING_TOTALS}))
    backfilled(day)
    there, lots = in_the_lake(day), lots_by_stream(list(day.truth.values()))
    assert len(set(there)) == len(there) and set(there) <= set(day.truth.values())
    made = certified(day)
    for one in made.certificates:
        assert one.verdict != "PROVEN" or one.closing == one.lots == lots[one.code, one.session]
    assert sum(one.verdict == "PROVEN" for one in made.certificates) < len(made.certificates) // 2


def test_a_quota_that_ends_in_the_middle_is_gone_on_with_when_there_is_one_again(day: Day) -> None:
    now_ns = day.over_ns

    def metered() -> Metered:
        quota = Quota(day.market / "small.json", now_ns=lambda: now_ns, sleep=lambda _: None, bytes_max=16_150_000)
        config = SimulationConfig(target_events=day.events)
        return Metered(SimulatedHistory(day.seed, config, now_ns=lambda: now_ns), quota)

    first = backfilled(day, metered())
    assert 0 < len(first.asked) < 10 and first.gaps and first.left
    assert "bytes of today's traffic are used" in first.exhausted and "It resets on" in first.exhausted
    assert {left.reason for left in first.left} == {first.exhausted}
    assert set(volume_states(day)) == {"BACKFILLED", "CLASSIFIED"}
    verdicts = Counter(one.verdict for one in certified(day).certificates)
    assert verdicts["SHORT"] and verdicts["PROVEN"]
    assert backfilled(day, metered()).asked == ()
    for _ in range(10):
        now_ns += 24 * 3_600 * 10**9
        if not backfilled(day, metered()).left:
            break
    assert_whole(day)
