"""Link: one connection that is re-made whenever it is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from eventmicro.errors import ConnectionFailed, Disconnected
from eventmicro_rabbitmq.driver import Connection, connect, end_task
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
        on_back: called when it stands again.
    """

    def __init__(self, settings: RabbitSettings, on_lost: Callable[[str], None], on_back: Callable[[], None]) -> None:
        self._settings = settings
        self._on_lost = on_lost
        self._on_back = on_back
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
        connection, self.connection = self.connection, None
        if self._keeper is not None:
            await end_task(self._keeper)
        if connection is not None:
            await connection.end()

    async def wait(self, timeout: float | None = None) -> Connection:
        """The connection, as soon as it stands.

        Raises:
            Disconnected: it did not within `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                while self.connection is None or self.connection.lost.done():
                    self._up.clear()
                    await self._up.wait()
        except TimeoutError:
            raise Disconnected("RabbitMQ is away; the connection is being re-made") from None
        return self.connection

    @property
    def online(self) -> bool:
        return self.connection is not None and not self.connection.lost.done()

    def _stands(self, connection: Connection) -> None:
        self.connection = connection
        self._up.set()

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        wait = 0.0
        while self.connection is not None:
            since = clock()
            reason = await asyncio.shield(self.connection.lost)
            self._on_lost(reason)
            lost, self.connection = self.connection, None
            await lost.end()
            wait = self._longer(wait) if clock() - since < SHORT_LIFE else 0.0
            await asyncio.sleep(wait)
            self._stands(await self._connect_again())
            self._on_back()

    async def _connect_again(self) -> Connection:
        wait = 0.0
        while True:
            try:
                return await connect(self._settings)
            except ConnectionFailed as error:  # what is refused may be mended yet
                log.info("%s", error)
            except Exception:
                log.exception("connecting to RabbitMQ again failed, trying on")
            wait = self._longer(wait)
            await asyncio.sleep(wait)

    def _longer(self, wait: float) -> float:
        """How long to wait the next time."""
        shortest = self._settings.reconnect_wait
        return min(max(wait * 2, shortest), shortest * LONGEST_WAIT)
