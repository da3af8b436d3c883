"""What a type checker must take, and the types it must see. Checked by test_typing.py, not run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Protocol, assert_type

from eventmicro_nats import NatsBroker
from pydantic import BaseModel

from eventmicro import (
    Answer,
    CallRetry,
    Client,
    Compression,
    Context,
    Contract,
    DeliveryOptions,
    Depends,
    MemoryBroker,
    Publish,
    Publisher,
    Reply,
    Retry,
    Router,
    RunningSubscriber,
    Service,
    Stream,
    SyncClient,
    Topic,
    Unavailable,
    current_context,
    from_thread,
    rpc,
    sides,
    subscribe,
)
from eventmicro.broker import Broker
from eventmicro.codec import Decoder, Encoder
from eventmicro.errors import ServiceError
from eventmicro.middleware import Handler, Middleware
from eventmicro.middlewares import (
    Circuit,
    CircuitBreaker,
    ConcurrencyLimit,
    Deduplicate,
    Fallback,
    LogMessages,
    RateLimit,
    ReplyCache,
    State,
    Timeout,
    ValidateReplies,
    in_order,
    only,
)
from eventmicro.testing import Called, Dead, Fault, Handled, Published, World


class Order(BaseModel):
    id: str = ""


class Paid(Order):
    amount: float = 0.0


class Quote(BaseModel):
    total: float = 0.0


class Yaml:
    content_type = "application/yaml"

    def handles(self, kind: Any) -> bool:
        return True

    def encoder(self, kind: Any) -> Encoder:
        return lambda value: b""

    def decoder(self, kind: Any) -> Decoder:
        return lambda body: None


ORDERS = Topic("orders.placed", Order)
assert_type(ORDERS, Topic[Order])
assert_type(Topic("orders.ids", int), Topic[int])
assert_type(Topic("orders.placed", Order, key=lambda order: order.id), Topic[Order])
anything: Topic[Any] = Topic("orders.either", Order | None)
either: Topic[Order | Quote] = Topic("orders.either", Order | Quote, told_by="Kind")
assert_type(either, Topic[Order | Quote])

assert_type(Topic("orders.placed", Order, content_type="msgpack", compression="zstd"), Topic[Order])

memory: Broker = MemoryBroker()
nats: Broker = NatsBroker()

service = Service("orders", broker="memory://")
Service("orders", broker=memory)
Client(nats)
Client(nats, content_type="json-rpc", compression=Compression("gzip", threshold=100), max_decompressed=1_000_000)
Service("orders", codecs=[Yaml()], content_type="yaml", compression="gzip")


def one() -> int:
    return 1


@service.rpc
async def quote(request: Order, context: Context) -> Quote:
    assert_type(context.metadata, dict[str, str])
    assert_type(context.remaining(), float | None)
    return Quote()


@service.rpc(name="named", timeout=1.0)
async def with_options(request: Order, number: Annotated[int, Depends(one)]) -> Quote:
    return Quote(total=number)


@service.rpc(idempotent=True, middleware=[ConcurrencyLimit(100), ValidateReplies()])
async def may_run_twice(request: Order) -> Quote:
    return Quote()


@service.subscribe(ORDERS)
async def bill(event: Order) -> None: ...


@service.subscribe(ORDERS, name="again", dead_letter=False)
async def bill_again(event: Order) -> None: ...


@service.subscribe("orders.>", queue=None)
async def watch(event: Any) -> None: ...


@service.rpc
async def every(request: Order, context: Context) -> AsyncIterator[Quote]:
    yield Quote()


@service.rpc(name="sum", timeout=10.0)
async def total(requests: AsyncIterator[Order]) -> Quote:
    return Quote(total=len([each async for each in requests]))


@service.rpc
async def talk(requests: AsyncIterator[Order]) -> AsyncIterator[Quote]:
    async for _ in requests:
        yield Quote()


class Handlers:
    @rpc
    async def every(self, request: Order) -> AsyncIterator[Quote]:
        yield Quote()

    @rpc(name="sum")
    async def total(self, requests: AsyncIterator[Order]) -> Quote:
        return Quote()

    @rpc
    async def quote(self, request: Order) -> Quote:
        return Quote()

    @rpc(name="again")
    async def again(self, request: Order) -> Quote:
        return Quote()

    @subscribe(ORDERS)
    async def bill(self, event: Order) -> None: ...


@service.before_start
async def before() -> int:
    return 1


@sides("endpoint")
async def middleware(message: Any, context: Context, call_next: Handler) -> Any:
    return await call_next(message, context)


chain: list[Middleware] = [middleware]
Client("memory://", middleware=chain)


def instead(request: Any, context: Context, error: Exception) -> Quote:
    return Quote()


def tell(circuit: Circuit) -> None:
    assert_type(circuit.state, State)
    assert_type(circuit.failures, int)


breaker = CircuitBreaker(on=Unavailable, on_change=tell)
ready = in_order(
    LogMessages(),
    only(Fallback(instead), "orders.quote"),
    ReplyCache(60, key=lambda message, context: context.topic),
    Deduplicate(),
    RateLimit(5, by=lambda context: context.metadata.get("Tenant", "")),
    breaker,
    middleware,
    Timeout(2),
)
assert_type(ready, list[Middleware])
policy = CallRetry(attempts=3, on=lambda error: isinstance(error, Unavailable))
Client("memory://", middleware=ready, retry=policy, hedge=0.05)
Service("orders", retry=CallRetry(on=(Unavailable, TimeoutError)), middleware=[breaker])
for each in breaker:
    tell(each)


QUOTES = Topic("quotes.{region}", Quote)
assert_type(QUOTES.at(region="north"), Topic[Quote])
MADE = Topic("quotes.made", Quote)


@service.rpc
async def by_fields(sku: str, quantity: int = 1) -> Annotated[Quote, Publish(MADE)]:
    return Quote(total=quantity)


@service.rpc
def plain(request: Order, context: Context) -> Quote:
    assert_type(from_thread(service.call("orders.quote", request, Quote)), Quote)
    return Quote()


@service.rpc
def plain_stream(request: Order) -> Iterator[Quote]:
    yield Quote()


@service.subscribe([ORDERS, "orders.*.paid"])
def several(event: Order | Quote) -> None: ...


@service.subscribe(QUOTES, transactional=True)
async def of_region(event: Quote, region: str) -> Annotated[list[Quote] | None, Publish(MADE)]:
    return [event]


router = Router(prefix="admin_", delivery=DeliveryOptions(retry=Retry(attempts=3)), timeout=2.0)


@router.rpc
async def admin(user: str, reason: str = "") -> bool:
    return bool(user)


async def shapes() -> None:
    service.include(router)
    assert_type(await by_fields("tea", quantity=2), Quote)
    assert_type(plain(Order(), current_context()), Quote)
    assert_type(await admin("ann"), bool)
    await service.publish(QUOTES.at(region="north"), Quote())


@contextmanager
def plain_lifespan() -> Generator[str, None, None]:
    yield ""


def bare_lifespan() -> Iterator[str]:
    yield ""


Service("orders", lifespan=plain_lifespan, threads=4, delivery=DeliveryOptions(timeout=30))
Service("orders", lifespan=bare_lifespan)


async def decorated_functions_keep_their_types() -> None:
    assert_type(await quote(Order(), current_context()), Quote)
    assert_type(await with_options(Order(), 1), Quote)
    assert_type(await Handlers().quote(Order()), Quote)
    assert_type(await Handlers().again(Order()), Quote)
    assert_type(await before(), int)
    assert_type([each async for each in every(Order(), current_context())], list[Quote])
    assert_type([each async for each in Handlers().every(Order())], list[Quote])
    assert_type(await total(talk_to_nobody()), Quote)
    assert_type(await anext(talk(talk_to_nobody())), Quote)
    await bill(Order())
    await Handlers().bill(Order())


async def a_call_has_the_type_of_its_reply(client: Client) -> None:
    assert_type(await client.call("orders.quote", Order(), Quote), Quote)
    assert_type(await client.call("orders.quote", Order(), Quote, timeout=2.0, metadata={"a": "b"}), Quote)
    assert_type(await client.call("orders.quote", Order(), Quote, content_type="msgpack"), Quote)
    assert_type(await client.call("orders.blob", b"", bytes), bytes)
    async for answer in client.call_all("orders.quote", Order(), Quote, within=0.5):
        assert_type(answer, Answer[Quote])
        assert_type(answer.value, Quote)
    async for nothing in service.call_all("orders.ping"):
        assert_type(nothing, Answer[None])
    async for order in client.read(ORDERS):
        assert_type(order, Order)
    async with client.events(ORDERS, limit=10) as coming:
        async for order in coming:
            assert_type(order, Order)
    running = await service.start_subscriber(ORDERS, bill, name="late", concurrency=3)
    assert_type(running, RunningSubscriber)
    with_metadata = await client.call("orders.quote", Order(), Reply[Quote])
    assert_type(with_metadata, Reply[Quote])
    assert_type(with_metadata.value, Quote)
    assert_type(with_metadata.metadata["X-Cost"], str)
    assert_type(await service.call("orders.quote", Order(), Quote), Quote)
    assert_type(await client.call("orders.quote", Order(), Quote, retry=policy, hedge=0.1, idempotent=True), Quote)
    assert_type(await client.call("orders.quote", Order(), Quote, large="stream"), Quote)
    await client.call("orders.ping")
    await client.call("orders.ping", Order(), None)


async def talk_to_nobody() -> AsyncIterator[Order]:
    yield Order()


async def a_stream_has_the_type_of_its_messages(client: Client) -> None:
    assert_type(client.stream("orders.every", Order(), Quote), Stream[Quote])
    async for each in client.stream("orders.every", Order(), Quote, timeout=60, keep_alive=5):
        assert_type(each, Quote)
    async with client.stream("orders.talk", reply=Quote, metadata={"a": "b"}, key="7") as talking:
        assert_type(talking, Stream[Quote])
        await talking.send(Order())
        assert_type(await anext(talking), Quote)
        await talking.end()
        assert_type([each async for each in talking], list[Quote])
    async with service.stream("orders.sum", reply=Quote) as orders:
        assert_type(await orders.reply(), Quote)
    async with client.stream("orders.sink") as sink:
        assert_type(sink, Stream[None])
    either: Stream[Any] = client.stream("orders.either", None, Quote | None)
    await either.aclose()


async def a_topic_takes_its_events_and_a_subject_any(client: Client) -> None:
    await client.publish(ORDERS, Order())
    await client.publish(ORDERS, Paid())
    await client.publish("orders.placed", Quote())
    publisher = client.publisher(ORDERS)
    assert_type(publisher, Publisher[Order])
    assert_type(publisher.topic, Topic[Order])
    await publisher.publish(Order())
    await publisher.publish(Order(), content_type="cbor")
    await publisher.publish(Order(), large="object")
    assert_type(Topic("orders.placed", Order, large="object"), Topic[Order])
    await client.publish(ORDERS, Order(), content_type="application/msgpack")
    await client.publish_many(ORDERS, [Order()], content_type="bson")
    assert_type(service.publisher(ORDERS), Publisher[Order])


async def a_client_and_a_service_are_context_managers() -> None:
    async with Client("memory://") as client, service as started:
        assert_type(client, Client)
        assert_type(started, Service)
        assert_type(service.client, Client)


def an_error_says_what_it_is(error: ServiceError) -> None:
    assert_type(error.code, int)
    assert_type(error.retryable, bool)
    assert_type(error.detail, str)
    assert_type(error.attempts, int)
    assert_type(error.retry_after, float | None)


class Orders(Contract, Protocol, service="orders", version="1.2.0"):
    @rpc(timeout=2.0, idempotent=True)
    async def quote(self, request: Order) -> Quote: ...
    async def ping(self) -> None: ...
    @rpc(timeout=60.0)
    def watch(self, request: Order) -> AsyncIterator[Quote]: ...
    async def total(self, items: AsyncIterator[Order]) -> Quote: ...
    def talk(self, lines: AsyncIterator[Order]) -> AsyncIterator[Quote]: ...


async def orders_placed() -> AsyncIterator[Order]:
    yield Order()


async def a_stub_has_the_types_of_its_contract(client: Client) -> None:
    orders = client.stub(Orders)
    assert_type(orders, Orders)
    assert_type(service.stub(Orders, service="orders", timeout=1.0, metadata={"a": "b"}, key="7"), Orders)
    assert_type(await orders.quote(Order()), Quote)
    assert_type(await client.stub(Orders, timeout=0.5).quote(request=Paid()), Quote)
    await orders.ping()
    async for quote in orders.watch(Order()):
        assert_type(quote, Quote)
    assert_type(await orders.total(orders_placed()), Quote)
    async for quote in orders.talk(orders_placed()):
        assert_type(quote, Quote)


@service.implements(Orders)
class OrdersHandler:
    async def quote(self, request: Order, context: Context) -> Quote:
        return Quote()


class FakeOrders(Orders):
    """What stands in for a stub in a test."""

    async def quote(self, request: Order) -> Quote:
        return Quote()

    async def ping(self) -> None: ...

    async def watch(self, request: Order) -> AsyncIterator[Quote]:
        yield Quote()

    async def total(self, items: AsyncIterator[Order]) -> Quote:
        return Quote()

    async def talk(self, lines: AsyncIterator[Order]) -> AsyncIterator[Quote]:
        async for _ in lines:
            yield Quote()


stands_in: Orders = FakeOrders()
assert_type(OrdersHandler(), OrdersHandler)
service.implements(Orders, OrdersHandler())


def sync_client(client: SyncClient, topic: Topic[Paid]) -> None:
    assert_type(client.call("orders.quote", Order(), Quote), Quote)
    assert_type(client.call("orders.forget", Order(), patience=3), None)
    for quote in client.stream("orders.watch", Order(), Quote):
        assert_type(quote, Quote)
    with client.stream("orders.total", reply=Quote) as items:
        items.send(Order())
        assert_type(items.reply(), Quote)
    client.publish(topic, Paid())
    client.publish_many(topic, [Paid()], id=lambda paid: paid.id)
    assert_type(client.run(lambda each: each.call("orders.quote", Order(), Quote)), Quote)
    with SyncClient("nats://127.0.0.1", retry=CallRetry(), patience=3) as opened:
        assert_type(opened, SyncClient)


def retries() -> None:
    Retry(on=lambda error: isinstance(error, ServiceError) and error.code == 409)
    Retry(on=(OSError, Unavailable))


async def testing(topic: Topic[Order]) -> None:
    async with World(service, broker="nats://127.0.0.1", overrides={one: lambda: 2}, quiet=0.5, patience=1) as world:
        assert_type(world, World)
        assert_type(world.client, Client)
        assert_type(world.published(topic, where=lambda order: order == Order()), list[Order])
        assert_type(world.published("orders.>", where=lambda order: order["sku"] == "tea"), list[Any])
        assert_type(world.messages(topic), list[Published[Order]])
        assert_type(world.messages(topic)[0].value, Order)
        assert_type(world.handled(topic), list[Handled[Order]])
        assert_type(world.handled("orders.bill"), list[Handled[Any]])
        assert_type(world.called("orders.quote"), list[Called[Any, Any]])
        assert_type(world.called("orders.quote", Quote), list[Called[Any, Quote]])
        assert_type(world.called("orders.quote", Quote, Order), list[Called[Order, Quote]])
        assert_type(world.called("orders.quote", Quote, Order)[0].reply, Quote | None)
        assert_type(world.dead(topic)[0], Dead[Order])
        assert_type(world.dead(), list[Dead[Any]])
        with world.fail("orders.quote", Unavailable("no"), times=2, where=lambda order: order.id > 1) as fault:
            assert_type(fault, Fault)
        world.fail(topic, Unavailable)
        with world.delay(topic, 2), world.drop("orders.>"), world.duplicate(topic, times=1):
            await world.advance(30)
        with world.override(one, lambda: 2):
            await world.idle(within=10)
        world.golden("orders.json", topic, "orders.quote", without=["date"])


async def in_a_world(world: World) -> int:
    return 7


assert_type(World(service).run(in_a_world), int)
