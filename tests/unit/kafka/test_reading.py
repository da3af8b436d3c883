"""Which partitions of a consumer of Kafka stand still, for which reasons."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from eventmicro_kafka.consuming import reading
from eventmicro_kafka.consuming.reading import Reading

ONE, TWO, OTHER = TopicPartition("copies", 0), TopicPartition("copies", 1), TopicPartition("t", 0)


class Consumer:
    """As aiokafka's, with nothing to read; a partition that is assigned anew is not paused."""

    def __init__(self, *places: TopicPartition) -> None:
        self.assigned = set(places)
        self.standing: set[TopicPartition] = set()
        self.stood_at_read: set[TopicPartition] = set()

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self.assigned)

    def paused(self) -> set[TopicPartition]:
        return set(self.standing)

    def pause(self, *places: TopicPartition) -> None:
        assert self.assigned >= set(places)
        self.standing |= set(places)

    def resume(self, *places: TopicPartition) -> None:
        assert self.assigned >= set(places)
        self.standing -= set(places)

    async def getmany(self, **_: object) -> dict[Any, Any]:
        self.stood_at_read = set(self.standing)
        return {}


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(reading, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def make_reading(*places: TopicPartition) -> tuple[Reading, Consumer]:
    consumer = Consumer(*places)
    return Reading(consumer, "queue 'q'", lambda _: 0), consumer


async def test_a_partition_that_is_tried_again_stays_held_where_its_topic_is(clock: Clock) -> None:
    held, consumer = make_reading(ONE, TWO, OTHER)
    held._leave_out(ONE, 5, ValueError("broken"))
    held.hold("copies", True)
    clock.now += 100
    await held.read()
    assert consumer.stood_at_read == {ONE, TWO}
    held.hold("copies", False)
    await held.read()
    assert consumer.stood_at_read == set()


async def test_a_partition_that_cannot_be_read_stays_left_out_when_its_topic_is_not_held_any_more(clock: Clock) -> None:
    held, consumer = make_reading(ONE, TWO, OTHER)
    held.hold("copies", True)
    held._leave_out(ONE, 5, ValueError("broken"))
    held._leave_out(OTHER, 5, ValueError("broken"))
    held.hold("copies", False)
    await held.read()
    assert consumer.stood_at_read == {ONE, OTHER}
    clock.now += 100
    await held.read()
    assert consumer.stood_at_read == set()


async def test_a_topic_stays_held_though_its_partitions_are_shared_anew(clock: Clock) -> None:
    held, consumer = make_reading(ONE, OTHER)
    held.hold("copies", True)
    consumer.assigned, consumer.standing = {ONE, TWO}, set()
    await held.read()
    assert consumer.stood_at_read == {ONE, TWO}


async def test_a_partition_that_cannot_be_read_and_is_shared_anew_stays_left_out_until_its_time(clock: Clock) -> None:
    held, consumer = make_reading(ONE, OTHER)
    held._leave_out(ONE, 5, ValueError("broken"))
    consumer.assigned, consumer.standing = {ONE}, set()
    await held.read()
    assert consumer.stood_at_read == {ONE}
    consumer.assigned, consumer.standing = {OTHER}, set()
    clock.now += 100
    await held.read()
    assert consumer.stood_at_read == set()


async def test_what_nobody_holds_is_not_looked_at_for_each_read() -> None:
    held, consumer = make_reading(ONE)
    consumer.paused = consumer.assignment = None  # type: ignore[method-assign,assignment]
    await held.read()
