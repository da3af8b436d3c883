"""Many messages at once: each partition's in batches, confirmed by the batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eventmicro.errors import EventMicroError
from eventmicro.message import Message
from eventmicro_kafka.errors import (
    InvalidRecordError,
    KafkaError,
    is_too_large,
    late,
    not_published,
    producer_is_dead,
)
from eventmicro_kafka.producing.accumulator import is_free, last_trouble, open_batch, send_batch, sends_at_once, turn
from eventmicro_kafka.producing.producer import Producer
from eventmicro_kafka.records import to_record, value_of

# After how many messages it is looked whether a broker has nothing to do.
PART = 350
# After how many turns of the loop aiokafka has written what can be sent.
TURNS = 5


@dataclass(slots=True)
class _Batch:
    """The messages for one partition that are sent together, by their positions.

    is_shared: whether it waits to be sent already, with what others have put there: it may be gone after each await.
    """

    inner: Any
    place: Any
    builder: Any
    is_shared: bool = False
    positions: list[int] = field(default_factory=list)


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
        self._open: dict[Any, _Batch] = {}
        self._keyless: dict[str, _Batch] = {}
        self._sent: list[tuple[_Batch, asyncio.Future[Any]]] = []
        self._again: list[int] = []
        self._inner: Any = None
        self._full: Any = None  # the partition for which no more may wait, if that is why there is no batch
        self._alone = False  # whether what goes with them may be why the broker does not take these
        self._most: int | None = None  # how many it takes in one batch, if that may be why
        self.failed: dict[int, Exception] = {}

    async def publish(self) -> None:
        """Return when each is confirmed, or has failed."""
        left: Sequence[int] = range(len(self._messages))
        while left:
            left = await self._publish(left)

    async def _publish(self, wanted: Sequence[int]) -> Sequence[int]:
        """Publish the messages at these positions by one producer; which of them are left to the next one.

        That one begins when this one has said what became of all that it was given: so they stay in their order.
        """
        self._open, self._keyless, self._sent, self._again, self._inner = {}, {}, [], [], None
        left: Sequence[int] = ()
        try:
            async with asyncio.timeout_at(self._deadline):
                left = await self._fill(wanted)
                self._leave_shared()
                for batch in list(self._open.values()):
                    await self._send(batch)
        except TimeoutError:
            left, self._again = (), []
            self._fail_unsent(wanted)
        await self._confirm()
        return [*sorted(self._again), *left]

    async def _fill(self, wanted: Sequence[int]) -> Sequence[int]:
        """Put the messages at these positions into batches, and send those that are full, or have a broker waiting;
        which are left, as there is another producer.
        """
        messages, limit = self._messages, self._limit
        for count, position in enumerate(wanted, 1):
            message = messages[position]
            try:
                key, headers = to_record(message, limit)
                value = message.body if type(message) is Message else value_of(message)
                while True:
                    batch = self._batch(message.subject, key)
                    if batch is None and self._is_other_producer():
                        return wanted[count - 1 :]
                    if batch is None:
                        await self._wait_for_batch(message.subject, key)
                    elif batch.builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
                        await self._send(batch)
                    else:
                        batch.positions.append(position)
                        break
            except EventMicroError as error:
                self.failed[position] = error
            if count % PART == 0:
                self._leave_shared()
                await self._occupy()
        return ()

    async def _wait_for_batch(self, topic: str, key: bytes | None) -> None:
        """Return when there may be a batch for a message: its topic is ready, and its partition has room."""
        self._leave_shared()
        place, self._full = self._full, None
        if place is not None:
            async with turn(self._inner, place):
                waiting = open_batch(self._inner, place, in_turn=True)
            if waiting is not None and not self._is_other_producer():
                batch = self._join(waiting, place)
                if key is None:
                    self._keyless[topic] = batch
                return
        await self._producer.ready(topic)

    async def _occupy(self) -> None:
        """Let others have their turn, and send to the brokers that have nothing to do what is there for them by now."""
        await asyncio.sleep(0)
        idle = [batch for batch in self._open.values() if sends_at_once(batch.inner, batch.place)]
        for batch in idle:
            await self._send(batch)
        if idle:
            for _ in range(TURNS):
                await asyncio.sleep(0)

    def _batch(self, topic: str, key: bytes | None) -> _Batch | None:
        """The batch for a message; None: there is another producer, or `_wait_for_batch` is to be asked first."""
        if key is None:
            batch = self._keyless.get(topic)
            if batch is None:
                batch = self._open_at(self._producer.next_place(topic))
                if batch is not None:
                    self._keyless[topic] = batch
            return batch
        return self._open_at(self._producer.place(topic, key))

    def _open_at(self, place: Any) -> _Batch | None:
        if place is None:
            return None
        batch = self._open.get(place)
        if batch is None and not self._is_other_producer():
            self._inner = self._producer.inner
            if self._alone or is_free(self._inner, place):
                builder = self._inner.create_batch()
                batch = self._open[place] = _Batch(self._inner, place, builder)
                if self._most is not None:
                    _limit(builder, self._most)
            elif (waiting := open_batch(self._inner, place)) is not None:
                batch = self._join(waiting, place)
            else:
                self._full = place
        return batch

    def _join(self, waiting: Any, place: Any) -> _Batch:
        """Put what goes to a partition into a batch that waits to be sent: so those of many go together."""
        batch = self._open[place] = _Batch(self._inner, place, waiting._builder, is_shared=True)
        self._sent.append((batch, waiting.future))
        return batch

    def _leave_shared(self) -> None:
        """Put nothing more into the batches that may be on their way when this side goes on."""
        for batch in [batch for batch in self._open.values() if batch.is_shared]:
            self._leave(batch)

    def _is_other_producer(self) -> bool:
        return self._inner is not None and self._inner is not self._producer.inner

    async def _send(self, batch: _Batch) -> None:
        self._leave(batch)
        if batch.is_shared:  # it goes by itself
            return
        self._leave_shared()
        if self._is_other_producer():
            self._again += batch.positions
            return
        if self._alone:
            batch.builder.close()
        try:
            stored = await send_batch(batch.inner, batch.builder, batch.place)
        except KafkaError as error:  # not taken
            stored = asyncio.get_running_loop().create_future()
            stored.set_exception(error)
        self._sent.append((batch, stored))
        if self._alone:  # what comes behind goes when it is stored, and else after it
            await asyncio.wait([stored])
            if stored.exception() is not None:
                self._producer.retire(batch.inner)

    def _leave(self, batch: _Batch) -> None:
        del self._open[batch.place]
        if self._keyless.get(batch.place.topic) is batch:
            del self._keyless[batch.place.topic]  # the next one goes to another partition

    async def _confirm(self) -> None:
        """Wait for the broker to have all that was sent."""
        sent = [(batch, stored) for batch, stored in self._sent if batch.positions]  # else it had no room
        if sent:
            left = self._deadline - asyncio.get_running_loop().time()
            await asyncio.wait([stored for _, stored in sent], timeout=max(0.0, left))
        for batch, stored in sent:
            error = stored.exception() if stored.done() else TimeoutError()
            if error is not None:
                self._again += self._fail(error, batch, stored)

    def _fail(self, error: BaseException, batch: _Batch, stored: asyncio.Future[Any]) -> list[int]:
        """Note why messages of a batch were not confirmed; those that a new producer may send."""
        about = self._messages[batch.positions[0]].subject
        if isinstance(error, TimeoutError):
            again = list[int]()
            failure = late(about, self._timeout, sent=True, met=last_trouble(batch.inner, stored, about))
        else:
            self._producer.retire(batch.inner)
            if producer_is_dead(error):
                return batch.positions
            again = self._spoilt(error, batch.positions)
            failure = not_published(error, about, self._producer.lacking(about))
        self.failed |= dict.fromkeys(set(batch.positions).difference(again), failure)
        return again

    def _spoilt(self, error: BaseException, positions: Sequence[int]) -> list[int]:
        """Those of a batch that may be refused for the sake of others in it; they go by themselves from now on."""
        alone, spoilt = self._alone, list[int]()
        if is_too_large(error) and (len(positions) > 1 or not alone):
            spoilt = list(positions)
            if alone:
                self._most = min(self._most or len(positions), len(positions)) // 2 or 1
        elif is_too_large(error):
            self._most = None  # it is this one, and those behind it may go together
        elif isinstance(error, InvalidRecordError):
            spoilt = [position for position in positions if self._messages[position].key is not None]
            if alone and len(spoilt) == len(positions):
                return []
        self._alone = alone or bool(spoilt)
        return spoilt

    def _fail_unsent(self, wanted: Sequence[int]) -> None:
        sent = {position for batch, _ in self._sent for position in batch.positions}
        for position in wanted:
            if position not in sent and position not in self.failed:
                about = self._messages[position].subject
                met = last_trouble(self._producer.inner, None, about)
                self.failed[position] = late(about, self._timeout, sent=False, met=met)


def _limit(builder: Any, most: int) -> None:
    """Have a batch be full with so many messages."""
    append = builder.append

    def append_few(**record: Any) -> Any:
        if builder.record_count() == most:
            builder.close()
        return append(**record)

    builder.append = append_few
