"""context: what a handler finds in one that is filled in at the first look is what one that was made at once holds."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from typing import Any

import pytest

from eventmicro.context import Context, Received, Side
from eventmicro.errors import UsageError
from eventmicro.message import Delivery

NAMES = Context.__slots__
LOOKED_AT: list[str] = []


def made() -> Context:
    delivery = came()
    return Context(Side.SUBSCRIBER, "orders", "bill", "orders.placed", delivery.headers, 7.0, 2, "state", delivery)


def came() -> Delivery:
    return Delivery("orders.placed", b"{}", {"a": "1"}, "", 2, None, "id-1")


def fill(context: Received) -> None:
    delivery = context.came
    headers, arguments = delivery.headers, (Side.SUBSCRIBER, "orders", "bill", "orders.placed")
    Context.__init__(context, *arguments, headers, 7.0, 2, "state", delivery)


def values(context: Context) -> dict[str, Any]:
    return {name: getattr(context, name) for name in NAMES}


@pytest.mark.parametrize("first", NAMES)
def test_whatever_is_looked_at_first_all_is_there(first: str) -> None:
    context = Received(came(), fill)
    assert getattr(context, first) == getattr(made(), first)
    assert values(context) == values(made())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_set_before_the_first_look_stays(name: str) -> None:
    context, mine = Received(came(), fill), object()
    setattr(context, name, mine)
    assert values(context) == values(made()) | {name: mine}


def test_all_may_be_set_before_the_first_look() -> None:
    context = Received(came(), fill)
    mine = {name: object() for name in NAMES}
    for name, value in mine.items():
        setattr(context, name, value)
    assert not hasattr(context, "other")
    assert values(context) == mine


def test_it_is_filled_in_once() -> None:
    filled: list[Received] = []

    def note(context: Received) -> None:
        filled.append(context)
        fill(context)

    context = Received(came(), note)
    assert filled == []
    assert (context.topic, context.attempt, context.metadata) == ("orders.placed", 2, {"a": "1"})
    assert filled == [context]


@pytest.mark.parametrize("looked", [False, True])
def test_what_there_is_not_is_said(looked: bool) -> None:
    context = Received(came(), fill)
    if looked:
        assert context.topic
    with pytest.raises(AttributeError, match="'Received' object has no attribute 'topics'"):
        context.topics  # type: ignore[attr-defined]
    assert values(context) == values(made())


@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda context: pickle.loads(pickle.dumps(context))])
def test_a_copy_holds_the_same_and_lives_by_itself(copied: Any, looked: bool) -> None:
    context = Received(came(), fill)
    context.settled = True
    if looked:
        assert context.topic
    other = copied(context)
    assert values(other) == values(context) == values(made()) | {"settled": True}
    other.attempt = 7
    assert not hasattr(other, "topics")
    assert (other.attempt, context.attempt) == (7, 2)


def test_it_can_be_shown_and_compared_as_any_object() -> None:
    context = Received(came(), fill)
    assert repr(context).startswith("<eventmicro.context.Received object")
    assert context == context
    assert len({context, Received(came(), fill)}) == 2


async def test_before_and_after_the_first_look_there_is_the_same_to_settle() -> None:
    for looked in (False, True):
        context = Received(came(), fill)
        if looked:
            assert context.topic
        assert (context.id, context.remaining()) == ("id-1", 0.0)
        with pytest.raises(UsageError, match="nothing to settle"):
            await context.ack()
        assert not context.settled


def test_threads_that_look_first_at_the_same_time_all_find_what_is_there() -> None:
    """As those do that a handler starts by `asyncio.to_thread`."""
    failed: list[BaseException] = []

    def look(context: Received, together: threading.Barrier) -> None:
        together.wait()
        try:
            assert context.metadata == {"a": "1"}
        except BaseException as error:
            failed.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):
            context, together = Received(came(), slowly), threading.Barrier(2)
            threads = [threading.Thread(target=look, args=(context, together)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not failed


def slowly(context: Received) -> None:
    """Fills it in, with others having their turn in between."""
    for _ in range(50):
        pass
    fill(context)
