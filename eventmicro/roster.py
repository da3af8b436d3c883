"""Roster: who is known to be there, node by node, and what has changed in that.

It stands between what a registry tells and what its readers want: a registry's adapter puts in whatever it hears, also
twice and also all of it anew, and gets the changes; readers get records a version, with the nodes of each.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from math import inf

from pydantic import ValidationError

from eventmicro.errors import NotFound, Unavailable
from eventmicro.registry import Action, Change, NodeRecord, ServiceRecord
from eventmicro.wire import is_subject

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""The name of a service, and the id of a node."""


class Roster:
    """The nodes that somebody knows of."""

    def __init__(self) -> None:
        self._records: dict[str, dict[str, ServiceRecord]] = {}
        self._merged: dict[str, list[ServiceRecord]] = {}

    def __len__(self) -> int:
        """How many nodes are known."""
        return sum(map(len, self._records.values()))

    def put(self, service: ServiceRecord) -> list[Change]:
        """Take in the nodes of a record; what that changes."""
        return [change for node in service.nodes if (change := self._put(service.of_node(node))) is not None]

    def remove(self, name: str, node: str) -> list[Change]:
        """Forget a node; what that changes."""
        former = self._records.get(name, {}).pop(node, None)
        if former is None:
            return []
        self._merged.pop(name, None)
        if not self._records[name]:
            del self._records[name]
        return [Change("delete", former)]

    def apply(self, action: Action, service: ServiceRecord) -> list[Change]:
        """Take in what a registry tells of the nodes of a record: that they are gone, or how they are; what it changes.

        Args:
            action: `create`, `update` or `delete`.
        """
        if action == "delete":
            return [change for node in service.nodes for change in self.remove(service.name, node.id)]
        return self.put(service)

    def replace(self, services: Iterable[ServiceRecord], name: str | None = None) -> list[Change]:
        """Take this for all that is there, under one name or at all; what that changes, deletions first."""
        services = list(services)
        here = {(service.name, node.id) for service in services for node in service.nodes}
        gone = [key for key in self.keys() if key not in here and name in (None, key[0])]
        deleted = [change for key in gone for change in self.remove(*key)]
        return deleted + [change for service in services for change in self.put(service)]

    def keys(self) -> Iterator[Key]:
        """The names and ids of all nodes."""
        return iter([(name, node) for name, nodes in self._records.items() for node in nodes])

    def node(self, name: str, node: str) -> ServiceRecord | None:
        """The record of one node."""
        return self._records.get(name, {}).get(node)

    def get(self, name: str) -> list[ServiceRecord]:
        """The records of a service, one a version, each with its nodes; the same list until something changes."""
        merged = self._merged.get(name)
        if merged is None:
            merged = self._merged[name] = list(_merge(self._records.get(name, {}).values()))
            if not merged:
                del self._merged[name]
        return merged

    def find(self, name: str, url: str, *, known: str = "is registered") -> list[ServiceRecord]:
        """What a registry answers to `get_service`: a list of its own for each who asks.

        Args:
            url: the registry's.
            known: by what a node comes into this roster, for the error.

        Raises:
            NotFound: there is no node of this service.
        """
        if not (found := self.get(name)):
            raise NotFound(f"service {name!r}: no node of it {known}", id=url)
        return list(found)

    def all(self) -> list[ServiceRecord]:
        """The records of all services, in the order of their names."""
        return [record for name in sorted(self._records) for record in self.get(name)]

    def _put(self, record: ServiceRecord) -> Change | None:
        nodes = self._records.setdefault(record.name, {})
        node = record.nodes[0].id
        former = nodes.get(node)
        if former == record:
            return None
        nodes[node] = self._share(record, nodes)
        self._merged.pop(record.name, None)
        return Change("create" if former is None else "update", record)

    @staticmethod
    def _share(record: ServiceRecord, others: dict[str, ServiceRecord]) -> ServiceRecord:
        """The record with the endpoints of another node of its version, where they are the same: they are the bulk."""
        other = next((other for other in others.values() if other.version == record.version), None)
        if other is None or other.endpoints is record.endpoints or other.endpoints != record.endpoints:
            return record
        return record.model_copy(update={"endpoints": other.endpoints})


def _merge(records: Iterable[ServiceRecord]) -> Iterator[ServiceRecord]:
    """One record a version, with what its newest node says of it, and the nodes of all."""
    versions: dict[str, list[ServiceRecord]] = {}
    for record in records:
        versions.setdefault(record.version, []).append(record)
    for version in sorted(versions):
        of_version = versions[version]
        nodes: list[NodeRecord] = [node for record in of_version for node in record.nodes]
        yield of_version[-1].model_copy(update={"nodes": nodes})


def gone(name: str, node: str) -> Change:
    """That a node is gone, of which no more is known than this."""
    return Change("delete", ServiceRecord(name=name, nodes=[NodeRecord(id=node)]))


class Outdated(Unavailable):
    """The registry is there, but has not kept what has changed since the last look: who is there is asked anew."""


async def look_again(
    look: Callable[[], AsyncGenerator[Change, None]], wait: Callable[[], Awaitable[bool]], name: str | None
) -> AsyncGenerator[Change, None]:
    """A watch as `eventmicro.registry.Registry` promises it, of a registry to which the connection may be lost.

    Args:
        look: tells all that is there as `create`, then `synced`, then what is there or gone, also twice; it raises
            Unavailable where the registry is away, or more cannot be told without looking again; Outdated where that
            is all: then nobody hears of it.
        wait: returns when it is worth looking again; False: it never is, for this is closed.
        name: the service that is looked at; None: all.
    """
    roster, lost, synced = Roster(), False, False
    while True:
        here: dict[Key, ServiceRecord] | None = {}
        away = True
        try:
            async with aclosing(look()) as heard:
                async for change in heard:
                    if change.service is None:
                        for each in roster.replace((here or {}).values(), name):
                            yield each
                        if lost or not synced:
                            yield change
                        here, lost, synced = None, False, True
                    elif here is not None:
                        _collect(here, change.action, change.service)
                    else:
                        for each in roster.apply(change.action, change.service):
                            yield each
        except Outdated:
            away = False
        except Unavailable:
            pass
        if away and not lost:
            lost = True
            yield Change("lost")
        if not await wait():
            return


def _collect(here: dict[Key, ServiceRecord], action: str, service: ServiceRecord) -> None:
    for node in service.nodes:
        if action == "delete":
            here.pop((service.name, node.id), None)
        else:
            here[service.name, node.id] = service.of_node(node)


async def snapshot(look: AsyncGenerator[Change, None]) -> Roster:
    """All that is there, by one look as of `look_again`."""
    here: dict[Key, ServiceRecord] = {}
    async with aclosing(look) as heard:
        async for change in heard:
            if change.service is None:
                break
            _collect(here, change.action, change.service)
    roster = Roster()
    roster.replace(here.values())
    return roster


class Reader:
    """Reads records that others have written; garbage is left out, and told once.

    Args:
        most: how many bytes one may have, where nothing else bounds that.
    """

    def __init__(self, url: str, most: float = inf) -> None:
        self._url = url
        self._most = most
        self._told: set[str] = set()

    def read(self, place: str, text: str | bytes) -> ServiceRecord | None:
        """The record that is written at this place; None where it is none.

        Args:
            place: the key or subject under which it stands, for the log.
            text: JSON.
        """
        if len(text) > self._most:
            self._tell(place, f"it has {len(text)} bytes, and no more than {self._most} are read")
            return None
        try:
            record = ServiceRecord.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            self._tell(place, f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}")
            return None
        if not record.name or not record.nodes:
            self._tell(place, "it has no name, or no node")
            return None
        if not all(is_subject(node.address) for node in record.nodes if node.address):
            self._tell(place, "the address of its node is no subject")
            return None
        return record

    def _tell(self, place: str, why: str) -> None:
        if place not in self._told and len(self._told) < TOLD:
            self._told.add(place)
            log.warning(
                "registry %s: what stands at %.200s is no record and is left out: %.200s", self._url, place, why
            )


# Of how many places it is remembered that the log has heard of them.
TOLD = 1000
