"""Tens of thousands of calls that time out or are cancelled: no task, future or other object stays."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventmicro import Client, Service
from eventmicro.errors import CallTimeout

Until = Callable[[Callable[[], object]], Awaitable[None]]

COUNT = 20_000
AT_ONCE = 1_000
# How many more objects there may be after the second half than after the first: far less than one a call.
GROWTH = 500


class Flood:
    """A service that never answers, and a client that gives up."""

    def __init__(self) -> None:
        self.service = Service("flood", broker="memory://flood")
        self.client = Client("memory://flood")
        self.begun = 0
        self.cancelled = 0
        self.outcomes: dict[type[Any], int] = {}

        @self.service.rpc(concurrency=2 * AT_ONCE)
        async def hang() -> None:
            self.begun += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1

    async def time_out(self) -> None:
        """One portion of calls whose time is used up."""
        calls = [self.client.call("flood.hang", timeout=0.001) for _ in range(AT_ONCE)]
        self.count(await asyncio.gather(*calls, return_exceptions=True))

    async def cancel(self) -> None:
        """One portion of calls that their callers cancel, some before they are sent, some while they run."""
        calls = [asyncio.create_task(self.client.call("flood.hang")) for _ in range(AT_ONCE)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        await asyncio.sleep(0)
        for call in calls[1::2]:
            call.cancel()
        self.count(await asyncio.gather(*calls, return_exceptions=True))

    def count(self, outcomes: list[Any]) -> None:
        for outcome in outcomes:
            self.outcomes[type(outcome)] = self.outcomes.get(type(outcome), 0) + 1

    def waiting(self) -> int:
        """How many requests, replies and cancellations are still on their way."""
        brokers = (self.service.client.broker, self.client.broker)
        return sum(len(s) for broker in brokers for s in broker._subscriptions)  # type: ignore[attr-defined]

    async def settle(self) -> None:
        """Let the handlers of calls that were given up end."""
        while self.cancelled < self.begun or len(self.service._node._making.calls) or self.waiting():  # type: ignore[union-attr]
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.mark.timeout_seconds(120)
@pytest.mark.parametrize(("way", "outcome"), [("time_out", CallTimeout), ("cancel", asyncio.CancelledError)])
async def test_calls_that_are_given_up_leave_nothing(way: str, outcome: type[BaseException], until: Until) -> None:
    flood = Flood()
    portion = getattr(flood, way)
    async with flood.service, flood.client:
        objects: list[int] = []
        tasks: list[int] = []
        for _ in range(2):
            for _ in range(COUNT // AT_ONCE // 2):
                await portion()
            async with asyncio.timeout(60):
                await flood.settle()
            gc.collect()
            objects.append(len(gc.get_objects()))
            tasks.append(len(asyncio.all_tasks()))
        caller = flood.client._caller
        calls = flood.service._node._making.calls  # type: ignore[union-attr]
        assert caller is not None
        assert flood.outcomes == {outcome: COUNT}
        assert (len(caller), len(calls)) == (0, 0)
        assert (calls._running, calls._by_reply) == ({}, {})
        assert tasks[0] == tasks[1] <= 8
        assert objects[1] - objects[0] < GROWTH
