"""Everything written to stderr, by whatever language, without secrets. Not a log: the lines go where they went before.

The SDK's native threads write to file descriptor 2 and name sessions after the API key. So that descriptor becomes a
pipe, and a small process of its own – this file, run as a program – masks its lines: one that outlives a crash and
cannot wait for our interpreter's lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Final

PIPE_BYTES: Final = 1 << 20  # the most an unprivileged process gets: a panic with a backtrace never blocks
CHUNK_BYTES: Final = 1 << 16
LINE_BYTES_MAX: Final = 1 << 16  # longer ones are passed on in pieces
FRAGMENT_BYTES: Final = 6  # of a secret: so many in a row are masked; fewer say nothing
SHORT_SECRET_BYTES_MIN: Final = 4  # one shorter would mask half of every line
MASK: Final = b"***"
# A national or resident identity number, which the SDK puts into its errors: no setting holds it, its form does.
_PERSON_ID: Final = re.compile(rb"(?<![0-9A-Za-z])[A-Z][A-D1289][0-9]{8}(?![0-9A-Za-z])")
END_SECONDS_MAX: Final = 5.0


class MaskedStderr:
    """Descriptor 2 as a pipe to the masking process, until `close`, or for ever."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        sys.stderr.flush()
        self._before = os.dup(2)
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        # The secrets are the first line in the pipe: no argument, variable or file holds them.
        os.write(writing, json.dumps([secret for secret in secrets if secret]).encode() + b"\n")
        program = [sys.executable, "-I", "-S", __file__]
        # A session of its own: Ctrl-C is for us, and our last words are still to be passed on.
        self._process = subprocess.Popen(program, stdin=reading, stdout=self._before, start_new_session=True)
        os.close(reading)
        os.dup2(writing, 2)
        os.close(writing)

    def close(self) -> None:
        """Gives descriptor 2 back once everything written so far has been passed on."""
        sys.stderr.flush()
        os.dup2(self._before, 2)
        os.close(self._before)
        with suppress(subprocess.TimeoutExpired):  # a child of ours still writes; its lines are passed on without us
            self._process.wait(END_SECONDS_MAX)


def fragments(secrets: list[str]) -> set[bytes]:
    """Every run of `FRAGMENT_BYTES` of a secret; a shorter secret whole."""
    found = set()
    for secret in secrets:
        text = secret.encode()
        if len(text) >= SHORT_SECRET_BYTES_MIN:
            length = min(FRAGMENT_BYTES, len(text))
            found |= {text[at : at + length] for at in range(len(text) - length + 1)}
    return found


def masked_line(line: bytes, parts: set[bytes]) -> bytes:
    """The line with one mask for each stretch of a secret, and for each number of a person."""
    hidden = bytearray(len(line))
    for found in _PERSON_ID.finditer(line):
        hidden[found.start() : found.end()] = b"\1" * len(found[0])
    for part in parts:
        start = line.find(part)
        while start >= 0:
            hidden[start : start + len(part)] = b"\1" * len(part)
            start = line.find(part, start + 1)
    if not any(hidden):
        return line
    shown = bytearray()
    for place, byte in enumerate(line):
        if not hidden[place]:
            shown.append(byte)
        elif place == 0 or not hidden[place - 1]:
            shown += MASK
    return bytes(shown)


def _pass_on() -> None:
    """The program: lines from descriptor 0, masked, to descriptor 1, until there are no more."""
    # It ends with whoever writes to it; a stop of the whole service must not make every further line an error.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parts: set[bytes] | None = None
    kept = b""
    while chunk := os.read(0, CHUNK_BYTES):
        kept += chunk
        if parts is None:
            first, newline, rest = kept.partition(b"\n")
            if not newline:
                continue
            parts, kept = fragments(json.loads(first)), rest
        end = max(kept.rfind(b"\n"), kept.rfind(b"\r")) + 1
        if not end and len(kept) > LINE_BYTES_MAX:
            end = len(kept) - max(map(len, parts), default=0)  # a secret may begin in what is kept
        lines, kept = kept[:end], kept[end:]
        _write(masked_line(lines, parts))
    _write(masked_line(kept, parts or set()))


def _write(text: bytes) -> None:
    """Who reads us may be gone; who writes to us must not wait for that."""
    while text:
        try:
            text = text[os.write(1, text) :]
        except OSError:
            return


if __name__ == "__main__":
    _pass_on()
