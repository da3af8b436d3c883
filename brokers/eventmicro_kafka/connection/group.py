"""Group: what is asked of the coordinator of a consumer group: its places, its members, commits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from aiokafka import TopicPartition  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    GroupCoordinatorNotAvailableError,
    IllegalGenerationError,
    NotCoordinatorForGroupError,
    OffsetMetadataTooLargeError,
    for_code,
)
from aiokafka.protocol.admin import DescribeGroupsRequest, ListGroupsRequest  # type: ignore[import-untyped]
from aiokafka.protocol.commit import OffsetFetchRequest  # type: ignore[import-untyped]
from aiokafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from eventmicro_kafka.connection.protocol import FetchStableOffsets, by_topic, read_offsets
from eventmicro_kafka.errors import KafkaError, UnstableOffsetCommitError

log = logging.getLogger(__name__)

T = TypeVar("T")

# How long to wait before what the broker says it cannot answer yet is asked for again, in seconds.
TRY_INTERVAL = 0.2


async def committed(consumer: Any, partitions: Iterable[Any], *, stable: bool = False) -> dict[Any, tuple[int, str]]:
    """What is committed, offset and metadata, of those partitions for which something is.

    `consumer.committed` keeps the metadata for itself, and takes an answer that is an error as a whole for one that
    nothing is committed: a coordinator that still loads what is, after its broker has died, answers so.

    Args:
        stable: wait for the transactions that have committed there and not ended; meanwhile this member lives.

    Raises:
        KafkaError: the broker does not say it, and will not.
    """
    coordinator = consumer._coordinator
    try:
        return await _ask_committed(coordinator, partitions, stable=stable)
    except KafkaError as error:
        if not error.retriable:
            raise
        if isinstance(error, UnstableOffsetCommitError):
            text = "queue %r: waits for a transaction that has begun and not ended, as where its process was killed"
            log.info(text, coordinator.group_id, extra={"queue": coordinator.group_id})
    if stable and coordinator.generation > 0:  # aiokafka begins with it when it is told where to begin
        coordinator._start_heartbeat_task()
    return await patiently(lambda: _ask_committed(coordinator, partitions, stable=stable))


async def groups_of(client: Any, node: Any) -> list[str]:
    """The groups of which a node is the coordinator, and that may be seen from here."""
    answer = await client.send(node, ListGroupsRequest())
    raise_for(answer.error_code)
    return [name for name, *_ in answer.groups]


async def has_no_member(consumer: Any) -> bool:
    """Whether the group of a consumer that has not joined it is there, and empty."""
    state, _ = await _describe_group(consumer)
    return state == "Empty"


async def protocol_of(consumer: Any) -> str:
    """What the members of a consumer's group are, `consumer` or another program's word; empty: it has had none."""
    _, protocol = await _describe_group(consumer)
    return protocol


async def _describe_group(consumer: Any) -> tuple[str, str]:
    coordinator = consumer._coordinator
    await coordinator.ensure_coordinator_known()
    answer = await coordinator._send_req(DescribeGroupsRequest([coordinator.group_id]))
    ((code, _, state, protocol, *_),) = answer.groups
    raise_for(code)
    return state, protocol


def membership(consumer: Any) -> tuple[int, str]:
    """As whom a consumer commits: the group's generation and its name there, new each time partitions are shared."""
    return consumer._coordinator.generation, consumer._coordinator.member_id


async def commit(consumer: Any, offsets: Mapping[Any, tuple[int, str]], only_as: tuple[int, str] | None = None) -> None:
    """Commit, in one try: `consumer.commit` tries for ever, and is not to be cancelled without a trace of it.

    Args:
        only_as: the membership by which the partitions are this side's.

    Raises:
        KafkaError: the partitions are somebody else's by now, or the broker did not take it.
    """
    coordinator = consumer._coordinator
    await coordinator.ensure_coordinator_known()
    async with coordinator._commit_lock:
        if only_as is not None and only_as != membership(consumer):
            raise IllegalGenerationError(coordinator.group_id)
        # The assignment is not looked at.
        await coordinator._do_commit_offsets(None, {p: OffsetAndMetadata(*entry) for p, entry in offsets.items()})


async def commit_patiently(consumer: Any, offsets: Mapping[Any, tuple[int, str]]) -> None:
    """Commit, again where the broker says that it will be able to; without metadata where it takes too little."""
    try:
        await patiently(lambda: commit(consumer, offsets))
    except OffsetMetadataTooLargeError:
        bare = {place: (offset, "") for place, (offset, _) in offsets.items()}
        await patiently(lambda: commit(consumer, bare))


async def patiently(request: Callable[[], Awaitable[T]]) -> T:
    """Its answer, asked for again where the broker says that it will be able to give it."""
    while True:
        try:
            return await request()
        except KafkaError as error:
            if not error.retriable:
                raise
        await asyncio.sleep(TRY_INTERVAL)


async def _ask_committed(
    coordinator: Any, partitions: Iterable[Any], *, stable: bool = False
) -> dict[Any, tuple[int, str]]:
    asked = by_topic({place: place.partition for place in partitions})
    await coordinator.ensure_coordinator_known()
    kind: Any = FetchStableOffsets if stable else OffsetFetchRequest
    answer = await coordinator._send_req(kind(coordinator.group_id, asked))
    if for_code(answer.error_code) in (NotCoordinatorForGroupError, GroupCoordinatorNotAvailableError):
        coordinator.coordinator_dead()  # so that the new one is looked for
    return read_committed(answer)


def read_committed(answer: Any) -> dict[Any, tuple[int, str]]:
    """What a coordinator has answered to OffsetFetchRequest.

    Raises:
        KafkaError: it does not say it.
    """
    raise_for(answer.error_code)
    found: dict[Any, tuple[int, str]] = {}
    for topic, number, offset, metadata, code in read_offsets(answer):
        raise_for(code)
        if offset >= 0:
            found[TopicPartition(topic, number)] = (offset, metadata or "")
    return found


def raise_for(code: int) -> None:
    """Raise the error of a broker's answer, if it is one."""
    if code:
        raise for_code(code)
