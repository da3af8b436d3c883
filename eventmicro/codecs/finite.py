"""NaN and infinity: JSON has no number for them, and pydantic writes null, which a receiver takes for None.

A type says at registration whether it can hold one at all, and in which of its fields. What costs something per message
is then one look for a null in what was written. Only where there is one, of whatever field, the numbers are looked
through: fields that are a float in a moment, lists and types within it in about the time of writing them once more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

from eventmicro.errors import EncodeError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

# As `b"null" in body`, in half the time.
find_null = re.compile(b"null").search

# The kinds of schemas of which nothing is written as a number with a fraction.
_TEXTS = frozenset(
    ("str", "bytes", "date", "time", "datetime", "timedelta", "uuid", "url", "multi-host-url", "decimal")
)
_WITHOUT = _TEXTS | {"int", "bool", "none", "complex", "literal"}
# Those that only hold others, which are looked at in their place; what they refer to stands beside them.
_RECORDS = frozenset(("model-fields", "dataclass-args", "typed-dict"))
_FIELDS = frozenset(("model-field", "dataclass-field", "typed-dict-field", "nullable", "default"))
_SEVERAL = frozenset(("list", "set", "frozenset", "tuple", "dict", "union", "definitions", "lax-or-strict", "chain"))
_HOLDING = _RECORDS | _FIELDS | _SEVERAL | {"model", "dataclass", "function-before", "function-after", "json-or-python"}
# What they hold; where it is not said, it may be anything.
_HELD = {"list": "items_schema", "set": "items_schema", "frozenset": "items_schema", "dict": "values_schema"}
# Parts of a schema that are the user's values, or about it.
_ASIDE = frozenset(("metadata", "default", "cls", "config", "function", "fields"))


def finite_check(adapter: TypeAdapter[Any], name: str, *, polymorphic: bool = False) -> Callable[[Any], None] | None:
    """What refuses a value in which a number is not finite; None where the type holds none, or says how to write it.

    The check raises EncodeError.

    Args:
        polymorphic: whether what is within a value is written by its own fields, which may be more than the type's.
    """
    from pydantic_core import to_json

    whole: Any = adapter.core_schema
    schema = _of_the_type(whole)
    if not (polymorphic or _may_hold(whole)) or "ser_json_inf_nan" in _config(schema):
        return None
    to_python, include = adapter.serializer.to_python, None if polymorphic else _fields(schema)
    if polymorphic:
        to_python = partial(to_python, polymorphic_serialization=True)
    plain_floats = _plain_floats(schema) & (include or set())
    others = None if include is None else include - plain_floats

    def check(value: Any) -> None:
        if all(_is_finite(getattr(value, field, None)) for field in plain_floats):
            if others is not None and not others:
                return
            others_now = to_python(value, by_alias=True, include=others)
            written = to_json(others_now, inf_nan_mode="constants", bytes_mode="base64", fallback=str)
            if b"NaN" not in written and b"Infinity" not in written:
                return
        refuse(value)

    def refuse(value: Any) -> None:
        plain = to_python(value, by_alias=True, include=include)
        for path, number in _lost(plain, to_python(value, mode="json", by_alias=True, include=include), ""):
            raise EncodeError(
                f"{name}: {path or name} is {number}, and JSON has no such number: send None where the type has it, "
                "or say ser_json_inf_nan='strings' in the type's model_config"
            )

    return check


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or isfinite(value)


def _may_hold(schema: Any) -> bool:
    """Whether what this schema writes can be a float, as far as can be known."""
    if isinstance(schema, list | tuple):
        return any(map(_may_hold, schema))
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    if kind in _WITHOUT or kind == "definition-ref":
        return "serialization" in schema
    if kind not in _HOLDING or "serialization" in schema or _HELD.get(kind, "type") not in schema or _has_more(schema):
        return True
    parts = [part for key, part in schema.items() if key not in _ASIDE]
    return any(map(_may_hold, parts)) or any(_may_hold(field) for field in _named_fields(schema).values())


def _fields(schema: dict[str, Any]) -> set[str] | None:
    """The fields that can hold a float; None: the value is no record, or can have others."""
    inner = schema if schema.get("type") == "typed-dict" else schema.get("schema", {})
    if inner.get("type") not in _RECORDS or any("serialization" in part or _has_more(part) for part in (schema, inner)):
        return None
    return {name for name, field in _named_fields(inner).items() if _may_hold(field) or _refers(field)}


def _plain_floats(schema: dict[str, Any]) -> set[str]:
    """The fields of an object that are a float or None, and need not be looked into."""

    def is_plain(field: dict[str, Any]) -> bool:
        while field.get("type") in _FIELDS and "serialization" not in field:
            field = field["schema"]
        return field.get("type") == "float" and "serialization" not in field

    if schema.get("type") not in ("model", "dataclass"):
        return set()
    return {name for name, field in _named_fields(schema.get("schema", {})).items() if is_plain(field)}


def _named_fields(schema: dict[str, Any]) -> dict[str, Any]:
    fields = schema.get("fields", {})
    return fields if isinstance(fields, dict) else {field["name"]: field for field in fields if isinstance(field, dict)}


def _has_more(schema: dict[str, Any]) -> bool:
    """Whether it writes more than its fields, or all in one."""
    extra = schema.get("extra_behavior"), _config(schema).get("extra_fields_behavior")
    return "allow" in extra or bool(schema.get("computed_fields"))


def _refers(schema: Any) -> bool:
    """Whether it holds a type that stands elsewhere."""
    if isinstance(schema, dict):
        return schema.get("type") == "definition-ref" or any(map(_refers, schema.values()))
    return isinstance(schema, list | tuple) and any(map(_refers, schema))


def _of_the_type(schema: Any) -> dict[str, Any]:
    """The schema of the type itself, where others that it refers to stand beside it."""
    if schema["type"] != "definitions":
        return schema  # type: ignore[no-any-return]
    inner = schema["schema"]
    found = [each for each in schema["definitions"] if each.get("ref") == inner.get("schema_ref")]
    return found[0] if inner["type"] == "definition-ref" else inner  # type: ignore[no-any-return]


def _config(schema: dict[str, Any]) -> dict[str, Any]:
    config = schema.get("config")
    return config if isinstance(config, dict) else {}


def _lost(value: Any, written: Any, path: str) -> Iterator[tuple[str, float]]:
    """The numbers that are not finite and that nothing else was written for, with where they are."""
    if isinstance(value, float):
        if not isfinite(value) and (written is None or isinstance(written, float)):
            yield path, value
    elif isinstance(value, dict) and isinstance(written, dict):
        for key, part, its in zip(value, value.values(), written.values(), strict=False):
            yield from _lost(part, its, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple | set | frozenset) and isinstance(written, list):
        for number, (part, its) in enumerate(zip(value, written, strict=False)):
            yield from _lost(part, its, f"{path}[{number}]")
