"""The archive as SQL: Parquet files seen through an in-memory ClickHouse engine (chDB). No server, no lock, no state.

Views `ticks`, `books`, `indices`, `snapshots`, `statuses` are de-duplicated; `ticks_raw` and so on are all that was
ever received. A row is hidden when the archive flagged it within its segment; a trade with a `total_volume` also when
an earlier run or segment holds one of equal (trading_day, session, code, lane, total_volume, exchange_ns, price,
volume); what was recorded hides what was backfilled.
Files are found when a query runs: what the archive publishes meanwhile is seen by the next query, in any process; a
segment is seen whole, once its manifest is there, or not at all.

Needs the extra `shijim[lake]`. chDB does not survive a fork: start worker processes with `spawn`.
"""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shijim_live.store import schema
from shijim_live.store.views import column_types, shown

if TYPE_CHECKING:
    import pyarrow as pa

# The segment a file is of: its name up to the first dot.
_KEY: Final = "splitByChar('.', _file)[1]"
_GLOB_CHARACTERS: Final = frozenset("*?{}[]'\\")
_lakes = 0  # each has a database of its own in the one engine of the process


class LakeError(ValueError):
    """A query that cannot be done, in the engine's words where they help."""


class Lake:
    """Queries one archive folder, which need not exist yet."""

    def __init__(self, archive_dir: Path) -> None:
        if _GLOB_CHARACTERS & set(str(archive_dir.absolute())):
            raise LakeError(
                f"{archive_dir}: the engine would read * ? {{ }} [ ] ' \\ in this path as a pattern: rename it"
            )
        self.archive_dir = archive_dir
        self._connection: Any = None
        self._database = ""
        self._pid = 0

    def query(self, sql: str, /, **params: str | int | date) -> pa.Table:
        """Rows of a SELECT. Parameters are named with their type: `WHERE code = {code:String}`. Raises LakeError."""
        import pyarrow as pa

        answer = self._run(sql, "Arrow", params)
        try:
            return pa.ipc.open_file(pa.py_buffer(answer)).read_all()
        except pa.ArrowInvalid as error:
            raise LakeError("this is not one SELECT without a FORMAT clause") from error

    def close(self) -> None:
        """Gives the engine's memory back. The next query opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run(self, sql: str, output: str, params: dict[str, str | int | date]) -> bytes:
        self._open()
        try:
            answer = self._connection.query(sql, output, params={name: _text(value) for name, value in params.items()})
        except RuntimeError as error:
            raise LakeError(f"{self.archive_dir}: {_reason(error)}") from error
        return bytes(answer.bytes())

    def _open(self) -> None:
        if self._connection is not None:
            if self._pid != os.getpid():
                raise LakeError("the engine does not survive a fork: start worker processes with spawn")
            return
        global _lakes
        try:
            import chdb
        except ImportError as error:
            raise LakeError(f"the lake needs its extra: pip install 'shijim[lake]' ({error})") from error
        _lakes += 1
        self._connection, self._pid, self._database = chdb.connect(":memory:"), os.getpid(), f"lake_{_lakes}"
        self._connection.query(f"CREATE DATABASE {self._database}", "CSV")
        self._connection.query(f"USE {self._database}", "CSV")
        for statement in views(self.archive_dir):
            self._connection.query(statement, "CSV")
        self._connection.query("SET readonly = 2", "CSV")  # queries read; settings may still be set


def views(archive_dir: Path) -> list[str]:
    """SQL that creates the raw and the de-duplicated view of every table."""
    # `One` reads nothing of a file but its name.
    archived = f"SELECT {_KEY} FROM file('{archive_dir.absolute()}/segments/*.json', 'One')"
    statements = []
    for table in schema.TABLES:
        files = f"{archive_dir.absolute()}/{table}/trading_day=*/*.parquet"
        source = f"file('{files}', 'Parquet', '{_structure(table)}')"
        statements.append(f"CREATE VIEW {table}_raw AS SELECT * FROM {source} WHERE {_KEY} IN ({archived})")
        statements.append(f"CREATE VIEW {table} AS {shown(table)}")
    return statements


def _structure(table: str) -> str:
    """Columns as the engine declares them: views have the right ones even before the first file."""
    return ", ".join(f"{name} {kind}" for name, kind in column_types(table).items())


def _text(value: str | int | date) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | date):
        raise LakeError(f"a parameter is text, an integer or a date, not {type(value).__name__}")
    # The engine reads a parameter as a field of a tab-separated file.
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _reason(error: RuntimeError) -> str:
    """The engine's message without its code and stack."""
    text = str(error).removeprefix("Code: ")
    text = text.split("DB::Exception: ", 1)[-1]
    return text.split(": While executing")[0].split(" Expected one of:")[0].split("\n")[0].strip()
