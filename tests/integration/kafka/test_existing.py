"""Kafka as others have made it: topics and groups that were there before, used as they are or refused by name."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.group import JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions
from confluent_kafka import TopicPartition as ConfluentPlace
from confluent_kafka.admin import AdminClient
from eventmicro_kafka import KafkaBroker

from eventmicro.broker import Durable
from eventmicro.errors import NotAllPublished, NotStored, UsageError
from eventmicro.message import Message
from tests.conftest import Until
from tests.integration.kafka.admin import (
    add_partitions,
    committed_of,
    config_of,
    configure,
    delete_records,
    delete_topic,
    foreign_producer,
    make_topic,
)
from tests.integration.kafka.kit import read_topic
from tests.integration.kafka.workers import Worker, numbered, workers

SOON = "?topics_interval=0.2"


def worker(url: str, subject: str, **options: Any) -> Worker:
    return Worker(f"{url}{SOON}", subject, **options)


# -- what a topic is like ----------------------------------------------------------------------------------------


async def test_a_compacted_topic_takes_nothing_without_a_key_and_says_why(kafka_url: str, subject: str) -> None:
    await make_topic(kafka_url, subject, {"cleanup.policy": "compact"})
    async with KafkaBroker(kafka_url) as broker:
        with pytest.raises(NotStored, match=r"cleanup\.policy=compact takes none without a key"):
            await broker.publish(Message(subject, b"x"))
        with pytest.raises(NotAllPublished, match="takes none without a key"):
            await broker.publish_many([Message(subject, b"x")])
        await broker.publish(Message(subject, b"x", key="k"))


async def test_an_event_without_a_key_spoils_none_of_those_that_go_with_it_to_a_compacted_topic(
    kafka_url: str, subject: str
) -> None:
    """The broker refuses the batch in which it is, as a whole."""
    await make_topic(kafka_url, subject, {"cleanup.policy": "compact"})
    keys = ["k0", None, "k1", "k2", None, "k3"]
    messages = [Message(subject, b"%d" % number, key=key) for number, key in enumerate(keys)]
    async with KafkaBroker(kafka_url) as broker:
        await broker.publish(Message(subject, b"first", key="k"))
        with pytest.raises(NotAllPublished) as failed:
            await broker.publish_many(messages)
        assert set(failed.value.failed) == {1, 4}
        assert failed.value.confirmed == 4
        done = await asyncio.gather(*map(broker.publish, messages), return_exceptions=True)
        assert [type(each) for each in done] == [type(None) if key else NotStored for key in keys]
    stored = await read_topic(kafka_url, subject)
    assert stored[:5] == [b"first", b"0", b"2", b"3", b"5"], "those of one call are in their order"
    assert sorted(stored[5:]) == [b"0", b"2", b"3", b"5"]


@pytest.mark.parametrize("role", ["retry", "dead"])
@pytest.mark.parametrize("config", [{"cleanup.policy": "compact"}, {"retention.ms": "60000"}], ids=str)
async def test_a_topic_that_cannot_keep_copies_is_refused_and_left_as_it_is(
    role: str, config: dict[str, str], kafka_url: str, subject: str
) -> None:
    name = f"{subject}.q.{subject}.retry" if role == "retry" else f"{subject}.dead"
    await make_topic(kafka_url, name, config)
    before = await config_of(kafka_url, name)
    async with KafkaBroker(kafka_url) as broker:
        durable = Durable(dead_letter=f"{subject}.dead")
        ((setting, value),) = config.items()
        with pytest.raises(UsageError, match=f"topic '{name}' cannot be .*{setting}={value}.*kafka-configs.sh"):
            await broker.subscribe(subject, lambda _: None, queue=f"{subject}.q", durable=durable)
    assert await config_of(kafka_url, name) == before


async def test_a_subject_that_may_lose_events_is_used_and_that_is_told(
    kafka_url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    await make_topic(kafka_url, subject, {"cleanup.policy": "compact,delete", "retention.ms": "60000"})
    one = worker(kafka_url, subject)
    async with workers(one):
        await one.start()
        await one.broker.publish(Message(subject, b"x", key="k"))
        await until(lambda: one.bodies == [b"x"])
    assert f"topic {subject} has cleanup.policy=compact,delete" in caplog.text
    assert f"topic {subject} has retention.ms=60000" in caplog.text


# -- what an administrator does meanwhile --------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_topic_that_is_deleted_and_made_again_at_work_is_read_from_its_beginning(
    ordered: bool, kafka_url: str, subject: str, until: Until
) -> None:
    """Also where the new one has more by then than the place in the old one: the place says nothing of it."""
    one = worker(kafka_url, subject)
    await make_topic(kafka_url, subject)
    async with workers(one):
        await one.start(durable=Durable(ordered=ordered))
        await one.broker.publish_many([Message(subject, body, key="k") for body in numbered(5)])
        await until(lambda: one.bodies == numbered(5))
        await delete_topic(kafka_url, subject)
        await make_topic(kafka_url, subject)
        again = [b"again " + body for body in numbered(20)]
        async with foreign_producer(kafka_url) as producer:
            for body in again:
                await producer.send(subject, body)
            await producer.flush()
        await until(lambda: set(again) <= set(one.bodies))
        assert sorted(set(one.bodies) - set(numbered(5))) == sorted(again)
        await committed_up_to(kafka_url, subject, 20)


async def test_a_topic_made_again_while_nobody_is_there_is_read_from_its_beginning(
    kafka_url: str, subject: str, until: Until
) -> None:
    first, second = worker(kafka_url, subject), worker(kafka_url, subject)
    await make_topic(kafka_url, subject)
    async with workers(first):
        await first.start()
        await first.broker.publish(Message(subject, b"old"))
        await until(lambda: first.bodies)
    await delete_topic(kafka_url, subject)
    await make_topic(kafka_url, subject)
    async with workers(second):
        await second.broker.connect()
        await second.broker.publish_many([Message(subject, body) for body in numbered(3)])
        await second.start()
        await until(lambda: second.bodies == numbered(3))


async def test_a_topic_made_again_with_fewer_partitions_is_read_and_its_lag_is_told(
    kafka_url: str, subject: str, until: Until
) -> None:
    await make_topic(kafka_url, subject, partitions=4)
    one = worker(kafka_url, subject)
    async with workers(one):
        await one.start()
        await one.broker.publish_many([Message(subject, body, key=str(body)) for body in numbered(40)])
        await until(lambda: len(one.bodies) == 40)
        await delete_topic(kafka_url, subject)
        await make_topic(kafka_url, subject, partitions=2)
        again = [b"again " + body for body in numbered(20)]
        async with foreign_producer(kafka_url) as producer:
            for number, body in enumerate(again):
                await producer.send_and_wait(subject, body, partition=number % 2)
        await until(lambda: set(again) <= set(one.bodies))
        assert sorted(set(one.bodies) - set(numbered(40))) == sorted(again)
        while (state := await one.broker.queue_state(f"{subject}.q")) is None or state.waiting:
            await asyncio.sleep(0.02)


async def test_partitions_that_are_added_at_work_are_read(kafka_url: str, subject: str, until: Until) -> None:
    one, all_ = worker(kafka_url, subject), []
    await make_topic(kafka_url, subject)
    async with workers(one):
        await one.start()
        await one.broker.subscribe(subject, lambda delivery: all_.append(delivery.body))
        await add_partitions(kafka_url, subject, 3)
        async with foreign_producer(kafka_url) as producer:
            for partition in range(3):
                await producer.send_and_wait(subject, b"%d" % partition, partition=partition)
        await until(lambda: sorted(one.bodies) == numbered(3) and sorted(all_) == numbered(3))


async def test_events_that_retention_has_taken_before_they_were_read_are_counted(
    kafka_url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    await make_topic(kafka_url, subject)
    first, second = worker(kafka_url, subject), worker(kafka_url, subject)
    async with workers(first):
        await first.start()
        await first.broker.publish(Message(subject, b"read"))
        await until(lambda: first.bodies)
    async with workers(second):
        await second.broker.connect()
        await second.broker.publish_many([Message(subject, body) for body in numbered(10)])
        await delete_records(kafka_url, subject, 7)
        await second.start()
        await until(lambda: second.bodies == numbered(10)[6:])
    assert f"6 events of {subject}-0, offsets 1 to 6, were deleted by the broker" in caplog.text


async def test_of_what_retention_has_taken_only_what_was_not_finished_is_counted_as_lost(
    kafka_url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    await make_topic(kafka_url, subject)
    first, second = worker(kafka_url, subject, hold=True), worker(kafka_url, subject)
    async with workers(first):
        await first.start()
        await first.broker.publish_many([Message(subject, body) for body in numbered(10)])
        await until(lambda: len(first.deliveries) == 10)
        for delivery in first.deliveries:
            if delivery.body not in (b"1", b"3", b"8"):
                await delivery.ack()
    await delete_records(kafka_url, subject, 6)
    async with workers(second):
        await second.start()
        await until(lambda: second.bodies == [b"8"])
    assert (
        f"2 events of {subject}-0, offsets 1 to 3, were deleted by the broker before they were finished" in caplog.text
    )


@pytest.mark.parametrize("queue", ["team:app", "größe/1", "x" * 240])
async def test_a_group_has_the_name_that_others_gave_it_though_no_topic_may_have_it(
    queue: str, kafka_url: str, subject: str, until: Until
) -> None:
    queue = f"{subject}:{queue}"
    one, other = (worker(kafka_url, subject, hold=True) for _ in range(2))
    async with workers(one, other):
        await one.start(queue)
        await other.start(queue.replace(":", "/"))
        await one.broker.publish(Message(subject, b"x"))
        await until(lambda: one.deliveries and other.deliveries)
        await other.deliveries[0].ack()
        await one.deliveries[0].nack(0.05)
        await until(lambda: len(one.deliveries) == 2)
        assert (one.deliveries[1].attempt, one.deliveries[1].subject) == (2, subject)
        assert len(other.deliveries) == 1
        state = await one.broker.queue_state(queue)
        assert state is not None
        assert (state.queue, state.consumers) == (queue, 1)
        with pytest.raises(UsageError, match=r"dead\..*letters, digits.*dead_letter= of the subscriber names another"):
            await one.broker.subscribe(subject, print, queue=queue, durable=Durable(dead_letter=f"dead.{subject}:"))


async def test_a_queue_that_an_administrator_has_reset_begins_there(kafka_url: str, subject: str, until: Until) -> None:
    await make_topic(kafka_url, subject)
    first, second = worker(kafka_url, subject), worker(kafka_url, subject)
    async with workers(first):
        await first.start()
        await first.broker.publish_many([Message(subject, body) for body in numbered(5)])
        await until(lambda: first.bodies == numbered(5))
    admin = AdminClient({"bootstrap.servers": kafka_url.removeprefix("kafka://")})
    places = ConsumerGroupTopicPartitions(f"{subject}.q", [ConfluentPlace(subject, 0, 2)])
    for done in admin.alter_consumer_group_offsets([places]).values():
        await asyncio.to_thread(done.result, 10)
    async with workers(second):
        await second.start()
        await until(lambda: second.bodies == numbered(5)[2:])


async def test_a_retry_topic_that_is_compacted_at_work_loses_no_event(
    kafka_url: str, subject: str, until: Until
) -> None:
    one = worker(kafka_url, subject, hold=True)
    async with workers(one):
        await one.start()
        await configure(kafka_url, f"{subject}.q.{subject}.retry", cleanup_policy="compact")
        await one.broker.publish_many([Message(subject, body) for body in numbered(3)])
        await until(lambda: len(one.deliveries) == 3)
        for delivery in one.deliveries[:3]:
            await delivery.nack(0.1)
        await until(lambda: len(one.deliveries) == 6)
        assert sorted(delivery.body for delivery in one.deliveries[3:]) == numbered(3)


async def test_the_lag_reaches_nothing_behind_the_ends_of_transactions(
    kafka_url: str, subject: str, until: Until
) -> None:
    await make_topic(kafka_url, subject)
    one = worker(kafka_url, subject)
    async with workers(one):
        await one.start()
        async with foreign_producer(kafka_url, transactional_id=subject) as producer:
            for body in numbered(3):
                async with producer.transaction():
                    await producer.send_and_wait(subject, body)
        await until(lambda: one.bodies == numbered(3))
        await committed_up_to(kafka_url, subject, 6)


async def committed_up_to(url: str, subject: str, offset: int) -> None:
    """Return when the queue's places in all partitions are there; a topic that is missing may be made with several."""
    while True:
        places = await committed_of(url, f"{subject}.q")
        if sum(at for place, at in places.items() if place.topic == subject) == offset:
            return
        await asyncio.sleep(0.05)


# -- wildcards ---------------------------------------------------------------------------------------------------


async def test_topics_that_come_while_nobody_is_there_are_read_from_their_beginning(
    kafka_url: str, subject: str, until: Until
) -> None:
    first, second = worker(kafka_url, f"{subject}.*"), worker(kafka_url, f"{subject}.*")
    queue = f"{subject}.q"
    await make_topic(kafka_url, f"{subject}.a")
    async with workers(first):
        await first.broker.connect()
        await first.broker.publish(Message(f"{subject}.a", b"before it was there"))
        await first.start(queue)
        await first.broker.publish(Message(f"{subject}.a", b"a"))
        await until(lambda: first.bodies == [b"a"])
    async with workers(second):
        await second.broker.connect()
        await second.broker.publish(Message(f"{subject}.b", b"b"))
        await second.start(queue)
        await until(lambda: second.bodies == [b"b"])
        async with foreign_producer(kafka_url) as producer:  # whose topic is found by looking
            await make_topic(kafka_url, f"{subject}.c")
            await producer.send_and_wait(f"{subject}.c", b"c")
        await until(lambda: second.bodies == [b"b", b"c"])
        assert [delivery.subject for delivery in second.deliveries] == [f"{subject}.b", f"{subject}.c"]


async def test_events_of_wildcards_come_again_under_their_own_subjects(
    kafka_url: str, subject: str, until: Until
) -> None:
    one = worker(kafka_url, f"{subject}.>", hold=True)
    async with workers(one):
        await one.start(f"{subject}.q")
        await one.broker.publish(Message(f"{subject}.a.b", b"x"))
        for attempt in (1, 2, 3):
            await until(lambda: len(one.deliveries) == attempt)  # noqa: B023
            delivery = one.deliveries[-1]
            assert (delivery.subject, delivery.attempt, delivery.body) == (f"{subject}.a.b", attempt, b"x")
            await delivery.nack(0.05)


# -- members of other software -------------------------------------------------------------------------------------


class Foreign:
    """confluent-kafka in a thread of its own."""

    def __init__(self, url: str, topics: list[str], **config: Any) -> None:
        self.bodies: list[bytes] = []
        self.assigned = False
        self._stop = threading.Event()
        server = url.removeprefix("kafka://")
        self._consumer = Consumer({"bootstrap.servers": server, "auto.offset.reset": "earliest", **config})
        self._consumer.subscribe(topics, on_assign=self._assign)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join)

    def _assign(self, _: Any, places: list[Any]) -> None:
        self.assigned = self.assigned or bool(places)

    def _run(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.bodies.append(message.value())
                self._consumer.commit(message, asynchronous=False)
        self._consumer.close()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_members_of_other_software_share_a_group(
    protocol: str, kafka_url: str, subject: str, until: Until
) -> None:
    queue = f"{subject}.q"
    await make_topic(kafka_url, subject, partitions=4)
    one = worker(kafka_url, subject)
    more = {"partition.assignment.strategy": "roundrobin"} if protocol == "classic" else {}
    async with workers(one):
        await one.start(queue, Durable(ordered=True))
        foreign = Foreign(kafka_url, [subject], **{"group.id": queue, "group.protocol": protocol}, **more)
        try:
            await until(lambda: foreign.assigned and len(one.subscription.lanes) == 2)
            async with foreign_producer(kafka_url) as producer:
                for number, body in enumerate(numbered(100)):
                    await producer.send_and_wait(subject, body, partition=number % 4)
            await until(lambda: len(one.bodies) + len(foreign.bodies) >= 100)
        finally:
            await foreign.stop()
        assert sorted(one.bodies + foreign.bodies) == sorted(numbered(100))
        assert one.bodies
        assert foreign.bodies
        await until(lambda: len(one.subscription.lanes) == 4)
        await one.broker.publish_many([Message(subject, b"%d" % n, key=str(n)) for n in range(100, 140)])
        await until(lambda: len(one.bodies) + len(foreign.bodies) >= 140)


async def test_a_group_whose_members_share_in_another_way_is_refused(kafka_url: str, subject: str) -> None:
    await make_topic(kafka_url, subject)
    assigned = {"group.id": f"{subject}.q", "partition.assignment.strategy": "cooperative-sticky"}
    foreign = Foreign(kafka_url, [subject], **assigned)
    try:
        while not foreign.assigned:
            await asyncio.sleep(0.01)
        async with KafkaBroker(kafka_url) as broker:
            with pytest.raises(UsageError, match="members of other software that share partitions in another way"):
                await broker.subscribe(subject, lambda _: None, queue=f"{subject}.q", durable=Durable(ordered=True))
    finally:
        await foreign.stop()


@pytest.mark.parametrize("at_work", [True, False])
async def test_a_group_of_something_else_is_refused_and_left_alone(at_work: bool, kafka_url: str, subject: str) -> None:
    """As Kafka Connect's workers are, or Schema Registry's nodes: with places of ours they could not come back."""
    await make_topic(kafka_url, subject)
    group, address = f"connect-{subject}", kafka_url.removeprefix("kafka://")
    async with KafkaBroker(kafka_url) as broker:
        await broker.declare(
            subject, queue=f"{subject}.other", durable=Durable(ordered=True)
        )  # so there are coordinators
        async with worker_of_connect(address, group) as leave:
            if not at_work:
                await leave()
            for ask in (broker.declare, partial(broker.subscribe, receive=print)):
                with pytest.raises(UsageError, match=f"queue '{group}': there is a group .* of 'connect'"):
                    await ask(subject, queue=group, durable=Durable(ordered=True))
            with pytest.raises(UsageError, match="of 'connect' and not of consumers"):
                await broker.subscribe(subject, print, queue=group, durable=Durable())
        assert await broker.queue_state(group) is None
        assert await committed_of(kafka_url, group) == {}


@asynccontextmanager
async def worker_of_connect(address: str, group: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A member of a group that is none of consumers; what it gives has it leave."""
    client = AIOKafkaClient(bootstrap_servers=address)
    await client.bootstrap()
    node = client.get_random_node()
    member, answer = "", None
    while answer is None or answer.error_code:
        join = JoinGroupRequest(group, 30_000, 30_000, member, None, "connect", [("compatible", b"")])
        answer = await client.send(node, join)
        member = answer.member_id
    await client.send(node, SyncGroupRequest(group, answer.generation_id, member, None, [(member, b"")]))

    async def leave() -> None:
        await client.send(node, LeaveGroupRequest(group, member))

    try:
        yield leave
    finally:
        await leave()
        await client.close()


async def test_a_member_with_a_name_of_its_own_comes_back_and_nothing_moves(
    kafka_url: str, subject: str, until: Until
) -> None:
    staying, first, again = (Worker(f"{kafka_url}?instance={name}", subject) for name in ("pod-0", "pod-1", "pod-1"))
    await make_topic(kafka_url, subject, partitions=4)
    queue = f"{subject}.q"
    async with workers(staying, again):
        async with workers(first):
            await asyncio.gather(staying.start(queue), first.start(queue))
            await until(lambda: len(staying.subscription.lanes) == len(first.subscription.lanes) > 0)
            mine, share = set(first.subscription.lanes), staying.subscription._share
        await again.start(queue)
        await until(lambda: set(again.subscription.lanes) == mine)
        assert staying.subscription._share == share, "the other member's partitions were not shared anew"
        await again.broker.publish_many([Message(subject, b"%d" % n, key=str(n)) for n in range(40)])
        await until(lambda: len(staying.bodies) + len(again.bodies) == 40)
