"""Tables of a TOML file with the line of each key, which tomllib does not tell and an error has to name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventmicro.errors import UsageError

Keys = tuple[str, ...]
# How tomllib says where something is wrong, behind what it is.
_PLACE = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of the file: where it stands, and its value; of a table that is written by its head alone, `{}`."""

    keys: Keys
    value: Any
    line: int


def read_toml(path: Path, under: Keys = ()) -> list[Entry]:
    """All that a file says, in its order; of a table within it what is said there.

    Raises:
        UsageError: there is no such file, or it is no TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(_not_toml(path, str(error))) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    found = [
        Entry(entry.keys[len(under) :], entry.value, entry.line) for entry in _entries(text) if _is_in(entry, under)
    ]
    return [entry for entry in found if entry.keys]


def _not_toml(path: Path, reason: str) -> str:
    """What is wrong, with its line where all other errors of the file have it, and what is forgotten most."""
    found = _PLACE.fullmatch(reason)
    said, line, column = found.groups() if found else (reason, "", "")
    mend = ": a text stands in quotes" if said == "Invalid value" else ""
    return f"{path}{line and f':{line}'}: {said}{column and f' at column {column}'}{mend}"


def _is_in(entry: Entry, under: Keys) -> bool:
    return entry.keys[: len(under)] == under


def _entries(text: str) -> Iterator[Entry]:
    """The keys of a text that is known to be TOML: a table's head, and what stands below it, is TOML by itself."""
    table: Keys = ()
    for line, statement in _statements(text):
        leaves = list(_leaves(tomllib.loads(statement)))
        if statement.lstrip().startswith("["):
            ((table, value),) = leaves  # of [[table]] it is a list
            yield Entry(table, value, line)
        else:
            yield from (Entry((*table, *keys), value, line) for keys, value in leaves)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The lines of the text, those together that are one statement, with the number of the first."""
    statement, first = "", 1
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        first = first if statement else number
        statement += line
        try:
            is_said = bool(tomllib.loads(statement))
        except tomllib.TOMLDecodeError:  # it goes on in the next line
            continue
        if is_said:
            yield first, statement
        statement = ""


def _leaves(form: dict[str, Any], above: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    for key, value in form.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value
