"""The Dagster project as it is deployed: definitions, the chain of a day, and what it says when it cannot go on."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import orjson
import pytest
from real_data import DATA, needs_data
from running_clickhouse import PASSWORD, RunningClickHouse

from shijim_live.calendar import Market, NotYet, next_trading_day, session_bounds, wall_clock
from shijim_live.settings import Settings
from shijim_live.store.lake import Lake
from shijim_pipelines import stages
from shijim_pipelines.definitions import defs

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DAY = date(2026, 4, 9)
EVENTS = 20_000
ASSETS = {
    "ticks", "books", "fallback_replay", "instruments", "daily_quotes", "universe", "gaps", "gap_ledger", "backfill",
    "certificate", "quality", "hft_dataset", "backtest",
}  # fmt: skip


def record(folder: Path, day: date = DAY, seed: int = 1) -> None:
    command = ["shijim-live", "record", "--broker", "simulated", "--day", str(day), "--seed", str(seed)]
    command += ["--events", str(EVENTS), "--metrics-port", "0", "--quiet", "--data-dir", str(folder)]
    subprocess.run([str(BIN / command[0]), *command[1:]], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def launch(
    folder: Path,
    instance: dg.DagsterInstance,
    job: str = "whole_day",
    day: date | str = DAY,
    resources: Mapping[str, object] | None = None,
) -> dg.ExecuteInProcessResult:
    place = {"place": {"config": {"data_dir": str(folder)}}}
    return defs.resolve_job_def(job).execute_in_process(
        partition_key=str(day),
        instance=instance,
        run_config={"resources": place | dict(resources or {})},
        raise_on_error=False,
    )


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What the first failed step of a run says."""
    assert not result.success
    failed = next(event for event in result.all_events if event.is_step_failure)
    return str(failed.event_specific_data.error_display_string)  # type: ignore[union-attr]


def published(folder: Path) -> dict[str, str]:
    """Every file that a chain leaves behind, but the ledger, whose lines have times, and the quota's account."""
    kept = ("archive", "reports", "datasets", "universe", "market")
    files = [path for name in kept for path in sorted((folder / name).rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if "ledger" not in path.parts and not path.name.startswith("quota")
    }


def test_dg_finds_nothing_wrong_with_the_definitions_and_nothing_deprecated() -> None:
    environment = os.environ | {"PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [str(BIN / "dg"), "check", "defs"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "All definitions loaded successfully." in said
    ours = [line for line in said.splitlines() if "eprecat" in line and "shijim" in line]
    assert ours == []
    assert "SupersessionWarning" not in said


def test_loading_the_definitions_imports_no_heavy_package() -> None:
    heavy = ("great_expectations", "chdb", "pandas", "matplotlib", "hftbacktest", "numba", "clickhouse_connect")
    code = f"import sys, shijim_pipelines.definitions; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_asset_is_described_owned_and_grouped() -> None:
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.materializable_asset_keys} == ASSETS
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description and node.owners and node.group_name != "default" and node.kinds, key
        assert node.partitions_def is not None or key.to_user_string() == "fallback_replay", key


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dg.ExecuteInProcessResult]]:
    folder = tmp_path_factory.mktemp("chain")
    record(folder)
    with dg.instance_for_test() as instance:
        yield folder, launch(folder, instance, "after_close")


def test_the_chain_of_a_recorded_day_ends_with_certificates_and_backtests(
    chain: tuple[Path, dg.ExecuteInProcessResult],
) -> None:
    folder, result = chain
    assert result.success
    done = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}
    assert done == ASSETS - {"instruments", "universe"}
    certificates = orjson.loads((folder / "reports" / "certificates" / f"{DAY}.json").read_bytes())
    assert certificates["summary"]["proven"] == len(certificates["certificates"]) == 18
    checks = {(one.asset_key.to_user_string(), one.check_name): one for one in result.get_asset_check_evaluations()}
    assert all(checks[of].passed for of in (("ticks", "sound"), ("books", "sound"), ("certificate", "proven")))
    assert not checks["gaps", "nothing_missing"].passed
    assert checks["gaps", "nothing_missing"].severity is dg.AssetCheckSeverity.WARN


def test_every_materialisation_shows_rows_and_what_a_person_wants_to_see(
    chain: tuple[Path, dg.ExecuteInProcessResult],
) -> None:
    shown = {
        event.asset_key.to_user_string(): event.materialization.metadata
        for event in chain[1].get_asset_materialization_events()
        if event.asset_key
    }
    for asset, metadata in shown.items():
        if asset != "fallback_replay":
            assert "dagster/row_count" in metadata, asset
    pictures = {("ticks", "per_minute"), ("gaps", "timeline"), ("backtest", "busiest")}
    for asset, name in pictures:
        assert "data:image/png;base64," in str(shown[asset][name].value)
    for asset, name in {("certificate", "worst"), ("daily_quotes", "largest"), ("quality", "profile")}:
        assert isinstance(shown[asset][name], dg.TableMetadataValue), asset
    assert "nothing to ship, lake mode" in str(shown["fallback_replay"]["shipped"].value)


def test_a_second_run_changes_no_byte(
    chain: tuple[Path, dg.ExecuteInProcessResult], instance: dg.DagsterInstance
) -> None:
    folder = chain[0]
    before = published(folder)
    assert launch(folder, instance, "after_close").success
    assert published(folder) == before


def test_a_killed_run_leaves_nothing_half_published_and_the_next_converges(
    chain: tuple[Path, dg.ExecuteInProcessResult], tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """Killed when the backfill has written its segment: the worst moment, between the log and what is said of it."""
    folder, home = tmp_path / "data", tmp_path / "home"
    home.mkdir()
    shutil.copytree(chain[0] / "wal", folder / "wal", ignore=shutil.ignore_patterns("backfill-*"))
    environment = os.environ | {"DAGSTER_HOME": str(home), "SHIJIM_DATA_DIR": str(folder)}
    command = [str(BIN / "dg"), "launch", "--job", "after_close", "--partition", str(DAY)]
    run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((folder / "wal").glob("backfill-*")):
        assert run.poll() is None, "the run ended before it was killed"
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert launch(folder, instance, "after_close").success
    assert published(folder) == published(chain[0])


def test_a_place_without_a_log_is_a_failure_that_says_so(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    result = launch(tmp_path, instance, "after_close")
    assert "no such file or folder. Record something first" in failure(result)
    assert not list(result.get_asset_materialization_events())


def test_a_day_to_come_is_no_partition_and_cannot_be_audited(
    chain: tuple[Path, dg.ExecuteInProcessResult], instance: dg.DagsterInstance
) -> None:
    far = next_trading_day(date.today() + timedelta(days=30))  # noqa: DTZ011 - any day to come
    with pytest.raises(dg.DagsterUnknownPartitionError):
        launch(chain[0], instance, "after_close", far)
    before = session_bounds(DAY, Market.FUTURES)[0].open_ns - 1
    with pytest.raises(NotYet, match="2026-04-09"):
        stages.audit_day(Settings.load({"SHIJIM_DATA_DIR": str(chain[0])}, chain[0]), DAY, before)


def test_a_spent_budget_ends_unprovable_and_the_next_run_with_a_new_one_proven(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    record(tmp_path)
    settings = Settings.load({"SHIJIM_DATA_DIR": str(tmp_path)}, tmp_path)
    stages.history_of(settings, DAY).ticks("2412", DAY)
    account = tmp_path / "market" / "quota.json"
    spent = orjson.loads(account.read_bytes()) | {"bytes": 500_000_000}
    account.write_bytes(orjson.dumps(spent))
    poor = launch(tmp_path, instance, "after_night")
    assert poor.success
    checks = {one.check_name: one for one in poor.get_asset_check_evaluations()}
    assert not checks["totals_known"].passed and "bytes of today's traffic are used" in str(
        checks["totals_known"].description
    )
    assert not checks["proven"].passed and not checks["nothing_open"].passed
    account.unlink()
    rich = launch(tmp_path, instance, "ask_again")
    assert {one.check_name: one.passed for one in rich.get_asset_check_evaluations()}["proven"]


def test_a_day_of_which_nothing_was_recorded_is_no_quiet_market(
    chain: tuple[Path, dg.ExecuteInProcessResult], instance: dg.DagsterInstance
) -> None:
    result = launch(chain[0], instance, "after_close", date(2026, 4, 13))
    assert "nothing was recorded of trading day 2026-04-13" in failure(result)
    assert not list(result.get_asset_materialization_events())


def test_a_closed_day_is_no_partition(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    with pytest.raises(dg.DagsterUnknownPartitionError):
        launch(tmp_path, instance, "after_close", "2026-04-11")


def test_a_report_edited_by_hand_stops_the_ledger_in_words(
    chain: tuple[Path, dg.ExecuteInProcessResult], tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(chain[0], folder)
    report = folder / "reports" / "gaps" / f"{DAY}.json"
    report.write_bytes(report.read_bytes().replace(b'"lots": ', b'"lots": 1', 1))
    place = {"resources": {"place": {"config": {"data_dir": str(folder)}}}}
    ledger = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={dg.AssetKey("gap_ledger")})
    result = ledger.execute_in_process(
        partition_key=str(DAY), instance=instance, run_config=place, raise_on_error=False
    )
    said = failure(result)
    assert str(report) in said and "shijim audit" in said
    assert not list(result.get_asset_materialization_events())


def test_a_history_that_lies_ends_red_and_names_who_is_short(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    record(tmp_path, seed=2)
    result = launch(tmp_path, instance, "after_night", resources={"broker": {"config": {"defects": ["wrong_day"]}}})
    assert result.success, "the chain itself goes on"
    checks = {one.check_name: one for one in result.get_asset_check_evaluations()}
    assert not checks["proven"].passed and checks["proven"].severity is dg.AssetCheckSeverity.ERROR
    assert "SHORT TXFD6" in (checks["proven"].description or "")
    assert not checks["nothing_open"].passed
    assert not list((tmp_path / "wal").glob("backfill-*")), "a history that lies fills nothing"


def test_what_a_server_has_not_confirmed_is_shipped_once_and_said_when_it_refuses(
    chain: tuple[Path, dg.ExecuteInProcessResult],
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against the real engine behind ClickHouse's own protocol, as the settings would name it."""
    folder = tmp_path / "data"
    shutil.copytree(chain[0] / "archive", folder / "archive")
    server = RunningClickHouse(tmp_path / "server")
    try:
        monkeypatch.setenv("CLICKHOUSE_DSN", server.dsn("market"))
        server.run("CREATE DATABASE IF NOT EXISTS market")
        rows = [shipped_rows(ship(folder, instance)) for _ in range(2)]
        lake = Lake(folder / "archive").query("SELECT count() AS n FROM ticks")["n"][0].as_py()
        assert rows[0] > lake and rows[1] == 0
        assert int(server.run("SELECT count() FROM market.ticks")) == lake
    finally:
        server.kill()
    shutil.rmtree(next((folder / "shipped").iterdir()))
    refused = failure(ship(folder, instance))
    assert "127.0.0.1" in refused and PASSWORD not in refused


def ship(folder: Path, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    place = {"resources": {"place": {"config": {"data_dir": str(folder)}}}}
    return defs.resolve_job_def("ship").execute_in_process(instance=instance, run_config=place, raise_on_error=False)


def shipped_rows(result: dg.ExecuteInProcessResult) -> int:
    assert result.success
    (event,) = result.get_asset_materialization_events()
    return int(str(event.materialization.metadata["dagster/row_count"].value))


def test_a_range_of_days_is_one_run_with_the_files_of_each(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    days = (date(2026, 4, 9), date(2026, 4, 10), date(2026, 4, 13))  # a weekend lies between the last two
    for day in days:
        record(tmp_path, day)
    config = {"resources": {"place": {"config": {"data_dir": str(tmp_path)}}}}
    result = defs.resolve_job_def("after_night").execute_in_process(
        instance=instance,
        run_config=config,
        raise_on_error=False,
        tags={"dagster/asset_partition_range_start": str(days[0]), "dagster/asset_partition_range_end": str(days[-1])},
    )
    assert result.success
    for day in days:
        certificates = orjson.loads((tmp_path / "reports" / "certificates" / f"{day}.json").read_bytes())
        assert certificates["summary"]["proven"] == len(certificates["certificates"]) == 18, day
    assert not (tmp_path / "reports" / "certificates" / "2026-04-11.json").exists()


@needs_data
def test_the_hole_of_a_real_day_is_found_and_nothing_else_is_called_one(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    files = [str(DATA / "txf_l5" / f"TXFD6_2026-04-{day:02}.parquet") for day in (9, 10)]
    subprocess.run([str(BIN / "shijim"), "import", *files, "--data-dir", str(tmp_path)], check=True)
    result = launch(tmp_path, instance, "after_close", date(2026, 4, 10))
    assert result.success
    report = orjson.loads((tmp_path / "reports" / "gaps" / "2026-04-10.json").read_bytes())
    found = [(gap["gap_type"], gap["symbol"], *(f"{wall_clock(gap[at]):%H:%M:%S}" for at in ("start_ns", "end_ns")))
             for gap in report["gaps"]]  # fmt: skip
    # The second is where the file itself ends, before the close: a fault of its recorder too.
    assert found == [("silence", "TXFD6", "00:10:40", "00:23:05"), ("silence", "TXFD6", "13:41:58", "13:45:00")]
    certificates = orjson.loads((tmp_path / "reports" / "certificates" / "2026-04-10.json").read_bytes())
    assert {one["verdict"] for one in certificates["certificates"]} == {"UNPROVABLE"}
    checks = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
    assert checks["proven"] is False and checks["totals_known"] is False
