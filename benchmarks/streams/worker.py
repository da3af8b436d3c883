"""One process of it: `python -m benchmarks.streams.worker VARIANT ROLE URL SECONDS MESSAGES '{"server": PID}'`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import import_module

from benchmarks.cpu import Processes, pin
from benchmarks.load import Result
from benchmarks.streams.peer import Asks, StreamPeer
from benchmarks.worker import RECEIVING, SENDING, Pids, say, until_input_ends

VARIANTS = {
    "eventmicro": "benchmarks.streams.eventmicro:EventMicro",
    "grpc.aio": "benchmarks.streams.grpc_aio:GrpcAio",
    "grpc.aio+protobuf": "benchmarks.streams.grpc_aio:GrpcAioProtobuf",
}
# How many calls are in flight.
IN_FLIGHT = 64


async def read(asks: Asks, messages: int) -> int:
    """Read a stream to its end; how many messages it had."""
    number = 0
    async for _ in asks.read(messages):
        number += 1
    return number


async def write(asks: Asks, messages: int) -> int:
    """Write a stream; how many messages were taken."""
    return await asks.write(messages)


async def call(asks: Asks, messages: int) -> int:
    """Call again and again, a tenth as often; how often."""
    each = max(messages // 10 // IN_FLIGHT, 1)

    async def some() -> None:
        for _ in range(each):
            await asks.call()

    await asyncio.gather(*(some() for _ in range(IN_FLIGHT)))
    return each * IN_FLIGHT


Work = Callable[[Asks, int], Awaitable[int]]

MEASURES: dict[str, Work] = {"server stream": read, "client stream": write, "call": call}


async def serve(peer: StreamPeer, url: str) -> Result:
    """The side that is measured too."""
    async with peer.server(url):
        await until_input_ends()
    return {}


async def measure(peer: StreamPeer, url: str, what: str, seconds: float, length: int, pids: Pids) -> Result:
    """Do it for so long, after a warm-up; a stream has so many messages."""
    async with peer.client(url) as asks:
        work = MEASURES[what]
        await work(asks, length)
        processes = Processes(pids | {"client": os.getpid()})
        before, started, messages, wrong = processes.cpu(), time.perf_counter(), 0, 0
        while not messages or time.perf_counter() - started < seconds:
            number = await work(asks, length)
            messages += number
            wrong += what != "call" and number != length
        elapsed = time.perf_counter() - started
        return {
            "per_second": messages / elapsed,
            "cpu_us": processes.cpu_per_message(before, messages),
            "messages": messages,
            "wrong": wrong,
        }


def main(variant: str, role: str, url: str, seconds: str = "0", length: str = "0", pids: str = "{}") -> None:
    """Play a role."""
    pin(RECEIVING if role == "server" else SENDING)
    module, _, name = VARIANTS[variant].partition(":")
    peer: StreamPeer = getattr(import_module(module), name)()
    load = (float(seconds), int(length), json.loads(pids))
    result = serve(peer, url) if role == "server" else measure(peer, url, role, *load)
    say(asyncio.run(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
