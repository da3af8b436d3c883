"""Both sides of a stream for the acceptance tests: `serve`, or `read`, each until it is ended."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from eventmicro import Client, Service

KEEP_ALIVE = 2.0

service = Service("streaming", stop_timeout=0.3)


@service.rpc
async def count() -> AsyncIterator[int]:
    """All numbers, some at a time."""
    number = 0
    try:
        while True:
            yield number
            number += 1
            if number % 100 == 0:
                await asyncio.sleep(0.001)
    finally:
        print("count ended", flush=True)


@service.rpc
async def total(numbers: AsyncIterator[int]) -> int:
    """Their sum; says how reading them has ended."""
    taken = 0
    try:
        async for number in numbers:
            taken += number
            if taken == number:
                print("total began", flush=True)
    except BaseException as error:
        print("total ended by", type(error).__name__, flush=True)
        raise
    return taken


@service.after_start
def say_ready() -> None:
    print("ready", flush=True)


async def read() -> None:
    """Read and send for ever."""
    async with Client() as client, client.stream("streaming.total", reply=int, keep_alive=KEEP_ALIVE) as total:
        await total.send(1)
        async for number in client.stream("streaming.count", reply=int, keep_alive=KEEP_ALIVE):
            await total.send(number)
            if number == 1000:
                print("ready", flush=True)


if __name__ == "__main__":
    service.run() if sys.argv[1] == "serve" else asyncio.run(read())
