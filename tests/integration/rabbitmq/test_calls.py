"""Calls over RabbitMQ: one outcome each, deadlines and cancellation, streams, large bodies, who is there, lost ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from eventmicro_rabbitmq import RabbitBroker
from pydantic import BaseModel

from eventmicro import Client, Service
from eventmicro.discovery.asking import ask_all
from eventmicro.errors import BadRequest, CallTimeout, Disconnected, MessageTooLarge, NotFound, Unavailable, UsageError
from eventmicro.message import Delivery, Message
from eventmicro.topic import Topic
from tests.integration.rabbitmq.kit import Until, raw_channel
from tests.servers import FaultProxy


class Order(BaseModel):
    sku: str
    quantity: int = 1


class Shop:
    """A service with an endpoint of each kind, and what became of the calls of those that wait."""

    def __init__(self, name: str) -> None:
        self.service = service = Service(name)
        self.name = name
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.room = asyncio.Event()

        @service.rpc
        async def quote(order: Order) -> float:
            if order.sku == "none":
                raise NotFound("no such sku")
            return 4.2 * order.quantity

        @service.rpc
        async def wait(number: int) -> int:
            self.begun.append(number)
            try:
                await self.room.wait()
            except asyncio.CancelledError:
                self.cancelled.append(number)
                raise
            return number

        @service.rpc
        async def count(start: int) -> AsyncIterator[int]:
            for number in range(start, start + 1000):
                yield number

        @service.rpc
        async def double(numbers: AsyncIterator[int]) -> AsyncIterator[int]:
            async for number in numbers:
                yield 2 * number

        @service.rpc
        async def echo(body: bytes) -> bytes:
            return body


@asynccontextmanager
async def shop(url: str, name: str) -> AsyncIterator[tuple[Shop, Client]]:
    """One that runs, and a client of it on connections of its own."""
    running = Shop(name)
    await running.service.start(url)
    try:
        async with Client(url) as client:
            yield running, client
    finally:
        running.room.set()
        await running.service.stop()


async def test_each_call_has_one_outcome(url: str, subject: str) -> None:
    async with shop(url, subject) as (_, client):
        assert await client.call(f"{subject}.quote", Order(sku="tea", quantity=2), float) == 8.4
        with pytest.raises(NotFound, match="no such sku"):
            await client.call(f"{subject}.quote", Order(sku="none"), float)
        with pytest.raises(BadRequest, match="sku: Field required"):
            await client.call(f"{subject}.quote", {}, float)
        with pytest.raises(NotFound, match="no endpoint 'nothing'"):
            await client.call(f"{subject}.nothing")
        with pytest.raises(Unavailable, match=f"nobody serves {subject}-other.quote") as nobody:
            await client.call(f"{subject}-other.quote")
        assert nobody.value.nobody
    async with Client(url) as client:
        with pytest.raises(Unavailable, match=f"nobody serves {subject}.quote"):
            await client.call(f"{subject}.quote", Order(sku="tea"), float)


async def test_a_call_that_is_given_up_or_late_stops_its_handler(url: str, subject: str, until: Until) -> None:
    async with shop(url, subject) as (running, client):
        with pytest.raises(CallTimeout, match=f"no reply from {subject}.wait within"):
            await client.call(f"{subject}.wait", 1, int, timeout=0.2)
        await until(lambda: running.cancelled == [1])
        calling = asyncio.create_task(client.call(f"{subject}.wait", 2, int))
        await until(lambda: 2 in running.begun)
        calling.cancel()
        await until(lambda: running.cancelled == [1, 2])
        assert calling.cancelled()


async def test_a_call_that_waits_in_its_queue_for_too_long_is_never_begun(url: str, subject: str) -> None:
    """RabbitMQ drops it: the time that its caller has is its expiration."""
    async with raw_channel(url) as channel, RabbitBroker(url) as client:
        await channel.queue_declare(f"{subject}.late", exclusive=True)
        replies: list[Delivery] = []
        inbox = client.inbox()
        await client.subscribe(f"{inbox}.>", replies.append)
        await channel.queue_bind(f"{subject}.late", "events.calls", f"{subject}.late")
        await client.send(Message(f"{subject}.late", b"1", reply=f"{inbox}.1.1ms"))
        await client.send(Message(f"{subject}.late", b"2", reply=f"{inbox}.2.60000ms"))
        await client.flush()
        while (message := await channel.basic_get(f"{subject}.late", no_ack=True)).body != b"2":
            assert message.body is not None
        assert message.header.properties.expiration == "60000"
    assert not replies


async def test_streams_go_both_ways(url: str, subject: str) -> None:
    async with shop(url, subject) as (_, client):
        assert [number async for number in client.stream(f"{subject}.count", 5, int)] == list(range(5, 1005))

        async with client.stream(f"{subject}.double", None, int) as doubling:
            for number in range(300):
                await doubling.send(number)
            await doubling.end()
            assert [number async for number in doubling] == [2 * number for number in range(300)]


async def test_a_body_over_the_limit_goes_in_pieces_where_asked_for(url: str, subject: str) -> None:
    async with shop(f"{url}&max_payload=100000", subject) as (_, client):
        body = bytes(range(256)) * 1000
        with pytest.raises(MessageTooLarge):
            await client.call(f"{subject}.echo", body, bytes)
        assert await client.call(f"{subject}.echo", body, bytes, large="stream") == body


async def test_nodes_are_known_and_can_be_called_each(url: str, subject: str) -> None:
    services = [Service(subject, id=node) for node in "abc"]
    for service in services:

        @service.rpc
        async def who() -> str:
            return service.id  # noqa: B023

        await service.start(url)
    async with Client(url) as client:
        (record,) = await client.services(subject)
        assert sorted(node.id for node in record.nodes) == ["a", "b", "c"]
        for node in "abc":
            health = await client.call(f"{subject}.$node.{node}.health", None, dict[str, object])
            assert health["node"] == node
        with pytest.raises(UsageError, match="another instance with id 'a' is running"):
            await Service(subject, id="a").start(url)
    for service in services:
        await service.stop()


async def test_calls_are_shared_by_the_instances(url: str, subject: str) -> None:
    one, other = Shop(subject), Shop(subject)
    await one.service.start(url)
    await other.service.start(url)
    one.room.set()
    other.room.set()
    async with Client(url) as client:
        numbers = await asyncio.gather(*(client.call(f"{subject}.wait", n, int) for n in range(200)))
    assert numbers == list(range(200))
    assert sorted(one.begun + other.begun) == numbers
    assert one.begun
    assert other.begun
    await one.service.stop()
    async with Client(url) as client:
        assert await client.call(f"{subject}.wait", 7, int) == 7
    await other.service.stop()


async def test_what_was_taken_is_answered_before_a_stop(url: str, subject: str, until: Until) -> None:
    async with shop(url, subject) as (running, client):
        calls = [asyncio.create_task(client.call(f"{subject}.wait", n, int)) for n in range(50)]
        await until(lambda: len(running.begun) == 50)
        stopping = asyncio.create_task(running.service.stop())
        await asyncio.sleep(0)
        running.room.set()
        assert await asyncio.gather(*calls) == list(range(50))
        await stopping


async def test_an_event_on_the_subject_of_an_endpoint_runs_it(url: str, subject: str, until: Until) -> None:
    """As over NATS: it is a request without an answer."""
    async with shop(url, subject) as (running, client):
        await client.publish(Topic(f"{subject}.wait", int), 7)
        await until(lambda: running.begun == [7])


async def test_calls_go_on_over_connections_that_are_cut(url: str, subject: str, until: Until) -> None:
    """What was on its way is lost, and its caller gets a timeout; what is sent while it is away is held."""
    port = int(url.partition("127.0.0.1:")[2].partition("/")[0])
    async with (
        FaultProxy(port) as proxy,
        shop(url, subject) as (running, _),
        Client(url.replace(str(port), str(proxy.port))) as client,
    ):
        assert await client.call(f"{subject}.quote", Order(sku="tea"), float) == 4.2
        lost = asyncio.create_task(client.call(f"{subject}.wait", 1, int, timeout=1))
        await until(lambda: running.begun == [1])
        await proxy.stop()
        await until(lambda: not client.broker.online)
        held = asyncio.create_task(client.call(f"{subject}.quote", Order(sku="tea", quantity=3), float, timeout=30))
        with pytest.raises(CallTimeout):
            await lost
        await proxy.start()
        assert round(await held, 1) == 12.6
        await until(lambda: running.cancelled == [1])
        await client.flush()  # what comes in has a connection of its own
        assert [number async for number in client.stream(f"{subject}.count", 0, int)] == list(range(1000))


async def call_until_nobody_is_there(client: Client, endpoint: str) -> None:
    """RabbitMQ may take its time to notice that a connection has gone."""
    while True:
        with suppress(CallTimeout):
            await client.call(endpoint, Order(sku="tea"), float, timeout=1)


async def test_a_service_whose_connections_are_cut_takes_its_calls_up_again(
    url: str, subject: str, until: Until
) -> None:
    port = int(url.partition("127.0.0.1:")[2].partition("/")[0])
    async with (
        FaultProxy(port) as proxy,
        Client(url) as client,
        shop(url.replace(str(port), str(proxy.port)), subject) as (running, _),
    ):
        begun = asyncio.create_task(client.call(f"{subject}.wait", 1, int, timeout=30))
        await until(lambda: running.begun == [1])
        await proxy.stop()
        with pytest.raises(Unavailable):
            await call_until_nobody_is_there(client, f"{subject}.quote")
        running.room.set()
        await proxy.start()
        assert await begun == 1, "its answer goes out when there is a way"
        await running.service.client.flush()
        assert await client.call(f"{subject}.quote", Order(sku="tea"), float) == 4.2
        assert [number async for number in client.stream(f"{subject}.count", 0, int)] == list(range(1000))
        (record,) = await client.services(subject)
        assert len(record.nodes) == 1
    assert running.begun == [1]


async def test_what_is_held_has_a_bound(url: str, subject: str, until: Until) -> None:
    port = int(url.partition("127.0.0.1:")[2].partition("/")[0])
    async with FaultProxy(port) as proxy, RabbitBroker(url.replace(str(port), str(proxy.port))) as broker:
        await broker.send(Message(subject))
        await proxy.stop()
        await until(lambda: not broker.online)
        for _ in range(10):
            await broker.send(Message(subject, bytes(100_000)))
        with pytest.raises(Disconnected, match="the outgoing buffer is full"):
            await broker.send(Message(subject, bytes(100_000)))
        await proxy.start()
        await until(lambda: broker.online)
        await broker.flush()


async def test_nobody_is_asked_in_vain(url: str, subject: str) -> None:
    async with RabbitBroker(url) as broker:
        assert await ask_all(broker, f"$SRV.PING.{subject}") == []


async def test_headers_that_mean_further_queues_are_refused(url: str, subject: str) -> None:
    async with RabbitBroker(url) as broker:
        with pytest.raises(UsageError, match="header CC means further queues"):
            await broker.send(Message(subject, headers={"CC": "elsewhere"}))


async def test_a_queue_of_others_with_the_name_of_an_endpoint_is_left_alone(url: str, subject: str) -> None:
    async with raw_channel(url) as channel:
        await channel.queue_declare(f"{subject}.quote", durable=True)
        with pytest.raises(Exception, match=f"queue '{subject}.quote' exists and is made otherwise"):
            await Shop(subject).service.start(url)
        await channel.queue_delete(f"{subject}.quote")
