"""The whole way: every stage reads what the stage before it really wrote, through the real commands."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
import real_txf
from dying_recorder import record_and_die
from hftbacktest import HashMapMarketDepthBacktest
from real_data import DATA, needs_data
from test_backtests import LOOK_NS, look

from shijim_live.broker.simulated import SimulatedExchange, SimulationConfig
from shijim_live.calendar import SECOND_NS, to_exchange_ns
from shijim_live.store.lake import Lake
from shijim_pipelines import backtests
from shijim_pipelines.event_file import validate_npz

DAY = date(2026, 4, 9)
EVENTS = 40_000
RECORD = ("shijim-live", "record", "--broker", "simulated", "--day", str(DAY), "--events", str(EVENTS),
          "--metrics-port", "0", "--quiet")  # fmt: skip
AWAY_NS = 30 * SECOND_NS


def run(*command: str) -> str:
    """A command of the product; its output. Its failure is the test's."""
    done = subprocess.run(arguments(*command), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def arguments(name: str, *rest: str) -> list[str]:
    return [sys.executable, "-m", {"shijim": "shijim_pipelines", "shijim-live": "shijim_live"}[name], *rest]


def report_of(folder: Path, day: date = DAY) -> dict[str, object]:
    run("shijim", "audit", "--day", str(day), "--data-dir", str(folder))
    return orjson.loads((folder / "reports" / "gaps" / f"{day}.json").read_bytes())  # type: ignore[no-any-return]


def missing_by_stream(report: dict[str, object]) -> dict[tuple[str, str], int]:
    streams = report["streams"]
    assert isinstance(streams, list)
    found = {(stream["code"], stream["session"]): stream["lots_missing"] for stream in streams}
    return {stream: lots for stream, lots in found.items() if lots}


class Truth:
    """The simulated exchange's own account of the day."""

    def __init__(self) -> None:
        exchange = SimulatedExchange(DAY, 1, SimulationConfig(target_events=EVENTS))
        truth = exchange.truth()
        trades = truth["trades"]
        self.code = [truth["codes"][at] for at in np.frombuffer(trades["instrument"], "<u2")]
        self.session = [str(exchange.sessions[at].session) for at in np.frombuffer(trades["session"], "u1")]
        self.received_ns = np.frombuffer(trades["received_ns"], "<i8")
        self.delivered = np.frombuffer(trades["fate"], "<i4") == -1
        self.lots = np.frombuffer(trades["volume"], "<u4")

    def missing(self, away: tuple[int, int] | None = None) -> dict[tuple[str, str], int]:
        """Lots by (code, session) that were not delivered, or came while the recorder was away.

        Without what comes after a stream's last recorded trade: no later total can prove that it is missing.
        """
        taken = self.delivered.copy()
        if away is not None:
            taken &= ~((self.received_ns > away[0]) & (self.received_ns <= away[1]))
        last: dict[tuple[str, str], int] = {}
        streams = list(zip(self.code, self.session, strict=True))
        for at, stream in enumerate(streams):
            if taken[at]:
                last[stream] = max(last.get(stream, 0), int(self.received_ns[at]))
        counted: Counter[tuple[str, str]] = Counter()
        for at, stream in enumerate(streams):
            if not taken[at] and self.received_ns[at] <= last.get(stream, 0):
                counted[stream] += int(self.lots[at])
        return dict(counted)


@pytest.fixture(scope="module")
def simulated_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("way")
    run(*RECORD, "--data-dir", str(folder))
    run("shijim", "archive", "--data-dir", str(folder))
    return folder


def test_from_a_broker_object_to_a_finished_backtest(simulated_day: Path) -> None:
    made = run("shijim", "dataset", "--day", str(DAY), "--symbol", "TXFD6", "--data-dir", str(simulated_day))
    npz = simulated_day / "datasets" / str(DAY) / "TXFD6.npz"
    assert f"next: shijim backtest {npz}" in made
    rows = validate_npz(npz)
    result = orjson.loads(run("shijim", "backtest", str(npz), "--json"))
    assert result["trades"] > 0 and result["steps"] > 30_000
    trades = Lake(simulated_day / "archive").query(
        "SELECT count() AS trades, sum(volume) AS lots FROM ticks WHERE code = 'TXFD6' AND lane = 1"
    )
    kinds = rows["ev"] & 0xFF
    once = (rows["ev"] & 0x80000000) != 0  # a row split over both clocks counts once
    assert int((once & (kinds == 2)).sum()) == trades["trades"][0].as_py()
    assert int(rows["qty"][once & (kinds == 2)].sum()) == trades["lots"][0].as_py()


def test_the_audit_finds_every_lost_lot_and_no_other(simulated_day: Path) -> None:
    report = report_of(simulated_day)
    assert missing_by_stream(report) == Truth().missing()
    assert sum(missing_by_stream(report).values()) > 100
    causes = {gap["cause"] for gap in report["gaps"] if gap["lots"]}  # type: ignore[attr-defined]
    assert causes == {"outage", "feed_loss"}


def test_the_recorder_counted_the_same_lots_while_it_recorded(tmp_path: Path, simulated_day: Path) -> None:
    said = run(*RECORD, "--data-dir", str(tmp_path))
    assert f"{sum(missing_by_stream(report_of(simulated_day)).values()):,} lots missing" in said


def test_rebuilding_gives_the_same_bytes(simulated_day: Path, tmp_path: Path) -> None:
    run(*RECORD, "--data-dir", str(tmp_path))
    run("shijim", "archive", "--data-dir", str(tmp_path))
    for folder in (simulated_day, tmp_path):
        run("shijim", "dataset", "--day", str(DAY), "--symbol", "2330", "--data-dir", str(folder))
    one, two = (folder / "datasets" / str(DAY) / "2330.npz" for folder in (simulated_day, tmp_path))
    assert one.read_bytes() == two.read_bytes()


@pytest.fixture(scope="module")
def killed_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A recorder killed in the middle of the day, started again, and archived."""
    folder = tmp_path_factory.mktemp("killed")
    record_and_die(folder, EVENTS // 2, [*RECORD[1:], "--data-dir", str(folder)])
    assert "resumed after" in run(*RECORD, "--data-dir", str(folder))
    run("shijim", "archive", "--data-dir", str(folder))
    yield folder


MARKET = (
    "SELECT * EXCEPT (run_id, segment, sequence) FROM {view} "
    "WHERE NOT (received_ns > {{begin:Int64}} AND received_ns <= {{end:Int64}}) ORDER BY received_ns"
)


def test_a_kill_is_an_outage_that_is_recorded_found_and_sized_exactly(killed_day: Path, simulated_day: Path) -> None:
    report = report_of(killed_day)
    outages = [gap for gap in report["gaps"] if gap["gap_type"] == "outage"]  # type: ignore[attr-defined]
    [restart] = [gap for gap in outages if gap["reason"] == "recorder was not running"]
    away = (restart["start_ns"], restart["end_ns"])
    assert away[1] - away[0] == AWAY_NS
    assert missing_by_stream(report) == Truth().missing(away)
    extra = sum(Truth().missing(away).values()) - sum(Truth().missing().values())
    sized = [gap for gap in report["gaps"] if gap["reason"] == "recorder was not running" and gap["lots"]]  # type: ignore[attr-defined]
    # A trade that the feed lost right before the kill, or right behind it, is in the same gap: the totals show no seam.
    beside = sum(gap["lots"] for gap in sized) - extra
    assert extra > 0 and 0 <= beside <= sum(Truth().missing().values())


def test_the_archive_of_a_killed_day_equals_the_uninterrupted_one_but_for_the_outage(
    killed_day: Path, simulated_day: Path
) -> None:
    outage = Lake(killed_day / "archive").query(
        "SELECT begin_ns, end_ns FROM statuses WHERE kind = 18 AND text = 'recorder was not running'"
    )
    window = {"begin": outage["begin_ns"][0].as_py(), "end": outage["end_ns"][0].as_py()}
    for view in ("ticks", "books"):
        sql = MARKET.format(view=view)
        killed, whole = (Lake(folder / "archive").query(sql, **window) for folder in (killed_day, simulated_day))
        assert killed.num_rows > 1_000
        assert killed.equals(whole)


def test_a_query_works_while_the_recorder_writes(tmp_path: Path) -> None:
    command = arguments(*RECORD, "--data-dir", str(tmp_path), "--speed", "8000")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not list(tmp_path.glob("wal/*/*-0003.wal")):
            assert process.poll() is None
            time.sleep(0.02)
        run("shijim", "archive", "--data-dir", str(tmp_path))
        counted = run("shijim", "query", "SELECT count() AS trades FROM ticks", "--data-dir", str(tmp_path),
                      "--format", "jsonl")  # fmt: skip
        assert orjson.loads(counted)["trades"] > 0
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(30) == 0


REAL_DAYS = (8, 9, 10)


@pytest.fixture(scope="module")
def real_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    files = [str(DATA / "txf_l5" / f"TXFD6_2026-04-{day:02}.parquet") for day in REAL_DAYS]
    run("shijim", "import", *files, "--data-dir", str(folder))
    run("shijim", "archive", "--data-dir", str(folder))
    return folder


@needs_data
def test_every_real_lot_is_archived_on_its_trading_day_and_lane(real_days: Path) -> None:
    """What stands in `data/README.md`: file 04-09 holds 10,595 + 52,121 + 2,145 + 45,640 lots; its night is 04-10's."""
    answer = Lake(real_days / "archive").query(
        "SELECT trading_day::String AS day, session, lane, sum(volume) AS lots FROM ticks GROUP BY ALL"
    )
    lots = {(row["day"], row["session"], row["lane"]): row["lots"] for row in answer.to_pylist()}
    board, trial = 1, 3
    assert lots["2026-04-09", "day", trial] == 10_595
    assert lots["2026-04-09", "day", board] == 52_121
    assert lots["2026-04-10", "night", trial] == 2_145
    assert lots["2026-04-10", "night", board] == 45_640
    assert {day for day, *_ in lots} == {"2026-04-08", "2026-04-09", "2026-04-10", "2026-04-13"}


@needs_data
def test_every_real_trade_is_in_the_archive_as_the_file_has_it(real_days: Path) -> None:
    archived = Lake(real_days / "archive").query(
        "SELECT exchange_ns + source_offset_ns AS stamp, price_e6, volume, side FROM ticks ORDER BY stamp, sequence"
    )
    wanted = []
    for day in REAL_DAYS:
        source = pq.read_table(DATA / "txf_l5" / f"TXFD6_2026-04-{day:02}.parquet")
        ev = source["ev"].to_numpy()
        trade = (ev & 0xFF) == 2
        price_e6 = np.rint(source["px"].to_numpy()[trade] * 10**6).astype(np.int64)
        side = np.where(ev[trade] & (1 << 29), 1, 2)
        columns = (
            source["exch_ts"].to_numpy()[trade],
            price_e6,
            source["qty"].to_numpy()[trade].astype(np.int64),
            side,
        )
        wanted.append(np.stack(columns))
    expected = np.concatenate(wanted, axis=1)
    found = np.stack([archived[name].to_numpy().astype(np.int64) for name in ("stamp", "price_e6", "volume", "side")])
    assert found.shape == expected.shape
    assert np.array_equal(found[:, np.lexsort(found)], expected[:, np.lexsort(expected)])


@needs_data
def test_what_a_recording_cannot_prove_is_unprovable_not_green(real_days: Path) -> None:
    report = report_of(real_days)
    summary = report["summary"]
    assert isinstance(summary, dict)
    streams, gaps = report["streams"], report["gaps"]
    assert isinstance(streams, list) and isinstance(gaps, list)
    assert {stream["verdict"] for stream in streams} == {"unprovable"} and summary["lots_missing"] == 0
    assert [(gap["gap_type"], gap["cause"]) for gap in gaps] == [("silence", "early_stop")]


@needs_data
def test_hftbacktest_shows_the_source_book_at_every_second_of_the_imported_day(real_days: Path) -> None:
    run(
        "shijim",
        "dataset",
        "--day",
        "2026-04-09",
        "--symbol",
        "TXFD6",
        "--session",
        "day",
        "--data-dir",
        str(real_days),
    )
    npz = real_days / "datasets" / "2026-04-09" / "TXFD6-day.npz"
    open_ns = to_exchange_ns(datetime(2026, 4, 9, 8, 45))  # noqa: DTZ001 - Taipei wall clock
    seconds = [open_ns + second * SECOND_NS for second in range(1, 5 * 3600 + 1)]
    rows = validate_npz(npz)
    market = HashMapMarketDepthBacktest([backtests.asset(rows, real_txf.CONTRACT, backtests.Quoting())])
    seen = np.full((len(seconds), 4), np.nan)
    look(market, np.array(seconds) + LOOK_NS, seen)
    market.close()
    assert np.array_equal(seen, np.array(real_txf.best_of_source_at(seconds)))
    result = orjson.loads(run("shijim", "backtest", str(npz), "--json"))
    assert result["trades"] > 0
