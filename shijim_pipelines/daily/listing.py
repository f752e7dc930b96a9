"""The contracts of a day, asked for anew whenever the broker renews its list. Not the asset, which a partition is for.

In the afternoon it is the list of the next trading day, for the night session that begins at 15:00; that day has no
partition before midnight, so this is a job by itself, and `instruments` finds the file there in the morning.
"""

from datetime import date
from typing import Final

import dagster as dg

from shijim_live import calendar
from shijim_live.calendar import NotATradingDay, to_exchange_ns
from shijim_pipelines import contracts, stages
from shijim_pipelines.daily.partitions import TIMEZONE
from shijim_pipelines.daily.resources import BrokerHistory, Place, now_ns, said_plainly
from shijim_pipelines.daily.schedules import taipei

CONTRACTS_RENEWED: Final = "contracts_renewed"
# The broker's windows but for 08:00, when `universe_0800` asks.
_CRONS: Final = ("50 7 * * *", "45 14 * * *", "15 17 * * *")


class Listed(dg.Config):
    """Which day's list."""

    day: str


@dg.op
def list_contracts(context: dg.OpExecutionContext, config: Listed, place: Place, broker: BrokerHistory) -> None:
    """Fetches the list and says whether it is enough to start with."""
    settings, day = place.settings(), date.fromisoformat(config.day)
    with said_plainly():
        _, found = stages.list_instruments(settings, day, broker.of(settings, day), now_ns())
    context.log.info(f"{day}: {contracts.describe(found)}")
    if not found.ready:
        raise dg.Failure(description=f"the contracts of {day} are not ready: {'; '.join(found.problems)}")


@dg.job(description="The contracts of a trading day, as the broker has just renewed them.")
def renew_contracts() -> None:
    """One step."""
    list_contracts()


@dg.schedule(
    name=CONTRACTS_RENEWED,
    job=renew_contracts,
    cron_schedule=_CRONS,
    execution_timezone=TIMEZONE,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Asks for the list of contracts when the broker renews it: before the open, and for the next night.",
)
def contracts_renewed(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """A tick names the day whose list is renewed then."""
    calendar.refresh()
    at = taipei(context)
    try:
        day = calendar.day_of_contract_update(to_exchange_ns(at.replace(tzinfo=None)))
    except NotATradingDay as reason:
        return dg.SkipReason(str(reason))
    config = {"ops": {list_contracts.name: {"config": {"day": str(day)}}}}
    return dg.RunRequest(run_key=f"{CONTRACTS_RENEWED}:{at:%Y-%m-%dT%H:%M}", run_config=config)
