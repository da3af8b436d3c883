"""MemoryRegistry: who is there within this process; all who connect to one URL in one event loop share it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from urllib.parse import urlsplit

from eventmicro.checks import check_seconds
from eventmicro.errors import NotFound, Unavailable, UsageError
from eventmicro.lifetime import Lifetime
from eventmicro.memory.hub import shared_hub
from eventmicro.registry import Change, ServiceRecord, check_record
from eventmicro.roster import Key, Roster

# How many changes may wait for a watcher before it is told what differs then, in place of each.
WAITING = 10_000


class Registrations:
    """What is registered at one URL, each node until its time is over, and who watches."""

    def __init__(self) -> None:
        self.roster = Roster()
        self._expiring: dict[Key, asyncio.TimerHandle] = {}
        self._watchers: dict[Watcher, None] = {}

    def register(self, service: ServiceRecord, ttl: float) -> None:
        self._tell(self.roster.put(service))
        loop = asyncio.get_running_loop()
        for node in service.nodes:
            key = service.name, node.id
            self._stop_timer(key)
            self._expiring[key] = loop.call_later(ttl, self.remove, *key)

    def remove(self, name: str, node: str) -> None:
        self._stop_timer((name, node))
        self._tell(self.roster.remove(name, node))

    def watch(self, name: str | None) -> Watcher:
        watcher = Watcher(self.roster, name)
        self._watchers[watcher] = None
        return watcher

    def leave(self, watcher: Watcher) -> None:
        self._watchers.pop(watcher, None)

    def _stop_timer(self, key: Key) -> None:
        if (timer := self._expiring.pop(key, None)) is not None:
            timer.cancel()

    def _tell(self, changes: Iterable[Change]) -> None:
        for change in changes:
            for watcher in self._watchers:
                watcher.put(change)


class Watcher:
    """The changes that wait for one reader."""

    def __init__(self, roster: Roster, name: str | None) -> None:
        self.name = name
        self._roster = roster
        self._told = Roster()
        self._waiting: deque[Change] = deque()
        self._news = asyncio.Event()
        self._start()

    def put(self, change: Change) -> None:
        assert change.service is not None
        if self.name not in (None, change.service.name):
            return
        self._waiting.append(change)
        self._news.set()

    async def next(self) -> Change:
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        if len(self._waiting) > WAITING:
            self._start()
        change = self._waiting.popleft()
        if change.service is not None:
            self._take_in(change, change.service)
        return change

    def _start(self) -> None:
        """Tell what differs now from what was told."""
        here = self._roster.all() if self.name is None else self._roster.get(self.name)
        self._waiting = deque([*self._told.replace(here), Change("synced")])
        self._news.set()

    def _take_in(self, change: Change, service: ServiceRecord) -> None:
        if change.action == "delete":
            self._told.remove(service.name, service.nodes[0].id)
        else:
            self._told.put(service)


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
        if found := self._connected().roster.get(name):
            return list(found)
        raise NotFound(f"service {name!r}: no node of it is registered", id=self.url)

    async def list_services(self) -> list[ServiceRecord]:
        return self._connected().roster.all()

    async def watch(self, name: str | None = None) -> AsyncIterator[Change]:
        shared = self._connected()
        watcher = shared.watch(name)
        try:
            while True:
                yield await watcher.next()
        finally:
            shared.leave(watcher)

    def _connected(self) -> Registrations:
        if self._shared is None:
            raise Unavailable(f"{self.url} is not connected", id=self.url)
        return self._shared
