"""What brings messages to one consumer: as they come, one after the other, and only while it has room."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any

from eventmicro.broker import Receive
from eventmicro.intake import BURST, many_of


class HandOver:
    """Hands over what waits in a line, in callbacks of the event loop, until nothing does.

    It needs no task: what was published in one turn of the loop is handed over by one callback in the next.

    Args:
        line: where what is to be handed over waits.
        receive: what it is handed to.
        fill: called before, to put into the line what may be taken, up to so many.
        taken: called afterwards; what is left in the line was not taken.

    Attributes:
        is_busy: whether it is about to hand over, or does.
    """

    def __init__(
        self, line: deque[Any], receive: Receive, fill: Callable[[int], None], taken: Callable[[], None]
    ) -> None:
        self._line = line
        many = many_of(receive)
        self._receive_many = many or (lambda line: receive(line.popleft()))
        self._at_once = BURST if many else 1
        self._fill = fill
        self._taken = taken
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()  # that of who subscribed: a publisher's is none of the consumer's business
        self.is_busy = False
        self._closed = False
        self._room: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None

    def wake(self) -> bool:
        """There may be something to take: do it soon. False where the consumer has no room, or this is closed."""
        if self._closed or self._room is not None:
            return False
        if not self.is_busy:
            self.is_busy = True
            self._loop.call_soon(self._run, context=self._context)
        return True

    async def idle(self) -> None:
        """Return when nothing is left to take, or this is closed."""
        if self.is_busy:
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
        line, left = self._line, BURST
        while left > 0:
            if not self._closed:
                self._fill(self._at_once)
            waiting = len(line)
            if self._closed or not waiting:
                self._rest()
                return
            room = None
            try:
                room = self._receive_many(line)
                if room is not None:
                    self._wait_for(room)
            finally:
                left -= max(1, waiting - len(line))  # it has grown where a handler publishes to its own subject
                self._taken()  # to others, where there is no room here
            if room is not None:
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
        self.is_busy = False
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        self._idle = None
