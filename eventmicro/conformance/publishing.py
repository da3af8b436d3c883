"""Publishing: in order, at once, in batches, up to the limit; what is refused is named, and the rest arrives."""

from __future__ import annotations

import asyncio

from eventmicro.broker import Broker
from eventmicro.conformance.bench import Bench, Consumer, numbered, raises
from eventmicro.conformance.case import case
from eventmicro.errors import MessageTooLarge, NotAllPublished
from eventmicro.message import Message

# A body that no broker takes as an event, in bytes.
TOO_LARGE = 64 * 1024 * 1024


@case("broadcast")
async def live_messages_of_a_publisher_keep_their_order(bench: Bench) -> None:
    await _publish_at_once(bench, await bench.listen(), publishers=64, each=80)


@case("durable")
async def kept_events_of_a_publisher_keep_their_order(bench: Bench) -> None:
    """Sixty-four publish at the same time over one connection, each one event after the other."""
    await _publish_at_once(bench, await bench.work(), publishers=64, each=20)


@case("durable")
async def ten_thousand_events_of_many_publishers_all_arrive(bench: Bench) -> None:
    """Watermill 10: twenty publishers, each closed when it has published its share."""
    worker, sent = await bench.work(prefetch=1000), numbered(10_000)

    async def publish(number: int) -> None:
        broker = await bench.broker()
        share = [Message(bench.subject, body, key=str(number)) for body in sent[number::20]]
        await broker.publish_many(share, timeout=30)
        await broker.close()

    await asyncio.gather(*(publish(number) for number in range(20)))
    await bench.all_arrive(sent, worker)


@case("durable")
async def a_batch_is_kept_in_its_order(bench: Bench) -> None:
    worker = await bench.work()
    sent = await bench.publish(1000)
    await bench.publish([])
    await bench.all_arrive(sent, worker)
    assert worker.bodies == sent


@case("broadcast")
async def a_live_batch_arrives_in_its_order(bench: Bench) -> None:
    listener = await bench.listen()
    sent = await bench.publish(1000)
    await bench.all_arrive(sent, listener)
    assert listener.bodies == sent


@case("broadcast")
async def of_a_live_batch_only_what_is_too_large_fails(bench: Bench) -> None:
    await _publish_with_one_too_large(bench, await bench.listen())


@case("durable")
async def of_a_kept_batch_only_what_is_too_large_fails(bench: Bench) -> None:
    await _publish_with_one_too_large(bench, await bench.work())


@case("broadcast")
async def a_live_message_over_the_limit_is_refused_and_the_next_one_arrives(bench: Bench) -> None:
    await _publish_too_large(bench, await bench.listen())


@case("durable")
async def an_event_over_the_limit_is_refused_and_the_next_one_arrives(bench: Bench) -> None:
    await _publish_too_large(bench, await bench.work())


@case("durable")
async def an_event_of_the_largest_size_arrives(bench: Bench) -> None:
    await _publish_largest(bench, await bench.work())


@case("broadcast")
async def a_live_message_of_the_largest_size_arrives(bench: Bench) -> None:
    await _publish_largest(bench, await bench.listen())


async def _publish_at_once(bench: Bench, consumer: Consumer, *, publishers: int, each: int) -> None:
    broker = await bench.publisher()

    async def publish(number: int) -> None:
        for count in range(each):
            await broker.publish(Message(bench.subject, b"%d %d" % (number, count), key=str(number)))

    await asyncio.gather(*(publish(number) for number in range(publishers)))
    sent = [b"%d %d" % (number, count) for number in range(publishers) for count in range(each)]
    await bench.all_arrive(sent, consumer)
    for number in range(publishers):
        own = b"%d " % number
        assert [b for b in consumer.bodies if b.startswith(own)] == [b for b in sent if b.startswith(own)]


async def _publish_with_one_too_large(bench: Bench, consumer: Consumer) -> None:
    bodies = [*numbered(5), bytes(TOO_LARGE), b"5", b"6"]
    error = await raises(NotAllPublished, bench.publish(bodies))
    assert isinstance(error, NotAllPublished)
    assert {position: type(each) for position, each in error.failed.items()} == {5: MessageTooLarge}
    assert error.confirmed == 7
    await bench.all_arrive(numbered(7), consumer)


async def _publish_too_large(bench: Bench, consumer: Consumer) -> None:
    publisher = await bench.publisher()
    for headers in (None, {"One": "1"}):
        await raises(MessageTooLarge, publisher.publish(Message(bench.subject, bytes(TOO_LARGE), headers)))
    await bench.all_arrive(await bench.publish([b"small"]), consumer)


async def _publish_largest(bench: Bench, consumer: Consumer) -> None:
    """Find the limit, by publishing: all that is not refused arrives, to the byte."""
    publisher, fits, over = await bench.publisher(), 0, TOO_LARGE
    while over - fits > 1:
        middle = (fits + over) // 2
        if await _takes(publisher, Message(bench.subject, bytes(middle))):
            fits = middle
            await consumer.wait_for(1)
            assert len(consumer.deliveries.pop().body) == fits
        else:
            over = middle
    assert fits > 0, "everything was too large"


async def _takes(publisher: Broker, message: Message) -> bool:
    try:
        await publisher.publish(message)
    except MessageTooLarge:
        return False
    return True
