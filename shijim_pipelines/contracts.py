"""The contracts of a trading day as rows: checked, exact, and whether there are as many as expected. Asks nobody.

Where they lie and when they are asked for is `quotes.py`; what a code says of itself is `shijim_live/instruments.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

import pyarrow as pa

from shijim_live.broker.contracts import CONTRACT_FIELDS
from shijim_live.broker.history import Columns
from shijim_live.instruments import FUND_TICKS, STOCK_TICKS, UnknownInstrument, instrument, tick_size_e6
from shijim_pipelines.answers import AnswerRefused, columns_of, count, e6

INSTRUMENTS_SCHEMA: Final = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("code", "name", "exchange", "security_type")),
        *(pa.field(f"{name}_e6", pa.int64()) for name in ("reference", "limit_up", "limit_down")),
        pa.field("currency", pa.string()),
        pa.field("tick_rule", pa.string()),  # the broker's name of it; "stock" and "fund" are ours
        pa.field("tick_e6", pa.int64()),  # upward from the reference
        pa.field("multiplier_e6", pa.int64()),  # currency a unit of `volume` gains per point, × 1,000,000
        pa.field("lot_shares", pa.int64()),  # shares of a round lot; null for contracts
        pa.field("last_trading_day", pa.date32()),
        pa.field("delivery_month", pa.string()),
        pa.field("underlying_kind", pa.string()),
        pa.field("underlying", pa.string()),
        pa.field("strike_e6", pa.int64()),
        pa.field("option_right", pa.string()),
        pa.field("stands_for", pa.string()),  # of a continuous code: the dated contract
        pa.field("suspended", pa.bool_()),
        pa.field("updated", pa.date32()),  # when the broker last touched it
    ]
)
# What every answer has; a source that knows no more leaves the others out.
REQUIRED: Final = tuple(CONTRACT_FIELDS)[:7]

KINDS: Final = {"STK": "stocks", "FUT": "futures", "OPT": "options", "IND": "indices", "WRT": "warrants"}
# Listings come and go by ones and twos; a twentieth less overnight is an answer that broke off.
FALL_PERCENT_MAX: Final = 5
# Some have none: a new listing has no limits for five days. More than this without a reference is an early answer.
WITHOUT_REFERENCE_PERCENT_MAX: Final = 5
NAMES_SHOWN_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a day's contracts are what a recorder and a risk check can start from."""

    counts: Mapping[str, int]  # stocks, futures, …
    before: Mapping[str, int] | None  # of the day before, where it is known
    problems: tuple[str, ...]  # nothing can start
    warnings: tuple[str, ...]

    @property
    def ready(self) -> bool:
        return not self.problems


def contract_table(answer: Columns, where: str) -> pa.Table:
    """A table of INSTRUMENTS_SCHEMA, by code. AnswerRefused for what cannot be true."""
    names = [*REQUIRED, *(name for name in tuple(CONTRACT_FIELDS)[7:] if name in answer)]
    columns = columns_of(answer, names, where)
    codes = [str(code) for code in columns["Code"]]
    if not codes:
        raise AnswerRefused(f"{where}: none at all on a trading day. Ask again later")
    if len(set(codes)) < len(codes):
        twice = min(code for code in set(codes) if codes.count(code) > 1)
        raise AnswerRefused(f"{where}: {twice} stands there twice. Nothing was written")
    rows = [
        _row({name: values[place] for name, values in columns.items()}, f"{where}: {codes[place]}")
        for place in sorted(range(len(codes)), key=codes.__getitem__)
    ]
    return pa.Table.from_pylist(rows, INSTRUMENTS_SCHEMA)


def _row(said: Mapping[str, object], where: str) -> dict[str, object]:
    """One row, floats by their shortest decimal text, None where the broker says nothing."""

    def money(name: str) -> int | None:
        return None if said.get(name) is None else e6(said[name], f"{where}: {name}")

    def text(name: str) -> str | None:
        return None if said.get(name) is None else str(said[name])

    def day(name: str) -> date | None:
        return None if said.get(name) is None else _day(said[name], f"{where}: {name}")

    code = str(said["Code"])
    kind = text("SecurityType")
    if kind not in KINDS:
        raise AnswerRefused(f"{where}: SecurityType is {kind!r}, not one of {', '.join(KINDS)}. Update Shijim")
    reference_e6 = money("Reference") or None  # the broker's 0 is: there is none
    tick_rule, tick_e6 = _tick(code, text("TickRule"), money("Tick"), reference_e6)
    limit_up_e6, limit_down_e6 = money("LimitUp") or None, money("LimitDown")
    if limit_up_e6 is not None and limit_down_e6 is not None and limit_down_e6 > limit_up_e6:
        raise AnswerRefused(f"{where}: its limits contradict each other ({limit_down_e6} > {limit_up_e6}). Ask again")
    suspended = said.get("Suspended")
    return {
        "code": code,
        "name": text("Name") or code,
        "exchange": text("Exchange") or "",
        "security_type": kind,
        "reference_e6": reference_e6,
        "limit_up_e6": limit_up_e6,
        "limit_down_e6": None if limit_up_e6 is None else limit_down_e6,
        "currency": text("Currency"),
        "tick_rule": tick_rule,
        "tick_e6": tick_e6,
        "multiplier_e6": _multiplier_e6(code, kind, money("Multiplier")),
        "lot_shares": count(said["Unit"], f"{where}: Unit") if said.get("Unit") is not None else None,
        "last_trading_day": day("LastTradingDate"),
        "delivery_month": text("DeliveryMonth"),
        "underlying_kind": text("UnderlyingKind"),
        "underlying": text("UnderlyingCode"),
        "strike_e6": money("StrikePrice"),
        "option_right": text("OptionRight"),
        "stands_for": text("TargetCode"),
        "suspended": None if suspended is None else bool(suspended),
        "updated": day("UpdateDate"),
    }


def _tick(code: str, rule: str | None, tick_e6: int | None, reference_e6: int | None) -> tuple[str | None, int | None]:
    """The broker's word on ticks, else what the exchange's table says of the code."""
    if rule is not None or tick_e6 is not None:
        return rule, tick_e6
    try:
        known = instrument(code)
    except UnknownInstrument:
        return None, None  # a warrant, an option: their bands are not ours to guess
    named = {STOCK_TICKS: "stock", FUND_TICKS: "fund"}.get(known.tick_bands, "fixed")
    return named, tick_size_e6(known, reference_e6) if reference_e6 else None


def _multiplier_e6(code: str, kind: str, said_e6: int | None) -> int | None:
    """What the broker says; of a stock it says nothing, and it is the lot."""
    if said_e6 or kind not in ("STK", "FUT"):
        return said_e6
    try:
        return instrument(code).contract_size * 1_000_000
    except UnknownInstrument:
        return None


def _day(value: object, where: str) -> date:
    """A date, or the text of one: the SDK has both."""
    try:
        return value if isinstance(value, date) else date.fromisoformat(str(value).replace("/", "-"))
    except ValueError:
        raise AnswerRefused(f"{where} is {value!r}, not a day. Nothing was written") from None


# Readiness


def counts_of(table: pa.Table) -> dict[str, int]:
    """How many there are of each kind."""
    found = Counter(table["security_type"].to_pylist())
    return {name: found[kind] for kind, name in KINDS.items()}


def readiness(table: pa.Table, before: pa.Table | None = None) -> Readiness:
    """Judges a day's contracts by themselves and against those of the trading day before."""
    counts = counts_of(table)
    problems = [f"no {name} at all" for name in ("stocks", "futures") if not counts[name]]
    warnings = []
    tradable = [row for row in table.select(["code", "security_type", "reference_e6"]).to_pylist()
                if row["security_type"] != "IND"]  # fmt: skip
    without = [row["code"] for row in tradable if row["reference_e6"] is None]
    if 100 * len(without) > WITHOUT_REFERENCE_PERCENT_MAX * len(tradable):
        shown = ", ".join(without[:NAMES_SHOWN_MAX]) + " …" * (len(without) > NAMES_SHOWN_MAX)
        warnings.append(f"{len(without):,} of {len(tradable):,} have no reference price: {shown}")
    earlier = counts_of(before) if before is not None else None
    for name, had in (earlier or {}).items():
        if 100 * (had - counts[name]) > FALL_PERCENT_MAX * had:
            warnings.append(f"{counts[name]:,} {name}, {had:,} the day before: more than {FALL_PERCENT_MAX} % less")
    return Readiness(counts, earlier, tuple(problems), tuple(warnings))


def describe(found: Readiness) -> str:
    """One line for a person, and one a finding."""
    counts = ", ".join(f"{count:,} {name}" for name, count in found.counts.items() if count)
    lines = [f"{'ready' if found.ready else 'NOT ready'}: {counts or 'nothing'}"]
    return "\n".join([*lines, *found.problems, *found.warnings])
