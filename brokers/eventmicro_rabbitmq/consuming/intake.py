"""Intake: events on their way in, handed over while there is room and kept while there is none.

How many are kept is bounded by the prefetch, which RabbitMQ obeys.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Generic, TypeVar

from eventmicro.broker import Receive
from eventmicro.message import Delivery
from eventmicro.room import wait_for_room

log = logging.getLogger(__name__)

# After how many events in a row that waited in line others may run.
BURST = 100

D = TypeVar("D", bound=Delivery)


class Intake(Generic[D]):
    """The events of one subscription on their way in.

    Args:
        receive: what they are handed to.
        before: called for each, just before.
    """

    def __init__(self, receive: Receive, before: Callable[[D], None] | None = None) -> None:
        self._receive = receive
        self._before = before
        self._waiting: deque[D] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._held = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self, delivery: D) -> None:
        """Hand an event over, in its turn."""
        if self._pump is None and not self._held and not self._waiting:
            room = self._hand_over(delivery)
            if room is not None:
                self._pump = asyncio.ensure_future(self._hand_over_waiting(room))
            return
        delivery.arrived = time.monotonic()
        self._waiting.append(delivery)
        if self._pump is None and not self._held:
            self.go_on()

    def put_first(self, delivery: D) -> None:
        """Hand an event over before those that wait."""
        delivery.arrived = time.monotonic()
        self._waiting.appendleft(delivery)

    def hold(self) -> None:
        """Hand nothing over until `go_on`."""
        self._held = True

    def go_on(self) -> None:
        self._held = False
        if self._pump is None and self._waiting:
            self._pump = asyncio.ensure_future(self._hand_over_waiting(None))

    def take_back(self) -> list[D]:
        """What still waits; it is not handed over any more."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    @property
    def stands_at(self) -> D | None:
        """The event that waits first, where nobody is at work to hand it over, nor waits for room; else None."""
        return self._waiting[0] if self._waiting and self._pump is None else None

    async def join(self) -> None:
        """Return when all have been handed over, and the last one has found room."""
        while self._pump is not None:
            await asyncio.wait([self._pump])

    def close(self) -> None:
        """Hand nothing over any more."""
        self._held = True
        self._waiting.clear()
        if self._pump is not None:
            self._pump.cancel()

    def _hand_over(self, delivery: D) -> Awaitable[None] | None:
        if self._before is not None:
            self._before(delivery)
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
                if self._held or not self._waiting:
                    return
                room = self._hand_over(self._waiting.popleft())
        finally:
            self._pump = None
