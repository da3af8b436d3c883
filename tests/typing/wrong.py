"""What a type checker must refuse: every line marked WRONG, and no other. Checked by test_typing.py, not run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from pydantic import BaseModel

from eventmicro import (
    CallRetry,
    Client,
    Context,
    Contract,
    Nack,
    Publish,
    Retry,
    Router,
    Service,
    SyncClient,
    Topic,
    from_thread,
    rpc,
    sides,
)
from eventmicro.middlewares import CircuitBreaker, RateLimit, in_order
from eventmicro.testing import World


class Order(BaseModel):
    id: str = ""


class Quote(BaseModel):
    total: float = 0.0


ORDERS = Topic("orders.placed", Order)
EITHER: Topic[Order | Quote] = Topic("orders.either", Order | Quote, told_by="Kind")
service = Service("orders")

Topic(7, Order)  # WRONG a subject is a string
Topic("orders.placed", Order, key=lambda order: order.nothing)  # WRONG an order has no such field
Service("orders", broker=7)  # WRONG neither a URL nor a broker
Service("orders", brokers="memory://")  # WRONG no such option
Client(7)  # WRONG neither a URL nor a broker
Nack("5")  # WRONG seconds are a number
Client(compression="brotli")  # WRONG gzip or zstd
Client(content_type=7)  # WRONG a content type is a name
Topic("orders.placed", Order, compression=True)  # WRONG its name, or a Compression
Service("orders", codecs=[Order])  # WRONG no codec
service.subscribe(ORDERS, dead_letter=True)  # WRONG a subject, or False for nowhere
service.subscribe(ORDERS, durable="yes")  # WRONG it is or it is not
service.subscribe(ORDERS, retry=CallRetry())  # WRONG that is for calls
service.rpc(idempotent="yes")  # WRONG it is or it is not
CallRetry(on=7)  # WRONG exception classes, or a function
CallRetry(on=lambda: True)  # WRONG a function of the error
CircuitBreaker(on_change=lambda: None)  # WRONG a function of the circuit
RateLimit(5, by="tenant")  # WRONG a function of the context
in_order(7)  # WRONG not a middleware


@service.rpc
async def quote(request: Order) -> Quote:
    return Quote()


@sides("endpoint")  # WRONG not a middleware
async def no_middleware(message: Order) -> None: ...


async def calls(client: Client) -> None:
    reply: int = await client.call("orders.quote", Order(), Quote)  # WRONG the reply is a Quote
    print(reply)
    await client.call("orders.quote", Order(), Quote, timeout="2")  # WRONG seconds are a number
    await client.call("orders.quote", Order(), Quote, metadata={"a": 1})  # WRONG values are strings
    await client.call("orders.quote", Order(), Quote, content_type=b"json")  # WRONG a content type is a name
    await client.call("orders.quote", Order(), Quote, retry=Retry())  # WRONG that is for events
    await client.call("orders.quote", Order(), Quote, retry=3)  # WRONG a policy, not a number
    await client.call("orders.quote", Order(), Quote, hedge="soon")  # WRONG seconds are a number
    await client.call("orders.quote", Order(), Quote, idempotent="yes")  # WRONG it is or it is not
    await client.call("orders.quote", Order(), Quote, large="object")  # WRONG that is for events
    await client.publish("orders.placed", Order(), large="stream")  # WRONG that is for calls
    Client("memory://", max_large="64 MiB")  # WRONG a number of bytes


async def streams(client: Client) -> None:
    async for each in client.stream("orders.every", Order(), Quote):
        number: int = each  # WRONG it is a stream of quotes
        print(number)
    async with client.stream("orders.sum", reply=Quote) as orders:
        text: str = await orders.reply()  # WRONG the reply is a Quote
        print(text)
    client.stream("orders.every", Order(), Quote, timeout="2")  # WRONG seconds are a number
    client.stream("orders.every", Order(), Quote, patience=2)  # WRONG no such option


async def publishes(client: Client) -> None:
    await client.publish(ORDERS, Quote())  # WRONG the topic carries orders
    await client.publish(ORDERS, Order(), content_type=7)  # WRONG a content type is a name
    await client.publisher(ORDERS).publish(Quote())  # WRONG the topic carries orders
    await service.publish(ORDERS, {"id": "7"})  # WRONG the topic carries orders
    await service.publish(EITHER, 7)  # WRONG neither an order nor a quote
    await client.publish_many(ORDERS, [Order(), Quote()])  # WRONG the topic carries orders
    Topic("orders.either", Order | Quote, told_by=7)  # WRONG the name of a header


@service.rpc
async def by_fields(sku: str, quantity: int = 1) -> Quote:
    return Quote()


@service.rpc
def plain(request: Order) -> Quote:
    return Quote()


async def shapes(client: Client) -> None:
    await by_fields(quantity=2)  # WRONG it needs a sku
    await by_fields("tea", quantity="2")  # WRONG it is a number
    plain(Quote())  # WRONG it takes an order
    await client.publish(ORDERS.at(region=1.5), Order())  # WRONG no token of a subject
    await client.publish(ORDERS.at(region="a"), Quote())  # WRONG the topic carries orders
    Publish("orders.placed")  # WRONG a Topic
    Router(prefix=5)  # WRONG a text
    Router(delivery={"retry": None})  # WRONG DeliveryOptions
    Service("orders", threads="many")  # WRONG a number
    from_thread(5)  # WRONG nothing to await


async def decorated() -> None:
    await quote(Quote())  # WRONG the endpoint takes an order
    text: str = await quote(Order())  # WRONG it returns a Quote
    print(text)


def contexts(context: Context) -> None:
    context.metadata["a"] = 1  # WRONG values are strings
    context.user = "ann"  # WRONG no such attribute


class Orders(Contract, Protocol, service="orders"):
    async def quote(self, request: Order) -> Quote: ...
    def watch(self, request: Order) -> AsyncIterator[Quote]: ...
    async def total(self, items: AsyncIterator[Order]) -> Quote: ...
    @rpc(timeout="2")  # WRONG seconds are a number
    async def late(self) -> None: ...


class Few(Orders):
    async def quote(self, request: Order) -> Quote:
        return Quote()


class Differing(Orders):
    async def quote(self, request: Order) -> int:  # WRONG the contract says Quote
        return 1


async def stubs(client: Client) -> None:
    orders = client.stub(Orders)
    await orders.quote(Quote())  # WRONG it takes an order
    await orders.quote()  # WRONG it takes an order
    text: str = await orders.quote(Order())  # WRONG it replies a Quote
    print(text)
    async for number in orders.watch(Order()):
        total: int = number  # WRONG each is a Quote
        print(total)
    await orders.watch(Order())  # WRONG a stream is not awaited
    await orders.total([Order()])  # WRONG a list is no stream
    await orders.nothing()  # WRONG it has no such method
    client.stub(Order)  # WRONG a model is no contract
    client.stub(Orders, timeout="2")  # WRONG seconds are a number
    client.stub(Orders, timeouts=2)  # WRONG no such option
    Few()  # WRONG it lacks two methods
    service.implements(Order)  # WRONG a model is no contract


async def reading(client: Client) -> None:
    async for order in client.read(ORDERS):
        number: int = order  # WRONG it is an order
        print(number)
    client.read(ORDERS, since=7)  # WRONG days, or seconds?
    client.events("orders.placed")  # WRONG a topic says what is read


async def running() -> None:
    await service.start_subscriber(ORDERS, print, concurency=3)  # WRONG no such option
    await service.start_subscriber(ORDERS)  # WRONG it needs a handler


def sync_client(sync: SyncClient) -> None:
    total: str = sync.call("orders.quote", Order(), Quote)  # WRONG it replies a Quote
    print(total)
    sync.publish(ORDERS, Quote())  # WRONG it takes orders
    sync.call("orders.quote", Order(), Quote, patienze=3)  # WRONG no such option
    SyncClient("memory://", timeouts=2)  # WRONG no such option


async def testing(world: World) -> None:
    numbers: list[int] = world.published(ORDERS)  # WRONG they are orders
    print(numbers, world.messages(ORDERS)[0].value.nothing)  # WRONG an order has no such field
    quote: Quote = world.called("orders.quote", Order)[0].reply  # WRONG it is an order, or none
    print(quote)
    world.fail("orders.quote", "no")  # WRONG an error is raised
    world.drop(Order)  # WRONG neither a topic nor a name
    await world.advance("1")  # WRONG seconds are a number
    World("orders")  # WRONG services are started
    World(service, brokers="memory://")  # WRONG no such option
