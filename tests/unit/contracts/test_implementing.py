"""What implements a contract is held to it when it is declared; a contract itself, too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any, Protocol

import pytest

from eventmicro import Client, Context, Contract, Depends, Service, SignatureError, UsageError, rpc, subscribe
from tests.unit.contracts.orders import URL, Handler, Number, Orders, Other, make_service


def test_all_of_a_contract_is_declared_with_its_options() -> None:
    endpoints = make_service(Handler()).endpoints
    assert {name: (e.stream, e.timeout, e.idempotent) for name, e in endpoints.items()} == {
        "quote": ("", 2.0, True),
        "no-op": ("", None, False),
        "watch": ("server", None, False),
        "total": ("client", None, False),
        "talk": ("bidirectional", None, False),
    }


class Wrong:
    async def quote(self, request: Other) -> int:
        return 0

    async def watch(self, request: Number) -> Number:
        return request

    async def total(self, items: Number) -> AsyncIterator[Number]:
        yield items

    @rpc(name="chat", timeout=3.0)
    async def talk(self, lines: AsyncIterator[Number]) -> AsyncIterator[Number]:
        yield Number()


def test_each_difference_is_named_at_once() -> None:
    with pytest.raises(SignatureError) as refused:
        make_service(Wrong())
    assert str(refused.value).splitlines() == [
        "Wrong does not implement Orders:",
        "  quote: takes Other, and the contract says Number; returns int, and the contract says Number",
        "  ping: is missing",
        "  watch: returns Number, and the contract says a stream, AsyncIterator[Number]",
        "  total: takes Number, and the contract says a stream, AsyncIterator[Number]; "
        "returns a stream, AsyncIterator[Number], and the contract says Number",
        "  talk: @rpc says name, timeout here, which is the contract's word; leave it out",
    ]


def test_types_of_one_name_are_told_apart_and_a_request_that_is_not_taken_is_a_difference() -> None:
    class Number(Other):
        pass

    class Few(Handler):
        async def quote(self, request: Number) -> None:  # type: ignore[override]
            ...

        async def watch(self) -> AsyncIterator[Any]:  # type: ignore[override]
            yield 1

    Few.quote.__annotations__["request"] = Number
    with pytest.raises(SignatureError) as refused:
        make_service(Few())
    assert [line.strip() for line in str(refused.value).splitlines()[1:]] == [
        f"quote: takes {__name__}.{Number.__qualname__}, and the contract says {Orders.__module__}.Number; "
        "returns None, and the contract says Number",
        "watch: takes nothing, and the contract says Number; "
        "returns a stream, AsyncIterator[Any], and the contract says a stream, AsyncIterator[Number]",
    ]


class Bare(Orders):
    async def quote(self, request):  # type: ignore[no-untyped-def]
        return request

    async def ping(self, context):  # type: ignore[no-untyped-def]
        ...

    async def watch(self, request: Number):  # type: ignore[no-untyped-def]
        yield request

    async def total(self, items):  # type: ignore[no-untyped-def]
        ...

    async def talk(self, lines: AsyncIterator[Number]):  # type: ignore[no-untyped-def]
        yield Number()


def test_what_has_no_types_is_told_those_of_the_contract() -> None:
    with pytest.raises(SignatureError) as refused:
        make_service(Bare())
    assert str(refused.value).splitlines()[1:] == [
        "  quote: parameter 'request' has no type; write `request: Number`",
        "  ping: parameter 'context' has no type; write `context: Context`",
        "  watch: says no return type; write `-> AsyncIterator[Number]`",
        "  total: parameter 'items' has no type; write `items: AsyncIterator[Number]`",
        "  talk: says no return type; write `-> AsyncIterator[Number]`",
    ]


def test_nothing_is_declared_where_something_differs() -> None:
    service = Service("orders", version="1.3.0", broker=URL)
    with pytest.raises(SignatureError):
        service.implements(Orders, Wrong())
    assert service.endpoints == {}


def test_what_is_inherited_from_the_contract_itself_is_missing() -> None:
    class ByName(Orders):
        async def quote(self, request: Number) -> Number:
            return request

    with pytest.raises(SignatureError) as refused:
        make_service(ByName())  # type: ignore[abstract]
    missing = [line.split(":")[0].strip() for line in str(refused.value).splitlines() if "is missing" in line]
    assert missing == ["ping", "watch", "total", "talk"]


def two() -> int:
    return 2


class Pinged(Contract, Protocol):
    async def ping(self, number: Number) -> Number: ...


async def test_the_decorator_makes_the_object_and_what_else_is_marked_is_declared_as_well() -> None:
    service = Service("pinging", broker=URL)

    @service.implements(Pinged)
    class Handler:
        @rpc(concurrency=3)
        async def ping(self, number: Number, context: Context, two: int = Depends(two)) -> Number:  # type: ignore[assignment]
            return Number(value=number.value * two)

        @rpc
        async def extra(self) -> int:
            return 1

        @subscribe("numbers.seen")
        async def seen(self, event: Number) -> None: ...

        async def helper(self, anything: Any) -> Any: ...

    assert isinstance(Handler, type)
    assert (list(service.endpoints), list(service.subscribers)) == (["ping", "extra"], ["seen"])
    assert service.endpoints["ping"].concurrency == 3
    async with service, Client(URL) as client:
        assert await client.stub(Pinged, service="pinging").ping(Number(value=4)) == Number(value=8)


async def test_functions_of_a_module_are_a_handler() -> None:
    module = ModuleType("handlers")

    async def ping(number: Number) -> Number:
        return Number(value=-number.value)

    service = Service("pinging", broker=URL)
    with pytest.raises(SignatureError, match="handlers does not implement Pinged:\n  ping: is missing"):
        service.implements(Pinged, module)
    vars(module)["ping"] = ping
    service.implements(Pinged, module)
    async with service, Client(URL) as client:
        assert await client.stub(Pinged, service="pinging").ping(Number(value=4)) == Number(value=-4)


def test_a_class_that_needs_something_and_a_function_say_what_to_write() -> None:
    service = Service("pinging", broker=URL)

    class Needs:
        def __init__(self, database: str) -> None: ...

    with pytest.raises(UsageError, match=r"needs? .*|write service.implements\(Pinged, .*Needs\(\.\.\.\)\)"):
        service.implements(Pinged)(Needs)
    with pytest.raises(UsageError, match=r"Handler is a class: write service.implements\(Orders, Handler\(\.\.\.\)\)"):
        service.implements(Orders, Handler)
    with pytest.raises(UsageError, match="stands above a class"):
        service.implements(Pinged)(lambda: None)  # type: ignore[type-var]


@pytest.mark.parametrize(("name", "version"), [("others", "1.3.0"), ("orders", "1.1.9"), ("orders", "2.0.0")])
def test_a_contract_of_another_service_or_version_is_refused(name: str, version: str) -> None:
    with pytest.raises(UsageError, match=r"is the contract of service 'orders'|is of version 1\.2\.0, and service"):
        Service(name, version=version, broker=URL).implements(Orders, Handler())


def test_a_name_that_is_taken_is_refused() -> None:
    service = make_service(Handler())
    with pytest.raises(UsageError, match="has a handler 'quote' already"):
        service.implements(Orders, Handler())


class Empty(Contract, Protocol): ...


class Bodied(Contract, Protocol):
    async def watch(self, request: Number) -> AsyncIterator[Number]:
        yield request


class Awaited(Contract, Protocol):
    async def watch(self, request: Number) -> AsyncIterator[Number]: ...


class Plain(Contract, Protocol):
    def quote(self, request: Number) -> Number: ...


class Untyped(Contract, Protocol):
    async def quote(self, request) -> Number: ...  # type: ignore[no-untyped-def]


class Unsaid(Contract, Protocol):
    async def quote(self, request: Number): ...  # type: ignore[no-untyped-def]


class Defaulted(Contract, Protocol):
    async def quote(self, request: Number = Number()) -> Number: ...  # noqa: B008


class WithContext(Contract, Protocol):
    async def quote(self, context: Context) -> Number: ...


class Underscored(Contract, Protocol):
    async def quote(self, reply__: Number) -> Number: ...


class Iterated(Contract, Protocol):
    def quote(self, request: Number) -> Iterator[Number]: ...


class Selfless(Contract, Protocol):
    async def quote() -> Number: ...  # type: ignore[misc]


class Property(Contract, Protocol):
    @property
    def quote(self) -> Number: ...


class Subscribing(Contract, Protocol):
    @subscribe("numbers.seen")
    async def quote(self, request: Number) -> None: ...


class ServersMatter(Contract, Protocol):
    @rpc(concurrency=3)
    async def quote(self, request: Number) -> Number: ...


class Twice(Contract, Protocol):
    @rpc(name="one")
    async def quote(self, request: Number) -> Number: ...
    async def one(self, request: Number) -> Number: ...


class Forever(Contract, Protocol):
    @rpc(timeout=-1)
    async def quote(self, request: Number) -> Number: ...


CANNOT = {
    Empty: "has no methods",
    Bodied: "yields: a contract has no code",
    Awaited: "write `def`, without `async`",
    Plain: "is awaited: write `async def`",
    Untyped: "parameter 'request' has no type",
    Unsaid: "say what it returns",
    Defaulted: "'request' has a default, but the message always comes",
    WithContext: "'context' is the handler's own matter",
    Underscored: "leave the underscores out",
    Iterated: "a stream is an AsyncIterator",
    Selfless: "it takes `self` first",
    Property: "is no method",
    Subscribing: "has no subscribers",
    ServersMatter: "concurrency is the handler's own matter; a contract says name, timeout, idempotent",
    Twice: "quote and one have one name, 'one'",
    Forever: "timeout",
}


@pytest.mark.parametrize("contract", CANNOT, ids=lambda contract: contract.__name__)
def test_what_cannot_be_a_contract_says_what_to_write(contract: Any) -> None:
    with pytest.raises((SignatureError, UsageError), match=CANNOT[contract]):
        Client(URL).stub(contract, service="x")


def test_the_words_of_a_contract_are_checked_where_it_is_written() -> None:
    with pytest.raises(UsageError, match="service name 'a b'"):
        type("Wrong", (Contract,), {}, service="a b")
    with pytest.raises(UsageError, match="version"):
        type("Wrong", (Contract,), {}, version="1")


class Extended(Orders, Protocol, version="1.3.0"):
    async def more(self) -> int: ...


async def test_a_contract_may_extend_another_one() -> None:
    class More(Handler):
        async def more(self) -> int:
            return 5

    service = Service("orders", version="1.3.0", broker=URL)
    service.implements(Extended, More())
    async with service, Client(URL) as client:
        orders = client.stub(Extended)
        assert (await orders.more(), await orders.quote(Number(value=1))) == (5, Number(value=1))
