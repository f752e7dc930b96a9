"""The least that a session's ledger of topics can be. Not the one that plans: no cap, no rate."""

from __future__ import annotations

from collections.abc import Iterable

from shijim_live.broker.gateway import Topic

CONFIRM_NS = 10_000_000_000
RETRY_NS = 30_000_000_000


class PlainLedger:
    """Asks for everything wanted, again where nobody answered, later where it was refused."""

    def __init__(self, wanted: frozenset[Topic]) -> None:
        self._wanted = wanted
        self.asked_ns: dict[Topic, int] = {}
        self.held: set[Topic] = set()
        self.said_no: dict[Topic, tuple[str, int]] = {}

    def wanted(self) -> frozenset[Topic]:
        return self._wanted

    def want(self, topics: Iterable[Topic], now_ns: int) -> None:
        self._wanted = frozenset(topics)

    def to_request(self, now_ns: int) -> list[Topic]:
        return [topic for topic in sorted(self._wanted - self.held) if self._free_ns(topic) <= now_ns]

    def _free_ns(self, topic: Topic) -> int:
        if topic in self.said_no:
            return self.said_no[topic][1]
        return self.asked_ns[topic] + CONFIRM_NS if topic in self.asked_ns else 0

    def to_drop(self, now_ns: int) -> list[Topic]:
        dropped = sorted(self.held - self._wanted)
        self.held -= set(dropped)
        return dropped

    def requested(self, topic: Topic, now_ns: int) -> None:
        self.said_no.pop(topic, None)
        self.asked_ns[topic] = now_ns

    def confirmed(self, topic: Topic, now_ns: int) -> None:
        if self.asked_ns.pop(topic, None) is not None:
            self.held.add(topic)

    def refused(self, topic: Topic, text: str, now_ns: int, full: bool = False) -> None:
        self.held.discard(topic)
        if topic in self._wanted:
            self.said_no[topic] = (text, now_ns + RETRY_NS)

    def lost(self, now_ns: int) -> None:
        self.held.clear()
        self.asked_ns.clear()
        self.said_no.clear()

    def next_ns(self) -> int | None:
        return min((self._free_ns(topic) for topic in self._wanted - self.held), default=None)

    def snapshot(self, now_ns: int) -> dict[str, object]:
        return {"counts": {"confirmed": len(self.held), "refused": len(self.said_no)}}
