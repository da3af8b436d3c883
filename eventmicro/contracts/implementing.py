"""What implements a contract: its methods are held to the contract when it is declared, all differences at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args

from eventmicro.contracts.contract import OPTIONS, Method, Promise, is_contract, read_contract
from eventmicro.declare import marks_of
from eventmicro.discovery.versions import Range, Version
from eventmicro.errors import SignatureError, UsageError
from eventmicro.handlers.depends import VARIADIC, dependency_of, hints_of, parameters
from eventmicro.handlers.fields import fields_of
from eventmicro.handlers.signature import MISSING
from eventmicro.rpc.declare import EndpointDeclaration, declare_endpoint

Implementation = list[tuple[Callable[..., Any], dict[str, Any]]]
"""Functions, each with its options as of `Service.rpc`."""


def implementation_of(contract: object, handler: object, service: str, version: str) -> Implementation:
    """The endpoints by which an object implements a contract in a service.

    Raises:
        SignatureError: it does not; the message names each difference.
        UsageError: the contract is that of another service, or of a version that this is not.
    """
    promise = read_contract(contract)
    if isinstance(handler, type):
        name = handler.__name__
        raise UsageError(f"{name} is a class: write service.implements({promise.name}, {name}(...)), with an object")
    _check_service(promise, service, version)
    found: Implementation = []
    wrong: list[str] = []
    for method in promise.methods:
        try:
            found.append(_implement(method, handler))
        except (SignatureError, UsageError) as error:
            wrong.append(f"  {method.attribute}: {error}")
    if wrong:
        name = getattr(handler, "__name__", type(handler).__qualname__)
        raise SignatureError(f"{name} does not implement {promise.name}:\n" + "\n".join(wrong))
    return found


def make_handler(contract: object, kind: Any) -> object:
    """An object of a class that needs nothing for it.

    Raises:
        UsageError: it needs something.
    """
    name = getattr(contract, "__name__", "Contract")
    if not isinstance(kind, type):
        raise UsageError(f"@service.implements({name}) stands above a class; for an object: implements({name}, it)")
    try:
        return kind()
    except TypeError as error:
        raise UsageError(
            f"{kind.__qualname__} cannot be made from nothing ({error}): make it yourself, and write "
            f"service.implements({name}, {kind.__qualname__}(...)) in place of the decorator"
        ) from error


def _check_service(promise: Promise, service: str, version: str) -> None:
    if promise.service not in ("", service):
        raise UsageError(f"{promise.name} is the contract of service {promise.service!r}, and this is {service!r}")
    if promise.version and Version(version) not in Range(f"^{promise.version}"):
        raise UsageError(
            f"{promise.name} is of version {promise.version}, and service {service!r} of {version}: "
            f"give it a version from there on, up to before the next major one"
        )


def _implement(method: Method, handler: object) -> tuple[Callable[..., Any], dict[str, Any]]:
    function = _find(method, handler)
    _check_annotated(method, function)
    options = _own_options(function) | {"name": method.name, "timeout": method.timeout, "idempotent": method.idempotent}
    _compare(method, declare_endpoint(function, **options))
    return function, options


def _find(method: Method, handler: object) -> Callable[..., Any]:
    """The method of a handler; not that of the contract, which a class inherits that implements it by name."""
    places = (
        getattr(handler, "__dict__", {}),
        *(vars(kind) for kind in type(handler).__mro__ if not is_contract(kind)),
    )
    if not any(method.attribute in place for place in places):
        raise SignatureError("is missing")
    return getattr(handler, method.attribute)  # type: ignore[no-any-return]


def _check_annotated(method: Method, function: Callable[..., Any]) -> None:
    """Refuse what says no types, in the words of the contract, which knows them."""
    for parameter, hint in parameters(function):
        if hint is MISSING and dependency_of(parameter, hint) is None and parameter.kind not in VARIADIC:
            promised = _annotation(method.request, method.takes_stream)
            raise SignatureError(f"parameter {parameter.name!r} has no type; write `{parameter.name}: {promised}`")
    if inspect.isroutine(function) and "return" not in hints_of(function):
        raise SignatureError(f"says no return type; write `-> {_annotation(method.reply, method.yields)}`")


def _annotation(kind: Any, is_stream: bool) -> str:
    if kind is MISSING:
        return "Context"
    return f"AsyncIterator[{_name(kind)}]" if is_stream else _name(kind)


def _own_options(function: Callable[..., Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for mark in marks_of(function):
        options |= mark.options if mark.topic is None else {}
    if said := options.keys() & set(OPTIONS):
        raise UsageError(f"@rpc says {', '.join(sorted(said))} here, which is the contract's word; leave it out")
    return options


def _compare(method: Method, endpoint: EndpointDeclaration) -> None:
    signature = endpoint.signature
    taken = _differ(method.request, signature.takes, method.takes_stream, signature.takes_stream)
    given = _differ(method.reply, signature.returns, method.yields, signature.yields)
    wrong = [f"takes {taken}"] * bool(taken) + [f"returns {given}"] * bool(given)
    if wrong:
        raise SignatureError("; ".join(wrong))


def _differ(promised: Any, found: Any, promised_stream: bool, found_stream: bool) -> str:
    """How one side differs; empty: not at all."""
    if promised_stream is found_stream and (
        promised == found or (fields_of(promised) and fields_of(promised) == fields_of(found))
    ):
        return ""
    whole = _name(promised) == _name(found) and promised != found
    return f"{_words(found, found_stream, whole)}, and the contract says {_words(promised, promised_stream, whole)}"


def _words(kind: Any, is_stream: bool, whole: bool) -> str:
    if kind is MISSING:
        return "nothing"
    name = _name(kind, whole)
    return f"a stream, AsyncIterator[{name}]" if is_stream else name


def _name(kind: Any, whole: bool = False) -> str:
    if kind is type(None):
        return "None"
    if fields := fields_of(kind):
        return f"the fields {', '.join(map(str, fields))}"
    if not isinstance(kind, type) or get_args(kind):
        return repr(kind)
    return f"{kind.__module__}.{kind.__qualname__}" if whole else kind.__name__
