"""What stands around the code of docs/discovery.md."""

from pydantic import BaseModel

from eventmicro import Client, Service


class QuoteRequest(BaseModel):
    sku: str


class Quote(BaseModel):
    total: float


class Pool:
    async def ping(self) -> None: ...


class Cache:
    size = 0


order = QuoteRequest(sku="tea")
pool, cache = Pool(), Cache()
service = Service("orders", version="1.2.3", metadata={"zone": "eu"})


@service.rpc
async def quote(request: QuoteRequest) -> Quote:
    return Quote(total=4.2)


"docs/discovery.md 3"


async def first() -> None:
    "docs/discovery.md 1"


async def second(client: Client) -> None:
    "docs/discovery.md 2"


async def main() -> None:
    async with service, Client() as client:
        await first()
        await second(client)
        health = await service.health()
        assert (health.ready, health.status) == (True, "degraded")
