"""Publishing to very many topics in turn; nobody subscribes, so what is measured is the publisher alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle, islice
from typing import Any

from benchmarks.load import BURST, Result
from benchmarks.messages import Reading, readings
from benchmarks.scale.handlers import topic
from eventmicro import Client, Topic

Publish = Callable[[Any, Reading], Awaitable[None]]


async def publish(url: str, number: int, seconds: float) -> Result:
    """The microseconds of CPU time that an event takes: to a topic for the first time, then again, and to subjects."""
    topics = [topic(each) for each in range(number)]
    subjects = [one.name for one in topics]
    async with Client(url) as client:
        await publish_to(client.publish, [Topic("warm.up", Reading)], 1_000)
        first = await publish_to(client.publish, topics, number)
        return {
            "first_us": first,
            "topic_us": await until_settled(client.publish, topics, seconds),
            "subject_us": await until_settled(client.publish, subjects, seconds),
        }


async def until_settled(publish: Publish, places: Sequence[Any], seconds: float) -> float:
    """For so long, and not before each was published to; the shortest time that an event took in one of the rounds."""
    best, end, events = float("inf"), time.perf_counter() + seconds, max(len(places), 10_000)
    while best == float("inf") or time.perf_counter() < end:
        best = min(best, await publish_to(publish, places, events))
    return best


async def publish_to(publish: Publish, places: Sequence[Any], events: int) -> float:
    """Publish so many events to these in turn; the microseconds that one took."""
    turns, source, left, started = cycle(places), cycle(readings()[:BURST]), events, time.process_time()
    while left > 0:
        for reading in islice(source, min(BURST, left)):
            await publish(next(turns), reading)
        left -= BURST
        await asyncio.sleep(0)
    return (time.process_time() - started) / events * 1e6
