"""A contract with all four kinds of calls, and what implements it, for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from pydantic import BaseModel

from eventmicro import Context, Contract, NotFound, Service, rpc

URL = "memory://contracts"


class Number(BaseModel):
    value: int = 0


class Other(BaseModel):
    value: int = 0


class Orders(Contract, Protocol, service="orders", version="1.2.0"):
    """What the shop answers to."""

    @rpc(timeout=2.0, idempotent=True)
    async def quote(self, request: Number) -> Number:
        """The number itself."""
        ...

    @rpc(name="no-op")
    async def ping(self) -> None: ...
    def watch(self, request: Number) -> AsyncIterator[Number]: ...
    async def total(self, items: AsyncIterator[Number]) -> Number: ...
    def talk(self, lines: AsyncIterator[Number]) -> AsyncIterator[Number]: ...


class Handler:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.contexts: list[Context] = []

    async def quote(self, request: Number, context: Context) -> Number:
        self.contexts.append(context)
        if request.value == 404:
            raise NotFound("no such number")
        return request

    async def ping(self) -> None:
        self.asked.append("ping")

    async def watch(self, request: Number) -> AsyncIterator[Number]:
        try:
            for value in range(request.value):
                yield Number(value=value)
        finally:
            self.asked.append("watch ended")

    async def total(self, items: AsyncIterator[Number]) -> Number:
        total = 0
        async for item in items:
            if item.value == 404:
                raise NotFound("no such number")
            if item.value == 999:
                return Number(value=total)
            total += item.value
        return Number(value=total)

    async def talk(self, lines: AsyncIterator[Number]) -> AsyncIterator[Number]:
        try:
            async for line in lines:
                if line.value == 404:
                    raise NotFound("no such number")
                yield Number(value=-line.value)
        finally:
            self.asked.append("talk ended")


def make_service(handler: object, **options: str) -> Service:
    service = Service("orders", version="1.3.0", broker=URL, **options)
    service.implements(Orders, handler)
    return service
