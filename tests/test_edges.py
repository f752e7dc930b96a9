"""Values at the edge of what a record holds, through archive, lake, audit and dataset: kept, placed, or refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import pytest
from made_records import ns, outage, trade, trades, write_log

from shijim_live.calendar import to_exchange_ns
from shijim_live.events import (
    ABSENT_I64,
    ABSENT_U32,
    Book,
    BrokerClass,
    Event,
    Exchange,
    Flag,
    Kind,
    Lane,
    Status,
    decode_all,
    encode_with_sides,
)
from shijim_live.record import show
from shijim_live.store.lake import Lake
from shijim_live.store.parquet import stored_rows
from shijim_pipelines.archive import archive_all
from shijim_pipelines.datasets import Request, make_dataset
from shijim_pipelines.event_file import InvalidDataset
from shijim_pipelines.hft_dataset import FeedLatency
from shijim_pipelines.imports import import_file
from shijim_pipelines.proof.audit import audit_day

DAY = date(2026, 4, 9)
NINE = ns("2026-04-09 09:00:00")


def archived(folder: Path, events: list[Event], **header: object) -> list[dict[str, object]]:
    """Rows of `ticks` in order of sequence; what the archive verified is what was written."""
    write_log(folder / "wal", events, **header)
    done = archive_all(folder / "wal", folder / "archive")
    assert not done.failed and not done.skipped
    answer = Lake(folder / "archive").query("SELECT * FROM ticks_raw ORDER BY sequence")
    return answer.to_pylist()


EXTREMES = (-(2**63) + 1, -1, 0, 1, 2**63 - 1)


@pytest.mark.parametrize("value", EXTREMES)
def test_prices_of_any_64_bits_come_back(tmp_path: Path, value: int) -> None:
    made = trade("TXFD6", NINE, 1, 1, price_e6=value, amount_e6=value, low_e6=ABSENT_I64)
    [row] = archived(tmp_path, [made])
    assert (row["price_e6"], row["amount_e6"], row["low_e6"]) == (value, value, None)


@pytest.mark.parametrize("value", [0, 1, 2**31, ABSENT_U32 - 1])
def test_counts_of_any_32_bits_come_back_and_the_one_that_says_absent_is_absent(tmp_path: Path, value: int) -> None:
    made = trade("TXFD6", NINE, 1, 1, bid_side_total_vol=value, ask_side_total_vol=ABSENT_U32)
    [row] = archived(tmp_path, [made])
    assert (row["bid_side_total_vol"], row["ask_side_total_vol"]) == (value, None)


STAMPS = [datetime(year, 1, 1) for year in (1900, 1969, 2000, 2019, 2150, 2261)]  # noqa: DTZ001 - Taipei wall clock


@pytest.mark.parametrize("wall", STAMPS, ids=str)
def test_a_stamp_nobody_can_believe_is_kept_and_placed_by_the_receive_clock(tmp_path: Path, wall: datetime) -> None:
    stamp = to_exchange_ns(wall)
    [row] = archived(tmp_path, [trade("TXFD6", stamp, 1, 1, received_ns=NINE)])
    assert (row["exchange_ns"], row["trading_day"], row["outside"]) == (stamp, DAY, True)


def test_a_stamp_of_the_last_years_the_calendar_has_is_placed(tmp_path: Path) -> None:
    events = [trade("TXFD6", to_exchange_ns(datetime(year, 12, 31, 16)), 1, 1) for year in (2020, 2098, 2099)]  # noqa: DTZ001
    days = [row["trading_day"] for row in archived(tmp_path, list(events))]
    assert [day.year for day in days] == [2021, 2099, 2100]  # type: ignore[attr-defined]


def test_records_without_any_stamp_are_placed_by_what_stands_around_them(tmp_path: Path) -> None:
    nowhere = trade("TXFD6", ABSENT_I64, 1, 1, received_ns=ABSENT_I64)
    rows = archived(tmp_path, [trade("TXFD6", NINE, 1, 2), nowhere, nowhere], created_ns=ABSENT_I64)
    assert [row["trading_day"] for row in rows] == [DAY] * 3


def test_codes_of_any_length_that_nobody_knows_are_recorded_archived_and_audited(tmp_path: Path) -> None:
    codes = ["A" * 16, "X", "03000P", "TX1W2-34000/C", "2330"]
    events = [made for code in codes for made in trades(code, "2026-04-09 09:00:00", [1, 2])]
    assert {row["code"] for row in archived(tmp_path, list(events))} == set(codes)
    report = audit_day(tmp_path / "archive", tmp_path / "wal", DAY)
    assert {stream.code: stream.verdict for stream in report.streams} == dict.fromkeys(codes, "continuous")


def request(symbol: str) -> Request:
    return Request(DAY, symbol, None, None, FeedLatency(5_000_000))


def build(folder: Path, symbol: str) -> object:
    report = audit_day(folder / "archive", folder / "wal", DAY)
    return make_dataset(request(symbol), Lake(folder / "archive"), report, folder / "datasets")


def test_a_dataset_holds_the_board_lane_alone(tmp_path: Path) -> None:
    board = trades("TXFD6", "2026-04-09 09:00:00", [1] * 5)
    odd = [replace(made, lane=Lane.ODD, volume=7) for made in board]
    trial = [replace(made, lane=Lane.TRIAL, flags=Flag.SIMTRADE, volume=9, price_e6=1) for made in board]
    archived(tmp_path, [*trial, *board, *odd])
    made = build(tmp_path, "TXFD6")
    assert sum(session.volume for session in made.dataset.sessions) == 5  # type: ignore[attr-defined]
    assert set(made.dataset.rows["qty"][made.dataset.rows["ev"] & 0xFF == 2]) == {1.0}  # type: ignore[attr-defined]


def test_a_symbol_of_which_only_other_lanes_are_there_has_no_dataset(tmp_path: Path) -> None:
    made = [replace(event, lane=Lane.ODD) for event in trades("TXFD6", "2026-04-09 09:00:00", [1] * 5)]
    archived(tmp_path, list(made))
    with pytest.raises(InvalidDataset, match="TXFD6"):
        build(tmp_path, "TXFD6")
    assert not (tmp_path / "datasets").exists()


@pytest.mark.parametrize("price_e6", [-1_000_000, 2**63 - 1, ABSENT_I64])
def test_a_price_no_market_has_makes_no_dataset(tmp_path: Path, price_e6: int) -> None:
    archived(tmp_path, [trade("TXFD6", NINE, 1, 1, price_e6=price_e6), trade("TXFD6", NINE + 1, 1, 2)])
    with pytest.raises((InvalidDataset, ValueError)):
        build(tmp_path, "TXFD6")
    assert not list(tmp_path.glob("datasets/**/*.*"))


def test_a_book_of_empty_levels_only_is_archived_as_it_is(tmp_path: Path) -> None:
    book = Book(code="TXFD6", exchange=Exchange.TAIFEX, broker_class=BrokerClass.BIDASK_FOP_V1, lane=Lane.BOARD,
                exchange_ns=NINE, received_ns=NINE)  # fmt: skip
    write_log(tmp_path / "wal", [book])
    archive_all(tmp_path / "wal", tmp_path / "archive")
    [path] = (tmp_path / "archive").glob("books/*/*.parquet")
    assert [row["bid_price_e6"].tolist() for rows in stored_rows(path, "books") for row in rows] == [[ABSENT_I64] * 5]


def test_an_outage_that_ends_before_it_began_stops_nothing(tmp_path: Path) -> None:
    backwards = outage("2026-04-09 10:00:00", "2026-04-09 09:00:00", "a clock step")
    archived(tmp_path, [*trades("TXFD6", "2026-04-09 09:00:00", [1, 1]), backwards])
    assert audit_day(tmp_path / "archive", None, DAY).summary()["lots_missing"] == 0


WIDE = replace(trade("TXFD6", NINE, 1, 1), oversize=(("amount_e6", "1" * 400), ("open_e6", "0.12345678")))


def numbered(data: bytes) -> list[bytes]:
    rows = [bytearray(data[at : at + 256]) for at in range(0, len(data), 256)]
    for sequence, row in enumerate(rows, 1):
        row[8:16] = sequence.to_bytes(8, "little")
    return [bytes(row) for row in rows]


def test_side_records_are_folded_wherever_a_chunk_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rust_indicators import LogWriter

    monkeypatch.setattr(show.wal, "CHUNK_RECORDS", 2)
    monkeypatch.setattr(show.wal, "_header", lambda *_: None)
    writer = LogWriter(tmp_path, "0" * 16, '{"a":1}')
    writer.append(encode_with_sides(WIDE) * 3)
    writer.close()
    [path] = tmp_path.rglob("*.wal")
    events = list(show._events([path], show.Choice(), [], follow=False))
    assert [event.oversize for event in events if not isinstance(event, Status)] == [WIDE.oversize] * 3


@pytest.mark.parametrize("lost", range(10))
def test_what_a_corrupt_block_took_of_side_records_is_never_given_to_another_event(lost: int) -> None:
    book = Book(code="TXFD6", oversize=(("bid_price_e6[1]", "9" * 200),))
    rows = numbered(encode_with_sides(WIDE) + encode_with_sides(book) + encode_with_sides(WIDE))
    left = rows[:lost] + rows[lost + 1 :]
    for event in decode_all(b"".join(left)):
        if event.kind == Kind.SIDE or isinstance(event, Status):
            continue
        allowed = WIDE.oversize if event.kind == Kind.TRADE else book.oversize
        assert set(event.oversize) <= set(allowed)


def test_a_dataset_leaves_out_what_is_stamped_outside_every_session(tmp_path: Path) -> None:
    early = trade("TXFD6", ns("2026-04-09 08:40:00"), 3, 3)
    archived(tmp_path, [early, *trades("TXFD6", "2026-04-09 09:00:00", [1] * 5, total=3)])
    made = build(tmp_path, "TXFD6")
    assert sum(session.volume for session in made.dataset.sessions) == 5  # type: ignore[attr-defined]


def test_the_same_file_imported_under_another_symbol_is_another_import(tmp_path: Path) -> None:
    line = '{"type":"MD_TICK","symbol":"2330","exchange":"TSE","ts_ns":1775725200000000000,"price":1,"size":1,'
    path = tmp_path / "stream.jsonl"
    path.write_text(line + '"total_volume":1,"extras":{"tick_type":1}}\n')
    done = [import_file(path, tmp_path / "wal", symbol) for symbol in (None, "2317", "2317")]
    assert [imported.already_there for imported in done] == [False, False, True]
