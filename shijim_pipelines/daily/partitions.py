"""The one axis of every partitioned asset: the trading days of our calendar. Symbol is a column, never a partition.

A key is there from Taipei midnight on, of its own day or of the first closed day before it: on a Saturday morning, when
Friday's night has closed, Monday's key exists, because that night is Monday's. Between 15:00 and midnight the running
night has no key yet; nothing is decided about a session that has not closed.
"""

from datetime import date, datetime, timedelta
from typing import Final

import dagster as dg

from shijim_live import calendar

TIMEZONE: Final = "Asia/Taipei"
KEY_FORMAT: Final = "%Y-%m-%d"

# What can be imported and compared today is younger. An earlier start costs nothing but empty boxes on the screen.
FIRST_DAY: Final = date(2024, 1, 2)

# Closures are fixed when the definitions load. Past this year every weekday would be a key; the calendar's own answers,
# which the schedules ask, do not end there.
LAST_YEAR: Final = calendar.announced_through() + 5

_WEEKENDS: Final = "0 0 * * 6,0"


def _exclusions(first: date, last: date) -> list[str | datetime]:
    """Closed days: weekends as a rule, unless one of them is open, and everything else by date."""
    every = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    closed = [day for day in every if not calendar.is_trading_day(day)]
    by_rule = {day for day in closed if day.weekday() >= 5}
    if len(by_rule) < sum(day.weekday() >= 5 for day in every):
        by_rule = set()
    dates = [datetime(day.year, day.month, day.day) for day in closed if day not in by_rule]  # noqa: DTZ001 - as Dagster asks
    return [_WEEKENDS, *dates] if by_rule else list(dates)


def partitions_of(first: date, last: date) -> dg.TimeWindowPartitionsDefinition:
    """Trading days from `first`, with the closures known by now up to `last`."""
    return dg.TimeWindowPartitionsDefinition(
        start=datetime(first.year, first.month, first.day),  # noqa: DTZ001 - as Dagster asks
        fmt=KEY_FORMAT,
        cron_schedule="0 0 * * *",
        timezone=TIMEZONE,
        # One day beyond the last whole one: today's, or on a closed day the next trading day's (pinned by a test).
        end_offset=1,
        exclusions=_exclusions(first, last),
    )


trading_days: Final = partitions_of(FIRST_DAY, date(LAST_YEAR, 12, 31))
