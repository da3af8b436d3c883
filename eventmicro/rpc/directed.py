"""Directed calls: to a node that is chosen, and to another one where that node is not there any more."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from eventmicro.errors import CallTimeout, ServiceError, Unavailable
from eventmicro.rpc.outgoing import Direction
from eventmicro.selector import Choice, Director, Node

# How many nodes are asked, one after the other, where each says that it did not run the call.
ATTEMPTS = 5


async def call_directed(
    director: Director, choice: Choice, direction: Direction, deadline: float, ask: Callable[[Node], Awaitable[Any]]
) -> Any:
    """Call an endpoint of a chosen node; errors as of `CallsEndpoints.call`.

    A node that is gone has not run the call: then another one is asked, that was not asked yet.

    Args:
        deadline: until when, in `time.monotonic()` seconds.
        ask: calls the endpoint of a node.
    """
    tried: list[Node] = []
    while True:
        node = await director.choose(choice, direction.selector, direction.filters, tried, deadline)
        started, failed = time.monotonic(), None  # a call that is cancelled says nothing of its node
        node.in_flight += 1
        try:
            reply = await ask(node)
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
        return reply
