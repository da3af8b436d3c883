"""Schemas of many types in one document: what each defines in itself becomes a component that all refer to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

Schema = dict[str, Any]

DEFINITIONS = "#/$defs/"
COMPONENTS = "#/components/schemas/"


class Components:
    """The schemas of a document, each type once; two types of one name get two.

    schemas: what was collected, by name.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}
        self._names: dict[str, str] = {}  # by what a definition says, with all that it refers to

    def add(self, schema: Mapping[str, Any], fallback: str) -> Schema:
        """A reference to a type that was collected, or where it is none of its own, such as a list, the schema itself.

        Args:
            schema: as pydantic writes it, with `$defs`.
            fallback: the name of an object without a title.
        """
        definitions = schema.get("$defs", {})
        top = {word: value for word, value in schema.items() if word != "$defs"}
        if set(top) == {"$ref"} and _defined(top["$ref"]) in definitions:
            return self._refer(_defined(top["$ref"]), definitions)
        if "properties" not in top:
            return {word: self._with_references(value, definitions) for word, value in top.items()}
        name = str(top.get("title") or fallback)
        return self._refer(name, {**definitions, name: top})

    def _refer(self, name: str, definitions: Mapping[str, Any]) -> Schema:
        said = json.dumps({each: definitions[each] for each in _closure(name, definitions)}, sort_keys=True)
        found = self._names.get(f"{name} {said}")
        if found is None:
            found = self._names[f"{name} {said}"] = self._free(_word(name))
            self.schemas[found] = {}  # its place, as it may refer to itself
            self.schemas[found] = self._with_references(definitions[name], definitions)
        return {"$ref": f"{COMPONENTS}{found}"}

    def _with_references(self, value: Any, definitions: Mapping[str, Any]) -> Any:
        if isinstance(value, list):
            return [self._with_references(each, definitions) for each in value]
        if not isinstance(value, dict):
            return value
        written = {word: self._with_references(each, definitions) for word, each in value.items()}
        name = _defined(value.get("$ref"))
        return written | self._refer(name, definitions) if name in definitions else written

    def _free(self, name: str) -> str:
        number, free = 1, name
        while free in self.schemas:
            number += 1
            free = f"{name}{number}"
        return free


def title_of(schema: Mapping[str, Any] | None) -> str:
    """What a schema is called, be it by its title or by what it refers to; empty where it has no name."""
    schema = schema or {}
    return str(schema.get("title") or _defined(schema.get("$ref")))


def _closure(name: str, definitions: Mapping[str, Any]) -> list[str]:
    """The definition and all to which it refers, over as many steps as it takes."""
    found = {name: None}
    left = [name]
    while left:
        for other in _references(definitions[left.pop()]):
            if other in definitions and other not in found:
                found[other] = None
                left.append(other)
    return list(found)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if name := _defined(value.get("$ref")):
            yield name
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _defined(reference: object) -> str:
    """The name in a reference to a definition; empty where it is none."""
    is_one = isinstance(reference, str) and reference.startswith(DEFINITIONS)
    return str(reference)[len(DEFINITIONS) :] if is_one else ""


def _word(name: str) -> str:
    """A name as components may have it."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_") or "Schema"
