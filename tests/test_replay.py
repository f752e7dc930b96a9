"""A recorded day again: from the log or from the archive, whole or a part of it, the same records in the same order."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import RUN, SECOND_NS, ns, records, trade, trades, write_log
from test_bad_input import _header as log_header
from test_record import all_records, live, received
from test_record_universe import put, record, universe_of

from rust_indicators import LogWriter
from shijim_live.broker.recorded import NothingToReplay, Window, segment_runs, stamps
from shijim_live.broker.replay import ReplayFeed, merged
from shijim_live.calendar import Market, instant_of, trading_day
from shijim_live.events import ABSENT_I64, RECORD_BYTES, Event, Kind, Status, decode_all, encode_with_sides
from shijim_live.record import wal
from shijim_live.store.archived import archived_runs
from shijim_pipelines.archive import archive_all

DAY = "2026-04-09"


def replay(place: Path, data_dir: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return live("record", "--broker", "replay", "--from", str(place), "--data-dir", str(data_dir), "--metrics-port",
                "0", "--quiet", *more)  # fmt: skip


def market(data_dir: Path) -> np.ndarray:
    """Trades and books in the order of the log, without their sequence."""
    rows = all_records(data_dir)
    rows = rows[rows[:, 0] <= Kind.BOOK].copy()
    rows[:, 8:16] = 0
    return rows


def rows_of(rows: np.ndarray) -> list[bytes]:
    """To compare whatever the order within one instant is."""
    return sorted(row.tobytes() for row in rows)


@pytest.fixture(scope="module")
def two_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated day recorded by two recorders, and its archive beside the log."""
    folder = tmp_path_factory.mktemp("shards")
    put(folder, universe_of(("2330", "TXFD6"), ("2317", "MXFD6")))
    for shard in ("0/2", "1/2"):
        done = record(folder, "--shard", shard)
        assert done.returncode == 0, done.stderr
    archive_all(folder / "wal", folder / "archive")
    return folder


@pytest.fixture(scope="module")
def from_log(two_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    done = replay(two_shards / "wal", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_two_shards_come_as_one_day_in_the_order_they_were_received(two_shards: Path, from_log: Path) -> None:
    replayed = market(from_log)
    assert (np.diff(received(replayed)) >= 0).all()
    assert rows_of(replayed) == rows_of(market(two_shards)) != []
    assert len(segment_runs(two_shards / "wal")) == 2


def test_a_replay_of_the_archive_has_the_market_records_of_one_of_the_log(
    two_shards: Path, from_log: Path, tmp_path: Path
) -> None:
    done = replay(two_shards / "archive", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (market(tmp_path) == market(from_log)).all()
    assert "lots missing" in done.stdout


def test_a_replay_tells_in_its_first_event_what_part_of_which_day_it_is(two_shards: Path, tmp_path: Path) -> None:
    window = ("--day", DAY, "--seek", "09:00", "--until", "10:30", "--universe", "none")
    for place in ("wal", "archive"):
        done = replay(two_shards / place, tmp_path / place, *window)
        assert done.returncode == 0, done.stderr
    first = next(decode_all(all_records(tmp_path / "wal").tobytes()))
    assert isinstance(first, Status) and first.kind == Kind.START
    part = f"replay of trading day {DAY} from {DAY} 09:00:00.000 until {DAY} 10:30:00.000 Taipei"
    assert first.text.endswith(part)
    rows = market(two_shards)
    inside = (received(rows) >= ns(f"{DAY} 09:00:00")) & (received(rows) < ns(f"{DAY} 10:30:00"))
    assert rows_of(market(tmp_path / "wal")) == rows_of(market(tmp_path / "archive")) == rows_of(rows[inside]) != []


def test_the_clock_time_of_the_night_is_before_that_of_the_day(two_shards: Path, tmp_path: Path) -> None:
    done = replay(two_shards / "wal", tmp_path, "--seek", "23:30", "--until", "02:00")
    assert done.returncode == 0, done.stderr
    found = received(market(tmp_path))
    assert ns("2026-04-08 23:30:00") <= found.min() < found.max() < ns("2026-04-09 02:00:00")


def test_only_the_symbols_asked_for_are_recorded(two_shards: Path, tmp_path: Path) -> None:
    done = replay(two_shards / "archive", tmp_path, "--symbol", "2330", "--symbol", "2317")
    assert "of 2317, 2330, shard 0 of 1" in done.stdout, done.stderr
    codes = {event.code for event in decode_all(market(tmp_path).tobytes())}
    assert codes == {"2330", "2317"}


def test_a_replay_at_a_pace_takes_the_time_it_should(two_shards: Path) -> None:
    window = Window(ns(f"{DAY} 09:00:00"), ns(f"{DAY} 09:10:00"))
    feed = ReplayFeed(segment_runs(two_shards / "wal"), 600, window)
    pieces: list[bytes] = []
    begin = time.monotonic()
    feed.run(pieces.append, threading.Event())
    assert len(pieces) > 100 and all(len(piece) == RECORD_BYTES for piece in pieces)
    spanned = (stamps(pieces[-1])[0] - stamps(pieces[0])[0]) / SECOND_NS / 600
    assert 0.5 < spanned <= 1
    assert spanned <= time.monotonic() - begin < spanned + 2


@pytest.mark.parametrize(
    ("given_day", "clock", "wall"),
    [
        ("2026-04-09", "09:00", "2026-04-09 09:00"),
        ("2026-04-09", "05:30", "2026-04-09 05:30"),
        ("2026-04-09", "14:49", "2026-04-09 14:49"),
        ("2026-04-09", "14:50", "2026-04-08 14:50"),
        ("2026-04-09", "00:00", "2026-04-09 00:00"),
        ("2026-04-13", "21:00", "2026-04-10 21:00"),  # a Monday: its night is Friday's
        ("2026-04-13", "05:29", "2026-04-11 05:29"),
        ("2026-04-13", "08:45", "2026-04-13 08:45"),
    ],
)
def test_a_time_of_a_trading_day_is_in_its_night_or_its_day(given_day: str, clock: str, wall: str) -> None:
    since_midnight = ns(f"2026-01-02 {clock}:00") - ns("2026-01-02 00:00:00")
    found = instant_of(date.fromisoformat(given_day), since_midnight)
    assert found == ns(wall)
    assert trading_day(found, Market.FUTURES) == date.fromisoformat(given_day)


# Two days in one log


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trades of two trading days in one segment: a day session, and the night behind it."""
    folder = tmp_path_factory.mktemp("days")
    day = trades("TXFD6", f"{DAY} 09:00:00", [1] * 50)
    # Behind their close stocks stay with their date, futures do not.
    stock = [replace(event, exchange=1, broker_class=1) for event in trades("2330", f"{DAY} 15:10:00", [1] * 5)]
    night = trades("TXFD6", f"{DAY} 15:05:00", [2] * 40)
    start = Status(kind=Kind.START, received_ns=ns(f"{DAY} 08:45:00"))
    write_log(folder / "wal", [start, *day, *night, *stock])
    archive_all(folder / "wal", folder / "archive")
    return folder


@pytest.mark.parametrize(("day", "count"), [("2026-04-09", 55), ("2026-04-10", 40)])
def test_one_trading_day_of_several_is_the_same_from_the_log_and_the_archive(
    two_days: Path, tmp_path: Path, day: str, count: int
) -> None:
    for place in ("wal", "archive"):
        done = replay(two_days / place, tmp_path / place, "--day", day)
        assert done.returncode == 0, done.stderr
    assert rows_of(market(tmp_path / "wal")) == rows_of(market(tmp_path / "archive"))
    assert len(market(tmp_path / "wal")) == count


REFUSED = [
    (["{days}/archive"], "holds 2 trading days (2026-04-09, 2026-04-10): say which with --day"),
    (["{days}/archive", "--day", "2026-04-13"], "nothing of trading day 2026-04-13 is archived, only of 2026-04-09"),
    (["{days}/wal", "--day", "2026-04-13"], "no segment holds anything of trading day 2026-04-13"),
    (["{days}/wal", "--day", "2026-04-11"], "is not a trading day"),
    (["{days}/wal", "--seek", "2026-04-09T16:00"], "nothing was received from 2026-04-09 16:00:00.000: the recording"),
    (["{days}/wal", "--seek", "10:00", "--until", "09:00"], "--until is not behind --seek"),
    (["{days}/wal", "--seek", "9 o'clock"], "is no time: write 09:00"),
    (["{days}/wal", "--symbol", "TXFE6"], "--symbol TXFE6: not in the recording, which has 2330, TXFD6"),
    (["{days}/wal", "--symbol", "2330", "--universe", "x.json"], "--symbol and --universe: give one of them"),
    (["{days}/wal", "--source", "shioaji"], "nothing was recorded by shioaji, only by simulated"),
    (["{days}/archive", "--day", DAY, "--data-dir", "{days}"], "is the archive of the data folder"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[" ".join(options) for options, _ in REFUSED])
def test_what_is_not_there_is_refused_in_one_line(
    two_days: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    place, *more = [option.replace("{days}", str(two_days)) for option in options]
    done = replay(Path(place), tmp_path, *more)
    assert done.returncode in (2, 4) and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not list((tmp_path / "wal").glob("*/*.wal"))


def test_the_options_of_a_replay_are_refused_to_another_feed(tmp_path: Path) -> None:
    done = record(tmp_path, "--seek", "09:00", "--symbol", "2330")
    assert done.returncode == 2
    assert "--symbol, --seek: only with --broker replay" in done.stderr


def test_two_recordings_of_one_market_are_not_mixed(two_days: Path, tmp_path: Path) -> None:
    shutil.copytree(two_days / "wal", tmp_path / "wal")
    write_log(tmp_path / "wal", trades("TXFD6", f"{DAY} 09:00:00", [1] * 50), run_id="0" * 15 + "1", source="shioaji")
    done = replay(tmp_path / "wal", tmp_path / "again")
    assert done.returncode == 4 and "recorded by shioaji, simulated: say which with --source" in done.stderr
    done = replay(tmp_path / "wal", tmp_path / "again", "--source", "shioaji")
    assert done.returncode == 0 and len(market(tmp_path / "again")) == 50


def test_a_damaged_or_missing_file_of_the_archive_stops_the_replay(two_days: Path, tmp_path: Path) -> None:
    archive = shutil.copytree(two_days / "archive", tmp_path / "archive")
    path = next(archive.glob(f"ticks/trading_day={DAY}/*.parquet"))
    whole = path.read_bytes()
    path.write_bytes(bytes(len(whole)))
    done = replay(archive, tmp_path / "a", "--day", DAY)
    assert done.returncode == 4 and "a Parquet file cannot be read" in done.stderr
    path.unlink()
    done = replay(archive, tmp_path / "b", "--day", DAY)
    assert done.returncode == 4 and f"{path}: not the file that was archived, or gone" in done.stderr


def test_what_the_archive_could_not_read_of_the_log_stops_the_replay_behind_the_rest(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "wal", RUN, log_header())
    for minute in range(3):
        writer.append(records(trades("TXFD6", f"{DAY} 09:0{minute}:00", [1] * 50, total=50 * minute)))
    writer.close()
    [path] = wal.segment_paths(tmp_path / "wal")
    data = bytearray(path.read_bytes())
    data[data.index(b"SBLK", data.index(b"SBLK") + 1) + 60] ^= 1
    path.write_bytes(data)
    archive_all(tmp_path / "wal", tmp_path / "archive")
    for place in ("wal", "archive"):
        done = replay(tmp_path / place, tmp_path / f"{place}-again", "--day", DAY)
        assert done.returncode == 4 and "the replay stops" in done.stderr, done.stderr
        assert len(market(tmp_path / f"{place}-again")) == 100


def test_a_base_install_is_told_which_extra_an_archive_needs(two_days: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['pyarrow'] = None; from shijim_live.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    options = ["record", "--broker", "replay", "--day", DAY, "--data-dir", str(tmp_path), "--metrics-port", "0"]
    for place, code, told in (("archive", 4, "pip install 'shijim[lake]'"), ("wal", 0, "")):
        command = [sys.executable, "-c", program, *options, "--from", str(two_days / place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == code and told in done.stderr, done.stderr


def test_segments_that_nobody_sealed_are_replayed_as_far_as_they_go(two_days: Path, tmp_path: Path) -> None:
    shutil.copytree(two_days / "wal", tmp_path / "wal")
    for path in wal.segment_paths(tmp_path / "wal"):
        path.write_bytes(path.read_bytes()[:-8])
        assert wal.footer(path) is None
    done = replay(tmp_path / "wal", tmp_path / "again", "--day", DAY)
    assert done.returncode == 0 and len(market(tmp_path / "again")) == 55, done.stderr
    done = replay(tmp_path / "wal", tmp_path / "more", "--seek", "09:00")
    assert done.returncode == 0 and len(market(tmp_path / "more")) == 95, done.stderr


# The merge alone


@dataclass
class Made:
    """A run in memory, in chunks of a few records."""

    events: list[Event]
    chunk_records: int
    counted: bool
    source: str = "made"
    names: tuple[str, ...] = ("made",)
    codes: frozenset[str] | None = None

    @property
    def span_ns(self) -> tuple[int, int]:
        found = [event.received_ns for event in self.events]
        return (min(found), max(found)) if self.counted else (ABSENT_I64, 2**63 - 1)

    def chunks(self, window: Window) -> Iterator[bytes]:
        whole = b"".join(encode_with_sides(event) for event in self.events)
        size = self.chunk_records * RECORD_BYTES
        yield from (whole[at : at + size] for at in range(0, len(whole), size))


@st.composite
def made_runs(draw: st.DrawFn) -> list[Made]:
    runs = []
    for run in range(draw(st.integers(1, 4))):
        steps = draw(st.lists(st.integers(0, 3), min_size=1, max_size=30))
        at, events = draw(st.integers(0, 20)), []
        for number, step in enumerate(steps):
            at += step
            oversize = (("price_e6", "9" * 200),) if draw(st.integers(0, 4)) == 0 else ()
            made = trade("TXFD6", at, 1, number, received_ns=at, connection=run)
            events.append(replace(made, oversize=oversize))
        runs.append(Made(events, draw(st.integers(1, 5)), draw(st.booleans())))
    return runs


@given(made_runs(), st.tuples(st.integers(0, 60), st.integers(1, 120)))
def test_merged_runs_keep_their_own_order_and_every_side_record_stands_before_its_event(
    runs: list[Made], edges: tuple[int, int]
) -> None:
    window = Window(edges[0], edges[0] + edges[1])
    events = list(decode_all(b"".join(merged(runs, window))))
    assert [event.received_ns for event in events] == sorted(event.received_ns for event in events)
    for number, run in enumerate(runs):
        mine = [event for event in events if event.connection == number]
        wanted = [event for event in run.events if window.start_ns <= event.received_ns < window.end_ns]
        assert [event.total_volume for event in mine] == [event.total_volume for event in wanted]  # type: ignore[union-attr]
        assert [event.oversize for event in mine] == [event.oversize for event in wanted]  # type: ignore[union-attr]


def test_a_clock_that_stepped_back_reorders_nothing_within_a_run() -> None:
    times = [10, 20, 5, 21]
    run = Made([trade("TXFD6", at, 1, at, received_ns=at) for at in times], 2, counted=True)
    assert [stamp for piece in merged([run], Window()) for stamp in stamps(piece)] == times


def test_the_archive_gives_back_the_records_of_a_segment_chunk_by_chunk(tmp_path: Path) -> None:
    random_volumes = [random.Random(1).randrange(1, 9) for _ in range(300)]
    made = trades("TXFD6", f"{DAY} 09:00:00", random_volumes)
    write_log(tmp_path / "wal", made)
    archive_all(tmp_path / "wal", tmp_path / "archive")
    [run] = archived_runs(tmp_path / "archive", date.fromisoformat(DAY))
    assert b"".join(run.chunks(Window())) == records(made)
    with pytest.raises(NothingToReplay, match="is archived here"):
        from shijim_live.store.archived import archived_day

        archived_day(tmp_path / "empty", None)
