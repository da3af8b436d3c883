"""A durable subscription: a quorum queue whose events are kept until they are settled."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from eventmicro.broker import Durable, Receive
from eventmicro.intake import Intake
from eventmicro.watchdog import Watchdog
from eventmicro_rabbitmq.connection.channel import Channel
from eventmicro_rabbitmq.connection.connection import Connection
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.connection.frames import ack_frame, nack_frame
from eventmicro_rabbitmq.connection.link import Link
from eventmicro_rabbitmq.consuming.consumer import LEAVE_TIMEOUT, Consumer
from eventmicro_rabbitmq.consuming.incoming import RabbitDelivery, is_uncounted, read_event
from eventmicro_rabbitmq.consuming.pace import Pace
from eventmicro_rabbitmq.consuming.pacing import Pacing
from eventmicro_rabbitmq.consuming.priorities import Priorities, say_held_first
from eventmicro_rabbitmq.consuming.returns import Returns
from eventmicro_rabbitmq.consuming.taken_back import TakenBack
from eventmicro_rabbitmq.consuming.uncounted import Uncounted
from eventmicro_rabbitmq.declare import Declarer
from eventmicro_rabbitmq.errors import plain
from eventmicro_rabbitmq.layout import Layout
from eventmicro_rabbitmq.looking import Look

log = logging.getLogger(__name__)

# AMQP counts the events that a consumer may hold in two bytes.
LARGEST_PREFETCH = 65_535
# How long a nack waits before it is sent, in seconds: RabbitMQ delivers again at once, also to an instance that is
# just being closed, and counts that.
NACK_AFTER = 0.01
# RabbitMQ 4 counts the delivery after which it gave an event up as one of the queue that this then goes to.
COUNTS_GIVEN_UP = 4


class Copies(Protocol):
    """Makes copies of a queue's events; False where that cannot be done now."""

    async def postpone(self, queue: str, delivery: RabbitDelivery, delay: float) -> bool: ...

    async def recount(self, queue: str, delivery: RabbitDelivery) -> bool: ...


class DurableSubscription:
    """One instance at a queue.

    Args:
        copies: makes those that wait for their next attempt, and those that say which it is.
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
        copies: Copies,
        layout: Layout,
    ) -> None:
        self.subject = subject
        self.queue = queue
        self.ended = False
        self._durable = durable
        self._declarer = declarer
        self.layout = layout
        self._dead_exchange = dead_exchange
        self._postpone: Callable[[str, RabbitDelivery, float], Awaitable[bool]] = copies.postpone
        self._recount = copies.recount
        self._given_up = 0
        most, lifetime = min(durable.prefetch, LARGEST_PREFETCH), declarer.consumer_timeout
        self._pace = Pace(most, lifetime, grows=not durable.ordered)
        name, wait = f"queue {queue}", declarer.timeout
        self._consumer = Consumer(
            link, name, self._pace.held, wait, self._prepare, self._take, self._lapse, fields={"queue": queue}
        )
        self._intake: Intake[RabbitDelivery] = Intake(receive)
        self._pacing = Pacing(queue, self._pace, self._consumer, self._intake, self._counts)
        self._paces: asyncio.Task[None] | None = None
        patience = 0.0 if durable.ordered else durable.timeout
        self._taken_back = TakenBack(self._ack_again, self._hand_over_after_all, patience, lifetime)
        self._acked_late: list[RabbitDelivery] = []  # when the server may have ended the connection already
        self._watchdog = Watchdog(self._state, self._waits, self._begin_anew)
        self._watching: asyncio.Task[None] | None = None
        self._unsettled: dict[int, RabbitDelivery] = {}  # by tag, in the order in which they came
        self._acked: list[RabbitDelivery] = []
        self._nacked: list[RabbitDelivery] = []  # to be given back, and unsettled until then
        self._holds_nacks = False
        self._postponed: set[int] = set()  # those of which a copy is being made
        self._later: dict[int, asyncio.TimerHandle] = {}
        self._order = 0
        self._began_at = 0
        self._returns = Returns(queue, self._go_on)
        self._priorities = Priorities(queue) if durable.ordered else None
        self._major = 0
        self._uncounted = Uncounted(self._store_counted, self.ack, self._hand_over_late)
        self._ending: asyncio.Task[None] | None = None
        self._left = asyncio.Event()
        self._idle = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Whether it has ended, and nothing of it is to be settled any more."""
        return self._ending is not None and self._ending.done()

    async def open(self, connection: Connection) -> None:
        await self._consumer.open(connection)
        if self._watching is None:
            name = f"eventmicro rabbitmq watchdog {self.queue}"
            self._watching = asyncio.create_task(self._watchdog.run(), name=name)
            if not self._durable.ordered:  # which goes to one instance, that holds what it is told to
                self._paces = asyncio.create_task(self._pacing.run(), name=f"eventmicro rabbitmq pace {self.queue}")

    async def stands(self) -> None:
        """Return when it takes events, again where the connection was lost."""
        if not self.ended:
            await self._consumer.stands()

    async def drain(self) -> None:
        self._wind_up()
        await self._left.wait()

    async def close(self) -> None:
        """End it; what is not settled goes back into the queue."""
        self._intake.close()
        self._idle.set()  # nobody is waited for
        await asyncio.wait([self._wind_up()])

    def ack(self, delivery: RabbitDelivery) -> None:
        if not self._holds(delivery):
            return
        del self._unsettled[delivery.tag]
        if not self._acked:
            asyncio.get_running_loop().call_soon(self._send_acks)
        self._acked.append(delivery)
        self._look_whether_idle()

    async def nack(self, delivery: RabbitDelivery, delay: float) -> None:
        if delay <= 0:
            self._requeue(delivery)
            return
        stored = False
        self._postponed.add(delivery.tag)
        try:
            if self._declarer.makes and not self._durable.ordered:
                stored = await self._postpone(self.queue, delivery, delay)
        finally:  # cancelled, too
            self._postponed.discard(delivery.tag)
            if stored:
                self._taken_back.counted(delivery)  # what is said of the copy
                self.ack(delivery)
            else:
                self._requeue_later(delivery, delay)

    async def _prepare(self, channel: Channel) -> str:
        await self._declarer.durable_queue(channel.link, self.subject, self.queue, self._durable, self.layout)
        if self._order == 0 and self._declarer.goes_to_one(self.queue):
            self._pace.hold_all()
        if self._watching is None and self._declarer.has_priorities(self.queue, self.layout):
            say_held_first(self.queue, self._durable.prefetch)
        self._consumer.prefetch = self._pace.held
        self._began_at = self._order
        self._major = channel.link.major
        self._given_up = int(self._major >= COUNTS_GIVEN_UP)
        if self._priorities is not None:
            self._priorities.begin(self._major)
        return self.queue

    async def renew(self, look: Look) -> None:
        """See that its exchange and its bindings are there."""
        if not self.ended and self._consumer.channel is not None:
            await self._declarer.renew(look, self.subject, self.queue, self.layout, self._durable)

    def _take(self, events: list[Event]) -> None:
        new: list[RabbitDelivery] = []
        if self._priorities is not None:
            self._priorities.look_at(events, self._major)
        try:
            for event in events:
                delivery = read_event(
                    event,
                    event.properties,
                    event.body,
                    self,
                    self.queue,
                    self._dead_exchange,
                    self._given_up,
                    self.subject,
                )
                self._unsettled[delivery.tag] = delivery
                if not event.redelivered or self._hands_over_again(delivery):
                    new.append(self._in_order(delivery))
        finally:  # also those before one that cannot be read
            if len(self._unsettled) >= self._pace.held:
                self._pacing.is_full()
            self._intake.take_all(new)

    def _hand_over(self, delivery: RabbitDelivery) -> None:
        self._intake.take(self._in_order(delivery))

    def _in_order(self, delivery: RabbitDelivery) -> RabbitDelivery:
        """Behind all that came before."""
        self._order += 1
        delivery.order = self._order
        return delivery

    def _hands_over_again(self, delivery: RabbitDelivery) -> bool:
        """Whether an event that comes again is to be handed over in the turn in which it came."""
        was_not_begun = self._taken_back.was_not_begun(delivery)
        if self._taken_back.keeps(delivery):
            return False
        if is_uncounted(delivery):
            if was_not_begun:
                self._taken_back.counted(delivery)  # from now on
            elif not self._durable.ordered:
                self._uncounted.replace(delivery)
                return False
            else:
                self._uncounted.count(delivery)
        # another event of the same id, which its publisher has sent twice, may come before the one that was given back
        return not (self._durable.ordered and self._returns.takes(delivery))

    async def _store_counted(self, delivery: RabbitDelivery) -> bool:
        return await self._recount(self.queue, delivery)

    def _ack_again(self, delivery: RabbitDelivery) -> None:
        log.info(
            "queue %s: an event that RabbitMQ took back was handled, and is not handled again",
            self.queue,
            extra={"queue": self.queue},
        )
        self.ack(delivery)

    def _hand_over_after_all(self, delivery: RabbitDelivery) -> None:
        """One that has waited for a handler which was still at it."""
        if is_uncounted(delivery) and not self.ended:
            self._uncounted.replace(delivery)
        else:
            self._hand_over_late(delivery)

    def _hand_over_late(self, delivery: RabbitDelivery) -> None:
        if self.ended:
            self._requeue(delivery)
        elif self._holds(delivery):
            self._hand_over(delivery)

    def _requeue(self, delivery: RabbitDelivery) -> None:
        """Give it back to RabbitMQ, which delivers it before what never was, and after what came back before."""
        self._later.pop(delivery.tag, None)
        if not self._holds(delivery):
            return
        delivery.holder = None
        if not self._nacked:
            asyncio.get_running_loop().call_later(NACK_AFTER, self._send_nacks)
        self._nacked.append(delivery)
        if self._durable.ordered and not self.ended:
            self._intake.hold()  # until it has come again
            self._returns.expect(delivery)
        self._look_whether_idle()

    def _requeue_later(self, delivery: RabbitDelivery, delay: float) -> None:
        if self._holds(delivery):
            self._later[delivery.tag] = asyncio.get_running_loop().call_later(delay, self._requeue, delivery)

    def _holds(self, delivery: RabbitDelivery) -> bool:
        """Whether it is still to be settled; else RabbitMQ has taken it back."""
        return self._unsettled.get(delivery.tag) is delivery

    def _send_acks(self) -> None:
        """Send those of this turn of the event loop; where nothing before them is unsettled, they are one frame."""
        acked, self._acked = self._acked, []
        channel = self._consumer.channel
        if channel is None or not acked:
            return
        unsettled = next(iter(self._unsettled), math.inf)
        tags = [delivery.tag for delivery in acked]
        together = [tag for tag in tags if tag < unsettled]
        if together:
            channel.link.send(ack_frame(channel.number, max(together), multiple=True))
        for tag in tags:
            if tag > unsettled:
                channel.link.send(ack_frame(channel.number, tag))
        if channel.link.stood_still:
            self._acked_late += acked
        elif self._acked_late:  # and the connection stands
            self._acked_late.clear()

    def _send_nacks(self) -> None:
        if self._holds_nacks:
            return
        nacked, self._nacked = self._nacked, []
        for delivery in nacked:
            del self._unsettled[delivery.tag]
        self._send_back(nacked)

    def _send_back(self, deliveries: list[RabbitDelivery]) -> None:
        channel = self._consumer.channel
        if channel is not None:
            for delivery in deliveries:
                channel.link.send(nack_frame(channel.number, delivery.tag))

    def _go_on(self, returned: list[RabbitDelivery]) -> None:
        """Hand over what has come again, then the rest."""
        for delivery in reversed(returned):
            self._intake.put_first(delivery)
        if not self.ended:
            self._intake.go_on()

    def _lapse(self) -> None:
        """The channel has ended: RabbitMQ has taken back all that was not settled."""
        if not self._consumer.stood_still:
            self._declarer.look_anew(self.queue)  # it may be another one by then
        self._note_what_is_taken_back(too_slow=self._pace.learn(self._why_ended()))
        self._acked.clear()  # on the next channel their tags are other events
        self._nacked.clear()
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()
        self._postponed.clear()
        unsettled, self._unsettled = self._unsettled, {}
        for delivery in unsettled.values():
            delivery.lapsed = True
        self._intake.take_back()
        self._returns.lapse()
        if not self.ended:
            self._intake.go_on()
        self._look_whether_idle()

    def _why_ended(self) -> str:
        channel = self._consumer.last
        return "" if channel is None or channel.why_ended is None else plain(channel.why_ended)

    def _note_what_is_taken_back(self, *, too_slow: bool) -> None:
        """Which of what is unsettled was begun, and which comes again through no fault of its own."""
        channel = self._consumer.last
        stood_still = channel is not None and channel.link.stood_still > 0
        failed = {delivery.tag for delivery in self._nacked} | self._later.keys() | self._postponed
        waiting = {delivery.tag for delivery in self._intake.waiting}
        begun, not_counted = list[RabbitDelivery](), list[RabbitDelivery]()
        for tag, delivery in self._unsettled.items():
            is_begun = tag not in waiting and not delivery.waiting
            if is_begun and tag not in failed:
                begun.append(delivery)
            else:
                delivery.holder = None
            if not is_begun or (stood_still and tag not in failed):
                not_counted.append(delivery)
        self._taken_back.take(begun, too_slow=too_slow)
        self._taken_back.not_counted(not_counted)
        if stood_still or too_slow:
            self._taken_back.ended_well((*self._acked_late, *self._acked))
        self._acked_late.clear()

    def _counts(self) -> tuple[int, int]:
        return self._order - len(self._unsettled), len(self._unsettled)

    def _state(self) -> object:
        waiting, channel = self._intake.stands_at, self._consumer.channel
        return waiting and waiting.tag, channel and channel.number, self._order

    async def _waits(self) -> bool:
        """Whether there are events here or at the server that could be handed over."""
        channel = self._consumer.channel
        if self.ended or channel is None:
            return False
        if self._intake.stands_at is not None:
            return True
        not_its_turn = self._durable.ordered and self._order == self._began_at
        if not_its_turn or len(self._unsettled) >= self._pace.held:
            return False
        return await self._declarer.has_events(channel.link, self.queue)

    async def _begin_anew(self, still: float) -> None:
        log.warning(
            "queue %s: events and room, and no progress for %.0f s: beginning anew",
            self.queue,
            still,
            extra={"queue": self.queue},
        )
        self._consumer.begin_anew()

    def _wind_up(self) -> asyncio.Task[None]:
        """Take no more, and end when nobody works on an event of it; it is done though nobody waits for it."""
        if self._ending is None:
            self.ended = self._holds_nacks = True
            self._intake.hold()
            self._pacing.end()
            self._returns.keep(self._nacked)
            self._ending = asyncio.create_task(self._end(), name=f"eventmicro rabbitmq leave {self.queue}")
            self._ending.add_done_callback(lambda _: self._left.set())  # also where it fails
        return self._ending

    async def _end(self) -> None:
        try:
            await self._leave()
        finally:
            for task in (self._watching, self._paces):
                if task is not None:
                    task.cancel()
                    await asyncio.wait([task])
            await self._uncounted.close()
            await self._consumer.close()

    async def _leave(self) -> None:
        if not self._durable.ordered:  # an ordered queue goes to the next instance when all here is settled
            if self._paces is not None:  # a call to the server that is cut off would end the channel
                await asyncio.wait([self._paces], timeout=LEAVE_TIMEOUT)
            await self._consumer.leave()  # which RabbitMQ answers when it has worked off what was acked
            for delivery in self._intake.take_back():
                self._requeue(delivery)
            self._holds_nacks = False
            self._send_nacks()
        self._look_whether_idle()
        if not self._idle.is_set():
            self._left.set()
            await self._idle.wait()
        self._send_acks()  # those that came after `close`
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await self._returns.wait()
                while misplaced := self._misplaced():
                    self._send_back_in_order(misplaced)
                    await self._returns.wait()
        self._returns.forget()

    def _misplaced(self) -> list[RabbitDelivery]:
        """What would go back in a wrong order, in the right one.

        With the channel's end RabbitMQ takes all back as it came, and what was nacked once came after the others.
        """
        in_order = (
            sorted(self._unsettled.values(), key=lambda delivery: delivery.order) if self._durable.ordered else []
        )
        last = 0
        for place, delivery in enumerate(in_order):
            if delivery.tag < last:
                return in_order[place:]
            last = delivery.tag
        return []

    def _send_back_in_order(self, deliveries: list[RabbitDelivery]) -> None:
        """Have them come again, behind what RabbitMQ was sending at this moment: that has its place behind them."""
        for delivery in deliveries:
            del self._unsettled[delivery.tag]
            self._returns.expect(delivery)
        self._send_back(deliveries)

    def _look_whether_idle(self) -> None:
        """Where it ends: is nobody at work on an event of it?"""
        if self.ended and len(self._unsettled) <= len(self._intake) + len(self._nacked) + len(self._returns):
            self._idle.set()
