"""`eventmicro brokers`: what each installed adapter can do, by its own declaration, and what the others lack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventmicro.broker import Capabilities
from eventmicro.cli.output import Form, Json, chosen, print_records
from eventmicro.cli.show import examples
from eventmicro.errors import UsageError
from eventmicro.plugins import installed_brokers, unusable_brokers

if TYPE_CHECKING:  # what is for programs needs none of it
    from rich.console import Console

EPILOG = examples("eventmicro brokers", "eventmicro brokers --json | jq '.[] | select(.ordered) | .scheme'")
# One line for each capability that is there or not, then one for each that is told in words.
FLAGS = [f.name for f in fields(Capabilities) if f.default is False]
WORDS = [f.name for f in fields(Capabilities) if f.default == ""]


def brokers(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the table of docs/brokers.md.")] = False,
    output: Form = None,
    json: Json = False,
) -> None:
    """Show what the installed brokers can do; a service that asks for more does not start."""
    form = chosen(output, json)
    if markdown and (output or json):
        raise UsageError("--markdown is a form of its own: leave it out, or --output and --json")
    found = one_a_kind(installed_brokers())
    if markdown:
        print(to_markdown(found))
    else:
        print_records(form, _forms(found), lambda: _show(found))


def _forms(found: Mapping[str, Capabilities]) -> list[dict[str, Any]]:
    """Each adapter for programs, those that are not usable here with the reason."""
    unusable = [{"scheme": scheme, "unusable": why} for scheme, why in unusable_brokers().items()]
    return [{"scheme": scheme, **asdict(capabilities)} for scheme, capabilities in found.items()] + unusable


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


def _show(found: Mapping[str, Capabilities]) -> None:
    """Print what is there or not as a table, and below it what is told in words, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table

    screen = Console(highlight=False)
    table = Table("", *found, box=None, header_style="bold", pad_edge=False)
    for flag in FLAGS:
        table.add_row(flag, *_flags(found, flag))
    screen.print(table)
    for word in WORDS:
        _show_list(screen, word, _words(found, word))
    if unusable := unusable_brokers():
        _show_list(screen, "not usable here", unusable.items())


def _show_list(screen: Console, title: str, pairs: Iterable[tuple[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    screen.print(Text(f"\n{title}", style="bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for scheme, text in pairs:
        table.add_row(f"  {scheme}", Text(text))
    screen.print(table)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _flags(found: Mapping[str, Capabilities], flag: str) -> list[str]:
    return ["yes" if getattr(capabilities, flag) else "" for capabilities in found.values()]


def _words(found: Mapping[str, Capabilities], word: str) -> Iterator[tuple[str, str]]:
    for scheme, capabilities in found.items():
        if text := getattr(capabilities, word):
            yield scheme, text
