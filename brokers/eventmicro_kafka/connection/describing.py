"""Describing: what the cluster says of topics: their partitions, their ids, and what may be done with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from aiokafka.protocol.admin import DescribeConfigsRequest  # type: ignore[import-untyped]
from aiokafka.protocol.api import RequestStruct, Response  # type: ignore[import-untyped]
from aiokafka.protocol.metadata import MetadataRequest, MetadataRequest_v5  # type: ignore[import-untyped]
from aiokafka.protocol.types import (  # type: ignore[import-untyped]
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

# The operations of Kafka's ACLs, by their bit in what a broker says is allowed.
OPERATIONS = {3: "Read", 4: "Write", 5: "Create", 8: "Describe", 10: "DescribeConfigs"}
NOT_TOLD = -(2**31)
NO_ID = b"\0" * 16
_TOPIC = 2  # the kind of a resource that has a configuration


# aiokafka's own, whose types say less than they do.
_AnyResponse: Any = Response
_AnyMetadataRequest: Any = MetadataRequest


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


class Uuid(AbstractType[bytes]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: Any) -> bytes:
        return bytes(data.read(16))


class _Response(_AnyResponse):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("topic_authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _Request(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class DescribeTopics(_AnyMetadataRequest):  # type: ignore[misc]
    """Asks for topics, None: for all; makes none. aiokafka's own knows no version that tells of ids and rights."""

    def __init__(self, names: list[str] | None) -> None:
        super().__init__(names, False)

    def build(self, version: Any) -> Any:
        if version is not _Request:
            return super().build(version)
        wanted: Any = None if self._topics is None else [(NO_ID, name, {}) for name in self._topics]
        return version(wanted, False, False, True, {})


DescribeTopics._CLASSES = (MetadataRequest_v5, _Request)


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
