"""The continuity kernel from Python: records and columns judged alike, sessions cut as the calendar cuts them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import ns, records, trade, trades

from rust_indicators import Continuity, multiset_hash, session_window
from shijim_live import calendar
from shijim_live.calendar import Market, Session
from shijim_live.events import ABSENT_U32, Lane

START, UNTIL = ns("2020-01-02 00:00:00"), ns("2035-01-01 00:00:00")


@given(st.integers(START, UNTIL), st.sampled_from(Market))
def test_the_kernel_cuts_sessions_as_the_calendar_does(stamp, market):
    day, night = session_window(stamp, market is Market.FUTURES)
    window, session = calendar.session_window(stamp, market)
    assert (date(1970, 1, 1) + timedelta(days=day), night) == (window, session is Session.NIGHT)


@given(st.integers(START // 60_000_000_000, UNTIL // 60_000_000_000), st.sampled_from(Market), st.integers(-1, 0))
def test_it_does_so_on_both_sides_of_every_minute(minute, market, side):
    test_the_kernel_cuts_sessions_as_the_calendar_does.hypothesis.inner_test(minute * 60_000_000_000 + side, market)


def verdicts(events) -> list[tuple[int, str, int, int, int, str]]:
    return Continuity().observe_records(records(events))


def test_only_what_is_not_plainly_next_is_told():
    events = trades("TXFD6", "2026-04-09 08:45:00", [5, 3, 1, 2])
    lost = [events[0], events[1], events[3]]
    assert verdicts(events) == [(0, "first", 0, 0, 5, "zero")]
    assert verdicts(lost) == [(0, "first", 0, 0, 5, "zero"), (2, "gap", 1, 8, 11, "previous")]
    assert verdicts([*lost, events[2]])[-1] == (3, "late", 1, 11, 9, "previous")
    assert verdicts([*events, events[1]])[-1] == (4, "duplicate", 0, 11, 8, "previous")


def test_the_basis_of_a_day_that_continues_its_night_is_told():
    night = trades("TXFD6", "2026-04-08 15:00:00", [5, 5])
    day = trades("TXFD6", "2026-04-09 08:45:00", [1], total=10)
    assert verdicts([*night, *day])[-1] == (2, "first", 0, 10, 11, "carried")


def test_trial_matches_and_absent_totals_are_not_judged():
    trial = trade("TXFD6", ns("2026-04-09 08:40:00"), 7, 7, lane=Lane.TRIAL)
    absent = trade("TXFD6", ns("2026-04-09 08:50:00"), 7, ABSENT_U32)
    continuity = Continuity()
    assert continuity.observe_records(records([trial, absent])) == []
    assert continuity.counters()["judged"] == 0


def test_state_goes_on_from_one_call_to_the_next():
    events = trades("TXFD6", "2026-04-09 08:45:00", range(1, 50))
    continuity = Continuity()
    for event in events:
        continuity.observe_records(records([event]))
    assert continuity.counters() | {"judged": 0} == dict.fromkeys(continuity.counters(), 0)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=80), st.data())
def test_lost_lots_are_counted_exactly_whatever_is_lost_repeated_or_late(volumes, data):
    whole = trades("TXFD6", "2026-04-09 08:45:00", volumes)
    lost = data.draw(st.sets(st.integers(0, len(whole) - 1), max_size=len(whole) // 2))
    kept = [event for at, event in enumerate(whole) if at not in lost]
    if not kept or whole[-1] is not kept[-1]:
        return  # a loss after the last trade leaves no trace
    repeats = data.draw(st.lists(st.integers(0, len(kept) - 1), max_size=5))
    late = data.draw(st.sets(st.sampled_from(sorted(lost)))) if lost else set()
    received = [*kept, *(kept[at] for at in sorted(repeats)), *(whole[at] for at in sorted(late))]
    continuity = Continuity()
    continuity.observe_records(records(received))
    counters = continuity.counters()
    assert counters["lots_missing"] == sum(whole[at].volume for at in lost - late)
    assert (counters["resets"], counters["excesses"]) == (0, 0)


def test_torn_records_are_refused():
    with pytest.raises(ValueError, match="not whole 256-byte records"):
        Continuity().observe_records(bytes(300))


@given(st.permutations(range(6)))
def test_the_multiset_hash_ignores_order_but_not_contents(order):
    events = trades("TXFD6", "2026-04-09 08:45:00", range(1, 7))
    numbered = [replace(event, sequence=at) for at, event in enumerate(events)]
    whole = b"".join(records([event]) for event in numbered)
    shuffled = b"".join(records([numbered[at]]) for at in order)
    assert multiset_hash(whole) == multiset_hash(shuffled)
    assert multiset_hash(whole)[0] == 6
    assert multiset_hash(whole) != multiset_hash(whole[:-1] + b"\1")
