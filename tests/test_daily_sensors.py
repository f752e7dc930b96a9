"""The sensors of the daily run: real reports, ledgers and runs; Dagster evaluates, and only the clock is ours."""

import time
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import dagster as dg
import made_records
import orjson
import pytest

from shijim_live.calendar import SECOND_NS, previous_trading_day, to_exchange_ns, wall_clock
from shijim_live.settings import Secret
from shijim_live.store.confirmations import Confirmation, ShippedFile, confirm
from shijim_live.store.manifest import MANIFESTS
from shijim_pipelines.daily import sensors
from shijim_pipelines.daily.partitions import trading_days
from shijim_pipelines.daily.sensors import Attempts, not_before_ns
from shijim_pipelines.proof.gap_report import Gap, GapReport, write_report
from shijim_pipelines.proof.ledger import (
    Change,
    State,
    advance,
    give_up,
    ledger_path,
    open_gaps,
    read_ledger,
    record_report,
    standing,
)

DAY = date(2026, 4, 9)
NOBODY = Secret("")
MINUTE_NS = 60 * SECOND_NS
DAY_NS = 24 * 60 * MINUTE_NS


def gap(total_from: int = 100, lots: int = 7, gap_type: str = "volume", lane: str = "board") -> Gap:
    metadata: dict[str, str | int | list[list[int]]] = {
        "source": "simulated",
        "session": "day",
        "total_from": total_from,
        "total_to": total_from + lots,
    }
    return Gap(gap_type, "2330", lane, 1, 2, 1_000, 2_000, lots, "feed_loss", "the recorder was up", metadata)


class Data:
    """Reports and ledgers, written by the code that writes them."""

    def __init__(self, reports_dir: Path) -> None:
        self.reports_dir = reports_dir

    def report(self, day: date, *gaps: Gap, recorded: bool = True) -> Path:
        report = GapReport(day, (), gaps, (), {})
        if recorded:
            record_report(report, self.reports_dir, "test", 1)
        return write_report(report, self.reports_dir)

    def fill(self, day: date) -> None:
        """What a backfill that proves everything does to the ledger."""
        changes = [Change(entry.gap_id, State.BACKFILLED, {"run": "x"}) for entry in open_gaps(self.reports_dir, day)]
        advance(self.reports_dir, day, changes, "test", 2)

    def states(self, day: date) -> list[State]:
        return [entry.state for entry in standing(read_ledger(self.reports_dir, day)).values()]


class Location:
    """A code location with the gap sensor and its job, an instance, and a clock of ours."""

    def __init__(self, data: Data, home: Path, command: str = "") -> None:
        @dg.asset(partitions_def=trading_days)
        def backfill(context: dg.AssetExecutionContext) -> None:
            if self.outcome == "fails":
                raise RuntimeError("the broker does not answer")
            if self.outcome == "fills":
                data.fill(date.fromisoformat(context.partition_key))

        job = dg.define_asset_job("backfill_job", [backfill])
        self.ahead_ns = 0
        self.outcome = "fails"
        made = sensors.gap_sensor(job, data.reports_dir, command, NOBODY, lambda: time.time_ns() + self.ahead_ns)
        self.sensor = made
        self.repository = dg.Definitions(assets=[backfill], jobs=[job], sensors=[made]).get_repository_def()
        home.mkdir()
        self.instance = dg.DagsterInstance.local_temp(str(home))
        self.cursor: str | None = None

    def tick(self) -> tuple[list[dg.RunRequest], str]:
        with dg.build_sensor_context(
            self.instance, cursor=self.cursor, repository_def=self.repository, sensor_name=sensors.GAPS
        ) as context:
            answer = self.sensor.evaluate_tick(context)
        self.cursor = answer.cursor
        return list(answer.run_requests or []), answer.skip_message or ""

    def run(self, request: dg.RunRequest, outcome: str) -> None:
        """What the daemon makes of a request."""
        self.outcome = outcome
        job = self.repository.get_job("backfill_job")
        tags = {**request.tags, "dagster/run_key": str(request.run_key)}
        job.execute_in_process(
            instance=self.instance, partition_key=request.partition_key, tags=tags, raise_on_error=False
        )

    def start(self, tags: dict[str, str], status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> str:
        job = self.repository.get_job("backfill_job")
        return self.instance.create_run_for_job(job, tags=tags, status=status).run_id


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path / "reports")


@pytest.fixture
def location(data: Data, tmp_path: Path) -> Iterator[Location]:
    made = Location(data, tmp_path / "home")
    with made.instance:
        yield made


# Gaps: what is asked for


def test_without_reports_or_open_gaps_nothing_is_asked_for(location: Location, data: Data) -> None:
    assert location.tick() == ([], "no day has a gap that a backfill may still fill")
    data.report(DAY)
    data.report(previous_trading_day(DAY), gap(gap_type="outage"), gap(lane="odd"))
    assert location.tick() == ([], "no day has a gap that a backfill may still fill")


def test_an_open_gap_asks_for_one_run_of_its_day(location: Location, data: Data) -> None:
    data.report(DAY, gap())
    ((request,), _) = location.tick()
    assert request.partition_key == "2026-04-09"
    assert request.tags["dagster/partition"] == request.tags["shijim/day"] == "2026-04-09"
    assert (request.tags["shijim/started_by"], request.tags["shijim/attempt"]) == ("gap_sensor", "1")
    assert str(request.run_key).endswith(":1")
    assert location.tick()[0] == [request], "not run yet: the same key, which the daemon holds to one run"


def test_a_gap_that_the_ledger_has_not_heard_of_asks_too(location: Location, data: Data) -> None:
    data.report(DAY, gap(), recorded=False)
    assert len(location.tick()[0]) == 1


def test_a_run_that_fills_the_gaps_is_the_end_of_it(location: Location, data: Data) -> None:
    data.report(DAY, gap())
    location.run(location.tick()[0][0], "fills")
    assert location.tick() == ([], "no day has a gap that a backfill may still fill")


def test_a_changed_report_with_a_new_gap_asks_again(location: Location, data: Data) -> None:
    data.report(DAY, gap())
    (first,) = location.tick()[0]
    location.run(first, "fills")
    location.tick()
    data.report(DAY, gap(), gap(total_from=500))
    (second,) = location.tick()[0]
    assert second.run_key != first.run_key
    assert second.tags["shijim/attempt"] == "1"


@pytest.mark.parametrize(
    "tags",
    [
        {"dagster/partition": "2026-04-09"},
        {"dagster/asset_partition_range_start": "2026-04-07", "dagster/asset_partition_range_end": "2026-04-10"},
    ],
)
def test_nothing_is_asked_for_while_a_run_is_at_that_day(location: Location, data: Data, tags: dict[str, str]) -> None:
    data.report(DAY, gap())
    run_id = location.start(tags)
    assert location.tick() == ([], f"2026-04-09: 1 open gaps, and run {run_id[:8]} of backfill_job is at that day")
    location.instance.delete_run(run_id)
    location.start({"dagster/partition": "2026-04-08"})
    assert len(location.tick()[0]) == 1


@pytest.mark.parametrize("status", sorted(set(sensors._ACTIVE) - {dg.DagsterRunStatus.QUEUED}, key=str), ids=str)
def test_a_run_is_at_a_day_from_its_creation_to_its_end(
    location: Location, data: Data, status: dg.DagsterRunStatus
) -> None:
    data.report(DAY, gap())
    location.start({"dagster/partition": "2026-04-09"}, status)
    assert location.tick()[0] == []


# Gaps: attempts


@pytest.mark.parametrize("outcome", ["fails", "does nothing"])
def test_three_attempts_with_growing_pauses_then_the_gaps_are_given_up(
    location: Location, data: Data, outcome: str
) -> None:
    data.report(DAY, gap(), gap(total_from=500))
    keys = []
    for ahead_ns in (0, 16 * MINUTE_NS, 16 * MINUTE_NS + 20 * DAY_NS):
        location.ahead_ns = ahead_ns
        (request,) = location.tick()[0]
        keys.append(str(request.run_key))
        location.run(request, outcome)
        if len(keys) < 3:
            requests, words = location.tick()
            assert requests == []
            assert f"attempt {len(keys) + 1} of 3 not before " in words
    assert [key.rsplit(":", 1)[1] for key in keys] == ["1", "2", "3"]
    assert len({key.rsplit(":", 1)[0] for key in keys}) == 1
    requests, words = location.tick()
    assert requests == []
    assert "2 gaps are given up as unfillable after 3 attempts" in words
    assert data.states(DAY) == [State.UNRECOVERABLE] * 2
    assert "unfillable" in str(read_ledger(data.reports_dir, DAY)[-1].evidence["reason"])
    assert location.tick() == ([], "no day has a gap that a backfill may still fill")


def test_a_lost_cursor_does_not_restart_the_attempts(location: Location, data: Data) -> None:
    data.report(DAY, gap())
    location.run(location.tick()[0][0], "fails")
    location.cursor = None
    assert "attempt 2 of 3 not before" in location.tick()[1]
    location.ahead_ns = 16 * MINUTE_NS
    for cursor in (None, "", "[]", "not json", '{"settled": 3}'):
        location.cursor = cursor
        assert location.tick()[0][0].tags["shijim/attempt"] == "2"


def test_an_attempt_that_filled_some_of_the_gaps_is_followed_by_one_at_the_rest(location: Location, data: Data) -> None:
    data.report(DAY, gap(), gap(total_from=500))
    (first,) = location.tick()[0]
    location.run(first, "does nothing")
    entry = open_gaps(data.reports_dir, DAY)[0]
    advance(data.reports_dir, DAY, [Change(entry.gap_id, State.BACKFILLED)], "test", 2)
    (second,) = location.tick()[0]
    assert second.tags["shijim/attempt"] == "1"
    assert second.run_key != first.run_key


def test_a_day_is_given_up_whatever_its_attempts_fill(location: Location, data: Data) -> None:
    for number in range(sensors.DAY_ATTEMPTS_MAX):
        data.report(DAY, gap(total_from=1_000 * number))
        location.run(location.tick()[0][0], "does nothing")
    data.report(DAY, gap(total_from=99))
    assert "0 attempts at them, 12 at the day" in location.tick()[1]
    assert open_gaps(data.reports_dir, DAY) == []


def test_gaps_the_ledger_has_not_heard_of_are_given_up_in_it_too(location: Location, data: Data) -> None:
    data.report(DAY, gap(), recorded=False)
    for ahead_ns in (0, 16 * MINUTE_NS, 20 * DAY_NS):
        location.ahead_ns = ahead_ns
        location.run(location.tick()[0][0], "fails")
    location.tick()
    assert data.states(DAY) == [State.UNRECOVERABLE]


@pytest.mark.parametrize(
    ("attempts", "ended", "wanted"),
    [
        (0, "2026-04-09 15:00", "2026-04-09 15:00"),
        (1, "2026-04-09 15:00", "2026-04-09 15:15"),
        (2, "2026-04-09 15:15", "2026-04-10 08:05"),
        (2, "2026-04-09 07:00", "2026-04-09 08:05"),
        (2, "2026-04-09 08:05", "2026-04-10 08:05"),
        (2, "2026-04-10 15:15", "2026-04-13 08:05"),  # a Friday: the budget is new on Monday
        (2, "2026-04-11 06:00", "2026-04-13 08:05"),
        (2, "2026-02-11 15:15", "2026-02-23 08:05"),
    ],
)
def test_the_last_attempt_waits_for_a_new_budget(attempts: int, ended: str, wanted: str) -> None:
    ended_ns = to_exchange_ns(datetime.fromisoformat(ended))
    assert wall_clock(not_before_ns(Attempts(attempts, attempts, ended_ns))) == datetime.fromisoformat(wanted)


# Gaps: files that are not as they were written


@pytest.mark.parametrize("damage", ["edited", "torn", "empty", "not a report"])
def test_a_damaged_report_is_named_and_other_days_go_on(
    location: Location, data: Data, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = data.report(DAY, gap())
    whole = path.read_bytes()
    other = previous_trading_day(DAY)
    data.report(other, gap())
    broken = {"edited": whole.replace(b"feed_loss", b"feedloss"), "torn": whole[: len(whole) // 2], "empty": b""}
    path.write_bytes(broken.get(damage, b"[]"))
    requests, _ = location.tick()
    assert [request.partition_key for request in requests] == [str(other)]
    assert capfd.readouterr().err.count(" - ERROR - ") == 1
    location.run(requests[0], "fills")
    for _ in range(2):
        requests, words = location.tick()
        assert requests == []
        assert str(path) in words
    assert " - ERROR - " not in capfd.readouterr().err, "raised once for a change"
    path.write_bytes(whole)
    assert len(location.tick()[0]) == 1


def test_a_damaged_ledger_is_named_and_asks_for_nothing(location: Location, data: Data) -> None:
    data.report(DAY, gap())
    path = ledger_path(data.reports_dir, DAY)
    path.write_bytes(path.read_bytes().replace(b"feed_loss", b"feedloss"))
    requests, words = location.tick()
    assert requests == []
    assert str(path) in words


def test_what_is_no_report_beside_the_reports_is_left_alone(location: Location, data: Data) -> None:
    path = data.report(DAY)
    path.with_name("2026-04-09.123.draft").write_bytes(b"half")
    path.with_name("notes-of-mine.json").write_bytes(b"{}")
    path.with_name("2026-99-99.json").write_bytes(b"{}")
    assert location.tick() == ([], "no day has a gap that a backfill may still fill")


def test_a_person_is_told_of_damage_and_of_what_was_given_up_one_at_a_time(data: Data, tmp_path: Path) -> None:
    told = tmp_path / "told.jsonl"
    command = f"sh -c 'cat >> {told}; echo >> {told}'"
    location = Location(data, tmp_path / "home", command)
    with location.instance:
        path = data.report(DAY, gap())
        path.write_bytes(b"")
        ledger = ledger_path(data.reports_dir, previous_trading_day(DAY))
        data.report(previous_trading_day(DAY), gap())
        ledger.write_bytes(b"nonsense\n")
        for expected in (1, 2, 2):
            location.tick()
            alerts = [orjson.loads(line) for line in told.read_bytes().splitlines()]
            assert len(alerts) == expected
    assert {alert["what"] for alert in alerts} == {"damaged_file"}
    assert {alert["partition"] for alert in alerts} == {"2026-04-08", "2026-04-09"}


# Gaps: size


def many_days(count: int) -> list[date]:
    days = [date(2026, 11, 20)]
    while len(days) < count:
        days.append(previous_trading_day(days[-1]))
    return days


def test_many_days_at_once_are_asked_for_a_few_at_a_time_newest_first(location: Location, data: Data) -> None:
    days = many_days(8)
    for day in days:
        data.report(day, gap())
    requests, _ = location.tick()
    assert [request.partition_key for request in requests] == [str(day) for day in days[:5]]


def test_a_year_of_reports_is_looked_through_in_a_few_evaluations_and_then_costs_little(
    location: Location, data: Data
) -> None:
    for day in many_days(250):
        data.report(day, gap())
        give_up(data.reports_dir, day, "test", "test", 2)
    looks = 250 // sensors.DAYS_MAX
    for look in range(1, looks + 1):
        began_ns = time.perf_counter_ns()
        assert (location.tick()[1] == "older days are looked at next time") is (look < looks)
        assert time.perf_counter_ns() - began_ns < 10 * SECOND_NS
    began_ns = time.perf_counter_ns()
    assert location.tick() == ([], "no day has a gap that a backfill may still fill")
    assert time.perf_counter_ns() - began_ns < SECOND_NS
    assert len(str(location.cursor)) < 40_000


# Backlog


class Replay:
    """The backlog sensor with an archive, a server's confirmations, and a job that does as told."""

    def __init__(self, folder: Path, server: bool = True) -> None:
        @dg.op
        def ship() -> None:
            if self.fails:
                raise RuntimeError("ClickHouse is down")

        @dg.job
        def replay_job() -> None:
            ship()

        self.fails = False
        self.ahead_ns = 0
        self.job = replay_job
        self.archive_dir, self.shipped_dir = folder / "archive", folder / "shipped" / "one"
        self.instance = dg.DagsterInstance.local_temp(str(folder))
        clock = lambda: time.time_ns() + self.ahead_ns  # noqa: E731
        self.sensor = sensors.backlog_sensor(replay_job, self.archive_dir, self.shipped_dir if server else None, clock)

    def archive(self, segment: int) -> None:
        (self.archive_dir / MANIFESTS).mkdir(parents=True, exist_ok=True)
        manifest = {"run_id": "a" * 16, "segment": segment, "files": [{"sha256": f"{segment}"}]}
        (self.archive_dir / MANIFESTS / f"{'a' * 16}-{segment:04}.json").write_bytes(orjson.dumps(manifest))

    def confirm(self, segment: int) -> None:
        self.shipped_dir.mkdir(parents=True, exist_ok=True)
        file = ShippedFile("ticks", DAY, f"{segment}", (1, 0), 0)
        confirm(self.shipped_dir, Confirmation("a" * 16, segment, (file,)))

    def tick(self) -> tuple[list[dg.RunRequest], str]:
        with dg.build_sensor_context(self.instance) as context:
            answer = self.sensor.evaluate_tick(context)
        return list(answer.run_requests or []), answer.skip_message or ""

    def run(self, request: dg.RunRequest, fails: bool) -> None:
        self.fails = fails
        self.job.execute_in_process(instance=self.instance, tags=dict(request.tags), raise_on_error=False)


@pytest.fixture
def replay(tmp_path: Path) -> Iterator[Replay]:
    made = Replay(tmp_path)
    with made.instance:
        yield made


def test_without_a_server_the_sensor_says_lake_mode(tmp_path: Path) -> None:
    replay = Replay(tmp_path, server=False)
    with replay.instance:
        replay.archive(1)
        assert replay.tick() == ([], "lake mode: CLICKHOUSE_DSN names no server, so there is nothing to ship")


def test_segments_that_wait_are_shipped_by_one_run_at_a_time(replay: Replay) -> None:
    assert replay.tick() == ([], "the server has confirmed every archived segment")
    replay.archive(1)
    assert len(replay.tick()[0]) == 1
    run = replay.instance.create_run_for_job(replay.job, status=dg.DagsterRunStatus.STARTED)
    assert replay.tick() == ([], f"1 segments wait; run {run.run_id[:8]} is shipping")


@pytest.mark.parametrize("fails", [True, False])
def test_runs_that_ship_nothing_are_repeated_ever_more_rarely(replay: Replay, fails: bool) -> None:
    replay.archive(1)
    (request,) = replay.tick()[0]
    for minutes in (5, 10, 20, 40, 60, 60):
        replay.run(request, fails)
        replay.ahead_ns = (minutes - 1) * MINUTE_NS
        assert "not before" in replay.tick()[1]
        replay.ahead_ns = (minutes + 1) * MINUTE_NS
        (request,) = replay.tick()[0]
        replay.ahead_ns = 0


def test_after_a_run_that_shipped_something_the_next_is_asked_for_at_once(replay: Replay) -> None:
    replay.archive(1)
    replay.run(replay.tick()[0][0], fails=False)
    replay.confirm(1)
    replay.archive(2)
    assert len(replay.tick()[0]) == 1


# What was recorded


Told = dict[str, dict[str, int]]


def recorded(instance: dg.DagsterInstance, wal_dir: Path, cursor: str | None = None) -> tuple[Told, str]:
    """Trading day → what is told of it, and the cursor."""
    with dg.build_sensor_context(instance, cursor=cursor) as context:
        answer = sensors.recorded_sensor("recorded_segments", wal_dir).evaluate_tick(context)
    told = {}
    for event in answer.asset_events:
        assert isinstance(event, dg.AssetMaterialization)
        assert event.asset_key == dg.AssetKey("recorded_segments")
        told[str(event.partition)] = {name: int(str(value.value)) for name, value in event.metadata.items()}
    assert told or answer.skip_message == f"nothing new was sealed in {wal_dir}"
    return told, answer.cursor or ""


def test_what_is_sealed_is_told_once_by_the_trading_day_it_belongs_to(tmp_path: Path) -> None:
    wal_dir = tmp_path / "wal"
    friday_night = made_records.trades("TXFD6", "2026-04-10 15:00:00", [1, 2, 3])
    monday = made_records.trades("TXFD6", "2026-04-13 08:45:00", [1, 2])
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert recorded(instance, wal_dir)[0] == {}
        made_records.write_log(wal_dir, friday_night, "a" * 16)
        told, cursor = recorded(instance, wal_dir)
        assert {day: counts["events"] for day, counts in told.items()} == {"2026-04-13": 3}
        assert recorded(instance, wal_dir, cursor)[0] == {}
        made_records.write_log(wal_dir, monday, "b" * 16)
        told, cursor = recorded(instance, wal_dir, cursor)
        assert told["2026-04-13"]["events"] == 5, "the night before is a part of the day"
        assert told["2026-04-13"]["segments"] == 2
        assert told["2026-04-13"]["unreadable"] == 0
        assert told["2026-04-13"]["bytes"] == sum(path.stat().st_size for path in wal_dir.rglob("*.wal"))


def test_a_segment_that_is_written_is_not_told_and_one_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    wal_dir = tmp_path / "wal"
    (path,) = made_records.write_log(wal_dir, made_records.trades("TXFD6", "2026-04-09 09:00:00", [1, 2]), "a" * 16)
    (wal_dir / "import-of-something").mkdir()
    whole = path.read_bytes()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        path.write_bytes(whole[:-100])
        assert recorded(instance, wal_dir)[0] == {}
        path.write_bytes(b"nonsense" * 100)
        told, _ = recorded(instance, wal_dir, "[]")
    assert told == {"2026-04-09": {"segments": 0, "events": 0, "bytes": 0, "unreadable": 1}}
