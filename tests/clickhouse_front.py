"""ClickHouse's HTTP interface over the real engine in this process, for clickhouse-connect as it comes. Not a server:
no users but one, no clusters, no native protocol. Faults can be switched on and off while it runs.

    python tests/clickhouse_front.py --port 0 --path DIR [--user NAME --password TEXT]     prints `listening PORT`

GET /_front tells what it did; POST /_front with JSON switches: `unavailable` (answers 503), `drop_answers` (that many
inserts are done and their answer is not sent), `slow_ms` (before each answer). What is kept in DIR survives a kill.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb
import lz4.frame

# Parameters of the interface itself; every other one is a setting of the query.
INTERFACE = {
    "query", "database", "session_id", "session_timeout", "session_check", "query_id", "user", "password", "quota_key",
    "default_format", "compress", "decompress", "wait_end_of_query", "client_protocol_version", "buffer_size", "role",
}  # fmt: skip
INSERT = re.compile(rb"\s*(INSERT\s+INTO\s+.*?)\s*FORMAT\s+(\w+)\s*?(?:\n|$)", re.IGNORECASE | re.DOTALL)
STATUS = {60: 404, 81: 404, 62: 400, 47: 400, 516: 403, 497: 403, 159: 408}
AUTHENTICATION_FAILED, UNKNOWN = 516, 1001
GATHERING_SECONDS = 0.5


class Refusal(Exception):
    """What ClickHouse would answer instead of rows."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Front(ThreadingHTTPServer):
    """The engine, the one user, and the faults."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, path: str, user: str, password: str) -> None:
        super().__init__(("127.0.0.1", port), Exchange)
        self.path, self.user, self.password = path, user, password
        self.engine = chdb.connect(path)  # kept open: the last connection to close shuts the engine down
        self.version = self.engine.query("SELECT version()", "TSV").bytes().decode().strip()
        self.lock = threading.Lock()
        self.faults: dict[str, int] = {"unavailable": 0, "drop_answers": 0, "slow_ms": 0}
        self.done = {"inserts": 0, "rows": 0, "queries": 0}

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that was killed, or would not wait
            super().handle_error(request, client_address)

    def count(self, **done: int) -> None:
        with self.lock:
            for name, more in done.items():
                self.done[name] += more

    def drops_this_answer(self) -> bool:
        with self.lock:
            left = self.faults["drop_answers"]
            self.faults["drop_answers"] = max(0, left - 1)
            return left > 0


class Exchange(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms for an acknowledgement
    server: Front

    def do_GET(self) -> None:
        self._answer(read_only=True)

    def do_POST(self) -> None:
        self._answer(read_only=False)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, read_only: bool) -> None:
        url = urlsplit(self.path)
        body = self._body()
        if url.path == "/_front":
            self._switch(body)
        elif self.server.faults["unavailable"]:
            self._send(503, b"<html>no upstream</html>", {})
        elif url.path == "/ping":
            self._send(200, b"Ok.\n", {})
        else:
            self._statement(dict(parse_qsl(url.query, keep_blank_values=True)), body, read_only)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            sent = b"".join(parts)
        else:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return DECOMPRESS[self.headers.get("Content-Encoding", "")](sent)

    def _switch(self, body: bytes) -> None:
        with self.server.lock:
            self.server.faults |= json.loads(body or b"{}")
            told = json.dumps(self.server.done | {"faults": self.server.faults}).encode()
        self._send(200, told, {})

    def _statement(self, given: dict[str, str], body: bytes, read_only: bool) -> None:
        statement = b"\n".join(part for part in (given.get("query", "").encode(), body) if part)
        inserts = INSERT.match(statement)
        try:
            self._require_login(given)
            with self._session(given, read_only) as session:
                answer, headers = self._insert(session, inserts, statement, given) if inserts else self._query(
                    session, statement.decode(), given)  # fmt: skip
        except Refusal as refusal:
            text = f"Code: {refusal.code}. DB::Exception: {refusal} (version {self.server.version} (official build))\n"
            headers = {"X-ClickHouse-Exception-Code": str(refusal.code)}
            self._send(STATUS.get(refusal.code, 500), text.encode(), headers)
            return
        time.sleep(self.server.faults["slow_ms"] / 1000)
        if inserts and self.server.drops_this_answer():
            self.close_connection = True
            self.connection.close()
            return
        headers |= {"X-ClickHouse-Query-Id": given.get("query_id", ""), "X-ClickHouse-Timezone": "UTC"}
        self._send(200, *self._compressed(answer, headers, given))

    def _require_login(self, given: dict[str, str]) -> None:
        user = self.headers.get("X-ClickHouse-User") or given.get("user", "default")
        password = self.headers.get("X-ClickHouse-Key") or given.get("password", "")
        kind, _, login = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            user, _, password = base64.b64decode(login).decode().partition(":")
        if (user, password) != (self.server.user, self.server.password):
            said = "Authentication failed: password is incorrect, or there is no user with such name."
            raise Refusal(AUTHENTICATION_FAILED, f"{user}: {said} (AUTHENTICATION_FAILED)")

    @contextmanager
    def _session(self, given: dict[str, str], read_only: bool) -> Iterator[Any]:
        """A connection of its own for each request: the database and the settings it names are nobody else's."""
        with closing(chdb.connect(self.server.path)) as session:
            if "database" in given:
                run(session, f"USE `{given['database']}`")
            readonly = given.pop("readonly", "2" if read_only else None)
            for name, value in given.items():
                if name not in INTERFACE and not name.startswith("param_"):
                    text = value.replace("\\", "\\\\").replace("'", "\\'")
                    run(session, f"SET {name} = '{text}'")
            if readonly is not None:
                run(session, f"SET readonly = {int(readonly)}")
            yield session

    def _query(self, session: Any, sql: str, given: dict[str, str]) -> tuple[bytes, dict[str, str]]:
        params = {name.removeprefix("param_"): value for name, value in given.items() if name.startswith("param_")}
        answer = run(session, sql, given.get("default_format", "TabSeparated"), params)
        self.server.count(queries=1)
        named = re.search(r"FORMAT\s+(\w+)\s*$", sql)
        selects = re.match(r"\s*(SELECT|WITH|SHOW|EXISTS|DESCRIBE|EXPLAIN)\b", sql, re.IGNORECASE)
        shape = {"X-ClickHouse-Format": named[1] if named else "TabSeparated"} if selects else {}
        return answer, shape | {"X-ClickHouse-Summary": json.dumps({"read_rows": "0", "written_rows": "0"})}

    def _insert_later(self, given: dict[str, str], inserts: re.Match[bytes], statement: bytes) -> None:
        with self._session(given, read_only=False) as session:
            self._insert(session, inserts, statement, given)

    def _insert(
        self, session: Any, inserts: re.Match[bytes], statement: bytes, given: dict[str, str]
    ) -> tuple[bytes, dict[str, str]]:
        if given.get("async_insert") == "1" and given.get("wait_for_async_insert") == "0":
            # As a server gathers inserts: confirmed now, written later. The engine here has no queue of its own.
            later = {name: value for name, value in given.items() if "async" not in name}
            threading.Timer(GATHERING_SECONDS, self._insert_later, (later, inserts, statement)).start()
            return b"", {}
        # The engine's streaming insert says nothing of a CONSTRAINT that was violated: rows come from a file in memory.
        with tempfile.NamedTemporaryFile(dir="/dev/shm", suffix=".rows") as rows:
            rows.write(statement[inserts.end() :])
            rows.flush()
            head, name = inserts[1].decode(), inserts[2].decode()
            try:
                written = session.query(f"{head} FROM INFILE '{rows.name}' FORMAT {name}", "Null").rows_written()
            except RuntimeError as error:
                raise refusal_of(error) from error
        self.server.count(inserts=1, rows=written)
        return b"", {"X-ClickHouse-Summary": json.dumps({"written_rows": str(written)})}

    def _compressed(
        self, answer: bytes, headers: dict[str, str], given: dict[str, str]
    ) -> tuple[bytes, dict[str, str]]:
        if given.get("enable_http_compression") != "1":
            return answer, headers
        for name in re.split(r"[,\s]+", self.headers.get("Accept-Encoding", "")):
            if name in COMPRESS:
                return COMPRESS[name](answer), headers | {"Content-Encoding": name}
        return answer, headers

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {"lz4": lz4.frame.compress, "gzip": gzip.compress}
DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, "identity": bytes, "lz4": lz4.frame.decompress, "gzip": gzip.decompress,
}  # fmt: skip


def run(session: Any, sql: str, output: str = "TabSeparated", params: dict[str, str] | None = None) -> bytes:
    try:
        return bytes(session.query(sql, output, params=params or {}).bytes())
    except RuntimeError as error:
        raise refusal_of(error) from error


def refusal_of(error: RuntimeError) -> Refusal:
    """The engine's message without its own prefix."""
    found = re.search(r"Code: (\d+)\. (?:DB::Exception: )?(.*)", str(error), re.DOTALL)
    return Refusal(int(found[1]), found[2].strip()) if found else Refusal(UNKNOWN, str(error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--path", default=":memory:")
    parser.add_argument("--user", default="default")
    parser.add_argument("--password", default="")
    given = parser.parse_args()
    front = Front(given.port, given.path, given.user, given.password)
    print(f"listening {front.server_address[1]}", flush=True)
    try:
        front.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
