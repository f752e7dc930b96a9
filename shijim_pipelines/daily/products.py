"""What is built from a day: its quality report, datasets for hftbacktest, and a first backtest on each."""

from typing import Final

import dagster as dg

from shijim_live.events import PRICE_SCALE
from shijim_live.store.lake import Lake
from shijim_pipelines import pictures, stages
from shijim_pipelines.daily import shown
from shijim_pipelines.daily.policy import STORE, Result, daily_asset
from shijim_pipelines.daily.resources import Place, days, now_ns, said_plainly
from shijim_pipelines.datasets import Made, Request, recorded_symbols
from shijim_pipelines.hft_dataset import FeedLatency
from shijim_pipelines.quality import Judgement, describe

GROUP = "products"

# How Great Expectations calls a breach, and what it is here: both stop nothing, and a critical one is red.
SEVERITIES: Final = {
    "critical": dg.AssetCheckSeverity.ERROR,
    "warning": dg.AssetCheckSeverity.WARN,
    "info": dg.AssetCheckSeverity.WARN,
}
_LEVELS = [
    dg.AssetCheckSpec(level, asset="quality", description=f"Expectations of severity {level} hold for every symbol.")
    for level in SEVERITIES
]


@daily_asset(GROUP, {"greatexpectations", "chdb"}, STORE, deps=["ticks", "books"], checks=_LEVELS)
def quality(context: dg.AssetExecutionContext, place: Place) -> Result:
    """One SQL profile per symbol and session, judged by Great Expectations, kept as a page a person can open."""
    settings = place.settings()
    with said_plainly():
        made = [stages.judge_quality(settings, day) for day in days(context)]
    judgements = [judgement for judgement, _ in made]
    context.log.info(f"report: {made[-1][1]}")
    metadata = shown.result(
        sum(judgement.profile.num_rows for judgement in judgements),
        [path for _, path in made],
        report=dg.MetadataValue.path(made[-1][1].absolute()),
        summary=dg.MetadataValue.md(f"```\n{describe(judgements[-1])}\n```"),
        profile=shown.table(judgements[-1].profile.to_pylist()),
    )
    return Result(metadata=metadata, check_results=[_judged(level, judgements) for level in SEVERITIES])


def _judged(level: str, judgements: list[Judgement]) -> dg.AssetCheckResult:
    broken = [(judgement.trading_day, finding, failure) for judgement in judgements for finding in judgement.findings
              if finding.rule.severity == level for failure in finding.failures]  # fmt: skip
    rows = [{"day": str(day), "code": failure.code, "session": failure.session, "what": finding.rule.what,
             "observed": failure.observed} for day, finding, failure in broken]  # fmt: skip
    rules = {finding.rule.name: [] for _, finding, _ in broken}  # type: dict[str, list[str]]
    for _, finding, failure in broken:
        rules[finding.rule.name].append(failure.code)
    return dg.AssetCheckResult(
        passed=not broken,
        check_name=level,
        severity=SEVERITIES[level],
        description="; ".join(f"{name}: {shown.named(codes)}" for name, codes in rules.items()) or "all hold",
        metadata={"broken": shown.table(rows)},
    )


class Datasets(dg.Config):
    """Which datasets, and how."""

    symbols: list[str] = []  # noqa: RUF012 - none named: the universe of the day, or all that was recorded
    source: str | None = None  # where two sources hold the day
    feed_latency_ms: int = 5  # for events without a receive time


EVERY_SYMBOL = dg.AssetCheckSpec("every_symbol", asset="hft_dataset", description="Every symbol has its dataset.")


@daily_asset(GROUP, {"numpy"}, STORE, deps=["universe", "ticks", "books", "certificate", "quality"],
             checks=[EVERY_SYMBOL])  # fmt: skip
def hft_dataset(context: dg.AssetExecutionContext, place: Place, config: Datasets) -> Result:
    """An hftbacktest file for every symbol of the universe, which states its own gaps: what was received, in order."""
    settings, built = place.settings(), []
    latency = FeedLatency(config.feed_latency_ms * 1_000_000)
    with said_plainly():
        for day in days(context):
            recorded = recorded_symbols(Lake(settings.archive_dir), day)
            symbols = config.symbols or stages.wanted_codes(settings, day) or recorded
            requests = [Request(day, symbol, None, config.source, latency) for symbol in symbols]
            for one in stages.build_datasets(settings, requests, now_ns()):
                built.append(one)
                context.log.info(one.summary())
    made = [one for one in built if isinstance(one, Made)]
    not_built = [one for one in built if not isinstance(one, Made)]
    if not made:
        raise dg.Failure(f"not one dataset could be built: {not_built[0].reason}" if not_built else "no symbol named")
    rows = ({"symbol": one.request.symbol, "rows": len(one.dataset.rows), "gaps": one.gaps,
             "lots missing": one.lots_missing, "sha256": one.files.content_sha256[:16]} for one in made)  # fmt: skip
    metadata = shown.result(sum(len(one.dataset.rows) for one in made), [one.files.npz for one in made],
                            datasets=shown.table(rows))  # fmt: skip
    said = "; ".join(f"{one.symbol}: {one.reason}" for one in not_built)
    return Result(metadata=metadata, check_results=[shown.warning(EVERY_SYMBOL.name, said)])


@daily_asset(GROUP, {"rust"}, STORE, deps=[hft_dataset])
def backtest(context: dg.AssetExecutionContext, place: Place, config: Datasets) -> Result:
    """A plain two-sided quoter on every dataset of the day in hftbacktest: that it trades, and what it says."""
    settings, results = place.settings(), []
    with said_plainly():
        for day in days(context):
            for symbol, result, track in stages.backtest_day(settings, day, config.symbols):
                results.append((day, symbol, result, track))
                context.log.info(f"{symbol}: {result.trades:,} trades, {result.equity_e6 // PRICE_SCALE:,} TWD")
    day, symbol, _, track = max(results, key=lambda one: one[2].trades)
    rows = ({"symbol": symbol, "trades": result.trades, "position": result.position,
             "equity TWD": f"{result.equity_e6 // PRICE_SCALE:,}", "fees TWD": f"{result.fee_e6 // PRICE_SCALE:,}"}
            for _, symbol, result, _ in results)  # fmt: skip
    metadata = shown.result(
        len(results),
        results=shown.table(rows),
        busiest=shown.picture(pictures.backtest_picture(track, symbol, day), f"backtest of {symbol}"),
    )
    return Result(metadata=metadata)
