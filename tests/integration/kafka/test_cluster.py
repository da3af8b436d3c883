"""Kafka, three brokers: too few replicas in sync, and a replica that leads though it had not all of the log."""

from __future__ import annotations

import asyncio
import os

import pytest
from aiokafka.admin import NewTopic
from eventmicro_kafka import KafkaBroker

from eventmicro.errors import NotAllPublished, TransportError
from eventmicro.message import Message
from tests.conftest import Until
from tests.integration.kafka.admin import administrator, configure, make_topic
from tests.integration.kafka.kit import read_topic
from tests.integration.kafka.workers import Worker, numbered, workers
from tests.servers.kafka_cluster import KafkaCluster

REASON = "fewer replicas are in sync than the topic's min.insync.replicas asks for"
MEND = "start the brokers that are away, or let it ask for fewer by kafka-configs.sh"
# Any replica may lead, and is asked to as soon as no other one can.
UNCLEAN = {
    "unclean.leader.election.enable": "true",
    "unclean.leader.election.interval.ms": 500,
    "min.insync.replicas": 1,
}


@pytest.mark.timeout_seconds(120)
async def test_too_few_replicas_in_sync_are_the_reason_and_nothing_confirmed_is_lost(subject: str) -> None:
    said: list[str] = []
    with KafkaCluster() as cluster:
        url = f"kafka://{cluster.hosts}"
        async with KafkaBroker(cluster.url) as broker:
            await make_topic(url, subject, {"min.insync.replicas": "3"}, replicas=3)
            await broker.publish(Message(subject, b"all are there"), timeout=30)
            cluster.kill(2)
            while not said or REASON not in said[-1]:  # the others take their time to see that it is gone
                with pytest.raises(TransportError) as failed:
                    await broker.publish(Message(subject, b"one is gone"), timeout=0.5)
                said.append(str(failed.value))
            assert MEND in said[-1]
            with pytest.raises(NotAllPublished) as not_all:
                await broker.publish_many([Message(subject, b"one is gone")] * 2, timeout=0.5)
            assert len(not_all.value.failed) == 2
            assert all(REASON in str(error) and MEND in str(error) for error in not_all.value.failed.values())
            await configure(url, subject, min_insync_replicas="2")
            await broker.publish(Message(subject, b"two are enough"), timeout=30)
            stored = await read_topic(url, subject)
        assert stored[0] == b"all are there"
        assert stored[-1] == b"two are enough"
        assert stored.count(b"one is gone") <= len(said) + 2


@pytest.mark.skipif(not os.environ.get("EVENTMICRO_TEST_CLUSTERS"), reason="EVENTMICRO_TEST_CLUSTERS=1 has it: 30 s")
@pytest.mark.timeout_seconds(180)
async def test_what_is_published_under_a_leader_that_had_not_all_of_the_log_is_handled_and_nothing_again(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """`taken` is taken over by another member meanwhile; of `work` the same is at work before and after."""
    gone, new = [b"gone %d" % number for number in range(10)], [b"new %d" % number for number in range(15)]
    with KafkaCluster(UNCLEAN) as cluster:
        url = f"kafka://{cluster.hosts}"
        first, again, work = Worker(url, "taken"), Worker(url, "taken"), Worker(url, "work")
        async with administrator(url) as admin:
            both = {0: [0, 1]}
            await admin.create_topics([NewTopic(name, -1, -1, replica_assignments=both) for name in ("taken", "work")])
        async with workers(first, again, work), KafkaBroker(f"{url}?request_timeout=3") as publisher:

            async def publish(bodies: list[bytes]) -> None:
                for topic in ("taken", "work"):
                    for body in bodies:
                        await publisher.publish(Message(topic, body), timeout=60)

            for member in (first, work):
                await member.start()
            await publish(numbered(20))
            cluster.kill(1)
            await publish(gone)
            await until(lambda: first.bodies == work.bodies == numbered(20) + gone)
            await first.close()
            await until(lambda: work.subscription.lanes[("work", 0)].committed[0] == 30)
            cluster.kill(0)
            await asyncio.to_thread(cluster.start, 1)
            await publish(new)
            await again.start()
            await until(lambda: len(again.bodies) >= 15 and len(work.bodies) >= 45)
        assert again.bodies == new
        assert work.bodies == numbered(20) + gone + new
        for topic in ("taken", "work"):
            assert caplog.text.count(f"has lost the end of the log of {topic}-0, ") == 1
        assert caplog.text.count("offsets 20 to 29, which this queue knew, are gone") == 2
