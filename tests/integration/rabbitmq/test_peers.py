"""RabbitMQ as other frameworks set it up: kombu, aio-pika and FastStream publish to us, and consume what we publish."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aio_pika
import pytest
from eventmicro_rabbitmq import RabbitExchange, RabbitQueue
from faststream.rabbit import ExchangeType
from faststream.rabbit import RabbitBroker as FastStream
from faststream.rabbit import RabbitExchange as FastExchange
from faststream.rabbit import RabbitQueue as FastQueue

from eventmicro.client import Client
from eventmicro.service import Service
from eventmicro.topic import Topic
from tests.integration.rabbitmq.kit import Until

kombu: Any = pytest.importorskip("kombu", reason="kombu is not installed: pip install kombu")


def keeping(url: str, subject: str, topic: Topic[dict[str, int]], queue: RabbitQueue) -> tuple[Service, list[Any]]:
    """A service that keeps what comes."""
    service, got = Service(subject, broker=url), list[Any]()

    @service.subscribe(topic, queue=queue)
    async def keep(event: dict[str, int]) -> None:
        got.append(event)

    return service, got


async def test_kombu(url: str, subject: str, until: Until) -> None:
    """A direct exchange, a classic queue of ten priorities: celery's, under names of its own."""
    exchange = kombu.Exchange(f"{subject}.celery", type="direct")
    queue = kombu.Queue(subject, exchange, routing_key=subject, max_priority=10)
    theirs: list[Any] = []

    def publish(*bodies: dict[str, int]) -> None:
        with kombu.Connection(url.partition("?")[0]) as connection:
            producer = connection.Producer(serializer="json")
            for body in bodies:
                producer.publish(body, exchange=exchange, routing_key=subject, declare=[queue])

    def take(body: Any, message: Any) -> None:
        theirs.append(json.loads(message.body))
        message.ack()

    def consume() -> None:
        with (
            kombu.Connection(url.partition("?")[0]) as connection,
            connection.Consumer(queue, callbacks=[take]),
        ):
            while len(theirs) < 2:
                connection.drain_events(timeout=20)

    await asyncio.to_thread(publish, {"n": 1})
    topic = Topic(subject, dict[str, int], exchange=RabbitExchange(exchange.name, type="direct"))
    service, got = keeping(url, subject, topic, RabbitQueue(subject, type="classic", max_priority=10))
    async with service:
        await asyncio.to_thread(publish, {"n": 2})
        await until(lambda: len(got) == 2)
    async with Client(url) as client:
        await client.publish(topic, {"n": 3})
        await client.publish(topic, {"n": 4})
    await asyncio.to_thread(consume)
    assert (got, theirs) == ([{"n": 1}, {"n": 2}], [{"n": 3}, {"n": 4}])


async def test_aio_pika(url: str, subject: str, until: Until) -> None:
    """A fanout exchange with an alternate one, and a quorum queue with a limit and a dead letter exchange."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_exchange(f"{subject}.rest", aio_pika.ExchangeType.FANOUT, durable=True)
        exchange = await channel.declare_exchange(
            f"{subject}.shop",
            aio_pika.ExchangeType.FANOUT,
            durable=True,
            arguments={"alternate-exchange": f"{subject}.rest"},
        )
        arguments: dict[str, Any] = {
            "x-queue-type": "quorum",
            "x-delivery-limit": 9,
            "x-dead-letter-exchange": f"{subject}.rest",
        }
        queue = await channel.declare_queue(subject, durable=True, arguments=arguments)
        await queue.bind(exchange, "")
        await exchange.publish(aio_pika.Message(b'{"n": 1}', content_type="application/json"), "")
        topic = Topic(subject, dict[str, int], exchange=RabbitExchange(exchange.name, type="fanout"))
        service, got = keeping(url, subject, topic, RabbitQueue(subject, bind=False))
        async with service:
            await exchange.publish(aio_pika.Message(b'{"n": 2}'), "anything")
            await until(lambda: len(got) == 2)
        async with Client(url) as client:
            await client.publish(topic, {"n": 3})
        theirs = await queue.get(timeout=20)
        await theirs.ack()
        await queue.delete(if_unused=False, if_empty=False)
        await exchange.delete()
    assert got == [{"n": 1}, {"n": 2}]
    assert theirs.body == b'{"n":3}'


@pytest.mark.parametrize("kind", ["topic", "headers", ""])
async def test_faststream(url: str, subject: str, kind: str, until: Until) -> None:
    """Its queues are classic and last no restart unless it is told so."""
    by_default = not kind
    fast = FastStream(url, logger=None)
    queue = FastQueue(
        subject, durable=True, bind_arguments={"x-match": "any", "kind": "new"} if not by_default else None
    )
    where: dict[str, Any] = (
        {} if by_default else {"exchange": FastExchange(f"{subject}.x", type=ExchangeType(kind), durable=True)}
    )
    theirs: list[Any] = []

    @fast.subscriber(queue, **where)
    async def see(event: dict[str, int]) -> None:
        theirs.append(event)

    exchange = RabbitExchange("") if by_default else RabbitExchange(f"{subject}.x", type=kind)
    topic = Topic(subject, dict[str, int], exchange=exchange)
    headers = {"kind": "new"}
    async with fast:
        await fast.start()
        async with Client(url) as client:
            await client.publish(topic, {"n": 1}, metadata=headers)
        await until(lambda: theirs)
    service, got = keeping(url, subject, topic, RabbitQueue(subject, bind=False))
    sending = FastStream(url, logger=None)
    async with service, sending:
        await sending.start()
        await sending.publish({"n": 2}, queue=subject, headers=headers, **where)
        await until(lambda: got)
    assert (theirs, got) == ([{"n": 1}], [{"n": 2}])
