"""The processes of the ring's stress test: `python ring_processes.py writer|reader …`. What they say is judged outside.

A reader writes a line of what it got into its journal before it asks for more: `records 5 9`, `Missed 10 17`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from rust_indicators import Abandoned, Ended, Missed, Publisher, RingReader

RECORD_BYTES, HEADER_BYTES, SEQUENCE_AT = 256, 56, 8
STATUS_KIND = 18
GOLDEN = 0x9E37_79B9_7F4A_7C15
BATCH_RECORDS = 64
POLL_RECORDS = 200
ALONE = "-"  # instead of a group
# Behind the end: long enough for the last claim of a killed member to be found.
LINGER_SECONDS = 0.2


def body_of(sequence: int) -> bytes:
    """What a record of this sequence holds; bytes of another one would show."""
    return (sequence * GOLDEN % 2**64).to_bytes(8, "little") * ((RECORD_BYTES - HEADER_BYTES) // 8)


def open_publisher(ring: Path, folder: Path, run_id: int, slots: int) -> Publisher:
    return Publisher(
        ring_path=ring,
        ring_slots=slots,
        wal_dir=folder,
        run_id=f"{run_id:016x}",
        header='{"schema_version":1}',
        classes=[],
        durability="write",
    )


def write(ring: Path, stop: Path, slots: int, run_id: int) -> None:
    """As fast as the log can take it, until the file `stop` is there."""
    publisher = open_publisher(ring, stop.with_name("wal"), run_id, slots)
    header = bytes([STATUS_KIND]) + bytes(HEADER_BYTES - 1)
    sequence = 0
    while not stop.exists():
        batch = range(sequence + 1, sequence + BATCH_RECORDS + 1)
        taken = publisher.publish_records(b"".join(header + body_of(number) for number in batch))
        assert taken == BATCH_RECORDS
        sequence = batch[-1]
    print(publisher.close())


def read(ring: Path, journal: Path, group: str) -> None:
    """Until the writer has closed, and a moment longer."""
    while not ring.exists():
        time.sleep(0.001)
    reader = RingReader(ring, group=None if group == ALONE else group)
    lines = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    leave_at = float("inf")
    while time.monotonic() < leave_at:
        records, told = reader.poll(POLL_RECORDS)
        if records:
            first = int.from_bytes(records[SEQUENCE_AT : SEQUENCE_AT + 8], "little")
            for number, at in enumerate(range(0, len(records), RECORD_BYTES), first):
                record = records[at : at + RECORD_BYTES]
                assert int.from_bytes(record[SEQUENCE_AT : SEQUENCE_AT + 8], "little") == number, "not in a row"
                assert record[HEADER_BYTES:] == body_of(number), f"torn: {number}"
            os.write(lines, f"records {first} {number}\n".encode())
        elif isinstance(told, Missed | Abandoned):
            os.write(lines, f"{type(told).__name__} {told.first} {told.last}\n".encode())
        elif isinstance(told, Ended):
            assert told == Ended(1, "closed")
            leave_at = time.monotonic() + LINGER_SECONDS
        else:
            time.sleep(0.0001)
    reader.finish()


if __name__ == "__main__":
    if sys.argv[1] == "writer":
        write(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    else:
        read(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
