"""A handler with its dependencies, compiled into one function: as its author would write it out by hand.

    async def handle(message, context):
        async with AsyncExitStack() as stack:
            v2 = make2(context)
            v3 = await stack.enter_async_context(make3(v2))
            return await handler(message, v3)

Closures around closures would do the same in several times the time, for every message.

A plain `def` is compiled in two: what is to be awaited as above, around what runs in a thread, the handler and those
of its dependencies that nothing awaited needs:

    def within(message, context, v2):
        with ExitStack() as stack:
            v3 = stack.enter_context(make3(v2))
            return handler(message.sku, v3)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing
from functools import lru_cache, partial
from typing import Any

from eventmicro.handlers.depends import CONTEXT, MESSAGE, Arguments, Place, Step
from eventmicro.handlers.threads import InThreads
from eventmicro.middleware import Handler

# Of how many different shapes of handlers the code is kept, which all handlers of that shape share.
SHAPES = 256

Steps = Mapping[int, Step]
"""Steps by the place in the plan's values where the result of each stands."""

_BOTH = Arguments((MESSAGE, CONTEXT))


def compile_handler(function: Callable[..., Any], arguments: Arguments, steps: Sequence[Step]) -> Handler:
    """One function of message and context; it is a coroutine function only where something is to be awaited before the
    handler, or to be cleaned up after it.
    """
    if arguments == _BOTH and not steps:
        return function
    return _compile(function, arguments, _by_place(steps))


def compile_plain(
    function: Callable[..., Any], arguments: Arguments, steps: Sequence[Step], threads: InThreads, *, yields: bool
) -> Handler:
    """The same of a plain function, or generator, which runs in a thread."""
    numbered = _by_place(steps)
    outside = _needed_outside(numbered)
    given = (MESSAGE, CONTEXT, *outside)
    inside = {place: step for place, step in numbered.items() if place not in outside}
    within = function
    if arguments != _BOTH or inside or outside:
        block = _plain_block(given, arguments, inside, yields=yields)
        within = _bind(block, "within", function, inside)
    how: Callable[..., Any] = threads.iterate if yields else threads.run
    run = partial(how, within)
    return _compile(run, Arguments(given), {place: numbered[place] for place in outside}) if outside else run


def opens(handler: Callable[..., Any]) -> Handler:
    """A compiled handler that yields, as the innermost of its middleware: awaited, it gives what the yielded is read
    from.
    """

    async def open_stream(message: Any, context: Any) -> Any:
        made = handler(message, context)
        return await made if inspect.isawaitable(made) else made

    return open_stream


def _by_place(steps: Sequence[Step]) -> dict[int, Step]:
    return dict(enumerate(steps, CONTEXT + 1))


def _needed_outside(steps: Steps) -> list[int]:
    """The places of what is awaited, and of what that needs."""
    needed: set[Place] = set()
    for place in sorted(steps, reverse=True):
        if steps[place].waits or place in needed:
            needed |= {place, *steps[place].arguments.places()}
    return [place for place in steps if place in needed]


def _compile(function: Callable[..., Any], arguments: Arguments, steps: Steps) -> Handler:
    yields = inspect.isasyncgenfunction(function)
    lines = [f"v{place} = {_made(place, step)}" for place, step in steps.items()]
    called, opening = f"handler({_written(arguments)})", "def handle(message, context):"
    if any(step.cleans_up for step in steps.values()):
        last = [f"return await {called}"] if not yields else _passing_on(called)
        block = [f"async {opening}", "    async with AsyncExitStack() as stack:", *_indented(2, [*lines, *last])]
    elif any(step.waits for step in steps.values()):
        block = [f"async {opening}", *_indented(1, [*lines, f"return {'' if yields else 'await '}{called}"])]
    else:
        block = [opening, *_indented(1, [*lines, f"return {called}"])]
    handle: Handler = _bind(block, "handle", function, steps)
    return handle


def _plain_block(given: Sequence[int], arguments: Arguments, steps: Steps, *, yields: bool) -> list[str]:
    """What runs in the thread; it is given the message, the context, and what was made outside."""
    lines = [f"v{place} = {_made(place, step)}" for place, step in steps.items()]
    lines.append(f"{'yield from' if yields else 'return'} handler({_written(arguments)})")
    opening = f"def within({', '.join(map(_value, given))}):"
    if any(step.cleans_up for step in steps.values()):
        return [opening, "    with ExitStack() as stack:", *_indented(2, lines)]
    return [opening, *_indented(1, lines)]


def _bind(block: list[str], name: str, function: Callable[..., Any], steps: Steps) -> Callable[..., Any]:
    """The function that a block of lines defines, with the handler and what makes its dependencies."""
    taken = ["handler", *(f"make{place}" for place in steps)]
    source = [f"def bind({', '.join(taken)}):", *_indented(1, block), f"    return {name}"]
    return _shape("\n".join(source))(function, *(step.function for step in steps.values()))


@lru_cache(SHAPES)
def _shape(source: str) -> Callable[..., Callable[..., Any]]:
    names: dict[str, Any] = {"AsyncExitStack": AsyncExitStack, "ExitStack": ExitStack, "aclosing": aclosing}
    exec(compile(source, "<a handler with its dependencies>", "exec"), names)  # noqa: S102  all of it is written here
    bind: Callable[..., Callable[..., Any]] = names["bind"]
    return bind


def _indented(depth: int, lines: Sequence[str]) -> list[str]:
    return [f"{'    ' * depth}{line}" for line in lines]


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


def _value(place: Place) -> str:
    """The value at a place, or that of a field of the message."""
    if isinstance(place, str):
        return f"message.{place}"
    return {MESSAGE: "message", CONTEXT: "context"}.get(place, f"v{place}")
