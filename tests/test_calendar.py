"""Trading days, attribution, sessions and log slots, by table; the calendar against three other calendars."""

# ruff: noqa: DTZ001 - naive Taipei wall clocks are what is tested

import csv
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shijim_live import calendar
from shijim_live.calendar import (
    CLOSE_GRACE_NS,
    DAY_NS,
    SECOND_NS,
    TAIPEI_OFFSET_NS,
    CalendarUnknown,
    Market,
    NotATradingDay,
    Session,
    SessionBounds,
    in_session,
    is_trading_day,
    log_slot,
    next_rotation_ns,
    next_trading_day,
    previous_trading_day,
    require_trading_day,
    session_bounds,
    session_window,
    to_exchange_ns,
    trading_day,
    trading_days,
    trial_lane_by_clock,
    wall_clock,
)

ROOT = Path(__file__).parents[1]
SHARED_CALENDAR = ROOT.parent / "shared" / "data" / "calendar"
TXF_DAY = ROOT.parent / "shared" / "data" / "txf_l5" / "TXFD6_2026-04-09.parquet"
FUTURES, STOCK = Market.FUTURES, Market.STOCK
NIGHT, DAY = Session.NIGHT, Session.DAY

naive_walls = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1))
any_instant = st.integers(min_value=0, max_value=4_000_000_000 * SECOND_NS)
covered_instant = st.integers(
    min_value=to_exchange_ns(datetime(2020, 1, 3)), max_value=to_exchange_ns(datetime(2099, 12, 1))
)


def ns(text: str) -> int:
    """Taipei wall clock in ISO form → ns since the epoch, UTC."""
    return to_exchange_ns(datetime.fromisoformat(text))


def day(text: str) -> date:
    return date.fromisoformat(text)


# Time


def test_a_wall_clock_is_eight_hours_ahead_of_utc() -> None:
    assert ns("1970-01-01 08:00:00") == 0
    expected = int(datetime(2026, 4, 9, 7, 0, 0, tzinfo=UTC).timestamp()) * SECOND_NS
    assert ns("2026-04-09 15:00:00") == expected
    assert ns("2026-04-09 13:45:00.000757") == ns("2026-04-09 13:45:00") + 757_000


def test_an_aware_datetime_is_refused() -> None:
    for zone in (UTC, timezone(timedelta(hours=8))):
        with pytest.raises(ValueError, match="carries a time zone"):
            to_exchange_ns(datetime(2026, 4, 9, tzinfo=zone))


@given(naive_walls)
def test_wall_clock_undoes_to_exchange_ns(wall: datetime) -> None:
    assert wall_clock(to_exchange_ns(wall)) == wall


@given(any_instant)
def test_to_exchange_ns_undoes_wall_clock_down_to_the_microsecond(instant: int) -> None:
    assert to_exchange_ns(wall_clock(instant)) == instant - instant % 1_000


@given(naive_walls)
def test_the_host_time_zone_plays_no_part(wall: datetime) -> None:
    in_taipei = wall.replace(tzinfo=timezone(timedelta(hours=8)))
    seconds = (in_taipei - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert to_exchange_ns(wall) == seconds * 1_000


# Trading days

CLOSED = {
    "2023-01-18": "settlement only; exchange_calendars shows it open",
    "2023-01-19": "settlement only",
    "2023-05-01": "Labour Day, a working day of the government",
    "2023-08-03": "typhoon Khanun",
    "2024-02-06": "settlement only",
    "2024-02-07": "settlement only",
    "2024-07-24": "typhoon Gaemi",
    "2024-07-25": "typhoon Gaemi",
    "2024-10-02": "typhoon Krathon",
    "2024-10-03": "typhoon Krathon",
    "2024-10-31": "typhoon Kong-rey; exchange_calendars shows it open",
    "2025-01-23": "settlement only",
    "2025-02-08": "a Saturday on which offices worked",
    "2025-09-29": "Confucius' Birthday, a holiday since 2025",
    "2025-10-24": "Restoration Day, a holiday since 2025",
    "2025-12-25": "Constitution Day, a holiday since 2025",
    "2026-02-12": "settlement only",
    "2026-02-20": "Lunar New Year, moved",
    "2026-04-03": "Children's Day, moved",
    "2026-07-10": "typhoon Bavi",
    "2022-02-04": "moved holiday; exchange_calendars shows it open",
}


@pytest.mark.parametrize("text", CLOSED)
def test_a_closed_day_is_no_trading_day(text: str) -> None:
    assert not is_trading_day(day(text))


@pytest.mark.parametrize(
    "text", ["2023-01-17", "2024-02-05", "2024-07-26", "2024-10-04", "2024-11-01", "2025-11-12", "2026-02-11"]
)
def test_the_days_around_a_closure_are_trading_days(text: str) -> None:
    assert is_trading_day(day(text))


@pytest.mark.parametrize(
    ("given_day", "before", "after"),
    [
        ("2026-04-09", "2026-04-08", "2026-04-10"),
        ("2026-04-10", "2026-04-09", "2026-04-13"),  # Friday
        ("2026-04-11", "2026-04-10", "2026-04-13"),  # Saturday
        ("2026-04-02", "2026-04-01", "2026-04-07"),  # the eve of a long weekend
        ("2024-10-31", "2024-10-30", "2024-11-01"),  # typhoon, month end
        ("2024-07-23", "2024-07-22", "2024-07-26"),  # the eve of two typhoon days
        ("2025-12-31", "2025-12-30", "2026-01-02"),  # year end
        ("2026-01-01", "2025-12-31", "2026-01-02"),
        ("2026-02-11", "2026-02-10", "2026-02-23"),  # last day before Lunar New Year
    ],
)
def test_next_and_previous_are_strict(given_day: str, before: str, after: str) -> None:
    assert previous_trading_day(day(given_day)) == day(before)
    assert next_trading_day(day(given_day)) == day(after)


def test_trading_days_includes_both_ends() -> None:
    assert trading_days(day("2026-04-02"), day("2026-04-08")) == [day(f"2026-04-0{n}") for n in (2, 7, 8)]
    assert trading_days(day("2026-04-03"), day("2026-04-06")) == []
    assert trading_days(day("2026-04-08"), day("2026-04-07")) == []
    assert len(trading_days(day("2025-01-01"), day("2025-12-31"))) == 243


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "2026-04-11",
            "2026-04-11 (Saturday) is not a trading day: a Saturday; the nearest trading days are 2026-04-10 ",
        ),
        ("2026-04-06", "2026-04-06 (Monday) is not a trading day: Tomb-Sweeping Day"),
        (
            "2024-10-31",
            "typhoon Kong-rey, Taipei suspended work; the nearest trading days are 2024-10-30 and 2024-11-01",
        ),
        (
            "2026-02-12",
            "No Trading (Market opens only for Clearing & Settlement); the nearest trading days are 2026-02-11",
        ),
    ],
)
def test_a_refused_day_is_explained(text: str, said: str) -> None:
    with pytest.raises(NotATradingDay) as caught:
        require_trading_day(day(text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trading_day_passes_through() -> None:
    assert require_trading_day(day("2026-04-09")) == day("2026-04-09")


@pytest.mark.parametrize("text", ["2000-01-03", "2019-12-31", "2101-01-03", "2500-06-01"])
def test_a_year_the_calendar_does_not_cover_is_refused(text: str) -> None:
    with pytest.raises(CalendarUnknown, match=text[:4]):
        is_trading_day(day(text))


def test_a_datetime_is_not_taken_for_a_date() -> None:
    with pytest.raises(TypeError, match="calendar date is expected"):
        is_trading_day(datetime(2026, 4, 9, 9, 0))


# Cross-checks. Every disagreement is listed; a new one, or one that has gone, fails the test.

SETTLEMENT_ONLY_KNOWN_TO_GOVERNMENT_AS_WORK = {
    f"{year}-{month_day}"
    for year, month_days in {
        2023: ("01-18", "01-19"),
        2024: ("02-06", "02-07"),
        2025: ("01-23", "01-24"),
        2026: ("02-12", "02-13"),
    }.items()
    for month_day in month_days
}

EXCHANGE_CALENDARS_WRONGLY_OPEN = {
    "2022-02-04": "moved holiday of Lunar New Year, made up on 2022-01-22",
    "2023-01-18": "settlement only",
    "2024-10-31": "typhoon Kong-rey",
    "2026-07-10": "typhoon Bavi",
    "2027-02-02": "settlement only",
    "2027-02-03": "settlement only",
    "2027-04-06": "Children's Day on a Sunday, moved behind Tomb-Sweeping Day",
}

HOLIDAYS_PACKAGE_WRONGLY_OPEN = {
    "2023-08-03": "typhoon Khanun",
    "2024-07-24": "typhoon Gaemi",
    "2024-07-25": "typhoon Gaemi",
    "2024-10-02": "typhoon Krathon",
    "2024-10-03": "typhoon Krathon",
    "2024-10-31": "typhoon Kong-rey",
    "2026-07-10": "typhoon Bavi",
}


def disagreements(first: date, last: date, their_open: Callable[[date], bool]) -> dict[str, str]:
    """Day → which side calls it open, for every day on which the two calendars differ."""
    found = {}
    for n in range((last - first).days + 1):
        at = first + timedelta(days=n)
        if is_trading_day(at) != their_open(at):
            found[at.isoformat()] = "ours" if is_trading_day(at) else "theirs"
    return found


def test_holidays_package_disagrees_only_where_listed() -> None:
    import holidays

    theirs = holidays.financial_holidays("XTAI", years=range(2020, 2028))
    found = disagreements(day("2020-01-01"), day("2027-12-31"), lambda at: at.weekday() < 5 and at not in theirs)
    assert found == dict.fromkeys(HOLIDAYS_PACKAGE_WRONGLY_OPEN, "theirs")


def test_every_override_is_still_needed() -> None:
    assert set(map(str, calendar._own_overrides())) == set(HOLIDAYS_PACKAGE_WRONGLY_OPEN)


def test_exchange_calendars_disagrees_only_where_listed() -> None:
    exchange_calendars = pytest.importorskip("exchange_calendars")
    theirs = {
        at.date() for at in exchange_calendars.get_calendar("XTAI", start="2020-01-01", end="2027-06-30").sessions
    }
    found = disagreements(day("2020-01-01"), day("2027-06-30"), theirs.__contains__)
    assert found == dict.fromkeys(EXCHANGE_CALENDARS_WRONGLY_OPEN, "theirs")


@pytest.mark.skipif(not SHARED_CALENDAR.is_dir(), reason="../shared/data/calendar is absent")
def test_the_shared_session_list_disagrees_only_where_listed() -> None:
    with (SHARED_CALENDAR / "xtai_sessions_2023_2026_exchange_calendars.csv").open() as file:
        theirs = {day(row["date"]): row["xtai_open"] == "1" for row in csv.DictReader(file)}
    found = {at.isoformat() for at, is_open in theirs.items() if is_trading_day(at) != is_open}
    assert found == {at for at in EXCHANGE_CALENDARS_WRONGLY_OPEN if "2023" <= at < "2027"}
    assert len(theirs) > 1_000


@pytest.mark.skipif(not SHARED_CALENDAR.is_dir(), reason="../shared/data/calendar is absent")
@pytest.mark.parametrize("year", [2023, 2024, 2025, 2026])
def test_the_government_calendar_disagrees_only_by_rule(year: int) -> None:
    rows = json.loads((SHARED_CALENDAR / f"dgpa_{year}.json").read_text("utf-8-sig"))
    works = {day(row["西元日期"]): row["是否放假"] == "0" for row in rows}
    ours_only = {at for at, work in works.items() if is_trading_day(at) and not work}
    offices_only = {at for at, work in works.items() if work and not is_trading_day(at)}
    explained = {at for at in offices_only if at.weekday() == 5}  # make-up Saturdays
    explained |= {at for at in offices_only if (at.month, at.day) == (5, 1)}  # Labour Day, before 2026
    listed = SETTLEMENT_ONLY_KNOWN_TO_GOVERNMENT_AS_WORK | set(HOLIDAYS_PACKAGE_WRONGLY_OPEN)
    assert ours_only == set()
    assert {str(at) for at in offices_only - explained} == {text for text in listed if text.startswith(str(year))}
    assert len(works) >= 365


def test_the_schedule_is_announced_at_least_through_2026() -> None:
    assert calendar.announced_through() >= 2026


# Overrides


ENTRY = '[[day]]\ndate = {}\nstatus = "{}"\nreason = "{}"\nsource = "notice"\n'


@pytest.fixture
def own_file(tmp_path: Path) -> Iterator[Path]:
    """Where an operator's overrides will be, followed from now on."""
    path = tmp_path / "overrides.toml"
    calendar.follow(path)
    yield path
    path.unlink(missing_ok=True)
    calendar.refresh()
    del calendar._followed[path]


def test_an_operator_can_add_a_closure_and_an_opening(own_file: Path) -> None:
    own_file.write_text(
        ENTRY.format("2026-04-09", "closed", "typhoon Test")
        + ENTRY.format("2026-04-11", "open", "extra session")
        + ENTRY.format("2026-04-06", "open", "extra session")
    )
    assert is_trading_day(day("2026-04-09")), "nothing changes under a caller who did not ask for it"
    assert calendar.refresh()
    open_days = [day(f"2026-04-{n:02}") for n in (6, 7, 8, 10, 11)]
    assert trading_days(day("2026-04-06"), day("2026-04-12")) == open_days
    with pytest.raises(NotATradingDay, match="typhoon Test"):
        require_trading_day(day("2026-04-09"))


def test_a_file_of_overrides_may_appear_change_and_go_while_a_process_runs(own_file: Path) -> None:
    assert not calendar.refresh()
    own_file.write_text(ENTRY.format("2026-04-09", "closed", "typhoon One"))
    assert calendar.refresh()
    assert not calendar.refresh()
    assert not is_trading_day(day("2026-04-09"))
    own_file.write_text(ENTRY.format("2026-04-10", "closed", "typhoon Another"))
    assert calendar.refresh()
    assert [is_trading_day(day(f"2026-04-{n:02}")) for n in (9, 10)] == [True, False]
    own_file.unlink()
    assert calendar.refresh()
    assert is_trading_day(day("2026-04-10"))
    assert not calendar.refresh()


def test_a_file_that_is_there_when_it_is_first_followed_holds_at_once_and_twice_is_as_once(tmp_path: Path) -> None:
    path = tmp_path / "overrides.toml"
    path.write_text(ENTRY.format("2026-04-09", "closed", "typhoon Test"))
    calendar.follow(path)
    calendar.follow(path)
    assert not is_trading_day(day("2026-04-09"))
    path.unlink()
    assert calendar.refresh()
    del calendar._followed[path]
    assert is_trading_day(day("2026-04-09"))


@pytest.mark.parametrize(
    "text",
    [
        '[[day]]\ndate = "2026-04-09"\nstatus = "closed"\nreason = "r"\nsource = "s"\n',
        '[[day]]\ndate = 2026-04-09\nstatus = "shut"\nreason = "r"\nsource = "s"\n',
        '[[day]]\ndate = 2026-04-09\nstatus = "closed"\nsource = "s"\n',
        '[[day]]\ndate = 2026-04-09\nstatus = "closed"\nreason = "r"\n',
        '[[day]]\ndate = 2026-04-09\nstatus = "closed"\nreason = "r"\nsource = "s"\n' * 2,
        '[[days]]\ndate = 2026-04-09\nstatus = "closed"\nreason = "r"\nsource = "s"\n',
        '[day]\ndate = 2026-04-09\nstatus = "closed"\nreason = "r"\nsource = "s"\n',
        "day = [3]\n",
        "[[day\n",
        "\udcff",
    ],
)
def test_a_bad_override_file_is_refused_until_it_is_right_and_changes_nothing(own_file: Path, text: str) -> None:
    own_file.write_text(ENTRY.format("2026-04-10", "closed", "typhoon Test"))
    calendar.refresh()
    own_file.write_bytes(text.encode(errors="surrogateescape"))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"overrides\.toml"):
            calendar.refresh()
    assert [is_trading_day(day(f"2026-04-{n:02}")) for n in (9, 10)] == [True, False], "the last good state"
    own_file.write_text("")
    assert calendar.refresh()
    assert is_trading_day(day("2026-04-10"))


def test_a_refresh_that_finds_nothing_costs_next_to_nothing(own_file: Path) -> None:
    own_file.write_text(ENTRY.format("2026-04-09", "closed", "typhoon Test"))
    calendar.refresh()
    began_ns = time.perf_counter_ns()
    for _ in range(1_000):
        calendar.refresh()
    assert time.perf_counter_ns() - began_ns < 1_000 * 100_000, "100 µs each would still be nothing"


# Attribution

ATTRIBUTION = [
    # wall clock, market, window, session, trading day
    ("2026-04-09 08:30:00", FUTURES, "2026-04-09", DAY, "2026-04-09"),
    ("2026-04-09 08:29:59.999999", FUTURES, "2026-04-08", NIGHT, "2026-04-09"),
    ("2026-04-09 13:45:00.04", FUTURES, "2026-04-09", DAY, "2026-04-09"),
    ("2026-04-09 14:49:59.999999", FUTURES, "2026-04-09", DAY, "2026-04-09"),
    ("2026-04-09 14:50:00", FUTURES, "2026-04-09", NIGHT, "2026-04-10"),
    ("2026-04-09 15:00:00", FUTURES, "2026-04-09", NIGHT, "2026-04-10"),
    ("2026-04-09 23:59:59.999999", FUTURES, "2026-04-09", NIGHT, "2026-04-10"),
    ("2026-04-10 00:00:00", FUTURES, "2026-04-09", NIGHT, "2026-04-10"),
    ("2026-04-10 05:00:00.04", FUTURES, "2026-04-09", NIGHT, "2026-04-10"),
    ("2026-04-10 15:00:00", FUTURES, "2026-04-10", NIGHT, "2026-04-13"),  # Friday night → Monday
    ("2026-04-11 04:59:59", FUTURES, "2026-04-10", NIGHT, "2026-04-13"),  # its Saturday morning
    ("2026-04-11 10:00:00", FUTURES, "2026-04-11", DAY, "2026-04-13"),  # stray row on a Saturday
    ("2026-04-12 20:00:00", FUTURES, "2026-04-12", NIGHT, "2026-04-13"),  # stray row on a Sunday evening
    ("2026-04-02 15:00:00", FUTURES, "2026-04-02", NIGHT, "2026-04-07"),  # the eve of a four-day weekend
    ("2026-04-03 04:00:00", FUTURES, "2026-04-02", NIGHT, "2026-04-07"),
    ("2024-10-30 21:00:00", FUTURES, "2024-10-30", NIGHT, "2024-11-01"),  # the night a typhoon day was declared
    ("2024-10-31 03:00:00", FUTURES, "2024-10-30", NIGHT, "2024-11-01"),
    ("2024-10-31 10:00:00", FUTURES, "2024-10-31", DAY, "2024-11-01"),
    ("2024-07-23 15:00:00", FUTURES, "2024-07-23", NIGHT, "2024-07-26"),  # two typhoon days
    ("2025-12-31 15:00:00", FUTURES, "2025-12-31", NIGHT, "2026-01-02"),  # year end
    ("2026-01-01 00:00:00", FUTURES, "2025-12-31", NIGHT, "2026-01-02"),
    ("2026-03-31 16:00:00", FUTURES, "2026-03-31", NIGHT, "2026-04-01"),  # month end
    ("2026-02-11 15:00:00", FUTURES, "2026-02-11", NIGHT, "2026-02-23"),  # last evening before Lunar New Year
    ("2026-04-09 00:00:00", STOCK, "2026-04-09", DAY, "2026-04-09"),
    ("2026-04-09 14:55:00", STOCK, "2026-04-09", DAY, "2026-04-09"),
    ("2026-04-09 23:59:59.999999", STOCK, "2026-04-09", DAY, "2026-04-09"),
    ("2026-04-03 09:30:00", STOCK, "2026-04-03", DAY, "2026-04-07"),  # ticks on a holiday
]


@pytest.mark.parametrize(("wall", "market", "window", "session", "owner"), ATTRIBUTION)
def test_an_event_belongs_to_its_window_and_trading_day(
    wall: str, market: Market, window: str, session: Session, owner: str
) -> None:
    assert session_window(ns(wall), market) == (day(window), session)
    assert trading_day(ns(wall), market) == day(owner)


@given(covered_instant, st.sampled_from(Market))
def test_the_trading_day_is_a_trading_day_and_never_before_the_window(instant: int, market: Market) -> None:
    window, _ = session_window(instant, market)
    owner = trading_day(instant, market)
    assert is_trading_day(owner)
    assert owner >= window
    assert trading_day(instant + DAY_NS, market) >= owner


@given(covered_instant, st.sampled_from(Market))
def test_what_is_in_session_lies_in_a_session_of_its_trading_day(instant: int, market: Market) -> None:
    _, session = session_window(instant, market)
    inside = [
        bounds
        for bounds in session_bounds(trading_day(instant, market), market)
        if bounds.open_ns <= instant < bounds.close_ns + CLOSE_GRACE_NS
    ]
    assert in_session(instant, market) == bool(inside)
    assert all(bounds.session is session for bounds in inside)


@pytest.mark.parametrize(
    ("wall", "market", "expected"),
    [
        ("2026-04-09 08:44:59.999", FUTURES, False),
        ("2026-04-09 08:45:00", FUTURES, True),
        ("2026-04-09 13:45:00.04", FUTURES, True),
        ("2026-04-09 13:45:59.999", FUTURES, True),
        ("2026-04-09 13:46:00", FUTURES, False),
        ("2026-04-09 14:59:59.999", FUTURES, False),
        ("2026-04-09 15:00:00", FUTURES, True),
        ("2026-04-10 00:00:00", FUTURES, True),
        ("2026-04-10 05:00:00.04", FUTURES, True),
        ("2026-04-10 05:01:00", FUTURES, False),
        ("2026-04-11 04:00:00", FUTURES, True),  # Friday's night on Saturday morning
        ("2026-04-11 10:00:00", FUTURES, False),
        ("2026-04-13 03:00:00", FUTURES, False),  # Monday before dawn: Sunday has no evening session
        ("2026-04-03 04:00:00", FUTURES, True),  # the night that opened on the eve of a holiday
        ("2026-04-03 16:00:00", FUTURES, False),
        ("2024-10-31 03:00:00", FUTURES, True),  # it had opened before the typhoon day
        ("2024-10-31 16:00:00", FUTURES, False),
        ("2026-04-09 08:59:59", STOCK, False),
        ("2026-04-09 09:00:00", STOCK, True),
        ("2026-04-09 13:30:00", STOCK, True),
        ("2026-04-09 13:31:00", STOCK, False),
        ("2026-04-03 10:00:00", STOCK, False),
    ],
)
def test_in_session_is_continuous_trading_with_a_grace_at_the_close(wall: str, market: Market, expected: bool) -> None:
    assert in_session(ns(wall), market) is expected


@pytest.mark.parametrize(
    ("wall", "market", "expected"),
    [
        ("2026-04-09 08:29:59", FUTURES, False),
        ("2026-04-09 08:30:00", FUTURES, True),
        ("2026-04-09 08:45:00", FUTURES, False),
        ("2026-04-09 14:50:00", FUTURES, True),
        ("2026-04-09 14:59:59.999999", FUTURES, True),
        ("2026-04-09 15:00:00", FUTURES, False),
        ("2026-04-09 13:27:00", FUTURES, False),
        ("2026-04-09 08:30:00", STOCK, True),
        ("2026-04-09 08:59:59", STOCK, True),
        ("2026-04-09 09:00:00", STOCK, False),
        ("2026-04-09 13:25:00", STOCK, True),
        ("2026-04-09 13:30:00", STOCK, False),
        ("2026-04-09 14:55:00", STOCK, False),
    ],
)
def test_the_clock_tells_trial_matching(wall: str, market: Market, expected: bool) -> None:
    assert trial_lane_by_clock(ns(wall), market) is expected


def test_bounds_of_a_futures_day_start_on_the_evening_before() -> None:
    assert session_bounds(day("2026-04-13"), FUTURES) == [
        SessionBounds(NIGHT, ns("2026-04-10 15:00:00"), ns("2026-04-11 05:00:00")),
        SessionBounds(DAY, ns("2026-04-13 08:45:00"), ns("2026-04-13 13:45:00")),
    ]
    assert session_bounds(day("2026-04-13"), STOCK) == [
        SessionBounds(DAY, ns("2026-04-13 09:00:00"), ns("2026-04-13 13:30:00"))
    ]


def test_bounds_of_a_closed_day_are_refused() -> None:
    with pytest.raises(NotATradingDay, match="2026-04-11"):
        session_bounds(day("2026-04-11"), FUTURES)


# Log slots


@pytest.mark.parametrize(
    ("wall", "slot"),
    [
        ("2026-04-09 05:29:59.999999", "2026-04-08-night"),
        ("2026-04-09 05:30:00", "2026-04-09-day"),
        ("2026-04-09 14:44:59.999999", "2026-04-09-day"),
        ("2026-04-09 14:45:00", "2026-04-09-night"),
        ("2026-04-09 23:59:59", "2026-04-09-night"),
        ("2026-04-10 00:00:00", "2026-04-09-night"),
        ("2026-03-01 03:00:00", "2026-02-28-night"),
        ("2026-01-01 00:00:00", "2025-12-31-night"),
        ("2019-01-01 12:00:00", "2019-01-01-day"),  # the slot asks no calendar
    ],
)
def test_the_slot_is_named_by_the_receive_clock(wall: str, slot: str) -> None:
    assert log_slot(ns(wall)) == slot


@pytest.mark.parametrize(
    ("wall", "rotation"),
    [
        ("2026-04-09 14:44:59.999999", "2026-04-09 14:45:00"),
        ("2026-04-09 14:45:00", "2026-04-09 15:00:00"),
        ("2026-04-09 05:29:00", "2026-04-09 05:30:00"),
        ("2026-04-09 23:50:00", "2026-04-10 00:00:00"),
    ],
)
def test_a_segment_ends_at_the_next_quarter_of_an_hour(wall: str, rotation: str) -> None:
    assert next_rotation_ns(ns(wall)) == ns(rotation)


@given(any_instant)
def test_no_slot_ends_between_two_rotations(instant: int) -> None:
    rotation = next_rotation_ns(instant)
    assert instant < rotation <= instant + 15 * 60 * SECOND_NS
    assert log_slot(rotation - 1) == log_slot(instant)


@given(any_instant)
def test_slots_sort_in_the_order_of_time(instant: int) -> None:
    assert log_slot(instant) <= log_slot(instant + TAIPEI_OFFSET_NS)


def test_importing_the_calendar_loads_no_holidays() -> None:
    code = "import sys, shijim_live.calendar; sys.exit('holidays' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


# Real data


@pytest.mark.skipif(not TXF_DAY.is_file(), reason="../shared/data/txf_l5 is absent")
def test_a_real_futures_day_falls_into_its_lanes_and_trading_days() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(TXF_DAY).to_pydict()
    lots: Counter[tuple[str, Session, bool]] = Counter()
    outside = 0
    for flags, stamp, quantity in zip(rows["ev"], rows["exch_ts"], rows["qty"], strict=True):
        if flags & 0xFF == 2:
            grid = (int(stamp) + 500_000) // 1_000_000 * 1_000_000  # the true grid is 1 ms
            trial = trial_lane_by_clock(grid, FUTURES)
            lots[str(trading_day(grid, FUTURES)), session_window(grid, FUTURES)[1], trial] += int(quantity)
            outside += not (trial or in_session(grid, FUTURES))
    assert lots == {
        ("2026-04-09", DAY, True): 10_595,
        ("2026-04-09", DAY, False): 52_121,
        ("2026-04-10", NIGHT, True): 2_145,
        ("2026-04-10", NIGHT, False): 45_640,
    }
    assert outside == 0
