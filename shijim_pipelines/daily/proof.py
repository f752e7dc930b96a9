"""What is missing of the day, what of it could be had again, and what is thereby proven."""

from __future__ import annotations

import dagster as dg

from shijim_live.broker.history import HistoryUnavailable
from shijim_live.universe import wanted_codes
from shijim_pipelines import pictures
from shijim_pipelines.daily import shown
from shijim_pipelines.daily.policy import BROKER_HISTORY, STORE, of_the_day
from shijim_pipelines.daily.resources import BrokerHistory, Place, days, now_ns, said_plainly
from shijim_pipelines.proof import audit, ledger
from shijim_pipelines.proof.backfill import backfill_day
from shijim_pipelines.proof.certificate import certify_day, write_certificates
from shijim_pipelines.quotes import closing_totals

GROUP = "proof"

NOTHING_MISSING = dg.AssetCheckSpec("nothing_missing", asset="gaps", description="No gap is open in what was recorded.")


@dg.asset(**of_the_day(GROUP, {"json"}, STORE), deps=["ticks", "books", "daily_quotes"], check_specs=[NOTHING_MISSING])
def gaps(context: dg.AssetExecutionContext, place: Place) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Every hole in what was recorded: lots, bounds, cause; from volume continuity, sequences, silences, totals."""
    settings = place.settings()
    paths, found = [], []
    with said_plainly():
        for day in days(context):
            report = audit.audit_day(
                settings.archive_dir,
                settings.wal_dir,
                day,
                closing=closing_totals(settings.market_dir, day),
                wanted=wanted_codes(settings.universe_dir, day),
                as_of_ns=now_ns(),
            )
            paths.append(audit.write_report(report, settings.reports_dir))
            found += report.gaps
    worst = sorted(report.streams, key=lambda stream: (-stream.lots_missing, stream.code))
    metadata = shown.result(
        len(found),
        paths,
        lots_missing=sum(gap.lots for gap in found),
        verdict=str(report.summary()["verdict"]),
        worst=shown.table({"code": s.code, "session": s.session, "lots missing": s.lots_missing, "gaps": s.gaps,
                           "verdict": s.verdict, "reason": s.reason} for s in worst),
        timeline=pictures.markdown(pictures.gap_timeline(report)),
    )  # fmt: skip
    said = f"{len(found):,} gaps: {shown.named({gap.symbol for gap in found if gap.symbol})}" if found else ""
    return dg.MaterializeResult(metadata=metadata, check_results=[shown.warning(NOTHING_MISSING.name, said)])


@dg.asset(**of_the_day(GROUP, {"json"}, STORE), deps=[gaps])
def gap_ledger(context: dg.AssetExecutionContext, place: Place) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """What became of every gap, one line a transition, never rewritten: DETECTED, CLASSIFIED, … VERIFIED."""
    settings = place.settings()
    paths, states = [], []
    with said_plainly():
        for day in days(context):
            report = audit.read_report(settings.reports_dir, day)
            ledger.record_report(report, settings.reports_dir, "gap_ledger", now_ns())
            paths.append(ledger.ledger_path(settings.reports_dir, day))
            states += ledger.standing(ledger.read_ledger(settings.reports_dir, day)).values()
    counted = {state.value: sum(entry.state is state for entry in states) for state in ledger.State}
    return dg.MaterializeResult(metadata=shown.result(len(states), paths, **counted))


NOTHING_OPEN = dg.AssetCheckSpec("nothing_open", asset="backfill", description="No gap waits for another attempt.")


@dg.asset(**of_the_day(GROUP, {"shioaji"}, BROKER_HISTORY), deps=[gap_ledger],
          check_specs=[NOTHING_OPEN])  # fmt: skip
def backfill(context: dg.AssetExecutionContext, place: Place, broker: BrokerHistory) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Missing trades from the broker's history, each answer proven on what was recorded, as segments of their own."""
    settings = place.settings()
    results, open_still = [], []
    with said_plainly():
        for day in days(context):
            try:
                history = broker.of(day, settings)
            except HistoryUnavailable as reason:
                ledger.give_up(settings.reports_dir, day, str(reason), "backfill", now_ns())
                continue
            results.append(backfill_day(day, settings, history, "backfill", now_ns))
            open_still += ledger.open_gaps(settings.reports_dir, day)
    metadata = shown.result(
        sum(result.trades for result in results),
        [path for result in results for path in result.segments],
        lots=sum(result.lots for result in results),
        outcomes=shown.table(outcome for result in results for outcome in result.table()),
    )
    said = (
        f"{len(open_still):,} gaps are open: {shown.named({entry.symbol for entry in open_still})}"
        if open_still
        else ""
    )
    return dg.MaterializeResult(metadata=metadata, check_results=[shown.warning(NOTHING_OPEN.name, said)])


PROVEN = dg.AssetCheckSpec("proven", asset="certificate", description="Every stream of the day is proven complete.")


@dg.asset(**of_the_day(GROUP, {"json"}, STORE), deps=["backfill", "daily_quotes"],
          check_specs=[PROVEN])  # fmt: skip
def certificate(context: dg.AssetExecutionContext, place: Place) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """PROVEN, SHORT or UNPROVABLE for every code and session, against the exchange's own totals."""
    settings = place.settings()
    paths, rows = [], []
    with said_plainly():
        for day in days(context):
            certificates = certify_day(day, settings, now_ns(), "certificate")
            paths.append(write_certificates(certificates, settings.reports_dir))
            rows += certificates.streams
    doubtful = [row for row in rows if row.verdict != "PROVEN"]
    short = [row for row in doubtful if row.verdict == "SHORT"]
    check = dg.AssetCheckResult(
        passed=not doubtful,
        check_name=PROVEN.name,
        severity=dg.AssetCheckSeverity.ERROR if short else dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{row.verdict} {row.code} {row.session}: {row.reason}" for row in doubtful[:10])
        or f"{len(rows):,} streams are proven complete",
    )
    counted = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("PROVEN", "SHORT", "UNPROVABLE")}
    metadata = shown.result(len(rows), paths, **counted, worst=shown.table(doubtful_first(rows)))
    return dg.MaterializeResult(metadata=metadata, check_results=[check])
