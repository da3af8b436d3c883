"""Epochs: under which leader of its partition a record was stored, and where the log of that leader ends.

A leader that has not all of the log, as one that was elected uncleanly or whose disk has lost its end, gives what is
published anew the offsets of what is gone. The epoch counts the leaders of a partition, so it tells the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from struct import Struct
from typing import Any

from aiokafka.client import ConnectionGroup  # type: ignore[import-untyped]
from aiokafka.protocol.fetch import FetchRequest  # type: ignore[import-untyped]
from aiokafka.structs import TopicPartition  # type: ignore[import-untyped]

from eventmicro_kafka.connection.protocol import UNKNOWN, FindEpochEnds, by_leader

# What a cluster says leads a partition that nobody leads, or that it does not know.
NO_LEADER = (None, -1)
# What a batch of records begins with: its offset, its length from there on, its leader's epoch, its format.
_HEAD = Struct(">qiib")
_BEFORE_LENGTH = 12
_FORMAT = 2  # before that batches had no epoch
# How many changes of its leader are remembered of a partition.
_REMEMBERED = 16


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
    cluster, client, found = consumer._client.cluster, consumer._client, dict[Any, int]()
    leaders = {place: leader for place in wanted if (leader := cluster.leader_for_partition(place)) not in NO_LEADER}
    for node, places in by_leader(leaders).items():
        answer = await client.send(node, FindEpochEnds({place: wanted[place] for place in places}))
        for topic, partitions in answer.topics:
            for error, number, epoch, end in partitions:
                if not error and epoch != UNKNOWN:
                    found[TopicPartition(topic, number)] = end
    return found
