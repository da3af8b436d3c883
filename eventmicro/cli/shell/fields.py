"""Which fields may follow in a JSON text that is being typed, by the schema of what it is to be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from eventmicro.generating.schemas import is_schema

_KEY = re.compile(r'[{,]\s*"?([A-Za-z0-9_]*)$')


def fields_after(text: str, schema: Mapping[str, Any] | None) -> tuple[str, list[str]] | None:
    """What of a field's name is typed, and the fields that may be meant; None: no name of a field is to follow."""
    found = _KEY.search(text)
    if found is None or schema is None or text[: found.start() + 1].count('"') % 2 or not is_schema(schema):
        return None
    place, there = _place(text[: found.start() + 1])
    properties = _at(schema, place).get("properties")
    names = list(properties) if isinstance(properties, dict) else []
    return found[1], [name for name in names if name.startswith(found[1]) and name not in there]


def _place(text: str) -> tuple[list[str | None], set[str]]:
    """The way to the object that is open at the end of a text, None for an item; and the fields that it has already."""
    path: list[str | None] = []
    there: list[set[str]] = []
    named = ""
    for part in re.finditer(r'"(?:\\.|[^"\\])*"\s*:|"(?:\\.|[^"\\])*"|[{}\[\],]', text):
        sign = part[0]
        if sign.endswith(":"):
            named = sign[1 : sign.rindex('"')]
            if there:
                there[-1].add(named)
        elif sign in "{[":
            path.append(named or None)
            there.append(set())
            named = ""
        else:
            named = ""
            if sign in "}]" and path:
                path.pop()
                there.pop()
    return path[1:], there[-1] if there else set()


def _at(schema: Mapping[str, Any], place: list[str | None]) -> Mapping[str, Any]:
    """The part of a schema at a place."""
    definitions = schema.get("$defs", {})
    part = _resolved(schema, definitions)
    for name in place:
        if name is not None:
            properties = part.get("properties")
            part = _resolved(properties.get(name) if isinstance(properties, dict) else None, definitions)
        elif "items" in part:
            part = _resolved(part["items"], definitions)
    return part


def _resolved(schema: Any, definitions: Any) -> Mapping[str, Any]:
    """A schema without a reference or an alternative of null in front of it."""
    for _ in range(8):  # a peer's may refer to itself
        if not isinstance(schema, dict):
            return {}
        several = [each for each in schema.get("anyOf", ()) if isinstance(each, dict) and each.get("type") != "null"]
        if "$ref" in schema and isinstance(definitions, dict):
            schema = definitions.get(str(schema["$ref"]).rpartition("/")[2])
        elif len(several) == 1:
            schema = several[0]
        else:
            return schema
    return {}
