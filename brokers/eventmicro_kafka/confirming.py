"""Deadlines for many confirmations by one timer, where a timer for each would cost more than sending the message."""

from __future__ import annotations

import asyncio
from typing import Any

# How often it is looked whose time is over, in seconds.
INTERVAL = 0.05


class Confirming:
    """The messages that wait to be confirmed."""

    def __init__(self) -> None:
        self._deadlines: dict[asyncio.Future[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, future: asyncio.Future[Any], timeout: float) -> None:
        """Return when it is confirmed; what it raises is raised.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_later(INTERVAL, self._sweep)
        self._deadlines[future] = loop.time() + timeout
        try:
            await future
        finally:
            del self._deadlines[future]

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for future, deadline in self._deadlines.items():
            if deadline <= now and not future.done():
                future.set_exception(TimeoutError())
        self._timer = loop.call_later(INTERVAL, self._sweep) if self._deadlines else None
