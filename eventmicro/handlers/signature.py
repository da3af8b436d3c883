"""What a handler's signature says: read once, when it is declared, and compiled once, when its service starts."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from eventmicro.context import Context
from eventmicro.errors import SignatureError
from eventmicro.handlers.compiled import compile_handler
from eventmicro.handlers.depends import (
    CONTEXT,
    MESSAGE,
    VARIADIC,
    Arguments,
    Depends,
    Overrides,
    Plan,
    dependency_of,
    hints_of,
    name_of,
    parameters,
)
from eventmicro.middleware import Handler

MISSING: Any = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a handler and what fills it: the message, the context, or a dependency."""

    name: str
    source: int | Depends
    by_keyword: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """A handler's signature.

    takes: the type of the message parameter; MISSING where the handler takes none.
    returns: the type of its result; MISSING where the author gave none.
    """

    function: Callable[..., Awaitable[Any]]
    parameters: tuple[Parameter, ...]
    takes: Any
    returns: Any

    def compile(self, overrides: Overrides | None = None) -> Handler:
        """The handler as one function of message and context, with its dependencies filled in."""
        plan = Plan(overrides)
        places = [(p, p.source if isinstance(p.source, int) else plan.place(p.source)) for p in self.parameters]
        arguments = Arguments(
            tuple(place for p, place in places if not p.by_keyword),
            tuple((p.name, place) for p, place in places if p.by_keyword),
        )
        return compile_handler(self.function, arguments, plan.steps)


def read_signature(function: Callable[..., Any], what: str, message: Any = MISSING) -> Signature:
    """Read and check the signature of a handler.

    Args:
        function: the handler.
        what: what to call it in messages, such as "endpoint".
        message: the type of the message where its parameter says none.

    Raises:
        SignatureError: it cannot be a handler; the message says what to write instead.
    """
    name = f"{what} {name_of(function)}"
    _check_kind(function, name)
    takes: Any = MISSING
    found: list[Parameter] = []
    for parameter, hint in parameters(function):
        if parameter.kind in VARIADIC:
            raise SignatureError(f"{name}: a handler has no *args or **kwargs; name what it takes")
        dependency = dependency_of(parameter, hint)
        source: int | Depends
        if hint is Context:
            source = CONTEXT
        elif dependency is not None:
            source = dependency
        elif hint is MISSING and (message is MISSING or parameter.name in ("self", "cls")):
            raise SignatureError(_untyped(name, parameter))
        elif parameter.default is not MISSING:
            raise SignatureError(
                f"{name}: {parameter.name!r} has a default, but the message always comes; leave the default out, and "
                f"give one to the fields of the model"
            )
        elif takes is MISSING:
            takes, source = message if hint is MISSING else hint, MESSAGE
        else:
            raise SignatureError(
                f"{name}: a handler takes one message, and {parameter.name!r} would be the second; put both in one "
                f"model, or mark what is not the message as Annotated[..., Depends(...)] or Context"
            )
        found.append(Parameter(parameter.name, source, parameter.kind is parameter.KEYWORD_ONLY))
    return Signature(function, tuple(found), takes, hints_of(function).get("return", MISSING))


def own_name(function: Any) -> str:
    """The name of a handler that is given none.

    Raises:
        SignatureError: it has none of its own.
    """
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise SignatureError(f"{name_of(function)} has no name of its own: give it one, by name=")
    return name


def _check_kind(function: Any, name: str) -> None:
    if inspect.isasyncgenfunction(function):
        raise SignatureError(f"{name}: it yields; a handler returns one value, so write `return`")
    if not callable(function) or inspect.isclass(function):
        raise SignatureError(f"{name}: not a function; decorate an `async def`")
    if not inspect.iscoroutinefunction(function):
        raise SignatureError(
            f"{name}: write `async def`; call what blocks by `await asyncio.to_thread(...)`, so that the other "
            f"messages need not wait for it"
        )


def _untyped(name: str, parameter: inspect.Parameter) -> str:
    if parameter.name in ("self", "cls"):
        return (
            f"{name}: a method cannot be decorated by a service before there is an object; "
            f"mark it with `@rpc` or `@subscribe` from eventmicro, then `service.add(YourClass())`"
        )
    return f"{name}: parameter {parameter.name!r} has no type; write `{parameter.name}: YourModel`"
