"""The user interface as a person meets it: the real webserver and daemon, in Debian's chromium. No stand-in for either.

`make screenshot` keeps the picture of the lineage that the README shows.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import orjson
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DAY = date(2026, 4, 9)
SHORT_DAY = date(2026, 4, 14)  # its history lies
EVENTS = 20_000
START_SECONDS_MAX = 90
RUN_SECONDS_MAX = 120
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt install chromium")


def run(*command: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]


class Project:
    """Two simulated days taken through the chain, and the UI on them."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        home = folder / "dagster_home"
        home.mkdir()
        shutil.copy(ROOT / "dagster_home" / "dagster.yaml", home)
        self.environment = os.environ | {"SHIJIM_DATA_DIR": str(self.data), "DAGSTER_HOME": str(home)}
        for day in (DAY, SHORT_DAY):
            run("shijim-live", "record", "--broker", "simulated", "--day", str(day), "--events", str(EVENTS),
                "--metrics-port", "0", environment=self.environment)  # fmt: skip
        self.launch(DAY, {})
        self.launch(SHORT_DAY, {"resources": {"broker": {"config": {"defects": ["partial"]}}}})
        self.port = free_port()

    def launch(self, day: date, config: dict[str, object]) -> None:
        run("dg", "launch", "--job", "whole_day", "--partition", str(day), "--config-json",
            orjson.dumps(config).decode(), environment=self.environment)  # fmt: skip

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def ask(self, query: str) -> dict[str, object]:
        request = urllib.request.Request(
            self.url("graphql"), orjson.dumps({"query": query}), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, object] = orjson.loads(answer.read())["data"]
            return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    made = Project(tmp_path_factory.mktemp("ui"))
    server = subprocess.Popen(
        [str(BIN / "dg"), "dev", "--host", "127.0.0.1", "--port", str(made.port)],
        cwd=ROOT,
        env=made.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            assert server.poll() is None, "dg dev ended"
            assert time.monotonic() < deadline, "the webserver does not answer"
            try:
                urllib.request.urlopen(made.url("server_info"), timeout=2).read()
                break
            except OSError:
                time.sleep(0.2)
        yield made
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(
        timezone_id="Asia/Taipei", locale="en-US", viewport={"width": 1800, "height": 1000}, device_scale_factor=1
    )
    yield context.new_page()
    context.close()


def test_the_lineage_leads_from_the_recorded_segments_to_the_backtest(
    project: Project, page: Page, tmp_path: Path
) -> None:
    page.goto(project.url("asset-groups"))
    expect(page.get_by_text("Global asset lineage")).to_be_visible(timeout=30_000)
    page.wait_for_timeout(1_000)
    page.keyboard.press("Alt+E")
    for asset in (
        "recorded_segments",
        "universe",
        "ticks",
        "gaps",
        "certificate",
        "quality",
        "hft_dataset",
        "backtest",
    ):
        expect(page.get_by_text(asset, exact=True).first).to_be_visible(timeout=30_000)
    page.wait_for_timeout(2_000)
    kept = os.environ.get("SHIJIM_SCREENSHOT")
    picture = Path(kept) if kept else tmp_path / "lineage.png"
    page.screenshot(path=picture)
    assert picture.stat().st_size > 50_000
