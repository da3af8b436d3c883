"""Live subscriptions: everyone who is there gets a message, or one of each queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from eventmicro.conformance.bench import Bench, Consumer, cancel_at_once, numbered, stuck, until
from eventmicro.conformance.case import case
from eventmicro.message import Delivery, Message


@case("broadcast")
async def a_message_arrives_as_it_was_sent(bench: Bench) -> None:
    listener, publisher = await bench.listen(), await bench.publisher()
    bodies = [b"", b"{}", bytes(range(256)), "äöü€😀".encode(), b"x" * 100_000]
    headers = [None, {"One": "1"}, {"Traceparent": "00-abc", "Text": "äöü€😀", "Empty": ""}]
    sent = [Message(bench.subject, body, header, key="key") for body in bodies for header in headers]
    for message in sent:
        await publisher.publish(message)
    await listener.wait_for(len(sent))
    for message, delivery in zip(sent, listener.deliveries, strict=True):
        assert (delivery.subject, delivery.body) == (bench.subject, message.body)
        assert delivery.headers == message.headers
        assert delivery.attempt == 1


@case("broadcast")
async def without_a_queue_everyone_gets_every_message(bench: Bench) -> None:
    brokers = [await bench.broker() for _ in range(3)]
    listeners = [await bench.listen(broker=brokers[number % 3]) for number in range(6)]
    sent = await bench.publish(100)
    await asyncio.gather(*(bench.all_arrive(sent, listener) for listener in listeners))


@case("broadcast")
async def a_subject_gets_only_its_own_messages(bench: Bench) -> None:
    """Watermill 3 and 11: a hundred messages on each of twenty subjects, the same on all of them."""
    broker = await bench.broker()
    subjects = [f"{bench.subject}.{number}" for number in range(20)]
    listeners = await asyncio.gather(*(bench.listen(subject, broker=broker) for subject in subjects))
    await asyncio.gather(*(bench.publish(100, subject) for subject in subjects))
    await asyncio.gather(*(bench.all_arrive(numbered(100), listener) for listener in listeners))
    for listener, subject in zip(listeners, subjects, strict=True):
        assert {delivery.subject for delivery in listener.deliveries} == {subject}


@case("queue_groups")
async def each_queue_gets_every_message_once(bench: Bench) -> None:
    brokers = [await bench.broker() for _ in range(3)]
    queues = [f"{bench.subject}.one", f"{bench.subject}.two"]
    members = {queue: [await bench.listen(queue=queue, broker=broker) for broker in brokers] for queue in queues}
    sent = await bench.publish(300)
    for listeners in members.values():
        await bench.all_arrive(sent, *listeners)


@case("queue_groups")
async def the_members_of_a_queue_share_its_messages(bench: Bench) -> None:
    """Watermill 2: 5000 messages by fifty publishers, to ten members of a queue, which all take part."""
    members = await asyncio.gather(*(bench.listen(queue=bench.queue) for _ in range(10)))
    publishers = await asyncio.gather(*(bench.broker() for _ in range(5)))
    sent = numbered(5000)

    async def publish(number: int) -> None:
        for body in sent[number::50]:
            await publishers[number % 5].publish(Message(bench.subject, body, key=body.decode()))

    await asyncio.gather(*(publish(number) for number in range(50)))
    await bench.all_arrive(sent, *members)
    assert sum(1 for member in members if member.deliveries) > 1, "one member of the queue got all of 5000"


@case("queue_groups")
async def members_that_join_and_leave_lose_nothing(bench: Bench) -> None:
    staying = await bench.listen(queue=bench.queue)
    publishing = bench.start(_publish_singly(bench, 2000))
    leaving: list[Consumer] = []
    for _ in range(20):
        member = await bench.listen(queue=bench.queue)
        leaving.append(member)
        await asyncio.sleep(0)
        await member.subscription.drain()
        await member.broker.close()
    await bench.all_arrive(await publishing, staying, *leaving)


@case("wildcards", "broadcast")
async def wildcards_match_as_specified(bench: Bench) -> None:
    broker = await bench.broker()
    table = {
        f"{bench.subject}.*": ["a", "b"],  # one token, no more and no less
        f"{bench.subject}.>": ["a", "b", "a.x", "a.x.y"],  # one or more tokens
        f"{bench.subject}.*.x": ["a.x"],  # in the middle
        f"{bench.subject}.a.>": ["a.x", "a.x.y"],  # not a itself
        f"{bench.subject}.a": ["a"],  # exact
    }
    listeners = {pattern: await bench.listen(pattern, broker=broker) for pattern in table}
    for subject in ("a", "b", "a.x", "a.x.y"):
        await bench.publish([subject.encode()], f"{bench.subject}.{subject}")
    for pattern, wanted in table.items():
        await bench.all_arrive([subject.encode() for subject in wanted], listeners[pattern])
        subjects = {delivery.subject for delivery in listeners[pattern].deliveries}
        assert subjects == {f"{bench.subject}.{subject}" for subject in wanted}, pattern


@case("broadcast")
async def the_next_message_waits_until_there_is_room(bench: Bench) -> None:
    broker = await bench.broker()
    taken: list[bytes] = []
    rooms: list[asyncio.Future[None]] = []

    def receive(delivery: Delivery) -> Awaitable[None]:
        taken.append(delivery.body)
        rooms.append(asyncio.get_running_loop().create_future())
        return rooms[-1]

    await broker.subscribe(bench.subject, receive)
    others = await bench.listen(broker=broker)
    sent = await bench.publish(20)
    await bench.all_arrive(sent, others)
    for number in range(20):
        await until(lambda: len(taken) > number)  # noqa: B023
        assert len(taken) == number + 1, "a message came though the one before it left no room"
        rooms[number].set_result(None)
    assert taken == sent


@case("broadcast")
async def one_full_consumer_does_not_stop_another(bench: Bench) -> None:
    broker = await bench.broker()
    await broker.subscribe(bench.subject, stuck([]))
    listener = await bench.listen(broker=broker)
    await bench.all_arrive(await bench.publish(500), listener)


@case("broadcast")
async def drain_hands_over_what_had_been_sent_and_takes_no_more(bench: Bench) -> None:
    listener = await _listen_slowly(bench, lambda: asyncio.sleep(0))
    sent = await _publish_singly(bench, 500)
    await (await bench.publisher()).flush()
    await asyncio.gather(listener.subscription.drain(), listener.subscription.drain())
    assert listener.bodies == sent
    await listener.subscription.drain()
    await _takes_no_more(bench, listener)


@case("broadcast")
async def a_drain_that_is_cancelled_hands_over_what_had_been_sent(bench: Bench) -> None:
    """It is cancelled as soon as it has begun, as by a service that gives its stop no time at all."""
    has_room = asyncio.Event()
    listener = await _listen_slowly(bench, has_room.wait)
    sent = await _publish_singly(bench, 200)
    await (await bench.publisher()).flush()
    await listener.wait_for(1)
    await cancel_at_once(bench, listener.subscription)
    has_room.set()
    await bench.all_arrive(sent, listener)
    assert listener.bodies == sent
    await _takes_no_more(bench, listener)


@case("broadcast")
async def close_does_not_wait_for_a_consumer_without_room(bench: Bench) -> None:
    broker = await bench.broker()
    taken: list[Delivery] = []
    await broker.subscribe(bench.subject, stuck(taken))
    await broker.flush()
    await bench.publish(10)
    await until(lambda: taken)
    await asyncio.gather(broker.close(), broker.close())
    assert not broker.connected
    assert len(taken) == 1


async def _listen_slowly(bench: Bench, room: Callable[[], Awaitable[Any]]) -> Consumer:
    """A live subscription whose consumer waits for this before it has room for the next message."""
    listener = Consumer(await bench.broker())

    def receive(delivery: Delivery) -> Awaitable[Any]:
        listener(delivery)
        return room()

    listener.subscription = await listener.broker.subscribe(bench.subject, receive)
    await listener.broker.flush()
    return listener


async def _takes_no_more(bench: Bench, listener: Consumer) -> None:
    taken = len(listener.deliveries)
    assert listener.subscription.ended
    await bench.publish(10)
    await listener.broker.flush()
    assert len(listener.deliveries) == taken
    assert listener.subscription.dropped == 0


async def _publish_singly(bench: Bench, count: int) -> list[bytes]:
    publisher, sent = await bench.publisher(), numbered(count)
    for body in sent:
        await publisher.publish(Message(bench.subject, body, key="key"))
    return sent
