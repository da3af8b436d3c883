"""Events: a Topic is an address and the type that travels on it. A queue shares events, no queue broadcasts them."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

from pydantic import BaseModel

from eventmicro import Client, Service, Topic

BROKER = os.environ.get("BROKER", "memory://")


class OrderPlaced(BaseModel):
    order_id: str
    amount: float


class OrderShipped(BaseModel):
    order_id: str


PLACED = Topic("market.placed", OrderPlaced)
SHIPPED = Topic("market.shipped", OrderShipped)

handled: Counter[str] = Counter()


def market() -> Service:
    """One instance of the service; a second one is the same code, started once more."""
    service = Service("market", broker=BROKER)

    @service.subscribe(PLACED)  # the service gets one copy, whatever the number of its instances
    async def bill(event: OrderPlaced) -> None:
        handled["billed"] += 1

    @service.subscribe(PLACED, queue=None)  # every instance gets its own
    async def refresh_cache(event: OrderPlaced) -> None:
        handled["caches refreshed"] += 1

    @service.subscribe("market.>")  # a wildcard: all that begins with market, whatever its type
    async def audit(event: dict[str, object]) -> None:
        handled["audited"] += 1

    return service


async def main() -> None:
    async with market(), market(), Client(BROKER) as client:
        for number in range(10):
            await client.publish(PLACED, OrderPlaced(order_id=f"{number}", amount=9.5))
        await client.publish(SHIPPED, OrderShipped(order_id="0"))
        await client.flush()
    # Leaving the block stops the services, and a stop first finishes what has arrived.
    print(f"10 orders placed, 1 shipped, 2 instances: {dict(sorted(handled.items()))}")


if __name__ == "__main__":
    asyncio.run(main())
