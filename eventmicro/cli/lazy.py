"""Commands that are imported when they are asked for: whoever calls an endpoint does not wait for all the others."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from eventmicro.errors import UsageError


class Command(TyperCommand):
    """A command that says how a body which begins with a minus is written: to a parser it is an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = args[: args.index("--")] if "--" in args else args
        for before, word in pairwise(["", *options]):
            if re.match(r"-\d", word) and not before.startswith("-"):
                raise UsageError(f"{word} is taken for an option: write -- before it, behind all options: -- {word}")
        return super().parse_args(ctx, args)


class Commands(Mapping[str, Any]):
    """The commands by name, each as `module.function` of the command line; what is a Typer is a group of commands.

    The end of a command's help is `FUNCTION_EPILOG` of its module, or `EPILOG`.
    """

    def __init__(self, places: Mapping[str, str], hidden: frozenset[str]) -> None:
        self._places = places
        self._hidden = hidden
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _make(self, name: str) -> Any:
        place, _, function = self._places[name].rpartition(".")
        module = import_module(f"eventmicro.cli.{place}")
        found = getattr(module, function)
        command: Any
        if isinstance(found, typer.Typer):
            command = get_group(found)
        else:
            alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
            epilog = getattr(module, f"{function.upper()}_EPILOG", getattr(module, "EPILOG", None))
            alone.command(name, cls=Command, epilog=epilog, hidden=name in self._hidden)(found)
            command = get_command(alone)
        command.name = name
        return command


def group_of(places: Mapping[str, str], hidden: frozenset[str] = frozenset()) -> type[TyperGroup]:
    """The class of a group that has these commands."""

    class Group(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = Commands(places, hidden)  # type: ignore[assignment]  # it is only read

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            found = super().resolve_command(ctx, args)
            if not gc.isenabled():  # as `main` has left it
                gc.freeze()
                gc.enable()
            return found

    return Group
