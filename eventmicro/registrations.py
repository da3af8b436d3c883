"""Registrations: who is there, each node until its time is over, and who watches that.

For registries that keep this in their own process: what is registered there, or what it has heard of others. Times are
counted by this process's clock alone, from when something was heard. What others say is kept as far as there is room,
see `eventmicro.heard`: who is known goes on, and who comes beyond is left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Iterable

from eventmicro.heard import Heard
from eventmicro.registry import Change, ServiceRecord
from eventmicro.roster import Key, Roster

log = logging.getLogger(__name__)

# After how long a silence a node makes room for another one where there is none, in seconds: who floods a registry once
# and says long times does not keep others out for these.
SILENCE = 300.0
# How many changes may wait for a watcher before it is told what differs then, in place of each.
WAITING = 10_000


class Registrations:
    """The nodes that are known, and the watchers.

    Args:
        url: the registry's, for the log, where it hears of others.

    Attributes:
        lost: whether it cannot be known now who is there.
    """

    def __init__(self, url: str = "") -> None:
        self.roster = Roster()
        self.lost = False
        self._url = url
        self._heard = Heard()
        self._heard_at: dict[Key, float] = {}  # who is silent for the longest first
        self._is_told = False
        self._ttls: dict[Key, float] = {}
        self._expiring: dict[Key, asyncio.TimerHandle] = {}
        self._watchers: dict[Watcher, None] = {}

    def register(self, service: ServiceRecord, ttl: float) -> None:
        """Keep the nodes of a record for `ttl` seconds from now."""
        self._tell(self.roster.put(service))
        for node in service.nodes:
            self._keep((service.name, node.id), ttl)

    def hear(self, service: ServiceRecord, ttl: float) -> bool:
        """The same of a node of which others tell, as far as there is room; whether it is kept.

        Args:
            service: its record, with this node alone.
        """
        key = service.name, service.nodes[0].id
        if self._heard.is_full and self.roster.node(*key) != service and not self._make_room():
            self.leave_out(f"node {key[1]:.100} of {key[0]:.100}")
            if (known := self.roster.node(*key)) is None:
                return False
            service = known  # it is there, though for what is new of it there is no room
        if changes := self.roster.put(service):
            self._heard.put(key, self.roster.node(*key) or service)
            self._tell(changes)
        self._heard_at.pop(key, None)
        self._heard_at[key] = asyncio.get_running_loop().time()
        self._keep(key, ttl)
        return True

    def leave_out(self, what: str) -> None:
        """There is no room for something of which others tell; the log says so once."""
        if not self._is_told:
            self._is_told = True
            log.warning(
                "registry %s: %s is left out, as is whoever comes, until others are gone: %d nodes are heard of, with "
                "%d bytes of records, and that is all there is room for; see who may announce nodes there",
                self._url,
                what,
                len(self._heard),
                self._heard.size,
            )

    def remove(self, name: str, node: str) -> None:
        """Forget a node."""
        key = name, node
        self._stop_timer(key)
        self._ttls.pop(key, None)
        self._heard.remove(key)
        self._heard_at.pop(key, None)
        self._tell(self.roster.remove(name, node))

    def lose(self) -> None:
        """From now on nothing is heard: nobody's time is counted, and who watches is told."""
        self.lost = True
        for key in list(self._expiring):
            self._stop_timer(key)
        for watcher in self._watchers:
            watcher.lose()

    def restore(self) -> None:
        """It is heard again who is there: everybody known has his whole time from now, and who watches is told."""
        self.lost = False
        for key in self._ttls:
            self._start_timer(key)
        for watcher in self._watchers:
            watcher.start()

    async def watch(self, name: str | None) -> AsyncGenerator[Change, None]:
        """See `eventmicro.registry.Registry.watch`."""
        watcher = Watcher(self.roster, name)
        self._watchers[watcher] = None
        try:
            if self.lost:
                watcher.lose()
            while True:
                yield await watcher.next()
        finally:
            del self._watchers[watcher]

    def _keep(self, key: Key, ttl: float) -> None:
        self._ttls[key] = ttl
        if not self.lost:
            self._start_timer(key)

    def _make_room(self) -> bool:
        """Forget who was not heard of for long, as far as that is needed; whether there is room then."""
        since = asyncio.get_running_loop().time() - SILENCE
        while self._heard.is_full:
            longest = next(iter(self._heard_at), None)
            if longest is None or self._heard_at[longest] > since:
                return False
            self.remove(*longest)
        return True

    def _start_timer(self, key: Key) -> None:
        self._stop_timer(key)
        self._expiring[key] = asyncio.get_running_loop().call_later(self._ttls[key], self.remove, *key)

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
        self._name = name
        self._roster = roster
        self._told = Roster()  # as far as the reader has taken it
        self._waiting: deque[Change] = deque()
        self._most = WAITING
        self._lost = self._behind = False
        self._news = asyncio.Event()
        self.start()

    def put(self, change: Change) -> None:
        """One more change."""
        assert change.service is not None
        if self._lost or self._behind or self._name not in (None, change.service.name):
            return
        self._waiting.append(change)
        self._news.set()
        if len(self._waiting) > self._most:
            self._behind = True  # the reader is told what differs when it comes back
            self._waiting.clear()

    def start(self) -> None:
        """Tell what differs now from what was told."""
        here = self._roster.all() if self._name is None else self._roster.get(self._name)
        told = Roster()
        told.replace(self._told.all())
        self._waiting = deque([*told.replace(here), Change("synced")])
        self._most = len(self._waiting) + WAITING
        self._lost = self._behind = False
        self._news.set()

    def lose(self) -> None:
        """Tell that nothing is known now, in place of what waits."""
        self._waiting = deque([Change("lost")])
        self._lost = True
        self._news.set()

    async def next(self) -> Change:
        """The next change, as soon as there is one."""
        while not self._waiting:
            if self._behind:
                self.start()
            else:
                self._news.clear()
                await self._news.wait()
        change = self._waiting.popleft()
        if change.service is not None:
            self._told.apply(change.action, change.service)
        return change
