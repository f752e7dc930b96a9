"""Nothing that any thread of any language writes to stderr shows a secret or a part of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shijim_live.broker.masked_stderr import FRAGMENT_BYTES, fragments, masked_line

ROOT = Path(__file__).parents[1]
KEY = "DummyKeyDoNotUseDummyKeyDoNotUse1234567890ab"
START = f"""
import ctypes, os, sys
from shijim_live.broker.masked_stderr import MaskedStderr
masking = MaskedStderr(({KEY!r}, "", "pass"))
"""


def written(program: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", START + program], cwd=ROOT, capture_output=True, timeout=60)


def shows_key(text: bytes) -> bool:
    return any(KEY[at : at + FRAGMENT_BYTES].encode() in text for at in range(len(KEY) - FRAGMENT_BYTES + 1))


@pytest.mark.parametrize(
    "program",
    [
        f"os.write(2, b'session {KEY[:10]}_sinopac down\\n')",
        f"libc = ctypes.CDLL(None); libc.dprintf(2, b'native: %s\\n', {KEY[:10]!r}.encode())",
        f"libc = ctypes.CDLL(None); libc.perror({KEY!r}.encode())",
        f"print('python:', {KEY!r}, file=sys.stderr)",
        f"os.write(2, b'session {KEY[:5]}'); os.write(2, b'{KEY[5:20]} in two pieces\\n')",
        f"os.write(2, b'no newline at the end {KEY}')",
        f"raise RuntimeError('a traceback with {KEY}')",
        f"import subprocess; subprocess.run(['sh', '-c', 'echo child {KEY} >&2'])",
        f"os.write(2, b'last words {KEY}\\n'); os.abort()",
        f"os.write(2, b'last words {KEY}\\n'); os.kill(os.getpid(), 9)",
        "os.write(2, b'the password is pass\\n')",
    ],
)
def test_a_secret_is_masked_whoever_writes_it(program: str) -> None:
    done = written(program)
    assert b"***" in done.stderr
    assert not shows_key(done.stderr)
    assert b"pass\n" not in done.stderr


def test_a_panic_of_the_sdk_goes_through_the_mask() -> None:
    # Empty input makes the SDK's decoder panic; Rust prints that by itself, in whatever thread.
    program = f"""
from shijim_live.broker.shioaji import quote_classes
os.environ["RUST_BACKTRACE"] = "0"
try:
    quote_classes().tick_fop.from_msgpack(b"").code
except BaseException as error:
    print(type(error).__name__, {KEY!r}, file=sys.stderr)
"""
    done = written(program)
    assert b"panicked at" in done.stderr
    assert b"PanicException ***" in done.stderr
    assert not shows_key(done.stderr)


def test_what_is_no_secret_arrives_as_it_was_written_and_in_order() -> None:
    done = written("for n in range(20_000): os.write(2, b'line %d\\n' % n)\nmasking.close(); os.write(2, b'after\\n')")
    assert done.stderr == b"".join(b"line %d\n" % number for number in range(20_000)) + b"after\n"


def test_a_megabyte_without_a_newline_is_passed_on_masked() -> None:
    done = written(f"os.write(2, b'x' * 300_000 + {KEY!r}.encode() + b'y' * 300_000)")
    assert not shows_key(done.stderr)
    assert done.stderr.count(b"x") == done.stderr.count(b"y") == 300_000


def test_a_reader_that_is_gone_does_not_stop_the_writer() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = START + "for n in range(50_000): os.write(2, b'line of some length, to nobody\\n')\nprint('went on')"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=writing, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, b"went on\n")


@given(st.text(min_size=FRAGMENT_BYTES, max_size=60), st.binary(max_size=80), st.binary(max_size=80), st.data())
def test_no_run_of_a_secret_survives_wherever_it_stands(
    secret: str, before: bytes, after: bytes, data: st.DataObject
) -> None:
    text = secret.encode()
    start = data.draw(st.integers(0, len(text) - FRAGMENT_BYTES))
    end = data.draw(st.integers(start + FRAGMENT_BYTES, len(text)))
    shown = masked_line(before + text[start:end] + after, fragments([secret]))
    assert b"***" in shown
    if b"***" not in before + text + after:
        assert not any(part in shown for part in fragments([secret]))


@given(st.binary(max_size=200))
def test_a_line_without_a_secret_is_left_alone(line: bytes) -> None:
    if not shows_key(line):
        assert masked_line(line, fragments([KEY, "", "abc"])) == line


def test_a_stop_of_the_whole_service_does_not_end_it_before_the_last_line() -> None:
    program = f"""
import os, signal, sys, time
from shijim_live.broker.masked_stderr import MaskedStderr
masking = MaskedStderr(({KEY!r},))
def ignores():
    status = open(f"/proc/{{masking._process.pid}}/status").read()
    return int(status.split("SigIgn:")[1].split()[0], 16) >> signal.SIGTERM - 1 & 1
deadline = time.monotonic() + 20
while not ignores():
    assert time.monotonic() < deadline, "a stop would end it"
    time.sleep(0.01)
os.kill(masking._process.pid, signal.SIGTERM)
print("the last word, {KEY}", file=sys.stderr, flush=True)
masking.close()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "the last word, ***\n"
