"""FastStream in its best case: its log off, and orjson installed, which it then uses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from faststream.nats import NatsBroker

from benchmarks.messages import ENDPOINT, PROGRESS, READINGS, Order, Progress, Reading, Receipt, Tally, accept
from benchmarks.peer import Call, Hear, Publish


class FastStream:
    """FastStream's NatsBroker on both sides."""

    @asynccontextmanager
    async def server(self, url: str) -> AsyncIterator[None]:
        broker = NatsBroker(url, logger=None)

        @broker.subscriber(ENDPOINT, "q")
        async def place(order: Order) -> Receipt:
            return accept(order)

        async with started(broker):
            yield

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Call]:
        async with started(NatsBroker(url, logger=None)) as broker:

            async def call(order: Order) -> Receipt:
                reply = await broker.request(order, ENDPOINT, timeout=5)
                return Receipt.model_validate_json(reply.body)

            yield call

    @asynccontextmanager
    async def subscriber(self, url: str, tally: Tally) -> AsyncIterator[None]:
        broker = NatsBroker(url, logger=None)

        @broker.subscriber(READINGS)
        async def take(reading: Reading) -> None:
            progress = tally.count(reading)
            if progress:
                await broker.publish(progress, PROGRESS)

        async with started(broker):
            yield

    @asynccontextmanager
    async def publisher(self, url: str, hear: Hear) -> AsyncIterator[Publish]:
        broker = NatsBroker(url, logger=None)

        @broker.subscriber(PROGRESS)
        async def take(progress: Progress) -> None:
            hear(progress)

        async def publish(reading: Reading) -> None:
            await broker.publish(reading, READINGS)

        async with started(broker):
            yield publish


@asynccontextmanager
async def started(broker: NatsBroker) -> AsyncIterator[NatsBroker]:
    """Connected, subscribed, and the server knows it."""
    await broker.start()
    try:
        await broker.ping(5)
        yield broker
    finally:
        await broker.stop()
