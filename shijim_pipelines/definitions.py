"""The daily run, flat and whole: a partition is a trading day, a symbol is a column, every asset a sentence.

    live      recorded_segments                      what `shijim-live record` and `shijim import` wrote
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

# Partition mappings and single-run backfills are beta in Dagster 1.13; what is used of them is pinned by tests.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

from shijim_pipelines.daily import market, products, proof, recorded  # noqa: E402
from shijim_pipelines.daily.jobs import JOBS  # noqa: E402
from shijim_pipelines.daily.resources import BrokerHistory, Place  # noqa: E402
from shijim_pipelines.daily.schedules import SCHEDULES  # noqa: E402
from shijim_pipelines.daily.sensors import SENSORS  # noqa: E402

defs = dg.Definitions(
    assets=[
        recorded.recorded_segments,
        market.instruments,
        market.daily_quotes,
        market.universe,
        recorded.archived,
        recorded.fallback_replay,
        proof.gaps,
        proof.gap_ledger,
        proof.backfill,
        proof.certificate,
        products.quality,
        products.hft_dataset,
        products.backtest,
    ],
    asset_checks=[recorded.sound_ticks, recorded.sound_books],
    jobs=JOBS,
    schedules=SCHEDULES,
    sensors=SENSORS,
    resources={"place": Place(), "broker": BrokerHistory()},
    # Steps are short and share a lake and caches: a process each would take three times as long.
    executor=dg.in_process_executor,
)
