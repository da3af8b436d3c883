"""The members on RabbitMQ: each binds a queue of its own to the exchange."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import aio_pika
import kombu
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue

from tests.fleet import ours
from tests.fleet.words import TEXT, Event, ended, forever, got, publish_all, published, ready, serve

EXCHANGE = "events"


async def aio_pika_publishes(url: str, subject: str, numbers: range) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(EXCHANGE)

        async def publish(n: int) -> None:
            body = json.dumps({"n": n, "by": "aio-pika", "text": TEXT}).encode()
            await exchange.publish(aio_pika.Message(body, content_type="application/json", delivery_mode=2), subject)

        await publish_all(numbers, publish)


async def aio_pika_consumes(url: str, subject: str) -> None:
    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        got(json.loads(message.body))
        await message.ack()

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(100)
        queue = await channel.declare_queue(f"{subject}-aio-pika", durable=True)
        await queue.bind(EXCHANGE, subject)
        await queue.consume(take)
        ready()
        await forever()


def connect(url: str) -> kombu.Connection:
    return kombu.Connection(url, transport_options={"confirm_publish": True})


def kombu_publishes(url: str, subject: str, numbers: range) -> None:
    with connect(url) as connection, connection.Producer(serializer="json") as producer:
        for n in numbers:
            event = {"n": n, "by": "kombu", "text": TEXT}
            producer.publish(event, exchange=EXCHANGE, routing_key=subject, delivery_mode=2)
            published(n)


def kombu_consumes(url: str, subject: str) -> None:
    exchange = kombu.Exchange(EXCHANGE, "topic", durable=True)
    queue = kombu.Queue(f"{subject}-kombu", exchange, subject, durable=True)

    def take(body: Any, message: kombu.Message) -> None:
        got(json.loads(body) if isinstance(body, str | bytes) else body)
        message.ack()

    with connect(url) as connection, connection.Consumer(queue, callbacks=[take], accept=["json"]) as consumer:
        consumer.qos(prefetch_count=100)
        ready()
        while not ended.is_set():
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.5)


EVENTS = RabbitExchange(EXCHANGE, type=ExchangeType.TOPIC, durable=True, declare=False)


async def faststream_publishes(url: str, subject: str, numbers: range) -> None:
    async with RabbitBroker(url) as broker:

        async def publish(n: int) -> None:
            event = Event(n=n, by="faststream")
            await broker.publish(event, exchange=EVENTS, routing_key=subject, persist=True)

        await publish_all(numbers, publish)


async def faststream_consumes(url: str, subject: str) -> None:
    broker = RabbitBroker(url)
    queue = RabbitQueue(f"{subject}-faststream", durable=True, routing_key=subject)

    @broker.subscriber(queue, EVENTS)
    async def take(body: Event) -> None:
        got(body)

    await serve(broker)


async def kombu_in_thread(url: str, subject: str, *numbers: range) -> None:
    await asyncio.to_thread(kombu_publishes if numbers else kombu_consumes, url, subject, *numbers)


PUBLISHERS: dict[str, Any] = {
    "eventmicro": ours.publish,
    "aio-pika": aio_pika_publishes,
    "kombu": kombu_in_thread,
    "faststream": faststream_publishes,
}
CONSUMERS: dict[str, Any] = {
    "eventmicro": ours.consume,
    "aio-pika": aio_pika_consumes,
    "kombu": kombu_in_thread,
    "faststream": faststream_consumes,
}
