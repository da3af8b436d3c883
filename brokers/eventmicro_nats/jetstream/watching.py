"""Looking now and then whether the streams that are used still are what they were: an administrator may change them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from eventmicro.errors import EventMicroError
from eventmicro_nats.errors import plain
from eventmicro_nats.jetstream.api import ApiError

log = logging.getLogger(__name__)

# How often, in seconds, and how long one look may take.
INTERVAL = 30.0
TIMEOUT = 10.0


class Watching:
    """Looks as long as its broker is connected.

    Args:
        look: looks once, until the deadline that it is given.
    """

    def __init__(self, look: Callable[[float], Awaitable[None]]) -> None:
        self._look = look
        self.task = asyncio.create_task(self._run(), name="eventmicro nats streams")

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(TIMEOUT):
                        await self._look(loop.time() + TIMEOUT)
            except (EventMicroError, ApiError) as error:  # it may be away, or its streams: that shows elsewhere
                log.debug("streams could not be looked at: %s", plain(error))
            except Exception:  # whatever it is, it is looked again
                log.exception("streams could not be looked at")
