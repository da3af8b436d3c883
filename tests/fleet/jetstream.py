"""The members on JetStream; the stream is there when they begin."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
from faststream.nats import JStream, NatsBroker, PullSub
from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import ConsumerConfig

from tests.fleet import ours
from tests.fleet.words import TEXT, Event, got, publish_all, ready, serve


def plain(url: str) -> str:
    """The URL as others have it."""
    return url.partition("?")[0].replace("jetstream://", "nats://")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    connection = await nats.connect(plain(url))
    try:
        yield connection
    finally:
        await connection.close()


async def nats_py_publishes(url: str, subject: str, numbers: range) -> None:
    async with connected(url) as connection:
        stream = connection.jetstream()

        async def publish(n: int) -> None:
            await stream.publish(subject, json.dumps({"n": n, "by": "nats-py", "text": TEXT}).encode())

        await publish_all(numbers, publish)


async def nats_py_consumes(url: str, subject: str) -> None:
    config = ConsumerConfig(ack_wait=5, max_ack_pending=1000)
    async with connected(url) as connection:
        queue = await connection.jetstream().pull_subscribe(subject, f"{subject}-nats-py", config=config)
        ready()
        while True:
            try:
                messages = await queue.fetch(100, timeout=1)
            except NatsTimeout:
                continue
            for message in messages:
                got(json.loads(message.data))
                await message.ack()


async def faststream_publishes(url: str, subject: str, numbers: range) -> None:
    async with NatsBroker(plain(url)) as broker:
        name = await stream_of(url, subject)

        async def publish(n: int) -> None:
            await broker.publish(Event(n=n, by="faststream"), subject, stream=name)

        await publish_all(numbers, publish)


async def faststream_consumes(url: str, subject: str) -> None:
    broker = NatsBroker(plain(url))
    stream = JStream(await stream_of(url, subject), declare=False)

    pull, config = PullSub(timeout=1), ConsumerConfig(ack_wait=5)

    @broker.subscriber(subject, stream=stream, durable=f"{subject}-faststream", pull_sub=pull, config=config)
    async def take(body: Event) -> None:
        got(body)

    await serve(broker)


async def stream_of(url: str, subject: str) -> str:
    """The stream that has a subject."""
    async with connected(url) as connection:
        return await connection.jetstream().find_stream_name_by_subject(subject)


PUBLISHERS: dict[str, Any] = {
    "eventmicro": ours.publish,
    "nats-py": nats_py_publishes,
    "faststream": faststream_publishes,
}
CONSUMERS: dict[str, Any] = {"eventmicro": ours.consume, "nats-py": nats_py_consumes, "faststream": faststream_consumes}
