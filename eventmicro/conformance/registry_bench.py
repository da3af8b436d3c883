"""What a case of the registries' suite works with: its own service, the registries that it opens, and what they see."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any

from eventmicro.conformance.bench import Server
from eventmicro.errors import NotFound
from eventmicro.registry import Change, EndpointRecord, NodeRecord, Registry, ServiceRecord

# How long something that is to be seen may take, in seconds.
SEEN = 30.0

MakeRegistry = Callable[[], Registry]

ENDPOINT = EndpointRecord(
    name="quote",
    request={"type": "object", "properties": {"größe": {"type": "number"}}},
    reply={"type": "string"},
    metadata={"note": "Überschrift, “quoted”"},
)


class RegistryBench:
    """One case's own service, and the registries that it opens, closed at its end."""

    def __init__(self, make: MakeRegistry, stack: AsyncExitStack, ttl: float, server: Server | None) -> None:
        self.name = f"conformance-{secrets.token_hex(6)}"
        self.ttl = ttl
        self._make = make
        self._stack = stack
        self._server = server

    async def registry(self) -> Registry:
        """A new connected registry."""
        registry = self._make()
        self._stack.push_async_callback(registry.close)
        await registry.connect()
        return registry

    def record(self, node: str = "1", version: str = "1.0.0", **more: Any) -> ServiceRecord:
        """A version of this case's service with one node."""
        return ServiceRecord(
            name=more.pop("name", self.name),
            version=version,
            endpoints=more.pop("endpoints", [ENDPOINT]),
            nodes=[NodeRecord(id=node, address=f"{self.name}.{node}", metadata=more.pop("labels", {}))],
            **more,
        )

    async def watch(self, registry: Registry, name: str | None = "") -> Watching:
        """A watch of this case's service, or of all, that has told what is there."""
        watching = Watching(registry.watch(self.name if name == "" else name), self.name)
        self._stack.push_async_callback(watching.close)
        await watching.until(lambda change: change.action == "synced")
        return watching

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server


class Watching:
    """What a watch has told of this case's service."""

    def __init__(self, changes: AsyncIterator[Change], name: str) -> None:
        self.told: list[Change] = []
        self._name = name
        self._taken = 0
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read(changes))

    async def next(self) -> tuple[str, str]:
        """The next change of a node: what, and its id."""
        change = await self.until(lambda change: change.service is not None)
        assert change.service is not None
        return change.action, change.service.nodes[0].id

    async def until(self, wanted: Callable[[Change], bool]) -> Change:
        """The next change of this kind; those before it are passed over."""
        async with asyncio.timeout(SEEN):
            while True:
                while self._taken < len(self.told):
                    self._taken += 1
                    if wanted(change := self.told[self._taken - 1]):
                        return change
                self._news.clear()
                await self._news.wait()

    async def close(self) -> None:
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading

    async def _read(self, changes: AsyncIterator[Change]) -> None:
        async with aclosing(changes):  # type: ignore[type-var]
            async for change in changes:
                if change.service is None or change.service.name == self._name:
                    self.told.append(change)
                    self._news.set()


async def sees(registry: Registry, name: str, nodes: set[str]) -> list[ServiceRecord]:
    """What is registered under a name, as soon as it is these nodes."""
    found: list[ServiceRecord] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(SEEN):
            while True:
                with suppress(NotFound):
                    found = await registry.get_service(name)
                    if {node.id for service in found for node in service.nodes} == nodes:
                        return found
                await asyncio.sleep(0.02)
    raise AssertionError(f"expected the nodes {sorted(nodes)}, found {found}")


async def sees_none(registry: Registry, name: str) -> None:
    """Return when nothing is registered under a name any more."""
    with suppress(NotFound):
        async with asyncio.timeout(SEEN):
            while True:
                await registry.get_service(name)
                await asyncio.sleep(0.02)
