"""RabbitMQ: a topic's `ttl` and `priority` as others see them, and what the server does by them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eventmicro_rabbitmq import RabbitBroker, RabbitExchange, RabbitMessage, RabbitProperties, RabbitQueue
from eventmicro_rabbitmq.outgoing import properties_of
from eventmicro_rabbitmq.topology import SAID

from eventmicro import Client, Context, Retry, Service, Topic
from eventmicro.broker import Durable
from eventmicro.errors import UsageError
from eventmicro.message import Bounded, Delivery, Message, Routed
from tests.integration.rabbitmq.kit import Properties, Until, raw_channel


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


async def test_what_else_an_event_says_is_in_properties_and_stays_on_a_retry(
    url: str, subject: str, until: Until
) -> None:
    topic = Topic(f"{subject}.placed", int, ttl=600, priority=7)
    seen: list[tuple[str | None, str | None, str | None, str | None, int | None, dict[str, str]]] = []
    service = Service(subject)

    @service.subscribe(topic, retry=Retry(backoff=0.01))
    async def take(event: int, context: Context) -> None:
        message = RabbitMessage.of(context)
        about = message.type, message.app_id, message.reply_to, message.user_id, message.priority
        seen.append((*about, dict(context.metadata)))
        if len(seen) == 1:
            raise ValueError("again")

    said = RabbitProperties(type="order.placed", app_id="shop", reply_to="answers", user_id="guest")
    async with raw_channel(url) as channel:
        await service.start(url)
        async with Client(url) as client:
            await client.publish(topic, 1, metadata={**said, "Tenant": "acme", "type": "a header"})
        await until(lambda: len(seen) == 2)
        await service.stop()
        await channel.queue_delete(f"{subject}.take")
        await channel.queue_delete(f"dead.{subject}.take")
    about = "order.placed", "shop", "answers"
    assert [each[:5] for each in seen] == [(*about, "guest", 7), (*about, None, 7)], "a copy is of whoever makes it"
    assert all(each[5].items() >= {"Tenant": "acme", "type": "a header"}.items() for each in seen)
    assert not [name for each in seen for name in each[5] if name.startswith("amqp")]


MEANT = [
    ({"priority": "7"}, r"write Topic\(..., priority=…\)"),
    ({"expiration": "60000"}, r"write Topic\(..., ttl=seconds\)"),
    ({"x-delay": "5000"}, r"type='x-delayed-message'"),
]


@pytest.mark.parametrize(
    ("metadata", "mend"), MEANT, ids=lambda value: next(iter(value)) if value != str(value) else ""
)
async def test_metadata_that_is_meant_for_rabbitmq_is_refused_with_what_says_it(
    url: str, subject: str, metadata: dict[str, str], mend: str
) -> None:
    async with Client(url) as client:
        with pytest.raises(UsageError, match=mend):
            await client.publish(subject, 1, metadata=metadata)
        await client.publish(subject, 1, metadata={"priority": "high", "expiration": "soon", "user_id": "42"})


async def test_a_user_id_that_is_refused_is_nobody_elses_failure(url: str, subject: str) -> None:
    """Though RabbitMQ ends the channel for it, on which the confirms of others were awaited."""
    async with RabbitBroker(url) as broker:
        said = dict(RabbitProperties(user_id="root"))
        events = [Message(subject, headers=said if number == 20 else None) for number in range(50)]
        done = await asyncio.gather(*map(broker.publish, events), return_exceptions=True)
        refused = [error for error in done if error is not None]
        assert len(refused) == 1
        assert done[20] is refused[0]
        assert "user_id property set to 'root'" in str(refused[0])
        await broker.publish(Message(subject, headers=dict(RabbitProperties(user_id="guest"))))


async def test_what_a_peer_writes_as_if_it_were_said_here_is_not_handed_on_as_a_property(
    url: str, subject: str, until: Until
) -> None:
    """By a handler that publishes with the metadata that it got, which RabbitMQ would refuse for the peer's user_id."""
    service, seen = Service(subject, broker=url), list[dict[str, str]]()

    @service.subscribe(f"{subject}.came")
    async def forward(event: int, context: Context) -> None:
        await service.publish(f"{subject}.gone", event, metadata=dict(context.metadata))

    @service.subscribe(f"{subject}.gone")
    async def take(event: int, context: Context) -> None:
        seen.append(dict(context.metadata))

    meant = {"Tenant": "acme", "priority": "7", "expiration": "60000"}  # headers of theirs, and not ours to refuse
    theirs: dict[str, Any] = dict.fromkeys(SAID, "root") | meant
    async with raw_channel(url) as channel:
        async with service:
            await channel.basic_publish(
                b"1", exchange="events", routing_key=f"{subject}.came", properties=Properties(headers=theirs)
            )
            await until(lambda: seen)
        for name in ("forward", "take"):
            await channel.queue_delete(f"{subject}.{name}")
            await channel.queue_delete(f"dead.{subject}.{name}")
    assert [{name: each[name] for name in each if name in theirs} for each in seen] == [meant]


async def test_an_exchange_that_delays_gets_a_number() -> None:
    delayed = RabbitExchange("later", type="x-delayed-message", arguments={"x-delayed-type": "topic"})
    message = Routed("a", headers={"x-delay": "5000", "Tenant": "acme"}, exchange=delayed)
    assert properties_of(message, "1").headers == {"x-delay": 5000, "Tenant": "acme"}
    for text in ("5 s", "4294967296", "9" * 30, "9" * 5000):
        with pytest.raises(UsageError, match="write milliseconds"):
            properties_of(Routed("a", headers={"x-delay": text}, exchange=delayed), "1")


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
