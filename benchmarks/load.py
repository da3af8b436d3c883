"""The load: calls, one after the other and 64 at a time, and a stream of events. Every answer is looked at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import cycle, islice
from typing import Any

from benchmarks.cpu import Processes
from benchmarks.garbage import set_aside
from benchmarks.messages import STEP, WINDOW, Order, Progress, orders, readings
from benchmarks.peer import Call, Publish

IN_FLIGHT = 64
# Calls before the timed ones, one by one and `IN_FLIGHT` at a time; all their ids differ.
CHECKED_ONE_BY_ONE = 100
CHECKED_AT_ONCE = 1_280
# How many events are published before the publisher lets its event loop turn.
BURST = 128
# How long the last events may take to arrive, in seconds.
PATIENCE = 20.0

Result = dict[str, Any]


async def many_at_once(do: Callable[[], Awaitable[None]], seconds: float, in_flight: int = IN_FLIGHT) -> None:
    """Do it again and again for so long, and at least once, `in_flight` at a time."""
    goes_on = until(seconds)

    async def again() -> None:
        await do()
        while goes_on():
            await do()

    await asyncio.gather(*(again() for _ in range(in_flight)))


class Caller:
    """Makes calls and compares every reply with its request."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._orders = cycle(orders())
        self.calls = 0
        self.wrong = 0

    async def measure(self, seconds: float, processes: Processes) -> Result:
        """Check, then call `IN_FLIGHT` at a time for so long, then one by one for half as long."""
        await self._one_by_one(islice(self._orders, CHECKED_ONE_BY_ONE))
        checked = islice(self._orders, CHECKED_AT_ONCE)
        await asyncio.gather(*(self._one_by_one(checked) for _ in range(IN_FLIGHT)))
        checks = self.calls
        set_aside()
        await many_at_once(self._next, seconds / 4)  # warm up

        before, processes_before, started = self.calls, processes.cpu(), time.perf_counter()
        await many_at_once(self._next, seconds)
        elapsed, calls = time.perf_counter() - started, self.calls - before
        cpu = processes.cpu_per_message(processes_before, calls)

        latencies = await self._sequential(seconds / 2)
        return {
            "per_second": calls / elapsed,
            "p50_us": quantile(latencies, 0.50) * 1e6,
            "p99_us": quantile(latencies, 0.99) * 1e6,
            "cpu_us": cpu,
            "messages": self.calls,
            "checked": checks,
            "wrong": self.wrong,
        }

    async def _one_by_one(self, some: Any) -> None:
        for order in some:
            await self._once(order)

    async def _sequential(self, seconds: float) -> list[float]:
        now = time.perf_counter()
        end, latencies = now + seconds, []
        while now < end:
            await self._next()
            now, before = time.perf_counter(), now
            latencies.append(now - before)
        return sorted(latencies)

    async def _next(self) -> None:
        await self._once(next(self._orders))

    async def _once(self, order: Order) -> None:
        receipt = await self._call(order)
        self.calls += 1
        if receipt.id != order.id:
            self.wrong += 1


class Stream:
    """Publishes events, never more than `WINDOW` ahead of the subscriber."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self._moved = asyncio.Event()

    def hear(self, progress: Progress) -> None:
        """Take the subscriber's report."""
        self.received = progress.received
        self._moved.set()

    async def measure(self, publish: Publish, seconds: float, processes: Processes) -> Result:
        """Publish for so long; the rate is of what arrived."""
        source = cycle(readings())
        set_aside()
        await self.publish(publish, source, until(seconds / 4))  # warm up
        await self.until_behind(0)

        before, processes_before, started = self.sent, processes.cpu(), time.perf_counter()
        await self.publish(publish, source, until(seconds))
        await self.until_behind(0)
        elapsed, messages = time.perf_counter() - started, self.received - before
        return {
            "per_second": messages / elapsed,
            "cpu_us": processes.cpu_per_message(processes_before, messages),
            "messages": self.sent,
        }

    async def publish(self, publish: Publish, source: Any, goes_on: Callable[[], bool]) -> None:
        """Publish in steps, so that the subscriber's last report tells of the last event."""
        await self._step(publish, source)
        while goes_on():
            await self._step(publish, source)

    async def _step(self, publish: Publish, source: Any) -> None:
        await self.until_behind(WINDOW - STEP)
        for _ in range(STEP // BURST):
            for reading in islice(source, BURST):
                await publish(reading)
            await asyncio.sleep(0)
        self.sent += STEP

    async def until_behind(self, limit: int) -> None:
        """Wait until no more than `limit` events are on their way, or nothing has moved for too long."""
        while self.sent - self.received > limit:
            self._moved.clear()
            async with asyncio.timeout(PATIENCE):
                await self._moved.wait()


def until(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds from now are not over yet."""
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() < end


def quantile(ordered: list[float], part: float) -> float:
    """The value below which this part of the values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
