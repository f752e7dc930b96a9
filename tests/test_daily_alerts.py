"""Alerts: a real command, a real receiver over HTTP, a run that really failed."""

import logging
import re
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import orjson
import pytest

from shijim_live.settings import Secret
from shijim_pipelines.daily import alerts
from shijim_pipelines.daily.alerts import Alert, alert_now, failure_sensor, send_alert

ALERT = alert_now("run_failed", "after_close_job", "2026-04-09", "0-1-2", "backfill", "QuotaExhausted: 500 MB used")
NOBODY = Secret("")
KEY = "very-secret-key"


class Receiver(ThreadingHTTPServer):
    """A webhook on the loopback. Answers with each status in turn, the last one for ever."""

    def __init__(self, *answers: int, delay_s: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answers, self.delay_s = list(answers), delay_s
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.url = Secret(f"http://127.0.0.1:{self.server_port}/hooks/{KEY}")

    def __enter__(self) -> "Receiver":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        assert self.path == f"/hooks/{KEY}"
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.headers.append(dict(self.headers))
        answers = self.server.answers
        time.sleep(self.server.delay_s)
        self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
        self.send_header("Location", f"/hooks/{KEY}")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "WEBHOOK_PAUSES", (0, 0))


def writer(path: Path) -> str:
    """A command that writes its stdin to a file."""
    program = "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"
    return shlex.join([sys.executable, "-c", program, str(path)])


def python(program: str) -> str:
    return shlex.join([sys.executable, "-c", program])


# Targets


def test_command_and_webhook_get_the_same_json(tmp_path: Path) -> None:
    with Receiver(200) as receiver:
        told = send_alert(ALERT, writer(tmp_path / "a file.json"), receiver.url)
    assert [delivery.delivered for delivery in told] == [True, True]
    assert (tmp_path / "a file.json").read_bytes() == receiver.bodies[0]
    assert receiver.headers[0]["Content-Type"] == "application/json"
    sent = orjson.loads(receiver.bodies[0])
    assert Alert(**sent) == ALERT
    assert sent["text"] == (
        "Shijim: run failed: after_close_job of 2026-04-09 at backfill: QuotaExhausted: 500 MB used"
    )
    assert sent["ui"] == "/runs/0-1-2"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+08:00", sent["at"])


def test_one_target_alone_is_enough_and_none_sends_nothing(tmp_path: Path) -> None:
    assert len(send_alert(ALERT, writer(tmp_path / "alert.json"), NOBODY)) == 1
    with Receiver(204) as receiver:
        assert [delivery.delivered for delivery in send_alert(ALERT, "", receiver.url)] == [True]
    assert send_alert(ALERT, "", NOBODY) == ()


@pytest.mark.parametrize(
    ("answers", "asked", "text"),
    [
        ((500,), 3, "answered 500, 3 times"),
        ((503, 429, 200), 3, "told"),
        ((500, 204), 2, "told"),
        ((404,), 1, "answered 404"),
        ((302,), 1, "answered 302"),
    ],
)
def test_a_receiver_that_refuses_is_asked_again_only_where_that_may_help(
    answers: tuple[int, ...], asked: int, text: str
) -> None:
    with Receiver(*answers) as receiver:
        (delivery,) = send_alert(ALERT, "", receiver.url)
    assert (delivery.text, delivery.delivered, len(receiver.bodies)) == (text, text == "told", asked)


def test_a_receiver_that_is_down_is_told_of_and_the_other_target_is_still_served(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = Secret(f"http://127.0.0.1:{taken.getsockname()[1]}/hooks/{KEY}")
        command, webhook = send_alert(ALERT, writer(tmp_path / "alert.json"), url)
    assert command.delivered
    assert not webhook.delivered
    assert "cannot be reached" in webhook.text


def test_a_receiver_that_never_answers_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "WEBHOOK_SECONDS_MAX", 1)
    monkeypatch.setattr(alerts, "WEBHOOK_PAUSES", ())
    with Receiver(200, delay_s=2) as receiver:
        (delivery,) = send_alert(ALERT, "", receiver.url)
    assert not delivery.delivered
    assert "gave no answer within 1 s" in delivery.text or "timed out" in delivery.text


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("/no/such/program --now", "cannot be run: "),
        ("'unbalanced", "cannot be run: No closing quotation"),
        (python("import sys; sys.exit('the pager is off')"), "ended with 1: the pager is off"),
        (python("import os; os.close(0)"), "told"),  # it need not read what it is told
        (python("import time; time.sleep(60)"), "did not end within 1 s and was killed"),
    ],
)
def test_a_command_that_fails_is_told_of_and_raises_nothing(
    command: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in text + command:
        monkeypatch.setattr(alerts, "COMMAND_SECONDS_MAX", 1)
    (delivery,) = send_alert(ALERT, command, NOBODY)
    assert delivery.text.startswith(text)
    assert delivery.delivered is (text == "told")


def test_the_command_is_not_given_to_a_shell(tmp_path: Path) -> None:
    send_alert(ALERT, f"echo hello > {tmp_path / 'made'} ; touch {tmp_path / 'made'}", NOBODY)
    assert list(tmp_path.iterdir()) == []


# The sensor


def failing(message: str) -> dg.JobDefinition:
    @dg.op
    def backfill() -> None:
        raise ValueError(message)

    @dg.job
    def after_close_job() -> None:
        backfill()

    return after_close_job


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def fail(
    instance: dg.DagsterInstance, tags: dict[str, str], message: str = "boom\nand more"
) -> dg.RunFailureSensorContext:
    result = failing(message).execute_in_process(instance=instance, raise_on_error=False, tags=tags)
    assert not result.success
    context = dg.build_run_status_sensor_context(
        sensor_name=alerts.FAILURE_SENSOR,
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        dagster_event=result.get_run_failure_event(),
    )
    return context.for_run_failure()


def test_a_run_that_failed_becomes_an_alert_with_its_first_error(instance: dg.DagsterInstance) -> None:
    context = fail(instance, {"dagster/partition": "2026-04-09"})
    with Receiver(200) as receiver:
        failure_sensor("", receiver.url)(context)
    alert = Alert(**orjson.loads(receiver.bodies[0]))
    assert (alert.job, alert.partition, alert.step) == ("after_close_job", "2026-04-09", "backfill")
    assert alert.error == "ValueError: boom"
    assert alert.run_id == context.dagster_run.run_id
    assert alert.ui == f"/runs/{alert.run_id}"


def test_a_run_over_several_days_names_both_ends(instance: dg.DagsterInstance) -> None:
    tags = {f"dagster/asset_partition_range_{end}": f"2026-04-{n}" for end, n in (("start", "07"), ("end", "09"))}
    with Receiver(200) as receiver:
        failure_sensor("", receiver.url)(fail(instance, tags))
    assert orjson.loads(receiver.bodies[0])["partition"] == "2026-04-07..2026-04-09"


def test_a_run_that_dagster_tries_again_is_not_alerted_yet(instance: dg.DagsterInstance) -> None:
    with Receiver(200) as receiver:
        failure_sensor("", receiver.url)(fail(instance, {"dagster/will_retry": "true"}))
    assert receiver.bodies == []


def test_without_a_target_the_log_of_the_sensor_says_so(
    instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    failure_sensor("", NOBODY)(fail(instance, {}))
    assert "set SHIJIM_ALERT_COMMAND or SHIJIM_ALERT_WEBHOOK" in capfd.readouterr().err


def test_no_text_of_any_failure_holds_the_webhook(
    instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    with Receiver(500) as receiver:
        failure_sensor("", receiver.url)(fail(instance, {}))
        host = receiver.server_port
    for url in (
        f"http://127.0.0.1:{host}/{KEY}",
        f"http://127.0.0.1:1/{KEY}\x01",
    ):
        assert KEY not in str(send_alert(ALERT, "", Secret(url)))
    said = capfd.readouterr()
    assert "answered 500, 3 times" in said.err
    assert KEY not in said.err + said.out


def test_the_alerts_of_a_sensor_are_logged_with_what_became_of_them(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.INFO):
        alerts.tell(logging.getLogger("shijim"), ALERT, writer(tmp_path / "alert.json"), NOBODY)
        alerts.tell(logging.getLogger("shijim"), ALERT, "/no/such/program", NOBODY)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["INFO", "ERROR"]
