"""The form of the broker's keys and certificate: what can be said without asking anybody. Shows none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
SECRET_BYTES: Final = 32  # what the SDK wants a secret key to decode to
PFX_BYTES_MAX: Final = 1024 * 1024  # a certificate has 5 KB


def base58_bytes(text: str) -> int | None:
    """How many bytes base58 text stands for; None where it is none."""
    if not text or set(text) - set(BASE58):
        return None
    number = 0
    for character in text:
        number = number * len(BASE58) + BASE58.index(character)
    zeros = len(text) - len(text.lstrip(BASE58[0]))
    return zeros + (number.bit_length() + 7) // 8


def pfx_problem(path: Path) -> str:
    """Why a file can be no certificate, or "". Whether its password opens it, and when it expires, the broker says."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
        size = path.stat().st_size
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    # PKCS#12 is a sequence whose length takes two bytes or is not said.
    if start not in (b"\x30\x82", b"\x30\x80") or size > PFX_BYTES_MAX:
        return f"{path} is no certificate of the .pfx form"
    return ""
