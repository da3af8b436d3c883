"""Events of Kafka that are handed over together: what is not taken is taken back, as if it had never been offered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from eventmicro_kafka.consuming.line import AT_ONCE
from eventmicro_kafka.consuming.subscription import KafkaSubscription
from eventmicro_kafka.settings import KafkaSettings

from eventmicro.broker import Durable
from eventmicro.message import Delivery
from tests.unit.kafka.kit import PLACE, pumping, records

Until = Callable[[Callable[[], object]], Awaitable[None]]
Handle = Callable[[Any], object]

OTHER = TopicPartition("t", 1)


class Consumer:
    """Takes events together, and handles each by a function; what that returns is waited for before the next one.

    As a subscriber does, it sees before each one whether that is in line yet.
    """

    def __init__(self, handle: Handle = lambda _: None, prefetch: int = 8, at_once: int = AT_ONCE) -> None:
        self.got: list[Any] = []
        self.lines: list[int] = []
        self._handle = handle
        self._at_once = at_once
        durable, publisher, settings = Durable(prefetch=prefetch), SimpleNamespace(), KafkaSettings(rebalance_wait=0.01)
        self.subscription = KafkaSubscription("t", "q", self, durable, settings, publisher, {})  # type: ignore[arg-type]
        self.subscription.share({PLACE: (0, "")})

    def __call__(self, delivery: Delivery) -> Any:
        self.got.append(delivery)
        return self._handle(delivery)

    def many(self, line: deque[Any]) -> Any:
        self.lines.append(len(line))
        for delivery in list(line)[: self._at_once]:
            if not line or line[0] is not delivery:
                break
            line.popleft()
            room = self(delivery)
            if room is not None:
                return room
        return None

    @property
    def lane(self) -> Any:
        return self.subscription.lanes[PLACE]

    @property
    def offsets(self) -> list[int]:
        return [delivery.offset for delivery in self.got]

    @property
    def state(self) -> tuple[int, int, list[int]]:
        """How many are held, what is taken in next, and what is not finished."""
        return self.subscription.held, self.lane.next, list(self.lane.pending)

    async def hand_over(self, count: int) -> None:
        await self.subscription._hand_over(self.lane, records(range(self.lane.next, count)))


class OneByOne(Consumer):
    """The same, for one event at a time."""

    many = None  # type: ignore[assignment]


def settle(delivery: Any) -> None:
    assert delivery.try_ack()


# -- together ----------------------------------------------------------------------------------------------------


async def test_those_that_came_together_are_handed_over_together_as_many_as_may_be_held() -> None:
    consumer = Consumer(settle, prefetch=8)
    await consumer.hand_over(20)
    assert consumer.lines == [8, 8, 4]
    assert (consumer.offsets, consumer.state) == (list(range(20)), (0, 20, []))


async def test_no_more_are_made_ready_than_a_limit_says() -> None:
    consumer = Consumer(settle, prefetch=10_000)
    await consumer.hand_over(AT_ONCE + 1)
    assert consumer.lines == [AT_ONCE, 1]


async def test_a_consumer_that_takes_a_part_of_them_gets_the_rest_at_once() -> None:
    consumer = Consumer(settle, at_once=3)
    await consumer.hand_over(8)
    assert consumer.lines == [8, 5, 2]
    assert consumer.offsets == list(range(8))


async def test_settling_is_told_once_for_all_that_were_settled_while_they_were_handed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = 0

    def count() -> None:
        nonlocal told
        told += 1

    consumer = Consumer(settle, prefetch=8)
    monkeypatch.setattr(consumer.subscription, "settled", count)
    await consumer.hand_over(8)
    assert told == 2, "for the line, and for its end"


async def test_what_is_settled_after_its_line_is_told() -> None:
    consumer = Consumer()
    await consumer.hand_over(2)
    consumer.subscription._uncommitted.clear()
    settle(consumer.got[0])
    assert consumer.subscription._uncommitted.is_set()


async def test_what_is_settled_of_another_partition_meanwhile_is_told() -> None:
    consumer = Consumer()
    consumer.subscription.share({PLACE: (0, ""), OTHER: (0, "")})
    lane = consumer.subscription.lanes[OTHER]
    await consumer.subscription._hand_over(lane, records(range(1)))
    consumer.subscription._uncommitted.clear()
    consumer._handle = lambda _: settle(consumer.got[0])
    room = consumer.subscription._line.offer(
        consumer.lane, consumer.subscription._read(consumer.lane, records(range(1)), None)
    )
    assert room == (1, None)
    assert consumer.subscription._uncommitted.is_set()


async def test_those_that_another_member_has_finished_are_left_out() -> None:
    consumer = Consumer(settle)
    consumer.subscription.share({PLACE: (0, "em1:6:0,2*3")})
    await consumer.hand_over(8)
    assert [(delivery.offset, delivery.attempt) for delivery in consumer.got] == [(0, 1), (2, 4), (6, 1), (7, 1)]
    assert consumer.lane.progress() == (8, "")


async def test_where_all_were_finished_nothing_is_offered_and_they_are_committed() -> None:
    consumer = Consumer(settle)
    consumer.subscription.share({PLACE: (0, "em1:6:0")})
    await consumer.subscription._hand_over(consumer.lane, records(range(2, 5)))
    assert (consumer.got, consumer.lane.next) == ([], 5)
    assert consumer.subscription._uncommitted.is_set()


# -- what is not taken -------------------------------------------------------------------------------------------


async def test_where_there_is_no_room_in_the_middle_the_rest_was_never_offered(until: Until) -> None:
    room = asyncio.get_running_loop().create_future()
    consumer = Consumer(lambda delivery: room if delivery.offset == 2 and not room.done() else None)
    handing = asyncio.create_task(consumer.hand_over(8))
    await until(lambda: consumer.subscription._crowded)
    assert consumer.state == (3, 3, [0, 1, 2])
    assert consumer.lane.progress() == (0, "em1:3:0,1,2")
    room.set_result(None)
    await handing
    assert consumer.offsets == list(range(8)), "none twice"
    assert consumer.state == (8, 8, list(range(8)))
    assert [delivery.arrived is None for delivery in consumer.got] == [True] * 3 + [False] * 5


async def test_a_consumer_that_takes_one_at_a_time_has_few_made_ready_in_vain() -> None:
    """It has room for one more each time that one has ended; all of the rest would be made ready for each of them."""
    consumer = Consumer(lambda _: asyncio.sleep(0), prefetch=1000)
    await consumer.hand_over(100)
    assert consumer.offsets == list(range(100))
    assert sum(consumer.lines) <= AT_ONCE + 2 * 100


@pytest.mark.parametrize("waits", [True, False], ids=["a rebalance", "a consumer that is made anew"])
async def test_the_rest_of_a_line_is_not_handled_when_its_partition_has_gone(waits: bool, until: Until) -> None:
    room = asyncio.get_running_loop().create_future()
    consumer = Consumer(lambda delivery: room if delivery.offset == 1 else None)
    subscription = consumer.subscription
    async with pumping(subscription):
        subscription.take(consumer.lane, records(range(6)))
        await until(lambda: subscription._crowded)
        if waits:
            await subscription.pause()
        subscription.share({PLACE: (0, "of another")})
        subscription.take(consumer.lane, records(range(6, 7)))
        room.set_result(None)
        await until(lambda: 6 in consumer.offsets)
    assert consumer.offsets == [0, 1, 6]
    assert subscription.held == 1


@pytest.mark.parametrize("committed", ["", "of another"], ids=["stays", "goes"])
async def test_partitions_that_a_handler_has_shared_anew_leave_nothing_in_line(committed: str) -> None:
    consumer = Consumer()

    def share_at_second(delivery: Any) -> None:
        if delivery.offset == 1:
            consumer.subscription.share({PLACE: (0, committed)})

    consumer._handle = share_at_second
    lane = consumer.lane
    await consumer.hand_over(6)
    assert consumer.offsets == [0, 1]
    assert lane.next == 2, "from there on it is read again"
    assert consumer.subscription.held == (0 if committed else 2)


async def test_a_drain_in_the_middle_of_a_line_gives_the_rest_back() -> None:
    consumer = Consumer()

    def drain_at_third(delivery: Any) -> None:
        settle(delivery)
        if delivery.offset == 2:
            with pytest.raises(StopIteration):  # nothing was started, so there is nothing to wait for
                consumer.subscription.drain().send(None)

    consumer._handle = drain_at_third
    await consumer.hand_over(6)
    assert consumer.offsets == [0, 1, 2]
    assert consumer.lane.progress() == (3, ""), "the rest is for the others"
    assert consumer.subscription.held == 0


async def test_a_drain_at_the_last_of_a_line_leaves_those_finished_that_another_member_has_finished() -> None:
    consumer = Consumer()
    consumer.subscription.share({PLACE: (0, "em1:4:0,1")})

    def drain_at_second(delivery: Any) -> None:
        settle(delivery)
        if delivery.offset == 1:
            with pytest.raises(StopIteration):
                consumer.subscription.drain().send(None)

    consumer._handle = drain_at_second
    await consumer.hand_over(4)
    assert (consumer.offsets, consumer.lane.progress()) == ([0, 1], (4, ""))


async def test_a_drain_while_there_is_no_room_gives_the_rest_back(until: Until) -> None:
    room = asyncio.get_running_loop().create_future()
    consumer = Consumer(lambda delivery: room if delivery.offset == 1 else None)
    handing = asyncio.create_task(consumer.hand_over(6))
    await until(lambda: consumer.subscription._crowded)
    await consumer.subscription.drain()
    room.set_result(None)
    await handing
    assert (consumer.offsets, consumer.state) == ([0, 1], (2, 2, [0, 1]))


async def test_what_was_nacked_comes_before_the_rest_of_its_line(until: Until) -> None:
    consumer = Consumer()

    def nack_second(delivery: Any) -> None:
        if delivery.offset == 1 and delivery.attempt < 3:
            with pytest.raises(StopIteration):
                delivery.nack().send(None)
        else:
            settle(delivery)

    consumer._handle = nack_second
    async with pumping(consumer.subscription):
        consumer.subscription.take(consumer.lane, records(range(5)))
        await until(lambda: 4 in consumer.offsets)
    assert [(d.offset, d.attempt) for d in consumer.got] == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (4, 1)]
    assert consumer.lane.progress() == (5, "")


async def test_one_that_is_settled_before_it_is_taken_is_held_no_more() -> None:
    consumer = Consumer()
    line = consumer.subscription._line._line
    consumer._handle = lambda delivery: settle(line[-1]) if delivery.offset == 0 else asyncio.sleep(0)
    offered = consumer.subscription._read(consumer.lane, records(range(4)), None)
    taken, room = consumer.subscription._line.offer(consumer.lane, offered)
    assert (taken, consumer.state) == (2, (2, 2, [0, 1]))
    assert room is not None
    await room


# -- what never should raise -------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 2])
async def test_a_consumer_that_raises_gets_what_it_had_taken_again_and_the_rest(
    at: int, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = Consumer()

    def fail_once(delivery: Any) -> None:
        if delivery.offset == at and consumer.offsets.count(at) == 1:
            raise ValueError("which it never should")

    consumer._handle = fail_once
    failed: list[int] = []
    consumer.subscription.again = lambda delivery, delay: failed.append(delivery.offset)  # type: ignore[method-assign]
    await consumer.hand_over(5)
    assert failed == list(range(at + 1))
    assert consumer.offsets == list(range(5))
    assert caplog.text.count("a consumer of t raised") == 1


async def test_a_consumer_that_raises_before_it_has_taken_any_gets_the_first_one_later() -> None:
    consumer, failed = Consumer(), list[int]()
    usual = consumer.subscription._line._receive_many

    def fail_first(line: deque[Any]) -> Any:
        consumer.subscription._line._receive_many = usual
        raise ValueError("which it never should")

    consumer.subscription._line._receive_many = fail_first
    consumer.subscription.again = lambda delivery, delay: failed.append(delivery.offset)  # type: ignore[method-assign]
    await consumer.hand_over(3)
    assert (failed, consumer.offsets) == ([0], [1, 2])


# -- many, and one by one ----------------------------------------------------------------------------------------


def mixed(consumer: Consumer) -> Handle:
    """Acks most, nacks some, has no room after others, and leaves some to be settled at the end."""

    def handle(delivery: Any) -> Any:
        offset, attempt = delivery.offset, delivery.attempt
        if offset % 7 == 3 and attempt <= 2:
            with pytest.raises(StopIteration):
                delivery.nack().send(None)
        elif offset % 5:
            settle(delivery)
        return asyncio.sleep(0) if offset % 4 == 1 else None

    return handle


@pytest.mark.parametrize("prefetch", [13, 40, 1000])
async def test_many_and_one_by_one_come_to_the_same(prefetch: int, until: Until) -> None:
    outcomes = []
    for kind in (Consumer, OneByOne):
        consumer = kind(prefetch=prefetch)
        consumer._handle = mixed(consumer)
        async with pumping(consumer.subscription):
            consumer.subscription.take(consumer.lane, records(range(30)))
            consumer.subscription.take(consumer.lane, records(range(30, 50)))
            await until(lambda consumer=consumer: 49 in consumer.offsets)
        taken = [(delivery.offset, delivery.attempt) for delivery in consumer.got]
        outcomes.append((taken, consumer.state, consumer.lane.progress()))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][1] == (10, 50, list(range(0, 50, 5)))
