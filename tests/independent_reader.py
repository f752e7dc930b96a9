"""A reader of the log made from docs/log-format.md alone: it shares no line with Shijim. Slow, and not used by it.

python independent_reader.py SEGMENT        prints header, events as JSON lines, and how the segment ends
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

HEADER = struct.Struct("<4BIQqq16sHBBi")
HEADER_FIELDS, TRADE_FIELDS, LEVEL_FIELDS, BOOK_FIELDS, TEXT_FIELDS = map(str.split, (
    "kind broker_class lane exchange flags sequence exchange_ns received_ns code connection side chg_type "
    "source_offset_ns",
    "price_e6 volume total_volume open_e6 high_e6 low_e6 avg_price_e6 amount_e6 total_amount_e6 price_chg_e6 "
    "pct_chg_e6 underlying_price_e6 closing_oddlot_close_e6 closing_oddlot_amount_e6 closing_oddlot_bid_price_e6 "
    "closing_oddlot_ask_price_e6 fixed_trade_amount_e6 bid_side_total_vol ask_side_total_vol bid_side_total_cnt "
    "ask_side_total_cnt closing_oddlot_shares fixed_trade_vol",
    "bid_price_e6 ask_price_e6 bid_volume ask_volume diff_bid_vol diff_ask_vol",
    "bid_total_vol ask_total_vol first_derived_bid_price_e6 first_derived_ask_price_e6 first_derived_bid_vol "
    "first_derived_ask_vol underlying_price_e6",
    "begin_ns end_ns value field part parts text_length text",
))  # fmt: skip
TRADE = struct.Struct("<qII14q6I48x")
BODIES = {1: TRADE, 2: struct.Struct("<10q10I10iIIqqIIq"), 3: TRADE}
TEXT = struct.Struct("<qqq4H168s")

CRC_TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    CRC_TABLE.append(byte)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class Segment:
    """Header at once; the rest when `records` has been read to its end."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        assert self.data[:8] == b"SHIJIMW1", f"{path} is no segment"
        found = self.json_at(8)
        assert found, f"the header of {path} is damaged"
        self.header, self.position = found
        assert self.header["schema_version"] == 1
        self.footer: dict[str, Any] | None = None
        self.state = "more"
        self.corrupt: list[tuple[int, int]] = []  # [from, to)

    def json_at(self, at: int) -> tuple[dict[str, Any], int] | None:
        """(object, where it ends) of length, checksum and JSON."""
        if at + 8 > len(self.data):
            return None
        length, crc = struct.unpack_from("<II", self.data, at)
        text = self.data[at + 8 : at + 8 + length]
        return (json.loads(text), at + 8 + length) if len(text) == length and crc32c(text) == crc else None

    def footer_at(self, at: int) -> tuple[dict[str, Any], int] | None:
        return self.json_at(at + 4) if self.data[at : at + 4] == b"SEND" else None

    def block_at(self, at: int) -> tuple[list[bytes], int] | None:
        """(records, where the block ends) of a sound block."""
        head = self.data[at : at + 28]
        if len(head) < 28 or head[:4] != b"SBLK":
            return None
        transform, count, length, first, crc = struct.unpack("<B3xIIQI", head[4:])
        raw_bytes = 258 * count
        payload = self.data[at + 28 : at + 28 + length]
        if not 1 <= count <= 8192 or length > raw_bytes + raw_bytes // 128 + 1024 or len(payload) < length:
            return None
        if crc32c(head[4:24] + payload) != crc or transform != 1:
            return None
        raw = pa.Codec("zstd").decompress(payload, raw_bytes, asbytes=True)
        assert len(raw) == raw_bytes
        rows: list[tuple[int, ...]] = []
        for i in range(count):
            back = raw[i] | raw[count + i] << 8
            base = rows[i - back] if back else (0,) * 64
            words = struct.unpack("<64I", raw[2 * count + i :: count])
            rows.append(tuple((b + (d >> 1 ^ -(d & 1))) & 0xFFFFFFFF for b, d in zip(base, words, strict=True)))
        records = [struct.pack("<64I", *row) for row in rows]
        assert struct.unpack_from("<Q", records[0], 8)[0] == first
        return records, at + 28 + length

    def records(self) -> Iterator[bytes]:
        """The records of every sound block."""
        while self.state == "more":
            if found := self.block_at(self.position):
                block, self.position = found
                yield from block
            elif end := self.footer_at(self.position):
                self.footer, footer_end = end
                trailer = struct.pack("<I", footer_end - self.position) + b"DONE"
                self.state = "sealed" if self.data[footer_end:] == trailer else "torn"
            else:
                places = range(self.position + 1, len(self.data))
                sound = next((at for at in places if self.footer_at(at) or self.block_at(at)), None)
                if sound is None:
                    self.state = "torn" if any(self.data[self.position :]) else "open"
                else:
                    self.corrupt.append((self.position, sound))
                    self.position = sound


def fields(record: bytes) -> dict[str, Any]:
    """Every field of a record by its name; levels as tuples, `code` and `text` as bytes without their padding."""
    found = dict(zip(HEADER_FIELDS, HEADER.unpack_from(record), strict=True))
    found["code"] = found["code"].rstrip(b"\0")
    body = BODIES.get(found["kind"], TEXT).unpack_from(record, 56)
    if found["kind"] in (1, 3, 4):
        return found | dict(zip(TRADE_FIELDS, body, strict=True))
    if found["kind"] == 2:
        levels = {name: body[5 * at : 5 * at + 5] for at, name in enumerate(LEVEL_FIELDS)}
        return found | levels | dict(zip(BOOK_FIELDS, body[30:], strict=True))
    found |= dict(zip(TEXT_FIELDS, body, strict=True))
    return found | {"text": found["text"][: found["text_length"]]}


if __name__ == "__main__":
    segment = Segment(Path(sys.argv[1]))
    print(json.dumps(segment.header))
    for each in segment.records():
        print(json.dumps(fields(each), default=lambda data: data.decode("utf-8", "replace")))
    print(json.dumps({"state": segment.state, "corrupt": segment.corrupt, "footer": segment.footer}))
