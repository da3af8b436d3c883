"""Endpoints: those who answer calls on one subject share a queue, which goes with the last of them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable
from typing import Any

from eventmicro.broker import Receive
from eventmicro.intake import Intake, many_of
from eventmicro.wire import ENDPOINT_QUEUE
from eventmicro_rabbitmq.calls.declaring import CallDeclarer
from eventmicro_rabbitmq.calls.received import read_request
from eventmicro_rabbitmq.connection.channel import Channel
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.connection.frames import ack_frame
from eventmicro_rabbitmq.connection.link import Link
from eventmicro_rabbitmq.consuming.live import LiveDelivery, LiveSubscription


class GroupSubscription(LiveSubscription):
    """One of those who share the calls on a subject.

    What came together is acknowledged together, when it has been handed over. A call that comes again was with an
    instance that has ended, or lost its connection, and may have begun with it: nobody takes it, and its caller gets a
    timeout.
    """

    def __init__(self, subject: str, receive: Receive, link: Link, declarer: CallDeclarer) -> None:
        super().__init__(subject, ENDPOINT_QUEUE, receive, link, declarer)
        self._call_queue = declarer.call_queue
        self._receive_many = many_of(receive)
        self._intake = Intake(self)
        self._unsettled: deque[int] = deque()  # by tag

    def __call__(self, delivery: Any) -> Awaitable[None] | None:
        return self.many(deque((delivery,)))

    def many(self, line: deque[Any]) -> Awaitable[None] | None:
        """Hand over what comes first, and acknowledge it."""
        try:
            return self._receive(line.popleft()) if self._receive_many is None else self._receive_many(line)
        finally:
            self._ack_before(line[0].tag if line else math.inf)

    async def _prepare(self, channel: Channel) -> str:
        return await self._call_queue(channel, self.subject)

    def _take(self, events: list[Event]) -> None:
        new: list[LiveDelivery] = []
        for event in events:
            self._unsettled.append(event.delivery_tag or 0)
            if not event.redelivered:
                new.append(read_request(event))
        self._intake.take_all(new)
        if not self._intake:
            self._ack_before(math.inf)

    def _ack_before(self, waiting: float) -> None:
        """Acknowledge what came before the first that waits."""
        tag, unsettled, channel = 0, self._unsettled, self._consumer.channel
        while unsettled and unsettled[0] < waiting:
            tag = unsettled.popleft()
        if tag and channel is not None:
            channel.link.send(ack_frame(channel.number, tag, multiple=True))

    def _forget(self) -> None:
        self._unsettled.clear()
        super()._forget()
