"""What aiokafka does not say by itself, or takes for something else: nothing is skipped, and nobody waits for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.commit import (
    OffsetCommitRequest,
    OffsetCommitResponse_v3,
    OffsetFetchRequest,
    OffsetFetchResponse_v3,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest, HeartbeatResponse_v1, JoinGroupRequest
from aiokafka.protocol.metadata import MetadataRequest
from eventmicro_kafka import KafkaBroker
from eventmicro_kafka.connection import driver
from eventmicro_kafka.consuming import keeping, positions
from eventmicro_kafka.consuming.live import live_group
from eventmicro_kafka.consuming.positions import fix_positions

from eventmicro.broker import Durable
from eventmicro.message import Delivery, Message
from tests.conformance.servers import Restartable
from tests.integration.kafka.workers import Worker, hear_of_partitions, numbered, workers
from tests.servers import KafkaServer
from tests.servers.process import free_port

Until = Callable[[Callable[[], object]], Awaitable[None]]
Answer = Callable[[Any], Any]

send = AIOKafkaClient.send


def answer_instead(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    """Have requests answered here, unless that says None: then by the server."""

    async def answered(client: AIOKafkaClient, node: int, request: Any, **how: Any) -> Any:
        return answer(request) or await send(client, node, request, **how)

    monkeypatch.setattr(AIOKafkaClient, "send", answered)


@asynccontextmanager
async def administrator(url: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=url.removeprefix("kafka://"))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def add_partition_with(url: str, topic: str, bodies: list[bytes]) -> None:
    """Give a topic of one partition another one, with these events."""
    async with administrator(url) as admin:
        await admin.create_partitions({topic: NewPartitions(2)})
    producer = AIOKafkaProducer(bootstrap_servers=url.removeprefix("kafka://"))
    await producer.start()
    await hear_of_partitions(producer, topic, 2)
    for body in bodies:
        await producer.send_and_wait(topic, body, partition=1)
    await producer.stop()


# -- where a queue is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "whole"),
    [
        (errors.GroupLoadInProgressError, True),
        (errors.GroupLoadInProgressError, False),
        (errors.GroupCoordinatorNotAvailableError, True),
        (errors.NotCoordinatorForGroupError, True),
    ],
)
async def test_a_coordinator_that_does_not_know_yet_what_is_committed_is_asked_again(
    kafka_url: str,
    subject: str,
    monkeypatch: pytest.MonkeyPatch,
    until: Until,
    code: type[errors.BrokerResponseError],
    whole: bool,
) -> None:
    """As after the death of its broker: the answer as a whole is an error, and names no partition; or each has one."""
    refused = 0

    def refuse_twice_each(request: Any) -> Any:
        nonlocal refused
        if not isinstance(request, OffsetFetchRequest) or not (refused := refused + 1) % 3:
            return None
        each = [(topic, [(place, -1, "", code.errno) for place in places]) for topic, places in request._partitions]
        return OffsetFetchResponse_v3(0, *([], code.errno) if whole else (each, 0))

    worker = await Worker(kafka_url, subject).start()
    await worker.close()
    async with KafkaBroker(kafka_url) as publisher:
        await publisher.publish_many([Message(subject, body) for body in numbered(10)])
    answer_instead(monkeypatch, refuse_twice_each)
    worker = Worker(kafka_url, subject)
    async with workers(worker):
        await worker.start()
        await until(lambda: len(worker.deliveries) == 10)
    assert refused >= 6  # by the one who fixes where the queue begins, and by the member


async def test_partitions_that_were_added_while_nobody_was_there_are_read_from_their_beginning(
    kafka_url: str, subject: str, until: Until
) -> None:
    url = f"{kafka_url}?partitions=1"
    await (await Worker(url, subject).start()).close()
    await add_partition_with(kafka_url, subject, numbered(5))
    worker = Worker(url, subject)
    async with workers(worker):
        await worker.start()
        await until(lambda: len(worker.deliveries) == 5)
    assert worker.bodies == numbered(5)


@pytest.mark.parametrize("live", [False, True], ids=["durable", "live"])
async def test_who_joins_others_begins_at_the_beginning_of_partitions_that_were_added(
    kafka_url: str, subject: str, live: bool, until: Until
) -> None:
    async with KafkaBroker(f"{kafka_url}?partitions=1") as broker:
        group, durable = (live_group("q", subject), None) if live else (f"{subject}.q", Durable())
        there = await broker.subscribe(subject, lambda _: None, queue="q" if live else group, durable=durable)
        await until(lambda: there.lanes)
        await add_partition_with(kafka_url, subject, [b"early"])
        fixed = await fix_positions(broker.settings, group, {subject: 2}, {subject: "new"}, anew=live)
    assert fixed.first == {TopicPartition(subject, 1): 0}


async def test_a_place_that_another_one_fixes_meanwhile_stays(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = positions.committed, 0

    async def nothing_at_first(consumer: Any, places: Any) -> Any:
        nonlocal asked
        asked += 1
        return {} if asked == 1 else await real(consumer, places)

    async with KafkaBroker(f"{kafka_url}?partitions=1") as broker:
        queue, topics = f"{subject}.q", {subject: 1}
        await broker.publish(Message(subject, b"early"))
        await fix_positions(broker.settings, queue, topics, {subject: "all"})
        monkeypatch.setattr(positions, "committed", nothing_at_first)
        await fix_positions(broker.settings, queue, topics, {subject: "new"})
        monkeypatch.undo()
        subscription = await broker.subscribe(subject, lambda _: None, queue=queue, durable=Durable())
        assert subscription.lanes[TopicPartition(subject, 0)].next == 0


async def test_the_place_of_dead_letters_is_renewed_while_nobody_reads_them(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """Kafka forgets the place of a group a week after its last member has left, whatever is committed meanwhile."""
    joined, looked, dead = 0, 0, f"dead.{subject}"

    def count(request: Any) -> None:
        nonlocal joined, looked
        joined += isinstance(request, JoinGroupRequest) and request._group == dead
        looked += isinstance(request, DescribeGroupsRequest) and request._groups == [dead]

    monkeypatch.setattr(keeping, "RENEW_INTERVAL", 0.05)
    worker, reader = Worker(kafka_url, subject), Worker(kafka_url, dead)
    async with workers(worker, reader):
        answer_instead(monkeypatch, count)
        await worker.start(durable=Durable(dead_letter=dead))
        await worker.broker.publish(Message(dead, b"letter"))
        await until(lambda: joined > 2)
        await reader.start(queue=dead)
        await until(lambda: reader.deliveries)
        await until(lambda: reader.subscription._member._shared.is_set())  # type: ignore[union-attr]
        looked = 0
        await until(lambda: looked > 1)  # by now nobody joins who had looked before the reader was there
        before, looked = joined, 0
        await until(lambda: looked > 2)
        assert joined == before
    assert reader.bodies == [b"letter"]
    reader = Worker(kafka_url, dead)
    async with workers(reader):
        await reader.start(queue=dead)
        await reader.broker.publish(Message(dead, b"another"))
        await until(lambda: reader.deliveries)
    assert reader.bodies == [b"another"]


# -- a server that is not what it was --------------------------------------------------------------------------


async def test_events_behind_a_log_that_the_broker_has_lost_come_all_the_same(until: Until) -> None:
    """One replica, and what was not on the disk is gone: the place of the queue is behind the end of the log."""
    server = KafkaServer()
    with Restartable(server) as restartable:
        url = f"{server.url}?partitions=1"
        worker = Worker(url, "short")
        async with workers(worker):
            await worker.start()
            await worker.broker.publish_many([Message("short", body) for body in numbered(50)])
            await until(lambda: len(worker.deliveries) == 50)
        await restartable.kill()
        for file in (server.folder / "data" / "short-0").iterdir():
            if not file.name.startswith("partition.metadata"):
                file.unlink()
        await restartable.start()
        worker = Worker(url, "short")
        async with workers(worker):
            await worker.start()
            sent = [b"new %d" % number for number in range(60)]
            await worker.broker.publish_many([Message("short", body) for body in sent])
            await until(lambda: set(worker.bodies) >= set(sent))


async def test_brokers_that_come_back_under_another_address_are_found_by_the_url(until: Until) -> None:
    server = KafkaServer()
    with Restartable(server) as restartable:
        port = free_port()
        worker, live = Worker(f"{server.url},127.0.0.1:{port}?partitions=1", "moved"), list[Delivery]()
        async with workers(worker):
            await worker.start()
            await worker.broker.subscribe("moved", live.append)
            await restartable.kill()
            server.ports["PLAINTEXT"], server.addresses["PLAINTEXT"] = port, f"127.0.0.1:{port}"
            server.port = port
            await restartable.start()
            await worker.broker.publish(Message("moved", b"here"), timeout=30)
            await until(lambda: worker.deliveries and live)


async def test_a_topic_that_was_deleted_and_made_again_is_read_on(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(driver, "METADATA_AGE", 0.2)
    worker = Worker(f"{kafka_url}?partitions=1", subject)
    async with workers(worker), administrator(kafka_url) as admin:
        await worker.start()
        await admin.delete_topics([subject])
        await admin.create_topics([NewTopic(subject, 1, 1)])  # unless a consumer's look at it has made it already
        await worker.broker.publish(Message(subject, b"new"), timeout=20)
        await until(lambda: worker.deliveries)


# -- consumers that would do nothing any more ------------------------------------------------------------------


async def test_a_shared_subscription_that_the_group_refuses_for_a_while_goes_on(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    refused = False

    def refuse(request: Any) -> Any:
        code = errors.GroupAuthorizationFailedError.errno
        if refused and isinstance(request, OffsetCommitRequest):
            return OffsetCommitResponse_v3(0, [(t, [(p[0], code) for p in places]) for t, places in request._topics])
        return HeartbeatResponse_v1(0, code) if refused and isinstance(request, HeartbeatRequest) else None

    answer_instead(monkeypatch, refuse)
    got: list[Delivery] = []
    async with KafkaBroker(f"{kafka_url}?partitions=1&heartbeat_interval=0.2") as broker:
        shared: Any = await broker.subscribe(subject, got.append, queue="q")
        await broker.publish(Message(subject, b"before"))
        await until(lambda: got)
        first, refused = shared._member._consumer, True
        await broker.publish(Message(subject, b"meanwhile"))
        await until(lambda: shared._member._consumer is not first)
        refused = False
        await until(lambda: len(got) == 2)
        await broker.publish(Message(subject, b"after"))
        await until(lambda: len(got) == 3)


async def test_a_consumer_that_fetches_no_more_is_made_anew(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    ended = 0

    def fail_twice(request: Any) -> None:
        nonlocal ended
        if isinstance(request, FetchRequest) and ended < 2:
            ended += 1
            raise KeyError("which ends aiokafka's task that fetches")

    worker, live = Worker(f"{kafka_url}?partitions=1", subject), list[Delivery]()
    async with workers(worker):
        await worker.start()
        await worker.broker.subscribe(subject, live.append)
        answer_instead(monkeypatch, fail_twice)
        await until(lambda: ended == 2)
        await worker.broker.publish_many([Message(subject, body) for body in numbered(5)])
        await until(lambda: len(worker.deliveries) == 5 and len(live) == 5)


async def test_a_ping_that_fails_in_an_unknown_way_is_one_that_was_not_answered(
    kafka_url: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    failed = False

    def fail(request: Any) -> None:
        if failed and isinstance(request, MetadataRequest):
            raise KeyError("unknown")

    answer_instead(monkeypatch, fail)
    async with KafkaBroker(f"{kafka_url}?ping_interval=0.1") as broker:
        failed = True
        await until(lambda: not broker.online)
        failed = False
        await until(lambda: broker.online)
