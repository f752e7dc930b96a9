"""Which of many codes get trades and books, trades, or nothing of the broker's topics, and on which connection."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shijim_live.broker.capacity import CONNECTIONS_RECORDING, Depth, Plan, PlanRefused, Wish, plan_capacity
from shijim_live.broker.gateway import Feed, Topic
from shijim_live.calendar import Market
from shijim_live.instruments import UnknownInstrument, concrete_code, expiry, instrument

DAY = date(2026, 4, 9)


def stocks(count: int, load: int = 100) -> list[Wish]:
    return [Wish(f"{1101 + number}", load + count - number) for number in range(count)]


def counts(plan: Plan) -> dict[str, int]:
    return {str(depth): sum(place.depth is depth for place in plan.places) for depth in Depth}


def depth_of(plan: Plan) -> dict[str, Depth]:
    return {place.code: place.depth for place in plan.places}


def test_a_few_codes_get_everything() -> None:
    plan = plan_capacity([Wish("2330"), Wish("TXFD6")], DAY)
    assert counts(plan) == {"trades and books": 2, "trades": 0, "index": 1, "nothing": 0}
    assert all(place.reason == "" for place in plan.places)
    tsmc = next(place for place in plan.places if place.code == "2330")
    assert tsmc.topics() == (Topic("2330", Feed.TICK), Topic("2330", Feed.BOOK))
    assert plan.places[0].topics() == (Topic("IX0001", Feed.QUOTE),)


@pytest.mark.parametrize(
    ("codes", "books", "trades", "nothing"),
    [(299, 299, 0, 0), (300, 299, 1, 0), (400, 199, 201, 0), (449, 150, 299, 0), (450, 149, 301, 0),
     (500, 149, 301, 50), (1_200, 149, 301, 750)],
)  # fmt: skip
def test_the_first_get_books_and_nobody_goes_without_trades_for_the_others_books(
    codes: int, books: int, trades: int, nothing: int
) -> None:
    plan = plan_capacity(stocks(codes), DAY)
    assert counts(plan) == {"trades and books": books, "trades": trades, "index": 1, "nothing": nothing}
    depths = [place.depth for place in plan.places if place.depth is not Depth.INDEX]
    assert depths == sorted(depths, key=[Depth.BOOKS, Depth.TRADES, Depth.NOTHING].index), "by rank"
    assert all(bool(place.reason) == (place.depth in (Depth.TRADES, Depth.NOTHING)) for place in plan.places)
    used = sum(len(plan.topics(number)) for number in range(3))
    assert used == min(600, 2 * codes + 1)


def test_how_many_have_books_for_certain_can_be_said() -> None:
    assert counts(plan_capacity(stocks(1_200), DAY, books_min=0, indices=()))["trades"] == 600
    assert counts(plan_capacity(stocks(1_200), DAY, books_min=1_200, indices=()))["trades and books"] == 300


def test_futures_and_stocks_are_kept_apart_and_the_load_is_spread() -> None:
    wishes = [Wish("TXFD6", 900), Wish("MXFD6", 300), Wish("TMFD6", 200), *stocks(100)]
    plan = plan_capacity(wishes, DAY)
    markets: dict[int, set[Market]] = {}
    load = [0, 0, 0]
    for place in plan.places[1:]:
        assert place.connection is not None
        markets.setdefault(place.connection, set()).add(instrument(place.code).market)
        load[place.connection] += place.load
    assert sorted(len(held) for held in markets.values()) == [1, 1, 1]
    of_stocks = [load[number] for number, held in markets.items() if held == {Market.STOCK}]
    assert len(of_stocks) == 2 and max(of_stocks) - min(of_stocks) <= 200
    assert plan.notes == ()
    one = plan_capacity(wishes, DAY, 1)
    assert one.notes == ("futures and stocks share connections: 1 are not enough to keep them apart",)


def test_a_continuous_code_is_mapped_to_the_contract_and_what_was_asked_for_is_kept() -> None:
    plan = plan_capacity([Wish("TXFR1"), Wish("TXFR2"), Wish("TXFD6"), Wish("2330")], DAY)
    assert [place.code for place in plan.places] == ["IX0001", "TXFD6", "TXFE6", "2330"]
    asked = {place.code: place.asked for place in plan.places if place.code != place.asked}
    assert asked == {"TXFD6": "TXFR1", "TXFE6": "TXFR2"}
    assert plan.notes == ("TXFD6 is TXFD6, which is asked for already as TXFR1",)


@pytest.mark.parametrize(
    ("day", "near", "following"),
    [("2026-04-09", "TXFD6", "TXFE6"), ("2026-04-15", "TXFD6", "TXFE6"), ("2026-04-16", "TXFE6", "TXFF6"),
     ("2026-11-20", "TXFL6", "TXFA7"), ("2026-12-17", "TXFA7", "TXFB7"), ("2029-12-31", "TXFA0", "TXFB0")],
)  # fmt: skip
def test_the_near_month_is_near_through_its_last_day(day: str, near: str, following: str) -> None:
    at = date.fromisoformat(day)
    assert (concrete_code("TXFR1", at), concrete_code("TXFR2", at)) == (near, following)
    assert expiry(near, at) >= at and concrete_code("2330", at) == "2330" and concrete_code(near, at) == near


def test_odd_lots_are_recorded_of_the_first_stocks_beside_the_board_lots() -> None:
    plan = plan_capacity([Wish("TXFD6"), Wish("2330"), Wish("2317")], DAY, odd_lots=1)
    assert [(place.code, place.odd_lot) for place in plan.places[1:]] == [
        ("TXFD6", False), ("2330", True), ("2317", False),
    ]  # fmt: skip
    topics = [topic for number in range(3) for topic in plan.topics(number) if topic.code == "2330"]
    assert len(topics) == 4 and len({plan.places[2].connection}) == 1
    assert sum(topic.odd_lot for topic in topics) == 2


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(PlanRefused, match="0 connections of 200 topics carry nothing"):
        plan_capacity(stocks(1), DAY, 0)
    with pytest.raises(PlanRefused, match="2 indices do not fit 1 topics"):
        plan_capacity(stocks(1), DAY, 1, cap=1, indices=("IX0001", "IX0043"))
    with pytest.raises(UnknownInstrument, match="unknown instrument 'HELLO'"):
        plan_capacity([Wish("HELLO")], DAY)


def test_a_new_plan_moves_nobody_who_need_not_move() -> None:
    before = plan_capacity(stocks(200), DAY)
    wishes = stocks(200)
    after = plan_capacity([Wish("TXFD6", 5_000), *wishes[:100], *wishes[110:]], DAY, before=before)
    stood = {place.code: place.connection for place in before.places}
    moved = [place.code for place in after.places if stood.get(place.code, place.connection) != place.connection]
    assert moved == []
    assert plan_capacity(wishes, DAY, before=before) == before, "the same wishes, the same plan"


FUTURES = ["TXFD6", "TXFE6", "MXFD6", "TMFD6", "EXFD6", "FXFD6"]
CODES = [*FUTURES, *(f"{1101 + number}" for number in range(60))]
WISHES = st.lists(st.sampled_from(CODES), unique=True, max_size=50).flatmap(
    lambda codes: st.tuples(*(st.builds(Wish, st.just(code), st.integers(0, 10**6)) for code in codes)).map(list)
)


@settings(deadline=None, max_examples=300)
@given(WISHES, WISHES, st.integers(1, 5), st.integers(1, 5), st.integers(1, 21), st.integers(0, 10), st.integers(0, 30))
def test_any_plan_keeps_the_caps_and_says_why_not(
    first: list[Wish], then: list[Wish], lines_before: int, lines: int, cap: int, odd_lots: int, books_min: int
) -> None:
    before = plan_capacity(first, DAY, lines_before, cap=cap)
    plan = plan_capacity(then, DAY, lines, cap=cap, odd_lots=odd_lots, books_min=books_min, before=before)
    every = [topic for number in range(lines) for topic in plan.topics(number)]
    assert len(every) == len(set(every))
    assert all(len(plan.topics(number)) <= cap for number in range(lines))
    assert [place.asked for place in plan.places] == ["IX0001", *(wish.asked for wish in then)]
    stood = {place.code: place for place in before.places}
    for place in plan.places:
        assert (place.connection is None) == (place.depth is Depth.NOTHING) == (place.topics() == ())
        assert place.reason or place.depth in (Depth.BOOKS, Depth.INDEX)
        old = stood.get(place.code)
        kept = old is not None and old.connection is not None and old.connection < lines and place.topics()
        if kept and old is not None and len(place.topics()) <= len(old.topics()) and not place.reason:
            assert place.connection == old.connection
    free = lines * cap - len(every)
    if any(place.depth is Depth.NOTHING for place in plan.places):
        assert free <= max(0, 2 * lines), "what is left is scattered, or too little for the next in line"


def test_there_are_as_many_connections_as_the_broker_allows_less_two() -> None:
    assert CONNECTIONS_RECORDING == 3


def test_a_code_that_no_longer_fits_where_it_stands_stays_there_with_less() -> None:
    codes = [str(2_000 + at) for at in range(9)]
    before = plan_capacity([Wish(code) for code in codes], DAY, 2, cap=8, indices=())
    # The last becomes the first; its trades stand on a full connection.
    after = plan_capacity([Wish(code) for code in [codes[-1], *codes[:-1]]], DAY, 2, cap=8, indices=(), before=before)
    stood = {place.code: place.connection for place in before.places if place.topics()}
    stands = {place.code: place.connection for place in after.places if place.topics()}
    assert {code: stands[code] for code in stood if code in stands} == {
        code: connection for code, connection in stood.items() if code in stands
    }
