"""Client: what calls endpoints and publishes events, over one connection or two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import AsyncExitStack, aclosing
from functools import cached_property
from typing import TYPE_CHECKING, cast

from eventmicro.broker import Broker
from eventmicro.checks import check_count, check_seconds, names_words
from eventmicro.codec import Codec, Envelope
from eventmicro.codecs import Codecs
from eventmicro.compression import MAX_DECOMPRESSED, Compression, Encoding
from eventmicro.configuration.words import configurable
from eventmicro.context import Side
from eventmicro.contracts.stubs import MakesStubs
from eventmicro.discovery.strategies import BY_KEY, DEFAULT_BY_KEY, make_selector
from eventmicro.embedded import describe_last, describe_running
from eventmicro.embedded import find as find_embedded
from eventmicro.errors import ConnectionFailed, UsageError
from eventmicro.events.publisher import EventPublisher, PublishesEvents
from eventmicro.events.publishing import Outgoing, Publishing, check_publishing
from eventmicro.events.reading import ReadsEvents
from eventmicro.forwarding import FORWARDED, Forwarding
from eventmicro.large import MAX_LARGE, LargeCall, check_large_call
from eventmicro.lifetime import Lifetime
from eventmicro.middleware import Middleware, check_middleware, sides_of
from eventmicro.plugins import (
    NO_BROKER,
    REGISTRY_VARIABLE,
    check_broker,
    check_registry,
    open_broker,
    open_registry,
)
from eventmicro.retry import CallRetry
from eventmicro.rpc.calling_all import CallsAll
from eventmicro.rpc.client import DEFAULT_TIMEOUT, RpcClient
from eventmicro.rpc.retrying import check_retry
from eventmicro.selector import MarksNodes, NodeMarks, Selector
from eventmicro.sources import said_url
from eventmicro.wire import check_name

if TYPE_CHECKING:
    from eventmicro.discovery.directing import Directing
    from eventmicro.registry import Change, Registry, ServiceRecord

# How long `ready` waits where nothing else is said, in seconds.
READY_TIMEOUT = 30.0


@configurable
@names_words
class Client(Lifetime, MakesStubs, CallsAll, PublishesEvents, ReadsEvents):
    """Calls endpoints and publishes events over one broker; used by `async with`, or by `connect` and `close`.

    Args:
        broker: a URL such as `nats://127.0.0.1:4222`, or a Broker. One that is connected already stays connected at the
            end: who opened it closes it. Default: what `EVENTMICRO_BROKER` says, or else the embedded server that
            `eventmicro run` has started on this machine.
        rpc_broker: the broker for calls where `broker` carries none, as Kafka; default: what
            `EVENTMICRO_RPC_BROKER` says, or else the same.
        middleware: what runs around each call and each publish; the first is the outermost.
        codecs: codecs of your own, asked before the ready-made ones.
        content_type: how calls and events are written where they do not say so themselves and their type can be, such
            as `msgpack` or `application/msgpack`; default: as their type is written.
        compression: what large bodies are compressed by, `gzip` or `zstd`, or Compression(...); replies to its calls
            may be compressed, too. Default: nothing is.
        max_decompressed: how large a body may become that a peer has compressed, in bytes.
        registry: where nodes are looked up for calls that are directed to one: a name or a URL, such as
            `etcd://127.0.0.1:2379`, or a Registry, which is closed by who made it. Default: what `EVENTMICRO_REGISTRY`
            says, or else that of the broker's own server, where it can keep one.
        selector: directs each call to a node, chosen by `random`, `round-robin`, `least-in-flight`, `two-choices`,
            `sticky`, `rendezvous`, `newest`, or a function of the nodes. Default: none; the broker chooses, and nobody
            is looked up.
        timeout: how long a call waits where it does not say so itself, in seconds.
        retry: whether and when calls are made again that do not say so themselves; default: never.
        hedge: after how many seconds without an answer a second request goes out, where the endpoint is known to be
            idempotent; default: never.
        patience: for how many seconds calls that do not say so themselves wait for somebody to take them, through a
            restart; default: not at all.
        large: `stream`: requests and replies that are too large for the broker travel in pieces, where calls do not say
            so themselves; default: they are refused.
        max_large: how large a body may be that comes in pieces, in bytes, and all that do so at a time.
        publishing: how long publishing waits for the broker, and what it does while that is away.
        forward: the names of that metadata which goes on by itself, within a handler, from the message that it handles
            to what this client calls and publishes there; default: `traceparent`, `tracestate` and `correlation-id`.
    """

    def __init__(
        self,
        broker: str | Broker | None = None,
        *,
        rpc_broker: str | Broker | None = None,
        middleware: Iterable[Middleware] = (),
        codecs: Iterable[Codec | Envelope] = (),
        content_type: str | None = None,
        compression: Encoding | Compression | None = None,
        max_decompressed: int = MAX_DECOMPRESSED,
        registry: str | Registry | None = None,
        selector: str | Selector | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retry: CallRetry | None = None,
        hedge: float | None = None,
        patience: float | None = None,
        large: LargeCall | None = None,
        max_large: int = MAX_LARGE,
        publishing: Publishing | None = None,
        forward: Iterable[str] = FORWARDED,
    ) -> None:
        check_broker("broker", broker)
        check_broker("rpc_broker", rpc_broker)
        check_registry("registry", registry)
        check_publishing(publishing)
        check_seconds("timeout", timeout)
        check_retry(retry, hedge)
        if patience is not None:
            check_seconds("patience", patience, or_none_at_all=True)
        check_large_call(large)
        check_count("max_large", max_large)
        broker = broker or said_url("broker") or find_embedded()
        if not broker:
            raise UsageError(NO_BROKER + describe_last())
        rpc_broker = rpc_broker or said_url("rpc_broker") or broker
        self.broker = open_broker(broker)
        self.rpc_broker = self.broker if rpc_broker == broker else open_broker(rpc_broker)
        self.outgoing = Outgoing(self.broker, publishing or Publishing())
        middleware = check_middleware(middleware)
        own = Codecs(codecs, content_type=content_type, compression=compression, max_decompressed=max_decompressed)
        self._codecs = own
        forwarding = Forwarding(forward)
        self._registry_named = registry or said_url("registry")
        self._selector = None if selector is None else make_selector(selector)
        self._calls = self._caller = RpcClient(
            self.rpc_broker,
            own,
            middleware,
            timeout,
            lambda: self._directing,
            directs=selector is not None,
            by_key=selector if callable(selector) or selector in BY_KEY else DEFAULT_BY_KEY,
            retry=retry,
            hedge=hedge,
            large=large,
            max_large=max_large,
            patience=patience,
            forwarding=forwarding,
        )
        self._marks = _find_marks(middleware)
        self._publisher = EventPublisher(self.outgoing, own, middleware, forwarding)
        self._owned: list[Broker] = []

    @property
    def timeout(self) -> float:
        """How long a call waits where it does not say so itself, in seconds."""
        return self._calls.timeout

    @cached_property
    def registry(self) -> Registry | None:
        """Where it looks up nodes, opened when it is first needed; None: there is none."""
        return open_registry(self._registry_named, self.rpc_broker, self.broker)

    @cached_property
    def _directing(self) -> Directing:
        from eventmicro.discovery.directing import Directing  # with the records comes pydantic: most calls need neither

        return Directing(
            lambda: self.registry, self.rpc_broker, self._selector, marks=self._marks, learn=self._calls.learn
        )

    @property
    def max_large(self) -> int:
        """How large a body may be that comes apart from its message, in bytes."""
        return self._calls.max_large

    async def services(self, name: str | None = None) -> list[ServiceRecord]:
        """Who is there: all services, or one, a record a version, with those of other frameworks that answer.

        Raises:
            Unavailable: the registry cannot be reached.
            UsageError: there is none, and the broker carries no calls by which services could be asked; or no service
                can have this name.
        """
        from eventmicro.discovery.listing import list_all

        if name is not None:
            check_name(name, "service")
        return await list_all(self.rpc_broker, self.registry, name)

    async def watch(self, name: str | None = None) -> AsyncIterator[Change]:
        """Tell who is registered, and then who comes, changes and goes; see `eventmicro.registry.Registry.watch`.

        Raises:
            Unavailable: the registry cannot be reached at the beginning.
            UsageError: there is none, or no service can have this name.
        """
        if self.registry is None:
            raise UsageError(f"there is no registry to watch: name one by registry= or {REGISTRY_VARIABLE}")
        if name is not None:
            check_name(name, "service")
        await self.registry.connect()
        async with aclosing(cast("AsyncGenerator[Change, None]", self.registry.watch(name))) as changes:
            async for change in changes:
                yield change

    async def ready(self, *services: str, timeout: float = READY_TIMEOUT) -> None:
        """Return when each of these services answers; for programs that are started in no order.

        Args:
            services: their names.
            timeout: how long to wait for all of them, in seconds.

        Raises:
            Unavailable: one was not there in time; it says which.
            UsageError: the broker carries no calls, and there is no registry either.
        """
        from eventmicro.discovery.ready import wait_until_ready

        check_seconds("timeout", timeout)
        names = [check_name(service, "service") for service in services]
        await wait_until_ready(self.rpc_broker, self._directing, names, timeout)

    async def connect(self) -> None:
        """Connect the brokers that are not connected.

        Raises:
            ConnectionFailed: no broker answered; nothing is left open.
        """
        self._check_home()
        try:
            self._home = asyncio.get_running_loop()
            for broker in dict.fromkeys((self.broker, self.rpc_broker)):
                if not broker.connected:
                    await _connect(broker)
                    self._owned.append(broker)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Send what was published and close what `connect` opened. A second call does nothing."""
        self._check_home()
        self._home = None
        owned, self._owned = self._owned, []
        async with AsyncExitStack() as stack:  # each is closed, whatever fails
            for broker in owned:
                stack.push_async_callback(broker.close)
            registry: Registry | None = self.__dict__.get("registry")
            if registry is not None and registry is not self._registry_named:
                stack.push_async_callback(registry.close)
            stack.push_async_callback(self.outgoing.close)
            if "_directing" in self.__dict__:
                stack.push_async_callback(self._directing.close)
            stack.push_async_callback(self._calls.close)  # no call asks for a node any more


async def _connect(broker: Broker) -> None:
    try:
        await broker.connect()
    except ConnectionFailed as error:
        if elsewhere := await asyncio.to_thread(describe_running, broker.url):
            error.args = (str(error).removesuffix("?") + elsewhere,)
        raise


def _find_marks(middleware: Iterable[Middleware]) -> NodeMarks | None:
    """What keeps directed calls away from nodes that fail, where one of the middleware does."""
    around_calls: list[object] = [each for each in middleware if Side.CLIENT in sides_of(each)]
    return next((each.node_marks for each in around_calls if isinstance(each, MarksNodes)), None)
