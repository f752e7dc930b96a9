"""Foreign recordings become segments: everything that is in the file, nothing that is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from real_data import DATA, needs_data

from shijim_live.events import ABSENT_I64, ABSENT_U32, Book, Flag, Kind, Lane, Status, Trade, decode_all
from shijim_live.record import wal
from shijim_pipelines.imports import ImportRefused, import_file

BID, ASK, BUY, SELL = 0xE0000001, 0xD0000001, 0xE0000002, 0xD0000002


def events_of(folder: Path) -> list[Trade | Book | Status]:
    return [event for path in wal.segment_paths(folder) for chunk in wal.records(path) for event in decode_all(chunk)]


def l5_file(path: Path, rows: list[tuple[int, int, float, float]]) -> Path:
    ev, stamps, px, qty = zip(*rows, strict=True)
    columns = [pa.array(ev, pa.uint64()), pa.array(stamps, pa.int64()), pa.array(px, pa.float64()),
               pa.array(qty, pa.float64())]  # fmt: skip
    pq.write_table(pa.table(columns, names=["ev", "exch_ts", "px", "qty"]), path)
    return path


DAY_NS = 1_775_696_400_000_000_000  # 2026-04-09 09:00 Taipei
SMALL = [
    (0xC0000003, DAY_NS, 0.0, 0.0),
    (BID, DAY_NS, 34_000.0, 5.0),
    (ASK, DAY_NS, 34_001.0, 6.0),
    (BUY, DAY_NS + 5_000_064, 34_001.0, 2.0),
    (ASK, DAY_NS + 5_000_064, 34_001.0, 4.0),
]


def test_an_l5_file_becomes_books_and_trades_with_the_source_stamp_kept(tmp_path: Path) -> None:
    done = import_file(l5_file(tmp_path / "TXFD6_2026-04-09.parquet", SMALL), tmp_path / "wal")
    first, trade, last = events_of(tmp_path / "wal")
    assert (done.records, done.source, done.already_there) == (3, "import:txf_l5", False)
    assert isinstance(trade, Trade) and isinstance(last, Book) and isinstance(first, Book)
    assert (trade.code, trade.price_e6, trade.volume, trade.side) == ("TXFD6", 34_001_000_000, 2, 1)
    assert (trade.exchange_ns, trade.source_offset_ns) == (DAY_NS + 5_000_000, 64)
    assert (trade.received_ns, trade.total_volume, trade.open_e6) == (ABSENT_I64, ABSENT_U32, ABSENT_I64)
    assert trade.flags == Flag.LANE_INFERRED | Flag.TIME_ROUNDED
    assert (last.ask_volume[0], first.ask_volume[0], first.bid_price_e6[1]) == (4, 6, ABSENT_I64)


def test_importing_twice_changes_nothing(tmp_path: Path) -> None:
    path = l5_file(tmp_path / "TXFD6_2026-04-09.parquet", SMALL)
    first = import_file(path, tmp_path / "wal")
    before = {file: file.read_bytes() for file in (tmp_path / "wal").rglob("*.wal")}
    again = import_file(path, tmp_path / "wal")
    assert again.already_there and again.run_id == first.run_id and again.records == first.records
    assert {file: file.read_bytes() for file in (tmp_path / "wal").rglob("*.wal")} == before


def test_the_same_rows_imported_elsewhere_give_the_same_bytes(tmp_path: Path) -> None:
    path = l5_file(tmp_path / "TXFD6_2026-04-09.parquet", SMALL)
    one, two = (import_file(path, tmp_path / name).segments[0].read_bytes() for name in ("a/wal", "b/wal"))
    assert one == two


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("TXFD6_2026-04-09.parquet", b"PAR1 but not really", "cannot be read"),
        ("notes.txt", b"hello", "neither Parquet of L5 differences"),
        ("x.jsonl", b'{"hello": 1}\n', "line 1 is no Shioaji callback"),
        ("x.jsonl", b'{"ts_ns": 1, ', "line 1 is no Shioaji callback"),
        ("empty", b"", "neither Parquet"),
    ],
)
def test_a_file_that_is_not_what_it_claims_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImportRefused, match=message) as refused:
        import_file(tmp_path / name, tmp_path / "wal")
    assert str(tmp_path / name) in str(refused.value) and "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_parquet_of_something_else_is_refused_with_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ImportRefused, match=r"columns \{'a': 'int64'\}"):
        import_file(tmp_path / "x.parquet", tmp_path / "wal")


def test_a_name_without_a_code_asks_for_the_symbol(tmp_path: Path) -> None:
    path = l5_file(tmp_path / "whatever.parquet", SMALL)
    with pytest.raises(ImportRefused, match="--symbol"):
        import_file(path, tmp_path / "wal")
    import_file(path, tmp_path / "wal", symbol="MXFD6")
    assert {event.code for event in events_of(tmp_path / "wal")} == {"MXFD6"}


def test_a_row_that_cannot_be_is_named(tmp_path: Path) -> None:
    path = l5_file(tmp_path / "TXFD6_2026-04-09.parquet", [*SMALL, (BUY, DAY_NS, 34_001.0, 1.0)])
    with pytest.raises(ImportRefused, match="row 5"):
        import_file(path, tmp_path / "wal")
    assert not (tmp_path / "wal").exists()


TICK = {
    "ts_ns": 1_763_595_067_880_000_064, "symbol": "2330", "asset_type": "stock", "exchange": "TSE", "type": "MD_TICK",
    "price": 1450.5, "size": 3, "total_volume": 10,
    "extras": {
        "tick_type": 1, "chg_type": 2, "simtrade": 0, "avg_price": 1450.1234567, "open": 1449.0, "amount": 4351500.0,
        "total_amount": 14505000.0, "high": 1451.0, "low": 1448.5, "price_chg": 1.0, "pct_chg": 0.07,
        "bid_side_total_vol": 4, "ask_side_total_vol": None, "suspend": 0, "intraday_odd": 1,
    },
}  # fmt: skip


def test_a_json_line_keeps_what_it_knows_and_the_rest_is_absent(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps(TICK) + "\n")
    import_file(tmp_path / "x.jsonl", tmp_path / "wal")
    [trade] = events_of(tmp_path / "wal")
    assert isinstance(trade, Trade)
    # 2025-11-19 23:31:07.88 Taipei, rounded to the broker's microsecond
    assert (trade.exchange_ns, trade.source_offset_ns) == (1_763_566_267_880_000_000, 64)
    assert (trade.lane, trade.price_e6, trade.side) == (Lane.ODD, 1_450_500_000, 1)
    assert (trade.bid_side_total_vol, trade.ask_side_total_vol) == (4, ABSENT_U32)
    assert trade.avg_price_e6 == ABSENT_I64 and trade.oversize == (("avg_price_e6", "1450.1234567"),)


def test_a_later_broken_line_is_quarantined_with_its_text(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps(TICK) + "\n" + json.dumps(TICK)[:50] + "\n" + json.dumps(TICK) + "\n")
    done = import_file(tmp_path / "x.jsonl", tmp_path / "wal")
    events = events_of(tmp_path / "wal")
    assert [event.kind for event in events] == [Kind.TRADE, Kind.QUARANTINE, Kind.TRADE]
    assert done.quarantined == 1
    assert isinstance(events[1], Status) and events[1].text.startswith("line 2: JSONDecodeError")


@needs_data
@pytest.mark.parametrize("name", ["TXFD6_2026-04-08", "TXFD6_2026-04-09", "TXFD6_2026-04-10"])
def test_every_trade_and_every_lot_of_a_real_day_is_in_the_log(tmp_path: Path, name: str) -> None:
    source = pq.read_table(DATA / "txf_l5" / f"{name}.parquet")
    ev, qty = source["ev"].to_numpy(), source["qty"].to_numpy()
    wanted = qty[(ev & 0xFF) == 2]
    import_file(DATA / "txf_l5" / f"{name}.parquet", tmp_path / "wal")
    volumes = []
    for path in wal.segment_paths(tmp_path / "wal"):
        for chunk in wal.records(path):
            kinds = np.frombuffer(chunk, np.uint8)[::256]
            volumes.append(np.frombuffer(chunk, "<u4").reshape(-1, 64)[kinds == Kind.TRADE, 16])
    assert np.array_equal(np.concatenate(volumes), wanted.astype(np.uint32))


@needs_data
def test_every_line_of_the_recorded_callbacks_is_in_the_log(tmp_path: Path) -> None:
    for path in sorted((DATA / "shioaji_stream").glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        import_file(path, tmp_path / path.stem / "wal")
        events = events_of(tmp_path / path.stem / "wal")
        assert len(events) == len(lines)
        for line, event in zip(lines, events, strict=True):
            stamp_ns = line.get("ts_ns", line.get("ts")) - 8 * 3600 * 10**9
            assert abs(event.source_offset_ns) <= 500
            assert event.exchange_ns + event.source_offset_ns == stamp_ns
            assert (event.lane == Lane.TRIAL) == bool(line["extras"]["simtrade"])
            if line["type"] == "MD_TICK":
                assert isinstance(event, Trade)
                assert (event.price_e6, event.volume) == (round(line["price"] * 10**6), line["size"])
                assert event.total_volume == line["total_volume"]
            else:
                assert isinstance(event, Book)
                assert list(event.bid_volume) == line["bid_volumes"] + [0] * (5 - len(line["bid_volumes"]))
