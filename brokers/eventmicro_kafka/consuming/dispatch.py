"""Dispatch: the events of the partitions that a member has been assigned, handed over as far as there is room."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Mapping
from typing import Any

from eventmicro.broker import Durable, Receive
from eventmicro.room import wait_for_room
from eventmicro_kafka.consuming.delayed import Delayed
from eventmicro_kafka.consuming.lane import Committed, KafkaDelivery, Lane
from eventmicro_kafka.consuming.line import AFTER_FAILURE, Line
from eventmicro_kafka.consuming.moving import time_to_finish, warn_of_handlers
from eventmicro_kafka.settings import KafkaSettings

log = logging.getLogger(__name__)

NO_IDS: Mapping[str, str] = {}


class Dispatch(ABC):
    """What goes from the lanes of a durable subscription to its consumer.

    Attributes:
        ended: whether nothing more is to be handed over.
        lanes: the partitions that this side has.
        held: how many events are with the consumer, or on their way to the retry topic.
    """

    def __init__(self, subject: str, queue: str, receive: Receive, durable: Durable, settings: KafkaSettings) -> None:
        self.ended = False
        self.lanes: dict[Any, Lane] = {}
        self.held = 0
        self._subject = subject
        self._queue = queue
        self._durable = durable
        self._settings = settings
        self._hold = time_to_finish(settings, durable)
        self._line = Line(subject, receive, self)
        self._again: deque[KafkaDelivery] = deque()
        self._taken: deque[tuple[Lane, list[Any]]] = deque()
        self._waiting = Delayed(settings, queue, subject, self._hold_copies, self._see_urgent)
        self._limit = durable.prefetch
        self._share = 0  # counts how often the partitions were shared anew
        self._urgent = False  # something is to be handed over before what was taken
        self._urgent_done = 0  # how often that was
        self._crowded = False  # the subscriber has no room
        self._ending = False
        self._wanted = asyncio.Event()
        self._change = asyncio.Event()
        self._uncommitted = asyncio.Event()

    @abstractmethod
    def again(self, delivery: KafkaDelivery, delay: float) -> None:
        """An event is to be delivered again in `delay` seconds."""

    @abstractmethod
    def _read(self, lane: Lane, records: list[Any], arrived: float | None) -> list[KafkaDelivery]:
        """The events of some records that, if `arrived` says when they came, have waited since."""

    @abstractmethod
    def _read_anew(self) -> None:
        """Have all that is not finished read again."""

    @abstractmethod
    def _hold_copies(self, hold: bool) -> None:
        """Have the broker keep what is in the retry topic, or no longer."""

    def settled(self) -> None:
        """An event is finished."""
        if not self._uncommitted.is_set():
            self._uncommitted.set()
        if not self._change.is_set():
            self._change.set()

    # -- what the member calls ---------------------------------------------------------------------------------

    async def pause(self) -> None:
        self._limit = 0
        self._share += 1
        self._line.take_back()
        self._taken.clear()
        for lane in self.lanes.values():
            again = lane.take_back()
            if not self.ended:
                self._again.extend(again)
                self._urgent = self._urgent or bool(again)
        self._change.set()
        try:
            async with asyncio.timeout(self._hold):
                while self.held > 0 and not self._ending:
                    await self._changed()
        except TimeoutError:
            warn_of_handlers(
                self._queue, self.lanes.values(), self._hold, self._settings, ordered=self._durable.ordered
            )

    def share(self, found: Mapping[Any, Committed], ids: Mapping[str, str] = NO_IDS) -> None:
        self._share += 1
        self._line.take_back()
        self._taken.clear()
        old, self.lanes = self.lanes, {}
        for place, committed in found.items():
            lane = old.get(place)
            if (
                lane is not None
                and lane.committed == committed
                and lane.topic_id == ids.get(place.topic, lane.topic_id)
            ):
                # nobody else had it meanwhile
                self.lanes[place] = old.pop(place)
            else:
                self.lanes[place] = Lane(place, committed, self, ids.get(place.topic, ""))
        for lane in old.values():
            lane.drop()
        self._waiting.drop_gone()
        self._limit = self._durable.prefetch
        self._change.set()

    async def hungry(self) -> None:
        await self._wanted.wait()

    # -- handing over ------------------------------------------------------------------------------------------

    async def _pump(self) -> None:
        while True:
            try:
                await self._hand_over_next()
                await asyncio.sleep(0)
            except Exception:  # it never should; all that is not finished is read again
                log.exception(
                    "queue %r: handing over failed, its consumer is made anew",
                    self._queue,
                    extra={"queue": self._queue},
                )
                self._read_anew()
                await asyncio.sleep(AFTER_FAILURE)

    async def _hand_over_next(self) -> None:
        while not (self._taken or self._urgent):
            self._wanted.set()  # each time: what came may have been taken back before this was its turn
            await self._changed()
        if await self._may_go_on(self._share) and self._taken:
            await self._hand_over(*self._taken.popleft())

    async def _hand_over(self, lane: Lane, records: list[Any]) -> None:
        """Hand a partition's records over, as far as the partition stays with this side."""
        share, came, arrived, end = self._share, time.monotonic(), None, records[-1].offset + 1
        if records[0].offset < lane.known_until:
            records = lane.unfinished_of(records)
        done = 0
        while done < len(records):
            if (self._urgent or self.held >= self._limit) and not await self._may_go_on(share):
                return
            most = min(self._limit - self.held, self._line.size)
            taken, room = self._line.offer(lane, self._read(lane, records[done : done + most], arrived))
            if room is not None:
                await self._wait_for(room)
                arrived = came
            done += taken
            if share != self._share or (self.ended and done < len(records)):
                return  # the rest is read again by whoever has the partition now
        lane.next = end
        self.settled()

    async def _may_go_on(self, share: int) -> bool:
        """Hand over what is urgent and wait for room; whether the partitions are still shared as they were."""
        while share == self._share:
            if self.held >= self._limit:
                await self._changed()
            elif self._urgent:
                await self._hand_over_urgent()
            else:
                return True
        return False

    async def _hand_over_urgent(self) -> None:
        """Hand over an event that is to be delivered again: what was nacked, in its order, then what is due."""
        if self._again:
            delivery = min(self._again, key=lambda d: d.offset)
            self._again.remove(delivery)
        else:
            due = self._waiting.take_due()
            if due is None:
                self._urgent = False
                return
            delivery = due
        if delivery.lane.gone:  # whoever has the partition now reads it
            return
        self._urgent_done += 1
        room = self._line.offer_again(delivery)
        if room is not None:
            await self._wait_for(room)

    def _see_urgent(self) -> None:
        self._urgent = True
        self._change.set()

    async def _wait_for(self, room: Awaitable[None]) -> None:
        self._crowded = True
        try:
            await wait_for_room(room)
        finally:
            self._crowded = False

    async def _changed(self) -> None:
        self._change.clear()
        await self._change.wait()

    def _give_back(self) -> None:
        """Forget what has not been handed over; nobody has committed it."""
        self._line.take_back()
        self._taken.clear()
        self._again.clear()
        self._waiting.stop()
