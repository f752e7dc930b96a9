"""What every asset of the daily run has in common: partitions, owners, pools, retries. Said once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from shijim_pipelines.daily.partitions import trading_days

# Dagster reads the annotation of an asset, and knows the class but not its generic form.
if TYPE_CHECKING:
    Result = dg.MaterializeResult[None]
else:
    Result = dg.MaterializeResult

OWNERS: Final = ["team:market-data"]
ONE_RUN: Final = dg.BackfillPolicy.single_run()  # a range of days is one run; assets loop over its keys

# Pools: the broker counts questions a person, and one writer at a time keeps a store's files in order.
BROKER_HISTORY: Final = "broker_history"
STORE: Final = "store"

# For a broker or a server that is away for a moment; what asking again cannot change is a Failure without retries.
AGAIN: Final = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


def daily_asset(
    group: str,
    kinds: set[str],
    pool: str,
    *,
    deps: Sequence[Any] = (),
    checks: Sequence[dg.AssetCheckSpec] = (),
    metadata: Mapping[str, Any] | None = None,
    freshness: dg.FreshnessPolicy | None = None,
    partitions: dg.PartitionsDefinition | None = trading_days,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """An asset named like its function, of one trading day; without partitions it is of all days at once."""

    def of(function: Callable[..., Any]) -> dg.AssetsDefinition:
        return dg.asset(
            function,
            partitions_def=partitions,
            backfill_policy=ONE_RUN if partitions else None,
            group_name=group,
            owners=OWNERS,
            kinds=kinds,
            pool=pool,
            retry_policy=AGAIN,
            deps=deps,
            check_specs=checks,
            metadata=metadata,
            freshness_policy=freshness,
        )

    return of
