"""The calling side: `call` as users have it, and the way of a call through middleware and codec to the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cached_property, partial
from types import UnionType
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

from eventmicro.broker import Broker
from eventmicro.codecs import Body, Codecs
from eventmicro.context import Context, Side, find_context
from eventmicro.errors import CallTimeout, MessageTooLarge, ServiceError, Unavailable, UsageError
from eventmicro.large import MAX_LARGE, LargeCall, check_large_call
from eventmicro.message import Delivery, Message
from eventmicro.middleware import Middleware, compose
from eventmicro.retry import CallRetry
from eventmicro.rpc.caller import NO_REPLY, Caller
from eventmicro.rpc.directed import DirectedCall
from eventmicro.rpc.outgoing import (
    WRITE_ENDPOINT,
    Direction,
    OutgoingCall,
    check_carries_calls,
    check_endpoint,
    check_left,
)
from eventmicro.rpc.replies import decode_reply, read_reply
from eventmicro.rpc.requests import pack_request
from eventmicro.rpc.retrying import Retries, tried
from eventmicro.rpc.streams.opens import OpensStreams
from eventmicro.selector import Director, Filter, Node, Selector
from eventmicro.terms import Terms
from eventmicro.wire import ACCEPT_LARGE, check_headers, form_of

if TYPE_CHECKING:
    from eventmicro.rpc.large.calling import LargeCalls
    from eventmicro.rpc.streams.calling import StreamCaller

R = TypeVar("R")

CLIENT = Side.CLIENT
# How long a call waits for its reply where nothing else is said, in seconds.
DEFAULT_TIMEOUT = 5.0


class CallWords(TypedDict, total=False):
    """What a call may say beside its request; see `CallsEndpoints.call`."""

    timeout: float | None
    metadata: dict[str, str] | None
    content_type: str | None
    selector: str | Selector | None
    filters: Sequence[Filter]
    key: str | None
    retry: CallRetry | None
    hedge: float | None
    idempotent: bool | None
    large: LargeCall | None


class CallsEndpoints(OpensStreams):
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
        **words: Unpack[CallWords],
    ) -> None: ...
    @overload
    async def call(
        self,
        endpoint: str,
        request: Any,
        reply: type[R],
        **words: Unpack[CallWords],
    ) -> R: ...
    @overload
    async def call(
        self,
        endpoint: str,
        request: Any,
        reply: UnionType,
        **words: Unpack[CallWords],
    ) -> Any: ...
    async def call(
        self,
        endpoint: str,
        request: Any = None,
        reply: Any = None,
        *,
        timeout: float | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        selector: str | Selector | None = None,
        filters: Sequence[Filter] = (),
        key: str | None = None,
        retry: CallRetry | None = None,
        hedge: float | None = None,
        idempotent: bool | None = None,
        large: LargeCall | None = None,
    ) -> Any:
        """Call an endpoint and return its reply.

        Cancelling the call cancels its handler. Within a handler, and in the tasks that it starts, a call never
        outlives what is left of that handler's own deadline.

        Args:
            endpoint: `service.endpoint`, such as `orders.quote`.
            request: the request; None sends an empty body.
            reply: the type of the reply; None where the endpoint returns none.
            timeout: how long to wait, in seconds, all attempts together; default: that of the endpoint, where it
                has one and the client has looked it up, else the client's.
            metadata: headers to send along.
            content_type: how request and reply are written, such as `msgpack`, `application/msgpack` or `json-rpc`;
                default: the client's, or what their types are written in.
            selector: what chooses the node that is asked: `random`, `round-robin`, `least-in-flight`, `two-choices`,
                `sticky`, `rendezvous`, `newest`, or a function of the nodes. Default: the client's; where that has
                none either, and there are neither filters nor a key, the broker chooses, and nobody is looked up.
            filters: which nodes may be asked, such as `version("^1.2")`; each is a function of a node.
            key: what the call belongs to, for `sticky` and `rendezvous`; where no selector goes by it it asks for
                `rendezvous`.
            retry: whether and when the call is made again where it fails; default: the client's. A directed
                call goes to another node then, if there is one.
            hedge: after how many seconds without an answer a second request goes out; the first answer is taken.
                0: none does. Default: the client's, which holds for endpoints that are known to be idempotent.
            idempotent: whether the call may be made twice without harm; default: as the endpoint declares it, where the
                client has looked it up, else no.
            large: `stream`: a request and a reply that are too large for the broker travel in pieces, whole or not at
                all; default: as the client says, else they are refused.

        Raises:
            Unavailable: nobody serves this endpoint; it did not run.
            NotFound: the service is there and has no such endpoint; or a node is to be chosen, and it has none.
            CallTimeout: no reply came in time; it may have run.
            ServiceError: what the service answered: BadRequest, NotFound, InternalError, or any other code.
            EncodeError, DecodeError: the request, or the reply, is not of its type.
            TransportError: the broker is away, or the request is too large for it.
            PeerLost, StreamBroken: with `large`, the request or the reply did not come whole.
            ContentTooLarge: with `large`, it is over the `max_large` of who was to take it.

            Of several attempts it is the last one's error, and its `attempts` says how many there were.
        """
        client = self._caller
        try:
            service, name = check_endpoint(endpoint)
        except TypeError:  # no string, perhaps not even hashable
            raise UsageError(f"endpoint {endpoint!r}: {WRITE_ENDPOINT}") from None
        started = time.monotonic()
        deadline = started + (client.timeout if timeout is None else check_left(timeout))
        outer = find_context()
        if outer is not None and outer.deadline is not None and outer.deadline < deadline:
            deadline = outer.deadline
        headers = check_headers(metadata) if metadata else None
        if content_type is not None:
            headers = client.codecs.naming(content_type, headers)
        expected = client.codecs.body(reply)
        if (
            client.is_plain
            and selector is None
            and not filters
            and key is None
            and retry is None
            and hedge is None
            and large is None
        ):
            return await client.exchange(service, endpoint, request, headers, started, deadline, expected)
        if large is not None or client.takes_large:
            headers = client.taking_large(large, headers)
        if timeout is None:
            deadline = client.deadline(endpoint, started, deadline, outer)
        direction = client.directs(selector, filters, key)
        if direction is not None and client.is_bare and retry is None and hedge is None:
            return await client.direct(direction, service, name, request, headers, deadline, expected)
        context = OutgoingCall(CLIENT, service, name, endpoint, headers, deadline, reply=reply)
        context.body, context.asked, context.direction = expected, [], direction
        if hedge and idempotent is None and context.direction is not None and endpoint not in client.terms:
            await client.director().look(service, deadline)  # whether it is idempotent
        context.trying = client.retries.of(endpoint, retry, hedge, idempotent)
        return await client.run(request, context)


class RpcClient:
    """What one client calls, over one broker. It opens nothing before the first call; `close` ends it.

    Args:
        timeout: how long a call waits where it does not say so itself, in seconds.
        director: gives what directs calls to nodes, and knows who is there; asked for when it is needed.
        directs: whether each call goes to a chosen node, also where it says nothing of that.
        by_key: what chooses it for a call that names a key and no selector.
        retry, hedge: whether and when calls are made again that do not say so themselves.
        large: how requests and replies travel that are too large for the broker, where calls do not say so themselves.
        max_large: how large such a reply may be, in bytes.
    """

    def __init__(
        self,
        broker: Broker,
        codecs: Codecs,
        middleware: tuple[Middleware, ...],
        timeout: float,
        director: Callable[[], Director],
        directs: bool = False,
        by_key: str | Selector | None = None,
        retry: CallRetry | None = None,
        hedge: float | None = None,
        large: LargeCall | None = None,
        max_large: int = MAX_LARGE,
    ) -> None:
        self.timeout = timeout
        self.codecs = codecs
        self.director = director
        self.direction = Direction(None, (), None) if directs else None
        self.by_key = by_key
        self.terms: dict[str, Terms] = {}
        self.retries = Retries(retry, hedge, self.terms)
        self.takes_large = large is not None
        self.max_large = max_large
        self.run = compose(middleware, Side.CLIENT, self._attempts)
        self._broker = broker
        self._caller: Caller | None = None
        self._opening: asyncio.Lock | None = None
        self._middleware = middleware
        self.is_bare = not (middleware or self.retries.are_default)
        """Whether nothing stands around a call, and it is made once."""
        self.is_plain = self._is_plain()

    @cached_property
    def streams(self) -> StreamCaller:
        """What opens streams; who opens none loads nothing of it."""
        from eventmicro.rpc.streams.calling import StreamCaller

        return StreamCaller(self, self._broker, self._middleware)

    @cached_property
    def large(self) -> LargeCalls:
        """What sends requests and takes replies in pieces; likewise."""
        from eventmicro.rpc.large.calling import LargeCalls

        return LargeCalls(self.streams, self.max_large)

    def taking_large(self, large: LargeCall | None, headers: dict[str, str] | None) -> dict[str, str]:
        """The headers of a call whose request and reply may travel in pieces.

        Raises:
            UsageError: there is no such way for them.
        """
        check_large_call(large)
        return {**(headers or {}), ACCEPT_LARGE: str(self.max_large)}

    async def close(self) -> None:
        """End the calls that still wait, with all their attempts; the next call opens it again."""
        self.retries.end()
        caller, self._caller = self._caller, None
        if caller is not None:
            await caller.close()
        await self.retries.close()
        if "streams" in self.__dict__:
            await self.streams.close()

    def learn(self, endpoint: str, terms: Terms | None) -> None:
        """These are the terms of an endpoint; None: it has none. What is not looked up costs no call anything."""
        if terms is None:
            self.terms.pop(endpoint, None)
        else:
            self.terms[endpoint] = terms
        self.is_plain = self._is_plain()

    def deadline(self, endpoint: str, started: float, deadline: float, outer: Context | None) -> float:
        """The deadline of a call that does not say how long it waits: another one where its endpoint has terms."""
        terms = self.terms.get(endpoint)
        if terms is None or terms.timeout is None:
            return deadline
        own = started + terms.timeout
        return own if outer is None or outer.deadline is None else min(own, outer.deadline)

    def directs(self, selector: str | Selector | None, filters: Sequence[Filter], key: str | None) -> Direction | None:
        """How the node of a call is chosen that says this of it; None: the broker chooses."""
        if selector is None and not filters and key is None:
            return self.direction
        return Direction(self.by_key if selector is None and key is not None else selector, filters, key)

    def _is_plain(self) -> bool:
        """Whether a call that asks for nothing special gets nothing special."""
        return self.is_bare and self.direction is None and not self.terms and not self.takes_large

    def __len__(self) -> int:
        """How many calls are on their way."""
        return 0 if self._caller is None else len(self._caller)

    async def exchange(
        self,
        service: str,
        endpoint: str,
        request: Any,
        headers: dict[str, str] | None,
        started: float,
        deadline: float,
        reply: Body,
        *,
        explained: bool = True,
    ) -> Any:
        """Send a request, and return the reply that comes until `deadline`; errors as of `CallsEndpoints.call`.

        Args:
            endpoint: the subject to which it goes.
            explained: whether to find out, where nobody takes it, what is there of the service.
        """
        try:
            body, sent = self.codecs.body(type(request)), headers
            if not (body.announced or reply.announced or (headers and form_of(headers))):
                packed, decode = body.encode(request), reply.decode
            else:
                packed, decode, sent = pack_request(service, endpoint, body, request, headers, reply)
            if deadline <= started:
                raise _too_late(endpoint)
            caller = self._caller
            if caller is None or caller.ended:
                caller = await self._open_caller()
            try:
                begun = caller.begin(endpoint, packed, sent, deadline - started, deadline)
            except MessageTooLarge:  # it is met again, where there may be a way for it
                begun = None
            if begun is None:
                outcome: Any = await self._request(caller, service, Message(endpoint, packed, sent or None), deadline)
            else:
                try:
                    outcome = await begun
                except asyncio.CancelledError:
                    await caller.give_up(service, begun.call)
                    raise
                except GeneratorExit:  # the end of this coroutine, which nobody drives any more
                    caller.forget(begun.call)
                    raise
                if outcome is NO_REPLY:
                    raise await caller.timed_out(service, endpoint, begun.call, started)
            if outcome.headers is None:
                return decode_reply(outcome.body, endpoint, reply, decode)
            if sent and ACCEPT_LARGE in sent:
                outcome = await self.large.fetch(outcome, endpoint, deadline)
            return read_reply(outcome, endpoint, reply, decode)
        except Unavailable as error:
            if not explained or not error.nobody:
                raise
            nobody = error
        elsewhere, now = await self.explain(endpoint, nobody, deadline), time.monotonic()
        return await self.exchange(service, elsewhere, request, headers, now, deadline, reply, explained=False)

    async def _request(self, caller: Caller, service: str, request: Message, deadline: float) -> Delivery:
        """The reply to a request that has something to wait for, or is too large; errors as of `Caller.request`."""
        try:
            return await caller.request(service, request, deadline)
        except MessageTooLarge as error:
            if not request.headers or ACCEPT_LARGE not in request.headers:
                raise
            limit = error.limit
        return await self.large.ask(caller, service, request, limit, deadline)

    async def explain(self, endpoint: str, nobody: BaseException, deadline: float) -> str:
        """Where an endpoint is that nobody serves: another framework may have it under another subject.

        Raises:
            NotFound: its service is there, and has none of this name.
            Unavailable: nobody is there.
        """
        elsewhere = await self.director().find(endpoint, deadline - time.monotonic())
        if isinstance(elsewhere, ServiceError):
            elsewhere.received = True
            raise elsewhere
        if elsewhere is None:
            raise nobody
        return elsewhere

    def _attempts(self, request: Any, context: Context) -> Awaitable[Any]:
        """A call with all its attempts, as the innermost of the middleware."""
        assert isinstance(context, OutgoingCall)
        deadline = time.monotonic() if context.deadline is None else context.deadline
        if context.trying is None:
            return self._attempt(request, context, deadline)
        return tried(context.trying, partial(self._attempt, request, context), deadline)

    def _attempt(self, request: Any, context: OutgoingCall, deadline: float) -> Coroutine[Any, Any, Any]:
        """Make it once, and wait for the reply until `deadline`."""
        if context.direction is not None:
            where = context.direction, context.service, context.endpoint
            return self.direct(*where, request, context.metadata, deadline, context.body, context)
        now, headers = time.monotonic(), context.metadata
        until = context.until(now, deadline)
        return self.exchange(context.service, context.topic, request, headers, now, until, context.body)

    async def direct(
        self,
        direction: Direction,
        service: str,
        name: str,
        request: Any,
        headers: dict[str, str] | None,
        deadline: float,
        reply: Body,
        call: OutgoingCall | None = None,
    ) -> Any:
        """Make a call once, at a chosen node; at another one where that is gone. Errors as of `CallsEndpoints.call`.

        Args:
            call: the call of which this is an attempt, if it may be made again.
        """
        directed = DirectedCall(self.director(), direction, service, name, deadline, call)
        while True:
            node = directed.choose()
            chosen, now = node if isinstance(node, Node) else await node, time.monotonic()
            subject, until = directed.go_to(chosen, now), directed.until
            try:
                value = await self.exchange(service, subject, request, headers, now, until, reply, explained=False)
            except BaseException as error:
                if not directed.failed(error):
                    raise
            else:
                directed.succeeded()
                return value

    async def _open_caller(self) -> Caller:
        check_carries_calls(self._broker)
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._caller is None or self._caller.ended:
                caller = Caller(self._broker)
                await caller.open()
                self._caller = caller
        return self._caller


def _too_late(endpoint: str) -> CallTimeout:
    error = CallTimeout(f"{endpoint} was not called: no time is left for it", id=endpoint)
    error.received = True
    return error
