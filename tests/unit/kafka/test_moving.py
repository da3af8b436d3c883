"""What becomes of events that the subscriber holds when the partitions of an ordered queue move."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from eventmicro_kafka.consuming.moving import ORDERED_WAIT, SETTLING_TIME, time_to_finish
from eventmicro_kafka.consuming.subscription import KafkaSubscription
from eventmicro_kafka.settings import KafkaSettings

from eventmicro.broker import Durable
from eventmicro.events.options import DeliveryOptions

Until = Callable[[Callable[[], object]], Awaitable[None]]

PLACE = TopicPartition("t", 0)


def records(offsets: range) -> list[Any]:
    return [SimpleNamespace(offset=offset, key=b"k", value=b"", headers=()) for offset in offsets]


class Line:
    """A consumer that has begun with its first event, and keeps the others in line."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        durable: Any = Durable(prefetch=8, ordered=True)
        publisher: Any = SimpleNamespace()
        self.subscription = KafkaSubscription("t", "q", self.receive, durable, KafkaSettings(), publisher, {})
        self.subscription.share({PLACE: (0, "")})

    def receive(self, delivery: Any) -> None:
        delivery.waiting = bool(self.got)
        self.got.append(delivery)

    @property
    def lane(self) -> Any:
        return self.subscription.lanes[PLACE]

    async def take(self, count: int) -> None:
        await self.subscription._hand_over(self.lane, records(range(count)))

    def pause(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.subscription.pause())


async def test_what_waits_in_line_is_taken_back_at_once_and_what_is_being_handled_is_waited_for() -> None:
    line = Line()
    await line.take(4)
    pausing = line.pause()
    await asyncio.sleep(0)
    assert [delivery.lapsed for delivery in line.got] == [False, True, True, True]
    assert (line.subscription.held, pausing.done()) == (1, False)
    await line.got[0].ack()
    await pausing
    assert line.lane.progress() == (1, "em1:3:0,1,2"), "what was taken back is for whoever gets the partition"


async def test_what_was_taken_back_comes_again_in_order_and_as_the_same_attempt_where_its_partition_stays(
    until: Until,
) -> None:
    line = Line()
    await line.take(4)
    pausing = line.pause()
    await asyncio.sleep(0)
    await line.got[0].ack()
    await pausing
    line.subscription.share({PLACE: (0, "")})
    pump = asyncio.create_task(line.subscription._pump())
    await until(lambda: len(line.got) == 7)
    assert [(delivery.offset, delivery.attempt) for delivery in line.got[4:]] == [(1, 1), (2, 1), (3, 1)]
    for delivery in line.got:
        await delivery.ack()
    assert (line.subscription.held, line.lane.progress()) == (0, (4, ""))
    pump.cancel()


async def test_what_was_taken_back_is_left_to_whoever_gets_its_partition(until: Until) -> None:
    line = Line()
    await line.take(4)
    await line.got[0].ack()
    await line.subscription.pause()
    line.subscription.share({PLACE: (1, "of another")})
    pump = asyncio.create_task(line.subscription._pump())
    await until(lambda: not line.subscription._again)
    assert len(line.got) == 4
    pump.cancel()


async def test_partitions_that_move_under_a_handler_are_said_and_its_event_lapses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    line = Line()
    line.subscription._hold = 0.0
    await line.take(3)
    await line.subscription.pause()
    assert "queue 'q'" in caplog.text
    assert "1 of t-0" in caplog.text
    assert "out of the order" in caplog.text
    assert "rebalance_wait (3 s)" in caplog.text
    line.subscription.share({})
    assert all(delivery.lapsed for delivery in line.got)


async def test_nothing_is_said_where_all_handlers_have_finished(caplog: pytest.LogCaptureFixture) -> None:
    line = Line()
    line.subscription._hold = 0.0
    await line.take(3)
    await line.got[0].ack()
    await line.subscription.pause()
    assert not caplog.records


async def test_who_closes_waits_no_longer_for_handlers() -> None:
    """They have been cut off; a group that nobody leaves waits for its session to end."""
    line = Line()
    await line.take(1)
    pausing = line.pause()
    await asyncio.sleep(0)
    await line.subscription.close()
    await pausing


@pytest.mark.parametrize(
    ("ordered", "timeout", "rebalance_wait", "expected"),
    [
        (False, None, 3.0, 3.0),
        (False, 60.0, 3.0, 3.0),
        (True, None, 3.0, ORDERED_WAIT),
        (True, 60.0, 3.0, 60.0 + SETTLING_TIME),
        (True, 1.0, 3.0, 1.0 + SETTLING_TIME),
        (True, 1.0, 20.0, 20.0),
        (True, None, 120.0, 120.0),
    ],
)
def test_order_is_kept_for_as_long_as_a_handler_may_take(
    ordered: bool, timeout: float | None, rebalance_wait: float, expected: float
) -> None:
    durable = Durable(ordered=ordered, timeout=timeout)
    assert time_to_finish(KafkaSettings(rebalance_wait=rebalance_wait), durable) == expected


def test_the_timeout_of_a_subscriber_is_told_to_its_broker() -> None:
    assert DeliveryOptions(timeout=7.0).named("q").to_durable().timeout == 7.0
