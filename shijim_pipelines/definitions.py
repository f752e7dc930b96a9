"""The daily run, flat and whole: a partition is a trading day, a symbol is a column, every asset a sentence.

    live      recorded_segments                      what `shijim-live record`, `import` and `backfill` wrote
                     │
    market    instruments ─► universe ◄─ daily_quotes of the days before       08:00, read by `record`
                     │            │      daily_quotes of the day ──────────────┐
    archive   ticks · books ─► fallback_replay ─► ClickHouse, where there is one│
                     │  blocking: sound                                        │
    proof     gaps ◄─┴─────────────────────────────────────────────────────────┤   14:45, and 05:30 after a night
                └─► gap_ledger ─► backfill ─► certificate ◄────────────────────┘
                                  a sensor asks again for what is still open
    products  quality · hft_dataset ─► backtest

The same functions stand behind `shijim <verb>`. Not here: any work, any SQL, any state.
"""

from __future__ import annotations

import warnings

import dagster as dg

# Partition mappings, single-run backfills and partitioned checks may still change after Dagster 1.13, which is why the
# version is bounded; what is used of them is pinned by tests.
for unfinished in (dg.BetaWarning, dg.PreviewWarning):
    warnings.filterwarnings("ignore", category=unfinished)

from shijim_live import calendar  # noqa: E402
from shijim_live.settings import Settings  # noqa: E402

settings = Settings.from_environment()
calendar.follow(settings.calendar_overrides)  # before the partitions, which leave out the closures known by then

from shijim_pipelines.daily import jobs, listing, market, products, proof, recorded  # noqa: E402
from shijim_pipelines.daily.alerts import failure_sensor  # noqa: E402
from shijim_pipelines.daily.console import console  # noqa: E402
from shijim_pipelines.daily.resources import BrokerHistory, Place  # noqa: E402
from shijim_pipelines.daily.schedules import schedules  # noqa: E402
from shijim_pipelines.daily.sensors import backlog_sensor, gap_sensor, recorded_sensor  # noqa: E402

defs = dg.Definitions(
    assets=[
        recorded.recorded_segments,
        recorded.ticks_and_books,
        recorded.fallback_replay,
        market.instruments,
        market.daily_quotes,
        market.universe,
        proof.gaps,
        proof.gap_ledger,
        proof.backfill,
        proof.certificate,
        products.quality,
        products.hft_dataset,
        products.backtest,
    ],
    asset_checks=[recorded.sound_ticks, recorded.sound_books],
    jobs=[
        jobs.whole_day,
        jobs.before_the_open,
        jobs.after_close,
        jobs.after_night,
        jobs.ask_again,
        jobs.ship,
        listing.renew_contracts,
    ],
    schedules=[*schedules(jobs.before_the_open, jobs.after_close, jobs.after_night), listing.contracts_renewed],
    sensors=[
        gap_sensor(jobs.ask_again, settings.reports_dir, settings.alert_command, settings.alert_webhook),
        backlog_sensor(jobs.ship, settings.archive_dir, settings.shipped_dir),
        recorded_sensor("recorded_segments", settings.wal_dir),
        failure_sensor(settings.alert_command, settings.alert_webhook),
    ],
    loggers={"console": console},
    resources={"place": Place(), "broker": BrokerHistory()},
    # Steps are short and share an engine and caches: a process for each would take three times as long.
    executor=dg.in_process_executor,
)
