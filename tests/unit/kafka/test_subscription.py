"""A durable subscription of Kafka: its partitions are shared anew, and what never should raise does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, LeaderNotAvailableError
from eventmicro_kafka.consuming.lane import KafkaDelivery
from eventmicro_kafka.consuming.live import Shared
from eventmicro_kafka.consuming.retry import retry_copy
from eventmicro_kafka.consuming.subscription import KafkaSubscription
from eventmicro_kafka.records import to_record
from eventmicro_kafka.settings import KafkaSettings

from eventmicro.broker import Durable, Receive
from eventmicro.errors import Disconnected
from eventmicro.message import Delivery
from tests.unit.kafka.kit import PLACE, pumping, records

Until = Callable[[Callable[[], object]], Awaitable[None]]


def copy_due(due: float, offset: int = 0) -> Any:
    """The record of a copy in the retry topic."""
    lane: Any = SimpleNamespace(name="t-0")
    copy = retry_copy(KafkaDelivery("t", b"", None, 1, None, lane, 0), "q.t.retry", "q", due)
    return SimpleNamespace(offset=offset, key=None, value=copy.body, headers=tuple(to_record(copy, 10_000)[1]))


def make_subscription(receive: Receive, prefetch: int = 8) -> KafkaSubscription:
    durable, settings = Durable(prefetch=prefetch), KafkaSettings(rebalance_wait=0.01)
    publisher: Any = SimpleNamespace()
    return KafkaSubscription("t", "q", receive, durable, settings, publisher, {})


class Busy:
    """A consumer that has no room after its first event until it says so."""

    def __init__(self) -> None:
        self.room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.got: list[Delivery] = []

    def receive(self, delivery: Delivery) -> asyncio.Future[None] | None:
        self.got.append(delivery)
        return None if self.room.done() else self.room

    @property
    def offsets(self) -> list[int]:
        return [delivery.offset for delivery in self.got]  # type: ignore[attr-defined]


# -- partitions that are shared anew while the consumer has no room ---------------------------------------------


@pytest.mark.parametrize("waits", [True, False], ids=["a rebalance", "a consumer that is made anew"])
async def test_the_rest_of_a_batch_is_not_handed_over_when_its_partition_has_gone(waits: bool, until: Until) -> None:
    busy = Busy()
    subscription = make_subscription(busy.receive)
    subscription.share({PLACE: (0, "")})
    async with pumping(subscription):
        subscription.take(subscription.lanes[PLACE], records(range(5)))
        await until(lambda: busy.got)
        if waits:
            await subscription.pause()
        subscription.share({PLACE: (0, "of another")})
        subscription.take(subscription.lanes[PLACE], records(range(5, 6)))
        busy.room.set_result(None)
        await until(lambda: 5 in busy.offsets)
    assert busy.offsets == [0, 5]
    assert [delivery.lapsed for delivery in busy.got] == [True, False]


async def test_the_rest_of_a_batch_comes_once_when_its_partition_stays_and_all_of_the_prefetch_is_free_again(
    until: Until,
) -> None:
    busy = Busy()
    subscription = make_subscription(busy.receive)
    subscription.share({PLACE: (0, "")})
    async with pumping(subscription):
        lane = subscription.lanes[PLACE]
        subscription.take(lane, records(range(5)))
        await until(lambda: busy.got)
        await subscription.pause()
        subscription.share({PLACE: (0, "")})
        assert subscription.lanes[PLACE] is lane
        subscription.take(lane, records(range(lane.next, 5)))  # from where it was, as the member seeks it
        busy.room.set_result(None)
        await until(lambda: 4 in busy.offsets and not subscription._taken)
        for delivery in busy.got:
            await delivery.ack()
    assert busy.offsets == [0, 1, 2, 3, 4]
    assert (subscription.held, lane.progress()) == (0, (5, ""))


async def test_what_was_nacked_is_not_handed_over_again_when_its_partition_has_gone(until: Until) -> None:
    got: list[Any] = []
    subscription = make_subscription(got.append)
    subscription.share({PLACE: (0, "")})
    async with pumping(subscription):
        subscription.take(subscription.lanes[PLACE], records(range(1)))
        await until(lambda: got)
        await got[0].nack()
        subscription.share({PLACE: (0, "of another")})
        subscription.take(subscription.lanes[PLACE], records(range(1, 2)))
        await until(lambda: got[-1].offset == 1)
    assert [delivery.offset for delivery in got] == [0, 1]


async def test_copies_that_wait_of_a_partition_that_has_gone_take_no_room_from_others() -> None:
    retry = TopicPartition("q.t.retry", 0)
    subscription = make_subscription(lambda _: None)
    subscription.share({retry: (0, "")})
    subscription.take(subscription.lanes[retry], [copy_due(time.time() + 60)])
    assert subscription._waiting.next_due is not None
    subscription.share({})
    assert subscription._waiting.next_due is None


async def test_a_copy_that_another_member_has_finished_is_not_handed_over_again(until: Until) -> None:
    retry, got = TopicPartition("q.t.retry", 0), []
    subscription = make_subscription(got.append)
    subscription.share({retry: (0, "em1:3:0,2")})  # of three, the one in the middle is finished
    async with pumping(subscription):
        subscription.take(subscription.lanes[retry], [copy_due(offset, offset) for offset in range(4)])
        await until(lambda: len(got) >= 3 and subscription._waiting.next_due is None)
    assert [delivery.offset for delivery in got] == [0, 2, 3]


# -- a wake-up that is not to be lost ----------------------------------------------------------------------------


async def _pause(subscription: Any) -> None:
    await subscription.pause()
    subscription.share({PLACE: (0, "")})


async def _share(subscription: Any) -> None:
    subscription.share({PLACE: (0, "")})


async def _share_elsewhere(subscription: Any) -> None:
    subscription.share({})


async def _lose(subscription: Any) -> None:
    """Its log has lost its end, so that it is begun anew."""
    subscription._taken.clear()
    subscription.settled()


MOVES = [_pause, _share, _share_elsewhere, _lose]


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.__name__)
async def test_more_is_asked_for_when_what_came_is_taken_back_before_anybody_had_seen_it(
    move: Callable[[Any], Awaitable[None]], until: Until
) -> None:
    """Both fall into one turn of the loop: a queue that did not ask would stand still for ever."""
    subscription = make_subscription(lambda _: None)
    subscription.share({PLACE: (0, "")})
    async with pumping(subscription):
        await until(subscription._wanted.is_set)
        subscription.take(subscription.lanes[PLACE], records(range(3)))
        await move(subscription)
        await until(subscription._wanted.is_set)


@pytest.mark.parametrize("move", [_pause, _share, _share_elsewhere], ids=lambda move: move.__name__)
async def test_a_live_subscription_asks_for_more_as_well(move: Callable[[Any], Awaitable[None]], until: Until) -> None:
    subscription = Shared("t", "q", lambda _: None, KafkaSettings(), {})
    subscription.share({PLACE: (0, "")})
    pump = asyncio.create_task(subscription._pump())
    await until(subscription._wanted.is_set)
    subscription.take(subscription.lanes[PLACE], records(range(3)))
    await move(subscription)
    await until(subscription._wanted.is_set)
    pump.cancel()


async def test_what_was_nacked_comes_again_though_its_partitions_moved_in_the_same_turn(until: Until) -> None:
    got: list[Any] = []
    subscription = make_subscription(got.append)
    subscription.share({PLACE: (0, "")})
    async with pumping(subscription):
        subscription.take(subscription.lanes[PLACE], records(range(1)))
        await until(lambda: got)
        await got[0].nack()
        subscription.take(subscription.lanes[PLACE], records(range(1, 3)))
        subscription.share({PLACE: (0, "")})
        await until(lambda: len(got) == 2 and subscription._wanted.is_set())
    assert [delivery.offset for delivery in got] == [0, 0]


# -- what never should raise ------------------------------------------------------------------------------------


async def test_a_consumer_that_raises_when_it_has_room_again_gets_the_next_event(
    caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    got: list[Any] = []

    async def room() -> None:
        raise ValueError("no room after all")

    def receive(delivery: Delivery) -> Awaitable[None]:
        got.append(delivery)
        return room()

    subscription = make_subscription(receive)
    subscription.share({PLACE: (0, "")})
    async with pumping(subscription):
        subscription.take(subscription.lanes[PLACE], records(range(3)))
        await until(lambda: len(got) == 3)
        await got[2].nack()  # what comes again is waited for elsewhere
        await until(lambda: len(got) == 4)
        await until(lambda: caplog.text.count("ValueError: no room after all") == 4)
    assert [delivery.offset for delivery in got] == [0, 1, 2, 2]


async def test_what_comes_while_its_consumer_is_about_to_be_made_anew_is_read_again_by_the_next_one() -> None:
    """It was asked for before handing over failed."""
    subscription = make_subscription(lambda _: None)
    member = subscription._member
    subscription.share({PLACE: (0, "")})
    subscription._wanted.set()

    async def getmany(**_: object) -> dict[Any, list[Any]]:
        subscription.share({})
        member.renew()
        return {PLACE: records(range(3))}

    healthy = SimpleNamespace(check_errors=lambda: None, error_future=asyncio.Future[None]())
    member._consumer = SimpleNamespace(getmany=getmany, _coordinator=healthy, _fetcher=healthy)
    member._shared.set()
    await member._poll()
    assert not subscription._taken


async def test_a_shared_subscription_hands_over_only_what_was_committed_in_its_own_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While its partitions move there is nothing that a commit may say, so that it succeeds and says nothing."""
    got: list[Delivery] = []
    shared, commits = Shared("t", "q", got.append, KafkaSettings(), {}), 0
    shared.share({PLACE: (0, "")})
    lane = shared.lanes[PLACE]

    async def commit() -> bool:
        nonlocal commits
        commits += 1
        if commits == 2:
            shared.share({})
        return True

    monkeypatch.setattr(shared._member, "commit", commit)
    assert not await shared._commit(lane, 5)
    assert commits == 2


async def test_a_partition_whose_log_has_lost_its_end_is_begun_anew_where_its_records_are() -> None:
    """And that is committed at once, before anything is settled: the place that is committed would skip new events."""
    got: list[Delivery] = []
    subscription = make_subscription(got.append)
    member = subscription._member
    subscription.share({PLACE: (50, "")})
    await subscription._hand_over(subscription.lanes[PLACE], records(range(50, 52)))
    subscription._uncommitted.clear()
    lane = member._lane(PLACE, 0)
    assert subscription.lanes[PLACE] is lane
    assert lane.next == subscription.held == 0
    assert all(delivery.lapsed for delivery in got)
    assert subscription._uncommitted.is_set()
    assert member._to_commit(SimpleNamespace(assignment=lambda: {PLACE})) == {PLACE: (0, "")}
    assert member._lane(PLACE, 0) is lane


async def test_copies_are_not_held_back_where_nothing_waits_that_would_make_room() -> None:
    """As with retry_messages=0, or where all that came was another queue's: nobody would ask for them again."""
    retry = TopicPartition("q.t.retry", 0)
    publisher: Any = SimpleNamespace()
    settings = KafkaSettings(retry_messages=0)
    subscription = KafkaSubscription("t", "q", lambda _: None, Durable(), settings, publisher, {})
    subscription.share({retry: (0, "")})
    subscription.take(subscription.lanes[retry], records(range(3)))
    assert not subscription._waiting.holding


@pytest.mark.parametrize(
    "error", [KafkaConnectionError("lost"), LeaderNotAvailableError(), OSError("lost"), TimeoutError()]
)
async def test_where_the_broker_does_not_say_what_it_has_it_is_away(error: Exception) -> None:
    """So that the watchdog takes it for nothing else."""
    member = make_subscription(lambda _: None)._member

    async def end_offsets(_: object) -> dict[Any, int]:
        raise error

    member._consumer = SimpleNamespace(end_offsets=end_offsets, partitions_for_topic=lambda _: {0})
    with pytest.raises(Disconnected):
        await member.is_behind()


async def test_a_transactional_queue_holds_no_more_at_once_than_a_place_can_tell_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Else an outcome would wait for those before it, and fail where they take long."""
    publisher: Any = SimpleNamespace()
    transactor: Any = SimpleNamespace()
    durable, settings = Durable(prefetch=2000), KafkaSettings()
    subscription = KafkaSubscription("t", "q", lambda _: None, durable, settings, publisher, {}, transactor=transactor)
    assert "queue 'q': prefetch is 2000, and 300 events are held at once" in caplog.text
    subscription.share({PLACE: (0, "")})
    async with pumping(subscription):
        subscription.take(subscription.lanes[PLACE], records(range(400)))
        for _ in range(10):
            await asyncio.sleep(0)
        assert subscription.held == 300
        assert not await subscription._waits()
