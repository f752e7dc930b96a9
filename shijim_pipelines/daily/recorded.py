"""What was recorded: the log of the live process, its verified copy in the archive, and its way to a server."""

from collections.abc import Iterator
from typing import Final

import dagster as dg

from shijim_live.store import schema, ship
from shijim_live.store.lake import Lake
from shijim_pipelines import archive, pictures, stages
from shijim_pipelines.daily import shown
from shijim_pipelines.daily.partitions import trading_days
from shijim_pipelines.daily.policy import AGAIN, ONE_RUN, OWNERS, STORE, Result, daily_asset
from shijim_pipelines.daily.resources import Place, days, said_plainly
from shijim_pipelines.daily.schedules import freshness
from shijim_pipelines.invariants import invariants

GROUP = "archive"

recorded_segments = dg.AssetSpec(
    "recorded_segments",
    description="Sealed segments of the log: what `shijim-live record` and `shijim import` wrote, never changed here.",
    group_name="live",
    owners=OWNERS,
    kinds={"rust"},
    partitions_def=trading_days,
    freshness_policy=freshness(),
)

_TABLES: Final = {
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
    backfill_policy=ONE_RUN,
    retry_policy=AGAIN,
    pool=STORE,
)
def ticks_and_books(context: dg.AssetExecutionContext, place: Place) -> Iterator[Result]:
    """Copies every sealed segment that is not archived yet: one holds several tables, and may hold two days."""
    settings = place.settings()
    with said_plainly():
        wanted = days(context)
        done = archive.archive_all(settings.wal_dir, settings.archive_dir)
        found = [archive.published(settings.archive_dir, day) for day in wanted]
        picture = shown.picture(pictures.activity_picture(Lake(settings.archive_dir), wanted[-1]), "events a minute")
    for skipped in done.skipped:
        context.log.warning(f"left alone: {skipped.path}: {skipped.reason}")
    new = [segment for segment in done.segments if not segment.already]
    context.log.info(
        f"archived {sum(segment.records for segment in new):,} events of {len(new):,} segments, each read back equal; "
        f"{len(done.segments) - len(new):,} were archived before"
    )
    if done.failed:
        raise dg.Failure(f"{len(done.failed)} segments could not be archived: {done.failed[0].reason}")
    for table in _TABLES:
        rows = sum(published[table].rows for published in found)
        paths = [path for published in found for path in published[table].paths]
        yield Result(table, metadata=shown.result(rows, paths, per_minute=picture))


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
            broken = [violation for day in days(context) for violation in invariants(lake, day, table)]
        rows = [{"what": one.what, "rows": one.count, "code": code, "rows of it": count}
                for one in broken for code, count in one.codes]  # fmt: skip
        said = "; ".join(f"{one.name}: {one.count:,} rows of {shown.named(dict(one.codes))}" for one in broken)
        description = said or "every invariant holds"
        return dg.AssetCheckResult(passed=not broken, description=description, metadata={"broken": shown.table(rows)})

    return check


sound_ticks, sound_books = _sound("ticks"), _sound("books")


@daily_asset(GROUP, {"clickhouse"}, STORE, deps=["ticks", "books"], partitions=None)
def fallback_replay(context: dg.AssetExecutionContext, place: Place) -> Result:
    """Ships what a ClickHouse server has not confirmed, of any day; without a server there is nothing to ship."""
    settings = place.settings()
    with said_plainly():
        done = stages.ship_backlog(settings, lambda key, at, total: context.log.info(f"{at} of {total}: {key}"))
    said = ship.describe(done)
    context.log.info(said)
    if done is None:
        return Result(metadata={"shipped": said})
    if done.failed:
        raise dg.Failure(f"{len(done.failed)} segments could not be shipped: {done.failed[0]}")
    metadata = shown.result(done.rows, segments=done.segments, refused=done.refused, shipped=said)
    return Result(metadata=metadata)
