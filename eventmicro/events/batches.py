"""BatchSubscriber: events handled together, a list at a time.

Where a batch fails its events come again one by one, whatever `retry` says of the error, so that the one which cannot
be handled is found, and only that becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from eventmicro.broker import Receive
from eventmicro.codec import NotReady
from eventmicro.context import Context, Received, enter_context
from eventmicro.errors import Reject, Settlement
from eventmicro.events.options import Batch
from eventmicro.events.reasons import describe
from eventmicro.events.settling import ByHandler
from eventmicro.events.subscriber import Subscriber, Work
from eventmicro.handlers.inflight import ENDS
from eventmicro.message import Delivery
from eventmicro.repeating import origin

log = logging.getLogger(__name__)

Item = tuple[Delivery, Any]


class BatchSubscriber(Subscriber):
    """A subscriber whose handler takes lists; see Subscriber.

    Args:
        work: what it does with a list of events.
        concurrency: how many lists may be handled at the same time.
        batch: how long a list is, and how long it is waited for.
    """

    def __init__(self, work: Work, concurrency: int, batch: Batch) -> None:
        super().__init__(work, concurrency)
        self._batch = batch
        self._together = None if self.settles is None else _Together(self.settles)
        self._collected: list[Item] = []
        self._timer: asyncio.TimerHandle | None = None
        self._awaits_room = False

    def receive(self, delivery: Delivery) -> Awaitable[None] | None:
        """What the broker hands the events to."""
        try:
            event = self.read(delivery)
        except ENDS:
            raise
        except NotReady as missing:
            return self.receive_later(delivery, missing, self._put) or self.inflight.room()
        except BaseException as error:
            self.inflight.start(self.unreadable(delivery, error))
            return self.inflight.room()
        self._put(delivery, event)
        return self.inflight.room()

    def _put(self, delivery: Delivery, event: Any) -> None:
        """Put an event to the others; one that comes again is handled alone."""
        if delivery.attempt > 1:
            self.inflight.start(self._handle_batch([(delivery, event)]))
        else:
            self._collect((delivery, event))

    @property
    def collected(self) -> int:
        """How many events wait here for a batch."""
        return len(self._collected)

    @property
    def consumer(self) -> Receive:
        return self.receive

    async def finish(self) -> None:
        await super().finish()
        self._hand_over()
        await super().finish()

    async def cut_off(self) -> int:
        self._stop_waiting()
        collected, self._collected = self._collected, []
        for delivery, _ in collected:
            await delivery.nack()
        return await super().cut_off()

    def _collect(self, item: Item) -> None:
        item[0].waiting = True
        self._collected.append(item)
        if len(self._collected) >= self._batch.size:
            self._hand_over()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._batch.within, self._hand_over)

    def _hand_over(self) -> None:
        """Handle what was collected; where too much runs already, when there is room."""
        self._stop_waiting()
        room = self.inflight.room()
        if room is None:
            if self._collected:
                collected, self._collected = self._collected, []
                self.inflight.start(self._handle_batch(collected), len(collected))
        elif not self._awaits_room:
            self._awaits_room = True
            asyncio.ensure_future(room).add_done_callback(self._room_came)

    def _room_came(self, _: object) -> None:
        self._awaits_room = False
        self._hand_over()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _handle_batch(self, items: list[Item]) -> None:
        for delivery, _ in items:
            delivery.waiting = False
        try:
            items = [item for item in items if await self.may_start(item[0])]
        except asyncio.CancelledError:  # by a stop, while one of them was acknowledged before
            for delivery, _ in items:
                await delivery.nack()
            return
        if not items:
            return
        deliveries = [delivery for delivery, _ in items]
        context = self._context_of(deliveries)
        enter_context(context)
        try:
            await self.run([event for _, event in items], context)
            context.ended = True
            if not context.settled:
                await self._handled(deliveries)
        except ENDS:
            raise
        except BaseException as error:
            await self._failed_together(context, deliveries, error)

    async def _handled(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            if self.settling.ack == "after_success":
                await delivery.ack()
            elif self.settling.ack == "manual":
                self.unsettled.add(delivery)

    async def _failed_together(self, context: Context, deliveries: list[Delivery], error: BaseException) -> None:
        context.ended = True
        if context.settled:
            await self.failed(context, deliveries[0], error)
            return
        alone = len(deliveries) == 1
        if not alone and isinstance(error, Reject):
            fields = dict(self.settling.told.fields)
            log.info(
                "%s: a batch of %d events was rejected: %s", self.name, len(deliveries), error.reason, extra=fields
            )
        elif not alone and not isinstance(error, Settlement | asyncio.CancelledError):
            self._say_failed(len(deliveries), error)
        for delivery in deliveries:
            self.count(error)
            failing = self.settling.failed(delivery, error, alone=alone)
            delay = await self.settle(delivery, failing, is_acked=self.settling.ack == "before")
            if delay is not None:
                await self.again(delivery, delay)
            if _is_cancelled():  # meanwhile, by a stop
                error = asyncio.CancelledError()

    def _say_failed(self, count: int, error: BaseException) -> None:
        told = self.settling.told
        if not told.counts(("batch", *origin(error)), logging.ERROR, "batches failed, the last by %s", describe(error)):
            log.error("%s: a batch of %d events failed", self.name, count, exc_info=error, extra=dict(told.fields))

    def _context_of(self, deliveries: list[Delivery]) -> Context:
        if len(deliveries) == 1:
            return self.context(deliveries[0])
        context = OfBatch(Delivery(deliveries[0].subject), self._fill)
        context.delivery, context.settles = deliveries, self._together
        return context


class OfBatch(Received):
    """The context of several events that are handled together."""

    __slots__ = ()
    is_batch = True


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Together:
    """Settles all events of a batch alike, by its context's `ack`, `nack` and `reject`."""

    def __init__(self, each: ByHandler) -> None:
        self._each = each

    async def ack(self, event: list[Delivery]) -> None:
        for delivery in event:
            await self._each.ack(delivery)

    async def nack(self, event: list[Delivery], delay: float | None) -> None:
        for delivery in event:
            await self._each.nack(delivery, delay)

    async def reject(self, event: list[Delivery], reason: str) -> None:
        for delivery in event:
            await self._each.reject(delivery, reason)
