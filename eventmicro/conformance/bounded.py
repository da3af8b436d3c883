"""Events that are of use for a time only, or come before others: kept as they say, or declared missing."""

from __future__ import annotations

import asyncio

from eventmicro.conformance.bench import Bench, Consumer, hold
from eventmicro.conformance.case import case
from eventmicro.errors import Unsupported
from eventmicro.events.keeping import check_keeps
from eventmicro.message import Bounded, Copy, Message
from eventmicro.topic import Topic

# For how long an event is of use, and when it surely is no more, in seconds: some servers look every second.
TTL = 1.0
OVER = 3.5


@case("ttl", "durable")
async def an_event_that_nobody_takes_in_time_is_dropped(bench: Bench) -> None:
    await _away(await bench.work())
    broker = await bench.publisher()
    await broker.publish(Bounded(bench.subject, b"brief", ttl=TTL))
    await broker.publish(Message(bench.subject, b"for ever"))
    await broker.publish_many([Bounded(bench.subject, b"brief too", ttl=TTL), Bounded(bench.subject, b"long", ttl=600)])
    await asyncio.sleep(OVER)
    await bench.all_arrive([b"for ever", b"long"], await bench.work())


@case("ttl", "durable")
async def an_event_that_is_taken_in_time_arrives(bench: Bench) -> None:
    worker = await bench.work()
    await (await bench.publisher()).publish(Bounded(bench.subject, b"brief", {"Name": "value"}, ttl=60))
    await bench.all_arrive([b"brief"], worker)
    headers = worker.deliveries[0].headers or {}
    assert headers == {"Name": "value"}, f"a handler sees how long it is kept: {headers}"


@case("ttl", "durable")
async def a_copy_of_an_event_is_kept_for_longer_than_the_event(bench: Bench) -> None:
    dead = f"{bench.subject}.dead"
    await _away(await bench.work(queue=dead, subject=dead))
    worker, broker = await bench.work(settle=hold), await bench.publisher()
    await broker.publish(Bounded(bench.subject, b"brief", ttl=TTL))
    await worker.wait_for(1)
    await broker.publish(Copy(dead, b"brief", {"Name": "value"}, of=worker.deliveries[0]))
    await worker.deliveries[0].ack()
    await asyncio.sleep(OVER)
    await bench.all_arrive([b"brief"], await bench.work(queue=dead, subject=dead))


@case("priority", "durable")
async def events_with_a_priority_arrive_as_any(bench: Bench) -> None:
    worker, broker = await bench.work(), await bench.publisher()
    for number in (0, 4, 255):
        await broker.publish(Bounded(bench.subject, b"%d" % number, priority=number))
    await bench.all_arrive([b"0", b"4", b"255"], worker)


@case(lacks=["ttl"])
async def a_time_that_is_not_kept_is_refused(bench: Bench) -> None:
    _refused(bench, Topic(bench.subject, bytes, ttl=TTL))


@case(lacks=["priority"])
async def a_priority_that_is_not_kept_is_refused(bench: Bench) -> None:
    _refused(bench, Topic(bench.subject, bytes, priority=1))


def _refused(bench: Bench, topic: Topic[bytes]) -> None:
    try:
        check_keeps(topic, bench.make_broker())
    except Unsupported:
        return
    raise AssertionError(f"{topic!r} is taken by a broker that does not declare it")


async def _away(worker: Consumer) -> None:
    """Its queue is there, and nobody takes from it."""
    await worker.subscription.drain()
    await worker.close()
