"""RabbitMQ: a topic's `ttl` and `priority` as others see them, and what the server does by them."""

from __future__ import annotations

import pytest
from eventmicro_rabbitmq import RabbitBroker, RabbitMessage, RabbitQueue

from eventmicro import Client, Context, Service, Topic
from eventmicro.broker import Durable
from eventmicro.errors import UsageError
from eventmicro.message import Bounded, Delivery
from tests.integration.rabbitmq.kit import Until, raw_channel


async def test_they_are_the_properties_that_others_know_and_a_retry_has_no_end(
    url: str, subject: str, until: Until
) -> None:
    topic = Topic(f"{subject}.placed", int, ttl=600, priority=7, exchange=None)
    seen: list[tuple[int, str | None, int | None]] = []
    service = Service(subject)

    @service.subscribe(topic)
    async def take(event: int, context: Context) -> None:
        message = RabbitMessage.of(context)
        seen.append((event, message.expiration, message.priority))

    async with raw_channel(url) as channel:
        await service.start(url)
        async with Client(url) as client:
            await client.publish(topic, 1)
            await client.publish_many(topic, [2], metadata={"Name": "value"})
            await client.publish(f"{subject}.placed", 3)
        await until(lambda: len(seen) == 3)
        await service.stop()
        await channel.queue_delete(f"{subject}.take")
        await channel.queue_delete(f"dead.{subject}.take")
    assert seen == [(1, "600000", 7), (2, "600000", 7), (3, None, None)]


async def test_a_queue_that_knows_priorities_serves_the_urgent_ones_first(url: str, subject: str, until: Until) -> None:
    place, got = RabbitQueue(subject, type="classic", max_priority=10), list[bytes]()

    def receive(delivery: Delivery) -> None:
        got.append(delivery.body)
        delivery.try_ack()

    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        made = await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable(), place=place)
        await made.drain()
        for priority in (None, 2, 9, 5):
            await broker.publish(Bounded(subject, str(priority).encode(), priority=priority))
        await broker.subscribe(subject, receive, queue=subject, durable=Durable(prefetch=1), place=place)
        await until(lambda: len(got) == 4)
        await channel.queue_delete(subject)
    assert got == [b"9", b"5", b"2", b"None"]


async def test_what_is_over_is_in_the_dead_letters_of_its_queue_and_stays_there(
    url: str, subject: str, until: Until
) -> None:
    dead, letters = f"dead.{subject}", list[Delivery]()
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        durable = Durable(dead_letter=dead)
        made = await broker.subscribe(subject, lambda _: None, queue=subject, durable=durable)
        await made.drain()
        await broker.publish(Bounded(subject, b"brief", ttl=0.05))
        await broker.subscribe(dead, letters.append, queue=dead, durable=Durable())
        await until(lambda: letters)
        await channel.queue_delete(subject)
        await channel.queue_delete(dead)
    assert [letter.body for letter in letters] == [b"brief"]
    assert letters[0].properties.expiration in (None, "")  # type: ignore[attr-defined]


async def test_a_time_that_rabbitmq_cannot_keep_is_refused(url: str, subject: str) -> None:
    async with RabbitBroker(url) as broker:
        with pytest.raises(UsageError, match=rf"{subject}: ttl=5e\+06: RabbitMQ takes up to 50 days"):
            await broker.publish(Bounded(subject, b"", ttl=5e6))
