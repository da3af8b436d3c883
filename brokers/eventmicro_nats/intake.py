"""Intake: where nats-py puts the messages of a subscription, in the place of its own queue.

nats-py would queue each message, wake a task for the queue and await a callback in it; that costs more than all of
eventmicro's work on the message. The intake hands a message over in the read loop itself, as soon as it is parsed, and
keeps it only while the consumer has no room. It is the seam at which another reader can take nats-py's place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from eventmicro.broker import Receive
from eventmicro.message import Delivery


class Intake:
    """Has the methods of `asyncio.Queue` that nats-py calls: `put_nowait`, `get`, `qsize`, `empty`, `join`.

    Args:
        inner: nats-py's subscription; how many bytes wait is counted in it, against its own limit.
        receive: what the messages are handed to.
        limit: how many messages may wait; for more `put_nowait` raises QueueFull, which nats-py reports.
    """

    def __init__(self, inner: Subscription, receive: Receive, limit: int) -> None:
        self._inner = inner
        self._receive = receive
        self._limit = limit
        self._waiting: deque[Msg] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._closed = False

    def put_nowait(self, msg: Msg) -> None:
        """Hand the message over; keep it where one before it waits for room."""
        if self._pump is not None:
            if len(self._waiting) >= self._limit:
                raise asyncio.QueueFull
            self._waiting.append(msg)
            return
        room = self._hand_over(msg)
        if room is not None and not self._closed:
            self._pump = asyncio.ensure_future(self._hand_over_waiting(room))

    async def get(self) -> Msg:
        """Where nats-py's own task for the subscription waits, in vain, until it is cancelled."""
        return await asyncio.get_running_loop().create_future()

    def qsize(self) -> int:
        """How many messages wait."""
        return len(self._waiting)

    def empty(self) -> bool:
        """Whether none waits."""
        return not self._waiting

    async def join(self) -> None:
        """Return when all have been handed over, and the last one has found room."""
        while self._pump is not None:
            await asyncio.wait([self._pump])

    def close(self) -> None:
        """Drop what waits, and what comes."""
        self._closed = True
        self._waiting.clear()
        if self._pump is not None:
            self._pump.cancel()

    def _hand_over(self, msg: Msg) -> Awaitable[None] | None:
        self._inner._pending_size -= len(msg.data)
        if self._closed:
            return None
        return self._receive(Delivery(msg.subject, msg.data, msg.headers, msg.reply))

    async def _hand_over_waiting(self, room: Awaitable[None] | None) -> None:
        try:
            while True:
                if room is not None:
                    await room
                if not self._waiting:
                    return
                room = self._hand_over(self._waiting.popleft())
        finally:
            self._pump = None
