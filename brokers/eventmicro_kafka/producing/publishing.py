"""Publishing: each message confirmed by the broker, or failed by its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from eventmicro.errors import Disconnected, NotAllPublished
from eventmicro.message import Message
from eventmicro_kafka.errors import KafkaError, late, may_be_for_others, not_published, producer_is_dead
from eventmicro_kafka.producing.accumulator import append, last_trouble, send_batch, turn
from eventmicro_kafka.producing.batches import Batches
from eventmicro_kafka.producing.confirming import Confirming, Outcome
from eventmicro_kafka.producing.producer import Producer
from eventmicro_kafka.records import Headers, to_record, value_of

NOT_TRIED: Outcome = TimeoutError("nothing was tried yet")


class Publisher:
    """All that one connection publishes.

    Args:
        producer: what sends it.
        limit: how large a message may be, in bytes.
    """

    def __init__(self, producer: Producer, limit: int) -> None:
        self._producer = producer
        self._limit = limit
        self._confirming = Confirming()
        self._loop = asyncio.get_running_loop()

    async def publish(self, message: Message, timeout: float) -> None:
        """See `Broker.publish`."""
        deadline = self._loop.time() + timeout
        key, headers = to_record(message, self._limit)
        place = self._producer.place(message.subject, key)
        if place is not None:
            inner = self._producer.inner
            value = message.body if type(message) is Message else value_of(message)
            batch = append(inner, place, key, value, headers)
            if batch is not None:
                error = await self._confirming.outcome(batch, deadline)
                if error is None:
                    return
                self._fail(error, inner, message, timeout, batch)
                await self._publish_slowly(message, key, headers, deadline, timeout, error)
                return
        await self._publish_slowly(message, key, headers, deadline, timeout)

    async def publish_many(self, messages: Sequence[Message], timeout: float) -> None:
        """See `Broker.publish_many`."""
        batches = Batches(self._producer, messages, self._limit, timeout)
        await batches.publish()
        if batches.failed:
            raise NotAllPublished(failed=batches.failed, confirmed=len(messages) - len(batches.failed))

    async def flush(self, timeout: float) -> None:
        """Return when all that is on its way is stored.

        Raises:
            Disconnected: it is not, after so many seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._producer.flush()
        except TimeoutError:
            raise Disconnected(f"what was published is not confirmed after {timeout:g} s") from None

    async def close(self) -> None:
        """Wait, within bounds, until all that is on its way is stored, and end."""
        await self._producer.close()
        self._confirming.close()

    async def _publish_slowly(
        self,
        message: Message,
        key: bytes | None,
        headers: Headers,
        deadline: float,
        timeout: float,
        error: Outcome = NOT_TRIED,
    ) -> None:
        """Wait for what is missing: the cluster, the producer, the topic, or room."""
        while error is not None:
            alone = may_be_for_others(error, keyed=key is not None)
            try:
                async with asyncio.timeout_at(deadline):
                    inner, batch = await (self._put_alone if alone else self._append)(message, key, headers)
            except TimeoutError:
                met = last_trouble(self._producer.inner, None, message.subject)
                raise late(message.subject, timeout, sent=False, met=met) from None
            error = await self._confirming.outcome(batch, deadline)
            if error is not None:
                self._fail(error, inner, message, timeout, batch, alone=alone)

    async def _append(self, message: Message, key: bytes | None, headers: Headers) -> tuple[Any, asyncio.Future[Any]]:
        while True:
            inner = await self._producer.ready(message.subject)
            place = self._producer.place(message.subject, key)
            batch = append(inner, place, key, value_of(message), headers)
            if batch is None:
                async with turn(inner, place):
                    batch = append(inner, place, key, value_of(message), headers, in_turn=True)
            if batch is not None:  # else its producer is of no use any more
                return inner, batch

    async def _put_alone(
        self, message: Message, key: bytes | None, headers: Headers
    ) -> tuple[Any, asyncio.Future[Any]]:
        while True:
            inner = await self._producer.ready(message.subject)
            place, builder = self._producer.place(message.subject, key), inner.create_batch()
            builder.append(timestamp=None, key=key, value=value_of(message), headers=headers)
            builder.close()
            with suppress(KafkaError):  # its producer is of no use any more
                return inner, await send_batch(inner, builder, place)

    def _fail(
        self,
        error: BaseException,
        inner: Any,
        message: Message,
        timeout: float,
        batch: asyncio.Future[Any],
        *,
        alone: bool = False,
    ) -> None:
        """Raise why a message was not confirmed; return where it may be sent again.

        Args:
            alone: whether no other message may be in its batch.
        """
        about = message.subject
        if isinstance(error, TimeoutError):
            raise late(about, timeout, sent=True, met=last_trouble(inner, batch, about))
        self._producer.retire(inner)  # it has counted the message, the broker has not: the next ones would fail, too
        is_spoilt = not alone and may_be_for_others(error, keyed=message.key is not None)
        if not (is_spoilt or producer_is_dead(error)):
            raise not_published(error, about, self._producer.lacking(about)) from error
