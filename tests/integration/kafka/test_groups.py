"""Kafka: groups that grow and shrink, partitions that move or are added, and where a queue begins."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from eventmicro_kafka import KafkaBroker
from eventmicro_kafka.connection import driver, ending
from eventmicro_kafka.consuming import member

from eventmicro.broker import Durable
from eventmicro.errors import (
    UsageError,
)
from eventmicro.message import Message
from tests.integration.kafka.kit import Until
from tests.integration.kafka.workers import Worker, hear_of_partitions, numbered, workers
from tests.servers import KafkaServer
from tests.servers.kafka import TEST_CONFIG

# -- groups in motion ------------------------------------------------------------------------------------------


@pytest.mark.timeout_seconds(60)
async def test_a_group_that_grows_and_shrinks_at_work_loses_nothing(
    kafka_url: str, subject: str, record_property: Callable[[str, object], None]
) -> None:
    """One member, then three; one leaves in order, one is closed in the middle of its work."""
    url = f"{kafka_url}?partitions=6"
    members = [Worker(url, subject, work=0.002) for _ in range(3)]
    async with workers(*members), KafkaBroker(url) as publisher:
        await members[0].start()
        sent, left = list[bytes](), numbered(30_000)

        async def publish_while(going_on: Callable[[], bool]) -> None:
            while not sent or going_on():
                portion, left[:300] = left[:300], []
                await publisher.publish_many([Message(subject, body, key=body.decode()) for body in portion])
                sent.extend(portion)
                await asyncio.sleep(0.1)

        await publish_while(lambda: not members[0].deliveries)
        await members[1].start()
        await members[2].start()
        await publish_while(lambda: not all(member.deliveries for member in members))
        await members[1].subscription.drain()
        seen = len(members[2].deliveries)
        await publish_while(lambda: len(members[2].deliveries) == seen)
        await members[2].broker.close()
        async with asyncio.timeout(40):
            while {body for member in members for body in member.bodies} != set(sent):
                await asyncio.sleep(0.02)
        assert all(member.deliveries for member in members)
        record_property("duplicates", sum(len(member.bodies) for member in members) - len(sent))


MEMBER = """
import asyncio, sys
from eventmicro_kafka import KafkaBroker
from eventmicro.broker import Durable

async def main():
    broker = KafkaBroker(sys.argv[1])
    await broker.connect()

    async def work(delivery):
        await asyncio.sleep(0.001)
        print(delivery.body.decode(), flush=True)
        await delivery.ack()

    await broker.subscribe(sys.argv[2], lambda d: work(d), queue=sys.argv[3], durable=Durable())
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.timeout_seconds(60)
async def test_what_a_member_had_that_is_killed_is_taken_over(
    kafka_url: str, subject: str, record_property: Callable[[str, object], None]
) -> None:
    url = f"{kafka_url}?session_timeout=2"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEMBER, url, subject, f"{subject}.q", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    other = Worker(url, subject)
    async with workers(other), KafkaBroker(url) as publisher:
        sent = numbered(2000)
        await publisher.publish_many([Message(subject, body, key=body.decode()) for body in sent])
        first = [(await process.stdout.readline()).strip() for _ in range(700)]
        os.kill(process.pid, signal.SIGKILL)
        first += (await process.stdout.read()).split()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]
        await other.start()
        async with asyncio.timeout(40):
            while {*first, *other.bodies} != set(sent):
                await asyncio.sleep(0.02)
        duplicates = len(first) + len(other.bodies) - len(sent)
        record_property("duplicates", duplicates)
        assert duplicates < len(first)  # it had committed behind its work


async def test_a_member_that_dies_before_its_first_commit_keeps_the_place_of_its_queue(
    kafka_url: str, subject: str
) -> None:
    async with KafkaBroker(f"{kafka_url}?session_timeout=2") as broker:
        await broker.publish(Message(subject, b"before"))
        subscription = await broker.subscribe(subject, lambda _: None, queue=f"{subject}.q", durable=Durable())
        await ending._abandon(subscription._member._consumer._client, list)  # type: ignore[union-attr]  as if it had died
        async with KafkaBroker(kafka_url) as publisher:
            await publisher.publish(Message(subject, b"after"))
    worker = Worker(kafka_url, subject)
    async with workers(worker):
        await worker.start()
        async with asyncio.timeout(20):
            while not worker.deliveries:
                await asyncio.sleep(0.01)
        assert worker.bodies == [b"after"]


async def test_commits_that_fail_do_no_harm(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    commit, failed = member.commit, 0

    async def fail_often(*what: object) -> None:
        nonlocal failed
        failed += 1
        if failed % 3:
            raise member.NOT_A_MEMBER[failed % 3]
        await commit(*what)

    monkeypatch.setattr(member, "commit", fail_often)
    worker = Worker(kafka_url, subject, work=0.002)
    async with workers(worker), KafkaBroker(kafka_url) as publisher:
        await worker.start()
        sent = numbered(500)
        await publisher.publish_many([Message(subject, body, key=body.decode()) for body in sent])
        await until(lambda: len(worker.deliveries) == 500)
        await until(lambda: failed > 3)
    await worker.close()
    assert sorted(worker.bodies) == sorted(sent)


async def test_only_what_was_not_settled_comes_again_though_later_ones_were(
    kafka_url: str, subject: str, until: Until
) -> None:
    url = f"{kafka_url}?partitions=1"
    first, second = Worker(url, subject, hold=True), Worker(url, subject, hold=True)
    async with workers(first, second):
        await first.start()
        await first.broker.publish_many([Message(subject, body) for body in numbered(100)])
        await until(lambda: len(first.deliveries) == 100)
        for number, delivery in enumerate(first.deliveries):
            if number not in (0, 17, 50):
                await delivery.ack()
        await first.broker.close()
        await second.start()
        await until(lambda: len(second.deliveries) >= 3)
        await second.broker.publish(Message(subject, b"next"))
        await until(lambda: b"next" in second.bodies)
        assert second.bodies == [b"0", b"17", b"50", b"next"]
        assert [d.id for d in second.deliveries[:3]] == [first.deliveries[number].id for number in (0, 17, 50)]


async def test_where_a_topic_has_one_partition_events_without_a_key_have_their_order(
    kafka_url: str, subject: str, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    worker = Worker(f"{kafka_url}?partitions=1", subject)
    async with workers(worker):
        await worker.start(durable=Durable(ordered=True))
        await worker.broker.publish(Message(subject, b"x"))
        await until(lambda: worker.deliveries)
    assert "has no key" not in caplog.text


async def test_events_that_move_to_another_member_are_lapsed_here(kafka_url: str, subject: str, until: Until) -> None:
    url = f"{kafka_url}?rebalance_wait=0.1"
    first, second = Worker(url, subject, hold=True), Worker(url, subject, hold=True)
    async with workers(first, second):
        await first.start()
        sent = numbered(60)
        await first.broker.publish_many([Message(subject, body, key=body.decode()) for body in sent])
        await until(lambda: len(first.deliveries) == 60)
        await second.start()
        await until(lambda: any(delivery.lapsed for delivery in first.deliveries))
        lapsed = [delivery for delivery in first.deliveries if delivery.lapsed]
        kept = [delivery for delivery in first.deliveries if not delivery.lapsed]
        await until(lambda: len(second.deliveries) == len(lapsed))
        assert sorted(second.bodies) == sorted(delivery.body for delivery in lapsed)
        assert kept, "what stayed with the first member was handed over again"
        for delivery in first.deliveries + second.deliveries:
            await delivery.ack()


async def test_what_is_finished_when_partitions_move_is_committed_before_and_does_not_come_again(
    kafka_url: str, subject: str, until: Until
) -> None:
    url = f"{kafka_url}?partitions=2&commit_interval=60"
    first, second = Worker(url, subject), Worker(url, subject)
    async with workers(first, second):
        await first.start()
        sent = numbered(20)
        await first.broker.publish_many([Message(subject, body, key=body.decode()) for body in sent])
        await until(lambda: len(first.deliveries) == 20)
        await second.start()
        await until(lambda: any(place.topic == subject for place in second.subscription.lanes))
        later = {b"later " + body for body in sent}
        await first.broker.publish_many([Message(subject, body, key=body.decode()[6:]) for body in later])
        await until(lambda: later <= {*first.bodies, *second.bodies})
        assert second.deliveries
        assert set(second.bodies) <= later


async def test_what_is_handled_when_a_subscription_drains_is_finished_and_does_not_come_again(
    kafka_url: str, subject: str, until: Until
) -> None:
    first, second = Worker(kafka_url, subject, hold=True), Worker(kafka_url, subject, hold=True)
    async with workers(first, second):
        await first.start()
        sent = numbered(40)
        await first.broker.publish_many([Message(subject, body, key=body.decode()) for body in sent])
        await until(lambda: len(first.deliveries) == 40)
        await first.subscription.drain()
        joining = asyncio.ensure_future(second.start())
        await asyncio.sleep(0.2)
        for delivery in first.deliveries:
            await delivery.ack()
        await joining
        await first.broker.publish(Message(subject, b"next"))
        await until(lambda: b"next" in second.bodies)
        assert second.bodies == [b"next"]


async def test_partitions_that_are_added_are_read_from_their_beginning(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "METADATA_AGE", 0.2)
    url, live = f"{kafka_url}?partitions=1", []
    worker = Worker(url, subject)
    async with workers(worker):
        await worker.start()
        await worker.broker.subscribe(subject, live.append)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_url.removeprefix("kafka://"))
        await admin.start()
        await admin.create_partitions({subject: NewPartitions(4)})
        await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=kafka_url.removeprefix("kafka://"))
        await producer.start()
        await hear_of_partitions(producer, subject, 4)
        for partition in range(4):
            await producer.send_and_wait(subject, b"%d" % partition, partition=partition)
        await producer.stop()
        async with asyncio.timeout(20):
            while len(worker.deliveries) < 4 or len(live) < 4:
                await asyncio.sleep(0.01)
        assert sorted(worker.bodies) == sorted(d.body for d in live) == numbered(4)


async def test_a_new_queue_begins_at_the_end_of_partitions_that_were_added_before(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(f"{kafka_url}?partitions=1") as broker:
        await broker.publish(Message(subject, b"the topic is known"))
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_url.removeprefix("kafka://"))
        await admin.start()
        await admin.create_partitions({subject: NewPartitions(2)})
        await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=kafka_url.removeprefix("kafka://"))
        await producer.start()
        await hear_of_partitions(producer, subject, 2)
        await producer.send_and_wait(subject, b"old", partition=1)
        await producer.stop()
        subscription = await broker.subscribe(subject, lambda _: None, queue="q" + subject, durable=Durable())
        assert subscription.lanes[TopicPartition(subject, 1)].next == 1


async def test_a_session_that_the_broker_does_not_allow_is_refused(kafka_url: str, subject: str) -> None:
    shorter = TEST_CONFIG["group.min.session.timeout.ms"] / 1000 - 0.1
    async with KafkaBroker(f"{kafka_url}?session_timeout={shorter:g}") as broker:
        with pytest.raises(UsageError, match="session_timeout"):
            await broker.subscribe(subject, lambda _: None, queue="q" + subject, durable=Durable())


async def test_subscribing_waits_for_nobody_where_the_place_of_the_queue_is_fixed(subject: str, until: Until) -> None:
    with KafkaServer({"group.initial.rebalance.delay.ms": 5000}) as server:
        worker = Worker(server.url, subject)
        async with workers(worker):
            await worker.start()
            shared = worker.subscription._member._shared  # type: ignore[union-attr]
            assert not shared.is_set()
            await worker.broker.publish(Message(subject, b"x"))
            await until(lambda: worker.bodies == [b"x"])
