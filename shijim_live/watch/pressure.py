"""When the ring fills: what the recorder says of it, once a crossing and not too often. It measures nothing itself."""

from __future__ import annotations

from collections.abc import Mapping

# The marks that the ring counts, and what it calls their counters (rust_indicators/src/ring/depth.rs).
HIGH_WATER = {50: "above_50", 80: "above_80"}
# A disk in trouble crosses a mark many times a second; a person needs to hear of it about once a minute.
SAY_SECONDS_MIN = 60


class RingPressure:
    """Remembers which crossings have been said."""

    def __init__(self) -> None:
        self._said = dict.fromkeys(HIGH_WATER, 0)
        self._silent_until = dict.fromkeys(HIGH_WATER, 0.0)

    def lines(self, counters: Mapping[str, int], now_seconds: float) -> list[str]:
        """What there is to say now, the higher mark only where both were crossed."""
        crossed = [
            percent
            for percent, counter in HIGH_WATER.items()
            if counters[counter] > self._said[percent] and now_seconds >= self._silent_until[percent]
        ]
        if not crossed:
            return []
        times = counters[HIGH_WATER[crossed[-1]]] - self._said[crossed[-1]]
        for percent in crossed:
            self._said[percent] = counters[HIGH_WATER[percent]]
            self._silent_until[percent] = now_seconds + SAY_SECONDS_MIN
        return [
            f"the ring rose past {crossed[-1]} % full {_times(times)}: {counters['depth']:,} of {counters['slots']:,} "
            f"events wait for the disk now, {counters['depth_max']:,} at most so far; "
            f"callbacks have waited {counters['blocked_ns'] / 1_000_000_000:.3f} s"
        ]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
