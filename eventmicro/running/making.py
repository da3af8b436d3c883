"""Making: the endpoints and subscribers of one node, made from what its service declares."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eventmicro.client import Client
from eventmicro.codecs import Body, Codecs
from eventmicro.context import Side
from eventmicro.events.batches import BatchSubscriber
from eventmicro.events.declare import SubscriberDeclaration
from eventmicro.events.lanes import KeyedSubscriber
from eventmicro.events.members import takes_some
from eventmicro.events.objects import Objects
from eventmicro.events.options import DeliveryOptions, OrderBy
from eventmicro.events.settling import Kept, Live
from eventmicro.events.subscriber import Subscriber, Work
from eventmicro.handlers.depends import Overrides
from eventmicro.handlers.publishing import publishes, publishes_with_ack
from eventmicro.handlers.signature import MISSING, Signature
from eventmicro.handlers.threads import InThreads, Threads
from eventmicro.middleware import Handler, Middleware, compose
from eventmicro.rpc.declare import EndpointDeclaration
from eventmicro.rpc.endpoint import Endpoint, RunningCalls
from eventmicro.rpc.large.serving import LargeBodies
from eventmicro.running.identity import Identity
from eventmicro.running.presence import Parts
from eventmicro.running.sticking import Sticking, taking
from eventmicro.terms import ENDPOINT_CONCURRENCY
from eventmicro.topic import picker

if TYPE_CHECKING:
    from eventmicro.rpc.streams.endpoint import NodeStreams


class Making:
    """Makes the handlers of one node; lives as long as that.

    Args:
        client: the service's own, over whose brokers they work.
        middleware: what the service has around all of them.
        overrides: what stands for dependencies in tests.
        threads: where plain handlers run.
        parts: gets what takes events that other instances hand over.

    Attributes:
        calls, large: what its endpoints share.
        streams: likewise, where some serve streams.
        state: what the service's lifespan has yielded.
    """

    def __init__(
        self,
        identity: Identity,
        client: Client,
        codecs: Codecs,
        middleware: tuple[Middleware, ...],
        overrides: Overrides,
        threads: Threads,
        parts: Parts,
    ) -> None:
        self.calls = RunningCalls()
        self.large = LargeBodies(client.rpc_broker, identity.service, client.max_large)
        self.streams: NodeStreams | None = None
        self.state: Any = None
        self._identity = identity
        self._client = client
        self._codecs = codecs
        self._middleware = middleware
        self._overrides = overrides
        self._threads = threads
        self._parts = parts

    def endpoint(self, declared: EndpointDeclaration) -> Endpoint:
        """An endpoint, to be subscribed to its subject."""
        threads = InThreads(self._threads)
        endpoint = self._endpoint(
            declared.name,
            self._compile(declared.signature, declared.middleware, Side.ENDPOINT, threads),
            self._body(declared.request),
            self._codecs.body(declared.reply),
            declared.concurrency,
            declared.timeout,
            self._kind(declared),
        )
        threads.hold = endpoint.inflight.hold
        return endpoint

    def subscriber(self, declared: SubscriberDeclaration) -> Subscriber:
        """A subscriber, to be subscribed to its topic."""
        options, broker = declared.options, self._client.broker
        name = f"{self._identity.service}.{declared.name}"
        is_durable = options.is_durable(broker.capabilities)
        threads = InThreads(self._threads)
        handler = self._compile(
            declared.signature, declared.middleware, Side.SUBSCRIBER, threads, transactional=options.transactional
        )
        if options.sticky_by is not None:
            handler = self._stick(declared, options.sticky_by, handler)
        work = Work(
            self._identity.service,
            declared.name,
            handler if declared.some is None else takes_some(handler, declared.some),
            self._event_body(declared),
            options.timeout,
            self.state,
            Kept(name, broker, options, declared.has_wildcards) if is_durable else Live(name, options.queue_name),
            Objects(broker, self._client.max_large),
            declared.subject if declared.has_wildcards else "",
            options.transactional,
        )
        subscriber = _subscriber(work, options)
        threads.hold = subscriber.hold
        return subscriber

    def _kind(self, declared: EndpointDeclaration) -> Callable[..., Endpoint]:
        """What makes the endpoint."""
        if self.streams is None or not declared.stream:
            return Endpoint
        return self.streams.kind(declared.signature.takes_stream, declared.signature.yields)

    def _endpoint(
        self,
        name: str,
        handler: Handler,
        request: Body | None,
        reply: Body,
        concurrency: int,
        timeout: float | None,
        kind: Callable[..., Endpoint] = Endpoint,
    ) -> Endpoint:
        return kind(
            self._identity.service,
            name,
            handler,
            request,
            reply,
            broker=self._client.rpc_broker,
            calls=self.calls,
            concurrency=concurrency,
            timeout=timeout,
            state=self.state,
            large=self.large,
        )

    def _stick(self, declared: SubscriberDeclaration, sticky_by: OrderBy, handler: Handler) -> Handler:
        """What hands events to the instance of their key, of which this is one that takes them from others."""
        body = self._codecs.body(declared.event)
        taker = self._endpoint(
            declared.name,
            taking(handler),
            body,
            self._codecs.body(None),
            ENDPOINT_CONCURRENCY,
            declared.options.timeout,
        )
        self._parts.takers[declared.name] = taker
        pick, timeout = picker(sticky_by), declared.options.timeout
        return Sticking(self._client, self._identity, declared.name, pick, handler, body, timeout)

    def _compile(
        self,
        signature: Signature,
        own: tuple[Middleware, ...],
        side: Side,
        threads: InThreads,
        *,
        transactional: bool = False,
    ) -> Any:
        broker = self._client.broker if side is Side.SUBSCRIBER else self._client.rpc_broker
        handler = signature.compile(self._overrides, threads)
        if transactional:
            publisher = self._client._publisher
            handler = publishes_with_ack(handler, signature.outlets, publisher.messages, publisher.publish_and_ack)
        elif signature.outlets:
            handler = publishes(handler, signature.outlets, self._client.publish, self._client.publish_many)
        return compose((*self._middleware, *own), side, handler, broker.url)

    def _event_body(self, declared: SubscriberDeclaration) -> Body | None:
        if declared.event is MISSING:
            return None
        return self._codecs.body_of_events(
            declared.event, declared.codec, declared.told_by, cloudevents=declared.cloudevents
        )

    def _body(self, kind: Any) -> Body | None:
        return None if kind is MISSING else self._codecs.body(kind)


def _subscriber(work: Work, options: DeliveryOptions) -> Subscriber:
    """The kind of subscriber that does what the options say."""
    if options.order_by is not None:
        return KeyedSubscriber(work, options.concurrency, picker(options.order_by))
    if options.batch is not None:
        return BatchSubscriber(work, options.concurrency, options.batch)
    return Subscriber(work, options.concurrency)
