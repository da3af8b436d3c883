"""EtcdRegistry: the registry port over etcd: a key a node under a lease of its own, which etcd lets end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from math import ceil
from typing import Any

from eventmicro.checks import check_seconds
from eventmicro.errors import Unavailable, UsageError
from eventmicro.lifetime import Lifetime
from eventmicro.registry import Change, ServiceRecord, check_record
from eventmicro.roster import Key, Outdated, Reader, Roster, gone, look_again
from eventmicro_etcd.gateway import NOT_FOUND, Gateway, Refused, Silent, decode, encode, end_of
from eventmicro_etcd.settings import EtcdSettings, read_url

log = logging.getLogger(__name__)

# After how many renewals of a lease it is looked whether its key is still there.
LOOK = 5
# How long a watch waits before it looks again, in seconds.
PAUSE = 0.3


@dataclass(slots=True)
class Lease:
    """What keeps one node: its number at the server, for how long, and what was written under it."""

    number: str
    ttl: int
    body: str
    renewed: int = 0


class EtcdRegistry(Lifetime):
    """A registry in etcd; see `eventmicro.registry.Registry`.

    Args:
        url: `etcd://host:2379`, or `etcds://` for TLS; settings may follow, as `?prefix=shop`.
        settings: the settings as an object, in place of a URL.
    """

    def __init__(self, url: str = "etcd://", settings: EtcdSettings | None = None) -> None:
        self.settings = settings or read_url(url)
        self.url = self.settings.address
        self._prefix = self.settings.prefix.strip("/") + "/"
        self._connecting = asyncio.Lock()
        self._gateway: Gateway | None = None
        self._leases: dict[Key, Lease] = {}
        self._reader = Reader(self.url)
        self._told = ""

    async def connect(self) -> None:
        async with self._connecting:
            if self._gateway is not None:
                return
            gateway = Gateway(self.settings)
            try:
                await gateway.call("maintenance/status", {})
            except Refused as refused:  # it is there, and may let us do what we need
                log.debug("%s: %s", self.url, refused)
            except BaseException:
                await gateway.close()
                raise
            self._gateway = gateway

    async def close(self) -> None:
        gateway, self._gateway = self._gateway, None
        self._leases.clear()
        if gateway is not None:
            await gateway.close()

    async def register(self, service: ServiceRecord, *, ttl: float) -> None:
        check_seconds("ttl", ttl)
        check_record(service)
        await asyncio.gather(*(self._keep(service.of_node(node), ceil(ttl)) for node in service.nodes))

    async def deregister(self, service: ServiceRecord) -> None:
        for node in service.nodes:
            lease = self._leases.pop((service.name, node.id), None)
            await self._call("kv/deleterange", {"key": self._key(service.name, node.id)})
            if lease is not None:
                await self._end(lease)

    async def get_service(self, name: str) -> list[ServiceRecord]:
        return (await self._roster(name)).find(name, self.url)

    async def list_services(self) -> list[ServiceRecord]:
        return (await self._roster(None)).all()

    async def watch(self, name: str | None = None) -> AsyncIterator[Change]:
        gateway = self._connected()

        async def wait() -> bool:
            await asyncio.sleep(PAUSE)
            return self._gateway is gateway

        async with aclosing(look_again(lambda: self._look(gateway, name), wait, name)) as changes:
            async for change in changes:
                yield change

    # -- writing -----------------------------------------------------------------------------------------------

    async def _keep(self, service: ServiceRecord, ttl: int) -> None:
        """Renew the lease of a node, or write its record under a new one."""
        key, body = (service.name, service.nodes[0].id), service.model_dump_json()
        lease = self._leases.get(key)
        if lease is not None and (lease.body, lease.ttl) == (body, ttl) and await self._renew(key, lease):
            return
        number = (await self._call("lease/grant", {"TTL": str(ttl)}))["ID"]
        await self._put(key, body, number)
        former, self._leases[key] = self._leases.get(key), Lease(number, ttl, body)
        if former is not None:
            await self._end(former)

    async def _renew(self, key: Key, lease: Lease) -> bool:
        """Whether the lease lives on; etcd answers without a time for one that is over."""
        answer = await self._call("lease/keepalive", {"ID": lease.number})
        if int(answer.get("result", {}).get("TTL", 0)) <= 0:
            del self._leases[key]
            return False
        lease.renewed += 1
        return lease.renewed % LOOK != 0 or await self._stands(key)

    async def _stands(self, key: Key) -> bool:
        """Whether the key is there; somebody may have deleted it, which no lease prevents."""
        found = await self._call("kv/range", {"key": self._key(*key), "count_only": True})
        return bool(found.get("count"))

    async def _put(self, key: Key, body: str, lease: str) -> None:
        try:
            await self._call("kv/put", {"key": self._key(*key), "value": encode(body), "lease": lease})
        except Refused as refused:
            if refused.code == NOT_FOUND:
                raise Unavailable(f"{self.url}: the lease ended before it was used", id=self.url) from None
            raise UsageError(f"registry {self.url}: {refused}") from None

    async def _end(self, lease: Lease) -> None:
        """Give a lease back, if it has not ended by itself; what is now under another one stays."""
        try:
            await self._call("lease/revoke", {"ID": lease.number})
        except Refused as refused:
            if refused.code != NOT_FOUND:
                log.debug("%s: a lease could not be given back: %s", self.url, refused)

    # -- reading -----------------------------------------------------------------------------------------------

    async def _roster(self, name: str | None) -> Roster:
        roster, records = Roster(), []
        for pair in (await self._list(self._connected(), name)).get("kvs", ()):
            records += [change.service for change in [self._read(pair)] if change.action == "create"]
        roster.replace(record for record in records if record is not None)
        return roster

    async def _look(self, gateway: Gateway, name: str | None) -> AsyncGenerator[Change, None]:
        """See `eventmicro.roster.look_again`."""
        try:
            listed = await self._list(gateway, name)
            for pair in listed.get("kvs", ()):
                yield self._read(pair)
            yield Change("synced")
            async with aclosing(self._follow(gateway, name, int(listed["header"]["revision"]))) as changes:
                async for change in changes:
                    yield change
        except (Refused, UsageError) as error:  # it may be mended yet
            if str(error) != self._told:
                self._told = str(error)
                log.error("registry %s cannot be watched: %s", self.url, error)
            raise Unavailable(str(error), id=self.url) from error

    async def _follow(self, gateway: Gateway, name: str | None, revision: int) -> AsyncGenerator[Change, None]:
        """What changes after a revision; a watch that is silent is made anew, which is its sign of life."""
        span = self._span(name)
        while True:
            request = {"create_request": span | {"start_revision": str(revision + 1)}}
            try:
                async with aclosing(gateway.watch(request)) as answers:
                    async for answer in answers:
                        if answer.get("canceled"):
                            # Mostly as what comes after the revision is compacted away, for which others' writes are
                            # enough: the revision known here is that of the last change of ours.
                            error = Outdated if "compact_revision" in answer else Unavailable
                            raise error(f"{self.url}: the watch was ended: {answer}", id=self.url)
                        for event in answer.get("events", ()):
                            yield self._read(event["kv"], ended=event.get("type") == "DELETE")
                            revision = max(revision, int(event["kv"]["mod_revision"]))
            except Silent:
                continue

    async def _list(self, gateway: Gateway, name: str | None) -> dict[str, Any]:
        try:
            return await gateway.call("kv/range", self._span(name))
        except Refused as refused:
            raise UsageError(f"registry {self.url}: {refused}") from None

    def _read(self, pair: dict[str, Any], *, ended: bool = False) -> Change:
        """What a key and its value say; that nobody is there where they are no record."""
        key = decode(pair["key"]).decode(errors="replace")
        name, _, node = key.removeprefix(self._prefix).partition("/")
        record = None if ended else self._reader.read(key, decode(pair.get("value", "")))
        if record is None or record.name != name or [each.id for each in record.nodes] != [node]:
            return gone(name, node)
        return Change("create", record)

    def _key(self, name: str, node: str) -> str:
        return encode(f"{self._prefix}{name}/{node}")

    def _span(self, name: str | None) -> dict[str, str]:
        start = self._prefix if name is None else f"{self._prefix}{name}/"
        return {"key": encode(start), "range_end": encode(end_of(start))}

    async def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._connected().call(path, body)

    def _connected(self) -> Gateway:
        if self._gateway is None:
            raise Unavailable(f"{self.url} is not connected", id=self.url)
        return self._gateway
