"""Kafka's logs that have lost their end: what is published anew has the offsets of what is gone, and is handled."""

from __future__ import annotations

import asyncio
from struct import unpack_from

import pytest
from eventmicro_kafka import KafkaBroker

from eventmicro.message import Message
from tests.conftest import Until
from tests.integration.kafka.admin import committed_of, foreign_producer, make_topic
from tests.integration.kafka.workers import Worker, numbered, workers
from tests.servers import KafkaServer
from tests.told import until_told

# How many events there were, up to which the log is cut, and how many come then.
WERE, CUT, NEW = 20, 10, 15


def cut(server: KafkaServer, topic: str) -> None:
    """The disk has lost what was stored behind an offset, each event in a batch of its own, as before a flush."""
    log = server.folder / "data" / f"{topic}-0" / f"{0:020}.log"
    data, at = log.read_bytes(), 0
    while True:
        offset, length = unpack_from(">qi", data, at)
        if offset >= CUT:
            break
        at += 12 + length
    with log.open("r+b") as file:
        file.truncate(at)
    for name in ("recovery-point-offset-checkpoint", "replication-offset-checkpoint"):
        (server.folder / "data" / name).unlink(missing_ok=True)


async def publish_one_by_one(url: str, topic: str, bodies: list[bytes]) -> None:
    async with foreign_producer(url) as producer:
        for body in bodies:
            await producer.send_and_wait(topic, body)


@pytest.mark.timeout_seconds(90)
async def test_what_is_published_where_a_log_has_lost_its_end_is_handled_and_nothing_again(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """Of `some` all but the first were finished, of `all` all, and both are taken over; `work` is at work meanwhile."""
    new = [b"new %d" % number for number in range(NEW)]
    with KafkaServer() as server:
        members = {topic: Worker(server.url, topic, hold=topic == "some") for topic in ("some", "all", "work")}
        again = {topic: Worker(server.url, topic) for topic in ("some", "all")}
        async with workers(*members.values(), *again.values()):
            for topic, member in members.items():
                await make_topic(server.url, topic)
                await member.start()
                await publish_one_by_one(server.url, topic, numbered(WERE))
                await until(lambda: member.bodies == numbered(WERE))  # noqa: B023
            for delivery in members["some"].deliveries[1:]:
                await delivery.ack()
            await until(lambda: members["work"].subscription.lanes[("work", 0)].committed[0] == WERE)
            for topic in again:
                await members[topic].close()
            await asyncio.to_thread(server.kill)
            for topic in members:
                cut(server, topic)
            await asyncio.to_thread(server.start)
            for topic in members:
                await publish_one_by_one(server.url, topic, new)
            for member in again.values():
                await member.start()
            await until(lambda: len(again["some"].bodies) > NEW and len(again["all"].bodies) >= NEW)
            await until(lambda: len(members["work"].bodies) >= WERE + NEW)
            assert again["some"].bodies == [b"0", *new]
            assert again["all"].bodies == new
            assert members["work"].bodies == numbered(WERE) + new
            for topic in members:
                said = f"has lost the end of the log of {topic}-0, "
                assert caplog.text.count(said) == 1, topic
            assert f"offsets {CUT} to {WERE - 1}, which this queue knew, are gone" in caplog.text
            async with KafkaBroker(server.url) as broker:
                await broker.publish(Message("all", b"last"))
                await until(lambda: again["all"].bodies[-1] == b"last")

        async def committed() -> int:
            return sum((await committed_of(server.url, "all.q")).values())

        await until_told(committed, CUT + NEW + 1)
