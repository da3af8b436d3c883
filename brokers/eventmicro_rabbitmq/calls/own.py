"""What a connection listens to alone, its replies among it: one queue of its own for all, in which nothing waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from aiormq.exceptions import ChannelAccessRefused

from eventmicro.broker import Receive
from eventmicro.errors import UsageError
from eventmicro.intake import Intake
from eventmicro.lifetime import until_done
from eventmicro_rabbitmq.calls.declaring import CallDeclarer
from eventmicro_rabbitmq.calls.received import read_request
from eventmicro_rabbitmq.connection.channel import Channel
from eventmicro_rabbitmq.connection.connection import Connection, end_task
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.connection.link import Link
from eventmicro_rabbitmq.consuming.consumer import Consumer
from eventmicro_rabbitmq.consuming.live import LiveDelivery
from eventmicro_rabbitmq.errors import DriverError, plain
from eventmicro_rabbitmq.topology import INBOX

log = logging.getLogger(__name__)

# How many messages wait here for a consumer that has no room; RabbitMQ sends them as fast as it can.
LINE = 1000
# How long an inbox is, in characters: `_INBOX.` and a name that nobody can guess.
INBOX_SIZE = len(INBOX) + 1 + 22


class OwnSubscription:
    """One interest of a connection alone; what comes while more than a bound waits is dropped, as over core NATS."""

    def __init__(self, subject: str, receive: Receive, own: OwnQueue) -> None:
        self.subject = subject
        self.dropped = 0
        self.ended = False
        self.closed = False
        self.takes = matcher(subject)
        self.is_inbox = subject.startswith(f"{INBOX}.")
        self.is_bound = True
        self._leaving: asyncio.Task[None] | None = None
        self._own = own
        self._intake: Intake[LiveDelivery] = Intake(receive)

    async def open(self, connection: Connection) -> None:
        await self._own.add(self, connection)

    async def stands(self) -> None:
        """Return when it takes messages, again where the connection was lost."""
        if not self.ended:
            await self._own.stands()

    def take(self, deliveries: Sequence[LiveDelivery]) -> None:
        """Hand over what came together, in its turn."""
        room = LINE - len(self._intake)
        if len(deliveries) > room:
            self._drop(len(deliveries) - room, "is too slow")
        self._intake.take_all(deliveries[:room])

    async def drain(self) -> None:
        if not self.ended:
            self.ended = True
            self._leaving = asyncio.create_task(self._leave(), name=f"eventmicro rabbitmq {self.subject} leave")
        if self._leaving is not None:
            await until_done(self._leaving)  # it is done though nobody waits for it

    async def _leave(self) -> None:
        try:
            await self._own.remove(self)
            await self._intake.join()
        finally:
            self._end()

    async def close(self) -> None:
        """End it; what was not handed over is gone."""
        self.ended = True
        if self._leaving is not None:
            await end_task(self._leaving)
        self._end()

    def _end(self) -> None:
        self._own.forget(self)
        if left := len(self._intake.take_back()):
            self._drop(left, "is closed")
        self._intake.close()
        self.closed = True

    def _drop(self, count: int, why: str) -> None:
        if not self.dropped:
            log.warning(
                "subscription to %s %s: %d messages are dropped, and maybe more",
                self.subject,
                why,
                count,
                extra={"subject": self.subject},
            )
        self.dropped += count


class OwnQueue:
    """The queue of a connection's own, from the first subscription to `close`."""

    def __init__(self, link: Link, declarer: CallDeclarer) -> None:
        self._declarer = declarer
        self._inboxes: dict[str, list[OwnSubscription]] = {}  # by as much of the subject as an inbox has
        self._others: list[OwnSubscription] = []
        self._link = link
        self._consumer: Consumer | None = None
        self._opening = asyncio.Lock()
        self._name = ""

    def has_inbox(self, subject: str) -> bool:
        """Whether replies on this subject are awaited here."""
        return subject[:INBOX_SIZE] in self._inboxes

    async def add(self, subscription: OwnSubscription, connection: Connection) -> None:
        """Take what is sent to its subject.

        Raises:
            UsageError, Disconnected, TimeoutError, DriverError: it cannot be had.
        """
        self._among(subscription.subject).append(subscription)
        try:
            async with self._opening:
                if self._consumer is None:
                    consumer = self._make_consumer()
                    await consumer.open(connection)
                    self._consumer = consumer
                elif (channel := self._consumer.channel) is not None:
                    await self._declarer.bind_call(channel, self._name, subscription.subject)
        except (ChannelAccessRefused, UsageError) as error:
            if not subscription.is_inbox:
                self.forget(subscription)
                raise
            subscription.is_bound = False
            log.info("calls have direct replies alone, without streams and large bodies: %s", plain(error))
        except BaseException:
            self.forget(subscription)
            raise

    async def remove(self, subscription: OwnSubscription) -> None:
        """Take nothing more that is sent to it, unless another one is there."""
        self._set_apart(subscription)
        channel = self._consumer.channel if self._consumer is not None else None
        if channel is None or not subscription.is_bound or subscription.subject in self._subjects():
            return
        try:
            await self._declarer.unbind_call(channel, self._name, subscription.subject)
        except DriverError as error:
            log.debug("%s is left without the server's answer: %s", subscription.subject, error)

    def forget(self, subscription: OwnSubscription) -> None:
        """Hand nothing over to it."""
        self._set_apart(subscription)
        for inbox in [inbox for inbox, those in self._inboxes.items() if not those]:
            del self._inboxes[inbox]

    async def stands(self) -> None:
        """Return when it is consumed from."""
        if self._consumer is not None:
            await self._consumer.stands()

    async def close(self) -> None:
        """End it."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.close()

    def hand_over(self, deliveries: Iterable[LiveDelivery]) -> None:
        """Hand over what came together, to each who listens."""
        for inbox, run in groupby(deliveries, key=_inbox_of):
            together: Sequence[LiveDelivery] = list(run)
            for subscription in tuple(self._inboxes.get(inbox, self._others)):
                if mine := [delivery for delivery in together if subscription.takes(delivery.subject)]:
                    subscription.take(mine)

    def _among(self, subject: str) -> list[OwnSubscription]:
        if subject.startswith(f"{INBOX}."):
            return self._inboxes.setdefault(subject[:INBOX_SIZE], [])
        return self._others

    def _set_apart(self, subscription: OwnSubscription) -> None:
        among = self._among(subscription.subject)
        if subscription in among:
            among.remove(subscription)

    def _subjects(self) -> set[str]:
        every = (each for those in (*self._inboxes.values(), self._others) for each in those)
        return {each.subject for each in every if each.is_bound}

    def _make_consumer(self) -> Consumer:
        about, wait = "the queue for calls of this connection alone", self._declarer.timeout
        return Consumer(self._link, about, 0, wait, self._prepare, self._take, _nothing, no_ack=True)

    async def _prepare(self, channel: Channel) -> str:
        self._name = await self._declarer.own_queue(channel, self._subjects)
        return self._name

    def _take(self, events: list[Event]) -> None:
        self.hand_over([read_request(event) for event in events])


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a subject is one of those that a subscription names."""
    if pattern == ">":
        return lambda _: True
    if "*" not in pattern:
        return pattern.__eq__ if not pattern.endswith(".>") else lambda subject: subject.startswith(pattern[:-1])
    tokens = pattern.split(".")

    def matches(subject: str) -> bool:
        others = subject.split(".")
        if tokens[-1] == ">":
            if len(others) < len(tokens):
                return False
        elif len(others) != len(tokens):
            return False
        return all(token in ("*", ">", other) for token, other in zip(tokens, others, strict=False))

    return matches


def _inbox_of(delivery: LiveDelivery) -> str:
    return delivery.subject[:INBOX_SIZE]


def _nothing() -> None:
    """What was lost with the channel is lost: nobody keeps it."""
