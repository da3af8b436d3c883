"""What a server counts: beside what it confirms, so that for a moment it tells what was before, and is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from aiormq.abc import AbstractChannel
from nats.js import JetStreamContext

from eventmicro.broker import TellsQueues

T = TypeVar("T")


async def until_told(ask: Callable[[], Awaitable[T]], expected: T, bound: float = 120) -> None:
    """Return when it is told so; fail, with what is said last, where it is not within so many seconds."""
    said = await ask()
    try:
        async with asyncio.timeout(bound):
            while said != expected:
                await asyncio.sleep(0.01)
                said = await ask()
    except TimeoutError:
        pytest.fail(f"{said!r} is told, not {expected!r}")


async def messages_in(admin: JetStreamContext, stream: str = "EVENTS") -> int:
    return int((await admin.stream_info(stream)).state.messages)


async def redelivered(admin: JetStreamContext, stream: str = "EVENTS", queue: str = "q") -> int | None:
    """How many of a queue's unsettled events were delivered again."""
    return (await admin.consumer_info(stream, queue)).num_redelivered


async def depth(channel: AbstractChannel, queue: str) -> int:
    """How many events are in a queue of RabbitMQ's, and with nobody."""
    return (await channel.queue_declare(queue, passive=True)).message_count or 0


async def consumers(channel: AbstractChannel, queue: str) -> int | None:
    return (await channel.queue_declare(queue, passive=True)).consumer_count


async def waiting(broker: TellsQueues, queue: str) -> int | None:
    """How many events wait in a queue, as its broker says; None, too, where it says that there is no such queue."""
    state = await broker.queue_state(queue)
    return None if state is None else state.waiting
