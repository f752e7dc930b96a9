"""Backtests: hftbacktest sees the source book at every second, the quoter's money adds up, faults are not silent."""

from pathlib import Path

import numpy as np
import pytest
import real_txf
from hftbacktest import BacktestAsset, HashMapMarketDepthBacktest, Recorder
from numba import njit
from numpy.typing import NDArray
from test_hft_dataset import Event, Levels, tables

from shijim_pipelines import backtests, hft_dataset
from shijim_pipelines.backtests import (
    NO_MID_E6,
    BacktestFailed,
    BacktestResult,
    Quoting,
    Track,
    run_backtest,
    run_tracked,
)
from shijim_pipelines.hft_dataset import (
    DatasetFiles,
    FeedLatency,
    InvalidDataset,
    Provenance,
    build_dataset,
    validate_npz,
)

FEED_NS = 5_000_000
# Half a millisecond after the feed, so that no look falls on the millisecond grid of the events themselves.
LOOK_NS = FEED_NS + 500_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> DatasetFiles:
    dataset = build_dataset(*real_txf.day_session(), FeedLatency(FEED_NS))
    directory = tmp_path_factory.mktemp("datasets")
    provenance = Provenance(inputs={}, source_commit="test")
    return hft_dataset.write_dataset(dataset, directory, "TXFD6", real_txf.DAY, real_txf.CONTRACT, provenance)


@pytest.fixture(scope="module")
def result(files: DatasetFiles) -> BacktestResult:
    return run_backtest(files.npz, files.meta, Quoting())


@njit
def look(market, stamps, best):  # type: ignore[no-untyped-def]
    """Best bid and ask with their sizes at each local time; the code of the last step."""
    # The clock stands at the greatest integer until the first step puts it at the first event.
    code = market.elapse(1)
    for place in range(len(stamps)):
        code = market.elapse(stamps[place] - market.current_timestamp)
        depth = market.depth(0)
        best[place] = (depth.best_bid, depth.best_bid_qty, depth.best_ask, depth.best_ask_qty)
        if code != 0:
            break
    return code


def test_hftbacktest_shows_the_source_book_at_every_second_of_the_day(files: DatasetFiles) -> None:
    seconds = [real_txf.OPEN_NS + second * real_txf.SECOND for second in range(1, 5 * 3600 + 1)]
    rows = validate_npz(files.npz)
    market = HashMapMarketDepthBacktest([backtests.asset(rows, real_txf.CONTRACT, Quoting())])
    seen: NDArray[np.float64] = np.full((len(seconds), 4), np.nan)
    code = look(market, np.array(seconds) + LOOK_NS, seen)
    market.close()
    # The last look is behind the last event: the data ended, and the book is the last one.
    assert code == 1
    assert np.array_equal(seen, np.array(real_txf.best_of_source_at(seconds)))


def test_the_quoter_trades_and_its_money_adds_up(result: BacktestResult, files: DatasetFiles) -> None:
    contract, quoting = real_txf.CONTRACT, Quoting()
    assert result.steps == 17_999
    assert result.trades > 1_000
    assert abs(result.position) <= quoting.position_lots_max
    assert result.fee_e6 == result.trades * quoting.fee_per_lot_e6
    inventory_e6 = result.position * result.last_mid_e6 * contract.contract_size
    assert result.equity_e6 == result.balance_e6 + inventory_e6 - result.fee_e6
    asks, bids = (real_txf.best_of_source_at([real_txf.CLOSE_NS])[0][place] for place in (2, 0))
    assert result.last_mid_e6 == pytest.approx((asks + bids) / 2 * 1e6, abs=20e6)


def test_the_same_dataset_gives_the_same_result(result: BacktestResult, files: DatasetFiles) -> None:
    again = run_backtest(files.npz, files.meta, Quoting())
    fields = [name for name in BacktestResult.__slots__ if name != "elapsed_ns"]
    assert [getattr(again, name) for name in fields] == [getattr(result, name) for name in fields]


def test_the_summary_says_the_money_in_twd(result: BacktestResult) -> None:
    text = backtests.summary(result)
    assert f"{result.equity_e6 / 1e6:,.0f} TWD" in text
    assert f"{result.trades:,}" in text


def test_a_dataset_of_another_meta_is_refused(files: DatasetFiles, tmp_path: Path) -> None:
    rows = validate_npz(files.npz)[:1000]
    np.savez(tmp_path / "TXFD6.npz", data=rows)
    with pytest.raises(InvalidDataset, match=r"its rows are not those that TXFD6.meta.json describes"):
        run_backtest(tmp_path / "TXFD6.npz", files.meta, Quoting())


def test_an_unsound_dataset_never_reaches_the_engine(files: DatasetFiles, tmp_path: Path) -> None:
    np.savez(tmp_path / "TXFD6.npz", data=np.zeros(3))
    with pytest.raises(InvalidDataset, match="not hftbacktest's event type"):
        run_backtest(tmp_path / "TXFD6.npz", files.meta, Quoting())
    with pytest.raises(InvalidDataset, match="not a dataset's meta file"):
        run_backtest(files.npz, tmp_path / "absent.meta.json", Quoting())
    meta = tmp_path / "TXFD6.meta.json"
    meta.write_bytes(files.meta.read_bytes().replace(b'"lot_size": 1', b'"lot_size": 0'))
    with pytest.raises(InvalidDataset, match="are not positive integers"):
        run_backtest(files.npz, meta, Quoting())


def test_an_engine_that_stops_early_is_a_failure(tmp_path: Path) -> None:
    # Handed over unchecked, this file makes the engine print a line and return a code.
    path = tmp_path / "bad.npz"
    np.savez(path, rows=np.zeros(3))
    unread = BacktestAsset().data([str(path)]).linear_asset(1.0).constant_order_latency(0, 0)
    unread = unread.risk_adverse_queue_model().no_partial_fill_exchange().trading_qty_fee_model(0.0, 0.0)
    market = HashMapMarketDepthBacktest([unread.tick_size(1.0).lot_size(1.0)])
    with pytest.raises(BacktestFailed, match=r"bad.npz: hftbacktest stopped with code \d+ after 0 steps"):
        backtests.quote_through(market, Recorder(1, 10).recorder, Quoting(), path)


# The way to the result


@pytest.fixture(scope="module")
def track(files: DatasetFiles) -> Track:
    return run_tracked(files.npz, files.meta, Quoting())[1]


def test_the_track_leads_to_the_result(track: Track, result: BacktestResult) -> None:
    assert len(track.ns) == result.steps + 1
    assert (np.diff(track.ns)[:-1] == backtests.STEP_NS).all() and track.ns[-1] >= track.ns[-2]
    assert track.equity_e6[-1] == result.equity_e6
    assert (track.position[-1], track.mid_e6[-1]) == (result.position, result.last_mid_e6)
    assert track.mid_e6[track.mid_e6 != NO_MID_E6][0] == result.first_mid_e6


def test_the_fills_add_up_to_the_position_and_the_trades(track: Track, result: BacktestResult) -> None:
    assert np.array_equal(np.cumsum(track.bought - track.sold), track.position)
    # Every order is of one lot and fills whole.
    assert int((track.bought + track.sold).sum()) == result.trades
    assert (track.bought >= 0).all() and (track.sold >= 0).all()
    assert len(track.fills) < result.trades, "no second with two fills: both sides of one step were never seen"


def test_equity_moves_with_the_mid_when_nothing_fills(track: Track) -> None:
    still = (track.bought + track.sold)[1:-1] == 0
    moved = np.diff(track.equity_e6)[:-1][still]
    assert np.array_equal(moved, (track.position[1:-1] * np.diff(track.mid_e6)[:-1])[still] * 200)


def test_a_process_compiles_once_for_any_number_of_datasets(files: DatasetFiles, tmp_path: Path) -> None:
    run_backtest(files.npz, files.meta, Quoting())
    known = len(backtests._quote.signatures)
    small = made(tmp_path, [book(1, [(10, 1)], [(12, 1)]), book(5, [(9, 1)], [(12, 1)])])
    took_ns = [run_backtest(small.npz, small.meta, Quoting()).elapsed_ns for _ in range(3)]
    assert len(backtests._quote.signatures) == known == 1
    assert min(took_ns) < 500_000_000  # compiling takes seconds


SECOND = real_txf.SECOND


def book(second: int, bids: Levels, asks: Levels) -> Event:
    return Event(0, real_txf.OPEN_NS + second * SECOND, None, (bids, asks), (0, 0, 0))


def trade(second: int, price: int) -> Event:
    return Event(0, real_txf.OPEN_NS + second * SECOND, None, None, (price, 1, 1))


def made(folder: Path, events: list[Event]) -> DatasetFiles:
    dataset = build_dataset(*tables(events), FeedLatency(FEED_NS))
    provenance = Provenance(inputs={}, source_commit="test")
    return hft_dataset.write_dataset(dataset, folder, "TXFD6", real_txf.DAY, real_txf.CONTRACT, provenance)


@pytest.mark.parametrize(
    ("events", "mid_e6"),
    [
        ([book(second, [(10, 1 + second % 2)], [(12, 2)]) for second in range(30)], 11_000_000),
        ([book(0, [(10, 2)], [(12, 2)]), *(book(second, [], []) for second in range(3, 30))], 11_000_000),
        ([book(second, [(10, 2)], []) for second in range(30)], NO_MID_E6),
        ([book(second, [], []) for second in range(30)], NO_MID_E6),
        ([trade(second, 10) for second in range(30)], NO_MID_E6),
        ([trade(0, 10)], NO_MID_E6),
        ([book(0, [(10, 2)], [(12, 2)])], NO_MID_E6),
    ],
    ids=["never trades", "book empties", "one side", "empty book", "no book", "one trade", "one book"],
)
def test_a_market_where_nothing_happens_is_a_result_not_a_crash(
    tmp_path: Path, events: list[Event], mid_e6: int
) -> None:
    files = made(tmp_path, events)
    result, track = run_tracked(files.npz, files.meta, Quoting())
    assert (result.trades, result.position, result.equity_e6, result.last_mid_e6) == (0, 0, 0, mid_e6)
    assert len(track.fills) == 0 and not track.equity_e6.any()
    assert (track.mid_e6 == mid_e6).all()
    text = backtests.summary(result)
    assert "equity    0 TWD" in text
    assert ("never two-sided" in text) == (mid_e6 == NO_MID_E6)
