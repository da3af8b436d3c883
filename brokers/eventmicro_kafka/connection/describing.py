"""Describing: what the cluster says of topics: their partitions, their ids, and what may be done with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from aiokafka.protocol.admin import DescribeConfigsRequest  # type: ignore[import-untyped]

from eventmicro_kafka.connection.protocol import NO_ID

# The operations of Kafka's ACLs, by their bit in what a broker says is allowed.
OPERATIONS = {3: "Read", 4: "Write", 5: "Create", 8: "Describe", 10: "DescribeConfigs"}
NOT_TOLD = -(2**31)
_TOPIC = 2  # the kind of a resource that has a configuration


class TopicInfo(NamedTuple):
    """A topic, as a broker describes it.

    id: what tells it from an earlier one of its name; empty where the broker is too old to say.
    leaders: the node that leads each partition, -1: none does now; empty: there is no such topic.
    rights: what may be done with it from here, by the names of Kafka's ACLs; None: the broker does not say.
    error: why it is not described; 0: it is.
    """

    name: str
    id: str
    leaders: list[int]
    rights: frozenset[str] | None
    error: int
    is_internal: bool


def read_topics(answer: Any) -> list[TopicInfo]:
    """What a broker has answered to DescribeTopics."""
    return [_read_topic(topic) for topic in answer.topics]


def _read_topic(topic: Any) -> TopicInfo:
    if len(topic) == 4:  # of a broker that tells no more
        error, name, is_internal, partitions = topic
        return TopicInfo(name, "", [partition[2] for partition in partitions], None, error, is_internal)
    error, name, topic_id, is_internal, partitions, operations, _ = topic
    leaders = [partition[2] for partition in sorted(partitions, key=lambda partition: partition[1])]
    return TopicInfo(name, _id_text(topic_id), leaders, _rights(operations), error, is_internal)


def _id_text(topic_id: bytes) -> str:
    return "" if topic_id == NO_ID else topic_id.hex()


def _rights(operations: int) -> frozenset[str] | None:
    if operations == NOT_TOLD:
        return None
    return frozenset(name for bit, name in OPERATIONS.items() if operations & (1 << bit))


def describe_configs(names: Iterable[str]) -> Any:
    """Asks how topics are configured."""
    return DescribeConfigsRequest([(_TOPIC, name, None) for name in names])


def read_configs(answer: Any) -> dict[str, dict[str, str]]:
    """What a broker has answered, of those topics of which it says it."""
    return {
        resource[3]: {entry[0]: entry[1] or "" for entry in resource[4]}
        for resource in answer.resources
        if resource[0] == 0
    }
