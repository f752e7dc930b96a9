"""The quality report as one page: what fails in plain words, whose, and the whole profile. Judges nothing itself.

Nothing on it is fetched from anywhere: it opens from a disk, a mail or a ticket, on a phone, in the dark, in ten years.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, Final

from shijim_live.calendar import MINUTE_NS, SECOND_NS, wall_clock
from shijim_pipelines.quality import KEY, SEVERITIES, Finding, Judgement

# Symbols shown of one expectation: two thousand names in a row help nobody, and the JSON has all.
SYMBOLS_MAX: Final = 60
_MILLISECOND_NS: Final = 1_000_000
_NOTHING: Final = "–"

# (head, column of the profile): what a person looks for first stands first.
COLUMNS: Final = (
    ("session", "session"),
    ("trades", "trades"),
    ("lots", "lots"),
    ("books", "books"),
    ("trades off the book", "off_touch_ppm"),
    ("crossed books", "crossed_books"),
    ("locked", "locked_books"),
    ("one side only", "one_sided_ppm"),
    ("delay, median", "delay_ns_median"),
    ("delay, 99 %", "delay_ns_p99"),
    ("delay, most", "delay_ns_max"),
    ("before its stamp", "negative_delays"),
    ("longest silence", "silence_ns"),
    ("since", "silence_from_ns"),
    ("repeats", "duplicates"),
    ("stamps backwards", "backwards"),
    ("suspect", "suspect_rows"),
    ("price jumps", "price_jumps"),
    ("beyond limit", "beyond_limit"),
    ("trial rows", "trial_rows"),
    ("odd-lot rows", "odd_rows"),
    ("outside rows", "outside_rows"),
    ("without total", "trades_without_total"),
    ("first event", "first_ns"),
    ("last event", "last_ns"),
    ("source", "source"),
)
# A rule about a share, shown where its count stands, or the reverse.
_SHOWN_AS: Final = {
    "crossed_ppm": "crossed_books",
    "backwards_ppm": "backwards",
    "duplicates_ppm": "duplicates",
    "outside_ppm": "outside_rows",
    "trades_without_books": "trades",
    "books_without_trades": "books",
}
_CLOCKS: Final = ("silence_from_ns", "first_ns", "last_ns")

Row = Mapping[str, Any]
Marks = dict[tuple[str, ...], dict[str, str]]  # row of the profile → column → worst severity that fails there


def page(judgement: Judgement) -> str:
    """The whole page; the same judgement gives the same text."""
    day = judgement.trading_day
    failed = [finding for finding in judgement.findings if not finding.success]
    held = [finding for finding in judgement.findings if finding.success]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Quality {day}</title>",
        f"<style>\n{_style()}</style></head><body><main>",
        f"<h1>Quality of trading day {day}</h1>",
        f'<p class="quiet">{day:%A} · times are Taipei’s · a futures night belongs to the next trading day</p>',
        _verdict(judgement, failed),
        _facts(judgement),
        *(["<h2>What is not as expected</h2>", *map(_card, failed)] if failed else []),
        f"<details><summary>What holds: {_count(len(held), 'expectation')}</summary><ul>",
        *(f"<li>{escape(finding.rule.what)}</li>" for finding in held),
        "</ul></details>",
        "<h2>Every symbol, worst first</h2>",
        _table(judgement),
        _footer(),
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _style() -> str:
    return Path(__file__).with_name("quality_page.css").read_text()


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _verdict(judgement: Judgement, failed: list[Finding]) -> str:
    if not failed:
        return '<p class="verdict good">Sound: every expectation holds</p>'
    counts = [(severity, len(judgement.failed(severity))) for severity in SEVERITIES]
    told = ", ".join(
        f"{count} {severity}" if severity != "warning" else _count(count, severity)
        for severity, count in counts
        if count
    )
    advice = {
        "critical": "do not build on this day before you know why",
        "warning": "usable, with what stands below in mind",
        "info": "good; worth knowing",
    }[judgement.worst]
    return f'<p class="verdict {judgement.worst}">{told}: {advice}</p>'


def _facts(judgement: Judgement) -> str:
    rows = judgement.profile.to_pylist()
    facts = [
        ("symbols", len({row["code"] for row in rows})),
        ("sources", len({row["source"] for row in rows})),
        *((name, sum(row[name] for row in rows)) for name in ("rows", "trades", "books")),
        ("repeats hidden", sum(row["duplicates"] for row in rows)),
    ]
    shown = "".join(f"<li><b>{number:,}</b><span>{name}</span></li>" for name, number in facts)
    return f'<ul class="facts">{shown}</ul>'


def _card(finding: Finding) -> str:
    rule = finding.rule
    several = len({failure.source for failure in finding.failures}) > 1
    symbols = []
    for failure in finding.failures[:SYMBOLS_MAX]:
        source = f", {failure.source}" if several else ""
        observed = amount(failure.observed, rule.column)
        symbols.append(f"<li><b>{escape(failure.code)}</b> {escape(failure.session + source)}: {observed}</li>")
    if len(finding.failures) > SYMBOLS_MAX:
        symbols.append(f"<li>and {len(finding.failures) - SYMBOLS_MAX:,} more, in the JSON beside this page</li>")
    named = f'<ul class="symbols">{"".join(symbols)}</ul>' if symbols else ""
    return (
        f'<section class="card {rule.severity}"><h3><span class="mark {rule.severity}">{rule.severity}</span>'
        f'{escape(rule.what)}</h3><p class="quiet">{escape(rule.why)}</p>{named}</section>'
    )


def _marks(findings: Iterable[Finding]) -> Marks:
    marks: Marks = {}
    for finding in findings:  # worst severity first: the first mark of a cell stays
        for failure in finding.failures:
            columns = marks.setdefault((failure.code, failure.session, failure.source), {})
            columns.setdefault(_SHOWN_AS.get(finding.rule.column, finding.rule.column), finding.rule.severity)
    return marks


def _table(judgement: Judgement) -> str:
    marks = _marks(judgement.findings)

    def badness(row: Row) -> tuple[object, ...]:
        severities = marks.get(_key(row), {}).values()
        return (*(-sum(s == severity for s in severities) for severity in SEVERITIES), -row["rows"], _key(row))

    rows = sorted(judgement.profile.to_pylist(), key=badness)
    if not rows:
        return '<p class="quiet">Nothing of this day is archived.</p>'
    # A column that says nothing of any symbol is left out: a phone is narrow.
    shown = [(head, name) for head, name in COLUMNS if name in _ALWAYS or any(row[name] for row in rows)]
    heads = "".join(f"<th>{head}</th>" for head, _ in shown)
    body = "\n".join(_row(row, shown, marks.get(_key(row), {})) for row in rows)
    head = f"<thead><tr><th>symbol</th>{heads}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>\n{body}\n</tbody></table></div>'


_ALWAYS: Final = ("session", "trades", "books", "crossed_books", "silence_ns", "source")


def _key(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in KEY)


def _row(row: Row, shown: list[tuple[str, str]], marks: Mapping[str, str]) -> str:
    worst = next((severity for severity in SEVERITIES if severity in marks.values()), "")
    cells = []
    for _, name in shown:
        value = row[name]
        style = marks.get(name) or ("text" if isinstance(value, str) else "" if value else "zero")
        cells.append(f'<td class="{style}">{amount(value, name)}</td>' if style else f"<td>{amount(value, name)}</td>")
    return f'<tr><th class="{worst}">{escape(row["code"])}</th>{"".join(cells)}</tr>'


def _footer() -> str:
    return (
        '<footer class="quiet"><p>Counts are of the board lane inside its session, repeats left out, unless they say '
        "otherwise. “Trades off the book” are outside the best bid and ask recorded before them. A delay is receive "
        "time minus the exchange’s stamp; – is what a source cannot know.</p>"
        "<p>What is missing of the day is not on this page: see its gap report.</p></footer>"
    )


def amount(value: int | str | None, column: str) -> str:
    """A value of the profile in the unit its column's name tells, for a person."""
    if value is None:
        return _NOTHING
    if isinstance(value, str):
        return escape(value)
    if column in _CLOCKS:
        wall: datetime = wall_clock(value)
        return f"{wall:%m-%d %H:%M:%S}"
    if value == 0:
        return "0"
    if column.endswith("_ppm"):
        return f"{value / 10_000:.2f} %" if value < 10_000 else f"{value / 10_000:.1f} %"
    if column.startswith("delay_ns") or column.endswith("_ns"):
        return duration(value)
    return f"{value:,}"


def duration(ns: int) -> str:
    """`3.1 ms`, `1.81 s`, `12 min 25 s`, `5 h 40 min`; with its sign."""
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    if ns < SECOND_NS:
        return f"{sign}{ns / _MILLISECOND_NS:.1f} ms"
    if ns < 100 * SECOND_NS:
        return f"{sign}{ns / SECOND_NS:.1f} s"
    minutes, seconds = ns // MINUTE_NS, ns % MINUTE_NS // SECOND_NS
    if minutes < 100:
        return f"{sign}{minutes} min {seconds} s"
    return f"{sign}{minutes // 60} h {minutes % 60} min"
