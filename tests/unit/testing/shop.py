"""Three services that a world is made of in these tests, made anew for each."""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import BaseModel

from eventmicro import Conflict, Depends, Retry, Service, Topic


class Order(BaseModel):
    sku: str
    quantity: int = 1


class Reserved(BaseModel):
    sku: str
    left: int


class Invoice(BaseModel):
    sku: str
    cents: int


PLACED = Topic("shop.placed", Order, key="sku", id="sku")
RESERVED = Topic("shop.reserved", Reserved)
BILLED = Topic("shop.billed", Invoice)
LATER = Retry(attempts=3, backoff=60.0, factor=2.0, longest=600.0, jitter=0.0)


def shelf() -> dict[str, int]:
    """What is in stock."""
    return {"tea": 10, "salt": 1}


class Shop:
    """Orders are placed, stock is reserved for them, and they are billed."""

    def __init__(self) -> None:
        self.orders = Service("orders", broker="nats://nowhere.invalid:1")
        self.stock = Service("stock", registry="etcd://nowhere.invalid:1")
        self.billing = Service("billing")
        self.all = self.orders, self.stock, self.billing
        orders, stock, billing = self.all

        @orders.rpc
        async def place(order: Order) -> Reserved:
            await orders.publish(PLACED, order)
            return await orders.call("stock.reserve", order, Reserved)

        @stock.rpc
        async def reserve(order: Order, shelf: Annotated[dict[str, int], Depends(shelf)]) -> Reserved:
            if shelf[order.sku] < order.quantity:
                raise Conflict(f"no {order.sku} left")
            reserved = Reserved(sku=order.sku, left=shelf[order.sku] - order.quantity)
            await stock.publish(RESERVED, reserved)
            return reserved

        @stock.rpc
        async def count() -> None:
            await asyncio.Event().wait()

        @billing.subscribe(PLACED, retry=LATER)
        async def bill(order: Order) -> None:
            await billing.publish(BILLED, Invoice(sku=order.sku, cents=100 * order.quantity), metadata={"kind": "new"})
