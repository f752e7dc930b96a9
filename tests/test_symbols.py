"""A person's own list of symbols: what it chooses, in which order, and how a mistake in it is told."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import orjson
import pytest

from shijim_live.universe import read_universe
from shijim_pipelines.symbols import LIST_BYTES_MAX, SymbolsRefused, parse_symbols, read_symbols, resolve, top_of

DAY = date(2026, 4, 9)
LISTED = {
    "TXFD6": "TAIEX futures", "TXFE6": "TAIEX futures", "MXFD6": "Mini TAIEX", "2330": "TSMC", "2317": "Hon Hai",
    "2412": "Chunghwa Telecom", "0050": "Yuanta Taiwan 50", "00631L": "Twice", "030012": "a warrant",
}  # fmt: skip
RANKED = ["TXFD6", "2330", "2317", "0050"]


def chosen(text: str) -> list[str]:
    return [symbol.code for symbol in resolve(parse_symbols(text, "my.list"), LISTED, RANKED, DAY)[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2330", ["2330"]),
        ("TXF* # all months\n\n2330, 2317 2330", ["TXFD6", "TXFE6", "2330", "2317"]),
        ("txfr1 TXFR2", ["TXFD6", "TXFE6"]),
        ("@top:2\n2412", ["TXFD6", "2330", "2412"]),
        ("@top:99", RANKED),
        ("@top:4 -2317", ["TXFD6", "2330", "0050"]),
        ("0* -00631L", ["0050"]),
        ("?XFD6 -TXF*", ["MXFD6"]),
        ("2330 -2330 2330", ["2330"]),
        ("@top:3 -@top:1", ["2330", "2317"]),
    ],
)
def test_words_choose_in_order_each_code_once(text: str, expected: list[str]) -> None:
    assert chosen(text) == expected


def test_every_mistake_is_told_with_its_line_and_the_nearest_code() -> None:
    with pytest.raises(SymbolsRefused) as refused:
        chosen("2331\nTSMD  # by name\n2412\nTXGR1 XYZ*\n030012\n@best\n-0050\n9999")
    assert str(refused.value).splitlines() == [
        "my.list:1: 2331 is not listed on 2026-04-09; nearest: 2330 (TSMC)",
        "my.list:2: TSMD is not listed on 2026-04-09; nearest: 2330 (TSMC)",
        "my.list:4: TXGR1 is not listed on 2026-04-09",
        "my.list:4: XYZ* matches nothing that is listed on 2026-04-09",
        "my.list:5: 030012 is listed, but it is none of what Shijim records (a warrant, a bond, an option, an index)",
        "my.list:6: @best is not understood: write @top:200",
        "my.list:8: 9999 is not listed on 2026-04-09",
    ]


def test_what_takes_nothing_away_today_is_told_and_no_mistake() -> None:
    rules = parse_symbols("-0050 @top:2 -2412 -9999 -XYZ*", "my.list")
    symbols, idle = resolve(rules, LISTED, RANKED, DAY)
    assert [symbol.code for symbol in symbols] == ["TXFD6", "2330"]
    assert idle == [
        "my.list:1: -0050 takes nothing away of what stands above it",
        "my.list:1: -2412 takes nothing away of what stands above it",
        "my.list:1: -9999 takes nothing away: 9999 is not listed on 2026-04-09",
        "my.list:1: -XYZ* takes nothing away: XYZ* matches nothing that is listed on 2026-04-09",
    ]


def test_a_continuous_code_of_an_unlisted_month_says_which_month() -> None:
    with pytest.raises(SymbolsRefused, match=r"MXFR2, which is MXFE6, is not listed on 2026-04-09; nearest: MXFD6"):
        chosen("MXFR2")


def test_what_cannot_be_a_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SymbolsRefused, match=r"symbols\.list: no such list"):
        read_symbols("symbols.list")
    with pytest.raises(SymbolsRefused, match="the list is empty"):
        parse_symbols("# nothing\n", "my.list")
    with pytest.raises(SymbolsRefused, match=r"my\.list:1: nothing is left of the list"):
        chosen("2330 -2330")
    path = tmp_path / "symbols.list"
    path.write_bytes(b"2330 \xff")
    with pytest.raises(SymbolsRefused, match=r"is no text in UTF-8 \(byte 5\)"):
        read_symbols(str(path))
    path.write_bytes(b" " * (LIST_BYTES_MAX + 1))
    with pytest.raises(SymbolsRefused, match="are no list of symbols"):
        read_symbols(str(path))
    path.write_text("2330\n@top:20\n@top:7")
    rules = read_symbols(str(path))
    assert [rule.where for rule in rules] == [f"{path}:{number}" for number in (1, 2, 3)] and top_of(rules) == 20


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def test_a_list_becomes_the_universe_a_plan_and_what_is_recorded(tmp_path: Path) -> None:
    listing = tmp_path / "symbols.list"
    listing.write_text("TXFR1\n@top:4  # whoever trades most\n2412\n-MXF*\n")
    place = ("--day", str(DAY), "--data-dir", str(tmp_path))
    ranked = run("shijim_pipelines", "rank", "--symbols", str(listing), *place)
    assert ranked.returncode == 0, ranked.stderr
    universe = read_universe(tmp_path / "universe", DAY)
    codes = [one.code for one in universe.chosen]
    assert codes[0] == "TXFD6" and codes[-1] == "2412" and "MXFD6" not in codes and len(codes) == 4
    assert universe.chosen[0].reasons[0] == f"{listing}:1 TXFR1"
    shown = run("shijim_live", "plan", *place, "--odd-lots", "1")
    assert shown.returncode == 0, shown.stderr
    assert "Plan of 2026-04-09: 4 codes on 2 of 3 connections, 200 topics each; odd lots of 1" in shown.stdout
    whole = orjson.loads(run("shijim_live", "plan", *place, "--json").stdout)
    assert [one["code"] for one in whole[0]["places"]] == ["IX0001", *codes]
    assert sum(whole[0]["used"]) == 9
    assert {topic for one in whole[0]["places"] for topic in one["topics"]} >= {"IX0001/quote", "2412/bid_ask"}
    recorded = run(
        "shijim_live", "record", "--broker", "simulated", *place, "--events", "4000", "--quiet", "--metrics-port", "0"
    )
    assert recorded.returncode == 0, recorded.stderr
    assert "4 of the 4 codes of the universe of 2026-04-09" in recorded.stdout


def test_a_plan_is_refused_in_one_line_where_it_has_no_place_to_come_from(tmp_path: Path) -> None:
    neither = run("shijim_live", "plan", "--data-dir", str(tmp_path))
    assert neither.returncode == 2 and "one of the two" in neither.stderr
    missing = run("shijim_live", "plan", "--day", str(DAY), "--data-dir", str(tmp_path))
    assert missing.returncode == 4 and "Run: shijim rank --day 2026-04-09" in missing.stderr
    listing = tmp_path / "symbols.list"
    listing.write_text("2330\n")
    no_json = run("shijim_live", "plan", "--universe", str(listing), "--data-dir", str(tmp_path))
    assert no_json.returncode == 4 and "shijim rank --symbols FILE" in no_json.stderr
