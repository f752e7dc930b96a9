"""How good a trading day is: a profile by one SQL, judged by Great Expectations. Repairs nothing, blocks nothing.

What can never be true of sound data is `invariants.py`; what is missing, `proof/audit.py`; the page a person opens,
`quality_page.py`. Great Expectations takes seconds to import: only `judge` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow as pa

from shijim_live.calendar import MINUTE_NS, SECOND_NS, require_trading_day
from shijim_live.events import Flag, Lane
from shijim_live.store.lake import Lake
from shijim_live.store.parquet import write_durably
from shijim_live.store.views import BACKFILL

if TYPE_CHECKING:
    import pandas as pd

KEY: Final = ("code", "session", "source")
SEVERITIES: Final = ("critical", "warning", "info")  # worst first; as Great Expectations names them
# Symbols a terminal shows of each failure; the page has all.
SHOWN_MAX: Final = 8
# Fewer events say nothing about a share.
SHARE_EVENTS_MIN: Final = 100
# A pause is too long when it is longer than this and than so many mean intervals of the symbol: real futures sessions
# pause up to 24 s, which is 130 intervals; a recorder that stood still for 744 s paused 2,700.
SILENCE_NS_MIN: Final = 5 * MINUTE_NS
SILENCE_INTERVALS: Final = 200


class QualityFailed(RuntimeError):
    """Great Expectations could not evaluate an expectation: that is no verdict, in either direction."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One expectation: `column` of every row of the profile lies within [low, high]; what is not known passes."""

    name: str
    severity: str
    column: str
    low: int | None
    high: int | None
    what: str  # what is expected, for a person
    why: str  # why there, and what a failure means


RULES: Final = (
    Rule("few_crossed_books", "critical", "crossed_ppm", None, 10_000,
         "At most 1 % of a symbol's books have a bid above the ask.",
         "In continuous trading such orders match. One in a hundred is no accident: books are built wrongly."),
    Rule("no_price_jumps", "critical", "price_jumps", None, 0,
         "No trade is further from the one before than the daily price limits are apart (11/9).",
         "Limits are 10 % around the reference: prices of two instruments are mixed, or a decimal point moved."),
    Rule("trades_near_the_book", "critical", "off_touch_ppm", None, 500_000,
         "At most half of the trades are outside the bid and ask recorded before them.",
         "Real futures have 18 to 25 %, in fast markets 38 %: beyond half, trades and books are not of one market."),
    Rule("plausible_delay", "critical", "delay_ns_median", 0, 60 * SECOND_NS,
         "Half of the events arrive 0 to 60 seconds after their stamp.",
         "A wrong time zone or clock: 8 hours are the classic. No latency measured here is usable."),
    Rule("no_crossed_book", "warning", "crossed_books", None, 0,
         "No book in continuous trading has a bid above the ask.",
         "The feed or its order is broken for a moment; a backtest fills orders there that nobody could have filled."),
    Rule("most_trades_at_the_book", "warning", "off_touch_ppm", None, 300_000,
         "At most 30 % of the trades are outside the bid and ask recorded before them.",
         "More than any whole real day seen so far: books were lost, or trades and books arrived out of order."),
    Rule("within_price_limits", "warning", "beyond_limit", None, 0,
         "No trade is further than 10 % from the reference price that the broker states with it.",
         "Funds on foreign markets and new listings have no limit; anything else is a wrong price or reference."),
    Rule("no_negative_delay", "warning", "negative_delays", None, 0,
         "No event arrives before its stamp.",
         "One of two clocks was wrong for a while: see the episodes. Datasets shift all of their times for it."),
    Rule("quick_feed", "warning", "delay_ns_p99", None, SECOND_NS,
         "99 % of the events arrive within a second.",
         "A second late is not live: the network, the broker or this machine could not keep up."),
    Rule("stamps_run_forward", "warning", "backwards_ppm", None, 1_000,
         "At most 1 in 1,000 events of a kind is stamped before the one recorded before it.",
         "Late deliveries do that one by one; more means that the order of recording is not the exchange's."),
    Rule("nothing_suspect", "warning", "suspect_rows", None, 0,
         "No event carries a price of zero or a stamp of the year 2000.",
         "The broker's decoder answers that for bytes it cannot read: the event is lost."),
    Rule("few_repeats", "warning", "duplicates_ppm", None, 10_000,
         "At most 1 % of the rows are repeats.",
         "Queries hide them; so many mean a connection that is served twice, or reconnects all day."),
    Rule("trades_have_books", "warning", "trades_without_books", None, 0,
         "A symbol with trades has books.",
         "Its subscription to books was refused or forgotten."),
    Rule("few_outside", "info", "outside_ppm", None, 10_000,
         "At most 1 % of the rows, trial matches aside, are stamped outside continuous trading.",
         "Fixed-price trading after the close does that; so does a wrong calendar."),
    Rule("no_locked_book", "info", "locked_books", None, 0,
         "No book in continuous trading has a bid equal to the ask.",
         "As with crossed books, but harmless to most uses."),
    Rule("two_sided_books", "info", "one_sided_ppm", None, 100_000,
         "At most 10 % of the books have one side only.",
         "At a price limit that is the market; otherwise a side was lost."),
    Rule("books_have_trades", "info", "books_without_trades", None, 0,
         "A symbol with books has trades.",
         "It did not trade, or its subscription to trades was refused."),
    Rule("continuity_provable", "info", "trades_without_total", None, 0,
         "Every trade states the session's volume so far.",
         "Without it nothing proves that no trade is missing; imports of order-book files never have it."),
)  # fmt: skip
SILENCE_RULE: Final = Rule(
    "no_long_silence", "warning", "silence_ns", None, None,
    f"No symbol is silent for more than {SILENCE_NS_MIN // MINUTE_NS} minutes and {SILENCE_INTERVALS} of its usual "
    "intervals.",
    "An outage, a subscription that ended, or a halt of trading: compare with the gaps of the day.",
)  # fmt: skip
ROWS_RULE: Final = Rule(
    "something_recorded", "critical", "rows", 1, None,
    "Something is archived of the day.",
    "Nothing was recorded, or nothing was archived: shijim archive.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failure:
    """A row of the profile that is not as expected."""

    code: str
    session: str
    source: str
    observed: int


@dataclass(frozen=True, slots=True)
class Finding:
    """An expectation, and the rows that fail it, worst first."""

    rule: Rule
    success: bool
    failures: tuple[Failure, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Codes that fail, worst first, each once."""
        return tuple(dict.fromkeys(failure.code for failure in self.failures))


@dataclass(frozen=True, slots=True)
class Judgement:
    """Every expectation of a day, failed ones first, worst first, and the profile that was judged."""

    trading_day: date
    findings: tuple[Finding, ...]
    profile: pa.Table

    @property
    def worst(self) -> str:
        """The worst severity that failed; "" where every expectation holds."""
        failed = {finding.rule.severity for finding in self.findings if not finding.success}
        return next((severity for severity in SEVERITIES if severity in failed), "")

    def failed(self, severity: str) -> tuple[Finding, ...]:
        """Failed expectations of one severity."""
        return tuple(f for f in self.findings if not f.success and f.rule.severity == severity)


def profile(lake: Lake, day: date) -> pa.Table:
    """One row per (code, session, source) with rows on the day: int64 columns, NULL where a source cannot know.

    Prices × 10⁶, times in ns, shares in parts per million. Raises NotATradingDay, LakeError.
    """
    require_trading_day(day)
    found = lake.query(
        _profile_sql(),
        day=day,
        board=int(Lane.BOARD),
        odd=int(Lane.ODD),
        trial=int(Lane.TRIAL),
        suspect_bit=int(Flag.SUSPECT).bit_length() - 1,
        oversize_bit=int(Flag.HAS_SIDE).bit_length() - 1,
        backfill=BACKFILL,
    )
    return found.cast(pa.schema([(name, pa.string() if name in KEY else pa.int64()) for name in found.column_names]))


@cache
def _profile_sql() -> str:
    return Path(__file__).with_name("quality_profile.sql").read_text()


def judge(profile: pa.Table, day: date) -> Judgement:
    """Every expectation against a profile. Raises QualityFailed when one could not be evaluated."""
    answers = _validate(_frame(profile))
    rows = {tuple(str(row[name]) for name in KEY): row for row in profile.to_pylist()}
    findings = []
    for answer in answers:
        rule = _RULE_OF[answer["expectation_config"]["meta"]["rule"]]
        if reason := _reason(answer["exception_info"]):
            raise QualityFailed(
                f"quality of {day}: {rule.name} could not be evaluated ({reason}). Is the profile of this release?"
            )
        failures = []
        for place in answer["result"].get("unexpected_index_list") or ():
            code, session, source = (str(place[name]) for name in KEY)
            failures.append(Failure(code, session, source, int(rows[code, session, source][rule.column])))
        failures.sort(key=lambda failure: (-abs(failure.observed), failure.code, failure.session, failure.source))
        findings.append(Finding(rule, bool(answer["success"]), tuple(failures)))
    findings.sort(key=lambda finding: (finding.success, SEVERITIES.index(finding.rule.severity)))
    return Judgement(day, tuple(findings), profile)


_RULE_OF: Final = {rule.name: rule for rule in (*RULES, SILENCE_RULE, ROWS_RULE)}


def _reason(info: Mapping[str, Any]) -> str:
    """Why an evaluation ended in an exception, "" where it did not: told once, or once for each metric it needed."""
    parts = [info, *(part for part in info.values() if isinstance(part, Mapping))]
    raised = [part for part in parts if part.get("raised_exception") is True]
    return " ".join(str(raised[0].get("exception_message")).split()) if raised else ""


def _frame(profile: pa.Table) -> pd.DataFrame:
    """The profile as it is judged: without shares of next to nothing, with the longest fair silence of each row."""
    import pandas as pd

    frame: pd.DataFrame = profile.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    shares = [name for name in frame.columns if name.endswith("_ppm")]
    frame.loc[frame["events"] < SHARE_EVENTS_MIN, shares] = pd.NA
    # What fills gaps is silent between them, and may repeat what was recorded after all.
    frame.loc[frame["source"].str.startswith(BACKFILL), ["silence_ns", "duplicates_ppm"]] = pd.NA
    intervals = (frame["last_ns"] - frame["first_ns"]) * SILENCE_INTERVALS // frame["events"].clip(lower=1)
    frame["silence_allowed_ns"] = intervals.clip(lower=SILENCE_NS_MIN)
    return frame


def _validate(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """What Great Expectations says of each expectation, in memory: no files, no network, no progress bars."""
    import great_expectations as gx
    from great_expectations import expectations
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False),
        ),
    )

    gxe: Any = expectations  # it re-exports without saying so

    def said(rule: Rule) -> dict[str, Any]:
        return {"severity": rule.severity, "meta": {"rule": rule.name}}

    suite = [
        gxe.ExpectTableRowCountToBeBetween(min_value=ROWS_RULE.low, **said(ROWS_RULE)),
        *(
            gxe.ExpectColumnValuesToBeBetween(column=r.column, min_value=r.low, max_value=r.high, **said(r))
            for r in RULES
        ),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A="silence_allowed_ns",
            column_B=SILENCE_RULE.column,
            or_equal=True,
            ignore_row_if="either_value_is_missing",
            **said(SILENCE_RULE),
        ),
    ]
    asset = context.data_sources.add_pandas("shijim").add_dataframe_asset("profile")
    batch = asset.add_batch_definition_whole_dataframe("day").get_batch({"dataframe": frame})
    # The profile is small: every row that fails is named. Only Batch.validate takes a result format.
    result = batch.validate(
        gx.ExpectationSuite(name="quality", expectations=suite),
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": list(KEY)},
    )
    # Plain numbers: its own are numpy's.
    return [dict(answer.to_json_dict()) for answer in result.results]


def write_report(judgement: Judgement, reports_dir: Path) -> Path:
    """`quality/<day>.html`, one page without any reference to a network, and `<day>.json`, the same for a program.

    Each whole or not at all; the same judgement gives the same bytes; pages of other days are left alone.
    """
    from shijim_pipelines.quality_page import page

    contents = {
        "trading_day": judgement.trading_day,
        "worst": judgement.worst,
        "findings": [asdict(finding) for finding in judgement.findings],
        "profile": judgement.profile.to_pylist(),
    }
    path = reports_dir / "quality" / f"{judgement.trading_day}.html"
    write_durably(path.with_suffix(".json"), orjson.dumps(contents, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2))
    return write_durably(path, page(judgement).encode())


def describe(judgement: Judgement) -> str:
    """For a person at a terminal: what failed, for whom."""
    from shijim_pipelines.quality_page import amount

    total = len(judgement.findings)
    good = sum(finding.success for finding in judgement.findings)
    lines = [
        f"Quality of trading day {judgement.trading_day}: {judgement.worst or 'sound'}; "
        f"{good} of {total} expectations hold for {judgement.profile.num_rows} rows of the profile"
    ]
    for finding in judgement.findings:
        if not finding.success:
            worst = [f"{f.code} {f.session} {amount(f.observed, finding.rule.column)}" for f in finding.failures]
            more = f" and {len(worst) - SHOWN_MAX} more" if len(worst) > SHOWN_MAX else ""
            lines += [
                "",
                f"{finding.rule.severity}: {finding.rule.what}",
                f"  fails: {', '.join(worst[:SHOWN_MAX])}{more}",
            ]
            lines += [f"  {finding.rule.why}"]
    return "\n".join(lines)
