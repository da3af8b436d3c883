"""Durable queues: what is published is kept for each of them until it is dealt with, though nobody is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from eventmicro.broker import Durable
from eventmicro.conformance.bench import QUIET, Bench, Consumer, ack, hold, numbered, raises, stuck, until
from eventmicro.conformance.case import case
from eventmicro.errors import UsageError
from eventmicro.message import Delivery, Message

# How many instances share a queue where Watermill has fifty; its own short run has ten.
INSTANCES = 10


@case("durable")
async def a_queue_keeps_its_events_while_nobody_is_there(bench: Bench) -> None:
    """Watermill 1: a hundred events, published when nobody is connected that takes them."""
    await (await bench.work()).close()
    sent = await bench.publish(100)
    worker = await bench.work()
    await bench.all_arrive(sent, worker)


@case("durable")
async def an_event_is_kept_as_it_was_sent(bench: Bench) -> None:
    worker = await bench.work()
    bodies = [b"", b"{}", bytes(range(256)), "äöü€😀".encode(), b"x" * 100_000]
    headers = [None, {"One": "1"}, {"Traceparent": "00-abc", "Text": "äöü€😀", "Empty": ""}]
    sent = [Message(bench.subject, body, header, key="key") for body in bodies for header in headers]
    publisher = await bench.publisher()
    for message in sent:
        await publisher.publish(message)
    await worker.wait_for(len(sent))
    for message, delivery in zip(sent, worker.deliveries, strict=True):
        assert (delivery.subject, delivery.body) == (bench.subject, message.body)
        assert delivery.headers == message.headers
        assert delivery.attempt == 1
    ids = {delivery.id for delivery in worker.deliveries if delivery.id}
    assert len(ids) == len(sent), "each event has an id of its own"


@case("durable")
async def an_event_keeps_its_id_however_often_it_is_delivered(bench: Bench) -> None:
    worker = await bench.work(settle=_ack_the_second_time)
    await bench.publish(3)
    await worker.wait_for(6)
    ids = {delivery.id for delivery in worker.deliveries}
    assert len(ids) == len({(delivery.body, delivery.id) for delivery in worker.deliveries}) == 3


@case("durable")
async def many_publishers_and_many_instances_at_once_lose_nothing(bench: Bench) -> None:
    """Watermill 2: fifty publishers of 5000 events in all, and several subscribers that come at the same time."""
    workers = await asyncio.gather(*(bench.work() for _ in range(INSTANCES)))
    publishers = await asyncio.gather(*(bench.broker() for _ in range(5)))
    sent = numbered(5000)

    async def publish(number: int) -> None:
        for body in sent[number::50]:
            await publishers[number % 5].publish(Message(bench.subject, body, key=str(number)))

    await asyncio.gather(*(publish(number) for number in range(50)))
    await bench.all_arrive(sent, *workers)


@case("durable")
async def twenty_subjects_on_one_connection_are_kept_apart(bench: Bench) -> None:
    """Watermill 3 and 11: a hundred events on each of twenty subjects, the same on all of them."""
    broker = await bench.broker()
    subjects = [f"{bench.subject}.{number}" for number in range(20)]
    workers = await asyncio.gather(*(bench.work(f"{s}.queue", subject=s, broker=broker) for s in subjects))
    await asyncio.gather(*(bench.publish(100, subject) for subject in subjects))
    await asyncio.gather(*(bench.all_arrive(numbered(100), worker) for worker in workers))
    for worker, subject in zip(workers, subjects, strict=True):
        assert {delivery.subject for delivery in worker.deliveries} == {subject}


@case("durable")
async def each_queue_gets_every_event(bench: Bench) -> None:
    """Watermill 16: two queues, made first, and fifty events."""
    queues = [f"{bench.subject}.one", f"{bench.subject}.two"]
    for queue in queues:
        await (await bench.work(queue)).close()
    sent = await bench.publish(50)
    for queue in queues:
        await bench.all_arrive(sent, await bench.work(queue))


@case("durable")
async def several_queues_on_one_connection_each_get_every_event(bench: Bench) -> None:
    broker = await bench.broker()
    workers = [await bench.work(f"{bench.subject}.{name}", broker=broker) for name in ("one", "two", "three")]
    sent = await bench.publish(50)
    await asyncio.gather(*(bench.all_arrive(sent, worker) for worker in workers))


@case("durable")
async def closing_in_the_middle_loses_nothing(bench: Bench) -> None:
    """Watermill 6: 5000 events; twenty consumers take a batch each and close, twice; a last one gets the rest."""
    await (await bench.work()).close()
    sent = await bench.publish(5000)
    workers = []
    for _ in range(20):
        worker = await bench.work(settle=hold, prefetch=100)
        workers.append(worker)
        await worker.wait_for(100)
        await worker.subscription.drain()
        for delivery in worker.deliveries:
            await delivery.ack()
        await worker.close()
        await worker.close()
    await bench.all_arrive(sent, *workers, await bench.work())


@case("durable")
async def subscribing_and_closing_at_once_takes_no_events_away(bench: Bench) -> None:
    """Watermill 7: ten come and go at the same time; then one gets all fifty events."""

    async def come_and_go() -> None:
        await (await bench.work()).close()

    await asyncio.gather(*(come_and_go() for _ in range(10)))
    sent = await bench.publish(50)
    await bench.all_arrive(sent, await bench.work())


@case("durable")
async def instances_that_come_and_go_under_load_lose_nothing(bench: Bench) -> None:
    """What was at work when the others changed may come twice, and is counted."""

    async def slowly(delivery: Delivery) -> None:
        await asyncio.sleep(0.002)
        await delivery.ack()

    workers = [await bench.work(settle=slowly, prefetch=10)]
    publishing = bench.start(bench.publish(2000))
    for _ in range(5):
        worker = await bench.work(settle=slowly, prefetch=10)
        workers.append(worker)
        await asyncio.sleep(0.05)
        await worker.subscription.drain()
        await worker.close()
    await bench.all_arrive(await publishing, *workers, twice=True)


@case("durable")
async def a_subscription_that_drains_may_still_settle_what_it_has_taken(bench: Bench) -> None:
    """Watermill 13: and what it has not taken is for the others."""
    taken: list[Delivery] = []
    leaving = await bench.work(receive=stuck(taken))
    sent = await bench.publish(20)
    await until(lambda: taken)
    await leaving.subscription.drain()
    assert leaving.subscription.ended
    await taken[0].ack()
    others = await bench.work()
    await bench.all_arrive([body for body in sent if body != taken[0].body], others)
    await leaving.close()
    await asyncio.sleep(QUIET)
    assert (len(taken), len(others.deliveries)) == (1, 19)


@case("durable", "ordered")
async def a_subscription_that_drains_gives_back_at_once_what_it_has_not_taken(bench: Bench) -> None:
    """Who gives out whole partitions, and so keeps the order of keys only, may wait for what was taken of one."""
    taken: list[Delivery] = []
    leaving = await bench.work(receive=stuck(taken))
    sent = await bench.publish(20)
    await until(lambda: taken)
    await leaving.subscription.drain()
    others = await bench.work()
    await bench.all_arrive([body for body in sent if body != taken[0].body], others)
    await leaving.close()
    await bench.all_arrive(sent, others)


@case("durable")
async def prefetch_is_reached_and_never_exceeded(bench: Bench) -> None:
    worker = await bench.work(settle=hold, prefetch=10)
    await bench.publish(50)
    for settled in range(41):
        await worker.wait_for(settled + 10)
        if settled in (0, 20):
            await asyncio.sleep(QUIET)
        assert len(worker.deliveries) == settled + 10, f"{len(worker.deliveries) - settled} unsettled, prefetch is 10"
        await worker.deliveries[settled].ack()
    for delivery in worker.deliveries:
        await delivery.ack()


@case("durable")
async def the_next_event_waits_until_there_is_room(bench: Bench) -> None:
    rooms: list[asyncio.Future[None]] = []
    taken: list[Delivery] = []

    def receive(delivery: Delivery) -> Awaitable[None]:
        taken.append(delivery)
        rooms.append(asyncio.get_running_loop().create_future())
        return rooms[-1]

    await bench.work(receive=receive)
    await bench.publish(10)
    for number in range(10):
        await until(lambda: len(taken) > number)  # noqa: B023
        await asyncio.sleep(0.01)
        assert len(taken) == number + 1, "an event came though the one before it left no room"
        await taken[number].ack()
        rooms[number].set_result(None)


@case("durable", "ordered")  # not where partitions are given to instances: one that hangs holds its own
async def an_instance_that_hangs_does_not_stop_the_others(bench: Bench) -> None:
    hanging = await bench.work(settle=hold, prefetch=1)
    others = await bench.work()
    sent = await bench.publish(100)
    await until(lambda: len(hanging.deliveries) + len(others.deliveries) >= 100)
    await hanging.close()
    await bench.all_arrive(sent, others)


@case("durable")
async def what_is_published_to_the_dead_letter_subject_is_kept(bench: Bench) -> None:
    given_up = f"{bench.subject}.given-up"
    await (await bench.work(dead_letter=given_up)).close()
    sent = await bench.publish(10, given_up)
    await bench.all_arrive(sent, await bench.work(given_up, subject=given_up))


@case("durable", "wildcards")
async def a_queue_may_keep_the_events_of_many_subjects(bench: Bench) -> None:
    worker = await bench.work(subject=f"{bench.subject}.*.placed")
    for subject in ("a.placed", "b.placed", "a.cancelled", "placed", "a.b.placed"):
        await bench.publish([subject.encode()], f"{bench.subject}.{subject}")
    await bench.all_arrive([b"a.placed", b"b.placed"], worker)
    assert {d.subject for d in worker.deliveries} == {f"{bench.subject}.a.placed", f"{bench.subject}.b.placed"}


@case("durable")
async def a_durable_subscription_without_a_queue_is_refused(bench: Bench) -> None:
    broker = await bench.broker()
    await raises(UsageError, broker.subscribe(bench.subject, Consumer(broker), durable=Durable()))


async def _ack_the_second_time(delivery: Delivery) -> None:
    await (ack(delivery) if delivery.attempt > 1 else delivery.nack())
