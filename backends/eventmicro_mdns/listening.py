"""Listening: who has announced himself on the network, each asked again in time, for nobody tells of a death.

DNS-SD keeps the name of a service for twenty minutes. So a name is a hint only: behind each is a task that asks for its
record until the name is withdrawn, and takes the node out when no answer comes. What was heard counts for as long as it
says itself, by this process's clock, and is asked for anew before that is over: so who died is gone when it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from zeroconf import ServiceStateChange, Zeroconf, current_time_millis
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from eventmicro.heard import NODES
from eventmicro.registrations import Registrations
from eventmicro.registry import ServiceRecord
from eventmicro.roster import Key, Reader
from eventmicro_mdns.packing import label_of, unpack

# How long after the beginning those who are there have had time to answer, in seconds.
SETTLE = 1.5
# How long a node has time to answer, in seconds; it is asked several times meanwhile.
ANSWER = 3.0
# How long before its end a record is asked for anew, as a part of its time, at least as long as an answer may take, but
# no more than half of it; and how much later than its end an answer may come, in seconds.
EARLY = 0.2
LATE = 0.8
# The type and the class of the DNS record in which ours are.
TXT, IN = 16, 1
# How often a node is looked for that does not answer, in seconds.
SEEK = 10.0
# For how long DNS keeps what was withdrawn, and how often it is looked whether it has come back.
GOODBYE = 1.2
LOOKS = 4


class Listening:
    """The nodes that are heard of on one network.

    Args:
        type: the type of service, as `_eventmicro._tcp.local.`.
        on_text: told of each name and the text that is announced under it.
    """

    def __init__(self, zeroconf: AsyncZeroconf, type: str, url: str, on_text: Callable[[str, bytes], None]) -> None:
        self.table = Registrations(url)
        self._zeroconf = zeroconf.zeroconf
        self._type = type
        self._reader = Reader(url)
        self._on_text = on_text
        self._minders: dict[str, Minder] = {}
        self._began = asyncio.get_running_loop().time()
        self._settled = False
        self._browser = AsyncServiceBrowser(self._zeroconf, type, handlers=[self._on_change])

    async def settle(self) -> None:
        """Return when those who are there have had time to say so; at once when they have had it before."""
        if self._settled:
            return
        await asyncio.sleep(self._began + SETTLE - asyncio.get_running_loop().time())
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER):
                await asyncio.gather(*(minder.looked.wait() for minder in self._minders.values()))
        self._settled = True

    def forget(self, name: str) -> None:
        """A name is withdrawn; whoever comes back at once is not told as a new one, and so is looked for."""
        if (minder := self._minders.get(name)) is not None:
            minder.withdrawn = True
            self._take_out(minder)
            minder.news.set()

    async def close(self) -> None:
        """Listen no more."""
        await self._browser.async_cancel()
        tasks = [minder.task for minder in self._minders.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.table.lose()

    def _on_change(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            self.forget(name)
        elif (minder := self._minders.get(name)) is not None:
            minder.news.set()
        elif len(self._minders) >= NODES:
            self.table.leave_out(f"{name:.100}")
        else:
            self._minders[name] = minder = Minder()
            minder.task = asyncio.create_task(self._mind(name, minder), name=f"eventmicro mdns {name}")

    async def _mind(self, name: str, minder: Minder) -> None:
        """Look for a node again and again, and a few times more when its name is withdrawn."""
        looks, within = LOOKS, ANSWER
        while looks:
            if minder.withdrawn:
                await asyncio.sleep(GOODBYE)
                minder.withdrawn = False
                looks, within = LOOKS - 1, ANSWER
            minder.news.clear()
            found = await self._ask(name, within)
            if minder.withdrawn:
                continue
            if found is None:
                self._take_out(minder)
                looks, pause, within = looks if looks == LOOKS else looks - 1, SEEK, ANSWER
            else:
                record, ttl = found
                looks, (pause, within) = LOOKS, plan(ttl, self._age(name))
                minder.key = record.name, record.nodes[0].id
                self.table.hear(record, pause + within + 1)
            minder.looked.set()
            try:
                async with asyncio.timeout(pause):
                    await minder.news.wait()
            except TimeoutError:
                self._forget_answer(name)
        del self._minders[name]

    async def _ask(self, name: str, within: float) -> tuple[ServiceRecord, float] | None:
        """The record under a name, from memory as long as it counts there; None where nobody answers with one."""
        info = AsyncServiceInfo(self._type, name)
        if not await info.async_request(self._zeroconf, within * 1000):
            return None
        self._on_text(name, info.text)
        body, ttl = unpack(info.properties)
        record = self._reader.read(name, body)
        if record is None or len(record.nodes) != 1:
            return None
        label = name.removesuffix(f".{self._type}")
        return (record, ttl) if label.lower() == label_of(record.name, record.nodes[0].id) else None

    def _age(self, name: str) -> float:
        """How long ago it was heard what is in memory under a name, in seconds."""
        heard = [record.created for record in self._zeroconf.cache.get_all_by_details(name, TXT, IN)]
        return (current_time_millis() - max(heard)) / 1000 if heard else 0.0

    def _forget_answer(self, name: str) -> None:
        """Forget what is in memory under a name, so that who is asked next is the node itself."""
        cache = self._zeroconf.cache
        cache.async_remove_records(list(cache.async_entries_with_name(name)))

    def _take_out(self, minder: Minder) -> None:
        if minder.key is not None:
            self.table.remove(*minder.key)
            minder.key = None


def plan(ttl: float, age: float) -> tuple[float, float]:
    """When a node is asked anew that was heard so long ago, and how long it then has time to answer, in seconds."""
    early = min(max(EARLY * ttl, ANSWER), ttl / 2)
    left = max(ttl - age, 0.0)
    pause = max(left - early, 0.0)
    return pause, left - pause + LATE


class Minder:
    """What is known of one name."""

    def __init__(self) -> None:
        self.key: Key | None = None
        self.withdrawn = False
        self.news = asyncio.Event()
        self.looked = asyncio.Event()
        self.task: asyncio.Task[None]
