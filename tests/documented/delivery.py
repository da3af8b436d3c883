"""What stands around the code of docs/delivery.md."""

from contextlib import suppress
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel

from eventmicro import Client, Publish, Reject, Retry, Service, Topic, Unsupported


class OrderPlaced(BaseModel):
    order_id: str


class Charged(BaseModel):
    order_id: str


PLACED = Topic("orders.placed", OrderPlaced, key="order_id")
CHARGED = Topic("orders.charged", Charged, key="order_id")
service = Service("orders")

"docs/delivery.md 1"


@service.subscribe(PLACED, name="refuse")
async def refuse(event: OrderPlaced) -> None:
    raise Reject("no such account")


"docs/delivery.md 2"


"docs/delivery.md 3"


async def follow(client: Client) -> None:
    "docs/delivery.md 4"


async def main() -> None:
    async with service, Client() as client:
        await client.publish(PLACED, OrderPlaced(order_id="1"))
        await mend(client)
        assert not client.broker.capabilities.replay
        with suppress(Unsupported):
            await follow(client)
