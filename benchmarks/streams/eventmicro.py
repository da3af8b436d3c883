"""eventmicro, as a first program looks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.messages import Reading
from benchmarks.streams.peer import READINGS, Asks, Count, first, some
from eventmicro import Client, Service


class EventMicro:
    """pydantic models as JSON, over NATS."""

    @asynccontextmanager
    async def server(self, url: str) -> AsyncIterator[None]:
        service = Service("station", broker=url)

        @service.rpc
        async def give(request: Count) -> AsyncIterator[Reading]:
            for reading in some(READINGS, request.number):
                yield reading

        @service.rpc
        async def take(requests: AsyncIterator[Reading]) -> Count:
            number = 0
            async for _ in requests:
                number += 1
            return Count(number=number)

        @service.rpc
        async def one(request: Reading) -> Reading:
            return request

        async with service:
            yield

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Asks]:
        async with Client(url) as client:
            yield Asking(client)


class Asking:
    """The side that measures."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self, count: int) -> AsyncIterator[Reading]:
        return self._client.stream("station.give", Count(number=count), Reading)

    async def write(self, count: int) -> int:
        async with self._client.stream("station.take", reply=Count) as taking:
            for reading in some(READINGS, count):
                await taking.send(reading)
            return (await taking.reply()).number

    async def call(self) -> Reading:
        return await self._client.call("station.one", first(), Reading)
