"""MemoryRegistry: who is there within this process; all who connect to one URL in one event loop share it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from urllib.parse import urlsplit

from eventmicro.checks import check_seconds
from eventmicro.errors import Unavailable, UsageError
from eventmicro.lifetime import Lifetime
from eventmicro.memory.hub import shared_hub
from eventmicro.registrations import Registrations
from eventmicro.registry import Change, ServiceRecord, check_record


class MemoryRegistry(Lifetime):
    """A connection to the registry of this process; see `eventmicro.registry.Registry`.

    Args:
        url: `memory://` or `memory://name`, as of a MemoryBroker.
    """

    def __init__(self, url: str = "memory://") -> None:
        parts = urlsplit(url)
        if parts.path or parts.query:
            raise UsageError(f"{url!r}: write 'memory://' or 'memory://name'; it takes no settings")
        self.url = url
        self._name = parts.netloc
        self._shared: Registrations | None = None

    async def connect(self) -> None:
        if self._shared is None:
            hub = shared_hub(self._name)
            if hub.registrations is None:
                hub.registrations = Registrations()
            self._shared = hub.registrations

    async def close(self) -> None:
        self._shared = None

    async def register(self, service: ServiceRecord, *, ttl: float) -> None:
        check_seconds("ttl", ttl)
        self._connected().register(check_record(service), ttl)

    async def deregister(self, service: ServiceRecord) -> None:
        shared = self._connected()
        for node in service.nodes:
            shared.remove(service.name, node.id)

    async def get_service(self, name: str) -> list[ServiceRecord]:
        return self._connected().roster.find(name, self.url)

    async def list_services(self) -> list[ServiceRecord]:
        return self._connected().roster.all()

    async def watch(self, name: str | None = None) -> AsyncIterator[Change]:
        async with aclosing(self._connected().watch(name)) as changes:
            async for change in changes:
                yield change

    def _connected(self) -> Registrations:
        if self._shared is None:
            raise Unavailable(f"{self.url} is not connected", id=self.url)
        return self._shared
