"""When the daily jobs run, by our calendar and in Taipei's time; and how long an asset may go without news.

A schedule is a sentence over a pure function of its tick. Not built from the partitions: those would ask for closed and
future days (`build_schedule_from_partitioned_job`), and for none of the evening rule of the night session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import dagster as dg

from shijim_live import calendar
from shijim_live.calendar import NotATradingDay
from shijim_pipelines.daily.partitions import FIRST_DAY, TIMEZONE, trading_days

if TYPE_CHECKING:  # what `dg.define_asset_job` returns has no public name
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

    Job = dg.JobDefinition | UnresolvedAssetJobDefinition

Decision = Callable[[date], date]  # date of a tick in Taipei → the trading day to work on; NotATradingDay says why not

UNIVERSE: Final = "universe_0800"
AFTER_CLOSE: Final = "after_close_1445"
NIGHT_CLOSE: Final = "night_close_0530"

DAY_TAG: Final = "shijim/day"
STARTED_BY_TAG: Final = "shijim/started_by"
PARTITION_TAG: Final = "dagster/partition"

# Trading days an after-close run is made up for, where nothing of ours ran when they closed; older ones by hand.
OWED_DAYS_MAX: Final = 10

# A run may start late and take its time; a day may fall out at short notice beside a long holiday.
LATE: Final = timedelta(hours=3)
TYPHOON: Final = timedelta(days=1)

_TAIPEI: Final = ZoneInfo(TIMEZONE)
_ONE_DAY: Final = timedelta(days=1)


def day_itself(today: date) -> date:
    """The trading day that `today` is."""
    return calendar.require_trading_day(today)


def day_of_the_night(today: date) -> date:
    """The trading day to which the night session belongs that closed this morning at 05:00."""
    evening = today - _ONE_DAY
    try:
        calendar.require_trading_day(evening)
    except NotATradingDay as error:
        raise NotATradingDay(f"no night session closed this morning: {error}") from error
    return calendar.next_trading_day(evening)


def owed(today: date, done: Iterable[date]) -> list[date]:
    """Trading days up to `today` without an after-close run, oldest first. Before the first run nothing was owed."""
    known = set(done)
    latest: list[date] = []
    day = today + _ONE_DAY
    for _ in range(OWED_DAYS_MAX if known else 1):
        day = calendar.previous_trading_day(day)
        if day <= min(known, default=today - _ONE_DAY):
            break
        latest.append(day)
    return [day for day in reversed(latest) if day not in known]


def schedules(universe: Job, after_close: Job, night_close: Job) -> Sequence[dg.ScheduleDefinition]:
    """The three schedules of the day, running from the first start of the daemon on."""
    return (
        _schedule(UNIVERSE, universe, "0 8 * * *", day_itself, "Chooses what to record, on trading days at 08:00."),
        _after_close(after_close),
        _schedule(
            NIGHT_CLOSE,
            night_close,
            "30 5 * * *",
            day_of_the_night,
            "Proves the night session, at 05:30 of the mornings on which one closed. It belongs to the next trading "
            "day: Friday's night to Monday.",
        ),
    )


def _schedule(name: str, job: Job, cron: str, decide: Decision, text: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=name,
        job=job,
        cron_schedule=cron,
        execution_timezone=TIMEZONE,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=text,
    )
    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        calendar.refresh()
        try:
            at = taipei(context)
            return request(decide(at.date()), name, job.name, at)
        except NotATradingDay as reason:
            return dg.SkipReason(str(reason))

    return evaluate


def _after_close(job: Job) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=AFTER_CLOSE,
        job=job,
        cron_schedule="45 14 * * *",
        execution_timezone=TIMEZONE,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="The whole chain of a trading day, after its close at 14:45; also of the days on which the daemon "
        f"was down then, up to {OWED_DAYS_MAX}. The daemon itself makes up for one missed tick at most.",
    )
    def evaluate(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        calendar.refresh()
        at = taipei(context)
        today = at.date()
        days = owed(today, _days_of_runs(context.instance, job.name))
        if days:
            return [request(day, AFTER_CLOSE, job.name, at) for day in days]
        try:
            return dg.SkipReason(f"{calendar.require_trading_day(today)} has its run of {job.name} already")
        except NotATradingDay as reason:
            return dg.SkipReason(str(reason))

    return evaluate


def taipei(context: dg.ScheduleEvaluationContext) -> datetime:
    """The tick in Taipei's time, however late it is evaluated."""
    return context.scheduled_execution_time.astimezone(_TAIPEI)


def _days_of_runs(instance: dg.DagsterInstance, job_name: str) -> set[date]:
    """Trading days the newest runs of a job were for, whoever started them and whatever became of them."""
    runs = instance.get_runs(dg.RunsFilter(job_name=job_name), limit=5 * OWED_DAYS_MAX)
    return {date.fromisoformat(run.tags[PARTITION_TAG]) for run in runs if PARTITION_TAG in run.tags}


def request(
    day: date, started_by: str, job_name: str, at: datetime, attempt: str = "", tags: Mapping[str, str] | None = None
) -> dg.RunRequest:
    """A run for one trading day, asked for at an instant; the key holds whoever asks twice to one run an attempt.

    A day that a closure declared tonight made the next one is a partition for the run, which loads the definitions
    anew, but not yet for the server that evaluates this: such a request carries its partition resolved.
    """
    own = {DAY_TAG: str(day), STARTED_BY_TAG: started_by, **(tags or {})}
    with dg.partition_loading_context(at):
        known = trading_days.has_partition_key(str(day))
    if day >= FIRST_DAY and not known:
        own |= {PARTITION_TAG: str(day), "dagster/partition_set": f"{job_name}_partition_set"}
    key = f"{started_by}:{day}" + (f":{attempt}" if attempt else "")
    return dg.RunRequest(run_key=key, partition_key=str(day), tags=own)


def freshness() -> dg.FreshnessPolicy:
    """For what every trading day brings: warns when it is older than a weekend, fails past the longest closure.

    A window and not a deadline by cron, which knows no holidays: Lunar New Year alone would fail it eight times. So a
    holiday shows as a warning, and an asset that is late on an ordinary Tuesday is told by its failed run instead.
    """
    days = calendar.trading_days(FIRST_DAY, date(calendar.announced_through(), 12, 31))
    longest = max(after - before for before, after in pairwise(days))
    return dg.FreshnessPolicy.time_window(fail_window=longest + TYPHOON + LATE, warn_window=timedelta(days=3) + LATE)
