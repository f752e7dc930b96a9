"""How fast and how big one simulated day is. Prints, asserts nothing."""

import resource
import threading
import time
from collections.abc import Callable
from datetime import date

from shijim_live.broker.simulated import BATCH, SimulatedExchange


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    exchange = SimulatedExchange(date(2026, 11, 20), seed=1)
    before = memory_mb()
    day = exchange._start()
    generated = seconds(lambda: [None for _ in iter(lambda: day.next_batch(BATCH), [])])
    after = memory_mb()
    objects = seconds(lambda: exchange.run(lambda *_: None, lambda *_: None, threading.Event()))
    deliveries = exchange.truth()["deliveries"]
    print(f"deliveries           {deliveries:>12,}")
    print(f"encoded              {deliveries / generated:>12,.0f} /s")
    print(f"as the SDK's objects {deliveries / objects:>12,.0f} /s")
    print(f"memory of generating {after - before:>12,.1f} MB over {before:.0f} MB")


if __name__ == "__main__":
    main()
