"""What stands around the code of docs/streams.md."""

import logging
from collections.abc import AsyncIterator

from pydantic import BaseModel

from eventmicro import Client, Router, Service


class QuoteRequest(BaseModel):
    sku: str


class Quote(BaseModel):
    total: float


class Item(BaseModel):
    price: float


class Sum(Quote): ...


class Line(BaseModel):
    text: str


log = logging.getLogger(__name__)

"docs/streams.md 3"

service = Service("orders", middleware=[count_messages])
chat = Service("chat")

"docs/streams.md 1"

chat.rpc(talk)


async def second(client: Client) -> None:
    "docs/streams.md 2"
    assert sum == Sum(total=2.0)


async def main() -> None:
    async with service, chat, Client() as client:
        await second(client)
