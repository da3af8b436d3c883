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
from aiokafka.protocol.transaction import (  # type: ignore[import-untyped]
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
)

from eventmicro_kafka.connection.protocol import CommitInTransaction, by_topic
from eventmicro_kafka.errors import KafkaError

# How long to wait before a request is made again that a coordinator cannot answer yet, in seconds: the first time, as
# where it is about to end the transaction before, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.1

_MOVED = (CoordinatorNotAvailableError, NotCoordinatorError, RequestTimedOutError)
_MAY_PASS = (*_MOVED, ConcurrentTransactions, CoordinatorLoadInProgressError, UnknownTopicOrPartitionError)
_LEFT_OUT = (NoError, OperationNotAttempted)  # as another one of the same request is refused


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
    request = AddPartitionsToTxnRequest(*_who(producer), by_topic({place: place.partition for place in places}))
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
    who = (name, coordinator.group_id, number, epoch, *member, coordinator._group_instance_id)
    request = CommitInTransaction(who, offsets)
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
    return all(CommitInTransaction.is_known(each._versions) for each in consumer._client._conns.values())


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
