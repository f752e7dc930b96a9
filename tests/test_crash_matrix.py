"""Killed at every kind of point – in a callback, between write and sync, at rotation, at seal, while the log is mended,
in the archive, by a power cut – and started again, until the day is over: nothing acknowledged is lost, nothing stands
twice. A few kills here; `make crash` does some hundred (SHIJIM_CRASH_KILLS, SHIJIM_CRASH_SEED) and says what it saw.

A SIGKILL alone cannot show a sync that is missing, since the kernel keeps what it was given: the kinds `power lost`
take back, file by file and folder by folder, what no sync has made durable. See kill_points.c for that model.

Equal bytes hold, and are looked for, in two places:
* The archive is a function of the log: whatever killed its makers, it is byte for byte what one undisturbed archiver
  makes of the same segments, manifests included.
* A segment that was sealed before its recorder died, and of the run that died, gives the same Parquet and the same
  manifest as that run undisturbed: the same log before it, the same point to resume from. (Of the log itself only the
  records are equal: into which blocks they fall is a matter of how fast the disk was.)
Between the crashed day and the uninterrupted one run and sequence differ, so those are compared by value.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kill_points import Point, Power, compiled, ended, since
from killed_day import (
    ARCHIVE,
    ARCHIVE_NAME,
    AWAY_SECONDS,
    BLOCK,
    FOOTER,
    KINDS,
    ROTATION,
    SEAL,
    START,
    WRITE,
    Death,
    Play,
    contents,
)
from test_record import all_records, market, received, sequences

from shijim_live.calendar import SECOND_NS
from shijim_live.events import Kind
from shijim_live.record import wal
from shijim_live.store.lake import Lake
from shijim_live.store.schema import schema
from shijim_live.store.views import SAME_TRADE

KILLS = int(os.environ.get("SHIJIM_CRASH_KILLS", "30"))
SEED = int(os.environ.get("SHIJIM_CRASH_SEED", "1"))
KILLS_OF_A_DAY = 30
DAYS = range(-(-KILLS // KILLS_OF_A_DAY))


@dataclass
class Account:
    """What was seen, over every day, for the table at the end."""

    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    in_log: int = 0
    in_views: int = 0
    files_made_again: int = 0
    files_of_twins: int = 0
    torn_bytes: int = 0


ACCOUNT = Account()


@dataclass(frozen=True)
class Day:
    """A day with kills, and the same one without."""

    play: Play
    whole: Path

    @property
    def outages(self) -> list[tuple[int, int]]:
        """When the recorder was not running, as its log says."""
        rows = all_records(self.play.data)
        told = [row for row in rows if row[0] == Kind.OUTAGE and b"recorder was not running" in row.tobytes()]
        return [tuple(np.ascontiguousarray(row[56:72]).view("<i8").tolist()) for row in told]

    def lost(self, stamps: np.ndarray) -> np.ndarray:
        """Which receive stamps fall into an outage."""
        mask = np.zeros(len(stamps), bool)
        for begin_ns, end_ns in self.outages:
            mask |= (stamps > begin_ns) & (stamps <= end_ns)
        return mask


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="module", params=DAYS)
def day(request: pytest.FixtureRequest, shim: Path, tmp_path_factory: pytest.TempPathFactory) -> Day:
    kills = min(KILLS_OF_A_DAY, KILLS - request.param * KILLS_OF_A_DAY)
    folder = tmp_path_factory.mktemp("day")
    play = Play(shim, folder / "killed", SEED * 1_000 + request.param, kills)
    play.undisturbed(folder / "whole")
    for path in wal.segment_paths(folder / "whole" / "wal"):
        play.slots.append((wal.footer(path) or {})["received_ns"][0])  # type: ignore[index]
    play.slots.sort()
    play.run()
    ACCOUNT.kills.update(death.kind for death in play.deaths)
    return Day(play, folder / "whole")


# The power cut itself


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file with its bytes, every folder."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.parametrize("power", [Power.TAKES_ALL_UNSYNCED, Power.TAKES_SOME_UNSYNCED])
def test_a_power_cut_can_take_back_everything_a_command_did(shim: Path, tmp_path: Path, power: Power) -> None:
    """Where no sync is heeded it does: so no change escapes the shim. What is taken of some is different each time."""
    play = Play(shim, tmp_path / "play", SEED, KILLS)
    play.data.mkdir()
    ended(shim, play.record_command(play.data), play.data, Point(BLOCK, 7, phase="half"))
    before = tree(play.data)
    cut = Point(FOOTER, 6, power=power, ignores_syncs=True, seed=SEED)
    died = ended(shim, play.record_command(play.data), play.data, cut)
    assert died.status == -signal.SIGKILL and len(died.trace) > 50
    assert (tree(play.data) == before) == (power is Power.TAKES_ALL_UNSYNCED)
    play.undisturbed(play.data)
    next((play.data / "archive").rglob("*.parquet")).write_bytes(b"shorter than its manifest says")
    shutil.rmtree(play.data / "archive" / "segments")
    before = tree(play.data)
    died = ended(shim, play.archive_command(play.data), play.data, replace(cut, pattern=ARCHIVE_NAME, count=200))
    assert died.status == -signal.SIGKILL
    assert (tree(play.data) == before) == (power is Power.TAKES_ALL_UNSYNCED)


# Every kill was where it was meant to be

LANDED = {
    WRITE: r"^write .*\.draft (block|zeros)$|^fdatasync .*\.draft$",
    SEAL: r"^(write .*\.draft footer|resize .*\.draft|fsync .*\.draft)$",
    ROTATION: r"^(mkdir|create|write|fsync|link|unlink) ",
    ARCHIVE: r"^[a-z]+ archive",
}


def is_where_it_was_meant(death: Death) -> bool:
    if not re.search(LANDED.get(death.kind, ""), death.last):
        return False
    if death.kind == ROTATION:  # the footer, its size and its sync are behind, the first block is not
        behind = since(death.trace, r"footer$")
        return len(death.trace) > len(behind) > 2 and not any(map(is_block, behind[:-1]))
    if death.kind == START:
        return sum(map(is_block, death.trace[:-1])) <= 1
    return True


def is_block(label: str) -> bool:
    """Of the run itself; what is kept of a torn tail may begin like one."""
    return label.endswith(".draft block")


def test_every_kill_was_where_it_was_meant_to_be(day: Day) -> None:
    elsewhere = [death for death in day.play.deaths if not is_where_it_was_meant(death)]
    assert not elsewhere, "\n".join(f"{death}: {death.trace[-20:]}" for death in elsewhere)
    assert len(day.play.deaths) == day.play.kills


# The log


def test_nothing_acknowledged_is_lost_and_every_run_is_without_a_hole(day: Day) -> None:
    by_run: dict[int, list[int]] = {}
    for path in wal.segment_paths(day.play.data / "wal"):
        segment = wal.examine(path)
        assert segment.state == "sealed" and not segment.problems
        found = [sequences(np.frombuffer(chunk, np.uint8).reshape(-1, 256)) for chunk in wal.records(path)]
        by_run.setdefault(int(segment.header.run_id, 16), []).extend(np.concatenate(found or [[]]).astype(int).tolist())
    for numbers in by_run.values():
        assert numbers == list(range(1, len(numbers) + 1))
    for run_id, (durable, _) in day.play.acknowledged.items():
        assert len(by_run.get(run_id, [])) >= durable
        ACCOUNT.acknowledged += durable
    assert sum(durable for durable, _ in day.play.acknowledged.values()) > 1_000


def test_no_outage_covers_what_was_acknowledged(day: Day) -> None:
    stamps = [stamp for durable, stamp in day.play.acknowledged.values() if durable]
    for begin_ns, end_ns in day.outages:
        assert end_ns - begin_ns == AWAY_SECONDS * SECOND_NS
        assert not [stamp for stamp in stamps if begin_ns < stamp < end_ns]
    assert len(day.outages) > day.play.kills // 3


def test_the_crashed_day_is_the_uninterrupted_one_but_for_its_outages(day: Day) -> None:
    expected = market(all_records(day.whole))
    expected = expected[~day.lost(received(expected))]
    assert np.array_equal(market(all_records(day.play.data)), expected)
    ACCOUNT.in_log += len(expected)


def test_what_was_cut_from_a_torn_segment_is_kept_beside_it(day: Day) -> None:
    """Also when those who mended it died over it: what they left behind then is cut and kept too, under a next name."""
    assert len(day.play.torn) >= (WRITE in {death.kind for death in day.play.deaths})
    for path, tail in day.play.torn.items():
        assert tail in [kept.read_bytes() for kept in path.parent.glob(f"{path.name}.torn*")]
        ACCOUNT.torn_bytes += len(tail)


# Downstream


@pytest.mark.parametrize("table", ["ticks", "books"])
def test_downstream_every_event_stands_once(day: Day, table: str) -> None:
    """Every delivery in the raw table; in the view, of a trade the exchange sent twice one, whichever; of books what
    does not repeat the one before of its code in its segment: that is what the view promises.
    """
    facts = [name for name in schema(table).names if name not in ("run_id", "segment", "sequence", "duplicate")]
    raw = f"SELECT run_id, segment, {', '.join(facts)} FROM {table}_raw ORDER BY received_ns"
    whole, killed = (Lake(folder / "archive").query(raw) for folder in (day.whole, day.play.data))
    delivered = whole.filter(pa.array(~day.lost(whole["received_ns"].to_numpy())))
    assert killed.select(facts).equals(delivered.select(facts))
    unstamped = [name for name in facts if name != "received_ns"]
    order = f"ORDER BY exchange_ns, {SAME_TRADE}" if table == "ticks" else "ORDER BY received_ns"
    shown = Lake(day.play.data / "archive").query(f"SELECT {', '.join(unstamped)} FROM {table} {order}")
    if table == "ticks":
        once = first_of_each(killed, SAME_TRADE.split(", "))
        once = once.sort_by([(name, "ascending") for name in ["exchange_ns", *SAME_TRADE.split(", ")]])
    else:
        once = without_repeats(killed, unstamped)
    assert shown.equals(once.select(unstamped)), f"{shown.num_rows} rows, expected {once.num_rows}"
    ACCOUNT.in_views += shown.num_rows


def first_of_each(rows: pa.Table, names: list[str]) -> pa.Table:
    """Of rows with equal values only the first."""
    seen: set[tuple[Any, ...]] = set()
    keep = []
    for values in zip(*(rows[name].to_pylist() for name in names), strict=True):
        keep.append(values not in seen)
        seen.add(values)
    return rows.filter(pa.array(keep))


def without_repeats(rows: pa.Table, names: list[str]) -> pa.Table:
    """Without those that are the row before of their segment, code and lane once more."""
    before: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    keep = []
    places = zip(*(rows[name].to_pylist() for name in ("run_id", "segment", "code", "lane")), strict=True)
    for place, values in zip(places, zip(*(rows[name].to_pylist() for name in names), strict=True), strict=True):
        keep.append(before.get(place) != values)
        before[place] = values
    return rows.filter(pa.array(keep))


# Equal bytes


def test_the_archive_is_byte_for_byte_what_one_undisturbed_archiver_makes(day: Day, tmp_path: Path) -> None:
    (tmp_path / "wal").symlink_to(day.play.data / "wal")
    expected = contents(day.play.undisturbed(tmp_path, record=False) / "archive")
    assert contents(day.play.data / "archive") == expected
    assert day.play.shown.items() <= expected.items()
    assert [path for path in (day.play.data / "archive").iterdir() if path.name.startswith(".")] == []
    ACCOUNT.files_made_again += len(expected)


def test_what_a_run_sealed_before_it_died_archives_to_the_bytes_of_the_run_undisturbed(day: Day) -> None:
    run, twin = day.play.twin_of, day.play.twin
    found = contents(day.play.data / "archive", f"{run}-*")
    sealed = {
        path.stem for path in (day.play.data / "wal").rglob(f"{run}-*.wal") if not (wal.footer(path) or {})["recovered"]
    }
    found = {name: sha for name, sha in found.items() if Path(name).stem in sealed}
    expected = contents(day.play.undisturbed(twin) / "archive", f"{run}-*")
    assert found and found == {name: sha for name, sha in expected.items() if Path(name).stem in sealed}
    ACCOUNT.files_of_twins += len(found)


# The table, for a person

TABLE = """
{kills}
  {total:5} kills survived of {total} (seed {seed})

  {account.acknowledged:>9,} events acknowledged by runs that were killed: all in the log, each once
  {account.in_log:>9,} events of the log equal those of uninterrupted days, outside of the outages
  {account.in_views:>9,} rows of the views, each once, the same values
  {account.files_made_again:>9,} files of the archive, byte for byte as one undisturbed archiver makes them
  {account.files_of_twins:>9,} files of segments sealed before a kill, byte for byte as without it
  {account.torn_bytes:>9,} bytes cut from torn segments, all kept beside them
"""


def test_kills_of_every_kind_were_survived(capsys: pytest.CaptureFixture[str]) -> None:
    """Last, and about all of the above: it also prints what they saw."""
    assert ACCOUNT.kills.total() == KILLS and set(ACCOUNT.kills) == set(KINDS)
    kills = "\n".join(f"  {ACCOUNT.kills[kind]:5} {kind}" for kind in KINDS)
    with capsys.disabled():
        print(TABLE.format(kills=kills, total=ACCOUNT.kills.total(), seed=SEED, account=ACCOUNT))
