"""MdnsRegistry: the registry port over multicast DNS: each node answers for itself, on one network."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from math import ceil

from zeroconf import Error, InterfaceChoice, IPVersion, ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from eventmicro.checks import check_seconds
from eventmicro.errors import Unavailable
from eventmicro.lifetime import Lifetime
from eventmicro.registry import Change, ServiceRecord, check_record
from eventmicro.roster import Key
from eventmicro_mdns.listening import Listening
from eventmicro_mdns.packing import label_of, pack
from eventmicro_mdns.settings import MdnsSettings, read_url

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Announced:
    """A node for which this process answers, until its time is over."""

    info: ServiceInfo
    end: asyncio.TimerHandle


class MdnsRegistry(Lifetime):
    """A registry without a server, for the nodes of one network; see `eventmicro.registry.Registry`.

    Args:
        url: `mdns://`, or with the address of an interface, `mdns://192.168.1.5`.
        settings: the settings as an object, in place of a URL.
    """

    def __init__(self, url: str = "mdns://", settings: MdnsSettings | None = None) -> None:
        self.settings = settings or read_url(url)
        self.url = f"mdns://{self.settings.interface}"
        self._type = f"{self.settings.type}.local."
        self._host = f"eventmicro-{secrets.token_hex(6)}.local."
        self._connecting = asyncio.Lock()
        self._zeroconf: AsyncZeroconf | None = None
        self._listening: Listening | None = None
        self._announced: dict[Key, Announced] = {}
        self._told: set[str] = set()

    async def connect(self) -> None:
        async with self._connecting:
            if self._zeroconf is not None:
                return
            interface = self.settings.interface
            interfaces = [interface] if interface else InterfaceChoice.Default
            version = IPVersion.V6Only if ":" in interface else IPVersion.V4Only
            try:
                self._zeroconf = AsyncZeroconf(interfaces, ip_version=version)
                await self._zeroconf.zeroconf.async_wait_for_start()
            except BaseException as error:  # cancelled, too: else it would be taken for connected from then on
                await self.close()
                if isinstance(error, OSError | Error | RuntimeError):
                    raise Unavailable(f"{self.url} cannot be used: {error}", id=self.url) from error
                raise
            self._listening = Listening(self._zeroconf, self._type, self.url, self._on_text)

    async def close(self) -> None:
        """What is announced stays in the memory of others until its time is over: nobody says goodbye."""
        zeroconf, self._zeroconf = self._zeroconf, None
        listening, self._listening = self._listening, None
        for announced in self._announced.values():
            announced.end.cancel()
            if zeroconf is not None:
                zeroconf.zeroconf.registry.async_remove(announced.info)
        self._announced.clear()
        if listening is not None:
            await listening.close()
        if zeroconf is not None:
            await zeroconf.async_close()

    async def register(self, service: ServiceRecord, *, ttl: float) -> None:
        check_seconds("ttl", ttl)
        check_record(service)
        zeroconf, _ = self._connected()
        await asyncio.gather(*(self._announce(zeroconf, service.of_node(node), ttl) for node in service.nodes))

    async def deregister(self, service: ServiceRecord) -> None:
        """Say goodbye for the nodes that were registered here; those of others answer for themselves."""
        zeroconf, listening = self._connected()
        for node in service.nodes:
            if (announced := self._announced.pop((service.name, node.id), None)) is not None:
                announced.end.cancel()
                listening.forget(announced.info.name)
                await (await zeroconf.async_unregister_service(announced.info))

    async def get_service(self, name: str) -> list[ServiceRecord]:
        _, listening = self._connected()
        await listening.settle()
        return listening.table.roster.find(name, self.url, known="has answered")

    async def list_services(self) -> list[ServiceRecord]:
        _, listening = self._connected()
        await listening.settle()
        return listening.table.roster.all()

    async def watch(self, name: str | None = None) -> AsyncIterator[Change]:
        _, listening = self._connected()
        await listening.settle()
        async with aclosing(listening.table.watch(name)) as changes:
            async for change in changes:
                yield change

    async def _announce(self, zeroconf: AsyncZeroconf, service: ServiceRecord, ttl: float) -> None:
        """Announce a node; where it is announced just so, it only goes on answering, which costs nothing."""
        key = service.name, service.nodes[0].id
        info, former = self._info(service, ttl), self._announced.get(key)
        end = asyncio.get_running_loop().call_later(ttl, self._withdraw, key)
        self._announced[key] = Announced(info, end)
        if former is not None:
            former.end.cancel()
            if former.info.text == info.text:
                self._announced[key] = Announced(former.info, end)
                return
            await (await zeroconf.async_update_service(info))
        else:
            # It may be there from before, or in another process: whoever comes last replaces who was there.
            await (await zeroconf.async_register_service(info, cooperating_responders=True))

    def _info(self, service: ServiceRecord, ttl: float) -> ServiceInfo:
        name, node = service.name, service.nodes[0].id
        properties, whole = pack(service, ttl)
        if not whole and name not in self._told:
            self._told.add(name)
            log.warning(
                "%s: %s is announced without its schemas, which are too large for multicast DNS", self.url, name
            )
        address = self.settings.interface or "127.0.0.1"  # of no use: a node is called by its subject
        return ServiceInfo(
            self._type,
            f"{label_of(name, node)}.{self._type}",
            parsed_addresses=[address],
            port=1,
            properties=properties,
            server=self._host,
            host_ttl=ceil(ttl),
            other_ttl=ceil(ttl),
        )

    def _withdraw(self, key: Key) -> None:
        """Answer no more for a node, without a goodbye: it was not renewed, or another process has its id now."""
        announced = self._announced.pop(key, None)
        if announced is not None and self._zeroconf is not None:
            announced.end.cancel()
            self._zeroconf.zeroconf.registry.async_remove(announced.info)

    def _on_text(self, name: str, text: bytes) -> None:
        for key, announced in list(self._announced.items()):
            if announced.info.name == name and announced.info.text != text:
                self._withdraw(key)

    def _connected(self) -> tuple[AsyncZeroconf, Listening]:
        if self._zeroconf is None or self._listening is None:
            raise Unavailable(f"{self.url} is not connected", id=self.url)
        return self._zeroconf, self._listening
