"""The simulated exchange's history: the SDK's shapes, and word for word what was traded."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from made_records import ns

from shijim_live.broker.history import SCANNER_TYPES, Columns, History, Row, row_count
from shijim_live.broker.shioaji import quote_classes
from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig, sessions_of
from shijim_live.broker.simulated_history import Defect, SimulatedHistory
from shijim_live.calendar import MINUTE_NS, TAIPEI_OFFSET_NS, previous_trading_day, wall_clock
from shijim_live.events import Lane
from shijim_live.instruments import PRICE_SCALE, UnknownInstrument
from shijim_live.store.lake import Lake

DAY = date(2026, 4, 9)  # a Thursday
SMALL = SimulationConfig(target_events=20_000, outages=2, lost_ticks=20, lost_books=20, repeats=60)
CODES = ("TXFD6", "TMFD6", "2330", "0050")
TYPES = {"instrument": "<u2", "session": "u1", "side": "u1", "volume": "<u4", "total_volume": "<u8",
         "bid_volume": "<u4", "ask_volume": "<u4", "fate": "<i4"}  # fmt: skip


def history(now: str = "2026-11-20 12:00:00", **options: Any) -> SimulatedHistory:
    return SimulatedHistory(7, SMALL, now_ns=lambda: ns(now), **options)


@pytest.fixture(scope="module")
def past() -> SimulatedHistory:
    return history()


# The shapes of the SDK


def stub(name: str) -> dict[str, str]:
    """Attribute → annotation of a class of the SDK's stub."""
    found = importlib.util.find_spec("shioaji")
    assert found is not None and found.origin is not None
    tree = ast.parse((Path(found.origin).parent / "_core.pyi").read_text())
    [described] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    return {
        node.target.id: ast.unparse(node.annotation)
        for node in described.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


ANSWERS: dict[str, Callable[[History], Columns | Row]] = {
    "Ticks": lambda history: history.ticks("2330", DAY),
    "KBars": lambda history: history.kbars("2330", DAY, DAY),
    "DailyQuotes": lambda history: history.daily_quotes(DAY),
    "Snapshot": lambda history: history.snapshots(["2330"])[0],
    "ScannerItem": lambda history: history.scanners("VolumeRank", DAY)[0],
    "Punish": lambda history: history.punish(),
    "Notice": lambda history: history.notice(),
    "CreditEnquire": lambda history: history.credit_enquires(["2330"])[0],
    "UsageOut": lambda history: history.usage(),
}
PYTHON_TYPES = {
    "int": int,
    "float": float,
    "str": str,
    "datetime.date": date,
    "datetime.datetime": datetime,
    "TickType": str,
    "ChangeType": str,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_has_the_attributes_of_the_sdk_in_their_order_and_types(name: str, past: SimulatedHistory) -> None:
    answer, described = ANSWERS[name](past), stub(name)
    assert answer.keys() == list(described)
    for attribute, annotation in described.items():
        value = answer[attribute]
        if annotation.startswith("List["):
            assert type(value) is list and value
            value, annotation = value[0], annotation[len("List[") : -1].removeprefix("Optional[").removesuffix("]")
        assert type(value) is PYTHON_TYPES[annotation], f"{attribute}: {annotation}"


def outcome(ask: Callable[[Any], Any], of: Any) -> object:
    """The type of what comes back, or of what is raised."""
    try:
        return type(ask(of))
    except Exception as error:  # noqa: BLE001 - which one it is, is the question
        return type(error)


MAPPING_QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "keys": lambda x: x.keys(),
    "item": lambda x: x["price"],
    "missing item": lambda x: x["nope"],
    "item by place": lambda x: x[0],
    "attribute": lambda x: x.price,
    "missing attribute": lambda x: x.nope,
    "length": len,
    "in": lambda x: "price" in x,
    "dict()": dict,
    "**": lambda x: {**x},
    ".dict()": lambda x: x.dict(),
    "list()": list,
    "iter()": iter,
    "loop": lambda x: dict.fromkeys(x, 1),
    "items": lambda x: x.items(),
    "values": lambda x: x.values(),
    "get": lambda x: x.get("price"),
    "write": lambda x: setattr(x, "price", 1.0),
    "write item": lambda x: x.__setitem__("price", 1.0),
    "hash": hash,
}


@pytest.mark.parametrize("question", MAPPING_QUESTIONS)
def test_an_answer_behaves_as_the_sdks_own_mapping_like_objects(question: str, tmp_path: Path) -> None:
    quote_classes(tmp_path)  # tells the SDK where to write its log
    import shioaji

    theirs = shioaji.StockOrder(action="Buy", price=10.0, quantity=1, price_type="LMT", order_type="ROD")  # type: ignore[arg-type]
    ask = MAPPING_QUESTIONS[question]
    expected = outcome(ask, theirs)
    if question == "iter()":
        assert outcome(ask, Row(price=10.0)) is not TypeError  # iter() works in both, and the first step does not
        return
    assert outcome(ask, Row(price=10.0)) is expected


def test_an_answer_is_neither_a_dict_nor_a_mapping_and_cannot_be_changed(past: SimulatedHistory) -> None:
    ticks = past.ticks("2330", DAY)
    assert not isinstance(ticks, dict | Mapping)
    ticks.close.clear()
    ticks["close"].append(1.0)
    assert ticks == ticks and len(ticks.close) == row_count(ticks) == len(past.ticks("2330", DAY).close) > 100
    assert repr(ticks).startswith(f"Columns[{row_count(ticks)}](ts=[17757")
    with pytest.raises(AttributeError, match="no attribute 'simtrade'"):
        _ = ticks.simtrade


# What was traded


def truth(day: date = DAY, config: SimulationConfig = SMALL, seed: int = 7) -> dict[str, list[dict[str, int]]]:
    """Every match of the exchange itself, by code."""
    found = SimulatedExchange(day, seed, config).truth()
    columns = {name: np.frombuffer(data, TYPES.get(name, "<i8")).tolist() for name, data in found["trades"].items()}  # type: ignore[call-overload]
    by_code = defaultdict(list)
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        by_code[found["codes"][row["instrument"]]].append(row)
    return by_code


@pytest.fixture(scope="module")
def traded() -> dict[str, list[dict[str, int]]]:
    return truth()


def e6(price: float) -> int:
    return round(price * PRICE_SCALE)


@pytest.mark.parametrize("code", CODES)
def test_ticks_are_the_truth_row_by_row(
    code: str, past: SimulatedHistory, traded: dict[str, list[dict[str, int]]]
) -> None:
    ticks = past.ticks(code, DAY)
    expected = traded[code]
    assert code != "TXFD6" or any(row["fate"] != -1 for row in expected)
    assert ticks.ts == [row["exchange_ns"] + TAIPEI_OFFSET_NS for row in expected]
    assert [e6(price) for price in ticks.close] == [row["price_e6"] for row in expected]
    assert ticks.volume == [row["volume"] for row in expected]
    assert ticks.tick_type == [row["side"] for row in expected]
    for side in ("bid", "ask"):
        assert [e6(price) for price in ticks[f"{side}_price"]] == [row[f"{side}_price_e6"] for row in expected]
        assert ticks[f"{side}_volume"] == [row[f"{side}_volume"] for row in expected]


def test_a_buyer_trades_at_the_ask_and_a_seller_at_the_bid(past: SimulatedHistory) -> None:
    for code in CODES:
        ticks = past.ticks(code, DAY)
        touches = zip(ticks.tick_type, ticks.ask_price, ticks.bid_price, strict=True)
        assert ticks.close == [ask if side == 1 else bid for side, ask, bid in touches]


def test_the_market_is_the_same_whatever_the_feed_loses(past: SimulatedHistory) -> None:
    calm = replace(SMALL, outages=0, lost_ticks=0, lost_books=0, repeats=0, feed_delay_median_ns=1_000_000)
    other = SimulatedHistory(7, calm, now_ns=lambda: ns("2026-11-20 12:00:00"))
    for code in CODES:
        assert other.ticks(code, DAY).dict() == past.ticks(code, DAY).dict()
    assert SimulatedHistory(8, SMALL).ticks("2330", DAY).ts != past.ticks("2330", DAY).ts


@pytest.mark.parametrize("code", CODES)
def test_ticks_minutes_totals_and_daily_quotes_add_up(
    code: str, past: SimulatedHistory, traded: dict[str, list[dict[str, int]]]
) -> None:
    ticks = past.ticks(code, DAY)
    closing = {row["session"]: row["total_volume"] for row in traded[code]}
    assert sum(ticks.volume) == sum(closing.values())
    bars = past.kbars(code, previous_trading_day(DAY), DAY)
    sessions = sessions_of(DAY)
    for session, lots in closing.items():
        opens, closes = (t + TAIPEI_OFFSET_NS for t in (sessions[session].open_ns, sessions[session].close_ns))
        inside = [v for t, v in zip(bars.ts, bars.Volume, strict=True) if opens < t <= closes]
        assert sum(inside) == lots > 0
    quotes = past.daily_quotes(DAY)
    if code in quotes.Code:
        at = quotes.Code.index(code)
        assert quotes.Volume[at] == 1_000 * sum(ticks.volume)
        assert quotes.Transaction[at] == row_count(ticks)
        assert quotes.Amount[at] == sum(
            e6(p) * v * 1_000 for p, v in zip(ticks.close, ticks.volume, strict=True)
        ) // PRICE_SCALE  # fmt: skip
        assert (quotes.Open[at], quotes.Close[at]) == (ticks.close[0], ticks.close[-1])
        assert (quotes.High[at], quotes.Low[at]) == (max(ticks.close), min(ticks.close))
    else:
        assert not code[0].isdigit()


@pytest.mark.parametrize(("code", "multiplier"), [("TXFD6", 1), ("2330", 1_000)])
def test_a_minute_is_labelled_with_its_end_and_holds_the_trades_before_it(
    code: str, multiplier: int, past: SimulatedHistory
) -> None:
    ticks = past.ticks(code, DAY)
    expected = []
    minutes = zip(ticks.ts, ticks.close, ticks.volume, strict=True)
    for minute, found in groupby(minutes, lambda row: row[0] // MINUTE_NS):
        rows = list(found)
        closes = [row[1] for row in rows]
        amount = sum(e6(close) * lots for _, close, lots in rows) * multiplier / PRICE_SCALE
        expected.append(((minute + 1) * MINUTE_NS, closes[0], max(closes), min(closes), closes[-1],
                         sum(row[2] for row in rows), amount))  # fmt: skip
    bars = past.kbars(code, previous_trading_day(DAY), DAY)
    found_bars = [row for row in zip(*bars.dict().values(), strict=True) if expected[0][0] <= row[0] <= expected[-1][0]]
    assert found_bars == expected


def test_minutes_go_by_calendar_date_and_ticks_by_trading_day(past: SimulatedHistory) -> None:
    """As the broker's page shows: asked on a Monday evening for Sunday to Monday, it begins on Monday at 08:46."""
    monday, sunday = date(2026, 4, 13), date(2026, 4, 12)
    bars = history("2026-04-13 17:18:00").kbars("TXFD6", sunday, monday)
    assert wall(bars.ts[0]) == "04-13 08:4"
    assert wall(bars.ts[-1])[:8] == "04-13 17"
    assert {wall(t)[:5] for t in past.kbars("TXFD6", sunday, sunday).ts} == set()
    saturday = past.kbars("TXFD6", date(2026, 4, 11), date(2026, 4, 11))
    assert wall(saturday.ts[0])[:8] == "04-11 00" and wall(saturday.ts[-1])[:8] in ("04-11 04", "04-11 05")
    assert wall(past.ticks("TXFD6", monday).ts[0])[:8] == "04-10 15"


def wall(ts: int) -> str:
    """To ten minutes."""
    return f"{wall_clock(ts - TAIPEI_OFFSET_NS):%m-%d %H:%M}"[:-1]


@pytest.mark.parametrize(("first", "last"), [(DAY, DAY + timedelta(days=30)), (DAY, DAY - timedelta(days=1))])
def test_minutes_of_more_than_thirty_days_or_of_none_are_refused(
    first: date, last: date, past: SimulatedHistory
) -> None:
    with pytest.raises(ValueError, match=r"ask for 1 to 30"):
        past.kbars("2330", first, last)


# What the clock, the calendar and the contract list say


@examples(max_examples=25)
@given(seconds=st.integers(0, 24 * 3600))
def test_at_any_instant_the_history_is_what_had_happened_by_then(seconds: int) -> None:
    now_ns = ns("2026-04-08 14:00:00") + seconds * 1_000_000_000
    then = SimulatedHistory(7, replace(SMALL, target_events=2_000), now_ns=lambda: now_ns)
    whole = SimulatedHistory(7, replace(SMALL, target_events=2_000), now_ns=lambda: ns("2026-11-20 12:00:00"))
    for code in ("TXFD6", "2330"):
        known, everything = then.ticks(code, DAY), whole.ticks(code, DAY)
        past_rows = sum(ts <= now_ns + TAIPEI_OFFSET_NS for ts in everything.ts)
        assert known.dict() == {name: column[:past_rows] for name, column in everything.dict().items()}


@pytest.mark.parametrize(
    ("now", "day"),
    [
        ("2026-04-08 13:00:00", DAY),  # to come
        ("2026-11-20 12:00:00", date(2026, 4, 11)),  # a Saturday
        ("2026-11-20 12:00:00", date(2026, 4, 6)),  # a holiday
        ("2026-11-20 12:00:00", date(2020, 2, 27)),  # before the broker's history begins
        ("2026-11-20 12:00:00", date(1999, 1, 5)),
    ],
)
def test_a_day_that_is_not_there_answers_nothing_in_the_right_columns(now: str, day: date) -> None:
    asked = history(now)
    for name, answer in (("Ticks", asked.ticks("2330", day)), ("KBars", asked.kbars("2330", day, day)),
                         ("DailyQuotes", asked.daily_quotes(day))):  # fmt: skip
        assert answer.dict() == {column: [] for column in stub(name)}
    assert asked.scanners("VolumeRank", day) == []


def test_a_code_that_is_none_is_refused_and_one_that_does_not_trade_answers_nothing(past: SimulatedHistory) -> None:
    for ask in (lambda: past.ticks("nonsense", DAY), lambda: past.kbars("nonsense", DAY, DAY)):
        with pytest.raises(UnknownInstrument, match="unknown instrument 'nonsense'"):
            ask()
    assert row_count(past.ticks("6488", DAY)) == row_count(past.ticks("TXFA6", DAY)) == 0
    assert past.snapshots(["6488"]) == []


def test_the_near_month_is_the_dated_future_of_each_day(past: SimulatedHistory) -> None:
    assert past.ticks("TXFR1", DAY).dict() == past.ticks("TXFD6", DAY).dict()
    across = past.kbars("TXFR1", date(2026, 4, 13), date(2026, 4, 17))  # 15 April is the last day of April's future
    assert {wall(t)[:5] for t in across.ts} == {"04-13", "04-14", "04-15", "04-16", "04-17"}


def test_daily_quotes_come_out_an_hour_and_a_quarter_after_the_close() -> None:
    assert row_count(history("2026-04-09 14:48:59").daily_quotes(DAY)) == 0
    assert row_count(history("2026-04-09 14:49:00").daily_quotes(DAY)) == 12


def test_a_stock_without_a_trade_stands_in_the_daily_quotes_with_zeros() -> None:
    quiet = SimulatedHistory(1, SimulationConfig(target_events=60, outages=0, lost_ticks=0, lost_books=0, repeats=0))
    quotes = quiet.daily_quotes(DAY)
    at = quotes.Volume.index(0)
    assert (quotes.Open[at], quotes.Close[at], quotes.Transaction[at], quotes.Amount[at]) == (0.0, 0.0, 0, 0)


@pytest.mark.parametrize(
    ("now", "code", "day", "opened"),
    [
        ("2026-04-09 10:00:00", "2330", DAY, "2026-04-09 09:00:00"),
        ("2026-04-09 10:00:00", "TXFR1", DAY, "2026-04-09 08:45:00"),
        ("2026-04-09 07:00:00", "2330", date(2026, 4, 8), "2026-04-08 09:00:00"),
        ("2026-04-09 20:30:00", "TXFR1", date(2026, 4, 10), "2026-04-09 15:00:00"),
        ("2026-04-12 12:00:00", "TXFR1", date(2026, 4, 13), "2026-04-10 15:00:00"),
        ("2026-04-12 12:00:00", "2330", date(2026, 4, 10), "2026-04-10 09:00:00"),
    ],
)
def test_a_snapshot_is_the_last_row_of_the_session_that_traded_last(
    now: str, code: str, day: date, opened: str
) -> None:
    asked = history(now)
    [seen] = asked.snapshots([code])
    ticks = asked.ticks(code, day)
    start = next(row for row, ts in enumerate(ticks.ts) if ts >= ns(opened) + TAIPEI_OFFSET_NS)
    assert (seen.ts, seen.close, seen.volume) == (ticks.ts[-1], ticks.close[-1], ticks.volume[-1])
    assert (seen.open, seen.high) == (ticks.close[start], max(ticks.close[start:]))
    assert seen.total_volume == sum(ticks.volume[start:])
    assert (seen.buy_price, seen.sell_volume) == (ticks.bid_price[-1], ticks.ask_volume[-1])
    assert seen.change_price == pytest.approx(seen.close - {"2330": 1_450, "TXFR1": 27_300}[code])


@pytest.mark.parametrize("scanner_type", SCANNER_TYPES)
def test_a_scanner_ranks_every_stock_by_its_value(scanner_type: str, past: SimulatedHistory) -> None:
    ranked = past.scanners(scanner_type, DAY)
    assert [row.rank_value for row in ranked] == sorted((row.rank_value for row in ranked), reverse=True)
    assert len({row.code for row in ranked}) == 12
    backwards = past.scanners(scanner_type, DAY, ascending=False, count=3)
    assert [row.code for row in backwards] == [row.code for row in ranked[::-1][:3]]
    by_code = {row.code: row for row in ranked}
    ticks, row = past.ticks("2330", DAY), by_code["2330"]
    expected = {
        "ChangePercentRank": round((ticks.close[-1] - 1_450) / 1_450 * 100, 2),
        "ChangePriceRank": ticks.close[-1] - 1_450,
        "DayRangeRank": max(ticks.close) - min(ticks.close),
        "VolumeRank": sum(ticks.volume),
        "AmountRank": sum(p * v * 1_000 for p, v in zip(ticks.close, ticks.volume, strict=True)),
        "TickCountRank": row_count(ticks),
    }
    assert row.rank_value == pytest.approx(expected[scanner_type])
    assert row.ask_volumes == sum(v for v, s in zip(ticks.volume, ticks.tick_type, strict=True) if s == 1)
    assert row.yesterday_volume == sum(past.ticks("2330", previous_trading_day(DAY)).volume)


@pytest.mark.parametrize(
    "ask",
    [
        lambda history: history.scanners("BestRank", DAY),
        lambda history: history.scanners("VolumeRank", DAY, count=201),
        lambda history: history.snapshots(["2330"] * 501),
    ],
)
def test_what_the_broker_refuses_is_refused(ask: Callable[[History], object], past: SimulatedHistory) -> None:
    with pytest.raises(ValueError, match=r"500 at most|one of ChangePercentRank"):
        ask(past)


def test_instruments_are_what_the_day_trades_with_limits_no_trade_passes(past: SimulatedHistory) -> None:
    listed = past.instruments(DAY)
    assert listed.Code == list(SimulatedExchange(DAY, 7, SMALL).codes)
    assert set(listed.SecurityType) == {"STK", "FUT"} and set(listed.Exchange) == {"TSE", "TAIFEX"}
    at = listed.Code.index("2330")
    assert (listed.Reference[at], listed.LimitDown[at], listed.LimitUp[at]) == (1_450.0, 1_305.0, 1_595.0)
    for code, low, high in zip(listed.Code, listed.LimitDown, listed.LimitUp, strict=True):
        assert all(low <= close <= high for close in past.ticks(code, DAY).close)
    assert row_count(past.instruments(date(2026, 4, 11))) == 0


# What is wrong with it, when asked for


def test_every_defect_changes_an_answer_always_in_the_same_way_and_never_the_market(past: SimulatedHistory) -> None:
    for defect in Defect:
        spoiled, again = history(defects=frozenset({defect})), history(defects=frozenset({defect}))
        asked = ("Ticks", "KBars", "DailyQuotes", "Punish", "Notice", "CreditEnquire")
        changed = {name for name in asked if ANSWERS[name](spoiled).dict() != ANSWERS[name](past).dict()}
        expected = {Defect.EMPTY: {"Ticks", "KBars"}, Defect.LYING_TOTALS: {"KBars", "DailyQuotes"}}
        assert changed == expected.get(defect, {"Ticks"}), defect
        assert spoiled.ticks("2330", DAY).dict() == again.ticks("2330", DAY).dict()
        assert spoiled.snapshots(["2330"]) == [] or defect is not Defect.EMPTY
        honest = history(defects=frozenset({defect}), defective_codes=frozenset({"2317"}))
        assert honest.ticks("2330", DAY).dict() == past.ticks("2330", DAY).dict()


def test_defects_do_to_the_rows_what_they_say(past: SimulatedHistory) -> None:
    def rows(*defects: Defect, code: str = "2330", day: date = DAY) -> list[tuple[Any, ...]]:
        return list(zip(*history(defects=frozenset(defects)).ticks(code, day).dict().values(), strict=True))

    whole = rows()
    assert 0.85 < len(rows(Defect.PARTIAL)) / len(whole) < 0.95
    assert is_within(rows(Defect.PARTIAL), whole)
    assert is_within(whole, rows(Defect.DUPLICATED)) and len(rows(Defect.DUPLICATED)) > len(whole)
    assert set(rows(Defect.DUPLICATED)) == set(whole)
    assert sorted(rows(Defect.SHUFFLED)) == sorted(whole) != rows(Defect.SHUFFLED)
    assert rows(Defect.WRONG_DAY) == rows(day=previous_trading_day(DAY))
    assert {row[3:7] for row in rows(Defect.NO_TOUCH)} == {(0.0, 0, 0.0, 0)}
    assert rows(Defect.FIXED_PRICE)[:-1] == whole
    assert wall(rows(Defect.FIXED_PRICE)[-1][0]) == "04-09 14:3"
    assert rows(Defect.FIXED_PRICE, code="TXFD6") == rows(code="TXFD6")
    all_at_once = rows(*(set(Defect) - {Defect.EMPTY}))
    assert len(all_at_once) > 100


def is_within(few: list[tuple[Any, ...]], many: list[tuple[Any, ...]]) -> bool:
    """Whether the rows of `few` stand in `many` in their order."""
    left = iter(many)
    return all(row in left for row in few)


# What was recorded


def test_every_recorded_trade_stands_in_the_history_at_its_total(tmp_path: Path) -> None:
    for module, *verb in (
        ("shijim_live", "record", "--broker", "simulated", "--day", str(DAY), "--seed", "7", "--events", "8000",
         "--metrics-port", "0", "--quiet"),
        ("shijim_pipelines", "archive"),
    ):  # fmt: skip
        command = [sys.executable, "-m", module, *verb, "--data-dir", str(tmp_path)]
        subprocess.run(command, check=True, capture_output=True)
    recorded = Lake(tmp_path / "archive").query(
        "SELECT code, session, exchange_ns, price_e6, volume, total_volume, side FROM ticks "
        f"WHERE lane = {int(Lane.BOARD)}"
    )
    past = SimulatedHistory(7, SimulationConfig(target_events=8_000))
    happened = {}
    for code in set(recorded["code"].to_pylist()):
        ticks = past.ticks(code, DAY)
        row = zip(ticks.ts, ticks.close, ticks.volume, ticks.tick_type, strict=True)
        for session, found in groupby(row, lambda row: session_of(row[0])):
            rows = list(found)
            totals = accumulate(lots for _, _, lots, _ in rows)
            happened |= {
                (code, session, total): (ts - TAIPEI_OFFSET_NS, e6(close), lots, side)
                for total, (ts, close, lots, side) in zip(totals, rows, strict=True)
            }
    seen = recorded.to_pylist()
    assert len(seen) > 2_500 and len(happened) > len(seen) // 2
    for trade in seen:
        key = (trade["code"], trade["session"], trade["total_volume"])
        assert happened[key] == (trade["exchange_ns"], trade["price_e6"], trade["volume"], trade["side"])
    assert len({(t["code"], t["session"], t["total_volume"]) for t in seen}) < len(happened)  # some were lost


def session_of(ts: int) -> str:
    return "day" if ts > ns("2026-04-09 08:00:00") + TAIPEI_OFFSET_NS else "night"


def test_a_played_day_is_not_made_twice_and_many_days_are_not_all_kept() -> None:
    many = SimulatedHistory(1, replace(SMALL, target_events=300), now_ns=lambda: ns("2026-11-20 12:00:00"))
    day = DAY
    for _ in range(12):
        many.ticks("2330", day)
        day = previous_trading_day(day)
    assert len(many._days) == 8
    kept = many._days[next(iter(many._days))]
    many.ticks("2317", next(iter(many._days)))
    assert kept in many._days.values()


def test_the_stamps_read_as_taipei_without_any_zone(past: SimulatedHistory) -> None:
    first_second = past.ticks("2330", DAY).ts[0] // 1_000_000_000 % 86_400
    assert 9 * 3_600 <= first_second < 9 * 3_600 + 600
