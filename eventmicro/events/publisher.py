"""The publishing side: `publish` as users have it, and an event's way through middleware and codec to the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar, overload

from eventmicro.checks import check_seconds
from eventmicro.codec import NotReady
from eventmicro.codecs import Codecs
from eventmicro.context import Context, Side, find_context
from eventmicro.events.outgoing import OutgoingEvent, Together
from eventmicro.events.publishing import Outgoing
from eventmicro.events.readiness import when_ready
from eventmicro.events.route import Route, check_topic
from eventmicro.events.routes import Routes, check_events, check_picks
from eventmicro.forwarding import Forwarding
from eventmicro.large import LargeEvent
from eventmicro.message import Delivery, Message
from eventmicro.middleware import Middleware, compose, passing
from eventmicro.topic import Topic
from eventmicro.wire import check_headers

T = TypeVar("T")

# How many events are encoded before others have their turn.
AT_ONCE = 256


class PublishesEvents:
    """Whoever publishes events: a Client, a Service."""

    _publisher: EventPublisher
    """Over what it publishes."""

    @overload
    async def publish(
        self,
        topic: Topic[T],
        event: T,
        *,
        key: Hashable = None,
        id: Hashable = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        large: LargeEvent | None = None,
        timeout: float | None = None,
    ) -> None: ...
    @overload
    async def publish(
        self,
        topic: str,
        event: Any,
        *,
        key: Hashable = None,
        id: Hashable = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        large: LargeEvent | None = None,
        timeout: float | None = None,
    ) -> None: ...
    async def publish(
        self,
        topic: Topic[Any] | str,
        event: Any,
        *,
        key: Hashable = None,
        id: Hashable = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        large: LargeEvent | None = None,
        timeout: float | None = None,
    ) -> None:
        """Publish an event; it returns when the broker has it, stored where the broker stores events.

        Args:
            topic: a Topic; or a subject, and then the event's own type says how it travels.
            event: the event, of the topic's type; a dict, as `call` takes one, is refused where that is a model.
            key: what the event belongs to, in place of the topic's own `key`.
            id: what names the event, in place of the topic's own `id`.
            metadata: headers to send along.
            content_type: how it is written, such as `msgpack` or `application/msgpack`; default: as the topic says, or
                the client, or as its type is written.
            large: `object`: where it is too large for the broker its body is put into the broker's object store, whole,
                before it is published; default: as the topic says, else it is refused.
            timeout: how long to wait for the broker, in seconds; default: as `publishing` says.

        Raises:
            EncodeError: the event is not of the topic's type; nothing was sent.
            UsageError: the topic has wildcards, so it is no place to publish to, or an argument is out of range.
            TransportError: the broker is away, or the event is too large for it, or it refused it; it was not sent.
            Unconfirmed: a TransportError too: it was sent, but the broker did not confirm it in time.
        """
        if content_type is not None:
            metadata = self._publisher.codecs.naming(content_type, metadata)
        waiting = self._publisher.publish(topic, event, key, id, metadata, timeout, large)
        if waiting is not None:
            await waiting

    @overload
    async def publish_many(
        self,
        topic: Topic[T],
        events: Iterable[T],
        *,
        key: Callable[[T], Hashable] | None = None,
        id: Callable[[T], Hashable] | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        large: LargeEvent | None = None,
        timeout: float | None = None,
    ) -> None: ...
    @overload
    async def publish_many(
        self,
        topic: str,
        events: Iterable[Any],
        *,
        key: Callable[[Any], Hashable] | None = None,
        id: Callable[[Any], Hashable] | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        large: LargeEvent | None = None,
        timeout: float | None = None,
    ) -> None: ...
    async def publish_many(
        self,
        topic: Topic[Any] | str,
        events: Iterable[Any],
        *,
        key: Callable[[Any], Hashable] | None = None,
        id: Callable[[Any], Hashable] | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        large: LargeEvent | None = None,
        timeout: float | None = None,
    ) -> None:
        """Publish several events to one topic, in order, waiting once for all of them.

        Middleware runs around each, and returns from its `call_next` before the event is sent. Others have their turn
        while many are encoded: what they publish may come first. Where it is cancelled, some may be published, as it is
        not taken back.

        Args:
            topic: as in `publish`.
            events: the events.
            key: a function that takes out of each event what it belongs to, in place of the topic's own `key`.
            id: a function that takes out of each event what names it, in place of the topic's own `id`.
            metadata: headers to send along with each.
            content_type, large: how each is written, and travels where it is too large, as in `publish`.
            timeout: how long to wait for the broker, for all of them, in seconds; default: as `publishing` says.

        Raises:
            NotAllPublished: some were not confirmed; it says which, and why. The others are.
            EncodeError, UsageError: as `publish`, before anything was sent.
        """
        publisher = self._publisher
        if timeout is not None:
            check_seconds("timeout", timeout)
        check_picks(key=key, id=id)
        if content_type is not None:
            metadata = publisher.codecs.naming(content_type, metadata)
        route = publisher.routes.find(topic) if large is None else publisher.routes.find_large(topic, large)
        messages = await publisher.collect(route, check_events(events), metadata, timeout, key=key, id=id)
        with messages:
            await publisher.outgoing.publish_many(messages, timeout)

    def publisher(self, topic: Topic[T]) -> Publisher[T]:
        """A publisher bound to one topic.

        Raises:
            UsageError: it is no topic.
        """
        check_topic(topic)
        return Publisher(self, topic)

    async def flush(self) -> None:
        """Return when the broker has taken in all that was published so far.

        Raises:
            Disconnected: it did not answer in time.
        """
        await self._publisher.outgoing.flush()


class Publisher(Generic[T]):
    """Publishes events of one type to one topic. Lives as long as the client or service it was made by."""

    __slots__ = ("_source", "topic")

    def __init__(self, source: PublishesEvents, topic: Topic[T]) -> None:
        self._source = source
        self.topic = topic

    async def publish(
        self,
        event: T,
        *,
        key: Hashable = None,
        id: Hashable = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        large: LargeEvent | None = None,
        timeout: float | None = None,
    ) -> None:
        """Publish one event; see `Client.publish`."""
        publisher = self._source._publisher
        if content_type is not None:
            metadata = publisher.codecs.naming(content_type, metadata)
        waiting = publisher.publish(self.topic, event, key, id, metadata, timeout, large)
        if waiting is not None:
            await waiting

    async def publish_many(
        self,
        events: Iterable[T],
        *,
        key: Callable[[T], Hashable] | None = None,
        id: Callable[[T], Hashable] | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        large: LargeEvent | None = None,
        timeout: float | None = None,
    ) -> None:
        """Publish several events; see `Client.publish_many`."""
        await self._source.publish_many(
            self.topic,
            events,
            key=key,
            id=id,
            metadata=metadata,
            content_type=content_type,
            large=large,
            timeout=timeout,
        )


class EventPublisher:
    """What one client publishes: found its way, taken through the middleware, and handed to what knows the broker."""

    def __init__(
        self,
        outgoing: Outgoing,
        codecs: Codecs,
        middleware: tuple[Middleware, ...],
        forwarding: Forwarding | None = None,
    ) -> None:
        self.outgoing = outgoing
        self.forwarding = forwarding or Forwarding()
        self.codecs = codecs
        self.routes = Routes(
            codecs,
            outgoing.forgets,
            outgoing.check_stores_objects,
            outgoing.binding,
            outgoing.check_knows_exchange,
            outgoing.check_keeps,
            labels=outgoing.labels,
        )
        self.run = compose(middleware, Side.PUBLISHER, self._send, outgoing.url)
        self.has_middleware = self.run != self._send
        self._passes = passing(middleware, Side.PUBLISHER)

    def publish(
        self,
        topic: Topic[Any] | str,
        event: Any,
        key: Hashable,
        id: Hashable,
        metadata: dict[str, str] | None,
        timeout: float | None,
        large: LargeEvent | None = None,
    ) -> Awaitable[None] | None:
        """Publish an event; None: it is done. See `PublishesEvents.publish`."""
        if timeout is not None:
            check_seconds("timeout", timeout)
        route = self.routes.find(topic) if large is None else self.routes.find_large(topic, large)
        if (outer := find_context()) is not None:
            metadata = self.forwarding.join(outer, metadata)
        if self.has_middleware and not (self._passes is not None and self._passes()):
            return self.run(event, self.begin(route, event, route.address(event, key, id), metadata, timeout))
        try:
            message = route.message(event, key, id, metadata)
        except NotReady:
            return self._publish_when_ready(route, event, key, id, metadata, timeout)
        return None if self.outgoing.try_publish(message) else self.outgoing.publish(message, timeout)

    async def _publish_when_ready(
        self,
        route: Route,
        event: Any,
        key: Hashable,
        id: Hashable,
        metadata: dict[str, str] | None,
        timeout: float | None,
    ) -> None:
        seconds = self.outgoing.seconds(timeout)
        message, left = await when_ready(lambda: route.message(event, key, id, metadata), route.subject, seconds)
        await self.outgoing.publish(message, left)

    def begin(
        self,
        route: Route,
        event: Any,
        message: Message,
        metadata: dict[str, str] | None,
        timeout: float | None = None,
    ) -> OutgoingEvent:
        """The context of publishing an event."""
        headers = check_headers(metadata) if metadata else None
        return OutgoingEvent(message, route.write, headers, timeout, route.pattern)

    async def collect(
        self,
        route: Route,
        events: Iterable[Any],
        metadata: dict[str, str] | None = None,
        timeout: float | None = None,
        *,
        key: Callable[[Any], Hashable] | None = None,
        id: Callable[[Any], Hashable] | None = None,
        into: Together | None = None,
    ) -> Together:
        """The messages of several events, ready to be published, behind those that are to go with them. Others have
        their turn while many are encoded.
        """
        if (outer := find_context()) is not None:
            metadata = self.forwarding.join(outer, metadata)
        ready = ((event, route.address(event, key and key(event), id and id(event))) for event in events)
        messages = Together() if into is None else into
        while some := list(islice(ready, AT_ONCE)):
            if self.has_middleware:
                await self._through_middleware(route, some, metadata, timeout, messages)
            else:
                messages += await _packed(route, some, metadata, self.outgoing.seconds(timeout))
            if len(some) < AT_ONCE:
                break
            await asyncio.sleep(0)
        if route.is_large:
            await self.outgoing.store_large(messages, timeout)
        return messages

    async def messages(self, topic: Topic[Any], events: Iterable[Any], into: Together | None) -> Together:
        """Several events of a topic, as messages that are ready to be published, behind others."""
        return await self.collect(self.routes.find(topic), check_events(events), into=into)

    async def publish_and_ack(self, messages: Together, deliveries: Sequence[Delivery]) -> None:
        """Publish them in one transaction with the acknowledgement of others; see `Outgoing.publish_and_ack`."""
        with messages:
            await self.outgoing.publish_and_ack(messages, deliveries)

    async def _through_middleware(
        self,
        route: Route,
        ready: Iterable[tuple[Any, Message]],
        metadata: dict[str, str] | None,
        timeout: float | None,
        messages: Together,
    ) -> None:
        for event, message in ready:
            context = self.begin(route, event, message, metadata, timeout)
            context.together = messages
            await self.run(event, context)

    async def _send(self, event: Any, context: Context) -> None:
        assert isinstance(context, OutgoingEvent)
        message = context.message
        try:
            context.write(message, event, context.metadata)
        except NotReady:
            seconds = self.outgoing.seconds(context.timeout)
            write = partial(context.write, message, event, context.metadata)
            _, context.timeout = await when_ready(write, context.topic, seconds)
        if context.together is not None:
            context.together.append(message)
        elif not self.outgoing.try_publish(message):
            await self.outgoing.publish(message, context.timeout)


async def _packed(
    route: Route, some: list[tuple[Any, Message]], metadata: dict[str, str] | None, seconds: float
) -> list[Message]:
    """The messages of several events, when what their codec needs is here."""

    def pack() -> list[Message]:
        return [route.pack(message, event, metadata) for event, message in some]

    try:
        return pack()
    except NotReady:
        messages, _ = await when_ready(pack, route.subject, seconds)
    return messages
