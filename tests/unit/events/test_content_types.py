"""Events in other content types: as the publish says, the topic, or the client; each subscriber reads what comes."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from eventmicro import Batch, Client, MemoryBroker, Service, Topic, UsageError
from eventmicro.message import Delivery, Message

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://events-in-content-types"


class Placed(BaseModel):
    order_id: str


class Ticked(msgspec.Struct):
    number: int


PLACED = Topic("orders.placed", Placed)
PACKED = Topic("orders.packed", Placed, content_type="msgpack")
TICKED = Topic("clock.ticked", Ticked, content_type="cbor")
PICTURE = Topic("pictures.taken", bytes, content_type="image/png")


async def travelled(until: Until, what: Callable[[Client], Awaitable[object]], messages: int, **options: Any) -> Any:
    seen: list[Delivery] = []
    async with MemoryBroker(URL) as broker, Client(URL, **options) as client:
        await broker.subscribe(">", seen.append)
        await what(client)
        await until(lambda: len(seen) >= messages)
    return [((each.headers or {}).get("Content-Type"), each.body) for each in seen]


async def test_an_event_is_written_as_the_publish_says_else_the_topic_else_the_client_else_its_type(
    until: Until,
) -> None:
    event = Placed(order_id="7")

    async def publish(client: Client) -> None:
        await client.publish(PLACED, event)
        await client.publish(PACKED, event)
        await client.publish(PACKED, event, content_type="json")
        await client.publisher(PACKED).publish(event, content_type="application/cbor", metadata={"tenant": "acme"})
        await client.publish_many(PLACED, [event], content_type="msgpack")
        await client.publisher(PLACED).publish_many([event], content_type="bson")
        await client.publish("orders.plain", event)

    msgpack, cbor = b"\x81\xa8order_id\xa17", b"\xa1horder_id\x617"
    bson = b"\x15\x00\x00\x00\x02order_id\x00\x02\x00\x00\x007\x00\x00"
    told = [
        ("application/msgpack", msgpack),
        ("application/json", b'{"order_id":"7"}'),
        ("application/cbor", cbor),
        ("application/msgpack", msgpack),
        ("application/bson", bson),
    ]
    plain = (None, b'{"order_id":"7"}')
    assert await travelled(until, publish, 7) == [plain, *told, plain]
    in_cbor = ("application/cbor", cbor)
    assert await travelled(until, publish, 7, content_type="cbor") == [in_cbor, *told, in_cbor]


async def test_bytes_may_be_named_anything_and_structs_travel_as_models_do(until: Until) -> None:
    async def publish(client: Client) -> None:
        await client.publish(PICTURE, b"\x89PNG")
        await client.publish(TICKED, Ticked(7))
        await client.publish("clock.ticked", Ticked(8))

    assert await travelled(until, publish, 3) == [
        ("image/png", b"\x89PNG"),
        ("application/cbor", b"\xa1fnumber\x07"),
        (None, b'{"number":8}'),
    ]


@pytest.mark.parametrize(
    "options", [{}, {"order_by": "order_id", "durable": True}, {"batch": Batch(2), "durable": True}]
)
async def test_every_way_of_handling_events_reads_all_of_them(options: dict[str, Any], until: Until) -> None:
    got: list[str] = []
    service = Service("reader", broker=URL)
    event = Placed(order_id="7")

    if "batch" in options:

        @service.subscribe(PLACED, **options)
        async def several(events: list[Placed]) -> None:
            got.extend(each.order_id for each in events)
    else:

        @service.subscribe(PLACED, **options)
        async def one(event: Placed) -> None:
            got.append(event.order_id)

    async with service:
        for content_type in ("json", "msgpack", "cbor", "bson", "json-rpc", "bson-rpc"):
            await service.publish(PLACED, event, content_type=content_type, metadata={"tenant": "acme"})
        await until(lambda: len(got) == 6)
    assert got == ["7"] * 6


async def test_an_event_in_an_envelopes_content_type_is_the_message_alone(until: Until) -> None:
    async def publish(client: Client) -> None:
        await client.publish(PLACED, Placed(order_id="7"))

    assert await travelled(until, publish, 1, content_type="json-rpc") == [("application/json", b'{"order_id":"7"}')]


@pytest.mark.parametrize("content_type", ["msgpack", "application/json-rpc"])
async def test_an_event_handed_over_to_the_instance_of_its_key_is_handed_over_as_it_came(
    content_type: str, until: Until
) -> None:
    got: list[tuple[str, str]] = []

    def instance(id: str) -> Service:
        service = Service("sticky", broker=URL, id=id, registry="memory", compression="gzip")

        @service.subscribe(PLACED, sticky_by="order_id", durable=True)
        async def take(event: Placed) -> None:
            got.append((id, event.order_id))

        return service

    large = "x" * 10_000
    async with instance("a"), instance("b"), Client(URL, compression="gzip") as client:
        await client.ready("sticky")
        for number in range(20):
            await client.publish(PLACED, Placed(order_id=f"{number} {large}"), content_type=content_type)
        body = json.dumps({"order_id": "foreign"}).encode()
        await client.broker.publish(Message("orders.placed", body, {"Content-Type": "application/json-rpc"}))
        await until(lambda: len(got) == 21)
    assert sorted(key for _, key in got) == sorted([*(f"{number} {large}" for number in range(20)), "foreign"])


async def test_what_cannot_travel_as_its_topic_says_is_refused_when_it_is_declared_or_first_published() -> None:
    listed = Topic("orders.listed", list[int], content_type="bson")
    service = Service("lister", broker=URL)
    with pytest.raises(UsageError, match=r"content_type='bson': list\[int\] cannot travel as application/bson; it"):

        @service.subscribe(listed)
        async def take(event: list[int]) -> None: ...

    async with Client(URL) as client:
        with pytest.raises(UsageError, match=r"list\[int\] cannot travel as application/bson"):
            await client.publish(listed, [1])
        with pytest.raises(UsageError, match="did you mean 'msgpack'"):
            await client.publish(Topic("orders.odd", Placed, content_type="msgpac"), Placed(order_id="7"))
    with pytest.raises(UsageError, match="content_type=7"):
        Topic("orders.odd", Placed, content_type=7)  # type: ignore[call-overload]


async def test_an_unknown_content_type_is_a_dead_letter_with_those_that_are_known(until: Until) -> None:
    service, dead = Service("keeper", broker=URL), list[Delivery]()

    @service.subscribe(PLACED, durable=True, dead_letter="orders.dead")
    async def take(event: Placed) -> None: ...

    async with service, MemoryBroker(URL) as broker:
        await broker.subscribe("orders.dead", dead.append)
        await broker.publish(Message("orders.placed", b"<order/>", {"content-type": "text/xml"}))
        await broker.publish(Message("orders.placed", b"\xc1", {"content-type": "application/msgpack"}))
        await until(lambda: len(dead) == 2)
    reasons = [(each.headers or {})["Dead-Letter-Reason"] for each in dead]
    assert reasons[0].startswith("it is in a form not taken here: content type 'text/xml' is not taken here; taken: ")
    assert reasons[1].startswith("it is not a valid Placed: no MessagePack, and as it is not a valid Placed (the")


async def test_middleware_sees_the_content_type_that_was_asked_for(until: Until) -> None:
    seen: list[dict[str, str]] = []

    async def look(message: Any, context: Any, call_next: Any) -> Any:
        seen.append(dict(context.metadata))
        return await call_next(message, context)

    async def publish(client: Client) -> None:
        await client.publish(PLACED, Placed(order_id="7"), content_type="msgpack")

    await travelled(until, publish, 1, middleware=[look])
    assert seen == [{"Content-Type": "application/msgpack"}]
    assert json.dumps(seen)
