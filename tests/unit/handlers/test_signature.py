"""signature: what a handler may look like, and the words of every refusal."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel

from eventmicro import Service, Topic
from eventmicro.context import Context
from eventmicro.errors import SignatureError, UsageError
from eventmicro.events.declare import declare_subscriber
from eventmicro.handlers.depends import Depends
from eventmicro.handlers.signature import MISSING, read_signature
from eventmicro.rpc.declare import declare_endpoint

if TYPE_CHECKING:
    from decimal import Decimal


class Order(BaseModel):
    id: str = ""


class PaidOrder(Order):
    amount: float = 0.0


class Other(BaseModel):
    pass


async def message_only(order: Order) -> Order:
    return order


async def message_and_context(order: Order, context: Context) -> Order:
    return order


async def context_first(context: Context, order: Order) -> Order:
    return order


async def keyword_only(*, order: Order) -> Order:
    return order


async def union(order: Order | None) -> Order | None:
    return order


async def nothing() -> None:
    return None


TAKEN: list[tuple[Callable[..., Any], Any, Any]] = [
    (message_only, Order, Order),
    (message_and_context, Order, Order),
    (context_first, Order, Order),
    (keyword_only, Order, Order),
    (union, Order | None, Order | None),
    (nothing, MISSING, type(None)),
]


@pytest.mark.parametrize(("function", "takes", "returns"), TAKEN)
def test_the_types_of_message_and_result_are_read(function: Callable[..., Any], takes: Any, returns: Any) -> None:
    signature = read_signature(function, "endpoint")
    assert (signature.takes, signature.returns) == (takes, returns)


async def yields(order: Order) -> AsyncIterator[Order]:
    yield order


def sync_yields(order: Order) -> Any:
    yield order


async def many(*orders: Order) -> Order:
    return orders[0]


async def options(**options: Order) -> Order:
    return options["a"]


async def untyped(order) -> Order:  # type: ignore[no-untyped-def]
    return order  # type: ignore[no-any-return]


async def unresolved(order: NoSuchModel) -> Order:  # type: ignore[name-defined]  # noqa: F821
    return Order()


async def for_checkers_only(order: Decimal) -> Order:
    return Order()


async def no_such_attribute(order: asyncio.NoSuchThing) -> Order:  # type: ignore[name-defined]
    return Order()


class Handlers:
    async def method(self, order: Order) -> Order:
        return order


REFUSED: list[Any] = [
    (sync_yields, "endpoint sync_yields: it yields; a handler returns one value, so write `return`"),
    (lambda order: order, "parameter 'order' has no type; write `order: YourModel`"),
    (yields, "endpoint yields: it yields; a handler returns one value, so write `return`"),
    (many, r"endpoint many: a handler has no \*args or \*\*kwargs; name what it takes"),
    (options, r"endpoint options: a handler has no \*args or \*\*kwargs"),
    (untyped, "endpoint untyped: parameter 'order' has no type; write `order: YourModel`"),
    (Handlers.method, "endpoint Handlers.method: a method cannot be decorated by a service .* `@rpc` or `@subscribe`"),
    (unresolved, "unresolved: cannot find 'NoSuchModel', which an annotation names; define or import it at the top"),
    (for_checkers_only, "cannot find 'Decimal'.* outside `if TYPE_CHECKING`"),
    (no_such_attribute, "no_such_attribute: cannot find 'NoSuchThing'"),
    (Handlers, "endpoint Handlers: not a function; decorate a `def` or an `async def`"),
    (7, "endpoint 7: not a function"),
    (None, "endpoint None: not a function"),
]


@pytest.mark.parametrize(("function", "words"), REFUSED)
def test_what_cannot_be_a_handler_is_refused_with_what_to_write(function: Any, words: str) -> None:
    with pytest.raises(SignatureError, match=words):
        read_signature(function, "endpoint")


async def no_return(order: Order):  # type: ignore[no-untyped-def]
    return order


def test_an_endpoint_says_what_it_returns() -> None:
    with pytest.raises(SignatureError, match="endpoint no_return: say what it returns: `-> YourModel`, or `-> None`"):
        declare_endpoint(no_return)


async def bill(order: Order) -> None: ...


async def bill_any(order: Any) -> None: ...


async def bill_paid(order: PaidOrder) -> None: ...


async def bill_nothing() -> None: ...


async def bill_untold(order: Order):  # type: ignore[no-untyped-def]
    ...


def test_a_subscriber_returns_nothing() -> None:
    with pytest.raises(SignatureError, match="subscriber message_only: nobody takes what it returns; write `-> None`"):
        declare_subscriber("orders", "orders.placed", message_only)
    assert declare_subscriber("orders", "orders.placed", bill_untold).event is Order


FITTING = [
    (Topic("orders.placed", Order), bill, Order),
    (Topic("orders.placed", PaidOrder), bill, PaidOrder),  # the handler takes a wider type: it gets all that was sent
    (Topic("orders.placed", Order), bill_any, Order),
    (Topic("orders.placed", Order), bill_nothing, MISSING),
    ("orders.placed", bill, Order),
]


@pytest.mark.parametrize(("topic", "function", "event"), FITTING)
def test_a_subscriber_takes_what_its_topic_carries(topic: Any, function: Callable[..., Any], event: Any) -> None:
    assert declare_subscriber("orders", topic, function).event == event


CLASHING = [
    (Topic("orders.placed", Other), bill, r"bill takes Order, but Topic\('orders.placed', Other\) carries Other"),
    (Topic("orders.placed", Order), bill_paid, "bill_paid takes PaidOrder, but .* carries Order; write the same type"),
    (Topic("orders.placed", list[Order]), bill, "bill takes Order"),
]


@pytest.mark.parametrize(("topic", "function", "words"), CLASHING)
def test_a_subscriber_that_takes_another_type_than_its_topic_is_refused(
    topic: Any, function: Callable[..., Any], words: str
) -> None:
    with pytest.raises(SignatureError, match=words):
        declare_subscriber("orders", topic, function)


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"name": "a.b"}, "endpoint name 'a.b'"),
    ({"concurrency": 0}, "concurrency=0: write a whole number, 1 or more"),
    ({"concurrency": 1.5}, "concurrency=1.5"),
    ({"concurrency": -1}, "concurrency=-1"),
    ({"timeout": 0}, "timeout=0: write seconds, more than 0"),
    ({"timeout": -0.5}, "timeout=-0.5"),
    ({"timeout": float("nan")}, "timeout=nan"),
]


@pytest.mark.parametrize(("options", "words"), OPTIONS)
def test_an_option_out_of_range_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        declare_endpoint(message_only, **options)


QUEUES = [("", "orders.bill"), (None, None), ("billing", "billing"), ("all.billing", "all.billing")]


@pytest.mark.parametrize(("queue", "expected"), QUEUES)
def test_the_queue_of_a_subscriber_is_its_own_unless_it_says_otherwise(queue: str | None, expected: str | None) -> None:
    assert declare_subscriber("orders", "orders.placed", bill, queue=queue).queue == expected


@pytest.mark.parametrize("queue", ["a b", "a.*", "."])
def test_a_queue_that_cannot_be_one_is_refused(queue: str) -> None:
    with pytest.raises(UsageError, match="queue="):
        declare_subscriber("orders", "orders.placed", bill, queue=queue)


def test_a_type_that_no_codec_handles_is_refused_when_it_is_declared() -> None:
    service = Service("orders")

    class Opaque: ...

    async def odd(order: Any) -> None: ...

    odd.__annotations__["order"] = Opaque
    with pytest.raises(UsageError, match="Opaque cannot be a message"):
        service.rpc(odd)
    assert service.endpoints == {}


def test_a_partial_of_an_async_function_with_a_name_can_be_an_endpoint() -> None:
    partial = functools.partial(message_only)
    assert declare_endpoint(partial, name="quote").request is Order


def test_a_partial_without_a_name_is_refused_with_what_to_write() -> None:
    with pytest.raises(UsageError, match="name="):
        declare_endpoint(functools.partial(message_only))


async def with_default(order: Order, flag: Annotated[int, Depends(lambda: 1)] = 3) -> Order:
    return Order(id=str(flag))


async def test_a_dependency_goes_before_a_default() -> None:
    handler = read_signature(with_default, "endpoint").compile()
    assert (await handler(Order(), Context("endpoint"))).id == "1"  # type: ignore[arg-type]


async def test_a_handler_of_message_and_context_is_called_directly() -> None:
    assert read_signature(message_and_context, "endpoint").compile() is message_and_context
