"""FastStream's RabbitBroker with the same queue, prefetch and confirms as by hand, its log off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from faststream.rabbit import Channel, ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue

from benchmarks.messages import Reading
from benchmarks.peer import Publishing, Take
from benchmarks.rabbitmq.raw import EXCHANGE, PREFETCH

BENCH = RabbitExchange(EXCHANGE, type=ExchangeType.TOPIC, durable=True)


class FastStream:
    """FastStream on both sides."""

    @asynccontextmanager
    async def consumer(self, url: str, name: str, take: Take) -> AsyncIterator[None]:
        async with RabbitBroker(url, logger=None, default_channel=Channel(prefetch_count=PREFETCH)) as broker:

            @broker.subscriber(RabbitQueue(name, queue_type=QueueType.QUORUM, durable=True), BENCH)
            async def handle(reading: Reading) -> None:
                take(reading)

            await broker.start()
            yield

    @asynccontextmanager
    async def publisher(self, url: str, name: str) -> AsyncIterator[Publishing]:
        async with RabbitBroker(url, logger=None) as broker:
            await broker.start()

            async def one(reading: Reading) -> None:
                await broker.publish(reading, name, BENCH, persist=True)

            async def many(readings: Sequence[Reading]) -> None:
                await asyncio.gather(*map(one, readings))

            yield Publishing(one, many)
