"""The selector port: which node is asked. Nobody is looked up for a call unless a selector or a filter asks for that.

A selector is a function, or an object with `__call__`, that picks one of the nodes; it runs on the way of every
directed call, so it does not wait for anything. Ready-made ones are in `eventmicro.discovery`, by name: `random`,
`round-robin`, `least-in-flight`, `two-choices`, `sticky`, `rendezvous`, `newest`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from eventmicro.errors import NotFound, Unavailable


@dataclass(slots=True, eq=False, weakref_slot=True)
class Node:
    """One instance of a service, as a selector sees it; the same object for as long as it is there."""

    service: str
    id: str
    version: str = ""
    address: str = ""
    """The subject below which it alone is called."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Its own, and that of its service: labels."""
    endpoints: frozenset[str] = frozenset()
    in_flight: int = 0
    """How many calls of this client it has not answered yet."""
    latency: float = 0.0
    """How long it takes to answer this client, in seconds: a moving average; 0.0: it has not answered yet."""
    era: int = 0
    """Changes when a circuit of this node opens, is tried and closes: what began before says nothing of it then."""


@dataclass(slots=True)
class Choice:
    """For what a node is chosen."""

    service: str
    endpoint: str = ""
    key: str | None = None
    """What the call belongs to, where its caller says so: `call(..., key="customer-7")`."""


class NodeMarks(Protocol):
    """What keeps calls away from nodes that fail."""

    any_marked: bool
    """Whether calls are kept away from any node, or one is tried; `usable` and `chosen` are asked only then."""

    def usable(self, nodes: Sequence[Node]) -> Sequence[Node]:
        """Those that may be asked; perhaps none."""
        ...

    def chosen(self, node: Node) -> None:
        """A node is asked."""
        ...

    def mark(self, node: Node, *, failed: bool | None) -> None:
        """A call to a node has ended; None: nothing is known of how."""
        ...


@runtime_checkable
class MarksNodes(Protocol):
    """What a middleware has beside its function where it keeps directed calls away from nodes: the client around whose
    calls it runs asks it.
    """

    @property
    def node_marks(self) -> NodeMarks:
        """What keeps them away."""
        ...


Selector = Callable[[Sequence[Node], Choice], Node]
"""Picks one of the nodes, of which there is at least one."""

Filter = Callable[[Node], bool]
"""Whether a node may be asked: by what it is, not by what it does, as the answer is kept until a node changes."""


class Director(Protocol):
    """What directs calls to nodes: a client's view of its registry."""

    def choose(
        self,
        choice: Choice,
        selector: str | Selector | None,
        filters: Iterable[Filter],
        tried: Sequence[Node],
        deadline: float,
    ) -> Node | Awaitable[Node]:
        """The node to ask; rather one that was not tried yet. It is to be awaited where the registry has to be asked
        first, which is so once for a service. A registry that is asked for the first time is waited for
        until `deadline` at most, in `time.monotonic()` seconds.

        Raises:
            NotFound: there is no such service.
            Unavailable: none of its nodes passes the filters; or the registry is away and nothing is known of it.
            UsageError: there is no registry, no selector of this name, or what it returns is no node.
        """
        ...

    async def look(self, service: str, deadline: float) -> None:
        """Return when the registry has told of a service, until `deadline` at most; `choose` waits for that, too.

        Raises:
            Unavailable: the registry is away and nothing is known of it.
            UsageError: there is no registry.
        """
        ...

    async def nodes(self, service: str, filters: Iterable[Filter], deadline: float) -> Sequence[Node]:
        """All nodes of a service that pass the filters, one at least; a registry that is asked for the first time is
        waited for until `deadline`. Errors as of `choose`.
        """
        ...

    def mark(self, node: Node, seconds: float, failed: bool | None) -> None:
        """Tell how a call to a node ended, and how long it took, in seconds; None: nothing is known, as where it was
        cancelled.
        """
        ...

    async def find(self, endpoint: str, within: float) -> str | NotFound | Unavailable | None:
        """Where `service.endpoint` is, though nobody listens there: the subject under which another framework has it.

        None: its service is not there either, or it is being started or stopped; NotFound: the service is there and
        has no such endpoint, with the names of those that it has; Unavailable: somebody is there whom calls do not
        reach, with what is to be done about it.
        """
        ...
