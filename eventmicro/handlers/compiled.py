"""A handler with its dependencies, compiled into one function: as its author would write it out by hand.

    async def handle(message, context):
        async with AsyncExitStack() as stack:
            v2 = make2(context)
            v3 = await stack.enter_async_context(make3(v2))
            return await handler(message, v3)

Closures around closures would do the same in several times the time, for every message.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from functools import lru_cache
from typing import Any

from eventmicro.handlers.depends import CONTEXT, MESSAGE, Arguments, Step
from eventmicro.middleware import Handler

# Of how many different shapes of handlers the code is kept, which all handlers of that shape share.
SHAPES = 256


def compile_handler(function: Callable[..., Any], arguments: Arguments, steps: Sequence[Step]) -> Handler:
    """One function of message and context; it is a coroutine function only where something is to be awaited before the
    handler, or to be cleaned up after it.
    """
    if arguments == Arguments((MESSAGE, CONTEXT)) and not steps:
        return function
    yields = inspect.isasyncgenfunction(function)
    lines = [f"v{place} = {_made(place, step)}" for place, step in enumerate(steps, CONTEXT + 1)]
    called, opening = f"handler({_written(arguments)})", "def handle(message, context):"
    if any(step.cleans_up for step in steps):
        block = [f"async {opening}", "    async with AsyncExitStack() as stack:"]
        last = [f"return await {called}"] if not yields else _passing_on(called)
        block += [f"        {line}" for line in (*lines, *last)]
    elif any(step.waits for step in steps):
        block = [
            f"async {opening}",
            *(f"    {line}" for line in (*lines, f"return {'' if yields else 'await '}{called}")),
        ]
    else:
        block = [opening, *(f"    {line}" for line in (*lines, f"return {called}"))]
    taken = ["handler", *(f"make{place}" for place in range(CONTEXT + 1, CONTEXT + 1 + len(steps)))]
    source = [f"def bind({', '.join(taken)}):", *(f"    {line}" for line in block), "    return handle"]
    handle: Handler = _shape("\n".join(source))(function, *(step.function for step in steps))
    return handle


def opens(handler: Callable[..., Any]) -> Handler:
    """A compiled handler that yields, as the innermost of its middleware: awaited, it gives what the yielded is read
    from.
    """

    async def open_stream(message: Any, context: Any) -> Any:
        made = handler(message, context)
        return await made if inspect.isawaitable(made) else made

    return open_stream


@lru_cache(SHAPES)
def _shape(source: str) -> Callable[..., Handler]:
    names: dict[str, Any] = {"AsyncExitStack": AsyncExitStack, "aclosing": aclosing}
    exec(compile(source, "<a handler with its dependencies>", "exec"), names)  # noqa: S102  all of it is written here
    bind: Callable[..., Handler] = names["bind"]
    return bind


def _passing_on(called: str) -> list[str]:
    """Yield what a handler yields, before what it depends on is cleaned up."""
    return [f"async with aclosing({called}) as values:", "    async for value in values:", "        yield value"]


def _made(place: int, step: Step) -> str:
    """How the value of a dependency is made."""
    call = f"make{place}({_written(step.arguments)})"
    if step.cleans_up:
        return f"await stack.enter_async_context({call})" if step.waits else f"stack.enter_context({call})"
    return f"await {call}" if step.waits else call


def _written(arguments: Arguments) -> str:
    keywords = [f"{name}={_value(place)}" for name, place in arguments.keywords]
    return ", ".join([*map(_value, arguments.positions), *keywords])


def _value(place: int) -> str:
    return {MESSAGE: "message", CONTEXT: "context"}.get(place, f"v{place}")
