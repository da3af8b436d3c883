"""When an event counts as dealt with: after its handler, before it, or when the handler says so."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from eventmicro import Context, Retry
from tests.delivery.bench import Bench, Number, Until, numbers, values

pytestmark = pytest.mark.timeout_seconds(60)

SOON = Retry(attempts=3, backoff=0.05, factor=1)


async def test_an_event_that_is_dealt_with_is_not_delivered_again(bench: Bench, until: Until) -> None:
    handled: Counter[int] = Counter()

    async def see(event: Number) -> None:
        handled[event.value] += 1

    for extra in range(3):
        async with bench.run(see) as client:
            await client.publish_many(bench.topic, [Number(value=100 * extra + value) for value in range(50)])
            await until(lambda: len(handled) == 50 * (extra + 1))  # noqa: B023
    assert set(handled.values()) == {1}


async def test_what_is_acknowledged_before_is_lost_when_it_fails_and_never_handled_twice(
    bench: Bench, until: Until
) -> None:
    handled: Counter[int] = Counter()

    async def fail_odd(event: Number) -> None:
        handled[event.value] += 1
        if event.value % 2:
            raise ValueError("unlucky")

    for _ in range(2):
        async with bench.run(fail_odd, ack="before") as client:
            await client.publish_many(bench.topic, [])
            if not handled:
                await client.publish_many(bench.topic, numbers(20))
            await until(lambda: len(handled) == 20)
    async with bench.run(fail_odd, ack="before") as client, bench.letters() as letters:
        await client.publish(bench.topic, Number(value=99))
        await until(lambda: handled[99])
    assert handled == dict.fromkeys((*range(20), 99), 1)
    assert letters == []


async def test_what_is_acknowledged_by_hand_comes_again_until_it_is(bench: Bench, until: Until) -> None:
    """0 is acknowledged, 1 nacked, 2 rejected, 3 raised, 4 left alone."""
    attempts: dict[int, list[int]] = {value: [] for value in range(5)}

    async def see(event: Number, context: Context) -> None:
        attempts[event.value].append(context.attempt)
        if event.value == 0:
            await context.ack()
        elif event.value == 1:
            await context.nack(0.05)
        elif event.value == 2:
            await context.reject("no such number")
        elif event.value == 3:
            raise ValueError("unlucky")

    async with bench.run(see, ack="manual", retry=SOON) as client, bench.letters() as letters:
        await client.publish_many(bench.topic, numbers(5))
        await until(lambda: len(letters) == 3 and attempts[4])
    assert attempts == {0: [1], 1: [1, 2, 3], 2: [1], 3: [1, 2, 3], 4: [1]}
    assert values(letters) == [1, 2, 3]
    async with bench.run(see, ack="manual", retry=SOON):
        await until(lambda: len(attempts[4]) == 2)
    assert attempts[0] == [1]


async def test_an_event_may_be_acknowledged_long_after_its_handler_has_returned(bench: Bench, until: Until) -> None:
    contexts: dict[int, Context] = {}
    handled: Counter[int] = Counter()

    async def see(event: Number, context: Context) -> None:
        handled[event.value] += 1
        contexts[event.value] = context

    async with bench.run(see, ack="manual") as client:
        await client.publish_many(bench.topic, numbers(100))
        await until(lambda: len(contexts) == 100)
        await asyncio.gather(*(context.ack() for context in reversed(contexts.values())))
        await client.publish(bench.topic, Number(value=100))
        await until(lambda: handled[100])
        await contexts[100].ack()
    async with bench.run(see) as client:
        await client.publish(bench.topic, Number(value=101))
        await until(lambda: handled[101])
    assert handled == dict.fromkeys(range(102), 1)


async def test_the_first_settlement_counts_and_an_error_after_it_changes_nothing(bench: Bench, until: Until) -> None:
    attempts: dict[int, list[int]] = {0: [], 1: [], 2: []}

    async def settle_twice(event: Number, context: Context) -> None:
        attempts[event.value].append(context.attempt)
        if event.value == 0:
            await context.ack()
            await context.nack(0)
        elif event.value == 1 and context.attempt == 1:
            await context.nack(0)
            await context.ack()
        await context.reject("too late" if event.value < 2 else "no such number")
        raise ValueError("after it was settled")

    async with bench.run(settle_twice, retry=SOON) as client, bench.letters() as letters:
        await client.publish_many(bench.topic, numbers(3))
        await until(lambda: len(letters) == 2)
    assert attempts == {0: [1], 1: [1, 2], 2: [1]}
    assert values(letters) == [1, 2]
