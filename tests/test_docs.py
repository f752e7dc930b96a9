"""The pages of docs/ as tests: tables equal the code, quoted messages exist, commands parse, links lead somewhere."""

from __future__ import annotations

import ast
import math
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path

import orjson
import pytest
from test_readme import code_blocks

import shijim_live.cli
import shijim_pipelines.cli
from rust_indicators import SegmentReader
from shijim_live import events
from shijim_live.events import BOOK_LAYOUT, HEADER_BYTES, HEADER_LAYOUT, TEXT_LAYOUT, TRADE_LAYOUT, Layout
from shijim_live.store import schema
from shijim_live.store.lake import Lake, LakeError
from shijim_pipelines.event_file import EVENT_DTYPE
from shijim_pipelines.proof.gap_report import Gap, GapReport, Stream

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NAMES = ("architecture", "broker-session", "data-model", "log-format", "orders", "troubleshooting")
LINES_MAX = {"log-format": 200}  # of the others 150; this one must do without any other page
PACKAGES = ("shijim_live", "shijim_pipelines", "rust_indicators")
PARSERS = {"shijim-live": shijim_live.cli.parser, "shijim": shijim_pipelines.cli.parser}


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def section(name: str, heading: str) -> str:
    """The text under a heading of the second level."""
    return page(name).split(f"\n## {heading}\n")[1].split("\n## ")[0]


def tables(text: str) -> list[list[list[str]]]:
    """Tables → rows → cells, the heads left out, the code marks kept."""
    found = re.findall(r"^\|.*\|\n\|[-|]+\|\n((?:\|.*\|\n?)+)", text, re.MULTILINE)
    return [[[cell.strip() for cell in row[1:-1].split("|")] for row in table.splitlines()] for table in found]


def code_spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_a_page(name: str) -> None:
    assert len(page(name).splitlines()) <= LINES_MAX.get(name, 150)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_a_file_and_to_a_heading_in_it(name: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page(name)):
        path = DOCS / target if target else DOCS / f"{name}.md"
        assert "://" in target or path.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)", path.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


# Commands


def commands(text: str) -> list[list[str]]:
    """Commands of Shijim in shell blocks and in code spans: words after the program, whose name comes first."""
    spans = [line for block in code_blocks(text) for line in block.splitlines()] + code_spans(without_blocks(text))
    split = [shlex.split(span.replace("'", "")) for span in spans if span.split()[0] in PARSERS and "…" not in span]
    return [words for words in split if len(words) > 1]


def parsed(words: list[str]) -> bool:
    """Whether the verb's own parser takes the command; a word for a day stands for one."""
    try:
        PARSERS[words[0]]().parse_args(["2026-04-09" if word == "DAY" else word for word in words[1:]])
    except SystemExit as leaving:
        return leaving.code == 0
    return True


@pytest.mark.parametrize("name", NAMES)
def test_commands_in_shell_blocks_and_complete_commands_in_text_parse(name: str) -> None:
    in_blocks = [words for block in code_blocks(page(name)) for words in commands(f"```sh\n{block}```")]
    with_options = [words for words in commands(page(name)) if len(words) > 2]
    assert [" ".join(words) for words in in_blocks + with_options if not parsed(words)] == []


def test_a_command_with_an_option_that_is_not_there_is_found() -> None:
    (good, bad) = commands("`shijim audit --day 2026-04-09 --json` and `shijim audit --day 2026-04-09 --jsno`")
    assert parsed(good)
    assert not parsed(bad)


@pytest.mark.parametrize("name", NAMES)
def test_options_named_by_themselves_exist(name: str) -> None:
    spans = [span for span in code_spans(without_blocks(page(name))) if span.startswith("--")]
    sources = (
        "shijim_live/command_line.py",
        "shijim_live/cli.py",
        "shijim_live/cli_plan.py",
        "shijim_live/cli_probe.py",
        "shijim_live/cli_record.py",
        "shijim_live/cli_replay.py",
        "shijim_pipelines/cli.py",
    )
    known = "".join((ROOT / source).read_text() for source in sources)
    options = [option for span in spans for option in re.findall(r"--[a-z-]+", span)]
    assert [option for option in options if f'"{option}"' not in known] == []


PROGRAMS = [
    (path.stem, block)
    for path in sorted(DOCS.glob("*.md"))
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    if path.stem != "indicators"  # run by test_signal_names.py, which knows what it prints
]


@pytest.mark.parametrize(("name", "program"), PROGRAMS, ids=[name for name, _ in PROGRAMS])
def test_a_program_of_a_page_runs_as_it_stands(name: str, program: str, tmp_path: Path) -> None:
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout, ran.stderr


# Quoted messages

HOLE = "\0"  # where a message has a value
SHELL = ("shijim", "shijim-live", "rm", "mv", "kill", "while", "make", "pip")


@cache
def messages() -> tuple[str, ...]:
    """Every text of the program, values replaced by HOLE."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found += [text_of(node) for node in ast.walk(ast.parse(path.read_text())) if text_of(node)]
        for path in sorted((ROOT / package / "src").rglob("*.rs")):
            program = path.read_text().replace("b'\"'", "")  # a quote as a byte begins no text
            literals = re.findall(r'"((?:[^"\\]|\\.)*)"', program, re.DOTALL)
            found += [re.sub(r"\{[^{}]*\}", HOLE, re.sub(r"\\\n\s*", "", literal)) for literal in literals]
    return tuple(found)


def text_of(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def is_said(quoted: str) -> bool:
    """Whether one text of the program has the constant parts of a quoted message, in order."""
    pattern = ".*".join(re.escape(part.strip()) for part in quoted.split("…") if part.strip())
    return any(re.search(pattern, message, re.DOTALL) for message in messages())


def quoted_messages() -> list[str]:
    """Code spans of more than one word in the first cells of the tables; commands are not messages."""
    pages = (page("troubleshooting"), page("broker-session"))
    rows = [row for text in pages for table in tables(text) for row in table]
    spans = [span for row in rows for span in code_spans(row[0])]
    return [span for span in spans if " " in span and span.split()[0] not in SHELL]


def test_every_quoted_message_exists_in_the_program() -> None:
    quoted = [message for message in quoted_messages() if message not in ENGINE_WORDS]
    assert len(quoted) > 30
    assert [message for message in quoted if not is_said(message)] == []


ENGINE_WORDS = {"Unknown table": "SELECT 1 FROM nothing", "Unknown expression": "SELECT nothing FROM ticks"}


@pytest.mark.parametrize(("words", "sql"), ENGINE_WORDS.items())
def test_the_engine_says_what_the_page_quotes_of_it(words: str, sql: str, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=words):
        Lake(tmp_path).query(sql)


def test_a_message_nobody_says_is_found() -> None:
    assert is_said("…: only … MiB free, recording needs … MiB to start.")
    assert not is_said("…: only … GiB free, recording needs … MiB to start.")


def test_causes_and_metrics_of_the_page_exist() -> None:
    words = [span for span in code_spans(page("troubleshooting")) if re.fullmatch(r"[a-z]+(_[a-z]+)+", span)]
    known = {word for message in messages() for word in re.findall(r"[a-z_]+", message)}
    assert [word for word in words if word not in known and word.removesuffix("_total") not in known] == []


# The log's format and the data model

TYPES = {"u8": "B", "u16": "H", "u32": "I", "i32": "i", "u64": "Q", "i64": "q",
         "16 bytes": "16s", "48 bytes": "48x", "168 bytes": "168s"}  # fmt: skip
LAYOUTS = {"Header": HEADER_LAYOUT, "Trade": TRADE_LAYOUT, "Book": BOOK_LAYOUT, "Text": TEXT_LAYOUT}


def documented_layout(rows: list[list[str]]) -> tuple[list[tuple[str, str, int]], list[int]]:
    """Fields as the layouts of `events.py` have them, and the offset each row states for its first."""
    layout, stated = [], []
    for at, names, kind, _ in rows:
        base, _, count = kind.partition(" × ")
        layout += [(name, TYPES[base], int(count or 1)) for name in code_spans(names)]
        stated.append((code_spans(names)[0], int(at)))
    return layout, stated


@pytest.mark.parametrize(("title", "layout"), LAYOUTS.items())
def test_the_fields_of_the_page_are_the_fields_of_the_record(title: str, layout: Layout) -> None:
    text = section("log-format", "A record").split(f"\n{title}, ")[1]
    fields_there, stated = documented_layout(tables(text)[0])
    assert fields_there == list(layout)
    places = events.offsets(layout, 0 if title == "Header" else HEADER_BYTES)
    assert stated == [(name, places[name][0]) for name, _ in stated]


@pytest.mark.parametrize(
    ("name", "numbers"), [("log-format", events.Kind), ("log-format", events.Flag), ("data-model", events.Lane)]
)
def test_the_numbers_of_the_page_are_those_of_the_code(name: str, numbers: type[events.Kind]) -> None:
    wanted = [[str(int(member)), f"`{member.name}`"] for member in numbers]
    assert wanted in [[row[:2] for row in table] for table in tables(page(name))]


@pytest.mark.parametrize("numbers", [events.Lane, events.Exchange, events.BrokerClass])
def test_the_short_lists_of_the_format_are_those_of_the_code(numbers: type[events.Kind]) -> None:
    wanted = ", ".join(f"{int(member)} `{member.name}`" for member in numbers)
    assert f"{wanted}." in section("log-format", "Numbers").replace("\n", " ")


FORMAT_NUMBERS = {
    "block.rs": {"BLOCK_MAGIC": "`SBLK`", "BLOCK_HEADER_BYTES": "| 28 | length | payload |",
                 "BLOCK_RECORDS_MAX": "1 to 8192 records", "TRANSFORM_DELTA_TRANSPOSE_ZSTD": "transform: 1 |"},
    "segment.rs": {"SEGMENT_MAGIC": "`SHIJIMW1`", "FOOTER_MAGIC": "`SEND`", "TRAILER_MAGIC": "`DONE`",
                   "JSON_BYTES_MAX": "at most 64 MiB", "PREWRITE_BYTES": "up to 64 KiB"},
    "record.rs": {"RECORD_BYTES": "256 bytes, schema", "TEXT_BYTES": "of more than 168 bytes",
                  "SCHEMA_VERSION": "schema version 1"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "constant"), [(file, constant) for file, names in FORMAT_NUMBERS.items() for constant in names]
)
def test_a_number_of_the_format_is_the_constant_of_the_code(file: str, constant: str) -> None:
    phrase = FORMAT_NUMBERS[file][constant]
    assert phrase in page("log-format")
    program = (ROOT / "rust_indicators" / "src" / file).read_text()
    (value,) = re.findall(rf"const {constant}: [^=]*= ([^;]+);", program)
    if value.startswith("*b"):
        assert f"`{value[3:-1]}`" == phrase
    else:
        number, _, shift = value.partition(" << ")
        named = re.search(r"(\d+)( [KM]iB)?(?! to)", phrase)
        assert named and int(named[1]) * {" KiB": 1 << 10, " MiB": 1 << 20}.get(named[2], 1) == int(number) << int(
            shift or 0
        )


def words_after(text: str, mark: str) -> set[str]:
    """The words of the first code span behind a mark."""
    joined = text.replace("\n", " ")
    return set(re.findall(r"`([^`]*)`", joined.split(mark, 1)[1])[0].split())


def test_columns_and_report_fields_of_the_page_are_those_of_the_code() -> None:
    text = page("data-model")
    assert words_after(text, "Columns:") == set(schema.PROVENANCE)
    assert words_after(text, "Gap:") == {field.name for field in fields(Gap)}
    assert words_after(text, "Stream:") == {field.name for field in fields(Stream)}
    written = {field.name for field in fields(GapReport)} | {"summary", "digest"}
    assert words_after(text, "/gaps/<day>.json` has") == written
    assert words_after(text, "event type:") == set(EVENT_DTYPE.names or ())


def test_keys_of_the_files_are_those_that_the_commands_write(tmp_path: Path) -> None:
    day, place = "2026-04-09", ["--data-dir", str(tmp_path)]
    run("shijim_live", "record", "--broker", "simulated", "--day", day, "--events", "3000", "--quiet",
        "--metrics-port", "0", *place)  # fmt: skip
    run("shijim_pipelines", "archive", *place)
    run("shijim_pipelines", "dataset", "--day", day, "--symbol", "TXFD6", *place)
    reader = SegmentReader(next(tmp_path.rglob("*.wal")))
    while reader.read(4096):
        pass
    header, footer = orjson.loads(reader.header), orjson.loads(reader.footer or b"")
    manifest = orjson.loads(next(tmp_path.glob("archive/segments/*.json")).read_bytes())
    meta = orjson.loads(next(tmp_path.glob("datasets/*/*.meta.json")).read_bytes())
    text = page("data-model")
    rows_of_keys = tables(section("log-format", "A segment"))[1:]
    assert [{key for row in rows for key in code_spans(row[0])} for rows in rows_of_keys] == [set(header), set(footer)]
    assert words_after(text, "header keys and") == set(manifest) - set(header)
    assert words_after(text, "Meta keys:") == set(meta)


def run(package: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", package, *words], check=True, capture_output=True)


# The limits

UNITS = {"MiB": 1 << 20, "µs": 1_000, "h": 3_600 * 10**9}


@cache
def constants() -> dict[str, set[int]]:
    """Constants of both languages whose value is a product or a shift; `Duration::from_secs(5)` counts as 5."""
    found: dict[str, set[int]] = {}
    declared = re.compile(r"^(?:pub )?(?:const )?([A-Z][A-Z0-9_]+)(?:: [^=\n]+)? = ([^;#\n]+)", re.MULTILINE)
    for package in PACKAGES:
        for path in [*(ROOT / package).rglob("*.py"), *(ROOT / package / "src").rglob("*.rs")]:
            for name, value in declared.findall(path.read_text()):
                plain = re.sub(r"Duration::from_secs\((\d+)\)", r"\1", value).strip()
                if re.fullmatch(r"[\d_]+( (<<|\*) [\d_]+)*", plain):
                    number, _, shift = plain.partition(" << ")
                    found.setdefault(name, set()).add(math.prod(map(int, number.split("*"))) << int(shift or 0))
    return found


def test_the_limits_of_the_page_are_those_of_the_code() -> None:
    (rows,) = tables(section("architecture", "Limits"))
    for name, value, _ in rows:
        number, unit = value.split()
        assert int(number) * UNITS.get(unit, 1) in constants()[name.strip("`")], name
