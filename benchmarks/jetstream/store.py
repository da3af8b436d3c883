"""What JetStream itself says of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.js.client import JetStreamContext


@asynccontextmanager
async def jetstream(url: str) -> AsyncIterator[JetStreamContext]:
    """nats-py, connected to where `jetstream://` points."""
    async with await nats.connect(url.replace("jetstream://", "nats://")) as nc:
        yield nc.jetstream()


async def stored(url: str, name: str) -> int:
    """How many events the stream of this subject has had."""
    async with jetstream(url) as js:
        info = await js.stream_info(await js.find_stream_name_by_subject(name))
        return info.state.last_seq


async def unsettled(url: str, name: str) -> int:
    """How many events its consumer has not delivered, or not got acknowledged."""
    async with jetstream(url) as js:
        consumers = await js.consumers_info(await js.find_stream_name_by_subject(name))
        return sum((each.num_pending or 0) + (each.num_ack_pending or 0) for each in consumers)


async def remove(url: str, name: str) -> None:
    """Remove the stream."""
    async with jetstream(url) as js:
        await js.delete_stream(await js.find_stream_name_by_subject(name))
