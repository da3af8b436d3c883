"""The intake of an ordered subscription: what has arrived is handed over in the order of the stream."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Iterable
from itertools import count

from eventmicro.broker import Receive
from eventmicro.intake import BURST
from eventmicro.room import wait_for_room
from eventmicro_nats.jetstream.deliveries import JetStreamDelivery

log = logging.getLogger(__name__)


class OrderedIntake:
    """Hands deliveries over in the order of the stream, those that are to come again first.

    Args:
        receive: what they are handed to.
        has_room: whether fewer than may be are there unsettled.

    Attributes:
        returning: what was given back and is awaited before any other, by its sequence.
    """

    def __init__(self, receive: Receive, has_room: Callable[[], bool]) -> None:
        self.returning: dict[int, JetStreamDelivery] = {}
        self.is_open = False
        self._receive = receive
        self._has_room = has_room
        self._waiting: list[tuple[int, JetStreamDelivery]] = []
        self._pump: asyncio.Task[None] | None = None
        self._handing_over = False

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, delivery: JetStreamDelivery) -> None:
        heapq.heappush(self._waiting, (delivery.sequence, delivery))
        self.go_on()

    def take_all(self, deliveries: Iterable[JetStreamDelivery]) -> None:
        for delivery in deliveries:
            self.take(delivery)

    def open_gate(self) -> None:
        self.is_open = True
        self.go_on()

    def close_gate(self) -> None:
        self.is_open = False

    def await_none(self) -> None:
        """What was given back may come to another client, so nobody here is to wait for it; or it is here again."""
        for delivery in self.returning.values():
            delivery.lapsed = True
        self.returning.clear()

    def take_back(self) -> list[JetStreamDelivery]:
        """What waits, in order; it does so no more."""
        waiting, self._waiting = [delivery for _, delivery in sorted(self._waiting)], []
        return waiting

    def drop_lapsed(self) -> None:
        self._waiting = [(sequence, delivery) for sequence, delivery in self._waiting if not delivery.lapsed]
        heapq.heapify(self._waiting)

    def give_back(self) -> list[JetStreamDelivery]:
        """Hand over no more; return what waits."""
        self.close_gate()
        if self._pump is not None:
            self._pump.cancel()
        return self.take_back()

    def go_on(self) -> None:
        """Hand over what may be; one that is settled while it is handed over leaves that to who does it."""
        if self._pump is None and not self._handing_over and self._has_next():
            room = self._hand_over()
            if room is not None or self._has_next():
                self._pump = asyncio.ensure_future(self._hand_over_waiting(room))

    def _has_next(self) -> bool:
        if not self.is_open or not self._waiting or not self._has_room():
            return False
        return not self.returning or self._waiting[0][0] in self.returning

    def _hand_over(self) -> Awaitable[None] | None:
        sequence, delivery = heapq.heappop(self._waiting)
        self.returning.pop(sequence, None)
        self._handing_over = True
        try:
            return self._receive(delivery)
        except Exception:  # it never should; the connection must not die of it
            log.exception("a consumer of %s raised", delivery.subject, extra={"subject": delivery.subject})
            return None
        finally:
            self._handing_over = False

    async def _hand_over_waiting(self, room: Awaitable[None] | None) -> None:
        try:
            for number in count(1):
                if room is not None:
                    await wait_for_room(room)
                elif number % BURST == 0:
                    await asyncio.sleep(0)
                if not self._has_next():
                    return
                room = self._hand_over()
        finally:
            self._pump = None
