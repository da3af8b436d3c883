"""transactional: what a handler returns is published with the acknowledgement of its event, or neither is done."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from eventmicro import (
    Batch,
    Client,
    Context,
    DeliveryOptions,
    Disconnected,
    NotStored,
    Publish,
    Publishing,
    Reject,
    Retry,
    Service,
    Topic,
    Unsupported,
    UsageError,
)
from eventmicro.broker import Capabilities, Durable
from eventmicro.handlers import inflight
from eventmicro.memory import MemoryBroker
from eventmicro.message import Delivery, Message
from eventmicro.testing import World

URL = "memory://transactional"


class Order(BaseModel):
    id: str = ""
    text: str = ""


class Invoice(BaseModel):
    order: str = ""
    text: str = ""


PLACED = Topic("orders.placed", Order)
BILLED = Topic("orders.billed", Invoice, key="order")
COUNTED = Topic("orders.counted", int)
SHORT = Retry(attempts=2, backoff=0.001)


class Noting(MemoryBroker):
    """Notes how it is asked to publish."""

    def __init__(self) -> None:
        super().__init__(URL)
        self.plainly: list[str] = []
        self.with_acks: list[tuple[list[str], int]] = []

    def try_publish(self, message: Message) -> bool:
        self.plainly.append(message.subject)
        return super().try_publish(message)

    async def publish(self, message: Message, **words: Any) -> None:
        self.plainly.append(message.subject)
        await super().publish(message, **words)

    async def publish_and_ack(
        self, messages: Sequence[Message], deliveries: Sequence[Delivery], *, timeout: float = 10.0
    ) -> None:
        self.with_acks.append(([message.subject for message in messages], len(deliveries)))
        await super().publish_and_ack(messages, deliveries, timeout=timeout)


def make(**words: Any) -> tuple[Service, Noting, list[str]]:
    """A service that notes the invoices that it hears of."""
    broker, heard = Noting(), list[str]()
    service = Service("orders", broker=broker, **words)

    @service.subscribe(BILLED)
    async def billed(invoice: Invoice) -> None:
        heard.append(invoice.order)

    return service, broker, heard


async def settled(broker: MemoryBroker, queue: str = "orders.bill") -> None:
    while (state := await broker.queue_state(queue)) is None or state.waiting or state.unsettled:
        await asyncio.sleep(0.001)


async def test_all_that_is_returned_is_published_with_the_acknowledgement() -> None:
    service, broker, heard = make()

    @service.subscribe(PLACED, transactional=True, concurrency=4)
    async def bill(
        order: Order,
    ) -> tuple[Annotated[Invoice | None, Publish(BILLED)], Annotated[list[int], Publish(COUNTED)]]:
        await asyncio.sleep(0)
        return (Invoice(order=order.id) if order.id else None), [1, 2] if order.id != "a" else []

    async with service:
        for order in ("a", "b", ""):
            await service.publish(PLACED, Order(id=order))
        await settled(broker)
        assert service._client.outgoing.confirmed == 3 + 1 + 3 + 2
    assert sorted(broker.with_acks, key=str) == [
        (["orders.billed", "orders.counted", "orders.counted"], 1),
        (["orders.billed"], 1),
        (["orders.counted", "orders.counted"], 1),
    ]
    assert set(broker.plainly) == {"orders.placed"}
    assert sorted(heard) == ["a", "b"]


async def test_where_nothing_is_returned_the_event_is_acknowledged_as_ever() -> None:
    service, broker, heard = make()

    @service.subscribe(PLACED, transactional=True)
    async def bill(order: Order) -> Annotated[Invoice | None, Publish(BILLED)]:
        return None

    async with service:
        await service.publish(PLACED, Order(id="a"))
        await settled(broker)
    assert (broker.with_acks, heard) == ([], [])


async def test_what_cannot_be_published_has_failed_and_nothing_of_it_is_seen() -> None:
    service, broker, heard = make()
    attempts: list[int] = []

    @service.subscribe(PLACED, transactional=True, retry=SHORT)
    async def bill(order: Order, context: Context) -> Annotated[list[Invoice], Publish(BILLED)]:
        attempts.append(context.attempt)
        text = "x" * 2_000_000 if order.id == "large" or context.attempt == 1 else ""
        return [Invoice(order=order.id), Invoice(order=order.id, text=text)]

    async with service:
        for order in ("a", "large"):
            await service.publish(PLACED, Order(id=order))
        await settled(broker)
        letters = await broker.queue_state("dead.orders.bill")
        assert letters is not None
        assert letters.waiting == 1
        assert service._client.outgoing.failed == 2 * 3
    assert sorted(attempts) == [1, 1, 2, 2]
    assert heard == ["a", "a"]


async def test_who_acknowledges_before_has_it_published_as_ever() -> None:
    service, broker, heard = make()

    @service.subscribe(PLACED, transactional=True)
    async def bill(order: Order, context: Context) -> Annotated[Invoice, Publish(BILLED)]:
        await context.ack()
        return Invoice(order=order.id)

    async with service:
        await service.publish(PLACED, Order(id="a"))
        while not heard:
            await asyncio.sleep(0.001)
        await settled(broker)
    assert (broker.with_acks, heard) == ([], ["a"])


async def test_what_fails_behind_it_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def fails_behind(message: Any, context: Context, call_next: Any) -> Any:
        await call_next(message, context)
        if context.side == "subscriber" and context.endpoint == "bill":
            raise Reject("too late")

    service, broker, heard = make(middleware=[fails_behind])

    @service.subscribe(PLACED, transactional=True)
    async def bill(order: Order) -> Annotated[Invoice, Publish(BILLED)]:
        return Invoice(order=order.id)

    async with service:
        await service.publish(PLACED, Order(id="a"))
        await settled(broker)
        letters = await broker.queue_state("dead.orders.bill")
        assert letters is not None
        assert letters.waiting == 0
    assert heard == ["a"]
    assert "failed after its handler had settled it, which stands" in caplog.text


async def test_a_batch_is_one_transaction_and_comes_one_by_one_where_it_fails() -> None:
    service, broker, heard = make()

    @service.subscribe(PLACED, transactional=True, batch=Batch(size=3, within=10), retry=SHORT)
    async def bill(orders: list[Order], context: Context) -> Annotated[list[Invoice], Publish(BILLED)]:
        return [Invoice(order=order.id, text="x" * 2_000_000 if order.text else "") for order in orders]

    async with service:
        await service.publish_many(PLACED, [Order(id=each) for each in "abc"])
        await settled(broker)
        assert broker.with_acks == [(["orders.billed"] * 3, 3)]
        await service.publish_many(PLACED, [Order(id="d"), Order(id="e", text="large"), Order(id="f")])
        await settled(broker)
        while len(heard) < 5:
            await asyncio.sleep(0.001)
    assert Counter(heard) == Counter("abcdf")


async def test_keys_keep_their_order() -> None:
    service, broker, heard = make()

    @service.subscribe(PLACED, transactional=True, order_by="text", concurrency=8, retry=SHORT)
    async def bill(order: Order, context: Context) -> Annotated[Invoice, Publish(BILLED)]:
        if context.attempt == 1 and order.id.endswith("3"):
            raise ConnectionError("not now")
        return Invoice(order=order.id)

    orders = [Order(id=f"{number % 4}-{number}", text=str(number % 4)) for number in range(40)]
    async with service:
        await service.publish_many(PLACED, orders)
        while len(heard) < 40:
            await asyncio.sleep(0.001)
        await settled(broker)
    for key in range(4):
        assert [each for each in heard if each.startswith(f"{key}-")] == [f"{key}-{n}" for n in range(key, 40, 4)]


async def test_a_publisher_that_does_not_wait_fails_at_once_and_the_event_stays() -> None:
    service, broker, heard = make(publishing=Publishing(while_away="fail"))

    @service.subscribe(PLACED, transactional=True, retry=SHORT)
    async def bill(order: Order) -> Annotated[Invoice, Publish(BILLED)]:
        return Invoice(order=order.id)

    async with service:
        outgoing = service._client.outgoing
        delivery = Delivery("orders.placed")
        outgoing._broker = Away()  # type: ignore[assignment]
        with pytest.raises(Disconnected, match="away"):
            await outgoing.publish_and_ack([Message("orders.billed")], [delivery])
        outgoing._broker = broker
    assert (heard, outgoing.failed) == ([], 1)


class Away:
    url = URL
    online = False


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"ack": "before"}, r"transactional and ack='before' do not go together"),
    ({"ack": "manual"}, r"transactional and ack='manual' do not go together"),
    ({"sticky_by": "id"}, r"transactional and sticky_by do not go together"),
    ({"durable": False}, r"transactional: only a durable queue can do that"),
    ({"queue": None}, r"transactional: only a durable queue can do that"),
]


@pytest.mark.parametrize(("words", "why"), REFUSED, ids=[str(words) for words, _ in REFUSED])
def test_what_does_not_go_together_is_refused(words: dict[str, Any], why: str) -> None:
    async def bill(order: Order) -> Annotated[Invoice, Publish(BILLED)]:
        return Invoice()

    with pytest.raises(UsageError, match=why):
        Service("orders").subscribe(PLACED, transactional=True, **words)(bill)


def test_who_returns_nothing_to_be_published_is_told_so() -> None:
    async def bill(order: Order) -> None: ...

    why = r"bill has transactional=True, and returns nothing that is published: write .*Publish\(TOPIC\)"
    with pytest.raises(UsageError, match=why):
        Service("orders").subscribe(PLACED, transactional=True)(bill)
    service = Service("orders", delivery=DeliveryOptions(transactional=True))
    with pytest.raises(UsageError, match=why + r".*; delivery= of service 'orders' says transactional"):
        service.subscribe(PLACED)(bill)
    service.subscribe(PLACED, transactional=False)(bill)
    needed = DeliveryOptions(queue="q", transactional=True).needs(by_key=False, wildcards=False)
    assert set(Capabilities().missing(needed)) == {"queue_groups", "durable", "transactions"}
    with pytest.raises(UsageError, match=r"transactional='yes'.* True"):
        Service("orders").subscribe(PLACED, transactional="yes")(bill)  # type: ignore[arg-type]


@pytest.mark.parametrize("like", ["jetstream", "amqp", "nats"])
async def test_a_broker_that_has_no_transactions_is_refused_at_the_start(like: str) -> None:
    service = Service("orders", broker=f"memory://?like={like}")

    @service.subscribe(PLACED, transactional=True)
    async def bill(order: Order) -> Annotated[Invoice, Publish(BILLED)]:
        return Invoice()

    with pytest.raises(Unsupported, match=r"orders\.bill needs .*transactions.*lacks; able are .*kafka://.*memory://"):
        await service.start()


async def test_a_world_sees_what_is_published_so_and_has_it_fail() -> None:
    service = Service("orders")

    @service.subscribe(PLACED, transactional=True, retry=SHORT)
    async def bill(order: Order) -> Annotated[Invoice, Publish(BILLED)]:
        return Invoice(order=order.id)

    async with World(service) as world:
        with world.fail(BILLED, NotStored("not now"), times=1):
            await world.client.publish(PLACED, Order(id="a"))
            await world.idle()
        assert [each.outcome for each in world.handled("orders.bill")] == ["failed", "done"]
        with world.drop(BILLED, times=1):
            await world.client.publish(PLACED, Order(id="b"))
            await world.idle()
        with world.duplicate(BILLED, times=1):
            await world.client.publish(PLACED, Order(id="c"))
            await world.idle()
        with world.delay(BILLED, 5.0, times=1):
            await world.client.publish(PLACED, Order(id="d"))
            await world.advance(4.999)
            outcomes = [(each.value.order, each.outcome) for each in world.messages(BILLED)]
            await world.advance(0.001)
        assert outcomes == [("a", "failed"), ("a", "stored"), ("b", "dropped"), ("c", "stored"), ("d", "delayed")]
        assert [each.outcome for each in world.handled("orders.bill")] == ["failed", *["done"] * 4]


async def test_memory_puts_all_of_it_where_there_is_room_or_nothing() -> None:
    async with MemoryBroker(URL, queue_limit=2) as broker, Client(broker) as client:
        heard: list[Delivery] = []
        await broker.subscribe("in", heard.append, queue="in", durable=Durable(transactional=True))
        await broker.subscribe("out", lambda _: asyncio.Event().wait(), queue="out", durable=Durable(prefetch=1))
        await client.publish("in", b"1")
        while not heard:
            await asyncio.sleep(0)
        for _ in range(2):
            await client.publish("out", b"0")
        with pytest.raises(NotStored, match="is full"):
            await broker.publish_and_ack([Message("other"), Message("out")], heard, timeout=0.01)
        state = await broker.queue_state("in")
        assert state is not None
        assert state.unsettled == 1
        await heard[0].ack()
        await broker.publish_and_ack([Message("other")], heard)  # it is settled, so nothing is published


async def test_memory_waits_for_room_for_all_that_goes_to_each_queue() -> None:
    async with MemoryBroker(URL, queue_limit=3) as broker:
        heard: list[Delivery] = []
        kept: asyncio.Queue[Delivery] = asyncio.Queue()
        await broker.subscribe("in", heard.append, queue="in", durable=Durable(transactional=True))
        await broker.subscribe("out", kept.put_nowait, queue="out", durable=Durable())
        await broker.publish(Message("in", b"1"))
        for body in (b"a", b"b"):
            await broker.publish(Message("out", body))
        while not heard or kept.qsize() < 2:
            await asyncio.sleep(0)
        two = [Message("out", b"c"), Message("out", b"d")]
        with pytest.raises(NotStored, match="'out' is full"):
            await broker.publish_and_ack(two, heard, timeout=0.01)
        putting = asyncio.create_task(broker.publish_and_ack(two, heard))
        await asyncio.sleep(0)
        assert kept.qsize() == 2
        await kept.get_nowait().ack()
        await asyncio.wait_for(putting, 5)
        assert [(await asyncio.wait_for(kept.get(), 5)).body for _ in range(3)] == [b"b", b"c", b"d"]


async def test_memory_refuses_at_once_a_transaction_of_more_than_a_queue_keeps() -> None:
    async with MemoryBroker(URL, queue_limit=2) as broker:
        heard: list[Delivery] = []
        await broker.subscribe("in", heard.append, queue="in", durable=Durable(transactional=True))
        await broker.subscribe("out", lambda _: None, queue="out", durable=Durable())
        await broker.subscribe("out", lambda _: None)
        await broker.publish(Message("in", b"1"))
        while not heard:
            await asyncio.sleep(0)
        with pytest.raises(NotStored, match=r"3 at once .* 2"):
            await asyncio.wait_for(broker.publish_and_ack([Message("out")] * 3, heard, timeout=60), 5)
        state = await broker.queue_state("out")
        assert state is not None
        assert (state.waiting, state.unsettled) == (0, 0)


async def test_a_stop_that_leaves_a_transaction_on_its_way_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is promised: whether it holds is not known before its end."""
    monkeypatch.setattr(inflight, "GRACE", 0.01)
    service, broker, _ = make(stop_timeout=0.01)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def transact(*_: Any, **__: Any) -> None:
        begun.set()
        while not may_end.is_set():
            with suppress(asyncio.CancelledError):
                await may_end.wait()

    monkeypatch.setattr(broker, "publish_and_ack", transact)

    @service.subscribe(PLACED, transactional=True)
    async def bill(order: Order) -> Annotated[Invoice, Publish(BILLED)]:
        return Invoice(order=order.id)

    async with service:
        await service.publish(PLACED, Order(id="a"))
        await begun.wait()
        await service.stop()
    may_end.set()
    (said,) = [record for record in caplog.records if "still" in record.message]
    assert said.levelname == "WARNING"
    assert "orders.bill: 1 still run: the transaction of what a handler returned is not cut off" in said.message
    assert "ignored" not in caplog.text
