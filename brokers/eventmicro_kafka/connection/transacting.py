"""Transacting: what is asked of a cluster for a transaction, one request after the other.

aiokafka's sender asks for these beside its batches, and knows the first version of each alone. In that one a commit
does not say of which member it is, so nobody could refuse one of a member whose partitions are others' by now; and
what is not to be written to is sent nevertheless, outside of the transaction. So only the batches are left to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from aiokafka.client import ConnectionGroup, CoordinationType  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NoError,
    NotCoordinatorError,
    OperationNotAttempted,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.producer.transaction_manager import TransactionState  # type: ignore[import-untyped]
from aiokafka.protocol.api import RequestStruct, Response  # type: ignore[import-untyped]
from aiokafka.protocol.transaction import (  # type: ignore[import-untyped]
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    TxnOffsetCommitRequest,
)
from aiokafka.protocol.types import (  # type: ignore[import-untyped]
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from eventmicro_kafka.errors import KafkaError

# How long to wait before a request is made again that a coordinator cannot answer yet, in seconds: the first time, as
# where it is about to end the transaction before, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.1

_MOVED = (CoordinatorNotAvailableError, NotCoordinatorError, RequestTimedOutError)
_MAY_PASS = (*_MOVED, ConcurrentTransactions, CoordinatorLoadInProgressError, UnknownTopicOrPartitionError)
_LEFT_OUT = (NoError, OperationNotAttempted)  # as another one of the same request is refused

# aiokafka's own, whose types say less than they do.
_AnyResponse: Any = Response
_AnyRequest: Any = TxnOffsetCommitRequest


class _Response(_AnyResponse):  # type: ignore[misc]
    API_KEY = 28
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "errors",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(("partition", Int32), ("error_code", Int16), ("tags", TaggedFields)),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Request(RequestStruct):  # type: ignore[misc]
    API_KEY = 28
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        ("transactional_id", CompactString("utf-8")),
        ("group_id", CompactString("utf-8")),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", CompactString("utf-8")),
        ("group_instance_id", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _CommitOffsets(_AnyRequest):  # type: ignore[misc]
    """Commits of a member of a group, which hold when the transaction does."""

    def __init__(self, *said: Any) -> None:
        self._said = said

    def build(self, version: Any) -> Any:
        return version(*self._said, {})


_CommitOffsets._CLASSES = (_Request,)


def note_lookups(producer: Any, note: Callable[[BaseException | None], None]) -> None:
    """Have it told how each look-up of a coordinator ends: aiokafka repeats it for as long as it is in vain."""
    look_up = producer.client.coordinator_lookup

    async def noted(*said: Any) -> Any:
        try:
            node = await look_up(*said)
        except KafkaError as error:
            note(error)
            raise
        note(None)
        return node

    producer.client.coordinator_lookup = noted


def begin(producer: Any, places: Iterable[Any]) -> None:
    """Have a producer's batches for these partitions be of the next transaction; they are to be added to it."""
    manager = producer._txn_manager
    if manager.state is TransactionState.READY:  # it is told of no end, and so stays in the first one
        manager.begin_transaction()
        manager._transaction_waiter.add_done_callback(_look_at)
    manager._txn_partitions = set(places)


async def add_partitions(producer: Any, places: Iterable[Any]) -> None:
    """Add partitions to a transaction, before anything is sent to them.

    Raises:
        TopicAuthorizationFailedError: of these topics.
        KafkaError: as of all here: it is refused, or the producer is of no use any more.
    """
    request = AddPartitionsToTxnRequest(*_who(producer), list(_by_topic(places).items()))
    await _ask(producer, request, _codes_of_partitions)


async def add_group(producer: Any, group: str) -> None:
    """Add a group to a transaction, before its places are committed in that."""
    await _ask(producer, AddOffsetsToTxnRequest(*_who(producer), group), lambda answer: [answer.error_code])


async def end(producer: Any, *, commit: bool) -> None:
    """End a transaction: all of it holds, or nothing. Asked for again it is answered as before."""
    await _ask(producer, EndTxnRequest(*_who(producer), commit), lambda answer: [answer.error_code])
    producer._txn_manager._txn_partitions.clear()


async def commit_places(
    consumer: Any, producer: Any, *, offsets: Mapping[Any, tuple[int, str]], member: tuple[int, str]
) -> None:
    """Commit in a transaction, as this member of the consumer's group.

    Raises:
        KafkaError: the partitions are somebody else's by now, or the broker does not take it.
    """
    coordinator = consumer._coordinator
    name, number, epoch = _who(producer)
    entries: dict[str, list[tuple[int, int, int, str, dict[int, bytes]]]] = {}
    for place, (offset, metadata) in offsets.items():
        entries.setdefault(place.topic, []).append((place.partition, offset, -1, metadata, {}))
    topics = [(topic, partitions, dict[int, bytes]()) for topic, partitions in entries.items()]
    request = _CommitOffsets(name, coordinator.group_id, number, epoch, *member, coordinator._group_instance_id, topics)
    for pause in _pauses():
        await coordinator.ensure_coordinator_known()
        answer = await coordinator._send_req(request)
        errors = _errors([code for _, codes, _ in answer.errors for _, code, _ in codes])
        if not errors:
            return
        _raise_what_stays(errors)
        if any(issubclass(error, _MOVED) for error in errors):
            coordinator.coordinator_dead()
        await asyncio.sleep(pause)


def can_commit_places(consumer: Any) -> bool:
    """Whether the brokers, as far as this consumer knows them, take such a commit."""
    versions = [connection._versions.get(_Request.API_KEY, (0, 0)) for connection in consumer._client._conns.values()]
    return all(newest >= _Request.API_VERSION for _, newest in versions)


async def _ask(producer: Any, request: Any, codes: Callable[[Any], list[int]]) -> None:
    """Have the coordinator of a producer's transactions do something, as soon as it can."""
    sender = producer._sender
    for pause in _pauses():
        name = producer._txn_manager.transactional_id
        node = await sender._find_coordinator(CoordinationType.TRANSACTION, name)
        try:
            answer = await producer.client.send(node, request, group=ConnectionGroup.COORDINATION)
            errors = _errors(codes(answer))
        except KafkaError as error:
            if not error.retriable:
                raise
            errors = {NotCoordinatorError}
        if not errors:
            return
        _raise_what_stays(errors)
        if any(issubclass(error, _MOVED) for error in errors):
            sender._coordinator_dead(CoordinationType.TRANSACTION)
        await asyncio.sleep(pause)


def _codes_of_partitions(answer: Any) -> list[int]:
    codes = [(topic, code) for topic, partitions in answer.errors for _, code in partitions]
    denied = {topic for topic, code in codes if code == TopicAuthorizationFailedError.errno}
    if denied:
        raise TopicAuthorizationFailedError(denied)
    return [code for _, code in codes]


def _who(producer: Any) -> tuple[str, int, int]:
    manager = producer._txn_manager
    return manager.transactional_id, manager.producer_id, manager.producer_epoch


def _by_topic(places: Iterable[Any]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for place in places:
        topics.setdefault(place.topic, []).append(place.partition)
    return topics


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE)


def _errors(codes: Iterable[int]) -> set[Any]:
    return {kind for code in codes if (kind := for_code(code)) not in _LEFT_OUT}


def _raise_what_stays(errors: Iterable[Any]) -> None:
    for error in errors:
        if not issubclass(error, _MAY_PASS):
            raise error


def _look_at(future: asyncio.Future[Any]) -> None:
    """A producer that dies says it here, too."""
    if not future.cancelled():
        future.exception()
