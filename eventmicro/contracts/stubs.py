"""Stubs: a contract as its caller holds it, made once: each method is the call itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar, Unpack

from eventmicro.checks import check_kind
from eventmicro.contracts.contract import Contract, Method, Promise, read_contract
from eventmicro.contracts.messages import UNSET, Takes
from eventmicro.contracts.sending import talk, upload
from eventmicro.errors import UsageError
from eventmicro.handlers.fields import fields_of, is_message
from eventmicro.rpc.calls import CallsEndpoints, CallWords
from eventmicro.wire import check_name

C = TypeVar("C", bound=Contract)


class StubWords(CallWords, total=False):
    """How a stub calls; see `MakesStubs.stub`."""

    service: str
    keep_alive: float


# What is said of calls alone, and of streams alone.
OF_CALLS, OF_STREAMS = {"retry", "hedge", "idempotent", "large", "patience"}, {"keep_alive"}


class MakesStubs(CallsEndpoints):
    """Whoever calls by contracts: a Client, a Service."""

    def stub(self, contract: Callable[..., C], **how: Unpack[StubWords]) -> C:
        """An object with the methods of a contract, each of which calls its endpoint; to be kept, or made for one call.

            orders = client.stub(Orders)
            quote = await orders.quote(QuoteRequest(sku="tea"))
            price = await orders.price("tea", quantity=2)
            async for quote in orders.watch(Watch(sku="tea")): ...
            quote = await client.stub(Orders, timeout=0.5).quote(QuoteRequest(sku="tea"))

        A method that takes a stream is given an async iterator, which is read while its reply is waited for, and closed
        where that comes first, or an error does. Errors are those of `call` and `stream`.

        Args:
            contract: a class with the base Contract.
            service: the service that is called; default: the contract's.
            timeout: how long each call may take, in seconds; default: what the contract says of the method, or else the
                client's. A stream: how long it may last as a whole; default: as long as both sides want.
            retry, hedge, idempotent, large, patience: as for `call`, and for calls alone; a hedge for those that are
                idempotent, as the contract says of a method, or this of all.
            keep_alive: as for `stream`.
            metadata, content_type, selector, filters, key: as for `call`.

        Raises:
            UsageError: this is no contract, it names no service, or there is no such option.
            SignatureError: one of its methods cannot be an endpoint.
        """
        promise = read_contract(contract)
        if unknown := how.keys() - StubWords.__optional_keys__:
            raise UsageError(f"stub() has no option {', '.join(sorted(unknown))}; {_there_are()}")
        words: dict[str, Any] = dict(how)
        service = _check_service(promise, words.pop("service", None))
        return _Stub(promise, service, {m.attribute: _bind(self, promise, service, m, words) for m in promise.methods})  # type: ignore[return-value]


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


def _there_are() -> str:
    return f"there are {', '.join(sorted(StubWords.__optional_keys__))}"


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
