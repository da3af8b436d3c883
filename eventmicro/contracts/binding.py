"""Binding: a contract as its caller holds it, made once: each method is the call itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from eventmicro.checks import check_kind
from eventmicro.contracts.contract import Contract, Method, Promise, read_contract
from eventmicro.contracts.messages import UNSET, Takes
from eventmicro.contracts.sending import talk, upload
from eventmicro.errors import UsageError
from eventmicro.handlers.fields import fields_of, is_message
from eventmicro.rpc.calls import CallsEndpoints
from eventmicro.wire import check_name

# What is said of calls alone, and of streams alone.
OF_CALLS, OF_STREAMS = {"retry", "hedge", "idempotent", "large", "patience"}, {"keep_alive"}


def make_stub(client: CallsEndpoints, contract: Callable[..., Contract], words: dict[str, Any]) -> Any:
    """The methods of a contract, each bound to this client and to whom it calls.

    Args:
        client: who calls.
        contract: what is promised.
        words: those of `stub`.

    Raises:
        UsageError: this is no contract, or it names no service.
        SignatureError: one of its methods cannot be an endpoint.
    """
    promise = read_contract(contract)
    service = _check_service(promise, words.pop("service", None))
    return _Stub(promise, service, {m.attribute: _bind(client, promise, service, m, words) for m in promise.methods})


class _Stub:
    """The methods of a contract, each bound to whom it calls."""

    def __init__(self, promise: Promise, service: str, methods: dict[str, Callable[..., Any]]) -> None:
        self.__dict__.update(methods)
        self.__about = f"<stub of {promise.name}, calls {service!r}>"

    def __repr__(self) -> str:
        return self.__about

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # which Python looks for, as in a copy that is being made
            raise AttributeError(name)
        from difflib import get_close_matches  # for errors only

        names = [each for each in vars(self) if not each.startswith("_")]
        close = get_close_matches(name, names, n=1)
        there = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
        raise AttributeError(f"{self!r} has no method {name!r}; {there}", name=name)


def _check_service(promise: Promise, service: str | None) -> str:
    named = service or promise.service
    if not named:
        raise UsageError(f"contract {promise.name} names no service: write stub({promise.name}, service='orders')")
    check_kind("service", named, str, "the name of a service")
    return check_name(named, "service")


def _bind(
    client: CallsEndpoints, promise: Promise, service: str, method: Method, words: dict[str, Any]
) -> Callable[..., Any]:
    """One method of a stub."""
    is_stream = method.takes_stream or method.yields
    said = _words(method, words, OF_CALLS if is_stream else OF_STREAMS)
    reply = None if method.reply is type(None) else method.reply
    name = f"{service}.{method.name}"
    kind = f"{'talk' if method.yields else 'upload'}__" if method.takes_stream else ""
    is_checked = is_message(method.request) and not fields_of(method.request)
    bind = _shape(method.attribute, *_parameters(method), kind, is_checked, tuple(said))
    shown = f"client.stub({promise.name}, **options).{method.attribute}"
    bound = bind(client.stream if is_stream else client.call, name, reply, Takes(method.request, shown), *said.values())
    bound.__qualname__ = shown  # what a TypeError of Python's names
    return bound


def _words(method: Method, words: dict[str, Any], others: set[str]) -> dict[str, Any]:
    """What is said of the calls to a method, by the stub or else by the contract."""
    said = {name: value for name, value in words.items() if name not in others}
    if method.timeout is not None and said.get("timeout") is None:
        said["timeout"] = method.timeout
    if method.idempotent and "idempotent" not in others and said.get("idempotent") is None:
        said["idempotent"] = True
    if not said.get("idempotent"):
        said.pop("hedge", None)
    return said


@lru_cache(1000)
def _shape(
    name: str, taken: str, given: str, kind: str, is_checked: bool, said: tuple[str, ...]
) -> Callable[..., Callable[..., Any]]:
    """What binds a method to a client, compiled as one would write it by hand; a call then costs what `call` does:

    def bind(call__, endpoint__, reply__, takes__, timeout__):
        kind__ = takes__.kind
        def quote(request):
            if request.__class__ is not kind__: takes__.check(request)
            return call__(endpoint__, request, reply__, timeout=timeout__)
        return quote
    """
    words = "".join(f", {word}={word}__" for word in said)
    called = f"call__(endpoint__, {'None' if kind else given}, reply__{words})"
    checks = f"if {given}.__class__ is not kind__: takes__.check({given})" if is_checked else ""
    source = (
        f"def bind(call__, endpoint__, reply__, takes__{''.join(f', {word}__' for word in said)}):\n"
        f"    kind__ = takes__.kind\n"
        f"    def {name}({taken}):\n"
        f"        {f'takes__.check_iterator({given})' if kind else checks}\n"
        f"        return {f'{kind}({called}, {given}, takes__)' if kind else called}\n"
        f"    return {name}\n"
    )
    names: dict[str, Any] = {"talk__": talk, "upload__": upload, "unset__": UNSET}
    exec(compile(source, "<a method of a stub>", "exec"), names)  # noqa: S102  all of it is written here
    bind: Callable[..., Callable[..., Any]] = names["bind"]
    return bind


def _parameters(method: Method) -> tuple[str, str]:
    """The parameters of a method as its contract has them, and what is given on."""
    if not method.parameters:
        return "", "None"
    if not fields_of(method.request):
        return _written(method.parameters), method.parameters[0].name
    given = ", ".join(f"{each.name}={each.name}" for each in method.parameters)
    return _written(method.parameters), f"takes__.make({given})"


def _written(parameters: Sequence[inspect.Parameter]) -> str:
    """Parameters as they are written in a definition, without their types; what is not given is UNSET."""
    plain = [
        each.replace(annotation=each.empty, default=each.empty if each.default is each.empty else _Written("unset__"))
        for each in parameters
    ]
    return str(inspect.Signature(plain))[1:-1]


class _Written(str):
    """What stands in a definition as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
