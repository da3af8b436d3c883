"""Endpoints: those who answer calls on one subject share a queue, which goes with the last of them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable
from typing import Any

from aiormq.exceptions import ChannelNotFoundEntity

from eventmicro.broker import Receive
from eventmicro.intake import many_of
from eventmicro_rabbitmq.calls.line import CallDelivery, Line, read_call
from eventmicro_rabbitmq.connection.channel import Channel
from eventmicro_rabbitmq.connection.connection import Connection
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.connection.frames import ack_frame
from eventmicro_rabbitmq.connection.link import Link
from eventmicro_rabbitmq.consuming.consumer import Consumer
from eventmicro_rabbitmq.declare import Declarer

# How many calls of an endpoint wait on this side; the others wait in the server, where any instance may take them.
PREFETCH = 500


class GroupSubscription:
    """One of those who share the calls on a subject.

    A call is acknowledged when it is handed over. One that comes again was with an instance that has ended, or lost
    its connection, and may have begun with it: nobody takes it, and its caller gets a timeout.
    """

    def __init__(self, subject: str, receive: Receive, link: Link, declarer: Declarer) -> None:
        self.subject = subject
        self.ended = False
        self.closed = False
        self._declarer = declarer
        self._receive = receive
        self._receive_many = many_of(receive)
        name = f"calls of {subject}"
        self._line = Line(name, self, 2 * PREFETCH)  # as many may wait from a connection that was lost
        wait = declarer.timeout
        self._consumer = Consumer(link, name, PREFETCH, wait, self._prepare, self._take, self._forget)
        self._unsettled: deque[int] = deque()  # by tag

    @property
    def dropped(self) -> int:
        return self._line.dropped

    async def open(self, connection: Connection) -> None:
        try:
            await self._consumer.open(connection)
        except ChannelNotFoundEntity:  # the last of the others has just left the queue, which went with it
            await self._consumer.open(connection)

    async def stands(self) -> None:
        """Return when it takes calls, again where the connection was lost."""
        if not self.ended:
            await self._consumer.stands()

    async def drain(self) -> None:
        if self.ended:
            return
        self.ended = True
        try:
            await self._consumer.leave()
            await self._line.intake.join()
        finally:
            await self.close()

    async def close(self) -> None:
        """End it; what was not handed over is gone."""
        self.ended = True
        self._line.intake.hold()
        try:
            await self._consumer.close()
        finally:
            self._line.close()
            self.closed = True

    def __call__(self, delivery: Any) -> Awaitable[None] | None:
        return self.many(deque((delivery,)))

    def many(self, line: deque[Any]) -> Awaitable[None] | None:
        """Hand over what comes first, and acknowledge it."""
        try:
            return self._receive(line.popleft()) if self._receive_many is None else self._receive_many(line)
        finally:
            self._ack_before(line)

    async def _prepare(self, channel: Channel) -> str:
        return await self._declarer.call_queue(channel, self.subject)

    def _take(self, events: list[Event]) -> None:
        new: list[CallDelivery] = []
        for event in events:
            self._unsettled.append(event.delivery_tag or 0)
            if not event.redelivered:
                new.append(read_call(event))
        if new:
            self._line.take(new)
        if not len(self._line.intake):
            self._ack_before(())

    def _ack_before(self, line: deque[CallDelivery] | tuple[()]) -> None:
        """Acknowledge what came before the first that waits."""
        waiting = (line[0].event.delivery_tag or 0) if line else math.inf
        tag, unsettled, channel = 0, self._unsettled, self._consumer.channel
        while unsettled and unsettled[0] < waiting:
            tag = unsettled.popleft()
        if tag and channel is not None:
            channel.link.send(ack_frame(channel.number, tag, multiple=True))

    def _forget(self) -> None:
        """The channel has ended; what waits is to be handed over here or nowhere, as to others it comes again."""
        self._unsettled.clear()
        waiting: list[Any] = self._line.intake.take_back()
        for delivery in waiting:
            delivery.event.delivery_tag = 0
            self._line.intake.take(delivery)
