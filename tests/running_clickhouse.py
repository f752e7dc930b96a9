"""A `clickhouse_front.py` of its own process, started, killed and troubled by a test."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

from shijim_live.settings import ClickHouse, Secret

FRONT = Path(__file__).with_name("clickhouse_front.py")
PASSWORD = "o7-Geheimnis/@?"  # what a DSN must escape


class RunningClickHouse:
    """One server; `folder` keeps its tables over a kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(FRONT), "--port", str(self.port), "--path", str(self.folder)]
        command += ["--user", "shijim", "--password", PASSWORD]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split()[1])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def trouble(self, **faults: int) -> dict[str, Any]:
        """Switches faults; says what was done so far."""
        request = Request(f"http://127.0.0.1:{self.port}/_front", json.dumps(faults).encode())
        with urlopen(request) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    def place(self, database: str = "market", password: str = PASSWORD) -> ClickHouse:
        return ClickHouse("127.0.0.1", self.port, False, database, "shijim", Secret(password))

    def dsn(self, database: str = "market") -> str:
        return f"http://shijim:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def run(self, sql: str) -> str:
        """Any statement, as an operator would send it; the answer as tab-separated text."""
        login = {"X-ClickHouse-User": "shijim", "X-ClickHouse-Key": PASSWORD}
        with urlopen(Request(f"http://127.0.0.1:{self.port}/", sql.encode(), login)) as answer:
            told: str = answer.read().decode()
        return told
