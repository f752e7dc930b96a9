"""What is missing of the day, what of it could be had again, and what is thereby proven."""

from collections import Counter

import dagster as dg

from shijim_pipelines import pictures, stages
from shijim_pipelines.daily import shown
from shijim_pipelines.daily.policy import BROKER_HISTORY, STORE, Result, daily_asset
from shijim_pipelines.daily.resources import BrokerHistory, Place, days, now_ns, said_plainly
from shijim_pipelines.daily.schedules import freshness
from shijim_pipelines.proof.backfilled import backfilled_segments, describe_backfill
from shijim_pipelines.proof.certificate import PROVEN, SHORT, UNPROVABLE, Certificate, certificate_path
from shijim_pipelines.proof.ledger import State, ledger_path, open_gaps

GROUP = "proof"

NOTHING_MISSING = dg.AssetCheckSpec("nothing_missing", asset="gaps", description="What was recorded has no gap.")


@daily_asset(GROUP, {"json"}, STORE, deps=["ticks", "books", "daily_quotes"], checks=[NOTHING_MISSING])
def gaps(context: dg.AssetExecutionContext, place: Place) -> Result:
    """Every hole in what was recorded: lots, bounds, cause; by volume continuity, sequences, silences and totals."""
    settings = place.settings()
    with said_plainly():
        audited = [stages.audit_day(settings, day, now_ns()) for day in days(context)]
    report = audited[-1][0]
    found = [gap for report, _ in audited for gap in report.gaps]
    lots = sum(gap.lots for gap in found)
    said = f"{len(found):,} gaps, {lots:,} lots: {shown.named(gap.symbol for gap in found if gap.symbol)}"
    context.log.info(said)
    worst = sorted(report.streams, key=lambda stream: (-stream.lots_missing, stream.code, stream.session))
    rows = ({"code": one.code, "session": one.session, "lots missing": one.lots_missing, "gaps": one.gaps,
             "verdict": one.verdict, "reason": one.reason} for one in worst)  # fmt: skip
    metadata = shown.result(
        len(found),
        [path for _, path in audited],
        lots_missing=lots,
        verdict=str(report.summary()["verdict"]),
        worst=shown.table(rows),
        timeline=shown.picture(pictures.gaps_picture(report), "gaps"),
    )
    check = shown.warning(NOTHING_MISSING.name, said if found else "")
    return Result(metadata=metadata, check_results=[check])


@daily_asset(GROUP, {"json"}, STORE, deps=[gaps])
def gap_ledger(context: dg.AssetExecutionContext, place: Place) -> Result:
    """What became of every gap, a line a transition, never rewritten: DETECTED, CLASSIFIED … VERIFIED."""
    settings = place.settings()
    with said_plainly():
        entries = [entry for day in days(context) for entry in stages.keep_ledger(settings, day, "dagster", now_ns())]
    states = Counter(entry.state for entry in entries)
    context.log.info(", ".join(f"{count:,} {state}" for state, count in sorted(states.items())) or "no gap")
    paths = [ledger_path(settings.reports_dir, day) for day in days(context)]
    counted = {state.value: states[state] for state in State}
    return Result(metadata=shown.result(len(entries), paths, **counted))


NOTHING_OPEN = dg.AssetCheckSpec("nothing_open", asset="backfill", description="No gap waits for another attempt.")


@daily_asset(GROUP, {"shioaji"}, BROKER_HISTORY, deps=[gap_ledger], checks=[NOTHING_OPEN])
def backfill(context: dg.AssetExecutionContext, place: Place, broker: BrokerHistory) -> Result:
    """Missing trades from the broker's history, each answer proven on what was recorded, as a segment of the log."""
    settings, done, still_open = place.settings(), [], []
    with said_plainly():
        for day in days(context):
            filled = stages.fill_gaps(settings, day, "dagster", now_ns(), broker.known_defects())
            if isinstance(filled, stages.GivenUp):
                context.log.warning(f"{filled.gaps:,} gaps cannot be filled: {filled.reason}")
                continue
            done.append(filled)
            context.log.info(describe_backfill(filled))
            still_open += open_gaps(settings.reports_dir, day)
    left = [one for result in done for one in result.left]
    codes = shown.named(entry.gap.symbol for entry in still_open if entry.gap)
    metadata = shown.result(
        sum(result.trades for result in done),
        [path for result in done if result.run_id for path in backfilled_segments(settings.wal_dir, result.run_id)],
        gaps=sum(result.gaps for result in done),
        lots=sum(result.lots for result in done),
        left=shown.table({"code": one.code, "session": one.session, "lots": one.lots, "why": one.reason}
                         for one in left),
    )  # fmt: skip
    said = f"{len(still_open):,} gaps wait for another attempt: {codes}" if still_open else ""
    return Result(metadata=metadata, check_results=[shown.warning(NOTHING_OPEN.name, said)])


IS_PROVEN = dg.AssetCheckSpec("proven", asset="certificate", description="Every stream of the day is proven complete.")


@daily_asset(GROUP, {"json"}, STORE, deps=[backfill, "daily_quotes"], checks=[IS_PROVEN], freshness=freshness())
def certificate(context: dg.AssetExecutionContext, place: Place) -> Result:
    """PROVEN, SHORT or UNPROVABLE for every code and session, against the exchange's own totals."""
    settings = place.settings()
    with said_plainly():
        of_days = [stages.certify(settings, day, "dagster", now_ns()) for day in days(context)]
    made = [one for of_day in of_days for one in of_day.certificates]
    day_of = {id(one): of_day.trading_day for of_day in of_days for one in of_day.certificates}
    verdicts = Counter(one.verdict for one in made)
    counted = {verdict: verdicts[verdict] for verdict in (PROVEN, SHORT, UNPROVABLE)}
    context.log.info(", ".join(f"{count:,} {verdict}" for verdict, count in counted.items()))
    order = [SHORT, UNPROVABLE, PROVEN]
    worst = sorted(made, key=lambda one: (order.index(one.verdict), -(one.lots_missing or 0), one.code, one.session))
    rows = [{"day": str(day_of[id(one)]), "verdict": one.verdict, "code": one.code, "session": one.session,
             "lots": one.lots, "backfilled": one.lots_backfilled, "missing": one.lots_missing, "books": one.books,
             "why": "; ".join(one.reasons)} for one in worst]  # fmt: skip

    def said_of(one: Certificate) -> str:
        return f"{day_of[id(one)]} {one.verdict} {one.code} {one.session}: {', '.join(one.reasons)}"

    doubtful = [one for one in worst if one.verdict != PROVEN]
    check = dg.AssetCheckResult(
        passed=not doubtful,
        check_name=IS_PROVEN.name,
        severity=dg.AssetCheckSeverity.ERROR if verdicts[SHORT] else dg.AssetCheckSeverity.WARN,
        description="; ".join(map(said_of, doubtful[: shown.NAMES_MAX]))
        or f"all {len(made):,} streams are proven complete",
        metadata={"worst": shown.table(rows)},
    )
    paths = [certificate_path(settings.reports_dir, day) for day in days(context)]
    return Result(metadata=shown.result(len(made), paths, **counted, worst=shown.table(rows)),
                                check_results=[check])  # fmt: skip
