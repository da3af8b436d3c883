"""A canary: two versions of a service run side by side, and callers choose which one they ask."""

from __future__ import annotations

import asyncio
import os

from eventmicro import Client, Service, Unavailable
from eventmicro.discovery.filters import label, version

BROKER = os.environ.get("BROKER", "memory://")


def tax(number: str, rate: float, zone: str) -> Service:
    service = Service("tax", version=number, metadata={"zone": zone}, broker=BROKER)

    @service.rpc
    async def rate_of(country: str) -> float:
        return rate

    return service


async def main() -> None:
    async with tax("1.9.0", 0.19, "eu"), tax("1.10.0", 0.21, "us"), Client(BROKER) as client:
        print("stable:", await client.call("tax.rate_of", "NL", float, filters=[version("<1.10")]))
        print("canary:", await client.call("tax.rate_of", "NL", float, filters=[version("^1.10")]))
        print("newest:", await client.call("tax.rate_of", "NL", float, selector="newest"))
        print("in the eu:", await client.call("tax.rate_of", "NL", float, filters=[label("zone", "eu")]))
        try:
            await client.call("tax.rate_of", "NL", float, filters=[version("^2")])
        except Unavailable as error:
            print("second:", error.detail)


asyncio.run(main())
