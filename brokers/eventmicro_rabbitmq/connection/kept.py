"""A channel that is kept for questions which come again and again, and all but never fail."""

from __future__ import annotations

import asyncio

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
        async with answered(f"queue {queue!r}", self._timeout):
            channel = await self._standing(connection)
            try:
                return (await channel.queue_declare(queue, passive=True)).message_count or 0
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
