"""A live subscription: it gets what is published while it is there, through a bounded line of its own."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from eventmicro.broker import Receive
from eventmicro.memory.handover import HandOver
from eventmicro.message import Delivery, Message


class LiveSubscription:
    """One interest in a subject, with the messages that wait for its consumer.

    Args:
        subject, queue, receive: see `Broker.subscribe`.
        limit: how many messages may wait before publishers do.
        leave: called once when it takes no more.
    """

    dropped = 0

    def __init__(
        self,
        subject: str,
        queue: str | None,
        receive: Receive,
        limit: int,
        leave: Callable[[LiveSubscription], None],
    ) -> None:
        self.subject = subject
        self.queue = queue
        self.ended = False
        self.limit = limit
        self._leave = leave
        self._waiting: deque[Delivery] = deque()
        self._taken = asyncio.Event()
        self._handover = HandOver(self._waiting, receive, _nothing, self._taken.set)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def done(self) -> bool:
        """Whether it neither takes nor hands over anything any more."""
        return self.ended and not self._handover.is_busy

    @property
    def full(self) -> bool:
        return len(self._waiting) >= self.limit and not self.ended

    def has_room(self, count: int) -> bool:
        return len(self._waiting) + count <= self.limit or self.ended

    async def room(self) -> None:
        self._taken.clear()
        await self._taken.wait()

    def put(self, message: Message) -> None:
        headers = message.headers and dict(message.headers)
        delivery = Delivery(message.subject, message.body, headers, message.reply, 1, time.monotonic())
        self._waiting.append(delivery)
        self._handover.wake()

    def describe_full(self) -> str:
        return f"a subscriber is too slow: {self.limit} messages wait for it"

    async def drain(self) -> None:
        self._end()
        await self._handover.idle()  # which comes though nobody waits for it

    def close(self) -> None:
        """End it, and drop what waits."""
        self._end()
        self._waiting.clear()
        self._handover.close()

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self._leave(self)
            self._taken.set()  # whoever waits for room looks for another


def _nothing(most: int) -> None:
    """What waits is in the line already."""
