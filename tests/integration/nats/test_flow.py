"""Core NATS: slow consumers, bursts, limits, and calls that are given up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

import pytest
from eventmicro_nats import NatsBroker

from eventmicro.client import Client
from eventmicro.errors import (
    MessageTooLarge,
    NotAllPublished,
)
from eventmicro.message import Delivery, Message
from eventmicro.rpc.caller import Caller
from eventmicro.service import Service
from tests.integration.nats.kit import Inbox, listen, send, until
from tests.servers import FaultProxy, NatsServer

# -- limits ----------------------------------------------------------------------------------------------------


async def test_a_slow_consumer_is_reported_by_count_and_goes_on(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    subject = "slow-consumer"
    gate = asyncio.Event()
    taken = 0

    def receive(delivery: Delivery) -> Awaitable[object]:
        nonlocal taken
        taken += 1
        return gate.wait()

    async with NatsBroker(f"{nats_url}?pending_messages=100") as consumer, NatsBroker(nats_url) as publisher:
        subscription = await consumer.subscribe(subject, receive)  # type: ignore[arg-type]
        await consumer.flush()
        await send(publisher, subject, 1000)
        await publisher.flush()
        await consumer.flush()
        await until(lambda: subscription.dropped > 0)
        gate.set()
        await subscription.drain()
        assert taken + subscription.dropped == 1000
        assert f"{subscription.dropped} in all" in caplog.text
        assert "raise concurrency" in caplog.text


async def test_what_waits_when_a_connection_is_closed_is_dropped_and_counted(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[Delivery] = []

    def receive(delivery: Delivery) -> asyncio.Future[None]:
        taken.append(delivery)
        return asyncio.get_running_loop().create_future()

    async with NatsBroker(nats_url) as broker:
        subscription = await broker.subscribe("closing", receive)
        await send(broker, "closing", 5)
        await broker.flush()
        await until(lambda: taken)
    assert (len(taken), subscription.dropped) == (1, 4)
    assert caplog.text.count("4 messages still waited and are dropped") == 1


async def test_a_burst_to_a_slow_subscriber_arrives_whole(nats_url: str) -> None:
    service = Service("burst")
    received = 0

    @service.subscribe("burst.events")
    async def slow(number: int) -> None:
        nonlocal received
        received += 1
        if number % 100 == 0:
            await asyncio.sleep(0.001)

    await service.start(nats_url)
    async with Client(nats_url) as client:
        for number in range(50_000):
            await client.publish("burst.events", number)
        await client.flush()
        await until(lambda: received == 50_000)
    await service.stop()


async def test_headers_count_against_the_servers_limit() -> None:
    with NatsServer("max_payload: 1000") as server:
        async with NatsBroker(server.url) as broker:
            inbox, _ = await listen(broker, "a")
            await broker.publish(Message("a", b"x" * 1000))
            with pytest.raises(MessageTooLarge, match="1000"):
                await broker.publish(Message("a", b"x" * 1001))
            with pytest.raises(MessageTooLarge, match="with headers"):
                await broker.publish(Message("a", b"x" * 990, {"One": "1"}))
            await inbox.wait_for(1)
            assert len(inbox.deliveries) == 1


async def test_of_a_batch_only_what_cannot_be_sent_fails(nats_url: str) -> None:
    async with NatsBroker(nats_url) as broker:
        inbox, _ = await listen(broker, "batch")
        with pytest.raises(NotAllPublished, match="1 of 3") as caught:
            await broker.publish_many([Message("batch", b"1"), Message("no subject"), Message("batch", b"3")])
        assert list(caught.value.failed) == [1]
        await inbox.wait_for(2)
        assert inbox.bodies == [b"1", b"3"]


async def test_cancelling_calls_leaves_nothing_behind(nats_url: str) -> None:
    async with NatsBroker(nats_url) as server, NatsBroker(nats_url) as broker:
        await server.subscribe("silent.endpoint", Inbox(), queue="q")
        await server.flush()
        caller = Caller(broker)
        await caller.open()
        tasks = asyncio.all_tasks()
        for _ in range(10):
            calls = [
                asyncio.ensure_future(caller.request("silent", Message("silent.endpoint"), time.monotonic() + 60))
                for _ in range(1000)
            ]
            await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        assert len(caller) == 0
        assert asyncio.all_tasks() == tasks
        await caller.close()


async def test_a_pong_that_is_late_behind_data_ends_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer() as server:
        async with (
            FaultProxy(server.port) as proxy,
            NatsBroker(server.url) as other,
            NatsBroker(f"nats://127.0.0.1:{proxy.port}?ping_interval=0.2") as broker,
        ):
            inbox, _ = await listen(broker, "a")
            proxy.rate = 1_000_000
            for _ in range(20):
                await other.publish(Message("a", b"x" * 100_000))
            await inbox.wait_for(20)
            assert "connection lost" not in caplog.text
            proxy.rate = None
            proxy.blackhole = True
            await until(lambda: "connection lost" in caplog.text)
            proxy.blackhole = False
            await until(lambda: broker.online)


async def test_a_message_that_is_longer_than_all_pings_take_ends_no_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with NatsServer() as server:
        async with (
            FaultProxy(server.port) as proxy,
            NatsBroker(server.url) as other,
            NatsBroker(f"nats://127.0.0.1:{proxy.port}?ping_interval=0.2") as broker,
        ):
            inbox, _ = await listen(broker, "a")
            proxy.rate = 500_000
            await other.publish(Message("a", b"x" * 1_000_000))
            await inbox.wait_for(1)
            assert "connection lost" not in caplog.text
