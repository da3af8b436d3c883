"""FastStream's NatsBroker on JetStream: pulls of 100, its log off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from faststream.nats import JStream, NatsBroker, PullSub

from benchmarks.jetstream.raw import FETCH
from benchmarks.messages import Reading
from benchmarks.peer import Publishing, Take


class FastStream:
    """FastStream with a durable pull consumer."""

    @asynccontextmanager
    async def consumer(self, url: str, name: str, take: Take) -> AsyncIterator[None]:
        async with broker(url) as nats:

            @nats.subscriber(name, stream=JStream(name), durable=name, pull_sub=PullSub(batch_size=FETCH))
            async def handle(reading: Reading) -> None:
                take(reading)

            await nats.start()
            yield

    @asynccontextmanager
    async def publisher(self, url: str, name: str) -> AsyncIterator[Publishing]:
        async with broker(url) as nats:
            await nats.start()

            async def one(reading: Reading) -> None:
                await nats.publish(reading, name, stream=name, timeout=5)  # as nats-py by hand; else 0.5

            async def many(readings: Sequence[Reading]) -> None:
                await asyncio.gather(*map(one, readings))

            yield Publishing(one, many)


def broker(url: str) -> NatsBroker:
    return NatsBroker(url.replace("jetstream://", "nats://"), logger=None)
