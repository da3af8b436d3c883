"""The parts of the Kafka adapter that need no server: progress, lanes, what waits to be due, records, errors."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition, errors
from aiokafka.errors import NotEnoughReplicasError
from eventmicro_kafka.connection.noise import quieten
from eventmicro_kafka.consuming import parking
from eventmicro_kafka.consuming.lane import KafkaDelivery, Lane
from eventmicro_kafka.consuming.live import hand_over
from eventmicro_kafka.consuming.parking import Parking
from eventmicro_kafka.consuming.progress import LONGEST, read_progress, write_progress
from eventmicro_kafka.consuming.retry import Waiting, read_copy, retry_copy
from eventmicro_kafka.errors import late, not_published
from eventmicro_kafka.producing.accumulator import RECENT, _Sending, last_trouble, note_troubles
from eventmicro_kafka.producing.confirming import Confirming
from eventmicro_kafka.producing.partitions import Partitions, partition_of
from eventmicro_kafka.records import delivery_headers, to_record
from eventmicro_kafka.topics import check_topic

from eventmicro.errors import (
    Disconnected,
    MessageTooLarge,
    NotAllPublished,
    NotStored,
    Unconfirmed,
    Unsupported,
    UsageError,
)
from eventmicro.message import Delivery, Message


class Holder:
    def __init__(self) -> None:
        self.held = 0
        self.finished = 0
        self.repeated: list[tuple[KafkaDelivery, float]] = []

    def settled(self) -> None:
        self.finished += 1

    def again(self, delivery: KafkaDelivery, delay: float) -> None:
        self.repeated.append((delivery, delay))


def make_lane(holder: Holder | None = None, committed: tuple[int, str] = (0, "")) -> Lane:
    return Lane(TopicPartition("t", 0), committed, holder or Holder())


def take(lane: Lane, offset: int) -> KafkaDelivery:
    lane.next = offset + 1
    delivery = KafkaDelivery("t", b"", None, 1, None, lane, offset)
    lane.hand_over(delivery)
    return delivery


# -- progress --------------------------------------------------------------------------------------------------


def test_progress_says_what_is_not_finished_and_how_often_it_came() -> None:
    text = write_progress(100, 200, [100, 117, 199], {117: 3})
    assert text == "em1:100:0,17*3,99"
    assert read_progress(100, text) == (200, {100: 0, 117: 3, 199: 0})


def test_progress_with_nothing_open_is_empty() -> None:
    assert write_progress(5, 5, [], {}) == ""
    assert read_progress(5, "") == (5, {})


def test_progress_that_is_too_long_says_less() -> None:
    unfinished = list(range(0, 50_000, 5))
    text = write_progress(0, 50_000, unfinished, {})
    assert LONGEST - 10 < len(text) < 4096
    end, known = read_progress(0, text)
    assert list(known) == [offset for offset in unfinished if offset < end]
    assert end in unfinished, "what is behind the end counts as not seen"


@pytest.mark.parametrize("text", ["", "x", "em1:", "em1:x:1", "em1:1:1,x", "em1:1", "em2:1:1", '{"a": 1}'])
def test_progress_of_somebody_else_is_left_alone(text: str) -> None:
    assert read_progress(7, text) == (7, {})


# -- lanes -----------------------------------------------------------------------------------------------------


async def test_a_lane_commits_up_to_the_first_that_is_not_finished() -> None:
    holder = Holder()
    lane = make_lane(holder)
    deliveries = [take(lane, offset) for offset in range(5)]
    await deliveries[1].ack()
    await deliveries[3].ack()
    assert lane.progress() == (0, "em1:5:0,2,4")
    await deliveries[0].ack()
    assert lane.progress() == (2, "em1:3:0,2")
    await deliveries[2].ack()
    await deliveries[4].ack()
    assert lane.progress() == (5, "")
    assert holder.held == 0


async def test_only_the_first_settlement_counts() -> None:
    holder = Holder()
    lane = make_lane(holder)
    delivery = take(lane, 0)
    await delivery.nack(1.0)
    await delivery.nack(2.0)
    await delivery.ack()
    assert holder.repeated == [(delivery, 1.0)]
    assert lane.progress() == (0, "em1:1:0")
    assert holder.held == 0


async def test_a_late_settlement_of_a_delivery_that_has_come_again_does_nothing() -> None:
    holder = Holder()
    lane = make_lane(holder)
    first = take(lane, 0)
    await first.nack()
    second = first.repeated()
    lane.hand_over(second)
    await first.ack()
    await first.nack(1.0)
    assert (holder.held, holder.repeated) == (1, [(first, 0.0)])
    assert lane.progress() == (0, "em1:1:0"), "nobody has finished it"
    await second.ack()
    assert (holder.held, lane.progress()) == (0, (1, ""))


async def test_what_was_settled_by_chance_in_any_order_is_not_repeated_and_the_rest_is() -> None:
    chance = random.Random(7)
    lane = make_lane()
    deliveries = [take(lane, offset) for offset in range(1000)]
    finished = set(chance.sample(range(1000), 900))
    for number in chance.sample(sorted(finished), 900):
        await deliveries[number].ack()
    successor = make_lane(committed=lane.progress())
    assert {n for n in range(successor.next, 1000) if not successor.is_finished(n)} == set(range(1000)) - finished


async def test_who_leaves_before_all_has_come_again_says_what_was_known_of_it() -> None:
    """Else what others had finished would be handed over once more."""
    committed = (5, "em1:9:0,3*2,7")  # of 5 to 13 there are 5, 8 and 12 unfinished
    lane = make_lane(committed=committed)
    assert lane.progress() == committed, "nothing has come"
    first = take(lane, 5)
    assert lane.progress() == committed
    await first.ack()
    assert lane.progress() == (8, "em1:6:0*2,4")
    await take(lane, 8).ack()
    assert lane.progress() == (12, "em1:2:0")
    await take(lane, 12).ack()
    assert lane.progress() == (14, "")
    await take(lane, 14).nack()
    assert lane.progress() == (14, "em1:1:0")


async def test_who_was_settled_and_left_by_chance_is_not_repeated() -> None:
    """Through many members, each of which gets some and settles some of them."""
    chance = random.Random(11)
    finished, committed = list[int](), (0, "")
    for _ in range(200):
        lane = make_lane(committed=committed)
        coming = [n for n in range(lane.next, 300) if not lane.is_finished(n)]
        for number in coming[: chance.randrange(20)]:
            delivery = take(lane, number)
            if chance.random() < 0.6:
                finished.append(number)
                await delivery.ack()
            else:
                await delivery.nack()
        committed = lane.progress()
    lane = make_lane(committed=committed)
    assert len(finished) == len(set(finished)) > 250
    assert {n for n in range(lane.next, 300) if not lane.is_finished(n)} == set(range(300)) - set(finished)


async def test_a_lane_that_is_dropped_lets_its_events_lapse() -> None:
    holder = Holder()
    lane = make_lane(holder)
    delivery = take(lane, 0)
    lane.drop()
    assert delivery.lapsed
    await delivery.ack()
    assert (holder.held, holder.finished) == (0, 0)


async def test_repeats_outlive_the_lane() -> None:
    lane = make_lane()
    await take(lane, 3).nack()
    lane.repeats[3] = 2
    assert make_lane(committed=lane.progress()).repeats == {3: 2}


# -- copies that wait ------------------------------------------------------------------------------------------


def copied(delivery: KafkaDelivery, due: float, *, queue: str = "q") -> SimpleNamespace:
    message = retry_copy(delivery, "q.t.retry", queue, due)
    key, headers = to_record(message, 10_000)
    return SimpleNamespace(topic=message.subject, key=key, value=message.body, headers=tuple(headers), offset=0)


def test_a_copy_is_the_event_once_more() -> None:
    delivery = KafkaDelivery("t", b"body", {"A": "ä"}, 2, None, make_lane(), 17, b"\xff no text")
    read = read_copy(copied(delivery, 123.456), make_lane(), "q", "t")
    assert read is not None
    due, again = read
    assert due == 123.456
    assert (again.subject, again.body, again.headers) == ("t", b"body", {"A": "ä"})
    assert (again.id, again.attempt) == ("t-0-17", 3)
    assert to_record(Message("t", key=again.key), 10_000)[0] == b"\xff no text"
    assert again.repeated().key == again.key


def test_the_copies_of_others_are_not_ours() -> None:
    record = copied(KafkaDelivery("t", b"", None, 1, None, make_lane(), 0), 1.0)
    assert read_copy(record, make_lane(), "other", "t") is None
    assert read_copy(record, make_lane(), "q", "other") is None
    record.headers = (*record.headers, ("Retry-At", b"soon"))
    assert read_copy(record, make_lane(), "q", "t") is None
    record.headers = ()
    assert read_copy(record, make_lane(), "q", "t") is None


async def test_a_copy_is_given_to_the_producer_once_however_long_the_broker_is_away() -> None:
    """It keeps what it sent: given again, the copy would be stored twice when the broker is back."""
    timeouts, done = [], asyncio.Event()

    async def publish_many(_: object, timeout: float) -> None:
        timeouts.append(timeout)

    owner: Any = SimpleNamespace(parked=lambda _: done.set())
    subject = Parking(SimpleNamespace(publish_many=publish_many), "t.retry", "q", owner)  # type: ignore[arg-type]
    running = asyncio.create_task(subject.run())
    subject.put(take(make_lane(), 0), time.time())
    await done.wait()
    await subject.finish()
    running.cancel()
    assert timeouts[0] > 3600


@pytest.mark.parametrize("passes", [Disconnected("away"), Unconfirmed("late")])
async def test_copies_that_fail_only_for_now_are_made_again_and_take_no_room_on_this_side(
    passes: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, parked, kept = 0, [], []

    async def publish_many(copies: Sequence[Message], _: float) -> None:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise NotAllPublished(failed=dict.fromkeys(range(len(copies)), passes), confirmed=0)

    def not_parked(delivery: KafkaDelivery, _: float) -> bool:
        kept.append(delivery)
        return True

    monkeypatch.setattr(parking, "AGAIN_INTERVAL", 0.0)
    owner: Any = SimpleNamespace(parked=parked.append, not_parked=not_parked)
    subject = Parking(SimpleNamespace(publish_many=publish_many), "t.retry", "q", owner)  # type: ignore[arg-type]
    deliveries = [take(make_lane(), offset) for offset in range(2)]
    for delivery in deliveries:
        subject.put(delivery, time.time())
    running = asyncio.create_task(subject.run())
    await subject.finish()
    running.cancel()
    assert (tried, parked, kept) == (2, deliveries, [])


async def test_copies_that_cannot_be_made_wait_on_this_side(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it is that fails, and those go on that come later."""
    waiting: list[int] = []
    rooms = iter([False, True, True])

    async def publish_many(*_: object) -> None:
        raise AssertionError("which never should")

    def not_parked(delivery: KafkaDelivery, _: float) -> bool:
        room = next(rooms)
        if room:
            waiting.append(delivery.offset)
        return room

    monkeypatch.setattr(parking, "AGAIN_INTERVAL", 0.0)
    owner: Any = SimpleNamespace(not_parked=not_parked)
    subject = Parking(SimpleNamespace(publish_many=publish_many), "t.retry", "q", owner)  # type: ignore[arg-type]
    running = asyncio.create_task(subject.run())
    for offset in range(2):
        subject.put(take(make_lane(), offset), time.time())
        await subject.finish()
    running.cancel()
    assert waiting == [0, 1]
    assert caplog.text.count("AssertionError: which never should") == 3


def test_what_waits_comes_in_the_order_of_its_times() -> None:
    waiting, lane, now = Waiting(10, 1000), make_lane(), time.time()
    for number, due in enumerate((-1, -3, 60, -2, -3)):
        waiting.add(now + due, KafkaDelivery("t", b"", None, 1, None, lane, number))
    taken = []
    while (delivery := waiting.take_due()) is not None:
        taken.append(delivery.offset)
    assert taken == [1, 4, 3, 0]
    assert waiting.next_due == now + 60


def test_what_waits_is_bounded_in_number_and_size() -> None:
    lane = make_lane()
    for waiting, body in ((Waiting(2, 1000), b""), (Waiting(1000, 20), b"x" * 10)):
        for _ in range(2):
            assert not waiting.full
            waiting.add(0.0, KafkaDelivery("t", body, None, 1, None, lane, 0))
        assert waiting.full
        assert waiting.crowded
        lane.gone = True
        waiting.drop_gone()
        lane.gone = False
        assert not waiting.crowded
        assert waiting.next_due is None


# -- records, errors, names ------------------------------------------------------------------------------------


async def test_a_live_consumer_that_raises_gets_what_comes_next(caplog: pytest.LogCaptureFixture) -> None:
    got: list[bytes] = []

    async def room() -> None:
        raise ValueError("no room after all")

    def receive(delivery: Delivery) -> Awaitable[None]:
        got.append(delivery.body)
        if delivery.body == b"1":
            raise ValueError("not this one")
        return room()

    await hand_over(receive, [SimpleNamespace(topic="t", value=body, headers=()) for body in (b"1", b"2", b"3")])
    assert got == [b"1", b"2", b"3"]
    assert (caplog.text.count("Error: not this one"), caplog.text.count("Error: no room after all")) == (1, 2)


def test_headers_are_text_whatever_comes() -> None:
    assert delivery_headers([]) is None
    assert delivery_headers([("a", b"\xff"), ("b", None), ("b", b"2")]) == {"a": "\ufffd", "b": "2"}  # type: ignore[list-item]


def test_a_record_has_headers_only_where_they_carry_something() -> None:
    assert to_record(Message("t", b"x"), 1000) == (None, [])
    assert to_record(Message("t", b"x", {"A": "ä"}, key="k", id="i"), 1000) == (
        b"k",
        [("A", "ä".encode()), ("Message-Id", b"i")],
    )


def test_what_is_too_large_is_seen_with_key_and_headers() -> None:
    to_record(Message("t", b"x" * 900), 1000)
    for message in (
        Message("t", b"x" * 1000),
        Message("t", b"x" * 900, {"A": "x" * 100}),
        Message("t", b"x" * 900, key="k" * 100),
    ):
        with pytest.raises(MessageTooLarge):
            to_record(message, 1000)


def test_a_message_that_awaits_an_answer_is_refused() -> None:
    with pytest.raises(Unsupported):
        to_record(Message("t", reply="r"), 1000)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (errors.MessageSizeTooLargeError(), MessageTooLarge),
        (errors.TopicAuthorizationFailedError(), NotStored),
        (errors.PolicyViolationError(), NotStored),
        (errors.UnknownError(), Unconfirmed),
        (errors.KafkaError("closed"), Unconfirmed),
    ],
)
def test_what_a_publish_meets_has_our_words(error: Exception, ours: type[Exception]) -> None:
    assert type(not_published(error, "orders")) is ours
    assert str(not_published(error, "orders")).startswith("orders: ")


def test_keys_go_where_kafkas_own_clients_put_them() -> None:
    """Values of murmur2 from the tests of Kafka's Java client."""
    hashes = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    for key, value in hashes.items():
        assert partition_of(key, 1000) == (value & 0x7FFFFFFF) % 1000


@pytest.mark.parametrize("name", ["orders.placed", "a_b-C.9", "x" * 249])
def test_names_that_a_topic_may_have(name: str) -> None:
    check_topic(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "ä", "x" * 250, "a/b", "a\n"])
def test_names_that_it_may_not_have(name: str) -> None:
    with pytest.raises(UsageError):
        check_topic(name)


async def test_the_messages_of_a_batch_are_confirmed_together_each_within_its_own_time() -> None:
    confirming, loop = Confirming(), asyncio.get_running_loop()
    stored, failed, never = (loop.create_future() for _ in range(3))
    soon, far = loop.time() + 0.1, loop.time() + 60
    good = [confirming.outcome(stored, far) for _ in range(10)]
    bad = [confirming.outcome(failed, far) for _ in range(10)]
    late = [confirming.outcome(never, soon) for _ in range(10)]
    good[0].cancel()
    stored.set_result("where it is")
    failed.set_exception(error := errors.UnknownError())
    assert await asyncio.gather(*good[1:]) == [None] * 9
    assert await asyncio.gather(*bad) == [error] * 10
    assert [type(outcome) for outcome in await asyncio.gather(*late)] == [TimeoutError] * 10
    never.set_result("too late")
    confirming.close()


# -- partitions ------------------------------------------------------------------------------------------------


def test_batches_go_to_each_partition_in_its_turn() -> None:
    partitions = Partitions("abc")
    taken = [partitions.next(lambda _: True) for _ in range(9)]
    assert taken[:3] == taken[3:6] == taken[6:]
    assert set(taken) == set("abc")


def test_a_partition_that_is_busy_is_left_out_unless_all_are() -> None:
    partitions = Partitions("abc")
    assert {partitions.next(lambda place: place != "b") for _ in range(9)} == {"a", "c"}
    assert {partitions.next(lambda _: False) for _ in range(3)} == {"a", "b", "c"}


def test_who_publishes_little_begins_with_any_partition() -> None:
    assert {Partitions("abc").next(lambda _: True) for _ in range(200)} == {"a", "b", "c"}


def test_known_lines_of_the_driver_are_for_debugging(caplog: pytest.LogCaptureFixture) -> None:
    quieten()
    quieten()
    log = logging.getLogger("aiokafka.consumer.group_coordinator")
    with caplog.at_level(logging.INFO):
        log.error("LeaveGroup request failed: %s", "x")
        log.error("something new")
    assert [record.message for record in caplog.records] == ["something new"]


# -- why a message is not stored ---------------------------------------------------------------------------------------


async def test_what_waits_behind_a_batch_that_the_broker_refuses_is_told_why() -> None:
    """While too few replicas are in sync only the first of a partition is tried, again and again."""
    sender = SimpleNamespace(_txn_manager=object(), client=None, _retry_backoff=0.1)
    producer = SimpleNamespace(_sender=sender)
    note_troubles(producer)
    first, behind = (asyncio.get_running_loop().create_future() for _ in range(2))
    refused = NotEnoughReplicasError()
    batch = SimpleNamespace(future=first, tp=TopicPartition("t", 0), expired=lambda: False)
    assert last_trouble(producer, first, "t") is None
    assert _Sending(sender, {})._can_retry(refused, batch)
    assert last_trouble(producer, first, "t") is refused
    assert last_trouble(producer, behind, "t") is refused
    assert last_trouble(producer, None, "t") is refused
    assert last_trouble(producer, behind, "other") is None
    assert last_trouble(None, None, "t") is None
    sender.troubles_of["t"] = sender.troubles_of["t"][0] - RECENT, refused
    assert last_trouble(producer, first, "t") is refused
    assert last_trouble(producer, behind, "t") is None, "it was some time ago"
    for sent, kind in ((True, Unconfirmed), (False, Disconnected)):
        error = late("t", 5.0, sent, refused)
        assert isinstance(error, kind)
        assert "fewer replicas are in sync than the topic's min.insync.replicas asks for" in str(error)
    assert "the cluster is away or takes nothing" in str(late("t", 5.0, False))
