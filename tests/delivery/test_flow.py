"""How many at a time: concurrency, prefetch, slow handlers, and a stop while many are being handled."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from eventmicro import Context, Retry
from eventmicro.errors import MessageTooLarge
from eventmicro.message import Message
from tests.delivery.bench import Bench, Number, Until, numbers

pytestmark = pytest.mark.timeout_seconds(60)


class Gate:
    """What a handler waits at until it is open; it knows how many are there."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.attempts: dict[int, list[int]] = {}
        self.done: Counter[int] = Counter()
        self.now = self.most = 0

    async def handle(self, event: Number, context: Context) -> None:
        self.attempts.setdefault(event.value, []).append(context.attempt)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.open.wait()
        finally:
            self.now -= 1
        self.done[event.value] += 1


@pytest.mark.parametrize("concurrency", [1, 7])
async def test_concurrency_is_reached_and_never_exceeded(concurrency: int, bench: Bench, until: Until) -> None:
    now = most = 0
    handled: Counter[int] = Counter()

    async def wait(event: Number) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001 * (event.value % 5))
        now -= 1
        handled[event.value] += 1

    async with bench.run(wait, concurrency=concurrency) as client:
        await client.publish_many(bench.topic, numbers(300, keys=50))
        await until(lambda: len(handled) == 300)
    assert handled == dict.fromkeys(range(300), 1)
    assert most == concurrency


async def test_a_full_prefetch_waits_for_slow_handlers_and_then_goes_on(bench: Bench, until: Until) -> None:
    gate = Gate()
    async with bench.run(gate.handle, prefetch=10, concurrency=10) as client:
        await client.publish_many(bench.topic, numbers(100, keys=50))
        await until(lambda: gate.now == 10)
        gate.open.set()
        await until(lambda: len(gate.done) == 100)
    assert gate.done == dict.fromkeys(range(100), 1)
    assert gate.most == 10


async def test_what_is_not_acknowledged_fills_the_prefetch_and_no_more_comes(bench: Bench, until: Until) -> None:
    contexts: list[Context] = []

    async def keep(event: Number, context: Context) -> None:
        contexts.append(context)

    async with bench.run(keep, prefetch=5, ack="manual") as client:
        await client.publish_many(bench.topic, numbers(25))
        for held in (5, 10, 15, 20, 25):
            await until(lambda: len(contexts) >= held)  # noqa: B023
            await asyncio.sleep(0.05)  # more would come by now
            assert len(contexts) == held
            await asyncio.gather(*(context.ack() for context in contexts[-5:]))


async def test_a_handler_that_takes_longer_than_the_lease_keeps_its_event(bench: Bench, until: Until) -> None:
    attempts: Counter[int] = Counter()

    async def slow(event: Number) -> None:
        attempts[event.value] += 1
        if event.value < 3:
            await asyncio.sleep(2.5)  # where there is a lease here, it is one second

    async with bench.run(slow, instances=2, concurrency=3) as client:
        await client.publish_many(bench.topic, numbers(3))
        await until(lambda: len(attempts) == 3)
        await asyncio.sleep(2)
        await client.publish_many(bench.topic, [Number(value=9)])
        await until(lambda: attempts[9])
    assert attempts == {0: 1, 1: 1, 2: 1, 9: 1}


# -- stop ------------------------------------------------------------------------------------------------------


async def test_a_stop_lets_a_hundred_running_handlers_finish(bench: Bench, until: Until) -> None:
    gate, later = Gate(), Gate()
    async with bench.run(later.handle) as client:  # so that the queue is there
        later.open.set()
        await client.publish(bench.topic, Number(value=-1))
        await until(lambda: later.done[-1])
    service = bench.service(gate.handle, concurrency=100)
    await service.start()
    await service.publish_many(bench.topic, numbers(150, keys=50))
    await until(lambda: gate.now == 100)
    stopping = asyncio.create_task(service.stop())
    await asyncio.sleep(0.05)
    gate.open.set()
    await stopping
    assert gate.done == dict.fromkeys(gate.attempts, 1)
    async with bench.run(later.handle):
        await until(lambda: len(gate.done) + len(later.done) == 150 + 1)
    assert gate.done + later.done == dict.fromkeys(range(-1, 150), 1)


async def test_a_stop_cuts_off_what_does_not_end_in_time_and_all_of_it_is_delivered_again(
    bench: Bench, until: Until
) -> None:
    gate, later = Gate(), Gate()
    service = bench.service(gate.handle, concurrency=100, stop_timeout=0.2)
    async with service:
        await service.publish_many(bench.topic, numbers(150, keys=50))
        await until(lambda: gate.now == 100)
    assert (gate.now, gate.done) == (0, {})
    later.open.set()
    async with bench.run(later.handle):
        await until(lambda: len(later.done) == 150)
    assert later.done == dict.fromkeys(range(150), 1)
    assert all(later.attempts[value][0] > 1 for value in gate.attempts)


async def test_a_stop_while_events_wait_for_their_next_attempt_loses_none(bench: Bench, until: Until) -> None:
    handled: Counter[int] = Counter()
    failed: Counter[int] = Counter()

    async def fail_first(event: Number, context: Context) -> None:
        if context.attempt == 1:
            failed[event.value] += 1
            raise ValueError("not yet")
        handled[event.value] += 1

    async with bench.run(fail_first, retry=Retry(backoff=0.5, jitter=0), concurrency=10) as client:
        await client.publish_many(bench.topic, numbers(50))
        await until(lambda: len(failed) == 50)
    async with bench.run(fail_first):
        await until(lambda: len(handled) == 50)
    assert handled == dict.fromkeys(range(50), 1)


@pytest.mark.parametrize("settled", [True, False], ids=["settled", "not settled"])
async def test_a_handler_may_stop_its_service_and_its_event_comes_again_unless_it_was_settled(
    settled: bool, bench: Bench, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    stopped = asyncio.Event()
    later: Counter[int] = Counter()

    async def stop(event: Number, context: Context) -> None:
        if settled:
            await context.ack()
        await service.stop()
        stopped.set()

    async def see(event: Number) -> None:
        later[event.value] += 1

    service = bench.service(stop, stop_timeout=1000)
    await service.start()
    await service.publish(bench.topic, Number(value=1))
    await stopped.wait()
    async with bench.run(see) as client:
        await client.publish(bench.topic, Number(value=2))
        await until(lambda: later[2] and later[1] == (not settled))
    assert later[1] == (not settled)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


# -- size ------------------------------------------------------------------------------------------------------


async def test_an_event_that_is_too_large_is_refused_by_name_and_the_next_one_is_not(
    bench: Bench, until: Until
) -> None:
    handled: Counter[int] = Counter()

    async def see(event: Number) -> None:
        handled[event.value] += 1

    async with bench.run(see) as client, bench.broker() as broker:
        with pytest.raises(MessageTooLarge, match=bench.topic.name):
            await broker.publish(Message(bench.topic.name, bytes(140_000_000)))
        await client.publish(bench.topic, Number(value=1))
        await until(lambda: handled[1])
    assert handled == {1: 1}
