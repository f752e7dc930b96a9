"""What a feed may do to a recording: the one thing it is handed. Not the recording (`recorder.py`) and not a feed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from functools import partial

from rust_indicators import Publisher
from shijim_live.broker.connection import Connection, Subscription
from shijim_live.broker.index_quotes import index_records
from shijim_live.events import HEADER_LAYOUT, RECORD_BYTES, Kind, offsets

QUARANTINE_CHARACTERS_MAX = 8_000  # of an index that cannot be read; the publisher's own limit for the others
SPACE_TRY_SECONDS = 0.2  # between two attempts of a feed that can wait for space
LOST = "broker connection lost"  # text of an OUTAGE without a better one
REMARK = 2  # value of a CONNECTION event that is no change of it


class Sink:
    """What a feed may do: hand over quotes, decoded records, and changes of its connection."""

    def __init__(
        self,
        publisher: Publisher,
        down_since_ns: int | None = None,
        codes: Collection[str] | None = None,
        give_up: threading.Event | None = None,
        number: int = 0,
    ) -> None:
        """`down_since_ns`: since when nothing may have been delivered, if the first word is that we are connected.

        `codes`: only what is of these goes on to the log. `give_up`: what there is no space for is tried again until
        this is set. `number`: the connection that all of this comes from, 0 for a feed without connections.
        """
        self._made_of = (publisher, down_since_ns, codes, give_up)
        publish: Callable[..., int] = partial(publisher.publish, connection=number) if number else publisher.publish
        self.quote: Callable[[object, int], object] = publish
        self.records: Callable[[bytes], object] = publisher.publish_records
        self._status: Callable[..., object] = partial(publisher.publish_status, connection=number)
        self._number = number
        if give_up is not None:
            self.quote = _until_taken(publish, give_up)
            self.records = _until_all_taken(publisher.publish_records, give_up)
            self._status = _until_taken(partial(publisher.publish_status, connection=number), give_up)
        self._index = self.records  # an index is none of the universe's codes
        if codes is not None:
            self.quote = _quotes_of(frozenset(codes), self.quote)
            self.records = _records_of(frozenset(codes), self.records)
        self._down_since_ns = down_since_ns
        self._down_text = LOST

    def of(self, number: int) -> Sink:
        """The same recording for one connection of several, from 1: its quotes, its words and its holes bear it."""
        return Sink(*self._made_of, number=number)

    def index(self, delivered: object, received_ns: int) -> None:
        """An index push of the broker, which has a callback of its own. One that cannot be read is quarantined."""
        try:
            records = index_records(delivered, received_ns, self._number)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a broker object may panic, and costs one event
            text = f"{type(delivered).__name__}: {error}"[:QUARANTINE_CHARACTERS_MAX]
            self._status(Kind.QUARANTINE, received_ns, text=text)
            return
        self._index(records)

    def connection(self, change: Connection, received_ns: int, text: str = "", since_ns: int | None = None) -> None:
        """A hole we know about is a fact: it is written when it begins, and sized when it ends.

        The outage comes before the connection that ended it: whoever dies between the two has told of the hole.
        `since_ns`: when a lost connection may have delivered last, if that was before it was noticed.
        """
        if change is Connection.UP:
            self.outage(received_ns)
        self._status(Kind.CONNECTION, received_ns, value=change is Connection.UP, text=text or change.value)
        if change is Connection.DOWN and self._down_since_ns is None:
            self._down_since_ns = received_ns if since_ns is None else since_ns
            self._down_text = text or LOST

    def outage(self, received_ns: int) -> None:
        """The hole so far, if there is one: it is over, or nobody will see its end."""
        if self._down_since_ns is not None:
            begin_ns, text = self._down_since_ns, self._down_text
            self._down_since_ns, self._down_text = None, LOST
            self._status(Kind.OUTAGE, received_ns, begin_ns=begin_ns, end_ns=received_ns, text=text)

    def subscription(self, said: Subscription, received_ns: int, text: str) -> None:
        """What the broker said of a topic; `text` begins with the topic."""
        self._status(Kind.SUBSCRIPTION, received_ns, value=int(said), text=text)

    def remark(self, received_ns: int, text: str) -> None:
        """What the broker said of the connection that changes nothing."""
        self._status(Kind.CONNECTION, received_ns, value=REMARK, text=text)


def _until_taken(publish: Callable[..., int], give_up: threading.Event) -> Callable[..., object]:
    def again(*what: object, **more: object) -> None:
        while not publish(*what, **more) and not give_up.wait(SPACE_TRY_SECONDS):
            pass

    return again


def _until_all_taken(publish: Callable[[bytes], int], give_up: threading.Event) -> Callable[[bytes], object]:
    def again(delivered: bytes) -> None:
        while rest := delivered[publish(delivered) * RECORD_BYTES :]:
            delivered = rest
            if give_up.wait(SPACE_TRY_SECONDS):
                return

    return again


def _quotes_of(codes: frozenset[str], publish: Callable[[object, int], object]) -> Callable[[object, int], object]:
    def quote(delivered: object, received_ns: int) -> None:
        try:
            wanted = delivered.code in codes  # type: ignore[attr-defined]
        except BaseException:  # noqa: BLE001 - a broker object may panic; the publisher quarantines it
            wanted = True
        if wanted:
            publish(delivered, received_ns)

    return quote


_CODE_AT, _CODE_BYTES = offsets(HEADER_LAYOUT)["code"]


def _records_of(codes: frozenset[str], publish: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Side records carry their event's code; a record without one is of the feed itself."""
    padded = {code.encode().ljust(_CODE_BYTES, b"\0") for code in ("", *codes)}
    place = slice(_CODE_AT, _CODE_AT + _CODE_BYTES)

    def records(delivered: bytes) -> None:
        rows = (delivered[at : at + RECORD_BYTES] for at in range(0, len(delivered), RECORD_BYTES))
        if wanted := b"".join(row for row in rows if row[place] in padded):
            publish(wanted)

    return records
