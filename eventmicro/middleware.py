"""Middleware: one signature for all four sides of a message's way, compiled into one function.

    async def timed(message, context, call_next):
        started = time.perf_counter()
        try:
            return await call_next(message, context)
        finally:
            log.info("%s took %.1f ms", context.topic, (time.perf_counter() - started) * 1e3)

Dependencies that need no waiting may be made as `call_next` is called, before what it returns is awaited.

It may look at the message and the context, replace them, answer itself, or raise. Around an endpoint and a client the
returned value is the reply, around a subscriber and a publisher it is None. The first in the list is the outermost.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from eventmicro.checks import check_several
from eventmicro.context import Context, Side
from eventmicro.errors import UsageError

Handler = Callable[[Any, Context], Awaitable[Any]]
Middleware = Callable[[Any, Context, Handler], Awaitable[Any]]

M = TypeVar("M", bound=Middleware)


def sides(*wanted: Side | str) -> Callable[[M], M]:
    """Let a middleware run on these sides only; without this it runs on all four.

    `@sides("endpoint", "subscriber")`

    Raises:
        UsageError: there is no such side.
    """
    try:
        chosen = frozenset(Side(side) for side in wanted)
    except ValueError as error:
        raise UsageError(f"{error}; there are {', '.join(Side)}") from None

    def mark(middleware: M) -> M:
        middleware.__eventmicro_sides__ = chosen  # type: ignore[attr-defined]
        return middleware

    return mark


def check_middleware(middleware: Iterable[Middleware]) -> tuple[Middleware, ...]:
    """Return the middleware of an option, the outermost first.

    Raises:
        UsageError: it is no list, or one of them does not take message, context and call_next.
    """
    several = check_several("middleware", middleware, "log_calls")
    for one in several:
        try:
            inspect.signature(one).bind(None, None, None)
        except (TypeError, ValueError):
            name = getattr(one, "__qualname__", repr(one))
            raise UsageError(f"middleware {name}: write `async def {name}(message, context, call_next)`") from None
    return several


def compose(middleware: Iterable[Middleware], side: Side, handler: Handler) -> Handler:
    """Wrap `handler` into those of the middleware that run on this side. Without any it is the handler itself."""
    for outer in reversed(list(middleware)):
        if side in getattr(outer, "__eventmicro_sides__", Side):
            handler = _wrap(outer, handler)
    return handler


def _wrap(outer: Middleware, inner: Handler) -> Handler:
    return lambda message, context: outer(message, context, inner)
