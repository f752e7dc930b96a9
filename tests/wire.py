"""The broker's wire format: MessagePack arrays as the SDK's `from_msgpack` reads them. Written from its field table."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import datetime


class Raw(bytes):
    """Bytes that are put into a message as they are: what no encoder would write."""


Wire = str | int | bool | Raw | Sequence["Wire"]


def pack(value: Wire) -> bytes:
    """Shortest encoding of each value: the SDK refuses wider ones."""
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, str):
        data = value.encode()
        return (bytes([0xA0 | len(data)]) if len(data) < 32 else b"\xd9" + bytes([len(data)])) + data
    head = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdc" + struct.pack(">H", len(value))
    return head + b"".join(pack(item) for item in value)


def _integer(value: int) -> bytes:
    if 0 <= value < 128 or -32 <= value < 0:
        return struct.pack("b" if value < 0 else "B", value)
    unsigned = ((0xCC, ">B", 2**8), (0xCD, ">H", 2**16), (0xCE, ">I", 2**32), (0xCF, ">Q", 2**64))
    signed = ((0xD0, ">b", 2**7), (0xD1, ">h", 2**15), (0xD2, ">i", 2**31), (0xD3, ">q", 2**63))
    for marker, shape, limit in unsigned if value >= 0 else signed:
        if abs(value) < limit or value == -limit:
            return bytes([marker]) + struct.pack(shape, value)
    raise ValueError(f"{value} is wider than 64 bits")


def stamp(wall: datetime) -> tuple[str, str]:
    """Date and time slots of a naive Taipei stamp."""
    return wall.strftime("%Y/%m/%d"), wall.strftime("%H:%M:%S.%f")
