"""The whole way on a day with Taiwan's rules: auctions, pauses and suspended codes are no gaps and no silences."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import orjson
import pytest
from made_records import trades, write_log
from test_way import missing_by_stream, report_of, run

from shijim_live.broker.history import HistoryUnavailable
from shijim_live.broker.simulated import MARKETS, SimulatedExchange
from shijim_live.calendar import SECOND_NS
from shijim_live.record import wal
from shijim_live.settings import Settings
from shijim_live.store.lake import Lake
from shijim_pipelines import datasets, stages
from shijim_pipelines.event_file import validate_npz
from shijim_pipelines.hft_dataset import FeedLatency
from shijim_pipelines.history import history_for

DAY = date(2026, 4, 9)
EVENTS = 40_000
RECORD = ("shijim-live", "record", "--broker", "simulated", "--market", "taiwan", "--day", str(DAY), "--events",
          str(EVENTS), "--metrics-port", "0", "--quiet")  # fmt: skip
QUOTED_ONLY, SUSPENDED = "5274", "6488"
DELIVERED = -1
OPENING = 0  # of `calls` in the truth
CLEAR = 3  # hftbacktest's event

Print = tuple[str, int, int, int, int]  # code, exchange_ns, price_e6, volume, total


def traded() -> list[tuple[Print, bool]]:
    """Every trade of the simulated market, and whether it was delivered."""
    truth = SimulatedExchange(DAY, 1, replace(MARKETS["taiwan"], target_events=EVENTS)).truth()
    types = {"instrument": "<u2", "exchange_ns": "<i8", "price_e6": "<i8", "volume": "<u4", "total_volume": "<u8",
             "fate": "<i4"}  # fmt: skip
    columns = [np.frombuffer(truth["trades"][name], kind).tolist() for name, kind in types.items()]  # type: ignore[literal-required]
    return [((truth["codes"][code], *rest), fate == DELIVERED) for code, *rest, fate in zip(*columns, strict=True)]  # type: ignore[misc]


def in_the_lake(folder: Path) -> list[Print]:
    sql = "SELECT code, exchange_ns, price_e6, volume, total_volume FROM ticks WHERE lane = 1"
    return sorted(tuple(row.values()) for row in Lake(folder / "archive").query(sql).to_pylist())  # type: ignore[misc]


def shijim(verb: str, folder: Path, *rest: str) -> str:
    return run("shijim", verb, "--day", str(DAY), *rest, "--data-dir", str(folder))


@pytest.fixture(scope="module")
def taiwan_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taiwan")
    run(*RECORD, "--data-dir", str(folder))
    run("shijim", "archive", "--data-dir", str(folder))
    return folder


def test_the_history_is_that_of_the_market_with_the_same_rules(taiwan_day: Path) -> None:
    history = history_for(DAY, taiwan_day / "wal", taiwan_day / "market", sleep=lambda _: None)
    quotes = history.daily_quotes(DAY)
    lots = Counter[str]()
    for (code, *_, volume, _), _ in traded():
        lots[code] += volume
    shares = dict(zip(quotes.Code, quotes.Volume, strict=True))
    assert shares == {code: 1_000 * lots[code] for code in shares} and shares[QUOTED_ONLY] == shares[SUSPENDED] == 0
    for code in ("2330", "TXFD6"):
        assert history.ticks(code, DAY).volume == [print_[3] for print_, _ in traded() if print_[0] == code]
        assert sum(history.kbars(code, date(2026, 4, 8), DAY).Volume) >= lots[code]


def test_the_audit_finds_what_was_lost_and_takes_no_auction_or_pause_for_a_hole(taiwan_day: Path) -> None:
    shijim("quotes", taiwan_day)
    report = report_of(taiwan_day)
    lost = Counter[str]()
    for (code, *_, volume, _), delivered in traded():
        lost[code] += 0 if delivered else volume
    found = Counter[str]()
    for (code, _), lots in missing_by_stream(report).items():
        found[code] += lots
    assert found == +lost and sum(found.values()) > 100
    gaps = Counter((gap["gap_type"], gap["cause"]) for gap in report["gaps"])  # type: ignore[attr-defined]
    assert set(gaps) == {("volume", "outage"), ("volume", "feed_loss"), ("outage", "recorded")}
    streams = {stream["code"] for stream in report["streams"]}  # type: ignore[attr-defined]
    assert {"2002", "8069"} < streams and not streams & {QUOTED_ONLY, SUSPENDED}


def test_a_backfilled_day_has_every_trade_once_and_every_stream_proven(taiwan_day: Path) -> None:
    for verb in ("quotes", "audit", "backfill", "certify"):
        shijim(verb, taiwan_day)
    assert in_the_lake(taiwan_day) == sorted(print_ for print_, _ in traded())
    made = orjson.loads(shijim("certify", taiwan_day, "--json"))
    verdicts = {(one["code"], one["session"]): one["verdict"] for one in made["certificates"]}
    assert set(verdicts.values()) == {"PROVEN"}
    assert len(verdicts) == len(MARKETS["taiwan"].instruments) + 3  # the futures have a night


def test_the_same_seed_of_the_plain_market_is_another_recording(taiwan_day: Path, tmp_path: Path) -> None:
    plain = [word for word in RECORD if word not in ("--market", "taiwan")]
    run(*plain, "--data-dir", str(tmp_path))
    [first, *_] = sorted((tmp_path / "wal").rglob("*.wal"))
    config = orjson.loads(wal.open_segment(first)[0].header)["config"]
    assert config == {"day": str(DAY), "seed": 1, "events": EVENTS}, "a plain day keeps the identity it always had"
    first.rename(taiwan_day / "wal" / first.name)
    try:
        with pytest.raises(HistoryUnavailable, match=r"2 different simulated markets.*40000 events, taiwan in"):
            history_for(DAY, taiwan_day / "wal", taiwan_day / "market")
    finally:
        (taiwan_day / "wal" / first.name).unlink()


def test_a_market_that_this_release_does_not_know_is_an_error(tmp_path: Path) -> None:
    config = {"day": str(DAY), "seed": 1, "events": 60, "market": "atlantis"}
    write_log(tmp_path / "wal", trades("TXFD6", "2026-04-09 09:00:00", [1]), config=config)
    with pytest.raises(HistoryUnavailable, match="names the market 'atlantis', and this release knows plain, taiwan"):
        history_for(DAY, tmp_path / "wal", tmp_path / "market")


def test_no_backtest_trades_with_a_book_that_a_pause_or_the_closing_call_took_away(taiwan_day: Path) -> None:
    """From the first trial match on there is no level until continuous matching goes on; only the print is a trade."""
    exchange = SimulatedExchange(DAY, 1, replace(MARKETS["taiwan"], target_events=EVENTS))
    calls = exchange.truth()["calls"]
    types = {"instrument": "<u2", "kind": "u1", "start_ns": "<i8", "end_ns": "<i8"}
    of_truth = zip(*(np.frombuffer(calls[name], kind).tolist() for name, kind in types.items()), strict=True)  # type: ignore[literal-required]
    checked = 0
    by_code = [(exchange.codes[number], kind, start_ns, end_ns) for number, kind, start_ns, end_ns in of_truth]
    for symbol in ("2330", "2317"):
        shijim("dataset", taiwan_day, "--symbol", symbol)
        rows = validate_npz(taiwan_day / "datasets" / str(DAY) / f"{symbol}.npz")
        for code, kind, start_ns, end_ns in by_code:
            if code != symbol or kind == OPENING:
                continue
            during = rows[(rows["exch_ts"] >= start_ns) & (rows["exch_ts"] < end_ns)]
            assert [int(ev) & 0xFF for ev in during["ev"]] == [CLEAR], (symbol, kind)
            assert during["exch_ts"][0] - start_ns < 20 * SECOND_NS
            checked += 1
    assert checked >= 3, "two closings, and a pause at least"


def test_a_suspended_code_has_no_dataset_and_stops_no_other(taiwan_day: Path) -> None:
    settings = Settings.from_environment(None, data_dir=str(taiwan_day))
    requests = [datasets.Request(DAY, code, None, None, FeedLatency(0)) for code in (SUSPENDED, QUOTED_ONLY)]
    [suspended, quoted] = stages.build_datasets(settings, requests, time.time_ns())
    assert "6488: no trade and no book of the day has a price: suspended" in suspended.summary()
    assert isinstance(quoted, datasets.Made) and quoted.dataset.sessions[0].trades == 0
