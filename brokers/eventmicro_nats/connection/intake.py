"""Intake: what a subscription takes in, handed over while there is room and kept, within bounds, while there is none.

nats-py would build a message, queue it, wake a task for the queue and await a callback in it, which costs more than all
of eventmicro's work on the message. The driver hands what it has parsed to the intake instead, in the read loop itself.
The reader is in parser.py; another one can take its place there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count

from eventmicro.broker import Receive
from eventmicro.message import Delivery
from eventmicro.room import wait_for_room

log = logging.getLogger(__name__)

# After how many messages in a row that waited in line others may run.
BURST = 100


class Intake:
    """One subscription's messages on their way in.

    Args:
        receive: what they are handed to.
        drop: what is called for each that is dropped, because too many wait.
        messages, size: how many may wait, and how many bytes.
    """

    def __init__(self, receive: Receive, drop: Callable[[], None], messages: int, size: int) -> None:
        self._receive = receive
        self._drop = drop
        self._room_for_messages = messages
        self._room_for_bytes = size
        self._waiting: deque[tuple[Delivery, int]] = deque()
        self._waiting_bytes = 0
        self._pump: asyncio.Task[None] | None = None
        self._closed = False

    def take(self, delivery: Delivery) -> None:
        """Hand a message over, in its turn."""
        if self._pump is not None or self._closed:
            self._keep(delivery)
            return
        room = self._hand_over(delivery)
        if room is not None:
            self._pump = asyncio.ensure_future(self._hand_over_waiting(room))

    async def join(self) -> None:
        """Return when all have been handed over, and the last one has found room."""
        while self._pump is not None:
            await asyncio.wait([self._pump])

    def give_back(self) -> list[Delivery]:
        """Hand over no more; return what waits. What still comes is dropped."""
        waiting = [delivery for delivery, _ in self._waiting]
        self._waiting.clear()
        self._closed = True
        if self._pump is not None:
            self._pump.cancel()
        return waiting

    def _keep(self, delivery: Delivery) -> None:
        if self._closed:
            return
        size = len(delivery.body) + sum(len(k) + len(v) for k, v in (delivery.headers or {}).items())
        if len(self._waiting) >= self._room_for_messages or self._waiting_bytes + size > self._room_for_bytes:
            self._drop()
            return
        delivery.arrived = time.monotonic()
        self._waiting_bytes += size
        self._waiting.append((delivery, size))

    def _hand_over(self, delivery: Delivery) -> Awaitable[None] | None:
        try:
            return self._receive(delivery)
        except Exception:  # it never should; the connection must not die of it
            log.exception("a consumer of %s raised", delivery.subject)
            return None

    async def _hand_over_waiting(self, room: Awaitable[None] | None) -> None:
        try:
            for number in count(1):
                if room is not None:
                    await wait_for_room(room)
                elif number % BURST == 0:
                    await asyncio.sleep(0)
                if not self._waiting:
                    return
                delivery, size = self._waiting.popleft()
                self._waiting_bytes -= size
                room = self._hand_over(delivery)
        finally:
            self._pump = None
