"""The stages as a verb and an asset call them, over days that follow each other: nothing undoes what stands."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from made_records import ns, trades, write_log
from test_daily_run import record

from shijim_live.broker.history import HistoryUnavailable
from shijim_live.settings import Settings
from shijim_pipelines import stages
from shijim_pipelines.archive import archive_all
from shijim_pipelines.proof import backfill
from shijim_pipelines.proof.gap_report import report_path
from shijim_pipelines.proof.ledger import open_gaps
from shijim_pipelines.universe import UniverseRefused

DAY, NEXT = date(2026, 4, 9), date(2026, 4, 10)
AFTER_CLOSE, NEXT_MORNING = ns("2026-04-09 14:45:00"), ns("2026-04-10 08:00:00")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A day that is certified at 14:45, before the exchange's table of its stocks is out."""
    folder = tmp_path_factory.mktemp("stages")
    record(folder, DAY, seed=2)
    made = Settings.load({"SHIJIM_DATA_DIR": str(folder), "UNIVERSE_LOOKBACK_DAYS": "1"}, folder)
    archive_all(made.wal_dir, made.archive_dir)
    stages.take_quotes(made, DAY, stages.history_of(made, DAY), AFTER_CLOSE)
    stages.audit_day(made, DAY, AFTER_CLOSE)
    assert proven(made, AFTER_CLOSE) < 18, "what is missing is not proven"
    stages.fill_gaps(made, DAY, "test", AFTER_CLOSE)
    return made


def proven(settings: Settings, now_ns: int) -> int:
    return stages.certify(settings, DAY, "test", now_ns).summary()["proven"]


def test_ranking_the_next_day_leaves_the_day_as_proven_as_it_was(settings: Settings) -> None:
    before = proven(settings, AFTER_CLOSE)
    assert before == 18
    ranked, _ = stages.choose(settings, NEXT, stages.history_of(settings, NEXT), NEXT_MORNING)
    assert ranked.lookback == (DAY,)
    stages.audit_day(settings, DAY, NEXT_MORNING)
    assert proven(settings, NEXT_MORNING) == before


def test_a_recorded_day_gets_no_universe_after_the_fact(settings: Settings) -> None:
    with pytest.raises(UniverseRefused, match="was recorded without a universe"):
        stages.choose(settings, DAY, stages.history_of(settings, DAY), NEXT_MORNING)


def test_a_universe_stands_once_its_day_is_recorded(tmp_path: Path) -> None:
    environment = {"SHIJIM_DATA_DIR": str(tmp_path), "UNIVERSE_LOOKBACK_DAYS": "1", "UNIVERSE_LIMIT": "5"}
    settings = Settings.load(environment, tmp_path)
    chosen, path = stages.choose(settings, DAY, stages.history_of(settings, DAY), NEXT_MORNING)
    before = path.read_bytes()
    record(tmp_path, DAY)
    wider = Settings.load(environment | {"UNIVERSE_LIMIT": "15"}, tmp_path)
    assert stages.choose(wider, DAY, stages.history_of(wider, DAY), NEXT_MORNING)[0] == chosen
    assert path.read_bytes() == before and len(chosen.chosen) == 5


def test_a_file_of_another_time_that_cannot_be_read_stops_no_day(settings: Settings) -> None:
    broken = settings.wal_dir / "2024-01-03-day" / "00000000000000ee-0001.wal"
    broken.parent.mkdir()
    broken.write_bytes(bytes(4_096))
    try:
        report, _ = stages.audit_day(settings, DAY, NEXT_MORNING)
        assert not any(str(broken) in note for note in report.notes)
        beside = settings.wal_dir / f"{DAY}-day" / "00000000000000ee-0002.wal"
        beside.write_bytes(bytes(4_096))
        report, _ = stages.audit_day(settings, DAY, NEXT_MORNING)
        assert any(str(beside) in note for note in report.notes), "of its own day it is told"
        beside.unlink()
    finally:
        broken.unlink()


def test_building_a_dataset_leaves_the_report_as_it_is(settings: Settings) -> None:
    from shijim_pipelines.datasets import Request
    from shijim_pipelines.hft_dataset import FeedLatency

    path = report_path(settings.reports_dir, DAY)
    before = path.read_bytes()
    request = Request(DAY, "2330", None, None, FeedLatency(5_000_000))
    assert len(list(stages.build_datasets(settings, [request], AFTER_CLOSE))) == 1
    assert path.read_bytes() == before


def moved(folder: Path, source: str, clock: str = "real") -> Settings:
    """A day with a gap that is archived and audited, and its log somewhere else."""
    whole = trades("TXFD6", "2026-04-09 08:45:00", [1, 2, 3, 1, 2, 3, 1, 2, 3, 1])
    write_log(folder / "wal", whole[:4] + whole[6:], source=source, clock=clock)
    settings = Settings.load({"SHIJIM_DATA_DIR": str(folder)}, folder)
    archive_all(settings.wal_dir, settings.archive_dir)
    stages.audit_day(settings, DAY, AFTER_CLOSE)
    settings.wal_dir.rename(folder / "pruned")
    return settings


@pytest.mark.parametrize("source", ["shioaji", "shioaji-simulation"])
def test_a_day_whose_log_is_elsewhere_is_asked_of_whom_its_gaps_name(source: str, tmp_path: Path) -> None:
    settings = moved(tmp_path, source)
    with pytest.raises(HistoryUnavailable, match=rf"recorded from {source} \(.*2026-04-09.jsonl\), .*: .*SHIOAJI_"):
        stages.fill_gaps(settings, DAY, "test", AFTER_CLOSE)
    assert [entry.gap.lots for entry in open_gaps(settings.reports_dir, DAY) if entry.gap] == [5]


def test_gaps_of_an_import_whose_log_is_elsewhere_are_given_up(tmp_path: Path) -> None:
    settings = moved(tmp_path, "import:txf_l5", "absent")
    done = stages.fill_gaps(settings, DAY, "test", AFTER_CLOSE)
    assert isinstance(done, stages.GivenUp) and done.gaps == 1 and "an import is all that its file holds" in done.reason


def test_of_a_simulated_day_whose_log_is_elsewhere_the_proof_decides(tmp_path: Path) -> None:
    done = stages.fill_gaps(moved(tmp_path, "simulated", "simulated"), DAY, "test", AFTER_CLOSE)
    assert isinstance(done, backfill.Backfilled) and (done.gaps, done.unrecoverable, done.asked) == (0, 0, ("TXFD6",))


def test_a_backfill_in_the_log_is_no_other_recording(tmp_path: Path) -> None:
    settings = moved(tmp_path, "shioaji")
    filled = trades("TXFD6", "2026-04-09 08:45:04", [2], 7)
    write_log(
        settings.wal_dir, filled, "00000000000000cd", source="backfill", clock="absent", config={"fills": "shioaji"}
    )
    with pytest.raises(HistoryUnavailable, match=r"2026-04-09 was recorded from shioaji .*set SHIOAJI_"):
        stages.fill_gaps(settings, DAY, "test", AFTER_CLOSE)
