"""A durable subscription: it takes events from a queue and holds each until it is settled.

There is no lease that runs out: within a process a consumer does not die alone, and one that hangs is ended by closing
its connection, which gives what it held to the others.
"""

from __future__ import annotations

from collections import deque

from eventmicro.broker import Receive
from eventmicro.memory.handover import HandOver
from eventmicro.memory.queue import DurableQueue, Event
from eventmicro.message import Delivery


class HeldDelivery(Delivery):
    """One delivery of an event, held by a subscription until it is settled or the subscription closed."""

    __slots__ = ("_holder", "event")

    def __init__(self, event: Event, holder: DurableSubscription) -> None:
        self.subject = event.subject
        self.body = event.body
        self.headers = event.headers and dict(event.headers)
        self.reply = event.reply
        self.attempt = event.attempts
        self.arrived = None
        self.lapsed = False
        self.waiting = False
        self.event = event
        self._holder: DurableSubscription | None = holder

    @property
    def id(self) -> str:  # type: ignore[override]  # made when it is asked for
        return f"{self.event.queue}-{self.event.number}"

    @property
    def is_held(self) -> bool:
        """Whether it is not settled, and with its subscription."""
        return self._holder is not None

    def try_ack(self) -> bool:
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.settle(self.event)
        return True

    async def ack(self) -> None:
        self.try_ack()

    async def nack(self, delay: float = 0.0) -> None:
        if (holder := self.release()) is not None:
            holder.give_back(self.event, delay)

    def release(self) -> DurableSubscription | None:
        """Who holds it, once: what is settled afterwards is settled by nobody."""
        holder, self._holder = self._holder, None
        return holder


class DurableSubscription:
    """A consumer of a queue, with at most `prefetch` events that are not settled."""

    dropped = 0

    def __init__(self, queue: DurableQueue, receive: Receive, prefetch: int) -> None:
        self.ended = False
        self._queue = queue
        self._prefetch = prefetch
        self._held: dict[int, HeldDelivery] = {}
        self._line: deque[HeldDelivery] = deque()  # what is being handed over
        self._handover = HandOver(self._line, receive, self._fill, self._put_back)
        queue.join(self)

    @property
    def done(self) -> bool:
        """Whether it neither takes nor holds anything any more."""
        return self.ended and not self._held

    def wake(self) -> bool:
        return not self.ended and len(self._held) < self._prefetch and self._handover.wake()

    async def drain(self) -> None:
        """Take no more; nothing is to be given back, as nothing leaves the queue before it is handed over."""
        self.ended = True
        self._put_back()
        self._leave_if_done()

    def close(self) -> None:
        """End it; what it holds is for the others."""
        self.ended = True
        self._handover.close()
        self._put_back()
        held, self._held = self._held, {}
        self._queue.leave(self)
        for delivery in held.values():
            delivery.release()
            self._queue.take_back(delivery.event)

    def settle(self, event: Event) -> None:
        """It is dealt with."""
        self._queue.done()
        self._drop(event)

    def give_back(self, event: Event, delay: float) -> None:
        """It is to be delivered again."""
        self._queue.take_back(event, delay)
        self._drop(event)

    def _drop(self, event: Event) -> None:
        del self._held[event.number]
        if self.ended:
            self._leave_if_done()
        if not self._handover.is_busy and self._queue.waiting:
            self.wake()

    def _leave_if_done(self) -> None:
        """An ordered queue goes on elsewhere only when nothing of it is left here."""
        if self.done:
            self._queue.leave(self)

    def _fill(self, most: int) -> None:
        """Take up to so many events, as far as they may be held."""
        if self.ended:
            return
        queue, held, line = self._queue, self._held, self._line
        for _ in range(min(most, queue.at_once, self._prefetch - len(held))):
            event = queue.next_for(self)
            if event is None:
                return
            delivery = held[event.number] = HeldDelivery(event, self)
            line.append(delivery)

    def _put_back(self) -> None:
        """What was not handed over was not delivered, either: it is where it was."""
        if not self._line:
            return
        while self._line:
            delivery = self._line.pop()
            if delivery.release() is not None:
                del self._held[delivery.event.number]
                self._queue.put_back(delivery.event)
        self._queue.wake()
