"""The instance folder of the orchestrator: what is in git is an instance that loads, without a word of warning."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import dagster as dg
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", tmp_path)
    return tmp_path


def test_the_instance_is_what_the_file_says(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with dg.DagsterInstance.from_config(str(home)) as instance:
            assert not instance.telemetry_enabled
            assert not instance.nux_enabled
            assert instance.run_monitoring_enabled
            assert instance.run_retries_enabled
            assert instance.run_retries_max_retries == 2
            assert not instance.run_retries_retry_on_asset_or_op_failure
            limits = instance.get_concurrency_config()
            assert limits.pool_config.default_pool_limit == 1
            assert str(limits.pool_config.pool_granularity) == "PoolGranularity.OP"
            queue = limits.run_queue_config
            assert queue is not None
            assert queue.max_concurrent_runs == 2
            assert queue.tag_concurrency_limits == [
                {"key": "dagster/partition", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
            ]
            assert instance.get_tick_retention_settings(dg._core.definitions.run_request.InstigatorType.SENSOR)
    assert caplog.records == []


def test_the_state_lies_beside_the_file(home: Path) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:

        @dg.job
        def nothing() -> None: ...

        nothing.execute_in_process(instance=instance)
        assert len(instance.get_runs()) == 1
    assert (home / "history" / "runs.db").is_file()


def test_dagster_reports_the_instance_without_a_warning(home: Path) -> None:
    command = [sys.executable, "-W", "error::DeprecationWarning", "-m", "dagster", "instance", "info"]
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "max_concurrent_runs: 2" in said.stdout
    assert "warn" not in said.stderr.lower()
