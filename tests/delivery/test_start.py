"""What a queue begins with, and what it does with an event that is published twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime

import pytest

from eventmicro import Client, Service
from tests.delivery.bench import Bench, Number, Until, numbers

pytestmark = pytest.mark.timeout_seconds(60)


class Seen(Counter[int]):
    async def handle(self, event: Number) -> None:
        self[event.value] += 1


async def test_a_new_queue_begins_with_what_is_published_from_then_on_and_one_that_exists_goes_on(
    bench: Bench, until: Until
) -> None:
    seen = Seen()
    async with Client(bench.url) as client:
        async with bench.run(seen.handle):
            await client.publish_many(bench.topic, [Number(value=1), Number(value=2)])
            await until(lambda: len(seen) == 2)
        await client.publish(bench.topic, Number(value=3))
        async with bench.run(seen.handle):
            await until(lambda: seen[3])
    assert seen == {1: 1, 2: 1, 3: 1}


@pytest.mark.needs("replay")
async def test_a_new_queue_may_begin_with_all_that_is_kept(bench: Bench, until: Until) -> None:
    first, replayed = Seen(), Seen()
    async with bench.run(first.handle) as client:
        await client.publish_many(bench.topic, numbers(100))
        await until(lambda: len(first) == 100)
    async with bench.run(replayed.handle, queue=f"{bench.name}.replay", start="all") as client:
        await client.publish(bench.topic, Number(value=100))
        await until(lambda: len(replayed) == 101)
    assert replayed == dict.fromkeys(range(101), 1)


@pytest.mark.needs("replay")
async def test_a_queue_that_exists_goes_on_where_it_was_and_that_is_said(
    bench: Bench, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    caplog.set_level("INFO")
    seen, said = Seen(), f"queue {bench.name}.see exists: start=all is for a queue that is made\n"
    async with bench.run(seen.handle, start="all") as client:
        await client.publish(bench.topic, Number(value=1))
        await until(lambda: seen[1])
        assert said not in caplog.text
    async with bench.run(seen.handle):
        assert said not in caplog.text
    async with bench.run(seen.handle, start="all") as client:
        await client.publish(bench.topic, Number(value=2))
        await until(lambda: seen[2])
    assert caplog.text.count(said) == 1
    assert seen == {1: 1, 2: 1}


@pytest.mark.needs("replay")
async def test_a_new_queue_of_a_pattern_is_not_said_to_exist(
    bench: Bench, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    caplog.set_level("INFO")
    seen, said = Seen(), "start=all is for a queue that is made"
    async with bench.run(Seen().handle) as client:  # so that its topic is there
        await client.publish(bench.topic, Number(value=1))
    for times in (0, 1):
        service = Service(f"{bench.name}-wild", broker=bench.url)
        service.subscribe(f"{bench.name}.*", name="see", start="all")(seen.handle)
        async with service:
            await until(lambda: seen[1])
        assert caplog.text.count(said) == times


@pytest.mark.needs("replay")
async def test_a_new_queue_may_begin_at_a_time(bench: Bench, until: Until) -> None:
    first, replayed = Seen(), Seen()
    async with bench.run(first.handle) as client:
        await client.publish_many(bench.topic, numbers(50))
        await until(lambda: len(first) == 50)
        await asyncio.sleep(0.1)  # so that the brokers' clocks, of milliseconds, tell the two apart
        since = datetime.now(UTC)
        await asyncio.sleep(0.1)
        await client.publish_many(bench.topic, [Number(value=50 + n) for n in range(50)])
        await until(lambda: len(first) == 100)
    async with bench.run(replayed.handle, queue=f"{bench.name}.replay", start=since):
        await until(lambda: len(replayed) == 50)
    assert replayed == dict.fromkeys(range(50, 100), 1)


@pytest.mark.needs("dedupe")
async def test_an_event_that_is_published_again_under_its_id_is_handled_once(bench: Bench, until: Until) -> None:
    seen = Seen()
    async with bench.run(seen.handle, dedupe=60) as client:
        for _ in range(3):
            await client.publish_many(bench.topic, [Number(value=n, id=f"id-{n}") for n in range(50)])
            await client.publish(bench.topic, Number(value=50), id="id-50")
        await client.publish(bench.topic, Number(value=51))
        await until(lambda: len(seen) == 52)
    assert seen == dict.fromkeys(range(52), 1)
