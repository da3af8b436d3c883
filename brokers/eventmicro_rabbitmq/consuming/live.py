"""A subscription that is not durable: it gets what is published while it is there, at most once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from aiormq.exceptions import ChannelNotFoundEntity

from eventmicro.broker import Receive
from eventmicro.cloudevents import TEXT, Binding
from eventmicro.intake import Intake
from eventmicro.lifetime import until_done
from eventmicro.message import Delivery
from eventmicro_rabbitmq.connection.channel import Channel
from eventmicro_rabbitmq.connection.connection import Connection, end_task
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.connection.frames import ack_frame
from eventmicro_rabbitmq.connection.link import Link
from eventmicro_rabbitmq.consuming.consumer import Consumer
from eventmicro_rabbitmq.consuming.incoming import read_headers
from eventmicro_rabbitmq.declare import Declarer
from eventmicro_rabbitmq.layout import Layout
from eventmicro_rabbitmq.looking import Look

log = logging.getLogger(__name__)

# How many events of a connection wait on this side; the others wait in the server. As many may wait from those before.
PREFETCH = 500


class LiveDelivery(Delivery):
    """An event of a live subscription.

    event: how it came.
    tag: what the server knows it by, 0 when it has forgotten it.
    """

    __slots__ = ("event", "tag")

    event: Event
    tag: int

    @property
    def cloudevents(self) -> Binding:
        return TEXT


class LiveSubscription:
    """A queue that goes with its last consumer.

    Where it is slow its events wait in the server, up to `pending_messages` of the settings; then the server drops the
    oldest, which it tells nobody: `dropped` counts only those that had come here. What was on its way here when the
    connection was lost is gone, too.
    """

    def __init__(
        self,
        subject: str,
        queue: str | None,
        receive: Receive,
        link: Link,
        declarer: Declarer,
        layout: Layout | None = None,
    ) -> None:
        self.subject = subject
        self.layout = layout
        self._queue = ""  # its name, when it is there
        self.queue = queue
        self.dropped = 0
        self.ended = False
        self.closed = False
        self._leaving: asyncio.Task[None] | None = None
        self._declarer = declarer
        name = f"subscription to {subject}"
        wait = declarer.timeout
        self._consumer = Consumer(
            link, name, PREFETCH, wait, self._prepare, self._take, self._forget, fields={"subject": subject}
        )
        self._receive = receive
        self._intake: Intake[LiveDelivery] = Intake(self._hand_over)

    async def open(self, connection: Connection) -> None:
        try:
            await self._consumer.open(connection)
        except ChannelNotFoundEntity:  # the last member has just left the queue, which went with it
            await self._consumer.open(connection)

    async def stands(self) -> None:
        """Return when it takes events, again where the connection was lost."""
        if not self.ended:
            await self._consumer.stands()

    async def drain(self) -> None:
        if not self.ended:
            self.ended = True
            self._leaving = asyncio.create_task(self._leave(), name=f"eventmicro rabbitmq {self.subject} leave")
        if self._leaving is not None:
            await until_done(self._leaving)  # it is done though nobody waits for it: callers wait for an answer

    async def _leave(self) -> None:
        try:
            await self._consumer.leave()
            await self._intake.join()
        finally:
            await self._end()

    async def close(self) -> None:
        """End it; what was not handed over is gone."""
        self.ended = True
        try:
            if self._leaving is not None:
                await end_task(self._leaving)
        finally:
            await self._end()

    async def _end(self) -> None:
        self._intake.hold()
        try:
            await self._consumer.close()
        finally:
            if left := len(self._intake.take_back()):
                self.dropped += left
                log.warning(
                    "subscription to %s is closed: %d events still waited and are dropped",
                    self.subject,
                    left,
                    extra={"subject": self.subject},
                )
            self._intake.close()
        self.closed = True

    async def _prepare(self, channel: Channel) -> str:
        self._queue = await self._declarer.live_queue(channel, self.subject, self.queue, self.layout)
        return self._queue

    async def renew(self, look: Look) -> None:
        """See that its exchange and its bindings are there."""
        if self.layout is not None and self._queue and not self.ended and self._consumer.channel is not None:
            await self._declarer.renew(look, self.subject, self._queue, self.layout)

    def _take(self, events: list[Event]) -> None:
        new: list[LiveDelivery] = []
        for event in events:
            delivery = LiveDelivery(event.routing_key or self.subject, event.body, read_headers(event.properties))
            delivery.event, delivery.tag = event, event.delivery_tag or 0
            if event.redelivered:  # a member, maybe this one, has begun with it or keeps it
                self._ack(delivery)
            else:
                new.append(delivery)
        self._intake.take_all(new)

    def _hand_over(self, delivery: Any) -> Awaitable[None] | None:
        self._ack(delivery)
        return self._receive(delivery)

    def _ack(self, delivery: LiveDelivery) -> None:
        """Before it is handed over, so that nobody gets it twice."""
        channel = self._consumer.channel
        if delivery.tag and channel is not None:
            channel.link.send(ack_frame(channel.number, delivery.tag))

    def _forget(self) -> None:
        """The channel has ended. What waits is to be handed over here or nowhere: a shared queue has it back, but
        there it counts as delivered, so that no member takes it.
        """
        waiting = self._intake.take_back()
        if (too_many := len(waiting) - PREFETCH) > 0:
            self.dropped += too_many
            log.warning(
                "subscription to %s is too slow: %d events dropped",
                self.subject,
                too_many,
                extra={"subject": self.subject},
            )
        for delivery in waiting[-PREFETCH:]:
            delivery.tag = 0
            self._intake.take(delivery)
