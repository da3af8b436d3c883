"""Intake: what a subscription takes in, handed over while there is room and kept in line while there is none."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

from eventmicro.broker import Receive
from eventmicro.message import Delivery
from eventmicro.room import wait_for_room
from eventmicro.wire import one_line

log = logging.getLogger(__name__)

# How many messages in a row are handed one by one to a consumer that takes no more at once.
BURST = 100

D = TypeVar("D", bound=Delivery)
ReceiveMany = Callable[[deque[Any]], Awaitable[None] | None]
"""Takes some of those that wait in line, as `ReceivesMany.many` does."""


class Intake(Generic[D]):
    """One subscription's messages on their way in.

    Args:
        receive: what they are handed to.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._receive_many = many_of(receive) or self._receive_one_by_one
        self._pump: asyncio.Task[None] | None = None
        self._held = self._closed = False

    @cached_property
    def _waiting(self) -> deque[D]:
        """Those in line; made for the first, as there may be very many intakes to which nothing comes."""
        return deque()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self, delivery: D) -> None:
        """Hand a message over, in its turn."""
        self.take_all((delivery,))

    def take_all(self, deliveries: Iterable[D]) -> None:
        """Hand messages over that came together, in their turn."""
        if self._closed:
            return
        waiting = self._waiting
        waits_already = len(waiting)
        waiting.extend(deliveries)
        if self._pump is None and not self._held:
            room = None
            left = len(waiting) + 1
            while room is None and 0 < len(waiting) < left and not self._held:  # it may have it held or closed itself
                left = len(waiting)
                room = self._receive_some()
            if room is None and not waiting:
                return
            if room is not None and self._closed:
                asyncio.ensure_future(room).cancel()
            elif not self._held:
                self._pump = asyncio.ensure_future(self._hand_over(room))
            waits_already = 0
        self._keep(waits_already)

    def put_first(self, delivery: D) -> None:
        """Hand a message over before those that wait."""
        delivery.arrived = time.monotonic()
        self._waiting.appendleft(delivery)

    def hold(self) -> None:
        """Hand nothing over until `go_on`."""
        self._held = True

    def go_on(self) -> None:
        self._held = False
        if self._pump is None and self._waiting:
            self._pump = asyncio.ensure_future(self._hand_over(None))

    def take_back(self) -> list[D]:
        """What still waits; it is not handed over any more."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    @property
    def waiting(self) -> Sequence[D]:
        """Those that wait, in their turn."""
        return self._waiting

    @property
    def stands_at(self) -> D | None:
        """The message that waits first, where nobody is at work to hand it over, nor waits for room; else None."""
        return self._waiting[0] if self._waiting and self._pump is None else None

    async def join(self) -> None:
        """Return when all have been handed over, and the last one has found room."""
        while self._pump is not None:
            await asyncio.wait([self._pump])

    def close(self) -> None:
        """Hand nothing over any more; what waits and what still comes is dropped."""
        self._held = self._closed = True
        self._waiting.clear()
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None  # it may not have begun, and would not say that it has ended

    def _receive_some(self) -> Awaitable[None] | None:
        try:
            return self._receive_many(self._waiting)
        except Exception:  # it never should; those that wait must not wait for ever
            log.exception("a consumer raised")
            return None

    def _receive_one_by_one(self, line: deque[D]) -> Awaitable[None] | None:
        """Hand over to a consumer that takes one at a time."""
        for _ in range(min(len(line), BURST)):
            if not line or self._held:  # taken back, or to wait for what is to come first, by the consumer itself
                break
            delivery = line.popleft()
            try:
                room = self._receive(delivery)
            except Exception:  # it never should; the connection must not die of it
                log.exception("a consumer of %s raised", one_line(delivery.subject))
                continue
            if room is not None:
                return room
        return None

    def _keep(self, first: int) -> None:
        """Let those from this place in line on wait."""
        now = time.monotonic()
        for number in range(first, len(self._waiting)):
            self._waiting[number].arrived = now

    async def _hand_over(self, room: Awaitable[None] | None) -> None:
        try:
            while True:
                if room is not None:
                    await wait_for_room(room)
                else:
                    await asyncio.sleep(0)
                if self._held or not self._waiting:
                    return
                room = self._receive_some()
        finally:
            self._pump = None


def many_of(receive: Receive) -> ReceiveMany | None:
    """How a consumer takes many; None where it takes one at a time."""
    many: ReceiveMany | None = getattr(receive, "many", None)  # isinstance takes as long as all the rest of a start
    return many
