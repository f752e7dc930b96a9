"""The broker's own history over a look-alike client: how it is asked, logged in, and what its errors mean."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from made_records import ns, trades, write_log
from test_quota import Clock

from shijim_live.broker import answer_checks
from shijim_live.broker.gateway import SUSPENDED_NS, TOO_MANY_CONNECTIONS_NS, LoginLater, LoginRefused
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
from shijim_live.broker.history_errors import LoginGone
from shijim_live.broker.leases import Leases, NoConnectionLeft, Role
from shijim_live.broker.login import LoginForbidden, LoginToken
from shijim_live.broker.quota import RESERVED_BYTES
from shijim_live.broker.session import LOGINS_MAX, STABLE_NS
from shijim_live.broker.shioaji import ShioajiGateway, quote_classes
from shijim_live.broker.shioaji_history import ShioajiHistory
from shijim_live.broker.simulated import SimulationConfig
from shijim_live.broker.simulated_history import SimulatedHistory
from shijim_live.broker.surface import GOLDEN
from shijim_live.calendar import (
    SECOND_NS,
    TAIPEI_OFFSET_NS,
    Market,
    next_trading_day,
    previous_trading_day,
    trading_day,
    trading_days,
)
from shijim_live.instruments import UnknownInstrument, concrete_code
from shijim_live.settings import Settings
from shijim_pipelines.daily.resources import BrokerHistory
from shijim_pipelines.history import BrokerConnection, history_for
from shijim_pipelines.quotes import instruments_of, quotes_of

quote_classes()
sdk = sys.modules["shioaji"]

ROOT = Path(__file__).parents[1]
DAY = date(2026, 4, 9)
NOW = "2026-04-09 20:00:00"
SMALL = SimulationConfig(target_events=4_000)
KEY, SECRET = "DummyKeyDummyKeyDummyKeyDummyKeyDummyKey1234", "4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi"
WELL_FORMED = {"SHIOAJI_API_KEY": KEY, "SHIOAJI_SECRET_KEY": SECRET}


# A look-alike of the SDK's client


def golden(method: str) -> inspect.Signature:
    """The signature of a method of the client, as the pinned surface has it."""
    [line] = [line for line in GOLDEN.read_text().splitlines() if line.startswith(f"Shioaji.{method}(")]
    found: dict[str, Any] = {}
    exec(f"def {method}({line.partition('(')[2].replace('$self', 'self')}: ...", found)
    return inspect.signature(found[method])


class Client:
    """Takes what the SDK's client takes, and answers from the simulated past in the SDK's shapes."""

    def __init__(self, now: str = NOW) -> None:
        self.past = SimulatedHistory(1, SMALL, now_ns=lambda: ns(now))
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.errors: list[BaseException] = []  # raised first, one a question
        self.largest_first = True  # with ascending=True
        self.gone: set[str] = set()  # not listed
        self.logouts = 0
        self.contracts = SimpleNamespace(get=self._get, list=self._list, futures=self._futures, info=self._info)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            bound = golden(method).bind(self, *arguments, **named)
            self.asked.append((method, dict(list(bound.arguments.items())[1:])))
            if self.errors:
                raise self.errors.pop(0)
            return getattr(self, f"answer_{method}")(SimpleNamespace(**self.asked[-1][1]))

        if method.startswith(("_", "answer_")):
            raise AttributeError(method)
        return call

    def answer_ticks(self, asked: Any) -> Columns:
        assert asked.query_type == sdk.TicksQueryType.AllDay and type(asked.date) is str
        return self.past.ticks(asked.contract.code, date.fromisoformat(asked.date))

    def answer_kbars(self, asked: Any) -> Columns:
        first, last = date.fromisoformat(asked.start), date.fromisoformat(asked.end)
        bars: dict[int, tuple[Any, ...]] = {}
        for day in trading_days(first, next_trading_day(last)):  # a continuous code is another month on other days
            columns = self.past.kbars(concrete_code(asked.contract.code, day), first, last)
            rows = zip(*columns.dict().values(), strict=True)
            bars |= {row[0]: row for row in rows if trading_day(row[0] - TAIPEI_OFFSET_NS - 1, Market.FUTURES) == day}
        return Columns(**{name: [row[at] for row in bars.values()] for at, name in enumerate(answer_checks.KBARS)})

    def answer_daily_quotes(self, asked: Any) -> Columns:
        assert type(asked.date) is date and asked.exclude is True
        return self.past.daily_quotes(asked.date)

    def answer_snapshots(self, asked: Any) -> list[Row]:
        rows = self.past.snapshots([contract.code for contract in asked.contracts])
        return [
            Row(**row.dict() | {"exchange": getattr(sdk.Exchange, row.exchange), "tick_type": sdk.TickType.Buy})
            for row in rows
        ]

    def answer_scanners(self, asked: Any) -> list[Row]:
        assert type(asked.scanner_type) is sdk.ScannerType
        largest_first = asked.ascending == self.largest_first
        day = date.fromisoformat(asked.date)
        return self.past.scanners(asked.scanner_type.value, day, ascending=largest_first, count=asked.count)

    def answer_punish(self, _: Any) -> Columns:
        return self.past.punish()

    def answer_notice(self, _: Any) -> Columns:
        return self.past.notice()

    def answer_credit_enquires(self, asked: Any) -> list[Row]:
        return self.past.credit_enquires([contract.code for contract in asked.contracts])

    def answer_usage(self, _: Any) -> SimpleNamespace:
        return SimpleNamespace(**self.past.usage().dict())

    def logout(self) -> None:
        self.logouts += 1

    def _get(self, code: str) -> object | None:
        return None if code in self.gone else SimpleNamespace(code=code)

    def _list(self, kind: str) -> list[object]:
        assert kind == "STK"
        return [SimpleNamespace(code="2330")]  # bare: what is known of it must be looked up

    def _futures(self, root: str) -> list[object]:
        return [SimpleNamespace(code=f"{root}D6", reference=20_000.0, security_type="FUT")]

    def _info(self, base: Any) -> object:
        return SimpleNamespace(code=base.code, name="TSMC", reference=1_450.0, security_type=sdk.SecurityType.Stock)


class Offline(ShioajiGateway):
    """The real gateway but for its login, which no test may reach."""

    def __init__(self, client: Client, folder: Path) -> None:
        super().__init__(Settings.load(WELL_FORMED, folder), object.__new__(LoginToken))
        self.look_alike = client
        self.forced: list[bool] = []  # of each login
        self.refusals: list[Exception] = []

    @property
    def logins(self) -> int:
        return len(self.forced)

    def login(self, *, force_refresh: bool) -> None:
        self.forced.append(force_refresh)
        if self.refusals:
            raise self.refusals.pop(0)
        self._client = self.look_alike  # type: ignore[assignment]


class Place:
    """A person's folder, a clock, and histories in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock(NOW)
        self.client = Client()
        self.gateway = Offline(self.client, folder)
        self.leases = Leases(folder / "market", now_ns=self.clock.now_ns)
        self.history = ShioajiHistory(self.gateway, self.leases, "shioaji", self.clock.now_ns)
        self.quota = Quota(folder / "market" / "quota.json", now_ns=self.clock.now_ns, sleep=self.clock.sleep,
                           session_open=lambda _: False)  # fmt: skip
        self.metered = Metered(self.history, self.quota)

    def questions(self) -> list[str]:
        return [method for method, _ in self.client.asked]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.history.close()


# Questions and answers


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("Ticks", answer_checks.TICKS),
        ("KBars", answer_checks.KBARS),
        ("DailyQuotes", answer_checks.DAILY_QUOTES),
        ("Punish", answer_checks.PUNISH),
        ("Notice", answer_checks.NOTICE),
    ],
)
def test_the_columns_that_are_judged_are_those_of_the_sdk(name: str, fields: Sequence[str]) -> None:
    facts = [line for line in GOLDEN.read_text().splitlines() if line.startswith(f"{name}.") and "(" not in line]
    assert sorted(fields) == sorted(fact.partition(".")[2] for fact in facts)


QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "ticks": lambda h: h.ticks("2330", DAY),
    "kbars": lambda h: h.kbars("TXFD6", previous_trading_day(DAY), DAY),
    "daily_quotes": lambda h: h.daily_quotes(DAY),
    "scanners": lambda h: h.scanners("VolumeRank", DAY, count=5),
    "punish": lambda h: h.punish(),
    "notice": lambda h: h.notice(),
    "credit_enquires": lambda h: h.credit_enquires(["2330", "2317"]),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_fits_the_sdks_signature_and_its_answer_comes_through_whole(question: str, place: Place) -> None:
    found, expected = QUESTIONS[question](place.metered), QUESTIONS[question](place.client.past)
    shown = [one.dict() for one in found] if isinstance(found, list) else found.dict()
    assert shown == ([one.dict() for one in expected] if isinstance(expected, list) else expected.dict()) and shown
    assert place.questions() == ["usage", question]
    assert place.quota.spent().bytes > 0


def test_an_enum_of_the_sdk_becomes_its_value(place: Place) -> None:
    [row] = place.metered.snapshots(["2330"])
    assert (row.exchange, row.tick_type) == ("TSE", "Buy")
    assert type(row.exchange) is str


def test_every_scanner_type_is_one_of_the_sdks(place: Place) -> None:
    for scanner_type in SCANNER_TYPES:
        assert place.metered.scanners(scanner_type, DAY, count=3)


def test_instruments_are_those_of_now_and_of_no_other_day(place: Place) -> None:
    for day in (DAY, date(2026, 4, 10)):  # the evening: the day is over and its list stands, the next one trades
        listed = place.metered.instruments(day)
        assert listed.Code[:2] == ["2330", "TXFD6"]
        assert (listed.Name[0], listed.SecurityType[0], listed.Reference[0]) == ("TSMC", "STK", 1_450.0)
        assert type(listed.SecurityType[0]) is str
    with pytest.raises(HistoryUnavailable, match=r"lists what trades now \(2026-04-09 or 2026-04-10\)"):
        place.metered.instruments(date(2026, 4, 8))


# Codes


def test_an_expired_month_is_asked_for_by_its_place_of_that_day(place: Place) -> None:
    march = date(2026, 3, 10)
    assert place.metered.ticks("TXFC6", march).dict() == place.client.past.ticks("TXFC6", march).dict()
    place.metered.ticks("TXFD6", march)  # not expired: by its own name
    place.history.ticks("TXFC6", date(2026, 2, 3))  # the next month on that day
    codes = [asked["contract"].code for method, asked in place.client.asked if method == "ticks"]
    assert codes == ["TXFR1", "TXFD6", "TXFR2"]


def test_minutes_of_an_expired_month_are_only_those_on_which_the_place_was_its(place: Place) -> None:
    # 18 March was the last day of March's future: R1 is March until its close and April from that evening on.
    bars = place.metered.kbars("TXFC6", date(2026, 3, 17), date(2026, 3, 19))
    own = place.client.past.kbars("TXFC6", date(2026, 3, 17), date(2026, 3, 19))
    mixed = place.metered.kbars("TXFR1", date(2026, 3, 17), date(2026, 3, 19))
    assert bars.dict() == own.dict()
    assert 0 < len(bars.ts) < len(mixed.ts)
    assert place.client.asked[-2][1]["contract"].code == "TXFR1"


@pytest.mark.parametrize(
    ("code", "day", "why"),
    [
        ("TXFB6", date(2025, 11, 3), "neither the near nor the next month on 2025-11-03"),
        ("2330", date(2020, 2, 27), "keeps history from 2020-03-02 on"),
        ("TXFD6", date(2020, 3, 20), "keeps history from 2020-03-22 on"),
    ],
)
def test_what_the_broker_does_not_keep_is_refused_for_good_and_not_asked(
    code: str, day: date, why: str, place: Place
) -> None:
    for ask in (place.history.ticks, place.metered.ticks):
        with pytest.raises(HistoryUnavailable, match=why) as refused:
            ask(code, day)
        assert refused.value.for_good and place.client.asked == [] and place.gateway.logins == 0
    with pytest.raises(UnknownInstrument):
        place.metered.kbars("TXO21000L6", day, day)
    with pytest.raises(ValueError, match="32 days; ask for 1 to 30"):
        place.metered.kbars("2330", date(2026, 3, 1), date(2026, 4, 1))
    assert place.gateway.logins == 0 and not place.quota.path.exists()


def test_a_code_that_is_not_listed_is_refused_by_name(place: Place) -> None:
    place.client.gone = {"6488"}
    for ask in (lambda: place.metered.ticks("6488", DAY), lambda: place.metered.snapshots(["2330", "6488"])):
        with pytest.raises(HistoryUnavailable, match="6488: the broker lists no such contract"):
            ask()
    assert place.quota.spent().bytes == 0  # the questions count, answers there were none


# The order of a ranking


@pytest.mark.parametrize("ascending", [True, False])
def test_a_ranking_cut_off_at_the_wrong_end_is_asked_for_the_other_way_round_and_that_is_remembered(
    ascending: bool, place: Place
) -> None:
    place.client.largest_first = False
    expected = place.client.past.scanners("AmountRank", DAY, ascending=ascending, count=5)
    for _ in range(2):
        found = place.metered.scanners("AmountRank", DAY, ascending=ascending, count=5)
        assert [row.code for row in found] == [row.code for row in expected]
    assert place.questions().count("scanners") == 3


def test_a_whole_ranking_in_the_other_order_is_turned_round(place: Place) -> None:
    place.client.largest_first = False
    found = place.metered.scanners("AmountRank", DAY)
    assert [row.rank_value for row in found] == sorted((row.rank_value for row in found), reverse=True)
    assert place.questions().count("scanners") == 1


# The connection


def test_it_is_logged_in_at_the_first_question_and_given_back_when_closed(place: Place) -> None:
    assert place.gateway.logins == 0 and place.leases.leased() == []
    place.metered.ticks("2330", DAY)
    place.metered.punish()
    assert place.gateway.logins == 1 and len(place.leases.logins()) == 1
    assert [lease.role for lease in place.leases.leased()] == [Role.HISTORY]
    with place.history:
        pass
    assert place.leases.leased() == [] and place.client.logouts == 1
    place.metered.notice()
    assert place.gateway.logins == 2


def test_two_histories_of_a_person_are_one_too_many(place: Place) -> None:
    place.metered.punish()
    other = ShioajiHistory(Offline(Client(), place.folder), place.leases, "shioaji", place.clock.now_ns)
    with pytest.raises(NoConnectionLeft, match=r"no connection left for history: .* Stop one of these"):
        other.punish()


GONE = sdk.TokenError("StatusCode: 401, Detail: Token is expired")


def test_a_login_that_is_gone_is_made_anew_with_a_fresh_token(place: Place) -> None:
    place.metered.punish()
    place.client.errors = [GONE]
    place.metered.notice()
    assert (place.gateway.forced, place.client.logouts, len(place.leases.logins())) == ([False, True], 1, 2)
    place.history.close()
    place.metered.punish()
    assert place.gateway.forced == [False, True, False], "a fresh token may be used again"


@pytest.mark.parametrize("usage_is_answered", [True, False])
def test_a_login_that_is_gone_right_behind_a_fresh_one_is_not_made_again(usage_is_answered: bool, place: Place) -> None:
    place.metered.punish()
    place.client.errors = [GONE, GONE]
    if usage_is_answered:
        place.client.errors.pop()
        place.metered.usage()
        place.client.errors = [GONE]
    with pytest.raises(LoginRefused, match=r"Token is expired.*fresh token was made \d+ s before"):
        place.metered.ticks("2330", DAY)
    assert place.gateway.forced == [False, True] and place.client.logouts == 2
    assert place.quota.spent().bytes < RESERVED_BYTES["ticks"]


def test_a_fresh_login_that_lasted_is_made_anew(place: Place) -> None:
    place.metered.punish()
    for _ in range(3):
        place.client.errors = [GONE]
        place.metered.notice()
        place.clock.ns += STABLE_NS
    assert place.gateway.forced == [False, True, True, True]


def test_a_history_logs_in_no_more_often_than_any_session(place: Place) -> None:
    [(count, window_ns), *_] = LOGINS_MAX
    for _ in range(count):
        place.history.punish()
        place.history.close()
        place.clock.ns += SECOND_NS
    with pytest.raises(NotAnswered, match="this session has logged in too often") as refused:
        place.history.punish()
    assert refused.value.wait_ns == window_ns - count * SECOND_NS and place.gateway.logins == count
    place.metered.punish()
    assert place.gateway.logins == count + 1


def test_logins_are_taken_from_the_persons_budget(place: Place) -> None:
    for _ in range(20):
        assert place.leases.charge_login() == 0
    with pytest.raises(NotAnswered, match="logged in too often, over all processes") as refused:
        place.metered.punish()
    assert place.gateway.logins == 0 and place.client.asked == []
    assert refused.value.wait_ns > 14 * 60 * SECOND_NS


def test_a_login_that_must_wait_is_waited_for_and_one_that_is_refused_is_not(place: Place) -> None:
    place.gateway.refusals = [LoginLater("451: too many connections", TOO_MANY_CONNECTIONS_NS)]
    place.metered.punish()
    assert place.clock.slept == [pytest.approx(TOO_MANY_CONNECTIONS_NS / 10**9, abs=0.01)]
    assert place.gateway.forced == [False, True], "the token may be why"
    place.history.close()
    place.gateway.refusals = [LoginRefused("the API key has expired")]
    with pytest.raises(LoginRefused, match="the API key has expired"):
        place.metered.punish()
    assert len(place.clock.slept) == 1


# What its errors mean


class Panic(BaseException):
    """As the SDK's own: no Exception."""


ERRORS: dict[str, tuple[BaseException, type[Exception], int]] = {
    "timeout": (sdk.ShioajiTimeoutError("timed out"), NotAnswered, 0),
    "query timeout": (sdk.MarketDataQueryTimeoutError("timed out"), NotAnswered, 0),
    "unavailable": (sdk.MarketDataQueryUnavailableError("not now"), NotAnswered, 0),
    "no route": (sdk.ShioajiConnectionError("unreachable"), NotAnswered, 0),
    "panic": (Panic("called `Option::unwrap()`"), NotAnswered, 0),
    "suspended": (sdk.ServerError(f"StatusCode: 503, Detail: {KEY} 操作異常"), NotAnswered, SUSPENDED_NS),
    "503": (sdk.SystemMaintenance("StatusCode: 503"), NotAnswered, 5 * 60 * SECOND_NS),
    "451": (sdk.ServerError("StatusCode: 451, Detail: Too Many Connections"), NotAnswered, TOO_MANY_CONNECTIONS_NS),
    "login gone": (sdk.AuthError("Not authenticated"), LoginGone, 0),
    "used up": (sdk.MarketDataQueryUsageLimitError("limit"), QuotaExhausted, 0),
    "rejected": (sdk.MarketDataQueryRejectedError("bad date"), QuestionRefused, 0),
    "wrong value": (sdk.ShioajiValueError("bad"), QuestionRefused, 0),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_the_sdk_is_one_line_that_shows_no_key(name: str, place: Place) -> None:
    error, expected, wait_ns = ERRORS[name]
    place.client.errors = [error]
    with pytest.raises(expected) as raised:
        place.history.ticks("2330", DAY)
    assert type(raised.value) is expected and raised.value.__cause__ is None
    assert getattr(raised.value, "wait_ns", 0) == wait_ns
    assert "\n" not in str(raised.value)
    assert not any(KEY[at : at + 6] in str(raised.value) for at in range(len(KEY) - 5))


def test_an_answer_that_panics_when_it_is_read_is_no_answer(place: Place) -> None:
    class Broken:
        def keys(self) -> list[str]:
            raise Panic("index out of bounds")

    place.client.answer_ticks = lambda _: Broken()  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(NotAnswered, match="Panic: index out of bounds"):
        place.history.ticks("2330", DAY)


def test_who_is_sent_away_leaves_the_broker_alone_in_every_process(place: Place) -> None:
    place.client.errors = [sdk.ServerError("StatusCode: 503, Detail: 操作異常")]
    with pytest.raises(NotAnswered):
        place.history.punish()
    asked = len(place.client.asked)
    with pytest.raises(NotAnswered, match="has sent this person away"):
        place.history.notice()
    assert len(place.client.asked) == asked
    assert place.leases.charge_login() == place.leases.sent_away_ns() == SUSPENDED_NS
    begun_ns = place.clock.ns
    assert place.metered.notice().code
    assert place.clock.ns - begun_ns >= SUSPENDED_NS


def test_traffic_that_the_broker_says_is_used_up_is_used_up_for_everybody(place: Place) -> None:
    place.metered.ticks("2330", DAY)
    place.client.errors = [sdk.MarketDataQueryUsageLimitError("limit")]
    with pytest.raises(QuotaExhausted, match=r"ticks of 2317 .* used up .* 2026-04-10 at 08:00 Taipei"):
        place.metered.ticks("2317", DAY)
    asked = len(place.client.asked)
    with pytest.raises(QuotaExhausted, match="bytes of today's traffic are used"):
        place.metered.punish()
    assert len(place.client.asked) == asked


# Whom the pipelines ask


def test_quotes_of_a_past_day_are_asked_by_the_near_months_that_the_codes_name(place: Place) -> None:
    """The broker lists what trades now, so that of an earlier day no list can be had."""
    last = date(2026, 3, 18)  # of March's future: April's trades beside it
    table = quotes_of(last, place.folder / "market", place.metered, place.clock.ns)
    futures = {code for code in table["code"].to_pylist() if code.startswith("TXF")}
    assert futures == {"TXFD6"}  # of the look-alike's market, which has rolled by then; March's was asked for as well
    asked = {a["contract"].code for method, a in place.client.asked if method == "kbars"}
    assert {"TXFR1", "TXFD6", "MXFD6"} <= asked and "TXFC6" not in asked
    assert "2330" in table["code"].to_pylist()


def test_what_another_market_answered_is_no_part_of_this_ones_days(place: Place) -> None:
    market_dir = place.folder / "market"
    quotes_of(DAY, market_dir, place.client.past, place.clock.ns)
    with pytest.raises(AnswerRefused, match=r"was answered by simulated, and shioaji is asked now\. Keep each"):
        quotes_of(DAY, market_dir, place.metered, place.clock.ns)
    with pytest.raises(AnswerRefused, match=r"instruments.*was answered by simulated"):
        instruments_of(DAY, market_dir, place.metered)
    assert place.client.asked == []


@dg.asset
def asks_the_broker(broker: BrokerHistory) -> None:
    """Holds the connection when it ends."""
    connection = broker.connection(Settings.load({}, Path.cwd()))
    assert broker.connection(Settings.load({}, Path.cwd())) is connection
    connection._history = ASKED[0].history
    ASKED[0].history.punish()


ASKED: list[Place] = []


def test_a_step_of_the_daily_run_gives_its_login_back(place: Place) -> None:
    ASKED.append(place)
    assert dg.materialize([asks_the_broker], resources={"broker": BrokerHistory()}).success
    assert place.client.logouts == 1 and place.leases.leased() == []


def recorded(folder: Path, source: str, **header: Any) -> Path:
    write_log(folder / "wal", trades("TXFD6", "2026-04-09 09:00:00", [1, 2]), source=source, **header)
    return folder / "wal"


@pytest.mark.parametrize(
    ("source", "variables", "why"),
    [
        ("shioaji", {"SHIOAJI_SIMULATION": "false"}, "SHIOAJI_API_KEY is not set"),
        ("shioaji-simulation", {}, "SHIOAJI_API_KEY is not set"),
        ("shioaji", WELL_FORMED, "set SHIOAJI_SIMULATION=false"),
        ("shioaji-simulation", WELL_FORMED | {"SHIOAJI_SIMULATION": "false"}, "set SHIOAJI_SIMULATION=true"),
        ("shioaji", {"SHIOAJI_API_KEY": "x", "SHIOAJI_SECRET_KEY": "y", "SHIOAJI_SIMULATION": "false"}, "malformed"),
    ],
)
def test_a_day_of_the_broker_says_in_one_line_what_to_set(
    source: str, variables: dict[str, str], why: str, tmp_path: Path
) -> None:
    wal_dir, broker = recorded(tmp_path, source), BrokerConnection(Settings.load(variables, tmp_path))
    with pytest.raises(HistoryUnavailable, match=rf"2026-04-09 was recorded from {source} .*{why}") as refused:
        history_for(DAY, wal_dir, tmp_path / "market", broker=broker)
    assert "\n" not in str(refused.value) and not refused.value.for_good


def test_no_test_reaches_the_brokers_history_whatever_its_keys(tmp_path: Path) -> None:
    variables = WELL_FORMED | {"SHIOAJI_SIMULATION": "false"}
    broker = BrokerConnection(Settings.load(variables, tmp_path))
    for wal_dir, unrecorded in ((recorded(tmp_path, "shioaji"), "simulated"), (tmp_path / "none", "shioaji")):
        with pytest.raises(LoginForbidden, match="no login"):
            history_for(DAY, wal_dir, tmp_path / "market", broker=broker, unrecorded=unrecorded)


def test_real_test_service_and_simulated_are_never_mixed(tmp_path: Path) -> None:
    wal_dir = recorded(tmp_path, "shioaji")
    recorded(tmp_path, "shioaji-simulation", run_id="00000000000000cd")
    broker = BrokerConnection(Settings.load(WELL_FORMED, tmp_path))
    with pytest.raises(HistoryUnavailable, match=r"different markets.*shioaji in .*shioaji-simulation in"):
        history_for(DAY, wal_dir, tmp_path / "market", broker=broker)


def test_the_choice_of_whom_to_ask_is_the_recordings_then_the_flags_then_the_settings(tmp_path: Path) -> None:
    def asked(*flags: str, **variables: str) -> str:
        command = [sys.executable, "-m", "shijim_pipelines", "instruments", "--day", str(DAY), *flags]
        done = subprocess.run([*command, "--data-dir", str(tmp_path)], cwd=ROOT, env=os.environ | variables,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == (0 if done.stdout else 4) and done.stderr.count("\n") <= 1
        return done.stderr or done.stdout

    assert "TXFD6" in asked()
    assert "SHIOAJI_API_KEY is not set" in asked("--broker", "shioaji")
    assert "SHIOAJI_API_KEY is not set" in asked(SHIJIM_HISTORY="shioaji")
    assert "TXFD6" in asked("--broker", "simulated", SHIJIM_HISTORY="shioaji")
    assert "no login: " in asked("--broker", "shioaji", **WELL_FORMED)
