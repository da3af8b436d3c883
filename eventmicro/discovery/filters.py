"""Filters: which nodes may be asked. A filter is any function of a Node; those made here are equal where they ask
alike, so what they let through is found once, not at each call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from eventmicro.checks import check_kind
from eventmicro.discovery.versions import Range, version_of
from eventmicro.selector import Filter, Node

# How much of what there is an error shows: so many of it, and so many characters of each.
SHOWN = 5
SHOWN_LENGTH = 100


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


def explain(filters: Iterable[Filter], nodes: Sequence[Node]) -> str:
    """Why these filters let none of the nodes through, as far as it can be told: what there is in place of that."""
    reasons = [
        each.instead(nodes)
        for each in filters
        if isinstance(each, _Version | _Label | _Endpoint | _Node) and not any(map(each, nodes))
    ]
    return "; ".join(reasons)


def _some(texts: Iterable[str]) -> str:
    """Some of what there is, each once, in a line."""
    there = sorted({text[:SHOWN_LENGTH] or "none" for text in texts})
    more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
    return ", ".join(there[:SHOWN]) + more


@dataclass(frozen=True, slots=True)
class _Version:
    text: str
    range: Range = field(compare=False)

    def __call__(self, node: Node) -> bool:
        version = version_of(node.version)
        return version is not None and version in self.range

    def instead(self, nodes: Sequence[Node]) -> str:
        there = f"no version is in {self.text!r}, there are {_some(node.version for node in nodes)}"
        if not any(self._would_take(node) for node in nodes):
            return there
        return f"{there}: a pre-release is taken only where the range names one of its release"

    def _would_take(self, node: Node) -> bool:
        """Whether it is a pre-release whose release is in the range."""
        version = version_of(node.version)
        if version is None or version.pre is None:
            return False
        release = version_of(".".join(map(str, version.numbers)))
        return release is not None and release in self.range


@dataclass(frozen=True, slots=True)
class _Label:
    name: str
    values: frozenset[str]

    def __call__(self, node: Node) -> bool:
        value = node.metadata.get(self.name)
        return value is not None and (not self.values or value in self.values)

    def instead(self, nodes: Sequence[Node]) -> str:
        there = [node.metadata[self.name] for node in nodes if self.name in node.metadata]
        if not there:
            return (
                f"none has a label {self.name!r}, there are {_some(name for node in nodes for name in node.metadata)}"
            )
        return f"none has {self.name!r} = {' or '.join(sorted(self.values))!r}, there are {_some(there)}"


@dataclass(frozen=True, slots=True)
class _Endpoint:
    name: str

    def __call__(self, node: Node) -> bool:
        return self.name in node.endpoints

    def instead(self, nodes: Sequence[Node]) -> str:
        return (
            f"none has an endpoint {self.name!r}, there are {_some(name for node in nodes for name in node.endpoints)}"
        )


@dataclass(frozen=True, slots=True)
class _Node:
    ids: frozenset[str]

    def __call__(self, node: Node) -> bool:
        return node.id in self.ids

    def instead(self, nodes: Sequence[Node]) -> str:
        return f"none is {' or '.join(sorted(self.ids))!r}, there are {_some(node.id for node in nodes)}"
