"""Who is told when a run fails: a command on this host, a webhook, or both. Decides nothing about the run itself."""

from __future__ import annotations

import http.client
import logging
import shlex
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener
from zoneinfo import ZoneInfo

import dagster as dg
import orjson

from shijim_live.settings import Secret
from shijim_pipelines.daily.partitions import TIMEZONE

if TYPE_CHECKING:
    from dagster._core.execution.plan.objects import StepFailureData
    from dagster_shared.error import SerializableErrorInfo

# All of it stays well below the minute after which Dagster gives a sensor up.
COMMAND_SECONDS_MAX: Final = 15
WEBHOOK_SECONDS_MAX: Final = 5
WEBHOOK_PAUSES: Final = (1, 3)  # seconds before a second and a third try

FAILURE_SENSOR: Final = "alert_on_failure"
_SENSOR_SECONDS: Final = 30
_ERROR_CHARACTERS_MAX: Final = 500
_RETRIABLE: Final = (408, 429)  # and every 5xx
_NO_TARGET: Final = (
    "nobody is told: set SHIJIM_ALERT_COMMAND or SHIJIM_ALERT_WEBHOOK, and this alert goes there next time"
)


@dataclass(frozen=True, slots=True)
class Alert:
    """What a person must know to act, as the JSON that is sent. Empty where it does not apply."""

    text: str  # one sentence with the rest in it, what a chat shows
    what: str  # run_failed | gaps_given_up | damaged_file
    job: str
    partition: str  # a trading day, or `first..last`
    run_id: str
    step: str
    error: str  # its first line
    at: str  # Taipei, ISO 8601 with its offset, to the second
    ui: str  # path under the webserver


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of an alert at one target."""

    target: str  # never the URL of a webhook: it is a key
    delivered: bool
    text: str


def send_alert(alert: Alert, command: str, webhook: Secret) -> tuple[Delivery, ...]:
    """Hands the alert's JSON to the command's stdin and POSTs it to the webhook, whichever are set. Raises nothing.

    A receiver that answers too late is asked again and may get the same alert twice: `run_id` tells.
    """
    body = orjson.dumps(alert)
    deliveries = [_run_command(command, body)] if command else []
    return (*deliveries, _post(webhook, body)) if webhook else tuple(deliveries)


def tell(log: logging.Logger, alert: Alert, command: str, webhook: Secret) -> None:
    """`send_alert`, and what became of it into the log of the sensor that asked."""
    deliveries = send_alert(alert, command, webhook)
    for delivery in deliveries:
        (log.info if delivery.delivered else log.error)(f"{delivery.target}: {delivery.text}: {alert.text}")
    if not deliveries:
        log.warning(f"{alert.text} – {_NO_TARGET}")


def failure_sensor(command: str, webhook: Secret) -> dg.SensorDefinition:
    """Every failed run of this code location becomes an alert, unless Dagster is about to run it again by itself."""

    @dg.run_failure_sensor(
        name=FAILURE_SENSOR,
        description="Tells SHIJIM_ALERT_COMMAND and SHIJIM_ALERT_WEBHOOK of every failed run.",
        minimum_interval_seconds=_SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def alert_on_failure(context: dg.RunFailureSensorContext) -> None:
        if context.dagster_run.tags.get("dagster/will_retry") == "true":
            context.log.info(f"run {context.dagster_run.run_id} failed and is tried again: no alert yet")
            return
        tell(context.log, alert_of(context), command, webhook)

    return alert_on_failure


def alert_of(context: dg.RunFailureSensorContext) -> Alert:
    """The alert for a failed run: its first failed step and the error at the bottom of it."""
    run = context.dagster_run
    failures = context.get_step_failure_events()
    step, error = "", _first_line(context.failure_event.message or "the run failed without a word")
    if failures:
        told: StepFailureData = failures[0].step_failure_data
        step = failures[0].step_key or ""
        error = _first_line(_root(told.error).message) if told.error else _first_line(failures[0].message or "")
    first, last = (run.tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    partition = run.tags.get("dagster/partition") or (f"{first}..{last}" if first else "")
    return alert_now("run_failed", run.job_name, partition, run.run_id, step, error)


def alert_now(what: str, job: str, partition: str, run_id: str, step: str, error: str) -> Alert:
    """An alert stamped with this moment."""
    at = datetime.now(UTC).astimezone(ZoneInfo(TIMEZONE)).isoformat(timespec="seconds")
    ui = f"/runs/{run_id}" if run_id else ""
    where = f" at {step}" if step else ""
    text = f"Shijim: {what.replace('_', ' ')}: {job}{f' of {partition}' if partition else ''}{where}: {error}"
    return Alert(text, what, job, partition, run_id, step, error, at, ui)


def _root(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """Dagster wraps what the code raised."""
    while error.cause is not None:
        error = error.cause
    return error


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")[:_ERROR_CHARACTERS_MAX]


def _run_command(command: str, body: bytes) -> Delivery:
    """Without a shell. Its output is not a pipe: a child it leaves behind cannot keep us waiting."""
    try:
        words = shlex.split(command)
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                words, input=body, stdout=subprocess.DEVNULL, stderr=said, timeout=COMMAND_SECONDS_MAX, check=False
            )
            said.seek(0)
            last = (said.read().decode(errors="replace").strip().splitlines() or [""])[-1]
    except subprocess.TimeoutExpired:
        return Delivery("SHIJIM_ALERT_COMMAND", False, f"did not end within {COMMAND_SECONDS_MAX} s and was killed")
    except (OSError, ValueError) as error:
        return Delivery("SHIJIM_ALERT_COMMAND", False, f"cannot be run: {error}")
    if done.returncode:
        why = f": {last[:_ERROR_CHARACTERS_MAX]}" if last else ""
        return Delivery("SHIJIM_ALERT_COMMAND", False, f"ended with {done.returncode}{why}")
    return Delivery("SHIJIM_ALERT_COMMAND", True, "told")


def _post(webhook: Secret, body: bytes) -> Delivery:
    host = urlsplit(webhook.reveal()).hostname
    target = f"SHIJIM_ALERT_WEBHOOK at {host}"
    problem = ""
    for pause in (0, *WEBHOOK_PAUSES):
        time.sleep(pause)
        problem, again = _post_once(webhook.reveal(), body)
        if not problem:
            return Delivery(target, True, "told")
        if not again:
            return Delivery(target, False, problem)
    return Delivery(target, False, f"{problem}, {1 + len(WEBHOOK_PAUSES)} times")


class _NoRedirect(HTTPRedirectHandler):
    """Following one would turn the POST into a GET, and the alert would be lost with status 200."""

    def redirect_request(self, *_: object) -> None:
        return None


def _post_once(url: str, body: bytes) -> tuple[str, bool]:
    """(what went wrong, "" for nothing; whether trying again may help). Names no part of the URL but its host."""
    try:
        request = Request(url, data=body, headers={"Content-Type": "application/json", "User-Agent": "shijim"})
        with build_opener(_NoRedirect).open(request, timeout=WEBHOOK_SECONDS_MAX):
            return "", False
    except HTTPError as error:
        error.close()
        return f"answered {error.code}", error.code >= 500 or error.code in _RETRIABLE
    except URLError as error:
        return f"cannot be reached: {error.reason}", True
    except TimeoutError:
        return f"gave no answer within {WEBHOOK_SECONDS_MAX} s", True
    except (OSError, http.client.HTTPException) as error:
        return f"broke off: {type(error).__name__}", True
