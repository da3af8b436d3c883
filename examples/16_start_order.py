"""Start-up order: a service that waits for what it needs, and a program that waits for both."""

from __future__ import annotations

import asyncio
import os

from eventmicro import Client, Service

BROKER = os.environ.get("BROKER", "memory://")

mint = Service("mint", broker=BROKER)
till = Service("till", broker=BROKER, needs=["mint"])  # takes its first call when the mint answers


@mint.rpc
async def coin() -> int:
    return 2


@till.rpc
async def change(euros: int) -> list[int]:
    return [await till.call("mint.coin", None, int)] * (euros // 2)


@till.health_check
async def has_coins() -> bool:
    return await till.call("mint.coin", None, int) > 0


async def main() -> None:
    async with Client(BROKER) as client:
        starting = asyncio.create_task(till.start())
        await asyncio.sleep(0.1)
        print("the till is", "there" if starting.done() else "waiting for the mint")
        await mint.start()
        await client.ready("mint", "till", timeout=10)
        await starting
        print("change:", await client.call("till.change", 6, list[int]))
        health = await till.health()
        print("the till is", health.status, [check.name for check in health.checks if check.ok])
        for service in (till, mint):
            await service.stop()


asyncio.run(main())
