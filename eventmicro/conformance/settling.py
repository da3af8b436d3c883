"""Settling: an event stays with who got it until it is settled, once; what is not settled is delivered again."""

from __future__ import annotations

import asyncio

from eventmicro.conformance.bench import QUIET, Bench, Consumer, ack, bodies_of, hold, stuck, until
from eventmicro.conformance.case import case
from eventmicro.message import Delivery

# For how long an event is held, in seconds: longer than the lease of a broker that is set up for the suite.
LONG = 3.0


@case("durable")
async def what_was_not_settled_comes_again_when_its_consumer_closes(bench: Bench) -> None:
    hanging = await bench.work(settle=hold)
    sent = await bench.publish(5)
    await hanging.wait_for(5)
    await hanging.close()
    await bench.all_arrive(sent, await bench.work())


@case("durable", "crash_attempts")
async def a_delivery_that_was_never_settled_counts_as_an_attempt(bench: Bench) -> None:
    for attempt in (1, 2, 3):
        hanging = await bench.work(settle=hold)
        if attempt == 1:
            await bench.publish(1)
        await hanging.wait_for(1)
        assert [delivery.attempt for delivery in hanging.deliveries] == [attempt]
        await hanging.close()


@case("durable")
async def an_event_is_not_delivered_again_while_its_handler_runs(bench: Bench) -> None:
    """The adapter extends the broker's lease for as long as it takes."""
    instances = [await bench.work(settle=hold) for _ in range(2)]
    sent = await bench.publish(3)
    await until(lambda: len(bodies_of(instances)) >= 3)
    await asyncio.sleep(LONG)
    for instance in instances:
        for delivery in instance.deliveries:
            await delivery.ack()
    await bench.all_arrive(sent, *instances)


@case("durable")
async def the_first_settlement_counts(bench: Bench) -> None:
    acked, nacked = await bench.work(f"{bench.subject}.one"), await bench.work(f"{bench.subject}.two", settle=hold)
    await bench.publish(1)
    await acked.wait_for(1)
    await acked.settled()
    await acked.deliveries[0].nack()
    await acked.deliveries[0].ack()
    await nacked.wait_for(1)
    await nacked.deliveries[0].nack()
    await nacked.deliveries[0].ack()
    await nacked.wait_for(2)
    await nacked.deliveries[1].ack()
    await asyncio.sleep(QUIET)
    assert (len(acked.deliveries), len(nacked.deliveries)) == (1, 2)


@case("durable")
async def a_settlement_after_close_does_nothing(bench: Bench) -> None:
    late = await bench.work(settle=hold)
    sent = await bench.publish(2)
    await late.wait_for(2)
    await late.close()
    await late.deliveries[0].ack()
    await late.deliveries[1].nack(60)
    await bench.all_arrive(sent, await bench.work())


@case("durable")
async def close_keeps_the_acks_that_came_before_it(bench: Bench) -> None:
    worker = await bench.work()
    sent = await bench.publish(200)
    await bench.all_arrive(sent, worker)
    await worker.close()
    after = await bench.work()
    await bench.all_arrive(await bench.publish([b"after"]), after)


@case("durable")
async def close_waits_neither_for_room_nor_for_handlers(bench: Bench) -> None:
    taken: list[Delivery] = []
    hanging = await bench.work(receive=stuck(taken))
    sent = await bench.publish(20)
    await until(lambda: taken)
    await asyncio.gather(hanging.broker.close(), hanging.broker.close())
    assert not hanging.broker.connected
    await bench.all_arrive(sent, await bench.work())


@case("durable")
async def a_settlement_that_is_cancelled_leaves_the_subscription_at_work(bench: Bench) -> None:
    async def cancelled(delivery: Delivery) -> None:
        settling = asyncio.create_task(delivery.ack())
        await asyncio.sleep(0)
        settling.cancel()
        await asyncio.wait([settling])
        await ack(delivery)

    worker: Consumer = await bench.work(settle=cancelled, prefetch=5)
    sent = await bench.publish(50)
    await until(lambda: set(sent) <= set(worker.bodies))
