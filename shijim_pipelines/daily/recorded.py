"""What was recorded: the log of the live process, its verified copy in the archive, and its way to a server."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from shijim_live.store import schema, ship
from shijim_live.store.lake import Lake
from shijim_pipelines import archive, pictures, quality
from shijim_pipelines.daily import shown
from shijim_pipelines.daily.partitions import trading_days
from shijim_pipelines.daily.policy import OWNERS, STORE, of_the_day
from shijim_pipelines.daily.resources import Place, days, said_plainly

GROUP = "archive"

recorded_segments = dg.AssetSpec(
    "recorded_segments",
    description="Sealed segments of the log: what `shijim-live record` and `shijim import` wrote, never changed here.",
    group_name="live",
    owners=OWNERS,
    kinds={"rust"},
    partitions_def=trading_days,
)


_TABLES = {
    "ticks": "Every trade received, as verified Parquet; the lake's view `ticks` hides repeats.",
    "books": "Every book received, five levels a side, as verified Parquet; the lake's view `books`.",
}


@dg.multi_asset(
    name="archive",
    specs=[
        dg.AssetSpec(
            name,
            deps=[recorded_segments],
            description=text,
            group_name=GROUP,
            owners=OWNERS,
            kinds={"parquet"},
            metadata=shown.columns(schema.schema(name)),
        )
        for name, text in _TABLES.items()
    ],
    partitions_def=trading_days,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=STORE,
)
def archived(context: dg.AssetExecutionContext, place: Place) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
    """Copies every sealed segment that is not archived yet: one segment holds several tables, and may hold two days."""
    settings = place.settings()
    with said_plainly():
        wanted = days(context)
        done = archive.archive_all(settings.wal_dir, settings.archive_dir)
        found = [archive.published(settings.archive_dir, day) for day in wanted]
    for skipped in done.skipped:
        context.log.warning(f"left alone: {skipped.path}: {skipped.reason}")
    for failure in done.failed:
        context.log.error(failure.reason)
    pace = pictures.markdown(pictures.events_per_minute(Lake(settings.archive_dir), wanted[-1]))
    for table in _TABLES:
        rows = sum(published[table].rows for published in found)
        paths = [path for published in found for path in published[table].paths]
        yield dg.MaterializeResult(table, metadata=shown.result(rows, paths, per_minute=pace))
    if done.failed:
        raise dg.Failure(f"{len(done.failed)} segments could not be archived: {done.failed[0].reason}")


def _sound(table: str) -> dg.AssetChecksDefinition:
    """What no market can do: nothing downstream may be built on rows that break it."""

    @dg.asset_check(
        name="sound", asset=table, blocking=True, partitions_def=trading_days, pool=STORE,
        description=f"Hard invariants of {table}, by SQL over the archive; a breach stops everything after it.",
    )  # fmt: skip
    def check(context: dg.AssetCheckExecutionContext, place: Place) -> dg.AssetCheckResult:
        settings = place.settings()
        with said_plainly():
            lake = Lake(settings.archive_dir)
            breaches = [breach for day in days(context) for breach in quality.invariants(lake, day, table)]
        worst = "; ".join(f"{breach.name}: {breach.count:,} rows of {', '.join(breach.codes)}" for breach in breaches)
        return dg.AssetCheckResult(
            passed=not breaches,
            description=worst or "every invariant holds",
            metadata={"breaches": shown.table({"what": b.what, "rows": b.count, "codes": ", ".join(b.codes)}
                                              for b in breaches)},
        )  # fmt: skip

    return check


sound_ticks, sound_books = _sound("ticks"), _sound("books")


@dg.asset(**of_the_day(GROUP, {"clickhouse"}, STORE), deps=["ticks", "books"])
def fallback_replay(context: dg.AssetExecutionContext, place: Place) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Ships what a ClickHouse server has not confirmed yet, of any day; without a server there is nothing to ship."""
    settings = place.settings()
    if settings.clickhouse is None:
        return dg.MaterializeResult(metadata={"shipped": "nothing to ship, lake mode: CLICKHOUSE_DSN is not set"})
    with said_plainly():
        done = ship.ship(settings)
    return dg.MaterializeResult(metadata=shown.result(done.rows, segments=done.segments, refused=done.refused))
