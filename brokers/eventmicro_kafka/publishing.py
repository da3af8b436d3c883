"""Publishing: each message confirmed by the broker, or failed by its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from eventmicro.errors import Disconnected, NotAllPublished
from eventmicro.message import Message
from eventmicro_kafka.batches import Batches
from eventmicro_kafka.confirming import Confirming
from eventmicro_kafka.driver import Headers, append
from eventmicro_kafka.errors import KafkaError, late, not_published, producer_is_dead
from eventmicro_kafka.link import Link
from eventmicro_kafka.producer import TRY_INTERVAL, Producer
from eventmicro_kafka.records import to_record


class Publisher:
    """All that one connection publishes.

    Args:
        producer: what sends it.
        link: says whether the cluster is there.
        limit: how large a message may be, in bytes.
    """

    def __init__(self, producer: Producer, link: Link, limit: int) -> None:
        self._producer = producer
        self._link = link
        self._limit = limit
        self._confirming = Confirming()

    async def publish(self, message: Message, timeout: float) -> None:
        """See `Broker.publish`."""
        key, headers = to_record(message, self._limit)
        place = self._producer.place(message.subject, key)
        if place is not None and self._link.online:
            inner = self._producer.inner
            future = append(inner, place, key, message.body, headers)
            if future is not None and await self._confirmed(inner, future, message.subject, timeout):
                return
        await self._publish_slowly(message, key, headers, timeout)

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
        inner = self._producer.inner
        if inner is not None:
            try:
                async with asyncio.timeout(timeout):
                    await inner.flush()
            except TimeoutError:
                raise Disconnected(f"what was published is not confirmed after {timeout:g} s") from None

    async def close(self) -> None:
        """Wait, within bounds, until all that is on its way is stored, and end."""
        await self._producer.close()
        self._confirming.close()

    async def _confirmed(self, inner: Any, future: asyncio.Future[Any], about: str, timeout: float) -> bool:
        """Wait until a message is stored; False: it was not, and only because the producer is of no use any more."""
        try:
            await self._confirming.wait(future, timeout)
        except TimeoutError:
            raise late(about, timeout, sent=True) from None
        except KafkaError as error:
            self._producer.retire(
                inner
            )  # it has counted the message, the broker has not: the next ones would fail, too
            if producer_is_dead(error):
                return False
            raise not_published(error, about) from error
        return True

    async def _publish_slowly(self, message: Message, key: bytes | None, headers: Headers, timeout: float) -> None:
        """Wait for what is missing: the cluster, the producer, the topic, or room."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    inner, future = await self._send(message, key, headers)
            except TimeoutError:
                raise late(message.subject, timeout, sent=False) from None
            if await self._confirmed(inner, future, message.subject, deadline - loop.time()):
                return

    async def _send(self, message: Message, key: bytes | None, headers: Headers) -> tuple[Any, asyncio.Future[Any]]:
        while True:
            inner = await self._producer.ready(message.subject)
            place = self._producer.place(message.subject, key)
            try:
                return inner, await inner.send(place.topic, message.body, key, place.partition, headers=headers)
            except KafkaError as error:  # not taken
                if not (producer_is_dead(error) or error.retriable):
                    raise not_published(error, message.subject) from error
                self._producer.retire(inner)
                await asyncio.sleep(TRY_INTERVAL)
