"""What stands around the code of docs/services.md."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel

from eventmicro import Client, Context, Contract, Reply, Service, Topic


class QuoteRequest(BaseModel):
    sku: str


class Watch(QuoteRequest): ...


class Quote(BaseModel):
    total: float


class Change(Quote): ...


class Orders(Contract, service="orders"):
    async def quote(self, request: QuoteRequest) -> Quote:
        raise NotImplementedError


def OrderPlaced(whatever: Any) -> QuoteRequest:
    return QuoteRequest(sku="tea")


PLACED = Topic("orders.placed", QuoteRequest)
region, request = "north", QuoteRequest(sku="tea")
service = Service("orders")


@service.rpc(name="quote")
async def answer(request: QuoteRequest, context: Context) -> Quote:
    context.reply_metadata["X-Cost"] = "1"
    return Quote(total=4.2)


@service.rpc
async def watch(request: Watch) -> AsyncIterator[Change]:
    yield Change(total=4.2)


async def handle(event: QuoteRequest) -> None: ...


async def third() -> None:
    "docs/services.md 1"


async def fourth(client: Client) -> None:
    "docs/services.md 2"
    assert (reply.value.total, reply.metadata["X-Cost"]) == (4.2, "1")


def fifth() -> None:
    "docs/services.md 3"
    assert quote(request) == Quote(total=4.2)
    client.close()


async def main() -> None:
    async with service, Client() as client:
        await third()
        await fourth(client)
        await asyncio.to_thread(fifth)
