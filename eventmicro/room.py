"""Room: what an adapter waits for before it hands over the next message, where `Receive` returned an awaitable."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

log = logging.getLogger(__name__)


async def wait_for_room(room: Awaitable[None]) -> None:
    """Return when a consumer has room again, or fails at that: those that wait in line must not wait for ever."""
    try:
        await room
    except asyncio.CancelledError:  # whoever was to say that there is room has ended; or this task is to
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
    except Exception:  # it never should
        log.exception("a consumer raised when it had room again")
