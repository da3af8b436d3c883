"""`eventmicro brokers`: what each installed adapter can do, by its own declaration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from eventmicro.broker import Capabilities
from eventmicro.plugins import installed_brokers

# One line for each capability that is there or not, then one for each that is told in words.
FLAGS = [f.name for f in fields(Capabilities) if f.default is False]
WORDS = [f.name for f in fields(Capabilities) if f.default == ""]


def brokers(
    markdown: Annotated[bool, typer.Option("--markdown", help="As it stands in docs/brokers.md.")] = False,
) -> None:
    """Show what the installed brokers can do; a service that asks for more does not start."""
    found = one_a_kind(installed_brokers())
    if markdown:
        print(to_markdown(found))
    else:
        Console().print(_to_table(found))


def one_a_kind(found: Mapping[str, Capabilities]) -> dict[str, Capabilities]:
    """Each adapter once, under its first scheme: `amqp` and `amqps` are one."""
    kinds: dict[int, str] = {}
    for scheme, capabilities in found.items():
        kinds.setdefault(id(capabilities), scheme)
    return {scheme: found[scheme] for scheme in kinds.values()}


def to_markdown(found: Mapping[str, Capabilities]) -> str:
    """A table of what is there or not, and a list of what is told in words."""
    lines = [_row("", *found), _row("---", *("---" for _ in found))]
    lines += [_row(f"`{flag}`", *_flags(found, flag)) for flag in FLAGS]
    for word in WORDS:
        lines += ["", f"**`{word}`**", ""]
        lines += [f"- {scheme}: {text}" for scheme, text in _words(found, word)]
    return "\n".join(lines)


def _to_table(found: Mapping[str, Capabilities]) -> Table:
    table = Table("", *found)
    for flag in FLAGS:
        table.add_row(flag, *_flags(found, flag))
    for word in WORDS:
        table.add_row(word, *(dict(_words(found, word)).get(scheme, "") for scheme in found))
    return table


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _flags(found: Mapping[str, Capabilities], flag: str) -> list[str]:
    return ["yes" if getattr(capabilities, flag) else "" for capabilities in found.values()]


def _words(found: Mapping[str, Capabilities], word: str) -> Iterator[tuple[str, str]]:
    for scheme, capabilities in found.items():
        if text := getattr(capabilities, word):
            yield scheme, text
