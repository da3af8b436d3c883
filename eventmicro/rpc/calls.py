"""`call` as users have it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import UnionType
from typing import Any, TypedDict, TypeVar, Unpack, overload

from eventmicro.context import Side, find_context
from eventmicro.errors import UsageError
from eventmicro.large import LargeCall
from eventmicro.retry import CallRetry
from eventmicro.rpc.outgoing import WRITE_ENDPOINT, OutgoingCall, check_endpoint, check_left
from eventmicro.rpc.streams.opens import OpensStreams
from eventmicro.selector import Filter, Selector
from eventmicro.wire import check_headers

R = TypeVar("R")

CLIENT = Side.CLIENT


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
    patience: float | None


class CallsEndpoints(OpensStreams):
    """Whoever calls endpoints: a Client, a Service."""

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
        # What follows is said by name, as the overloads have it. Behind a `*` Python would look up each default by its
        # name, which takes 4 % of a call.
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
        patience: float | None = None,
    ) -> Any:
        """Call an endpoint and return its reply.

        Cancelling the call cancels its handler. Within a handler, and in the tasks that it starts, a call never
        outlives what is left of that handler's own deadline; in a task that goes on when the handler has ended it has
        its own time, as anywhere.

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
            patience: for how many seconds it waits for somebody to take it, through a restart of the service or the
                broker, as long as it has surely not run; 0: it does not. A `timeout` that is given bounds all of it,
                else each request has its time from when it is sent. Default: the client's.

        Of several attempts it raises the last one's error, whose `attempts` says how many there were.

        Raises:
            Unavailable: nobody serves this endpoint; it did not run.
            NotFound: the service is there and has no such endpoint; or a node is to be chosen, and it has none.
            CallTimeout: no reply came in time; it may have run.
            ServiceError: what the service answered: BadRequest, NotFound, InternalError, or any other code.
            EncodeError, DecodeError: the request, or the reply, is not of its type.
            TransportError: the broker is away, or the request is too large for it.
            PeerLost, StreamBroken: with `large`, the request or the reply did not come whole.
            ContentTooLarge: with `large`, it is over the `max_large` of who was to take it.
        """
        client = self._caller
        try:
            service, name = check_endpoint(endpoint)
        except TypeError:  # no string, perhaps not even hashable
            raise UsageError(f"endpoint {endpoint!r}: {WRITE_ENDPOINT}") from None
        started = time.monotonic()
        deadline = started + (client.timeout if timeout is None else check_left(timeout))
        headers = check_headers(metadata) if metadata else None
        outer = find_context()
        if outer is not None:
            headers = client.forwarding.join(outer, headers)
            if outer.ended:
                outer = None
            elif outer.deadline is not None and outer.deadline < deadline:
                deadline = outer.deadline
        if content_type is not None:
            headers = client.codecs.naming(content_type, headers)
        expected = client.codecs.body(reply)
        if (
            selector is None
            and not filters
            and key is None
            and retry is None
            and hedge is None
            and large is None
            and patience is None
        ):
            if client.is_plain or (client.passes is not None and client.passes()):
                return await client.exchange(service, endpoint, request, headers, started, deadline, expected)
            if client.directs_only is not None and name[0] != "$":  # else a node is named
                return await client.direct(client.directs_only, service, name, request, headers, deadline, expected)
            if idempotent is None and client.is_ordinary:
                ordinary = OutgoingCall(CLIENT, service, name, endpoint, headers, deadline, reply=reply)
                ordinary.body, ordinary.asked = expected, []
                ordinary.direction = ordinary.trying = ordinary.patience = None
                return await client.run(request, ordinary)
        if large is not None or client.takes_large:
            headers = client.taking_large(large, headers)
        if timeout is None:
            deadline = client.deadline(endpoint, started, deadline, outer)
        direction = client.directs(name, selector, filters, key)
        if direction is not None and client.is_bare and retry is None and hedge is None and patience is None:
            return await client.direct(direction, service, name, request, headers, deadline, expected)
        waits = client.patience(patience, started, deadline)
        if waits is not None and timeout is None:
            deadline = waits.deadline(deadline, outer)
        context = OutgoingCall(CLIENT, service, name, endpoint, headers, deadline, reply=reply)
        context.body, context.asked, context.direction, context.patience = expected, [], direction, waits
        if hedge and idempotent is None and context.direction is not None and endpoint not in client.terms:
            await client.director().look(service, deadline)  # whether it is idempotent
        context.trying = client.retries.of(endpoint, retry, hedge, idempotent)
        return await client.run(request, context)
