"""What stands around the code of docs/resilience.md."""

from pydantic import BaseModel

from eventmicro import Service


class Order(BaseModel):
    sku: str


class Quote(BaseModel):
    total: float


class Receipt(BaseModel):
    number: int


NO_QUOTE = Quote(total=0)
order = Order(sku="tea")
service = Service("orders")


@service.rpc
async def quote(order: Order) -> Quote:
    return Quote(total=4.2)


@service.rpc
async def pay(order: Order) -> Receipt:
    return Receipt(number=1)


async def first() -> None:
    "docs/resilience.md 1"


async def main() -> None:
    async with service:
        await first()
