"""What the tests on registries share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import pytest

from eventmicro.errors import Unavailable
from eventmicro.registry import Change, EndpointRecord, NodeRecord, Registry, ServiceRecord
from tests.conftest import PATIENCE
from tests.servers.process import ServerProcess


def record(node: str = "1", name: str = "orders", **labels: str) -> ServiceRecord:
    endpoints = [EndpointRecord(name="quote", request={"type": "object"})]
    return ServiceRecord(name=name, version="1.0.0", endpoints=endpoints, nodes=[NodeRecord(id=node, metadata=labels)])


class Told(list[Change]):
    """What a watch has told so far."""

    @property
    def nodes(self) -> set[str]:
        """Who is there by that."""
        here: set[str] = set()
        for change in self:
            if change.service is not None:
                (here.discard if change.action == "delete" else here.add)(change.service.nodes[0].id)
        return here

    def count(self, action: Any) -> int:
        return [change.action for change in self].count(action)


@asynccontextmanager
async def watched(registry: Registry, name: str | None = None) -> AsyncIterator[Told]:
    told = Told()

    async def read() -> None:
        async with aclosing(registry.watch(name)) as changes:  # type: ignore[type-var]
            async for change in changes:
                told.append(change)

    reading = asyncio.create_task(read())
    try:
        async with asyncio.timeout(PATIENCE):
            while not told.count("synced"):
                await asyncio.sleep(0.01)
        yield told
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading


async def lost_while_it_hangs(registry: Registry, told: Told, server: ServerProcess) -> None:
    """A server that does not answer any more is lost, and nothing can be registered; when it is back, it is told so."""
    await registry.register(record(), ttl=60)
    server.pause()
    try:
        while not told.count("lost"):
            await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            await registry.register(record(), ttl=60)
    finally:
        server.resume()
    while told.count("synced") < 2:
        await asyncio.sleep(0.01)
    assert told.nodes == {"1"}


async def until_registered(registry: Registry, service: ServiceRecord, ttl: float = 60) -> None:
    """As services do: again and again, until the registry is back."""
    while True:
        try:
            return await registry.register(service, ttl=ttl)
        except Unavailable:
            await asyncio.sleep(0.05)
