"""message, topic, context: the words that everything speaks in."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel

from eventmicro.context import Context, Side, current_context, enter_context, find_context
from eventmicro.errors import UsageError
from eventmicro.message import Delivery, Message
from eventmicro.topic import Topic


class OrderPlaced(BaseModel):
    order_id: str


def test_a_message_and_a_delivery_need_a_subject_only() -> None:
    assert Message("a") == Message("a", b"", None, "")
    assert Delivery("a") == Delivery("a", b"", None, "", 1)


def test_a_topic_is_a_name_and_a_type() -> None:
    topic = Topic("orders.placed", OrderPlaced)
    assert (topic.name, topic.type) == ("orders.placed", OrderPlaced)
    assert repr(topic) == "Topic('orders.placed', OrderPlaced)"
    assert repr(Topic("orders.ids", list[int])) == "Topic('orders.ids', list)"


@pytest.mark.parametrize("name", ["", "orders..placed", "orders placed", "orders.>.x"])
def test_a_topic_refuses_a_name_that_is_no_subject(name: str) -> None:
    with pytest.raises(UsageError, match="subject"):
        Topic(name, OrderPlaced)


@pytest.mark.parametrize(
    ("arguments", "words", "said"),
    [
        ((OrderPlaced, "orders.placed"), {}, r"^name=<class .*>: write the subject first, as Topic\("),
        ((7, OrderPlaced), {}, "^name=7: write the subject first"),
        (("orders.placed", "OrderPlaced"), {}, "^type='OrderPlaced': write the type itself, OrderPlaced, not its name"),
        (("orders.placed", 3), {}, "^type=3: write the type of the events"),
        (("orders.placed", [OrderPlaced]), {}, r"^type=\[.*\]: write the type of the events"),
        (("orders.placed", OrderPlaced), {"id": 5}, "^id=5: write the name of a field, or a function of the event"),
        (("orders.placed", OrderPlaced), {"key": 5}, "^key=5: write the name of a field, or a function of the event"),
        (("orders.placed", dict), {"key": 5}, "^key=5: write the name of a field"),
    ],
)
def test_a_topic_says_which_argument_cannot_be(arguments: Any, words: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Topic(*arguments, **words)


@pytest.mark.parametrize(
    "kind", [OrderPlaced, bytes, None, int | None, list[OrderPlaced], Any, Annotated[int, "of eggs"], Literal["a"]]
)
def test_any_type_may_be_the_type_of_a_topic(kind: Any) -> None:
    assert Topic("orders.placed", kind).type == kind


def test_a_topic_to_subscribe_to_may_hold_wildcards() -> None:
    assert Topic("orders.*", OrderPlaced).name == "orders.*"
    assert Topic("orders.>", OrderPlaced).name == "orders.>"


def test_a_context_without_metadata_has_an_empty_dict_of_its_own() -> None:
    one, other = Context(Side.ENDPOINT), Context(Side.ENDPOINT)
    one.metadata["a"] = "x"
    assert other.metadata == {}


def test_remaining_is_none_without_a_deadline_and_never_below_zero() -> None:
    assert Context(Side.ENDPOINT).remaining() is None
    assert Context(Side.ENDPOINT, deadline=time.monotonic() - 5).remaining() == 0.0
    left = Context(Side.ENDPOINT, deadline=time.monotonic() + 60).remaining()
    assert left is not None
    assert 0 < left <= 60


def test_outside_a_handler_there_is_no_context() -> None:
    assert find_context() is None
    with pytest.raises(UsageError, match="outside a handler"):
        current_context()


async def test_the_context_of_a_task_is_not_that_of_its_neighbour() -> None:
    async def handle(name: str) -> str:
        enter_context(Context(Side.SUBSCRIBER, endpoint=name))
        await asyncio.sleep(0)
        return current_context().endpoint

    assert list(await asyncio.gather(handle("a"), handle("b"))) == ["a", "b"]
    assert find_context() is None
