"""Shipping to ClickHouse: the real client, the real engine behind its HTTP interface, and every way it fails."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_records import RUN, trades, write_log
from running_clickhouse import PASSWORD, RunningClickHouse
from test_way import run

from shijim_live.settings import Settings
from shijim_live.store import schema, tables
from shijim_live.store.confirmations import confirmations, read_confirmation, unconfirmed
from shijim_live.store.fingerprint import NOTHING, added, fingerprint, fingerprints_sql
from shijim_live.store.lake import Lake
from shijim_live.store.server import Server
from shijim_live.store.server_errors import ServerError, ServerUnavailable
from shijim_live.store.ship import Shipped, describe, ship, verify
from shijim_pipelines.archive import archive_all

DAY = date(2026, 4, 9)
VIEWS = tuple(f"{table}{raw}" for table in schema.TABLES for raw in ("", "_raw"))
SEGMENTS = 12
OTHER = {"string": "other", "binary": b"other", "bool": True, "date32[day]": date(2020, 1, 1)} | dict.fromkeys(
    ("int32", "int64", "uint8", "uint16", "uint32"), 77
)
LABELS = ["run_id", "source", "session", "code"]


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningClickHouse]:
    running = RunningClickHouse(tmp_path_factory.mktemp("clickhouse") / "data")
    yield running
    running.kill()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningClickHouse]:
    """One that a test may kill."""
    running = RunningClickHouse(tmp_path / "own")
    yield running
    running.kill()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last segments of a simulated day, recorded and archived, with duplicates among them."""
    folder = tmp_path_factory.mktemp("recorded")
    place = ("--data-dir", str(folder))
    run("shijim-live", "record", "--broker", "simulated", "--day", str(DAY), "--events", "20000",
        "--metrics-port", "0", "--quiet", *place)  # fmt: skip
    run("shijim", "archive", *place)
    for manifest in sorted((folder / "archive" / "segments").iterdir())[:-SEGMENTS]:
        manifest.unlink()
    return folder / "archive"


class Place:
    """An archive of a few segments and a database of its own on the server that all tests share."""

    def __init__(self, folder: Path, clickhouse: RunningClickHouse, database: str, archive_dir: Path | None = None):
        self.folder, self.clickhouse, self.database = folder, clickhouse, database
        self.archive_dir = archive_dir or folder / "archive"
        self.shipped_dir = folder / "shipped"
        self.fallback_dir = folder / "fallback"

    def log(self, volumes: range, run_id: str = RUN, code: str = "TXFD6", start: str = "2026-04-09 09:00:00") -> None:
        write_log(self.folder / f"wal-{run_id}", trades(code, start, volumes), run_id=run_id)
        archive_all(self.folder / f"wal-{run_id}", self.archive_dir)

    def server(self, **options: object) -> Server:
        return Server(self.clickhouse.place(self.database), **options)  # type: ignore[arg-type]

    def ship(self, **options: object) -> Shipped:
        return ship(self.archive_dir, self.shipped_dir, self.server(**options), self.fallback_dir)

    def rows(self, table: str = "ticks_shipped") -> int:
        return int(self.clickhouse.run(f"SELECT count() FROM {self.database}.{table}"))

    def require_equal_to_the_lake(self) -> None:
        lake, server = Lake(self.archive_dir), self.server()
        for view in VIEWS:
            sql = f"SELECT * FROM {view} ORDER BY run_id, sequence"
            expected, found = lake.query(sql), server.query(sql)
            assert found.schema == expected.schema
            assert found.equals(expected), view


@pytest.fixture
def place(tmp_path: Path, clickhouse: RunningClickHouse, request: pytest.FixtureRequest) -> Iterator[Place]:
    """Ten trades in two segments; the server is left without troubles."""
    found = Place(tmp_path, clickhouse, f"t{abs(hash(request.node.name)) % 10**9}")
    found.log(range(1, 6))
    found.log(range(1, 6), run_id="00000000000000cd", code="MXFD6")
    yield found
    clickhouse.trouble(unavailable=0, drop_answers=0, slow_ms=0)


def test_every_view_of_a_shipped_day_answers_as_the_lake_does(
    tmp_path: Path, clickhouse: RunningClickHouse, recorded: Path
) -> None:
    day = Place(tmp_path, clickhouse, "day", recorded)
    shipped = day.ship(flush_rows=300)
    records = Lake(recorded).query("SELECT count() AS n FROM ticks_raw")["n"][0].as_py()
    assert day.rows() == records
    assert (shipped.segments, shipped.refused, shipped.failed) == (SEGMENTS, 0, ())
    day.require_equal_to_the_lake()
    by_code = "SELECT code, count() AS trades, sum(volume) AS lots FROM ticks WHERE trading_day = {day:Date} AND " \
              "session = {session:String} GROUP BY code ORDER BY code"  # fmt: skip
    lake, server = Lake(recorded), day.server()
    assert server.query(by_code, day=DAY, session="day").equals(lake.query(by_code, day=DAY, session="day"))
    hidden = "SELECT (SELECT count() FROM ticks_raw) - (SELECT count() FROM ticks) AS n"
    assert server.query(hidden)["n"][0].as_py() > 0


def test_shipping_again_ships_nothing(place: Place) -> None:
    assert place.ship() == Shipped(segments=2, rows=10, already=0, refused=0)
    done = place.clickhouse.trouble()["inserts"]
    assert place.ship() == Shipped(segments=0, rows=0, already=2, refused=0)
    assert place.clickhouse.trouble()["inserts"] == done
    assert unconfirmed(place.archive_dir, place.shipped_dir) == ()


def test_what_is_archived_later_is_shipped_with_the_next_call(place: Place) -> None:
    place.ship()
    place.log(range(1, 4), run_id="00000000000000ef")
    assert unconfirmed(place.archive_dir, place.shipped_dir) == ("00000000000000ef-0001",)
    assert place.ship() == Shipped(segments=1, rows=3, already=2, refused=0)
    place.require_equal_to_the_lake()


def test_a_block_published_twice_is_inserted_once_and_a_forgotten_one_is_merged_away(place: Place) -> None:
    place.ship()
    (path, _) = place.archive_dir.glob("ticks/*/*.parquet")
    data = pq.ParquetFile(path, read_dictionary=LABELS).read()
    server = place.server()
    for _ in range(3):
        assert server.publish("ticks", "key", data) == ()
    assert place.rows() == 15  # once more under another key than `ship` gave it
    server.publish("ticks", "another key", data)
    assert place.rows() > 15
    place.require_equal_to_the_lake()


def test_other_block_sizes_meet_other_tokens(place: Place) -> None:
    """Were a token only the number of the block, the second half of a longer first block would never be inserted."""
    (path, _) = place.archive_dir.glob("ticks/*/*.parquet")
    data = pq.ParquetFile(path, read_dictionary=LABELS).read()
    small, large = place.server(flush_rows=2), place.server(flush_rows=100)
    small.create()
    small.publish("ticks", "key", data.slice(0, 2))
    large.publish("ticks", "key", data)
    assert large.query("SELECT count() AS n FROM ticks_raw")["n"][0].as_py() == 5


def failure(work: object, *arguments: object) -> ServerError:
    """The error; nowhere in it, its causes or their traces is the password."""
    with pytest.raises(ServerError) as caught:
        work(*arguments)  # type: ignore[operator]
    text = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in text and "Geheimnis" not in text
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    return caught.value


def test_a_server_that_is_down_costs_nothing(place: Place, own: RunningClickHouse) -> None:
    own.kill()
    there = Server(own.place())
    for _ in range(3):
        error = failure(ship, place.archive_dir, place.shipped_dir, there, place.fallback_dir)
        assert isinstance(error, ServerUnavailable) and "nothing listens there" in str(error)
    own.start()
    assert ship(place.archive_dir, place.shipped_dir, there, place.fallback_dir).rows == 10


@pytest.mark.parametrize(
    ("trouble", "said"),
    [({"unavailable": 1}, "answers HTTP 503"), ({"slow_ms": 3_000}, "no answer in time"),
     ({"drop_answers": 100}, "the connection broke")],
)  # fmt: skip
def test_a_server_in_trouble_is_tried_again_later(place: Place, trouble: dict[str, int], said: str) -> None:
    place.server().create()
    place.clickhouse.trouble(**trouble)
    there = place.server(answer_seconds_max=1)
    error = failure(ship, place.archive_dir, place.shipped_dir, there, place.fallback_dir)
    assert isinstance(error, ServerUnavailable) and said in str(error)
    assert list(confirmations(place.shipped_dir)) == []
    place.clickhouse.trouble(unavailable=0, slow_ms=0, drop_answers=0)
    assert place.ship().rows == 10
    assert place.rows() == 10  # also what was inserted without an answer
    place.require_equal_to_the_lake()


def test_a_wrong_password_is_told_without_it(place: Place) -> None:
    stranger = Server(place.clickhouse.place(place.database, password="Geheimnis-falsch"))
    error = failure(ship, place.archive_dir, place.shipped_dir, stranger, place.fallback_dir)
    assert not isinstance(error, ServerUnavailable)
    assert "does not accept this user and password" in str(error) and "********" in str(error)
    assert "Geheimnis" not in repr(vars(stranger))


class Stranger(BaseHTTPRequestHandler):
    """Something else that speaks HTTP."""

    says = (404, b"<html>not here</html>")

    def do_GET(self) -> None:
        self.send_response(self.says[0])
        self.send_header("Content-Length", str(len(self.says[1])))
        self.end_headers()
        self.wfile.write(self.says[1])

    do_POST = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        pass


NATIVE = b"Port 9000 is for clickhouse-client program\r\nYou must use port 8123 for HTTP.\r\n"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [(404, b"<html>not here</html>", "HTTP 404 and seems not to be ClickHouse"),
     (200, b"<html>welcome</html>", "seems not to be ClickHouse"),
     (400, NATIVE, "speaks ClickHouse's native protocol")],
)  # fmt: skip
def test_what_is_not_clickhouse_is_called_so(status: int, body: bytes, said: str, place: Place) -> None:
    stranger = HTTPServer(("127.0.0.1", 0), type("Other", (Stranger,), {"says": (status, body)}))
    threading.Thread(target=stranger.serve_forever, daemon=True).start()
    there = Server(replace(place.clickhouse.place(), port=stranger.server_address[1]))
    assert said in str(failure(there.create))
    stranger.shutdown()
    stranger.server_close()


def test_tls_where_there_is_none_is_called_so(place: Place) -> None:
    assert "http:// goes with 8123" in str(failure(Server(replace(place.clickhouse.place(), secure=True)).create))


@pytest.mark.parametrize(
    ("sql", "said"),
    [("SELECT * FROM trades", "trades"), ("SELEC 1", "Syntax error"), ("SELECT {x:Int32}", "`x` is not set"),
     ("DROP VIEW ticks", "readonly"), ("SELECT 1 FORMAT CSV", "Syntax error")],
)  # fmt: skip
def test_a_wrong_query_is_one_clear_error(place: Place, sql: str, said: str) -> None:
    server = place.server()
    server.create()
    assert said in str(failure(server.query, sql))
    assert server.query("SELECT {x:String} AS x", x="a'\\\t\n%s{y:Int8}").to_pylist() == [{"x": "a'\\\t\n%s{y:Int8}"}]


SHIP = """
import sys
from pathlib import Path
from shijim_live.settings import Settings
from shijim_live.store.server import Server
from shijim_live.store.ship import ship
settings = Settings.load({"CLICKHOUSE_DSN": sys.argv[1], "SHIJIM_CH_FLUSH_THRESHOLD": "100"}, Path(sys.argv[2]))
ship(Path(sys.argv[3]), settings.shipped_dir, Server.of(settings), settings.fallback_dir)
"""


def shipper(dsn: str, folder: Path, archive_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SHIP, dsn, str(folder), str(archive_dir)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def settings_of(place: Place) -> Settings:
    return Settings.load({"CLICKHOUSE_DSN": place.clickhouse.dsn(place.database)}, place.folder)


def test_a_shipper_killed_in_mid_segment_and_a_server_killed_under_it_lose_and_repeat_nothing(
    tmp_path: Path, recorded: Path, own: RunningClickHouse
) -> None:
    day = Place(tmp_path, own, "killed", recorded)
    day.shipped_dir = settings_of(day).shipped_dir or tmp_path
    day.server().create()
    for killed, inserts in enumerate((1, 12, 20, 30)):
        wanted = own.trouble(slow_ms=20)["inserts"] + inserts
        process = shipper(own.dsn("killed"), tmp_path, recorded)
        while own.trouble()["inserts"] < wanted:
            time.sleep(0.01)
        if killed % 2:
            own.kill()
            _, said = process.communicate()
            assert "Unavailable" in said and "Geheimnis" not in said
            own.start()
        else:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    assert 0 < len(list(confirmations(day.shipped_dir))) < SEGMENTS, "the kills were over too late or too early"
    day.ship()
    day.require_equal_to_the_lake()
    assert unconfirmed(recorded, day.shipped_dir) == ()


def test_two_shippers_at_once_ship_each_segment_once(
    tmp_path: Path, clickhouse: RunningClickHouse, recorded: Path
) -> None:
    both = Place(tmp_path, clickhouse, "both", recorded)
    before = clickhouse.trouble()["rows"]
    processes = [shipper(clickhouse.dsn("both"), tmp_path, recorded) for _ in range(2)]
    assert [process.communicate()[1] for process in processes] == ["", ""]
    both.shipped_dir = settings_of(both).shipped_dir or tmp_path
    assert unconfirmed(recorded, both.shipped_dir) == ()
    records = sum(one.rows for one in confirmations(both.shipped_dir))
    assert clickhouse.trouble()["rows"] - before == records
    both.require_equal_to_the_lake()


def test_rows_that_the_server_refuses_are_kept_with_the_reason_and_the_rest_is_shipped(place: Place) -> None:
    place.server().create()
    rule = f"ALTER TABLE {place.database}.ticks_shipped ADD CONSTRAINT lots CHECK volume != 3"
    place.clickhouse.run(rule)
    assert place.ship() == Shipped(segments=2, rows=8, already=0, refused=2)
    (one, other) = sorted(place.fallback_dir.rglob("*.jsonl"))
    assert one.parent.name == place.clickhouse.place(place.database).name
    (line,) = map(orjson.loads, one.read_bytes().splitlines())
    assert (line["table"], line["row"]["sequence"], line["row"]["volume"]) == ("ticks", 3, 3)
    assert "lots" in line["reason"] and "Constraint" in line["reason"]
    known = read_confirmation(place.shipped_dir, f"{RUN}-0001")
    assert known is not None and (known.rows, known.refused) == (4, 1)
    assert place.server().query("SELECT sum(volume) AS n FROM ticks")["n"][0].as_py() == 2 * (1 + 2 + 4 + 5)
    assert "2 rows the server refuses" in describe(Shipped(2, 8, 0, 2))
    # The rule goes, and the segments are shipped again: nothing is refused any more, and nothing says so.
    place.clickhouse.run(rule.replace("ADD CONSTRAINT lots CHECK volume != 3", "DROP CONSTRAINT lots"))
    for path in place.shipped_dir.glob("*.json"):
        path.unlink()
    assert place.ship() == Shipped(segments=2, rows=10, already=0, refused=0)
    assert other.exists() is False and one.exists() is False
    place.require_equal_to_the_lake()


def test_a_server_that_refuses_everything_is_not_called_poison(place: Place) -> None:
    place.log(range(1, 500), run_id="00000000000000ef", code="2330")
    place.server().create()
    place.clickhouse.run(f"ALTER TABLE {place.database}.ticks_shipped ADD CONSTRAINT never CHECK code != '2330'")
    assert "does not fit" in str(failure(place.ship))
    assert {one.run_id for one in confirmations(place.shipped_dir)} == {RUN, "00000000000000cd"}
    assert not list(place.fallback_dir.rglob("*.jsonl"))


def test_a_server_without_its_tables_gets_everything_again(place: Place) -> None:
    place.ship()
    place.clickhouse.run(f"DROP DATABASE {place.database} SYNC")
    shipped = place.ship()
    assert (shipped.rows, shipped.already) == (10, 0)
    assert "all 2 segments it once confirmed are shipped again" in describe(shipped)
    place.require_equal_to_the_lake()


def test_empty_tables_are_told_and_filled_when_asked(place: Place) -> None:
    """An operator may have emptied them: nobody fills them behind his back."""
    place.ship()
    place.clickhouse.run(f"TRUNCATE TABLE {place.database}.ticks_shipped SYNC")
    shipped = place.ship()
    assert (shipped.rows, place.rows()) == (0, 0)
    assert "shijim ship --verify" in describe(shipped)
    assert len(verify(place.shipped_dir, place.server()).lost) == 2
    assert place.ship().rows == 10
    place.require_equal_to_the_lake()


def test_verify_names_the_segments_whose_rows_are_gone_or_changed(place: Place) -> None:
    place.ship()
    assert verify(place.shipped_dir, place.server()).lost == ()
    place.clickhouse.run(f"DELETE FROM {place.database}.ticks_shipped WHERE code = 'MXFD6' AND sequence = 2")
    assert verify(place.shipped_dir, place.server()).lost == ("00000000000000cd-0001",)
    assert place.ship() == Shipped(segments=1, rows=5, already=1, refused=0)
    deletes = place.clickhouse.run(f"SELECT count() FROM system.mutations WHERE database = '{place.database}'")
    assert int(deletes) == 1, "rows that are only missing are no reason to delete any more"
    place.require_equal_to_the_lake()


def test_rows_that_nobody_shipped_under_a_segment_are_replaced_by_its_own(place: Place) -> None:
    place.ship()
    for path in place.shipped_dir.glob("*.json"):
        path.unlink()
    database = f"{place.database}.ticks_shipped"
    values = "sequence + 100 AS sequence"
    place.clickhouse.run(f"INSERT INTO {database} SELECT * REPLACE ({values}) FROM {database} WHERE code = 'TXFD6'")
    assert place.ship().rows == 10
    place.require_equal_to_the_lake()


def test_a_segment_archived_anew_on_another_day_leaves_nothing_behind(place: Place) -> None:
    place.ship()
    for path in (*place.archive_dir.rglob(f"{RUN}-*"), *place.folder.rglob(f"wal-{RUN}/**/*.wal")):
        path.unlink()
    place.log(range(1, 4), start="2026-04-10 09:00:00")
    assert unconfirmed(place.archive_dir, place.shipped_dir) == (f"{RUN}-0001",)
    assert place.ship() == Shipped(segments=1, rows=3, already=1, refused=0)
    place.require_equal_to_the_lake()


def test_a_damaged_file_is_not_shipped_and_keeps_no_other_from_it(place: Place) -> None:
    (damaged,) = place.archive_dir.glob(f"ticks/*/{RUN}-0001.parquet")
    damaged.write_bytes(damaged.read_bytes()[:-10] + b"0123456789")
    shipped = place.ship()
    assert (shipped.segments, len(shipped.failed)) == (1, 1)
    assert "not the file that was archived" in describe(shipped)
    (manifest,) = place.archive_dir.glob("segments/*cd-0001.json")
    manifest.write_text("{}")
    assert "not the manifest" in describe(place.ship())


def test_an_insert_that_is_gathered_counts_when_its_rows_are_there(place: Place) -> None:
    started = time.monotonic()
    assert place.ship(async_insert=True, async_wait=False).rows == 10
    assert time.monotonic() - started > 1, "two inserts, and each is written half a second after its answer"
    place.require_equal_to_the_lake()


def test_a_table_of_another_make_is_not_written_to(place: Place) -> None:
    place.clickhouse.run(f"CREATE DATABASE {place.database}")
    place.clickhouse.run(f"CREATE TABLE {place.database}.ticks_shipped (x Int8) ENGINE = MergeTree ORDER BY x")
    assert "another version made it" in str(failure(place.ship))


def test_the_fingerprint_is_the_engines_and_moves_with_every_column(recorded: Path) -> None:
    lake = Lake(recorded)
    for table in schema.TABLES:
        total = NOTHING
        paths = recorded.glob(f"{table}/*/*.parquet")
        for path in (path for path in paths if (recorded / "segments" / f"{path.stem}.json").exists()):
            total = added(total, fingerprint(pq.ParquetFile(path, read_dictionary=LABELS).read(), table))
        rows = lake.query(fingerprints_sql(table, f"{table}_raw").replace("run_id, segment", "source")).to_pylist()
        if table in ("indices", "snapshots"):
            assert (rows, total) == ([], NOTHING)  # the simulated exchange has none
            continue
        (row,) = rows
        assert (row["rows"], row["total"]) == total
        data = lake.query(f"SELECT * FROM {table}_raw ORDER BY sequence LIMIT 2")
        for name in data.schema.names:
            at, field = data.schema.get_field_index(name), data.schema.field(name)
            other = data.set_column(at, field, pa.array([OTHER[str(field.type)]] * 2, field.type))
            assert fingerprint(other, table) != fingerprint(data, table), name


def test_the_statements_for_a_cluster_are_clickhouses(place: Place) -> None:
    """The engine here has no cluster: it reads them, and does not run them."""
    made = tables.statements("market", "two shards")
    for statement in made:
        literal = statement.replace("\\", "\\\\").replace("'", "\\'")
        assert "ON CLUSTER" in place.clickhouse.run(f"SELECT formatQuery('{literal}')")
    text = "\n".join(made)
    assert text.count("ReplicatedReplacingMergeTree") == text.count("Distributed('two shards'") == len(schema.TABLES)
    assert tables.stored("ticks", "two shards") == "ticks_shard"


def test_without_a_server_there_is_nothing_to_ship(tmp_path: Path) -> None:
    settings = Settings.load({}, tmp_path)
    assert (Server.of(settings), settings.shipped_dir) == (None, None)
    assert "lake mode" in describe(None)


def test_every_database_has_a_folder_of_its_own(tmp_path: Path) -> None:
    places = (
        "http://a:8123/x",
        "http://a:8123/y",
        "http://a:8124/x",
        "http://b:8123/x",
        "http://user:word@[::1]:8123/x",
    )
    found = [Settings.load({"CLICKHOUSE_DSN": dsn}, tmp_path).shipped_dir for dsn in places]
    assert len(set(found)) == len(places)
    assert found[-1] == tmp_path / "data" / "shipped" / "__1-8123-x"
