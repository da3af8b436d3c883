"""Balancing: calls that go to nodes of the caller's choice, and shift when one of them dies."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import AsyncExitStack

from eventmicro import Client, Service

BROKER = os.environ.get("BROKER", "memory://")


def bakery(id: str) -> Service:
    service = Service("bakery", id=id, broker=BROKER)

    @service.rpc
    async def bake() -> str:
        return id

    return service


async def main() -> None:
    async with AsyncExitStack() as stack, Client(BROKER, selector="round-robin") as client:
        for name in ("north", "west"):
            await stack.enter_async_context(bakery(name))
        south = bakery("south")
        await south.start()

        async def count(calls: int, selector: str | None = None, key: str | None = None) -> dict[str, int]:
            bakers = [await client.call("bakery.bake", None, str, selector=selector, key=key) for _ in range(calls)]
            return dict(sorted(Counter(bakers).items()))

        print("in turn:", await count(30))
        print("one customer:", len(await count(30, selector="rendezvous", key="customer-7")), "node")
        await south.stop()
        print("one less:", await count(30))


asyncio.run(main())
