"""Kafka: the partitions of an ordered queue move while handlers run."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import Client, Service, Topic
from tests.integration.kafka.kit import Until

PARTITIONS = 6


class Number(BaseModel):
    key: str
    value: int


class Handling:
    """Handlers that run until they may finish, in how many instances ever."""

    def __init__(self) -> None:
        self.may_finish = asyncio.Event()
        self.running: Counter[str] = Counter()
        self.together: list[str] = []
        self.done: dict[str, list[int]] = {}

    async def handle(self, event: Number) -> None:
        self.running[event.key] += 1
        if self.running[event.key] > 1:
            self.together.append(f"{event.key} {event.value}")
        try:
            await self.may_finish.wait()
        finally:
            self.running[event.key] -= 1
        self.done.setdefault(event.key, []).append(event.value)


def service(name: str, url: str, subject: str, handling: Handling, **words: Any) -> Service:
    service = Service(name, broker=url)
    service.subscribe(Topic(subject, Number, key="key"), order_by="key", queue=f"{subject}.q", **words)(handling.handle)
    return service


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("words", [{}, {"timeout": 50.0}], ids=["no timeout", "a timeout"])
async def test_a_handler_that_takes_longer_than_a_rebalance_waits_keeps_its_key_to_itself(
    words: dict[str, Any], kafka_url: str, subject: str, until: Until
) -> None:
    url = f"{kafka_url}?partitions={PARTITIONS}&rebalance_wait=0.1"
    handling, keys = Handling(), [f"k{number}" for number in range(24)]
    first, second = (service(name, url, subject, handling, concurrency=24, **words) for name in ("one", "two"))
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(url))
        await first.start()
        stack.push_async_callback(first.stop)
        events = [Number(key=key, value=value) for value in range(3) for key in keys]
        await client.publish_many(Topic(subject, Number, key="key"), events)
        await until(lambda: handling.running.total() == len(keys))
        await second.start()  # which waits for its share, and no longer than a second
        stack.push_async_callback(second.stop)
        handling.may_finish.set()
        await until(lambda: sum(map(len, handling.done.values())) == len(events))
    assert handling.together == []
    assert handling.done == {key: [0, 1, 2] for key in keys}


@pytest.mark.timeout_seconds(60)
async def test_a_handler_that_takes_longer_than_its_timeout_does_not_hold_its_group_up(
    kafka_url: str, subject: str, until: Until
) -> None:
    """It is cancelled by then, and its event has failed."""
    url = f"{kafka_url}?partitions={PARTITIONS}"
    stuck, handling = Handling(), Handling()
    handling.may_finish.set()
    first = service("one", url, subject, stuck, timeout=1.0)
    second = service("two", url, subject, handling)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(url))
        await first.start()
        stack.push_async_callback(first.stop)
        topic = Topic(subject, Number, key="key")
        await client.publish_many(topic, [Number(key=f"k{number}", value=number) for number in range(50)])
        await until(lambda: stuck.running.total() == 1)
        await second.start()
        stack.push_async_callback(second.stop)
        await until(lambda: handling.done)
