"""What is listed, what the day came to, and what to record tomorrow: the broker's word, asked under a quota."""

import dagster as dg

from shijim_live.broker.history import HistoryUnavailable, NotAnswered, QuestionRefused, QuotaExhausted
from shijim_pipelines import contracts, pictures, quotes, stages
from shijim_pipelines.answers import AnswerRefused
from shijim_pipelines.daily import shown
from shijim_pipelines.daily.policy import BROKER_HISTORY, Result, daily_asset
from shijim_pipelines.daily.resources import BrokerHistory, Place, days, now_ns, said_plainly
from shijim_pipelines.daily.schedules import freshness

GROUP = "market"


READY = dg.AssetCheckSpec(
    "ready", asset="instruments", description="There are stocks and futures, and not far fewer than the day before."
)


@daily_asset(
    GROUP,
    {"shioaji", "parquet"},
    BROKER_HISTORY,
    checks=[READY],
    metadata=shown.columns(contracts.INSTRUMENTS_SCHEMA),
)
def instruments(context: dg.AssetExecutionContext, place: Place, broker: BrokerHistory) -> Result:
    """What can be subscribed on the day, with reference prices and limits, as the broker lists it."""
    settings, found = place.settings(), []
    with said_plainly():
        found += [stages.list_instruments(settings, day, broker.of(settings, day), now_ns()) for day in days(context)]
    tables = [table for table, _ in found]
    paths = [quotes.instruments_path(settings.market_dir, day) for day in days(context)]
    context.log.info(f"{tables[-1].num_rows:,} instruments")
    metadata = shown.result(sum(table.num_rows for table in tables), paths, listed=shown.table(tables[-1].to_pylist()))
    said = [line for _, ready in found for line in (*ready.problems, *ready.warnings)]
    return Result(metadata=metadata, check_results=[shown.warning(READY.name, "; ".join(said))])


TOTALS_KNOWN = dg.AssetCheckSpec(
    "totals_known", asset="daily_quotes", description="Of every closed session the exchange's totals could be had."
)


@daily_asset(
    GROUP,
    {"shioaji", "parquet"},
    BROKER_HISTORY,
    deps=["ticks"],
    checks=[TOTALS_KNOWN],
    metadata=shown.columns(quotes.SCHEMA),
)
def daily_quotes(context: dg.AssetExecutionContext, place: Place, broker: BrokerHistory) -> Result:
    """Prices and volume of every closed session, of all stocks and by the minute of what was recorded."""
    settings, paths, unknown = place.settings(), [], []
    table = quotes.SCHEMA.empty_table()
    with said_plainly():
        for day in days(context):
            try:
                table = stages.take_quotes(settings, day, broker.of(settings, day), now_ns())
            except (HistoryUnavailable, NotAnswered, QuestionRefused, QuotaExhausted, AnswerRefused) as reason:
                unknown.append(f"{day}: {reason}")
                continue
            paths.append(quotes.quotes_path(settings.market_dir, day))
            unknown += [f"{day}: no answer for {shown.named(codes)}" for codes in [quotes.unanswered(table)] if codes]
    context.log.info(f"{table.num_rows:,} sessions of codes{'; ' if unknown else ''}{'; '.join(unknown)}")
    largest = table.sort_by([("volume", "descending")]).slice(0, shown.ROWS_MAX)
    return Result(
        metadata=shown.result(table.num_rows, paths, largest=shown.table(largest.to_pylist())),
        check_results=[shown.warning(TOTALS_KNOWN.name, "; ".join(unknown))],
    )


# The quotes of the trading day before, and with them of all before it.
_BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True)


@daily_asset(
    GROUP,
    {"json"},
    BROKER_HISTORY,
    deps=[instruments, dg.AssetDep(daily_quotes, partition_mapping=_BEFORE)],
    freshness=freshness(),
)
def universe(context: dg.AssetExecutionContext, place: Place, broker: BrokerHistory) -> Result:
    """What `shijim-live record` records on the day: ranked by the days before, shared out by expected load."""
    settings, made = place.settings(), []
    with said_plainly():
        made += [
            stages.choose(settings, day, broker.of(settings, day), now_ns(), broker=broker.connection(settings))
            for day in days(context)
        ]
    ranked, path = made[-1]
    context.log.info(f"{len(ranked.chosen):,} codes for {ranked.shards} recorders: {path}")
    rows = ({"code": one.code, "rank": one.rank, "why": ", ".join(one.reasons), "shard": one.shard, "load": one.load}
            for one in ranked.chosen)  # fmt: skip
    metadata = shown.result(
        len(ranked.chosen),
        [path for _, path in made],
        chosen=shown.table(rows),
        ranking=shown.picture(pictures.universe_picture(ranked.chosen, ranked.day), "ranking"),
        notes="\n".join(ranked.notes),
    )
    return Result(metadata=metadata)
