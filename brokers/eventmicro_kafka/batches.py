"""Many messages at once: each partition's in batches, confirmed by the batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from eventmicro.errors import EventMicroError
from eventmicro.message import Message
from eventmicro_kafka.driver import Headers
from eventmicro_kafka.errors import KafkaError, late, not_published, producer_is_dead
from eventmicro_kafka.producer import Producer
from eventmicro_kafka.records import to_record


class Batches:
    """The messages of one `publish_many`.

    Args:
        producer: what sends them.
        limit: how large a message may be, in bytes.
        timeout: how long all of it may take, in seconds.
    """

    def __init__(self, producer: Producer, messages: Sequence[Message], limit: int, timeout: float) -> None:
        self._producer = producer
        self._messages = messages
        self._limit = limit
        self._timeout = timeout
        self._deadline = asyncio.get_running_loop().time() + timeout
        self._open: dict[Any, tuple[Any, Any, list[int]]] = {}
        self._sent: list[tuple[Any, Any, list[int]]] = []
        self._keyless: dict[str, Any] = {}
        self.failed: dict[int, Exception] = {}

    async def publish(self) -> None:
        """Return when each is confirmed, or has failed."""
        left: Sequence[int] = range(len(self._messages))
        while left:
            left = await self._publish(left)

    async def _publish(self, wanted: Sequence[int]) -> list[int]:
        """Publish the messages at these positions; which of them are to be published again, by a new producer."""
        self._open, self._sent, self._keyless = {}, [], {}
        again: list[int] = []
        try:
            async with asyncio.timeout_at(self._deadline):
                for position in wanted:
                    await self._add(position)
                for place in list(self._open):
                    await self._send(place)
        except TimeoutError:
            self._fail_unsent(wanted)
        for inner, future, positions in self._sent:
            again += await self._confirm(inner, future, positions)
        return sorted(again)

    async def _add(self, position: int) -> None:
        message = self._messages[position]
        topic = message.subject
        try:
            key, headers = to_record(message, self._limit)
            place = self._place(topic, key) or await self._prepare(topic, key)
            while not self._append(place, position, key, message.body, headers):
                await self._send(place)
                self._keyless.pop(topic, None)  # the next batch goes to another partition
                place = self._place(topic, key) or await self._prepare(topic, key)
        except EventMicroError as error:
            self.failed[position] = error

    def _place(self, topic: str, key: bytes | None) -> Any:
        if key is not None:
            return self._producer.place(topic, key)
        return self._keyless.get(topic) if self._producer.inner is not None else None

    async def _prepare(self, topic: str, key: bytes | None) -> Any:
        await self._producer.ready(topic)
        place = self._producer.place(topic, key)
        if key is None:
            self._keyless[topic] = place
        return place

    def _append(self, place: Any, position: int, key: bytes | None, body: bytes, headers: Headers) -> bool:
        """Put a message into the batch of its partition; False: it is full."""
        batch = self._open.get(place)
        if batch is None:
            inner = self._producer.inner
            batch = self._open[place] = (inner, inner.create_batch(), [])
        if batch[1].append(timestamp=None, key=key, value=body, headers=headers) is None:
            return False
        batch[2].append(position)
        return True

    async def _send(self, place: Any) -> None:
        inner, builder, positions = self._open[place]
        builder.close()
        try:
            future = await inner.send_batch(builder, place.topic, partition=place.partition)
        except KafkaError as error:  # not taken
            future = asyncio.get_running_loop().create_future()
            future.set_exception(error)
        future.add_done_callback(_look_at)
        del self._open[place]
        self._sent.append((inner, future, positions))

    async def _confirm(self, inner: Any, future: Any, positions: list[int]) -> list[int]:
        """Wait for the broker to have a batch; which messages are to be published again."""
        about = self._messages[positions[0]].subject
        error: Exception
        try:
            async with asyncio.timeout_at(self._deadline):
                await future
                return []
        except TimeoutError:
            error = late(about, self._timeout, sent=True)
        except KafkaError as met:
            self._producer.retire(inner)
            if producer_is_dead(met):
                return positions
            error = not_published(met, about)
        self.failed.update(dict.fromkeys(positions, error))
        return []

    def _fail_unsent(self, wanted: Sequence[int]) -> None:
        sent = {position for _, _, positions in self._sent for position in positions}
        for position in wanted:
            if position not in sent and position not in self.failed:
                self.failed[position] = late(self._messages[position].subject, self._timeout, sent=False)


def _look_at(future: asyncio.Future[Any]) -> None:
    """Nobody else may: `publish_many` may have been cancelled."""
    if not future.cancelled():
        future.exception()
