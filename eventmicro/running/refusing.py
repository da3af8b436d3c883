"""Refusing: what a service needs and its brokers cannot do, known before anything is connected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from eventmicro.broker import Broker, Capabilities, ChecksNames
from eventmicro.errors import Unsupported, UsageError
from eventmicro.events.declare import SubscriberDeclaration
from eventmicro.events.keeping import not_kept
from eventmicro.events.placing import strange_places
from eventmicro.plugins import REGISTRY_VARIABLE, RPC_BROKER_VARIABLE, brokers_with
from eventmicro.rpc.declare import EndpointDeclaration
from eventmicro.running.presence import ASKED
from eventmicro.topic import Topic
from eventmicro.wire import ENDPOINT_QUEUE, endpoint_subject


class Needs:
    """What a service needs of its brokers.

    Args:
        service: its name.
        broker, rpc_broker: what it is to run on; they need not be connected.
        has_registry: whether there is one.
    """

    def __init__(self, service: str, broker: Broker, rpc_broker: Broker, *, has_registry: bool) -> None:
        self._service = service
        self._broker = broker
        self._rpc_broker = rpc_broker
        self._has_registry = has_registry

    def refusals(
        self, endpoints: Sequence[EndpointDeclaration], subscribers: Sequence[SubscriberDeclaration]
    ) -> Iterator[UsageError]:
        """Why the service would not start, one after the other; each says what mends it."""
        for endpoint in endpoints:
            yield from self._lacking(
                endpoint.name, self._rpc_broker, Capabilities(request_reply=True, queue_groups=True)
            )
        for subscriber in subscribers:
            yield from self._lacking(
                subscriber.name, self._broker, subscriber.needs(), subscriber.options.durable_words()
            )
            places = subscriber.options.places().values()
            yield from strange_places(f"{self._service}.{subscriber.name}", self._broker, *places)
            if subscriber.options.sticky_by is not None:
                yield from self._lacking(subscriber.name, self._rpc_broker, ASKED)
                if not self._has_registry:
                    yield self._no_registry(subscriber.name)
        yield from self._shared_queues(subscribers)

    def misnamed(
        self, endpoints: Sequence[EndpointDeclaration], subscribers: Sequence[SubscriberDeclaration]
    ) -> Iterator[UsageError]:
        """Which names and options a broker would refuse, where it can say so without a connection."""
        for endpoint in endpoints:
            subject = endpoint_subject(self._service, endpoint.name)
            yield from _checked(self._rpc_broker, f"{self._service}.{endpoint.name}", subject, ENDPOINT_QUEUE)
        for subscriber in subscribers:
            yield from _checked(
                self._broker,
                f"{self._service}.{subscriber.name}",
                subscriber.subject,
                subscriber.options.queue_name,
                subscriber,
            )

    def _lacking(
        self, name: str, broker: Broker, needed: Capabilities, durable_words: Sequence[str] = ()
    ) -> Iterator[Unsupported]:
        missing = broker.capabilities.missing(needed)
        if not missing:
            return
        what = f"{self._service}.{name} needs {', '.join(missing)}, which {broker.url} lacks; able are "
        what += ", ".join(brokers_with(needed)) or "none of the brokers that are installed"
        if "durable" in missing and durable_words:
            what += f"; a durable queue is asked for by {', '.join(durable_words)}"
        if broker.capabilities.more:
            what += f"; {broker.capabilities.more}"
        if missing == ["ordered"] and broker.capabilities.ordered_keys:
            what += "; or order by the key under which events are published, the same in both: Topic(..., key=...)"
        if needed.request_reply:
            what += (
                f"; for calls a service may name a second broker, by Service({self._service!r}, rpc_broker=...), "
                f"--rpc-broker or {RPC_BROKER_VARIABLE}"
            )
        yield Unsupported(what)

    def _no_registry(self, name: str) -> Unsupported:
        return Unsupported(
            f"{self._service}.{name} has sticky_by, which needs a registry to know the other instances: name one "
            f"by registry= or {REGISTRY_VARIABLE}, such as 'etcd://127.0.0.1:2379'"
        )

    def _shared_queues(self, subscribers: Sequence[SubscriberDeclaration]) -> Iterator[UsageError]:
        """A durable queue is that of one subscriber, any other that of one on each subject."""
        taken: dict[tuple[str, str], str] = {}
        for subscriber in subscribers:
            if subscriber.queue is None:
                continue
            is_durable = subscriber.options.is_durable(self._broker.capabilities)
            first = taken.setdefault((subscriber.queue, "" if is_durable else subscriber.subject), subscriber.name)
            if first != subscriber.name:
                yield UsageError(
                    f"{self._service}.{first} and {self._service}.{subscriber.name} name the same queue, "
                    f"{subscriber.queue!r}: each event would go to one of the two; leave queue= out, or write two names"
                )


def _checked(
    broker: Broker, name: str, subject: str, queue: str | None, subscriber: SubscriberDeclaration | None = None
) -> Iterator[UsageError]:
    if not isinstance(broker, ChecksNames):
        return
    is_durable = subscriber is not None and subscriber.options.is_durable(broker.capabilities)
    durable = subscriber.options.to_durable() if subscriber is not None and is_durable else None
    try:
        broker.check(subject, queue=queue, durable=durable)
    except UsageError as error:
        yield UsageError(f"{name}: {error}")


def misnamed_topics(broker: Broker, topics: Iterable[Topic[object]]) -> Iterator[UsageError]:
    """The topics whose names a broker would refuse, where it can say so without a connection."""
    for topic in topics:
        if topic.exchange is not None:
            yield from strange_places(repr(topic), broker, topic.exchange)
        yield from not_kept(topic, broker)
        yield from _checked(broker, repr(topic), topic.name, None)
