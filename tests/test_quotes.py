"""A day's quotes: what the broker says the sessions came to, exact, and refused where it cannot be true."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import ns

from shijim_live.broker.history import Columns
from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig
from shijim_live.broker.simulated_history import Defect, SimulatedHistory
from shijim_live.calendar import MINUTE_NS, NotATradingDay, NotYet
from shijim_pipelines.answers import AnswerRefused, e6
from shijim_pipelines.quotes import (
    QuotesMissing,
    closing_totals,
    fetch_instruments,
    fetch_quotes,
    instruments_of,
    near_months,
    quotes_of,
    quotes_path,
    read_instruments,
    read_quotes,
    unanswered,
    write_instruments,
    write_quotes,
)

DAY = date(2026, 4, 9)
LATER = ns("2026-06-01 00:00:00")
CONFIG = SimulationConfig(target_events=6_000)
FUTURES = ("TXFD6", "MXFD6", "TMFD6")


@cache
def history(*defects: Defect, codes: frozenset[str] | None = None) -> SimulatedHistory:
    return SimulatedHistory(1, CONFIG, frozenset(defects), defective_codes=codes, now_ns=lambda: LATER)


class Altered:
    """The history with one column of one question changed, as a broker's bad day would."""

    def __init__(self, question: str, change: Callable[[dict[str, list[Any]]], object]) -> None:
        self.question = question
        self.change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(history(), name)

    def _answer(self, question: str, answer: Columns) -> Columns:
        columns = answer.dict()
        if question == self.question:
            self.change(columns)
        return Columns(**columns)

    def daily_quotes(self, day: date) -> Columns:
        return self._answer("daily_quotes", history().daily_quotes(day))

    def kbars(self, code: str, first: date, last: date) -> Columns:
        return self._answer("kbars", history().kbars(code, first, last))

    def instruments(self, day: date) -> Columns:
        return self._answer("instruments", history().instruments(day))


def rows_by_key(
    day: date = DAY, futures: tuple[str, ...] = FUTURES, as_of_ns: int = LATER
) -> dict[Any, dict[str, Any]]:
    table = fetch_quotes(history(), day, futures, as_of_ns)
    return {(row["code"], row["session"]): row for row in table.to_pylist()}


def test_every_session_comes_to_what_the_exchange_traded_in_it() -> None:
    import numpy as np

    exchange = SimulatedExchange(DAY, 1, CONFIG)
    truth = exchange.truth()["trades"]
    code, session = np.frombuffer(truth["instrument"], "<u2"), np.frombuffer(truth["session"], "u1")
    volume, price = np.frombuffer(truth["volume"], "<u4"), np.frombuffer(truth["price_e6"], "<i8")
    rows = rows_by_key()
    checked = 0
    for number, name in enumerate(exchange.codes):
        for at, bounds in enumerate(exchange.sessions):
            mask = (code == number) & (session == at)
            if not mask.any():
                continue
            row = rows[name, str(bounds.session)]
            prices = price[mask]
            found = [row[f"{which}_e6"] for which in ("open", "high", "low", "close")]
            assert found == [prices[0], prices.max(), prices.min(), prices[-1]]
            assert row["volume"] == volume[mask].sum()
            lots = 1_000 if row["asked"] == "daily_quotes" else 1
            assert row["amount_e6"] == sum(int(p) * int(v) for p, v in zip(prices, volume[mask], strict=True)) * lots
            assert row["trades"] == (mask.sum() if row["asked"] == "daily_quotes" else None)
            checked += 1
    assert checked == len(rows) == 12 + 2 * 3


def test_sessions_that_are_not_over_are_left_out_and_none_at_all_is_not_yet() -> None:
    with pytest.raises(NotYet, match="2026-04-09: no session is over yet"):
        fetch_quotes(history(), DAY, FUTURES, ns("2026-04-09 05:00:59"))
    with pytest.raises(NotATradingDay):
        fetch_quotes(history(), date(2026, 4, 11), FUTURES, LATER)
    night = rows_by_key(as_of_ns=ns("2026-04-09 05:01:00"))
    assert {session for _, session in night} == {"night"}
    noon = rows_by_key(as_of_ns=ns("2026-04-09 14:00:00"))
    assert set(noon) == {(code, session) for code in FUTURES for session in ("night", "day")}
    assert rows_by_key(as_of_ns=ns("2026-04-09 14:50:00")) == rows_by_key()


def test_a_monday_holds_the_night_that_began_on_friday() -> None:
    monday = rows_by_key(date(2026, 4, 13), ("TXFD6",))
    exchange = SimulatedExchange(date(2026, 4, 13), 1, CONFIG)
    import numpy as np

    truth = exchange.truth()["trades"]
    night = (np.frombuffer(truth["instrument"], "<u2") == 0) & (np.frombuffer(truth["session"], "u1") == 0)
    assert monday["TXFD6", "night"]["volume"] == np.frombuffer(truth["volume"], "<u4")[night].sum()


def set_first(column: str, value: object) -> Callable[[dict[str, list[Any]]], object]:
    return lambda columns: columns[column].__setitem__(0, value)


def set_all(column: str, value: object) -> Callable[[dict[str, list[Any]]], object]:
    return lambda columns: columns.update({column: [value] * len(columns[column])})


def first_again(columns: dict[str, list[Any]]) -> None:
    for values in columns.values():
        values.insert(1, values[0])


def nothing(columns: dict[str, list[Any]]) -> None:
    for values in columns.values():
        values.clear()


def a_day_later(columns: dict[str, list[Any]]) -> None:
    columns["ts"] = [ts + 24 * 60 * MINUTE_NS for ts in columns["ts"]]


LIES = [
    ("daily_quotes", set_first("Date", date(2026, 4, 8)), "is of 2026-04-08: the broker answers another day"),
    ("daily_quotes", first_again, "2330: stands there twice"),
    ("daily_quotes", set_first("Volume", -1), "2330: Volume is -1, not a whole number"),
    ("daily_quotes", set_first("Volume", 0.5), "2330: Volume is 0.5, not a whole number"),
    ("daily_quotes", set_first("Volume", None), "2330: Volume is None"),
    ("daily_quotes", set_first("High", 1.0), "2330: its prices contradict each other"),
    ("daily_quotes", set_first("Close", float("nan")), "2330: Close is nan, not a price"),
    ("daily_quotes", set_first("Close", "-"), "2330: Close is '-', not a price"),
    ("daily_quotes", nothing, "daily_quotes of 2026-04-09 is empty on a trading day"),
    ("daily_quotes", lambda columns: columns.pop("Amount"), "has no Amount"),
    ("daily_quotes", lambda columns: columns["Amount"].pop(), "its columns differ in length"),
    ("kbars", first_again, "repeated, or out of order"),
    ("kbars", lambda columns: columns["ts"].reverse(), "repeated, or out of order"),
    ("kbars", a_day_later, "holds the minute 2026-04-10"),
    ("kbars", nothing, "kbars of 2026-04-09: not a minute of any of"),
    ("kbars", set_all("Low", 99_999.0), "contradict each other"),
    ("kbars", set_all("Close", float("inf")), "Close is inf, not a price"),
    ("instruments", first_again, "instruments of 2026-04-09: TXFD6 stands there twice"),
    ("instruments", nothing, "instruments of 2026-04-09: none at all"),
]


@pytest.mark.parametrize(("question", "change", "said"), LIES)
def test_what_cannot_be_true_is_refused_and_nothing_is_written(
    tmp_path: Path, question: str, change: Callable[[dict[str, list[Any]]], object], said: str
) -> None:
    with pytest.raises(AnswerRefused) as refused:
        quotes_of(DAY, tmp_path, Altered(question, change), LATER)
    assert said in str(refused.value)
    assert not list(tmp_path.rglob("quotes/*"))


def test_an_answer_that_is_empty_because_the_traffic_is_used_up_is_no_quiet_day() -> None:
    empty = SimulatedHistory(1, CONFIG, limit_bytes=0, now_ns=lambda: LATER)
    with pytest.raises(AnswerRefused, match="the traffic is used up"):
        fetch_quotes(empty, DAY, FUTURES, LATER)
    silent = fetch_quotes(history(Defect.EMPTY, codes=frozenset(["TXFD6"])), DAY, FUTURES, LATER)
    assert unanswered(silent) == ["TXFD6"]
    assert "TXFD6" not in silent["code"].to_pylist()


def test_a_code_that_got_no_answer_is_asked_again(tmp_path: Path) -> None:
    silent = history(Defect.EMPTY, codes=frozenset(["TXFD6"]))
    assert unanswered(quotes_of(DAY, tmp_path, silent, LATER, ("TXFD6",))) == ["TXFD6"]
    assert ("TXFD6", "day") not in closing_totals(tmp_path, DAY)
    assert unanswered(quotes_of(DAY, tmp_path, history(), LATER, ("TXFD6",))) == []
    assert closing_totals(tmp_path, DAY)["TXFD6", "day"] > 0


def test_recorded_stocks_have_totals_by_the_minute_before_the_table_is_out(tmp_path: Path) -> None:
    at_the_schedule = ns("2026-04-09 14:45:00")
    quotes_of(DAY, tmp_path, history(), at_the_schedule, ("2330",))
    early = closing_totals(tmp_path, DAY)
    assert ("2330", "day") in early and ("2317", "day") not in early
    quotes_of(DAY, tmp_path, history(), LATER, ("2330",))
    late = closing_totals(tmp_path, DAY)
    assert late["2330", "day"] == early["2330", "day"] and ("2317", "day") in late


def test_a_code_without_any_history_has_rows_without_a_trade_when_the_caller_knows_it() -> None:
    table = fetch_quotes(history(), DAY, ("TXFE6", "TXFD6"), LATER, quiet=("TXFE6",))
    (night, day) = sorted(
        (row for row in table.to_pylist() if row["code"] == "TXFE6"), key=lambda r: -len(r["session"])
    )
    assert (night["session"], day["session"]) == ("night", "day")
    assert (day["volume"], day["close_e6"], day["amount_e6"]) == (0, None, 0)
    with pytest.raises(AnswerRefused, match="not a minute of any of 1 codes"):
        fetch_quotes(history(), DAY, ("TXFE6",), LATER)


def test_odd_lots_in_the_shares_are_kept_and_make_no_closing_total(tmp_path: Path) -> None:
    def odd(columns: dict[str, list[Any]]) -> None:
        columns["Volume"][0] = 12_345
        columns["Volume"][1] = 999

    write_quotes(fetch_quotes(Altered("daily_quotes", odd), DAY, (), LATER), tmp_path, DAY)
    rows = {row["code"]: row for row in read_quotes(tmp_path, DAY).to_pylist()}
    assert (rows["2330"]["volume"], rows["2330"]["odd_shares"]) == (12, 345)
    assert (rows["2317"]["volume"], rows["2317"]["odd_shares"]) == (0, 999)
    assert rows["2317"]["close_e6"] is not None
    totals = closing_totals(tmp_path, DAY)
    assert ("2330", "day") not in totals and ("2317", "day") not in totals
    assert totals["0050", "day"] == rows["0050"]["volume"]


def test_a_stock_without_a_trade_has_no_price() -> None:
    def idle(columns: dict[str, list[Any]]) -> None:
        for name in ("Open", "High", "Low", "Close", "Volume", "Transaction", "Amount"):
            columns[name][0] = 0

    table = fetch_quotes(Altered("daily_quotes", idle), DAY, (), LATER)
    (row,) = (row for row in table.to_pylist() if row["code"] == "2330")
    assert (row["open_e6"], row["close_e6"], row["volume"], row["trades"]) == (None, None, 0, 0)


def test_a_stock_asked_by_minutes_has_its_board_lots_and_the_matches_of_the_table() -> None:
    by_table = rows_by_key(futures=())
    by_minute = rows_by_key(futures=("2330",))
    expected = by_table["2330", "day"] | {"asked": "kbars"}
    assert by_minute["2330", "day"] == expected

    def a_lot_less(columns: dict[str, list[Any]]) -> None:
        columns["Volume"][0] -= 1_000

    with pytest.raises(AnswerRefused, match=r"2330: .* lots by minutes and .*: one of them lies"):
        fetch_quotes(Altered("daily_quotes", a_lot_less), DAY, ("2330",), LATER)


def test_the_same_answers_give_the_same_bytes_and_are_read_back(tmp_path: Path) -> None:
    table = fetch_quotes(history(), DAY, FUTURES, LATER)
    first = write_quotes(table, tmp_path / "a", DAY)
    second = write_quotes(fetch_quotes(history(), DAY, FUTURES[::-1], LATER), tmp_path / "b", DAY)
    assert first.read_bytes() == second.read_bytes()
    assert read_quotes(tmp_path / "a", DAY).equals(table)
    assert [path.name for path in (tmp_path / "a").rglob("*") if path.is_file()] == ["2026-04-09.parquet"]


def test_a_file_that_is_not_the_days_is_refused_and_a_missing_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuotesMissing, match="Run: shijim quotes --day 2026-04-09"):
        read_quotes(tmp_path, DAY)
    with pytest.raises(QuotesMissing, match="Run: shijim instruments --day 2026-04-09"):
        read_instruments(tmp_path, DAY)
    assert closing_totals(tmp_path, DAY) == {}
    path = write_quotes(fetch_quotes(history(), DAY, FUTURES, LATER), tmp_path, DAY)
    other = quotes_path(tmp_path, date(2026, 4, 10))
    other.write_bytes(path.read_bytes())
    with pytest.raises(AnswerRefused, match="is not what this release writes for 2026-04-10"):
        read_quotes(tmp_path, date(2026, 4, 10))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(AnswerRefused, match=r"2026-04-09\.parquet: cannot be read"):
        closing_totals(tmp_path, DAY)


def test_a_file_of_the_morning_is_completed_after_the_close_and_not_fetched_again(tmp_path: Path) -> None:
    morning = quotes_of(DAY, tmp_path, history(), ns("2026-04-09 06:00:00"))
    assert set(morning["session"].to_pylist()) == {"night"}
    with pytest.raises(QuotesMissing, match="is from before futures-day, stock-day was over"):
        quotes_of(DAY, tmp_path, None, LATER)
    whole = quotes_of(DAY, tmp_path, history(), LATER)
    assert len(whole) == 12 + 2 * 3
    assert quotes_of(DAY, tmp_path, None, LATER).equals(whole)


def test_instruments_are_written_exactly_and_read_back(tmp_path: Path) -> None:
    table = fetch_instruments(history(), DAY)
    path = write_instruments(table, tmp_path, DAY)
    assert instruments_of(DAY, tmp_path, None).equals(table)
    assert write_instruments(table, tmp_path, DAY).read_bytes() == path.read_bytes()
    rows = {row["code"]: row for row in table.to_pylist()}
    assert list(rows) == sorted(rows)
    assert rows["2330"]["reference_e6"] == 1_450_000_000
    assert rows["2330"]["limit_up_e6"] == 1_595_000_000


def test_the_near_month_of_each_root_and_on_its_last_day_the_next_one_too() -> None:
    def listing(*codes: str) -> Any:
        return fetch_instruments(Altered("instruments", lambda columns: columns.update(
            {name: (list(codes) if name == "Code" else values[:1] * len(codes)) for name, values in columns.items()}
        )), DAY)  # fmt: skip

    table = listing("TXFR1", "TXFD6", "TXFE6", "TXFF6", "MXFE6", "2330", "TXFC6", "QQQD6")
    assert near_months(table, DAY) == [("MXF", "MXFE6"), ("TXF", "TXFD6")]
    last_day = date(2026, 4, 15)
    assert near_months(table, last_day) == [("MXF", "MXFE6"), ("TXF", "TXFD6"), ("TXF", "TXFE6")]
    assert near_months(table, date(2026, 4, 16)) == [("MXF", "MXFE6"), ("TXF", "TXFE6")]


@given(st.integers(0, 10**13))
def test_a_price_survives_the_float_it_was_sent_as(price_e6: int) -> None:
    assert e6(price_e6 / 1_000_000, "here") == price_e6


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.1 + 0.2, 300_000), (1e-7, 0), (5e-7, 0), (1.5e-6, 2), (1e22, 10**28), (7, 7_000_000), ("16.35", 16_350_000),
     (Decimal("2.50"), 2_500_000)],
)  # fmt: skip
def test_a_price_is_rounded_as_decimal_text(value: object, expected: int) -> None:
    assert e6(value, "here") == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.01, None, "", "abc", True])
def test_what_is_no_price_is_refused_with_its_place(value: object) -> None:
    with pytest.raises(AnswerRefused, match="here is"):
        e6(value, "here")
