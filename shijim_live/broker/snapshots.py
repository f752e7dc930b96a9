"""How codes stood when the broker was asked: when to ask, and the answer as records and back. Asks nobody.

For codes that no topic is left for, and no substitute for trades: what happened between two of them is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from shijim_live.broker.history import SNAPSHOT_CODES_MAX, VALUE_BYTES
from shijim_live.broker.quota import RESERVED_BYTES, Query, Quota, QuotaExhausted
from shijim_live.broker.rest_fields import fixed, rest_of, side_records
from shijim_live.broker.session import open_since_ns
from shijim_live.calendar import MINUTE_NS, TAIPEI_OFFSET_NS, Market
from shijim_live.events import ABSENT_I64, ABSENT_U32, BrokerClass, Exchange, Flag, Kind, Lane, Trade, encode
from shijim_live.instruments import instrument

# The broker's name → the field of a trade. Prices and amounts are floats there: their shortest text is the number.
FIELDS: Final = {
    "close": "price_e6", "open": "open_e6", "high": "high_e6", "low": "low_e6", "average_price": "avg_price_e6",
    "amount": "amount_e6", "total_amount": "total_amount_e6", "volume": "volume", "total_volume": "total_volume",
}  # fmt: skip
EXHAUSTED_NS: Final = 30 * MINUTE_NS  # how long a used-up budget is left alone
_IN_HEADER: Final = ("ts", "code", "exchange")


class SnapshotRounds:
    """When which codes are asked about: all of them once a round, as many at once as the broker answers."""

    def __init__(self, codes: Callable[[], Sequence[str]], every_ns: int, quota: Quota | None = None) -> None:
        """`codes`: of now, they may change. `quota`: every question is paid for first; None where nobody counts."""
        self._codes = codes
        self._every_ns = every_ns
        self._quota = quota
        self._left: list[str] = []
        self._since_ns, self._wait_ns = 0, 0  # nothing is asked for so long from then on
        self._reserved = 0  # bytes of the question that is not answered

    def due(self, now_ns: int) -> list[str]:
        """The codes of one question, empty where none is due; of markets that are open. Never waits. QuotaExhausted."""
        if 0 <= now_ns - self._since_ns < self._wait_ns:
            return []
        if not self._left:
            self._since_ns, self._wait_ns = now_ns, self._every_ns
            open_now = {market for market in Market if open_since_ns(now_ns, market) is not None}
            self._left = [code for code in self._codes() if instrument(code).market in open_now]
        if self._left and self._quota is not None:
            self._settle(0)  # what was not answered cost nothing
            try:
                wait_ns = self._quota.charge_now(Query.SNAPSHOTS)
            except QuotaExhausted:
                self._left, self._since_ns, self._wait_ns = [], now_ns, EXHAUSTED_NS
                raise
            if wait_ns > 0:  # others have asked so much
                self._since_ns, self._wait_ns = now_ns, wait_ns
                return []
            self._reserved = RESERVED_BYTES[Query.SNAPSHOTS]
        asked, self._left = self._left[:SNAPSHOT_CODES_MAX], self._left[SNAPSHOT_CODES_MAX:]
        if self._left:
            self._wait_ns = 0  # the rest of the round follows
        elif asked:
            self._wait_ns = self._every_ns
        return asked

    def answered(self, rows: Sequence[Any]) -> None:
        """What the last question brought: that is what it cost."""
        self._settle(sum(len(row) for row in rows) * VALUE_BYTES)

    def next_ns(self, now_ns: int) -> int:
        """When `due` may have something to say."""
        return max(now_ns, self._since_ns + self._wait_ns)

    def _settle(self, cost_bytes: int) -> None:
        if self._quota is not None and self._reserved:
            self._quota.settle(self._reserved, cost_bytes)
        self._reserved = 0


def snapshot_records(row: Any, received_ns: int, connection: int = 0) -> bytes:
    """The records of one of the SDK's `Snapshot`: what has no field, then the snapshot.

    Raises what its values raise: ValueError, KeyError for an exchange that nobody knows.
    """
    said: dict[str, Any] = row.dict()
    fields: dict[str, Any] = {}
    rest: dict[str, object] = {}
    for name, value in said.items():
        if name in _IN_HEADER or value is None:
            continue
        number = Decimal(str(value)) if isinstance(value, float) else value
        found = fixed(FIELDS[name], number) if name in FIELDS else None
        if found is None:
            rest[name] = value if isinstance(value, int | float | str | bool) else str(getattr(value, "value", value))
        else:
            fields[FIELDS[name]] = found
    exchange = str(getattr(said["exchange"], "value", said["exchange"]))
    header: dict[str, Any] = {
        "broker_class": BrokerClass.SNAPSHOT,
        "lane": Lane.BOARD,
        "exchange": Exchange[exchange],
        "flags": Flag.HAS_SIDE if rest else 0,
        "exchange_ns": int(said["ts"]) - TAIPEI_OFFSET_NS,
        "received_ns": received_ns,
        "code": said["code"],
        "connection": connection,
    }
    return b"".join((*side_records(rest, header), encode(Trade(kind=Kind.SNAPSHOT, **header, **fields))))


def to_snapshot_dict(event: Trade) -> dict[str, object]:
    """What the broker said, numerically equal; what it said nothing of is not there."""
    assert event.kind == Kind.SNAPSHOT
    said: dict[str, object] = {
        "code": event.code, "exchange": Exchange(event.exchange).name, "ts": event.exchange_ns + TAIPEI_OFFSET_NS,
    }  # fmt: skip
    for theirs, ours in FIELDS.items():
        value = getattr(event, ours)
        if ours.endswith("_e6"):
            if value != ABSENT_I64:
                said[theirs] = float(Decimal(value).scaleb(-6))
        elif value != ABSENT_U32:
            said[theirs] = value
    return said | rest_of(event)
