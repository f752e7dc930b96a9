"""The archive as SQL: on the real engine, with no files, with files that arrive, and from several processes."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import ns, trades, write_log

from shijim_live.events import ABSENT_U32, Book, Exchange, Lane
from shijim_live.store import schema
from shijim_live.store.lake import Lake, LakeError
from shijim_pipelines.archive import archive_all

DAY = date(2026, 4, 9)
LOTS = "SELECT count() AS trades, sum(volume) AS lots FROM ticks"


@pytest.fixture
def folder(tmp_path):
    """A day of five trades in `archive`, fifteen lots."""
    write_log(tmp_path / "wal", trades("TXFD6", "2026-04-09 09:00:00", range(1, 6)))
    archive_all(tmp_path / "wal", tmp_path / "archive")
    return tmp_path


def test_an_archive_that_does_not_exist_yet_has_empty_views_with_the_right_columns(tmp_path):
    lake = Lake(tmp_path / "nothing")
    for table in schema.TABLES:
        for view in (table, f"{table}_raw"):
            answer = lake.query(f"SELECT * FROM {view}")
            assert (answer.num_rows, answer.schema.names) == (0, schema.schema(table).names)


def test_a_query_sees_what_was_archived_since_the_last_one(folder):
    lake = Lake(folder / "archive")
    assert lake.query(LOTS).to_pylist() == [{"trades": 5, "lots": 15}]
    write_log(folder / "wal", trades("MXFD6", "2026-04-10 09:00:00", [10]), run_id="00000000000000cd")
    archive_all(folder / "wal", folder / "archive")
    assert lake.query(LOTS).to_pylist() == [{"trades": 6, "lots": 25}]


def test_columns_come_back_with_their_types_and_absent_as_null(folder):
    row = Lake(folder / "archive").query("SELECT * FROM ticks ORDER BY sequence LIMIT 1").to_pylist()[0]
    assert (row["trading_day"], row["session"], row["code"], row["duplicate"]) == (DAY, "day", "TXFD6", False)
    assert (row["volume"], row["price_e6"], row["high_e6"], row["chg_type"]) == (1, 35_000_000_000, None, None)


def test_unfinished_files_are_not_seen(folder):
    place = next((folder / "archive" / "ticks").iterdir())
    (place / "00000000000000ee-0001.1234.draft").write_bytes(b"half a file")
    (folder / "archive" / ".staging-x-1").mkdir()
    (folder / "archive" / ".staging-x-1" / "ticks.parquet").write_bytes(b"half a file")
    assert Lake(folder / "archive").query(LOTS).to_pylist() == [{"trades": 5, "lots": 15}]


def test_only_files_of_the_days_asked_for_are_opened(folder):
    damaged = folder / "archive" / "ticks" / "trading_day=2026-04-08"
    damaged.mkdir()
    (damaged / "broken-0001.parquet").write_bytes(b"not parquet")
    lake = Lake(folder / "archive")
    answer = lake.query(f"{LOTS} WHERE trading_day = {{day:Date}}", day=DAY)
    assert answer.to_pylist() == [{"trades": 5, "lots": 15}]
    assert lake.query(LOTS).to_pylist() == [{"trades": 5, "lots": 15}]  # no manifest names it: not published
    (folder / "archive" / "segments" / "broken-0001.json").write_text("{}")
    with pytest.raises(LakeError, match="broken-0001"):
        lake.query(LOTS)


def test_a_trade_that_two_runs_recorded_is_shown_once_and_kept_twice(folder):
    again = trades("TXFD6", "2026-04-09 09:00:00", range(1, 8))
    write_log(folder / "wal", again, run_id="00000000000000cd")
    archive_all(folder / "wal", folder / "archive")
    lake = Lake(folder / "archive")
    assert lake.query(LOTS).to_pylist() == [{"trades": 7, "lots": 28}]
    assert lake.query("SELECT count() AS n FROM ticks_raw").to_pylist() == [{"n": 12}]
    kept = lake.query("SELECT run_id, count() AS n FROM ticks GROUP BY run_id ORDER BY run_id").to_pylist()
    assert [(row["run_id"][-2:], row["n"]) for row in kept] == [("ab", 5), ("cd", 2)]


def test_equal_trades_without_a_total_are_all_shown(tmp_path):
    (one,) = trades("TXFD6", "2026-04-09 09:00:00", [1])
    write_log(tmp_path / "wal", [replace(one, total_volume=ABSENT_U32)] * 3)
    archive_all(tmp_path / "wal", tmp_path / "archive")
    assert Lake(tmp_path / "archive").query(LOTS).to_pylist() == [{"trades": 3, "lots": 3}]


def test_a_repeated_book_is_hidden(tmp_path):
    book = Book(code="TXFD6", exchange=Exchange.TAIFEX, lane=Lane.BOARD, exchange_ns=ns("2026-04-09 09:00:00"))
    write_log(tmp_path / "wal", [book, book])
    archive_all(tmp_path / "wal", tmp_path / "archive")
    lake = Lake(tmp_path / "archive")
    counts = [lake.query(f"SELECT count() AS n FROM {view}").to_pylist()[0]["n"] for view in ("books", "books_raw")]
    assert counts == [1, 2]


lake_of_nothing = Lake(Path("/nonexistent"))


@given(st.text(max_size=20))
def test_any_text_is_bound_as_it_is(value):
    answer = lake_of_nothing.query("SELECT {value:String} AS value", value=value.replace("\0", ""))
    assert answer.to_pylist() == [{"value": value.replace("\0", "")}]


def test_numbers_and_dates_are_bound_and_other_things_refused():
    answer = lake_of_nothing.query("SELECT {n:Int64} AS n, {d:Date} AS d", n=-(2**63), d=DAY)
    assert answer["n"].to_pylist() == [-(2**63)]
    for wrong in (1.5, None, True, [1]):
        with pytest.raises(LakeError, match="a parameter is"):
            lake_of_nothing.query("SELECT {x:String}", x=wrong)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT * FROM trades", "trades"),
        ("SELEC 1", "Syntax error"),
        ("SELECT {x:Int32}", "`x` is not set"),
        ("DROP VIEW ticks", "readonly"),
        ("SELECT 1 FORMAT CSV", "one SELECT"),
    ],
)
def test_a_wrong_query_is_one_clear_error(sql, said):
    with pytest.raises(LakeError, match=said) as error:
        lake_of_nothing.query(sql)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)
    assert lake_of_nothing.query("SELECT count() AS n FROM ticks").to_pylist() == [{"n": 0}]


def _count_until(folder: str, wanted: int, results) -> None:
    lake, seen = Lake(Path(folder)), []
    while not seen or seen[-1] < wanted:
        seen.append(lake.query("SELECT count() AS n FROM ticks").to_pylist()[0]["n"])
    results.put(seen)


def test_several_processes_query_while_files_are_added(folder):
    spawn = multiprocessing.get_context("spawn")
    results, runs = spawn.Queue(), 6
    readers = [spawn.Process(target=_count_until, args=(str(folder / "archive"), 5 + runs, results)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for run in range(runs):
        write_log(folder / "wal", trades("MXFD6", f"2026-04-09 10:{run:02}:00", [1], total=run), run_id=f"{run:016x}")
        archive_all(folder / "wal", folder / "archive")
    for _ in readers:
        seen = results.get(timeout=60)
        assert seen == sorted(seen)
        assert set(seen) <= set(range(5, 6 + runs))
    for reader in readers:
        reader.join()
        assert reader.exitcode == 0


def test_a_forked_child_is_told_to_spawn(folder):
    lake = Lake(folder / "archive")
    lake.query("SELECT 1")
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            lake.query("SELECT 1")
        except LakeError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert b"spawn" in os.read(read, 1000)
    assert isinstance(lake.query("SELECT 1"), pa.Table)


def test_a_path_the_engine_would_read_as_a_pattern_is_refused(tmp_path):
    with pytest.raises(LakeError, match="pattern"):
        Lake(tmp_path / "a*b")


def test_a_segment_is_seen_whole_once_its_manifest_is_there_or_not_at_all(tmp_path):
    """Its files appear one by one: until the manifest is written, last, no query sees any of them."""
    write_log(tmp_path / "wal", trades("TXFD6", "2026-04-09 09:00:00", range(1, 6)))
    archive_all(tmp_path / "wal", tmp_path / "archive")
    (manifest,) = (tmp_path / "archive" / "segments").iterdir()
    known = manifest.read_bytes()
    manifest.unlink()
    lake = Lake(tmp_path / "archive")
    assert lake.query("SELECT count() AS trades FROM ticks").to_pylist() == [{"trades": 0}]
    manifest.write_bytes(known)
    assert lake.query("SELECT count() AS trades FROM ticks").to_pylist() == [{"trades": 5}]
