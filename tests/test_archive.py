"""Records ↔ columns without loss, placement by trading day, and an archive that is proven equal before it is seen."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import date

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import RUN, SECOND_NS, ns, outage, records, trade, trades, write_log

from rust_indicators import SegmentReader, gather_columns, multiset_hash
from shijim_live.events import (
    ABSENT_I64,
    ABSENT_U32,
    BOOK_LAYOUT,
    HEADER_LAYOUT,
    RECORD_BYTES,
    TEXT_LAYOUT,
    TRADE_LAYOUT,
    Book,
    Exchange,
    Flag,
    Kind,
    Lane,
    Status,
    UnknownRecord,
)
from shijim_live.store import schema
from shijim_live.store.parquet import stored_rows
from shijim_pipelines import archive
from shijim_pipelines.archive import ArchivedSegment, ArchiveFailed, archive_all, archive_segment
from shijim_pipelines.placement import Placement, Unplaceable

BOUNDS = {"B": (0, 2**8 - 1), "H": (0, 2**16 - 1), "I": (0, 2**32 - 1), "i": (-(2**31), 2**31 - 1)}
BOUNDS |= {"q": (-(2**63), 2**63 - 1), "Q": (0, 2**64 - 1)}
LAYOUTS = {
    "ticks": TRADE_LAYOUT,
    "books": BOOK_LAYOUT,
    "indices": TRADE_LAYOUT,
    "snapshots": TRADE_LAYOUT,
    "statuses": TEXT_LAYOUT,
}
KINDS = {"ticks": [Kind.TRADE], "books": [Kind.BOOK], "indices": [Kind.INDEX], "snapshots": [Kind.SNAPSHOT]}
KINDS["statuses"] = [kind for kind in Kind if [kind] not in KINDS.values()]
BOOK = Book(code="TXFD6", exchange=Exchange.TAIFEX, lane=Lane.BOARD, bid_volume=(1, 2, 3, 4, 5))


def _number(char: str):
    low, high = BOUNDS[char]
    return st.one_of(st.integers(low, high), st.sampled_from([low, high]))


@st.composite
def any_record(draw) -> bytes:
    """Any values in any field, absent and extreme ones included."""
    table = draw(st.sampled_from(schema.TABLES))
    rows = np.zeros(1, schema.record_dtype(table))
    for name, char, count in HEADER_LAYOUT + LAYOUTS[table]:
        if char in BOUNDS:
            rows[name] = draw(_number(char)) if count == 1 else draw(st.tuples(*[_number(char)] * count))
    rows["kind"] = draw(st.sampled_from(KINDS[table]))
    rows["code"] = draw(st.sampled_from(["", "TXFD6", "2330", "1234567890123456", "é"])).encode("latin-1")
    if table == "statuses":
        text = draw(st.binary(max_size=168))
        rows["text_length"] = len(text)
        rows["text"][0, : len(text)] = list(text)
    return rows.tobytes()


@given(st.lists(any_record(), max_size=12))
def test_records_come_back_from_arrow_bit_for_bit(drawn):
    made = bytearray(b"".join(drawn))
    for at in range(len(drawn)):
        made[at * RECORD_BYTES + 8 : at * RECORD_BYTES + 16] = at.to_bytes(8, "little")
    tables = schema.to_table(bytes(made))
    assert schema.to_records(tables) == bytes(made)
    hashes = [schema.table_multiset(table, name) for name, table in tables.items()]
    assert (sum(count for count, _ in hashes), sum(part for _, part in hashes) % 2**64) == multiset_hash(made)
    for table, data in tables.items():
        data.validate(full=True)
        assert data.schema.equals(schema.record_schema(table))


def test_absent_is_null_and_an_empty_level_has_no_price():
    book = replace(BOOK, bid_price_e6=(5, 4, 3, 2, ABSENT_I64))
    tables = schema.to_table(records([trade("TXFD6", 1, 2, ABSENT_U32), book]))
    tick, level = tables["ticks"].to_pylist()[0], tables["books"].to_pylist()[0]
    assert (tick["total_volume"], tick["high_e6"], tick["volume"], tick["code"]) == (None, None, 2, "TXFD6")
    assert (level["bid_price_e6_1"], level["bid_price_e6_5"], level["diff_bid_vol_1"]) == (5, None, None)


def test_a_kind_of_another_version_is_refused():
    unknown = bytearray(records([BOOK]))
    unknown[0] = 99
    with pytest.raises(UnknownRecord, match="kind 99"):
        schema.to_table(bytes(unknown))


def _log(tmp_path, events, **header):
    paths = write_log(tmp_path / "wal", events, **header)
    return paths, tmp_path / "archive"


def _day():
    night = trades("TXFD6", "2026-04-08 15:00:00", [1, 2, 3])
    opening = trades("TXFD6", "2026-04-09 08:45:00", [4, 5])
    stock = trade("2330", ns("2026-04-09 09:00:01"), 7, 7, exchange=Exchange.TSE, broker_class=1)
    book = replace(BOOK, exchange_ns=ns("2026-04-09 09:00:02"), received_ns=ns("2026-04-09 09:00:02"))
    evening = trades("TXFD6", "2026-04-09 15:00:00", [8])
    start = Status(kind=Kind.START, received_ns=ns("2026-04-08 14:59:00"), text="start")
    return [start, *night, *opening, stock, book, *evening]


def _rows(archived: ArchivedSegment) -> list[dict]:
    return [row for file in archived.files for row in pq.read_table(file).to_pylist()]


def test_every_event_is_archived_once_on_its_trading_day_and_in_its_session(tmp_path):
    _, archive_dir = _log(tmp_path, _day())
    done = archive_all(tmp_path / "wal", archive_dir)
    rows = [row for segment in done.segments for row in _rows(segment)]
    found = sorted((row["sequence"], str(row["trading_day"]), row["session"], row["outside"]) for row in rows)
    wanted = (
        [("2026-04-09", "night", False)] * 3 + [("2026-04-09", "day", False)] * 4 + [("2026-04-10", "night", False)]
    )
    assert found == [(1, "2026-04-09", "night", True), *((at, *place) for at, place in enumerate(wanted, 2))]
    assert sum(segment.records for segment in done.segments) == 9
    assert {row["run_id"] for row in rows} == {RUN}


def test_what_the_archive_holds_is_the_log_record_for_record(tmp_path):
    paths, archive_dir = _log(tmp_path, _day())
    stored = b"".join(
        rows.tobytes()
        for segment in archive_all(tmp_path / "wal", archive_dir).segments
        for file in segment.files
        for rows in stored_rows(file, file.parts[-3])
    )
    assert multiset_hash(stored) == multiset_hash(records(_day()))
    assert len(paths) == len(list((archive_dir / "segments").glob("*.json")))


def test_rows_are_sorted_by_code_then_sequence(tmp_path):
    events = [trade(code, ns("2026-04-09 09:00:00"), 1, at) for at, code in enumerate(["B", "A", "B", "A"], 1)]
    paths, archive_dir = _log(tmp_path, events)
    rows = _rows(archive_segment(paths[0], archive_dir))
    assert [(row["code"], row["sequence"]) for row in rows] == [("A", 2), ("A", 4), ("B", 1), ("B", 3)]


def test_archiving_again_changes_nothing_and_anew_gives_the_same_bytes(tmp_path):
    paths, archive_dir = _log(tmp_path, _day())
    first = archive_segment(paths[-1], archive_dir)
    before = {path: path.stat() for path in archive_dir.rglob("*") if path.is_file()}
    again = archive_segment(paths[-1], archive_dir)
    assert again == replace(first, already=True)
    assert {path: path.stat() for path in archive_dir.rglob("*") if path.is_file()} == before
    archive_segment(paths[-1], tmp_path / "other")
    for path in before:
        assert (tmp_path / "other" / path.relative_to(archive_dir)).read_bytes() == path.read_bytes()


def test_a_large_segment_is_archived_in_row_groups(tmp_path, monkeypatch):
    events = trades("TXFD6", "2026-04-09 09:00:00", [1] * 25, step_ns=SECOND_NS // 10)
    paths, archive_dir = _log(tmp_path, [*events, events[-1]])
    monkeypatch.setattr(archive, "CHUNK_RECORDS", 10)
    archived = archive_segment(paths[0], archive_dir)
    assert [pq.ParquetFile(file).num_row_groups for file in archived.files] == [3]
    assert [row["duplicate"] for row in _rows(archived)] == [False] * 25 + [True]


def test_a_flipped_byte_is_found_before_anything_is_published(tmp_path, monkeypatch):
    paths, archive_dir = _log(tmp_path, _day())
    whole = schema.rows_to_table

    def corrupt(rows, table, order):
        damaged = rows.copy()
        damaged["exchange_ns"][order[-1]] ^= 1
        return whole(damaged, table, order)

    monkeypatch.setattr(schema, "rows_to_table", corrupt)
    with pytest.raises(ArchiveFailed, match="nothing was published"):
        archive_segment(paths[0], archive_dir)
    assert [path for path in archive_dir.rglob("*") if path.is_file()] == []


def test_a_file_that_gives_back_another_value_in_any_column_is_not_published(tmp_path, monkeypatch):
    paths, archive_dir = _log(tmp_path, trades("TXFD6", "2026-04-09 09:00:00", [1] * 5))
    whole = schema.table_multiset
    for column in ("sequence", "connection", "code", "price_e6"):

        def damaged(data, table, column=column):
            values = data[column].to_pylist()
            values[-1] = "X" if column == "code" else values[-1] ^ 1
            changed = pa.array(values, pa.string() if column == "code" else data[column].type)
            return whole(data.set_column(data.schema.get_field_index(column), column, changed), table)

        monkeypatch.setattr(schema, "table_multiset", damaged)
        with pytest.raises(ArchiveFailed, match="nothing was published"):
            archive_segment(paths[0], archive_dir)


def test_a_segment_is_read_into_memory_of_any_size(tmp_path):
    (path,) = write_log(tmp_path, trades("TXFD6", "2026-04-09 09:00:00", [1] * 9000, step_ns=1_000_000))
    whole = SegmentReader(path).read(10**6)
    for size in (1000, 8192, 20_000):
        reader, memory, found = SegmentReader(path), np.empty(size * RECORD_BYTES, np.uint8), b""
        while count := reader.read_into(memory):
            found += memory[: count * RECORD_BYTES].tobytes()
        assert found == whole
    with pytest.raises(ValueError, match="whole 256-byte records"):
        SegmentReader(path).read_into(np.empty(100, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        SegmentReader(path).read_into(np.frombuffer(bytes(256), np.uint8))


@pytest.mark.parametrize(
    ("order", "column", "said"),
    [
        ([2], (0, 8, np.empty(8, np.uint8)), "not among 2"),
        ([-1], (0, 8, np.empty(8, np.uint8)), "not among 2"),
        ([0, 1], (0, 8, np.empty(8, np.uint8)), "no column of 2 × 8"),
        ([0], (250, 8, np.empty(8, np.uint8)), "at 250"),
        ([0], (0, 0, np.empty(0, np.uint8)), "no column"),
        ([0], (0, 8, np.frombuffer(bytes(8), np.uint8)), "read-only"),
    ],
)
def test_no_column_is_gathered_from_or_into_what_is_not_there(order, column, said):
    with pytest.raises(ValueError, match=said):
        gather_columns(bytes(2 * RECORD_BYTES), np.array(order, np.int64), [column])


def test_a_corrupt_block_costs_its_events_and_is_stated(tmp_path):
    paths, archive_dir = _log(tmp_path, trades("TXFD6", "2026-04-09 09:00:00", [1] * 9000, step_ns=1_000_000))
    damaged = bytearray(paths[0].read_bytes())
    damaged[len(damaged) // 3] ^= 0xFF
    paths[0].write_bytes(damaged)
    archived = archive_segment(paths[0], archive_dir)
    manifest = orjson.loads(archived.manifest.read_bytes())
    lost = sum(last - first + 1 for first, last in manifest["missing_sequences"])
    assert lost > 0
    assert archived.records == 9000 - lost
    assert manifest["problems"][0]["message"]


def test_open_segments_and_foreign_files_are_left_alone(tmp_path):
    paths, archive_dir = _log(tmp_path, trades("TXFD6", "2026-04-09 09:00:00", [1] * 5))
    sealed = paths[0].read_bytes()
    unsealed = paths[0].with_name("00000000000000cd-0001.wal")
    unsealed.write_bytes(sealed[:-20])
    foreign = paths[0].with_name("notes-0001.wal")
    foreign.write_text("not a segment")
    done = archive_all(tmp_path / "wal", archive_dir)
    assert [segment.key for segment in done.segments] == [f"{RUN}-0001"]
    reasons = {skipped.path: skipped.reason for skipped in done.skipped}
    assert "not sealed" in reasons[unsealed]
    assert set(reasons) == {unsealed, foreign}


def test_what_a_dead_archiver_left_is_removed_and_never_seen(tmp_path):
    paths, archive_dir = _log(tmp_path, _day())
    stale = archive_dir / f".staging-{paths[-1].stem}-999999999"
    stale.mkdir(parents=True)
    (stale / "ticks-2026-04-09.parquet").write_text("half")
    alive = archive_dir / f".staging-{paths[-1].stem}-{os.getppid()}"
    alive.mkdir()
    archive_all(tmp_path / "wal", archive_dir)
    assert not stale.exists()
    assert alive.exists()


def test_a_lost_manifest_is_written_again_over_the_same_files(tmp_path):
    paths, archive_dir = _log(tmp_path, _day())
    first = archive_segment(paths[-1], archive_dir)
    contents = {path: path.read_bytes() for path in (*first.files, first.manifest)}
    first.manifest.unlink()
    assert not archive_segment(paths[-1], archive_dir).already
    assert {path: path.read_bytes() for path in contents} == contents


def test_repeated_trades_and_books_are_flagged_not_removed(tmp_path):
    one, two = trades("TXFD6", "2026-04-09 09:00:00", [1, 2])
    stamp = ns("2026-04-09 09:00:05")
    book = replace(BOOK, exchange_ns=stamp, received_ns=stamp)
    later, other = replace(book, exchange_ns=stamp + 1), replace(book, lane=Lane.ODD)
    changed = replace(book, bid_volume=(9, 2, 3, 4, 5))
    again = replace(two, received_ns=two.received_ns + 7, connection=1)
    events = [one, two, again, book, other, book, changed, book, later]
    paths, archive_dir = _log(tmp_path, events)
    rows = {row["sequence"]: row["duplicate"] for row in _rows(archive_segment(paths[0], archive_dir))}
    assert sorted(at for at, duplicate in rows.items() if duplicate) == [3, 6]
    assert len(rows) == len(events)


def test_garbage_stamps_are_placed_by_receive_time_and_flagged():
    received = ns("2026-04-09 10:00:00")
    garbage = trade("TXFD6", ns("2000-01-01 08:00:00"), 1, 1, received_ns=received, flags=Flag.SUSPECT)
    (placed,) = Placement().place(records([garbage]))
    assert (placed.trading_day, placed.outside.tolist()) == (date(2026, 4, 9), [True])


def test_events_without_any_time_follow_their_neighbours():
    start, stop = (Status(kind=kind) for kind in (Kind.START, Kind.STOP))
    events = [start, *trades("TXFD6", "2026-04-08 15:00:00", [1]), stop]
    days = {placed.table: (placed.trading_day, len(placed.rows)) for placed in Placement().place(records(events))}
    assert days == {"ticks": (date(2026, 4, 9), 1), "statuses": (date(2026, 4, 9), 2)}
    with pytest.raises(Unplaceable, match="when it happened"):
        list(Placement().place(records([start])))
    created = Placement(ns("2026-04-09 08:00:00")).place(records([start]))
    assert [placed.trading_day for placed in created] == [date(2026, 4, 9)]


@given(st.lists(st.integers(ns("2020-06-01 00:00:00"), ns("2030-01-01 00:00:00")), min_size=1, max_size=30))
def test_placing_by_minute_agrees_with_the_calendar_event_by_event(stamps):
    from shijim_live.calendar import Market, in_session, session_window, trading_day

    events = [trade("TXFD6", stamp, 1, 1) for stamp in stamps]
    for placed in Placement().place(records(events)):
        for row, session, outside in zip(placed.rows, placed.session, placed.outside, strict=True):
            stamp = int(row["exchange_ns"])
            assert placed.trading_day == trading_day(stamp, Market.FUTURES)
            assert ("night", "day")[session] == session_window(stamp, Market.FUTURES)[1]
            assert outside == (not in_session(stamp, Market.FUTURES))


def test_the_manifest_says_where_a_segment_came_from_and_went(tmp_path):
    paths, archive_dir = _log(tmp_path, [*_day(), outage("2026-04-09 16:00:00", "2026-04-09 16:00:09", "killed")])
    done = archive_all(tmp_path / "wal", archive_dir)
    manifests = [orjson.loads(segment.manifest.read_bytes()) for segment in done.segments]
    assert [manifest["source"] for manifest in manifests] == ["simulated"] * len(paths)
    assert sum(file["rows"] for manifest in manifests for file in manifest["files"]) == 10
    assert all(len(file["sha256"]) == 64 for manifest in manifests for file in manifest["files"])
    only = archive_all(tmp_path / "wal", archive_dir, day=date(2026, 4, 10))
    assert 0 < len(only.segments) < len(done.segments)


def test_a_segment_sealed_over_other_contents_is_refused(tmp_path):
    paths, archive_dir = _log(tmp_path, trades("TXFD6", "2026-04-09 09:00:00", [1] * 5))
    (other,) = write_log(tmp_path / "other", trades("TXFD6", "2026-04-09 09:00:00", [2] * 5))
    mine, theirs = paths[0].read_bytes(), other.read_bytes()
    at, there = mine.index(b"SEND"), theirs.index(b"SEND")
    paths[0].write_bytes(mine[:at] + theirs[there:])
    with pytest.raises(ArchiveFailed, match=r"not those its footer was sealed with.*shijim-live verify"):
        archive_segment(paths[0], archive_dir)
    assert [path for path in archive_dir.rglob("*") if path.is_file()] == []


def test_one_bad_segment_keeps_no_other_from_being_archived(tmp_path):
    (bad,) = write_log(tmp_path / "wal", [Status(kind=Kind.START)], created_ns=0)
    write_log(tmp_path / "wal", trades("TXFD6", "2026-04-09 09:00:00", [1] * 5), run_id="00000000000000cd")
    done = archive_all(tmp_path / "wal", tmp_path / "archive")
    assert [failure.path for failure in done.failed] == [bad]
    assert bad.name in done.failed[0].reason and "when it happened" in done.failed[0].reason
    assert [path.stem for path in (tmp_path / "archive" / "segments").iterdir()] == ["00000000000000cd-0001"]


@pytest.mark.parametrize("year", [2021, 2035, 2099])
def test_every_believable_year_can_be_placed(year):
    (placed,) = Placement().place(records([trade("TXFD6", ns(f"{year}-06-10 10:00:00"), 1, 1)]))
    assert placed.trading_day.year == year
