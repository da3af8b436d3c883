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

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Protocol, TypeVar

from eventmicro.checks import check_several, signature_of
from eventmicro.context import Context, Side
from eventmicro.errors import UsageError

Handler = Callable[[Any, Context], Awaitable[Any]]
Middleware = Callable[[Any, Context, Handler], Awaitable[Any]]

ALL_SIDES = frozenset(Side)


class Around(Protocol):
    """What a middleware may have beside: it is then made ready for each client and service, once, and may have nothing
    to do there.
    """

    def around(self, side: Side, inner: Handler, url: str, /) -> Handler:
        """The handler with this middleware around it, or the handler itself.

        Args:
            url: the broker's, without passwords.
        """
        ...

    def passes(self) -> bool:
        """Whether it leaves alone what is about to be called or published; asked where it is the only one on that side,
        before anything is made for it.
        """
        ...


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


def check_middleware(middleware: Iterable[Middleware], side: Side | None = None) -> tuple[Middleware, ...]:
    """Return the middleware of an option, the outermost first.

    Args:
        side: where all of it is to run; None: where each wants to.

    Raises:
        UsageError: it is no list, one of them does not take message, context and call_next, or never runs there.
    """
    several = check_several("middleware", middleware, "log_calls")
    for one in several:
        if isinstance(one, type):
            raise UsageError(f"middleware {_name(one)} is a class: give an object of it, {_name(one)}(...)")
        try:
            signature_of(one).bind(None, None, None)
        except (TypeError, ValueError):
            name = _name(one)
            raise UsageError(f"middleware {name}: write `async def {name}(message, context, call_next)`") from None
        if side is not None and side not in sides_of(one):
            able = " and ".join(sorted(sides_of(one)))
            raise UsageError(f"middleware {_name(one)} runs on the sides {able}, never around one {side}: leave it out")
    return several


def check_takes_streams(middleware: Iterable[Middleware], name: str) -> None:
    """Refuse middleware around a stream that would refuse each of its openings, as one that keeps replies does.

    Raises:
        UsageError: one of it is such.
    """
    for one in middleware:
        if getattr(one, "__eventmicro_refuses_streams__", False):
            kind = type(one).__name__
            raise UsageError(f"endpoint {name} is a stream, which a {kind} cannot keep: leave middleware {kind} out")


def sides_of(middleware: Middleware) -> Collection[Side]:
    """The sides on which it runs."""
    wanted: Collection[Side] = getattr(middleware, "__eventmicro_sides__", ALL_SIDES)
    return wanted


def compose(middleware: Iterable[Middleware], side: Side, handler: Handler, url: str = "") -> Handler:
    """Wrap `handler` into those of the middleware that run on this side. Without any it is the handler itself.

    Args:
        url: the broker's, for middleware that wants to know.
    """
    for outer in reversed(list(middleware)):
        if side in sides_of(outer):
            around = getattr(outer, "around", None)
            handler = _wrap(outer, handler) if around is None else around(side, handler, url)
    return handler


def passing(middleware: Iterable[Middleware], side: Side) -> Callable[[], bool] | None:
    """The `passes` of the only middleware of this side; None where that has none, or there are others."""
    here = [each for each in middleware if side in sides_of(each)]
    return getattr(here[0], "passes", None) if len(here) == 1 else None


def _wrap(outer: Middleware, inner: Handler) -> Handler:
    return lambda message, context: outer(message, context, inner)


def _name(middleware: Middleware) -> str:
    return getattr(middleware, "__qualname__", None) or repr(middleware)
