"""Order and deal events become our records whole, once, with what was missed; nothing is raised at the SDK."""

from __future__ import annotations

import ast
import random
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_illegal_quotes import plain as plain_wire
from wire import pack
from wire_quotes import READ

from shijim_live.broker.event_sequence import PATIENCE_NS, EventSequence, Gap, LateEvent, Place, Restarted, event_id
from shijim_live.broker.history import Row
from shijim_live.broker.order_events import (
    INBOX_EVENTS_MAX,
    Deal,
    Operation,
    OrderEvents,
    OrderReport,
    Quarantined,
    Stamp,
    State,
    event_time,
)
from shijim_live.broker.orders import NO_PRICE_E6, Ids, Side
from shijim_live.broker.plain import NotPlain, exact_e6, plain, rounded_e6, seconds_ns
from shijim_live.broker.shioaji import quote_classes
from shijim_live.broker.simulated_order_faults import BROKEN_WAYS, broken
from shijim_live.broker.simulated_reports import Event, SimulatedOrder, deal_event, order_event
from shijim_live.calendar import SECOND_NS, Market, session_bounds
from shijim_live.events import BrokerClass

DAY = date(2026, 11, 20)
NOW_NS = session_bounds(DAY, Market.STOCK)[0].open_ns + 3_600 * SECOND_NS + 123_456_000
STUB = Path((find_spec("shioaji") or sys.modules["shioaji"].__spec__).submodule_search_locations[0]) / "_core.pyi"  # type: ignore[union-attr, index]
ORDERS = {
    "S": SimulatedOrder(
        number=0, id="a1b2c3d4", seqno="000001", ordno="S0001", kind="S", code="2330", side="Buy",
        price_e6=1_460_000_000, quantity=3, price_type="LMT", time_in_force="ROD", lot="Common", condition="Cash",
        open_close="", custom_field="chase", placed_ns=NOW_NS,
    ),
    "F": SimulatedOrder(
        number=1, id="f1f2f3f4", seqno="000002", ordno="S0002", kind="F", code="TXFL6", side="Sell",
        price_e6=NO_PRICE_E6, quantity=2, price_type="MKT", time_in_force="IOC", lot="", condition="",
        open_close="Auto", custom_field="", placed_ns=NOW_NS,
    ),
}  # fmt: skip


def new(kind: str = "S", number: int = 1, **changes: Any) -> Event:
    """A New event; `changes` of the order."""
    return order_event(
        replace(ORDERS[kind], **changes), _id("order", number), ("New", "00", ""), NOW_NS, NO_PRICE_E6, 0
    )


def deal(kind: str = "S", number: int = 1, sequence: str = "00000001", quantity: int = 2) -> Event:
    return deal_event(ORDERS[kind], _id("deal", number), sequence, 1_455_500_000, quantity, NOW_NS, 1)


def _id(stream: str, number: int) -> str:
    return f"v1:FO:{stream}:1:{number}"


def state_of(event: Event) -> State:
    stock = "order_cond" in event or ("order" in event and "order_cond" in event["order"])
    if "trade_id" in event:
        return State.STOCK_DEAL if stock else State.FUTURES_DEAL
    return State.STOCK_ORDER if stock else State.FUTURES_ORDER


class Clock:
    def __init__(self) -> None:
        self.ns = NOW_NS + 20_000_000

    def __call__(self) -> int:
        return self.ns


def taken(*events: object) -> tuple[list[Any], OrderEvents]:
    clock = Clock()
    inbox = OrderEvents(clock)
    for event in events:
        inbox.received(state_of(event) if isinstance(event, Event) else "SORDER", event)
    return inbox.drain(), inbox


# The look-alikes are what the SDK's stub says


def typed_dict(name: str) -> dict[str, str]:
    """Keys of a TypedDict of the stub, and what they hold."""
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            found = [line for line in node.body if isinstance(line, ast.AnnAssign)]
            return {ast.unparse(line.target): ast.unparse(line.annotation) for line in found}
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("StockOrderEvent", new("S")),
        ("FuturesOrderEvent", new("F")),
        ("StockDealEvent", deal("S")),
        ("FuturesDealEvent", deal("F")),
    ],
)
def test_an_event_has_every_key_of_the_stub_at_every_depth_and_no_other(name: str, event: Event) -> None:
    compared = list(differing(name, event))
    assert compared and set(compared) == {None}


def differing(name: str, value: Any) -> Iterator[str | None]:
    wanted = typed_dict(name)
    yield None if set(value.keys()) == set(wanted) else f"{name}: {set(value.keys()) ^ set(wanted)}"
    for key, kind in wanted.items():
        if kind.endswith("Dict"):
            yield from differing(kind, value[key])
        elif kind in ("str", "int", "float", "bool"):
            yield None if type(value[key]).__name__ == kind else f"{name}.{key}: {value[key]!r}"
        elif kind.startswith("Literal"):
            yield None if value[key] in ast.literal_eval(kind[7:]) else f"{name}.{key}: {value[key]!r}"


def test_an_event_reads_like_the_sdks_and_is_neither_a_dict_nor_writable() -> None:
    quote_classes()
    theirs = sys.modules["shioaji"].OrderEventDict
    for method in ("get", "keys", "values", "items", "__contains__", "__len__", "__iter__", "__getitem__"):
        assert hasattr(theirs, method) and hasattr(Event, method)
    event = new()
    assert not isinstance(event, dict) and list(event) == event.keys()
    with pytest.raises(TypeError):
        list(event["order"])
    with pytest.raises(AttributeError):
        event.order = None


# One event, whole


def test_a_stock_order_is_read_whole() -> None:
    ((report,), _) = taken(new())
    assert isinstance(report, OrderReport)
    assert (report.state, report.operation, report.op_code, report.done) == ("SORDER", Operation.NEW, "00", True)
    assert report.ids == Ids("a1b2c3d4", "000001", "S0001")
    assert (report.code, report.side, report.price_e6, report.quantity) == ("2330", Side.BUY, 1_460_000_000, 3)
    assert (report.price_kind, report.time_in_force, report.lot) == ("LMT", "ROD", "Common")
    assert (report.condition, report.custom_field, report.account_id) == ("Cash", "chase", "0000001")
    assert (report.exchange_ns, report.stamp, report.received_ns) == (NOW_NS, Stamp.EPOCH, NOW_NS + 20_000_000)
    assert (report.modified_price_e6, report.cancelled, report.event_id) == (NO_PRICE_E6, 0, "v1:FO:order:1:1")


def test_a_market_order_of_a_future_has_no_price_and_its_dated_code() -> None:
    ((report,), _) = taken(new("F"))
    assert (report.code, report.price_e6, report.open_close) == ("TXFL6", NO_PRICE_E6, "Auto")
    assert (report.lot, report.condition, report.custom_field) == ("", "", "")


@pytest.mark.parametrize(("kind", "code", "side"), [("S", "2330", "Buy"), ("F", "TXFL6", "Sell")])
def test_a_deal_is_read_whole(kind: str, code: str, side: str) -> None:
    ((found,), _) = taken(deal(kind))
    assert isinstance(found, Deal)
    assert (found.trade_id, found.exchange_seq) == (ORDERS[kind].id, "00000001")
    assert (found.code, found.side, found.price_e6, found.quantity) == (code, side, 1_455_500_000, 2)
    assert found.ordno == ORDERS[kind].ordno + "001" and found.exchange_ns == NOW_NS


@pytest.mark.parametrize("event", [new("S"), new("F"), deal("S"), deal("F")])
def test_nothing_of_an_event_is_lost(event: Event) -> None:
    ((record,), _) = taken(event)

    def copied(value: Any) -> Any:
        return {name: copied(value[name]) for name in value.keys()} if isinstance(value, Row) else value  # noqa: SIM118

    assert orjson.loads(record.raw) == copied(event)


def test_a_record_does_not_show_the_person_when_it_is_printed() -> None:
    ((record,), _) = taken(new())
    assert "A123456789" in record.raw and "A123456789" not in repr(record)


def test_the_sdks_own_objects_become_plain() -> None:
    quote_classes()
    sdk = sys.modules["shioaji"]
    order = sdk.StockOrder("Buy", 10.05, 1, "LMT", "ROD", order_lot="IntradayOdd", account=sdk.Account())
    assert plain(order)["order_lot"] == "IntradayOdd" and plain(order)["price"] == 10.05
    assert plain(sdk.BaseContract("FUT", "TAIFEX", "TXFL6"))["code"] == "TXFL6"
    legs = [sdk.ComboBase.from_contract(sdk.BaseContract("FUT", "TAIFEX", code), sdk.Action.Buy) for code in ("A", "B")]
    assert [leg["code"] for leg in plain(sdk.ComboContract(legs))["legs"]] == ["A", "B"]
    assert plain(sdk.OrderState.StockDeal) == "SDEAL"
    with pytest.raises(NotPlain, match="object is in it"):
        plain({"inner": object()})


def test_an_object_that_holds_itself_ends() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(NotPlain, match="deeper"):
        plain(endless)


# Numbers and times


@given(st.integers(1, 10**11), st.sampled_from((1, 10, 100, 10_000)))
def test_a_price_with_its_decimals_survives_the_float(units: int, step: int) -> None:
    price_e6 = units * step
    assert exact_e6(price_e6 / 1_000_000) == price_e6 or price_e6 > 2**53


@pytest.mark.parametrize("value", ["1.5", None, float("nan"), float("inf"), True, 1e13, [], 0.1234567])
def test_what_is_no_price_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"no number|decimals"):
        exact_e6(value)


def test_an_average_is_rounded_to_the_nearest_millionth() -> None:
    assert rounded_e6(100 / 3) == 33_333_333 and rounded_e6(-200 / 3) == -66_666_667


def test_seconds_keep_their_microseconds() -> None:
    assert seconds_ns(1_700_000_000.123456) == 1_700_000_000_123_456_000
    with pytest.raises(ValueError, match="no time"):
        seconds_ns(-1.0)


# 1764731566: 2025-12-03 03:12:46 UTC, the broker's own sample of a night order; as an epoch 11:12 in Taipei.
NIGHT_SAMPLE, DAY_SAMPLE = 1_764_731_566, 1_625_729_890
EIGHT_HOURS = 8 * 3_600


@pytest.mark.parametrize(
    ("seconds", "state", "market", "received", "expected", "stamp"),
    [
        (NIGHT_SAMPLE, "FORDER", "Night", NIGHT_SAMPLE - EIGHT_HOURS + 1, NIGHT_SAMPLE - EIGHT_HOURS, Stamp.WALL),
        # Told a day later: nothing but the session says it.
        (NIGHT_SAMPLE, "FDEAL", "Night", NIGHT_SAMPLE + 86_400, NIGHT_SAMPLE - EIGHT_HOURS, Stamp.WALL),
        # Without a session, only that it would be later than its arrival.
        (NIGHT_SAMPLE, "FDEAL", "", NIGHT_SAMPLE - EIGHT_HOURS + 1, NIGHT_SAMPLE - EIGHT_HOURS, Stamp.WALL),
        (DAY_SAMPLE, "FORDER", "Night", DAY_SAMPLE + 1, DAY_SAMPLE, Stamp.EPOCH),  # 15:38 in Taipei
        (DAY_SAMPLE, "FDEAL", "", DAY_SAMPLE + 1, DAY_SAMPLE, Stamp.EPOCH),
        # A stock is never the wall clock, and a clock that is a little ahead is no proof.
        (NIGHT_SAMPLE, "SDEAL", "", NIGHT_SAMPLE - EIGHT_HOURS, NIGHT_SAMPLE, Stamp.EPOCH),
        (NIGHT_SAMPLE, "FDEAL", "Day", NIGHT_SAMPLE - 30, NIGHT_SAMPLE, Stamp.EPOCH),
    ],
)
def test_the_time_of_a_future_is_read_by_the_rule(
    seconds: int, state: str, market: str, received: int, expected: int, stamp: Stamp
) -> None:
    found = event_time(float(seconds), State(state), market, received * SECOND_NS)
    assert found == (expected * SECOND_NS, stamp)


@pytest.mark.parametrize(("state", "other"), [(State.FUTURES_DEAL, "FORDER"), (State.FUTURES_ORDER, "FDEAL")])
def test_a_stream_once_read_as_the_wall_clock_is_read_so_where_the_stamp_alone_says_nothing(
    state: State, other: str
) -> None:
    clock = Clock()
    inbox = OrderEvents(clock)
    true_ns = int(datetime(2026, 11, 18, 12, 0, tzinfo=UTC).timestamp()) * SECOND_NS  # 20:00 in Taipei, at night
    wall_ns = true_ns + EIGHT_HOURS * SECOND_NS

    def stamped(of: State, number: int, at_ns: int, market: str) -> Any:
        clock.ns = at_ns
        if of is State.FUTURES_DEAL:
            event = deal_event(ORDERS["F"], _id("deal", number), f"{number:08}", 27_300_000_000, 1, wall_ns, 1)
            said = event.dict() | {"market_type": market}
        else:
            event = order_event(ORDERS["F"], _id("order", number), ("New", "00", ""), wall_ns, NO_PRICE_E6, 0)
            said = event.dict() | {"order": Row(**(event["order"].dict() | {"market_type": market}))}
        inbox.received(of, Event(**said))
        (record,) = inbox.drain()
        return record

    morning_ns = true_ns + 13 * 3_600 * SECOND_NS
    assert stamped(state, 1, morning_ns, "Night").stamp is Stamp.EPOCH, "nothing was known of the stream"
    assert stamped(state, 2, true_ns + SECOND_NS, "Night").stamp is Stamp.WALL
    recalled = stamped(state, 3, morning_ns, "Night")
    assert (recalled.exchange_ns, recalled.stamp) == (true_ns, Stamp.WALL)
    assert stamped(State(other), 4, morning_ns, "Night").stamp is Stamp.EPOCH, "the other stream has a word of its own"


def test_a_session_that_only_one_reading_fits_outranks_how_the_stream_was_read_and_our_own_slow_clock() -> None:
    for doubtful, received in ((Stamp.WALL, DAY_SAMPLE + 86_400), (Stamp.EPOCH, DAY_SAMPLE - 120)):
        found = event_time(float(DAY_SAMPLE), State.FUTURES_DEAL, "Night", received * SECOND_NS, doubtful)
        assert found == (DAY_SAMPLE * SECOND_NS, Stamp.EPOCH)  # 15:38 in Taipei; 07:38 is no night


# What cannot be read


@pytest.mark.parametrize("way", range(BROKEN_WAYS))
@pytest.mark.parametrize("event", [new("S"), new("F"), deal("S"), deal("F")])
def test_a_broken_event_is_kept_and_counted_and_the_next_one_is_read(event: Event, way: int) -> None:
    clock = Clock()
    inbox = OrderEvents(clock)
    inbox.received(state_of(event), broken(event, way))
    inbox.received(State.STOCK_DEAL, deal(number=9, sequence="9"))
    first, second = inbox.drain()
    assert isinstance(first, Quarantined) and first.reason and first.text
    assert first.event_id == ("" if way == 0 else event.event_id)
    assert isinstance(second, Deal) and inbox.counts.quarantined == 1


@pytest.mark.parametrize(
    ("state", "event"),
    [("SORDER", None), ("SORDER", 7), ("?", {}), ("SDEAL", {}), (None, {}), ("SDEAL", [1]), (object(), object())],
)
def test_whatever_comes_is_never_raised_into_the_sdks_thread(state: object, event: object) -> None:
    inbox = OrderEvents()
    inbox.received(state, event)
    (found,) = inbox.drain()
    assert isinstance(found, Quarantined)


def test_a_panic_of_the_sdk_itself_is_kept_too() -> None:
    wire = plain_wire(BrokerClass.TICK_FOP_V1)
    wire[4] = 7  # a number where a price's text belongs
    (kept, whole), _ = taken_with(READ[BrokerClass.TICK_FOP_V1](pack(wire)), deal())
    assert isinstance(kept, Quarantined) and kept.reason.startswith("PanicException")
    assert isinstance(whole, Deal)


def test_a_broken_event_that_comes_again_whole_is_read() -> None:
    for whole in (new(), deal()):
        (first, second), _ = taken_with(broken(whole, 1), whole)
        assert isinstance(first, Quarantined) and second.event_id == whole.event_id


def taken_with(*events: object) -> tuple[list[Any], OrderEvents]:
    inbox = OrderEvents(Clock())
    for event in events:
        inbox.received(state_of(events[-1]), event)  # type: ignore[arg-type]
    return inbox.drain(), inbox


def test_an_inbox_that_nobody_drains_says_how_many_it_dropped_and_when_the_stream_goes_on_which() -> None:
    clock = Clock()
    inbox = OrderEvents(clock)
    event = deal()
    for _ in range(INBOX_EVENTS_MAX):
        inbox.received(State.STOCK_DEAL, event)
    inbox.received(State.STOCK_DEAL, deal(number=2, sequence="2"))
    inbox.received(State.STOCK_DEAL, deal(number=3, sequence="3"))
    first, dropped = inbox.drain()
    assert isinstance(first, Deal) and isinstance(dropped, Quarantined)
    assert dropped.reason.startswith("2 events dropped") and dropped.received_ns == clock.ns
    assert inbox.drain() == [], "said once"
    assert (inbox.counts.overrun, inbox.counts.quarantined) == (2, 0)
    inbox.received(State.STOCK_DEAL, deal(number=4, sequence="4"))
    assert len(inbox.drain()) == 1
    clock.ns += PATIENCE_NS
    assert inbox.drain() == [Gap("FO:deal", "1", 2, 3)]


def test_events_of_many_threads_are_all_taken_and_each_once() -> None:
    inbox = OrderEvents(Clock())
    events = [deal(number=number, sequence=f"{number:08}") for number in range(1, 401)]

    def push(turn: int) -> None:
        for event in events[turn::2] + events[::7]:
            inbox.received(State.STOCK_DEAL, event)

    threads = [threading.Thread(target=push, args=(turn,)) for turn in (0, 1)]
    for thread in threads:
        thread.start()
    found: list[Any] = []
    while any(thread.is_alive() for thread in threads):
        found += inbox.drain()
    found += inbox.drain()
    assert sorted(place.number for record in found if (place := event_id(record.event_id))) == list(range(1, 401))
    assert inbox.counts.received == 400 + 2 * len(events[::7])


# Once


def test_a_deal_counts_once_under_its_own_id_another_id_or_none() -> None:
    again = Event(**(deal().dict() | {"event_id": ""}))
    records, inbox = taken(deal(), deal(), deal(number=2), again)
    assert [record.event_id for record in records] == ["v1:FO:deal:1:1"]
    assert (inbox.counts.repeated, inbox.counts.deals_repeated) == (1, 2)


def test_the_same_deal_with_other_figures_is_no_repetition_but_a_question() -> None:
    records, _ = taken(deal(), deal(number=2, quantity=1))
    assert isinstance(records[1], Quarantined) and "other figures" in records[1].reason


def test_two_deals_of_one_order_are_two_and_so_is_one_sequence_of_two_orders() -> None:
    other = Event(**(deal(number=3).dict() | {"trade_id": "another"}))
    records, _ = taken(deal(), deal(number=2, sequence="00000002"), other)
    assert len(records) == 3 and all(isinstance(record, Deal) for record in records)


def test_an_id_used_again_for_another_order_event_is_quarantined_and_for_another_deal_is_a_deal() -> None:
    records, _ = taken(new(), new(quantity=4), deal(), deal(sequence="00000002"))
    assert [type(record) for record in records] == [OrderReport, Quarantined, Deal, Deal]


def test_events_without_a_usable_id_are_read_and_counted_as_untracked() -> None:
    ids = ("", "v2:whatever", "v1:FO:a:b")
    odd = [Event(**(new(quantity=lots).dict() | {"event_id": id_})) for lots, id_ in enumerate(ids, 1)]
    records, inbox = taken(*odd)
    assert len(records) == 3 and inbox.counts.untracked == 3
    assert event_id("v1:FO:a:b:7") is not None


def test_what_the_broker_recalls_without_ids_is_known_already() -> None:
    without = [Event(**(event.dict() | {"event_id": ""})) for event in (new(), deal())]
    records, inbox = taken(new(), deal(), *without, *without)
    assert len(records) == 2 and (inbox.counts.repeated, inbox.counts.deals_repeated) == (2, 2)


def test_a_report_recalled_without_its_id_and_then_late_with_it_counts_once_and_twins_count_twice() -> None:
    def fewer(number: int) -> Event:
        id_ = _id("order", number) if number else ""
        return order_event(ORDERS["S"], id_, ("UpdateQty", "00", ""), NOW_NS, NO_PRICE_E6, 1)

    for events, ids in (
        ((0, 7), [0]),
        ((7, 0), [7]),
        ((0, 7, 0, 7), [0]),
        ((0, 7, 8), [0, 8]),  # two alike, as quantity can be taken away twice at once
        ((0, 0, 7, 8), [0, 8]),
        ((7, 0, 8), [7, 8]),
    ):
        records, inbox = taken(*(fewer(number) for number in events))
        assert [record.event_id for record in records] == [fewer(number).event_id for number in ids], events
        assert inbox.counts.repeated == len(events) - len(ids)


def test_a_report_that_was_broken_under_its_id_and_recalled_without_it_counts_once() -> None:
    without = Event(**(new().dict() | {"event_id": ""}))
    records, _ = taken_with(broken(new(), 1), without, new())
    assert [type(record) for record in records] == [Quarantined, OrderReport]


# The sequence


def test_a_gap_is_told_after_a_second_and_a_half_and_once() -> None:
    sequence = EventSequence()
    sequence.take("v1:FO:s:1:5", 0)
    sequence.take("v1:FO:s:1:9", 10)
    assert sequence.overdue(PATIENCE_NS) == []
    assert sequence.missing() == [Gap("FO:s", "1", 6, 8)]
    assert sequence.overdue(PATIENCE_NS + 10) == [Gap("FO:s", "1", 6, 8)]
    assert sequence.overdue(10 * PATIENCE_NS) == []


def test_what_comes_in_time_is_no_gap_and_what_comes_later_is_said_to_be_late() -> None:
    sequence = EventSequence()
    for number, at_ns in ((1, 0), (4, 10), (2, 20)):
        assert sequence.take(f"v1:FO:s:1:{number}", at_ns) is Place.NEW
    assert sequence.overdue(PATIENCE_NS + 10) == [Gap("FO:s", "1", 3, 3)]
    assert sequence.take("v1:FO:s:1:3", 2 * PATIENCE_NS) is Place.NEW
    assert sequence.take("v1:FO:s:1:3", 2 * PATIENCE_NS) is Place.REPEATED
    assert sequence.overdue(2 * PATIENCE_NS) == [LateEvent("FO:s", "1", 3)] and sequence.missing() == []


def test_streams_are_apart_and_a_stream_that_counts_anew_says_so() -> None:
    sequence = EventSequence()
    for text in ("v1:FO:order:1:7", "v1:FO:deal:1:1", "v1:FO:order:1:8", "v1:FO:deal:1:2", "v1:FO:order:2:1"):
        assert sequence.take(text, 0) is Place.NEW
    assert sequence.overdue(PATIENCE_NS) == [Restarted("FO:order", "1", "2")]


@given(st.integers(0, 2**32), st.integers(2, 60))
def test_every_number_that_never_came_is_told_and_no_other(seed: int, count: int) -> None:
    draw = random.Random(seed)
    lost = {number for number in range(2, count) if draw.random() < 0.2}
    arrivals = [(number * 50_000_000 + draw.randrange(PATIENCE_NS // 2), number) for number in range(1, count + 1)]
    arrivals = [(0, number) if number == 1 else (at_ns, number) for at_ns, number in arrivals if number not in lost]
    arrivals += draw.sample(arrivals, len(arrivals) // 3)
    sequence, told, new_ones = EventSequence(), [], []
    for at_ns, number in sorted(arrivals):
        if sequence.take(f"v1:FO:s:1:{number}", at_ns) is Place.NEW:
            new_ones.append(number)
        told += sequence.overdue(at_ns)
    told += sequence.overdue(10**18)
    assert sorted(new_ones) == [number for number in range(1, count + 1) if number not in lost]
    gaps = [number for gap in told if isinstance(gap, Gap) for number in range(gap.first, gap.last + 1)]
    assert sorted(gaps) == sorted(lost) and len(told) == len([gap for gap in told if isinstance(gap, Gap)])
