"""The order of the ready-made middleware, and for which endpoints one of them runs."""

from __future__ import annotations

from typing import Any

from eventmicro.context import Context
from eventmicro.errors import UsageError
from eventmicro.middleware import Handler, Middleware, check_middleware, sides_of
from eventmicro.middlewares.breaker import CircuitBreaker
from eventmicro.middlewares.caching import ReplyCache
from eventmicro.middlewares.concurrency import ConcurrencyLimit
from eventmicro.middlewares.deduplication import Deduplicate
from eventmicro.middlewares.fallback import Fallback
from eventmicro.middlewares.logs import LogMessages
from eventmicro.middlewares.rates import RateLimit
from eventmicro.middlewares.replies import ValidateReplies
from eventmicro.middlewares.timeouts import Timeout

ORDER: tuple[type, ...] = (
    LogMessages,  # sees all, also what the others refuse
    Fallback,  # stands in for whatever fails inside, refusals included
    ReplyCache,  # a hit takes no turn and no place; what stands in is not kept
    Deduplicate,  # what comes twice takes one turn
    RateLimit,  # refuses before anything waits
    ConcurrencyLimit,  # what waits for a place is not yet a call that could fail
    CircuitBreaker,  # counts what is called, not what was refused before
    Timeout,  # makes a failure of what is slow
    ValidateReplies,  # makes a failure of what is wrong
)
"""The outermost first. Inside of all, on the client's side, are the attempts of the call."""


def in_order(*middleware: Middleware) -> list[Middleware]:
    """The ready-made middleware in the order in which they work together, whatever the order in which they are given.
    Those of one's own stay in front of the ready-made one that they were in front of; the last ones are innermost.

    `Client(middleware=in_order(CircuitBreaker(), trace, Fallback(NO_QUOTE)))`

    Raises:
        UsageError: one of them is no middleware, or is given twice.
    """
    several = check_middleware(middleware)
    if len({id(each) for each in several}) < len(several):
        raise UsageError("in_order: a middleware is given twice, and would run twice")
    ranks, rank = list[int](), len(ORDER)
    for each in reversed(several):
        rank = _rank(each, rank)
        ranks.append(rank)
    ranks.reverse()
    return [several[at] for at in sorted(range(len(several)), key=ranks.__getitem__)]


def _rank(middleware: Middleware, of_next: int) -> int:
    kind = middleware.inner if isinstance(middleware, Only) else middleware
    return next((rank for rank, each in enumerate(ORDER) if isinstance(kind, each)), of_next)


def only(middleware: Middleware, *endpoints: str) -> Only:
    """Run a middleware for these endpoints alone: `only(Fallback(NO_QUOTE), "orders.quote", "stock.*")`.

    Args:
        endpoints: `service.endpoint`, or `service.*` for all of a service; on the sides of events, their topics.

    Raises:
        UsageError: it is no middleware, or no endpoint is named.
    """
    check_middleware([middleware])
    if not endpoints or not all(isinstance(each, str) and "." in each for each in endpoints):
        raise UsageError(f"only: {endpoints!r}: write endpoints, such as 'orders.quote' or 'orders.*'")
    return Only(middleware, endpoints)


class Only:
    """What `only` returns."""

    def __init__(self, inner: Middleware, endpoints: tuple[str, ...]) -> None:
        self.inner = inner
        self.__eventmicro_sides__ = sides_of(inner)
        self._names = frozenset(each for each in endpoints if not each.endswith(".*"))
        self._services = tuple(each[:-1] for each in endpoints if each.endswith(".*"))

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        name = context.topic
        if context.endpoint and name not in self._names:  # a call to one node comes on a subject of the node's own
            name = f"{context.service}.{context.endpoint}"
        if name in self._names or name.startswith(self._services):
            return await self.inner(message, context, call_next)
        return await call_next(message, context)
