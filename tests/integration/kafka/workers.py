"""Consumers of Kafka for the tests, and what they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from eventmicro_kafka import KafkaBroker

from eventmicro.broker import Durable
from eventmicro.message import Delivery


class Worker:
    """A consumer on a connection of its own that settles what it gets, and keeps it."""

    def __init__(self, url: str, subject: str, *, work: float = 0.0, hold: bool = False) -> None:
        self.broker = KafkaBroker(url)
        self.subject = subject
        self.deliveries: list[Delivery] = []
        self._work = work
        self._hold = hold
        self._room = asyncio.Semaphore(1)
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, queue: str = "", durable: Durable | None = None) -> Worker:
        await self.broker.connect()
        self.subscription = await self.broker.subscribe(
            self.subject, self._receive, queue=queue or f"{self.subject}.q", durable=durable or Durable()
        )
        return self

    async def close(self) -> None:
        await self.broker.close()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]

    def _receive(self, delivery: Delivery) -> None:
        if self._hold:
            self.deliveries.append(delivery)
            return
        task = asyncio.ensure_future(self._handle(delivery))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _handle(self, delivery: Delivery) -> None:
        async with self._room:  # one at a time
            await asyncio.sleep(self._work)
        if not delivery.lapsed:
            self.deliveries.append(delivery)
            await delivery.ack()


@asynccontextmanager
async def workers(*working: Worker) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await asyncio.gather(*(worker.close() for worker in working))


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


async def hear_of_partitions(producer: AIOKafkaProducer, topic: str, count: int) -> None:
    """Wait until aiokafka's producer knows so many of a topic; the cluster takes its time to say it."""
    while len(await producer.partitions_for(topic)) < count:
        await producer.client.force_metadata_update()
