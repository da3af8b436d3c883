"""publishing: what a handler returns is published, before its event is settled and its caller has the reply."""

from __future__ import annotations

import asyncio
import gc
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from eventmicro import Batch, Client, Context, InternalError, Publish, Retry, Service, SignatureError, Topic
from eventmicro.events.declare import declare_subscriber
from eventmicro.memory import MemoryBroker
from eventmicro.rpc.declare import declare_endpoint

URL = "memory://publishing"


class Order(BaseModel):
    id: str = ""


class Invoice(BaseModel):
    order: str = ""


class Paid(Invoice):
    amount: int = 0


PLACED = Topic("orders.placed", Order)
BILLED = Topic("orders.billed", Invoice, key="order")
COUNTED = Topic("orders.counted", int)


def make() -> tuple[Service, list[Any]]:
    """A service that notes what it hears of invoices and counts."""
    service, heard = Service("orders", broker=URL), list[Any]()

    @service.subscribe(BILLED)
    async def billed(invoice: Invoice) -> None:
        heard.append(invoice.order)

    @service.subscribe(COUNTED)
    async def counted(count: int) -> None:
        heard.append(count)

    return service, heard


async def until(heard: list[Any], count: int) -> list[Any]:
    while len(heard) < count:
        await asyncio.sleep(0.001)
    return heard


async def one(order: Order) -> Annotated[Invoice | None, Publish(BILLED)]:
    return Invoice(order=order.id) if order.id else None


async def optional(order: Order) -> Annotated[Invoice, Publish(BILLED)] | None:
    return Invoice(order=order.id) if order.id else None


def plain(order: Order) -> Annotated[Invoice | None, Publish(BILLED)]:
    return Invoice(order=order.id) if order.id else None


@pytest.mark.parametrize("function", [one, optional, plain])
async def test_the_returned_value_is_published_and_none_is_not(function: Any) -> None:
    service, heard = make()
    service.subscribe(PLACED)(function)
    async with service:
        for order in ("", "a", "", "b"):
            await service.publish(PLACED, Order(id=order))
        assert await until(heard, 2) == ["a", "b"]


async def test_several_are_published_in_order_and_a_tuple_to_a_topic_each() -> None:
    service, heard = make()

    @service.subscribe(PLACED)
    async def bill(order: Order) -> Annotated[list[Invoice], Publish(BILLED)]:
        return [Invoice(order=f"{order.id}{number}") for number in range(3)]

    async with service:
        await service.publish(PLACED, Order(id="a"))
        assert await until(heard, 3) == ["a0", "a1", "a2"]

    service, heard = make()

    @service.subscribe(PLACED)
    async def both(
        order: Order,
    ) -> tuple[Annotated[Invoice | None, Publish(BILLED)], Annotated[list[int], Publish(COUNTED)]]:
        return Invoice(order=order.id), [1, 2]

    async with service:
        await service.publish(PLACED, Order(id="a"))
        assert sorted(map(str, await until(heard, 3))) == ["1", "2", "a"]


async def test_one_event_goes_with_those_of_others_and_several_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    service, heard = make()
    together: list[int] = []
    publish_many = MemoryBroker.publish_many

    async def note(broker: MemoryBroker, messages: Any, **words: Any) -> None:
        together.append(len(messages))
        await publish_many(broker, messages, **words)

    @service.subscribe(PLACED)
    async def bill(order: Order) -> Annotated[list[Invoice], Publish(BILLED)]:
        return [Invoice(order=each) for each in order.id]

    async with service:
        monkeypatch.setattr(MemoryBroker, "publish_many", note)
        for order in ("a", "bc", "d"):
            await service.publish(PLACED, Order(id=order))
        assert await until(heard, 4) == ["a", "b", "c", "d"]
    assert together == [2]


async def test_a_batch_may_return_a_list() -> None:
    service, heard = make()

    @service.subscribe(PLACED, batch=Batch(size=2, within=10))
    async def bill(orders: list[Order]) -> Annotated[list[Invoice], Publish(BILLED)]:
        return [Invoice(order=order.id) for order in orders]

    async with service:
        await service.publish_many(PLACED, [Order(id="a"), Order(id="b")])
        assert await until(heard, 2) == ["a", "b"]


async def test_an_event_is_not_settled_before_what_comes_of_it_is_published() -> None:
    service, heard = make()
    attempts: list[int] = []

    async def fails_once(message: Any, context: Context, call_next: Any) -> Any:
        if context.topic == "orders.billed" and context.side == "publisher" and len(attempts) == 1:
            raise ConnectionError("the broker is away")
        return await call_next(message, context)

    service = Service("orders", broker=URL, middleware=[fails_once])

    @service.subscribe(PLACED, retry=Retry(attempts=3, backoff=0.001))
    async def bill(order: Order, context: Context) -> Annotated[Invoice, Publish(BILLED)]:
        attempts.append(context.attempt)
        return Invoice(order=order.id)

    @service.subscribe(BILLED)
    async def billed(invoice: Invoice) -> None:
        heard.append(invoice.order)

    async with service:
        await service.publish(PLACED, Order(id="a"))
        assert await until(heard, 1) == ["a"]
    assert attempts == [1, 2]


async def test_an_endpoint_replies_what_it_publishes() -> None:
    service, heard = make()

    @service.rpc
    async def bill(order: Order) -> Annotated[Invoice, Publish(BILLED)]:
        return Invoice(order=order.id)

    assert declare_endpoint(bill).reply is Invoice
    async with service, Client(URL) as client:
        assert await client.call("orders.bill", Order(id="a"), Invoice) == Invoice(order="a")
        assert await until(heard, 1) == ["a"]


async def narrower(order: Order) -> Annotated[Paid, Publish(BILLED)]:
    return Paid()


async def wrong(order: Order) -> Annotated[Order, Publish(BILLED)]:
    return order


async def wrong_items(order: Order) -> Annotated[list[int], Publish(BILLED)]:
    return []


async def unmarked(order: Order) -> Invoice:
    return Invoice()


def test_what_is_no_event_of_the_topic_is_refused() -> None:
    declare_subscriber("orders", PLACED, narrower)
    with pytest.raises(SignatureError, match=r"wrong returns Order .* which carries Invoice; write the same"):
        declare_subscriber("orders", PLACED, wrong)
    with pytest.raises(SignatureError, match=r"wrong_items returns int to be published"):
        declare_subscriber("orders", PLACED, wrong_items)
    with pytest.raises(SignatureError, match=r"nobody takes what it returns; .* `-> Annotated\[YourModel, Publish"):
        declare_subscriber("orders", PLACED, unmarked)


@pytest.mark.parametrize("topic", [Topic("orders.*", Order), Topic("orders.{id}", Order)])
def test_a_topic_that_is_not_exact_is_refused(topic: Any) -> None:
    with pytest.raises(SignatureError, match=r"an event goes to one exact subject; .*TOPIC.at\(...\)"):
        Publish(topic)
    with pytest.raises(SignatureError, match="write the Topic itself"):
        Publish("orders.placed")  # type: ignore[arg-type]


async def bill(order: Order) -> Invoice:
    return Invoice(order=order.id)


async def unawaited(order: Order) -> Annotated[Invoice, Publish(BILLED)]:
    return bill(order)  # type: ignore[return-value]


async def unawaited_list(order: Order) -> Annotated[list[Invoice], Publish(BILLED)]:
    return bill(order)  # type: ignore[return-value]


async def unawaited_pair(order: Order) -> tuple[Annotated[Invoice, Publish(BILLED)], int]:
    return bill(order)  # type: ignore[return-value]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("handler", [unawaited, unawaited_list, unawaited_pair])
async def test_what_nobody_has_awaited_is_not_published_and_told_with_the_mend(
    handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service, heard = make()
    service.rpc(handler)
    async with service, Client(URL) as client:
        with pytest.raises(InternalError):
            await client.call(f"orders.{handler.__name__}", Order(id="7"))
    gc.collect()
    assert heard == []
    assert (
        "the handler returned a coroutine, that of bill, which nobody has awaited: write `return await" in caplog.text
    )
