"""Middleware: one function around calls and events, on all four sides: client, endpoint, publisher, subscriber."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from pydantic import BaseModel

from eventmicro import Context, Forbidden, Handler, Service, Topic, sides

BROKER = os.environ.get("BROKER", "memory://")


class Order(BaseModel):
    sku: str


class Receipt(BaseModel):
    number: int


ORDERED = Topic("parcels.ordered", Order)


async def trace(message: Any, context: Context, call_next: Handler) -> Any:
    """On every side."""
    print(f"> {context.side:<10} {context.topic}")
    try:
        return await call_next(message, context)
    finally:
        print(f"< {context.side:<10} {context.topic}")


@sides("client")
async def sign(message: Any, context: Context, call_next: Handler) -> Any:
    """Where calls go out: add a header."""
    context.metadata["Authorization"] = "Bearer open-sesame"
    return await call_next(message, context)


@sides("endpoint")
async def authorize(message: Any, context: Context, call_next: Handler) -> Any:
    """Where calls come in: look at it, and answer for the handler where it is wrong."""
    if context.metadata.get("Authorization") != "Bearer open-sesame":
        raise Forbidden("who are you?")
    return await call_next(message, context)


service = Service("parcels", broker=BROKER, middleware=[trace, sign, authorize])


@service.rpc
async def order(request: Order) -> Receipt:
    await service.publish(ORDERED, request)
    return Receipt(number=1)


@service.subscribe(ORDERED)
async def pack(event: Order) -> None:
    print(f"  packing {event.sku}")


async def main() -> None:
    async with service:
        receipt = await service.call("parcels.order", Order(sku="pear"), Receipt)
        print(f"  receipt {receipt.number}")


if __name__ == "__main__":
    asyncio.run(main())
