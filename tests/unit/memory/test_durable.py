"""memory: what its durable queues do that is not in the port, or that only a broker in this process can show."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventmicro.broker import Durable
from eventmicro.errors import NotAllPublished, NotStored, Unsupported, UsageError
from eventmicro.memory import MemoryBroker
from eventmicro.message import Delivery, Message

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Worker(list[Delivery]):
    """A consumer that keeps what it gets."""

    def __call__(self, delivery: Delivery) -> None:
        self.append(delivery)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self]


async def work(broker: MemoryBroker, **durable: Any) -> Worker:
    worker = Worker()
    await broker.subscribe("a", worker, queue="q", durable=Durable(**durable))
    return worker


async def publish(broker: MemoryBroker, *bodies: bytes) -> None:
    await broker.publish_many([Message("a", body) for body in bodies])


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_queue_outlives_all_connections(until: Until) -> None:
    async with MemoryBroker() as broker:
        await work(broker)
    async with MemoryBroker() as broker:
        await publish(broker, b"1", b"2")
    async with MemoryBroker() as broker:
        worker = await work(broker)
        await until(lambda: worker.bodies == [b"1", b"2"])


async def test_a_full_queue_makes_publishers_wait_and_then_fail(until: Until) -> None:
    async with MemoryBroker(queue_limit=2) as broker:
        worker = await work(broker)
        await publish(broker, b"1", b"2")
        await until(lambda: len(worker) == 2)
        with pytest.raises(NotStored, match="queue 'q' is full: it keeps 2 events that are not settled"):
            await broker.publish(Message("a", b"3"), timeout=0.01)
        with pytest.raises(NotAllPublished) as failure:
            await broker.publish_many([Message("a", b"3"), Message("b"), Message("a", b"4")], timeout=0.01)
        assert sorted(failure.value.failed) == [0, 2]
        assert failure.value.confirmed == 1
        waiting = asyncio.create_task(broker.publish(Message("a", b"5")))
        await turns()
        assert not waiting.done()
        await worker[0].ack()
        await waiting
        await until(lambda: worker.bodies == [b"1", b"2", b"5"])


async def test_instances_take_turns_and_one_that_has_no_room_is_passed_over(until: Until) -> None:
    async with MemoryBroker() as broker:
        one, other, busy = await work(broker), await work(broker), await work(broker, prefetch=1)
        for number in range(9):
            await publish(broker, b"%d" % number)
            await turns(2)
        await until(lambda: len(one) + len(other) + len(busy) == 9)
        assert (len(one), len(other), len(busy)) == (4, 4, 1)


async def test_an_instance_that_takes_no_more_leaves_what_waits_to_the_others(until: Until) -> None:
    async with MemoryBroker() as leaving, MemoryBroker() as staying:
        subscription = await leaving.subscribe("a", Worker(), queue="q", durable=Durable())
        await publish(leaving, b"1")  # the one member was woken for it, and ends before it takes it
        worker = await work(staying)
        await subscription.drain()
        await until(lambda: worker.bodies == [b"1"])
        assert worker[0].attempt == 1


async def test_an_ordered_queue_goes_on_elsewhere_only_when_nothing_is_left_with_the_one_that_drained() -> None:
    async with MemoryBroker() as one, MemoryBroker() as other:
        first = Worker()
        subscription = await one.subscribe("a", first, queue="q", durable=Durable(ordered=True, prefetch=2))
        second = await work(other, ordered=True)
        await publish(one, b"1", b"2", b"3")
        await turns()
        await subscription.drain()
        await first[0].ack()
        await turns()
        assert second == []
        await first[1].nack()
        await turns()
        assert second.bodies == [b"2", b"3"]


async def test_a_queue_is_used_as_it_was_made() -> None:
    async with MemoryBroker() as broker:
        await work(broker)
        with pytest.raises(UsageError, match="queue 'q' exists with ordered False, not True; with dedupe None, not 60"):
            await work(broker, ordered=True, dedupe=60)
        with pytest.raises(UsageError, match="on subject 'a', not 'b': ask for it as it is, or name another queue"):
            await broker.subscribe("b", Worker(), queue="q", durable=Durable())


async def test_what_it_cannot_do_is_refused() -> None:
    async with MemoryBroker() as broker:
        with pytest.raises(UsageError, match="needs a queue"):
            await broker.subscribe("a", Worker(), durable=Durable())
        with pytest.raises(Unsupported, match="one that is new starts with what comes"):
            await work(broker, start="all")


async def test_a_request_is_not_kept_for_later(until: Until) -> None:
    async with MemoryBroker() as broker:
        worker = await work(broker)
        replies = Worker()
        await broker.subscribe("replies", replies)
        await broker.send(Message("a", b"anybody?", reply="replies"))
        await until(lambda: replies)
        assert replies[0].headers == {"Status": "503"}
        assert worker == []


async def test_headers_that_a_handler_or_a_publisher_changes_are_as_published_at_the_next_attempt(until: Until) -> None:
    async with MemoryBroker() as broker:
        worker = await work(broker)
        mine = {"X": "y"}
        await broker.publish(Message("a", headers=mine))
        mine["X"] = "changed"
        await until(lambda: worker)
        (worker[0].headers or {})["X"] = "changed, too"
        await worker[0].nack()
        await until(lambda: len(worker) == 2)
        assert worker[1].headers == {"X": "y"}


async def test_an_event_has_an_id_of_its_own_in_every_process_and_queue(until: Until) -> None:
    async with MemoryBroker() as broker, MemoryBroker("memory://other") as elsewhere:
        workers = [await work(broker), await work(elsewhere), Worker()]
        await broker.subscribe("a", workers[2], queue="r", durable=Durable())
        await publish(broker, b"1", b"2")
        await publish(elsewhere, b"1", b"2")
        await until(lambda: all(len(worker) == 2 for worker in workers))
        assert len({delivery.id for worker in workers for delivery in worker}) == 6


async def test_ids_are_forgotten_when_their_window_is_over(until: Until) -> None:
    async with MemoryBroker() as broker:
        worker = await work(broker, dedupe=0.001)
        for number in range(3):
            await broker.publish(Message("a", b"%d" % number, id=str(number)))
            await asyncio.sleep(0.002)
        await until(lambda: len(worker) == 3)
        queue = broker._connected_hub()._queues["q"]
        assert len(queue._seen) == 1
