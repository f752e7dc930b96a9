"""The ring between processes that live and die as they like: nothing torn, nothing twice, every loss told exactly.

A few seconds here; SHIJIM_RING_SECONDS for more, SHIJIM_RING_SEED for other moments. The protocol under every
interleaving is in `rust_indicators/tests/ring_model`.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bad_sync
import pytest
from ring_processes import ALONE, open_publisher

from rust_indicators import Abandoned, Ended, Missed, Publisher, Restarted, RingReader
from shijim_live.record.recorder import ring_path, shard_lock
from shijim_live.watch.metrics import RecorderMetrics
from shijim_live.watch.pressure import RingPressure
from shijim_live.watch.status import Group, describe, status

SECONDS = int(os.environ.get("SHIJIM_RING_SECONDS", "4"))
SEED = int(os.environ.get("SHIJIM_RING_SEED", "1"))
PROGRAM = Path(__file__).with_name("ring_processes.py")
SLOTS = 2048
# A reader looks around every 10 ms.
LOOK_SECONDS = 0.012
RECORD = bytes([18]) + bytes(255)


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    publisher = open_publisher(tmp_path / "ring", tmp_path / "wal", 1, 16)
    yield publisher
    publisher.close()


def sequences(records: bytes) -> list[int]:
    return [int.from_bytes(records[at + 8 : at + 16], "little") for at in range(0, len(records), 256)]


def poll_later(reader: RingReader) -> object:
    """What the reader is told, after it has had time to look around."""
    time.sleep(LOOK_SECONDS)
    records, told = reader.poll(100)
    return sequences(records) or told


# Groups


def test_a_member_gets_what_no_other_got_and_a_reader_alone_gets_all(tmp_path: Path, publisher: Publisher) -> None:
    alone, *members = (RingReader(tmp_path / "ring", group=group) for group in (None, "risk", "risk"))
    publisher.publish_records(RECORD * 7)
    got = [sequences(members[turn % 2].poll(2)[0]) for turn in range(5)]
    assert got == [[1, 2], [3, 4], [5, 6], [7], []]
    assert sequences(alone.poll(100)[0]) == [1, 2, 3, 4, 5, 6, 7]
    assert alone.groups() == [("risk", 8, 0, 0, 2)]
    assert [reader.next_sequence for reader in (alone, *members)] == [8, 8, 8]


def test_an_overrun_of_a_group_is_told_to_one_member(tmp_path: Path, publisher: Publisher) -> None:
    members = [RingReader(tmp_path / "ring", group="risk") for _ in range(3)]
    for _ in range(10):
        publisher.publish_records(RECORD * 4)
    told = [member.poll(100) for member in members]
    assert [told for _, told in told] == [Missed(1, 32), None, None]
    assert [sequences(records) for records, _ in told] == [[], [33, 34, 35, 36, 37, 38, 39, 40], []]
    assert members[0].groups() == [("risk", 41, 32, 0, 3)]
    assert members[0].counters()["missed"] == 32


def test_what_a_member_had_not_finished_when_it_left_is_told_to_who_takes_its_place(
    tmp_path: Path, publisher: Publisher
) -> None:
    publisher.publish_records(RECORD * 3)
    first = RingReader(tmp_path / "ring", group="risk")
    assert sequences(first.poll(2)[0]) == [1, 2]
    del first
    second = RingReader(tmp_path / "ring", group="risk")
    assert second.poll(100) == (b"", Abandoned(1, 2))
    assert sequences(second.poll(100)[0]) == [3]
    second.finish()
    del second
    third = RingReader(tmp_path / "ring", group="risk")
    assert poll_later(third) is None
    assert third.groups() == [("risk", 4, 0, 2, 1)]


def test_a_ring_has_room_for_eight_groups_and_a_group_for_sixteen_members(tmp_path: Path, publisher: Publisher) -> None:
    path = tmp_path / "ring"
    groups = [RingReader(path, group=f"group-{number}") for number in range(8)]
    with pytest.raises(OSError, match=r"group one-more: a ring has room for 8, and has group-0, group-1"):
        RingReader(path, group="one-more")
    members = [RingReader(path, group="group-3") for _ in range(15)]
    with pytest.raises(OSError, match="group group-3: it has 16 members, no more fit"):
        RingReader(path, group="group-3")
    del members[5]
    members.append(RingReader(path, group="group-3"))
    assert groups[3].groups()[3] == ("group-3", 1, 0, 0, 16)
    for name in ("", "seventeen-letters", "with space", "大"):
        with pytest.raises(OSError, match="a name is 1 to 16 ASCII characters"):
            RingReader(path, group=name)


def test_a_group_begins_where_its_first_member_says(tmp_path: Path, publisher: Publisher) -> None:
    publisher.publish_records(RECORD * 4)
    first, second = (RingReader(tmp_path / "ring", cursor, "risk") for cursor in (3, 1))
    assert sequences(second.poll(1)[0]) == [3]
    assert sequences(first.poll(9)[0]) == [4]


# Depth


def test_a_full_ring_is_said_once_a_crossing_and_at_most_once_a_minute() -> None:
    pressure = RingPressure()

    def said(now_seconds: float, above_50: int, above_80: int) -> list[str]:
        counters = {"above_50": above_50, "above_80": above_80, "depth": 1234, "depth_max": 60000, "slots": 65536}
        return [line.split(":")[0] for line in pressure.lines(counters | {"blocked_ns": 1_500_000}, now_seconds)]

    assert said(0, 0, 0) == []
    assert said(1, 1, 0) == ["the ring rose past 50 % full once"]
    assert said(2, 1, 1) == ["the ring rose past 80 % full once"]
    assert said(3, 4, 3) == []
    assert said(61, 4, 3) == ["the ring rose past 50 % full 3 times"]
    assert said(62, 4, 3) == ["the ring rose past 80 % full 2 times"]
    assert said(500, 4, 3) == []
    assert said(501, 5, 4) == ["the ring rose past 80 % full once"]
    assert said(502, 5, 4) == []


def test_the_recorder_says_when_the_disk_does_not_keep_up_with_a_paced_feed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shijim_live", "record", "--broker", "simulated", "--day", "2026-04-09", "--quiet",
               "--events", "5000", "--metrics-port", "0"]  # fmt: skip
    environment = bad_sync.environment(slow_ms=10) | {"SHIJIM_BUS_MAX_QUEUE": "1024"}
    shown = {}
    for speed in ("1000000", "max"):
        done = subprocess.run(
            [*command, "--speed", speed, "--data-dir", tmp_path / speed],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        shown[speed] = done.stderr
    said = r"shijim-live: the ring rose past 80 % full .*: [\d,]+ of 1,024 events wait for the disk now, 1,0"
    assert len(re.findall(said, shown["1000000"])) == 1
    assert "the ring" not in shown["max"]


def test_depth_lag_and_losses_are_plain_numbers_in_status_and_metrics(tmp_path: Path) -> None:
    publisher = open_publisher(ring_path(tmp_path, 0), tmp_path / "wal", 1, 16)
    members = [RingReader(ring_path(tmp_path, 0), group="risk") for _ in range(3)]
    for _ in range(5):
        publisher.publish_records(RECORD * 4)
    assert members[1].poll(100)[1] == Missed(1, 12)
    assert sequences(members[0].poll(2)[0]) == [13, 14]
    del members[0]
    assert poll_later(members[0]) == Abandoned(13, 14)
    metrics = {
        (sample.name, *sample.labels.values()): sample.value
        for family in RecorderMetrics(publisher, tmp_path, 0).collect()
        for sample in family.samples
    }
    with shard_lock(tmp_path / "wal", 0):
        found = status(tmp_path, 0)
    publisher.close()
    ring_path(tmp_path, 0).unlink()
    assert found.groups == (Group("risk", lag=6, missed=12, abandoned=2, members=2),)
    assert (found.ring_slots, found.missed, found.blocked_seconds) == (
        16,
        12,
        metrics["shijim_blocked_seconds_total", "0"],
    )
    assert 4 <= (found.depth_max or 0) == metrics["shijim_ring_depth_events_max", "0"] <= 16
    assert "group risk: 2 members, 6 events behind, 12 missed, 2 abandoned by members that died" in describe(found)
    assert [metrics[f"shijim_group_{what}", "0", "risk"] for what in GROUP_METRICS] == [6, 12, 2]
    assert {percent for name, _, percent in (key for key in metrics if len(key) == 3) if "high_water" in name} == {
        "50",
        "80",
    }


GROUP_METRICS = ("lag_events", "missed_events_total", "abandoned_events_total")


def test_status_does_not_take_the_ring_of_a_dead_recorder_for_that_of_the_one_that_recovers(tmp_path: Path) -> None:
    with writing(ring_path(tmp_path, 0), tmp_path / "stop") as writer:
        writer.kill()
    (tmp_path / "wal").mkdir(exist_ok=True)  # it may have died before its first block
    with shard_lock(tmp_path / "wal", 0):
        found = status(tmp_path, 0)
    ring_path(tmp_path, 0).unlink()
    assert found.recording and found.accepted is None and found.depth is None


# Runs


def test_a_ring_whose_writer_lives_is_not_taken_over(tmp_path: Path, publisher: Publisher) -> None:
    with pytest.raises(OSError, match=rf"ring: process {os.getpid()} writes this ring"):
        open_publisher(tmp_path / "ring", tmp_path / "wal", 2, 16)
    reader = RingReader(tmp_path / "ring")
    assert reader.writer == "running"
    publisher.close()
    assert reader.writer == "closed"
    open_publisher(tmp_path / "ring", tmp_path / "wal", 2, 16).close()


@pytest.mark.parametrize("group", [None, "risk"])
def test_a_reader_goes_from_a_killed_run_to_the_next_and_is_told(tmp_path: Path, group: str | None) -> None:
    ring = tmp_path / "ring"
    with writing(ring, tmp_path / "stop") as writer:
        reader = RingReader(ring, group=group)
        writer.kill()
    while (told := poll_later(reader)) != Ended(1, "died"):
        assert isinstance(told, list | Missed), told
    assert reader.next_sequence == reader.counters()["accepted"] + 1
    assert poll_later(reader) is None
    publisher = open_publisher(ring, tmp_path / "wal", 2, 16)
    publisher.publish_records(RECORD * 2)
    assert poll_later(reader) == Restarted(1, 2)
    assert poll_later(reader) == [1, 2]
    publisher.close()
    assert poll_later(reader) == Ended(2, "closed")
    assert reader.poll(1) == (b"", None)


def test_a_writer_killed_at_any_moment_leaves_a_ring_that_can_be_attached_and_replaced(tmp_path: Path) -> None:
    ring, moments = tmp_path / "ring", random.Random(SEED)
    with writing(ring, tmp_path / "stop") as writer:
        writer.kill()
    for run_id in range(2, 2 + SECONDS * 3):
        writer = start("writer", ring, tmp_path / "stop", SLOTS, run_id)
        deadline = time.monotonic() + 0.1 + moments.random() * 0.1  # most of it is the start of Python
        while time.monotonic() < deadline:
            assert RingReader(ring).counters()["slots"] == SLOTS
        writer.kill()
        writer.wait()
        assert RingReader(ring).writer == "died"
    assert {path.name for path in tmp_path.iterdir()} <= {"ring", "ring.new", "wal"}


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def writing(ring: Path, stop: Path) -> Iterator[subprocess.Popen[str]]:
    """A writer that has written; killed in the end, if it is still there."""
    writer = start("writer", ring, stop, SLOTS, 1)
    try:
        while not ring.exists() or RingReader(ring).counters()["accepted"] == 0:
            assert writer.poll() is None, writer.communicate()
            time.sleep(0.001)
        yield writer
    finally:
        writer.kill()
        writer.communicate()


# The stress


@dataclass
class Life:
    """One life of a reader: its process and what it has written down."""

    group: str
    journal: Path
    process: subprocess.Popen[str]
    killed: bool = False

    def told(self) -> list[tuple[str, int, int]]:
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return [(what, int(first), int(last)) for what, first, last in (line.split() for line in lines)]


def begin(folder: Path, group: str, number: int) -> Life:
    journal = folder / f"journal-{number}"
    return Life(group, journal, start("reader", folder / "ring", journal, group))


def test_readers_that_are_killed_and_come_back_get_each_event_once_or_are_told(tmp_path: Path) -> None:
    stop, moments = tmp_path / "stop", random.Random(SEED)
    with writing(tmp_path / "ring", stop) as writer:
        lives = [begin(tmp_path, group, number) for number, group in enumerate([ALONE] * 2 + ["risk"] * 3)]
        living, deadline = list(lives), time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            time.sleep(moments.random() * 0.2)
            place = moments.randrange(len(living))
            living[place].killed = living[place].process.poll() is None
            living[place].process.kill()
            living[place].process.communicate()
            assert living[place].killed, "it ended by itself"
            living[place] = begin(tmp_path, living[place].group, len(lives))
            lives.append(living[place])
        time.sleep(0.5)
        stop.touch()
        accepted = int(writer.communicate(timeout=60)[0])
        for life in living:
            _, errors = life.process.communicate(timeout=60)
            assert life.process.returncode == 0, errors
    for life in lives:
        if life.group == ALONE:
            assert_in_order(life, accepted)
    print(assert_each_once([life for life in lives if life.group != ALONE], accepted))


def assert_in_order(life: Life, accepted: int) -> None:
    """Records and misses of a reader with its own cursor follow each other without a hole, to the end if it lived."""
    expected = 1
    for _, first, last in life.told():
        assert first == expected <= last
        expected = last + 1
    assert life.killed or expected == accepted + 1


def assert_each_once(lives: list[Life], accepted: int) -> dict[str, int]:
    """What the members of a group got and were told is, together, every sequence once."""
    told = [
        (first, last, what, life, number) for life in lives for number, (what, first, last) in enumerate(life.told())
    ]
    claims = sorted((claim for claim in told if claim[2] != "Abandoned"), key=lambda claim: claim[0])
    abandoned = {(first, last) for first, last, what, *_ in told if what == "Abandoned"}
    expected = 1
    holes = set()
    for first, last, *_ in claims:
        assert first >= expected, f"{first} was handed out twice"
        if first > expected:
            holes.add((expected, first - 1))
        expected = last + 1
    if expected <= accepted:
        holes.add((expected, accepted))
    # Claimed by a member that was killed before it had written it down: neighbours may form one hole.
    covered = {sequence for first, last in abandoned for sequence in range(first, last + 1)}
    missing = {sequence for first, last in holes for sequence in range(first, last + 1)}
    assert missing <= covered, "neither handed out nor told"
    for first, last, _, life, number in claims:
        if covered & set(range(first, last + 1)):  # written down, and then it was killed before it asked for more
            assert life.killed and number == len(life.told()) - 1
    kinds = [what for _, _, what, *_ in told]
    return {what: kinds.count(what) for what in sorted(set(kinds))} | {"holes": len(holes), "accepted": accepted}
