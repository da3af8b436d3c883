"""ConsulRegistry: the registry port over a Consul agent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Any
from urllib.parse import quote

from eventmicro.checks import check_seconds
from eventmicro.errors import Unavailable, UsageError
from eventmicro.lifetime import Lifetime
from eventmicro.registry import Change, ServiceRecord, check_record
from eventmicro.roster import Reader, Roster, look_again
from eventmicro_consul.agent import Agent, Unknown
from eventmicro_consul.packing import CHECK, KEY, id_of, service_of, unpack
from eventmicro_consul.settings import ConsulSettings, read_url

log = logging.getLogger(__name__)

# How long a watch waits before it looks again, in seconds.
PAUSE = 0.3
# The checks that say who is there: those of ours, and whether the agent that runs them is.
OURS = f'CheckID matches "^{CHECK}" or CheckID == "serfHealth"'
Signature = frozenset[tuple[str, str, str]]
Entries = dict[str, tuple[dict[str, str] | None, ServiceRecord | None]]
"""By its id, the metadata of each service of the agents, and the record that was read in it."""


class ConsulRegistry(Lifetime):
    """A registry in Consul; see `eventmicro.registry.Registry`.

    Args:
        url: `consul://host:8500`, or `consuls://` for TLS; settings may follow, as `?wait=30`.
        settings: the settings as an object, in place of a URL.
    """

    def __init__(self, url: str = "consul://", settings: ConsulSettings | None = None) -> None:
        self.settings = settings or read_url(url)
        self.url = self.settings.address
        self._connecting = asyncio.Lock()
        self._agent: Agent | None = None
        self._registered: dict[str, dict[str, Any]] = {}
        self._reader = Reader(self.url)
        self._told: set[str] = set()

    async def connect(self) -> None:
        async with self._connecting:
            if self._agent is not None:
                return
            agent = Agent(self.settings)
            try:
                if not (await agent.get("status/leader"))[0]:
                    raise Unavailable(f"{self.url}: the cluster has no leader", id=self.url)
            except BaseException:
                await agent.close()
                raise
            self._agent = agent

    async def close(self) -> None:
        agent, self._agent = self._agent, None
        self._registered.clear()
        if agent is not None:
            await agent.close()

    async def register(self, service: ServiceRecord, *, ttl: float) -> None:
        check_seconds("ttl", ttl)
        check_record(service)
        agent = self._connected()
        await asyncio.gather(*(self._keep(agent, service.of_node(node), ttl) for node in service.nodes))

    async def deregister(self, service: ServiceRecord) -> None:
        """Forget the nodes that are registered with this agent; those of other agents are theirs."""
        agent = self._connected()
        for node in service.nodes:
            key = id_of(service.name, node.id)
            self._registered.pop(key, None)
            with suppress(Unknown):
                await agent.put(f"agent/service/deregister/{quote(key)}")

    async def get_service(self, name: str) -> list[ServiceRecord]:
        roster = Roster()
        roster.replace((await self._of_service(self._connected(), name))[0])
        return roster.find(name, self.url)

    async def list_services(self) -> list[ServiceRecord]:
        roster = Roster()
        everybody = self._everybody(self._connected())
        async with aclosing(everybody):
            roster.replace(await anext(everybody))
        return roster.all()

    async def watch(self, name: str | None = None) -> AsyncIterator[Change]:
        agent = self._connected()

        async def wait() -> bool:
            await asyncio.sleep(PAUSE)
            return self._agent is agent

        async with aclosing(look_again(lambda: self._look(agent, name), wait, name)) as changes:
            async for change in changes:
                yield change

    # -- writing -----------------------------------------------------------------------------------------------

    async def _keep(self, agent: Agent, service: ServiceRecord, ttl: float) -> None:
        """A heartbeat for a node; where it is another one by now, or not known, it is registered."""
        wanted, whole = service_of(service, ttl, self.settings.forget_after)
        if not whole and service.name not in self._told:
            self._told.add(service.name)
            log.warning("%s: %s is registered without its schemas, which are too large", self.url, service.name)
        heartbeat = f"agent/check/pass/{quote(CHECK + wanted['ID'])}"
        if self._registered.get(wanted["ID"]) == wanted:
            try:
                await agent.put(heartbeat)
                return
            except Unknown:  # the agent was started anew, or has taken it away
                pass
        try:
            await agent.put("agent/service/register?replace-existing-checks=true", wanted)
            await agent.put(heartbeat)  # a check that is there already, and critical, would stay so
        except Unknown as error:  # it was started anew in between; or it is no agent, but something else at its port
            raise Unavailable(f"{self.url} does not keep what is registered: {error}", id=self.url) from None
        self._registered[wanted["ID"]] = wanted

    # -- reading -----------------------------------------------------------------------------------------------

    async def _look(self, agent: Agent, name: str | None) -> AsyncGenerator[Change, None]:
        """See `eventmicro.roster.look_again`."""
        roster, synced = Roster(), False
        states = self._everybody(agent) if name is None else self._one(agent, name)
        try:
            async with aclosing(states):
                async for records in states:
                    for change in roster.replace(records, name):
                        yield change
                    if not synced:
                        synced = True
                        yield Change("synced")
        except UsageError as error:  # it may be mended yet
            if str(error) not in self._told:
                self._told.add(str(error))
                log.error("registry %s cannot be watched: %s", self.url, error)
            raise Unavailable(str(error), id=self.url) from error

    async def _one(self, agent: Agent, name: str) -> AsyncGenerator[list[ServiceRecord], None]:
        """Who is there of a service, whenever something may have changed."""
        index, before = 0, Entries()
        while True:
            records, index = await self._of_service(agent, name, index, before)
            yield records

    async def _everybody(self, agent: Agent) -> AsyncGenerator[list[ServiceRecord], None]:
        """All who are there, whenever something may have changed; only services that have changed are asked for."""
        index, known = 0, dict[str, tuple[Signature, list[ServiceRecord]]]()
        while True:
            checks, index = await agent.get("health/state/passing", index, filter=OURS)
            signatures = _signatures(checks)
            changed = [name for name, signature in signatures.items() if known.get(name, ((),))[0] != signature]
            found = await asyncio.gather(*(self._of_service(agent, name) for name in changed))
            fresh = {name: (signatures[name], records) for name, (records, _) in zip(changed, found, strict=True)}
            known = {name: fresh.get(name) or known[name] for name in signatures}
            yield [record for _, records in known.values() for record in records]

    async def _of_service(
        self, agent: Agent, name: str, index: int = 0, before: Entries | None = None
    ) -> tuple[list[ServiceRecord], int]:
        """Who is there of a service, and the index of that.

        Args:
            before: what was found the last time, and is found this time: only what is new of that is read.
        """
        entries, index = await agent.get(f"health/service/{quote(name)}", index, passing="true")
        known, here = before or {}, Entries()
        for service in (entry["Service"] for entry in entries):
            meta, record = known.get(service["ID"], (None, None))
            if meta is None or meta != service.get("Meta"):
                record = self._read(service)
            here[service["ID"]] = service.get("Meta"), record
        if before is not None:
            before.clear()
            before.update(here)
        return [record for _, record in here.values() if record is not None and record.name == name], index

    def _read(self, service: dict[str, Any]) -> ServiceRecord | None:
        """The record of a service of ours; None of any other."""
        meta = service.get("Meta") or {}
        if KEY not in meta:
            return None
        record = self._reader.read(service["ID"], unpack(meta))
        if record is None or len(record.nodes) != 1 or id_of(record.name, record.nodes[0].id) != service["ID"]:
            return None
        return record

    def _connected(self) -> Agent:
        if self._agent is None:
            raise Unavailable(f"{self.url} is not connected", id=self.url)
        return self._agent


def _signatures(checks: list[dict[str, Any]]) -> dict[str, Signature]:
    """What tells of each service whether anything of it has changed: its checks, where their agents are alive."""
    alive = {check["Node"] for check in checks if check["CheckID"] == "serfHealth"}
    found: dict[str, set[tuple[str, str, str]]] = {}
    for check in checks:
        if check["CheckID"] != "serfHealth" and check["Node"] in alive:
            signature = check["Node"], check["CheckID"], check.get("Notes", "")
            found.setdefault(check["ServiceName"], set()).add(signature)
    return {name: frozenset(signature) for name, signature in found.items()}
