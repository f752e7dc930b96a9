"""What is launched together. A job's partition is the trading day of its assets."""

from __future__ import annotations

from typing import Final

import dagster as dg

_ALL: Final = dg.AssetSelection.all()
_BEFORE_THE_OPEN: Final = dg.AssetSelection.assets("instruments", "universe")
_BUILT: Final = dg.AssetSelection.assets("quality", "hft_dataset", "backtest")

whole_day = dg.define_asset_job("whole_day", _ALL, description="Everything of one trading day, in order.")
before_the_open = dg.define_asset_job(
    "before_the_open", _BEFORE_THE_OPEN, description="What is listed and what to record; `record` reads it."
)
after_close = dg.define_asset_job(
    "after_close", _ALL - _BEFORE_THE_OPEN, description="Archive, audit, backfill, certify, judge, build."
)
after_night = dg.define_asset_job(
    "after_night", _ALL - _BEFORE_THE_OPEN - _BUILT, description="The same for a night session; nothing is built yet."
)
ask_again = dg.define_asset_job(
    "ask_again",
    dg.AssetSelection.assets("gap_ledger", "backfill", "certificate"),
    description="Another attempt at the gaps that are still open; the gap sensor launches it.",
)
ship = dg.define_asset_job(
    "ship", dg.AssetSelection.assets("fallback_replay"), description="What ClickHouse has not confirmed."
)
