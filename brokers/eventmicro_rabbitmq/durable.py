"""A durable subscription: a quorum queue whose events are kept until they are settled."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Awaitable, Callable

from pamqp.commands import Basic

from eventmicro.broker import Durable, Receive
from eventmicro_rabbitmq import frames
from eventmicro_rabbitmq.consumer import Consumer, consume
from eventmicro_rabbitmq.declare import Declarer
from eventmicro_rabbitmq.driver import Channel, Connection, open_channel
from eventmicro_rabbitmq.frames import Properties
from eventmicro_rabbitmq.incoming import RabbitDelivery, read_event
from eventmicro_rabbitmq.intake import Intake
from eventmicro_rabbitmq.link import Link

log = logging.getLogger(__name__)

# How long an ordered queue waits for an event that was nacked to come again, in seconds. It does at once, unless
# somebody has taken it out of the queue.
RETURN_TIMEOUT = 30.0
# How long a nack waits before it is sent, in seconds: RabbitMQ delivers again at once, also to an instance that is
# just being closed, and counts that.
NACK_AFTER = 0.01

Postpone = Callable[[str, RabbitDelivery, float], Awaitable[bool]]
"""Makes a copy of a queue's event wait for some seconds; False where that cannot be done."""


class DurableSubscription:
    """One instance at a queue.

    Args:
        postpone: how an event is made to wait for its next attempt.
    """

    dropped = 0

    def __init__(
        self,
        subject: str,
        queue: str,
        durable: Durable,
        receive: Receive,
        link: Link,
        declarer: Declarer,
        dead_exchange: str,
        postpone: Postpone,
    ) -> None:
        self.subject = subject
        self.queue = queue
        self.ended = False
        self._durable = durable
        self._declarer = declarer
        self._dead_exchange = dead_exchange
        self._postpone = postpone
        self._consumer = Consumer(link, f"queue {queue}", self._start, self._lapse)
        self._intake: Intake[RabbitDelivery] = Intake(receive)
        self._channel: Channel | None = None
        self._unsettled: dict[int, RabbitDelivery] = {}
        self._acked: list[int] = []
        self._nacked: list[int] = []
        self._kept_back: list[int] = []
        self._order = 0
        self._returning: list[RabbitDelivery] = []
        self._returned: list[RabbitDelivery] = []
        self._no_return: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self, connection: Connection) -> None:
        await self._consumer.open(connection)

    async def stands(self) -> None:
        """Return when it takes events, again where the connection was lost."""
        if not self.ended:
            await self._consumer.stands()

    async def drain(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self._durable.ordered:  # the queue goes to the next instance when this one has settled all it works on
            self._intake.hold()
        else:
            await self._consumer.leave()
            for delivery in self._intake.take_back():
                self._requeue(delivery)
            self._send_nacks()
        if self._is_idle():
            await self.close()

    async def close(self) -> None:
        """End it; what is not settled goes back into the queue."""
        self.ended = True
        self._intake.close()
        self._stop_awaiting()
        self._send_acks()
        # With the channel's end all that is not settled goes back, and so only once; no ack of several may hold it.
        self._kept_back, self._nacked = self._nacked, []
        if self._durable.ordered:
            self._requeue_in_order()
        else:
            await self._consumer.leave()  # which RabbitMQ answers when it has worked off what was acked
        await self._consumer.close()
        self._lapse()
        if self._closing is not None and self._closing is not asyncio.current_task():
            await asyncio.wait([self._closing])

    def ack(self, delivery: RabbitDelivery) -> None:
        if self._settle(delivery):
            if not self._acked:
                asyncio.get_running_loop().call_soon(self._send_acks)
            self._acked.append(delivery.tag)
            self._end_if_idle()

    async def nack(self, delivery: RabbitDelivery, delay: float) -> None:
        if delay <= 0:
            self._requeue(delivery)
        elif self._durable.ordered or not self._declarer.makes:
            self._requeue_later(delivery, delay)
        elif await self._postpone(self.queue, delivery, delay):
            self.ack(delivery)
        else:
            self._requeue_later(delivery, delay)

    async def _start(self, connection: Connection) -> Channel:
        await self._declarer.durable_queue(connection, self.subject, self.queue, self._durable)
        self._channel = channel = await open_channel(connection)
        channel.on_deliver = self._take
        await consume(channel, self.queue, self._durable.prefetch)
        return channel

    def _take(self, frame: Basic.Deliver, properties: Properties, body: bytes) -> None:
        delivery = read_event(frame, properties, body, self, self.queue, self._dead_exchange)
        self._unsettled[delivery.tag] = delivery
        if self._returning and self._has_returned(delivery):
            return
        self._order += 1
        delivery.order = self._order
        self._intake.take(delivery)

    def _settle(self, delivery: RabbitDelivery) -> bool:
        """Whether it could still be settled, and now is."""
        if self._unsettled.get(delivery.tag) is not delivery:
            return False
        del self._unsettled[delivery.tag]
        return True

    def _requeue(self, delivery: RabbitDelivery) -> None:
        """Give it back to RabbitMQ, which delivers it before all that is behind it in the queue."""
        if self._settle(delivery):
            delivery.holder = None
            if not self._nacked:
                asyncio.get_running_loop().call_later(NACK_AFTER, self._send_nacks)
            self._nacked.append(delivery.tag)
            if self._durable.ordered and not self.ended:
                self._await_return(delivery)
            self._end_if_idle()

    def _send_acks(self) -> None:
        """Send those of this turn of the event loop; where nothing before them is unsettled, they are one frame."""
        acked, self._acked = self._acked, []
        channel = self._channel
        if channel is None or not acked:
            return
        unsettled = min([*itertools.islice(self._unsettled, 1), *self._nacked, *self._kept_back], default=math.inf)
        together = [tag for tag in acked if tag < unsettled]
        if together:
            channel.link.send(frames.ack(channel.number, max(together), multiple=True))
        for tag in acked:
            if tag > unsettled:
                channel.link.send(frames.ack(channel.number, tag))

    def _send_nacks(self) -> None:
        nacked, self._nacked = self._nacked, []
        if self._channel is not None:
            for tag in nacked:
                self._channel.link.send(frames.nack(self._channel.number, tag))

    def _requeue_later(self, delivery: RabbitDelivery, delay: float) -> None:
        asyncio.get_running_loop().call_later(delay, self._requeue, delivery)

    def _requeue_in_order(self) -> None:
        """What was nacked once is behind what came after it, when RabbitMQ takes all back by itself."""
        in_order = sorted(self._unsettled.values(), key=lambda delivery: delivery.order)
        if [delivery.tag for delivery in in_order] != list(self._unsettled):
            for delivery in in_order:
                self._requeue(delivery)
            self._send_nacks()

    def _await_return(self, delivery: RabbitDelivery) -> None:
        """Hand over nothing until this event has come again."""
        self._returning.append(delivery)
        self._intake.hold()
        if self._no_return is None:
            loop = asyncio.get_running_loop()
            self._no_return = loop.call_later(RETURN_TIMEOUT, self._go_on_without)

    def _has_returned(self, delivery: RabbitDelivery) -> bool:
        """Whether this is an event that was waited for."""
        same = next((nacked for nacked in self._returning if nacked.id == delivery.id), None)
        if same is None:
            return False
        delivery.order = same.order
        self._returning.remove(same)
        self._returned.append(delivery)
        if not self._returning:
            self._go_on()
        return True

    def _go_on(self) -> None:
        """Hand over what has come again, in its order, then the rest."""
        returned = sorted(self._returned, key=lambda delivery: delivery.order, reverse=True)
        self._stop_awaiting()
        for delivery in returned:
            self._intake.put_first(delivery)
        if not self.ended:
            self._intake.go_on()

    def _go_on_without(self) -> None:
        log.warning("queue %s: events that were to come again did not; going on", self.queue)
        self._go_on()

    def _stop_awaiting(self) -> None:
        self._returning.clear()
        self._returned.clear()
        if self._no_return is not None:
            self._no_return.cancel()
            self._no_return = None

    def _lapse(self) -> None:
        """The channel has ended: RabbitMQ has taken back all that was not settled."""
        self._channel = None
        self._acked.clear()
        self._nacked.clear()
        unsettled, self._unsettled = self._unsettled, {}
        for delivery in unsettled.values():
            delivery.lapsed = True
            delivery.holder = None
        self._intake.take_back()
        if self._returning:
            self._stop_awaiting()
            self._intake.go_on()

    def _is_idle(self) -> bool:
        """Whether nobody works on an event of it."""
        return len(self._unsettled) <= len(self._intake)

    def _end_if_idle(self) -> None:
        if self.ended and self._closing is None and self._is_idle():
            self._closing = asyncio.create_task(self.close(), name=f"eventmicro rabbitmq leave {self.queue}")
