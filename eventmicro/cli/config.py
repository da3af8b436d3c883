"""`eventmicro config`: each setting, its value, and where that comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventmicro.cli.output import Form, Json, Output, chosen, print_records
from eventmicro.cli.processes.folder import as_in_its_process, environment_entries, place_of, warn_of_misspelt
from eventmicro.cli.records import print_json
from eventmicro.cli.settings import EnvFiles
from eventmicro.cli.show import examples, printable
from eventmicro.cli.table import FILE_WIDTH
from eventmicro.cli.target import BrokenModule, load_services, log_broken
from eventmicro.configuration.effective import (
    DEFAULT,
    HIDDEN,
    Row,
    effective,
    effective_of_handlers,
    is_hidden,
    is_secret_name,
    plain,
)
from eventmicro.configuration.known import services_said
from eventmicro.embedded import state_place
from eventmicro.service import Service
from eventmicro.sources import FILE_VARIABLE, PREFIX, SERVICES, Said, all_said, file_in, find_said, used_file

EPILOG = examples(
    "eventmicro config",
    "eventmicro config app:service --changed",
    "eventmicro config app:service --output json",
)
# What `eventmicro run` does where nothing is said.
DEFAULTS = {
    "workers": 1,
    "health_port": None,
    "health_host": "127.0.0.1",
    "log_level": "info",
    "log_format": "text",
    "reload": False,
    "env_file": None,
}


def config(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="TARGET", help="Services, as of `eventmicro run`.", show_default=False),
    ] = None,
    output: Form = None,
    as_json: Json = False,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not the default.")] = False,
    env_file: EnvFiles = None,
) -> None:
    """Show each setting, its value, and where that comes from: the code, a variable, a line of the settings file.

    With a target for its services, as they would be run from here; else what holds for all, and what the environment
    and the file say for single ones. Passwords, tokens and what is read from files of secrets are not shown.
    """
    parts = {"run": list(_process())}
    if targets:
        services = _load(targets)
        warn_of_misspelt([each.name for each in services])
        parts |= {each.name: list(_of(each)) for each in services}
    else:
        _check()
        parts["all services"] = list(effective({}, None, Service))
        parts["single services"] = list(_single())
    if changed:
        parts = {name: [row for row in rows if row.where != DEFAULT] for name, rows in parts.items()}
    form = chosen(output, as_json)
    if form is Output.table:
        _print_tables(parts)
    elif form is Output.json:
        print_json({part: {row.name: _form(row) for row in rows} for part, rows in parts.items()})
    else:
        for part, rows in parts.items():
            print_records(form, [{"part": part, "name": row.name, **_form(row)} for row in rows], lambda: None)


def _check() -> None:
    """Refuse what no service could be made with; which code sets what is not known here."""
    for name in ("unnamed", *services_said()):
        Service(name)


def _of(service: Service) -> list[Row]:
    with as_in_its_process(service.name):
        rows = list(effective(_code(service), service.name, Service))
        return rows + list(effective_of_handlers(service, _code(service), rows))


def _code(service: Service) -> Mapping[str, Any]:
    said: Mapping[str, Any] = service.said  # type: ignore[attr-defined]  # by `configurable`
    return said


def _load(targets: list[str]) -> list[Service]:
    try:
        return load_services(targets)
    except BrokenModule as broken:
        log_broken(targets, broken)
        raise typer.Exit(1) from None


def _process() -> Iterable[Row]:
    """What is set for `eventmicro run` itself."""
    file = used_file()
    yield Row("config", None if file is None else str(file), DEFAULT if file is None else _found(file))
    for name, default in {**DEFAULTS, "state_dir": _state_dir()}.items():
        said = find_said(name)
        yield Row(name, default, DEFAULT) if said is None else _row(name, said)


def _state_dir() -> str | None:
    try:
        return str(state_place())
    except RuntimeError:  # the user has no home
        return None


def _found(file: Path) -> str:
    return "this folder" if file == file_in(Path.cwd()) else FILE_VARIABLE


def _single() -> Iterable[Row]:
    """What is set for single services, by their names."""
    for path, said in all_said().items():
        if path[0] == SERVICES:
            yield _row(".".join(path), said)
    for entry in environment_entries():
        shows = entry.keys[3].startswith(PREFIX) and not is_secret_name(entry.keys[3])
        yield Row(".".join(entry.keys), plain(entry.value) if shows else HIDDEN, place_of(entry))


def _row(name: str, said: Said) -> Row:
    return Row(name, HIDDEN if is_hidden(said) else plain(said.value), said.where)


def _form(row: Row) -> dict[str, Any]:
    return {"value": row.value, "from": row.where}


def _print_tables(parts: Mapping[str, Iterable[Row]]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=FILE_WIDTH)
    for part, rows in parts.items():
        table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
        for column in (part.upper(), "VALUE", "FROM"):
            table.add_column(column, overflow="fold")
        for row in rows:
            style = "dim" if row.where == DEFAULT else ""
            table.add_row(*(Text(printable(cell), style=style) for cell in (row.name, row.shown, row.where)))
        if table.row_count:
            console.print(table)
            console.print()
