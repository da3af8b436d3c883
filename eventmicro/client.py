"""Client: calls endpoints and publishes events."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Hashable, Iterable
from contextlib import AsyncExitStack
from functools import lru_cache
from itertools import islice
from types import TracebackType, UnionType
from typing import Any, Generic, Self, TypeVar, overload

from eventmicro.broker import Broker, Capabilities
from eventmicro.caller import Caller
from eventmicro.checks import LONGEST, check_seconds
from eventmicro.codec import Codec
from eventmicro.codecs import Codecs
from eventmicro.context import Context, Side, find_context
from eventmicro.embedded import find as find_embedded
from eventmicro.errors import CallTimeout, ServiceError, Unsupported, UsageError
from eventmicro.message import Message
from eventmicro.middleware import Middleware, check_middleware, compose
from eventmicro.plugins import BROKER_VARIABLE, RPC_BROKER_VARIABLE, brokers_with, check_broker, open_broker
from eventmicro.publishing import Outgoing, Publishing, check_publishing
from eventmicro.replies import decode_reply, read_reply
from eventmicro.routes import Route, Routes, check_events, check_picks
from eventmicro.sending import OutgoingCall, OutgoingEvent, encode
from eventmicro.topic import Topic
from eventmicro.wire import CONTENT_TYPE, check_headers, check_subject

T = TypeVar("T")
R = TypeVar("R")

CLIENT, PUBLISHER = Side.CLIENT, Side.PUBLISHER
# How many events are encoded before others have their turn.
AT_ONCE = 256
# How long a call waits for its reply where nothing else is said, in seconds.
DEFAULT_TIMEOUT = 5.0


class Messaging:
    """Calling and publishing: what a Client and a Service have in common."""

    @property
    def client(self) -> Client:
        """The client over which it calls and publishes."""
        raise NotImplementedError

    @overload
    async def call(
        self,
        endpoint: str,
        request: Any = None,
        reply: None = None,
        *,
        timeout: float | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None: ...
    @overload
    async def call(
        self,
        endpoint: str,
        request: Any,
        reply: type[R],
        *,
        timeout: float | None = None,
        metadata: dict[str, str] | None = None,
    ) -> R: ...
    @overload
    async def call(
        self,
        endpoint: str,
        request: Any,
        reply: UnionType,
        *,
        timeout: float | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Any: ...
    async def call(
        self,
        endpoint: str,
        request: Any = None,
        reply: Any = None,
        *,
        timeout: float | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Any:
        """Call an endpoint and return its reply.

        Cancelling the call cancels its handler. Within a handler, and in the tasks that it starts, a call never
        outlives what is left of that handler's own deadline.

        Args:
            endpoint: `service.endpoint`, such as `orders.quote`.
            request: the request; None sends an empty body.
            reply: the type of the reply; None where the endpoint returns none.
            timeout: how long to wait, in seconds; default: the client's.
            metadata: headers to send along.

        Raises:
            Unavailable: nobody serves this endpoint; it did not run.
            CallTimeout: no reply came in time; it may have run.
            ServiceError: what the service answered: BadRequest, NotFound, InternalError, or any other code.
            EncodeError, DecodeError: the request, or the reply, is not of its type.
            TransportError: the broker is away, or the request is too large for it.
        """
        client = self.client
        service, name = _check_endpoint(endpoint)
        deadline = time.monotonic() + (client.timeout if timeout is None else _check_left(timeout))
        outer = find_context()
        if outer is not None and outer.deadline is not None and outer.deadline < deadline:
            deadline = outer.deadline
        headers = check_headers(metadata) if metadata else None
        context = OutgoingCall(CLIENT, service, name, endpoint, headers, deadline)
        context.body = client._codecs.body(reply)
        return await client._call(request, context)

    @overload
    async def publish(
        self,
        topic: Topic[T],
        event: T,
        *,
        key: Hashable = None,
        id: Hashable = None,
        metadata: dict[str, str] | None = None,
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
        timeout: float | None = None,
    ) -> None:
        """Publish an event; it returns when the broker has it, stored where the broker stores events.

        Args:
            topic: a Topic; or a subject, and then the event's own type says how it travels.
            event: the event.
            key: what the event belongs to, in place of the topic's own `key`.
            id: what names the event, in place of the topic's own `id`.
            metadata: headers to send along.
            timeout: how long to wait for the broker, in seconds; default: as `publishing` says.

        Raises:
            EncodeError: the event is not of the topic's type; nothing was sent.
            UsageError: the topic has wildcards, so it is no place to publish to, or an argument is out of range.
            TransportError: the broker is away, or the event is too large for it, or it refused it; it was not sent.
            Unconfirmed: a TransportError too: it was sent, but the broker did not confirm it in time.
        """
        client = self.client
        if timeout is not None:
            check_seconds("timeout", timeout)
        route = client._routes.find(topic)
        message = route.address(event, key, id)
        if client._has_middleware:
            context = client._outgoing(route, event, message, metadata)
            context.timeout = timeout
            await client._publish(event, context)
        else:
            await client.outgoing.publish(route.pack(message, event, metadata), timeout)

    @overload
    async def publish_many(
        self,
        topic: Topic[T],
        events: Iterable[T],
        *,
        key: Callable[[T], Hashable] | None = None,
        id: Callable[[T], Hashable] | None = None,
        metadata: dict[str, str] | None = None,
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
            timeout: how long to wait for the broker, for all of them, in seconds; default: as `publishing` says.

        Raises:
            NotAllPublished: some were not confirmed; it says which, and why. The others are.
            EncodeError, UsageError: as `publish`, before anything was sent.
        """
        client = self.client
        if timeout is not None:
            check_seconds("timeout", timeout)
        check_picks(key=key, id=id)
        route = client._routes.find(topic)
        several = check_events(events)
        ready = ((event, route.address(event, key and key(event), id and id(event))) for event in several)
        messages: list[Message] = []
        while some := list(islice(ready, AT_ONCE)):
            if client._has_middleware:
                messages += await client._collect(route, some, metadata)
            else:
                messages += [route.pack(message, event, metadata) for event, message in some]
            if len(some) < AT_ONCE:
                break
            await asyncio.sleep(0)
        await client.outgoing.publish_many(messages, timeout)

    def publisher(self, topic: Topic[T]) -> Publisher[T]:
        """A publisher bound to one topic."""
        return Publisher(self, topic)

    async def flush(self) -> None:
        """Return when the broker has taken in all that was published so far.

        Raises:
            Disconnected: it did not answer in time.
        """
        await self.client.outgoing.flush()
        await self.client.broker.flush()


class Client(Messaging):
    """Calls endpoints and publishes events over one broker; used by `async with`, or by `connect` and `close`.

    Args:
        broker: a URL such as `nats://127.0.0.1:4222`, or a Broker. One that is connected already stays connected at the
            end: who opened it closes it. Default: what `EVENTMICRO_BROKER` says, or else the embedded server that
            `eventmicro run` has started on this machine.
        rpc_broker: the broker for calls where `broker` carries none, as RabbitMQ and Kafka; default: what
            `EVENTMICRO_RPC_BROKER` says, or else the same.
        middleware: what runs around each call and each publish; the first is the outermost.
        codecs: codecs of your own, asked before the ready-made ones.
        timeout: how long a call waits where it does not say so itself, in seconds.
        publishing: how long publishing waits for the broker, and what it does while that is away.
    """

    def __init__(
        self,
        broker: str | Broker | None = None,
        *,
        rpc_broker: str | Broker | None = None,
        middleware: Iterable[Middleware] = (),
        codecs: Iterable[Codec] = (),
        timeout: float = DEFAULT_TIMEOUT,
        publishing: Publishing | None = None,
    ) -> None:
        check_broker("broker", broker)
        check_broker("rpc_broker", rpc_broker)
        check_publishing(publishing)
        broker = broker or os.environ.get(BROKER_VARIABLE) or find_embedded()
        rpc_broker = rpc_broker or os.environ.get(RPC_BROKER_VARIABLE) or broker
        self.broker = open_broker(broker)
        self.rpc_broker = self.broker if rpc_broker == broker else open_broker(rpc_broker)
        self.outgoing = Outgoing(self.broker, publishing or Publishing())
        check_seconds("timeout", timeout)
        self.timeout = timeout
        self._codecs = Codecs(codecs)
        self._routes = Routes(self._codecs)
        middleware = check_middleware(middleware)
        self._has_middleware = bool(middleware)
        self._call = compose(middleware, Side.CLIENT, self._request)
        self._publish = compose(middleware, Side.PUBLISHER, self._send)
        self._caller: Caller | None = None
        self._opening: asyncio.Lock | None = None
        self._owned: list[Broker] = []

    @property
    def client(self) -> Client:
        """Itself."""
        return self

    async def connect(self) -> None:
        """Connect the brokers that are not connected.

        Raises:
            ConnectionFailed: no broker answered; nothing is left open.
        """
        try:
            for broker in dict.fromkeys((self.broker, self.rpc_broker)):
                if not broker.connected:
                    await broker.connect()
                    self._owned.append(broker)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Send what was published and close what `connect` opened. A second call does nothing."""
        caller, self._caller = self._caller, None
        owned, self._owned = self._owned, []
        async with AsyncExitStack() as stack:  # each is closed, whatever fails
            for broker in owned:
                stack.push_async_callback(broker.close)
            stack.push_async_callback(self.outgoing.close)
            if caller is not None:
                stack.push_async_callback(caller.close)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _outgoing(self, route: Route, event: Any, message: Message, metadata: dict[str, str] | None) -> OutgoingEvent:
        """The context of publishing an event."""
        headers = check_headers(metadata) if metadata else None
        context = OutgoingEvent(PUBLISHER, topic=message.subject, metadata=headers)
        context.body = route.body(event)
        context.message = message
        context.timeout = context.together = None
        return context

    async def _collect(
        self, route: Route, ready: Iterable[tuple[Any, Message]], metadata: dict[str, str] | None
    ) -> list[Message]:
        """The messages of several events, each of which has gone through the middleware."""
        messages: list[Message] = []
        for event, message in ready:
            context = self._outgoing(route, event, message, metadata)
            context.together = messages
            await self._publish(event, context)
        return messages

    async def _send(self, event: Any, context: Context) -> None:
        assert isinstance(context, OutgoingEvent)
        headers = context.metadata
        message = context.message
        message.body = encode(context.body, event, headers)
        message.headers = headers or None
        if context.together is None:
            await self.outgoing.publish(message, context.timeout)
        else:
            context.together.append(message)

    async def _request(self, request: Any, context: Context) -> Any:
        assert isinstance(context, OutgoingCall)
        headers = context.metadata
        body = encode(self._codecs.body(type(request)), request, headers)
        if context.body.announced and not body:
            headers.setdefault(CONTENT_TYPE, context.body.content_type)  # the reply comes in the request's content type
        message = Message(context.topic, body, headers or None)
        deadline = context.deadline
        if deadline is None or deadline <= time.monotonic():
            late = CallTimeout(f"{context.topic} was not called: no time is left for it", id=context.topic)
            late.received = True
            raise late
        caller = self._caller
        if caller is None or caller.ended:
            caller = await self._open_caller()
        try:
            delivery = await caller.request(context.service, message, deadline)
            if delivery.headers is None and not headers:
                return decode_reply(context, context.body.decode, delivery.body)
            return read_reply(delivery, context)
        except ServiceError as error:
            error.received = True
            raise

    async def _open_caller(self) -> Caller:
        if not self.rpc_broker.capabilities.request_reply:
            able = ", ".join(brokers_with(Capabilities(request_reply=True)))
            raise Unsupported(
                f"{self.rpc_broker.url} carries no calls (request_reply): name a second broker for them, by "
                f"rpc_broker= or {RPC_BROKER_VARIABLE}; able are {able}"
            )
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._caller is None or self._caller.ended:
                caller = Caller(self.rpc_broker)
                await caller.open()
                self._caller = caller
        return self._caller


class Publisher(Generic[T]):
    """Publishes events of one type to one topic. Lives as long as the client or service it was made by."""

    __slots__ = ("_source", "topic")

    def __init__(self, source: Messaging, topic: Topic[T]) -> None:
        self._source = source
        self.topic = topic

    async def publish(
        self,
        event: T,
        *,
        key: Hashable = None,
        id: Hashable = None,
        metadata: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Publish one event; see `Client.publish`."""
        await self._source.publish(self.topic, event, key=key, id=id, metadata=metadata, timeout=timeout)

    async def publish_many(
        self,
        events: Iterable[T],
        *,
        key: Callable[[T], Hashable] | None = None,
        id: Callable[[T], Hashable] | None = None,
        metadata: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Publish several events; see `Client.publish_many`."""
        await self._source.publish_many(self.topic, events, key=key, id=id, metadata=metadata, timeout=timeout)


@lru_cache(4096)
def _check_endpoint(endpoint: str) -> tuple[str, str]:
    if "." not in endpoint:
        raise UsageError(f"endpoint {endpoint!r}: write 'service.endpoint', such as 'orders.quote'")
    check_subject(endpoint)
    service, _, name = endpoint.partition(".")
    return service, name


def _check_left(seconds: float) -> float:
    """Return `seconds` if it is a time to wait for a reply; where 0 or less are left nothing will be sent.

    Raises:
        UsageError: it is no number of seconds, or more than four months.
    """
    if not seconds <= LONGEST:
        raise UsageError(f"timeout={seconds}: write seconds, up to {LONGEST:g}")
    return seconds
