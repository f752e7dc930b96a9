"""What the assets are given: where everything is, and whom to ask for history. Thin: no work is done here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import dagster as dg
from pydantic import PrivateAttr

from shijim_live import calendar
from shijim_live.broker.history import History
from shijim_live.broker.simulated_history import Defect
from shijim_live.settings import Settings
from shijim_live.store.server_errors import ServerUnavailable
from shijim_pipelines import stages
from shijim_pipelines.history import BrokerConnection


class Place(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where everything is read and written: the settings, as `.env` and the environment have them."""

    data_dir: str | None = None  # another home than SHIJIM_DATA_DIR, for a run on a copy
    profile: str | None = None  # also read .env.<profile>

    def settings(self) -> Settings:
        """Read anew for every step, so that a changed `.env` needs no restart. Raises SettingsError."""
        settings = Settings.from_environment(self.profile, data_dir=self.data_dir)
        calendar.follow(settings.calendar_overrides)
        calendar.refresh()
        return settings


class BrokerHistory(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The broker's history client, metered; of a simulated day it is the exchange that was recorded."""

    defects: list[str] = []  # noqa: RUF012 - rehearsals: how the simulated history lies, by the names of `Defect`
    _connection: BrokerConnection | None = PrivateAttr(default=None)

    def of(self, settings: Settings, day: date) -> History:
        """Raises HistoryUnavailable for what no broker can be asked about."""
        return stages.history_of(settings, day, self.known_defects(), broker=self.connection(settings))

    def connection(self, settings: Settings) -> BrokerConnection:
        """One login for all days of a step."""
        if self._connection is None:
            self._connection = BrokerConnection(settings)
        return self._connection

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Gives the login back, however the step ended."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def known_defects(self) -> frozenset[Defect]:
        """Raises ValueError for a name that is none."""
        unknown = sorted(set(self.defects) - set(Defect))
        if unknown:
            raise ValueError(f"defects: {', '.join(unknown)} is none of {', '.join(Defect)}")
        return frozenset(Defect(name) for name in self.defects)


def days(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> list[date]:
    """The trading days of the run: one, or the keys of a range, whose time window would hold holidays too."""
    return [calendar.require_trading_day(date.fromisoformat(key)) for key in context.partition_keys]


def now_ns() -> int:
    """The clock of the daily run; plain functions are told the time."""
    return time.time_ns()


@contextmanager
def said_plainly() -> Iterator[None]:
    """A foreseen failure is one sentence in the run, not a stack trace; only what may pass is tried again."""
    try:
        yield
    except ServerUnavailable as error:
        raise dg.Failure(description=str(error)) from error
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
