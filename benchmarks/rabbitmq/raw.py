"""The yardstick: aio-pika by hand, a quorum queue behind a topic exchange, persistent messages, publisher confirms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractIncomingMessage

from benchmarks.messages import Reading
from benchmarks.peer import Publishing, Take

EXCHANGE = "bench"
PREFETCH = 256


class Raw:
    """aio-pika by hand."""

    @asynccontextmanager
    async def consumer(self, url: str, name: str, take: Take) -> AsyncIterator[None]:
        async with await aio_pika.connect_robust(url) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=PREFETCH)
            queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
            exchange = await channel.declare_exchange(EXCHANGE, ExchangeType.TOPIC, durable=True)
            await queue.bind(exchange, name)

            async def handle(message: AbstractIncomingMessage) -> None:
                take(Reading.model_validate_json(message.body))
                await message.ack()

            tag = await queue.consume(handle)
            yield
            await queue.cancel(tag)

    @asynccontextmanager
    async def publisher(self, url: str, name: str) -> AsyncIterator[Publishing]:
        async with await aio_pika.connect_robust(url) as connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange(EXCHANGE, ExchangeType.TOPIC, durable=True)

            async def one(reading: Reading) -> None:
                message = Message(reading.model_dump_json().encode(), delivery_mode=DeliveryMode.PERSISTENT)
                await exchange.publish(message, name)

            async def many(readings: Sequence[Reading]) -> None:
                await asyncio.gather(*map(one, readings))

            yield Publishing(one, many)
