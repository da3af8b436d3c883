"""Very many calls in flight at the same time, also where others use up the machine."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.cpu import Processes
from benchmarks.load import Result
from benchmarks.messages import Order, Receipt, accept, orders
from benchmarks.scale.resident import Said, resident
from benchmarks.worker import Pids, until_input_ends
from eventmicro import Client, EventMicroError, Service

# How long each handler waits, in seconds, so that all the calls are in flight together.
PAUSE = 0.5
# How long a call may take, in seconds.
TIMEOUT = 120.0


async def serve(url: str, number: int) -> Result:
    """A server of which so many calls may wait."""
    said, service = Said(), Service("orders", broker=url)

    @service.rpc(concurrency=number)
    async def place(order: Order) -> Receipt:
        await asyncio.sleep(PAUSE)
        return accept(order)

    async with service:
        before = resident()
        await until_input_ends()
        added = resident() - before
    return {"said": said.lines, "added": added}


async def call(url: str, number: int, pids: Pids) -> Result:
    """Make so many calls at once, and see what becomes of each."""
    said, requests = Said(), orders()
    async with Client(url) as client:

        async def one(each: int) -> str:
            request = requests[each % len(requests)]
            try:
                receipt = await client.call("orders.place", request, Receipt, timeout=TIMEOUT)
            except EventMicroError as error:
                return type(error).__name__
            return "answered" if receipt.id == request.id else "wrong"

        await one(0)
        processes = Processes(pids | {"client": os.getpid()})
        before, cpu, started = resident(), processes.cpu(), time.perf_counter()
        outcomes = await asyncio.gather(*(one(each) for each in range(number)))
        return {
            "outcomes": {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)},
            "seconds": time.perf_counter() - started,
            "cpu_us": processes.cpu_per_message(cpu, number),
            "added": resident() - before,
            "said": said.lines,
        }


@contextmanager
def starved(others_a_core: int) -> Iterator[None]:
    """Others use up the machine meanwhile: processes that do nothing but count, so many for each core."""
    count = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(count) for _ in range(others_a_core * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()
