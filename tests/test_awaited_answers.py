"""Who placed an order without waiting is answered once: by the broker in time, or that nothing is known."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_orders import FUTURE, Answering, sdk

from shijim_live.broker.awaited_answers import ANSWER_NS_MAX, AWAITED_MAX, AwaitedAnswers
from shijim_live.broker.order_budget import OPERATION_WINDOW_NS, OrderBudget
from shijim_live.broker.order_events import OrderEvents
from shijim_live.broker.orders import Accepted, Answer, OutcomeUnknown, Refused
from shijim_live.broker.shioaji import order_classes
from shijim_live.broker.shioaji_orders import ShioajiTrading

UNTIL_NS = 1_800_000_000_000_000_000 + ANSWER_NS_MAX


class Clock:
    def __init__(self) -> None:
        self.ns = UNTIL_NS - ANSWER_NS_MAX

    def __call__(self) -> int:
        return self.ns


def trading(tmp_path: Path) -> tuple[ShioajiTrading, Answering, Clock]:
    clock, client = Clock(), Answering()
    budget = OrderBudget(tmp_path / "orders.json", now_ns=clock)
    made = ShioajiTrading(client, order_classes(), budget, live=False, events=OrderEvents(clock))
    return made, client, clock


def test_an_answer_after_half_a_minute_is_no_second_one_and_the_order_can_be_cancelled(tmp_path: Path) -> None:
    orders, client, clock = trading(tmp_path)
    came: list[Answer] = []
    assert orders.place_soon(FUTURE, came.append) is None
    clock.ns = UNTIL_NS - 1
    orders.events.drain()
    assert came == []
    clock.ns = UNTIL_NS
    orders.events.drain()
    assert [type(one) for one in came] == [OutcomeUnknown]
    client.later[0]()
    orders.events.drain()
    assert len(came) == 1
    sent = len(client.asked)
    assert isinstance(orders.cancel("a1"), Accepted), "the late answer is at least its handle"
    assert [name for name, _ in client.asked[sent:]] == ["cancel_order"]


def test_an_answer_that_comes_twice_is_handed_over_once(tmp_path: Path) -> None:
    orders, client, clock = trading(tmp_path)
    came: list[Answer] = []
    orders.place_soon(FUTURE, came.append)
    client.later[0]()
    client.later[0]()
    clock.ns = 2 * UNTIL_NS
    orders.events.drain()
    assert [type(one) for one in came] == [Accepted]


def test_what_is_refused_at_once_is_not_answered_again(tmp_path: Path) -> None:
    orders, client, clock = trading(tmp_path)
    came: list[Answer] = []
    client.errors = [sdk().BadRequestError("no")]
    assert isinstance(orders.place_soon(FUTURE, came.append), Refused)
    assert isinstance(orders.place_soon(replace(FUTURE, quantity=0), came.append), Refused)
    clock.ns = UNTIL_NS
    orders.events.drain()
    assert came == []


def test_an_answer_before_the_call_itself_fails_is_the_answer(tmp_path: Path) -> None:
    orders, client, _ = trading(tmp_path)
    came: list[Answer] = []

    def answered_and_lost(_: str, said: dict[str, Any]) -> Any:
        said["cb"](Answering().answer("place_order", said | {"timeout": 1}))
        raise sdk().ShioajiConnectionError("gone")

    client.answer = answered_and_lost  # type: ignore[method-assign]
    assert orders.place_soon(FUTURE, came.append) is None
    assert [type(one) for one in came] == [Accepted]


def test_a_login_that_is_gone_leaves_nobody_waiting_for_the_next(tmp_path: Path) -> None:
    orders, _, clock = trading(tmp_path)
    came: list[Answer] = []
    orders.place_soon(FUTURE, came.append)
    budget = OrderBudget(tmp_path / "orders.json", now_ns=clock)
    after = ShioajiTrading(Answering(), order_classes(), budget, live=False, events=orders.events)
    clock.ns = UNTIL_NS
    after.events.drain()
    assert [type(one) for one in came] == [OutcomeUnknown]


def test_where_nobody_drains_no_more_is_placed_and_nothing_of_it_is_sent(tmp_path: Path) -> None:
    orders, client, clock = trading(tmp_path)
    for _ in range(AWAITED_MAX):
        while isinstance(orders.place_soon(FUTURE, lambda _: None), Refused):
            clock.ns += OPERATION_WINDOW_NS
    clock.ns += OPERATION_WINDOW_NS
    more = orders.place_soon(FUTURE, lambda _: None)
    assert isinstance(more, Refused) and not more.sent and "drain" in more.text
    assert len(client.asked) == AWAITED_MAX
    clock.ns += ANSWER_NS_MAX
    orders.events.drain()
    assert orders.place_soon(FUTURE, lambda _: None) is None


def test_of_an_answer_and_the_end_of_the_wait_at_once_one_comes() -> None:
    clock = Clock()
    awaited = AwaitedAnswers(clock)
    came: list[Answer] = []
    numbers = [awaited.expect(came.append) for _ in range(AWAITED_MAX)]
    clock.ns = UNTIL_NS
    start = threading.Barrier(2)

    def run(step: Callable[[], None]) -> None:
        start.wait()
        step()

    def broker() -> None:
        for number in reversed(numbers):
            assert number is not None
            awaited.answer(number, Refused("no"))

    threads = [
        threading.Thread(target=run, args=(broker,)),
        threading.Thread(target=run, args=(awaited.give_up,)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(came) == AWAITED_MAX


def test_a_callback_that_raises_costs_no_event_and_no_other_answer(tmp_path: Path) -> None:
    orders, _, clock = trading(tmp_path)
    came: list[Answer] = []

    def raising(_: Answer) -> None:
        raise RuntimeError("of the caller's")

    orders.place_soon(FUTURE, raising)
    orders.place_soon(FUTURE, came.append)
    orders.events.received("SDEAL", None)
    clock.ns = UNTIL_NS
    with pytest.raises(RuntimeError, match="of the caller's"):
        orders.events.drain()
    assert len(orders.events.drain()) == 1 and len(came) == 1
