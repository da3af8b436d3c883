"""Filters: which nodes may be asked. A filter is any function of a Node; those made here are equal where they ask
alike, so what they let through is found once, not at each call.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from eventmicro.checks import check_kind
from eventmicro.discovery.versions import Range, version_of
from eventmicro.selector import Filter, Node


def version(range: str) -> Filter:
    """Nodes whose version lies in a range: `^1.2`, `~1.2.3`, `>=1.2, <3`, `1.4.0`, alternatives with `||` between.

    Raises:
        UsageError: it is no range.
    """
    check_kind("version", range, str, "a range such as '^1.2'")
    return _Version(range, Range(range))


def label(name: str, *values: str) -> Filter:
    """Nodes with one of these values in their metadata, or in that of their service; without a value: with any."""
    for text in (name, *values):
        check_kind("label", text, str, "label('zone', 'eu')")
    return _Label(name, frozenset(values))


def endpoint(name: str) -> Filter:
    """Nodes that have this endpoint."""
    check_kind("endpoint", name, str, "endpoint('quote')")
    return _Endpoint(name)


def node(*ids: str) -> Filter:
    """Nodes of these ids."""
    for each in ids:
        check_kind("node", each, str, "node('orders-1')")
    return _Node(frozenset(ids))


@dataclass(frozen=True, slots=True)
class _Version:
    text: str
    range: Range = field(compare=False)

    def __call__(self, node: Node) -> bool:
        version = version_of(node.version)
        return version is not None and version in self.range


@dataclass(frozen=True, slots=True)
class _Label:
    name: str
    values: frozenset[str]

    def __call__(self, node: Node) -> bool:
        value = node.metadata.get(self.name)
        return value is not None and (not self.values or value in self.values)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    name: str

    def __call__(self, node: Node) -> bool:
        return self.name in node.endpoints


@dataclass(frozen=True, slots=True)
class _Node:
    ids: frozenset[str]

    def __call__(self, node: Node) -> bool:
        return node.id in self.ids
