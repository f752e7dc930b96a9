"""Answers about the past: what is refused before anyone sees it, what is let through, and how often it is asked."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from made_records import ns
from test_quota import Clock

from shijim_live.broker import answer_checks as checks
from shijim_live.broker.gateway import SUSPENDED_NS, LoginLater, LoginRefused
from shijim_live.broker.history import (
    SCANNER_TYPES,
    AnswerRefused,
    Columns,
    HistoryUnavailable,
    Metered,
    NotAnswered,
    QuestionRefused,
    Quota,
    QuotaExhausted,
    Row,
)
from shijim_live.broker.patience import PAUSE_NS_FIRST, PAUSE_NS_MAX, TRIES_MAX, WAIT_NS_MAX, Patience
from shijim_live.broker.quota import TRAFFIC_BYTES_MAX
from shijim_live.broker.simulated import TAIWAN, SimulationConfig
from shijim_live.broker.simulated_history import Defect, SimulatedHistory
from shijim_live.calendar import MINUTE_NS, SECOND_NS, TAIPEI_OFFSET_NS, next_trading_day, previous_trading_day
from shijim_live.instruments import UnknownInstrument

DAY = date(2026, 4, 9)
BEFORE = previous_trading_day(DAY)
PAST = SimulatedHistory(1, SimulationConfig(target_events=6_000), now_ns=lambda: ns("2026-11-20 12:00:00"))
CODES = ("2330", "0050", "TXFD6", "TMFD6")


def wall(text: str) -> int:
    return ns(text) + TAIPEI_OFFSET_NS


def changed(columns: Columns, **values: Callable[[list[Any]], list[Any]]) -> Columns:
    return Columns(**columns.dict() | {name: change(columns[name]) for name, change in values.items()})


def at(row: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    """The column with one value in the place of another."""
    return lambda values: [*values[:row], value, *values[row + 1 :]]


def rows_of(columns: Columns, order: Callable[[list[Any]], list[Any]]) -> Columns:
    return Columns(**{name: order(columns[name]) for name in columns.keys()})  # noqa: SIM118


# What is let through


@pytest.mark.parametrize("seed", range(3))
def test_no_honest_answer_is_refused(seed: int) -> None:
    day = DAY
    for _ in range(seed * 7):
        day = next_trading_day(day)
    for config in (SimulationConfig(target_events=6_000), TAIWAN):
        past = SimulatedHistory(seed, config, frozenset({Defect.FIXED_PRICE}), now_ns=lambda: ns("2026-11-20 12:00:00"))
        codes = past.instruments(day).Code
        for code in codes:
            checks.check_ticks(past.ticks(code, day), code, day)
            checks.check_kbars(past.kbars(code, day - timedelta(days=4), day), code, day - timedelta(days=4), day)
        checks.check_daily_quotes(past.daily_quotes(day), day)
        checks.check_snapshots(past.snapshots(["TXFR1", *codes]), ["TXFR1", *codes])
        for kind in SCANNER_TYPES:
            for ascending in (True, False):
                answer = past.scanners(kind, day, ascending=ascending, count=7)
                checks.check_scanners(answer, kind, day, ascending=ascending, count=7)
        checks.check_listing(past.punish(), checks.PUNISH, "punish")
        checks.check_listing(past.notice(), checks.NOTICE, "notice")
        checks.check_credit(past.credit_enquires(codes), codes)
        checks.check_usage(past.usage())


def test_equal_trades_behind_each_other_are_let_through_and_an_answer_that_is_all_twice_is_not() -> None:
    ticks = PAST.ticks("2330", DAY)
    length = len(ticks.ts)
    checks.check_ticks(rows_of(ticks, lambda values: [values[0], *values[:4], values[3], *values[4:]]), "2330", DAY)
    # Three trades of one microsecond, sent twice, look like six; only a count of lots can tell.
    burst = changed(rows_of(ticks, lambda v: v[:3] * 2), ts=lambda stamps: stamps[:1] * 6)
    checks.check_ticks(burst, "2330", DAY)
    few = rows_of(ticks, lambda values: [value for value in values[: checks.TWICE_RUNS_MIN - 1] for _ in range(2)])
    checks.check_ticks(few, "2330", DAY)
    for times in (2, 3):
        many = rows_of(ticks, lambda values, times=times: [value for value in values for _ in range(times)])
        with pytest.raises(AnswerRefused, match=rf"2330 on 2026-04-09: each of its {length:,} rows .* {times} times"):
            checks.check_ticks(many, "2330", DAY)


def test_an_empty_answer_is_no_matter_of_its_rows() -> None:
    for name in ("ticks", "kbars"):
        empty = Columns(**{column: [] for column in (checks.TICKS if name == "ticks" else checks.KBARS)})
        check = checks.check_ticks if name == "ticks" else checks.check_kbars
        check(empty, "2330", *([DAY] if name == "ticks" else [DAY, DAY]))  # type: ignore[arg-type]


# What is refused

TICKS_WRONG: dict[str, tuple[Callable[[Columns], Columns], str]] = {
    "no column": (lambda c: Columns(**{n: c[n] for n in checks.TICKS[:-1]}), "has no tick_type"),
    "lengths": (lambda c: changed(c, volume=lambda v: v[1:]), "differ in length"),
    "text": (lambda c: changed(c, close=at(2, "100")), "row 2: close is '100', not a number"),
    "nan": (lambda c: changed(c, close=at(2, float("nan"))), "row 2: close is nan"),
    "infinite": (lambda c: changed(c, ask_price=at(0, float("inf"))), "row 0: ask_price is inf"),
    "no price": (lambda c: changed(c, close=at(5, 0.0)), "row 5: close is 0.0"),
    "below 0": (lambda c: changed(c, bid_price=at(5, -1.0)), "row 5: bid_price is -1.0"),
    "too dear": (lambda c: changed(c, close=at(5, 1e8)), "row 5: close is 1"),
    "decimal point": (lambda c: changed(c, close=at(5, 14.5)), r"prices from 14\.5 to 1\d\d\d\.0 on one day"),
    "no volume": (lambda c: changed(c, volume=at(1, 0)), "row 1: volume is 0"),
    "half a lot": (lambda c: changed(c, volume=at(1, 1.5)), r"row 1: volume is 1\.5"),
    "tick_type": (lambda c: changed(c, tick_type=at(1, 3)), "row 1: tick_type is 3"),
    "no stamp": (lambda c: changed(c, ts=at(1, None)), "row 1: ts is None"),
    "beyond time": (lambda c: changed(c, ts=at(1, 2**70)), "row 1: ts is"),
    "back in time": (lambda c: rows_of(c, lambda v: [v[0], v[2], v[1], *v[3:]]), "row 2: .* stands behind .* back in"),
    "a stretch twice": (lambda c: rows_of(c, lambda v: v[:60] + v[20:]), "row 60: .* back in time"),
    "the evening": (lambda c: changed(c, ts=at(-1, wall("2026-04-09 14:31:00"))[:]), "in no session of that day"),
    "another day": (lambda c: changed(c, ts=lambda v: [t - 86_400 * 10**9 for t in v]), "row 0: 2026-04-08 .* another"),
}


@pytest.mark.parametrize("wrong", TICKS_WRONG)
def test_ticks_that_cannot_be_are_refused_with_code_day_and_row(wrong: str) -> None:
    change, why = TICKS_WRONG[wrong]
    answer = PAST.ticks("2330", DAY)
    if wrong == "the evening":
        answer = changed(answer, ts=lambda stamps: [*stamps[:-1], wall("2026-04-09 14:31:00")])
        change = lambda columns: columns  # noqa: E731 - the last row is meant
    with pytest.raises(AnswerRefused, match=rf"^ticks of 2330 on 2026-04-09\b.*{why}") as refused:
        checks.check_ticks(change(answer), "2330", DAY)
    assert "\n" not in str(refused.value)


def test_a_future_has_its_night_and_nothing_of_a_closed_day() -> None:
    ticks = PAST.ticks("TXFD6", DAY)
    assert ticks.ts[0] < wall("2026-04-08 23:59:59")
    checks.check_ticks(ticks, "TXFD6", DAY)
    for hour in ("14:50:00", "07:00:00"):
        late = changed(ticks, ts=lambda stamps, hour=hour: [wall(f"2026-04-09 {hour}")] * len(stamps))
        with pytest.raises(AnswerRefused, match="in no session"):
            checks.check_ticks(late, "TXFD6", DAY)
    with pytest.raises(AnswerRefused, match="nothing is traded on that day"):
        checks.check_ticks(ticks, "TXFD6", date(2026, 4, 11))


KBARS_WRONG: dict[str, tuple[Callable[[Columns], Columns], str]] = {
    "twice": (lambda c: rows_of(c, lambda v: [*v[:3], v[2], *v[3:]]), "row 3: .* repeated, or back in time"),
    "order": (lambda c: rows_of(c, lambda v: v[::-1]), "row 1: .* back in time"),
    "seconds": (lambda c: changed(c, ts=at(3, 0)), "row 3: .* back in time"),
    "no minute": (lambda c: changed(c, ts=lambda v: [t + 1 for t in v]), "row 0: .* no minute of these dates"),
    "dates": (lambda c: changed(c, ts=lambda v: [t - 9 * 1_440 * MINUTE_NS for t in v]), "no minute of these"),
    "prices": (lambda c: changed(c, High=at(2, 1.0)), r"row 2 \(2026-04-.*its prices contradict each other"),
    "no price": (lambda c: changed(c, Low=at(2, 0.0)), "row 2: Low is 0.0"),
    "volume": (lambda c: changed(c, Volume=at(2, -1)), "row 2: Volume is -1"),
    "amount": (lambda c: changed(c, Amount=at(2, None)), "row 2: Amount is None"),
}


@pytest.mark.parametrize("wrong", KBARS_WRONG)
def test_minutes_that_cannot_be_are_refused(wrong: str) -> None:
    change, why = KBARS_WRONG[wrong]
    with pytest.raises(AnswerRefused, match=rf"^kbars of TXFD6 from 2026-04-08 to 2026-04-09\b.*{why}"):
        checks.check_kbars(change(PAST.kbars("TXFD6", BEFORE, DAY)), "TXFD6", BEFORE, DAY)


def test_tables_and_lists_that_cannot_be_are_refused() -> None:
    quotes, ranked = PAST.daily_quotes(DAY), PAST.scanners("VolumeRank", DAY, count=5)
    snapshots, credit = PAST.snapshots(["2330", "2317"]), PAST.credit_enquires(["2330"])

    def scanned(rows: list[Row], day: date = DAY, count: int = 5) -> None:
        checks.check_scanners(rows, "VolumeRank", day, ascending=True, count=count)

    refusals: list[tuple[Callable[[], None], str]] = [
        (lambda: checks.check_daily_quotes(quotes, BEFORE), "row 0: is of 2026-04-09: another day's"),
        (lambda: checks.check_daily_quotes(rows_of(quotes, lambda v: [*v, v[0]]), DAY), "stands there twice"),
        (lambda: checks.check_daily_quotes(changed(quotes, Close=at(1, -1.0)), DAY), "row 1: Close is -1.0"),
        (lambda: scanned(ranked, count=4), "5 rows, and 4 were asked for"),
        (lambda: scanned(ranked[::-1]), "not in the order of rank_value"),
        (lambda: scanned([ranked[0], *ranked[:4]]), "stands there twice"),
        (lambda: scanned(ranked, BEFORE), "is of 2026-04-09: another day's"),
        (lambda: checks.check_snapshots(snapshots, ["2330"]), "row 1: 2317 was not asked for"),
        (lambda: checks.check_snapshots(snapshots * 2, ["2330", "2317"]), "2330 stands there twice"),
        (lambda: checks.check_credit(credit, ["2317"]), "2330 was not asked for"),
        (lambda: checks.check_credit(credit * 2, ["2330"]), "2330 of HE stands there twice"),
        (lambda: checks.check_listing(Columns(code=[""]), ["code"], "punish"), "punish, row 0: '' is no code"),
        (lambda: checks.check_usage(Row(bytes=1, limit_bytes=2)), "remaining_bytes is None"),
    ]
    for refuse, why in refusals:
        with pytest.raises(AnswerRefused, match=why):
            refuse()


# Who finds which defect


@pytest.fixture
def clock() -> Clock:
    return Clock()


def metered(folder: Path, clock: Clock, past: Any) -> Metered:
    return Metered(past, Quota(folder / "quota.json", now_ns=clock.now_ns, sleep=clock.sleep))


CAUGHT = {Defect.WRONG_DAY: "another day's", Defect.DUPLICATED: "back in time", Defect.SHUFFLED: "back in time"}
LEFT_TO_THE_PROOF = {Defect.PARTIAL, Defect.EMPTY, Defect.LYING_TOTALS}  # an answer by itself does not show it
HARMLESS = {Defect.NO_TOUCH, Defect.FIXED_PRICE}


@pytest.mark.parametrize("defect", Defect)
@pytest.mark.parametrize("code", CODES)
def test_a_known_defect_is_refused_here_or_left_to_the_proof(
    defect: Defect, code: str, tmp_path: Path, clock: Clock
) -> None:
    assert set(CAUGHT) | LEFT_TO_THE_PROOF | HARMLESS == set(Defect)
    past = SimulatedHistory(1, PAST.config, frozenset({defect}), now_ns=clock.now_ns)
    asked = metered(tmp_path, clock, past)
    if defect not in CAUGHT:
        assert asked.ticks(code, BEFORE).dict() == past.ticks(code, BEFORE).dict()
        return
    with pytest.raises(
        AnswerRefused, match=rf"ticks of {code} on 2026-04-08.*{CAUGHT[defect]}.*asked 2 times"
    ) as refused:
        asked.ticks(code, BEFORE)
    assert isinstance(refused.value.answer, Columns)
    assert refused.value.answer.dict() == past.ticks(code, BEFORE).dict()
    assert asked.quota.spent().bytes == 2 * len(refused.value.answer.ts) * 8 * 9  # both were paid for


# Asking again


class Broken:
    """The simulated past behind a line that breaks: each error is raised once, before an answer."""

    def __init__(self, clock: Clock, *errors: Exception) -> None:
        self.past = SimulatedHistory(1, PAST.config, now_ns=clock.now_ns)
        self.errors = list(errors)
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.past, name)

    def ticks(self, code: str, day: date) -> Columns:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.past.ticks(code, day)


def test_a_lost_question_is_asked_again_with_growing_pauses_and_each_try_is_charged(
    tmp_path: Path, clock: Clock
) -> None:
    broken = Broken(clock, *[NotAnswered("timed out")] * (TRIES_MAX - 1))
    quota = Quota(tmp_path / "q.json", now_ns=clock.now_ns, sleep=clock.sleep, session_open=lambda _: True)
    asked = Metered(broken, quota)  # type: ignore[arg-type]
    answer = asked.ticks("2330", BEFORE)
    assert answer.ts and broken.asked == TRIES_MAX
    assert len(clock.slept) == TRIES_MAX - 1
    for tried, seconds in enumerate(clock.slept):
        pause_ns = PAUSE_NS_FIRST << tried
        assert pause_ns <= seconds * 10**9 <= pause_ns * 1.5 + 10**7
    assert asked.quota.spent().intraday == {"ticks": TRIES_MAX}
    assert asked.quota.spent().bytes == len(answer.ts) * 8 * 9  # what a lost answer took only the broker knows


def test_the_last_failure_says_what_how_often_and_when_to_ask_again(tmp_path: Path, clock: Clock) -> None:
    broken = Broken(clock, *[NotAnswered("timed out")] * TRIES_MAX)
    with pytest.raises(NotAnswered, match=r"^ticks of 2330 on 2026-04-08: no answer in 4 tries and \d+ s: timed out\. "
                                          r"Ask again from 14:00:\d\d Taipei$"):  # fmt: skip
        metered(tmp_path, clock, broken).ticks("2330", BEFORE)
    assert broken.asked == TRIES_MAX


def test_who_is_told_to_wait_waits_that_long_and_not_for_ever(tmp_path: Path, clock: Clock) -> None:
    broken = Broken(clock, NotAnswered("503: suspended", SUSPENDED_NS), LoginLater("451", 120 * SECOND_NS))
    assert metered(tmp_path, clock, broken).ticks("2330", BEFORE).ts
    assert clock.slept == [pytest.approx(90, abs=0.01), pytest.approx(120, abs=0.01)]
    broken = Broken(clock, NotAnswered("maintenance", WAIT_NS_MAX + 1))
    with pytest.raises(NotAnswered, match=r"no answer in 1 try: maintenance\. Ask again from 14:0\d"):
        metered(tmp_path, clock, broken).ticks("2330", BEFORE)
    assert broken.asked == 1 and len(clock.slept) == 2


@pytest.mark.parametrize(
    "error",
    [QuotaExhausted("used up"), QuestionRefused("no such date"), LoginRefused("banned"), ValueError("31 days"),
     HistoryUnavailable("not listed"), UnknownInstrument("no code"), KeyError("of the SDK's")],
)  # fmt: skip
def test_what_will_not_pass_is_never_asked_again(error: Exception, tmp_path: Path, clock: Clock) -> None:
    broken = Broken(clock, error)
    with pytest.raises(type(error), match=str(error)):
        metered(tmp_path, clock, broken).ticks("2330", BEFORE)
    assert (broken.asked, clock.slept) == (1, [])
    spent = Quota(tmp_path / "quota.json", now_ns=clock.now_ns).spent().bytes
    assert spent == (TRAFFIC_BYTES_MAX if isinstance(error, QuotaExhausted) else 0)


def test_the_pauses_of_two_processes_differ_and_those_of_one_seed_do_not() -> None:
    def pauses(seed: int) -> list[float]:
        clock = Clock()
        patience = Patience(now_ns=clock.now_ns, sleep=clock.sleep, chance=random.Random(seed))

        def never() -> None:
            raise NotAnswered("timed out")

        with pytest.raises(NotAnswered):
            patience.ask("it", never)
        return clock.slept

    assert pauses(1) == pauses(1) != pauses(2)
    assert max(pauses(1)) <= PAUSE_NS_MAX * 1.5 / SECOND_NS
