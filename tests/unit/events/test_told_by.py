"""Events of several types on one subject, told apart by a header: each is read as what it is, what is none is named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pytest
from pydantic import BaseModel, Field, field_validator

from eventmicro import Batch, Client, Context, DeadLetters, EncodeError, Service, Topic, TypeHeader, UsageError
from eventmicro.testing import World

URL = "memory://told-by"
Until = Callable[[Callable[[], object]], Awaitable[None]]


class Placed(BaseModel):
    id: int


class Paid(BaseModel):
    id: int


class PaidInFull(Paid):
    """A kind of Paid."""


class Shipped(msgspec.Struct):
    id: int


EVENTS = Topic("orders.events", Placed | Paid, told_by="Event-Type")
NAMES = TypeHeader("X-Kind", {"order.placed": Placed, "order.shipped": Shipped})
NAMED = Topic("orders.named", Placed | Shipped, told_by=NAMES)


async def test_each_is_read_as_what_its_header_says(until: Until) -> None:
    service, seen = Service("shop", broker=URL), list[Any]()

    @service.subscribe(EVENTS)
    async def every(event: Placed | Paid, context: Context) -> None:
        seen.append((event, context.metadata["Event-Type"]))

    @service.subscribe(EVENTS)
    async def paid(event: Paid) -> None:
        seen.append(("paid", event))

    @service.subscribe(EVENTS, batch=Batch(2, 5))
    async def together(events: list[Placed | Paid]) -> None:
        seen.append([type(event) for event in events])

    @service.subscribe(EVENTS, order_by="id")
    async def in_order(event: Placed | Paid) -> None:
        seen.append(("ordered", type(event)))

    async with service:
        await service.publish(EVENTS, Placed(id=1))
        await service.publish_many(EVENTS, [Paid(id=2)], metadata={"event-type": "Placed"})  # it is what it is
        await until(lambda: len(seen) == 6)
    assert (Placed(id=1), "Placed") in seen
    assert (Paid(id=2), "Paid") in seen
    assert ("paid", Paid(id=2)) in seen
    assert [Placed, Paid] in seen
    assert [each for each in seen if each[0] == "ordered"] == [("ordered", Placed), ("ordered", Paid)]


async def test_names_are_those_that_others_use_and_members_travel_each_as_it_does(until: Until) -> None:
    service, seen = Service("shop", broker=URL), list[Any]()

    @service.subscribe(NAMED)
    async def every(event: Placed | Shipped) -> None:
        seen.append(event)

    async with service, Client(URL) as client, client.events(NAMED) as events:
        await client.publish(NAMED, Shipped(id=3))
        await client.publish("orders.named", {"id": 4}, metadata={"x-kind": "order.placed"})
        await until(lambda: len(seen) == 2)
        assert seen == [Shipped(id=3), Placed(id=4)]
        coming = aiter(events)
        assert [await anext(coming), await anext(coming)] == seen


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"Event-Type": "Cancelled"}, "it is none of Placed, Paid: its header Event-Type says 'Cancelled'"),
        ({"Other": "x"}, "it is none of Placed, Paid, as far as is known: it has no header Event-Type"),
        (None, "it is none of Placed, Paid, as far as is known: it has no header Event-Type"),
    ],
)
async def test_what_is_none_of_them_is_a_dead_letter_that_says_so(
    metadata: dict[str, str] | None, why: str, until: Until
) -> None:
    service, seen = Service("shop", broker=URL), list[Any]()

    @service.subscribe(EVENTS)
    async def every(event: Placed | Paid) -> None:
        seen.append(event)

    async with service, Client(URL) as client:
        await client.publish("orders.events", {"id": 5}, metadata=metadata)
        await client.publish(EVENTS, Placed(id=6))
        await until(lambda: seen)
        assert seen == [Placed(id=6)]
        await until(lambda: service.statistics().subscribers[0].dead_letters == 1)
        letters = [letter async for letter in DeadLetters(client.broker, "shop.every").read()]
    assert [letter.reason for letter in letters] == [why]
    assert service.name == "shop"


async def test_a_body_that_is_not_of_its_type_is_no_other_either(until: Until) -> None:
    service = Service("shop", broker=URL)

    @service.subscribe(EVENTS)
    async def every(event: Placed | Paid) -> None: ...

    async with service, Client(URL) as client:
        await client.publish("orders.events", {"id": "x"}, metadata={"Event-Type": "Paid"})
        await until(lambda: service.statistics().subscribers[0].dead_letters == 1)
        [letter] = [letter async for letter in DeadLetters(client.broker, "shop.every").read()]
    assert "Paid" in letter.reason
    assert "id" in letter.reason


async def test_what_is_of_none_of_the_types_is_not_published_and_a_subclass_is_one_of_its_class() -> None:
    assert EVENTS.told_by is not None
    assert EVENTS.told_by.name_of(PaidInFull(id=1)) == "Paid"
    async with Client(URL) as client:
        with pytest.raises(EncodeError, match="a int is none of Placed, Paid"):
            await client.publish(EVENTS, 7)


@pytest.mark.parametrize(
    ("kind", "told_by", "message"),
    [
        (Placed | Paid, 7, "told_by=7: write the name of a header"),
        (Placed | Paid, "no header", "header"),
        (Placed, "Event-Type", r"tells types apart: write Topic\(\.\.\., OrderPlaced \| OrderPaid\)"),
        (Placed | None, "Event-Type", "tells types apart"),
        (Placed | list[int], "Event-Type", "tells types apart"),
        (Placed | Paid, TypeHeader("Event-Type", {"a": Placed}), "name each of Placed, Paid"),
        (Placed | Paid, TypeHeader("Event-Type", {"a": Placed, "b": Placed, "c": Paid}), "name each of Placed, Paid"),
        (Placed | Paid, TypeHeader("Event-Type", {"a\nb": Placed, "c": Paid}), "Event-Type"),
    ],
)
def test_what_tells_nothing_apart_is_refused(kind: Any, told_by: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Topic("orders.events", kind, told_by=told_by)


async def test_what_does_not_go_together_with_it_is_refused() -> None:
    for words in ({"large": "object"}, {"cloudevents": True}):
        with pytest.raises(UsageError, match="told_by does not go together"):
            Topic("orders.events", Placed | Paid, told_by="Event-Type", **words)
    service = Service("shop", broker=URL)

    async def every(event: Placed | Paid) -> None: ...

    with pytest.raises(UsageError, match="sticky_by does not go together"):
        service.subscribe(EVENTS, sticky_by="id")(every)


async def test_a_world_of_tests_reads_them_likewise() -> None:
    service = Service("shop")

    @service.subscribe(NAMED)
    async def every(event: Placed | Shipped) -> None: ...

    async with World(service) as world:
        await world.client.publish(NAMED, Shipped(id=1))
        await world.idle()
        assert world.published(NAMED) == [Shipped(id=1)]


# -- without a header ------------------------------------------------------------------------------------------------


@dataclass
class First:
    id: int


@dataclass
class Second:
    id: int


class Tagged(BaseModel):
    kind: Literal["tagged"] = "tagged"
    id: int


class Otherwise(BaseModel):
    kind: Literal["otherwise"] = "otherwise"
    id: int


class Even(BaseModel):
    id: Annotated[int, Field(multiple_of=2)]


class Checked(BaseModel):
    id: int

    @field_validator("id")
    @classmethod
    def check(cls, value: int) -> int:
        return value


class Wider(BaseModel):
    id: int
    sku: str


@pytest.mark.parametrize("kind", [Placed | Paid, First | Second, Placed | None | Paid])
def test_types_that_nothing_tells_apart_are_refused_with_what_does(kind: Any) -> None:
    with pytest.raises(UsageError, match=r"have the same fields.*Literal\['(paid|second)'\].*told_by='Event-Type'"):
        Topic("orders.events", kind)


async def test_so_are_they_where_a_handler_takes_or_returns_them() -> None:
    service = Service("shop", broker=URL)

    async def either(event: Placed | Paid) -> None: ...

    async def replies() -> Placed | Paid:
        return Paid(id=1)

    with pytest.raises(UsageError, match="subscriber either: Placed and Paid have the same fields"):
        service.subscribe("orders.events")(either)
    with pytest.raises(UsageError, match="endpoint either: Placed and Paid have the same fields"):
        service.rpc(either)
    with pytest.raises(UsageError, match="endpoint replies: Placed and Paid have the same fields"):
        service.rpc(replies)


DIFFER: list[Any] = [
    Tagged | Otherwise,
    Placed | Wider,
    Placed | int,
    Placed | None,
    int | str,
    Even | Placed,
    Checked | Placed,
    Annotated[Placed | Paid, "as somebody else says"],
]


@pytest.mark.parametrize("kind", DIFFER)
def test_types_that_differ_or_that_somebody_tells_apart_are_not(kind: Any) -> None:
    assert Topic("orders.events", kind).told_by is None
