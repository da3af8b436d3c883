"""The yardstick: nats-py by hand, `fetch(100)` and one `+ACK` each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from nats.errors import TimeoutError as NothingCame
from nats.js.client import JetStreamContext

from benchmarks.jetstream.store import jetstream
from benchmarks.messages import Reading
from benchmarks.peer import Publishing, Take, running

FETCH = 100


class Raw:
    """nats-py by hand."""

    @asynccontextmanager
    async def consumer(self, url: str, name: str, take: Take) -> AsyncIterator[None]:
        async with jetstream(url) as js:
            await js.add_stream(name=name, subjects=[name])
            subscription = await js.pull_subscribe(name, durable=name, stream=name)
            async with running(consume(subscription, take)):
                yield

    @asynccontextmanager
    async def publisher(self, url: str, name: str) -> AsyncIterator[Publishing]:
        async with jetstream(url) as js:

            async def one(reading: Reading) -> None:
                await js.publish(name, reading.model_dump_json().encode())

            async def many(readings: Sequence[Reading]) -> None:
                sent = [await js.publish_async(name, reading.model_dump_json().encode()) for reading in readings]
                await asyncio.gather(*sent)

            yield Publishing(one, many)


async def consume(subscription: JetStreamContext.PullSubscription, take: Take) -> None:
    """Fetch, decode, acknowledge."""
    while True:
        try:
            messages = await subscription.fetch(FETCH, timeout=5)
        except NothingCame:
            continue
        for message in messages:
            take(Reading.model_validate_json(message.data))
            await message.ack()
