"""Kafka: topics, their names, limits and partitions, and what a record holds."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from eventmicro_kafka import KafkaBroker

from eventmicro.broker import Durable
from eventmicro.errors import (
    MessageTooLarge,
    NotAllPublished,
    NotStored,
    Unsupported,
    UsageError,
)
from eventmicro.message import Message
from tests.integration.kafka.kit import Until, read_topic, records_of
from tests.integration.kafka.workers import Worker, numbered, workers
from tests.servers import KafkaServer

# the runner of the tests sees that no task is left


async def test_one_queue_may_take_events_of_two_subjects(kafka_url: str, subject: str, until: Until) -> None:
    one, two = Worker(kafka_url, f"{subject}.one", hold=True), Worker(kafka_url, f"{subject}.two", hold=True)
    async with workers(one, two):
        await asyncio.gather(one.start("workers" + subject), two.start("workers" + subject))
        for worker in (one, two):
            await worker.broker.publish(Message(worker.subject, worker.subject.encode()))
        for attempt in (1, 2):
            for worker in (one, two):
                await until(lambda: len(worker.deliveries) == attempt)  # noqa: B023
                await worker.deliveries[-1].nack(0.1)
        for worker in (one, two):
            assert {delivery.body.decode() for delivery in worker.deliveries} == {worker.subject}


# -- topics and limits -----------------------------------------------------------------------------------------


async def test_a_topic_is_made_as_the_settings_say(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(f"{kafka_url}?partitions=5&replication=1") as broker:
        await broker.publish(Message(subject, b"x"))
        assert await broker._connection.topics.partitions(subject) == 5  # type: ignore[union-attr]


async def test_a_topic_that_cannot_be_made_is_refused_by_name(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(f"{kafka_url}?replication=3") as broker:
        with pytest.raises(UsageError, match=subject):
            await broker.publish(Message(subject, b"x"))


async def test_nothing_is_made_where_it_is_only_to_be_checked(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(f"{kafka_url}?declare=check") as broker:
        with pytest.raises(UsageError, match=f"no topic '{subject}'"):
            await broker.publish(Message(subject, b"x"))
        with pytest.raises(NotAllPublished, match=subject):
            await broker.publish_many([Message(subject, b"x")])
        with pytest.raises(UsageError, match=f"no topic '{subject}'"):
            await broker.subscribe(subject, lambda _: None, queue="q", durable=Durable())
        await make_topic(kafka_url, subject)
        with pytest.raises(UsageError, match=f"no topic 'q.{subject}.retry'"):
            await broker.subscribe(subject, lambda _: None, queue="q", durable=Durable())
        subscription = await broker.subscribe(subject, lambda _: None, queue="q", durable=Durable(ordered=True))
        assert not subscription.ended
        await broker.publish(Message(subject, b"x"))


async def test_nothing_is_looked_at_where_all_is_to_be_left_alone(subject: str) -> None:
    with KafkaServer({"auto.create.topics.enable": "false"}) as server:
        async with KafkaBroker(f"{server.url}?declare=false") as broker:
            with pytest.raises(NotStored, match=subject):
                await broker.publish(Message(subject, b"x"))
            with pytest.raises(UsageError, match=subject):
                await broker.subscribe(subject, lambda _: None, queue="q", durable=Durable())
            await make_topic(server.url, subject)
            await broker.publish(Message(subject, b"x"))


async def test_a_topic_that_was_deleted_is_made_again(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(kafka_url) as broker:
        await broker.publish(Message(subject, b"x"))
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_url.removeprefix("kafka://"))
        await admin.start()
        await admin.delete_topics([subject])
        await admin.close()
        await broker._connection.publisher._producer.inner.client.force_metadata_update()  # type: ignore[union-attr]
        await broker.publish(Message(subject, b"y"))


@pytest.mark.parametrize("subject", ["", "a b", "ä", "a/b", "..", "x" * 250])
async def test_what_is_no_name_of_a_topic_is_refused(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(kafka_url) as broker:
        with pytest.raises(UsageError, match="topic"):
            await broker.publish(Message(subject, b"x"))
        with pytest.raises(UsageError, match="topic"):
            await broker.subscribe(subject, lambda _: None)


async def test_what_kafka_cannot_do_is_refused_with_what_can(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(kafka_url) as broker:
        with pytest.raises(Unsupported, match="nats://"):
            await broker.send(Message(subject))
        with pytest.raises(Unsupported, match="nats://"):
            broker.inbox()
        with pytest.raises(Unsupported, match="nats://"):
            await broker.publish(Message(subject, reply="r"))
        with pytest.raises(Unsupported, match="jetstream://"):
            await broker.subscribe(subject, lambda _: None, queue="q", durable=Durable(dedupe=1.0))


async def test_a_message_over_the_topics_own_limit_fails_alone(kafka_url: str, subject: str) -> None:
    await make_topic(kafka_url, subject, {"max.message.bytes": "1000"})
    async with KafkaBroker(kafka_url) as broker:
        for _ in range(3):
            with pytest.raises(MessageTooLarge):
                await broker.publish(Message(subject, b"x" * 5000))
            await broker.publish(Message(subject, b"small"))
        outcomes = await asyncio.gather(
            *(broker.publish(Message(subject, b"x" * (5000 if n % 10 == 5 else 10))) for n in range(30)),
            return_exceptions=True,
        )
        assert all(outcome is None or isinstance(outcome, MessageTooLarge) for outcome in outcomes)
    stored = Counter(len(body) for body in await read_topic(kafka_url, subject))
    assert stored[5] == 3
    assert stored[10] == sum(outcome is None for outcome in outcomes)


@pytest.mark.parametrize("many", [False, True], ids=["publish", "publish_many"])
async def test_what_comes_after_a_message_that_the_broker_has_refused_is_stored(
    many: bool, kafka_url: str, subject: str
) -> None:
    """By a new producer: the one before has counted the message, and the broker has not."""
    await make_topic(kafka_url, subject, {"max.message.bytes": "1000"})
    async with KafkaBroker(kafka_url) as broker:

        async def publish(body: bytes) -> None:
            message = Message(subject, body, key="key")  # all to one partition, as each counts by itself
            await (broker.publish_many([message]) if many else broker.publish(message))

        await publish(b"before")
        with pytest.raises(NotAllPublished if many else MessageTooLarge):
            await publish(b"x" * 5000)
        await publish(b"after")
    assert await read_topic(kafka_url, subject) == [b"before", b"after"]


async def test_what_has_no_key_goes_to_all_partitions_a_burst_to_one(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(f"{kafka_url}?partitions=3") as broker:
        await broker.publish(Message(subject, b"first"))
        for burst in range(6):
            await asyncio.gather(*(broker.publish(Message(subject, b"%d" % burst)) for _ in range(20)))
    bursts: dict[bytes, Counter[int]] = {}
    async for record in records_of(kafka_url, subject):
        bursts.setdefault(record.value, Counter())[record.partition] += 1
    del bursts[b"first"]
    assert all(len(burst) == 1 for burst in bursts.values())
    assert Counter(partition for burst in bursts.values() for partition in burst) == {0: 2, 1: 2, 2: 2}


async def test_what_has_no_key_leaves_out_a_partition_to_which_something_is_still_on_its_way(
    kafka_url: str, subject: str
) -> None:
    async with KafkaBroker(f"{kafka_url}?partitions=3") as broker:
        await broker.publish(Message(subject, b"first"))
        inner = broker._connection.publisher._producer.inner  # type: ignore[union-attr]
        inner._sender._muted_partitions.add(TopicPartition(subject, 1))
        for body in numbered(10):
            await broker.publish(Message(subject, body))
        await broker.publish_many([Message(subject, body) for body in numbered(10)])
        inner._sender._muted_partitions.clear()
    partitions = [record.partition async for record in records_of(kafka_url, subject) if record.value != b"first"]
    assert set(partitions) == {0, 2}


async def test_the_key_chooses_the_partition_as_with_other_clients(kafka_url: str, subject: str) -> None:
    server = kafka_url.removeprefix("kafka://")
    producer = AIOKafkaProducer(bootstrap_servers=server)
    async with KafkaBroker(f"{kafka_url}?partitions=7") as broker:
        keys = [f"key-{number}" for number in range(50)]
        for key in keys[:25]:
            await broker.publish(Message(subject, key.encode(), key=key))
        await broker.publish_many([Message(subject, key.encode(), key=key) for key in keys[25:]])
        await producer.start()
        for key in keys:
            await producer.send_and_wait(subject, b"theirs " + key.encode(), key=key.encode())
        await producer.stop()
    places: dict[bytes, set[int]] = {}
    async for record in records_of(kafka_url, subject):
        places.setdefault(record.key, set()).add(record.partition)
    assert len(places) == 50
    assert all(len(partitions) == 1 for partitions in places.values())


async def test_the_id_of_a_message_travels_as_a_header(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(kafka_url) as broker:
        await broker.publish(Message(subject, b"x", id="order-7"))
        await broker.publish(Message(subject, b"x"))
    headers = [record.headers async for record in records_of(kafka_url, subject)]
    assert sorted(headers) == [(), (("Message-Id", b"order-7"),)]


# -- by other means --------------------------------------------------------------------------------------------


async def make_topic(url: str, name: str, config: dict[str, str] | None = None) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=url.removeprefix("kafka://"))
    await admin.start()
    await admin.create_topics([NewTopic(name, 3, 1, topic_configs=config)])
    while (await admin.describe_topics([name]))[0]["error_code"]:  # it takes the broker a moment
        await asyncio.sleep(0.01)
    await admin.close()
