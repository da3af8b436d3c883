"""Who begins the next batch for a partition of Kafka's: those who wait for it, in the order in which they came."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError, ProducerClosed
from aiokafka.producer.message_accumulator import MessageAccumulator
from eventmicro_kafka.producing.accumulator import MOST_WAITING, append, keep_lines, open_batch, send_batch, turn
from eventmicro_kafka.producing.batches import Batches

from eventmicro.message import Message
from tests.unit.kafka.kit import PLACE


class Waiting:
    """A producer whose batches, of one message each, go when they are told to; what went, in its order."""

    lines: dict[Any, Any]

    def __init__(self) -> None:
        self._message_accumulator: Any = MessageAccumulator(SimpleNamespace(), 100, 0, 30)
        self.went: list[bytes] = []
        self.bodies: dict[Any, bytes] = {}
        keep_lines(self)

    def append(self, body: bytes, *, in_turn: bool = False) -> Any:
        future = append(self, PLACE, None, body + bytes(80), [], in_turn=in_turn)
        if future is not None:
            self.bodies[future] = body
        return future

    async def publish(self, body: bytes) -> None:
        """As of a message of its own."""
        if self.append(body) is None:
            async with turn(self, PLACE):
                assert self.append(body, in_turn=True) is not None

    async def publish_many(self, body: bytes) -> None:
        """As of a batch that is full."""
        builder = self._message_accumulator.create_builder()
        builder.append(timestamp=None, key=None, value=body + bytes(80))
        builder.close()
        self.bodies[await send_batch(self, builder, PLACE)] = body

    def send(self) -> None:
        """The first goes."""
        self.went.append(self.bodies[self._message_accumulator._pop_batch(PLACE).future])

    async def fill(self) -> None:
        for number in range(MOST_WAITING):
            await self.publish(b"%d" % number)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_those_who_wait_come_before_those_who_are_at_hand() -> None:
    producer = Waiting()
    await producer.fill()
    waiting = []
    for number, publish in enumerate((producer.publish_many, producer.publish, producer.publish_many)):
        waiting.append(asyncio.create_task(publish(b"waits %d" % number)))
        await settle()
    producer.send()
    assert (producer.append(b"at hand"), open_batch(producer, PLACE)) == (None, None)
    late = asyncio.create_task(producer.publish_many(b"at hand"))
    while len(producer.went) < MOST_WAITING + 4:
        await settle()
        assert len(producer._message_accumulator._batches[PLACE]) <= MOST_WAITING
        producer.send()
    await asyncio.gather(*waiting, late)
    assert producer.went[MOST_WAITING:] == [b"waits 0", b"waits 1", b"waits 2", b"at hand"]
    assert producer.lines == {}


@pytest.mark.parametrize("which", [0, 1])
async def test_one_who_waits_no_longer_holds_up_nobody(which: int) -> None:
    producer = Waiting()
    await producer.fill()
    waiting = [asyncio.create_task(producer.publish(b"waits %d" % number)) for number in range(2)]
    await settle()
    waiting[which].cancel()
    producer.send()
    await asyncio.wait(waiting)
    for _ in range(MOST_WAITING):
        producer.send()
    assert producer.went[-1] == b"waits %d" % (1 - which)
    assert producer.lines == {}


async def test_where_the_producer_dies_nobody_waits_for_ever() -> None:
    producer = Waiting()
    await producer.fill()
    waiting = [asyncio.create_task(producer.publish_many(b"waits")) for _ in range(3)]
    await settle()
    producer._message_accumulator.fail_all(KafkaError("dead"))
    assert [type(each) for each in await asyncio.gather(*waiting, return_exceptions=True)] == [ProducerClosed] * 3
    assert (producer.append(b"late", in_turn=True), open_batch(producer, PLACE, in_turn=True)) == (None, None)
    assert producer.lines == {}
    for batch in producer._message_accumulator._batches[PLACE]:
        batch._drain_waiter.exception()


async def test_a_batch_of_others_that_had_no_room_is_not_waited_for() -> None:
    """Whatever becomes of that."""
    waiting = Waiting()
    await waiting.publish(b"others'")
    waiting._message_accumulator._batch_size = 100
    place = SimpleNamespace(inner=waiting, place=lambda *_: PLACE, next_place=lambda _: PLACE)
    waiting.create_batch = waiting._message_accumulator.create_builder  # type: ignore[attr-defined]
    many = Batches(place, [Message("t", bytes(90), key="k")], 1000, 5.0)  # type: ignore[arg-type]
    publishing = asyncio.create_task(many.publish())
    await settle()
    first, second = waiting._message_accumulator._batches[PLACE]
    second.done(0)
    await publishing
    assert (many.failed, first.future.done()) == ({}, False)
