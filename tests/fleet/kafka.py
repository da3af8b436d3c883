"""The members on Kafka: each has a group of its own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import confluent_kafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from tests.fleet import ours
from tests.fleet.words import TEXT, TOGETHER, Event, ended, got, publish_all, published, ready, serve

SESSION = 6000


def server(url: str) -> str:
    """The address as others have it."""
    return url.partition("://")[2].partition("?")[0]


async def aiokafka_publishes(url: str, subject: str, numbers: range) -> None:
    async with AIOKafkaProducer(bootstrap_servers=server(url), acks="all", linger_ms=5) as producer:

        async def publish(n: int) -> None:
            body = json.dumps({"n": n, "by": "aiokafka", "text": TEXT}).encode()
            await producer.send_and_wait(subject, body, key=str(n % 64).encode())

        await publish_all(numbers, publish)


async def aiokafka_consumes(url: str, subject: str) -> None:
    options: dict[str, Any] = {"enable_auto_commit": False, "auto_offset_reset": "earliest"}
    options |= {"group_id": f"{subject}-aiokafka", "session_timeout_ms": SESSION, "heartbeat_interval_ms": 1000}
    async with AIOKafkaConsumer(subject, bootstrap_servers=server(url), **options) as consumer:
        ready()
        while True:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    got(json.loads(record.value))
            await consumer.commit()


def confluent_publishes(url: str, subject: str, numbers: range) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": server(url), "acks": "all", "linger.ms": 5})
    for n in numbers:
        body = json.dumps({"n": n, "by": "confluent-kafka", "text": TEXT}).encode()
        producer.produce(subject, body, key=str(n % 64))
        if (n + 1) % TOGETHER == 0 or n == numbers[-1]:
            assert producer.flush(30) == 0
            published(n)


def confluent_consumes(url: str, subject: str) -> None:
    options = {"enable.auto.commit": False, "auto.offset.reset": "earliest", "session.timeout.ms": SESSION}
    named = {"bootstrap.servers": server(url), "group.id": f"{subject}-confluent-kafka"}
    consumer = confluent_kafka.Consumer({**named, **options})
    consumer.subscribe([subject])
    ready()
    while not ended.is_set():
        messages = consumer.consume(100, timeout=0.5)
        for message in messages:
            if message.error() is None:
                got(json.loads(message.value() or b""))
        if messages:
            consumer.commit(asynchronous=False)
    consumer.close()


async def faststream_publishes(url: str, subject: str, numbers: range) -> None:
    async with KafkaBroker(server(url)) as broker:

        async def publish(n: int) -> None:
            event = Event(n=n, by="faststream")
            await broker.publish(event, subject, key=str(n % 64).encode())

        await publish_all(numbers, publish)


async def faststream_consumes(url: str, subject: str) -> None:
    broker = KafkaBroker(server(url))

    @broker.subscriber(
        subject,
        group_id=f"{subject}-faststream",
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        session_timeout_ms=SESSION,
        heartbeat_interval_ms=1000,
    )
    async def take(body: Event) -> None:
        got(body)

    await serve(broker)


async def confluent_in_thread(url: str, subject: str, *numbers: range) -> None:
    await asyncio.to_thread(confluent_publishes if numbers else confluent_consumes, url, subject, *numbers)


PUBLISHERS: dict[str, Any] = {
    "eventmicro": ours.publish,
    "aiokafka": aiokafka_publishes,
    "confluent-kafka": confluent_in_thread,
    "faststream": faststream_publishes,
}
CONSUMERS: dict[str, Any] = {
    "eventmicro": ours.consume,
    "aiokafka": aiokafka_consumes,
    "confluent-kafka": confluent_in_thread,
    "faststream": faststream_consumes,
}
