"""What other clients send by their own defaults is handled, and they read what is sent from here, on each broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import aio_pika
import kombu
import nats
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from cloudevents.core.bindings import http, kafka
from cloudevents.core.bindings import rabbitmq as rabbit
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as TheirEvent
from faststream.kafka import KafkaBroker
from faststream.nats import NatsBroker
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from pydantic import BaseModel

from eventmicro import Client, CloudEvent, CloudEvents, Depends, Service, Topic

Until = Callable[[Callable[[], object]], Awaitable[None]]
BROKERS = ["nats", "jetstream", "rabbitmq", "kafka"]
EVENTS = RabbitExchange("events", type=ExchangeType.TOPIC, durable=True, declare=False)
FORMAT = JSONFormat()


class Order(BaseModel):
    sku: str


def plain(url: str) -> str:
    return url.partition("?")[0].replace("jetstream://", "nats://")


def server(url: str) -> str:
    return url.partition("://")[2].partition("?")[0]


def stream_of(broker: Any, url: str) -> Any:
    """FastStream's broker, and how it publishes to a subject."""
    if url.startswith("amqp"):
        return lambda value, subject: broker.publish(value, exchange=EVENTS, routing_key=subject, persist=True)
    return broker.publish


def faststream(url: str) -> Any:
    if url.startswith("amqp"):
        return RabbitBroker(url)
    return KafkaBroker(server(url)) if url.startswith("kafka") else NatsBroker(plain(url))


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("broker", BROKERS)
async def test_what_faststream_publishes_is_handled(
    broker: str, request: pytest.FixtureRequest, subject: str, until: Until
) -> None:
    url, got = request.getfixturevalue(f"{broker}_url"), list[Any]()
    service = Service(subject, broker=url)
    kinds: dict[str, Any] = {"text": str, "number": int, "order": Order, "bytes": bytes}
    sent = {
        "text": ["Hello!", "größer", ""],
        "number": [42, "43"],
        "order": [Order(sku="a"), {"sku": "b"}, b'{"sku":"c"}'],
    }
    sent["bytes"] = [b"\x00", "text"]

    for name, kind in kinds.items():

        def handler(name: str) -> Callable[[Any], Awaitable[None]]:
            async def take(event: Any) -> None:
                got.append((name, event))

            return take

        service.subscribe(Topic(f"{subject}.{name}", kind), name=name)(handler(name))
    async with service, faststream(url) as theirs:
        publish = stream_of(theirs, url)
        for name, values in sent.items():
            for value in values:
                await publish(value, f"{subject}.{name}")
        await until(lambda: len(got) == sum(map(len, sent.values())))
    # Without keys they have no order on Kafka, where each may be in another partition.
    taken = {name: sorted((event for where, event in got if where == name), key=repr) for name in kinds}
    assert taken == {
        "text": ["", "Hello!", "größer"],
        "number": [42, 43],
        "order": [Order(sku="a"), Order(sku="b"), Order(sku="c")],
        "bytes": [b"\x00", b"text"],
    }


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("broker", BROKERS)
@pytest.mark.parametrize("content_type", [None, "text"])
async def test_faststream_reads_a_text_that_is_published_here(
    broker: str, content_type: str | None, request: pytest.FixtureRequest, subject: str, until: Until
) -> None:
    url, got = request.getfixturevalue(f"{broker}_url"), list[str]()
    theirs, topic = faststream(url), Topic(subject, str, content_type=content_type)
    options: dict[str, Any] = {}
    async with Client(url) as client:
        if broker == "rabbitmq":
            await client.publish(topic, "for nobody")  # which makes the exchange
            where: Any = RabbitQueue(subject, routing_key=subject)
            options = {"exchange": EVENTS}
        else:
            where = subject
        if broker == "kafka":
            await client.publish(topic, "größer")
            options = {"auto_offset_reset": "earliest", "group_id": subject}

        @theirs.subscriber(where, **options)
        async def take(body: str) -> None:
            got.append(body)

        async with theirs:
            await theirs.start()
            while not got:  # it does not say when its subscription has reached the server
                await client.publish(topic, "größer")
                await asyncio.sleep(0.1)
    assert set(got) == {"größer"}


@pytest.mark.timeout_seconds(60)
async def test_what_kombu_publishes_is_handled_however_it_is_written(
    rabbitmq_url: str, subject: str, until: Until
) -> None:
    service, got = Service(subject, broker=rabbitmq_url), list[Any]()

    @service.subscribe(Topic(f"{subject}.order", Order))
    async def order(event: Order) -> None:
        got.append(event)

    @service.subscribe(Topic(f"{subject}.text", str))
    async def text(event: str) -> None:
        got.append(event)

    def publish() -> None:
        confirms = {"confirm_publish": True}  # what is closed without may not have come
        with (
            kombu.Connection(rabbitmq_url, transport_options=confirms) as connection,
            connection.Producer() as producer,
        ):
            producer.publish({"sku": "a"}, exchange="events", routing_key=f"{subject}.order")
            producer.publish({"sku": "b"}, exchange="events", routing_key=f"{subject}.order", serializer="json")
            producer.publish(
                "größer",
                exchange="events",
                routing_key=f"{subject}.text",
                content_type="text/plain",
                content_encoding="utf-8",
            )
            producer.publish("größer", exchange="events", routing_key=f"{subject}.text", serializer="json")

    async with service:
        await asyncio.to_thread(publish)
        await until(lambda: len(got) >= 4)
    assert sorted(map(repr, got)) == sorted(map(repr, [Order(sku="a"), Order(sku="b"), "größer", "größer"]))


THEIRS: dict[str, Any] = {
    "id": "1",
    "source": "/theirs",
    "type": "placed",
    "specversion": "1.0",
    "datacontenttype": "application/json",
    "subject": "2%25 off größer",
}
OURS = CloudEvents(source="/ours", type="placed", subject=lambda order: "2%25 off größer")


@asynccontextmanager
async def foreign(url: str, subject: str) -> AsyncIterator[tuple[Any, list[Any]]]:
    """A foreign client: what publishes an event of the SDK, and the events of the SDK that it reads."""
    read: list[Any] = []
    if url.startswith("amqp"):
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange("events", "topic", durable=True)
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(exchange, subject)

            async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
                headers = {name: str(value) for name, value in message.headers.items()}
                came = rabbit.RabbitMQMessage(headers, message.content_type, message.body)
                read.append(rabbit.from_rabbitmq(came, FORMAT))

            await queue.consume(take, no_ack=True)

            async def publish(event: TheirEvent, structured: bool) -> None:
                sent = (rabbit.to_structured if structured else rabbit.to_binary)(event, FORMAT)
                message = aio_pika.Message(sent.body, headers=dict(sent.headers), content_type=sent.content_type)
                await exchange.publish(message, subject)

            yield publish, read
    elif url.startswith("kafka"):
        options: dict[str, Any] = {"bootstrap_servers": server(url)}
        async with AIOKafkaProducer(**options) as producer:

            async def publish(event: TheirEvent, structured: bool) -> None:
                sent = (kafka.to_structured_event if structured else kafka.to_binary_event)(event)
                await producer.send_and_wait(subject, sent.value, sent.key, headers=list(sent.headers.items()))

            yield publish, read
            async with AIOKafkaConsumer(subject, auto_offset_reset="earliest", **options) as consumer:
                while len(read) < 4:
                    record = await consumer.getone()
                    came = kafka.KafkaMessage(dict(record.headers), record.key, record.value)
                    read.append(kafka.from_kafka_event(came))
    else:
        connection = await nats.connect(plain(url))

        async def take_nats(message: Any) -> None:
            read.append(http.from_http_event(http.HTTPMessage(message.headers, message.data)))

        await connection.subscribe(subject, cb=take_nats)
        await connection.flush()

        async def publish(event: TheirEvent, structured: bool) -> None:
            sent = (http.to_structured_event if structured else http.to_binary_event)(event)
            await connection.publish(subject, sent.body, headers=dict(sent.headers))

        yield publish, read
        await connection.close()


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("broker", BROKERS)
async def test_cloudevents_of_the_sdk_are_read_and_it_reads_ours_in_both_modes(
    broker: str, request: pytest.FixtureRequest, subject: str, until: Until
) -> None:
    url, got = request.getfixturevalue(f"{broker}_url"), list[tuple[Order, CloudEvent]]()
    service = Service(subject, broker=url)
    topics = [Topic(subject, Order, cloudevents=OURS), Topic(subject, Order, cloudevents="structured")]

    @service.subscribe(Topic(subject, Order))
    async def take(order: Order, about: Annotated[CloudEvent, Depends(CloudEvent.of)]) -> None:
        got.append((order, about))

    async with service, foreign(url, subject) as (publish, read):
        for structured in (False, True):
            await publish(TheirEvent(dict(THEIRS), {"sku": "theirs"}), structured)
        for number, topic in enumerate(topics):
            await service.publish(topic, Order(sku="ours"), id=f"ev-{number}")
        await until(lambda: len(got) >= 4 and (broker == "kafka" or len(read) >= 4))
    said = sorted((order.sku, about.id, about.source, about.type, about.subject or "") for order, about in got)
    theirs = ("theirs", "1", "/theirs", "placed", "2%25 off größer")
    assert said == [
        ("ours", "ev-0", "/ours", "placed", "2%25 off größer"),
        ("ours", "ev-1", f"/{subject}", subject, ""),
        theirs,
        theirs,
    ]
    told = sorted((event.get_data()["sku"], event.get_id(), event.get_subject() or "") for event in read)
    assert told == sorted((sku, name, about) for sku, name, _, _, about in said)
