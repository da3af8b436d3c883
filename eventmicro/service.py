"""Service: what a user declares, and the only place where the parts meet."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from eventmicro.broker import Broker
from eventmicro.checks import check_count, check_kind, check_seconds, check_several, names_words, signature_of
from eventmicro.client import Client
from eventmicro.codec import Codec, Envelope
from eventmicro.codecs import Codecs
from eventmicro.compression import MAX_DECOMPRESSED, Compression, Encoding
from eventmicro.configuration.words import configurable
from eventmicro.context import find_context
from eventmicro.contracts.stubs import MakesStubs
from eventmicro.declare import Mark
from eventmicro.declaring import Declares, is_taken
from eventmicro.discovery.checking import CheckFunction
from eventmicro.discovery.registering import Registering
from eventmicro.discovery.strategies import make_selector
from eventmicro.errors import UsageError
from eventmicro.events.options import DeliveryOptions, DeliveryWords
from eventmicro.events.publisher import EventPublisher, PublishesEvents
from eventmicro.events.publishing import Publishing, check_publishing
from eventmicro.forwarding import FORWARDED, Forwarding
from eventmicro.handlers.depends import name_of
from eventmicro.handlers.threads import THREADS
from eventmicro.large import MAX_LARGE, LargeCall, check_large_call
from eventmicro.middleware import Middleware, check_middleware
from eventmicro.plugins import check_broker, check_registry
from eventmicro.retry import CallRetry
from eventmicro.rpc.calling_all import CallsAll
from eventmicro.rpc.client import DEFAULT_TIMEOUT, RpcClient
from eventmicro.rpc.retrying import check_retry
from eventmicro.selector import Selector
from eventmicro.topic import Topic
from eventmicro.wire import check_length, check_metadata, check_name, check_version

if TYPE_CHECKING:
    from eventmicro.discovery.health import Health
    from eventmicro.discovery.report import NodeStatistics
    from eventmicro.registry import Registry
    from eventmicro.running.node import Node
    from eventmicro.running.subscribing import RunningSubscriber

Lifespan = Callable[
    [], AbstractAsyncContextManager[Any] | AsyncIterator[Any] | AbstractContextManager[Any] | Iterator[Any]
]


@configurable
@names_words
class Service(Declares, MakesStubs, CallsAll, PublishesEvents):
    """A service: its endpoints, its subscribers, and its own client. Several may live in one process.

    Args:
        name: letters, digits, `_` and `-`; its endpoints are called as `name.endpoint`.
        version: its version, three numbers with dots between and what semver.org lets follow.
        description: what it is for, in a sentence: in its answer to `$SRV.INFO`, which `nats micro info` shows, and in
            an AsyncAPI document of its code. Records of the registry have no place for it.
        metadata: labels of it in the registry, such as `{"team": "shop"}`, by which nodes can be chosen.
        id: what names this instance among those of the service; default: a new one at each start.
        broker: a URL such as `nats://127.0.0.1:4222`, or a Broker. One that is connected already stays connected at the
            end: who opened it closes it. Default: what `run` is given, or else what a Client would take. `start` may
            name another one.
        rpc_broker: the broker for endpoints and calls where `broker` carries none, as Kafka; default: the
            same.
        middleware: what runs around each message on all four sides: endpoints, subscribers, calls and publishes of
            this service; `sides` restricts one to some of them. The first is the outermost.
        codecs: codecs of your own, asked before the ready-made ones.
        content_type: how its own calls and events are written; see Client. Calls to it are answered as they come.
        compression: what its large bodies are compressed by; see Client. Replies only where their caller can read them.
        max_decompressed: how large a body may become that a peer has compressed, in bytes.
        delivery: how its subscribers get their events where neither they nor their router say so, as
            `DeliveryOptions(retry=Retry(attempts=3))`: what is not said in it stays as it is.
        lifespan: a function that yields once, or makes a context manager, async or plain; entered when the broker is
            connected and before the first message, left after the last one; what it yields is `context.state`. A plain
            one runs in a thread.
        timeout: how long this service's own calls wait where they do not say so themselves, in seconds.
        retry: whether and when its own calls are made again that do not say so themselves; default: never.
        hedge: after how many seconds without an answer its own calls send a second request; see Client.
        patience: for how many seconds its own calls wait for somebody to take them; see Client.
        large: how requests and replies of its own calls travel that are too large for the broker; see Client. Those of
            calls to it do as their callers say.
        max_large: how large a body may be that comes in pieces or out of an object store, in bytes: a request, a reply
            to its own calls, an event; and all requests that do so at a time.
        publishing: how long publishing waits for the broker, and what it does while that is away.
        forward: the names of that metadata which goes on by itself from the message that a handler of it handles to
            what that calls and publishes; default: `traceparent`, `tracestate` and `correlation-id`.
        threads: how many plain `def` handlers of it run at the same time, each in a thread; further ones wait in line.
        stop_timeout: how long a stop waits for what runs, in seconds, before it cuts it off.
        registry: where it is registered, and where its own calls look up nodes: a name or a URL, such as
            `etcd://127.0.0.1:2379`, or a Registry; `none`: nowhere. Default: what a Client would take.
        selector: directs each of its own calls to a chosen node; see Client.
        register_ttl: for how long the registry keeps this node where it hears nothing of it, in seconds.
        register_interval: the seconds between two heartbeats, fewer than `register_ttl`; default: 30, or a third of it.
        register_check: a plain or async function; while it raises or returns False the node is not registered.
        register_required: whether the start fails where the registry cannot be reached; else it is tried again.
        needs: names of services that must answer before this one takes its first message; it waits for them.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str = "0.0.0",
        description: str = "",
        metadata: Mapping[str, str] | None = None,
        id: str | None = None,
        broker: str | Broker | None = None,
        rpc_broker: str | Broker | None = None,
        middleware: Iterable[Middleware] = (),
        codecs: Iterable[Codec | Envelope] = (),
        content_type: str | None = None,
        compression: Encoding | Compression | None = None,
        max_decompressed: int = MAX_DECOMPRESSED,
        delivery: DeliveryOptions | None = None,
        lifespan: Lifespan | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retry: CallRetry | None = None,
        hedge: float | None = None,
        patience: float | None = None,
        large: LargeCall | None = None,
        max_large: int = MAX_LARGE,
        publishing: Publishing | None = None,
        forward: Iterable[str] = FORWARDED,
        threads: int = THREADS,
        stop_timeout: float = 10.0,
        registry: str | Registry | None = None,
        selector: str | Selector | None = None,
        register_ttl: float | None = None,
        register_interval: float | None = None,
        register_check: CheckFunction | None = None,
        register_required: bool = False,
        needs: Iterable[str] = (),
    ) -> None:
        check_broker("broker", broker)
        check_broker("rpc_broker", rpc_broker)
        check_publishing(publishing)
        check_registry("registry", registry)
        if selector is not None:
            make_selector(selector)
        check_version(version)
        check_kind("description", description, str, "a sentence")
        check_seconds("timeout", timeout)
        check_retry(retry, hedge)
        if patience is not None:
            check_seconds("patience", patience, or_none_at_all=True)
        check_large_call(large)
        check_count("max_large", max_large)
        check_count("threads", threads)
        check_seconds("stop_timeout", stop_timeout, or_none_at_all=True)
        spoken = Codecs(codecs, content_type=content_type, compression=compression, max_decompressed=max_decompressed)
        super().__init__(check_length(check_name(name, "service"), "service name"), version, spoken, delivery)
        self.description = description
        self.metadata = check_metadata(metadata or {})
        self.id = None if id is None else check_length(check_name(id, "node"), "node id")
        self.broker = broker
        self.rpc_broker = rpc_broker
        self._middleware = check_middleware(middleware)
        self._lifespan = _as_context_manager(lifespan)
        self._timeout = timeout
        self._retry = retry
        self._hedge = hedge
        self._patience = patience
        self._large: LargeCall | None = large
        self._max_large = max_large
        self._publishing = publishing
        self._forward = Forwarding(forward).names
        self._threads = threads
        self._stop_timeout = stop_timeout
        self._registry = registry
        self._selector = selector
        self._registering = Registering(register_ttl, register_interval, register_check, register_required)
        self._needs = tuple(check_name(each, "service") for each in check_several("needs", needs, "'payments'"))
        if name in self._needs:
            raise UsageError(f"needs={name!r} is the service itself, and would be waited for without end; leave it out")
        self._client: Client | None = None
        self._node: Node | None = None
        self._latest: Node | None = None  # the same, also while it starts
        self._changing: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._changed_by: asyncio.Task[Any] | None = None

    @property
    def _is_started(self) -> bool:
        return self._node is not None

    # -- running -----------------------------------------------------------------------------------------------

    async def start(self, broker: str | Broker | None = None, *, rpc_broker: str | Broker | None = None) -> None:
        """Connect and start all that is declared; a started service stays as it is.

        Args:
            broker: the broker for this start, in place of the one that the service names; as `memory://` in a test.
            rpc_broker: likewise the one for endpoints and calls; default: what the service names.

        Raises:
            ConnectionFailed: no broker answered.
            Unsupported: the broker cannot do what an endpoint or a subscriber needs.
            UsageError: no broker is named anywhere.
        """
        await self._start(broker or self.broker, rpc_broker or self.rpc_broker, self._registry)

    async def _start(
        self,
        broker: str | Broker | None,
        rpc_broker: str | Broker | None,
        registry: str | Registry | None,
        around: Iterable[Middleware] = (),
    ) -> None:
        """Start over these; `around` is what stands around its own middleware, as that by which a test looks on."""
        async with self._changed_alone():
            if self._node is not None:
                self._node.check_loop()
                return
            self.check_settings()
            middleware = (*around, *self._middleware)
            client = Client(
                broker,
                rpc_broker=rpc_broker,
                middleware=middleware,
                codecs=self._codecs.own,
                content_type=self._codecs.content_type,
                compression=self._codecs.compression,
                max_decompressed=self._codecs.max_decompressed,
                registry=registry,
                selector=self._selector,
                timeout=self._timeout,
                retry=self._retry,
                hedge=self._hedge,
                patience=self._patience,
                large=self._large,
                max_large=self._max_large,
                publishing=self._publishing,
                forward=self._forward,
            )
            client._publisher.routes.source = f"/{self.name}"
            node = self._latest = self._make_node(client, middleware)
            self._client = client
            try:
                await node.start(
                    self.endpoints.values(),
                    self.subscribers.values(),
                    self._lifespan,
                    self._hooks["before_start"],
                    self._hooks["after_start"],
                )
            except BaseException:
                self._client = None
                raise
            self._node = node

    def _make_node(self, client: Client, middleware: tuple[Middleware, ...]) -> Node:
        from eventmicro.running.identity import Identity, new_id
        from eventmicro.running.node import Node  # a sixth of what there is to load, for who runs a service alone

        named = self.id is not None
        identity = Identity(self.name, self.version, self.id or new_id(), self.description, self.metadata, named)
        return Node(
            identity,
            client,
            self._codecs,
            middleware,
            self._overrides,
            self._stop_timeout,
            self._registering.with_environment(),
            self._checks,
            self._needs,
            self._threads,
        )

    async def start_subscriber(
        self,
        topic: Topic[Any] | str,
        handler: Callable[..., Any],
        *,
        name: str | None = None,
        middleware: Iterable[Middleware] = (),
        **options: Unpack[DeliveryWords],
    ) -> RunningSubscriber:
        """Start a subscriber while the service runs, from `after_start` on; what is known before is for `subscribe`.

            subscriber = await service.start_subscriber(f"orders.{region}", handle, name=f"orders-{region}")

        It is a subscriber as any, also in record, health and statistics, and ends with the service; at the next start
        it is not there by itself.

        Args:
            topic: a Topic, or a subject.
            handler: the function, as `subscribe` decorates one.
            name, middleware, options: as of `subscribe`.

        Returns:
            What it is paused, resumed and ended by.

        Raises:
            SignatureError, UsageError: as of `subscribe`, or the service does not run.
            Unsupported: the broker cannot do what it needs.
            Disconnected, Refused: the broker is away, or does not let it take these events.
        """
        if self._client is None or self._latest is None:
            raise UsageError(f"service {self.name!r} is not started: declare {name_of(handler)} by @service.subscribe")
        if name is not None:
            check_name(name, "subscriber")
        said = {"middleware": middleware, **options} | ({} if name is None else {"name": name})
        declared = self._subscriber(handler, Mark(topic, said))
        self._check_event(declared, topic)
        if declared.name in self.endpoints:
            raise is_taken(self.name, declared.name)
        return await self._latest.start_subscriber(declared)

    @property
    def needs(self) -> Sequence[str]:
        """The services that must answer before this one takes its first message."""
        return self._needs

    @property
    def awaited(self) -> str:
        """The service that its start waits for, of those that it `needs`; empty: it waits for none."""
        return "" if self._client is None or self._latest is None else self._latest.awaited

    async def health(self) -> Health:
        """How this instance is: what `orders.health` answers, and the health port.

        Raises:
            UsageError: the service is not started.
        """
        if self._node is None:
            raise UsageError(f"service {self.name!r} is not started")
        return await self._node.health()

    def statistics(self) -> NodeStatistics:
        """What this instance has done since its start: what `orders.stats` answers, and `/metrics` of the health port.

        Raises:
            UsageError: the service is not started.
        """
        if self._node is None:
            raise UsageError(f"service {self.name!r} is not started")
        return self._node.statistics()

    async def look_at_queues(self) -> None:
        """Ask the broker how it is with the durable queues, for `statistics()`, which then says so of each subscriber.

        It returns within a quarter of a second, with what is known by then; a broker is asked every 15 seconds at most.

        Raises:
            UsageError: the service is not started.
        """
        if self._node is None:
            raise UsageError(f"service {self.name!r} is not started")
        await self._node.look_at_queues()

    async def stop(self) -> None:
        """Take no more, finish what runs within `stop_timeout`, flush, close. A second call waits for the first.

        Where a handler of this service calls it, or a task that it has started, all is done but that handler, which
        is neither waited for nor cancelled. When it returns the connection is closed: its caller gets no reply, and
        its event is delivered again unless it was settled before, as by `await context.ack()`.

        Raises:
            UsageError: a hook or the lifespan of this service calls it, while it starts or stops.
            Exception: what a hook or the lifespan raised; all the rest was done nevertheless.
        """
        if (message := find_context()) is not None:
            await asyncio.sleep(0)  # a handler that calls this in its first step is a task from here on
            if self._node is not None:  # others may have it stopped already, and wait for this handler
                self._node.leave_alone(message)
        async with self._changed_alone():
            if self._node is None:
                return
            if message is not None:
                self._node.leave_alone(message)
            try:
                await self._node.stop(self._hooks["before_stop"], self._hooks["after_stop"])
            finally:
                self._node = self._client = None

    @asynccontextmanager
    async def _changed_alone(self) -> AsyncIterator[None]:
        """Keep starts and stops apart; a lock serves one event loop, a service may see several in its life.

        Raises:
            UsageError: this task is in it already, in a hook, and would wait for itself.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if self._changing is None or self._changing[0] is not loop:
            self._changing = loop, asyncio.Lock()
        lock = self._changing[1]
        if lock.locked() and self._changed_by is task:
            raise UsageError(f"service {self.name!r} cannot be started or stopped by its own hooks and lifespan")
        async with lock:
            self._changed_by = task
            try:
                yield
            finally:
                self._changed_by = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def run(self, broker: str | Broker | None = None) -> None:
        """Start, serve until SIGINT, SIGTERM or SIGHUP, stop. Without a broker it starts or joins an embedded one.

        Args:
            broker: the broker where the service itself names none; else a warning says that it keeps its own.
        """
        from eventmicro.running.runner import run

        run([self], broker)

    # -- its own client ----------------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """The service's own client, on its broker and with its middleware.

        Raises:
            UsageError: the service is not started.
        """
        if self._client is None:
            raise UsageError(f"service {self.name!r} is not started, so it has no connection to publish or call over")
        return self._client

    @property
    def _caller(self) -> RpcClient:  # type: ignore[override]
        return self.client._caller

    @property
    def _publisher(self) -> EventPublisher:  # type: ignore[override]
        return (self._client or self.client)._publisher  # that one says so where there is none


def _needed(function: Callable[..., Any]) -> str:
    """The arguments without which a function cannot be called."""
    try:
        parameters = signature_of(function).parameters.values()
    except (TypeError, ValueError):  # of something that is written in C
        return ""
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return ", ".join(each.name for each in parameters if each.default is each.empty and each.kind not in optional)


def _as_context_manager(lifespan: Lifespan | None) -> Any:
    """The lifespan, with the `@asynccontextmanager` that its author may have left out.

    Raises:
        UsageError: it is no function, or one that does not yield, or that needs arguments.
    """
    if callable(lifespan) and (needed := _needed(lifespan)):
        raise UsageError(
            f"lifespan={name_of(lifespan)} takes {needed}, and is called without arguments: leave that out; the "
            f"service is a variable of your module, and what is yielded is context.state of its handlers"
        )
    if inspect.isasyncgenfunction(lifespan):
        return asynccontextmanager(lifespan)
    if inspect.isgeneratorfunction(lifespan):
        return contextmanager(lifespan)
    if lifespan is not None and (not callable(lifespan) or inspect.iscoroutinefunction(lifespan)):
        raise UsageError(
            f"lifespan={name_of(lifespan)}: write an `async def` that yields once, or a `def`, in the middle of it"
        )
    return lifespan
