"""Kafka: brokers that die or hang, connections that are cut, producers and consumers that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, errors
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection
from eventmicro_kafka import KafkaBroker
from eventmicro_kafka.connection.link import Link
from eventmicro_kafka.consuming import subscription
from eventmicro_kafka.consuming.live import Broadcast
from eventmicro_kafka.consuming.member import Member
from eventmicro_kafka.producing import batches
from eventmicro_kafka.producing.batches import PART, Batches
from eventmicro_kafka.producing.partitions import partition_of
from eventmicro_kafka.records import to_record

from eventmicro.broker import Durable
from eventmicro.errors import (
    Disconnected,
    NotAllPublished,
    Unconfirmed,
)
from eventmicro.message import Delivery, Message
from tests.integration.kafka.kit import Until, read_topic, records_of
from tests.integration.kafka.workers import Worker, numbered, workers
from tests.servers import FaultProxy, KafkaServer


async def publish_all(broker: KafkaBroker, subject: str, bodies: list[bytes], *, tasks: int = 32) -> int:
    """Publish each until it is accepted, some at the same time; how many were published more than once."""
    waiting, again = iter(bodies), 0

    async def publish() -> None:
        nonlocal again
        for body in waiting:
            while True:
                try:
                    await broker.publish(Message(subject, body, key=body.decode()), timeout=15)
                    break
                except (Disconnected, Unconfirmed):
                    again += 1
            await asyncio.sleep(0.002)

    await asyncio.gather(*(publish() for _ in range(tasks)))
    return again


def connections_of(owner: Any) -> list[Any]:
    """aiokafka's, of a durable subscription or of the producer of a broker."""
    consumer = owner._member._consumer if hasattr(owner, "_member") else None
    client = owner._connection.publisher._producer.inner.client if consumer is None else consumer._client
    return list(client._conns.values())


# -- faults ----------------------------------------------------------------------------------------------------


@pytest.mark.timeout_seconds(90)
async def test_a_broker_killed_under_load_loses_nothing(
    subject: str, record_property: Callable[[str, object], None], until: Until
) -> None:
    with KafkaServer() as server:
        worker, publisher = Worker(server.url, subject), KafkaBroker(server.url)
        async with workers(worker), publisher:
            await worker.start()
            sent = numbered(8000)
            publishing = asyncio.ensure_future(publish_all(publisher, subject, sent))
            await until(lambda: len(worker.deliveries) > 1500)
            server.kill()
            await asyncio.to_thread(server.start)
            again = await publishing
            async with asyncio.timeout(30):
                while set(worker.bodies) != set(sent):
                    await asyncio.sleep(0.02)
            record_property("duplicates", len(worker.bodies) - len(sent))
            record_property("published again", again)


@pytest.mark.timeout_seconds(90)
async def test_a_broker_that_hangs_for_longer_than_a_request_may_take_loses_nothing(
    subject: str, record_property: Callable[[str, object], None], until: Until
) -> None:
    with KafkaServer() as server:
        url = f"{server.url}?request_timeout=2&ping_interval=1"
        worker, publisher = Worker(url, subject), KafkaBroker(url)
        async with workers(worker), publisher:
            await worker.start()
            sent = numbered(4000)
            publishing = asyncio.ensure_future(publish_all(publisher, subject, sent))
            await until(lambda: len(worker.deliveries) > 500)
            asked = connections_of(worker.subscription), connections_of(publisher)
            server.pause()
            await until(lambda: not publisher.online)
            with pytest.raises((Disconnected, Unconfirmed)):
                await publisher.publish(Message(subject, b"late"), timeout=0.2)
            for connections in asked:  # until what was asked for is given up
                await until(lambda: not all(each.connected() for each in connections))  # noqa: B023
            server.resume()
            again = await publishing
            async with asyncio.timeout(30):
                while not set(sent) <= set(worker.bodies):
                    await asyncio.sleep(0.02)
            record_property("duplicates", len(worker.bodies) - len(sent))
            record_property("published again", again)


@pytest.mark.timeout_seconds(90)
async def test_a_connection_that_is_cut_comes_back(subject: str, monkeypatch: pytest.MonkeyPatch, until: Until) -> None:
    tries: list[Link] = []
    is_there = Link._is_there

    async def try_it(self: Link) -> bool:
        tries.append(self)
        return await is_there(self)

    monkeypatch.setattr(Link, "_is_there", try_it)
    server = KafkaServer()
    async with FaultProxy(server.port) as proxy:
        server.addresses["PLAINTEXT"] = f"127.0.0.1:{proxy.port}"
        with server:
            url = f"kafka://127.0.0.1:{proxy.port}"
            worker, publisher = Worker(url, subject), KafkaBroker(url)
            async with workers(worker), publisher:
                await worker.start()
                sent = numbered(3000)
                publishing = asyncio.ensure_future(publish_all(publisher, subject, sent))
                await until(lambda: len(worker.deliveries) > 300)
                await proxy.stop()
                await until(lambda: not publisher.online and not worker.broker.online)
                tries.clear()
                for broker in (publisher, worker.broker):
                    link = broker._connection.link  # type: ignore[union-attr]
                    await until(lambda: tries.count(link) > 2)  # noqa: B023
                await proxy.start()
                await publishing
                async with asyncio.timeout(30):
                    while not set(sent) <= set(worker.bodies):
                        await asyncio.sleep(0.02)
                assert publisher.online


async def test_a_broker_with_nothing_to_do_is_sent_the_first_of_many_at_once(kafka_url: str, subject: str) -> None:
    """It works on them while the others are put together."""
    async with KafkaBroker(f"{kafka_url}?partitions=3") as broker:
        await broker.publish_many([Message(subject, body) for body in numbered(2 * PART)])
    parts: dict[int, list[bytes]] = {}
    async for record in records_of(kafka_url, subject):
        parts.setdefault(record.partition, []).append(record.value)
    assert sorted(parts.values()) == [numbered(2 * PART)[:PART], numbered(2 * PART)[PART:]]


async def test_many_are_put_together_while_a_broker_has_the_first_of_them(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, sent, all_put = 0, [], asyncio.Event()
    send = AIOKafkaConnection.send

    def count(message: Message, limit: int) -> object:
        nonlocal put
        put += 1
        if put == 4 * PART:
            all_put.set()
        return to_record(message, limit)

    async def hold(answer: Awaitable[object]) -> object:
        await all_put.wait()
        return await answer

    def note(self: Any, request: object, *what: Any, **more: Any) -> object:
        answer = send(self, request, *what, **more)
        if "Produce" not in type(request).__name__ or not put:
            return answer
        sent.append(put)
        return asyncio.ensure_future(hold(answer))

    async with KafkaBroker(f"{kafka_url}?partitions=3") as broker:
        await broker.publish(Message(subject))
        monkeypatch.setattr(AIOKafkaConnection, "send", note)
        monkeypatch.setattr(batches, "to_record", count)
        await broker.publish_many([Message(subject, body) for body in numbered(4 * PART)])
    assert sent == [PART, 4 * PART]


async def test_many_of_one_key_stay_in_order_though_their_producer_dies_in_between(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = False

    async def send_and_die(self: Batches) -> None:
        nonlocal died
        inner = self._producer.inner
        for batch in list(self._open.values()):
            await self._send(batch)
        if not died:
            died = True
            inner._message_accumulator.fail_all(errors.ProducerClosed())
            self._producer.retire(inner)
            await self._producer.ready(subject)

    monkeypatch.setattr(Batches, "_occupy", send_and_die)
    async with KafkaBroker(f"{kafka_url}?partitions=1") as broker:
        await broker.publish_many([Message(subject, body, key="k") for body in numbered(3 * PART + 7)])
    assert died
    assert await read_topic(kafka_url, subject) == numbered(3 * PART + 7)


async def test_a_partition_without_a_leader_holds_up_no_other(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = ClusterMetadata.leader_for_partition
    sent = [Message(subject, key=f"k{number}") for number in range(6 * PART)]
    without = [number for number, message in enumerate(sent) if partition_of((message.key or "").encode(), 3) == 1]
    async with KafkaBroker(f"{kafka_url}?partitions=3") as broker:
        await broker.publish(Message(subject))
        monkeypatch.setattr(
            ClusterMetadata, "leader_for_partition", lambda self, place: -1 if place[1] == 1 else leader(self, place)
        )
        with pytest.raises(NotAllPublished) as raised:
            await broker.publish_many(sent, timeout=1)
        monkeypatch.undo()
    assert sorted(raised.value.failed) == without


async def test_many_batches_wait_for_a_broker_that_hangs_for_longer_than_a_request_may_take(
    subject: str, until: Until
) -> None:
    with KafkaServer() as server:
        url = f"{server.url}?partitions=1&batch_bytes=1000&request_timeout=0.5&ping_interval=1"
        async with KafkaBroker(url) as broker:
            await broker.publish(Message(subject, b"first"))
            server.pause()
            publishing = asyncio.ensure_future(
                broker.publish_many([Message(subject, body) for body in numbered(1000)], timeout=30)
            )
            await until(lambda: not broker.online)
            server.resume()
            await publishing
        assert (await read_topic(server.url, subject))[1:] == numbered(1000)


async def test_a_connection_on_which_nothing_comes_any_more_is_made_anew(kafka_url: str, until: Until) -> None:
    """As where a firewall has forgotten it: it is not closed, and stays silent though the broker is there."""
    async with KafkaBroker(f"{kafka_url}?ping_interval=0.2&request_timeout=0.5") as broker:
        await broker.flush()
        (silent,) = broker._connection.link._client._conns.values()  # type: ignore[union-attr]
        silent._writer.transport.pause_reading()
        await until(lambda: not broker.online)
        await until(lambda: broker.online)
        assert not silent.connected()


@pytest.mark.parametrize("kind", [Member, Broadcast])
async def test_a_consumer_is_made_anew_whatever_fails_at_that(
    kind: Any, kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    got: list[Delivery] = []
    name = "open" if kind is Member else "_start"
    opening, failed = getattr(kind, name), asyncio.Event()

    async def fail_first(self: object) -> None:
        if not failed.is_set():
            failed.set()
            raise AssertionError("as aiokafka's own")
        await opening(self)

    def fail(*_: object, **__: object) -> None:
        monkeypatch.undo()
        monkeypatch.setattr(kind, name, fail_first)
        raise AssertionError("as aiokafka's own")

    async with KafkaBroker(kafka_url) as broker:
        durable = Durable() if kind is Member else None
        await broker.subscribe(subject, got.append, queue="q" + subject if durable else None, durable=durable)
        monkeypatch.setattr(AIOKafkaConsumer, "getmany", fail)
        await failed.wait()
        await broker.publish(Message(subject, b"one"))
        await until(lambda: got)


async def test_events_whose_handing_over_fails_are_read_again(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    read, headers_read = subscription.delivery_headers, 0

    def fail_at_third(headers: Any) -> dict[str, str] | None:
        nonlocal headers_read
        headers_read += 1
        if headers_read == 3:
            raise AssertionError("which never should")
        return read(headers)

    worker = Worker(f"{kafka_url}?partitions=1", subject)
    async with workers(worker):
        await worker.start()
        monkeypatch.setattr(subscription, "delivery_headers", fail_at_third)
        await worker.broker.publish_many([Message(subject, body, {"A": "a"}) for body in numbered(5)])
        await until(lambda: len(worker.deliveries) == 5)
        assert worker.bodies == numbered(5), "those before it lapsed before they were handled"
        assert worker.subscription.held == 0
    assert caplog.text.count("AssertionError: which never should") == 1
