"""Events outside of handlers: those that are kept, up to the present, and those that come, as async iterators."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from eventmicro.broker import Broker, Capabilities, ReadsKept, Start, Subscription
from eventmicro.checks import check_count
from eventmicro.codecs import Codecs
from eventmicro.errors import Disconnected, TooSlow, Unsupported, UsageError
from eventmicro.message import Delivery
from eventmicro.plugins import brokers_with
from eventmicro.topic import Topic

if TYPE_CHECKING:
    from eventmicro.events.reader import EventReader

T = TypeVar("T")

# How many events may wait for who reads those that come, and how many bytes of them.
LINE = 1000
LINE_BYTES = 64 * 1024 * 1024
# How often who waits for the next one looks whether there is a connection yet, in seconds.
LOOK = 1.0


class ReadsEvents:
    """Whoever reads events outside of handlers: a Client."""

    broker: Broker
    _codecs: Codecs

    @property
    def max_large(self) -> int:
        """How large a body may be that is fetched out of an object store, in bytes."""
        raise NotImplementedError

    def read(self, topic: Topic[T], *, since: datetime | timedelta | None = None) -> AsyncGenerator[T, None]:
        """The events of a topic that its broker keeps, in their order, up to those that are there when it begins.

            async for order in client.read(PLACED, since=timedelta(days=7)):

        Nobody else misses anything by it, and nothing is left behind: no queue, no consumer, no group. Where it is
        left early, `aclosing(...)` around it ends it at once.

        Args:
            topic: which events; it may have wildcards.
            since: from when on, as a moment with a time zone or as a time before now; default: all that is kept.

        Raises:
            Unsupported: the broker keeps no events to read; memory, core NATS and RabbitMQ do not.
            UsageError: this is no topic, or no time; or the broker does not let them be read.
            DecodeError, UnsupportedMediaType: from an event that cannot be decoded, which ends it.
            Disconnected: the broker is away.
        """
        _check_topic(topic)
        start = _start_of(since)
        if not self.broker.capabilities.replay or not isinstance(self.broker, ReadsKept):
            able = ", ".join(brokers_with(Capabilities(replay=True)))
            raise Unsupported(f"{self.broker.url} keeps no events to read (replay); able are {able}")
        return self._read(topic, self.broker, start)

    async def _read(self, topic: Topic[T], broker: ReadsKept, start: Start) -> AsyncGenerator[T, None]:
        reader = self._reader(topic)
        async with aclosing(broker.read_kept(topic.subject, start)) as kept:
            async for delivery in kept:
                yield await reader.read(delivery)

    def events(self, topic: Topic[T], *, limit: int = LINE) -> Events[T]:
        """The events of a topic that come from now on, for scripts, tests and views.

            async with client.events(PLACED) as placed:     # from here on
                async for order in placed: ...

        Without its block it begins with the loop. It gets each event at most once, and misses what comes while the
        connection is away; what must not be lost is for a subscriber with a queue.

        Args:
            topic: which events; it may have wildcards.
            limit: how many may wait in line to be read, and 64 MiB of them; what comes beyond ends it with TooSlow.

        Raises:
            UsageError: this is no topic, or no number. All else is raised where it is read:
            TooSlow: events came faster than they were read; those that waited in line were read before.
            DecodeError, UnsupportedMediaType: from an event that cannot be decoded; the next one may be read.
            Disconnected: the broker is closed.
        """
        _check_topic(topic)
        check_count("limit", limit)
        return Events(self.broker, topic.subject, self._reader(topic), limit)

    def _reader(self, topic: Topic[T]) -> EventReader:
        from eventmicro.events.objects import Objects
        from eventmicro.events.reader import EventReader  # and all of subscribers, which most clients do without

        codecs = self._codecs
        body = codecs.body_of_events(topic.type, topic.codec, topic.told_by)
        return EventReader(repr(topic), body, Objects(self.broker, self.max_large))


class Events(Generic[T]):
    """Events as they come, from its block, or its loop, on until that is left; see `Client.events`."""

    def __init__(self, broker: Broker, subject: str, reader: EventReader, limit: int) -> None:
        self._broker = broker
        self._subject = subject
        self._reader = reader
        self._limit = limit
        self._line: deque[Delivery] = deque()
        self._size = 0
        self._is_over = False  # more came than there was room for
        self._news = asyncio.Event()
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        if self._subscription is None:
            self._line.clear()
            self._size, self._is_over = 0, False
            self._subscription = await self._broker.subscribe(self._subject, self._take)
            await self._broker.flush()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Take no more; what waits in line is left. A second call does nothing."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._is_over = True
            self._news.set()
            await subscription.drain()
            self._line.clear()

    async def __aiter__(self) -> AsyncGenerator[T, None]:
        if self._subscription is not None:
            while True:
                yield await self._next()
        async with self:
            while True:
                yield await self._next()

    def _take(self, delivery: Delivery) -> None:
        self._is_over = self._is_over or len(self._line) >= self._limit or self._size > LINE_BYTES
        if not self._is_over:
            self._line.append(delivery)
            self._size += len(delivery.body)
        self._news.set()

    async def _next(self) -> T:
        while not self._line:
            if self._subscription is None or self._subscription.ended:
                raise Disconnected(f"{self._broker.url}: no events of {self._subject} come any more, it is closed")
            if self._is_over:
                raise TooSlow(
                    f"events of {self._subject} came faster than they were read: more than {self._limit} waited, or "
                    f"{LINE_BYTES >> 20} MiB of them; give more by limit=, or take them by a subscriber with a queue"
                )
            self._news.clear()
            try:
                async with asyncio.timeout(LOOK):
                    await self._news.wait()
            except TimeoutError:
                pass
        delivery = self._line.popleft()
        self._size -= len(delivery.body)
        return cast("T", await self._reader.read(delivery))


def _check_topic(topic: Any) -> None:
    if not isinstance(topic, Topic):
        raise UsageError(f"{topic!r} is no topic: write Topic('orders.placed', OrderPlaced), which says what is read")


def _start_of(since: Any) -> Start:
    if since is None:
        return "all"
    if isinstance(since, timedelta) and since >= timedelta():
        return datetime.now(UTC) - since
    if isinstance(since, datetime) and since.tzinfo is not None:
        return since
    raise UsageError(f"since={since!r}: write timedelta(days=7), or a datetime with a time zone, as datetime.now(UTC)")
