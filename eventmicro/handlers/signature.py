"""What a handler's signature says: read once, when it is declared, and compiled once, when its service starts."""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from typing import Any, get_args, get_origin

from eventmicro.context import Context
from eventmicro.errors import SignatureError
from eventmicro.handlers.compiled import compile_handler, compile_plain, opens
from eventmicro.handlers.depends import (
    CONTEXT,
    MESSAGE,
    VARIADIC,
    Arguments,
    Depends,
    Overrides,
    Place,
    Plan,
    called_by,
    dependency_of,
    hints_of,
    name_of,
    parameters,
)
from eventmicro.handlers.fields import Field, fields_of, make_model
from eventmicro.handlers.publishing import Outlet, outlets_of, without_publish
from eventmicro.handlers.subjects import Named, take_named
from eventmicro.handlers.threads import InThreads
from eventmicro.middleware import Handler

# Parameters that are meant to be the context, where their author has not typed them.
CONTEXT_NAMES = ("ctx", "context")
MISSING: Any = inspect.Parameter.empty

Taken = tuple[inspect.Parameter, Any]
"""A parameter with its type."""

STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)
PLAIN_STREAMS = (Iterator, Iterable, Generator)
# What a message is called whose fields are a handler's parameters, behind the handler's own name.
SUFFIXES = {"endpoint": "Request", "subscriber": "Event"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a handler and what fills it: the message or a field of it, the context, a token of the subject,
    or a dependency.
    """

    name: str
    source: int | Field | Named | Depends
    by_keyword: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """A handler's signature.

    takes: the type of the message parameter, or of each message of a stream, or the model that the parameters make;
        MISSING where the handler takes none.
    returns: the type of its result, or of what it yields; MISSING where the author gave none.
    takes_stream, yields: whether it reads a stream of messages, and whether it yields one.
    is_plain: whether it is a plain function, to be run in a thread.
    outlets: where what it returns is published.
    """

    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    takes: Any
    returns: Any
    takes_stream: bool = False
    yields: bool = False
    is_plain: bool = False
    outlets: tuple[Outlet, ...] = ()

    def compile(self, overrides: Overrides | None = None, threads: InThreads | None = None) -> Handler:
        """The handler as one function of message and context, with its dependencies filled in; of one that yields it
        returns what the yielded is read from.

        Args:
            overrides: functions to use in the place of others.
            threads: runs it where it is plain.
        """
        plan = Plan(overrides)
        places = [(p, _place(p.source, plan)) for p in self.parameters]
        arguments = Arguments(
            tuple(place for p, place in places if not p.by_keyword),
            tuple((p.name, place) for p, place in places if p.by_keyword),
        )
        if self.is_plain:
            assert threads is not None
            handler = compile_plain(self.function, arguments, plan.steps, threads, yields=self.yields)
        else:
            handler = compile_handler(self.function, arguments, plan.steps)
        return opens(handler) if self.yields else handler


def _place(source: int | Field | Named | Depends, plan: Plan) -> Place:
    """Where in a plan's values, or in the message, an argument comes from."""
    if isinstance(source, Depends):
        return plan.place(source)
    if isinstance(source, Named):
        return plan.place_of_context(source.reader())
    return source.name if isinstance(source, Field) else source


def read_signature(
    function: Callable[..., Any],
    what: str,
    message: Any = MISSING,
    *,
    streams: bool = False,
    named: Mapping[str, int] | None = None,
) -> Signature:
    """Read and check the signature of a handler.

    Args:
        function: the handler.
        what: what to call it in messages, such as "endpoint".
        message: the type of the message where its parameter says none.
        streams: whether it may read a stream of messages, and yield one.
        named: the tokens of its subject that have a name, and their places.

    Raises:
        SignatureError: it cannot be a handler; the message says what to write instead.
    """
    name = f"{what} {name_of(function)}"
    _check_kind(function, name, streams)
    found: list[Parameter] = []
    of_message: list[Taken] = []
    for parameter, hint in parameters(function):
        if parameter.kind in VARIADIC:
            raise SignatureError(f"{name}: a handler has no *args or **kwargs; name what it takes")
        dependency = dependency_of(parameter, hint)
        source: int | Named | Depends = MESSAGE
        if hint is Context:
            source = CONTEXT
        elif dependency is not None:
            source = dependency
        elif hint is MISSING and (message is MISSING or parameter.name in ("self", "cls")):
            raise SignatureError(_untyped(name, parameter))
        elif named and parameter.name in named:
            source = take_named(named, parameter.name, hint, name)
        else:
            of_message.append((parameter, hint))
        found.append(Parameter(parameter.name, source, parameter.kind is parameter.KEYWORD_ONLY))
    takes = message_of(function, of_message, what, name, message)
    fields = {each.name: each for each in fields_of(takes)}
    if of_message and of_message[0][0].name in fields:
        found = [replace(each, source=fields.get(each.name, each.source)) for each in found]
    returns = hints_of(function).get("return", MISSING)
    signature = Signature(
        function,
        tuple(found),
        takes,
        without_publish(returns),
        is_plain=not is_async(function),
        outlets=outlets_of(returns, name),
    )
    return _with_streams(signature, name) if streams else signature


def message_of(
    function: Callable[..., Any], taken: Sequence[Taken], what: str, name: str, message: Any = MISSING
) -> Any:
    """The type of the message that these parameters are: its own where there is one, else the model of its fields.

    Args:
        function: whose parameters they are.
        taken: those that are neither context nor anything else, with their types.
        what, name: as in `read_signature`, and what to call it in errors.
        message: the type where its parameter says none.

    Raises:
        SignatureError: they cannot be a message.
    """
    if not taken:
        return MISSING
    parameter, hint = taken[0]
    if len(taken) > 1:
        _check_fields(taken, name)
        fields = [Field(each.name, hint, each.default) for each, hint in taken]
        return make_model(function, SUFFIXES.get(what, ""), fields, name)
    if parameter.default is not MISSING:
        raise SignatureError(
            f"{name}: {parameter.name!r} has a default, but the message always comes; leave the default out, and "
            f"give one to the fields of the model"
        )
    return message if hint is MISSING else hint


def _check_fields(taken: Sequence[Taken], name: str) -> None:
    """Refuse parameters that cannot stand beside one another in one message."""
    for parameter, hint in taken:
        if hint is MISSING:
            raise SignatureError(_untyped(name, parameter))
        kind: Any = get_origin(hint) or hint
        if kind in STREAMS:
            raise SignatureError(f"{name}: {parameter.name!r} is a stream of messages, so nothing else can be of one")


def _with_streams(signature: Signature, name: str) -> Signature:
    """The signature with the types of the messages in the place of those of the streams.

    Raises:
        SignatureError: it yields and does not say so, or the other way round.
    """
    is_plain, written = signature.is_plain, "Iterator" if signature.is_plain else "AsyncIterator"
    called = called_by(signature.function)
    yields = inspect.isasyncgenfunction(called) or inspect.isgeneratorfunction(called)
    yields = yields or inspect.isasyncgenfunction(signature.function) or inspect.isgeneratorfunction(signature.function)
    returned = stream_of(signature.returns, name, plain=is_plain)
    if yields and signature.returns is not MISSING and returned is None:
        raise SignatureError(f"{name}: it yields, so write `-> {written}[YourModel]`")
    if yields and returned is None:
        raise SignatureError(f"{name}: say what it yields: `-> {written}[YourModel]`")
    if returned is not None and not yields:
        raise SignatureError(
            f"{name}: it returns an {written} and does not yield; write `yield`, in a loop over what there is"
        )
    if returned is not None and outlets_of(returned, name):
        raise SignatureError(f"{name}: what it yields is not published by Publish; write `await service.publish(...)`")
    taken = None if signature.takes is MISSING else stream_of(signature.takes, name)
    if taken is not None and is_plain:
        raise SignatureError(f"{name}: it reads a stream, which is awaited message by message; write `async def`")
    return replace(
        signature,
        takes=signature.takes if taken is None else taken,
        returns=signature.returns if returned is None else returned,
        takes_stream=taken is not None,
        yields=yields,
    )


def stream_of(hint: Any, name: str, *, plain: bool = False) -> Any:
    """The type of the messages of a stream; None where it is the type of none.

    Args:
        plain: whether it is what a plain function yields.
    """
    kind = get_origin(hint) or hint
    ours, others = (PLAIN_STREAMS, STREAMS) if plain else (STREAMS, PLAIN_STREAMS)
    written = "Iterator" if plain else "AsyncIterator"
    if kind in ours:
        arguments = get_args(hint)
        if not arguments:
            raise SignatureError(f"{name}: say of what it is a stream: `{written}[YourModel]`")
        return type(None) if arguments[0] is None else arguments[0]
    if kind in others:
        raise SignatureError(f"{name}: a stream is an {written}, so write `{written}[...]` for {hint!r}")
    return None


def is_async(function: Any) -> bool:
    """Whether it is an `async def`, or an object that is called as one."""
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (function, called_by(function))
    )


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
    if not callable(function) or inspect.isclass(function):
        raise SignatureError(f"{name}: not a function; decorate a `def` or an `async def`")
    if not streams and (inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)):
        raise SignatureError(f"{name}: it yields; a handler returns one value, so write `return`")


def _untyped(name: str, parameter: inspect.Parameter) -> str:
    if parameter.name in ("self", "cls"):
        return (
            f"{name}: a method cannot be decorated by a service before there is an object; "
            f"mark it with `@rpc` or `@subscribe` from eventmicro, then `service.add(YourClass())`"
        )
    kind = "Context" if parameter.name in CONTEXT_NAMES else "YourModel"
    return f"{name}: parameter {parameter.name!r} has no type; write `{parameter.name}: {kind}`"
