"""The options of `call` that say which node is asked."""

from __future__ import annotations

from typing import Annotated

import typer

from eventmicro.cli.connecting import complete_node
from eventmicro.discovery import filters
from eventmicro.errors import UsageError
from eventmicro.selector import Filter

Node = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Ask this node, and no other.", show_default=False, autocompletion=complete_node),
]
Version = Annotated[
    str | None,
    typer.Option(metavar="RANGE", help="Ask a node of these versions, such as '^1.2'.", show_default=False),
]
Label = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME[=VALUE]", help="Ask a node with this label; several: with all of them."),
]
Selector = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="What chooses among them, such as newest; default: two-choices."),
]
Key = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="What the call belongs to: calls of one key go to one node.", show_default=False),
]


def read_filters(node: str | None, version: str | None, labels: list[str] | None) -> list[Filter]:
    """The filters that these options ask for; none where they ask for none."""
    asked: list[Filter] = []
    if node is not None:
        asked.append(filters.node(node))
    if version is not None:
        asked.append(filters.version(version))
    return asked + [_read_label(label) for label in labels or ()]


def _read_label(label: str) -> Filter:
    name, separator, value = label.partition("=")
    if not name:
        raise UsageError(f"--label {label!r}: write NAME or NAME=VALUE, such as zone=eu")
    return filters.label(name, value) if separator else filters.label(name)
