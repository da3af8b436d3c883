"""Batches: filled by size or time, isolated when they fail, settled together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from eventmicro import Batch, Context, Retry
from eventmicro.message import Message
from tests.delivery.bench import Bench, Number, Until, numbers, values

pytestmark = pytest.mark.timeout_seconds(60)

SOON = Retry(attempts=3, backoff=0.05, factor=1)


class Batches:
    """Notes batches, and fails at the event 13."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.handled: Counter[int] = Counter()
        self.failed = 0

    async def handle(self, events: list[Number]) -> None:
        self.sizes.append(len(events))
        if any(event.value == 13 for event in events):
            self.failed += 1
            raise ValueError("unlucky")
        self.handled.update(event.value for event in events)


async def test_events_come_in_batches_of_the_size_and_the_rest_when_its_time_has_come(
    bench: Bench, until: Until
) -> None:
    seen = Batches()
    async with bench.run(seen.handle, batch=Batch(20, 0.3)) as client:
        await client.publish_many(bench.topic, [Number(value=-n) for n in range(210)])
        await until(lambda: sum(seen.handled.values()) == 210)
    assert set(seen.handled.values()) == {1}
    assert max(seen.sizes) == 20
    assert len(seen.sizes) < 40


async def test_the_poison_of_a_batch_is_isolated_and_all_others_are_handled_once(bench: Bench, until: Until) -> None:
    seen = Batches()
    async with bench.run(seen.handle, batch=Batch(20, 0.1), retry=SOON) as client, bench.letters() as letters:
        await client.publish_many(bench.topic, numbers(100))
        await until(lambda: len(seen.handled) == 99 and letters)
    assert seen.handled == {value: 1 for value in range(100) if value != 13}
    assert seen.failed == 3
    assert values(letters) == [13]


async def test_what_cannot_be_decoded_is_left_out_of_its_batch(bench: Bench, until: Until) -> None:
    seen = Batches()
    async with (
        bench.run(seen.handle, batch=Batch(20, 0.1), retry=SOON) as client,
        bench.letters() as letters,
        bench.broker() as broker,
    ):
        await broker.publish_many([Message(bench.topic.name, b"\xff no number")] * 5)
        await client.publish_many(bench.topic, [Number(value=100 + n) for n in range(50)])
        await until(lambda: len(seen.handled) == 50 and len(letters) == 5)
    assert seen.handled == dict.fromkeys(range(100, 150), 1)


@pytest.mark.parametrize("how", ["ack", "nack", "reject"])
async def test_a_batch_is_settled_by_hand_as_a_whole(how: str, bench: Bench, until: Until) -> None:
    attempts: Counter[int] = Counter()

    async def settle(events: list[Number], context: Context) -> None:
        attempts.update(event.value for event in events)
        if how == "nack":
            await context.nack(0.05)
        else:
            await getattr(context, how)()

    words: dict[str, Any] = {"batch": Batch(10, 0.1), "ack": "manual", "retry": SOON}
    async with bench.run(settle, **words) as client, bench.letters() as letters:
        await client.publish_many(bench.topic, numbers(50))
        await until(lambda: len(attempts) == 50 and len(letters) == (0 if how == "ack" else 50))
    async with bench.run(settle, **words) as client:
        await client.publish(bench.topic, Number(value=50))
        await until(lambda: attempts[50])
    times = 3 if how == "nack" else 1
    assert {value: attempts[value] for value in range(50)} == dict.fromkeys(range(50), times)
