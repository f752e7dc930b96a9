"""What is built from a day: its quality report, datasets for hftbacktest, and a first backtest on them."""

from __future__ import annotations

import dagster as dg

from shijim_live.store.lake import Lake
from shijim_pipelines.daily import shown
from shijim_pipelines.daily.policy import STORE, of_the_day
from shijim_pipelines.daily.resources import Place, days, said_plainly
from shijim_pipelines.quality import judge, profile, write_report

GROUP = "products"

# How Great Expectations calls a breach, and what it is here. Critical does not stop the datasets: they say it.
SEVERITIES = {
    "critical": dg.AssetCheckSeverity.ERROR,
    "warning": dg.AssetCheckSeverity.WARN,
    "info": dg.AssetCheckSeverity.WARN,
}


@dg.asset(
    **of_the_day(GROUP, {"greatexpectations"}, STORE),
    deps=["ticks", "books"],
    check_specs=[
        dg.AssetCheckSpec(
            level, asset="quality", description=f"Expectations of severity {level} hold for every symbol."
        )
        for level in SEVERITIES
    ],
)
def quality(context: dg.AssetExecutionContext, place: Place) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """One SQL profile per symbol and session, judged by Great Expectations, kept as a page a person can open."""
    settings = place.settings()
    judgements, paths = [], []
    with said_plainly():
        lake = Lake(settings.archive_dir)
        for day in days(context):
            judgement = judge(profile(lake, day), day)
            judgements.append(judgement)
            paths.append(write_report(judgement, settings.reports_dir))
    checks = [_check(level, judgements) for level in SEVERITIES]
    return dg.MaterializeResult(metadata=shown.result(0, paths), check_results=checks)
