"""Events between us and others over RabbitMQ: what stands in its own places is read there, and kept to the last bit."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import aio_pika
import pytest
from aiormq.abc import AbstractChannel
from eventmicro_rabbitmq import RabbitBroker, RabbitMessage
from pydantic import BaseModel

from eventmicro import Batch, Client, Compression, Context, Depends, Retry, Service, Topic
from eventmicro.broker import Durable
from eventmicro.errors import UsageError
from eventmicro.message import Copy, Delivery, Message
from tests.integration.rabbitmq.kit import Properties, Until, publish_raw, raw_channel

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TYPED: dict[str, Any] = {
    "yes": True,
    "small": -1,
    "big": 2**40,
    "far": 1e300,
    "price": 19.99,
    "none": None,
    "text": "ä",
    "bytes": bytearray(b"\x00\xff"),
    "when": WHEN,
    "exact": Decimal("1.25"),
    "list": [1, "a", [b"b".decode(), None]],
    "table": {"deep": {"list": [{"n": 1}]}},
}
KEPT: dict[str, Any] = {
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "priority": 3,
    "correlation_id": "c-1",
    "reply_to": "answers",
    "message_id": "m-1",
    "timestamp": WHEN,
    "message_type": "order",
    "app_id": "theirs",
}


class Order(BaseModel):
    sku: str
    quantity: int = 1


async def dead_letter(channel: AbstractChannel, queue: str, until: Until) -> Any:
    found: list[Any] = []

    async def take(message: Any) -> None:
        found.append(message.header.properties)

    await channel.basic_consume(queue, take, no_ack=True)
    await until(lambda: found)
    return found[0]


def table_of(values: dict[str, Any]) -> dict[str, Any]:
    """The same values as they can be published by aiormq, which writes no double."""
    return {name: value for name, value in values.items() if not isinstance(value, float)}


@pytest.mark.parametrize("retries", [1, 2])
async def test_a_dead_letter_is_the_event_as_it_was(url: str, subject: str, retries: int, until: Until) -> None:
    """Also where it has waited for another attempt, as a copy."""
    service, seen = Service(subject), list[RabbitMessage]()
    dead = f"{subject}.dead"

    @service.subscribe(subject, queue=f"{subject}.q", dead_letter=dead, retry=Retry(attempts=retries, backoff=0.05))
    async def fail(order: Order, message: Annotated[RabbitMessage, Depends(RabbitMessage.of)]) -> None:
        seen.append(message)
        raise ValueError("never")

    await service.start(url)
    async with raw_channel(url) as channel:
        body = b'{"sku": "tea", "quantity": 2}'
        properties = Properties(**KEPT, headers=table_of(TYPED), expiration="60000")
        await channel.basic_publish(body, exchange="events", routing_key=subject, properties=properties)
        letter = await dead_letter(channel, dead, until)
    await service.stop()
    assert {name: getattr(letter, name) for name in KEPT} == KEPT
    assert letter.expiration is None
    typed = table_of(TYPED)
    assert {name: letter.headers[name] for name in typed} == typed
    assert [type(letter.headers[name]) for name in typed] == [type(value) for value in typed.values()]
    assert letter.headers["Dead-Letter-Attempts"] == str(retries)
    assert "Content-Type" not in letter.headers
    assert "Correlation-Id" not in letter.headers
    assert len(seen) == retries
    for message in seen:
        assert (message.type, message.app_id, message.reply_to, message.timestamp) == (
            "order",
            "theirs",
            "answers",
            WHEN,
        )
        assert message.headers["big"] == 2**40


async def test_letters_of_two_queues_about_one_event_are_two(url: str, subject: str, until: Until) -> None:
    """Though both have its message_id, and are in one queue."""
    service, letters, dead = Service(subject), list[Delivery](), f"{subject}.dead"

    for number in (1, 2):

        @service.subscribe(subject, name=f"fail{number}", dead_letter=dead, retry=Retry(attempts=1))
        async def fail(event: int) -> None:
            raise ValueError("never")

    async with RabbitBroker(url) as broker:
        await broker.subscribe(dead, letters.append, queue=dead, durable=Durable())
        await service.start(url)
        await broker.publish(Message(subject, b"1", id="m-1"))
        await until(lambda: len(letters) == 2)
        await service.stop()
    assert len({letter.id for letter in letters}) == 2
    assert all(letter.id.endswith(" m-1") for letter in letters)


async def test_a_dead_letter_of_another_broker_is_an_event_as_any(url: str, subject: str, until: Until) -> None:
    got: list[Delivery] = []
    async with RabbitBroker(url) as broker:
        await broker.subscribe(subject, got.append)
        of = Delivery("elsewhere", b"{}", {"Kind": "order"})
        await broker.publish(
            Copy(subject, b"{}", {"Kind": "order", "Reason": "x"}, of=of, content_type="application/json")
        )
        await until(lambda: got)
    assert got[0].headers == {"Kind": "order", "Reason": "x"}


async def test_what_we_publish_stands_in_rabbitmqs_own_places(url: str, subject: str, until: Until) -> None:
    topic = Topic(subject, Order)
    got: list[aio_pika.abc.AbstractIncomingMessage] = []
    async with await aio_pika.connect(url.partition("?")[0]) as connection, Client(url) as client:
        await client.publish(topic, Order(sku="before"))  # makes the exchange
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind("events", subject)

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            got.append(message)

        await queue.consume(take, no_ack=True)
        before = int(datetime.now(UTC).timestamp())
        await client.publish(topic, Order(sku="tea"), id="ev-1", metadata={"Correlation-Id": "c-1", "Tenant": "acme"})
        await client.publish(topic, Order(sku="x" * 9000), content_type="msgpack")
        zipped = Topic(subject, Order, compression=Compression("gzip", threshold=100))
        await client.publish(zipped, Order(sku="y" * 9000))
        await until(lambda: len(got) == 3)
    plain, packed, compressed = got
    assert (plain.content_type, plain.message_id, plain.correlation_id) == ("application/json", "ev-1", "c-1")
    assert plain.timestamp is not None
    assert plain.timestamp.timestamp() >= before
    assert plain.content_encoding == "utf-8"
    assert plain.headers == {"Tenant": "acme"}, "said once, where it belongs"
    assert (packed.content_type, packed.headers) == ("application/msgpack", {})
    assert (compressed.content_type, compressed.content_encoding, compressed.headers) == (
        "application/json",
        "gzip",
        {},
    )
    assert json.loads(gzip.decompress(compressed.body))["sku"] == "y" * 9000


@pytest.mark.parametrize(
    ("content_type", "encoding", "body"),
    [
        ("application/json", "utf-8", b'{"sku": "tea"}'),
        ("application/json", "binary", b'{"sku": "tea"}'),
        ("application/json", "gzip", gzip.compress(b'{"sku": "tea"}', mtime=0)),
        ("application/json", "GZIP", gzip.compress(b'{"sku": "tea"}', mtime=0)),
        ("application/octet-stream", "binary", b'{"sku": "tea"}'),
        (None, None, b'{"sku": "tea"}'),
    ],
)
@pytest.mark.parametrize("durable", [True, False])
async def test_what_others_say_of_their_bodies_is_understood(
    url: str, subject: str, durable: bool, content_type: str | None, encoding: str | None, body: bytes, until: Until
) -> None:
    service, got = Service(subject), list[tuple[Order, dict[str, str]]]()

    @service.subscribe(subject, queue=f"{subject}.q" if durable else None, durable=durable)
    async def take(order: Order, context: Context) -> None:
        got.append((order, context.metadata))

    await service.start(url)
    async with raw_channel(url) as channel:
        properties = Properties(content_type=content_type, content_encoding=encoding, correlation_id="c-1")
        await channel.basic_publish(body, exchange="events", routing_key=subject, properties=properties)
        await until(lambda: got)
    await service.stop()
    order, metadata = got[0]
    assert order.sku == "tea"
    assert metadata["Correlation-Id"] == "c-1"


async def test_an_encoding_that_nobody_knows_makes_a_dead_letter_as_it_was(
    url: str, subject: str, until: Until
) -> None:
    service, dead = Service(subject), f"{subject}.dead"

    @service.subscribe(subject, queue=f"{subject}.q", dead_letter=dead)
    async def take(order: Order) -> None: ...

    await service.start(url)
    async with raw_channel(url) as channel:
        properties = Properties(content_type="application/json", content_encoding="snappy")
        body = zlib.compress(b'{"sku": "tea"}')
        await channel.basic_publish(body, exchange="events", routing_key=subject, properties=properties)
        letter = await dead_letter(channel, dead, until)
    await service.stop()
    assert (letter.content_type, letter.content_encoding) == ("application/json", "snappy")
    assert "snappy" in letter.headers["Dead-Letter-Reason"]


async def test_kombu_and_we_read_each_other(url: str, subject: str, until: Until) -> None:
    """As nameko does: JSON by its label, and its call stack, a list, in a header."""
    service, got = Service(subject), list[tuple[Order, RabbitMessage]]()

    @service.subscribe(subject)
    async def take(order: Order, message: Annotated[RabbitMessage, Depends(RabbitMessage.of)]) -> None:
        got.append((order, message))

    await service.start(url)
    async with Client(url) as client:
        bodies = asyncio.create_task(asyncio.to_thread(_exchange_by_kombu, url.partition("?")[0], subject))
        await until(lambda: got)
        await client.publish(Topic(f"{subject}.ours", Order), Order(sku="salt"))
        assert await bodies == [{"sku": "salt", "quantity": 1}]
    await service.stop()
    order, message = got[0]
    assert order == Order(sku="tea", quantity=2)
    assert message.values("nameko.call_id_stack") == ["web.1", "orders.2"]
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")


def _exchange_by_kombu(url: str, subject: str) -> list[Any]:
    import kombu

    bodies: list[Any] = []
    with kombu.Connection(url) as connection:
        channel: Any = connection.channel()
        events = kombu.Exchange("events", type="topic", durable=True)
        own = kombu.Queue(f"{subject}.kombu", events, routing_key=f"{subject}.ours", exclusive=True)
        take = [lambda body, _: bodies.append(body)]
        with kombu.Consumer(channel, [own], callbacks=take, accept=["json"], no_ack=True):
            kombu.Producer(channel, events).publish(
                {"sku": "tea", "quantity": 2},
                routing_key=subject,
                serializer="json",
                headers={"nameko.call_id_stack": ["web.1", "orders.2"]},
            )
            connection.drain_events(timeout=20)
    return bodies


async def test_faststream_and_we_read_each_other(url: str, subject: str, until: Until) -> None:
    from faststream.rabbit import ExchangeType, RabbitExchange, RabbitQueue
    from faststream.rabbit import RabbitBroker as FastStream

    service, got, theirs = Service(subject), list[tuple[Order, str]](), list[Any]()

    @service.subscribe(subject)
    async def take(order: Order, context: Context) -> None:
        got.append((order, context.metadata["Correlation-Id"]))

    await service.start(url)
    events = RabbitExchange("events", type=ExchangeType.TOPIC, durable=True)
    async with FastStream(url.partition("?")[0], logger=None) as broker, Client(url) as client:

        @broker.subscriber(RabbitQueue(f"{subject}.theirs", routing_key=f"{subject}.ours", exclusive=True), events)
        async def handle(order: dict[str, Any]) -> None:
            theirs.append(order)

        await broker.start()
        await broker.publish(Order(sku="tea"), routing_key=subject, exchange=events, correlation_id="c-1")
        await client.publish(Topic(f"{subject}.ours", Order), Order(sku="salt"))
        await until(lambda: got and theirs)
    await service.stop()
    assert got == [(Order(sku="tea"), "c-1")]
    assert theirs == [{"sku": "salt", "quantity": 1}]


async def test_what_rabbitmq_knows_of_a_message(url: str, subject: str, until: Until) -> None:
    service, seen = Service(subject), list[RabbitMessage]()

    @service.subscribe(subject, durable=False, queue=None)
    async def take(event: int, context: Context) -> None:
        seen.append(RabbitMessage.of(context))

    await service.start(url)
    async with raw_channel(url) as channel:
        await publish_raw(channel, subject, Properties(headers={"Tag": ["a", "b"], "tag": "c"}, message_type="t"))
        await until(lambda: seen)
    await service.stop()
    (message,) = seen
    assert (message.exchange, message.routing_key, message.redelivered, message.type) == ("events", subject, False, "t")
    assert sorted(message.values("TAG")) == ["a", "b", "c"]
    assert (message.content_type, message.timestamp, message.reply_to) == (None, None, None)


async def test_what_rabbitmq_knows_of_each_message_of_a_batch(url: str, subject: str, until: Until) -> None:
    service, seen = Service(subject), list[RabbitMessage]()

    @service.subscribe(subject, batch=Batch(size=3, within=20.0))
    async def take(events: list[int], context: Context) -> None:
        with pytest.raises(UsageError, match=r"3 messages here.*all_of"):
            RabbitMessage.of(context)
        seen.extend(RabbitMessage.all_of(context))

    await service.start(url)
    async with Client(url) as client:
        for number in range(3):
            await client.publish(Topic(subject, int), number, id=str(number))
        await until(lambda: seen)
    await service.stop()
    assert [message.message_id for message in seen] == ["0", "1", "2"]


async def test_what_came_over_another_broker_is_said_to_have() -> None:
    service, errors = Service("other", broker="memory://of-another"), list[UsageError]()

    @service.subscribe("other.event", durable=False)
    async def take(event: int, context: Context) -> None:
        with pytest.raises(UsageError, match=r"'other.event' came over another broker") as error:
            RabbitMessage.of(context)
        errors.append(error.value)

    async with service:
        await service.publish("other.event", 1)
        while not errors:
            await asyncio.sleep(0)


async def test_a_content_type_is_a_header_to_us_where_it_was_named(url: str, subject: str, until: Until) -> None:
    got: list[Delivery] = []
    async with RabbitBroker(url) as broker:
        await broker.subscribe(subject, got.append)
        await broker.publish(Message(subject, b"{}", content_type="application/json"))
        await broker.publish(Message(subject, b"x", {"Kind": "x"}, content_type="application/octet-stream"))
        await broker.publish(Message(subject, b"{}"))
        await broker.publish(Message(subject, b"{}", {"Content-Type": "application/json"}))
        await until(lambda: len(got) == 4)
    named = {"Content-Type": "application/json"}
    assert [delivery.headers for delivery in got] == [None, {"Kind": "x"}, None, named]
