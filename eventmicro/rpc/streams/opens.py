"""`stream` as users have it."""

from __future__ import annotations

from collections.abc import Sequence
from types import UnionType
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

from eventmicro.codecs.validation import name_of
from eventmicro.context import find_context
from eventmicro.errors import UsageError
from eventmicro.rpc.outgoing import WRITE_ENDPOINT, check_endpoint, check_left
from eventmicro.rpc.streams.stream import Stream
from eventmicro.selector import Filter, Selector
from eventmicro.wire import check_headers

if TYPE_CHECKING:
    from eventmicro.rpc.client import RpcClient

R = TypeVar("R")

# After how long a silence the other side counts as lost, where nothing else is said, in seconds.
KEEP_ALIVE = 10.0


class StreamWords(TypedDict, total=False):
    """How a stream is opened; see `OpensStreams.stream`."""

    timeout: float | None
    metadata: dict[str, str] | None
    content_type: str | None
    selector: str | Selector | None
    filters: Sequence[Filter]
    key: str | None
    keep_alive: float


class OpensStreams:
    """Whoever opens streams: a Client, a Service."""

    _caller: RpcClient
    """Over what it calls."""

    @overload
    def stream(
        self, endpoint: str, request: Any = None, reply: None = None, **how: Unpack[StreamWords]
    ) -> Stream[None]: ...
    @overload
    def stream(self, endpoint: str, request: Any, reply: type[R], **how: Unpack[StreamWords]) -> Stream[R]: ...
    @overload
    def stream(self, endpoint: str, *, reply: type[R], **how: Unpack[StreamWords]) -> Stream[R]: ...
    @overload
    def stream(self, endpoint: str, request: Any, reply: UnionType, **how: Unpack[StreamWords]) -> Stream[Any]: ...
    @overload
    def stream(self, endpoint: str, *, reply: UnionType, **how: Unpack[StreamWords]) -> Stream[Any]: ...
    def stream(
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
        keep_alive: float = KEEP_ALIVE,
    ) -> Stream[Any]:
        """A stream of messages from an endpoint, and to it; see `Stream`. Nothing is sent before it is opened.

        Its opening is waited for as a call is, for the client's timeout. Within a handler a stream never outlives what
        is left of that handler's own deadline.

        Args:
            endpoint: `service.endpoint`, such as `orders.watch`.
            request: the request of an endpoint that takes one; to others messages are sent by `Stream.send`.
            reply: the type of each message that comes; None where the endpoint returns none.
            timeout: how long the whole stream may last, in seconds; default: as long as both sides want.
            metadata: headers to send along when it is opened.
            content_type: how the messages are written, as for `call`.
            selector, filters, key: what chooses the node that serves it, as for `call`.
            keep_alive: after how long a silence each side takes the other one for lost, in seconds.

        Raises:
            UsageError: an argument is none. All else is raised where the stream is opened, read, or sent to:
            Unavailable: nobody serves this endpoint; or the service has stopped meanwhile.
            NotFound: the service is there and has no such endpoint; or a node is to be chosen, and it has none.
            CallTimeout: it was not opened in time, or has not ended within `timeout`.
            ServiceError: the error by which the endpoint has ended it.
            PeerLost: nothing is heard of the other side any more.
            StreamBroken: messages were lost on the way.
            StreamCancelled, StreamEnded: it was given up, or ended by the other side, while it was used here.
            EncodeError, DecodeError: a message is not of its type.
            TransportError: the broker is away, or a message is too large for it.
        """
        client = self._caller
        try:
            service, name = check_endpoint(endpoint)
        except TypeError:  # no string, perhaps not even hashable
            raise UsageError(f"endpoint {endpoint!r}: {WRITE_ENDPOINT}") from None
        if timeout is not None:
            check_left(timeout)
        headers = check_headers(metadata) if metadata else None
        if (outer := find_context()) is not None:
            headers = client.forwarding.join(outer, headers)
        if content_type is not None:
            headers = client.codecs.naming(content_type, headers)
        expected = client.codecs.body(reply)
        if expected.takes_metadata:
            raise UsageError(f"the messages of a stream have no metadata: write reply={name_of(expected.kind)}")
        direction = client.directs(name, selector, filters, key)
        called = (service, name, endpoint)
        return Stream(
            endpoint, client.streams.opener(called, request, expected, headers, direction, timeout, keep_alive)
        )
