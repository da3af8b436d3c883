"""Directed calls: to a node that is chosen, and to another one where that node is not there any more."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from eventmicro.codecs import Body
from eventmicro.errors import CallTimeout, ServiceError, Unavailable
from eventmicro.rpc.outgoing import Direction
from eventmicro.selector import Choice, Director, Node

# How many nodes are asked, one after the other, where each says that it did not run the call.
ATTEMPTS = 5

Exchange = Callable[..., Awaitable[Any]]
"""`RpcClient.exchange`."""


async def call_directed(
    director: Director,
    exchange: Exchange,
    direction: Direction,
    service: str,
    name: str,
    request: Any,
    headers: dict[str, str] | None,
    deadline: float,
    reply: Body,
) -> Any:
    """Call an endpoint of a chosen node; errors as of `CallsEndpoints.call`.

    A node that is gone has not run the call: then another one is asked, that was not asked yet.
    """
    choice = Choice(service, name, direction.key)
    tried: list[Node] = []
    while True:
        node = director.choose(choice, direction.selector, direction.filters, tried, deadline)
        if not isinstance(node, Node):
            node = await node
        started, failed = time.monotonic(), None  # a call that is cancelled says nothing of its node
        node.in_flight += 1
        try:
            subject = f"{node.address}.{name}"
            value = await exchange(service, subject, request, headers, started, deadline, reply, explained=False)
            failed = False
        except ServiceError as error:
            if started < deadline:  # else it was not asked
                failed = error.code >= 500 or isinstance(error, CallTimeout)
            did_not_run = isinstance(error, Unavailable) and error.nobody
            if not did_not_run or node in tried or len(tried) >= ATTEMPTS - 1:
                raise
            tried.append(node)
            continue
        finally:
            node.in_flight -= 1
            director.mark(node, time.monotonic() - started, failed=failed)
        return value
