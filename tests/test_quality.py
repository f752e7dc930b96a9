"""Quality: the profile counts what plain Python counts, each expectation fails for its symbol, the page says so."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from made_records import ns, write_log
from real_data import DATA, needs_data

from shijim_live.calendar import NotATradingDay
from shijim_live.events import (
    ABSENT_I64,
    ABSENT_U32,
    EMPTY_PRICE_E6,
    Book,
    BrokerClass,
    Event,
    Exchange,
    Flag,
    Lane,
    Trade,
    decode_all,
)
from shijim_live.record import wal
from shijim_live.store.lake import Lake
from shijim_pipelines import quality
from shijim_pipelines.archive import archive_all
from shijim_pipelines.imports import import_file
from shijim_pipelines.invariants import invariants
from shijim_pipelines.quality import RULES, SEVERITIES, Judgement, judge, profile, write_report
from shijim_pipelines.quality_page import amount, duration, page

DAY = date(2026, 4, 9)
SECOND_NS = 1_000_000_000
OPEN_NS = ns("2026-04-09 09:00:00")
STEPS = 120
E6 = 1_000_000


def stock(code: str, *, books: bool = True, trades: bool = True) -> list[Trade | Book]:
    """Two minutes of a sound stock: each second a book 100 | 101, and half a second later a trade at one of them."""
    events: list[Trade | Book] = []
    common: dict[str, Any] = {"code": code, "exchange": Exchange.TSE, "lane": Lane.BOARD}
    for step in range(STEPS):
        at = OPEN_NS + step * SECOND_NS
        times = {"exchange_ns": at, "received_ns": at + 3_000_000}
        bids = (100 * E6, *(EMPTY_PRICE_E6,) * 4)
        asks = (101 * E6, *(EMPTY_PRICE_E6,) * 4)
        volumes = {"bid_volume": (1 + step % 7, 0, 0, 0, 0), "ask_volume": (2, 0, 0, 0, 0)}
        if books:
            of_book = {"broker_class": BrokerClass.BIDASK_STK_V1, "bid_price_e6": bids, "ask_price_e6": asks}
            events.append(Book(**(common | times | of_book | volumes)))
        if trades:
            later = {name: value + SECOND_NS // 2 for name, value in times.items()}
            of_trade: dict[str, Any] = {"broker_class": BrokerClass.TICK_STK_V1, "volume": 1, "total_volume": step + 1}
            price = {"price_e6": (100 + step % 2) * E6, "price_chg_e6": (step % 2) * E6, "side": 1}
            events.append(Trade(**(common | later | of_trade | price)))
    return events


Change = Callable[[Trade | Book], Trade | Book]


def changed(code: str, kind: type, change: Change, every: int = 1) -> list[Trade | Book]:
    """A stock of which every n-th event of a kind is changed, counted from the first."""
    seen, events = 0, []
    for event in stock(code):
        if isinstance(event, kind):
            event = change(event) if seen % every == 0 else event
            seen += 1
        events.append(event)
    return events


def asks_at(price: int) -> Change:
    return lambda book: replace(book, ask_price_e6=(price * E6, *(EMPTY_PRICE_E6,) * 4))  # type: ignore[call-arg]


def late(by_ns: int) -> Change:
    return lambda event: replace(event, received_ns=event.exchange_ns + by_ns)


def with_fields(**fields: Any) -> Change:
    return lambda event: replace(event, **fields)


# Code → (its events, the expectations that fail for it).
ROWS: dict[str, tuple[list[Trade | Book], set[str]]] = {
    "1101": (stock("1101"), set()),
    "1102": (changed("1102", Book, asks_at(99)), {"few_crossed_books", "no_crossed_book", "trades_near_the_book",
                                                  "most_trades_at_the_book"}),
    "1103": (changed("1103", Book, asks_at(99), 120), {"no_crossed_book"}),
    "1104": (changed("1104", Trade, with_fields(price_e6=140 * E6, price_chg_e6=ABSENT_I64), 60), {"no_price_jumps"}),
    "1105": (changed("1105", Trade, with_fields(price_e6=104 * E6), 2), {"most_trades_at_the_book"}),
    "1106": (changed("1106", Trade, with_fields(price_e6=104 * E6)), {"trades_near_the_book",
                                                                      "most_trades_at_the_book"}),
    "1107": (changed("1107", Event, late(8 * 3600 * SECOND_NS)), {"plausible_delay", "quick_feed"}),
    "1108": (changed("1108", Event, late(-8 * 3600 * SECOND_NS)), {"plausible_delay", "no_negative_delay"}),
    "1109": (changed("1109", Book, late(-1), 60), {"no_negative_delay"}),
    "1110": (changed("1110", Trade, late(1_500_000_000), 20), {"quick_feed"}),
    "1201": (changed("1201", Trade, with_fields(price_chg_e6=20 * E6), 60), {"within_price_limits"}),
    "1203": (changed("1203", Trade, lambda e: replace(e, exchange_ns=e.exchange_ns - 3 * SECOND_NS), 60),
             {"stamps_run_forward"}),
    "1204": (changed("1204", Trade, with_fields(flags=Flag.SUSPECT), 60), {"nothing_suspect"}),
    "1210": ([event for each in stock("1210") for event in (each, each)], {"few_repeats"}),
    "1213": (stock("1213", books=False), {"trades_have_books"}),
    "1215": (stock("1215", trades=False), {"books_have_trades"}),
    "1216": (changed("1216", Trade, lambda e: replace(e, exchange_ns=e.exchange_ns + 18_000 * SECOND_NS,
                                                      received_ns=e.received_ns + 18_000 * SECOND_NS), 20),
             {"few_outside", "stamps_run_forward"}),
    "1217": (changed("1217", Book, asks_at(100), 60), {"no_locked_book"}),
    "1218": (changed("1218", Book, with_fields(ask_price_e6=(EMPTY_PRICE_E6,) * 5, ask_volume=(0,) * 5), 5),
             {"two_sided_books"}),
    "1219": (changed("1219", Trade, with_fields(total_volume=ABSENT_U32), 60), {"continuity_provable"}),
    # A handful of events is no share: one rule of the two.
    "1221": (changed("1221", Book, asks_at(99))[:20], {"no_crossed_book"}),
    # Five minutes exactly are not longer than five minutes.
    "1222": ([replace(e, exchange_ns=e.exchange_ns + 299_500_000_000 * (n > 150),
                      received_ns=e.received_ns + 299_500_000_000 * (n > 150)) for n, e in enumerate(stock("1222"))],
             set()),
    "1220": ([replace(e, exchange_ns=e.exchange_ns + 900 * SECOND_NS * (n > 150),
                      received_ns=e.received_ns + 900 * SECOND_NS * (n > 150)) for n, e in enumerate(stock("1220"))],
             {"no_long_silence"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("quality")
    events = [event for mine, _ in ROWS.values() for event in mine]
    write_log(folder / "wal", events)
    archive_all(folder / "wal", folder / "archive")
    return Lake(folder / "archive")


@pytest.fixture(scope="module")
def judgement(lake: Lake) -> Judgement:
    return judge(profile(lake, DAY), DAY)


@pytest.mark.parametrize("code", ROWS)
def test_what_is_wrong_of_a_symbol_fails_its_expectations_and_no_other(judgement: Judgement, code: str) -> None:
    failing = {finding.rule.name for finding in judgement.findings if code in finding.symbols}
    assert failing == ROWS[code][1]


def test_every_expectation_is_failed_by_some_symbol_of_these_tests() -> None:
    assert {name for _, names in ROWS.values() for name in names} == {rule.name for rule in RULES} | {"no_long_silence"}


def test_failed_findings_come_first_and_the_worst_severity_is_told(judgement: Judgement) -> None:
    ranks = [(finding.success, SEVERITIES.index(finding.rule.severity)) for finding in judgement.findings]
    assert ranks == sorted(ranks)
    assert judgement.worst == "critical"
    assert {finding.rule.severity for finding in judgement.failed("warning")} == {"warning"}
    observed = {f.rule.name: [failure.observed for failure in f.failures] for f in judgement.findings}
    assert observed["plausible_delay"] == [8 * 3600 * SECOND_NS, -8 * 3600 * SECOND_NS]
    assert observed["no_negative_delay"] == [2 * STEPS, 2]


def test_a_day_without_rows_is_critical_and_no_error(tmp_path: Path) -> None:
    nothing = judge(profile(Lake(tmp_path / "nothing"), DAY), DAY)
    assert (nothing.worst, [f.rule.name for f in nothing.failed("critical")]) == ("critical", ["something_recorded"])
    assert "Nothing of this day is archived" in page(nothing)
    with pytest.raises(NotATradingDay):
        profile(Lake(tmp_path), date(2026, 4, 11))


def test_an_expectation_that_cannot_be_evaluated_is_an_error_not_a_verdict(lake: Lake) -> None:
    numbers = profile(lake, DAY)
    place = numbers.column_names.index("crossed_books")
    as_text = numbers.set_column(place, "crossed_books", pa.array(["many"] * numbers.num_rows))
    with pytest.raises(quality.QualityFailed, match=r"2026-04-09: no_crossed_book could not be evaluated \(") as failed:
        judge(as_text, DAY)
    assert "\n" not in str(failed.value)


# The profile against plain Python


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    for words in (("shijim_live", "record", "--broker", "simulated", "--day", str(DAY), "--events", "30000",
                   "--metrics-port", "0", "--quiet"), ("shijim_pipelines", "archive")):  # fmt: skip
        subprocess.run([sys.executable, "-m", *words, "--data-dir", str(folder)], check=True, capture_output=True)
    return folder


def counted(folder: Path) -> dict[tuple[str, str], dict[str, int]]:
    """The board lane of a recorded day, event by event in the order of recording; repeats told by their payload."""
    found: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    seen: dict[tuple[str, type], list[Event]] = defaultdict(list)
    touch: dict[str, Book] = {}
    paths = sorted(wal.segment_paths(folder / "wal"), key=lambda path: path.stem)
    for event in (event for path in paths for chunk in wal.records(path) for event in decode_all(chunk)):
        if not isinstance(event, Trade | Book):
            continue
        night = event.exchange_ns < ns("2026-04-09 08:00:00")
        row = found[event.code, "night" if night else "day"]
        row["rows"] += 1
        row["trial_rows"] += event.lane == Lane.TRIAL
        recent = seen[event.code, type(event)]
        payload = replace(event, sequence=0, received_ns=0)
        repeated = payload in (recent[-1:] if isinstance(event, Book) else recent[-64:])
        recent.append(payload)
        if repeated or event.lane != Lane.BOARD:
            row["duplicates"] += repeated
            continue
        if isinstance(event, Book):
            touch[event.code] = event
            row["books"] += 1
            row["one_sided_books"] += (event.bid_volume[0] == 0) != (event.ask_volume[0] == 0)
            continue
        row["trades"] += 1
        row["lots"] += event.volume
        if event.code in touch:
            best = touch[event.code]
            above = best.ask_volume[0] > 0 and event.price_e6 > best.ask_price_e6[0]
            row["off_touch"] += above or (best.bid_volume[0] > 0 and event.price_e6 < best.bid_price_e6[0])
    return found


def test_the_profile_of_a_recorded_day_is_what_plain_python_counts(simulated: Path) -> None:
    found = profile(Lake(simulated / "archive"), DAY)
    assert set(map(str, found.schema.types)) == {"string", "int64"}
    wanted = counted(simulated)
    assert {(row["code"], row["session"]) for row in found.to_pylist()} == set(wanted)
    for row in found.to_pylist():
        mine = wanted[row["code"], row["session"]]
        names = ("rows", "trades", "lots", "books", "trial_rows", "duplicates", "one_sided_books", "off_touch")
        assert {name: row[name] for name in names} == {name: mine[name] for name in names}, row["code"]
        assert row["delayed_rows"] == row["rows"] - row["duplicates"]
        assert row["delay_ns_min"] <= row["delay_ns_median"] <= row["delay_ns_p99"] <= row["delay_ns_max"]


def test_a_simulated_day_is_sound(simulated: Path) -> None:
    lake = Lake(simulated / "archive")
    assert invariants(lake, DAY, "ticks") == invariants(lake, DAY, "books") == []
    judged = judge(profile(lake, DAY), DAY)
    assert [(f.rule.name, f.failures) for f in judged.findings if not f.success and f.rule.severity != "info"] == []


def test_the_times_of_the_profile_are_those_of_the_events(lake: Lake) -> None:
    rows = {row["code"]: row for row in profile(lake, DAY).to_pylist()}
    sound, silent = rows["1101"], rows["1220"]
    last_ns = OPEN_NS + (STEPS - 1) * SECOND_NS + SECOND_NS // 2
    assert (sound["first_ns"], sound["last_ns"], sound["events"]) == (OPEN_NS, last_ns, 2 * STEPS)
    assert (sound["silence_ns"], sound["silence_from_ns"]) == (SECOND_NS // 2, OPEN_NS)
    assert (sound["delay_ns_min"], sound["delay_ns_median"], sound["delay_ns_max"]) == (3_000_000,) * 3
    # Events 0 … 150 stand half a second apart, the rest follows a quarter of an hour later.
    wanted = (900 * SECOND_NS + SECOND_NS // 2, OPEN_NS + 75 * SECOND_NS)
    assert (silent["silence_ns"], silent["silence_from_ns"]) == wanted
    assert (rows["1109"]["negative_delays"], rows["1109"]["negative_episodes"]) == (2, 2)
    assert (rows["1108"]["negative_delays"], rows["1108"]["negative_episodes"]) == (2 * STEPS, 2)  # books, trades
    assert (rows["1203"]["backwards"], rows["1203"]["backwards_ns_max"]) == (1, 2 * SECOND_NS)


# Real data


@needs_data
@pytest.mark.parametrize(
    ("files", "day", "warnings"),
    [
        ("txf_l5/TXFD6_2026-04-0*.parquet", date(2026, 4, 9), set()),
        ("txf_l5/TXFD6_2026-04-10.parquet", date(2026, 4, 10), set()),
        ("txf_l5/TXFD6_2026-04-09.parquet", date(2026, 4, 10), {"no_long_silence"}),
        ("txf_l5/TXFD6_2026-04-10.parquet", date(2026, 4, 13), {"no_long_silence"}),
        ("shioaji_stream/*.jsonl", date(2025, 11, 20),
         {"no_long_silence", "most_trades_at_the_book", "stamps_run_forward", "few_repeats"}),
    ],
)  # fmt: skip
def test_a_real_day_gives_nothing_critical(tmp_path: Path, files: str, day: date, warnings: set[str]) -> None:
    for path in sorted(DATA.glob(files)):
        import_file(path, tmp_path / "wal")
    archive_all(tmp_path / "wal", tmp_path / "archive")
    judged = judge(profile(Lake(tmp_path / "archive"), day), day)
    assert judged.failed("critical") == ()
    assert {finding.rule.name for finding in judged.failed("warning")} == warnings


def history(code: str) -> list[Event]:
    """A stock as the broker's history has it: no books, no receive times."""
    known = {"received_ns": ABSENT_I64, "broker_class": BrokerClass.HISTORY_TICKS}
    return [replace(event, **known) for event in stock(code, books=False)]  # type: ignore[arg-type]


def test_sources_are_judged_apart_and_what_was_filled_in_was_not_received(tmp_path: Path) -> None:
    write_log(tmp_path / "wal", stock("1213", books=False))
    write_log(tmp_path / "wal", stock("1214"), run_id="00000000000000ef", source="replay")
    write_log(tmp_path / "wal", history("1215"), run_id="00000000000000cd", source="backfill")
    archive_all(tmp_path / "wal", tmp_path / "archive")
    found = profile(Lake(tmp_path / "archive"), DAY)
    assert [(row["source"], row["trades"]) for row in found.to_pylist()] == [("replay", STEPS), ("simulated", STEPS)]
    (failure,) = next(f for f in judge(found, DAY).findings if f.rule.name == "trades_have_books").failures
    assert (failure.code, failure.source, failure.observed) == ("1213", "simulated", STEPS)


def test_a_day_that_was_filled_in_has_the_profile_it_had_before(tmp_path: Path) -> None:
    write_log(tmp_path / "wal", stock("1101"))
    archive_all(tmp_path / "wal", tmp_path / "archive")
    before = profile(Lake(tmp_path / "archive"), DAY)
    write_log(tmp_path / "wal", history("1101"), run_id="00000000000000cd", source="backfill")
    archive_all(tmp_path / "wal", tmp_path / "archive")
    assert profile(Lake(tmp_path / "archive"), DAY).equals(before)


# The page


def test_the_page_names_failing_symbols_and_refers_to_no_network(judgement: Judgement, tmp_path: Path) -> None:
    path = write_report(judgement, tmp_path)
    assert path == tmp_path / "quality" / "2026-04-09.html"
    text = path.read_text()
    assert not re.search(r"https?:|//|\bsrc=|\bhref=|url\(|@import|<script|<link", text)
    for finding in judgement.findings:
        assert escape(finding.rule.what) in text
        for symbol in finding.symbols:
            assert f"<li><b>{symbol}</b> day" in text
    bad = re.findall(r'<tr><th class="(\w*)">(\w+)</th>', text)
    assert {code for style, code in bad if not style} == {"1101", "1222"}
    assert [SEVERITIES.index(style) for style, _ in bad if style] == sorted(
        SEVERITIES.index(style) for style, _ in bad if style
    )
    assert "8 h 0 min" in text and "-8 h 0 min" in text and "04-09 09:00:00" in text


def test_the_json_beside_the_page_says_the_same(judgement: Judgement, tmp_path: Path) -> None:
    told = orjson.loads(write_report(judgement, tmp_path).with_suffix(".json").read_bytes())
    assert (told["trading_day"], told["worst"], len(told["profile"])) == ("2026-04-09", "critical", len(ROWS))
    failed = {f["rule"]["name"]: {failure["code"] for failure in f["failures"]} for f in told["findings"]}
    assert failed == {finding.rule.name: set(finding.symbols) for finding in judgement.findings}


def test_the_same_judgement_gives_the_same_bytes_and_other_days_stay(
    judgement: Judgement, lake: Lake, tmp_path: Path
) -> None:
    one = write_report(judgement, tmp_path / "one")
    two = write_report(judge(profile(lake, DAY), DAY), tmp_path / "two")
    for suffix in (".html", ".json"):
        assert one.with_suffix(suffix).read_bytes() == two.with_suffix(suffix).read_bytes()
    before = one.read_bytes()
    write_report(replace(judgement, trading_day=date(2026, 4, 10)), tmp_path / "one")
    assert one.read_bytes() == before
    assert sorted(path.name for path in one.parent.iterdir()) == [
        f"2026-04-{day}.{kind}" for day in ("09", "10") for kind in ("html", "json")
    ]


def test_a_code_with_the_characters_of_html_stays_text(tmp_path: Path) -> None:
    write_log(tmp_path / "wal", [replace(event, code="<b>&'") for event in stock("1101", books=False)])
    archive_all(tmp_path / "wal", tmp_path / "archive")
    text = page(judge(profile(Lake(tmp_path / "archive"), DAY), DAY))
    assert "<b>&lt;b&gt;&amp;&#x27;</b>" in text and "<b><b>" not in text


def test_the_terminal_says_which_symbols_fail(judgement: Judgement) -> None:
    text = quality.describe(judgement)
    assert text.startswith("Quality of trading day 2026-04-09: critical; 1 of 20 expectations hold for 23 rows")
    assert "  fails: 1107 day 8 h 0 min, 1108 day -8 h 0 min" in text
    assert "fails: \n" not in text


@pytest.mark.parametrize(
    ("ns_", "text"),
    [(0, "0.0 ms"), (3_018_489, "3.0 ms"), (-1_500_000_000, "-1.5 s"), (744_750_000_000, "12 min 24 s"),
     (20_392_750_000_000, "5 h 39 min")],
)  # fmt: skip
def test_durations_read_like_durations(ns_: int, text: str) -> None:
    assert duration(ns_) == text


def test_amounts_have_the_unit_of_their_column() -> None:
    wanted = {("off_touch_ppm", 232_796): "23.3 %", ("crossed_ppm", 59): "0.01 %", ("trades", 1234): "1,234",
              ("first_ns", OPEN_NS): "04-09 09:00:00", ("delay_ns_max", 0): "0"}  # fmt: skip
    assert {key: amount(key[1], key[0]) for key in wanted} == wanted
    assert amount(None, "delay_ns_max") == "–"


# What is imported and asked


def in_a_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_stages_does_not_import_what_takes_seconds() -> None:
    heavy = "{'great_expectations', 'pandas', 'matplotlib', 'hftbacktest', 'numba', 'chdb', 'dagster'}"
    modules = "quality, quality_page, invariants, pictures, drawing"
    assert in_a_process(f"from shijim_pipelines import {modules}\nimport sys\nprint({heavy} & set(sys.modules))") == (
        "set()\n"
    )


def test_judging_asks_no_network_and_sends_no_statistics() -> None:
    told = in_a_process(
        "import sys, datetime\n"
        "from pathlib import Path\n"
        "asked = []\n"
        "sys.addaudithook(lambda name, args: asked.append((name, args)) if name in "
        "('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'socket.sendto') else None)\n"
        "from shijim_live.store.lake import Lake\n"
        "from shijim_pipelines import quality\n"
        "day = datetime.date(2026, 4, 9)\n"
        "quality.judge(quality.profile(Lake(Path('/nonexistent')), day), day)\n"
        "print(asked)"
    )
    assert told == "[]\n"
