"""What stands around the code of docs/codecs.md."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from eventmicro import Client, Compression, DecodeError, EncodeError, Service, Topic


@dataclass
class OrderPlaced:
    sku: str


@dataclass
class Quote:
    total: float


Photo = bytes
PLACED = Topic("orders.placed", OrderPlaced)
request = order = OrderPlaced("tea")
service = Service("orders")


@service.rpc(name="quote")
async def answer(order: OrderPlaced) -> Quote:
    return Quote(4.2)


"docs/codecs.md 2"


async def first(client: Client) -> None:
    global PLACED, service
    "docs/codecs.md 1"
    assert quote == Quote(4.2)
    assert client.broker is not None


async def third() -> None:
    "docs/codecs.md 3"
    assert PHOTOS.name == "photos.taken"
    assert service.name == "orders"


"docs/codecs.md 4"


async def main() -> None:
    async with service, Client() as client:
        await client.publish(Topic("clock.ticked", Tick), Tick(1, datetime.now(UTC)))
        await first(client)
        await third()
    Service("pages", codecs=[YamlCodec()])
