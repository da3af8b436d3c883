"""Protocol: the requests of Kafka's that aiokafka does not know, or knows in a version that says too little.

Each is asked for by its class; its answer, and how both travel, stand above it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from aiokafka.protocol.api import Request, RequestStruct, Response  # type: ignore[import-untyped]
from aiokafka.protocol.commit import OffsetFetchRequest  # type: ignore[import-untyped]
from aiokafka.protocol.metadata import MetadataRequest, MetadataRequest_v5  # type: ignore[import-untyped]
from aiokafka.protocol.transaction import TxnOffsetCommitRequest  # type: ignore[import-untyped]
from aiokafka.protocol.types import (  # type: ignore[import-untyped]
    AbstractType,
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

# aiokafka's own, whose types say less than they do.
_Answer: Any = Response
_Form: Any = RequestStruct
_Request: Any = Request
_Metadata: Any = MetadataRequest
_OffsetFetch: Any = OffsetFetchRequest
_TxnOffsetCommit: Any = TxnOffsetCommitRequest

T = TypeVar("T")
K = TypeVar("K")

NO_ID = b"\0" * 16
NO_TAGS: Mapping[int, bytes] = {}
# Of which epoch, or which replica, nothing is said.
UNKNOWN = -1


def by_topic(entries: Mapping[Any, T]) -> list[tuple[str, list[T]]]:
    """What is said of partitions, as requests take it: topic by topic."""
    topics: dict[str, list[T]] = {}
    for place, entry in entries.items():
        topics.setdefault(place.topic, []).append(entry)
    return list(topics.items())


def by_leader(leaders: Mapping[K, int]) -> dict[int, list[K]]:
    """The partitions that each node leads: who is asked for what."""
    nodes: dict[int, list[K]] = {}
    for place, node in leaders.items():
        nodes.setdefault(node, []).append(place)
    return nodes


class Uuid(AbstractType[bytes]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: Any) -> bytes:
        return bytes(data.read(16))


_TEXT = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)
_THROTTLE = ("throttle_time_ms", Int32)


def _of_partitions(*fields: Any) -> Any:
    """Topics, with such fields for each of their partitions."""
    return CompactArray(("topic", _TEXT), ("partitions", CompactArray(*fields, _TAGS)), _TAGS)


def _untagged(*fields: Any) -> Any:
    """The same, in a version of before there were tags."""
    return Array(("topic", String("utf-8")), ("partitions", Array(*fields)))


def _tagged(topics: Iterable[tuple[str, list[Any]]]) -> list[tuple[str, list[Any], Mapping[int, bytes]]]:
    return [(topic, partitions, NO_TAGS) for topic, partitions in topics]


# -- Metadata ------------------------------------------------------------------------------------------------------


class _MetadataAnswer(_Answer):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        _THROTTLE,
        ("brokers", CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), _TAGS)),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", _TEXT),
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
                        _TAGS,
                    ),
                ),
                ("topic_authorized_operations", Int32),
                _TAGS,
            ),
        ),
        ("cluster_authorized_operations", Int32),
        _TAGS,
    )


class _MetadataForm(_Form):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataAnswer
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", Uuid), ("name", _TEXT), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class DescribeTopics(_Metadata):  # type: ignore[misc]
    """Asks for topics, None: for all; makes none. aiokafka's own knows no version that tells of ids and rights."""

    def __init__(self, names: list[str] | None) -> None:
        super().__init__(names, False)

    def build(self, version: Any) -> Any:
        if version is not _MetadataForm:
            return super().build(version)
        wanted: Any = None if self._topics is None else [(NO_ID, name, NO_TAGS) for name in self._topics]
        return version(wanted, False, False, True, NO_TAGS)


DescribeTopics._CLASSES = (MetadataRequest_v5, _MetadataForm)


# -- OffsetFetch ---------------------------------------------------------------------------------------------------


class _OffsetFetchAnswer(_Answer):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        _THROTTLE,
        (
            "topics",
            _of_partitions(
                ("partition", Int32),
                ("offset", Int64),
                ("leader_epoch", Int32),
                ("metadata", _TEXT),
                ("error_code", Int16),
            ),
        ),
        ("error_code", Int16),
        _TAGS,
    )


class _OffsetFetchForm(_Form):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _OffsetFetchAnswer
    SCHEMA = Schema(
        ("consumer_group", _TEXT),
        ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)),
        ("require_stable", Boolean),
        _TAGS,
    )


class FetchStableOffsets(_OffsetFetch):  # type: ignore[misc]
    """Asks what a group has committed, and is told to wait while that depends on a transaction that has not ended.

    aiokafka's own gets what was committed before, and whoever begins there handles again what the transaction then
    says is done. Of a broker before 2.5, which cannot wait, it is aiokafka's own.
    """

    def build(self, version: Any) -> Any:
        if version is not _OffsetFetchForm:
            return super().build(version)
        return version(self._consumer_group, _tagged(self._partitions), True, NO_TAGS)


FetchStableOffsets._CLASSES = (*OffsetFetchRequest._CLASSES, _OffsetFetchForm)


def read_offsets(answer: Any) -> list[tuple[str, int, int, str | None, int]]:
    """What was answered, to aiokafka's own, too: topic, partition, offset, metadata and error of each place."""
    if answer.API_VERSION < _OffsetFetchAnswer.API_VERSION:
        return [(topic, *entry) for topic, entries in answer.topics for entry in entries]
    return [
        (topic, number, offset, metadata, code)
        for topic, entries, _ in answer.topics
        for number, offset, _, metadata, code, _ in entries
    ]


# -- TxnOffsetCommit -----------------------------------------------------------------------------------------------


class _TxnOffsetCommitAnswer(_Answer):  # type: ignore[misc]
    API_KEY = 28
    API_VERSION = 3
    SCHEMA = Schema(_THROTTLE, ("errors", _of_partitions(("partition", Int32), ("error_code", Int16))), _TAGS)


class _TxnOffsetCommitForm(_Form):  # type: ignore[misc]
    API_KEY = 28
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _TxnOffsetCommitAnswer
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("group_id", _TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", _TEXT),
        ("group_instance_id", _TEXT),
        (
            "topics",
            _of_partitions(("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", _TEXT)),
        ),
        _TAGS,
    )


class CommitInTransaction(_TxnOffsetCommit):  # type: ignore[misc]
    """Commits of a member of a group, which hold when the transaction does.

    aiokafka's own does not say of which member they are, so nobody could refuse those of one whose partitions are
    others' by now.

    Args:
        who: transactional id, group, producer id and epoch, generation, member id and instance id.
        places: offset and metadata of each partition.
    """

    def __init__(self, who: tuple[Any, ...], places: Mapping[Any, tuple[int, str]]) -> None:
        self._who = who
        self._places = places

    def build(self, version: Any) -> Any:
        entries = {
            place: (place.partition, offset, UNKNOWN, metadata, NO_TAGS)
            for place, (offset, metadata) in self._places.items()
        }
        return version(*self._who, _tagged(by_topic(entries)), NO_TAGS)

    @staticmethod
    def is_known(versions: Mapping[int, tuple[int, int]]) -> bool:
        """Whether a broker that knows these versions takes it."""
        _, newest = versions.get(_TxnOffsetCommitForm.API_KEY, (0, 0))
        return newest >= _TxnOffsetCommitForm.API_VERSION


CommitInTransaction._CLASSES = (_TxnOffsetCommitForm,)


# -- OffsetForLeaderEpoch ------------------------------------------------------------------------------------------


class _EpochEndsAnswer(_Answer):  # type: ignore[misc]
    API_KEY = 23
    API_VERSION = 3
    SCHEMA = Schema(
        _THROTTLE,
        (
            "topics",
            _untagged(("error_code", Int16), ("partition", Int32), ("leader_epoch", Int32), ("end_offset", Int64)),
        ),
    )


class _EpochEndsForm(_Form):  # type: ignore[misc]
    API_KEY = 23
    API_VERSION = 3
    RESPONSE_TYPE = _EpochEndsAnswer
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("topics", _untagged(("partition", Int32), ("current_leader_epoch", Int32), ("leader_epoch", Int32))),
    )


class FindEpochEnds(_Request[_EpochEndsForm]):  # type: ignore[misc]
    """Asks where what was stored in an epoch of each partition, or before, ends. aiokafka does not know it."""

    API_KEY = 23

    def __init__(self, epochs: Mapping[Any, int]) -> None:
        self._topics = by_topic({place: (place.partition, UNKNOWN, epoch) for place, epoch in epochs.items()})

    def build(self, version: Any) -> Any:
        return version(UNKNOWN, self._topics)


# -- ConsumerGroupDescribe -----------------------------------------------------------------------------------------

_ASSIGNMENT = Schema(
    (
        "topic_partitions",
        CompactArray(("topic_id", Uuid), ("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS),
    ),
    _TAGS,
)


class _ConsumerGroupAnswer(_Answer):  # type: ignore[misc]
    API_KEY = 69
    API_VERSION = 0
    SCHEMA = Schema(
        _THROTTLE,
        (
            "groups",
            CompactArray(
                ("error_code", Int16),
                ("error_message", _TEXT),
                ("group", _TEXT),
                ("state", _TEXT),
                ("epoch", Int32),
                ("assignment_epoch", Int32),
                ("assignor", _TEXT),
                (
                    "members",
                    CompactArray(
                        ("member_id", _TEXT),
                        ("instance_id", _TEXT),
                        ("rack_id", _TEXT),
                        ("epoch", Int32),
                        ("client_id", _TEXT),
                        ("client_host", _TEXT),
                        ("topics", CompactArray(_TEXT)),
                        ("topics_by_pattern", _TEXT),
                        ("assignment", _ASSIGNMENT),
                        ("assignment_to_be", _ASSIGNMENT),
                        _TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _ConsumerGroupForm(_Form):  # type: ignore[misc]
    API_KEY = 69
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _ConsumerGroupAnswer
    SCHEMA = Schema(("groups", CompactArray(_TEXT)), ("include_authorized_operations", Boolean), _TAGS)


class DescribeConsumerGroup(_Request[_ConsumerGroupForm]):  # type: ignore[misc]
    """Asks for a group of the newer protocol, of KIP-848. aiokafka does not know it."""

    API_KEY = 69

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, version: Any) -> Any:
        return version([self._group], False, NO_TAGS)
