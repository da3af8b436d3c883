"""`memory://?like=kafka`: the broker of this process that can and refuses what another one does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from eventmicro import Client, MemoryBroker, Service, Unsupported, UsageError
from eventmicro.broker import Durable
from eventmicro.message import Delivery, Message
from eventmicro.plugins import installed_brokers, open_registry


@pytest.mark.parametrize("scheme", ["kafka", "amqp", "nats", "jetstream"])
def test_it_declares_what_the_other_declares(scheme: str) -> None:
    broker = MemoryBroker(f"memory://x?like={scheme}")
    assert broker.capabilities == installed_brokers()[scheme]
    assert broker.url == f"memory://x?like={scheme}"
    assert MemoryBroker("memory://x").capabilities == MemoryBroker.capabilities


@pytest.mark.parametrize(
    "url", ["memory://?like=", "memory://?like=memory", "memory://?size=3", "memory://?like=a&like=b"]
)
def test_what_is_like_nothing_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"memory://\?like=kafka"):
        MemoryBroker(url)
    with pytest.raises(UsageError, match="no broker 'pigeon'"):
        MemoryBroker("memory://?like=pigeon")


async def test_a_service_that_the_other_would_refuse_is_refused() -> None:
    service = Service("shop", broker="memory://?like=kafka")

    @service.rpc
    async def quote(sku: str) -> int:
        return 1

    with pytest.raises(Unsupported, match=r"shop.quote needs request_reply, which memory://\?like=kafka lacks"):
        await service.start()


async def test_names_and_options_that_the_other_refuses_are_refused() -> None:
    async with MemoryBroker("memory://?like=kafka") as broker:
        for subject in ("orders.ä", "orders.$x"):
            with pytest.raises(UsageError):
                await broker.subscribe(subject, lambda _: None)
        with pytest.raises(Unsupported):
            await broker.subscribe("orders", lambda _: None, queue="q", durable=Durable(dedupe=3))
        with pytest.raises(Unsupported, match="carries no calls"):
            broker.inbox()
    async with Client("memory://?like=kafka") as client:
        with pytest.raises(UsageError, match="a Kafka topic has"):
            await client.publish("orders.$x", 1)


async def test_a_queue_that_is_made_later_begins_with_what_the_other_would_still_have() -> None:
    url = "memory://replayed?like=kafka"
    seen: dict[str, list[int]] = {"all": [], "new": [], "since": []}
    async with Client(url) as client:
        for number in (1, 2):
            await client.publish("orders", number)
        await asyncio.sleep(0.01)  # the clock moves
        since = datetime.now(UTC)
        await client.publish("orders", 3)
        service = Service("shop", broker=url)

        @service.subscribe("orders", start="all")
        async def from_the_first(event: int) -> None:
            seen["all"].append(event)

        @service.subscribe("orders", start=since)
        async def from_then(event: int) -> None:
            seen["since"].append(event)

        @service.subscribe("orders")
        async def from_now(event: int) -> None:
            seen["new"].append(event)

        async with service:
            await client.publish("orders", 4)
    assert seen == {"all": [1, 2, 3, 4], "since": [3, 4], "new": [4]}


async def test_it_keeps_a_registry_where_the_others_server_can() -> None:
    assert open_registry(None, MemoryBroker("memory://?like=nats")) is not None
    assert open_registry(None, MemoryBroker("memory://?like=kafka")) is None


async def test_what_a_settled_event_would_have_published_is_kept_for_nobody() -> None:
    seen: list[bytes] = []
    async with MemoryBroker("memory://phantom?like=kafka") as broker:
        taken: asyncio.Queue[Delivery] = asyncio.Queue()
        await broker.subscribe("in", taken.put_nowait, queue="in", durable=Durable(transactional=True))
        for body in (b"1", b"2"):
            await broker.publish(Message("in", b"x"))
            delivery = await asyncio.wait_for(taken.get(), 5)
            if body == b"1":
                await delivery.ack()
            await broker.publish_and_ack([Message("out", body)], [delivery])
        await broker.publish(Message("out", b"3"))
        done = asyncio.Event()

        def receive(delivery: Delivery) -> None:
            seen.append(delivery.body)
            if delivery.body == b"3":
                done.set()

        await broker.subscribe("out", receive, queue="later", durable=Durable(start="all"))
        await asyncio.wait_for(done.wait(), 5)
    assert seen == [b"2", b"3"]
