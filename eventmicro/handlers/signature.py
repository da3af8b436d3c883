"""What a handler's signature says: read once, when it is declared, and compiled once, when its service starts."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args, get_origin

from eventmicro.context import Context
from eventmicro.errors import SignatureError
from eventmicro.handlers.compiled import compile_handler, opens
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

    takes: the type of the message parameter, or of each message of a stream; MISSING where the handler takes none.
    returns: the type of its result, or of what it yields; MISSING where the author gave none.
    takes_stream, yields: whether it reads a stream of messages, and whether it yields one.
    """

    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    takes: Any
    returns: Any
    takes_stream: bool = False
    yields: bool = False

    def compile(self, overrides: Overrides | None = None) -> Handler:
        """The handler as one function of message and context, with its dependencies filled in; of one that yields it
        returns what the yielded is read from.
        """
        plan = Plan(overrides)
        places = [(p, p.source if isinstance(p.source, int) else plan.place(p.source)) for p in self.parameters]
        arguments = Arguments(
            tuple(place for p, place in places if not p.by_keyword),
            tuple((p.name, place) for p, place in places if p.by_keyword),
        )
        handler = compile_handler(self.function, arguments, plan.steps)
        return opens(handler) if self.yields else handler


def read_signature(
    function: Callable[..., Any], what: str, message: Any = MISSING, *, streams: bool = False
) -> Signature:
    """Read and check the signature of a handler.

    Args:
        function: the handler.
        what: what to call it in messages, such as "endpoint".
        message: the type of the message where its parameter says none.
        streams: whether it may read a stream of messages, and yield one.

    Raises:
        SignatureError: it cannot be a handler; the message says what to write instead.
    """
    name = f"{what} {name_of(function)}"
    _check_kind(function, name, streams)
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
    returns = hints_of(function).get("return", MISSING)
    if not streams:
        return Signature(function, tuple(found), takes, returns)
    return _with_streams(Signature(function, tuple(found), takes, returns), name)


def _with_streams(signature: Signature, name: str) -> Signature:
    """The signature with the types of the messages in the place of those of the streams.

    Raises:
        SignatureError: it yields and does not say so, or the other way round.
    """
    yields, returned = inspect.isasyncgenfunction(signature.function), stream_of(signature.returns, name)
    if yields and signature.returns is not MISSING and returned is None:
        raise SignatureError(f"{name}: it yields, so write `-> AsyncIterator[YourModel]`")
    if yields and returned is None:
        raise SignatureError(f"{name}: say what it yields: `-> AsyncIterator[YourModel]`")
    if returned is not None and not yields:
        raise SignatureError(
            f"{name}: it returns an AsyncIterator and does not yield; write `yield`, in a loop over what there is"
        )
    taken = None if signature.takes is MISSING else stream_of(signature.takes, name)
    return replace(
        signature,
        takes=signature.takes if taken is None else taken,
        returns=signature.returns if returned is None else returned,
        takes_stream=taken is not None,
        yields=yields,
    )


def stream_of(hint: Any, name: str) -> Any:
    """The type of the messages of a stream; None where it is the type of none."""
    kind = get_origin(hint) or hint
    if kind in (AsyncIterator, AsyncIterable, AsyncGenerator):
        arguments = get_args(hint)
        if not arguments:
            raise SignatureError(f"{name}: say of what it is a stream: `AsyncIterator[YourModel]`")
        return type(None) if arguments[0] is None else arguments[0]
    if kind in (Iterator, Iterable, Generator) and kind is not list:
        raise SignatureError(f"{name}: a stream is an AsyncIterator, so write `AsyncIterator[...]` for {hint!r}")
    return None


def own_name(function: Any) -> str:
    """The name of a handler that is given none.

    Raises:
        SignatureError: it has none of its own.
    """
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise SignatureError(f"{name_of(function)} has no name of its own: give it one, by name=")
    return name


def _check_kind(function: Any, name: str, streams: bool) -> None:
    if inspect.isasyncgenfunction(function):
        if streams:
            return
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
