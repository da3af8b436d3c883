"""The calling side: the way of a call through middleware and codec to the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from eventmicro.broker import Broker
from eventmicro.checks import check_seconds
from eventmicro.codecs import Body, Codecs
from eventmicro.context import Context, Side
from eventmicro.errors import CallTimeout, MessageTooLarge, Unavailable, UsageError
from eventmicro.forwarding import Forwarding
from eventmicro.large import MAX_LARGE, LargeCall, check_large_call
from eventmicro.message import Delivery, Message
from eventmicro.middleware import Middleware, compose, passing
from eventmicro.retry import CallRetry
from eventmicro.rpc.caller import NO_REPLY, Caller
from eventmicro.rpc.directed import directed
from eventmicro.rpc.outgoing import (
    Direction,
    OutgoingCall,
    check_carries_calls,
)
from eventmicro.rpc.patience import Patience
from eventmicro.rpc.replies import decode_reply, explain, read_reply
from eventmicro.rpc.requests import pack_request
from eventmicro.rpc.retrying import Retries, Send, tried
from eventmicro.selector import Director, Filter, Node, Selector
from eventmicro.terms import Terms
from eventmicro.wire import ACCEPT_LARGE, form_of, names_node

if TYPE_CHECKING:
    from eventmicro.rpc.large.calling import LargeCalls
    from eventmicro.rpc.streams.calling import StreamCaller

# How long a call waits for its reply where nothing else is said, in seconds.
DEFAULT_TIMEOUT = 5.0


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
        patience: for how many seconds calls that do not say so themselves wait for somebody to take them.
        forwarding: which metadata of the message that is handled goes on with them.
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
        patience: float | None = None,
        forwarding: Forwarding | None = None,
    ) -> None:
        self.timeout = timeout
        self.forwarding = forwarding or Forwarding()
        self.codecs = codecs
        self.director = director
        self.direction = Direction(None, (), None) if directs else None
        self.by_key = by_key
        self.terms: dict[str, Terms] = {}
        self.retries = Retries(retry, hedge, self.terms)
        self.takes_large = large is not None
        self.max_large = max_large
        self.run = compose(middleware, Side.CLIENT, self._attempts, broker.url)
        self._broker = broker
        self._caller: Caller | None = None
        self._opening: asyncio.Lock | None = None
        self._middleware = middleware
        self._patience = patience or 0.0
        self.is_bare = self.run == self._attempts and not (self.retries.are_default or patience)
        """Whether nothing stands around a call, and it is made once."""
        self.is_ordinary = False
        """Whether a call that asks for nothing special gets nothing special but what stands around it."""
        self.is_plain = False
        """The same where nothing stands around it."""
        self.passes: Callable[[], bool] | None = None
        """The same for one call, where the only middleware chooses: whether it leaves that alone."""
        self.directs_only: Direction | None = None
        """How the node of a call is chosen that asks for nothing special, where nothing else is done for it."""
        self._find_plain()

    @cached_property
    def streams(self) -> StreamCaller:
        """What opens streams; who opens none loads nothing of it."""
        from eventmicro.rpc.streams.calling import StreamCaller

        return StreamCaller(self._broker, self.codecs, self._middleware, self.timeout, self.director)

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
        self._find_plain()

    def deadline(self, endpoint: str, started: float, deadline: float, outer: Context | None) -> float:
        """The deadline of a call that does not say how long it waits: another one where its endpoint has terms."""
        terms = self.terms.get(endpoint)
        if terms is None or terms.timeout is None:
            return deadline
        own = started + terms.timeout
        return own if outer is None or outer.deadline is None else min(own, outer.deadline)

    def directs(
        self, name: str, selector: str | Selector | None, filters: Sequence[Filter], key: str | None
    ) -> Direction | None:
        """How the node of a call is chosen that says this of it; None: the broker chooses, or its name says which.

        Raises:
            UsageError: the name says which, and a node is to be chosen all the same.
        """
        if selector is None and not filters and key is None:
            return None if names_node(name) else self.direction
        if names_node(name):
            raise UsageError(f"{name!r} names a node: leave selector, filters and key out, or call the endpoint alone")
        return Direction(self.by_key if selector is None and key is not None else selector, filters, key)

    def patience(self, patience: float | None, started: float, deadline: float) -> Patience | None:
        """How a call waits for somebody to take it; None: it does not.

        Raises:
            UsageError: the patience is no number of seconds.
        """
        if patience is not None:
            check_seconds("patience", patience, or_none_at_all=True)
        seconds = self._patience if patience is None else patience
        if not seconds:
            return None
        return Patience(self._broker, self.retries.opening, seconds, started, deadline - started)

    def _find_plain(self) -> None:
        """Find out whether a call that asks for nothing special gets nothing special."""
        asks = self.terms or self.takes_large or self.retries.are_default or self._patience
        self.is_ordinary = self.direction is None and not asks
        self.is_plain = self.is_ordinary and self.is_bare
        self.directs_only = self.direction if self.is_bare and not asks else None
        self.passes = passing(self._middleware, Side.CLIENT) if self.is_ordinary and not self.is_bare else None

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
                late = CallTimeout(f"{endpoint} was not called: no time is left for it", id=endpoint)
                raise late.as_received()
            caller = self._caller
            if caller is None or caller.subscription.ended:
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
        elsewhere, now = await explain(self.director(), endpoint, nobody, deadline), time.monotonic()
        return await self.exchange(service, elsewhere, request, headers, now, deadline, reply, explained=False)

    async def _request(self, caller: Caller, service: str, request: Message, deadline: float) -> Delivery:
        """The reply to a request that has something to wait for, or is too large; errors as of `Caller.request`."""
        try:
            return await caller.request(service, request, deadline)
        except MessageTooLarge as error:
            if not request.headers or ACCEPT_LARGE not in request.headers:
                raise MessageTooLarge(f"{error}; large='stream' sends it in pieces", limit=error.limit) from None
            limit = error.limit
        return await self.large.ask(caller, service, request, limit, deadline)

    def _attempts(self, request: Any, context: Context) -> Awaitable[Any]:
        """A call with all its attempts, as the innermost of the middleware."""
        assert isinstance(context, OutgoingCall)
        deadline = time.monotonic() if context.deadline is None else context.deadline
        if context.trying is None and context.patience is None:
            return self._attempt(request, context, deadline)
        send: Send = partial(self._attempt, request, context)
        if context.patience is not None:
            send = partial(context.patience.send, send)
        return send(deadline) if context.trying is None else tried(context.trying, send, deadline)

    def _attempt(self, request: Any, context: OutgoingCall, deadline: float) -> Coroutine[Any, Any, Any]:
        """Make it once, and wait for the reply until `deadline`."""
        if context.direction is not None:
            where = context.direction, context.service, context.endpoint
            return self.direct(*where, request, context.metadata, deadline, context.body, context)
        now, headers = time.monotonic(), context.metadata
        until = deadline if context.trying is None else context.until(now, deadline)
        return self.exchange(context.service, context.topic, request, headers, now, until, context.body)

    def direct(
        self,
        direction: Direction,
        service: str,
        name: str,
        request: Any,
        headers: dict[str, str] | None,
        deadline: float,
        reply: Body,
        call: OutgoingCall | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Make a call once, at a chosen node; at another one where that is gone. Errors as of `CallsEndpoints.call`.

        Args:
            call: the call of which this is an attempt, if it may be made again.
        """

        def ask(node: Node, subject: str, now: float, until: float) -> Awaitable[Any]:
            return self.exchange(service, subject, request, headers, now, until, reply, False)

        return directed(ask, self.director(), direction, service, name, deadline, call)

    async def _open_caller(self) -> Caller:
        check_carries_calls(self._broker)
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._caller is None or self._caller.subscription.ended:
                caller = Caller(self._broker)
                await caller.open()
                self._caller = caller
        return self._caller
