"""What the tests of a Kafka subscription share: its records, and its pump."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from eventmicro_kafka.consuming.subscription import KafkaSubscription

PLACE = TopicPartition("t", 0)


def records(offsets: range) -> list[Any]:
    return [SimpleNamespace(offset=offset, key=b"k", value=b"", headers=()) for offset in offsets]


@asynccontextmanager
async def pumping(subscription: KafkaSubscription) -> AsyncIterator[None]:
    """What has been taken is handed over meanwhile."""
    pump = asyncio.create_task(subscription._pump())
    try:
        yield
    finally:
        pump.cancel()
        await asyncio.wait([pump])
