"""What the tests on RabbitMQ share: its server, a channel of aio-pika's, servers that say nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiormq
from aiormq.abc import AbstractChannel, ChannelFrame
from eventmicro_rabbitmq.connection.frames import publish_frames
from pamqp.commands import Basic

Until = Callable[[Callable[[], object]], Awaitable[None]]


Properties = Basic.Properties


@asynccontextmanager
async def raw_channel(url: str) -> AsyncIterator[AbstractChannel]:
    """RabbitMQ without us."""
    connection = await aiormq.connect(url)
    try:
        yield await connection.channel()
    finally:
        await connection.close()


async def publish_raw(
    channel: AbstractChannel, subject: str, properties: Properties, change: tuple[bytes, bytes] = (b"", b"")
) -> None:
    """Publish b"1" with these properties alone, to which aiormq would add an id; change some bytes on their way."""
    data = publish_frames(channel.number, "events", subject, properties, b"1", False, 131_072)
    await channel.connection.write_queue.put(ChannelFrame(data.replace(*change) if change[0] else data, False))
