"""What is said of services when they have started: their brokers, endpoints and subscribers."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, get_origin

from eventmicro.broker import Bindings, Broker
from eventmicro.client import Client
from eventmicro.errors import UsageError
from eventmicro.events.declare import SubscriberDeclaration
from eventmicro.handlers.signature import MISSING
from eventmicro.rpc.declare import EndpointDeclaration
from eventmicro.running.telling import told_of_calls, told_of_events
from eventmicro.wire import ENDPOINT_QUEUE, endpoint_subject

if TYPE_CHECKING:
    from eventmicro.discovery.health import Health
    from eventmicro.discovery.report import NodeStatistics

log = logging.getLogger(__name__)


class Runnable(Protocol):
    """What is run: a Service, as far as the runner needs it."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def broker(self) -> str | Broker | None: ...
    @property
    def rpc_broker(self) -> str | Broker | None: ...
    @property
    def endpoints(self) -> Mapping[str, EndpointDeclaration]: ...
    @property
    def subscribers(self) -> Mapping[str, SubscriberDeclaration]: ...
    @property
    def client(self) -> Client: ...
    @property
    def needs(self) -> Sequence[str]: ...
    @property
    def awaited(self) -> str: ...
    async def health(self) -> Health: ...
    def statistics(self) -> NodeStatistics: ...
    async def look_at_queues(self) -> None: ...
    async def start(self, broker: str | Broker | None = None) -> None: ...
    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Line:
    """One endpoint or subscriber, as it is shown to a person at the start."""

    service: str
    version: str
    kind: str
    name: str
    subject: str
    queue: str
    types: str
    exchange: str = ""
    """What its messages come by, where their subject alone does not say it."""


def describe(service: Runnable) -> list[Line]:
    """What a service has, a line for each endpoint and each subscriber."""
    events, calls = _brokers(service)
    endpoints = [
        (
            "rpc",
            e.name,
            (subject := endpoint_subject(service.name, e.name)),
            ENDPOINT_QUEUE,
            _signature(e),
            _exchange(told_of_calls(calls, subject)),
        )
        for e in service.endpoints.values()
    ]
    subscribers = [
        (
            "subscribe",
            s.name,
            s.subject,
            s.queue or "(every instance)",
            _type(s.event),
            _exchange(told_of_events(events, s)),
        )
        for s in service.subscribers.values()
    ]
    return [Line(service.name, service.version, *rest) for rest in endpoints + subscribers]


def _brokers(service: Runnable) -> tuple[Broker | None, Broker | None]:
    """Those of its events and its calls; none where it is not started."""
    try:
        return service.client.broker, service.client.rpc_broker
    except UsageError:
        return None, None


def _exchange(bindings: Bindings | None) -> str:
    return "" if bindings is None else bindings.exchange or "(default)"


def place(service: Runnable) -> str:
    """The broker that a service is on, and the one for its calls where that is another one."""
    events, calls = service.client.broker, service.client.rpc_broker
    return events.url if calls is events else f"{events.url}, calls on {calls.url}"


def log_lines(services: Sequence[Runnable]) -> None:
    """Say in the log what has started, and on which broker."""
    for service in services:
        log.info("%s %s is running on %s", service.name, service.version, place(service))
        for line in describe(service):
            by = f", exchange {line.exchange}" if line.exchange else ""
            log.info("  %s %s: %s%s, queue %s, %s", line.kind, line.name, line.subject, by, line.queue, line.types)


def _signature(endpoint: EndpointDeclaration) -> str:
    """What an endpoint takes and gives, each perhaps as a stream."""
    taken = "" if endpoint.request is MISSING else f"{_type(endpoint.request)} "
    taken = f"stream of {taken}" if endpoint.signature.takes_stream else taken
    return f"{taken}-> {'stream of ' if endpoint.signature.yields else ''}{_type(endpoint.reply)}"


def _type(kind: Any) -> str:
    if kind is MISSING:
        return "-"
    if kind in (None, type(None)):
        return "None"
    if isinstance(kind, type) and get_origin(kind) is None:
        return kind.__qualname__
    return re.sub(r"[\w.]+\.(?=\w)", "", repr(kind))  # list[shop.models.Quote] is list[Quote] to a reader
