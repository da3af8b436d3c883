"""Watchdog: sees that what should go on stands still, so that an adapter can say so and begin anew.

It is for the defects that nobody knows of yet, here, in a driver or in a server: what is known is mended where it is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from eventmicro.errors import TransportError

log = logging.getLogger(__name__)

# How often is looked, in seconds.
INTERVAL = 10.0
# For how long something may stand still, in seconds.
PATIENCE = 60.0
# Up to how long, in seconds, where to begin anew was of no use; it doubles each time.
LONGEST = 3600.0


class Watchdog:
    """Looks after one subscription, or whatever else goes on by itself. It costs nothing per message.

    Args:
        state: a value that changes with any progress; it is asked for each time.
        waits: whether there is something to do that could be done; asked only where the state has not changed. Where
            that cannot be told it raises TransportError or OSError, and nothing is done; what else it raises is said.
        begin_anew: says so and does so; it gets how long the state has stood still, in seconds.
        patience: for how many seconds it may stand still.
        interval: how many seconds are between two looks.
    """

    def __init__(
        self,
        state: Callable[[], object],
        waits: Callable[[], Awaitable[bool]],
        begin_anew: Callable[[float], Awaitable[None]],
        *,
        patience: float = PATIENCE,
        interval: float = INTERVAL,
    ) -> None:
        self._state = state
        self._waits = waits
        self._begin_anew = begin_anew
        self._patience = self._limit = patience
        self._interval = interval
        self._seen: object = None
        self._since = time.monotonic()
        self._began_at: object = None
        self._blind = False  # since the last look

    async def run(self) -> None:
        """Look every so often, until it is cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            await self.look()

    async def look(self) -> None:
        """Look once."""
        try:
            await self._look()
            self._blind = False
        except (TransportError, OSError) as error:  # TimeoutError is an OSError
            log.debug("it cannot be told whether something waits: %s", error)
            self._since = time.monotonic()
        except Exception:
            if not self._blind:  # once is enough
                log.exception("it cannot be told whether something stands still, which is tried again")
            self._blind = True
            self._since = time.monotonic()

    async def _look(self) -> None:
        state, now = self._state(), time.monotonic()
        if state != self._seen:
            self._seen, self._since = state, now
            if state != self._began_at:
                self._limit = self._patience
        elif not await self._waits():
            self._since = now
        elif now - self._since >= self._limit:
            await self._revive(state, now - self._since)

    async def _revive(self, state: object, still: float) -> None:
        self._began_at, self._limit = state, min(2 * self._limit, LONGEST)
        try:
            await self._begin_anew(still)
        except Exception:
            log.exception("it stands still and cannot begin anew, which is tried again")
        self._since = time.monotonic()
