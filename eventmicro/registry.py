"""The registry port: who is there. What an adapter promises, and all that the rest of eventmicro knows of a registry.

The records are go-micro's: a service has endpoints and nodes; each of its versions is a record of its own. These
comments are the specification; `eventmicro.conformance` holds every registry to it.

A registry keeps a node for its `ttl` and forgets it by itself, also where the process that registered it is gone. What
a later version of eventmicro writes is read as far as it is known, and the rest of it is kept. What is no record is
left out, and the log says so once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from eventmicro.checks import LONGEST
from eventmicro.errors import UsageError
from eventmicro.terms import Terms
from eventmicro.wire import check_length, check_name, check_subject

# Metadata of an endpoint that is a subscriber: what it subscribes to, and with whom it shares the events.
SUBSCRIBER = "subscriber"
TOPIC = "topic"
QUEUE = "queue"
# Metadata of an endpoint or a subscriber, where its subject alone does not say where its messages are: the exchange by
# which they come; and, as JSON, AsyncAPI's bindings of its `channel` and its `operation`.
EXCHANGE = "exchange"
BINDINGS = "bindings"
# Metadata of a subscriber whose events are told apart by a header: as JSON, the JSON Schema of their headers.
HEADERS = "headers"
# Metadata of an endpoint: where it is called, where that is not `service.endpoint`.
SUBJECT = "subject"
# Metadata of an endpoint: whether a call may be made twice without harm, `true`; how long one may take, in seconds.
IDEMPOTENT = "idempotent"
TIMEOUT = "timeout"
# Metadata of an endpoint that serves a stream: which side sends one, `server`, `client` or `bidirectional`.
STREAM = "stream"
# Metadata of a node that another framework runs: only its own subjects reach it.
FOREIGN = "foreign"


class _Record(BaseModel):
    """What is written by others, perhaps by a later version: fields that are not known here are kept."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)


class EndpointRecord(_Record):
    """What a service answers to, or subscribes to: then its metadata says `subscriber`, `topic` and `queue`."""

    name: str
    request: dict[str, Any] | None = None
    """The JSON Schema of what it takes; None: nothing, or it is not known."""
    reply: dict[str, Any] | None = None
    """The JSON Schema of what it replies."""
    metadata: dict[str, str] = Field(default_factory=dict)

    @property
    def is_subscriber(self) -> bool:
        """Whether it takes events, and cannot be called."""
        return self.metadata.get(SUBSCRIBER) == "true"

    @property
    def terms(self) -> Terms | None:
        """What its service says of it for those who call it; None: nothing."""
        if IDEMPOTENT not in self.metadata and TIMEOUT not in self.metadata:
            return None
        return Terms(self.metadata.get(IDEMPOTENT) == "true", _seconds(self.metadata.get(TIMEOUT)))


class NodeRecord(_Record):
    """One running instance of a service."""

    id: str
    address: str = ""
    """The subject below which this node alone is called: `<address>.<endpoint>`; empty: it has none."""
    metadata: dict[str, str] = Field(default_factory=dict)

    @property
    def is_foreign(self) -> bool:
        """Whether another framework runs it."""
        return self.metadata.get(FOREIGN) == "true"


class ServiceRecord(_Record):
    """One version of a service, and the nodes that run it."""

    name: str
    version: str = ""
    metadata: dict[str, str] = Field(default_factory=dict)
    endpoints: list[EndpointRecord] = Field(default_factory=list)
    nodes: list[NodeRecord] = Field(default_factory=list)

    def of_node(self, node: NodeRecord) -> ServiceRecord:
        """The same version with this node alone: what that node registers."""
        return self.model_copy(update={"nodes": [node]})

    def without_schemas(self) -> ServiceRecord:
        """The same without what its endpoints take and reply, for a registry that has no room for it."""
        bare = [endpoint.model_copy(update={"request": None, "reply": None}) for endpoint in self.endpoints]
        return self.model_copy(update={"endpoints": bare})


Action = Literal["create", "update", "delete", "synced", "lost"]


@dataclass(frozen=True, slots=True)
class Change:
    """What a watch tells.

    `create`, `update`, `delete`: a node came, its record is another one, it is gone; `service` is the record with that
    node alone. `synced`: all that was there has been told, from now on it is what happens; `lost`: the registry is
    away, what was told may be stale until it is `synced` again.
    """

    action: Action
    service: ServiceRecord | None = None


class Registry(Protocol):
    """A connection to a registry. It opens nothing before `connect`, and serves one event loop.

    After a lost connection it comes back by itself, for as long as it takes. Every method but `watch` and `close` fails
    within a few seconds where it cannot be reached.
    """

    @property
    def url(self) -> str:
        """Where it is, without passwords, fit for a log."""
        ...

    async def connect(self) -> None:
        """Connect. Connected already: nothing happens.

        Raises:
            Unavailable: it cannot be reached; nothing is left open.
        """
        ...

    async def close(self) -> None:
        """Close. What is registered stays until its `ttl` is over. Closed already: nothing happens."""
        ...

    async def register(self, service: ServiceRecord, *, ttl: float) -> None:
        """Keep the nodes of this record for `ttl` seconds from now; what was registered under their ids is replaced.

        Where nothing has changed since the last time, it only renews, at the cost of one request. A registry may round
        `ttl` up, to the least that it can keep.

        Raises:
            Unavailable: it cannot be reached now.
            UsageError: a name or an id is none, or the record is too large for this registry.
        """
        ...

    async def deregister(self, service: ServiceRecord) -> None:
        """Forget the nodes of this record at once; what is not there is no error.

        Raises:
            Unavailable: it cannot be reached now.
        """
        ...

    async def get_service(self, name: str) -> list[ServiceRecord]:
        """What is there under this name, a record a version, each with its nodes.

        Raises:
            NotFound: no node of it is registered.
            Unavailable: that cannot be known now.
        """
        ...

    async def list_services(self) -> list[ServiceRecord]:
        """All that is there, a record a version, in the order of names.

        Raises:
            Unavailable: that cannot be known now.
        """
        ...

    def watch(self, name: str | None = None) -> AsyncIterator[Change]:
        """Tell who is there, then `synced`, then what changes: of the service of this name, or of all.

        Whoever is renewed as he was changes nothing. It goes on until it is closed, and raises nothing: while the
        registry is away it tells `lost` and waits; when it is back, what has changed meanwhile, and `synced`. A node
        that comes and goes between two looks may not be told.

        Raises:
            Unavailable: at its first step, where this was never connected, or is closed.
        """
        ...


@runtime_checkable
class TellsReturn(Protocol):
    """What a registry has beside `Registry` that notices when its server is back, perhaps without its data: a node then
    registers at once, not at its next heartbeat.
    """

    async def returned(self) -> None:
        """Return when the connection was lost and is made again, next time."""
        ...


@runtime_checkable
class HasRegistry(Protocol):
    """What a broker has beside `Broker` where its own server can keep a registry: the default there."""

    def registry(self) -> Registry:
        """A registry over this connection; it can be used while the broker is connected."""
        ...


def _seconds(text: str | None) -> float | None:
    """What others have written as a time; None where it is none."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0 < seconds <= LONGEST else None


def check_record(service: ServiceRecord) -> ServiceRecord:
    """Return the record if it can be registered.

    Raises:
        UsageError: a name or an id has other signs than letters, digits, `_` and `-`, or is too long; an
            address is no subject; it has no node.
    """
    check_length(check_name(service.name, "service"), "service name")
    if not service.nodes:
        raise UsageError(f"service {service.name!r}: a record without nodes has nobody to register")
    for node in service.nodes:
        check_length(check_name(node.id, "node"), "node id")
        if node.address:
            check_subject(node.address, option="address")
    return service
