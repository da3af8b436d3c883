"""The four kinds of calls: one reply, a stream of replies, a stream of requests, and both; by signature alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from pydantic import BaseModel

from eventmicro import Client, NotFound, Service

BROKER = os.environ.get("BROKER", "memory://")


class Stock(BaseModel):
    name: str


class Price(BaseModel):
    cents: int


class Trade(BaseModel):
    name: str
    shares: int


class Worth(BaseModel):
    cents: int


PRICES = {"tea": [410, 412, 409], "salt": [95, 97, 96]}

service = Service("exchange", broker=BROKER)


@service.rpc
async def price(stock: Stock) -> Price:
    """A call: one request, one reply."""
    return Price(cents=PRICES[stock.name][0])


@service.rpc
async def watch(stock: Stock) -> AsyncIterator[Price]:
    """A server stream: one request, many replies."""
    if stock.name not in PRICES:
        raise NotFound(f"nobody trades in {stock.name}")
    try:
        while True:
            for cents in PRICES[stock.name]:
                yield Price(cents=cents)
    finally:
        print(f"server: nobody watches {stock.name} any more")


@service.rpc
async def portfolio(trades: AsyncIterator[Trade]) -> Worth:
    """A client stream: many requests, one reply."""
    return Worth(cents=sum([PRICES[trade.name][0] * trade.shares async for trade in trades]))


@service.rpc
async def trade(trades: AsyncIterator[Trade]) -> AsyncIterator[Worth]:
    """A bidirectional stream: many requests, many replies, in whatever order the handler likes."""
    async for each in trades:
        yield Worth(cents=PRICES[each.name][0] * each.shares)


async def main() -> None:
    async with service, Client(BROKER) as client:
        print("call:", await client.call("exchange.price", Stock(name="tea"), Price))

        seen: list[int] = []
        async with client.stream("exchange.watch", Stock(name="tea"), Price) as prices:
            async for each in prices:
                seen.append(each.cents)
                if len(seen) == 4:
                    break  # the block ends here, and with it the handler
        print("server stream:", seen)

        async with client.stream("exchange.portfolio", reply=Worth) as trades:
            for name in PRICES:
                await trades.send(Trade(name=name, shares=10))
            print("client stream:", await trades.reply())

        async with client.stream("exchange.trade", reply=Worth) as trading:
            await trading.send(Trade(name="salt", shares=1))
            print("bidirectional:", await anext(trading))
            await trading.send(Trade(name="salt", shares=100))
            print("bidirectional:", await anext(trading))
            await trading.end()
            print("bidirectional:", [each async for each in trading])

        try:
            async for _ in client.stream("exchange.watch", Stock(name="gold"), Price):
                pass
        except NotFound as error:
            print("error:", error.detail)


if __name__ == "__main__":
    asyncio.run(main())
