"""Before the open: what is listed, what it traded on the days before, and what to record today."""

from __future__ import annotations

import dagster as dg

from shijim_live.broker.history import HistoryUnavailable
from shijim_pipelines import pictures, quotes
from shijim_pipelines.daily import shown
from shijim_pipelines.daily.policy import BROKER_HISTORY, of_the_day
from shijim_pipelines.daily.resources import BrokerHistory, Place, days, now_ns, said_plainly
from shijim_pipelines.universe import choose_universe, write_universe

GROUP = "market"


@dg.asset(
    **of_the_day(GROUP, {"shioaji", "parquet"}, BROKER_HISTORY, metadata=shown.columns(quotes.INSTRUMENTS_SCHEMA))
)
def instruments(context: dg.AssetExecutionContext, place: Place, broker: BrokerHistory) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """What can be subscribed on the day, with reference prices and limits, as the broker lists it."""
    settings = place.settings()
    paths, listed = [], quotes.INSTRUMENTS_SCHEMA.empty_table()
    with said_plainly():
        for day in days(context):
            listed = quotes.fetch_instruments(broker.of(day, settings), day)
            paths.append(quotes.write_instruments(listed, settings.market_dir, day))
    return dg.MaterializeResult(metadata=shown.result(listed.num_rows, paths, listed=shown.table(listed.to_pylist())))


TOTALS_KNOWN = dg.AssetCheckSpec(
    "totals_known", asset="daily_quotes", description="Of every closed session the exchange's totals could be had."
)


@dg.asset(
    **of_the_day(GROUP, {"shioaji", "parquet"}, BROKER_HISTORY, metadata=shown.columns(quotes.SCHEMA)),
    check_specs=[TOTALS_KNOWN],
)
def daily_quotes(context: dg.AssetExecutionContext, place: Place, broker: BrokerHistory) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Prices and volume of every code and closed session: what a universe is ranked by and a certificate held against."""
    settings = place.settings()
    paths, unknown, table = [], [], quotes.SCHEMA.empty_table()
    with said_plainly():
        for day in days(context):
            try:
                table = quotes.quotes_of(day, broker.of(day, settings), settings.market_dir, now_ns())
            except HistoryUnavailable as reason:
                unknown.append(f"{day}: {reason}")
                continue
            paths.append(quotes.write_quotes(table, settings.market_dir, day))
    largest = table.sort_by([("volume", "descending")]).slice(0, shown.ROWS_MAX)
    check = shown.warning(TOTALS_KNOWN.name, "; ".join(unknown))
    metadata = shown.result(table.num_rows, paths, largest=shown.table(largest.to_pylist()))
    return dg.MaterializeResult(metadata=metadata, check_results=[check])


# The quotes of the trading day before, and by way of that partition of all before it.
_BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True)


@dg.asset(
    **of_the_day(GROUP, {"json"}, BROKER_HISTORY),
    deps=[dg.AssetDep(instruments), dg.AssetDep(daily_quotes, partition_mapping=_BEFORE)],
)
def universe(context: dg.AssetExecutionContext, place: Place, broker: BrokerHistory) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """What `shijim-live record` records on the day: ranked by the days before, sharded by expected load."""
    settings = place.settings()
    paths = []
    with said_plainly():
        for day in days(context):
            ranked = choose_universe(day, broker.of(day, settings), settings)
            paths.append(write_universe(ranked, settings.universe_dir))
    picture = pictures.markdown(pictures.ranking(ranked))
    table = shown.table({"code": c.code, "rank": c.rank, "why": ", ".join(c.reasons), "shard": c.shard, "load": c.load}
                        for c in ranked.chosen)  # fmt: skip
    return dg.MaterializeResult(metadata=shown.result(len(ranked.chosen), paths, chosen=table, ranking=picture))
