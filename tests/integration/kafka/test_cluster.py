"""Kafka, three brokers: what is told while fewer replicas are in sync than a topic asks for."""

from __future__ import annotations

import pytest
from eventmicro_kafka import KafkaBroker

from eventmicro.errors import NotAllPublished, TransportError
from eventmicro.message import Message
from tests.integration.kafka.admin import configure, make_topic
from tests.integration.kafka.kit import read_topic
from tests.servers.kafka_cluster import KafkaCluster

REASON = "fewer replicas are in sync than the topic's min.insync.replicas asks for"
MEND = "start the brokers that are away, or let it ask for fewer by kafka-configs.sh"


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
            assert all(REASON in str(error) and MEND in str(error) for error in not_all.value.failed.values())
            assert len(not_all.value.failed) == 2
            await configure(url, subject, min_insync_replicas="2")
            await broker.publish(Message(subject, b"two are enough"), timeout=30)
            stored = await read_topic(url, subject)
        assert stored[0] == b"all are there"
        assert stored[-1] == b"two are enough"
        assert stored.count(b"one is gone") <= len(said) + 2
