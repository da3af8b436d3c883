"""memory: messages that are handed over together, and what becomes of them when something happens in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventmicro.broker import Durable, Subscription
from eventmicro.memory import MemoryBroker
from eventmicro.message import Delivery, Message

Until = Callable[[Callable[[], object]], Awaitable[None]]
Handle = Callable[[Delivery], Awaitable[None]]

COUNT = 10


class Many:
    """A consumer that takes up to so many at once, and awaits what is to be done with each before it has room."""

    def __init__(self, handle: Handle | None = None, most: int = 1000) -> None:
        self.taken: list[Delivery] = []
        self.runs: list[int] = []
        self._handle = handle
        self._most = most

    def __call__(self, delivery: Delivery) -> Awaitable[None] | None:
        return self.many(deque((delivery,)))

    def many(self, line: deque[Delivery]) -> Awaitable[None] | None:
        run: list[Delivery] = []
        while line and len(run) < self._most:
            run.append(line.popleft())
            self.taken.append(run[-1])
        self.runs.append(len(run))
        return None if self._handle is None else self._all(run)

    async def _all(self, run: list[Delivery]) -> None:
        assert self._handle is not None
        for delivery in run:
            await self._handle(delivery)

    @property
    def got(self) -> list[tuple[int, int]]:
        """The numbers of what it got, each with its attempt."""
        return [(int(delivery.body), delivery.attempt) for delivery in self.taken]


async def ack(delivery: Delivery) -> None:
    await delivery.ack()


async def publish(broker: MemoryBroker, count: int = COUNT) -> None:
    await broker.publish_many([Message("a", b"%d" % number) for number in range(count)])


async def work(broker: MemoryBroker, consumer: Any, **durable: Any) -> Subscription:
    return await broker.subscribe("a", consumer, queue="q", durable=Durable(**durable))


async def test_what_came_together_is_handed_over_together_and_once(until: Until) -> None:
    async with MemoryBroker("memory://runs") as broker:
        live, kept = Many(), Many(ack)
        await broker.subscribe("a", live)
        await work(broker, kept)
        await publish(broker)
        await until(lambda: len(live.taken) == len(kept.taken) == COUNT)
        assert live.got == kept.got == [(number, 1) for number in range(COUNT)]
        assert live.runs == kept.runs == [COUNT]


@pytest.mark.parametrize("most", [1, 3, 7])
async def test_what_is_not_taken_comes_later_in_its_order_and_counts_no_attempt(most: int, until: Until) -> None:
    async with MemoryBroker("memory://runs") as broker:
        live, kept = Many(most=most), Many(ack, most)
        await broker.subscribe("a", live)
        await work(broker, kept)
        await publish(broker)
        await until(lambda: len(live.taken) == len(kept.taken) == COUNT)
        assert live.got == kept.got == [(number, 1) for number in range(COUNT)]
        assert max(live.runs + kept.runs) == most


@pytest.mark.parametrize("many", [False, True])
async def test_a_handler_that_publishes_to_its_own_subject_lets_others_run(many: bool) -> None:
    """What it publishes is in the line again at once."""
    seen: list[Delivery] = []
    async with MemoryBroker("memory://runs") as broker:

        def receive(delivery: Delivery) -> None:
            seen.append(delivery)
            if len(seen) < 10_000:
                broker.try_publish(Message("a"))

        def receive_many(line: deque[Delivery]) -> None:
            receive(line.popleft())

        consumer: Any = receive
        if many:
            consumer = Many()
            consumer.many = receive_many
        await broker.subscribe("a", consumer)
        await broker.publish(Message("a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert 1 <= len(seen) <= 1_000


async def test_what_one_instance_has_no_room_for_goes_to_the_other_uncounted(until: Until) -> None:
    gate = asyncio.Event()
    async with MemoryBroker("memory://runs") as broker:

        async def wait(delivery: Delivery) -> None:
            await gate.wait()
            await delivery.ack()

        stuck, free = Many(wait, most=1), Many(ack)
        await work(broker, stuck)
        await work(broker, free)
        await publish(broker)
        await until(lambda: len(stuck.taken) + len(free.taken) == COUNT)
        assert len(stuck.taken) == 1
        assert sorted(stuck.got + free.got) == [(number, 1) for number in range(COUNT)]
        gate.set()


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_nack_in_the_middle_of_a_run_comes_again_with_its_second_attempt(ordered: bool, until: Until) -> None:
    async with MemoryBroker("memory://runs") as broker:

        async def settle(delivery: Delivery) -> None:
            await (delivery.nack() if delivery.body == b"4" and delivery.attempt == 1 else delivery.ack())

        consumer = Many(settle)
        await work(broker, consumer, ordered=ordered)
        await publish(broker)
        await until(lambda: len(consumer.taken) == COUNT + 1)
        firsts = [(number, 1) for number in range(COUNT)]
        assert consumer.got == ([*firsts[:5], (4, 2), *firsts[5:]] if ordered else [*firsts, (4, 2)])


async def test_an_ordered_queue_keeps_its_order_however_often_one_is_nacked(until: Until) -> None:
    async with MemoryBroker("memory://runs") as broker:
        done: list[int] = []

        async def settle(delivery: Delivery) -> None:
            if delivery.attempt < 3:
                await delivery.nack()
                return
            done.append(int(delivery.body))
            await delivery.ack()

        one, other = Many(settle), Many(settle)
        await work(broker, one, ordered=True)
        await work(broker, other, ordered=True)
        await publish(broker)
        await until(lambda: len(done) == COUNT)
        assert done == list(range(COUNT))
        assert sorted(one.got + other.got) == [(n, attempt) for n in range(COUNT) for attempt in (1, 2, 3)]


@pytest.mark.parametrize("end", ["drain", "close"])
async def test_an_end_in_the_middle_of_a_run_leaves_the_rest_to_others_uncounted(end: str, until: Until) -> None:
    """What had begun counts: closed, it was not settled; drained, it may still be."""
    async with MemoryBroker("memory://runs") as broker, MemoryBroker("memory://runs") as leaving:
        begun: list[Delivery] = []
        left: list[int] = []

        class Leaving(Many):
            def many(self, line: deque[Delivery]) -> None:
                for _ in range(3):
                    begun.append(line.popleft())
                ended = subscription.drain() if end == "drain" else leaving.close()
                with pytest.raises(StopIteration):
                    ended.send(None)
                left.append(len(line))

        subscription = await work(leaving, Leaving())
        await publish(broker)
        await until(lambda: left)
        assert left == [0]
        for delivery in begun:
            await delivery.ack()
        others = Many(ack)
        await work(broker, others)
        again = [] if end == "drain" else [(number, 2) for number in range(3)]
        rest = [(number, 1) for number in range(3, COUNT)]
        await until(lambda: len(others.taken) == len(again + rest))
        assert sorted(others.got) == again + rest
        assert [delivery.attempt for delivery in begun] == [1, 1, 1]


async def test_a_live_subscription_that_is_closed_in_a_run_hands_nothing_over_any_more() -> None:
    async with MemoryBroker("memory://runs") as broker:
        seen: list[Delivery] = []

        class Closing(Many):
            def many(self, line: deque[Delivery]) -> None:
                seen.append(line.popleft())
                subscription.close()

        subscription = await broker.subscribe("a", Closing())
        await publish(broker)
        for _ in range(3):
            await asyncio.sleep(0)
        assert [delivery.body for delivery in seen] == [b"0"]


async def test_prefetch_bounds_what_a_run_holds(until: Until) -> None:
    async with MemoryBroker("memory://runs") as broker:
        consumer = Many()
        await work(broker, consumer, prefetch=4)
        await publish(broker)
        await until(lambda: len(consumer.taken) == 4)
        await asyncio.sleep(0)
        assert len(consumer.taken) == 4
        for number in range(COUNT):
            await until(lambda: len(consumer.taken) > number)  # noqa: B023
            await consumer.taken[number].ack()
        assert consumer.got == [(number, 1) for number in range(COUNT)]
