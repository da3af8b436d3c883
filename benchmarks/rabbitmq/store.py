"""What RabbitMQ itself says of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
from aio_pika.abc import AbstractChannel


@asynccontextmanager
async def channel(url: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(url) as connection:
        yield await connection.channel()


async def stored(url: str, name: str) -> int:
    """How many events are in the queue; that of a run that only publishes has them all."""
    async with channel(url) as own:
        queue = await own.declare_queue(name, passive=True)
        return queue.declaration_result.message_count or 0


# While a consumer is there, without those that it holds; they are back in the queue when it has gone.
unsettled = stored


async def remove(url: str, name: str) -> None:
    """Remove the queue."""
    async with channel(url) as own:
        await own.queue_delete(name)
