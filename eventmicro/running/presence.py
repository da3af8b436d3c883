"""Presence: how one node is found and looked into: what answers for it, its registration, its health, its figures."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eventmicro.broker import Broker, Capabilities, CountsReconnects, Subscription
from eventmicro.client import Client
from eventmicro.discovery.checking import HealthCheck
from eventmicro.discovery.registering import Registering
from eventmicro.errors import UsageError
from eventmicro.events.declare import SubscriberDeclaration
from eventmicro.events.subscriber import Subscriber
from eventmicro.handlers.statistics import Statistics
from eventmicro.rpc.declare import EndpointDeclaration, declare_endpoint
from eventmicro.rpc.endpoint import Endpoint
from eventmicro.rpc.node_calls import NodeCalls
from eventmicro.running.identity import Identity
from eventmicro.running.queues import Queues
from eventmicro.wire import ENDPOINT_QUEUE

if TYPE_CHECKING:  # pydantic comes with them: they are loaded when a service starts
    from eventmicro.discovery.health import HealthChecks
    from eventmicro.discovery.registration import Registration
    from eventmicro.discovery.report import BrokerFigures, HandlerStatistics, NodeStatistics
    from eventmicro.discovery.services_api import ServicesApi
    from eventmicro.registry import ServiceRecord

log = logging.getLogger(__name__)

# What a broker must be able to do for its nodes to be asked each.
ASKED = Capabilities(request_reply=True, queue_groups=True, broadcast=True, wildcards=True)


@dataclass(slots=True)
class Parts:
    """What a node has at work: each handler beside its subscription."""

    handlers: list[Endpoint | Subscriber] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    takers: dict[str, Endpoint] = field(default_factory=dict)
    """What takes events that other instances hand over, by the subscriber's name."""

    def add(self, handler: Endpoint | Subscriber, subscription: Subscription) -> None:
        """One more, which is at work from now on."""
        self.handlers.append(handler)
        self.subscriptions.append(subscription)

    def remove(self, handler: Endpoint | Subscriber) -> None:
        """It is at work no more."""
        if handler in self.handlers:
            place = self.handlers.index(handler)
            del self.handlers[place], self.subscriptions[place]

    async def end_last(self, count: int) -> None:
        """End so many of those that were added last."""
        for _ in range(count):
            self.handlers.pop()
            await self.subscriptions.pop().drain()

    def called(self) -> dict[str, Endpoint]:
        """What other nodes may call here, by name."""
        return self.endpoints() | self.takers

    def endpoints(self) -> dict[str, Endpoint]:
        """The endpoints by their names."""
        return {_short(each.name): each for each in self.handlers if isinstance(each, Endpoint)}

    def statistics(self) -> Mapping[str, Statistics]:
        """The figures of each endpoint by its name."""
        return {name: endpoint.inflight.statistics for name, endpoint in self.endpoints().items()}


class Presence:
    """Lives as long as its node.

    Args:
        identity: who the node is.
        registering: how it is kept registered.
        checks: the service's own health checks.
        endpoints, subscribers: what the service declares; subscribers come and go while it runs.
        parts: what is at work of that.
    """

    def __init__(
        self,
        identity: Identity,
        client: Client,
        registering: Registering,
        checks: Sequence[HealthCheck],
        endpoints: Sequence[EndpointDeclaration],
        subscribers: list[SubscriberDeclaration],
        parts: Parts,
    ) -> None:
        self._identity = identity
        self._client = client
        self._broker: Broker = client.rpc_broker
        self._registering = registering
        self.subscribers = subscribers
        self._declared = endpoints, subscribers
        self._parts = parts
        self._queues = Queues(identity.service, client.broker, subscribers)
        self._started = time.time()
        self._can_be_asked = not self._broker.capabilities.missing(ASKED)
        self._checks = self._make_checks(checks)
        self._address = ""  # where it takes calls; empty: nowhere
        self._api: ServicesApi | None = None
        self._calls: tuple[NodeCalls, Subscription] | None = None
        self._registration: Registration | None = None

    @property
    def checks(self) -> HealthChecks:
        """What is looked at to say how the node is."""
        return self._checks

    def own_endpoints(self) -> list[EndpointDeclaration]:
        """`health` and `stats`, which every node has that can be called, unless the service has some of that name."""
        if not self._can_be_asked:
            return []
        from eventmicro.discovery.health import Health
        from eventmicro.discovery.report import NodeStatistics

        async def health() -> Health:
            return await self._checks.run()

        async def stats() -> NodeStatistics:
            await self.look_at_queues()
            return self.statistics()

        for function, reply in ((health, Health), (stats, NodeStatistics)):
            function.__annotations__["return"] = reply
        taken = {each.name for declared in self._declared for each in declared}
        own = [declare_endpoint(function, internal=True) for function in (health, stats)]
        return [endpoint for endpoint in own if endpoint.name not in taken]

    async def take_calls(self) -> None:
        """Take calls that are directed to this node."""
        if not self._can_be_asked:
            return
        address = self._address = self._identity.address
        calls = NodeCalls(self._broker, address, self._parts.called)
        # With a queue: where two nodes have one id by mistake, one of them runs the call, not both.
        self._calls = calls, await self._broker.subscribe(f"{address}.*", calls, queue=ENDPOINT_QUEUE)

    async def answer(self) -> None:
        """Let everybody ask who the node is, what it has and what it has done.

        Raises:
            UsageError: another node of this id answers already.
        """
        if not self._can_be_asked:
            return
        await self._check_id()
        from eventmicro.discovery.services_api import ServicesApi

        identity = self._identity
        self._api = ServicesApi(
            self._broker,
            identity.service,
            identity.id,
            self._make_record,
            identity.description,
            self._parts.statistics,
        )
        await self._api.start()

    async def _check_id(self) -> None:
        from eventmicro.discovery.asking import ask_all
        from eventmicro.discovery.services_api import PING
        from eventmicro.information import PREFIX

        name, node = self._identity.service, self._identity.id
        if self._identity.is_named and await ask_all(self._broker, f"{PREFIX}.{PING}.{name}.{node}", most=1):
            raise UsageError(
                f"service {name!r}: another instance with id {node!r} is running; give each an id of its own, or none"
            )

    async def register(self) -> None:
        """Register the node, where there is a registry.

        Raises:
            Unavailable: the registry is required, and cannot be reached.
        """
        registry = self._client.registry
        if registry is None:
            return
        from eventmicro.discovery.registration import Registration

        name = f"{self._identity.service} {self._identity.id}"
        self._registration = Registration(registry, name, self._make_record, self._registering)
        await self._registration.start()

    async def change(self) -> None:
        """Let all who ask, and the registry, know that there are other subscribers now."""
        if self._api is not None:
            self._api.change()
        if self._registration is not None:
            await self._registration.renew()

    async def deregister(self) -> None:
        """Be found no more."""
        if self._api is not None:
            self._api.stopping = True
        if self._registration is not None:
            await self._registration.stop()

    async def take_no_calls(self) -> None:
        """Take no more calls that are directed to this node; those that came are handed over."""
        if self._calls is not None:
            calls, subscription = self._calls
            await subscription.drain()
            await calls.finish()

    async def end_calls(self, name: str) -> None:
        """Likewise of one endpoint, which this node has no more."""
        if self._calls is not None:
            await self._calls[0].end(name)

    async def go_without_calls(self) -> None:
        """Take no such calls, which the server does not let come, and do not say that it does."""
        await self.take_no_calls()
        self._address = ""

    async def answer_no_more(self) -> None:
        """Answer what was asked, and no more."""
        api, self._api = self._api, None
        if api is not None:
            await api.drain()

    async def look_at_queues(self) -> None:
        """Ask the broker, for the figures, how it is with the queues; return within a moment."""
        await self._queues.look()

    async def close(self) -> None:
        """Take and answer nothing more, and wait for nothing that was taken."""
        try:
            await self._queues.close()
        finally:  # cancelled, too
            if self._calls is not None:
                calls, subscription = self._calls
                calls.close()
                if not subscription.ended:  # there was no time to finish
                    await end(subscription)
            await self.answer_no_more()

    def _make_record(self) -> ServiceRecord:
        from eventmicro.running.recording import make_record

        return make_record(self._identity, *self._declared, self._client.broker, self._broker, self._address)

    def _make_checks(self, own: Sequence[HealthCheck]) -> HealthChecks:
        from eventmicro.discovery.health import HealthChecks

        ready_made = [
            HealthCheck("broker", self._check_brokers),
            HealthCheck("subscriptions", self._check_subscriptions, vital=True),
        ]
        if self._client.registry is not None:
            ready_made.append(HealthCheck("registered", self._check_registered, critical=False))
        identity = self._identity
        return HealthChecks(identity.service, identity.version, identity.id, [*ready_made, *own])

    def _check_brokers(self) -> None:
        for broker in dict.fromkeys((self._client.broker, self._broker)):
            if not broker.online:
                raise ConnectionError(f"{broker.url} is away")

    def _check_subscriptions(self) -> None:
        parts = zip(self._parts.handlers, self._parts.subscriptions, strict=True)
        if ended := [handler.name for handler, subscription in parts if subscription.ended]:
            raise RuntimeError(f"{', '.join(ended)}: the subscription has ended")

    def _check_registered(self) -> None:
        if self._registration is None:
            raise RuntimeError("it starts, or stops")
        if not self._registration.registered:
            raise RuntimeError(self._registration.why)

    def statistics(self) -> NodeStatistics:
        """What each of the node's endpoints and subscribers has done."""
        from eventmicro.discovery.report import HandlerStatistics, NodeStatistics, at

        identity, outgoing = self._identity, self._client.outgoing
        endpoints, subscribers = list[HandlerStatistics](), list[HandlerStatistics]()
        for handler, subscription in zip(self._parts.handlers, self._parts.subscriptions, strict=True):
            (endpoints if isinstance(handler, Endpoint) else subscribers).append(self._figures(handler, subscription))
        return NodeStatistics(
            service=identity.service,
            version=identity.version,
            node=identity.id,
            started=at(self._started),
            endpoints=endpoints,
            subscribers=subscribers,
            brokers=[_broker_figures(each) for each in dict.fromkeys((self._client.broker, self._broker))],
            published=outgoing.confirmed,
            publish_failed=outgoing.failed,
            publish_buffered=outgoing.buffered,
        )

    def _figures(self, handler: Endpoint | Subscriber, subscription: Subscription) -> HandlerStatistics:
        from eventmicro.discovery.report import report

        name, common = _short(handler.name), {"in_flight": len(handler), "dropped": subscription.dropped}
        if isinstance(handler, Endpoint):
            return report(name, handler.inflight.statistics, **common)
        queue, letters = self._queues.of(name)
        return report(
            name,
            handler.inflight.statistics,
            **common,
            dead_letters=handler.settling.dead_letters,
            retried=handler.settling.retried,
            unsettled=len(handler.unsettled),
            queue=queue,
            letters=letters,
        )


def _broker_figures(broker: Broker) -> BrokerFigures:
    from eventmicro.discovery.report import BrokerFigures

    reconnects = broker.reconnects if isinstance(broker, CountsReconnects) else None
    return BrokerFigures(url=broker.url, online=broker.online, reconnects=reconnects)


async def end(subscription: Subscription) -> None:
    """Take no more from it, and wait for nothing: there was no time to begin with its drain."""
    draining = asyncio.ensure_future(subscription.drain())
    await asyncio.sleep(0)
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)


def _short(name: str) -> str:
    """`quote` of `orders.quote`."""
    return name.partition(".")[2]
