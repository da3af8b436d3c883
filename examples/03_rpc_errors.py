"""Calls: each has exactly one outcome, a reply or an error with a type. Nothing is swallowed, nothing hangs."""

from __future__ import annotations

import asyncio
import os

from pydantic import BaseModel, Field

from eventmicro import (
    BadRequest,
    CallTimeout,
    Client,
    InternalError,
    NotFound,
    Service,
    ServiceError,
    Unavailable,
)

BROKER = os.environ.get("BROKER", "memory://")
PRICES = {"apple": 0.5, "pear": 0.75}


class QuoteRequest(BaseModel):
    sku: str
    quantity: int = Field(default=1, ge=1)


class Quote(BaseModel):
    total: float


service = Service("grocer", broker=BROKER)


@service.rpc
async def quote(request: QuoteRequest) -> Quote:
    if request.sku not in PRICES:
        raise NotFound(f"no article {request.sku!r}")
    return Quote(total=PRICES[request.sku] * request.quantity)


@service.rpc
async def reserve(request: QuoteRequest) -> None:
    raise ServiceError("this one is spoken for", code=423)  # any code you like


@service.rpc
async def broken(request: QuoteRequest) -> Quote:
    raise ZeroDivisionError("a secret of the server")  # its log gets the traceback, its caller only that it failed


@service.rpc
async def slow(request: QuoteRequest) -> Quote:
    await asyncio.Event().wait()  # for ever: but no longer than its caller waits, then it is cancelled
    return Quote(total=0)


async def main() -> None:
    pear = QuoteRequest(sku="pear", quantity=4)
    async with service, Client(BROKER) as client:
        print("reply       ", (await client.call("grocer.quote", pear, Quote)).total)
        try:
            await client.call("grocer.quote", QuoteRequest(sku="kiwi"), Quote)
        except NotFound as error:
            print("NotFound    ", error.detail)
        try:
            await client.call("grocer.quote", {"sku": "pear", "quantity": 0}, Quote)
        except BadRequest as error:
            print("BadRequest  ", error.errors[0]["loc"], error.errors[0]["msg"])
        try:
            await client.call("grocer.reserve", pear)
        except ServiceError as error:
            print("ServiceError", error.code, error.detail)
        try:
            await client.call("grocer.broken", pear, Quote)
        except InternalError as error:
            print("Internal    ", error.detail)
        try:
            await client.call("grocer.slow", pear, Quote, timeout=0.2)
        except CallTimeout as error:
            print("CallTimeout ", error.id)
        try:
            await client.call("nobody.home", pear, Quote)  # known at once, without waiting for the timeout
        except Unavailable as error:
            print("Unavailable ", error.id, "retryable" if error.retryable else "final")


if __name__ == "__main__":
    asyncio.run(main())
