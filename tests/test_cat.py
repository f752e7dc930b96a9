"""`shijim-live cat`: what was asked for, all of it, and nothing else."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from made_records import SECOND_NS, ns, outage, trade, trades, write_log
from test_publisher import Log, fop_tick

from rust_indicators import SegmentReader
from shijim_live.calendar import to_exchange_ns
from shijim_live.cli import main, parser
from shijim_live.events import ABSENT_I64, Kind, Status, Trade, decode_all
from shijim_live.record import show, wal
from shijim_live.record.choice import Choice, moment, sequences

NINE = ns("2026-04-09 09:00:00")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two codes, an event each ten minutes from 22:00 to 10:00 of the day after; received 5 ms after their stamps."""
    folder = tmp_path_factory.mktemp("log")
    made = trades("TXFD6", "2026-04-08 22:00:00", [1] * 72, step_ns=600 * SECOND_NS)
    made[1::2] = trades("2330", "2026-04-08 22:10:00", [1] * 36, step_ns=1200 * SECOND_NS)
    write_log(folder, [*made, outage("2026-04-09 09:50:00", "2026-04-09 10:00:00", "away")])
    assert len(wal.segment_paths(folder)) > 36
    return folder


def asked(log: Path, *options: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    assert main(["cat", str(log), *options]) == 0
    return [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]


FILTERS = (
    (["--from", "2026-04-09T09:00", "--until", "2026-04-09T09:20"], ["09 09:00", "09 09:10"]),
    (["--from", "2026-04-09T01:00Z", "--until", "2026-04-09T01:20+00:00"], ["09 09:00", "09 09:10"]),
    (["--from", "2026-04-09 09:40:00.006"], ["09 09:50", "09 10:00"]),
    (["--until", "2026-04-08T22:00:00.006"], ["08 22:00"]),
    (["--from", "09:00", "--until", "09:20"], ["09 09:00", "09 09:10"]),
    (["--from", "23:50", "--until", "00:10:00"], ["08 23:50", "09 00:00"]),
    (["--from", "22:00:00.005", "--until", "22:00:00.005001"], ["08 22:00"]),
    (["--from", "09:00", "--until", "09:20", "--symbol", "2330"], ["09 09:10"]),
    (["--from", "09:40", "--kind", "outage"], ["09 10:00"]),
    (["--sequence", "1-2"], ["08 22:00", "08 22:10"]),
    (["--sequence", "73"], ["09 10:00"]),
    (["--sequence", "71-", "--kind", "trade"], ["09 09:40", "09 09:50"]),
    (["--sequence", "2-70", "--from", "2026-04-09T09:20"], ["09 09:20", "09 09:30"]),
    (["--from", "2026-04-09T09:00", "--limit", "1"], ["09 09:00"]),
    (["--from", "2026-04-10T09:00"], []),
)


@pytest.mark.parametrize(("options", "expected"), FILTERS, ids=lambda part: " ".join(part))
def test_the_events_of_a_time_or_a_sequence_are_shown_and_no_others(
    log: Path, options: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert [_wall(event) for event in asked(log, *options, capsys=capsys)] == expected


def _wall(event: dict[str, object]) -> str:
    minutes = (int(str(event["received_ns"])) + 8 * 3600 * SECOND_NS) // (60 * SECOND_NS)
    day, minute = divmod(minutes, 1440)
    return f"{day - 20_543:02} {minute // 60:02}:{minute % 60:02}"


@pytest.mark.parametrize(("options", "expected"), FILTERS, ids=lambda part: " ".join(part))
def test_an_arrow_stream_is_filtered_like_the_lines(log: Path, options: list[str], expected: list[str]) -> None:
    given = parser().parse_args(["cat", str(log), *options])
    choice = Choice(given.symbol, given.kind, given.limit, given.start, given.end, given.sequence)
    out = io.BytesIO()
    assert show.print_events(wal.segment_paths(log), choice, "arrow", out, follow=False) == []
    rows = pa.ipc.open_stream(out.getvalue()).read_all().to_pylist()
    wanted = expected if given.kind or "09 10:00" not in expected else expected[:-1]  # a table has one kind
    assert [_wall(row) for row in rows] == wanted


def test_segments_that_cannot_hold_it_are_not_read(log: Path, tmp_path: Path) -> None:
    paths = wal.segment_paths(log)
    for path in paths:
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes())
    first = tmp_path / paths[0].name
    data = bytearray(first.read_bytes())
    data[data.index(b"SBLK") + 40] ^= 1
    first.write_bytes(data)
    for choice in (Choice(sequence=(60, 73)), Choice(start=moment("2026-04-09T09:00"))):
        out = io.BytesIO()
        assert show.print_events(wal.segment_paths(tmp_path), choice, "jsonl", out, follow=False) == []
        assert out.getvalue()
    assert show.print_events(wal.segment_paths(tmp_path), Choice(sequence=(1, 73)), "jsonl", out, follow=False)


def test_an_event_without_a_receive_time_goes_by_the_exchanges(tmp_path: Path) -> None:
    absent = {"received_ns": ABSENT_I64}
    write_log(tmp_path, [*(trade("TXFD6", NINE + at * SECOND_NS, 1, at + 1, **absent) for at in range(5)),
                         Status(kind=Kind.QUARANTINE, text="no time at all")])  # fmt: skip
    out = io.BytesIO()
    choice = Choice(start=moment("2026-04-09T09:00:02"), end=moment("2026-04-09T09:00:04"))
    show.print_events(wal.segment_paths(tmp_path), choice, "jsonl", out, follow=False)
    assert [orjson.loads(line)["sequence"] for line in out.getvalue().splitlines()] == [3, 4]


def test_an_event_keeps_what_did_not_fit_it_where_its_side_records_are_not_in_the_range(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.publisher.publish(fop_tick("0.1234567"), NINE)
    log.finish()
    [path] = wal.segment_paths(tmp_path / "wal")
    [event] = Choice(sequence=(2, 2)).events(decode_all(SegmentReader(path).read(100)))
    assert isinstance(event, Trade) and event.oversize == (("price_e6", "0.1234567"),)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--from", "9 o'clock"], "is no time: write 09:00"),
        (["--from", "09:00Z"], "is no time"),
        (["--from", "2026-02-30"], "is no time"),
        (["--sequence", "5-1"], "is no range of sequences"),
        (["--sequence", "-5"], "is no range of sequences"),
        (["--sequence", "x"], "is no range of sequences"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_an_example(
    log: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["cat", str(log), *options])
    assert left.value.code == 2 and says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--from", "09:00", "--until", "2026-04-09T09:10"], "give both a date, or neither"),
        (["--from", "2026-04-09T09:10", "--until", "2026-04-09T09:00"], "--until is not behind --from"),
        (["--from", "09:00", "--until", "09:00"], "--until is not behind --from"),
    ],
)
def test_a_window_in_which_nothing_lies_is_said(
    log: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cat", str(log), *options]) == 4
    assert says in capsys.readouterr().err


def test_a_time_is_taipeis_unless_it_says_otherwise() -> None:
    instant = to_exchange_ns(datetime(2026, 4, 9, 9))  # noqa: DTZ001 - naive Taipei wall clock
    for text in ("2026-04-09T09:00", "2026-04-09 09:00:00", "2026-04-09T01:00Z", "2026-04-08T20:00:00.000-05:00"):
        assert moment(text).ns == instant, text
    assert (moment("2026-04-09").ns, moment("00:00:01").ns) == (instant - 9 * 3600 * SECOND_NS, SECOND_NS)
    assert sequences("7") == (7, 7) and sequences("7-")[1] == 2**64 - 1
