"""The calling side: `call` as users have it, and the way of a call through middleware and codec to the broker."""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from types import UnionType
from typing import Any, TypeVar, overload

from eventmicro.broker import Broker, Capabilities
from eventmicro.checks import LONGEST
from eventmicro.codecs import Body, Codecs
from eventmicro.context import Context, Side, find_context
from eventmicro.errors import CallTimeout, ServiceError, Unsupported, UsageError
from eventmicro.message import Delivery, Message
from eventmicro.middleware import Middleware, compose
from eventmicro.plugins import RPC_BROKER_VARIABLE, brokers_with
from eventmicro.rpc.caller import NO_REPLY, Caller, timed_out
from eventmicro.rpc.outgoing import OutgoingCall
from eventmicro.rpc.replies import decode_reply, read_reply
from eventmicro.wire import CONTENT_TYPE, check_headers, check_subject, content_type

R = TypeVar("R")
E = TypeVar("E", bound=ServiceError)

CLIENT = Side.CLIENT
# How long a call waits for its reply where nothing else is said, in seconds.
DEFAULT_TIMEOUT = 5.0


class CallsEndpoints:
    """Whoever calls endpoints: a Client, a Service."""

    @property
    def _caller(self) -> RpcClient:
        """Over what it calls."""
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
        client = self._caller
        service, name = _check_endpoint(endpoint)
        started = time.monotonic()
        deadline = started + (client.timeout if timeout is None else _check_left(timeout))
        outer = find_context()
        if outer is not None and outer.deadline is not None and outer.deadline < deadline:
            deadline = outer.deadline
        headers = check_headers(metadata) if metadata else None
        expected = client.codecs.body(reply)
        begun = client.begin(endpoint, request, headers, started, deadline, expected)
        if begun is not None:
            call, outcome, headers = begun
            try:
                value = await outcome
            except asyncio.CancelledError:
                await client.give_up(service, call)
                raise
            if value is NO_REPLY:
                raise await client.timed_out(service, endpoint, call, started)
            if not isinstance(value, Delivery):
                return value
        context = OutgoingCall(CLIENT, service, name, endpoint, headers, deadline)
        context.body = expected
        return await client.call(request, context) if begun is None else client.read(value, context)


class RpcClient:
    """What one client calls, over one broker. It opens nothing before the first call; `close` ends it.

    Args:
        timeout: how long a call waits where it does not say so itself, in seconds.
    """

    def __init__(self, broker: Broker, codecs: Codecs, middleware: tuple[Middleware, ...], timeout: float) -> None:
        self.timeout = timeout
        self.codecs = codecs
        self.call = compose(middleware, Side.CLIENT, self._request)
        self._has_middleware = self.call != self._request
        self._broker = broker
        self._caller: Caller | None = None
        self._opening: asyncio.Lock | None = None

    async def close(self) -> None:
        """End the calls that still wait; the next call opens it again."""
        caller, self._caller = self._caller, None
        if caller is not None:
            await caller.close()

    def __len__(self) -> int:
        """How many calls are on their way."""
        return 0 if self._caller is None else len(self._caller)

    def begin(
        self,
        endpoint: str,
        request: Any,
        headers: dict[str, str] | None,
        started: float,
        deadline: float,
        reply: Body,
    ) -> tuple[str, asyncio.Future[Any], dict[str, str] | None] | None:
        """Send a request at once, as nearly all can be: the call, its outcome to be (see `Caller.begin`), and the
        headers that were sent. None: it is `call`'s.
        """
        caller = self._caller
        if self._has_middleware or caller is None or deadline <= started or caller.ended:
            return None
        body = self.codecs.body(type(request))
        if headers is None and not (body.announced or reply.announced):
            packed, decode = body.encode(request), reply.decode
        else:
            headers = {} if headers is None else headers
            packed = self._pack(request, headers, reply)
            decode = reply.asked_decoder(content_type(headers))
        sent = caller.begin(endpoint, packed, headers, deadline - started, deadline, decode)
        return None if sent is None else (*sent, headers)

    async def give_up(self, service: str, call: str) -> None:
        """Nobody waits any more for the outcome of what was begun."""
        if self._caller is not None:
            await self._caller.give_up(service, call)

    async def timed_out(self, service: str, endpoint: str, call: str, started: float) -> CallTimeout:
        """What was begun has no reply: its error."""
        if self._caller is None:
            return _received(timed_out(endpoint, time.monotonic() - started))
        return _received(await self._caller.timed_out(service, endpoint, call, started))

    def read(self, delivery: Delivery, context: OutgoingCall) -> Any:
        """The outcome of a call, where it is more than a body, or cannot be read.

        Raises:
            ServiceError: what the service answered.
            DecodeError: it is not of the type that was asked for.
        """
        try:
            if delivery.headers is None and not context.metadata:
                return decode_reply(context, context.body.decode, delivery.body)
            return read_reply(delivery, context)
        except ServiceError as error:
            error.received = True
            raise

    async def _request(self, request: Any, context: Context) -> Any:
        assert isinstance(context, OutgoingCall)
        headers = context.metadata
        body = self._pack(request, headers, context.body)
        deadline = context.deadline
        if deadline is None or deadline <= time.monotonic():
            late = CallTimeout(f"{context.topic} was not called: no time is left for it", id=context.topic)
            raise _received(late)
        caller = self._caller
        if caller is None or caller.ended:
            caller = await self._open_caller()
        try:
            delivery = await caller.request(context.service, Message(context.topic, body, headers or None), deadline)
        except ServiceError as error:
            error.received = True
            raise
        return self.read(delivery, context)

    def _pack(self, request: Any, headers: dict[str, str], reply: Body) -> bytes:
        packed = self.codecs.body(type(request)).pack(request, headers)
        if reply.announced and not packed:
            headers.setdefault(CONTENT_TYPE, reply.content_type)  # the reply comes in the request's content type
        return packed

    async def _open_caller(self) -> Caller:
        if not self._broker.capabilities.request_reply:
            able = ", ".join(brokers_with(Capabilities(request_reply=True)))
            raise Unsupported(
                f"{self._broker.url} carries no calls (request_reply): name a second broker for them, by "
                f"rpc_broker= or {RPC_BROKER_VARIABLE}; able are {able}"
            )
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._caller is None or self._caller.ended:
                caller = Caller(self._broker)
                await caller.open()
                self._caller = caller
        return self._caller


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


def _received(error: E) -> E:
    """An error of what was called: where a handler lets it pass, it is no answer of its own."""
    error.received = True
    return error
