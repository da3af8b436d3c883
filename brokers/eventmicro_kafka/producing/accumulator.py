"""aiokafka's producer from inside: the batches that wait to be sent, and what it knows of the partitions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from aiokafka import TopicPartition  # type: ignore[import-untyped]
from aiokafka.errors import ProducerClosed  # type: ignore[import-untyped]
from aiokafka.producer.sender import SendProduceReqHandler  # type: ignore[import-untyped]

from eventmicro_kafka.records import Headers

# What the cluster says is the leader of a partition that has none.
NO_LEADER = -1
# How many batches may wait for a partition: while one is on its way the next are put together. Who comes when there are
# so many stands in line.
MOST_WAITING = 4
# For how long the trouble of a topic is that of its next messages, in seconds: a try comes every tenth of one.
RECENT = 2.0


@dataclass(slots=True)
class _Line:
    """Those who wait to begin a batch for a partition."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # they get it in their order
    length: int = 0


def keep_lines(producer: Any) -> None:
    """Have those who wait to begin a batch come in their order."""
    producer.lines, producer.is_retired = dict[Any, _Line](), False


def let_nobody_in(producer: Any) -> None:
    """Have those who wait go to another producer: what this one is given now would not be waited for."""
    producer.is_retired = True


def append(
    producer: Any, place: Any, key: bytes | None, value: bytes | None, headers: Headers, *, in_turn: bool = False
) -> asyncio.Future[Any] | None:
    """As `producer.send`, without its waits, and with one future for a batch, which is not to be cancelled therefore.

    None: as many batches as may wait for this partition, and others come first.
    """
    batches = producer._message_accumulator
    if batches._exception is not None or (in_turn and producer.is_retired):
        return None
    pending = batches._batches.get(place)
    batch = pending[-1] if pending else None
    if batch is None or batch._builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
        if not (in_turn or may_begin(producer, place)):
            return None
        batch = _begin(batches, batches.create_builder(), place)
        batch._builder.append(timestamp=None, key=key, value=value, headers=headers)  # the first always fits
    future: asyncio.Future[Any] = batch.future
    return future


async def send_batch(producer: Any, builder: Any, place: Any) -> asyncio.Future[Any]:
    """As `producer.send_batch`, for as long as it takes; its future, which is not to be cancelled.

    Raises:
        KafkaError: the producer is of no use any more.
    """
    if may_begin(producer, place):
        return _send(producer, builder, place)
    async with turn(producer, place):
        return _send(producer, builder, place)


def open_batch(producer: Any, place: Any, *, in_turn: bool = False) -> Any:
    """The batch that waits for a partition and is not full, which may be one that begins with this.

    None: as many as may wait, and others come first; or the producer is of no use any more.
    """
    batches = producer._message_accumulator
    if batches._exception is not None or producer.is_retired:
        return None
    if is_filling(producer, place):
        return batches._batches[place][-1]
    return _begin(batches, batches.create_builder(), place) if in_turn or may_begin(producer, place) else None


def may_begin(producer: Any, place: Any) -> bool:
    """Whether another batch for a partition may wait to be sent, and nobody has come for that before."""
    return place not in producer.lines and len(producer._message_accumulator._batches.get(place, ())) < MOST_WAITING


@asynccontextmanager
async def turn(producer: Any, place: Any) -> AsyncGenerator[None]:
    """The right to begin a batch for a partition, when there is room for it, in the order in which it was asked for.

    aiokafka lets whoever is at hand begin the next one when the one before is on its way: who has just had one is
    always before those that wait.
    """
    line = producer.lines.setdefault(place, _Line())
    line.length += 1
    try:
        async with line.lock:
            await _has_room(producer, place)
            yield
    finally:
        line.length -= 1
        if not line.length:
            del producer.lines[place]


def is_free(producer: Any, place: Any) -> bool:
    """Whether no batch waits for a partition."""
    batches = getattr(producer, "_message_accumulator", None)
    return batches is None or not batches._batches.get(place)


def is_filling(producer: Any, place: Any) -> bool:
    """Whether a batch for a partition waits to be sent that is not full."""
    pending = producer._message_accumulator._batches.get(place)
    return bool(pending) and not pending[-1]._builder._closed


def is_idle(producer: Any, place: Any) -> bool:
    """Whether a partition can be written to, and nothing is on its way there or waits for it."""
    leader = producer.client.cluster.leader_for_partition(place)
    busy = place in producer._sender._muted_partitions or producer._message_accumulator._batches.get(place)
    return leader not in (None, NO_LEADER) and not busy


def sends_at_once(producer: Any, place: Any) -> bool:
    """Whether what a partition is given now goes out now: its leader is there and owes no answer, as each owes one."""
    leader = producer.client.cluster.leader_for_partition(place)
    return is_idle(producer, place) and leader not in producer._sender._in_flight


def partitions_known(producer: Any, topic: str) -> list[Any]:
    """The partitions of a topic in their order, as far as the producer knows by now."""
    numbers = producer.client.cluster.partitions_for_topic(topic) or ()
    return [TopicPartition(topic, number) for number in sorted(numbers)]


def note_troubles(producer: Any) -> None:
    """Have `last_trouble` know why batches are tried again: a producer that was started says it to its log alone."""
    sender = producer._sender
    sender.troubles = WeakKeyDictionary[Any, BaseException]()
    sender.troubles_of = dict[str, tuple[float, BaseException]]()

    async def send(node: Any, batches: Any) -> None:  # as aiokafka's own
        await _Sending(sender, batches).do(node)
        sender._in_flight.remove(node)
        sender._muted_partitions.difference_update(batches)

    sender._send_produce_req = send


class _Sending(SendProduceReqHandler):  # type: ignore[misc]  # aiokafka has no types
    def _can_retry(self, error: BaseException, batch: Any) -> bool:
        self._sender.troubles[batch.future] = error
        self._sender.troubles_of[batch.tp.topic] = time.monotonic(), error
        return bool(super()._can_retry(error, batch))


def last_trouble(producer: Any, batch: asyncio.Future[Any] | None, topic: str) -> BaseException | None:
    """Why the latest try to send a batch was in vain, or just now one of its topic, behind which it may wait.

    None: it was not, or there was none.
    """
    sender = getattr(producer, "_sender", None)
    own: BaseException | None = None if batch is None else getattr(sender, "troubles", {}).get(batch)
    when, error = getattr(sender, "troubles_of", {}).get(topic, (0.0, None))
    return own or (error if time.monotonic() < when + RECENT else None)


def on_new_metadata(producer: Any, callback: Callable[[Any], None]) -> None:
    """Call this each time the producer hears how the cluster is."""
    producer.client.cluster.add_listener(callback)


def is_dead(producer: Any) -> bool:
    """Whether it will send nothing any more."""
    task = producer._sender.sender_task
    return producer._message_accumulator._exception is not None or (task is not None and task.done())


async def _has_room(producer: Any, place: Any) -> None:
    """Return when one of the batches that wait for a partition is on its way, or the producer is of no use any more."""
    batches = producer._message_accumulator
    while batches._exception is None and len(pending := batches._batches.get(place, ())) >= MOST_WAITING:
        await asyncio.wait([pending[0]._drain_waiter])


def _send(producer: Any, builder: Any, place: Any) -> asyncio.Future[Any]:
    batches = producer._message_accumulator
    if batches._exception is not None or producer.is_retired:
        raise ProducerClosed
    future: asyncio.Future[Any] = _begin(batches, builder, place).future
    return future


def _begin(batches: Any, builder: Any, place: Any) -> Any:
    batch = batches._append_batch(builder, place)
    batch.future.add_done_callback(_look_at)
    return batch


def _look_at(future: asyncio.Future[Any]) -> None:
    """Nobody else may: who waits for it may have been cancelled."""
    if not future.cancelled():
        future.exception()
