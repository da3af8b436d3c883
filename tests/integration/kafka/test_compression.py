"""Kafka: what is compressed is read and written, and what cannot be read stops nothing else."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition, codec
from aiokafka.admin import RecordsToDelete
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatch
from eventmicro_kafka import KafkaBroker
from eventmicro_kafka.consuming import reading

from eventmicro.broker import Durable
from eventmicro.errors import UsageError
from eventmicro.message import Delivery, Message
from tests.integration.kafka.kit import Until, records_of
from tests.integration.kafka.test_silence import administrator, answer_instead
from tests.integration.kafka.workers import Worker, numbered, workers
from tests.servers import KafkaServer

CODECS = ["gzip", "snappy", "lz4", "zstd"]  # as they are numbered in a batch, from 1 on
BROKEN = b"1" * 50
# After how long a partition is tried again here, in seconds.
SOON = 0.2


@asynccontextmanager
async def producer_of(url: str, **how: Any) -> Any:
    async with AIOKafkaProducer(bootstrap_servers=url.removeprefix("kafka://"), **how) as producer:
        yield producer


# -- what is compressed is read and written --------------------------------------------------------------------


@pytest.mark.parametrize("compression", CODECS)
async def test_what_another_producer_has_compressed_is_read(
    compression: str, kafka_url: str, subject: str, until: Until
) -> None:
    worker, live, shared = Worker(kafka_url, subject), list[Delivery](), list[Delivery]()
    async with workers(worker):
        await worker.start()
        await worker.broker.subscribe(subject, live.append)
        await worker.broker.subscribe(subject, shared.append, queue="shared")
        bodies = [body * 1000 for body in numbered(50)]
        async with producer_of(kafka_url, compression_type=compression, linger_ms=20) as producer:
            await asyncio.gather(*[await producer.send(subject, body, key=body) for body in bodies])
        for got in (worker.deliveries, live, shared):
            await until(lambda: len(got) == 50)  # noqa: B023
            assert {delivery.body for delivery in got} == set(bodies)


@pytest.mark.parametrize("compression", CODECS)
async def test_what_is_published_is_compressed_as_it_is_asked_for_and_others_read_it(
    compression: str, kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    def watch(request: Any) -> None:
        if isinstance(request, ProduceRequest):
            sent.extend(batch for _, batches in request._topics for _, batch in batches)

    answer_instead(monkeypatch, watch)
    bodies = [body * 1000 for body in numbered(50)]
    async with KafkaBroker(f"{kafka_url}?compression={compression}") as broker:
        await broker.publish(Message(subject, bodies[0]))
        await broker.publish_many([Message(subject, body) for body in bodies[1:]])
    records = [record async for record in records_of(kafka_url, subject)]
    assert {record.value for record in records} == set(bodies)
    assert {DefaultRecordBatch(batch).compression_type for batch in sent} == {CODECS.index(compression) + 1}


async def test_what_fails_is_delivered_again_by_a_copy_that_is_compressed_too(
    kafka_url: str, subject: str, until: Until
) -> None:
    worker = Worker(f"{kafka_url}?compression=zstd", subject, hold=True)
    async with workers(worker):
        await worker.start()
        await worker.broker.publish(Message(subject, b"x" * 1000))
        await until(lambda: worker.deliveries)
        await worker.deliveries[0].nack(0.05)
        await until(lambda: len(worker.deliveries) == 2)
        assert (worker.deliveries[1].body, worker.deliveries[1].attempt) == (b"x" * 1000, 2)


async def test_a_library_that_is_missing_is_named_before_anything_is_published(
    kafka_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "cramjam", None)
    async with KafkaBroker(f"{kafka_url}?compression=gzip"):
        pass
    with pytest.raises(UsageError, match=r"compression='zstd': cramjam is missing here.*pip install cramjam"):
        await KafkaBroker(f"{kafka_url}?compression=zstd").connect()


# -- what cannot be read stops nothing else --------------------------------------------------------------------


# Publishes two events to partition 1 that are compressed, where the library for that is there.
ELSEWHERE = """
import asyncio, sys
from aiokafka import AIOKafkaProducer

async def main():
    async with AIOKafkaProducer(bootstrap_servers=sys.argv[1], compression_type="snappy", linger_ms=20) as producer:
        sent = [await producer.send(sys.argv[2], b"packed", partition=1) for _ in range(2)]
        await asyncio.gather(*sent)

asyncio.run(main())
"""


async def break_snappy(url: str, subject: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Two events in partition 1 that can be read, then two that cannot, until what this returns is called."""
    library = codec.cramjam
    monkeypatch.setattr(codec, "cramjam", None)
    async with producer_of(url) as producer:
        for _ in range(2):
            await producer.send_and_wait(subject, b"before", partition=1)
    command = (sys.executable, "-c", ELSEWHERE, url.removeprefix("kafka://"), subject)
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
    process._transport.close()  # type: ignore[attr-defined]
    return lambda: monkeypatch.setattr(codec, "cramjam", library)


Open = Callable[[KafkaBroker, str, list[Delivery]], Awaitable[object]]


async def _durable(broker: KafkaBroker, subject: str, got: list[Delivery]) -> object:
    async def handle(delivery: Delivery) -> None:
        await delivery.ack()

    def receive(delivery: Delivery) -> Awaitable[None]:
        got.append(delivery)
        return handle(delivery)

    return await broker.subscribe(subject, receive, queue=f"{subject}.q", durable=Durable())


async def _shared(broker: KafkaBroker, subject: str, got: list[Delivery]) -> object:
    return await broker.subscribe(subject, got.append, queue="shared")


async def _live(broker: KafkaBroker, subject: str, got: list[Delivery]) -> object:
    return await broker.subscribe(subject, got.append)


@pytest.mark.parametrize("subscribe", [_durable, _shared, _live], ids=lambda each: each.__name__)
async def test_a_partition_that_cannot_be_read_is_named_with_its_mend_and_the_others_go_on(
    subscribe: Open,
    kafka_url: str,
    subject: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    until: Until,
) -> None:
    monkeypatch.setattr(reading, "AGAIN_INTERVAL", SOON)
    got: list[Delivery] = []
    async with KafkaBroker(f"{kafka_url}?partitions=3") as broker:
        await subscribe(broker, subject, got)
        install = await break_snappy(kafka_url, subject, monkeypatch)
        async with producer_of(kafka_url) as producer:
            for number in range(10):
                for partition in (0, 2):
                    await producer.send_and_wait(subject, b"%d of %d" % (number, partition), partition=partition)
        others = {b"%d of %d" % (number, partition) for number in range(10) for partition in (0, 2)}
        await until(lambda: {delivery.body for delivery in got} == {b"before", *others})
        await until(lambda: caplog.text.count("cannot be read") >= 2)  # it is tried again
        assert f"partition 1 of {subject} cannot be read from offset 2 on" in caplog.text
        assert "compressed with snappy: cramjam is missing here" in caplog.text
        assert "made anew" not in caplog.text
        install()
        await until(lambda: len(got) == 24)
    bodies = [delivery.body for delivery in got]
    assert bodies.count(b"packed") == bodies.count(b"before") == 2, "each came once"


async def test_a_partition_that_cannot_be_read_is_no_standstill_that_a_new_consumer_mends(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    worker = Worker(f"{kafka_url}?partitions=3", subject)
    async with workers(worker):
        subscription: Any = (await worker.start()).subscription
        await break_snappy(kafka_url, subject, monkeypatch)
        await until(lambda: "cannot be read" in caplog.text and len(worker.deliveries) == 2)
        await until(subscription._wanted.is_set)
        for _ in range(3):
            subscription._watchdog._limit = 0.0
            await subscription._watchdog.look()
    assert "made anew" not in caplog.text


async def test_events_that_are_broken_on_the_disk_are_named_and_deleted_they_are_passed_by(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    monkeypatch.setattr(reading, "AGAIN_INTERVAL", SOON)
    with KafkaServer() as server:
        worker = Worker(f"{server.url}?partitions=2", "broken")
        async with workers(worker), producer_of(server.url) as producer:
            await worker.broker.connect()
            await worker.broker.publish(Message("broken", b"", key="which makes the topic"))
            for body in (b"0", BROKEN, b"2"):
                end = (await producer.send_and_wait("broken", body, partition=0)).offset
            damage(server.folder / "data" / "broken-0" / f"{0:020}.log")
            await worker.start(durable=Durable(start="all"))
            await until(lambda: f"partition 0 of broken cannot be read from offset {end - 1} on" in caplog.text)
            assert "CorruptRecord" in caplog.text
            assert "kafka-delete-records" in caplog.text
            await producer.send_and_wait("broken", b"other", partition=1)
            await until(lambda: {b"0", b"other"} <= set(worker.bodies))
            async with administrator(server.url) as admin:
                await admin.delete_records({TopicPartition("broken", 0): RecordsToDelete(before_offset=end)})
            await until(lambda: b"2" in worker.bodies)
        assert BROKEN not in worker.bodies


def damage(log: Path) -> None:
    """Change one byte of an event on the disk."""
    place = log.read_bytes().index(BROKEN)
    with log.open("r+b") as file:
        file.seek(place)
        file.write(b"?")
