"""JetStreamBroker: the broker port over JetStream; what is not kept goes over core NATS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial

from nats.errors import Error

from eventmicro.broker import PUBLISH_TIMEOUT, Durable, QueueState, Receive, Start, Subscription
from eventmicro.checks import try_each
from eventmicro.errors import Unsupported, UsageError
from eventmicro.large import StoredObject
from eventmicro.message import Delivery, Message
from eventmicro.wire import check_subject
from eventmicro_nats.broker import NatsBroker
from eventmicro_nats.connection.driver import Driver
from eventmicro_nats.connection.headers import read_event_headers
from eventmicro_nats.errors import translate
from eventmicro_nats.jetstream.advisories import SafetyNet
from eventmicro_nats.jetstream.api import Api, ApiError
from eventmicro_nats.jetstream.duplicates import Duplicates
from eventmicro_nats.jetstream.durable import DurableSubscription
from eventmicro_nats.jetstream.history import History
from eventmicro_nats.jetstream.objects import Objects
from eventmicro_nats.jetstream.ordered import OrderedSubscription
from eventmicro_nats.jetstream.publishing import Publisher
from eventmicro_nats.jetstream.queues import Place, Queue, Queues
from eventmicro_nats.jetstream.replies import Replies
from eventmicro_nats.jetstream.since import check_order
from eventmicro_nats.jetstream.states import States
from eventmicro_nats.jetstream.streams import Streams
from eventmicro_nats.jetstream.watching import Watching
from eventmicro_nats.settings import JetStreamSettings

log = logging.getLogger(__name__)

# How long `subscribe` tries to have its stream and queue, in seconds: a cluster may be without a leader for eight.
DECLARE_TIMEOUT = 12.0
# How long `close` waits for what the server has sent, in seconds.
STOP_TIMEOUT = 2


class JetStreamBroker(NatsBroker):
    """A connection to NATS whose events are kept by JetStream; see `eventmicro.broker.Broker`.

    Requests, replies and subscriptions that are not durable go over core NATS, as with `nats://`.

    Args:
        url: `jetstream://host:4222`; settings may follow, as `?replicas=3`, and `?tls=true` for TLS.
        settings: the settings as an object, in place of a URL.
    """

    capabilities = replace(
        NatsBroker.capabilities,
        durable=True,
        persistent=True,
        crash_attempts=True,
        ordered=True,
        ordered_keys=True,
        replay=True,
        dedupe=True,
        objects=True,
        ttl=True,
        order="that of the stream; an event that comes again comes behind others, unless the queue is ordered",
        delay="at least as long, and some milliseconds more",
        attempts="deliveries by the server, also those to a process that died or gave the event back",
        twice="events whose settlement was lost with the connection, or with a server that was killed (it notes them "
        "every tenth of a second), or that were with a process that died, stood still, or was cut off for longer than "
        "ack_wait",
        stored="in the stream: on disk, or in memory if set so, and on most of its replicas",
        more="",
    )
    _settings_kind = JetStreamSettings
    _read_headers = staticmethod(read_event_headers)

    def __init__(self, url: str = "jetstream://127.0.0.1:4222", settings: JetStreamSettings | None = None) -> None:
        super().__init__(url, settings)
        self._parts: _Parts | None = None
        self._durables: list[DurableSubscription] = []
        self._nets: dict[DurableSubscription, SafetyNet] = {}

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        await self._connected_parts().publisher.publish(message, timeout)

    def try_publish(self, message: Message) -> bool:
        return False  # what is to be stored is waited for

    async def publish_many(self, messages: Sequence[Message], *, timeout: float = PUBLISH_TIMEOUT) -> None:
        await self._connected_parts().publisher.publish_many(messages, timeout)

    def fits(self, message: Message) -> bool:
        return self._connected_parts().objects.fits(message)

    async def store_object(self, body: bytes, digest: str, *, timeout: float) -> StoredObject:
        return await self._connected_parts().objects.store(body, digest, timeout)

    async def fetch_object(self, stored: StoredObject) -> bytes:
        return await self._connected_parts().objects.fetch(stored)

    async def subscribe(
        self, subject: str, receive: Receive, *, queue: str | None = None, durable: Durable | None = None
    ) -> Subscription:
        if durable is None:
            return await super().subscribe(subject, receive, queue=queue)
        if queue is None:
            raise UsageError(f"{subject}: what is durable needs a queue, which keeps the events")
        _check_transactions(durable)
        check_subject(subject, wildcards=True)
        parts, driver = self._connected_parts(), self._connected_driver()
        if durable.ordered:
            check_order(driver.info)
        self._forget_ended()
        try:
            found = await parts.have(subject, queue, durable)
            if durable.start != "new" and not found.is_new:
                log.info(
                    "queue %s exists: start=%s is for a queue that is made",
                    queue,
                    durable.start,
                    extra={"queue": queue},
                )
            if found.max_deliver > 0:
                log.warning(
                    "queue %s gives an event up after max_deliver=%d; where no instance runs just then it is no dead "
                    "letter: set it to -1",
                    queue,
                    found.max_deliver,
                    extra={"queue": queue},
                )
            subscription = parts.subscription(found, subject, queue, receive, durable)
            net = parts.safety_net(found, queue, durable.dead_letter) if durable.dead_letter is not None else None
            await self._open_durable(subscription, net)
        except ApiError as error:
            raise UsageError(f"queue {queue} for {subject}: {error}") from error
        except Error as error:
            raise translate(error, f"queue {queue} for {subject}") from error
        return subscription

    async def read_kept(self, subject: str, start: Start) -> AsyncGenerator[Delivery, None]:
        check_subject(subject, wildcards=True)
        async with aclosing(self._connected_parts().history.read(subject, start)) as kept:
            async for delivery in kept:
                yield delivery

    def check(self, subject: str, *, queue: str | None = None, durable: Durable | None = None) -> None:
        if durable is not None and queue is None:
            raise UsageError(f"{subject}: what is durable needs a queue, which keeps the events")
        _check_transactions(durable)
        check_subject(subject, wildcards=True)

    async def declare(
        self, subject: str, *, queue: str | None = None, durable: Durable | None = None, change: bool = False
    ) -> Mapping[str, bool]:
        self.check(subject, queue=queue, durable=durable)
        try:
            return await self._connected_parts().declare(subject, queue, durable, change=change)
        except ApiError as error:
            raise UsageError(f"declaring {queue or subject}: {error}") from error
        except Error as error:
            raise translate(error, f"declaring {queue or subject}") from error

    async def queue_state(self, queue: str, *, subject: str | None = None) -> QueueState | None:
        return await self._connected_parts().states.of(queue, subject, _deadline())

    async def queue_states(self) -> list[QueueState]:
        return await self._connected_parts().states.all(_deadline())

    async def _open_durable(self, subscription: DurableSubscription, net: SafetyNet | None) -> None:
        self._durables.append(subscription)
        if net is not None:
            self._nets[subscription] = net
        driver = self._connected_driver()
        try:
            await self._try_rights(driver, subscription, net)
            await subscription.open(driver)
        except BaseException:
            subscription.end()
            self._forget_ended()
            raise

    async def _try_rights(self, driver: Driver, subscription: DurableSubscription, net: SafetyNet | None) -> None:
        """Refuse where this user may not do what it takes, before any event is taken.

        Raises:
            UsageError: it names all the subjects to grant.
        """
        replies = self._connected_parts().replies
        with self._trials.of(*subscription.rights, *(net.needs if net is not None else ())) as trial:
            subscription.try_rights(driver)
            if net is not None:
                await net.open(driver)
            await self._hear_out(driver)
        refused = [*trial.refused, *([replies.deaf] if replies.deaf is not None else [])]
        if refused:
            raise UsageError(f"{subscription}: {'; '.join(refused)}")
        if net is not None:
            await net.try_rights(driver, replies)

    def _forget_ended(self) -> None:
        """Let go of the subscriptions with which nothing is to be done any more."""
        for durable in list(self._durables):
            net = self._nets.get(durable)
            if durable.ended and not durable.leaves and not durable.unsettled and not (net is not None and net.tasks):
                self._durables.remove(durable)
                if net is not None:
                    self._nets.pop(durable).end()

    def _connected_parts(self) -> _Parts:
        self._connected_driver()
        assert self._parts is not None
        return self._parts

    async def _open(self) -> Driver:
        driver = await super()._open()
        try:
            self._parts = _Parts(self, driver)
            await self._parts.replies.open(driver)
        except BaseException:
            if self._parts is not None:
                self._parts.watching.task.cancel()
            driver.let_go()
            await driver.close()
            raise
        return driver

    async def _end(self, driver: Driver) -> None:
        try:
            await self._stop_asking(driver)
        finally:
            owners: list[DurableSubscription | SafetyNet] = [*self._durables, *self._nets.values()]
            tasks = [task for owner in owners for task in owner.tasks]
            for owner in owners:
                owner.end()
            self._durables.clear()
            self._nets.clear()
            if self._parts is not None:
                self._parts.watching.task.cancel()
                tasks.append(self._parts.watching.task)
                self._parts.replies.close()
        if tasks:
            await asyncio.wait(tasks)

    async def _stop_asking(self, driver: Driver) -> None:
        """Return when all that the server has sent is here, to be given back: it would be missing for a whole lease."""
        for durable in self._durables:
            durable.stop()
        if self._durables and driver.is_connected:
            with suppress(Error, TimeoutError):  # a server that hangs has nothing to send
                await asyncio.wait_for(driver.flush(STOP_TIMEOUT), STOP_TIMEOUT)

    async def _take_up(self, driver: Driver) -> None:
        await super()._take_up(driver)
        await self._connected_parts().replies.open(driver)
        for net in self._nets.values():
            await net.open(driver)

    async def _on_lost(self) -> None:
        await super()._on_lost()
        if self._parts is not None:
            self._parts.replies.lost()
        for durable in self._durables:
            durable.lost()

    async def _resume(self, driver: Driver) -> None:
        for durable in list(self._durables):
            await durable.open(driver)

    async def _on_error(self, error: Exception) -> None:
        text = self._words(error)
        if self._parts is not None:
            self._parts.replies.deafened(text)
        if self._trials.take(text):
            return
        if "permissions violation for publish" in text:
            unneeded = [durable.refused(text) for durable in self._durables]
            if any(unneeded):
                return
            if self._parts is not None and self._parts.replies.refused(text):
                return
        elif any(net.refused(text) for net in self._nets.values()):
            return
        await super()._on_error(error)


def _check_transactions(durable: Durable | None) -> None:
    if durable is not None and durable.transactional:
        raise Unsupported("transactional: JetStream has no transactions; kafka:// has")


def _deadline() -> float:
    return asyncio.get_running_loop().time() + DECLARE_TIMEOUT


class _Parts:
    """What works on one connection of a broker, over reconnections."""

    def __init__(self, broker: JetStreamBroker, driver: Driver) -> None:
        settings = broker.settings
        assert isinstance(settings, JetStreamSettings)
        self.replies = Replies(driver)
        self._api = Api(broker._connected_driver, self.replies)
        self._publish = broker.publish
        self.states = States(self._api, settings.stream if settings.declare == "false" else None)
        self._streams = Streams(self._api, settings)
        self.history = History(self._api, self._streams)
        self.watching = Watching(self._streams.look_again)
        self._queues = Queues(self._api, self._streams, settings)
        self.publisher = Publisher(
            broker._connected_driver,
            self.replies,
            self._streams,
            broker._ready_driver,
            settings.outgoing_bytes,
            min(settings.duplicate_window, settings.max_age or settings.duplicate_window),
            Duplicates(self._api),
            self._streams.let_expire,
        )
        self.objects = Objects(self._api, self.replies, broker._connected_driver, broker._ready_driver, settings)

    async def have(self, subject: str, queue: str, durable: Durable, first: Place | None = None) -> Queue:
        """The queue, and that of its dead letter before it, made where they are missing."""
        deadline = _deadline()
        dead = durable.dead_letter
        if dead is not None:
            await self._queues.have(dead, dead, Durable(start="all"), deadline, published=True)
        return await self._queues.have(subject, queue, durable, deadline, first=first)

    async def declare(
        self, subject: str, queue: str | None, durable: Durable | None, *, change: bool
    ) -> dict[str, bool]:
        """Make the stream of a subject, and where it is durable its queues: what is there, and whether it is new."""
        deadline = _deadline()
        changed = await self._streams.change(deadline) if change else {}
        self._streams.forget(subject)
        before = await self._streams.there(subject, deadline)
        is_queue = durable is not None and queue is not None
        stream = await (self._streams.holding if is_queue else self._streams.of)(subject, deadline)
        made = {f"{what} is now {now}": True for what, now in changed.items()}
        made[f"subject {subject} in stream {stream}"] = stream not in before and not self._streams.fills(subject)
        if durable is None or queue is None:
            return made
        steps = [partial(self._declare_queue, subject, queue, durable, deadline, change=change)]
        if (dead := durable.dead_letter) is not None:
            letters = Durable(start="all")
            steps.insert(0, partial(self._declare_queue, dead, dead, letters, deadline, published=True))
        for queues in await try_each(steps):
            made |= queues
        return made

    async def _declare_queue(
        self,
        subject: str,
        queue: str,
        durable: Durable,
        deadline: float,
        *,
        change: bool = False,
        published: bool = False,
    ) -> dict[str, bool]:
        made = {}
        if change and await self._queues.change_order(subject, queue, durable, deadline):
            made[f"queue {queue} is {'ordered' if durable.ordered else 'not ordered'} now"] = True
        found = await self._queues.have(subject, queue, durable, deadline, published=published)
        return made | {f"queue {queue} (consumer {found.consumer} of stream {found.stream})": found.is_new}

    def subscription(
        self, found: Queue, subject: str, queue: str, receive: Receive, durable: Durable
    ) -> DurableSubscription:
        def find(first: Place | None) -> Awaitable[Queue]:
            self._streams.forget(subject)
            return self.have(subject, queue, durable, first)

        if durable.ordered:
            return OrderedSubscription(found, find, receive, durable.prefetch, self._api)
        return DurableSubscription(found, find, receive, durable.prefetch)

    def safety_net(self, found: Queue, queue: str, dead_letter: str) -> SafetyNet:
        return SafetyNet(self._api, self._publish, found, queue, dead_letter)
