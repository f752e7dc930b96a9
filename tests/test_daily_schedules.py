"""Partitions and schedules of the daily run, evaluated by Dagster at every tick of two years."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from shijim_live import calendar
from shijim_pipelines.daily import partitions, schedules
from shijim_pipelines.daily.partitions import trading_days
from shijim_pipelines.daily.schedules import AFTER_CLOSE, NIGHT_CLOSE, UNIVERSE

TAIPEI = ZoneInfo("Asia/Taipei")
FIRST, LAST = date(2025, 1, 1), date(2026, 12, 31)
EVERY_DAY = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
CLOCK = {NIGHT_CLOSE: time(5, 30), UNIVERSE: time(8), AFTER_CLOSE: time(14, 45)}


def day(text: str) -> date:
    return date.fromisoformat(text)


def instant(at: date, clock: time) -> datetime:
    return datetime.combine(at, clock, TAIPEI)


@dataclass
class Tick:
    """What a schedule answered."""

    days: list[date] = field(default_factory=list)
    reason: str | None = None
    requests: list[dg.RunRequest] = field(default_factory=list)


class Daily:
    """A code location with the three schedules, and an instance."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        @dg.asset(partitions_def=trading_days)
        def whole_day() -> None: ...

        jobs = [
            dg.define_asset_job(name, [whole_day]) for name in ("universe_job", "after_close_job", "night_close_job")
        ]
        self.schedules = {made.name: made for made in schedules.schedules(*jobs)}
        definitions = dg.Definitions(assets=[whole_day], jobs=jobs, schedules=list(self.schedules.values()))
        self.repository = definitions.get_repository_def()
        self.instance = instance

    def tick(self, name: str, at: date, clock: time | None = None) -> Tick:
        context = dg.build_schedule_context(
            self.instance,
            scheduled_execution_time=instant(at, clock or CLOCK[name]),
            repository_def=self.repository,
        )
        context._instance = self.instance  # the same one; opening it anew for each of two thousand ticks takes minutes
        answer = self.schedules[name].evaluate_tick(context)
        requests = list(answer.run_requests or [])
        return Tick([day(str(one.partition_key)) for one in requests], answer.skip_message, requests)

    def run(self, job: str, partition: date) -> None:
        """A run of a job that really was."""
        assert (
            self.repository.get_job(job)
            .execute_in_process(instance=self.instance, partition_key=str(partition))
            .success
        )


@pytest.fixture
def daily(tmp_path: Path) -> Iterator[Daily]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield Daily(instance)


@pytest.fixture
def own_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "calendar_overrides.toml"
    calendar.follow(path)
    yield path
    path.unlink(missing_ok=True)
    calendar.refresh()
    del calendar._followed[path]


def typhoon(*days: str) -> str:
    entry = '[[day]]\ndate = {}\nstatus = "closed"\nreason = "typhoon Test"\nsource = "notice"\n'
    return "".join(entry.format(closed) for closed in days)


# Partitions


def newest_key(at: datetime) -> date:
    with dg.partition_loading_context(at):
        return day(str(trading_days.get_last_partition_key()))


@pytest.mark.parametrize("clock", CLOCK.values(), ids=str)
def test_at_every_tick_the_newest_key_is_today_or_the_trading_day_after_a_closed_one(clock: time) -> None:
    for at in EVERY_DAY:
        wanted = at if calendar.is_trading_day(at) else calendar.next_trading_day(at)
        assert newest_key(instant(at, clock)) == wanted, at


def test_in_the_morning_after_any_night_session_the_key_of_its_trading_day_is_there() -> None:
    for at in EVERY_DAY:
        if calendar.is_trading_day(at - timedelta(days=1)):
            with dg.partition_loading_context(instant(at, time(5, 30))):
                assert trading_days.has_partition_key(str(calendar.next_trading_day(at - timedelta(days=1)))), at


@pytest.mark.parametrize(
    ("at", "newest"),
    [
        ("2026-04-10 23:59", "2026-04-10"),  # a Friday: the running night has no key before midnight
        ("2026-04-11 00:00", "2026-04-13"),
        ("2026-02-12 05:30", "2026-02-23"),  # after the last night before Lunar New Year
        ("2026-02-22 14:45", "2026-02-23"),
        ("2025-12-31 14:45", "2025-12-31"),
        ("2026-01-01 05:30", "2026-01-02"),
        ("2026-07-10 05:30", "2026-07-13"),  # a typhoon on a Friday
    ],
)
def test_the_newest_key_by_table(at: str, newest: str) -> None:
    assert newest_key(datetime.fromisoformat(at).replace(tzinfo=TAIPEI)) == day(newest)


def test_the_keys_are_exactly_the_trading_days_of_the_calendar() -> None:
    keys = trading_days.get_partition_keys(current_time=instant(LAST, time(14, 45)))
    assert [day(key) for key in keys] == calendar.trading_days(partitions.FIRST_DAY, LAST)
    assert keys[0] == "2024-01-02"
    last = date(partitions.LAST_YEAR, 12, 31)
    keys = trading_days.get_partition_keys(current_time=instant(last, time(14, 45)))
    assert [day(key) for key in keys if day(key) <= last] == calendar.trading_days(partitions.FIRST_DAY, last)


def test_a_closed_saturday_is_excluded_by_rule_and_an_opened_one_is_a_key(own_file: Path) -> None:
    own_file.write_text('[[day]]\ndate = 2026-04-11\nstatus = "open"\nreason = "extra session"\nsource = "notice"\n')
    calendar.refresh()
    opened = partitions.partitions_of(day("2026-04-01"), day("2026-04-30"))
    keys = opened.get_partition_keys(current_time=instant(day("2026-04-30"), time(14, 45)))
    assert [day(key) for key in keys] == calendar.trading_days(day("2026-04-01"), day("2026-04-30"))
    assert "2026-04-11" in keys


# Schedules


def test_the_universe_is_chosen_on_every_trading_day_and_on_no_other(daily: Daily) -> None:
    for at in EVERY_DAY:
        answer = daily.tick(UNIVERSE, at)
        assert answer.days == ([at] if calendar.is_trading_day(at) else [])
        assert bool(answer.reason) is not calendar.is_trading_day(at)


def test_the_whole_chain_runs_after_the_close_of_every_trading_day_and_on_no_other(daily: Daily) -> None:
    for at in EVERY_DAY:
        answer = daily.tick(AFTER_CLOSE, at)
        assert answer.days == ([at] if calendar.is_trading_day(at) else [])
        assert bool(answer.reason) is not calendar.is_trading_day(at)


def test_every_night_session_is_proved_in_the_morning_for_the_day_it_belongs_to(daily: Daily) -> None:
    asked = []
    for at in EVERY_DAY:
        answer = daily.tick(NIGHT_CLOSE, at)
        evening = at - timedelta(days=1)
        assert answer.days == ([calendar.next_trading_day(evening)] if calendar.is_trading_day(evening) else [])
        assert answer.days or str(answer.reason).startswith("no night session closed this morning: ")
        asked += answer.days
    # Every trading day has exactly one night, the one before it.
    assert asked == calendar.trading_days(FIRST, LAST)


@pytest.mark.parametrize(
    ("name", "at", "wanted"),
    [
        (NIGHT_CLOSE, "2026-04-11", "2026-04-13"),  # a Saturday morning: Friday's night is Monday's
        (NIGHT_CLOSE, "2026-04-12", "no night session closed this morning: 2026-04-11 (Saturday)"),
        (NIGHT_CLOSE, "2026-04-13", "no night session closed this morning: 2026-04-12 (Sunday)"),
        (NIGHT_CLOSE, "2026-04-14", "2026-04-14"),
        (NIGHT_CLOSE, "2026-02-12", "2026-02-23"),  # the last evening before Lunar New Year
        (NIGHT_CLOSE, "2026-02-13", "no night session closed this morning: 2026-02-12 (Thursday)"),
        (NIGHT_CLOSE, "2026-02-23", "no night session closed this morning: 2026-02-22 (Sunday)"),
        (NIGHT_CLOSE, "2026-02-24", "2026-02-24"),
        (NIGHT_CLOSE, "2026-01-01", "2026-01-02"),
        (NIGHT_CLOSE, "2026-01-02", "no night session closed this morning: 2026-01-01"),
        (NIGHT_CLOSE, "2026-07-10", "2026-07-13"),  # the night ran while a typhoon was declared for the Friday
        (AFTER_CLOSE, "2026-07-10", "2026-07-10 (Friday) is not a trading day: typhoon Bavi"),
        (AFTER_CLOSE, "2026-02-23", "2026-02-23"),
        (AFTER_CLOSE, "2025-12-31", "2025-12-31"),
        (AFTER_CLOSE, "2026-01-01", "2026-01-01 (Thursday) is not a trading day"),
        (UNIVERSE, "2026-02-16", "2026-02-16 (Monday) is not a trading day"),
        (UNIVERSE, "2026-04-11", "2026-04-11 (Saturday) is not a trading day: a Saturday"),
    ],
)
def test_a_tick_asks_for_the_day_or_says_in_words_why_not(daily: Daily, name: str, at: str, wanted: str) -> None:
    answer = daily.tick(name, day(at))
    if wanted.startswith(at[:5]) and len(wanted) == 10:
        assert answer.days == [day(wanted)]
    else:
        assert answer.days == []
        assert str(answer.reason).startswith(wanted)


def test_a_typhoon_declared_at_eight_in_the_evening_is_heeded_without_a_restart(daily: Daily, own_file: Path) -> None:
    friday, monday = day("2026-04-10"), day("2026-04-13")
    assert daily.tick(UNIVERSE, day("2026-04-09")).days == [day("2026-04-09")]
    own_file.write_text(typhoon("2026-04-10"))
    # The definitions in memory are older than the closure: Monday is no partition of theirs on that Friday.
    night = daily.tick(NIGHT_CLOSE, friday)
    assert night.days == [monday], "the night that was open when it was declared now belongs to Monday"
    assert night.requests[0].tags["dagster/partition"] == "2026-04-13"
    assert "typhoon Test" in str(daily.tick(UNIVERSE, friday).reason)
    assert "typhoon Test" in str(daily.tick(AFTER_CLOSE, friday).reason)
    assert "typhoon Test" in str(daily.tick(NIGHT_CLOSE, day("2026-04-11")).reason)
    assert daily.tick(AFTER_CLOSE, monday).days == [monday]
    own_file.unlink()
    assert daily.tick(AFTER_CLOSE, friday).days == [friday], "and called off again"


def test_a_file_of_overrides_that_cannot_be_read_stops_every_tick_by_name(daily: Daily, own_file: Path) -> None:
    own_file.write_text("[[day]\n")
    for name in CLOCK:
        with pytest.raises(dg.DagsterUserCodeExecutionError) as caught:
            daily.tick(name, day("2026-04-10"))
        assert "calendar_overrides.toml: not valid TOML" in str(caught.value.user_exception)


def test_a_request_names_its_day_and_is_the_same_whenever_it_is_asked(daily: Daily) -> None:
    first, again = (daily.tick(UNIVERSE, day("2026-04-09")).requests[0] for _ in range(2))
    assert first == again
    assert first.run_key == "universe_0800:2026-04-09"
    assert first.tags["shijim/day"] == first.tags["dagster/partition"] == "2026-04-09"
    assert first.tags["shijim/started_by"] == UNIVERSE


def test_a_request_resolved_here_carries_the_same_tags_as_one_resolved_by_dagster(daily: Daily, own_file: Path) -> None:
    resolved = daily.tick(NIGHT_CLOSE, day("2026-04-11")).requests[0]
    own_file.write_text(typhoon("2026-04-10"))
    here = daily.tick(NIGHT_CLOSE, day("2026-04-10")).requests[0]
    assert here == resolved


def test_the_after_close_run_is_made_up_for_where_the_daemon_was_down(daily: Daily) -> None:
    for done in ("2026-04-07", "2026-04-09"):
        daily.run("after_close_job", day(done))
    saturday = daily.tick(AFTER_CLOSE, day("2026-04-11"))
    assert saturday.days == [day("2026-04-08"), day("2026-04-10")], (
        "not 2026-04-02: before the first run nothing was owed"
    )
    for done in saturday.days:
        daily.run("after_close_job", done)
    assert "a Saturday" in str(daily.tick(AFTER_CLOSE, day("2026-04-11")).reason)
    assert daily.tick(AFTER_CLOSE, day("2026-04-13")).days == [day("2026-04-13")]
    daily.run("after_close_job", day("2026-04-13"))
    assert daily.tick(AFTER_CLOSE, day("2026-04-13")).reason == "2026-04-13 has its run of after_close_job already"


def test_no_more_than_two_weeks_are_made_up_for(daily: Daily) -> None:
    daily.run("after_close_job", day("2026-03-02"))
    days = daily.tick(AFTER_CLOSE, day("2026-04-09")).days
    assert len(days) == schedules.OWED_DAYS_MAX
    assert days[-1] == day("2026-04-09")
    assert days == sorted(days)


def test_the_schedules_run_from_the_start_in_taipei_time(daily: Daily) -> None:
    told = {
        made.name: (made.cron_schedule, made.execution_timezone, made.default_status)
        for made in daily.schedules.values()
    }
    running = dg.DefaultScheduleStatus.RUNNING
    assert told == {
        UNIVERSE: ("0 8 * * *", "Asia/Taipei", running),
        AFTER_CLOSE: ("45 14 * * *", "Asia/Taipei", running),
        NIGHT_CLOSE: ("30 5 * * *", "Asia/Taipei", running),
    }


def test_freshness_warns_beyond_a_weekend_and_never_fails_while_the_exchange_is_closed() -> None:
    policy = schedules.freshness()
    assert isinstance(policy, dg.FreshnessPolicy)
    fail, warn = policy.fail_window.to_timedelta(), policy.warn_window.to_timedelta()
    assert warn == timedelta(days=3, hours=3), "Friday to Monday, and a run that takes its time"
    days = calendar.trading_days(FIRST, LAST)
    spans = [after - before for before, after in itertools.pairwise(days)]
    assert max(spans) + timedelta(days=1) < fail < max(spans) + timedelta(days=2)
    assert sum(span > warn for span in spans) <= 20, "holidays warn"
