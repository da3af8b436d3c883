"""In which form a command prints what it has found: for a person, for programs, or as it came."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from eventmicro.cli.records import print_json, print_table
from eventmicro.cli.session import current
from eventmicro.cli.show import as_json_form, as_object, print_line, show_raw, show_reply
from eventmicro.errors import UsageError

# What a table of several things has as the names of its columns where these have none.
VALUE = "VALUE"


class Output(StrEnum):
    json = "json"
    raw = "raw"
    table = "table"


Form = Annotated[
    Output | None,
    typer.Option(
        "--output",
        "-o",
        help="table: for a person; json: one document, for programs; raw: a JSON object a line.",
        show_default="table",
    ),
]
ReplyForm = Annotated[
    Output | None,
    typer.Option(
        "--output",
        "-o",
        help="json: indented, else as it is; raw: as it came; table: its fields, or a row for each of a list.",
        show_default="json",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for programs: --output json.")]


def chosen(form: Output | None, as_json: bool, default: Output = Output.table) -> Output:
    """The form that the options ask for.

    Raises:
        UsageError: they ask for two.
    """
    if as_json and form not in (None, Output.json):
        raise UsageError(f"--json and --output {form}: leave one of them out")
    return Output.json if as_json else form or default


def print_records(form: Output, found: Sequence[Any], as_table: Callable[[], None]) -> None:
    """Print what is there, each a JSON object, or as a table."""
    if form is Output.table:
        as_table()
    elif form is Output.json:
        print_json(list(found))
    else:
        for each in found:
            if not print_line(as_object(each)):
                return


def print_reply(form: Output, body: bytes) -> None:
    """Print a reply in a form."""
    if form is Output.raw:
        show_raw(body)
        if body and current() is not None:  # the next reply begins a line of its own
            typer.echo()
    elif form is Output.table and "body" in (parsed := as_json_form(body)):
        print_table(*_as_table(parsed["body"]))
    else:
        show_reply(body)


def _as_table(value: Any) -> tuple[Sequence[str], list[Sequence[str]]]:
    """The columns and rows of a value: of an object its fields, of a list one row for each."""
    if isinstance(value, dict):
        return ("FIELD", VALUE), [(name, _cell(each)) for name, each in value.items()]
    rows = value if isinstance(value, list) else [value]
    if rows and all(isinstance(row, dict) for row in rows):
        columns = list(dict.fromkeys(name for row in rows for name in row))
        return [name.upper() for name in columns], [[_cell(row.get(name, "")) for name in columns] for row in rows]
    return (VALUE,), [(_cell(row),) for row in rows]


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
