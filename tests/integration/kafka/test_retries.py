"""Kafka: what is delivered again, the topic in which it waits, and how it is counted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from eventmicro_kafka import KafkaBroker
from eventmicro_kafka.consuming import parking

from eventmicro.broker import Durable
from eventmicro.message import Delivery, Message
from tests.integration.kafka.kit import Until, read_topic
from tests.integration.kafka.workers import Worker, numbered, workers

# -- retries ---------------------------------------------------------------------------------------------------


async def test_a_nacked_event_waits_in_the_retry_topic_and_comes_again_as_it_was(
    kafka_url: str, subject: str, until: Until
) -> None:
    worker = Worker(kafka_url, subject, hold=True)
    async with workers(worker):
        await worker.start("workers")
        await worker.broker.publish(Message(subject, b"body", {"A": "ä"}, key="k"))
        await until(lambda: worker.deliveries)
        began = time.monotonic()
        await worker.deliveries[0].nack(0.5)
        await worker.deliveries[0].ack()  # the first settlement counts
        await until(lambda: len(worker.deliveries) == 2)
        assert time.monotonic() - began > 0.4
        first, second = worker.deliveries
        assert (second.subject, second.body, second.headers) == (subject, b"body", {"A": "ä"})
        assert (second.id, second.attempt) == (first.id, 2)
        await second.nack(0.1)
        await until(lambda: len(worker.deliveries) == 3)
        assert (worker.deliveries[2].id, worker.deliveries[2].attempt) == (first.id, 3)
        await worker.deliveries[2].ack()
    assert len(await read_topic(kafka_url, f"workers.{subject}.retry")) == 2


async def test_attempts_are_known_after_a_restart(kafka_url: str, subject: str, until: Until) -> None:
    for ordered, delay in ((True, 0.0), (False, 0.0), (False, 0.2)):
        name = f"{subject}-{ordered}-{delay}"
        first, second = Worker(kafka_url, name, hold=True), Worker(kafka_url, name, hold=True)
        async with workers(first, second):
            await first.start(durable=Durable(ordered=ordered))
            await first.broker.publish(Message(name, b"x"))
            for attempt in (1, 2, 3):
                await until(lambda: len(first.deliveries) == attempt)  # noqa: B023
                assert first.deliveries[-1].attempt == attempt
                if attempt < 3:
                    await first.deliveries[-1].nack(delay)
            await first.broker.close()
            await second.start(durable=Durable(ordered=ordered))
            await until(lambda: second.deliveries)  # noqa: B023
            assert second.deliveries[0].attempt == 3


async def test_more_events_than_may_wait_on_this_side_come_again_all_the_same(
    kafka_url: str, subject: str, until: Until
) -> None:
    worker = Worker(f"{kafka_url}?retry_messages=10", subject, hold=True)
    async with workers(worker):
        await worker.start(durable=Durable(prefetch=500))
        sent = numbered(200)
        await worker.broker.publish_many([Message(subject, body, key=body.decode()) for body in sent])
        await until(lambda: len(worker.deliveries) == 200)
        for delivery in worker.deliveries:
            await delivery.nack(0.3)
        await until(lambda: len(worker.deliveries) == 400)
        again = worker.deliveries[200:]
        assert Counter(d.body for d in again) == Counter(sent)
        assert all(delivery.attempt == 2 for delivery in again)


async def test_an_event_that_is_too_large_for_the_retry_topic_waits_here(
    kafka_url: str, subject: str, until: Until
) -> None:
    worker = Worker(f"{kafka_url}?max_message=2000", subject, hold=True)
    async with workers(worker):
        await worker.start()
        await worker.broker.publish(Message(subject, b"x" * 1900))
        await until(lambda: worker.deliveries)
        await worker.deliveries[0].nack(0.1)
        await until(lambda: len(worker.deliveries) == 2)
        assert worker.deliveries[1].attempt == 2


async def test_no_more_wait_here_than_may_where_the_retry_topic_takes_none(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(parking, "FINISH_TIMEOUT", 0.1)  # what waits here is not put aside by then either
    handed: list[asyncio.Future[None]] = []
    settings = "max_message=2000&retry_messages=10"
    async with KafkaBroker(f"{kafka_url}?{settings}") as broker, KafkaBroker(kafka_url) as publisher:

        def give_back(delivery: Delivery) -> None:
            handed.append(asyncio.ensure_future(delivery.nack(60.0)))

        await broker.subscribe(subject, give_back, queue="q" + subject, durable=Durable(prefetch=5))
        await publisher.publish_many([Message(subject, bytes(2000)) for _ in range(100)])
        await until(lambda: len(handed) >= 15)
        await asyncio.sleep(0.5)
        assert len(handed) < 25, "retry_messages, what is held, and those of the batch that fills it"


async def test_a_nack_before_the_close_keeps_its_delay_and_its_count(
    kafka_url: str, subject: str, until: Until
) -> None:
    first, second = Worker(kafka_url, subject, hold=True), Worker(kafka_url, subject, hold=True)
    async with workers(first, second):
        await first.start()
        await first.broker.publish_many([Message(subject, body) for body in numbered(20)])
        await until(lambda: len(first.deliveries) == 20)
        for delivery in first.deliveries:
            await delivery.nack(0.2)
        await first.close()
        await second.start()
        await until(lambda: len(second.deliveries) == 20)
        assert {delivery.attempt for delivery in second.deliveries} == {2}


async def test_a_drain_that_is_overtaken_by_a_close_leaves_nothing(kafka_url: str, subject: str, until: Until) -> None:
    worker = Worker(kafka_url, subject, hold=True)
    async with workers(worker):
        await worker.start()
        await worker.broker.publish(Message(subject, b"one"))
        await until(lambda: worker.deliveries)
        worker.subscription.held += 1  # as one whose copy is on its way and is not stored any more
        draining = asyncio.create_task(worker.subscription.drain())
        await asyncio.sleep(0)
        await worker.broker.close()
        await draining
