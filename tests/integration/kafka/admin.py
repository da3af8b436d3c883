"""What an administrator does to a cluster beside the services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from eventmicro import Service


@asynccontextmanager
async def administrator(url: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=url.removeprefix("kafka://"))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def make_topic(
    url: str, name: str, config: Mapping[str, str] | None = None, *, partitions: int = 1, replicas: int = 1
) -> None:
    """Return when the broker knows it."""
    async with administrator(url) as admin:
        await admin.create_topics([NewTopic(name, partitions, replicas, topic_configs=dict(config or {}))])
        while (await admin.describe_topics([name]))[0]["error_code"]:
            await asyncio.sleep(0.01)


async def delete_topic(url: str, name: str) -> None:
    """Return when the broker knows it no more."""
    async with administrator(url) as admin:
        await admin.delete_topics([name])
        while not (await admin.describe_topics([name]))[0]["error_code"]:
            await asyncio.sleep(0.01)


async def add_partitions(url: str, name: str, count: int) -> None:
    async with administrator(url) as admin:
        await admin.create_partitions({name: NewPartitions(count)})


async def configure(url: str, name: str, **config: str) -> None:
    values = {key.replace("_", "."): value for key, value in config.items()}
    async with administrator(url) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=values)])


async def delete_records(url: str, name: str, before: int, partition: int = 0) -> None:
    async with administrator(url) as admin:
        await admin.delete_records({TopicPartition(name, partition): RecordsToDelete(before)})


async def config_of(url: str, name: str) -> dict[str, str]:
    async with administrator(url) as admin:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        return {entry[0]: entry[1] for entry in answer.resources[0][4]}


async def committed_of(url: str, group: str) -> dict[Any, int]:
    async with administrator(url) as admin:
        return {place: at.offset for place, at in (await admin.list_consumer_group_offsets(group)).items()}


@asynccontextmanager
async def foreign_producer(url: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=url.removeprefix("kafka://"), **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def running(service: Service, url: str) -> AsyncIterator[Service]:
    """A service over this broker, until the end."""
    await service.start(url)
    try:
        yield service
    finally:
        await service.stop()
