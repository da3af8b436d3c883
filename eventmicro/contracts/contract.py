"""Contract: a class whose methods say what a service answers to; read once, when it is first used."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from eventmicro.checks import check_kind, check_seconds
from eventmicro.context import Context
from eventmicro.declare import marks_of
from eventmicro.errors import SignatureError, UsageError
from eventmicro.handlers.depends import VARIADIC, dependency_of, hints_of, parameters
from eventmicro.handlers.signature import MISSING, message_of, stream_of
from eventmicro.wire import check_length, check_name, check_version

# What a contract may say of a method by `@rpc`; all else is the server's own matter.
OPTIONS = ("name", "timeout", "idempotent")

_SERVICE, _VERSION = "__eventmicro_service__", "__eventmicro_version__"


class Contract(Protocol):
    """A base for the contract of a service: what it answers to, shared by those who serve it and those who call it.

        class Orders(Contract, Protocol, service="orders", version="1.2.0"):
            @rpc(timeout=2.0, idempotent=True)
            async def quote(self, request: QuoteRequest) -> Quote: ...
            async def price(self, sku: str, quantity: int = 1) -> Quote: ...
            def watch(self, request: Watch) -> AsyncIterator[Quote]: ...
            async def total(self, items: AsyncIterator[Item]) -> Sum: ...

    `service.implements(Orders)` serves it, `client.stub(Orders)` calls it. A method's `@rpc` may give `name`, `timeout`
    and `idempotent`, which hold on both sides. `Protocol` beside it tells type checkers that the bodies are empty.

    Args:
        service: the name of the service; without one any service may serve it, and a stub says which it calls.
        version: the version of the service from which on it serves all of this; it may be newer, up to before the next
            major one.

    Raises:
        UsageError: one of these is none.
    """

    def __init_subclass__(cls, *, service: str = "", version: str = "", **words: Any) -> None:
        super().__init_subclass__(**words)
        if service:
            setattr(cls, _SERVICE, check_length(check_name(service, "service"), "service name"))
        if version:
            setattr(cls, _VERSION, check_version(version))


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a contract.

    attribute: its name in Python.
    name: the endpoint's name.
    parameters: what takes the request, or the stream of them, or each of its fields.
    request, reply: the types of the messages; `request` is MISSING where there is none.
    takes_stream, yields: whether it reads a stream of messages, and whether it yields one.
    timeout: how long a call may take, in seconds; None: as long as the caller waits.
    idempotent: whether a call may be made twice without harm.
    description: its docstring.
    """

    attribute: str
    name: str
    parameters: tuple[inspect.Parameter, ...]
    request: Any
    reply: Any
    takes_stream: bool
    yields: bool
    timeout: float | None
    idempotent: bool
    description: str


@dataclass(frozen=True, slots=True)
class Promise:
    """What a contract says."""

    name: str
    service: str
    version: str
    methods: tuple[Method, ...]
    description: str


def read_contract(contract: Any) -> Promise:
    """What a contract says.

    Raises:
        UsageError: it is none.
        SignatureError: one of its methods cannot be an endpoint; the message says what to write instead.
    """
    if not is_contract(contract):
        raise UsageError(f"{contract!r} is no contract: write `class Orders(Contract, Protocol, service='orders')`")
    return _read(contract)


def is_contract(kind: Any) -> bool:
    """Whether this is a contract; a class that only implements one is none."""
    return (
        isinstance(kind, type)
        and kind is not Contract
        and Contract in kind.__mro__
        and (Contract in kind.__bases__ or Protocol in kind.__bases__)
    )


@lru_cache(1000)
def _read(contract: Any) -> Promise:
    found: dict[str, Any] = {}
    for part in reversed(contract.__mro__):
        if is_contract(part):
            found |= {name: value for name, value in vars(part).items() if not name.startswith("_")}
    methods = tuple(_read_method(contract, name, value) for name, value in found.items())
    if not methods:
        raise UsageError(f"contract {contract.__qualname__} has no methods: write `async def quote(self, ...) -> ...`")
    _check_names(contract, methods)
    return Promise(
        contract.__name__,
        getattr(contract, _SERVICE, ""),
        getattr(contract, _VERSION, ""),
        methods,
        inspect.cleandoc(contract.__doc__ or ""),
    )


def _read_method(contract: type[Any], attribute: str, function: Any) -> Method:
    name = f"contract {contract.__qualname__}: {attribute}"
    if not inspect.isfunction(function):
        raise SignatureError(f"{name} is no method: a contract has methods with `self`, and nothing else")
    if inspect.isasyncgenfunction(function):
        raise SignatureError(f"{name} yields: a contract has no code, so write `...` for its body, without `async`")
    taken_by, takes = _read_parameters(function, name)
    returns = hints_of(function).get("return", MISSING)
    if returns is MISSING:
        raise SignatureError(f"{name}: say what it returns: `-> YourModel`, `-> None` or `-> AsyncIterator[YourModel]`")
    taken, yielded = stream_of(takes, name), stream_of(returns, name)
    _check_async(function, name, yields=yielded is not None)
    options = _read_options(function, name)
    return Method(
        attribute,
        check_name(options.get("name") or attribute, "endpoint"),
        taken_by,
        takes if taken is None else taken,
        returns if yielded is None else yielded,
        taken is not None,
        yielded is not None,
        options.get("timeout"),
        options.get("idempotent", False),
        inspect.cleandoc(function.__doc__ or ""),
    )


def _read_parameters(function: Callable[..., Any], name: str) -> tuple[tuple[inspect.Parameter, ...], Any]:
    """The parameters beside `self`, and the type of the message that they are, or are the fields of."""
    found = parameters(function)
    if not found:
        raise SignatureError(f"{name}: it is a method, so it takes `self` first")
    others = found[1:]
    for parameter, hint in others:
        _check_parameter(parameter, hint, name)
    return tuple(parameter for parameter, _ in others), message_of(function, others, "endpoint", name)


def _check_parameter(parameter: inspect.Parameter, hint: Any, name: str) -> None:
    if parameter.kind in VARIADIC:
        raise SignatureError(f"{name}: {parameter} is not one message; write `{parameter.name}: YourModel`")
    if hint is Context or dependency_of(parameter, hint) is not None:
        raise SignatureError(f"{name}: {parameter.name!r} is the handler's own matter; leave it out of the contract")
    if hint is MISSING:
        raise SignatureError(f"{name}: parameter {parameter.name!r} has no type; write `{parameter.name}: YourModel`")
    if parameter.name.endswith("__"):
        raise SignatureError(f"{name}: {parameter.name!r} ends as names of stubs do; leave the underscores out")


def _check_async(function: Callable[..., Any], name: str, *, yields: bool) -> None:
    if yields and inspect.iscoroutinefunction(function):
        raise SignatureError(f"{name} gives a stream: write `def`, without `async`, since nothing is awaited before it")
    if not yields and not inspect.iscoroutinefunction(function):
        raise SignatureError(f"{name} is awaited: write `async def`, or `-> AsyncIterator[...]` for a stream")


def _read_options(function: Callable[..., Any], name: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for mark in marks_of(function):
        if mark.topic is not None:
            raise SignatureError(f"{name}: a contract has no subscribers; leave @subscribe to the handler")
        options |= mark.options
    if others := options.keys() - set(OPTIONS):
        raise UsageError(
            f"{name}: {', '.join(sorted(others))} is the handler's own matter; a contract says {', '.join(OPTIONS)}"
        )
    if options.get("timeout") is not None:
        check_seconds("timeout", options["timeout"])
    check_kind("idempotent", options.get("idempotent", False), bool, "True or False")
    return options


def _check_names(contract: type[Any], methods: tuple[Method, ...]) -> None:
    seen: dict[str, str] = {}
    for method in methods:
        other = seen.setdefault(method.name, method.attribute)
        if other != method.attribute:
            raise UsageError(
                f"contract {contract.__qualname__}: {other} and {method.attribute} have one name, {method.name!r}"
            )
