"""The calling side: `call` as users have it, and the way of a call through middleware and codec to the broker."""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from types import UnionType
from typing import Any, TypeVar, overload

from eventmicro.broker import Broker, Capabilities
from eventmicro.checks import LONGEST
from eventmicro.codecs import Codecs
from eventmicro.context import Context, Side, find_context
from eventmicro.errors import CallTimeout, ServiceError, Unsupported, UsageError
from eventmicro.message import Message
from eventmicro.middleware import Middleware, compose
from eventmicro.plugins import RPC_BROKER_VARIABLE, brokers_with
from eventmicro.rpc.caller import Caller
from eventmicro.rpc.outgoing import OutgoingCall
from eventmicro.rpc.replies import decode_reply, read_reply
from eventmicro.wire import CONTENT_TYPE, check_headers, check_subject

R = TypeVar("R")

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
        caller = self._caller
        service, name = _check_endpoint(endpoint)
        deadline = time.monotonic() + (caller.timeout if timeout is None else _check_left(timeout))
        outer = find_context()
        if outer is not None and outer.deadline is not None and outer.deadline < deadline:
            deadline = outer.deadline
        headers = check_headers(metadata) if metadata else None
        context = OutgoingCall(CLIENT, service, name, endpoint, headers, deadline)
        context.body = caller.codecs.body(reply)
        return await caller.call(request, context)


class RpcClient:
    """What one client calls, over one broker. It opens nothing before the first call; `close` ends it.

    Args:
        timeout: how long a call waits where it does not say so itself, in seconds.
    """

    def __init__(self, broker: Broker, codecs: Codecs, middleware: tuple[Middleware, ...], timeout: float) -> None:
        self.timeout = timeout
        self.codecs = codecs
        self.call = compose(middleware, Side.CLIENT, self._request)
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

    async def _request(self, request: Any, context: Context) -> Any:
        assert isinstance(context, OutgoingCall)
        headers = context.metadata
        body = self.codecs.body(type(request)).pack(request, headers)
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
