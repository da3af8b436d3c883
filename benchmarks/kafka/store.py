"""What Kafka itself says of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient


def bootstrap(url: str) -> str:
    """What aiokafka takes of a `kafka://` URL."""
    return url.removeprefix("kafka://")


async def stored(url: str, name: str) -> int:
    """How many events the partitions of the topic have had."""
    return sum((await ends(url, name)).values())


async def unsettled(url: str, name: str) -> int:
    """How many events the group has not committed."""
    async with admin(url) as own:
        committed = await own.list_consumer_group_offsets(name)
    return sum([end - committed[at].offset if at in committed else end for at, end in (await ends(url, name)).items()])


async def remove(url: str, name: str) -> None:
    """Remove the topic."""
    async with admin(url) as own:
        await own.delete_topics([name])


async def ends(url: str, name: str) -> dict[TopicPartition, int]:
    """Where each partition of the topic ends."""
    async with AIOKafkaConsumer(name, bootstrap_servers=bootstrap(url)) as consumer:
        found: dict[TopicPartition, int] = await consumer.end_offsets(consumer.assignment())
        return found


@asynccontextmanager
async def admin(url: str) -> AsyncIterator[AIOKafkaAdminClient]:
    own = AIOKafkaAdminClient(bootstrap_servers=bootstrap(url))
    await own.start()
    try:
        yield own
    finally:
        await own.close()
