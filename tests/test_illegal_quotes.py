"""Quotes no exchange would send: each is recorded as the SDK reads it or quarantined, and the next one is recorded."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_publisher import Log, attributes
from wire import Wire, pack
from wire_quotes import ILLEGAL, READ, SLOTS, wires

from shijim_live.events import ABSENT_I64, Book, BrokerClass, Flag, Kind, Status, Trade, to_broker_dict

# On text that is no UTF-8 the SDK leaves Python's own error behind before it panics.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PLAIN: dict[str, Wire] = {
    "c": "TXFD6", "d": "2026/04/09", "t": "09:00:00.123456", "p": "34000.5", "u": 3, "k": 1, "i": -51, "b": False,
    "P": ["5", "4", "3", "2", "1"], "U": [1, 2, 3, 4, 5], "I": [1, -2, 3, -4, 5],
}  # fmt: skip
EVERY = list(SLOTS)


def plain(broker_class: BrokerClass) -> list[Wire]:
    return [PLAIN[slot] for slot in SLOTS[broker_class]]


def read(broker_class: BrokerClass, message: bytes) -> object | None:
    """What the SDK makes of it; None where it refuses outright, so that nobody is called."""
    try:
        return READ[broker_class](message)
    except BaseException as error:  # noqa: BLE001 - a panic is no Exception
        assert type(error).__name__ in ("ShioajiValueError", "PanicException"), error
        return None


def shown(quote: object) -> dict[str, object] | None:
    """The object as the SDK shows it; None where it cannot be read, or is nothing a record can stand for."""
    try:
        found = attributes(quote)
    except BaseException as error:  # noqa: BLE001 - a panic is no Exception
        assert "Panic" in type(error).__name__, error
        return None
    code, wall = str(found["code"]), found["datetime"]
    # 2262 is where nanoseconds end in 64 bits.
    named = code.isascii() and "\0" not in code and 0 < len(code) <= 16
    return found if named and wall.year < 2262 else None  # type: ignore[attr-defined]


def check(folder: Path, messages: Iterable[tuple[BrokerClass, bytes]]) -> tuple[int, int]:
    """Publishes each object and a sound one behind it, and counts the recorded and the quarantined.

    The n-th is received at 2n, the sound one behind it at 2n + 1.
    """
    log = Log(folder)
    log.publisher.publish(READ[EVERY[0]](pack(plain(EVERY[0]))), 1)
    expected: dict[int, dict[str, object] | None] = {}
    for broker_class, message in messages:
        quote = read(broker_class, message)
        if quote is None:
            continue
        at = 2 * len(expected) + 2
        log.publisher.publish(quote, at)
        log.publisher.publish(READ[broker_class](pack(plain(broker_class))), at + 1)
        expected[at] = shown(quote)
    quarantined = log.publisher.counters()["quarantined"]
    events = [event for event in log.finish() if event.kind != Kind.GAP and getattr(event, "part", 0) == 0]
    assert [event.received_ns for event in events] == list(range(1, 2 * len(expected) + 2)), "the stream did not go on"
    for event, (at, wanted) in zip(events[1::2], expected.items(), strict=True):
        assert event.received_ns == at
        if wanted is None:
            assert event.kind == Kind.QUARANTINE, f"recorded though it cannot be read: {event}"
        else:
            assert_recorded(event, wanted)
    assert all(not isinstance(event, Status) for event in events[::2]), "a sound quote was quarantined"
    assert quarantined == list(expected.values()).count(None)
    return len(expected) - quarantined, quarantined


def assert_recorded(event: Trade | Book | Status, wanted: dict[str, object]) -> None:
    assert not isinstance(event, Status), f"{wanted} became {event}"
    assert to_broker_dict(event) == wanted
    made_up = str(wanted["date"]).startswith("2000-") or wanted.get("close") == 0
    assert bool(event.flags & Flag.SUSPECT) == made_up


@pytest.mark.parametrize("broker_class", EVERY, ids=lambda broker_class: broker_class.name)
@pytest.mark.parametrize("illegal", ILLEGAL)
def test_an_illegal_value_in_any_slot_costs_one_event_at_most(
    tmp_path: Path, broker_class: BrokerClass, illegal: str
) -> None:
    messages = []
    for at in range(len(SLOTS[broker_class])):
        wire = plain(broker_class)
        wire[at] = ILLEGAL[illegal]
        messages.append((broker_class, pack(wire)))
    check(tmp_path, messages)


def test_among_the_illegal_values_are_some_of_each_fate(tmp_path: Path) -> None:
    fates = set()
    for name in ("nil", "a small number", "empty text"):
        for at, _ in enumerate(SLOTS[BrokerClass.TICK_FOP_V1]):
            wire = plain(BrokerClass.TICK_FOP_V1)
            wire[at] = ILLEGAL[name]
            quote = read(BrokerClass.TICK_FOP_V1, pack(wire))
            fates.add("refused" if quote is None else "quarantined" if shown(quote) is None else "recorded")
    assert fates == {"refused", "quarantined", "recorded"}


@pytest.mark.parametrize("broker_class", EVERY, ids=lambda broker_class: broker_class.name)
def test_an_array_of_any_other_length_costs_one_event_at_most(tmp_path: Path, broker_class: BrokerClass) -> None:
    whole = plain(broker_class)
    arrays = [whole[:length] for length in range(len(whole))] + [whole + [7] * more for more in range(1, 40)]
    check(tmp_path, [(broker_class, pack(array)) for array in arrays])


@pytest.mark.parametrize("broker_class", EVERY, ids=lambda broker_class: broker_class.name)
def test_a_message_cut_or_continued_at_any_byte_costs_one_event_at_most(
    tmp_path: Path, broker_class: BrokerClass
) -> None:
    message = pack(plain(broker_class))
    cut = [message[:length] for length in range(len(message))]
    continued = [message + tail for tail in (b"\0", b"\xc1" * 9, message, b"\xff" * 70_000)]
    recorded, _ = check(tmp_path, [(broker_class, one) for one in cut + continued])
    assert recorded >= len(continued), "what follows a message is not of it"


@pytest.mark.parametrize("broker_class", EVERY, ids=lambda broker_class: broker_class.name)
def test_a_map_where_the_array_belongs_costs_one_event_at_most(tmp_path: Path, broker_class: BrokerClass) -> None:
    slots = [pack(slot) for slot in plain(broker_class)]
    named = b"".join(pack(f"field{number}") + slot for number, slot in enumerate(slots))
    numbered = b"".join(pack(number) + slot for number, slot in enumerate(slots))
    size = len(slots).to_bytes(2, "big")
    maps = [b"\xde" + size + named, b"\xde" + size + numbered, b"\x80", b"\xde\xff\xff", b"\xc0", b"\xa1x", b"\x07"]
    check(tmp_path, [(broker_class, one) for one in maps])


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[BrokerClass, bytes]:
    """A message with legal values, then any of: slots replaced, slots gone or added, bytes changed."""
    broker_class, wire = draw(wires())
    for _ in range(draw(st.integers(0, 3))):
        wire[draw(st.integers(0, len(wire) - 1))] = ILLEGAL[draw(st.sampled_from(list(ILLEGAL)))]
    if draw(st.booleans()):
        del wire[draw(st.integers(1, len(wire))) :]
    wire += [7] * draw(st.sampled_from([0, 0, 0, 1, 5]))
    message = bytearray(pack(wire))
    for at in draw(st.lists(st.integers(0, len(message) - 1), max_size=3)):
        message[at] = draw(st.integers(0, 255))
    return broker_class, bytes(message)


@given(st.lists(spoiled(), min_size=1, max_size=30))
def test_any_spoiled_messages_are_recorded_as_read_or_quarantined(messages: list[tuple[BrokerClass, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder), messages)


@given(st.lists(st.tuples(st.sampled_from(EVERY), st.binary(max_size=300)), min_size=1, max_size=30))
def test_any_bytes_at_all_are_recorded_as_read_or_quarantined(messages: list[tuple[BrokerClass, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder), messages)


def test_an_odd_lot_close_that_the_sdk_has_no_value_for_is_absent(tmp_path: Path) -> None:
    wire = plain(BrokerClass.TICK_STK_V1)
    for slot in (21, 22, 23, 24, 26):
        wire[slot] = ""
    quote = READ[BrokerClass.TICK_STK_V1](pack(wire))
    assert quote.closing_oddlot_close is None  # type: ignore[attr-defined]
    log = Log(tmp_path)
    log.publisher.publish(quote)
    [event] = log.finish()
    assert isinstance(event, Trade)
    assert (event.closing_oddlot_close_e6, event.fixed_trade_amount_e6) == (ABSENT_I64, ABSENT_I64)
    assert to_broker_dict(event) == attributes(quote)


def test_a_quote_class_that_is_not_recorded_is_quarantined_with_its_name(tmp_path: Path) -> None:
    wire = [*plain(BrokerClass.TICK_STK_V1)[:27], *(PLAIN[slot] for slot in "PUIPUIubb")]
    combined = sys.modules["shioaji"].QuoteSTKv1.from_msgpack(pack(wire))
    log = Log(tmp_path)
    log.publisher.publish(combined)
    log.publisher.publish(READ[BrokerClass.TICK_STK_V1](pack(plain(BrokerClass.TICK_STK_V1))))
    events = log.finish()
    assert [event.kind for event in events if getattr(event, "part", 0) == 0] == [Kind.QUARANTINE, Kind.TRADE]
    assert isinstance(events[0], Status) and events[0].text.startswith("QuoteSTKv1: not one of the broker's quote")


def test_a_panic_costs_no_stack_trace_whatever_the_environment_asks_for(tmp_path: Path) -> None:
    program = (
        "from wire_quotes import READ, SLOTS; from wire import pack; from test_illegal_quotes import plain\n"
        "broker_class = list(SLOTS)[1]; wire = plain(broker_class); wire[4] = 7\n"
        "try: READ[broker_class](pack(wire)).underlying_price\n"
        "except BaseException as error: print(type(error).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True,
                          check=True, env=os.environ | {"RUST_BACKTRACE": "1"}, timeout=60)  # fmt: skip
    assert done.stdout == "PanicException\n"
    assert "Invalid string marker" in done.stderr and "stack backtrace" not in done.stderr
