"""MemoryBroker: a real broker within one process, with queue groups, wildcards, request-reply and bounded queues.

All who connect to the same URL in one event loop share one broker: `memory://`, or `memory://name` for one apart. It
keeps no message beyond the process. Where a subscriber is slow the publisher waits, so nothing is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from itertools import count
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, WeakValueDictionary

from eventmicro.broker import Capabilities, Receive
from eventmicro.errors import Disconnected, MessageTooLarge, TransportError
from eventmicro.message import Delivery, Message
from eventmicro.wire import NO_RESPONDERS, STATUS

# How many messages one subscription may have waiting before its publishers wait for it.
QUEUE_LIMIT = 10_000
# How long a publisher waits for a slow subscriber, in seconds.
PUBLISH_TIMEOUT = 10.0
# The largest body, in bytes: nats-server's default, so that what works here works there.
MAX_PAYLOAD = 1024 * 1024
# After how many messages in a row a subscription lets others run.
BURST = 100


class MemoryBroker:
    """A connection to the broker of this process; see `eventmicro.broker.Broker`.

    Args:
        url: `memory://` or `memory://name`.
        queue_limit: how many messages a subscription may have waiting before its publishers wait.
        publish_timeout: how long a publisher waits for a slow subscriber before it fails, in seconds.
        max_payload: the largest body, in bytes.
    """

    capabilities = Capabilities(
        request_reply=True, no_responders=True, queue_groups=True, broadcast=True, wildcards=True
    )

    def __init__(
        self,
        url: str = "memory://",
        *,
        queue_limit: int = QUEUE_LIMIT,
        publish_timeout: float = PUBLISH_TIMEOUT,
        max_payload: int = MAX_PAYLOAD,
    ) -> None:
        self.url = url
        self._queue_limit = queue_limit
        self._publish_timeout = publish_timeout
        self._max_payload = max_payload
        self._hub: _Hub | None = None
        self._subscriptions: list[MemorySubscription] = []

    @property
    def connected(self) -> bool:
        return self._hub is not None

    async def connect(self) -> None:
        if self._hub is None:
            self._hub = _shared_hub(urlsplit(self.url).netloc)

    async def close(self) -> None:
        self._hub = None
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            await subscription.close()

    async def publish(self, message: Message) -> None:
        hub = self._connected_hub()
        if len(message.body) > self._max_payload:
            raise MessageTooLarge(f"{message.subject}: {len(message.body)} bytes, over the {self._max_payload} allowed")
        targets = list(hub.targets(message.subject))
        if not targets:
            if message.reply:
                hub.say_no_responders(message.reply)
            return
        for target in targets:
            while target.full:
                await self._wait_for_room(target, message.subject)
                target = hub.instead_of(target, message.subject)
            target = hub.instead_of(target, message.subject)
            headers = message.headers and dict(message.headers)
            target.take(Delivery(message.subject, message.body, headers, message.reply))

    async def subscribe(self, subject: str, receive: Receive, *, queue: str | None = None) -> MemorySubscription:
        hub = self._connected_hub()
        subscription = MemorySubscription(hub, subject, queue, receive, self._queue_limit)
        hub.add(subscription)
        self._subscriptions.append(subscription)
        return subscription

    def inbox(self) -> str:
        return self._connected_hub().inbox()

    async def flush(self) -> None:
        self._connected_hub()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _connected_hub(self) -> _Hub:
        if self._hub is None:
            raise Disconnected(f"{self.url} is not connected: use `async with`, or await connect() first")
        return self._hub

    async def _wait_for_room(self, target: MemorySubscription, subject: str) -> None:
        try:
            async with asyncio.timeout(self._publish_timeout):
                while target.full:
                    await target.room()
        except TimeoutError:
            raise TransportError(
                f"{subject}: a subscriber is too slow: {self._queue_limit} messages wait for it, "
                f"and none was taken for {self._publish_timeout:g} s"
            ) from None


class MemorySubscription:
    """One interest in a subject, with its bounded queue and the task that hands the messages over."""

    dropped = 0

    def __init__(self, hub: _Hub, subject: str, queue: str | None, receive: Receive, limit: int) -> None:
        self.subject = subject
        self.queue = queue
        self.ended = False
        self._hub = hub
        self._receive = receive
        self._limit = limit
        self._waiting: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task = asyncio.create_task(self._hand_over(), name=f"eventmicro memory {subject}")

    @property
    def full(self) -> bool:
        return len(self._waiting) >= self._limit and not self.ended

    def __len__(self) -> int:
        return len(self._waiting)

    async def room(self) -> None:
        """Return when a message has been taken out, or nobody takes any more."""
        self._taken.clear()
        await self._taken.wait()

    def take(self, delivery: Delivery) -> None:
        delivery.arrived = time.monotonic()
        self._waiting.append(delivery)
        self._idle.clear()
        self._arrived.set()

    async def drain(self) -> None:
        self._leave()
        try:
            await self._idle.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        self._leave()
        self._task.cancel()
        await asyncio.wait([self._task])
        self._waiting.clear()
        self._idle.set()

    def _leave(self) -> None:
        self.ended = True
        self._hub.remove(self)
        self._taken.set()  # whoever waits for room looks for another

    async def _hand_over(self) -> None:
        while True:
            await self._arrived.wait()
            for number in count(1):
                if not self._waiting:
                    break
                room = self._receive(self._waiting.popleft())
                self._taken.set()
                if room is not None:
                    await room
                elif number % BURST == 0:
                    await asyncio.sleep(0)
            self._arrived.clear()
            self._idle.set()


class _Hub:
    """Who listens where; shared by all connections to one URL in one event loop."""

    def __init__(self) -> None:
        self._inboxes = count(1)
        self._exact: dict[str, list[MemorySubscription]] = {}
        self._wild: list[MemorySubscription] = []

    def inbox(self) -> str:
        return f"_INBOX.{next(self._inboxes)}"

    def add(self, subscription: MemorySubscription) -> None:
        self._place(subscription.subject).append(subscription)

    def remove(self, subscription: MemorySubscription) -> None:
        place = self._place(subscription.subject)
        if subscription in place:
            place.remove(subscription)
        if not place:
            self._exact.pop(subscription.subject, None)

    def targets(self, subject: str) -> Iterator[MemorySubscription]:
        """Every subscription without a queue, and of each queue the one with the least to do."""
        queues: dict[str, MemorySubscription] = {}
        for subscription in self._matching(subject):
            if subscription.queue is None:
                yield subscription
                continue
            other = queues.get(subscription.queue)
            if other is None or len(subscription) < len(other):
                queues[subscription.queue] = subscription
        for chosen in queues.values():
            self._rotate(chosen)
            yield chosen

    def instead_of(self, target: MemorySubscription, subject: str) -> MemorySubscription:
        """The target itself, or where it has left meanwhile another one of its queue."""
        if not target.ended:
            return target
        return next((t for t in self.targets(subject) if t.queue == target.queue is not None), target)

    def say_no_responders(self, reply: str) -> None:
        for target in self.targets(reply):
            target.take(Delivery(reply, headers={STATUS: NO_RESPONDERS}))

    def _place(self, subject: str) -> list[MemorySubscription]:
        return self._wild if "*" in subject or ">" in subject else self._exact.setdefault(subject, [])

    def _matching(self, subject: str) -> Iterator[MemorySubscription]:
        yield from self._exact.get(subject, ())
        if self._wild:
            tokens = subject.split(".")
            yield from (s for s in self._wild if _matches(s.subject.split("."), tokens))

    def _rotate(self, subscription: MemorySubscription) -> None:
        """Put the chosen one last, so that members of a queue that are equally busy take turns."""
        place = self._place(subscription.subject)
        if len(place) > 1:
            place.remove(subscription)
            place.append(subscription)


def _matches(pattern: list[str], tokens: list[str]) -> bool:
    for position, wanted in enumerate(pattern):
        if wanted == ">":
            return len(tokens) > position
        if position >= len(tokens) or wanted not in ("*", tokens[position]):
            return False
    return len(pattern) == len(tokens)


# The brokers of this process by event loop and name. Held only weakly: without connections a broker is gone.
_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[str, _Hub]] = WeakKeyDictionary()


def _shared_hub(name: str) -> _Hub:
    hubs = _hubs.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    hub = hubs.get(name)
    if hub is None:
        hub = hubs[name] = _Hub()
    return hub
