"""Our orders by the simulated exchange and by hftbacktest: the same fate, but for what one of the two cannot know.

hftbacktest behind all the volume (risk-averse) differs, and the simulated exchange is nearer to the day, where
1. lots at the price traded since the last push: a new order stands behind what is gone, and one that takes is given it;
2. a book shows nobody on a side: whatever rests there is first in hftbacktest's queue, though who left may come back;
3. a call took the book away and none has come since: nobody is before a new order, and nobody to take from;
4. a trade and a book bear one stamp, as futures' whole milliseconds often do: the dataset has the trade first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from two_matchings import (
    DAY,
    ENTRY_NS,
    Fate,
    Seen,
    Wanted,
    dataset_of,
    of_hftbacktest,
    of_the_exchange,
    seen_of,
)

from shijim_live.broker.simulated import MARKETS, SimulatedExchange
from shijim_live.calendar import SECOND_NS, Market, Session

EVENTS = 100_000
EVERY_NS, LIFE_NS = 30 * SECOND_NS, 25 * SECOND_NS  # one at a time: ours do not stand before each other
CASES = [("plain", "2330"), ("plain", "TXFD6"), ("taiwan", "2330"), ("taiwan", "2317"), ("taiwan", "TXFD6")]


def orders_of(exchange: SimulatedExchange, code: str, seen: Seen) -> list[Wanted]:
    """At the touch that was pushed last: resting for a while, or taking at once; of both sides."""
    market = Market.FUTURES if code[0].isalpha() else Market.STOCK
    [hours] = [one for one in exchange.sessions if one.market is market and one.session is Session.DAY]
    orders = []
    for place, sent_ns in enumerate(range(hours.open_ns + 60 * SECOND_NS, hours.close_ns - 60 * SECOND_NS, EVERY_NS)):
        at_ns = sent_ns + place  # no two at the same place in a microsecond
        _, bid_e6, ask_e6, bid_lots, ask_lots = seen.touch(at_ns)
        if not bid_e6 or not ask_e6:
            continue
        buys, takes = bool(place & 1), bool(place & 2)
        price_e6 = ask_e6 if buys == takes else bid_e6
        lots = min(3, ask_lots if buys else bid_lots) if takes else 1
        orders.append(Wanted(at_ns, buys, price_e6, lots, takes, 0 if takes else at_ns + LIFE_NS))
    return orders


@dataclass(frozen=True, slots=True)
class Compared:
    orders: list[Wanted]
    ours: list[Fate]
    theirs: list[Fate]
    seen: Seen
    paused: bool  # by the rules of the market and of the code

    def differing(self, *, takes: bool) -> list[tuple[Wanted, Fate, Fate]]:
        rows = zip(self.orders, self.ours, self.theirs, strict=True)
        return [row for row in rows if row[0].immediate is takes and row[1] != row[2]]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def compared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    market, code = request.param
    exchange = SimulatedExchange(DAY, 1, replace(MARKETS[market], target_events=EVENTS).without_faults())
    seen = seen_of(exchange, code)
    orders = orders_of(exchange, code, seen)
    rows, contract = dataset_of(exchange, code, tmp_path_factory.mktemp(code))
    return Compared(orders, of_the_exchange(exchange, code, orders), of_hftbacktest(rows, contract, orders), seen,
                    paused=market == "taiwan" and code.isdecimal())  # fmt: skip


def test_nearly_every_order_has_the_same_fills_at_the_same_prices_and_times(compared: Compared) -> None:
    for takes in (False, True):
        count = sum(order.immediate is takes for order in compared.orders)
        filled = sum(order.immediate is takes and fate.filled > 0
                     for order, fate in zip(compared.orders, compared.ours, strict=True))  # fmt: skip
        assert count > 200 and filled > 30
        assert len(compared.differing(takes=takes)) <= 0.05 * count


def test_who_takes_pays_the_same_and_has_no_lot_that_was_traded_already(compared: Compared) -> None:
    for order, ours, theirs in compared.differing(takes=True):
        gone = compared.seen.traded_since_push(order.sent_ns + ENTRY_NS, order.price_e6)
        assert 0 < theirs.filled - ours.filled <= gone, (order, ours, theirs)
        assert not ours.filled or (ours.price_e6, ours.filled_ns) == (theirs.price_e6, theirs.filled_ns)


def test_who_rests_is_filled_at_his_price_and_at_another_time_only_for_a_reason(compared: Compared) -> None:
    never, seen = 1 << 62, compared.seen
    for order, ours, theirs in compared.differing(takes=False):
        arrived_ns = order.sent_ns + ENTRY_NS
        assert {ours.price_e6, theirs.price_e6} <= {0, order.price_e6}, (order, ours, theirs)
        if (ours.filled_ns or never) < (theirs.filled_ns or never):
            reasons = (seen.traded_since_push(arrived_ns, order.price_e6) > 0, seen.has_a_book_at(ours.filled_ns))
        else:
            empty = seen.was_empty(order.buys, arrived_ns, theirs.filled_ns)
            reasons = (empty or seen.unknown(arrived_ns), seen.has_a_book_at(theirs.filled_ns))
        assert any(reasons), (order, ours, theirs)


def test_nobody_takes_anything_while_a_call_has_no_book(compared: Compared) -> None:
    rows = zip(compared.orders, compared.ours, compared.theirs, strict=True)
    taking = [row for row in rows if row[0].immediate and compared.seen.unknown(row[0].sent_ns + ENTRY_NS)]
    assert len(taking) >= 5 or not compared.paused
    assert [row for row in taking if row[1].filled or row[2].filled] == []
