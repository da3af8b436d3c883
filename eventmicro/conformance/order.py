"""Order: an ordered queue is with one instance at a time, and what failed comes before what is behind it."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import groupby

from eventmicro.conformance.bench import Bench, Settle, ack, bodies_of, hold, numbered, until
from eventmicro.conformance.case import case
from eventmicro.message import Delivery, Message


@case("durable", "ordered")
async def the_next_event_waits_for_the_settlement_of_the_one_before(bench: Bench) -> None:
    """Watermill 5: two events and a prefetch of one; the second does not come for 0.1 s, nor to another instance."""
    workers = [await bench.work(settle=hold, ordered=True, prefetch=1) for _ in range(2)]
    await bench.publish(2)
    await until(lambda: bodies_of(workers))
    await asyncio.sleep(0.1)
    assert bodies_of(workers) == [b"0"]
    (first,) = [delivery for worker in workers for delivery in worker.deliveries]
    await first.ack()
    await until(lambda: b"1" in bodies_of(workers))


@case("durable", "ordered")
async def instances_of_an_ordered_queue_take_its_events_in_order(bench: Bench) -> None:
    """Watermill 9: a thousand events and ten subscribers."""
    got: list[bytes] = []
    workers = [await bench.work(settle=_ack_into(got), ordered=True) for _ in range(10)]
    sent = await bench.publish(1000)
    await bench.all_arrive(sent, *workers)
    assert got == sent


@case("durable", "ordered")
async def another_instance_goes_on_where_one_has_ended(bench: Bench) -> None:
    """Of three, the one that is at work settles thirty and closes with the rest of what it has taken."""
    got: list[bytes] = []
    allowed = 30
    leaving: set[int] = set()

    async def settle(number: int, delivery: Delivery) -> None:
        if len(got) < allowed and number not in leaving:  # what has come to one that leaves is not begun there
            got.append(delivery.body)
            await delivery.ack()

    workers = {n: await bench.work(settle=partial(settle, n), ordered=True, prefetch=10) for n in range(3)}
    sent = await bench.publish(90)
    for _ in range(3):
        await until(lambda: len(got) == allowed)  # noqa: B023
        active = next(n for n, worker in workers.items() if got[-1] in worker.bodies)
        leaving.add(active)
        allowed += 30
        await workers.pop(active).close()
    assert got == sent


@case("durable", "ordered")
async def a_nacked_event_comes_again_before_those_behind_it(bench: Bench) -> None:
    settled: list[bytes] = []
    worker = await bench.work(settle=_nack_twice(settled), ordered=True, prefetch=1)
    sent = await bench.publish(20)
    await until(lambda: len(settled) == 20)
    assert settled == sent
    assert [body for body, _ in groupby(worker.bodies)] == sent, "others came between two attempts of one event"
    assert [delivery.attempt for delivery in worker.deliveries] == [1, 2, 3] * 20


@case("durable", "ordered_keys")
async def the_events_of_a_key_come_in_order(bench: Bench) -> None:
    """Watermill 9: a thousand events of sixteen keys, and three instances."""
    got: list[bytes] = []
    workers = await asyncio.gather(*(bench.work(settle=_ack_into(got), ordered=True) for _ in range(3)))
    sent = await _publish_with_keys(bench, 1000, keys=16)
    await bench.all_arrive(sent, *workers)
    assert _by_key(got) == _by_key(sent)


@case("durable", "ordered_keys")
async def a_nacked_event_comes_again_before_those_of_its_key_behind_it(bench: Bench) -> None:
    settled: list[bytes] = []
    workers = [await bench.work(settle=_nack_twice(settled), ordered=True, prefetch=1) for _ in range(2)]
    sent = await _publish_with_keys(bench, 40, keys=4)
    await until(lambda: len(settled) == 40)
    assert _by_key(settled) == _by_key(sent)
    for worker in workers:
        for key in range(4):
            own = [body for body in worker.bodies if body.startswith(b"%d " % key)]
            assert len([body for body, _ in groupby(own)]) == len(set(own)), "others of its key came in between"


@case("durable", "ordered_keys")
async def the_events_of_a_key_keep_their_order_when_an_instance_ends(bench: Bench) -> None:
    got: list[bytes] = []
    leaving = await bench.work(settle=_ack_into(got, 100), ordered=True)
    await bench.work(settle=_ack_into(got), ordered=True)
    sent = await _publish_with_keys(bench, 400, keys=8)
    await until(lambda: leaving.deliveries or len(got) == 400)
    await leaving.close()
    await until(lambda: len(got) >= 400)
    bench.account(sent, got)
    assert _by_key(got) == _by_key(sent)


async def _publish_with_keys(bench: Bench, count: int, *, keys: int) -> list[bytes]:
    """Publish a few of each key in a row, in turns."""
    sent = [b"%d %s" % (number // 3 % keys, body) for number, body in enumerate(numbered(count))]
    publisher = await bench.publisher()
    await publisher.publish_many([Message(bench.subject, body, key=body.split()[0].decode()) for body in sent])
    return sent


def _by_key(bodies: list[bytes]) -> dict[bytes, list[bytes]]:
    """The events of each key, in their order."""
    keys = sorted({body.split()[0] for body in bodies})
    return {key: [body for body in bodies if body.split()[0] == key] for key in keys}


def _ack_into(got: list[bytes], limit: int | None = None) -> Settle:
    """Ack, and note it; with `limit`, leave unsettled what comes when so many are noted."""

    async def settle(delivery: Delivery) -> None:
        if limit is None or len(got) < limit:
            got.append(delivery.body)
            await ack(delivery)

    return settle


def _nack_twice(settled: list[bytes]) -> Settle:
    """Ack an event the third time it comes, and note it then."""

    async def settle(delivery: Delivery) -> None:
        if delivery.attempt < 3:
            await delivery.nack()
        else:
            settled.append(delivery.body)
            await delivery.ack()

    return settle
