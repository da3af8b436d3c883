"""MemoryBroker: a connection to the broker of this process.

All who connect to the same URL in one event loop share one broker: `memory://`, or `memory://name` for one apart. It
and its queues live as long as the event loop, and nothing lives longer. Where a subscriber is slow, or a queue is full,
the publisher waits, so nothing is dropped.
"""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import urlsplit

from eventmicro.broker import PUBLISH_TIMEOUT, Capabilities, Durable, QueueState, Receive
from eventmicro.errors import (
    Disconnected,
    MessageTooLarge,
    NotAllPublished,
    NotStored,
    TransportError,
    Unsupported,
    UsageError,
)
from eventmicro.large import StoredObject
from eventmicro.lifetime import Lifetime
from eventmicro.memory.durable import DurableSubscription, HeldDelivery
from eventmicro.memory.hub import Hub, Target, shared_hub
from eventmicro.memory.live import LiveSubscription
from eventmicro.message import Delivery, Message

if TYPE_CHECKING:
    from eventmicro.memory.registry import MemoryRegistry

# How many messages a subscription may have waiting, and a queue keep, before publishers wait.
QUEUE_LIMIT = 10_000
# From how many subscriptions on those that are done are looked for.
LOOK = 100
# The largest body, in bytes: nats-server's default, so that what works here works there.
MAX_PAYLOAD = 1024 * 1024


class MemoryBroker(Lifetime):
    """A connection to the broker of this process; see `eventmicro.broker.Broker`.

    Args:
        url: `memory://` or `memory://name`; with `?like=kafka` it can, and refuses, what that adapter does. The other
            settings may stand there, too, and go before these: `memory://?queue_limit=100`.
        queue_limit: how many messages a subscription may have waiting, and a queue keep, before publishers wait.
        send_timeout: how long `send` waits for a slow subscriber before it fails, in seconds; `publish` is told.
        max_payload: the largest body, in bytes.
    """

    capabilities = Capabilities(
        request_reply=True,
        no_responders=True,
        queue_groups=True,
        broadcast=True,
        wildcards=True,
        durable=True,
        crash_attempts=True,
        ordered=True,
        ordered_keys=True,
        dedupe=True,
        transactions=True,
        objects=True,
        ttl=True,
        priority=True,
        order="as published; what is delivered again comes before what is new",
        delay="to the millisecond",
        attempts="every delivery, also those that a closed connection left unsettled",
        twice="what was not settled when its connection closed",
        stored="it is in the memory of this process, in every queue of its subject",
    )

    def __new__(cls, url: str = "memory://", *_: Any, **settings: Any) -> Self:
        """A broker that is like another one, where the URL says so; a kind of it may take other arguments."""
        if cls is MemoryBroker and "like=" in url:
            from eventmicro.memory.like import LikeBroker

            return cast("Self", object.__new__(LikeBroker))
        return super().__new__(cls)

    def __init__(
        self,
        url: str = "memory://",
        *,
        queue_limit: int = QUEUE_LIMIT,
        send_timeout: float = PUBLISH_TIMEOUT,
        max_payload: int = MAX_PAYLOAD,
    ) -> None:
        parts = urlsplit(url)
        if parts.path:
            raise UsageError(f"{url!r}: write 'memory://' or 'memory://name'")
        said = _read_query(parts.query) if parts.query else {}
        self.url = url
        self._name = parts.netloc
        self._queue_limit: int = said.get("queue_limit", queue_limit)
        self._send_timeout: float = said.get("send_timeout", send_timeout)
        self._max_payload: int = said.get("max_payload", max_payload)
        self._hub: Hub | None = None
        self._subscriptions: list[LiveSubscription | DurableSubscription] = []
        self._look_at = LOOK  # how many of them there may be before those that are done are looked for

    @property
    def connected(self) -> bool:
        return self._hub is not None

    @property
    def online(self) -> bool:
        return self.connected

    async def connect(self) -> None:
        self._check_home()
        if self._hub is None:
            self._hub, self._home = shared_hub(self._name), asyncio.get_running_loop()

    async def close(self) -> None:
        self._check_home()
        self._hub = self._home = None
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            subscription.close()

    def try_publish(self, message: Message) -> bool:
        hub = self._hub
        if hub is None or len(message.body) > self._max_payload or get_running_loop() is not self._home:
            return False
        return self._put_at_once(hub, message, queues=True)

    def try_send(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None, reply: str = "") -> bool:
        hub = self._hub
        if hub is None or len(body) > self._max_payload or get_running_loop() is not self._home:
            return False
        message = Message(subject, body, dict(headers) if headers else None, reply)
        return self._put_at_once(hub, message, queues=False)

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        await self._put(message, timeout, queues=True)

    async def publish_many(self, messages: Sequence[Message], *, timeout: float = PUBLISH_TIMEOUT) -> None:
        failed: dict[int, Exception] = {}
        end = asyncio.get_running_loop().time() + timeout
        for number, message in enumerate(messages):
            try:
                await self.publish(message, timeout=end - asyncio.get_running_loop().time())
            except TransportError as error:
                failed[number] = error
        if failed:
            raise NotAllPublished(failed=failed, confirmed=len(messages) - len(failed))

    async def publish_and_ack(
        self, messages: Sequence[Message], deliveries: Sequence[Delivery], *, timeout: float = PUBLISH_TIMEOUT
    ) -> None:
        hub = self._connected_hub()
        held = [delivery for delivery in deliveries if isinstance(delivery, HeldDelivery)]
        if len(held) < len(deliveries):
            raise UsageError("publish_and_ack takes events that a durable subscription of this broker has handed over")
        for message in messages:
            self._hub_for(message)
        await _all_with_room(hub, [message.subject for message in messages], timeout)
        if all(delivery.is_held for delivery in held):  # from here on nobody else has a turn
            self._put_together(hub, messages)
            for delivery in held:
                delivery.try_ack()

    async def send(self, message: Message) -> None:
        await self._put(message, self._send_timeout, queues=False)

    async def subscribe(
        self, subject: str, receive: Receive, *, queue: str | None = None, durable: Durable | None = None
    ) -> LiveSubscription | DurableSubscription:
        hub = self._connected_hub()
        subscription: LiveSubscription | DurableSubscription
        if durable is None:
            subscription = LiveSubscription(subject, queue, receive, self._queue_limit, hub.remove)
            hub.add(subscription)
        else:
            subscription = self._subscribe_durable(hub, subject, receive, queue, durable)
        self._keep(subscription)
        return subscription

    def check(self, subject: str, *, queue: str | None = None, durable: Durable | None = None) -> None:
        if durable is not None and queue is None:
            raise UsageError(f"{subject}: a durable subscription needs a queue that keeps its events: name one")
        if durable is not None and durable.start != "new":
            raise Unsupported(f"{self.url} keeps events in queues only, so one that is new starts with what comes")

    def inbox(self) -> str:
        return self._connected_hub().inbox()

    def fits(self, message: Message) -> bool:
        return len(message.body) <= self._max_payload

    async def store_object(self, body: bytes, digest: str, *, timeout: float) -> StoredObject:
        return self._connected_hub().objects.store(body, digest)

    async def fetch_object(self, stored: StoredObject) -> bytes:
        return self._connected_hub().objects.fetch(stored)

    async def queue_state(self, queue: str, *, subject: str | None = None) -> QueueState | None:
        return self._connected_hub().queue_state(queue)

    async def queue_states(self) -> list[QueueState]:
        return self._connected_hub().queue_states()

    def registry(self) -> MemoryRegistry:
        """The registry of this process; see `eventmicro.registry.HasRegistry`."""
        from eventmicro.memory.registry import MemoryRegistry  # its records are pydantic's, which is loaded when needed

        return MemoryRegistry(self.url.partition("?")[0])

    async def flush(self) -> None:
        self._connected_hub()

    def _keep(self, subscription: LiveSubscription | DurableSubscription) -> None:
        """Remember it for `close`, without those that are done; these are looked for when there are twice as many."""
        if len(self._subscriptions) >= self._look_at:
            self._subscriptions = [s for s in self._subscriptions if not s.done]
            self._look_at = LOOK + 2 * len(self._subscriptions)
        self._subscriptions.append(subscription)

    async def _put(self, message: Message, timeout: float, *, queues: bool) -> None:
        hub = self._hub_for(message)
        if not self._put_at_once(hub, message, queues=queues):
            for target in await _all_with_room(hub, [message.subject], timeout, queues=queues):
                target.put(message)

    def _put_at_once(self, hub: Hub, message: Message, *, queues: bool) -> bool:
        targets = hub.targets(message.subject, queues=queues)
        for target in targets:
            if target.full:
                return False
        for target in targets:
            target.put(message)
        if not targets and message.reply:
            hub.say_no_responders(message.reply)
        return True

    def _put_together(self, hub: Hub, messages: Sequence[Message]) -> None:
        """Put messages for all of which there is room."""
        for message in messages:
            for target in hub.targets(message.subject, queues=True):
                target.put(message)

    def _connected_hub(self) -> Hub:
        self._check_home()
        if self._hub is None:
            raise Disconnected(f"{self.url} is not connected: use `async with`, or await connect() first")
        return self._hub

    def _hub_for(self, message: Message) -> Hub:
        hub = self._connected_hub()
        if len(message.body) > self._max_payload:
            text = f"{message.subject}: {len(message.body)} bytes, over the {self._max_payload} allowed"
            raise MessageTooLarge(text, limit=self._max_payload)
        return hub

    def _subscribe_durable(
        self, hub: Hub, subject: str, receive: Receive, queue: str | None, durable: Durable
    ) -> DurableSubscription:
        if queue is None:
            raise UsageError(f"{subject}: a durable subscription needs a queue that keeps its events: name one")
        if durable.start != "new":
            raise Unsupported(f"{self.url} keeps events in queues only, so one that is new starts with what comes")
        if durable.dead_letter is not None:
            hub.queue(durable.dead_letter, durable.dead_letter, Durable(), self._queue_limit)
        return DurableSubscription(hub.queue(queue, subject, durable, self._queue_limit), receive, durable.prefetch)


def _read_query(query: str) -> dict[str, Any]:
    from eventmicro.memory.settings import read_query  # for those who set something in their URL

    return read_query(query)


async def _all_with_room(hub: Hub, subjects: Sequence[str], timeout: float, *, queues: bool = True) -> Sequence[Target]:
    """Who gets messages on these subjects, as soon as each has room for all that go to it.

    Raises:
        NotStored: one had none for `timeout` seconds, or takes less at once; none has got it.
    """
    full: Target | None = None
    most = 1
    try:
        async with asyncio.timeout(timeout):
            while True:
                counts = Counter(target for subject in subjects for target in hub.targets(subject, queues=queues))
                full = next((target for target, count in counts.items() if not target.has_room(count)), None)
                if full is None:
                    return list(counts)
                most = counts[full]
                _check_limit(subjects[0], full, most)
                await full.room()
    except TimeoutError:
        assert full is not None
        why = "none was taken" if most == 1 else f"it had no room for {most} more"
        raise NotStored(f"{subjects[0]}: {full.describe_full()}, and {why} for {max(timeout, 0):.3g} s") from None


def _check_limit(subject: str, target: Target, count: int) -> None:
    if count > max(target.limit, 1):
        raise NotStored(
            f"{subject}: {count} at once are more than a subscription or a queue takes: queue_limit is {target.limit}"
        )
