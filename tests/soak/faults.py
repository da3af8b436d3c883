"""Breaks and mends what a plan says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.servers import FaultProxy
from tests.servers.cluster import NODES, Cluster
from tests.soak.facts import Facts
from tests.soak.patience import aside, stop
from tests.soak.plan import Fault
from tests.soak.subscribers import SubscriberProcess


class Faults:
    """What can be broken of one cluster, its connections and its subscribers.

    Args:
        proxies: those in front of the nodes, in their order.
        facts: gets to know when no majority can be reached.
    """

    def __init__(
        self,
        cluster: Cluster[Any],
        proxies: Sequence[FaultProxy],
        subscribers: Sequence[SubscriberProcess],
        facts: Facts,
    ) -> None:
        self._cluster, self._proxies, self._subscribers, self._facts = cluster, proxies, subscribers, facts

    async def apply(self, fault: Fault) -> None:
        """Break it, wait, mend it; return when all are there again."""
        await {
            "node killed": self._kill,
            "two nodes killed": self._kill,
            "node frozen": self._freeze,
            "nodes restarted in turn": self._restart_in_turn,
            "connections cut": self._cut,
            "connections silent": self._silence,
            "subscriber killed": self._kill_subscriber,
            "subscriber frozen": self._freeze_subscriber,
            "subscriber restarted": self._restart_subscriber,
        }[fault.kind](fault)

    async def _kill(self, fault: Fault) -> None:
        async with self._away(len(fault.nodes) > NODES // 2):
            await aside(self._cluster.kill, *fault.nodes)
            await asyncio.sleep(fault.seconds)
            await aside(self._cluster.start, *fault.nodes)

    async def _freeze(self, fault: Fault) -> None:
        (node,) = fault.nodes
        await aside(self._cluster.freeze, node)
        await asyncio.sleep(fault.seconds)
        await aside(self._cluster.thaw, node)

    async def _restart_in_turn(self, fault: Fault) -> None:
        for node in fault.nodes:
            await aside(stop, self._cluster.nodes[node])
            await aside(self._cluster.start, node)
            await asyncio.sleep(fault.seconds)

    async def _cut(self, fault: Fault) -> None:
        """Reset the connections, and refuse new ones."""
        async with self._away(len(fault.nodes) == NODES):
            for node in fault.nodes:
                await self._proxies[node].stop()
            await asyncio.sleep(fault.seconds)
            for node in fault.nodes:
                await self._proxies[node].start()

    async def _silence(self, fault: Fault) -> None:
        """Let nothing through, and no connection end."""
        async with self._away(len(fault.nodes) == NODES):
            for node in fault.nodes:
                self._proxies[node].blackhole = True
            await asyncio.sleep(fault.seconds)
            for node in fault.nodes:
                self._proxies[node].blackhole = False

    async def _kill_subscriber(self, fault: Fault) -> None:
        subscriber = self._subscribers[fault.subscriber]
        await aside(subscriber.kill)
        await asyncio.sleep(fault.seconds)
        await aside(subscriber.start)

    async def _freeze_subscriber(self, fault: Fault) -> None:
        subscriber = self._subscribers[fault.subscriber]
        await aside(subscriber.pause)
        await asyncio.sleep(fault.seconds)
        await aside(subscriber.resume)

    async def _restart_subscriber(self, fault: Fault) -> None:
        subscriber = self._subscribers[fault.subscriber]
        await aside(stop, subscriber)
        await aside(subscriber.start)

    @asynccontextmanager
    async def _away(self, most: bool) -> AsyncIterator[None]:
        """Note that no majority is to be reached meanwhile, if that is so."""
        since = time.monotonic()
        try:
            yield
        finally:
            if most:
                self._facts.away.append((since, time.monotonic()))
