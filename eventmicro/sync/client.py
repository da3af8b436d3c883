"""SyncClient: what calls endpoints and publishes events from code that is not async."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Coroutine, Hashable, Iterable
from functools import partial
from types import TracebackType, UnionType
from typing import Any, Self, TypedDict, TypeVar, Unpack, overload
from weakref import WeakSet, finalize

from eventmicro.broker import Broker
from eventmicro.client import READY_TIMEOUT, Client
from eventmicro.codec import Codec, Envelope
from eventmicro.compression import Compression, Encoding
from eventmicro.contracts.contract import Contract, read_contract
from eventmicro.contracts.stubs import StubWords
from eventmicro.errors import UsageError
from eventmicro.events.publishing import Publishing
from eventmicro.large import LargeCall, LargeEvent
from eventmicro.middleware import Middleware
from eventmicro.retry import CallRetry
from eventmicro.rpc.calls import CallWords
from eventmicro.rpc.streams.opens import StreamWords
from eventmicro.selector import Selector
from eventmicro.sync.session import Session, refuse_in_loop
from eventmicro.sync.stream import SyncReplies, SyncStream, fed
from eventmicro.topic import Topic

R = TypeVar("R")
T = TypeVar("T")


class ClientWords(TypedDict, total=False):
    """What a client may say beside its broker; see `Client`."""

    rpc_broker: str | None
    middleware: Iterable[Middleware]
    codecs: Iterable[Codec | Envelope]
    content_type: str | None
    compression: Encoding | Compression | None
    max_decompressed: int
    registry: str | None
    selector: str | Selector | None
    timeout: float
    retry: CallRetry | None
    hedge: float | None
    patience: float | None
    large: LargeCall | None
    max_large: int
    publishing: Publishing | None
    forward: Iterable[str]


class PublishWords(TypedDict, total=False):
    """What a publish may say beside its event; see `Client.publish`."""

    metadata: dict[str, str] | None
    content_type: str | None
    large: LargeEvent | None
    timeout: float | None


class SyncClient:
    """A client for scripts, Django, Flask and threads: each method returns when it is done.

        client = SyncClient("nats://127.0.0.1:4222", patience=5)
        quote = client.call("orders.quote", QuoteRequest(sku="tea"), Quote)

    It has an event loop in a thread of its own, which begins with the first use, and in a forked process anew; any
    number of threads may use it at the same time. It is closed by `with`, by `close`, or when the program ends. Its
    types and errors are those of Client.

    Args:
        broker: a URL, or a function that makes a Broker; default: what a Client would take.
        words: as of Client. Middleware runs in the client's own loop.

    Raises:
        UsageError: as of Client; and of all methods, where an event loop runs in this thread, which would be blocked.
    """

    def __init__(self, broker: str | Callable[[], Broker] | None = None, **words: Unpack[ClientWords]) -> None:
        is_object = hasattr(broker, "connect") and not isinstance(broker, type)
        if is_object or not (broker is None or isinstance(broker, str) or callable(broker)):
            raise UsageError(
                f"broker={broker!r}: write a URL, or a function that makes a Broker, as this client has an event loop "
                "of its own: SyncClient(lambda: NatsBroker(settings=...))"
            )
        self._make = partial(_make, broker, words)
        self._make()  # what is wrong with the words is said here
        self._beginning = threading.Lock()
        self._begun: Session | None = None
        self._at_end: finalize[Any, Any] | None = None
        _clients.add(self)

    def run(self, work: Callable[[Client], Coroutine[Any, Any, R]]) -> R:
        """What an async function comes to with the client, for all that has no method here; typed as it is:

        quote = client.run(lambda each: each.stub(Orders).quote(request))
        """
        return self._session().run(work)

    @overload
    def call(self, endpoint: str, request: Any = None, reply: None = None, **words: Unpack[CallWords]) -> None: ...
    @overload
    def call(self, endpoint: str, request: Any, reply: type[R], **words: Unpack[CallWords]) -> R: ...
    @overload
    def call(self, endpoint: str, request: Any, reply: UnionType, **words: Unpack[CallWords]) -> Any: ...
    def call(self, endpoint: str, request: Any = None, reply: Any = None, **words: Unpack[CallWords]) -> Any:
        """Call an endpoint and return its reply; see `Client.call`."""
        return self.run(lambda client: client.call(endpoint, request, reply, **words))

    @overload
    def publish(
        self, topic: Topic[T], event: T, *, key: Hashable = None, id: Hashable = None, **words: Unpack[PublishWords]
    ) -> None: ...
    @overload
    def publish(
        self, topic: str, event: Any, *, key: Hashable = None, id: Hashable = None, **words: Unpack[PublishWords]
    ) -> None: ...
    def publish(
        self,
        topic: Topic[Any] | str,
        event: Any,
        *,
        key: Hashable = None,
        id: Hashable = None,
        **words: Unpack[PublishWords],
    ) -> None:
        """Publish an event; it returns when the broker has it; see `Client.publish`."""
        self.run(lambda client: client.publish(topic, event, key=key, id=id, **words))

    @overload
    def publish_many(
        self,
        topic: Topic[T],
        events: Iterable[T],
        *,
        key: Callable[[T], Hashable] | None = None,
        id: Callable[[T], Hashable] | None = None,
        **words: Unpack[PublishWords],
    ) -> None: ...
    @overload
    def publish_many(
        self,
        topic: str,
        events: Iterable[Any],
        *,
        key: Callable[[Any], Hashable] | None = None,
        id: Callable[[Any], Hashable] | None = None,
        **words: Unpack[PublishWords],
    ) -> None: ...
    def publish_many(
        self,
        topic: Topic[Any] | str,
        events: Iterable[Any],
        *,
        key: Callable[[Any], Hashable] | None = None,
        id: Callable[[Any], Hashable] | None = None,
        **words: Unpack[PublishWords],
    ) -> None:
        """Publish several events to one topic, in order, waiting once for all of them; see `Client.publish_many`."""
        self.run(lambda client: client.publish_many(topic, events, key=key, id=id, **words))

    @overload
    def stream(
        self, endpoint: str, request: Any = None, reply: None = None, **how: Unpack[StreamWords]
    ) -> SyncStream[None]: ...
    @overload
    def stream(self, endpoint: str, request: Any, reply: type[R], **how: Unpack[StreamWords]) -> SyncStream[R]: ...
    @overload
    def stream(self, endpoint: str, *, reply: type[R], **how: Unpack[StreamWords]) -> SyncStream[R]: ...
    @overload
    def stream(self, endpoint: str, request: Any, reply: UnionType, **how: Unpack[StreamWords]) -> SyncStream[Any]: ...
    @overload
    def stream(self, endpoint: str, *, reply: UnionType, **how: Unpack[StreamWords]) -> SyncStream[Any]: ...
    def stream(
        self, endpoint: str, request: Any = None, reply: Any = None, **how: Unpack[StreamWords]
    ) -> SyncStream[Any]:
        """A stream of messages from an endpoint, and to it; see `SyncStream`, and `Client.stream` for the words."""
        session = self._session()
        return SyncStream(session, session.client.stream(endpoint, request, reply, **how))

    def stub(self, contract: Callable[..., Contract], **how: Unpack[StubWords]) -> Any:
        """An object with the methods of a contract, each of which returns its reply, or what its replies are read from.
        One that takes a stream is given any iterable.

        Python has no type for methods without their `await`, so that this one is Any; `run` is typed.

        Args:
            how: as of `Client.stub`.

        Raises:
            UsageError, SignatureError: as of `Client.stub`.
        """
        session = self._session()
        return _Stub(self._session, contract, session.client.stub(contract, **how))

    def ready(self, *services: str, timeout: float = READY_TIMEOUT) -> None:
        """Return when each of these services answers; see `Client.ready`."""
        self.run(lambda client: client.ready(*services, timeout=timeout))

    def flush(self) -> None:
        """Return when the broker has taken in all that was published so far; see `Client.flush`."""
        self.run(lambda client: client.flush())

    def connect(self) -> None:
        """Connect; connected already, nothing happens. The first use does so, too.

        Raises:
            ConnectionFailed: no broker answered.
        """
        self.run(_nothing)

    def close(self) -> None:
        """Send what was published, and close. A second call does nothing; the next use begins anew."""
        refuse_in_loop()
        with self._beginning:
            session, self._begun = self._begun, None
            if session is not None and self._at_end is not None:
                self._at_end.detach()
                session.close()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _session(self) -> Session:
        refuse_in_loop()
        session = self._begun
        if session is not None:
            return session
        with self._beginning:
            if self._begun is None:
                self._begun = Session(self._make)
                self._at_end = finalize(self, self._begun.close)
            return self._begun

    def _begin_anew(self) -> Session | None:
        """Use what there is no more: it is of the process that this one was forked from."""
        self._beginning = threading.Lock()
        session, self._begun = self._begun, None
        return session


class _Stub:
    """The methods of a contract, for code that is not async."""

    def __init__(self, session: Callable[[], Session], contract: Callable[..., Contract], stub: Any) -> None:
        self._session = session
        self._methods = {method.attribute: method for method in read_contract(contract).methods}
        self._stub = stub

    def __repr__(self) -> str:
        return repr(self._stub)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # which Python looks for, as in a copy that is being made
            raise AttributeError(name)
        call, method = getattr(self._stub, name), self._methods[name]

        def blocking(*arguments: Any, **named: Any) -> Any:
            session = self._session()
            if method.takes_stream:
                arguments, named = tuple(map(fed, arguments)), {word: fed(value) for word, value in named.items()}
            if method.yields:
                return SyncReplies(session, call(*arguments, **named))
            return session.run(lambda _: call(*arguments, **named))

        return blocking


def _make(broker: str | Callable[[], Broker] | None, words: ClientWords) -> Client:
    return Client(broker() if callable(broker) else broker, **words)


async def _nothing(client: Client) -> None:
    """Connecting is all."""


# Sessions of the process that this one was forked from: what they would close is its, and not to be touched.
_left: list[Session | None] = []
_clients: WeakSet[SyncClient] = WeakSet()


def _after_fork() -> None:
    for client in list(_clients):
        _left.append(client._begin_anew())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
