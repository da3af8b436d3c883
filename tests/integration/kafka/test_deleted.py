"""Topics that others delete while they are read: they stay deleted, and are read again when they are made again."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from eventmicro_kafka import KafkaBroker

from eventmicro.broker import Durable
from eventmicro.message import Delivery, Message
from tests.conftest import Until
from tests.integration.kafka.admin import administrator, make_topic


async def delete(url: str, topic: str) -> None:
    """Delete it, and ask for it by its name no more, by which the broker would make it anew."""
    async with administrator(url) as admin:
        await admin.delete_topics([topic])


async def topics(url: str) -> set[str]:
    async with administrator(url) as admin:
        return set(await admin.list_topics())


@pytest.mark.parametrize(("durable", "queue"), [(Durable(), "q"), (None, "q"), (None, None)])
async def test_a_topic_of_a_pattern_that_is_deleted_stays_deleted_and_comes_back(
    kafka_url: str, subject: str, until: Until, durable: Durable | None, queue: str | None
) -> None:
    got: list[Any] = []
    kept, gone = f"{subject}.kept", f"{subject}.gone"
    for topic in (kept, gone):
        await make_topic(kafka_url, topic)
    async with KafkaBroker(f"{kafka_url}?topics_interval=0.2") as broker, KafkaBroker(kafka_url) as publisher:
        name = None if queue is None else f"{queue}-{subject}"

        def take(delivery: Delivery) -> None:
            got.append((delivery.subject, delivery.body))
            delivery.try_ack()

        subscription: Any = await broker.subscribe(f"{subject}.*", take, queue=name, durable=durable)
        await publisher.publish(Message(gone, b"1"))
        await until(lambda: (gone, b"1") in got)
        await delete(kafka_url, gone)
        await until(lambda: subscription._following.names == [kept])
        await publisher.publish(Message(kept, b"2"))
        await until(lambda: (kept, b"2") in got)
        assert gone not in await topics(kafka_url)
        await make_topic(kafka_url, gone)
        await until(lambda: subscription._following.names == [gone, kept])
        await publisher.publish(Message(gone, b"3"))
        await until(lambda: (gone, b"3") in got)
    assert got == [(gone, b"1"), (kept, b"2"), (gone, b"3")]


async def test_two_patterns_of_one_queue_are_two_members_of_one_instance(
    kafka_url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[bytes] = []

    def take(delivery: Delivery) -> None:
        got.append(delivery.body)
        delivery.try_ack()

    await make_topic(kafka_url, f"{subject}.a")
    async with KafkaBroker(f"{kafka_url}?instance=pod-0&topics_interval=0.2") as broker:
        with caplog.at_level(logging.ERROR):
            for pattern in (f"{subject}.*", f"{subject}.>"):
                await broker.subscribe(pattern, take, queue=f"q-{subject}", durable=Durable())
            assert broker._connection is not None
            subscriptions: list[Any] = list(broker._connection.subscriptions)
            instances = {each._member._instance for each in subscriptions}
            assert instances == {f"pod-0-{subject}.-", f"pod-0-{subject}.--"}
            await broker.publish(Message(f"{subject}.a", b"1"))
            await until(lambda: got)
    assert got == [b"1"]
    assert not caplog.records
