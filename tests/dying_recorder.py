"""A recorder that kills itself in the middle of the day: `python dying_recorder.py EVENTS IN_HAND record …`; or within
a callback, under the shim of kill_points: `python dying_recorder.py callback NUMBER NS record …`.

From outside, the kill comes whenever the machine gives the killer its turn – on a busy one after the day is over.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rust_indicators import Publisher, RingReader
from shijim_live import cli
from shijim_live.record import recorder

# What the log thread still has in hand at the kill.
NOT_YET_DURABLE = 500


def dying_sink(events: int, in_hand: int) -> type[recorder.Sink]:
    class DyingSink(recorder.Sink):
        def __init__(self, publisher: Publisher, *arguments: object) -> None:
            super().__init__(publisher, *arguments)  # type: ignore[arg-type]
            publish = self.quote

            def quote(delivered: object, received_ns: int) -> None:
                publish(delivered, received_ns)
                if publisher.counters()["accepted"] < events + in_hand:
                    return
                while publisher.counters()["durable"] < events:
                    time.sleep(0)
                os.kill(os.getpid(), signal.SIGKILL)

            self.quote = quote

    return DyingSink


def callback_sink(number: int, delay_ns: int) -> type[recorder.Sink]:
    """Dies `delay_ns` after the callback of that number began: before it publishes, in the middle of it, behind it."""
    kill_in_ns = ctypes.CDLL(None).kill_in_ns
    kill_in_ns.argtypes = [ctypes.c_long]

    class DyingSink(recorder.Sink):
        def __init__(self, publisher: Publisher, *arguments: object) -> None:
            super().__init__(publisher, *arguments)  # type: ignore[arg-type]
            publish = self.quote
            delivered_before = 0

            def quote(delivered: object, received_ns: int) -> None:
                nonlocal delivered_before
                delivered_before += 1
                if delivered_before == number:
                    if not delay_ns:
                        os.kill(os.getpid(), signal.SIGKILL)
                    assert kill_in_ns(delay_ns) == 0
                publish(delivered, received_ns)

            self.quote = quote

    return DyingSink


def record_and_die(folder: Path, events: int, command: list[str], in_hand: int = NOT_YET_DURABLE) -> int:
    """Runs the arguments of `shijim-live` and is killed once `events` are durable: the last sequence acknowledged.

    With nothing `in_hand` the log thread has no next segment to turn to: the last one is left unsealed for sure.
    """
    arguments = [str(events), str(in_hand), *command]
    died = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    return RingReader(recorder.ring_path(folder, 0)).counters()["durable"]


if __name__ == "__main__":
    numbers = sys.argv[1:4]
    if numbers[0] == "callback":
        recorder.Sink = callback_sink(int(numbers[1]), int(numbers[2]))  # type: ignore[misc]
        sys.exit(cli.main(sys.argv[4:]))
    recorder.Sink = dying_sink(int(numbers[0]), int(numbers[1]))  # type: ignore[misc]
    sys.exit(cli.main(sys.argv[3:]))
