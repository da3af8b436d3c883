"""Where a queue begins, and what it takes for the same event."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from datetime import UTC, datetime

from eventmicro.broker import ReadsKept
from eventmicro.conformance.bench import QUIET, Bench
from eventmicro.conformance.case import case
from eventmicro.message import Message

# The window of deduplication in the case that lets it pass, and how long that waits, in seconds.
WINDOW, PASSED = 1.0, 3.0


@case("durable")
async def a_new_queue_begins_with_what_comes(bench: Bench) -> None:
    await bench.work(f"{bench.subject}.first")
    await bench.publish([b"before"])
    worker = await bench.work()
    await bench.all_arrive(await bench.publish([b"after"]), worker)


@case("durable", "replay")
async def every_new_queue_may_begin_with_all_that_is_there(bench: Bench) -> None:
    """Watermill 14: one event, then three times one more and a new queue."""
    await bench.work(f"{bench.subject}.first")
    sent = await bench.publish([b"0"])
    workers = []
    for number in range(3):
        sent += await bench.publish([b"more %d" % number])
        workers.append(await bench.work(f"{bench.subject}.{number}", start="all"))
    await asyncio.gather(*(bench.all_arrive(sent, worker) for worker in workers))


@case("durable", "replay")
async def a_new_queue_may_begin_at_a_time(bench: Bench) -> None:
    await bench.work(f"{bench.subject}.first")
    await bench.publish([b"before"])
    await asyncio.sleep(QUIET)
    since = datetime.now(UTC)
    await asyncio.sleep(QUIET)
    sent = await bench.publish(10)
    await bench.all_arrive(sent, await bench.work(start=since))


@case("durable", "replay")
async def a_queue_that_exists_goes_on_where_it_was(bench: Bench) -> None:
    first = await bench.work(start="all")
    await bench.all_arrive(await bench.publish(10), first)
    await first.close()
    again = await bench.work(start="all")
    await bench.all_arrive(await bench.publish([b"after"]), again)


@case("durable", "dedupe")
async def an_event_that_is_published_again_is_not_delivered_again(bench: Bench) -> None:
    worker = await bench.work(dedupe=60.0)
    messages = [Message(bench.subject, b"%d" % number, id=f"{bench.subject}-{number}") for number in range(50)]
    first, second = await bench.broker(), await bench.broker()
    await first.publish_many(messages)
    await second.publish_many(messages)
    for message in messages[:5]:
        await first.publish(message)
    unnamed = [Message(bench.subject, b"without an id") for _ in range(3)]
    await first.publish_many(unnamed)
    await bench.all_arrive([message.body for message in (*messages, *unnamed)], worker)


@case("durable", "dedupe")
async def an_event_that_is_published_again_after_the_window_is_another(bench: Bench) -> None:
    worker, publisher = await bench.work(dedupe=WINDOW), await bench.publisher()
    message = Message(bench.subject, b"again", id=f"{bench.subject}-again")
    await publisher.publish(message)
    await asyncio.sleep(PASSED)
    await publisher.publish(message)
    await bench.all_arrive([b"again", b"again"], worker)
    assert len({delivery.id for delivery in worker.deliveries}) == 2


@case("durable", "replay")
async def what_is_kept_can_be_looked_at(bench: Bench) -> None:
    """By a new queue, and without any where the broker is one that `ReadsKept`: up to the end that there is then."""
    worker = await bench.work()
    sent = await bench.publish(300)
    await bench.all_arrive(sent, await bench.work(f"{bench.subject}.again", start="all"))
    broker = await bench.publisher()
    if not isinstance(broker, ReadsKept):
        return
    assert Counter([each.body async for each in broker.read_kept(bench.subject, "all")]) == Counter(sent)
    await asyncio.sleep(QUIET)
    since = datetime.now(UTC)
    await asyncio.sleep(QUIET)
    assert [each.body async for each in broker.read_kept(bench.subject, since)] == []
    later = await bench.publish([b"later"])
    assert [each.body async for each in broker.read_kept(bench.subject, since)] == later
    assert [each.body async for each in broker.read_kept(f"{bench.subject}.nothing", "all")] == []
    async with aclosing(broker.read_kept(bench.subject, "all")) as kept:
        assert (await anext(kept)).body in sent  # and is left before its end
    await bench.all_arrive([*sent, *later], worker)
