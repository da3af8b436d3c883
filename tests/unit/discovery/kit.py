"""A registry that the tests steer: what it says, whether it is away, and how often it is asked; and the health port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from eventmicro.errors import Unavailable
from eventmicro.memory.registry import MemoryRegistry
from eventmicro.registry import Change, NodeRecord, ServiceRecord


class Steered(MemoryRegistry):
    """A memory registry of its own name that can be away, be slow, and refuse."""

    def __init__(self, name: str) -> None:
        super().__init__(f"memory://{name}")
        self.away = False
        self.calls: list[str] = []
        self.refusal: Exception | None = None
        self.news = asyncio.Event()
        self.watches = 0

    def _note(self, what: str) -> None:
        self.calls.append(what)
        self.news.set()
        if self.away:
            raise Unavailable("it is away", id=self.url)

    async def connect(self) -> None:
        if self.away:
            self._note("connect")
        await super().connect()

    async def register(self, service: ServiceRecord, *, ttl: float) -> None:
        self._note("register")
        if self.refusal is not None:
            raise self.refusal
        await super().register(service, ttl=ttl)

    async def deregister(self, service: ServiceRecord) -> None:
        self._note("deregister")
        await super().deregister(service)

    async def watch(self, name: str | None = None) -> AsyncIterator[Change]:
        self.watches += 1
        inner = super().watch(name)
        try:
            async for change in inner:
                yield change
        finally:
            self.watches -= 1
            await inner.aclose()  # type: ignore[attr-defined]


def record(node: str = "1", version: str = "1.0.0", name: str = "orders", **more: Any) -> ServiceRecord:
    return ServiceRecord(name=name, version=version, nodes=[NodeRecord(id=node, address=f"{name}.{node}")], **more)


async def ask(port: int, request: bytes) -> tuple[int, Any]:
    """Ask the health port; the status and the body of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), (json.loads(body) if body else None)
