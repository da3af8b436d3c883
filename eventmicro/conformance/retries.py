"""Retries: what is given back comes again, later and counted, and stops nothing else."""

from __future__ import annotations

import asyncio
from collections import Counter

from eventmicro.conformance.bench import Bench, Settle, hold, until
from eventmicro.conformance.case import case
from eventmicro.message import Delivery, Message


@case("durable")
async def what_is_nacked_comes_again_and_is_counted(bench: Bench) -> None:
    """Watermill 4: a hundred events, each nacked twice."""
    worker = await bench.work(settle=_ack_the_third_time)
    sent = await bench.publish(100)
    await worker.wait_for(300)
    await worker.settled()
    attempts = Counter((delivery.body, delivery.attempt) for delivery in worker.deliveries)
    assert attempts == Counter((body, attempt) for body in sent for attempt in (1, 2, 3))


@case("durable")
async def consumers_that_fail_and_go_leave_all_to_one_that_works(bench: Bench) -> None:
    """Watermill 8: fifty events; three consumers nack a hundred deliveries each and close; the next gets all."""
    await (await bench.work()).close()
    sent = await bench.publish(50)
    for _ in range(3):
        failing = await bench.work(settle=_nack_at_most(100))
        await failing.wait_for(100)
        await failing.close()
    worker = await bench.work()
    await bench.all_arrive(sent, worker)
    assert all(delivery.attempt > 1 for delivery in worker.deliveries)


@case("durable")
async def attempts_are_counted_by_the_broker_not_by_the_process(bench: Bench) -> None:
    for attempt in (1, 2, 3):
        worker = await bench.work(settle=hold)
        if attempt == 1:
            await bench.publish(1)
        await worker.wait_for(1)
        assert worker.deliveries[0].attempt == attempt
        await worker.subscription.drain()  # so that it comes again elsewhere, and not here once more before the close
        await worker.deliveries[0].nack()
        await worker.close()


@case("durable")
async def events_come_again_in_the_order_of_their_delays(bench: Bench) -> None:
    delays = {b"0": 0.8, b"1": 0.2, b"2": 0.4}
    again: list[tuple[bytes, int, float]] = []
    nacked: dict[bytes, float] = {}
    clock = asyncio.get_running_loop().time

    async def settle(delivery: Delivery) -> None:
        if delivery.attempt == 1:
            nacked[delivery.body] = clock()
            await delivery.nack(delays[delivery.body])
        else:
            again.append((delivery.body, delivery.attempt, clock() - nacked[delivery.body]))
            await delivery.ack()

    await bench.work(settle=settle)
    await bench.publish(3)
    await until(lambda: len(again) == 3)
    assert [(body, attempt) for body, attempt, _ in again] == [(b"1", 2), (b"2", 2), (b"0", 2)]
    early = [body for body, _, waited in again if waited < 0.8 * delays[body]]
    assert not early, f"{early} came before its delay was over"


@case("durable")
async def an_event_that_always_fails_does_not_stop_the_others(bench: Bench) -> None:
    async def settle(delivery: Delivery) -> None:
        await (delivery.nack(0.1) if delivery.body == b"poison" else delivery.ack())

    worker = await bench.work(settle=settle, prefetch=5)
    await bench.publish([b"poison"])
    sent = await bench.publish(50)
    await until(lambda: set(sent) <= set(worker.bodies) and worker.bodies.count(b"poison") >= 3)
    attempts = [delivery.attempt for delivery in worker.deliveries if delivery.body == b"poison"]
    assert attempts == list(range(1, len(attempts) + 1))
    assert Counter(worker.bodies) - Counter({b"poison": len(attempts)}) == Counter(sent)


@case("durable")
async def what_comes_again_is_what_was_sent(bench: Bench) -> None:
    worker = await bench.work(settle=_ack_the_third_time)
    message = Message(bench.subject, b"\x00\xff", {"Text": "äöü€", "Empty": ""})
    await (await bench.publisher()).publish(message)
    await worker.wait_for(3)
    for delivery in worker.deliveries:
        assert (delivery.subject, delivery.body, delivery.headers) == (bench.subject, message.body, message.headers)


def _nack_at_most(count: int) -> Settle:
    left = iter(range(count))

    async def settle(delivery: Delivery) -> None:
        if next(left, None) is not None:
            await delivery.nack()

    return settle


async def _ack_the_third_time(delivery: Delivery) -> None:
    await (delivery.ack() if delivery.attempt > 2 else delivery.nack())
