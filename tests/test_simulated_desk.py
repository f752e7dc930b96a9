"""The desk at which the simulated broker counts: it suspends and bans who asks too much, and never has to with us."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from made_records import ns
from test_quota import CLOSED, Clock

from shijim_live.broker.gateway import SUSPENDED_NS, LoginRefused
from shijim_live.broker.history import Metered, NotAnswered, Query, Quota, QuotaExhausted
from shijim_live.broker.patience import Patience
from shijim_live.broker.simulated import SimulationConfig
from shijim_live.broker.simulated_desk import DESK_QUERIES_MAX, OFFENCES_MAX, SUSPENDED_FOR_NS, SimulatedDesk
from shijim_live.broker.simulated_history import SimulatedHistory
from shijim_live.calendar import SECOND_NS

DAY = date(2026, 4, 9)
SMALL = SimulationConfig(target_events=300)
PROCESSES = 3
QUESTIONS = 90  # a process; together five windows of the quota


def desk(folder: Path, now_ns: Callable[[], int], **options: Any) -> SimulatedDesk:
    return SimulatedDesk(folder / "desk.json", now_ns=now_ns, **options)


# What the desk does


def test_fifty_in_five_seconds_are_taken_and_one_more_is_suspended_for_a_minute(tmp_path: Path) -> None:
    clock = Clock()
    there = desk(tmp_path, clock.now_ns)
    for _ in range(2):
        for _ in range(DESK_QUERIES_MAX):
            there.admit(Query.PUNISH)
        clock.ns += 5 * SECOND_NS
    clock.ns -= 1
    with pytest.raises(NotAnswered, match="503: suspended") as refused:
        there.admit(Query.PUNISH)
    assert refused.value.wait_ns == SUSPENDED_NS > SUSPENDED_FOR_NS
    clock.ns += SUSPENDED_FOR_NS
    there.admit(Query.PUNISH)
    assert there.offences == 1


def test_who_asks_while_suspended_is_banned_for_good(tmp_path: Path) -> None:
    clock = Clock()
    there = desk(tmp_path, clock.now_ns)
    for _ in range(DESK_QUERIES_MAX):
        there.admit(Query.PUNISH)
    for _ in range(OFFENCES_MAX):
        with pytest.raises(NotAnswered):
            there.admit(Query.PUNISH)
    clock.ns += 10 * SUSPENDED_FOR_NS
    there.admit(Query.PUNISH)
    for _ in range(DESK_QUERIES_MAX - 1):
        there.admit(Query.PUNISH)
    for _ in range(2):
        with pytest.raises(LoginRefused, match="has banned this person"):
            there.admit(Query.PUNISH)


def test_ticks_of_an_open_session_are_counted_apart_and_again_from_the_next_reset(tmp_path: Path) -> None:
    clock = Clock("2026-04-09 10:00:00")
    there = desk(tmp_path, clock.now_ns)
    for _ in range(10):
        there.admit(Query.TICKS)
    there.admit(Query.NOTICE)
    with pytest.raises(NotAnswered):
        there.admit(Query.TICKS)
    clock.at("2026-04-10 09:30:00")
    there.admit(Query.TICKS)


# Several processes, one quota, one desk


class SharedClock:
    """One clock of several processes: it stands while any of them has a question under way, and passes by sleeping."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR)

    def now_ns(self) -> int:
        fcntl.flock(self._file, fcntl.LOCK_SH)
        return int(os.pread(self._file, 19, 0))

    def sleep(self, seconds: float) -> None:
        until_ns = self.now_ns() + round(seconds * SECOND_NS)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        os.pwrite(self._file, str(max(until_ns, int(os.pread(self._file, 19, 0)))).encode(), 0)
        self.done()

    def done(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)


def questions(chance: random.Random, past: Any) -> Callable[[], object]:
    """One of them, by chance."""
    code = chance.choice(("2330", "TXFD6"))
    return chance.choice((
        lambda: past.ticks(code, DAY),
        lambda: past.kbars(code, DAY, DAY),
        lambda: past.snapshots([code]),
        lambda: past.scanners("VolumeRank", DAY, count=3),
        lambda: past.daily_quotes(DAY),
        past.punish,
        past.notice,
        lambda: past.credit_enquires([code]),
    ))  # fmt: skip


def ask_at_random(folder: Path, seed: int, failures_percent: int, minded: bool) -> None:
    """One process: questions one after the other, now and then with a pause. `minded`: under the quota."""
    chance, clock = random.Random(f"process {seed}"), SharedClock(folder / "clock")
    past = SimulatedHistory(
        1, SMALL, now_ns=clock.now_ns, desk=desk(folder, clock.now_ns, failures_percent=failures_percent)
    )
    quota = Quota(folder / "quota.json", now_ns=clock.now_ns, sleep=clock.sleep)
    patience = Patience(now_ns=clock.now_ns, sleep=clock.sleep, chance=chance)
    asked: Any = Metered(past, quota, patience) if minded else past
    for _ in range(QUESTIONS):
        with suppress(QuotaExhausted, NotAnswered, LoginRefused):
            questions(chance, asked)()
        clock.done()
        if chance.random() < 0.2:
            clock.sleep(chance.random())


def in_processes(folder: Path, begin: str, failures_percent: int, minded: bool) -> SimulatedDesk:
    """What the desk says of them in the end."""
    (folder / "clock").write_text(str(ns(begin)))
    program = (
        "import pathlib, sys, test_simulated_desk as t\n"
        "t.ask_at_random(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))"
    )
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    running = [
        subprocess.Popen([sys.executable, "-c", program, folder, str(seed), str(failures_percent), str(int(minded))],
                         env=environ)
        for seed in range(PROCESSES)
    ]  # fmt: skip
    assert [process.wait(120) for process in running] == [0] * PROCESSES
    return desk(folder, SharedClock(folder / "clock").now_ns)


@pytest.mark.parametrize(
    ("begin", "failures_percent"), [(CLOSED, 0), ("2026-04-09 21:00:00", 0), ("2026-04-09 07:59:50", 15)]
)
def test_several_processes_that_ask_at_random_are_never_suspended(
    begin: str, failures_percent: int, tmp_path: Path
) -> None:
    there = in_processes(tmp_path, begin, failures_percent, minded=True)
    assert there.offences == 0
    assert there.asked > PROCESSES * QUESTIONS * 0.8  # what an open session refuses is not asked


def test_the_same_questions_without_a_quota_end_in_a_ban(tmp_path: Path) -> None:
    assert in_processes(tmp_path, CLOSED, 0, minded=False).offences > OFFENCES_MAX
