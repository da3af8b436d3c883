"""Transactor: publishes events and commits a group's places in one transaction after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import uuid4

from aiokafka.errors import (  # type: ignore[import-untyped]
    ConcurrentTransactions,
    CoordinatorNotAvailableError,
    InvalidTxnState,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from eventmicro.errors import EventMicroError, NotStored, UsageError
from eventmicro.message import Message
from eventmicro_kafka.connection.driver import make_producer
from eventmicro_kafka.connection.link import Link
from eventmicro_kafka.connection.transacting import add_group, add_partitions, begin, end, note_lookups
from eventmicro_kafka.errors import InvalidRecordError, is_refusal, is_too_large, not_published, plain, producer_is_dead
from eventmicro_kafka.patterns import as_name
from eventmicro_kafka.producing.accumulator import send_batch
from eventmicro_kafka.producing.producer import Producer
from eventmicro_kafka.records import to_record, value_of
from eventmicro_kafka.rights import missing_right
from eventmicro_kafka.settings import KafkaSettings
from eventmicro_kafka.topics import Topics

Commit = Callable[[Any], Awaitable[None]]
"""Commits places in the transaction of the producer that it is given."""


# What says of a transaction, and of none of its messages, that it cannot go on.
_OF_THE_TRANSACTION = (ConcurrentTransactions, InvalidTxnState)


class _Batch(NamedTuple):
    """The records for one partition that are sent together, the positions of their messages, those without a key."""

    place: Any
    builder: Any
    positions: list[int]
    keyless: list[int]


class Refused(Exception):
    """Some of the messages are not taken, and would not be; the transaction is to be made without them.

    failed: why, by the position of each.
    """

    def __init__(self, failed: Mapping[int, Exception]) -> None:
        super().__init__()
        self.failed = failed


class Transactor:
    """Makes the transactions of one member of a group. Each begins when the one before has ended.

    Args:
        group: whose places they commit.
        subject: what it takes the events of; two members of one process and group have others.

    Attributes:
        is_open: whether a transaction has begun, and not ended.
        is_deciding: whether it was asked to commit that one: whether it holds is not known before it is answered.
    """

    def __init__(self, settings: KafkaSettings, link: Link, topics: Topics, group: str, subject: str) -> None:
        self._settings = settings
        self._group = group
        # The `transactional.id`, which no other has: who comes under it again ends what was left open.
        name = f"{group}.{as_name(subject)}.{settings.instance or uuid4().hex}"
        self._producer = Producer(settings, link, topics, partial(self._make, name), patience=0)
        self._most: int | None = None  # how many messages go into a batch, where the broker takes no more
        self._lookup: BaseException | None = None  # how the latest one of its coordinator failed
        self.is_open = self.is_deciding = False

    async def open(self) -> None:
        """Take the name, and end what was left open under it, for as long as it takes.

        Raises:
            UsageError: the cluster refuses it; it names what is to be allowed, where that is known.
        """
        try:
            await self._producer.made()
        except NotStored as error:
            raise UsageError(f"queue {self._group!r}: {self._why(error)}") from error

    @property
    def trouble(self) -> str:
        """Why it cannot be opened yet, as far as that is known; else empty."""
        if isinstance(self._lookup, CoordinatorNotAvailableError):
            return (
                "the cluster has no coordinator for it; where it has fewer brokers than __transaction_state is to have "
                "replicas, set transaction.state.log.replication.factor, 3 by default, and "
                "transaction.state.log.min.isr to what there are"
            )
        return "" if self._lookup is None else plain(self._lookup)

    async def ready(self, messages: Sequence[Message]) -> None:
        """Return when the topics of all of these can be published to.

        Raises:
            UsageError, NotStored, Disconnected: there is no such topic.
        """
        for topic in {message.subject for message in messages}:
            await self._producer.ready(topic)

    async def run(self, messages: Sequence[Message], commit: Commit) -> None:
        """Publish these, in their order, and commit: all of it or nothing.

        Raises:
            Refused: nothing was done, since some of them are not taken.
            KafkaError: it failed, and has ended as `is_open` and `is_deciding` say.
        """
        if self.is_open:
            await self.renew()
        inner, batches = await self._fill(messages)
        places = {batch.place for batch in batches}
        begin(inner, places)
        self.is_open = True
        try:
            await add_partitions(inner, places)
        except TopicAuthorizationFailedError as error:
            denied = [each for each in batches if each.place.topic in error.args[0]]
            raise Refused(self._not_published(error, denied)) from error
        await add_group(inner, self._group)
        committed, sent = await asyncio.gather(commit(inner), self._send(inner, batches), return_exceptions=True)
        for failed in (sent, committed):  # so that who hears of the commit knows that all is stored
            if failed is not None:
                raise failed
        self.is_deciding = True
        await end(inner, commit=True)
        self.is_open = self.is_deciding = False

    async def abort(self) -> None:
        """End the open transaction, whose messages are all stored, so that nothing of it holds.

        Raises:
            KafkaError: that is not known.
        """
        await end(self._producer.inner, commit=False)
        self.is_open = False

    async def renew(self) -> None:
        """End what was left open by taking the name anew: it holds if that was decided, and else nothing of it does."""
        if self._producer.inner is not None:
            self._producer.retire(self._producer.inner)
        await self._producer.made()
        self.is_open = self.is_deciding = False

    async def close(self) -> None:
        """End it; what is left open is ended by the broker, or by who comes under the name."""
        await self._producer.close()

    def _make(self, name: str) -> Any:
        producer = make_producer(self._settings, name)
        note_lookups(producer, self._note_lookup)
        return producer

    def _note_lookup(self, error: BaseException | None) -> None:
        self._lookup = error

    async def _fill(self, messages: Sequence[Message]) -> tuple[Any, list[_Batch]]:
        """A producer, and batches for it.

        Raises:
            Refused: some of them cannot be published.
        """
        records = self._records(messages)
        while True:
            inner = await self._producer.made()
            batches = list[_Batch]()
            filling: dict[Any, _Batch] = {}
            keyless: dict[str, Any] = {}  # to one partition a topic, so that few batches are sent
            for position, record in enumerate(records):
                key = record["key"]
                place = await self._place(position, messages[position].subject, key, keyless)
                if self._is_full(filling.get(place)) or filling[place].builder.append(**record) is None:
                    batches.append(_Batch(place, inner.create_batch(), [], []))
                    filling[place] = batches[-1]
                    filling[place].builder.append(**record)  # the first always fits
                filling[place].positions.append(position)
                if key is None:
                    filling[place].keyless.append(position)
            if inner is self._producer.inner:
                return inner, batches

    def _is_full(self, batch: _Batch | None) -> bool:
        return batch is None or (self._most is not None and len(batch.positions) >= self._most)

    def _records(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """As `append` of a batch takes them."""
        records, failed = list[dict[str, Any]](), dict[int, Exception]()
        for position, message in enumerate(messages):
            try:
                key, headers = to_record(message, self._settings.max_message)
            except EventMicroError as error:
                failed[position] = error
            else:
                records.append({"timestamp": None, "key": key, "value": value_of(message), "headers": headers})
        if failed:
            raise Refused(failed)
        return records

    async def _place(self, position: int, topic: str, key: bytes | None, keyless: dict[str, Any]) -> Any:
        while True:
            place = keyless.get(topic) if key is None else self._producer.place(topic, key)
            if place is None and key is None:
                place = keyless[topic] = self._producer.next_place(topic)
            if place is not None:
                return place
            try:
                await self._producer.ready(topic)
            except (NotStored, UsageError) as error:  # it is gone meanwhile
                raise Refused({position: error}) from error

    async def _send(self, inner: Any, batches: Sequence[_Batch]) -> None:
        """Return when all is stored, which readers of what is committed see only then."""
        stored = list[asyncio.Future[Any]]()
        for batch in batches:
            batch.builder.close()
            stored.append(await send_batch(inner, batch.builder, batch.place))
        await asyncio.wait(stored)
        failed: dict[int, Exception] = {}
        for future, batch in zip(stored, batches, strict=True):
            error = future.exception()
            if error is None:
                continue
            if is_too_large(error) and len(batch.positions) > 1:  # it goes in more of them, in another transaction
                self._most = min(self._most or len(batch.positions), len(batch.positions)) // 2 or 1
                raise error
            if not is_refusal(error) or producer_is_dead(error) or isinstance(error, _OF_THE_TRANSACTION):
                raise error
            failed |= self._not_published(error, [batch])
        if failed:
            raise Refused(failed)

    def _not_published(self, error: BaseException, batches: Sequence[_Batch]) -> dict[int, Exception]:
        """Why the messages of some batches are not taken, by their positions."""
        failed: dict[int, Exception] = {}
        for place, _, positions, keyless in batches:
            # a topic that compacts refuses all of a batch for the sake of those without a key
            refused = keyless or positions if isinstance(error, InvalidRecordError) else positions
            failed |= dict.fromkeys(refused, not_published(error, place.topic, self._producer.lacking(place.topic)))
        return failed

    def _why(self, error: NotStored) -> str:
        if isinstance(error.__cause__, TransactionalIdAuthorizationFailed):
            return missing_right(self._settings, "Write", "transactional id", self._group)
        return str(error)
