"""The yardstick: nats-py and pydantic by hand, as short and fast as their public interfaces allow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.msg import Msg

from benchmarks.messages import ENDPOINT, PROGRESS, READINGS, Order, Progress, Reading, Receipt, Tally, accept
from benchmarks.peer import Call, Hear, Publish


class Raw:
    """nats-py by hand."""

    @asynccontextmanager
    async def server(self, url: str) -> AsyncIterator[None]:
        async with await nats.connect(url) as nc:

            async def place(msg: Msg) -> None:
                order = Order.model_validate_json(msg.data)
                await nc.publish(msg.reply, accept(order).model_dump_json().encode())

            await nc.subscribe(ENDPOINT, queue="q", cb=place)
            await nc.flush()
            yield

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Call]:
        async with await nats.connect(url) as nc:

            async def call(order: Order) -> Receipt:
                reply = await nc.request(ENDPOINT, order.model_dump_json().encode(), timeout=5)
                return Receipt.model_validate_json(reply.data)

            yield call

    @asynccontextmanager
    async def subscriber(self, url: str, tally: Tally) -> AsyncIterator[None]:
        async with await nats.connect(url) as nc:

            async def take(msg: Msg) -> None:
                progress = tally.count(Reading.model_validate_json(msg.data))
                if progress:
                    await nc.publish(PROGRESS, progress.model_dump_json().encode())

            await nc.subscribe(READINGS, cb=take)
            await nc.flush()
            yield

    @asynccontextmanager
    async def publisher(self, url: str, hear: Hear) -> AsyncIterator[Publish]:
        async with await nats.connect(url) as nc:

            async def take(msg: Msg) -> None:
                hear(Progress.model_validate_json(msg.data))

            async def publish(reading: Reading) -> None:
                await nc.publish(READINGS, reading.model_dump_json().encode())

            await nc.subscribe(PROGRESS, cb=take)
            await nc.flush()
            yield publish
