"""KeyedSubscriber: events of one key one after the other, those of other keys meanwhile.

A key that has events is a lane. Where a handler fails its lane waits: for the delay, and then for the same event to
come again from the broker, which counts the attempt. All others go on; what waits takes no slot of `concurrency`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Coroutine, Hashable
from typing import Any

from eventmicro.broker import Receive
from eventmicro.codec import NotReady
from eventmicro.events.reasons import describe
from eventmicro.events.subscriber import Subscriber, Work
from eventmicro.handlers.inflight import ENDS, InFlight
from eventmicro.message import Delivery
from eventmicro.topic import Pick

log = logging.getLogger(__name__)

# How long a lane waits for a nacked event to come again, in seconds: longer than the lease that a broker may let run
# out first. It does not come where another instance has got it; then that one is to get those behind it, too.
RETURN_TIMEOUT = 120.0
# How often is looked meanwhile whether the broker has told that it goes to another one, in seconds.
LOOK_INTERVAL = 0.5

Item = tuple[Delivery, Any]


class Lane:
    """The events of one key: one is being handled or awaited again, the others wait behind it."""

    __slots__ = ("again", "awaited", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Item] = deque()
        self.awaited = ""
        self.again: asyncio.Future[None] | None = None

    def takes(self, delivery: Delivery, event: Any) -> None:
        """Put an event where it belongs: first if it is awaited, else last. It may be a copy of one that has lapsed."""
        if self.waiting and self.waiting[0][0].lapsed:
            self.waiting = deque(item for item in self.waiting if item[0].id != delivery.id)
        if self.again is not None and self.awaited == delivery.id and not self.again.done():
            self.waiting.appendleft((delivery, event))
            self.again.set_result(None)
        else:
            self.waiting.append((delivery, event))

    def awaits(self, delivery: Delivery) -> asyncio.Future[None]:
        """What ends when this event has come again, and is the first of those that wait."""
        self.awaited = delivery.id
        self.again = asyncio.get_running_loop().create_future()
        return self.again


class KeyedSubscriber(Subscriber):
    """A subscriber that keeps order by key; see Subscriber.

    Args:
        work: what it does with an event.
        concurrency: how many keys are worked on at the same time.
        key: what takes the key out of an event.
    """

    def __init__(self, work: Work, concurrency: int, key: Pick) -> None:
        super().__init__(work, concurrency)
        self._key = key
        self._handled: dict[int, float | None] = {}  # what handlers are at, by identity; in how long it is wanted again
        self._lanes: dict[Hashable, Lane] = {}
        self._ready: deque[tuple[Hashable, Item]] = deque()
        self._held = InFlight(concurrency)
        self._starting = False

    def receive(self, delivery: Delivery) -> Awaitable[None] | None:
        """What the broker hands the events to; there is always room, since it hands over no more than `prefetch`."""
        try:
            event = self.read(delivery)
        except ENDS:
            raise
        except NotReady as missing:
            task = self.receive_later(delivery, missing, self._put)
            if task is not None:
                task.add_done_callback(self._start_ready)
            return task
        except BaseException as error:
            self._start(self.unreadable(delivery, error))
            return None
        self._put(delivery, event)
        return None

    def _put(self, delivery: Delivery, event: Any) -> None:
        """Put an event into its lane."""
        try:
            key = self._key(event)
            lane = self._lanes.get(key)
        except ENDS:
            raise
        except BaseException as error:  # there is none, or nothing that can be one
            self._say(logging.ERROR, delivery, "has no key to order by", error)
            self._start(self.give_up(delivery, f"it has no key to order by: {describe(error)}"))
            return
        delivery.waiting = True
        if lane is not None:
            lane.takes(delivery, event)
        else:
            self._lanes[key] = Lane()
            self._ready.append((key, (delivery, event)))
            self._start_ready()

    @property
    def consumer(self) -> Receive:
        return self.receive

    def hold(self, ended: asyncio.Future[None]) -> None:
        super().hold(ended)
        ended.add_done_callback(self._start_ready)

    async def again(self, delivery: Delivery, delay: float) -> None:
        if id(delivery) in self._handled:  # its lane sees to it
            self._handled[id(delivery)] = delay
        else:
            self._held.start(_nack_after(delivery, delay))

    async def give_back(self) -> None:
        waiting = [item for _, item in self._ready]
        for key, _ in self._ready:
            waiting += self._lanes.pop(key).waiting
        self._ready.clear()
        for lane in self._lanes.values():
            waiting += lane.waiting
            lane.waiting.clear()
        for delivery, _ in waiting:
            await delivery.nack()
        await self._held.cut_off()

    async def cut_off(self) -> int:
        await self.give_back()
        count = await super().cut_off()
        await self._held.cut_off()  # those that were cut off just now want to be held
        return count

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.inflight.start(work)
        if task is not None:
            task.add_done_callback(self._start_ready)  # it is called when this one no longer counts

    def _start_ready(self, _: object = None) -> None:
        """Begin with the keys whose turn it is; a handler that does not wait ends in here."""
        if self._starting:
            return
        self._starting = True
        try:
            while self._ready and self.inflight.room() is None:
                key, item = self._ready.popleft()
                self._start(self._handle_keyed(key, item))
        finally:
            self._starting = False

    async def _handle_keyed(self, key: Hashable, item: Item) -> None:
        delivery, event = item
        delivery.waiting = False
        self._handled[id(delivery)] = None
        await self.attempt(delivery, event)
        delay = self._handled.pop(id(delivery))
        behind = self._lanes[key].waiting
        if delivery.lapsed and behind and behind[0][0].id != delivery.id:
            await self._leave(key)  # it comes again by itself, here or elsewhere, and what is behind it is to follow
        elif delivery.lapsed or delay is None:
            self._go_on(key)
        else:
            self._held.start(self._hold_or_leave(key, delivery, delay))

    def _go_on(self, key: Hashable) -> None:
        lane = self._lanes[key]
        if lane.waiting:
            self._ready.append((key, lane.waiting.popleft()))
        else:
            del self._lanes[key]

    async def _hold_or_leave(self, key: Hashable, delivery: Delivery, delay: float) -> None:
        """The same as `_hold`; a lane that is held no more is none, as its events come again."""
        try:
            await self._hold(key, delivery, delay)
        except asyncio.CancelledError:
            self._lanes.pop(key, None)
            raise

    async def _hold(self, key: Hashable, delivery: Delivery, delay: float) -> None:
        """Keep a lane closed until its first event has come again; where it does not, give back those behind it."""
        delivery.waiting = True
        again = self._lanes[key].awaits(delivery)
        await _nack_after(delivery, delay)
        end = asyncio.get_running_loop().time() + RETURN_TIMEOUT
        while not (again.done() or delivery.lapsed) and asyncio.get_running_loop().time() < end:
            await asyncio.wait([again], timeout=LOOK_INTERVAL)
        if again.done():
            self._go_on(key)
        else:
            if not delivery.lapsed:
                log.warning("%s: an event of key %r did not come again, those behind it are given back", self.name, key)
            await self._leave(key)
        self._start_ready()

    async def _leave(self, key: Hashable) -> None:
        """Give back all that waits in a lane, also what comes meanwhile: the broker orders it anew."""
        lane = self._lanes[key]
        while lane.waiting:
            await lane.waiting.popleft()[0].nack()
        del self._lanes[key]


async def _nack_after(delivery: Delivery, delay: float) -> None:
    """Have an event delivered again; an ordered queue does that without a delay, so that is waited for here."""
    try:
        await asyncio.sleep(delay)
    finally:  # cancelled by a stop: it comes again elsewhere
        await delivery.nack()
