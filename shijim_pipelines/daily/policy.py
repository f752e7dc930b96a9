"""What every asset of the daily run has in common: partitions, owners, pools, retries. Said once."""

from __future__ import annotations

from typing import Any, Final

import dagster as dg

from shijim_pipelines.daily.partitions import trading_days

OWNERS: Final = ["team:market-data"]

# Pools: the broker counts questions a person, and one writer at a time keeps the store's files in order.
BROKER_HISTORY: Final = "broker_history"
STORE: Final = "store"

# A broker or a server that is away for a moment; what a question cannot change is a Failure without retries.
AGAIN: Final = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


def of_the_day(group: str, kinds: set[str], pool: str | None = None, **more: Any) -> dict[str, Any]:
    """Arguments of an asset of one trading day; a range of days is one run."""
    retries = {"retry_policy": AGAIN} if pool else {}
    return {
        "partitions_def": trading_days,
        "backfill_policy": dg.BackfillPolicy.single_run(),
        "group_name": group,
        "owners": OWNERS,
        "kinds": kinds,
        "pool": pool,
        **retries,
        **more,
    }
