"""The yardstick: aiokafka by hand, `getmany` and a commit after every 1000 events, `acks="all"`.

It spreads the events, which have no key, over the partitions one by one, as aiokafka does unless told otherwise;
eventmicro puts those that wait together into one, so that a request carries one batch instead of three.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.kafka.store import bootstrap
from benchmarks.messages import Reading
from benchmarks.peer import Publishing, Take, running

MOST = 500
COMMIT_EVERY = 1_000
# Of a producer's batches, in bytes: FastStream cannot publish many where these do not fit in one.
BATCH_BYTES = 1_000_000


class Raw:
    """aiokafka by hand."""

    @asynccontextmanager
    async def consumer(self, url: str, name: str, take: Take) -> AsyncIterator[None]:
        options = {"group_id": name, "auto_offset_reset": "earliest", "enable_auto_commit": False}
        async with AIOKafkaConsumer(name, bootstrap_servers=bootstrap(url), **options) as consumer:
            async with running(consume(consumer, take)):
                yield
            await consumer.commit()

    @asynccontextmanager
    async def publisher(self, url: str, name: str) -> AsyncIterator[Publishing]:
        options = {"acks": "all", "max_batch_size": BATCH_BYTES}
        async with AIOKafkaProducer(bootstrap_servers=bootstrap(url), **options) as producer:

            async def one(reading: Reading) -> None:
                await producer.send_and_wait(name, reading.model_dump_json().encode())

            async def many(readings: Sequence[Reading]) -> None:
                sent = [await producer.send(name, reading.model_dump_json().encode()) for reading in readings]
                await asyncio.gather(*sent)

            yield Publishing(one, many)


async def consume(consumer: AIOKafkaConsumer, take: Take) -> None:
    """Fetch, decode, commit."""
    done = 0
    while True:
        for records in (await consumer.getmany(timeout_ms=200, max_records=MOST)).values():
            for record in records:
                take(Reading.model_validate_json(record.value))
            done += len(records)
        if done >= COMMIT_EVERY:
            await consumer.commit()
            done = 0
