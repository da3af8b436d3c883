"""Very many calls and events in a row, and the memory of those who make and take them meanwhile."""

from __future__ import annotations

import asyncio
import os
from itertools import cycle

from benchmarks.load import IN_FLIGHT, Result, Stream
from benchmarks.messages import Progress, Receipt, orders, readings
from benchmarks.scale.handlers import MADE, topic
from benchmarks.scale.resident import Said, resident
from benchmarks.worker import Pids
from eventmicro import Client, Service

# How often the memory is looked at.
LOOKS = 20


class Memory:
    """The memory of some processes, by what they do, as it was after each of so many parts of the messages."""

    def __init__(self, pids: Pids, messages: int) -> None:
        self._pids = pids
        self._step = max(messages // LOOKS, 1)
        self._next = 0
        self.bytes: dict[str, list[int]] = {name: [] for name in pids}

    def look(self, done: int) -> None:
        """So many messages are done."""
        if done >= self._next:
            self._next += self._step
            for name, pid in self._pids.items():
                self.bytes[name].append(resident(pid))


async def call(url: str, number: int, pids: Pids) -> Result:
    """Make so many calls."""
    said, memory, source, done = Said(), Memory(pids | {"client": os.getpid()}, number), cycle(orders()), 0

    async def again() -> None:
        nonlocal done
        while done < number:
            done += 1
            order = next(source)
            receipt = await client.call("orders.place0", order, Receipt)
            assert receipt.id == order.id
            memory.look(done)

    async with Client(url) as client:
        await asyncio.gather(*(again() for _ in range(IN_FLIGHT)))
    return {"messages": done, "bytes": memory.bytes, "said": said.lines}


async def publish(url: str, number: int, pids: Pids) -> Result:
    """Publish so many events."""
    said, stream, memory = Said(), Stream(), Memory(pids | {"publisher": os.getpid()}, number)
    station, place = Service("station", broker=url), topic(0)

    @station.subscribe(MADE)
    async def hear(progress: Progress) -> None:
        stream.hear(progress)
        memory.look(progress.received)

    async with station:
        await stream.publish(station.publisher(place).publish, cycle(readings()), lambda: stream.sent < number)
        await stream.until_behind(0)
    return {"messages": stream.sent, "bytes": memory.bytes, "said": said.lines}
