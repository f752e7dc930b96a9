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

from shijim_pipelines.proof.ledger import give_up

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DAY = date(2026, 4, 9)
SHORT_DAY = date(2026, 4, 14)  # its history lied, and its gaps were given up
OPEN_DAY = date(2026, 4, 15)  # audited, its gaps are open
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
    """Three simulated days: one taken through the chain, one that stays short, one with open gaps."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        home = folder / "dagster_home"
        home.mkdir()
        shutil.copy(ROOT / "dagster_home" / "dagster.yaml", home)
        self.environment = os.environ | {"SHIJIM_DATA_DIR": str(self.data), "DAGSTER_HOME": str(home)}
        for day in (DAY, SHORT_DAY, OPEN_DAY):
            run("shijim-live", "record", "--broker", "simulated", "--day", str(day), "--events", str(EVENTS),
                "--metrics-port", "0", environment=self.environment)  # fmt: skip
        self.launch("after_close", DAY, {})
        self.launch("after_night", SHORT_DAY, {"resources": {"broker": {"config": {"defects": ["wrong_day"]}}}})
        give_up(self.data / "reports", SHORT_DAY, "rehearsal", "test", time.time_ns())
        for verb in ("quotes", "audit", "gaps"):
            run("shijim", verb, "--day", str(OPEN_DAY), environment=self.environment)
        self.port = free_port()

    def launch(self, job: str, day: date, config: dict[str, object]) -> None:
        run("dg", "launch", "--job", job, "--partition", str(day), "--config-json", orjson.dumps(config).decode(),
            environment=self.environment)  # fmt: skip

    def certificates(self, day: date) -> list[dict[str, object]]:
        path = self.data / "reports" / "certificates" / f"{day}.json"
        return list(orjson.loads(path.read_bytes())["certificates"]) if path.exists() else []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"


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


def test_a_partition_is_materialised_from_a_click(project: Project, page: Page) -> None:
    report = project.data / "reports" / "gaps" / f"{DAY}.json"
    before = report.read_bytes()
    report.unlink()
    page.goto(project.url("assets/gaps?view=partitions"))
    page.get_by_role("button", name="Materialize").first.click(timeout=30_000)
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Show all partitions").click(timeout=30_000)
    chosen = dialog.locator("input[type=text]").first
    chosen.fill(str(DAY))
    chosen.press("Enter")
    dialog.get_by_role("button", name="Launch").click(timeout=30_000)
    deadline = time.monotonic() + RUN_SECONDS_MAX
    while not report.exists():
        assert time.monotonic() < deadline, "the run that was clicked has written nothing"
        time.sleep(0.5)
    assert report.read_bytes() == before, "the same log gives the same report"


def test_the_daemon_fills_open_gaps_by_itself(project: Project) -> None:
    deadline = time.monotonic() + RUN_SECONDS_MAX
    while not project.certificates(OPEN_DAY):
        assert time.monotonic() < deadline, "the gap sensor has asked for no run, or it has not ended"
        time.sleep(0.5)
    assert {one["verdict"] for one in project.certificates(OPEN_DAY)} == {"PROVEN"}


def test_a_failing_check_is_red_and_names_the_symbol(project: Project, page: Page) -> None:
    project.launch("ask_again", SHORT_DAY, {})  # the newest evaluation is the one a person sees
    short = next(one for one in project.certificates(SHORT_DAY) if one["verdict"] == "SHORT")
    page.goto(project.url("assets/certificate?view=checks&checkDetail=proven"))
    expect(page.get_by_text(f"SHORT {short['code']}").first).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Failed").first).to_be_visible(timeout=30_000)


def test_the_quality_report_opens_without_a_network(project: Project, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((project.data / "reports" / "quality" / f"{DAY}.html").as_uri())
    expect(page.get_by_text("TXFD6").first).to_be_visible()
    assert str(DAY) in page.title()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
