"""A real server as the restart cases of the conformance suite end it and start it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from tests.servers.process import ServerProcess


class Restartable:
    """Starts the server when it is entered, ends it when it is left; many cases may use it, one after the other.

    All is done in one thread that lives as long, since a server dies with the thread that has started it.
    """

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        try:
            self.revive()
        except BaseException:  # it is not installed, perhaps
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.submit(self.server.__exit__).result()
        self._thread.shutdown()

    def revive(self) -> None:
        """Start it, if a case that failed has left it down."""
        if self.server.process is None:
            self._thread.submit(self.server.start).result()

    async def start(self) -> None:
        await self._do(self.server.start)

    async def stop(self) -> None:
        await self._do(self.server.stop)

    async def kill(self) -> None:
        await self._do(self.server.kill)

    async def _do(self, action: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, action)
