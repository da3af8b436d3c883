"""Epochs: under which leader of its partition a record was stored, and where the log of that leader ends.

A leader that has not all of the log, as one that was elected uncleanly or whose disk has lost its end, gives what is
published anew the offsets of what is gone. The epoch counts the leaders of a partition, so it tells the two apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from struct import Struct
from typing import Any

from aiokafka.client import ConnectionGroup  # type: ignore[import-untyped]
from aiokafka.protocol.api import Request, RequestStruct, Response  # type: ignore[import-untyped]
from aiokafka.protocol.fetch import FetchRequest  # type: ignore[import-untyped]
from aiokafka.protocol.types import Array, Int16, Int32, Int64, Schema, String  # type: ignore[import-untyped]
from aiokafka.structs import TopicPartition  # type: ignore[import-untyped]

# The epoch of a record of which it is not known.
UNKNOWN = -1
# What a batch of records begins with: its offset, its length from there on, its leader's epoch, its format.
_HEAD = Struct(">qiib")
_BEFORE_LENGTH = 12
_FORMAT = 2  # before that batches had no epoch
# How many changes of its leader are remembered of a partition.
_REMEMBERED = 16

_AnyResponse: Any = Response
_AnyRequest: Any = Request
_AnyStruct: Any = RequestStruct


class Epochs:
    """The epochs of the records that a consumer has fetched."""

    def __init__(self) -> None:
        self._begins: dict[Any, list[tuple[int, int]]] = {}

    def of(self, place: Any, offset: int) -> int:
        """The epoch of a record that was fetched."""
        for begin, epoch in reversed(self._begins.get(place, ())):
            if begin <= offset:
                return epoch
        return UNKNOWN

    def begin_after(self, place: Any, epoch: int) -> int | None:
        """Where the batches of a later epoch begin, of those that were fetched."""
        return next((begin for begin, later in self._begins.get(place, ()) if later > epoch), None)

    def note(self, place: Any, batches: bytes) -> None:
        """These batches were fetched."""
        begins = self._begins.setdefault(place, [])
        at = 0
        while at + _HEAD.size <= len(batches):
            offset, length, epoch, form = _HEAD.unpack_from(batches, at)
            at += _BEFORE_LENGTH + length
            while begins and begins[-1][0] >= offset:  # it is read again, or has taken the place of what was there
                begins.pop()
            if form >= _FORMAT and (not begins or begins[-1][1] != epoch):
                begins.append((offset, epoch))
        del begins[:-_REMEMBERED]


def note_epochs(consumer: Any) -> Epochs:
    """Have it noted under which leaders the records were stored that a consumer fetches from now on."""
    epochs, client = Epochs(), consumer._client
    client.send = partial(_send, epochs, client.send)
    return epochs


async def _send(epochs: Epochs, send: Any, node: Any, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
    answer = await send(node, request, group=group)
    if isinstance(request, FetchRequest):
        for topic, partitions in answer.topics:
            for number, *_, batches in partitions:
                if batches:
                    epochs.note(TopicPartition(topic, number), batches)
    return answer


async def ends_of(consumer: Any, wanted: Mapping[Any, int]) -> dict[Any, int]:
    """Where the log ends, as its leader has it by now, of what was stored in an epoch of each partition, or before.

    Without those of which no leader says it now.

    Raises:
        KafkaError: a broker does not answer, or it is too old for the question.
    """
    cluster, asked = consumer._client.cluster, dict[Any, dict[str, list[tuple[int, int, int]]]]()
    for place, epoch in wanted.items():
        leader = cluster.leader_for_partition(place)
        if leader not in (None, -1):
            asked.setdefault(leader, {}).setdefault(place.topic, []).append((place.partition, UNKNOWN, epoch))
    found = dict[Any, int]()
    for node, topics in asked.items():
        answer = await consumer._client.send(node, _AskEnds(topics.items()))
        for topic, partitions in answer.topics:
            for error, number, epoch, end in partitions:
                if not error and epoch != UNKNOWN:
                    found[TopicPartition(topic, number)] = end
    return found


class _EndsAnswer(_AnyResponse):  # type: ignore[misc]
    API_KEY = 23
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(("error_code", Int16), ("partition", Int32), ("leader_epoch", Int32), ("end_offset", Int64)),
                ),
            ),
        ),
    )


class _EndsRequest(_AnyStruct):  # type: ignore[misc]
    API_KEY = 23
    API_VERSION = 3
    RESPONSE_TYPE = _EndsAnswer
    SCHEMA = Schema(
        ("replica_id", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(("partition", Int32), ("current_leader_epoch", Int32), ("leader_epoch", Int32)),
                ),
            ),
        ),
    )


class _AskEnds(_AnyRequest[_EndsRequest]):  # type: ignore[misc]
    """Kafka's OffsetForLeaderEpoch, which aiokafka does not know."""

    API_KEY = 23

    def __init__(self, topics: Iterable[tuple[str, list[tuple[int, int, int]]]]) -> None:
        self._topics = list(topics)

    def build(self, version: Any) -> Any:
        return version(-1, self._topics)
