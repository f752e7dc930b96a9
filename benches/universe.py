"""Ranking the universe from a lookback of Parquet on disk, beside plain pandas that reads and scores the same."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from benches.measure import Bench, Effort, Row, folder_on_disk, interleaved, ratio
from shijim_live.calendar import previous_trading_day
from shijim_live.universe import STRATEGIES
from shijim_pipelines.contracts import INSTRUMENTS_SCHEMA
from shijim_pipelines.quotes import (
    SCHEMA,
    quotes_path,
    read_instruments,
    read_quotes,
    write_instruments,
    write_quotes,
)
from shijim_pipelines.universe import rank

DAY = date(2026, 4, 9)
SYMBOLS, LIMIT, SHARDS = 2_000, 100, 2
SECONDS_MAX = 2.0


def rows(effort: Effort) -> list[Row]:
    return [_row(effort, days) for days in (5, 20)]


def _row(effort: Effort, lookback: int) -> Row:
    with folder_on_disk() as folder:
        days = _write_days(folder, lookback)
        ranked, by_pandas = _ours(folder, days), _pandas(folder, days)
        assert set(ranked) == set(by_pandas), "both sides choose the same codes"
        sides = {"ours": lambda: _ours(folder, days), "pandas": lambda: _pandas(folder, days)}
        times = interleaved(effort.rounds, sides)
    ours, pandas = (median(times[name]) for name in sides)
    return Row(
        f"universe of {LIMIT} from {lookback} days × {SYMBOLS:,} symbols on disk", f"{ours * 1e3:.0f} ms",
        f"pandas {pandas * 1e3:.0f} ms", f"{ratio(times['pandas'], times['ours']):.1f}× faster",
        f"≤ {SECONDS_MAX:.0f} s" if lookback == 5 else "–", ours <= SECONDS_MAX if lookback == 5 else None,
    )  # fmt: skip


def _ours(folder: Path, days: list[date]) -> list[str]:
    quotes = {day: read_quotes(folder, day) for day in days}
    chosen, _ = rank(quotes, read_instruments(folder, DAY), DAY, STRATEGIES, LIMIT, SHARDS)
    return [one.code for one in chosen]


def _pandas(folder: Path, days: list[date]) -> list[str]:
    """What one would write in a notebook: floats, one frame, group by code."""
    import pandas as pd

    frame = pd.concat([pd.read_parquet(quotes_path(folder, day)).assign(day=day) for day in days])
    frame = frame.sort_values(["code", "day"])
    by_code = frame.groupby("code")
    before = by_code["close_e6"].shift()
    top = np.maximum(before.fillna(frame["high_e6"]), frame["high_e6"])
    frame["range"] = top - np.minimum(before.fillna(frame["low_e6"]), frame["low_e6"])
    last = by_code.tail(1).set_index("code")
    earlier = frame[frame["day"] != max(days)].groupby("code")["volume"]
    scores = {
        "volume": by_code["amount_e6"].mean(),
        "volatility": frame.groupby("code")["range"].mean() / last["close_e6"],
        "unusual": (last["volume"] - earlier.mean()) / earlier.std(),
    }
    orders = {
        name: iter(score[score > 0].sort_values(ascending=False, kind="stable").index) for name, score in scores.items()
    }
    chosen: list[str] = []
    while len(chosen) < LIMIT:
        for order in orders.values():
            code = next((code for code in order if code not in chosen), None)
            if code is not None and len(chosen) < LIMIT:
                chosen.append(code)
    return chosen


def _write_days(folder: Path, lookback: int) -> list[date]:
    """Random walks of liquid stocks: no tie at the edge of the universe, nothing left out."""
    random = np.random.default_rng(1)
    codes = [f"{number}" for number in range(1_101, 1_101 + SYMBOLS)]
    days = [previous_trading_day(DAY)]
    while len(days) < lookback:
        days.append(previous_trading_day(days[-1]))
    days.sort()
    close = random.integers(2_000, 100_000, SYMBOLS) * 10_000
    usual = random.integers(5_000, 50_000, SYMBOLS)
    for day in days:
        low = (close * (1 - random.random(SYMBOLS) / 20)).astype(np.int64) // 10_000 * 10_000
        high = (close * (1 + random.random(SYMBOLS) / 20)).astype(np.int64) // 10_000 * 10_000
        close = (low + (high - low) * random.random(SYMBOLS)).astype(np.int64) // 10_000 * 10_000
        volume = (usual * (0.5 + random.random(SYMBOLS))).astype(np.int64)
        columns = {
            "code": codes, "session": ["day"] * SYMBOLS, "open_e6": low, "high_e6": high, "low_e6": low,
            "close_e6": close, "volume": volume, "odd_shares": np.zeros(SYMBOLS, np.int64),
            "amount_e6": close * volume * 1_000, "trades": volume // 4 + 1, "asked": ["daily_quotes"] * SYMBOLS,
        }  # fmt: skip
        metadata = {"trading_day": str(day), "closed": "futures-night,futures-day,stock-day"}
        write_quotes(pa.table(columns, SCHEMA.with_metadata(metadata)), folder, day)
    texts = {name: ["TSE"] * SYMBOLS for name in ("name", "exchange", "security_type")}
    prices = dict.fromkeys(("reference_e6", "limit_up_e6", "limit_down_e6"), close)
    texts["security_type"] = ["STK"] * SYMBOLS
    known = pa.table({"code": codes} | texts | prices)
    rows = pa.Table.from_pylist(known.to_pylist(), INSTRUMENTS_SCHEMA)  # what the source does not say is null
    table = rows.replace_schema_metadata({"trading_day": str(DAY)})
    write_instruments(table, folder, DAY)
    return days


BENCH = Bench(
    "universe",
    rows,
    "From Parquet on disk (in the page cache) to the codes in order, shared out to two shards: every strategy over "
    "every symbol. Beside it pandas on the same files: one frame, `groupby`, floats; both choose the same codes.",
    "Reading the Parquet files is half of it; the rest is Python per code, where codes are told apart.",
)
