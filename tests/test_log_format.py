"""The log is what docs/log-format.md says: a reader made from it agrees with ours, and no changed byte passes."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import independent_reader
import orjson
import pyarrow.parquet as pq
import pytest
from dying_recorder import record_and_die
from made_records import RUN, ns, outage, trades
from real_data import DATA, needs_data
from test_publisher import Log, fop_tick

from rust_indicators import LogWriter, SegmentReader
from shijim_live.events import (
    SCHEMA_VERSION,
    Book,
    Event,
    Flag,
    Kind,
    Status,
    Trade,
    decode,
    encode,
)
from shijim_live.record import wal
from shijim_live.record.wal import Soundness
from shijim_pipelines.imports import import_file

RECORD = [
    "record",
    "--broker",
    "simulated",
    "--day",
    "2026-04-09",
    "--events",
    "20000",
    "--metrics-port",
    "0",
    "--quiet",
]


def agrees(path: Path) -> tuple[independent_reader.Segment, list[bytes]]:
    """Both readers on one segment: same header, records, fields, end, footer and corrupt bytes."""
    theirs, ours = independent_reader.Segment(path), SegmentReader(path)
    records_read = list(theirs.records())
    records = b"".join(records_read)
    assert records == ours.read(1 << 24)
    assert ours.read(1) == b""
    assert theirs.header == orjson.loads(ours.header)
    assert theirs.footer == (orjson.loads(ours.footer) if ours.footer else None)
    assert (theirs.state, theirs.position) == (ours.end, ours.position)
    assert theirs.corrupt == [(offset, offset + length) for offset, length, *_ in ours.problems if length]
    for record in records_read:
        assert independent_reader.fields(record) == plain(decode(record))
    return theirs, records_read


def plain(event: Trade | Book | Status) -> dict[str, object]:
    """An event of ours as the page has it."""
    found = {name: value for name, value in asdict(event).items() if name != "oversize"}
    found["code"] = event.code.encode()
    if isinstance(event, Status):
        found |= {"text": event.text.encode(), "text_length": len(event.text.encode())}
    return found


def test_the_readers_agree_on_a_day_that_was_killed_and_recovered(tmp_path: Path) -> None:
    record_and_die(tmp_path, 7_000, [*RECORD, "--data-dir", str(tmp_path)], in_hand=0)
    states = [agrees(path)[0].state for path in wal.segment_paths(tmp_path / "wal")]
    assert states[:-1] == ["sealed"] * (len(states) - 1) and states[-1] in ("open", "torn")
    subprocess.run(
        [sys.executable, "-m", "shijim_live", *RECORD, "--data-dir", str(tmp_path)], check=True, capture_output=True
    )
    segments = [agrees(path)[0] for path in wal.segment_paths(tmp_path / "wal")]
    assert {segment.state for segment in segments} == {"sealed"}
    assert [segment.footer["recovered"] for segment in segments if segment.footer].count(True) == 1
    kinds = {int(kind) for segment in segments if segment.footer for kind in segment.footer["kinds"]}
    assert {Kind.TRADE, Kind.BOOK, Kind.START, Kind.STOP, Kind.OUTAGE} <= kinds
    assert all(described(segment) for segment in segments)


def described(segment: independent_reader.Segment) -> bool:
    """Whether a segment says by itself what each of its codes is."""
    known = {code for group in segment.header["instruments"] for code in group["codes"]}
    return segment.footer is not None and set(segment.footer["codes"]) <= known


def test_the_readers_agree_on_what_does_not_fit_and_on_what_could_not_be_read(tmp_path: Path) -> None:
    log = Log(tmp_path)
    wide = "12345678901234567890.123456789"  # neither six decimals nor 64 bits hold it
    log.publisher.publish(fop_tick(wide), 1)
    log.publisher.publish(Broken("一二三四五六七八九十" * 30), 2)
    trade, *parts = log.finish()
    [path] = wal.segment_paths(tmp_path / "wal")
    found = [independent_reader.fields(record) for record in agrees(path)[1]]
    assert [each["kind"] for each in found] == [Kind.SIDE, Kind.TRADE] + [Kind.QUARANTINE] * len(parts)
    assert isinstance(trade, Trade) and trade.oversize == (("price_e6", wide),)
    side, event = found[:2]
    assert (side["text"], side["field"], event["flags"] & Flag.HAS_SIDE) == (wide.encode(), 56, Flag.HAS_SIDE)
    assert [each["part"] for each in found[2:]] == list(range(found[2]["parts"]))
    assert ("一二三四五六七八九十" * 30).encode() in b"".join(each["text"] for each in found[2:])


class Broken(str):
    """What no broker sends; its text is kept."""

    def __repr__(self) -> str:
        return str(self)


EVENTS: list[Event] = [
    Status(kind=Kind.START, received_ns=ns("2026-04-09 09:00:00"), text="shijim test"),
    *trades("TXFD6", "2026-04-09 09:00:00", range(1, 40)),
    Book(code="2330", exchange_ns=ns("2026-04-09 09:01:00"), bid_price_e6=(5, 4, 3, -(2**63), 0), ask_volume=(7,) * 5),
    outage("2026-04-09 09:01:00", "2026-04-09 09:02:00", "broker connection lost"),
]


def segment_of(folder: Path, blocks: list[list[Event]], *, seal: bool) -> Path:
    """A segment of several blocks; one that is not sealed keeps the zeros written ahead."""
    header = {"schema_version": SCHEMA_VERSION, "run_id": RUN, "source": "simulated", "clock": "simulated",
              "created_ns": 1, "config_hash": "0", "build": "test"}  # fmt: skip
    writer = LogWriter(folder / "wal", RUN, orjson.dumps(header).decode())
    for events in blocks:
        writer.append(b"".join(encode(event) for event in events))
    if seal:
        writer.close()
    [path] = wal.segment_paths(folder / "wal")
    if not seal:
        (folder / "copy.wal").write_bytes(path.read_bytes())
        return folder / "copy.wal"
    return path


BLOCKS = [EVENTS[:10], EVENTS[10:11], EVENTS[11:]]


def damaged(path: Path, change: str) -> None:
    """The segment with a change in its middle, at its end, or behind it."""
    data = path.read_bytes()
    first, second, third = (at for at in range(len(data)) if data[at : at + 4] == b"SBLK")
    behind = data.rfind(b"SEND") if b"SEND" in data else len(data.rstrip(b"\0"))
    changed = {
        "a byte of the first block": data[: first + 60] + bytes([data[first + 60] ^ 1]) + data[first + 61 :],
        "a block is gone": data[:second] + data[third:],
        "rubbish between two blocks": data[:second] + b"SBLK and SEND" * 5 + data[second:],
        "a block twice": data[:third] + data[second:],
        "cut in the last block": data[: behind - 3],
        "cut behind the last block": data[:behind],
        "the end of the trailer": data[:-1] + b"!",
        "more behind the end": data + b"\0" * 9 + b"x",
        "zeros behind the end": data + b"\0" * 9,
    }
    path.write_bytes(changed[change])


CHANGES = ("a byte of the first block", "a block is gone", "rubbish between two blocks", "a block twice",
           "cut in the last block", "cut behind the last block", "the end of the trailer", "more behind the end",
           "zeros behind the end")  # fmt: skip


@pytest.mark.parametrize("seal", [True, False], ids=["sealed", "open"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_readers_agree_on_a_damaged_segment_and_verify_finds_it(tmp_path: Path, change: str, seal: bool) -> None:
    path = segment_of(tmp_path, BLOCKS, seal=seal)
    assert agrees(path)[0].state == ("sealed" if seal else "open")
    assert wal.examine(path).soundness is Soundness.SOUND
    damaged(path, change)
    agrees(path)
    unseen = not seal and change in ("cut behind the last block", "zeros behind the end", "a block twice")
    unseen |= seal and change == "cut behind the last block"  # what a recorder leaves that died between two commits
    assert (wal.examine(path).soundness is Soundness.SOUND) == unseen


L5_ROWS = 60_000  # of a file: bit by bit in plain Python, a whole day takes half a minute


@needs_data
@pytest.mark.parametrize("name", ["raw_2025-11-19_TXFL5_md_events_0001.jsonl", "TXFD6_2026-04-09.parquet"])
def test_the_readers_agree_on_an_import_of_real_data(tmp_path: Path, name: str) -> None:
    source = DATA / "shioaji_stream" / name
    if source.suffix == ".parquet":
        source = tmp_path / name
        pq.write_table(pq.read_table(DATA / "txf_l5" / name).slice(0, L5_ROWS), source)
    done = import_file(source, tmp_path / "wal")
    segments = [agrees(path)[0] for path in done.segments]
    assert all(described(segment) for segment in segments)
    assert sum(segment.footer["records"] for segment in segments if segment.footer) == done.records > 900


# Some bytes, through Python and the command; every one is changed in rust_indicators/src/segment/damaged.rs


@pytest.mark.parametrize("seal", [True, False], ids=["sealed", "open"])
def test_one_changed_byte_is_found_wherever_it_is(tmp_path: Path, seal: bool) -> None:
    path = segment_of(tmp_path, BLOCKS, seal=seal)
    whole = path.read_bytes()
    places = random.Random(5).sample(range(len(whole)), 400)
    assert [at for at in places if verdict_on(path, whole, at) is Soundness.SOUND] == []


def verdict_on(path: Path, whole: bytes, at: int) -> Soundness:
    """What verify makes of the segment with one byte changed."""
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
    try:
        return wal.examine(path).soundness
    except wal.WalError:
        return Soundness.UNREADABLE


def test_each_finding_is_an_exit_code_of_its_own(tmp_path: Path) -> None:
    path = segment_of(tmp_path, BLOCKS, seal=True)
    whole = path.read_bytes()
    second = whole.index(b"SBLK", whole.index(b"SBLK") + 1)
    for at, code in ((None, 0), (len(whole) - 1, 1), (second, 2), (20, 3)):
        path.write_bytes(whole if at is None else whole[:at] + b"~" + whole[at + 1 :])
        assert subprocess.run([sys.executable, "-m", "shijim_live", "verify", path]).returncode == code
