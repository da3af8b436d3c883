"""router: handlers written down apart from a service, with what they have in common; lists of topics."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from eventmicro import (
    Batch,
    Client,
    Context,
    DeliveryOptions,
    NotFound,
    Retry,
    Router,
    Service,
    SignatureError,
    Topic,
    UsageError,
    rpc,
    subscribe,
)

URL = "memory://router"


class Placed(BaseModel):
    id: str = ""


class Paid(BaseModel):
    amount: int = 0


PLACED, PAID = Topic("orders.placed", Placed), Topic("orders.paid", Paid)


def noting(log: list[str], name: str) -> Any:
    async def note(message: Any, context: Context, call_next: Any) -> Any:
        log.append(f"{name} {context.side}")
        return await call_next(message, context)

    return note


async def until(seen: list[Any], count: int) -> list[Any]:
    while len(seen) < count:
        await asyncio.sleep(0.001)
    return seen


async def ping() -> str:
    return "pong"


async def bill(event: Placed) -> None: ...


async def test_a_router_s_handlers_are_those_of_the_services_that_include_it() -> None:
    router = Router(prefix="admin_")
    router.rpc(ping)
    router.subscribe(PLACED)(bill)
    first, second = Service("first", broker=URL), Service("second", broker=URL)
    for service in (first, second):
        service.include(router)
    assert [each.queue for each in second.subscribers.values()] == ["second.admin_bill"]
    async with first, second, Client(URL) as client:
        for name in ("first", "second"):
            assert await client.call(f"{name}.admin_ping", None, str) == "pong"
        with pytest.raises(NotFound):
            await client.call("first.ping", None, str)


async def test_middleware_runs_from_the_outside_to_the_inside() -> None:
    log = list[str]()
    inner = Router(prefix="in_", middleware=[noting(log, "inner")])
    inner.rpc(name="ping", middleware=[noting(log, "own")])(ping)
    outer = Router(prefix="out_", middleware=[noting(log, "outer")])
    outer.include(inner, prefix="mid_")
    service = Service("orders", broker=URL, middleware=[noting(log, "service")])
    service.include(outer, prefix="v1_")
    assert list(service.endpoints) == ["v1_out_mid_in_ping"]
    async with service, Client(URL) as client:
        await client.call("orders.v1_out_mid_in_ping", None, str)
    assert log == [f"{name} endpoint" for name in ("service", "outer", "inner", "own")]


async def test_objects_with_marked_methods_are_added_to_a_router() -> None:
    class Orders:
        @rpc(name="find")
        async def ping(self) -> str:
            return "found"

        @subscribe([PLACED, PAID])
        async def look(self, event: Placed | Paid) -> None: ...

    router = Router(prefix="x_")
    router.add(Orders())
    service = Service("orders", broker=URL)
    service.include(router)
    assert list(service.endpoints) == ["x_find"]
    assert list(service.subscribers) == ["x_look-orders-placed", "x_look-orders-paid"]


def test_what_a_handler_says_holds_before_its_router_and_its_router_before_the_service() -> None:
    common = DeliveryOptions(retry=Retry(attempts=9), concurrency=7, timeout=30)
    service = Service("orders", delivery=common)
    router = Router(delivery=DeliveryOptions(concurrency=3, retry=Retry(attempts=2)), timeout=5, internal=True)
    inner = Router(delivery=DeliveryOptions(retry=None), concurrency=4)
    service.subscribe(PLACED, name="plain")(bill)
    service.subscribe(PLACED, name="own", concurrency=1, retry=None)(bill)
    router.subscribe(PLACED, name="routed")(bill)
    inner.subscribe(PLACED, name="nested")(bill)
    inner.rpc(name="nested_ping")(ping)
    router.rpc(name="routed_ping", timeout=1)(ping)
    router.include(inner)
    service.include(router)

    def said(name: str) -> tuple[Any, ...]:
        options = service.subscribers[name].options
        return options.concurrency, options.timeout, options.retry and options.retry.attempts

    assert said("plain") == (7, 30, 9)
    assert said("own") == (1, 30, None)
    assert said("routed") == (3, 30, 2)
    assert said("nested") == (3, 30, None)
    nested, routed = service.endpoints["nested_ping"], service.endpoints["routed_ping"]
    assert (nested.timeout, nested.concurrency, nested.internal) == (5, 4, True)
    assert (routed.timeout, routed.concurrency, routed.internal) == (1, 1000, True)


def test_a_default_that_does_not_go_with_what_a_handler_says_is_named() -> None:
    service = Service("orders", delivery=DeliveryOptions(retry=Retry(attempts=9)))
    with pytest.raises(UsageError, match=r"retry do not go together.*; delivery= of service 'orders' says retry"):
        service.subscribe(PLACED, ack="before")(bill)
    service.subscribe(PLACED, ack="before", retry=None)(bill)


REFUSED: list[tuple[Any, str]] = [
    (lambda: Router(prefix=5), "prefix=5"),  # type: ignore[arg-type]
    (lambda: Router(middleware=[5]), "middleware 5: write"),  # type: ignore[list-item]
    (lambda: Router(delivery={"retry": None}), "delivery="),  # type: ignore[arg-type]
    (lambda: Router(delivery=DeliveryOptions(queue="all")), "queue='all' would be shared by all subscribers"),
    (lambda: Service("a", delivery=DeliveryOptions(queue="all")), "queue='all' would be shared by all subscribers"),
    (lambda: Service("a", delivery=5), "delivery=5"),  # type: ignore[arg-type]
    (lambda: Service("a").include(5), r"include\(5\): give another Router"),  # type: ignore[arg-type]
    (lambda: Router(prefix="a.").rpc(ping), "endpoint name 'a.ping'"),
    (lambda: Router(timeout=-1).rpc(ping), "timeout=-1"),
    (lambda: Router().subscribe(5), "a subscriber names its topic"),  # type: ignore[arg-type]
    (lambda: Router().subscribe([]), "a subscriber to no topic would get nothing"),
    (lambda: Router().subscribe([PLACED, 5]), "a subscriber names its topic"),  # type: ignore[list-item]
    (lambda: Router().subscribe(PAID)(bill), r"bill takes Placed, but Topic\('orders.paid', Paid\) carries Paid"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_what_cannot_be_is_refused_where_it_is_written(make: Any, words: str) -> None:
    with pytest.raises((UsageError, SignatureError), match=words):
        make()


def test_a_router_that_is_included_takes_no_more() -> None:
    router, service = Router(), Service("orders")
    router.rpc(ping)
    service.include(router)
    with pytest.raises(UsageError, match="this router is included already, and bill would be missed"):
        router.subscribe(PLACED)(bill)
    with pytest.raises(UsageError, match="has a handler 'ping' already"):
        service.include(router)


# -- several topics ------------------------------------------------------------------------------------------------


async def test_one_function_subscribes_to_several_topics_with_a_queue_each() -> None:
    service, seen = Service("orders", broker=URL), list[Any]()

    @service.subscribe([PLACED, PAID, "orders.*.>"])
    async def look(event: Placed | Paid, context: Context) -> None:
        seen.append((type(event), context.topic))

    queues = [each.queue for each in service.subscribers.values()]
    assert queues == ["orders.look-orders-placed", "orders.look-orders-paid", "orders.look-orders-any-all"]


async def test_each_topic_s_events_come_as_their_type() -> None:
    service, seen = Service("orders", broker=URL), list[Any]()

    @service.subscribe([PLACED, PAID], queue="looking", name="watch")
    async def look(event: Placed | Paid) -> None:
        seen.append(event)

    @service.subscribe((PLACED, PAID))
    def anything() -> None:
        seen.append("any")

    assert [each.queue for each in service.subscribers.values()][:2] == ["looking-orders-placed", "looking-orders-paid"]
    async with service:
        await service.publish(PLACED, Placed(id="a"))
        await service.publish(PAID, Paid(amount=3))
        await until(seen, 4)
    assert [each for each in seen if each != "any"] == [Placed(id="a"), Paid(amount=3)]


def test_a_topic_whose_type_the_handler_does_not_take_is_named() -> None:
    with pytest.raises(SignatureError, match=r"bill takes Placed, but Topic\('orders.paid', Paid\) carries Paid"):
        Service("orders").subscribe([PLACED, PAID])(bill)
    with pytest.raises(UsageError, match="has a handler 'bill-orders-placed' already"):
        Service("orders").subscribe([PLACED, PLACED])(bill)


async def of_all(events: list[Placed]) -> None: ...


def test_batches_of_several_topics_come_apart() -> None:
    service = Service("orders")
    service.subscribe([PLACED, Topic("orders.moved", Placed)], batch=Batch(size=2))(of_all)
    assert [each.event for each in service.subscribers.values()] == [Placed, Placed]


class PlacedEvent(BaseModel):
    kind: Literal["placed"] = "placed"
    id: str = ""


class PaidEvent(BaseModel):
    kind: Literal["paid"] = "paid"
    amount: int = 0


async def test_events_of_several_types_on_one_subject_are_told_apart_and_any_other_is_a_dead_letter() -> None:
    events: Topic[Any] = Topic("orders.events", PlacedEvent | PaidEvent)
    service, seen, letters = Service("orders", broker=URL), list[Any](), list[str]()

    @service.subscribe(events)
    async def look(event: PlacedEvent | PaidEvent) -> None:
        seen.append(event)

    @service.subscribe("dead.orders.look")
    async def letter(letter: dict[str, str], context: Context) -> None:
        letters.append(context.metadata["Dead-Letter-Reason"])

    async with service:
        await service.publish(events, PaidEvent(amount=3))
        await service.publish("orders.events", {"kind": "moved"})
        await service.publish(events, PlacedEvent(id="a"))
        assert await until(seen, 2) == [PaidEvent(amount=3), PlacedEvent(id="a")]
        await until(letters, 1)
    assert "kind" in letters[0]
    assert "'placed'" in letters[0]
