"""The load of durable events: a backlog that is worked off, and publishing that waits for the broker's word.

The broker itself is asked afterwards: what was published is stored, what was taken is settled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice

from benchmarks.cpu import Processes
from benchmarks.garbage import set_aside
from benchmarks.load import IN_FLIGHT, Result, many_at_once
from benchmarks.messages import Backlog, Reading, readings
from benchmarks.peer import DurablePeer, Publishing, Store

# How many events are published together, in runs of a second and more; in shorter ones it is their part of it.
BATCH = 2_000
# The part of a backlog that is not timed.
WARM_UP = 0.2
# How long a backlog may take, in seconds, and how long its last acknowledgements have before the consumer is closed.
PATIENCE = 60.0
GRACE = 1.0


@dataclass(frozen=True)
class Run:
    """One rival over one broker, with a topic and a queue of its own, both called `name`.

    `filler` is who publishes what it consumes.
    """

    peer: DurablePeer
    filler: DurablePeer
    store: Store
    url: str
    name: str
    processes: Processes


async def consume(run: Run, least: float) -> Result:
    """Fill the queue with so many events, or a few more, then take and acknowledge all of them."""
    watch = Stopwatch(run.processes)
    async with queue(run):
        total = await fill(run, least)
        warm_up = int(total * WARM_UP)
        backlog = Backlog({warm_up: watch.start, total: watch.stop})
        set_aside()
        async with run.peer.consumer(run.url, run.name, backlog.take):
            async with asyncio.timeout(PATIENCE):
                await watch.stopped.wait()
            await last_acknowledged(run)
        unsettled = await run.store.unsettled(run.url, run.name)
    return watch.result(total - warm_up) | {
        "messages": total,
        "received": backlog.received,
        "wrong": int(backlog.numbers != sum(reading.number for reading in islice(cycle(readings()), total))),
        "unsettled": unsettled,
    }


async def fill(run: Run, least: float) -> int:
    """Publish so many events, or a few more; how many they are."""
    async with publisher(run, run.filler) as source:
        while source.published < least:
            await source.batch(int(min(BATCH, least)))
    return source.published


async def publish(run: Run, seconds: float) -> Result:
    """Publish for so long, `IN_FLIGHT` at a time."""
    async with queue(run), publisher(run, run.peer) as source:
        return await measure(run, source, source.one, seconds, IN_FLIGHT)


async def publish_many(run: Run, seconds: float) -> Result:
    """Publish for so long, `BATCH` together, one batch after the other."""
    async with queue(run), publisher(run, run.peer) as source:
        batch = partial(source.batch, max(1, int(BATCH * min(1.0, seconds))))
        return await measure(run, source, batch, seconds, 1)


async def measure(
    run: Run, source: Source, step: Callable[[], Awaitable[None]], seconds: float, in_flight: int
) -> Result:
    """Take one step after the other; the rate is of what was confirmed."""
    set_aside()
    await many_at_once(step, seconds / 4, in_flight)  # warm up
    watch, before = Stopwatch(run.processes), source.published
    watch.start()
    await many_at_once(step, seconds, in_flight)
    watch.stop()
    stored = await run.store.stored(run.url, run.name)
    return watch.result(source.published - before) | {"messages": source.published, "stored": stored}


class Source:
    """Publishes readings and counts them."""

    def __init__(self, publishing: Publishing) -> None:
        self.published = 0
        self._publishing = publishing
        self._readings = cycle(readings())

    async def one(self) -> None:
        """Publish the next one."""
        await self._publishing.one(next(self._readings))
        self.published += 1

    async def batch(self, size: int) -> None:
        """Publish the next ones together."""
        await self._publishing.many(list(islice(self._readings, size)))
        self.published += size


class Stopwatch:
    """Time and CPU time between two moments."""

    def __init__(self, processes: Processes) -> None:
        self.stopped = asyncio.Event()
        self._processes = processes

    def start(self) -> None:
        """The first moment."""
        self._cpu, self._started = self._processes.cpu(), time.perf_counter()

    def stop(self) -> None:
        """The second moment."""
        self._elapsed = time.perf_counter() - self._started
        self._used = self._processes.cpu()
        self.stopped.set()

    def result(self, messages: int) -> Result:
        """The rate of the messages between, and what each has cost."""
        cpu = {name: (used - self._cpu[name]) / messages * 1e6 for name, used in self._used.items()}
        return {"per_second": messages / self._elapsed, "cpu_us": cpu}


@asynccontextmanager
async def queue(run: Run) -> AsyncIterator[None]:
    """The rival's queue, made by its consumer; afterwards the broker is rid of it."""
    async with run.peer.consumer(run.url, run.name, unexpected):
        pass
    try:
        yield
    finally:
        await run.store.remove(run.url, run.name)


@asynccontextmanager
async def publisher(run: Run, peer: DurablePeer) -> AsyncIterator[Source]:
    """What publishes to the run's topic, in this way."""
    async with peer.publisher(run.url, run.name) as publishing:
        yield Source(publishing)


async def last_acknowledged(run: Run) -> None:
    """Wait for the last acknowledgements; a rival that sends them when it is closed does so after this."""
    end = time.perf_counter() + GRACE
    while time.perf_counter() < end and await run.store.unsettled(run.url, run.name):
        await asyncio.sleep(0.05)


def unexpected(reading: Reading) -> None:
    """What takes the events before any was published."""
    raise AssertionError(f"{reading} came from a queue that is new")
