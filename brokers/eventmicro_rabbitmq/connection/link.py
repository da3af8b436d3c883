"""Link: one connection that is re-made whenever it is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

from eventmicro.errors import ConnectionFailed, Disconnected
from eventmicro_rabbitmq.connection.connecting import connect
from eventmicro_rabbitmq.connection.connection import Connection, end_task
from eventmicro_rabbitmq.errors import is_final
from eventmicro_rabbitmq.settings import RabbitSettings

log = logging.getLogger(__name__)

# How many times the first wait between two tries it grows to.
LONGEST_WAIT = 10
# A connection that is lost within so many seconds is not made again at once: the server may be ending it each time.
SHORT_LIFE = 3.0


class Link:
    """A connection that stands again some time after it was lost, until it is closed.

    Args:
        on_lost: called with the reason when the connection is lost.
        on_refused: called with the reason where the server refuses another one.
        on_back: called when it stands again.
    """

    def __init__(
        self,
        settings: RabbitSettings,
        on_lost: Callable[[str], None],
        on_refused: Callable[[str], None],
        on_back: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._on_back = on_back
        self._closed = False
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self.connection: Connection | None = None

    async def open(self) -> None:
        """Connect for the first time.

        Raises:
            ConnectionFailed: no server answered in time, or it refused.
        """
        self._stands(await connect(self._settings))
        self._keeper = asyncio.create_task(self._keep(), name="eventmicro rabbitmq reconnect")

    async def close(self) -> None:
        """End it; who waits for the connection is told."""
        self._closed = True
        self._up.set()
        try:
            if self._keeper is not None:
                await end_task(self._keeper)
        finally:
            connection, self.connection = self.connection, None
            if connection is not None:
                await connection.end()

    async def wait(self) -> Connection:
        """The connection, as soon as it stands.

        Raises:
            Disconnected: it was closed.
        """
        while (connection := self.connection) is None or connection.lost.done():
            if self._closed:
                raise Disconnected("the connection was closed")
            self._up.clear()
            await self._up.wait()
        return connection

    @property
    def online(self) -> bool:
        return self.connection is not None and not self.connection.lost.done()

    def _stands(self, connection: Connection) -> None:
        self.connection = connection
        self._up.set()

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        wait = 0.0
        while (connection := self.connection) is not None:
            since = clock()
            self._on_lost(await asyncio.shield(connection.lost))
            self.connection = None
            await connection.end()
            wait = self._longer(wait) if clock() - since < SHORT_LIFE else 0.0
            await asyncio.sleep(wait)
            self._stands(await self._connect_again())
            self._on_back()

    async def _connect_again(self) -> Connection:
        wait, said = 0.0, ""
        while True:
            try:
                return await connect(self._settings)
            except ConnectionFailed as error:
                if error.__cause__ is not None and is_final(error.__cause__):  # it may be mended yet
                    self._on_refused(str(error))
            except Exception as error:
                if repr(error) != said:  # it will fail many times
                    said = repr(error)
                    log.exception("connecting to RabbitMQ again failed, trying on")
            wait = self._longer(wait)
            await asyncio.sleep(wait)

    def _longer(self, wait: float) -> float:
        """How long to wait the next time."""
        shortest = self._settings.reconnect_wait
        return min(max(wait * 2, shortest), shortest * LONGEST_WAIT)


async def open_together(*links: Link) -> None:
    """Open links at once, so that all take no longer than one may; where one cannot be opened none is left open.

    Raises:
        ConnectionFailed: no server answered in time, or it refused.
    """
    opening = [asyncio.create_task(link.open(), name="eventmicro rabbitmq connect") for link in links]
    try:
        await asyncio.gather(*opening)
    except BaseException:  # cancelled, too
        async with AsyncExitStack() as closing:
            for link, task in zip(links, opening, strict=True):
                closing.push_async_callback(link.close)
                closing.push_async_callback(end_task, task)  # before its link is closed
        raise
