"""Kafka: what is drained, closed and cancelled, and what is committed at the end."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, errors
from aiokafka.producer.sender import Sender
from eventmicro_kafka import KafkaBroker
from eventmicro_kafka.connection import driver, ending
from eventmicro_kafka.consuming import member
from eventmicro_kafka.consuming.live import Broadcast, Shared
from eventmicro_kafka.consuming.subscription import KafkaSubscription
from eventmicro_kafka.producing.partitions import partition_of

from eventmicro.broker import Durable
from eventmicro.errors import (
    Disconnected,
    TransportError,
)
from eventmicro.message import Delivery, Message
from tests.integration.kafka.kit import Until
from tests.integration.kafka.workers import Worker, numbered, workers
from tests.servers import KafkaServer


async def test_a_live_subscription_drains_while_its_consumer_is_made_anew(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    async with KafkaBroker(kafka_url) as broker:
        subscription = await broker.subscribe(subject, lambda _: None)
        monkeypatch.setattr(AIOKafkaConsumer, "getmany", None)
        await until(lambda: subscription._consumer is None)
        await subscription.drain()
        assert subscription.closed


async def test_a_consumer_that_is_ended_at_whatever_moment_leaves_no_task_behind(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(kafka_url) as broker:
        await (await broker.subscribe(subject, lambda _: None)).close()
        places = [TopicPartition(subject, 0)]
        for moment, cancelled in product(range(8), (1, 2, 3, 5, 8)):
            before = asyncio.all_tasks()
            consumer = driver.make_consumer(broker.settings, None)
            await consumer.start()
            consumer.assign(places)
            await consumer.end_offsets(places)
            consumer.assign(places)  # its fetcher lets go of what it did for the first
            consumer.seek(places[0], 0)
            await turns(moment)
            stopping = asyncio.create_task(ending.stop_consumer(consumer))
            await turns(cancelled)
            stopping.cancel()
            await asyncio.wait([stopping])
            await turns(10)
            assert asyncio.all_tasks() <= before


async def test_a_producer_that_fails_while_it_is_ended_is_not_reported_by_the_loop(
    kafka_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail_at_the_end(sender: Sender) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise errors.KafkaError("too late") from None

    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    monkeypatch.setattr(Sender, "_sender_routine", fail_at_the_end)
    producer = driver.make_producer(KafkaBroker(kafka_url).settings)
    await producer.start()
    await asyncio.sleep(0)
    await ending.stop_producer(producer, 0)
    await turns(10)
    assert not reported


async def turns(count: int) -> None:
    """Let the event loop run so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_subscription_that_is_made_while_its_broker_closes_is_closed_with_it(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, durable in ((KafkaSubscription, Durable()), (Shared, None), (Broadcast, None)):
        opening = kind.open

        async def open_and_close(subscription: Any, opening: Any = opening) -> None:
            await opening(subscription)
            await broker.close()

        monkeypatch.setattr(kind, "open", open_and_close)
        async with KafkaBroker(kafka_url) as broker:
            with pytest.raises(Disconnected):
                await broker.subscribe(
                    subject, lambda _: None, queue=None if kind is Broadcast else "q" + subject, durable=durable
                )

    # the runner of the tests sees that no task is left


async def test_a_flush_that_a_close_overtakes_says_so(kafka_url: str) -> None:
    broker = KafkaBroker(kafka_url)
    await broker.connect()
    flushing = asyncio.create_task(broker.flush())
    await asyncio.sleep(0)
    await broker.close()
    with pytest.raises(Disconnected):
        await flushing


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_close_is_bounded_whatever_the_broker_does(subject: str, fault: str) -> None:
    with KafkaServer() as server:
        worker, publisher, live = Worker(server.url, subject, hold=True), KafkaBroker(server.url), []
        await worker.start()
        await publisher.connect()
        await publisher.subscribe(subject, live.append)
        await publisher.publish_many([Message(subject, body) for body in numbered(50)])
        server.kill() if fault == "kill" else server.pause()
        publishing = asyncio.ensure_future(publisher.publish(Message(subject, b"late"), timeout=90))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(60):  # before the publisher gives up by itself
            await asyncio.gather(worker.broker.close(), worker.broker.close(), publisher.close(), publisher.close())
        with pytest.raises(TransportError):
            await publishing
        for delivery in worker.deliveries:
            await delivery.ack()
        await worker.broker.close()


async def test_a_close_that_is_cancelled_leaves_nothing(kafka_url: str, subject: str) -> None:
    broker = KafkaBroker(kafka_url)
    await broker.connect()
    await broker.publish(Message(subject, b"one"))
    await broker.subscribe(subject, lambda _: None, queue="q" + subject, durable=Durable())
    await broker.subscribe(subject, lambda _: None, queue="q" + subject)
    await broker.subscribe(subject, lambda _: None)
    closing = asyncio.create_task(broker.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])

    # the runner of the tests sees that no task is left


@pytest.mark.parametrize("error", [errors.RequestTimedOutError, AssertionError])
async def test_a_commit_that_failed_is_said_again_though_nothing_comes_any_more(
    error: type[Exception], kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    commit, tried = member.commit, []

    async def fail_first(*what: object) -> None:
        tried.append("")
        if len(tried) == 1:
            raise error
        await commit(*what)
        tried[-1] = "done"

    worker = Worker(kafka_url, subject)
    async with workers(worker):
        await worker.start()
        monkeypatch.setattr(member, "commit", fail_first)
        await worker.broker.publish(Message(subject, b"one"))
        await until(lambda: tried == ["", "done"])


async def test_commits_go_on_where_the_broker_takes_little_beside_them(subject: str, until: Until) -> None:
    with KafkaServer({"offset.metadata.max.bytes": 20}) as server:
        worker = Worker(f"{server.url}?partitions=1", subject, hold=True)
        async with workers(worker):
            await worker.start()
            await worker.broker.publish_many([Message(subject, body) for body in numbered(50)])
            await until(lambda: len(worker.deliveries) == 50)
            for number in (*range(20), *range(20, 50, 2)):
                await worker.deliveries[number].ack()
            lane = worker.subscription.lanes[TopicPartition(subject, 0)]
            await until(lambda: lane.committed == (21, ""))


async def test_a_close_does_not_cut_off_the_commit_of_a_drain(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    commit, begun = member.commit, asyncio.Event()

    async def slowly(*what: object) -> None:
        begun.set()
        await asyncio.sleep(0.1)
        await commit(*what)

    worker, successor = Worker(kafka_url, subject, hold=True), Worker(kafka_url, subject)
    async with workers(worker, successor):
        await worker.start()
        await worker.broker.publish(Message(subject, b"one", key="key"))
        await until(lambda: worker.deliveries)
        monkeypatch.setattr(member, "commit", slowly)
        await worker.subscription.drain()
        await worker.deliveries[0].ack()
        await begun.wait()
        await worker.close()
        await successor.start()
        await successor.broker.publish(Message(subject, b"two", key="key"))
        await until(lambda: successor.deliveries)
        assert successor.bodies == [b"two"]


async def test_nothing_is_committed_under_a_membership_that_has_no_share_yet(
    kafka_url: str, subject: str, until: Until
) -> None:
    """The group has moved on, and its new share has not come: what is committed then is in another's place."""
    worker = Worker(kafka_url, subject, hold=True)
    async with workers(worker):
        await worker.start()
        await worker.broker.publish(Message(subject, b"one"))
        await until(lambda: worker.deliveries)
        group = worker.subscription._member
        coordinator = group._consumer._coordinator
        generation = coordinator.generation
        coordinator.generation += 1
        await worker.deliveries[0].ack()
        assert not await group.commit()
        assert coordinator.generation == generation + 1, "the broker was not asked, which would have refused it"
        coordinator.generation = generation
        assert await group.commit()


async def test_a_shared_subscription_drains_though_the_broker_is_away(subject: str, until: Until) -> None:
    with KafkaServer() as server:
        async with KafkaBroker(f"{server.url}?partitions=3") as broker:
            rooms, got = [asyncio.Event(), asyncio.Event(), asyncio.Event()], []
            parts: list[list[Message]] = [[], [], []]
            for body in numbered(100):
                parts[partition_of(body, 3)].append(Message(subject, body, key=body.decode()))

            def receive(delivery: Delivery) -> asyncio.Future[bool]:
                got.append(delivery)
                return asyncio.ensure_future(rooms[partition_of(delivery.body, 3)].wait())

            subscription = await broker.subscribe(subject, receive, queue="q")
            fetched = subscription._member._consumer._fetcher._records
            await broker.publish_many(parts[0])
            await until(lambda: got)
            await broker.publish_many(parts[1] + parts[2])
            await until(lambda: len(fetched) == 2)
            rooms[0].set()
            await until(lambda: subscription._taken)  # the one, while the other is being handed over
            server.kill()
            rooms[1].set()
            rooms[2].set()
            await subscription.drain()


async def test_a_live_subscription_drains_behind_the_end_of_a_transaction(
    kafka_url: str, subject: str, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    got: list[Delivery] = []
    async with KafkaBroker(kafka_url) as broker:
        subscription = await broker.subscribe(subject, got.append)
        producer = AIOKafkaProducer(
            bootstrap_servers=kafka_url.removeprefix("kafka://"), transactional_id=subject, enable_idempotence=True
        )
        await producer.start()
        async with producer.transaction():
            await producer.send_and_wait(subject, b"one", partition=0)
        await producer.stop()
        await until(lambda: got)
        await subscription.drain()
    assert "left before all was read" not in caplog.text
