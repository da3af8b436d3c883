"""What the tests on Kafka share: publishing under load, topics and their records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

Until = Callable[[Callable[[], object]], Awaitable[None]]


async def records_of(url: str, topic: str) -> AsyncIterator[Any]:
    """All that is in a topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=url.removeprefix("kafka://"), auto_offset_reset="earliest")
    await consumer.start()
    try:
        count = len(await consumer._client._wait_on_metadata(topic))
        places = [TopicPartition(topic, number) for number in range(count)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        left = sum(ends.values())
        while left > 0:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                left -= len(records)
                for record in records:
                    yield record
    finally:
        await consumer.stop()


async def read_topic(url: str, topic: str) -> list[bytes]:
    return [record.value async for record in records_of(url, topic)]
