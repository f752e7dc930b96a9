"""A ClickHouse server over HTTP: makes its tables, takes blocks of rows once, answers SQL as the lake does.

Not a protocol: clickhouse-connect speaks to the server. An insert is repeated without effect while the server remembers
its token; after that the table merges equal rows away, and the views never show them twice.

Needs the extra `shijim[clickhouse]`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shijim_live.settings import ClickHouse, Settings
from shijim_live.store import schema, tables
from shijim_live.store.fingerprint import Fingerprint, fingerprints_sql
from shijim_live.store.server_errors import Refused, ServerError, explained, is_about_content, reason
from shijim_live.store.views import column_types

if TYPE_CHECKING:
    import pyarrow as pa

FLUSH_ROWS: Final = 50_000
CONNECT_SECONDS_MAX: Final = 10
ANSWER_SECONDS_MAX: Final = 300
# More rows of one file than this are no poison among good rows but a table that does not fit.
REFUSED_MAX: Final = 200
_NEEDS: Final = "the server needs its extra: pip install 'shijim[clickhouse]'"

Answer = TypeVar("Answer")


class Server:
    """One database of a server, or of a cluster that is reached through it. Nothing is sent before it is used."""

    def __init__(
        self,
        place: ClickHouse,
        cluster: str | None = None,
        flush_rows: int = FLUSH_ROWS,
        async_insert: bool = False,
        async_wait: bool = True,
        answer_seconds_max: int = ANSWER_SECONDS_MAX,
    ) -> None:
        self.place = place
        self.cluster = cluster
        self.flush_rows = flush_rows
        self.answers_late = async_insert and not async_wait  # an insert is confirmed before it is written
        self._seconds = answer_seconds_max
        self._client: Any = None
        self._created = False
        self._insert_settings: dict[str, object] = {
            "async_insert": int(async_insert),
            "wait_for_async_insert": int(async_wait),
            # Nothing to gain: a block holds a row once. The engine would merge it with itself, at half its speed.
            "optimize_on_insert": 0,
            "input_format_null_as_default": 0,
        }
        if cluster:
            self._insert_settings["insert_distributed_sync"] = 1  # confirmed when the shards have it

    @classmethod
    def of(cls, settings: Settings) -> Server | None:
        """The server that the settings name, if any."""
        if settings.clickhouse is None:
            return None
        return cls(
            settings.clickhouse,
            settings.clickhouse_cluster,
            settings.clickhouse_flush_rows,
            settings.clickhouse_async_insert,
            settings.clickhouse_async_wait,
        )

    def has_tables(self) -> bool:
        """Whether `create` was ever here, and nobody dropped what it made."""
        if not self._has_database():
            return False
        return all(self._columns_of(table) for table in schema.TABLES if table not in schema.ADDED_LATER)

    def create(self) -> None:
        """Makes database, tables and views that are missing, once. Raises ServerError, also for foreign tables."""
        if self._created:
            return
        cluster = tables.on_cluster(self.cluster)
        if not self._has_database():
            self._command(f"CREATE DATABASE IF NOT EXISTS {self.place.database}{cluster}", use_database=False)
        for table in schema.TABLES:
            self._refuse_other_columns(table)  # before a view of ours stands on somebody else's table
        for statement in tables.statements(self.place.database, self.cluster):
            self._command(statement)
        self._created = True

    def publish(self, table: str, key: str, data: pa.Table, first: int = 0) -> tuple[Refused, ...]:
        """Inserts rows with the columns of `schema.schema(table)`; again with the same key changes nothing.

        `key` names the contents: other rows need another key. Of rows that come in pieces, `first` is the number of
        the first one here. Returns the rows that the server refuses for what they hold; all others are inserted and
        confirmed, unless `answers_late`. Raises ServerError.
        """
        refused: list[Refused] = []
        for at in range(0, data.num_rows, self.flush_rows):
            self._insert(table, key, data.slice(at, self.flush_rows), first + at, refused)
        return tuple(refused)

    def query(self, sql: str, /, **params: str | int | date) -> pa.Table:
        """Rows of a SELECT, as of `Lake.query`: parameters like `WHERE code = {code:String}`. Raises ServerError."""
        import pyarrow as pa

        for value in params.values():
            if isinstance(value, bool) or not isinstance(value, str | int | date):
                raise ServerError(f"a parameter is text, an integer or a date, not {type(value).__name__}")
        used = {name: value for name, value in params.items() if f"{{{name}:" in sql}
        try:
            found: pa.Table = self._do(
                lambda client: client.query_arrow(sql, parameters=used, settings={"readonly": 2})
            )
        except (pa.ArrowInvalid, OSError) as error:
            raise ServerError("this is not one SELECT without a FORMAT clause") from error
        return found

    def fingerprints(
        self, table: str, day: date, run_id: str | None = None, segment: int | None = None, rows: str = "raw"
    ) -> dict[tuple[str, int], Fingerprint]:
        """(run, segment) → what the server holds of it on a trading day; of all segments, or of one.

        `rows` "raw" counts a row once, "shipped" as often as it lies there, in half the time.
        """
        where = "trading_day = {day:Date32}"
        if run_id is not None:
            where += " AND run_id = {run_id:String} AND segment = {segment:Int32}"
        sql = fingerprints_sql(table, f"{table}_{rows} WHERE {where}")
        found = self.query(sql, day=day, run_id=run_id or "", segment=segment or 0).to_pylist()
        return {(row["run_id"], row["segment"]): (row["rows"], row["total"]) for row in found}

    def delete(self, table: str, day: date, run_id: str, segment: int) -> None:
        """Removes the rows of a segment on a trading day. Raises ServerError."""
        sql = (
            f"DELETE FROM {tables.stored(table, self.cluster)}{tables.on_cluster(self.cluster)} "
            "WHERE trading_day = {day:Date32} AND run_id = {run_id:String} AND segment = {segment:Int32}"
        )
        values = {"day": day, "run_id": run_id, "segment": segment}
        self._command(sql, parameters=values, settings={"lightweight_deletes_sync": 2})

    def close(self) -> None:
        """Closes the connection; the next call opens it again."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _insert(self, table: str, key: str, block: pa.Table, first: int, refused: list[Refused]) -> None:
        """One block, or its halves where the server refuses it, down to the rows that are at fault."""
        from clickhouse_connect.driver.exceptions import ClickHouseError

        token = f"{key}:{table}:{first}+{block.num_rows}"
        whole = block.combine_chunks().unify_dictionaries()
        try:
            self._open().insert_arrow(
                f"{table}_shipped", whole, settings=self._insert_settings | {"insert_deduplication_token": token}
            )
        except ClickHouseError as error:
            code = getattr(error, "code", None)
            if not is_about_content(code):
                raise explained(error, code, self.place) from error
            if block.num_rows > 1:
                half = block.num_rows // 2
                self._insert(table, key, block.slice(0, half), first, refused)
                self._insert(table, key, block.slice(half), first + half, refused)
                return
            refused.append(Refused(first, reason(str(error))))
            if len(refused) > REFUSED_MAX:
                raise ServerError(
                    f"{self.place}: refuses more than {REFUSED_MAX:,} rows of {key}, the last one: "
                    f"{reason(str(error))} – the table {table}_shipped does not fit, or a CONSTRAINT on it is wrong"
                ) from error

    def _has_database(self) -> bool:
        sql = "SELECT count() FROM system.databases WHERE name = {name:String}"
        values = {"name": self.place.database}
        return bool(self._command(sql, parameters=values, use_database=False))

    def _columns_of(self, table: str) -> dict[str, str]:
        sql = "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {name:String}"
        return {row["name"]: row["type"] for row in self.query(sql, name=f"{table}_shipped").to_pylist()}

    def _refuse_other_columns(self, table: str) -> None:
        """The table may be of an older version, or somebody else's."""
        found = self._columns_of(table)
        wrong = [f"{name} {kind}" for name, kind in column_types(table).items() if found.get(name) != kind]
        if found and wrong:
            raise ServerError(
                f"{self.place}: table {table}_shipped lacks {', '.join(wrong[:3])}: another version made it. Rename it "
                "(RENAME TABLE …) and run: shijim ship --verify"
            )

    def _command(self, sql: str, **options: Any) -> object:
        return self._do(lambda client: client.command(sql, **options))

    def _do(self, work: Callable[[Any], Answer]) -> Answer:
        from clickhouse_connect.driver.exceptions import ClickHouseError

        client = self._open()
        try:
            return work(client)
        except ClickHouseError as error:
            raise explained(error, getattr(error, "code", None), self.place) from error

    def _open(self) -> Any:
        if self._client is not None:
            return self._client
        try:
            import clickhouse_connect
            from clickhouse_connect.driver.exceptions import ClickHouseError
        except ImportError as error:
            raise ServerError(f"{_NEEDS} ({error})") from error
        try:
            # It logs what it raises; the one line a person reads is in server_errors.py.
            logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
            self._client = clickhouse_connect.get_client(
                host=self.place.host,
                port=self.place.port,
                interface="https" if self.place.secure else "http",
                username=self.place.user,
                password=self.place.password.reveal(),
                connect_timeout=CONNECT_SECONDS_MAX,
                send_receive_timeout=self._seconds,
                autogenerate_session_id=False,  # every request stands alone: any replica may answer it
                client_name="shijim",
            )
        except ClickHouseError as error:
            raise explained(error, getattr(error, "code", None), self.place) from error
        self._client.database = self.place.database  # not before: it need not exist yet
        return self._client
