"""The universe of a day: ranked by what was traded before it, shared out by load, and recorded by the real command."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import ns
from test_record_universe import recorded_codes

from shijim_live.broker.simulated import SimulationConfig
from shijim_live.broker.simulated_history import SimulatedHistory
from shijim_live.calendar import NotATradingDay, NotYet, previous_trading_day
from shijim_live.universe import CODES_A_SHARD_MAX, STRATEGIES, Chosen
from shijim_pipelines import history as histories
from shijim_pipelines.contracts import INSTRUMENTS_SCHEMA
from shijim_pipelines.quotes import SCHEMA, QuotesMissing, quotes_path
from shijim_pipelines.ranking import TRADED_TWD_MIN, UNUSUAL_MAX
from shijim_pipelines.universe import (
    UniverseRefused,
    choose_universe,
    describe,
    rank,
    read_universe,
    shared_out,
    write_universe,
)

DAY = date(2026, 4, 9)
DAYS = (date(2026, 4, 1), date(2026, 4, 2), date(2026, 4, 7), date(2026, 4, 8))
LATER = ns("2026-06-01 00:00:00")

Stock = tuple[int, int, int, int]  # high, low, close (TWD), lots; a day without a row is missing


def table(stocks: Mapping[str, Stock], futures: Mapping[str, int] | None = None) -> pa.Table:
    """One day of quotes: stocks, and the contracts of each future at 100 points in both sessions."""
    rows = [
        {"code": code, "session": "day", "open_e6": low * 10**6, "high_e6": high * 10**6, "low_e6": low * 10**6,
         "close_e6": close * 10**6, "volume": lots, "odd_shares": 0, "amount_e6": close * lots * 1_000 * 10**6,
         "trades": lots, "asked": "daily_quotes"}
        for code, (high, low, close, lots) in stocks.items()
    ]  # fmt: skip
    rows += [
        {"code": code, "session": session, "open_e6": 10**8, "high_e6": 10**8, "low_e6": 10**8, "close_e6": 10**8,
         "volume": lots, "odd_shares": 0, "amount_e6": 100 * lots * 10**6, "trades": None, "asked": "kbars"}
        for code, lots in (futures or {}).items() for session in ("day", "night")
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, SCHEMA)


def listed(*codes: str) -> pa.Table:
    known = {"name": "n", "exchange": "TSE", "security_type": "STK", "reference_e6": 1, "limit_up_e6": 2}
    return pa.Table.from_pylist([known | {"code": code, "limit_down_e6": 1} for code in codes], INSTRUMENTS_SCHEMA)


def ranked(
    days: Sequence[Mapping[str, Stock]], strategies: Sequence[str] = ("volume",), limit: int = 10, **more: object
) -> tuple[dict[str, Chosen], tuple[str, ...]]:
    quotes = {day: table(stocks) for day, stocks in zip(DAYS[-len(days) :], days, strict=True)}
    codes = sorted({code for stocks in days for code in stocks})
    chosen, notes = rank(quotes, listed(*codes), DAY, strategies, limit, 1, **more)  # type: ignore[arg-type]
    return {one.code: one for one in chosen}, notes


def steady(lots: int = 10_000) -> Stock:
    return (101, 99, 100, lots)


# One strategy at a time, by hand


def test_volume_is_the_money_traded_a_day_not_the_lots() -> None:
    cheap, dear = (11, 9, 10, 9_000), (1_010, 990, 1_000, 100)
    chosen, _ = ranked([{"1101": cheap, "2330": dear}] * 2)
    assert list(chosen) == ["2330", "1101"]
    assert [one.scores for one in chosen.values()] == [{"volume": 100_000_000}, {"volume": 90_000_000}]
    assert [one.reasons for one in chosen.values()] == [("volume 1",), ("volume 2",)]


def test_a_new_listing_is_averaged_over_its_own_days_and_a_suspended_one_over_all_since_it_began() -> None:
    old, new = {"1101": steady(100)}, {"2330": steady(150)}
    chosen, _ = ranked([old, old, old | new, old | new])
    assert chosen["2330"].scores["volume"] == 15_000_000
    chosen, _ = ranked([old | new, old, old, old | new])
    assert chosen["2330"].scores["volume"] == 7_500_000  # two days without a row are days without a trade


def test_volatility_is_the_mean_true_range_with_gaps_per_last_close() -> None:
    lots = 10_000
    days = [{"2330": (110, 90, 100, lots)}, {"2330": (125, 115, 120, lots)}, {"2330": (91, 89, 90, lots)}]
    chosen, _ = ranked(days, ("volatility",))
    ranges = (20, 125 - 100, 120 - 89)  # the second day opened above the close before it, the third below
    assert chosen["2330"].scores["volatility"] == sum(ranges) * 1_000_000 // (3 * 90)


def test_volatility_counts_neither_days_without_a_trade_nor_codes_nobody_trades() -> None:
    days = [{"2330": (110, 90, 100, 10_000)}, {"2330": (0, 0, 0, 0)}, {"2330": (102, 98, 100, 10_000)}]
    chosen, _ = ranked([day | {"1101": (20, 10, 15, 1)} for day in days], ("volatility",))
    assert chosen["2330"].scores["volatility"] == (20 + 4) * 1_000_000 // (2 * 100)
    assert "1101" not in chosen  # twice its price in a day, with less than TRADED_TWD_MIN
    assert TRADED_TWD_MIN > 15 * 1_000


def test_unusual_is_the_last_day_against_the_days_before_it() -> None:
    before = (10_000, 12_000, 11_000)
    chosen, _ = ranked([{"2330": steady(lots)} for lots in (*before, 15_000)], ("unusual",))
    z = (15_000 - statistics.mean(before)) / statistics.stdev(before)
    assert chosen["2330"].scores["unusual"] == round(z * 1_000)


def test_unusual_has_no_word_on_few_days_and_none_for_a_quiet_one() -> None:
    day = {"2330": steady(20_000), "1101": steady(5_000)}
    before = {"2330": steady(10_000), "1101": steady(10_000)}
    few, _ = ranked([before, before, day], ("volume", "unusual"))
    assert few["2330"].scores["unusual"] is None
    chosen, _ = ranked([before, before, before, day], ("unusual",))
    assert list(chosen) == ["2330"]
    assert chosen["2330"].scores["unusual"] == UNUSUAL_MAX  # three equal days, then another: as unusual as can be


def test_where_all_volumes_are_equal_nothing_is_unusual_and_the_code_breaks_the_tie() -> None:
    stocks = {code: steady() for code in ("2330", "1101", "0050")}
    chosen, notes = ranked([stocks] * 4, STRATEGIES)
    assert list(chosen) == ["0050", "1101", "2330"]
    assert {one.scores["unusual"] for one in chosen.values()} == {0}
    assert "3 of 10 places are taken: no other code qualifies" in notes
    with pytest.raises(UniverseRefused, match="nothing can be chosen for 2026-04-09"):
        ranked([stocks] * 4, ("unusual",))


# Together


def test_the_strategies_take_turns_each_with_its_best_code_that_is_left() -> None:
    days = [
        {
            "2330": (1_001, 999, 1_000, 90_000),  # most money
            "2317": (1_001, 999, 1_000, 80_000),
            "1101": (120, 80, 100, 1_000),  # widest range
            "1102": (110, 90, 100, 1_000),
            "3008": (101, 99, 100, 50_000 if last else 1_000 + n),  # unusual
        }
        for n, last in enumerate((False, False, False, True))
    ]
    chosen, _ = ranked(days, STRATEGIES)
    assert list(chosen) == ["2330", "1101", "3008", "2317", "1102"]
    assert [one.reasons[0] for one in chosen.values()] == [
        "volume 1", "volatility 1", "unusual 1", "volume 2", "volatility 2"
    ]  # fmt: skip
    assert chosen["3008"].reasons == ("unusual 1", "volume 3", "volatility 3")
    backwards, _ = ranked(days, STRATEGIES[::-1], limit=1)
    assert list(backwards) == ["3008"]


def test_one_day_is_enough_for_what_needs_no_day_before() -> None:
    chosen, _ = ranked([{"2330": steady(), "1101": (120, 80, 100, 500)}], STRATEGIES)
    assert list(chosen) == ["2330", "1101"]
    assert chosen["1101"].scores == {"volume": 50_000_000, "volatility": 400_000, "unusual": None}


def test_who_did_not_trade_is_punished_or_is_not_listed_is_left_out_and_said() -> None:
    days = [{"2330": steady(), "1101": steady(), "1102": steady(), "2317": steady()}] * 2
    days.append({"2330": steady(), "1101": (0, 0, 0, 0), "2317": steady()})
    chosen, notes = ranked(days, punished=("2317", "9999"))
    assert list(chosen) == ["2330"]
    assert notes[:2] == (
        "left out, no trade on 2026-04-08: 2 codes, 1101, 1102",
        "left out, punished: 1 codes, 2317",
    )
    quotes = {DAYS[-1]: table({"2330": steady(), "1101": steady(), "030001": steady()})}
    chosen_codes = [one.code for one in rank(quotes, listed("1101", "030001"), DAY, ("volume",), 5, 1)[0]]
    assert chosen_codes == ["1101"]  # 2330 is not listed on the day, and warrants are not recorded


def test_the_near_month_of_every_root_comes_first_by_money_and_counts_towards_the_limit() -> None:
    quotes = {day: table({"2330": steady(10**6)}, {"TMFD6": 900, "TXFD6": 100}) for day in DAYS}
    instruments = listed("2330", "TXFD6", "TXFE6", "TMFD6", "MXFD6", "TXFR1")
    chosen, _ = rank(quotes, instruments, DAY, ("volume",), 4, 1)
    assert [one.code for one in chosen] == ["TXFD6", "TMFD6", "MXFD6", "2330"]
    assert chosen[0].scores == {"volume": 2 * 100 * 100 * 200}
    assert chosen[0].reasons == ("near month of TXF",)
    assert chosen[2].load == sorted(one.load for one in chosen if one.code != "MXFD6")[1]  # not known: the median
    assert [one.code for one in rank(quotes, instruments, DAY, STRATEGIES, 1, 1)[0]] == ["TXFD6"]


@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_and_days_changes_nothing(chance: random.Random) -> None:
    codes = [str(code) for code in chance.sample(range(1_101, 1_400), 30)]
    days = {
        day: {code: (100 + n % 7, 90, 95 + n % 3, 1_000 * (1 + n % 4)) for n, code in enumerate(codes)} for day in DAYS
    }
    shuffled = chance.sample(codes, 30)
    again = {day: {code: days[day][code] for code in shuffled} for day in chance.sample(DAYS, len(DAYS))}
    one, other = (
        rank({day: table(rows) for day, rows in quotes.items()}, listed(*order), DAY, STRATEGIES, 12, 3)
        for quotes, order in ((days, sorted(codes)), (again, shuffled))
    )
    assert one == other


# Shards


def weighed(*loads: int) -> list[Chosen]:
    return [Chosen(f"{1_101 + n}", n + 1, 0, load, {}, ()) for n, load in enumerate(loads)]


def test_the_heaviest_go_first_to_the_lightest_shard() -> None:
    shared = shared_out(weighed(50, 70, 40, 40, 100), 2)
    assert [one.shard for one in shared] == [1, 1, 0, 1, 0]  # 100 | 70 50, then 40 to each
    assert [one.rank for one in shared] == [1, 2, 3, 4, 5]


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=60), st.integers(1, 8))
def test_shards_are_balanced_within_one_code_and_none_is_empty(loads: list[int], shards: int) -> None:
    if len(loads) < shards:
        with pytest.raises(UniverseRefused, match=f"set TOTAL_SHARDS={len(loads)} or less"):
            shared_out(weighed(*loads), shards)
        return
    shared = shared_out(weighed(*loads), shards)
    assert shared == shared_out(weighed(*loads), shards)
    sums = [sum(one.load for one in shared if one.shard == shard) for shard in range(shards)]
    assert min(sums) > 0
    assert max(sums) - min(sums) <= max(one.load for one in shared)


def test_more_codes_than_can_be_planned_are_refused_with_what_would_do() -> None:
    full = shared_out(weighed(*[1_000_000, *([1] * (2 * CODES_A_SHARD_MAX - 1))]), 2)
    assert [sum(one.shard == shard for one in full) for shard in range(2)] == [CODES_A_SHARD_MAX] * 2
    with pytest.raises(UniverseRefused, match=r"2,401 codes are more than 2 shards take, .* set TOTAL_SHARDS=3"):
        shared_out(weighed(*([1] * (2 * CODES_A_SHARD_MAX + 1))), 2)


# From a history to a recording


CONFIG = SimulationConfig(target_events=4_000)


def past(now_ns: int = LATER) -> SimulatedHistory:
    return SimulatedHistory(1, CONFIG, now_ns=lambda: now_ns)


def test_a_closed_day_and_a_day_beyond_the_next_are_refused(tmp_path: Path) -> None:
    def choose(day: date, as_of: str) -> object:
        return choose_universe(day, tmp_path, past(), STRATEGIES, 10, 1, 1, as_of_ns=ns(as_of))

    with pytest.raises(NotATradingDay, match="2026-04-11"):
        choose(date(2026, 4, 11), "2026-04-20 00:00:00")
    with pytest.raises(NotYet, match="known from 2026-04-09 14:50:00 Taipei on, and it is 2026-04-09 14:49:59"):
        choose(date(2026, 4, 10), "2026-04-09 14:49:59")
    with pytest.raises(NotYet):
        choose(date(2026, 4, 13), "2026-04-09 14:50:00")
    assert not list(tmp_path.rglob("*.parquet"))
    assert choose(date(2026, 4, 10), "2026-04-09 14:50:00")


def test_what_was_fetched_once_is_not_asked_again_and_gives_the_same_file(tmp_path: Path) -> None:
    def choose(history: SimulatedHistory | None) -> object:
        return choose_universe(DAY, tmp_path / "market", history, STRATEGIES, 9, 4, 2, as_of_ns=LATER)

    with pytest.raises(QuotesMissing):
        choose(None)
    first = choose(past())
    assert choose(None) == first
    path = write_universe(first, tmp_path)  # type: ignore[arg-type]
    contents = path.read_bytes()
    write_universe(choose(None), tmp_path)  # type: ignore[arg-type]
    assert path.read_bytes() == contents
    assert {place.name for place in tmp_path.glob("*")} == {"market", "2026-04-09.json"}
    quotes_path(tmp_path / "market", DAYS[0]).unlink()
    with pytest.raises(QuotesMissing, match="2026-04-01"):
        choose(None)


def test_five_days_of_quotes_become_a_universe_that_two_recorders_share(tmp_path: Path) -> None:
    market_dir, universe_dir = tmp_path / "market", tmp_path / "universe"
    history = histories.history_for(DAY, tmp_path / "wal", market_dir, now_ns=lambda: LATER)
    universe = choose_universe(DAY, market_dir, history, STRATEGIES, 10, 5, 2, as_of_ns=LATER)
    write_universe(universe, universe_dir)
    assert read_universe(universe_dir, DAY) == universe
    assert len(universe.lookback) == 5 and universe.lookback[-1] == previous_trading_day(DAY)
    assert len(universe.inputs) == 6
    assert "10 codes by volume, volatility, unusual, over 5 trading days" in describe(universe)
    recorded = []
    for shard in range(2):
        command = [
            *(sys.executable, "-m", "shijim_live", "record", "--broker", "simulated", "--day", str(DAY), "--quiet"),
            *("--events", "10000", "--data-dir", str(tmp_path), "--metrics-port", "0", "--shard", f"{shard}/2"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        recorded.append(set(recorded_codes(tmp_path, shard)))
        assert recorded[-1] == set(universe.codes(shard))
    assert not recorded[0] & recorded[1]
    assert recorded[0] | recorded[1] == {one.code for one in universe.chosen}
    again = histories.history_for(DAY, tmp_path / "wal", market_dir, now_ns=lambda: LATER)
    assert len(again.kbars("TXFD6", DAY, DAY).ts) > 0  # the recorded market is still found
