"""Waiting for services that start in no order, and the order in which one shows itself and leaves."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from eventmicro import Client, MemoryBroker, Service, Unavailable, UsageError
from eventmicro.memory.registry import MemoryRegistry
from eventmicro.registry import NodeRecord, ServiceRecord
from eventmicro.running import node
from eventmicro.running.health_port import health_port
from eventmicro.selector import Choice
from tests.unit.discovery.kit import Steered, ask

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://ready"


class NoCalls(MemoryBroker):
    """As a broker that carries events only."""

    capabilities = replace(MemoryBroker.capabilities, request_reply=False, no_responders=False)
    registry = None  # type: ignore[assignment]


async def test_a_client_waits_until_services_answer() -> None:
    async with Client(URL) as client:
        waiting = asyncio.create_task(client.ready("orders", "payments"))
        async with Service("orders", broker=URL):
            await asyncio.sleep(0)
            assert not waiting.done()
            async with Service("payments", broker=URL), asyncio.timeout(20):
                await waiting
                await client.ready("orders")


async def test_one_that_does_not_come_is_named() -> None:
    async with Service("orders", broker=URL), Client(URL) as client:
        with pytest.raises(Unavailable, match=r"service 'payments' was not there within 0\.1 s"):
            await client.ready("orders", "payments", timeout=0.1)
        with pytest.raises(UsageError, match="service name 'pay ments'"):
            await client.ready("pay ments")


async def test_where_nobody_can_be_asked_the_registry_says_who_is_there() -> None:
    broker = NoCalls(URL)
    async with broker, MemoryRegistry("memory://apart") as registry:
        async with Client(broker, registry=registry) as client:
            with pytest.raises(Unavailable):
                await client.ready("orders", timeout=0.05)
            await registry.register(ServiceRecord(name="orders", nodes=[NodeRecord(id="1")]), ttl=30)
            await client.ready("orders", timeout=10)
            with pytest.raises(Unavailable, match="no node of 'orders' can be asked alone"):
                client._directing.choose(Choice("orders"), None, (), (), time.monotonic() + 5)
        async with Client(broker) as client:
            with pytest.raises(UsageError, match="needs a registry"):
                await client.ready("orders", timeout=0.05)


async def test_a_service_takes_nothing_before_what_it_needs_is_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    monkeypatch.setattr(node, "FIRST_PATIENCE", 0.01)
    caplog.set_level(logging.INFO, "eventmicro")
    shop, hooks = Service("shop", broker=URL, needs=["payments"]), []

    @shop.before_start
    def connected() -> None:
        hooks.append("before_start")

    @shop.rpc
    async def buy() -> None: ...

    starting = asyncio.create_task(shop.start())
    await until(lambda: "'shop' waits for 'payments', which it needs" in caplog.text)
    async with Client(URL) as client:
        with pytest.raises(Unavailable):
            await client.call("shop.buy")
    async with Service("payments", broker=URL), asyncio.timeout(20):
        await starting
        assert hooks == ["before_start"]
        assert "'shop' goes on: 'payments' answers" in caplog.text
        await shop.stop()


async def test_a_start_that_waits_says_what_is_perhaps_meant_and_the_health_port_for_what_it_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    monkeypatch.setattr(node, "FIRST_PATIENCE", 0.01)
    shop = Service("shop", broker=URL, needs=["paymnts"])
    async with Service("payments", broker=URL), health_port([shop], "127.0.0.1", 0, lambda: True) as port:
        starting = asyncio.create_task(shop.start())
        await until(lambda: "and which does not answer; did you mean 'payments'?" in caplog.text)
        waiting = {"shop": {"status": "waiting", "needs": "paymnts"}}
        assert await ask(port, b"GET /health/ready HTTP/1.1\r\n\r\n") == (503, waiting)
        assert await ask(port, b"GET /health/live HTTP/1.1\r\n\r\n") == (200, waiting)
        starting.cancel()
        await asyncio.wait([starting])
        assert await ask(port, b"GET /health/ready HTTP/1.1\r\n\r\n") == (503, {"shop": None})


async def test_a_start_that_waits_can_be_cancelled() -> None:
    shop = Service("shop", broker=URL, needs=["payments"])
    starting = asyncio.create_task(shop.start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_it_is_registered_when_it_can_be_called_and_deregistered_before_it_stops() -> None:
    steps: list[str] = []

    class Watched(MemoryBroker):
        async def subscribe(self, subject: str, *arguments: Any, **options: Any) -> Any:
            subscription = await super().subscribe(subject, *arguments, **options)
            steps.append(f"+{subject}")
            drain = subscription.drain

            async def note() -> None:
                steps.append(f"-{subject}")
                await drain()

            subscription.drain = note  # type: ignore[method-assign]
            return subscription

    class Noted(Steered):
        def _note(self, what: str) -> None:
            steps.append(what)

    service = Service("shop", id="one", broker=Watched(URL), registry=Noted("noted"))

    @service.rpc
    async def buy() -> None: ...

    @service.after_start
    def started() -> None:
        steps.append("after_start")

    async with service:
        assert steps.index("+shop.buy") < steps.index("+$SRV.PING.shop") < steps.index("register")
        assert steps[-1] == "after_start"
        steps.clear()
    assert steps[0] == "deregister"
    assert steps.index("-shop.buy") < steps.index("-$SRV.PING.shop")
    assert steps.index("-shop.$node.one.*") < steps.index("-$SRV.PING.shop")


async def test_a_second_start_is_another_node_unless_it_has_a_name() -> None:
    async with MemoryRegistry(URL) as registry:
        ids = []
        for service in (Service("shop", broker=URL), Service("shop", broker=URL, id="one")):
            for _ in range(2):
                async with service:
                    (found,) = await registry.get_service("shop")
                    ids.append(found.nodes[0].id)
    assert ids[0] != ids[1]
    assert ids[2:] == ["one", "one"]


async def test_two_services_in_one_process_share_nothing() -> None:
    async with MemoryRegistry(URL) as registry, Service("one", broker=URL), Service("two", broker=URL):
        assert [service.name for service in await registry.list_services()] == ["one", "two"]


async def test_a_registry_of_ones_own_is_not_closed() -> None:
    registry = Steered("own")
    async with Service("shop", broker=URL, registry=registry):
        pass
    assert await registry.list_services() == []
