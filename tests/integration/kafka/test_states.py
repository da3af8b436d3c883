"""Kafka: how it is with queues, asked over the connection that is there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import aiokafka.client
import pytest
from confluent_kafka import Consumer
from eventmicro_kafka import KafkaBroker
from eventmicro_kafka.connection.link import Link

from eventmicro.broker import Durable
from eventmicro.message import Message
from tests.conftest import Until
from tests.integration.kafka.admin import delete_records, foreign_producer, make_topic
from tests.integration.kafka.workers import Worker, numbered, workers
from tests.told import until_told, waiting

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


async def test_questions_for_the_lag_open_no_connection_and_ask_no_more_than_they_need(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected, asked = 0, list[str]()
    connect, send = aiokafka.client.create_conn, Link._send

    async def count(*args: Any, **options: Any) -> Any:
        nonlocal connected
        connected += 1
        return await connect(*args, **options)

    async def note(link: Link, client: Any, node: Any, request: Any) -> Any:
        asked.append(type(request).__name__)
        return await send(link, client, node, request)

    queues = [f"{subject}.{number}" for number in range(3)]
    async with KafkaBroker(kafka_url) as broker, KafkaBroker(f"{kafka_url}?ping_interval=60") as looking:
        for queue in queues:
            await broker.declare(subject, queue=queue, durable=Durable(ordered=True))
        await broker.publish_many([Message(subject, body, key="k") for body in numbered(3)])
        await until_told(lambda: waiting(looking, queues[0]), 3)
        monkeypatch.setattr(aiokafka.client, "create_conn", count)
        monkeypatch.setattr(Link, "_send", note)
        for queue in queues:
            state = await looking.queue_state(queue)
            assert state is not None
            assert (state.waiting, state.consumers) == (3, 0)
        assert connected == 0
        each = ["FindCoordinatorRequest"] * 2 + ["OffsetFetchRequest", "DescribeGroupsRequest", "DescribeTopics"]
        each += ["OffsetRequest"] * 2 + ["FetchRequest"]
        assert sorted(asked) == sorted(each * 3)
        states = {state.queue: state.waiting for state in await looking.queue_states()}
        assert [states[queue] for queue in queues] == [3, 3, 3]
        assert connected == 0


async def test_the_oldest_is_that_of_the_first_event_that_is_not_finished(
    kafka_url: str, subject: str, until: Until
) -> None:
    """Behind what is finished, behind the ends of transactions and what they have aborted, in all partitions."""
    await make_topic(kafka_url, subject, partitions=2)
    one = Worker(kafka_url, subject, hold=True)
    async with workers(one), foreign_producer(kafka_url, transactional_id=subject) as producer:
        await one.start()

        async def store(body: bytes, year: int, partition: int, *, abort: bool = False) -> None:
            at = int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000)
            await producer.begin_transaction()
            await producer.send_and_wait(subject, body, partition=partition, timestamp_ms=at)
            await (producer.abort_transaction() if abort else producer.commit_transaction())

        await store(b"finished", 2020, 0)
        await store(b"aborted", 2021, 0, abort=True)
        await store(b"oldest", 2022, 0)
        await store(b"another", 2023, 1)
        await until(lambda: len(one.deliveries) == 3)
        await next(each for each in one.deliveries if each.body == b"finished").ack()

        async def oldest() -> int | None:
            state = await one.broker.queue_state(f"{subject}.q")
            return None if state is None or state.oldest is None else state.oldest.year

        while await oldest() != 2022:
            await asyncio.sleep(0.02)
        await next(each for each in one.deliveries if each.body == b"oldest").ack()
        while await oldest() != 2023:
            await asyncio.sleep(0.02)


async def test_what_cannot_be_read_here_has_no_time_and_is_counted(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with KafkaBroker(kafka_url) as broker:
        await broker.declare(subject, queue=f"{subject}.q", durable=Durable(ordered=True))
        async with foreign_producer(kafka_url, compression_type="zstd") as producer:
            await producer.send_and_wait(subject, b"x" * 1000)
        state = await broker.queue_state(f"{subject}.q")
        assert state is not None
        assert state.oldest is not None
        assert datetime.now(UTC) - state.oldest < timedelta(minutes=5)
        monkeypatch.setattr("aiokafka.codec.cramjam", None)
        state = await broker.queue_state(f"{subject}.q")
        assert state is not None
        assert (state.waiting, state.oldest) == (1, None)


async def test_what_retention_has_taken_does_not_wait(kafka_url: str, subject: str) -> None:
    await make_topic(kafka_url, subject)
    async with KafkaBroker(kafka_url) as broker:
        await broker.declare(subject, queue=f"{subject}.q", durable=Durable())
        await broker.publish_many([Message(subject, body) for body in numbered(10)])
        await delete_records(kafka_url, subject, 7)
        await until_told(lambda: waiting(broker, f"{subject}.q"), 3)
        state = await broker.queue_state(f"{subject}.q")
        assert state is not None
        assert state.oldest is not None
        assert state.oldest > LONG_AGO


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_members_of_other_software_are_counted(protocol: str, kafka_url: str, subject: str) -> None:
    """Of a group of the newer protocol, KIP-848, the old question says that it is dead."""
    await make_topic(kafka_url, subject)
    address = kafka_url.removeprefix("kafka://")
    consumer = Consumer({"bootstrap.servers": address, "group.id": subject, "group.protocol": protocol})
    consumer.subscribe([subject])
    try:
        async with KafkaBroker(kafka_url) as broker:
            await broker.publish_many([Message(subject, body) for body in numbered(3)])
            while not await asyncio.to_thread(consumer.assignment):
                await asyncio.to_thread(consumer.poll, 0.05)
            consumer.seek(consumer.assignment()[0].__class__(subject, 0, 0))
            message = None
            while message is None or message.error():
                message = await asyncio.to_thread(consumer.poll, 0.05)
            await asyncio.to_thread(consumer.commit, message, asynchronous=False)
            await until_told(lambda: waiting(broker, subject), 2)
            state = await broker.queue_state(subject)
            assert state is not None
            assert state.consumers == 1
    finally:
        await asyncio.to_thread(consumer.close)
