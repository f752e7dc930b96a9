"""`shijim export --layout raw`: the first Shijim's lines again, and nothing lost that they can hold."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from made_records import ns, outage, trade, trades, write_log
from real_data import DATA, needs_data
from test_publisher import Log, objects
from test_record import live

from shijim_live.calendar import Market, trading_day
from shijim_live.events import (
    ABSENT_I64,
    ABSENT_U32,
    Book,
    BrokerClass,
    Flag,
    Kind,
    Lane,
    Status,
    Trade,
    decode_all,
    to_broker_dict,
)
from shijim_live.record import wal
from shijim_pipelines.archive import NothingArchived, archive_all
from shijim_pipelines.cli import main
from shijim_pipelines.imports import _stream_event, import_file
from shijim_pipelines.raw_export import Exported, ExportRefused, decimal_text, export_raw, line_of

DAY = date(2026, 4, 9)
# What the layout has no place for.
NOT_HELD = ("closing_oddlot", "fixed_trade")


def exported(folder: Path, day: date = DAY, source: str | None = None) -> Exported:
    """Archives the log of a folder and exports the day into `raw/` beside it."""
    done = archive_all(folder / "wal", folder / "archive")
    assert not done.failed and not done.skipped
    return export_raw(folder / "archive", folder / "wal", day, folder / "raw", source)


def events_of(wal_dir: Path) -> Iterator[Trade | Book | Status]:
    for path in wal.segment_paths(wal_dir):
        yield from decode_all(b"".join(wal.records(path)))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_float=Decimal) for line in path.read_text().splitlines()]


# One event


def as_line(event: Trade | Book) -> Trade | Book:
    """Through the line and back."""
    return _stream_event(json.loads(orjson.dumps(line_of(event)), parse_float=Decimal), None)


@given(objects())
def test_every_value_of_every_class_that_the_layout_holds_comes_back(quote: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder))
        log.publisher.publish(quote)
        events = [event for event in log.finish() if not isinstance(event, Status)]
    for event in events:
        back = as_line(event)
        assert (back.lane, back.exchange_ns, back.received_ns) == (event.lane, event.exchange_ns, ABSENT_I64)
        held = to_broker_dict(replace(back, broker_class=event.broker_class, exchange=event.exchange))
        wanted = to_broker_dict(event)
        assert {name: value for name, value in held.items() if not name.startswith(NOT_HELD)} == {
            name: value for name, value in wanted.items() if not name.startswith(NOT_HELD)
        }


@pytest.mark.parametrize(
    ("price_e6", "text"),
    [(0, "0.0"), (1, "0.000001"), (-1, "-0.000001"), (1_450_500_000, "1450.5"), (-10_000_000, "-10.0"),
     (2**63 - 1, "9223372036854.775807"), (-(2**63) + 1, "-9223372036854.775807")],
)  # fmt: skip
def test_a_price_is_written_by_its_digits(price_e6: int, text: str) -> None:
    assert decimal_text(price_e6) == text
    assert Decimal(text).scaleb(6) == price_e6


def test_what_a_source_does_not_know_stays_unknown() -> None:
    event = replace(trade("TXFD6", ns("2026-04-09 09:00:00"), 3, ABSENT_U32), lane=Lane.TRIAL, source_offset_ns=64)
    back = as_line(event)
    assert isinstance(back, Trade)
    assert (back.total_volume, back.amount_e6, back.chg_type) == (ABSENT_U32, ABSENT_I64, 255)
    assert (back.lane, back.exchange_ns, back.source_offset_ns) == (Lane.TRIAL, event.exchange_ns, 64)


def test_an_empty_level_is_empty_again_and_an_unsaid_change_unsaid() -> None:
    book = Book(code="2330", exchange=1, exchange_ns=ns("2026-04-09 09:00:00"), broker_class=BrokerClass.BIDASK_STK_V1,
                bid_price_e6=(0, 1, -(2**63), -(2**63), -(2**63)), bid_volume=(7, 1, 0, 0, 0), lane=Lane.ODD,
                flags=Flag.INTRADAY_ODD | Flag.SUSPEND)  # fmt: skip
    back = as_line(book)
    assert back == replace(book, broker_class=BrokerClass.SHIOAJI_STREAM)


# A day


def test_a_simulated_day_comes_back_through_import_and_is_exported_as_the_same_bytes(tmp_path: Path) -> None:
    command = ["record", "--broker", "simulated", "--day", str(DAY), "--events", "6000", "--quiet",
               "--metrics-port", "0", "--data-dir", str(tmp_path / "a")]  # fmt: skip
    assert live(*command).returncode == 0
    first = exported(tmp_path / "a")
    recorded = [event for event in events_of(tmp_path / "a/wal") if not isinstance(event, Status)]
    assert first.lines == len(recorded) and first.source == "simulated" and first.notes == ()
    assert {path.parent.name for path in first.files} == {event.code for event in recorded}

    again: dict[str, list[Trade | Book]] = {}
    for path in first.files:
        done = import_file(path, tmp_path / "b/wal")
        assert done.quarantined == 0
        again[path.parent.name] = list(events_of(done.segments[0].parent))  # type: ignore[arg-type]
    for code, events in again.items():
        assert events == [_as_imported(event, number) for number, event in enumerate(
            (event for event in recorded if event.code == code), 1)]  # fmt: skip
    second = exported(tmp_path / "b")
    assert [path.relative_to(tmp_path / "b") for path in second.files] == [
        path.relative_to(tmp_path / "a") for path in first.files
    ]
    for one, two in zip(first.files, second.files, strict=True):
        assert one.read_bytes() == two.read_bytes()


def _as_imported(event: Trade | Book, sequence: int) -> Trade | Book:
    """What the layout does not hold is as if it had never been."""
    known = Flag.SUSPEND | Flag.SIMTRADE | Flag.INTRADAY_ODD
    changed: dict[str, Any] = {"sequence": sequence, "received_ns": ABSENT_I64, "connection": 0,
                               "broker_class": BrokerClass.SHIOAJI_STREAM, "flags": event.flags & known}  # fmt: skip
    absent = {name: value for name, value in vars_of(Trade()).items() if name.startswith(NOT_HELD)}
    return replace(event, **changed, **(absent if isinstance(event, Trade) else {}))


def vars_of(event: Trade) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Trade.__dataclass_fields__}


@needs_data
@pytest.mark.parametrize("path", sorted((DATA / "shioaji_stream").glob("*.jsonl")), ids=lambda path: path.stem[4:])
def test_what_the_first_shijim_wrote_is_written_again_line_for_line(tmp_path: Path, path: Path) -> None:
    import_file(path, tmp_path / "wal")
    wanted = [_normal(line) for line in read_lines(path)]
    market = Market.FUTURES if "TXF" in path.name else Market.STOCK
    days = {trading_day(event.exchange_ns, market) for event in events_of(tmp_path / "wal")}
    lines = []
    for day in sorted(days):
        [file] = exported(tmp_path, day).files
        assert (file.parent.name, file.name) == (wanted[0]["symbol"], f"{day}.jsonl")
        lines += read_lines(file)
    assert [_normal(line) for line in lines] == wanted


def _normal(line: dict[str, Any]) -> dict[str, Any]:
    """The oldest file says `ts`, and a short book may end early."""
    line = {"ts_ns" if name == "ts" else name: value for name, value in line.items()}
    for name in ("bid_prices", "bid_volumes", "ask_prices", "ask_volumes"):
        if name in line:
            line[name] += [0] * (5 - len(line[name]))
    return line


def test_the_order_is_that_of_recording_and_repeats_are_in_it(tmp_path: Path) -> None:
    made = trades("TXFD6", "2026-04-09 09:14:50", [1] * 20)
    write_log(tmp_path / "wal", [*made[:5], made[4], *made[5:12], outage("2026-04-09 09:15:00", "2026-04-09 09:15:01",
              "away")])  # fmt: skip
    later = {"created_ns": ns("2026-04-09 10:00:00")}
    write_log(tmp_path / "wal", made[12:], "0000000000000001", **later)
    done = exported(tmp_path)
    [file] = done.files
    assert [line["total_volume"] for line in read_lines(file)] == [*range(1, 6), *range(5, 21)]
    assert (done.lines, done.statuses) == (21, 1)


def test_two_recordings_of_a_day_never_mix(tmp_path: Path) -> None:
    write_log(tmp_path / "wal", trades("TXFD6", "2026-04-09 09:00:00", [1] * 3))
    write_log(tmp_path / "wal", trades("TXFD6", "2026-04-09 09:00:00", [2] * 4), "0000000000000001", source="replay")
    with pytest.raises(ExportRefused, match="recorded by replay and by simulated: say which with --source"):
        exported(tmp_path)
    with pytest.raises(ExportRefused, match="not by shioaji"):
        exported(tmp_path, source="shioaji")
    assert not (tmp_path / "raw").exists()
    assert exported(tmp_path, source="replay").lines == 4


def test_a_day_without_events_is_refused_and_segments_not_archived_are_named(tmp_path: Path) -> None:
    write_log(tmp_path / "wal", trades("TXFD6", "2026-04-09 09:00:00", [1] * 3))
    with pytest.raises(NothingArchived, match="2026-04-10"):
        exported(tmp_path, date(2026, 4, 10))
    write_log(tmp_path / "wal", trades("TXFD6", "2026-04-09 10:00:00", [1] * 3), "0000000000000001")
    done = export_raw(tmp_path / "archive", tmp_path / "wal", DAY, tmp_path / "raw")
    assert done.lines == 3 and "0000000000000001-0001.wal is not archived" in done.notes[0]


def test_a_code_that_is_a_path_stays_in_the_folder(tmp_path: Path) -> None:
    for number, code in enumerate(("../../x", "..", "/etc/x")):
        write_log(tmp_path / "in/wal", [trade(code, ns("2026-04-09 09:00:00"), 1, 1)], f"{number:016x}")
    done = exported(tmp_path / "in")
    assert sorted(path.parent.name for path in done.files) == ["%2E%2E", "%2E%2E%2F%2E%2E%2Fx", "%2Fetc%2Fx"]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_export_again_replaces_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    write_log(tmp_path / "wal", trades("TXFD6", "2026-04-09 09:00:00", [1] * 3))
    [file] = exported(tmp_path).files
    before = file.read_bytes()
    (tmp_path / "raw" / f".{DAY}-4194305").mkdir()  # of a process that cannot be
    file.write_text("edited")
    exported(tmp_path)
    assert file.read_bytes() == before
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["TXFD6"]


def test_the_verb_writes_where_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unread = Status(kind=Kind.QUARANTINE, received_ns=ns("2026-04-09 09:01:00"), text="?")
    write_log(tmp_path / "wal", [*trades("TXFD6", "2026-04-09 09:00:00", [1] * 3), unread])
    place = ["--data-dir", str(tmp_path)]
    assert main(["archive", *place]) == 0
    command = ["export", "--layout", "raw", "--day", str(DAY), *place]
    assert main(command) == 0
    assert (tmp_path / "export/raw/TXFD6/2026-04-09.jsonl").read_text().count("\n") == 3
    assert main([*command, "--to", str(tmp_path / "elsewhere")]) == 0
    assert (tmp_path / "elsewhere/TXFD6/2026-04-09.jsonl").is_file()
    shown = capsys.readouterr().out
    assert "3 events of 1 codes, as simulated recorded them" in shown and "1 events have no line" in shown
