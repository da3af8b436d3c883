"""A subscription that is not durable: it gets what is published while it is there, at most once."""

from __future__ import annotations

from pamqp.commands import Basic

from eventmicro.broker import Receive
from eventmicro.message import Delivery
from eventmicro_rabbitmq import frames
from eventmicro_rabbitmq.consumer import Consumer, consume
from eventmicro_rabbitmq.declare import Declarer
from eventmicro_rabbitmq.driver import Channel, Connection, open_channel
from eventmicro_rabbitmq.frames import Properties
from eventmicro_rabbitmq.incoming import read_headers
from eventmicro_rabbitmq.intake import Intake
from eventmicro_rabbitmq.link import Link

# How many events wait on this side; the others wait in the server.
PREFETCH = 500


class LiveDelivery(Delivery):
    """An event of a live subscription; `tag` is what the server knows it by, 0 when it has forgotten it."""

    __slots__ = ("tag",)

    tag: int


class LiveSubscription:
    """A queue that goes with its last consumer.

    Where it is slow its events wait in the server, up to `pending_messages` of the settings; then the server drops the
    oldest, which it tells nobody: `dropped` stays 0.
    """

    dropped = 0

    def __init__(self, subject: str, queue: str | None, receive: Receive, link: Link, declarer: Declarer) -> None:
        self.subject = subject
        self.queue = queue
        self.ended = False
        self._declarer = declarer
        self._consumer = Consumer(link, f"subscription to {subject}", self._start, self._forget)
        self._intake: Intake[LiveDelivery] = Intake(receive, self._ack)
        self._channel: Channel | None = None

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
        try:
            await self._consumer.leave()
            await self._intake.join()
        finally:
            await self.close()

    async def close(self) -> None:
        self.ended = True
        self._intake.close()
        await self._consumer.close()

    async def _start(self, connection: Connection) -> Channel:
        self._channel = channel = await open_channel(connection)
        queue = await self._declarer.live_queue(channel, self.subject, self.queue)
        channel.on_deliver = self._take
        await consume(channel, queue, PREFETCH)
        return channel

    def _take(self, frame: Basic.Deliver, properties: Properties, body: bytes) -> None:
        delivery = LiveDelivery(frame.routing_key or "", body, read_headers(properties))
        delivery.tag = frame.delivery_tag or 0
        if frame.redelivered:  # another member may have begun with it
            self._ack(delivery)
        else:
            self._intake.take(delivery)

    def _ack(self, delivery: LiveDelivery) -> None:
        """Before it is handed over, so that nobody gets it twice."""
        if delivery.tag and self._channel is not None:
            self._channel.link.send(frames.ack(self._channel.number, delivery.tag))

    def _forget(self) -> None:
        """The channel has ended. Events of a shared queue went back into it, the others are only here."""
        for delivery in self._intake.take_back():
            delivery.tag = 0
            if self.queue is None:
                self._intake.take(delivery)
