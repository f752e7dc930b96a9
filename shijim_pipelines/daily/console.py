"""How a run speaks to a terminal and a journal: Taipei's time, the asset, its sentence. The UI has the rest."""

from __future__ import annotations

import logging
import sys
import time

import dagster as dg

from shijim_live.calendar import wall_clock


class _Line(logging.Formatter):
    """`12:34:56 certificate   18 PROVEN`; of a failed step also the error that Dagster caught."""

    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", {})
        text = str(meta.get("orig_message") or record.getMessage())
        clock = wall_clock(time.time_ns())
        return f"{clock:%H:%M:%S} {meta.get('step_key') or meta.get('job_name') or '':<15} {text}"


@dg.logger(
    {"log_level": dg.Field(str, default_value="INFO", description="DEBUG for every event of the run")},
    description="One short line a sentence of an asset; warnings and errors too.",
)
def console(context: dg.InitLoggerContext) -> logging.Logger:
    """To stdout, without the events that only the UI needs."""
    logger = logging.Logger("shijim", level=context.logger_config["log_level"])
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Line())
    logger.addHandler(handler)
    return logger
