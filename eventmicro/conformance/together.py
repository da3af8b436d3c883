"""Consumers that take many: what came together is handed over in its order and once, and never over their room."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from itertools import groupby
from typing import Any

from eventmicro.conformance.bench import QUIET, Bench, Consumer, Settle, ack, until
from eventmicro.conformance.case import case
from eventmicro.message import Delivery

COUNT = 200


class Taking(Consumer):
    """Takes up to `most` of the line at once, and has room again when each of these is settled.

    An adapter may hand over one by one as well; it then has room again after each.
    """

    def __init__(self, consumer: Consumer, settle: Settle, most: int = COUNT) -> None:
        super().__init__(consumer.broker)
        self.most = most
        self.at_work = self.over_room = 0
        self._settle_one = settle

    def __call__(self, delivery: Delivery) -> Awaitable[None]:  # type: ignore[override]
        return self.many(deque((delivery,)))

    def many(self, line: deque[Delivery]) -> Awaitable[None]:
        """See `ReceivesMany`."""
        self.over_room += self.at_work > 0
        run = [line.popleft() for _ in range(min(len(line), self.most))]
        self.deliveries += run
        self.at_work += len(run)
        work = asyncio.ensure_future(self._work(run))
        self._settling.add(work)
        work.add_done_callback(self._settling.discard)
        return asyncio.shield(work)  # who waits no longer for room does not end what is at work

    async def _work(self, run: list[Delivery]) -> None:
        for delivery in run:
            await self._settle_one(delivery)
            self.at_work -= 1


async def take(bench: Bench, settle: Settle, most: int = COUNT, *, live: bool = False, **durable: Any) -> Taking:
    """A subscription whose consumer takes many, on a connection of its own."""
    consumer = Consumer(await bench.broker())
    taking = Taking(consumer, settle, most)
    if live:
        taking.subscription = await taking.broker.subscribe(bench.subject, taking)
        await taking.broker.flush()
    else:
        made = await bench.work(broker=consumer.broker, receive=taking, **durable)
        taking.subscription = made.subscription
    return taking


@case("broadcast")
async def what_comes_together_comes_once_and_in_its_order(bench: Bench) -> None:
    all_at_once, some = await take(bench, turn, live=True), await take(bench, turn, 3, live=True)
    sent = await bench.publish(COUNT)
    await asyncio.gather(*(bench.all_arrive(sent, consumer) for consumer in (all_at_once, some)))
    assert all_at_once.bodies == some.bodies == sent


@case("broadcast")
async def who_takes_many_is_handed_no_more_before_there_is_room(bench: Bench) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()

    async def wait(delivery: Delivery) -> None:
        begun.set()
        await gate.wait()

    consumer = await take(bench, wait, 1, live=True)
    others = await bench.listen(broker=consumer.broker)
    sent = await bench.publish(COUNT)
    await begun.wait()
    await bench.all_arrive(sent, others)
    assert consumer.bodies == sent[:1], "a consumer that takes many was handed more than it has room for"
    gate.set()
    await consumer.wait_for(COUNT)
    assert consumer.bodies == sent
    assert not consumer.over_room


@case("broadcast")
async def what_was_not_taken_is_handed_over_by_a_drain(bench: Bench) -> None:
    consumer = await take(bench, turn, 7, live=True)
    sent = await bench.publish(COUNT)
    await (await bench.publisher()).flush()
    await consumer.subscription.drain()
    assert consumer.bodies == sent


@case("durable")
async def events_that_come_together_come_once_and_in_their_order(bench: Bench) -> None:
    consumer = await take(bench, ack, 3)
    sent = await bench.publish(COUNT)
    await bench.all_arrive(sent, consumer)
    assert consumer.bodies == sent
    assert {delivery.attempt for delivery in consumer.deliveries} == {1}


@case("durable", "crash_attempts")
async def what_was_not_taken_of_what_came_together_is_given_back(bench: Bench) -> None:
    """It comes to another instance; where the adapter had it in line, the broker may have counted that."""
    gate = asyncio.Event()

    async def wait(delivery: Delivery) -> None:
        await gate.wait()
        await delivery.ack()

    leaving = await take(bench, wait, 1)
    sent = await bench.publish(COUNT)
    await leaving.wait_for(1)
    drained = bench.start(leaving.subscription.drain())
    gate.set()
    await drained
    others = await bench.work()
    await bench.all_arrive(sent, leaving, others)
    await leaving.close()
    await asyncio.sleep(QUIET)
    bench.account(sent, leaving.bodies + others.bodies)


@case("durable")
async def what_is_nacked_among_what_came_together_comes_again(bench: Bench) -> None:
    consumer = await take(bench, _nack_once(b"7", b"8", b"100"))
    sent = await bench.publish(COUNT)
    await until(lambda: len(consumer.deliveries) >= COUNT + 3)
    await asyncio.sleep(QUIET)
    again = sorted(delivery.body for delivery in consumer.deliveries if delivery.attempt == 2)
    assert again == [b"100", b"7", b"8"]
    assert sorted(d.body for d in consumer.deliveries if d.attempt == 1) == sorted(sent)
    assert len(consumer.deliveries) == COUNT + 3


@case("durable", "ordered")
async def what_is_nacked_among_what_came_together_keeps_the_order(bench: Bench) -> None:
    settled: list[bytes] = []

    async def settle(delivery: Delivery) -> None:
        if int(delivery.body) % 10 == 7 and delivery.attempt < 3:
            await delivery.nack()
            return
        settled.append(delivery.body)
        await delivery.ack()

    consumer = await take(bench, settle, ordered=True, prefetch=1)
    sent = await bench.publish(40)
    await until(lambda: len(settled) >= 40)
    assert settled == sent
    assert [body for body, _ in groupby(consumer.bodies)] == sent, "others came between two attempts of one event"


async def turn(delivery: Delivery) -> None:
    """Handled when others have had a turn."""
    await asyncio.sleep(0)


def _nack_once(*bodies: bytes) -> Settle:
    """Ack, but for these when they come for the first time."""

    async def settle(delivery: Delivery) -> None:
        await (delivery.nack() if delivery.body in bodies and delivery.attempt == 1 else delivery.ack())

    return settle
