"""What brings messages to one consumer: as they come, one after the other, and only while it has room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context

from eventmicro.broker import Receive
from eventmicro.message import Delivery

# After how many messages in a row others get a turn.
BURST = 100


class HandOver:
    """Calls `receive` with all that `take` returns, in callbacks of the event loop, until it returns None.

    It needs no task: what was published in one turn of the loop is handed over by one callback in the next.
    """

    def __init__(self, take: Callable[[], Delivery | None], receive: Receive) -> None:
        self._take = take
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()  # that of who subscribed: a publisher's is none of the consumer's business
        self._busy = False
        self._closed = False
        self._room: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None

    def wake(self) -> bool:
        """There may be something to take: do it soon. False where the consumer has no room, or this is closed."""
        if self._closed or self._room is not None:
            return False
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._run, context=self._context)
        return True

    async def idle(self) -> None:
        """Return when nothing is left to take, or this is closed."""
        if self._busy:
            self._idle = self._idle or self._loop.create_future()
            await asyncio.shield(self._idle)

    def close(self) -> None:
        """Take no more, and wait for room no longer."""
        self._closed = True
        if self._room is not None:
            self._room.cancel()
        self._rest()

    def _run(self) -> None:
        try:
            self._burst()
        except Exception:  # a consumer that breaks its word and raises does not stop the rest
            self._loop.call_soon(self._run, context=self._context)
            raise

    def _burst(self) -> None:
        for _ in range(BURST):
            delivery = None if self._closed else self._take()
            if delivery is None:
                self._rest()
                return
            room = self._receive(delivery)
            if room is not None:
                self._wait_for(room)
                return
        self._loop.call_soon(self._run, context=self._context)

    def _wait_for(self, room: Awaitable[None]) -> None:
        self._room = asyncio.ensure_future(room)
        self._room.add_done_callback(self._has_room, context=self._context)
        if self._closed:  # by the consumer itself, just now
            self._room.cancel()

    def _has_room(self, room: asyncio.Future[None]) -> None:
        self._room = None
        self._run()
        if not room.cancelled() and (error := room.exception()) is not None:
            raise error

    def _rest(self) -> None:
        self._busy = False
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        self._idle = None
