"""FastStream's KafkaBroker as it is by default, which commits every 5 s, before the handler; its log off."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from faststream.kafka import KafkaBroker

from benchmarks.kafka.raw import BATCH_BYTES
from benchmarks.kafka.store import bootstrap
from benchmarks.messages import Reading
from benchmarks.peer import Publishing, Take


class FastStream:
    """FastStream on both sides."""

    @asynccontextmanager
    async def consumer(self, url: str, name: str, take: Take) -> AsyncIterator[None]:
        async with KafkaBroker(bootstrap(url), logger=None) as broker:

            @broker.subscriber(name, group_id=name, auto_offset_reset="earliest")
            async def handle(reading: Reading) -> None:
                take(reading)

            await broker.start()
            yield

    @asynccontextmanager
    async def publisher(self, url: str, name: str) -> AsyncIterator[Publishing]:
        async with KafkaBroker(bootstrap(url), logger=None, acks="all", max_batch_size=BATCH_BYTES) as broker:
            await broker.start()

            async def one(reading: Reading) -> None:
                await broker.publish(reading, name)

            async def many(readings: Sequence[Reading]) -> None:
                await broker.publish_batch(*readings, topic=name)

            yield Publishing(one, many)
