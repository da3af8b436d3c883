"""A channel that is kept for questions which come again and again, and all but never fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiormq.exceptions import ChannelNotFoundEntity

from eventmicro_rabbitmq.connection.channel import Channel, answered, open_channel
from eventmicro_rabbitmq.connection.connection import Connection


class KeptChannel:
    """One channel for all who ask, taken anew where it or its connection has ended.

    Args:
        timeout: how long the server may take to answer, in seconds.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()

    async def count(self, connection: Connection, queue: str) -> int:
        """How many events of a queue are with nobody.

        Raises:
            Disconnected: the server did not answer.
            DriverError: there is no such queue, or one asked for at the same time is not there; ask again.
        """
        async with self._asking(connection, f"queue {queue!r}") as channel:
            return (await channel.queue_declare(queue, passive=True)).message_count or 0

    async def has_exchange(self, connection: Connection, exchange: str) -> bool:
        """Whether an exchange is there; errors as of `count`."""
        try:
            async with self._asking(connection, f"exchange {exchange!r}") as channel:
                await channel.exchange_declare(exchange, passive=True)
        except ChannelNotFoundEntity:
            return False
        return True

    @asynccontextmanager
    async def _asking(self, connection: Connection, about: str) -> AsyncIterator[Channel]:
        async with answered(about, self._timeout):
            channel = await self._standing(connection)
            try:
                yield channel
            except BaseException:  # it is being closed: by the server, or by aiormq where this is cancelled
                if self._channel is channel:
                    self._channel = None
                raise

    async def _standing(self, connection: Connection) -> Channel:
        async with self._opening:
            channel = self._channel
            if channel is None or channel.why_ended is not None or channel.link is not connection:
                self._channel = channel = await open_channel(connection)
            return channel
