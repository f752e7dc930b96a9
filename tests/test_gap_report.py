"""The gap report as a file: what was written is read, and nothing else is."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import orjson
import pytest

from shijim_live.events import ABSENT_I64
from shijim_pipelines.proof.gap_report import (
    LINE_CHARACTERS_MAX,
    Gap,
    GapReport,
    ReportDamaged,
    Stream,
    describe,
    read_report,
    report_path,
    write_report,
)

DAY = date(2026, 4, 9)
STREAM = Stream("simulated", "TXFD6", "board", "day", 3, 12, 3, "zero", 8, 1, 0, 0, 0, 0, "gaps", "", 20)
METADATA = {"total_from": 12, "missing": [[12, 20]], "exchange_ns_after": ABSENT_I64, "run_id_after": ""}
GAP = Gap("volume", "TXFD6", "board", 3, ABSENT_I64, 10, 20, 8, "early_stop", "the reason", METADATA)
REPORT = GapReport(DAY, (STREAM,), (GAP,), ("a note",), {"ab-0001": "ff"}, {"futures day": "closed"})


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    path = write_report(REPORT, tmp_path)
    assert read_report(tmp_path, DAY) == REPORT
    written = orjson.loads(path.read_bytes())
    assert (written["gaps"][0]["seq_end"], written["gaps"][0]["metadata"]["exchange_ns_after"]) == (None, None)
    assert len(written["digest"]) == 64


def test_a_day_without_a_report_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"was not audited yet\. Run: shijim audit --day 2026-04-09"):
        read_report(tmp_path, DAY)


def edited(change: str, written: bytes) -> bytes:
    contents = orjson.loads(written)
    gap, stream = contents["gaps"][0], contents["streams"][0]
    if change == "lots":
        gap["lots"] = 0
    elif change == "verdict":
        stream["verdict"] = "continuous"
    elif change == "a gap gone":
        contents["gaps"] = []
    elif change == "a field more":
        contents["signed"] = "me"
    elif change == "a field of a gap more":
        gap["remark"] = "fine"
    elif change == "a field gone":
        del contents["notes"]
    elif change == "another day":
        contents["trading_day"] = "2026-04-10"
    elif change == "text for lots":
        gap["lots"] = "8"
    elif change == "no digest":
        del contents["digest"]
    elif change == "another digest":
        contents["digest"] = "0" * 64
    elif change == "gaps are a number":
        contents["gaps"] = 3
    elif change == "on one line":
        return orjson.dumps(contents, option=orjson.OPT_SORT_KEYS)
    return orjson.dumps(contents, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)


CHANGES = (
    *("lots", "verdict", "a gap gone", "a field more", "a field of a gap more", "a field gone", "another day"),
    *("text for lots", "no digest", "another digest", "gaps are a number", "on one line"),
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_report_edited_by_hand_is_refused(tmp_path: Path, change: str) -> None:
    path = write_report(REPORT, tmp_path)
    path.write_bytes(edited(change, path.read_bytes()))
    with pytest.raises(ReportDamaged, match="Run: shijim audit --day 2026-04-09"):
        read_report(tmp_path, DAY)


@pytest.mark.parametrize("contents", [b"", b"[]", b"null", b"{}", b'{"gaps":[{}]}', b"\xff", b'{"gaps": ['])
def test_a_torn_report_or_any_other_file_is_refused(tmp_path: Path, contents: bytes) -> None:
    path = write_report(REPORT, tmp_path)
    for other in (contents, path.read_bytes()[:-2], path.read_bytes() + b"\n"):
        path.write_bytes(other)
        with pytest.raises(ReportDamaged, match="Run: shijim audit --day 2026-04-09"):
            read_report(tmp_path, DAY)


def test_the_report_of_another_day_under_this_name_is_refused(tmp_path: Path) -> None:
    path = write_report(REPORT, tmp_path)
    path.rename(report_path(tmp_path, date(2026, 4, 10)))
    with pytest.raises(ReportDamaged, match="2026-04-10"):
        read_report(tmp_path, date(2026, 4, 10))


def test_the_page_for_a_terminal_keeps_within_its_width() -> None:
    long = Gap("book_silence", "TXFD6", "board", 1, 2, 10**18, 10**18 + 1, 0, "feed_loss", "word " * 30, {})
    page = describe(GapReport(DAY, (STREAM,), (GAP, long), (), {}, {"stock day": "open"}))
    assert max(map(len, page.splitlines())) <= LINE_CHARACTERS_MAX
    assert "8 lots missing in 1 gaps, 1 silences of books" in page
