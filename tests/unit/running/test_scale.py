"""A service with very many handlers: what each of them costs does not depend on how many there are."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from eventmicro import Client, MemoryBroker, Service, Topic
from eventmicro.memory.live import LiveSubscription
from tests.memory import memory_of_start
from tests.unit.services import Number, Until, echo

MANY = 2_000


class Idle:
    """A subscription to which nothing comes."""

    dropped = 0
    ended = False

    async def drain(self) -> None:
        self.ended = True


class Nowhere(MemoryBroker):
    """Keeps of a subscription what any adapter must: the consumer."""

    capabilities = replace(MemoryBroker.capabilities, durable=False)

    def __init__(self) -> None:
        super().__init__("memory://nowhere")
        self.receives: list[Any] = []

    async def subscribe(self, subject: str, receive: Any, **options: Any) -> Any:
        self.receives.append(receive)
        return Idle()


def with_endpoints(number: int, broker: Any = "memory://scale") -> Service:
    service = Service("numbers", broker=broker, registry="none")
    for each in range(number):
        service.rpc(name=f"echo{each}")(echo)
    return service


def with_subscribers(number: int, broker: Any = "memory://scale") -> Service:
    service = Service("numbers", broker=broker, registry="none")

    async def see(event: Number) -> None:
        await asyncio.sleep(0)

    for each in range(number):
        service.subscribe(Topic(f"numbers.{each}", Number), name=f"see{each}", queue=None)(see)
    return service


@pytest.mark.parametrize("make", [with_endpoints, with_subscribers])
async def test_a_handler_that_waits_for_work_takes_little_memory(make: Any) -> None:
    async with make(1, Nowhere()):
        pass  # what is imported and made once is there
    broker = Nowhere()
    service = make(MANY, broker)
    each = await memory_of_start(service) / MANY
    assert len(broker.receives) >= MANY
    assert each < 1_400  # bytes; of them a deque would be 600, a set 200
    await service.stop()


async def test_all_handlers_share_what_is_made_in_advance_for_the_next_message(until: Until) -> None:
    before = asyncio.all_tasks()
    async with with_endpoints(50), Client("memory://scale") as client:
        for number in range(50):
            assert await client.call(f"numbers.echo{number}", Number(value=number), Number) == Number(value=number)
        assert len(asyncio.all_tasks() - before) <= 1
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_who_stops_leaves_the_other_services_of_the_loop_their_work(until: Until) -> None:
    gate, seen = asyncio.Event(), []
    staying, going = Service("staying", broker="memory://scale"), with_endpoints(1)

    @staying.subscribe("waits", queue=None)
    async def waits(number: int) -> None:
        await gate.wait()
        seen.append(number)

    @staying.subscribe("goes_on", queue=None)
    async def goes_on(number: int) -> None:
        seen.append(number)

    async with staying, Client("memory://scale") as client:
        async with going:
            await client.call("numbers.echo0", Number(), Number)
            await client.publish("waits", 1)
            await client.publish("goes_on", 2)
            await until(lambda: seen == [2])
        gate.set()
        await client.publish("goes_on", 3)
        await until(lambda: sorted(seen) == [1, 2, 3])


@pytest.mark.parametrize("make", [with_endpoints, with_subscribers])
async def test_subscribing_in_memory_does_not_look_at_all_others_each_time(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def done(subscription: LiveSubscription) -> bool:
        nonlocal looks
        looks += 1
        return subscription.ended

    monkeypatch.setattr(LiveSubscription, "done", property(done))
    async with make(MANY):
        assert looks < 4 * MANY


async def test_subscriptions_in_memory_that_are_done_are_not_kept() -> None:
    async with MemoryBroker("memory://scale") as broker:
        for _ in range(MANY):
            await (await broker.subscribe("numbers", lambda delivery: None)).drain()
        assert len(broker._subscriptions) < MANY / 4
