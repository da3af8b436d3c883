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
        async with asyncio.timeout(20):
            with pytest.raises(NotStored, match=r"cleanup\.policy=compact takes none without a key"):
                await publish_until_refused(broker, Message(subject, b"without a key"))
        await broker.publish(Message(subject, b"2", key="k"))
        await until(lambda: one.bodies[:1] == [b"1"] and one.bodies[-1] == b"2")


async def publish_until_refused(broker: KafkaBroker, message: Message) -> None:
    """A broker takes its time to know that a topic is changed."""
    while True:
        await broker.publish(message)
