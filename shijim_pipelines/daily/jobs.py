"""What is launched together. A job's partition is the trading day of its assets."""

from __future__ import annotations

from typing import Final

import dagster as dg

_ALL: Final = dg.AssetSelection.all()
_BEFORE_THE_OPEN: Final = dg.AssetSelection.assets("instruments", "universe")
_BUILT: Final = dg.AssetSelection.assets("quality", "hft_dataset", "backtest")

# A line a sentence on the terminal and in the journal (daily/console.py).
_SPOKEN: Final[dict[str, object]] = {"loggers": {"console": {"config": {}}}}

whole_day = dg.define_asset_job(
    "whole_day", _ALL, config=_SPOKEN, description="Everything of one trading day, in order."
)
before_the_open = dg.define_asset_job(
    "before_the_open",
    _BEFORE_THE_OPEN,
    config=_SPOKEN,
    description="What is listed and what to record; `record` reads it.",
)
after_close = dg.define_asset_job(
    "after_close",
    _ALL - _BEFORE_THE_OPEN,
    config=_SPOKEN,
    description="Archive, audit, backfill, certify, judge, build.",
)
after_night = dg.define_asset_job(
    "after_night",
    _ALL - _BEFORE_THE_OPEN - _BUILT,
    config=_SPOKEN,
    description="The same for a night session; nothing is built yet.",
)
ask_again = dg.define_asset_job(
    "ask_again",
    dg.AssetSelection.assets("ticks", "books", "daily_quotes", "gaps", "gap_ledger", "backfill", "certificate"),
    config=_SPOKEN,
    description="Another attempt at the gaps that are still open; the gap sensor launches it.",
)
ship = dg.define_asset_job(
    "ship",
    dg.AssetSelection.assets("fallback_replay"),
    config=_SPOKEN,
    description="What ClickHouse has not confirmed.",
)
