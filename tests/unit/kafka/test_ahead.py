"""What a consumer of aiokafka fetches while it still has records, and what becomes of that."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import CorruptRecordException, TopicAuthorizationFailedError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from eventmicro_kafka.connection.driver import has_more, share_of, unreadable
from eventmicro_kafka.connection.fetching import WAIT_FOR_SOME, fetch_ahead, leave_records_bare

ONE, TWO = TopicPartition("t", 0), TopicPartition("t", 1)
# How many records are in a batch; a fetch answers with one.
SIZE = 10
NOT_AUTHORIZED = TopicAuthorizationFailedError.errno


def batch(first: int) -> bytes:
    """A batch whose first record has this offset; the body of each is its offset."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, 0, 10_000)
    for n in range(SIZE):
        assert builder.append(n, timestamp=1, key=None, value=b"%d" % (first + n), headers=[])
    data = bytearray(builder.build())
    data[:8] = first.to_bytes(8, "big")
    return bytes(data)


class Node:
    """The client of a cluster of one broker.

    Attributes:
        ends: where each partition ends.
        broken: at which offsets batches begin that cannot be read.
        refused: which partitions may not be read.
        asked: what each fetch has asked for.
        waits: how long each has allowed the broker to wait, in milliseconds.
        open: whether fetches are answered.
    """

    _metadata_max_age_ms = 1000

    def __init__(self, **ends: int) -> None:
        self.ends = {TopicPartition("t", int(number[1:])): end for number, end in ends.items()}
        self.broken: set[int] = set()
        self.refused: set[TopicPartition] = set()
        self.asked: list[dict[TopicPartition, int]] = []
        self.waits: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self._loop = asyncio.get_running_loop()
        self.cluster = SimpleNamespace(leader_for_partition=lambda _: 1, broker_metadata=lambda _: None)

    async def send(self, node: int, request: Any) -> Any:
        asked = {TopicPartition(topic, n): at for topic, places in request.topics for n, at, _ in places}
        self.asked.append(asked)
        self.waits.append(request._max_wait_ms)
        while not self.refused and not any(at < self.ends[place] for place, at in asked.items()):
            await asyncio.sleep(0)
        await self.open.wait()
        answers = [(place.partition, *self._answer(place, at)) for place, at in asked.items()]
        return SimpleNamespace(API_VERSION=4, topics=[("t", answers)])

    def _answer(self, place: TopicPartition, at: int) -> tuple[Any, ...]:
        if place in self.refused:
            return NOT_AUTHORIZED, -1, -1, None, b""
        first = at - at % SIZE
        data = bytearray(batch(first) if at < self.ends[place] else b"")
        if first in self.broken:
            data[-1] ^= 1
        return 0, self.ends[place], self.ends[place], None, bytes(data)


class Reader:
    """A consumer of a node, as far as its fetcher."""

    def __init__(self, node: Node) -> None:
        self._subscription = SubscriptionState()
        self._subscription.assign_from_user(set(node.ends))
        self._fetcher: Any = Fetcher(node, self._subscription)
        self.share: Any = share_of(self)
        leave_records_bare(self)
        fetch_ahead(self)
        for place in node.ends:
            self._subscription.seek(place, 0)
        self.got: dict[TopicPartition, list[int]] = {place: [] for place in node.ends}

    async def read(self, most: int, *places: TopicPartition) -> int:
        """Read so many at most; how many came."""
        found = await self._fetcher.fetched_records(places, 0.5, max_records=most)
        for place, records in found.items():
            assert [int(record.value) for record in records] == [record.offset for record in records]
            self.got[place] += [record.offset for record in records]
        return sum(map(len, found.values()))

    async def read_all(self, count: int, most: int = 3) -> None:
        while count > 0:
            came = await self.read(min(most, count))
            assert came, "nothing came though there is more"
            count -= came

    def assignment(self) -> Any:
        return frozenset(self.got)

    def paused(self) -> Any:
        return frozenset(place for place in self.got if self.share.state_value(place).paused)

    def partitions_for_topic(self, topic: str) -> Any:
        return {place.partition for place in self.got}

    async def end_offsets(self, places: list[TopicPartition]) -> Any:
        return {place: self.share.state_value(place).highwater for place in places}


@asynccontextmanager
async def reading(node: Node) -> AsyncIterator[Reader]:
    reader = Reader(node)
    try:
        yield reader
    finally:
        await reader._fetcher.close()


async def turns(count: int = 50) -> None:
    """Let everything come to rest."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_next_are_fetched_while_the_last_are_read_and_no_more_than_these() -> None:
    node = Node(p0=100)
    async with reading(node) as reader:
        await reader.read(1)
        await turns()
        assert node.asked == [{ONE: 0}, {ONE: SIZE}]
        await reader.read_all(SIZE - 1)
        await turns()
        assert node.asked == [{ONE: 0}, {ONE: SIZE}]  # what came first may not be at its end yet
        await reader.read(1)
        await turns()
        assert node.asked == [{ONE: 0}, {ONE: SIZE}, {ONE: 2 * SIZE}]
        await reader.read_all(100 - SIZE - 1)
    assert reader.got[ONE] == list(range(100))


@pytest.mark.parametrize("most", [1, 3, SIZE, 2 * SIZE + 1])
async def test_each_comes_once_and_in_order(most: int) -> None:
    node = Node(p0=100, p1=60)
    async with reading(node) as reader:
        await reader.read_all(160, most)
        assert await has_more(reader, ["t"]) is False
    assert reader.got == {ONE: list(range(100)), TWO: list(range(60))}


async def test_the_next_are_fetched_together_so_none_waits_for_events_of_another() -> None:
    node = Node(p0=100, p1=SIZE)
    async with reading(node) as reader:
        await reader.read_all(2 * SIZE)  # the other one is at its end, and stays there
        await reader.read_all(100 - SIZE)
        assert [places for places in node.asked if places.keys() == {TWO}] == []


async def test_while_the_next_of_one_are_there_the_broker_does_not_wait_long_for_events_of_another() -> None:
    node = Node(p0=100, p1=0)
    async with reading(node) as reader:
        reader._fetcher._prefetch_backoff = 0
        await reader.read(1)
        await turns()
    usual = reader._fetcher._fetch_max_wait_ms
    assert usual > WAIT_FOR_SOME
    assert node.asked == [{ONE: 0, TWO: 0}, {ONE: SIZE, TWO: 0}, {TWO: 0}]
    assert node.waits == [usual, usual, WAIT_FOR_SOME]


async def test_what_was_fetched_ahead_counts_as_more() -> None:
    node = Node(p0=2 * SIZE)
    async with reading(node) as reader:
        await reader.read(1)
        await turns()
        await reader.read_all(SIZE - 2)
        await turns()
        assert reader.share.state_value(ONE).position >= SIZE
        assert await has_more(reader, ["t"])


@pytest.mark.parametrize("to", [0, 4, SIZE, SIZE + 3, 2 * SIZE, 3 * SIZE])
@pytest.mark.parametrize("arrived", [True, False])
async def test_after_a_seek_only_what_was_sought_comes(to: int, arrived: bool) -> None:
    node = Node(p0=100)
    async with reading(node) as reader:
        await reader.read(5)
        if not arrived:
            node.open.clear()
        await turns()
        reader.got[ONE].clear()
        reader._fetcher.seek_to(ONE, to)
        node.open.set()
        await reader.read_all(100 - to)
    assert reader.got[ONE] == list(range(to, 100))


@pytest.mark.parametrize("arrived", [True, False])
async def test_one_that_stands_still_goes_on_where_it_stood(arrived: bool) -> None:
    node = Node(p0=100, p1=100)
    async with reading(node) as reader:
        await reader.read(5)
        (place,) = [place for place, got in reader.got.items() if got]
        if not arrived:
            node.open.clear()
        await turns()
        reader.share.state_value(place).pause()
        node.open.set()
        await reader.read_all(100)
        assert reader.got[place] == [0, 1, 2, 3, 4]
        reader.share.state_value(place).resume()
        await reader.read_all(95)
    assert reader.got == {ONE: list(range(100)), TWO: list(range(100))}


async def test_what_of_those_ahead_cannot_be_read_is_found_and_read_again() -> None:
    node = Node(p0=40)
    node.broken = {2 * SIZE}
    async with reading(node) as reader:
        with pytest.raises(CorruptRecordException):
            await reader.read_all(40, most=1)
        assert reader.got[ONE] == list(range(2 * SIZE))
        assert unreadable(reader) == (ONE, 2 * SIZE)
        node.broken.clear()
        reader._fetcher.seek_to(ONE, 2 * SIZE)
        await reader.read_all(20)
    assert reader.got[ONE] == list(range(40))


async def test_where_no_more_can_be_fetched_that_is_said_and_nothing_is_left_out() -> None:
    node = Node(p0=40)
    async with reading(node) as reader:
        node.refused = set()
        await reader.read(1)
        await turns()
        node.refused = {ONE}
        with pytest.raises(TopicAuthorizationFailedError):
            await reader.read_all(39)
        node.refused = set()
        await reader.read_all(40 - len(reader.got[ONE]))
    assert reader.got[ONE] == list(range(40))


async def test_what_was_read_to_its_end_takes_no_memory_until_the_garbage_is_collected() -> None:
    node = Node(p0=2 * SIZE)
    async with reading(node) as reader:
        await reader.read(1)
        (runs,) = [weakref.ref(fetched.getall) for fetched in reader._fetcher._records.values()]
        gc.disable()
        try:
            await reader.read_all(2 * SIZE - 1)
            assert not await reader._fetcher.fetched_records((), 0)
            assert runs() is None
        finally:
            gc.enable()


async def test_two_answers_to_the_same_question_come_once() -> None:
    node = Node(p0=SIZE)
    node.open.clear()
    async with reading(node) as reader:
        for _ in range(2):
            reader._fetcher._records[ONE] = answer(reader, 0)
        await reader.read_all(SIZE)
        assert not await reader._fetcher.fetched_records((), 0)
    assert reader.got[ONE] == list(range(SIZE))


async def test_partitions_take_turns_though_of_each_the_next_are_there() -> None:
    node = Node(p0=100, p1=100)
    async with reading(node) as reader:
        await reader.read(1)
        await turns()
        await reader.read_all(2 * SIZE)
        assert min(map(len, reader.got.values())) >= SIZE - 3  # the read at the turn takes from both


async def test_when_the_next_of_one_have_come_others_of_its_broker_are_not_asked_for_at_once() -> None:
    node = Node(p0=100, p1=0)
    async with reading(node) as reader:
        await reader.read(1)
        node.open.clear()
        await turns()
        reader._fetcher._records[ONE]._created -= 10  # what is read at the moment is there for long
        node.open.set()
        await turns()
        assert node.asked == [{ONE: 0, TWO: 0}, {ONE: SIZE, TWO: 0}]


def answer(reader: Reader, first: int) -> FetchResult:
    parser = PartitionRecords(ONE, MemoryRecords(batch(first)), [], first, None, None, True, 0)
    return FetchResult(ONE, assignment=reader.share, partition_records=parser, backoff=0)
