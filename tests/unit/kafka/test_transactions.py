"""The transactions of a queue: what goes into one, and what becomes of those who wait for it, however it ends."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Self

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalGenerationError, KafkaConnectionError, OffsetMetadataTooLargeError
from eventmicro_kafka.consuming import transactions
from eventmicro_kafka.consuming.lane import KafkaDelivery, Lane
from eventmicro_kafka.consuming.progress import read_progress
from eventmicro_kafka.consuming.transactions import Transactions
from eventmicro_kafka.producing.transactor import Refused

from eventmicro.errors import Disconnected, NotAllPublished, NotStored, UsageError
from eventmicro.message import Copy, Message
from tests.conftest import Until
from tests.unit.kafka.kit import PLACE

NEXT = TopicPartition("t", 1)


class Holder:
    """Whoever the lanes belong to."""

    def __init__(self) -> None:
        self.held = 0
        self.again_: list[tuple[KafkaDelivery, float]] = []

    def settled(self) -> None:
        """It is told of each."""

    def again(self, delivery: KafkaDelivery, delay: float) -> None:
        self.again_.append((delivery, delay))


class Made:
    """Makes transactions on no cluster: each ends as it is told here, or as soon as it may."""

    def __init__(self) -> None:
        self.is_open = self.is_deciding = False
        self.ends: deque[BaseException | str] = deque()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.began: list[list[bytes]] = []
        self.held: list[list[bytes]] = []
        self.cleaned: list[str] = []

    async def ready(self, messages: Sequence[Message]) -> None:
        """They could be published."""

    async def run(self, messages: Sequence[Message], commit: Callable[[Any], Awaitable[None]]) -> None:
        assert not self.is_open, "the one before has not ended"
        bodies = [message.body for message in messages]
        self.began.append(bodies)
        self.is_open = True
        await self.may_end.wait()
        end = self.ends.popleft() if self.ends else None
        if end == "undecided":
            self.is_deciding = True
            raise TimeoutError
        if isinstance(end, BaseException):
            raise end
        await commit(self)
        self.held.append(bodies)
        self.is_open = False

    async def abort(self) -> None:
        self.cleaned.append("aborted")
        self.is_open = False

    async def renew(self) -> None:
        self.cleaned.append("renewed")
        self.is_open = self.is_deciding = False

    async def close(self) -> None:
        self.cleaned.append("closed")


class Bench:
    """Lanes with events, and the transactions of their queue, at work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.holder, self.made = Holder(), Made()
        self.lanes = {place: Lane(place, (0, ""), self.holder) for place in (PLACE, NEXT)}
        self.first, self.second = self.lanes.values()
        self.committed: list[dict[Any, tuple[int, str]]] = []
        self.most: int | None = None  # how much more than an offset may be committed
        self.read_anew = 0
        self.consumer: Any = object()
        self.is_bare = False  # as the member it is, too
        monkeypatch.setattr(transactions, "commit_places", self._commit)
        monkeypatch.setattr(transactions, "AGAIN_INTERVAL", 0.0)
        self.subject = Transactions(
            self.made,  # type: ignore[arg-type]
            "q",
            self,  # type: ignore[arg-type]
            lambda: self.lanes,
            self._read_anew,
            1.0,
        )

    async def __aenter__(self) -> Self:
        self.job = asyncio.create_task(self.subject.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.job.cancel()
        await asyncio.wait([self.job])

    def take(self, lane: Lane, offset: int) -> KafkaDelivery:
        delivery = KafkaDelivery("t", b"", None, 1, None, lane, offset)
        lane.hand_over(delivery)
        lane.next = max(lane.next, offset + 1)
        return delivery

    def start(self, body: bytes, *deliveries: KafkaDelivery, timeout: float = 60.0) -> asyncio.Task[None]:
        return asyncio.create_task(self.subject.commit([Message("out", body)], deliveries, timeout))

    @property
    def at_work(self) -> tuple[Any, tuple[int, str]]:
        return self.consumer, (1, "m")

    def go_bare(self) -> None:
        self.is_bare = True

    @asynccontextmanager
    async def no_commits(self) -> AsyncIterator[None]:
        yield

    async def _commit(self, consumer: Any, _: Any, *, offsets: dict[Any, Any], member: Any) -> None:
        assert consumer is self.consumer
        assert member == (1, "m")
        if self.most is not None and any(len(more) > self.most for _, more in offsets.values()):
            raise OffsetMetadataTooLargeError
        self.committed.append(offsets)

    def _read_anew(self) -> None:
        self.read_anew += 1
        for lane in self.lanes.values():
            lane.drop()
        self.lanes = {}


@pytest.fixture
def make_bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Bench]:
    return lambda: Bench(monkeypatch)


MakeBench = Callable[[], Bench]


async def test_what_comes_while_one_is_on_its_way_goes_into_the_next_one(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.made.may_end.clear()
        deliveries = [bench.take(bench.first, offset) for offset in range(4)]
        waiting = [bench.start(b"0", deliveries[0])]
        await asyncio.sleep(0.01)
        waiting += [bench.start(b"%d" % number, deliveries[number]) for number in (1, 3)]
        await asyncio.sleep(0)
        bench.made.may_end.set()
        await asyncio.gather(*waiting)
        assert bench.made.held == [[b"0"], [b"1", b"3"]]
        assert list(bench.first.pending) == [2]
        first, metadata = bench.committed[-1][PLACE]
        assert (first, read_progress(first, metadata)) == (2, (4, {2: 0}))
        assert bench.first.committed == bench.committed[-1][PLACE]
        assert bench.holder.held == 1


async def test_what_else_is_finished_is_committed_with_it(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        done, delivery = bench.take(bench.second, 0), bench.take(bench.first, 0)
        await done.ack()
        await bench.start(b"0", delivery)
        assert {place.partition: at[0] for place, at in bench.committed[-1].items()} == {0: 1, 1: 1}


@pytest.mark.parametrize("lost", ["dropped", "settled"])
async def test_what_is_not_held_any_more_is_not_published(make_bench: MakeBench, lost: str) -> None:
    async with make_bench() as bench:
        delivery = bench.take(bench.first, 0)
        bench.first.drop() if lost == "dropped" else await delivery.ack()
        await bench.start(b"0", delivery)
        assert bench.made.began == []


async def test_a_batch_of_which_some_events_are_elsewhere_fails_as_a_whole(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        both = bench.take(bench.first, 0), bench.take(bench.second, 0)
        bench.second.drop()
        with pytest.raises(Disconnected, match="some of the events are handled elsewhere by now"):
            await bench.start(b"0", *both)
        assert (bench.made.began, bench.first.handled()) == ([], 1)


@pytest.mark.parametrize(
    ("error", "cleaned"),
    [(KafkaConnectionError(), "renewed"), (IllegalGenerationError(), "aborted"), (OSError(), "renewed")],
)
async def test_one_that_fails_is_made_again_of_the_same(
    make_bench: MakeBench, error: BaseException, cleaned: str
) -> None:
    async with make_bench() as bench:
        bench.made.ends.append(error)
        await bench.start(b"0", bench.take(bench.first, 0))
        assert (bench.made.began, bench.made.held, bench.made.cleaned) == ([[b"0"]] * 2, [[b"0"]], [cleaned])


async def test_who_is_refused_hears_it_and_the_others_go_on(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.made.may_end.clear()
        waiting = [bench.start(b"%d" % number, bench.take(bench.first, number)) for number in range(3)]
        await asyncio.sleep(0.01)
        bench.made.ends.append(Refused({1: NotStored("no")}))
        bench.made.may_end.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), NotStored, type(None)]
        assert bench.made.held == [[b"0", b"2"]]
        assert list(bench.first.pending) == [1]


async def test_one_that_may_hold_is_not_made_again(make_bench: MakeBench) -> None:
    """Whoever reads what is committed goes on from there, and nothing that is known here is committed any more."""
    async with make_bench() as bench:
        bench.made.ends.append("undecided")
        delivery = bench.take(bench.first, 0)
        await bench.start(b"0", delivery)
        await asyncio.sleep(0.01)
        assert (bench.read_anew, len(bench.made.began), bench.made.cleaned) == (1, 1, ["renewed"])
        assert delivery.lapsed


async def test_one_that_is_cut_off_when_it_may_hold_is_not_made_again(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.made.may_end.clear()
        waiting = bench.start(b"0", bench.take(bench.first, 0))
        await asyncio.sleep(0.01)
        bench.made.is_deciding = True
        bench.job.cancel()
        await waiting
        assert (bench.read_anew, bench.made.held) == (1, [])


async def test_what_waits_can_be_cancelled_and_is_given_up_when_its_time_is_over(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.made.may_end.clear()
        first = bench.start(b"0", bench.take(bench.first, 0))
        await asyncio.sleep(0.01)
        cancelled, late = bench.take(bench.first, 1), bench.take(bench.first, 2)
        waiting = bench.start(b"1", cancelled)
        too_late = bench.start(b"2", late, timeout=0.01)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(Disconnected, match="not sent within"):
            await too_late
        bench.made.may_end.set()
        await first
        assert (bench.made.held, list(bench.first.pending)) == ([[b"0"]], [1, 2])


async def test_who_is_cancelled_while_it_is_on_its_way_hears_how_it_ended(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.made.may_end.clear()
        holds = bench.start(b"0", bench.take(bench.first, 0))
        await asyncio.sleep(0.01)
        holds.cancel()
        await asyncio.sleep(0.01)
        assert not holds.done()
        bench.made.may_end.set()
        await holds  # it was published, so it has not failed
        bench.made.may_end.clear()
        fails = bench.start(b"1", bench.take(bench.first, 1))
        await asyncio.sleep(0.01)
        fails.cancel()
        await asyncio.sleep(0)
        bench.made.ends.append(KafkaConnectionError())
        bench.made.may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await fails
        assert (bench.made.held, list(bench.first.pending)) == ([[b"0"]], [1])


async def test_what_a_place_cannot_tell_waits_until_it_can(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """A place names only so many events before it that are not finished."""
    monkeypatch.setattr(transactions, "SURE", 20)
    async with make_bench() as bench:
        deliveries = [bench.take(bench.first, offset) for offset in range(40)]
        far, near = bench.start(b"far", deliveries[39]), bench.start(b"near", deliveries[3])
        await near
        await asyncio.sleep(0.01)
        assert not far.done()
        for delivery in deliveries[:39]:
            await delivery.ack()
        await far
        assert bench.made.held == [[b"near"], [b"far"]]


async def test_who_waits_in_vain_for_a_place_that_can_tell_it_hears_that(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster is well."""
    monkeypatch.setattr(transactions, "SURE", 20)
    async with make_bench() as bench:
        deliveries = [bench.take(bench.first, offset) for offset in range(40)]
        with pytest.raises(Disconnected, match=r"not finished than a place can tell .*prefetch") as caught:
            await bench.start(b"far", deliveries[39], timeout=0.01)
        assert "cluster" not in str(caught.value)
        assert bench.made.began == []


async def test_where_places_may_say_no_more_than_an_offset_each_outcome_waits_for_the_events_before_it(
    make_bench: MakeBench,
) -> None:
    """As with `offset.metadata.max.bytes` of a broker; the same again would be refused for ever."""
    async with make_bench() as bench:
        bench.most = 0
        first, second, third = (bench.take(bench.first, offset) for offset in range(3))
        with pytest.raises(Disconnected, match="than a place can tell"):
            await bench.start(b"third", third, timeout=0.05)
        assert (bench.is_bare, len(bench.made.began)) == (True, 1)
        await first.ack()
        await bench.start(b"second", second)
        assert (bench.made.held, bench.committed) == ([[b"second"]], [{PLACE: (2, "")}])


async def test_copies_are_put_aside_with_their_events(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        deliveries = [bench.take(bench.first, offset) for offset in range(3)]
        for delivery in deliveries:
            await delivery.nack(1.0)
        bench.made.ends.append(Refused({0: NotStored("no")}))
        copies = [Copy("t.retry", b"%d" % each.offset, of=each) for each in deliveries]
        with pytest.raises(NotAllPublished) as caught:
            await bench.subject.publish_many(copies, 60.0)
        assert {number: type(error) for number, error in caught.value.failed.items()} == {0: NotStored}
        assert (bench.made.held, list(bench.first.pending)) == ([[b"1", b"2"]], [0])


async def test_nothing_is_begun_while_the_partitions_move(make_bench: MakeBench, until: Until) -> None:
    async with make_bench() as bench:
        consumer, bench.consumer = bench.consumer, None
        waiting = bench.start(b"0", bench.take(bench.first, 0))
        await asyncio.sleep(0.02)
        assert bench.made.began == []
        bench.consumer = consumer
        await waiting


async def test_at_the_end_what_waits_is_left_to_others(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.consumer = None
        waiting = bench.start(b"0", bench.take(bench.first, 0))
        await asyncio.sleep(0.01)
        bench.job.cancel()
        await asyncio.wait([bench.job])
        await bench.subject.close()
        await waiting
        await bench.start(b"1", bench.take(bench.first, 1))
        assert (bench.made.began, bench.made.cleaned) == ([], ["closed"])


async def test_brokers_that_cannot_refuse_a_late_member_are_refused(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        versions = {28: (0, 2)}
        bench.consumer = SimpleNamespace(_client=SimpleNamespace(_conns={1: SimpleNamespace(_versions=versions)}))
        with pytest.raises(UsageError, match=r"'q': transactional=True needs Kafka 2.5 or later"):
            bench.subject.check()
        versions[28] = (0, 5)
        bench.subject.check()
