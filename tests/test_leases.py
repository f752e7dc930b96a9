"""A person's connections and logins are one budget of every process, and what a dead process had is free again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shijim_live.broker.leases import (
    CONNECTIONS_MAX,
    PERSON_LOGINS_MAX,
    PLACES,
    Leases,
    LeasesDamaged,
    NoConnectionLeft,
    Role,
    logins_wait_ns,
)
from shijim_live.calendar import DAY_NS, MINUTE_NS, SECOND_NS

ROOT = Path(__file__).parents[1]
HOLD = """
import sys, time
from pathlib import Path
from shijim_live.broker.leases import Leases, Role
held = Leases(Path(sys.argv[1])).take(Role(sys.argv[2]))
print(held.lease.number, flush=True)
time.sleep(60)
"""


def holder(folder: Path, role: Role) -> subprocess.Popen[str]:
    """Another process that has a connection, and does not give it back."""
    command = [sys.executable, "-c", HOLD, str(folder), role]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit()
    return process


def test_one_connection_is_for_trading_one_for_history_and_the_rest_for_quotes() -> None:
    places = [number for role in Role for number in PLACES[role]]
    assert sorted(places) == list(range(CONNECTIONS_MAX))
    assert len(PLACES[Role.TRADING]) == len(PLACES[Role.HISTORY]) == 1


def test_a_role_gets_its_connections_and_not_one_more(tmp_path: Path) -> None:
    leases = Leases(tmp_path)
    held = [leases.take(Role.QUOTES) for _ in PLACES[Role.QUOTES]]
    with pytest.raises(NoConnectionLeft, match=f"quotes: process {os.getpid()} on"):
        leases.take(Role.QUOTES)
    with leases.take(Role.TRADING) as trading:
        assert trading.number in PLACES[Role.TRADING], "what is reserved is not taken by quotes"
    assert [lease.role for lease in leases.leased()] == ["quotes"] * 3
    for one in held:
        one.close()
    assert leases.leased() == []


def test_a_killed_process_gives_its_connection_back(tmp_path: Path) -> None:
    process = holder(tmp_path, Role.TRADING)
    try:
        leases = Leases(tmp_path)
        [lease] = leases.leased()
        assert (lease.pid, lease.role) == (process.pid, "trading")
        with pytest.raises(NoConnectionLeft, match=f"process {process.pid}"):
            leases.take(Role.TRADING)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with leases.take(Role.TRADING) as mine:
        assert mine.pid == os.getpid()


def test_logins_are_taken_until_the_limit_and_then_the_wait_is_said(tmp_path: Path) -> None:
    now_ns = 10 * DAY_NS
    leases = Leases(tmp_path, lambda: now_ns)
    count, window_ns = PERSON_LOGINS_MAX[0]
    for _ in range(count):
        assert leases.charge_login() == 0
        now_ns += SECOND_NS
    assert leases.charge_login() == window_ns - count * SECOND_NS
    assert len(leases.logins()) == count
    now_ns += window_ns
    assert leases.charge_login() == 0


def test_one_process_that_is_sent_away_keeps_the_others_from_asking(tmp_path: Path) -> None:
    now_ns = 10 * DAY_NS
    one, other = Leases(tmp_path, lambda: now_ns), Leases(tmp_path, lambda: now_ns)
    one.sent_away(90 * SECOND_NS)
    assert other.charge_login() == 90 * SECOND_NS
    now_ns += 90 * SECOND_NS
    assert other.charge_login() == 0


def charge_many(folder: Path, times: int) -> int:
    leases = Leases(folder, lambda: 10 * DAY_NS)
    return sum(leases.charge_login() == 0 for _ in range(times))


def test_processes_that_log_in_at_once_share_one_account(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        taken = pool.starmap(charge_many, [(tmp_path, 10)] * 3)
    assert sum(taken) == PERSON_LOGINS_MAX[0][0] < 30


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'{"version":2}', b'{"version":1,"logins_ns":[-1]}'])
def test_a_damaged_account_is_an_error_that_says_what_to_do_and_stays(tmp_path: Path, text: bytes) -> None:
    leases = Leases(tmp_path)
    leases.path.write_bytes(text)
    with pytest.raises(LeasesDamaged, match="then remove the file"):
        leases.charge_login()
    assert leases.path.read_bytes() == text


@given(
    st.lists(st.integers(0, 60 * MINUTE_NS), max_size=60).map(sorted),
    st.integers(0, 60 * MINUTE_NS),
)
def test_a_login_behind_the_wait_keeps_every_window_and_one_before_it_would_not(stamps: list[int], now_ns: int) -> None:
    limits = ((3, MINUTE_NS), (6, 15 * MINUTE_NS))
    before = [stamp for stamp in stamps if stamp <= now_ns]
    wait_ns = logins_wait_ns(before, now_ns, limits)

    def broken(at_ns: int) -> bool:
        return any(sum(at_ns - stamp < window for stamp in before) >= count for count, window in limits)

    assert not broken(now_ns + wait_ns)
    if wait_ns:
        assert broken(now_ns + wait_ns - 1)


def test_a_clock_that_was_fast_and_is_corrected_locks_nobody_out(tmp_path: Path) -> None:
    hour_ns = 60 * MINUTE_NS
    now = [100 * hour_ns]
    leases = Leases(tmp_path, lambda: now[0])
    for _ in range(PERSON_LOGINS_MAX[0][0]):
        assert leases.charge_login() == 0
    leases.sent_away(90 * SECOND_NS)
    now[0] -= 8 * hour_ns
    assert leases.sent_away_ns() == 0, "it was sent away in a future that is none"
    assert leases.charge_login() == PERSON_LOGINS_MAX[0][1], "those logins were just now, and no longer than that"
    now[0] += PERSON_LOGINS_MAX[0][1]
    assert leases.charge_login() == 0
