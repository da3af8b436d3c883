"""History: the events that topics keep, read by a consumer that is in no group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from eventmicro.broker import Start
from eventmicro.errors import Disconnected, UsageError
from eventmicro_kafka.connection.describing import TopicInfo
from eventmicro_kafka.connection.driver import TopicPartition, make_consumer
from eventmicro_kafka.connection.ending import stop_consumer
from eventmicro_kafka.consuming.positions import offsets
from eventmicro_kafka.errors import KafkaError, is_refusal, plain
from eventmicro_kafka.received import LiveDelivery
from eventmicro_kafka.records import delivery_headers
from eventmicro_kafka.settings import KafkaSettings

# How many records are taken at a time, how long is waited for them, in milliseconds, and how long nothing may come of
# what is there, or the cluster be silent at the beginning, in seconds.
POLL_RECORDS = 128
POLL_TIME = 500
TIMEOUT = 15.0


async def read(
    settings: KafkaSettings, topics: Mapping[str, TopicInfo], start: Start
) -> AsyncGenerator[LiveDelivery, None]:
    """See `eventmicro.broker.ReadsKept`; the order is that of each partition."""
    consumer = make_consumer(settings, None)
    try:
        async with asyncio.timeout(TIMEOUT):
            await consumer.start()
            ends = await _assign(consumer, topics, start)
        while ends:
            async with asyncio.timeout(TIMEOUT):
                batches = await _poll(consumer, ends)
            for place, records in batches.items():
                for record in records:
                    if record.offset < ends[place]:
                        headers = delivery_headers(record.headers) or (None if record.value is not None else {})
                        yield LiveDelivery(record, headers)
            for place in [place for place in ends if await consumer.position(place) >= ends[place]]:
                consumer.pause(place)
                del ends[place]
    except (KafkaError, OSError, TimeoutError) as error:
        about = f"{', '.join(topics)} cannot be read: {plain(error)}"
        raise (UsageError if is_refusal(error) else Disconnected)(about) from error
    finally:
        await stop_consumer(consumer)


async def _assign(consumer: Any, topics: Mapping[str, TopicInfo], start: Start) -> dict[Any, int]:
    """Begin in each partition that has something since then; where each ends."""
    places = {TopicPartition(name, number) for name, topic in topics.items() for number in range(len(topic.leaders))}
    consumer.assign(list(places))
    ends: dict[Any, int] = await consumer.end_offsets(list(places))
    begins = await offsets(consumer, places, dict.fromkeys(topics, start))
    left = {place: end for place, end in ends.items() if begins[place] < end}
    consumer.assign(list(left))
    for place in left:
        consumer.seek(place, begins[place])
    return left


async def _poll(consumer: Any, ends: Mapping[Any, int]) -> dict[Any, list[Any]]:
    """The next records; none where a partition has ended with what is no event, as the end of a transaction is."""
    while True:
        before = {place: await consumer.position(place) for place in ends}
        batches: dict[Any, list[Any]] = await consumer.getmany(timeout_ms=POLL_TIME, max_records=POLL_RECORDS)
        if batches or any([await consumer.position(place) > at for place, at in before.items()]):
            return batches
