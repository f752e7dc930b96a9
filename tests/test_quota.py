"""What asking costs: the budgets of one account, shared by processes, and whose history a recorded day has."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from made_records import ns, trades, write_log

from shijim_live.broker.history import HistoryUnavailable, Metered, Query, Quota, QuotaDamaged, QuotaExhausted
from shijim_live.broker.quota import (
    INTRADAY_CALLS_MAX,
    QUERIES_MAX,
    QUERY_WINDOW_NS,
    RESERVED_BYTES,
    TRAFFIC_BYTES_MAX,
    last_reset_day,
)
from shijim_live.broker.simulated import SimulationConfig
from shijim_live.broker.simulated_history import Defect, SimulatedHistory
from shijim_live.calendar import SECOND_NS, NotATradingDay
from shijim_pipelines.history import history_for

DAY = date(2026, 4, 9)
CLOSED = "2026-04-09 14:00:00"  # between the sessions
SMALL = SimulationConfig(target_events=2_000)


class Clock:
    """A clock that moves only when somebody sleeps, or is told to."""

    def __init__(self, text: str = CLOSED) -> None:
        self.ns = ns(text)
        self.slept: list[float] = []

    def now_ns(self) -> int:
        return self.ns

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ns += round(seconds * 1_000) * 1_000_000

    def at(self, text: str) -> None:
        self.ns = ns(text)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "market" / "quota.json"


def quota(path: Path, clock: Clock, bytes_max: int = TRAFFIC_BYTES_MAX) -> Quota:
    return Quota(path, now_ns=clock.now_ns, sleep=clock.sleep, bytes_max=bytes_max)


def paid(of: Quota, query: Query, times: int = 1) -> None:
    """Questions whose answers were empty."""
    for _ in range(times):
        of.settle(of.charge(query), 0)


# Fifty in ten seconds


def test_the_fifty_first_question_waits_until_the_first_is_ten_seconds_old(path: Path, clock: Clock) -> None:
    budget = quota(path, clock)
    paid(budget, Query.KBARS)
    clock.ns += 3 * SECOND_NS
    paid(budget, Query.DAILY_QUOTES, QUERIES_MAX - 1)
    assert clock.slept == []
    paid(budget, Query.KBARS)
    assert [round(seconds) for seconds in clock.slept] == [7]
    paid(budget, Query.KBARS)
    assert [round(seconds) for seconds in clock.slept] == [7, 3]


def test_the_ten_seconds_do_not_begin_anew_when_the_traffic_does(path: Path) -> None:
    clock = Clock("2026-04-10 07:59:58")
    budget = quota(path, clock)
    paid(budget, Query.KBARS, QUERIES_MAX)
    clock.at("2026-04-10 08:00:01")
    paid(budget, Query.KBARS)
    assert [round(seconds) for seconds in clock.slept] == [7]


@examples(max_examples=30)
@given(gaps_ms=st.lists(st.integers(0, 2_000), min_size=60, max_size=130))
def test_no_ten_seconds_ever_hold_more_than_fifty_questions(
    gaps_ms: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock = Clock()
    budget = quota(tmp_path_factory.mktemp("quota") / "quota.json", clock)
    asked = []
    for gap_ms in gaps_ms:
        clock.ns += gap_ms * 1_000_000 // 10
        paid(budget, Query.SNAPSHOTS)
        asked.append(clock.ns)
    assert all(later - earlier >= QUERY_WINDOW_NS for earlier, later in zip(asked, asked[QUERIES_MAX:], strict=False))


def in_another_process(path: Path, body: str, wait: bool = True) -> subprocess.Popen[str]:
    """Python that charges the same file at the same frozen instant."""
    program = f"""
import os, pathlib, sys
from shijim_live.broker.history import Query, Quota
quota = Quota(pathlib.Path({str(path)!r}), now_ns=lambda: {ns(CLOSED)}, sleep=lambda seconds: os._exit(7))
{body}
"""
    started = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    if wait:
        started.wait(30)
    return started


def test_processes_share_the_ten_seconds(path: Path, clock: Clock) -> None:
    other = in_another_process(path, "for _ in range(30): quota.settle(quota.charge(Query.KBARS), 0)")
    assert other.returncode == 0
    budget = quota(path, clock)
    paid(budget, Query.KBARS, QUERIES_MAX - 30)
    assert clock.slept == []
    assert in_another_process(path, "quota.charge(Query.KBARS)").returncode == 7  # it had to sleep
    paid(budget, Query.KBARS)
    assert [round(seconds) for seconds in clock.slept] == [10]


def test_nothing_is_lost_when_two_processes_charge_at_once(path: Path, clock: Clock) -> None:
    body = "for _ in range(20): quota.settle(quota.charge(Query.SNAPSHOTS), 1_000)"
    both = [in_another_process(path, body, wait=False) for _ in range(2)]
    assert [process.wait(30) for process in both] == [0, 0]
    assert quota(path, clock).spent().bytes == 2 * 20 * 1_000


# What a day holds


def test_traffic_is_charged_before_the_answer_and_replaced_by_what_it_took(path: Path, clock: Clock) -> None:
    budget = quota(path, clock)
    reserved = budget.charge(Query.TICKS)
    assert budget.spent().bytes == reserved == RESERVED_BYTES["ticks"]
    budget.settle(reserved, 1_234)
    assert budget.spent().bytes == 1_234


def test_a_crash_between_the_charge_and_the_answer_keeps_the_charge(path: Path, clock: Clock) -> None:
    assert in_another_process(path, "quota.charge(Query.TICKS); os._exit(3)").returncode == 3
    assert quota(path, clock).spent().bytes == RESERVED_BYTES["ticks"]


def test_a_used_up_budget_says_which_how_much_and_when_it_resets(path: Path, clock: Clock) -> None:
    budget = quota(path, clock, bytes_max=RESERVED_BYTES["ticks"] + 999)
    budget.settle(budget.charge(Query.TICKS), 1_000)
    with pytest.raises(QuotaExhausted, match=r"no ticks: 1,000 of 16,000,999 bytes .*2026-04-10 at 08:00 Taipei"):
        budget.charge(Query.TICKS)
    paid(budget, Query.KBARS)  # what still fits is answered
    assert budget.spent().bytes == 1_000


@pytest.mark.parametrize(
    ("spent_at", "asked_at", "whole"),
    [
        ("2026-04-09 07:59:59", "2026-04-09 08:00:00", True),
        ("2026-04-09 08:00:00", "2026-04-09 23:59:59", False),
        ("2026-04-09 23:59:59", "2026-04-10 07:59:59", False),
        ("2026-04-10 14:00:00", "2026-04-12 20:00:00", False),  # no reset at the weekend
        ("2026-04-10 14:00:00", "2026-04-13 08:00:00", True),
        ("2026-04-02 14:00:00", "2026-04-06 12:00:00", False),  # a holiday
        ("2026-04-10 08:00:01", "2026-04-10 07:59:00", False),  # the clock went back
    ],
)
def test_budgets_are_whole_again_at_eight_on_trading_days(
    spent_at: str, asked_at: str, whole: bool, path: Path
) -> None:
    clock = Clock(spent_at)
    budget = quota(path, clock)
    budget.settle(budget.charge(Query.KBARS), 5_000)
    clock.at(asked_at)
    assert budget.spent().bytes == (0 if whole else 5_000)


def test_the_last_reset_of_a_weekend_was_on_friday() -> None:
    assert last_reset_day(ns("2026-04-12 12:00:00")) == date(2026, 4, 10)
    assert last_reset_day(ns("2026-04-13 07:59:59")) == date(2026, 4, 10)
    assert last_reset_day(ns("2026-04-13 08:00:00")) == date(2026, 4, 13)


@pytest.mark.parametrize("query", [Query.TICKS, Query.KBARS])
def test_calls_are_counted_while_a_session_is_open_and_only_then(query: Query, path: Path, clock: Clock) -> None:
    budget = quota(path, clock)
    paid(budget, query, INTRADAY_CALLS_MAX[query] + 1)
    clock.at("2026-04-09 21:00:00")  # the night session
    paid(budget, query, INTRADAY_CALLS_MAX[query])
    with pytest.raises(QuotaExhausted, match=rf"{INTRADAY_CALLS_MAX[query]} of {INTRADAY_CALLS_MAX[query]} calls"):
        budget.charge(query)
    paid(budget, Query.SNAPSHOTS)
    clock.at("2026-04-10 05:30:00")
    paid(budget, query)
    clock.at("2026-04-10 09:30:00")  # behind the reset
    paid(budget, query)


# A damaged account


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 1}',
        b'{"version": 2, "day": "2026-04-09", "bytes": 0, "intraday": {}, "asked_ns": []}',
        b'{"version": 1, "day": "soon", "bytes": 0, "intraday": {}, "asked_ns": []}',
        b'{"version": 1, "day": "2026-04-09", "bytes": -1, "intraday": {}, "asked_ns": []}',
        b'{"version": 1, "day": "2026-04-09", "bytes": 1.5, "intraday": {}, "asked_ns": []}',
        b'{"version": 1, "day": "2026-04-09", "bytes": 0, "intraday": 3, "asked_ns": []}',
        b'{"version": 1, "day": "2026-04-09", "bytes": 0, "intraday": {}, "asked_ns": ["x"]}',
        b'{"version": 1, "day": 20260409, "bytes": 0, "intraday": {}, "asked_ns": []}',
    ],
)
def test_a_damaged_account_is_an_error_that_says_what_to_do_and_stays(content: bytes, path: Path, clock: Clock) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(QuotaDamaged, match=r"quota\.json: not an account .* 08:00 Taipei .* remove the file"):
        quota(path, clock).charge(Query.TICKS)
    assert path.read_bytes() == content


def test_an_interrupted_write_leaves_the_account_before_it(path: Path, clock: Clock) -> None:
    budget = quota(path, clock)
    budget.settle(budget.charge(Query.KBARS), 77)
    path.with_name("quota.json.draft").write_bytes(b'{"vers')
    assert quota(path, clock).spent().bytes == 77
    paid(budget, Query.KBARS)
    assert orjson.loads(path.read_bytes())["bytes"] == 77


# An empty answer


def metered(path: Path, clock: Clock, **options: object) -> Metered:
    past = SimulatedHistory(1, SMALL, now_ns=clock.now_ns, **options)  # type: ignore[arg-type]
    return Metered(past, quota(path, clock))


def test_what_an_answer_took_is_counted(path: Path, clock: Clock) -> None:
    asked = metered(path, clock)
    rows = len(asked.ticks("2330", DAY).ts)
    assert asked.quota.spent().bytes == rows * 8 * 9 > 0
    asked.kbars("2330", DAY, DAY)
    asked.snapshots(["2330"])
    asked.scanners("VolumeRank", DAY)
    before = asked.quota.spent().bytes
    assert len(orjson.loads(path.read_bytes())["asked_ns"]) == 4
    asked.instruments(DAY)
    asked.usage()
    assert asked.quota.spent().bytes == before > rows * 8 * 9
    assert asked.source == "simulated"


def test_an_answer_that_is_empty_for_want_of_traffic_is_never_given(path: Path, clock: Clock) -> None:
    asked = metered(path, clock, limit_bytes=2_000)
    assert asked.ticks("2330", DAY).ts  # the broker sends this one whole, and it uses everything up
    with pytest.raises(QuotaExhausted, match=r"empty and the broker says .* 2026-04-10 at 08:00"):
        asked.ticks("2317", DAY)
    for ask in (lambda: asked.ticks("2317", DAY), lambda: asked.snapshots(["2317"])):
        with pytest.raises(QuotaExhausted, match="bytes of today's traffic are used"):
            ask()
    clock.at("2026-04-10 08:00:00")
    assert asked.ticks("2317", DAY).ts


def test_a_broker_that_is_used_up_already_is_not_asked(path: Path, clock: Clock) -> None:
    past = SimulatedHistory(1, SMALL, now_ns=clock.now_ns, limit_bytes=2_000)
    past.ticks("2330", DAY)  # somebody else, under the same account
    sent = past.usage()["bytes"]
    with pytest.raises(QuotaExhausted, match="bytes of today's traffic are used"):
        Metered(past, quota(path, clock)).kbars("2330", DAY, DAY)
    assert past.usage()["bytes"] == sent


def test_an_empty_answer_with_traffic_left_is_an_answer(path: Path, clock: Clock) -> None:
    assert metered(path, clock).ticks("6488", DAY).ts == []
    assert metered(path, clock, defects=frozenset({Defect.EMPTY})).ticks("2330", DAY).ts == []


def test_a_question_that_cannot_be_put_gives_back_what_was_reserved_for_its_answer(path: Path, clock: Clock) -> None:
    asked = metered(path, clock)
    with pytest.raises(ValueError, match="ask for 1 to 30"):
        asked.kbars("2330", date(2026, 1, 1), DAY)
    assert asked.quota.spent().bytes == 0


# Whose history a recorded day has


def record(data_dir: Path, *options: str) -> Path:
    command = [sys.executable, "-m", "shijim_live", "record", "--metrics-port", "0", "--quiet", *options]
    subprocess.run([*command, "--data-dir", str(data_dir)], check=True, capture_output=True)
    return data_dir / "wal"


def simulated(data_dir: Path, seed: int = 1, events: int = 2_000, day: date = DAY) -> Path:
    options = ("--broker", "simulated", "--day", str(day), "--seed", str(seed), "--events", str(events))
    return record(data_dir, *options)


def same_market(found: Metered, seed: int, config: SimulationConfig | None, day: date = DAY) -> bool:
    expected = SimulatedHistory(seed, config, now_ns=lambda: ns("2030-01-02 12:00:00"))
    return found.ticks("2330", day).dict() == expected.ticks("2330", day).dict()


def test_the_history_is_that_of_the_exchange_that_was_recorded(tmp_path: Path) -> None:
    wal_dir = simulated(tmp_path, seed=5, events=2_000)
    simulated(tmp_path, seed=6, events=3_000, day=date(2026, 4, 10))
    found = history_for(DAY, wal_dir, tmp_path / "market")
    assert found.source == "simulated"
    assert same_market(found, 5, SimulationConfig(target_events=2_000))
    next_day = date(2026, 4, 10)
    assert same_market(
        history_for(next_day, wal_dir, tmp_path / "market"), 6, SimulationConfig(target_events=3_000), next_day
    )
    assert (tmp_path / "market" / "quota.json").exists()


def test_where_nothing_is_recorded_the_history_is_that_of_seed_one(tmp_path: Path) -> None:
    assert same_market(history_for(DAY, tmp_path / "wal", tmp_path / "market"), 1, None)
    wal_dir = simulated(tmp_path, seed=5, day=date(2026, 4, 10))
    assert same_market(history_for(DAY, wal_dir, tmp_path / "market"), 1, None)


def test_a_simulated_day_that_is_recorded_is_over_whatever_the_clock_says(tmp_path: Path) -> None:
    wal_dir, clock = simulated(tmp_path), Clock("2026-04-01 12:00:00")
    found = history_for(DAY, wal_dir, tmp_path / "market", now_ns=clock.now_ns, sleep=clock.sleep)
    assert found.ticks("2330", DAY).ts and found.daily_quotes(DAY).Code
    later = history_for(date(2026, 4, 13), wal_dir, tmp_path / "market", now_ns=clock.now_ns, sleep=clock.sleep)
    assert later.ticks("2330", DAY).ts and later.ticks("2330", date(2026, 4, 13)).ts == []


def test_calls_are_intraday_while_the_recorded_exchange_is_open(tmp_path: Path) -> None:
    wal_dir = simulated(tmp_path)
    clock = Clock("2026-04-08 10:00:00")  # a session of another day
    other = history_for(DAY, wal_dir, tmp_path / "market", now_ns=clock.now_ns, sleep=clock.sleep)
    for _ in range(INTRADAY_CALLS_MAX["ticks"] + 1):
        other.ticks("2330", DAY)
    clock.at("2026-04-09 10:00:00")
    with pytest.raises(QuotaExhausted, match="10 of 10 calls"):
        for _ in range(INTRADAY_CALLS_MAX["ticks"] + 1):
            other.ticks("2330", DAY)


def test_two_markets_on_one_day_are_an_error_that_names_both(tmp_path: Path) -> None:
    wal_dir = simulated(tmp_path, seed=1)
    other = simulated(tmp_path / "other", seed=2)
    (other / "2026-04-09-day").rename(wal_dir / "moved")
    with pytest.raises(HistoryUnavailable, match=r"2 different simulated markets.*seed 1, 2000.*seed 2, 2000"):
        history_for(DAY, wal_dir, tmp_path / "market")


def test_defects_are_handed_on(tmp_path: Path) -> None:
    found = history_for(DAY, tmp_path / "wal", tmp_path / "market", defects=frozenset({Defect.EMPTY}))
    assert found.ticks("2330", DAY).ts == []


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import:txf_l5", "an import is all that its file holds"),
        ("replay", "a replay is of another recording"),
        ("shioaji", "nobody may ask the broker here"),
        ("simulated", "does not say which simulated market"),
    ],
)
def test_what_no_history_can_fill_says_why(source: str, why: str, tmp_path: Path) -> None:
    write_log(tmp_path / "wal", trades("TXFD6", "2026-04-09 09:00:00", [1, 2]), source=source)
    with pytest.raises(HistoryUnavailable, match=rf"2026-04-09 was recorded from {source} .*{why}"):
        history_for(DAY, tmp_path / "wal", tmp_path / "market")
    assert history_for(date(2026, 4, 10), tmp_path / "wal", tmp_path / "market").source == "simulated"


def test_a_simulated_market_beside_an_import_has_its_history(tmp_path: Path) -> None:
    wal_dir = simulated(tmp_path, seed=3)
    write_log(wal_dir, trades("TXFD6", "2026-04-09 09:00:00", [1, 2]), source="import:seed")
    (wal_dir / "broken.wal").write_bytes(b"SHIJIMW1 but no more")
    assert same_market(history_for(DAY, wal_dir, tmp_path / "market"), 3, SMALL)


def test_a_simulated_market_beside_a_day_of_the_broker_has_no_history(tmp_path: Path) -> None:
    wal_dir = simulated(tmp_path)
    write_log(wal_dir, trades("TXFD6", "2026-04-09 09:00:00", [1, 2]), source="shioaji", run_id="00000000000000cd")
    with pytest.raises(HistoryUnavailable, match=r"different markets.*shioaji in .*a simulated market in .*data-dir"):
        history_for(DAY, wal_dir, tmp_path / "market")


def test_a_recorder_that_runs_today_takes_no_other_day_for_its_own(tmp_path: Path) -> None:
    wal_dir = simulated(tmp_path, seed=3)
    today = trades("TXFD6", "2026-04-10 09:00:00", [1, 2])
    header = {"source": "shioaji", "clock": "real", "created_ns": ns("2026-04-10 09:00:00")}
    [running] = write_log(wal_dir, today, run_id="00000000000000cd", **header)
    running.write_bytes(running.read_bytes()[:-20])  # without its footer, as while it is written
    assert history_for(DAY, wal_dir, tmp_path / "market").source == "simulated"
    with pytest.raises(HistoryUnavailable, match="2026-04-10 was recorded from shioaji"):
        history_for(date(2026, 4, 10), wal_dir, tmp_path / "market")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda wal_dir: (wal_dir / "broken.wal").write_bytes(b"nothing"), "1 cannot be read"),
        (lambda wal_dir: write_log(wal_dir, trades("TXFD6", "2026-04-09 09:00:00", [1]),
                                   config={"day": "2026-04-09", "seed": "x"}), "names no seed and events"),
    ],
)  # fmt: skip
def test_a_header_that_says_too_little_is_an_error(
    write: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    (tmp_path / "wal").mkdir()
    write(tmp_path / "wal")
    with pytest.raises(HistoryUnavailable, match=message):
        history_for(DAY, tmp_path / "wal", tmp_path / "market")


def test_a_closed_day_has_no_history(tmp_path: Path) -> None:
    with pytest.raises(NotATradingDay):
        history_for(date(2026, 4, 11), tmp_path / "wal", tmp_path / "market")
