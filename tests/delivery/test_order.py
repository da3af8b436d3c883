"""Order by key: kept with many at a time, across a retry, over instances that come and go; other keys go on."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

import pytest

from eventmicro import Context, Retry
from tests.delivery.bench import Bench, Number, Until, numbers, values

pytestmark = [pytest.mark.timeout_seconds(60), pytest.mark.needs("ordered_keys")]

KEYS = 10
SOON = Retry(attempts=5, backoff=0.05, factor=1)


class Ledger:
    """What was begun and done, in order, by key.

    Args:
        fails: how often an event fails at its first attempt, as a share.
    """

    def __init__(self, fails: float = 0.0) -> None:
        self.begun: dict[str | None, list[int]] = defaultdict(list)
        self.done: dict[str | None, list[int]] = defaultdict(list)
        self.running: set[str | None] = set()
        self.together: list[str] = []
        self.most = 0
        self._fails = fails
        self._dice = random.Random(1)

    async def handle(self, event: Number, context: Context) -> None:
        if event.key in self.running:
            self.together.append(f"{event.key} {event.value}")
        self.running.add(event.key)
        self.most = max(self.most, len(self.running))
        self.begun[event.key].append(event.value)
        try:
            await asyncio.sleep(0.001 * self._dice.randrange(5))
            if context.attempt == 1 and self._dice.random() < self._fails:
                raise ValueError("not yet")
        finally:
            self.running.discard(event.key)
        self.done[event.key].append(event.value)

    @property
    def count(self) -> int:
        return sum(map(len, self.done.values()))

    def check(self, count: int) -> None:
        """All were done once and in order, no two of one key at a time, and none overtook one that failed."""
        assert self.done == {f"k{key}": list(range(key, count, KEYS)) for key in range(KEYS)}
        assert all(begun == sorted(begun) for begun in self.begun.values())
        assert self.together == []


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("fails", [0.0, 0.1], ids=["smooth", "retries"])
async def test_events_of_a_key_are_handled_one_after_the_other_and_keys_at_the_same_time(
    fails: float, instances: int, bench: Bench, until: Until
) -> None:
    ledger = Ledger(fails)
    words = {"order_by": "key", "concurrency": 8, "retry": SOON}
    async with bench.run(ledger.handle, instances=instances, **words) as client:
        await client.publish_many(bench.topic, numbers(300, KEYS))
        await until(lambda: ledger.count == 300)
    ledger.check(300)
    assert ledger.most > 1


async def test_one_key_that_fails_for_good_holds_up_no_other_key(bench: Bench, until: Until) -> None:
    ledger = Ledger()

    async def see(event: Number, context: Context) -> None:
        if event.key == "k3":
            raise ValueError("unlucky")
        await ledger.handle(event, context)

    retry = Retry(attempts=2, backoff=0.5, jitter=0)
    async with bench.run(see, order_by="key", concurrency=2, retry=retry) as client, bench.letters() as letters:
        await client.publish_many(bench.topic, numbers(30, KEYS))
        await until(lambda: ledger.count == 27)
        await until(lambda: len(letters) == 3)
    assert values(letters) == [3, 13, 23]


async def test_an_event_without_a_key_is_said_once_where_the_key_makes_the_order(
    bench: Bench, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    if bench.capabilities.ordered:
        pytest.skip("order is kept without a key")
    ledger = Ledger()
    async with bench.run(ledger.handle, order_by="key") as client:
        await client.publish(bench.topic, Number(key="k1"))
        await until(lambda: ledger.count == 1)
        assert "has no key" not in caplog.text
        for count in range(2, 5):
            await client.publish(bench.topic.name, Number(key="k1"))
            await until(lambda: ledger.count == count)  # noqa: B023
    assert caplog.text.count("has no key, so it has no place in the order that order_by asks for") == 1


@pytest.mark.parametrize("fails", [0.0, 0.1], ids=["smooth", "retries"])
async def test_order_holds_when_an_instance_comes_and_another_one_goes(
    fails: float, bench: Bench, until: Until
) -> None:
    ledger = Ledger(fails)
    words = {"order_by": "key", "concurrency": 8, "retry": SOON}
    first, second = (bench.service(ledger.handle, **words) for _ in range(2))
    await first.start()
    await first.publish_many(bench.topic, numbers(200, KEYS))
    await until(lambda: ledger.count > 20)
    await second.start()
    await second.publish_many(bench.topic, [Number(value=200 + n, key=f"k{n % KEYS}") for n in range(200)])
    await until(lambda: ledger.count > 150)
    await first.stop()
    await until(lambda: ledger.count == 400)
    await second.stop()
    ledger.check(400)
