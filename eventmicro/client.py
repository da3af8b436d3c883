"""Client: calls endpoints and publishes events."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from functools import lru_cache
from types import TracebackType, UnionType
from typing import Any, Generic, Self, TypeVar, overload

from eventmicro.broker import Broker
from eventmicro.caller import Caller
from eventmicro.codec import Codec
from eventmicro.codecs import Body, Codecs
from eventmicro.context import Context, Side, find_context
from eventmicro.embedded import find as find_embedded
from eventmicro.errors import (
    CallTimeout,
    DecodeError,
    ServiceError,
    Unavailable,
    Unsupported,
    UnsupportedMediaType,
    UsageError,
    describe_fields,
)
from eventmicro.message import Delivery, Message
from eventmicro.middleware import Middleware, compose
from eventmicro.plugins import BROKER_VARIABLE, open_broker
from eventmicro.topic import Topic
from eventmicro.wire import (
    CONTENT_TYPE,
    ERROR,
    ERROR_CODE,
    NO_RESPONDERS,
    STATUS,
    check_headers,
    check_subject,
    content_type,
    header,
)

T = TypeVar("T")
R = TypeVar("R")

CLIENT, PUBLISHER = Side.CLIENT, Side.PUBLISHER
# How long a call waits for its reply where nothing else is said, in seconds.
DEFAULT_TIMEOUT = 5.0
# The longest that one may wait, in seconds: four months.
MAX_TIMEOUT = 1e7


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
        deadline = time.monotonic() + (client.timeout if timeout is None else check_timeout(timeout))
        outer = find_context()
        if outer is not None and outer.deadline is not None and outer.deadline < deadline:
            deadline = outer.deadline
        headers = check_headers(metadata) if metadata else None
        context = _Outgoing(CLIENT, service, name, endpoint, headers, deadline)
        context.body = client._codecs.body(reply)
        return await client._call(request, context)

    @overload
    async def publish(self, topic: Topic[T], event: T, *, metadata: dict[str, str] | None = None) -> None: ...
    @overload
    async def publish(self, topic: str, event: Any, *, metadata: dict[str, str] | None = None) -> None: ...
    async def publish(self, topic: Topic[Any] | str, event: Any, *, metadata: dict[str, str] | None = None) -> None:
        """Publish an event.

        Args:
            topic: a Topic; or a subject, and then the event's own type says how it travels.
            event: the event.
            metadata: headers to send along.

        Raises:
            EncodeError: the event is not of the topic's type; nothing was sent.
            UsageError: the topic has wildcards, so it is no place to publish to.
            TransportError: the broker is away, or the event is too large for it; it was not sent.
        """
        client = self.client
        if not isinstance(topic, str | Topic):
            raise UsageError(f"publish to a Topic or a subject, not to a {type(topic).__name__}")
        if isinstance(topic, str):
            name, kind = topic, type(event)
        else:
            name, kind = topic.name, topic.type
        headers = check_headers(metadata) if metadata else None
        context = _Outgoing(PUBLISHER, topic=_check_subject(name), metadata=headers)
        context.body = client._codecs.body(kind)
        await client._publish(event, context)

    def publisher(self, topic: Topic[T]) -> Publisher[T]:
        """A publisher bound to one topic."""
        return Publisher(self, topic)

    async def flush(self) -> None:
        """Return when the broker has taken in all that was published so far.

        Raises:
            Disconnected: it did not answer in time.
        """
        await self.client.broker.flush()


class Client(Messaging):
    """Calls endpoints and publishes events over one broker; used by `async with`, or by `connect` and `close`.

    Args:
        broker: a URL such as `nats://127.0.0.1:4222`, or a Broker. One that is connected already stays connected at the
            end: who opened it closes it. Default: what `EVENTMICRO_BROKER` says, or else the embedded server that
            `eventmicro run` has started on this machine.
        middleware: what runs around each call and each publish; the first is the outermost.
        codecs: codecs of your own, asked before the ready-made ones.
        timeout: how long a call waits where it does not say so itself, in seconds.
    """

    def __init__(
        self,
        broker: str | Broker | None = None,
        *,
        middleware: Iterable[Middleware] = (),
        codecs: Iterable[Codec] = (),
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self.broker = open_broker(broker or os.environ.get(BROKER_VARIABLE) or find_embedded())
        self.timeout = check_timeout(timeout)
        self._codecs = Codecs(codecs)
        middleware = list(middleware)
        self._call = compose(middleware, Side.CLIENT, self._request)
        self._publish = compose(middleware, Side.PUBLISHER, self._send)
        self._caller: Caller | None = None
        self._opening: asyncio.Lock | None = None
        self._owns_broker = False

    @property
    def client(self) -> Client:
        """Itself."""
        return self

    async def connect(self) -> None:
        """Connect the broker, unless it is connected.

        Raises:
            ConnectionFailed: no broker answered.
        """
        if not self.broker.connected:
            await self.broker.connect()
            self._owns_broker = True

    async def close(self) -> None:
        """Send what was published and close what `connect` opened. A second call does nothing."""
        caller, self._caller = self._caller, None
        owns_broker, self._owns_broker = self._owns_broker, False
        try:
            if caller is not None:
                await caller.close()
        finally:
            if owns_broker:
                await self.broker.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, event: Any, context: Context) -> None:
        assert isinstance(context, _Outgoing)
        headers = context.metadata
        body = _encode(context.body, event, headers)
        await self.broker.publish(Message(context.topic, body, headers or None))

    async def _request(self, request: Any, context: Context) -> Any:
        assert isinstance(context, _Outgoing)
        headers = context.metadata
        body = _encode(self._codecs.body(type(request)), request, headers)
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
                return _decode(context, context.body.decode, delivery.body)
            return _read_reply(delivery, context)
        except ServiceError as error:
            error.received = True
            raise

    async def _open_caller(self) -> Caller:
        if not self.broker.capabilities.request_reply:
            raise Unsupported(f"{self.broker.url} carries no calls (request_reply); call over nats:// or memory://")
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._caller is None or self._caller.ended:
                caller = Caller(self.broker)
                await caller.open()
                self._caller = caller
        return self._caller


class Publisher(Generic[T]):
    """Publishes events of one type to one topic. Lives as long as the client or service it was made by."""

    __slots__ = ("_source", "topic")

    def __init__(self, source: Messaging, topic: Topic[T]) -> None:
        self._source = source
        self.topic = topic

    async def publish(self, event: T, *, metadata: dict[str, str] | None = None) -> None:
        """Publish one event; see `Client.publish`."""
        await self._source.publish(self.topic, event, metadata=metadata)


class _Outgoing(Context):
    """The context of a call or a publish, with the body of the reply or of the event."""

    __slots__ = ("body",)
    body: Body


@lru_cache(4096)
def _check_endpoint(endpoint: str) -> tuple[str, str]:
    if "." not in endpoint:
        raise UsageError(f"endpoint {endpoint!r}: write 'service.endpoint', such as 'orders.quote'")
    check_subject(endpoint)
    service, _, name = endpoint.partition(".")
    return service, name


def check_timeout(seconds: float) -> float:
    """Return `seconds` if it is a time to wait; where it is 0 or less nothing will be sent.

    Raises:
        UsageError: it is no number of seconds, or more than four months.
    """
    if not seconds <= MAX_TIMEOUT:
        raise UsageError(f"timeout={seconds}: write seconds, up to {MAX_TIMEOUT:g}")
    return seconds


_check_subject = lru_cache(4096)(check_subject)


def _encode(body: Body, value: Any, headers: dict[str, str]) -> bytes:
    """Encode in the content type that the headers name, else in the type's own, and name that where it has to be."""
    named = content_type(headers) if headers else None
    if named is None:
        if body.announced:
            headers[CONTENT_TYPE] = body.content_type
        return body.encode(value)
    encode = body.encoder(named)
    if encode is None:
        raise UsageError(f"a value of type {type(value).__name__} cannot travel as {named}; leave Content-Type out")
    return encode(value)


def _read_reply(delivery: Delivery, context: _Outgoing) -> Any:
    """The outcome of a call with headers: an error, nobody there, or a body in some content type."""
    headers = delivery.headers
    code = header(headers, ERROR_CODE)
    if code is not None or header(headers, ERROR) is not None:
        number = int(code) if code and code.isdecimal() and len(code) < 9 else 500
        raise ServiceError.from_json(delivery.body, code=number, detail=header(headers, ERROR) or "", id=context.topic)
    if header(headers, STATUS) == NO_RESPONDERS and not delivery.body:
        raise Unavailable(
            f"nobody serves {context.topic}: is the service {context.service!r} running, on this broker, "
            f"and is the endpoint's name {context.endpoint!r} right?",
            id=context.topic,
        )
    named = content_type(headers)
    try:
        if named is not None:
            decode = context.body.decoder(named)
        else:
            decode = context.body.asked_decoder(content_type(context.metadata))
    except UnsupportedMediaType as error:
        raise DecodeError(f"the reply of {context.topic}: {error.detail}") from None
    return _decode(context, decode, delivery.body)


def _decode(context: _Outgoing, decode: Any, body: bytes) -> Any:
    try:
        return decode(body)
    except DecodeError as error:
        if context.body.kind in (None, type(None)):
            raise DecodeError(
                f"{context.topic} replied {len(body)} bytes, but no type was given for them: "
                f"call({context.topic!r}, request, TypeOfTheReply)"
            ) from None
        fields = describe_fields(error.errors)
        raise DecodeError(f"the reply of {context.topic} is {error}{fields}", error.errors) from None
