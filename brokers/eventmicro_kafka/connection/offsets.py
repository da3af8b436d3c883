"""Offsets: what brokers say of groups and partitions, by plain requests over the connection that is there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    IncompatibleBrokerVersion,
    LeaderNotAvailableError,
)
from aiokafka.protocol.admin import DescribeGroupsRequest  # type: ignore[import-untyped]
from aiokafka.protocol.commit import OffsetFetchRequest  # type: ignore[import-untyped]
from aiokafka.protocol.fetch import FetchRequest  # type: ignore[import-untyped]
from aiokafka.protocol.offset import OffsetRequest  # type: ignore[import-untyped]
from aiokafka.record.memory_records import MemoryRecords  # type: ignore[import-untyped]
from aiokafka.structs import TopicPartition  # type: ignore[import-untyped]

from eventmicro_kafka.connection.group import raise_for, read_committed
from eventmicro_kafka.connection.link import Link
from eventmicro_kafka.connection.protocol import DescribeConsumerGroup, by_leader, by_topic
from eventmicro_kafka.errors import KafkaError

BEGIN, END = -2, -1
# How many batches without an event, such as the ends of transactions, are passed by at most when one is looked for.
PASSED_BY = 8
# What an old question says of a group of the newer protocol, as of one that never was.
_DEAD = "Dead"


async def places_of(link: Link, group: str) -> dict[Any, tuple[int, str]]:
    """What a group has committed of all partitions: offset and metadata.

    Raises:
        KafkaError: its coordinator does not say it, or not now; so of all here.
    """
    return read_committed(await link.send(await link.coordinator(group), OffsetFetchRequest(group, None)))


async def count_members(link: Link, group: str) -> int:
    """How many members a group has, of either protocol."""
    node = await link.coordinator(group)
    ((code, _, state, _, _, members, *_),) = (await link.send(node, DescribeGroupsRequest([group]))).groups
    raise_for(code)
    if state != _DEAD:
        return len(members)
    try:
        ((code, *_, members, _, _),) = (await link.send(node, DescribeConsumerGroup(group))).groups
    except IncompatibleBrokerVersion:
        return 0
    return 0 if code else len(members)


async def bounds_of(link: Link, leaders: Mapping[Any, int], which: int) -> dict[Any, int]:
    """Where partitions begin, or end as far as it may be read.

    Args:
        leaders: the node that leads each.
        which: BEGIN or END.
    """
    for place, node in leaders.items():
        if node < 0:
            raise LeaderNotAvailableError(f"{place.topic}-{place.partition}")
    asked = {
        node: by_topic({place: (place.partition, which) for place in places})
        for node, places in by_leader(leaders).items()
    }
    answers = await asyncio.gather(
        *(link.send(node, OffsetRequest(-1, READ_COMMITTED, topics)) for node, topics in asked.items())
    )
    found = dict[Any, int]()
    for answer in answers:
        for topic, partitions in answer.topics:
            for number, code, _, offset in partitions:
                raise_for(code)
                found[TopicPartition(topic, number)] = offset
    return found


async def time_of(link: Link, node: int, place: Any, offset: int) -> int | None:
    """When the first event from an offset on was stored, in milliseconds; None: there is none, or it cannot be read."""
    for _ in range(PASSED_BY):
        one = [(place.topic, [(place.partition, offset, 1)])]  # a batch comes as a whole, however little is asked for
        answer = await link.send(node, FetchRequest(0, 0, 1, READ_COMMITTED, one))
        ((_, ((_, code, *more),)),) = answer.topics
        aborted, batches = more[-3 if answer.API_VERSION >= 11 else -2], more[-1]
        if code or not batches:
            return None
        parser = PartitionRecords(place, MemoryRecords(batches), aborted, offset, None, None, True, READ_COMMITTED)
        try:
            for record in parser:
                return int(record.timestamp) if record.timestamp >= 0 else None  # not every client writes one
        except KafkaError:  # it is broken, or what it is compressed with is not here
            return None
        offset = parser.next_fetch_offset
    return None
