"""`call_all` as users have it: one call to each node of a service, each with an outcome of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Generic, TypeVar, overload

from eventmicro.checks import check_seconds
from eventmicro.errors import EventMicroError, Unavailable, UsageError
from eventmicro.rpc.calls import CallsEndpoints
from eventmicro.rpc.outgoing import WRITE_ENDPOINT, check_endpoint
from eventmicro.selector import Choice, Filter, Node, Selector

R = TypeVar("R")

# How long nodes may take to answer where nothing else is said, in seconds.
WITHIN = 0.5


@dataclass(frozen=True, slots=True)
class Answer(Generic[R]):
    """What one node has answered to `call_all`: a reply, or an error."""

    node: Node
    outcome: R | EventMicroError

    @property
    def error(self) -> EventMicroError | None:
        """The error; None where it has replied."""
        return self.outcome if isinstance(self.outcome, EventMicroError) else None

    @property
    def value(self) -> R:
        """The reply.

        Raises:
            EventMicroError: there is an error in its place.
        """
        if isinstance(self.outcome, EventMicroError):
            raise self.outcome
        return self.outcome


class CallsAll(CallsEndpoints):
    """Whoever calls all nodes of a service: a Client, a Service."""

    @overload
    def call_all(
        self,
        endpoint: str,
        request: Any = None,
        reply: None = None,
        *,
        within: float = WITHIN,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        filters: Sequence[Filter] = (),
    ) -> AsyncGenerator[Answer[None], None]: ...
    @overload
    def call_all(
        self,
        endpoint: str,
        request: Any,
        reply: type[R],
        *,
        within: float = WITHIN,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        filters: Sequence[Filter] = (),
    ) -> AsyncGenerator[Answer[R], None]: ...
    @overload
    def call_all(
        self,
        endpoint: str,
        request: Any,
        reply: UnionType,
        *,
        within: float = WITHIN,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        filters: Sequence[Filter] = (),
    ) -> AsyncGenerator[Answer[Any], None]: ...
    def call_all(
        self,
        endpoint: str,
        request: Any = None,
        reply: Any = None,
        *,
        within: float = WITHIN,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        filters: Sequence[Filter] = (),
    ) -> AsyncGenerator[Answer[Any], None]:
        """Call an endpoint at every node of its service at the same time; each has one outcome, told as it comes.

            async for answer in client.call_all("orders.quote", request, Quote, within=0.5):
                print(answer.node.id, answer.error or answer.value)

        Which nodes there are the registry says. Middleware runs around each call. One that does not answer in time has
        a CallTimeout as its outcome, one that is gone an Unavailable. Who leaves the loop early cancels the rest.

        Args:
            endpoint, request, reply, metadata, content_type: as of `call`.
            within: how long the nodes may take, in seconds.
            filters: which nodes are asked, such as `version("^1.2")`.

        Raises:
            UsageError: an argument is none; or there is no registry. All else is raised at the first step:
            NotFound: there is no node of this service.
            Unavailable: none of its nodes passes the filters; or the registry is away and nothing is known of it.
        """
        try:
            service, _ = check_endpoint(endpoint)
        except TypeError:
            raise UsageError(f"endpoint {endpoint!r}: {WRITE_ENDPOINT}") from None
        check_seconds("within", within)

        async def call(node: Node) -> Answer[Any]:
            try:
                return Answer(
                    node,
                    await self.call(
                        endpoint,
                        request,
                        reply,
                        timeout=within,
                        metadata=metadata,
                        content_type=content_type,
                        selector=_only(node),
                    ),
                )
            except UsageError:
                raise
            except EventMicroError as error:
                return Answer(node, error)

        return self._call_all(service, filters, call)

    async def _call_all(self, service: str, filters: Sequence[Filter], call: Any) -> AsyncGenerator[Answer[Any], None]:
        client = self._caller
        nodes = await client.director().nodes(service, filters, time.monotonic() + client.timeout)
        calls = [asyncio.create_task(call(node), name=f"eventmicro call_all {service}") for node in nodes]
        try:
            for answered in asyncio.as_completed(calls):
                yield await answered
        finally:
            for each in calls:
                each.cancel()
            await asyncio.gather(*calls, return_exceptions=True)


def _only(node: Node) -> Selector:
    """What chooses this node, and no other in its place."""

    def select(nodes: Sequence[Node], choice: Choice) -> Node:
        if node in nodes:
            return node
        raise Unavailable(f"node {node.id!r} of {node.service!r} is gone, or is asked no more for a while", id=node.id)

    return select
