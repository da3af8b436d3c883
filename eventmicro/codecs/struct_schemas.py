"""The JSON Schemas of Structs and attrs classes: msgspec's, and what that leaves out."""

from __future__ import annotations

from typing import Any

from eventmicro.codecs.structs import import_msgspec
from eventmicro.errors import UsageError

# What msgspec calls a moment and a time, and their formats; what is within a list and a dict, there and in schemas.
_TIMES = {"DateTimeType": "date-time", "TimeType": "time"}
_INNER = (("item_type", "items"), ("value_type", "additionalProperties"))


def struct_schema(kind: Any) -> dict[str, Any] | None:
    """The JSON Schema of such a type; None where msgspec has none for a part of it."""
    try:
        msgspec = import_msgspec(kind)
        schema: dict[str, Any] = msgspec.json.schema(kind)
    except (TypeError, UsageError):
        return None
    _say_times(msgspec.inspect.type_info(kind), schema, schema.get("$defs", {}), set())
    return schema


def _say_times(info: Any, schema: dict[str, Any], definitions: dict[str, Any], seen: set[str]) -> None:
    """Say of texts that they are a moment or a time: msgspec does so only of those that must have a zone."""
    info = getattr(info, "type", info)  # out of its Annotated
    if "anyOf" in schema:  # each knows which of a union's types it is: one at most is a text, a list, a dict
        for member in getattr(info, "types", (info,)):
            for option in schema["anyOf"]:
                _say_times(member if "anyOf" not in option else info, option, definitions, seen)
    elif "$ref" in schema:
        _say_times_within(info, schema["$ref"].rpartition("/")[2], definitions, seen)
    elif schema.get("type") == "string" and (form := _TIMES.get(type(info).__name__)) is not None:
        schema.setdefault("format", form)
    for part, place in _INNER:
        if isinstance(schema.get(place), dict) and hasattr(info, part):
            _say_times(getattr(info, part), schema[place], definitions, seen)


def _say_times_within(info: Any, name: str, definitions: dict[str, Any], seen: set[str]) -> None:
    """The same of the fields of the class that a definition is about."""
    fields, definition = getattr(info, "fields", None), definitions.get(name, {})
    if fields is None or name in seen or definition.get("title") != info.cls.__name__:
        return
    seen.add(name)
    for field in fields:
        _say_times(field.type, definition.get("properties", {}).get(field.encode_name, {}), definitions, seen)
