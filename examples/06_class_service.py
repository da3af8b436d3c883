"""A class as a service: its methods are the endpoints and subscribers, its object carries the state."""

from __future__ import annotations

import asyncio
import os

from pydantic import BaseModel

from eventmicro import Service, Topic, rpc, subscribe

BROKER = os.environ.get("BROKER", "memory://")


class Delivered(BaseModel):
    sku: str
    quantity: int


class Article(BaseModel):
    sku: str


class Stock(BaseModel):
    quantity: int


DELIVERED = Topic("warehouse.delivered", Delivered)


class Warehouse:
    """Plain Python: made with what it needs, and tested without a broker."""

    def __init__(self, stock: dict[str, int]) -> None:
        self.stock = stock
        self.counted = asyncio.Event()

    @subscribe(DELIVERED)
    async def count(self, event: Delivered) -> None:
        self.stock[event.sku] = self.stock.get(event.sku, 0) + event.quantity
        self.counted.set()

    @rpc
    async def stock_of(self, article: Article) -> Stock:
        return Stock(quantity=self.stock.get(article.sku, 0))


async def main() -> None:
    warehouse = Warehouse({"apple": 3})
    service = Service("warehouse", broker=BROKER)
    service.add(warehouse)
    async with service:
        await service.publish(DELIVERED, Delivered(sku="apple", quantity=4))
        await warehouse.counted.wait()
        print("apples:", (await service.call("warehouse.stock_of", Article(sku="apple"), Stock)).quantity)
    print("pears:", (await warehouse.stock_of(Article(sku="pear"))).quantity)  # the method is still a method


if __name__ == "__main__":
    asyncio.run(main())
