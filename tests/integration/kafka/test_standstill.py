"""Kafka: a durable subscription that stands still, for whatever reason, says so and begins anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from eventmicro_kafka.consuming import jobs

from eventmicro.message import Message
from tests.integration.kafka.kit import Until
from tests.integration.kafka.workers import Worker, numbered, workers

STANDS_STILL = "and none was handed over for"


class Deaf(asyncio.Event):
    """A wish for more that nobody hears."""

    def set(self) -> None:
        """It is lost."""


def _lose_its_wish(subscription: Any) -> None:
    subscription._wanted = Deaf()


def _never_get_its_share(subscription: Any) -> None:
    subscription._member._shared.clear()
    subscription._limit = 0


def _forget_its_room(subscription: Any) -> None:
    subscription._limit = 0


STUCK = {
    "its wish for more was lost": _lose_its_wish,
    "it waits for its share": _never_get_its_share,
    "it takes nothing since its partitions moved": _forget_its_room,
}


async def look(subscription: Any) -> None:
    """What the watchdog does when all its patience is over."""
    subscription._watchdog._limit = 0.0
    await subscription._watchdog.look()


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("break_it", STUCK.values(), ids=STUCK.keys())
async def test_what_stands_still_says_so_and_begins_anew(
    break_it: Callable[[Any], None],
    kafka_url: str,
    subject: str,
    caplog: pytest.LogCaptureFixture,
    until: Until,
) -> None:
    worker = Worker(f"{kafka_url}?partitions=2", subject)
    async with workers(worker):
        subscription: Any = (await worker.start()).subscription
        await worker.broker.publish(Message(subject, b"before"))
        await until(lambda: worker.bodies == [b"before"])
        break_it(subscription)
        await worker.broker.publish(Message(subject, b"asked for before"))
        sent = numbered(20)
        if break_it is _lose_its_wish:
            await until(lambda: len(worker.bodies) == 2)
        await worker.broker.publish_many([Message(subject, body, key=body.decode()) for body in sent])
        async with asyncio.timeout(30):
            while STANDS_STILL not in caplog.text:
                await look(subscription)
                await asyncio.sleep(0.01)
        assert f"queue '{subject}.q': events of {subject} wait" in caplog.text
        if isinstance(subscription._wanted, Deaf):  # as it would be with a state that the defect did not reach
            subscription._wanted = asyncio.Event()
            subscription._change.set()
        async with asyncio.timeout(30):
            while not set(worker.bodies) >= set(sent):
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", ["member", "pump", "commits", "parking", "watchdog"])
async def test_a_job_that_ends_while_events_come_is_started_again(
    name: str, kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(jobs, "RESTART_INTERVAL", 0.05)
    worker = Worker(f"{kafka_url}?partitions=2", subject)
    sent: list[bytes] = []

    async def publish() -> None:
        while True:
            body = b"%d" % len(sent)
            await worker.broker.publish(Message(subject, body, key=body.decode()))
            sent.append(body)

    async with workers(worker):
        subscription: Any = (await worker.start()).subscription
        publishing = asyncio.create_task(publish())
        await until(lambda: len(worker.bodies) > 10)
        ended = subscription._jobs._tasks[name]
        ended.cancel()
        await until(lambda: subscription._jobs._tasks.get(name, ended) is not ended)
        seen = len(worker.bodies)
        await until(lambda: len(worker.bodies) > seen + 10)
        publishing.cancel()
        await asyncio.wait([publishing])
        await until(lambda: set(worker.bodies) >= set(sent))
        await until(lambda: sum(lane.committed[0] for lane in subscription.lanes.values()) >= len(sent))


async def test_what_has_nothing_to_do_or_no_room_or_is_done_is_left_alone(
    kafka_url: str, subject: str, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    idle = Worker(kafka_url, f"{subject}.idle")
    full = Worker(kafka_url, subject, hold=True)
    async with workers(idle, full):
        await idle.start()
        await idle.broker.publish(Message(idle.subject, b"x"))
        await until(lambda: idle.deliveries)
        await full.start()
        await full.broker.publish_many([Message(subject, body) for body in numbered(150)])
        await until(lambda: len(full.deliveries) == 100)  # its prefetch
        for _ in range(3):
            await look(idle.subscription)
            await look(full.subscription)
    assert STANDS_STILL not in caplog.text


async def test_what_is_behind_the_end_of_a_transaction_only_has_nothing_to_do(
    kafka_url: str, subject: str, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    """Its end is a record of its own, that nobody gets."""
    worker = Worker(f"{kafka_url}?partitions=1", subject)
    address = kafka_url.removeprefix("kafka://")
    async with workers(worker):
        subscription: Any = (await worker.start()).subscription
        producer = AIOKafkaProducer(bootstrap_servers=address, transactional_id=subject)
        async with producer, producer.transaction():
            await producer.send_and_wait(subject, b"x")
        await until(lambda: worker.deliveries)
        await until(lambda: subscription._member._consumer.highwater(TopicPartition(subject, 0)) == 2)
        async with asyncio.timeout(20):
            while await subscription._member.is_behind():
                await asyncio.sleep(0.01)
        for _ in range(3):
            await look(subscription)
    assert STANDS_STILL not in caplog.text
