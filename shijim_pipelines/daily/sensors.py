"""What starts a run between the schedules: gaps that may still be filled, and segments no server has confirmed.

A third one starts nothing, and tells the catalogue what was recorded. Sensors read files and the instance's own runs,
never a store. Attempts are counted from the runs: whoever deletes a cursor makes a sensor look again at everything, but
not try again what was tried.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import dagster as dg
import orjson

from shijim_live import calendar
from shijim_live.calendar import SECOND_NS, Session, to_exchange_ns, wall_clock
from shijim_live.record import wal
from shijim_live.settings import Secret
from shijim_live.store.confirmations import unconfirmed
from shijim_pipelines.daily.alerts import Alert, alert_now, tell
from shijim_pipelines.daily.partitions import TIMEZONE
from shijim_pipelines.daily.schedules import DAY_TAG, PARTITION_TAG, STARTED_BY_TAG, request
from shijim_pipelines.proof.gap_report import ReportDamaged, read_report
from shijim_pipelines.proof.ledger import (
    LedgerDamaged,
    State,
    give_up,
    identified,
    ledger_path,
    open_gaps,
    read_ledger,
    record_report,
    standing,
)

if TYPE_CHECKING:
    from shijim_pipelines.daily.schedules import Job

GAPS: Final = "gap_sensor"
BACKLOG: Final = "backlog_sensor"
RECORDED: Final = "recorded_sensor"

GAPS_TAG: Final = "shijim/gaps"  # which gaps an attempt was for: a digest of their ids
ATTEMPT_TAG: Final = "shijim/attempt"
SEGMENTS_TAG: Final = "shijim/segments"  # what waited when a replay was asked for

GAPS_SECONDS: Final = 60  # minimum interval of the gap sensor
BACKLOG_SECONDS: Final = 300
RECORDED_SECONDS: Final = 300

ATTEMPTS_MAX: Final = 3  # at the same gaps
DAY_ATTEMPTS_MAX: Final = 12  # at one day, however much each of them fills
FIRST_PAUSE_NS: Final = 15 * 60 * SECOND_NS
REQUESTS_MAX: Final = 5  # in one evaluation; the rest waits for the next
DAYS_MAX: Final = 50  # looked into in one evaluation, newest first

RECENT_SLOTS: Final = 3  # of the log that are looked into every time; two of them may be written at an edge
SLOTS_MAX: Final = 40  # in one evaluation, after a lost cursor

# The broker's budget is new at 08:00 of a trading day; the last attempt is made with a full one.
_BUDGET_RESET: Final = timedelta(hours=8, minutes=5)
_REPLAY_PAUSE_NS_MAX: Final = 3_600 * SECOND_NS
_TAIPEI: Final = ZoneInfo(TIMEZONE)
_OVER: Final = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_ACTIVE: Final = [status for status in dg.DagsterRunStatus if status not in _OVER]


# Gaps


@dataclass(slots=True)
class _Memory:
    """The cursor: what was seen of the files of a day (`_seen`) when there was nothing more to do about it."""

    settled: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, tuple[str, str]] = field(default_factory=dict)  # with the words for it

    @classmethod
    def of(cls, cursor: str | None) -> _Memory:
        """Of anything that is not ours nothing is remembered, and everything is looked at again."""
        try:
            known = orjson.loads(cursor or "{}")
            damaged = {str(day): (str(seen), str(text)) for day, (seen, text) in known["damaged"].items()}
            return cls({str(day): str(seen) for day, seen in known["settled"].items()}, damaged)
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def cursor(self, days: Mapping[str, str]) -> str:
        """Only of days that still have a report."""
        settled = {day: seen for day, seen in self.settled.items() if day in days}
        damaged = {day: told for day, told in self.damaged.items() if day in days}
        return orjson.dumps({"settled": settled, "damaged": damaged}).decode()


@dataclass(frozen=True, slots=True)
class Attempts:
    """What was tried at the open gaps of a day."""

    same: int  # at exactly these gaps
    day: int  # at any gaps of the day
    ended_ns: int  # when the newest of `same` ended; 0 where there is none


def not_before_ns(attempts: Attempts) -> int:
    """When the next attempt may be made: at once, after a pause, and the last one with a budget that is new."""
    if attempts.same < ATTEMPTS_MAX - 1:
        return attempts.ended_ns + attempts.same * FIRST_PAUSE_NS
    ended = wall_clock(attempts.ended_ns)
    day = ended.date()
    midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - a wall clock
    if ended >= midnight + _BUDGET_RESET or not calendar.is_trading_day(day):
        midnight += calendar.next_trading_day(day) - day
    return to_exchange_ns(midnight + _BUDGET_RESET)


def unfilled(reports_dir: Path, day: date) -> list[str]:
    """Ids of the gaps a backfill may still fill, those of a report that the ledger has not heard of among them.

    Raises ReportDamaged, LedgerDamaged; FileNotFoundError where the report is gone.
    """
    reported = identified(read_report(reports_dir, day))
    known = standing(read_ledger(reports_dir, day))
    unheard = {
        gap_id
        for gap_id, gap in reported.items()
        if gap.gap_type == "volume" and gap.lane == "board"
        if gap_id not in known or known[gap_id].state is State.SUPERSEDED
    }
    return sorted(unheard | {entry.gap_id for entry in open_gaps(reports_dir, day)})


def gap_sensor(
    job: Job, reports_dir: Path, command: str, webhook: Secret, now_ns: Callable[[], int] = time.time_ns
) -> dg.SensorDefinition:
    """Runs `job` for a day whose gaps may still be filled, ATTEMPTS_MAX times; then the ledger says unfillable."""

    @dg.sensor(
        name=GAPS,
        job=job,
        minimum_interval_seconds=GAPS_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Backfills days with open gaps: {ATTEMPTS_MAX} attempts, 15 minutes after the first and at the "
        "next reset of the broker's budget, then the gaps are given up and a person is told.",
    )
    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        calendar.refresh()
        round_ = _Round(context, job.name, reports_dir, now_ns(), _Memory.of(context.cursor))
        days = _reports(reports_dir)
        round_.look(days)
        if round_.alert:
            tell(context.log, round_.alert, command, webhook)
        for line in round_.words:
            context.log.info(line)
        words = "; ".join(round_.words[:10]) or "no day has a gap that a backfill may still fill"
        cursor = round_.memory.cursor(days)
        if round_.requests:
            return dg.SensorResult(run_requests=round_.requests, cursor=cursor)
        return dg.SensorResult(skip_reason=words, cursor=cursor)

    return evaluate


@dataclass(slots=True)
class _Round:
    """One evaluation of the gap sensor."""

    context: dg.SensorEvaluationContext
    job_name: str
    reports_dir: Path
    now_ns: int
    memory: _Memory
    requests: list[dg.RunRequest] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    alert: Alert | None = None  # one an evaluation: telling may take half of the time a sensor has

    def look(self, days: Mapping[str, str]) -> None:
        """Every day that changed since there was nothing more to do, newest first."""
        active = self.context.instance.get_runs(dg.RunsFilter(statuses=_ACTIVE))
        looked = 0
        for name, seen in days.items():
            if self.memory.settled.get(name) == seen:
                continue
            if name in self.memory.damaged and self.memory.damaged[name][0] == seen:
                self.words.append(self.memory.damaged[name][1])
                continue
            looked += 1
            if looked > DAYS_MAX:
                self.words.append("older days are looked at next time")
                break
            self._look_at(date.fromisoformat(name), seen, active)

    def _look_at(self, day: date, seen: str, active: Sequence[dg.DagsterRun]) -> None:
        try:
            left = unfilled(self.reports_dir, day)
        except (ReportDamaged, LedgerDamaged) as damage:
            self._tell_damage(day, seen, str(damage))
            return
        except FileNotFoundError:
            return
        if not left:
            self.memory.settled[str(day)] = seen
            return
        what = f"{day}: {len(left)} open gaps"
        busy = next((run for run in active if _is_for(run, day)), None)
        if busy is not None:
            self.words.append(f"{what}, and run {busy.run_id[:8]} of {busy.job_name} is at that day")
            return
        gaps = hashlib.sha256("".join(left).encode()).hexdigest()[:16]
        attempts = _attempts(self.context.instance, day, gaps)
        if attempts.same >= ATTEMPTS_MAX or attempts.day >= DAY_ATTEMPTS_MAX:
            self._give_up(day, what, attempts)
        elif self.now_ns < not_before_ns(attempts):
            at = wall_clock(not_before_ns(attempts)).isoformat(" ", "minutes")
            self.words.append(f"{what}, attempt {attempts.same + 1} of {ATTEMPTS_MAX} not before {at}")
        elif not calendar.is_trading_day(day):
            self.words.append(f"{what}, and the calendar now says that this was no trading day")
        elif len(self.requests) < REQUESTS_MAX:
            self._ask(day, what, gaps, attempts.same + 1)
        else:
            self.words.append(f"{what}, next time")

    def _ask(self, day: date, what: str, gaps: str, attempt: int) -> None:
        at = wall_clock(self.now_ns).replace(tzinfo=_TAIPEI)
        tags = {GAPS_TAG: gaps, ATTEMPT_TAG: str(attempt)}
        self.requests.append(request(day, GAPS, self.job_name, at, f"{gaps}:{attempt}", tags))
        self.words.append(f"{what}, attempt {attempt} of {ATTEMPTS_MAX} is asked for")

    def _give_up(self, day: date, what: str, attempts: Attempts) -> None:
        if self.alert:
            self.words.append(f"{what}, to be given up next time")
            return
        tried = f"{attempts.same} attempts at them, {attempts.day} at the day, and they are still open"
        record_report(read_report(self.reports_dir, day), self.reports_dir, GAPS, self.now_ns)
        given_up = give_up(self.reports_dir, day, f"unfillable: {tried}", GAPS, self.now_ns)
        words = f"{given_up} gaps are given up as unfillable after {tried}"
        self.words.append(f"{day}: {words}")
        self.alert = alert_now("gaps_given_up", self.job_name, str(day), "", "", words)

    def _tell_damage(self, day: date, seen: str, damage: str) -> None:
        """Once for every change of the file; until then it is in the words of every evaluation."""
        self.words.append(damage)
        if not self.alert:
            self.context.log.error(damage)
            self.memory.damaged[str(day)] = (seen, damage)
            self.alert = alert_now("damaged_file", GAPS, str(day), "", "", damage)


def _reports(reports_dir: Path) -> dict[str, str]:
    """Trading day → what is seen of its report and ledger from outside, newest day first."""
    found = {}
    for path in sorted((reports_dir / "gaps").glob("*-*-*.json"), reverse=True):
        try:
            day = date.fromisoformat(path.stem)
        except ValueError:
            continue
        found[path.stem] = f"{_stamp(path)} {_stamp(ledger_path(reports_dir, day))}"
    return found


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except FileNotFoundError:
        return "none"
    return f"{found.st_mtime_ns:x}.{found.st_size:x}.{found.st_ino:x}"


def _is_for(run: dg.DagsterRun, day: date) -> bool:
    first, last = (run.tags.get(f"dagster/asset_partition_range_{end}", "") for end in ("start", "end"))
    return run.tags.get(PARTITION_TAG) == str(day) or bool(first and first <= str(day) <= last)


def _attempts(instance: dg.DagsterInstance, day: date, gaps: str) -> Attempts:
    wanted = dg.RunsFilter(tags={DAY_TAG: str(day), STARTED_BY_TAG: GAPS})
    records = instance.get_run_records(wanted, limit=DAY_ATTEMPTS_MAX)
    same = [record for record in records if record.dagster_run.tags.get(GAPS_TAG) == gaps]
    return Attempts(len(same), len(records), max(map(_ended_ns, same), default=0))


def _ended_ns(record: dg.RunRecord) -> int:
    """The last change of a run that is over."""
    return to_exchange_ns(record.update_timestamp.astimezone(_TAIPEI).replace(tzinfo=None))


# Segments that no server has confirmed


def backlog_sensor(
    job: Job, archive_dir: Path, shipped_dir: Path | None, now_ns: Callable[[], int] = time.time_ns
) -> dg.SensorDefinition:
    """Runs `job` while archived segments wait for the server, one run at a time; `shipped_dir` None: no server."""

    @dg.sensor(
        name=BACKLOG,
        job=job,
        minimum_interval_seconds=BACKLOG_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ships archived segments that ClickHouse has not confirmed; after failures ever more rarely, "
        "at least every hour.",
    )
    def evaluate(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if shipped_dir is None:
            return dg.SkipReason("lake mode: CLICKHOUSE_DSN names no server, so there is nothing to ship")
        waiting = unconfirmed(archive_dir, shipped_dir)
        if not waiting:
            return dg.SkipReason("the server has confirmed every archived segment")
        digest = hashlib.sha256("".join(waiting).encode()).hexdigest()[:16]
        records = context.instance.get_run_records(dg.RunsFilter(job_name=job.name), limit=10)
        running = next((record.dagster_run for record in records if record.dagster_run.status in _ACTIVE), None)
        if running is not None:
            return dg.SkipReason(f"{len(waiting)} segments wait; run {running.run_id[:8]} is shipping")
        due_ns = _replay_due_ns(records, digest)
        if now_ns() < due_ns:
            at = wall_clock(due_ns).isoformat(" ", "minutes")
            return dg.SkipReason(
                f"{len(waiting)} segments wait; the last runs did not ship them, the next not before {at}"
            )
        return dg.RunRequest(tags={STARTED_BY_TAG: BACKLOG, SEGMENTS_TAG: digest})

    return evaluate


def _replay_due_ns(records: Sequence[dg.RunRecord], segments: str) -> int:
    """Twice as long after every run, newest first, that failed or left exactly these segments waiting."""
    useless = 0
    for record in records:
        run = record.dagster_run
        if run.status is dg.DagsterRunStatus.SUCCESS and run.tags.get(SEGMENTS_TAG) != segments:
            break
        useless += 1
    if not useless:
        return 0
    pause_ns = min(BACKLOG_SECONDS * SECOND_NS << (useless - 1), _REPLAY_PAUSE_NS_MAX)
    return _ended_ns(records[0]) + pause_ns


# What the recorder sealed


def recorded_sensor(asset_key: str, wal_dir: Path) -> dg.SensorDefinition:
    """Reports the external asset of sealed segments, by trading day: a recorder that stopped makes it stale.

    A slot that is older than the newest RECENT_SLOTS is not read again: nothing is sealed in it any more.
    """

    @dg.sensor(
        name=RECORDED,
        minimum_interval_seconds=RECORDED_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells the catalogue what the recorders have sealed, every five minutes at most.",
    )
    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        calendar.refresh()
        slots = sorted((path.name for path in wal_dir.glob("????-??-??-*") if _slot_day(path.name)), reverse=True)
        known = _slots_of(context.cursor)
        changed = set()
        for slot in [name for at, name in enumerate(slots) if at < RECENT_SLOTS or name not in known][:SLOTS_MAX]:
            found = _sealed(wal_dir / slot)
            if found != known.get(slot) and any(found):
                known[slot] = found
                changed.add(_slot_day(slot))
        events = [_materialization(asset_key, str(day), known) for day in sorted(filter(None, changed))]
        cursor = orjson.dumps({slot: known[slot] for slot in slots if slot in known}).decode()
        reason = None if events else dg.SkipReason(f"nothing new was sealed in {wal_dir}")
        return dg.SensorResult(asset_events=events, skip_reason=reason, cursor=cursor)

    return evaluate


def _slots_of(cursor: str | None) -> dict[str, list[int]]:
    try:
        return {str(slot): [int(each) for each in counts] for slot, counts in orjson.loads(cursor or "{}").items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _slot_day(slot: str) -> date | None:
    """The trading day a slot of the log belongs to; None for a folder that is no slot."""
    try:
        return calendar.window_trading_day(date.fromisoformat(slot[:10]), Session(slot[11:]))
    except ValueError:
        return None


def _sealed(slot: Path) -> list[int]:
    """[segments, events, bytes, segments that cannot be read], of what is sealed."""
    counts = [0, 0, 0, 0]
    for path in slot.glob("*.wal"):
        try:
            footer = wal.footer(path)
        except wal.WalError:
            counts[3] += 1
            continue
        if footer is not None:
            found = (1, int(str(footer["records"])), path.stat().st_size)
            counts[:3] = (known + more for known, more in zip(counts, found, strict=False))
    return counts


def _materialization(asset_key: str, day: str, slots: Mapping[str, Sequence[int]]) -> dg.AssetMaterialization:
    """Totals of all slots of a day, the night before among them."""
    mine = [counts for slot, counts in slots.items() if str(_slot_day(slot)) == day]
    names = ("segments", "events", "bytes", "unreadable")
    totals = {name: sum(counts[at] for counts in mine) for at, name in enumerate(names)}
    return dg.AssetMaterialization(asset_key, partition=day, metadata=totals)
