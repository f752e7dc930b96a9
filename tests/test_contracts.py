"""The contracts of a trading day: from the SDK's info objects to exact rows, judged by count, renewed in time."""

from __future__ import annotations

import ast
import importlib.util
from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import dagster as dg
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import ns

from shijim_live import calendar
from shijim_live.broker.contracts import CONTRACT_FIELDS, listed
from shijim_live.broker.history import Columns
from shijim_live.broker.simulated import SimulationConfig
from shijim_live.broker.simulated_history import SimulatedHistory
from shijim_live.calendar import NotATradingDay, wall_clock
from shijim_pipelines.answers import AnswerRefused
from shijim_pipelines.contracts import INSTRUMENTS_SCHEMA, contract_table, describe, readiness
from shijim_pipelines.daily.listing import contracts_renewed, renew_contracts
from shijim_pipelines.daily.resources import BrokerHistory, Place
from shijim_pipelines.quotes import instruments_of, read_instruments

DAY = date(2026, 4, 9)


def stub_fields() -> dict[str, set[str]]:
    """Class → attributes, as the SDK's own stub names them: those classes cannot be made offline."""
    spec = importlib.util.find_spec("shioaji")
    assert spec is not None and spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / "_core.pyi").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    found = {}
    for name in ("StockInfo", "FuturesInfo", "OptionInfo", "IndexInfo", "WarrantInfo"):
        fields = [*classes["_ContractInfoBase"].body, *classes[name].body]
        found[name] = {node.target.id for node in fields
                       if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}  # fmt: skip
    return found


FIELDS = stub_fields()


def info(kind: str, **said: object) -> SimpleNamespace:
    """A look-alike with exactly the attributes of the SDK's class; what is not said is None, as there."""
    assert said.keys() <= FIELDS[kind], f"{kind} has no {said.keys() - FIELDS[kind]}"
    return SimpleNamespace(**dict.fromkeys(FIELDS[kind]) | said)


class Currency:
    """The SDK's enums are no str; they equal their value."""

    value = "TWD"


TSMC = info("StockInfo", code="2330", name="台積電", exchange="TSE", security_type="STK", reference=1450.0,
            limit_up=1595.0, limit_down=1305.0, unit=1000.0, currency=Currency(), trading_suspended=False,
            update_date=DAY)  # fmt: skip
TXF = info("FuturesInfo", code="TXFD6", name="臺股期貨04", exchange="TAIFEX", security_type="FUT", reference=27300.0,
           limit_up=30030.0, limit_down=24570.0, multiplier=200.0, tick=1.0, tick_rule="T1", quote_ccy="TWD",
           delivery_month="202604", last_trading_date=date(2026, 4, 15), underlying_kind="I",
           underlying_code="IX0001")  # fmt: skip
OPTION = info("OptionInfo", code="TXO27300D6", name="臺指選擇權", exchange="TAIFEX", security_type="OPT", reference=0.1,
              limit_up=2730.1, limit_down=0.1, multiplier=50.0, strike_price=27300.0,
              option_right=SimpleNamespace(value="C"), last_trading_date=date(2026, 4, 15))  # fmt: skip
INDEX = info("IndexInfo", code="IX0001", name="加權指數", exchange="TSE", security_type="IND", reference=27123.45)
WARRANT = info("WarrantInfo", code="030012", exchange="TSE", security_type="WRT", underlying_code="2330",
               strike_price=1500.0, last_trading_date=date(2026, 9, 1))  # fmt: skip


def rows(*infos: object) -> dict[str, dict[str, object]]:
    return {row["code"]: row for row in contract_table(listed(infos), "instruments").to_pylist()}


def test_every_attribute_we_read_is_one_of_the_sdk() -> None:
    known = set().union(*FIELDS.values())
    for column, attributes in CONTRACT_FIELDS.items():
        assert set(attributes) <= known, f"{column} reads {set(attributes) - known}, which the SDK does not have"


def test_each_kind_of_contract_becomes_a_row_with_what_it_says_and_null_for_what_it_does_not() -> None:
    found = rows(TXF, TSMC, OPTION, INDEX, WARRANT)
    assert list(found) == sorted(found)
    said = {name: value for name, value in found["2330"].items() if value is not None}
    assert said == {
        "code": "2330", "name": "台積電", "exchange": "TSE", "security_type": "STK", "reference_e6": 1_450_000_000,
        "limit_up_e6": 1_595_000_000, "limit_down_e6": 1_305_000_000, "currency": "TWD", "tick_rule": "stock",
        "tick_e6": 5_000_000, "multiplier_e6": 1_000_000_000, "lot_shares": 1_000, "suspended": False, "updated": DAY,
    }  # fmt: skip
    said = {name: value for name, value in found["TXFD6"].items() if value is not None}
    assert said == {
        "code": "TXFD6", "name": "臺股期貨04", "exchange": "TAIFEX", "security_type": "FUT",
        "reference_e6": 27_300_000_000, "limit_up_e6": 30_030_000_000, "limit_down_e6": 24_570_000_000,
        "currency": "TWD", "tick_rule": "T1", "tick_e6": 1_000_000, "multiplier_e6": 200_000_000,
        "last_trading_day": date(2026, 4, 15), "delivery_month": "202604", "underlying_kind": "I",
        "underlying": "IX0001",
    }  # fmt: skip
    assert found["TXO27300D6"]["strike_e6"] == 27_300_000_000 and found["TXO27300D6"]["option_right"] == "C"
    assert found["TXO27300D6"]["reference_e6"] == 100_000
    assert found["IX0001"]["reference_e6"] == 27_123_450_000 and found["IX0001"]["limit_up_e6"] is None
    unpriced = rows(SimpleNamespace(**vars(TSMC) | {"reference": 0.0, "limit_up": 0.0, "limit_down": 0.0}))["2330"]
    assert [unpriced[f"{name}_e6"] for name in ("reference", "limit_up", "limit_down", "tick")] == [None] * 4
    assert found["030012"]["name"] == "030012" and found["030012"]["tick_rule"] is None


@given(st.integers(1, 10**12), st.integers(0, 10**9))
def test_any_price_survives_the_float_it_was_sent_as(reference_e6: int, multiplier_e6: int) -> None:
    said = vars(TXF) | {"reference": reference_e6 / 10**6, "multiplier": multiplier_e6 / 10**6}
    row = rows(SimpleNamespace(**said))["TXFD6"]
    assert row["reference_e6"] == reference_e6
    assert row["multiplier_e6"] == (multiplier_e6 or 200_000_000)  # 0 says nothing; the code does


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reference": float("nan")}, "2330: Reference is nan, not a price"),
        ({"limit_up": -1.0}, "2330: LimitUp is -1.0, not a price"),
        ({"limit_up": 1.0}, "2330: its limits contradict each other"),
        ({"unit": 0.5}, "2330: Unit is 0.5, not a whole number"),
        ({"security_type": "XYZ"}, "2330: SecurityType is 'XYZ', not one of STK"),
        ({"update_date": "soon"}, "2330: UpdateDate is 'soon', not a day"),
    ],
)
def test_what_cannot_be_true_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(AnswerRefused) as refused:
        rows(SimpleNamespace(**vars(TSMC) | changes))
    assert said in str(refused.value)


def table_of(stocks: int, futures: int, without_reference: int = 0) -> pa.Table:
    known = {"exchange": "TSE", "name": "n"}
    made = [known | {"code": f"{1000 + n}", "security_type": "STK",
                     "reference_e6": None if n < without_reference else 1} for n in range(stocks)]  # fmt: skip
    made += [known | {"code": f"F{n}", "security_type": "FUT", "reference_e6": 1} for n in range(futures)]
    return pa.Table.from_pylist(made, INSTRUMENTS_SCHEMA)


def test_a_day_is_ready_with_stocks_and_futures_and_a_fall_against_the_day_before_is_a_warning() -> None:
    whole = readiness(table_of(1_000, 20), table_of(1_052, 20))
    assert whole.ready and whole.warnings == () and describe(whole) == "ready: 1,000 stocks, 20 futures"
    fallen = readiness(table_of(1_000, 18), table_of(1_053, 20))
    assert fallen.ready and fallen.warnings == (
        "1,000 stocks, 1,053 the day before: more than 5 % less",
        "18 futures, 20 the day before: more than 5 % less",
    )
    none = readiness(table_of(1_000, 0))
    assert not none.ready and describe(none) == "NOT ready: 1,000 stocks\nno futures at all"
    early = readiness(table_of(99, 1, without_reference=6))
    assert early.warnings == ("6 of 100 have no reference price: 1000, 1001, 1002, 1003, 1004 …",)


def test_the_list_of_a_day_is_renewed_twice_before_its_night_and_twice_before_its_open() -> None:
    moments = [str(wall_clock(moment)) for moment in calendar.contract_updates(date(2026, 4, 13))]
    assert moments == ["2026-04-10 14:45:00", "2026-04-10 17:15:00", "2026-04-13 07:50:00", "2026-04-13 08:00:00"]
    for at, day in [
        ("2026-04-10 07:50", 10),
        ("2026-04-10 14:44", 10),
        ("2026-04-10 14:45", 13),
        ("2026-04-10 17:15", 13),
    ]:
        assert calendar.day_of_contract_update(ns(f"{at}:00")) == date(2026, 4, day)
    with pytest.raises(NotATradingDay):
        calendar.day_of_contract_update(ns("2026-04-11 07:50:00"))
    first, _, _, last = calendar.contract_updates(date(2026, 4, 13))
    assert calendar.last_contract_update(date(2026, 4, 13), first - 1) == first
    assert calendar.last_contract_update(date(2026, 4, 13), last + 10**15) == last


class Counting:
    """A history that counts how often it is asked."""

    source = "simulated"

    def __init__(self) -> None:
        self.asked = 0
        self.past = SimulatedHistory(1, SimulationConfig(target_events=4_000))

    def instruments(self, day: date) -> Columns:
        self.asked += 1
        return self.past.instruments(day)


@pytest.mark.parametrize(
    ("times", "asked"),
    [
        (["2026-04-08 14:50", "2026-04-08 17:00"], 1),
        (["2026-04-08 14:50", "2026-04-08 17:15"], 2),
        (["2026-04-08 14:50", "2026-04-08 17:15", "2026-04-09 07:50", "2026-04-09 08:00", "2026-04-09 13:00"], 4),
        (["2026-04-09 07:59", "2026-04-09 14:45"], 1),  # it is over: what the broker lists now is the next day's
    ],
)
def test_what_was_asked_before_the_broker_renewed_its_list_is_asked_again(
    tmp_path: Path, times: list[str], asked: int
) -> None:
    history = Counting()
    for at in times:
        table = instruments_of(DAY, tmp_path, history, ns(f"{at}:00"))  # type: ignore[arg-type]
    assert history.asked == asked
    assert read_instruments(tmp_path, DAY).equals(table)


def test_the_simulated_exchange_lists_the_whole_of_it() -> None:
    table = contract_table(SimulatedHistory(1).instruments(DAY), "instruments")
    by_code = {row["code"]: row for row in table.to_pylist()}
    assert (
        by_code["TXFD6"]["last_trading_day"] == date(2026, 4, 15) and by_code["TXFD6"]["multiplier_e6"] == 200_000_000
    )
    assert by_code["2330"]["lot_shares"] == 1_000 and by_code["2330"]["tick_e6"] == 5_000_000
    assert by_code["0050"]["tick_rule"] == "fund" and readiness(table).ready


def test_the_job_writes_the_list_of_the_day_it_is_given(tmp_path: Path) -> None:
    place = Place(data_dir=str(tmp_path))
    done = renew_contracts.execute_in_process(
        {"ops": {"list_contracts": {"config": {"day": str(DAY)}}}},
        resources={"place": place, "broker": BrokerHistory()},
    )
    assert done.success
    assert read_instruments(tmp_path / "market", DAY).num_rows == len(SimulatedHistory(1).instruments(DAY).Code)


@pytest.mark.parametrize(
    ("at", "day"),
    [("2026-04-10 07:50", "2026-04-10"), ("2026-04-10 14:45", "2026-04-13"), ("2026-04-10 17:15", "2026-04-13"),
     ("2026-04-11 07:50", None), ("2026-02-11 17:15", "2026-02-23")],
)  # fmt: skip
def test_the_schedule_asks_for_the_day_whose_list_is_renewed(at: str, day: str | None) -> None:
    moment = datetime.fromisoformat(at).replace(tzinfo=ZoneInfo("Asia/Taipei"))
    answer = contracts_renewed(dg.build_schedule_context(scheduled_execution_time=moment))
    if day is None:
        assert isinstance(answer, dg.SkipReason)
        return
    assert isinstance(answer, dg.RunRequest)
    assert answer.run_config == {"ops": {"list_contracts": {"config": {"day": day}}}}
