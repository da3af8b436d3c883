"""Directed calls: to a node that is chosen, and to another one where that node is not there any more."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from eventmicro.errors import ServiceError
from eventmicro.rpc.outgoing import Direction, OutgoingCall
from eventmicro.rpc.replies import is_nobody
from eventmicro.selector import Choice, Director, Node

# How many nodes are asked, one after the other, where each says that it did not run the call.
ATTEMPTS = 5

T = TypeVar("T")

Ask = Callable[[Node, str, float, float], Awaitable[T]]
"""Asks a node, under this subject, from now until then, both in `time.monotonic()` seconds."""


async def directed(
    ask: Ask[T],
    director: Director,
    direction: Direction,
    service: str,
    name: str,
    deadline: float,
    call: OutgoingCall | None = None,
) -> T:
    """Ask a chosen node. One that is gone has not run the call: then another is asked that was not yet.

    Args:
        deadline: until when to wait, in `time.monotonic()` seconds.
        call: the call of which this is an attempt, if it may be made again.

    Raises:
        NotFound, Unavailable, UsageError: no node could be chosen; as of `Director.choose`.
        Exception: what `ask` raises.
    """
    selector, filters, key = direction
    choice = Choice(service, name, key)
    tried: Sequence[Node] = () if call is None else tuple(call.asked)
    while True:
        chosen = director.choose(choice, selector, filters, tried, deadline)
        node = chosen if isinstance(chosen, Node) else await chosen
        started, until, era = time.monotonic(), deadline, node.era
        if call is not None:
            call.asked.append(node)
            until = call.until(started, deadline)
        failed: bool | None = None  # nothing is known of the node
        node.in_flight += 1
        try:
            answer = await ask(node, f"{node.address}.{name}", started, until)
            failed = False
        except ServiceError as error:
            if started >= deadline:
                raise
            failed = error.is_failure
            if not is_nobody(error) or node in tried or len(tried) >= ATTEMPTS - 1:
                raise
            tried = (*tried, node)
        else:
            return answer
        finally:
            node.in_flight -= 1
            if node.era == era:
                director.mark(node, time.monotonic() - started, failed)
