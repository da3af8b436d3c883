"""Kafka: what an administrator changes of topics while services are at work."""

from __future__ import annotations

import asyncio

import pytest
from eventmicro_kafka import KafkaBroker

from eventmicro.errors import NotStored
from eventmicro.message import Message
from tests.integration.kafka.admin import configure
from tests.integration.kafka.kit import Until
from tests.integration.kafka.workers import Worker, workers


async def test_a_topic_that_is_compacted_at_work_takes_nothing_without_a_key_and_loses_no_other(
    kafka_url: str, subject: str, until: Until
) -> None:
    one = Worker(kafka_url, subject)
    async with workers(one), KafkaBroker(kafka_url) as broker:
        await one.start()
        await broker.publish(Message(subject, b"1"))
        await configure(kafka_url, subject, cleanup_policy="compact")
        taken: list[bytes] = []
        async with asyncio.timeout(20):
            with pytest.raises(NotStored, match=r"cleanup\.policy=compact takes none without a key"):
                await publish_until_refused(broker, Message(subject, b"without a key"), taken)
        await broker.publish(Message(subject, b"2", key="k"))
        await until(lambda: sorted(one.bodies) == sorted([b"1", b"2", *taken]))  # of several partitions: in any order


async def publish_until_refused(broker: KafkaBroker, message: Message, taken: list[bytes]) -> None:
    """A broker takes its time to know that a topic is changed; those that it has taken before are noted."""
    while True:
        await broker.publish(message)
        taken.append(message.body)
