"""Invariants: each finds the row that breaks it and names its symbol; sound data of every source breaks none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from made_records import RUN, ns, trade, trades, write_log
from real_data import DATA, needs_data

from shijim_live.calendar import NotATradingDay
from shijim_live.events import (
    ABSENT_I64,
    ABSENT_U32,
    EMPTY_PRICE_E6,
    Book,
    BrokerClass,
    Event,
    Exchange,
    Flag,
    Lane,
    Trade,
)
from shijim_live.store.lake import Lake
from shijim_pipelines.archive import archive_all
from shijim_pipelines.imports import import_file
from shijim_pipelines.invariants import WHAT, Violation, invariants

DAY = date(2026, 4, 9)
NINE = "2026-04-09 09:00:00"
NONE = EMPTY_PRICE_E6


def book(second: int, bids: list[int], asks: list[int], **fields: Any) -> Book:
    """A book of 2330 with one lot at each price; no price is an empty level."""
    stamp = ns(NINE) + second * 10**9

    def side(prices: list[int]) -> dict[str, tuple[int, ...]]:
        padded = (*(price if price == NONE else price * 1_000_000 for price in prices), *(NONE,) * (5 - len(prices)))
        return {"price_e6": padded, "volume": tuple(int(price != NONE) for price in padded)}

    levels = {f"bid_{k}": v for k, v in side(bids).items()} | {f"ask_{k}": v for k, v in side(asks).items()}
    known: dict[str, Any] = {"exchange": Exchange.TSE, "broker_class": BrokerClass.BIDASK_STK_V1, "lane": Lane.BOARD}
    known |= {"exchange_ns": stamp, "received_ns": stamp + 5_000_000}
    return Book(code="2330", **(known | levels | fields))


# Received within one quarter of an hour, so that they are one segment.
SOUND: list[Event] = [
    *(replace(each, received_ns=ns(NINE)) for each in trades("TXFD6", "2026-04-08 15:00:00", [1, 2])),
    *trades("TXFD6", NINE, [3, 4]),
    book(0, [99, 98, 97], [100, 101]),
    book(1, [0, 99, 98], [100]),  # a market order stands before the best price
    book(2, [], [100]),
    book(2, [], [100]),
    trade("2330", ns(NINE), 5, 5, exchange=Exchange.TSE, broker_class=BrokerClass.TICK_STK_V1),
    trade("2330", ns(NINE), 5, 5, exchange=Exchange.TSE, broker_class=BrokerClass.TICK_STK_V1),
    trade("2330", ns("2026-04-09 14:30:00"), 0, 5, received_ns=ns(NINE), exchange=Exchange.TSE, broker_class=1),
]


def archived(folder: Path, events: list[Event]) -> Lake:
    write_log(folder / "wal", events)
    archive_all(folder / "wal", folder / "archive")
    return Lake(folder / "archive")


def broken(lake: Lake, table: str, day: date = DAY) -> list[tuple[str, int, tuple[tuple[str, int], ...]]]:
    return [(found.name, found.count, found.codes) for found in invariants(lake, day, table)]


def test_sound_rows_break_nothing(tmp_path: Path) -> None:
    lake = archived(tmp_path, SOUND)
    assert broken(lake, "ticks") == broken(lake, "books") == []
    assert lake.query("SELECT sum(duplicate) AS n FROM books_raw").to_pylist() == [{"n": 1}]


def test_an_archive_without_the_day_breaks_nothing(tmp_path: Path) -> None:
    assert broken(Lake(tmp_path / "nothing"), "ticks") == broken(Lake(tmp_path / "nothing"), "books") == []


def test_a_closed_day_and_another_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotATradingDay, match="2026-04-11"):
        invariants(Lake(tmp_path), date(2026, 4, 11), "ticks")
    with pytest.raises(ValueError, match="no invariants of 'statuses': only of ticks and books"):
        invariants(Lake(tmp_path), DAY, "statuses")


# What a recorder could write, through the real archive

TICK: dict[str, Any] = {"exchange": Exchange.TSE, "broker_class": BrokerClass.TICK_STK_V1}


def tick(**fields: Any) -> Trade:
    return replace(trade("2330", ns(NINE), 5, 5, **TICK), **fields)


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("price_not_positive", tick(price_e6=0)),
        ("price_not_positive", tick(price_e6=-1_000_000)),
        ("price_not_positive", tick(price_e6=ABSENT_I64)),
        ("volume_not_positive", tick(volume=0)),
        ("volume_not_positive", tick(volume=ABSENT_U32)),
        ("total_below_volume", tick(total_volume=4)),
        ("wrong_lane", tick(flags=Flag.SIMTRADE)),
        ("wrong_lane", tick(flags=Flag.INTRADAY_ODD)),
        ("wrong_lane", tick(lane=Lane.TRIAL)),
        ("wrong_lane", tick(lane=0)),
        ("no_receive_time", tick(received_ns=ABSENT_I64)),
        ("wrong_lane", book(0, [99], [100], flags=Flag.SIMTRADE)),
        ("no_receive_time", book(0, [99], [100], received_ns=ABSENT_I64)),
        ("bids_not_descending", book(0, [98, 99], [100])),
        ("bids_not_descending", book(0, [99, 98, 97, 96, 96], [100])),
        ("asks_not_ascending", book(0, [99], [101, 100])),
        ("asks_not_ascending", book(0, [99], [100, 101, 102, 104, 103])),
        ("hole_in_levels", book(0, [99, NONE, 98], [100])),
        ("volume_at_empty_level", book(0, [99], [100], bid_volume=(1, 0, 0, 0, 7))),
        ("level_below_zero", book(0, [99, -1], [100])),
    ],
)
def test_a_row_that_cannot_be_is_found_with_its_symbol(tmp_path: Path, name: str, event: Event) -> None:
    lake = archived(tmp_path, [*SOUND[:4], event])
    table, other = ("ticks", "books") if isinstance(event, Trade) else ("books", "ticks")
    assert broken(lake, table) == [(name, 1, (("2330", 1),))]
    assert broken(lake, other) == []


@pytest.mark.parametrize(
    "event",
    [
        tick(price_e6=0, flags=Flag.SUSPECT),
        tick(price_e6=ABSENT_I64, flags=Flag.HAS_SIDE),
        tick(lane=Lane.TRIAL, flags=Flag.SIMTRADE, total_volume=0, volume=3),
        tick(lane=Lane.TRIAL, flags=Flag.LANE_INFERRED),
        tick(received_ns=ABSENT_I64, broker_class=BrokerClass.SHIOAJI_STREAM),
        tick(exchange_ns=ns("2000-01-01 00:00:00"), flags=Flag.SUSPECT),
        tick(code="TXFD6/E6", price_e6=-5_000_000, exchange=Exchange.TAIFEX),
        book(0, [0, 99], [0, 100]),
        book(0, [99, NONE, 98], [100], flags=Flag.HAS_SIDE),
    ],
)
def test_what_is_known_and_marked_is_no_violation(tmp_path: Path, event: Event) -> None:
    lake = archived(tmp_path, [*SOUND[:4], event])
    assert broken(lake, "ticks") == broken(lake, "books") == []


# What only a fault of the archive could write, into its published files


def published(lake: Lake, table: str, day: date = DAY) -> Path:
    return lake.archive_dir / table / f"trading_day={day}" / f"{RUN}-0001.parquet"


def alter(lake: Lake, table: str, column: str, change: Callable[[pa.Table], pa.Array]) -> None:
    """The file of the day with one column changed."""
    path = published(lake, table)
    rows = pq.read_table(path, partitioning=None)
    kind = rows.schema.field(column).type
    values = change(rows)
    values = values.cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else values.cast(kind)
    place = rows.schema.get_field_index(column)
    pq.write_table(rows.set_column(place, rows.schema.field(column), values), path)


def where(code: str, value: Any, column: str) -> Callable[[pa.Table], pa.Array]:
    return lambda rows: pc.if_else(pc.equal(rows["code"].cast(pa.string()), code), value, plain(rows[column]))


def plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.cast(pa.string()) if pa.types.is_dictionary(values.type) else values


@pytest.mark.parametrize(
    ("name", "table", "column", "value", "count"),
    [
        ("wrong_day", "ticks", "exchange_ns", ns("2026-04-10 09:00:00"), 3),
        ("wrong_day", "books", "exchange_ns", ns("2026-04-08 13:00:00"), 4),
        ("wrong_day", "ticks", "trading_day", date(2026, 4, 8), 3),
        ("wrong_session", "ticks", "session", "night", 3),
        ("wrong_outside", "books", "outside", True, 4),
        ("repeated_identity", "ticks", "sequence", 9, 2),
        ("repeated_identity", "ticks", "sequence", 0, 3),
        ("hidden_without_original", "ticks", "duplicate", True, 3),
        ("wrong_duplicate", "books", "duplicate", True, 3),
        ("wrong_duplicate", "books", "duplicate", False, 1),
    ],
)
def test_a_fault_of_the_archive_is_found_with_its_symbol(
    tmp_path: Path, name: str, table: str, column: str, value: Any, count: int
) -> None:
    lake = archived(tmp_path, SOUND)
    alter(lake, table, column, where("2330", value, column))
    assert (name, count, (("2330", count),)) in broken(lake, table)


def test_a_night_filed_under_its_calendar_date_is_found(tmp_path: Path) -> None:
    """The classic: the UTC date as trading day splits the night."""
    lake = archived(tmp_path, SOUND)
    before = published(lake, "ticks", date(2026, 4, 8))
    before.parent.mkdir(parents=True)
    rows = pq.read_table(published(lake, "ticks"), partitioning=None)
    night = pc.less(rows["exchange_ns"], ns("2026-04-09 00:00:00"))
    pq.write_table(rows.filter(night), before)
    pq.write_table(rows.filter(pc.invert(night)), published(lake, "ticks"))
    assert ("wrong_day", 2, (("TXFD6", 2),)) in broken(lake, "ticks", date(2026, 4, 8))
    assert ("rows_of_manifest", 2, ((f"{RUN}-0001", 2),)) in broken(lake, "ticks")


def test_rows_that_are_gone_or_too_many_are_found_with_their_segment(tmp_path: Path) -> None:
    lake = archived(tmp_path, SOUND)
    path = published(lake, "ticks")
    rows = pq.read_table(path, partitioning=None)
    pq.write_table(rows.slice(0, 4), path)
    assert broken(lake, "ticks") == [("rows_of_manifest", rows.num_rows - 4, ((f"{RUN}-0001", rows.num_rows - 4),))]
    path.unlink()
    assert broken(lake, "ticks") == [("rows_of_manifest", rows.num_rows, ((f"{RUN}-0001", rows.num_rows),))]
    assert broken(lake, "books") == []


def test_a_segment_published_twice_is_found(tmp_path: Path) -> None:
    lake = archived(tmp_path, SOUND)
    path = published(lake, "ticks")
    path.with_name(f"{RUN}-0002.parquet").write_bytes(path.read_bytes())
    manifest = lake.archive_dir / "segments" / f"{RUN}-0001.json"
    second = manifest.read_bytes().replace(b'"segment": 1', b'"segment": 2')
    manifest.with_name(f"{RUN}-0002.json").write_bytes(second)
    names = {name for name, _, _ in broken(lake, "ticks")}
    assert names == {"repeated_identity", "rows_of_manifest"}


def test_the_worst_symbols_come_first_and_all_rows_are_counted(tmp_path: Path) -> None:
    codes = ["1101", "1102", "1103", "1216", "1301", "1303", "2002"]
    events = [
        tick(code=code, price_e6=0, total_volume=5 * at) for n, code in enumerate(codes) for at in range(1, n + 2)
    ]
    (found,) = invariants(archived(tmp_path, list(events)), DAY, "ticks")
    assert (found.name, found.count) == ("price_not_positive", 28)
    assert found.codes == (("2002", 7), ("1303", 6), ("1301", 5), ("1216", 4), ("1103", 3))
    assert str(found).startswith("price_not_positive: 28 rows (2002 7, 1303 6,")


def test_every_invariant_has_its_words_and_is_broken_by_a_test() -> None:
    text = Path(__file__).read_text()
    assert [name for name in WHAT if f'"{name}"' not in text] == []
    assert all(isinstance(Violation(name, what, 1, ()), Violation) and what for name, what in WHAT.items())


# Real data


@needs_data
@pytest.mark.parametrize(
    ("files", "days"),
    [
        ("txf_l5/TXFD6_2026-04-0*.parquet", (date(2026, 4, 8), date(2026, 4, 9), date(2026, 4, 10))),
        ("shioaji_stream/*.jsonl", (date(2025, 11, 20),)),
    ],
)
def test_real_recordings_break_nothing(tmp_path: Path, files: str, days: tuple[date, ...]) -> None:
    for path in sorted(DATA.glob(files)):
        import_file(path, tmp_path / "wal")
    archive_all(tmp_path / "wal", tmp_path / "archive")
    lake = Lake(tmp_path / "archive")
    for day in days:
        for table in ("ticks", "books"):
            rows = lake.query(f"SELECT count() AS n FROM {table}_raw WHERE trading_day = {{day:Date32}}", day=day)
            assert np.asarray(rows["n"])[0] > 0
            assert broken(lake, table, day) == []
